//! Catching up ends in the committed slot root, or does not finish.

use std::time::Duration;

use cairn_core::{Code, NodeId, RevisionNumber};
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

/// An upload that is under way, or was given up, is in nobody's revision: no sibling is to blame for its
/// segments.
#[test]
fn i1_segments_beyond_the_revision_do_not_keep_a_wiped_node_from_catching_up() {
    run(8, async |sim| {
        let code = Code::new(2, 5).unwrap();
        let mut cluster = Cluster::new(sim, 5, code).await;
        for bytes in [9000, 600_000] {
            cluster.upload(bytes, &[]).await;
        }
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.upload(700, &[]).await;
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
