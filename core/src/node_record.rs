//! DHT record: where a node answers.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::bounded::{Bounded, Text};
use crate::id::NodeId;
use crate::record::{Record, RecordKind};
use crate::time::UnixMillis;

/// Most addresses of one kind in a node record.
pub const ADDRESSES_MAX: usize = 16;
/// Longest address as text; a relayed multiaddress with two peer ids is about 200.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// An address as text: a libp2p multiaddress, or `host:port` of the data plane.
pub type NodeAddress = Text<ADDRESS_BYTES_MAX>;

/// Where a node answers. Signed by the node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// When it was made; a later one replaces an earlier one.
    pub made_at: UnixMillis,
    /// libp2p multiaddresses of the control plane.
    pub control: Bounded<NodeAddress, ADDRESSES_MAX>,
    /// `ip:port` of the direct data plane; empty behind NAT, where libp2p streams serve.
    pub data: Bounded<NodeAddress, ADDRESSES_MAX>,
}

impl Record for NodeRecord {
    const KIND: RecordKind = RecordKind::Node;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 128 + 2 * ADDRESSES_MAX * (4 + ADDRESS_BYTES_MAX);
}
