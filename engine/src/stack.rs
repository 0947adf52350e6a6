//! Puts the engine's parts together, over any runtime and network.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use commonware_broadcast::buffered;
use commonware_consensus::marshal::core::Actor as Marshal;
use commonware_consensus::marshal::resolver::p2p as backfill;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex::elector::{Random, RandomVersion};
use commonware_consensus::simplex::types::{Activity, Context};
use commonware_consensus::simplex::{self, Engine, Floor, ForwardPolicy, SkipBudget, SkipPolicy};
use commonware_consensus::types::{Epoch, FixedEpocher, ViewDelta};
use commonware_consensus::{CertifiableAutomaton, Relay, Reporter, Reporters};
use commonware_cryptography::certificate::ConstantProvider;
use commonware_cryptography::{Digested, Digestible as _, Sha256, ed25519};
use commonware_p2p::{Blocker, Provider, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::{self, CacheRef};
use commonware_runtime::{Clock, Handle, Metrics, Quota, Spawner, Storage};
use commonware_storage::archive::immutable::{Archive, Config as ArchiveConfig};
use commonware_utils::NonZeroDuration;
use rand_core::CryptoRng;
use tokio::sync::mpsc;

use crate::adapter::{Adapter, Finality, deliver};
use crate::block::{Block, BytesMax, Digest};
use crate::committee::{Scheme, key_bytes};
use crate::port::Application;
use crate::seeds::Seeds;

type Key = ed25519::PublicKey;

/// Messages of each kind that a peer may send per second. Each channel holds as many for every
/// validator, so these bound memory too.
const VOTES_RATE: NonZeroU32 = nonzero_u32(256);
const BLOCKS_RATE: NonZeroU32 = nonzero_u32(128);
/// Waiting messages of each part of the engine.
const MAILBOX_SIZE: NonZeroUsize = nonzero_usize(1024);
/// Views behind the last final one whose votes and certificates are kept. Those above it are all
/// kept, however many they are: after a crash the seeds that a block may need come from them.
const VIEWS_KEPT: ViewDelta = ViewDelta::new(256);
/// Final blocks that are with the application at a time.
const PENDING_MAX: NonZeroUsize = nonzero_usize(16);
/// Missing blocks asked for at a time.
const REPAIR_MAX: NonZeroUsize = nonzero_usize(64);
/// Blocks of each validator kept before they are voted on.
const CACHED_BLOCKS_MAX: usize = 16;
/// Buffers of journals and archives.
const WRITE_BUFFER: NonZeroUsize = nonzero_usize(64 << 10);
const REPLAY_BUFFER: NonZeroUsize = nonzero_usize(256 << 10);
/// Files are read in pages of this size. A change makes existing files unreadable: the engine
/// takes their pages for torn ones and cuts them off.
const PAGE_SIZE: NonZeroU16 = paged::page_size(4096);
/// Pages kept in memory: 8 MiB.
const PAGES_MAX: NonZeroUsize = nonzero_usize(2048);
/// Items of an archive's section. Fixed for the life of a folder.
const ARCHIVE_SECTION: NonZeroU64 = NonZeroU64::new(4096).expect("not 0");
/// Slots of an archive's table to begin with; it grows.
const ARCHIVE_TABLE: u32 = 1 << 14;
const ARCHIVE_VALUES_BYTES: u64 = 64 << 20;
/// How long a peer may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const FETCH_RETRY: Duration = Duration::from_millis(100);

const fn nonzero_u32(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("not 0")
}

const fn nonzero_usize(value: usize) -> NonZeroUsize {
    NonZeroUsize::new(value).expect("not 0")
}

/// The engine's channels, in the order of their numbers, and the rate of each.
pub(crate) const CHANNELS: [(u64, NonZeroU32); 6] = [
    (0, VOTES_RATE),
    (1, VOTES_RATE),
    (2, BLOCKS_RATE),
    (3, VOTES_RATE),
    (4, BLOCKS_RATE),
    (5, BLOCKS_RATE),
];

/// The rate of a channel.
pub(crate) fn quota(rate: NonZeroU32) -> Quota {
    Quota::per_second(rate)
}

/// The two ends of a channel.
pub(crate) type Channel<S, R> = (S, R);

/// A validator's way to the others.
pub(crate) struct Wires<S, R, P, B> {
    pub(crate) votes: Channel<S, R>,
    pub(crate) certificates: Channel<S, R>,
    pub(crate) resolver: Channel<S, R>,
    pub(crate) backfill: Channel<S, R>,
    pub(crate) blocks: Channel<S, R>,
    pub(crate) messages: Channel<S, R>,
    pub(crate) peers: P,
    pub(crate) blocker: B,
}

/// A validator, without the world it lives in.
pub(crate) struct Validator {
    pub(crate) me: Key,
    pub(crate) scheme: Scheme,
    /// Bytes of the block before the first.
    pub(crate) genesis: Vec<u8>,
    pub(crate) bytes_max: BytesMax,
    /// Most bytes of a message that the application sends another validator.
    pub(crate) forwarded_bytes_max: usize,
    /// How long a leader may take.
    pub(crate) turn_limit: Duration,
    /// Begins the names of its files.
    pub(crate) partition: String,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) seeds: Seeds,
    /// Height of the last final block that is known of.
    pub(crate) height: Arc<AtomicU64>,
    /// Messages for the other validators.
    pub(crate) outbox: mpsc::Receiver<Vec<u8>>,
}

