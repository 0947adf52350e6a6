//! The index in memory: per slot, where each shard is, by segment number.

use std::collections::BTreeMap;

use cairn_core::{
    ByteCount, RevisionDetail, RevisionNumber, SegmentNumber, ShardRoot, Signed, UnixMillis,
    charged_bytes,
};
use cairn_ledger::tx::SlotRef;
use cairn_proofs::{Leaf, SlotTree};

use super::error::{ShardPlace, StoreError};
use super::format::{PackEntry, index, pages};
use super::state::{Earlier, NumberSet, Reached, SlotState};

/// Shards in one page of a slot's array. Small, so that a writer who scatters numbers costs no
/// more memory (4 KiB) than the page on disk that each shard takes.
const PAGE_SHARDS: usize = 64;

/// Where a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) pack: u32,
    /// Of its header.
    pub(super) offset: u32,
    /// Of its bytes, from the header on.
    pub(super) data_offset: u32,
    pub(super) shard_bytes: u32,
}

impl Location {
    /// Bytes in the pack.
    pub(super) const fn total_bytes(&self) -> u32 {
        pages(self.data_offset + self.shard_bytes)
    }
}

/// A kept shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) location: Location,
    pub(super) root: ShardRoot,
    pub(super) sequence: u64,
    pub(super) written_at: UnixMillis,
}

impl Entry {
    /// Of a shard in `pack`.
    pub(super) const fn new(pack: u32, entry: &PackEntry) -> Self {
        Self {
            location: Location {
                pack,
                offset: entry.offset,
                data_offset: entry.data_offset,
                shard_bytes: entry.shard_bytes,
            },
            root: entry.shard_root,
            sequence: entry.sequence,
            written_at: entry.written_at,
        }
    }

    /// Its leaf in the slot tree.
    pub(super) fn leaf(&self) -> Leaf {
        Leaf::new(self.location.shard_bytes, self.root).expect("a kept shard has 1 byte to 4 MiB")
    }
}

/// One slot.
#[derive(Debug)]
pub(super) struct Slot {
    pages: BTreeMap<u32, Box<[Option<Entry>; PAGE_SHARDS]>>,
    pub(super) shard_count: u32,
    pub(super) shard_bytes: u64,
    /// What they take of the slot's capacity.
    pub(super) charged_bytes: u64,
    /// As in the slot's file.
    pub(super) state: SlotState,
    /// The tree at the reached revision; `None` when shards of it were lost before it could be
    /// built.
    pub(super) tree: Option<SlotTree>,
    /// Numbers below are covered by a revision: their shards are not replaced.
    pub(super) fixed_count: u32,
    /// Shards whose leaf a revision emptied, and whose bytes may not be dropped yet.
    pub(super) condemned: BTreeMap<SegmentNumber, Entry>,
}

/// What a slot has, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The shard is here.
    Shard {
        /// Its identity.
        root: ShardRoot,
        /// Its size.
        bytes: u32,
    },
    /// A revision emptied the leaf.
    Emptied,
    /// Nothing is here.
    Nothing,
}

impl Slot {
    pub(super) fn new(place: SlotRef) -> Self {
        Self::with_state(SlotState::new(place))
    }

    pub(super) fn with_state(state: SlotState) -> Self {
        let fixed = [&state.reached, &state.pending];
        let fixed_count = fixed
            .into_iter()
            .flatten()
            .map(Signed::unverified)
            .map(|detail| detail.revision.segment_count)
            .max()
            .unwrap_or(0);
        let tree = state.reached.is_none().then(SlotTree::new);
        Self {
            pages: BTreeMap::new(),
            shard_count: 0,
            shard_bytes: 0,
            charged_bytes: 0,
            state,
            tree,
            fixed_count,
            condemned: BTreeMap::new(),
        }
    }

    pub(super) fn place(&self) -> SlotRef {
        self.state.place()
    }

    pub(super) fn get(&self, number: SegmentNumber) -> Option<&Entry> {
        let (page, at) = split(number);
        self.pages.get(&page)?.get(at)?.as_ref()
    }

    /// Puts an entry in place and returns the one that was there.
    pub(super) fn insert(&mut self, number: SegmentNumber, entry: Entry) -> Option<Entry> {
        let (page, at) = split(number);
        let page = self
            .pages
            .entry(page)
            .or_insert_with(|| Box::new([None; PAGE_SHARDS]));
        let old = page[at].replace(entry);
        self.shard_count += 1;
        self.shard_bytes += u64::from(entry.location.shard_bytes);
        self.charged_bytes += u64::from(charged_bytes(entry.location.shard_bytes));
        self.forget(old.as_ref());
        old
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, number: SegmentNumber) -> Option<Entry> {
        let (page_number, at) = split(number);
        let page = self.pages.get_mut(&page_number)?;
        let old = page[at].take();
        if page.iter().all(Option::is_none) {
            self.pages.remove(&page_number);
        }
        self.forget(old.as_ref());
        old
    }

