//! The book of a group: what its writer must remember, on its own disk.
//!
//! **Participants**: one writer process (exclusive lock), its disk, the ledger that confirms
//! revisions. **Does**: hands out segment numbers, remembers finished segments, emptied leaves and
//! revisions, and computes the next revision.
//!
//! **Guarantees**, after a crash at any disk call:
//! - A number is never used for two different segments: numbers are reserved before use, and what
//!   was reserved and is not finished is emptied when the book is opened again.
//! - What [`Book::finish`] returned for is a finished segment.
//! - A revision that the ledger may have is known here: it is written before it is submitted, so
//!   whichever of those the ledger has is recognised.
//!
//! **Not here**: keys, peers, plaintext. Slot trees are kept as n right edges; when leaves further
//! left are emptied, the edges are built anew from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cairn_core::group::{EMPTIED_MAX, SEGMENTS_MAX};
use cairn_core::{
    Bounded, ByteCount, GroupRevision, RevisionDetail, RevisionNumber, SegmentNumber,
    SegmentRecord, charged_bytes,
};
use cairn_proofs::{Frontier, group_root};
use cairn_runtime::Disk;

use crate::journal::Journal;
use crate::key::UploadId;

mod entry;
mod state;

pub use entry::{BookEntry, BookError, FinishedSegment, Opened, UploadHeader};
use state::{Edges, Revisions, Tally};

/// Numbers that are reserved at a time: one synced write for so many segments, and at most so many
/// empty leaves after a crash.
const RESERVE_COUNT: u32 = 64;
/// Name of the journal in a group's folder.
const JOURNAL_NAME: &str = "journal";
/// Name of the lock in a group's folder.
const LOCK_NAME: &str = "lock";

/// The durable book of a group that this process writes.
#[derive(Debug)]
pub struct Book<D: Disk> {
    journal: Journal<D, BookEntry>,
    opened: Opened,
    /// The next number to hand out.
    next: u32,
    /// Numbers below this one may be handed out.
    reserved: u32,
    /// What each slot's shards take of its capacity, with what is under way and without what is
    /// emptied.
    used_bytes: u64,
    /// Most shard bytes of the numbers that are handed out and not finished.
    under_way: BTreeMap<u32, u32>,
    /// Shard bytes of finished segments by number, to give back when they are emptied.
    shard_bytes: BTreeMap<u32, u32>,
    emptied: BTreeSet<u32>,
    /// Emptied and not in a final revision.
    pending: BTreeSet<u32>,
    /// Whether a leaf below the edges was emptied since they were built.
    stale: bool,
    edges: Edges,
    revisions: Revisions,
    _lock: D::Lock,
}

