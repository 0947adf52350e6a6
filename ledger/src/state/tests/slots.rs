//! What becomes of slots: draws, draining, loss, waiting.

use cairn_core::{Amount, Bounded, ByteCount, RevisionNumber};

use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::group::{Cap, DealState, Leaver};
use crate::node::NodeStatus;
use crate::sample::{
    ENDOWED, OWNER, Place, World, account, acknowledge, declare_loss, key, node, open, party,
    register, revise, slot, terms,
};
use crate::tx::{SlotRevision, TxBody, group_id, tx_id};

/// Five nodes apart from each other.
const APART: [Place; 5] = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5)];

#[test]
fn a_group_is_drawn_by_the_next_blocks_seed() {
    let mut world = World::with_nodes(8, &APART);
    let tx = world.signed(OWNER, open(2, 4));
    let id = group_id(tx_id(&tx));
    let (effects, result) = world.submit(tx);
    assert_eq!(result, Ok(()));
    assert_eq!(effects.last(), Some(&Effect::GroupOpened(id)));
    assert!(!world.group(id).is_placed());
    assert!(world.state.has_draws());
    let balance = world.state.account(account(OWNER)).balance;
    assert_eq!(balance, Amount::from_micro(ENDOWED - 100));
    let effects = world.pass();
    assert_eq!(effects[0], Effect::GroupPlaced(id));
    let group = world.group(id).clone();
    for (effect, deal) in effects[1..].iter().zip(&group.deals) {
        assert!(matches!(effect, Effect::SlotMoved { from: None, to, .. } if *to == deal.node));
        let slots: Vec<_> = world.state.slots_of(deal.node, None).collect();
        assert_eq!(slots.len(), 1);
        assert_eq!(
            world.state.node(deal.node).unwrap().used,
            ByteCount::new(1 << 20)
        );
    }
    assert_eq!(effects.len(), 5);
    assert!(group.relaxed.is_empty());
    assert!(!world.state.has_draws());
    // Another seed draws other nodes, or the same in another order; one of few may draw the same.
    let mut begun = world.clone();
    begun.state = World::with_nodes(8, &APART).state;
    let tx = begun.signed(OWNER, open(2, 4));
    begun.submit(tx).1.unwrap();
    let draws_others = |seed: u8| {
        let mut other = begun.clone();
        let mut block = other.next_block(&[], Vec::new());
        let mut seeds = block.seeds.clone().into_vec();
        seeds[0].signature = Bounded::new(vec![seed]).unwrap();
        block.seeds = Bounded::new(seeds).unwrap();
        other.apply(block);
        other.group(id).deals != group.deals
    };
    assert!((0..8).any(draws_others));
}

#[test]
fn a_group_that_lost_its_candidates_is_refunded() {
    let mut world = World::with_nodes(1, &APART[..4]);
    let first = world.signed(OWNER, open(2, 4));
    let second = world.signed(2, open(2, 4));
    let id = group_id(tx_id(&second));
    let effects = world.apply(world.next_block(&[], vec![first, second]));
    assert!(effects.contains(&Effect::GroupOpened(id)));
    let effects = world.pass();
    let refunded = Effect::GroupRefunded {
        group: id,
        expected: 4,
        found: 0,
    };
    assert!(effects.contains(&refunded));
    assert!(world.state.group(id).is_none());
    let balance = world.state.account(account(2)).balance;
    assert_eq!(balance, Amount::from_micro(ENDOWED));
}

#[test]
fn a_lost_nodes_slots_are_redrawn_by_the_next_blocks_seed() {
    let mut world = World::with_nodes(8, &APART);
    let id = world.place(2, 4);
    let place = slot(id, 1);
    let lost = world.holder(place);
    let height = world.state.height();
    let effects = world.lose(&[lost]);
    assert_eq!(effects, [Effect::NodeChanged(node(lost))]);
    assert_eq!(world.deal(place).state, DealState::Vacant);
    assert_eq!(
        world.state.node(node(lost)).unwrap().status,
        NodeStatus::Lost
    );
    assert_eq!(world.state.node(node(lost)).unwrap().used, ByteCount::ZERO);
    world.pass();
    let deal = *world.deal(place);
    assert_eq!(deal.state, DealState::Held);
    assert_eq!(deal.previous, Some(node(lost)));
    assert_eq!(deal.acknowledged, RevisionNumber::ZERO);
    assert_eq!(deal.since.get(), height.get() + 2);
    assert_ne!(deal.node, node(lost));
    // Once more, and an unknown one: nothing.
    assert_eq!(world.lose(&[lost, 200]), []);
}

