//! What a revision's detail says is believed as far as it is proved.

use std::time::Duration;

use cairn_core::message::ControlResponse;
use cairn_core::{
    Bounded, ByteCount, ErrorCode, NodeId, RevisionDetail, RevisionNumber, SegmentNumber, Signed,
};
use cairn_net::DhtMode;

use super::cluster::{Cluster, dev4, key, run};

/// The detail with other emptied leaves.
fn with_emptied(detail: &RevisionDetail, emptied: &[u32]) -> RevisionDetail {
    let numbers = emptied.iter().copied().map(SegmentNumber::new).collect();
    RevisionDetail {
        emptied: Bounded::new(numbers).unwrap(),
        ..detail.clone()
    }
}

#[test]
fn i3_a_detail_that_the_owner_did_not_sign_is_refused() {
    run(1, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        cluster.upload(30_000, &[2]).await;
        let stranger = key("stranger", 0);
        let runtime = cluster.sim.machine("stranger").runtime();
        let id = NodeId::new(stranger.public());
        let peer = cluster.net.join(&runtime, id, DhtMode::Client);
        let detail = cluster.submit_revision(&[]).await;
        let false_one = Signed::sign(with_emptied(&detail, &[0]), &stranger);
        for slot in dev4().slots() {
            let answer = cluster.deliver(&peer, slot, &false_one).await.unwrap();
            let refused = matches!(
                answer,
                ControlResponse::Error {
                    code: ErrorCode::BadRecord,
                    ..
                }
            );
            assert!(refused, "{answer:?}");
        }
        // The owner's own may come from anyone.
        let signed = Signed::sign(detail.clone(), &cluster.owner.key);
        for slot in dev4().slots() {
            let answer = cluster.deliver(&peer, slot, &signed).await.unwrap();
            assert!(matches!(answer, ControlResponse::Slot(_)), "{answer:?}");
        }
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_emptied_leaves_that_are_not_wedge_no_slot() {
    run(2, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        cluster.upload(30_000, &[2]).await;
        let detail = cluster.submit_revision(&[]).await;
        let false_one = Signed::sign(with_emptied(&detail, &[0]), &cluster.owner.key);
        for slot in dev4().slots() {
            let peer = &cluster.owner.peer;
            cluster.deliver(peer, slot, &false_one).await.unwrap();
        }
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
        // Nor after a restart, which reads the detail again.
        cluster.crash(0);
        cluster.restart(0).await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn i3_emptied_leaves_are_known_when_every_slot_lacks_something() {
    run(3, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        for bytes in [20_000, 5000] {
            cluster.upload(bytes, &[]).await;
        }
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        for slot in 0..4 {
            cluster.upload(10_000, &[slot]).await;
        }
        let detail = cluster.revise(&[1], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

#[test]
fn a_revision_with_other_bytes_than_its_shards_is_acknowledged_by_nobody() {
    run(4, async |sim| {
        let mut cluster = Cluster::new(sim, 4, dev4()).await;
        cluster.upload(20_000, &[]).await;
        cluster.upload(30_000, &[2]).await;
        cluster.owner.revision += 1;
        let mut less = cluster.owner.detail(&[]);
        let right = less.revision.slot_bytes.get();
        less.revision.slot_bytes = ByteCount::new(right - 1);
        cluster.submit_detail(&less).await;
        let signed = Signed::sign(less, &cluster.owner.key);
        for slot in dev4().slots() {
            let peer = &cluster.owner.peer;
            let answer = cluster.deliver(peer, slot, &signed).await.unwrap();
            // The slot that lacks a shard can't know yet.
            let refused = matches!(
                answer,
                ControlResponse::Error {
                    code: ErrorCode::BadRecord,
                    ..
                }
            );
            assert_eq!(refused, slot.get() != 2, "{answer:?}");
        }
        cluster.sim.sleep(Duration::from_secs(60)).await;
        let group = cluster.group().await;
        for deal in &group.deals {
            assert_eq!(deal.acknowledged, RevisionNumber::ZERO);
        }
        let holder = group.deals[2].node;
        let handle = cluster.nodes[cluster.index_of(holder)].handle.as_ref();
        let status = handle.unwrap().status().await.unwrap();
        assert_eq!(
            status.slots[0].lacking_count, 1,
            "nothing is fetched for it"
        );
        let problem = status.slots[0].problem.clone().unwrap();
        assert!(problem.contains("the revision says"), "{problem}");
        // The next one that is right puts it right.
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}
