//! Messages between clients and nodes, and among nodes.
//!
//! **Data plane** (a direct TLS connection or a libp2p stream; one request at a time on each):
//!
//! ```text
//! request:  u32 LE length, DataRequest,  then for Put the shard's bytes
//! response: u32 LE length, DataResponse, then for Shard the proof and the range's bytes
//! ```
//!
//! **Control plane** (libp2p request-response): one [`ControlRequest`], one [`ControlResponse`].

use borsh::{BorshDeserialize, BorshSerialize};

use crate::bounded::{Bounded, Text};
use crate::capability::Capability;
use crate::code::{SHARD_BYTES_MAX, SLOTS_MAX};
use crate::error_code::ErrorCode;
use crate::group::RevisionDetail;
use crate::id::{EpochNumber, GroupId, RevisionNumber, SegmentNumber, SlotIndex, SlotRoot};
use crate::receipt::Receipt;
use crate::record::{Record, RecordKind, Signed};
use crate::segment::SegmentRecord;
use crate::size::ByteCount;

/// Most segment records in one response: 64 of 4.2 KB at the widest code is 270 KB.
pub const RECORDS_PAGE_MAX: usize = 64;
/// Longest text that goes with an error code; for logs only.
pub const ERROR_TEXT_MAX: usize = 200;
/// Most bytes of the proof that goes with a range: siblings of two paths over 4,096 blocks.
pub const RANGE_PROOF_BYTES_MAX: u32 = 4_096;
/// Most bytes of the proof that answers an audit: of one sample at the largest group.
pub const AUDIT_PROOF_BYTES_MAX: usize = 4_096;
/// Most bytes of a ledger request or response carried as a control message.
pub const LEDGER_MESSAGE_BYTES_MAX: usize = 19 << 16;

/// Whether a get also wants the segment record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum WithRecord {
    /// The reader has it.
    No,
    /// The reader needs it.
    Yes,
}

/// Which bytes of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ShardRange {
    /// First byte.
    pub offset: u32,
    /// How many; at least 1.
    pub bytes: u32,
}

/// What is asked on the data plane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DataRequest {
    /// Present a capability for the rest of the connection. Answer: `Done`.
    Present(Capability),
    /// Keep a shard; its `shard_bytes` bytes follow the message. Answer: `Receipt`.
    Put {
        /// The slot; the group is in the record.
        slot: SlotIndex,
        /// The segment's record, signed by the writer.
        record: Signed<SegmentRecord>,
    },
    /// Bytes of a shard. Answer: `Shard`, then proof and bytes.
    Get {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: SlotIndex,
        /// The segment.
        segment: SegmentNumber,
        /// The range; the answer covers it in whole 1 KiB blocks.
        range: ShardRange,
        /// Whether to send the record too.
        record: WithRecord,
    },
    /// Segment records from a number on. Answer: `Records`.
    Records {
        /// The group.
        group: GroupId,
        /// The first number.
        from: SegmentNumber,
        /// How many at most; no more than [`RECORDS_PAGE_MAX`] are sent.
        count: u32,
    },
    /// The block that one of the asking node's audit tickets names, which the ledger has. Needs no
    /// capability. Answer: `Audited`.
    Audit {
        /// The epoch of the ticket, which runs.
        epoch: EpochNumber,
        /// Which of the asking node's tickets.
        number: u8,
    },
}

impl Record for DataRequest {
    const KIND: RecordKind = RecordKind::DataRequest;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 256 + Signed::<SegmentRecord>::BYTES_MAX + Capability::BYTES_MAX;
}

/// One entry of a page of segment records.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RecordEntry {
    /// The leaf was emptied by a revision.
    Emptied(SegmentNumber),
    /// The segment's record.
    Kept(Signed<SegmentRecord>),
    /// This node has no record of that number.
    Missing(SegmentNumber),
}

