//! What people look at agrees with the state (I4).

use cairn_core::{Amount, ByteCount, Code, EpochNumber, GroupId, Record, SegmentNumber};

use super::pay::{NODES, PRICE, earned, paid_world};
use super::prover::{judged, pass_epoch, proof, prove_all, submission, written};
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::movement::Cause;
use crate::sample::{
    OWNER, World, account, acknowledge, ask, declare_loss, node, open, slot, terms,
};
use crate::state::State;
use crate::tx::TxBody;
use crate::view::GroupProof;

/// No slots.
const NONE: [u8; 0] = [];

fn transfer(to: u8, micro: u64) -> TxBody {
    TxBody::Transfer {
        to: account(to),
        amount: Amount::from_micro(micro),
    }
}

/// Lines of a node's earnings: epoch, cause, micro-credits.
fn lines(world: &World, number: u8) -> Vec<(u64, Cause, u128)> {
    let view = world.state.earnings_view(node(number)).unwrap();
    assert_eq!(view.earnings.closing(), Some(view.balance));
    let lines = view.earnings.lines.iter();
    lines
        .map(|line| (line.epoch.get(), line.cause, line.micro))
        .collect()
}

fn epoch(world: &World) -> u64 {
    world.state.epoch().number.get()
}

#[test]
fn i4_a_nodes_earnings_name_every_cause_and_add_up_to_its_balance() {
    let (mut world, id) = paid_world(PRICE, 1_000);
    let holder = world.holder(slot(id, 0));
    let due = u128::from(earned(PRICE));
    assert_eq!(lines(&world, holder), []);
    pass_epoch(&mut world);
    let first = epoch(&world);
    prove_all(&mut world, &[holder]);
    world.accept(OWNER, transfer(holder, 500));
    pass_epoch(&mut world);
    let second = epoch(&world);
    prove_all(&mut world, &[holder]);
    world.accept(holder, transfer(OWNER, 120));
    world.accept(holder, transfer(holder, 7));
    let expected = [
        (first, Cause::Pay, due),
        (first, Cause::Received, 500),
        (second, Cause::Pay, due),
        (second, Cause::Received, 7),
        (second, Cause::Sent, 127),
    ];
    assert_eq!(lines(&world, holder), expected);
    let view = world.state.earnings_view(node(holder)).unwrap();
    assert_eq!(u128::from(view.balance.micro()), 2 * due + 380);
    // A restart reads the state back.
    let read = State::decode(&world.state.encode()).unwrap();
    assert_eq!(read.earnings_view(node(holder)), Some(view));
    assert_eq!(world.state.earnings_view(node(OWNER)), None);
}

#[test]
fn i4_fees_and_what_was_there_before_the_node_are_told_apart() {
    let mut world = World::new(Parameters {
        fee_min: Amount::from_micro(3),
        ..Parameters::default()
    });
    world.accept(OWNER, transfer(20, 1_000));
    world.accept(20, world.registration(20, terms(8, (1, 1, 1))));
    let view = world.state.earnings_view(node(20)).unwrap();
    assert_eq!(view.earnings.opening.micro(), 1_000);
    assert_eq!(lines(&world, 20), [(0, Cause::Fee, 3)]);
    // What is refused pays its fee.
    world.refuse(20, transfer(OWNER, 0));
    assert_eq!(lines(&world, 20), [(0, Cause::Fee, 6)]);
    // A group that can't be drawn any more gives its escrow back.
    for number in [21, 22] {
        world.accept(OWNER, transfer(number, 100));
        world.accept(number, world.registration(number, terms(8, (1, 1, 1))));
    }
    let open = world.signed(20, open(1, 3));
    let drain = world.signed(21, TxBody::NodeDrain);
    world.apply(world.next_block(&[], vec![open, drain]));
    let locked = [(0, Cause::Fee, 9), (0, Cause::EscrowLocked, 100)];
    assert_eq!(lines(&world, 20), locked);
    let own = |world: &World| {
        let (owner, after) = (Some(account(20)), None);
        ask!(world.state, Groups { owner, after }).len()
    };
    assert_eq!(own(&world), 1);
    world.pass();
    assert_eq!(lines(&world, 20)[..2], locked);
    assert_eq!(lines(&world, 20)[2..], [(0, Cause::EscrowReturned, 100)]);
    assert_eq!(own(&world), 0);
    // Registering again goes on with the same earnings.
    assert_eq!(lines(&world, 21), [(0, Cause::Fee, 6)]);
    world.accept(21, world.registration(21, terms(8, (1, 1, 1))));
    assert_eq!(lines(&world, 21), [(0, Cause::Fee, 9)]);
}

