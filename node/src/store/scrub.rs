//! Scrub: re-reading every shard and verifying it against its root.

use cairn_core::SegmentNumber;
use cairn_ledger::tx::SlotRef;
use cairn_runtime::Disk;

use super::error::{ShardPlace, StoreError};
use super::read::Check;
use super::{ShardStore, lock};

/// Bytes of a scrub step that keep a disk busy for about a tenth of a second.
pub const SCRUB_STEP_BYTES: u64 = 8 << 20;

/// Where a scrub goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScrubCursor {
    slot: SlotRef,
    segment: SegmentNumber,
}

/// What one step of a scrub did.
#[derive(Clone, Debug, Default)]
pub struct ScrubStep {
    /// Where the next step begins; `None` after the last shard.
    pub next: Option<ScrubCursor>,
    /// Shards read.
    pub shard_count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Shards that are damaged. They count as lacking now.
    pub damaged: Vec<ShardPlace>,
}

impl<D: Disk> ShardStore<D> {
    /// Reads and verifies shards from `from` on, about `bytes_max` of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`]; a damaged shard is part of the result.
    pub fn scrub(
        &self,
        from: Option<ScrubCursor>,
        bytes_max: u64,
    ) -> Result<ScrubStep, StoreError> {
        let mut step = ScrubStep {
            next: from,
            ..ScrubStep::default()
        };
        loop {
            let Some((shard, bytes)) = self.shard_from(step.next) else {
                step.next = None;
                return Ok(step);
            };
            step.next = Some(ScrubCursor {
                slot: shard.slot,
                segment: shard.segment,
            });
            if step.bytes >= bytes_max {
                return Ok(step);
            }
            match self.read_shard(shard, Check::Yes) {
                Ok(_) | Err(StoreError::Absent { .. } | StoreError::Emptied { .. }) => {}
                Err(StoreError::Damaged { .. }) => step.damaged.push(shard),
                Err(error) => return Err(error),
            }
            step.shard_count += 1;
            step.bytes += u64::from(bytes);
            step.next = Some(ScrubCursor {
                slot: shard.slot,
                segment: SegmentNumber::new(shard.segment.get() + 1),
            });
        }
    }

    /// The place of the shard that `lot` falls on; `None` when there is none.
    #[must_use]
    pub fn scrub_from(&self, lot: u64) -> Option<ScrubCursor> {
        let state = lock(&self.index);
        let counts = state.slots.values().map(|slot| u64::from(slot.shard_count));
        let mut left = lot.checked_rem(counts.sum())?;
        for (place, slot) in &state.slots {
            let count = u64::from(slot.shard_count);
            if left < count {
                let nth = usize::try_from(left).ok()?;
                let (segment, _) = slot.entries(SegmentNumber::ZERO).nth(nth)?;
                let slot = *place;
                return Some(ScrubCursor { slot, segment });
            }
            left -= count;
        }
        None
    }

    /// The first shard at or after the cursor.
    fn shard_from(&self, cursor: Option<ScrubCursor>) -> Option<(ShardPlace, u32)> {
        let state = lock(&self.index);
        let first = cursor.map_or_else(
            || state.slots.keys().next().copied(),
            |cursor| Some(cursor.slot),
        )?;
        state.slots.range(first..).find_map(|(place, slot)| {
            let from = cursor
                .filter(|cursor| cursor.slot == *place)
                .map_or(SegmentNumber::ZERO, |cursor| cursor.segment);
            let (number, entry) = slot.entries(from).next()?;
            Some((ShardPlace::new(*place, number), entry.location.shard_bytes))
        })
    }
}
