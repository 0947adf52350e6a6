//! What a book keeps in memory: revisions, the right edges of the slot trees, and the sum of its
//! journal.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::{Code, GroupRevision, RevisionDetail, RevisionNumber, SegmentRecord, SlotIndex};
use cairn_proofs::{Frontier, Leaf};

use crate::book::entry::{BookEntry, Opened};

/// What is known of revisions.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    /// Revisions written before they were submitted and not known to be final.
    pub(super) submitted: Vec<RevisionDetail>,
    /// The newest that the ledger has.
    pub(super) current: Option<RevisionDetail>,
    /// The newest that enough slots have.
    pub(super) delivered: RevisionNumber,
}

/// The n slot trees' right edges, over the numbers that are finished or emptied without a gap.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) slots: Vec<Frontier>,
    /// Finished segments above a gap.
    pub(super) waiting: BTreeMap<u32, SegmentRecord>,
}

impl Edges {
    pub(super) fn new(code: Code) -> Self {
        Self {
            slots: vec![Frontier::new(); code.shard_count()],
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.slots.first().map_or(0, Frontier::count)
    }

    /// Appends what follows without a gap, with `emptied` leaves empty.
    pub(super) fn advance(&mut self, emptied: &BTreeSet<u32>, below: u32) {
        while self.count() < below {
            let number = self.count();
            let record = self.waiting.remove(&number);
            if emptied.contains(&number) {
                self.append(|_| Leaf::EMPTY);
            } else if let Some(record) = record {
                self.append(|slot| Leaf::of(&record, slot).expect("a record has n shards"));
            } else {
                break;
            }
        }
    }

    /// Adds a finished segment, unless its leaf is there already.
    pub(super) fn add(&mut self, record: SegmentRecord) {
        let number = record.number.get();
        if number >= self.count() {
            self.waiting.insert(number, record);
        }
    }

    fn append(&mut self, leaf: impl Fn(SlotIndex) -> Leaf) {
        for (slot, edge) in (0..).map(SlotIndex::new).zip(&mut self.slots) {
            edge.append(leaf(slot))
                .expect("numbers are handed out below the bound");
        }
    }
}

/// What the entries of a journal add up to.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) opened: Option<Opened>,
    pub(super) reserved: u32,
    pub(super) shard_bytes: BTreeMap<u32, u32>,
    pub(super) emptied: BTreeSet<u32>,
    /// Emptied by a revision that the ledger has.
    pub(super) settled: BTreeSet<u32>,
    pub(super) revisions: Revisions,
}

impl Tally {
    pub(super) fn add(&mut self, entry: BookEntry) {
        match entry {
            BookEntry::Opened(opened) => self.opened = Some(opened),
            BookEntry::Reserved(next) | BookEntry::Closed(next) => self.reserved = next,
            BookEntry::Finished(segment) => {
                let record = segment.record.unverified();
                self.shard_bytes
                    .insert(record.number.get(), record.shard_bytes());
            }
            BookEntry::Emptied(numbers) => {
                self.emptied
                    .extend(numbers.iter().map(|number| number.get()));
            }
            BookEntry::Revising(detail) => self.revisions.submitted.push(detail),
            BookEntry::Revised(revision) => self.revised(&revision),
            BookEntry::Delivered(number) => {
                self.revisions.delivered = self.revisions.delivered.max(number);
            }
            // Of another file; has no place here and no effect.
            BookEntry::Upload(_) | BookEntry::UploadGroup(_) => {}
        }
    }

    fn revised(&mut self, revision: &GroupRevision) {
        let submitted = std::mem::take(&mut self.revisions.submitted);
        let detail = submitted
            .into_iter()
            .find(|detail| detail.revision == *revision);
        if let Some(detail) = detail {
            self.settled
                .extend(detail.emptied.iter().map(|number| number.get()));
            self.revisions.current = Some(detail);
        }
    }
}
