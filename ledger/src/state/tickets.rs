//! Audits in the state: who asks whom, and what votes do.
//!
//! The tickets of an epoch are drawn while it runs. The votes on them come with the proofs of the epoch
//! after it, when the nodes' slots may have changed: so a vote is about a node, which is drawn from
//! what does not change any more.

use cairn_core::{EpochNumber, NodeId};

use super::table::Table;
use super::{State, count};
use crate::node::NodeEntry;
use crate::ticket::{self, AuditDraw, AuditNode, AuditRank, AuditView, may_audit};
use crate::tx::{Tx, TxBody};

/// The nodes among which the tickets of two epochs are drawn: those that proved something in the epoch
/// before, rising.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct AuditNodes {
    /// For the tickets of the epoch that runs. A table of the trie: whoever asks for a ticket is shown
    /// the node at its rank.
    pub(super) now: Table<AuditRank, AuditNode>,
    /// For those of the epoch before it, whose votes come now.
    before: Vec<NodeId>,
}

impl State {
    /// What a number of a node's tickets stands for in the epoch that runs. `None` before the seed is
    /// known, and for an unknown node.
    #[must_use]
    pub fn audit_ticket(&self, auditor: NodeId, number: u8) -> Option<AuditView> {
        let Ok(view) = ticket::audit_view(self, auditor, number);
        view
    }

    /// A valid proof of the epoch that runs showed something: what its node says of the audits of the
    /// epoch before counts, if it proved something too before these were drawn.
    pub(super) fn take_audits(&mut self, tx: &Tx) {
        let TxBody::ProofSubmit { audits: report, .. } = tx.body else {
            return;
        };
        let epoch = self.epoch.number;
        let Some(entry) = self.nodes.get_mut(&NodeId::new(tx.account.key())) else {
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
            auditor: entry,
        };
        let nodes = &self.index.audit_nodes.before;
        for drawn in draw.among(count(nodes.len())) {
            let rank = usize::try_from(drawn.rank.get());
            let audited = rank.ok().and_then(|rank| nodes.get(rank));
            let vote = report.vote(drawn.number);
            let Some((audited, vote)) = audited.zip(vote) else {
                continue;
            };
            if let Some(entry) = self.nodes.get_mut(audited)
                && may_audit(operator, entry.operator)
            {
                entry.score.count(epoch, operator, vote);
            }
        }
    }

    /// An epoch begins: those among whom its tickets are drawn, and of the one before it.
    pub(super) fn rank_audit_nodes(&mut self) {
        let AuditNodes { now, before } = self.audit_nodes();
        let known = &mut self.index.audit_nodes;
        known.now.take_over(now);
        known.before = before;
    }

    /// Those among whom the tickets of the epoch that runs are drawn, and of the one before it.
    pub(super) fn audit_nodes(&self) -> AuditNodes {
        let number = self.epoch.number.get();
        let shown = |back: u64| -> Vec<NodeId> {
            let epoch = number.checked_sub(back).map(EpochNumber::new);
            let has_shown = |entry: &&NodeEntry| {
                self.has_epochs() && epoch.is_some_and(|epoch| entry.score.has_shown(epoch))
            };
            let nodes = self.nodes.values().filter(has_shown);
            nodes.map(|entry| entry.node).collect()
        };
        let ranks = (0..=u32::MAX).map(AuditRank::new);
        AuditNodes {
            now: ranks.zip(shown(1).into_iter().map(AuditNode)).collect(),
            before: shown(2),
        }
    }
}
