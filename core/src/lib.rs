//! The protocol's nouns and their one canonical encoding.
//!
//! Everything that is signed, stored or sent is a [`Record`]: a kind, a version and a
//! [borsh](https://borsh.io) body, with strict decoding (no trailing bytes, no second form of the
//! same value) and a bound on its size that is checked before anything is allocated. Ids, sizes
//! and amounts are newtypes; nothing here knows a clock, a file or a socket.
//!
//! Formats are drafts until `docs/protocol/` says stable; golden vectors in `tests/vectors/`
//! freeze them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod amount;
pub mod bounded;
pub mod capability;
pub mod code;
pub mod digest;
pub mod error_code;
pub mod group;
pub mod id;
pub mod key;
pub mod message;
pub mod node_record;
pub mod receipt;
pub mod record;
pub mod segment;
pub mod size;
pub mod time;
pub mod transport;
pub mod volume_head;

pub use amount::Amount;
pub use bounded::{Bounded, Text};
pub use capability::{Capability, CapabilityError, CapabilityLink, Right, Scope};
pub use code::{Code, CodeError, Profile, charged_bytes};
pub use digest::Digest;
pub use error_code::{Blame, ErrorCode, Retry};
pub use group::{GroupRecord, GroupRevision, RevisionDetail};
pub use id::{
    AccountId, EpochNumber, FencingNumber, GroupId, GroupRoot, HeadNumber, Height, LedgerId,
    NodeId, RevisionNumber, SegmentNumber, ShardRoot, SlotIndex, SlotRoot, TxId, ViewNumber,
    VolumeId,
};
pub use key::{KeyError, PublicKey, SecretKey, Signature};
pub use node_record::{NodeAddress, NodeRecord};
pub use receipt::Receipt;
pub use record::{DecodeError, Record, RecordKind, SignatureError, Signed};
pub use segment::SegmentRecord;
pub use size::ByteCount;
pub use time::UnixMillis;
pub use transport::{LedgerTransport, TransportError};
pub use volume_head::{HEAD_SEALED_BYTES_MAX, VolumeHead};
