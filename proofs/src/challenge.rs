//! Challenges: which bytes of its slots a node must show in an epoch.
//!
//! ```text
//! stream     = BLAKE3 keyed "cairn 1 challenge" of (seed 32 | node 32 | epoch u64), extended
//! sample i   = bytes 16 i to 16 i + 15 of the stream as u128, modulo the node's bytes
//! ```
//!
//! The node's bytes are those of all its acknowledged slots, one slot after the other by (group,
//! slot); a sample falls into a slot by the slots' bytes, and into a shard and block by the sums
//! of the slot tree. Both sides draw the challenge from what the ledger has; nobody sends it.
//!
//! As in `docs/protocol/proofs.md`, section "Challenge".
//!
//! Assumes that the slots' revisions were fixed before the seed could be known. The modulus
//! favours no byte by more than 2^-64 of its chance.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
mod tests;

use cairn_core::code::{SHARD_BYTES_MAX, SLOTS_MAX};
use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{Digest, EpochNumber, GroupId, GroupRevision, NodeId, SlotIndex};

use crate::domain;

/// Samples of a node in good standing: 1 % loss is found within 22 h at 99.9 %.
pub const SAMPLES_DEFAULT: u16 = 32;
/// Most samples of one challenge: after a failure or a return. Bounds the proof.
pub const SAMPLES_MAX: u16 = 256;
/// Bytes of the stream for one sample.
const SAMPLE_BYTES: usize = 16;

/// What a challenge is drawn from, beside the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The epoch's seed.
    pub seed: Digest,
    /// The node that must answer.
    pub node: NodeId,
    /// The epoch.
    pub epoch: EpochNumber,
    /// How many samples; at most [`SAMPLES_MAX`]. The first ones are the same for any count.
    pub sample_count: u16,
}

/// A slot as the ledger has it: what the node acknowledged last before the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgedSlot {
    /// The revision that the node acknowledged.
    pub revision: GroupRevision,
    /// The slot.
    pub slot: SlotIndex,
    /// Slots of the group: n.
    pub slot_count: u8,
}

/// A slot that samples fell into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledSlot {
    /// The slot.
    pub slot: AcknowledgedSlot,
    /// Which bytes of it: rising, each once.
    pub positions: Vec<u64>,
}

/// What a node must show: the slots that were hit, by (group, slot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    slots: Vec<SampledSlot>,
}

/// Why no challenge can be drawn: the list of slots is not one that a ledger has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// More samples than a proof may answer.
    #[error("expected at most {SAMPLES_MAX} samples, found {found}")]
    Samples {
        /// Samples asked for.
        found: u16,
    },
    /// Not in rising order of (group, slot).
    #[error("slot {slot} of group {group} is out of order")]
    Order {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: SlotIndex,
    },
    /// No group has such a slot or revision.
    #[error(
        "slot {slot} of group {group}: {slot_count} slots, {segment_count} segments and {slot_bytes} bytes do not go together"
    )]
    Slot {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: SlotIndex,
        /// Slots of the group.
        slot_count: u8,
        /// Leaves of the slot tree.
        segment_count: u32,
        /// Bytes of the slot.
        slot_bytes: u64,
    },
    /// All slots together have more bytes than can be counted.
    #[error("the slots have more than 2^64 - 1 bytes")]
    Bytes,
}

impl Challenge {
    /// Draws the challenge. Shape: `slots` rise by (group, slot). A node without bytes has an
    /// empty challenge.
    ///
    /// # Errors
    ///
    /// [`ChallengeError`] when `slots` is not such a list.
    pub fn draw(draw: &Draw, slots: &[AcknowledgedSlot]) -> Result<Self, ChallengeError> {
        if draw.sample_count > SAMPLES_MAX {
            return Err(ChallengeError::Samples {
                found: draw.sample_count,
            });
        }
        let mut samples = samples(draw, checked_bytes(slots)?).into_iter().peekable();
        let mut sampled = Vec::new();
        let mut start = 0_u64;
        for slot in slots {
            let end = start.saturating_add(slot.revision.slot_bytes.get());
            let mut positions = Vec::new();
            while let Some(sample) = samples.next_if(|sample| *sample < end) {
                positions.push(sample.saturating_sub(start));
            }
            if !positions.is_empty() {
                sampled.push(SampledSlot {
                    slot: *slot,
                    positions,
                });
            }
            start = end;
        }
        Ok(Self { slots: sampled })
    }

    /// A challenge of chosen positions.
    #[cfg(test)]
    pub(crate) const fn of_slots(slots: Vec<SampledSlot>) -> Self {
        Self { slots }
    }

    /// The slots that were hit, by (group, slot).
    #[must_use]
    pub fn slots(&self) -> &[SampledSlot] {
        &self.slots
    }

    /// Different bytes to show.
    #[must_use]
    pub fn position_count(&self) -> usize {
        self.slots.iter().map(|slot| slot.positions.len()).sum()
    }
}

/// The samples among `bytes` bytes: rising, each once.
fn samples(draw: &Draw, bytes: u64) -> Vec<u64> {
    let mut content = [0; 72];
    let (seed, rest) = content.split_at_mut(32);
    let (node, epoch) = rest.split_at_mut(32);
    seed.copy_from_slice(draw.seed.as_bytes());
    node.copy_from_slice(draw.node.as_bytes());
    epoch.copy_from_slice(&draw.epoch.get().to_le_bytes());
    let mut stream = vec![0; usize::from(draw.sample_count).saturating_mul(SAMPLE_BYTES)];
    domain::CHALLENGE.stream(&content, &mut stream);
    let (numbers, _) = stream.as_chunks::<SAMPLE_BYTES>();
    let mut samples: Vec<u64> = numbers
        .iter()
        .filter_map(|number| u128::from_le_bytes(*number).checked_rem(u128::from(bytes)))
        .filter_map(|position| u64::try_from(position).ok())
        .collect();
    samples.sort_unstable();
    samples.dedup();
    samples
}

/// Bytes of all slots, when the list is one that a ledger has.
fn checked_bytes(slots: &[AcknowledgedSlot]) -> Result<u64, ChallengeError> {
    let mut before = None;
    let mut bytes = 0_u64;
    for AcknowledgedSlot {
        revision,
        slot,
        slot_count,
    } in slots
    {
        let place = (revision.group, *slot);
        if before.is_some_and(|before| before >= place) {
            let (group, slot) = place;
            return Err(ChallengeError::Order { group, slot });
        }
        before = Some(place);
        let bytes_max =
            u64::from(revision.segment_count).saturating_mul(u64::from(SHARD_BYTES_MAX));
        let whole = slot.index() < usize::from(*slot_count)
            && usize::from(*slot_count) <= SLOTS_MAX
            && revision.segment_count <= SEGMENTS_MAX
            && revision.slot_bytes.get() <= bytes_max;
        if !whole {
            return Err(ChallengeError::Slot {
                group: revision.group,
                slot: *slot,
                slot_count: *slot_count,
                segment_count: revision.segment_count,
                slot_bytes: revision.slot_bytes.get(),
            });
        }
        bytes = bytes
            .checked_add(revision.slot_bytes.get())
            .ok_or(ChallengeError::Bytes)?;
    }
    Ok(bytes)
}
