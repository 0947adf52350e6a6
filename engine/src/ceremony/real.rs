//! A ceremony on a thread of its own, with real clock and sockets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;
use std::{error, thread};

use bytes::Bytes;
use commonware_cryptography::ed25519;
use commonware_p2p::authenticated::lookup::Network;
use commonware_p2p::{Address, AddressableManager as _, Receiver as _, Recipients, Sender};
use commonware_runtime::tokio::{Config as RunnerConfig, Context, Runner};
use commonware_runtime::{Clock as _, Quota, Runner as _, Supervisor as _};
use commonware_utils::ordered::Map;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::message::message_bytes_max;
use super::{Agreement, Audience, Ceremony, CeremonyError, Draft, FaultKind, Lack, Made};
use crate::committee::{self, KeyPart};
use crate::real::{Wire, network_config};

/// What the participants' handshakes are bound to.
const NAMESPACE: &[u8] = b"cairn 1 ceremony";
const CHANNEL: u64 = 0;
/// Messages that a participant may send per second. The channel holds as many for every one.
const RATE: NonZeroU32 = NonZeroU32::new(32).expect("not 0");
/// How often a participant says how it stands, so that what was lost is sent again.
const TICK: Duration = Duration::from_millis(500);
const THREADS: usize = 2;

/// How a participant takes part.
#[derive(Clone, Debug)]
pub struct CeremonyConfig {
    /// Who takes part, and in what.
    pub draft: Draft,
    /// This participant's secret identity key.
    pub secret: Zeroizing<[u8; 32]>,
    /// This participant's part of the key that is dealt anew, if it deals.
    pub part: Option<KeyPart>,
    /// Fresh and secret.
    pub entropy: Zeroizing<[u8; 32]>,
    /// Where it listens for the others.
    pub listen: SocketAddr,
    /// Where the others listen, by identity.
    pub peers: Vec<([u8; 32], SocketAddr)>,
    /// A folder that nobody else uses; nothing of it is needed afterwards.
    pub folder: PathBuf,
    /// When it gives up, or has waited long enough for others after the end.
    pub limit: Duration,
    /// What this participant kept of an earlier ceremony that may have come to its end: the
    /// digest that it signed.
    pub kept: Option<[u8; 32]>,
    /// What was agreed on, when it is here only for others that have not heard of it.
    pub agreement: Option<Agreement>,
}

/// Keeps what comes of a ceremony. Called on the ceremony's thread, and may take its time.
pub trait Keeper: Send {
    /// Makes what was made outlive a crash, in place of what was made before: the digest of the
    /// genesis that it gives, or of who holds the key next, which is then signed.
    ///
    /// # Errors
    ///
    /// When it can't; the ceremony ends.
    fn keep(&mut self, made: &Made) -> Result<[u8; 32], Box<dyn error::Error + Send + Sync>>;

    /// All have signed what was kept last.
    ///
    /// # Errors
    ///
    /// When it can't be kept; the ceremony ends.
    fn agreed(&mut self, agreement: &Agreement) -> Result<(), Box<dyn error::Error + Send + Sync>>;

    /// Others are waited for.
    fn waiting(&mut self, missing: &[([u8; 32], Lack)]);
}

/// What came of a ceremony.
#[derive(Debug)]
pub struct Held {
    /// What was agreed on, or why nothing.
    pub agreement: Result<Agreement, CeremonyError>,
    /// Who did what on the way, by identity.
    pub faults: Vec<([u8; 32], FaultKind)>,
}

/// Takes part in a ceremony to its end. Blocks.
pub fn hold(config: &CeremonyConfig, keeper: &mut impl Keeper) -> Held {
    let mut ceremony = match begin(config) {
        Ok(ceremony) => ceremony,
        Err(error) => {
            return Held {
                agreement: Err(error),
                faults: Vec::new(),
            };
        }
    };
    // The engine's runtime wants a thread that no other runtime is on.
    let held = thread::scope(|scope| {
        let held = thread::Builder::new()
            .name("ceremony".to_owned())
            .spawn_scoped(scope, || live(config, &mut ceremony, keeper));
        match held.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(held)) => held,
            // It panicked, and said so.
            Ok(Err(_)) => Err(CeremonyError::Network),
            Err(error) => Err(CeremonyError::Thread(error)),
        }
    });
    let faults = ceremony.faults();
    let agreement = held.and_then(|()| {
        let agreement = ceremony.agreement().cloned();
        agreement.ok_or(CeremonyError::Network)
    });
    Held { agreement, faults }
}

