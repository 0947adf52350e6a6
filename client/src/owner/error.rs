//! What can go wrong with an owner's groups.

use std::time::Duration;

use cairn_core::{AccountId, Blame, GroupId, Retry};
use cairn_ledger::LedgerError;

use crate::book::BookError;
use crate::read::ReadError;
use crate::segment::LayoutError;

/// Why there is no group to write to.
#[derive(Debug, thiserror::Error)]
pub enum OpenGroupError {
    /// The ledger.
    #[error(transparent)]
    Ledger(Box<LedgerError>),
    /// The book on this machine's disk.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The memory budget is too small for the code.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Fewer nodes have room at the owner's price than the code has slots.
    #[error("expected {expected} nodes with room at that price, found {found}")]
    TooFewNodes {
        /// Slots of a group.
        expected: u32,
        /// Nodes that could take one.
        found: u32,
    },
    /// The owner has no credits, and too few nodes with room ask for none.
    #[error(
        "account {account} has no credits, and only {found} of {expected} nodes with room ask for none"
    )]
    NoCredits {
        /// The owner's account.
        account: AccountId,
        /// Slots of a group.
        expected: u32,
        /// Nodes that could take one for nothing.
        found: u32,
    },
    /// The ledger could not draw the slots and gave the escrow back, or never saw the group.
    #[error("group {group} could not be placed; the escrow is back with its owner")]
    Refunded {
        /// The group.
        group: GroupId,
    },
    /// The ledger has not drawn the slots in time.
    #[error("the slots of group {group} were not drawn within {limit:?}")]
    NotPlaced {
        /// The group.
        group: GroupId,
        /// The time given.
        limit: Duration,
    },
}

impl From<LedgerError> for OpenGroupError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(Box::new(error))
    }
}

impl OpenGroupError {
    /// Whether another group will do.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Book(BookError::Locked | BookError::NoOpening | BookError::Foreign { .. })
                | Self::Refunded { .. }
        )
    }

    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Ledger(error) => error.retry(),
            Self::Book(error) => error.retry(),
            Self::Layout(_) | Self::NoCredits { .. } => Retry::Never,
            Self::TooFewNodes { .. } | Self::Refunded { .. } | Self::NotPlaced { .. } => {
                Retry::Later
            }
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Ledger(error) => error.blame(),
            Self::Book(error) => error.blame(),
            Self::Layout(_) | Self::NoCredits { .. } => Blame::Caller,
            Self::TooFewNodes { .. } | Self::Refunded { .. } | Self::NotPlaced { .. } => {
                Blame::World
            }
        }
    }
}

/// Why a group could not be revised.
#[derive(Debug, thiserror::Error)]
pub enum ReviseError {
    /// The group can't be opened.
    #[error(transparent)]
    Group(#[from] OpenGroupError),
    /// The ledger.
    #[error("group {group} is not revised: {cause}")]
    Ledger {
        /// The group.
        group: GroupId,
        /// What it says.
        cause: Box<LedgerError>,
    },
    /// The book on this machine's disk.
    #[error("group {group} is not revised: {cause}")]
    Book {
        /// The group.
        group: GroupId,
        /// What is wrong with it.
        cause: BookError,
    },
    /// Other revisions kept coming in between.
    #[error("group {group} is not revised: another process revises it")]
    Contended {
        /// The group.
        group: GroupId,
    },
}

impl ReviseError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Group(error) => error.retry(),
            Self::Ledger { cause, .. } => cause.retry(),
            Self::Book { cause, .. } => cause.retry(),
            Self::Contended { .. } => Retry::Later,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Group(error) => error.blame(),
            Self::Ledger { cause, .. } => cause.blame(),
            Self::Book { cause, .. } => cause.blame(),
            Self::Contended { .. } => Blame::Caller,
        }
    }
}

/// Why an owner was not closed in an orderly way.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// A group is not revised.
    #[error(transparent)]
    Revise(#[from] ReviseError),
    /// A book is not closed: the next start has a few leaves more to empty.
    #[error(transparent)]
    Book(#[from] BookError),
}

impl CloseError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Revise(error) => error.retry(),
            Self::Book(error) => error.retry(),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Revise(error) => error.blame(),
            Self::Book(error) => error.blame(),
        }
    }
}

/// Why an upload was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The link is another owner's.
    #[error("expected a link of owner {expected}, found one of {found}")]
    NotTheOwner {
        /// Whose key this is.
        expected: AccountId,
        /// Whose link it is.
        found: AccountId,
    },
    /// The upload's index can't be read.
    #[error("the upload's index can't be read: {0}")]
    Read(#[from] Box<ReadError>),
    /// A group is not one that this machine can write.
    #[error("group {group} can't be written from here: {cause}")]
    Group {
        /// The group.
        group: GroupId,
        /// Why not.
        cause: OpenGroupError,
    },
    /// The book on this machine's disk.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The leaves are emptied here and the revision is still to come.
    #[error(transparent)]
    Revise(#[from] ReviseError),
}

impl RemoveError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotTheOwner { .. } => Retry::Never,
            Self::Read(error) => error.retry(),
            Self::Group { cause, .. } => cause.retry(),
            Self::Book(error) => error.retry(),
            Self::Revise(error) => error.retry(),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotTheOwner { .. } => Blame::Caller,
            Self::Read(error) => error.blame(),
            Self::Group { cause, .. } => cause.blame(),
            Self::Book(error) => error.blame(),
            Self::Revise(error) => error.blame(),
        }
    }
}
