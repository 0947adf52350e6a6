//! Why an open volume does not do what is asked.

use std::path::PathBuf;

use cairn_client::segment_store::{SegmentAt, StoreFailure};
use cairn_core::{Blame, HeadNumber, Retry, VolumeId};
use cairn_runtime::DiskError;

use crate::fs::FsError;
use crate::head::HeadError;
use crate::journal::JournalError;
use crate::log::SummaryError;
use crate::run::RunError;
use crate::tree::PageError;

/// Why an open volume does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The file system's own answer.
    #[error(transparent)]
    Fs(FsError),
    /// This machine's journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// This machine's disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The note of the numbers that were tried is damaged.
    #[error("{}: expected the 8 bytes of a number", path.display())]
    Note {
        /// The file.
        path: PathBuf,
    },
    /// The store of segments or heads.
    #[error("{0}")]
    Store(Box<dyn StoreFailure>),
    /// The head that was found.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A run does not open.
    #[error("{at}: {cause}")]
    Run {
        /// The segment.
        at: SegmentAt,
        /// Why.
        cause: RunError,
    },
    /// A page opens and is none.
    #[error("{at}: a page is damaged: {cause}")]
    Page {
        /// The segment.
        at: SegmentAt,
        /// Why.
        cause: PageError,
    },
    /// The end of a segment can't be read.
    #[error("{at}: {cause}")]
    Summary {
        /// The segment.
        at: SegmentAt,
        /// Why.
        cause: SummaryError,
    },
    /// What a head leads to is no superblock of it.
    #[error("{at}: what head {number} of volume {volume} leads to is not its superblock")]
    Superblock {
        /// The volume.
        volume: VolumeId,
        /// The head.
        number: HeadNumber,
        /// The segment.
        at: SegmentAt,
    },
    /// A reference names a group that the volume does not have.
    #[error("volume {volume} has no group with index {index}")]
    Group {
        /// The volume.
        volume: VolumeId,
        /// The index.
        index: u16,
    },
    /// The volume has no head: it was never made, or nobody shows one.
    #[error("volume {volume} has no head")]
    NoHead {
        /// The volume.
        volume: VolumeId,
    },
    /// The volume has a head already.
    #[error("volume {volume} has head {number} already: open it")]
    Exists {
        /// The volume.
        volume: VolumeId,
        /// Its newest head.
        number: HeadNumber,
    },
    /// The journal has what was never committed, and another has written the volume since.
    #[error(
        "volume {volume}: the journal goes on from head {expected}, and the newest is {found}, written \
         elsewhere: what the journal has can't be added to it"
    )]
    Diverged {
        /// The volume.
        volume: VolumeId,
        /// The head that the journal goes on from.
        expected: HeadNumber,
        /// The newest.
        found: HeadNumber,
    },
    /// The process is ending.
    #[error("the commit was broken off: the process is ending")]
    Aborted,
    /// The head that the store shows is older than one that this machine wrote or saw.
    #[error("volume {volume}: expected head {expected} or a later one, the store shows {found}")]
    Behind {
        /// The volume.
        volume: VolumeId,
        /// The newest that this machine knows of.
        expected: HeadNumber,
        /// The store's.
        found: HeadNumber,
    },
    /// A run does not fit a segment.
    #[error("expected segments with room for a run of {expected} bytes, found {found}")]
    Room {
        /// Bytes of the run.
        expected: usize,
        /// Room of an empty segment.
        found: u32,
    },
    /// More data than one operation may bring.
    #[error("expected at most {max} bytes with one change, found {found}")]
    Data {
        /// The bound.
        max: u32,
        /// Bytes that came.
        found: usize,
    },
    /// The volume names as many groups as it can.
    #[error("volume {volume} has {max} groups, as many as it may")]
    GroupCount {
        /// The volume.
        volume: VolumeId,
        /// The bound.
        max: usize,
    },
}

impl VolumeError {
    pub(super) fn store(error: impl StoreFailure) -> Self {
        Self::Store(Box::new(error))
    }

    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Journal(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::Disk(_) | Self::NoHead { .. } | Self::Aborted | Self::Behind { .. } => {
                Retry::Later
            }
            Self::Fs(_)
            | Self::Head(_)
            | Self::Run { .. }
            | Self::Page { .. }
            | Self::Summary { .. }
            | Self::Superblock { .. }
            | Self::Group { .. }
            | Self::Exists { .. }
            | Self::Diverged { .. }
            | Self::Room { .. }
            | Self::Data { .. }
            | Self::Note { .. }
            | Self::GroupCount { .. } => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Journal(error) => error.blame(),
            Self::Store(error) => error.blame(),
            Self::Fs(_) | Self::NoHead { .. } | Self::Exists { .. } | Self::Diverged { .. } => {
                Blame::Caller
            }
            Self::Data { .. } => Blame::Caller,
            Self::Head(_) | Self::Behind { .. } => Blame::Peer,
            Self::Run { .. }
            | Self::Page { .. }
            | Self::Summary { .. }
            | Self::Superblock { .. }
            | Self::Group { .. }
            | Self::Room { .. }
            | Self::Disk(_)
            | Self::Note { .. }
            | Self::GroupCount { .. }
            | Self::Aborted => Blame::World,
        }
    }
}
