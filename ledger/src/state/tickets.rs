//! Audits in the state: who asks whom, and what votes do.
//!
//! The tickets of an epoch are drawn while it runs. The votes on them come with the proofs of the epoch
//! after it, when the nodes' slots may have changed: so a vote is about a node, which is drawn from
//! what does not change any more.

use cairn_core::{AccountId, Bounded, EpochNumber, NodeId};

use super::State;
use crate::block::Verdict;
use crate::epoch::FrozenSlot;
use crate::node::NodeEntry;
use crate::score::AuditReport;
use crate::ticket::{AuditDraw, AuditPage, AuditTicket, Drawn, may_audit};
use crate::tx::{SlotRef, Tx, TxBody};

/// Slots that are looked at for one that an audit can be about. A node that writes to all of these is
/// not audited in the epoch.
const SLOTS_LOOKED_MAX: usize = 16;

/// The nodes among which the tickets of two epochs are drawn: those that proved something in the epoch
/// before, rising.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct AuditNodes {
    /// For the tickets of the epoch that runs.
    now: Vec<NodeId>,
    /// For those of the epoch before it, whose votes come now.
    before: Vec<NodeId>,
}

impl State {
    /// What a node asks of others in the epoch that runs. `None` before the seed is known, and for an
    /// unknown node.
    #[must_use]
    pub fn audit_page(&self, auditor: NodeId) -> Option<AuditPage> {
        let draw = AuditDraw {
            seed: self.epoch.seed?,
            epoch: self.epoch.number,
            auditor,
        };
        let operator = self.nodes.get(&auditor)?.operator;
        let drawn = draw.among(&self.index.audit_nodes.now);
        let tickets = drawn
            .iter()
            .filter_map(|drawn| self.ticket(operator, drawn));
        Some(AuditPage {
            epoch: draw.epoch,
            tickets: Bounded::new(tickets.collect()).ok()?,
        })
    }

    /// The ticket for a node that was drawn, unless there is nothing that it must be able to show.
    fn ticket(&self, operator: AccountId, drawn: &Drawn) -> Option<AuditTicket> {
        let entry = self.nodes.get(&drawn.audited)?;
        let is_away = entry.standing.is_maintained(&self.epoch);
        if is_away || !may_audit(operator, entry.operator) {
            return None;
        }
        Some(AuditTicket {
            number: drawn.number,
            audited: drawn.audited,
            slot: self.audited_slot(entry, drawn.from)?,
            seed: drawn.seed,
        })
    }

    /// The first of a node's slots above `from`, after the last the first of all, of which it must have
    /// the same now as when the epoch began.
    fn audited_slot(&self, entry: &NodeEntry, from: SlotRef) -> Option<FrozenSlot> {
        let above = self.slots_of(entry.node, Some(from));
        let all = self.slots_of(entry.node, None);
        let mut slots = above.chain(all).take(SLOTS_LOOKED_MAX);
        slots.find_map(|slot| self.steady_slot(slot, entry.node))
    }

    /// What the epoch froze of a slot, if its node has acknowledged nothing else since: what it gave up
    /// it need not show, and it may give up what it froze once its proof is judged.
    fn steady_slot(&self, slot: SlotRef, node: NodeId) -> Option<FrozenSlot> {
        let group = self.groups.get(&slot.group)?;
        let deal = group.deal(slot.slot)?;
        let (epoch, acknowledged) = match deal.leaver {
            Some(leaver) if leaver.node == node => (leaver.frozen.epoch, leaver.acknowledged),
            _ => (deal.frozen.epoch, deal.acknowledged),
        };
        let frozen = group.frozen(slot.slot, node, self.epoch.number)?;
        let is_steady = epoch < self.epoch.number && frozen.revision.number == acknowledged;
        (is_steady && frozen.revision.slot_bytes.get() > 0).then_some(frozen)
    }

    /// A proof of the epoch that runs was judged. If it is valid, what its node says of the audits of
    /// the epoch before counts.
    pub(super) fn take_audits(&mut self, tx: &Tx, verdict: Verdict) {
        if let TxBody::ProofSubmit { audits, .. } = tx.body
            && verdict == Verdict::Valid
        {
            self.take_report(NodeId::new(tx.account.key()), audits);
        }
    }

    /// It counts of a node that proved something, and did so too before the audits were drawn.
    fn take_report(&mut self, auditor: NodeId, report: AuditReport) {
        let epoch = self.epoch.number;
        if self.frozen_slots(auditor).is_empty() {
            return;
        }
        let Some(entry) = self.nodes.get_mut(&auditor) else {
            return;
        };
        entry.score.show(epoch);
        let operator = entry.operator;
        let before = epoch.get().checked_sub(1).map(EpochNumber::new);
        let Some((seed, before)) = self.epoch.before.zip(before) else {
            return;
        };
        let draw = AuditDraw {
            seed,
            epoch: before,
            auditor,
        };
        for drawn in draw.among(&self.index.audit_nodes.before) {
            let vote = report.vote(drawn.number);
            let entry = self.nodes.get_mut(&drawn.audited);
            if let Some((entry, vote)) = entry.zip(vote)
                && may_audit(operator, entry.operator)
            {
                entry.score.count(epoch, operator, vote);
            }
        }
    }

    /// Those among whom the tickets of the epoch that runs are drawn, and of the one before it.
    pub(super) fn audit_nodes(&self) -> AuditNodes {
        let number = self.epoch.number.get();
        let shown = |back: u64| {
            let epoch = number.checked_sub(back).map(EpochNumber::new);
            let has_shown = |entry: &&NodeEntry| {
                self.has_epochs() && epoch.is_some_and(|epoch| entry.score.has_shown(epoch))
            };
            let nodes = self.nodes.values().filter(has_shown);
            nodes.map(|entry| entry.node).collect()
        };
        AuditNodes {
            now: shown(1),
            before: shown(2),
        }
    }
}
