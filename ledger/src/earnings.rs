//! What a node earned and spent, per epoch and cause, in numbers that agree with its balance.
//!
//! A node's account has one from its first registration on: the balance before it, a line for each
//! epoch and cause of the newest epochs, and the sums of all before. Guarantees, checked whenever a
//! state is audited: opening + incomes - expenses is the balance. It is part of the state, so no
//! restart and no change of machine loses it.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Amount, EpochNumber};

use crate::movement::{Cause, Direction, Movement};

/// Most lines of one node: a day of hourly epochs with two causes each. A node's part of the state
/// grows by 25 bytes with each.
pub const EARNINGS_LINES_MAX: usize = 48;

/// Most bytes of one node's, its key included.
pub(crate) const EARNINGS_BYTES_MAX: usize =
    32 + 8 + 9 + 4 + SUM_BYTES * Cause::ALL.len() + 4 + LINE_BYTES * EARNINGS_LINES_MAX;
const SUM_BYTES: usize = 1 + 16;
const LINE_BYTES: usize = 8 + 1 + 16;

/// What a node earned and spent since it registered first.
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Earnings {
    /// Its account's balance before it registered.
    pub opening: Amount,
    /// The last epoch that is only in [`Self::before`]; `None` when every epoch has its lines.
    pub before_through: Option<EpochNumber>,
    /// Sums of the epochs up to that one, rising by cause.
    pub before: Vec<CauseSum>,
    /// Sums of the newest epochs, rising by epoch and cause; at most [`EARNINGS_LINES_MAX`].
    pub lines: Vec<EarningsLine>,
}

/// All of one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CauseSum {
    /// Why.
    pub cause: Cause,
    /// How much, in micro-credits: the sum may be above any single amount.
    pub micro: u128,
}

/// All of one cause in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EarningsLine {
    /// The epoch.
    pub epoch: EpochNumber,
    /// Why.
    pub cause: Cause,
    /// How much, in micro-credits.
    pub micro: u128,
}

