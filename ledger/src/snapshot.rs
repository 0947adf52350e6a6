//! The state with which a term of validators began, in pieces: for who has none, and is to order the
//! ledger from there on.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::Bounded;
use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;

use crate::attestation::Attestation;
use crate::genesis::STATE_BYTES_MAX;

/// Bytes of every piece but the last.
pub const SNAPSHOT_PART_BYTES: usize = 1 << 20;

/// A piece of the encoding of the state behind the border at which a term began.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SnapshotPart {
    /// Of the border.
    pub attestation: Attestation,
    /// Bytes of the whole encoding, that of a state as a record.
    pub total: u64,
    /// How many of them come before these.
    pub offset: u64,
    /// [`SNAPSHOT_PART_BYTES`] of them, or as many as are left.
    pub bytes: Bounded<u8, SNAPSHOT_PART_BYTES>,
}

impl SnapshotPart {
    /// The piece of an encoding from a place on; `None` when nothing is there.
    #[must_use]
    pub fn cut(attestation: Attestation, encoded: &[u8], offset: u64) -> Option<Self> {
        let rest = encoded.get(usize::try_from(offset).ok()?..)?;
        let bytes = rest.get(..SNAPSHOT_PART_BYTES).unwrap_or(rest);
        if bytes.is_empty() {
            return None;
        }
        Some(Self {
            attestation,
            total: u64::try_from(encoded.len()).ok()?,
            offset,
            bytes: Bounded::new(bytes.to_vec()).ok()?,
        })
    }

    /// Where the piece ends if it is a whole one from `offset` on; `None` when it is not, or when
    /// there is more in all than a state has.
    pub(crate) fn end(&self, offset: u64) -> Option<u64> {
        let left = self.total.checked_sub(offset)?;
        let expected = left.min(u64::try_from(SNAPSHOT_PART_BYTES).ok()?);
        let length = u64::try_from(self.bytes.len()).ok()?;
        let fits = self.total <= STATE_BYTES_MAX && self.offset == offset;
        let is_whole = length > 0 && length == expected;
        (fits && is_whole).then_some(offset.checked_add(length)?)
    }
}

// A piece fits a response.
const _: () = assert!(SNAPSHOT_PART_BYTES + 1_024 <= LEDGER_MESSAGE_BYTES_MAX);
