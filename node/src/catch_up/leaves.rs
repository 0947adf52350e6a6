//! What each shard of the revision must be, from segment records that prove themselves.

use std::collections::BTreeMap;

use cairn_core::message::{RECORDS_PAGE_MAX, RecordEntry};
use cairn_core::{
    Digest, NodeId, Record, RevisionDetail, SegmentNumber, SegmentRecord, ShardRoot, Signed,
};
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_proofs::{Frontier, Leaf};
use cairn_runtime::Runtime;

use super::source::{CONNECT_LIMIT, own_capability};
use super::{Attempt, CatchUpError};

/// The leaves of our slot at a revision.
#[derive(Debug)]
pub(super) struct Leaves {
    by_number: Vec<Option<Expected>>,
}

/// A shard of ours that the revision has.
#[derive(Clone, Copy, Debug)]
struct Expected {
    root: ShardRoot,
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

    /// Root of our shard; `None` for an emptied leaf.
    pub(super) fn root(&self, number: SegmentNumber) -> Option<ShardRoot> {
        self.at(number).map(|leaf| leaf.root)
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

/// Builds the trees of all n slots from records, and keeps what is ours.
struct Builder<'a> {
    detail: &'a RevisionDetail,
    slot: usize,
    frontiers: Vec<Frontier>,
    leaves: Vec<Option<Expected>>,
}

impl Builder<'_> {
    /// Takes the entry of the next number; whether it is one.
    fn take(&mut self, entry: &RecordEntry) -> bool {
        let record = match entry {
            RecordEntry::Missing(_) => return false,
            RecordEntry::Emptied(_) => None,
            RecordEntry::Kept(signed) => Some(signed.unverified()),
        };
        for (slot, frontier) in (0_u8..).zip(&mut self.frontiers) {
            let leaf = match record {
                None => Leaf::EMPTY,
                Some(record) => {
                    let slot = cairn_core::SlotIndex::new(slot);
                    let Ok(leaf) = Leaf::of(record, slot) else {
                        return false;
                    };
                    leaf
                }
            };
            if frontier.append(leaf).is_err() {
                return false;
            }
        }
        let expected = record.and_then(|record| {
            let root = record.shard_roots.get(self.slot).copied()?;
            Some(Expected {
                root,
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

    /// Whether the records give every slot root of the detail.
    fn is_right(&self) -> bool {
        let roots = self.frontiers.iter().map(Frontier::root);
        roots.eq(self.detail.slot_roots.iter().copied())
    }
}

impl<R: Runtime, N: Network, L: Ledger> Attempt<'_, R, N, L> {
    /// What each of our shards must be. Every source is tried as the one who leads; what it lacks
    /// is asked of the others.
    pub(super) async fn leaves(&self, detail: &RevisionDetail) -> Result<Leaves, CatchUpError> {
        for leader in self.sources.all() {
            let mut builder = Builder {
                detail,
                slot: self.place.slot.index(),
                frontiers: vec![Frontier::default(); self.group.code.shard_count()],
                leaves: Vec::new(),
            };
            let mut asked: BTreeMap<NodeId, u32> = BTreeMap::new();
            while !builder.is_complete() && self.page(leader, &mut builder, &mut asked).await {}
            if !builder.is_complete() {
                continue;
            }
            if builder.is_right() {
                return Ok(Leaves {
                    by_number: builder.leaves,
                });
            }
            // Of several who gave pages, we can't tell who was wrong; one alone is named.
            match asked.keys().copied().collect::<Vec<_>>().as_slice() {
                [only] => self.accuse(*only, "its segment records do not give the slot roots"),
                _ => self.sources.rest(leader),
            }
        }
        Err(CatchUpError::NoRecords {
            slot: self.place,
            revision: detail.revision.number,
        })
    }

    /// Takes entries from `leader`, or from others where it has none; whether there were any.
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
        for peer in std::iter::once(leader).chain(others) {
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

    /// A page of entries whose numbers, group, code and signatures are right.
    pub(super) async fn entries(
        &self,
        peer: NodeId,
        from: SegmentNumber,
    ) -> Option<Vec<RecordEntry>> {
        let capability = own_capability(&self.core.key, &self.group);
        let taken = self.core.pool.take(peer, &capability, CONNECT_LIMIT).await;
        let mut conn = taken.inspect_err(|error| self.note(peer, error)).ok()?;
        let count = u32::try_from(RECORDS_PAGE_MAX).expect("64");
        let page = conn.records(self.group.id, from, count).await;
        let (entries, _) = page.inspect_err(|error| self.note(peer, error)).ok()?;
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
