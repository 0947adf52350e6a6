//! Opening a store: the index is made again from the packs.
//!
//! Rules (docs/protocol/shard-store.md#recovery): a header counts with its checksum; of two shards
//! under one number the later sequence counts; in the newest pack, what may not have been durable
//! counts only when its bytes have their root; what the disk can't read is lacking, but stays
//! where it is; what counts is made durable before it is served; the cached index is believed only
//! for sealed packs and with its checksum.

mod doubt;
mod identity;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cairn_core::{Bounded, Record};
use cairn_runtime::{Disk, DiskError, DiskFile};
use doubt::Tail;
use identity::identify;

use super::cache::IndexCache;
use super::commit::Writer;
use super::error::StoreError;
use super::format::{
    CHECKSUM_BYTES, DeadList, PAGE_BYTES, PackEntry, PackIndex, ShardHeader, StoreKey, length,
    pages,
};
use super::index::{Entry, Index, Location, PackUse, Slot};
use super::pack::{DeadFile, PackFiles, PackName};
use super::state::SlotState;
use super::walk::{Walk, walk};
use super::{ShardStore, StoreConfig};

/// What opening a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Shards kept.
    pub shard_count: u64,
    /// Packs read.
    pub pack_count: u32,
    /// Of those, packs whose index was cached.
    pub cached_pack_count: u32,
    /// Shards of the newest pack that a crash left unfinished; none was promised.
    pub torn_count: u32,
    /// Shards that the disk can't read, of batches that may be unfinished: they are lacking, and
    /// may be back after the next opening.
    pub unreadable_count: u32,
    /// Packs of which the disk can't read a part: more shards than are counted may be lacking.
    pub unreadable_packs: Vec<u32>,
    /// Pages that should be a header and are none.
    pub strange_page_count: u32,
    /// Slots' files that are damaged: what those slots reached is not known any more.
    pub damaged_states: Vec<String>,
    /// Dead lists that are damaged: the shards of their packs were read and verified.
    pub damaged_dead_lists: Vec<u32>,
}

/// What is put together while opening.
struct Recovery<'a, D: Disk> {
    packs: &'a PackFiles<D>,
    key: StoreKey,
    cache: &'a dyn IndexCache,
    index: Index,
    report: OpenReport,
    /// Shards that do not count: they are marked dead once the store is open.
    stale: Vec<Location>,
    /// The highest sequence number seen.
    sequence: u64,
}

/// The dead shards of a pack.
#[derive(Debug, Default)]
struct Dead {
    offsets: BTreeSet<u32>,
    /// The list was damaged: shards count only when their bytes have their root.
    suspect: bool,
    /// What the list takes on the disk.
    bytes: u64,
}

impl<D: Disk> ShardStore<D> {
    /// Opens the store in a folder, or makes one there with `fresh` as its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`]; of kind `WouldBlock` when another process has it open.
    /// [`StoreError::Foreign`] when what is there is none.
    pub fn open(
        disk: D,
        config: StoreConfig,
        cache: Arc<dyn IndexCache>,
        fresh: StoreKey,
    ) -> Result<(Self, OpenReport), StoreError> {
        let packs = PackFiles::new(disk.clone(), config.folder.join("packs"));
        let slots = config.folder.join("slots");
        disk.create_dir_all(packs.folder())?;
        disk.create_dir_all(&slots)?;
        let held = disk.lock(&config.folder.join("lock"))?;
        // Names that a crash of the process alone left visible become durable here.
        disk.sync_dir(packs.folder())?;
        disk.sync_dir(&slots)?;
        let key = identify(&disk, &config.folder, &packs, fresh)?;
        let mut recovery = Recovery {
            packs: &packs,
            key,
            cache: &*cache,
            index: Index::default(),
            report: OpenReport::default(),
            stale: Vec::new(),
            sequence: 0,
        };
        recovery.read_states(&disk, &slots)?;
        let writer = recovery.read_packs()?;
        recovery.build_trees();
        let Recovery {
            index,
            report,
            stale,
            ..
        } = recovery;
        let store = Self {
            disk,
            config,
            key,
            packs,
            cache,
            writer: Mutex::new(writer),
            index: Mutex::new(index),
            failure: Mutex::new(None),
            _lock: held,
        };
        store.settle(&stale)?;
        tracing::info!(folder = %store.config.folder.display(), ?report, "the shard store is open");
        Ok((store, report))
    }

