//! The widest pages that anyone can ask for: their evidence fits a message.

use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;
use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, Digest, EpochNumber, FencingNumber, GroupId,
    GroupRoot, HeadNumber, Height, NodeId, PublicKey, Record, RevisionNumber, Right, SlotIndex,
    Text, UnixMillis, VolumeId,
};

use crate::earnings::{CauseSum, EARNINGS_LINES_MAX, Earnings, EarningsLine};
use crate::epoch::{Departed, Epoch, FROZEN_PAGE_MAX, Frozen, KeptRevision, REVISIONS_KEPT};
use crate::evidence::Evidence;
use crate::genesis::{
    GROUP_ENTRY_BYTES_MAX, Parameters, VALIDATORS_KEY_BYTES_MAX, VALIDATORS_MAX, Validators,
};
use crate::group::{Cap, Deal, DealState, Due, Ending, Group, Leaver, RelaxedCap};
use crate::movement::Cause;
use crate::node::{NodeEntry, NodeStatus};
use crate::query::{Question, Seen};
use crate::registry::{
    Access, Anchor, GRANTS_PER_VOLUME_MAX, Grant, Lease, VOLUMES_PER_ACCOUNT_MAX, Volume, Writer,
};
use crate::sample::shown::evidence;
use crate::sample::{OWNER, World, account, node, revision, slot};
use crate::score::Score;
use crate::state::State;
use crate::state::table::{BoundSlot, OwnGroup, OwnVolume};
use crate::term::{NextTerm, PastTerm, TERM_BYTES_MAX, Term, TermStart};
use crate::ticket::{AuditNode, AuditRank, SLOTS_LOOKED_MAX};
use crate::tx::{NodeTerms, SlotRef};
use crate::view::{GROUPS_PAGE_MAX, NODES_PAGE_MAX};
use crate::wire::{Answer, LedgerResponse, SLOTS_PAGE_MAX};

/// Slots of the widest group.
const SLOTS: u64 = 128;
/// Entries that lie around those that are asked for, and make the way to them long.
const FILLERS: u64 = 4_000;
/// The node whose slots are wide.
const PROVER: u8 = 10;
/// The node that has many.
const HOLDER: u8 = 11;
/// The node that audits.
const AUDITOR: u8 = 12;

fn digest(kind: u8, number: u64) -> Digest {
    Digest::of(&[&[kind][..], &number.to_le_bytes()].concat())
}

fn public(kind: u8, number: u64) -> PublicKey {
    PublicKey::from_bytes(*digest(kind, number).as_bytes())
}

fn wide_node(id: NodeId) -> NodeEntry {
    let label = || Text::cut(&"x".repeat(64));
    let epoch = EpochNumber::new(4);
    let mut entry = NodeEntry {
        node: id,
        operator: account(OWNER),
        terms: NodeTerms {
            capacity: ByteCount::new(1 << 40),
            price: Amount::from_micro(1),
            network: label(),
            provider: label(),
            region: label(),
        },
        used: ByteCount::ZERO,
        status: NodeStatus::Active,
        standing: Default::default(),
        collateral: Amount::ZERO,
        locked: Amount::ZERO,
        maintained: Some(epoch),
        score: Score::default(),
    };
    entry.standing.verdict = Some((epoch, crate::block::Verdict::Valid));
    entry
}

fn wide_earnings() -> Earnings {
    let line = |epoch, cause| EarningsLine {
        epoch: EpochNumber::new(epoch),
        cause,
        micro: 1,
    };
    Earnings {
        opening: Amount::ZERO,
        before_through: Some(EpochNumber::new(3)),
        before: Cause::ALL
            .map(|cause| CauseSum { cause, micro: 1 })
            .to_vec(),
        lines: (0..u64::try_from(EARNINGS_LINES_MAX).unwrap())
            .map(|epoch| line(4 + epoch, Cause::Pay))
            .collect(),
    }
}

