//! One of the validators that agree on a ledger's blocks.
//!
//! The consensus engine says whose turn it is and which block is final; this module makes the
//! blocks, votes on those of others, makes the final ones durable and answers for the ledger. A
//! transaction is final when more than two thirds of the validators agreed on its block and the
//! block is on this validator's disk. With one validator all of this is one process that needs
//! nobody (docs/adr/0009-simplex-in-a-leaf.md).

mod attest;
mod forward;
mod open_blocks;
mod proposal;
mod seat;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{AccountId, GroupId, Height, LedgerId, NodeId, PublicKey, SecretKey, Signed};
use cairn_engine::{Committee, CommitteeError, Dealing, Engine, KeyPart, StartError};
use cairn_ledger::{
    Account, Attested, AuditPage, BlockEffects, ChallengePage, Genesis, Group, Ledger, LedgerError,
    LedgerKey, LedgerStatus, NodeEntry, SlotRef, Tx, TxOutcome, Validators, Witness,
};
use cairn_runtime::{Runtime, Task};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use self::attest::Attesting;
use self::forward::Inbox;
use self::proposal::PROPOSAL_BYTES_MAX;
use self::seat::{Rules, Seat};
use crate::core::{Attester, Core, POLL_LIMIT, STATE_INTERVAL_BLOCKS, Settings};
use crate::handle::impl_ledger;
use crate::mempool::{Source, Submitted};
use crate::store::{self, OpenError};
use crate::{answer, ceremony};

/// Least time between a block and its parent, by which validators judge each other's blocks.
pub const BLOCK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a leader waits for something to order before it makes an empty block.
pub const IDLE: Duration = Duration::from_secs(2);
/// How long a leader may take before its turn is given up: the wait and as long again.
pub const TURN_LIMIT: Duration = Duration::from_secs(4);
/// Folder of the engine's own files, in the ledger's.
const ENGINE_FOLDER: &str = "engine";

/// How a [`Validator`] runs.
#[derive(Clone, Debug)]
pub struct ValidatorConfig {
    /// Where it keeps its blocks and the engine's files. Used by one process at a time.
    pub folder: PathBuf,
    /// Where the ledger begins, with its validators.
    pub genesis: Genesis,
    /// The validator's identity.
    pub key: SecretKey,
    /// Its part of the validators' key.
    pub part: KeyPart,
    /// Where it listens for the other validators.
    pub listen: SocketAddr,
    /// Where the other validators listen.
    pub peers: Vec<(PublicKey, SocketAddr)>,
    /// Least time between a block and its parent, the same for all validators: [`BLOCK_INTERVAL`].
    pub block_interval: Duration,
    /// How long a leader waits for something to order.
    pub idle: Duration,
}

/// Why a validator does not start.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    /// Its folder can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The genesis names no validators: a sequencer orders the ledger.
    #[error("the genesis names no validators")]
    NoValidators,
    /// The genesis' validators are malformed.
    #[error("the validators of the genesis: {0}")]
    Committee(#[from] CommitteeError),
    /// The engine does not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// How a validator stands with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidatorStatus {
    /// The view that it is in: attempts to make a block, counted from 1.
    pub view: u64,
    /// Height of the last block that it knows to be final.
    pub known_height: Height,
    /// Height of the last final block that it has.
    pub height: Height,
}

/// Deals the key of new validators, for tests and for one operator of all of them: whoever calls it
/// sees the whole key and is trusted to forget it. Strangers make it together ([`crate::ceremony`]).
///
/// # Errors
///
/// [`CommitteeError`].
pub fn deal<R: Runtime>(
    runtime: &R,
    identities: &[PublicKey],
) -> Result<(Validators, Vec<(PublicKey, KeyPart)>), CommitteeError> {
    let mut entropy = Zeroizing::new([0; 32]);
    runtime.fill(entropy.as_mut_slice());
    let identities: Vec<[u8; 32]> = identities.iter().map(|key| *key.as_bytes()).collect();
    let Dealing { committee, parts } = cairn_engine::deal(&identities, &entropy)?;
    let validators = ceremony::validators(&committee)?;
    let identities = validators.identities.iter().copied();
    let parts = identities.zip(parts).collect();
    Ok((validators, parts))
}

