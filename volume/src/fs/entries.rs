//! Where keys and values are read, and changes gathered over them.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use borsh::{BorshDeserialize, BorshSerialize};

use super::FsError;
use crate::key::Key;
use crate::tree::{Absent, KeyValue, Pages, Tree};
use crate::value::{decode, encode};

/// Keys that change and their new values, none where a key goes; rising, each key once. Making the same
/// changes again changes nothing.
pub type Changes = Vec<(Key, Option<Box<[u8]>>)>;

/// Something that keys and values are read from.
pub trait Entries {
    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// [`Absent`] when a page must be fetched first.
    fn get(&self, key: &Key) -> Result<Option<Box<[u8]>>, Absent>;

    /// Visits keys of `range` and their values, rising, until `visit` breaks.
    ///
    /// # Errors
    ///
    /// [`Absent`] when a page must be fetched first; some may have been visited by then.
    fn scan<F>(&self, range: Range<&Key>, visit: F) -> Result<(), Absent>
    where
        F: FnMut(&[u8], &[u8]) -> ControlFlow<()>;

    /// The last key that is not above `key`, and its value.
    ///
    /// # Errors
    ///
    /// [`Absent`] when a page must be fetched first.
    fn last_at_or_before(&self, key: &Key) -> Result<Option<KeyValue>, Absent>;
}

/// A tree, and the pages of it that are in memory.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// The pages.
    pub pages: &'a Pages,
}

impl Entries for View<'_> {
    fn get(&self, key: &Key) -> Result<Option<Box<[u8]>>, Absent> {
        self.tree.get(self.pages, key)
    }

    fn scan<F>(&self, range: Range<&Key>, visit: F) -> Result<(), Absent>
    where
        F: FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    {
        self.tree.scan(self.pages, range, visit)
    }

    fn last_at_or_before(&self, key: &Key) -> Result<Option<KeyValue>, Absent> {
        self.tree.last_at_or_before(self.pages, key)
    }
}

/// Changes to be, over what they change. Reads see them.
#[derive(Debug)]
pub struct Edit<'a, E: Entries> {
    entries: &'a E,
    changes: BTreeMap<Key, Option<Box<[u8]>>>,
}

impl<'a, E: Entries> Edit<'a, E> {
    /// No changes yet.
    #[must_use]
    pub const fn new(entries: &'a E) -> Self {
        Self {
            entries,
            changes: BTreeMap::new(),
        }
    }

    /// Gives `key` a value, or takes it away with `None`.
    pub fn put(&mut self, key: Key, value: Option<Box<[u8]>>) {
        self.changes.insert(key, value);
    }

    /// Gives `key` a value.
    pub(super) fn set<T: BorshSerialize>(&mut self, key: Key, value: &T) {
        self.put(key, Some(encode(value)));
    }

    /// Takes `key` away.
    pub(super) fn remove(&mut self, key: Key) {
        self.put(key, None);
    }

    /// The changes.
    #[must_use]
    pub fn finish(self) -> Changes {
        self.changes.into_iter().collect()
    }
}

impl<E: Entries> Entries for Edit<'_, E> {
    fn get(&self, key: &Key) -> Result<Option<Box<[u8]>>, Absent> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.entries.get(key),
        }
    }

    fn scan<F>(&self, range: Range<&Key>, mut visit: F) -> Result<(), Absent>
    where
        F: FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    {
        if range.start >= range.end {
            return Ok(());
        }
        let mut own = self.changes.range::<Key, _>(range.clone()).peekable();
        let mut flow = ControlFlow::Continue(());
        self.entries.scan(range, |key, value| {
            let mut value = Some(value);
            while let Some((changed, new)) = own.next_if(|(changed, _)| changed.as_bytes() <= key) {
                if changed.as_bytes() == key {
                    value = new.as_deref();
                } else if let Some(new) = new {
                    flow = visit(changed.as_bytes(), new);
                }
                if flow.is_break() {
                    return flow;
                }
            }
            if let Some(value) = value {
                flow = visit(key, value);
            }
            flow
        })?;
        for (changed, new) in own {
            if flow.is_break() {
                break;
            }
            if let Some(new) = new {
                flow = visit(changed.as_bytes(), new);
            }
        }
        Ok(())
    }

    fn last_at_or_before(&self, key: &Key) -> Result<Option<KeyValue>, Absent> {
        let mut below = self.entries.last_at_or_before(key)?;
        for (own, value) in self.changes.range::<Key, _>(..=key).rev() {
            if below.as_ref().is_some_and(|(found, _)| found > own) {
                break;
            }
            if let Some(value) = value {
                return Ok(Some((own.clone(), value.clone())));
            }
            if below.as_ref().is_some_and(|(found, _)| found == own) {
                below = self.entries.last_at_or_before(&own.before())?;
            }
        }
        Ok(below)
    }
}

/// The value of `key`, decoded.
///
/// # Errors
///
/// [`FsError::Damaged`] when it is no such value, [`FsError::Absent`].
pub(super) fn read<T: BorshDeserialize>(
    entries: &impl Entries,
    key: &Key,
) -> Result<Option<T>, FsError> {
    let Some(value) = entries.get(key)? else {
        return Ok(None);
    };
    match decode(&value) {
        Some(value) => Ok(Some(value)),
        None => Err(FsError::damaged(key.clone())),
    }
}
