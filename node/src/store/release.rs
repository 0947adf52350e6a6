//! Giving bytes back: dead lists, holes, removal of empty packs, moving out of mostly dead ones.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::{Bounded, ByteCount, SegmentNumber};
use cairn_proofs::hash_shard;
use cairn_runtime::{Disk, DiskFile};

use super::commit::{Replace, ShardPut};
use super::error::{ShardPlace, StoreError};
use super::format::{BATCH_BYTES_MAX, DeadList, PAGE_BYTES};
use super::index::{Location, PackUse};
use super::pack::DeadFile;
use super::read::Check;
use super::walk::walk;
use super::{ShardStore, lock};

impl<D: Disk> ShardStore<D> {
    /// Marks shards dead, durably, and then gives their bytes back. The caller has taken them out
    /// of the index and holds the writer's lock.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`] when a dead list can't be written: the store then takes nothing more.
    pub(super) fn release(&self, dead: &[Location]) -> Result<(), StoreError> {
        let mut by_pack: BTreeMap<u32, Vec<Location>> = BTreeMap::new();
        for location in dead {
            by_pack.entry(location.pack).or_default().push(*location);
        }
        for (number, locations) in by_pack {
            self.release_in(number, &locations)?;
        }
        Ok(())
    }

    fn release_in(&self, number: u32, dead: &[Location]) -> Result<(), StoreError> {
        let mut usage = lock(&self.index)
            .packs
            .get(&number)
            .copied()
            .unwrap_or_default();
        let bytes: u64 = dead
            .iter()
            .map(|location| u64::from(location.total_bytes()))
            .sum();
        usage.live = usage.live.saturating_sub(bytes);
        let newest = lock(&self.index)
            .packs
            .last_key_value()
            .map(|(number, _)| *number);
        if usage.live == 0 && newest != Some(number) {
            self.packs
                .remove(number)
                .map_err(|error| self.fail(error))?;
            self.cache.remove(number);
            lock(&self.index).remove_pack(number);
            return Ok(());
        }
        let mut offsets = match self.packs.dead(number, &self.key)? {
            DeadFile::Read(list) => list.offsets.into_vec(),
            DeadFile::None => Vec::new(),
            DeadFile::Damaged => self.dead_by_index(number)?,
        };
        offsets.extend(dead.iter().map(|location| location.offset));
        offsets.sort_unstable();
        offsets.dedup();
        let list = DeadList {
            pack: number,
            offsets: Bounded::new(offsets).expect("a pack has no more shards"),
        };
        let written = self.packs.write_dead(&list, &self.key);
        let list_bytes = written.map_err(|error| self.fail_unless_full(error))?;
        usage.dead_list = u64::from(super::format::pages(list_bytes));
        usage.allocated = self.punch(number, dead, usage.allocated);
        lock(&self.index).set_pack(number, usage);
        Ok(())
    }

    /// The dead shards of a pack whose list was lost: those that the index does not have.
    fn dead_by_index(&self, number: u32) -> Result<Vec<u32>, StoreError> {
        let live: BTreeSet<u32> = {
            let index = lock(&self.index);
            let entries = index.slots.values().flat_map(|slot| {
                let kept = slot.entries(SegmentNumber::ZERO);
                let kept = kept.map(|(_, entry)| entry.location);
                let condemned = slot.condemned.values().map(|entry| entry.location);
                kept.chain(condemned)
            });
            entries
                .filter(|location| location.pack == number)
                .map(|location| location.offset)
                .collect()
        };
        let walk = walk(&self.packs, &self.key, number)?;
        let offsets = walk.headers.iter().map(|header| header.offset);
        Ok(offsets.filter(|offset| !live.contains(offset)).collect())
    }

