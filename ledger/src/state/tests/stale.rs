//! Slots that stay behind what others hold (I1, I5).

use cairn_core::{ByteCount, GroupId, RevisionNumber};

use super::prover::written;
use super::repair::{epoch_without, healthy, holders, unpaid};
use crate::sample::{OWNER, World, acknowledge, declare_loss, node, open, slot};
use crate::tx::{TxBody, group_id, tx_id};

/// 10-of-20 is lazy at 17.
const N: u8 = 20;

/// A group at revision 1, with room for more.
fn world() -> (World, GroupId) {
    let mut world = unpaid();
    let mut opening = open(N / 2, N);
    if let TxBody::GroupOpen {
        slot_capacity,
        term_epochs,
        ..
    } = &mut opening
    {
        *slot_capacity = ByteCount::new(1 << 16);
        *term_epochs = 1_000;
    }
    let tx = world.signed(OWNER, opening);
    let id = group_id(tx_id(&tx));
    world.submit(tx).1.unwrap();
    world.pass();
    revise(&mut world, id, 1);
    acknowledge_all(&mut world, id, 0..N, 1);
    (world, id)
}

fn revise(world: &mut World, id: GroupId, number: u64) {
    let revision = written(id, number, N);
    world.accept(OWNER, TxBody::GroupRevise { revision });
}

fn acknowledge_all(world: &mut World, id: GroupId, slots: std::ops::Range<u8>, number: u64) {
    for place in slots.map(|index| slot(id, index)) {
        world.accept(world.holder(place), acknowledge(place, number));
    }
}

#[test]
fn slots_that_stay_behind_are_not_healthy_and_give_way() {
    let (mut world, id) = world();
    revise(&mut world, id, 2);
    acknowledge_all(&mut world, id, 4..N, 2);
    let before = holders(&world, id);
    // They have as long as anyone who catches up.
    for _ in 0..3 {
        epoch_without(&mut world, &[]);
        assert_eq!(healthy(&world, id), usize::from(N));
        assert_eq!(holders(&world, id), before);
    }
    epoch_without(&mut world, &[]);
    world.pass();
    let after = holders(&world, id);
    assert_eq!(after[4..], before[4..]);
    for index in 0..4 {
        let deal = world.deal(slot(id, index));
        assert_eq!(deal.acknowledged, RevisionNumber::ZERO, "drawn anew");
        assert_eq!(deal.behind_since, world.state.epoch().number);
    }
    assert_eq!(healthy(&world, id), 16);
    acknowledge_all(&mut world, id, 0..4, 2);
    assert_eq!(healthy(&world, id), usize::from(N));
}

#[test]
fn i5_what_too_few_have_is_nobodys_fault() {
    let (mut world, id) = world();
    revise(&mut world, id, 2);
    // One fewer than k: nobody can rebuild it, whoever tries.
    acknowledge_all(&mut world, id, 0..9, 2);
    let before = holders(&world, id);
    for _ in 0..9 {
        epoch_without(&mut world, &[]);
    }
    assert_eq!(holders(&world, id), before);
    assert_eq!(healthy(&world, id), usize::from(N));
}

#[test]
fn i1_what_can_not_be_had_any_more_is_not_due() {
    let (mut world, id) = world();
    revise(&mut world, id, 2);
    // As many as k, until one of them loses it.
    acknowledge_all(&mut world, id, 0..N / 2, 2);
    epoch_without(&mut world, &[]);
    assert_eq!(world.group(id).due.next, RevisionNumber::new(2));
    let place = slot(id, 0);
    world.accept(world.holder(place), declare_loss(place));
    let before = holders(&world, id);
    for _ in 0..6 {
        epoch_without(&mut world, &[]);
        assert_eq!(healthy(&world, id), usize::from(N) - 1);
    }
    // Those who have revision 1 are needed for what is in it.
    assert_eq!(holders(&world, id), before);
    assert!(world.group(id).is_open());
    let has = |index| world.deal(slot(id, index)).acknowledged.get();
    assert!((1..N).all(|index| has(index) == if index < N / 2 { 2 } else { 1 }));
    // The other way round: had again by k, it is due again.
    let kept = holders(&world, id)[usize::from(N) - 1];
    acknowledge_all(&mut world, id, N - 1..N, 2);
    for _ in 0..4 {
        epoch_without(&mut world, &[]);
    }
    assert_eq!(world.group(id).due.revision, RevisionNumber::new(2));
    assert_eq!(world.holder(slot(id, N - 1)), kept);
}

#[test]
fn a_slot_that_follows_a_busy_writer_is_healthy() {
    let (mut world, id) = world();
    for number in 2..12 {
        revise(&mut world, id, number);
        acknowledge_all(&mut world, id, 1..N, number);
        if number % 2 == 0 {
            acknowledge_all(&mut world, id, 0..1, number - 1);
        }
        epoch_without(&mut world, &[]);
        assert_eq!(healthy(&world, id), usize::from(N), "revision {number}");
    }
}

#[test]
fn a_successor_that_stays_behind_its_leaver_gives_way() {
    let (mut world, id) = world();
    revise(&mut world, id, 2);
    acknowledge_all(&mut world, id, 0..N, 2);
    let place = slot(id, 0);
    let leaver = world.holder(place);
    world.accept(leaver, TxBody::NodeDrain);
    world.pass();
    let stale = world.holder(place);
    assert_ne!(stale, leaver);
    world.accept(stale, acknowledge(place, 1));
    for _ in 0..3 {
        epoch_without(&mut world, &[]);
    }
    world.pass();
    // The group is healthy, but the leaver waits.
    assert_eq!(healthy(&world, id), usize::from(N));
    let next = world.holder(place);
    assert_ne!(next, stale);
    assert_eq!(world.deal(place).leaver.unwrap().node, node(leaver));
    assert_eq!(world.deal(place).previous, Some(node(leaver)));
    world.accept(next, acknowledge(place, 2));
    assert_eq!(world.deal(place).leaver, None);
}
