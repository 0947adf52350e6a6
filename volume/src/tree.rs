//! The tree: an ordered map of keys to values in pages that are copied when they change.
//!
//! ```text
//! branch ── page by reference: as it was written, in memory if it is in [`Pages`]
//!      └─── page that has changed: held here, written by [`Tree::write`]
//! ```
//!
//! **Guarantees.** A call that fails with [`Absent`] has changed nothing that can be asked for: fetch that
//! page, give it to [`Pages::admit`], call again. A clone is another tree from then on, and costs
//! nothing until one of both changes.
//!
//! **Assumes** that references are of pages that this tree wrote, or another of the same volume.

use std::cmp::Ordering;
use std::ops::{ControlFlow, Deref, Range};
use std::sync::Arc;

use crate::key::Key;
pub use crate::page::PageError;
use crate::page::{
    Content, HEADER_BYTES, PAGE_BYTES_MAX, REFERENCE_BYTES, VALUE_BYTES_MAX, entry_bytes,
    value_bytes,
};
use crate::run::RunRef;

mod cache;
mod edit;
mod write;

#[cfg(test)]
mod tests;

pub use cache::Pages;
pub use write::PageOut;

/// A page is not in memory: fetch it, admit it, and ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {0:?} is not in memory")]
pub struct Absent(pub RunRef);

/// A key and its value.
pub type KeyValue = (Key, Box<[u8]>);

/// An ordered map in pages.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Option<Child>,
    /// Written pages that it refers to no more.
    released: Vec<RunRef>,
}

/// A page below another, or the root.
#[derive(Clone, Debug)]
enum Child {
    /// As it was written.
    Clean(RunRef),
    /// It has changed.
    Dirty(Arc<Node>),
}

/// A page in memory.
#[derive(Clone, Debug)]
struct Node {
    level: u8,
    body: Body,
    /// How long it is when it is written.
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Body {
    Leaf(Vec<KeyValue>),
    Branch(Vec<(Key, Child)>),
}

/// A page that is looked at.
enum Loaded<'a> {
    Held(&'a Node),
    Cached(Arc<Node>),
}

impl Deref for Loaded<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Held(node) => node,
            Self::Cached(node) => node,
        }
    }
}

impl Child {
    fn load(&self, pages: &Pages) -> Result<Loaded<'_>, Absent> {
        match self {
            Self::Dirty(node) => Ok(Loaded::Held(node)),
            Self::Clean(at) => pages.get(at).map(Loaded::Cached).ok_or(Absent(*at)),
        }
    }

    /// The page, to be changed: it is dirty from then on, and what it was before is released.
    fn change(&mut self, pages: &Pages, released: &mut Vec<RunRef>) -> Result<&mut Node, Absent> {
        if let Self::Clean(at) = *self {
            let node = pages.get(&at).ok_or(Absent(at))?;
            released.push(at);
            *self = Self::Dirty(node);
        }
        match self {
            Self::Dirty(node) => Ok(Arc::make_mut(node)),
            Self::Clean(at) => Err(Absent(*at)),
        }
    }
}

/// Which page of a branch has a key.
fn place_of(children: &[(Key, Child)], key: &Key) -> usize {
    let above = children.partition_point(|(first, _)| first <= key);
    above.saturating_sub(1)
}

impl Node {
    fn leaf(entries: Vec<KeyValue>) -> Self {
        let mut node = Self {
            level: 0,
            body: Body::Leaf(entries),
            bytes: 0,
        };
        node.bytes = node.reckon();
        node
    }

    fn branch(level: u8, children: Vec<(Key, Child)>) -> Self {
        let mut node = Self {
            level,
            body: Body::Branch(children),
            bytes: 0,
        };
        node.bytes = node.reckon();
        node
    }

    fn of(level: u8, content: Content) -> Self {
        match content {
            Content::Leaf(entries) => Self::leaf(entries),
            Content::Branch(children) => {
                let children = children.into_iter();
                let children = children.map(|(key, at)| (key, Child::Clean(at)));
                Self::branch(level, children.collect())
            }
        }
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Leaf(entries) => entries.len(),
            Body::Branch(children) => children.len(),
        }
    }

    fn key(&self, place: usize) -> Option<&Key> {
        match &self.body {
            Body::Leaf(entries) => entries.get(place).map(|(key, _)| key),
            Body::Branch(children) => children.get(place).map(|(key, _)| key),
        }
    }

    fn first(&self) -> &Key {
        self.key(0).expect("a page has entries")
    }

    /// Bytes of the entry at a place as it is written there.
    fn entry_bytes(&self, place: usize) -> usize {
        let Some(key) = self.key(place) else {
            return 0;
        };
        let value = match &self.body {
            Body::Leaf(entries) => entries
                .get(place)
                .map_or(0, |(_, value)| value_bytes(value)),
            Body::Branch(_) => REFERENCE_BYTES,
        };
        let before = place.checked_sub(1).and_then(|before| self.key(before));
        entry_bytes(before, key, value)
    }

    fn reckon(&self) -> usize {
        let entries = (0..self.len()).map(|place| self.entry_bytes(place));
        HEADER_BYTES + entries.sum::<usize>()
    }
}

