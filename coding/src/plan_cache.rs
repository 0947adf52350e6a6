//! Plans prepared before, by what they read and make.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_core::SlotIndex;

use crate::plan::Plan;

/// Prepared reconstructions a coder keeps: for one group the same slots are missing for many
/// segments, and a node that catches up works on a few groups at a time. The largest one (k = 64,
/// n = 128, 32 bytes a factor) takes 128 KiB.
pub const PLANS_MAX: usize = 16;

/// The last [`PLANS_MAX`] plans used.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    /// Most recently used last. Held only to look up and insert, never while coding.
    entries: Mutex<VecDeque<(Key, Arc<Plan>)>>,
}

/// Slots that a plan reads, as a bit set, and slots it makes, in order.
type Key = (u128, Vec<SlotIndex>);

impl PlanCache {
    /// The plan for `wanted` from `sources`, which are in order: the one in the cache, or else the
    /// one that `prepare` makes.
    pub(crate) fn get_or_prepare(
        &self,
        sources: &[SlotIndex],
        wanted: &[SlotIndex],
        prepare: impl FnOnce() -> Plan,
    ) -> Arc<Plan> {
        let set = sources.iter().fold(0, |set, slot| set | 1 << slot.index());
        if let Some(plan) = self.find(set, wanted) {
            return plan;
        }
        // Two threads may prepare the same plan at once; both are right, and one is evicted later.
        let plan = Arc::new(prepare());
        let mut entries = self.lock();
        if entries.len() >= PLANS_MAX {
            entries.pop_front();
        }
        entries.push_back(((set, wanted.to_vec()), Arc::clone(&plan)));
        plan
    }

    fn find(&self, set: u128, wanted: &[SlotIndex]) -> Option<Arc<Plan>> {
        let mut entries = self.lock();
        let found = entries
            .iter()
            .rposition(|((sources, slots), _)| *sources == set && slots == wanted)?;
        let entry = entries.remove(found)?;
        let plan = Arc::clone(&entry.1);
        entries.push_back(entry);
        Some(plan)
    }

    /// A panic elsewhere cannot leave the queue half-changed, so its mark is ignored.
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Key, Arc<Plan>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}
