//! Group revisions, and where a group's slots are.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::bounded::Bounded;
use crate::code::{Code, SLOTS_MAX};
use crate::id::{GroupId, GroupRoot, Height, NodeId, RevisionNumber, SegmentNumber, SlotRoot};
use crate::record::{Record, RecordKind};
use crate::size::ByteCount;

/// Most segments of a group: bounds the slot trees that a node keeps in memory (40 MiB each).
pub const SEGMENTS_MAX: u32 = 1 << 20;
/// Most leaves that one revision empties; more take several revisions.
pub const EMPTIED_MAX: usize = 1 << 16;

/// The state of a group that its writer commits to. The ledger keeps the newest of each group.
/// Every slot has the same bytes, since the shards of a segment have the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupRevision {
    /// The group.
    pub group: GroupId,
    /// One more than the revision before.
    pub number: RevisionNumber,
    /// Leaves of each slot tree, emptied ones included.
    pub segment_count: u32,
    /// Bytes of each slot, emptied leaves not counted.
    pub slot_bytes: ByteCount,
    /// Root over the n slot roots.
    pub group_root: GroupRoot,
}

impl Record for GroupRevision {
    const KIND: RecordKind = RecordKind::GroupRevision;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 128;

    fn is_well_formed(&self) -> bool {
        self.segment_count <= SEGMENTS_MAX
    }
}

/// What nodes need beside the revision: the n slot roots under its group root, and which leaves
/// it empties. Sent to the slots by the writer and passed on among them. The slot roots prove
/// themselves against the ledger's group root; the emptied leaves can't, so it is signed by the
/// group's owner.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RevisionDetail {
    /// The revision.
    pub revision: GroupRevision,
    /// Root of each slot tree, by slot; n of them.
    pub slot_roots: Bounded<SlotRoot, SLOTS_MAX>,
    /// Leaves that this revision empties, and those of earlier ones whose details too few slots
    /// took, rising.
    pub emptied: Bounded<SegmentNumber, EMPTIED_MAX>,
}

impl Record for RevisionDetail {
    const KIND: RecordKind = RecordKind::RevisionDetail;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 256 + 32 * SLOTS_MAX + 4 * EMPTIED_MAX;

    fn is_well_formed(&self) -> bool {
        self.revision.is_well_formed()
            && self
                .emptied
                .iter()
                .all(|number| number.get() < self.revision.segment_count)
            && self.emptied.is_sorted_by(|a, b| a < b)
    }
}

/// DHT record: which node holds which slot of a group. For finding them without asking a validator;
/// the ledger is the authority. Signed by the owner, who is part of the key that it is under.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupRecord {
    /// The group.
    pub group: GroupId,
    /// Height of the ledger that it was read at; a higher one replaces a lower one.
    pub height: Height,
    /// The group's code.
    pub code: Code,
    /// Node of each slot; n of them.
    pub slots: Bounded<NodeId, SLOTS_MAX>,
}

impl Record for GroupRecord {
    const KIND: RecordKind = RecordKind::Group;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64 + 32 * SLOTS_MAX;

    fn is_well_formed(&self) -> bool {
        self.slots.len() == self.code.shard_count()
    }
}