impl<D: Disk> Book<D> {
    /// Makes the book of a group that was just opened, in `folder`.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn create(disk: &D, folder: &Path, opened: Opened) -> Result<Self, BookError> {
        disk.create_dir_all(folder)?;
        // The folder, and the one of all groups, are names in those above them.
        for above in folder.ancestors().skip(1).take(2) {
            disk.sync_dir(above)?;
        }
        let lock = take_lock(disk, folder)?;
        let mut first = None;
        let mut journal = Journal::open(disk, &folder.join(JOURNAL_NAME), |entry| {
            first.get_or_insert(entry);
        })?;
        match first {
            Some(BookEntry::Opened(found)) if found == opened => {}
            Some(_) => return Err(BookError::NoOpening),
            None => journal.append(&[BookEntry::Opened(opened)])?,
        }
        drop(journal);
        Self::load(disk, folder, lock)
    }

    /// Opens the book in `folder` and empties the leaves that a crash left unfinished.
    ///
    /// # Errors
    ///
    /// [`BookError`]; [`BookError::NoOpening`] when a crash came before the group was written
    /// down.
    pub fn open(disk: &D, folder: &Path) -> Result<Self, BookError> {
        let lock = take_lock(disk, folder)?;
        Self::load(disk, folder, lock)
    }

    fn load(disk: &D, folder: &Path, lock: D::Lock) -> Result<Self, BookError> {
        let mut tally = Tally::default();
        let journal = Journal::open(disk, &folder.join(JOURNAL_NAME), |entry| tally.add(entry))?;
        let opened = tally.opened.ok_or(BookError::NoOpening)?;
        let mut book = Self {
            journal,
            opened,
            next: tally.reserved,
            reserved: tally.reserved,
            used_bytes: 0,
            under_way: BTreeMap::new(),
            shard_bytes: tally.shard_bytes,
            pending: tally.emptied.clone(),
            emptied: tally.emptied,
            stale: true,
            edges: Edges::new(opened.code),
            revisions: tally.revisions,
            _lock: lock,
        };
        for number in &tally.settled {
            book.pending.remove(number);
        }
        let lost: Vec<SegmentNumber> = (0..book.reserved)
            .filter(|number| !book.shard_bytes.contains_key(number))
            .filter(|number| !book.emptied.contains(number))
            .map(SegmentNumber::new)
            .collect();
        book.empty(&lost)?;
        book.rebuild()?;
        book.used_bytes = book
            .shard_bytes
            .iter()
            .filter(|(number, _)| !book.emptied.contains(number))
            .map(|(_, bytes)| u64::from(charged_bytes(*bytes)))
            .sum();
        Ok(book)
    }

    /// The group.
    #[must_use]
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Whether a segment with shards of `shard_bytes` fits.
    #[must_use]
    pub fn has_room(&self, shard_bytes: u32) -> bool {
        let used = self.used_bytes + u64::from(charged_bytes(shard_bytes));
        used <= self.opened.slot_capacity.get() && self.next < SEGMENTS_MAX
    }

    /// A number for a segment with shards of at most `shard_bytes`; `None` when the group is full.
    /// It ends in [`Self::finish`] or [`Self::abandon`].
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn allocate(&mut self, shard_bytes: u32) -> Result<Option<SegmentNumber>, BookError> {
        if !self.has_room(shard_bytes) {
            return Ok(None);
        }
        if self.next >= self.reserved {
            let reserved = (self.next + RESERVE_COUNT).min(SEGMENTS_MAX);
            self.journal.append(&[BookEntry::Reserved(reserved)])?;
            self.reserved = reserved;
        }
        let number = SegmentNumber::new(self.next);
        self.next += 1;
        self.used_bytes += u64::from(charged_bytes(shard_bytes));
        self.under_way.insert(number.get(), shard_bytes);
        Ok(Some(number))
    }

    /// Remembers segments as network-durable.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn finish(&mut self, segments: Vec<FinishedSegment>) -> Result<(), BookError> {
        let records: Vec<SegmentRecord> = segments
            .iter()
            .map(|segment| segment.record.unverified().clone())
            .collect();
        let entries: Vec<BookEntry> = segments.into_iter().map(BookEntry::Finished).collect();
        self.journal.append(&entries)?;
        for record in records {
            let number = record.number.get();
            self.give_back(number);
            self.used_bytes += u64::from(charged_bytes(record.shard_bytes()));
            self.shard_bytes.insert(number, record.shard_bytes());
            self.edges.add(record);
        }
        self.edges.advance(&self.emptied, self.next);
        Ok(())
    }

    /// Has the leaves emptied by the next revision. Those that are already are left out.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    ///
    /// # Panics
    ///
    /// Never: a chunk is within its bound.
    pub fn empty(&mut self, numbers: &[SegmentNumber]) -> Result<(), BookError> {
        let fresh: BTreeSet<u32> = numbers
            .iter()
            .map(|number| number.get())
            .filter(|number| !self.emptied.contains(number) && *number < self.reserved)
            .collect();
        let all: Vec<SegmentNumber> = fresh.iter().copied().map(SegmentNumber::new).collect();
        let entries: Vec<BookEntry> = all
            .chunks(EMPTIED_MAX)
            .map(|part| Bounded::new(part.to_vec()).expect("cut to the bound"))
            .map(BookEntry::Emptied)
            .collect();
        self.journal.append(&entries)?;
        for number in fresh {
            self.stale |= number < self.edges.count();
            let bytes = self.shard_bytes.get(&number).copied();
            let charged = bytes.map_or(0, |bytes| u64::from(charged_bytes(bytes)));
            self.used_bytes = self.used_bytes.saturating_sub(charged);
            self.emptied.insert(number);
            self.pending.insert(number);
        }
        Ok(())
    }

    /// Numbers that were handed out will not be used: their leaves stay empty.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn abandon(&mut self, numbers: &[SegmentNumber]) -> Result<(), BookError> {
        self.empty(numbers)?;
        for number in numbers {
            self.give_back(number.get());
        }
        self.edges.advance(&self.emptied, self.next);
        Ok(())
    }

    fn give_back(&mut self, number: u32) {
        let reserved = self.under_way.remove(&number);
        let charged = reserved.map_or(0, |bytes| u64::from(charged_bytes(bytes)));
        self.used_bytes = self.used_bytes.saturating_sub(charged);
    }

    /// Numbers that are handed out and neither finished nor abandoned.
    #[must_use]
    pub fn under_way_count(&self) -> usize {
        self.under_way.len()
    }

    /// The finished segments of an upload that are not emptied, by number.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn segments_of(&self, upload: UploadId) -> Result<Vec<FinishedSegment>, BookError> {
        let mut found = BTreeMap::new();
        self.journal.read(|entry| {
            if let BookEntry::Finished(segment) = entry
                && segment.upload == upload
                && !self.emptied.contains(&segment.number().get())
            {
                found.insert(segment.number(), segment);
            }
        })?;
        Ok(found.into_values().collect())
    }

    /// Which upload a finished segment belongs to.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn upload_of(&self, number: SegmentNumber) -> Result<Option<UploadId>, BookError> {
        let mut found = None;
        self.journal.read(|entry| {
            if let BookEntry::Finished(segment) = entry
                && segment.number() == number
            {
                found = Some(segment.upload);
            }
        })?;
        Ok(found)
    }

    /// Whether `segment` in this group is finished and not emptied.
    #[must_use]
    pub fn is_kept(&self, segment: SegmentNumber) -> bool {
        let number = segment.get();
        self.shard_bytes.contains_key(&number) && !self.emptied.contains(&number)
    }

    /// Revisions that were written down and are not known to be final. They must be settled with
    /// [`Self::settle`] before the next is made.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        !self.revisions.submitted.is_empty()
    }

    /// Tells the book which revision the ledger has.
    ///
    /// # Errors
    ///
    /// [`BookError::Foreign`] when this book did not make it.
    pub fn settle(&mut self, found: &GroupRevision) -> Result<(), BookError> {
        let current = self.current_number();
        if found.number == current {
            let same = self
                .revisions
                .current
                .as_ref()
                .is_none_or(|detail| detail.revision == *found);
            if same {
                return Ok(());
            }
        } else if let Some(at) = self
            .revisions
            .submitted
            .iter()
            .position(|detail| detail.revision == *found)
        {
            self.journal.append(&[BookEntry::Revised(*found)])?;
            let detail = self.revisions.submitted.swap_remove(at);
            for number in detail.emptied.iter() {
                self.pending.remove(&number.get());
            }
            self.revisions.submitted.clear();
            self.revisions.current = Some(detail);
            return Ok(());
        }
        Err(BookError::Foreign {
            group: self.opened.group,
            found: found.number,
        })
    }

    /// The next revision, written down, ready to be submitted; `None` when nothing changed. Its
    /// detail names the leaves that it empties, and those of the last one as long as too few slots
    /// have that. When there are more than one detail takes, another revision follows, as soon as
    /// this one is delivered.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    ///
    /// # Panics
    ///
    /// When the number of the last revision is the last possible: it never is.
    pub fn revise(&mut self) -> Result<Option<RevisionDetail>, BookError> {
        if self.stale {
            self.rebuild()?;
        } else {
            self.edges.advance(&self.emptied, self.next);
        }
        let count = self.edges.count();
        let before = self
            .revisions
            .current
            .as_ref()
            .map(|detail| detail.revision);
        let carried = self.carried();
        let fresh: Vec<u32> = self.pending.range(..count).copied().collect();
        let (fresh, later) = fresh.split_at(fresh.len().min(EMPTIED_MAX - carried.len()));
        let edges = if later.is_empty() {
            &self.edges
        } else {
            let later = later.iter().copied().collect();
            let now: BTreeSet<u32> = self.emptied.difference(&later).copied().collect();
            &self.build(&now, count)?
        };
        let covered = before.map_or(0, |revision| revision.segment_count);
        if fresh.is_empty() && covered == edges.count() {
            return Ok(None);
        }
        let fresh: BTreeSet<u32> = fresh.iter().copied().collect();
        let emptied = carried.union(&fresh).copied();
        let emptied: Vec<_> = emptied.map(SegmentNumber::new).collect();
        let slot_roots: Vec<_> = edges.slots.iter().map(Frontier::root).collect();
        let number = self
            .current_number()
            .next()
            .expect("numbers do not run out");
        let revision = GroupRevision {
            group: self.opened.group,
            number,
            segment_count: edges.count(),
            slot_bytes: ByteCount::new(edges.slots.first().map_or(0, Frontier::sum)),
            group_root: group_root(&slot_roots).expect("a code has 2 to SLOTS_MAX slots"),
        };
        let detail = RevisionDetail {
            revision,
            slot_roots: Bounded::new(slot_roots).expect("a code has at most SLOTS_MAX slots"),
            emptied: Bounded::new(emptied).expect("cut to the bound"),
        };
        if !self.revisions.submitted.contains(&detail) {
            self.journal
                .append(&[BookEntry::Revising(detail.clone())])?;
            self.revisions.submitted.push(detail.clone());
        }
        Ok(Some(detail))
    }

    /// Leaves of the newest revision's detail that too few slots have: the next detail names them
    /// again, else no slot could ever tell that they are empty.
    fn carried(&self) -> BTreeSet<u32> {
        let undelivered = self.undelivered().into_iter();
        undelivered
            .flat_map(|detail| detail.emptied.iter().map(|number| number.get()))
            .collect()
    }

    /// The newest revision that the ledger has and too few slots have the detail of.
    #[must_use]
    pub fn undelivered(&self) -> Option<&RevisionDetail> {
        let current = self.revisions.current.as_ref()?;
        (current.revision.number > self.revisions.delivered).then_some(current)
    }

    /// Enough slots have the detail of that revision.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn delivered(&mut self, number: RevisionNumber) -> Result<(), BookError> {
        self.journal.append(&[BookEntry::Delivered(number)])?;
        self.revisions.delivered = self.revisions.delivered.max(number);
        Ok(())
    }

    /// Whether segments are finished or leaves emptied that no final revision covers.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let covered = self
            .revisions
            .current
            .as_ref()
            .map_or(0, |detail| detail.revision.segment_count);
        self.next > covered || !self.pending.is_empty() || self.is_unsettled()
    }

    /// Says that numbers from the next one on were not used, so that they need not be emptied.
    /// Does nothing while numbers are under way.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn close(&mut self) -> Result<(), BookError> {
        if self.reserved > self.next && self.under_way.is_empty() {
            self.journal.append(&[BookEntry::Closed(self.next)])?;
            self.reserved = self.next;
        }
        Ok(())
    }

    /// The number of the newest revision that the ledger has.
    #[must_use]
    pub fn current_number(&self) -> RevisionNumber {
        self.revisions
            .current
            .as_ref()
            .map_or(RevisionNumber::ZERO, |detail| detail.revision.number)
    }

    fn rebuild(&mut self) -> Result<(), BookError> {
        self.edges = self.build(&self.emptied, self.next)?;
        self.stale = false;
        Ok(())
    }

    /// The edges over all numbers below `below` that follow without a gap.
    fn build(&self, emptied: &BTreeSet<u32>, below: u32) -> Result<Edges, BookError> {
        let mut edges = Edges::new(self.opened.code);
        self.journal.read(|entry| {
            if let BookEntry::Finished(segment) = entry {
                edges.add(segment.record.into_unverified());
                edges.advance(emptied, below);
            }
        })?;
        edges.advance(emptied, below);
        edges.waiting.retain(|number, _| !emptied.contains(number));
        Ok(edges)
    }
}

fn take_lock<D: Disk>(disk: &D, folder: &Path) -> Result<D::Lock, BookError> {
    disk.lock(&folder.join(LOCK_NAME)).map_err(|error| {
        if error.source.kind() == std::io::ErrorKind::WouldBlock {
            BookError::Locked
        } else {
            BookError::Disk(error)
        }
    })
}

#[cfg(test)]
mod tests;
