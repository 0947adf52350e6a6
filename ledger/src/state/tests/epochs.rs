//! Epochs, challenges, verdicts and lapses.

use cairn_core::{
    Bounded, Digest, EpochNumber, GroupId, NodeId, Record, RevisionNumber, UnixMillis,
};
use cairn_proofs::Challenge;

use super::prover::{
    EPOCH, judged, pass_epoch, proof, prove_all, submission, verdicts, world, written,
};
use crate::block::{Block, BlockError, LOST_MAX, Verdict};
use crate::effect::Effect;
use crate::epoch::{REVISIONS_KEPT, REVISIONS_PER_EPOCH_MIN};
use crate::genesis::Parameters;
use crate::node::NodeStatus;
use crate::query;
use crate::sample::{
    OWNER, World, acknowledge, declare_loss, node, open, party, revise, slot, terms,
};
use crate::score::AuditReport;
use crate::state::{State, VerdictError};
use crate::tx::{TxBody, tx_id};
use crate::tx_error::TxError;

const NODES: u8 = 6;

/// Every node has proven the first epoch, holds its slot of a group at revision 1, and the seed of
/// the second epoch is not known yet.
fn acknowledged() -> (World, GroupId) {
    let mut world = world(NODES);
    let id = world.place(2, 4);
    world.accept(
        OWNER,
        TxBody::GroupRevise {
            revision: written(id, 1, 4),
        },
    );
    for index in 0..4 {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    (world, id)
}

fn all() -> Vec<u8> {
    (10..10 + NODES).collect()
}

fn numbers(world: &World, number: u8) -> Vec<u64> {
    let slots = world.state.frozen_slots(node(number));
    slots
        .iter()
        .map(|slot| slot.revision.number.get())
        .collect()
}

fn position_count(world: &World, number: u8) -> usize {
    let challenge = world.state.challenge(node(number));
    challenge.as_ref().map_or(0, Challenge::position_count)
}

fn lapses(world: &World, number: u8) -> u64 {
    let standing = world.state.node(node(number)).unwrap().standing;
    standing.lapses(world.state.epoch())
}

#[test]
fn without_epochs_nothing_is_frozen_judged_or_lapses() {
    let mut world = World::with_nodes(8, &[(1, 1, 1), (2, 2, 2), (3, 3, 3)]);
    let id = world.place(1, 2);
    for number in 1..40 {
        world.accept(OWNER, revise(id, number, 1));
    }
    world.accept(world.holder(slot(id, 0)), acknowledge(slot(id, 0), 20));
    let late = Block {
        time: UnixMillis::new(u64::MAX),
        ..world.next_block(&[], vec![])
    };
    world.apply(late);
    assert_eq!(*world.state.epoch(), Default::default());
    assert!(!world.state.wants_block(UnixMillis::new(u64::MAX)));
    assert!(world.group(id).kept.is_empty());
    for entry in world.state.nodes() {
        assert_eq!(entry.standing.lapses(world.state.epoch()), 0);
        assert_eq!(world.state.challenge(entry.node), None);
        assert_eq!(world.state.frozen_slots(entry.node), vec![]);
    }
}

#[test]
fn what_was_acknowledged_before_the_first_block_is_frozen_and_the_next_block_seeds_it() {
    let (mut world, id) = acknowledged();
    world.accept(
        OWNER,
        TxBody::GroupRevise {
            revision: written(id, 2, 4),
        },
    );
    let place = slot(id, 0);
    let holder = world.holder(place);
    while world.state.height().get() + 1 < EPOCH {
        world.pass();
    }
    assert_eq!(
        numbers(&world, holder),
        Vec::<u64>::new(),
        "the first epoch froze nothing"
    );
    let effects = world.accept(holder, acknowledge(place, 2));
    let first = EpochNumber::new(1);
    assert_eq!(effects[0], Effect::EpochBegan(first));
    assert_eq!(world.deal(place).acknowledged, RevisionNumber::new(2));
    assert_eq!(numbers(&world, holder), [1]);
    assert_eq!(world.state.challenge(node(holder)), None);
    assert!(world.state.has_draws());
    let block = world.next_block(&[], vec![]);
    let seed = block.seeds[0].digest();
    assert_eq!(world.apply(block), [Effect::EpochOpened(first)]);
    assert_eq!(world.state.epoch().seed, Some(seed));
    assert!(position_count(&world, holder) > 20);
    assert!(!world.state.has_draws());
    // The same until the next border, whatever comes.
    world.accept(
        OWNER,
        TxBody::GroupRevise {
            revision: written(id, 3, 4),
        },
    );
    assert_eq!(numbers(&world, holder), [1]);
    pass_epoch(&mut world);
    assert_eq!(numbers(&world, holder), [2]);
}

#[test]
fn a_valid_proof_counts_once() {
    let (mut world, _) = acknowledged();
    pass_epoch(&mut world);
    let number = world.state.epoch().number;
    let bytes = proof(&world, 10).unwrap().encode();
    let again = submission(&world, &bytes);
    let effects = prove_all(&mut world, &all());
    let expected: Vec<_> = all()
        .into_iter()
        .map(|party| (node(party), Verdict::Valid))
        .collect();
    assert_eq!(verdicts(&effects), expected);
    for party in all() {
        let standing = world.state.node(node(party)).unwrap().standing;
        assert_eq!(standing.proven, 1);
        assert_eq!(standing.verdict_of(number), Some(Verdict::Valid));
        assert_eq!(world.state.challenge(node(party)), None);
    }
    let judged = TxError::Judged {
        node: node(10),
        epoch: number,
    };
    assert_eq!(world.refuse(10, again), judged);
}

#[test]
fn two_proofs_of_a_node_in_one_block_are_one_and_only_that_is_judged() {
    let (mut world, _) = acknowledged();
    pass_epoch(&mut world);
    let number = world.state.epoch().number;
    let bytes = proof(&world, 10).unwrap().encode();
    let first = world.signed(10, submission(&world, &bytes));
    let mut second = first.clone().into_unverified();
    second.nonce += 1;
    let unseen = Digest::of(b"never looked at");
    second.body = TxBody::ProofSubmit {
        epoch: number,
        witness: unseen,
        audits: AuditReport::default(),
    };
    let second = world.sign(second, 10);
    let id = tx_id(&second);
    let block = judged(&world, vec![first, second], std::slice::from_ref(&bytes));
    assert_eq!(block.verdicts[..], [Verdict::Valid, Verdict::Missing]);
    let find = |digest| {
        assert_ne!(digest, unseen);
        Some(bytes.as_slice())
    };
    let both = Block {
        verdicts: Bounded::new(vec![Verdict::Valid; 2]).unwrap(),
        ..block.clone()
    };
    let other = VerdictError::Other {
        id,
        expected: Verdict::Missing,
        found: Verdict::Valid,
    };
    assert_eq!(world.state.check_verdicts(&both, find), Err(other));
    let effects = world.apply(block);
    assert_eq!(verdicts(&effects), [(node(10), Verdict::Valid)]);
    let node = node(10);
    let epoch = number;
    let result = Err(TxError::Judged { node, epoch });
    assert!(effects.contains(&Effect::TxDone { id, result }));
    assert_eq!(world.state.node(node).unwrap().standing.proven, 1);
}

#[test]
fn a_node_that_misses_lapses_is_not_drawn_and_comes_back_with_more_samples() {
    let (mut world, id) = acknowledged();
    let late = world.holder(slot(id, 0));
    let others: Vec<u8> = all().into_iter().filter(|party| *party != late).collect();
    pass_epoch(&mut world);
    assert_eq!(
        lapses(&world, late),
        0,
        "it registered within the epoch before"
    );
    for missed in 1..4 {
        prove_all(&mut world, &others);
        pass_epoch(&mut world);
        assert_eq!(lapses(&world, late), missed);
        assert_eq!(lapses(&world, others[0]), 0);
    }
    let error = world.refuse(OWNER, open(3, 6));
    assert_eq!(
        error,
        TxError::NodeCount {
            expected: 6,
            found: 5
        }
    );
    let more = position_count(&world, late);
    assert!(more > 150, "{more} of 256 samples of 700 bytes");
    prove_all(&mut world, &[late]);
    assert_eq!(lapses(&world, late), 0);
    world.accept(OWNER, open(3, 6));
    pass_epoch(&mut world);
    assert!(position_count(&world, late) <= 32);
}

#[test]
fn an_invalid_proof_is_a_lapse_and_asks_for_more() {
    let (mut world, id) = acknowledged();
    let liar = world.holder(slot(id, 0));
    pass_epoch(&mut world);
    let mut proof = proof(&world, liar).unwrap();
    proof.slots = Bounded::empty();
    let wrong = proof.encode();
    let tx = world.signed(liar, submission(&world, &wrong));
    let effects = world.apply(judged(&world, vec![tx], &[wrong]));
    assert_eq!(verdicts(&effects), [(node(liar), Verdict::Invalid)]);
    assert_eq!(lapses(&world, liar), 0);
    // It does not get another try.
    assert_eq!(world.state.challenge(node(liar)), None);
    pass_epoch(&mut world);
    assert_eq!(lapses(&world, liar), 1);
    assert!(position_count(&world, liar) > 150);
}

#[test]
fn an_epoch_in_which_the_ledger_stood_still_is_no_lapse() {
    let (mut world, _) = acknowledged();
    pass_epoch(&mut world);
    // A block soon after the seed, then none for long.
    world.pass();
    let time = UnixMillis::new(world.state.time().get() + 40 * EPOCH);
    assert!(world.state.wants_block(time));
    let late = Block {
        time,
        ..world.next_block(&[], vec![])
    };
    let effects = world.apply(late);
    assert!(matches!(effects[0], Effect::EpochBegan(number) if number.get() > 40));
    for party in all() {
        assert_eq!(lapses(&world, party), 0);
    }
}

#[test]
fn a_block_is_wanted_at_a_border_and_several_times_within_an_epoch() {
    let (world, _) = acknowledged();
    let time = world.state.time().get();
    let wants = |later| world.state.wants_block(UnixMillis::new(time + later));
    assert!(!world.state.has_draws());
    assert!(!wants(0));
    assert!(wants(EPOCH.div_ceil(8)));
    assert!(wants(EPOCH));
}

#[test]
fn a_slot_that_left_is_still_to_be_proven_in_its_epoch() {
    let (mut world, id) = acknowledged();
    pass_epoch(&mut world);
    prove_all(&mut world, &all());
    pass_epoch(&mut world);
    let (leaving, gone) = (slot(id, 0), slot(id, 1));
    let (leaver, lost) = (world.holder(leaving), world.holder(gone));
    world.accept(leaver, TxBody::NodeDrain);
    world.lose(&[lost]);
    world.pass();
    let successor = world.holder(leaving);
    assert_ne!(successor, leaver);
    assert_eq!(numbers(&world, successor), Vec::<u64>::new());
    let before = world.state.challenge(node(leaver));
    world.accept(successor, acknowledge(leaving, 1));
    assert_eq!(world.deal(leaving).leaver, None);
    assert_eq!(world.state.slots_of(node(leaver), None).count(), 0);
    for number in [leaver, lost] {
        assert_eq!(numbers(&world, number), [1]);
    }
    assert_eq!(world.state.challenge(node(leaver)), before);
    assert_eq!(
        verdicts(&prove_all(&mut world, &[leaver])),
        [(node(leaver), Verdict::Valid)]
    );
    pass_epoch(&mut world);
    for number in [leaver, lost] {
        assert_eq!(numbers(&world, number), Vec::<u64>::new());
    }
    assert_eq!(numbers(&world, successor), [1]);
}

#[test]
fn a_declared_loss_counts_from_the_next_epoch_on() {
    let (mut world, id) = acknowledged();
    pass_epoch(&mut world);
    let place = slot(id, 2);
    let holder = world.holder(place);
    world.accept(holder, declare_loss(place));
    assert_eq!(numbers(&world, holder), [1]);
    pass_epoch(&mut world);
    assert_eq!(numbers(&world, holder), Vec::<u64>::new());
}

#[test]
fn a_return_within_an_epoch_does_not_change_its_challenge() {
    let (mut world, id) = acknowledged();
    pass_epoch(&mut world);
    let number = world.holder(slot(id, 0));
    let before = world.state.challenge(node(number));
    world.lose(&[number]);
    world.accept(number, world.registration(number, terms(8, (1, 1, 1))));
    assert_eq!(world.state.challenge(node(number)), before);
    prove_all(&mut world, &[number]);
    pass_epoch(&mut world);
    // It was proven with the few samples of before, so that more are still to come.
    let epoch = *world.state.epoch();
    let standing = world.state.node(node(number)).unwrap().standing;
    assert_eq!(standing.sample_count(&epoch), 256);
    prove_all(&mut world, &[number]);
    pass_epoch(&mut world);
    let epoch = *world.state.epoch();
    let standing = world.state.node(node(number)).unwrap().standing;
    assert_eq!(standing.sample_count(&epoch), 32);
}

#[test]
fn an_acknowledged_revision_is_kept_and_a_forgotten_one_counts_for_nothing() {
    let (mut world, id) = acknowledged();
    let place = slot(id, 0);
    let holder = world.holder(place);
    for number in 2..12 {
        world.accept(
            OWNER,
            TxBody::GroupRevise {
                revision: written(id, number, 4),
            },
        );
    }
    let kept: Vec<u64> = world
        .group(id)
        .kept
        .iter()
        .map(|kept| kept.number.get())
        .collect();
    assert_eq!(kept, [1, 7, 8, 9, 10]);
    assert_eq!(REVISIONS_KEPT, 4);
    assert_eq!(world.accept(holder, acknowledge(place, 6)), []);
    assert_eq!(world.deal(place).acknowledged, RevisionNumber::new(1));
    world.accept(holder, acknowledge(place, 7));
    assert_eq!(world.deal(place).acknowledged, RevisionNumber::new(7));
    // One that is kept only because others have acknowledged it is too old as well.
    let other = slot(id, 1);
    let holder = world.holder(other);
    let slots = Bounded::new(vec![other]).unwrap();
    world.accept(holder, TxBody::DeclareLoss { slots });
    assert_eq!(world.group(id).kept[0].number, RevisionNumber::new(1));
    assert_eq!(world.accept(holder, acknowledge(other, 1)), []);
    assert_eq!(world.deal(other).acknowledged, RevisionNumber::ZERO);
}

/// A ledger on which an epoch has seen as many revisions of the first group as it allows, and none of
/// the second; the refusal of one more, and what it should be.
pub(super) fn revised_often() -> (World, [GroupId; 2], [TxError; 2]) {
    let parameters = Parameters {
        epoch_millis: 100,
        ..Parameters::default()
    };
    let places: Vec<_> = (1..=NODES).map(|number| (number, number, number)).collect();
    let mut world = World::with_nodes_on(parameters, 8, &places);
    let groups = [world.place(2, 4), world.place(2, 4)];
    let [group, _] = groups;
    pass_epoch(&mut world);
    let epoch = world.state.epoch().number;
    // The least, since the epoch is short.
    let max = REVISIONS_PER_EPOCH_MIN;
    for number in 1..=max {
        world.accept(OWNER, revise(group, number, 1));
    }
    let found = world.refuse(OWNER, revise(group, max + 1, 1));
    assert_eq!(world.state.epoch().number, epoch);
    let expected = TxError::RevisedOften { group, epoch, max };
    (world, groups, [found, expected])
}

#[test]
fn an_epoch_allows_so_many_revisions_of_a_group_that_acknowledgements_count() {
    let (mut world, [id, other], [found, expected]) = revised_often();
    assert_eq!(found, expected);
    // Another group has its own, and now a node's acknowledgement can't be overtaken.
    world.accept(OWNER, revise(other, 1, 1));
    let place = slot(id, 0);
    let max = REVISIONS_PER_EPOCH_MIN;
    world.accept(world.holder(place), acknowledge(place, max));
    assert_eq!(world.deal(place).acknowledged.get(), max);
    pass_epoch(&mut world);
    world.accept(OWNER, revise(id, max + 1, 1));
}

#[test]
fn more_bytes_than_the_segments_can_have_can_not_be_promised() {
    let (mut world, id) = acknowledged();
    let mut revision = written(id, 2, 4);
    revision.segment_count = 2;
    revision.slot_bytes = cairn_core::ByteCount::new(1 << 20);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    let (mut world, id) = (super::prover::world(NODES), id);
    let fresh = world.place(2, 4);
    assert_eq!(fresh, id);
    let mut revision = written(id, 1, 4);
    revision.segment_count = 0;
    let found = revision.slot_bytes;
    let error = world.refuse(OWNER, TxBody::GroupRevise { revision });
    let max = cairn_core::ByteCount::ZERO;
    assert_eq!(error, TxError::SlotBytes { max, found });
}

#[test]
fn verdicts_are_those_of_the_proofs_or_the_block_is_not_agreed_to() {
    let (mut world, _) = acknowledged();
    pass_epoch(&mut world);
    let bytes = proof(&world, 10).unwrap().encode();
    let tx = world.signed(10, submission(&world, &bytes));
    let id = tx_id(&tx);
    let good = judged(&world, vec![tx], std::slice::from_ref(&bytes));
    let with = |verdicts: &[Verdict]| Block {
        verdicts: Bounded::new(verdicts.to_vec()).unwrap(),
        ..good.clone()
    };
    let check = |block: &Block| {
        let find = |digest| (digest == Digest::of(&bytes)).then_some(bytes.as_slice());
        world.state.check_verdicts(block, find)
    };
    for (found, said) in [
        (Verdict::Invalid, with(&[Verdict::Invalid])),
        (Verdict::Missing, with(&[])),
    ] {
        let expected = Verdict::Valid;
        let other = VerdictError::Other {
            id,
            expected,
            found,
        };
        assert_eq!(check(&said), Err(other));
    }
    let two = with(&[Verdict::Valid, Verdict::Valid]);
    assert_eq!(
        check(&two),
        Err(VerdictError::Count {
            expected: 1,
            found: 2
        })
    );
    let unseen = world.state.check_verdicts(&good, |_| None);
    let cause = Box::new(TxError::Unwitnessed {
        witness: Digest::of(&bytes),
    });
    assert_eq!(unseen, Err(VerdictError::Unjudged { id, cause }));
    let mut state = world.state.clone();
    let height = two.height;
    assert_eq!(
        state.apply(&two),
        Err(BlockError::Verdicts {
            height,
            expected: 1,
            found: 2
        })
    );
    assert_eq!(state, world.state);
}

#[test]
fn history_without_witnesses_gives_the_same_state() {
    let (mut world, _) = acknowledged();
    for _ in 0..3 {
        pass_epoch(&mut world);
        prove_all(&mut world, &all());
    }
    let parameters = Parameters {
        epoch_millis: EPOCH,
        ..Parameters::default()
    };
    let mut again = World::new(parameters).state;
    for block in &world.blocks {
        let block = Block::decode(&block.encode()).unwrap();
        again.apply(&block).unwrap();
    }
    assert_eq!(again, world.state);
    assert_eq!(State::decode(&again.encode()).as_ref(), Ok(&world.state));
}

#[test]
fn the_pages_of_a_challenge_give_the_whole() {
    let (mut world, id) = acknowledged();
    let other = world.place(3, 6);
    world.accept(
        OWNER,
        TxBody::GroupRevise {
            revision: written(other, 1, 6),
        },
    );
    for index in 0..6 {
        let place = slot(other, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    pass_epoch(&mut world);
    let number = world.holder(slot(id, 0));
    let whole = world.state.frozen_slots(node(number));
    assert_eq!(whole.len(), 2);
    assert!(whole.is_sorted_by(|a, b| a.slot_ref() < b.slot_ref()));
    let page = |after| {
        let Ok(page) = query::frozen_page(&world.state, node(number), after, 1);
        page
    };
    let (first, after) = page(None);
    let (rest, last) = page(after);
    assert_eq!([first, rest].concat(), whole);
    assert_eq!(
        (after, last),
        (Some(whole[0].slot_ref()), Some(whole[1].slot_ref()))
    );
    assert_eq!(page(last), (vec![], None));
    let page = world.state.challenge_page(node(number), after).unwrap();
    assert_eq!((&page.slots[..], page.next), (&whole[1..], None));
    assert_eq!(Some(page.seed), world.state.epoch().seed);
}

/// A ledger of epochs on which three lapses are a loss.
fn impatient(nodes: u8, epoch_millis: u64) -> World {
    let parameters = Parameters {
        epoch_millis,
        lost_after_epochs: 3,
        ..Parameters::default()
    };
    let places: Vec<_> = (1..=nodes).map(|number| (number, 1, 1)).collect();
    World::with_nodes_on(parameters, 8, &places)
}

#[test]
fn a_node_that_lapses_for_long_is_lost_and_its_slots_are_redrawn() {
    let mut world = impatient(6, EPOCH);
    let id = world.place(2, 4);
    let place = slot(id, 0);
    let revision = written(id, 1, 4);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    let late = world.holder(place);
    world.accept(late, acknowledge(place, 1));
    let others: Vec<u8> = all().into_iter().filter(|party| *party != late).collect();
    pass_epoch(&mut world);
    for missed in 1..3 {
        prove_all(&mut world, &others);
        pass_epoch(&mut world);
        assert_eq!(lapses(&world, late), missed);
        assert_eq!(world.holder(place), late);
    }
    prove_all(&mut world, &others);
    pass_epoch(&mut world);
    let status = |world: &World, party| world.state.node(node(party)).unwrap().status;
    assert_eq!(status(&world, late), NodeStatus::Lost);
    assert_ne!(world.holder(place), late);
    for party in others {
        assert_eq!(status(&world, party), NodeStatus::Active);
    }
    world.accept(late, world.registration(late, terms(8, (1, 1, 1))));
    assert_eq!(lapses(&world, late), 0);
}

#[test]
fn a_block_finds_no_more_lost_nodes_than_its_bound() {
    let mut world = impatient(70, 100);
    let mut found = Vec::new();
    // All registered within the first epoch, so that all are due at once.
    while world.state.epoch().judged < 5 {
        let effects = world.pass();
        let lost = |effect: &&Effect| matches!(effect, Effect::NodeChanged(_));
        found.push(effects.iter().filter(lost).count());
    }
    found.retain(|count| *count > 0);
    assert_eq!(found, [LOST_MAX, 70 - LOST_MAX]);
    assert_eq!(world.state.status().active_node_count, 0);
}

/// Each refusal of a proof, for the list of all refusals.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn proof_refusals(expect: &mut dyn FnMut(TxError, TxError)) {
    let (mut world, _) = acknowledged();
    let number = world.state.epoch().number;
    let next = EpochNumber::new(number.get() + 1);
    let body = |epoch| TxBody::ProofSubmit {
        epoch,
        witness: Digest::of(b"a proof"),
        audits: AuditReport::default(),
    };
    let unknown = NodeId::new(crate::sample::key(70).public());
    expect(
        world.refuse(70, body(number)),
        TxError::UnknownNode { node: unknown },
    );
    expect(
        world.refuse(10, body(next)),
        TxError::Epoch {
            expected: number,
            found: next,
        },
    );
    expect(
        world.refuse(10, body(number)),
        TxError::Unwitnessed {
            witness: Digest::of(b"a proof"),
        },
    );
    // At the border: of the epoch before, and of the one that began, whose seed is to come.
    while world.state.height().get() + 1 < EPOCH {
        world.pass();
    }
    let txs = vec![world.signed(10, body(number)), world.signed(11, body(next))];
    let block = world.next_block(&[], txs);
    let mut results = world
        .apply(block)
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::TxDone { result, .. } => result.err(),
            _ => None,
        });
    expect(
        results.next().unwrap(),
        TxError::Epoch {
            expected: next,
            found: number,
        },
    );
    expect(results.next().unwrap(), TxError::NoSeed { epoch: next });
    pass_epoch(&mut world);
    let number = world.state.epoch().number;
    // Who registers in a block proves nothing in it.
    let fresh = world.signed(71, world.registration(71, terms(8, (9, 9, 9))));
    let mut early = world.signed(71, body(number)).into_unverified();
    early.nonce += 1;
    let early = world.sign(early, 71);
    let block = Block {
        verdicts: Bounded::new(vec![Verdict::Valid]).unwrap(),
        ..world.next_block(&[], vec![fresh, early])
    };
    let done = world.apply(block).pop().unwrap();
    let node_71 = node(71);
    assert!(matches!(
        done,
        Effect::TxDone { result: Err(TxError::UnknownNode { node }), .. } if node == node_71
    ));
    assert_eq!(party(node_71), 71);
    let tx = world.signed(10, body(number));
    let expected = Digest::of(b"a proof");
    let found = Digest::of(b"another");
    let error = world.state.judge(tx.unverified(), b"another").unwrap_err();
    expect(error, TxError::Witness { expected, found });
    // Bytes that are no proof.
    let error = world.state.judge(tx.unverified(), b"a proof").unwrap_err();
    expect(
        error,
        TxError::Witness {
            expected,
            found: expected,
        },
    );
    let transfer = world.signed(10, TxBody::NodeDrain);
    let error = world.state.judge(transfer.unverified(), b"").unwrap_err();
    expect(error, TxError::Malformed);
    let bytes = proof(&world, 10).unwrap().encode();
    let again = submission(&world, &bytes);
    prove_all(&mut world, &[10]);
    let epoch = number;
    expect(
        world.refuse(10, again),
        TxError::Judged {
            node: node(10),
            epoch,
        },
    );
}
