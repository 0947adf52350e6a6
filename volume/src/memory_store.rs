//! A store of segments and heads in memory, for tests and benches.
//!
//! **Guarantees.** It holds whoever uses it to what the traits say: a name is put once and only when it was
//! reserved, nothing is read that was given up before the last sync, the number of a head rises. All else
//! is an error. It does each call at once and in the order in which they come, so a run with it is the
//! same every time.
//!
//! **Assumes** that what it keeps fits the memory.
//!
//! **Fails** where a test plans it: at a call, before or after it is done ([`StoreFault`]), and by losing or
//! damaging what it has.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cairn_client::segment_store::{HeadStore, Reserved, SegmentAt, SegmentStore, StoreFailure};
use cairn_core::{Blame, Digest, GroupId, Retry, SegmentNumber, VolumeId};

#[cfg(test)]
mod tests;

/// Domain of the names of its groups.
const GROUP_CONTEXT: &str = "cairn 1 memory store group";

/// The shape of the segments that are given names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStoreConfig {
    /// Most bytes of a payload.
    pub payload_bytes_max: u32,
    /// Segments of a group; the next one is in the next group. At least 1.
    pub group_segments_max: u32,
}

impl Default for MemoryStoreConfig {
    /// Small, so that short tests fill several segments and several groups.
    fn default() -> Self {
        Self {
            payload_bytes_max: 256 << 10,
            group_segments_max: 8,
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Nothing was done.
    Undone,
    /// It was done, and the answer was lost.
    Unanswered,
}

/// What it did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Calls of any kind, those that failed included.
    pub call_count: u64,
    /// Segments that were put.
    pub put_count: u64,
    /// Bytes of their payloads.
    pub put_bytes: u64,
    /// Reads.
    pub read_count: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Segments that were given up.
    pub discard_count: u64,
    /// Syncs.
    pub sync_count: u64,
    /// Heads that were published.
    pub publish_count: u64,
}

/// A store in memory. Cheap to clone; clones are one store.
#[derive(Clone, Default)]
pub struct MemoryStore {
    config: MemoryStoreConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many names were given.
    reserved: u64,
    segments: BTreeMap<SegmentAt, Kept>,
    /// What was given up since the last sync.
    leaving: Vec<SegmentAt>,
    /// Bytes of what was put and not given up.
    kept_bytes: u64,
    heads: BTreeMap<VolumeId, (u64, Bytes)>,
    counts: StoreCounts,
    /// By the number of the call.
    faults: BTreeMap<u64, StoreFault>,
}

/// What is under a name.
enum Kept {
    /// Nothing yet.
    Reserved,
    Payload(Bytes),
    /// Given up, and to be read until the next sync; `None` when it was never put.
    Leaving(Option<Bytes>),
    /// Nothing, for ever.
    Gone,
}

/// Why it did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryStoreError {
    /// A test planned it.
    #[error("call {call} of the store in memory fails, as was planned")]
    Planned {
        /// The call, from 0.
        call: u64,
    },
    /// The name was never given.
    #[error("{at} was never reserved")]
    Unknown {
        /// The name.
        at: SegmentAt,
    },
    /// The name is used up.
    #[error("{at} was put or given up before")]
    Used {
        /// The name.
        at: SegmentAt,
    },
    /// The payload is too long, or empty.
    #[error("{at}: expected a payload of 1 to {max} bytes, found {found}")]
    Payload {
        /// The name.
        at: SegmentAt,
        /// Most bytes.
        max: u32,
        /// Those of the payload.
        found: usize,
    },
    /// Nothing is there: it was never put, or given up and synced, or a test had it lost.
    #[error("{at} has no payload")]
    Missing {
        /// The name.
        at: SegmentAt,
    },
    /// The payload does not have these bytes.
    #[error("{at} has {payload_bytes} bytes, and {start} to {end} were asked for")]
    Range {
        /// The name.
        at: SegmentAt,
        /// The first byte that was asked for.
        start: u32,
        /// The one behind the last.
        end: u32,
        /// Bytes of the payload.
        payload_bytes: usize,
    },
    /// A head is not newer than the newest.
    #[error("volume {volume} has head {newest} already, and {found} was published")]
    Old {
        /// The volume.
        volume: VolumeId,
        /// Number of its newest head.
        newest: u64,
        /// The number that was published.
        found: u64,
    },
}

