//! The bytes of one simulated file: what is read now, and what a loss of power leaves of it.
//!
//! Pages that were never written or were punched out take no memory. Since the last sync the
//! file keeps the changes in order and, of each page they touched, what is durable; a loss of
//! power goes back to that and applies whatever part of the changes the seed lets through.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::sim::rng::SimRng;

/// Unit of allocation, as on common file systems.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Unit that a disk writes whole or not at all.
const TEAR_BYTES: usize = 512;
/// Unsynced bytes of a file beyond which all of it is written back, as kernels do by themselves.
const PENDING_BYTES_MAX: usize = 16 << 20;
/// The same bound on the count of changes.
const PENDING_CHANGES_MAX: usize = 1 << 14;
/// Largest file: that of ext4.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 40;

type Page = Box<[u8; PAGE_SIZE]>;
const PAGE_SIZE: usize = 4096;
const _: () = assert!(PAGE_SIZE.is_multiple_of(TEAR_BYTES));

/// How much of the unsynced a loss of power lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Nothing.
    LosesAll,
    /// Everything.
    KeepsAll,
    /// Each change by itself: lost, kept, or a part of it kept.
    Mixed,
}

/// A file's bytes.
#[derive(Debug, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Page>,
    bytes: u64,
    /// Of the pages touched since they were last durable, what is durable; `None` for a hole.
    undo: BTreeMap<u64, Option<Page>>,
    durable_bytes: u64,
    pending: Vec<Change>,
    pending_bytes: usize,
    /// Pages whose changes a failed sync lost: what is read differs from what is durable for good.
    doomed: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, content: Vec<u8> },
    SetLen { bytes: u64 },
    Punch { range: Range<u64> },
}

