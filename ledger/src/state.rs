//! The ledger's state.

mod apply;
mod audit;
mod check;
mod commitment;
mod draws;
mod earnings;
pub(crate) mod entries;
mod epoch;
mod lapse;
mod money;
mod pay;
mod prove;
mod reclaim;
mod registry;
mod repair;
mod slots;
pub(crate) mod table;
mod term;
mod tickets;
mod view;

use std::collections::BTreeSet;

pub use apply::{NODES_DRAWN_FROM_MAX, SLOTS_DRAWN_MAX};
pub use audit::Unsound;
use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Amount, ByteCount, Digest, GroupId, Height, LedgerId, NodeId, Record, RecordKind,
    UnixMillis, ViewNumber,
};
pub use check::{Expected, check_signature};
use draws::Draws;
use entries::List;
pub use epoch::BLOCKS_PER_EPOCH_MIN;
use lapse::Sweep;
pub use prove::VerdictError;
use registry::{Registry, RegistryIndex};
use repair::GroupSweep;
pub(crate) use repair::{GROUPS_LOOKED_MAX, SLOTS_FORFEITED_MAX};
use slots::Retry;
pub(crate) use slots::WAITING_DRAWN_MAX;
use table::{BoundSlot, OwnGroup, Table, WaitingSlot};
use tickets::AuditNodes;

use crate::block::Verdict;
use crate::earnings::Earnings;
use crate::epoch::{Departed, Epoch};
use crate::genesis::{Genesis, Parameters};
use crate::group::Group;
use crate::node::{NodeEntry, NodeStatus};
use crate::port::LedgerStatus;
use crate::term::Term;
use crate::trie::Trie;
use crate::tx::SlotRef;

/// A balance and how many transactions it has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Account {
    /// Free credits.
    pub balance: Amount,
    /// The next transaction's nonce.
    pub nonce: u64,
}

/// The ledger's state after some block. Its encoding is canonical: equal states have equal bytes,
/// and so equal digests. Grows with accounts, nodes and groups, each bounded by the
/// [`Parameters`]; never with segments or shards.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(init = rebuild_index)]
pub struct State {
    id: LedgerId,
    parameters: Parameters,
    supply: Amount,
    fees: Amount,
    height: Height,
    time: UnixMillis,
    tip: Digest,
    view: ViewNumber,
    /// Of all blocks up to the last one's effects and transactions: see [`crate::seal`].
    chain: Digest,
    accounts: Table<AccountId, Account>,
    nodes: Table<NodeId, NodeEntry>,
    groups: Table<GroupId, Group>,
    draws: Draws,
    /// Slots that no node could take, until one has room.
    waiting: Table<SlotRef, WaitingSlot>,
    retry: Retry,
    /// Time of the genesis: epochs are counted from it.
    began: UnixMillis,
    epoch: Epoch,
    sweep: Sweep,
    group_sweep: GroupSweep,
    /// Slots that the epoch that runs froze for a node which has left them since. At most two nodes
    /// of each slot.
    departed: Table<(NodeId, SlotRef), Departed>,
    /// What each node earned and spent.
    earnings: Table<NodeId, Earnings>,
    registry: Registry,
    /// Which validators order the ledger; `None` when a sequencer does.
    term: Option<Term>,
    #[borsh(skip)]
    index: Index,
    /// Of the tables and the rest, up to the last block.
    #[borsh(skip)]
    trie: Trie,
}

/// Something to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
enum PendingDraw {
    /// All slots of a group that was opened.
    Group(GroupId),
    /// A slot whose node is gone or leaving.
    Slot(SlotRef),
}

/// What follows from the rest of the state and is kept so that it need not be searched.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Index {
    /// Slots that a node holds or is leaving.
    slots: Table<(NodeId, SlotRef), BoundSlot>,
    /// Sum of the balances.
    balances: u128,
    /// Sum of the escrows and bounties.
    escrows: u128,
    /// Sum of the nodes' collateral.
    collaterals: u128,
    /// Groups that the next blocks look at.
    marked: BTreeSet<GroupId>,
    /// Nodes that are active.
    active_count: u64,
    /// Slots of all groups, drawn or not.
    slot_count: u64,
    /// Groups of each owner.
    groups: Table<(AccountId, GroupId), OwnGroup>,
    /// Nodes whose proof of the epoch that runs was valid, and those whose was not.
    verdicts: (u64, u64),
    /// Among whom audits are drawn.
    audit_nodes: AuditNodes,
    registry: RegistryIndex,
}

impl Index {
    /// Counts a verdict of the epoch that runs.
    const fn count_verdict(&mut self, verdict: Verdict) {
        let (valid, invalid) = &mut self.verdicts;
        match verdict {
            Verdict::Valid => *valid = valid.saturating_add(1),
            Verdict::Invalid => *invalid = invalid.saturating_add(1),
            Verdict::Missing => {}
        }
    }
}

