//! The ledger over the control plane: a thin adapter, since `ledger` knows no network.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Bounded, NodeId, Record};
use cairn_ledger::port::TransportError;
use cairn_ledger::remote::LedgerTransport;
use cairn_net::{NetError, Network};

/// A request to the ledger is given up after this: the longest poll for effects and some.
pub const LEDGER_LIMIT: Duration = Duration::from_secs(60);

/// Carries ledger requests to the peers that serve the ledger, each in its turn until one answers.
#[derive(Clone, Debug)]
pub struct NetLedger<N> {
    network: N,
    peers: Arc<[NodeId]>,
    /// The peer that answered last.
    present: Arc<AtomicUsize>,
}

impl<N: Network> NetLedger<N> {
    /// To the ledger that each of `peers` serves, the first first.
    #[must_use]
    pub fn new(network: N, peers: &[NodeId]) -> Self {
        Self {
            network,
            peers: peers.into(),
            present: Arc::default(),
        }
    }

    async fn ask(&self, peer: NodeId, message: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let answer = self.network.request(peer, message, LEDGER_LIMIT).await;
        let answer = answer.map_err(|error| transport_error(&error))?;
        match ControlResponse::decode(&answer) {
            Ok(ControlResponse::Ledger(answer)) => Ok(answer.into_vec()),
            Ok(ControlResponse::Error { code, .. }) => Err(TransportError::Refused(code)),
            Ok(ControlResponse::Slot(_) | ControlResponse::Detail(_)) | Err(_) => {
                Err(TransportError::Protocol)
            }
        }
    }
}

impl<N: Network> LedgerTransport for NetLedger<N> {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let request = Bounded::new(request).map_err(|_| TransportError::Protocol)?;
        let message = ControlRequest::Ledger(request).encode();
        let first = self.present.load(Ordering::Relaxed);
        let mut last = TransportError::Unreachable;
        for at in (0..self.peers.len())
            .cycle()
            .skip(first)
            .take(self.peers.len())
        {
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
        NetError::UnknownPeer { .. } | NetError::Unreachable { .. } => TransportError::Unreachable,
        NetError::Timeout { .. } => TransportError::TimedOut,
        NetError::Disconnected { .. } | NetError::Dht { .. } => TransportError::Disconnected,
        NetError::Protocol { .. } | NetError::TooLarge { .. } => TransportError::Protocol,
        NetError::Closed => TransportError::Closed,
    }
}