/// The slots that are proven, with segments up to `last`.
fn proven(world: &World, id: GroupId, last: u32) -> Vec<u8> {
    let view: GroupProof = world.state.group_proof(id).unwrap();
    assert!(view.is_well_formed());
    let slots = view.proven(Some(SegmentNumber::new(last)));
    slots.map(|proven| proven.slot.get()).collect()
}

#[test]
fn a_slot_is_proven_from_its_valid_proof_to_the_end_of_the_next_epoch() {
    let (mut world, id) = paid_world(PRICE, 100_000);
    let holders: Vec<u8> = (0..4).map(|index| world.holder(slot(id, index))).collect();
    let everyone: Vec<u8> = NODES.collect();
    // In the epoch in which they acknowledged, nothing of it was frozen.
    prove_all(&mut world, &everyone);
    assert_eq!(proven(&world, id, 0), NONE);
    pass_epoch(&mut world);
    assert_eq!(proven(&world, id, 0), NONE);
    prove_all(&mut world, &holders[..3]);
    assert_eq!(proven(&world, id, 0), [0, 1, 2]);
    // Revision 1 has segment 0 only.
    assert_eq!(proven(&world, id, 1), NONE);
    pass_epoch(&mut world);
    let view = world.state.group_proof(id).unwrap();
    assert_eq!(view.as_of(), EpochNumber::new(epoch(&world) - 1));
    assert_eq!(proven(&world, id, 0), [0, 1, 2]);
    prove_all(&mut world, &holders[..1]);
    pass_epoch(&mut world);
    assert_eq!(proven(&world, id, 0), [0], "the others lapsed");
}

#[test]
fn what_was_acknowledged_after_the_epoch_began_is_not_what_is_proven() {
    let (mut world, id) = paid_world(PRICE, 100_000);
    let holder = world.holder(slot(id, 0));
    pass_epoch(&mut world);
    let revision = written(id, 2, 4);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    world.accept(holder, acknowledge(slot(id, 0), 2));
    prove_all(&mut world, &[holder]);
    let view = world.state.group_proof(id).unwrap();
    let slots: Vec<_> = view
        .slots
        .iter()
        .map(|proven| {
            (
                proven.slot.get(),
                proven.revision.get(),
                proven.segment_count,
            )
        })
        .collect();
    assert_eq!(slots, [(0, 1, 1)]);
    assert_eq!(proven(&world, id, 1), NONE);
    pass_epoch(&mut world);
    prove_all(&mut world, &[holder]);
    assert_eq!(proven(&world, id, 1), [0]);
    // Acknowledged after the epoch that was proven: what was proven can't be told any more.
    pass_epoch(&mut world);
    let revision = written(id, 3, 4);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    world.accept(holder, acknowledge(slot(id, 0), 3));
    assert_eq!(proven(&world, id, 1), NONE);
    prove_all(&mut world, &[holder]);
    assert_eq!(proven(&world, id, 1), [0]);
}

