//! Proofs: the answer to a challenge, and its verification.
//!
//! ```text
//! ledger   group root
//!             ^ group path            n slot roots
//!          slot root
//!             ^ nodes (multi-path)    one for all samples of the slot; sums say which segment
//!          leaf: shard bytes, root
//!             ^ siblings              BLAKE3 slice
//!          block: 1 KiB of the shard
//! ```
//!
//! As in `docs/protocol/proofs.md`, section "Proof".
//!
//! A proof has no choice in it: the challenge says which slots, the sums say which segments and
//! blocks, all in rising order, each once. So there is exactly one valid proof of a challenge,
//! and whoever changes a byte of it makes it invalid. Sizes: [`Proof::BYTES_MAX`] for 256
//! samples, 63 to 68 KB for 32 of 1 MiB shards.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
mod tests;

use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::bounded::Bounded;
use cairn_core::message::{AUDIT_PROOF_BYTES_MAX, LEDGER_MESSAGE_BYTES_MAX, ShardRange};
use cairn_core::{GroupId, Record, RecordKind, SegmentNumber, SlotIndex};

use crate::challenge::{Challenge, SAMPLES_MAX, SampledSlot};
use crate::group_root::{GROUP_PATH_MAX, GroupPath, GroupRootError, verify_group_path};
use crate::slice::{BLOCK_BYTES, RangeError, SLICE_LEVELS_MAX, verify_siblings, widen_to_blocks};
use crate::slot_tree::{LEVELS_MAX, Leaf, PathError, TreeNode, open_path};

/// [`SAMPLES_MAX`] as the bound of lists.
#[expect(clippy::as_conversions, reason = "widening in a constant")]
const LIST_MAX: usize = SAMPLES_MAX as usize;
/// Most bytes of what one sample adds when it shares nothing: lengths, group path, nodes, leaf
/// with its number, block, siblings.
const SAMPLE_BYTES_MAX: usize =
    24 + 32 * GROUP_PATH_MAX + 40 * LEVELS_MAX + 40 + 1_024 + 32 * SLICE_LEVELS_MAX;

/// The answer to a challenge: one entry for each slot that was hit, in the challenge's order.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proof {
    /// See [`SlotProof`].
    pub slots: Bounded<SlotProof, LIST_MAX>,
}

/// What shows the samples of one slot.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SlotProof {
    /// From the slot root to the group root.
    pub group_path: GroupPath,
    /// Subtrees of the slot tree without a sample, from left to right.
    pub nodes: Bounded<TreeNode, { LIST_MAX * LEVELS_MAX }>,
    /// The segments that were hit, rising.
    pub segments: Bounded<SegmentProof, LIST_MAX>,
}

/// What shows the samples of one shard.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SegmentProof {
    /// Its number.
    pub number: SegmentNumber,
    /// Its leaf in the slot tree.
    pub leaf: Leaf,
    /// The blocks that were hit, rising.
    pub blocks: Bounded<BlockProof, LIST_MAX>,
}

/// One block of a shard.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockProof {
    /// The block; shorter at the shard's end only.
    pub block: Block,
    /// Its siblings in the shard's BLAKE3 tree, from left to right.
    pub siblings: Bounded<[u8; 32], SLICE_LEVELS_MAX>,
}

/// 1 to 1,024 bytes. Encoded as a `u16` length and the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block(Vec<u8>);

impl Block {
    /// The bytes; `None` for none or more than a block.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        block_length(bytes.len()).map(|_| Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The length of a block as it is sent; `None` when no block has it.
fn block_length(bytes: usize) -> Option<u16> {
    u16::try_from(bytes)
        .ok()
        .filter(|length| (1..=BLOCK_BYTES).contains(&u32::from(*length)))
}

impl BorshSerialize for Block {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        let length = block_length(self.0.len())
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not a block"))?;
        length.serialize(writer)?;
        writer.write_all(&self.0)
    }
}

