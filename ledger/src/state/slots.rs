//! Who holds which slot: binding, release, loss and the draws.

use std::ops::Bound;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    Amount, ByteCount, Digest, GroupId, NodeId, RevisionNumber, SlotIndex, ViewNumber,
};

use super::table::{BoundSlot, WaitingSlot};
use super::{State, count};
use crate::effect::Effect;
use crate::epoch::Frozen;
use crate::group::{Deal, DealState, Ending, Group, Leaver};
use crate::movement::Cause;
use crate::node::{NodeEntry, NodeStatus};
use crate::placement::{self, Draw, Request, TooFew};
use crate::tx::SlotRef;

/// Most waiting slots that one block tries to draw again, behind all that is queued: with the most nodes
/// an eighth of what the block may draw besides.
pub(crate) const WAITING_DRAWN_MAX: usize = 16;

/// How far the waiting slots are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Retry {
    /// The slot that was tried last. Kept, so that none is always the last.
    after: Option<SlotRef>,
    /// How many are still to be tried.
    pub(super) left: u64,
    /// The view whose seed draws them, or a later one: named when nobody could know it.
    pub(super) due: ViewNumber,
}

impl State {
    pub(super) fn deal_mut(&mut self, slot: SlotRef) -> Option<&mut Deal> {
        self.groups
            .get_mut(&slot.group)?
            .deals
            .get_mut(slot.slot.index())
    }

    fn slot_capacity(&self, slot: SlotRef) -> ByteCount {
        self.groups
            .get(&slot.group)
            .map_or(ByteCount::ZERO, |group| group.slot_capacity)
    }

    /// Counts the slot towards the node.
    pub(super) fn bind(&mut self, slot: SlotRef, node: NodeId) {
        let capacity = self.slot_capacity(slot);
        let before = self.index.slots.insert((node, slot), BoundSlot);
        assert!(before.is_none(), "a node holds a slot once");
        let entry = self.nodes.get_mut(&node).expect("a drawn node is known");
        entry.used = entry
            .used
            .checked_add(capacity)
            .expect("a drawn node has room");
        self.lock_collateral(slot, node);
    }

    /// Ends the node's part in the slot. The deal still says what it had.
    pub(super) fn unbind(&mut self, slot: SlotRef, node: NodeId) {
        self.depart(slot, node);
        self.unlock_collateral(slot, node);
        let capacity = self.slot_capacity(slot);
        let before = self.index.slots.remove(&(node, slot));
        assert!(before.is_some(), "a node gives up what it holds");
        let entry = self.nodes.get_mut(&node).expect("a holding node is known");
        entry.used = entry
            .used
            .checked_sub(capacity)
            .expect("what it holds was counted");
    }

    pub(super) fn set_state(&mut self, slot: SlotRef, state: DealState) {
        if let Some(deal) = self.deal_mut(slot) {
            deal.state = state;
        }
    }

    pub(super) fn set_status(&mut self, node: NodeId, status: NodeStatus) {
        let Some(entry) = self.nodes.get_mut(&node) else {
            return;
        };
        if entry.status == NodeStatus::Active {
            self.index.active_count = self.index.active_count.saturating_sub(1);
        }
        entry.status = status;
    }

    /// The engine calls a node lost: its slots are nobody's, and it pays for their repair. Unknown and
    /// lost ones are left as they are.
    pub(super) fn lose_node(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        let status = self.nodes.get(&node).map(|entry| entry.status);
        if matches!(status, None | Some(NodeStatus::Lost)) {
            return;
        }
        self.set_status(node, NodeStatus::Lost);
        effects.push(Effect::NodeChanged(node));
        let mut forfeited = Amount::ZERO;
        for slot in self.slots_of(node, None).collect::<Vec<_>>() {
            forfeited = forfeited
                .checked_add(self.forfeit(slot, node))
                .expect("collateral is part of the supply");
            self.unbind(slot, node);
            self.mark(slot.group);
            let Some(deal) = self.deal_mut(slot) else {
                continue;
            };
            if deal.node != node {
                deal.leaver = None;
            } else if deal.state == DealState::Leaving {
                // It is queued to be drawn already.
                deal.state = DealState::Vacant;
            } else {
                deal.state = DealState::Idle;
            }
        }
        tell_forfeited(node, forfeited, effects);
    }