#[test]
fn what_was_declared_lost_after_its_proof_is_not_proven() {
    let (mut world, id) = paid_world(PRICE, 100_000);
    let place = slot(id, 0);
    let holders: Vec<u8> = (0..4).map(|index| world.holder(slot(id, index))).collect();
    pass_epoch(&mut world);
    prove_all(&mut world, &holders);
    world.accept(holders[0], declare_loss(place));
    assert_eq!(proven(&world, id, 0), [1, 2, 3]);
    pass_epoch(&mut world);
    assert_eq!(proven(&world, id, 0), [1, 2, 3]);
    // Rebuilt, it counts when it is proven again.
    world.accept(holders[0], acknowledge(place, 1));
    assert_eq!(proven(&world, id, 0), [1, 2, 3]);
    pass_epoch(&mut world);
    prove_all(&mut world, &holders);
    assert_eq!(proven(&world, id, 0), [0, 1, 2, 3]);
}

#[test]
fn i5_an_invalid_proof_proves_nothing_and_counts_apart() {
    let (mut world, id) = paid_world(PRICE, 100_000);
    let holders: Vec<u8> = (0..4).map(|index| world.holder(slot(id, index))).collect();
    pass_epoch(&mut world);
    prove_all(&mut world, &holders);
    pass_epoch(&mut world);
    let mut wrong = proof(&world, holders[0]).unwrap();
    wrong.slots = cairn_core::Bounded::empty();
    let wrong = wrong.encode();
    let tx = world.signed(holders[0], submission(&world, &wrong));
    let block = judged(&world, vec![tx], &[wrong]);
    let effects = world.apply(block);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Judged { .. }))
    );
    prove_all(&mut world, &holders[1..2]);
    assert_eq!(proven(&world, id, 0), [1, 2, 3]);
    let view = ask!(world.state, Epoch);
    assert_eq!((view.valid_count, view.invalid_count), (1, 1));
    pass_epoch(&mut world);
    let view = ask!(world.state, Epoch);
    assert_eq!((view.valid_count, view.invalid_count), (0, 0));
    assert_eq!(
        view.began.get() % view.epoch_millis,
        1_000 % view.epoch_millis
    );
}

#[test]
fn pages_go_on_after_the_last_and_an_owner_sees_its_own() {
    let (mut world, id) = paid_world(PRICE, 1_000);
    let nodes = ask!(world.state, Nodes { after: None });
    assert_eq!(nodes.len(), NODES.len());
    let after = Some(nodes[1].node);
    let rest = ask!(world.state, Nodes { after });
    assert_eq!(rest[..], nodes[2..]);
    let mut all = vec![id];
    let open = TxBody::GroupOpen {
        code: Code::new(1, 2).unwrap(),
        slot_capacity: ByteCount::new(1 << 20),
        price_max: Amount::from_micro(PRICE),
        term_epochs: 24,
        escrow: Amount::from_micro(5),
    };
    for owner in [OWNER, 2] {
        let tx = world.signed(owner, open.clone());
        all.push(crate::tx::group_id(crate::tx::tx_id(&tx)));
        world.submit(tx).1.unwrap();
    }
    world.pass();
    all.sort_unstable();
    let ids = |owner, after| -> Vec<GroupId> {
        let page = ask!(world.state, Groups { owner, after });
        page.iter().map(|group| group.id).collect()
    };
    assert_eq!(ids(None, None), all);
    assert_eq!(ids(None, Some(all[0])), all[1..]);
    assert_eq!(ids(Some(account(OWNER)), None).len(), 2);
    assert_eq!(ids(Some(account(9)), None), []);
    let summary = world.group(id).summary();
    assert_eq!(summary.epoch_cost.micro(), 4 * earned(PRICE));
    assert_eq!(summary.epochs_left(), Some(1_000 / (4 * earned(PRICE))));
    assert_eq!((summary.slot_count, summary.current_count), (4, 4));
    let other = all.iter().find(|other| **other != id).unwrap();
    assert_eq!(world.group(*other).summary().epochs_left(), None);
}
