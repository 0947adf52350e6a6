//! Data streams over libp2p connections, for peers without a reachable data address.
//!
//! The opener waits for one byte: [`ACCEPTED`] or [`REFUSED`]. Unlike `libp2p-stream`, which drops
//! an inbound stream when nobody happens to wait for it, a stream is either queued or refused, and
//! the opener knows which.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};

use cairn_core::NodeId;
use cairn_runtime::RealRuntime;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour,
    NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::oneshot;

use super::book::Book;
use super::gate::{Gate, RealStream};
use super::identity;
use crate::NetError;

mod connection;

use connection::ConnectionStreams;

/// The protocol's name on libp2p connections.
const DATA_PROTOCOL: StreamProtocol = StreamProtocol::new("/cairn/data/1");
/// First byte from the answering end: the stream is queued.
const ACCEPTED: u8 = 1;
/// First byte from the answering end: over a bound.
const REFUSED: u8 = 0;
/// Streams that wait for a connection to one peer, or for its handler.
const WAITING_MAX: usize = 64;

/// A wish for a stream, and who waits for it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(super) node: NodeId,
    pub(super) answer: oneshot::Sender<Result<RealStream, NetError>>,
}

impl Open {
    fn fail(self, cause: String) {
        let peer = self.node;
        // Nobody waits any more: nobody to tell.
        let _gone = self.answer.send(Err(NetError::Unreachable { peer, cause }));
    }
}

/// Opens and accepts data streams.
#[derive(Debug)]
pub(super) struct Streams {
    gate: Gate,
    book: Book,
    runtime: RealRuntime,
    connected: BTreeMap<PeerId, BTreeMap<ConnectionId, Path>>,
    waiting: BTreeMap<PeerId, VecDeque<Open>>,
    actions: VecDeque<ToSwarm<Infallible, Open>>,
}

/// How a connection reaches the peer, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Path {
    Direct,
    Relayed,
}

impl Streams {
    pub(super) const fn new(gate: Gate, book: Book, runtime: RealRuntime) -> Self {
        Self {
            gate,
            book,
            runtime,
            connected: BTreeMap::new(),
            waiting: BTreeMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// Opens a stream to `peer`, over a connection that is made when there is none.
    pub(super) fn open(&mut self, peer: PeerId, open: Open) {
        if let Some(connection) = self.best(&peer) {
            self.hand_over(peer, connection, open);
            return;
        }
        let waiting = self.waiting.entry(peer).or_default();
        if waiting.len() >= WAITING_MAX {
            open.fail(format!("{WAITING_MAX} streams wait for a connection"));
            return;
        }
        waiting.push_back(open);
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .build();
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn best(&self, peer: &PeerId) -> Option<ConnectionId> {
        let connections = self.connected.get(peer)?;
        connections
            .iter()
            .min_by_key(|(_, path)| **path)
            .map(|(connection, _)| *connection)
    }

    fn hand_over(&mut self, peer_id: PeerId, connection: ConnectionId, event: Open) {
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event,
        });
    }

    fn handler(&self, peer: &PeerId) -> Result<ConnectionStreams, ConnectionDenied> {
        match identity::node_id(peer) {
            Some(node) => Ok(ConnectionStreams::new(
                node,
                self.gate.clone(),
                self.runtime.clone(),
            )),
            None => Err(ConnectionDenied::new(NotEd25519)),
        }
    }

    fn on_failed_dial(&mut self, failure: &DialFailure<'_>) {
        use libp2p::swarm::DialError;
        if matches!(failure.error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        let Some(waiting) = failure.peer_id.and_then(|peer| self.waiting.remove(&peer)) else {
            return;
        };
        for open in waiting {
            open.fail(failure.error.to_string());
        }
    }

    fn on_closed(&mut self, closed: &ConnectionClosed<'_>) {
        if let Some(connections) = self.connected.get_mut(&closed.peer_id) {
            connections.remove(&closed.connection_id);
            if connections.is_empty() {
                self.connected.remove(&closed.peer_id);
            }
        }
    }
}

/// The peer's identity is of another kind than ours.
#[derive(Debug, thiserror::Error)]
#[error("the peer's key is not Ed25519")]
struct NotEd25519;

impl NetworkBehaviour for Streams {
    type ConnectionHandler = ConnectionStreams;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(&peer)
    }

    /// Every dial of a peer, whichever protocol wants it, learns the book's addresses here.
    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let node = peer.as_ref().and_then(identity::node_id);
        Ok(node.map_or_else(Vec::new, |node| self.book.control(node)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(&peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                let path = if made.endpoint.is_relayed() {
                    Path::Relayed
                } else {
                    Path::Direct
                };
                let connections = self.connected.entry(made.peer_id).or_default();
                connections.insert(made.connection_id, path);
                for open in self.waiting.remove(&made.peer_id).unwrap_or_default() {
                    self.hand_over(made.peer_id, made.connection_id, open);
                }
            }
            FromSwarm::ConnectionClosed(closed) => self.on_closed(&closed),
            FromSwarm::DialFailure(failure) => self.on_failed_dial(&failure),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.actions.pop_front() {
            Some(action) => Poll::Ready(action),
            None => Poll::Pending,
        }
    }
}
