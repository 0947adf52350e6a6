//! Changes: keys that come, change and go; pages that split and merge.

use std::sync::Arc;

use super::{Absent, Body, Child, Node, PAGE_BYTES_MAX, Pages, Tree, VALUE_BYTES_MAX, place_of};
use crate::key::Key;
use crate::page::LEVEL_MAX;
use crate::run::RunRef;

/// A page that is shorter is put together with one beside it.
const SHORT_BYTES: usize = PAGE_BYTES_MAX / 4;
/// Pages that are put together are at most so long: room for what comes.
const MERGED_BYTES_MAX: usize = PAGE_BYTES_MAX * 3 / 4;

/// What became of a page.
enum Outcome {
    Kept,
    /// What does not fit any more: the page that follows it.
    Split(Box<(Key, Child)>),
    /// It has no entries any more.
    Emptied,
    /// It is short.
    Short,
}

impl Tree {
    /// Sees that all pages on the way to a key are in memory and held by the tree, so that [`Self::set`] of
    /// that key can't fail.
    ///
    /// # Errors
    ///
    /// [`Absent`].
    pub fn prepare(&mut self, pages: &Pages, key: &Key) -> Result<(), Absent> {
        // First without a change: what is missing may be at the end of the way.
        self.get(pages, key)?;
        let Self { root, released } = self;
        let mut next = root.as_mut();
        while let Some(child) = next {
            let node = child.change(pages, released)?;
            next = match &mut node.body {
                Body::Leaf(_) => None,
                Body::Branch(children) => {
                    let place = place_of(children, key);
                    children.get_mut(place).map(|(_, child)| child)
                }
            };
        }
        Ok(())
    }

    /// Gives a key a value, or takes it away with `None`; gives the value that it had.
    ///
    /// # Errors
    ///
    /// [`Absent`]; the key is as it was.
    ///
    /// # Panics
    ///
    /// When the value is longer than [`VALUE_BYTES_MAX`]: our own bug.
    pub fn set(
        &mut self,
        pages: &Pages,
        key: &Key,
        value: Option<Box<[u8]>>,
    ) -> Result<Option<Box<[u8]>>, Absent> {
        let bytes = value.as_ref().map_or(0, |value| value.len());
        assert!(bytes <= VALUE_BYTES_MAX, "a value of {bytes} bytes");
        let old = self.get(pages, key)?;
        if old == value {
            return Ok(old);
        }
        self.prepare(pages, key)?;
        let Self { root, released } = self;
        let Some(child) = root else {
            let entries = value.map(|value| vec![(key.clone(), value)]);
            *root = entries.map(|entries| Child::Dirty(Arc::new(Node::leaf(entries))));
            return Ok(old);
        };
        match set(child, (pages, released), key, value)? {
            Outcome::Kept | Outcome::Short => self.lower(),
            Outcome::Emptied => *root = None,
            Outcome::Split(beside) => {
                let node = child.change(pages, released)?;
                let first = node.first().clone();
                let level = node.level.saturating_add(1);
                assert!(level <= LEVEL_MAX, "more keys than there can be");
                let left = (first, child.clone());
                let above = Node::branch(level, vec![left, *beside]);
                *root = Some(Child::Dirty(Arc::new(above)));
            }
        }
        Ok(old)
    }

    /// A branch with one page is not needed at the top.
    fn lower(&mut self) {
        while let Some(Child::Dirty(node)) = &self.root {
            let only = match &node.body {
                Body::Branch(children) if children.len() == 1 => {
                    children.first().map(|(_, child)| child.clone())
                }
                Body::Branch(_) | Body::Leaf(_) => None,
            };
            let Some(only) = only else {
                return;
            };
            self.root = Some(only);
        }
    }

