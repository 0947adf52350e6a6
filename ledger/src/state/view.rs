//! The state as people look at it.

use std::ops::Bound;

use cairn_core::{
    AccountId, Amount, Bounded, EpochNumber, GroupId, NodeId, RevisionNumber, UnixMillis,
};

use super::State;
use crate::block::Verdict;
use crate::epoch::Standing;
use crate::group::{Deal, Group, epoch_price};
use crate::node::NodeEntry;
use crate::view::{
    EarningsView, EpochView, GROUPS_PAGE_MAX, GroupProof, GroupSummary, NODES_PAGE_MAX, SlotProof,
};

impl State {
    /// The epoch that runs.
    #[must_use]
    pub fn epoch_view(&self) -> EpochView {
        let length = self.parameters.epoch_millis;
        let age = self.epoch.number.get().saturating_mul(length);
        let (valid_count, invalid_count) = self.index.verdicts;
        EpochView {
            epoch: self.epoch,
            epoch_millis: length,
            began: UnixMillis::new(self.began.get().saturating_add(age)),
            time: self.time,
            active_node_count: self.index.active_count,
            valid_count,
            invalid_count,
        }
    }

    /// A page of the nodes, rising above `after`.
    ///
    /// # Panics
    ///
    /// Never: no more are taken than a page holds.
    #[must_use]
    pub fn nodes_page(&self, after: Option<NodeId>) -> Bounded<NodeEntry, NODES_PAGE_MAX> {
        let nodes = self.nodes.range((above(after), Bound::Unbounded));
        let nodes = nodes.take(NODES_PAGE_MAX);
        Bounded::new(nodes.map(|(_, entry)| entry.clone()).collect()).expect("as many were taken")
    }

    /// A page of an owner's or all groups, rising above `after`.
    ///
    /// # Panics
    ///
    /// Never: no more are taken than a page holds.
    #[must_use]
    pub fn groups_page(
        &self,
        owner: Option<AccountId>,
        after: Option<GroupId>,
    ) -> Bounded<GroupSummary, GROUPS_PAGE_MAX> {
        let range = (above(after), Bound::Unbounded);
        let groups: Vec<GroupSummary> = match owner {
            None => {
                let groups = self.groups.range(range).take(GROUPS_PAGE_MAX);
                groups.map(|(_, group)| group.summary()).collect()
            }
            Some(owner) => {
                let own = self.index.groups.get(&owner).into_iter();
                let ids = own.flat_map(|ids| ids.range(range)).take(GROUPS_PAGE_MAX);
                let groups = ids.filter_map(|id| self.groups.get(id));
                groups.map(Group::summary).collect()
            }
        };
        Bounded::new(groups).expect("as many were taken")
    }

    /// What a node earned and spent, with its balance; `None` when it never registered.
    #[must_use]
    pub fn earnings_view(&self, node: NodeId) -> Option<EarningsView> {
        Some(EarningsView {
            node,
            height: self.height,
            time: self.time,
            epoch: self.epoch.number,
            balance: self.account(AccountId::new(node.key())).balance,
            earnings: self.earnings.get(&node)?.clone(),
        })
    }

    /// How a group is proven; `None` when it is unknown.
    ///
    /// # Panics
    ///
    /// Never: a code has no more slots than the list holds.
    #[must_use]
    pub fn group_proof(&self, id: GroupId) -> Option<GroupProof> {
        let group = self.groups.get(&id)?;
        let deals = group.code.slots().zip(&group.deals);
        let slots = deals.filter_map(|(slot, deal)| {
            let node = deal.holder()?;
            let standing = &self.nodes.get(&node)?.standing;
            let (epoch, number) = proven(deal, standing)?;
            Some(SlotProof {
                slot,
                node,
                epoch,
                revision: number,
                segment_count: group.revision_at(number)?.segment_count,
            })
        });
        Some(GroupProof {
            height: self.height,
            time: self.time,
            tip: self.tip,
            epoch: self.epoch.number,
            group: id,
            owner: group.owner,
            code: group.code,
            revision: group.revision,
            slots: Bounded::new(slots.collect()).expect("a code has at most so many slots"),
        })
    }
}

/// The epoch that a slot's holder proved last and the revision of the slot that it proved then.
/// `None` when its last proof was invalid or had nothing of the slot, when the slot has changed
/// since so that what was proven can't be told any more, and when its loss was declared.
fn proven(deal: &Deal, standing: &Standing) -> Option<(EpochNumber, RevisionNumber)> {
    let (epoch, verdict) = standing.verdict?;
    let is_known = verdict == Verdict::Valid && deal.frozen.epoch <= epoch;
    let revision = deal.frozen.at(epoch, deal.acknowledged);
    // What was declared lost since is not there any more, whatever was proven.
    let is_there = RevisionNumber::ZERO < revision && revision <= deal.acknowledged;
    (is_known && is_there).then_some((epoch, revision))
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

fn above<T>(after: Option<T>) -> Bound<T> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}
