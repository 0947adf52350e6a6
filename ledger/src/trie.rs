//! The tree that commits to a state: a Merkle trie over its entries, ordered by key.
//!
//! A binary radix tree without one-armed branches: a branch names the first bit in which the keys
//! below it differ, so equal entries give equal trees and equal roots, whatever their history. Of
//! any part of it the rest can be left out ([`Trie::pruned`]) with the root unchanged: what is left answers
//! the questions that it was cut for, and tells of every other that it can't. That a key is not
//! there, or that a list is whole, follows from the shape.
//!
//! ```text
//! leaf    keyed BLAKE3 of  0x00 | key length u16 LE | key | value
//! branch  keyed BLAKE3 of  0x01 | bit u16 LE | left root 32 | right root 32
//! empty   keyed BLAKE3 of  0x02
//! ```
//!
//! No key may be the beginning of another. A clone costs nothing and stays as it is.

mod wire;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, OnceLock};

use cairn_core::Digest;

/// What the roots of tries are the digests of.
const CONTEXT: &str = "cairn 2026-11-27 ledger state trie";

static HASH_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| *Digest::keyed(CONTEXT, &[]).as_bytes());

/// What is asked for was left out of the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry that is needed was left out")]
pub struct LeftOut;

/// Entries by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    top: Option<Arc<Node>>,
}

#[derive(Debug)]
enum Node {
    Leaf(Leaf),
    Branch(Branch),
    /// Only its root is known.
    LeftOut(Digest),
}

#[derive(Debug)]
struct Leaf {
    key: Box<[u8]>,
    value: Box<[u8]>,
    root: OnceLock<Digest>,
}

#[derive(Debug)]
struct Branch {
    /// The first bit in which the keys differ: 0 in those on the left, 1 on the right.
    bit: u16,
    left: Arc<Node>,
    right: Arc<Node>,
    root: OnceLock<Digest>,
}

impl PartialEq for Trie {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl Eq for Trie {}

impl Trie {
    /// The digest that stands for all entries.
    pub(crate) fn root(&self) -> Digest {
        self.top
            .as_ref()
            .map_or_else(|| hash(&[&[2]]), |top| top.root())
    }

    /// Enters a value, in the place of the one before.
    pub(crate) fn insert(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), LeftOut> {
        let leaf = Leaf::new(key, value);
        let top = match &self.top {
            None => Arc::new(Node::Leaf(leaf)),
            Some(top) => match first_difference(top.nearest(key)?.key(), key) {
                None => top.replace(leaf)?,
                Some(bit) => top.add(bit, leaf)?,
            },
        };
        self.top = Some(top);
        Ok(())
    }

    /// Takes an entry out, if it is there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<(), LeftOut> {
        if let Some(top) = &self.top
            && top.nearest(key)?.key() == key
        {
            self.top = top.without(key)?;
        }
        Ok(())
    }

    /// A key's value; `None` when it is not there. `touch` gets the key of each leaf that the answer
    /// rests on.
    pub(crate) fn get(
        &self,
        key: &[u8],
        touch: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<&[u8]>, LeftOut> {
        let Some(top) = &self.top else {
            return Ok(None);
        };
        let leaf = top.nearest(key)?;
        touch(leaf.key());
        Ok((leaf.key() == key).then_some(&*leaf.value))
    }

    /// Visits the entries whose key begins with `prefix` and is above `after`, rising, until there
    /// are no more or `visit` breaks. `after`, where there is one, begins with the prefix.
    pub(crate) fn scan<'a>(
        &'a self,
        prefix: &[u8],
        after: Option<&[u8]>,
        touch: &mut dyn FnMut(&[u8]),
        visit: &mut dyn FnMut(&'a [u8], &'a [u8]) -> ControlFlow<()>,
    ) -> Result<(), LeftOut> {
        let Some(mut top) = self.top.as_deref() else {
            return Ok(());
        };
        while let Node::Branch(branch) = top
            && usize::from(branch.bit) < prefix.len().saturating_mul(8)
        {
            top = branch.side(prefix);
        }
        // All below have the prefix, or none.
        let some = top.nearest(after.unwrap_or(prefix))?;
        touch(some.key());
        if !some.key().starts_with(prefix) {
            return Ok(());
        }
        let mut walk = |node: &'a Node| node.visit(touch, visit);
        let done = match after {
            None => walk(top)?,
            Some(after) => {
                top.visit_above(after, first_difference(some.key(), after), &mut walk)?
            }
        };
        // Whether it broke off or ended, it is done.
        let (ControlFlow::Break(()) | ControlFlow::Continue(())) = done;
        Ok(())
    }

