//! Answers that a remote end should not give, and those that it should.

mod chains;
mod lies;
mod snapshots;

use std::future::Future;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use cairn_core::{Amount, Digest, Right, TransportError, UnixMillis};

use super::*;
use crate::genesis::Parameters;
use crate::registry::{RegistryTx, volume_id};
use crate::sample::shown::{Shown, evidence, questions};
use crate::sample::{
    OWNER, World, account, acknowledge, attest, key, ledger, ledger_key, node, revise, slot,
};
use crate::state::State;
use crate::ticket::AUDITS_MAX;
use crate::tx::{TxBody, tx_id};
use crate::tx_error::TxError;

/// What a transport gives.
type Reply = Result<Vec<u8>, TransportError>;

/// Answers each request from a script, or with a failure.
#[derive(Clone, Debug, Default)]
struct Scripted {
    requests: Arc<Mutex<Vec<LedgerRequest>>>,
    answers: Arc<Mutex<Vec<Reply>>>,
    /// How often whoever answers was turned away.
    turned: Arc<Mutex<usize>>,
    /// How many can be asked, if more than one.
    ends: usize,
}

impl LedgerTransport for Scripted {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let request = LedgerRequest::decode(&request).unwrap();
        self.requests.lock().unwrap().push(request);
        self.answers.lock().unwrap().remove(0)
    }

    fn end_count(&self) -> usize {
        self.ends.max(1)
    }

    fn turn_away(&self) {
        *self.turned.lock().unwrap() += 1;
    }
}

fn scripted_of(id: LedgerId, answers: Vec<Reply>) -> RemoteLedger<Scripted> {
    let transport = Scripted {
        answers: Arc::new(Mutex::new(answers)),
        ..Scripted::default()
    };
    RemoteLedger::new(transport, id, ledger_key())
}

fn scripted(answers: Vec<Reply>) -> RemoteLedger<Scripted> {
    scripted_of(ledger(), answers)
}

fn encoded(ledger: LedgerId, answer: Answer) -> Vec<u8> {
    LedgerResponse { ledger, answer }.encode()
}

/// A ledger's client whose other end gives these answers.
fn answering(id: LedgerId, answers: impl IntoIterator<Item = Answer>) -> RemoteLedger<Scripted> {
    let answers = answers.into_iter();
    scripted_of(id, answers.map(|answer| Ok(encoded(id, answer))).collect())
}

/// The output of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("expected an output at once"),
    }
}

/// The nodes of [`world`].
const NODES: [u8; 5] = [10, 11, 12, 13, 14];

/// A ledger with epochs on which every question has something to see.
fn world() -> World {
    world_of(&NODES)
}

/// The same, of whose nodes these have proven in the epoch before what they had.
fn world_of(provers: &[u8]) -> World {
    let parameters = Parameters {
        epoch_millis: 20,
        ..Parameters::default()
    };
    let places = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5)];
    let mut world = World::with_nodes_on(parameters, 8, &places);
    let id = world.place(2, 4);
    let other = world.place(2, 4);
    world.accept(OWNER, revise(id, 1, 5));
    for place in (0..4).map(|index| slot(id, index)) {
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    world.accept(OWNER, revise(other, 1, 5));
    let registration = RegistryTx::VolumeRegister {
        descriptor: Default::default(),
    };
    let tx = world.signed(OWNER, TxBody::Registry(registration));
    let volume = volume_id(tx_id(&tx));
    world.submit(tx).1.unwrap();
    let grant = RegistryTx::GrantMake {
        volume,
        holder: account(9).key(),
        right: Right::Read,
        expires_at: UnixMillis::new(5_000),
    };
    let digest = Digest::of(b"a file");
    for asked in [grant, RegistryTx::Notarise { digest }] {
        world.accept(OWNER, TxBody::Registry(asked));
    }
    world.pass_to_epoch(2);
    world.prove(provers);
    world.pass_to_epoch(3);
    let place = slot(other, 0);
    world.accept(world.holder(place), acknowledge(place, 1));
    world
}

/// Every kind of question, some of which see nothing.
fn every_question(state: &State) -> Vec<Question> {
    let mut all = questions(state, |_| 0);
    all.extend(questions(state, |count| count - 1));
    all
}

fn evidence_of(state: &State, question: Question) -> Answer {
    Answer::Evidence(Box::new(evidence(state, question)))
}

