//! Where requests of peers are answered: by the validator that runs, which is another one in each term.

use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::Validator;
use cairn_core::{LedgerId, LedgerTransport, NodeId, Record, TransportError};
use cairn_ledger::{Answer, LedgerError, LedgerResponse};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;
use tokio::sync::watch;

use crate::ledger_peer::Answering;

/// How long one who asks waits for the validator of the next term: it is opened when the one before has
/// ended. Shorter than whoever asks waits for an answer.
const NEXT_LIMIT: Duration = Duration::from_secs(15);

/// Answers in the name of whichever validator runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    runtime: RealRuntime,
    ledger: LedgerId,
    present: Arc<watch::Sender<Option<Validator<RealRuntime>>>>,
}

impl Desk {
    /// One of a ledger, at which nobody is.
    pub(super) fn new(runtime: RealRuntime, ledger: LedgerId) -> Self {
        Self {
            runtime,
            ledger,
            present: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Puts a validator in place of the one before, or nobody.
    pub(super) fn seat(&self, validator: Option<Validator<RealRuntime>>) {
        self.present.send_replace(validator);
    }

    /// What is said where nobody answers: another is to be asked.
    fn closed(&self) -> Vec<u8> {
        let response = LedgerResponse {
            ledger: self.ledger,
            answer: Answer::Error(LedgerError::Stopped),
        };
        response.encode()
    }
}

impl Answering for Desk {
    /// Who asks while one term hands over to the next does not see that: what the validator of the one
    /// does not do any more is asked of that of the next.
    async fn answer(&self, peer: NodeId, request: &[u8]) -> Vec<u8> {
        let mut present = self.present.subscribe();
        loop {
            let validator = present.borrow_and_update().clone();
            let Some(validator) = validator else {
                return self.closed();
            };
            let answer = validator.answer(peer, request).await;
            if validator.next_term().is_none() || !is_stopped(&answer) {
                return answer;
            }
            // Not to be kept from ending by one who waits.
            drop(validator);
            let changed = self.runtime.timeout(NEXT_LIMIT, present.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return answer;
            }
        }
    }
}

/// Whether an answer says that whoever gave it has stopped.
fn is_stopped(answer: &[u8]) -> bool {
    let response = LedgerResponse::decode(answer);
    response.is_ok_and(|it| it.answer == Answer::Error(LedgerError::Stopped))
}

/// The way to a validator in this process.
#[derive(Clone, Debug)]
pub(super) struct Near(pub(super) Validator<RealRuntime>, pub(super) NodeId);

impl LedgerTransport for Near {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Ok(self.0.answer(self.1, &request).await)
    }

    fn turn_away(&self) {
        // There is no other.
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::{Digest, PublicKey};

    use super::*;

    #[test]
    fn where_nobody_is_whoever_asks_is_sent_elsewhere() {
        RealRuntime::run(|runtime: RealRuntime| async move {
            let ledger = LedgerId::new(Digest::of(b"a ledger"));
            let desk = Desk::new(runtime, ledger);
            let peer = NodeId::new(PublicKey::from_bytes([1; 32]));
            let answer = desk.answer(peer, b"anything").await;
            assert!(is_stopped(&answer));
            assert!(!is_stopped(b"anything"));
            let response = LedgerResponse::decode(&answer).unwrap();
            assert_eq!(response.ledger, ledger);
        })
        .unwrap();
    }
}
