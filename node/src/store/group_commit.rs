//! Puts that wait for their batch: one committer for all who put at the same time.

use std::fmt;
use std::sync::{Arc, Mutex};

use cairn_runtime::{Runtime, Task};
use tokio::sync::{mpsc, oneshot};

use super::commit::{PutDone, ShardPut};
use super::error::StoreError;
use super::{BATCH_BYTES_MAX, ShardStore, lock};

/// Puts that wait for the next batch at most; more wait to get into the queue. Their bytes are
/// bounded by whoever received them.
pub const PENDING_PUTS_MAX: usize = 256;

/// A put and where its answer goes.
type Pending = (ShardPut, oneshot::Sender<Result<PutDone, StoreError>>);

/// Groups concurrent puts into batches: while one batch is synced, the next gathers. Cheap to
/// clone.
pub struct GroupCommit<R: Runtime> {
    runtime: R,
    store: Arc<ShardStore<R::Disk>>,
    queue: Arc<Mutex<Option<mpsc::Sender<Pending>>>>,
    committer: Arc<Mutex<Option<Task<()>>>>,
}

impl<R: Runtime> Clone for GroupCommit<R> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            store: Arc::clone(&self.store),
            queue: Arc::clone(&self.queue),
            committer: Arc::clone(&self.committer),
        }
    }
}

impl<R: Runtime> fmt::Debug for GroupCommit<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> GroupCommit<R> {
    /// Starts the committer of an open store.
    #[must_use]
    pub fn new(runtime: R, store: ShardStore<R::Disk>) -> Self {
        let store = Arc::new(store);
        let (sender, receiver) = mpsc::channel(PENDING_PUTS_MAX);
        let task = commit_all(runtime.clone(), Arc::clone(&store), receiver);
        let committer = runtime.spawn("shard store committer", task);
        Self {
            runtime,
            store,
            queue: Arc::new(Mutex::new(Some(sender))),
            committer: Arc::new(Mutex::new(Some(committer))),
        }
    }

    /// The store, for calls that do not wait for the disk; see [`Self::with`].
    #[must_use]
    pub const fn store(&self) -> &Arc<ShardStore<R::Disk>> {
        &self.store
    }

    /// Does something with the store where blocking is allowed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does not stop what has begun.
    pub async fn with<T, F>(&self, work: F) -> T
    where
        F: FnOnce(&ShardStore<R::Disk>) -> T + Send + 'static,
        T: Send + 'static,
    {
        let store = Arc::clone(&self.store);
        self.runtime.blocking(move || work(&store)).await
    }

    /// Makes a shard durable. Returns when it is.
    ///
    /// # Errors
    ///
    /// As [`ShardStore::put`]; [`StoreError::Closed`] after [`Self::shutdown`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the shard may become durable all the same.
    pub async fn put(&self, put: ShardPut) -> Result<PutDone, StoreError> {
        let sender = lock(&self.queue).clone().ok_or(StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let sent = sender.send((put, answer)).await;
        sent.map_err(|_| StoreError::Closed)?;
        // The committer ends when nobody can put any more: keep no sender while waiting.
        drop(sender);
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Takes no more puts, finishes those that wait, closes the store.
    ///
    /// # Errors
    ///
    /// As [`ShardStore::close`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it may leave the store open; what was put stays durable.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        drop(lock(&self.queue).take());
        let committer = lock(&self.committer).take();
        if let Some(committer) = committer {
            // An aborted committer has lost only puts that nobody was promised.
            let _ended = committer.join().await;
        }
        self.with(ShardStore::close).await
    }
}

/// Takes what waits, as one batch, until nobody can put any more.
async fn commit_all<R: Runtime>(
    runtime: R,
    store: Arc<ShardStore<R::Disk>>,
    mut queue: mpsc::Receiver<Pending>,
) {
    let mut first = queue.recv().await;
    while let Some(pending) = first.take() {
        let mut bytes = pending.0.pack_bytes_max();
        let (mut puts, mut answers) = (vec![pending.0], vec![pending.1]);
        while let Ok(pending) = queue.try_recv() {
            bytes = bytes.saturating_add(pending.0.pack_bytes_max());
            if bytes > BATCH_BYTES_MAX {
                first = Some(pending);
                break;
            }
            puts.push(pending.0);
            answers.push(pending.1);
        }
        let store = Arc::clone(&store);
        let results = runtime.blocking(move || store.put(&puts)).await;
        for (answer, result) in answers.into_iter().zip(results) {
            // Who has gone does not need to know.
            let _sent = answer.send(result);
        }
        if first.is_none() {
            first = queue.recv().await;
        }
    }
}
