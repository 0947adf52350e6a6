//! Acknowledging what slots have reached, many in one transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_core::{Bounded, RevisionNumber};
use cairn_ledger::port::{Ledger, TxOutcome};
use cairn_ledger::tx::{SLOTS_PER_TX_MAX, SlotRef, SlotRevision, TxBody};
use cairn_net::Network;
use cairn_runtime::Runtime;
use tokio::sync::Notify;

use crate::catch_up::CatchUpError;
use crate::core::Core;

/// Slots that have reached a revision and wait to be acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acknowledgements {
    waiting: Mutex<BTreeMap<SlotRef, RevisionNumber>>,
    added: Notify,
}

impl Acknowledgements {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<SlotRef, RevisionNumber>> {
        self.waiting
            .lock()
            .expect("nothing panics while it is held")
    }

    pub(crate) fn add(&self, slot: SlotRef, revision: RevisionNumber) {
        self.waiting().insert(slot, revision);
        self.added.notify_one();
    }

    /// Those of one transaction; the others wait for the next.
    fn take(&self) -> Vec<SlotRevision> {
        let mut waiting = self.waiting();
        let mut taken = Vec::new();
        while taken.len() < SLOTS_PER_TX_MAX
            && let Some((slot, revision)) = waiting.pop_first()
        {
            taken.push(SlotRevision {
                group: slot.group,
                slot: slot.slot,
                revision,
            });
        }
        if !waiting.is_empty() {
            self.added.notify_one();
        }
        taken
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }
}

/// Acknowledges what slots have reached, many in one transaction, until the task is aborted.
pub(crate) async fn acknowledge<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    loop {
        core.acknowledgements.added.notified().await;
        core.runtime.sleep(core.pacing.acknowledge_delay).await;
        let slots = core.acknowledgements.take();
        let Ok(bounded) = Bounded::new(slots.clone()) else {
            continue;
        };
        if slots.is_empty() {
            continue;
        }
        match submit_acknowledgement(&core, bounded).await {
            Ok(outcome) => {
                let height = outcome.height;
                tracing::debug!(count = slots.len(), %height, "acknowledged");
            }
            Err(error) => {
                tracing::warn!(%error, count = slots.len(), "acknowledging fails");
                core.runtime.sleep(core.pacing.retry_delay).await;
            }
        }
        // Each is looked at again: it is released now, or acknowledged once more.
        for slot in slots {
            core.groups.forget(slot.group);
            core.look_at(slot.slot_ref());
        }
    }
}

/// Acknowledges revisions of slots, once our disk has a height at which the slots are ours.
///
/// # Errors
///
/// [`CatchUpError::Store`]: nothing was acknowledged. [`CatchUpError::Ledger`].
pub(crate) async fn submit_acknowledgement<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    slots: Bounded<SlotRevision, SLOTS_PER_TX_MAX>,
) -> Result<TxOutcome, CatchUpError> {
    core.keep_seen_height().await?;
    Ok(core.submit(TxBody::Acknowledge { slots }).await?)
}
