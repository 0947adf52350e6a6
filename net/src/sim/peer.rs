//! One simulated peer: [`Network`] for a machine of a simulated world.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{NodeId, UnixMillis};
use cairn_runtime::{Runtime as _, SimRuntime};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use super::link::Link;
use super::stream::SimStream;
use super::tamper::{Passing, Tamper};
use super::{Shared, SimNet};
use crate::real::RealLimits;
use crate::{CONTROL_BYTES_MAX, DhtMode, InboundRequest, NetError, Network, RecordKey};

/// Requests that wait for whoever answers.
const REQUESTS_QUEUE: usize = 128;
/// Streams that wait to be accepted.
const STREAMS_QUEUE: usize = 64;
/// One-way trips of a DHT query: three hops there and back.
const DHT_TRIPS: u32 = 6;
/// One-way trips until a new stream carries bytes: TCP's handshake and that of TLS 1.3.
const CONNECT_TRIPS: u32 = 4;

/// A peer of a simulated network. Cheap to clone.
#[derive(Clone)]
pub struct SimPeer {
    network: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    _last: Arc<LeaveOnDrop>,
}

/// A peer on its machine.
pub(super) struct Endpoint {
    runtime: SimRuntime,
    node: NodeId,
    mode: DhtMode,
    is_closed: AtomicBool,
    requests: AsyncMutex<mpsc::Receiver<InboundRequest>>,
    streams: AsyncMutex<mpsc::Receiver<(NodeId, SimStream)>>,
    open_requests: Arc<Mutex<Open>>,
    open_streams: Arc<Mutex<Open>>,
}

/// What peers have open at one of them, of one kind.
#[derive(Debug)]
struct Open {
    by_peer: BTreeMap<NodeId, usize>,
    total: usize,
    peer_max: usize,
    total_max: usize,
}

/// Where requests and streams for a peer go.
#[derive(Clone)]
pub(super) struct Inbox {
    requests: mpsc::Sender<InboundRequest>,
    streams: mpsc::Sender<(NodeId, SimStream)>,
}

/// A request's or stream's place in the bounds of the peer that has to deal with it.
pub(super) struct Place {
    open: Arc<Mutex<Open>>,
    peer: NodeId,
}

