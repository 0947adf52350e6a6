//! What a node is paid for an epoch that it proved.
//!
//! Paid at the verdict: what was frozen is at hand then, as it was for judging, and nothing about
//! past epochs must be kept.

use cairn_core::{AccountId, Amount, NodeId};

use super::State;
use crate::effect::Effect;
use crate::epoch::FrozenSlot;
use crate::group::epoch_price;
use crate::tx::SlotRef;

impl State {
    /// Pays a node for all that it was to prove in the epoch that runs, each slot out of its
    /// group's escrow. What an escrow lacks stays unpaid. Gives whether there was anything to prove.
    pub(super) fn pay_node(&mut self, node: NodeId, effects: &mut Vec<Effect>) -> bool {
        let frozen_slots = self.frozen_slots(node);
        let mut due = Amount::ZERO;
        let mut paid = Amount::ZERO;
        let mut bounties = Amount::ZERO;
        let mut filled = Amount::ZERO;
        for (frozen, earned) in self.earnings(node, &frozen_slots) {
            due = Amount::from_micro(due.micro().saturating_add(earned.micro()));
            let taken = self.take_escrow(frozen.slot_ref().group, earned);
            paid = paid
                .checked_add(taken)
                .expect("escrows are part of the supply");
            let (bounty, refill) = self.pay_bounty(&frozen, node);
            bounties = bounties
                .checked_add(bounty)
                .expect("bounties are part of the supply");
            filled = filled
                .checked_add(refill)
                .expect("bounties are part of the supply");
        }
        let epoch = self.epoch.number;
        // A node's account has an entry since it registered.
        let account = AccountId::new(node.key());
        if due > Amount::ZERO {
            self.credit(account, paid);
            effects.push(Effect::Paid {
                node,
                epoch,
                due,
                amount: paid,
            });
        }
        if filled > Amount::ZERO {
            effects.push(Effect::CollateralFilled {
                node,
                amount: filled,
            });
        }
        if bounties > Amount::ZERO {
            self.credit(account, bounties);
            effects.push(Effect::BountyPaid {
                node,
                epoch,
                amount: bounties,
            });
        }
        !frozen_slots.is_empty()
    }

    /// What each frozen slot earns.
    fn earnings(&self, node: NodeId, slots: &[FrozenSlot]) -> Vec<(FrozenSlot, Amount)> {
        let earned = |frozen: &FrozenSlot| {
            let slot = frozen.slot_ref();
            let departed = self.departed.get(&(node, slot));
            let price = departed.map(|departed| departed.price);
            let price = price.or_else(|| self.price_of(slot, node))?;
            let earned = epoch_price(frozen.revision.slot_bytes, price);
            Some((*frozen, earned.unwrap_or(Amount::from_micro(u64::MAX))))
        };
        slots.iter().filter_map(earned).collect()
    }

    /// What a node that holds or leaves a slot is paid for it per GiB.
    pub(super) fn price_of(&self, slot: SlotRef, node: NodeId) -> Option<Amount> {
        let group = self.groups.get(&slot.group)?;
        group.deal(slot.slot)?.price_of(node)
    }
}
