//! The simulated network: machines of a [`Sim`] that talk without sockets.
//!
//! What the real network does below the seam - connections, limits, the DHT - is modelled; all
//! above it runs unchanged. Links have latency, jitter, loss and bandwidth; machines can be
//! parted and joined again; bytes on the wire are counted for each pair of peers; a test may
//! change, cut, stall or reset what passes ([`SimNet::set_tamper`]).
//!
//! **How faults show.** A lost or parted request gets no answer until its time is over. A lost
//! part of a stream comes later, as after a retransmission; parted streams stand still and go on
//! when the parts are joined. Nothing listens on a machine that is down: its peers' streams break
//! and new ones are refused at once.
//!
//! **Bounds** are those of the real network: queues of requests and streams that wait, streams of
//! one peer and in all, bytes in flight on a stream.
//!
//! Not modelled: addresses, NAT, handshake bytes, and who learns of whom: every peer that ever
//! joined is known to all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::NodeId;
use cairn_runtime::sim::SimRng;
use cairn_runtime::{MachineId, Sim, SimRuntime};

use crate::DhtMode;

mod dht;
mod link;
mod peer;
mod stream;
mod tamper;

use dht::Records;
pub use link::{Link, Traffic};
pub use peer::SimPeer;
use peer::{Endpoint, Inbox};
pub use stream::SimStream;
use stream::{Ends, Pipe};
pub use tamper::{Passing, Tamper};

/// A simulated network. Cheap to clone; all clones are the same network.
#[derive(Clone, Debug)]
pub struct SimNet {
    shared: Arc<Shared>,
}

/// What the peers of a network share.
struct Shared {
    sim: Sim,
    /// Taken before a stream's; no waker is called while it is held.
    state: Mutex<State>,
}

struct State {
    rng: SimRng,
    link: Link,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// Which part of the network a peer is in while it is parted; the others are in part 0.
    parts: BTreeMap<NodeId, usize>,
    /// Until when a link is busy sending, in virtual time.
    busy_until: BTreeMap<(NodeId, NodeId), Duration>,
    traffic: BTreeMap<(NodeId, NodeId), Traffic>,
    /// Everyone who ever joined.
    known: BTreeSet<NodeId>,
    peers: BTreeMap<NodeId, Joined>,
    streams: BTreeMap<u64, Arc<Ends>>,
    streams_made: u64,
    records: Records,
    tamper: Option<Arc<tamper::Hook>>,
}

/// A peer that is up, as the others reach it.
struct Joined {
    endpoint: Arc<Endpoint>,
    inbox: Inbox,
}

impl SimNet {
    /// A network for the machines of `sim`, with [`Link::DEFAULT`] between all.
    #[must_use]
    pub fn new(sim: &Sim) -> Self {
        let shared = Arc::new(Shared {
            sim: sim.clone(),
            state: Mutex::new(State {
                rng: sim.rng("network"),
                link: Link::DEFAULT,
                links: BTreeMap::new(),
                parts: BTreeMap::new(),
                busy_until: BTreeMap::new(),
                traffic: BTreeMap::new(),
                known: BTreeSet::new(),
                peers: BTreeMap::new(),
                streams: BTreeMap::new(),
                streams_made: 0,
                records: Records::default(),
                tamper: None,
            }),
        });
        let weak = Arc::downgrade(&shared);
        sim.on_down(move |machine| {
            if let Some(shared) = weak.upgrade() {
                shared.machine_down(machine);
            }
        });
        Self { shared }
    }

    /// Joins as `node` from a machine that is up. One that joined before under the same name is
    /// replaced, and its streams break.
    #[must_use]
    pub fn join(&self, runtime: &SimRuntime, node: NodeId, mode: DhtMode) -> SimPeer {
        self.shared.leave(node);
        let (endpoint, inbox) = Endpoint::new(runtime.clone(), node, mode);
        let endpoint = Arc::new(endpoint);
        let mut state = self.shared.state();
        state.known.insert(node);
        let joined = Joined {
            endpoint: Arc::clone(&endpoint),
            inbox,
        };
        state.peers.insert(node, joined);
        drop(state);
        SimPeer::new(Arc::clone(&self.shared), endpoint)
    }

    /// Sets the link between all pairs that have none of their own.
    pub fn set_link(&self, link: Link) {
        self.shared.state().link = link;
    }

    /// Sets the link from one peer to another, in that direction only.
    pub fn set_link_between(&self, from: NodeId, to: NodeId, link: Link) {
        self.shared.state().links.insert((from, to), link);
    }

    /// Sets all links to and from a peer.
    pub fn set_links_of(&self, node: NodeId, link: Link) {
        let mut state = self.shared.state();
        let others: Vec<NodeId> = state.known.iter().copied().collect();
        for other in others {
            state.links.insert((node, other), link);
            state.links.insert((other, node), link);
        }
    }