    /// The same trie without what is not needed for the leaves of these keys.
    pub(crate) fn pruned(&self, keys: &BTreeSet<Vec<u8>>) -> Self {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        Self {
            top: self.top.as_ref().map(|top| top.pruned(&keys)),
        }
    }
}

impl Leaf {
    fn new(key: &[u8], value: Vec<u8>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            root: OnceLock::new(),
        }
    }

    const fn key(&self) -> &[u8] {
        &self.key
    }

    fn root(&self) -> Digest {
        *self.root.get_or_init(|| {
            let length = u16::try_from(self.key.len()).unwrap_or(u16::MAX);
            hash(&[&[0], &length.to_le_bytes(), &self.key, &self.value])
        })
    }
}

impl Branch {
    fn new(bit: u16, left: Arc<Node>, right: Arc<Node>) -> Self {
        Self {
            bit,
            left,
            right,
            root: OnceLock::new(),
        }
    }

    fn side(&self, key: &[u8]) -> &Arc<Node> {
        if is_set(key, self.bit) {
            &self.right
        } else {
            &self.left
        }
    }

    /// The same with another node on the side of `key`.
    fn with(&self, key: &[u8], node: Arc<Node>) -> Self {
        if is_set(key, self.bit) {
            Self::new(self.bit, Arc::clone(&self.left), node)
        } else {
            Self::new(self.bit, node, Arc::clone(&self.right))
        }
    }

    fn root(&self) -> Digest {
        *self.root.get_or_init(|| {
            let (left, right) = (self.left.root(), self.right.root());
            hash(&[
                &[1],
                &self.bit.to_le_bytes(),
                left.as_bytes(),
                right.as_bytes(),
            ])
        })
    }
}

impl Node {
    fn root(&self) -> Digest {
        match self {
            Self::Leaf(leaf) => leaf.root(),
            Self::Branch(branch) => branch.root(),
            Self::LeftOut(root) => *root,
        }
    }

