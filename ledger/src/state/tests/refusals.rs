//! Every refusal, with what was expected and found; and what a limit allows just inside of it.

use std::collections::BTreeSet;

use cairn_core::{
    Amount, Bounded, ByteCount, Code, Digest, GroupId, LedgerId, Record, RevisionNumber, Signed,
};

use crate::block::BlockError;
use crate::genesis::Parameters;
use crate::node::NodeStatus;
use crate::registry::{RegistryError, RegistryTx};
use crate::sample::term::{change, validators};
use crate::sample::{
    ENDOWED, OWNER, World, account, acknowledge, declare_loss, genesis, key, ledger, node, open,
    register, register_on, revise, revision, slot, terms,
};
use crate::state::State;
use crate::term::TermError;
use crate::tx::{Tx, TxBody, group_id, operator_consent, tx_id};
use crate::tx_error::{TableKind, TxError};

/// Number of variants of [`TxError`].
const KINDS: u8 = 42;

/// A number for each variant: a new one does not compile until it has its number, and then fails
/// until it has its test.
const fn kind(error: &TxError) -> u8 {
    match error {
        TxError::Signer { .. } => 0,
        TxError::Signature { .. } => 1,
        TxError::Malformed => 2,
        TxError::Nonce { .. } => 3,
        TxError::Fee { .. } => 4,
        TxError::Funds { .. } => 5,
        TxError::AmountZero => 6,
        TxError::TableFull { .. } => 7,
        TxError::UnknownNode { .. } => 8,
        TxError::AlreadyRegistered { .. } => 9,
        TxError::Consent { .. } => 10,
        TxError::NodeStatus { .. } => 11,
        TxError::CapacityUsed { .. } => 12,
        TxError::SlotCapacity { .. } => 13,
        TxError::Term { .. } => 14,
        TxError::Escrow { .. } => 15,
        TxError::NodeCount { .. } => 16,
        TxError::UnknownGroup { .. } => 17,
        TxError::NotOwner { .. } => 18,
        TxError::NotPlaced { .. } => 19,
        TxError::RevisionNumber { .. } => 20,
        TxError::SlotBytes { .. } => 21,
        TxError::SegmentCount { .. } => 22,
        TxError::UnknownSlot { .. } => 23,
        TxError::NotHolder { .. } => 24,
        TxError::Revision { .. } => 25,
        TxError::NoSlots => 26,
        TxError::AccountMin { .. } => 27,
        TxError::Epoch { .. } => 28,
        TxError::NoSeed { .. } => 29,
        TxError::Judged { .. } => 30,
        TxError::Unwitnessed { .. } => 31,
        TxError::Witness { .. } => 32,
        TxError::Collateral { .. } => 33,
        TxError::Maintenance { .. } => 34,
        TxError::MaintainedLately { .. } => 35,
        TxError::Lapsed { .. } => 36,
        TxError::GroupEnding { .. } => 37,
        TxError::TermOver { .. } => 38,
        TxError::RevisedOften { .. } => 39,
        // Each of its own in `super::registry`.
        TxError::Registry(_) => 40,
        // Each of its own in `super::term`.
        TxError::Validators(_) => 41,
    }
}

fn with_open(change: impl FnOnce(&mut ByteCount, &mut u32, &mut Amount)) -> TxBody {
    let mut body = open(2, 4);
    if let TxBody::GroupOpen {
        slot_capacity,
        term_epochs,
        escrow,
        ..
    } = &mut body
    {
        change(slot_capacity, term_epochs, escrow);
    }
    body
}

fn transfer(to: u8, micro: u64) -> TxBody {
    TxBody::Transfer {
        to: account(to),
        amount: Amount::from_micro(micro),
    }
}

