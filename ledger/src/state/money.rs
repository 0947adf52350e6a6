//! What is put down, locked and taken: nodes' collateral and groups' escrows.
//!
//! Credits are in balances, fees, collateral, escrows and bounties; each function here moves them from
//! one to another and keeps the sums of the index.

use cairn_core::{AccountId, Amount, ByteCount, GroupId, NodeId};

use super::State;
use crate::effect::Effect;
use crate::epoch::FrozenSlot;
use crate::group::{Deal, Ending, price_for};
use crate::movement::Cause;
use crate::tx::SlotRef;

impl State {
    /// What a node that asks this price locks for a slot of this capacity. What is at stake is the node's
    /// own choice and not the owner's.
    #[must_use]
    pub fn collateral(&self, slot_capacity: ByteCount, price: Amount) -> Amount {
        price_for(slot_capacity, price, self.parameters.collateral_epochs)
    }

    /// What the holder of a slot locks for it.
    fn collateral_of(&self, slot: SlotRef) -> Amount {
        let group = self.groups.get(&slot.group);
        let deal = group.and_then(|group| Some((group, group.deal(slot.slot)?)));
        deal.map_or(Amount::ZERO, |(group, deal)| {
            self.collateral(group.slot_capacity, deal.price)
        })
    }

    pub(super) fn put_down(&mut self, node: NodeId, amount: Amount, effects: &mut Vec<Effect>) {
        self.add_collateral(node, amount);
        effects.push(Effect::CollateralAdded { node, amount });
        // It may be drawn for what nobody could take.
        self.retry_waiting();
    }

    pub(super) fn take_back(&mut self, node: NodeId, amount: Amount, effects: &mut Vec<Effect>) {
        self.take_collateral(node, amount);
        let account = AccountId::new(node.key());
        self.credit(account, amount);
        self.tell_moved(account, Cause::CollateralTaken, amount, effects);
        effects.push(Effect::CollateralTaken { node, amount });
    }

    fn add_collateral(&mut self, node: NodeId, amount: Amount) {
        let Some(entry) = self.nodes.get_mut(&node) else {
            return;
        };
        entry.collateral = sum(entry.collateral, amount);
        self.index.collaterals = self
            .index
            .collaterals
            .checked_add(u128::from(amount.micro()))
            .expect("a sum of 2^64 amounts fits");
    }

    fn take_collateral(&mut self, node: NodeId, amount: Amount) {
        let Some(entry) = self.nodes.get_mut(&node) else {
            return;
        };
        entry.collateral = rest(entry.collateral, amount);
        self.index.collaterals = self
            .index
            .collaterals
            .checked_sub(u128::from(amount.micro()))
            .expect("the sum of collateral holds each of them");
    }

