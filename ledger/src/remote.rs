//! The ledger over a transport.

use std::fmt;
use std::future::Future;

use cairn_core::{AccountId, GroupId, Height, LedgerId, NodeId, Record, Signed, TxId};

use crate::effect::BlockEffects;
use crate::epoch::ChallengePage;
use crate::group::Group;
use crate::node::NodeEntry;
use crate::port::{Ledger, LedgerError, LedgerStatus, TransportError, TxOutcome, Witness};
use crate::state::Account;
use crate::ticket::AuditPage;
use crate::tx::{SlotRef, Tx};
use crate::wire::{Answer, LedgerRequest, LedgerResponse, SLOTS_PAGE_MAX};

/// Most pages of one node's slots that are fetched: 16 million slots, above any node's.
const PAGES_MAX: usize = 1024;

/// Carries one request to a ledger and its response back. Limits of time are the transport's; an
/// answer to `Submit` takes as long as finality, one to `Effects` as long as the ledger's poll
/// limit.
pub trait LedgerTransport: Clone + fmt::Debug + Send + Sync + 'static {
    /// Sends a request and waits for the response.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    fn call(
        &self,
        request: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, TransportError>> + Send;
}

/// Takes one kind of answer out, or says that the other end broke the protocol.
macro_rules! expect_answer {
    ($answer:expr, $kind:ident) => {
        if let Answer::$kind(value) = $answer {
            Ok(value)
        } else {
            Err(LedgerError::Answer)
        }
    };
}

/// A [`Ledger`] over a transport. Refuses the answers of another ledger than its own. Trusts the
/// other end for the rest; responses name their height, which leaves room for the proofs that end
/// this. Retries nothing.
#[derive(Clone, Debug)]
pub struct RemoteLedger<T> {
    transport: T,
    id: LedgerId,
}

impl<T: LedgerTransport> RemoteLedger<T> {
    /// The ledger `id`, at the other end of `transport`.
    pub const fn new(transport: T, id: LedgerId) -> Self {
        Self { transport, id }
    }

    /// Sends a transaction and waits until it is final.
    async fn finish(&self, id: TxId, request: LedgerRequest) -> Result<TxOutcome, LedgerError> {
        let outcome = expect_answer!(self.ask(request).await?, Done)?;
        if outcome.id == id {
            Ok(outcome)
        } else {
            Err(LedgerError::Answer)
        }
    }

    async fn ask(&self, request: LedgerRequest) -> Result<Answer, LedgerError> {
        let bytes = self
            .transport
            .call(request.encode())
            .await
            .map_err(|cause| LedgerError::Unavailable { cause })?;
        let response = LedgerResponse::decode(&bytes).map_err(|_| LedgerError::Answer)?;
        if response.ledger != self.id {
            return Err(LedgerError::OtherLedger {
                expected: self.id,
                found: response.ledger,
            });
        }
        match response.answer {
            Answer::Error(error) => Err(error),
            answer @ (Answer::Done(_)
            | Answer::Account(_)
            | Answer::Node(_)
            | Answer::Group(_)
            | Answer::Slots(_)
            | Answer::Status(_)
            | Answer::Effects(_)
            | Answer::Challenge(_)
            | Answer::View(_)
            | Answer::Audits(_)) => Ok(answer),
        }
    }
}

impl<T: LedgerTransport> Ledger for RemoteLedger<T> {
    fn id(&self) -> LedgerId {
        self.id
    }

    async fn submit(&self, tx: Signed<Tx>) -> Result<TxOutcome, LedgerError> {
        let id = crate::tx::tx_id(&tx);
        self.finish(id, LedgerRequest::Submit(Box::new(tx))).await
    }

    async fn submit_proof(
        &self,
        tx: Signed<Tx>,
        witness: Witness,
    ) -> Result<TxOutcome, LedgerError> {
        let id = crate::tx::tx_id(&tx);
        let tx = Box::new(tx);
        self.finish(id, LedgerRequest::Prove { tx, witness }).await
    }

    async fn account(&self, id: AccountId) -> Result<Account, LedgerError> {
        expect_answer!(self.ask(LedgerRequest::Account(id)).await?, Account)
    }

    async fn node(&self, id: NodeId) -> Result<Option<NodeEntry>, LedgerError> {
        let node = expect_answer!(self.ask(LedgerRequest::Node(id)).await?, Node)?;
        match node {
            Some(entry) if entry.node != id => Err(LedgerError::Answer),
            node => Ok(node),
        }
    }

    async fn group(&self, id: GroupId) -> Result<Option<Group>, LedgerError> {
        let group = expect_answer!(self.ask(LedgerRequest::Group(id)).await?, Group)?;
        match group {
            Some(group) if group.id != id => Err(LedgerError::Answer),
            group => Ok(group),
        }
    }

    async fn slots_of(&self, node: NodeId) -> Result<Vec<SlotRef>, LedgerError> {
        let mut slots: Vec<SlotRef> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = slots.last().copied();
            let page = self.ask(LedgerRequest::Slots { node, after }).await?;
            let page = expect_answer!(page, Slots)?;
            if after.is_some() && page.first().copied() <= after && !page.is_empty() {
                return Err(LedgerError::Answer);
            }
            let is_last = page.len() < SLOTS_PAGE_MAX;
            slots.extend(page);
            if is_last {
                return Ok(slots);
            }
        }
        Err(LedgerError::Answer)
    }

    async fn challenge_page(
        &self,
        node: NodeId,
        after: Option<SlotRef>,
    ) -> Result<Option<ChallengePage>, LedgerError> {
        let page = self.ask(LedgerRequest::Challenge { node, after }).await?;
        let page = expect_answer!(page, Challenge)?;
        let first = page.as_ref().and_then(|page| page.slots.first());
        match first {
            Some(first) if after.is_some_and(|after| first.slot_ref() <= after) => {
                Err(LedgerError::Answer)
            }
            _ => Ok(page.map(|page| *page)),
        }
    }

    async fn audit_page(&self, auditor: NodeId) -> Result<Option<AuditPage>, LedgerError> {
        let page = expect_answer!(self.ask(LedgerRequest::Audits(auditor)).await?, Audits)?;
        Ok(page.map(|page| *page))
    }

    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        expect_answer!(self.ask(LedgerRequest::Status).await?, Status)
    }

    async fn effects(&self, from: Height) -> Result<Vec<BlockEffects>, LedgerError> {
        let blocks = expect_answer!(self.ask(LedgerRequest::Effects { from }).await?, Effects)?;
        match blocks.first() {
            Some(first) if first.height != from => Err(LedgerError::Answer),
            _ => Ok(blocks),
        }
    }
}

mod views;

#[cfg(test)]
mod tests;
