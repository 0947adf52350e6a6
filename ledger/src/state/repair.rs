//! Looks at groups: whose slots must be drawn anew, and which groups end.
//!
//! A group is looked at when an epoch begins and after something happened to one of its slots, some
//! groups in each block.

use std::ops::Bound;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{EpochNumber, GroupId, NodeId, RevisionNumber, SlotIndex};

use super::{PendingDraw, State};
use crate::effect::Effect;
use crate::group::{Deal, DealState, Ending, Group, lazy_max, urgent_max};
use crate::movement::Cause;
use crate::tx::SlotRef;

/// Most groups that one block looks at, of up to 80 slots each: some hundredths of a second.
pub(crate) const GROUPS_LOOKED_MAX: usize = 1 << 9;

/// How far the groups are looked at in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct GroupSweep {
    /// The group that was looked at last.
    pub(super) after: Option<GroupId>,
    /// Whether there are more after it.
    pub(super) is_open: bool,
}

impl State {
    /// Whether the node has proven nothing for so long that its slots count as missing.
    #[must_use]
    pub fn is_suspect(&self, node: NodeId) -> bool {
        let after = u64::from(self.parameters.suspect_after_epochs);
        let lapses = |entry: &crate::node::NodeEntry| entry.standing.lapses(&self.epoch);
        after > 0
            && self
                .nodes
                .get(&node)
                .is_some_and(|entry| lapses(entry) >= after)
    }

    /// Slots of a group that someone holds who has acknowledged something of it and is not suspect.
    /// Of a group that is empty yet, those that someone holds.
    #[must_use]
    pub fn healthy_count(&self, group: &Group) -> usize {
        let is_empty = group.revision.number == RevisionNumber::ZERO;
        let is_healthy = |deal: &&Deal| {
            let has_something = is_empty || deal.acknowledged > RevisionNumber::ZERO;
            let holder = deal.holder().filter(|_| has_something);
            let leaver = deal.leaver.map(|leaver| leaver.node);
            let mut nodes = holder.into_iter().chain(leaver);
            nodes.any(|node| !self.is_suspect(node))
        };
        group.deals.iter().filter(is_healthy).count()
    }

    /// Has a group looked at by the next block.
    pub(super) fn mark(&mut self, group: GroupId) {
        if let Some(entry) = self.groups.get_mut(&group) {
            entry.is_marked = true;
            self.index.marked.insert(group);
        }
    }

    /// Whether groups are still to be looked at.
    pub(super) fn has_looks(&self) -> bool {
        self.group_sweep.is_open || !self.index.marked.is_empty()
    }

    /// All groups are to be looked at, since the epoch began.
    pub(super) fn begin_group_sweep(&mut self) {
        self.group_sweep = GroupSweep {
            after: None,
            is_open: !self.groups.is_empty(),
        };
    }

    /// Looks at the next groups, at most [`GROUPS_LOOKED_MAX`]: those that something happened to
    /// first.
    pub(super) fn look_at_groups(&mut self, effects: &mut Vec<Effect>) {
        let mut left = GROUPS_LOOKED_MAX;
        while left > 0
            && let Some(group) = self.index.marked.pop_first()
        {
            if let Some(entry) = self.groups.get_mut(&group) {
                entry.is_marked = false;
            }
            self.look_at_group(group, effects);
            left = left.saturating_sub(1);
        }
        if !self.group_sweep.is_open || left == 0 {
            return;
        }
        let after = self
            .group_sweep
            .after
            .map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<GroupId> = self
            .groups
            .range((after, Bound::Unbounded))
            .map(|(id, _)| *id)
            .take(left)
            .collect();
        self.group_sweep = GroupSweep {
            after: next.last().copied().or(self.group_sweep.after),
            is_open: next.len() == left,
        };
        for group in next {
            self.look_at_group(group, effects);
        }
    }

