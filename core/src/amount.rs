//! Money: whole micro-credits, checked.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// An amount of money in micro-credits. No `Add` or `Mul`: every operation says what happens at
/// the edge.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From micro-credits.
    #[must_use]
    pub const fn from_micro(micro: u64) -> Self {
        Self(micro)
    }

    /// In micro-credits.
    #[must_use]
    pub const fn micro(self) -> u64 {
        self.0
    }

    /// The sum; `None` above the largest amount.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference; `None` when `other` is more.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// `self * numerator / denominator`, rounded down; `None` when it does not fit or the
    /// denominator is 0.
    #[must_use]
    pub fn prorate_floor(self, numerator: u64, denominator: u64) -> Option<Self> {
        let product = u128::from(self.0).checked_mul(u128::from(numerator))?;
        let quotient = product.checked_div(u128::from(denominator))?;
        u64::try_from(quotient).ok().map(Self)
    }

    /// `self * numerator / denominator`, rounded up; `None` as in [`Self::prorate_floor`].
    #[must_use]
    pub fn prorate_ceil(self, numerator: u64, denominator: u64) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let product = u128::from(self.0).checked_mul(u128::from(numerator))?;
        u64::try_from(product.div_ceil(u128::from(denominator)))
            .ok()
            .map(Self)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MICRO: u64 = 1_000_000;
        let whole = self.0.checked_div(MICRO).unwrap_or(0);
        let part = self.0.checked_rem(MICRO).unwrap_or(0);
        write!(f, "{whole}.{part:06}")
    }
}
