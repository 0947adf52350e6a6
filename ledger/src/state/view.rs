//! The state as others look at it.

use cairn_core::{Amount, GroupId, NodeId};

use super::State;
use crate::epoch::{ChallengePage, FrozenSlot};
use crate::group::{Deal, Group, epoch_price};
use crate::query::{self, Question, Seen};
use crate::tx::SlotRef;
use crate::view::{EarningsView, GroupProof, GroupSummary};

impl State {
    /// What is seen of it.
    #[must_use]
    pub fn ask(&self, question: Question) -> Seen {
        let Ok(seen) = question.ask(self);
        seen
    }

    /// A page of what [`Self::challenge`] is drawn from: the slots above `after`.
    #[must_use]
    pub fn challenge_page(&self, node: NodeId, after: Option<SlotRef>) -> Option<ChallengePage> {
        let Ok(page) = query::challenge_page(self, node, after);
        page
    }

    /// The slots of which a node had acknowledged something when the epoch began, rising. The same
    /// from the epoch's first block to its last.
    #[must_use]
    pub fn frozen_slots(&self, node: NodeId) -> Vec<FrozenSlot> {
        let Ok((slots, _)) = query::frozen_page(self, node, None, usize::MAX);
        slots
    }

    /// What a node earned and spent, with its balance; `None` when it never registered.
    #[must_use]
    pub fn earnings_view(&self, node: NodeId) -> Option<EarningsView> {
        let Ok(view) = query::earnings_view(self, node);
        view
    }

    /// How a group is proven; `None` when it is unknown.
    #[must_use]
    pub fn group_proof(&self, id: GroupId) -> Option<GroupProof> {
        let Ok(proof) = query::group_proof(self, id);
        proof
    }
}

impl Group {
    /// It without its deals, and what it costs.
    #[must_use]
    pub fn summary(&self) -> GroupSummary {
        let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        GroupSummary {
            id: self.id,
            owner: self.owner,
            code: self.code,
            slot_capacity: self.slot_capacity,
            price_max: self.price_max,
            ends: self.ends,
            ending: self.ending,
            escrow: self.escrow,
            epoch_cost: self.epoch_cost(),
            opened: self.opened,
            revision: self.revision.number,
            slot_bytes: self.revision.slot_bytes,
            slot_count: count(self.deals.len()),
            current_count: count(self.current_count()),
        }
    }

    /// What an epoch takes out of the escrow when all its nodes prove what they have acknowledged
    /// now; the largest amount when it is more.
    #[must_use]
    pub fn epoch_cost(&self) -> Amount {
        let of_deal = |deal: &Deal| {
            let held = deal.holder().map(|_| (deal.acknowledged, deal.price));
            let left = deal
                .leaver
                .map(|leaver| (leaver.acknowledged, leaver.price));
            [held, left]
        };
        let parts = self.deals.iter().flat_map(of_deal).flatten();
        let micro = parts.fold(0_u64, |sum, (number, price)| {
            let bytes = self.revision_at(number).map(|revision| revision.slot_bytes);
            let earned = bytes.map(|bytes| epoch_price(bytes, price));
            // An earning above the largest amount counts as that.
            let earned = earned.map_or(0, |earned| earned.map_or(u64::MAX, Amount::micro));
            sum.saturating_add(earned)
        });
        Amount::from_micro(micro)
    }
}
