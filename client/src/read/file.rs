//! One open file: ranges, and the whole of it.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;
use futures::{StreamExt, TryStreamExt, stream};

use crate::index::{Entry, Extent};
use crate::read::error::ReadError;
use crate::read::open::{OpenedShared, SEGMENTS_AT_ONCE};
use crate::read::stream::{ByteStream, Runs, SegmentRun};
use crate::width::index;

/// A file of an open link. Cheap to clone.
pub struct OpenFile<R: Runtime, N: Network, L: Ledger> {
    shared: Arc<OpenedShared<R, N, L>>,
    extents: Arc<[Extent]>,
    bytes: u64,
}

impl<R: Runtime, N: Network, L: Ledger> Clone for OpenFile<R, N, L> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            extents: Arc::clone(&self.extents),
            bytes: self.bytes,
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for OpenFile<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> OpenFile<R, N, L> {
    pub(crate) fn new(
        shared: &Arc<OpenedShared<R, N, L>>,
        entry: &Entry,
        extents: &[Extent],
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            extents: extents.into(),
            bytes: entry.bytes(),
        }
    }

    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `count` bytes from `offset` on, in one round trip to the node that has them, or to several at
    /// once when they lie across borders of shards or of segments. What lies in one segment is not
    /// copied. Meant for ranges of at most some MiB: the result is in memory whole.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; [`ReadError::Range`] past the end, and then nothing was read.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn read_range(&self, offset: u64, count: u64) -> Result<Bytes, ReadError> {
        let runs = self.runs(offset, count)?;
        let memory = &self.shared.access.client.memory;
        let size = usize::try_from(count).unwrap_or(usize::MAX);
        let held = memory.hold(size.saturating_mul(2)).await?;
        let segments = &self.shared.index.segments;
        let cut = Runs::new(&**segments, runs, u32::MAX);
        let reads = cut.map(|SegmentRun { segment, range }| self.shared.read(segment, range));
        let parts = stream::iter(reads).buffered(SEGMENTS_AT_ONCE);
        let mut parts: Vec<Bytes> = parts.try_collect().await?;
        drop(held);
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut whole = BytesMut::with_capacity(size);
        for part in parts {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    /// `count` bytes from `offset` on, as a stream that reads ahead in bounded memory.
    ///
    /// # Errors
    ///
    /// [`ReadError::Range`] past the end.
    pub fn stream(&self, offset: u64, count: u64) -> Result<ByteStream<R, N, L>, ReadError> {
        Ok(ByteStream::new(&self.shared, self.runs(offset, count)?))
    }

    /// The extents that hold `count` bytes from `offset` on.
    fn runs(&self, offset: u64, count: u64) -> Result<Vec<Extent>, ReadError> {
        let error = ReadError::Range {
            bytes: self.bytes,
            offset,
            count,
        };
        let end = offset.checked_add(count);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(error);
        }
        let mut runs = Vec::new();
        let mut skip = offset;
        let mut left = count;
        for extent in self.extents.iter() {
            if left == 0 {
                break;
            }
            if skip >= extent.bytes {
                skip -= extent.bytes;
                continue;
            }
            let bytes = (extent.bytes - skip).min(left);
            runs.push(self.advance(*extent, skip, bytes));
            left -= bytes;
            skip = 0;
        }
        Ok(runs)
    }

    /// The part of an extent that begins `skip` bytes in.
    fn advance(&self, extent: Extent, skip: u64, bytes: u64) -> Extent {
        let starts = &self.shared.starts;
        let at = index(extent.segment);
        let position = starts[at] + u64::from(extent.offset) + skip;
        let segment = starts.partition_point(|start| *start <= position) - 1;
        Extent {
            segment: u32::try_from(segment).expect("an index has at most SEGMENTS_MAX"),
            offset: u32::try_from(position - starts[segment]).expect("a segment is small"),
            bytes,
        }
    }
}
