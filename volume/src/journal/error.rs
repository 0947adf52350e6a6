//! Why the journal does not do what is asked.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_core::{Blame, Retry};
use cairn_runtime::DiskError;

use crate::value::JournalRef;

/// Why the journal does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk, while the journal was opened or read: nothing has changed.
    #[error("the volume's journal: {0}")]
    Disk(#[from] DiskError),
    /// A change failed, now or earlier: the first cause. The journal must be opened again.
    #[error("the volume's journal is not used any more after a failed call: {0}")]
    Failed(Arc<DiskError>),
    /// The disk is full; the journal is as before.
    #[error("no room for the volume's journal: {0}")]
    NoSpace(DiskError),
    /// The journal has as many bytes as it may: a commit makes room.
    #[error("the volume's journal is full: it may have {bytes_max} bytes")]
    Full {
        /// The bound.
        bytes_max: u64,
    },
    /// An operation brings more than a record may have.
    #[error("a record of the volume's journal has at most {max} bytes, found {bytes}")]
    TooLong {
        /// Its bytes.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// There are no such bytes.
    #[error(
        "the volume's journal has no {bytes} bytes at byte {} of file {}",
        at.offset,
        at.file
    )]
    NoData {
        /// The place.
        at: JournalRef,
        /// How many bytes were to be there.
        bytes: u64,
    },
    /// What was durable is not whole any more.
    #[error("{}: damaged at byte {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where what is damaged begins.
        offset: u64,
    },
    /// A file is gone.
    #[error("{}: no file of the journal has record {sequence}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The sequence number of the record with which it should go on.
        sequence: u64,
    },
    /// Another process has the journal.
    #[error("{} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

impl JournalError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Disk(_)
            | Self::Failed(_)
            | Self::NoSpace(_)
            | Self::Full { .. }
            | Self::InUse { .. } => Retry::Later,
            Self::TooLong { .. }
            | Self::NoData { .. }
            | Self::Damaged { .. }
            | Self::Missing { .. } => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Disk(_)
            | Self::Failed(_)
            | Self::NoSpace(_)
            | Self::Full { .. }
            | Self::Damaged { .. }
            | Self::Missing { .. } => Blame::World,
            Self::TooLong { .. } | Self::InUse { .. } => Blame::Caller,
            Self::NoData { .. } => Blame::Us,
        }
    }
}
