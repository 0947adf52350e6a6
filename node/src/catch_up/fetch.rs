//! One shard: from who has had the slot, or rebuilt from any k siblings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cairn_coding::Coder;
use cairn_core::message::{RECORDS_PAGE_MAX, RecordEntry, ShardRange, WithRecord};
use cairn_core::{
    ErrorCode, NodeId, SegmentNumber, SegmentRecord, ShardRoot, Signed, SlotIndex, UnixMillis,
};
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_net::data::{DataError, ShardWanted};
use cairn_proofs::{ShardHasher, hash_shard, verify_range};
use cairn_runtime::Runtime;
use futures::stream::{FuturesUnordered, StreamExt};

use super::leaves::Leaves;
use super::pass_on::{Place, Rebuilt};
use super::source::{CONNECT_LIMIT, HEDGE_DELAY, own_capability};
use super::{Attempt, CatchUpError};
use crate::groups::has_acknowledged;
use crate::store::{Replace, ShardPlace, ShardPut, StoreError};

/// Bytes of each of the k shards in memory at once while one is rebuilt: at 20-of-40, 5 MiB.
const RANGE_BYTES: u32 = 256 << 10;
/// Segment records at hand: this page and the one before. Numbers rise, so the lowest go first.
const RECORDS_KEPT_MAX: usize = 2 * RECORDS_PAGE_MAX;
/// Above what the pace of streams lets the largest shard take, five and a half minutes.
const COPY_LIMIT: Duration = Duration::from_secs(400);

/// What has become of a segment.
pub(super) struct Fetched<'a> {
    pub(super) record: Arc<Signed<SegmentRecord>>,
    pub(super) ours: Ours,
    /// The shards of partners.
    pub(super) theirs: Vec<Rebuilt<'a>>,
}

/// What has become of our shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// It is durable.
    Durable,
    /// The writer encoded it wrongly. The segment's other shards may be right.
    Unrebuildable,
}

impl Fetched<'_> {
    const fn alone(record: Arc<Signed<SegmentRecord>>) -> Self {
        Self {
            record,
            ours: Ours::Durable,
            theirs: Vec::new(),
        }
    }
}

/// How a shard is copied from who has had the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    /// Siblings can give it too: they are asked when it takes longer than they may.
    Hurried,
    /// Nobody else can give it.
    Patient,
}

impl Copying {
    /// How long one shard may take.
    fn limit(self, shard_bytes: u32) -> Duration {
        match self {
            Self::Hurried => HEDGE_DELAY.saturating_mul(shard_bytes.div_ceil(RANGE_BYTES)),
            Self::Patient => COPY_LIMIT,
        }
    }
}

/// A range of a sibling's shard, verified.
struct Verified {
    slot: SlotIndex,
    bytes: BytesMut,
}

