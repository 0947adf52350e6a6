//! The way to whoever answers for a ledger: bytes there and back.

use std::fmt;
use std::future::Future;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{Blame, ErrorCode, Retry};

/// Carries one request to a ledger and its response back. Limits of time are the transport's; an
/// answer to a transaction takes as long as finality, one to a poll as long as the ledger's own limit.
pub trait LedgerTransport: Clone + fmt::Debug + Send + Sync + 'static {
    /// Sends a request and waits for the response.
    ///
    /// # Errors
    ///
    /// [`TransportError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the request may have been done.
    fn call(
        &self,
        request: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, TransportError>> + Send;

    /// How many ends there are, of which each can be asked.
    fn end_count(&self) -> usize {
        1
    }

    /// Whoever answered last is no good, or has nothing new: the next request goes to another first, where there
    /// is one.
    fn turn_away(&self);
}

/// Why a request to the ledger got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum TransportError {
    /// No connection.
    #[error("no connection")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended before the answer.
    #[error("the connection ended before the answer")]
    Disconnected,
    /// The other end refuses.
    #[error("refused: {0}")]
    Refused(ErrorCode),
    /// The other end breaks the protocol.
    #[error("the other end breaks the protocol")]
    Protocol,
    /// Our end is shut down.
    #[error("our end is shut down")]
    Closed,
}

impl TransportError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::Unreachable | Self::TimedOut | Self::Disconnected => Retry::Later,
            Self::Refused(code) => code.retry(),
            Self::Protocol => Retry::Elsewhere,
            Self::Closed => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            Self::Unreachable | Self::TimedOut | Self::Disconnected => Blame::World,
            Self::Refused(code) => code.blame(),
            Self::Protocol => Blame::Peer,
            Self::Closed => Blame::Us,
        }
    }
}
