//! What other nodes say of a node between its proofs: a score, which weighs in placement and in
//! nothing else.
//!
//! An audit that is passed can be seen by the auditor alone, and so can one that is failed: all that
//! the ledger hears is votes. So no vote counts for much. A node's score falls only when at least
//! [`FAILED_MIN`] operators say in one epoch that it failed them, and two thirds of those who say
//! anything. Fewer liars than that never lower it. As in docs/protocol/ledger.md#audits.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, Bounded, ByteCount, EpochNumber};

use crate::ticket::AUDITS_MAX;

/// The score of a node of which nobody complains, and of one that is new.
pub const SCORE_MAX: u8 = 100;
/// No score is less: a node is drawn a tenth as often, and never left out.
pub const SCORE_MIN: u8 = 10;
/// What an epoch in which a node failed its audits takes from its score.
pub const SCORE_FALL: u8 = 20;
/// What any other epoch adds. A tenth of [`SCORE_FALL`]: with a third of all auditors lying a node is
/// failed in one epoch of thirty, and has long recovered by the next.
pub const SCORE_RISE: u8 = 2;
/// Operators that must say in one epoch that a node failed them.
pub const FAILED_MIN: usize = 4;
/// Votes on a node that one epoch counts, the first that come. A node is drawn for eight audits on
/// average, and for more than this in one of two hundred epochs.
pub const VOTES_MAX: usize = 16;

/// What a node says of the audits that it was drawn for, one bit for each ticket by its number: those
/// that were passed, and those that were failed. One that it did not make, or that could not be
/// passed, is in neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct AuditReport {
    /// The other node showed what was drawn.
    pub passed: u8,
    /// It did not, whenever it was asked.
    pub failed: u8,
}

impl AuditReport {
    /// No ticket is both.
    #[must_use]
    pub const fn is_well_formed(&self) -> bool {
        self.passed & self.failed == 0
    }

    /// Notes how an audit ended.
    pub fn note(&mut self, number: u8, vote: Vote) {
        let bit = bit(number);
        match vote {
            Vote::Passed => self.passed |= bit,
            Vote::Failed => self.failed |= bit,
        }
    }

    /// What it says of the ticket of this number.
    #[must_use]
    pub fn vote(&self, number: u8) -> Option<Vote> {
        let bit = bit(number);
        if self.passed & bit != 0 {
            Some(Vote::Passed)
        } else if self.failed & bit != 0 {
            Some(Vote::Failed)
        } else {
            None
        }
    }
}

/// The bit of a ticket; none past the last.
fn bit(number: u8) -> u8 {
    1_u8.checked_shl(u32::from(number)).unwrap_or(0)
}

const _: () = assert!(AUDITS_MAX <= 8, "a bit for each ticket");

/// How an audit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Vote {
    /// The node showed what was drawn.
    Passed,
    /// It did not.
    Failed,
}

/// The first bytes of an operator's id: another with the same ones could only take its vote away, not
/// add one.
type OperatorTag = [u8; 8];

/// The vote of an operator's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct OperatorVote {
    operator: OperatorTag,
    vote: Vote,
}

/// How many operators said what of a node in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteCount {
    /// The epoch, whose votes are on audits of the one before.
    pub epoch: EpochNumber,
    /// It showed what it was to show.
    pub passed_count: usize,
    /// It did not.
    pub failed_count: usize,
}

/// What the ledger knows of the audits of a node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Score {
    /// Without the votes of `epoch`.
    value: u8,
    /// The epoch that the votes came in; they count once it is over.
    epoch: EpochNumber,
    votes: Bounded<OperatorVote, VOTES_MAX>,
    /// Epochs in which the node proved that it had something.
    shown: RecentEpochs,
}

/// Most bytes of a score.
pub const SCORE_BYTES_MAX: usize = 1 + 8 + 4 + 9 * VOTES_MAX + 9;

impl Default for Score {
    fn default() -> Self {
        Self {
            value: SCORE_MAX,
            epoch: EpochNumber::default(),
            votes: Bounded::empty(),
            shown: RecentEpochs::default(),
        }
    }
}

