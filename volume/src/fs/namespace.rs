//! Directories and what is in them: found, made, linked, taken away.

use std::ops::ControlFlow;

use super::FsError;
use super::attributes::{attributes, store};
use super::caller::{Caller, MODE_BITS};
use super::directory::{DIRECTORY_LINKS, Directory, add_entry, check_name, named, remove_entry};
use super::entries::{Edit, Entries, read};
use super::orphan::{Open, Unlinked, drop_name};
use crate::key::{InodeNumber, Key, KeyKind, kinds};
use crate::value::{Attributes, Counters, Entry, Kind, TARGET_BYTES_MAX, Time, Type, decode};

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The directory.
    pub directory: InodeNumber,
    /// The name: 1 to [`NAME_BYTES_MAX`](crate::key::NAME_BYTES_MAX) bytes.
    pub name: &'a [u8],
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub inode: InodeNumber,
    /// Its attributes.
    pub attributes: Attributes,
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New<'a> {
    /// A regular file, empty.
    File,
    /// A directory, empty.
    Directory,
    /// A symlink.
    Symlink {
        /// What it points to.
        target: &'a [u8],
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device; only who is privileged may.
    Character {
        /// Its device number.
        device: u64,
    },
    /// A block device; only who is privileged may.
    Block {
        /// Its device number.
        device: u64,
    },
}

/// An inode to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making<'a> {
    /// What it is.
    pub new: New<'a>,
    /// The low 12 bits of its mode, the mask (`umask`) applied.
    pub mode: u16,
    /// Drawn at random.
    pub generation: u64,
}

/// The root directory to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rooting {
    /// Who owns it.
    pub uid: u32,
    /// Whose group it is.
    pub gid: u32,
    /// The low 12 bits of its mode.
    pub mode: u16,
    /// Drawn at random.
    pub generation: u64,
}

/// An entry of a directory, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// The inode that it names.
    pub inode: InodeNumber,
    /// That inode's type.
    pub kind: Type,
}

/// Makes a volume's first inode, its root directory, and its counters.
///
/// # Errors
///
/// [`FsError::Exists`] when the volume has them.
pub fn format<E: Entries>(edit: &mut Edit<'_, E>, root: Rooting, now: Time) -> Result<(), FsError> {
    if edit.get(&Key::counters())?.is_some() {
        return Err(FsError::Exists);
    }
    let counters = Counters {
        next_inode: InodeNumber::ROOT.get() + 1,
        inodes: 1,
        ..Counters::default()
    };
    edit.set(Key::counters(), &counters);
    let attributes = Attributes {
        kind: Kind::Directory {
            parent: InodeNumber::ROOT,
            entries: 0,
        },
        mode: root.mode & MODE_BITS,
        uid: root.uid,
        gid: root.gid,
        links: DIRECTORY_LINKS,
        size: 0,
        allocated: 0,
        accessed: now,
        modified: now,
        changed: now,
        born: now,
        generation: root.generation,
    };
    store(edit, InodeNumber::ROOT, &attributes);
    Ok(())
}

/// What the volume counts.
///
/// # Errors
///
/// [`FsError::Damaged`] when the volume was never formatted.
pub fn counters<E: Entries>(entries: &E) -> Result<Counters, FsError> {
    let key = Key::counters();
    read(entries, &key)?.ok_or(FsError::Damaged { key })
}

/// The inode of that name. `.` is the directory itself and `..` the one that it is in.
///
/// # Errors
///
/// [`FsError::NoEntry`], [`FsError::NotDirectory`], [`FsError::NameTooLong`], [`FsError::BadName`].
pub fn lookup<E: Entries>(entries: &E, at: Place<'_>) -> Result<Found, FsError> {
    let directory = Directory::read(entries, at.directory)?;
    match at.name {
        b"." => Ok(Found {
            inode: at.directory,
            attributes: directory.attributes,
        }),
        b".." => match attributes(entries, directory.parent) {
            Ok(attributes) => Ok(Found {
                inode: directory.parent,
                attributes,
            }),
            // A directory without a name may outlive the one that it was in.
            Err(FsError::NoInode { .. }) if directory.attributes.links == 0 => {
                Err(FsError::NoEntry)
            }
            Err(error) => Err(error),
        },
        name => {
            check_name(name)?;
            named(entries, at)?.ok_or(FsError::NoEntry)
        }
    }
}