impl StoreFailure for MemoryStoreError {
    fn retry(&self) -> Retry {
        match self {
            Self::Planned { .. } => Retry::Later,
            Self::Unknown { .. }
            | Self::Used { .. }
            | Self::Payload { .. }
            | Self::Missing { .. }
            | Self::Range { .. }
            | Self::Old { .. } => Retry::Never,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Planned { .. } | Self::Missing { .. } => Blame::World,
            Self::Unknown { .. }
            | Self::Used { .. }
            | Self::Payload { .. }
            | Self::Range { .. }
            | Self::Old { .. } => Blame::Caller,
        }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(config: MemoryStoreConfig) -> Self {
        Self {
            config,
            state: Arc::default(),
        }
    }

    /// Has the call with that number fail, counted from 0 over all calls of any kind: the next one has the
    /// number [`Self::call_count`].
    pub fn plan_fault(&self, call: u64, fault: StoreFault) {
        self.lock().faults.insert(call, fault);
    }

    /// Has the call with that number fail before anything is done.
    pub fn fail_call(&self, call: u64) {
        self.plan_fault(call, StoreFault::Undone);
    }

    /// Has no call fail from here on.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Loses a payload, as when more nodes are lost than the code bears; whether there was one.
    #[must_use]
    pub fn lose(&self, at: SegmentAt) -> bool {
        let mut state = self.lock();
        let Some(Kept::Payload(payload)) = state.segments.get(&at) else {
            return false;
        };
        let bytes = count(payload.len());
        state.kept_bytes = state.kept_bytes.saturating_sub(bytes);
        state.segments.insert(at, Kept::Gone);
        true
    }

    /// Flips the bits of a byte of a payload; whether there was such a byte.
    #[must_use]
    pub fn damage(&self, at: SegmentAt, place: usize) -> bool {
        let mut state = self.lock();
        let Some(Kept::Payload(payload)) = state.segments.get_mut(&at) else {
            return false;
        };
        let mut bytes = payload.to_vec();
        let Some(byte) = bytes.get_mut(place) else {
            return false;
        };
        *byte = !*byte;
        *payload = bytes.into();
        true
    }

    /// The segments that were put and not given up.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentAt> {
        let state = self.lock();
        let kept = state.segments.iter();
        kept.filter(|(_, kept)| matches!(kept, Kept::Payload(_)))
            .map(|(at, _)| *at)
            .collect()
    }

