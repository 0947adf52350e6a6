//! Group commit: a batch of shards goes into the newest pack with one write and one sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{
    Bounded, ByteCount, Record, SegmentRecord, ShardRoot, Signed, SlotIndex, UnixMillis,
};
use cairn_ledger::tx::SlotRef;
use cairn_proofs::{HashedShard, Outboard};
use cairn_runtime::{Disk, DiskError, DiskFile};

use super::error::{ShardPlace, StoreError};
use super::format::{
    BATCH_BYTES_MAX, HEADER_BYTES, PACK_BYTES, PackEntry, PackIndex, ShardHeader, data_offset,
    index, length, pages,
};
use super::index::{Entry, Location, PackUse, Slot};
use super::pack::ZEROS;
use super::{ShardStore, lock};

/// A shard to keep. Its bytes have the root and the outboard of `hashed`, which are those of the
/// record's entry for the slot.
#[derive(Clone, Debug)]
pub struct ShardPut {
    /// The slot.
    pub slot: SlotIndex,
    /// The signed segment record, verified by the caller.
    pub record: Signed<SegmentRecord>,
    /// The shard.
    pub bytes: Bytes,
    /// What hashing the bytes gave.
    pub hashed: HashedShard,
    /// Whether another shard under its number may be replaced.
    pub replace: Replace,
    /// When it came.
    pub written_at: UnixMillis,
}

impl ShardPut {
    /// The shard.
    #[must_use]
    pub fn place(&self) -> ShardPlace {
        let record = self.record.unverified();
        let slot = SlotRef {
            group: record.group,
            slot: self.slot,
        };
        ShardPlace::new(slot, record.number)
    }

    /// Bytes that it takes in a pack at most.
    ///
    /// # Panics
    ///
    /// Never: a record's bound is some kilobytes.
    #[must_use]
    pub fn pack_bytes_max(&self) -> u32 {
        let shard_bytes = length(&self.bytes);
        let record = u32::try_from(Signed::<SegmentRecord>::BYTES_MAX).expect("some kilobytes");
        let head = data_offset(record, Outboard::bytes_of(shard_bytes), shard_bytes);
        pages(head) + pages(shard_bytes)
    }
}

/// When a shard may take the place of another with another root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// When no revision that is known covers its number: the writer began again.
    Unrevised,
    /// When no reached revision covers its number: the caller knows the root that it must have.
    Unreached,
    /// It is the same shard again, on its way to a newer pack.
    Moved,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutDone {
    /// The shard is durable now.
    Stored,
    /// It was durable before.
    Kept,
}

/// The newest pack, which batches go to.
#[derive(Debug)]
pub(super) struct Writer<F> {
    pub(super) number: u32,
    pub(super) file: Arc<F>,
    /// Where the next shard goes. Everything before is durable.
    pub(super) end: u32,
    /// Sequence number of the next shard.
    pub(super) sequence: u64,
    /// What is in the pack.
    pub(super) entries: Vec<PackEntry>,
}

impl<F: DiskFile> Writer<F> {
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.file.sync()
    }
}

/// A shard of a batch, as it is written.
struct Planned {
    /// Which of the batch.
    at: usize,
    place: ShardPlace,
    header: ShardHeader,
    /// Header, record, outboard and padding.
    head: Vec<u8>,
}

/// What to do with one shard of a batch.
enum Judgement {
    Store,
    Kept,
}

impl<D: Disk> ShardStore<D> {
    /// Makes a batch of shards durable: one write and one sync for all. Answers in their order.
    ///
    /// # Errors
    ///
    /// Per shard: [`StoreError::Conflict`], [`StoreError::Emptied`], [`StoreError::OutOfRange`],
    /// [`StoreError::Full`], [`StoreError::Disk`]. A shard with an error is not kept.
    ///
    /// # Panics
    ///
    /// When a shard is not that of its record, or the batch takes more than [`BATCH_BYTES_MAX`]:
    /// the caller's own bug.
    pub fn put(&self, batch: &[ShardPut]) -> Vec<Result<PutDone, StoreError>> {
        let mut writer = lock(&self.writer);
        // Moving shards makes room in the end, so it may use the reserve on the way.
        let moves = batch.iter().all(|put| put.replace == Replace::Moved);
        let reserve = if moves {
            self.config.release_reserve()
        } else {
            self.config.reserve().get()
        };
        let begun = self
            .check_usable()
            .and_then(|()| self.roll(&mut writer, reserve))
            .and_then(|()| self.room(reserve));
        let available = match begun {
            Ok(available) => available,
            Err(error) => return batch.iter().map(|_| Err(error.clone())).collect(),
        };
        let (mut results, planned) = self.plan(&writer, batch, available);
        if planned.is_empty() {
            return results;
        }
        if let Err(error) = self.write(&mut writer, batch, &planned) {
            // Twins of a planned shard count on the same write.
            let lost: BTreeSet<ShardPlace> = planned.iter().map(|shard| shard.place).collect();
            for (result, put) in results.iter_mut().zip(batch) {
                if result.is_ok() && lost.contains(&put.place()) {
                    *result = Err(error.clone());
                }
            }
            return results;
        }
        let replaced = self.enter(&mut writer, planned);
        if let Err(error) = self.release(&replaced) {
            // The shards are durable; what can't be forgotten is a failure of later mutations.
            tracing::warn!(%error, "replaced shards could not be dropped");
        }
        results
    }

