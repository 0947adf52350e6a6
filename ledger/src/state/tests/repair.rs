//! When slots are drawn anew: suspect and lost nodes, lazy and urgent thresholds, overdue slots.

use cairn_core::{ByteCount, Code, GroupId, NodeId};

use super::money::{nodes_at, parameters, written_group};
use super::prover::{EPOCH, pass_epoch, prove_all};
use crate::genesis::Parameters;
use crate::group::{DealState, Group, lazy_max, urgent_max};
use crate::node::NodeStatus;
use crate::sample::{World, acknowledge, declare_loss, node, slot};

const NODES: std::ops::Range<u8> = 10..40;
/// 10-of-20: lazy at 17 and urgent at 14 healthy slots.
const N: u8 = 20;

/// Nodes that ask nothing, in epochs that are long enough to set all up in the first.
pub(super) fn unpaid() -> World {
    let parameters = Parameters {
        epoch_millis: 8 * EPOCH,
        collateral_epochs: 0,
        ..parameters()
    };
    nodes_at(0, parameters, NODES)
}

fn world() -> (World, GroupId) {
    let mut world = unpaid();
    let id = written_group(&mut world, N, 1_000, 100);
    (world, id)
}

pub(super) fn healthy(world: &World, id: GroupId) -> usize {
    world.state.healthy_count(world.group(id))
}

fn count(world: &World, id: GroupId, state: DealState) -> usize {
    let deals = world.group(id).deals.iter();
    deals.filter(|deal| deal.state == state).count()
}

pub(super) fn holders(world: &World, id: GroupId) -> Vec<u8> {
    (0..N).map(|index| world.holder(slot(id, index))).collect()
}

/// An epoch that all but these prove.
pub(super) fn epoch_without(world: &mut World, down: &[u8]) {
    pass_epoch(world);
    let up: Vec<u8> = NODES.filter(|number| !down.contains(number)).collect();
    prove_all(world, &up);
}

#[test]
fn the_thresholds_are_those_of_the_design() {
    let of = |k, n| {
        let code = Code::new(k, n).unwrap();
        (lazy_max(code), urgent_max(code))
    };
    assert_eq!(of(20, 40), (34, 27));
    assert_eq!(of(16, 24), (22, 19));
    assert_eq!(of(4, 8), (7, 6));
    assert_eq!(of(2, 4), (3, 3));
    assert_eq!(of(1, 2), (1, 1));
    assert_eq!(of(10, 20), (17, 14));
}

