//! The state with which a term began, from ends that have it and from ends that lie about it.

use std::sync::LazyLock;

use cairn_core::Bounded;

use super::*;
use crate::genesis::STATE_BYTES_MAX;
use crate::sample::term::{change, validators};
use crate::sample::{SEQUENCER, open};
use crate::snapshot::{SNAPSHOT_PART_BYTES, SnapshotPart};
use crate::term::BORDER_LAG;

type Fetched = Result<Option<(State, Attestation)>, LedgerError>;

/// A ledger in its second term.
struct Begun {
    /// A block before the border.
    before: State,
    /// At the border; it does not fit one part.
    border: State,
    /// A block after it.
    after: State,
}

static BEGUN: LazyLock<Begun> = LazyLock::new(|| {
    let mut world = World::with_validators(Parameters::default(), validators(&[70, 71, 72], 1));
    world.register_nodes(1 << 13, &[(1, 1, 1), (2, 2, 2)]);
    while world.state.encode().len() <= SNAPSHOT_PART_BYTES {
        open_groups(&mut world);
    }
    let next = validators(&[71, 72, 73], 2);
    let body = change(&world.state, &next, &[70, 71, 72, 73]);
    let tx = world.signed(OWNER, body);
    step(&mut world, vec![tx]);
    for _ in 1..BORDER_LAG {
        step(&mut world, Vec::new());
    }
    let before = world.state.clone();
    step(&mut world, Vec::new());
    let border = world.state.clone();
    step(&mut world, Vec::new());
    let after = world.state;
    let numbers = [&before, &border, &after].map(|state| state.term().unwrap().number);
    assert_eq!(numbers, [0, 1, 1]);
    Begun {
        before,
        border,
        after,
    }
});

/// As a world does, without a look at all that it made.
fn step(world: &mut World, txs: Vec<Signed<Tx>>) {
    let block = world.next_block(&[], txs);
    world.state.apply_checked(&block).unwrap();
}

fn open_groups(world: &mut World) {
    let begin = world.state.account(account(OWNER)).nonce;
    let txs = (begin..begin + 1_000).map(|nonce| {
        let tx = Tx {
            account: account(OWNER),
            nonce,
            fee: Amount::ZERO,
            body: open(1, 2),
        };
        world.sign(tx, OWNER)
    });
    let txs = txs.collect();
    step(world, txs);
    while world.state.has_draws() {
        step(world, Vec::new());
    }
}

/// A state's encoding in parts, with what attests another, or it.
fn parts(state: &State, attestation: &Attestation) -> Vec<SnapshotPart> {
    let encoded = state.encode();
    let cut = |place: u64| SnapshotPart::cut(attestation.clone(), &encoded, place << 20);
    (0..).map_while(cut).collect()
}

/// Those of the border.
fn whole() -> Vec<SnapshotPart> {
    let border = &BEGUN.border;
    let whole = parts(border, &attest(border));
    assert!(whole.len() > 1, "it does not fit one part");
    whole
}

fn answers(parts: Vec<SnapshotPart>) -> Vec<Answer> {
    let answer = |part| Answer::Snapshot(Box::new(part));
    parts.into_iter().map(answer).collect()
}

/// A client that is shown the newest term, then gets these answers.
fn after_term(answers: Vec<Answer>) -> RemoteLedger<Scripted> {
    let after = &BEGUN.after;
    let term = evidence_of(after, Question::Term);
    answering(after.ledger_id(), [term].into_iter().chain(answers))
}

/// What is made of such parts by who has one end to ask.
fn told(parts: Vec<SnapshotPart>) -> Fetched {
    let remote = after_term(answers(parts));
    let told = now(remote.snapshot());
    let turned = *remote.transport.turned.lock().unwrap();
    assert_eq!(
        turned,
        usize::from(told.is_err()),
        "who lies is turned away"
    );
    told
}

/// What was asked for after the term.
fn asked(remote: &RemoteLedger<Scripted>) -> Vec<LedgerRequest> {
    let requests = remote.transport.requests.lock().unwrap();
    requests.iter().skip(1).cloned().collect()
}

/// The requests for so many parts, from the first on.
fn requests(count: usize) -> Vec<LedgerRequest> {
    let request = |place: u64| LedgerRequest::Snapshot {
        term: 1,
        offset: place << 20,
    };
    (0..).map(request).take(count).collect()
}

