//! The ledger over a transport, whose other end need not be trusted: every answer but a failure
//! comes with what shows that it is the ledger's.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_core::{
    AccountId, GroupId, Height, LedgerId, LedgerTransport, NodeId, Record, Retry, Signed, TxId,
};

use crate::attestation::{Attestation, Attested, LedgerKey};
use crate::effect::BlockEffects;
use crate::epoch::ChallengePage;
use crate::evidence::{Evidence, EvidenceError};
use crate::group::Group;
use crate::node::NodeEntry;
use crate::port::{Ledger, LedgerError, LedgerStatus, TxOutcome, Witness};
use crate::query::{Question, Seen};
use crate::seal::{BlockSeal, Chained};
use crate::state::Account;
use crate::ticket::AuditView;
use crate::tx::{SlotRef, Tx};
use crate::view::TxSummary;
use crate::wire::{Answer, LedgerRequest, LedgerResponse, SLOTS_PAGE_MAX, TxEvidence};

/// Most pages of one node's slots that are fetched: 4 million slots, all that a ledger can have.
const PAGES_MAX: usize = 1024;

/// Takes one kind of what is seen out, which the question decides.
macro_rules! expect_seen {
    ($seen:expr, $kind:ident) => {
        if let Seen::$kind(value) = $seen {
            Ok(value)
        } else {
            Err(LedgerError::Answer)
        }
    };
}

mod snapshot;
mod views;

/// A [`Ledger`] over a transport. Refuses the answers of another ledger than its own, those that are
/// not attested by its key, and those of an earlier height than one that it has seen. Believes
/// whoever answers only that something failed, and asks each end once when it is no good.
#[derive(Clone, Debug)]
pub struct RemoteLedger<T> {
    transport: T,
    id: LedgerId,
    key: LedgerKey,
    known: Arc<Mutex<Known>>,
}

/// What was seen of the ledger.
#[derive(Debug, Default)]
struct Known {
    /// The newest attestation that was checked, which the next answers often have again.
    newest: Option<Attestation>,
    /// The highest height of which something was seen.
    height: Height,
}

impl<T: LedgerTransport> RemoteLedger<T> {
    /// The ledger `id`, which `key` attests, at the other end of `transport`.
    pub fn new(transport: T, id: LedgerId, key: LedgerKey) -> Self {
        Self {
            transport,
            id,
            key,
            known: Arc::default(),
        }
    }

    /// Whose attestations count.
    #[must_use]
    pub const fn key(&self) -> &LedgerKey {
        &self.key
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder panics")
    }

    /// What is attested, if it is.
    fn check(&self, attestation: &Attestation) -> Result<Attested, LedgerError> {
        if self.known().newest.as_ref() == Some(attestation) {
            return Ok(*attestation.unverified());
        }
        let attested = attestation.verify(self.id, &self.key);
        let attested = *attested.ok_or(LedgerError::Answer)?;
        let mut known = self.known();
        if known.height <= attested.height {
            known.height = attested.height;
            known.newest = Some(attestation.clone());
        }
        Ok(attested)
    }

    /// That whoever shows what is `attested` is not behind `expected`.
    fn check_height(expected: Height, attested: &Attested) -> Result<(), LedgerError> {
        let found = attested.height;
        if found < expected {
            return Err(LedgerError::Behind { expected, found });
        }
        Ok(())
    }

    /// Sends a transaction and waits until it is final.
    async fn finish(&self, id: TxId, request: LedgerRequest) -> Result<TxOutcome, LedgerError> {
        let done = self.each(|| self.done(id, &request)).await;
        let (seal, summary) = done?;
        let height = seal.height;
        let result = summary.result.map_err(LedgerError::Refused);
        result.map(|()| TxOutcome { id, height })
    }

    async fn done(
        &self,
        id: TxId,
        request: &LedgerRequest,
    ) -> Result<(BlockSeal, TxSummary), LedgerError> {
        match self.call(request).await {
            Ok(Answer::Done(evidence)) => self.look_into(id, &evidence),
            Ok(_) => Err(LedgerError::Answer),
            Err(error) => Err(error),
        }
    }

    /// What became of a transaction and in which block.
    fn look_into(
        &self,
        id: TxId,
        evidence: &TxEvidence,
    ) -> Result<(BlockSeal, TxSummary), LedgerError> {
        let TxEvidence(chained) = evidence;
        self.check_chain(chained, |seal, txs| seal.txs == txs.root())?;
        let [(seal, txs)] = &chained.blocks[..] else {
            return Err(LedgerError::Answer);
        };
        let summary = txs.get(id).ok_or(LedgerError::Answer)?;
        Ok((*seal, summary))
    }

