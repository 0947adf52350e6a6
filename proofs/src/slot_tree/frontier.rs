//! The right edge of a slot tree: enough to append and to know the root.

use std::io::{Error, ErrorKind, Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{SegmentNumber, SlotRoot};

use super::node::{as_index, slot_root};
use super::{Leaf, SlotTreeError, TreeNode};

/// A slot tree that can only grow: its complete subtrees from left to right, at most 21 nodes of
/// 40 bytes. A writer keeps n of these for a group instead of n trees.
///
/// Encoded as count (`u32`) and the nodes, whose number follows from the count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    count: u32,
    /// One for each bit of the count, the highest first.
    peaks: Vec<TreeNode>,
}

impl Frontier {
    /// The frontier of a tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: 0,
            peaks: Vec::new(),
        }
    }

    pub(super) const fn from_peaks(count: u32, peaks: Vec<TreeNode>) -> Self {
        Self { count, peaks }
    }

    /// Number of leaves, emptied ones included.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of all shards.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.peaks.iter().map(|node| node.sum).sum()
    }

    /// Adds a leaf at the end and returns its number. Two hashes, amortised.
    ///
    /// # Errors
    ///
    /// [`SlotTreeError::Full`] at [`SEGMENTS_MAX`] leaves; nothing is changed.
    ///
    /// # Panics
    ///
    /// Never: there is a peak for each bit of the count.
    pub fn append(&mut self, leaf: Leaf) -> Result<SegmentNumber, SlotTreeError> {
        if self.count >= SEGMENTS_MAX {
            return Err(SlotTreeError::Full);
        }
        let number = SegmentNumber::new(self.count);
        let completed = as_index(self.count.trailing_ones());
        let mut node = leaf.node();
        for _ in 0..completed {
            let left = self.peaks.pop().expect("a peak for each bit of the count");
            node = TreeNode::inner(&left, &node);
        }
        self.peaks.push(node);
        self.count += 1;
        Ok(number)
    }

    /// The slot root. One hash a peak.
    #[must_use]
    pub fn root(&self) -> SlotRoot {
        let top = self
            .peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| TreeNode::inner(&left, &right));
        slot_root(self.count, top)
    }
}

impl BorshSerialize for Frontier {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> IoResult<()> {
        self.count.serialize(writer)?;
        self.peaks
            .iter()
            .try_for_each(|node| node.serialize(writer))
    }
}

impl BorshDeserialize for Frontier {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let count = u32::deserialize_reader(reader)?;
        if count > SEGMENTS_MAX {
            return Err(malformed("a frontier of too many leaves"));
        }
        let peaks = (0..count.count_ones())
            .map(|_| TreeNode::deserialize_reader(reader))
            .collect::<IoResult<Vec<_>>>()?;
        // Later arithmetic relies on sums that a tree of this many leaves can have.
        let most = u64::from(count) * u64::from(cairn_core::code::SHARD_BYTES_MAX);
        let fits = peaks
            .iter()
            .try_fold(0_u64, |sum, node| sum.checked_add(node.sum))
            .is_some_and(|sum| sum <= most);
        if !fits {
            return Err(malformed("a frontier with impossible sums"));
        }
        Ok(Self { count, peaks })
    }
}

fn malformed(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
