//! What the handles on a ledger and whoever makes its blocks share.

mod attest;
mod commit;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::Duration;

use cairn_core::{Amount, Height, LedgerId, NodeId, Signed, TxId, UnixMillis};
use cairn_ledger::tx::tx_id;
use cairn_ledger::{
    BlockEffects, BlockSummary, Chained, Expected, LedgerError, NodeStatus, State, Tx, TxError,
    TxOutcome, check_signature,
};
use cairn_runtime::Runtime;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot, watch};

pub(crate) use self::attest::Attester;
use self::attest::{Shown, outline};
pub(crate) use self::commit::{is_proof, judge};
use crate::admission::Admission;
use crate::history::{Forgotten, History};
use crate::mempool::{Batch, Full, Mempool, Source, Submitted};
use crate::store::{Loaded, Store};

/// How often in an epoch the time is looked at: twice for each block that an epoch is to have.
const TICKS_PER_EPOCH: u64 = 16;
/// Shortest and longest time between two looks: an epoch begins and opens without much delay.
const TICK_MIN: Duration = Duration::from_millis(50);
const TICK_MAX: Duration = Duration::from_secs(2);
/// Most callers that wait for a height at a time: a poll for effects of each of some hundred nodes,
/// and as many clients.
pub const POLLS_MAX: usize = 1024;
/// Most peers' transactions that are waited for at a time.
pub const SUBMISSIONS_MAX: usize = 512;

/// The state of the final blocks.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) history: History,
}

impl View {
    /// What became of a transaction, when it was done or paid for. One that left no mark may be
    /// tried again.
    fn outcome(&self, id: TxId, tx: &Tx) -> Option<Result<TxOutcome, LedgerError>> {
        let (height, result) = self.history.outcome(id)?;
        let height = *height;
        match result {
            Ok(()) => Some(Ok(TxOutcome { id, height })),
            Err(error) if self.state.account(tx.account).nonce > tx.nonce => {
                Some(Err(LedgerError::Refused(error.clone())))
            }
            Err(_) => None,
        }
    }

    /// Whether the account can be charged for a transaction after those of it that wait, and which
    /// these are. Of an account that does not exist one waits at most, since nothing is behind it.
    fn check_account(&self, mempool: &Mempool, tx: &Tx) -> Result<Expected, LedgerError> {
        let waiting = mempool.waiting_of(tx.account);
        let expected = match u64::try_from(waiting.count).unwrap_or(u64::MAX) {
            0 => Expected::Next,
            count => Expected::After {
                count,
                cost: waiting.cost,
            },
        };
        self.state
            .check_account(tx, expected)
            .map_err(LedgerError::Refused)?;
        if expected != Expected::Next && !self.state.has_account(tx.account) {
            return Err(LedgerError::Busy { max: 1 });
        }
        Ok(expected)
    }

    /// Whether a transaction can be done after those of its account that wait, as far as it can be
    /// told now.
    fn check(&self, mempool: &Mempool, tx: &Tx) -> Result<(), LedgerError> {
        if self.check_account(mempool, tx)? == Expected::Next {
            self.state.check(tx).map_err(LedgerError::Refused)?;
        }
        Ok(())
    }
}

/// What is known of a transaction that is submitted.
enum Submission {
    /// It is final.
    Final(Result<TxOutcome, LedgerError>),
    /// It is to be ordered, or waits.
    New,
}

/// Blocks between two states on disk, at least: reopening applies at most about these.
pub const STATE_INTERVAL_BLOCKS: u64 = 1024;
/// Longest wait of [`cairn_ledger::Ledger::effects`] for a block; below the usual limit of a
/// request.
pub const POLL_LIMIT: Duration = Duration::from_secs(5);

/// How a ledger's blocks are kept and its questions answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) folder: PathBuf,
    /// Blocks between two states on disk, at least.
    pub(crate) state_interval_blocks: u64,
    /// Longest wait for a block.
    pub(crate) poll_limit: Duration,
}

/// Whether blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They are.
    Running,
    /// The last one is being made.
    Stopping,
    /// No more: the folder is given free, or its disk failed.
    Stopped,
}

/// What those who wait look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) height: Height,
    /// The highest that can be shown to others.
    pub(crate) shown: Option<Height>,
    pub(crate) phase: Phase,
}

/// Locks are taken in the order of the fields, and none is held while waiting.
pub(crate) struct Core<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) ledger: LedgerId,
    pub(crate) settings: Settings,
    /// `None` once stopped.
    pub(crate) store: Mutex<Option<Store<R::Disk>>>,
    mempool: Mutex<Mempool>,
    pub(crate) view: RwLock<View>,
    /// Wakes the task that makes blocks.
    pub(crate) wake: Notify,
    pub(crate) progress: watch::Sender<Progress>,
    polls: Semaphore,
    submissions: Semaphore,
    pub(crate) admission: Admission,
    attester: Attester,
    shown: Mutex<Shown>,
    /// Where transactions that came here go on to other validators.
    pub(crate) outbox: Option<mpsc::Sender<Submitted>>,
}