#[test]
fn a_slot_that_nobody_can_take_waits_until_one_can() {
    let mut world = World::with_nodes(8, &APART[..4]);
    let id = world.place(2, 4);
    let place = slot(id, 0);
    world.lose(&[world.holder(place)]);
    assert_eq!(world.pass(), [Effect::SlotWaiting(place)]);
    assert_eq!(world.deal(place).state, DealState::Vacant);
    assert_eq!(world.state.status().waiting_slot_count, 1);
    assert!(
        !world.state.has_draws(),
        "no block is made for a slot that waits"
    );
    assert_eq!(world.pass(), []);
    // A node without room leaves it waiting, one with room takes it.
    world.accept(30, register(30, 30, terms(0, (9, 9, 9))));
    assert_eq!(world.pass(), [Effect::SlotWaiting(place)]);
    world.accept(
        30,
        TxBody::NodeUpdate {
            terms: terms(1, (9, 9, 9)),
        },
    );
    world.pass();
    assert_eq!(world.deal(place).node, node(30));
    assert_eq!(world.state.status().waiting_slot_count, 0);
}

#[test]
fn a_draining_nodes_deal_ends_when_its_successor_acknowledges() {
    let mut world = World::with_nodes(8, &APART);
    let id = world.place(2, 4);
    let place = slot(id, 2);
    let leaver = world.holder(place);
    world.accept(OWNER, revise(id, 1, 3));
    world.accept(leaver, acknowledge(place, 1));
    world.accept(leaver, TxBody::NodeDrain);
    assert_eq!(world.deal(place).state, DealState::Leaving);
    assert_eq!(world.deal(place).node, node(leaver));
    // It goes on acknowledging until its successor is drawn.
    world.pass();
    let deal = *world.deal(place);
    let (owed, successor) = (RevisionNumber::new(1), party(deal.node));
    assert_eq!(deal.state, DealState::Held);
    assert_eq!(deal.previous, Some(node(leaver)));
    assert_eq!(
        deal.leaver,
        Some(Leaver {
            node: node(leaver),
            price: Amount::from_micro(5),
            acknowledged: owed,
            frozen: Default::default(),
            collateral: Amount::ZERO,
        })
    );
    let slots: Vec<_> = world.state.slots_of(node(leaver), None).collect();
    assert_eq!(slots, [place]);
    assert!(world.state.node(node(leaver)).unwrap().used > ByteCount::ZERO);
    let effects = world.accept(successor, acknowledge(place, 1));
    let released = Effect::SlotReleased {
        slot: place,
        node: node(leaver),
    };
    assert!(effects.contains(&released));
    assert_eq!(world.deal(place).leaver, None);
    let entry = world.state.node(node(leaver)).unwrap();
    assert_eq!(
        (entry.used, entry.status),
        (ByteCount::ZERO, NodeStatus::Draining)
    );
    // It may come back.
    world.accept(leaver, register(leaver, leaver, terms(8, (1, 1, 1))));
    assert_eq!(
        world.state.node(node(leaver)).unwrap().status,
        NodeStatus::Active
    );
}

#[test]
fn a_draining_node_without_anything_leaves_at_once() {
    let mut world = World::with_nodes(8, &APART);
    let id = world.place(2, 4);
    let place = slot(id, 2);
    let leaver = world.holder(place);
    world.accept(leaver, TxBody::NodeDrain);
    assert_eq!(world.deal(place).state, DealState::Vacant);
    assert_eq!(
        world.state.node(node(leaver)).unwrap().used,
        ByteCount::ZERO
    );
    world.pass();
    assert_eq!(world.deal(place).previous, Some(node(leaver)));
    assert_eq!(world.deal(place).leaver, None);
}