    /// What becomes of each shard, and those to write.
    fn plan(
        &self,
        writer: &Writer<D::File>,
        batch: &[ShardPut],
        available: u64,
    ) -> (Vec<Result<PutDone, StoreError>>, Vec<Planned>) {
        let mut planned: Vec<Planned> = Vec::with_capacity(batch.len());
        let mut roots: BTreeMap<ShardPlace, ShardRoot> = BTreeMap::new();
        let mut left = available;
        let mut end = writer.end;
        let mut sequence = writer.sequence;
        let state = lock(&self.index);
        let results = batch
            .iter()
            .enumerate()
            .map(|(at, put)| {
                let place = put.place();
                if roots.get(&place) == Some(&put.hashed.root) {
                    return Ok(PutDone::Kept);
                }
                let earlier = roots.get(&place).copied();
                match judge(state.slots.get(&place.slot), (place, earlier), put)? {
                    Judgement::Kept => return Ok(PutDone::Kept),
                    Judgement::Store => {}
                }
                let shard = self.encode(writer, put, (at, end, sequence));
                let needed = u64::from(shard.header.total_bytes());
                if needed > left {
                    return Err(StoreError::Full {
                        needed: ByteCount::new(needed),
                        available: ByteCount::new(left),
                    });
                }
                left -= needed;
                end = shard.header.end();
                sequence += 1;
                roots.insert(place, put.hashed.root);
                planned.push(shard);
                Ok(PutDone::Stored)
            })
            .collect();
        assert!(
            end - writer.end <= BATCH_BYTES_MAX,
            "a batch of {} bytes",
            end - writer.end
        );
        (results, planned)
    }

    /// The head of a shard at its place in the pack.
    fn encode(
        &self,
        writer: &Writer<D::File>,
        put: &ShardPut,
        (at, offset, sequence): (usize, u32, u64),
    ) -> Planned {
        let place = put.place();
        let record = put.record.encode();
        let outboard = put.hashed.outboard.to_bytes();
        let shard_bytes = length(&put.bytes);
        let expected = put.record.unverified();
        assert_eq!(expected.shard_bytes(), shard_bytes, "the size of {place}");
        let root = expected.shard_root(put.slot);
        assert_eq!(root, Some(put.hashed.root), "the root of {place}");
        let header = ShardHeader {
            pack: writer.number,
            offset,
            sequence,
            durable_to: writer.end,
            written_at: put.written_at,
            group: place.slot.group,
            slot: place.slot.slot,
            segment: place.segment,
            shard_bytes,
            record_bytes: length(&record),
            outboard_bytes: length(&outboard),
            data_offset: data_offset(length(&record), length(&outboard), shard_bytes),
            shard_root: put.hashed.root,
            body_checksum: self.key.checksum(&[&record, &outboard]),
        };
        let mut head = Vec::with_capacity(index(header.data_offset));
        head.extend_from_slice(&header.to_bytes(&self.key));
        debug_assert_eq!(head.len(), HEADER_BYTES);
        head.extend_from_slice(&record);
        head.extend_from_slice(&outboard);
        head.resize(index(header.data_offset), 0);
        Planned {
            at,
            place,
            header,
            head,
        }
    }

