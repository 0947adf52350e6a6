//! Looks at groups: whose slots must be drawn anew, and which groups end.
//!
//! A group is looked at when an epoch begins and after something happened to one of its slots, some
//! groups in each block.

use std::ops::Bound;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Amount, EpochNumber, GroupId, NodeId, RevisionNumber, SlotIndex};

use super::slots::tell_forfeited;
use super::{PendingDraw, State, count};
use crate::effect::Effect;
use crate::group::{Deal, DealState, Ending, Group, lazy_max, urgent_max};
use crate::movement::Cause;
use crate::node::NodeEntry;
use crate::tx::SlotRef;

/// Most groups that one block looks at, of up to 80 slots each: some hundredths of a second.
pub(crate) const GROUPS_LOOKED_MAX: usize = 1 << 9;

/// How far the groups are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct GroupSweep {
    /// The group that was looked at last, of those that every epoch looks at. Kept from one epoch to
    /// the next, so that none is always the last.
    pub(super) after: Option<GroupId>,
    /// How many are still to be looked at.
    pub(super) left: u64,
    /// The group that was looked at last of those that something happened to.
    pub(super) marked_after: Option<GroupId>,
}

/// A block goes on to no further group once its looks have taken so many slots from nodes with lapses:
/// bounds the bytes of its effects.
pub(crate) const SLOTS_FORFEITED_MAX: usize = 64;

impl State {
    /// Whether the node has missed an epoch and proven none since.
    pub(super) fn has_lapsed(&self, node: NodeId) -> bool {
        let lapses = |entry: &NodeEntry| entry.standing.lapses(&self.epoch);
        self.nodes.get(&node).is_some_and(|entry| lapses(entry) > 0)
    }

    /// Whether the node has proven nothing for so long that its slots count as missing.
    #[must_use]
    pub fn is_suspect(&self, node: NodeId) -> bool {
        let after = u64::from(self.parameters.suspect_after_epochs);
        let lapses = |entry: &NodeEntry| entry.standing.lapses(&self.epoch);
        after > 0
            && self
                .nodes
                .get(&node)
                .is_some_and(|entry| lapses(entry) >= after)
    }

    /// Slots of a group of which someone who is not suspect holds what is due, or anything while
    /// nothing is. Of a group that is empty yet, those that someone holds.
    #[must_use]
    pub fn healthy_count(&self, group: &Group) -> usize {
        let is_empty = group.revision.number == RevisionNumber::ZERO;
        let least = least_due(group);
        let is_healthy = |deal: &&Deal| {
            deal.parts()
                .any(|(node, has)| (is_empty || has >= least) && !self.is_suspect(node))
        };
        group.deals.iter().filter(is_healthy).count()
    }

    /// The newest revision that can be had: that k slots have which someone who is not suspect holds.
    fn reached(&self, group: &Group) -> RevisionNumber {
        let newest = |deal: &Deal| {
            let parts = deal.parts().filter(|(node, _)| !self.is_suspect(*node));
            parts.map(|(_, has)| has).max()
        };
        let mut found: Vec<RevisionNumber> = group.deals.iter().filter_map(newest).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        let last = usize::from(group.code.k()).checked_sub(1);
        last.and_then(|last| found.get(last).copied())
            .unwrap_or(RevisionNumber::ZERO)
    }

    /// Goes on to what is due of a group.
    fn pass_due(&mut self, id: GroupId) {
        let epoch = self.epoch.number;
        let after = u64::from(self.parameters.catch_up_epochs);
        let open = self.groups.get(&id).filter(|group| group.is_open());
        let Some(group) = open.filter(|_| self.has_epochs() && after > 0) else {
            return;
        };
        let mut due = group.due;
        due.pass(epoch, self.reached(group), after);
        if let Some(group) = self.groups.get_mut(&id) {
            group.due = due;
        }
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
        self.group_sweep.left > 0 || !self.index.marked.is_empty()
    }

    /// All groups are to be looked at, since the epoch began.
    pub(super) fn begin_group_sweep(&mut self) {
        self.group_sweep.left = count(self.groups.len());
    }

