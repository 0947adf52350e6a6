//! What all parts of a node share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_core::{AccountId, GroupId, NodeId, SecretKey, Signature};
use cairn_ledger::port::{Ledger, LedgerError, TxOutcome, submit_body};
use cairn_ledger::tx::{NodeTerms, SlotRef, TxBody};
use cairn_net::Network;
use cairn_net::pool::DataPool;
use cairn_runtime::Runtime;
use tokio::sync::Notify;

use crate::acknowledge::Acknowledgements;
use crate::audit::Audits;
use crate::catch_up::Lacks;
use crate::config::{LedgerServer, Pacing};
use crate::groups::Groups;
use crate::memory::ShardMemory;
use crate::prove::Proofs;
use crate::seen_height::SeenHeight;
use crate::status::{Lags, LedgerProblem};
use crate::store::{GroupCommit, ShardStore, StoreError};

/// What all parts of a node share.
pub(crate) struct Core<R: Runtime, N: Network, L: Ledger> {
    pub(crate) runtime: R,
    pub(crate) network: N,
    pub(crate) ledger: L,
    pub(crate) key: SecretKey,
    pub(crate) id: NodeId,
    pub(crate) store: GroupCommit<R>,
    pub(crate) seen_height: Arc<SeenHeight<R::Disk>>,
    pub(crate) groups: Groups<R, L>,
    pub(crate) memory: Arc<ShardMemory>,
    pub(crate) pool: DataPool<N, R>,
    pub(crate) pacing: Pacing,
    pub(crate) offer: Offer,
    pub(crate) ledger_server: Option<Arc<dyn LedgerServer>>,
    pub(crate) work: Work,
    pub(crate) lacks: Lacks,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) lags: Lags,
    pub(crate) ledger_problem: LedgerProblem,
    pub(crate) proofs: Proofs,
    pub(crate) audits: Audits,
    /// Whether the ledger says that it drains, as last seen.
    pub(crate) is_draining: AtomicBool,
    /// One transaction at a time: they are numbered.
    pub(crate) submitting: tokio::sync::Mutex<()>,
}

/// What the node is registered with.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) terms: NodeTerms,
    /// Who answers for it, and their consent; itself when `None`.
    pub(crate) operator: Option<(AccountId, Signature)>,
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

    /// Makes durable how far the ledger was seen, unless it is: before anything is promised, as in
    /// [`crate::seen_height`].
    pub(crate) async fn keep_seen_height(&self) -> Result<(), StoreError> {
        if self.seen_height.kept() >= self.ledger.seen() {
            return Ok(());
        }
        self.for_good(|_| Ok(())).await
    }

    /// Does with the store what can't be undone, once it is durable how far the ledger was seen.
    pub(crate) async fn for_good<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&ShardStore<R::Disk>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let height = self.ledger.seen();
        let seen_height = Arc::clone(&self.seen_height);
        // With the store, so that its lock is held for as long as the file is written.
        let work = move |store: &ShardStore<R::Disk>| {
            seen_height.keep(height)?;
            work(store)
        };
        self.store.with(work).await
    }

    /// Before a receipt is given for a slot that is ours: the disk has a height at which it is.
    pub(crate) async fn promise(&self, slot: SlotRef) -> Result<(), StoreError> {
        if !self.work.is_promised(slot) {
            self.keep_seen_height().await?;
            self.work.promise(slot);
        }
        Ok(())
    }

    /// Something may be to do for a slot.
    pub(crate) fn look_at(&self, slot: SlotRef) {
        if self.work.is_known(slot) {
            self.work.looks.add(slot);
        }
    }

    /// Something may be to do for our slots of a group.
    pub(crate) fn look_at_group(&self, group: GroupId) {
        for slot in self.work.known_of(group) {
            self.work.looks.add(slot);
        }
    }
}

/// Slots with something to do: short looks, and long catching up, so that a slot that takes hours
/// keeps no other waiting.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Slots that are ours by the ledger, or of which something is here.
    known: Mutex<BTreeSet<SlotRef>>,
    /// Slots of ours that receipts were given for since they were drawn, as far as we heard: see
    /// [`Core::promise`].
    promised: Mutex<BTreeSet<SlotRef>>,
    pub(crate) looks: SlotQueue,
    pub(crate) catch_ups: SlotQueue,
}

impl Work {
    fn all(&self) -> MutexGuard<'_, BTreeSet<SlotRef>> {
        self.known.lock().expect("nothing panics while it is held")
    }

    fn promised(&self) -> MutexGuard<'_, BTreeSet<SlotRef>> {
        let promised = self.promised.lock();
        promised.expect("nothing panics while it is held")
    }

    /// The slot is ours, or we have something of it.
    pub(crate) fn know(&self, slot: SlotRef) {
        self.all().insert(slot);
    }

    /// The slot was drawn to us, perhaps again: what was promised of it before is of another time.
    pub(crate) fn draw(&self, slot: SlotRef) {
        self.promised().remove(&slot);
        self.know(slot);
    }

    /// A receipt is given for the slot.
    fn promise(&self, slot: SlotRef) {
        self.promised().insert(slot);
    }

    fn is_promised(&self, slot: SlotRef) -> bool {
        self.promised().contains(&slot)
    }

    /// Nothing of the slot is here any more, and it is not ours.
    pub(crate) fn forget(&self, slot: SlotRef) {
        self.all().remove(&slot);
        self.promised().remove(&slot);
    }

    pub(crate) fn is_known(&self, slot: SlotRef) -> bool {
        self.all().contains(&slot)
    }

    pub(crate) fn known(&self) -> Vec<SlotRef> {
        self.all().iter().copied().collect()
    }

    pub(crate) fn known_of(&self, group: GroupId) -> Vec<SlotRef> {
        let all = self.all();
        let slots = all.iter().filter(|slot| slot.group == group);
        slots.copied().collect()
    }

    /// Whether nothing waits and nobody works.
    pub(crate) fn is_idle(&self) -> bool {
        self.looks.is_idle() && self.catch_ups.is_idle()
    }
}

/// Slots that wait for somebody. A set: a slot is there once, however often it is added, so it is
/// bounded by the slots that the ledger gave us.
#[derive(Debug, Default)]
pub(crate) struct SlotQueue {
    state: Mutex<QueueState>,
    added: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: BTreeSet<SlotRef>,
    busy: BTreeSet<SlotRef>,
}

impl SlotQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    pub(crate) fn add(&self, slot: SlotRef) {
        self.state().waiting.insert(slot);
        self.added.notify_one();
    }

    /// The next slot, which nobody else has meanwhile; given back with [`Self::done`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses none.
    pub(crate) async fn take(&self) -> SlotRef {
        loop {
            if let Some(slot) = self.take_waiting() {
                return slot;
            }
            self.added.notified().await;
        }
    }

    fn take_waiting(&self) -> Option<SlotRef> {
        let mut state = self.state();
        let slot = state.waiting.difference(&state.busy).next().copied()?;
        state.waiting.remove(&slot);
        state.busy.insert(slot);
        if !state.waiting.is_empty() {
            self.added.notify_one();
        }
        Some(slot)
    }

    pub(crate) fn done(&self, slot: SlotRef) {
        self.state().busy.remove(&slot);
        self.added.notify_one();
    }

    fn is_idle(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.busy.is_empty()
    }
}
