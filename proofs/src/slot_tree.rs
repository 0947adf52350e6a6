//! The slot tree: a Merkle sum tree over a slot's segment numbers.
//!
//! ```text
//! root = H("slot root", count u32 | sum u64 | top hash)
//!                      top (hash, sum)
//!              /                        \
//!      inner (hash, sum)          inner (hash, sum)      inner = H("slot inner", left | right)
//!        /       \                        |              each child as hash 32 | sum u64
//!   leaf 0       leaf 1                 leaf 2           leaf  = H("slot leaf", bytes u32 | root)
//! ```
//!
//! The shape depends on the number of leaves alone: a tree of m > 1 leaves has the largest power
//! of two below m on its left, as in RFC 6962. So the root is a function of the list of leaves.
//! Sums are bytes; a byte position in the slot falls into exactly one shard, and nobody can move
//! it into another, because every inner node binds both of its children's sums.
//!
//! As in `docs/protocol/proofs.md`, section "Slot tree".
//!
//! [`SlotTree`] keeps every complete subtree (76 bytes a leaf), [`Frontier`] only the right edge
//! (40 bytes a level). Appending costs two hashes amortised, a root one hash a level.

mod frontier;
mod node;
mod path;
#[cfg(test)]
mod tests;
mod view;

use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{SegmentNumber, SlotRoot};
pub use frontier::Frontier;
pub use node::{Leaf, LeafError, TreeNode};
pub(crate) use node::{as_count, as_index};
pub use path::{MultiPath, Opening, PathError, open_path};
pub use view::{Located, SlotView};

/// Levels below the top of the largest slot tree.
pub const LEVELS_MAX: usize = 20;

const _: () = assert!(1 << LEVELS_MAX == SEGMENTS_MAX);

/// A slot's tree with every complete subtree kept, so that any leaf can be opened or changed.
///
/// Shape: at most [`SEGMENTS_MAX`] leaves, numbered from 0 without gaps; 76 bytes of memory a
/// leaf, up to twice that while a list grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotTree {
    leaves: Vec<Leaf>,
    /// `levels[h]` holds the complete subtrees of 2^(h + 1) leaves, in order.
    levels: Vec<Vec<TreeNode>>,
}

/// Why a slot tree refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotTreeError {
    /// The tree has all the leaves it may have.
    #[error("the slot tree is full: it has {SEGMENTS_MAX} leaves")]
    Full,
    /// No leaf of that number.
    #[error("expected a segment below {count}, found {number}")]
    NoSegment {
        /// The number asked for.
        number: SegmentNumber,
        /// Leaves of the tree.
        count: u32,
    },
    /// Numbers that must rise do not.
    #[error("expected rising segment numbers, found {number} again or too late")]
    Unsorted {
        /// The first number that is not above the one before it.
        number: SegmentNumber,
    },
}

impl SlotTree {
    /// A tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            leaves: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// A tree of `leaves`, in order.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::Full`] when there are more than [`SEGMENTS_MAX`].
    pub fn from_leaves(leaves: impl IntoIterator<Item = Leaf>) -> Result<Self, SlotTreeError> {
        let mut tree = Self::new();
        tree.append_all(leaves)?;
        Ok(tree)
    }

    /// Number of leaves, emptied ones included.
    #[must_use]
    pub fn count(&self) -> u32 {
        as_count(self.leaves.len())
    }

    /// Adds a leaf at the end and returns its number. Two hashes, amortised.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::Full`] at [`SEGMENTS_MAX`] leaves; the tree is unchanged.
    pub fn append(&mut self, leaf: Leaf) -> Result<SegmentNumber, SlotTreeError> {
        let number = self.count();
        if number >= SEGMENTS_MAX {
            return Err(SlotTreeError::Full);
        }
        self.leaves.push(leaf);
        if let [.., left, right] = self.leaves.as_slice()
            && self.leaves.len().is_multiple_of(2)
        {
            let node = TreeNode::inner(&left.node(), &right.node());
            self.push_node(node);
        }
        Ok(SegmentNumber::new(number))
    }

    /// Adds leaves at the end.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::Full`] at [`SEGMENTS_MAX`] leaves; those before it were added.
    pub fn append_all(
        &mut self,
        leaves: impl IntoIterator<Item = Leaf>,
    ) -> Result<(), SlotTreeError> {
        leaves
            .into_iter()
            .try_for_each(|leaf| self.append(leaf).map(|_| ()))
    }

    /// Puts a new complete pair of leaves in place, and every subtree that it completes.
    fn push_node(&mut self, mut node: TreeNode) {
        for height in 0.. {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(node);
            if !level.len().is_multiple_of(2) {
                return;
            }
            node = TreeNode::inner(&level[level.len() - 2], &level[level.len() - 1]);
        }
    }

    /// Replaces leaf `number` and returns the one that was there. One hash a level.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`]; the tree is unchanged.
    pub fn replace(&mut self, number: SegmentNumber, leaf: Leaf) -> Result<Leaf, SlotTreeError> {
        let count = self.count();
        let place = self
            .leaves
            .get_mut(as_index(number.get()))
            .ok_or(SlotTreeError::NoSegment { number, count })?;
        let old = std::mem::replace(place, leaf);
        self.refresh(&[number]);
        Ok(old)
    }

    /// Empties leaf `number`: a deleted segment. Returns the leaf that was there.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`]; the tree is unchanged.
    pub fn set_empty(&mut self, number: SegmentNumber) -> Result<Leaf, SlotTreeError> {
        self.replace(number, Leaf::EMPTY)
    }

