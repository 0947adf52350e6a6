//! Streams of verified bytes that read ahead across segments in bounded memory.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::{Blame, Retry};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::{Aborted, Runtime};
use futures::future::BoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

use crate::index::{Entry, EntryKind, Extent, SegmentRef};
use crate::read::error::ReadError;
use crate::read::open::OpenedShared;
use crate::width::index;

/// Windows that are read at a time, beside the one that is handed up.
const AHEAD_MAX: usize = 4;
/// Share of the memory budget that one window may take, with room to reconstruct all of it.
const WINDOWS_IN_BUDGET: usize = 10;
/// Least plaintext of a window: smaller ones would cost round trips.
const WINDOW_BYTES_MIN: u32 = 1 << 20;

/// Most bytes that a stream hands up at a time, so that progress is seen within a segment.
pub const READ_OUT_BYTES_MAX: usize = 256 << 10;

/// A run within one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRun {
    pub(crate) segment: SegmentRef,
    pub(crate) range: Range<u32>,
}

/// Cuts extents into runs within one segment each, of at most a window, joining what touches.
pub(crate) struct Runs<S> {
    segments: S,
    extents: VecDeque<Extent>,
    window: u32,
}

impl<S: std::ops::Deref<Target = [SegmentRef]>> Runs<S> {
    pub(crate) fn new(segments: S, extents: Vec<Extent>, window: u32) -> Self {
        Self {
            segments,
            extents: extents.into(),
            window,
        }
    }

    /// The first bytes of the first extent that lie in one segment, at most `max`.
    fn take(&mut self, max: u32) -> Option<(usize, Range<u32>)> {
        let extent = self.extents.front_mut()?;
        let at = index(extent.segment);
        let segment = self.segments.get(at)?;
        let here = segment.plain_bytes.saturating_sub(extent.offset).min(max);
        let count = u32::try_from(extent.bytes).unwrap_or(u32::MAX).min(here);
        if count == 0 {
            return None;
        }
        let range = extent.offset..extent.offset + count;
        extent.bytes -= u64::from(count);
        extent.offset += count;
        if extent.offset >= segment.plain_bytes {
            extent.segment += 1;
            extent.offset = 0;
        }
        if extent.bytes == 0 {
            self.extents.pop_front();
        }
        Some((at, range))
    }

    /// Whether the next bytes follow `end` in segment `at`.
    fn touches(&self, at: usize, end: u32) -> bool {
        self.extents
            .front()
            .is_some_and(|next| index(next.segment) == at && next.offset == end && end > 0)
    }
}

impl<S: std::ops::Deref<Target = [SegmentRef]>> Iterator for Runs<S> {
    type Item = SegmentRun;

    fn next(&mut self) -> Option<SegmentRun> {
        let (at, mut range) = self.take(self.window)?;
        while range.end - range.start < self.window && self.touches(at, range.end) {
            let (_, more) = self.take(self.window - (range.end - range.start))?;
            range.end = more.end;
        }
        let segment = *self.segments.get(at)?;
        Some(SegmentRun { segment, range })
    }
}

/// The segments of an open link, as something that [`Runs`] can own.
struct Segments<R: Runtime, N: Network, L: Ledger>(Arc<OpenedShared<R, N, L>>);

impl<R: Runtime, N: Network, L: Ledger> std::ops::Deref for Segments<R, N, L> {
    type Target = [SegmentRef];

    fn deref(&self) -> &[SegmentRef] {
        &self.0.index.segments
    }
}

type Window = Result<(Bytes, OwnedSemaphorePermit), ReadError>;

/// Verified bytes in order, read ahead. Dropping it ends what is under way.
pub struct ByteStream<R: Runtime, N: Network, L: Ledger> {
    shared: Arc<OpenedShared<R, N, L>>,
    runs: Runs<Segments<R, N, L>>,
    windows: VecDeque<BoxFuture<'static, Result<Window, Aborted>>>,
    ready: Bytes,
    /// Memory of what is ready.
    held: Option<OwnedSemaphorePermit>,
    left: u64,
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for ByteStream<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream")
            .field("left", &self.left)
            .field("windows", &self.windows.len())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> ByteStream<R, N, L> {
    pub(crate) fn new(shared: &Arc<OpenedShared<R, N, L>>, runs: Vec<Extent>) -> Self {
        let budget = shared.access.client.memory.bytes_max() / WINDOWS_IN_BUDGET;
        let window = u32::try_from(budget)
            .unwrap_or(u32::MAX)
            .max(WINDOW_BYTES_MIN);
        Self {
            left: runs.iter().map(|run| run.bytes).sum(),
            runs: Runs::new(Segments(Arc::clone(shared)), runs, window),
            shared: Arc::clone(shared),
            windows: VecDeque::new(),
            ready: Bytes::new(),
            held: None,
        }
    }

    /// Bytes that are still to come.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, at most [`READ_OUT_BYTES_MAX`]; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; all bytes before were good.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            if !self.ready.is_empty() {
                let count = self.ready.len().min(READ_OUT_BYTES_MAX);
                let bytes = self.ready.split_to(count);
                self.left -= crate::width::wide(bytes.len());
                return Ok(Some(bytes));
            }
            self.held = None;
            self.read_ahead();
            let Some(window) = self.windows.front_mut() else {
                return Ok(None);
            };
            let done = window.await;
            self.windows.pop_front();
            let (bytes, held) = done.unwrap_or(Err(ReadError::Aborted))?;
            self.held = Some(held);
            self.ready = bytes;
            self.read_ahead();
        }
    }

    /// Writes all that is left to `sink`, in order, and flushes it.
    ///
    /// # Errors
    ///
    /// [`CopyError`]; what was written before was good.
    pub async fn copy_to<W: AsyncWrite + Unpin>(
        &mut self,
        sink: &mut W,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, CopyError> {
        let mut written = 0;
        while let Some(bytes) = self.next().await? {
            sink.write_all(&bytes).await?;
            written += crate::width::wide(bytes.len());
            progress(written);
        }
        sink.flush().await?;
        Ok(written)
    }

    fn read_ahead(&mut self) {
        while self.windows.len() < AHEAD_MAX {
            let Some(SegmentRun { segment, range }) = self.runs.next() else {
                return;
            };
            let shared = Arc::clone(&self.shared);
            let runtime = self.shared.access.client.runtime.clone();
            let task = runtime.spawn("client read", async move {
                let bytes = index(range.end - range.start);
                // As much again, should all of it have to be reconstructed.
                let memory = &shared.access.client.memory;
                let held = memory.hold(bytes.saturating_mul(2)).await?;
                let bytes = shared.read(segment, range).await?;
                Ok((bytes, held))
            });
            self.windows.push_back(Box::pin(task.join()));
        }
    }
}