impl Score {
    /// The score in `epoch`, which runs: [`SCORE_MIN`] to [`SCORE_MAX`]. Votes of that epoch don't
    /// count yet.
    #[must_use]
    pub fn at(&self, epoch: EpochNumber) -> u8 {
        let since = epoch.get().saturating_sub(self.epoch.get());
        let Some(quiet) = since.checked_sub(1) else {
            return self.value;
        };
        let value = if self.is_failed() {
            self.value.saturating_sub(SCORE_FALL).max(SCORE_MIN)
        } else {
            self.value.saturating_add(SCORE_RISE)
        };
        let quiet = u8::try_from(quiet).unwrap_or(u8::MAX);
        let risen = value.saturating_add(quiet.saturating_mul(SCORE_RISE));
        risen.min(SCORE_MAX)
    }

    /// What was said of the node in the last epoch in which anything was.
    #[must_use]
    pub fn votes(&self) -> VoteCount {
        VoteCount {
            epoch: self.epoch,
            passed_count: self.count_said(Vote::Passed),
            failed_count: self.count_said(Vote::Failed),
        }
    }

    fn count_said(&self, vote: Vote) -> usize {
        self.votes.iter().filter(|said| said.vote == vote).count()
    }

    /// What a node's free capacity weighs in a draw, rounded down.
    #[must_use]
    pub fn weigh(&self, free: ByteCount, epoch: EpochNumber) -> u128 {
        let parts = u128::from(free.get()).saturating_mul(u128::from(self.at(epoch)));
        parts.checked_div(u128::from(SCORE_MAX)).unwrap_or(0)
    }

    /// Whether the votes so far say that the node failed its audits.
    fn is_failed(&self) -> bool {
        let failed = self.count_said(Vote::Failed);
        let passed = self.count_said(Vote::Passed);
        failed >= FAILED_MIN && failed >= passed.saturating_mul(2)
    }

    /// Counts the vote of an operator in `epoch`, which runs: the first that it gives.
    pub(crate) fn count(&mut self, epoch: EpochNumber, operator: AccountId, vote: Vote) {
        self.count_of(epoch, tag(operator), vote);
    }

    fn count_of(&mut self, epoch: EpochNumber, operator: OperatorTag, vote: Vote) {
        if epoch > self.epoch {
            self.value = self.at(epoch);
            self.epoch = epoch;
            self.votes = Bounded::empty();
        }
        if self.votes.iter().any(|said| said.operator == operator) {
            return;
        }
        let mut votes = std::mem::take(&mut self.votes).into_vec();
        if votes.len() < VOTES_MAX {
            votes.push(OperatorVote { operator, vote });
        }
        self.votes = Bounded::new(votes).unwrap_or_default();
    }

    /// Notes that the node proved something in `epoch`, which runs.
    pub(crate) fn show(&mut self, epoch: EpochNumber) {
        self.shown.note(epoch);
    }

    /// Whether it proved something in an epoch, which is the one that runs or one of the last few.
    pub(crate) fn has_shown(&self, epoch: EpochNumber) -> bool {
        self.shown.has(epoch)
    }

    /// Whether it can have come about up to `epoch`.
    pub(crate) fn is_sound(&self, epoch: EpochNumber) -> bool {
        let is_rising = |votes: &[OperatorVote]| {
            let mut operators: Vec<_> = votes.iter().map(|said| said.operator).collect();
            operators.sort_unstable();
            operators.is_sorted_by(|a, b| a < b)
        };
        (SCORE_MIN..=SCORE_MAX).contains(&self.value)
            && self.epoch <= epoch
            && self.shown.newest <= epoch
            && is_rising(&self.votes)
    }
}

fn tag(operator: AccountId) -> OperatorTag {
    let bytes = operator.as_bytes();
    bytes.first_chunk().copied().unwrap_or_default()
}

/// Some of the newest epochs. What is over does not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
struct RecentEpochs {
    newest: EpochNumber,
    /// Bit i stands for the epoch that is i before the newest.
    bits: u8,
}

impl RecentEpochs {
    fn note(&mut self, epoch: EpochNumber) {
        let passed = epoch.get().saturating_sub(self.newest.get());
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.newest = epoch;
        // Beyond its bits nothing is remembered.
        self.bits = self.bits.checked_shl(passed).unwrap_or(0) | 1;
    }

    fn has(&self, epoch: EpochNumber) -> bool {
        let back = self.newest.get().checked_sub(epoch.get());
        let back = back.and_then(|back| u32::try_from(back).ok());
        let bits = back.and_then(|back| self.bits.checked_shr(back));
        bits.is_some_and(|bits| bits & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
