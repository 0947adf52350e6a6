//! What the handles and the task that makes blocks share.

use std::sync::{Mutex, MutexGuard, RwLock};

use cairn_core::{Height, NodeId, Signed};
use cairn_ledger::tx::tx_id;
use cairn_ledger::{
    BlockEffects, Expected, LedgerError, NodeStatus, State, Tx, TxError, TxOutcome, check_signature,
};
use cairn_runtime::Runtime;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::Config;
use crate::history::{Forgotten, History};
use crate::mempool::{Full, Mempool};
use crate::seed::SeedSource;
use crate::store::{Loaded, Store};

/// Most callers that wait for effects at a time.
const POLLS_MAX: usize = 1024;

/// The state of the final blocks.
#[derive(Debug)]
pub(super) struct View {
    pub(super) state: State,
    pub(super) history: History,
}

/// Whether blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// They are.
    Running,
    /// The last one is being made.
    Stopping,
    /// No more: the folder is given free, or its disk failed.
    Stopped,
}

/// What those who wait look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) height: Height,
    pub(super) phase: Phase,
}

/// Locks are taken in the order of the fields, and none is held while waiting.
pub(super) struct Core<R: Runtime> {
    pub(super) runtime: R,
    config: Config,
    pub(super) seeds: SeedSource,
    /// `None` once stopped.
    pub(super) store: Mutex<Option<Store<R::Disk>>>,
    mempool: Mutex<Mempool>,
    pub(super) view: RwLock<View>,
    /// Wakes the task that makes blocks.
    pub(super) wake: Notify,
    pub(super) progress: watch::Sender<Progress>,
    polls: Semaphore,
}

impl<R: Runtime> Core<R> {
    pub(super) fn new(runtime: R, config: Config, loaded: Loaded<R::Disk>) -> Self {
        let progress = Progress {
            height: loaded.state.height(),
            phase: Phase::Running,
        };
        Self {
            runtime,
            config,
            seeds: SeedSource::new(loaded.key, loaded.state.genesis_digest()),
            store: Mutex::new(Some(loaded.store)),
            mempool: Mutex::new(Mempool::default()),
            view: RwLock::new(View {
                state: loaded.state,
                history: loaded.history,
            }),
            wake: Notify::new(),
            progress: watch::Sender::new(progress),
            polls: Semaphore::new(POLLS_MAX),
        }
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn mempool(&self) -> MutexGuard<'_, Mempool> {
        self.mempool.lock().expect("no holder panics")
    }

    /// Something of the state of the final blocks.
    pub(super) fn read<T>(&self, what: impl FnOnce(&State) -> T) -> T {
        what(&self.view.read().expect("no holder panics").state)
    }

    pub(super) fn phase(&self) -> Phase {
        self.progress.borrow().phase
    }

    /// No more blocks after the one being made.
    pub(super) fn stop(&self) {
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
    pub(super) fn finish(&self) {
        let store = self.store.lock().expect("no holder panics").take();
        drop(store);
        let mut mempool = self.mempool();
        self.progress
            .send_modify(|progress| progress.phase = Phase::Stopped);
        mempool.fail_all(&LedgerError::Stopped);
    }

    pub(super) async fn wait_stopped(&self) {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        drop(
            progress
                .wait_for(|progress| progress.phase == Phase::Stopped)
                .await,
        );
    }

    /// Whether there is something to make a block of.
    pub(super) fn has_work(&self) -> bool {
        !self.mempool().is_empty() || self.read(State::has_draws)
    }

    pub(super) async fn submit(&self, tx: Signed<Tx>) -> Result<TxOutcome, LedgerError> {
        check_signature(&tx).map_err(LedgerError::Refused)?;
        let id = tx_id(&tx);
        let waiter = {
            let mut mempool = self.mempool();
            let view = self.view.read().expect("no holder panics");
            if let Some((height, Ok(()))) = view.history.outcome(id) {
                let height = *height;
                return Ok(TxOutcome { id, height });
            }
            if self.phase() != Phase::Running {
                return Err(LedgerError::Stopped);
            }
            let (sender, waiter) = oneshot::channel();
            if mempool.contains(id) {
                mempool.wait_for(id, sender).map_err(busy)?;
            } else {
                let waiting = mempool.waiting_of(tx.unverified().account);
                let expected = match u64::try_from(waiting).unwrap_or(u64::MAX) {
                    0 => Expected::Next,
                    waiting => Expected::After(waiting),
                };
                view.state
                    .check(tx.unverified(), expected)
                    .map_err(LedgerError::Refused)?;
                mempool.push(id, tx, sender).map_err(busy)?;
            }
            waiter
        };
        self.wake.notify_one();
        waiter.await.unwrap_or(Err(LedgerError::Stopped))
    }

    pub(super) async fn declare_lost(&self, node: NodeId) -> Result<Height, LedgerError> {
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

    pub(super) async fn effects(&self, from: Height) -> Result<Vec<BlockEffects>, LedgerError> {
        let max = u64::try_from(POLLS_MAX).unwrap_or(u64::MAX);
        let _poll = self
            .polls
            .try_acquire()
            .map_err(|_| LedgerError::Busy { max })?;
        let mut progress = self.progress.subscribe();
        let is_there =
            |progress: &Progress| progress.height >= from || progress.phase != Phase::Running;
        let limit = self.config.poll_limit;
        let there = self
            .runtime
            .timeout(limit, async {
                // The sender lives as long as `self`.
                progress.wait_for(is_there).await.map(|found| *found).ok()
            })
            .await;
        let is_stopped = matches!(there, Ok(Some(found)) if found.height < from);
        let view = self.view.read().expect("no holder panics");
        let blocks =
            view.history
                .from(from)
                .map_err(|Forgotten { oldest }| LedgerError::Forgotten {
                    oldest,
                    found: from,
                })?;
        if blocks.is_empty() && is_stopped {
            return Err(LedgerError::Stopped);
        }
        Ok(blocks)
    }
}

fn busy(full: Full) -> LedgerError {
    LedgerError::Busy {
        max: u64::try_from(full.max).unwrap_or(u64::MAX),
    }
}