impl Tree {
    /// A tree without keys.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The tree whose highest page is this.
    #[must_use]
    pub const fn at(root: RunRef) -> Self {
        Self {
            root: Some(Child::Clean(root)),
            released: Vec::new(),
        }
    }

    /// Its highest page, when it is written; `None` too when it has no keys.
    #[must_use]
    pub const fn root(&self) -> Option<RunRef> {
        match &self.root {
            Some(Child::Clean(at)) => Some(*at),
            Some(Child::Dirty(_)) | None => None,
        }
    }

    /// Whether something has changed since it was written.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        matches!(self.root, Some(Child::Dirty(_)))
    }

    /// Bytes of the pages that have changed.
    #[must_use]
    pub fn dirty_bytes(&self) -> usize {
        fn of(child: &Child) -> usize {
            let Child::Dirty(node) = child else {
                return 0;
            };
            let below = match &node.body {
                Body::Leaf(_) => 0,
                Body::Branch(children) => children.iter().map(|(_, child)| of(child)).sum(),
            };
            node.bytes + below
        }
        self.root.as_ref().map_or(0, of)
    }

    /// Written pages that it has ceased to refer to since this was asked last.
    pub fn take_released(&mut self) -> Vec<RunRef> {
        std::mem::take(&mut self.released)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`Absent`].
    pub fn get(&self, pages: &Pages, key: &Key) -> Result<Option<Box<[u8]>>, Absent> {
        match &self.root {
            Some(root) => get(root, pages, key),
            None => Ok(None),
        }
    }

    /// Visits the keys of a range, rising, until `visit` breaks.
    ///
    /// # Errors
    ///
    /// [`Absent`]; some may have been visited.
    pub fn scan<F>(&self, pages: &Pages, range: Range<&Key>, mut visit: F) -> Result<(), Absent>
    where
        F: FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    {
        if let Some(root) = &self.root {
            // Whether it was broken off is the visitor's to know.
            let _flow = scan(root, pages, &range, &mut visit)?;
        }
        Ok(())
    }

    /// The last key that is not above `key`, and its value.
    ///
    /// # Errors
    ///
    /// [`Absent`].
    pub fn last_at_or_before(&self, pages: &Pages, key: &Key) -> Result<Option<KeyValue>, Absent> {
        match &self.root {
            Some(root) => last(root, pages, key),
            None => Ok(None),
        }
    }
}

fn get(child: &Child, pages: &Pages, key: &Key) -> Result<Option<Box<[u8]>>, Absent> {
    let node = child.load(pages)?;
    match &node.body {
        Body::Leaf(entries) => {
            let found = entries.binary_search_by(|(at, _)| at.cmp(key));
            let found = found.ok().and_then(|place| entries.get(place));
            Ok(found.map(|(_, value)| value.clone()))
        }
        Body::Branch(children) => match children.get(place_of(children, key)) {
            Some((_, child)) => get(child, pages, key),
            None => Ok(None),
        },
    }
}

fn scan<F>(
    child: &Child,
    pages: &Pages,
    range: &Range<&Key>,
    visit: &mut F,
) -> Result<ControlFlow<()>, Absent>
where
    F: FnMut(&[u8], &[u8]) -> ControlFlow<()>,
{
    let node = child.load(pages)?;
    match &node.body {
        Body::Leaf(entries) => {
            let from = entries.partition_point(|(key, _)| key < range.start);
            let there = entries.get(from..).unwrap_or_default();
            for (key, value) in there.iter().take_while(|(key, _)| key < range.end) {
                if visit(key.as_bytes(), value).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Body::Branch(children) => {
            let from = place_of(children, range.start);
            let there = children.get(from..).unwrap_or_default();
            // The first may begin above the range's start only in name.
            let within =
                |(place, (key, _)): &(usize, &(Key, Child))| *place == 0 || key < range.end;
            for (_, (_, child)) in there.iter().enumerate().take_while(within) {
                if scan(child, pages, range, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn last(child: &Child, pages: &Pages, key: &Key) -> Result<Option<KeyValue>, Absent> {
    let node = child.load(pages)?;
    match &node.body {
        Body::Leaf(entries) => {
            let above = entries.partition_point(|(at, _)| at.cmp(key) != Ordering::Greater);
            let found = above.checked_sub(1).and_then(|place| entries.get(place));
            Ok(found.cloned())
        }
        Body::Branch(children) => {
            let from = place_of(children, key);
            let there = children.get(..=from).unwrap_or_default();
            // A page may have nothing any more that is as low as the key that it began with.
            for (_, child) in there.iter().rev() {
                if let Some(found) = last(child, pages, key)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }
}
