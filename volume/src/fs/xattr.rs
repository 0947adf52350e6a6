//! Extended attributes. A long value is spread over several keys.

use std::ops::{ControlFlow, Range};

use super::FsError;
use super::attributes::{attributes, store};
use super::entries::{Edit, Entries, read};
use crate::key::{InodeNumber, Key, KeyKind, NAME_BYTES_MAX, kinds};
use crate::value::{Time, XATTR_BYTES_MAX, XATTR_PART_BYTES, Xattr};

/// Most bytes of all names of an inode's xattrs, each with one byte behind it: a list of more could not be
/// handed up, as on Linux.
pub const XATTR_LIST_BYTES_MAX: usize = 65_536;

/// Whether an xattr must be there when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// It may be.
    Any,
    /// It must not be.
    Create,
    /// It must be.
    Replace,
}

/// An xattr to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewXattr<'a> {
    /// Its name, 1 to [`NAME_BYTES_MAX`] bytes without NUL.
    pub name: &'a [u8],
    /// Its value, up to [`XATTR_BYTES_MAX`] bytes.
    pub value: &'a [u8],
    /// Whether it must be there.
    pub mode: SetMode,
}

/// The value of an xattr.
///
/// # Errors
///
/// [`FsError::NoInode`], [`FsError::NoXattr`], [`FsError::NameTooLong`], [`FsError::BadName`].
pub fn xattr<E: Entries>(entries: &E, inode: InodeNumber, name: &[u8]) -> Result<Vec<u8>, FsError> {
    check_name(name)?;
    attributes(entries, inode)?;
    let first = Key::xattr(inode, name);
    let Some(xattr) = read::<Xattr>(entries, &first)? else {
        return Err(FsError::NoXattr);
    };
    let bytes = usize::try_from(xattr.bytes).unwrap_or(usize::MAX);
    if bytes > XATTR_BYTES_MAX {
        return Err(FsError::damaged(first));
    }
    let mut value = xattr.first;
    for number in later_parts(bytes) {
        let key = Key::xattr_part(inode, name, number);
        match entries.get(&key)? {
            Some(part) => value.extend_from_slice(&part),
            None => return Err(FsError::damaged(key)),
        }
    }
    if value.len() == bytes {
        Ok(value)
    } else {
        Err(FsError::damaged(first))
    }
}

/// Sets an xattr.
///
/// # Errors
///
/// [`FsError::NoInode`]; [`FsError::Exists`] or [`FsError::NoXattr`] by the mode; [`FsError::XattrTooLarge`];
/// [`FsError::NoSpace`] beyond [`XATTR_LIST_BYTES_MAX`]; [`FsError::NameTooLong`], [`FsError::BadName`].
pub fn set_xattr<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    new: NewXattr<'_>,
    now: Time,
) -> Result<(), FsError> {
    check_name(new.name)?;
    let found = new.value.len();
    let bytes = u32::try_from(found).ok();
    let bytes = bytes.filter(|_| found <= XATTR_BYTES_MAX);
    let bytes = bytes.ok_or(FsError::XattrTooLarge {
        found,
        max: XATTR_BYTES_MAX,
    })?;
    let mut attributes = attributes(edit, inode)?;
    let old = read::<Xattr>(edit, &Key::xattr(inode, new.name))?;
    match (new.mode, &old) {
        (SetMode::Create, Some(_)) => return Err(FsError::Exists),
        (SetMode::Replace, None) => return Err(FsError::NoXattr),
        (SetMode::Any | SetMode::Create, None) => check_room(edit, inode, new.name)?,
        (SetMode::Any | SetMode::Replace, Some(_)) => {}
    }
    if let Some(old) = old {
        remove_parts(edit, inode, new.name, &old);
    }
    let (first, rest) = new.value.split_at(found.min(XATTR_PART_BYTES));
    let first = first.to_vec();
    edit.set(Key::xattr(inode, new.name), &Xattr { bytes, first });
    for (number, part) in (1..).zip(rest.chunks(XATTR_PART_BYTES)) {
        edit.put(Key::xattr_part(inode, new.name, number), Some(part.into()));
    }
    attributes.changed = now;
    store(edit, inode, &attributes);
    Ok(())
}

/// Takes an xattr away.
///
/// # Errors
///
/// [`FsError::NoInode`], [`FsError::NoXattr`], [`FsError::NameTooLong`], [`FsError::BadName`].
pub fn remove_xattr<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    name: &[u8],
    now: Time,
) -> Result<(), FsError> {
    check_name(name)?;
    let mut attributes = attributes(edit, inode)?;
    let key = Key::xattr(inode, name);
    let old = read::<Xattr>(edit, &key)?.ok_or(FsError::NoXattr)?;
    remove_parts(edit, inode, name, &old);
    edit.remove(key);
    attributes.changed = now;
    store(edit, inode, &attributes);
    Ok(())
}

/// Names of an inode's xattrs in the order of their bytes, together at most [`XATTR_LIST_BYTES_MAX`] bytes.
///
/// # Errors
///
/// [`FsError::NoInode`].
pub fn list_xattrs<E: Entries>(entries: &E, inode: InodeNumber) -> Result<Vec<Box<[u8]>>, FsError> {
    attributes(entries, inode)?;
    let mut names = Vec::new();
    visit_names(entries, inode, |name| names.push(name.into()))?;
    Ok(names)
}

