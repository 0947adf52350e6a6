//! What must hold of every state, checked in full.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::{
    AccountId, Amount, ByteCount, EpochNumber, GroupId, GroupRevision, NodeId, Record,
    RevisionNumber, VolumeId,
};

use super::check::segment_bytes_max;
use super::lapse::Sweep;
use super::table::{BoundSlot, OwnGroup};
use super::{Index, PendingDraw, State};
use crate::epoch::{Departed, Epoch, Frozen, KeptRevision};
use crate::group::{Deal, DealState, Due, Ending, Group};
use crate::node::{NodeEntry, NodeStatus};
use crate::trie::Trie;
use crate::tx::SlotRef;

/// What does not hold of a state: it was not made by applying blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Credits were made or destroyed (I4).
    #[error("expected a supply of {expected}, found {found} micro-credits in all")]
    Conservation {
        /// The supply.
        expected: Amount,
        /// Balances, escrows and fees.
        found: u128,
    },
    /// An account has less than the least balance.
    #[error("account {account}: expected a balance of at least {expected}, found {found}")]
    Balance {
        /// The account.
        account: AccountId,
        /// The least.
        expected: Amount,
        /// Its balance.
        found: Amount,
    },
    /// A sum kept beside the tables differs from them.
    #[error("the index does not follow from the tables")]
    Index,
    /// The trie is not that of the tables.
    #[error("the trie does not follow from the tables")]
    Trie,
    /// A node's used capacity is not that of its slots, or is above what it offers.
    #[error("node {node}: expected {expected} in use, found {found}")]
    Used {
        /// The node.
        node: NodeId,
        /// Capacity of the slots it holds or is leaving.
        expected: ByteCount,
        /// What is noted.
        found: ByteCount,
    },
    /// An entry stands under another key than its own.
    #[error("an entry of a table is under another's key")]
    Key,
    /// A group's deals are not n deals of n nodes.
    #[error("the deals of group {group} are malformed")]
    Deals {
        /// The group.
        group: GroupId,
    },
    /// A slot that needs a node is not queued once, or one that has a node is.
    #[error("the queue of draws does not follow from the deals")]
    Queue,
    /// What is kept for the epoch that runs is not what can come about in one.
    #[error("what is kept for the epoch is malformed")]
    Epoch,
    /// What a node has locked is not what its slots lock, or is above its collateral.
    #[error("node {node}: expected {expected} micro-credits locked, found {found}")]
    Locked {
        /// The node.
        node: NodeId,
        /// What its slots lock.
        expected: u128,
        /// What is noted.
        found: Amount,
    },
    /// What a node earned and spent does not add up to its balance.
    #[error("node {node}: expected earnings that make a balance of {expected}")]
    Earnings {
        /// The node.
        node: NodeId,
        /// Its account's balance.
        expected: Amount,
    },
    /// A slot is held by a node that is unknown, lost or, if it is to stay, draining.
    #[error("{slot} is held by {node}, which can't hold it")]
    Holder {
        /// The slot.
        slot: SlotRef,
        /// The node.
        node: NodeId,
    },
    /// The entry of a volume or one of its grants can't have come about.
    #[error("volume {volume}: its entry or a grant is malformed")]
    Volume {
        /// The volume.
        volume: VolumeId,
    },
    /// A notarisation can't have come about.
    #[error("a notarisation is malformed")]
    Notarisations,
    /// The term of the validators, or the one that is named, can't have come about.
    #[error("the term of the validators is malformed")]
    Term,
}

impl State {
    /// Checks everything that must hold of a state, in time proportional to its size.
    ///
    /// # Errors
    ///
    /// [`Unsound`] names the first that does not hold.
    pub fn audit(&self) -> Result<(), Unsound> {
        self.audit_tables()?;
        if self.trie == self.computed_trie() {
            Ok(())
        } else {
            Err(Unsound::Trie)
        }
    }

