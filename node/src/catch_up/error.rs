//! Why a slot has not caught up.

use cairn_core::{Blame, Retry, RevisionNumber, SegmentNumber};
use cairn_ledger::port::LedgerError;
use cairn_ledger::tx::SlotRef;

use crate::reclaim::ReclaimLack;
use crate::store::StoreError;

/// Why a slot has not caught up.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CatchUpError {
    /// Nobody who can be reached has the revision's detail.
    #[error("{slot}: nobody has the detail of revision {revision}")]
    NoDetail {
        slot: SlotRef,
        revision: RevisionNumber,
    },
    /// The segment records that were found do not give the slot roots.
    #[error("{slot}: no source has the segment records of revision {revision}")]
    NoRecords {
        slot: SlotRef,
        revision: RevisionNumber,
    },
    /// Fewer than k siblings gave their shard.
    #[error("{slot}: segment {segment}: {found} of {expected} shards could be had")]
    NoSources {
        slot: SlotRef,
        segment: SegmentNumber,
        expected: u8,
        found: u8,
    },
    /// The shards match their records and don't decode to the committed root: the writer encoded
    /// wrongly.
    #[error("{slot}: segment {segment} can't be rebuilt: its shards do not belong together")]
    Unrebuildable {
        slot: SlotRef,
        segment: SegmentNumber,
    },
    /// It was ours, nobody has been drawn in our place, and something keeps us from taking it back.
    #[error("{slot} is idle and can't be taken back: {lack}")]
    Idle { slot: SlotRef, lack: ReclaimLack },
    /// Our own store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl CatchUpError {
    /// What to do about it.
    pub(crate) const fn retry(&self) -> Retry {
        match self {
            Self::NoDetail { .. } | Self::NoRecords { .. } | Self::NoSources { .. } => Retry::Later,
            // Looked at again when an epoch begins.
            Self::Unrebuildable { .. } | Self::Idle { .. } => Retry::Never,
            Self::Store(error) => match error {
                StoreError::Disk(_)
                | StoreError::Closed
                | StoreError::Foreign { .. }
                | StoreError::SlotBytes { .. } => Retry::Never,
                StoreError::Full { .. }
                | StoreError::Conflict { .. }
                | StoreError::Absent { .. }
                | StoreError::Emptied { .. }
                | StoreError::Damaged { .. }
                | StoreError::OutOfRange { .. }
                | StoreError::Lacking { .. }
                | StoreError::SlotRoot { .. }
                | StoreError::Unsettled { .. }
                | StoreError::Unreached { .. } => Retry::Later,
            },
            Self::Ledger(_) => Retry::Later,
        }
    }

    /// Whose fault it is.
    pub(crate) const fn blame(&self) -> Blame {
        match self {
            Self::NoDetail { .. } | Self::NoRecords { .. } | Self::NoSources { .. } => Blame::World,
            Self::Unrebuildable { .. } => Blame::Caller,
            Self::Idle { .. } => Blame::Us,
            Self::Store(error) => error.blame(),
            Self::Ledger(error) => error.blame(),
        }
    }

    /// Whether it says more than that something could not be reached just now.
    pub(crate) fn is_lasting(&self) -> bool {
        self.retry() == Retry::Never
    }
}
