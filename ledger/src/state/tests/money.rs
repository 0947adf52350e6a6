//! Collateral, terms and what they cost (I4, I5).

use cairn_core::{Amount, ByteCount, Code, GroupId, RevisionNumber};

use super::prover::{EPOCH, judged, pass_epoch, proof, prove_all, submission, written};
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::group::{DealState, Ending, price_for};
use crate::node::NodeStatus;
use crate::sample::{ENDOWED, OWNER, World, account, acknowledge, declare_loss, node, slot, terms};
use crate::tx::{NodeTerms, SlotRef, TxBody, group_id, tx_id};
use crate::tx_error::TxError;

pub(super) const NODES: std::ops::Range<u8> = 10..16;
/// Slots of some hundred bytes earn ten times that.
pub(super) const PRICE: u64 = 10 << 30;
/// What pays for everything here.
pub(super) const PURSE: u8 = 2;
pub(super) const PUT_DOWN: u64 = 100_000;
pub(super) const ESCROW: u64 = 400_000;

/// Slots of the least capacity, so that collateral is not all there is.
pub(super) const CAPACITY: ByteCount = ByteCount::new(1 << 10);

pub(super) fn parameters() -> Parameters {
    Parameters {
        epoch_millis: EPOCH,
        slot_capacity_min: CAPACITY,
        collateral_epochs: 4,
        repair_epochs: 3,
        suspect_after_epochs: 2,
        lost_after_epochs: 5,
        catch_up_epochs: 3,
        grace_epochs: 2,
        maintenance_epochs_max: 3,
        maintenance_period_epochs: 8,
        ..Parameters::default()
    }
}

pub(super) fn offer(price: u64) -> NodeTerms {
    NodeTerms {
        price: Amount::from_micro(price),
        ..terms(8, (1, 1, 1))
    }
}

pub(super) fn opening(n: u8, term_epochs: u32, escrow: u64) -> TxBody {
    TxBody::GroupOpen {
        code: Code::new(n / 2, n).unwrap(),
        slot_capacity: CAPACITY,
        price_max: Amount::from_micro(PRICE),
        term_epochs,
        escrow: Amount::from_micro(escrow),
    }
}

/// Nodes with collateral; no group yet.
pub(super) fn nodes(parameters: Parameters, numbers: std::ops::Range<u8>) -> World {
    nodes_at(PRICE, parameters, numbers)
}

pub(super) fn nodes_at(price: u64, parameters: Parameters, numbers: std::ops::Range<u8>) -> World {
    let mut world = World::new(parameters);
    for number in numbers {
        world.accept(number, world.registration(number, offer(price)));
        if parameters.collateral_epochs > 0 {
            world.accept(PURSE, put_down(number, PUT_DOWN));
        }
    }
    world
}

pub(super) fn put_down(number: u8, micro: u64) -> TxBody {
    TxBody::NodeAddCollateral {
        node: node(number),
        amount: Amount::from_micro(micro),
    }
}

