//! The engine on a thread of its own, with real files, clock and sockets.

use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use commonware_cryptography::{ChaCha20Poly1305, Signer as _, ed25519};
use commonware_p2p::authenticated::lookup::{Config as NetworkConfig, Network};
use commonware_p2p::{Address, AddressableManager as _, BlockedSubscription, Blocker as _};
use commonware_runtime::tokio::{Config as RunnerConfig, Context, Runner};
use commonware_runtime::{Quota, Runner as _, Spawner as _, Supervisor as _};
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::ordered::Map;
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::block::BytesMax;
use crate::committee::{self, Committee, KeyPart};
use crate::port::Application;
use crate::seeds::Seeds;
use crate::stack::{CHANNELS, Validator, Wires, message_bytes_max, quota, run};

/// Messages that wait to be sent to the other validators.
const OUTBOX_MAX: usize = 256;
/// Threads of the engine.
const THREADS: usize = 2;
/// How far the clocks of two validators may differ when they connect.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(10);
/// Waiting messages of each part of the network.
const MAILBOX_SIZE: NonZeroUsize = NonZeroUsize::new(1024).expect("not 0");
/// Handshakes per second from one address; several validators may have the same.
const HANDSHAKES_RATE: NonZeroU32 = NonZeroU32::new(16).expect("not 0");
/// How often a validator that is not connected is tried.
const DIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Least time between two connections with one validator.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a validator that broke the protocol is not listened to.
const BLOCK_DURATION: Duration = Duration::from_secs(3600);

/// How an [`Engine`] runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity of the ledger: everything that is signed is bound to it.
    pub ledger: [u8; 32],
    /// The term of the validators: those of others are not talked to.
    pub term: u32,
    /// Bytes of the block before the first.
    pub genesis: Vec<u8>,
    /// The validators.
    pub committee: Committee,
    /// This validator's secret identity key.
    pub secret: Zeroizing<[u8; 32]>,
    /// This validator's part of the validators' key.
    pub part: KeyPart,
    /// Where the engine keeps its files. Used by one process at a time.
    pub folder: PathBuf,
    /// Where it listens for other validators.
    pub listen: SocketAddr,
    /// Where the other validators listen, by identity.
    pub peers: Vec<([u8; 32], SocketAddr)>,
    /// Most bytes of a block. May only grow in the life of a folder.
    pub block_bytes_max: usize,
    /// Most bytes of a message of [`Engine::forward`], at most those of a block: larger ones of
    /// other validators are dropped.
    pub forwarded_bytes_max: usize,
    /// How long a leader may take; at least a few round trips.
    pub turn_limit: Duration,
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The secret is none of a validator.
    #[error("this identity is not one of the validators")]
    Identity,
    /// The part of the key is not that of this validator.
    #[error("the part of the validators' key is not this validator's")]
    Part,
    /// A peer's identity is none.
    #[error("a peer's identity is no Ed25519 key, or is listed twice")]
    Peer,
    /// It can't listen.
    #[error("can't listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The thread could not be made.
    #[error("can't start the engine's thread: {0}")]
    Thread(io::Error),
}

/// How the engine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The view that this validator is in.
    pub view: u64,
    /// Height of the last final block that it knows of; it may not have the block yet.
    pub height: u64,
}