#[test]
fn few_lost_slots_wait_and_one_too_many_has_all_drawn_anew() {
    let (mut world, id) = world();
    let holders = holders(&world, id);
    // 10-of-20 is lazy at 17.
    world.lose(&holders[..2]);
    world.pass();
    assert_eq!(healthy(&world, id), 18);
    assert_eq!(count(&world, id, DealState::Idle), 2);
    assert!(!world.state.has_draws());
    world.lose(&[holders[2]]);
    world.pass();
    assert_eq!(count(&world, id, DealState::Held), usize::from(N));
    assert_eq!(healthy(&world, id), 17);
    for index in 0..3 {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    assert_eq!(healthy(&world, id), usize::from(N));
}

#[test]
fn suspect_slots_count_as_missing_and_keep_their_node_until_it_is_lost() {
    let (mut world, id) = world();
    let all = holders(&world, id);
    // Registered in epoch 0, whose proofs nobody owed.
    epoch_without(&mut world, &[]);
    let down = &all[..4];
    epoch_without(&mut world, down);
    assert_eq!(healthy(&world, id), 20);
    for _ in 0..2 {
        epoch_without(&mut world, down);
    }
    assert_eq!(healthy(&world, id), 16);
    assert_eq!(holders(&world, id), all, "not lost, and not urgent");
    // One returns in time and keeps its slot.
    let (back, down) = (all[0], &all[1..4]);
    let standing = world.state.node(node(back)).unwrap().standing;
    assert_eq!(standing.sample_count(world.state.epoch()), 256);
    epoch_without(&mut world, down);
    assert_eq!(healthy(&world, id), 17);
    for _ in 0..3 {
        epoch_without(&mut world, down);
    }
    for number in down {
        let entry = world.state.node(node(*number)).unwrap();
        assert_eq!(entry.status, NodeStatus::Lost);
    }
    let now = holders(&world, id);
    assert_eq!(now[0], back);
    assert!(now.iter().all(|number| !down.contains(number)));
}

#[test]
fn an_urgent_group_does_not_wait_until_suspects_are_lost() {
    let (mut world, id) = world();
    let all = holders(&world, id);
    epoch_without(&mut world, &[]);
    // 10-of-20 is urgent at 14.
    let down = &all[..6];
    for _ in 0..3 {
        epoch_without(&mut world, down);
    }
    world.pass();
    let now = holders(&world, id);
    assert!(now.iter().all(|number| !down.contains(number)));
    for number in down {
        let entry = world.state.node(node(*number)).unwrap();
        assert_eq!(entry.status, NodeStatus::Active, "not lost yet");
        assert_eq!(entry.used, ByteCount::ZERO);
    }
}

#[test]
fn a_node_that_never_catches_up_gives_way_to_another() {
    let (mut world, id) = world();
    let place = slot(id, 0);
    let idler = world.holder(place);
    world.accept(idler, declare_loss(place));
    let elsewhere = slot(id, 1);
    for _ in 0..2 {
        epoch_without(&mut world, &[]);
        assert_eq!(world.holder(place), idler);
    }
    // Two more that are lost, so that the group is to be repaired.
    let lost = [world.holder(elsewhere), world.holder(slot(id, 2))];
    for _ in 0..2 {
        epoch_without(&mut world, &[]);
    }
    assert_eq!(world.deal(place).state, DealState::Idle);
    assert_eq!(world.deal(place).holder(), None);
    world.lose(&lost);
    world.pass();
    assert_eq!(count(&world, id, DealState::Held), usize::from(N));
    assert_ne!(world.holder(place), idler);
}

#[test]
fn an_empty_group_is_nobodys_fault() {
    let mut world = unpaid();
    let tx = world.signed(1, super::money::opening(N, 1_000, 100));
    let id = crate::tx::group_id(crate::tx::tx_id(&tx));
    world.submit(tx).1.unwrap();
    world.pass();
    let before: Vec<NodeId> = world.group(id).deals.iter().map(|deal| deal.node).collect();
    for _ in 0..2 {
        epoch_without(&mut world, &[]);
    }
    assert_eq!(healthy(&world, id), usize::from(N));
    let after: Vec<NodeId> = world.group(id).deals.iter().map(|deal| deal.node).collect();
    assert_eq!(after, before);
    // The clock of catching up begins with the first revision.
    let revision = super::prover::written(id, 1, N);
    world.accept(1, crate::tx::TxBody::GroupRevise { revision });
    for _ in 0..2 {
        epoch_without(&mut world, &[]);
        assert_eq!(count(&world, id, DealState::Held), usize::from(N));
    }
}

#[test]
fn a_group_that_nobody_can_have_anything_of_reserves_nothing_for_long() {
    let mut world = unpaid();
    let opening = || super::money::opening(N, 1_000, 100);
    let mut opened = Vec::new();
    for _ in 0..4 {
        let tx = world.signed(1, opening());
        opened.push(crate::tx::group_id(crate::tx::tx_id(&tx)));
        world.submit(tx).1.unwrap();
        world.pass();
    }
    let [empty, unreached, written, late] = opened[..] else {
        panic!("four groups")
    };
    let revise = |world: &mut World, id| {
        let revision = super::prover::written(id, 1, N);
        world.accept(1, crate::tx::TxBody::GroupRevise { revision });
    };
    // Whatever its owner says of it, it is empty as long as fewer than k slots have it.
    for (id, slots) in [(unreached, N / 2 - 1), (written, N / 2)] {
        revise(&mut world, id);
        for place in (0..slots).map(|index| slot(id, index)) {
            world.accept(world.holder(place), acknowledge(place, 1));
        }
    }
    let is_open = |world: &World, id| world.state.group(id).is_some_and(Group::is_open);
    for _ in 0..2 {
        epoch_without(&mut world, &[]);
    }
    // The first revision may come late, and has as long.
    revise(&mut world, late);
    assert!(opened.iter().all(|id| is_open(&world, *id)));
    epoch_without(&mut world, &[]);
    let open: Vec<bool> = opened.iter().map(|id| is_open(&world, *id)).collect();
    assert_eq!(open, [false, false, true, true]);
    for _ in 0..2 {
        epoch_without(&mut world, &[]);
    }
    for id in [empty, unreached] {
        assert!(world.state.group(id).is_none(), "its escrow is back");
    }
    assert!(!is_open(&world, late));
    assert!(is_open(&world, written));
    for entry in world.state.nodes() {
        assert!(entry.used <= ByteCount::new(1 << 10), "of one group");
    }
}