impl Earnings {
    /// Of a node that registers, whose account had `opening` before.
    #[must_use]
    pub const fn open(opening: Amount) -> Self {
        Self {
            opening,
            before_through: None,
            before: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Adds a movement of the epoch of the last line or a later one.
    pub(crate) fn add(&mut self, movement: &Movement) {
        let micro = u128::from(movement.amount.micro());
        let key = (movement.epoch, movement.cause);
        let found = self
            .lines
            .binary_search_by_key(&key, |line| (line.epoch, line.cause));
        match found {
            Ok(at) => {
                if let Some(line) = self.lines.get_mut(at) {
                    line.micro = line.micro.saturating_add(micro);
                }
            }
            Err(at) => self.lines.insert(
                at,
                EarningsLine {
                    epoch: movement.epoch,
                    cause: movement.cause,
                    micro,
                },
            ),
        }
        while self.lines.len() > EARNINGS_LINES_MAX {
            self.fold_oldest();
        }
    }

    /// Takes the oldest epoch's lines into the sums.
    fn fold_oldest(&mut self) {
        let Some(oldest) = self.lines.first().map(|line| line.epoch) else {
            return;
        };
        let count = self.lines.partition_point(|line| line.epoch == oldest);
        for line in self.lines.drain(..count) {
            let found = self
                .before
                .binary_search_by_key(&line.cause, |sum| sum.cause);
            match found {
                Ok(at) => {
                    if let Some(sum) = self.before.get_mut(at) {
                        sum.micro = sum.micro.saturating_add(line.micro);
                    }
                }
                Err(at) => self.before.insert(
                    at,
                    CauseSum {
                        cause: line.cause,
                        micro: line.micro,
                    },
                ),
            }
        }
        self.before_through = Some(oldest);
    }

    /// All of each cause since the node registered, rising by cause.
    #[must_use]
    pub fn totals(&self) -> Vec<CauseSum> {
        let of_cause = |cause: Cause| {
            let before = self.before.iter().filter(|sum| sum.cause == cause);
            let lines = self.lines.iter().filter(|line| line.cause == cause);
            let micro = before
                .map(|sum| sum.micro)
                .chain(lines.map(|line| line.micro))
                .fold(0, u128::saturating_add);
            CauseSum { cause, micro }
        };
        Cause::ALL
            .into_iter()
            .map(of_cause)
            .filter(|sum| sum.micro > 0)
            .collect()
    }

    /// The balance that follows: opening + incomes - expenses. `None` when it is no amount.
    #[must_use]
    pub fn closing(&self) -> Option<Amount> {
        let mut incomes = u128::from(self.opening.micro());
        let mut expenses = 0_u128;
        for sum in self.totals() {
            let side = match sum.cause.direction() {
                Direction::Income => &mut incomes,
                Direction::Expense => &mut expenses,
            };
            *side = side.checked_add(sum.micro)?;
        }
        let left = incomes.checked_sub(expenses)?;
        u64::try_from(left).ok().map(Amount::from_micro)
    }

    /// Structural rules: in order, nothing twice, nothing of zero, within the bound.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let first = self.lines.first().map(|line| line.epoch);
        let is_after = match (self.before_through, first) {
            (Some(through), Some(first)) => through < first,
            (None, _) => self.before.is_empty(),
            (Some(_), None) => true,
        };
        is_after
            && self.lines.len() <= EARNINGS_LINES_MAX
            && self
                .lines
                .is_sorted_by(|a, b| (a.epoch, a.cause) < (b.epoch, b.cause))
            && self.before.is_sorted_by(|a, b| a.cause < b.cause)
            && self.lines.iter().all(|line| line.micro > 0)
            && self.before.iter().all(|sum| sum.micro > 0)
    }
}

// An epoch's lines always fit, so that only whole epochs are folded.
const _: () = assert!(Cause::ALL.len() <= EARNINGS_LINES_MAX);

#[cfg(test)]
mod tests {
    use cairn_core::{AccountId, PublicKey};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn movement(epoch: u64, cause: Cause, micro: u64) -> Movement {
        Movement {
            account: AccountId::new(PublicKey::from_bytes([1; 32])),
            epoch: EpochNumber::new(epoch),
            cause,
            amount: Amount::from_micro(micro),
        }
    }

    #[test]
    fn old_epochs_are_summed_whole_and_the_newest_keep_their_lines() {
        let mut earnings = Earnings::open(Amount::from_micro(1_000));
        for epoch in 0..30 {
            earnings.add(&movement(epoch, Cause::Pay, 10));
            earnings.add(&movement(epoch, Cause::Fee, 1));
            earnings.add(&movement(epoch, Cause::Pay, 10));
        }
        assert!(earnings.is_well_formed());
        assert_eq!(earnings.lines.len(), EARNINGS_LINES_MAX);
        assert_eq!(earnings.before_through, Some(EpochNumber::new(5)));
        let before: Vec<_> = earnings
            .before
            .iter()
            .map(|sum| (sum.cause, sum.micro))
            .collect();
        assert_eq!(before, [(Cause::Pay, 120), (Cause::Fee, 6)]);
        assert_eq!(earnings.closing(), Some(Amount::from_micro(1_570)));
        let bytes = borsh::object_length(&earnings).unwrap();
        assert!(32 + bytes <= EARNINGS_BYTES_MAX, "{bytes}");
    }

    proptest! {
        #[test]
        fn what_is_summed_is_what_was_added(moves in proptest::collection::vec((any::<bool>(), 0..6_usize, 1..1_000_u64), 0..400)) {
            let mut earnings = Earnings::open(Amount::from_micro(1 << 40));
            let mut epoch = 0;
            let mut balance = 1_u64 << 40;
            for (is_next, cause, micro) in moves {
                epoch += u64::from(is_next);
                let cause = Cause::ALL[cause];
                earnings.add(&movement(epoch, cause, micro));
                balance = match cause.direction() {
                    Direction::Income => balance + micro,
                    Direction::Expense => balance - micro,
                };
                prop_assert!(earnings.is_well_formed());
                prop_assert_eq!(earnings.closing(), Some(Amount::from_micro(balance)));
            }
        }
    }
}
