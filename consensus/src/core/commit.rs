//! The one way in which a block becomes final here.

use std::collections::BTreeSet;

use cairn_core::{Height, Record, Signed, TxId};
use cairn_ledger::{
    Block, Effect, LedgerError, State, Tx, TxBody, TxError, TxOutcome, Verdict, Witness,
};
use cairn_runtime::{DiskError, Runtime};

use super::Core;
use super::attest::outline;
use crate::store::term_begun;

/// Why a block did not become final.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The disk failed; what is on it is found at the next opening.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The folder was given free.
    #[error("stopped")]
    Stopped,
}

impl<R: Runtime> Core<R> {
    /// Height of the last final block.
    pub(crate) fn height(&self) -> Height {
        self.read(State::height)
    }

    /// Makes the next block durable, applies it and tells who waits. Its signatures are taken as
    /// checked: by us, or by the validators that agreed on it.
    ///
    /// # Errors
    ///
    /// [`CommitError`]: no block may follow.
    ///
    /// # Panics
    ///
    /// When the block does not follow the state.
    pub(crate) fn commit(&self, block: &Block) -> Result<(), CommitError> {
        {
            let mut store = self.store.lock().expect("no holder panics");
            store.as_mut().ok_or(CommitError::Stopped)?.append(block)?;
        }
        let began = self.apply(block);
        // Blocks come one after the other, so the state is still that of this one.
        let (attested, trie) = self.read(outline);
        self.attest(attested, trie);
        if let Some(term) = began {
            let encoded = self.read(Record::encode);
            let store = self.store.lock().expect("no holder panics");
            let store = store.as_ref().ok_or(CommitError::Stopped)?;
            store.keep_border(term, &encoded)?;
        }
        self.write_state_if_due()?;
        Ok(())
    }

    /// Applies a block to the state; gives the term that begins behind it.
    fn apply(&self, block: &Block) -> Option<u32> {
        let height = block.height;
        let mut mempool = self.mempool();
        let mut view = self.view.write().expect("no holder panics");
        let effects = view
            .state
            .apply_checked(block)
            .expect("a block made from the state follows it");
        let state = &view.state;
        let mut early = Vec::new();
        for effect in &effects {
            let Effect::TxDone { id, result } = effect else {
                continue;
            };
            match result {
                Err(TxError::Nonce {
                    expected, found, ..
                }) if found > expected => {
                    early.push((*id, result.clone()));
                }
                _ => mempool.settle(*id, &settled(*id, height, result)),
            }
        }
        // Whoever orders the transactions of an account the wrong way round undoes none of them.
        let nonces = early.iter().filter_map(|(id, _)| {
            let account = mempool.get(*id)?.account;
            Some((*id, state.account(account).nonce))
        });
        let kept = mempool.still_to_come(&nonces.collect::<Vec<_>>());
        for (id, result) in early.iter().filter(|(id, _)| !kept.contains(id)) {
            mempool.settle(*id, &settled(*id, height, result));
        }
        let next_nonce = |id| view.state.account(id).nonce;
        for (id, tx) in mempool.overtaken(next_nonce) {
            let refusal = view.state.check(&tx).err().map(LedgerError::Refused);
            mempool.settle(id, &Err(refusal.unwrap_or(LedgerError::Stopped)));
        }
        for node in block.lost.iter() {
            mempool.settle_lost(*node, height);
        }
        let began = term_begun(&effects);
        view.history.push(block, effects);
        self.progress
            .send_modify(|progress| progress.height = height);
        began
    }

    fn write_state_if_due(&self) -> Result<(), DiskError> {
        let mut store = self.store.lock().expect("no holder panics");
        let Some(store) = store.as_mut() else {
            return Ok(());
        };
        let height = self.height();
        if !store.is_state_due(height, self.settings.state_interval_blocks) {
            return Ok(());
        }
        let encoded = self.read(Record::encode);
        store.write_state(height, &encoded)
    }
}

/// What whoever waits for a transaction of a block is told.
fn settled(
    id: TxId,
    height: Height,
    result: &Result<(), TxError>,
) -> Result<TxOutcome, LedgerError> {
    let result = result.clone().map(|()| TxOutcome { id, height });
    result.map_err(LedgerError::Refused)
}

/// Whether a transaction comes with a proof.
pub(crate) fn is_proof(tx: &Signed<Tx>) -> bool {
    matches!(tx.unverified().body, TxBody::ProofSubmit { .. })
}

/// What the proofs of the next block's transactions say, given their witnesses in order: the first
/// of each node, a second is missing unseen (E8). One that has no place in the block is refused
/// there.
pub(crate) fn judge(state: &State, txs: &[Signed<Tx>], witnesses: &[Witness]) -> Vec<Verdict> {
    let proofs = txs.iter().filter(|tx| is_proof(tx));
    let mut judged_of = BTreeSet::new();
    proofs
        .zip(witnesses)
        .map(|(tx, witness)| {
            if !judged_of.insert(tx.unverified().account) {
                return Verdict::Missing;
            }
            let judged = state.judge(tx.unverified(), witness);
            judged.unwrap_or(Verdict::Missing)
        })
        .collect()
}