impl<R: Runtime> Core<R> {
    pub(crate) fn new(
        runtime: R,
        settings: Settings,
        loaded: Loaded<R::Disk>,
        attester: Attester,
    ) -> Self {
        let progress = Progress {
            height: loaded.state.height(),
            shown: None,
            phase: Phase::Running,
        };
        let ledger = loaded.state.ledger_id();
        let core = Self {
            runtime,
            ledger,
            settings,
            store: Mutex::new(Some(loaded.store)),
            mempool: Mutex::new(Mempool::default()),
            view: RwLock::new(View {
                state: loaded.state,
                history: loaded.history,
            }),
            wake: Notify::new(),
            progress: watch::Sender::new(progress),
            polls: Semaphore::new(POLLS_MAX),
            submissions: Semaphore::new(SUBMISSIONS_MAX),
            admission: Admission::default(),
            attester,
            shown: Mutex::default(),
            outbox: None,
        };
        let (attested, trie) = core.read(outline);
        core.attest(attested, trie);
        core
    }

    pub(crate) fn mempool(&self) -> MutexGuard<'_, Mempool> {
        self.mempool.lock().expect("no holder panics")
    }

    /// Something of the state of the final blocks.
    pub(crate) fn read<T>(&self, what: impl FnOnce(&State) -> T) -> T {
        what(&self.view.read().expect("no holder panics").state)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.progress.borrow().phase
    }

    /// No more blocks after the one being made.
    pub(crate) fn stop(&self) {
        {
            // Under the lock, so that nothing is queued after the queue was emptied.
            let _mempool = self.mempool();
            self.progress.send_if_modified(|progress| {
                let is_running = progress.phase == Phase::Running;
                if is_running {
                    progress.phase = Phase::Stopping;
                }
                is_running
            });
        }
        self.wake.notify_one();
    }

    /// No more blocks: tells those who wait and gives the folder free.
    pub(crate) fn finish(&self) {
        let store = self.store.lock().expect("no holder panics").take();
        drop(store);
        let mut mempool = self.mempool();
        self.progress
            .send_modify(|progress| progress.phase = Phase::Stopped);
        mempool.fail_all(&LedgerError::Stopped);
    }

    /// Waits until no more blocks are to be made.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn wait_stopping(&self) {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        drop(
            progress
                .wait_for(|progress| progress.phase != Phase::Running)
                .await,
        );
    }

    /// Waits until a term is over: the border behind it has passed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn wait_term_over(&self, term: u32) {
        let mut progress = self.progress.subscribe();
        while self.term() == Some(term) {
            // The sender lives as long as `self`.
            drop(progress.changed().await);
        }
    }

    /// Waits until a height can be shown, for as long as it takes.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn wait_until_shown(&self, height: Height) {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        drop(progress.wait_for(|it| it.shown >= Some(height)).await);
    }

    /// The number of the term that runs; `None` of a sequencer.
    pub(crate) fn term(&self) -> Option<u32> {
        self.read(|state| state.term().map(|term| term.number))
    }

    pub(crate) async fn wait_stopped(&self) {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        drop(
            progress
                .wait_for(|progress| progress.phase == Phase::Stopped)
                .await,
        );
    }

    /// The time by the machine's clock.
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis::from_unix(self.runtime.now())
    }

    /// How long it is until a time by the machine's clock; 0 when it is over.
    pub(crate) fn until(&self, time: UnixMillis) -> Duration {
        let left = time.get().saturating_sub(self.now().get());
        Duration::from_millis(left)
    }

    /// Whether there is something to make a block of that is not in blocks on the way.
    pub(crate) fn has_work_beyond(&self, taken: &BTreeSet<TxId>) -> bool {
        let now = self.now();
        self.mempool().has_beyond(taken) || self.read(|state| state.wants_block(now))
    }

    /// Waits until there may be something to make a block of.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn wait_for_work(&self) {
        let woken = self.wake.notified();
        let epoch_millis = self.read(|state| state.parameters().epoch_millis);
        if epoch_millis == 0 {
            woken.await;
            return;
        }
        // An epoch begins, and the ledger shows that it works, without anybody's asking.
        let tick = Duration::from_millis(epoch_millis / TICKS_PER_EPOCH);
        let tick = tick.clamp(TICK_MIN, TICK_MAX);
        // Woken or not, the caller looks.
        let _passed = self.runtime.timeout(tick, woken).await;
    }

    /// What goes into the next block.
    pub(crate) fn select(&self, taken: &BTreeSet<TxId>) -> Batch {
        self.mempool().select(taken)
    }

    /// Orders a transaction and waits until it is final.
    pub(crate) async fn submit(
        &self,
        submitted: Submitted,
        source: Source,
    ) -> Result<TxOutcome, LedgerError> {
        let id = tx_id(&submitted.tx);
        if let Submission::Final(outcome) = self.look_up(id, &submitted, source)? {
            return outcome;
        }
        let attempt = self.take_attempt(source)?;
        check_signature(&submitted.tx, self.ledger).map_err(LedgerError::Refused)?;
        submitted.check_witness().map_err(LedgerError::Refused)?;
        let pays = submitted.tx.unverified().fee > Amount::ZERO;
        let copy = self
            .outbox
            .as_ref()
            .map(|outbox| (outbox, submitted.clone()));
        let (waiter, is_known) = self.queue(id, submitted, source)?;
        self.wake.notify_one();
        if let Some((outbox, submitted)) = copy {
            // Without room it is ordered when this validator leads.
            drop(outbox.try_send(submitted));
        }
        let outcome = waiter.await.unwrap_or(Err(LedgerError::Stopped));
        let is_worth_it = match &outcome {
            Ok(_) => is_known,
            Err(LedgerError::Refused(_)) => pays && is_known,
            Err(_) => true,
        };
        if is_worth_it && let Some(peer) = attempt {
            self.admission.give_back(peer);
        }
        outcome
    }

    /// What can be said of a transaction before any work is done on it: that it is final, that it
    /// can't be ordered now, or nothing.
    fn look_up(
        &self,
        id: TxId,
        submitted: &Submitted,
        source: Source,
    ) -> Result<Submission, LedgerError> {
        let (tx, sizes) = (&submitted.tx, submitted.sizes());
        let mempool = self.mempool();
        let view = self.view.read().expect("no holder panics");
        if let Some(outcome) = view.outcome(id, tx.unverified()) {
            return Ok(Submission::Final(outcome));
        }
        if self.phase() != Phase::Running {
            return Err(LedgerError::Stopped);
        }
        if !mempool.contains(id) {
            view.check_account(&mempool, tx.unverified())?;
            let account = tx.unverified().account;
            mempool.check_room(account, source, sizes).map_err(busy)?;
            mempool.check_alone(tx.unverified()).map_err(busy)?;
        }
        Ok(Submission::New)
    }

    fn take_attempt(&self, source: Source) -> Result<Option<NodeId>, LedgerError> {
        let Source::Peer(peer) = source else {
            return Ok(None);
        };
        let now = self.runtime.monotonic();
        self.admission.attempt(peer, now).map_err(busy)?;
        Ok(Some(peer))
    }

    /// Queues a transaction whose signature holds; also whether its account exists.
    fn queue(
        &self,
        id: TxId,
        submitted: Submitted,
        source: Source,
    ) -> Result<(oneshot::Receiver<Result<TxOutcome, LedgerError>>, bool), LedgerError> {
        let mut mempool = self.mempool();
        let view = self.view.read().expect("no holder panics");
        let (sender, waiter) = oneshot::channel();
        let body = submitted.tx.unverified();
        let is_known = view.state.has_account(body.account);
        if let Some(outcome) = view.outcome(id, body) {
            // Whoever sent it has just been told.
            drop(sender.send(outcome));
            return Ok((waiter, is_known));
        }
        if self.phase() != Phase::Running {
            return Err(LedgerError::Stopped);
        }
        if mempool.contains(id) {
            mempool.wait_for(id, sender).map_err(busy)?;
            return Ok((waiter, is_known));
        }
        view.check(&mempool, body)?;
        mempool
            .push(id, submitted, source, Some(sender))
            .map_err(busy)?;
        Ok((waiter, is_known))
    }

    /// Whether a transaction's signature holds. Those that wait here were checked before.
    pub(crate) fn is_signed(&self, tx: &Signed<Tx>) -> bool {
        let is_known = {
            let mempool = self.mempool();
            mempool.contains(tx_id(tx))
        };
        is_known || check_signature(tx, self.ledger).is_ok()
    }

    /// Queues a transaction that another validator passed on, if it may be ordered and there is room
    /// in that validator's share; else it is left to the validator that it came from.
    ///
    /// # Errors
    ///
    /// When its signature or its proof is not what it says. That is found out only of one that may be
    /// ordered.
    pub(crate) fn queue_forwarded(
        &self,
        submitted: Submitted,
        source: Source,
    ) -> Result<(), TxError> {
        let id = tx_id(&submitted.tx);
        let sizes = submitted.sizes();
        let may_be = |mempool: &Mempool| {
            let view = self.view.read().expect("no holder panics");
            let body = submitted.tx.unverified();
            !mempool.contains(id)
                && mempool.check_room(body.account, source, sizes).is_ok()
                && view.outcome(id, body).is_none()
                && view.check(mempool, body).is_ok()
        };
        let may_be_now = {
            let mempool = self.mempool();
            may_be(&mempool)
        };
        if !may_be_now {
            return Ok(());
        }
        check_signature(&submitted.tx, self.ledger)?;
        submitted.check_witness()?;
        let mut mempool = self.mempool();
        if may_be(&mempool) && mempool.push(id, submitted, source, None).is_ok() {
            drop(mempool);
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(crate) async fn declare_lost(&self, node: NodeId) -> Result<Height, LedgerError> {
        let waiter = {
            let mut mempool = self.mempool();
            let view = self.view.read().expect("no holder panics");
            let entry = view.state.node(node);
            let status = entry.map(|entry| entry.status).ok_or({
                let unknown = TxError::UnknownNode { node };
                LedgerError::Refused(unknown)
            })?;
            if status == NodeStatus::Lost {
                return Ok(view.state.height());
            }
            if self.phase() != Phase::Running {
                return Err(LedgerError::Stopped);
            }
            let (sender, waiter) = oneshot::channel();
            mempool.push_lost(node, sender).map_err(busy)?;
            waiter
        };
        self.wake.notify_one();
        waiter.await.unwrap_or(Err(LedgerError::Stopped))
    }

    /// The effects of blocks from a height on, with what shows them to others; waits for one, but
    /// not for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn shown_effects(
        &self,
        from: Height,
    ) -> Result<Chained<BlockEffects>, LedgerError> {
        let _poll = self.poll()?;
        if !self.wait_shown(from).await && self.phase() != Phase::Running {
            return Err(LedgerError::Stopped);
        }
        self.shown_blocks(from, |history| history.shown_effects(from))
    }

    /// Blocks in short from a height on, with what shows them to others.
    pub(crate) fn summaries(&self, from: Height) -> Result<Chained<BlockSummary>, LedgerError> {
        self.shown_blocks(from, |history| history.shown_summaries(from))
    }

    /// The blocks that `what` gives, or that there are none, of the newest height that is shown.
    fn shown_blocks<T>(
        &self,
        from: Height,
        what: impl FnOnce(&History) -> Result<Option<Chained<T>>, Forgotten>,
    ) -> Result<Chained<T>, LedgerError> {
        let view = self.view.read().expect("no holder panics");
        let blocks = what(&view.history).map_err(forgotten(from))?;
        match blocks {
            Some(blocks) => Ok(blocks),
            None => {
                let (attestation, _) = self.newest().ok_or_else(|| self.behind(from))?;
                Ok(Chained::none(attestation))
            }
        }
    }

    /// A place among those who wait for a height.
    pub(crate) fn poll(&self) -> Result<SemaphorePermit<'_>, LedgerError> {
        place(&self.polls, POLLS_MAX)
    }

    /// A place among those who wait for a peer's transaction.
    pub(crate) fn submission(&self) -> Result<SemaphorePermit<'_>, LedgerError> {
        place(&self.submissions, SUBMISSIONS_MAX)
    }

    pub(crate) async fn effects(&self, from: Height) -> Result<Vec<BlockEffects>, LedgerError> {
        let _poll = self.poll()?;
        let mut progress = self.progress.subscribe();
        let is_there =
            |progress: &Progress| progress.height >= from || progress.phase != Phase::Running;
        let limit = self.settings.poll_limit;
        let there = self
            .runtime
            .timeout(limit, async {
                // The sender lives as long as `self`.
                progress.wait_for(is_there).await.map(|found| *found).ok()
            })
            .await;
        let is_stopped = matches!(there, Ok(Some(found)) if found.height < from);
        let view = self.view.read().expect("no holder panics");
        let blocks = view.history.from(from).map_err(forgotten(from))?;
        if blocks.is_empty() && is_stopped {
            return Err(LedgerError::Stopped);
        }
        Ok(blocks)
    }
}

/// That a height is older than what is remembered.
fn forgotten(found: Height) -> impl Fn(Forgotten) -> LedgerError {
    move |Forgotten { oldest }| LedgerError::Forgotten { oldest, found }
}

fn place(places: &Semaphore, max: usize) -> Result<SemaphorePermit<'_>, LedgerError> {
    places.try_acquire().map_err(|_| busy(Full { max }))
}

pub(crate) fn busy(full: Full) -> LedgerError {
    LedgerError::Busy {
        max: u64::try_from(full.max).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
pub(crate) mod tests;
