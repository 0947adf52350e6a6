//! Authenticated peers, typed messages, byte streams, DHT records, NAT traversal.
//!
//! [`Network`] is the seam: the real one is libp2p with direct TLS connections for shard bytes,
//! the simulated one is a set of machines in one process under a seed. A peer is named by its
//! [`NodeId`], and every request and stream is authenticated as coming from one.

pub mod data;
pub mod ledger_peers;
pub mod pool;
pub mod real;
pub mod sim;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;
use cairn_core::{AccountId, Blame, Digest, GroupId, NodeId, Retry};
pub use data::{DataConn, DataError, Pace, ServerConn, ShardGot, ShardWanted};
pub use ledger_peers::LedgerPeers;
pub use pool::{DataPool, PoolLimits, Pooled};
pub use real::{
    DhtMode, PeerAddress, RealConfig, RealLimits, RealNetwork, RelayServer, StartError,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// Most bytes of a control request or response.
pub const CONTROL_BYTES_MAX: usize = LEDGER_MESSAGE_BYTES_MAX + 128;
/// Most bytes of a DHT record.
pub const RECORD_BYTES_MAX: usize = 12 << 10;

/// One peer's way to all others. Cheap to clone.
pub trait Network: Clone + fmt::Debug + Send + Sync + 'static {
    /// An authenticated byte stream to one peer.
    type Stream: AsyncRead + AsyncWrite + fmt::Debug + Unpin + Send + 'static;

    /// Who we are.
    fn local(&self) -> NodeId;

    /// Sends a control message and waits for the answer, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the peer may or may not have acted on the request.
    fn request(
        &self,
        peer: NodeId,
        message: Vec<u8>,
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, NetError>> + Send;

    /// The next control message from a peer; `None` after shutdown. Requests beyond a bounded
    /// queue are refused before they get here.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no request.
    fn next_request(&self) -> impl Future<Output = Option<InboundRequest>> + Send;

    /// Opens a byte stream for shard bytes: direct TLS when the peer has a data address, a libp2p
    /// stream otherwise.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    fn connect(
        &self,
        peer: NodeId,
        limit: Duration,
    ) -> impl Future<Output = Result<Self::Stream, NetError>> + Send;

    /// The next byte stream that a peer opened; `None` after shutdown. Streams beyond the limits
    /// per peer and in all are refused before they get here.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses no stream.
    fn accept(&self) -> impl Future<Output = Option<(NodeId, Self::Stream)>> + Send;

    /// Publishes a signed record to the DHT under `key`.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    fn publish(
        &self,
        key: RecordKey,
        value: Vec<u8>,
    ) -> impl Future<Output = Result<(), NetError>> + Send;

    /// The newest valid record that the DHT has under `key`; `None` when nobody has one.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    fn find(
        &self,
        key: RecordKey,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, NetError>> + Send;

    /// Ends all connections and tasks; later calls fail with [`NetError::Closed`].
    fn shutdown(&self) -> impl Future<Output = ()> + Send;
}

/// What a DHT record is about, and so the key it is stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// A [`cairn_core::NodeRecord`], signed by the node.
    Node(NodeId),
    /// A [`cairn_core::GroupRecord`], signed by the owner. The owner is part of the key, so that
    /// nobody else's record can be under it.
    Group {
        /// The group.
        group: GroupId,
        /// Its owner, whom the ledger and every link name.
        owner: AccountId,
    },
}

impl RecordKey {
    /// The 32 bytes of the DHT key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Node(node) => Digest::keyed("cairn 1 dht key of a node record", node.as_bytes()),
            Self::Group { group, owner } => {
                let both = [*group.as_bytes(), *owner.key().as_bytes()].concat();
                Digest::keyed("cairn 1 dht key of a group record", &both)
            }
        }
    }
}

/// A control message from a peer. Dropping it without an answer closes the peer's request.
#[derive(Debug)]
pub struct InboundRequest {
    /// Who asks.
    pub peer: NodeId,
    /// The message, at most [`CONTROL_BYTES_MAX`] bytes, not yet decoded.
    pub message: Vec<u8>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Vec<u8>>,
}

/// Why the network did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// No address of the peer is known, not even in the DHT.
    #[error("no address is known for peer {peer}")]
    UnknownPeer {
        /// The peer.
        peer: NodeId,
    },
    /// None of the peer's addresses answers.
    #[error("peer {peer} can't be reached: {cause}")]
    Unreachable {
        /// The peer.
        peer: NodeId,
        /// What the last attempt met.
        cause: String,
    },
    /// No answer within the time given.
    #[error("peer {peer} did not answer within {limit:?}")]
    Timeout {
        /// The peer.
        peer: NodeId,
        /// The time given.
        limit: Duration,
    },
    /// The peer ended the connection or the stream.
    #[error("peer {peer} closed the connection: {cause}")]
    Disconnected {
        /// The peer.
        peer: NodeId,
        /// What was met.
        cause: String,
    },
    /// The other end is not who it should be, or breaks the protocol.
    #[error("peer {peer} breaks the protocol: {cause}")]
    Protocol {
        /// The peer.
        peer: NodeId,
        /// What it did.
        cause: String,
    },
    /// A message or record is over its bound.
    #[error("expected at most {max} bytes, found {found}")]
    TooLarge {
        /// The bound.
        max: usize,
        /// Its size.
        found: usize,
    },
    /// The DHT did not take or find a record.
    #[error("the DHT did not do it: {cause}")]
    Dht {
        /// What it met.
        cause: String,
    },
    /// We have shut down.
    #[error("the network is shut down")]
    Closed,
}

impl NetError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::UnknownPeer { .. } | Self::Protocol { .. } => Retry::Elsewhere,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Disconnected { .. } => {
                Retry::Elsewhere
            }
            Self::Dht { .. } => Retry::Later,
            Self::TooLarge { .. } | Self::Closed => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Protocol { .. } => Blame::Peer,
            Self::TooLarge { .. } | Self::Closed => Blame::Us,
            Self::UnknownPeer { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Disconnected { .. }
            | Self::Dht { .. } => Blame::World,
        }
    }
}
