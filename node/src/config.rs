//! How a node is set up, and the bounds of its work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::{AccountId, NodeId, SecretKey, Signature};
use cairn_ledger::tx::NodeTerms;
use futures::future::BoxFuture;

use crate::store::{IndexCache, StoreConfig};

/// Bytes of shards in memory at once, in kibibytes: what is being received, read, made durable or
/// rebuilt. 64 MiB are 64 shards of the usual profile, enough to fill a batch while another is
/// synced.
pub const SHARD_MEMORY_KIB: u32 = 64 << 10;
/// The share of that which one peer may have: 16 MiB, so that four slow ones can't stop others.
pub const PEER_MEMORY_KIB: u32 = 16 << 10;
/// Besides, bytes of rebuilt shards on their way to partners: 32 MiB hold seven of 4 MiB.
pub const PASSING_MEMORY_KIB: u32 = 32 << 10;
/// Data plane streams served at once; the network bounds them per peer.
pub const STREAMS_MAX: usize = 1024;
/// Control requests answered at once.
pub const CONTROL_REQUESTS_MAX: usize = 64;

/// Answers control messages that carry ledger requests: the process that runs the sequencer gives
/// it one. Without it they are refused.
pub trait LedgerServer: fmt::Debug + Send + Sync {
    /// The ledger's answer to a peer, in its own encoding.
    fn answer(&self, peer: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>>;
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its identity; the same as the network's.
    pub key: SecretKey,
    /// Its shard store.
    pub store: StoreConfig,
    /// Where the store may keep what can be rebuilt.
    pub cache: Arc<dyn IndexCache>,
    /// What it offers. Published to the ledger when it differs from what is there.
    pub terms: NodeTerms,
    /// The account that answers for the node and its consent; the node itself when `None`.
    pub operator: Option<(AccountId, Signature)>,
    /// Who answers ledger requests of peers, if this process does.
    pub ledger_server: Option<Arc<dyn LedgerServer>>,
    /// How it paces its own work.
    pub pacing: Pacing,
}

/// How a node paces its own work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// How long acknowledgements gather before they are sent in one transaction.
    pub acknowledge_delay: Duration,
    /// First wait after a failed attempt; doubles up to [`Self::retry_delay_max`].
    pub retry_delay: Duration,
    /// Longest wait between attempts.
    pub retry_delay_max: Duration,
    /// Slots caught up at once.
    pub slots_at_once: usize,
    /// Shards of a slot fetched at once.
    pub shards_at_once: usize,
    /// Bytes that scrub reads in a second.
    pub scrub_bytes_per_second: u64,
    /// The first scrub begins this long after the start.
    pub scrub_delay: Duration,
    /// A scrub of everything begins this long after the one before has ended.
    pub scrub_interval: Duration,
    /// Shards that no revision covers are dropped after this.
    pub unrevised_expiry: Duration,
    /// Time between two records that are published to the DHT.
    pub publish_gap: Duration,
    /// A group's record is published again after this.
    pub publish_interval: Duration,
    /// How long requests under way may still take at shutdown.
    pub shutdown_grace: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            acknowledge_delay: Duration::from_millis(200),
            retry_delay: Duration::from_millis(500),
            retry_delay_max: Duration::from_secs(60),
            slots_at_once: 2,
            shards_at_once: 4,
            scrub_bytes_per_second: 8 << 20,
            scrub_delay: Duration::from_secs(3600),
            scrub_interval: Duration::from_secs(7 * 24 * 3600),
            unrevised_expiry: Duration::from_secs(48 * 3600),
            publish_gap: Duration::from_millis(250),
            publish_interval: Duration::from_secs(12 * 3600),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}
