//! The DHT's records: what is accepted, how many are kept, and keeping them over a restart.
//!
//! Kademlia's own store is bounded by count alone, forgets everything at a restart and lets
//! whoever comes last overwrite; this one checks every record ([`check`]), keeps the newest, drops
//! what is farthest from our own id when it is full, expires by wall time, and writes what changed
//! to a log ([`log`]) that the next start reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use cairn_core::{Digest, UnixMillis};
use cairn_runtime::Runtime;
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result as StoreResult};
use libp2p::kad::{KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey as KadKey};

pub(super) mod check;
pub(super) mod log;
#[cfg(test)]
mod tests;

use check::Checked;
pub(super) use check::RecordError;
use log::Entry;

/// Life of a record after it was made, or for group records after it arrived here.
pub(super) const RECORD_TTL: Duration = Duration::from_secs(48 * 3_600);
/// Bytes that a record takes beside its value: key, times, map entry.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Kept for others; the first to go when there is no room.
    Others,
    /// Published here: republished until it expires, never evicted.
    Ours,
}

/// A kept record.
#[derive(Clone, Debug)]
struct Kept {
    key: Digest,
    checked: Checked,
    value: Vec<u8>,
    expires_at: UnixMillis,
    origin: Origin,
}

impl Kept {
    const fn bytes(&self) -> usize {
        self.value.len() + RECORD_OVERHEAD_BYTES
    }
}

/// What kad sees as its store.
#[derive(Debug)]
pub(super) struct Records<R> {
    runtime: R,
    local: KBucketKey<PeerId>,
    count_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// By distance from our own id, so that the last is the first to go.
    kept: BTreeMap<KBucketDistance, Kept>,
    /// Changed since the log was last written. Bounded by what is kept.
    dirty: BTreeMap<KBucketDistance, ()>,
}

impl<R: Runtime> Records<R> {
    pub(super) fn new(runtime: R, local: PeerId, count_max: usize, bytes_max: usize) -> Self {
        Self {
            runtime,
            local: KBucketKey::from(local),
            count_max,
            bytes_max,
            bytes: 0,
            kept: BTreeMap::new(),
            dirty: BTreeMap::new(),
        }
    }

    fn now(&self) -> UnixMillis {
        UnixMillis::from_unix(self.runtime.now())
    }

    fn distance(&self, key: Digest) -> KBucketDistance {
        self.local
            .distance(&KBucketKey::new(key.as_bytes().to_vec()))
    }

    /// Checks a record and keeps it when it is newer than what is kept.
    pub(super) fn insert(
        &mut self,
        key: Digest,
        value: &[u8],
        origin: Origin,
    ) -> Result<(), RecordError> {
        let now = self.now();
        let checked = check::check(key, value, now)?;
        self.insert_checked(key, checked, value, origin)
    }

    /// Keeps a checked record when it is newer than what is kept.
    fn insert_checked(
        &mut self,
        key: Digest,
        checked: Checked,
        value: &[u8],
        origin: Origin,
    ) -> Result<(), RecordError> {
        let distance = self.distance(key);
        if let Some(before) = self.kept.get_mut(&distance)
            && !checked.replaces(&before.checked)
        {
            if before.value != value {
                return Err(RecordError::Older);
            }
            // The same again: it lives on, and publishing what others gave us makes it ours.
            before.expires_at = before.expires_at.max(checked.expires_at);
            if origin == Origin::Ours {
                before.origin = origin;
            }
            self.dirty.insert(distance, ());
            return Ok(());
        }
        let expires_at = checked.expires_at;
        self.keep(
            distance,
            Kept {
                key,
                checked,
                value: value.to_vec(),
                expires_at,
                origin,
            },
        )
    }

    fn keep(&mut self, distance: KBucketDistance, fresh: Kept) -> Result<(), RecordError> {
        self.take_out(distance);
        self.bytes += fresh.bytes();
        let origin = fresh.origin;
        self.kept.insert(distance, fresh);
        self.dirty.insert(distance, ());
        while self.kept.len() > self.count_max || self.bytes > self.bytes_max {
            let Some(farthest) = self.farthest() else {
                break;
            };
            self.take_out(farthest);
        }
        if self.kept.contains_key(&distance) || origin == Origin::Ours {
            Ok(())
        } else {
            Err(RecordError::NoRoom)
        }
    }

