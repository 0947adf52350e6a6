//! The one task that owns the libp2p swarm.
//!
//! Callers send it [`Command`]s through a bounded queue and wait for the answer on a channel of
//! their own; what peers send goes out through bounded queues as well, and is refused when they
//! are full. The task ends when it is told to, or when the last handle is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::{Digest, NodeId};
use cairn_runtime::{RealRuntime, Runtime};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::kad::{self, ProgressStep, QueryId};
use libp2p::request_response::{
    self, InboundFailure, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, identify};
use tokio::sync::{mpsc, oneshot};

use super::behaviour::{Behaviour, BehaviourEvent, CONTROL_TIME_MAX, DHT_PROTOCOL};
use super::control::Request;
use super::keeper::Save;
use super::records::check::{is_valid, newer};
use super::records::{self, Origin};
use super::streams::Open;
use super::{Shared, identity};
use crate::{InboundRequest, NetError};

mod publish;
mod relays;

use publish::Publisher;
pub(super) use relays::Relay;

/// How often the task looks at what is due.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at what must be saved or has expired.
const SAVE_TICKS: u64 = 10;
/// Ticks between two looks at our reservations.
const RELAY_TICKS: u64 = 2;
/// Requests of ours that wait for their answer.
const OUTBOUND_MAX: usize = 1_024;
/// DHT queries of ours under way.
const QUERIES_MAX: usize = 256;
/// Valid records after which a search ends: three of the nodes nearest to the key.
const FOUND_ENOUGH: usize = 3;
/// A search that has found a valid record ends after so much longer: the peers that have not
/// answered yet may never do.
const FOUND_TIME_MAX: Duration = Duration::from_secs(2);
/// Addresses that a peer may tell us of itself.
const TOLD_ADDRESSES_MAX: usize = 8;

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Send a control message.
    Request {
        peer: NodeId,
        message: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>, NetError>>,
    },
    /// Open a data stream over libp2p.
    Open { peer: PeerId, open: Open },
    /// Publish a record.
    Publish {
        key: Digest,
        value: Vec<u8>,
        answer: oneshot::Sender<Result<(), NetError>>,
    },
    /// Look a record up.
    Find {
        key: Digest,
        answer: oneshot::Sender<Result<Option<Vec<u8>>, NetError>>,
    },
    /// A peer's addresses are in the book: let the DHT know.
    Known { peer: NodeId },
    /// Save and end.
    Shutdown,
}

/// A search under way.
struct Find {
    key: Digest,
    best: Option<Vec<u8>>,
    found: usize,
    /// When the first valid record came, by the monotonic clock.
    found_at: Option<Duration>,
    answer: oneshot::Sender<Result<Option<Vec<u8>>, NetError>>,
}

/// A request of ours under way: to whom, and who waits.
type Asked = (NodeId, oneshot::Sender<Result<Vec<u8>, NetError>>);
/// A peer's request with our answer.
type Answered = (ResponseChannel<Vec<u8>>, Option<Vec<u8>>);

/// The task's state.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) requests: mpsc::Sender<InboundRequest>,
    pub(super) saves: Option<mpsc::Sender<Save>>,
    pub(super) bootstrap: Vec<(PeerId, Multiaddr)>,
    pub(super) relays: Vec<Relay>,
    state: State,
}

struct State {
    requests: HashMap<OutboundRequestId, Asked>,
    answers: FuturesUnordered<BoxFuture<'static, Answered>>,
    finds: HashMap<QueryId, Find>,
    publisher: Publisher,
    ticks: u64,
}