/// Makes an inode and an entry that names it.
///
/// # Errors
///
/// [`FsError::Exists`]; [`FsError::NotDirectory`]; [`FsError::NoEntry`] when the directory was removed or a
/// symlink's target is empty; [`FsError::NotPermitted`] for a device; [`FsError::NameTooLong`] and
/// [`FsError::BadName`], of a target too; [`FsError::TooManyLinks`].
pub fn make<E: Entries>(
    edit: &mut Edit<'_, E>,
    caller: &Caller,
    at: Place<'_>,
    making: Making<'_>,
    now: Time,
) -> Result<Found, FsError> {
    check_name(at.name)?;
    let directory = Directory::read(edit, at.directory)?;
    directory.check_live()?;
    if edit.get(&at.key())?.is_some() {
        return Err(FsError::Exists);
    }
    let kind = making.new.kind(caller, at.directory)?;
    let mut counters = counters(edit)?;
    let inode = InodeNumber::new(counters.next_inode);
    let full = || FsError::NoSpace { what: "inodes" };
    counters.next_inode = counters.next_inode.checked_add(1).ok_or_else(full)?;
    counters.inodes = counters.inodes.checked_add(1).ok_or_else(full)?;
    edit.set(Key::counters(), &counters);
    let (mode, gid) = caller.mode_of_new(&directory.attributes, kind.type_of(), making.mode);
    let (links, size) = links_and_size(&kind);
    let attributes = Attributes {
        mode,
        uid: caller.uid,
        gid,
        links,
        size,
        allocated: 0,
        accessed: now,
        modified: now,
        changed: now,
        born: now,
        generation: making.generation,
        kind,
    };
    let kind = attributes.kind.type_of();
    add_entry(edit, at, Entry { inode, kind }, now)?;
    store(edit, inode, &attributes);
    Ok(Found { inode, attributes })
}

/// Gives an inode one more name.
///
/// # Errors
///
/// [`FsError::Exists`]; [`FsError::NotPermitted`] for a directory; [`FsError::NoEntry`] when the inode has
/// no name any more or the directory was removed; [`FsError::TooManyLinks`]; those of names.
pub fn link<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    at: Place<'_>,
    now: Time,
) -> Result<Attributes, FsError> {
    check_name(at.name)?;
    Directory::read(edit, at.directory)?.check_live()?;
    if edit.get(&at.key())?.is_some() {
        return Err(FsError::Exists);
    }
    let mut attributes = attributes(edit, inode)?;
    let kind = attributes.kind.type_of();
    if kind == Type::Directory {
        return Err(FsError::NotPermitted);
    }
    if attributes.links == 0 {
        return Err(FsError::NoEntry);
    }
    let links = attributes.links.checked_add(1);
    attributes.links = links.ok_or(FsError::TooManyLinks)?;
    attributes.changed = now;
    store(edit, inode, &attributes);
    add_entry(edit, at, Entry { inode, kind }, now)?;
    Ok(attributes)
}

/// Takes a name from an inode that is no directory.
///
/// # Errors
///
/// [`FsError::NoEntry`], [`FsError::IsDirectory`], [`FsError::NotPermitted`] in a sticky directory; those of
/// names.
pub fn unlink<E: Entries>(
    edit: &mut Edit<'_, E>,
    caller: &Caller,
    at: Place<'_>,
    open: Open,
    now: Time,
) -> Result<Unlinked, FsError> {
    let victim = to_take(edit, caller, at)?;
    if victim.is_directory() {
        return Err(FsError::IsDirectory);
    }
    remove_entry(edit, at, &victim, now)?;
    drop_name(edit, victim.inode, victim.attributes, open, now)
}

/// Takes an empty directory away.
///
/// # Errors
///
/// [`FsError::NoEntry`], [`FsError::NotDirectory`], [`FsError::NotEmpty`], [`FsError::NotPermitted`] in a
/// sticky directory; those of names.
pub fn rmdir<E: Entries>(
    edit: &mut Edit<'_, E>,
    caller: &Caller,
    at: Place<'_>,
    open: Open,
    now: Time,
) -> Result<Unlinked, FsError> {
    let victim = to_take(edit, caller, at)?;
    victim.check_empty_directory()?;
    remove_entry(edit, at, &victim, now)?;
    drop_name(edit, victim.inode, victim.attributes, open, now)
}