    fn look_at_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let is_past = |epoch: EpochNumber| !self.has_epochs() || self.epoch.number > epoch;
        match group.ending {
            Some(Ending::Released(at)) if is_past(at) => self.close_group(id, effects),
            Some(Ending::Asked(at)) if is_past(at) => self.release_group(id, effects),
            None if self.has_epochs() && is_past(self.grace_end(group)) => {
                self.release_group(id, effects);
            }
            Some(Ending::Asked(_) | Ending::Released(_)) => {}
            None => self.repair(id, effects),
        }
    }

    /// The last epoch in which a group can be extended.
    #[must_use]
    pub fn grace_end(&self, group: &Group) -> EpochNumber {
        let grace = u64::from(self.parameters.grace_epochs);
        EpochNumber::new(group.ends.get().saturating_add(grace))
    }

    /// Has slots drawn anew as the group's health asks.
    fn repair(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let is_begun = |group: &Group| group.revision.number > RevisionNumber::ZERO;
        let overdue = if self.groups.get(&id).is_some_and(is_begun) {
            self.slots_of_group(id, Self::is_overdue)
        } else {
            Vec::new()
        };
        for (slot, node) in &overdue {
            self.unbind(*slot, *node);
            self.set_state(*slot, DealState::Idle);
        }
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let (code, healthy) = (group.code, self.healthy_count(group));
        let mut is_changed = !overdue.is_empty();
        if healthy <= lazy_max(code) {
            for (slot, _) in self.slots_of_group(id, |_, deal| deal.state == DealState::Idle) {
                self.set_state(slot, DealState::Vacant);
                self.queue_draw(PendingDraw::Slot(slot));
            }
        }
        if healthy <= urgent_max(code) {
            let is_lagging = |state: &Self, deal: &Deal| {
                deal.state == DealState::Held && state.is_suspect(deal.node)
            };
            for (slot, node) in self.slots_of_group(id, is_lagging) {
                self.unbind(slot, node);
                self.set_state(slot, DealState::Vacant);
                self.queue_draw(PendingDraw::Slot(slot));
                is_changed = true;
            }
        }
        if is_changed {
            effects.push(Effect::GroupChanged(id));
        }
    }

    /// Whether a node has had a slot for long and has nothing of it.
    fn is_overdue(&self, deal: &Deal) -> bool {
        let after = u64::from(self.parameters.catch_up_epochs);
        let since = deal.behind_since.get();
        let is_late = self.epoch.number.get().saturating_sub(since) >= after;
        let has_nothing = deal.acknowledged == RevisionNumber::ZERO;
        after > 0 && is_late && has_nothing && deal.state == DealState::Held
    }

    /// The slots of a group whose deal is so, each with the deal's node.
    fn slots_of_group(
        &self,
        id: GroupId,
        is_so: impl Fn(&Self, &Deal) -> bool,
    ) -> Vec<(SlotRef, NodeId)> {
        let Some(group) = self.groups.get(&id) else {
            return Vec::new();
        };
        let slots = (0..=u8::MAX).map(SlotIndex::new);
        slots
            .zip(&group.deals)
            .filter(|(_, deal)| is_so(self, deal))
            .map(|(slot, deal)| (SlotRef { group: id, slot }, deal.node))
            .collect()
    }

    /// Ends the deals of a group. What the epoch that runs froze of it is still to be proven, and is
    /// paid; nothing is drawn for it any more.
    fn release_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        for (slot, node) in self.slots_of_group(id, |_, deal| deal.holder().is_some()) {
            self.unbind(slot, node);
            self.set_state(slot, DealState::Idle);
        }
        for (slot, _) in self.slots_of_group(id, |_, _| true) {
            self.waiting.remove(&slot);
            let leaver = self.deal_mut(slot).and_then(|deal| deal.leaver);
            if let Some(leaver) = leaver {
                self.unbind(slot, leaver.node);
            }
            if let Some(deal) = self.deal_mut(slot) {
                deal.leaver = None;
                deal.state = DealState::Idle;
            }
        }
        let epoch = self.epoch.number;
        if let Some(group) = self.groups.get_mut(&id) {
            group.ending = Some(Ending::Released(epoch));
        }
        if !self.has_epochs() {
            self.mark(id);
        }
        effects.push(Effect::GroupReleased(id));
    }

    /// Forgets a group and gives what is left of its escrow and its bounties back.
    fn close_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.forget_group(id) else {
            return;
        };
        let bounties = group.deals.iter().map(|deal| deal.bounty);
        let refund = bounties.fold(group.escrow, |sum, bounty| {
            sum.checked_add(bounty)
                .expect("bounties are part of the supply")
        });
        self.leave_escrow(refund);
        self.credit(group.owner, refund);
        self.tell_moved(group.owner, Cause::EscrowReturned, refund, effects);
        effects.push(Effect::GroupClosed { group: id, refund });
    }

    /// Takes a group out of the tables; its credits are the caller's.
    pub(super) fn forget_group(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        self.index.marked.remove(&id);
        self.index.remove_group(group.owner, id);
        self.index.slot_count = self
            .index
            .slot_count
            .checked_sub(u64::from(group.code.n()))
            .expect("the slots of every group are counted");
        Some(group)
    }
}
