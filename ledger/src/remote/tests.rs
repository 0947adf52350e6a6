//! Answers that a remote end should not give.

mod registry;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use cairn_core::{Amount, GroupId, SlotIndex};

use super::*;
use crate::group::DealState;
use crate::sample::{OWNER, World, account, ledger, node, slot};
use crate::state::State;
use crate::tx::{TxBody, tx_id};
use crate::tx_error::TxError;

/// What a transport gives.
type Reply = Result<Vec<u8>, TransportError>;

/// Answers each request from a script, or with a failure.
#[derive(Clone, Debug)]
struct Scripted {
    requests: Arc<Mutex<Vec<LedgerRequest>>>,
    answers: Arc<Mutex<Vec<Reply>>>,
}

impl LedgerTransport for Scripted {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let request = LedgerRequest::decode(&request).unwrap();
        self.requests.lock().unwrap().push(request);
        self.answers.lock().unwrap().remove(0)
    }
}

fn scripted(answers: Vec<Reply>) -> RemoteLedger<Scripted> {
    let transport = Scripted {
        requests: Arc::default(),
        answers: Arc::new(Mutex::new(answers)),
    };
    RemoteLedger::new(transport, ledger())
}

fn answering(answers: Vec<Answer>) -> RemoteLedger<Scripted> {
    let encode = |answer| {
        let height = Height::new(9);
        let response = LedgerResponse {
            ledger: ledger(),
            height,
            answer,
        };
        Ok(response.encode())
    };
    scripted(answers.into_iter().map(encode).collect())
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

fn world() -> (World, GroupId) {
    let mut world = World::with_nodes(8, &[(1, 1, 1); 4]);
    let id = world.place(2, 4);
    (world, id)
}

#[test]
fn an_answer_to_another_question_breaks_the_protocol() {
    let (world, id) = world();
    let group = world.group(id).clone();
    let entry = world.state.node(node(10)).cloned();
    let amount = Amount::from_micro(1);
    let to = account(2);
    let tx = world.signed(OWNER, TxBody::Transfer { to, amount });
    let outcome = |tx| TxOutcome {
        id: tx_id(tx),
        height: Height::new(3),
    };
    let other = world.signed(OWNER, TxBody::NodeDrain);
    let broken = LedgerError::Answer;

    let ledger = answering(vec![
        Answer::Done(outcome(&tx)),
        Answer::Done(outcome(&other)),
    ]);
    assert_eq!(now(ledger.submit(tx.clone())), Ok(outcome(&tx)));
    assert_eq!(now(ledger.submit(tx)), Err(broken.clone()));

    let ledger = answering(vec![
        Answer::Group(Some(group.clone())),
        Answer::Group(Some(group.clone())),
        Answer::Group(None),
        Answer::Node(None),
    ]);
    assert_eq!(now(ledger.group(id)), Ok(Some(group)));
    assert_eq!(now(ledger.group(GroupId::default())), Err(broken.clone()));
    assert_eq!(now(ledger.group(id)), Ok(None));
    assert_eq!(now(ledger.group(id)), Err(broken.clone()));

    let ledger = answering(vec![
        Answer::Node(entry.clone()),
        Answer::Node(entry.clone()),
    ]);
    assert_eq!(now(ledger.node(node(10))), Ok(entry));
    assert_eq!(now(ledger.node(node(11))), Err(broken.clone()));

    let block = |height| BlockEffects {
        height: Height::new(height),
        time: world.state.time(),
        effects: Vec::new(),
    };
    let ledger = answering(vec![
        Answer::Effects(vec![block(4), block(5)]),
        Answer::Effects(vec![block(5)]),
        Answer::Effects(Vec::new()),
        Answer::Effects(vec![block(4), block(6)]),
    ]);
    assert_eq!(
        now(ledger.effects(Height::new(4))).map(|blocks| blocks.len()),
        Ok(2)
    );
    assert_eq!(now(ledger.effects(Height::new(4))), Err(broken.clone()));
    assert_eq!(now(ledger.effects(Height::new(4))), Ok(Vec::new()));
    assert_eq!(now(ledger.effects(Height::new(4))), Err(broken), "a gap");
}

#[test]
fn failures_say_what_to_do_and_whose_they_are() {
    use cairn_core::{Blame, ErrorCode, Retry};
    let refused = LedgerError::Refused(TxError::AmountZero);
    let answered = LedgerResponse {
        ledger: ledger(),
        height: Height::ZERO,
        answer: Answer::Error(refused.clone()),
    };
    let ledger = scripted(vec![
        Err(TransportError::TimedOut),
        Err(TransportError::Refused(ErrorCode::Unsupported)),
        Ok(vec![1, 2, 3]),
        Ok(answered.encode()),
    ]);
    let expected = [
        (Retry::Later, Blame::World),
        (Retry::Never, Blame::Us),
        (Retry::Elsewhere, Blame::Peer),
        (Retry::Never, Blame::Caller),
    ];
    for (retry, blame) in expected {
        let error = now(ledger.status()).unwrap_err();
        assert_eq!((error.retry(), error.blame()), (retry, blame), "{error}");
    }
}

#[test]
fn the_answers_of_another_ledger_are_refused() {
    let other = LedgerId::new(cairn_core::Digest::of(b"another"));
    let (world, _) = world();
    let status = world.state.status();
    for answer in [Answer::Status(status), Answer::Error(LedgerError::Stopped)] {
        let response = LedgerResponse {
            ledger: other,
            height: Height::ZERO,
            answer,
        };
        let remote = scripted(vec![Ok(response.encode())]);
        let error = LedgerError::OtherLedger {
            expected: ledger(),
            found: other,
        };
        assert_eq!(remote.id(), ledger());
        assert_eq!(now(remote.status()), Err(error));
    }
}

#[test]
fn pages_of_slots_are_put_together_and_must_rise() {
    let id = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        GroupId::new(cairn_core::Digest::new(bytes))
    };
    let most = u32::try_from(SLOTS_PAGE_MAX).unwrap();
    let page = |from: u32, count: u32| {
        Answer::Slots(
            (from..from + count)
                .map(|number| slot(id(number), 3))
                .collect(),
        )
    };
    let ledger = answering(vec![page(0, most), page(most, 5)]);
    let slots = now(ledger.slots_of(node(10))).unwrap();
    assert_eq!(slots.len(), SLOTS_PAGE_MAX + 5);
    assert!(slots.is_sorted());
    assert_eq!(slots[7].slot, SlotIndex::new(3));
    let asked = ledger.transport.requests.lock().unwrap().clone();
    let after = slots.get(SLOTS_PAGE_MAX - 1).copied();
    let node = node(10);
    let first = LedgerRequest::Slots { node, after: None };
    assert_eq!(asked, [first, LedgerRequest::Slots { node, after }]);
    // A last page that is empty will do; one that goes back won't.
    let ledger = answering(vec![page(0, most), page(0, 0)]);
    assert_eq!(
        now(ledger.slots_of(node)).map(|slots| slots.len()),
        Ok(SLOTS_PAGE_MAX)
    );
    let ledger = answering(vec![page(0, most), page(most - 1, 5)]);
    assert_eq!(now(ledger.slots_of(node)), Err(LedgerError::Answer));
    // One that never ends is ended.
    let endless = (0..1024).map(|number| page(number * most, most)).collect();
    let ledger = answering(endless);
    assert_eq!(now(ledger.slots_of(node)), Err(LedgerError::Answer));
}

