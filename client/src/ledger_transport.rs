//! The ledger over the network's control messages: asks the peers that serve it, one after the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Bounded, LedgerId, NodeId, Record};
use cairn_ledger::{LedgerTransport, RemoteLedger, TransportError};
use cairn_net::{NetError, Network};

/// Longest wait for an answer: finality takes a second or so, and a poll for effects some more.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Carries ledger requests to peers that serve a ledger.
#[derive(Clone, Debug)]
pub struct ControlTransport<N> {
    network: N,
    peers: Arc<[NodeId]>,
    /// The peer that answered last.
    present: Arc<AtomicUsize>,
}

impl<N: Network> ControlTransport<N> {
    /// A transport to `peers`, the first first. Each must serve the ledger.
    #[must_use]
    pub fn new(network: N, peers: &[NodeId]) -> Self {
        Self {
            network,
            peers: peers.into(),
            present: Arc::default(),
        }
    }

    async fn ask(&self, peer: NodeId, message: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let answer = self
            .network
            .request(peer, message, ANSWER_LIMIT)
            .await
            .map_err(|error| transport_error(&error))?;
        match ControlResponse::decode(&answer) {
            Ok(ControlResponse::Ledger(bytes)) => Ok(bytes.into_vec()),
            Ok(ControlResponse::Error { code, .. }) => Err(TransportError::Refused(code)),
            Ok(ControlResponse::Slot(_) | ControlResponse::Detail(_)) | Err(_) => {
                Err(TransportError::Protocol)
            }
        }
    }
}

/// The ledger `id` that `peers` serve, over control messages.
#[must_use]
pub fn remote_ledger<N: Network>(
    network: N,
    peers: &[NodeId],
    id: LedgerId,
) -> RemoteLedger<ControlTransport<N>> {
    RemoteLedger::new(ControlTransport::new(network, peers), id)
}

impl<N: Network> LedgerTransport for ControlTransport<N> {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let bytes = Bounded::new(request).map_err(|_| TransportError::Protocol)?;
        let message = ControlRequest::Ledger(bytes).encode();
        let first = self.present.load(Ordering::Relaxed);
        let mut last = TransportError::Unreachable;
        for step in 0..self.peers.len() {
            let at = (first + step) % self.peers.len();
            match self.ask(self.peers[at], message.clone()).await {
                Ok(answer) => {
                    self.present.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

const fn transport_error(error: &NetError) -> TransportError {
    match error {
        NetError::UnknownPeer { .. } | NetError::Unreachable { .. } | NetError::Dht { .. } => {
            TransportError::Unreachable
        }
        NetError::Timeout { .. } => TransportError::TimedOut,
        NetError::Disconnected { .. } => TransportError::Disconnected,
        NetError::Protocol { .. } | NetError::TooLarge { .. } => TransportError::Protocol,
        NetError::Closed => TransportError::Closed,
    }
}
