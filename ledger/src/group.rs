//! Groups and their deals as the ledger knows them.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::code::SLOTS_MAX;
use cairn_core::{
    AccountId, Amount, ByteCount, Code, EpochNumber, GroupId, GroupRevision, GroupRoot, Height,
    NodeId, RevisionNumber, SlotIndex,
};

use crate::epoch::{Frozen, FrozenSlot, KeptRevision};

/// A group as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Who owns and revises it.
    pub owner: AccountId,
    /// Its erasure code.
    pub code: Code,
    /// Most bytes of each slot.
    pub slot_capacity: ByteCount,
    /// Most that a node may ask, in micro-credits per GiB and epoch.
    pub price_max: Amount,
    /// The epoch with which its term ends: it may still be extended in the epochs of grace after it.
    /// Without epochs it means nothing.
    pub ends: EpochNumber,
    /// How it ends, once it does.
    pub ending: Option<Ending>,
    /// Locked for it.
    pub escrow: Amount,
    /// What its nodes earned and the escrow did not have, since it was extended last; the largest amount
    /// when it is more. Whoever extends it pays this to the fees.
    pub owed: Amount,
    /// Height of the block that opened it.
    pub opened: Height,
    /// Its current revision; number 0 is the empty group, whose root is all zeros.
    pub revision: GroupRevision,
    /// What was its revision when the epoch of the last one began.
    pub begun: Frozen,
    /// Revisions before it that are still needed, rising; none while there are no epochs.
    pub kept: Vec<KeptRevision>,
    /// What its nodes must have by now.
    pub due: Due,
    /// The deal of each slot; n of them, or none while the group is not drawn.
    pub deals: Vec<Deal>,
    /// Caps that its nodes exceeded at the last draw, rising by [`Cap`].
    pub relaxed: Vec<RelaxedCap>,
    /// Whether something happened to one of its slots, so that the next block looks whether others
    /// must be drawn.
    pub is_marked: bool,
}

impl Group {
    /// Whether its slots are drawn.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        !self.deals.is_empty()
    }

    /// The deal of a slot; `None` past n and while the group is not drawn.
    #[must_use]
    pub fn deal(&self, slot: SlotIndex) -> Option<&Deal> {
        self.deals.get(slot.index())
    }

    /// Slots whose node has acknowledged the current revision and stays.
    #[must_use]
    pub fn current_count(&self) -> usize {
        let current = |deal: &&Deal| {
            deal.state == DealState::Held && deal.acknowledged == self.revision.number
        };
        self.deals.iter().filter(current).count()
    }

    /// Whether it goes on: it can be revised, and its slots are held.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.ending.is_none()
    }

    /// The revision of this number; `None` when it is to come or no longer kept.
    #[must_use]
    pub fn revision_at(&self, number: RevisionNumber) -> Option<GroupRevision> {
        if number == self.revision.number {
            return Some(self.revision);
        }
        if number == RevisionNumber::ZERO {
            return Some(empty_revision(self.id));
        }
        let found = self.kept.binary_search_by_key(&number, |kept| kept.number);
        let kept = self.kept.get(found.ok()?)?;
        Some(kept.in_group(self.id))
    }

    /// What `epoch`, which runs, froze of a slot for a node that holds or leaves it; `None` for
    /// another node.
    #[must_use]
    pub fn frozen(&self, slot: SlotIndex, node: NodeId, epoch: EpochNumber) -> Option<FrozenSlot> {
        let deal = self.deal(slot)?;
        let number = deal.frozen_of(node, epoch)?;
        Some(FrozenSlot {
            revision: self.revision_at(number)?,
            slot,
            slot_count: self.code.n(),
        })
    }

    /// Structural rules: n deals or none, and at most one entry for each cap.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let drawn = self.deals.len();
        (drawn == 0 || drawn == self.code.shard_count())
            && self.relaxed.is_sorted_by(|a, b| a.cap < b.cap)
            && self.kept.is_sorted_by(|a, b| a.number < b.number)
    }
}

/// Which revision the nodes of a group must have by now: one that enough of them had to rebuild it
/// from, long enough ago. So nobody is late with what can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Due {
    /// The revision; number 0 while there is none.
    pub revision: RevisionNumber,
    /// The one that is due next; the same when there is none yet.
    pub next: RevisionNumber,
    /// The epoch in which `next` was seen first; while there was none, in which the group was opened or
    /// got its first revision.
    pub since: EpochNumber,
}

