//! Checks of the whole network.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse, SlotStatus};
use cairn_core::{Amount, GroupId, NodeId, Record, SlotIndex};
use cairn_ledger::Ledger;
use cairn_ledger::group::{Deal, DealState, Group, lazy_max};
use cairn_net::Network;
use cairn_net::sim::SimPeer;

use super::actors::read_back;
use super::{Board, IMPAIRED_MAX, PROFILES};
use crate::cluster::{COLLATERAL, Cluster, owner_keys};
use crate::wages::purse;

/// How long the network has to become quiet once every fault is mended.
const QUIET_LIMIT: Duration = Duration::from_secs(2 * 3600);
/// How long a node may take to say how a slot stands.
const STATUS_LIMIT: Duration = Duration::from_secs(30);

/// All credits (I4). The ledger asserts conservation after every transaction; this sees that it
/// is the same supply throughout.
pub(super) async fn supply(cluster: &Cluster) -> Amount {
    let status = cluster.sequencer().status().await;
    status.expect("the sequencer answers").supply
}

/// I5: every node's balance is what it was paid, for every epoch that it proved in full; who has lost
/// nothing has its whole collateral.
pub(super) async fn money(cluster: &Cluster) {
    let mut whole = 0;
    let mut all_paid = 0;
    for member in &cluster.members {
        let node = member.id;
        let purse = purse(cluster, node).await;
        let earned = purse.told.paid.checked_add(purse.told.bounties);
        assert_eq!(Some(purse.balance), earned, "I5: node {node}: {purse:?}");
        all_paid += purse.told.paid.micro();
        if cluster.watch.must_be_whole(node) {
            assert_eq!(purse.collateral, COLLATERAL, "I5: node {node}: {purse:?}");
            whole += 1;
        }
    }
    assert!(
        whole > 0 && all_paid > 0,
        "a day without money shows nothing"
    );
}

async fn group(cluster: &Cluster, id: GroupId) -> Group {
    let group = cluster.sequencer().group(id).await;
    group
        .expect("the sequencer answers")
        .expect("the group exists")
}

/// Nodes with a slot that has not acknowledged its group's newest revision.
pub(super) async fn lagging(cluster: &Cluster, groups: &[GroupId]) -> BTreeSet<NodeId> {
    let mut lagging = BTreeSet::new();
    for id in groups {
        let group = group(cluster, *id).await;
        let behind = group.deals.iter().filter(|deal| {
            deal.state != DealState::Held || deal.acknowledged < group.revision.number
        });
        lagging.extend(behind.map(|deal| deal.node));
    }
    lagging
}

/// As [`lagging`], without the last nodes of slots that nobody is drawn for, because enough others are
/// healthy.
async fn awaited(cluster: &Cluster, groups: &[GroupId]) -> BTreeSet<NodeId> {
    let mut awaited = BTreeSet::new();
    for id in groups {
        let group = group(cluster, *id).await;
        let is_held = |deal: &&Deal| deal.holder().is_some();
        let may_wait = group.deals.iter().filter(is_held).count() > lazy_max(group.code);
        let behind = group.deals.iter().filter(|deal| match deal.state {
            DealState::Held => deal.acknowledged < group.revision.number,
            DealState::Idle => !may_wait,
            DealState::Leaving | DealState::Vacant => true,
        });
        awaited.extend(behind.map(|deal| deal.node));
    }
    awaited
}

/// Nodes that have something to do, or lack shards that they acknowledged.
async fn lacking(cluster: &Cluster) -> Vec<NodeId> {
    let mut lacking = Vec::new();
    for member in &cluster.members {
        let Some(node) = member.node() else {
            continue;
        };
        let status = node.status().await.expect("the store is read");
        if !status.idle || status.slots.iter().any(|slot| slot.lacking_count > 0) {
            lacking.push(member.id);
        }
    }
    lacking
}

/// Waits until every slot that has a node has acknowledged and has all that it did, and no group lacks more
/// slots than it may.
///
/// # Panics
///
/// When one does not in time: with what its node says of it.
pub(super) async fn quiet(cluster: &Cluster, board: &Board) {
    let groups = board.lock().groups.clone();
    let begun = cluster.world.sim.elapsed();
    loop {
        let mut lagging = awaited(cluster, &groups).await;
        lagging.extend(lacking(cluster).await);
        if lagging.is_empty() {
            return;
        }
        let waited = cluster.world.sim.elapsed().saturating_sub(begun);
        if waited > QUIET_LIMIT {
            let reasons = reasons(cluster, &groups, &lagging).await;
            panic!("I3: slots are not caught up within {QUIET_LIMIT:?}:\n{reasons}");
        }
        cluster.world.sim.sleep(Duration::from_secs(1)).await;
    }
}

