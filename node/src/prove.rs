//! Proving once an epoch what we had acknowledged when it began, and knowing what of it may go.
//!
//! What the ledger froze stays provable here until our proof of the epoch is judged or the next
//! epoch has begun. Effects of blocks come in order, but a group may be read as of a later block
//! than the last effect: what might be frozen by an epoch that we have not heard of is kept too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{EpochNumber, RevisionNumber};
use cairn_ledger::Verdict;
use cairn_ledger::epoch::Frozen;
use cairn_ledger::port::{Ledger, LedgerError, LedgerStatus, challenge_of, submit_proof_of};
use cairn_ledger::tx::SlotRef;
use cairn_net::Network;
use cairn_proofs::{Challenge, Proof, ProveError, ProveErrorCause, prove};
use cairn_runtime::Runtime;
use tokio::sync::Notify;

use crate::core::Core;
use crate::status::EpochStatus;
use crate::store::{Check, ShardPlace, StoreError};

/// Nodes prove within this part of an epoch after its seed is known, each at a time of its own, so
/// that not all proofs come at once.
const PROVE_PARTS: u32 = 16;

/// Why there is no proof yet.
#[derive(Debug, thiserror::Error)]
enum ProofFailure {
    /// Something frozen can't be read or is wrong here.
    #[error(transparent)]
    Prove(#[from] Box<ProveError<StoreError>>),
    /// The ledger did not answer or take it.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
}

/// Where we stand with our proofs.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    state: Mutex<ProofState>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct ProofState {
    /// The epoch that runs, as far as we have heard, and how long it is; `None` on a ledger without
    /// epochs.
    epoch: Option<(EpochNumber, Duration)>,
    /// What our proof of it was found to be.
    verdict: Option<Verdict>,
    /// Slots that are not ours any more, and the epoch in which we saw that.
    leaving: BTreeMap<SlotRef, EpochNumber>,
}

impl Proofs {
    fn state(&self) -> MutexGuard<'_, ProofState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// As of a status of the ledger; what is frozen may be to prove.
    pub(crate) fn begin(&self, status: &LedgerStatus) {
        let length = Duration::from_millis(status.parameters.epoch_millis);
        {
            let mut state = self.state();
            state.epoch = (!length.is_zero()).then_some((status.epoch, length));
            state.verdict = None;
        }
        self.woken.notify_one();
    }

    /// An epoch has begun.
    pub(crate) fn epoch_began(&self, number: EpochNumber) {
        let mut state = self.state();
        if let Some((epoch, _)) = &mut state.epoch
            && *epoch < number
        {
            *epoch = number;
            state.verdict = None;
        }
    }

    /// The seed of the epoch is known.
    pub(crate) fn epoch_opened(&self) {
        self.woken.notify_one();
    }

    /// Our proof is judged.
    pub(crate) fn judged(&self, number: EpochNumber, verdict: Verdict) {
        let mut state = self.state();
        if state.epoch.is_some_and(|(epoch, _)| epoch == number) {
            state.verdict = Some(verdict);
        }
    }

    /// The epoch that runs, as far as we have heard, and what our proof of it was found to be.
    pub(crate) fn status(&self) -> Option<EpochStatus> {
        let state = self.state();
        let (epoch, _) = state.epoch?;
        let verdict = state.verdict;
        Some(EpochStatus { epoch, verdict })
    }

    /// The epoch to prove, and its length.
    fn owed(&self) -> Option<(EpochNumber, Duration)> {
        let state = self.state();
        state.epoch.filter(|_| state.verdict.is_none())
    }

    /// The revision of a slot of ours that the ledger may still ask a proof of because it is
    /// frozen.
    pub(crate) fn frozen(
        &self,
        frozen: Frozen,
        acknowledged: RevisionNumber,
    ) -> Option<RevisionNumber> {
        let state = self.state();
        let (epoch, _) = state.epoch?;
        if frozen.epoch > epoch {
            return Some(frozen.revision);
        }
        state
            .verdict
            .is_none()
            .then(|| frozen.at(epoch, acknowledged))
    }

    /// The slot is ours.
    pub(crate) fn stay(&self, slot: SlotRef) {
        self.state().leaving.remove(&slot);
    }

    /// Whether a slot that is not ours any more may go: no epoch has it frozen for us. When we see
    /// that it is gone the next epoch may have begun unheard of, so that one is waited for too.
    pub(crate) fn may_go(&self, slot: SlotRef) -> bool {
        let mut state = self.state();
        let Some((epoch, _)) = state.epoch else {
            return true;
        };
        let is_judged = state.verdict.is_some();
        let seen = *state.leaving.entry(slot).or_insert(epoch);
        let passed = epoch.get().saturating_sub(seen.get());
        let may = passed > 1 || (passed == 1 && is_judged);
        if may {
            state.leaving.remove(&slot);
        }
        may
    }

    /// Slots that wait to go.
    pub(crate) fn leaving(&self) -> Vec<SlotRef> {
        self.state().leaving.keys().copied().collect()
    }
}

/// Proves every epoch, until the task is aborted.
pub(crate) async fn prove_on<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    loop {
        core.proofs.woken.notified().await;
        let Some((epoch, length)) = core.proofs.owed() else {
            continue;
        };
        core.runtime.sleep(random_part(&core, length)).await;
        let mut wait = core.pacing.retry_delay;
        while core.proofs.owed().is_some_and(|(owed, _)| owed == epoch) {
            match prove_once(&core).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%epoch, %error, ?wait, "no proof yet");
                    core.runtime.sleep(wait).await;
                    wait = (wait * 2).min(core.pacing.retry_delay_max);
                }
            }
        }
    }
}

/// A random time within the part of an epoch in which nodes prove.
fn random_part<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    length: Duration,
) -> Duration {
    let mut bytes = [0; 4];
    core.runtime.fill(&mut bytes);
    let part = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    (length / PROVE_PARTS).mul_f64(part)
}

/// Proves what the epoch that runs has frozen, unless its seed is still to come or our proof is
/// judged.
async fn prove_once<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
) -> Result<(), ProofFailure> {
    let Some((epoch, challenge)) = challenge_of(&core.ledger, core.id).await? else {
        return Ok(());
    };
    let proof = make(core, challenge).await?;
    let outcome = {
        let _turn = core.submitting.lock().await;
        submit_proof_of(&core.ledger, &core.key, epoch, &proof).await?
    };
    tracing::debug!(%epoch, slots = proof.slots.len(), height = %outcome.height, "proved");
    Ok(())
}

/// The proof. What keeps it from being made is looked at: it is lacking, and declared lost unless
/// it can be had again.
async fn make<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    challenge: Challenge,
) -> Result<Proof, Box<ProveError<StoreError>>> {
    let made = core.store.with(move |store| {
        let made = prove(&challenge, store).map_err(Box::new);
        if let Err(error) = &made
            && let ProveErrorCause::Damaged { number, .. } = error.cause
        {
            let shard = ShardPlace::new(place(error), number);
            // It counts as lacking once it was read with its root in mind.
            let _damaged = store.read_shard(shard, Check::Yes);
        }
        made
    });
    let made = made.await;
    if let Err(error) = &made {
        core.look_at(place(error));
    }
    made
}

const fn place(error: &ProveError<StoreError>) -> SlotRef {
    SlotRef {
        group: error.group,
        slot: error.slot,
    }
}