impl BorshDeserialize for Block {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let length = usize::from(u16::deserialize_reader(reader)?);
        block_length(length).ok_or_else(|| Error::new(ErrorKind::InvalidData, "not a block"))?;
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Record for Proof {
    const KIND: RecordKind = RecordKind::Proof;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16 + LIST_MAX * SAMPLE_BYTES_MAX;
}

// A proof travels in a ledger message, with room for the transaction around it.
const _: () = assert!(Proof::BYTES_MAX + 4_096 <= LEDGER_MESSAGE_BYTES_MAX);

// A proof of one sample answers an audit.
const _: () = assert!(16 + SAMPLE_BYTES_MAX <= AUDIT_PROOF_BYTES_MAX);

/// Why a proof does not answer a challenge. Any of these is the prover's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not one entry for each slot that was hit.
    #[error("expected {expected} slots, found {found}")]
    SlotCount {
        /// Slots that were hit.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// The entry of a slot is wrong.
    #[error("slot {slot} of group {group}: {cause}")]
    Slot {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: SlotIndex,
        /// What is wrong.
        #[source]
        cause: SlotProofError,
    },
}

/// What is wrong with the entry of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotProofError {
    /// Leaves and nodes are not a path of the slot tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The slot root is not the acknowledged one.
    #[error(transparent)]
    Group(#[from] GroupRootError),
    /// The slot tree has other bytes than the ledger's slot.
    #[error("expected {expected} bytes in the slot, found {found}")]
    SlotBytes {
        /// The ledger's.
        expected: u64,
        /// The slot tree's.
        found: u64,
    },
    /// A sample fell into a segment that is not shown.
    #[error("byte {position} of the slot is not shown")]
    NotShown {
        /// The sample.
        position: u64,
    },
    /// A segment or block is shown that no sample fell into.
    #[error("segment {number} is shown with more than was asked for")]
    NotAsked {
        /// The segment.
        number: SegmentNumber,
    },
    /// A block is not the shard's.
    #[error("block at {offset} of segment {number}: {cause}")]
    Block {
        /// The segment.
        number: SegmentNumber,
        /// First byte of the block in the shard.
        offset: u32,
        /// What is wrong.
        #[source]
        cause: RangeError,
    },
}

/// That `proof` answers `challenge`: every sample is shown, and nothing else.
///
/// Cost: about 60 hashes of 1 KiB or less per sample, at most [`SAMPLES_MAX`] samples; memory: a
/// few words per sample.
///
/// # Errors
///
/// [`ProofError`] names the first thing that is wrong.
pub fn verify(challenge: &Challenge, proof: &Proof) -> Result<(), ProofError> {
    let (expected, found) = (challenge.slots().len(), proof.slots.len());
    if expected != found {
        return Err(ProofError::SlotCount { expected, found });
    }
    for (sampled, shown) in challenge.slots().iter().zip(proof.slots.iter()) {
        verify_slot(sampled, shown).map_err(|cause| ProofError::Slot {
            group: sampled.slot.revision.group,
            slot: sampled.slot.slot,
            cause,
        })?;
    }
    Ok(())
}

fn verify_slot(sampled: &SampledSlot, shown: &SlotProof) -> Result<(), SlotProofError> {
    let slot = &sampled.slot;
    let leaves: Vec<(SegmentNumber, Leaf)> = shown
        .segments
        .iter()
        .map(|segment| (segment.number, segment.leaf))
        .collect();
    let opening = open_path(slot.revision.segment_count, &leaves, &shown.nodes)?;
    let expected = slot.revision.slot_bytes.get();
    if opening.sum != expected {
        return Err(SlotProofError::SlotBytes {
            expected,
            found: opening.sum,
        });
    }
    verify_group_path(
        slot.revision.group_root,
        slot.slot_count,
        slot.slot,
        opening.root,
        &shown.group_path,
    )?;
    let mut positions = sampled.positions.as_slice();
    for (segment, start) in shown.segments.iter().zip(&opening.starts) {
        let end = start.saturating_add(u64::from(segment.leaf.bytes()));
        let (inside, after) = positions.split_at(positions.partition_point(|at| *at < end));
        verify_segment(segment, *start, inside)?;
        positions = after;
    }
    match positions.first() {
        Some(&position) => Err(SlotProofError::NotShown { position }),
        None => Ok(()),
    }
}

/// That `segment`, whose shard begins at byte `start` of the slot, shows the blocks of
/// `positions`, all of which are before the shard's end.
fn verify_segment(
    segment: &SegmentProof,
    start: u64,
    positions: &[u64],
) -> Result<(), SlotProofError> {
    let number = segment.number;
    let root = segment.leaf.shard_root();
    let mut blocks = segment.blocks.iter();
    let mut last = None;
    for &position in positions {
        let not_shown = SlotProofError::NotShown { position };
        let offset = position.checked_sub(start).ok_or(not_shown)?;
        let offset = u32::try_from(offset).map_err(|_| not_shown)?;
        let range = block_at(segment.leaf, offset).map_err(|cause| SlotProofError::Block {
            number,
            offset,
            cause,
        })?;
        if last.replace(range.offset) == Some(range.offset) {
            continue;
        }
        let shown = blocks.next().ok_or(not_shown)?;
        let root = root.ok_or(not_shown)?;
        verify_siblings(
            root,
            segment.leaf.bytes(),
            range,
            shown.block.as_bytes(),
            &shown.siblings,
        )
        .map_err(|cause| SlotProofError::Block {
            number,
            offset: range.offset,
            cause,
        })?;
    }
    if positions.is_empty() || blocks.next().is_some() {
        return Err(SlotProofError::NotAsked { number });
    }
    Ok(())
}

/// The block of a shard that has byte `offset`.
pub(crate) fn block_at(leaf: Leaf, offset: u32) -> Result<ShardRange, RangeError> {
    widen_to_blocks(leaf.bytes(), ShardRange { offset, bytes: 1 })
}
