//! Proving a range of a shard from its outboard.

use cairn_core::message::ShardRange;

use super::{
    ChainingValue, Outboard, Overlap, RangeError, SPAN_BYTES, Subtree, blocks_of, chaining_value,
};
use crate::slot_tree::as_index;

/// The siblings of a range, 32 bytes each, from left to right. As sent after a `Shard` response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeProof {
    siblings: Vec<ChainingValue>,
}

impl RangeProof {
    /// The siblings.
    #[must_use]
    pub fn siblings(&self) -> &[[u8; 32]] {
        &self.siblings
    }

    /// As sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.siblings.as_flattened()
    }
}

/// Why a range was not proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeProveError<E> {
    /// There is no such range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The outboard is of a shard of another size.
    #[error("expected the outboard of a shard of {expected} bytes, found one of {found}")]
    Outboard {
        /// The shard's size.
        expected: u32,
        /// The size of the outboard's shard.
        found: u32,
    },
    /// Fewer or more bytes were read than asked for.
    #[error("expected {expected} bytes of the shard, read {found}")]
    Length {
        /// Bytes asked for.
        expected: u32,
        /// Bytes read.
        found: usize,
    },
    /// The shard could not be read.
    #[error("reading the shard")]
    Read(#[source] E),
}

/// The proof of `range`, which consists of whole blocks ([`super::widen_to_blocks`]).
///
/// `read` gives bytes of the shard. It is asked for whole spans at the two ends of the range, at
/// most twice and only for ends that are within a span, from left to right; all that it is asked
/// for lies in [`super::widen_to_spans`] of the range.
///
/// # Errors
///
/// [`RangeProveError`]. A wrong outboard or wrong bytes give a wrong proof, which the verifier
/// refuses; nothing here compares with a root.
pub fn prove_range<B: AsRef<[u8]>, E>(
    shard_bytes: u32,
    range: ShardRange,
    outboard: &Outboard,
    read: impl FnMut(ShardRange) -> Result<B, E>,
) -> Result<RangeProof, RangeProveError<E>> {
    let range = blocks_of(shard_bytes, range)?;
    if outboard.shard_bytes() != shard_bytes {
        return Err(RangeProveError::Outboard {
            expected: shard_bytes,
            found: outboard.shard_bytes(),
        });
    }
    let mut prover = Prover {
        shard_bytes,
        range,
        outboard,
        read,
        span: None,
        siblings: Vec::new(),
    };
    prover.walk(Subtree {
        start: 0,
        end: shard_bytes,
    })?;
    Ok(RangeProof {
        siblings: prover.siblings,
    })
}

/// State of the walk from left to right.
struct Prover<'a, B, R> {
    shard_bytes: u32,
    range: Subtree,
    outboard: &'a Outboard,
    read: R,
    /// The span read last.
    span: Option<(Subtree, B)>,
    siblings: Vec<ChainingValue>,
}

impl<B: AsRef<[u8]>, E, R: FnMut(ShardRange) -> Result<B, E>> Prover<'_, B, R> {
    fn walk(&mut self, subtree: Subtree) -> Result<(), RangeProveError<E>> {
        match subtree.overlap(self.range) {
            Overlap::Covered => Ok(()),
            Overlap::Disjoint => {
                let sibling = self.sibling(subtree)?;
                self.siblings.push(sibling);
                Ok(())
            }
            Overlap::Partial => {
                let (left, right) = subtree.children();
                self.walk(left)?;
                self.walk(right)
            }
        }
    }

    /// Hash of a subtree outside the range: from the outboard, or from the span that it shares
    /// with an end of the range.
    fn sibling(&mut self, subtree: Subtree) -> Result<ChainingValue, RangeProveError<E>> {
        if let Some(value) = self.outboard.chaining_value(subtree) {
            return Ok(value);
        }
        let start = subtree.start / SPAN_BYTES * SPAN_BYTES;
        let span = Subtree {
            start,
            end: (start + SPAN_BYTES).min(self.shard_bytes),
        };
        if self.span.as_ref().is_none_or(|(kept, _)| *kept != span) {
            let bytes = (self.read)(ShardRange {
                offset: span.start,
                bytes: span.bytes(),
            })
            .map_err(RangeProveError::Read)?;
            self.span = Some((span, bytes));
        }
        let bytes = self.span.as_ref().map(|(_, bytes)| bytes.as_ref());
        let bytes = bytes
            .filter(|bytes| bytes.len() == as_index(span.bytes()))
            .ok_or_else(|| RangeProveError::Length {
                expected: span.bytes(),
                found: bytes.map_or(0, <[u8]>::len),
            })?;
        let within = as_index(subtree.start - start)..as_index(subtree.end - start);
        Ok(chaining_value(subtree.start, &bytes[within]))
    }
}