    /// A node says that it no longer has a slot's bytes.
    pub(super) fn declare_loss(&mut self, node: NodeId, slot: SlotRef, effects: &mut Vec<Effect>) {
        let epoch = self.epoch.number;
        let Some(deal) = self.deal_mut(slot) else {
            return;
        };
        let is_holder = deal.holder() == Some(node);
        let is_leaver = deal.leaver.is_some_and(|leaver| leaver.node == node);
        if !is_holder && !is_leaver {
            // Named twice in one list.
            return;
        }
        if is_holder && deal.acknowledged == RevisionNumber::ZERO {
            // It has nothing to lose.
            return;
        }
        effects.push(Effect::LossDeclared(slot));
        tell_forfeited(node, self.forfeit(slot, node), effects);
        self.mark(slot.group);
        let Some(deal) = self.deal_mut(slot) else {
            return;
        };
        if is_leaver {
            self.unbind(slot, node);
            if let Some(deal) = self.deal_mut(slot) {
                deal.leaver = None;
            }
            return;
        }
        deal.declare_loss(epoch);
        if deal.state == DealState::Leaving {
            // It has nothing left to hand over, and its successor is to be drawn already.
            self.unbind(slot, node);
            self.set_state(slot, DealState::Vacant);
        }
    }

    /// Ends the part of a slot's leaver: its successor has what it had.
    pub(super) fn end_leaver(&mut self, slot: SlotRef, effects: &mut Vec<Effect>) {
        let leaver = self.deal_mut(slot).and_then(|deal| deal.leaver);
        let Some(node) = leaver.map(|leaver| leaver.node) else {
            return;
        };
        self.unbind(slot, node);
        if let Some(deal) = self.deal_mut(slot) {
            deal.leaver = None;
        }
        effects.push(Effect::SlotReleased { slot, node });
    }

    /// Each slot that nobody could take is tried again, by the next blocks.
    pub(super) fn retry_waiting(&mut self) {
        if self.retry.left == 0 {
            self.retry.due = self.draws_due();
        }
        self.retry.left = count(self.waiting.len());
    }

    /// The next waiting slot to be tried again: the one after the last, after the last of all the
    /// first.
    pub(super) fn next_waiting(&mut self) -> Option<SlotRef> {
        self.retry.left = self.retry.left.checked_sub(1)?;
        let after = self.retry.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.waiting.range((after, Bound::Unbounded));
        let next = behind.next().or_else(|| self.waiting.first_key_value());
        let next = next.map(|(slot, _)| *slot);
        if next.is_none() {
            self.retry.left = 0;
        }
        self.retry.after = next;
        next
    }

    /// The view whose seed draws what the block that is applied leaves to be drawn.
    pub(super) fn draws_due(&self) -> ViewNumber {
        let lag = self.parameters.seed_lag_views;
        ViewNumber::new(self.view.get().saturating_add(lag))
    }

    pub(super) fn draw_group(&mut self, id: GroupId, seed: Digest, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(&id).filter(|group| is_drawn(group)) else {
            return;
        };
        let drawn = placement::draw(&Request {
            draw: Draw::Group(id),
            code: group.code,
            seed,
            holders: Vec::new(),
            candidates: self
                .candidates(group.slot_capacity, group.price_max)
                .collect(),
            epoch: self.epoch.number,
        });
        match drawn {
            Ok(nodes) => self.place(id, &nodes, effects),
            Err(few) => self.refund(id, few, effects),
        }
    }

    fn place(&mut self, id: GroupId, nodes: &[NodeId], effects: &mut Vec<Effect>) {
        effects.push(Effect::GroupPlaced(id));
        let since = self.height;
        let frozen = self.frozen_nothing();
        let deal = |node: &NodeId| Deal {
            node: *node,
            previous: None,
            since,
            price: self.offer_of(*node),
            acknowledged: RevisionNumber::ZERO,
            frozen,
            state: DealState::Held,
            leaver: None,
            collateral: Amount::ZERO,
            bounty: Amount::ZERO,
            behind_since: frozen.epoch,
        };
        let deals: Vec<Deal> = nodes.iter().map(deal).collect();
        if let Some(group) = self.groups.get_mut(&id) {
            assert_eq!(nodes.len(), group.code.shard_count(), "one node per slot");
            group.deals = deals;
        }
        for (slot, &to) in (0..=u8::MAX).map(SlotIndex::new).zip(nodes) {
            let slot = SlotRef { group: id, slot };
            self.bind(slot, to);
            effects.push(Effect::SlotMoved {
                slot,
                from: None,
                to,
            });
        }
        self.note_relaxed(id);
    }