impl Place {
    /// A place for what `peer` asks; `None` when it or all have too much open.
    fn take(all: &Arc<Mutex<Open>>, peer: NodeId) -> Option<Self> {
        let mut open = all.lock().expect("no panic while counting");
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= open.peer_max || open.total >= open.total_max {
            return None;
        }
        open.by_peer.insert(peer, of_peer + 1);
        open.total += 1;
        drop(open);
        Some(Self {
            open: Arc::clone(all),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().expect("no panic while counting");
        open.total -= 1;
        let left = open.by_peer.get_mut(&self.peer);
        let left = left.expect("a place is counted");
        *left -= 1;
        if *left == 0 {
            open.by_peer.remove(&self.peer);
        }
    }
}

impl Endpoint {
    pub(super) fn new(runtime: SimRuntime, node: NodeId, mode: DhtMode) -> (Self, Inbox) {
        let (request_sender, requests) = mpsc::channel(REQUESTS_QUEUE);
        let (stream_sender, streams) = mpsc::channel(STREAMS_QUEUE);
        let limits = RealLimits::DEFAULT;
        let open = |peer_max, total_max| {
            Arc::new(Mutex::new(Open {
                by_peer: BTreeMap::new(),
                total: 0,
                peer_max,
                total_max,
            }))
        };
        let endpoint = Self {
            runtime,
            node,
            mode,
            is_closed: AtomicBool::new(false),
            requests: AsyncMutex::new(requests),
            streams: AsyncMutex::new(streams),
            open_requests: open(limits.peer_requests_max, limits.requests_max),
            open_streams: open(limits.peer_streams_max, limits.streams_max),
        };
        let inbox = Inbox {
            requests: request_sender,
            streams: stream_sender,
        };
        (endpoint, inbox)
    }

    pub(super) const fn runtime(&self) -> &SimRuntime {
        &self.runtime
    }

    pub(super) const fn node(&self) -> NodeId {
        self.node
    }

    pub(super) const fn mode(&self) -> DhtMode {
        self.mode
    }

    /// Whether it still talks: not shut down, nor its machine down.
    pub(super) fn is_open(&self) -> bool {
        self.runtime.is_up() && !self.is_closed.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Ends an endpoint with the last handle to it.
struct LeaveOnDrop {
    network: Arc<Shared>,
    endpoint: Arc<Endpoint>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.network.leave_if(&self.endpoint);
    }
}

impl SimPeer {
    pub(super) fn new(network: Arc<Shared>, endpoint: Arc<Endpoint>) -> Self {
        let last = LeaveOnDrop {
            network: Arc::clone(&network),
            endpoint: Arc::clone(&endpoint),
        };
        Self {
            network,
            endpoint,
            _last: Arc::new(last),
        }
    }

    /// Its network.
    #[must_use]
    pub fn network(&self) -> SimNet {
        SimNet {
            shared: Arc::clone(&self.network),
        }
    }

    fn node(&self) -> NodeId {
        self.endpoint.node
    }

    fn check_open(&self) -> Result<(), NetError> {
        if self.endpoint.is_open() {
            Ok(())
        } else {
            Err(NetError::Closed)
        }
    }

    /// Lets a message pass from one peer to another; what arrives, or never.
    async fn pass(&self, from: NodeId, to: NodeId, mut bytes: Vec<u8>, kind: Kind) -> Vec<u8> {
        let sim = &self.network.sim;
        sim.note("message", &[], &bytes);
        let (arrival, tamper) = {
            let mut state = self.network.state();
            let arrival = state.send_message(from, to, bytes.len(), sim.elapsed());
            (arrival, state.tamper.clone())
        };
        let tampered = tamper.map_or(Tamper::Pass, |hook| {
            let bytes = &mut bytes;
            hook(&mut match kind {
                Kind::Request => Passing::Request { from, to, bytes },
                Kind::Answer => Passing::Answer { from, to, bytes },
            })
        });
        match (arrival, tampered) {
            (Some(arrival), Tamper::Pass) => sim.sleep_until(arrival).await,
            (None, _) | (_, Tamper::Cut | Tamper::Stall | Tamper::Reset) => {
                std::future::pending::<()>().await;
            }
        }
        bytes
    }

    /// Waits for as many one-way trips to a peer and back; for ever when it is in another part.
    async fn trips(&self, peer: NodeId, count: u32) {
        let link = {
            let state = self.network.state();
            let is_open = state.is_open(self.node(), peer);
            is_open.then(|| state.link_of(self.node(), peer))
        };
        match link {
            Some(Link { latency, .. }) => {
                let wait = latency.saturating_mul(count);
                self.network.sim.sleep(wait).await;
            }
            None => std::future::pending().await,
        }
    }

    /// The peer's end, if it is up.
    fn reach(&self, peer: NodeId) -> Result<(Arc<Endpoint>, Inbox), NetError> {
        let state = self.network.state();
        match state.peers.get(&peer) {
            Some(joined) if joined.endpoint.is_open() => {
                Ok((Arc::clone(&joined.endpoint), joined.inbox.clone()))
            }
            Some(_) | None if state.known.contains(&peer) => Err(NetError::Unreachable {
                peer,
                cause: "connection refused".to_owned(),
            }),
            Some(_) | None => Err(NetError::UnknownPeer { peer }),
        }
    }

    async fn exchange(&self, peer: NodeId, message: Vec<u8>) -> Result<Vec<u8>, NetError> {
        let disconnected = |cause: &str| NetError::Disconnected {
            peer,
            cause: cause.to_owned(),
        };
        let us = self.node();
        if !self.network.state().known.contains(&peer) {
            return Err(NetError::UnknownPeer { peer });
        }
        let message = self.pass(us, peer, message, Kind::Request).await;
        let reached = match self.reach(peer) {
            Ok(reached) => reached,
            Err(refused) => {
                self.trips(peer, 1).await;
                return Err(refused);
            }
        };
        let (endpoint, inbox) = reached;
        let (answer, answered) = oneshot::channel();
        let request = InboundRequest {
            peer: us,
            message,
            answer,
        };
        let place = Place::take(&endpoint.open_requests, us);
        let queued = place.is_some() && inbox.requests.try_send(request).is_ok();
        drop(inbox);
        let result = if queued { answered.await.ok() } else { None };
        drop(place);
        let Some(answer) = result else {
            self.trips(peer, 1).await;
            let cause = if queued {
                "the request was dropped"
            } else {
                "the request was refused"
            };
            return Err(disconnected(cause));
        };
        if !endpoint.is_open() {
            return Err(disconnected("the peer is gone"));
        }
        let answer = self.pass(peer, us, answer, Kind::Answer).await;
        if answer.len() > CONTROL_BYTES_MAX {
            let cause = format!("an answer of {} bytes", answer.len());
            return Err(NetError::Protocol { peer, cause });
        }
        Ok(answer)
    }

    async fn open_stream(&self, peer: NodeId) -> Result<SimStream, NetError> {
        let us = self.node();
        if !self.network.state().known.contains(&peer) {
            return Err(NetError::UnknownPeer { peer });
        }
        if let Err(refused) = self.reach(peer) {
            self.trips(peer, 2).await;
            return Err(refused);
        }
        self.trips(peer, CONNECT_TRIPS).await;
        let (endpoint, inbox) = self.reach(peer)?;
        let refused = |cause: &str| NetError::Unreachable {
            peer,
            cause: cause.to_owned(),
        };
        let Some(place) = Place::take(&endpoint.open_streams, us) else {
            return Err(refused("too many streams are open"));
        };
        let (near, far) = SimStream::pair(&self.network, &self.endpoint, &endpoint, place);
        inbox
            .streams
            .try_send((us, far))
            .map_err(|_| refused("too many streams wait"))?;
        self.network.state().traffic_of(us, peer).streams += 1;
        self.network.sim.note("stream", &[near.number()], &[]);
        Ok(near)
    }
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Answer,
}

impl Network for SimPeer {
    type Stream = SimStream;

    fn local(&self) -> NodeId {
        self.node()
    }

    async fn request(
        &self,
        peer: NodeId,
        message: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, NetError> {
        self.check_open()?;
        if message.len() > CONTROL_BYTES_MAX {
            return Err(NetError::TooLarge {
                max: CONTROL_BYTES_MAX,
                found: message.len(),
            });
        }
        let exchange = self.exchange(peer, message);
        let result = self.endpoint.runtime.timeout(limit, exchange).await;
        self.check_open()?;
        result.unwrap_or(Err(NetError::Timeout { peer, limit }))
    }

    async fn next_request(&self) -> Option<InboundRequest> {
        self.endpoint.requests.lock().await.recv().await
    }

    async fn connect(&self, peer: NodeId, limit: Duration) -> Result<SimStream, NetError> {
        self.check_open()?;
        let opened = self.open_stream(peer);
        let result = self.endpoint.runtime.timeout(limit, opened).await;
        self.check_open()?;
        result.unwrap_or(Err(NetError::Timeout { peer, limit }))
    }

    async fn accept(&self) -> Option<(NodeId, SimStream)> {
        self.endpoint.streams.lock().await.recv().await
    }

    async fn publish(&self, key: RecordKey, value: Vec<u8>) -> Result<(), NetError> {
        self.check_open()?;
        self.trips(self.node(), DHT_TRIPS).await;
        self.network.store(self.node(), key, &value)
    }

    async fn find(&self, key: RecordKey) -> Result<Option<Vec<u8>>, NetError> {
        self.check_open()?;
        self.trips(self.node(), DHT_TRIPS).await;
        let now = UnixMillis::from_unix(self.endpoint.runtime.now());
        Ok(self.network.look_up(self.node(), key, now))
    }

    async fn shutdown(&self) {
        self.network.leave_if(&self.endpoint);
    }
}

impl fmt::Debug for SimPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPeer {}", self.endpoint.node)
    }
}
