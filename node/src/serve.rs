//! The data plane's answering end: put, get, records.
//!
//! A stream is served by one task, one request at a time. A peer that sends garbage ends its own
//! stream; one that stops is given up by the pace of `net`; shards in memory are lent from a
//! budget with a share per peer, before the first byte is read.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{
    DataRequest, DataResponse, RECORDS_PAGE_MAX, RecordEntry, ShardRange, WithRecord,
};
use cairn_core::{
    Bounded, ErrorCode, GroupId, NodeId, Receipt, Right, SegmentNumber, SegmentRecord, Signed,
    SlotIndex, UnixMillis, charged_bytes,
};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_ledger::tx::SlotRef;
use cairn_net::Network;
use cairn_net::data::{DataError, Pace, ServerConn};
use cairn_proofs::{HashedShard, SPAN_BYTES, ShardHasher};
use cairn_runtime::Runtime;
use tokio::sync::watch;

use crate::access::{Access, Refusal, find};
use crate::audit::show;
use crate::core::Core;
use crate::groups::Age;
use crate::memory::{Lent, User};
use crate::store::{Check, Kept, Replace, ShardPlace, ShardPut, StoreError, Wanted};

/// Segment numbers that a writer may be ahead of the last revision. Bounds what an index page can
/// be made to hold by scattered numbers, far above what a client has under way.
const AHEAD_MAX: u32 = 1 << 17;

/// A request waits so long for memory; then the peer is told to come again. Below the patience of
/// the asking end.
const MEMORY_WAIT: Duration = Duration::from_secs(15);

/// A stream being served.
struct Serving<'a, R: Runtime, N: Network, L: Ledger> {
    core: &'a Core<R, N, L>,
    conn: ServerConn<N::Stream, R>,
    access: Access,
    memory: User,
}

/// What a put is about, once it is allowed.
struct Allowed {
    place: ShardPlace,
    record: Signed<SegmentRecord>,
    shard_bytes: u32,
    replace: Replace,
}