/// What is answered on the data plane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DataResponse {
    /// Done.
    Done,
    /// The shard is durable.
    Receipt(Signed<Receipt>),
    /// The range follows: first `proof_bytes` of proof, then `range.bytes` of the shard. The range
    /// is the one asked for, widened to whole 1 KiB blocks. A whole shard needs no proof.
    Shard {
        /// The record, when asked for.
        record: Option<Signed<SegmentRecord>>,
        /// What follows after the proof.
        range: ShardRange,
        /// Bytes of proof; at most [`RANGE_PROOF_BYTES_MAX`].
        proof_bytes: u32,
    },
    /// A page of records.
    Records {
        /// Entries in rising number from the one asked for.
        entries: Bounded<RecordEntry, RECORDS_PAGE_MAX>,
        /// How many leaves this node knows of, emptied ones included.
        segment_count: u32,
    },
    /// Refused or failed. The connection goes on unless the code is of the 3xx group.
    Error {
        /// Which error.
        code: ErrorCode,
        /// For logs.
        text: Text<ERROR_TEXT_MAX>,
    },
    /// The encoding of a proof of one sample.
    Audited(Bounded<u8, AUDIT_PROOF_BYTES_MAX>),
}

impl Record for DataResponse {
    const KIND: RecordKind = RecordKind::DataResponse;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 256 + RECORDS_PAGE_MAX * (8 + Signed::<SegmentRecord>::BYTES_MAX);

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Shard {
                range, proof_bytes, ..
            } => {
                let end = range.offset.checked_add(range.bytes);
                range.bytes > 0
                    && end.is_some_and(|end| end <= SHARD_BYTES_MAX)
                    && *proof_bytes <= RANGE_PROOF_BYTES_MAX
            }
            Self::Done
            | Self::Receipt(_)
            | Self::Records { .. }
            | Self::Audited(_)
            | Self::Error { .. } => true,
        }
    }
}

/// What a node says of one of its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SlotStatus {
    /// Newest revision that the slot has whole.
    pub revision: RevisionNumber,
    /// Its slot root.
    pub slot_root: SlotRoot,
    /// Shards kept.
    pub shard_count: u32,
    /// Bytes kept.
    pub slot_bytes: ByteCount,
    /// Shards of the newest revision known that are lacking.
    pub lacking_count: u32,
}

/// What is asked on the control plane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ControlRequest {
    /// The writer hands over a revision's detail. Answer: `Slot`.
    Revise {
        /// The slot.
        slot: SlotIndex,
        /// The detail, signed by the group's owner.
        detail: Signed<RevisionDetail>,
    },
    /// The newest detail known, for catching up. Answer: `Detail`.
    Detail {
        /// The group.
        group: GroupId,
    },
    /// How a slot stands. Answer: `Slot`.
    Slot {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: SlotIndex,
    },
    /// A ledger request in the ledger's own encoding. Answer: `Ledger`.
    Ledger(Bounded<u8, LEDGER_MESSAGE_BYTES_MAX>),
}

impl Record for ControlRequest {
    const KIND: RecordKind = RecordKind::ControlRequest;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64 + LEDGER_MESSAGE_BYTES_MAX;
}

/// What is answered on the control plane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ControlResponse {
    /// How the slot stands.
    Slot(SlotStatus),
    /// A revision's detail, signed by the group's owner.
    Detail(Signed<RevisionDetail>),
    /// The ledger's answer in its own encoding.
    Ledger(Bounded<u8, LEDGER_MESSAGE_BYTES_MAX>),
    /// Refused or failed.
    Error {
        /// Which error.
        code: ErrorCode,
        /// For logs.
        text: Text<ERROR_TEXT_MAX>,
    },
}

impl Record for ControlResponse {
    const KIND: RecordKind = RecordKind::ControlResponse;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64 + LEDGER_MESSAGE_BYTES_MAX;
}

/// Frame length prefix bound of the data plane: the larger of the two messages.
pub const DATA_MESSAGE_BYTES_MAX: usize = if DataResponse::BYTES_MAX > DataRequest::BYTES_MAX {
    DataResponse::BYTES_MAX
} else {
    DataRequest::BYTES_MAX
};

// A revision's detail fits a control message.
const _: () = assert!(Signed::<RevisionDetail>::BYTES_MAX + 64 <= ControlRequest::BYTES_MAX);
// The tree of a shard has at most 12 levels above its blocks: 24 siblings of 32 bytes.
const _: () = assert!(RANGE_PROOF_BYTES_MAX >= 24 * 32);
const _: () = assert!(SLOTS_MAX <= 255);
