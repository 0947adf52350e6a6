//! Answers to requests from elsewhere.

use cairn_core::{Height, NodeId, Record};
use cairn_ledger::wire::SLOTS_PAGE_MAX;
use cairn_ledger::{Answer, Ledger, LedgerError, LedgerRequest, LedgerResponse, State};
use cairn_runtime::Runtime;

use super::Sequencer;
use super::core::busy;
use crate::admission::Wait;
use crate::mempool::{Source, Submitted};

/// Answers a peer's encoded request with an encoded response.
pub(super) async fn answer<R: Runtime>(
    sequencer: &Sequencer<R>,
    peer: NodeId,
    request: &[u8],
) -> Vec<u8> {
    let (height, answer) = match LedgerRequest::decode(request) {
        Ok(request) => admit(sequencer, peer, request).await,
        Err(_) => failed(sequencer, LedgerError::Request),
    };
    let response = LedgerResponse {
        ledger: sequencer.id(),
        height,
        answer,
    };
    response.encode()
}

/// Responds within the peer's share.
async fn admit<R: Runtime>(
    sequencer: &Sequencer<R>,
    peer: NodeId,
    request: LedgerRequest,
) -> (Height, Answer) {
    let core = &sequencer.owner.core;
    let wait = match request {
        LedgerRequest::Effects { .. } => Wait::Poll,
        LedgerRequest::Submit(_)
        | LedgerRequest::Prove { .. }
        | LedgerRequest::Account(_)
        | LedgerRequest::Node(_)
        | LedgerRequest::Group(_)
        | LedgerRequest::Slots { .. }
        | LedgerRequest::Challenge { .. }
        | LedgerRequest::View(_)
        | LedgerRequest::Status => Wait::Answer,
    };
    match core.admission.enter(peer, wait, core.runtime.monotonic()) {
        Ok(_pass) => respond(sequencer, peer, request).await,
        Err(full) => failed(sequencer, busy(full)),
    }
}

async fn respond<R: Runtime>(
    sequencer: &Sequencer<R>,
    peer: NodeId,
    request: LedgerRequest,
) -> (Height, Answer) {
    let read = |what: &dyn Fn(&State) -> Answer| {
        sequencer
            .owner
            .core
            .read(|state| (state.height(), what(state)))
    };
    let result = match request {
        LedgerRequest::Submit(tx) => {
            let tx = Submitted {
                tx: *tx,
                witness: None,
            };
            let submit = sequencer.owner.core.submit(tx, Source::Peer(peer));
            submit.await.map(Answer::Done)
        }
        LedgerRequest::Prove { tx, witness } => {
            let tx = Submitted {
                tx: *tx,
                witness: Some(witness),
            };
            let submit = sequencer.owner.core.submit(tx, Source::Peer(peer));
            submit.await.map(Answer::Done)
        }
        LedgerRequest::Effects { from } => sequencer.effects(from).await.map(Answer::Effects),
        LedgerRequest::View(request) => sequencer.owner.core.look(&request).map(Answer::View),
        LedgerRequest::Account(id) => {
            return read(&|state| Answer::Account(state.account(id)));
        }
        LedgerRequest::Node(id) => {
            return read(&|state| Answer::Node(state.node(id).cloned()));
        }
        LedgerRequest::Group(id) => {
            return read(&|state| Answer::Group(state.group(id).cloned()));
        }
        LedgerRequest::Slots { node, after } => {
            return read(&|state| {
                Answer::Slots(state.slots_of(node, after).take(SLOTS_PAGE_MAX).collect())
            });
        }
        LedgerRequest::Status => return read(&|state| Answer::Status(state.status())),
        LedgerRequest::Challenge { node, after } => {
            return read(&|state| {
                Answer::Challenge(state.challenge_page(node, after).map(Box::new))
            });
        }
    };
    match result {
        Ok(answer) => (sequencer.owner.core.read(State::height), answer),
        Err(error) => failed(sequencer, error),
    }
}

fn failed<R: Runtime>(sequencer: &Sequencer<R>, error: LedgerError) -> (Height, Answer) {
    (
        sequencer.owner.core.read(State::height),
        Answer::Error(error),
    )
}