    fn forget(&mut self, old: Option<&Entry>) {
        if let Some(old) = old {
            self.shard_count -= 1;
            self.shard_bytes -= u64::from(old.location.shard_bytes);
            self.charged_bytes -= u64::from(charged_bytes(old.location.shard_bytes));
        }
    }

    /// The kept shards from `from` on, by number.
    pub(super) fn entries(
        &self,
        from: SegmentNumber,
    ) -> impl Iterator<Item = (SegmentNumber, &Entry)> {
        let (first, _) = split(from);
        self.pages.range(first..).flat_map(move |(page, entries)| {
            let base = page * u32::try_from(PAGE_SHARDS).expect("64");
            (base..)
                .map(SegmentNumber::new)
                .zip(entries.iter())
                .filter_map(|(number, entry)| entry.as_ref().map(|entry| (number, entry)))
                .filter(move |(number, _)| *number >= from)
        })
    }

    /// One more than the highest number that the slot knows of.
    pub(super) fn segment_count(&self) -> u32 {
        let last = self.pages.last_key_value().map_or(0, |(page, entries)| {
            let at = entries.iter().rposition(Option::is_some).unwrap_or(0);
            page * u32::try_from(PAGE_SHARDS).expect("64")
                + u32::try_from(at).expect("below 64")
                + 1
        });
        last.max(self.fixed_count)
    }

    pub(super) fn kept(&self, number: SegmentNumber) -> Kept {
        if self.state.emptied.contains(number) {
            return Kept::Emptied;
        }
        self.get(number).map_or(Kept::Nothing, |entry| Kept::Shard {
            root: entry.root,
            bytes: entry.location.shard_bytes,
        })
    }

    /// The leaf that the reached revision has for `number`, as far as it is known.
    pub(super) fn reached_leaf(&self, number: SegmentNumber) -> Option<Leaf> {
        self.tree.as_ref()?.leaf(number)
    }

    /// Shards kept under numbers below `count`.
    pub(super) fn count_below(&self, count: u32) -> u32 {
        if self.segment_count() <= count {
            return self.shard_count;
        }
        let below = self
            .entries(SegmentNumber::ZERO)
            .take_while(|(number, _)| number.get() < count)
            .count();
        u32::try_from(below).expect("numbers are u32")
    }

    /// Whether it has an earlier revision or shards that wait for their release.
    pub(super) fn is_waiting(&self) -> bool {
        !self.condemned.is_empty() || !self.state.earlier.is_empty()
    }

    /// Whether nothing of the slot is here: at most its file, which says up to where it was dropped.
    pub(super) fn is_gone(&self) -> bool {
        self.shard_count == 0
            && self.condemned.is_empty()
            && self.state.reached.is_none()
            && self.state.pending.is_none()
    }

    /// Whether the slot has every shard of the revision it reached.
    pub(super) fn is_whole(&self) -> bool {
        self.tree.as_ref().is_some_and(|tree| {
            let count = tree.count();
            let gone = self.state.emptied.count_below(count);
            self.count_below(count) + gone == count
        })
    }

    /// The entry of a shard that the reached revision or an earlier one has.
    pub(super) fn entry(&self, number: SegmentNumber) -> Option<&Entry> {
        self.get(number).or_else(|| self.condemned.get(&number))
    }

    /// The reached or earlier revision of that number.
    pub(super) fn revision(&self, number: RevisionNumber) -> Option<Reached<'_>> {
        let reached = self.state.reached.as_ref().map(Signed::unverified);
        let reached = reached.map(|detail| Reached {
            revision: detail.revision,
            slot_roots: &detail.slot_roots,
            emptied: &self.state.emptied,
        });
        let earlier = self.state.earlier.iter();
        let mut all = earlier.map(Earlier::reached).chain(reached);
        all.find(|found| found.revision.number == number)
    }

    /// The shards that wait for their release and that no earlier revision has.
    pub(super) fn unneeded(&self) -> Vec<SegmentNumber> {
        let condemned = self.condemned.keys().copied();
        condemned
            .filter(|number| !self.state.is_needed(*number))
            .collect()
    }

    /// The tree at `detail`, of what is kept, with those leaves empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lacking`], [`StoreError::SlotRoot`], [`StoreError::SlotBytes`].
    pub(super) fn tree_at(
        &self,
        detail: &RevisionDetail,
        emptied: &NumberSet,
    ) -> Result<SlotTree, StoreError> {
        let count = detail.revision.segment_count;
        self.check_whole(count, emptied)?;
        // Leaves that do not change need no hashing again.
        let grown = self.tree.as_ref().filter(|tree| tree.count() <= count);
        let mut tree = grown.cloned().unwrap_or_default();
        let fresh: Vec<SegmentNumber> = emptied
            .numbers()
            .take_while(|number| number.get() < tree.count())
            .filter(|number| !self.state.emptied.contains(*number))
            .collect();
        tree.set_all_empty(&fresh)
            .expect("they rise and are below the tree's count");
        for number in (tree.count()..count).map(SegmentNumber::new) {
            let entry = self.get(number).filter(|_| !emptied.contains(number));
            let leaf = entry.map_or(Leaf::EMPTY, Entry::leaf);
            tree.append(leaf).map_err(|_| StoreError::OutOfRange {
                shard: ShardPlace::new(self.place(), number),
            })?;
        }
        self.check_root(detail, tree)
    }

    /// That every number below `count` is here, or among the emptied ones.
    fn check_whole(&self, count: u32, emptied: &NumberSet) -> Result<(), StoreError> {
        let mut lacking = (0..count)
            .map(SegmentNumber::new)
            .filter(|number| !emptied.contains(*number) && self.get(*number).is_none());
        let Some(first) = lacking.next() else {
            return Ok(());
        };
        let more = u32::try_from(lacking.count()).expect("segment numbers are u32");
        Err(StoreError::Lacking {
            slot: self.place(),
            first,
            count: 1 + more,
        })
    }

    fn check_root(&self, detail: &RevisionDetail, tree: SlotTree) -> Result<SlotTree, StoreError> {
        let place = self.place();
        let expected =
            detail
                .slot_roots
                .get(place.slot.index())
                .copied()
                .ok_or(StoreError::OutOfRange {
                    shard: ShardPlace::new(place, SegmentNumber::ZERO),
                })?;
        let found = tree.root();
        if found != expected {
            return Err(StoreError::SlotRoot {
                slot: place,
                expected,
                found,
            });
        }
        let bytes = ByteCount::new(tree.sum());
        if bytes != detail.revision.slot_bytes {
            return Err(StoreError::SlotBytes {
                slot: place,
                expected: bytes,
                found: detail.revision.slot_bytes,
            });
        }
        Ok(tree)
    }
}

