//! What the shard store says when it does not do what was asked.

use std::fmt;
use std::sync::Arc;

use cairn_core::{
    Blame, ByteCount, ErrorCode, Retry, RevisionNumber, SegmentNumber, ShardRoot, SlotRoot,
};
use cairn_ledger::tx::SlotRef;
use cairn_runtime::DiskError;

/// One shard: its slot and its segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardPlace {
    /// The slot.
    pub slot: SlotRef,
    /// The segment.
    pub segment: SegmentNumber,
}

impl ShardPlace {
    /// The shard of `segment` in `slot`.
    #[must_use]
    pub const fn new(slot: SlotRef, segment: SegmentNumber) -> Self {
        Self { slot, segment }
    }
}

impl fmt::Display for ShardPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard of segment {} in {}", self.segment, self.slot)
    }
}

/// How a kept shard is damaged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Damage {
    /// Its header in the pack does not have its checksum.
    #[error("the header is wrong")]
    Header,
    /// The segment record or the outboard beside it does not have its checksum.
    #[error("the segment record or the outboard is wrong")]
    Body,
    /// The bytes do not have the shard root.
    #[error("the bytes have root {found}")]
    Bytes {
        /// The root that they have.
        found: ShardRoot,
    },
    /// The bytes of the range do not fit the outboard.
    #[error("the bytes of the range do not fit the outboard")]
    Range,
    /// The disk can't read it.
    #[error("{0}")]
    Unreadable(Arc<DiskError>),
}

/// Why the shard store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No room: nothing was done.
    #[error("no room for {needed}, available {available}")]
    Full {
        /// What it takes.
        needed: ByteCount,
        /// What is left under the capacity, the reserve and the floor.
        available: ByteCount,
    },
    /// Another shard is kept under that number, and must be.
    #[error("{shard} has root {kept}, offered {offered}")]
    Conflict {
        /// Which.
        shard: ShardPlace,
        /// The root of the one that is kept.
        kept: ShardRoot,
        /// The root of the one that was offered.
        offered: ShardRoot,
    },
    /// Not kept.
    #[error("{shard} is not here")]
    Absent {
        /// Which.
        shard: ShardPlace,
    },
    /// Emptied by a revision.
    #[error("{shard} was emptied by a revision")]
    Emptied {
        /// Which.
        shard: ShardPlace,
    },
    /// Kept, but its bytes are wrong or can't be read. It counts as lacking from now on.
    #[error("{shard} is damaged: {damage}")]
    Damaged {
        /// Which.
        shard: ShardPlace,
        /// How.
        damage: Damage,
    },
    /// The range or the number is outside.
    #[error("out of range: {shard}")]
    OutOfRange {
        /// Which.
        shard: ShardPlace,
    },
    /// The slot lacks shards of the revision.
    #[error("{slot} lacks {count} shards, the first of segment {first}")]
    Lacking {
        /// Which.
        slot: SlotRef,
        /// The first that it lacks.
        first: SegmentNumber,
        /// How many it lacks.
        count: u32,
    },
    /// The slot keeps as many earlier revisions as it may: the ledger may ask for a proof of each.
    #[error("{slot} has {count} earlier revisions that may have to be proved")]
    Unsettled {
        /// Which.
        slot: SlotRef,
        /// How many.
        count: usize,
    },
    /// The revision is none that the slot has reached, or was given up: nobody asks for its proof.
    #[error("{slot} does not have revision {revision}")]
    Unreached {
        /// Which.
        slot: SlotRef,
        /// The revision.
        revision: RevisionNumber,
    },
    /// The slot's shards do not have the revision's slot root.
    #[error("{slot} has root {found}, expected {expected}")]
    SlotRoot {
        /// Which.
        slot: SlotRef,
        /// The root of the revision.
        expected: SlotRoot,
        /// The root of what is kept.
        found: SlotRoot,
    },
    /// The revision says that each slot has other bytes than its shards have.
    #[error("{slot} has {expected} at the revision's slot root, the revision says {found}")]
    SlotBytes {
        /// Which.
        slot: SlotRef,
        /// The sum of the slot tree that has the revision's slot root.
        expected: ByteCount,
        /// What the revision says.
        found: ByteCount,
    },
    /// A disk call failed. After a failed mutation every later one returns the first cause, until
    /// the store is reopened.
    #[error("{0}")]
    Disk(Arc<DiskError>),
    /// The folder is another's, or of another version.
    #[error("{folder} is not a shard store that this software knows")]
    Foreign {
        /// The folder.
        folder: String,
    },
    /// The store is closed.
    #[error("the shard store is closed")]
    Closed,
}

impl StoreError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Conflict { .. } | Self::Emptied { .. } | Self::OutOfRange { .. } => Retry::Never,
            Self::Foreign { .. } | Self::SlotBytes { .. } | Self::Unreached { .. } => Retry::Never,
            Self::Lacking { .. } | Self::SlotRoot { .. } | Self::Unsettled { .. } => Retry::Later,
            Self::Full { .. }
            | Self::Absent { .. }
            | Self::Damaged { .. }
            | Self::Disk(_)
            | Self::Closed => Retry::Elsewhere,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Conflict { .. }
            | Self::Absent { .. }
            | Self::Emptied { .. }
            | Self::OutOfRange { .. }
            | Self::SlotRoot { .. }
            | Self::SlotBytes { .. }
            | Self::Unreached { .. } => Blame::Caller,
            Self::Full { .. }
            | Self::Damaged { .. }
            | Self::Disk(_)
            | Self::Lacking { .. }
            | Self::Unsettled { .. } => Blame::World,
            Self::Foreign { .. } | Self::Closed => Blame::Us,
        }
    }

    /// Its code on the wire.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Full { .. } => ErrorCode::DiskFull,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::Absent { .. } | Self::Emptied { .. } => ErrorCode::NoSuchShard,
            Self::Damaged { .. } => ErrorCode::Damaged,
            Self::OutOfRange { .. } => ErrorCode::OutOfRange,
            Self::Lacking { .. }
            | Self::SlotRoot { .. }
            | Self::Unreached { .. }
            | Self::Unsettled { .. } => ErrorCode::Lagging,
            Self::SlotBytes { .. } => ErrorCode::BadRecord,
            Self::Disk(_) => ErrorCode::DiskFailed,
            Self::Foreign { .. } => ErrorCode::Internal,
            Self::Closed => ErrorCode::ShuttingDown,
        }
    }
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        Self::Disk(Arc::new(error))
    }
}