impl Due {
    /// Goes on to what is due in `epoch`: what was `reached` `after` epochs ago, at most twice that, and
    /// can be had still.
    pub(crate) fn pass(&mut self, epoch: EpochNumber, reached: RevisionNumber, after: u64) {
        // Nobody gives way for what is lost; those who have less are the best there is. That there was
        // something is not forgotten.
        let most = reached.max(RevisionNumber::new(1));
        if self.next > most {
            self.next = most;
            self.revision = self.revision.min(most);
            self.since = epoch;
        }
        if self.is_pending() && self.age(epoch) >= after {
            self.revision = self.next;
        }
        let is_fresh = self.since == epoch || !self.is_pending();
        if is_fresh && reached > self.next {
            self.next = reached;
            self.since = epoch;
        }
    }

    /// Epochs since `since`.
    pub(crate) const fn age(&self, epoch: EpochNumber) -> u64 {
        epoch.get().saturating_sub(self.since.get())
    }

    fn is_pending(&self) -> bool {
        self.next > self.revision
    }
}

/// How a group ends. Its nodes are paid for every epoch that they had something frozen of it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Ending {
    /// Its owner closed it in this epoch: its slots are released in the next.
    Asked(EpochNumber),
    /// Its slots were released in this epoch: it is gone in the next, and what is left of its escrow
    /// with its owner.
    Released(EpochNumber),
}

/// Healthy slots at and below which a group's vacant slots are drawn anew: k + ceil(0.7 (n - k)),
/// and below n. The figure is that of DESIGN.md section 4 for 20-of-40: 34.
#[must_use]
pub fn lazy_max(code: Code) -> usize {
    threshold(code, 70).min(usize::from(code.n()).saturating_sub(1))
}

/// Healthy slots at and below which the slots of suspect nodes are drawn anew too: k + ceil(0.35 (n -
/// k)). For 20-of-40: 27.
#[must_use]
pub fn urgent_max(code: Code) -> usize {
    threshold(code, 35).min(lazy_max(code))
}

/// k and `percent` of the parity slots, rounded up.
fn threshold(code: Code, percent: usize) -> usize {
    let k = usize::from(code.k());
    let parity = usize::from(code.n()).saturating_sub(k);
    k.saturating_add(parity.saturating_mul(percent).div_ceil(100))
}

/// The revision of a group that holds nothing yet.
#[must_use]
pub fn empty_revision(group: GroupId) -> GroupRevision {
    GroupRevision {
        group,
        number: RevisionNumber::ZERO,
        segment_count: 0,
        slot_bytes: ByteCount::ZERO,
        group_root: GroupRoot::default(),
    }
}

/// The price of a group's slots for its whole term, rounded up: `price` per GiB and epoch. `None`
/// above the largest amount.
#[must_use]
pub fn term_price(
    code: Code,
    slot_capacity: ByteCount,
    price: Amount,
    term_epochs: u32,
) -> Option<Amount> {
    const GIB: u128 = 1 << 30;
    u128::from(price.micro())
        .checked_mul(u128::from(slot_capacity.get()))?
        .checked_mul(u128::from(code.n()))?
        .checked_mul(u128::from(term_epochs))
        .map(|price| price.div_ceil(GIB))
        .and_then(|price| u64::try_from(price).ok())
        .map(Amount::from_micro)
}

/// What a slot of these bytes earns in one proven epoch, rounded down: what is lost to rounding
/// stays in the escrow. `None` above the largest amount.
#[must_use]
pub fn epoch_price(slot_bytes: ByteCount, price: Amount) -> Option<Amount> {
    price.prorate_floor(slot_bytes.get(), 1 << 30)
}

/// [`epoch_price`] for so many epochs; the largest amount when it is more.
#[must_use]
pub fn price_for(slot_bytes: ByteCount, price: Amount, epochs: u32) -> Amount {
    epoch_price(slot_bytes, price)
        .and_then(|price| price.micro().checked_mul(u64::from(epochs)))
        .map_or(Amount::from_micro(u64::MAX), Amount::from_micro)
}

/// The binding of one slot to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Deal {
    /// Who holds the slot, or last held it when [`DealState::Vacant`] or [`DealState::Idle`].
    pub node: NodeId,
    /// Who held it before, as a source to catch up from.
    pub previous: Option<NodeId>,
    /// Height of the block that drew `node`.
    pub since: Height,
    /// What `node` offered then: paid per GiB and proven epoch, whatever it offers later.
    pub price: Amount,
    /// Newest revision that `node` says it holds whole.
    pub acknowledged: RevisionNumber,
    /// What it had acknowledged when the epoch of the last change began.
    pub frozen: Frozen,
    /// Whether it goes on.
    pub state: DealState,
    /// The draining node that holds the slot too until `node` has what it had.
    pub leaver: Option<Leaver>,
    /// What `node` has locked of its collateral for it.
    pub collateral: Amount,
    /// For whoever proves the slot next: what the one who lost it paid for its repair.
    pub bounty: Amount,
    /// The epoch since which `node` has had time to catch up: in which it was drawn, declared the loss, or
    /// the group got its first revision.
    pub behind_since: EpochNumber,
}

