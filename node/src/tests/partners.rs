//! Nodes that rebuild slots of one group together: what each costs the others.

use std::num::NonZeroU64;
use std::ops::Range;
use std::time::Duration;

use cairn_core::{NodeId, RevisionDetail};
use cairn_net::sim::{Link, Passing, Tamper};
use cairn_runtime::Sim;
use futures::future::join_all;

use super::cluster::{Cluster, dev8, encode, payload, run};

/// What becomes of nodes that are called lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// They are down.
    Down,
    /// They still serve what they have.
    Up,
}

/// A group of 4-of-8 on the first eight of so many nodes, with segments of that size.
async fn stored(sim: Sim, nodes: usize, segments: &[usize]) -> (Cluster, RevisionDetail) {
    let mut cluster = Cluster::new(sim, nodes, dev8()).await;
    for bytes in segments {
        cluster.upload(*bytes, &[]).await;
    }
    let detail = cluster.revise(&[], &[]).await;
    cluster.wait_acknowledged().await;
    (cluster, detail)
}

/// The nodes of some slots are called lost, and the slots drawn anew. Who has them then, and when.
async fn redraw(cluster: &mut Cluster, slots: Range<usize>, lost: Lost) -> (Vec<NodeId>, Duration) {
    let before = cluster.holders().await[slots.clone()].to_vec();
    for node in before.iter().filter(|_| lost == Lost::Down) {
        let index = cluster.index_of(*node);
        cluster.crash(index);
    }
    // In one block: who is up offers itself again in the next, and might be drawn for another's.
    let lost = before.iter().map(|node| cluster.ledger.declare_lost(*node));
    for done in join_all(lost).await {
        done.unwrap();
    }
    cluster
        .wait("the slots are drawn again", async || {
            let holders = cluster.holders().await;
            !holders[slots.clone()]
                .iter()
                .any(|node| before.contains(node))
        })
        .await;
    let drawn = cluster.holders().await[slots].to_vec();
    (drawn, cluster.sim.elapsed())
}

/// Slots 2, 3 and 4 of nine segments are rebuilt by three nodes.
async fn three_rebuild(sim: Sim) -> (Cluster, RevisionDetail, Vec<NodeId>) {
    let (mut cluster, detail) = stored(sim, 11, &[1_200_000; 9]).await;
    let (drawn, _) = redraw(&mut cluster, 2..5, Lost::Down).await;
    (cluster, detail, drawn)
}

/// When these slots have acknowledged the revision, at most `limit` from now.
async fn acknowledged(
    cluster: &Cluster,
    detail: &RevisionDetail,
    slots: &[usize],
    limit: Duration,
) -> Option<Duration> {
    let until = cluster.sim.elapsed() + limit;
    while cluster.sim.elapsed() < until {
        let deals = cluster.group().await.deals;
        if slots
            .iter()
            .all(|slot| deals[*slot].acknowledged == detail.revision.number)
        {
            return Some(cluster.sim.elapsed());
        }
        cluster.sim.sleep(Duration::from_millis(50)).await;
    }
    None
}