    /// Everything but whether the trie follows from the tables, which is most of the work and not in
    /// doubt when it was just made from them.
    pub(super) fn audit_tables(&self) -> Result<(), Unsound> {
        self.audit_conservation()?;
        self.audit_balances()?;
        if self.index != self.computed_index() {
            return Err(Unsound::Index);
        }
        let nodes_agree = self.nodes.iter().all(|(id, entry)| *id == entry.node);
        let groups_agree = self
            .groups
            .iter()
            .all(|(id, group)| *id == group.id && *id == group.revision.group);
        if !nodes_agree || !groups_agree {
            return Err(Unsound::Key);
        }
        for group in self.groups.values() {
            self.audit_deals(group)?;
        }
        self.audit_used()?;
        self.audit_locked()?;
        self.audit_queue()?;
        self.audit_earnings()?;
        self.audit_registry()?;
        self.audit_term()?;
        self.audit_epochs()
    }

    /// I4 by the sums kept beside the tables; [`Self::audit`] checks the sums.
    pub(super) fn assert_conserved(&self) {
        let fees = u128::from(self.fees.micro());
        let found = self
            .index
            .balances
            .checked_add(self.index.escrows)
            .and_then(|sum| sum.checked_add(self.index.collaterals))
            .and_then(|sum| sum.checked_add(fees));
        assert_eq!(
            found,
            Some(u128::from(self.supply.micro())),
            "credits are conserved (I4)"
        );
    }

    fn audit_conservation(&self) -> Result<(), Unsound> {
        let balances = self.accounts.values().map(|account| account.balance);
        let escrows = self.groups.values().map(|group| group.escrow);
        let deals = self.groups.values().flat_map(|group| &group.deals);
        let bounties = deals.map(|deal| deal.bounty);
        let collateral = self.nodes.values().map(|entry| entry.collateral);
        let found = balances
            .chain(escrows)
            .chain(bounties)
            .chain(collateral)
            .chain([self.fees])
            .fold(0_u128, |sum, amount| {
                sum.saturating_add(u128::from(amount.micro()))
            });
        if found != u128::from(self.supply.micro()) {
            return Err(Unsound::Conservation {
                expected: self.supply,
                found,
            });
        }
        Ok(())
    }

    fn audit_balances(&self) -> Result<(), Unsound> {
        let expected = self.parameters.account_min;
        let mut accounts = self.accounts.iter();
        match accounts.find(|(_, account)| account.balance < expected) {
            None => Ok(()),
            Some((id, account)) => Err(Unsound::Balance {
                account: *id,
                expected,
                found: account.balance,
            }),
        }
    }

    fn audit_deals(&self, group: &Group) -> Result<(), Unsound> {
        let malformed = Unsound::Deals { group: group.id };
        if !group.is_well_formed() {
            return Err(malformed);
        }
        let mut nodes = BTreeSet::new();
        for (slot, deal) in slots(group) {
            let bound = bound_nodes(deal);
            if !bound.iter().all(|node| nodes.insert(*node)) {
                return Err(malformed);
            }
            let leaver_price = deal.leaver.map_or(Amount::ZERO, |leaver| leaver.price);
            if deal.acknowledged > group.revision.number
                || deal.price.max(leaver_price) > group.price_max
                || (deal.state == DealState::Leaving && deal.leaver.is_some())
            {
                return Err(malformed);
            }
            for node in bound {
                let is_staying = node == deal.node && deal.state == DealState::Held;
                let fits = match self.nodes.get(&node).map(|entry| entry.status) {
                    Some(NodeStatus::Active) => is_staying,
                    Some(NodeStatus::Draining) => !is_staying,
                    Some(NodeStatus::Lost) | None => false,
                };
                if !fits {
                    return Err(Unsound::Holder { slot, node });
                }
            }
        }
        Ok(())
    }

    fn audit_used(&self) -> Result<(), Unsound> {
        let mut used: BTreeMap<NodeId, u128> = BTreeMap::new();
        for group in self.groups.values() {
            for (_, deal) in slots(group) {
                for node in bound_nodes(deal) {
                    let sum = used.entry(node).or_default();
                    *sum = sum.saturating_add(u128::from(group.slot_capacity.get()));
                }
            }
        }
        for (id, entry) in self.nodes.iter() {
            let expected = used.get(id).copied().unwrap_or(0);
            let agrees = expected == u128::from(entry.used.get());
            if !agrees || entry.used > entry.terms.capacity {
                return Err(Unsound::Used {
                    node: *id,
                    expected: ByteCount::new(u64::try_from(expected).unwrap_or(u64::MAX)),
                    found: entry.used,
                });
            }
        }
        Ok(())
    }

