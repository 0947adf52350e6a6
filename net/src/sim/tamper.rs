//! The hook for adversaries on the wire.
//!
//! Real streams are encrypted and bound to their peers, so nobody on the way can do this; what is
//! modelled is a peer that sends other bytes than it should, without writing a peer for it.

use cairn_core::NodeId;

/// Something on its way.
#[derive(Debug)]
pub enum Passing<'a> {
    /// A control request.
    Request {
        /// Who sends it.
        from: NodeId,
        /// Whom it is for.
        to: NodeId,
        /// The message, to be changed at will.
        bytes: &'a mut Vec<u8>,
    },
    /// An answer to a control request.
    Answer {
        /// Who sends it.
        from: NodeId,
        /// Whom it is for.
        to: NodeId,
        /// The message, to be changed at will.
        bytes: &'a mut Vec<u8>,
    },
    /// A part of a stream.
    Part {
        /// Who sends it.
        from: NodeId,
        /// Whom it is for.
        to: NodeId,
        /// The stream's number in the network, from 0.
        stream: u64,
        /// How many bytes went before it in this direction.
        offset: u64,
        /// The bytes, to be changed at will.
        bytes: &'a mut Vec<u8>,
    },
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// It goes on, as it is now.
    Pass,
    /// It goes on, as it is now, and is the last: the stream ends after it. A message gets lost.
    Cut,
    /// It never arrives, nor does what follows on the stream.
    Stall,
    /// The stream breaks. A message gets lost.
    Reset,
}

/// Called with everything that passes.
pub(super) type Hook = dyn Fn(&mut Passing<'_>) -> Tamper + Send + Sync;