/// Most bytes of a message among `count` validators.
pub(crate) fn message_bytes_max(count: u32, bytes_max: BytesMax) -> u32 {
    commonware_p2p::max_message_size(&[
        simplex::max_payload_size::<Scheme, Digest>(count),
        marshal::max_payload_size::<Standard<Block>, Scheme>(count, &bytes_max),
        bytes_max.0,
    ])
}

/// Runs a validator until one of its parts stops, which none does by itself.
pub(crate) async fn run<E, S, R, P, B>(context: E, wires: Wires<S, R, P, B>, validator: Validator)
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
    S: Sender<PublicKey = Key>,
    R: Receiver<PublicKey = Key>,
    P: Provider<PublicKey = Key>,
    B: Blocker<PublicKey = Key>,
{
    let pages = CacheRef::new(PAGE_SIZE, PAGES_MAX);
    let genesis = Block::genesis(&validator.genesis);
    let genesis = Digested::precomputed(genesis.clone(), genesis.digest());
    let (peers, blocker) = (wires.peers, wires.blocker);
    let resolver = backfill::init(
        context.child("backfill"),
        backfill_config(&validator.me, peers.clone(), blocker.clone()),
        wires.backfill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        broadcast_config(&validator, peers),
    );
    let name = |part: &str| format!("{}-{part}", validator.partition);
    let certificates = archive_config(&name("certificates"), &pages, ());
    let certificates = Archive::init(context.child("certificates"), certificates).await;
    let blocks = archive_config(&name("blocks"), &pages, validator.bytes_max);
    let blocks = Archive::init(context.child("blocks"), blocks).await;
    let (marshal, mailbox, _) = Marshal::<_, Standard<Block>, _, _, _, _, _>::init(
        context.child("marshal"),
        certificates.expect("the disk holds what it held"),
        blocks.expect("the disk holds what it held"),
        marshal_config(&validator, &pages, genesis.clone()),
    )
    .await;
    let height = Arc::clone(&validator.height);
    let (finality, deliveries) = Finality::new(PENDING_MAX.get(), height);
    let adapter = Adapter::new(
        Arc::clone(&validator.application),
        validator.seeds.clone(),
        validator.bytes_max,
    );
    let epocher = FixedEpocher::new(NonZeroU64::MAX);
    let inline = Inline::new(context.child("inline"), adapter, mailbox, epocher);
    let engine = Engine::new(
        context.child("simplex"),
        simplex_config(&validator, blocker, inline, genesis.digest(), pages),
    );
    let application = Arc::clone(&validator.application);
    let (sender, receiver) = wires.messages;
    let bytes_max = validator.forwarded_bytes_max;
    let parts: [Handle<()>; 6] = [
        broadcast.start(wires.blocks),
        marshal.start(finality, buffer, resolver),
        engine.start(wires.votes, wires.certificates, wires.resolver),
        context
            .child("deliver")
            .spawn(move |_| deliver(application, deliveries)),
        context
            .child("send")
            .spawn(move |_| send(sender, validator.outbox)),
        context
            .child("receive")
            .spawn(move |_| receive(receiver, bytes_max, validator.application)),
    ];
    let (ended, part, _) = futures::future::select_all(parts).await;
    tracing::error!(?ended, part, "a part of the consensus engine stopped");
}

fn backfill_config<P, B>(me: &Key, peer_provider: P, blocker: B) -> backfill::Config<Key, P, B>
where
    P: Provider<PublicKey = Key>,
    B: Blocker<PublicKey = Key>,
{
    backfill::Config {
        public_key: me.clone(),
        peer_provider,
        blocker,
        mailbox_size: MAILBOX_SIZE,
        fetch_timeout: fetch_timeout(),
        fetch_retry_delay: FETCH_RETRY,
        priority_requests: false,
        priority_responses: false,
    }
}

fn broadcast_config<P: Provider<PublicKey = Key>>(
    validator: &Validator,
    peer_provider: P,
) -> buffered::Config<Key, BytesMax, P, Sequential> {
    buffered::Config {
        public_key: validator.me.clone(),
        mailbox_size: MAILBOX_SIZE,
        deque_size: CACHED_BLOCKS_MAX,
        priority: true,
        codec_config: validator.bytes_max,
        peer_provider,
        strategy: Sequential,
    }
}