    /// The record to go first: the farthest that is not ours.
    fn farthest(&self) -> Option<KBucketDistance> {
        self.kept
            .iter()
            .rev()
            .find(|(_, kept)| kept.origin == Origin::Others)
            .map(|(distance, _)| *distance)
    }

    fn take_out(&mut self, distance: KBucketDistance) {
        if let Some(gone) = self.kept.remove(&distance) {
            self.bytes -= gone.bytes();
        }
        self.dirty.remove(&distance);
    }

    /// Drops what has expired.
    pub(super) fn expire(&mut self) {
        let now = self.now();
        let gone: Vec<_> = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.expires_at <= now)
            .map(|(distance, _)| *distance)
            .collect();
        for distance in gone {
            self.take_out(distance);
        }
    }

    /// The value under a key, unless it has expired.
    pub(super) fn value(&self, key: Digest) -> Option<&[u8]> {
        let kept = self.kept.get(&self.distance(key))?;
        (kept.expires_at > self.now()).then_some(kept.value.as_slice())
    }

    /// Keys of the records that we publish.
    pub(super) fn ours(&self) -> Vec<Digest> {
        self.kept
            .values()
            .filter(|kept| kept.origin == Origin::Ours)
            .map(|kept| kept.key)
            .collect()
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    /// What changed since the last call, for the log.
    pub(super) fn take_dirty(&mut self) -> Vec<Entry> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .keys()
            .filter_map(|distance| self.kept.get(distance))
            .map(entry)
            .collect()
    }

    /// Everything, for a fresh log.
    pub(super) fn snapshot(&self) -> Vec<Entry> {
        self.kept.values().map(entry).collect()
    }

    /// Takes back what the log had. Entries that no longer check are left out.
    pub(super) fn restore(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let origin = if entry.ours {
                Origin::Ours
            } else {
                Origin::Others
            };
            let now = self.now();
            let Ok(mut checked) = check::check(entry.key, &entry.value, now) else {
                continue;
            };
            checked.expires_at = checked.expires_at.min(entry.expires_at);
            if checked.expires_at > now {
                // Over the bound or older than another entry: left out as planned.
                let _left_out = self.insert_checked(entry.key, checked, &entry.value, origin);
            }
        }
        self.dirty.clear();
    }
}

fn entry(kept: &Kept) -> Entry {
    Entry {
        key: kept.key,
        expires_at: kept.expires_at,
        ours: kept.origin == Origin::Ours,
        value: kept.value.clone(),
    }
}

/// Our key in kad's form.
pub(super) fn kad_key(key: Digest) -> KadKey {
    KadKey::new(key.as_bytes())
}

/// kad's key in our form; `None` when it is not 32 bytes.
pub(super) fn digest(key: &KadKey) -> Option<Digest> {
    <[u8; 32]>::try_from(key.as_ref()).ok().map(Digest::new)
}

impl<R: Runtime> RecordStore for Records<R> {
    type RecordsIter<'a>
        = std::iter::Empty<Cow<'a, Record>>
    where
        R: 'a;
    type ProvidedIter<'a>
        = std::iter::Empty<Cow<'a, ProviderRecord>>
    where
        R: 'a;

    fn get(&self, key: &KadKey) -> Option<Cow<'_, Record>> {
        let value = self.value(digest(key)?)?;
        Some(Cow::Owned(Record::new(key.clone(), value.to_vec())))
    }

    /// Kad calls this only for records that we publish; those of others come filtered.
    fn put(&mut self, record: Record) -> StoreResult<()> {
        let key = digest(&record.key).ok_or(Error::ValueTooLarge)?;
        self.insert(key, &record.value, Origin::Ours)
            .map_err(|_| Error::MaxRecords)
    }

    fn remove(&mut self, key: &KadKey) {
        if let Some(key) = digest(key) {
            let distance = self.distance(key);
            self.take_out(distance);
        }
    }

    /// None: kad's own replication and republishing, which would go through them, are off.
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, _record: ProviderRecord) -> StoreResult<()> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _key: &KadKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _key: &KadKey, _peer: &PeerId) {}
}
