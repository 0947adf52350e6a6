//! A network in memory: control messages through channels, streams through pipes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_core::NodeId;
use cairn_net::{InboundRequest, NetError, Network, RecordKey};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};

/// Bytes in flight in each direction of a stream.
const PIPE_BYTES: usize = 256 << 10;

/// What all peers share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hub {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    peers: BTreeMap<NodeId, Inbox>,
    down: Vec<NodeId>,
    records: BTreeMap<RecordKey, Vec<u8>>,
    /// Streams opened in all.
    connect_count: usize,
}

#[derive(Clone, Debug)]
struct Inbox {
    requests: mpsc::Sender<InboundRequest>,
    streams: mpsc::Sender<(NodeId, DuplexStream)>,
}

impl Hub {
    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer's way to the others.
    pub(crate) fn join(&self, local: NodeId) -> MemoryNetwork {
        let (requests, requests_in) = mpsc::channel(64);
        let (streams, streams_in) = mpsc::channel(64);
        self.lock().peers.insert(local, Inbox { requests, streams });
        MemoryNetwork {
            hub: self.clone(),
            local,
            requests: Arc::new(tokio::sync::Mutex::new(requests_in)),
            streams: Arc::new(tokio::sync::Mutex::new(streams_in)),
        }
    }

    /// Makes a peer unreachable.
    pub(crate) fn take_down(&self, peer: NodeId) {
        self.lock().down.push(peer);
    }

    /// Makes a peer reachable again.
    pub(crate) fn bring_up(&self, peer: NodeId) {
        self.lock().down.retain(|down| *down != peer);
    }

    pub(crate) fn connect_count(&self) -> usize {
        self.lock().connect_count
    }

    fn inbox(&self, peer: NodeId) -> Result<Inbox, NetError> {
        let shared = self.lock();
        if shared.down.contains(&peer) {
            return Err(NetError::Unreachable {
                peer,
                cause: "it is down".to_owned(),
            });
        }
        let inbox = shared.peers.get(&peer).cloned();
        inbox.ok_or(NetError::UnknownPeer { peer })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MemoryNetwork {
    hub: Hub,
    local: NodeId,
    requests: Arc<tokio::sync::Mutex<mpsc::Receiver<InboundRequest>>>,
    streams: Arc<tokio::sync::Mutex<mpsc::Receiver<(NodeId, DuplexStream)>>>,
}

impl Network for MemoryNetwork {
    type Stream = DuplexStream;

    fn local(&self) -> NodeId {
        self.local
    }

    async fn request(
        &self,
        peer: NodeId,
        message: Vec<u8>,
        _limit: Duration,
    ) -> Result<Vec<u8>, NetError> {
        let inbox = self.hub.inbox(peer)?;
        let (answer, answered) = oneshot::channel();
        let request = InboundRequest {
            peer: self.local,
            message,
            answer,
        };
        let gone = || NetError::Disconnected {
            peer,
            cause: "it left".to_owned(),
        };
        inbox.requests.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }

    async fn next_request(&self) -> Option<InboundRequest> {
        self.requests.lock().await.recv().await
    }

    async fn connect(&self, peer: NodeId, _limit: Duration) -> Result<DuplexStream, NetError> {
        let inbox = self.hub.inbox(peer)?;
        self.hub.lock().connect_count += 1;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let sent = inbox.streams.send((self.local, theirs)).await;
        sent.map_err(|_| NetError::Unreachable {
            peer,
            cause: "it left".to_owned(),
        })?;
        Ok(ours)
    }

    async fn accept(&self) -> Option<(NodeId, DuplexStream)> {
        self.streams.lock().await.recv().await
    }

    async fn publish(&self, key: RecordKey, value: Vec<u8>) -> Result<(), NetError> {
        self.hub.lock().records.insert(key, value);
        Ok(())
    }

    async fn find(&self, key: RecordKey) -> Result<Option<Vec<u8>>, NetError> {
        Ok(self.hub.lock().records.get(&key).cloned())
    }

    async fn shutdown(&self) {
        self.hub.lock().peers.remove(&self.local);
    }
}
