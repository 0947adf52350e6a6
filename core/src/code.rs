//! Erasure codes and the profiles that choose them.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::id::SlotIndex;
use crate::size::ByteCount;

/// Most slots of a group, and shards of a segment. GF(2^8) allows 255; records are bounded for
/// 128, above the widest profile (80) and below any need of a wider one.
pub const SLOTS_MAX: usize = 128;
/// Largest shard of any profile: 4 MiB. A shard is held in memory while it moves, so this bounds
/// every buffer of the data path.
pub const SHARD_BYTES_MAX: u32 = 4 << 20;
/// Bytes of its slot's capacity that a shard takes at least: 8 KiB, twice the page that the smallest
/// one takes on a node's disk with its record (docs/protocol/shard-store.md). So a slot full of tiny
/// shards takes no more of the disk than it was promised.
pub const SHARD_CHARGE_MIN: u32 = 8 << 10;

/// Bytes of its slot's capacity that a shard takes.
#[must_use]
pub const fn charged_bytes(shard_bytes: u32) -> u32 {
    if shard_bytes < SHARD_CHARGE_MIN {
        SHARD_CHARGE_MIN
    } else {
        shard_bytes
    }
}

/// A k-of-n erasure code: any k of the n shards of a segment give the segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Code {
    k: u8,
    n: u8,
}

/// Why k and n are not a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not 1 <= k < n <= [`SLOTS_MAX`].
    #[error("expected a code with 1 <= k < n <= {SLOTS_MAX}, found {k}-of-{n}")]
    Range {
        /// Shards needed.
        k: u8,
        /// Shards made.
        n: u8,
    },
}

impl Code {
    /// The code that needs `k` of `n` shards.
    ///
    /// # Errors
    ///
    /// [`CodeError::Range`] unless 1 <= k < n <= [`SLOTS_MAX`].
    pub const fn new(k: u8, n: u8) -> Result<Self, CodeError> {
        #[expect(clippy::as_conversions, reason = "widening in a const fn")]
        let fits = n as usize <= SLOTS_MAX;
        if k == 0 || k >= n || !fits {
            return Err(CodeError::Range { k, n });
        }
        Ok(Self { k, n })
    }

    /// Shards needed to decode.
    #[must_use]
    pub const fn k(self) -> u8 {
        self.k
    }

    /// Shards made: slots of the group.
    #[must_use]
    pub const fn n(self) -> u8 {
        self.n
    }

    /// [`Self::k`] as a count.
    #[must_use]
    pub fn data_count(self) -> usize {
        usize::from(self.k)
    }

    /// [`Self::n`] as a count.
    #[must_use]
    pub fn shard_count(self) -> usize {
        usize::from(self.n)
    }

    /// n - k: how many shards may be lost.
    #[must_use]
    pub fn parity_count(self) -> usize {
        usize::from(self.n.saturating_sub(self.k))
    }

    /// Receipts that make a segment network-durable: k + ceil(0.7 (n - k)), DESIGN.md section 4.
    #[must_use]
    pub fn durable_count(self) -> usize {
        let parity = self.parity_count();
        self.data_count()
            .saturating_add(parity.saturating_mul(7).div_ceil(10))
    }

    /// Bytes of each shard of a segment of `payload_bytes`: the payload over k, rounded up, so
    /// that data shard i is bytes [i s, (i + 1) s) of the payload padded with zeros.
    #[must_use]
    pub fn shard_bytes(self, payload_bytes: u32) -> u32 {
        payload_bytes.div_ceil(u32::from(self.k))
    }

    /// Every slot, in order.
    pub fn slots(self) -> impl Iterator<Item = SlotIndex> {
        (0..self.n).map(SlotIndex::new)
    }
}

impl BorshDeserialize for Code {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let (k, n) = <(u8, u8)>::deserialize_reader(reader)?;
        Self::new(k, n).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.k, self.n)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A named choice of code, shard size and repair thresholds. The code is recorded per group; the
