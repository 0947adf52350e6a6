//! One process that orders transactions into blocks.
//!
//! Before a transaction is queued its account must be able to pay for it and its signature is
//! checked, in this order, and what each peer may ask for is bounded; blocks are made as soon as something
//! waits, at most one per interval; a block is on disk before any of its transactions is reported
//! final, and all of a block's transactions share that one write. Empty blocks are made only while
//! the state has slots to draw, and, on a ledger with epochs, to begin one, to give it its seed and
//! to show that the ledger works.

mod produce;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{AccountId, GroupId, Height, LedgerId, NodeId, SecretKey, Signed};
use cairn_ledger::{
    Account, AuditView, BlockEffects, ChallengePage, Genesis, Group, Ledger, LedgerError,
    LedgerKey, LedgerStatus, NodeEntry, SlotRef, Tx, TxOutcome, Witness,
};
use cairn_runtime::{Runtime, Task};

use crate::core::{Attester, Core, Settings};
pub use crate::core::{POLL_LIMIT, STATE_INTERVAL_BLOCKS};
use crate::handle::impl_ledger;
use crate::mempool::{Source, Submitted};
use crate::seed::SeedSource;
pub use crate::store::OpenError;
use crate::{answer, store};

/// Least time between two blocks: finality within this and one write, and at most 20 blocks a
/// second.
pub const BLOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How a [`Sequencer`] runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it keeps its blocks. Used by one process at a time.
    pub folder: PathBuf,
    /// Least time between two blocks.
    pub block_interval: Duration,
    /// Blocks between two states on disk, at least.
    pub state_interval_blocks: u64,
    /// Longest wait of [`Ledger::effects`] for a block.
    pub poll_limit: Duration,
}

impl Config {
    /// The defaults, in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            block_interval: BLOCK_INTERVAL,
            state_interval_blocks: STATE_INTERVAL_BLOCKS,
            poll_limit: POLL_LIMIT,
        }
    }
}

/// Orders transactions into blocks. Cheap to clone; when the last clone is dropped it stops, as
/// by a crash, which loses nothing that was reported final.
#[derive(Clone)]
pub struct Sequencer<R: Runtime> {
    owner: Arc<Owner<R>>,
}

/// Owns the task that makes blocks.
struct Owner<R: Runtime> {
    core: Arc<Core<R>>,
    key: LedgerKey,
    task: Mutex<Option<Task<()>>>,
}

impl<R: Runtime> fmt::Debug for Sequencer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer")
            .field("folder", &self.owner.core.settings.folder)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Sequencer<R> {
    /// Makes the folder of a new ledger, with a fresh key for its seeds.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyCreated`] when there is one; [`OpenError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it may leave a folder with or without the ledger; creating again is safe.
    pub async fn create(runtime: &R, folder: &Path, genesis: &Genesis) -> Result<(), OpenError> {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        runtime.fill(secret.as_mut_slice());
        let key = SecretKey::from_bytes(&secret);
        let disk = runtime.disk().clone();
        let folder = folder.to_owned();
        let genesis = genesis.clone();
        runtime
            .blocking(move || store::create(&disk, &folder, &genesis, Some(&key)))
            .await
    }

    /// Whether the folder holds a ledger.
    ///
    /// # Errors
    ///
    /// [`OpenError::Disk`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn is_created(runtime: &R, folder: &Path) -> Result<bool, OpenError> {
        let disk = runtime.disk().clone();
        let folder = folder.to_owned();
        let found = runtime
            .blocking(move || store::is_created(&disk, &folder))
            .await?;
        Ok(found)
    }

    /// Opens a ledger's folder: recovers the state of all final blocks, and goes on from there.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is wrong with the folder; it is left as it was.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn open(runtime: R, config: Config) -> Result<Self, OpenError> {
        let disk = runtime.disk().clone();
        let folder = config.folder.clone();
        let loaded = runtime
            .blocking(move || store::open(&disk, &folder))
            .await?;
        let seeds = SeedSource::of(&loaded).ok_or(OpenError::OtherOrder {
            folder: config.folder.clone(),
        })?;
        let settings = Settings {
            folder: config.folder,
            state_interval_blocks: config.state_interval_blocks,
            poll_limit: config.poll_limit,
        };
        let key = loaded.key.clone().ok_or(OpenError::OtherOrder {
            folder: settings.folder.clone(),
        })?;
        let attested_by = key.public();
        let attester = Attester::Alone(Box::new(key));
        let core = Arc::new(Core::new(runtime.clone(), settings, loaded, attester));
        let produce = produce::run(Arc::clone(&core), seeds, config.block_interval);
        let task = runtime.spawn("sequencer", produce);
        Ok(Self {
            owner: Arc::new(Owner {
                core,
                key: LedgerKey::Sequencer(attested_by),
                task: Mutex::new(Some(task)),
            }),
        })
    }

    /// Calls a node lost: the next block redraws its slots. Gives the height of that block.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; [`cairn_ledger::TxError::UnknownNode`] when it never registered.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the node may still be called lost.
    pub async fn declare_lost(&self, node: NodeId) -> Result<Height, LedgerError> {
        self.owner.core.declare_lost(node).await
    }

    /// Checks everything that must hold of the state, conservation of credits (I4) first, in time
    /// proportional to its size. No block is made meanwhile.
    ///
    /// # Errors
    ///
    /// [`cairn_ledger::state::Unsound`] names the first that does not hold.
    pub fn audit(&self) -> Result<(), cairn_ledger::state::Unsound> {
        self.owner.core.read(cairn_ledger::State::audit)
    }

    /// Answers an encoded [`cairn_ledger::LedgerRequest`] of a peer, whoever it is and however
    /// malformed, with an encoded [`cairn_ledger::LedgerResponse`]. What one peer gets is bounded
    /// (docs/protocol/ledger.md#admission).
    ///
    /// # Cancel safety
    ///
    /// As [`Ledger`]'s.
    pub async fn answer(&self, peer: NodeId, request: &[u8]) -> Vec<u8> {
        answer::answer(&self.owner.core, peer, request).await
    }

    /// By which others know what this sequencer attests.
    #[must_use]
    pub fn key(&self) -> LedgerKey {
        self.owner.key
    }

    /// Stops: ends the block being made, tells those who wait, and gives the folder free. Reads go
    /// on answering.
    ///
    /// # Panics
    ///
    /// When the task that makes blocks panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it stopping.
    pub async fn close(&self) {
        let core = &self.owner.core;
        core.stop();
        let task = {
            let mut task = self.owner.task.lock().expect("no holder panics");
            task.take()
        };
        if let Some(task) = task
            && task.join().await.is_err()
        {
            // Aborted before it could give the folder free.
            core.finish();
        }
        core.wait_stopped().await;
    }
}

impl_ledger!(Sequencer);

#[cfg(test)]
mod tests;