impl Driver {
    /// With a built swarm, before it runs.
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        queues: (mpsc::Receiver<Command>, mpsc::Sender<InboundRequest>),
        saves: Option<mpsc::Sender<Save>>,
    ) -> Self {
        let (commands, requests) = queues;
        Self {
            swarm,
            shared,
            commands,
            requests,
            saves,
            bootstrap: Vec::new(),
            relays: Vec::new(),
            state: State {
                requests: HashMap::new(),
                answers: FuturesUnordered::new(),
                finds: HashMap::new(),
                publisher: Publisher::default(),
                ticks: 0,
            },
        }
    }

    fn runtime(&self) -> &RealRuntime {
        &self.shared.runtime
    }

    /// Runs until shutdown.
    pub(super) async fn run(mut self) {
        self.join();
        let runtime = self.shared.runtime.clone();
        let mut tick = Box::pin(runtime.sleep(TICK));
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.on_command(command),
                },
                Some((channel, answer)) = self.state.answers.next() => {
                    self.on_answered(channel, answer);
                }
                () = &mut tick => {
                    self.on_tick();
                    tick = Box::pin(runtime.sleep(TICK));
                }
            }
        }
        self.save_last().await;
    }

    /// Tells the DHT whom we know, and dials whom we were told to join through.
    fn join(&mut self) {
        for (node, addresses) in self.shared.book.peers() {
            let Some(peer) = identity::peer_id(node) else {
                continue;
            };
            for address in addresses {
                self.swarm.behaviour_mut().dht.add_address(&peer, address);
            }
        }
        let ours = self.swarm.behaviour_mut().dht.store_mut().ours();
        let now = self.runtime().monotonic();
        self.state.publisher.resume(ours, now);
        for peer in self.swarm.connected_peers() {
            self.shared.connected(peer);
        }
        self.state.publisher.our_record_changed(now);
        self.dial_bootstrap();
        self.publish_due();
    }

    fn dial_bootstrap(&mut self) {
        for (peer, address) in self.bootstrap.clone() {
            self.swarm.behaviour_mut().dht.add_address(&peer, address);
            if let Err(error) = self.swarm.dial(peer) {
                tracing::debug!(%peer, %error, "not dialled");
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Request {
                peer,
                message,
                answer,
            } => self.request(peer, message, answer),
            Command::Open { peer, open } => self.swarm.behaviour_mut().streams.open(peer, open),
            Command::Publish { key, value, answer } => self.publish(key, value, Some(answer)),
            Command::Find { key, answer } => self.find(key, answer),
            Command::Known { peer } => self.learn(peer),
            Command::Shutdown => {}
        }
    }

    fn learn(&mut self, node: NodeId) {
        let Some(peer) = identity::peer_id(node) else {
            return;
        };
        for address in self.shared.book.control(node) {
            self.swarm.behaviour_mut().dht.add_address(&peer, address);
        }
    }

    fn request(
        &mut self,
        node: NodeId,
        message: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>, NetError>>,
    ) {
        let refusal = if self.state.requests.len() >= OUTBOUND_MAX {
            Some(format!("{OUTBOUND_MAX} requests are under way"))
        } else {
            None
        };
        match (identity::peer_id(node), refusal) {
            (Some(peer), None) => {
                let control = &mut self.swarm.behaviour_mut().control;
                let memory = None;
                let id = control.send_request(&peer, Request { message, memory });
                self.state.requests.insert(id, (node, answer));
            }
            (None, _) => give(answer, Err(NetError::UnknownPeer { peer: node })),
            (_, Some(cause)) => give(answer, Err(NetError::Unreachable { peer: node, cause })),
        }
    }

    fn find(&mut self, key: Digest, answer: oneshot::Sender<Result<Option<Vec<u8>>, NetError>>) {
        if self.state.finds.len() >= QUERIES_MAX {
            let cause = format!("{QUERIES_MAX} searches are under way");
            give(answer, Err(NetError::Dht { cause }));
            return;
        }
        let dht = &mut self.swarm.behaviour_mut().dht;
        let id = dht.get_record(records::kad_key(key));
        let find = Find {
            key,
            best: None,
            found: 0,
            found_at: None,
            answer,
        };
        self.state.finds.insert(id, find);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => {
                self.update_addresses();
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.shared.connected(&peer_id);
                self.reserve_at_relays();
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => self.shared.disconnected(&peer_id),
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.on_listener_closed(listener_id);
                self.update_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed");
            }
            _ => {}
        }
    }

    /// Takes the addresses that we listen on into the record that we publish.
    fn update_addresses(&mut self) {
        let listen = self.swarm.listeners().cloned().collect();
        let external = self.swarm.external_addresses().cloned().collect();
        if self.shared.set_addresses(listen, external) {
            let now = self.runtime().monotonic();
            self.state.publisher.our_record_changed(now);
            // At once, so that whoever reaches us finds it here before anyone else has taken it.
            self.publish_due();
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(&peer_id, &info);
            }
            BehaviourEvent::Ping(event) => {
                if let Err(error) = event.result {
                    tracing::debug!(peer = %event.peer, %error, "does not answer a ping");
                    self.swarm.close_connection(event.connection);
                }
            }
            BehaviourEvent::Dht(event) => self.on_dht_event(event),
            BehaviourEvent::Control(event) => self.on_control_event(event),
            BehaviourEvent::RelayClient(event) => tracing::debug!(?event, "relay"),
            BehaviourEvent::Dcutr(event) => tracing::debug!(?event, "hole punching"),
            _ => {}
        }
    }

    fn on_identified(&mut self, peer: &PeerId, info: &identify::Info) {
        let Some(node) = identity::node_id(peer) else {
            return;
        };
        if !info.protocols.contains(&DHT_PROTOCOL) {
            return;
        }
        for address in info.listen_addrs.iter().take(TOLD_ADDRESSES_MAX) {
            self.shared.book.add_address(node, address.clone());
            let dht = &mut self.swarm.behaviour_mut().dht;
            dht.add_address(peer, address.clone());
        }
    }

    fn on_dht_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request:
                    kad::InboundRequest::PutRecord {
                        record: Some(record),
                        source,
                        ..
                    },
            } => {
                let Some(key) = records::digest(&record.key) else {
                    return;
                };
                let store = self.swarm.behaviour_mut().dht.store_mut();
                if let Err(error) = store.insert(key, &record.value, Origin::Others) {
                    tracing::debug!(%source, %error, "a record is not kept");
                }
            }
            kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            } => match result {
                kad::QueryResult::GetRecord(result) => self.on_found(id, result, &step),
                kad::QueryResult::PutRecord(result) => self.on_published(id, result),
                _ => {}
            },
            kad::Event::RoutingUpdated {
                is_new_peer: true, ..
            } => {
                let now = self.runtime().monotonic();
                self.state.publisher.peer_joined(now);
            }
            _ => {}
        }
    }

    fn on_found(&mut self, id: QueryId, result: kad::GetRecordResult, step: &ProgressStep) {
        let now = cairn_core::UnixMillis::from_unix(self.runtime().now());
        let Some(find) = self.state.finds.get_mut(&id) else {
            return;
        };
        if let Ok(kad::GetRecordOk::FoundRecord(found)) = result
            && records::digest(&found.record.key) == Some(find.key)
        {
            let value = found.record.value;
            // One that is not valid must not end the search before those that are.
            if is_valid(find.key, &value, now) {
                find.found += 1;
                find.found_at.get_or_insert(self.shared.runtime.monotonic());
            }
            find.best = newer(find.key, find.best.take(), value, now);
        }
        if step.last {
            if let Some(find) = self.state.finds.remove(&id) {
                give(find.answer, Ok(find.best));
            }
        } else if find.found >= FOUND_ENOUGH
            && find.best.is_some()
            && let Some(mut query) = self.swarm.behaviour_mut().dht.query_mut(&id)
        {
            query.finish();
        }
    }

    /// Ends the searches that have what they look for and wait for peers that say nothing.
    fn end_searches(&mut self) {
        let now = self.shared.runtime.monotonic();
        let is_over = |find: &Find| {
            let since = find.found_at.map(|at| now.saturating_sub(at));
            since.is_some_and(|since| since >= FOUND_TIME_MAX)
        };
        let finds = self.state.finds.iter();
        let over = finds.filter(|(_, find)| is_over(find)).map(|(id, _)| *id);
        let over: Vec<QueryId> = over.collect();
        for id in over {
            if let Some(mut query) = self.swarm.behaviour_mut().dht.query_mut(&id) {
                query.finish();
            }
        }
    }

    fn on_control_event(&mut self, event: request_response::Event<Request, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request {
                    request, channel, ..
                } => self.on_request(&peer, request, channel),
                Message::Response {
                    request_id,
                    response,
                } => {
                    if let Some((_, answer)) = self.state.requests.remove(&request_id) {
                        give(answer, Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure {
                request_id, error, ..
            } => {
                if let Some((peer, answer)) = self.state.requests.remove(&request_id) {
                    give(answer, Err(outbound_error(peer, error)));
                }
            }
            request_response::Event::InboundFailure { peer, error, .. } => match error {
                InboundFailure::ResponseOmission => {}
                error => tracing::debug!(%peer, %error, "a request failed"),
            },
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    /// Hands a peer's request out, or refuses it by dropping the channel.
    fn on_request(&mut self, peer: &PeerId, asked: Request, channel: ResponseChannel<Vec<u8>>) {
        let Some(peer) = identity::node_id(peer) else {
            return;
        };
        if self.state.answers.len() >= self.shared.limits.requests_max {
            tracing::debug!(%peer, "too many requests wait for an answer");
            return;
        }
        let (answer, answered) = oneshot::channel();
        let Request { message, memory } = asked;
        let request = InboundRequest {
            peer,
            message,
            answer,
        };
        if self.requests.try_send(request).is_err() {
            tracing::debug!(%peer, "nobody takes the request");
            return;
        }
        let runtime = self.runtime().clone();
        self.state.answers.push(Box::pin(async move {
            let answer = runtime.timeout(CONTROL_TIME_MAX, answered).await;
            drop(memory);
            (channel, answer.ok().and_then(Result::ok))
        }));
    }

    fn on_answered(&mut self, channel: ResponseChannel<Vec<u8>>, answer: Option<Vec<u8>>) {
        let Some(answer) = answer.filter(|answer| answer.len() <= crate::CONTROL_BYTES_MAX) else {
            return;
        };
        let control = &mut self.swarm.behaviour_mut().control;
        if control.send_response(channel, answer).is_err() {
            tracing::debug!("the peer no longer waits for the answer");
        }
    }

    fn on_tick(&mut self) {
        self.state.ticks += 1;
        self.end_searches();
        self.publish_due();
        if self.state.ticks.is_multiple_of(RELAY_TICKS) {
            self.reserve_at_relays();
        }
        if self.state.ticks.is_multiple_of(SAVE_TICKS) {
            self.swarm.behaviour_mut().dht.store_mut().expire();
            if self.swarm.connected_peers().next().is_none() {
                self.dial_bootstrap();
            }
            if let Some(saves) = self.saves.clone()
                && let Ok(room) = saves.try_reserve_owned()
                && let Some(save) = self.take_save()
            {
                room.send(save);
            }
        }
    }

    /// What changed since the last save; `None` for nothing.
    fn take_save(&mut self) -> Option<Save> {
        let rewrite = self.shared.wants_rewrite();
        let store = self.swarm.behaviour_mut().dht.store_mut();
        let changed = store.take_dirty();
        let records = if rewrite { store.snapshot() } else { changed };
        let book = self.shared.book.save();
        let save = Save {
            rewrite,
            records,
            book,
        };
        (!save.is_empty()).then_some(save)
    }

    /// Hands what changed to the keeper, however long it takes.
    async fn save_last(&mut self) {
        let Some(saves) = self.saves.take() else {
            return;
        };
        if let Some(save) = self.take_save() {
            // The keeper ends only after us.
            let _saved = saves.send(save).await;
        }
    }
}

/// Answers a caller that may have gone away.
fn give<T>(answer: oneshot::Sender<T>, value: T) {
    // Nobody waits any more: nobody to tell.
    let _gone = answer.send(value);
}

fn outbound_error(peer: NodeId, error: OutboundFailure) -> NetError {
    match error {
        OutboundFailure::DialFailure => NetError::Unreachable {
            peer,
            cause: "no address answers".to_owned(),
        },
        OutboundFailure::Timeout => NetError::Timeout {
            peer,
            limit: CONTROL_TIME_MAX,
        },
        OutboundFailure::ConnectionClosed => NetError::Disconnected {
            peer,
            cause: "the connection closed before the answer".to_owned(),
        },
        OutboundFailure::UnsupportedProtocols => NetError::Protocol {
            peer,
            cause: "it does not speak our control protocol".to_owned(),
        },
        OutboundFailure::Io(error) => NetError::Disconnected {
            peer,
            cause: error.to_string(),
        },
    }
}