#[test]
fn the_state_of_the_border_is_put_together_from_its_parts() {
    let count = whole().len();
    let remote = after_term(answers(whole()));
    let (state, attestation) = now(remote.snapshot()).unwrap().unwrap();
    assert!(state == BEGUN.border);
    assert_eq!(attestation, attest(&BEGUN.border));
    assert_eq!(state.term().unwrap().base.height, state.height());
    assert_eq!(asked(&remote), requests(count));
    // Nothing earlier than what was seen is believed because of that.
    assert_eq!(remote.seen(), BEGUN.after.height());
    // It goes on from there.
    let mut state = state;
    let world = World {
        state: state.clone(),
        blocks: Vec::new(),
    };
    state.apply(&world.next_block(&[], Vec::new())).unwrap();
    assert_eq!(state.root(), BEGUN.after.root());
}

#[test]
fn the_term_is_shown() {
    let remote = after_term(Vec::new());
    assert_eq!(now(remote.term()), Ok(BEGUN.after.term().cloned()));
}

/// A first term begins with the genesis, and a sequencer's ledger has none.
#[test]
fn without_a_border_there_is_nothing_to_fetch() {
    let plain = World::new(Parameters::default()).state;
    for state in [&BEGUN.before, &plain] {
        let remote = answering(state.ledger_id(), [evidence_of(state, Question::Term)]);
        assert_eq!(now(remote.snapshot()), Ok(None));
        assert_eq!(asked(&remote), []);
    }
}

/// Whatever is wrong with the parts, or missing.
fn broken() -> Vec<(&'static str, Vec<SnapshotPart>)> {
    let change = |change: &dyn Fn(&mut Vec<SnapshotPart>)| {
        let mut changed = whole();
        change(&mut changed);
        changed
    };
    let each =
        |change_one: &dyn Fn(&mut SnapshotPart)| change(&|it| it.iter_mut().for_each(change_one));
    let shortened = |part: &mut SnapshotPart, left: usize| {
        let bytes = part.bytes[..left].to_vec();
        part.bytes = Bounded::new(bytes).unwrap();
    };
    let flipped = |part: &mut SnapshotPart, at: usize| {
        let mut bytes = part.bytes.to_vec();
        bytes[at] ^= 1;
        part.bytes = Bounded::new(bytes).unwrap();
    };
    vec![
        ("nothing in all", each(&|it| it.total = 0)),
        ("one byte less in all", each(&|it| it.total -= 1)),
        ("one byte more in all", each(&|it| it.total += 1)),
        (
            "less in all than the first has",
            each(&|it| it.total = 1 << 19),
        ),
        (
            "more in all than a state has",
            each(&|it| it.total = STATE_BYTES_MAX + 1),
        ),
        (
            "as much in all as a number takes",
            each(&|it| it.total = u64::MAX),
        ),
        (
            "another number in all first",
            change(&|it| it[0].total += 1),
        ),
        ("another offset first", change(&|it| it[0].offset = 1)),
        ("another offset then", change(&|it| it[1].offset += 1)),
        ("the first again", change(&|it| it[1] = it[0].clone())),
        ("another order", change(&|it| it.swap(0, 1))),
        ("less than a part", change(&|it| shortened(&mut it[0], 9))),
        ("no bytes first", change(&|it| shortened(&mut it[0], 0))),
        ("no bytes then", change(&|it| shortened(&mut it[1], 0))),
        ("another kind", change(&|it| flipped(&mut it[0], 0))),
        ("another ledger", change(&|it| flipped(&mut it[0], 3))),
        ("another number", change(&|it| flipped(&mut it[0], 40))),
        (
            "another group",
            change(&|it| flipped(&mut it[0], SNAPSHOT_PART_BYTES / 2)),
        ),
        (
            "another end",
            change(&|it| {
                let last = it[1].bytes.len() - 1;
                flipped(&mut it[1], last);
            }),
        ),
        (
            "another attestation then",
            change(&|it| it[1].attestation = attest(&BEGUN.after)),
        ),
    ]
}

#[test]
fn parts_that_are_not_those_of_the_state_are_refused() {
    for (what, parts) in broken() {
        let told = told(parts);
        assert!(matches!(told, Err(LedgerError::Answer)), "{what}");
    }
}