#[test]
fn what_is_shown_is_seen_as_the_ledger_sees_it() {
    let world = world();
    let state = &world.state;
    for question in every_question(state) {
        let remote = answering(state.ledger_id(), [evidence_of(state, question)]);
        assert_eq!(now(remote.ask(question)), Ok(state.ask(question)));
        let asked = remote.transport.requests.lock().unwrap().clone();
        let at_least = Height::ZERO;
        assert_eq!(asked, [LedgerRequest::Ask { question, at_least }]);
    }
    // And by the methods that people call.
    let holder = state.nodes().next().unwrap().node;
    let answers = [
        evidence_of(state, Question::Status),
        evidence_of(state, Question::Account(account(OWNER))),
        evidence_of(state, Question::Node(holder)),
        evidence_of(state, Question::Epoch),
    ];
    let remote = answering(state.ledger_id(), answers);
    assert_eq!(now(remote.status()), Ok(state.status()));
    let owner = state.account(account(OWNER));
    assert_eq!(now(remote.account(account(OWNER))), Ok(owner));
    assert_eq!(now(remote.node(holder)), Ok(state.node(holder).cloned()));
    assert_eq!(now(remote.epoch_view()).unwrap().epoch, *state.epoch());
    assert_eq!(*remote.transport.turned.lock().unwrap(), 0);
}

#[test]
fn what_was_seen_is_asked_for_again_or_later() {
    let world = world();
    let shown = Shown::of(&world);
    let last = shown.last();
    let question = Question::Status;
    let at = |height: u64| Answer::Evidence(Box::new(shown.evidence(height, question)));
    let remote = answering(
        world.state.ledger_id(),
        [at(last - 2), at(last - 2), at(last), at(last - 1)],
    );
    for _ in 0..3 {
        now(remote.status()).unwrap();
    }
    let asked = remote.transport.requests.lock().unwrap().clone();
    let heights = [0, last - 2, last - 2].map(|height| LedgerRequest::Ask {
        question,
        at_least: Height::new(height),
    });
    assert_eq!(asked, heights);
    let behind = LedgerError::Behind {
        expected: Height::new(last),
        found: Height::new(last - 1),
    };
    assert_eq!(now(remote.status()), Err(behind));
    assert_eq!(*remote.transport.turned.lock().unwrap(), 1);
}

/// Of a height that was seen before the client was started anew, nothing earlier is believed.
#[test]
fn nothing_below_what_is_expected_is_believed() {
    let world = world();
    let shown = Shown::of(&world);
    let last = shown.last();
    let question = Question::Status;
    let at = |height: u64| Answer::Evidence(Box::new(shown.evidence(height, question)));
    let remote = answering(world.state.ledger_id(), [at(last - 1), at(last), at(last)]);
    remote.expect_at_least(Height::new(last));
    assert_eq!(remote.seen(), Height::new(last));
    let behind = LedgerError::Behind {
        expected: Height::new(last),
        found: Height::new(last - 1),
    };
    assert_eq!(now(remote.status()), Err(behind));
    assert!(now(remote.status()).is_ok());
    remote.expect_at_least(Height::new(1));
    assert_eq!(remote.seen(), Height::new(last), "it only rises");
    assert!(now(remote.status()).is_ok());
}

/// Who gives tickets of its own is left for another end, which is believed for what it shows.
#[test]
fn nobody_gives_audit_tickets_of_its_own() {
    let state = world().state;
    // As if others had proven something.
    let made_up = world_of(&NODES[..3]).state;
    assert_eq!(made_up.height(), state.height());
    let mut numbers = NODES.into_iter().flat_map(|auditor| {
        let numbers = (0..=u8::MAX).take(AUDITS_MAX);
        numbers.map(move |number| (node(auditor), number))
    });
    let tells = |(auditor, number): &(NodeId, u8)| {
        let seen = state.audit_ticket(*auditor, *number);
        let has_ticket = seen.is_some_and(|view| view.ticket.is_some());
        has_ticket && made_up.audit_ticket(*auditor, *number) != seen
    };
    let (auditor, number) = numbers.find(tells).unwrap();
    let expected = state.audit_ticket(auditor, number);
    let question = Question::Audit { auditor, number };
    let own_key = Attestation::sign(made_up.attested(), &key(7));
    for attestation in [own_key, attest(&state), attest(&world_of(&[]).state)] {
        let mut lie = evidence(&made_up, question);
        lie.attestation = attestation;
        let lie = Answer::Evidence(Box::new(lie));
        let answers = [lie, evidence_of(&state, question)];
        let mut remote = answering(state.ledger_id(), answers);
        remote.transport.ends = 2;
        assert_eq!(now(remote.audit_ticket(auditor, number)), Ok(expected));
        assert_eq!(*remote.transport.turned.lock().unwrap(), 1);
    }
}

