//! What each shard of the revision must be, from segment records that prove themselves.
//!
//! Which leaves are emptied is in no record. Two guesses are tried beside each other: what the
//! owner's details say, and what the siblings say; the n slot roots prove the right one.

use std::collections::BTreeMap;

use cairn_core::message::{RECORDS_PAGE_MAX, RecordEntry};
use cairn_core::{
    Digest, NodeId, Record, RevisionDetail, SegmentNumber, SegmentRecord, ShardRoot, Signed,
    SlotIndex, charged_bytes,
};
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_proofs::{Frontier, Leaf};
use cairn_runtime::Runtime;

use super::source::{CONNECT_LIMIT, HEDGE_DELAY, own_capability};
use super::{Attempt, CatchUpError};
use crate::groups::has_acknowledged;

/// The leaves of our slot at a revision.
#[derive(Debug)]
pub(super) struct Leaves {
    by_number: Vec<Option<Expected>>,
    bytes: u64,
}

/// A shard of ours that the revision has.
#[derive(Clone, Copy, Debug)]
struct Expected {
    root: ShardRoot,
    bytes: u32,
    /// Digest of its segment record, so that it is known again.
    record: Digest,
}

impl Leaves {
    /// Leaves, emptied ones included.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.by_number.len()).expect("SEGMENTS_MAX fits in u32")
    }

    fn at(&self, number: SegmentNumber) -> Option<&Expected> {
        let index = usize::try_from(number.get()).ok()?;
        self.by_number.get(index)?.as_ref()
    }

    /// Bytes of our slot.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What they count against our slot's capacity.
    pub(super) fn charged(&self) -> u64 {
        let shards = self.by_number.iter().flatten();
        shards
            .map(|leaf| u64::from(charged_bytes(leaf.bytes)))
            .sum()
    }

    /// Root of our shard; `None` for an emptied leaf.
    pub(super) fn root(&self, number: SegmentNumber) -> Option<ShardRoot> {
        self.at(number).map(|leaf| leaf.root)
    }

    /// Bytes of our shard; 0 for an emptied leaf.
    pub(super) fn shard_bytes(&self, number: SegmentNumber) -> u32 {
        self.at(number).map_or(0, |leaf| leaf.bytes)
    }

    /// Whether the revision has a segment that is not emptied.
    pub(super) fn has(&self, number: SegmentNumber) -> bool {
        self.at(number).is_some()
    }

    /// Whether this is the segment's record.
    pub(super) fn is_record(&self, record: &SegmentRecord) -> bool {
        self.at(record.number)
            .is_some_and(|leaf| leaf.record == record.record_digest())
    }

    /// The emptied leaves, rising.
    pub(super) fn emptied(&self) -> Vec<SegmentNumber> {
        let numbers = (0..).map(SegmentNumber::new).zip(&self.by_number);
        let emptied = numbers.filter(|(_, leaf)| leaf.is_none());
        emptied.map(|(number, _)| number).collect()
    }
}

/// Which leaves are taken to be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// Those that siblings say are.
    Told,
    /// Those and the ones that the owner's details say are.
    Hinted,
}

/// The trees of all n slots under one guess.
struct Trees {
    guess: Guess,
    frontiers: Vec<Frontier>,
}

impl Trees {
    fn new(guess: Guess, slots: usize) -> Self {
        Self {
            guess,
            frontiers: vec![Frontier::default(); slots],
        }
    }

    /// Appends a segment's leaf to every tree; whether there was room.
    fn append(&mut self, record: Option<&SegmentRecord>) -> bool {
        let slots = (0_u8..).map(SlotIndex::new);
        slots.zip(&mut self.frontiers).all(|(slot, frontier)| {
            let leaf = record.map_or(Ok(Leaf::EMPTY), |record| Leaf::of(record, slot));
            leaf.is_ok_and(|leaf| frontier.append(leaf).is_ok())
        })
    }

    /// Whether they have every slot root of the detail.
    fn are_right(&self, detail: &RevisionDetail) -> bool {
        let roots = self.frontiers.iter().map(Frontier::root);
        roots.eq(detail.slot_roots.iter().copied())
    }
}

/// Builds the trees of all n slots from records, and keeps what is ours.
struct Builder<'a> {
    detail: &'a RevisionDetail,
    /// Leaves that the owner's details say are emptied, rising.
    hinted: &'a [SegmentNumber],
    slot: usize,
    trees: Vec<Trees>,
    leaves: Vec<Option<Expected>>,
}

impl<'a> Builder<'a> {
    fn new(detail: &'a RevisionDetail, hinted: &'a [SegmentNumber], slot: usize) -> Self {
        let slots = detail.slot_roots.len();
        let mut trees = vec![Trees::new(Guess::Told, slots)];
        if !hinted.is_empty() {
            trees.push(Trees::new(Guess::Hinted, slots));
        }
        Self {
            detail,
            hinted,
            slot,
            trees,
            leaves: Vec::new(),
        }
    }

