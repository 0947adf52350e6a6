//! What is shown to others of each height: the state with the signature of those who order the
//! ledger.

use std::collections::VecDeque;

use cairn_core::{Height, SecretKey, TxId};
use cairn_ledger::snapshot::SnapshotPart;
use cairn_ledger::{
    Answer, Attestation, Attested, Evidence, LedgerError, Question, State, StateTrie, TxEvidence,
    TxOutcome,
};
use cairn_runtime::Runtime;
use tokio::sync::mpsc;

use super::{Core, Phase};
use crate::store;

/// Heights that wait for the others' signatures: many more than a block takes on its way round the
/// world. Beyond, the oldest is never shown.
const WAITING_MAX: usize = 64;

/// Heights above our own that are waited for: others may be ahead of us, but one that is far behind
/// says so at once.
const AHEAD_MAX: u64 = 64;

/// Who signs what this ledger is at a height.
pub(crate) enum Attester {
    /// One that orders it alone.
    Alone(Box<SecretKey>),
    /// Validators together: what they are to sign goes here.
    Together(mpsc::Sender<Attested>),
}

/// What can be shown, and what waits for that.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    newest: Option<(Attestation, StateTrie)>,
    /// Rising by height.
    waiting: VecDeque<(Attested, StateTrie)>,
}

impl Shown {
    fn push(&mut self, attested: Attested, trie: StateTrie) {
        while self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((attested, trie));
    }

    /// Whether it was what waits at its height, and is now the newest.
    fn take(&mut self, attestation: &Attestation) -> bool {
        let attested = attestation.unverified();
        while let Some((waiting, trie)) = self.waiting.pop_front() {
            if waiting.height == attested.height {
                let is_ours = waiting == *attested;
                if is_ours {
                    self.newest = Some((attestation.clone(), trie));
                }
                return is_ours;
            }
            if waiting.height > attested.height {
                self.waiting.push_front((waiting, trie));
                return false;
            }
        }
        false
    }
}

/// What a state is to those who do not have it, and its entries.
pub(super) fn outline(state: &State) -> (Attested, StateTrie) {
    (state.attested(), StateTrie::of(state))
}

impl<R: Runtime> Core<R> {
    /// Has what the state is now signed, so that it can be shown. Nothing is locked meanwhile.
    pub(crate) fn attest(&self, attested: Attested, trie: StateTrie) {
        self.shown().push(attested, trie);
        match &self.attester {
            Attester::Alone(key) => self.show(&Attestation::sign(attested, key)),
            // Without room the next height is shown.
            Attester::Together(signers) => drop(signers.try_send(attested)),
        }
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().expect("no holder panics")
    }

    /// What this ledger was at a height that is not shown yet, by its own reckoning.
    pub(crate) fn waiting_at(&self, height: Height) -> Option<Attested> {
        let shown = self.shown();
        let mut waiting = shown.waiting.iter().map(|(attested, _)| *attested);
        waiting.find(|attested| attested.height == height)
    }

    /// Shows what is signed from now on, if it is what this ledger was at that height.
    pub(crate) fn show(&self, attestation: &Attestation) {
        {
            // Together: who sees the newest height finds the blocks up to it.
            let mut view = self.view.write().expect("no holder panics");
            if !self.shown().take(attestation) {
                return;
            }
            view.history.attest(attestation);
        }
        self.keep_if_border(attestation);
        let height = attestation.unverified().height;
        self.progress
            .send_modify(|progress| progress.shown = progress.shown.max(Some(height)));
    }

    /// Keeps the attestation of a border with its state, for those who are to join there.
    fn keep_if_border(&self, attestation: &Attestation) {
        let height = attestation.unverified().height;
        let began_here = |state: &State| {
            let term = state.term().filter(|term| term.base.height == height)?;
            (term.number > 0).then_some(term.number)
        };
        let Some(term) = self.read(began_here) else {
            return;
        };
        let store = self.store.lock().expect("no holder panics");
        let kept = store
            .as_ref()
            .map(|store| store.keep_border_attestation(term, attestation));
        if let Some(Err(error)) = kept {
            tracing::warn!(%error, term, "nobody can join the term by what is here");
        }
    }

    /// A piece of the state with which the term that runs began.
    pub(crate) async fn border_part(
        &self,
        term: u32,
        offset: u64,
    ) -> Result<SnapshotPart, LedgerError> {
        let (disk, folder) = (self.runtime.disk().clone(), self.settings.folder.clone());
        let read = move || store::border_part(&disk, &folder, (term, offset));
        let found = self.runtime.blocking(read).await;
        match found {
            Ok(Some(part)) => Ok(part),
            Ok(None) => Err(LedgerError::NoSnapshot { term }),
            Err(error) => {
                tracing::warn!(%error, term, "the state of a border is not read");
                Err(LedgerError::NoSnapshot { term })
            }
        }
    }

    /// The highest that can be shown.
    pub(crate) fn shown_height(&self) -> Option<Height> {
        self.progress.borrow().shown
    }

    /// The newest that can be shown.
    pub(crate) fn newest(&self) -> Option<(Attestation, StateTrie)> {
        self.shown().newest.clone()
    }

    /// Waits until a height can be shown, but not for ever: whether it can.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn wait_shown(&self, height: Height) -> bool {
        let mut progress = self.progress.subscribe();
        let is_there = |shown: Option<Height>| shown.is_some_and(|shown| shown >= height);
        let limit = self.settings.poll_limit;
        let there = async {
            let enough = progress
                .wait_for(|it| is_there(it.shown) || it.phase == Phase::Stopped)
                .await;
            // The sender lives as long as `self`.
            enough.is_ok_and(|progress| is_there(progress.shown))
        };
        self.runtime.timeout(limit, there).await.unwrap_or(false)
    }

    /// What answers a question, of a height or a later one.
    pub(crate) async fn evidence(
        &self,
        question: Question,
        at_least: Height,
    ) -> Result<Evidence, LedgerError> {
        let is_shown = || self.shown_height().is_some_and(|shown| shown >= at_least);
        let is_near = at_least.get() <= self.height().get().saturating_add(AHEAD_MAX);
        let is_there = if is_shown() || !is_near {
            is_shown()
        } else {
            let _poll = self.poll()?;
            self.wait_shown(at_least).await
        };
        let newest = self.newest();
        let Some((attestation, trie)) = newest.filter(|_| is_there) else {
            return Err(self.behind(at_least));
        };
        Evidence::gather(question, attestation, &trie).map_err(|_| LedgerError::Request)
    }

    /// That a transaction is final, as soon as it can be shown.
    pub(crate) async fn shown_outcome(&self, done: TxOutcome) -> Result<TxEvidence, LedgerError> {
        self.wait_shown(done.height).await;
        let shown = {
            let view = self.view.read().expect("no holder panics");
            view.history.shown_tx(done.id)
        };
        shown.ok_or_else(|| self.behind(done.height))
    }

    /// What became of a transaction, as far as it is remembered and can be shown.
    pub(crate) fn look_for(&self, id: TxId) -> Answer {
        let view = self.view.read().expect("no holder panics");
        Answer::Tx {
            oldest: view.history.oldest(),
            found: view.history.shown_tx(id).map(Box::new),
        }
    }

    /// That a height can't be shown yet.
    pub(crate) fn behind(&self, expected: Height) -> LedgerError {
        let found = self.progress.borrow().shown;
        LedgerError::Behind {
            expected,
            found: found.unwrap_or(Height::ZERO),
        }
    }
}
