//! The ledger over the control plane: a thin adapter, since `ledger` knows no network.

use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Bounded, NodeId, Record};
use cairn_ledger::port::TransportError;
use cairn_ledger::remote::LedgerTransport;
use cairn_net::{NetError, Network};

/// A request to the ledger is given up after this: the longest poll for effects and some.
pub const LEDGER_LIMIT: Duration = Duration::from_secs(60);

/// Carries ledger requests to the peer that serves the ledger.
#[derive(Clone, Debug)]
pub struct NetLedger<N> {
    network: N,
    peer: NodeId,
}

impl<N: Network> NetLedger<N> {
    /// To the ledger that `peer` serves.
    #[must_use]
    pub const fn new(network: N, peer: NodeId) -> Self {
        Self { network, peer }
    }
}

impl<N: Network> LedgerTransport for NetLedger<N> {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let request = Bounded::new(request).map_err(|_| TransportError::Protocol)?;
        let message = ControlRequest::Ledger(request).encode();
        let answer = self.network.request(self.peer, message, LEDGER_LIMIT).await;
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

const fn transport_error(error: &NetError) -> TransportError {
    match error {
        NetError::UnknownPeer { .. } | NetError::Unreachable { .. } => TransportError::Unreachable,
        NetError::Timeout { .. } => TransportError::TimedOut,
        NetError::Disconnected { .. } | NetError::Dht { .. } => TransportError::Disconnected,
        NetError::Protocol { .. } | NetError::TooLarge { .. } => TransportError::Protocol,
        NetError::Closed => TransportError::Closed,
    }
}