impl Deal {
    /// The node that holds the slot; `None` when nobody does.
    #[must_use]
    pub const fn holder(&self) -> Option<NodeId> {
        match self.state {
            DealState::Held | DealState::Leaving => Some(self.node),
            DealState::Vacant | DealState::Idle => None,
        }
    }

    /// Changes what is acknowledged, in the epoch that runs.
    pub(crate) fn acknowledge(&mut self, revision: RevisionNumber, epoch: EpochNumber) {
        self.frozen = Frozen {
            epoch,
            revision: self.frozen.at(epoch, self.acknowledged),
        };
        self.acknowledged = revision;
    }

    /// The node has nothing any more, and time to catch up.
    pub(crate) fn declare_loss(&mut self, epoch: EpochNumber) {
        self.acknowledge(RevisionNumber::ZERO, epoch);
        self.behind_since = epoch;
    }

    /// Its holder and its leaver, each with what it has acknowledged.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (NodeId, RevisionNumber)> {
        let holder = self.holder().map(|node| (node, self.acknowledged));
        let leaver = self.leaver.map(|leaver| (leaver.node, leaver.acknowledged));
        holder.into_iter().chain(leaver)
    }

    /// The revision that `epoch`, which runs, froze for a node that holds or leaves the slot;
    /// `None` for nothing, and for another node.
    #[must_use]
    pub fn frozen_of(&self, node: NodeId, epoch: EpochNumber) -> Option<RevisionNumber> {
        let number = match self.leaver {
            Some(leaver) if leaver.node == node => leaver.frozen.at(epoch, leaver.acknowledged),
            _ if self.holder() == Some(node) => self.frozen.at(epoch, self.acknowledged),
            _ => return None,
        };
        (number > RevisionNumber::ZERO).then_some(number)
    }

    /// What a node that holds or leaves the slot is paid per GiB and proven epoch; `None` for
    /// another node.
    #[must_use]
    pub fn price_of(&self, node: NodeId) -> Option<Amount> {
        match self.leaver {
            Some(leaver) if leaver.node == node => Some(leaver.price),
            _ if self.holder() == Some(node) => Some(self.price),
            _ => None,
        }
    }

    /// Revisions that it refers to.
    pub(crate) fn revisions(&self, epoch: EpochNumber) -> impl Iterator<Item = RevisionNumber> {
        let held = self
            .holder()
            .map(|_| [self.acknowledged, self.frozen.at(epoch, self.acknowledged)]);
        let left = self.leaver.map(|leaver| {
            let frozen = leaver.frozen.at(epoch, leaver.acknowledged);
            [leaver.acknowledged, frozen]
        });
        held.into_iter().chain(left).flatten()
    }
}

/// Whether a deal goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum DealState {
    /// The node holds the slot or is catching up with it.
    Held,
    /// The node is draining and holds the slot; its successor is to be drawn.
    Leaving,
    /// The node is gone; its successor is to be drawn.
    Vacant,
    /// The node is gone. Enough others are healthy, so no successor is drawn yet.
    Idle,
}

/// A draining node whose successor is drawn. Its deal ends when the successor acknowledges at
/// least this revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Leaver {
    /// The draining node.
    pub node: NodeId,
    /// What it is paid per GiB and proven epoch.
    pub price: Amount,
    /// What it had acknowledged when its successor was drawn; at least 1.
    pub acknowledged: RevisionNumber,
    /// What it had acknowledged when the epoch of the last change began.
    pub frozen: Frozen,
    /// What it has locked of its collateral for the slot.
    pub collateral: Amount,
}

/// A cap on how many slots of a group share something. Rising order is the order of relaxing: the
/// first is given up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Cap {
    /// Slots in one region: ceil(n / 8).
    Region,
    /// Slots in one network prefix: ceil(n / 16).
    Network,
    /// Slots at one hosting provider: ceil(n / 16).
    Provider,
    /// Slots of one operator: 1.
    Operator,
}

impl Cap {
    /// Every cap, the first to be relaxed first.
    pub const ALL: [Self; 4] = [Self::Region, Self::Network, Self::Provider, Self::Operator];

    /// Most slots of a group of `code` under this cap.
    #[must_use]
    pub const fn of(self, code: Code) -> u8 {
        match self {
            Self::Region => code.n().div_ceil(8),
            Self::Network | Self::Provider => code.n().div_ceil(16),
            Self::Operator => 1,
        }
    }
}

/// A cap that the nodes drawn exceed, because too few others had room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RelaxedCap {
    /// Which.
    pub cap: Cap,
    /// What it should be.
    pub max: u8,
    /// What it had to be: the most slots that share one value.
    pub found: u8,
}

const _: () = assert!(SLOTS_MAX <= 255, "a cap fits a byte");
