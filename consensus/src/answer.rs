//! Answers to requests from elsewhere.

use cairn_core::{NodeId, Record, Signed};
use cairn_ledger::{Answer, LedgerError, LedgerRequest, LedgerResponse, Tx, Witness};
use cairn_runtime::Runtime;

use crate::admission::Wait;
use crate::core::{Core, busy};
use crate::mempool::{Source, Submitted};

/// Answers a peer's encoded request with an encoded response.
pub(crate) async fn answer<R: Runtime>(core: &Core<R>, peer: NodeId, request: &[u8]) -> Vec<u8> {
    let answer = match LedgerRequest::decode(request) {
        Ok(request) => admit(core, peer, request).await,
        Err(_) => Err(LedgerError::Request),
    };
    let response = LedgerResponse {
        ledger: core.ledger,
        answer: answer.unwrap_or_else(Answer::Error),
    };
    response.encode()
}

/// Responds within the peer's share.
async fn admit<R: Runtime>(
    core: &Core<R>,
    peer: NodeId,
    request: LedgerRequest,
) -> Result<Answer, LedgerError> {
    let wait = match request {
        LedgerRequest::Effects { .. } => Wait::Poll,
        LedgerRequest::Submit(_)
        | LedgerRequest::Prove { .. }
        | LedgerRequest::Ask { .. }
        | LedgerRequest::Blocks { .. }
        | LedgerRequest::Snapshot { .. }
        | LedgerRequest::Tx(_) => Wait::Answer,
    };
    let now = core.runtime.monotonic();
    let _pass = core.admission.enter(peer, wait, now).map_err(busy)?;
    respond(core, peer, request).await
}

async fn respond<R: Runtime>(
    core: &Core<R>,
    peer: NodeId,
    request: LedgerRequest,
) -> Result<Answer, LedgerError> {
    match request {
        LedgerRequest::Submit(tx) => submit(core, peer, *tx, None).await,
        LedgerRequest::Prove { tx, witness } => submit(core, peer, *tx, Some(witness)).await,
        LedgerRequest::Ask { question, at_least } => {
            let evidence = core.evidence(question, at_least).await?;
            Ok(Answer::Evidence(Box::new(evidence)))
        }
        LedgerRequest::Effects { from } => {
            let blocks = core.shown_effects(from).await?;
            Ok(Answer::Effects(Box::new(blocks)))
        }
        LedgerRequest::Blocks { from } => Ok(Answer::Blocks(Box::new(core.summaries(from)?))),
        LedgerRequest::Tx(id) => Ok(core.look_for(id)),
        LedgerRequest::Snapshot { term, offset } => {
            let part = core.border_part(term, offset).await?;
            Ok(Answer::Snapshot(Box::new(part)))
        }
    }
}

async fn submit<R: Runtime>(
    core: &Core<R>,
    peer: NodeId,
    tx: Signed<Tx>,
    witness: Option<Witness>,
) -> Result<Answer, LedgerError> {
    let _place = core.submission()?;
    let tx = Submitted { tx, witness };
    let done = core.submit(tx, Source::Peer(peer)).await?;
    let shown = core.shown_outcome(done).await?;
    Ok(Answer::Done(Box::new(shown)))
}
