//! Catching up ends in the committed slot root, or does not finish.

use std::time::Duration;

use cairn_core::{Code, NodeId, RevisionDetail, RevisionNumber};
use cairn_ledger::Ledger;

use super::cluster::{Cluster, dev4, dev8, encode, payload, run};

/// The slot of a node.
async fn slot_of(cluster: &Cluster, id: NodeId) -> u8 {
    let holders = cluster.holders().await;
    u8::try_from(holders.iter().position(|holder| *holder == id).unwrap()).unwrap()
}

#[test]
fn i3_a_node_that_lost_its_disk_ends_in_the_same_slot_root() {
    run(1, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [10, 3000, 100_000, 300_000, 2_000_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let id = cluster.nodes[1].id();
        let slot = slot_of(&cluster, id).await;
        cluster.wipe(1).await;
        cluster
            .wait("the loss is declared", async || {
                let group = cluster.group().await;
                group.deals[usize::from(slot)].acknowledged == RevisionNumber::ZERO
            })
            .await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_a_redrawn_slot_is_rebuilt_with_the_owner_offline() {
    run(2, async |sim| {
        let mut cluster = Cluster::new(sim, 9, dev8()).await;
        for bytes in [10, 30_000, 1_500_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let before = cluster.holders().await;
        let lost = cluster.index_of(before[3]);
        cluster
            .net
            .part(&[&[NodeId::new(cluster.owner.key.public())]]);
        cluster.crash(lost);
        cluster.ledger.declare_lost(before[3]).await.unwrap();
        cluster
            .wait("the slot is drawn again", async || {
                cluster.holders().await[3] != before[3]
            })
            .await;
        cluster.wait_acknowledged().await;
        cluster.net.heal();
        cluster.check_all(&detail).await;
    });
}

/// A group of 4-of-8 with nine segments on the first eight of eleven nodes; nodes of three slots are
/// gone, and the slots drawn anew.
async fn three_rebuild(sim: cairn_runtime::Sim) -> (Cluster, RevisionDetail, Vec<NodeId>) {
    let mut cluster = Cluster::new(sim, 11, dev8()).await;
    for _ in 0..9 {
        cluster.upload(1_200_000, &[]).await;
    }
    let detail = cluster.revise(&[], &[]).await;
    cluster.wait_acknowledged().await;
    let before = cluster.holders().await;
    let lost = before[2..5].to_vec();
    for node in &lost {
        let index = cluster.index_of(*node);
        cluster.crash(index);
    }
    for node in &lost {
        cluster.ledger.declare_lost(*node).await.unwrap();
    }
    cluster
        .wait("the slots are drawn again", async || {
            let holders = cluster.holders().await;
            !holders.iter().any(|holder| lost.contains(holder))
        })
        .await;
    let drawn = cluster.holders().await[2..5].to_vec();
    (cluster, detail, drawn)
}

/// Bytes that the nodes with the other five slots have sent to these.
async fn read_by(cluster: &Cluster, nodes: &[NodeId]) -> u64 {
    let mut bytes = 0;
    for from in cluster.holders().await {
        for to in nodes.iter().filter(|_| !nodes.contains(&from)) {
            bytes += cluster.net.traffic(from, *to).stream_bytes;
        }
    }
    bytes
}

#[test]
fn nodes_that_rebuild_slots_of_a_group_read_it_once_for_all() {
    run(12, async |sim| {
        let (cluster, detail, drawn) = three_rebuild(sim).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
        let read = read_by(&cluster, &drawn).await;
        // Four slots for all three together, and records, and what was read before all were drawn.
        let once = 4 * detail.revision.slot_bytes.get();
        assert!(read >= once, "{read} of {once} bytes");
        assert!(read < once + once / 3, "{read} of {once} bytes");
        // Each passed its share on.
        for from in &drawn {
            for to in drawn.iter().filter(|to| *to != from) {
                let passed = cluster.net.traffic(*from, *to).stream_bytes;
                assert!(passed > 300_000, "{passed} bytes");
            }
        }
    });
}

#[test]
fn i1_a_partner_that_stops_in_the_midst_of_a_rebuild_holds_nobody_up_for_long() {
    run(13, async |sim| {
        let (mut cluster, detail, drawn) = three_rebuild(sim).await;
        let index = cluster.index_of(drawn[1]);
        cluster.crash(index);
        let acknowledged = async |slot: usize| {
            let group = cluster.group().await;
            group.deals[slot].acknowledged == detail.revision.number
        };
        for _ in 0..10 {
            cluster.sim.sleep(Duration::from_secs(60)).await;
            if acknowledged(2).await && acknowledged(4).await {
                break;
            }
        }
        assert!(acknowledged(2).await && acknowledged(4).await);
        assert!(!acknowledged(3).await, "its node is down");
        cluster.restart(index).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_what_a_slot_was_never_sent_is_caught_up() {
    run(3, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        cluster.upload(30_000, &[2]).await;
        cluster.upload(40_000, &[2]).await;
        // Nor is it told of the revision: it learns of it from the ledger.
        let detail = cluster.revise(&[], &[2]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_an_outage_over_several_revisions_with_deletions_is_caught_up() {
    run(4, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [20_000, 5000, 30_000, 700] {
            cluster.upload(bytes, &[]).await;
        }
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let id = cluster.nodes[2].id();
        let slot = slot_of(&cluster, id).await;
        cluster.crash(2);
        cluster.upload(60_000, &[slot]).await;
        cluster.revise(&[1], &[slot]).await;
        cluster.upload(900, &[slot]).await;
        cluster.revise(&[0, 4], &[slot]).await;
        let detail = cluster.revise(&[], &[slot]).await;
        cluster.sim.sleep(Duration::from_secs(30)).await;
        cluster.restart(2).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
        cluster.sim.sleep(Duration::from_secs(5)).await;
        let status = cluster.nodes[2]
            .handle
            .as_ref()
            .unwrap()
            .status()
            .await
            .unwrap();
        assert_eq!(status.store.shard_count, 3);
    });
}

#[test]
fn i3_a_shard_replaced_before_its_revision_is_put_right() {
    run(5, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        // The upload was interrupted and begun again: slot 1 still has the first attempt.
        let shards = encode(dev4(), &payload(77, 20_000));
        cluster.owner.segments.clear();
        cluster.upload_shards(20_000, shards, &[1]).await;
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_a_draining_node_hands_its_slot_to_its_successor() {
    run(6, async |sim| {
        let mut cluster = Cluster::new(sim, 5, dev4()).await;
        for bytes in [20_000, 400_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let leaver = cluster.holders().await[0];
        let index = cluster.index_of(leaver);
        let handle = cluster.nodes[index].handle.as_ref().unwrap();
        handle.drain().await.unwrap();
        cluster
            .wait("the slot has moved", async || {
                let group = cluster.group().await;
                group.deals[0].node != leaver && group.current_count() == 4
            })
            .await;
        cluster.check_all(&detail).await;
        cluster
            .wait("the leaver has dropped it", async || {
                let handle = cluster.nodes[index].handle.as_ref().unwrap();
                let status = handle.status().await.unwrap();
                status.slots.is_empty() && status.store.shard_count == 0
            })
            .await;
    });
}

#[test]
fn a_segment_that_was_encoded_wrongly_is_reported_and_acknowledged_by_nobody_who_lacks_it() {
    run(7, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        let mut shards = encode(dev4(), &payload(1, 20_000));
        shards[3][100] ^= 1;
        cluster.upload_shards(20_000, shards, &[3]).await;
        cluster.revise(&[], &[]).await;
        let holder = cluster.holders().await[3];
        let index = cluster.index_of(holder);
        cluster
            .wait("it is reported", async || {
                let handle = cluster.nodes[index].handle.as_ref().unwrap();
                let status = handle.status().await.unwrap();
                status.slots[0]
                    .unrebuildable
                    .iter()
                    .any(|number| number.get() == 1)
            })
            .await;
        cluster
            .wait("the others acknowledge", async || {
                cluster.group().await.current_count() == 3
            })
            .await;
        let group = cluster.group().await;
        assert_eq!(group.deals[3].acknowledged, RevisionNumber::ZERO);
    });
}

#[test]
fn i1_with_n_minus_k_nodes_gone_a_wiped_one_still_catches_up() {
    run(8, async |sim| {
        let code = Code::new(2, 5).unwrap();
        let mut cluster = Cluster::new(sim, 5, code).await;
        for bytes in [9000, 600_000] {
            cluster.upload(bytes, &[]).await;
        }
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.crash(0);
        cluster.crash(1);
        let id = cluster.nodes[2].id();
        let slot = slot_of(&cluster, id).await;
        cluster.wipe(2).await;
        cluster.sim.sleep(Duration::from_secs(2)).await;
        cluster
            .wait("it has caught up", async || {
                let status = cluster.slot_status(id, slot).await;
                status.revision == RevisionNumber::new(1) && status.lacking_count == 0
            })
            .await;
    });
}

#[test]
fn i2_scrub_finds_flipped_bits_and_the_shards_come_back() {
    run(9, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [20_000, 50_000, 90_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let machine = &cluster.nodes[0].machine;
        let pack = std::path::Path::new("/store/packs/00000001.pack");
        machine.flip_bits(pack, 4096..90_000, 3).unwrap();
        let handle = cluster.nodes[0].handle.as_ref().unwrap();
        let report = handle.scrub().await.unwrap();
        assert!(report.damaged_count > 0, "{report:?}");
        cluster
            .wait("they are caught up", async || {
                let status = handle.status().await.unwrap();
                status.idle && status.slots[0].lacking_count == 0
            })
            .await;
        assert_eq!(handle.scrub().await.unwrap().damaged_count, 0);
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i1_rot_is_found_and_put_right_by_itself() {
    run(11, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [20_000, 50_000, 90_000] {
            cluster.upload(bytes, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        // Started a while after its disk began to rot, and often: nobody asks for a scrub.
        cluster.restart(0).await;
        let machine = &cluster.nodes[0].machine;
        let pack = std::path::Path::new("/store/packs/00000001.pack");
        machine.flip_bits(pack, 4096..90_000, 3).unwrap();
        cluster.sim.sleep(Duration::from_secs(400)).await;
        cluster.check_all(&detail).await;
        let handle = cluster.nodes[0].handle.as_ref().unwrap();
        assert_eq!(handle.scrub().await.unwrap().damaged_count, 0);
    });
}

#[test]
fn a_node_that_was_called_lost_offers_itself_again() {
    run(10, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let id = cluster.nodes[0].id();
        // Nobody else has room for its slot, so it is drawn for it again, and has it already.
        cluster.ledger.declare_lost(id).await.unwrap();
        cluster
            .wait("it is active again", async || {
                let entry = cluster.ledger.node(id).await.unwrap().unwrap();
                entry.status == cairn_ledger::NodeStatus::Active
            })
            .await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn what_only_a_revision_that_nobody_can_reach_covers_expires() {
    run(14, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(50_000, &[]).await;
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.upload(60_000, &[]).await;
        cluster.upload(70_000, &[]).await;
        // Its details go to nobody: nobody could prove it, and its owner would pay for nothing.
        cluster.submit_revision(&[]).await;
        let kept = async || {
            let mut counts = Vec::new();
            for node in &cluster.nodes {
                let status = node.handle.as_ref().unwrap().status().await.unwrap();
                counts.push(status.store.shard_count);
            }
            counts
        };
        cluster.sim.sleep(Duration::from_secs(3000)).await;
        assert_eq!(kept().await, [3; 4], "the owner may still tell");
        cluster.sim.sleep(Duration::from_secs(1300)).await;
        assert_eq!(kept().await, [1; 4]);
    });
}