/// Five nodes apart, one group placed with revision 2 of 5 segments, slot 0 acknowledged up to 1.
fn world() -> (World, GroupId) {
    let places: Vec<_> = (1..=5).map(|number| (number, number, number)).collect();
    let mut world = World::with_nodes(8, &places);
    let id = world.place(2, 4);
    world.accept(OWNER, revise(id, 1, 5));
    world.accept(world.holder(slot(id, 0)), acknowledge(slot(id, 0), 1));
    world.accept(OWNER, revise(id, 2, 5));
    (world, id)
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn envelope_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, id) = world();
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let tx = world.signed(OWNER, transfer(2, 1)).into_unverified();
    let by_another = world.sign(tx.clone(), 3);
    expect(
        world.refuse_tx(by_another),
        TxError::Signer {
            expected: key(OWNER).public(),
            found: key(3).public(),
        },
    );
    let mut forged = world.sign(tx.clone(), OWNER).encode();
    *forged.last_mut().unwrap() ^= 1;
    expect(
        world.refuse_tx(Signed::decode(&forged).unwrap()),
        TxError::Signature {
            signer: key(OWNER).public(),
        },
    );
    // Signed for another ledger, or for none.
    let elsewhere = LedgerId::new(Digest::of(b"another"));
    for other in [
        Signed::sign_for(tx.clone(), elsewhere, &key(OWNER)),
        Signed::sign(tx.clone(), &key(OWNER)),
    ] {
        expect(
            world.refuse_tx(other),
            TxError::Signature {
                signer: key(OWNER).public(),
            },
        );
    }
    let mut too_many = revision(id, 3, 5);
    too_many.segment_count = cairn_core::group::SEGMENTS_MAX + 1;
    expect(
        world.refuse(OWNER, TxBody::GroupRevise { revision: too_many }),
        TxError::Malformed,
    );
    for found in [tx.nonce - 1, tx.nonce + 1] {
        let other = Tx {
            nonce: found,
            ..tx.clone()
        };
        expect(
            world.refuse_tx(world.sign(other, OWNER)),
            TxError::Nonce {
                account: account(OWNER),
                expected: tx.nonce,
                found,
            },
        );
    }
    expect(world.refuse(2, transfer(3, 0)), TxError::AmountZero);
    expect(
        world.refuse(2, transfer(3, ENDOWED + 1)),
        TxError::Funds {
            account: account(2),
            expected: Amount::from_micro(ENDOWED + 1),
            found: Amount::from_micro(ENDOWED),
        },
    );
    let mut dear = world.signed(2, transfer(3, u64::MAX)).into_unverified();
    dear.fee = Amount::from_micro(1);
    expect(
        world.refuse_tx(world.sign(dear, 2)),
        TxError::Funds {
            account: account(2),
            expected: Amount::from_micro(u64::MAX),
            found: Amount::from_micro(ENDOWED),
        },
    );
    // That fee was paid.
    world.accept(2, transfer(3, ENDOWED - 1));
    let mut costly = World::new(Parameters {
        fee_min: Amount::from_micro(7),
        ..Parameters::default()
    });
    let mut cheap = costly.signed(2, transfer(3, 1)).into_unverified();
    cheap.fee = Amount::from_micro(6);
    expect(
        costly.refuse_tx(costly.sign(cheap, 2)),
        TxError::Fee {
            expected: Amount::from_micro(7),
            found: Amount::from_micro(6),
        },
    );
    costly.accept(2, transfer(3, 1));
    assert_eq!(costly.state.fees(), Amount::from_micro(7));
}

/// Nodes in one place, each its own operator.
fn add_nodes(world: &mut World, numbers: std::ops::Range<u8>) {
    let ledger = world.state.ledger_id();
    for number in numbers {
        let body = register_on(ledger, number, number, terms(8, (1, 1, 1)));
        world.accept(number, body);
    }
}

fn table_refusals(seen: &mut BTreeSet<u8>) {
    let full = |table, max| TxError::TableFull { table, max };
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let mut world = World::new(Parameters {
        accounts_max: 5,
        nodes_max: 1,
        groups_max: 1,
        ..Parameters::default()
    });
    let ledger = world.state.ledger_id();
    world.accept(20, register_on(ledger, 20, 20, terms(8, (1, 1, 1))));
    expect(
        world.refuse(1, transfer(30, 1)),
        full(TableKind::Accounts, 5),
    );
    expect(
        world.refuse(2, register_on(ledger, 2, 2, terms(8, (1, 1, 1)))),
        full(TableKind::Nodes, 1),
    );
    let mut world = World::new(Parameters {
        groups_max: 1,
        ..Parameters::default()
    });
    add_nodes(&mut world, 20..24);
    world.place(2, 4);
    expect(world.refuse(2, open(2, 4)), full(TableKind::Groups, 1));
    let mut world = World::new(Parameters {
        slots_max: 9,
        ..Parameters::default()
    });
    add_nodes(&mut world, 20..26);
    world.place(2, 4);
    expect(world.refuse(2, open(3, 6)), full(TableKind::Slots, 9));
    world.accept(2, open(2, 5));
    expect(world.refuse(2, open(1, 2)), full(TableKind::Slots, 9));
}