    /// Marks what does not count dead, and forgets slots of which nothing is left.
    fn settle(&self, stale: &[Location]) -> Result<(), StoreError> {
        let _writer = super::lock(&self.writer);
        match self.release(stale) {
            // They stay stale by the same rules.
            Ok(()) | Err(StoreError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        let empty: Vec<_> = {
            let index = super::lock(&self.index);
            let gone = index.slots.values().filter(|slot| slot.is_gone());
            let gone = gone.filter(|slot| !index.has_hidden || slot.state.dropped_to == 0);
            gone.map(Slot::place).collect()
        };
        for place in empty {
            if super::lock(&self.index).state_bytes.contains_key(&place) {
                self.forget_state(place)?;
            } else {
                super::lock(&self.index).slots.remove(&place);
            }
        }
        Ok(())
    }
}

impl<D: Disk> Recovery<'_, D> {
    /// Reads the slots' files.
    fn read_states(&mut self, disk: &D, folder: &Path) -> Result<(), DiskError> {
        for entry in disk.list(folder)? {
            let path = folder.join(&entry.name);
            if entry.name.ends_with(".new") {
                disk.remove_file(&path)?;
                continue;
            }
            let max = u64::try_from(SlotState::BYTES_MAX + CHECKSUM_BYTES).expect("a few 100 KB");
            let bytes = match disk.read_file(&path, max) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::warn!(%error, "a slot's file can't be read");
                    Vec::new()
                }
            };
            let state = self
                .key
                .open::<SlotState>(&bytes)
                .filter(|state| SlotState::file_name(state.place()) == entry.name);
            let Some(state) = state else {
                tracing::warn!(name = entry.name, "a slot's file is damaged");
                self.report.damaged_states.push(entry.name);
                continue;
            };
            let place = state.place();
            self.sequence = self.sequence.max(state.dropped_to);
            let taken = u64::from(pages(length(&bytes)));
            self.index.set_state_bytes(place, taken);
            self.index.slots.insert(place, Slot::with_state(state));
        }
        Ok(())
    }

    /// Reads every pack; the newest one is where puts go on.
    fn read_packs(&mut self) -> Result<Writer<D::File>, DiskError> {
        let names = self.packs.list()?;
        let mut numbers: Vec<u32> = Vec::new();
        for name in &names {
            match name {
                PackName::Pack(number) => numbers.push(*number),
                PackName::Dead(number) | PackName::Suspect(number)
                    if names.contains(&PackName::Pack(*number)) => {}
                PackName::Dead(number) | PackName::Suspect(number) => {
                    self.packs.remove_beside(*number)?;
                }
            }
        }
        let newest = numbers.pop();
        for number in numbers {
            if names.contains(&PackName::Suspect(number)) {
                let walk = walk(self.packs, &self.key, number)?;
                let dead = self.read_dead(number)?;
                let tail = self.judge_tail(&walk, &dead);
                self.take_suspect(number, &walk, &tail, &dead)?;
            } else {
                self.read_sealed(number)?;
            }
        }
        match newest {
            Some(number) => self.read_newest(number),
            None => self.begin(1),
        }
    }

    /// A new pack.
    fn begin(&mut self, number: u32) -> Result<Writer<D::File>, DiskError> {
        let file = self.packs.create(number, self.key)?;
        let usage = PackUse {
            allocated: u64::from(PAGE_BYTES),
            ..PackUse::default()
        };
        self.index.set_pack(number, usage);
        Ok(Writer {
            number,
            file,
            end: PAGE_BYTES,
            sequence: self.sequence + 1,
            entries: Vec::new(),
        })
    }

    /// A pack that nothing is added to: its index may be cached.
    fn read_sealed(&mut self, number: u32) -> Result<(), DiskError> {
        let bytes = self.packs.file(number)?.len()?;
        let cached = self
            .cache
            .load(number)
            .and_then(|blob| self.key.open::<PackIndex>(&blob))
            .filter(|cached| cached.pack == number && u64::from(cached.bytes) == bytes);
        let entries = match cached {
            Some(cached) => {
                self.report.cached_pack_count += 1;
                cached.entries.into_vec()
            }
            None => {
                let walk = walk(self.packs, &self.key, number)?;
                self.report.strange_page_count += walk.strange_pages;
                // What can't be read now may be there the next time.
                if walk.is_readable {
                    self.cache_walk(number, &walk);
                } else {
                    self.note_unreadable(number, &walk);
                }
                walk.headers.iter().map(PackEntry::from).collect()
            }
        };
        let dead = self.read_dead(number)?;
        self.take_pack(number, &entries, &Tail::default(), &dead)
    }

    fn cache_walk(&self, number: u32, walk: &Walk) {
        let entries = walk.headers.iter().map(PackEntry::from).collect();
        let Ok(entries) = Bounded::new(entries) else {
            return;
        };
        let index = PackIndex {
            pack: number,
            bytes: walk.bytes,
            entries,
        };
        self.cache.store(number, &self.key.seal(&index));
    }

    /// The newest pack: what a crash left unfinished is cut off, the rest made durable.
    fn read_newest(&mut self, number: u32) -> Result<Writer<D::File>, DiskError> {
        let mut walk = walk(self.packs, &self.key, number)?;
        let unmade = walk.is_readable && walk.headers.is_empty();
        if unmade && self.packs.first_page(number)?.is_none() {
            // The process ended while it made the pack.
            self.packs.remove(number)?;
            return self.begin(number);
        }
        let mut dead = self.read_dead(number)?;
        let tail = self.judge_tail(&walk, &dead);
        if !walk.is_readable || !tail.unreadable.is_empty() {
            // Cutting here would take what was promised. Marked before another pack follows.
            self.packs.mark_suspect(number)?;
            self.packs.file(number)?.sync()?;
            self.take_suspect(number, &walk, &tail, &dead)?;
            return self.begin(number + 1);
        }
        let is_torn = |header: &ShardHeader| tail.torn.contains(&header.offset);
        while walk.headers.last().is_some_and(is_torn) {
            walk.headers.pop();
        }
        self.report.strange_page_count += walk.strange_pages;
        let file = self.packs.file(number)?;
        let end = walk.end();
        if walk.bytes != end {
            file.set_len(u64::from(end))?;
        }
        file.sync()?;
        self.forget_dead(number, end, &mut dead)?;
        let entries: Vec<PackEntry> = walk.headers.iter().map(PackEntry::from).collect();
        self.take_pack(number, &entries, &tail, &dead)?;
        Ok(Writer {
            number,
            file,
            end,
            sequence: self.sequence + 1,
            entries,
        })
    }

    /// The dead list of a pack.
    fn read_dead(&mut self, number: u32) -> Result<Dead, DiskError> {
        Ok(match self.packs.dead(number, &self.key)? {
            DeadFile::None => Dead::default(),
            DeadFile::Read(list) => Dead {
                bytes: u64::from(pages(length(&self.key.seal(&list)))),
                offsets: list.offsets.iter().copied().collect(),
                suspect: false,
            },
            DeadFile::Damaged => {
                tracing::warn!(pack = number, "a dead list is damaged: verifying its pack");
                self.report.damaged_dead_lists.push(number);
                Dead {
                    suspect: true,
                    ..Dead::default()
                }
            }
        })
    }

    /// Takes offsets from `end` on off the dead list: other shards will be there. The test
    /// `unrevised_shards_expire_and_stay_away` shows what happens otherwise.
    fn forget_dead(&self, number: u32, end: u32, dead: &mut Dead) -> Result<(), DiskError> {
        if dead.offsets.split_off(&end).is_empty() {
            return Ok(());
        }
        let offsets = dead.offsets.iter().copied().collect();
        let list = DeadList {
            pack: number,
            offsets: Bounded::new(offsets).expect("fewer than were read"),
        };
        dead.bytes = u64::from(pages(self.packs.write_dead(&list, &self.key)?));
        Ok(())
    }

    /// Enters what counts of a pack.
    fn take_pack(
        &mut self,
        number: u32,
        entries: &[PackEntry],
        tail: &Tail,
        dead: &Dead,
    ) -> Result<(), DiskError> {
        let file = self.packs.file(number)?;
        let mut usage = PackUse {
            allocated: file.allocated_bytes()?,
            live: 0,
            dead_list: dead.bytes,
        };
        for entry in entries {
            self.sequence = self.sequence.max(entry.sequence);
            if dead.offsets.contains(&entry.offset) {
                continue;
            }
            usage.live += u64::from(entry.total_bytes());
            let found = Entry::new(number, entry);
            if tail.torn.contains(&entry.offset) || (dead.suspect && self.is_wrong(&found)) {
                self.stale.push(found.location);
            } else if !tail.unreadable.contains(&entry.offset) {
                self.enter(entry, found);
            }
        }
        self.index.set_pack(number, usage);
        self.report.pack_count += 1;
        Ok(())
    }

    /// Enters one shard, if it counts.
    fn enter(&mut self, entry: &PackEntry, found: Entry) {
        let slot = self.index.slot_mut(entry.place());
        if entry.sequence <= slot.state.dropped_to {
            self.stale.push(found.location);
        } else if slot.state.emptied.contains(entry.segment) {
            let is_released = slot.state.released >= slot.state.reached_number();
            let later = slot.condemned.get(&entry.segment);
            let is_old = later.is_some_and(|later| later.sequence > entry.sequence);
            if is_old || (is_released && !slot.state.is_needed(entry.segment)) {
                self.stale.push(found.location);
            } else {
                let old = slot.condemned.insert(entry.segment, found);
                self.stale.extend(old.map(|old| old.location));
            }
        } else if slot
            .get(entry.segment)
            .is_some_and(|kept| kept.sequence > entry.sequence)
        {
            self.stale.push(found.location);
        } else {
            let old = slot.insert(entry.segment, found);
            self.stale.extend(old.map(|old| old.location));
        }
    }

    /// Builds the trees of reached revisions. A slot that lacks shards has none until it has
    /// caught up.
    fn build_trees(&mut self) {
        for slot in self.index.slots.values_mut() {
            if let Some(detail) = slot.state.reached.clone() {
                match slot.tree_at(detail.unverified(), &slot.state.emptied) {
                    Ok(tree) => slot.tree = Some(tree),
                    Err(error) => tracing::warn!(%error, "a slot is not whole"),
                }
            }
            self.report.shard_count += u64::from(slot.shard_count);
        }
    }
}
