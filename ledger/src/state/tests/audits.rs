//! Who audits whom, and what votes do and don't.

use std::collections::BTreeSet;

use cairn_core::{ByteCount, Digest, GroupId, NodeId, SlotIndex};

use super::prover::{pass_epoch, prove_all, prove_reporting, world, written};
use crate::evidence::EvidenceError;
use crate::node::NodeStatus;
use crate::query::{Question, Seen};
use crate::sample::shown::{assert_shows, evidence};
use crate::sample::{
    OWNER, World, acknowledge, attest, declare_loss, node, party, register_on, slot, terms,
};
use crate::score::{AuditReport, SCORE_FALL, SCORE_MAX, Vote};
use crate::state::Unsound;
use crate::ticket::{AUDITS_MAX, AuditNode, AuditTicket, SLOTS_LOOKED_MAX};
use crate::tx::{NodeTerms, SlotRef, TxBody};

const HOLDERS: u8 = 8;
const NODES: u8 = 10;

fn all() -> Vec<u8> {
    (10..10 + NODES).collect()
}

/// Eight of ten nodes hold something and have proven it for two epochs; the third runs and its seed is
/// known.
fn held() -> (World, GroupId) {
    let mut world = world(NODES);
    let id = world.place(4, 8);
    let revision = written(id, 1, 8);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    for index in 0..HOLDERS {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    for _ in 0..2 {
        pass_epoch(&mut world);
        prove_all(&mut world, &all());
    }
    pass_epoch(&mut world);
    (world, id)
}

/// All numbers that a ticket can have, and one that none has.
fn numbers() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).take(AUDITS_MAX + 1)
}

fn tickets(world: &World, number: u8) -> Vec<AuditTicket> {
    let auditor = node(number);
    let ticket = |number| {
        let view = world.state.audit_ticket(auditor, number).unwrap();
        assert_eq!(view.epoch, world.state.epoch().number);
        assert!(view.ticket.is_none_or(|ticket| ticket.number == number));
        view.ticket
    };
    numbers().filter_map(ticket).collect()
}

fn holders(world: &World, id: GroupId) -> BTreeSet<u8> {
    let slots = (0..HOLDERS).map(|index| slot(id, index));
    slots.map(|place| world.holder(place)).collect()
}

fn score(world: &World, number: u8) -> u8 {
    let entry = world.state.node(node(number)).unwrap();
    entry.score.at(world.state.epoch().number)
}

fn votes(world: &World, number: u8) -> (usize, usize) {
    let votes = world.state.node(node(number)).unwrap().score.votes();
    (votes.passed_count, votes.failed_count)
}

/// Says this of each ticket for one of `nodes`, and that all others passed.
fn says(tickets: &[AuditTicket], vote: Vote, nodes: &[u8]) -> AuditReport {
    let mut report = AuditReport::default();
    for ticket in tickets {
        let is_meant = nodes.contains(&party(ticket.audited));
        let vote = if is_meant { vote } else { Vote::Passed };
        report.note(ticket.number, vote);
    }
    report
}

/// Goes on to the next epoch, in which `parties` report of the one before: all passed but that `liars`
/// say that `victims` failed.
fn report(world: &mut World, parties: &[u8], liars: &[u8], victims: &[u8]) {
    let drawn: Vec<(u8, Vec<AuditTicket>)> = parties
        .iter()
        .map(|number| (*number, tickets(world, *number)))
        .collect();
    prove_all(world, &all());
    pass_epoch(world);
    prove_reporting(world, parties, |number| {
        let of = drawn.iter().find(|(party, _)| *party == number);
        let accused = if liars.contains(&number) {
            victims
        } else {
            &[]
        };
        of.map_or_else(AuditReport::default, |(_, tickets)| {
            says(tickets, Vote::Failed, accused)
        })
    });
}

#[test]
fn each_node_that_proved_something_draws_others_that_did() {
    let (world, id) = held();
    let holders = holders(&world, id);
    let mut drawn = BTreeSet::new();
    for number in all() {
        let tickets = tickets(&world, number);
        assert!(tickets.len() <= AUDITS_MAX);
        assert_eq!(tickets.is_empty(), !holders.contains(&number));
        let audited: Vec<NodeId> = tickets.iter().map(|ticket| ticket.audited).collect();
        assert_eq!(audited.iter().collect::<BTreeSet<_>>().len(), audited.len());
        for ticket in tickets {
            let audited = party(ticket.audited);
            assert_ne!(audited, number);
            assert!(holders.contains(&audited));
            let challenge = ticket.challenge(world.state.epoch().number).unwrap();
            assert_eq!(challenge.position_count(), 1);
            let sampled = challenge.slots()[0].slot;
            assert_eq!(world.holder(slot(id, sampled.slot.get())), audited);
            drawn.insert(audited);
        }
    }
    assert_eq!(drawn, holders, "nobody is passed over");
}