#[test]
fn a_genesis_whose_tables_could_outgrow_a_state_is_none() {
    let fits = |parameters: Parameters| State::genesis(&genesis(parameters)).is_some();
    let empty = Parameters {
        accounts_max: 0,
        nodes_max: 0,
        groups_max: 0,
        slots_max: 0,
        volumes_max: 0,
        grants_max: 0,
        notarisations_max: 0,
        ..Parameters::default()
    };
    // 48 bytes an account, of 4 GiB less 1 KiB and the widest term.
    let most = ((4 << 30) - 1024 - 29_252) / 48;
    for (accounts_max, expected) in [(most - 1, true), (most, true), (most + 1, false)] {
        let parameters = Parameters {
            accounts_max,
            ..empty
        };
        assert_eq!(fits(parameters), expected, "{accounts_max}");
    }
    for tables in [
        Parameters {
            nodes_max: u64::MAX,
            ..empty
        },
        Parameters {
            groups_max: u64::MAX,
            ..empty
        },
        Parameters {
            slots_max: u64::MAX,
            ..empty
        },
    ] {
        assert!(!fits(tables));
    }
    assert!(fits(Parameters::default()));
}

/// A ledger where an account keeps 100, a group locks 50 and a transaction costs 7.
fn dear() -> World {
    World::new(Parameters {
        fee_min: Amount::from_micro(7),
        account_min: Amount::from_micro(100),
        escrow_min: Amount::from_micro(50),
        ..Parameters::default()
    })
}

fn dust_refusals(seen: &mut BTreeSet<u8>) {
    let mut world = dear();
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let micro = Amount::from_micro;
    // An account begins with the least balance, not with less.
    expect(
        world.refuse(2, transfer(30, 99)),
        TxError::AccountMin {
            expected: micro(100),
            found: micro(99),
        },
    );
    world.accept(2, transfer(30, 100));
    world.accept(2, transfer(30, 1));
    // One that has the least keeps it: not even the fee is left of it.
    let funds = |account, expected, found| TxError::Funds {
        account,
        expected: micro(expected),
        found: micro(found),
    };
    expect(
        world.refuse(30, TxBody::NodeDrain),
        funds(account(30), 107, 101),
    );
    world.accept(2, transfer(30, 7));
    expect(
        world.refuse(30, transfer(2, 2)),
        funds(account(30), 109, 108),
    );
    // That was paid for: 101 are left. Nobody begins with nothing.
    expect(
        world.refuse(31, TxBody::NodeDrain),
        funds(account(31), 107, 0),
    );
    world.accept(2, transfer(30, 14));
    world.accept(30, transfer(2, 8));
    assert_eq!(world.state.account(account(30)).balance, micro(100));
    // A group locks the least escrow, not less.
    let ledger = world.state.ledger_id();
    for number in 40..44 {
        world.accept(3, transfer(number, 107));
        let body = register_on(ledger, number, number, terms(8, (1, 1, 1)));
        world.accept(number, body);
    }
    let locking = |micro| with_open(|_, _, escrow| *escrow = Amount::from_micro(micro));
    expect(
        world.refuse(OWNER, locking(49)),
        TxError::Escrow {
            expected: micro(50),
            found: micro(49),
        },
    );
    world.accept(OWNER, locking(50));
    world.accept(OWNER, locking(51));
}

