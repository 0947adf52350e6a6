//! What a file system does, as functions from what is known to what changes.
//!
//! Whoever serves calls (the mount, the gateway, the command line) reads through [`Entries`] and changes
//! through an [`Edit`]; time and entropy come with the call. Nothing here waits or reads a disk: when a page
//! is missing, the error is [`FsError::Absent`], and the call is made again when the page is there.
//!
//! **Guarantees**: what an [`Edit`] gives after a call that succeeded keeps every rule that [`Check`] looks
//! for; one call changes at most some [`STEP_KEYS_MAX`] keys, or says that it must be made again.
//!
//! **Assumes**: one writer at a time; permission bits were checked by the caller, as a kernel does. Rules
//! that depend on who owns what (sticky folders, chown, set-user-id) are kept here.
//!
//! **Fails**: an [`Edit`] whose call failed may hold half a change and must be dropped.
//!
//! What an inode holds beyond its size is [`Source::Zeros`](crate::value::Source::Zeros) or nothing, so that
//! a file that grows shows zeros.

mod attributes;
mod caller;
mod check;
mod content;
mod copy;
mod directory;
mod entries;
mod error;
mod extents;
mod namespace;
mod orphan;
mod rename;
mod seek;
mod xattr;

#[cfg(test)]
mod tests;

pub use attributes::{SetAttributes, SetTime, attributes, note_access, set_attributes};
pub use caller::{Caller, MODE_BITS, Privilege};
pub use check::{Check, FLAWS_MAX, Flaw, check};
pub use content::{SizeRule, Touch, allocate, punch_hole, truncate, write, zero_range};
pub use copy::{Copied, CopyRange, copy_range};
pub use entries::{Changes, Edit, Entries, View};
pub use error::FsError;
pub use extents::{Move, Relocated, Span, relocate, spans, usage_delta};
pub use namespace::{
    DirectoryEntry, Found, Making, New, Place, Rooting, counters, format, link, lookup, make,
    read_directory, read_link, rmdir, unlink,
};
pub use orphan::{Fate, Open, Unlinked, forget_orphan, orphans};
pub use rename::{RenameMode, Renaming, rename};
pub use seek::{Seek, Sought, seek};
pub use xattr::{
    NewXattr, SetMode, XATTR_LIST_BYTES_MAX, list_xattrs, remove_xattr, set_xattr, xattr,
};

/// Most extents or xattrs that one call takes away: so a change stays far below a record of the journal,
/// and nobody waits long for it.
pub const STEP_KEYS_MAX: usize = 1_024;

/// Whether a call that works in steps is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is.
    Done,
    /// Commit this edit and make the same call again.
    More,
}
