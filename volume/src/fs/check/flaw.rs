//! What a check finds.

use crate::key::{InodeNumber, Key};

/// What is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A key or its value is none that there can be.
    #[error("{key:?} cannot be read")]
    Unreadable {
        /// The key.
        key: Key,
    },
    /// The volume has no counters.
    #[error("the volume has no counters")]
    NoCounters,
    /// The volume counts wrongly.
    #[error("the volume counts {found} {what}, expected {expected}")]
    Counter {
        /// What is counted.
        what: &'static str,
        /// What there is.
        expected: u64,
        /// What the counters say.
        found: u64,
    },
    /// The next inode's number was given before.
    #[error("inode {inode} is not below the next one's number, {next}")]
    Number {
        /// The last inode.
        inode: InodeNumber,
        /// What the counters say.
        next: u64,
    },
    /// Something is of an inode without attributes.
    #[error("inode {inode} has no attributes")]
    NoAttributes {
        /// The inode.
        inode: InodeNumber,
    },
    /// An entry names an inode that is not there, or not of that type.
    #[error("an entry of directory {directory} names inode {inode} wrongly")]
    Entry {
        /// The directory.
        directory: InodeNumber,
        /// The inode.
        inode: InodeNumber,
    },
    /// An attribute can't have that value.
    #[error("inode {inode} has a bad {what}")]
    Attribute {
        /// The inode.
        inode: InodeNumber,
        /// Which one.
        what: &'static str,
    },
    /// An inode counts wrongly.
    #[error("inode {inode} says {found} {what}, expected {expected}")]
    Count {
        /// The inode.
        inode: InodeNumber,
        /// What is counted.
        what: &'static str,
        /// What there is.
        expected: u64,
        /// What its attributes say.
        found: u64,
    },
    /// A directory says that it is in another one.
    #[error("directory {inode} is in {expected:?}, not in {found}")]
    Parent {
        /// The directory.
        inode: InodeNumber,
        /// Where its entry is.
        expected: Option<InodeNumber>,
        /// What it says.
        found: InodeNumber,
    },
    /// A directory is not below the root.
    #[error("directory {inode} is not below the root")]
    Loose {
        /// The directory.
        inode: InodeNumber,
    },
    /// An entry of no directory, or an extent of no file.
    #[error("{key:?} is of an inode of another type")]
    Misplaced {
        /// The key.
        key: Key,
    },
    /// An extent overlaps the one before, or bytes are kept behind the file's end.
    #[error("{key:?} overlaps another or the end of the file")]
    Extent {
        /// The key.
        key: Key,
    },
    /// Bytes of the journal are another extent's, too.
    #[error("{key:?} shares bytes of the journal")]
    Shared {
        /// The key.
        key: Key,
    },
    /// A part of an xattr is missing, left over or of another length.
    #[error("{key:?} does not fit its xattr")]
    XattrPart {
        /// The key.
        key: Key,
    },
    /// An inode is noted as an orphan and has a name, or has none and is not noted.
    #[error("inode {inode} is an orphan and is not, or the other way round")]
    Orphan {
        /// The inode.
        inode: InodeNumber,
    },
}