/// A placed group of `n` slots at revision 1, acknowledged by all.
pub(super) fn written_group(world: &mut World, n: u8, term_epochs: u32, escrow: u64) -> GroupId {
    let tx = world.signed(OWNER, opening(n, term_epochs, escrow));
    let id = group_id(tx_id(&tx));
    world.submit(tx).1.unwrap();
    while world.state.has_draws() {
        world.pass();
    }
    let revision = written(id, 1, n);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    for index in 0..n {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    id
}

pub(super) fn world() -> (World, GroupId) {
    let mut world = nodes(parameters(), NODES);
    let id = written_group(&mut world, 4, 100, ESCROW);
    (world, id)
}

pub(super) fn collateral() -> u64 {
    price_for(CAPACITY, Amount::from_micro(PRICE), 4).micro()
}

pub(super) fn earned() -> u64 {
    let bytes = written(GroupId::default(), 1, 4).slot_bytes;
    price_for(bytes, Amount::from_micro(PRICE), 1).micro()
}

pub(super) fn repair() -> u64 {
    3 * earned()
}

pub(super) fn balance(world: &World, number: u8) -> u64 {
    world.state.account(account(number)).balance.micro()
}

/// Collateral and what of it is locked.
pub(super) fn put_down_by(world: &World, number: u8) -> (u64, u64) {
    let entry = world.state.node(node(number)).unwrap();
    (entry.collateral.micro(), entry.locked.micro())
}

pub(super) fn holders(world: &World, id: GroupId) -> Vec<u8> {
    (0..4).map(|index| world.holder(slot(id, index))).collect()
}

/// A proof that answers nothing.
fn prove_wrongly(world: &mut World, number: u8) -> Vec<Effect> {
    let mut wrong = proof(world, number).unwrap();
    wrong.slots = cairn_core::Bounded::empty();
    let wrong = cairn_core::Record::encode(&wrong);
    let tx = world.signed(number, submission(world, &wrong));
    let block = judged(world, vec![tx], &[wrong]);
    world.apply(block)
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn money_refusals(expect: &mut dyn FnMut(TxError, TxError)) {
    let (mut world, id) = world();
    let holder = holders(&world, id)[0];
    let withdraw = |micro| TxBody::NodeTakeCollateral {
        amount: Amount::from_micro(micro),
    };
    let free = PUT_DOWN - collateral();
    expect(
        world.refuse(holder, withdraw(free + 1)),
        TxError::Collateral {
            node: node(holder),
            max: Amount::from_micro(free),
            found: Amount::from_micro(free + 1),
        },
    );
    expect(world.refuse(holder, withdraw(0)), TxError::AmountZero);
    expect(
        world.refuse(PURSE, put_down(holder, 0)),
        TxError::AmountZero,
    );
    let unknown = TxError::UnknownNode { node: node(99) };
    expect(world.refuse(PURSE, put_down(99, 1)), unknown);
    for epochs in [0, 4] {
        expect(
            world.refuse(holder, TxBody::NodeMaintain { epochs }),
            TxError::Maintenance {
                max: 3,
                found: epochs,
            },
        );
    }
    pass_epoch(&mut world);
    pass_epoch(&mut world);
    expect(
        world.refuse(holder, TxBody::NodeMaintain { epochs: 1 }),
        TxError::Lapsed {
            node: node(holder),
            lapses: world.state.epoch().judged - 1,
        },
    );
    prove_all(&mut world, &[holder]);
    let began = world.state.epoch().number.get();
    world.accept(holder, TxBody::NodeMaintain { epochs: 1 });
    expect(
        world.refuse(holder, TxBody::NodeMaintain { epochs: 1 }),
        TxError::MaintainedLately {
            node: node(holder),
            next: cairn_core::EpochNumber::new(began + 8),
        },
    );
    let extend = |epochs, escrow| TxBody::GroupExtend {
        group: id,
        epochs,
        escrow: Amount::from_micro(escrow),
    };
    expect(
        world.refuse(PURSE, extend(1, 0)),
        TxError::NotOwner {
            expected: account(OWNER),
            found: account(PURSE),
        },
    );
    let max = parameters().term_epochs_max;
    let ahead = u64::from(max) + world.group(id).ends.get() - world.state.epoch().number.get();
    expect(
        world.refuse(OWNER, extend(max, 0)),
        TxError::Term {
            max,
            found: u32::try_from(ahead).unwrap(),
        },
    );
    world.accept(OWNER, TxBody::GroupClose { group: id });
    for body in [extend(1, 1), TxBody::GroupClose { group: id }] {
        expect(
            world.refuse(OWNER, body),
            TxError::GroupEnding { group: id },
        );
    }
    let revision = written(id, 2, 4);
    expect(
        world.refuse(OWNER, TxBody::GroupRevise { revision }),
        TxError::GroupEnding { group: id },
    );
    let mut world = nodes(parameters(), NODES);
    let id = written_group(&mut world, 4, 1, ESCROW);
    while world.state.epoch().number <= world.group(id).ends {
        world.pass();
    }
    let ended = world.group(id).ends;
    let late = TxBody::GroupExtend {
        group: id,
        epochs: 0,
        escrow: Amount::from_micro(1),
    };
    expect(
        world.refuse(OWNER, late),
        TxError::TermOver { group: id, ended },
    );
}

#[test]
fn a_slot_locks_collateral_and_a_node_without_is_not_drawn() {
    let mut world = nodes(parameters(), 10..13);
    // A fourth whose collateral is one short.
    world.accept(13, world.registration(13, offer(PRICE)));
    world.accept(PURSE, put_down(13, collateral() - 1));
    let found = world.refuse(OWNER, opening(4, 100, ESCROW));
    assert_eq!(
        found,
        TxError::NodeCount {
            expected: 4,
            found: 3
        }
    );
    world.accept(PURSE, put_down(13, 1));
    written_group(&mut world, 4, 100, ESCROW);
    assert_eq!(put_down_by(&world, 13), (collateral(), collateral()));
    assert_eq!(put_down_by(&world, 10), (PUT_DOWN, collateral()));
    let all = TxBody::NodeTakeCollateral {
        amount: Amount::from_micro(PUT_DOWN - collateral()),
    };
    let effects = world.accept(10, all);
    assert!(effects.contains(&Effect::CollateralTaken {
        node: node(10),
        amount: Amount::from_micro(PUT_DOWN - collateral()),
    }));
    assert_eq!(balance(&world, 10), PUT_DOWN - collateral());
    assert_eq!(put_down_by(&world, 10), (collateral(), collateral()));
}

#[test]
fn a_lost_slot_pays_whoever_repairs_it_and_the_rest_comes_back() {
    let (mut world, id) = world();
    let place = slot(id, 0);
    let lost = world.holder(place);
    let effects = world.lose(&[lost]);
    let forfeited = Effect::Forfeited {
        node: node(lost),
        amount: Amount::from_micro(repair()),
    };
    assert!(effects.contains(&forfeited));
    assert!(repair() < collateral());
    assert_eq!(put_down_by(&world, lost), (PUT_DOWN - repair(), 0));
    assert_eq!(world.deal(place).bounty.micro(), repair());
    world.pass();
    let successor = world.holder(place);
    assert_ne!(successor, lost);
    world.accept(successor, acknowledge(place, 1));
    assert_eq!(balance(&world, successor), 0, "no pay without proof (I5)");
    pass_epoch(&mut world);
    let effects = prove_all(&mut world, &[successor]);
    assert!(effects.contains(&Effect::BountyPaid {
        node: node(successor),
        epoch: world.state.epoch().number,
        amount: Amount::from_micro(repair()),
    }));
    assert_eq!(balance(&world, successor), repair() + earned());
    assert_eq!(world.deal(place).bounty, Amount::ZERO);
}

#[test]
fn a_declared_loss_costs_the_repair_and_frees_no_collateral() {
    let (mut world, id) = world();
    let place = slot(id, 0);
    let holder = world.holder(place);
    world.accept(holder, declare_loss(place));
    let locked = collateral() - repair();
    assert_eq!(put_down_by(&world, holder), (PUT_DOWN - repair(), locked));
    assert_eq!(world.deal(place).acknowledged, RevisionNumber::ZERO);
    // What was frozen before does not earn it back.
    pass_epoch(&mut world);
    prove_all(&mut world, &[holder]);
    assert_eq!(put_down_by(&world, holder), (PUT_DOWN - repair(), locked));
    world.accept(holder, acknowledge(place, 1));
    pass_epoch(&mut world);
    prove_all(&mut world, &[holder]);
    // It repaired the slot itself: its own money, locked as before.
    assert_eq!(put_down_by(&world, holder), (PUT_DOWN, collateral()));
    assert_eq!(balance(&world, holder), earned());
}

#[test]
fn i5_an_invalid_proof_slashes_and_a_second_ends_the_node() {
    let (mut world, id) = world();
    pass_epoch(&mut world);
    let place = slot(id, 0);
    let liar = world.holder(place);
    let before = world.group(id).escrow.micro();
    let slashed = collateral() / 10;
    let effects = prove_wrongly(&mut world, liar);
    assert!(effects.contains(&Effect::Slashed {
        node: node(liar),
        epoch: world.state.epoch().number,
        amount: Amount::from_micro(slashed),
    }));
    assert_eq!(world.group(id).escrow.micro(), before + slashed);
    assert_eq!(
        put_down_by(&world, liar),
        (PUT_DOWN - slashed, collateral() - slashed)
    );
    assert_eq!(
        world.state.node(node(liar)).unwrap().status,
        NodeStatus::Active
    );
    let others: Vec<u8> = NODES.filter(|number| *number != liar).collect();
    prove_all(&mut world, &others);
    pass_epoch(&mut world);
    prove_all(&mut world, &others);
    prove_wrongly(&mut world, liar);
    assert_eq!(
        world.state.node(node(liar)).unwrap().status,
        NodeStatus::Lost
    );
    assert_eq!(put_down_by(&world, liar).1, 0);
    world.pass();
    assert_ne!(world.holder(place), liar);
    // Nobody else lost anything.
    for other in others {
        assert_eq!(put_down_by(&world, other).0, PUT_DOWN);
    }
}

#[test]
fn i5_a_missed_epoch_costs_its_pay_and_nothing_else() {
    let (mut world, id) = world();
    let holders = holders(&world, id);
    pass_epoch(&mut world);
    prove_all(&mut world, &holders[1..]);
    assert_eq!(balance(&world, holders[0]), 0);
    assert_eq!(put_down_by(&world, holders[0]), (PUT_DOWN, collateral()));
    pass_epoch(&mut world);
    prove_all(&mut world, &holders);
    assert_eq!(balance(&world, holders[0]), earned());
    assert_eq!(balance(&world, holders[1]), 2 * earned());
}

#[test]
fn an_announced_maintenance_is_free_and_a_proof_ends_it() {
    let (mut world, id) = world();
    let holders = holders(&world, id);
    let down = holders[0];
    let others: Vec<u8> = NODES.filter(|number| *number != down).collect();
    world.accept(down, TxBody::NodeMaintain { epochs: 3 });
    for _ in 0..3 {
        pass_epoch(&mut world);
        prove_all(&mut world, &others);
        assert!(!world.state.is_suspect(node(down)));
    }
    let standing = world.state.node(node(down)).unwrap().standing;
    assert_eq!(standing.lapses(world.state.epoch()), 0);
    assert_eq!(standing.sample_count(world.state.epoch()), 32);
    // One epoch too long.
    pass_epoch(&mut world);
    let standing = world.state.node(node(down)).unwrap().standing;
    assert_eq!(standing.lapses(world.state.epoch()), 1);
    prove_all(&mut world, &[down]);
    assert_eq!(put_down_by(&world, down), (PUT_DOWN, collateral()));
    // Nobody is drawn while it is down.
    let began = world.state.node(node(down)).unwrap().maintained.unwrap();
    while world.state.epoch().number.get() < began.get() + 8 {
        pass_epoch(&mut world);
        prove_all(&mut world, &NODES.collect::<Vec<u8>>());
    }
    world.accept(down, TxBody::NodeMaintain { epochs: 2 });
    let found = world.refuse(OWNER, opening(6, 10, 0));
    assert_eq!(
        found,
        TxError::NodeCount {
            expected: 6,
            found: 5
        }
    );
    prove_all(&mut world, &[down]);
    pass_epoch(&mut world);
    prove_all(&mut world, &NODES.collect::<Vec<u8>>());
    world.accept(OWNER, opening(6, 10, 0));
}

#[test]
fn i5_the_proof_of_the_epoch_in_which_it_was_announced_does_not_end_a_maintenance() {
    let (mut world, id) = world();
    pass_epoch(&mut world);
    let holders = holders(&world, id);
    let down = holders[0];
    let lapses = |world: &World| {
        let standing = world.state.node(node(down)).unwrap().standing;
        standing.lapses(world.state.epoch())
    };
    world.accept(down, TxBody::NodeMaintain { epochs: 3 });
    // Announced, then the proof of the epoch is sent, then it goes down.
    prove_all(&mut world, &holders);
    for _ in 0..3 {
        pass_epoch(&mut world);
        assert_eq!(lapses(&world), 0);
    }
    pass_epoch(&mut world);
    assert_eq!(lapses(&world), 1);
}

#[test]
fn a_group_that_its_owner_closes_pays_what_was_frozen_and_refunds_the_rest() {
    let (mut world, id) = world();
    let holders = holders(&world, id);
    world.accept(OWNER, TxBody::GroupClose { group: id });
    assert!(world.group(id).is_placed());
    let closed = world.state.epoch().number;
    assert_eq!(world.group(id).ending, Some(Ending::Asked(closed)));
    pass_epoch(&mut world);
    let released = world.state.epoch().number;
    assert_eq!(world.group(id).ending, Some(Ending::Released(released)));
    for holder in &holders {
        assert_eq!(put_down_by(&world, *holder), (PUT_DOWN, 0));
    }
    prove_all(&mut world, &holders);
    for holder in &holders {
        assert_eq!(balance(&world, *holder), earned());
    }
    pass_epoch(&mut world);
    assert!(world.state.group(id).is_none());
    assert_eq!(balance(&world, OWNER), ENDOWED - 4 * earned());
    assert_eq!(world.state.status().group_count, 0);
}

#[test]
fn a_term_that_ends_can_be_extended_in_the_epochs_of_grace_only() {
    let mut world = nodes(parameters(), NODES);
    let id = written_group(&mut world, 4, 2, ESCROW);
    let everyone: Vec<u8> = NODES.collect();
    let ends = world.group(id).ends.get();
    while world.state.epoch().number.get() < ends + 2 {
        pass_epoch(&mut world);
        prove_all(&mut world, &everyone);
        assert!(world.group(id).is_open());
    }
    let extend = TxBody::GroupExtend {
        group: id,
        epochs: 1,
        escrow: Amount::from_micro(5),
    };
    let before = world.group(id).escrow.micro();
    world.accept(OWNER, extend);
    assert_eq!(world.group(id).escrow.micro(), before + 5);
    let ends = world.group(id).ends.get();
    assert_eq!(ends, world.state.epoch().number.get() + 1);
    while world.state.epoch().number.get() < ends + 3 {
        pass_epoch(&mut world);
        prove_all(&mut world, &everyone);
    }
    assert!(!world.group(id).is_open());
    assert!(
        world
            .group(id)
            .deals
            .iter()
            .all(|deal| deal.state == DealState::Idle)
    );
    pass_epoch(&mut world);
    assert!(world.state.group(id).is_none());
}

#[test]
fn a_dry_escrow_begins_the_grace_and_more_money_ends_it() {
    let mut world = nodes(parameters(), NODES);
    let id = written_group(&mut world, 4, 50, 6 * earned());
    let everyone: Vec<u8> = NODES.collect();
    pass_epoch(&mut world);
    prove_all(&mut world, &everyone);
    assert!(world.group(id).ends > world.state.epoch().number);
    pass_epoch(&mut world);
    prove_all(&mut world, &everyone);
    let dry = world.state.epoch().number;
    assert_eq!(world.group(id).ends, dry);
    assert_eq!(world.group(id).escrow, Amount::ZERO);
    world.accept(
        OWNER,
        TxBody::GroupExtend {
            group: id,
            epochs: 10,
            // What the dry epoch lacked, and one epoch more.
            escrow: Amount::from_micro(6 * earned()),
        },
    );
    assert_eq!(world.group(id).ends.get(), dry.get() + 10);
    pass_epoch(&mut world);
    prove_all(&mut world, &everyone);
    assert_eq!(world.group(id).ends.get(), dry.get() + 10);
}

#[test]
fn a_group_closed_before_it_is_drawn_is_refunded() {
    let mut world = nodes(
        Parameters {
            epoch_millis: 0,
            ..parameters()
        },
        NODES,
    );
    let open = world.signed(OWNER, opening(4, 100, ESCROW));
    let id = group_id(tx_id(&open));
    let block = world.next_block(&[], vec![open]);
    world.apply(block);
    world.accept(OWNER, TxBody::GroupClose { group: id });
    // Without epochs nothing has to be waited for.
    for _ in 0..3 {
        world.pass();
    }
    assert!(world.state.group(id).is_none());
    assert_eq!(balance(&world, OWNER), ENDOWED);
    assert!(!world.state.has_draws());
}

#[test]
fn a_leaver_keeps_its_collateral_until_its_successor_has_the_slot() {
    let (mut world, id) = world();
    let place: SlotRef = slot(id, 2);
    let leaver = world.holder(place);
    world.accept(leaver, TxBody::NodeDrain);
    world.pass();
    let successor = world.holder(place);
    assert_ne!(successor, leaver);
    assert_eq!(put_down_by(&world, leaver), (PUT_DOWN, collateral()));
    assert_eq!(put_down_by(&world, successor).1, collateral());
    world.accept(successor, acknowledge(place, 1));
    assert_eq!(put_down_by(&world, leaver), (PUT_DOWN, 0));
}

#[test]
fn grace_is_paid_for_when_the_group_is_extended() {
    let mut world = nodes(parameters(), NODES);
    let id = written_group(&mut world, 4, 50, 1);
    let everyone: Vec<u8> = NODES.collect();
    let extend = |micro| TxBody::GroupExtend {
        group: id,
        epochs: 1,
        escrow: Amount::from_micro(micro),
    };
    let mut fees = 0;
    for _ in 0..2 {
        let mut owed = 0;
        // As long as the grace lasts, the epoch of the dry escrow included.
        for _ in 0..2 {
            let before = world.group(id).escrow.micro();
            pass_epoch(&mut world);
            prove_all(&mut world, &everyone);
            owed += 4 * earned() - before;
            assert_eq!(world.group(id).owed.micro(), owed);
        }
        let found = world.refuse(OWNER, extend(owed - 1));
        let expected = TxError::Escrow {
            expected: Amount::from_micro(owed),
            found: Amount::from_micro(owed - 1),
        };
        assert_eq!(found, expected);
        world.accept(OWNER, extend(owed + 1));
        fees += owed;
        assert_eq!(world.state.fees().micro(), fees);
        assert_eq!(world.group(id).owed, Amount::ZERO);
        assert_eq!(world.group(id).escrow.micro(), 1);
        let ends = world.group(id).ends.get();
        assert_eq!(ends, world.state.epoch().number.get() + 1);
    }
}

#[test]
fn a_node_stakes_by_its_own_price_and_not_by_the_owners() {
    let tenth = |micro: u64| micro / 10;
    let mut world = World::new(parameters());
    for number in NODES {
        world.accept(number, world.registration(number, offer(tenth(PRICE))));
        world.accept(PURSE, put_down(number, tenth(collateral())));
    }
    let id = written_group(&mut world, 4, 100, ESCROW);
    assert_eq!(world.group(id).price_max.micro(), PRICE);
    let all = holders(&world, id);
    for number in &all {
        let locked = (tenth(collateral()), tenth(collateral()));
        assert_eq!(put_down_by(&world, *number), locked);
    }
    let place = slot(id, 0);
    world.accept(all[0], declare_loss(place));
    assert_eq!(world.deal(place).bounty.micro(), tenth(repair()));
    // Who asks more has more at stake for the same slot.
    let dear = 99;
    world.accept(dear, world.registration(dear, offer(PRICE)));
    world.accept(PURSE, put_down(dear, collateral() - 1));
    for number in NODES {
        if !all.contains(&number) {
            world.accept(number, TxBody::NodeDrain);
        }
    }
    world.lose(&[all[0]]);
    world.pass();
    assert_eq!(world.deal(place).holder(), None);
    world.accept(PURSE, put_down(dear, 1));
    world.pass();
    assert_eq!(world.holder(place), dear);
    assert_eq!(put_down_by(&world, dear), (collateral(), collateral()));
    // Its own collateral is whole, so that the bounty is paid out.
    world.accept(dear, acknowledge(place, 1));
    pass_epoch(&mut world);
    prove_all(&mut world, &[dear]);
    assert_eq!(balance(&world, dear), tenth(repair()) + earned());
}
