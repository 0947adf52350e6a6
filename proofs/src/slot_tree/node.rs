//! Leaves and inner nodes of a slot tree, and how they are hashed.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::{Error, ErrorKind, Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::{Digest, SegmentRecord, ShardRoot, SlotIndex, SlotRoot};

use crate::domain;

/// Bytes of a node as its parent hashes it: hash and sum.
const NODE_BYTES: usize = 40;

/// Leaf of a slot tree: a shard, or nothing where a revision emptied it.
///
/// Encoded as shard bytes (`u32`) and shard root; the empty leaf is 36 zero bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub struct Leaf {
    bytes: u32,
    root: ShardRoot,
}

/// Why something is not a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// A shard has at least 1 byte and at most [`SHARD_BYTES_MAX`].
    #[error("expected a shard of 1 to {SHARD_BYTES_MAX} bytes, found {found}")]
    ShardBytes {
        /// The size found.
        found: u32,
    },
    /// The segment has no shard for that slot.
    #[error("expected a slot below {count}, found {slot}")]
    NoShard {
        /// The slot asked for.
        slot: SlotIndex,
        /// Shards of the segment.
        count: usize,
    },
}

impl Leaf {
    /// An emptied leaf: no bytes.
    pub const EMPTY: Self = Self {
        bytes: 0,
        root: ShardRoot::new(Digest::new([0; 32])),
    };

    /// A shard of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`LeafError::ShardBytes`] for no bytes or more than [`SHARD_BYTES_MAX`].
    pub const fn new(bytes: u32, root: ShardRoot) -> Result<Self, LeafError> {
        if bytes == 0 || bytes > SHARD_BYTES_MAX {
            return Err(LeafError::ShardBytes { found: bytes });
        }
        Ok(Self { bytes, root })
    }

    /// The leaf of `record`'s segment in the tree of `slot`.
    ///
    /// # Errors
    ///
    /// [`LeafError`] when the record has no such shard or a size out of range.
    pub fn of(record: &SegmentRecord, slot: SlotIndex) -> Result<Self, LeafError> {
        let root = record.shard_root(slot).ok_or(LeafError::NoShard {
            slot,
            count: record.shard_roots.len(),
        })?;
        Self::new(record.shard_bytes(), root)
    }

    /// Bytes of the shard; 0 when empty.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The shard's root; `None` when empty.
    #[must_use]
    pub const fn shard_root(&self) -> Option<ShardRoot> {
        if self.is_empty() {
            None
        } else {
            Some(self.root)
        }
    }

    /// Whether a revision emptied it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Its node in the tree. One hash.
    #[must_use]
    pub fn node(&self) -> TreeNode {
        let hash = if self.is_empty() {
            domain::SLOT_EMPTY.digest(&[])
        } else {
            let mut content = [0; 36];
            let (bytes, root) = content.split_at_mut(4);
            bytes.copy_from_slice(&self.bytes.to_le_bytes());
            root.copy_from_slice(self.root.as_bytes());
            domain::SLOT_LEAF.digest(&content)
        };
        TreeNode {
            hash,
            sum: u64::from(self.bytes),
        }
    }
}

impl BorshDeserialize for Leaf {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let (bytes, root) = <(u32, ShardRoot)>::deserialize_reader(reader)?;
        if bytes == 0 && root == Self::EMPTY.root {
            return Ok(Self::EMPTY);
        }
        Self::new(bytes, root).map_err(|error| Error::new(ErrorKind::InvalidData, error))
    }
}

/// A node of a slot tree: 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TreeNode {
    /// Hash of what is below.
    pub hash: Digest,
    /// Bytes of all shards below.
    pub sum: u64,
}

impl TreeNode {
    /// The parent of two nodes; `None` when the sum passes 2^64 - 1, which no honest tree reaches.
    #[must_use]
    pub fn checked_inner(left: &Self, right: &Self) -> Option<Self> {
        let sum = left.sum.checked_add(right.sum)?;
        let mut content = [0; 2 * NODE_BYTES];
        let (first, second) = content.split_at_mut(NODE_BYTES);
        left.write(first);
        right.write(second);
        Some(Self {
            hash: domain::SLOT_INNER.digest(&content),
            sum,
        })
    }

    /// The parent of two nodes of a tree of ours.
    pub(crate) fn inner(left: &Self, right: &Self) -> Self {
        Self::checked_inner(left, right).expect("2^20 shards of 4 MiB add up to 2^42 bytes")
    }

    fn write(&self, place: &mut [u8]) {
        let (hash, sum) = place.split_at_mut(Digest::BYTES);
        hash.copy_from_slice(self.hash.as_bytes());
        sum.copy_from_slice(&self.sum.to_le_bytes());
    }
}

/// The slot root of `count` leaves under `top`; a tree without leaves has 32 zero bytes there.
pub(crate) fn slot_root(count: u32, top: Option<TreeNode>) -> SlotRoot {
    let top = top.unwrap_or(TreeNode {
        hash: Digest::new([0; 32]),
        sum: 0,
    });
    let mut content = [0; 44];
    let (head, hash) = content.split_at_mut(12);
    let (leaves, sum) = head.split_at_mut(4);
    leaves.copy_from_slice(&count.to_le_bytes());
    sum.copy_from_slice(&top.sum.to_le_bytes());
    hash.copy_from_slice(top.hash.as_bytes());
    SlotRoot::new(domain::SLOT_ROOT.digest(&content))
}

/// Leaves on the left of a tree of `size` > 1 leaves: the largest power of two below `size`.
pub(crate) fn left_leaves(size: u32) -> u32 {
    size.div_ceil(2).next_power_of_two()
}

/// A segment number or level as an index.
///
/// # Panics
///
/// Never where `usize` has 32 bits or more.
pub(crate) fn as_index(number: u32) -> usize {
    usize::try_from(number).expect("a 32-bit number is an index")
}

/// A length as a count.
///
/// # Panics
///
/// Never: no list here is longer than 2^32 - 1.
pub(crate) fn as_count(len: usize) -> u32 {
    u32::try_from(len).expect("lists here have at most 2^20 entries")
}
