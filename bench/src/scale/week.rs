//! A network that stores and proves for a simulated time: history, state and CPU of a validator.
//!
//! In each hour every node sends a real proof of what it was challenged for, the owners of some
//! groups append a segment and revise, and each node acknowledges what was revised in one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use cairn_core::{
    Amount, ByteCount, Code, Digest, GroupId, Record, RevisionNumber, Signed, UnixMillis,
};
use cairn_ledger::tx::{group_id, tx_id};
use cairn_ledger::{AuditReport, Parameters, SlotRevision, Tx, TxBody};
use cairn_proofs::prove;

use super::content::{Content, LEAVES, SLOTS, next_count, slot_bytes};
use super::network::{Network, Party, Place};
use super::tally::{Kind, Tally};
use super::{count, real};
use crate::cpu_time::thread_cpu_time;
use crate::report::Report;

/// Blocks of an hour: one a minute.
const BLOCKS: u64 = 60;
/// Time between blocks.
const BLOCK_MILLIS: u64 = 60_000;
/// Blocks of an hour in which nodes prove, after the one that begins it and the one with its seed.
const PROOF_BLOCKS: std::ops::Range<u64> = 2..22;
/// Blocks of an hour in which owners revise.
const REVISION_BLOCKS: std::ops::Range<u64> = 22..54;
/// Blocks of an hour in which nodes acknowledge.
const ACKNOWLEDGE_BLOCKS: std::ops::Range<u64> = 54..60;
/// Segments of a slot to begin with: room for a segment an hour for three weeks.
const SEGMENTS: u32 = LEAVES - 512;
/// Hours for which a group is revised before others are.
const WRITING_HOURS: u64 = 24;
/// Owners, who share the groups.
const OWNERS: u64 = 50;
/// Micro-credits per GiB and epoch.
const PRICE: Amount = Amount::from_micro(1_000);
/// What each party begins with.
const BALANCE: Amount = Amount::from_micro(1 << 40);
/// What each node puts down: enough for 700 slots of 16 GiB.
const COLLATERAL: Amount = Amount::from_micro(1 << 30);
/// Ninety days of hours.
const TERM: u32 = 2_160;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Nodes.
    pub node_count: u32,
    /// Bytes of all slots in units of 10^12.
    pub terabytes: u32,
    /// How long, in hours: epochs.
    pub hours: u32,
    /// Groups that are revised in each hour.
    pub revised: u32,
}

/// What a simulated time cost.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What was simulated.
    pub(super) settings: Settings,
    /// Groups.
    pub(super) group_count: u64,
    /// The blocks.
    pub(super) tally: Tally,
    /// Bytes of the state's encoding before and after.
    pub(super) state_bytes: (u64, u64),
    /// CPU time of encoding it.
    pub(super) encode: Duration,
    /// Bytes of all slots, after.
    pub(super) slot_bytes: u64,
    /// Epochs that nodes proved.
    pub(super) proven: u64,
}

/// A group and its owner.
struct Written {
    id: GroupId,
    owner: usize,
    number: RevisionNumber,
    segment_count: u32,
}

struct Week {
    network: Network,
    content: Content,
    nodes: Vec<Party>,
    owners: Vec<Party>,
    groups: Vec<Written>,
    tally: Tally,
}

/// Simulates a network and tells what it cost.
///
/// # Errors
///
/// When the ledger refuses something, such as groups for which the nodes have no room.
pub fn measure(settings: &Settings) -> Result<Vec<Report>> {
    Ok(super::tally::reports(&simulate(settings)?))
}

pub(super) fn simulate(settings: &Settings) -> Result<Outcome> {
    let mut week = Week::new(settings)?;
    week.fill()?;
    let before = count(week.network.state.encode().len());
    for hour in 1..=u64::from(settings.hours) {
        week.pass_hour(hour, usize::try_from(settings.revised)?)?;
    }
    let start = thread_cpu_time();
    let after = count(week.network.state.encode().len());
    let encode = thread_cpu_time().saturating_sub(start);
    let bytes_of = |group: &Written| slot_bytes(group.segment_count).get() * u64::from(SLOTS);
    Ok(Outcome {
        settings: *settings,
        group_count: count(week.groups.len()),
        state_bytes: (before, after),
        encode,
        slot_bytes: week.groups.iter().map(bytes_of).sum(),
        proven: week
            .network
            .state
            .nodes()
            .map(|node| node.standing.proven)
            .sum(),
        tally: week.tally,
    })
}

