//! Answers to requests from elsewhere.

use cairn_core::{Height, NodeId, Record};
use cairn_ledger::wire::SLOTS_PAGE_MAX;
use cairn_ledger::{Answer, LedgerError, LedgerRequest, LedgerResponse, State};
use cairn_runtime::Runtime;

use crate::admission::Wait;
use crate::core::{Core, busy};
use crate::mempool::{Source, Submitted};

/// Answers a peer's encoded request with an encoded response.
pub(crate) async fn answer<R: Runtime>(core: &Core<R>, peer: NodeId, request: &[u8]) -> Vec<u8> {
    let (height, answer) = match LedgerRequest::decode(request) {
        Ok(request) => admit(core, peer, request).await,
        Err(_) => failed(core, LedgerError::Request),
    };
    let response = LedgerResponse {
        ledger: core.ledger,
        height,
        answer,
    };
    response.encode()
}

/// Responds within the peer's share.
async fn admit<R: Runtime>(
    core: &Core<R>,
    peer: NodeId,
    request: LedgerRequest,
) -> (Height, Answer) {
    let wait = match request {
        LedgerRequest::Effects { .. } => Wait::Poll,
        LedgerRequest::Submit(_)
        | LedgerRequest::Prove { .. }
        | LedgerRequest::Account(_)
        | LedgerRequest::Node(_)
        | LedgerRequest::Group(_)
        | LedgerRequest::Slots { .. }
        | LedgerRequest::Challenge { .. }
        | LedgerRequest::Audits(_)
        | LedgerRequest::View(_)
        | LedgerRequest::Status => Wait::Answer,
    };
    match core.admission.enter(peer, wait, core.runtime.monotonic()) {
        Ok(_pass) => respond(core, peer, request).await,
        Err(full) => failed(core, busy(full)),
    }
}

async fn respond<R: Runtime>(
    core: &Core<R>,
    peer: NodeId,
    request: LedgerRequest,
) -> (Height, Answer) {
    let read = |what: &dyn Fn(&State) -> Answer| core.read(|state| (state.height(), what(state)));
    let result = match request {
        LedgerRequest::Submit(tx) => {
            let tx = Submitted {
                tx: *tx,
                witness: None,
            };
            let submit = core.submit(tx, Source::Peer(peer));
            submit.await.map(Answer::Done)
        }
        LedgerRequest::Prove { tx, witness } => {
            let tx = Submitted {
                tx: *tx,
                witness: Some(witness),
            };
            let submit = core.submit(tx, Source::Peer(peer));
            submit.await.map(Answer::Done)
        }
        LedgerRequest::Effects { from } => core.effects(from).await.map(Answer::Effects),
        LedgerRequest::View(request) => core.look(&request).map(Answer::View),
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
        LedgerRequest::Audits(auditor) => {
            return read(&|state| Answer::Audits(state.audit_page(auditor).map(Box::new)));
        }
    };
    match result {
        Ok(answer) => (core.read(State::height), answer),
        Err(error) => failed(core, error),
    }
}

fn failed<R: Runtime>(core: &Core<R>, error: LedgerError) -> (Height, Answer) {
    (core.read(State::height), Answer::Error(error))
}
