//! What can be wrong with a request, one enum per operation.
//!
//! All of these are the caller's or a peer's doing; nothing here depends on the processor. Shards
//! that were verified against their segment record cannot cause [`ReconstructError::ShardBytes`].

use cairn_core::{Code, SlotIndex};

/// Why a segment is not encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The payload is empty or makes shards above [`cairn_core::code::SHARD_BYTES_MAX`].
    #[error("expected a payload of 1 to {expected_max} bytes, found {found}")]
    PayloadBytes {
        /// The most this code takes.
        expected_max: usize,
        /// What was given.
        found: usize,
    },
    /// Not one buffer per parity shard, or per wanted shard.
    #[error("expected {expected} output buffers, found {found}")]
    OutputCount {
        /// Buffers needed.
        expected: usize,
        /// Buffers given.
        found: usize,
    },
    /// An output buffer does not have the size of the columns.
    #[error("expected {expected} bytes in output buffer {index}, found {found}")]
    OutputBytes {
        /// Which buffer, from 0.
        index: usize,
        /// Bytes of the columns.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
    /// The columns are not a range within the shard.
    #[error("expected columns within 0..{shard_bytes}, found {start}..{end}")]
    Columns {
        /// Bytes of each shard.
        shard_bytes: usize,
        /// First column asked for.
        start: usize,
        /// Column after the last one.
        end: usize,
    },
    /// Columns of no width.
    #[error("expected a width of at least 1 column, found 0")]
    Width,
    /// A wanted slot the code does not have.
    #[error("expected slots of {code}, found slot {slot}")]
    SlotRange {
        /// The slot.
        slot: SlotIndex,
        /// The code.
        code: Code,
    },
}

/// Why shards are not reconstructed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconstructError {
    /// Fewer shards than are needed.
    #[error("expected at least {expected} shards, found {found}")]
    TooFewShards {
        /// Shards needed.
        expected: usize,
        /// Shards given.
        found: usize,
    },
    /// A slot the code does not have.
    #[error("expected slots of {code}, found slot {slot}")]
    SlotRange {
        /// The slot.
        slot: SlotIndex,
        /// The code.
        code: Code,
    },
    /// The same slot was given twice.
    #[error("expected each slot once, found slot {slot} again")]
    DuplicateSlot {
        /// The slot.
        slot: SlotIndex,
    },
    /// The shards differ in length.
    #[error("expected {expected} bytes in the shard of slot {slot}, found {found}")]
    ShardBytes {
        /// The slot whose shard differs from the first one given.
        slot: SlotIndex,
        /// Bytes of the first shard given.
        expected: usize,
        /// Bytes of this one.
        found: usize,
    },
    /// Not one output buffer per wanted slot.
    #[error("expected {expected} output buffers, found {found}")]
    OutputCount {
        /// Slots wanted.
        expected: usize,
        /// Buffers given.
        found: usize,
    },
    /// An output buffer is not as long as the shards.
    #[error("expected {expected} bytes in the output buffer of slot {slot}, found {found}")]
    OutputBytes {
        /// The wanted slot.
        slot: SlotIndex,
        /// Bytes of each shard.
        expected: usize,
        /// Bytes of the buffer.
        found: usize,
    },
}

/// Why shards do not give a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload is empty or makes shards above [`cairn_core::code::SHARD_BYTES_MAX`].
    #[error("expected a payload of 1 to {expected_max} bytes, found {found}")]
    PayloadBytes {
        /// The most this code takes.
        expected_max: usize,
        /// What was asked for.
        found: usize,
    },
    /// The shards do not have the size that the payload's shards have.
    #[error("expected {expected} bytes in the shard of slot {slot}, found {found}")]
    ShardBytes {
        /// The slot.
        slot: SlotIndex,
        /// Bytes of each shard of such a payload.
        expected: usize,
        /// Bytes of this one.
        found: usize,
    },
    /// The shards given cannot be used.
    #[error(transparent)]
    Reconstruct(#[from] ReconstructError),
}

/// Why shards are not known to belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The shards are no codeword: at least one of those given is wrong. Which one cannot be told
    /// from the shards alone; if each matches its shard root, the writer encoded wrongly.
    #[error(
        "expected a codeword, found shard {slot} to differ from the first ones at byte {column}"
    )]
    NotCodeword {
        /// The slot that does not follow from the first k given, in slot order.
        slot: SlotIndex,
        /// First byte that differs.
        column: usize,
    },
    /// The shards given cannot be compared.
    #[error(transparent)]
    Reconstruct(#[from] ReconstructError),
}
