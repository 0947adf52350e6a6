//! A node: its tasks from start to shutdown, and the handle to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_core::{AccountId, Amount, LedgerId, NodeId, UnixMillis};
use cairn_ledger::NodeEntry;
use cairn_ledger::port::{Ledger, LedgerError};
use cairn_ledger::tx::TxBody;
use cairn_net::Network;
use cairn_net::pool::{DataPool, PoolLimits};
use cairn_runtime::{Elapsed, Runtime, Task};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Semaphore, watch};

use crate::acknowledge::{Acknowledgements, acknowledge};
use crate::audit::{Audits, audit_on};
use crate::catch_up::Lacks;
use crate::config::{CONTROL_REQUESTS_MAX, NodeConfig, STREAMS_MAX};
use crate::core::{Core, Offer, Work};
use crate::follow::{LOOKS_AT_ONCE, catch_slots_up, follow, tend, wake};
use crate::groups::Groups;
use crate::maintain::{ScrubReport, maintain, scrub_all, scrub_on};
use crate::memory::ShardMemory;
use crate::prove::{Proofs, prove_on};
use crate::publish::publish;
use crate::seen_height::{SeenHeight, SeenHeightError};
use crate::serve::serve_stream;
use crate::status::{Lags, LedgerProblem, NodeStatus, SlotLag};
use crate::store::{GroupCommit, OpenReport, ShardStore, StoreError, StoreKey};

/// Why a node did not start or did not do what its operator asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// Its shard store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// How far it has seen the ledger is not known.
    #[error(transparent)]
    SeenHeight(#[from] SeenHeightError),
    /// The ledger.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The network has another identity than the configuration.
    #[error("the key is that of node {key}, the network's is {network}")]
    Identity {
        /// By the configuration.
        key: NodeId,
        /// By the network.
        network: NodeId,
    },
}

/// A running node. Dropping it stops it at once, as a crash does: [`Self::shutdown`] is clean.
pub struct NodeHandle<R: Runtime, N: Network, L: Ledger> {
    core: Arc<Core<R, N, L>>,
    closing: watch::Sender<bool>,
    /// End by themselves when closing.
    serving: Vec<Task<()>>,
    /// Are aborted.
    working: Vec<Task<()>>,
    report: OpenReport,
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for NodeHandle<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle")
            .field("node", &self.core.id)
            .finish_non_exhaustive()
    }
}

/// Starts a node: opens its store, serves, registers with the ledger and follows it. Serving
/// begins at once; registering goes on in the background when the ledger does not answer.
///
/// # Errors
///
/// [`NodeError::Store`], [`NodeError::SeenHeight`], [`NodeError::Identity`].
///
/// # Cancel safety
///
/// Dropping it starts nothing; the store's lock is released when its opening ends.
pub async fn start<R: Runtime, N: Network, L: Ledger>(
    runtime: R,
    network: N,
    ledger: L,
    config: NodeConfig,
) -> Result<NodeHandle<R, N, L>, NodeError> {
    let id = NodeId::new(config.key.public());
    if network.local() != id {
        return Err(NodeError::Identity {
            key: id,
            network: network.local(),
        });
    }
    let (store, seen_height, report) = open(&runtime, &config, ledger.id()).await?;
    // Before anything is asked: an earlier state may not have what is ours.
    ledger.expect_at_least(seen_height.kept());
    let core = Arc::new(Core {
        store: GroupCommit::new(runtime.clone(), store),
        seen_height: Arc::new(seen_height),
        groups: Groups::new(runtime.clone(), ledger.clone()),
        memory: Arc::new(ShardMemory::new()),
        pool: DataPool::new(network.clone(), runtime.clone(), PoolLimits::DEFAULT),
        runtime: runtime.clone(),
        network,
        ledger,
        key: config.key.clone(),
        id,
        pacing: config.pacing,
        offer: Offer {
            terms: config.terms.clone(),
            operator: config.operator,
        },
        ledger_server: config.ledger_server.clone(),
        work: Work::default(),
        lacks: Lacks::default(),
        acknowledgements: Acknowledgements::default(),
        lags: Lags::default(),
        ledger_problem: LedgerProblem::default(),
        proofs: Proofs::default(),
        audits: Audits::default(),
        is_draining: AtomicBool::new(false),
        submitting: tokio::sync::Mutex::new(()),
    });
    let (closing, closed) = watch::channel(false);
    let serving = vec![
        runtime.spawn("data streams", accept(Arc::clone(&core), closed.clone())),
        runtime.spawn("control requests", answer(Arc::clone(&core), closed)),
    ];
    let mut working = vec![
        runtime.spawn("ledger", follow(Arc::clone(&core))),
        runtime.spawn("acknowledgements", acknowledge(Arc::clone(&core))),
        runtime.spawn("proofs", prove_on(Arc::clone(&core))),
        runtime.spawn("audits", audit_on(Arc::clone(&core))),
        runtime.spawn("retries", wake(Arc::clone(&core))),
        runtime.spawn("maintenance", maintain(Arc::clone(&core))),
        runtime.spawn("scrub", scrub_on(Arc::clone(&core))),
        runtime.spawn("group records", publish(Arc::clone(&core))),
    ];
    for _ in 0..LOOKS_AT_ONCE {
        working.push(runtime.spawn("slots", tend(Arc::clone(&core))));
    }
    for _ in 0..core.pacing.slots_at_once {
        working.push(runtime.spawn("catching up", catch_slots_up(Arc::clone(&core))));
    }
    Ok(NodeHandle {
        core,
        closing,
        serving,
        working,
        report,
    })
}

