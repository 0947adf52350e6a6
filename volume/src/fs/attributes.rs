//! Attributes of inodes: read and set.

use super::caller::{Caller, MODE_BITS, SET_GID};
use super::content::{Touch, truncate};
use super::entries::{Edit, Entries, read};
use super::{FsError, Step};
use crate::key::{InodeNumber, Key};
use crate::value::{Attributes, Time, Type};

/// Nanoseconds of a second.
const NANOS: u32 = 1_000_000_000;
/// A time of access is kept anew when the old one is that old, even if nothing changed since: as on Linux.
const ACCESS_KEPT_SECONDS: i64 = 24 * 60 * 60;

/// How a time is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SetTime {
    /// It stays.
    #[default]
    Omit,
    /// To now. Whoever may write the file may do so; the caller has checked that.
    Now,
    /// To this time.
    At(Time),
}

/// Attributes to set; what is none stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SetAttributes {
    /// The low 12 bits of the mode.
    pub mode: Option<u16>,
    /// Who owns it.
    pub uid: Option<u32>,
    /// Whose group it is.
    pub gid: Option<u32>,
    /// Bytes of a file.
    pub size: Option<u64>,
    /// When it was last read.
    pub accessed: SetTime,
    /// When its content changed last.
    pub modified: SetTime,
}

/// The attributes of an inode.
///
/// # Errors
///
/// [`FsError::NoInode`] when there is none.
pub fn attributes<E: Entries>(entries: &E, inode: InodeNumber) -> Result<Attributes, FsError> {
    if inode == InodeNumber::VOLUME {
        return Err(FsError::NoInode { inode });
    }
    read(entries, &Key::attributes(inode))?.ok_or(FsError::NoInode { inode })
}

/// The attributes of an inode that something in the tree refers to.
pub(super) fn referred<E: Entries>(entries: &E, inode: InodeNumber) -> Result<Attributes, FsError> {
    match attributes(entries, inode) {
        Err(FsError::NoInode { inode }) => Err(FsError::damaged(Key::attributes(inode))),
        other => other,
    }
}

/// Writes the attributes of an inode.
pub(super) fn store<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    attributes: &Attributes,
) {
    edit.set(Key::attributes(inode), attributes);
}

/// Sets attributes, as `chown`, `chmod`, `truncate` and `utimensat` would, one after the other. On
/// [`Step::More`] the file was only made shorter in part; the same call goes on.
///
/// # Errors
///
/// [`FsError::NotPermitted`] by the rules of Linux on owners; [`FsError::IsDirectory`],
/// [`FsError::Invalid`] or [`FsError::FileTooLarge`] for a size; [`FsError::NotSupported`] for the mode of a
/// symlink.
pub fn set_attributes<E: Entries>(
    edit: &mut Edit<'_, E>,
    caller: &Caller,
    inode: InodeNumber,
    set: &SetAttributes,
    now: Time,
) -> Result<(Attributes, Step), FsError> {
    let before = attributes(edit, inode)?;
    set.permitted(caller, &before)?;
    if *set == SetAttributes::default() {
        return Ok((before, Step::Done));
    }
    if let Some(size) = set.size {
        let touch = Touch { caller, inode, now };
        if truncate(edit, touch, size)? == Step::More {
            return Ok((attributes(edit, inode)?, Step::More));
        }
    }
    let mut after = attributes(edit, inode)?;
    set.apply(caller, &mut after, now);
    store(edit, inode, &after);
    Ok((after, Step::Done))
}

/// Notes that an inode was read, if its time of access is worth keeping anew (`relatime`).
///
/// # Errors
///
/// [`FsError::NoInode`] when there is none.
pub fn note_access<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    now: Time,
) -> Result<(), FsError> {
    let mut attributes = attributes(edit, inode)?;
    let last = attributes.accessed;
    let old = now.seconds.saturating_sub(last.seconds) >= ACCESS_KEPT_SECONDS;
    if old || last <= attributes.modified || last <= attributes.changed {
        attributes.accessed = now;
        store(edit, inode, &attributes);
    }
    Ok(())
}

impl SetAttributes {
    fn permitted(&self, caller: &Caller, before: &Attributes) -> Result<(), FsError> {
        let owns = caller.owns(before);
        if let Some(uid) = self.uid
            && !caller.is_superuser()
            && !(owns && uid == before.uid)
        {
            return Err(FsError::NotPermitted);
        }
        if let Some(gid) = self.gid
            && !caller.is_superuser()
            && !(owns && (gid == before.gid || caller.is_in(gid)))
        {
            return Err(FsError::NotPermitted);
        }
        if self.mode.is_some() {
            if before.kind.type_of() == Type::Symlink {
                return Err(FsError::NotSupported);
            }
            if !owns {
                return Err(FsError::NotPermitted);
            }
        }
        for time in [self.accessed, self.modified] {
            if let SetTime::At(time) = time {
                if !owns {
                    return Err(FsError::NotPermitted);
                }
                if time.nanos >= NANOS {
                    return Err(FsError::Invalid {
                        what: "nanoseconds of a second or more",
                    });
                }
            }
        }
        Ok(())
    }

    fn apply(&self, caller: &Caller, inode: &mut Attributes, now: Time) {
        if self.uid.is_some() || self.gid.is_some() {
            inode.mode = caller.mode_after_chown(inode);
        }
        inode.uid = self.uid.unwrap_or(inode.uid);
        inode.gid = self.gid.unwrap_or(inode.gid);
        if let Some(mode) = self.mode {
            let group = if caller.may_use_group(inode.gid) {
                SET_GID
            } else {
                0
            };
            inode.mode = mode & ((MODE_BITS & !SET_GID) | group);
        }
        self.accessed.apply(&mut inode.accessed, now);
        self.modified.apply(&mut inode.modified, now);
        inode.changed = now;
    }
}

impl SetTime {
    const fn apply(self, time: &mut Time, now: Time) {
        match self {
            Self::Omit => {}
            Self::Now => *time = now,
            Self::At(at) => *time = at,
        }
    }
}
