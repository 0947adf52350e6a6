//! What a commit says of the use of segments.

use cairn_client::segment_store::{HeadStore, SegmentStore};
use cairn_runtime::Runtime;

use super::Frozen;
use crate::key::{InodeNumber, Key, KeyKind, SegmentId, kinds};
use crate::tree::Absent;
use crate::value::{Snapshot, Usage, decode, encode};
use crate::volume::{Volume, VolumeError};

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Enters what has changed in the use of segments into the frozen tree; gives the segments that
    /// nothing refers to any more. They stay in the tree until they are given up.
    pub(super) async fn enter_usage(
        &self,
        frozen: &mut Frozen,
    ) -> Result<Vec<SegmentId>, VolumeError> {
        let newest = self.newest_snapshot(frozen).await?;
        for segment in std::mem::take(&mut frozen.discarded) {
            self.put(frozen, &Key::usage(segment), None).await?;
        }
        let log = std::mem::take(&mut frozen.usage);
        for (segment, (bytes, born)) in log.filled {
            let mut usage = self.usage_of(frozen, segment).await?.unwrap_or_default();
            usage.bytes = bytes;
            usage.born = born;
            let value = encode(&usage);
            self.put(frozen, &Key::usage(segment), Some(value)).await?;
        }
        let mut dead = Vec::new();
        for (segment, bytes) in log.changed {
            let known = self.usage_of(frozen, segment).await?;
            let mut usage = known.unwrap_or(Usage {
                born: frozen.number.get(),
                ..Usage::default()
            });
            usage.live = usage.live.saturating_add_signed(bytes);
            let lost = u64::try_from(bytes.saturating_neg()).unwrap_or(0);
            if let Some((snapshot, head)) = newest
                && usage.born <= head
                && lost > 0
            {
                usage.held = usage.held.saturating_add(lost);
                self.hold(frozen, snapshot, segment, lost).await?;
            }
            if usage.live == 0 && usage.held == 0 {
                dead.push(segment);
            }
            let value = encode(&usage);
            self.put(frozen, &Key::usage(segment), Some(value)).await?;
        }
        Ok(dead)
    }

    /// The newest snapshot and the head that it is.
    async fn newest_snapshot(&self, frozen: &Frozen) -> Result<Option<(u64, u64)>, VolumeError> {
        let end = Key::end_of(InodeNumber::VOLUME, kinds::SNAPSHOT);
        loop {
            match frozen.tree.last_at_or_before(&self.shared.pages, &end) {
                Ok(found) => {
                    return Ok(found.and_then(|(key, value)| match key.kind() {
                        Some(KeyKind::Snapshot(number)) => {
                            Some((number, decode::<Snapshot>(&value)?.head))
                        }
                        _ => None,
                    }));
                }
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }

    /// Notes bytes of a segment that a snapshot and those before it need.
    async fn hold(
        &self,
        frozen: &mut Frozen,
        snapshot: u64,
        segment: SegmentId,
        bytes: u64,
    ) -> Result<(), VolumeError> {
        let key = Key::held(snapshot, segment);
        let before = self.value(frozen, &key).await?;
        let before: u64 = before.and_then(|value| decode(&value)).unwrap_or(0);
        let value = encode(&before.saturating_add(bytes));
        self.put(frozen, &key, Some(value)).await
    }

    async fn usage_of(
        &self,
        frozen: &Frozen,
        segment: SegmentId,
    ) -> Result<Option<Usage>, VolumeError> {
        let value = self.value(frozen, &Key::usage(segment)).await?;
        Ok(value.and_then(|value| decode(&value)))
    }

    async fn value(&self, frozen: &Frozen, key: &Key) -> Result<Option<Box<[u8]>>, VolumeError> {
        loop {
            match frozen.tree.get(&self.shared.pages, key) {
                Ok(value) => return Ok(value),
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }

    async fn put(
        &self,
        frozen: &mut Frozen,
        key: &Key,
        value: Option<Box<[u8]>>,
    ) -> Result<(), VolumeError> {
        loop {
            match frozen.tree.set(&self.shared.pages, key, value.clone()) {
                Ok(_) => return Ok(()),
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }
}
