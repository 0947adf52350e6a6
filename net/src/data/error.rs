//! Why a data plane request did not succeed.

use std::time::Duration;

use cairn_core::message::ShardRange;
use cairn_core::{Blame, DecodeError, ErrorCode, NodeId, Retry};

use crate::NetError;

/// Why a data plane request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The stream could not be opened or broke.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The peer refused or failed.
    #[error("peer {peer} answers: {code}: {text}")]
    Remote {
        /// The peer.
        peer: NodeId,
        /// Its code.
        code: ErrorCode,
        /// Its text, for logs.
        text: String,
    },
    /// The peer kept us waiting beyond the pace.
    #[error("peer {peer} did not go on for {limit:?}")]
    Stalled {
        /// The peer.
        peer: NodeId,
        /// How long it was given.
        limit: Duration,
    },
    /// A message does not decode.
    #[error("peer {peer} sends a malformed message: {cause}")]
    Malformed {
        /// The peer.
        peer: NodeId,
        /// What is wrong.
        cause: DecodeError,
    },
    /// A message claims more bytes than its kind may have.
    #[error("peer {peer} announces a message of {found} bytes, at most {max} are allowed")]
    TooLong {
        /// The peer.
        peer: NodeId,
        /// The bound.
        max: usize,
        /// What it claims.
        found: u32,
    },
    /// An answer to another question.
    #[error("peer {peer}: expected {expected} as answer, found {found}")]
    Unexpected {
        /// The peer.
        peer: NodeId,
        /// The answer that the request has.
        expected: &'static str,
        /// The answer that came.
        found: &'static str,
    },
    /// A range that is not the one asked for, widened to whole blocks.
    #[error("peer {peer}: asked for {asked:?} of a shard, found {found:?}")]
    Range {
        /// The peer.
        peer: NodeId,
        /// What was asked for.
        asked: ShardRange,
        /// What came.
        found: ShardRange,
    },
    /// The caller's shard is not of the size that its record says.
    #[error("expected a shard of {expected} bytes, found {found}")]
    ShardBytes {
        /// The record's size.
        expected: u32,
        /// The caller's.
        found: usize,
    },
    /// The caller used a stream after an error that left it out of step.
    #[error("the stream to peer {peer} is out of step and must be dropped")]
    OutOfStep {
        /// The peer.
        peer: NodeId,
    },
}

impl DataError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Net(error) => error.retry(),
            Self::Remote { code, .. } => code.retry(),
            Self::Stalled { .. }
            | Self::Malformed { .. }
            | Self::TooLong { .. }
            | Self::Unexpected { .. }
            | Self::Range { .. } => Retry::Elsewhere,
            Self::ShardBytes { .. } => Retry::Never,
            Self::OutOfStep { .. } => Retry::Later,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Net(error) => error.blame(),
            Self::Remote { code, .. } => code.blame(),
            Self::Stalled { .. } => Blame::World,
            Self::Malformed { .. }
            | Self::TooLong { .. }
            | Self::Unexpected { .. }
            | Self::Range { .. } => Blame::Peer,
            Self::ShardBytes { .. } => Blame::Caller,
            Self::OutOfStep { .. } => Blame::Us,
        }
    }
}
