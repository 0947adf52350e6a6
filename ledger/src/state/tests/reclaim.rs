//! Idle slots that the node which held them last takes back.

use cairn_core::{Amount, Bounded, ByteCount, GroupId, RevisionNumber};

use crate::effect::Effect;
use crate::group::DealState;
use crate::sample::{OWNER, Place, World, acknowledge, node, register_on, revise, slot, terms};
use crate::tx::{NodeTerms, SlotRef, SlotRevision, TxBody};
use crate::tx_error::TxError;

/// Twelve nodes with a slot each of a 2-of-12 group, whose lost slots wait until three are missing, and
/// of which each has acknowledged the revision.
fn begun() -> (World, GroupId) {
    let places: Vec<Place> = (1..=12).map(|number| (number, number, number)).collect();
    let mut world = World::with_nodes(8, &places);
    let id = opened(&mut world);
    (world, id)
}

/// Another such group.
fn opened(world: &mut World) -> GroupId {
    let id = world.place(2, 12);
    world.accept(OWNER, revise(id, 1, 3));
    for index in 0..12 {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    id
}

/// The node of a slot is lost; the slot is idle.
fn lose(world: &mut World, place: SlotRef) -> u8 {
    let holder = world.holder(place);
    world.lose(&[holder]);
    assert_eq!(world.deal(place).state, DealState::Idle);
    holder
}

fn come_back(world: &mut World, number: u8, terms: NodeTerms) {
    let body = world.registration(number, terms);
    world.accept(number, body);
}

fn not_holder(place: SlotRef, found: u8) -> TxError {
    TxError::NotHolder {
        slot: place,
        expected: None,
        found: node(found),
    }
}

#[test]
fn a_node_that_comes_back_takes_its_idle_slot_back() {
    let (mut world, id) = begun();
    let place = slot(id, 3);
    let number = lose(&mut world, place);
    assert!(!world.state.has_draws(), "nobody is drawn in its place");
    let refused = world.refuse(number, acknowledge(place, 1));
    assert_eq!(refused, not_holder(place, number), "it is lost");
    let offer = NodeTerms {
        price: Amount::from_micro(7),
        ..terms(8, (1, 1, 1))
    };
    come_back(&mut world, number, offer);
    // What was written meanwhile it has, too, or it has not and is behind.
    world.accept(OWNER, revise(id, 2, 4));
    let effects = world.accept(number, acknowledge(place, 2));
    assert!(effects.contains(&Effect::GroupChanged(id)));
    assert!(effects.contains(&Effect::Acknowledged {
        slot: place,
        revision: RevisionNumber::new(2),
    }));
    let deal = *world.deal(place);
    assert_eq!((deal.state, deal.node), (DealState::Held, node(number)));
    assert_eq!(deal.acknowledged, RevisionNumber::new(2));
    assert_eq!(deal.price, Amount::from_micro(7), "what it asks now");
    let entry = world.state.node(node(number)).unwrap();
    assert_eq!(entry.used, ByteCount::new(1 << 20));
    assert_eq!(world.state.slots_of(node(number), None).count(), 1);
    assert!(!world.state.has_draws());
}

#[test]
fn a_slot_that_another_was_drawn_for_is_not_taken_back() {
    let (mut world, id) = begun();
    come_back(&mut world, 50, terms(8, (50, 50, 50)));
    let places = [slot(id, 3), slot(id, 4), slot(id, 5)];
    let numbers = places.map(|place| world.holder(place));
    world.lose(&numbers);
    world.pass();
    let drawn = places.iter().position(|place| world.holder(*place) == 50);
    let drawn = drawn.expect("it is drawn for one of three");
    let (place, number) = (places[drawn], numbers[drawn]);
    come_back(&mut world, number, terms(8, (1, 1, 1)));
    while world.state.has_draws() {
        world.pass();
    }
    let expected = TxError::NotHolder {
        slot: place,
        expected: Some(node(50)),
        found: node(number),
    };
    assert_eq!(world.refuse(number, acknowledge(place, 1)), expected);
}

/// What a draw asks of a node, taking back asks too.
#[test]
fn who_could_not_be_drawn_for_a_slot_does_not_take_it_back() {
    let (mut begun, id) = begun();
    let place = slot(id, 3);
    let number = lose(&mut begun, place);
    let other = begun.holder(slot(id, 4));
    let ledger = begun.state.ledger_id();
    let dear = NodeTerms {
        price: Amount::from_micro(11),
        ..terms(8, (1, 1, 1))
    };
    let cases = [
        ("dearer than the group pays", number, dear),
        ("without room", number, terms(0, (1, 1, 1))),
        (
            "of an operator with a slot of the group",
            other,
            terms(8, (1, 1, 1)),
        ),
    ];
    for (case, operator, terms) in cases {
        let mut world = begun.clone();
        world.accept(number, register_on(ledger, number, operator, terms));
        let refused = world.refuse(number, acknowledge(place, 1));
        assert_eq!(refused, not_holder(place, number), "{case}");
    }
    let mut world = begun;
    world.accept(
        number,
        register_on(ledger, number, number, terms(1, (1, 1, 1))),
    );
    let refused = world.refuse(other, acknowledge(place, 1));
    assert_eq!(refused, not_holder(place, other), "it never held it");
    world.accept(number, acknowledge(place, 1));
}

/// Room is counted over all slots of a transaction, and a slot that is named twice once.
#[test]
fn a_node_takes_back_as_many_slots_as_it_has_room_for() {
    let (mut world, first) = begun();
    let second = opened(&mut world);
    let number = world.holder(slot(first, 0));
    let own = |world: &World, id| {
        let mut places = (0..12).map(|index| slot(id, index));
        places.find(|place| world.holder(*place) == number).unwrap()
    };
    let places = [own(&world, first), own(&world, second)];
    world.lose(&[number]);
    let body = |places: &[SlotRef]| {
        let entry = |place: &SlotRef| SlotRevision {
            group: place.group,
            slot: place.slot,
            revision: RevisionNumber::new(1),
        };
        TxBody::Acknowledge {
            slots: Bounded::new(places.iter().map(entry).collect()).unwrap(),
        }
    };
    come_back(&mut world, number, terms(1, (1, 1, 1)));
    assert!(matches!(
        world.refuse(number, body(&places)),
        TxError::NotHolder { .. }
    ));
    world.accept(number, body(&[places[0], places[0]]));
    assert_eq!(world.state.slots_of(node(number), None).count(), 1);
    let refused = world.refuse(number, body(&places[1..]));
    assert_eq!(refused, not_holder(places[1], number), "no room is left");
}