/// A group of as many slots as there can be, whose holders and leavers have four revisions each that
/// nobody else has.
fn wide_group(id: GroupId, nodes: &[NodeId]) -> Group {
    let last = SLOTS * 4 + REVISIONS_KEPT + 1;
    let kept = (1..last).map(|number| KeptRevision {
        number: RevisionNumber::new(number),
        segment_count: 1,
        slot_bytes: ByteCount::new(1),
        group_root: GroupRoot::default(),
    });
    let deal = |(number, node): (u64, &NodeId)| {
        let number = |of: u64| RevisionNumber::new(number * 4 + of);
        let frozen = |of: u64| Frozen {
            epoch: EpochNumber::new(4),
            revision: number(of),
        };
        Deal {
            node: *node,
            previous: Some(*node),
            since: Height::new(1),
            price: Amount::from_micro(1),
            acknowledged: number(4),
            frozen: frozen(3),
            state: DealState::Held,
            leaver: Some(Leaver {
                node: NodeId::new(public(9, 0)),
                price: Amount::from_micro(1),
                acknowledged: number(2),
                frozen: frozen(1),
                collateral: Amount::ZERO,
            }),
            collateral: Amount::ZERO,
            bounty: Amount::ZERO,
            behind_since: EpochNumber::new(4),
        }
    };
    let relaxed = |cap| RelaxedCap {
        cap,
        max: 1,
        found: 2,
    };
    Group {
        id,
        owner: account(OWNER),
        code: Code::new(64, 128).unwrap(),
        slot_capacity: ByteCount::new(1 << 30),
        price_max: Amount::from_micro(1),
        ends: EpochNumber::new(9),
        ending: Some(Ending::Asked(EpochNumber::new(5))),
        escrow: Amount::ZERO,
        owed: Amount::ZERO,
        opened: Height::new(1),
        revision: revision(id, last, 1),
        begun: Frozen::default(),
        kept: kept.collect(),
        due: Due::default(),
        deals: (0..).zip(nodes).map(deal).collect(),
        relaxed: Cap::ALL.map(relaxed).to_vec(),
        is_marked: true,
    }
}

fn wide_volume(id: VolumeId, owner: AccountId) -> Volume {
    let writer = Writer {
        account: owner,
        key: owner.key(),
    };
    let anchor = |number| Anchor {
        fencing: FencingNumber::new(number),
        number: HeadNumber::new(number),
        digest: digest(7, number),
        height: Height::new(1),
        time: UnixMillis::new(1),
    };
    Volume {
        id,
        owner,
        descriptor: Bounded::new(vec![7; crate::registry::DESCRIPTOR_BYTES_MAX]).unwrap(),
        registered: Height::new(1),
        fencing: FencingNumber::new(9),
        lease: Some(Lease {
            writer,
            until: UnixMillis::new(9),
            asked: Some(writer),
        }),
        anchors: Bounded::new((1..=8).map(anchor).collect()).unwrap(),
    }
}

fn enter_groups(state: &mut State, nodes: &[NodeId]) -> Vec<GroupId> {
    let wide: Vec<GroupId> = (0..40)
        .map(|number| GroupId::new(digest(1, number)))
        .collect();
    for id in &wide {
        state.groups.insert(*id, wide_group(*id, nodes));
        state.index.groups.insert((account(OWNER), *id), OwnGroup);
        let place = slot(*id, 0);
        state.index.slots.insert((node(PROVER), place), BoundSlot);
        // It had left the slot before.
        let departed = Departed {
            revision: state.groups[id].kept[0],
            slot_count: 128,
            price: Amount::from_micro(1),
        };
        state.departed.insert((node(PROVER), place), departed);
    }
    for number in 0..FILLERS {
        let id = GroupId::new(digest(2, number));
        let mut group = wide_group(id, &[]);
        group.kept.clear();
        state.groups.insert(id, group);
        state.index.groups.insert((account(2), id), OwnGroup);
    }
    for number in 0..2 * SLOTS_PAGE_MAX {
        let number = u64::try_from(number).unwrap();
        let place = SlotRef {
            group: GroupId::new(digest(3, number)),
            slot: SlotIndex::new(127),
        };
        state.index.slots.insert((node(HOLDER), place), BoundSlot);
    }
    wide
}

