//! What proofs are made of: the tree of a reached revision, outboards and bytes of its shards.

use cairn_core::message::ShardRange;
use cairn_core::{SegmentNumber, SlotRoot};
use cairn_ledger::tx::SlotRef;
use cairn_proofs::prove::ProofSource;
use cairn_proofs::{AcknowledgedSlot, Leaf, Outboard, SlotTree};
use cairn_runtime::Disk;

use super::error::{ShardPlace, StoreError};
use super::index::{Entry, Slot};
use super::state::Reached;
use super::{ShardStore, lock};

/// Where the tree of a revision comes from.
enum Source<'a> {
    /// The slot's own: since then leaves were only appended.
    Own(&'a SlotTree),
    /// Its leaves.
    Leaves(Vec<Leaf>),
}

impl<D: Disk> ProofSource for ShardStore<D> {
    type Error = StoreError;

    fn slot_roots(&self, slot: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, StoreError> {
        let index = lock(&self.index);
        let known = index.slots.get(&place(slot));
        let revision = known.and_then(|known| known.revision(slot.revision.number));
        let revision = revision.ok_or_else(|| unreached(slot))?;
        Ok(revision.slot_roots.to_vec())
    }

    fn with_tree<T>(
        &self,
        slot: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, StoreError> {
        let index = lock(&self.index);
        let known = index.slots.get(&place(slot));
        let known = known.ok_or_else(|| unreached(slot))?;
        let leaves = match source(known, slot)? {
            Source::Own(tree) => return Ok(read(tree)),
            Source::Leaves(leaves) => leaves,
        };
        // Hashing them takes long.
        drop(index);
        let mut tree = SlotTree::new();
        for (number, leaf) in (0..).map(SegmentNumber::new).zip(leaves) {
            let shard = ShardPlace::new(place(slot), number);
            let appended = tree.append(leaf);
            appended.map_err(|_| StoreError::OutOfRange { shard })?;
        }
        Ok(read(&tree))
    }

    fn outboard(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        _leaf: Leaf,
    ) -> Result<Outboard, StoreError> {
        self.proved_outboard(ShardPlace::new(place(slot), number))
    }

    fn read(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, StoreError> {
        self.proved_bytes(ShardPlace::new(place(slot), number), range)
    }
}

const fn place(slot: &AcknowledgedSlot) -> SlotRef {
    SlotRef {
        group: slot.revision.group,
        slot: slot.slot,
    }
}

const fn unreached(slot: &AcknowledgedSlot) -> StoreError {
    StoreError::Unreached {
        slot: place(slot),
        revision: slot.revision.number,
    }
}

/// Where the tree of the revision comes from.
fn source<'a>(known: &'a Slot, slot: &AcknowledgedSlot) -> Result<Source<'a>, StoreError> {
    let revision = known.revision(slot.revision.number);
    let Reached {
        revision, emptied, ..
    } = revision.ok_or_else(|| unreached(slot))?;
    let count = revision.segment_count;
    // Leaves are emptied for good, so as many are the same.
    let is_same = known.state.emptied.count_below(count) == emptied.count_below(count);
    if let Some(tree) = known.tree.as_ref().filter(|_| is_same) {
        return Ok(Source::Own(tree));
    }
    let leaf = |number: SegmentNumber| {
        if emptied.contains(number) {
            return Ok(Leaf::EMPTY);
        }
        let shard = ShardPlace::new(place(slot), number);
        // Of one that was lost since, the slot's tree may still have the leaf.
        let own = || {
            known
                .reached_leaf(number)
                .filter(|leaf| *leaf != Leaf::EMPTY)
        };
        let leaf = known.entry(number).map(Entry::leaf).or_else(own);
        leaf.ok_or(StoreError::Absent { shard })
    };
    let leaves = (0..count).map(SegmentNumber::new).map(leaf);
    leaves.collect::<Result<_, _>>().map(Source::Leaves)
}
