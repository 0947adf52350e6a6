//! Where a ledger begins, and the numbers it runs by.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, LedgerId, PublicKey, Record, RecordKind, UnixMillis,
};

use crate::block::SEEDS_MAX;
use crate::earnings::EARNINGS_BYTES_MAX;
use crate::epoch::REVISIONS_KEPT;
use crate::registry::{GRANT_BYTES_MAX, NOTARISATION_BYTES, VOLUME_BYTES_MAX};
use crate::score::SCORE_BYTES_MAX;
use crate::term::TERM_BYTES_MAX;
use crate::tx::TxBody;

/// Most accounts that a genesis endows.
pub const ENDOWED_MAX: usize = 4096;

/// Most bytes of a state's encoding.
pub const STATE_BYTES_MAX: u64 = 4 << 30;
/// Of which so many are not in a table.
const STATE_FIXED_BYTES_MAX: u64 = 1024 + TERM_BYTES;
/// Most bytes of the term of its validators.
const TERM_BYTES: u64 = 29_252;
const _: () = assert!(TERM_BYTES_MAX == 29_252);
/// Most bytes of an account with its key.
const ACCOUNT_BYTES_MAX: u64 = 32 + 8 + 8;
/// Most bytes of a node with its key: ids, numbers, three labels, status, standing, collateral,
/// maintenance, score; and of its earnings.
const NODE_BYTES_MAX: u64 =
    32 + 32 + 32 + 8 + 8 + 8 + 3 * (4 + 64) + 1 + 36 + 8 + 8 + 9 + SCORE_BYTES + EARNINGS_BYTES;
/// Most bytes of a node's score.
const SCORE_BYTES: u64 = 166;
const _: () = assert!(SCORE_BYTES_MAX == 166);
/// Bytes of a node's earnings with its key.
const EARNINGS_BYTES: u64 = 1_410;
const _: () = assert!(EARNINGS_BYTES_MAX == 1_410);
/// Most bytes of a group with its key and its place in the queue, its deals aside: ids, code,
/// numbers, how it ends, what it owes, revision, that of the epoch's begin, what is due, four relaxed caps, its mark, the newest revisions
/// before.
const GROUP_BYTES_MAX: u64 = 32
    + 32
    + 32
    + 2
    + 8
    + 8
    + 8
    + 11
    + 8
    + 8
    + 8
    + 84
    + 16
    + 24
    + 4
    + 4
    + 4 * 3
    + 41
    + 4
    + KEPT_BYTES * REVISIONS_KEPT;
/// Bytes of a revision that is kept.
const KEPT_BYTES: u64 = 8 + 4 + 8 + 32;
/// Most bytes of a deal and its slot's place in the queue or among the waiting; of the revisions
/// that its holder and its leaver refer to, two each; and of the two nodes that had acknowledged
/// it when the epoch began and have left it since.
const SLOT_BYTES_MAX: u64 =
    32 + 33 + 8 + 8 + 8 + 16 + 1 + 41 + 8 + 16 + 8 + 24 + 42 + 4 * KEPT_BYTES + 2 * DEPARTED_BYTES;
/// Most bytes of a group's entry, its place in the queue included.
pub(crate) const GROUP_ENTRY_BYTES_MAX: u64 =
    GROUP_BYTES_MAX + (SLOT_BYTES_MAX - 2 * DEPARTED_BYTES) * SLOTS_MAX;
const SLOTS_MAX: u64 = 128;
const _: () = assert!(cairn_core::code::SLOTS_MAX == 128);
/// Bytes of a slot that left a node: node, slot, what was frozen, price.
const DEPARTED_BYTES: u64 = 32 + 33 + KEPT_BYTES + 1 + 8;

/// Most bytes of a volume with its key.
const VOLUME_ENTRY_BYTES_MAX: usize = 32 + VOLUME_BYTES_MAX;
/// Most bytes of a grant with its key.
const GRANT_ENTRY_BYTES_MAX: usize = 64 + GRANT_BYTES_MAX;
/// Bytes of a notarisation with its key.
const NOTARISATION_ENTRY_BYTES: usize = 32 + NOTARISATION_BYTES;

