//! The segment record: public, keyless list of a segment's shards.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::bounded::Bounded;
use crate::code::{Code, SHARD_BYTES_MAX, SLOTS_MAX};
use crate::id::{GroupId, SegmentNumber, ShardRoot, SlotIndex};
use crate::record::{Record, RecordKind};

/// What a node, a reader and a repairer need to know of a segment: its place, its code, its sizes
/// and the identity of each of its shards. Signed by the writer ([`crate::Signed`]). About 1.4 KB
/// at n = 40.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SegmentRecord {
    /// The group.
    pub group: GroupId,
    /// The segment's number in it.
    pub number: SegmentNumber,
    /// The group's code.
    pub code: Code,
    /// Bytes of the payload before padding: 1 to k times the shard.
    pub payload_bytes: u32,
    /// Root of each shard, by slot; n of them.
    pub shard_roots: Bounded<ShardRoot, SLOTS_MAX>,
}

impl SegmentRecord {
    /// Bytes of each shard.
    #[must_use]
    pub fn shard_bytes(&self) -> u32 {
        self.code.shard_bytes(self.payload_bytes)
    }

    /// Root of the shard in `slot`; `None` past n.
    #[must_use]
    pub fn shard_root(&self, slot: SlotIndex) -> Option<ShardRoot> {
        self.shard_roots.get(slot.index()).copied()
    }
}

impl Record for SegmentRecord {
    const KIND: RecordKind = RecordKind::Segment;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64 + 32 * SLOTS_MAX;

    fn is_well_formed(&self) -> bool {
        self.payload_bytes > 0
            && self.shard_bytes() <= SHARD_BYTES_MAX
            && self.shard_roots.len() == self.code.shard_count()
    }
}