/// A way of so many bytes a second.
fn narrow(bytes_per_second: u64) -> Link {
    Link {
        bytes_per_second: NonZeroU64::new(bytes_per_second),
        ..Link::DEFAULT
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// How long slots are rebuilt whose former nodes are down, or serve 17 KiB/s in each direction.
fn rebuilding_takes(lost: Lost, slots: Range<usize>) -> Duration {
    Sim::new(15).run(async |sim| {
        let nodes = 8 + slots.len();
        let (mut cluster, detail) = stored(sim, nodes, &[1_200_000; 9]).await;
        for node in &cluster.holders().await[slots.clone()] {
            cluster.net.set_links_of(*node, narrow(17 << 10));
        }
        let all: Vec<usize> = slots.clone().collect();
        let (_, begun) = redraw(&mut cluster, slots.clone(), lost).await;
        let done = acknowledged(&cluster, &detail, &all, 20 * MINUTE).await;
        done.expect("they catch up") - begun
    })
}

#[test]
fn i1_who_lost_slots_does_not_set_the_pace_of_partners() {
    let without = rebuilding_takes(Lost::Down, 2..5);
    let beside = rebuilding_takes(Lost::Up, 2..5);
    assert!(
        beside < 3 * without,
        "{beside:?}, and {without:?} without them"
    );
}

#[test]
fn i1_who_lost_a_slot_does_not_set_the_pace_of_its_repair() {
    let without = rebuilding_takes(Lost::Down, 3..4);
    let beside = rebuilding_takes(Lost::Up, 3..4);
    // The first four shards of two ranges each are waited for, once.
    let most = without + Duration::from_secs(5);
    assert!(beside < most, "{beside:?}, and {without:?} without it");
}

/// What partners need is read once for all of them, whoever else has some of it.
#[test]
fn partners_are_given_their_shards_though_those_who_lost_the_slots_serve() {
    run(16, async |sim| {
        let (mut cluster, detail) = stored(sim, 11, &[1_200_000; 9]).await;
        let (drawn, _) = redraw(&mut cluster, 2..5, Lost::Up).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
        assert_passed_on(&cluster, &drawn);
    });
}

/// Fewer than k slots are left, and who lost the others serves them.
#[test]
fn i1_slots_that_siblings_can_not_give_come_from_who_lost_them() {
    run(17, async |sim| {
        let (mut cluster, detail) = stored(sim, 13, &[1_200_000; 3]).await;
        redraw(&mut cluster, 0..5, Lost::Up).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

/// How long a node takes that lost its disk, with a sibling that answers nothing as long as that.
fn catching_up_takes(unanswered_bytes: usize) -> Duration {
    Sim::new(18).run(async |sim| {
        let (mut cluster, detail) = stored(sim, 8, &[1_200_000; 13]).await;
        let holders = cluster.holders().await;
        let silent = holders[1];
        cluster.net.set_tamper(move |passing| match passing {
            Passing::Part { from, bytes, .. }
                if *from == silent && bytes.len() >= unanswered_bytes =>
            {
                Tamper::Stall
            }
            _ => Tamper::Pass,
        });
        let index = cluster.index_of(holders[0]);
        cluster.wipe(index).await;
        let begun = cluster.sim.elapsed();
        // It declares its loss first.
        cluster.sim.sleep(Duration::from_secs(1)).await;
        let done = acknowledged(&cluster, &detail, &[0], 10 * MINUTE).await;
        done.expect("it catches up") - begun
    })
}

#[test]
fn i1_a_silent_sibling_costs_its_wait_once() {
    let without = catching_up_takes(usize::MAX);
    let with = catching_up_takes(10_000);
    // Of 26 ranges, four are read at once.
    let most = without + Duration::from_secs(5);
    assert!(with < most, "{with:?}, and {without:?} with all");
}

/// A partner that takes 32 KiB in four seconds does not set the pace of the others, and is given what
/// it can take.
#[test]
fn i1_a_slow_partner_holds_the_others_up_for_a_minute_at_most() {
    run(19, async |sim| {
        let (mut cluster, detail) = stored(sim, 11, &[128 << 10; 120]).await;
        let holders = cluster.holders().await;
        let nodes = cluster.nodes.iter().map(super::cluster::TestNode::id);
        let spare: Vec<NodeId> = nodes.filter(|node| !holders.contains(node)).collect();
        let slow = spare[1];
        for from in &spare {
            cluster.net.set_link_between(*from, slow, narrow(8000));
        }
        let (drawn, begun) = redraw(&mut cluster, 2..5, Lost::Down).await;
        let slot_of = |node| 2 + drawn.iter().position(|drawn| *drawn == node).unwrap();
        let others = [slot_of(spare[0]), slot_of(spare[2])];
        let done = acknowledged(&cluster, &detail, &others, 20 * MINUTE).await;
        let took = done.expect("they catch up") - begun;
        assert!(took < MINUTE + Duration::from_secs(20), "{took:?}");
        let given = cluster.net.traffic(spare[0], slow).stream_bytes;
        assert!(given > 6 * (32 << 10), "{given} bytes");
        let all = [slot_of(slow)];
        let done = acknowledged(&cluster, &detail, &all, 20 * MINUTE).await;
        assert!(done.is_some(), "it catches up, in its time");
        cluster.check_all(&detail).await;
    });
}

/// Slot 2 has a wrong shard in one segment, whoever of the partners leads it.
fn a_wrong_shard_costs_only_its_slot(seed: u64, wrong: usize) {
    run(seed, async |sim| {
        let mut cluster = Cluster::new(sim, 11, dev8()).await;
        for number in 0..9 {
            let mut shards = encode(dev8(), &payload(number, 1_200_000));
            if number == wrong {
                shards[2][100] ^= 1;
            }
            cluster.upload_shards(1_200_000, shards, &[]).await;
        }
        let detail = cluster.revise(&[], &[]).await;
        cluster.wait_acknowledged().await;
        let (drawn, begun) = redraw(&mut cluster, 2..5, Lost::Down).await;
        let done = acknowledged(&cluster, &detail, &[3, 4], 10 * MINUTE).await;
        let took = done.expect("they catch up") - begun;
        assert!(took < MINUTE, "{took:?}");
        let handle = cluster.nodes[cluster.index_of(drawn[0])].handle.as_ref();
        let is_reported = async || {
            let status = handle.unwrap().status().await.unwrap();
            let mut segments = status.slots.iter().flat_map(|lag| &lag.unrebuildable);
            segments.any(|segment| segment.get() == u32::try_from(wrong).unwrap())
        };
        while !is_reported().await {
            cluster.sim.sleep(Duration::from_secs(1)).await;
        }
        let took = cluster.sim.elapsed() - begun;
        assert!(took < 3 * MINUTE, "{took:?}");
    });
}

#[test]
fn a_wrong_shard_of_who_leads_its_segment_costs_only_its_slot() {
    a_wrong_shard_costs_only_its_slot(20, 3);
}

#[test]
fn a_wrong_shard_of_a_partner_costs_only_its_slot() {
    a_wrong_shard_costs_only_its_slot(21, 1);
}

/// A rebuild that takes a while: the nodes' links are narrow, the owner's is not.
async fn three_rebuild_slowly(sim: Sim) -> (Cluster, RevisionDetail, Vec<NodeId>) {
    let (mut cluster, detail) = stored(sim, 11, &[1_200_000; 12]).await;
    cluster.net.set_link(narrow(100_000));
    let owner = NodeId::new(cluster.owner.key.public());
    cluster.net.set_links_of(owner, Link::DEFAULT);
    let (drawn, _) = redraw(&mut cluster, 2..5, Lost::Down).await;
    (cluster, detail, drawn)
}

#[test]
fn a_shard_that_its_owner_brings_is_waited_for_no_more() {
    run(22, async |sim| {
        let (mut cluster, detail, drawn) = three_rebuild_slowly(sim).await;
        cluster.sim.sleep(Duration::from_secs(5)).await;
        // Each gets one that another leads: the last of slot 2's, 3's and 4's node.
        for (number, slot) in [(9, 3), (10, 4), (11, 2)] {
            let shards = cluster.owner.segments[number].take().unwrap();
            let segment = u32::try_from(number).unwrap();
            let record = cluster.owner.record(segment, 1_200_000, &shards);
            let holder = drawn[slot - 2];
            let index = u8::try_from(slot).unwrap();
            let put = cluster.owner.put(holder, index, &record, &shards[slot]);
            put.await.unwrap();
            cluster.owner.segments[number] = Some(shards);
        }
        let limit = Duration::from_secs(100);
        let done = acknowledged(&cluster, &detail, &[2, 3, 4], limit).await;
        assert!(done.is_some(), "not within {limit:?}");
        cluster.check_all(&detail).await;
    });
}

#[test]
fn a_partner_that_restarts_is_still_given_its_shards() {
    run(23, async |sim| {
        let (mut cluster, detail, drawn) = three_rebuild_slowly(sim).await;
        // Its shards are on their way.
        cluster.sim.sleep(Duration::from_secs(16)).await;
        let index = cluster.index_of(drawn[1]);
        cluster.crash(index);
        cluster.restart(index).await;
        let before = read_by(&cluster, &drawn[1..2]).await;
        let limit = Duration::from_secs(100);
        let done = acknowledged(&cluster, &detail, &[3], limit).await;
        assert!(done.is_some(), "not within {limit:?}");
        // It reads no segment that others lead: one would be four shards.
        let read = read_by(&cluster, &drawn[1..2]).await - before;
        assert!(read < 1_200_000, "{read} bytes");
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}

/// That each of the nodes gave the others shards.
fn assert_passed_on(cluster: &Cluster, drawn: &[NodeId]) {
    for from in drawn {
        for to in drawn.iter().filter(|to| *to != from) {
            let passed = cluster.net.traffic(*from, *to).stream_bytes;
            assert!(passed > 300_000, "{passed} bytes");
        }
    }
}

/// Bytes that the nodes with slots 0, 1, 5, 6 and 7 have sent to these.
async fn read_by(cluster: &Cluster, nodes: &[NodeId]) -> u64 {
    let mut bytes = 0;
    let holders = cluster.holders().await;
    for from in holders[..2].iter().chain(&holders[5..]) {
        for to in nodes {
            bytes += cluster.net.traffic(*from, *to).stream_bytes;
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
        assert_passed_on(&cluster, &drawn);
    });
}

#[test]
fn i1_a_partner_that_stops_in_the_midst_of_a_rebuild_holds_nobody_up_for_long() {
    run(13, async |sim| {
        let (mut cluster, detail, drawn) = three_rebuild(sim).await;
        let index = cluster.index_of(drawn[1]);
        cluster.crash(index);
        let done = acknowledged(&cluster, &detail, &[2, 4], 10 * MINUTE).await;
        assert!(done.is_some(), "not within ten minutes");
        let its = cluster.group().await.deals[3].acknowledged;
        assert_ne!(its, detail.revision.number, "its node is down");
        cluster.restart(index).await;
        cluster.wait_acknowledged().await;
        cluster.check_all(&detail).await;
    });
}