    /// Replaces many leaves, each inner node being hashed once, and returns the leaves that were
    /// there: replacing with those takes it back. Shape: numbers rise.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`], [`SlotTreeError::Unsorted`]; the tree is unchanged.
    pub fn replace_all(
        &mut self,
        leaves: &[(SegmentNumber, Leaf)],
    ) -> Result<Vec<(SegmentNumber, Leaf)>, SlotTreeError> {
        let numbers: Vec<SegmentNumber> = leaves.iter().map(|(number, _)| *number).collect();
        check_numbers(&numbers, self.count())?;
        let mut old = Vec::with_capacity(leaves.len());
        for &(number, leaf) in leaves {
            let place = &mut self.leaves[as_index(number.get())];
            old.push((number, std::mem::replace(place, leaf)));
        }
        self.refresh(&numbers);
        Ok(old)
    }

    /// Empties many leaves: the segments that a revision deletes. Returns the leaves that were
    /// there, for [`Self::replace_all`] to take it back. Shape: `numbers` rise.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`], [`SlotTreeError::Unsorted`]; the tree is unchanged.
    pub fn set_all_empty(
        &mut self,
        numbers: &[SegmentNumber],
    ) -> Result<Vec<(SegmentNumber, Leaf)>, SlotTreeError> {
        let leaves: Vec<_> = numbers
            .iter()
            .map(|number| (*number, Leaf::EMPTY))
            .collect();
        self.replace_all(&leaves)
    }

    /// Takes back the leaves from `count` on, as if they had never been appended. Without effect
    /// when the tree has no more than that.
    pub fn truncate(&mut self, count: u32) {
        let mut kept = as_index(count);
        self.leaves.truncate(kept);
        for level in &mut self.levels {
            kept /= 2;
            level.truncate(kept);
        }
    }

    /// Hashes again every kept subtree above the leaves `numbers`, which rise.
    fn refresh(&mut self, numbers: &[SegmentNumber]) {
        let mut touched: Vec<usize> = numbers.iter().map(|n| as_index(n.get()) / 2).collect();
        for height in 0..self.levels.len() {
            touched.dedup();
            touched.retain(|index| *index < self.levels[height].len());
            for &index in &touched {
                let (left, right) = (2 * index, 2 * index + 1);
                self.levels[height][index] = match height.checked_sub(1) {
                    None => TreeNode::inner(&self.leaves[left].node(), &self.leaves[right].node()),
                    Some(below) => {
                        TreeNode::inner(&self.levels[below][left], &self.levels[below][right])
                    }
                };
            }
            for index in &mut touched {
                *index /= 2;
            }
        }
    }

    /// Leaf `number`; `None` past the end.
    #[must_use]
    pub fn leaf(&self, number: SegmentNumber) -> Option<Leaf> {
        self.leaves.get(as_index(number.get())).copied()
    }

    /// The leaves, by segment number.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The whole tree for reading.
    #[must_use]
    pub fn view(&self) -> SlotView<'_> {
        SlotView::new(self, self.count())
    }

    /// The tree of the first `count` leaves, as it was before the later ones were appended: a
    /// node answers a challenge on its acknowledged revision while newer segments arrive.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`] when the tree has fewer leaves.
    pub fn view_at(&self, count: u32) -> Result<SlotView<'_>, SlotTreeError> {
        match count.checked_sub(1).map(SegmentNumber::new) {
            Some(number) if count > self.count() => Err(SlotTreeError::NoSegment {
                number,
                count: self.count(),
            }),
            Some(_) | None => Ok(SlotView::new(self, count)),
        }
    }

    /// The slot root. One hash a level.
    #[must_use]
    pub fn root(&self) -> SlotRoot {
        self.view().root()
    }

    /// Bytes of all shards.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.view().sum()
    }

    /// The shard that holds the slot's byte `position`, and where in it; `None` past the end.
    #[must_use]
    pub fn locate(&self, position: u64) -> Option<Located> {
        self.view().locate(position)
    }

    /// Opens one leaf: [`MultiPath::open`] gives back the slot root.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`].
    pub fn path(&self, number: SegmentNumber) -> Result<MultiPath, SlotTreeError> {
        self.view().multi_path(&[number])
    }

    /// Opens many leaves together. Shape: `numbers` rise.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`], [`SlotTreeError::Unsorted`].
    pub fn multi_path(&self, numbers: &[SegmentNumber]) -> Result<MultiPath, SlotTreeError> {
        self.view().multi_path(numbers)
    }

    /// The right edge, to go on appending without the tree.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        self.view().frontier()
    }

    /// The kept subtree of 2^`height` leaves with index `index`.
    fn kept(&self, height: u32, index: u32) -> TreeNode {
        match height.checked_sub(1) {
            None => self.leaves[as_index(index)].node(),
            Some(level) => self.levels[as_index(level)][as_index(index)],
        }
    }

    /// The sum of [`Self::kept`], without hashing a leaf.
    fn kept_sum(&self, height: u32, index: u32) -> u64 {
        match height.checked_sub(1) {
            None => u64::from(self.leaves[as_index(index)].bytes()),
            Some(level) => self.levels[as_index(level)][as_index(index)].sum,
        }
    }
}

/// That `numbers` rise and are all below `count`.
fn check_numbers(numbers: &[SegmentNumber], count: u32) -> Result<(), SlotTreeError> {
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(SlotTreeError::Unsorted { number: pair[1] });
    }
    match numbers.last() {
        Some(&number) if number.get() >= count => Err(SlotTreeError::NoSegment { number, count }),
        Some(_) | None => Ok(()),
    }
}