    /// Takes the entry of the next number; whether it is one.
    fn take(&mut self, entry: &RecordEntry) -> bool {
        let is_hinted = self.hinted.binary_search(&self.next()).is_ok();
        let record = match entry {
            RecordEntry::Missing(_) if !is_hinted => return false,
            RecordEntry::Missing(_) => {
                // Only the hint says what this leaf is.
                self.trees.retain(|trees| trees.guess == Guess::Hinted);
                None
            }
            RecordEntry::Emptied(_) => None,
            RecordEntry::Kept(signed) => Some(signed.unverified()),
        };
        let appended = self.trees.iter_mut().all(|trees| {
            let leaf = record.filter(|_| !(is_hinted && trees.guess == Guess::Hinted));
            trees.append(leaf)
        });
        if !appended {
            return false;
        }
        let expected = record.and_then(|record| {
            let root = record.shard_roots.get(self.slot).copied()?;
            Some(Expected {
                root,
                bytes: record.shard_bytes(),
                record: record.record_digest(),
            })
        });
        self.leaves.push(expected);
        true
    }

    fn next(&self) -> SegmentNumber {
        SegmentNumber::new(u32::try_from(self.leaves.len()).expect("bounded by the revision"))
    }

    fn is_complete(&self) -> bool {
        self.next().get() == self.detail.revision.segment_count
    }

    /// The leaves under the guess whose records give every slot root of the detail.
    fn finish(self) -> Option<Leaves> {
        let right = self
            .trees
            .into_iter()
            .find(|trees| trees.are_right(self.detail))?;
        let mut by_number = self.leaves;
        if right.guess == Guess::Hinted {
            for number in self.hinted {
                let index = usize::try_from(number.get()).expect("u32 fits in usize");
                by_number[index] = None;
            }
        }
        let ours = right.frontiers.get(self.slot);
        Some(Leaves {
            by_number,
            bytes: ours.map_or(0, Frontier::sum),
        })
    }
}

impl<R: Runtime, N: Network, L: Ledger> Attempt<'_, R, N, L> {
    /// What each of our shards must be. Every source is tried as the one who leads; what it lacks
    /// is asked of the others.
    pub(super) async fn leaves(
        &self,
        detail: &RevisionDetail,
        hinted: Vec<SegmentNumber>,
    ) -> Result<Leaves, CatchUpError> {
        for leader in self.sources.all() {
            let mut builder = Builder::new(detail, &hinted, self.place.slot.index());
            let mut asked: BTreeMap<NodeId, u32> = BTreeMap::new();
            while !builder.is_complete() && self.page(leader, &mut builder, &mut asked).await {}
            if !builder.is_complete() {
                continue;
            }
            if let Some(leaves) = builder.finish() {
                return Ok(leaves);
            }
            // One that has said that it has the revision is wrong. Of several who gave pages we
            // can't tell who was, and one that lags may still have what was emptied.
            match asked.keys().copied().collect::<Vec<_>>().as_slice() {
                [only] if has_acknowledged(&self.group, *only) => {
                    self.accuse(*only, "its segment records do not give the slot roots");
                }
                _ => self.sources.rest(leader),
            }
        }
        Err(CatchUpError::NoRecords {
            slot: self.place,
            revision: detail.revision.number,
        })
    }

    /// Takes entries from `leader`, or from others where it has none or has failed too often; whether
    /// there were any.
    async fn page(
        &self,
        leader: NodeId,
        builder: &mut Builder<'_>,
        asked: &mut BTreeMap<NodeId, u32>,
    ) -> bool {
        let others = self
            .sources
            .all()
            .into_iter()
            .filter(|peer| *peer != leader);
        let is_bad = self.sources.is_bad(leader);
        let first = Some(leader).filter(|_| !is_bad);
        let last = Some(leader).filter(|_| is_bad);
        for peer in first.into_iter().chain(others).chain(last) {
            let from = builder.next();
            let Some(entries) = self.entries(peer, from).await else {
                continue;
            };
            let mut taken = 0;
            for entry in &entries {
                if builder.is_complete() || !builder.take(entry) {
                    break;
                }
                taken += 1;
            }
            if taken > 0 {
                *asked.entry(peer).or_default() += taken;
                return true;
            }
        }
        false
    }

    /// A page of entries whose numbers, group, code and signatures are right. Who takes long for it
    /// is asked after the others next time.
    pub(super) async fn entries(
        &self,
        peer: NodeId,
        from: SegmentNumber,
    ) -> Option<Vec<RecordEntry>> {
        let begun = self.core.runtime.monotonic();
        let capability = own_capability(&self.core.key, &self.group);
        let taken = self.core.pool.take(peer, &capability, CONNECT_LIMIT).await;
        let mut conn = taken.inspect_err(|error| self.note(peer, error)).ok()?;
        let count = u32::try_from(RECORDS_PAGE_MAX).expect("64");
        let page = conn.records(self.group.id, from, count).await;
        let (entries, _) = page.inspect_err(|error| self.note(peer, error)).ok()?;
        if self.core.runtime.monotonic().saturating_sub(begun) >= HEDGE_DELAY {
            self.sources.rest(peer);
        }
        let numbers = (from.get()..).map(SegmentNumber::new);
        for (number, entry) in numbers.zip(entries.iter()) {
            let right = match entry {
                RecordEntry::Emptied(found) | RecordEntry::Missing(found) => *found == number,
                RecordEntry::Kept(signed) => self.fits(signed, number),
            };
            if !right {
                self.accuse(peer, "a segment record is forged or of another segment");
                return None;
            }
        }
        Some(entries.into_vec())
    }

    /// Whether a record is of that segment of our group and signed by who it says.
    fn fits(&self, signed: &Signed<SegmentRecord>, number: SegmentNumber) -> bool {
        let record = signed.unverified();
        record.group == self.group.id
            && record.number == number
            && record.code == self.group.code
            && signed.verify().is_ok()
    }
}