    fn audit_locked(&self) -> Result<(), Unsound> {
        let mut locked: BTreeMap<NodeId, u128> = BTreeMap::new();
        for deal in self.groups.values().flat_map(|group| &group.deals) {
            let holder = deal.holder().map(|node| (node, deal.collateral));
            let leaver = deal.leaver.map(|leaver| (leaver.node, leaver.collateral));
            for (node, collateral) in holder.into_iter().chain(leaver) {
                let sum = locked.entry(node).or_default();
                *sum = sum.saturating_add(u128::from(collateral.micro()));
            }
        }
        for (id, entry) in self.nodes.iter() {
            let expected = locked.get(id).copied().unwrap_or(0);
            let agrees = expected == u128::from(entry.locked.micro());
            if !agrees || entry.locked > entry.collateral {
                return Err(Unsound::Locked {
                    node: *id,
                    expected,
                    found: entry.locked,
                });
            }
        }
        Ok(())
    }

    fn audit_queue(&self) -> Result<(), Unsound> {
        let queued: BTreeSet<PendingDraw> = self
            .draws
            .iter()
            .chain(self.waiting.keys().copied().map(PendingDraw::Slot))
            .collect();
        let listed = self.draws.iter().count();
        let listed = listed.saturating_add(self.waiting.len());
        let is_released = |group: &Group| matches!(group.ending, Some(Ending::Released(_)));
        let unplaced = self
            .groups
            .values()
            .filter(|group| !group.is_placed() && !is_released(group))
            .map(|group| PendingDraw::Group(group.id));
        let open_slots = self
            .groups
            .values()
            .flat_map(slots)
            .filter(|(_, deal)| matches!(deal.state, DealState::Leaving | DealState::Vacant))
            .map(|(slot, _)| PendingDraw::Slot(slot));
        let needed: BTreeSet<PendingDraw> = unplaced.chain(open_slots).collect();
        // What is left in the queue of a group that has ended is passed over.
        let is_moot = |draw: &&PendingDraw| {
            let (PendingDraw::Group(id) | PendingDraw::Slot(SlotRef { group: id, .. })) = draw;
            self.groups.get(id).is_none_or(is_released)
        };
        let more = queued.difference(&needed);
        let is_due_in_order = self.draws.are_in_order(self.draws_due());
        if queued.len() != listed
            || !needed.is_subset(&queued)
            || !more.into_iter().all(|draw| is_moot(&draw))
            || !is_due_in_order
        {
            return Err(Unsound::Queue);
        }
        Ok(())
    }

    fn audit_epochs(&self) -> Result<(), Unsound> {
        let number = self.epoch.number;
        let ahead_max = u64::from(self.parameters.maintenance_epochs_max.max(1));
        let stands = |entry: &NodeEntry| {
            let standing = &entry.standing;
            let judged = standing.verdict.map_or(number, |(epoch, _)| epoch);
            standing.covered <= self.epoch.judged.saturating_add(ahead_max)
                && standing.frozen.epoch <= number
                && judged <= number
                && entry.score.is_sound(number)
        };
        let are_sound = if self.has_epochs() {
            number == self.epoch_at(self.time)
                && self
                    .groups
                    .values()
                    .all(|group| keeps_what_it_needs(group, number))
                && self
                    .departed
                    .iter()
                    .all(|(key, departed)| self.has_departed(*key, departed))
        } else {
            let keeps_nothing = |group: &Group| {
                group.kept.is_empty() && group.due == Due::default() && group.owed == Amount::ZERO
            };
            self.epoch == Epoch::default()
                && self.sweep == Sweep::default()
                && self.group_sweep.left == 0
                && self.group_sweep.after.is_none()
                && self.departed.is_empty()
                && self.groups.values().all(keeps_nothing)
        };
        if are_sound && self.nodes.values().all(stands) {
            Ok(())
        } else {
            Err(Unsound::Epoch)
        }
    }

