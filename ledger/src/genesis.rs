//! Where a ledger begins, and the numbers it runs by.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, Amount, Bounded, ByteCount, Record, RecordKind, UnixMillis};

/// Most accounts that a genesis endows.
pub const ENDOWED_MAX: usize = 4096;

/// The numbers a ledger runs by. Part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Parameters {
    /// Least fee of a transaction.
    pub fee_min: Amount,
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
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            fee_min: Amount::ZERO,
            slot_capacity_min: ByteCount::new(64 << 10),
            slot_capacity_max: ByteCount::new(16 << 30),
            // Ten years of hours.
            term_epochs_max: 87_600,
            // Nothing is paid out of the escrow yet.
            escrow_percent: 0,
            accounts_max: 1 << 24,
            nodes_max: 1 << 16,
            groups_max: 1 << 20,
        }
    }
}

/// Where a ledger begins: its digest is the parent of the first block and names the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// The ledger's first time.
    pub time: UnixMillis,
    /// The numbers it runs by.
    pub parameters: Parameters,
    /// Balances to begin with, rising by account. Their sum is the supply for ever.
    pub endowed: Bounded<(AccountId, Amount), ENDOWED_MAX>,
}

impl Record for Genesis {
    const KIND: RecordKind = RecordKind::Genesis;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 256 + 40 * ENDOWED_MAX;

    fn is_well_formed(&self) -> bool {
        self.supply().is_some() && self.endowed.is_sorted_by(|a, b| a.0 < b.0)
    }
}

impl Genesis {
    /// Sum of the balances; `None` above the largest amount.
    #[must_use]
    pub fn supply(&self) -> Option<Amount> {
        self.endowed
            .iter()
            .try_fold(Amount::ZERO, |sum, (_, amount)| sum.checked_add(*amount))
    }
}