impl Week {
    /// A network with its nodes, and with groups that are empty.
    fn new(settings: &Settings) -> Result<Self> {
        let node_count = u64::from(settings.node_count);
        let mut nodes: Vec<Party> = (0..node_count).map(Party::new).collect();
        let mut owners: Vec<Party> = (0..OWNERS).map(|at| Party::new((1 << 32) + at)).collect();
        let parties: Vec<&Party> = nodes.iter().chain(&owners).collect();
        let mut network = Network::new(parameters(), &parties, BALANCE)?;
        let bytes = u64::from(settings.terabytes) * 1_000_000_000_000;
        let group_count = bytes.div_ceil(slot_bytes(SEGMENTS).get() * u64::from(SLOTS));
        // Half as much again as is needed.
        let slots_each = (group_count * u64::from(SLOTS) * 3).div_ceil(node_count * 2) + 8;
        let capacity = ByteCount::new(slots_each * slot_bytes(LEAVES).get());
        let mut txs = Vec::new();
        for (at, party) in (0..).zip(&mut nodes) {
            let place = Place {
                network: at % 100,
                provider: at % 50,
                region: at % 20,
            };
            txs.push(network.registration(party, place, (capacity, PRICE))?);
            let (node, amount) = (party.node(), COLLATERAL);
            txs.push(network.signed(party, TxBody::NodeAddCollateral { node, amount }));
        }
        for txs in txs.chunks(256) {
            network.settle(txs.to_vec())?;
        }
        let mut groups = Vec::new();
        let mut opens = Vec::new();
        for owner in (0..owners.len())
            .cycle()
            .take(usize::try_from(group_count)?)
        {
            let party = owners.get_mut(owner).context("an owner")?;
            let open = network.signed(party, opening()?);
            groups.push(Written {
                id: group_id(tx_id(&open)),
                owner,
                number: RevisionNumber::ZERO,
                segment_count: SEGMENTS - 1,
            });
            opens.push(open);
        }
        for txs in opens.chunks(50) {
            network.settle(txs.to_vec())?;
        }
        Ok(Self {
            network,
            content: Content::new()?,
            nodes,
            owners,
            groups,
            tally: Tally::default(),
        })
    }

    /// Has every group written and acknowledged: all before the time that is measured.
    fn fill(&mut self) -> Result<()> {
        for at in 0..self.groups.len() {
            let tx = self.revise(at)?;
            self.network.settle(vec![tx])?;
        }
        for at in 0..self.nodes.len() {
            let tx = self.acknowledge(at)?;
            self.network.settle(tx.into_iter().collect())?;
        }
        Ok(())
    }

    fn pass_hour(&mut self, hour: u64, revised: usize) -> Result<()> {
        let groups = self.groups.len();
        let first = usize::try_from(hour / WRITING_HOURS)? * revised;
        let written: Vec<usize> = (first..first + revised).map(|at| at % groups).collect();
        let nodes: Vec<usize> = (0..self.nodes.len()).collect();
        for block in 0..BLOCKS {
            let mut txs = Vec::new();
            let mut witnesses = BTreeMap::new();
            let mut kind = Kind::Empty;
            for &at in share(&nodes, &PROOF_BLOCKS, block) {
                kind = Kind::Proofs;
                txs.push(self.prove(at, &mut witnesses)?);
            }
            for &at in share(&written, &REVISION_BLOCKS, block) {
                kind = Kind::Revisions;
                txs.push(self.revise(at)?);
            }
            for &at in share(&nodes, &ACKNOWLEDGE_BLOCKS, block) {
                kind = Kind::Acknowledgements;
                txs.extend(self.acknowledge(at)?);
            }
            let time = UnixMillis::new((hour * BLOCKS + block) * BLOCK_MILLIS);
            let block = self.network.block(time, txs)?;
            self.tally
                .apply(&mut self.network, (kind, &block), &witnesses)?;
        }
        Ok(())
    }