/// Nodes that hold several slots each, not all of which were acknowledged when the epoch began; and the
/// slots that have changed since.
fn spread() -> (World, BTreeSet<SlotRef>) {
    let mut world = world(NODES);
    let groups: Vec<GroupId> = (0..7).map(|_| world.place(2, 4)).collect();
    let write = |world: &mut World, id: GroupId, revision: u64| {
        let written = written(id, revision, 4);
        world.accept(OWNER, TxBody::GroupRevise { revision: written });
        for place in (0..4).map(|index| slot(id, index)) {
            world.accept(world.holder(place), acknowledge(place, revision));
        }
    };
    for id in &groups[..5] {
        write(&mut world, *id, 1);
    }
    pass_epoch(&mut world);
    prove_all(&mut world, &all());
    pass_epoch(&mut world);
    write(&mut world, groups[0], 2);
    let changed = (0..4).map(|index| slot(groups[0], index)).collect();
    (world, changed)
}

/// The tickets of an auditor by the text of U1 to U3, in a ledger of which no node has the operator of
/// another and none is away.
fn specified(world: &World, auditor: NodeId, changed: &BTreeSet<SlotRef>) -> Vec<AuditTicket> {
    let epoch = *world.state.epoch();
    let proved: Vec<NodeId> = (world.state.nodes())
        .filter(|entry| !world.state.frozen_slots(entry.node).is_empty())
        .map(|entry| entry.node)
        .collect();
    assert!(proved.is_sorted());
    let mut about = BTreeSet::from([auditor]);
    let ticket = |number: u8| {
        let mut hasher = blake3::Hasher::new_derive_key("cairn 1 audit");
        hasher.update(epoch.seed.unwrap().as_bytes());
        hasher.update(&epoch.number.get().to_le_bytes());
        hasher.update(auditor.as_bytes());
        hasher.update(&[number]);
        let mut stream = [0; 80];
        hasher.finalize_xof().fill(&mut stream);
        let place = u128::from_le_bytes(stream[..16].try_into().unwrap());
        let count = u128::try_from(proved.len()).unwrap();
        let audited = proved[usize::try_from(place % count).unwrap()];
        if !about.insert(audited) {
            return None;
        }
        let from = SlotRef {
            group: GroupId::new(Digest::new(stream[16..48].try_into().unwrap())),
            slot: SlotIndex::new(0),
        };
        let held: Vec<SlotRef> = world.state.slots_of(audited, None).collect();
        let above = held.iter().filter(|place| **place > from);
        let mut looked = above.chain(&held).take(SLOTS_LOOKED_MAX);
        let frozen = world.state.frozen_slots(audited);
        let slot = looked.find_map(|place| {
            let mut frozen = frozen.iter().filter(|frozen| frozen.slot_ref() == *place);
            frozen.find(|_| !changed.contains(place))
        });
        Some(AuditTicket {
            number,
            audited,
            slot: *slot?,
            seed: Digest::new(stream[48..].try_into().unwrap()),
        })
    };
    let all: Vec<AuditTicket> = (0..8).filter_map(ticket).collect();
    if proved.contains(&auditor) {
        all
    } else {
        Vec::new()
    }
}

#[test]
fn tickets_are_those_of_the_specification() {
    let (mut world, mut changed) = spread();
    let mut slots = BTreeSet::new();
    for _ in 0..4 {
        for number in all() {
            let found = tickets(&world, number);
            assert_eq!(found, specified(&world, node(number), &changed));
            slots.extend(found.iter().map(|ticket| ticket.slot.slot_ref()));
        }
        prove_all(&mut world, &all());
        pass_epoch(&mut world);
        changed.clear();
    }
    assert!(slots.len() > 10, "not always the same: {}", slots.len());
}