/// Another state, or what nobody attests of it: each field of what is attested counts.
#[test]
fn a_state_that_is_not_the_one_attested_at_the_border_is_refused() {
    let (before, border, after) = (&BEGUN.before, &BEGUN.border, &BEGUN.after);
    let honest = border.attested();
    let told_of = |change: &dyn Fn(&mut Attested)| {
        let mut lie = honest;
        change(&mut lie);
        parts(border, &Attestation::sign(lie, &key(SEQUENCER)))
    };
    let other = Digest::of(b"another");
    let height = after.height();
    assert_ne!(ledger(), border.ledger_id());
    let nobodys = Attestation::Validators(honest, [0xc0; 48]);
    let lies = [
        ("the state before", parts(before, &attest(border))),
        ("the state after", parts(after, &attest(border))),
        ("all of the one before", parts(before, &attest(before))),
        ("all of the one after", parts(after, &attest(after))),
        ("the true one of after", parts(border, &attest(after))),
        ("another height", told_of(&|lie| lie.height = height)),
        ("another root", told_of(&|lie| lie.root = other)),
        ("another chain", told_of(&|lie| lie.chain = other)),
        (
            "another time",
            told_of(&|lie| lie.time = UnixMillis::new(1)),
        ),
        ("another ledger", told_of(&|lie| lie.ledger = ledger())),
        (
            "another's signature",
            parts(border, &Attestation::sign(honest, &key(7))),
        ),
        ("no signature of validators", parts(border, &nobodys)),
    ];
    for (what, parts) in lies {
        let told = told(parts);
        assert!(matches!(told, Err(LedgerError::Answer)), "{what}");
    }
}

#[test]
fn who_does_not_have_it_or_lies_is_left_for_another() {
    let count = whole().len();
    let none = LedgerError::NoSnapshot { term: 1 };
    let mut late = whole();
    late[1].offset += 1;
    late.truncate(2);
    // Turned away at once, or in the middle: the next is asked for all of it.
    let cases = [
        (vec![Answer::Error(none.clone())], 1),
        (vec![evidence_of(&BEGUN.after, Question::Term)], 1),
        (answers(late), 2),
    ];
    for (first, asked_first) in cases {
        let all = first.into_iter().chain(answers(whole()));
        let mut remote = after_term(all.collect());
        remote.transport.ends = 2;
        let (state, _) = now(remote.snapshot()).unwrap().unwrap();
        assert!(state == BEGUN.border);
        let expected = [requests(asked_first), requests(count)].concat();
        assert_eq!(asked(&remote), expected);
        assert_eq!(*remote.transport.turned.lock().unwrap(), 1);
    }
    let nobody = vec![Answer::Error(none.clone()), Answer::Error(none.clone())];
    let mut remote = after_term(nobody);
    remote.transport.ends = 2;
    assert_eq!(now(remote.snapshot()), Err(none));
    assert_eq!(asked(&remote), [requests(1), requests(1)].concat());
}

#[test]
fn a_part_is_as_many_bytes_as_there_are_left_or_fit() {
    let attestation = || attest(&BEGUN.border);
    let encoded = vec![7; SNAPSHOT_PART_BYTES + 3];
    let cut = |offset: usize| {
        let offset = u64::try_from(offset).unwrap();
        let part = SnapshotPart::cut(attestation(), &encoded, offset)?;
        let end = part.end(offset);
        Some((part.bytes.len(), end.map(|end| end - offset)))
    };
    let full = u64::try_from(SNAPSHOT_PART_BYTES).unwrap();
    assert_eq!(cut(0), Some((SNAPSHOT_PART_BYTES, Some(full))));
    assert_eq!(cut(3), Some((SNAPSHOT_PART_BYTES, Some(full))));
    assert_eq!(cut(4), Some((SNAPSHOT_PART_BYTES - 1, Some(full - 1))));
    assert_eq!(cut(SNAPSHOT_PART_BYTES), Some((3, Some(3))));
    assert_eq!(cut(SNAPSHOT_PART_BYTES + 3), None);
    assert_eq!(cut(SNAPSHOT_PART_BYTES + 4), None);
    // The widest fits a response.
    let part = SnapshotPart::cut(attestation(), &encoded, 0).unwrap();
    let answer = Answer::Snapshot(Box::new(part));
    let bytes = encoded_answer(answer);
    assert!(bytes <= <LedgerResponse as Record>::BYTES_MAX);
}

fn encoded_answer(answer: Answer) -> usize {
    encoded(BEGUN.border.ledger_id(), answer).len()
}
