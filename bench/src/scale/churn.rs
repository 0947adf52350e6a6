//! Nodes that leave: which slots the ledger has rebuilt, how many bytes that moves, and how near
//! groups come to losing what they hold.
//!
//! Lives are exponential; a node that ends is replaced by another at the same place. One that ends
//! without notice stops proving and never comes back: the ledger's own rules find it suspect and lost
//! and draw its slots anew. One that leaves in order drains, and goes when its successors have what
//! it had. Verdicts are given, and time is compressed: an epoch stands for four hours, and the
//! ledger's thresholds are as many hours as they are by default.

mod outcome;
mod peers;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use cairn_core::{
    Amount, Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, GroupRoot, NodeId,
    RevisionNumber, Signed, UnixMillis,
};
use cairn_ledger::group::Deal;
use cairn_ledger::tx::{group_id, tx_id};
use cairn_ledger::{AuditReport, Effect, Parameters, SlotRef, SlotRevision, Tx, TxBody};
pub(super) use outcome::Outcome;
use peers::Peers;

use super::count;
use super::network::{Network, Party, all_done};
use crate::report::Report;

/// Hours of an epoch.
const EPOCH_HOURS: u32 = 4;
/// Blocks of an epoch: as many as the ledger needs to count the epoch.
const BLOCKS: u64 = 8;
/// Time between blocks.
const BLOCK_MILLIS: u64 = 3_600_000 * 4 / BLOCKS;
/// Epochs that a node takes to catch up with a slot, from its draw to its acknowledgement: eight hours, 16
/// GiB at 5 Mbit/s, or twenty times that at 95.
const CATCH_UP_EPOCHS: u32 = 2;
/// Least healthy slots: k.
const K: usize = 20;
/// Slots of a group: n.
const N: usize = 40;
/// Bytes of each slot; all slots are of one size, so it cancels out.
const SLOT_BYTES: u64 = 1 << 20;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Nodes at a time.
    pub(super) node_count: u32,
    /// Groups of 20-of-40.
    pub(super) group_count: u32,
    /// Mean life of a node in hours.
    pub(super) life: u32,
    /// How many of a hundred nodes drain before they end.
    pub(super) graceful_percent: u32,
    /// Hours before those that are measured.
    pub(super) warm_up: u32,
    /// Hours that are measured.
    pub(super) hours: u32,
}

/// A slot that is drawn and not caught up with yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    to: NodeId,
    since: u32,
}

struct Churn {
    settings: Settings,
    network: Network,
    peers: Peers,
    groups: Vec<GroupId>,
    pending: BTreeMap<SlotRef, Pending>,
    outcome: Outcome,
}

/// Lives of two years and of six months, each with no node and with four of five leaving in order.
///
/// # Errors
///
/// When the ledger refuses something.
pub fn measure(node_count: u32, group_count: u32, hours: u32) -> Result<Report> {
    let mut report = outcome::table(node_count, group_count, hours);
    for life in [17_520, 4_380] {
        for graceful_percent in [0, 80] {
            let outcome = simulate(&Settings {
                node_count,
                group_count,
                life,
                graceful_percent,
                warm_up: life,
                hours,
            })?;
            report.push(outcome.row());
        }
    }
    Ok(report)
}

pub(super) fn simulate(settings: &Settings) -> Result<Outcome> {
    let mut churn = Churn::new(settings)?;
    churn.fill()?;
    let first = settings.warm_up / EPOCH_HOURS;
    let end = first + settings.hours / EPOCH_HOURS;
    for epoch in 1..end {
        if epoch == first {
            churn.outcome = Outcome::new(settings);
        }
        churn.pass_epoch(epoch)?;
    }
    Ok(churn.outcome)
}

impl Churn {
    /// Nodes, and groups that are empty.
    fn new(settings: &Settings) -> Result<Self> {
        let mut network = Network::new(parameters(), &[], Amount::ZERO)?;
        let mut peers = Peers::new(settings);
        let joined = peers.join_all(&network, settings.node_count)?;
        for txs in joined.chunks(256) {
            network.settle(txs.to_vec())?;
        }
        let mut owner = Party::new(u64::MAX);
        let mut groups = Vec::new();
        for _ in 0..settings.group_count {
            let open = network.signed(
                &mut owner,
                TxBody::GroupOpen {
                    code: Code::new(20, 40)?,
                    slot_capacity: ByteCount::new(SLOT_BYTES),
                    price_max: Amount::ZERO,
                    term_epochs: Parameters::default().term_epochs_max,
                    escrow: Amount::ZERO,
                },
            );
            let id = group_id(tx_id(&open));
            network.settle(vec![open])?;
            let revision = GroupRevision {
                group: id,
                number: RevisionNumber::new(1),
                segment_count: 1,
                slot_bytes: ByteCount::new(SLOT_BYTES),
                group_root: GroupRoot::new(Digest::of(id.as_bytes())),
            };
            let revise = network.signed(&mut owner, TxBody::GroupRevise { revision });
            network.settle(vec![revise])?;
            groups.push(id);
        }
        Ok(Self {
            settings: *settings,
            network,
            peers,
            groups,
            pending: BTreeMap::new(),
            outcome: Outcome::new(settings),
        })
    }

    /// All slots are acknowledged by those who were drawn first.
    fn fill(&mut self) -> Result<()> {
        let nodes: Vec<NodeId> = self.peers.nodes().collect();
        for node in nodes {
            let slots: Vec<SlotRef> = self.network.state.slots_of(node, None).collect();
            let tx = self.acknowledge(node, &slots)?;
            self.network.settle(tx.into_iter().collect())?;
        }
        Ok(())
    }

