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

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{AccountId, GroupId, Height, LedgerId, NodeId, PublicKey, SecretKey, Signed};
use cairn_engine::{Committee, CommitteeError, Dealing, Engine, KeyPart, StartError};
use cairn_ledger::{
    Account, Attestation, Attested, AuditView, BlockEffects, ChallengePage, Genesis, Group, Ledger,
    LedgerError, LedgerKey, LedgerStatus, NodeEntry, SlotRef, State, TermStart, Tx, TxOutcome,
    Validators, Witness,
};
use cairn_runtime::{Disk, Runtime, Task};
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
/// How long a validator goes on when the border of its term is behind it.
pub const HAND_OVER: Duration = Duration::from_secs(3);
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
    /// What it needs in each term that it has a part in, by the terms' numbers.
    pub terms: BTreeMap<u32, TermPlace>,
    /// Least time between a block and its parent, the same for all validators: [`BLOCK_INTERVAL`].
    pub block_interval: Duration,
    /// How long a leader waits for something to order.
    pub idle: Duration,
}

/// What a validator needs in a term.
#[derive(Clone, Debug)]
pub struct TermPlace {
    /// Its part of the validators' key.
    pub part: KeyPart,
    /// Where it listens for the other validators.
    pub listen: SocketAddr,
    /// Where the other validators listen.
    pub peers: Vec<(PublicKey, SocketAddr)>,
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
    /// The term that the folder is in has other validators.
    #[error("the validators of term {term} are others")]
    NotInTerm {
        /// Its number.
        term: u32,
    },
    /// What it needs in the term that the folder is in is not here.
    #[error("the part of the validators' key of term {term} is not here")]
    NoPlace {
        /// Its number.
        term: u32,
    },
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
    /// The term that it runs in.
    term: u32,
    /// The last block before it, from which the engine counts.
    base: TermStart,
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
        if config.genesis.validators.is_none() {
            return Err(ValidatorError::NoValidators);
        }
        let (loaded, attested) = {
            let disk = runtime.disk().clone();
            let folder = config.folder.clone();
            let genesis = config.genesis.clone();
            runtime
                .blocking(move || store::open_or_create(&disk, &folder, &genesis))
                .await?
        };
        let (term, place) = find_place(&loaded.state, &config, attested.as_ref())?;
        let committee = committee_of(&term.validators)?;
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
        if let Some(attested) = attested.filter(|it| it.verify(core.ledger, &key).is_some()) {
            // So that who is to join hears of the term before anyone else is in it.
            core.show(&attested);
        }
        let attesting = Arc::new(Attesting::new(committee.clone(), key, core.ledger));
        let signer = (*config.key.public().as_bytes(), place.part.clone());
        let rules = Rules {
            committee: committee.clone(),
            ledger: *core.ledger.as_bytes(),
            term: term.number,
            base: term.base,
            block_interval: config.block_interval,
            idle: config.idle,
        };
        let inbox = Arc::new(Inbox::new(committee.validators()));
        let seat = Seat::new(Arc::clone(&core), Arc::clone(&inbox), rules);
        let count = committee.validators().len();
        let engine = engine_config(config, place, (committee, core.ledger), &term);
        let engine = Arc::new(start_engine(&runtime, engine, seat).await?);
        let told = Told {
            waiting,
            inbox,
            attesting,
            signer,
            to_sign,
            term: term.number,
        };
        let supervised = supervise(Arc::clone(&core), Arc::clone(&engine), told);
        let task = runtime.spawn("validator", supervised);
        Ok(Self {
            owner: Arc::new(Owner {
                core,
                engine,
                term: term.number,
                base: term.base,
                key,
                count,
                task: Mutex::new(Some(task)),
            }),
        })
    }

    /// The number of the term that it runs in.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.owner.term
    }

    /// The term that has begun behind the last block, if its own is over: then it ends by itself, and a
    /// validator of the next is to be opened.
    #[must_use]
    pub fn next_term(&self) -> Option<u32> {
        let term = self.owner.core.term();
        term.filter(|term| *term != self.owner.term)
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
        let (base, height) = (&self.owner.base, self.owner.core.height());
        let known = Height::new(base.height.get().saturating_add(status.height));
        ValidatorStatus {
            view: base.view.get().saturating_add(status.view),
            known_height: known.max(height),
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

pub(crate) fn committee_of(validators: &Validators) -> Result<Committee, CommitteeError> {
    let identities = validators.identities.iter().map(|key| *key.as_bytes());
    Committee::new(&identities.collect::<Vec<_>>(), &validators.key)
}

/// The term that a validator runs in.
struct OwnTerm {
    number: u32,
    validators: Validators,
    base: TermStart,
}

/// The term to run in, and what this validator needs in it: that of the state, but while its border is
/// not attested the one before. Until then others may need our votes of that to come to the border.
fn find_place(
    state: &State,
    config: &ValidatorConfig,
    attested: Option<&Attestation>,
) -> Result<(OwnTerm, TermPlace), ValidatorError> {
    let term = state.term().ok_or(ValidatorError::NoValidators)?;
    let is_at_border = state.height() == term.base.height;
    let before = term
        .before
        .as_ref()
        .filter(|_| is_at_border && attested.is_none());
    let own = match (before, term.number.checked_sub(1)) {
        (Some(before), Some(number)) => OwnTerm {
            number,
            validators: before.validators.clone(),
            base: before.base,
        },
        (None, _) | (Some(_), None) => OwnTerm {
            number: term.number,
            validators: term.validators.clone(),
            base: term.base,
        },
    };
    let number = own.number;
    if !own.validators.contains(&config.key.public()) {
        return Err(ValidatorError::NotInTerm { term: number });
    }
    let place = config.terms.get(&number).cloned();
    let place = place.ok_or(ValidatorError::NoPlace { term: number })?;
    Ok((own, place))
}

/// Puts the state with which a term began into a folder, as [`cairn_ledger::RemoteLedger::snapshot`]
/// gives it: a validator that is opened there goes on from its height. Nothing may have the folder open.
///
/// # Errors
///
/// [`OpenError`]: a folder of another ledger is left as it is.
///
/// # Cancel safety
///
/// Dropping it is safe.
pub async fn install<R: Runtime>(
    runtime: &R,
    folder: &Path,
    genesis: &Genesis,
    (state, attestation): (State, Attestation),
) -> Result<(), OpenError> {
    let (disk, folder, genesis) = (runtime.disk().clone(), folder.to_owned(), genesis.clone());
    runtime
        .blocking(move || store::install(&disk, &folder, &genesis, (&state, &attestation)))
        .await
}

/// Bytes that the engine begins a term with: the ledger's id, and of later terms what they begin
/// behind.
fn begin(ledger: LedgerId, term: &OwnTerm) -> Vec<u8> {
    let mut bytes = ledger.as_bytes().to_vec();
    if term.number > 0 {
        bytes.extend(term.number.to_be_bytes());
        bytes.extend(term.base.tip.as_bytes());
    }
    bytes
}

/// Where the engine keeps the files of a term. Nobody needs those of earlier ones: the blocks are in
/// the ledger's folder, and what proofs came with them was judged.
fn engine_folder(config: &ValidatorConfig, term: u32) -> PathBuf {
    config.folder.join(ENGINE_FOLDER).join(term.to_string())
}

/// Removes the engine's files of terms before the one that has this folder.
fn forget_terms_before<D: Disk>(disk: &D, folder: &Path) {
    let number = |name: &str| name.parse::<u32>().ok();
    let own = folder.file_name().and_then(|name| number(name.to_str()?));
    let (Some(all), Some(own)) = (folder.parent(), own) else {
        return;
    };
    // There are none yet, or the engine meets the same fault.
    let entries = disk.list(all).unwrap_or_default();
    let is_over = |name: &str| number(name).is_some_and(|term| term < own);
    for entry in entries.iter().filter(|entry| is_over(&entry.name)) {
        if let Err(error) = disk.remove_dir_all(&all.join(&entry.name)) {
            tracing::warn!(%error, "the engine's files of a term that is over are not removed");
        }
    }
}

/// Starts the engine of a term, and forgets those before.
async fn start_engine<R: Runtime>(
    runtime: &R,
    config: cairn_engine::Config,
    seat: Seat<R>,
) -> Result<Engine, StartError> {
    let disk = runtime.disk().clone();
    let start = move || {
        let folder = config.folder.clone();
        // Its name is durable before anything in it: without it, votes are known to be lost.
        if let Err(error) = disk.create_dir_all(&folder) {
            tracing::warn!(%error, "the engine's folder is not made");
        }
        let engine = Engine::start(config, Arc::new(seat))?;
        forget_terms_before(&disk, &folder);
        Ok(engine)
    };
    runtime.blocking(start).await
}

fn engine_config(
    config: ValidatorConfig,
    place: TermPlace,
    (committee, ledger): (Committee, LedgerId),
    term: &OwnTerm,
) -> cairn_engine::Config {
    cairn_engine::Config {
        ledger: *ledger.as_bytes(),
        term: term.number,
        genesis: begin(ledger, term),
        committee,
        secret: config.key.to_bytes(),
        part: place.part,
        folder: engine_folder(&config, term.number),
        listen: place.listen,
        peers: place
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
    term: u32,
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
        () = forward::run(&core, |message| engine.forward(message), told.waiting) => {}
        () = signing => {}
        () = forward::read(&core, &told.attesting, &told.inbox) => {}
        () = hand_over(&core, told.term) => {}
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

/// Waits until the term is over and its border attested, so that enough of the validators have come to
/// it; and then some time in which the others get its last block from us.
async fn hand_over<R: Runtime>(core: &Core<R>, term: u32) {
    core.wait_term_over(term).await;
    let border = core.read(|state| state.term().map(|term| term.base.height));
    core.wait_until_shown(border.unwrap_or_default()).await;
    core.runtime.sleep(HAND_OVER).await;
}

impl_ledger!(Validator);

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
