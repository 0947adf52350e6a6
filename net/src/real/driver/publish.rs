//! Publishing to the DHT: what callers ask for, our own node record, and paced republishing.
//!
//! Kad's own job takes a snapshot of all records at once and starts a hundred queries; here one
//! record at a time goes out, each long before it expires.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cairn_core::Digest;
use cairn_runtime::Runtime;
use libp2p::kad::{self, QueryId, Quorum};
use tokio::sync::oneshot;

use super::{Driver, QUERIES_MAX, give};
use crate::real::records::{Origin, RecordError, kad_key};
use crate::{NetError, RECORD_BYTES_MAX, RecordKey};

/// How often each of our records is published again: four times in its life.
const REPUBLISH_INTERVAL: Duration = Duration::from_secs(12 * 3_600);
/// Least time before a record that no peer took is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(15);
/// Least time between two of our own node record.
const OUR_RECORD_INTERVAL: Duration = Duration::from_secs(2);
/// Records that we publish. Each takes some 20 messages twice a day.
const OURS_MAX: usize = 8_192;

/// A publication under way.
#[derive(Debug)]
struct Publication {
    key: Digest,
    answer: Option<oneshot::Sender<Result<(), NetError>>>,
}

/// What is published, and when it is due again.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    under_way: HashMap<QueryId, Publication>,
    /// Next time of each of our records, by the monotonic clock.
    due: BTreeMap<Digest, Duration>,
    /// Next time of our node record; `None` until we have an address.
    our_record_due: Option<Duration>,
}

impl Publisher {
    /// Takes up the records that the log says are ours, spread over the interval.
    pub(super) fn resume(&mut self, ours: Vec<Digest>, now: Duration) {
        let count = u32::try_from(ours.len().max(1)).unwrap_or(u32::MAX);
        let step = REPUBLISH_INTERVAL / count;
        let mut at = now + RETRY_INTERVAL;
        for key in ours.into_iter().take(OURS_MAX) {
            self.due.insert(key, at);
            at += step;
        }
    }

    /// Our addresses changed.
    pub(super) fn our_record_changed(&mut self, now: Duration) {
        self.our_record_due = Some(now);
    }

    /// A peer joined our routing table: what nobody took may find a taker.
    pub(super) fn peer_joined(&mut self, now: Duration) {
        let soon = now + OUR_RECORD_INTERVAL;
        if let Some(due) = &mut self.our_record_due
            && *due < now + RETRY_INTERVAL
        {
            *due = (*due).min(soon);
        }
    }

    /// A record of ours that is due.
    fn take_due(&mut self, now: Duration) -> Option<Digest> {
        let key = self
            .due
            .iter()
            .find(|(_, due)| **due <= now)
            .map(|(key, _)| *key)?;
        self.due.insert(key, now + REPUBLISH_INTERVAL);
        Some(key)
    }
}

impl Driver {
    /// Publishes our node record and at most one other that is due.
    pub(super) fn publish_due(&mut self) {
        let now = self.runtime().monotonic();
        let our_due = self.state.publisher.our_record_due;
        if our_due.is_some_and(|due| due <= now) {
            self.state.publisher.our_record_due = Some(now + REPUBLISH_INTERVAL);
            if let Some((key, value)) = self.shared.fresh_record() {
                self.publish(key.digest(), value, None);
            }
        }
        if let Some(key) = self.state.publisher.take_due(now) {
            let store = self.swarm.behaviour_mut().dht.store_mut();
            match store.value(key).map(<[u8]>::to_vec) {
                Some(value) => self.publish(key, value, None),
                None => {
                    self.state.publisher.due.remove(&key);
                }
            }
        }
    }

    /// Keeps a record as ours and sends it to the nodes nearest to its key.
    pub(super) fn publish(
        &mut self,
        key: Digest,
        value: Vec<u8>,
        answer: Option<oneshot::Sender<Result<(), NetError>>>,
    ) {
        let done = self.start_publication(key, value);
        match (done, answer) {
            (Ok(id), answer) => {
                let publication = Publication { key, answer };
                self.state.publisher.under_way.insert(id, publication);
            }
            (Err(error), Some(answer)) => give(answer, Err(error)),
            (Err(error), None) => tracing::debug!(%error, "not republished"),
        }
    }

    fn start_publication(&mut self, key: Digest, value: Vec<u8>) -> Result<QueryId, NetError> {
        let refused = |cause: String| NetError::Dht { cause };
        let publisher = &self.state.publisher;
        if publisher.under_way.len() >= QUERIES_MAX {
            return Err(refused(format!("{QUERIES_MAX} publications are under way")));
        }
        if publisher.due.len() >= OURS_MAX && !publisher.due.contains_key(&key) {
            return Err(refused(format!("{OURS_MAX} records are published")));
        }
        let dht = &mut self.swarm.behaviour_mut().dht;
        let kept = dht.store_mut().insert(key, &value, Origin::Ours);
        kept.map_err(|error| match error {
            RecordError::TooLarge { found } => NetError::TooLarge {
                max: RECORD_BYTES_MAX,
                found,
            },
            error => refused(error.to_string()),
        })?;
        let record = kad::Record::new(kad_key(key), value);
        let id = dht
            .put_record(record, Quorum::One)
            .map_err(|error| refused(error.to_string()))?;
        let now = self.runtime().monotonic();
        let ours = RecordKey::Node(self.shared.local).digest();
        if key != ours {
            let due = now + REPUBLISH_INTERVAL;
            self.state.publisher.due.insert(key, due);
        }
        Ok(id)
    }

    /// A publication has ended.
    pub(super) fn on_published(&mut self, id: QueryId, result: kad::PutRecordResult) {
        let Some(done) = self.state.publisher.under_way.remove(&id) else {
            return;
        };
        let taken = match &result {
            Ok(_) => true,
            Err(
                kad::PutRecordError::QuorumFailed { success, .. }
                | kad::PutRecordError::Timeout { success, .. },
            ) => !success.is_empty(),
        };
        let alone = self.shared.serves_dht && self.swarm.connected_peers().next().is_none();
        let outcome = match result {
            Err(error) if !taken && !alone => Err(NetError::Dht {
                cause: error.to_string(),
            }),
            Ok(_) | Err(_) => Ok(()),
        };
        if !taken {
            self.retry_later(done.key);
        }
        if let Some(answer) = done.answer {
            give(answer, outcome);
        }
    }

    fn retry_later(&mut self, key: Digest) {
        let due = self.runtime().monotonic() + RETRY_INTERVAL;
        let publisher = &mut self.state.publisher;
        if let Some(at) = publisher.due.get_mut(&key) {
            *at = due;
        } else {
            publisher.our_record_due = Some(due);
        }
    }
}
