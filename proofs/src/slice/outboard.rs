//! Hashing a shard once, for its root and its outboard.

use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::{Digest, ShardRoot};

use super::{ChainingValue, SPAN_BYTES, Subtree, chaining_value, merge, merge_root};
use crate::slot_tree::{as_count, as_index};

/// The hash of each 16 KiB span of a shard: 32 bytes for each, none for a shard of one span.
///
/// Kept beside the shard: 2 KiB for 1 MiB. It can be made again from the shard at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outboard {
    shard_bytes: u32,
    spans: Vec<ChainingValue>,
}

/// Why bytes are not an outboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboardError {
    /// No shard has that size.
    #[error("expected a shard of 1 to {SHARD_BYTES_MAX} bytes, found {found}")]
    ShardBytes {
        /// The size found.
        found: u32,
    },
    /// Not as long as the outboard of such a shard.
    #[error("expected an outboard of {expected} bytes, found {found}")]
    Length {
        /// Bytes of the outboard of such a shard.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

impl Outboard {
    /// Bytes of the outboard of a shard of `shard_bytes`.
    #[must_use]
    pub const fn bytes_of(shard_bytes: u32) -> u32 {
        if shard_bytes <= SPAN_BYTES {
            0
        } else {
            shard_bytes.div_ceil(SPAN_BYTES) * 32
        }
    }

    /// Reads back [`Self::to_bytes`]. Whether it is the outboard of a given shard is for
    /// [`Self::root`] to say.
    ///
    /// # Errors
    ///
    /// [`OutboardError`] when the size is not that of such a shard's outboard.
    pub fn from_bytes(shard_bytes: u32, bytes: &[u8]) -> Result<Self, OutboardError> {
        if shard_bytes == 0 || shard_bytes > SHARD_BYTES_MAX {
            return Err(OutboardError::ShardBytes { found: shard_bytes });
        }
        let expected = as_index(Self::bytes_of(shard_bytes));
        let (spans, rest) = bytes.as_chunks::<32>();
        if bytes.len() != expected || !rest.is_empty() {
            return Err(OutboardError::Length {
                expected,
                found: bytes.len(),
            });
        }
        Ok(Self {
            shard_bytes,
            spans: spans.to_vec(),
        })
    }

    /// The spans' hashes one after the other, for keeping.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.spans.concat()
    }

    /// Bytes of the shard.
    #[must_use]
    pub const fn shard_bytes(&self) -> u32 {
        self.shard_bytes
    }

    /// The shard root that these hashes give; `None` for a shard of one span, which has none.
    #[must_use]
    pub fn root(&self) -> Option<ShardRoot> {
        if self.spans.is_empty() {
            return None;
        }
        let whole = Subtree {
            start: 0,
            end: self.shard_bytes,
        };
        let (left, right) = whole.children();
        Some(merge_root(
            &self.chaining_value(left)?,
            &self.chaining_value(right)?,
        ))
    }

    /// Hash of a subtree that is not the whole; `None` when it is not made of whole spans.
    pub(super) fn chaining_value(&self, subtree: Subtree) -> Option<ChainingValue> {
        let whole = subtree.start.is_multiple_of(SPAN_BYTES)
            && (subtree.end.is_multiple_of(SPAN_BYTES) || subtree.end == self.shard_bytes);
        if !whole {
            return None;
        }
        let first = as_index(subtree.start / SPAN_BYTES);
        let end = as_index(subtree.end.div_ceil(SPAN_BYTES));
        self.spans.get(first..end).map(merge_all)
    }
}

/// Hash of the subtree over some spans, at least one.
fn merge_all(spans: &[ChainingValue]) -> ChainingValue {
    match spans {
        [] => ChainingValue::default(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len().div_ceil(2).next_power_of_two());
            merge(&merge_all(left), &merge_all(right))
        }
    }
}

/// What hashing a shard gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedShard {
    /// Plain BLAKE3 of the shard.
    pub root: ShardRoot,
    /// To keep beside it.
    pub outboard: Outboard,
}

