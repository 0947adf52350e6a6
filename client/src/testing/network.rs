//! A network in memory: control messages through channels, streams through pipes that are counted.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cairn_core::NodeId;
use cairn_net::{InboundRequest, NetError, Network, RecordKey};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
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
    traffic: Traffic,
}

/// What went through a hub, as those saw it who asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Streams opened.
    pub(crate) streams: u64,
    /// Bytes that came on them.
    pub(crate) received: u64,
    /// Shard ranges asked for.
    pub(crate) gets: u64,
    /// Control messages asked.
    pub(crate) control_requests: u64,
}

impl Traffic {
    /// What came since `before`.
    pub(crate) const fn since(&self, before: &Self) -> Self {
        Self {
            streams: self.streams - before.streams,
            received: self.received - before.received,
            gets: self.gets - before.gets,
            control_requests: self.control_requests - before.control_requests,
        }
    }
}

/// One end of a stream.
#[derive(Debug)]
pub(crate) struct Counted {
    pipe: DuplexStream,
    /// Told of what the opening end receives.
    hub: Option<Hub>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(context, into))?;
        if let Some(hub) = &self.hub {
            let count = u64::try_from(into.filled().len() - before).unwrap();
            hub.lock().traffic.received += count;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

#[derive(Clone, Debug)]
struct Inbox {
    requests: mpsc::Sender<InboundRequest>,
    streams: mpsc::Sender<(NodeId, Counted)>,
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

    /// What went through it so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    /// A range was asked for.
    pub(crate) fn count_get(&self) {
        self.lock().traffic.gets += 1;
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
    streams: Arc<tokio::sync::Mutex<mpsc::Receiver<(NodeId, Counted)>>>,
}

impl Network for MemoryNetwork {
    type Stream = Counted;

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
        self.hub.lock().traffic.control_requests += 1;
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

    async fn connect(&self, peer: NodeId, _limit: Duration) -> Result<Counted, NetError> {
        let inbox = self.hub.inbox(peer)?;
        self.hub.lock().traffic.streams += 1;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let theirs = Counted {
            pipe: theirs,
            hub: None,
        };
        let sent = inbox.streams.send((self.local, theirs)).await;
        sent.map_err(|_| NetError::Unreachable {
            peer,
            cause: "it left".to_owned(),
        })?;
        Ok(Counted {
            pipe: ours,
            hub: Some(self.hub.clone()),
        })
    }

    async fn accept(&self) -> Option<(NodeId, Counted)> {
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
