//! The real network: libp2p for control messages, the DHT and NAT traversal; direct TLS 1.3 over
//! TCP for shard bytes.
//!
//! One task owns the libp2p swarm (`driver`), one accepts TLS connections (`listener`), one
//! writes what is remembered (`keeper`). They end with [`Network::shutdown`], or when the last
//! handle is dropped. A stream to a peer goes to its data addresses first and over a libp2p
//! connection, hole-punched or relayed, when none of them answers. Addresses come from the
//! configuration, from what peers say of themselves, and from signed node records in the DHT.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cairn_core::{NodeId, NodeRecord, Record, SecretKey, SignatureError, Signed, UnixMillis};
use cairn_runtime::{RealRuntime, Runtime, Task};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::{CONTROL_BYTES_MAX, InboundRequest, NetError, Network, RECORD_BYTES_MAX, RecordKey};

mod behaviour;
mod book;
mod config;
mod control;
mod driver;
mod gate;
mod identity;
mod keeper;
mod listener;
mod records;
mod start;
mod streams;
#[cfg(test)]
mod tests;
mod tls;

use book::Book;
pub use config::{DhtMode, PeerAddress, RealConfig, RealLimits, RelayServer, StartError};
use driver::Command;
pub use gate::{Carrier, RealStream};
pub(crate) use records::check::newer;
use streams::Open;

/// Commands on their way to the swarm's task.
const COMMANDS_MAX: usize = 256;
/// Requests of peers on their way to whoever answers.
const REQUESTS_QUEUE: usize = 128;
/// Longest attempt at one data address, and longest lookup of newer ones: one that swallows packets
/// leaves time for others.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(4);

/// The real network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RealNetwork {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    ends: Arc<Ends>,
}

/// What the tasks and the handles share.
#[derive(Debug)]
struct Shared {
    local: NodeId,
    key: SecretKey,
    runtime: RealRuntime,
    limits: RealLimits,
    serves_dht: bool,
    book: Book,
    tls: tls::Tls,
    data_address: Option<SocketAddr>,
    announce: Vec<Multiaddr>,
    announce_data: Vec<SocketAddr>,
    wants_rewrite: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// What changes. Locked for moments.
#[derive(Debug, Default)]
struct State {
    connected: BTreeSet<NodeId>,
    /// Peers that somebody looks up, and some whose lookup is over.
    lookups: BTreeMap<NodeId, Weak<AsyncMutex<()>>>,
    listen: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
}

/// The receiving ends that callers share, and the tasks.
#[derive(Debug)]
struct Ends {
    requests: AsyncMutex<mpsc::Receiver<InboundRequest>>,
    streams: AsyncMutex<mpsc::Receiver<(NodeId, RealStream)>>,
    tasks: Mutex<Tasks>,
    /// Set before the tasks end, so that the ends do not wait for them.
    closed: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Tasks {
    driver: Option<Task<()>>,
    keeper: Option<Task<()>>,
    listener: Option<Task<()>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole: nothing between its steps panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, peer: &PeerId) {
        if let Some(node) = identity::node_id(peer) {
            self.state().connected.insert(node);
        }
    }

    fn disconnected(&self, peer: &PeerId) {
        if let Some(node) = identity::node_id(peer) {
            self.state().connected.remove(&node);
        }
    }

    fn is_connected(&self, node: NodeId) -> bool {
        self.state().connected.contains(&node)
    }

    /// The turn of a peer's lookups: who wants one that is under way waits for it and uses what it
    /// brought.
    fn lookup_turn(&self, peer: NodeId) -> Arc<AsyncMutex<()>> {
        let mut state = self.state();
        state.lookups.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = state.lookups.get(&peer).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(AsyncMutex::new(()));
        state.lookups.insert(peer, Arc::downgrade(&turn));
        turn
    }

    fn wants_rewrite(&self) -> bool {
        self.wants_rewrite.swap(false, Ordering::Relaxed)
    }

    /// Takes new addresses; whether the published ones change.
    fn set_addresses(&self, mut listen: Vec<Multiaddr>, mut external: Vec<Multiaddr>) -> bool {
        listen.sort();
        external.sort();
        let mut state = self.state();
        let changed = state.listen != listen || state.external != external;
        state.listen = listen;
        state.external = external;
        changed
    }

    /// Addresses of our control plane as others should use them.
    fn control_addresses(&self) -> Vec<Multiaddr> {
        if !self.announce.is_empty() {
            return self.announce.clone();
        }
        let state = self.state();
        if state.external.is_empty() {
            state.listen.clone()
        } else {
            state.external.clone()
        }
    }

