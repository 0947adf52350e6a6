//! Ctrl-C and SIGTERM: the signals that ask a command to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, FailureKind, OrFail};

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopSignal {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Waits for one of them.
///
/// # Errors
///
/// Of kind storage when the system gives no way to.
///
/// # Cancel safety
///
/// Dropping it loses at most a signal that came since it was polled.
pub(crate) async fn stop_signal() -> Result<StopSignal, Failure> {
    let no_signals = "signals can't be waited for";
    let mut terminate =
        signal(SignalKind::terminate()).or_fail(FailureKind::Storage, no_signals)?;
    let mut interrupt =
        signal(SignalKind::interrupt()).or_fail(FailureKind::Storage, no_signals)?;
    Ok(tokio::select! {
        _ = terminate.recv() => StopSignal::Terminate,
        _ = interrupt.recv() => StopSignal::Interrupt,
    })
}

/// Runs a command until it is done or told to stop; then it is dropped, and what it was making is
/// put away.
///
/// # Errors
///
/// The command's own, or one of kind interrupted or terminated.
pub(crate) async fn until_stopped(
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    // In the order written, so that what is done counts as done.
    tokio::select! {
        biased;
        done = command => done,
        signal = stop_signal() => Err(match signal? {
            StopSignal::Interrupt => Failure::say(FailureKind::Interrupted, "interrupted"),
            StopSignal::Terminate => Failure::say(FailureKind::Terminated, "terminated"),
        }),
    }
}