/// What a node has on its disk.
type OnDisk<D> = (ShardStore<D>, SeenHeight<D>, OpenReport);

/// Opens the shard store, with a fresh key where it is a new one, and reads how far the ledger was
/// seen.
async fn open<R: Runtime>(
    runtime: &R,
    config: &NodeConfig,
    ledger: LedgerId,
) -> Result<OnDisk<R::Disk>, NodeError> {
    let mut fresh = [0; 32];
    runtime.fill(&mut fresh);
    let fresh = StoreKey::new(fresh);
    let (disk, cache) = (runtime.disk().clone(), Arc::clone(&config.cache));
    let config = config.store.clone();
    let work = move || -> Result<OnDisk<R::Disk>, NodeError> {
        let folder = config.folder.clone();
        let (store, report) = ShardStore::open(disk.clone(), config, cache, fresh)?;
        let seen_height = SeenHeight::open(disk, &folder, store.key(), ledger)?;
        Ok((store, seen_height, report))
    };
    runtime.blocking(work).await
}

/// Serves data streams until we close.
async fn accept<R: Runtime, N: Network, L: Ledger>(
    core: Arc<Core<R, N, L>>,
    mut closing: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut streams = FuturesUnordered::new();
    let is_closing = closing.clone();
    loop {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = streams.next() => {}
            accepted = core.network.accept(), if places.available_permits() > 0 => {
                let Some((peer, stream)) = accepted else {
                    break;
                };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let serving = serve_stream(Arc::clone(&core), peer, stream, is_closing.clone());
                let task = core.runtime.spawn("data stream", async move {
                    serving.await;
                    drop(place);
                });
                streams.push(task.join());
            }
        }
    }
    while streams.next().await.is_some() {}
}

/// Answers control requests until we close.
async fn answer<R: Runtime, N: Network, L: Ledger>(
    core: Arc<Core<R, N, L>>,
    mut closing: watch::Receiver<bool>,
) {
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = answers.next() => {}
            request = core.network.next_request(), if answers.len() < CONTROL_REQUESTS_MAX => {
                let Some(request) = request else {
                    break;
                };
                let ours = Arc::clone(&core);
                let task = core.runtime.spawn("control request", async move {
                    let answer = ours.answer_control(request.peer, &request.message).await;
                    // Who has gone does not need it.
                    let _sent = request.answer.send(answer);
                });
                answers.push(task.join());
            }
        }
    }
    while answers.next().await.is_some() {}
}