#[test]
fn a_successor_that_is_lost_leaves_the_leaver_in_place() {
    let places: Vec<Place> = (1..=6).map(|number| (number, number, number)).collect();
    let mut world = World::with_nodes(8, &places);
    let id = world.place(2, 4);
    let place = slot(id, 0);
    let leaver = world.holder(place);
    world.accept(OWNER, revise(id, 1, 3));
    world.accept(leaver, acknowledge(place, 1));
    world.accept(leaver, TxBody::NodeDrain);
    world.pass();
    let successor = world.holder(place);
    world.lose(&[successor]);
    world.pass();
    let deal = *world.deal(place);
    assert_ne!(deal.node, node(successor));
    assert_eq!(
        deal.previous,
        Some(node(leaver)),
        "the one that has the bytes"
    );
    assert_eq!(deal.leaver.map(|leaver| leaver.node), Some(node(leaver)));
    // A successor that drains before it has anything is replaced likewise.
    let second = world.holder(place);
    world.accept(second, TxBody::NodeDrain);
    assert_eq!(world.deal(place).state, DealState::Vacant);
    world.accept(
        successor,
        register(successor, successor, terms(8, (7, 7, 7))),
    );
    world.pass();
    assert_eq!(world.deal(place).previous, Some(node(leaver)));
    // The leaver is lost in turn.
    world.lose(&[leaver]);
    assert_eq!(world.deal(place).leaver, None);
}

#[test]
fn a_node_that_declares_loss_keeps_its_slot_and_begins_anew() {
    let mut world = World::with_nodes(8, &APART);
    let id = world.place(2, 4);
    let place = slot(id, 3);
    let holder = world.holder(place);
    world.accept(OWNER, revise(id, 1, 1));
    world.accept(holder, acknowledge(place, 1));
    assert_eq!(world.group(id).current_count(), 1);
    let effects = world.accept(holder, declare_loss(place));
    assert_eq!(effects, [Effect::LossDeclared(place)]);
    assert_eq!(world.deal(place).acknowledged, RevisionNumber::ZERO);
    assert_eq!(world.deal(place).state, DealState::Held);
    assert_eq!(world.holder(place), holder);
    world.accept(holder, acknowledge(place, 1));
    assert_eq!(world.group(id).current_count(), 1);
    // While it is leaving it has nothing left to hand over.
    world.accept(holder, TxBody::NodeDrain);
    assert_eq!(world.deal(place).state, DealState::Leaving);
    let tx = world.signed(holder, declare_loss(place));
    let mut leaving = world.clone();
    leaving.pass();
    world.submit(tx).1.unwrap();
    assert_eq!(world.deal(place).leaver, None);
    // As one whose successor is drawn, its part ends.
    assert!(leaving.deal(place).leaver.is_some());
    leaving.accept(holder, declare_loss(place));
    assert_eq!(leaving.deal(place).leaver, None);
    assert_eq!(
        leaving.state.node(node(holder)).unwrap().used,
        ByteCount::ZERO
    );
}

#[test]
fn a_leaving_node_that_declares_loss_before_the_draw_is_out() {
    let mut world = World::with_nodes(8, &APART[..4]);
    let id = world.place(2, 4);
    let place = slot(id, 3);
    let holder = world.holder(place);
    world.accept(OWNER, revise(id, 1, 1));
    world.accept(holder, acknowledge(place, 1));
    world.accept(holder, TxBody::NodeDrain);
    world.pass();
    assert_eq!(
        world.deal(place).state,
        DealState::Leaving,
        "nobody can take it"
    );
    // Named twice: once is enough.
    let slots = Bounded::new(vec![place, place]).unwrap();
    world.accept(holder, TxBody::DeclareLoss { slots });
    assert_eq!(world.deal(place).state, DealState::Vacant);
    world.lose(&[holder]);
    world.accept(holder, register(holder, holder, terms(1, (1, 1, 1))));
    world.pass();
    assert_eq!(
        world.deal(place).node,
        node(holder),
        "the only one with room"
    );
    assert_eq!(world.deal(place).state, DealState::Held);
}

#[test]
fn an_acknowledgement_that_names_a_slot_twice_counts_the_highest() {
    let mut world = World::with_nodes(8, &APART);
    let id = world.place(2, 4);
    let place = slot(id, 3);
    world.accept(OWNER, revise(id, 1, 1));
    world.accept(OWNER, revise(id, 2, 1));
    let entry = |revision| SlotRevision {
        group: id,
        slot: place.slot,
        revision: RevisionNumber::new(revision),
    };
    let slots = Bounded::new(vec![entry(2), entry(1), entry(2)]).unwrap();
    let effects = world.accept(world.holder(place), TxBody::Acknowledge { slots });
    let revision = RevisionNumber::new(2);
    assert_eq!(
        effects,
        [Effect::Acknowledged {
            slot: place,
            revision
        }]
    );
    assert_eq!(world.deal(place).acknowledged, revision);
}

