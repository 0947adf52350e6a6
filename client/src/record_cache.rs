//! Verified segment records, kept for later reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_core::{GroupId, SegmentNumber, SegmentRecord};

/// Most records kept: 6 MB at the widest usual code, and at 4-of-8 the records of 16 GiB.
const RECORDS_MAX: usize = 4_096;

/// Verified segment records; those kept longest are evicted.
#[derive(Debug, Default)]
pub(crate) struct RecordCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_place: BTreeMap<(GroupId, SegmentNumber), Arc<SegmentRecord>>,
    order: VecDeque<(GroupId, SegmentNumber)>,
}

impl RecordCache {
    pub(crate) fn get(&self, group: GroupId, number: SegmentNumber) -> Option<Arc<SegmentRecord>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_place.get(&(group, number)).cloned()
    }

    /// Keeps a record whose signature was verified.
    pub(crate) fn put(&self, record: Arc<SegmentRecord>) {
        let place = (record.group, record.number);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_place.insert(place, record).is_some() {
            return;
        }
        kept.order.push_back(place);
        if kept.order.len() > RECORDS_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_place.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::{Bounded, Code, Digest, ShardRoot};

    use super::*;

    #[test]
    fn the_cache_is_bounded() {
        let cache = RecordCache::default();
        let group = GroupId::new(Digest::new([1; 32]));
        for number in 0..5_000 {
            cache.put(Arc::new(SegmentRecord {
                group,
                number: SegmentNumber::new(number),
                code: Code::new(1, 2).unwrap(),
                payload_bytes: 1,
                shard_roots: Bounded::new(vec![ShardRoot::default(); 2]).unwrap(),
            }));
        }
        assert_eq!(cache.kept.lock().unwrap().by_place.len(), RECORDS_MAX);
        assert!(cache.get(group, SegmentNumber::new(0)).is_none());
        assert!(cache.get(group, SegmentNumber::new(4_999)).is_some());
    }
}
