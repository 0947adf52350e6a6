//! BLAKE3 slices: bytes of a shard proved against its root by siblings alone.
//!
//! A shard root is plain BLAKE3 of the shard, and BLAKE3 is a tree over 1 KiB blocks. A range of
//! whole blocks is proved by the hashes (*chaining values*) of the subtrees beside it, as large
//! as possible, from left to right: no sizes, no hashes of what is sent itself. A whole shard
//! needs no proof. [`Outboard`] keeps the hash of each 16 KiB span beside the shard, so that
//! proving a range reads no more than the spans that the range touches; it is a cache, no part
//! of the protocol.
//!
//! As in `docs/protocol/proofs.md`, section "Ranges".
//!
//! Subtrees are hashed through `blake3::hazmat`, whole subtrees at a time, which is as fast as
//! hashing plainly. What the verifier accepts was checked down to the last byte.

mod outboard;
mod prove;
#[cfg(test)]
mod tests;
mod verify;

use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::message::{RANGE_PROOF_BYTES_MAX, ShardRange};
use cairn_core::{Digest, ShardRoot};
pub use outboard::{HashedShard, Outboard, OutboardError, ShardHasher, hash_shard};
pub use prove::{RangeProof, RangeProveError, prove_range};
pub use verify::{siblings_count, verify_range, verify_siblings};

/// Leaf of BLAKE3's tree: 1 KiB, given by BLAKE3.
pub const BLOCK_BYTES: u32 = 1 << 10;
/// Unit of the outboard: 16 blocks, as many as the widest SIMD hashes at once. Smaller costs
/// memory (32 bytes each), larger costs reading for the proof of one block.
pub const SPAN_BYTES: u32 = 16 << 10;
/// Levels above the blocks of the largest shard.
pub const SLICE_LEVELS_MAX: usize = 12;
/// Most siblings of a range: two paths, less the top where they are one.
pub const SIBLINGS_MAX: usize = 2 * SLICE_LEVELS_MAX;

const _: () = assert!(BLOCK_BYTES << SLICE_LEVELS_MAX == SHARD_BYTES_MAX);
// The siblings of any range fit the message.
const _: () = assert!(SIBLINGS_MAX * Digest::BYTES < 4_096 && RANGE_PROOF_BYTES_MAX == 4_096);

/// Hash of a subtree that is not the whole.
pub(crate) type ChainingValue = blake3::hazmat::ChainingValue;

/// Why a range, its bytes or its proof are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// No shard has that size.
    #[error("expected a shard of 1 to {SHARD_BYTES_MAX} bytes, found {found}")]
    ShardBytes {
        /// The size found.
        found: u32,
    },
    /// The range is empty or passes the shard's end.
    #[error("expected a range within {shard_bytes} bytes, found {} bytes at {}", range.bytes, range.offset)]
    Range {
        /// The shard's size.
        shard_bytes: u32,
        /// The range.
        range: ShardRange,
    },
    /// The range does not consist of whole blocks.
    #[error("expected whole 1 KiB blocks, found {} bytes at {}", range.bytes, range.offset)]
    NotBlocks {
        /// The range.
        range: ShardRange,
    },
    /// More or fewer bytes than the range has.
    #[error("expected {expected} bytes, found {found}")]
    Length {
        /// The range's size.
        expected: u32,
        /// Bytes found.
        found: usize,
    },
    /// More or fewer bytes of proof than this range of this shard needs.
    #[error("expected a range proof of {expected} bytes, found {found}")]
    ProofLength {
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The bytes are not those of the shard.
    #[error("expected shard root {expected}, found {found}")]
    Mismatch {
        /// The shard's root.
        expected: ShardRoot,
        /// The root that bytes and proof give.
        found: ShardRoot,
    },
}

/// `range` widened to whole blocks: what a proof covers, and what is sent.
///
/// # Errors
///
/// [`RangeError::ShardBytes`], [`RangeError::Range`].
pub fn widen_to_blocks(shard_bytes: u32, range: ShardRange) -> Result<ShardRange, RangeError> {
    widen(shard_bytes, range, BLOCK_BYTES)
}

