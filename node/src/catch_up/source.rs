//! Whom to ask, in which order, and whom not to ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{
    Capability, CapabilityLink, NodeId, RevisionNumber, Right, Scope, SecretKey, SlotIndex,
    UnixMillis,
};
use cairn_ledger::group::Group;

/// A control request to a sibling is given up after this.
pub(super) const CONTROL_LIMIT: Duration = Duration::from_secs(10);
/// Getting a stream to a sibling is given up after this; streams themselves have their pace.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// When a source has not answered after this, another one is asked beside it or, next time, before.
pub(super) const HEDGE_DELAY: Duration = Duration::from_secs(2);
/// A source that has failed so often is asked last.
const FAILURES_MAX: u32 = 3;

/// The sources of one attempt.
#[derive(Debug)]
pub(super) struct Sources {
    /// Who has, or had, this very slot: the one who leaves, the one before us.
    holders: Vec<NodeId>,
    /// The others: slot, node, what it acknowledged.
    siblings: Vec<(SlotIndex, NodeId, RevisionNumber)>,
    state: Mutex<SourceState>,
}

#[derive(Debug, Default)]
struct SourceState {
    left_out: BTreeSet<NodeId>,
    failures: BTreeMap<NodeId, u32>,
    /// What the last of those left out did.
    last: Option<(NodeId, String)>,
}

impl Sources {
    pub(super) fn new(group: &Group, slot: SlotIndex, us: NodeId) -> Self {
        let deal = group.deal(slot);
        let leaver = deal.and_then(|deal| deal.leaver).map(|leaver| leaver.node);
        let previous = deal.and_then(|deal| deal.previous);
        let mut holders: Vec<NodeId> = leaver.into_iter().chain(previous).collect();
        holders.dedup();
        holders.retain(|node| *node != us);
        let mut siblings: Vec<_> = group
            .code
            .slots()
            .zip(&group.deals)
            .filter(|(index, deal)| *index != slot && deal.node != us)
            .map(|(index, deal)| (index, deal.node, deal.acknowledged))
            .collect();
        // Who has most comes first; from ours on, so that not all of them ask the same ones.
        let n = group.code.n();
        siblings.sort_by_key(|(index, _, acknowledged)| {
            let distance = (index.get() + n - slot.get()) % n;
            (std::cmp::Reverse(*acknowledged), distance)
        });
        Self {
            holders,
            siblings,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// Who may have this very slot.
    pub(super) fn holders(&self) -> Vec<NodeId> {
        let state = self.state();
        let holders = self.holders.iter().copied();
        let holders = holders.filter(|node| !state.left_out.contains(node));
        holders.collect()
    }

    /// Those of them who have not failed, or taken long, too often.
    pub(super) fn good_holders(&self) -> Vec<NodeId> {
        let mut holders = self.holders();
        holders.retain(|node| !self.is_bad(*node));
        holders
    }

    /// Whether a source has failed, or taken long, too often to be asked first.
    pub(super) fn is_bad(&self, node: NodeId) -> bool {
        let state = self.state();
        let failures = state.failures.get(&node);
        failures.is_some_and(|count| *count >= FAILURES_MAX)
    }

    /// Who has the other slots, the best first.
    pub(super) fn siblings(&self) -> Vec<(SlotIndex, NodeId)> {
        let state = self.state();
        let mut siblings: Vec<_> = self
            .siblings
            .iter()
            .filter(|(_, node, _)| !state.left_out.contains(node))
            .map(|(slot, node, _)| (*slot, *node))
            .collect();
        siblings.sort_by_key(|(_, node)| state.failures.get(node).copied().unwrap_or(0));
        siblings
    }

    /// Everyone, for what any of them may have.
    pub(super) fn all(&self) -> Vec<NodeId> {
        let mut all = self.good_holders();
        all.extend(self.siblings().into_iter().map(|(_, node)| node));
        let mut seen = BTreeSet::new();
        all.retain(|node| seen.insert(*node));
        all
    }

    /// A source failed, or took long, as honest ones do.
    pub(super) fn rest(&self, node: NodeId) {
        *self.state().failures.entry(node).or_default() += 1;
    }

    /// A source is wrong.
    pub(super) fn leave_out(&self, node: NodeId, what: &str) {
        let mut state = self.state();
        state.left_out.insert(node);
        state.last = Some((node, what.to_owned()));
    }
}

/// What a node that catches up presents to its siblings: issued by itself, so it has no force of
/// its own; they look at its deal.
pub(crate) fn own_capability(key: &SecretKey, group: &Group) -> Capability {
    let link = CapabilityLink {
        scope: Scope::Group(group.id),
        right: Right::Read,
        holder: key.public(),
        expires_at: UnixMillis::new(u64::MAX),
    };
    Capability::issue(link, key)
}