/// Someone without the state sees the ticket that is there, and that there is none.
#[test]
fn the_evidence_of_a_ticket_shows_what_the_state_says() {
    let (mut world, id) = held();
    let auditors = || all().into_iter().chain([77]);
    let shown = |world: &World| {
        let asked = auditors().flat_map(|auditor| numbers().map(move |number| (auditor, number)));
        let mut count = 0;
        for (auditor, number) in asked.chain([(10, u8::MAX)]) {
            let auditor = node(auditor);
            let question = Question::Audit { auditor, number };
            assert_shows(&world.state, question);
            let view = world.state.audit_ticket(auditor, number);
            assert_eq!(world.state.ask(question), Seen::Audit(view));
            count += usize::from(view.is_some_and(|view| view.ticket.is_some()));
        }
        count
    };
    let before = shown(&world);
    assert!(before > 16, "{before}");
    let revision = written(id, 2, 8);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    let [newer, lost, away, gone] = [0, 1, 2, 3].map(|index| world.holder(slot(id, index)));
    world.accept(newer, acknowledge(slot(id, 0), 2));
    world.accept(lost, declare_loss(slot(id, 1)));
    world.accept(away, TxBody::NodeMaintain { epochs: 2 });
    world.lose(&[gone]);
    let after = shown(&world);
    assert!(0 < after && after < before, "{after} of {before}");
    let epoch = world.state.epoch().number;
    while world.state.epoch().number == epoch {
        world.pass();
    }
    assert_eq!(shown(&world), 0, "there is no seed");
    assert_eq!(shown(&World::with_nodes(8, &[(1, 1, 1), (2, 2, 2)])), 0);
}

/// Those who prove change from epoch to epoch, and the ranks with them.
#[test]
fn ranks_are_those_of_the_nodes_that_proved_the_epoch_before() {
    let (mut world, id) = held();
    let holders: Vec<u8> = holders(&world, id).into_iter().collect();
    for provers in [&holders[..], &holders[2..], &holders[..5], &[]] {
        prove_all(&mut world, provers);
        pass_epoch(&mut world);
        let mut expected: Vec<NodeId> = provers.iter().copied().map(node).collect();
        expected.sort_unstable();
        let now = &world.state.index.audit_nodes.now;
        let ranks: Vec<u32> = now.keys().map(|rank| rank.get()).collect();
        let nodes: Vec<NodeId> = now.values().map(|node| node.0).collect();
        assert_eq!(nodes, expected);
        assert!(ranks.into_iter().eq((0..).take(nodes.len())));
        // Of the others nobody draws or is drawn.
        for number in all() {
            let tickets = tickets(&world, number);
            assert!(tickets.is_empty() || provers.contains(&number));
            assert!(tickets.iter().all(|it| expected.contains(&it.audited)));
        }
    }
}

/// Who orders the ledger does not agree to other ranks, and who is shown them sees that.
#[test]
fn nodes_at_other_ranks_are_not_the_ledgers() {
    let (world, id) = held();
    let auditor = world.holder(slot(id, 0));
    let number = tickets(&world, auditor)[0].number;
    let auditor = node(auditor);
    let question = Question::Audit { auditor, number };
    let mut lie = world.state.clone();
    let now = lie.index.audit_nodes.now.clone();
    let others = now.values().cycle().skip(1);
    for (rank, AuditNode(other)) in now.keys().zip(others) {
        let ranked = &mut lie.index.audit_nodes.now;
        ranked.insert(*rank, AuditNode(*other));
    }
    lie.note_changes();
    assert_eq!(lie.audit(), Err(Unsound::Index));
    let mut lying = evidence(&lie, question);
    let seen = lying.show(question, &lie.attested()).unwrap();
    assert_ne!(seen, world.state.ask(question));
    lying.attestation = attest(&world.state);
    let shown = lying.show(question, &world.state.attested());
    assert_eq!(shown, Err(EvidenceError::Root));
}

#[test]
fn there_are_no_tickets_before_the_seed_for_strangers_and_without_epochs() {
    let (mut world, _) = held();
    assert!(world.state.audit_ticket(node(77), 0).is_none());
    let before = world.state.epoch().number;
    while world.state.epoch().number == before {
        world.pass();
    }
    assert_eq!(world.state.epoch().seed, None);
    assert!(world.state.audit_ticket(node(10), 0).is_none());
    let still = World::with_nodes(8, &[(1, 1, 1), (2, 2, 2)]);
    assert!(still.state.audit_ticket(node(10), 0).is_none());
}