impl<R: Runtime, N: Network, L: Ledger> Attempt<'_, R, N, L> {
    /// Makes one shard durable here, and rebuilds those of the partners that have a place.
    pub(super) async fn fetch<'a>(
        &self,
        leaves: &Leaves,
        number: SegmentNumber,
        places: Vec<Place<'a>>,
    ) -> Result<Fetched<'a>, CatchUpError> {
        let record = Arc::new(self.record(leaves, number).await?);
        let shard_bytes = record.unverified().shard_bytes();
        // The ranges from which partners' shards are rebuilt will do for ours.
        if places.is_empty() && self.copy(&record, Copying::Hurried).await? {
            return Ok(Fetched::alone(record));
        }
        // Before the memory that serving uses too: who has that must not wait for a partner.
        let room = self.room_to_pass(shard_bytes, places).await;
        let k = u32::from(self.group.code.k());
        let range = shard_bytes.min(RANGE_BYTES);
        let needed = shard_bytes.saturating_add(range.saturating_mul(k));
        let lent = self.core.memory.take(needed).await;
        let others: Vec<_> = room.iter().map(|(place, _)| place.partner().0).collect();
        let (ours, theirs) = match self.rebuild(&record, &others).await {
            Err(error @ CatchUpError::NoSources { .. }) => {
                drop((lent, room));
                if self.copy(&record, Copying::Patient).await? {
                    return Ok(Fetched::alone(record));
                }
                return Err(error);
            }
            rebuilt => rebuilt?,
        };
        let ours = match ours {
            Some(bytes) => {
                self.keep(&record, bytes).await?;
                Ours::Durable
            }
            None => Ours::Unrebuildable,
        };
        drop(lent);
        let theirs = room.into_iter().zip(theirs);
        let theirs = theirs.filter_map(|((place, lent), bytes)| {
            let bytes = bytes?;
            Some(Rebuilt { place, lent, bytes })
        });
        Ok(Fetched {
            record,
            ours,
            theirs: theirs.collect(),
        })
    }

    /// Makes our shard durable as one that has had the slot has it; whether one did.
    async fn copy(
        &self,
        record: &Signed<SegmentRecord>,
        copying: Copying,
    ) -> Result<bool, CatchUpError> {
        let shard_bytes = record.unverified().shard_bytes();
        let holders = match copying {
            Copying::Hurried => self.sources.good_holders(),
            Copying::Patient => self.sources.holders(),
        };
        for peer in holders {
            let lent = self.core.memory.take(shard_bytes).await;
            let whole = self.whole_from(peer, record);
            let limit = copying.limit(shard_bytes);
            match self.core.runtime.timeout(limit, whole).await {
                Ok(Some(bytes)) => {
                    self.keep(record, bytes).await?;
                    drop(lent);
                    return Ok(true);
                }
                Ok(None) => {}
                Err(slow) => self.note(peer, &slow),
            }
        }
        Ok(false)
    }

    /// The segment's record: one that [`Leaves`] knows. The first who needs one of a page gets the
    /// whole page, the others wait for it.
    async fn record(
        &self,
        leaves: &Leaves,
        number: SegmentNumber,
    ) -> Result<Signed<SegmentRecord>, CatchUpError> {
        let mut records = self.records.lock().await;
        if let Some(record) = records.get(&number) {
            return Ok(record.clone());
        }
        for peer in self.sources.all() {
            let entries = self.entries(peer, number).await.unwrap_or_default();
            let kept = entries.into_iter().filter_map(|entry| match entry {
                RecordEntry::Kept(signed) => Some(signed),
                RecordEntry::Emptied(_) | RecordEntry::Missing(_) => None,
            });
            let (ours, others): (Vec<_>, Vec<_>) =
                kept.partition(|signed| leaves.is_record(signed.unverified()));
            // Of a segment beyond the revision, or that is empty in it, anything may be there; and who
            // lags may have a segment that was begun again.
            let is_other = |signed: &Signed<SegmentRecord>| leaves.has(signed.unverified().number);
            if others.iter().any(is_other) && has_acknowledged(&self.group, peer) {
                self.accuse(peer, "another segment record than before");
                continue;
            }
            let by_number = ours
                .into_iter()
                .map(|signed| (signed.unverified().number, signed));
            records.extend(by_number);
            while records.len() > RECORDS_KEPT_MAX {
                records.pop_first();
            }
            if let Some(record) = records.get(&number) {
                return Ok(record.clone());
            }
        }
        Err(CatchUpError::NoRecords {
            slot: self.place,
            revision: self.group.revision.number,
        })
    }

    /// The whole shard from one who has had this slot.
    async fn whole_from(&self, peer: NodeId, record: &Signed<SegmentRecord>) -> Option<BytesMut> {
        let record = record.unverified();
        let range = ShardRange {
            offset: 0,
            bytes: record.shard_bytes(),
        };
        let verified = self
            .range_of(peer, self.place.slot, (record, range))
            .await?;
        Some(verified.bytes)
    }

    /// Our shard and those of other slots, from the same ranges of any k siblings. `None` for one
    /// that has not the root it must have: every range had its root, so the code's output is what
    /// the writer should have sent.
    async fn rebuild(
        &self,
        record: &Signed<SegmentRecord>,
        others: &[SlotIndex],
    ) -> Result<(Option<BytesMut>, Vec<Option<BytesMut>>), CatchUpError> {
        let record = record.unverified();
        let shard_bytes = record.shard_bytes();
        let mut slots = vec![self.place.slot];
        slots.extend(others);
        let mut shards: Vec<BytesMut> = slots
            .iter()
            .map(|_| {
                let mut shard = self.core.memory.buffer(shard_bytes);
                shard.clear();
                shard
            })
            .collect();
        let mut offset = 0;
        while offset < shard_bytes {
            let range = ShardRange {
                offset,
                bytes: (shard_bytes - offset).min(RANGE_BYTES),
            };
            let ranges = self.ranges(record, range).await?;
            let rebuilt = self.reconstruct(ranges, slots.clone()).await;
            for (shard, rebuilt) in shards.iter_mut().zip(rebuilt) {
                shard.extend_from_slice(&rebuilt);
            }
            offset += range.bytes;
        }
        let expected: Vec<_> = slots.iter().map(|slot| record.shard_root(*slot)).collect();
        let mut shards = self.right_ones(shards, expected).await.into_iter();
        let ours = shards.next().flatten();
        Ok((ours, shards.collect()))
    }

    /// Those of the shards that have the root they must have.
    async fn right_ones(
        &self,
        shards: Vec<BytesMut>,
        expected: Vec<Option<ShardRoot>>,
    ) -> Vec<Option<BytesMut>> {
        let check = move |(shard, expected): (BytesMut, Option<ShardRoot>)| {
            let hashed = hash_shard(&shard).expect("a record's shard has 1 byte to 4 MiB");
            (Some(hashed.root) == expected).then_some(shard)
        };
        let all = move || shards.into_iter().zip(expected).map(check).collect();
        self.core.runtime.blocking(all).await
    }

    /// The ranges of these slots' shards from k verified ranges.
    async fn reconstruct(
        &self,
        ranges: BTreeMap<SlotIndex, Verified>,
        slots: Vec<SlotIndex>,
    ) -> Vec<BytesMut> {
        let code = self.group.code;
        self.core
            .runtime
            .blocking(move || {
                let present: Vec<(SlotIndex, &[u8])> = ranges
                    .values()
                    .map(|verified| (verified.slot, verified.bytes.as_ref()))
                    .collect();
                let bytes = present.first().map_or(0, |(_, bytes)| bytes.len());
                let mut out = vec![BytesMut::zeroed(bytes); slots.len()];
                Coder::new(code)
                    .reconstruct(&present, &slots, &mut out)
                    .expect("k ranges of one length from different slots");
                out
            })
            .await
    }

    /// The same range of k siblings' shards, each verified. Asks k at once; another one whenever
    /// one fails or takes long. Who was not needed in the end because it took long is asked after
    /// the others next time: it costs us the wait once, and not at every range.
    async fn ranges(
        &self,
        record: &SegmentRecord,
        range: ShardRange,
    ) -> Result<BTreeMap<SlotIndex, Verified>, CatchUpError> {
        let k = self.group.code.data_count();
        let mut candidates = self.sources.siblings().into_iter();
        let mut asking = FuturesUnordered::new();
        let mut asked_at: BTreeMap<NodeId, Duration> = BTreeMap::new();
        let mut ranges: BTreeMap<SlotIndex, Verified> = BTreeMap::new();
        let mut hedges = 0;
        loop {
            while ranges.len() + asking.len() < k + hedges {
                let Some((slot, peer)) = candidates.next() else {
                    break;
                };
                asked_at.insert(peer, self.core.runtime.monotonic());
                let answer = self.range_of(peer, slot, (record, range));
                asking.push(Box::pin(async move { (peer, answer.await) }));
            }
            tokio::select! {
                biased;
                answer = asking.next() => match answer {
                    Some((peer, verified)) => {
                        asked_at.remove(&peer);
                        ranges.extend(verified.map(|verified| (verified.slot, verified)));
                        if ranges.len() == k {
                            self.rest_the_slow(&asked_at);
                            return Ok(ranges);
                        }
                    }
                    None => break,
                },
                () = self.core.runtime.sleep(HEDGE_DELAY) => hedges += 1,
            }
        }
        Err(CatchUpError::NoSources {
            slot: self.place,
            segment: record.number,
            expected: self.group.code.k(),
            found: u8::try_from(ranges.len()).unwrap_or(u8::MAX),
        })
    }

    /// Those of whom an answer was still wanted, with the times when they were asked: who has taken
    /// long is asked last from now on.
    fn rest_the_slow(&self, asked_at: &BTreeMap<NodeId, Duration>) {
        let now = self.core.runtime.monotonic();
        for (peer, asked_at) in asked_at {
            if now.saturating_sub(*asked_at) >= HEDGE_DELAY {
                tracing::debug!(slot = %self.place, %peer, "a source is slow");
                self.sources.rest(*peer);
            }
        }
    }

    /// A range of one sibling's shard, verified against its record. A wrong one is an accusation.
    async fn range_of(
        &self,
        peer: NodeId,
        slot: SlotIndex,
        (record, range): (&SegmentRecord, ShardRange),
    ) -> Option<Verified> {
        let capability = own_capability(&self.core.key, &self.group);
        let taken = self.core.pool.take(peer, &capability, CONNECT_LIMIT).await;
        let mut conn = taken.inspect_err(|error| self.note(peer, error)).ok()?;
        let wanted = ShardWanted {
            group: record.group,
            slot,
            segment: record.number,
            range,
            record: WithRecord::No,
        };
        let mut bytes = BytesMut::new();
        let got = match conn.get(&wanted, &mut bytes).await {
            Ok(got) => got,
            Err(error) => {
                // That it lacks one shard says nothing of its others.
                let lacks = matches!(
                    &error,
                    DataError::Remote {
                        code: ErrorCode::NoSuchShard | ErrorCode::Damaged,
                        ..
                    }
                );
                if !lacks {
                    self.note(peer, &error);
                }
                return None;
            }
        };
        let root = record.shard_root(slot)?;
        let shard_bytes = record.shard_bytes();
        match verify_range(root, shard_bytes, got.range, &bytes, &got.proof) {
            Ok(()) if got.range == range => Some(Verified { slot, bytes }),
            Ok(()) => {
                self.accuse(peer, "another range than asked for");
                None
            }
            Err(error) => {
                self.accuse(
                    peer,
                    &format!("wrong bytes of segment {}: {error}", record.number),
                );
                None
            }
        }
    }

    /// Makes a shard of ours durable.
    async fn keep(
        &self,
        record: &Signed<SegmentRecord>,
        bytes: BytesMut,
    ) -> Result<(), CatchUpError> {
        let mut hasher = ShardHasher::new(record.unverified().shard_bytes())
            .expect("a decoded record is well formed");
        hasher.update(&bytes);
        let hashed = hasher.finish();
        let expected = record.unverified().shard_root(self.place.slot);
        assert_eq!(Some(hashed.root), expected, "verified when it was fetched");
        let place = ShardPlace::new(self.place, record.unverified().number);
        let put = ShardPut {
            slot: self.place.slot,
            record: record.clone(),
            bytes: bytes.freeze(),
            hashed,
            replace: Replace::Unreached,
            written_at: UnixMillis::from_unix(self.core.runtime.now()),
        };
        match self.core.store.put(put).await {
            Ok(_) => Ok(()),
            Err(error @ StoreError::Conflict { .. }) => {
                // A reached revision has another root there: the ledger's newer one can't.
                tracing::error!(%place, %error, "a revision contradicts the one before");
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
