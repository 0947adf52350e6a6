//! Time a thread or process has spent on a processor: unlike the time of day it does not count what other
//! work on the machine took.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long each pass runs at least.
const PASS: Duration = Duration::from_millis(60);
/// Passes; the quickest counts, because other work can only slow one down.
const PASSES: usize = 5;

/// CPU time of this thread since its start.
///
/// # Panics
///
/// If the operating system's clock is negative.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's CPU time counts up from 0")
}

/// CPU time of all threads of this process since its start.
///
/// # Panics
///
/// If the operating system's clock is negative.
#[must_use]
pub fn process_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process's CPU time counts up from 0")
}

/// CPU time of one run of `run`, by the quickest of several passes over many runs.
pub fn cpu_time_of(mut run: impl FnMut()) -> Duration {
    let start = thread_cpu_time();
    run();
    let once = thread_cpu_time().saturating_sub(start);
    let ratio = PASS.as_nanos() / once.as_nanos().max(1);
    let runs = u32::try_from(ratio).unwrap_or(u32::MAX).max(1);
    let pass = || {
        let start = thread_cpu_time();
        for _ in 0..runs {
            run();
        }
        thread_cpu_time().saturating_sub(start) / runs
    };
    std::iter::repeat_with(pass)
        .take(PASSES)
        .min()
        .unwrap_or(once)
}