#[test]
fn a_group_whose_deals_are_not_n_is_refused() {
    let (world, id) = world();
    let mut group = world.group(id).clone();
    assert!(group.deals.iter().all(|deal| deal.state == DealState::Held));
    group.deals.pop();
    let ledger = answering(vec![Answer::Group(Some(group))]);
    assert_eq!(now(ledger.group(id)), Err(LedgerError::Answer));
    let status = State::status(&world.state);
    let ledger = answering(vec![Answer::Status(status)]);
    assert_eq!(now(ledger.status()), Ok(status));
}

#[test]
fn a_view_of_something_else_breaks_the_protocol() {
    use crate::view::{View, ViewRequest};

    let (world, id) = world();
    let state = &world.state;
    let group_proof = state.group_proof(id).map(Box::new);
    let mut lying = state.earnings_view(node(10)).unwrap();
    lying.balance = Amount::from_micro(1);
    let ask = |view: View| answering(vec![Answer::View(view)]);
    let broken = LedgerError::Answer;

    let ledger = ask(View::Earnings(state.earnings_view(node(11)).map(Box::new)));
    assert_eq!(now(ledger.earnings(node(10))), Err(broken.clone()));
    let ledger = ask(View::Earnings(Some(Box::new(lying))));
    assert_eq!(now(ledger.earnings(node(10))), Err(broken.clone()));
    let ledger = ask(View::Proven(group_proof));
    let other = now(ledger.group_proof(GroupId::default()));
    assert_eq!(other, Err(broken.clone()));
    let all = state.nodes_page(None);
    let ledger = ask(View::Nodes(all.clone()));
    let page = now(ledger.nodes_page(Some(all[1].node)));
    assert_eq!(page, Err(broken.clone()));
    let ledger = ask(View::Groups(state.groups_page(None, None)));
    let page = now(ledger.groups_page(Some(account(3)), None));
    assert_eq!(page, Err(broken.clone()));
    let ledger = ask(View::Epoch(state.epoch_view()));
    assert_eq!(now(ledger.blocks(Height::new(3))), Err(broken.clone()));
    let ledger = answering(vec![Answer::Group(None)]);
    assert_eq!(now(ledger.epoch_view()), Err(broken));
    let asked = ledger.transport.requests.lock().unwrap().pop();
    assert_eq!(asked, Some(LedgerRequest::View(ViewRequest::Epoch)));
}
