//! A group that this process writes: its book, and its revisions.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_core::{NodeId, SegmentNumber};
use cairn_ledger::RelaxedCap;
use cairn_runtime::{Disk, Runtime};

use crate::book::{Book, BookError, Opened};
use crate::segment::Layout;

/// A group that this process writes.
pub(crate) struct Writer<D: Disk> {
    pub(crate) opened: Opened,
    pub(crate) layout: Layout,
    /// Caps that placement had to relax.
    pub(crate) relaxed: Vec<RelaxedCap>,
    /// Locked on threads for blocking work only.
    book: Arc<Mutex<Book<D>>>,
    /// Numbers whose upload ended before they were finished.
    orphans: Mutex<Vec<SegmentNumber>>,
    /// One revision at a time.
    pub(crate) revising: tokio::sync::Mutex<()>,
    /// Monotonic time of the last revision.
    pub(crate) revised_at: Mutex<Duration>,
    /// The slots' nodes that the DHT was last told of by this process.
    pub(crate) published: Mutex<Vec<NodeId>>,
}

impl<D: Disk> fmt::Debug for Writer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

impl<D: Disk> Writer<D> {
    pub(crate) fn new(book: Book<D>, layout: Layout, relaxed: Vec<RelaxedCap>) -> Self {
        Self {
            opened: *book.opened(),
            layout,
            relaxed,
            book: Arc::new(Mutex::new(book)),
            orphans: Mutex::default(),
            revising: tokio::sync::Mutex::new(()),
            revised_at: Mutex::default(),
            published: Mutex::default(),
        }
    }

    /// Works with the book on a thread for blocking work. Orphans are abandoned first.
    pub(crate) async fn with_book<R, T, W>(&self, runtime: &R, work: W) -> Result<T, BookError>
    where
        R: Runtime,
        T: Send + 'static,
        W: FnOnce(&mut Book<D>) -> Result<T, BookError> + Send + 'static,
    {
        let orphans = std::mem::take(&mut *lock(&self.orphans));
        let book = Arc::clone(&self.book);
        runtime
            .blocking(move || {
                let mut book = lock(&book);
                if !orphans.is_empty() {
                    book.abandon(&orphans)?;
                }
                work(&mut book)
            })
            .await
    }

    /// A number for a segment with shards of at most `shard_bytes`; `None` when the group is full.
    pub(crate) async fn allocate<R: Runtime>(
        self: &Arc<Self>,
        runtime: &R,
        shard_bytes: u32,
    ) -> Result<Option<UnderWay<D>>, BookError> {
        let number = self
            .with_book(runtime, move |book| book.allocate(shard_bytes))
            .await?;
        Ok(number.map(|number| UnderWay {
            writer: Arc::clone(self),
            number,
            is_finished: false,
        }))
    }
}

/// A number that was handed out. Dropped before it is finished, its leaf will be emptied.
pub(crate) struct UnderWay<D: Disk> {
    pub(crate) writer: Arc<Writer<D>>,
    pub(crate) number: SegmentNumber,
    is_finished: bool,
}

impl<D: Disk> UnderWay<D> {
    /// The segment is finished.
    pub(crate) fn finished(mut self) {
        self.is_finished = true;
    }
}

impl<D: Disk> Drop for UnderWay<D> {
    fn drop(&mut self) {
        if !self.is_finished {
            lock(&self.writer.orphans).push(self.number);
        }
    }
}

/// Each change under these locks is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
