//! The way to a ledger over control messages: through the peers that answer for it, one after the
//! other until one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Bounded, LedgerTransport, NodeId, Record, TransportError};

use crate::{NetError, Network};

/// Longest wait for an answer: finality takes a second or so, and a poll for effects some more.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Carries requests to peers that answer for a ledger. A clone asks the same one first.
#[derive(Clone, Debug)]
pub struct LedgerPeers<N> {
    network: N,
    peers: Arc<[NodeId]>,
    /// The peer that is asked first: the one that answered last.
    present: Arc<AtomicUsize>,
}

impl<N: Network> LedgerPeers<N> {
    /// The way through `peers`, the first first.
    #[must_use]
    pub fn new(network: N, peers: &[NodeId]) -> Self {
        Self {
            network,
            peers: peers.into(),
            present: Arc::default(),
        }
    }

    async fn ask(&self, peer: NodeId, message: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let answer = self.network.request(peer, message, ANSWER_LIMIT).await;
        let answer = answer.map_err(|error| transport_error(&error))?;
        match ControlResponse::decode(&answer) {
            Ok(ControlResponse::Ledger(bytes)) => Ok(bytes.into_vec()),
            Ok(ControlResponse::Error { code, .. }) => Err(TransportError::Refused(code)),
            Ok(ControlResponse::Slot(_) | ControlResponse::Detail(_)) | Err(_) => {
                Err(TransportError::Protocol)
            }
        }
    }
}

impl<N: Network> LedgerTransport for LedgerPeers<N> {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let request = Bounded::new(request).map_err(|_| TransportError::Protocol)?;
        let message = ControlRequest::Ledger(request).encode();
        let first = self.present.load(Ordering::Relaxed);
        let mut last = TransportError::Unreachable;
        let peers = self.peers.iter().enumerate().cycle();
        for (at, peer) in peers.skip(first).take(self.peers.len()) {
            match self.ask(*peer, message.clone()).await {
                Ok(answer) => {
                    self.present.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn end_count(&self) -> usize {
        self.peers.len()
    }

    fn turn_away(&self) {
        let count = self.peers.len();
        let next = |at: usize| at.checked_add(1).filter(|next| *next < count).or(Some(0));
        let order = Ordering::Relaxed;
        // It always gives one.
        self.present.fetch_update(order, order, next).ok();
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