    /// The leaf of the key if it is there, and one that shares the longest beginning with it if not.
    fn nearest(&self, key: &[u8]) -> Result<&Leaf, LeftOut> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return Ok(leaf),
                Self::Branch(branch) => node = branch.side(key),
                Self::LeftOut(_) => return Err(LeftOut),
            }
        }
    }

    /// With a leaf in the place of that of its key.
    fn replace(&self, leaf: Leaf) -> Result<Arc<Self>, LeftOut> {
        match self {
            Self::Leaf(_) => Ok(Arc::new(Self::Leaf(leaf))),
            Self::Branch(branch) => {
                let key = leaf.key.clone();
                let side = branch.side(&key).replace(leaf)?;
                Ok(Arc::new(Self::Branch(branch.with(&key, side))))
            }
            Self::LeftOut(_) => Err(LeftOut),
        }
    }

    /// With a leaf of a new key, which differs first in `bit` from those nearest to it.
    fn add(self: &Arc<Self>, bit: u16, leaf: Leaf) -> Result<Arc<Self>, LeftOut> {
        match &**self {
            Self::Branch(branch) if branch.bit < bit => {
                let key = leaf.key.clone();
                let side = branch.side(&key).add(bit, leaf)?;
                Ok(Arc::new(Self::Branch(branch.with(&key, side))))
            }
            Self::Leaf(_) | Self::Branch(_) | Self::LeftOut(_) => {
                let is_right = is_set(&leaf.key, bit);
                let (old, new) = (Arc::clone(self), Arc::new(Self::Leaf(leaf)));
                let (left, right) = if is_right { (old, new) } else { (new, old) };
                Ok(Arc::new(Self::Branch(Branch::new(bit, left, right))))
            }
        }
    }

    /// Without the leaf of a key that is there; `None` when nothing is left.
    fn without(&self, key: &[u8]) -> Result<Option<Arc<Self>>, LeftOut> {
        match self {
            Self::Leaf(_) => Ok(None),
            Self::LeftOut(_) => Err(LeftOut),
            Self::Branch(branch) => Ok(Some(match branch.side(key).without(key)? {
                Some(side) => Arc::new(Self::Branch(branch.with(key, side))),
                None if is_set(key, branch.bit) => Arc::clone(&branch.left),
                None => Arc::clone(&branch.right),
            })),
        }
    }

    fn visit<'a>(
        &'a self,
        touch: &mut dyn FnMut(&[u8]),
        visit: &mut dyn FnMut(&'a [u8], &'a [u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LeftOut> {
        match self {
            Self::Leaf(leaf) => {
                touch(&leaf.key);
                Ok(visit(&leaf.key, &leaf.value))
            }
            Self::Branch(branch) => {
                if branch.left.visit(touch, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                branch.right.visit(touch, visit)
            }
            Self::LeftOut(_) => Err(LeftOut),
        }
    }

    /// Walks what is above a key, which differs first in `bit` from those nearest to it; in none
    /// when it is there.
    fn visit_above<'a>(
        &'a self,
        after: &[u8],
        bit: Option<u16>,
        walk: &mut dyn FnMut(&'a Self) -> Result<ControlFlow<()>, LeftOut>,
    ) -> Result<ControlFlow<()>, LeftOut> {
        match self {
            Self::Branch(branch) if bit.is_none_or(|bit| branch.bit < bit) => {
                if is_set(after, branch.bit) {
                    return branch.right.visit_above(after, bit, walk);
                }
                if branch.left.visit_above(after, bit, walk)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                walk(&branch.right)
            }
            // All below begin alike up to the bit, and have the other one there.
            _ if bit.is_some_and(|bit| !is_set(after, bit)) => walk(self),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    /// Without what is not needed for the leaves of `keys`, all of which are below, rising.
    fn pruned(self: &Arc<Self>, keys: &[&[u8]]) -> Arc<Self> {
        match &**self {
            _ if keys.is_empty() => Arc::new(Self::LeftOut(self.root())),
            Self::Leaf(_) | Self::LeftOut(_) => Arc::clone(self),
            Self::Branch(branch) => {
                let count = keys.partition_point(|key| !is_set(key, branch.bit));
                let (left, right) = keys.split_at(count);
                Arc::new(Self::Branch(Branch {
                    bit: branch.bit,
                    left: branch.left.pruned(left),
                    right: branch.right.pruned(right),
                    root: branch.root.clone(),
                }))
            }
        }
    }
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(&HASH_KEY);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Whether a bit of a key is 1, counted from the highest of the first byte; what is beyond is 0.
fn is_set(key: &[u8], bit: u16) -> bool {
    let byte = key.get(usize::from(bit >> 3)).copied().unwrap_or(0);
    byte & (0x80 >> (bit & 7)) != 0
}

/// The first bit in which two keys differ.
fn first_difference(a: &[u8], b: &[u8]) -> Option<u16> {
    let differs = |(a, b): (&u8, &u8)| a ^ b;
    let (index, bits) = a
        .iter()
        .zip(b)
        .map(differs)
        .enumerate()
        .find(|(_, bits)| *bits != 0)?;
    let bit = index
        .saturating_mul(8)
        .saturating_add(usize::try_from(bits.leading_zeros()).unwrap_or(0));
    u16::try_from(bit).ok()
}

#[cfg(test)]
mod tests;