/// profile is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// 2-of-4: four nodes on one machine.
    Dev4,
    /// 4-of-8: eight nodes, the default of `cairn dev`.
    Dev8,
    /// 16-of-24: a dozen or more trusted operators.
    Compact,
    /// 20-of-40: the default of an open network.
    Standard,
    /// 40-of-80: large segments.
    Wide,
    /// 29-of-80: short-lived nodes or critical data.
    Critical,
}

impl Profile {
    /// Every profile, narrowest first.
    pub const ALL: [Self; 6] = [
        Self::Dev4,
        Self::Dev8,
        Self::Compact,
        Self::Standard,
        Self::Wide,
        Self::Critical,
    ];

    /// Its name in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dev4 => "dev4",
            Self::Dev8 => "dev8",
            Self::Compact => "compact",
            Self::Standard => "standard",
            Self::Wide => "wide",
            Self::Critical => "critical",
        }
    }

    /// Its code.
    #[must_use]
    pub const fn code(self) -> Code {
        let (k, n) = match self {
            Self::Dev4 => (2, 4),
            Self::Dev8 => (4, 8),
            Self::Compact => (16, 24),
            Self::Standard => (20, 40),
            Self::Wide => (40, 80),
            Self::Critical => (29, 80),
        };
        Code { k, n }
    }

    /// Largest shard: 1 MiB, and 4 MiB where segments are meant to be large.
    #[must_use]
    pub const fn shard_bytes_max(self) -> u32 {
        match self {
            Self::Wide => SHARD_BYTES_MAX,
            Self::Dev4 | Self::Dev8 | Self::Compact | Self::Standard | Self::Critical => 1 << 20,
        }
    }

    /// Lazy threshold m: a group is repaired when at most this many slots are healthy.
    /// DESIGN.md section 4 and the durability model (48 h reaction).
    #[must_use]
    pub const fn lazy_threshold(self) -> u8 {
        match self {
            Self::Dev4 => 3,
            Self::Dev8 => 7,
            Self::Compact => 22,
            Self::Standard => 34,
            Self::Wide => 66,
            Self::Critical => 51,
        }
    }

    /// Urgent threshold u: repair goes before everything else.
    #[must_use]
    pub const fn urgent_threshold(self) -> u8 {
        match self {
            Self::Dev4 => 3,
            Self::Dev8 => 6,
            Self::Compact => 19,
            Self::Standard => 27,
            Self::Wide => 53,
            Self::Critical => 40,
        }
    }

    /// Stored bytes per logical byte, in hundredths, rounded up: 200 is 2.00x.
    #[must_use]
    pub fn expansion_hundredths(self) -> u32 {
        let code = self.code();
        u32::from(code.n())
            .saturating_mul(100)
            .div_ceil(u32::from(code.k()))
    }

    /// Modelled nines of durability per segment-year, in tenths, at 2-year node life under the
    /// placement caps and the lazy threshold; `None` where no model applies.
    #[must_use]
    pub const fn nines_tenths(self) -> Option<u32> {
        match self {
            Self::Dev4 | Self::Dev8 => None,
            Self::Compact => Some(83),
            Self::Standard | Self::Wide | Self::Critical => Some(110),
        }
    }

    /// The widest profile that `nodes` nodes can hold with one slot each.
    #[must_use]
    pub fn fitting(nodes: usize) -> Option<Self> {
        [Self::Standard, Self::Compact, Self::Dev8, Self::Dev4]
            .into_iter()
            .find(|profile| profile.code().shard_count() <= nodes)
    }

    /// Most payload bytes of one segment.
    #[must_use]
    pub fn segment_bytes_max(self) -> ByteCount {
        let bytes = u64::from(self.shard_bytes_max()).saturating_mul(u64::from(self.code().k()));
        ByteCount::new(bytes)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is no profile's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a profile (dev4, dev8, compact, standard, wide or critical), found {found:?}")]
pub struct ParseProfileError {
    /// The text.
    pub found: String,
}

impl FromStr for Profile {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Self, ParseProfileError> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or_else(|| ParseProfileError {
                found: text.to_owned(),
            })
    }
}