/// Keys that were made when the seed was known draw nobody, and change nobody's tickets.
#[test]
fn who_registers_when_the_seed_is_known_changes_no_ticket() {
    let (mut world, _) = held();
    let before: Vec<_> = all()
        .iter()
        .map(|number| tickets(&world, *number))
        .collect();
    let registered = |number| {
        let body = world.registration(number, terms(8, (1, 1, 1)));
        world.signed(number, body)
    };
    let block = world.next_block(&[], (100..130).map(registered).collect());
    world.apply(block);
    for number in 100..130 {
        assert_eq!(tickets(&world, number), []);
    }
    let after: Vec<_> = all()
        .iter()
        .map(|number| tickets(&world, *number))
        .collect();
    assert_eq!(before, after);
}

/// What it need not keep any more a node is not asked for: it has acknowledged something newer or
/// declared a loss, is away by announcement, or holds the slot no more.
#[test]
fn a_ticket_goes_when_its_slot_changes() {
    let of = |world: &World, audited: u8| {
        let tickets = all().into_iter().flat_map(|number| tickets(world, number));
        tickets
            .filter(|ticket| ticket.audited == node(audited))
            .count()
    };
    let (mut world, id) = held();
    let revision = written(id, 2, 8);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    let [newer, lost, away, gone] = [0, 1, 2, 3].map(|index| world.holder(slot(id, index)));
    for number in [newer, lost, away, gone] {
        assert!(of(&world, number) > 0, "node {number} is drawn");
    }
    world.accept(newer, acknowledge(slot(id, 0), 2));
    world.accept(lost, declare_loss(slot(id, 1)));
    world.accept(away, TxBody::NodeMaintain { epochs: 2 });
    world.lose(&[gone]);
    for number in [newer, lost, away, gone] {
        assert_eq!(of(&world, number), 0, "node {number}");
    }
    let untouched = world.holder(slot(id, 4));
    assert!(of(&world, untouched) > 0);
}

/// The bound of `score`: three liars are too few.
#[test]
fn three_operators_that_lie_lower_no_score_and_seven_of_seven_do() {
    let (world, id) = held();
    let holders: Vec<u8> = holders(&world, id).into_iter().collect();
    let victim = holders[7];
    let with_liars = |count: usize| {
        let mut world = world.clone();
        let mut least = SCORE_MAX;
        for _ in 0..12 {
            report(&mut world, &holders, &holders[..count], &[victim]);
            least = least.min(score(&world, victim));
        }
        least
    };
    assert_eq!(with_liars(3), SCORE_MAX);
    assert!(with_liars(7) <= 20, "all others say so");
}

#[test]
fn votes_come_with_the_next_epoch_and_count_when_it_is_over() {
    let (mut world, id) = held();
    let holders: Vec<u8> = holders(&world, id).into_iter().collect();
    let victim = (holders.iter())
        .find(|victim| {
            let draws = |number: &&u8| {
                let tickets = tickets(&world, **number);
                tickets
                    .iter()
                    .any(|ticket| ticket.audited == node(**victim))
            };
            holders.iter().filter(draws).count() >= 4
        })
        .copied()
        .unwrap();
    report(&mut world, &holders, &holders, &[victim]);
    let (passed, failed) = votes(&world, victim);
    assert!(passed == 0 && failed >= 4, "{failed}");
    assert_eq!(score(&world, victim), SCORE_MAX);
    pass_epoch(&mut world);
    assert_eq!(score(&world, victim), SCORE_MAX - SCORE_FALL);
    for other in holders.into_iter().filter(|other| *other != victim) {
        assert_eq!(score(&world, other), SCORE_MAX);
    }
}