impl<R: Runtime, N: Network, L: Ledger> NodeHandle<R, N, L> {
    /// The node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.core.id
    }

    /// What opening the store found.
    #[must_use]
    pub const fn open_report(&self) -> &OpenReport {
        &self.report
    }

    /// How it stands.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`] when the file system gives no figures.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn status(&self) -> Result<NodeStatus, NodeError> {
        let core = Arc::clone(&self.core);
        let work = move || {
            let store = core.store.store();
            let slot_lag = |slot| {
                let seen = core.lags.of(slot);
                let figures = store.slot_figures(slot);
                let reached = store.reached(slot).map(|reached| reached.number());
                SlotLag {
                    slot,
                    revision: seen.revision,
                    reached: reached.unwrap_or_default(),
                    acknowledged: seen.acknowledged,
                    holding: seen.holding,
                    forfeited: seen.forfeited,
                    shard_count: figures.map_or(0, |figures| figures.shard_count),
                    lacking_count: store.lacking_count(slot, seen.segment_count),
                    unrebuildable: seen.unrebuildable,
                    problem: seen.problem,
                }
            };
            Ok(NodeStatus {
                node: core.id,
                store: store.figures()?,
                failure: store.failure().map(|failure| failure.to_string()),
                ledger_problem: core.ledger_problem.get(),
                slots: core.work.known().into_iter().map(slot_lag).collect(),
                idle: core.work.is_idle() && core.acknowledgements.is_empty(),
                epoch: core.proofs.status(),
                score: core.audits.score(),
                draining: core.is_draining.load(Ordering::Relaxed),
            })
        };
        self.core.runtime.blocking(work).await
    }

    /// Reads and verifies every shard now, at the pace that is set. Damaged ones are caught up.
    ///
    /// # Errors
    ///
    /// [`NodeError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the scrub where it is.
    pub async fn scrub(&self) -> Result<ScrubReport, NodeError> {
        Ok(scrub_all(&self.core, None).await?)
    }

    /// Leaves the network gracefully: the ledger draws successors, which copy from here. Keep the
    /// node running until its status shows no slots.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ledger`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the node may drain all the same.
    pub async fn drain(&self) -> Result<(), NodeError> {
        self.core.submit(TxBody::NodeDrain).await?;
        Ok(())
    }

    /// Announces that it will be away for so many epochs from the one that runs: missed proofs then
    /// cost nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ledger`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; it may be announced all the same.
    pub async fn maintain(&self, epochs: u32) -> Result<(), NodeError> {
        self.core.submit(TxBody::NodeMaintain { epochs }).await?;
        Ok(())
    }

    /// Puts a part of its balance down as collateral. Returns how it stands then; `None` when the
    /// ledger does not know it any more.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ledger`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; it may be done all the same.
    pub async fn add_collateral(&self, amount: Amount) -> Result<Option<NodeEntry>, NodeError> {
        let node = self.core.id;
        let body = TxBody::NodeAddCollateral { node, amount };
        self.core.submit(body).await?;
        Ok(self.core.ledger.node(node).await?)
    }

    /// Takes collateral that no slot locks back into its balance. Returns how it stands then; `None`
    /// when the ledger does not know it any more.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ledger`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; it may be done all the same.
    pub async fn take_collateral(&self, amount: Amount) -> Result<Option<NodeEntry>, NodeError> {
        let body = TxBody::NodeTakeCollateral { amount };
        self.core.submit(body).await?;
        Ok(self.core.ledger.node(self.core.id).await?)
    }

    /// Pays out of its balance; returns what is left.
    ///
    /// # Errors
    ///
    /// [`NodeError::Ledger`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; it may be paid all the same.
    pub async fn pay(&self, to: AccountId, amount: Amount) -> Result<Amount, NodeError> {
        self.core.submit(TxBody::Transfer { to, amount }).await?;
        let account = AccountId::new(self.core.key.public());
        Ok(self.core.ledger.account(account).await?.balance)
    }

    /// Takes no new work, finishes what is under way for at most the grace that is set, makes
    /// everything durable, closes the store. The network stays the caller's.
    ///
    /// # Errors
    ///
    /// [`NodeError::Store`] when the disk failed, now or before.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops the node at once; what was promised is durable.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        let Self {
            core,
            closing,
            serving,
            working,
            ..
        } = self;
        closing.send_replace(true);
        drop(working);
        let ending = async move {
            for task in serving {
                let _ended = task.join().await;
            }
        };
        let grace: Duration = core.pacing.shutdown_grace;
        if let Err(Elapsed { limit }) = core.runtime.timeout(grace, ending).await {
            tracing::warn!(?limit, "requests under way were cut off");
        }
        core.store.shutdown().await?;
        Ok(())
    }
}

impl<R: Runtime, N: Network, L: Ledger> Core<R, N, L> {
    /// The time of day.
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis::from_unix(self.runtime.now())
    }
}

#[cfg(test)]
impl<R: Runtime, N: Network, L: Ledger> NodeHandle<R, N, L> {
    /// Memory for shards that nobody has.
    pub(crate) fn free_memory_kib(&self) -> usize {
        self.core.memory.free_kib()
    }
}
