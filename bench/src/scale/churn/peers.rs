//! The nodes and how long they live.

use std::collections::BTreeMap;

use anyhow::Result;
use cairn_core::{Amount, ByteCount, NodeId, Signed};
use cairn_ledger::{Tx, TxBody};

use super::{SLOT_BYTES, Settings};
use crate::scale::network::{Network, Party, Place};

/// Hours after which a draining node goes, whatever it still holds: its notice.
const NOTICE_HOURS: u32 = 14 * 24;

/// A node.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it signs with.
    pub(super) party: Party,
    place: u64,
    /// The hour in which its life ends.
    ends: f64,
    /// Whether it drains then.
    is_graceful: bool,
    /// The hour since which it drains.
    drains_since: Option<u32>,
}

/// Nodes that are there, by id.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    random: Random,
    life: f64,
    graceful: f64,
    capacity: ByteCount,
    joined: u64,
}

/// Nodes that ended in an epoch.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Their draining, and others' joining.
    pub(super) txs: Vec<Signed<Tx>>,
    /// How many began to drain.
    pub(super) draining: u64,
    /// How many stopped without notice.
    pub(super) silent: u64,
}

impl Peers {
    /// Nobody yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let slots = u64::from(settings.group_count) * 40;
        // Thrice what it holds on average.
        let each = slots.div_ceil(u64::from(settings.node_count)) * 3;
        Self {
            peers: BTreeMap::new(),
            random: Random::new(settings),
            life: f64::from(settings.life),
            graceful: f64::from(settings.graceful_percent) / 100.0,
            capacity: ByteCount::new(each * SLOT_BYTES),
            joined: 0,
        }
    }

    /// The first nodes join, each at its own place.
    pub(super) fn join_all(&mut self, network: &Network, number: u32) -> Result<Vec<Signed<Tx>>> {
        let places = 0..u64::from(number);
        places.map(|place| self.join(network, place, 0)).collect()
    }

    /// A node joins at a place.
    fn join(&mut self, network: &Network, place: u64, hour: u32) -> Result<Signed<Tx>> {
        let mut party = Party::new(self.joined);
        self.joined += 1;
        let at = Place {
            network: place % 80,
            provider: place % 40,
            region: place % 10,
        };
        let tx = network.registration(&mut party, at, (self.capacity, Amount::ZERO))?;
        let peer = Peer {
            place,
            ends: f64::from(hour) - self.life * self.random.unit().ln(),
            is_graceful: self.random.unit() <= self.graceful,
            drains_since: None,
            party,
        };
        self.peers.insert(peer.party.node(), peer);
        Ok(tx)
    }

    /// Ends the lives that are over by `hour`.
    pub(super) fn end_lives(&mut self, network: &Network, hour: u32) -> Result<Ended> {
        let mut ended = Ended::default();
        let mut free = Vec::new();
        self.peers.retain(|node, peer| {
            if let Some(since) = peer.drains_since {
                let is_empty = network.state.slots_of(*node, None).next().is_none();
                return !is_empty && hour - since < NOTICE_HOURS;
            }
            if peer.ends > f64::from(hour) {
                return true;
            }
            free.push(peer.place);
            if peer.is_graceful {
                peer.drains_since = Some(hour);
                let drain = network.signed(&mut peer.party, TxBody::NodeDrain);
                ended.txs.push(drain);
                ended.draining += 1;
            } else {
                ended.silent += 1;
            }
            peer.is_graceful
        });
        for place in free {
            ended.txs.push(self.join(network, place, hour)?);
        }
        Ok(ended)
    }

    /// Whether a node is there.
    pub(super) fn is_there(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// A node.
    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    /// All that are there.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.values_mut()
    }

    /// Their ids.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    /// How many there are, those that drain included.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }
}

/// Numbers that follow from the settings.
#[derive(Debug)]
struct Random(blake3::OutputReader);

impl Random {
    fn new(settings: &Settings) -> Self {
        let Settings {
            life,
            graceful_percent,
            ..
        } = settings;
        let mut hasher = blake3::Hasher::new_derive_key("cairn bench lives");
        hasher.update(&life.to_le_bytes());
        hasher.update(&graceful_percent.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        (f64::from(u32::from_le_bytes(bytes)) + 1.0) / 4_294_967_296.0
    }
}
