//! What all parts of a node share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use cairn_core::{GroupId, NodeId, SecretKey};
use cairn_ledger::port::{Ledger, LedgerError, TxOutcome, submit_body};
use cairn_ledger::tx::{SlotRef, TxBody};
use cairn_net::Network;
use cairn_net::pool::DataPool;
use cairn_runtime::Runtime;
use tokio::sync::Notify;

use crate::config::{LedgerServer, Pacing};
use crate::follow::Acknowledgements;
use crate::groups::Groups;
use crate::memory::ShardMemory;
use crate::status::Lags;
use crate::store::GroupCommit;

/// What all parts of a node share.
pub(crate) struct Core<R: Runtime, N: Network, L: Ledger> {
    pub(crate) runtime: R,
    pub(crate) network: N,
    pub(crate) ledger: L,
    pub(crate) key: SecretKey,
    pub(crate) id: NodeId,
    pub(crate) store: GroupCommit<R>,
    pub(crate) groups: Groups<R, L>,
    pub(crate) memory: Arc<ShardMemory>,
    pub(crate) pool: DataPool<N, R>,
    pub(crate) pacing: Pacing,
    pub(crate) ledger_server: Option<Arc<dyn LedgerServer>>,
    pub(crate) work: Work,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) lags: Lags,
    /// One transaction at a time: they are numbered.
    pub(crate) submitting: tokio::sync::Mutex<()>,
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for Core<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> Core<R, N, L> {
    /// Submits a transaction of ours and waits until it is final.
    pub(crate) async fn submit(&self, body: TxBody) -> Result<TxOutcome, LedgerError> {
        let _turn = self.submitting.lock().await;
        submit_body(&self.ledger, &self.key, body).await
    }

    /// Something may be to do for a slot.
    pub(crate) fn look_at(&self, slot: SlotRef) {
        self.work.add(slot);
    }

    /// Something may be to do for our slots of a group.
    pub(crate) fn look_at_group(&self, group: GroupId) {
        for slot in self.work.known_of(group) {
            self.work.add(slot);
        }
    }
}

/// Slots to look at. A set: a slot is there once, however often it is added, so it is bounded by
/// the slots that the ledger gave us.
#[derive(Debug, Default)]
pub(crate) struct Work {
    state: Mutex<WorkState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct WorkState {
    /// Slots that are ours by the ledger, or of which something is here.
    known: BTreeSet<SlotRef>,
    waiting: BTreeSet<SlotRef>,
    busy: BTreeSet<SlotRef>,
}

impl Work {
    fn state(&self) -> std::sync::MutexGuard<'_, WorkState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// The slot is ours, or we have something of it.
    pub(crate) fn know(&self, slot: SlotRef) {
        self.state().known.insert(slot);
    }

    /// Nothing of the slot is here any more, and it is not ours.
    pub(crate) fn forget(&self, slot: SlotRef) {
        let mut state = self.state();
        state.known.remove(&slot);
        state.waiting.remove(&slot);
    }

    pub(crate) fn known(&self) -> Vec<SlotRef> {
        self.state().known.iter().copied().collect()
    }

    pub(crate) fn known_of(&self, group: GroupId) -> Vec<SlotRef> {
        let state = self.state();
        let slots = state.known.iter();
        slots.filter(|slot| slot.group == group).copied().collect()
    }

    /// A known slot is to be looked at.
    pub(crate) fn add(&self, slot: SlotRef) {
        let mut state = self.state();
        if state.known.contains(&slot) {
            state.waiting.insert(slot);
            self.added.notify_one();
        }
    }

    /// The next slot to look at, which nobody else looks at meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses none.
    pub(crate) async fn take(&self) -> SlotRef {
        loop {
            {
                let mut state = self.state();
                let next = state.waiting.difference(&state.busy).next().copied();
                if let Some(slot) = next {
                    state.waiting.remove(&slot);
                    state.busy.insert(slot);
                    return slot;
                }
            }
            self.added.notified().await;
        }
    }

    /// Done looking at a slot.
    pub(crate) fn done(&self, slot: SlotRef) {
        self.state().busy.remove(&slot);
        self.added.notify_one();
    }

    /// Whether nothing waits and nobody works.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.busy.is_empty()
    }
}
