//! A node that keeps shards in memory, with faults to switch on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{
    ControlRequest, ControlResponse, DataRequest, DataResponse, RecordEntry, ShardRange,
    SlotStatus, WithRecord,
};
use cairn_core::{
    Bounded, Capability, CapabilityError, Digest, ErrorCode, GroupId, NodeId, Receipt, Record,
    RevisionDetail, Right, Scope, SecretKey, SegmentNumber, SegmentRecord, Signed, SlotIndex, Text,
    UnixMillis,
};
use cairn_net::Network;
use cairn_net::data::{Pace, ServerConn};
use cairn_proofs::hash_shard;
use cairn_runtime::{Runtime, Task};

use super::{Counted, Hub, MemoryLedger, MemoryNetwork};

/// What a node does wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// Waits before each answer.
    pub(crate) delay: Duration,
    /// What it does to what is asked of it.
    pub(crate) lie: Lie,
    /// Answers puts with this.
    pub(crate) refuses_puts: Option<ErrorCode>,
}

/// What a node does to what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    #[default]
    None,
    /// Flips a bit of what it serves.
    FlipsBits,
    /// Serves the shard and the record of another segment.
    ServesOther,
    /// Signs the records that it serves itself.
    ForgesRecords,
    /// Signs receipts for other shards than it got.
    FalseReceipts,
    /// Closes the stream instead of an answer.
    Cuts,
}

impl Lie {
    pub(crate) fn behaviour(self) -> Behaviour {
        Behaviour {
            lie: self,
            ..Behaviour::default()
        }
    }
}

type Place = (GroupId, SlotIndex, SegmentNumber);

#[derive(Default)]
struct Kept {
    shards: BTreeMap<Place, (Signed<SegmentRecord>, BytesMut)>,
    details: BTreeMap<(GroupId, SlotIndex), RevisionDetail>,
    behaviour: Behaviour,
    put_count: usize,
    get_count: usize,
    tasks: Vec<Task<()>>,
    streams: Vec<Task<()>>,
}

/// A node in memory.
pub(crate) struct TestNode<R> {
    key: SecretKey,
    kept: Mutex<Kept>,
    ledger: MemoryLedger,
    hub: Hub,
    runtime: R,
}

impl<R> fmt::Debug for TestNode<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestNode({:?})", self.key)
    }
}