    /// Has the page that was written at `at` written again, elsewhere, if it is still the tree's: the one of
    /// this level on the way to the key that it began with. Whether it is.
    ///
    /// # Errors
    ///
    /// [`Absent`].
    pub fn touch(
        &mut self,
        pages: &Pages,
        (level, first): (u8, &Key),
        at: RunRef,
    ) -> Result<bool, Absent> {
        if !self.refers(pages, (level, first), at)? {
            return Ok(false);
        }
        let Self { root, released } = self;
        let mut next = root.as_mut();
        while let Some(child) = next {
            let node = child.change(pages, released)?;
            if node.level <= level {
                break;
            }
            next = match &mut node.body {
                Body::Leaf(_) => None,
                Body::Branch(children) => {
                    let place = place_of(children, first);
                    children.get_mut(place).map(|(_, child)| child)
                }
            };
        }
        Ok(true)
    }

    fn refers(
        &self,
        pages: &Pages,
        (level, first): (u8, &Key),
        at: RunRef,
    ) -> Result<bool, Absent> {
        let mut next = self.root.clone();
        while let Some(child) = next {
            if matches!(child, Child::Clean(found) if found == at) {
                // It must be in memory to be changed.
                return child.load(pages).map(|_| true);
            }
            let node = child.load(pages)?;
            next = match &node.body {
                Body::Branch(children) if node.level > level => {
                    let found = children.get(place_of(children, first));
                    found.map(|(_, child)| child.clone())
                }
                Body::Branch(_) | Body::Leaf(_) => None,
            };
        }
        Ok(false)
    }
}

/// Changes a key below a page whose way to it is prepared.
fn set(
    child: &mut Child,
    (pages, released): (&Pages, &mut Vec<RunRef>),
    key: &Key,
    value: Option<Box<[u8]>>,
) -> Result<Outcome, Absent> {
    let node = child.change(pages, released)?;
    let Body::Branch(children) = &mut node.body else {
        set_in_leaf(node, key, value);
        return Ok(outcome(node, key));
    };
    let place = place_of(children, key);
    if children.first().is_some_and(|(first, _)| key < first) {
        begin_at(node, key);
    }
    let Body::Branch(children) = &mut node.body else {
        return Ok(Outcome::Kept);
    };
    let Some((_, below)) = children.get_mut(place) else {
        return Ok(Outcome::Kept);
    };
    match set(below, (pages, released), key, value)? {
        Outcome::Kept => {}
        Outcome::Split(beside) => {
            let (first, page) = *beside;
            insert_child(node, place + 1, (first, page));
        }
        Outcome::Emptied => remove_child(node, place),
        Outcome::Short => merge(node, place, (pages, released)),
    }
    Ok(outcome(node, key))
}

fn set_in_leaf(node: &mut Node, key: &Key, value: Option<Box<[u8]>>) {
    let Body::Leaf(entries) = &node.body else {
        return;
    };
    let found = entries.binary_search_by(|(at, _)| at.cmp(key));
    match (found, value) {
        (Ok(place), Some(value)) => {
            let before = node.entry_bytes(place);
            if let Body::Leaf(entries) = &mut node.body {
                entries[place].1 = value;
            }
            node.bytes = node.bytes + node.entry_bytes(place) - before;
        }
        (Err(place), Some(value)) => {
            let behind = node.entry_bytes(place);
            if let Body::Leaf(entries) = &mut node.body {
                entries.insert(place, (key.clone(), value));
            }
            let both = node.entry_bytes(place) + node.entry_bytes(place + 1);
            node.bytes = node.bytes + both - behind;
        }
        (Ok(place), None) => {
            let both = node.entry_bytes(place) + node.entry_bytes(place + 1);
            if let Body::Leaf(entries) = &mut node.body {
                entries.remove(place);
            }
            node.bytes = node.bytes + node.entry_bytes(place) - both;
        }
        (Err(_), None) => {}
    }
}