/// The configuration of agreement itself, over an automaton that is relay and reporter too.
type SimplexConfig<A, B> =
    simplex::Config<Scheme, Random<Sha256>, B, Digest, A, A, Reporters<A, Seeds>, Sequential>;

fn simplex_config<A, B>(
    validator: &Validator,
    blocker: B,
    automaton: A,
    genesis: Digest,
    page_cache: CacheRef,
) -> SimplexConfig<A, B>
where
    A: CertifiableAutomaton<Context = Context<Digest, Key>, Digest = Digest>
        + Relay
        + Reporter<Activity = Activity<Scheme, Digest>>,
    B: Blocker<PublicKey = Key>,
{
    let limit = validator.turn_limit;
    simplex::Config {
        scheme: validator.scheme.clone(),
        elector: Random::new(RandomVersion::V1),
        blocker,
        automaton: automaton.clone(),
        relay: automaton.clone(),
        reporter: Reporters::from((automaton, validator.seeds.clone())),
        track_historical_votes: false,
        strategy: Sequential,
        partition: format!("{}-simplex", validator.partition),
        mailbox_size: MAILBOX_SIZE,
        epoch: Epoch::zero(),
        floor: Floor::Genesis(genesis),
        replay_buffer: REPLAY_BUFFER,
        write_buffer: WRITE_BUFFER,
        page_cache,
        leader_timeout: limit,
        certification_timeout: limit.saturating_mul(2),
        timeout_retry: limit,
        view_retention: VIEWS_KEPT,
        skip: SkipPolicy::Enabled {
            timeout: limit.saturating_mul(3),
            budget: SkipBudget::Participants,
        },
        fetch_timeout: fetch_timeout(),
        fetch_retry_delay: FETCH_RETRY,
        forward: ForwardPolicy::SilentVoters,
    }
}

fn fetch_timeout() -> NonZeroDuration {
    NonZeroDuration::new(FETCH_TIMEOUT).expect("not 0")
}

fn marshal_config(
    validator: &Validator,
    pages: &CacheRef,
    genesis: Digested<Block>,
) -> marshal::Config<
    ConstantProvider<Scheme, Epoch>,
    FixedEpocher,
    Sequential,
    Block,
    Digested<Block>,
> {
    marshal::Config {
        provider: ConstantProvider::new(validator.scheme.clone()),
        epocher: FixedEpocher::new(NonZeroU64::MAX),
        start: Start::Genesis(genesis),
        partition_prefix: format!("{}-marshal", validator.partition),
        mailbox_size: MAILBOX_SIZE,
        view_retention: VIEWS_KEPT,
        prunable_items_per_section: ARCHIVE_SECTION,
        page_cache: pages.clone(),
        replay_buffer: REPLAY_BUFFER,
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        block_codec_config: validator.bytes_max,
        max_repair: REPAIR_MAX,
        max_pending_acks: PENDING_MAX,
        strategy: Sequential,
    }
}

fn archive_config<C>(name: &str, pages: &CacheRef, codec_config: C) -> ArchiveConfig<C> {
    let partition = |part: &str| format!("{name}-{part}");
    ArchiveConfig {
        metadata_partition: partition("metadata"),
        freezer_table_partition: partition("table"),
        freezer_table_initial_size: ARCHIVE_TABLE,
        freezer_table_resize_frequency: 4,
        freezer_table_resize_chunk_size: ARCHIVE_TABLE,
        freezer_key_partition: partition("keys"),
        freezer_key_page_cache: pages.clone(),
        freezer_value_partition: partition("values"),
        freezer_value_target_size: ARCHIVE_VALUES_BYTES,
        freezer_value_compression: None,
        ordinal_partition: partition("ordinal"),
        items_per_section: ARCHIVE_SECTION,
        freezer_key_write_buffer: WRITE_BUFFER,
        freezer_value_write_buffer: WRITE_BUFFER,
        ordinal_write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
        codec_config,
    }
}

/// Sends the application's messages to all other validators that are there.
async fn send(mut sender: impl Sender<PublicKey = Key>, mut outbox: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = outbox.recv().await {
        // Whom it does not reach, another copy may: nothing depends on one message.
        drop(sender.send(Recipients::All, message, false));
    }
    // Nobody is left to send.
    std::future::pending::<()>().await;
}

/// Gives the application the messages of other validators. One of more than `bytes_max` bytes no
/// application sent; it is dropped before it is copied.
async fn receive(
    mut receiver: impl Receiver<PublicKey = Key>,
    bytes_max: usize,
    application: Arc<dyn Application>,
) {
    while let Ok((from, message)) = receiver.recv().await {
        if message.len() > bytes_max {
            continue;
        }
        if let Some(from) = key_bytes(&from) {
            application.receive(from, message.as_ref().to_vec());
        }
    }
}
