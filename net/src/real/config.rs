//! How a real network is set up, and its limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cairn_core::{ByteCount, NodeId, SecretKey};

/// Whether a peer serves the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhtMode {
    /// Nodes: keep records of others and answer lookups.
    Server,
    /// Clients: only ask.
    Client,
}

/// A peer and one address of its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The peer.
    pub node: NodeId,
    /// A libp2p multiaddress, with or without the peer id at its end.
    pub address: String,
}

/// Whether this peer relays for others that can't be reached directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayServer {
    /// It does not.
    Off,
    /// It does, within bounds.
    On {
        /// Most bytes of one circuit, both ways. Enough for hole punching at 128 KiB; shards
        /// need more.
        circuit_bytes_max: u64,
        /// Longest life of one circuit.
        circuit_time_max: Duration,
    },
}

impl RelayServer {
    /// For hole punching, and for control messages of peers that can't punch.
    pub const DEFAULT: Self = Self::On {
        circuit_bytes_max: 16 << 20,
        circuit_time_max: Duration::from_secs(600),
    };
}

/// Everything a real network needs to know at its start.
#[derive(Clone, Debug)]
pub struct RealConfig {
    /// Our identity.
    pub key: SecretKey,
    /// Whether we serve the DHT.
    pub dht_mode: DhtMode,
    /// libp2p multiaddresses to listen on, such as `/ip4/0.0.0.0/tcp/4101` and
    /// `/ip4/0.0.0.0/udp/4101/quic-v1`; none for a client.
    pub listen: Vec<String>,
    /// Where the direct data plane listens; `None` leaves libp2p streams only.
    pub data_listen: Option<SocketAddr>,
    /// Multiaddresses to publish instead of those that we see ourselves.
    pub announce: Vec<String>,
    /// Data plane addresses to publish instead of those that we see ourselves.
    pub announce_data: Vec<SocketAddr>,
    /// Peers to join the network through.
    pub bootstrap: Vec<PeerAddress>,
    /// Relays to be reachable through, for a peer that can't be reached directly.
    pub relays: Vec<PeerAddress>,
    /// Whether we relay for others.
    pub relay_server: RelayServer,
    /// Where DHT records and known peers are kept; `None` forgets them at the end.
    pub state_dir: Option<PathBuf>,
    /// Bounds on what peers may take of us.
    pub limits: RealLimits,
}

impl RealConfig {
    /// A peer that listens nowhere, knows nobody and keeps nothing: to be filled in.
    #[must_use]
    pub const fn new(key: SecretKey, dht_mode: DhtMode) -> Self {
        Self {
            key,
            dht_mode,
            listen: Vec::new(),
            data_listen: None,
            announce: Vec::new(),
            announce_data: Vec::new(),
            bootstrap: Vec::new(),
            relays: Vec::new(),
            relay_server: RelayServer::Off,
            state_dir: None,
            limits: RealLimits::DEFAULT,
        }
    }

    /// A peer that listens on free ports of the loopback interface.
    #[must_use]
    pub fn loopback(key: SecretKey, dht_mode: DhtMode) -> Self {
        Self {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            data_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..Self::new(key, dht_mode)
        }
    }
}

/// Bounds on what peers may take of us (I9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealLimits {
    /// Data streams of one peer, over TLS and libp2p together.
    pub peer_streams_max: usize,
    /// Data streams in all.
    pub streams_max: usize,
    /// TLS handshakes that have not ended.
    pub handshakes_max: usize,
    /// Longest TLS handshake.
    pub handshake_time_max: Duration,
    /// libp2p connections in all.
    pub connections_max: u32,
    /// libp2p connections with one peer: one each way and one in reserve for a better path.
    pub peer_connections_max: u32,
    /// Control requests that one connection may have open.
    pub peer_requests_max: usize,
    /// Control requests from peers that wait for our answer, in all.
    pub requests_max: usize,
    /// DHT records kept.
    pub records_max: usize,
    /// Bytes of DHT records kept.
    pub record_bytes_max: ByteCount,
    /// Memory of this process above which no libp2p connection is taken; `None` for no bound.
    pub process_memory_max: Option<ByteCount>,
}

impl RealLimits {
    /// For a node with a few thousand peers.
    pub const DEFAULT: Self = Self {
        peer_streams_max: 32,
        streams_max: 2_048,
        handshakes_max: 128,
        handshake_time_max: Duration::from_secs(10),
        connections_max: 2_048,
        peer_connections_max: 4,
        peer_requests_max: 32,
        requests_max: 512,
        records_max: 100_000,
        record_bytes_max: ByteCount::new(64 << 20),
        process_memory_max: None,
    };
}

/// Why a real network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address in the config is not one.
    #[error("{address:?} is not an address: {cause}")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An address can't be listened on.
    #[error("can't listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// The transports could not be set up.
    #[error("can't set up the transports: {cause}")]
    Transport {
        /// What was met.
        cause: String,
    },
    /// The saved records or peers could not be read.
    #[error(transparent)]
    Disk(#[from] cairn_runtime::DiskError),
}