/// What the ledger has of the slots that are not caught up, and what their nodes say.
async fn reasons(cluster: &Cluster, groups: &[GroupId], lagging: &BTreeSet<NodeId>) -> String {
    let mut lines = Vec::new();
    for id in groups {
        let group = group(cluster, *id).await;
        let newest = group.revision.number;
        let slots = group.code.slots().zip(&group.deals);
        lines.extend(
            slots
                .filter(|(_, deal)| deal.state != DealState::Held || deal.acknowledged < newest)
                .map(|(slot, deal)| format!("slot {slot} of {id} at {newest}: {deal:?}")),
        );
    }
    for node in lagging {
        let index = cluster.index_of(*node).expect("a node of the cluster");
        let member = &cluster.members[index];
        let name = member.machine.name();
        let Some(handle) = member.node() else {
            lines.push(format!("{name} is down"));
            continue;
        };
        let status = handle.status().await.expect("the store is read");
        lines.push(format!("{name} {node}: failure {:?}", status.failure));
        let slots = status.slots.iter();
        lines.extend(slots.map(|slot| format!("{name}: {slot:?}")));
    }
    lines.join("\n")
}

/// I3: the slot roots that nodes have, and those of the bytes that they serve, are the ones that make the
/// group root that the ledger has. Of slots that nobody is drawn for there is nothing to check.
pub(super) async fn roots(cluster: &Cluster, board: &Board) {
    let (_machine, client) = cluster.world.client("checker");
    let groups = board.lock().groups.clone();
    assert!(!groups.is_empty(), "a day without a group shows nothing");
    for id in groups {
        let group = group(cluster, id).await;
        let mut owners = (0..PROFILES.len()).map(|index| owner_keys(&format!("owner {index}")));
        let owner = owners.find(|keys| keys.account() == group.owner);
        let owner = owner.expect("an owner of the day");
        let committed = crate::roots::check_group(cluster, owner.identity(), id).await;
        let slots = group.code.slots().zip(&group.deals).zip(committed);
        for ((slot, deal), root) in slots.filter(|((_, deal), _)| deal.holder().is_some()) {
            let status = slot_status(client.network(), deal.node, id, slot).await;
            assert_eq!(
                status.revision, group.revision.number,
                "slot {slot} of {id}"
            );
            assert_eq!(status.lacking_count, 0, "slot {slot} of {id}");
            assert_eq!(
                status.slot_bytes, group.revision.slot_bytes,
                "slot {slot} of {id}"
            );
            assert_eq!(status.slot_root, root, "I3: slot {slot} of {id}");
        }
    }
}

async fn slot_status(
    network: &SimPeer,
    node: NodeId,
    group: GroupId,
    slot: SlotIndex,
) -> SlotStatus {
    let request = ControlRequest::Slot { group, slot }.encode();
    let answer = network.request(node, request, STATUS_LIMIT).await;
    match ControlResponse::decode(&answer.expect("the node answers")) {
        Ok(ControlResponse::Slot(status)) => status,
        other => panic!("slot {slot} of {group} at {node}: {other:?}"),
    }
}

/// I9: nothing has grown beyond its bound.
pub(super) fn bounds(cluster: &Cluster) {
    for member in &cluster.members {
        let used = member.machine.disk_used_bytes();
        let capacity = cluster.capacity().get();
        assert!(
            used <= capacity,
            "I9: {} uses {used} of {capacity}",
            member.machine.name()
        );
    }
    let streams = cluster.world.net.stream_count();
    let bound = cluster.members.len() * 64;
    assert!(
        streams <= bound,
        "I9: {streams} streams are open, expected at most {bound}"
    );
}

/// I1 at its limit: with as many nodes of the narrowest code down as it can lose, every file is
/// there.
pub(super) async fn survivors(cluster: &mut Cluster, board: &Board, seed: u64) {
    let groups = board.lock().groups.clone();
    let mut rng = cluster.world.sim.rng(&format!("survivors {seed}"));
    let narrow = group(cluster, groups[rng.index(groups.len())]).await;
    let parity = narrow.code.parity_count().min(IMPAIRED_MAX);
    let mut nodes: Vec<NodeId> = narrow.deals.iter().map(|deal| deal.node).collect();
    for _ in 0..parity {
        let node = nodes.swap_remove(rng.index(nodes.len()));
        let index = cluster.index_of(node).expect("a node of the cluster");
        cluster.crash(index);
    }
    let (_machine, client) = cluster.world.client("last reader");
    let files = board.lock().files.clone();
    assert!(!files.is_empty(), "a day without a file shows nothing");
    for file in files {
        let whole = 0..file.content.bytes;
        read_back(&cluster.world, board, &client, &file, whole).await;
    }
    assert_eq!(
        client.memory().bytes_used(),
        0,
        "I9: a reader at rest holds no memory"
    );
}