/// A running engine. When it is dropped it stops, as by a crash.
pub struct Engine {
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<bool>,
    outbox: mpsc::Sender<Vec<u8>>,
    seeds: Seeds,
    height: Arc<AtomicU64>,
    shut_out: ShutOut,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts a validator. It recovers from its folder, connects to the others and goes on.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(config: Config, application: Arc<dyn Application>) -> Result<Self, StartError> {
        let signer = committee::signer(&config.secret).ok_or(StartError::Identity)?;
        let me = signer.public_key();
        let scheme = config
            .committee
            .signer(&config.ledger, config.term, &me, &config.part)
            .map_err(|error| match error {
                committee::NotOurs::Identity => StartError::Identity,
                committee::NotOurs::Part => StartError::Part,
            })?;
        let peers = addresses(&config, &me)?;
        // The engine's own attempt ends in a panic. Between this one and that, another process may
        // take the port; then it does.
        drop(
            TcpListener::bind(config.listen).map_err(|cause| StartError::Listen {
                address: config.listen,
                cause,
            })?,
        );
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let seeds = Seeds::default();
        let height = Arc::new(AtomicU64::new(0));
        let shut_out = ShutOut::default();
        let shown = Arc::clone(&shut_out);
        let validator = Validator {
            me,
            scheme,
            genesis: config.genesis.clone(),
            bytes_max: BytesMax(config.block_bytes_max),
            forwarded_bytes_max: config.forwarded_bytes_max,
            turn_limit: config.turn_limit,
            partition: "v1".to_owned(),
            application,
            seeds: seeds.clone(),
            height: Arc::clone(&height),
            outbox: messages,
        };
        let thread = std::thread::Builder::new()
            .name("consensus".to_owned())
            .spawn(move || {
                // Tells of the end however it comes.
                let _end = End(end);
                live(&config, signer, peers, validator, Ends { stopped, shown });
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
            ended,
            outbox,
            seeds,
            height,
            shut_out,
        })
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            view: self.seeds.last_view().saturating_add(1),
            height: self.height.load(Ordering::Relaxed),
        }
    }

    /// Validators that broke the protocol before our eyes, rising: for an hour they are not listened to.
    ///
    /// # Panics
    ///
    /// Never: no holder of its lock panics.
    #[must_use]
    pub fn shut_out(&self) -> Vec<[u8; 32]> {
        self.shut_out.lock().expect("no holder panics").clone()
    }

    /// Sends a message to every other validator that is connected, as far as there is room:
    /// gives whether it was taken. It may arrive twice, late or not at all.
    pub fn forward(&self, message: Vec<u8>) -> bool {
        self.outbox.try_send(message).is_ok()
    }

    /// Waits until the engine has ended, by [`Self::stop`] or because it failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            // An end that can't be told is one too.
            drop(ended.wait_for(|ended| *ended).await);
        }
    }

    /// Stops it and waits for its thread, which ends within moments. Blocks. A second call does
    /// nothing.
    ///
    /// # Panics
    ///
    /// Never: no holder of its locks panics.
    pub fn stop(&self) {
        let stop = self.stop.lock().expect("no holder panics").take();
        let is_running = stop.is_some_and(|stop| stop.send(()).is_ok());
        let thread = self.thread.lock().expect("no holder panics").take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(is_running, "the consensus engine panicked");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Who is shut out, by identity.
type ShutOut = Arc<Mutex<Vec<[u8; 32]>>>;

/// What the engine's thread shares with whoever started it.
struct Ends {
    stopped: oneshot::Receiver<()>,
    shown: ShutOut,
}

/// Tells that the engine's thread ends.
struct End(watch::Sender<bool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// Where all validators listen, this one included.
fn addresses(
    config: &Config,
    me: &ed25519::PublicKey,
) -> Result<Map<ed25519::PublicKey, Address>, StartError> {
    let mut all = vec![(me.clone(), Address::from(config.listen))];
    for (identity, address) in &config.peers {
        let key = committee::public_key(identity).ok_or(StartError::Peer)?;
        if key != *me {
            all.push((key, Address::from(*address)));
        }
    }
    Map::try_from(all).map_err(|_| StartError::Peer)
}

/// The thread's work: a validator until it is told to stop or fails.
fn live(
    config: &Config,
    signer: ed25519::PrivateKey,
    peers: Map<ed25519::PublicKey, Address>,
    validator: Validator,
    ends: Ends,
) {
    let runner = RunnerConfig::new()
        .with_storage_directory(&config.folder)
        .with_worker_threads(THREADS);
    Runner::new(runner).start(async move |context: Context| {
        let count = config.committee.set().len();
        let peers_count = u32::try_from(count).unwrap_or(u32::MAX);
        let wire = Wire {
            namespace: committee::namespace(&config.ledger, config.term),
            listen: config.listen,
            count,
            message_bytes_max: message_bytes_max(peers_count, validator.bytes_max),
        };
        let (mut network, mut oracle) =
            Network::new(context.child("network"), network_config(wire, signer));
        // The only set of validators there is.
        let _taken = oracle.track(0, peers);
        let [votes, certificates, resolver, backfill, blocks, messages] =
            CHANNELS.map(|(number, rate)| network.register(number, quota(rate)));
        let blocked = oracle.blocked();
        let wires = Wires {
            votes,
            certificates,
            resolver,
            backfill,
            blocks,
            messages,
            peers: oracle.clone(),
            blocker: oracle,
        };
        let network = network.start();
        let task = context
            .child("validator")
            .spawn(move |context| run(context, wires, validator));
        tokio::select! {
            _ = ends.stopped => {}
            () = show(blocked, ends.shown) => {}
            ended = network => tracing::error!(?ended, "the validators' network stopped"),
            ended = task => tracing::error!(?ended, "the validator stopped"),
        }
    });
}

/// Shows who is shut out, for as long as there is anyone to ask.
async fn show(mut blocked: BlockedSubscription<ed25519::PublicKey>, shown: ShutOut) {
    while let Some(peers) = blocked.recv().await {
        let peers = peers.iter().filter_map(committee::key_bytes).collect();
        *shown.lock().expect("no holder panics") = peers;
    }
    // The network's end is told by itself.
    std::future::pending::<()>().await;
}

/// How validators reach each other.
pub(crate) struct Wire {
    /// What their handshakes are bound to.
    pub(crate) namespace: Vec<u8>,
    /// Where this one listens.
    pub(crate) listen: SocketAddr,
    /// How many they are.
    pub(crate) count: usize,
    pub(crate) message_bytes_max: u32,
}

pub(crate) fn network_config(
    wire: Wire,
    signer: ed25519::PrivateKey,
) -> NetworkConfig<Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>> {
    let handshake = Cups::new(
        Sake {
            signer,
            synchrony_bound: CLOCK_DIFFERENCE_MAX,
            max_handshake_age: CLOCK_DIFFERENCE_MAX,
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let mut network = NetworkConfig::recommended(
        handshake,
        &wire.namespace,
        wire.listen,
        NonZeroUsize::new(wire.count).unwrap_or(NonZeroUsize::MIN),
        wire.message_bytes_max,
        MAILBOX_SIZE,
    );
    // Validators may be in one machine room or behind translated addresses: who it is, is shown by
    // its key.
    network.allow_private_ips = true;
    network.allow_dns = false;
    network.bypass_ip_check = true;
    network.allowed_handshake_rate_per_ip = Quota::per_second(HANDSHAKES_RATE);
    network.tracked_peer_sets = NonZeroUsize::MIN;
    network.dial_frequency = DIAL_INTERVAL;
    network.peer_connection_cooldown = RECONNECT_INTERVAL;
    network.ping_frequency = PING_INTERVAL;
    network.block_duration = BLOCK_DURATION;
    network
}