/// What a symlink points to.
///
/// # Errors
///
/// [`FsError::Invalid`] when it is none.
pub fn read_link<E: Entries>(entries: &E, inode: InodeNumber) -> Result<Vec<u8>, FsError> {
    let Kind::Symlink { target } = attributes(entries, inode)?.kind else {
        return Err(FsError::Invalid {
            what: "not a symlink",
        });
    };
    Ok(target)
}

/// Entries of a directory in the order of their names' bytes, behind the name `after` (empty for the first),
/// at most `count_max`; fewer when a page is missing behind them, and none only at the end. `.` and `..` are
/// not among them.
///
/// # Errors
///
/// [`FsError::NotDirectory`].
pub fn read_directory<E: Entries>(
    entries: &E,
    directory: InodeNumber,
    after: &[u8],
    count_max: usize,
) -> Result<Vec<DirectoryEntry>, FsError> {
    Directory::read(entries, directory)?;
    let mut from = Key::entry(directory, after).as_bytes().to_vec();
    from.push(0);
    let keys = (Key::from_bytes(&from), Key::end_of(directory, kinds::ENTRY));
    let (mut found, mut damaged) = (Vec::new(), None);
    let scanned = entries.scan(&keys.0..&keys.1, |key, value| {
        if found.len() >= count_max {
            return ControlFlow::Break(());
        }
        let key = Key::from_bytes(key);
        match (key.kind(), decode(value)) {
            (Some(KeyKind::Entry(_, name)), Some(Entry { inode, kind })) => {
                let name = name.into();
                found.push(DirectoryEntry { name, inode, kind });
                ControlFlow::Continue(())
            }
            _ => {
                damaged = Some(key.clone());
                ControlFlow::Break(())
            }
        }
    });
    match (scanned, damaged) {
        (Err(absent), _) if found.is_empty() => Err(absent.into()),
        (_, Some(key)) => Err(FsError::damaged(key)),
        _ => Ok(found),
    }
}

impl Place<'_> {
    pub(super) fn key(&self) -> Key {
        Key::entry(self.directory, self.name)
    }
}

impl New<'_> {
    fn kind(self, caller: &Caller, directory: InodeNumber) -> Result<Kind, FsError> {
        Ok(match self {
            Self::File => Kind::File,
            Self::Directory => Kind::Directory {
                parent: directory,
                entries: 0,
            },
            Self::Symlink { target } => {
                check_target(target)?;
                let target = target.to_vec();
                Kind::Symlink { target }
            }
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::Character { .. } | Self::Block { .. } if !caller.is_superuser() => {
                return Err(FsError::NotPermitted);
            }
            Self::Character { device } => Kind::Character { device },
            Self::Block { device } => Kind::Block { device },
        })
    }
}

impl Found {
    pub(super) fn is_directory(&self) -> bool {
        self.attributes.kind.type_of() == Type::Directory
    }

    /// It must be a directory without entries.
    pub(super) const fn check_empty_directory(&self) -> Result<(), FsError> {
        let Kind::Directory { entries, .. } = self.attributes.kind else {
            return Err(FsError::NotDirectory);
        };
        if entries > 0 {
            return Err(FsError::NotEmpty);
        }
        Ok(())
    }
}

/// The inode whose name the caller wants to take away, if it may.
fn to_take<E: Entries>(
    edit: &Edit<'_, E>,
    caller: &Caller,
    at: Place<'_>,
) -> Result<Found, FsError> {
    check_name(at.name)?;
    let directory = Directory::read(edit, at.directory)?;
    let victim = named(edit, at)?.ok_or(FsError::NoEntry)?;
    caller.may_take(&directory.attributes, &victim.attributes)?;
    Ok(victim)
}

/// The links and the size of a new inode.
fn links_and_size(kind: &Kind) -> (u32, u64) {
    match kind {
        Kind::Directory { .. } => (DIRECTORY_LINKS, 0),
        Kind::Symlink { target } => {
            let bytes = u64::try_from(target.len()).expect("a target is short");
            (1, bytes)
        }
        Kind::File | Kind::Fifo | Kind::Socket | Kind::Character { .. } | Kind::Block { .. } => {
            (1, 0)
        }
    }
}

fn check_target(target: &[u8]) -> Result<(), FsError> {
    if target.is_empty() {
        return Err(FsError::NoEntry);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(FsError::NameTooLong {
            found: target.len(),
            max: TARGET_BYTES_MAX,
        });
    }
    if target.contains(&0) {
        return Err(FsError::BadName);
    }
    Ok(())
}
