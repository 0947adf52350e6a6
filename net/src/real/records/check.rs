//! Which DHT records are believed, and which of two is newer.
//!
//! A node record is signed by the node itself. A group record is signed by the group's owner, whom
//! the DHT does not know; but the owner is part of the key that the record is under, so that a
//! record of anybody else is under another key, where nobody looks for it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use cairn_core::{
    AccountId, DecodeError, Digest, GroupRecord, NodeRecord, Record, RecordKind, SignatureError,
    Signed, UnixMillis,
};

use super::RECORD_TTL;
use crate::{RECORD_BYTES_MAX, RecordKey};

/// How far a node's clock may be ahead of ours.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(3_600);

/// Why a record is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Over [`RECORD_BYTES_MAX`].
    #[error("expected at most {RECORD_BYTES_MAX} bytes, found {found}")]
    TooLarge { found: usize },
    /// No kind of record that the DHT carries.
    #[error("not a DHT record")]
    Kind,
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its signature does not hold, or is not that of its node.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Stored under another key than its own.
    #[error("the record belongs under another key")]
    Key,
    /// Made too long ago.
    #[error("made at {made_at}, too long ago")]
    Expired { made_at: UnixMillis },
    /// Made in the future.
    #[error("made at {made_at}, in the future")]
    Future { made_at: UnixMillis },
    /// A newer one is kept.
    #[error("a newer record is kept")]
    Older,
    /// The bounds are reached by records nearer to us.
    #[error("no room for a record this far from us")]
    NoRoom,
}

/// What is known of a record that may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// What makes it newer.
    order: u64,
    /// Not kept at or after this time.
    pub(super) expires_at: UnixMillis,
}

impl Checked {
    /// Whether it displaces `before`.
    pub(super) fn replaces(&self, before: &Self) -> bool {
        self.order > before.order
    }
}

/// A record of either kind, verified.
enum Verified {
    Node(NodeRecord),
    /// And who signed it.
    Group(GroupRecord, AccountId),
}

/// Checks a record that was found or sent under `key`.
pub(super) fn check(key: Digest, value: &[u8], now: UnixMillis) -> Result<Checked, RecordError> {
    match verify(value)? {
        Verified::Node(record) => {
            in_place(key, RecordKey::Node(record.node))?;
            let made_at = record.made_at;
            if made_at > now.saturating_add(CLOCK_SKEW_MAX) {
                return Err(RecordError::Future { made_at });
            }
            let expires_at = made_at.saturating_add(RECORD_TTL);
            if expires_at <= now {
                return Err(RecordError::Expired { made_at });
            }
            Ok(Checked {
                order: made_at.get(),
                expires_at,
            })
        }
        Verified::Group(record, owner) => {
            let group = record.group;
            in_place(key, RecordKey::Group { group, owner })?;
            Ok(Checked {
                order: record.height.get(),
                expires_at: now.saturating_add(RECORD_TTL),
            })
        }
    }
}

/// Whether a value found under `key` may be believed.
pub(crate) fn is_valid(key: Digest, value: &[u8], now: UnixMillis) -> bool {
    check(key, value, now).is_ok()
}

/// The better of two values found under `key`; those that don't check are passed over.
pub(crate) fn newer(
    key: Digest,
    best: Option<Vec<u8>>,
    found: Vec<u8>,
    now: UnixMillis,
) -> Option<Vec<u8>> {
    let Ok(candidate) = check(key, &found, now) else {
        return best;
    };
    let before = best.as_deref().and_then(|best| check(key, best, now).ok());
    match before {
        Some(before) if !candidate.replaces(&before) => best,
        Some(_) | None => Some(found),
    }
}

fn in_place(key: Digest, expected: RecordKey) -> Result<(), RecordError> {
    if expected.digest() == key {
        Ok(())
    } else {
        Err(RecordError::Key)
    }
}

fn verify(value: &[u8]) -> Result<Verified, RecordError> {
    if value.len() > RECORD_BYTES_MAX {
        return Err(RecordError::TooLarge { found: value.len() });
    }
    let number = match value {
        [low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => return Err(RecordError::Kind),
    };
    if number == RecordKind::Node.number() {
        let signed = Signed::<NodeRecord>::decode(value)?;
        let node = signed.unverified().node;
        Ok(Verified::Node(signed.verify_by(node.key())?.clone()))
    } else if number == RecordKind::Group.number() {
        let signed = Signed::<GroupRecord>::decode(value)?;
        let signer = AccountId::from(signed.signer());
        Ok(Verified::Group(signed.verify()?.clone(), signer))
    } else {
        Err(RecordError::Kind)
    }
}
