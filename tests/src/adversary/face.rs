//! What stands between a node's code and its peers.
//!
//! Without a mask everything passes as it is. With one, each stream ends here and is answered
//! from the real node through a stream of its own, changed as the mask wants.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{ControlRequest, ControlResponse, DataRequest, DataResponse};
use cairn_core::{
    Bounded, EpochNumber, ErrorCode, LedgerId, NodeId, Receipt, Record, SecretKey, SegmentRecord,
    Signed, SlotIndex,
};
use cairn_ledger::{
    AuditReport, LedgerKey, LedgerRequest, RemoteLedger, TxBody, challenge_of, submit_proof_of,
};
use cairn_net::sim::{SimPeer, SimStream};
use cairn_net::{
    DataConn, DataError, InboundRequest, LedgerPeers, NetError, Network, Pace, RecordKey,
    ServerConn, ShardWanted,
};
use cairn_proofs::Proof;
use cairn_runtime::{Runtime, SimRuntime, Task};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

use super::flow::Flowing;
use super::nodes::{LyingNode, Served};
use super::proving::Proving;

/// Bytes in flight between a mask and the node behind it.
const WINDOW_BYTES: usize = 64 << 10;

/// What a node wears. Cheap to clone; clones are the same mask.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    liar: Arc<Mutex<Option<Arc<dyn LyingNode>>>>,
}

impl Mask {
    /// Puts it on. Streams that are open go on as they are.
    pub fn put_on(&self, liar: Arc<dyn LyingNode>) {
        *self.lock() = Some(liar);
    }

