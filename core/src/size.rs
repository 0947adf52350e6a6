//! Sizes in bytes, checked, with units for people.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

/// A size in bytes.
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
pub struct ByteCount(u64);

/// Units for people, largest first; binary units are exact powers of 1024, decimal ones of 1000.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteCount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum; `None` above 2^64 - 1.
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
}

impl fmt::Display for ByteCount {
    /// With the largest binary unit that leaves at least 1, two decimals when not whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in UNITS.iter().take(4) {
            if self.0 >= *size {
                let whole = self.0.checked_div(*size).unwrap_or(0);
                let rest = u128::from(self.0.checked_rem(*size).unwrap_or(0));
                let hundredths = rest
                    .saturating_mul(100)
                    .checked_div(u128::from(*size))
                    .unwrap_or(0);
                return if rest == 0 {
                    write!(f, "{whole} {unit}")
                } else {
                    write!(f, "{whole}.{hundredths:02} {unit}")
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 4096, 64KiB or 10GB, found {found:?}")]
pub struct ParseSizeError {
    /// The text.
    pub found: String,
}

impl FromStr for ByteCount {
    type Err = ParseSizeError;

    /// Digits, then optionally a unit of `B kB MB GB TB KiB MiB GiB TiB`.
    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let error = || ParseSizeError {
            found: text.to_owned(),
        };
        let trimmed = text.trim();
        let (digits, scale) = UNITS
            .iter()
            .find_map(|(unit, scale)| trimmed.strip_suffix(unit).map(|digits| (digits, *scale)))
            .unwrap_or((trimmed, 1));
        let count: u64 = digits.trim().parse().map_err(|_| error())?;
        count.checked_mul(scale).map(Self).ok_or_else(error)
    }
}
