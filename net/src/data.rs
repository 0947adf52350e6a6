//! The data plane: shard bytes and segment records over any authenticated byte stream.
//!
//! ```text
//! request:  u32 LE length, DataRequest,  then for Put the shard's bytes
//! response: u32 LE length, DataResponse, then for Shard the proof and the range's bytes
//! ```
//!
//! One request at a time on each stream; several streams to a peer run beside each other.
//! [`DataConn`] is the asking end and [`ServerConn`] the answering one. Both are generic over the
//! stream, so direct TLS, libp2p streams and the simulated network share them.
//!
//! **Guarantees.** Remote input never panics and never makes us reserve more than what was asked
//! for or [`cairn_core::message::DATA_MESSAGE_BYTES_MAX`]; body bytes are read once, straight into
//! the caller's buffer; a peer that stops reading or sending is given up after [`Pace`].
//! **Assumes** that the stream is authenticated as coming from the peer. Bytes handed up are *not*
//! verified against a shard root: that is the reader's task. **Fails** with [`DataError`]; after
//! an error inside a message the stream is out of step and must be dropped, which
//! [`DataConn::is_reusable`] tells.
//!
//! The bytes are specified in `docs/protocol/data-plane.md`.

use std::time::Duration;

use cairn_core::message::DataResponse;
use cairn_core::{ErrorCode, Record, Text};

mod conn;
mod error;
mod server;
#[cfg(test)]
mod tests;
mod wire;

pub use conn::{DataConn, ShardGot, ShardWanted};
pub use error::DataError;
pub use server::ServerConn;

/// How long a peer may keep us waiting.
///
/// Only time spent waiting for the peer counts, not time that our own disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two requests on one stream.
    pub idle: Duration,
    /// For a message, beside the time that its bytes need at the least rate.
    pub stall: Duration,
    /// The least rate at which a peer must send or take bytes.
    pub bytes_per_second_min: u32,
}

impl Pace {
    /// The asking end gives up idle streams first, so that it seldom meets a closed one.
    pub const CLIENT: Self = Self {
        idle: Duration::from_secs(45),
        stall: Duration::from_secs(20),
        bytes_per_second_min: 16 << 10,
    };

    /// The answering end. 16 KiB/s takes a 1 MiB shard in 64 s: slower than any uplink that can
    /// keep slots, fast enough that a peer can't hold a stream for hours.
    pub const SERVER: Self = Self {
        idle: Duration::from_secs(120),
        stall: Duration::from_secs(20),
        bytes_per_second_min: 16 << 10,
    };

    /// Longest wait for a message of `bytes`.
    #[must_use]
    pub(crate) fn limit(&self, bytes: usize) -> Duration {
        let rate = u64::from(self.bytes_per_second_min.max(1));
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let seconds = bytes.checked_div(rate).unwrap_or(0);
        self.stall.saturating_add(Duration::from_secs(seconds))
    }
}

/// What a peer reads on a stream that is over our bounds: the answer to its first request.
pub(crate) fn refusal() -> Vec<u8> {
    let response = DataResponse::Error {
        code: ErrorCode::Busy,
        text: Text::cut("at the limit of streams"),
    };
    let message = response.encode();
    let length = u32::try_from(message.len()).expect("an error is short");
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&message);
    bytes
}
