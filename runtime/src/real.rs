//! The machine we run on: tokio's threads, the system's clocks and entropy, files.
//!
//! Tasks run on tokio's multi-threaded runtime, blocking work on its threads for that purpose, at
//! most [`BLOCKING_THREADS_MAX`] at once; more waits its turn.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;

use crate::{Runtime, Task};

pub mod disk;

pub use disk::{RealDisk, RealFile, RealLock};

/// Most threads for blocking work. Disk work of one node keeps a few busy; a development network
/// of many nodes in one process shares them. More would only queue in the kernel instead.
pub const BLOCKING_THREADS_MAX: usize = 64;

/// Longest wait at the end for blocking work that has begun. Work on disks ends sooner; a read
/// from a terminal never does, and must not keep the process. What is cut off is as after a crash.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// The machine we run on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RealRuntime {
    handle: Handle,
    started: Instant,
    disk: RealDisk,
}

impl RealRuntime {
    /// Runs `main` to its end on a runtime of its own. What tasks remain then are aborted, and
    /// blocking work that has begun is waited for, at most ten seconds.
    ///
    /// # Errors
    ///
    /// When the system gives no threads or no event queue.
    pub fn run<F, M>(main: M) -> io::Result<F::Output>
    where
        M: FnOnce(Self) -> F,
        F: Future,
    {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("cairn")
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let runtime = Self::on(threads.handle().clone());
        let output = threads.block_on(main(runtime));
        threads.shutdown_timeout(END_TIME_MAX);
        Ok(output)
    }

    /// The tokio runtime that the caller is in.
    ///
    /// # Panics
    ///
    /// When the caller is in none.
    #[must_use]
    pub fn current() -> Self {
        Self::on(Handle::current())
    }

    /// A tokio runtime that someone else owns.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others take"
    )]
    pub fn on(handle: Handle) -> Self {
        Self {
            handle,
            started: Instant::now(),
            disk: RealDisk::new(),
        }
    }
}

impl Runtime for RealRuntime {
    type Disk = RealDisk;

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others take"
    )]
    fn now(&self) -> Duration {
        // A clock before 1970 reads as 1970.
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others take"
    )]
    fn sleep(&self, how_long: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(how_long)
    }

    /// # Panics
    ///
    /// When the system has no entropy to give: no key or nonce may be made then.
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has entropy");
    }

    fn spawn<F>(&self, _name: &'static str, task: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Task::real(self.handle.spawn(task))
    }

    async fn blocking<T, W>(&self, work: W) -> T
    where
        W: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.handle.spawn_blocking(work).await {
            Ok(output) => output,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being torn down, and this future with it.
            Err(_) => std::future::pending().await,
        }
    }

    fn disk(&self) -> &RealDisk {
        &self.disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_tasks_sleeps_and_blocking_work() {
        let output = RealRuntime::run(|runtime| async move {
            let task = runtime.spawn("adds", async { 1 + 1 });
            let sum = task.join().await.unwrap();
            let before = runtime.monotonic();
            runtime.sleep(Duration::from_millis(2)).await;
            assert!(runtime.monotonic() >= before + Duration::from_millis(2));
            runtime.blocking(move || sum + 1).await
        });
        assert_eq!(output.unwrap(), 3);
    }

    #[test]
    fn timeout_drops_the_future() {
        RealRuntime::run(|runtime| async move {
            let limit = Duration::from_millis(2);
            let result = runtime.timeout(limit, std::future::pending::<()>()).await;
            assert_eq!(result, Err(crate::Elapsed { limit }));
            assert_eq!(runtime.timeout(limit, async { 7 }).await, Ok(7));
        })
        .unwrap();
    }

    #[test]
    fn dropping_a_task_aborts_it() {
        RealRuntime::run(|runtime| async move {
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            let task = runtime.spawn("holds the sender", async move {
                let _held = sender;
                std::future::pending::<()>().await;
            });
            drop(task);
            assert!(receiver.await.is_err());
        })
        .unwrap();
    }

    #[test]
    fn entropy_differs_and_clock_is_set() {
        RealRuntime::run(|runtime| async move {
            let (mut one, mut two) = ([0; 32], [0; 32]);
            runtime.fill(&mut one);
            runtime.fill(&mut two);
            assert_ne!(one, two);
            assert!(runtime.now() > Duration::from_secs(1_700_000_000));
        })
        .unwrap();
    }
}
