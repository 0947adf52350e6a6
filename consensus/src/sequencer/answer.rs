//! Answers to requests from elsewhere.

use cairn_core::{Height, Record};
use cairn_ledger::wire::SLOTS_PAGE_MAX;
use cairn_ledger::{Answer, Ledger, LedgerError, LedgerRequest, LedgerResponse, State};
use cairn_runtime::Runtime;

use super::Sequencer;

/// Answers an encoded request with an encoded response.
pub(super) async fn answer<R: Runtime>(sequencer: &Sequencer<R>, request: &[u8]) -> Vec<u8> {
    let (height, answer) = match LedgerRequest::decode(request) {
        Ok(request) => respond(sequencer, request).await,
        Err(_) => failed(sequencer, LedgerError::Request),
    };
    LedgerResponse { height, answer }.encode()
}

async fn respond<R: Runtime>(sequencer: &Sequencer<R>, request: LedgerRequest) -> (Height, Answer) {
    let read = |what: &dyn Fn(&State) -> Answer| {
        sequencer
            .owner
            .core
            .read(|state| (state.height(), what(state)))
    };
    let result = match request {
        LedgerRequest::Submit(tx) => sequencer.submit(*tx).await.map(Answer::Done),
        LedgerRequest::Effects { from } => sequencer.effects(from).await.map(Answer::Effects),
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