fn visit_names<E: Entries, F>(entries: &E, inode: InodeNumber, mut visit: F) -> Result<(), FsError>
where
    F: FnMut(&[u8]),
{
    let keys = (
        Key::start_of(inode, kinds::XATTR),
        Key::end_of(inode, kinds::XATTR),
    );
    let mut damaged = None;
    entries.scan(&keys.0..&keys.1, |key, _| {
        let key = Key::from_bytes(key);
        if let Some(KeyKind::Xattr(_, name)) = key.kind() {
            visit(name);
            return ControlFlow::Continue(());
        }
        damaged = Some(key);
        ControlFlow::Break(())
    })?;
    damaged.map_or(Ok(()), |key| Err(FsError::damaged(key)))
}

/// One more name must still fit a list.
fn check_room<E: Entries>(entries: &E, inode: InodeNumber, name: &[u8]) -> Result<(), FsError> {
    let mut bytes = name.len() + 1;
    visit_names(entries, inode, |name| bytes += name.len() + 1)?;
    if bytes > XATTR_LIST_BYTES_MAX {
        return Err(FsError::NoSpace { what: "xattrs" });
    }
    Ok(())
}

fn remove_parts<E: Entries>(edit: &mut Edit<'_, E>, inode: InodeNumber, name: &[u8], old: &Xattr) {
    let bytes = usize::try_from(old.bytes).unwrap_or(usize::MAX);
    for number in later_parts(bytes) {
        edit.remove(Key::xattr_part(inode, name, number));
    }
}

/// Numbers of the parts behind the first that a value of so many bytes has.
pub(super) fn later_parts(bytes: usize) -> Range<u8> {
    let parts = bytes.min(XATTR_BYTES_MAX).div_ceil(XATTR_PART_BYTES);
    1..u8::try_from(parts).expect("a value has few parts").max(1)
}

fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(FsError::NameTooLong {
            found: name.len(),
            max: NAME_BYTES_MAX,
        });
    }
    if name.is_empty() || name.contains(&0) {
        return Err(FsError::BadName);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::New;
    use crate::fs::tests::{World, at};

    fn set(
        world: &mut World,
        inode: InodeNumber,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), FsError> {
        let mode = SetMode::Any;
        let new = NewXattr { name, value, mode };
        world.change(|edit| set_xattr(edit, inode, new, at(3)))
    }

    #[test]
    fn values_of_every_length_come_back() {
        let mut world = World::new();
        let file = world.make(b"f", New::File);
        let lengths = [0, 1, 4_095, 4_096, 4_097, 8_192, 8_193, 65_535, 65_536];
        // Longer and shorter in turn, so that parts come and go.
        for length in lengths.into_iter().chain(lengths.into_iter().rev()) {
            let value: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            set(&mut world, file, b"user.a", &value).unwrap();
            set(&mut world, file, b"user.a\x01", b"other").unwrap();
            assert_eq!(xattr(&world.map, file, b"user.a"), Ok(value));
            world.check();
        }
        let error = FsError::XattrTooLarge {
            found: 65_537,
            max: 65_536,
        };
        let refused = set(&mut world, file, b"user.a", &[0; 65_537]);
        assert_eq!(refused, Err(error));
    }

    #[test]
    fn every_value_fits_a_page_with_others() {
        let mut world = World::new();
        let file = world.make(b"f", New::File);
        set(&mut world, file, &[b'n'; 255], &[1; XATTR_BYTES_MAX]).unwrap();
        let keys = (Key::start_of(file, 0), Key::end_of(file, u8::MAX));
        let (mut longest, mut count) = (0, 0);
        world
            .map
            .scan(&keys.0..&keys.1, |_, value| {
                longest = longest.max(value.len());
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(longest < 4_200);
        // The attributes and sixteen parts.
        assert_eq!(count, 17);
    }

    #[test]
    fn names_fit_a_list() {
        let mut world = World::new();
        let file = world.make(b"f", New::File);
        for number in 0..256_u32 {
            let mut name = vec![b'n'; 251];
            name.extend(format!("{number:04}").bytes());
            set(&mut world, file, &name, b"v").unwrap();
        }
        let refused = set(&mut world, file, b"a", b"v");
        assert_eq!(refused, Err(FsError::NoSpace { what: "xattrs" }));
        let names = list_xattrs(&world.map, file).unwrap();
        assert_eq!(names.len(), 256);
        // One that is there may still be set, and another when one is gone.
        set(&mut world, file, &names[0], b"w").unwrap();
        world
            .change(|edit| remove_xattr(edit, file, &names[0], at(4)))
            .unwrap();
        set(&mut world, file, b"a", b"v").unwrap();
        world.check();
    }

    #[test]
    fn a_part_that_is_gone_is_damage() {
        let mut world = World::new();
        let file = world.make(b"f", New::File);
        set(&mut world, file, b"user.a", &[1; 9_000]).unwrap();
        let key = Key::xattr_part(file, b"user.a", 2);
        world.map.apply(vec![(key.clone(), None)]);
        let damaged = Err(FsError::Damaged { key });
        assert_eq!(xattr(&world.map, file, b"user.a"), damaged);
    }
}