impl Content {
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        count(self.pages.len()).saturating_mul(PAGE_BYTES)
    }

    /// Whether there is something that a loss of power may take.
    pub(super) fn is_dirty(&self) -> bool {
        !self.undo.is_empty() || !self.pending.is_empty()
    }

    /// Fills `buffer`; false when the file ends first.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        let Some(end) = offset.checked_add(count(buffer.len())) else {
            return buffer.is_empty();
        };
        if end > self.bytes && !buffer.is_empty() {
            return false;
        }
        for (index, inside, part) in by_page(offset, buffer.len()) {
            match self.pages.get(&index) {
                Some(page) => buffer[part].copy_from_slice(&page[inside]),
                None => buffer[part].fill(0),
            }
        }
        true
    }

    /// How many of `length` bytes from `offset` on fit when `free` more bytes may be allocated.
    pub(super) fn fits(&self, offset: u64, length: usize, free: u64) -> usize {
        let mut pages_free = free / PAGE_BYTES;
        for (index, _, part) in by_page(offset, length) {
            if !self.pages.contains_key(&index) {
                if pages_free == 0 {
                    return part.start;
                }
                pages_free -= 1;
            }
        }
        length
    }

    pub(super) fn write(&mut self, content: &[u8], offset: u64) {
        if !content.is_empty() {
            self.pending_bytes = self.pending_bytes.saturating_add(content.len());
            let content = content.to_vec();
            self.change(Change::Write { offset, content });
        }
    }

    pub(super) fn set_len(&mut self, bytes: u64) {
        self.change(Change::SetLen { bytes });
    }

    pub(super) fn punch(&mut self, range: Range<u64>) {
        self.change(Change::Punch { range });
    }

    fn change(&mut self, change: Change) {
        for index in self.touched(&change) {
            let page = self.pages.get(&index);
            self.undo.entry(index).or_insert_with(|| page.cloned());
        }
        self.apply(&change);
        self.pending.push(change);
        let over =
            self.pending_bytes > PENDING_BYTES_MAX || self.pending.len() > PENDING_CHANGES_MAX;
        if over {
            self.sync();
        }
    }

    /// The pages that a change makes other, among those that a loss of power must restore.
    fn touched(&self, change: &Change) -> Vec<u64> {
        match change {
            Change::Write { offset, content } => by_page(*offset, content.len())
                .map(|(index, ..)| index)
                .collect(),
            Change::SetLen { bytes } => self
                .pages
                .range(bytes / PAGE_BYTES..)
                .map(|(index, _)| *index)
                .collect(),
            Change::Punch { range } => {
                let last = range.end.div_ceil(PAGE_BYTES);
                self.pages
                    .range(range.start / PAGE_BYTES..last)
                    .map(|(index, _)| *index)
                    .collect()
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, content } => {
                for (index, inside, part) in by_page(*offset, content.len()) {
                    let page = self.pages.entry(index).or_insert_with(zeros);
                    page[inside].copy_from_slice(&content[part]);
                }
                self.bytes = self.bytes.max(offset.saturating_add(count(content.len())));
            }
            Change::SetLen { bytes } => {
                if *bytes < self.bytes {
                    self.zero(*bytes..self.bytes.next_multiple_of(PAGE_BYTES));
                }
                self.bytes = *bytes;
            }
            Change::Punch { range } => {
                // The last page goes as a whole when all that the file has of it goes.
                let end = if range.end >= self.bytes {
                    range.end.next_multiple_of(PAGE_BYTES)
                } else {
                    range.end
                };
                self.zero(range.start..end);
            }
        }
    }

    /// Zeros a range: whole pages become holes.
    fn zero(&mut self, range: Range<u64>) {
        let first = range.start / PAGE_BYTES;
        let last = range.end.div_ceil(PAGE_BYTES);
        if first >= last {
            return;
        }
        let found: Vec<u64> = self
            .pages
            .range(first..last)
            .map(|(index, _)| *index)
            .collect();
        for index in found {
            let start = index * PAGE_BYTES;
            let from = range.start.saturating_sub(start).min(PAGE_BYTES);
            let to = range.end.saturating_sub(start).min(PAGE_BYTES);
            if from == 0 && to == PAGE_BYTES {
                self.pages.remove(&index);
            } else if let Some(page) = self.pages.get_mut(&index) {
                page[small(from)..small(to)].fill(0);
            }
        }
    }

    /// Makes durable what was changed since the last sync, but for what a failed one lost.
    pub(super) fn sync(&mut self) {
        if self.doomed.is_empty() {
            self.undo.clear();
            self.durable_bytes = self.bytes;
        } else {
            self.sync_around_doomed();
        }
        self.pending.clear();
        self.pending_bytes = 0;
    }

    fn sync_around_doomed(&mut self) {
        let mut durable = Self {
            bytes: self.durable_bytes,
            ..Self::default()
        };
        for index in &self.doomed {
            if let Some(Some(page)) = self.undo.get(index) {
                durable.pages.insert(*index, page.clone());
            }
        }
        for change in &self.pending {
            durable.apply(change);
        }
        self.durable_bytes = durable.bytes;
        self.doomed
            .retain(|index| durable.pages.get(index) != self.pages.get(index));
        self.undo.clear();
        for index in &self.doomed {
            self.undo.insert(*index, durable.pages.remove(index));
        }
    }

    /// A sync failed: what was changed is read as before, but no later sync makes it durable.
    pub(super) fn doom(&mut self) {
        self.doomed.extend(self.undo.keys());
        self.pending.clear();
        self.pending_bytes = 0;
    }

    /// Power was lost: goes back to what is durable, and as much of the rest as comes through.
    pub(super) fn lose_power(&mut self, mood: Mood, rng: &mut SimRng) {
        for (index, page) in std::mem::take(&mut self.undo) {
            match page {
                Some(page) => self.pages.insert(index, page),
                None => self.pages.remove(&index),
            };
        }
        self.bytes = self.durable_bytes;
        self.doomed.clear();
        self.pending_bytes = 0;
        for change in std::mem::take(&mut self.pending) {
            match mood {
                Mood::LosesAll => {}
                Mood::KeepsAll => self.apply(&change),
                Mood::Mixed => self.apply_part(&change, rng),
            }
        }
        self.durable_bytes = self.bytes;
    }

    /// Applies a change, or nothing, or a part of it.
    fn apply_part(&mut self, change: &Change, rng: &mut SimRng) {
        let choice = rng.below(5);
        let Change::Write { offset, content } = change else {
            if choice < 3 {
                self.apply(change);
            }
            return;
        };
        match choice {
            0 => {}
            1 => self.apply(change),
            // Cut at any byte.
            2 => self.apply_range(*offset, content, 0..rng.index(content.len())),
            // Any of the parts that a medium writes whole.
            3 => {
                let mut start = 0;
                while start < content.len() {
                    let from = offset.saturating_add(count(start));
                    let inside = small(from % count(TEAR_BYTES));
                    let end = content.len().min(start + TEAR_BYTES - inside);
                    if rng.below(2) == 0 {
                        self.apply_range(*offset, content, start..end);
                    }
                    start = end;
                }
            }
            // The size without the bytes.
            _ => {
                let end = offset.saturating_add(count(content.len()));
                self.bytes = self.bytes.max(end);
            }
        }
    }

    fn apply_range(&mut self, offset: u64, content: &[u8], range: Range<usize>) {
        if !range.is_empty() {
            let offset = offset.saturating_add(count(range.start));
            let content = content[range].to_vec();
            self.apply(&Change::Write { offset, content });
        }
    }

    /// Flips a bit on the medium. Holes have no medium: false.
    pub(super) fn flip(&mut self, offset: u64, bit: u32) -> bool {
        let index = offset / PAGE_BYTES;
        let inside = small(offset % PAGE_BYTES);
        if let Some(Some(page)) = self.undo.get_mut(&index) {
            page[inside] ^= 1 << (bit % 8);
        }
        match self.pages.get_mut(&index) {
            Some(page) => {
                page[inside] ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }
}

/// A range of a file page by page: the page's index, the range in it, the range in the whole.
fn by_page(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> + use<> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset.saturating_add(count(done));
        let inside = small(at % PAGE_BYTES);
        let taken = (length - done).min(PAGE_SIZE - inside);
        let part = (at / PAGE_BYTES, inside..inside + taken, done..done + taken);
        done += taken;
        Some(part)
    })
}

fn zeros() -> Page {
    Box::new([0; PAGE_SIZE])
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("usize fits in u64 on our systems")
}

/// A number that is at most a page.
fn small(number: u64) -> usize {
    usize::try_from(number).expect("at most a page")
}

#[cfg(test)]
mod tests;
