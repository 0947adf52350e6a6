//! Nodes prove every epoch, whatever becomes of their slots meanwhile.

use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{ShardRange, WithRecord};
use cairn_core::{Bounded, EpochNumber, ErrorCode, NodeId, SegmentNumber, SlotIndex};
use cairn_ledger::port::{Ledger, submit_body};
use cairn_ledger::tx::{SlotRef, TxBody};
use cairn_ledger::{Parameters, Standing, Verdict};
use cairn_net::DhtMode;
use cairn_net::data::{DataError, ShardWanted};
use cairn_net::pool::{DataPool, PoolLimits};

use super::cluster::{Cluster, dev4, run};

const EPOCH: Duration = Duration::from_secs(60);

async fn with_epochs(sim: cairn_runtime::Sim, count: usize) -> Cluster {
    let parameters = Parameters {
        epoch_millis: 60_000,
        ..Parameters::default()
    };
    Cluster::with_parameters(sim, count, dev4(), parameters).await
}

async fn epoch(cluster: &Cluster) -> EpochNumber {
    cluster.ledger.status().await.unwrap().epoch
}

/// Five nodes with a segment that all holders have acknowledged, in the middle of an epoch.
async fn holding(sim: cairn_runtime::Sim) -> Cluster {
    let mut cluster = with_epochs(sim, 5).await;
    cluster.upload(90_000, &[]).await;
    cluster.revise(&[], &[]).await;
    cluster.wait_acknowledged().await;
    next_epoch(&cluster).await;
    cluster
}

/// Waits until the next epoch begins.
async fn border(cluster: &Cluster) {
    let before = epoch(cluster).await;
    cluster
        .wait("the next epoch", async || epoch(cluster).await > before)
        .await;
}

/// Waits until the middle of the next epoch.
async fn next_epoch(cluster: &Cluster) {
    border(cluster).await;
    cluster.sim.sleep(EPOCH / 2).await;
}

async fn standing(cluster: &Cluster, node: NodeId) -> Standing {
    let entry = cluster.ledger.node(node).await.unwrap();
    entry.expect("it is registered").standing
}

async fn assert_proven(cluster: &Cluster, index: usize) {
    let now = epoch(cluster).await;
    let standing = standing(cluster, cluster.nodes[index].id()).await;
    assert_eq!(
        standing.verdict_of(now),
        Some(Verdict::Valid),
        "node {index} in epoch {now}: {standing:?}"
    );
}

#[test]
fn i5_honest_nodes_prove_every_epoch_whatever_changes_meanwhile() {
    run(61, async |sim| {
        let mut cluster = with_epochs(sim, 5).await;
        // Nothing is held yet: the empty proof is a sign of life.
        next_epoch(&cluster).await;
        for index in 0..5 {
            assert_proven(&cluster, index).await;
        }
        for bytes in [20_000, 90_000, 300, 200_000] {
            cluster.upload(bytes, &[]).await;
        }
        cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let mut newest = 4_u32;
        for round in 0..6_u32 {
            next_epoch(&cluster).await;
            for index in 0..5 {
                assert_proven(&cluster, index).await;
            }
            // Revisions that empty what is frozen, from before the border until after the proofs.
            cluster.sim.sleep(EPOCH / 2 - Duration::from_secs(8)).await;
            let before = epoch(&cluster).await;
            for _ in 0..24 {
                cluster.upload(40_000, &[]).await;
                cluster.revise(&[newest - 1], &[]).await;
                newest += 1;
                cluster.sim.sleep(Duration::from_millis(500)).await;
            }
            // And one of them is restarted in the middle of it.
            let index = usize::try_from(round).unwrap() % 5;
            cluster.crash(index);
            cluster.restart(index).await;
            cluster.sim.sleep(EPOCH / 4).await;
            assert!(epoch(&cluster).await > before, "the border was passed");
            for index in 0..5 {
                assert_proven(&cluster, index).await;
            }
        }
        cluster.wait_acknowledged().await;
        let detail = cluster.revise(&[newest - 1], &[]).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
        next_epoch(&cluster).await;
        for index in 0..5 {
            assert_proven(&cluster, index).await;
        }
        // What nobody asks for any more is gone.
        cluster.sim.sleep(EPOCH).await;
        for node in &cluster.nodes {
            let status = node.handle.as_ref().unwrap().status().await.unwrap();
            let segments = usize::try_from(status.store.shard_count).unwrap();
            let held = status.slots.iter().filter(|slot| slot.shard_count > 0);
            let kept = cluster.owner.segments.iter().flatten().count();
            assert_eq!(segments, held.count() * kept);
        }
    });
}

#[test]
fn i5_a_node_that_drains_proves_what_it_had_until_it_need_not() {
    run(62, async |sim| {
        let cluster = holding(sim).await;
        let leaver = cluster.holders().await[1];
        let index = cluster.index_of(leaver);
        let key = cluster.nodes[index].key.clone();
        // Right after the border: the slot is frozen, and may be another's before it is proved.
        border(&cluster).await;
        submit_body(&cluster.ledger, &key, TxBody::NodeDrain)
            .await
            .unwrap();
        cluster.sim.sleep(EPOCH / 2).await;
        assert_proven(&cluster, index).await;
        cluster
            .wait("its bytes are gone", async || {
                let handle = cluster.nodes[index].handle.as_ref().unwrap();
                handle.status().await.unwrap().store.shard_count == 0
            })
            .await;
        next_epoch(&cluster).await;
        for other in 0..5 {
            assert_proven(&cluster, other).await;
        }
    });
}

