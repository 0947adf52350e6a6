//! Being reachable through relays: a reservation at each that the configuration names.

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::Driver;

/// A relay, and our reservation there.
#[derive(Debug)]
pub(crate) struct Relay {
    peer: PeerId,
    /// Under which we are reachable through it.
    circuit: Multiaddr,
    listener: Option<ListenerId>,
}

impl Relay {
    /// A relay that answers at `address`, without its peer id.
    pub(crate) fn new(peer: PeerId, address: Multiaddr) -> Self {
        let circuit = address.with(Protocol::P2p(peer)).with(Protocol::P2pCircuit);
        Self {
            peer,
            circuit,
            listener: None,
        }
    }
}

impl Driver {
    /// Asks for a reservation at every relay that we have none at: once connected, since the
    /// relay protocol gives up when a dial of its own meets one that is under way.
    pub(super) fn reserve_at_relays(&mut self) {
        for relay in &mut self.relays {
            if relay.listener.is_some() {
                continue;
            }
            if self.swarm.is_connected(&relay.peer) {
                match self.swarm.listen_on(relay.circuit.clone()) {
                    Ok(listener) => relay.listener = Some(listener),
                    Err(error) => tracing::warn!(relay = %relay.peer, %error, "no reservation"),
                }
            } else if let Err(error) = self.swarm.dial(relay.peer) {
                tracing::debug!(relay = %relay.peer, %error, "not dialled");
            }
        }
    }

    /// A listener closed: when it was a reservation, the next look asks for another.
    pub(super) fn on_listener_closed(&mut self, closed: ListenerId) {
        for relay in &mut self.relays {
            if relay.listener == Some(closed) {
                tracing::info!(relay = %relay.peer, "the reservation ended");
                relay.listener = None;
            }
        }
    }
}