    /// Parts the network: peers reach only those in the same part, and those named in none are
    /// one more part.
    pub fn part(&self, parts: &[&[NodeId]]) {
        let numbered = (1..).zip(parts);
        let parts =
            numbered.flat_map(|(number, part)| part.iter().map(move |node| (*node, number)));
        self.shared.set_parts(parts.collect());
    }

    /// Joins all parts again.
    pub fn heal(&self) {
        self.shared.set_parts(BTreeMap::new());
    }

    /// Sets what is called with every message and every part of a stream that passes.
    pub fn set_tamper(&self, hook: impl Fn(&mut Passing<'_>) -> Tamper + Send + Sync + 'static) {
        self.shared.state().tamper = Some(Arc::new(hook));
    }

    /// Ends [`Self::set_tamper`].
    pub fn clear_tamper(&self) {
        self.shared.state().tamper = None;
    }

    /// What went from one peer to another.
    #[must_use]
    pub fn traffic(&self, from: NodeId, to: NodeId) -> Traffic {
        let state = self.shared.state();
        state.traffic.get(&(from, to)).copied().unwrap_or_default()
    }

    /// What a peer sent to all others.
    #[must_use]
    pub fn sent_by(&self, node: NodeId) -> Traffic {
        self.sum(|from, _| from == node)
    }

    /// What a peer was sent by all others.
    #[must_use]
    pub fn sent_to(&self, node: NodeId) -> Traffic {
        self.sum(|_, to| to == node)
    }

    /// What all peers sent.
    #[must_use]
    pub fn sent(&self) -> Traffic {
        self.sum(|_, _| true)
    }

    fn sum(&self, chosen: impl Fn(NodeId, NodeId) -> bool) -> Traffic {
        let state = self.shared.state();
        let all = state.traffic.iter();
        all.filter(|((from, to), _)| chosen(*from, *to))
            .fold(Traffic::default(), |sum, (_, traffic)| sum.plus(*traffic))
    }

    /// How many streams are open.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.shared.state().streams.len()
    }

    /// Forgets the DHT records that a peer keeps: with its disk, when that is wiped.
    pub fn forget_records(&self, node: NodeId) {
        self.shared.state().records.remove(&node);
    }

    /// Breaks all streams between two peers, as a lost connection does.
    pub fn reset_streams(&self, one: NodeId, two: NodeId) {
        self.shared
            .break_streams(|from, to| (from, to) == (one, two) || (from, to) == (two, one));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no panic in the simulated network")
    }

    /// Ends the endpoints of a machine that went down.
    fn machine_down(&self, machine: MachineId) {
        let gone: Vec<NodeId> = {
            let state = self.state();
            let on_it = state.peers.iter().filter(|(_, joined)| {
                let runtime = joined.endpoint.runtime();
                runtime.machine().id() == machine && !runtime.is_up()
            });
            on_it.map(|(node, _)| *node).collect()
        };
        for node in gone {
            self.leave(node);
        }
    }

    /// Ends the endpoint of a peer, if there is one: its streams break, nothing listens.
    fn leave(&self, node: NodeId) {
        let joined = self.state().peers.remove(&node);
        if let Some(joined) = joined {
            joined.endpoint.close();
            drop(joined);
            self.break_streams(|from, to| from == node || to == node);
        }
    }

    /// Ends an endpoint, unless another has taken its peer's place.
    fn leave_if(&self, endpoint: &Arc<Endpoint>) {
        endpoint.close();
        let is_joined = {
            let state = self.state();
            let joined = state.peers.get(&endpoint.node());
            joined.is_some_and(|joined| Arc::ptr_eq(&joined.endpoint, endpoint))
        };
        if is_joined {
            self.leave(endpoint.node());
        }
    }

    fn break_streams(&self, chosen: impl Fn(NodeId, NodeId) -> bool) {
        let broken: Vec<Arc<Ends>> = {
            let mut state = self.state();
            let ids: Vec<u64> = state
                .streams
                .iter()
                .filter(|(_, ends)| chosen(ends.opener(), ends.acceptor()))
                .map(|(id, _)| *id)
                .collect();
            ids.iter()
                .filter_map(|id| state.streams.remove(id))
                .collect()
        };
        for ends in broken {
            ends.pipes().into_iter().for_each(Pipe::reset);
        }
    }

    fn set_parts(&self, parts: BTreeMap<NodeId, usize>) {
        let waiting: Vec<Arc<Ends>> = {
            let mut state = self.state();
            state.parts = parts;
            state.streams.values().map(Arc::clone).collect()
        };
        self.sim.note("network parts", &[], &[]);
        for ends in waiting {
            ends.pipes().into_iter().for_each(Pipe::look_again);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimNet").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