    /// Addresses of our data plane as others should use them: those announced; or the one that we
    /// listen on; or when that is "any", its port on every address of the control plane.
    fn data_addresses(&self) -> Vec<SocketAddr> {
        if !self.announce_data.is_empty() {
            return self.announce_data.clone();
        }
        let Some(data) = self.data_address else {
            return Vec::new();
        };
        if !data.ip().is_unspecified() {
            return vec![data];
        }
        let control = self.control_addresses();
        let ips: BTreeSet<_> = control.iter().filter_map(start::direct_ip).collect();
        ips.into_iter()
            .map(|ip| SocketAddr::new(ip, data.port()))
            .collect()
    }

    /// Our node record as of now.
    fn node_record(&self) -> Signed<NodeRecord> {
        let record = NodeRecord {
            node: self.local,
            made_at: UnixMillis::from_unix(self.runtime.now()),
            control: book::record_texts(&self.control_addresses()),
            data: book::record_texts(&self.data_addresses()),
        };
        Signed::sign(record, &self.key)
    }

    /// Our node record for the DHT; `None` when we do not serve or have no address yet.
    fn fresh_record(&self) -> Option<(RecordKey, Vec<u8>)> {
        let record = self.node_record();
        let addresses = record.unverified();
        let reachable = !addresses.control.is_empty() || !addresses.data.is_empty();
        (self.serves_dht && reachable).then(|| (RecordKey::Node(self.local), record.encode()))
    }
}

impl RealNetwork {
    /// Our node record as of now, for telling others where we answer without the DHT.
    #[must_use]
    pub fn record(&self) -> Signed<NodeRecord> {
        self.shared.node_record()
    }

    /// Where our direct data plane listens.
    #[must_use]
    pub fn data_address(&self) -> Option<SocketAddr> {
        self.shared.data_address
    }

    /// Multiaddresses that the control plane listens on, once the system has bound them.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<String> {
        let state = self.shared.state();
        state.listen.iter().map(ToString::to_string).collect()
    }

    /// Peers with a libp2p connection, rising.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        self.shared.state().connected.iter().copied().collect()
    }

    /// Takes a peer's node record, as from the DHT.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it is not signed by its node.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the DHT may or may not have learned of the peer.
    pub async fn add_peer(&self, record: Signed<NodeRecord>) -> Result<(), SignatureError> {
        let peer = record.unverified().node;
        record.verify_by(peer.key())?;
        self.shared.book.add_record(record);
        // After shutdown there is nobody to tell.
        let _told = self.commands.send(Command::Known { peer }).await;
        Ok(())
    }

    /// Takes an address of a peer's control plane.
    ///
    /// # Errors
    ///
    /// [`StartError::Address`] when it is no multiaddress.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the DHT may or may not have learned of the peer.
    pub async fn add_address(&self, peer: &PeerAddress) -> Result<(), StartError> {
        let address = start::resolve(&peer.address).await?;
        self.shared.book.add_address(peer.node, address);
        // After shutdown there is nobody to tell.
        let _told = self.commands.send(Command::Known { peer: peer.node }).await;
        Ok(())
    }

    /// Sends a command to the swarm's task and waits for its answer.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, NetError>>) -> Command,
    ) -> Result<T, NetError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(command(answer)).await;
        sent.map_err(|_| NetError::Closed)?;
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(NetError::Closed),
        }
    }

    /// Looks the peer up in the DHT; whether that told anything new.
    async fn look_up(&self, peer: NodeId) -> bool {
        let found = self.find(RecordKey::Node(peer)).await;
        let Ok(Some(value)) = found else {
            return false;
        };
        // `find` has checked it.
        let Ok(record) = Signed::<NodeRecord>::decode(&value) else {
            return false;
        };
        self.shared.book.add_record(record)
    }

    /// Looks the peer up in the DHT, unless that was done a moment ago; whether that told anything
    /// new. Waits for a lookup that is under way.
    async fn refresh(&self, peer: NodeId) -> bool {
        let turn = self.shared.lookup_turn(peer);
        let _turn = turn.lock().await;
        let runtime = &self.shared.runtime;
        let may = self.shared.book.may_look_up(peer, runtime.monotonic());
        may && runtime
            .timeout(ATTEMPT_TIME_MAX, self.look_up(peer))
            .await
            .unwrap_or(false)
    }

    /// Makes sure that there is a way to try.
    async fn locate(&self, peer: NodeId) -> Result<(), NetError> {
        let knows = || self.shared.book.knows(peer) || self.shared.is_connected(peer);
        // A search that finds no record may still have met the peer itself on its way.
        if knows() || self.look_up(peer).await || knows() {
            Ok(())
        } else {
            Err(NetError::UnknownPeer { peer })
        }
    }

    async fn try_request(&self, peer: NodeId, message: &[u8]) -> Result<Vec<u8>, NetError> {
        let message = message.to_vec();
        self.ask(|answer| Command::Request {
            peer,
            message,
            answer,
        })
        .await
    }

    /// Tries the data addresses, then libp2p.
    async fn try_connect(&self, peer: NodeId) -> Result<RealStream, NetError> {
        if !self.shared.book.has_record(peer) {
            // Without one the data address is unknown, and libp2p serves.
            self.refresh(peer).await;
        }
        let mut causes = Vec::new();
        for address in self.shared.book.data(peer) {
            let attempt = self.shared.tls.connect(peer, address);
            let done = self.shared.runtime.timeout(ATTEMPT_TIME_MAX, attempt).await;
            match done {
                Ok(Ok(stream)) => return Ok(RealStream::tls(stream, None)),
                Ok(Err(error)) => causes.push(format!("{address}: {error}")),
                Err(elapsed) => causes.push(format!("{address}: {elapsed}")),
            }
        }
        let peer_id = identity::peer_id(peer).ok_or(NetError::UnknownPeer { peer })?;
        let open = |answer| Command::Open {
            peer: peer_id,
            open: Open { node: peer, answer },
        };
        match self.ask(open).await {
            Ok(stream) => Ok(stream),
            Err(NetError::Unreachable { peer, cause }) => {
                causes.push(cause);
                let cause = causes.join("; ");
                Err(NetError::Unreachable { peer, cause })
            }
            Err(other) => Err(other),
        }
    }

    /// Runs an attempt; when no address answers, asks the DHT for newer ones and tries once more.
    async fn with_lookup<T, F>(
        &self,
        peer: NodeId,
        limit: Duration,
        attempt: impl Fn() -> F + Send + Sync,
    ) -> Result<T, NetError>
    where
        T: Send,
        F: Future<Output = Result<T, NetError>> + Send,
    {
        let whole = async {
            self.locate(peer).await?;
            match attempt().await {
                Err(NetError::Unreachable { .. }) if self.refresh(peer).await => attempt().await,
                done => done,
            }
        };
        match self.shared.runtime.timeout(limit, whole).await {
            Ok(done) => done,
            Err(_) => Err(NetError::Timeout { peer, limit }),
        }
    }

    fn tasks(&self) -> Tasks {
        let mut tasks = self
            .ends
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *tasks)
    }
}