    /// Looks at the next groups, at most [`GROUPS_LOOKED_MAX`]: of those that an epoch looks at, and of
    /// those that something happened to, each at least half as long as there are as many, so that
    /// neither waits for the other.
    pub(super) fn look_at_groups(&mut self, effects: &mut Vec<Effect>) {
        let mut left = GROUPS_LOOKED_MAX;
        let mut forfeited = 0_usize;
        let marked = self.index.marked.len().min(GROUPS_LOOKED_MAX / 2);
        while left > marked
            && forfeited < SLOTS_FORFEITED_MAX
            && let Some(group) = self.next_swept()
        {
            forfeited = forfeited.saturating_add(self.look_at_group(group, effects));
            left = left.saturating_sub(1);
        }
        while left > 0
            && forfeited < SLOTS_FORFEITED_MAX
            && let Some(group) = self.next_marked()
        {
            forfeited = forfeited.saturating_add(self.look_at_group(group, effects));
            left = left.saturating_sub(1);
        }
    }

    /// The next group that the epoch looks at: the one after the last, after the last of all the
    /// first.
    fn next_swept(&mut self) -> Option<GroupId> {
        self.group_sweep.left = self.group_sweep.left.checked_sub(1)?;
        let after = self
            .group_sweep
            .after
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.groups.range((after, Bound::Unbounded));
        let next = behind.next().or_else(|| self.groups.first_key_value());
        let next = next.map(|(id, _)| *id);
        if next.is_none() {
            self.group_sweep.left = 0;
        }
        self.group_sweep.after = next;
        next
    }

    /// The next group that something happened to: the one after the last, after the last of all the
    /// first, so that one that is marked again has its turn after all others.
    fn next_marked(&mut self) -> Option<GroupId> {
        let after = self.group_sweep.marked_after;
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.index.marked.range((after, Bound::Unbounded));
        let next = behind
            .next()
            .or_else(|| self.index.marked.first())
            .copied()?;
        self.index.marked.remove(&next);
        self.group_sweep.marked_after = Some(next);
        if let Some(entry) = self.groups.get_mut(&next) {
            entry.is_marked = false;
        }
        Some(next)
    }