    /// Writes and syncs. On return with an error nothing of it counts.
    fn write(
        &self,
        writer: &mut Writer<D::File>,
        batch: &[ShardPut],
        planned: &[Planned],
    ) -> Result<(), StoreError> {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(3 * planned.len());
        for shard in planned {
            let data = &batch[shard.at].bytes;
            let written = shard.header.data_offset + shard.header.shard_bytes;
            let padding = shard.header.total_bytes() - written;
            parts.push(&shard.head);
            parts.push(data);
            parts.push(&ZEROS[..index(padding)]);
        }
        match writer.file.write_all_at(&parts, u64::from(writer.end)) {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                // Somebody else filled the disk. Nothing was promised yet: cut it off.
                let cut = writer.file.set_len(u64::from(writer.end));
                cut.map_err(|error| self.fail(error))?;
                let needed = planned
                    .iter()
                    .map(|shard| shard.header.total_bytes())
                    .sum::<u32>();
                return Err(StoreError::Full {
                    needed: ByteCount::new(u64::from(needed)),
                    available: ByteCount::ZERO,
                });
            }
            Err(error) => return Err(self.fail(error)),
        }
        // After a failed sync nobody knows what is on the disk, so nothing may follow it.
        writer.file.sync().map_err(|error| self.fail(error))
    }

    /// Enters durable shards into the index. Returns what they replaced.
    fn enter(&self, writer: &mut Writer<D::File>, planned: Vec<Planned>) -> Vec<Location> {
        let mut state = lock(&self.index);
        let mut replaced = Vec::new();
        let mut usage = state.packs.get(&writer.number).copied().unwrap_or_default();
        for shard in planned {
            let entry = PackEntry::from(&shard.header);
            let total = u64::from(shard.header.total_bytes());
            usage.allocated += total;
            usage.live += total;
            let slot = state.slot_mut(shard.place.slot);
            let old = slot.insert(shard.place.segment, Entry::new(writer.number, &entry));
            replaced.extend(old.map(|old| old.location));
            writer.end = shard.header.end();
            writer.sequence += 1;
            writer.entries.push(entry);
        }
        state.set_pack(writer.number, usage);
        replaced
    }

    /// Seals the newest pack when it is large enough, and begins another.
    fn roll(&self, writer: &mut Writer<D::File>, reserve: u64) -> Result<(), StoreError> {
        if writer.end < self.config.pack_bytes.min(PACK_BYTES) {
            return Ok(());
        }
        self.check_room(u64::from(super::PAGE_BYTES), reserve)?;
        let number = writer.number + 1;
        let file = match self.packs.create(number, self.key) {
            Ok(file) => file,
            Err(error) if error.is_full() => {
                match self.packs.remove(number) {
                    // There was no room even for its name.
                    Err(error) if !error.is_not_found() => return Err(self.fail(error)),
                    Ok(()) | Err(_) => {}
                }
                return Err(StoreError::Full {
                    needed: ByteCount::new(u64::from(super::PAGE_BYTES)),
                    available: ByteCount::ZERO,
                });
            }
            Err(error) => return Err(self.fail(error)),
        };
        let sealed = PackIndex {
            pack: writer.number,
            bytes: writer.end,
            entries: Bounded::new(std::mem::take(&mut writer.entries))
                .expect("a pack of that size has no more pages"),
        };
        self.cache.store(sealed.pack, &self.key.seal(&sealed));
        let page = super::PAGE_BYTES;
        writer.number = number;
        writer.file = file;
        writer.end = page;
        let usage = PackUse {
            allocated: u64::from(page),
            ..PackUse::default()
        };
        lock(&self.index).set_pack(number, usage);
        Ok(())
    }
}

/// Whether a shard is to be stored, by what is under its number: `earlier` of the same batch, or
/// else in the index.
fn judge(
    slot: Option<&Slot>,
    (shard, earlier): (ShardPlace, Option<ShardRoot>),
    put: &ShardPut,
) -> Result<Judgement, StoreError> {
    if shard.segment.get() >= SEGMENTS_MAX {
        return Err(StoreError::OutOfRange { shard });
    }
    let Some(slot) = slot else {
        return Ok(Judgement::Store);
    };
    let offered = put.hashed.root;
    let conflict = |kept| StoreError::Conflict {
        shard,
        kept,
        offered,
    };
    if slot.state.emptied.contains(shard.segment) {
        return Err(StoreError::Emptied { shard });
    }
    let reached = slot.reached_leaf(shard.segment);
    if let Some(root) = reached.and_then(|leaf| leaf.shard_root())
        && root != offered
    {
        return Err(conflict(root));
    }
    let kept = slot.get(shard.segment).map(|entry| entry.root);
    let Some(kept) = earlier.or(kept) else {
        return Ok(Judgement::Store);
    };
    let covered = shard.segment.get() < slot.fixed_count;
    match (put.replace, kept == offered) {
        (Replace::Unrevised | Replace::Unreached, true) => Ok(Judgement::Kept),
        (Replace::Unrevised, false) if covered => Err(conflict(kept)),
        (Replace::Moved, false) => Err(conflict(kept)),
        (Replace::Unrevised | Replace::Unreached, false) | (Replace::Moved, true) => {
            Ok(Judgement::Store)
        }
    }
}