/// The numbers a ledger runs by. Part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Parameters {
    /// Least fee of a transaction.
    pub fee_min: Amount,
    /// Least balance of an account, which it keeps: with the supply it bounds how many there are.
    /// When it is zero, anyone may begin an account with nothing.
    pub account_min: Amount,
    /// Least escrow of a group: with the supply it bounds how many there are.
    pub escrow_min: Amount,
    /// Least capacity of a slot. With the nodes' capacity it bounds how many groups can exist.
    pub slot_capacity_min: ByteCount,
    /// Most capacity of a slot, so that a rebuild takes hours and not days.
    pub slot_capacity_max: ByteCount,
    /// Longest term of a group.
    pub term_epochs_max: u32,
    /// How much of a group's price for its whole term its escrow must cover, in percent.
    pub escrow_percent: u32,
    /// Most accounts.
    pub accounts_max: u64,
    /// Most nodes.
    pub nodes_max: u64,
    /// Most groups.
    pub groups_max: u64,
    /// Most slots of all groups.
    pub slots_max: u64,
    /// Length of an epoch; 0 for a ledger without epochs, on which nobody proves.
    pub epoch_millis: u64,
    /// Lapses one after the other from which on a node is lost and its slots are redrawn; 0 for
    /// never.
    pub lost_after_epochs: u32,
    /// Lapses one after the other from which on a node is suspect: its slots count as missing for
    /// repair; 0 for never.
    pub suspect_after_epochs: u32,
    /// Epochs after which a slot that its node has not caught up with is drawn anew; 0 for never.
    pub catch_up_epochs: u32,
    /// Epochs after a group's term in which it may still be extended.
    pub grace_epochs: u32,
    /// How much of its collateral a node locks for a slot: the price of its capacity for so many epochs.
    pub collateral_epochs: u32,
    /// What the repair of a slot costs the node that lost it: the price of its bytes for so many
    /// epochs, at most what it locked.
    pub repair_epochs: u32,
    /// How much of a slot's collateral an invalid proof costs, in percent.
    pub slash_percent: u32,
    /// Longest maintenance in epochs.
    pub maintenance_epochs_max: u32,
    /// Epochs from the begin of one maintenance of a node to that of the next, at least.
    pub maintenance_period_epochs: u32,
    /// Views between the block that leaves something to be drawn, or begins an epoch, and the view
    /// whose seed is taken. So many that the block is final before anyone can know the seed.
    pub seed_lag_views: u64,
    /// Least fee of what adds an entry that stays: a volume, a notarisation; never less than
    /// `fee_min`.
    pub registration_fee_min: Amount,
    /// Most volumes.
    pub volumes_max: u64,
    /// Most grants of all volumes.
    pub grants_max: u64,
    /// Most notarisations that are kept.
    pub notarisations_max: u64,
    /// For how long a notarisation is kept at least, so that a receipt can be made; beyond, the
    /// oldest makes room for the next.
    pub notarisation_keep_millis: u64,
    /// Longest lease of a writer.
    pub lease_millis_max: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            // Free, for those who trust each other: nobody has credits before money flows.
            fee_min: Amount::ZERO,
            account_min: Amount::ZERO,
            escrow_min: Amount::ZERO,
            slot_capacity_min: ByteCount::new(64 << 10),
            slot_capacity_max: ByteCount::new(16 << 30),
            // Ten years of hours.
            term_epochs_max: 87_600,
            // Those who trust each other need not pay.
            escrow_percent: 0,
            accounts_max: 1 << 23,
            nodes_max: 1 << 16,
            groups_max: 1 << 20,
            // 64 EiB at 16 GiB each.
            slots_max: 1 << 22,
            epoch_millis: 0,
            // Three days of hours.
            lost_after_epochs: 72,
            suspect_after_epochs: 24,
            catch_up_epochs: 72,
            // A week of hours.
            grace_epochs: 168,
            // Nothing is at stake among those who trust each other.
            collateral_epochs: 0,
            repair_epochs: 0,
            slash_percent: 10,
            maintenance_epochs_max: 12,
            // A month of hours.
            maintenance_period_epochs: 720,
            // One process orders, knows every seed and is trusted.
            seed_lag_views: 0,
            registration_fee_min: Amount::ZERO,
            volumes_max: 1 << 16,
            grants_max: 1 << 18,
            notarisations_max: 1 << 19,
            // A month.
            notarisation_keep_millis: 30 * 86_400_000,
            // Who waits for a writer that was killed waits no longer.
            lease_millis_max: 60_000,
        }
    }
}

