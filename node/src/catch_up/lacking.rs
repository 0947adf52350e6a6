//! What slots that are being caught up lack: partners may put it, and so may their writer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_core::{NodeId, SegmentNumber, SegmentRecord, ShardRoot};
use cairn_ledger::tx::SlotRef;
use tokio::sync::Notify;

use super::leaves::Leaves;
use crate::store::ShardPlace;

/// What a slot lacks, in one attempt at it.
#[derive(Debug)]
pub(crate) struct Lack {
    leaves: Leaves,
    lacking: Mutex<BTreeSet<SegmentNumber>>,
    /// The last segment that each has put: one for each shard that came, at most.
    last: Mutex<BTreeMap<NodeId, SegmentNumber>>,
    arrived: Notify,
}

impl Lack {
    pub(super) fn new(leaves: Leaves, lacking: BTreeSet<SegmentNumber>) -> Self {
        Self {
            leaves,
            lacking: Mutex::new(lacking),
            last: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<SegmentNumber>> {
        self.lacking
            .lock()
            .expect("nothing panics while it is held")
    }

    pub(super) const fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// What is not here yet, rising.
    pub(super) fn lacking(&self) -> Vec<SegmentNumber> {
        self.set().iter().copied().collect()
    }

    pub(super) fn lacks(&self, segment: SegmentNumber) -> bool {
        self.set().contains(&segment)
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<NodeId, SegmentNumber>> {
        self.last.lock().expect("nothing panics while it is held")
    }

    /// The last segment, by number, of which that node put our shard.
    pub(super) fn last_from(&self, node: NodeId) -> Option<SegmentNumber> {
        self.last().get(&node).copied()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.set().is_empty()
    }

    /// It is here, or won't be had in this attempt.
    pub(super) fn done(&self, segment: SegmentNumber) {
        self.set().remove(&segment);
    }

    /// Whether that is the segment's record in the revision.
    pub(crate) fn is_record(&self, record: &SegmentRecord) -> bool {
        self.leaves.is_record(record)
    }

    /// Waits for the next shard that somebody puts, or returns at once after one that nobody
    /// waited for.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses none.
    pub(super) fn arrival(&self) -> impl Future<Output = ()> + Send + '_ {
        self.arrived.notified()
    }
}

/// The slots with an attempt under way that knows what is lacking: at most
/// [`crate::config::Pacing::slots_at_once`].
#[derive(Debug, Default)]
pub(crate) struct Lacks {
    by_slot: Mutex<BTreeMap<SlotRef, Arc<Lack>>>,
}

/// An attempt is under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    all: &'a Lacks,
    slot: SlotRef,
}

impl Lacks {
    fn all(&self) -> MutexGuard<'_, BTreeMap<SlotRef, Arc<Lack>>> {
        self.by_slot
            .lock()
            .expect("nothing panics while it is held")
    }

    /// An attempt at a slot begins: there is one at a time.
    pub(super) fn begin(&self, slot: SlotRef, lack: Arc<Lack>) -> UnderWay<'_> {
        self.all().insert(slot, lack);
        UnderWay { all: self, slot }
    }

    /// A shard that was put is durable, or was already: whoever brought it, nobody need wait for
    /// it any more.
    pub(crate) fn came(&self, shard: ShardPlace, root: ShardRoot, from: NodeId) {
        let Some(lack) = self.of(shard.slot) else {
            return;
        };
        if lack.leaves.root(shard.segment) == Some(root) && lack.lacks(shard.segment) {
            let mut last = lack.last();
            let last = last.entry(from).or_default();
            *last = shard.segment.max(*last);
            lack.done(shard.segment);
            lack.arrived.notify_one();
        }
    }

    /// What a slot lacks; `None` when no attempt is under way.
    pub(crate) fn of(&self, slot: SlotRef) -> Option<Arc<Lack>> {
        self.all().get(&slot).map(Arc::clone)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.all().remove(&self.slot);
    }
}
