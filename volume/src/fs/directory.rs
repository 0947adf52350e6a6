//! Directories and their entries, as they are read and changed: what the calls on names build on.

use super::FsError;
use super::attributes::{attributes, referred, store};
use super::entries::{Edit, Entries, read};
use super::namespace::{Found, Place};
use crate::key::{InodeNumber, Key, NAME_BYTES_MAX};
use crate::value::{Attributes, Entry, Kind, Time, Type};

/// Links of a directory that has no directories in it: its entry and its own `.`.
pub(super) const DIRECTORY_LINKS: u32 = 2;

/// A directory, as it was read.
#[derive(Debug)]
pub(super) struct Directory {
    inode: InodeNumber,
    pub(super) attributes: Attributes,
    pub(super) parent: InodeNumber,
    entries: u64,
}

impl Directory {
    pub(super) fn read<E: Entries>(entries: &E, inode: InodeNumber) -> Result<Self, FsError> {
        let attributes = attributes(entries, inode)?;
        let Kind::Directory { parent, entries } = attributes.kind else {
            return Err(FsError::NotDirectory);
        };
        Ok(Self {
            inode,
            attributes,
            parent,
            entries,
        })
    }

    /// Nothing is made in a directory that was removed.
    pub(super) const fn check_live(&self) -> Result<(), FsError> {
        if self.attributes.links == 0 {
            Err(FsError::NoEntry)
        } else {
            Ok(())
        }
    }

    fn damaged(&self) -> FsError {
        FsError::damaged(Key::attributes(self.inode))
    }

    fn write<E: Entries>(self, edit: &mut Edit<'_, E>, now: Time) {
        let attributes = Attributes {
            kind: Kind::Directory {
                parent: self.parent,
                entries: self.entries,
            },
            modified: now,
            changed: now,
            ..self.attributes
        };
        store(edit, self.inode, &attributes);
    }
}

/// The inode that an entry names.
pub(super) fn named<E: Entries>(entries: &E, at: Place<'_>) -> Result<Option<Found>, FsError> {
    let key = at.key();
    let Some(Entry { inode, kind }) = read(entries, &key)? else {
        return Ok(None);
    };
    let attributes = referred(entries, inode)?;
    if attributes.kind.type_of() != kind {
        return Err(FsError::Damaged { key });
    }
    Ok(Some(Found { inode, attributes }))
}

/// Puts an entry into a directory that has none of that name.
pub(super) fn add_entry<E: Entries>(
    edit: &mut Edit<'_, E>,
    at: Place<'_>,
    entry: Entry,
    now: Time,
) -> Result<(), FsError> {
    let mut directory = Directory::read(edit, at.directory)?;
    let entries = directory.entries.checked_add(1);
    directory.entries = entries.ok_or_else(|| directory.damaged())?;
    if entry.kind == Type::Directory {
        let links = directory.attributes.links.checked_add(1);
        directory.attributes.links = links.ok_or(FsError::TooManyLinks)?;
    }
    directory.write(edit, now);
    edit.set(at.key(), &entry);
    Ok(())
}

/// Takes the entry that names `victim` from its directory.
pub(super) fn remove_entry<E: Entries>(
    edit: &mut Edit<'_, E>,
    at: Place<'_>,
    victim: &Found,
    now: Time,
) -> Result<(), FsError> {
    let mut directory = Directory::read(edit, at.directory)?;
    let entries = directory.entries.checked_sub(1);
    directory.entries = entries.ok_or_else(|| directory.damaged())?;
    if victim.is_directory() {
        let links = directory.attributes.links.checked_sub(1);
        directory.attributes.links = links.ok_or_else(|| directory.damaged())?;
    }
    directory.write(edit, now);
    edit.remove(at.key());
    Ok(())
}

/// Whether an entry may have that name.
pub(super) fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(FsError::NameTooLong {
            found: name.len(),
            max: NAME_BYTES_MAX,
        });
    }
    let reserved = matches!(name, b"" | b"." | b"..");
    if reserved || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(FsError::BadName);
    }
    Ok(())
}