    /// Locks what the deal of a slot asks of its node, which was drawn because it has it.
    pub(super) fn lock_collateral(&mut self, slot: SlotRef, node: NodeId) {
        let collateral = self.collateral_of(slot);
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.locked = sum(entry.locked, collateral);
        }
        if let Some(deal) = self.deal_mut(slot) {
            deal.collateral = collateral;
        }
    }

    /// Frees what is locked for a slot of a node that holds or leaves it.
    pub(super) fn unlock_collateral(&mut self, slot: SlotRef, node: NodeId) {
        let taken = self
            .deal_mut(slot)
            .and_then(|deal| collateral_mut(deal, node))
            .map(std::mem::take);
        if let (Some(taken), Some(entry)) = (taken, self.nodes.get_mut(&node)) {
            entry.locked = rest(entry.locked, taken);
        }
    }

    /// Takes the price of a slot's repair out of what the node that lost it had locked, for whoever
    /// proves the slot next. A node that had acknowledged nothing lost nothing.
    pub(super) fn forfeit(&mut self, slot: SlotRef, node: NodeId) -> Amount {
        let price = self.repair_price(slot, node);
        let Some(deal) = self.deal_mut(slot) else {
            return Amount::ZERO;
        };
        let Some(collateral) = collateral_mut(deal, node) else {
            return Amount::ZERO;
        };
        let taken = price.min(*collateral);
        *collateral = rest(*collateral, taken);
        deal.bounty = sum(deal.bounty, taken);
        self.give_up(node, taken);
        taken
    }

    /// Of a slot's bytes as the node had acknowledged them.
    fn repair_price(&self, slot: SlotRef, node: NodeId) -> Amount {
        let price = || {
            let group = self.groups.get(&slot.group)?;
            let deal = group.deal(slot.slot)?;
            let left = deal.leaver.filter(|leaver| leaver.node == node);
            let (number, price) = left.map_or((deal.acknowledged, deal.price), |leaver| {
                (leaver.acknowledged, leaver.price)
            });
            let revision = group.revision_at(number)?;
            let epochs = self.parameters.repair_epochs;
            Some(price_for(revision.slot_bytes, price, epochs))
        };
        price().unwrap_or(Amount::ZERO)
    }

    /// After an invalid proof: a part of what is locked for each slot that was to be proven goes to
    /// the slot's group.
    pub(super) fn slash(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        let percent = u64::from(self.parameters.slash_percent).min(100);
        let mut slashed = Amount::ZERO;
        for frozen in self.frozen_slots(node) {
            let slot = frozen.slot_ref();
            let taken = self
                .deal_mut(slot)
                .and_then(|deal| collateral_mut(deal, node))
                .map_or(Amount::ZERO, |collateral| {
                    let taken = collateral.prorate_floor(percent, 100);
                    let taken = taken.unwrap_or(Amount::ZERO).min(*collateral);
                    *collateral = rest(*collateral, taken);
                    taken
                });
            if let Some(group) = self.groups.get_mut(&slot.group) {
                group.escrow = sum(group.escrow, taken);
                self.give_up(node, taken);
                slashed = sum(slashed, taken);
            }
        }
        if slashed > Amount::ZERO {
            let epoch = self.epoch.number;
            effects.push(Effect::Slashed {
                node,
                epoch,
                amount: slashed,
            });
        }
    }

    /// Locked collateral that was added to an escrow or a bounty.
    fn give_up(&mut self, node: NodeId, amount: Amount) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.locked = rest(entry.locked, amount);
        }
        self.take_collateral(node, amount);
        self.index.escrows = self
            .index
            .escrows
            .checked_add(u128::from(amount.micro()))
            .expect("a sum of 2^64 amounts fits");
    }

    /// Pays a node what others forfeited for a slot that it holds and has proven now. Collateral that
    /// the slot lacks is filled up first, so that nobody frees his own by declaring losses. Of a group
    /// that was released in this epoch the last holder is paid, and locks nothing any more. Gives what is
    /// to be paid, and what was filled up.
    pub(super) fn pay_bounty(&mut self, frozen: &FrozenSlot, node: NodeId) -> (Amount, Amount) {
        const NOTHING: (Amount, Amount) = (Amount::ZERO, Amount::ZERO);
        let slot = frozen.slot_ref();
        let ending = self.groups.get(&slot.group).and_then(|group| group.ending);
        let is_released = matches!(ending, Some(Ending::Released(_)));
        let wanted = if is_released {
            Amount::ZERO
        } else {
            self.collateral_of(slot)
        };
        let Some(deal) = self.deal_mut(slot) else {
            return NOTHING;
        };
        // Nothing is due for what it has left or was given after the epoch began.
        let holder = deal.holder().or(is_released.then_some(deal.node));
        if holder != Some(node) || deal.acknowledged < frozen.revision.number {
            return NOTHING;
        }
        let bounty = std::mem::take(&mut deal.bounty);
        let refill = bounty.min(rest(wanted, deal.collateral.min(wanted)));
        deal.collateral = sum(deal.collateral, refill);
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.locked = sum(entry.locked, refill);
        }
        self.add_collateral(node, refill);
        self.leave_escrow(bounty);
        (rest(bounty, refill), refill)
    }

    /// A bounty that nobody can earn any more goes to the fees: not to the owner, who decides when a
    /// group ends.
    pub(super) fn forgo_bounty(&mut self, bounty: Amount) {
        self.leave_escrow(bounty);
        self.fees = sum(self.fees, bounty);
    }

    /// Takes up to `wanted` out of an escrow. One that is dry ends the group's term: the owner has
    /// the epochs of grace to fill it again, and pays for these then.
    pub(super) fn take_escrow(&mut self, group: GroupId, wanted: Amount) -> Amount {
        let epoch = self.epoch.number;
        let Some(group) = self.groups.get_mut(&group) else {
            return Amount::ZERO;
        };
        let taken = wanted.min(group.escrow);
        group.escrow = rest(group.escrow, taken);
        if taken < wanted {
            group.ends = group.ends.min(epoch);
            let unpaid = rest(wanted, taken).micro();
            group.owed = Amount::from_micro(group.owed.micro().saturating_add(unpaid));
        }
        self.leave_escrow(taken);
        taken
    }

    pub(super) fn enter_escrow(&mut self, amount: Amount) {
        self.index.escrows = self
            .index
            .escrows
            .checked_add(u128::from(amount.micro()))
            .expect("a sum of 2^64 amounts fits");
    }

    pub(super) fn leave_escrow(&mut self, amount: Amount) {
        self.index.escrows = self
            .index
            .escrows
            .checked_sub(u128::from(amount.micro()))
            .expect("the sum of escrows holds each of them");
    }
}

/// What is locked for a slot of a node that holds or leaves it.
fn collateral_mut(deal: &mut Deal, node: NodeId) -> Option<&mut Amount> {
    let is_holder = deal.holder() == Some(node);
    match &mut deal.leaver {
        Some(leaver) if leaver.node == node => Some(&mut leaver.collateral),
        _ if is_holder => Some(&mut deal.collateral),
        _ => None,
    }
}

fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).expect("amounts are part of the supply")
}

fn rest(a: Amount, b: Amount) -> Amount {
    a.checked_sub(b).expect("no more is taken than is there")
}