    /// Gives how many slots it took from nodes with lapses.
    fn look_at_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) -> usize {
        self.pass_due(id);
        let Some(group) = self.groups.get(&id) else {
            return 0;
        };
        let is_past = |epoch: EpochNumber| !self.has_epochs() || self.epoch.number > epoch;
        match group.ending {
            Some(Ending::Released(at)) if is_past(at) => self.close_group(id, effects),
            Some(Ending::Asked(at)) if is_past(at) => self.release_group(id, effects),
            None if self.is_over(group) => {
                self.release_group(id, effects);
            }
            Some(Ending::Asked(_) | Ending::Released(_)) => {}
            None => {
                let left = self.end_leavers(id, effects);
                return left.saturating_add(self.repair(id, effects));
            }
        }
        0
    }

    /// Ends the part of leavers whose successors have what they had. One with a lapse forfeits: nobody
    /// has seen that it still had the slot.
    fn end_leavers(&mut self, id: GroupId, effects: &mut Vec<Effect>) -> usize {
        let is_done = |_: &Self, deal: &Deal| {
            let left = deal.leaver.map(|leaver| leaver.acknowledged);
            deal.state == DealState::Held && left.is_some_and(|left| deal.acknowledged >= left)
        };
        let ended = self.slots_of_group(id, is_done);
        for (slot, _) in &ended {
            let leaver = self.deal_mut(*slot).and_then(|deal| deal.leaver);
            if let Some(node) = leaver.map(|leaver| leaver.node)
                && self.has_lapsed(node)
            {
                tell_forfeited(node, self.forfeit(*slot, node), effects);
            }
            self.end_leaver(*slot, effects);
        }
        ended.len()
    }

    /// Whether a group that its owner did not close has come to its end: its time is over, or it has
    /// reserved capacity for long and nothing that could be had was ever in it.
    fn is_over(&self, group: &Group) -> bool {
        let after = u64::from(self.parameters.catch_up_epochs);
        let epoch = self.epoch.number;
        let is_unused = group.due.next == RevisionNumber::ZERO && group.is_placed();
        let is_idle = after > 0 && is_unused && group.due.age(epoch) >= after;
        self.has_epochs() && (epoch > self.grace_end(group) || is_idle)
    }

    /// The last epoch in which a group can be extended.
    #[must_use]
    pub fn grace_end(&self, group: &Group) -> EpochNumber {
        let grace = u64::from(self.parameters.grace_epochs);
        EpochNumber::new(group.ends.get().saturating_add(grace))
    }

    /// Has slots drawn anew as the group's health asks. Gives how many suspect nodes forfeited.
    fn repair(&mut self, id: GroupId, effects: &mut Vec<Effect>) -> usize {
        let begun = self.groups.get(&id);
        let begun = begun.filter(|group| group.revision.number > RevisionNumber::ZERO);
        let overdue = begun.map(least_due).map_or_else(Vec::new, |least| {
            self.slots_of_group(id, |state, deal| state.is_overdue(deal, least))
        });
        for (slot, node) in &overdue {
            self.unbind(*slot, *node);
            self.set_state(*slot, DealState::Idle);
        }
        let Some(group) = self.groups.get(&id) else {
            return 0;
        };
        let (code, healthy) = (group.code, self.healthy_count(group));
        let mut is_changed = !overdue.is_empty();
        let is_lazy = healthy <= lazy_max(code);
        // Who leaves a slot is not kept waiting, however healthy the group.
        let is_wanted = |_: &Self, deal: &Deal| {
            deal.state == DealState::Idle && (is_lazy || deal.leaver.is_some())
        };
        for (slot, _) in self.slots_of_group(id, is_wanted) {
            self.set_state(slot, DealState::Vacant);
            self.queue_draw(PendingDraw::Slot(slot));
        }
        let mut forfeited = 0_usize;
        if healthy <= urgent_max(code) {
            let is_lagging = |state: &Self, deal: &Deal| {
                deal.state == DealState::Held && state.is_suspect(deal.node)
            };
            for (slot, node) in self.slots_of_group(id, is_lagging) {
                tell_forfeited(node, self.forfeit(slot, node), effects);
                forfeited = forfeited.saturating_add(1);
                self.unbind(slot, node);
                self.set_state(slot, DealState::Vacant);
                self.queue_draw(PendingDraw::Slot(slot));
                is_changed = true;
            }
        }
        if is_changed {
            effects.push(Effect::GroupChanged(id));
        }
        forfeited
    }

    /// Whether a node has had a slot for long and has less of it than `least`, or than the one that
    /// left it to it.
    fn is_overdue(&self, deal: &Deal, least: RevisionNumber) -> bool {
        let after = u64::from(self.parameters.catch_up_epochs);
        let since = deal.behind_since.get();
        let is_late = self.epoch.number.get().saturating_sub(since) >= after;
        let left = deal.leaver.map(|leaver| leaver.acknowledged);
        let is_behind = deal.acknowledged < left.map_or(least, |left| left.max(least));
        after > 0 && is_late && is_behind && deal.state == DealState::Held
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
    /// paid, bounties of slots that were held too; nothing is drawn for it any more.
    fn release_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        for (slot, _) in self.slots_of_group(id, |_, deal| deal.holder().is_none()) {
            let bounty = self
                .deal_mut(slot)
                .map(|deal| std::mem::take(&mut deal.bounty));
            self.forgo_bounty(bounty.unwrap_or(Amount::ZERO));
        }
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

    /// Forgets a group and gives what is left of its escrow back.
    fn close_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.forget_group(id) else {
            return;
        };
        for deal in &group.deals {
            self.forgo_bounty(deal.bounty);
        }
        let refund = group.escrow;
        self.leave_escrow(refund);
        self.credit(group.owner, refund);
        self.tell_moved(group.owner, Cause::EscrowReturned, refund, effects);
        effects.push(Effect::GroupClosed { group: id, refund });
    }

    /// Takes a group out of the tables; its credits are the caller's.
    pub(super) fn forget_group(&mut self, id: GroupId) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        self.index.marked.remove(&id);
        self.index.groups.remove(&(group.owner, id));
        self.index.slot_count = self
            .index
            .slot_count
            .checked_sub(u64::from(group.code.n()))
            .expect("the slots of every group are counted");
        Some(group)
    }
}

/// The revision from which on a slot of a group that is not empty is healthy.
fn least_due(group: &Group) -> RevisionNumber {
    group.due.revision.max(RevisionNumber::new(1))
}