    fn has_departed(&self, (node, slot): (NodeId, SlotRef), departed: &Departed) -> bool {
        let frozen = departed.frozen(slot);
        self.nodes.contains_key(&node)
            && slot.slot.index() < usize::from(frozen.slot_count)
            && frozen.revision.number > RevisionNumber::ZERO
            && is_provable(&frozen.revision)
    }

    /// Fills in what is not part of the encoding.
    pub(super) fn rebuild_index(&mut self) {
        self.index = self.computed_index();
        self.trie = Trie::default();
        self.note_changes();
    }

    fn computed_index(&self) -> Index {
        let mut index = Index {
            audit_nodes: self.audit_nodes(),
            registry: self.registry.index(),
            ..Index::default()
        };
        for account in self.accounts.values() {
            let balance = u128::from(account.balance.micro());
            index.balances = index.balances.saturating_add(balance);
        }
        for group in self.groups.values() {
            let escrow = u128::from(group.escrow.micro());
            let slots_of_group = u64::from(group.code.n());
            index.slot_count = index.slot_count.saturating_add(slots_of_group);
            index.escrows = index.escrows.saturating_add(escrow);
            if group.is_marked {
                index.marked.insert(group.id);
            }
            index.groups.insert((group.owner, group.id), OwnGroup);
            for (slot, deal) in slots(group) {
                let bounty = u128::from(deal.bounty.micro());
                index.escrows = index.escrows.saturating_add(bounty);
                for node in bound_nodes(deal) {
                    index.slots.insert((node, slot), BoundSlot);
                }
            }
        }
        let active = |status: NodeStatus| u64::from(status == NodeStatus::Active);
        for entry in self.nodes.values() {
            let collateral = u128::from(entry.collateral.micro());
            index.collaterals = index.collaterals.saturating_add(collateral);
            index.active_count = index.active_count.saturating_add(active(entry.status));
            if let Some(verdict) = entry.standing.verdict_of(self.epoch.number) {
                index.count_verdict(verdict);
            }
        }
        index
    }
}

/// Whether a group has every revision that its deals refer to, and only ones that can be proven.
fn keeps_what_it_needs(group: &Group, epoch: EpochNumber) -> bool {
    let kept_max = group.deals.len().saturating_add(1).saturating_mul(4);
    let is_old = |kept: &KeptRevision| {
        kept.number > RevisionNumber::ZERO
            && kept.number < group.revision.number
            && is_provable(&kept.in_group(group.id))
    };
    let is_whole = |deal: &Deal| {
        let is_past = |frozen: Frozen| frozen.epoch <= epoch;
        let mut needed = deal.revisions(epoch);
        is_past(deal.frozen)
            && deal.leaver.is_none_or(|leaver| is_past(leaver.frozen))
            && needed.all(|number| group.revision_at(number).is_some())
    };
    let due = &group.due;
    group.kept.len() <= kept_max
        && group.begun.epoch <= epoch
        && group.begun.revision <= group.revision.number
        && due.revision <= due.next
        && due.next <= group.revision.number
        && due.since <= epoch
        && is_provable(&group.revision)
        && group.kept.iter().all(is_old)
        && group.deals.iter().all(is_whole)
}

fn is_provable(revision: &GroupRevision) -> bool {
    revision.is_well_formed() && revision.slot_bytes <= segment_bytes_max(revision)
}

fn slots(group: &Group) -> impl Iterator<Item = (SlotRef, &Deal)> {
    let slot_ref = |slot| SlotRef {
        group: group.id,
        slot,
    };
    group.code.slots().map(slot_ref).zip(&group.deals)
}

/// The nodes that a deal binds: its holder and its leaver.
fn bound_nodes(deal: &Deal) -> Vec<NodeId> {
    deal.holder()
        .into_iter()
        .chain(deal.leaver.map(|leaver| leaver.node))
        .collect()
}
