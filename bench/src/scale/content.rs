//! Shards that exist only on demand: their bytes follow from a seed.
//!
//! There are [`SHARDS`] different shards of 1 MiB. Slot j of every group has the same slot tree,
//! whose leaf i is shard (j + 40 i) mod [`SHARDS`]; slots of different numbers have different trees.
//! A group at a revision of c segments has the first c leaves of each. So every root, path and block
//! of a proof is the real one of the slot's bytes, and each shard is hashed once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use anyhow::{Context, Result};
use cairn_core::message::ShardRange;
use cairn_core::{
    ByteCount, GroupId, GroupRevision, GroupRoot, RevisionNumber, SegmentNumber, SlotRoot,
};
use cairn_proofs::{
    AcknowledgedSlot, HashedShard, Leaf, Outboard, ProofSource, SlotTree, group_root, hash_shard,
};

/// Different shards; prime, so that each tree has all of them.
pub(super) const SHARDS: u32 = 251;
/// Bytes of a shard.
pub(super) const SHARD_BYTES: u32 = 1 << 20;
/// Slots of a group.
pub(super) const SLOTS: u8 = 40;
/// Leaves of the trees: a slot of 16 GiB.
pub(super) const LEAVES: u32 = 16 << 10;

/// All shards and slot trees.
#[derive(Debug)]
pub(super) struct Content {
    shards: Vec<HashedShard>,
    /// Of each slot, with all its leaves.
    trees: Vec<SlotTree>,
    /// Slot roots of the first leaves, by their number; made when first asked for.
    roots: RefCell<BTreeMap<u32, Vec<SlotRoot>>>,
}

impl Content {
    /// Hashes the shards and builds the trees: a second.
    pub(super) fn new() -> Result<Self> {
        let hash = |shard| {
            let mut bytes = vec![0; usize::try_from(SHARD_BYTES)?];
            fill(shard, 0, &mut bytes);
            anyhow::Ok(hash_shard(&bytes)?)
        };
        let shards = (0..SHARDS).map(hash).collect::<Result<Vec<_>>>()?;
        let leaves = shards
            .iter()
            .map(|shard| Leaf::new(SHARD_BYTES, shard.root))
            .collect::<Result<Vec<_>, _>>()?;
        let tree = |slot: u8| {
            let leaf = |number| leaves.get(index(shard_of(slot, number))).copied();
            Ok(SlotTree::from_leaves((0..LEAVES).filter_map(leaf))?)
        };
        Ok(Self {
            trees: (0..SLOTS).map(tree).collect::<Result<Vec<_>>>()?,
            shards,
            roots: RefCell::default(),
        })
    }

    /// A revision of so many segments.
    pub(super) fn revision(
        &self,
        group: GroupId,
        number: RevisionNumber,
        segment_count: u32,
    ) -> Result<GroupRevision> {
        Ok(GroupRevision {
            group,
            number,
            segment_count,
            slot_bytes: slot_bytes(segment_count),
            group_root: self.group_root(segment_count)?,
        })
    }

    fn group_root(&self, segment_count: u32) -> Result<GroupRoot> {
        Ok(group_root(&self.roots(segment_count))?)
    }

    fn roots(&self, segment_count: u32) -> Vec<SlotRoot> {
        let root = |tree: &SlotTree| tree.view_at(segment_count).map(|view| view.root());
        let make = || {
            self.trees
                .iter()
                .filter_map(|tree| root(tree).ok())
                .collect()
        };
        let mut roots = self.roots.borrow_mut();
        roots.entry(segment_count).or_insert_with(make).clone()
    }
}

/// Bytes of a slot of so many segments.
pub(super) fn slot_bytes(segment_count: u32) -> ByteCount {
    ByteCount::new(u64::from(segment_count) * u64::from(SHARD_BYTES))
}

fn shard_of(slot: u8, number: u32) -> u32 {
    (number * u32::from(SLOTS) + u32::from(slot)) % SHARDS
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Bytes of a shard from `offset` on.
fn fill(shard: u32, offset: u64, bytes: &mut [u8]) {
    let mut stream = blake3::Hasher::new_derive_key("cairn bench shard")
        .update(&shard.to_le_bytes())
        .finalize_xof();
    stream.set_position(offset);
    stream.fill(bytes);
}

impl ProofSource for Content {
    type Error = Infallible;

    fn slot_roots(&self, slot: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, Infallible> {
        Ok(self.roots(slot.revision.segment_count))
    }

    fn with_tree<T>(
        &self,
        slot: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, Infallible> {
        Ok(read(&self.trees[slot.slot.index()]))
    }

    fn outboard(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        _: Leaf,
    ) -> Result<Outboard, Infallible> {
        let shard = shard_of(slot.slot.get(), number.get());
        Ok(self.shards[index(shard)].outboard.clone())
    }

    fn read(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, Infallible> {
        let shard = shard_of(slot.slot.get(), number.get());
        let mut bytes = vec![0; index(range.bytes)];
        fill(shard, u64::from(range.offset), &mut bytes);
        Ok(bytes)
    }
}

/// Segments of a revision that appends one.
pub(super) fn next_count(segment_count: u32) -> Result<u32> {
    let next = segment_count + 1;
    (next <= LEAVES)
        .then_some(next)
        .context("the slots are full: simulate fewer epochs or revise fewer groups")
}