/// Serves a stream until its peer ends it, breaks the protocol or stops, or we shut down.
pub(crate) async fn serve_stream<R: Runtime, N: Network, L: Ledger>(
    core: Arc<Core<R, N, L>>,
    peer: NodeId,
    stream: N::Stream,
    mut closing: watch::Receiver<bool>,
) {
    let conn = ServerConn::new(stream, peer, core.runtime.clone(), Pace::SERVER);
    let mut serving = Serving {
        core: &core,
        conn,
        access: Access::new(peer),
        memory: core.memory.user(peer),
    };
    loop {
        let request = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            request = serving.conn.next() => request,
        };
        let answered = match request {
            Ok(None) => return,
            Ok(Some(request)) => serving.answer(request).await,
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            tracing::debug!(%peer, %error, "a data stream ends");
            return;
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> Serving<'_, R, N, L> {
    async fn answer(&mut self, request: DataRequest) -> Result<(), DataError> {
        let done = match request {
            DataRequest::Present(capability) => {
                let core = self.core;
                let presented = self
                    .access
                    .present(&core.groups, &core.runtime, &capability);
                match presented.await {
                    Ok(()) => return self.conn.respond(&DataResponse::Done).await,
                    Err(refusal) => Err(refusal),
                }
            }
            DataRequest::Put { slot, record } => match self.may_put(slot, record).await {
                Ok(allowed) => return self.put(allowed).await,
                Err(refusal) => Err(refusal),
            },
            DataRequest::Get {
                group,
                slot,
                segment,
                range,
                record,
            } => {
                let place = SlotRef { group, slot };
                let shard = ShardPlace::new(place, segment);
                match self.may_get(shard).await {
                    Ok(()) => return self.get(shard, range, record).await,
                    Err(refusal) => Err(refusal),
                }
            }
            DataRequest::Audit { epoch, number } => {
                match show(self.core, self.conn.peer(), (epoch, number)).await {
                    Ok(response) => return self.conn.respond(&response).await,
                    Err(refusal) => Err(refusal),
                }
            }
            DataRequest::Records { group, from, count } => {
                match self.records(group, from, count).await {
                    Ok(response) => return self.conn.respond(&response).await,
                    Err(refusal) => Err(refusal),
                }
            }
        };
        match done {
            Ok(()) => Ok(()),
            Err(refusal) => self.refuse(&refusal).await,
        }
    }

    async fn refuse(&mut self, refusal: &Refusal) -> Result<(), DataError> {
        tracing::debug!(peer = %self.conn.peer(), code = %refusal.code, text = refusal.text, "refused");
        self.conn.respond_error(refusal.code, &refusal.text).await
    }

    async fn group(&mut self, id: GroupId, right: Right) -> Result<Arc<Group>, Refusal> {
        let core = self.core;
        let wanted = (id, right);
        self.access.allow(&core.groups, &core.runtime, wanted).await
    }

    /// Checks everything about a put that can be known before its bytes.
    async fn may_put(
        &mut self,
        slot: SlotIndex,
        signed: Signed<SegmentRecord>,
    ) -> Result<Allowed, Refusal> {
        let claimed = signed.unverified();
        if self.access.is_sibling_of(claimed.group) {
            return self.may_pass_on(slot, signed).await;
        }
        let group = self.group(claimed.group, Right::Write).await?;
        let group = self.ours(group, slot).await?;
        if !self.access.may_sign(&group, signed.signer()) {
            let text = "the record's signer is neither the owner nor the writer";
            return Err(Refusal::new(ErrorCode::BadRecord, text));
        }
        let bad = |text: String| Refusal::new(ErrorCode::BadRecord, text);
        let record = signed.verify().map_err(|error| bad(error.to_string()))?;
        if record.code != group.code {
            let text = format!("expected code {}, found {}", group.code, record.code);
            return Err(bad(text));
        }
        let ahead = record
            .number
            .get()
            .saturating_sub(group.revision.segment_count);
        if ahead > AHEAD_MAX {
            let text = format!("segment {} is {ahead} past the revision", record.number);
            return Err(Refusal::new(ErrorCode::OutOfRange, text));
        }
        let place = SlotRef {
            group: record.group,
            slot,
        };
        let shard_bytes = record.shard_bytes();
        let store = self.core.store.store();
        let kept = store.slot_figures(place);
        let kept = kept.map_or(0, |figures| figures.charged_bytes.get());
        // The one that is there already, or makes room for this one.
        let before = match store.kept(place, record.number, 1).as_slice() {
            [Kept::Shard { bytes, .. }] => u64::from(charged_bytes(*bytes)),
            _ => 0,
        };
        let kept = kept.saturating_sub(before);
        let charged = u64::from(charged_bytes(shard_bytes));
        if kept.saturating_add(charged) > group.slot_capacity.get() {
            let text = format!("the slot has {kept} of {} bytes", group.slot_capacity);
            return Err(Refusal::new(ErrorCode::TooLarge, text));
        }
        Ok(Allowed {
            place: ShardPlace::new(place, record.number),
            shard_bytes,
            record: signed,
            replace: Replace::Unrevised,
        })
    }

    /// Checks what a node that does the same rebuild passes on: the revision's record of a segment
    /// of a slot that is being caught up. All else about it is known already.
    async fn may_pass_on(
        &mut self,
        slot: SlotIndex,
        signed: Signed<SegmentRecord>,
    ) -> Result<Allowed, Refusal> {
        let group = signed.unverified().group;
        self.group(group, Right::Read).await?;
        let place = SlotRef { group, slot };
        let lack = self.core.lacks.of(place).ok_or_else(|| {
            let text = format!("{place} is not being caught up now");
            Refusal::new(ErrorCode::Busy, text)
        })?;
        let bad = |text: String| Refusal::new(ErrorCode::BadRecord, text);
        let record = signed.verify().map_err(|error| bad(error.to_string()))?;
        if !lack.is_record(record) {
            return Err(bad(format!("not the record of segment {}", record.number)));
        }
        Ok(Allowed {
            place: ShardPlace::new(place, record.number),
            shard_bytes: record.shard_bytes(),
            record: signed,
            replace: Replace::Unreached,
        })
    }

    /// Receives a shard, makes it durable, answers with a receipt.
    async fn put(&mut self, allowed: Allowed) -> Result<(), DataError> {
        let place = allowed.place;
        if let Err(error) = self.core.promise(place.slot).await {
            return self.refuse(&refusal_of(&error)).await;
        }
        let expected = allowed.record.unverified().shard_root(place.slot.slot);
        let kept = self.core.store.store().kept(place.slot, place.segment, 1);
        if let [Kept::Shard { root, .. }] = kept.as_slice()
            && Some(*root) == expected
        {
            // Durable already: the bytes need not come again.
            self.core.lacks.came(place, *root, self.conn.peer());
            let receipt = self.core.receipt(place, *root, allowed.shard_bytes);
            return self.conn.respond(&DataResponse::Receipt(receipt)).await;
        }
        let Some(lent) = self.lend(allowed.shard_bytes).await else {
            return self.refuse(&busy()).await;
        };
        let (bytes, hashed) = self.receive(allowed.shard_bytes).await?;
        if Some(hashed.root) != expected {
            let text = format!("the bytes have root {}", hashed.root);
            let refusal = Refusal::new(ErrorCode::RootMismatch, text);
            return self.refuse(&refusal).await;
        }
        let root = hashed.root;
        let bytes = bytes.freeze();
        let done = self
            .core
            .store
            .put(ShardPut {
                slot: place.slot.slot,
                record: allowed.record,
                bytes: bytes.clone(),
                hashed,
                replace: allowed.replace,
                written_at: UnixMillis::from_unix(self.core.runtime.now()),
            })
            .await;
        self.core.memory.give_back(bytes);
        drop(lent);
        match done {
            Ok(_) => {
                self.core.lacks.came(place, root, self.conn.peer());
                let receipt = self.core.receipt(place, root, allowed.shard_bytes);
                self.conn.respond(&DataResponse::Receipt(receipt)).await
            }
            Err(error) => self.refuse(&refusal_of(&error)).await,
        }
    }

    /// Memory for a shard of the peer; `None` when there is none for too long.
    async fn lend(&mut self, bytes: u32) -> Option<Lent> {
        let lent = self.memory.take(bytes);
        self.core.runtime.timeout(MEMORY_WAIT, lent).await.ok()
    }

    /// Reads the body, hashing what has come while more comes.
    async fn receive(&mut self, shard_bytes: u32) -> Result<(BytesMut, HashedShard), DataError> {
        let mut hasher = ShardHasher::new(shard_bytes).expect("a decoded record is well formed");
        let mut bytes = self.core.memory.buffer(shard_bytes);
        bytes.clear();
        loop {
            let before = bytes.len();
            if self.conn.read_body(&mut bytes).await? == 0 {
                return Ok((bytes, hasher.finish()));
            }
            hasher.update(bytes.get(before..).unwrap_or_default());
        }
    }

    async fn may_get(&mut self, shard: ShardPlace) -> Result<(), Refusal> {
        let group = self.access.allow_shard(self.core, shard).await?;
        if self.core.store.store().slot_figures(shard.slot).is_none() {
            // A slot that we have had is served until it is dropped, to whoever catches up.
            self.ours(group, shard.slot.slot).await?;
        }
        Ok(())
    }

    /// The group, when the slot is ours; the ledger is asked again when what is remembered says
    /// that it is not.
    async fn ours(&mut self, group: Arc<Group>, slot: SlotIndex) -> Result<Arc<Group>, Refusal> {
        if self.core.holds(&group, slot).is_ok() {
            return Ok(group);
        }
        let group = find(&self.core.groups, group.id, Age::Fresh).await?;
        self.core.holds(&group, slot)?;
        Ok(group)
    }

    async fn get(
        &mut self,
        shard: ShardPlace,
        range: ShardRange,
        record: WithRecord,
    ) -> Result<(), DataError> {
        let kept = self.core.store.store().kept(shard.slot, shard.segment, 1);
        let bytes = match kept.as_slice() {
            [Kept::Shard { bytes, .. }] => *bytes,
            _ => {
                let refusal = Refusal::new(ErrorCode::NoSuchShard, shard.to_string());
                return self.refuse(&refusal).await;
            }
        };
        // At both ends a range is read up to the border of a span, to prove it.
        let room = range.bytes.saturating_add(2 * SPAN_BYTES).min(bytes);
        let Some(lent) = self.lend(room).await else {
            return self.refuse(&busy()).await;
        };
        let buffer = self.core.memory.buffer(room);
        let wanted = Wanted {
            shard,
            range,
            record,
            check: Check::No,
        };
        let read = self
            .core
            .store
            .with(move |store| store.read_into(&wanted, buffer))
            .await;
        let answered = match read {
            Ok(read) => {
                let offset = read.range.offset;
                let answered = self
                    .conn
                    .respond_shard(read.record, offset, &read.proof, &read.bytes)
                    .await;
                self.core.memory.give_back(read.bytes);
                answered
            }
            Err(error) => {
                if matches!(error, StoreError::Damaged { .. }) {
                    self.core.look_at(shard.slot);
                }
                self.refuse(&refusal_of(&error)).await
            }
        };
        drop(lent);
        answered
    }

    /// A page of segment records, of whichever of our slots in the group has most.
    async fn records(
        &mut self,
        id: GroupId,
        from: SegmentNumber,
        count: u32,
    ) -> Result<DataResponse, Refusal> {
        let group = self.group(id, Right::Read).await?;
        let store = self.core.store.store();
        let place = group
            .code
            .slots()
            .map(|slot| SlotRef { group: id, slot })
            .filter_map(|place| store.slot_figures(place).map(|figures| (figures, place)))
            .max_by_key(|(figures, place)| (figures.shard_count, place.slot));
        let Some((figures, place)) = place else {
            return Ok(DataResponse::Records {
                entries: Bounded::empty(),
                segment_count: 0,
            });
        };
        let page = u32::try_from(RECORDS_PAGE_MAX).expect("64");
        let left = figures.segment_count.saturating_sub(from.get());
        let count = count.min(page).min(left);
        let entries = self.core.store.with(move |store| {
            let kept = store.kept(place, from, count);
            let numbers = (from.get()..).map(SegmentNumber::new);
            let entry = |(number, kept)| match kept {
                Kept::Emptied => RecordEntry::Emptied(number),
                Kept::Nothing => RecordEntry::Missing(number),
                Kept::Shard { .. } => match store.record(ShardPlace::new(place, number)) {
                    Ok(record) => RecordEntry::Kept(record),
                    Err(StoreError::Emptied { .. }) => RecordEntry::Emptied(number),
                    Err(_) => RecordEntry::Missing(number),
                },
            };
            numbers.zip(kept).map(entry).collect::<Vec<_>>()
        });
        Ok(DataResponse::Records {
            entries: Bounded::new(entries.await).expect("no more than a page was asked for"),
            segment_count: figures.segment_count,
        })
    }
}

/// No memory for another shard of the peer.
fn busy() -> Refusal {
    Refusal::new(ErrorCode::Busy, "too many shards are under way")
}

/// A store's error, as it is sent: nothing of our inside goes out.
pub(crate) fn refusal_of(error: &StoreError) -> Refusal {
    let text = match error {
        StoreError::Disk(_) | StoreError::Foreign { .. } => {
            tracing::error!(%error, "the shard store failed");
            "the disk failed".to_owned()
        }
        StoreError::Damaged { shard, .. } => format!("{shard} is damaged"),
        StoreError::Full { .. }
        | StoreError::Conflict { .. }
        | StoreError::Absent { .. }
        | StoreError::Emptied { .. }
        | StoreError::OutOfRange { .. }
        | StoreError::Lacking { .. }
        | StoreError::SlotRoot { .. }
        | StoreError::SlotBytes { .. }
        | StoreError::Unreached { .. }
        | StoreError::Unsettled { .. }
        | StoreError::Closed => error.to_string(),
    };
    Refusal::new(error.code(), text)
}

impl<R: Runtime, N: Network, L: Ledger> Core<R, N, L> {
    /// That the slot is ours.
    pub(crate) fn holds(&self, group: &Group, slot: SlotIndex) -> Result<(), Refusal> {
        let mine = |deal: &cairn_ledger::group::Deal| {
            let leaving = deal.leaver.is_some_and(|leaver| leaver.node == self.id);
            deal.node == self.id || leaving
        };
        if group.deal(slot).is_some_and(mine) {
            Ok(())
        } else {
            let text = format!("slot {slot} of group {}", group.id);
            Err(Refusal::new(ErrorCode::NotMySlot, text))
        }
    }

    /// Our word that a shard is durable.
    pub(crate) fn receipt(
        &self,
        place: ShardPlace,
        root: cairn_core::ShardRoot,
        shard_bytes: u32,
    ) -> Signed<Receipt> {
        let receipt = Receipt {
            node: self.id,
            group: place.slot.group,
            slot: place.slot.slot,
            segment: place.segment,
            shard_root: root,
            shard_bytes,
        };
        Signed::sign(receipt, &self.key)
    }
}
