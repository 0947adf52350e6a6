//! Verifying a range of a shard against its root.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use cairn_core::message::ShardRange;
use cairn_core::{Digest, ShardRoot};

use super::{
    ChainingValue, Overlap, RangeError, Subtree, blocks_of, chaining_value, merge, merge_root,
};
use crate::slot_tree::as_index;

/// That `bytes` are those of `range` in the shard of `shard_bytes` with that `root`. The range
/// consists of whole blocks ([`super::widen_to_blocks`]); `proof` is as in
/// [`super::RangeProof::as_bytes`], empty for a whole shard.
///
/// `shard_bytes` must come from where `root` does (segment record, leaf of a slot tree): only the
/// last block's proof depends on it in every case.
///
/// Hashes each aligned subtree of the range at once, which is as fast as plain BLAKE3.
///
/// # Errors
///
/// [`RangeError`] says why they are not.
pub fn verify_range(
    root: ShardRoot,
    shard_bytes: u32,
    range: ShardRange,
    bytes: &[u8],
    proof: &[u8],
) -> Result<(), RangeError> {
    let (siblings, rest) = proof.as_chunks::<32>();
    if !rest.is_empty() {
        let expected = siblings_count(shard_bytes, range)?;
        return Err(wrong_proof(expected, proof.len()));
    }
    verify_siblings(root, shard_bytes, range, bytes, siblings)
}

/// [`verify_range`] with the proof as siblings.
///
/// # Errors
///
/// [`RangeError`].
pub fn verify_siblings(
    root: ShardRoot,
    shard_bytes: u32,
    range: ShardRange,
    bytes: &[u8],
    siblings: &[[u8; 32]],
) -> Result<(), RangeError> {
    let expected = siblings_count(shard_bytes, range)?;
    let range = blocks_of(shard_bytes, range)?;
    if bytes.len() != as_index(range.bytes()) {
        return Err(RangeError::Length {
            expected: range.bytes(),
            found: bytes.len(),
        });
    }
    let wrong_proof = wrong_proof(expected, siblings.len().saturating_mul(Digest::BYTES));
    if siblings.len() != expected {
        return Err(wrong_proof);
    }
    let whole = Subtree {
        start: 0,
        end: shard_bytes,
    };
    let found = if whole.overlap(range) == Overlap::Covered {
        ShardRoot::new(Digest::of(bytes))
    } else {
        let mut walk = Walk {
            range,
            bytes,
            siblings,
            wrong_proof,
        };
        let (left, right) = whole.children();
        merge_root(&walk.value(left)?, &walk.value(right)?)
    };
    if found != root {
        return Err(RangeError::Mismatch {
            expected: root,
            found,
        });
    }
    Ok(())
}

/// Siblings in the proof of `range`; 0 for a whole shard.
///
/// # Errors
///
/// [`RangeError`] when the range is not whole blocks of such a shard.
pub fn siblings_count(shard_bytes: u32, range: ShardRange) -> Result<usize, RangeError> {
    let range = blocks_of(shard_bytes, range)?;
    Ok(count(
        Subtree {
            start: 0,
            end: shard_bytes,
        },
        range,
    ))
}

/// Largest subtrees below `subtree` that are outside `range`. Depth: at most 12 levels.
fn count(subtree: Subtree, range: Subtree) -> usize {
    match subtree.overlap(range) {
        Overlap::Covered => 0,
        Overlap::Disjoint => 1,
        Overlap::Partial => {
            let (left, right) = subtree.children();
            count(left, range).saturating_add(count(right, range))
        }
    }
}

const fn wrong_proof(expected: usize, found: usize) -> RangeError {
    RangeError::ProofLength {
        expected: expected.saturating_mul(Digest::BYTES),
        found,
    }
}

/// State of the walk from left to right.
struct Walk<'a> {
    range: Subtree,
    /// Bytes of the range that are not yet hashed.
    bytes: &'a [u8],
    /// Siblings not yet used.
    siblings: &'a [ChainingValue],
    /// What to say when they end early.
    wrong_proof: RangeError,
}

impl Walk<'_> {
    /// Hash of a subtree that is not the whole. Depth: at most 12 levels.
    fn value(&mut self, subtree: Subtree) -> Result<ChainingValue, RangeError> {
        match subtree.overlap(self.range) {
            Overlap::Disjoint => {
                let (sibling, rest) = self.siblings.split_first().ok_or(self.wrong_proof)?;
                self.siblings = rest;
                Ok(*sibling)
            }
            Overlap::Covered => {
                let (now, later) = self
                    .bytes
                    .split_at_checked(as_index(subtree.bytes()))
                    .ok_or(RangeError::Length {
                        expected: self.range.bytes(),
                        found: self.bytes.len(),
                    })?;
                self.bytes = later;
                Ok(chaining_value(subtree.start, now))
            }
            Overlap::Partial => {
                let (left, right) = subtree.children();
                let first = self.value(left)?;
                let second = self.value(right)?;
                Ok(merge(&first, &second))
            }
        }
    }
}