fn entry_bytes(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Parameters {
    /// Least fee of a transaction that asks this.
    #[must_use]
    pub fn fee_min_of(&self, body: &TxBody) -> Amount {
        match body {
            TxBody::Registry(asked) if asked.registers() => {
                self.fee_min.max(self.registration_fee_min)
            }
            _ => self.fee_min,
        }
    }

    /// Whether every state that they allow has an encoding: the tables at their bounds fit
    /// [`STATE_BYTES_MAX`].
    #[must_use]
    pub fn fit_a_state(&self) -> bool {
        let tables = [
            (self.accounts_max, ACCOUNT_BYTES_MAX),
            (self.nodes_max, NODE_BYTES_MAX),
            (self.groups_max, GROUP_BYTES_MAX),
            (self.slots_max, SLOT_BYTES_MAX),
            (self.volumes_max, entry_bytes(VOLUME_ENTRY_BYTES_MAX)),
            (self.grants_max, entry_bytes(GRANT_ENTRY_BYTES_MAX)),
            (
                self.notarisations_max,
                entry_bytes(NOTARISATION_ENTRY_BYTES),
            ),
        ];
        tables
            .into_iter()
            .map(|(count, bytes)| u128::from(count).saturating_mul(u128::from(bytes)))
            .try_fold(u128::from(STATE_FIXED_BYTES_MAX), u128::checked_add)
            .is_some_and(|bytes| bytes <= u128::from(STATE_BYTES_MAX))
    }
}

/// Most validators.
pub const VALIDATORS_MAX: usize = 100;
/// Most bytes of the public side of their key: a point for each of more than two thirds of them.
pub const VALIDATORS_KEY_BYTES_MAX: usize = 6_500;

/// Who agrees on blocks, and the public side of the key that they hold together.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Validators {
    /// Their identities, rising.
    pub identities: Bounded<PublicKey, VALIDATORS_MAX>,
    /// The public side of their key, as the engine encodes it.
    pub key: Bounded<u8, VALIDATORS_KEY_BYTES_MAX>,
}

impl Validators {
    /// Whether there is one at least, and they are rising.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        !self.identities.is_empty() && self.identities.is_sorted_by(|a, b| a < b)
    }

    /// How many of them agree for all: more than two thirds.
    #[must_use]
    pub fn quorum(&self) -> usize {
        let count = self.identities.len();
        let faulty = count.saturating_sub(1) / 3;
        count.saturating_sub(faulty)
    }

    /// Whether this is the identity of one of them.
    #[must_use]
    pub fn contains(&self, identity: &PublicKey) -> bool {
        self.identities.binary_search(identity).is_ok()
    }
}

/// Where a ledger begins: its digest is the parent of the first block and names the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// The ledger's first time.
    pub time: UnixMillis,
    /// The numbers it runs by.
    pub parameters: Parameters,
    /// Balances to begin with, rising by account, none below the least. Their sum is the supply for
    /// ever.
    pub endowed: Bounded<(AccountId, Amount), ENDOWED_MAX>,
    /// Who agrees on blocks; `None` when one sequencer orders them.
    pub validators: Option<Validators>,
}

impl Record for Genesis {
    const KIND: RecordKind = RecordKind::Genesis;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize =
        256 + 40 * ENDOWED_MAX + 32 * VALIDATORS_MAX + VALIDATORS_KEY_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        let least = self.parameters.account_min;
        // A block carries no seed of a later view.
        let is_seed_carried =
            usize::try_from(self.parameters.seed_lag_views).is_ok_and(|lag| lag < SEEDS_MAX);
        self.parameters.fit_a_state()
            && is_seed_carried
            && self.supply().is_some()
            && self.endowed.is_sorted_by(|a, b| a.0 < b.0)
            && self.endowed.iter().all(|(_, amount)| *amount >= least)
            && self
                .validators
                .as_ref()
                .is_none_or(Validators::is_well_formed)
    }
}

impl Genesis {
    /// The ledger that begins with it.
    #[must_use]
    pub fn ledger_id(&self) -> LedgerId {
        LedgerId::new(self.record_digest())
    }

    /// Sum of the balances; `None` above the largest amount.
    #[must_use]
    pub fn supply(&self) -> Option<Amount> {
        self.endowed
            .iter()
            .try_fold(Amount::ZERO, |sum, (_, amount)| sum.checked_add(*amount))
    }
}
