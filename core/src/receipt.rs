//! A node's word that a shard is durable.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::id::{GroupId, NodeId, SegmentNumber, ShardRoot, SlotIndex};
use crate::record::{Record, RecordKind};

/// Says that `node` has made the shard durable: it survives power loss. Signed by the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// Who keeps it.
    pub node: NodeId,
    /// The group.
    pub group: GroupId,
    /// The slot.
    pub slot: SlotIndex,
    /// The segment.
    pub segment: SegmentNumber,
    /// The shard's identity.
    pub shard_root: ShardRoot,
    /// The shard's size.
    pub shard_bytes: u32,
}

impl Record for Receipt {
    const KIND: RecordKind = RecordKind::Receipt;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 160;
}