/// A validator. Cheap to clone; when the last clone is dropped it stops, as by a crash, which
/// loses nothing that was reported final.
#[derive(Clone)]
pub struct Validator<R: Runtime> {
    owner: Arc<Owner<R>>,
}

/// Owns the engine and the task that looks after it.
struct Owner<R: Runtime> {
    core: Arc<Core<R>>,
    engine: Arc<Engine>,
    /// How many validators there are.
    key: LedgerKey,
    count: usize,
    task: Mutex<Option<Task<()>>>,
}

impl<R: Runtime> fmt::Debug for Validator<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator")
            .field("folder", &self.owner.core.settings.folder)
            .field("status", &self.status_now())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Validator<R> {
    /// Starts a validator: makes its folder when there is none, recovers the state of all final
    /// blocks that it has, and goes on with the others from there.
    ///
    /// # Errors
    ///
    /// [`ValidatorError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn open(runtime: R, config: ValidatorConfig) -> Result<Self, ValidatorError> {
        let committee = committee(&config.genesis)?;
        let loaded = {
            let disk = runtime.disk().clone();
            let folder = config.folder.clone();
            let genesis = config.genesis.clone();
            runtime
                .blocking(move || store::open_or_create(&disk, &folder, &genesis))
                .await?
        };
        let settings = Settings {
            folder: config.folder.clone(),
            state_interval_blocks: STATE_INTERVAL_BLOCKS,
            poll_limit: POLL_LIMIT,
        };
        let (signers, to_sign) = mpsc::channel(attest::WAITING_MAX);
        let attester = Attester::Together(signers);
        let mut core = Core::new(runtime.clone(), settings, loaded, attester);
        let (outbox, waiting) = mpsc::channel(forward::WAITING_MAX);
        core.outbox = Some(outbox);
        let core = Arc::new(core);
        let key = key_of_committee(&committee)?;
        let attesting = Arc::new(Attesting::new(committee.clone(), key, core.ledger));
        let signer = (*config.key.public().as_bytes(), config.part.clone());
        let rules = Rules {
            committee: committee.clone(),
            ledger: *core.ledger.as_bytes(),
            genesis_time: config.genesis.time,
            block_interval: config.block_interval,
            idle: config.idle,
        };
        let inbox = Arc::new(Inbox::new(committee.validators()));
        let seat = Seat::new(Arc::clone(&core), Arc::clone(&inbox), rules);
        let seat = Arc::new(seat);
        let count = committee.validators().len();
        let engine = engine_config(config, committee, core.ledger);
        let engine = runtime
            .blocking(move || Engine::start(engine, seat))
            .await
            .map(Arc::new)?;
        let told = Told {
            waiting,
            inbox,
            attesting,
            signer,
            to_sign,
        };
        let supervised = supervise(Arc::clone(&core), Arc::clone(&engine), told);
        let task = runtime.spawn("validator", supervised);
        Ok(Self {
            owner: Arc::new(Owner {
                core,
                engine,
                key,
                count,
                task: Mutex::new(Some(task)),
            }),
        })
    }

    /// By which others know what the validators attest together.
    #[must_use]
    pub fn key(&self) -> LedgerKey {
        self.owner.key
    }

    /// How it stands with the others.
    #[must_use]
    pub fn status_now(&self) -> ValidatorStatus {
        let status = self.owner.engine.status();
        let height = self.owner.core.height();
        ValidatorStatus {
            view: status.view,
            known_height: Height::new(status.height).max(height),
            height,
        }
    }

    /// Validators that broke the protocol before this one's eyes: for an hour it does not listen to
    /// them.
    #[must_use]
    pub fn shut_out(&self) -> Vec<PublicKey> {
        let shut_out = self.owner.engine.shut_out().into_iter();
        shut_out.map(PublicKey::from_bytes).collect()
    }

    /// Calls a node lost: the next block redraws its slots. Only one validator alone may.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; [`LedgerError::Request`] with several validators.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the node may still be called lost.
    pub async fn declare_lost(&self, node: NodeId) -> Result<Height, LedgerError> {
        if self.owner.count > 1 {
            // The others could not judge it.
            return Err(LedgerError::Request);
        }
        self.owner.core.declare_lost(node).await
    }

    /// Waits until it makes no more blocks: it was closed, or its disk or the engine failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn ended(&self) {
        self.owner.core.wait_stopped().await;
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

    /// Stops: leaves the others, tells those who wait, and gives the folder free. Reads go on
    /// answering.
    ///
    /// # Panics
    ///
    /// When the task that looks after the engine panicked.
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

