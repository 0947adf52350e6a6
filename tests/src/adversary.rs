//! Adversaries: named types that act as nodes and as peers of a simulated network.
//!
//! A lying node runs the real node behind a [`Face`]: what it keeps, acknowledges and signs is
//! honest, what leaves it is the lie. It wears a [`Mask`] that a test puts on it. A hostile peer
//! ([`peers`]) speaks the protocol, or what looks like it, to real nodes.
//!
//! Every adversary has a test in `tests/adversary.rs` that shows that it is caught and named, and
//! that it costs nobody else anything; those that lie in their proofs ([`DeletesShards`] and on) in
//! `tests/proving.rs`, and those that lie about audits in `tests/audits.rs`. Still to come, with what they attack: `EquivocatesHead` (volume heads),
//! `EclipsesPeer` (the real DHT).

mod auditing;
mod face;
mod flow;
mod nodes;
pub mod peers;
mod provers;
pub mod proving;

pub use auditing::{LiesAboutAudits, RefusesAudits};
pub use face::{Face, FaceStream, Mask};
pub use flow::Flow;
pub use nodes::{
    DropsAfterReceipt, FalseReceipts, FlipsBits, ForgesDetails, ForgesRecords, LyingNode, Sent,
    Served, ServesOther, SlowLoris, TruncatesStreams,
};
pub use provers::{
    AcknowledgesAndDrops, DeletesShards, KeepsHashesOnly, Pretext, ProvesAnothersSlots,
    ReplaysProofs,
};
