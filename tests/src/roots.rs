//! Slot roots by the bytes that nodes really have (I3), not by what they say.

use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{ControlRequest, ControlResponse, RecordEntry, ShardRange, WithRecord};
use cairn_core::{
    Capability, CapabilityLink, Digest, GroupId, NodeId, Record, Right, Scope, SecretKey,
    SegmentNumber, ShardRoot, SlotIndex, SlotRoot, UnixMillis,
};
use cairn_ledger::Ledger;
use cairn_ledger::group::Group;
use cairn_net::sim::SimPeer;
use cairn_net::{DataPool, DhtMode, Network, PoolLimits, Pooled, ShardWanted};
use cairn_proofs::{Leaf, SlotTree, group_root};
use cairn_runtime::SimRuntime;

use crate::cluster::{Cluster, key_of};

/// How long a node may take for one answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A peer that reads whole slots.
#[derive(Debug)]
struct Checker {
    peer: SimPeer,
    pool: DataPool<SimPeer, SimRuntime>,
    capability: Capability,
    group: Group,
}

impl Checker {
    async fn new(cluster: &Cluster, owner: &SecretKey, id: GroupId) -> Self {
        let group = cluster.sequencer().group(id).await;
        let name = "checker of roots";
        let runtime = cluster.world.sim.machine(name).runtime();
        let node = NodeId::new(key_of(name).public());
        let peer = cluster.world.net.join(&runtime, node, DhtMode::Client);
        let link = CapabilityLink {
            scope: Scope::Group(id),
            right: Right::Read,
            holder: node.key(),
            expires_at: UnixMillis::new(u64::MAX),
        };
        Self {
            pool: DataPool::new(peer.clone(), runtime, PoolLimits::DEFAULT),
            peer,
            capability: Capability::issue(link, owner),
            group: group
                .expect("the sequencer answers")
                .expect("the group exists"),
        }
    }

    /// The root of the bytes that a slot's node serves.
    async fn root(&self, slot: SlotIndex) -> SlotRoot {
        let node = self.group.deal(slot).expect("a slot of the group").node;
        let taken = self.pool.take(node, &self.capability, LIMIT).await;
        let mut conn = taken.expect("the node is up and takes the owner's capability");
        let count = self.group.revision.segment_count;
        let mut leaves = Vec::new();
        while let Some(left) = count
            .checked_sub(width(leaves.len()))
            .filter(|left| *left > 0)
        {
            let from = SegmentNumber::new(width(leaves.len()));
            let page = conn.records(self.group.id, from, left).await;
            let (entries, _) = page.expect("records are served");
            assert!(!entries.is_empty(), "slot {slot}: no record from {from} on");
            for entry in entries.iter() {
                leaves.push(self.leaf(&mut conn, slot, entry).await);
            }
        }
        let tree = SlotTree::from_leaves(leaves).expect("a group's worth of leaves");
        tree.root()
    }

    /// The slot roots of the current revision, of which the ledger has the group root, from a node.
    async fn committed(&self, node: NodeId) -> Vec<SlotRoot> {
        let request = ControlRequest::Detail {
            group: self.group.id,
        };
        let answer = self.peer.request(node, request.encode(), LIMIT).await;
        let answer = ControlResponse::decode(&answer.expect("the node answers"));
        let Ok(ControlResponse::Detail(signed)) = answer else {
            panic!("expected the revision's detail, found {answer:?}");
        };
        let detail = signed.unverified();
        assert_eq!(detail.revision, self.group.revision);
        let root = group_root(&detail.slot_roots);
        assert_eq!(root, Ok(self.group.revision.group_root));
        detail.slot_roots.to_vec()
    }

    async fn check(&self, slot: SlotIndex, committed: &[SlotRoot]) {
        let found = self.root(slot).await;
        let (id, committed) = (self.group.id, committed[slot.index()]);
        assert_eq!(found, committed, "I3: slot {slot} of {id} by its bytes");
    }

    async fn leaf(
        &self,
        conn: &mut Pooled<SimPeer, SimRuntime>,
        slot: SlotIndex,
        entry: &RecordEntry,
    ) -> Leaf {
        let record = match entry {
            RecordEntry::Emptied(_) => return Leaf::EMPTY,
            RecordEntry::Missing(number) => panic!("slot {slot} lacks segment {number}"),
            RecordEntry::Kept(record) => record.unverified(),
        };
        let whole = ShardWanted {
            group: self.group.id,
            slot,
            segment: record.number,
            range: ShardRange {
                offset: 0,
                bytes: record.shard_bytes(),
            },
            record: WithRecord::No,
        };
        let mut bytes = BytesMut::new();
        let got = conn.get(&whole, &mut bytes).await;
        got.unwrap_or_else(|error| panic!("slot {slot}, segment {}: {error}", record.number));
        let root = ShardRoot::new(Digest::of(&bytes));
        Leaf::new(width(bytes.len()), root).expect("a shard of legal size")
    }
}

fn width(count: usize) -> u32 {
    u32::try_from(count).expect("bounded far below 2^32")
}

/// I3: the bytes in every slot that a node holds make the slot root that its group's revision commits to.
/// Returns the slot roots, n of them.
///
/// # Panics
///
/// When they do not, no slot is held, or a node does not serve them.
pub async fn check_group(cluster: &Cluster, owner: &SecretKey, id: GroupId) -> Vec<SlotRoot> {
    let checker = Checker::new(cluster, owner, id).await;
    let deals = checker.group.code.slots().zip(&checker.group.deals);
    let held: Vec<_> = deals.filter(|(_, deal)| deal.holder().is_some()).collect();
    let (_, first) = held.first().expect("a slot is held");
    let committed = checker.committed(first.node).await;
    for (slot, _) in held {
        checker.check(slot, &committed).await;
    }
    committed
}

/// I3: the bytes in a slot make the slot root that its group's revision commits to.
///
/// # Panics
///
/// When they do not, or the node does not serve them.
pub async fn check_slot(cluster: &Cluster, owner: &SecretKey, id: GroupId, slot: SlotIndex) {
    let checker = Checker::new(cluster, owner, id).await;
    let node = checker.group.deal(slot).expect("a slot of the group").node;
    let committed = checker.committed(node).await;
    checker.check(slot, &committed).await;
}