fn split(number: SegmentNumber) -> (u32, usize) {
    let number = index(number.get());
    let page = u32::try_from(number / PAGE_SHARDS).expect("smaller than a u32");
    (page, number % PAGE_SHARDS)
}

/// What is kept of one pack.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PackUse {
    /// Bytes that the file takes on the disk.
    pub(super) allocated: u64,
    /// Bytes of live shards, padding included.
    pub(super) live: u64,
    /// Bytes that its dead list takes on the disk.
    pub(super) dead_list: u64,
}

/// Everything in memory, under one lock.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) slots: BTreeMap<SlotRef, Slot>,
    pub(super) packs: BTreeMap<u32, PackUse>,
    /// Sum over `packs`, and the slots' files: kept as they change.
    pub(super) used_bytes: u64,
    /// Bytes of the slots' files on disk.
    pub(super) state_bytes: BTreeMap<SlotRef, u64>,
    /// Whether there may be shards that the disk can't read now, neither here nor on a dead list.
    pub(super) has_hidden: bool,
}

impl Index {
    pub(super) fn slot_mut(&mut self, place: SlotRef) -> &mut Slot {
        self.slots.entry(place).or_insert_with(|| Slot::new(place))
    }

    /// Sets what a pack takes, and the sum with it.
    pub(super) fn set_pack(&mut self, number: u32, usage: PackUse) {
        let old = self.packs.insert(number, usage).unwrap_or_default();
        self.used_bytes += usage.allocated + usage.dead_list;
        self.used_bytes -= old.allocated + old.dead_list;
    }

    pub(super) fn remove_pack(&mut self, number: u32) {
        let old = self.packs.remove(&number).unwrap_or_default();
        self.used_bytes -= old.allocated + old.dead_list;
    }

    /// Sets what a slot's file takes.
    pub(super) fn set_state_bytes(&mut self, place: SlotRef, bytes: u64) {
        let old = self.state_bytes.insert(place, bytes).unwrap_or(0);
        self.used_bytes += bytes;
        self.used_bytes -= old;
    }

    /// The entry of a shard.
    ///
    /// # Errors
    ///
    /// [`StoreError::Emptied`], [`StoreError::Absent`].
    pub(super) fn find(&self, shard: ShardPlace) -> Result<Entry, StoreError> {
        let slot = self
            .slots
            .get(&shard.slot)
            .ok_or(StoreError::Absent { shard })?;
        if slot.state.emptied.contains(shard.segment) {
            return Err(StoreError::Emptied { shard });
        }
        slot.get(shard.segment)
            .copied()
            .ok_or(StoreError::Absent { shard })
    }

    /// The entry of a shard that a reached revision has, or had.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`].
    pub(super) fn find_proved(&self, shard: ShardPlace) -> Result<Entry, StoreError> {
        let slot = self.slots.get(&shard.slot);
        let entry = slot.and_then(|slot| slot.entry(shard.segment));
        entry.copied().ok_or(StoreError::Absent { shard })
    }

    /// Whether the entry of a shard is still this one.
    pub(super) fn is_current(&self, shard: ShardPlace, entry: &Entry) -> bool {
        self.find(shard).is_ok_and(|found| found == *entry)
    }
}

/// Figures of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFigures {
    /// Shards kept, unrevised ones included.
    pub shard_count: u32,
    /// Their bytes.
    pub shard_bytes: ByteCount,
    /// What they take of the slot's capacity.
    pub charged_bytes: ByteCount,
    /// One more than the highest segment number known.
    pub segment_count: u32,
}