impl<R: Runtime> TestNode<R> {
    pub(crate) fn start(
        runtime: &R,
        hub: &Hub,
        ledger: &MemoryLedger,
        key: SecretKey,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            key,
            kept: Mutex::default(),
            ledger: ledger.clone(),
            hub: hub.clone(),
            runtime: runtime.clone(),
        });
        let network = hub.join(node.id());
        let streams = runtime.spawn("node streams", Arc::clone(&node).accept(network.clone()));
        let control = runtime.spawn("node control", Arc::clone(&node).control(network));
        node.lock().tasks.extend([streams, control]);
        node
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId::new(self.key.public())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.lock().behaviour = behaviour;
    }

    /// Ends every stream to it.
    pub(crate) fn cut_streams(&self) {
        let streams = std::mem::take(&mut self.lock().streams);
        drop(streams);
    }

    pub(crate) fn put_count(&self) -> usize {
        self.lock().put_count
    }

    pub(crate) fn get_count(&self) -> usize {
        self.lock().get_count
    }

    pub(crate) fn detail(&self, group: GroupId, slot: SlotIndex) -> Option<RevisionDetail> {
        self.lock().details.get(&(group, slot)).cloned()
    }

    pub(crate) fn segments(&self, group: GroupId, slot: SlotIndex) -> Vec<SegmentNumber> {
        self.lock()
            .shards
            .keys()
            .filter(|place| (place.0, place.1) == (group, slot))
            .map(|place| place.2)
            .collect()
    }

    async fn accept(self: Arc<Self>, network: MemoryNetwork) {
        while let Some((peer, stream)) = network.accept().await {
            let node = Arc::clone(&self);
            let task = self.runtime.spawn("node stream", async move {
                node.serve(peer, stream).await;
            });
            let mut kept = self.lock();
            kept.streams.retain(|task| !task.is_finished());
            kept.streams.push(task);
        }
    }

    async fn serve(self: Arc<Self>, peer: NodeId, stream: Counted) {
        let mut conn = ServerConn::new(stream, peer, self.runtime.clone(), Pace::SERVER);
        let mut capability = None;
        while let Ok(Some(request)) = conn.next().await {
            let behaviour = self.lock().behaviour.clone();
            if !behaviour.delay.is_zero() {
                self.runtime.sleep(behaviour.delay).await;
            }
            let done = match request {
                DataRequest::Present(presented) => {
                    capability = Some(presented);
                    conn.respond(&DataResponse::Done).await
                }
                DataRequest::Put { slot, record } => {
                    let mut shard = BytesMut::new();
                    while conn
                        .read_body(&mut shard)
                        .await
                        .is_ok_and(|count| count > 0)
                    {}
                    let answer = self.put((peer, capability.as_ref()), slot, record, shard);
                    conn.respond(&answer).await
                }
                DataRequest::Get {
                    group,
                    slot,
                    segment,
                    range,
                    record,
                } => {
                    let place = (group, slot, segment);
                    match self.get(peer, capability.as_ref(), place, range) {
                        Err(code) => conn.respond_error(code, "test").await,
                        Ok(_) if behaviour.lie == Lie::Cuts => return,
                        Ok((signed, offset, proof, bytes)) => {
                            let signed = (record == WithRecord::Yes).then_some(signed);
                            conn.respond_shard(signed, offset, &proof, &bytes).await
                        }
                    }
                }
                DataRequest::Records { group, from, count } => {
                    let page = self.records(peer, capability.as_ref(), (group, from, count));
                    match page {
                        Ok(page) => conn.respond(&page).await,
                        Err(code) => conn.respond_error(code, "test").await,
                    }
                }
                DataRequest::Audit { .. } => {
                    conn.respond_error(ErrorCode::Unsupported, "test").await
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn records(
        &self,
        peer: NodeId,
        capability: Option<&Capability>,
        (group, from, count): (GroupId, SegmentNumber, u32),
    ) -> Result<DataResponse, ErrorCode> {
        self.allow(peer, capability, group, Right::Read)?;
        let kept = self.lock();
        let numbers = from.get()..from.get().saturating_add(count.min(64));
        let entries = numbers.map(SegmentNumber::new).map(|number| {
            let mut of_group = kept.shards.iter();
            let found = of_group.find(|((of, _, at), _)| *of == group && *at == number);
            match found {
                Some((_, (record, _))) => RecordEntry::Kept(record.clone()),
                None => RecordEntry::Missing(number),
            }
        });
        Ok(DataResponse::Records {
            entries: Bounded::new(entries.collect()).expect("at most a page"),
            segment_count: u32::MAX,
        })
    }

    fn allow(
        &self,
        peer: NodeId,
        capability: Option<&Capability>,
        group: GroupId,
        right: Right,
    ) -> Result<(), ErrorCode> {
        let now = UnixMillis::from_unix(self.runtime.now());
        let found = self
            .ledger
            .group_now(group)
            .ok_or(ErrorCode::UnknownGroup)?;
        let capability = capability.ok_or(ErrorCode::NotAuthorised)?;
        let link =
            capability
                .verify(found.owner, peer.key(), now)
                .map_err(|error| match error {
                    CapabilityError::Expired { .. } => ErrorCode::CapabilityExpired,
                    _ => ErrorCode::NotAuthorised,
                })?;
        link.allows(Scope::Group(group), right, now)
            .map_err(|_| ErrorCode::NotAuthorised)
    }

    fn put(
        &self,
        (peer, capability): (NodeId, Option<&Capability>),
        slot: SlotIndex,
        record: Signed<SegmentRecord>,
        shard: BytesMut,
    ) -> DataResponse {
        let error = |code| DataResponse::Error {
            code,
            text: Text::cut("test"),
        };
        let body = record.unverified().clone();
        if let Err(code) = self.allow(peer, capability, body.group, Right::Write) {
            return error(code);
        }
        let Some(group) = self.ledger.group_now(body.group) else {
            return error(ErrorCode::UnknownGroup);
        };
        if group.deal(slot).map(|deal| deal.node) != Some(self.id()) {
            return error(ErrorCode::NotMySlot);
        }
        if record.verify_by(group.owner.key()).is_err() {
            return error(ErrorCode::BadRecord);
        }
        let root = body.shard_root(slot).unwrap_or_default();
        if Digest::of(&shard) != root.digest() {
            return error(ErrorCode::RootMismatch);
        }
        let mut kept = self.lock();
        if let Some(code) = kept.behaviour.refuses_puts {
            return error(code);
        }
        let place = (body.group, slot, body.number);
        if kept
            .shards
            .get(&place)
            .is_some_and(|found| found.0 != record)
        {
            return error(ErrorCode::Conflict);
        }
        kept.put_count += 1;
        let mut receipt = Receipt {
            node: self.id(),
            group: body.group,
            slot,
            segment: body.number,
            shard_root: root,
            shard_bytes: body.shard_bytes(),
        };
        if kept.behaviour.lie == Lie::FalseReceipts {
            receipt.shard_bytes += 1;
        } else {
            kept.shards.insert(place, (record, shard));
        }
        DataResponse::Receipt(Signed::sign(receipt, &self.key))
    }

    #[expect(
        clippy::type_complexity,
        reason = "the four parts of an answer, used once"
    )]
    fn get(
        &self,
        peer: NodeId,
        capability: Option<&Capability>,
        mut place: Place,
        range: ShardRange,
    ) -> Result<(Signed<SegmentRecord>, u32, Vec<u8>, Vec<u8>), ErrorCode> {
        self.allow(peer, capability, place.0, Right::Read)?;
        let mut kept = self.lock();
        kept.get_count += 1;
        self.hub.count_get();
        let behaviour = kept.behaviour.clone();
        if behaviour.lie == Lie::ServesOther {
            place.2 = SegmentNumber::new(place.2.get() ^ 1);
        }
        let (record, shard) = kept.shards.get(&place).ok_or(ErrorCode::NoSuchShard)?;
        let mut record = record.clone();
        let shard_bytes = record.unverified().shard_bytes();
        let end = range
            .offset
            .checked_add(range.bytes)
            .ok_or(ErrorCode::OutOfRange)?;
        if end > shard_bytes {
            return Err(ErrorCode::OutOfRange);
        }
        let (proof, wide) = prove(shard, range);
        let from = usize::try_from(wide.offset).unwrap();
        let mut bytes = shard[from..from + usize::try_from(wide.bytes).unwrap()].to_vec();
        if behaviour.lie == Lie::FlipsBits {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        if behaviour.lie == Lie::ForgesRecords {
            record = Signed::sign(record.into_unverified(), &self.key);
        }
        Ok((record, wide.offset, proof, bytes))
    }

    async fn control(self: Arc<Self>, network: MemoryNetwork) {
        while let Some(request) = network.next_request().await {
            let answer = match ControlRequest::decode(&request.message) {
                Ok(ControlRequest::Revise { slot, detail }) => {
                    let detail = detail.into_unverified();
                    let group = detail.revision.group;
                    let mut kept = self.lock();
                    for number in detail.emptied.iter() {
                        kept.shards.remove(&(group, slot, *number));
                    }
                    kept.details.insert((group, slot), detail.clone());
                    ControlResponse::Slot(status(&detail, slot, 0))
                }
                Ok(ControlRequest::Slot { group, slot }) => {
                    let kept = self.lock();
                    match kept.details.get(&(group, slot)) {
                        Some(detail) => {
                            let count = kept
                                .shards
                                .keys()
                                .filter(|place| (place.0, place.1) == (group, slot))
                                .count();
                            ControlResponse::Slot(status(detail, slot, count))
                        }
                        None => ControlResponse::Error {
                            code: ErrorCode::UnknownGroup,
                            text: Text::cut("test"),
                        },
                    }
                }
                _ => ControlResponse::Error {
                    code: ErrorCode::Unsupported,
                    text: Text::cut("test"),
                },
            };
            // The one who asked may have gone.
            drop(request.answer.send(answer.encode()));
        }
    }
}

fn status(detail: &RevisionDetail, slot: SlotIndex, count: usize) -> SlotStatus {
    SlotStatus {
        revision: detail.revision.number,
        slot_root: detail.slot_roots[slot.index()],
        shard_count: u32::try_from(count).unwrap(),
        slot_bytes: detail.revision.slot_bytes,
        lacking_count: 0,
    }
}

fn prove(shard: &[u8], range: ShardRange) -> (Vec<u8>, ShardRange) {
    let shard_bytes = u32::try_from(shard.len()).unwrap();
    let wide = cairn_proofs::widen_to_blocks(shard_bytes, range).unwrap();
    if wide.bytes == shard_bytes {
        return (Vec::new(), wide);
    }
    let hashed = hash_shard(shard).unwrap();
    let read = |part: ShardRange| {
        let from = usize::try_from(part.offset).unwrap();
        let until = from + usize::try_from(part.bytes).unwrap();
        Ok::<_, std::convert::Infallible>(shard[from..until].to_vec())
    };
    let proof = cairn_proofs::prove_range(shard_bytes, wide, &hashed.outboard, read).unwrap();
    let bytes = proof.siblings().concat();
    (bytes, wide)
}