fn node_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, id) = world();
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let somewhere = || terms(8, (9, 9, 9));
    let unknown = TxError::UnknownNode { node: node(40) };
    expect(world.refuse(40, TxBody::NodeDrain), unknown.clone());
    let update = TxBody::NodeUpdate { terms: somewhere() };
    expect(world.refuse(40, update.clone()), unknown.clone());
    expect(
        world.refuse(40, acknowledge(slot(id, 0), 1)),
        unknown.clone(),
    );
    expect(world.refuse(40, declare_loss(slot(id, 0))), unknown);
    let already = |number, status| TxError::AlreadyRegistered {
        node: node(number),
        status,
    };
    expect(
        world.refuse(10, register(10, 10, somewhere())),
        already(10, NodeStatus::Active),
    );
    // For another node, and for this one on another ledger.
    let operator = account(2);
    for (ledger, node) in [
        (ledger(), node(41)),
        (LedgerId::new(Digest::of(b"another")), node(40)),
    ] {
        let consent = TxBody::NodeRegister {
            operator,
            operator_consent: operator_consent(ledger, &key(2), node),
            terms: somewhere(),
        };
        expect(world.refuse(40, consent), TxError::Consent { operator });
    }
    let holder = world.holder(slot(id, 0));
    let used = ByteCount::new(1 << 20);
    let mut less = somewhere();
    less.capacity = ByteCount::new((1 << 20) - 1);
    expect(
        world.refuse(holder, TxBody::NodeUpdate { terms: less }),
        TxError::CapacityUsed {
            expected: used,
            found: ByteCount::new((1 << 20) - 1),
        },
    );
    let mut least = somewhere();
    least.capacity = used;
    world.accept(holder, TxBody::NodeUpdate { terms: least });
    world.accept(holder, TxBody::NodeDrain);
    let status = |number, found| TxError::NodeStatus {
        node: node(number),
        expected: NodeStatus::Active,
        found,
    };
    expect(
        world.refuse(holder, TxBody::NodeDrain),
        status(holder, NodeStatus::Draining),
    );
    expect(
        world.refuse(holder, register(holder, holder, somewhere())),
        already(holder, NodeStatus::Draining),
    );
    world.lose(&[holder]);
    expect(
        world.refuse(holder, update),
        status(holder, NodeStatus::Lost),
    );
    world.accept(holder, register(holder, holder, somewhere()));
}

fn open_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, _) = world();
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let limits = Parameters::default();
    let (min, max) = (limits.slot_capacity_min, limits.slot_capacity_max);
    for bytes in [min.get() - 1, max.get() + 1] {
        let found = ByteCount::new(bytes);
        let body = with_open(|capacity, _, _| *capacity = found);
        expect(
            world.refuse(OWNER, body),
            TxError::SlotCapacity { min, max, found },
        );
    }
    world.accept(OWNER, with_open(|capacity, _, _| *capacity = min));
    let longest = limits.term_epochs_max;
    for found in [0, longest + 1] {
        let body = with_open(|_, term, _| *term = found);
        expect(
            world.refuse(OWNER, body),
            TxError::Term {
                max: longest,
                found,
            },
        );
    }
    world.accept(OWNER, with_open(|_, term, _| *term = longest));
    expect(
        world.refuse(OWNER, open(3, 6)),
        TxError::NodeCount {
            expected: 6,
            found: 5,
        },
    );
    // Too dear for everyone.
    let cheap = TxBody::GroupOpen {
        code: Code::new(2, 4).unwrap(),
        slot_capacity: min,
        price_max: Amount::from_micro(4),
        term_epochs: 1,
        escrow: Amount::ZERO,
    };
    expect(
        world.refuse(OWNER, cheap),
        TxError::NodeCount {
            expected: 4,
            found: 0,
        },
    );
    let mut strict = World::new(Parameters {
        escrow_percent: 150,
        ..limits
    });
    add_nodes(&mut strict, 20..24);
    // 10 per GiB and epoch, 4 slots of 1/1024 GiB, 2,560 epochs: 100, and half as much again.
    let priced = |micro| {
        with_open(|_, term, escrow| {
            *term = 2560;
            *escrow = Amount::from_micro(micro);
        })
    };
    expect(
        strict.refuse(OWNER, priced(149)),
        TxError::Escrow {
            expected: Amount::from_micro(150),
            found: Amount::from_micro(149),
        },
    );
    strict.accept(OWNER, priced(150));
}

