//! Where peers answer: configured addresses and signed node records, newest first, bounded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, NodeId, NodeRecord, Signed, Text};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Most peers in the book: twice a large network's nodes. The longest unused goes first.
const PEERS_MAX: usize = 4_096;
/// Most addresses of one peer and kind that are tried.
const ADDRESSES_TRIED_MAX: usize = 8;
/// Least time between two lookups of a peer that has addresses: those that are down are asked for
/// often, and each lookup takes some 20 messages.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// Most bytes of the book on disk.
pub(super) const BOOK_BYTES_MAX: u64 = 64 << 20;

/// Peers' addresses. Cheap to clone; locked for moments.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    peers: Arc<Mutex<Peers>>,
}

#[derive(Debug, Default)]
struct Peers {
    by_id: BTreeMap<NodeId, Known>,
    /// Rises with every use.
    uses: u64,
    changed: bool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    record: Option<Signed<NodeRecord>>,
    configured: Vec<Multiaddr>,
    used: u64,
    /// When its record was last looked up in the DHT, by the monotonic clock.
    looked_up: Option<Duration>,
}

/// The book on disk: node records, and addresses as text.
type Saved = Bounded<SavedPeer, PEERS_MAX>;

#[derive(BorshSerialize, BorshDeserialize)]
struct SavedPeer {
    node: NodeId,
    record: Option<Signed<NodeRecord>>,
    configured: Bounded<Text<256>, ADDRESSES_TRIED_MAX>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Peers> {
        // Each change is whole: nothing between its steps panics.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an address that was configured or that the peer told us.
    pub(super) fn add_address(&self, node: NodeId, address: Multiaddr) {
        let mut peers = self.lock();
        let known = peers.entry(node);
        if known.configured.contains(&address) {
            return;
        }
        if known.configured.len() >= ADDRESSES_TRIED_MAX {
            known.configured.remove(0);
        }
        known.configured.push(address);
        peers.changed = true;
    }

    /// Adds a node record whose signature holds; `false` when one as new is there.
    pub(super) fn add_record(&self, record: Signed<NodeRecord>) -> bool {
        let node = record.unverified().node;
        let mut peers = self.lock();
        let known = peers.entry(node);
        let newer = known
            .record
            .as_ref()
            .is_none_or(|before| before.unverified().made_at < record.unverified().made_at);
        if newer {
            known.record = Some(record);
            peers.changed = true;
        }
        newer
    }

    /// Whether the peer has a node record.
    pub(super) fn has_record(&self, node: NodeId) -> bool {
        let peers = self.lock();
        peers
            .by_id
            .get(&node)
            .is_some_and(|known| known.record.is_some())
    }

    /// Whether the peer may be looked up in the DHT again: not a moment after the last time. Counts
    /// as a lookup when it may.
    pub(super) fn may_look_up(&self, node: NodeId, now: Duration) -> bool {
        let mut peers = self.lock();
        let Some(known) = peers.by_id.get_mut(&node) else {
            return true;
        };
        let recent = known
            .looked_up
            .is_some_and(|at| now.saturating_sub(at) < LOOKUP_INTERVAL);
        if !recent {
            known.looked_up = Some(now);
        }
        !recent
    }

    /// Whether any address of the peer is known.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        let peers = self.lock();
        peers.by_id.get(&node).is_some_and(|known| {
            !known.configured.is_empty()
                || known.record.as_ref().is_some_and(|record| {
                    let record = record.unverified();
                    !record.control.is_empty() || !record.data.is_empty()
                })
        })
    }

    /// Addresses of the peer's control plane: its own record's first.
    pub(super) fn control(&self, node: NodeId) -> Vec<Multiaddr> {
        let mut peers = self.lock();
        let Some(known) = peers.used(node) else {
            return Vec::new();
        };
        let mut addresses: Vec<Multiaddr> = Vec::new();
        let recorded = known.record.iter().flat_map(|record| {
            let texts = record.unverified().control.iter();
            texts.filter_map(|text| text.as_str().parse().ok())
        });
        for address in recorded.chain(known.configured.iter().cloned()) {
            if addresses.len() < ADDRESSES_TRIED_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Addresses of the peer's direct data plane.
    pub(super) fn data(&self, node: NodeId) -> Vec<SocketAddr> {
        let mut peers = self.lock();
        let Some(record) = peers.used(node).and_then(|known| known.record.as_ref()) else {
            return Vec::new();
        };
        let texts = record.unverified().data.iter();
        texts
            .filter_map(|text| text.as_str().parse().ok())
            .take(ADDRESSES_TRIED_MAX)
            .collect()
    }

    /// Everyone with an address.
    pub(super) fn peers(&self) -> Vec<(NodeId, Vec<Multiaddr>)> {
        let nodes: Vec<NodeId> = self.lock().by_id.keys().copied().collect();
        let mut found: Vec<_> = nodes
            .into_iter()
            .map(|node| (node, self.control(node)))
            .collect();
        found.retain(|(_, addresses)| !addresses.is_empty());
        found
    }

    /// The book for the disk; `None` when nothing changed since the last call.
    pub(super) fn save(&self) -> Option<Vec<u8>> {
        let mut peers = self.lock();
        if !std::mem::take(&mut peers.changed) {
            return None;
        }
        let saved: Vec<SavedPeer> = peers
            .by_id
            .iter()
            .map(|(node, known)| SavedPeer {
                node: *node,
                record: known.record.clone(),
                configured: record_texts(&known.configured),
            })
            .collect();
        let saved: Saved = Bounded::new(saved).expect("the book keeps its bound");
        borsh::to_vec(&saved).ok()
    }

    /// Takes back what [`Self::save`] gave. What is damaged or no longer verifies is left out.
    pub(super) fn restore(&self, content: &[u8]) {
        let Ok(saved) = Saved::try_from_slice(content) else {
            return;
        };
        for peer in saved.into_vec() {
            let fits = |record: &Signed<NodeRecord>| {
                record.unverified().node == peer.node && record.verify_by(peer.node.key()).is_ok()
            };
            if let Some(record) = peer.record.filter(fits) {
                self.add_record(record);
            }
            for address in peer.configured.into_vec() {
                if let Ok(address) = address.as_str().parse() {
                    self.add_address(peer.node, address);
                }
            }
        }
        self.lock().changed = false;
    }
}

impl Peers {
    /// The peer's entry, made when it does not exist; another goes when there are too many.
    fn entry(&mut self, node: NodeId) -> &mut Known {
        self.uses += 1;
        let uses = self.uses;
        if self.by_id.len() >= PEERS_MAX && !self.by_id.contains_key(&node) {
            let oldest = self.by_id.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.by_id.remove(&oldest);
            }
        }
        let known = self.by_id.entry(node).or_default();
        known.used = uses;
        known
    }

    fn used(&mut self, node: NodeId) -> Option<&Known> {
        self.uses += 1;
        let uses = self.uses;
        let known = self.by_id.get_mut(&node)?;
        known.used = uses;
        Some(known)
    }
}

/// Addresses as they stand in a node record, cut to its bounds.
pub(super) fn record_texts<const MAX: usize, T: ToString>(
    addresses: &[T],
) -> Bounded<Text<256>, MAX> {
    let texts = addresses
        .iter()
        .filter_map(|address| Text::new(address.to_string()).ok())
        .take(MAX)
        .collect();
    Bounded::new(texts).expect("cut to the bound")
}

/// Takes the peer id off the end of an address.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}