#[test]
fn a_node_that_lost_its_disk_gets_nothing_from_siblings_until_it_need_not_prove_it() {
    run(63, async |sim| {
        let mut cluster = holding(sim).await;
        let holder = cluster.holders().await[0];
        let index = cluster.index_of(holder);
        // Its disk is lost after the next epoch has frozen the slot.
        cluster.crash(index);
        border(&cluster).await;
        let now = epoch(&cluster).await;
        cluster.wipe(index).await;
        cluster.sim.sleep(EPOCH / 2).await;
        assert_eq!(standing(&cluster, holder).await.verdict_of(now), None);
        assert_eq!(cluster.group().await.deals[0].acknowledged.get(), 0);
        let handle = cluster.nodes[index].handle.as_ref().unwrap();
        assert_eq!(handle.status().await.unwrap().store.shard_count, 0);
        // In the next one it has nothing to prove, and gets all.
        next_epoch(&cluster).await;
        assert_proven(&cluster, index).await;
        cluster.wait_acknowledged().await;
        next_epoch(&cluster).await;
        assert_proven(&cluster, index).await;
    });
}

#[test]
fn a_node_that_lost_its_disk_after_its_proof_has_its_shards_again_at_once() {
    run(65, async |sim| {
        let mut cluster = holding(sim).await;
        let holder = cluster.holders().await[0];
        let index = cluster.index_of(holder);
        assert_proven(&cluster, index).await;
        let now = epoch(&cluster).await;
        cluster.wipe(index).await;
        cluster
            .wait("it says what it lost", async || {
                cluster.group().await.deals[0].acknowledged.get() == 0
            })
            .await;
        cluster.wait_acknowledged().await;
        assert_eq!(epoch(&cluster).await, now);
        next_epoch(&cluster).await;
        assert_proven(&cluster, index).await;
    });
}

/// What a slot's node that asks with its own capability is answered for a segment.
async fn ask_as(cluster: &Cluster, index: usize, segment: u32) -> Result<(), ErrorCode> {
    let node = &cluster.nodes[index];
    let runtime = node.machine.runtime();
    let peer = cluster.net.join(&runtime, node.id(), DhtMode::Client);
    let pool = DataPool::new(peer, runtime, PoolLimits::DEFAULT);
    let group = cluster.group().await;
    let own = super::super::catch_up::source::own_capability(&node.key, &group);
    let limit = Duration::from_secs(10);
    let sibling = group.deals[1].node;
    let mut conn = pool.take(sibling, &own, limit).await.unwrap();
    let wanted = ShardWanted {
        group: group.id,
        slot: SlotIndex::new(1),
        segment: SegmentNumber::new(segment),
        range: ShardRange {
            offset: 0,
            bytes: 1024,
        },
        record: WithRecord::No,
    };
    let mut bytes = BytesMut::new();
    let got = conn.get(&wanted, &mut bytes).await;
    got.map(|_| ()).map_err(|error| match error {
        DataError::Remote { code, .. } => code,
        other => panic!("expected a refusal, found {other}"),
    })
}

/// A sibling serves a node that lags what it lacks, and nothing that it has acknowledged or is to
/// prove: not while it lags behind a revision, and not once it has declared the slot lost.
#[test]
fn i5_a_sibling_serves_nothing_that_is_to_be_proven() {
    run(66, async |sim| {
        let mut cluster = holding(sim).await;
        let holder = cluster.holders().await[0];
        let index = cluster.index_of(holder);
        let key = cluster.nodes[index].key.clone();
        let slot = SlotRef {
            group: cluster.owner.group,
            slot: SlotIndex::new(0),
        };
        // It is away when a segment comes, and its machine does as its owner wants.
        cluster.crash(index);
        cluster.nodes[index].machine.restart();
        cluster.upload(90_000, &[0]).await;
        cluster.revise(&[], &[0]).await;
        border(&cluster).await;
        assert_eq!(
            ask_as(&cluster, index, 0).await,
            Err(ErrorCode::NotAuthorised)
        );
        assert_eq!(ask_as(&cluster, index, 1).await, Ok(()));
        let slots = Bounded::new(vec![slot]).unwrap();
        let body = TxBody::DeclareLoss { slots };
        submit_body(&cluster.ledger, &key, body).await.unwrap();
        assert_eq!(
            ask_as(&cluster, index, 0).await,
            Err(ErrorCode::NotAuthorised)
        );
        assert_eq!(ask_as(&cluster, index, 1).await, Ok(()));
        // Nothing is asked of it any more.
        border(&cluster).await;
        assert_eq!(ask_as(&cluster, index, 0).await, Ok(()));
    });
}

#[test]
fn a_node_that_is_away_for_an_epoch_has_a_lapse_and_ends_it_with_more_samples() {
    run(64, async |sim| {
        let mut cluster = holding(sim).await;
        let holder = cluster.holders().await[0];
        let index = cluster.index_of(holder);
        let proven = standing(&cluster, holder).await.proven;
        cluster.crash(index);
        next_epoch(&cluster).await;
        next_epoch(&cluster).await;
        let away = standing(&cluster, holder).await;
        assert_eq!(away.proven, proven);
        let page = cluster.ledger.challenge_page(holder, None).await.unwrap();
        assert_eq!(page.unwrap().sample_count, 256);
        cluster.restart(index).await;
        cluster.sim.sleep(EPOCH / 4).await;
        let back = standing(&cluster, holder).await;
        assert_eq!(back.proven, proven + 1, "{back:?}");
        assert_proven(&cluster, index).await;
        // Others have gone on all the while.
        for other in 0..5 {
            assert_proven(&cluster, other).await;
        }
    });
}
