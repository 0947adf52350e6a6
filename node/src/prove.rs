//! Proving once an epoch what we had acknowledged when it began, and knowing what of it may go.
//!
//! What the ledger froze stays provable here until our proof of the epoch is judged or the next
//! epoch has begun. Effects of blocks come in order, but a group may be read as of a later block
//! than the last effect: what might be frozen by an epoch that we have not heard of is kept too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{EpochNumber, NodeId, RevisionNumber};
use cairn_ledger::Verdict;
use cairn_ledger::epoch::Frozen;
use cairn_ledger::group::{Deal, Group};
use cairn_ledger::port::{Ledger, LedgerError, LedgerStatus, challenge_of, submit_proof_of};
use cairn_ledger::tx::SlotRef;
use cairn_net::Network;
use cairn_proofs::{Challenge, Proof, ProveError, ProveErrorCause, prove};
use cairn_runtime::Runtime;
use tokio::sync::Notify;

use crate::core::Core;
use crate::status::EpochStatus;
use crate::store::{Check, Needs, ShardPlace, StoreError};

/// Nodes prove within this part of an epoch after its seed is known, each at a time of its own, so
/// that not all proofs come at once.
const PROVE_PARTS: u32 = 16;

/// Epochs for which a slot stays whose group the ledger does not know and whose end we did not see: a
/// day of hours, in which somebody would notice that the ledger has lost its memory.
const UNKNOWN_EPOCHS_MIN: u64 = 24;

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

/// What is known of epochs.
#[derive(Clone, Copy, Debug, Default)]
enum Clock {
    /// Nothing yet: all that is kept may be frozen.
    #[default]
    Unknown,
    /// The ledger has none.
    Off,
    /// The one that runs, as far as we have heard, and how long it is.
    Runs(EpochNumber, Duration),
}