/// By which others know what the validators of a genesis attest.
///
/// # Errors
///
/// [`ValidatorError`].
pub fn key_of(genesis: &Genesis) -> Result<LedgerKey, ValidatorError> {
    Ok(key_of_committee(&committee(genesis)?)?)
}

fn key_of_committee(committee: &Committee) -> Result<LedgerKey, CommitteeError> {
    let key = committee.group_key().try_into();
    key.map(LedgerKey::Validators)
        .map_err(|_| CommitteeError::Key)
}

/// The validators of a genesis.
fn committee(genesis: &Genesis) -> Result<Committee, ValidatorError> {
    let validators = genesis
        .validators
        .as_ref()
        .ok_or(ValidatorError::NoValidators)?;
    Ok(committee_of(validators)?)
}

fn committee_of(validators: &Validators) -> Result<Committee, CommitteeError> {
    let identities = validators.identities.iter().map(|key| *key.as_bytes());
    Committee::new(&identities.collect::<Vec<_>>(), &validators.key)
}

fn engine_config(
    config: ValidatorConfig,
    committee: Committee,
    ledger: LedgerId,
) -> cairn_engine::Config {
    let ledger = *ledger.as_bytes();
    cairn_engine::Config {
        ledger,
        genesis: ledger.to_vec(),
        committee,
        secret: config.key.to_bytes(),
        part: config.part,
        folder: config.folder.join(ENGINE_FOLDER),
        listen: config.listen,
        peers: config
            .peers
            .into_iter()
            .map(|(key, address)| (*key.as_bytes(), address))
            .collect(),
        block_bytes_max: PROPOSAL_BYTES_MAX,
        forwarded_bytes_max: forward::MESSAGE_BYTES_MAX,
        turn_limit: TURN_LIMIT,
    }
}

/// What goes to the other validators and comes from them.
struct Told {
    waiting: mpsc::Receiver<Submitted>,
    inbox: Arc<Inbox>,
    attesting: Arc<Attesting>,
    signer: ([u8; 32], KeyPart),
    to_sign: mpsc::Receiver<Attested>,
}

/// Tells the others what they are to know and reads what they tell until the engine ends or it is to
/// stop, then stops all of it.
async fn supervise<R: Runtime>(core: Arc<Core<R>>, engine: Arc<Engine>, told: Told) {
    let (identity, part) = &told.signer;
    let signing = told
        .attesting
        .run(&core, &engine, (identity, part), told.to_sign);
    tokio::select! {
        biased;
        () = core.wait_stopping() => {}
        () = engine.ended() => tracing::error!("the consensus engine ended"),
        () = forward::run(&engine, told.waiting) => {}
        () = signing => {}
        () = forward::read(&core, &told.attesting, &told.inbox) => {}
    }
    core.stop();
    let worker = Arc::clone(&core);
    core.runtime
        .blocking(move || {
            engine.stop();
            worker.finish();
        })
        .await;
}

impl_ledger!(Validator);

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