/// `range` widened to whole spans: what [`prove_range`] may read.
///
/// # Errors
///
/// [`RangeError::ShardBytes`], [`RangeError::Range`].
pub fn widen_to_spans(shard_bytes: u32, range: ShardRange) -> Result<ShardRange, RangeError> {
    widen(shard_bytes, range, SPAN_BYTES)
}

/// `range` widened to whole `unit`s, the last of which may be cut by the end of the shard.
fn widen(shard_bytes: u32, range: ShardRange, unit: u32) -> Result<ShardRange, RangeError> {
    let end = checked_end(shard_bytes, range)?;
    let offset = range.offset / unit * unit;
    let end = end.next_multiple_of(unit).min(shard_bytes);
    Ok(ShardRange {
        offset,
        bytes: end - offset,
    })
}

/// End of `range`, when it is within the shard and not empty.
fn checked_end(shard_bytes: u32, range: ShardRange) -> Result<u32, RangeError> {
    if shard_bytes == 0 || shard_bytes > SHARD_BYTES_MAX {
        return Err(RangeError::ShardBytes { found: shard_bytes });
    }
    range
        .offset
        .checked_add(range.bytes)
        .filter(|end| range.bytes > 0 && *end <= shard_bytes)
        .ok_or(RangeError::Range { shard_bytes, range })
}

/// A subtree of a shard's hash tree: bytes `start..end` of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subtree {
    start: u32,
    end: u32,
}

/// How a subtree stands to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overlap {
    /// No byte in common.
    Disjoint,
    /// The range has every byte of it.
    Covered,
    /// Some bytes: it has more than one block.
    Partial,
}

impl Subtree {
    const fn bytes(self) -> u32 {
        self.end - self.start
    }

    /// How it stands to `range`, which consists of whole blocks.
    const fn overlap(self, range: Self) -> Overlap {
        if self.end <= range.start || self.start >= range.end {
            Overlap::Disjoint
        } else if range.start <= self.start && self.end <= range.end {
            Overlap::Covered
        } else {
            Overlap::Partial
        }
    }

    /// Its two children. Shape: it has more than one block.
    fn children(self) -> (Self, Self) {
        let blocks = self.bytes().div_ceil(BLOCK_BYTES);
        let left = blocks.div_ceil(2).next_power_of_two() * BLOCK_BYTES;
        let middle = self.start + left;
        (
            Self {
                start: self.start,
                end: middle,
            },
            Self {
                start: middle,
                end: self.end,
            },
        )
    }
}

/// The whole blocks of `range`, checked.
fn blocks_of(shard_bytes: u32, range: ShardRange) -> Result<Subtree, RangeError> {
    let end = checked_end(shard_bytes, range)?;
    let whole = range.offset.is_multiple_of(BLOCK_BYTES)
        && (end.is_multiple_of(BLOCK_BYTES) || end == shard_bytes);
    if !whole {
        return Err(RangeError::NotBlocks { range });
    }
    Ok(Subtree {
        start: range.offset,
        end,
    })
}

/// Hash of the subtree of `bytes` that begins at `start` of a shard and is not the whole.
fn chaining_value(start: u32, bytes: &[u8]) -> ChainingValue {
    use blake3::hazmat::HasherExt;

    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(start));
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// Hash of an inner node that is not the root.
fn merge(left: &ChainingValue, right: &ChainingValue) -> ChainingValue {
    blake3::hazmat::merge_subtrees_non_root(left, right, blake3::hazmat::Mode::Hash)
}

/// The root over its two children.
fn merge_root(left: &ChainingValue, right: &ChainingValue) -> ShardRoot {
    let hash = blake3::hazmat::merge_subtrees_root(left, right, blake3::hazmat::Mode::Hash);
    ShardRoot::new(Digest::from(hash))
}
