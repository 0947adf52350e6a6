//! Slots that a node takes back: it was lost or fell behind, nobody was drawn in its place, and it has
//! them whole all the same.
//!
//! Who comes back with its bytes spares the group a repair, so it need not wait to be drawn. It says
//! so by acknowledging the slot, and shows it with its next proof.

use std::collections::BTreeSet;

use cairn_core::{Amount, ByteCount, GroupId, NodeId, RevisionNumber};

use super::State;
use crate::block::Verdict;
use crate::effect::Effect;
use crate::group::{Deal, DealState, Group};
use crate::node::{NodeEntry, NodeStatus};
use crate::tx::SlotRef;
use crate::tx_error::TxError;

impl State {
    /// Whether a node may take back the slots that it acknowledges and does not hold: idle slots that it
    /// held last, with room and collateral for all of them. Named twice, a slot counts once.
    pub(super) fn check_reclaims(
        &self,
        node: NodeId,
        slots: &BTreeSet<SlotRef>,
    ) -> Result<(), TxError> {
        let mut capacity = ByteCount::ZERO;
        let mut collateral = Amount::ZERO;
        let mut groups: BTreeSet<GroupId> = BTreeSet::new();
        for &slot in slots {
            let (group, deal) = self.check_deal(slot)?;
            let refused = TxError::NotHolder {
                slot,
                expected: deal.holder(),
                found: node,
            };
            let entry = self.nodes.get(&node).ok_or(TxError::UnknownNode { node })?;
            let locked = self.collateral(group.slot_capacity, entry.terms.price);
            let sums = capacity
                .checked_add(group.slot_capacity)
                .zip(collateral.checked_add(locked));
            let Some(sums) = sums.filter(|_| self.is_reclaimable(entry, group, deal)) else {
                return Err(refused);
            };
            (capacity, collateral) = sums;
            let fits = capacity <= entry.free() && collateral <= entry.free_collateral();
            // One slot of a group, as in a draw.
            if !fits || !groups.insert(slot.group) {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Whether a deal is one that the node may take back, by what draws ask of it too, its room aside.
    fn is_reclaimable(&self, entry: &NodeEntry, group: &Group, deal: &Deal) -> bool {
        let is_idle = deal.state == DealState::Idle && deal.leaver.is_none();
        // Who has shown that it lacks something is not believed before it has shown all.
        let has_failed = matches!(entry.standing.verdict, Some((_, Verdict::Invalid)));
        let is_candidate = entry.status == NodeStatus::Active
            && !has_failed
            && entry.standing.lapses(&self.epoch) == 0
            && !entry.standing.is_maintained(&self.epoch)
            && entry.terms.price <= group.price_max;
        let is_same_operator = |node: NodeId| {
            let other = self.nodes.get(&node);
            other.is_some_and(|other| other.operator == entry.operator)
        };
        let mut bound = group.deals.iter().flat_map(Deal::parts);
        is_idle
            && deal.node == entry.node
            && group.is_open()
            && is_candidate
            && !bound.any(|(node, _)| is_same_operator(node))
    }

    /// Gives an idle slot back to the node that held it last, with nothing acknowledged yet. Nothing
    /// happens when the slot is another's.
    pub(super) fn reclaim(&mut self, slot: SlotRef, node: NodeId, effects: &mut Vec<Effect>) {
        let since = self.height;
        let frozen = self.frozen_nothing();
        let price = self.nodes.get(&node).map(|entry| entry.terms.price);
        let Some((deal, price)) = self.deal_mut(slot).zip(price) else {
            return;
        };
        if deal.state != DealState::Idle || deal.node != node {
            return;
        }
        *deal = Deal {
            since,
            price,
            acknowledged: RevisionNumber::ZERO,
            frozen,
            state: DealState::Held,
            collateral: Amount::ZERO,
            behind_since: frozen.epoch,
            ..*deal
        };
        self.bind(slot, node);
        self.note_relaxed(slot.group);
        effects.push(Effect::GroupChanged(slot.group));
    }
}