    /// Gives the bytes of dead shards back. A shard's head stays, so that the pack can be walked,
    /// unless the shard is within it. What can't be given back now waits until the pack is
    /// removed. Returns what the pack then takes on the disk.
    fn punch(&self, number: u32, dead: &[Location], allocated: u64) -> u64 {
        let result = self.packs.file(number).and_then(|file| {
            for location in dead {
                let whole = !location.data_offset.is_multiple_of(PAGE_BYTES);
                let skipped = if whole { 0 } else { location.data_offset };
                let bytes = location.total_bytes() - skipped;
                file.punch_hole(u64::from(location.offset + skipped), u64::from(bytes))?;
            }
            file.allocated_bytes()
        });
        result.unwrap_or_else(|error| {
            tracing::warn!(pack = number, %error, "dead shards still take room");
            allocated
        })
    }

    /// Copies the live shards out of the pack that has the smallest share of them, if it is under
    /// half, and removes it. Moves at most one batch; call again until it returns `None`. May use
    /// the reserve, so that a full store can make room.
    ///
    /// # Errors
    ///
    /// As [`Self::put`]. Damaged shards are left out and count as lacking.
    pub fn compact(&self) -> Result<Option<ByteCount>, StoreError> {
        for number in self.mostly_dead() {
            let (batch, bytes) = self.batch_of(number)?;
            // What is left of a pack may wait for its release: then the next one is looked at.
            if batch.is_empty() {
                continue;
            }
            for result in self.put(&batch) {
                match result {
                    // A conflict: replaced meanwhile.
                    Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Emptied { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(Some(ByteCount::new(u64::from(bytes))));
        }
        Ok(None)
    }

    /// Live shards of a pack, as many as make a batch, and their bytes.
    fn batch_of(&self, number: u32) -> Result<(Vec<ShardPut>, u32), StoreError> {
        let mut batch: Vec<ShardPut> = Vec::new();
        let mut bytes = 0;
        for shard in self.shards_in(number) {
            let put = match self.to_move(shard) {
                Ok(put) => put,
                Err(StoreError::Damaged { .. } | StoreError::Absent { .. }) => continue,
                Err(error) => return Err(error),
            };
            if bytes + put.pack_bytes_max() > BATCH_BYTES_MAX {
                break;
            }
            bytes += put.pack_bytes_max();
            batch.push(put);
        }
        Ok((batch, bytes))
    }

    fn to_move(&self, shard: ShardPlace) -> Result<ShardPut, StoreError> {
        let written_at = lock(&self.index).find(shard)?.written_at;
        let read = self.read_shard(shard, Check::Yes)?;
        let absent = StoreError::Absent { shard };
        Ok(ShardPut {
            slot: shard.slot.slot,
            record: read.record.ok_or_else(|| absent.clone())?,
            hashed: hash_shard(&read.bytes).map_err(|_| absent)?,
            bytes: read.bytes,
            replace: Replace::Moved,
            written_at,
        })
    }

    /// Sealed packs whose live bytes are less than half of what they take, the worst first.
    fn mostly_dead(&self) -> Vec<u32> {
        let index = lock(&self.index);
        let newest = index.packs.last_key_value().map(|(number, _)| *number);
        let mut packs: Vec<(u64, u32)> = index
            .packs
            .iter()
            .filter(|(number, usage)| Some(**number) != newest && usage.live < usage.allocated / 2)
            .map(|(number, usage)| (share(usage), *number))
            .collect();
        packs.sort_unstable();
        packs.into_iter().map(|(_, number)| number).collect()
    }

    fn shards_in(&self, number: u32) -> Vec<ShardPlace> {
        let index = lock(&self.index);
        let mut shards = Vec::new();
        for (place, slot) in &index.slots {
            let here = slot
                .entries(SegmentNumber::ZERO)
                .filter(|(_, entry)| entry.location.pack == number)
                .map(|(segment, _)| ShardPlace::new(*place, segment));
            shards.extend(here);
        }
        shards
    }
}

/// Live bytes per mille of what a pack takes.
fn share(usage: &PackUse) -> u64 {
    usage.live * 1000 / usage.allocated.max(1)
}