impl Record for State {
    const KIND: RecordKind = RecordKind::LedgerState;
    const VERSION: u8 = 2;
    // No state of a well-formed genesis is larger.
    const BYTES_MAX: usize = 4 << 30;

    fn is_well_formed(&self) -> bool {
        self.audit_tables().is_ok()
    }
}

impl State {
    /// The state before the first block. `None` when the balances are out of order or over the
    /// largest amount.
    #[must_use]
    pub fn genesis(genesis: &Genesis) -> Option<Self> {
        if !genesis.is_well_formed() {
            return None;
        }
        let endow = |(id, balance): &(AccountId, Amount)| {
            let account = Account {
                balance: *balance,
                nonce: 0,
            };
            (*id, account)
        };
        let digest = genesis.record_digest();
        let mut state = Self {
            id: LedgerId::new(digest),
            parameters: genesis.parameters,
            supply: genesis.supply()?,
            fees: Amount::ZERO,
            height: Height::ZERO,
            time: genesis.time,
            tip: digest,
            view: ViewNumber::ZERO,
            chain: digest,
            accounts: genesis.endowed.iter().map(endow).collect(),
            nodes: Table::default(),
            groups: Table::default(),
            draws: Draws::default(),
            waiting: Table::default(),
            retry: Retry::default(),
            began: genesis.time,
            epoch: Epoch::default(),
            sweep: Sweep::default(),
            group_sweep: GroupSweep::default(),
            departed: Table::default(),
            earnings: Table::default(),
            registry: Registry::default(),
            term: Term::first(genesis, digest),
            index: Index::default(),
            trie: Trie::default(),
        };
        state.rebuild_index();
        Some(state)
    }

    /// Height of the last block; 0 before the first.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.height
    }

    /// Time of the last block.
    #[must_use]
    pub const fn time(&self) -> UnixMillis {
        self.time
    }

    /// Digest of the last block, the parent of the next; of the genesis before the first.
    #[must_use]
    pub const fn tip(&self) -> Digest {
        self.tip
    }

    /// View of the last block; 0 before the first.
    #[must_use]
    pub const fn view(&self) -> ViewNumber {
        self.view
    }

    /// Which ledger it is of: the digest of the genesis.
    #[must_use]
    pub const fn ledger_id(&self) -> LedgerId {
        self.id
    }

    /// The numbers it runs by.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// All credits.
    #[must_use]
    pub const fn supply(&self) -> Amount {
        self.supply
    }

    /// Fees taken.
    #[must_use]
    pub const fn fees(&self) -> Amount {
        self.fees
    }

    /// An account; one with nothing when it is unknown.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Account {
        self.accounts.get(&id).copied().unwrap_or_default()
    }

    /// Whether an account has an entry: it was endowed, was sent something or did something.
    #[must_use]
    pub fn has_account(&self, id: AccountId) -> bool {
        self.accounts.contains_key(&id)
    }

    /// The accounts with an entry, rising by id.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountId, Account)> + '_ {
        self.accounts.iter().map(|(id, account)| (*id, *account))
    }

    /// A node; `None` when it never registered.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        self.nodes.get(&id)
    }

    /// A group; `None` when it is unknown or was refunded.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// The groups, rising by id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// The nodes, rising by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values()
    }

    /// Slots that a node holds or is leaving, rising, above `after`.
    pub fn slots_of(
        &self,
        node: NodeId,
        after: Option<SlotRef>,
    ) -> impl Iterator<Item = SlotRef> + '_ {
        let slots = self.index.slots.range(List::of(node, after).range());
        slots.map(|((_, slot), _)| *slot)
    }

    /// Whether a seed that is to come has something to draw, slots or challenges, or groups are to be
    /// looked at, so that a block is worth making even without transactions.
    #[must_use]
    pub fn has_draws(&self) -> bool {
        !self.draws.is_empty() || self.retry.left > 0 || self.needs_seed() || self.has_looks()
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> LedgerStatus {
        self.head_now().status()
    }

    /// Nodes that may be drawn for a slot of this capacity at this price, rising by id: with epochs,
    /// those that proved the last one, or have not had a whole one yet, and are not down for
    /// maintenance.
    fn candidates(
        &self,
        slot_capacity: ByteCount,
        price_max: Amount,
    ) -> impl Iterator<Item = &NodeEntry> {
        self.nodes.values().filter(move |entry| {
            entry.status == NodeStatus::Active
                && entry.standing.lapses(&self.epoch) == 0
                && !entry.standing.is_maintained(&self.epoch)
                && entry.terms.price <= price_max
                && entry.free() >= slot_capacity
                && entry.free_collateral() >= self.collateral(slot_capacity, entry.terms.price)
        })
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