    /// Takes it off. Streams that are open go on as they are.
    pub fn take_off(&self) {
        *self.lock() = None;
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    fn liar(&self) -> Option<Arc<dyn LyingNode>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn LyingNode>>> {
        // Each change is whole.
        self.liar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network as a node's code sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Face {
    peer: SimPeer,
    runtime: SimRuntime,
    key: SecretKey,
    ledger: (LedgerId, LedgerKey),
    mask: Mask,
    answers: Arc<Mutex<Vec<Task<()>>>>,
}

impl Face {
    /// The face of a node that joined as `peer` with `key`, on `ledger`.
    #[must_use]
    pub fn new(
        peer: SimPeer,
        runtime: SimRuntime,
        key: SecretKey,
        ledger: (LedgerId, LedgerKey),
        mask: Mask,
    ) -> Self {
        Self {
            peer,
            runtime,
            key,
            ledger,
            mask,
            answers: Arc::default(),
        }
    }

    /// A stream of a peer, as the mask lets the node see it.
    fn meet(&self, liar: Arc<dyn LyingNode>, peer: NodeId, stream: SimStream) -> FaceStream {
        let (near, far) = tokio::io::duplex(WINDOW_BYTES);
        let flowing = Flowing::new(stream, self.runtime.machine().sim().clone(), liar.flow());
        let us = NodeId::new(self.key.public());
        let meeting = Meeting {
            liar,
            key: self.key.clone(),
            outward: ServerConn::new(flowing, peer, self.runtime.clone(), Pace::SERVER),
            inward: DataConn::new(far, us, self.runtime.clone(), Pace::CLIENT),
        };
        let task = self.runtime.spawn("mask", meeting.run());
        FaceStream::Masked(near, task)
    }

    /// Does what the liar does instead of what the node asks of the ledger; `false` when that is
    /// the same.
    async fn replace(&self, liar: &dyn LyingNode, peer: NodeId, message: &[u8]) -> bool {
        let Ok(ControlRequest::Ledger(bytes)) = ControlRequest::decode(message) else {
            return false;
        };
        match LedgerRequest::decode(&bytes) {
            Ok(LedgerRequest::Prove { tx, witness })
                if liar.lies_in_proofs() || liar.report().is_some() =>
            {
                let proof = Proof::decode(&witness).expect("an honest node's proof decodes");
                let TxBody::ProofSubmit { epoch, audits, .. } = tx.unverified().body else {
                    return false;
                };
                let audits = liar.report().unwrap_or(audits);
                self.prove(liar, peer, ((epoch, audits), proof)).await;
                true
            }
            Ok(LedgerRequest::Submit(tx)) => {
                let body = &tx.unverified().body;
                matches!(body, TxBody::Acknowledge { .. }) && !liar.acknowledges()
            }
            _ => false,
        }
    }

    /// Sends the proof that the liar sends for an honest one.
    async fn prove(
        &self,
        liar: &dyn LyingNode,
        peer: NodeId,
        ((of, audits), proof): ((EpochNumber, AuditReport), Proof),
    ) {
        let (id, key) = self.ledger;
        let ledger = RemoteLedger::new(LedgerPeers::new(self.peer.clone(), &[peer]), id, key);
        let us = NodeId::new(self.key.public());
        let Ok(Some((epoch, challenge))) = challenge_of(&ledger, us).await else {
            return;
        };
        if of != epoch {
            // Another epoch has begun: the node sees that too.
            return;
        }
        let proving = Proving {
            epoch,
            challenge,
            key: self.key.clone(),
            peer: self.peer.clone(),
            runtime: self.runtime.clone(),
            ledger: ledger.clone(),
        };
        if let Some(proof) = liar.prove(proof, proving).await {
            let sent = submit_proof_of(&ledger, &self.key, (epoch, audits), &proof).await;
            tracing::debug!(?sent, "a liar has proved");
        }
    }

    /// Changes the answer to a control request on its way.
    fn overhear(&self, liar: Arc<dyn LyingNode>, request: InboundRequest) -> InboundRequest {
        let (answer, honest) = oneshot::channel::<Vec<u8>>();
        let (wire, key) = (request.answer, self.key.clone());
        let task = self.runtime.spawn("mask's answer", async move {
            let Ok(bytes) = honest.await else {
                return;
            };
            let mut response = ControlResponse::decode(&bytes).expect("a node's answer decodes");
            liar.answer(&mut response, &key);
            // Who has gone does not need it.
            let _sent = wire.send(response.encode());
        });
        let mut answers = self.answers.lock().expect("no panic while it is held");
        answers.retain(|task| !task.is_finished());
        answers.push(task);
        InboundRequest { answer, ..request }
    }
}

/// A stream between a masked node and a peer: what the peer asks, what the node says.
struct Meeting {
    liar: Arc<dyn LyingNode>,
    key: SecretKey,
    outward: ServerConn<Flowing<SimStream>, SimRuntime>,
    inward: DataConn<DuplexStream, SimRuntime>,
}

impl Meeting {
    async fn run(mut self) {
        while let Ok(Some(request)) = self.outward.next().await {
            if self.answer(request).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&mut self, request: DataRequest) -> Result<(), DataError> {
        let answered = match request {
            DataRequest::Present(capability) => {
                let presented = self.inward.present(&capability).await;
                presented.map(|()| DataResponse::Done)
            }
            DataRequest::Put { slot, record } => {
                let mut shard = BytesMut::new();
                while self.outward.read_body(&mut shard).await? > 0 {}
                self.put(slot, record, &shard).await
            }
            DataRequest::Get {
                group,
                slot,
                segment,
                range,
                record,
            } => {
                let wanted = ShardWanted {
                    group,
                    slot,
                    segment,
                    range,
                    record,
                };
                match self.get(wanted).await {
                    Ok((offset, served)) => {
                        let Served {
                            record,
                            proof,
                            bytes,
                        } = served;
                        let answer = self.outward.respond_shard(record, offset, &proof, &bytes);
                        return answer.await;
                    }
                    Err(error) => Err(error),
                }
            }
            DataRequest::Audit { epoch, number } if self.liar.shows_audits() => {
                let shown = self.inward.audit(epoch, number).await;
                shown.map(DataResponse::Audited)
            }
            DataRequest::Audit { .. } => Err(self.denies()),
            DataRequest::Records { group, from, count } => {
                let listed = self.inward.records(group, from, count).await;
                listed.map(|(entries, segment_count)| {
                    let mut entries = entries.into_vec();
                    self.liar.list(&mut entries, &self.key);
                    DataResponse::Records {
                        entries: Bounded::new(entries).expect("as many as before"),
                        segment_count,
                    }
                })
            }
        };
        match answered {
            Ok(response) => self.outward.respond(&response).await,
            Err(DataError::Remote { code, text, .. }) => {
                self.outward.respond_error(code, &text).await
            }
            Err(error) => Err(error),
        }
    }

    async fn put(
        &mut self,
        slot: SlotIndex,
        record: Signed<SegmentRecord>,
        shard: &[u8],
    ) -> Result<DataResponse, DataError> {
        let mut receipt = if self.liar.keeps_shards() {
            let receipt = self.inward.put(slot, &record, shard).await?;
            receipt.into_unverified()
        } else {
            let record = record.unverified();
            Receipt {
                node: NodeId::new(self.key.public()),
                group: record.group,
                slot,
                segment: record.number,
                shard_root: record.shard_root(slot).unwrap_or_default(),
                shard_bytes: record.shard_bytes(),
            }
        };
        self.liar.receipt(&mut receipt);
        Ok(DataResponse::Receipt(Signed::sign(receipt, &self.key)))
    }

    /// It says that it has not got what it is asked for.
    fn denies(&self) -> DataError {
        DataError::Remote {
            peer: NodeId::new(self.key.public()),
            code: ErrorCode::NoSuchShard,
            text: "no such shard".to_owned(),
        }
    }

    /// What it serves, and from which offset.
    async fn get(&mut self, wanted: ShardWanted) -> Result<(u32, Served), DataError> {
        let mut bytes = BytesMut::new();
        let looked_for = self.liar.look_for(wanted);
        let got = self.inward.get(&looked_for, &mut bytes).await?;
        if !self.liar.keeps_shards() || !self.liar.has(wanted.segment) {
            return Err(self.denies());
        }
        let mut served = Served {
            record: got.record,
            proof: got.proof,
            bytes,
        };
        self.liar.serve(&mut served, &self.key);
        Ok((got.range.offset, served))
    }
}

/// A stream as a node's code sees it.
#[derive(Debug)]
pub enum FaceStream {
    /// The peer's.
    Straight(SimStream),
    /// To the mask, and the mask's own work.
    Masked(DuplexStream, Task<()>),
}

impl AsyncRead for FaceStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Straight(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Masked(stream, _) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for FaceStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Straight(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Masked(stream, _) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Straight(stream) => Pin::new(stream).poll_flush(context),
            Self::Masked(stream, _) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Straight(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Masked(stream, _) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl Network for Face {
    type Stream = FaceStream;

    fn local(&self) -> NodeId {
        self.peer.local()
    }

    async fn request(
        &self,
        peer: NodeId,
        message: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, NetError> {
        if let Some(liar) = self.mask.liar()
            && self.replace(&*liar, peer, &message).await
        {
            return Err(NetError::Timeout { peer, limit });
        }
        self.peer.request(peer, message, limit).await
    }

    async fn next_request(&self) -> Option<InboundRequest> {
        let request = self.peer.next_request().await?;
        Some(match self.mask.liar() {
            Some(liar) => self.overhear(liar, request),
            None => request,
        })
    }

    async fn connect(&self, peer: NodeId, limit: Duration) -> Result<FaceStream, NetError> {
        let stream = self.peer.connect(peer, limit).await?;
        Ok(FaceStream::Straight(stream))
    }

    async fn accept(&self) -> Option<(NodeId, FaceStream)> {
        let (peer, stream) = self.peer.accept().await?;
        let stream = match self.mask.liar() {
            Some(liar) => self.meet(liar, peer, stream),
            None => FaceStream::Straight(stream),
        };
        Some((peer, stream))
    }

    async fn publish(&self, key: RecordKey, value: Vec<u8>) -> Result<(), NetError> {
        self.peer.publish(key, value).await
    }

    async fn find(&self, key: RecordKey) -> Result<Option<Vec<u8>>, NetError> {
        self.peer.find(key).await
    }

    async fn shutdown(&self) {
        self.peer.shutdown().await;
    }
}