#[test]
fn a_small_network_relaxes_caps_and_says_so() {
    let one_place = [(1, 1, 1); 4];
    let mut world = World::with_nodes(8, &one_place);
    let id = world.place(2, 4);
    let relaxed = &world.group(id).relaxed;
    let caps: Vec<Cap> = relaxed.iter().map(|relaxed| relaxed.cap).collect();
    assert_eq!(caps, [Cap::Region, Cap::Network, Cap::Provider]);
    assert!(
        relaxed
            .iter()
            .all(|relaxed| (relaxed.max, relaxed.found) == (1, 4))
    );
    // One operator for all is the last to be given up.
    let mut world = World::new(Parameters::default());
    for number in 10..14 {
        world.accept(
            number,
            register(number, OWNER, terms(8, (number, number, number))),
        );
    }
    let id = world.place(2, 4);
    let relaxed = &world.group(id).relaxed;
    assert_eq!(relaxed.len(), 1);
    assert_eq!((relaxed[0].cap, relaxed[0].found), (Cap::Operator, 4));
}

/// A block in which the owner opens so many groups of small slots.
fn open_many(world: &mut World, count: u64, (k, n): (u8, u8)) {
    let key = key(OWNER);
    let account = account(OWNER);
    let first = world.state.account(account).nonce;
    let txs = (first..first + count).map(|nonce| {
        let body = TxBody::GroupOpen {
            code: cairn_core::Code::new(k, n).unwrap(),
            slot_capacity: ByteCount::new(64 << 10),
            price_max: Amount::from_micro(10),
            term_epochs: 1,
            escrow: Amount::ZERO,
        };
        let fee = Amount::ZERO;
        cairn_core::Signed::sign_for(
            crate::tx::Tx {
                account,
                nonce,
                fee,
                body,
            },
            crate::sample::ledger(),
            &key,
        )
    });
    let block = world.next_block(&[], txs.collect());
    world.apply(block);
}

fn placed_count(effects: &[Effect]) -> usize {
    let is_placed = |effect: &&Effect| matches!(effect, Effect::GroupPlaced(_));
    effects.iter().filter(is_placed).count()
}

fn moved_count(effects: &[Effect]) -> usize {
    let is_moved = |effect: &&Effect| matches!(effect, Effect::SlotMoved { from: Some(_), .. });
    effects.iter().filter(is_moved).count()
}

#[test]
fn draws_over_the_bound_of_a_block_are_left_for_the_next() {
    let mut world = World::with_nodes(1024, &APART[..4]);
    // 600 groups of 4 slots: 2,400 draws, of which one block makes 2,048.
    open_many(&mut world, 600, (2, 4));
    assert_eq!(placed_count(&world.pass()), 512);
    assert!(world.state.has_draws());
    assert_eq!(placed_count(&world.pass()), 88);
    assert!(!world.state.has_draws());
}

/// One transaction asks for more draws than two blocks make. Who opens a group after it waits for at most
/// one of them, and the drain goes on beside groups.
#[test]
fn an_opened_group_does_not_wait_until_a_long_drain_is_drawn() {
    for parity in 0..2 {
        let mut world = World::with_nodes(8_192, &APART[..2]);
        for _ in 0..8 {
            open_many(&mut world, 700, (1, 2));
            while world.state.has_draws() {
                world.pass();
            }
        }
        world.accept(40, register(40, 40, terms(8_192, (9, 9, 9))));
        while world.state.height().get() % 2 != parity {
            world.pass();
        }
        let drain = world.signed(10, TxBody::NodeDrain);
        let block = world.next_block(&[], vec![drain]);
        world.apply(block);
        open_many(&mut world, 500, (1, 2));
        // Of 5,600 slots one block has drawn 2,048; in turn these two draw the groups and go on.
        let effects: Vec<Effect> = (0..2).flat_map(|_| world.pass()).collect();
        assert_eq!(placed_count(&effects), 500);
        assert_eq!(moved_count(&effects), 2 * 2_048 - 1_000);
        while world.state.has_draws() {
            world.pass();
        }
        assert_eq!(world.state.slots_of(node(10), None).count(), 0);
        assert_eq!(world.state.slots_of(node(40), None).count(), 6_100);
    }
}