fn enter_volumes(state: &mut State) -> VolumeId {
    let mut enter = |kind: u8, number: u64, owner: AccountId| {
        let id = VolumeId::new(digest(kind, number));
        state.registry.volumes.insert(id, wide_volume(id, owner));
        state.index.registry.volumes.insert((owner, id), OwnVolume);
        id
    };
    let count = u64::try_from(VOLUMES_PER_ACCOUNT_MAX).unwrap();
    for number in 0..FILLERS {
        enter(4, number, account(2));
    }
    let ids = (0..count).map(|number| enter(5, number, account(OWNER)));
    let id = ids.last().unwrap();
    for number in 0..u64::try_from(GRANTS_PER_VOLUME_MAX).unwrap() {
        let holder = public(6, number);
        let grant = Grant {
            volume: id,
            holder,
            access: Access::Granted(Right::Write),
            since: Height::new(1),
            expires_at: UnixMillis::new(9),
        };
        state.registry.grants.insert((id, holder), grant);
    }
    id
}

fn wide_term() -> Term {
    let validators = |kind: u8| {
        let count = u64::try_from(VALIDATORS_MAX).unwrap();
        let identities = (0..count).map(|number| public(kind, number)).collect();
        Validators {
            identities: Bounded::new(identities).unwrap(),
            key: Bounded::new(vec![7; VALIDATORS_KEY_BYTES_MAX]).unwrap(),
        }
    };
    Term {
        number: 9,
        validators: validators(8),
        base: TermStart::first(UnixMillis::new(1), Digest::of(b"a genesis")),
        before: Some(PastTerm {
            validators: validators(7),
            base: TermStart::first(UnixMillis::new(1), Digest::of(b"a genesis")),
        }),
        next: Some(NextTerm {
            validators: validators(9),
            border: Some(Height::new(9)),
        }),
    }
}

/// A state that no rule would let come about, and that is as wide as all of them do.
fn widest() -> (State, GroupId, VolumeId) {
    let parameters = Parameters {
        epoch_millis: 1_000,
        ..Parameters::default()
    };
    let mut state = World::new(parameters).state;
    state.epoch = Epoch {
        number: EpochNumber::new(5),
        seed: Some(Digest::of(b"a seed")),
        ..Epoch::default()
    };
    let strangers = (1..SLOTS + FILLERS).map(|number| NodeId::new(public(0, number)));
    let nodes: Vec<NodeId> = [node(PROVER)].into_iter().chain(strangers).collect();
    for id in nodes.iter().chain([&node(HOLDER)]) {
        state.nodes.insert(*id, wide_node(*id));
        state.earnings.insert(*id, wide_earnings());
    }
    let mut auditor = wide_node(node(AUDITOR));
    auditor.operator = account(AUDITOR);
    auditor.score.show(EpochNumber::new(4));
    state.nodes.insert(node(AUDITOR), auditor);
    let groups = enter_groups(&mut state, &nodes[..usize::try_from(SLOTS).unwrap()]);
    let volume = enter_volumes(&mut state);
    state.term = Some(wide_term());
    state.note_changes();
    (state, groups[7], volume)
}

/// Questions with how much each of them sees.
fn asked(state: &State, group: GroupId, volume: VolumeId) -> Vec<(Question, usize)> {
    let (owner, other) = (Some(account(OWNER)), Some(group));
    let node_above = state.nodes().nth(1_000).map(|entry| entry.node);
    let slot_above = state.slots_of(node(HOLDER), None).nth(9);
    let prover = node(PROVER);
    vec![
        (Question::Group(group), 1),
        (
            Question::Slots {
                node: node(HOLDER),
                after: None,
            },
            SLOTS_PAGE_MAX,
        ),
        (
            Question::Slots {
                node: node(HOLDER),
                after: slot_above,
            },
            SLOTS_PAGE_MAX,
        ),
        (
            Question::Challenge {
                node: prover,
                after: None,
            },
            FROZEN_PAGE_MAX,
        ),
        (Question::Nodes { after: None }, NODES_PAGE_MAX),
        (Question::Nodes { after: node_above }, NODES_PAGE_MAX),
        (
            Question::Groups {
                owner: None,
                after: None,
            },
            GROUPS_PAGE_MAX,
        ),
        (Question::Groups { owner, after: None }, GROUPS_PAGE_MAX),
        (
            Question::Groups {
                owner,
                after: other,
            },
            GROUPS_PAGE_MAX,
        ),
        (Question::Earnings(prover), 1),
        (Question::Proven(group), 128),
        (Question::Volumes(account(OWNER)), VOLUMES_PER_ACCOUNT_MAX),
        (Question::Grants(volume), GRANTS_PER_VOLUME_MAX),
        (Question::Term, 1),
    ]
}

