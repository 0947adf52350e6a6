//! What can go wrong with a read, and whose fault it is.

use std::time::Duration;

use cairn_core::{
    Blame, DecodeError, ErrorCode, GroupId, NodeId, Retry, SegmentNumber, SignatureError,
    SlotIndex, UnixMillis,
};
use cairn_net::data::DataError;
use cairn_proofs::RangeError;

use crate::cipher::OpenError;
use crate::group_view::GroupError;
use crate::index::PATH_BYTES_MAX;
use crate::memory::OverBudget;

/// Why a slot did not give the bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotReadFailure {
    /// The slot has no node at present.
    #[error("the slot has no node at present")]
    NoNode,
    /// The connection, or the node's answer.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No answer within the time given.
    #[error("no answer within {limit:?}")]
    Timeout {
        /// The time given.
        limit: Duration,
    },
    /// The bytes are not those of the shard.
    #[error("serves bytes that are not the shard's: {0}")]
    WrongBytes(RangeError),
    /// The record is not signed by the owner.
    #[error("serves a forged record: {0}")]
    ForgedRecord(SignatureError),
    /// The record is the owner's, of another segment.
    #[error("serves the record of another segment")]
    OtherRecord,
    /// Our own side is shutting down.
    #[error("the request was aborted")]
    Aborted,
}

impl SlotReadFailure {
    /// Whether the node served something false, and is to be avoided.
    #[must_use]
    pub const fn is_lie(&self) -> bool {
        match self {
            Self::WrongBytes(_) | Self::ForgedRecord(_) | Self::OtherRecord => true,
            Self::NoNode | Self::Data(_) | Self::Timeout { .. } | Self::Aborted => false,
        }
    }

    /// Whether another node may hold the slot by now.
    pub(super) const fn may_have_moved(&self) -> bool {
        match self {
            Self::NoNode | Self::Timeout { .. } => true,
            Self::Data(DataError::Remote { code, .. }) => {
                matches!(code, ErrorCode::NotMySlot | ErrorCode::UnknownGroup)
            }
            Self::Data(_) => true,
            Self::WrongBytes(_) | Self::ForgedRecord(_) | Self::OtherRecord | Self::Aborted => {
                false
            }
        }
    }

    /// What to do about it: other slots may give the bytes meanwhile.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Data(error) => error.retry(),
            Self::NoNode | Self::Timeout { .. } => Retry::Later,
            Self::Aborted => Retry::Never,
            Self::WrongBytes(_) | Self::ForgedRecord(_) | Self::OtherRecord => Retry::Elsewhere,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Data(error) => error.blame(),
            Self::NoNode | Self::Timeout { .. } => Blame::World,
            Self::WrongBytes(_) | Self::ForgedRecord(_) | Self::OtherRecord => Blame::Peer,
            Self::Aborted => Blame::Us,
        }
    }
}

/// A slot that did not give its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingSlot {
    /// The slot.
    pub slot: SlotIndex,
    /// Its node, when it has one.
    pub node: Option<NodeId>,
    /// Why.
    pub failure: SlotReadFailure,
}

/// Why a link can't be opened, or bytes of it not be read. No byte that is not verified comes with
/// it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Where the slots are is not known.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Fewer than k slots have the segment.
    #[error(
        "segment {segment} of group {group}: {} of {expected} slots missing, {needed} needed: {}",
        missing.len(), reasons(missing)
    )]
    TooFewSlots {
        /// The group.
        group: GroupId,
        /// The segment.
        segment: SegmentNumber,
        /// Slots of the group.
        expected: usize,
        /// Slots needed.
        needed: usize,
        /// Slots that gave the bytes.
        found: usize,
        /// The slots that did not.
        missing: Vec<MissingSlot>,
    },
    /// The link has ended.
    #[error("the link expired at {expired_at}, now {now}")]
    Expired {
        /// When it ended.
        expired_at: UnixMillis,
        /// The time of the check.
        now: UnixMillis,
    },
    /// The bytes are the owner's and do not open under the link's key.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The upload's index is malformed: its writer's fault.
    #[error("the upload's index can't be read: {0}")]
    Index(#[from] DecodeError),
    /// The group's code is not that of the segment.
    #[error("segment {segment} of group {group} is larger than its code allows")]
    Layout {
        /// The group.
        group: GroupId,
        /// The segment.
        segment: SegmentNumber,
    },
    /// A range past the end.
    #[error("expected a range within {bytes} bytes, found {count} at {offset}")]
    Range {
        /// The file's size.
        bytes: u64,
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        count: u64,
    },
    /// No file at that path.
    #[error("no file at {path:?} in this link (paths are at most {PATH_BYTES_MAX} bytes)")]
    NoSuchFile {
        /// The path.
        path: String,
    },
    /// The read does not fit the memory budget.
    #[error(transparent)]
    Memory(#[from] OverBudget),
    /// Our own side is shutting down.
    #[error("the read was aborted")]
    Aborted,
}

/// Whether all of them refuse what the caller asks for, as with a stale capability.
fn is_refused(missing: &[MissingSlot]) -> bool {
    let mut failures = missing.iter().map(|missing| &missing.failure);
    !missing.is_empty() && failures.all(|failure| failure.blame() == Blame::Caller)
}

fn reasons(missing: &[MissingSlot]) -> String {
    let each: Vec<String> = missing
        .iter()
        .map(|missing| match missing.node {
            Some(node) => format!("slot {} on {node}: {}", missing.slot, missing.failure),
            None => format!("slot {}: {}", missing.slot, missing.failure),
        })
        .collect();
    each.join("; ")
}

impl ReadError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Group(error) => error.retry(),
            Self::TooFewSlots { missing, .. } => {
                if is_refused(missing) {
                    Retry::Never
                } else {
                    Retry::Later
                }
            }
            Self::Expired { .. }
            | Self::Open(_)
            | Self::Index(_)
            | Self::Layout { .. }
            | Self::Range { .. }
            | Self::NoSuchFile { .. }
            | Self::Memory(_)
            | Self::Aborted => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Group(error) => error.blame(),
            Self::TooFewSlots { missing, .. } => {
                if is_refused(missing) {
                    Blame::Caller
                } else {
                    Blame::World
                }
            }
            Self::Expired { .. }
            | Self::Open(_)
            | Self::Index(_)
            | Self::Layout { .. }
            | Self::Range { .. }
            | Self::NoSuchFile { .. }
            | Self::Memory(_) => Blame::Caller,
            Self::Aborted => Blame::Us,
        }
    }
}
