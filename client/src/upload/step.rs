//! What an upload's pipeline does step by step, and what each step hands to the next.

use cairn_core::GroupId;
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::book::FinishedSegment;
use crate::owner::ReviseError;
use crate::owner::writer::UnderWay;
use crate::segment::SealedSegment;
use crate::upload::UploadError;
use crate::upload::feeder::{Fed, Feeder};
use crate::upload::put::SegmentPut;

/// A step that is done.
pub(super) enum Step<R: Runtime, N: Network, L: Ledger, S> {
    /// The source gave the next segment.
    Fed(Box<Feeder<R, N, L, S>>, Result<Fed<R>, UploadError>),
    /// Reading has waited for memory for a while.
    Starved,
    /// A segment is encrypted, encoded and hashed.
    Sealed(Box<Result<Sealed<R>, UploadError>>),
    /// A segment has w receipts.
    Durable(Box<Result<Durable<R, N, L>, UploadError>>),
    /// Every segment has been durable for a while.
    Over,
    /// The puts beyond w of a segment have ended.
    Rest(GroupId, Box<SegmentPut<R, N, L>>),
    /// Segments are in the book.
    Remembered(Batch<R>, Result<(), UploadError>),
    /// The groups are revised.
    Revised(Result<(), ReviseError>),
}

/// A segment that is encrypted, encoded and hashed.
pub(super) struct Sealed<R: Runtime> {
    pub(super) segment: SealedSegment,
    pub(super) under_way: UnderWay<R::Disk>,
    pub(super) position: u64,
    pub(super) content_bytes: u64,
}

/// A segment that has w receipts.
pub(super) struct Durable<R: Runtime, N: Network, L: Ledger> {
    pub(super) put: SegmentPut<R, N, L>,
    pub(super) ended: Ended<R>,
}

/// A segment that is durable and not yet in the book.
pub(super) struct Ended<R: Runtime> {
    pub(super) finished: FinishedSegment,
    pub(super) under_way: UnderWay<R::Disk>,
    pub(super) content_bytes: u64,
}

/// Segments that went into the book together.
pub(super) struct Batch<R: Runtime> {
    pub(super) under_way: Vec<UnderWay<R::Disk>>,
    pub(super) content_bytes: u64,
}