/// A branch begins where the lowest of its keys is, or below.
fn begin_at(node: &mut Node, key: &Key) {
    let before = node.entry_bytes(0) + node.entry_bytes(1);
    if let Body::Branch(children) = &mut node.body
        && let Some((first, _)) = children.first_mut()
    {
        *first = key.clone();
    }
    node.bytes = node.bytes + node.entry_bytes(0) + node.entry_bytes(1) - before;
}

fn insert_child(node: &mut Node, place: usize, child: (Key, Child)) {
    let behind = node.entry_bytes(place);
    if let Body::Branch(children) = &mut node.body {
        children.insert(place, child);
    }
    let both = node.entry_bytes(place) + node.entry_bytes(place + 1);
    node.bytes = node.bytes + both - behind;
}

fn remove_child(node: &mut Node, place: usize) {
    let both = node.entry_bytes(place) + node.entry_bytes(place + 1);
    if let Body::Branch(children) = &mut node.body {
        children.remove(place);
    }
    node.bytes = node.bytes + node.entry_bytes(place) - both;
}

/// What became of a page in which `key` was changed.
fn outcome(node: &mut Node, key: &Key) -> Outcome {
    if node.len() == 0 {
        return Outcome::Emptied;
    }
    if node.bytes > PAGE_BYTES_MAX {
        return Outcome::Split(Box::new(split(node, key)));
    }
    if node.bytes < SHORT_BYTES {
        return Outcome::Short;
    }
    Outcome::Kept
}

/// Takes the upper part of a page off: what was added at its end alone, so that keys that come in rising
/// order leave full pages behind them; else half of it.
fn split(node: &mut Node, key: &Key) -> (Key, Child) {
    let count = node.len();
    let is_at_end = node.key(count - 1).is_some_and(|last| last <= key);
    let place = if is_at_end {
        count - 1
    } else {
        let mut bytes = 0;
        let half = node.bytes / 2;
        let lower = (0..count).take_while(|place| {
            bytes += node.entry_bytes(*place);
            bytes <= half
        });
        lower.count().clamp(1, count - 1)
    };
    let upper = match &mut node.body {
        Body::Leaf(entries) => Node::leaf(entries.split_off(place)),
        Body::Branch(children) => Node::branch(node.level, children.split_off(place)),
    };
    node.bytes = node.reckon();
    (upper.first().clone(), Child::Dirty(Arc::new(upper)))
}

/// Puts a short page together with the one behind or before it, if that is in memory and both fit one.
fn merge(node: &mut Node, place: usize, (pages, released): (&Pages, &mut Vec<RunRef>)) {
    let Body::Branch(children) = &node.body else {
        return;
    };
    let fits = |left: usize| {
        let bytes = |at: usize| {
            let (_, child) = children.get(at)?;
            Some(child.load(pages).ok()?.bytes)
        };
        let both = bytes(left).zip(bytes(left + 1));
        both.is_some_and(|(left, right)| left + right <= MERGED_BYTES_MAX)
    };
    let left = if fits(place) {
        place
    } else if let Some(before) = place.checked_sub(1).filter(|before| fits(*before)) {
        before
    } else {
        return;
    };
    let Body::Branch(children) = &mut node.body else {
        return;
    };
    let mut take = |at: usize| -> Option<Node> {
        let (_, child) = children.get_mut(at)?;
        child.change(pages, released).ok().map(|node| node.clone())
    };
    let (Some(lower), Some(upper)) = (take(left), take(left + 1)) else {
        return;
    };
    let merged = match (lower.body, upper.body) {
        (Body::Leaf(mut entries), Body::Leaf(more)) => {
            entries.extend(more);
            Node::leaf(entries)
        }
        (Body::Branch(mut below), Body::Branch(more)) => {
            below.extend(more);
            Node::branch(lower.level, below)
        }
        _ => return,
    };
    if let Some((_, child)) = children.get_mut(left) {
        *child = Child::Dirty(Arc::new(merged));
    }
    remove_child(node, left + 1);
}