fn revise_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, id) = world();
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let nowhere = GroupId::default();
    expect(
        world.refuse(OWNER, revise(nowhere, 1, 1)),
        TxError::UnknownGroup { group: nowhere },
    );
    expect(
        world.refuse(2, revise(id, 3, 5)),
        TxError::NotOwner {
            expected: account(OWNER),
            found: account(2),
        },
    );
    for found in [2, 4] {
        expect(
            world.refuse(OWNER, revise(id, found, 5)),
            TxError::RevisionNumber {
                group: id,
                expected: RevisionNumber::new(3),
                found: RevisionNumber::new(found),
            },
        );
    }
    let max = ByteCount::new(1 << 20);
    let mut over = revision(id, 3, 5);
    over.slot_bytes = ByteCount::new((1 << 20) + 1);
    expect(
        world.refuse(OWNER, TxBody::GroupRevise { revision: over }),
        TxError::SlotBytes {
            max,
            found: over.slot_bytes,
        },
    );
    expect(
        world.refuse(OWNER, revise(id, 3, 4)),
        TxError::SegmentCount { min: 5, found: 4 },
    );
    let mut whole = revision(id, 3, 5);
    whole.slot_bytes = max;
    world.accept(OWNER, TxBody::GroupRevise { revision: whole });
    // A group whose slots are not drawn yet, in one block with its opening.
    let opening = world.signed(OWNER, open(2, 4));
    let fresh = group_id(tx_id(&opening));
    let mut next = world.signed(OWNER, revise(fresh, 1, 1)).into_unverified();
    next.nonce += 1;
    let next = world.sign(next, OWNER);
    let effects = world.apply(world.next_block(&[], vec![opening, next.clone()]));
    let error = TxError::NotPlaced { group: fresh };
    let refused = crate::effect::Effect::TxDone {
        id: tx_id(&next),
        result: Err(error.clone()),
    };
    assert_eq!(effects.last(), Some(&refused));
    seen.insert(kind(&error));
}

fn slot_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, id) = world();
    let mut expect = |found: TxError, expected: TxError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let place = slot(id, 0);
    let holder = world.holder(place);
    let other = (10..15).find(|number| *number != holder).unwrap();
    let not_holder = TxError::NotHolder {
        slot: place,
        expected: Some(node(holder)),
        found: node(other),
    };
    expect(
        world.refuse(other, acknowledge(place, 1)),
        not_holder.clone(),
    );
    expect(world.refuse(other, declare_loss(place)), not_holder);
    let past = slot(id, 4);
    let unknown = TxError::UnknownSlot {
        slot: past,
        count: 4,
    };
    expect(world.refuse(holder, acknowledge(past, 1)), unknown.clone());
    expect(world.refuse(holder, declare_loss(past)), unknown);
    for found in [0, 3] {
        expect(
            world.refuse(holder, acknowledge(place, found)),
            TxError::Revision {
                slot: place,
                min: RevisionNumber::new(1),
                max: RevisionNumber::new(2),
                found: RevisionNumber::new(found),
            },
        );
    }
    let none = TxBody::Acknowledge {
        slots: Bounded::empty(),
    };
    expect(world.refuse(holder, none), TxError::NoSlots);
    let none = TxBody::DeclareLoss {
        slots: Bounded::empty(),
    };
    expect(world.refuse(holder, none), TxError::NoSlots);
    world.accept(holder, acknowledge(place, 1));
    world.accept(holder, acknowledge(place, 2));
    // A slot without a node: the others have no room.
    for number in (10..15).filter(|number| *number != holder) {
        let full = TxBody::NodeUpdate {
            terms: terms(1, (number, number, number)),
        };
        world.accept(number, full);
    }
    world.lose(&[holder]);
    world.accept(holder, register(holder, holder, terms(0, (1, 1, 1))));
    expect(
        world.refuse(holder, acknowledge(place, 2)),
        TxError::NotHolder {
            slot: place,
            expected: Some(node(world.holder(place))),
            found: node(holder),
        },
    );
}

fn registry_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, _) = world();
    let volume = cairn_core::VolumeId::default();
    let found = world.refuse(OWNER, TxBody::Registry(RegistryTx::VolumeClose { volume }));
    let expected = TxError::Registry(RegistryError::UnknownVolume { volume });
    assert_eq!(found, expected);
    seen.insert(kind(&found));
}

fn term_refusals(seen: &mut BTreeSet<u8>) {
    let (mut world, _) = world();
    let body = change(&world.state, &validators(&[70], 1), &[70]);
    let found = world.refuse(OWNER, body);
    assert_eq!(found, TxError::Validators(TermError::NoValidators));
    seen.insert(kind(&found));
}

