//! Answers for a ledger as a peer of the network, one that others join through.

use std::fmt;
use std::future::Future;

use cairn_consensus::{POLLS_MAX, SUBMISSIONS_MAX, Sequencer};
use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Bounded, ErrorCode, LedgerId, NodeId, Profile, Record, Text};
use cairn_ledger::LedgerKey;
use cairn_net::{
    DhtMode, InboundRequest, LedgerPeers, Network, PeerAddress, RealConfig, RealNetwork,
};
use cairn_runtime::real::RealRuntime;
use cairn_runtime::{Runtime, Task};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::app::App;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::network_file::NetworkFile;
use crate::node;

/// Most requests being answered at once: all that may wait for a block or a transaction, and as many
/// again as are answered at once. More wait in the network's own bounded queue.
const ANSWERS_MAX: usize = POLLS_MAX + SUBMISSIONS_MAX + 512;

/// Whoever answers encoded requests to a ledger.
pub(crate) trait Answering: Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, peer: NodeId, request: &[u8]) -> impl Future<Output = Vec<u8>> + Send;
}

impl Answering for Sequencer<RealRuntime> {
    fn answer(&self, peer: NodeId, request: &[u8]) -> impl Future<Output = Vec<u8>> + Send {
        Self::answer(self, peer, request)
    }
}

/// The running peer.
pub(crate) struct LedgerPeer {
    net: RealNetwork,
    _serving: Task<()>,
}

impl fmt::Debug for LedgerPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerPeer")
            .field("node", &self.net.local())
            .finish_non_exhaustive()
    }
}

impl LedgerPeer {
    /// Answers for `ledger` at the multiaddresses of `listen`, or on a free port of the loopback
    /// interface when there are none, with the peer's key and files in `home`. Joins others through
    /// `bootstrap`.
    ///
    /// # Errors
    ///
    /// Of kind network when no port can be listened on.
    pub(crate) async fn start<L: Answering>(
        app: &App,
        home: &node::Folder,
        listen: &[String],
        bootstrap: Vec<PeerAddress>,
        ledger: L,
    ) -> Result<Self, Failure> {
        let key = node::node_key(app, home)?;
        let mut config = RealConfig::loopback(key, DhtMode::Server);
        if !listen.is_empty() {
            config.listen = listen.to_vec();
        }
        config.bootstrap = bootstrap;
        config.state_dir = Some(home.net());
        let net = RealNetwork::start(config, app.runtime.clone())
            .await
            .or_fail(FailureKind::Network, "the ledger can't join the network")?;
        let serving = app
            .runtime
            .spawn("ledger answers", serve(net.clone(), ledger));
        Ok(Self {
            net,
            _serving: serving,
        })
    }

    /// How to reach the network of a ledger through this peer, with the key by which its answers are
    /// checked.
    pub(crate) fn network(
        &self,
        (ledger, ledger_key): (LedgerId, LedgerKey),
        profile: Profile,
    ) -> NetworkFile {
        let node = self.net.local();
        let addresses = self.net.listen_addresses().into_iter();
        NetworkFile {
            ledger_peers: vec![node],
            ledger,
            ledger_key,
            profile,
            bootstrap: addresses
                .map(|address| PeerAddress { node, address })
                .collect(),
        }
    }

    /// The way to others who answer for the ledger.
    pub(crate) fn way_to(&self, others: &[NodeId]) -> LedgerPeers<RealNetwork> {
        LedgerPeers::new(self.net.clone(), others)
    }

    /// Leaves the network.
    pub(crate) async fn shutdown(&self) {
        self.net.shutdown().await;
    }
}

/// Answers for the ledger until the network is shut down.
async fn serve<L: Answering>(net: RealNetwork, ledger: L) {
    let mut answering = FuturesUnordered::new();
    loop {
        tokio::select! {
            request = net.next_request(), if answering.len() < ANSWERS_MAX => {
                let Some(request) = request else {
                    return;
                };
                answering.push(answer(&ledger, request));
            }
            Some(()) = answering.next(), if !answering.is_empty() => {}
        }
    }
}

async fn answer<L: Answering>(ledger: &L, request: InboundRequest) {
    let response = match ControlRequest::decode(&request.message) {
        Ok(ControlRequest::Ledger(message)) => {
            match Bounded::new(ledger.answer(request.peer, &message).await) {
                Ok(answer) => ControlResponse::Ledger(answer),
                Err(_) => error(ErrorCode::Internal),
            }
        }
        Ok(
            ControlRequest::Revise { .. }
            | ControlRequest::Detail { .. }
            | ControlRequest::Slot { .. },
        ) => error(ErrorCode::NotMySlot),
        Err(_) => error(ErrorCode::Malformed),
    };
    // Whoever asked may have left.
    request.answer.send(response.encode()).ok();
}

fn error(code: ErrorCode) -> ControlResponse {
    ControlResponse::Error {
        code,
        text: Text::cut(code.text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_fits_an_answer() {
        for code in ErrorCode::ALL {
            let encoded = error(*code).encode();
            assert_eq!(ControlResponse::decode(&encoded), Ok(error(*code)));
        }
    }
}