#[derive(Debug, Default)]
struct ProofState {
    clock: Clock,
    /// What our proof of it was found to be.
    verdict: Option<Verdict>,
    /// Other nodes whose proofs of it are judged, as far as we have heard: at most those that the
    /// ledger has.
    judged: BTreeSet<NodeId>,
    /// Slots that are not ours any more, and the epoch in which we saw that.
    leaving: BTreeMap<SlotRef, EpochNumber>,
    /// Slots whose group we saw end.
    ended: BTreeSet<SlotRef>,
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
            state.clock = if length.is_zero() {
                Clock::Off
            } else {
                Clock::Runs(status.epoch, length)
            };
            state.verdict = None;
            state.judged.clear();
        }
        self.woken.notify_one();
    }

    /// An epoch has begun.
    pub(crate) fn epoch_began(&self, number: EpochNumber) {
        let mut state = self.state();
        if let Clock::Runs(epoch, _) = &mut state.clock
            && *epoch < number
        {
            *epoch = number;
            state.verdict = None;
            state.judged.clear();
        }
    }

    /// The seed of the epoch is known.
    pub(crate) fn epoch_opened(&self) {
        self.woken.notify_one();
    }

    /// Our proof is judged.
    pub(crate) fn judged(&self, number: EpochNumber, verdict: Verdict) {
        let mut state = self.state();
        if matches!(state.clock, Clock::Runs(epoch, _) if epoch == number) {
            state.verdict = Some(verdict);
        }
    }

    /// The proof of another node is judged: until the next epoch nobody asks it for more.
    pub(crate) fn other_judged(&self, node: NodeId, number: EpochNumber) {
        let mut state = self.state();
        if matches!(state.clock, Clock::Runs(epoch, _) if epoch == number) {
            state.judged.insert(node);
        }
    }

    /// How many segments of a group, from 0 on, a node with a slot of it must have of itself:
    /// those of the revision that it acknowledged, and of the one that it is still to prove. If its
    /// siblings served them, it need not keep them.
    pub(crate) fn owed_segments(&self, group: &Group, node: NodeId) -> u32 {
        // A challenge is of revisions that the ledger has.
        let segments = |number| {
            let revision = group.revision_at(number);
            revision.map_or(0, |revision| revision.segment_count)
        };
        let deals = group.deals.iter().filter(|deal| deal.node == node);
        let owed = deals.map(|deal| {
            let to_prove = self.to_prove(deal);
            segments(deal.acknowledged).max(segments(to_prove))
        });
        owed.max().unwrap_or(0)
    }

    /// What a deal's node may still have to prove of it in this epoch.
    fn to_prove(&self, deal: &Deal) -> RevisionNumber {
        let state = self.state();
        match state.clock {
            Clock::Off => RevisionNumber::ZERO,
            Clock::Unknown => deal.frozen.revision,
            // Of an epoch that we have not heard of.
            Clock::Runs(epoch, _) if deal.frozen.epoch > epoch => deal.frozen.revision,
            Clock::Runs(..) if state.judged.contains(&deal.node) => RevisionNumber::ZERO,
            Clock::Runs(epoch, _) => deal.frozen.at(epoch, deal.acknowledged),
        }
    }

    /// The epoch that runs, as far as we have heard, and what our proof of it was found to be.
    pub(crate) fn status(&self) -> Option<EpochStatus> {
        let state = self.state();
        let Clock::Runs(epoch, _) = state.clock else {
            return None;
        };
        let verdict = state.verdict;
        Some(EpochStatus { epoch, verdict })
    }

    /// The epoch that runs, as far as we have heard, and its length.
    pub(crate) fn running(&self) -> Option<(EpochNumber, Duration)> {
        match self.state().clock {
            Clock::Runs(epoch, length) => Some((epoch, length)),
            Clock::Off | Clock::Unknown => None,
        }
    }

    /// The epoch to prove, and its length.
    fn owed(&self) -> Option<(EpochNumber, Duration)> {
        let state = self.state();
        match state.clock {
            Clock::Runs(epoch, length) if state.verdict.is_none() => Some((epoch, length)),
            Clock::Runs(..) | Clock::Off | Clock::Unknown => None,
        }
    }

    /// What the ledger may ask a proof of, of a slot that we hold or leave in a group at `current`.
    /// `None` while that is not known: everything is kept.
    pub(crate) fn needs(
        &self,
        frozen: Frozen,
        acknowledged: RevisionNumber,
        current: RevisionNumber,
    ) -> Option<Needs> {
        let state = self.state();
        let frozen = match state.clock {
            Clock::Unknown => return None,
            Clock::Off => None,
            Clock::Runs(epoch, _) if frozen.epoch > epoch => Some(frozen.revision),
            Clock::Runs(..) if state.verdict.is_some() => None,
            Clock::Runs(epoch, _) => Some(frozen.at(epoch, acknowledged)),
        };
        let needs = Needs::of(acknowledged, frozen, current);
        Some(Needs {
            // Nothing by this deal; but we may have had the slot before, and left it since.
            is_oldest_frozen: frozen == Some(RevisionNumber::ZERO),
            ..needs
        })
    }

    /// The slot is ours.
    pub(crate) fn stay(&self, slot: SlotRef) {
        self.state().leaving.remove(&slot);
    }

    /// Whether a slot that is not ours any more may go: no epoch has it frozen for us. When we see
    /// that it is gone the next epoch may have begun unheard of, so that one is waited for too.
    pub(crate) fn may_go(&self, slot: SlotRef) -> bool {
        let mut state = self.state();
        let epoch = match state.clock {
            Clock::Unknown => return false,
            Clock::Off => return true,
            Clock::Runs(epoch, _) => epoch,
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

    /// The slot's group has ended.
    pub(crate) fn end(&self, slot: SlotRef) {
        self.state().ended.insert(slot);
    }

    /// Whether a slot may go whose group the ledger does not know: as [`Self::may_go`] when we saw
    /// the group end, else after [`UNKNOWN_EPOCHS_MIN`].
    pub(crate) fn may_go_unknown(&self, slot: SlotRef) -> bool {
        {
            let mut state = self.state();
            if !state.ended.contains(&slot) {
                let Clock::Runs(epoch, _) = state.clock else {
                    return false;
                };
                let seen = *state.leaving.entry(slot).or_insert(epoch);
                return epoch.get().saturating_sub(seen.get()) > UNKNOWN_EPOCHS_MIN;
            }
        }
        let may = self.may_go(slot);
        if may {
            self.state().ended.remove(&slot);
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
        let mut wait = core.pacing.retry_delay;
        let mut tried = None;
        while let Some((epoch, length)) = core.proofs.owed() {
            if tried != Some(epoch) {
                tried = Some(epoch);
                wait = core.pacing.retry_delay;
                core.runtime.sleep(random_part(&core, length)).await;
            }
            let Err(error) = prove_once(&core).await else {
                break;
            };
            tracing::warn!(%epoch, %error, ?wait, "no proof yet");
            tokio::select! {
                () = core.runtime.sleep(wait) => {}
                // Another epoch is open.
                () = core.proofs.woken.notified() => {}
            }
            wait = longer(wait, core.pacing.retry_delay_max, length);
        }
    }
}

/// The wait after one that was in vain: no long part of a short epoch.
fn longer(wait: Duration, wait_max: Duration, length: Duration) -> Duration {
    (wait * 2).min(wait_max).min(length / PROVE_PARTS)
}

/// A random time within the part of an epoch in which nodes prove.
pub(crate) fn random_part<R: Runtime, N: Network, L: Ledger>(
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
        let audits = core.audits.report(epoch);
        submit_proof_of(&core.ledger, &core.key, (epoch, audits), &proof).await?
    };
    tracing::debug!(%epoch, slots = proof.slots.len(), height = %outcome.height, "proved");
    Ok(())
}

/// The proof. What keeps it from being made is looked at: it is lacking, and declared lost unless
/// it can be had again.
pub(crate) async fn make<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
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

#[cfg(test)]
mod tests {
    use cairn_core::{Digest, GroupId, SlotIndex};

    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    fn proofs(clock: Clock, verdict: Option<Verdict>) -> Proofs {
        let proofs = Proofs::default();
        {
            let mut state = proofs.state();
            state.clock = clock;
            state.verdict = verdict;
        }
        proofs
    }

    const fn revision(number: u64) -> RevisionNumber {
        RevisionNumber::new(number)
    }

    /// What was frozen in an epoch.
    fn frozen(epoch: u64, number: u64) -> Frozen {
        Frozen {
            epoch: EpochNumber::new(epoch),
            revision: revision(number),
        }
    }

    fn runs(epoch: u64) -> Clock {
        Clock::Runs(EpochNumber::new(epoch), LENGTH)
    }

    fn slot() -> SlotRef {
        SlotRef {
            group: GroupId::new(Digest::of(b"group")),
            slot: SlotIndex::new(1),
        }
    }

    #[test]
    fn no_wait_takes_long_of_a_short_epoch() {
        let [second, minute, hour] = [1, 60, 3_600].map(Duration::from_secs);
        assert_eq!(longer(second, minute, hour), 2 * second);
        assert_eq!(longer(40 * second, minute, hour), minute);
        assert_eq!(longer(second, minute, 16 * second), second);
    }

    #[test]
    fn everything_is_kept_until_the_epoch_is_known() {
        let proofs = proofs(Clock::Unknown, None);
        assert_eq!(proofs.needs(frozen(0, 0), revision(4), revision(5)), None);
        assert!(!proofs.may_go(slot()));
        assert_eq!(proofs.owed(), None);
    }

    #[test]
    fn without_epochs_nothing_is_frozen() {
        let proofs = proofs(Clock::Off, None);
        let needs = proofs.needs(frozen(0, 0), revision(4), revision(5));
        assert_eq!(needs, Some(Needs::of(revision(4), None, revision(5))));
        assert!(proofs.may_go(slot()));
    }

    #[test]
    fn the_frozen_revision_is_needed_until_the_verdict_and_that_of_a_later_epoch_always() {
        let asked = |clock, verdict, frozen| {
            let proofs = proofs(clock, verdict);
            let needs = proofs.needs(frozen, revision(4), revision(5)).unwrap();
            (needs.frozen, needs.is_oldest_frozen)
        };
        let valid = Some(Verdict::Valid);
        assert_eq!(
            asked(runs(7), None, frozen(7, 3)),
            (Some(revision(3)), false)
        );
        assert_eq!(asked(runs(7), valid, frozen(7, 3)), (None, false));
        // Not changed in this epoch: what is acknowledged is frozen.
        assert_eq!(
            asked(runs(7), None, frozen(6, 3)),
            (Some(revision(4)), false)
        );
        // The group was read as of an epoch that we have not heard of.
        assert_eq!(
            asked(runs(7), valid, frozen(8, 3)),
            (Some(revision(3)), false)
        );
        // Ours only since this epoch, perhaps again.
        assert_eq!(
            asked(runs(7), None, frozen(7, 0)),
            (Some(revision(0)), true)
        );
    }

    #[test]
    fn a_slot_goes_after_a_border_and_a_verdict_or_after_two_borders() {
        let proofs = proofs(runs(7), Some(Verdict::Valid));
        assert!(!proofs.may_go(slot()));
        proofs.epoch_began(EpochNumber::new(8));
        assert!(!proofs.may_go(slot()));
        proofs.judged(EpochNumber::new(8), Verdict::Valid);
        assert!(proofs.may_go(slot()));
        assert_eq!(proofs.leaving(), []);

        assert!(!proofs.may_go(slot()));
        proofs.epoch_began(EpochNumber::new(9));
        assert!(!proofs.may_go(slot()));
        proofs.epoch_began(EpochNumber::new(10));
        assert!(proofs.may_go(slot()));
        // It is ours again before it may go.
        assert!(!proofs.may_go(slot()));
        proofs.stay(slot());
        assert_eq!(proofs.leaving(), []);
    }
}
