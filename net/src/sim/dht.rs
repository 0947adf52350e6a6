//! The simulated DHT: records on the peers nearest to their key, under the real one's rules.

use std::collections::BTreeMap;

use cairn_core::{Digest, NodeId, UnixMillis};
use cairn_runtime::Runtime as _;

use super::{Shared, State};
use crate::real::newer;
use crate::{DhtMode, NetError, RECORD_BYTES_MAX, RecordKey};

/// How many peers keep a record: Kademlia's k.
const NEAREST_MAX: usize = 20;

/// What a peer keeps under a key.
type Kept = Option<Vec<u8>>;
/// The records that each peer keeps. They outlive its crashes, as the real ones do.
pub(super) type Records = BTreeMap<NodeId, BTreeMap<Digest, Vec<u8>>>;

impl State {
    /// The peers nearest to `key` of those that serve the DHT and that `node` reaches, with their
    /// clocks.
    fn nearest(&self, node: NodeId, key: Digest) -> Vec<(NodeId, UnixMillis)> {
        let mut reached: Vec<([u8; 32], NodeId, UnixMillis)> = self
            .peers
            .iter()
            .filter(|(other, joined)| {
                joined.endpoint.mode() == DhtMode::Server && self.is_open(node, **other)
            })
            .map(|(other, joined)| {
                let place = Digest::keyed("cairn 1 simulated dht place", other.as_bytes());
                let now = UnixMillis::from_unix(joined.endpoint.runtime().now());
                (distance(place, key), *other, now)
            })
            .collect();
        reached.sort_unstable_by_key(|(distance, ..)| *distance);
        reached.truncate(NEAREST_MAX);
        reached
            .into_iter()
            .map(|(_, other, now)| (other, now))
            .collect()
    }
}

fn distance(one: Digest, two: Digest) -> [u8; 32] {
    let mut distance = *one.as_bytes();
    for (byte, other) in distance.iter_mut().zip(two.as_bytes()) {
        *byte ^= other;
    }
    distance
}

impl Shared {
    /// Gives a record to the peers that should keep it; each looks at it for itself.
    ///
    /// # Errors
    ///
    /// [`NetError::TooLarge`]; [`NetError::Dht`] when nobody takes it.
    pub(super) fn store(&self, node: NodeId, key: RecordKey, value: &[u8]) -> Result<(), NetError> {
        if value.len() > RECORD_BYTES_MAX {
            return Err(NetError::TooLarge {
                max: RECORD_BYTES_MAX,
                found: value.len(),
            });
        }
        let key = key.digest();
        self.sim.note("dht publish", &[], value);
        let mut state = self.state();
        let mut taken = 0;
        // Holders with the same record and the same time come to the same judgement: the
        // signatures are checked once for all of them.
        let mut judged: BTreeMap<(Kept, UnixMillis), Kept> = BTreeMap::new();
        for (holder, now) in state.nearest(node, key) {
            let kept = state.records.entry(holder).or_default();
            let best = judged
                .entry((kept.remove(&key), now))
                .or_insert_with_key(|(before, now)| {
                    newer(key, before.clone(), value.to_vec(), *now)
                })
                .clone();
            taken += usize::from(best.as_deref() == Some(value));
            if let Some(best) = best {
                kept.insert(key, best);
            }
        }
        if taken == 0 {
            let cause = "no peer took the record".to_owned();
            return Err(NetError::Dht { cause });
        }
        Ok(())
    }

    /// The newest valid record that the peers who should keep it have.
    pub(super) fn look_up(&self, node: NodeId, key: RecordKey, now: UnixMillis) -> Option<Vec<u8>> {
        let key = key.digest();
        let state = self.state();
        let nearest = state.nearest(node, key).into_iter();
        let found = nearest.filter_map(|(holder, _)| state.records.get(&holder)?.get(&key));
        found.fold(None, |best, value| newer(key, best, value.clone(), now))
    }
}
