//! Why a file system refuses.

use crate::key::{InodeNumber, Key};
use crate::run::RunRef;
use crate::tree::Absent;

/// Why a call failed, and the error number of POSIX that it means:
///
/// | error | number |
/// |---|---|
/// | [`Absent`](Self::Absent) | none: fetch the page and call again |
/// | [`NoEntry`](Self::NoEntry) | `ENOENT` |
/// | [`NoInode`](Self::NoInode) | `ESTALE` |
/// | [`Exists`](Self::Exists) | `EEXIST` |
/// | [`NotDirectory`](Self::NotDirectory) | `ENOTDIR` |
/// | [`IsDirectory`](Self::IsDirectory) | `EISDIR` |
/// | [`NotEmpty`](Self::NotEmpty) | `ENOTEMPTY` |
/// | [`NameTooLong`](Self::NameTooLong) | `ENAMETOOLONG` |
/// | [`BadName`](Self::BadName) | `EINVAL` |
/// | [`TooManyLinks`](Self::TooManyLinks) | `EMLINK` |
/// | [`FileTooLarge`](Self::FileTooLarge) | `EFBIG` |
/// | [`NotPermitted`](Self::NotPermitted) | `EPERM` |
/// | [`NotSupported`](Self::NotSupported) | `EOPNOTSUPP` |
/// | [`Invalid`](Self::Invalid) | `EINVAL` |
/// | [`NothingThere`](Self::NothingThere) | `ENXIO` |
/// | [`NoXattr`](Self::NoXattr) | `ENODATA` |
/// | [`XattrTooLarge`](Self::XattrTooLarge) | `E2BIG` |
/// | [`NoSpace`](Self::NoSpace) | `ENOSPC` |
/// | [`Damaged`](Self::Damaged) | `EIO` |
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// A page is not in memory.
    #[error("page {0:?} is not in memory")]
    Absent(RunRef),
    /// No entry has that name, or the directory was removed.
    #[error("no such entry")]
    NoEntry,
    /// The inode is gone.
    #[error("no inode {inode}")]
    NoInode {
        /// Its number.
        inode: InodeNumber,
    },
    /// There is an entry of that name already.
    #[error("the entry exists")]
    Exists,
    /// It must be a directory and is none.
    #[error("not a directory")]
    NotDirectory,
    /// It must not be a directory and is one.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory is not empty")]
    NotEmpty,
    /// A name or a symlink's target is too long.
    #[error("name of {found} bytes, expected at most {max}")]
    NameTooLong {
        /// Bytes it has.
        found: usize,
        /// Most bytes it may have.
        max: usize,
    },
    /// A name that no entry can have: empty, `.`, `..`, or with a slash or a NUL in it.
    #[error("no name for an entry or an xattr")]
    BadName,
    /// The inode has as many links as can be counted.
    #[error("too many links")]
    TooManyLinks,
    /// Beyond the largest file.
    #[error("end beyond {max} bytes")]
    FileTooLarge {
        /// Most bytes of a file.
        max: u64,
    },
    /// Only the owner, or who is privileged, may.
    #[error("not permitted")]
    NotPermitted,
    /// Not done for that kind of inode.
    #[error("not supported for this kind of inode")]
    NotSupported,
    /// What was asked makes no sense.
    #[error("invalid: {what}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// No data, and no hole, at or behind that offset.
    #[error("nothing at or behind the offset")]
    NothingThere,
    /// The inode has no xattr of that name.
    #[error("no such xattr")]
    NoXattr,
    /// The value of an xattr is too long.
    #[error("xattr of {found} bytes, expected at most {max}")]
    XattrTooLarge {
        /// Bytes it has.
        found: usize,
        /// Most bytes it may have.
        max: usize,
    },
    /// No room for more of these.
    #[error("no room for more {what}")]
    NoSpace {
        /// Of what.
        what: &'static str,
    },
    /// A value is missing or is not what it must be: the tree was damaged, or forged by a writer.
    #[error("damaged at {key:?}")]
    Damaged {
        /// Its key.
        key: Key,
    },
}

impl FsError {
    /// The value at `key` is missing or wrong.
    pub(super) const fn damaged(key: Key) -> Self {
        Self::Damaged { key }
    }
}

impl From<Absent> for FsError {
    fn from(Absent(run): Absent) -> Self {
        Self::Absent(run)
    }
}
