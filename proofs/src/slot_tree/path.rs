//! Opening leaves of a slot tree, on the side that has only the root.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{SegmentNumber, SlotRoot};

use super::node::{left_leaves, slot_root};
use super::{Leaf, TreeNode};

/// Some leaves of a slot tree and what is needed to compute its root from them.
///
/// Shape: `leaves` rise by number; `nodes` are the subtrees that hold none of them, as large as
/// possible, from left to right. For given `count` and numbers there is one such path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiPath {
    /// Leaves of the whole tree.
    pub count: u32,
    /// The opened leaves, by rising number.
    pub leaves: Vec<(SegmentNumber, Leaf)>,
    /// The subtrees beside them, from left to right.
    pub nodes: Vec<TreeNode>,
}

/// What a path proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The root that the leaves and nodes give. Compare it.
    pub root: SlotRoot,
    /// Bytes of the slot.
    pub sum: u64,
    /// For each opened leaf, the position of its first byte in the slot.
    pub starts: Vec<u64>,
}

/// Why leaves and nodes are not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More leaves than a slot tree may have.
    #[error("expected a slot tree of at most {SEGMENTS_MAX} leaves, found {found}")]
    Count {
        /// The count found.
        found: u32,
    },
    /// A leaf's number is past the end or does not rise.
    #[error("expected rising segments below {count}, found {number}")]
    Number {
        /// The number found.
        number: SegmentNumber,
        /// Leaves of the tree.
        count: u32,
    },
    /// Too few or too many nodes for these leaves.
    #[error("the nodes are not those that the leaves need: found {found}")]
    NodeCount {
        /// Nodes found.
        found: usize,
    },
    /// Sums that no tree has.
    #[error("the sums pass 2^64 - 1")]
    Sum,
}

impl MultiPath {
    /// Computes the root from the opened leaves.
    ///
    /// # Errors
    ///
    /// [`PathError`] when this is not a path of one form.
    pub fn open(&self) -> Result<Opening, PathError> {
        open_path(self.count, &self.leaves, &self.nodes)
    }
}

/// Computes the root of a tree of `count` leaves from some of them and the `nodes` beside them.
///
/// # Errors
///
/// [`PathError`] when this is not the one path that the numbers need. A path that opens to
/// another root than expected is for the caller to refuse.
pub fn open_path(
    count: u32,
    leaves: &[(SegmentNumber, Leaf)],
    nodes: &[TreeNode],
) -> Result<Opening, PathError> {
    if count > SEGMENTS_MAX {
        return Err(PathError::Count { found: count });
    }
    let mut below = None;
    for &(number, _) in leaves {
        if number.get() >= count || below >= Some(number) {
            return Err(PathError::Number { number, count });
        }
        below = Some(number);
    }
    let mut walk = Walk {
        found: nodes.len(),
        leaves,
        nodes,
        position: 0,
        starts: Vec::with_capacity(leaves.len()),
    };
    let top = match count {
        0 => None,
        size => Some(walk.node(0, size)?),
    };
    if !walk.nodes.is_empty() {
        return Err(walk.wrong_nodes());
    }
    Ok(Opening {
        root: slot_root(count, top),
        sum: walk.position,
        starts: walk.starts,
    })
}

/// State of the walk from left to right.
struct Walk<'a> {
    /// Leaves not yet passed.
    leaves: &'a [(SegmentNumber, Leaf)],
    /// Nodes not yet passed.
    nodes: &'a [TreeNode],
    /// How many nodes there were.
    found: usize,
    /// Bytes passed.
    position: u64,
    /// See [`Opening::starts`].
    starts: Vec<u64>,
}

impl Walk<'_> {
    /// The node of `size` leaves from `start`. Depth: at most 20 levels, since counts are bounded.
    fn node(&mut self, start: u32, size: u32) -> Result<TreeNode, PathError> {
        let end = start.checked_add(size).ok_or(PathError::Sum)?;
        match self.leaves.split_first() {
            Some(((number, leaf), rest)) if number.get() < end => {
                if size == 1 {
                    self.leaves = rest;
                    self.starts.push(self.position);
                    self.pass(u64::from(leaf.bytes()))?;
                    return Ok(leaf.node());
                }
            }
            Some(_) | None => {
                let (node, rest) = self.nodes.split_first().ok_or_else(|| self.wrong_nodes())?;
                self.nodes = rest;
                self.pass(node.sum)?;
                return Ok(*node);
            }
        }
        let left = left_leaves(size);
        let first = self.node(start, left)?;
        let second = self.node(start.saturating_add(left), size.saturating_sub(left))?;
        TreeNode::checked_inner(&first, &second).ok_or(PathError::Sum)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), PathError> {
        self.position = self.position.checked_add(bytes).ok_or(PathError::Sum)?;
        Ok(())
    }

    const fn wrong_nodes(&self) -> PathError {
        PathError::NodeCount { found: self.found }
    }
}
