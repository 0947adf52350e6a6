//! Names that change.

use super::FsError;
use super::attributes::store;
use super::caller::Caller;
use super::directory::{Directory, add_entry, check_name, named, remove_entry};
use super::entries::{Edit, Entries};
use super::namespace::{Found, Place, counters};
use super::orphan::{Open, Unlinked, drop_name};
use crate::key::{InodeNumber, Key};
use crate::value::{Entry, Kind, Time};

/// Most directories above one that is moved into: more than any path can name, and few enough that a forged
/// tree does not hold anybody.
const DEPTH_MAX: u64 = 1 << 20;

/// What a rename does with an entry that has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Takes its place.
    Replace,
    /// Fails.
    NoReplace,
    /// Gives it the old name; there must be one.
    Exchange,
}

/// How to rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renaming {
    /// What becomes of an entry that has the new name.
    pub mode: RenameMode,
    /// Whether anybody has the inode open that is replaced.
    pub open: Open,
    /// The time.
    pub now: Time,
}

/// Gives an inode another name, in the same directory or in another. Says what it replaced. Nothing happens
/// when both names are the same inode's.
///
/// # Errors
///
/// [`FsError::NoEntry`]; [`FsError::Exists`] when it must not replace; [`FsError::Invalid`] for a directory
/// that would be inside itself; [`FsError::NotPermitted`] in a sticky directory; [`FsError::NotDirectory`],
/// [`FsError::IsDirectory`] and [`FsError::NotEmpty`] when one may not take the other's place;
/// [`FsError::TooManyLinks`]; those of names.
pub fn rename<E: Entries>(
    edit: &mut Edit<'_, E>,
    caller: &Caller,
    from: Place<'_>,
    to: Place<'_>,
    renaming: Renaming,
) -> Result<Option<Unlinked>, FsError> {
    let (source, target) = permitted(edit, caller, (from, to), renaming.mode)?;
    match target {
        Some(target) if target.inode == source.inode => Ok(None),
        Some(target) if renaming.mode == RenameMode::Exchange => {
            remove_entry(edit, from, &source, renaming.now)?;
            remove_entry(edit, to, &target, renaming.now)?;
            put(edit, from, target, renaming.now)?;
            put(edit, to, source, renaming.now)?;
            Ok(None)
        }
        Some(target) => {
            check_replaces(&source, &target)?;
            remove_entry(edit, to, &target, renaming.now)?;
            let Found { inode, attributes } = target;
            let unlinked = drop_name(edit, inode, attributes, renaming.open, renaming.now)?;
            remove_entry(edit, from, &source, renaming.now)?;
            put(edit, to, source, renaming.now)?;
            Ok(Some(unlinked))
        }
        None => {
            remove_entry(edit, from, &source, renaming.now)?;
            put(edit, to, source, renaming.now)?;
            Ok(None)
        }
    }
}

/// What has the old name and what the new, if they may be renamed so far as their types do not matter.
fn permitted<E: Entries>(
    edit: &Edit<'_, E>,
    caller: &Caller,
    (from, to): (Place<'_>, Place<'_>),
    mode: RenameMode,
) -> Result<(Found, Option<Found>), FsError> {
    check_name(from.name)?;
    check_name(to.name)?;
    let from_directory = Directory::read(edit, from.directory)?;
    let to_directory = Directory::read(edit, to.directory)?;
    let source = named(edit, from)?.ok_or(FsError::NoEntry)?;
    to_directory.check_live()?;
    let target = named(edit, to)?;
    match (mode, &target) {
        (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists),
        (RenameMode::Exchange, None) => return Err(FsError::NoEntry),
        (RenameMode::Replace | RenameMode::NoReplace | RenameMode::Exchange, _) => {}
    }
    if from.directory != to.directory {
        check_outside(edit, to.directory, &source)?;
    }
    if from.directory != to.directory
        && mode == RenameMode::Exchange
        && let Some(target) = &target
    {
        check_outside(edit, from.directory, target)?;
    }
    match &target {
        // Whoever may: nothing happens.
        Some(target) if target.inode == source.inode => {}
        Some(target) => {
            caller.may_take(&from_directory.attributes, &source.attributes)?;
            caller.may_take(&to_directory.attributes, &target.attributes)?;
        }
        None => caller.may_take(&from_directory.attributes, &source.attributes)?,
    }
    Ok((source, target))
}

/// A directory must not get into itself: `directory` is neither it nor anywhere inside.
fn check_outside<E: Entries>(
    edit: &Edit<'_, E>,
    directory: InodeNumber,
    moved: &Found,
) -> Result<(), FsError> {
    if !moved.is_directory() {
        return Ok(());
    }
    let mut at = directory;
    // A path is no longer than there are inodes; a longer one goes in a circle.
    for _ in 0..counters(edit)?.inodes.min(DEPTH_MAX) {
        if at == moved.inode {
            return Err(FsError::Invalid {
                what: "a directory inside itself",
            });
        }
        if at == InodeNumber::ROOT {
            return Ok(());
        }
        at = Directory::read(edit, at)?.parent;
    }
    Err(FsError::damaged(Key::attributes(directory)))
}

fn check_replaces(source: &Found, target: &Found) -> Result<(), FsError> {
    match (source.is_directory(), target.is_directory()) {
        (true, _) => target.check_empty_directory(),
        (false, true) => Err(FsError::IsDirectory),
        (false, false) => Ok(()),
    }
}

/// Gives an inode whose entry was taken away a new one.
fn put<E: Entries>(
    edit: &mut Edit<'_, E>,
    at: Place<'_>,
    found: Found,
    now: Time,
) -> Result<(), FsError> {
    let Found {
        inode,
        mut attributes,
    } = found;
    if let Kind::Directory { parent, .. } = &mut attributes.kind {
        *parent = at.directory;
    }
    attributes.changed = now;
    store(edit, inode, &attributes);
    let kind = attributes.kind.type_of();
    add_entry(edit, at, Entry { inode, kind }, now)
}