#[test]
fn every_refusal_is_reached() {
    let mut seen = BTreeSet::new();
    envelope_refusals(&mut seen);
    table_refusals(&mut seen);
    dust_refusals(&mut seen);
    node_refusals(&mut seen);
    open_refusals(&mut seen);
    revise_refusals(&mut seen);
    slot_refusals(&mut seen);
    registry_refusals(&mut seen);
    term_refusals(&mut seen);
    for refusals in [super::epochs::proof_refusals, super::money::money_refusals] {
        refusals(&mut |found, expected| {
            assert_eq!(found, expected);
            seen.insert(kind(&found));
        });
    }
    let (_, _, [found, expected]) = super::epochs::revised_often();
    assert_eq!(found, expected);
    seen.insert(kind(&found));
    let all: BTreeSet<u8> = (0..KINDS).collect();
    let missed: Vec<_> = all.difference(&seen).collect();
    assert!(missed.is_empty(), "not reached: {missed:?}");
}

#[test]
fn a_block_that_does_not_follow_changes_nothing() {
    let (world, _) = world();
    let good = world.next_block(&[], Vec::new());
    let digest = world.digest();
    let mut state = world.state.clone();
    let mut expect = |block: &crate::block::Block, error: BlockError| {
        assert_eq!(state.apply(block), Err(error));
        assert_eq!(state.record_digest(), digest);
    };
    let mut block = good.clone();
    block.height = state_height(&world);
    expect(
        &block,
        BlockError::Height {
            expected: good.height,
            found: block.height,
        },
    );
    let mut block = good.clone();
    block.parent = Digest::of(b"another");
    expect(
        &block,
        BlockError::Parent {
            height: good.height,
            expected: good.parent,
            found: block.parent,
        },
    );
    let mut block = good.clone();
    block.time = cairn_core::UnixMillis::new(world.state.time().get() - 1);
    expect(
        &block,
        BlockError::Time {
            height: good.height,
            expected: world.state.time(),
            found: block.time,
        },
    );
    let mut block = good;
    block.time = world.state.time();
    assert!(state.apply(&block).is_ok(), "the same time will do");
}

fn state_height(world: &World) -> cairn_core::Height {
    world.state.height()
}

#[test]
fn a_genesis_out_of_order_or_over_the_largest_amount_is_none() {
    let mut genesis = genesis(Parameters::default());
    assert!(State::genesis(&genesis).is_some());
    let mut endowed = genesis.endowed.clone().into_vec();
    endowed[0].1 = Amount::from_micro(u64::MAX);
    genesis.endowed = Bounded::new(endowed.clone()).unwrap();
    assert!(State::genesis(&genesis).is_none());
    endowed[0].1 = Amount::ZERO;
    endowed.reverse();
    genesis.endowed = Bounded::new(endowed).unwrap();
    assert!(State::genesis(&genesis).is_none());
}

#[test]
fn a_genesis_gives_nobody_less_than_an_account_keeps() {
    let least = |micro| {
        State::genesis(&genesis(Parameters {
            account_min: Amount::from_micro(micro),
            ..Parameters::default()
        }))
    };
    assert!(least(ENDOWED).is_some());
    assert!(least(ENDOWED + 1).is_none());
}

#[test]
fn dust_fills_no_table_beyond_what_the_supply_pays_for() {
    let mut world = dear();
    // Every account sends all that it may to a new one; the first has 10,000.
    world.accept(1, transfer(100, 10_000));
    let (mut from, mut made) = (100, 1);
    loop {
        let balance = world.state.account(account(from)).balance.micro();
        match balance.checked_sub(107) {
            Some(sent) if sent >= 100 => world.accept(from, transfer(from + 1, sent)),
            _ => break,
        };
        (from, made) = (from + 1, made + 1);
    }
    // Each keeps 100 and pays 7.
    assert_eq!(made, 93);
    assert!(made * 107 <= 10_000);
    let all = transfer(from + 1, 99);
    assert!(matches!(
        world.refuse(from, all),
        TxError::AccountMin { .. } | TxError::Funds { .. }
    ));
}
