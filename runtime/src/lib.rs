//! The only door to the world: clock, entropy, disk and tasks, real or simulated from a seed.
//!
//! Production code is generic over [`Runtime`] and runs unchanged in both. The disk is
//! synchronous: a batch of disk work is one closure handed to [`Runtime::blocking`], which the
//! real runtime runs on a thread for blocking work and the simulated one in place.

use std::fmt;
use std::future::Future;
use std::time::Duration;

pub mod disk;
pub mod real;
pub mod sim;

pub use disk::{DirEntry, Disk, DiskError, DiskFile, EntryKind, OpenMode, Space};
pub use real::{RealDisk, RealFile, RealRuntime};
pub use sim::{Machine, MachineId, Sim, SimRuntime};

/// Clock, entropy, tasks and disk of one machine. Cheap to clone.
pub trait Runtime: Clone + fmt::Debug + Send + Sync + 'static {
    /// The machine's disk.
    type Disk: Disk;

    /// Time since 1970-01-01T00:00:00Z by the machine's clock, which may jump and be wrong.
    fn now(&self) -> Duration;

    /// Time since some fixed point; never goes back.
    fn monotonic(&self) -> Duration;

    /// Waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    fn sleep(&self, how_long: Duration) -> impl Future<Output = ()> + Send;

    /// Fills `bytes` with entropy fit for keys.
    fn fill(&self, bytes: &mut [u8]);

    /// Starts a task. The returned handle owns it: dropping the handle aborts the task.
    fn spawn<F>(&self, name: &'static str, task: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// Runs work that blocks: disk calls, or CPU work of more than a millisecond.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does not stop work that has begun; its result is lost.
    fn blocking<T, W>(&self, work: W) -> impl Future<Output = T> + Send
    where
        W: FnOnce() -> T + Send + 'static,
        T: Send + 'static;

    /// The disk.
    fn disk(&self) -> &Self::Disk;

    /// Runs `future` for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] when the time is over first; the future is dropped.
    ///
    /// # Cancel safety
    ///
    /// As that of `future`.
    fn timeout<F>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + Send
    where
        F: Future + Send,
        F::Output: Send,
    {
        async move {
            tokio::select! {
                biased;
                output = future => Ok(output),
                () = self.sleep(limit) => Err(Elapsed { limit }),
            }
        }
    }
}

/// The time given to an operation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done within {limit:?}")]
pub struct Elapsed {
    /// The time given.
    pub limit: Duration,
}

/// A running task, owned: dropping it aborts the task.
pub struct Task<T> {
    inner: Inner<T>,
}

enum Inner<T> {
    Real(tokio::task::JoinHandle<T>),
    Sim(sim::SimTask<T>),
}

/// A task was aborted, by its owner or by a simulated crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task was aborted")]
pub struct Aborted;

impl<T> Task<T> {
    /// Takes ownership of a task on tokio's threads.
    pub(crate) const fn real(handle: tokio::task::JoinHandle<T>) -> Self {
        Self {
            inner: Inner::Real(handle),
        }
    }

    /// Takes ownership of a task in a simulated world.
    pub(crate) const fn sim(task: sim::SimTask<T>) -> Self {
        Self {
            inner: Inner::Sim(task),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// [`Aborted`] when it was aborted.
    ///
    /// # Panics
    ///
    /// When the task panicked: the panic goes on here. In a simulated world it has gone through
    /// [`sim::Sim::run`] before.
    ///
    /// # Cancel safety
    ///
    /// Dropping it aborts the task.
    pub async fn join(mut self) -> Result<T, Aborted> {
        match &mut self.inner {
            Inner::Real(handle) => match handle.await {
                Ok(output) => Ok(output),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(Aborted),
            },
            Inner::Sim(task) => task.output().await.ok_or(Aborted),
        }
    }

    /// Aborts it at its next wait.
    pub fn abort(&self) {
        match &self.inner {
            Inner::Real(handle) => handle.abort(),
            Inner::Sim(task) => task.abort(),
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.inner {
            Inner::Real(handle) => handle.is_finished(),
            Inner::Sim(task) => task.is_finished(),
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort();
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}
