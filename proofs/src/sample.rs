//! A node with slots in memory, for tests and fuzzing.

#![expect(clippy::unwrap_used, reason = "made of values that are in range")]

use std::cell::Cell;

use cairn_core::message::ShardRange;
use cairn_core::{
    ByteCount, Digest, GroupId, GroupRevision, NodeId, PublicKey, RevisionNumber, SegmentNumber,
    SlotIndex, SlotRoot,
};

use crate::slot_tree::{as_count, as_index};
use crate::{AcknowledgedSlot, Leaf, Outboard, ProofSource, SlotTree, group_root, hash_shard};

/// The node that answers.
pub(crate) fn node() -> NodeId {
    NodeId::new(PublicKey::from_bytes([7; 32]))
}

/// Bytes that nobody would guess, the same on every run.
pub(crate) fn stream(name: &str, bytes: u32) -> Vec<u8> {
    let mut out = vec![0; as_index(bytes)];
    blake3::Hasher::new()
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A slot: its place, its tree and its shards.
#[derive(Clone, Debug)]
pub(crate) struct SampleSlot {
    pub(crate) acknowledged: AcknowledgedSlot,
    pub(crate) tree: SlotTree,
    pub(crate) slot_roots: Vec<SlotRoot>,
    pub(crate) shards: Shards,
}

/// The shards of a slot.
#[derive(Clone, Debug)]
pub(crate) enum Shards {
    /// One for each segment; an empty one where the leaf is empty.
    Own(Vec<Vec<u8>>),
    /// The same for every segment.
    #[cfg(test)]
    Same(Vec<u8>),
}

impl SampleSlot {
    /// Slot `slot` of `slot_count` in group `group`, with a shard of each of `sizes` bytes; 0 is
    /// an emptied leaf.
    pub(crate) fn new(group: u8, (slot, slot_count): (u8, u8), sizes: &[u32]) -> Self {
        let shards: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(number, bytes)| stream(&format!("{group} {slot} {number}"), *bytes))
            .collect();
        let leaves: Vec<Leaf> = shards.iter().map(|shard| leaf(shard)).collect();
        let tree = SlotTree::from_leaves(leaves).unwrap();
        Self::with(group, (slot, slot_count), tree, Shards::Own(shards))
    }

    /// The same with `count` shards that are all `shard`.
    #[cfg(test)]
    pub(crate) fn same(group: u8, place: (u8, u8), shard: Vec<u8>, count: u32) -> Self {
        let leaves = std::iter::repeat_n(leaf(&shard), as_index(count));
        let tree = SlotTree::from_leaves(leaves).unwrap();
        Self::with(group, place, tree, Shards::Same(shard))
    }

    fn with(group: u8, (slot, slot_count): (u8, u8), tree: SlotTree, shards: Shards) -> Self {
        let mut slot_roots: Vec<SlotRoot> = (0..slot_count)
            .map(|other| SlotRoot::new(Digest::of(&[group, other])))
            .collect();
        slot_roots[usize::from(slot)] = tree.root();
        let acknowledged = AcknowledgedSlot {
            revision: GroupRevision {
                group: GroupId::new(Digest::new([group; 32])),
                number: RevisionNumber::new(3),
                segment_count: tree.count(),
                slot_bytes: ByteCount::new(tree.sum()),
                group_root: group_root(&slot_roots).unwrap(),
            },
            slot: SlotIndex::new(slot),
            slot_count,
        };
        Self {
            acknowledged,
            tree,
            slot_roots,
            shards,
        }
    }

    pub(crate) fn shard(&self, number: SegmentNumber) -> &[u8] {
        match &self.shards {
            Shards::Own(shards) => &shards[as_index(number.get())],
            #[cfg(test)]
            Shards::Same(shard) => shard,
        }
    }
}

fn leaf(shard: &[u8]) -> Leaf {
    hash_shard(shard).map_or(Leaf::EMPTY, |hashed| {
        Leaf::new(as_count(shard.len()), hashed.root).unwrap()
    })
}

/// A node that keeps slots in memory and counts its reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleNode {
    pub(crate) slots: Vec<SampleSlot>,
    pub(crate) reads: Cell<u32>,
}

/// The node does not have what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not kept")]
pub(crate) struct NotKept;

impl SampleNode {
    /// A node with these slots, which rise by (group, slot).
    pub(crate) fn new(slots: Vec<SampleSlot>) -> Self {
        Self {
            slots,
            reads: Cell::new(0),
        }
    }

    /// Three slots of two groups with shards of every shape.
    pub(crate) fn small() -> Self {
        Self::new(vec![
            SampleSlot::new(1, (0, 4), &[3_000, 0, 1, 20_000, 1_024]),
            SampleSlot::new(1, (3, 4), &[0, 16_384, 16_385]),
            SampleSlot::new(2, (5, 8), &[40_000, 700, 0]),
        ])
    }

    /// As the ledger has it.
    pub(crate) fn acknowledged(&self) -> Vec<AcknowledgedSlot> {
        self.slots.iter().map(|slot| slot.acknowledged).collect()
    }

    fn find(&self, slot: &AcknowledgedSlot) -> Result<&SampleSlot, NotKept> {
        let place = (slot.revision.group, slot.slot);
        self.slots
            .iter()
            .find(|kept| (kept.acknowledged.revision.group, kept.acknowledged.slot) == place)
            .ok_or(NotKept)
    }
}

impl ProofSource for SampleNode {
    type Error = NotKept;

    fn slot_roots(&self, slot: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, NotKept> {
        Ok(self.find(slot)?.slot_roots.clone())
    }

    fn with_tree<T>(
        &self,
        slot: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, NotKept> {
        Ok(read(&self.find(slot)?.tree))
    }

    fn outboard(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        _: Leaf,
    ) -> Result<Outboard, NotKept> {
        self.reads.set(self.reads.get() + 1);
        let shard = self.find(slot)?.shard(number);
        hash_shard(shard)
            .map(|hashed| hashed.outboard)
            .map_err(|_| NotKept)
    }

    fn read(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, NotKept> {
        self.reads.set(self.reads.get() + 1);
        let start = as_index(range.offset);
        let shard = self.find(slot)?.shard(number);
        shard
            .get(start..start + as_index(range.bytes))
            .map(<[u8]>::to_vec)
            .ok_or(NotKept)
    }
}