    /// Bytes of payloads that were put and not given up.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.lock().kept_bytes
    }

    /// Calls so far, of any kind.
    #[must_use]
    pub fn call_count(&self) -> u64 {
        self.lock().counts.call_count
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a call, unless it is planned to fail.
    fn call<T>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, MemoryStoreError>,
    ) -> Result<T, MemoryStoreError> {
        let mut state = self.lock();
        let call = state.counts.call_count;
        state.counts.call_count += 1;
        let planned = MemoryStoreError::Planned { call };
        match state.faults.remove(&call) {
            None => work(&mut state),
            Some(StoreFault::Undone) => Err(planned),
            Some(StoreFault::Unanswered) => work(&mut state).and(Err(planned)),
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("config", &self.config)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl State {
    fn reserve(&mut self, config: MemoryStoreConfig) -> Reserved {
        let group_segments = u64::from(config.group_segments_max.max(1));
        let number = u32::try_from(self.reserved % group_segments);
        let at = SegmentAt {
            group: group(self.reserved / group_segments),
            number: SegmentNumber::new(number.expect("it is below a u32")),
        };
        self.reserved += 1;
        self.segments.insert(at, Kept::Reserved);
        Reserved {
            at,
            payload_bytes_max: config.payload_bytes_max,
        }
    }

    fn put(&mut self, at: SegmentAt, payload: Bytes, max: u32) -> Result<(), MemoryStoreError> {
        let kept = self.segments.get_mut(&at);
        let kept = kept.ok_or(MemoryStoreError::Unknown { at })?;
        if !matches!(kept, Kept::Reserved) {
            return Err(MemoryStoreError::Used { at });
        }
        let found = payload.len();
        if !(1..=max).contains(&u32::try_from(found).unwrap_or(u32::MAX)) {
            return Err(MemoryStoreError::Payload { at, max, found });
        }
        *kept = Kept::Payload(payload);
        self.kept_bytes += count(found);
        self.counts.put_count += 1;
        self.counts.put_bytes += count(found);
        Ok(())
    }

    fn payload(&self, at: SegmentAt) -> Result<&Bytes, MemoryStoreError> {
        match self.segments.get(&at) {
            None => Err(MemoryStoreError::Unknown { at }),
            Some(Kept::Payload(payload) | Kept::Leaving(Some(payload))) => Ok(payload),
            Some(Kept::Reserved | Kept::Leaving(None) | Kept::Gone) => {
                Err(MemoryStoreError::Missing { at })
            }
        }
    }

    fn read(&mut self, at: SegmentAt, range: &Range<u32>) -> Result<Bytes, MemoryStoreError> {
        let payload = self.payload(at)?;
        let place = |byte: u32| usize::try_from(byte).unwrap_or(usize::MAX);
        let (start, end) = (place(range.start), place(range.end));
        if start > end || end > payload.len() {
            return Err(MemoryStoreError::Range {
                at,
                start: range.start,
                end: range.end,
                payload_bytes: payload.len(),
            });
        }
        let bytes = payload.slice(start..end);
        self.counts.read_count += 1;
        self.counts.read_bytes += count(bytes.len());
        Ok(bytes)
    }

    /// All or none of them. Giving up what is given up already does nothing.
    fn discard(&mut self, segments: &[SegmentAt]) -> Result<(), MemoryStoreError> {
        let unknown = segments.iter().find(|at| !self.segments.contains_key(*at));
        if let Some(at) = unknown {
            return Err(MemoryStoreError::Unknown { at: *at });
        }
        for at in segments {
            let payload = match self.segments.get(at) {
                Some(Kept::Payload(payload)) => Some(payload.clone()),
                Some(Kept::Reserved) => None,
                None | Some(Kept::Leaving(_) | Kept::Gone) => continue,
            };
            let bytes = payload.as_ref().map_or(0, |payload| count(payload.len()));
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
            self.segments.insert(*at, Kept::Leaving(payload));
            self.leaving.push(*at);
            self.counts.discard_count += 1;
        }
        Ok(())
    }

    fn sync(&mut self) {
        for at in std::mem::take(&mut self.leaving) {
            self.segments.insert(at, Kept::Gone);
        }
        self.counts.sync_count += 1;
    }

    fn publish(
        &mut self,
        volume: VolumeId,
        number: u64,
        head: Bytes,
    ) -> Result<(), MemoryStoreError> {
        if let Some((newest, _)) = self.heads.get(&volume)
            && *newest >= number
        {
            return Err(MemoryStoreError::Old {
                volume,
                newest: *newest,
                found: number,
            });
        }
        self.heads.insert(volume, (number, head));
        self.counts.publish_count += 1;
        Ok(())
    }
}

impl SegmentStore for MemoryStore {
    type Error = MemoryStoreError;

    async fn reserve(&self) -> Result<Reserved, MemoryStoreError> {
        self.call(|state| Ok(state.reserve(self.config)))
    }

    async fn put(&self, at: SegmentAt, payload: Bytes) -> Result<(), MemoryStoreError> {
        self.call(|state| state.put(at, payload, self.config.payload_bytes_max))
    }

    async fn read(&self, at: SegmentAt, range: Range<u32>) -> Result<Bytes, MemoryStoreError> {
        self.call(|state| state.read(at, &range))
    }

    async fn payload_bytes(&self, at: SegmentAt) -> Result<u32, MemoryStoreError> {
        let bytes = self.call(|state| Ok(state.payload(at)?.len()))?;
        Ok(u32::try_from(bytes).expect("no longer payload was put"))
    }

    async fn discard(&self, segments: Vec<SegmentAt>) -> Result<(), MemoryStoreError> {
        self.call(|state| state.discard(&segments))
    }

    async fn sync(&self) -> Result<(), MemoryStoreError> {
        self.call(|state| {
            state.sync();
            Ok(())
        })
    }
}

impl HeadStore for MemoryStore {
    type Error = MemoryStoreError;

    async fn publish(
        &self,
        volume: VolumeId,
        number: u64,
        head: Bytes,
    ) -> Result<(), MemoryStoreError> {
        self.call(|state| state.publish(volume, number, head))
    }

    async fn newest(&self, volume: VolumeId) -> Result<Option<Bytes>, MemoryStoreError> {
        self.call(|state| Ok(state.heads.get(&volume).map(|(_, head)| head.clone())))
    }
}

/// Name of the group with that index.
fn group(index: u64) -> GroupId {
    GroupId::new(Digest::keyed(GROUP_CONTEXT, &index.to_le_bytes()))
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