    /// A group that can't be drawn is undone.
    fn refund(&mut self, id: GroupId, few: TooFew, effects: &mut Vec<Effect>) {
        let Some(group) = self.forget_group(id) else {
            return;
        };
        self.leave_escrow(group.escrow);
        self.credit(group.owner, group.escrow);
        self.tell_moved(group.owner, Cause::EscrowReturned, group.escrow, effects);
        effects.push(Effect::GroupRefunded {
            group: id,
            expected: u32::try_from(few.expected).unwrap_or(u32::MAX),
            found: u32::try_from(few.found).unwrap_or(u32::MAX),
        });
    }

    pub(super) fn draw_slot(&mut self, slot: SlotRef, seed: Digest, effects: &mut Vec<Effect>) {
        // A group may have ended since.
        let Some(group) = self.groups.get(&slot.group).filter(|group| is_drawn(group)) else {
            return;
        };
        let is_in_group = |entry: &NodeEntry| {
            group.deals.iter().any(|deal| {
                deal.holder() == Some(entry.node)
                    || deal.leaver.is_some_and(|leaver| leaver.node == entry.node)
            })
        };
        let mut candidates: Vec<_> = self
            .candidates(group.slot_capacity, group.price_max)
            .filter(|entry| !is_in_group(entry))
            .collect();
        // Who gave it up gets it again only if nobody else can take it.
        let last = group.deal(slot.slot).map(|deal| deal.node);
        if candidates.len() > 1 {
            candidates.retain(|entry| Some(entry.node) != last);
        }
        let drawn = placement::draw(&Request {
            draw: Draw::Slot(slot.group, slot.slot),
            code: group.code,
            seed,
            holders: self.holders(group),
            candidates,
            epoch: self.epoch.number,
        });
        match drawn.as_deref() {
            Ok([to]) => {
                self.waiting.remove(&slot);
                self.hand_over(slot, *to, effects);
            }
            Ok(_) | Err(TooFew { .. }) => {
                self.waiting.insert(slot, WaitingSlot);
                effects.push(Effect::SlotWaiting(slot));
            }
        }
    }

    /// Gives a slot to the successor drawn for it.
    fn hand_over(&mut self, slot: SlotRef, to: NodeId, effects: &mut Vec<Effect>) {
        let since = self.height;
        let frozen = self.frozen_nothing();
        let price = self.offer_of(to);
        let Some(deal) = self.deal_mut(slot) else {
            return;
        };
        let from = deal.node;
        let leaver = match deal.state {
            DealState::Leaving => Some(Leaver {
                node: from,
                price: deal.price,
                acknowledged: deal.acknowledged,
                frozen: deal.frozen,
                collateral: deal.collateral,
            }),
            DealState::Vacant | DealState::Held | DealState::Idle => deal.leaver,
        };
        *deal = Deal {
            node: to,
            previous: Some(leaver.map_or(from, |leaver| leaver.node)),
            since,
            price,
            acknowledged: RevisionNumber::ZERO,
            frozen,
            state: DealState::Held,
            leaver,
            collateral: Amount::ZERO,
            bounty: deal.bounty,
            behind_since: frozen.epoch,
        };
        self.bind(slot, to);
        effects.push(Effect::SlotMoved {
            slot,
            from: Some(from),
            to,
        });
        self.note_relaxed(slot.group);
    }

    /// What a drawn node asks.
    fn offer_of(&self, node: NodeId) -> Amount {
        let entry = self.nodes.get(&node).expect("a drawn node is known");
        entry.terms.price
    }

    /// Of a node that is drawn in the epoch that runs.
    pub(super) fn frozen_nothing(&self) -> Frozen {
        Frozen {
            epoch: self.epoch.number,
            revision: RevisionNumber::ZERO,
        }
    }

    /// The nodes that stay in the group, as the caps count them.
    fn holders(&self, group: &Group) -> Vec<&NodeEntry> {
        group
            .deals
            .iter()
            .filter(|deal| deal.state == DealState::Held)
            .filter_map(|deal| self.nodes.get(&deal.node))
            .collect()
    }

    pub(super) fn note_relaxed(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        let relaxed = placement::relaxed(group.code, &self.holders(group));
        if let Some(group) = self.groups.get_mut(&id) {
            group.relaxed = relaxed;
        }
    }
}

/// Whether something is still drawn for a group.
fn is_drawn(group: &Group) -> bool {
    !matches!(group.ending, Some(Ending::Released(_)))
}

pub(super) fn tell_forfeited(node: NodeId, amount: Amount, effects: &mut Vec<Effect>) {
    if amount > Amount::ZERO {
        effects.push(Effect::Forfeited { node, amount });
    }
}