    fn pass_epoch(&mut self, epoch: u32) -> Result<()> {
        for block in 0..BLOCKS {
            // What is to be proven is known with the second block; nodes acknowledge before the last.
            let txs = match block {
                2 => self.prove()?,
                4 => self.end_lives(epoch)?,
                6 => self.catch_up(epoch)?,
                _ => Vec::new(),
            };
            let time = UnixMillis::new((u64::from(epoch) * BLOCKS + block) * BLOCK_MILLIS);
            let block = self.network.block(time, txs)?;
            let effects = self.network.state.apply_checked(&block)?;
            all_done(&effects)?;
            self.note_draws(epoch, &effects);
        }
        self.look();
        Ok(())
    }

    fn prove(&mut self) -> Result<Vec<Signed<Tx>>> {
        let epoch = self.network.state.epoch().number;
        let mut txs = Vec::new();
        for peer in self.peers.all_mut() {
            let node = peer.party.node();
            ensure!(
                self.network.state.challenge(node).is_some(),
                "node {node} is there and has not proven yet"
            );
            let body = TxBody::ProofSubmit {
                epoch,
                witness: Digest::of(node.as_bytes()),
                audits: AuditReport::default(),
            };
            txs.push(self.network.signed(&mut peer.party, body));
        }
        Ok(txs)
    }

    /// Nodes whose life is over stop or begin to drain, and others join for them.
    fn end_lives(&mut self, epoch: u32) -> Result<Vec<Signed<Tx>>> {
        let ended = self.peers.end_lives(&self.network, epoch * EPOCH_HOURS)?;
        self.outcome.note_ended(&ended);
        Ok(ended.txs)
    }

    fn note_draws(&mut self, epoch: u32, effects: &[Effect]) {
        for effect in effects {
            if let Effect::SlotMoved {
                slot,
                from: Some(_),
                to,
            } = *effect
            {
                let since = epoch;
                self.pending.insert(slot, Pending { to, since });
            }
        }
    }

    /// Nodes that were drawn some time ago have what they were drawn for, if there is anything to
    /// have it from.
    fn catch_up(&mut self, epoch: u32) -> Result<Vec<Signed<Tx>>> {
        let mut done: BTreeMap<NodeId, Vec<SlotRef>> = BTreeMap::new();
        // Rebuilds of each group that go on at the same time.
        let mut rebuilt: BTreeMap<GroupId, u64> = BTreeMap::new();
        let due: Vec<(SlotRef, NodeId)> = self
            .pending
            .iter()
            .filter(|(_, pending)| epoch - pending.since >= CATCH_UP_EPOCHS)
            .map(|(slot, pending)| (*slot, pending.to))
            .collect();
        for (slot, node) in due {
            self.pending.remove(&slot);
            let group = self.network.state.group(slot.group);
            let deal = group.and_then(|group| group.deal(slot.slot));
            let is_there = self.peers.is_there(node);
            let Some(deal) = deal.filter(|deal| is_there && deal.holder() == Some(node)) else {
                continue;
            };
            if deal
                .leaver
                .is_some_and(|leaver| self.peers.is_there(leaver.node))
            {
                self.outcome.copied += 1;
            } else if self.whole_count(slot.group) >= K {
                self.outcome.rebuilt += 1;
                *rebuilt.entry(slot.group).or_default() += 1;
            } else {
                continue;
            }
            done.entry(node).or_default().push(slot);
        }
        self.outcome.note_rebuilds(rebuilt.values().copied());
        let mut txs = Vec::new();
        for (node, slots) in done {
            txs.extend(self.acknowledge(node, &slots)?);
        }
        Ok(txs)
    }

    fn acknowledge(&mut self, node: NodeId, slots: &[SlotRef]) -> Result<Option<Signed<Tx>>> {
        let revision = RevisionNumber::new(1);
        let entry = |slot: &SlotRef| SlotRevision {
            group: slot.group,
            slot: slot.slot,
            revision,
        };
        let slots: Vec<SlotRevision> = slots.iter().map(entry).collect();
        let Some(peer) = self.peers.get_mut(node).filter(|_| !slots.is_empty()) else {
            return Ok(None);
        };
        let slots = Bounded::new(slots)?;
        let body = TxBody::Acknowledge { slots };
        Ok(Some(self.network.signed(&mut peer.party, body)))
    }

    /// Slots of a group that are really there, whatever the ledger knows.
    fn whole_count(&self, group: GroupId) -> usize {
        let is_whole = |deal: &&Deal| {
            let holder = deal
                .holder()
                .filter(|_| deal.acknowledged > RevisionNumber::ZERO);
            let leaver = deal.leaver.map(|leaver| leaver.node);
            let mut nodes = holder.into_iter().chain(leaver);
            nodes.any(|node| self.peers.is_there(node))
        };
        let deals = self.network.state.group(group).map(|group| &group.deals);
        deals.map_or(0, |deals| deals.iter().filter(is_whole).count())
    }

    /// Notes how many slots each group has.
    fn look(&mut self) {
        for &group in &self.groups {
            self.outcome.note_whole(group, self.whole_count(group));
        }
        self.outcome.nodes_most = self.outcome.nodes_most.max(count(self.peers.len()));
        assert!(
            count(self.peers.len()) >= u64::from(self.settings.node_count),
            "whoever goes is replaced"
        );
    }
}

/// Nothing costs anything, and hours are epochs' quarters.
fn parameters() -> Parameters {
    let usual = Parameters::default();
    Parameters {
        epoch_millis: BLOCKS * BLOCK_MILLIS,
        suspect_after_epochs: usual.suspect_after_epochs / EPOCH_HOURS,
        lost_after_epochs: usual.lost_after_epochs / EPOCH_HOURS,
        catch_up_epochs: usual.catch_up_epochs / EPOCH_HOURS,
        ..usual
    }
}