#[test]
fn failures_say_what_to_do_and_whose_they_are() {
    use cairn_core::{Blame, ErrorCode, Retry};
    let refused = LedgerError::Refused(TxError::AmountZero);
    let behind = LedgerError::Behind {
        expected: Height::new(2),
        found: Height::new(1),
    };
    let remote = scripted(vec![
        Err(TransportError::TimedOut),
        Err(TransportError::Refused(ErrorCode::Unsupported)),
        Ok(vec![1, 2, 3]),
        Ok(encoded(ledger(), Answer::Error(refused))),
        Ok(encoded(ledger(), Answer::Error(behind))),
    ]);
    let expected = [
        (Retry::Later, Blame::World),
        (Retry::Never, Blame::Us),
        (Retry::Elsewhere, Blame::Peer),
        (Retry::Never, Blame::Caller),
        (Retry::Elsewhere, Blame::World),
    ];
    for (retry, blame) in expected {
        let error = now(remote.status()).unwrap_err();
        assert_eq!((error.retry(), error.blame()), (retry, blame), "{error}");
    }
    // Only whoever gave an answer that is no good, or has nothing, is turned away.
    assert_eq!(*remote.transport.turned.lock().unwrap(), 2);
}

#[test]
fn the_answers_of_another_ledger_are_refused() {
    let other = LedgerId::new(Digest::of(b"another"));
    let world = World::new(Parameters::default());
    let status = evidence_of(&world.state, Question::Status);
    for answer in [status, Answer::Error(LedgerError::Stopped)] {
        let remote = scripted(vec![Ok(encoded(other, answer))]);
        let error = LedgerError::OtherLedger {
            expected: ledger(),
            found: other,
        };
        assert_eq!(remote.id(), ledger());
        assert_eq!(now(remote.status()), Err(error));
    }
}

/// A ledger on which one node holds more slots than fit a page.
fn crowded() -> (World, usize) {
    let places = [(1, 1, 1), (2, 2, 2)];
    let count = SLOTS_PAGE_MAX + 5;
    let mut world = World::with_nodes(u64::try_from(count).unwrap(), &places);
    let body = |nonce: u64| Tx {
        account: account(OWNER),
        nonce,
        fee: Amount::ZERO,
        body: TxBody::GroupOpen {
            code: cairn_core::Code::new(1, 2).unwrap(),
            slot_capacity: cairn_core::ByteCount::new(1 << 20),
            price_max: Amount::from_micro(10),
            term_epochs: 1,
            escrow: Amount::ZERO,
        },
    };
    let mut opened = 0_u64;
    while opened < u64::try_from(count).unwrap() {
        let end = u64::try_from(count).unwrap().min(opened + 1_000);
        let txs = (opened..end)
            .map(|nonce| world.sign(body(nonce), OWNER))
            .collect();
        let block = world.next_block(&[], txs);
        world.state.apply_checked(&block).unwrap();
        opened = end;
    }
    while world.state.has_draws() {
        let block = world.next_block(&[], Vec::new());
        world.state.apply_checked(&block).unwrap();
    }
    (world, count)
}

#[test]
fn pages_of_slots_are_put_together() {
    let (world, count) = crowded();
    let (state, node) = (&world.state, node(10));
    let all: Vec<SlotRef> = state.slots_of(node, None).collect();
    assert_eq!(all.len(), count);
    let page = |after| Question::Slots { node, after };
    let after = all.get(SLOTS_PAGE_MAX - 1).copied();
    let pages = [page(None), page(after)];
    let ledger = answering(ledger(), pages.map(|page| evidence_of(state, page)));
    assert_eq!(now(ledger.slots_of(node)), Ok(all));
    let asked = ledger.transport.requests.lock().unwrap().clone();
    let asked: Vec<Question> = asked
        .into_iter()
        .map(|request| match request {
            LedgerRequest::Ask { question, .. } => question,
            other => panic!("expected a question, found {other:?}"),
        })
        .collect();
    assert_eq!(asked, pages);
    // A page of something else in between is none.
    let ledger = answering(
        ledger_of(state),
        [page(None), page(None)].map(|page| evidence_of(state, page)),
    );
    assert_eq!(now(ledger.slots_of(node)), Err(LedgerError::Answer));
}

fn ledger_of(state: &State) -> LedgerId {
    state.ledger_id()
}
