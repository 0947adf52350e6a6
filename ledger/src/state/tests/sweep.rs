//! Nobody slows repair or the ends of groups for others.

use cairn_core::{Amount, ByteCount, Code, GroupId, RevisionNumber};

use super::money::written_group;
use super::repair::{epoch_without, unpaid};
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::group::DealState;
use crate::sample::{OWNER, World, declare_loss, node, open, slot, terms};
use crate::state::{GROUPS_LOOKED_MAX, WAITING_DRAWN_MAX};
use crate::tx::{SlotRef, TxBody, group_id, tx_id};

#[test]
fn the_loss_of_nothing_changes_nothing_and_gains_no_time() {
    let mut world = unpaid();
    let id = written_group(&mut world, 20, 1_000, 100);
    let place = slot(id, 0);
    let idler = world.holder(place);
    world.accept(idler, declare_loss(place));
    for _ in 0..3 {
        let before = *world.deal(place);
        assert_eq!(before.acknowledged, RevisionNumber::ZERO);
        assert_eq!(world.accept(idler, declare_loss(place)), []);
        assert_eq!(*world.deal(place), before);
        assert!(!world.group(id).is_marked);
        epoch_without(&mut world, &[]);
    }
    epoch_without(&mut world, &[]);
    assert_eq!(world.deal(place).state, DealState::Idle);
}

/// So many groups of two slots each.
fn many_groups(count: usize) -> (World, Vec<GroupId>) {
    let parameters = Parameters {
        epoch_millis: 1 << 20,
        ..Parameters::default()
    };
    let mut world = World::with_nodes_on(parameters, 1 << 10, &[(1, 1, 1), (2, 2, 2)]);
    let account = crate::sample::account(OWNER);
    let first = world.state.account(account).nonce;
    let mut ids = Vec::new();
    let mut nonce = first;
    while ids.len() < count {
        let txs = (0..1_000.min(count - ids.len())).map(|_| {
            let body = TxBody::GroupOpen {
                code: Code::new(1, 2).unwrap(),
                slot_capacity: ByteCount::new(64 << 10),
                price_max: Amount::from_micro(10),
                term_epochs: 1,
                escrow: Amount::ZERO,
            };
            let tx = crate::tx::Tx {
                account,
                nonce,
                fee: Amount::ZERO,
                body,
            };
            nonce += 1;
            let tx = world.sign(tx, OWNER);
            ids.push(group_id(tx_id(&tx)));
            tx
        });
        let block = world.next_block(&[], txs.collect());
        world.apply(block);
    }
    while world.state.has_draws() && world.state.groups().any(|group| !group.is_placed()) {
        world.pass();
    }
    ids.sort_unstable();
    (world, ids)
}

#[test]
fn groups_that_are_marked_all_the_time_do_not_keep_the_others_waiting() {
    let (mut world, ids) = many_groups(1_500);
    let marked = &ids[..GROUPS_LOOKED_MAX];
    let last = *ids.last().unwrap();
    let looked = |world: &World| world.state.group_sweep.after;
    world.state.begin_group_sweep();
    let mut blocks = 0;
    while world.state.group_sweep.left > 0 {
        for id in marked {
            world.state.mark(*id);
        }
        // One that is marked once has its turn as well.
        if blocks == 0 {
            world.state.mark(last);
        }
        world.pass();
        blocks += 1;
        assert!(blocks <= 6, "1,500 groups, 256 in a block");
        // What one border leaves goes on after the next.
        if blocks == 2 {
            let before = looked(&world);
            world.state.begin_group_sweep();
            assert_eq!(looked(&world), before);
            world.state.group_sweep.left = 1_500 - 512;
        }
    }
    assert!(!world.group(last).is_marked);
    assert_eq!(blocks, 6);
    // Alone, each has all looks.
    world.pass();
    world.pass();
    assert!(!world.state.has_looks());
}

#[test]
fn slots_that_wait_do_not_stand_before_what_is_asked_later() {
    let places = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)];
    let mut world = World::with_nodes(40, &places);
    for _ in 0..20 {
        world.place(2, 4);
    }
    world.lose(&[10]);
    while world.state.has_draws() {
        world.pass();
    }
    assert_eq!(world.state.status().waiting_slot_count, 20);
    let waiting = |effects: &[Effect]| -> Vec<SlotRef> {
        let waiting = |effect: &Effect| match effect {
            Effect::SlotWaiting(slot) => Some(*slot),
            _ => None,
        };
        effects.iter().filter_map(waiting).collect()
    };
    // All are tried again, and a group is opened in the same block.
    let update = TxBody::NodeUpdate {
        terms: terms(40, (2, 2, 2)),
    };
    let update = world.signed(11, update);
    let opened = world.signed(OWNER, open(1, 2));
    let id = group_id(tx_id(&opened));
    let block = world.next_block(&[], vec![update, opened]);
    world.apply(block);
    let effects = world.pass();
    assert_eq!(effects[0], Effect::GroupPlaced(id));
    let first = waiting(&effects);
    assert_eq!(first.len(), WAITING_DRAWN_MAX);
    // Asked again before it is through, it goes on where it was: the last four, then from the first on.
    let update = TxBody::NodeUpdate {
        terms: terms(40, (2, 2, 2)),
    };
    let tx = world.signed(11, update);
    let block = world.next_block(&[], vec![tx]);
    let rest = waiting(&world.apply(block));
    assert!(rest.iter().all(|slot| !first.contains(slot)));
    assert_eq!(rest.len(), 4);
    assert_eq!(waiting(&world.pass()), first);
    assert_eq!(waiting(&world.pass()), rest);
    assert!(!world.state.has_draws());
    assert_eq!(world.state.status().waiting_slot_count, 20);
    // One with room for all gets all.
    world.accept(30, world.registration(30, terms(40, (9, 9, 9))));
    world.pass();
    assert_eq!(world.state.status().waiting_slot_count, 4);
    world.pass();
    assert_eq!(world.state.status().waiting_slot_count, 0);
    assert!(!world.state.has_draws());
    assert_eq!(world.state.slots_of(node(30), None).count(), 20);
}
