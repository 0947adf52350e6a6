//! What a book's journal holds, and what can go wrong with it.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::group::EMPTIED_MAX;
use cairn_core::{
    AccountId, Blame, Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, Record, RecordKind,
    Retry, RevisionDetail, RevisionNumber, SegmentNumber, SegmentRecord, Signed,
};
use cairn_runtime::DiskError;

use crate::cipher::Salt;
use crate::journal::JournalError;
use crate::key::UploadId;

/// A group as its writer opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Opened {
    /// The group.
    pub group: GroupId,
    /// Its owner.
    pub owner: AccountId,
    /// Its code.
    pub code: Code,
    /// Most bytes of each slot.
    pub slot_capacity: ByteCount,
    /// Largest shard that the writer makes.
    pub shard_bytes_max: u32,
}

/// A segment that is network-durable.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FinishedSegment {
    /// The upload it belongs to.
    pub upload: UploadId,
    /// Where its plaintext starts in the upload's stream.
    pub position: u64,
    /// Its plaintext.
    pub plain_bytes: u32,
    /// The salt it is encrypted with.
    pub salt: Salt,
    /// Its record.
    pub record: Signed<SegmentRecord>,
}

impl FinishedSegment {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> SegmentNumber {
        self.record.unverified().number
    }
}

/// One entry of a book's journal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum BookEntry {
    /// The first: which group this is.
    Opened(Opened),
    /// Numbers below this one may have been used.
    Reserved(u32),
    /// A segment is network-durable.
    Finished(FinishedSegment),
    /// These leaves are to be emptied by the next revision.
    Emptied(Bounded<SegmentNumber, EMPTIED_MAX>),
    /// A revision that is about to be submitted.
    Revising(RevisionDetail),
    /// The ledger has that revision.
    Revised(GroupRevision),
    /// Enough slots have the detail of that revision.
    Delivered(RevisionNumber),
    /// Numbers from this one on were not used.
    Closed(u32),
    /// First entry of an upload's own journal: which upload reads that source.
    Upload(UploadHeader),
    /// The upload has segments in that group.
    UploadGroup(GroupId),
}

/// An upload that can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct UploadHeader {
    /// The upload.
    pub upload: UploadId,
    /// What names its source: the same for the same source.
    pub source: Digest,
    /// The code it was begun with.
    pub code: Code,
}

impl Record for BookEntry {
    const KIND: RecordKind = RecordKind::UploadJournal;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 256 + RevisionDetail::BYTES_MAX;
}

/// Why the book can't do it.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The folder or its lock.
    #[error("the book of a group: {0}")]
    Disk(#[from] DiskError),
    /// Another process writes the group.
    #[error("another process is writing to the group")]
    Locked,
    /// The journal does not begin with the group, or tells of another.
    #[error("expected the journal of a group that begins with its opening")]
    NoOpening,
    /// The ledger has a revision that this book did not make.
    #[error(
        "group {group}: the ledger has revision {found}, which this machine did not make: \
         the group was written from elsewhere"
    )]
    Foreign {
        /// The group.
        group: GroupId,
        /// The ledger's revision.
        found: RevisionNumber,
    },
}

impl BookError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Journal(error) => error.retry(),
            Self::Disk(_) => Retry::Later,
            Self::Locked => Retry::Elsewhere,
            Self::NoOpening | Self::Foreign { .. } => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Journal(error) => error.blame(),
            Self::Disk(_) | Self::NoOpening => Blame::World,
            Self::Locked | Self::Foreign { .. } => Blame::Caller,
        }
    }
}