#[test]
fn the_evidence_of_the_widest_pages_fits_a_message() {
    let (state, group, volume) = widest();
    for (question, expected) in asked(&state, group, volume) {
        let evidence = evidence(&state, question);
        let seen = evidence.show(question, &state.attested()).unwrap();
        assert_eq!(seen, state.ask(question));
        let found = match &seen {
            Seen::Slots(slots) => slots.len(),
            Seen::Challenge(page) => page.as_ref().unwrap().slots.len(),
            Seen::Nodes(nodes) => nodes.len(),
            Seen::Groups(groups) => groups.len(),
            Seen::Proven(proof) => proof.as_ref().unwrap().slots.len(),
            Seen::Volumes(volumes) => volumes.len(),
            Seen::Grants(grants) => grants.len(),
            _ => 1,
        };
        assert_eq!(found, expected, "{question:?}");
        let bytes = borsh::object_length(&evidence).unwrap();
        println!("{bytes} bytes show {question:?}");
        assert!(bytes <= Evidence::BYTES_MAX, "{bytes} bytes: {question:?}");
        let (ledger, answer) = (state.ledger_id(), Answer::Evidence(Box::new(evidence)));
        let response = LedgerResponse { ledger, answer }.encode();
        assert!(response.len() <= LEDGER_MESSAGE_BYTES_MAX);
    }
}

/// Of all the groups that are looked at for an audit none has what can be asked for.
#[test]
fn the_evidence_of_a_ticket_fits_a_message_however_many_slots_are_looked_at() {
    let (mut state, group, _) = widest();
    for number in 0..u32::try_from(FILLERS).unwrap() {
        let (rank, audited) = (AuditRank::new(number), AuditNode(node(PROVER)));
        state.index.audit_nodes.now.insert(rank, audited);
    }
    let places: Vec<SlotRef> = state.slots_of(node(PROVER), None).collect();
    assert!(places.len() > 2 * SLOTS_LOOKED_MAX);
    for place in places {
        // Acknowledged in the epoch that runs.
        let group = state.groups.get_mut(&place.group).unwrap();
        group.deals[place.slot.index()].frozen.epoch = EpochNumber::new(5);
    }
    state.note_changes();
    let group_bytes = borsh::object_length(&state.groups[&group]).unwrap();
    for number in 0..2 {
        let auditor = node(AUDITOR);
        let question = Question::Audit { auditor, number };
        let evidence = evidence(&state, question);
        let seen = evidence.show(question, &state.attested()).unwrap();
        assert_eq!(seen, state.ask(question));
        let Seen::Audit(Some(view)) = seen else {
            panic!("a node's ticket");
        };
        assert_eq!(view.ticket, None);
        let bytes = borsh::object_length(&evidence).unwrap();
        println!("{bytes} bytes show {question:?}");
        assert!(bytes > SLOTS_LOOKED_MAX * group_bytes);
        assert!(bytes <= Evidence::BYTES_MAX);
    }
}

#[test]
fn the_widest_entries_are_below_what_pages_count_with() {
    let (state, group, _) = widest();
    let bytes = borsh::object_length(&state.groups[&group]).unwrap();
    println!("{bytes} bytes of a group");
    assert!(u64::try_from(bytes).unwrap() <= GROUP_ENTRY_BYTES_MAX);
    let bytes = borsh::object_length(state.node(node(PROVER)).unwrap()).unwrap();
    println!("{bytes} bytes of a node");
    assert!(bytes <= crate::view::NODE_ENTRY_BYTES);
    let bytes = borsh::object_length(&state.term).unwrap();
    assert_eq!(bytes, TERM_BYTES_MAX);
}

/// A node that has nothing frozen of all that it holds is told so page by page, each of which fits.
#[test]
fn pages_of_a_challenge_are_bounded_whatever_is_frozen() {
    let (state, _, _) = widest();
    let (node, mut after, mut pages) = (node(HOLDER), None, 0);
    loop {
        let question = Question::Challenge { node, after };
        let evidence = evidence(&state, question);
        assert!(borsh::object_length(&evidence).unwrap() <= Evidence::BYTES_MAX);
        let Seen::Challenge(Some(page)) = state.ask(question) else {
            panic!("a page");
        };
        assert_eq!(page.slots.len(), 0);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 2 * SLOTS_PAGE_MAX / FROZEN_PAGE_MAX + 1);
}
