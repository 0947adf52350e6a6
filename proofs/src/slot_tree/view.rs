//! Reading a slot tree, or the tree of its first leaves.

use cairn_core::{SegmentNumber, SlotRoot};

use super::node::{as_index, left_leaves, slot_root};
use super::{Frontier, Leaf, MultiPath, SlotTree, SlotTreeError, TreeNode, check_numbers};

/// The tree of the first [`Self::count`] leaves of a [`SlotTree`].
#[derive(Clone, Copy, Debug)]
pub struct SlotView<'a> {
    tree: &'a SlotTree,
    count: u32,
}

/// A byte of a slot, found by the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The segment whose shard holds it.
    pub number: SegmentNumber,
    /// Where in the shard, in bytes.
    pub offset: u32,
    /// The shard.
    pub leaf: Leaf,
}

impl<'a> SlotView<'a> {
    pub(super) const fn new(tree: &'a SlotTree, count: u32) -> Self {
        Self { tree, count }
    }

    /// Number of leaves, emptied ones included.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Leaf `number`; `None` past the end.
    #[must_use]
    pub fn leaf(&self, number: SegmentNumber) -> Option<Leaf> {
        (number.get() < self.count)
            .then(|| self.tree.leaf(number))
            .flatten()
    }

    /// The slot root. One hash a level.
    #[must_use]
    pub fn root(&self) -> SlotRoot {
        let top = (self.count > 0).then(|| self.node(0, self.count));
        slot_root(self.count, top)
    }

    /// Bytes of all shards.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.peaks()
            .map(|(height, index)| self.tree.kept_sum(height, index))
            .sum()
    }

    /// The shard that holds the slot's byte `position`, and where in it; `None` past the end.
    ///
    /// # Panics
    ///
    /// Never: what is left of the position below a leaf is less than a shard.
    #[must_use]
    pub fn locate(&self, position: u64) -> Option<Located> {
        let mut rest = position;
        for (mut height, mut index) in self.peaks() {
            let sum = self.tree.kept_sum(height, index);
            if rest >= sum {
                rest -= sum;
                continue;
            }
            while let Some(below) = height.checked_sub(1) {
                let left = self.tree.kept_sum(below, 2 * index);
                height = below;
                index *= 2;
                if rest >= left {
                    rest -= left;
                    index += 1;
                }
            }
            return Some(Located {
                number: SegmentNumber::new(index),
                offset: u32::try_from(rest).expect("an offset in a shard of at most 4 MiB"),
                leaf: self.tree.leaves[as_index(index)],
            });
        }
        None
    }

    /// Opens many leaves together. Shape: `numbers` rise; none gives a path without leaves.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::NoSegment`], [`SlotTreeError::Unsorted`].
    pub fn multi_path(&self, numbers: &[SegmentNumber]) -> Result<MultiPath, SlotTreeError> {
        check_numbers(numbers, self.count)?;
        let mut path = MultiPath {
            count: self.count,
            leaves: Vec::with_capacity(numbers.len()),
            nodes: Vec::new(),
        };
        if self.count > 0 {
            self.collect((0, self.count), numbers, &mut path);
        }
        Ok(path)
    }

    /// Adds to `path` what is needed to open `numbers` below the subtree of `size` leaves from
    /// `start`: from left to right, whole subtrees as soon as nothing is opened in them.
    fn collect(&self, (start, size): (u32, u32), numbers: &[SegmentNumber], path: &mut MultiPath) {
        if numbers.is_empty() {
            path.nodes.push(self.node(start, size));
        } else if size == 1 {
            let leaf = self.tree.leaves[as_index(start)];
            path.leaves.push((SegmentNumber::new(start), leaf));
        } else {
            let left = left_leaves(size);
            let middle = start + left;
            let (lower, upper) =
                numbers.split_at(numbers.partition_point(|number| number.get() < middle));
            self.collect((start, left), lower, path);
            self.collect((middle, size - left), upper, path);
        }
    }

    /// The right edge, to go on appending without the tree.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        let peaks = self
            .peaks()
            .map(|(height, index)| self.tree.kept(height, index))
            .collect();
        Frontier::from_peaks(self.count, peaks)
    }

    /// Node of the subtree of `size` > 0 leaves from `start`. Complete ones are kept; the one at
    /// the right edge is put together.
    fn node(&self, start: u32, size: u32) -> TreeNode {
        if size.is_power_of_two() {
            let height = size.trailing_zeros();
            return self.tree.kept(height, start >> height);
        }
        let left = left_leaves(size);
        TreeNode::inner(
            &self.node(start, left),
            &self.node(start + left, size - left),
        )
    }

    /// The complete subtrees that make up the tree, from left to right, as (height, index).
    fn peaks(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let count = self.count;
        (0..u32::BITS)
            .rev()
            .filter(move |height| count & (1 << height) != 0)
            .map(move |height| {
                // The leaves before it are those of the higher bits of the count.
                let index = (count >> height) - 1;
                (height, index)
            })
    }
}