fn begin(config: &CeremonyConfig) -> Result<Ceremony, CeremonyError> {
    let ceremony = Ceremony::new(&config.draft, &config.secret, *config.entropy, config.limit)?;
    // The engine's own attempt ends in a panic.
    drop(
        TcpListener::bind(config.listen).map_err(|cause| CeremonyError::Listen {
            address: config.listen,
            cause,
        })?,
    );
    let ceremony = ceremony.keeping(config.kept);
    match config.agreement.clone() {
        // Nothing is dealt any more.
        Some(agreement) => Ok(ceremony.after(agreement)),
        None => ceremony.holding(config.part.as_ref()),
    }
}

/// Where all participants listen, this one included.
fn addresses(config: &CeremonyConfig) -> Result<Map<ed25519::PublicKey, Address>, CeremonyError> {
    let mut all = BTreeMap::new();
    for (identity, address) in &config.peers {
        let key = committee::public_key(identity).ok_or(CeremonyError::Identity)?;
        all.insert(key, Address::from(*address));
    }
    Map::try_from(all.into_iter().collect::<Vec<_>>()).map_err(|_| CeremonyError::Ours)
}

/// The thread's work.
fn live(
    config: &CeremonyConfig,
    ceremony: &mut Ceremony,
    keeper: &mut impl Keeper,
) -> Result<(), CeremonyError> {
    let signer = committee::signer(&config.secret).ok_or(CeremonyError::Identity)?;
    let peers = addresses(config)?;
    let runner = RunnerConfig::new()
        .with_storage_directory(&config.folder)
        .with_worker_threads(THREADS);
    Runner::new(runner).start(async move |context: Context| {
        let wire = Wire {
            namespace: NAMESPACE.to_vec(),
            listen: config.listen,
            count: config.draft.participants.len(),
            message_bytes_max: message_bytes_max(),
        };
        let (mut network, mut oracle) =
            Network::new(context.child("network"), network_config(wire, signer));
        let _taken = oracle.track(0, peers);
        let (mut sender, mut receiver) = network.register(CHANNEL, Quota::per_second(RATE));
        let _network = network.start();
        // One that no change of the wall clock moves, as the runtime's own would be.
        let begun = Instant::now();
        let mut next = Duration::ZERO;
        let mut waiting = Vec::new();
        let mut is_told = config.agreement.is_some();
        loop {
            tokio::select! {
                message = receiver.recv() => {
                    let (from, bytes) = message.map_err(|_| CeremonyError::Network)?;
                    let bytes = Bytes::copy_from_slice(bytes.as_ref());
                    ceremony.receive(begun.elapsed(), &from, bytes)?;
                }
                () = context.sleep(next.saturating_sub(begun.elapsed())) => {
                    ceremony.tick(begun.elapsed())?;
                    next = begun.elapsed().saturating_add(TICK);
                }
            }
            let now = begun.elapsed();
            if let Some(made) = ceremony.made() {
                let digest = keeper.keep(&made).map_err(CeremonyError::Keep)?;
                ceremony.sign(now, digest)?;
            }
            if let Some(agreement) = ceremony.agreement()
                && !is_told
            {
                // Before the others hear that we are done.
                keeper.agreed(agreement).map_err(CeremonyError::Keep)?;
                is_told = true;
            }
            post(ceremony, &mut sender);
            let missing = ceremony.missing();
            if missing != waiting {
                keeper.waiting(&missing);
                waiting = missing;
            }
            if ceremony.is_over(now) {
                return Ok(());
            }
        }
    })
}

/// Sends what is to be sent. What does not arrive is sent again when its receiver says what it
/// lacks.
fn post(ceremony: &mut Ceremony, sender: &mut impl Sender<PublicKey = ed25519::PublicKey>) {
    for sending in ceremony.outbox() {
        let to = match sending.to {
            Audience::All => Recipients::All,
            Audience::One(key) => Recipients::One(key),
        };
        drop(sender.send(to, sending.bytes, true));
    }
}