/// Waits for the next item, until the network is closed.
async fn next<T>(
    queue: &AsyncMutex<mpsc::Receiver<T>>,
    closed: &tokio::sync::watch::Sender<bool>,
) -> Option<T> {
    let mut closing = closed.subscribe();
    tokio::select! {
        biased;
        _ = closing.wait_for(|closed| *closed) => None,
        item = async { queue.lock().await.recv().await } => item,
    }
}

impl Network for RealNetwork {
    type Stream = RealStream;

    fn local(&self) -> NodeId {
        self.shared.local
    }

    async fn request(
        &self,
        peer: NodeId,
        message: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, NetError> {
        if message.len() > CONTROL_BYTES_MAX {
            return Err(NetError::TooLarge {
                max: CONTROL_BYTES_MAX,
                found: message.len(),
            });
        }
        self.with_lookup(peer, limit, || self.try_request(peer, &message))
            .await
    }

    async fn next_request(&self) -> Option<InboundRequest> {
        next(&self.ends.requests, &self.ends.closed).await
    }

    async fn connect(&self, peer: NodeId, limit: Duration) -> Result<RealStream, NetError> {
        self.with_lookup(peer, limit, || self.try_connect(peer))
            .await
    }

    async fn accept(&self) -> Option<(NodeId, RealStream)> {
        next(&self.ends.streams, &self.ends.closed).await
    }

    async fn publish(&self, key: RecordKey, value: Vec<u8>) -> Result<(), NetError> {
        if value.len() > RECORD_BYTES_MAX {
            return Err(NetError::TooLarge {
                max: RECORD_BYTES_MAX,
                found: value.len(),
            });
        }
        let key = key.digest();
        self.ask(|answer| Command::Publish { key, value, answer })
            .await
    }

    async fn find(&self, key: RecordKey) -> Result<Option<Vec<u8>>, NetError> {
        let key = key.digest();
        self.ask(|answer| Command::Find { key, answer }).await
    }

    async fn shutdown(&self) {
        self.ends.closed.send_replace(true);
        // When the task has ended already there is nobody to tell.
        let _told = self.commands.send(Command::Shutdown).await;
        let Tasks {
            driver,
            keeper,
            listener,
        } = self.tasks();
        if let Some(listener) = &listener {
            listener.abort();
        }
        // The listener has its port until it has ended.
        for task in [listener, driver, keeper].into_iter().flatten() {
            // Aborted, here or by a runtime that is shutting down itself: ended as well.
            let _ended = task.join().await;
        }
    }
}