/// Of the nodes of one operator the first has its vote, and none on another of its own.
#[test]
fn nodes_of_one_operator_have_one_vote_and_none_on_their_own() {
    let mut world = world(NODES);
    for number in 40..46 {
        let body = register_on(world.state.ledger_id(), number, 3, terms(8, (9, 9, 9)));
        world.accept(number, body);
    }
    // The group is too large for its caps: the operator's nodes are in it.
    let id = world.place(8, 16);
    let revision = written(id, 1, 16);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    for index in 0..16 {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    let everyone: Vec<u8> = all().into_iter().chain(40..46).collect();
    for _ in 0..2 {
        pass_epoch(&mut world);
        prove_all(&mut world, &everyone);
    }
    let own: Vec<NodeId> = (40..46).map(node).collect();
    for _ in 0..4 {
        pass_epoch(&mut world);
        for number in 40..46 {
            let tickets = tickets(&world, number);
            assert!(!tickets.is_empty());
            assert!(tickets.iter().all(|ticket| !own.contains(&ticket.audited)));
        }
        let says_failed = AuditReport {
            passed: 0,
            failed: u8::MAX,
        };
        prove_reporting(&mut world, &everyone, |number| {
            if number >= 40 {
                says_failed
            } else {
                AuditReport::default()
            }
        });
        for number in all() {
            let (_, failed) = votes(&world, number);
            assert!(
                failed <= 1,
                "node {number} has {failed} votes of one operator"
            );
        }
        for number in 40..46 {
            assert_eq!(votes(&world, number), (0, 0));
        }
    }
    let accused = all()
        .into_iter()
        .filter(|number| votes(&world, *number).1 == 1);
    assert!(accused.count() > 0, "it does vote");
}

/// Who proved nothing, or did not prove, is not heard.
#[test]
fn votes_of_nodes_without_anything_to_show_count_for_nothing() {
    let (mut world, id) = held();
    let holders = holders(&world, id);
    let says_failed = AuditReport {
        passed: 0,
        failed: u8::MAX,
    };
    let strangers: Vec<u8> = all()
        .into_iter()
        .filter(|number| !holders.contains(number))
        .collect();
    assert_eq!(strangers.len(), 2);
    prove_all(&mut world, &all());
    pass_epoch(&mut world);
    prove_reporting(&mut world, &strangers, |_| says_failed);
    for number in all() {
        assert_eq!(votes(&world, number), (0, 0));
    }
}

/// Two ledgers that differ in nothing but in what auditors say: scores and what is drawn by them differ,
/// and no balance, collateral, escrow or status does.
#[test]
fn votes_move_no_credit_and_no_status() {
    let (world, id) = held();
    let holders: Vec<u8> = holders(&world, id).into_iter().collect();
    let victim = holders[2];
    let run = |liars: &[u8]| {
        let mut world = world.clone();
        for _ in 0..6 {
            report(&mut world, &holders, liars, &[victim]);
        }
        world
    };
    let (honest, lied) = (run(&[]), run(&holders));
    assert_eq!(score(&honest, victim), SCORE_MAX);
    assert!(score(&lied, victim) <= SCORE_MAX / 2);
    assert_eq!(honest.balances(), lied.balances());
    for (a, b) in honest.state.nodes().zip(lied.state.nodes()) {
        assert_eq!(b.status, NodeStatus::Active);
        assert_eq!(
            (a.collateral, a.locked, a.used),
            (b.collateral, b.locked, b.used)
        );
        assert_eq!(a.standing, b.standing);
    }
    assert_eq!(honest.group(id), lied.group(id));
}

/// A node with half the score is drawn about half as often, and never left out.
#[test]
fn a_low_score_weighs_in_draws() {
    let (mut world, id) = held();
    let holders: Vec<u8> = holders(&world, id).into_iter().collect();
    let victim = holders[5];
    // Room for many small groups.
    for number in all() {
        let terms = NodeTerms {
            capacity: ByteCount::new(400 << 20),
            ..terms(8, (number, number, number))
        };
        world.accept(number, TxBody::NodeUpdate { terms });
    }
    for _ in 0..8 {
        report(&mut world, &holders, &holders, &[victim]);
    }
    let low = score(&world, victim);
    assert!(low <= 40, "{low}");
    let mut counts = [0_u32; 256];
    for _ in 0..150 {
        let group = world.place(1, 2);
        for index in 0..2 {
            counts[usize::from(world.holder(slot(group, index)))] += 1;
        }
        // Nobody has a lapse.
        if world.state.epoch().seed.is_some() {
            prove_all(&mut world, &all());
        }
    }
    let others: u32 = all()
        .into_iter()
        .filter(|number| *number != victim)
        .map(|number| counts[usize::from(number)])
        .sum();
    let mine = counts[usize::from(victim)];
    // One of ten with a third of the others' weight gets about one of thirty.
    assert!(mine > 0 && mine * 18 < others, "{mine} of {others}");
}