    /// The blocks, when they are the ledger's and the first is that of the height `from`. There may
    /// be none only where that height is still to come.
    fn blocks_of<B>(
        &self,
        chained: Chained<B>,
        from: Height,
        is_of: impl Fn(&BlockSeal, &B) -> bool,
    ) -> Result<Vec<B>, LedgerError> {
        let seen = self.seen();
        let attested = self.check_chain(&chained, is_of)?;
        match chained.blocks.first() {
            Some((first, _)) if first.height != from => return Err(LedgerError::Answer),
            Some(_) => {}
            None if attested.height >= from => return Err(LedgerError::Answer),
            None => Self::check_height(seen, &attested)?,
        }
        Ok(chained.blocks.into_iter().map(|(_, block)| block).collect())
    }

    /// What is attested where blocks lead to it.
    fn check_chain<B>(
        &self,
        chained: &Chained<B>,
        is_of: impl Fn(&BlockSeal, &B) -> bool,
    ) -> Result<Attested, LedgerError> {
        let attested = self.check(&chained.attestation)?;
        if chained.leads_to(&attested, is_of) {
            Ok(attested)
        } else {
            Err(LedgerError::Answer)
        }
    }

    /// What is seen of the state, at the highest height that is known here or a later one.
    async fn ask(&self, question: Question) -> Result<Seen, LedgerError> {
        self.evidence(question).await.map(|(_, seen)| seen)
    }

    /// The same with what shows it to others, who need no ledger for that.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn evidence(&self, question: Question) -> Result<(Evidence, Seen), LedgerError> {
        self.each(|| self.look(question)).await
    }

    async fn look(&self, question: Question) -> Result<(Evidence, Seen), LedgerError> {
        let at_least = self.seen();
        let request = LedgerRequest::Ask { question, at_least };
        let Answer::Evidence(evidence) = self.call(&request).await? else {
            return Err(LedgerError::Answer);
        };
        let attested = self.check(&evidence.attestation)?;
        Self::check_height(at_least, &attested)?;
        let shown = evidence.show(question, &attested);
        let seen = shown.map_err(|_: EvidenceError| LedgerError::Answer)?;
        Ok((*evidence, seen))
    }

    /// Asks, and each other end once while the answers are no good.
    async fn each<'a, V, F>(&'a self, ask: impl Fn() -> F) -> Result<V, LedgerError>
    where
        F: Future<Output = Result<V, LedgerError>> + Send + 'a,
    {
        let mut left = self.transport.end_count();
        loop {
            // Behind a pointer, so that the futures of callers are no deeper than they look.
            let asked: Pin<Box<dyn Future<Output = Result<V, LedgerError>> + Send + 'a>> =
                Box::pin(ask());
            match asked.await {
                Err(error) if error.retry() == Retry::Elsewhere => {
                    self.transport.turn_away();
                    left = left.saturating_sub(1);
                    if left == 0 {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    async fn call(&self, request: &LedgerRequest) -> Result<Answer, LedgerError> {
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
            | Answer::Evidence(_)
            | Answer::Effects(_)
            | Answer::Blocks(_)
            | Answer::Snapshot(_)
            | Answer::Tx { .. }) => Ok(answer),
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
        expect_seen!(self.ask(Question::Account(id)).await?, Account)
    }

    async fn node(&self, id: NodeId) -> Result<Option<NodeEntry>, LedgerError> {
        expect_seen!(self.ask(Question::Node(id)).await?, Node)
    }

    async fn group(&self, id: GroupId) -> Result<Option<Group>, LedgerError> {
        expect_seen!(self.ask(Question::Group(id)).await?, Group)
    }

    async fn slots_of(&self, node: NodeId) -> Result<Vec<SlotRef>, LedgerError> {
        let mut slots: Vec<SlotRef> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = slots.last().copied();
            let page = self.ask(Question::Slots { node, after }).await?;
            let page = expect_seen!(page, Slots)?;
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
        let page = self.ask(Question::Challenge { node, after }).await?;
        expect_seen!(page, Challenge)
    }

    async fn audit_ticket(
        &self,
        auditor: NodeId,
        number: u8,
    ) -> Result<Option<AuditView>, LedgerError> {
        let view = self.ask(Question::Audit { auditor, number }).await?;
        expect_seen!(view, Audit)
    }

    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        expect_seen!(self.ask(Question::Status).await?, Status).map(|status| *status)
    }

    async fn effects(&self, from: Height) -> Result<Vec<BlockEffects>, LedgerError> {
        let ask = || async {
            match self.call(&LedgerRequest::Effects { from }).await? {
                Answer::Effects(chained) => self.blocks_of(*chained, from, BlockSeal::has_effects),
                _ => Err(LedgerError::Answer),
            }
        };
        let blocks = self.each(ask).await?;
        if blocks.is_empty() {
            // Others may have heard more.
            self.transport.turn_away();
        }
        Ok(blocks)
    }

    fn seen(&self) -> Height {
        self.known().height
    }

    fn expect_at_least(&self, height: Height) {
        let mut known = self.known();
        known.height = known.height.max(height);
    }
}

#[cfg(test)]
mod tests;