/// Why copying a stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing to the sink.
    #[error("writing: {0}")]
    Write(#[from] std::io::Error),
}

impl CopyError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Read(error) => error.retry(),
            Self::Write(_) => Retry::Later,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Read(error) => error.blame(),
            Self::Write(_) => Blame::World,
        }
    }
}

/// A step of a [`TreeStream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeItem {
    /// An entry; when it is a file, its bytes follow.
    Entry(Entry),
    /// Bytes of the file before.
    Bytes(Bytes),
}

/// All entries of an open link, each file followed by its bytes.
pub struct TreeStream<R: Runtime, N: Network, L: Ledger> {
    shared: Arc<OpenedShared<R, N, L>>,
    /// Entries that are still to come, by place: directories first, then as stored.
    order: VecDeque<usize>,
    stream: ByteStream<R, N, L>,
    /// Bytes of the present file that are still to come.
    left: u64,
    /// Bytes of the stream that belong to files still to come.
    rest: Bytes,
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for TreeStream<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeStream")
            .field("entries_left", &self.order.len())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> TreeStream<R, N, L> {
    pub(crate) fn new(shared: &Arc<OpenedShared<R, N, L>>) -> Self {
        let entries = &shared.index.entries;
        let place = |entry: &Entry| match &entry.kind {
            EntryKind::Directory => (0, 0, 0),
            EntryKind::File { extents } => match extents.first() {
                Some(first) => (1, first.segment, first.offset),
                None => (1, 0, 0),
            },
            // Last, so that nothing is ever written through a symlink of the same upload.
            EntryKind::Symlink { .. } => (2, 0, 0),
        };
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|at| (place(&entries[*at]), *at));
        let runs = order
            .iter()
            .flat_map(|at| match &entries[*at].kind {
                EntryKind::File { extents } => extents.to_vec(),
                EntryKind::Directory | EntryKind::Symlink { .. } => Vec::new(),
            })
            .collect();
        Self {
            shared: Arc::clone(shared),
            order: order.into(),
            stream: ByteStream::new(shared, runs),
            left: 0,
            rest: Bytes::new(),
        }
    }

    /// The next entry or bytes; `None` at the end. Directories come first, symlinks last.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; all before was good.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn next(&mut self) -> Result<Option<TreeItem>, ReadError> {
        if self.left == 0 {
            let Some(at) = self.order.pop_front() else {
                return Ok(None);
            };
            let entry = self.shared.index.entries[at].clone();
            self.left = entry.bytes();
            return Ok(Some(TreeItem::Entry(entry)));
        }
        if self.rest.is_empty() {
            let Some(bytes) = self.stream.next().await? else {
                // The runs are those of the entries, so there is as much.
                return Err(ReadError::Aborted);
            };
            self.rest = bytes;
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = self.rest.split_to(self.rest.len().min(most));
        self.left -= crate::width::wide(bytes.len());
        Ok(Some(TreeItem::Bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::segment;

    fn extent(segment: u32, offset: u32, bytes: u64) -> Extent {
        Extent {
            segment,
            offset,
            bytes,
        }
    }

    fn runs(extents: Vec<Extent>, window: u32) -> Vec<(u32, Range<u32>)> {
        let segments = vec![segment(0, 100), segment(1, 50), segment(2, 80)];
        Runs::new(segments, extents, window)
            .map(|run| (run.segment.number.get(), run.range))
            .collect()
    }

    #[test]
    fn extents_run_on_through_segments() {
        assert_eq!(
            runs(vec![extent(0, 90, 100)], 1_000),
            [(0, 90..100), (1, 0..50), (2, 0..40)]
        );
    }

    #[test]
    fn what_touches_is_joined_up_to_a_window() {
        let small = vec![extent(0, 0, 30), extent(0, 30, 30), extent(0, 60, 50)];
        assert_eq!(runs(small.clone(), 1_000), [(0, 0..100), (1, 0..10)]);
        assert_eq!(
            runs(small, 45),
            [(0, 0..45), (0, 45..90), (0, 90..100), (1, 0..10)]
        );
        let apart = vec![extent(0, 0, 10), extent(0, 20, 10)];
        assert_eq!(runs(apart, 1_000), [(0, 0..10), (0, 20..30)]);
    }
}
