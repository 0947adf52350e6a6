//! Inodes that lost their last name: kept while they are open, then forgotten in steps.

use std::ops::ControlFlow;

use super::attributes::{attributes, store};
use super::content::{Balance, count_allocated};
use super::entries::{Edit, Entries};
use super::extents::cut;
use super::namespace::counters;
use super::{FsError, STEP_KEYS_MAX, Step};
use crate::key::{InodeNumber, Key, KeyKind, kinds};
use crate::value::{Attributes, Kind, Orphan, Time, Type};

/// Whether anybody has the inode open that loses a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Somebody: without a name it stays as an orphan, until [`forget_orphan`].
    Yes,
    /// Nobody: without a name it goes.
    No,
}

/// What became of an inode that lost a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has other names.
    Named,
    /// It is an orphan, for it is open: [`forget_orphan`] when it is closed.
    Open,
    /// It is gone.
    Gone,
    /// Too much for one step: it is an orphan, [`forget_orphan`] takes the rest of it away.
    Going,
}

/// An inode that lost a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// Its number.
    pub inode: InodeNumber,
    /// What became of it.
    pub fate: Fate,
}

/// Takes a name from an inode, a directory's only one; its entry is gone.
pub(super) fn drop_name<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    mut attributes: Attributes,
    open: Open,
    now: Time,
) -> Result<Unlinked, FsError> {
    let links = if attributes.kind.type_of() == Type::Directory {
        Some(0)
    } else {
        attributes.links.checked_sub(1)
    };
    attributes.links = links.ok_or_else(|| FsError::damaged(Key::attributes(inode)))?;
    attributes.changed = now;
    store(edit, inode, &attributes);
    if attributes.links > 0 {
        let fate = Fate::Named;
        return Ok(Unlinked { inode, fate });
    }
    edit.set(Key::orphan(inode), &Orphan { since: now });
    let fate = match open {
        Open::Yes => Fate::Open,
        Open::No => match forget_orphan(edit, inode)? {
            Step::Done => Fate::Gone,
            Step::More => Fate::Going,
        },
    };
    Ok(Unlinked { inode, fate })
}

/// Takes away what is left of an inode without a name, as much as one step may.
///
/// # Errors
///
/// [`FsError::NoInode`] when it is gone, [`FsError::Invalid`] when it has a name.
pub fn forget_orphan<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
) -> Result<Step, FsError> {
    let mut attributes = attributes(edit, inode)?;
    if attributes.links != 0 {
        return Err(FsError::Invalid {
            what: "an inode to forget has a name",
        });
    }
    if attributes.kind == Kind::File {
        let done = cut(edit, inode, 0)?;
        count_allocated(edit, Balance::of_removed(done.removed))?;
        if done.step == Step::More {
            let kept = attributes.allocated.checked_sub(done.removed);
            let kept = kept.ok_or_else(|| FsError::damaged(Key::attributes(inode)))?;
            attributes.allocated = kept;
            attributes.size = attributes.size.min(done.from);
            store(edit, inode, &attributes);
            return Ok(Step::More);
        }
        attributes.allocated = 0;
        attributes.size = 0;
        store(edit, inode, &attributes);
    }
    if remove_xattrs(edit, inode)? == Step::More {
        return Ok(Step::More);
    }
    edit.remove(Key::attributes(inode));
    edit.remove(Key::orphan(inode));
    let mut counters = counters(edit)?;
    let inodes = counters.inodes.checked_sub(1);
    counters.inodes = inodes.ok_or_else(|| FsError::damaged(Key::counters()))?;
    edit.set(Key::counters(), &counters);
    Ok(Step::Done)
}

fn remove_xattrs<E: Entries>(edit: &mut Edit<'_, E>, inode: InodeNumber) -> Result<Step, FsError> {
    let keys = (
        Key::start_of(inode, kinds::XATTR),
        Key::end_of(inode, kinds::XATTR_PART),
    );
    let (mut found, mut step) = (Vec::new(), Step::Done);
    edit.scan(&keys.0..&keys.1, |key, _| {
        if found.len() >= STEP_KEYS_MAX {
            step = Step::More;
            return ControlFlow::Break(());
        }
        found.push(Key::from_bytes(key));
        ControlFlow::Continue(())
    })?;
    for key in found {
        edit.remove(key);
    }
    Ok(step)
}

/// Inodes without a name, rising, behind `after` ([`InodeNumber::VOLUME`] for the first), at most
/// `count_max`: what a mount forgets when it begins.
///
/// # Errors
///
/// [`FsError::Damaged`].
pub fn orphans<E: Entries>(
    entries: &E,
    after: InodeNumber,
    count_max: usize,
) -> Result<Vec<InodeNumber>, FsError> {
    let keys = (
        Key::orphan(InodeNumber::new(after.get().saturating_add(1))),
        Key::end_of(InodeNumber::VOLUME, kinds::ORPHAN),
    );
    let (mut found, mut damaged) = (Vec::new(), None);
    entries.scan(&keys.0..&keys.1, |key, _| {
        if found.len() >= count_max {
            return ControlFlow::Break(());
        }
        let key = Key::from_bytes(key);
        if let Some(KeyKind::Orphan(inode)) = key.kind() {
            found.push(inode);
            return ControlFlow::Continue(());
        }
        damaged = Some(key);
        ControlFlow::Break(())
    })?;
    damaged.map_or(Ok(found), |key| Err(FsError::damaged(key)))
}