/// Hashes a shard that arrives in pieces, near the speed of plain BLAKE3 whatever the pieces are.
///
/// The shard's size is given ahead, so memory is bounded: 32 bytes a span, and one span where the
/// pieces cut spans.
#[derive(Clone, Debug)]
pub struct ShardHasher {
    shard_bytes: u32,
    /// Bytes taken.
    taken: u32,
    /// The begun span: less than whole between two pieces. Hashing it at once, when it is whole,
    /// is twice as fast as hashing the pieces of it.
    begun: Vec<u8>,
    spans: Vec<ChainingValue>,
    /// Root of a shard of one span.
    plain: Option<ShardRoot>,
}

impl ShardHasher {
    /// For a shard of `shard_bytes`.
    ///
    /// # Errors
    ///
    /// [`OutboardError::ShardBytes`] for 0 or more than [`SHARD_BYTES_MAX`].
    pub fn new(shard_bytes: u32) -> Result<Self, OutboardError> {
        if shard_bytes == 0 || shard_bytes > SHARD_BYTES_MAX {
            return Err(OutboardError::ShardBytes { found: shard_bytes });
        }
        Ok(Self {
            shard_bytes,
            taken: 0,
            begun: Vec::new(),
            spans: Vec::with_capacity(as_index(Outboard::bytes_of(shard_bytes)) / 32),
            plain: None,
        })
    }

    /// Bytes that are still to come.
    #[must_use]
    pub const fn bytes_lacking(&self) -> u32 {
        self.shard_bytes - self.taken
    }

    /// Takes the next piece.
    ///
    /// # Panics
    ///
    /// When it is longer than [`Self::bytes_lacking`]: the caller's own bug.
    pub fn update(&mut self, piece: &[u8]) {
        let lacking = self.bytes_lacking();
        assert!(
            piece.len() <= as_index(lacking),
            "a piece of {} bytes where {lacking} are lacking",
            piece.len(),
        );
        let mut rest = piece;
        while !rest.is_empty() {
            let start = self.taken / SPAN_BYTES * SPAN_BYTES;
            let span_bytes = SPAN_BYTES.min(self.shard_bytes - start);
            let room = as_index(start + span_bytes - self.taken);
            let (now, later) = rest.split_at(room.min(rest.len()));
            rest = later;
            self.taken += as_count(now.len());
            if now.len() == as_index(span_bytes) {
                self.close_span(start, now);
                continue;
            }
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(now);
            if begun.len() == as_index(span_bytes) {
                self.close_span(start, &begun);
                begun.clear();
            }
            self.begun = begun;
        }
    }

    /// Root and outboard.
    ///
    /// # Panics
    ///
    /// When bytes are lacking: the caller's own bug.
    #[must_use]
    pub fn finish(self) -> HashedShard {
        let lacking = self.bytes_lacking();
        assert!(
            lacking == 0,
            "a shard finished with {lacking} bytes lacking"
        );
        let outboard = Outboard {
            shard_bytes: self.shard_bytes,
            spans: self.spans,
        };
        let root = self.plain.or_else(|| outboard.root());
        HashedShard {
            root: root.expect("a shard of one span, or an outboard of two or more"),
            outboard,
        }
    }

    /// Hashes the whole span that begins at `start`.
    fn close_span(&mut self, start: u32, span: &[u8]) {
        if self.shard_bytes <= SPAN_BYTES {
            self.plain = Some(ShardRoot::new(Digest::of(span)));
        } else {
            self.spans.push(chaining_value(start, span));
        }
    }
}

/// Hashes a shard that is at hand.
///
/// # Errors
///
/// [`OutboardError::ShardBytes`] for no bytes or more than [`SHARD_BYTES_MAX`].
pub fn hash_shard(shard: &[u8]) -> Result<HashedShard, OutboardError> {
    let shard_bytes = u32::try_from(shard.len()).unwrap_or(u32::MAX);
    let mut hasher = ShardHasher::new(shard_bytes)?;
    hasher.update(shard);
    Ok(hasher.finish())
}