    fn prove(
        &mut self,
        at: usize,
        witnesses: &mut BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Signed<Tx>> {
        let party = self.nodes.get_mut(at).context("a node")?;
        let state = &self.network.state;
        let challenge = state.challenge(party.node()).context("a challenge")?;
        let start = thread_cpu_time();
        let proof = prove(&challenge, &self.content)?.encode();
        self.tally.prove += thread_cpu_time().saturating_sub(start);
        let bytes = count(proof.len());
        self.tally.witness_bytes += bytes;
        self.tally.witness_bytes_max = self.tally.witness_bytes_max.max(bytes);
        let body = TxBody::ProofSubmit {
            epoch: state.epoch().number,
            witness: Digest::of(&proof),
            audits: AuditReport::default(),
        };
        witnesses.insert(Digest::of(&proof), proof);
        Ok(self.network.signed(party, body))
    }

    /// The owner appends a segment.
    fn revise(&mut self, at: usize) -> Result<Signed<Tx>> {
        let group = self.groups.get_mut(at).context("a group")?;
        group.number = group.number.next().context("a next revision")?;
        group.segment_count = next_count(group.segment_count)?;
        let revision = self
            .content
            .revision(group.id, group.number, group.segment_count)?;
        let owner = self.owners.get_mut(group.owner).context("an owner")?;
        Ok(self.network.signed(owner, TxBody::GroupRevise { revision }))
    }

    /// All that the node does not have acknowledged yet, if there is something.
    fn acknowledge(&mut self, at: usize) -> Result<Option<Signed<Tx>>> {
        let party = self.nodes.get_mut(at).context("a node")?;
        let state = &self.network.state;
        let behind = |slot: cairn_ledger::SlotRef| {
            let group = state.group(slot.group)?;
            let revision = group.revision.number;
            (group.deal(slot.slot)?.acknowledged < revision).then_some(SlotRevision {
                group: slot.group,
                slot: slot.slot,
                revision,
            })
        };
        let slots: Vec<SlotRevision> = state
            .slots_of(party.node(), None)
            .filter_map(behind)
            .collect();
        if slots.is_empty() {
            return Ok(None);
        }
        let slots = cairn_core::Bounded::new(slots)?;
        Ok(Some(
            self.network.signed(party, TxBody::Acknowledge { slots }),
        ))
    }
}

/// The part of a list whose turn is in `block`, the blocks of `turns` sharing it.
fn share<'a, T>(list: &'a [T], turns: &std::ops::Range<u64>, block: u64) -> &'a [T] {
    let turn_count = usize::try_from(turns.end - turns.start).unwrap_or(1);
    let each = list.len().div_ceil(turn_count).max(1);
    let turn = block
        .checked_sub(turns.start)
        .and_then(|turn| usize::try_from(turn).ok());
    turn.filter(|_| turns.contains(&block))
        .and_then(|turn| list.chunks(each).nth(turn))
        .unwrap_or_default()
}

fn opening() -> Result<TxBody> {
    let code = Code::new(20, 40)?;
    let slot_capacity = slot_bytes(LEAVES);
    let escrow = cairn_ledger::group::term_price(code, slot_capacity, PRICE, TERM);
    Ok(TxBody::GroupOpen {
        code,
        slot_capacity,
        price_max: PRICE,
        term_epochs: TERM,
        escrow: escrow.context("an escrow")?,
    })
}

/// Hours, and everything has its price.
fn parameters() -> Parameters {
    Parameters {
        fee_min: Amount::from_micro(10),
        account_min: Amount::from_micro(1_000),
        escrow_min: Amount::from_micro(1_000),
        escrow_percent: 100,
        collateral_epochs: 72,
        repair_epochs: 36,
        epoch_millis: BLOCKS * BLOCK_MILLIS,
        ..Parameters::default()
    }
}

/// Days of the time that was simulated.
pub(super) fn days(settings: &Settings) -> f64 {
    real(u64::from(settings.hours)) / 24.0
}
