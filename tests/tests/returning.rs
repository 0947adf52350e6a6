//! A node that comes back after it was called lost.

use std::time::Duration;

use cairn_core::{Amount, NodeId, Profile};
use cairn_ledger::{DealState, Group, Ledger, NodeStatus, Parameters, Verdict};
use cairn_node::Holding;
use cairn_runtime::Sim;
use cairn_tests::cluster::{Cluster, ClusterConfig, ClusterOwner};
use cairn_tests::content::Content;
use cairn_tests::scene::upload;
use cairn_tests::wages::purse;

const EPOCH: Duration = Duration::from_secs(600);
/// Slots of a group of 16-of-24, which waits with repairs until two are missing.
const SLOTS: usize = 24;

async fn group(cluster: &Cluster, id: cairn_core::GroupId) -> Group {
    let group = cluster.sequencer().group(id).await.expect("it answers");
    group.expect("the group is open")
}

/// Waits for so many epochs to begin.
async fn pass(cluster: &Cluster, epochs: u64) {
    let running = async || {
        cluster
            .sequencer()
            .status()
            .await
            .expect("it answers")
            .epoch
    };
    let before = running().await.get();
    let is_over = async || running().await.get() >= before + epochs;
    let limit = EPOCH * u32::try_from(epochs + 1).expect("few");
    cluster.wait("epochs", limit, is_over).await;
}

/// A network of which the node of slot 3 was away until it was called lost: its slot is idle.
async fn with_lost(sim: Sim) -> (Cluster, ClusterOwner, cairn_core::GroupId, usize) {
    let mut config = ClusterConfig::with_epochs(SLOTS, EPOCH);
    config.parameters = Parameters {
        suspect_after_epochs: 2,
        lost_after_epochs: 3,
        ..config.parameters
    };
    let mut cluster = Cluster::start(sim, config).await;
    let (_machine, owner) = cluster.world.owner("owner", Profile::Compact);
    let content = Content {
        seed: 1,
        bytes: 3_000_000,
    };
    let link = upload(&owner, content).await.expect("all are honest");
    let id = link.groups().next().expect("a group");
    let caught_up = async || {
        let group = group(&cluster, id).await;
        let mut deals = group.deals.iter();
        deals.all(|deal| deal.acknowledged == group.revision.number)
    };
    cluster
        .wait("every slot", Duration::from_secs(600), caught_up)
        .await;
    pass(&cluster, 2).await;
    let node = group(&cluster, id).await.deals[3].node;
    let index = cluster.index_of(node).expect("one of ours");
    cluster.crash(index);
    // Who is away for so long pays for it.
    cluster.watch.call_lost(node);
    pass(&cluster, 6).await;
    let deal = group(&cluster, id).await.deals[3];
    assert_eq!((deal.state, deal.node), (DealState::Idle, node));
    assert!(deal.bounty > Amount::ZERO, "it forfeited the repair");
    (cluster, owner, id, index)
}

async fn status(cluster: &Cluster, node: NodeId) -> NodeStatus {
    let entry = cluster.sequencer().node(node).await.expect("it answers");
    entry.expect("it is registered").status
}

#[test]
fn it_takes_its_idle_slot_back_and_what_it_forfeited_once_it_proves() {
    Sim::new(81).run(async |sim| {
        let (mut cluster, owner, id, index) = with_lost(sim).await;
        let node = cluster.members[index].id;
        assert_eq!(status(&cluster, node).await, NodeStatus::Lost);
        // The group goes on meanwhile: it must catch up with that.
        let more = Content {
            seed: 2,
            bytes: 400_000,
        };
        upload(&owner, more).await.expect("enough are there");
        let forfeited = group(&cluster, id).await.deals[3].bounty;
        cluster.restart(index).await;
        let is_back = async || {
            let group = group(&cluster, id).await;
            let deal = group.deals[3];
            deal.state == DealState::Held && deal.acknowledged == group.revision.number
        };
        cluster
            .wait("its slot", Duration::from_secs(300), is_back)
            .await;
        let group_now = group(&cluster, id).await;
        assert_eq!(group_now.deals[3].node, node);
        pass(&cluster, 2).await;
        cluster.world.sim.sleep(EPOCH / 2).await;
        let entry = cluster.sequencer().node(node).await.expect("it answers");
        let standing = entry.expect("it is registered").standing;
        assert_eq!(
            standing.verdict.map(|(_, verdict)| verdict),
            Some(Verdict::Valid)
        );
        let told = purse(&cluster, node).await.told;
        assert_eq!((told.forfeited, told.bounties), (forfeited, forfeited));
        let shown = cluster.members[index]
            .node()
            .expect("it is up")
            .status()
            .await;
        let slots = shown.expect("its disk works").slots;
        assert!(slots.iter().all(|slot| slot.holding == Holding::Held));
    });
}

#[test]
fn it_leaves_an_idle_slot_whose_bytes_are_gone_to_others() {
    Sim::new(82).run(async |sim| {
        let (mut cluster, _owner, id, index) = with_lost(sim).await;
        cluster.restart_empty(index).await;
        let node = cluster.members[index].id;
        let is_back = async || status(&cluster, node).await == NodeStatus::Active;
        cluster
            .wait("it registers", Duration::from_secs(300), is_back)
            .await;
        pass(&cluster, 1).await;
        let deal = group(&cluster, id).await.deals[3];
        assert_eq!(deal.state, DealState::Idle);
    });
}
