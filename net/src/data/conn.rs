//! The asking end of a data plane stream.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use bytes::BytesMut;
use cairn_core::message::{
    AUDIT_PROOF_BYTES_MAX, DataRequest, DataResponse, RECORDS_PAGE_MAX, RecordEntry, ShardRange,
    WithRecord,
};
use cairn_core::{
    Bounded, Capability, EpochNumber, GroupId, NodeId, Receipt, SegmentNumber, SegmentRecord,
    Signed, SlotIndex,
};
use cairn_runtime::Runtime;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::Wire;
use super::{DataError, Pace};

/// Ranges of a shard are served in whole blocks of this size: BLAKE3's chunk, which the proof is
/// about.
const BLOCK_BYTES: u32 = 1 << 10;

/// The asking end of a data plane stream: one request at a time.
///
/// Shard bytes that it returns are not yet verified against their root.
pub struct DataConn<S, R> {
    wire: Wire<S, R>,
    /// Between two requests, with both ends in step.
    in_step: bool,
}

/// Which bytes of which shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardWanted {
    /// The group.
    pub group: GroupId,
    /// The slot.
    pub slot: SlotIndex,
    /// The segment.
    pub segment: SegmentNumber,
    /// The range; the answer covers it in whole 1 KiB blocks.
    pub range: ShardRange,
    /// Whether the record is wanted too.
    pub record: WithRecord,
}

/// What came with the bytes of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardGot {
    /// The record, when wanted; its signature is not yet verified.
    pub record: Option<Signed<SegmentRecord>>,
    /// Where the bytes are in the shard: the range wanted, widened to whole 1 KiB blocks, the
    /// last cut at the shard's end.
    pub range: ShardRange,
    /// The proof of the range; empty for a whole shard.
    pub proof: Vec<u8>,
}

impl<S, R> fmt::Debug for DataConn<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataConn")
            .field("wire", &self.wire)
            .field("in_step", &self.in_step)
            .finish()
    }
}

impl<S, R> DataConn<S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Runtime,
{
    /// Takes over a fresh stream to `peer`.
    #[must_use]
    pub fn new(stream: S, peer: NodeId, runtime: R, pace: Pace) -> Self {
        Self {
            wire: Wire::new(stream, peer, runtime, pace),
            in_step: true,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.wire.peer()
    }

    /// Whether another request may follow: no request was dropped half-way and none failed in a
    /// way that leaves the ends out of step.
    #[must_use]
    pub const fn is_reusable(&self) -> bool {
        self.in_step
    }

    /// Whether the stream is reusable and the peer has not ended it meanwhile.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.in_step && self.wire.is_quiet()
    }

    /// Presents a capability for the rest of the stream.
    ///
    /// # Errors
    ///
    /// [`DataError`]; [`DataError::Remote`] when the peer does not accept it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it half-way leaves the stream not reusable.
    pub async fn present(&mut self, capability: &Capability) -> Result<(), DataError> {
        let request = DataRequest::Present(capability.clone());
        match self.exchange(&request, &[]).await? {
            DataResponse::Done => self.done(()),
            other => self.unexpected("Done", &other),
        }
    }

    /// Puts a shard into a slot: sends the record and the bytes, returns the node's receipt when
    /// the shard is durable. The receipt's content and signature are not yet verified.
    ///
    /// # Errors
    ///
    /// [`DataError`]; [`DataError::ShardBytes`] when the shard's size is not the record's, before
    /// anything is sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping it half-way leaves the stream not reusable; the node may or may not have the shard.
    pub async fn put(
        &mut self,
        slot: SlotIndex,
        record: &Signed<SegmentRecord>,
        shard: &[u8],
    ) -> Result<Signed<Receipt>, DataError> {
        let expected = record.unverified().shard_bytes();
        if u32::try_from(shard.len()) != Ok(expected) {
            return Err(DataError::ShardBytes {
                expected,
                found: shard.len(),
            });
        }
        let request = DataRequest::Put {
            slot,
            record: record.clone(),
        };
        match self.exchange(&request, shard).await? {
            DataResponse::Receipt(receipt) => self.done(receipt),
            other => self.unexpected("Receipt", &other),
        }
    }

    /// Gets a range of a shard. Its bytes replace the content of `into`, whose memory is reused
    /// when it suffices; nothing is copied besides. The bytes are not yet verified.
    ///
    /// # Errors
    ///
    /// [`DataError`]; `into` then has unspecified content.
    ///
    /// # Cancel safety
    ///
    /// Dropping it half-way leaves the stream not reusable.
    pub async fn get(
        &mut self,
        wanted: &ShardWanted,
        into: &mut BytesMut,
    ) -> Result<ShardGot, DataError> {
        self.get_heard(wanted, into, || {}).await
    }

    /// As [`Self::get`]; `heard` is called when the answer begins, before the bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::get`].
    pub async fn get_heard(
        &mut self,
        wanted: &ShardWanted,
        into: &mut BytesMut,
        heard: impl FnOnce() + Send,
    ) -> Result<ShardGot, DataError> {
        into.clear();
        let request = DataRequest::Get {
            group: wanted.group,
            slot: wanted.slot,
            segment: wanted.segment,
            range: wanted.range,
            record: wanted.record,
        };
        let response = self.exchange(&request, &[]).await?;
        heard();
        let DataResponse::Shard {
            record,
            range,
            proof_bytes,
        } = response
        else {
            return self.unexpected("Shard", &response);
        };
        if !covers(range, wanted.range) {
            return Err(DataError::Range {
                peer: self.peer(),
                asked: wanted.range,
                found: range,
            });
        }
        if wanted.record == WithRecord::Yes && record.is_none() {
            return Err(DataError::Unexpected {
                peer: self.peer(),
                expected: "Shard with its record",
                found: "Shard without it",
            });
        }
        let proof_count = usize::try_from(proof_bytes).unwrap_or(usize::MAX);
        let body_count = usize::try_from(range.bytes).unwrap_or(usize::MAX);
        let mut patience = self.wire.patience(proof_count.saturating_add(body_count));
        let mut proof = BytesMut::new();
        self.wire
            .read_body(proof_count, &mut proof, &mut patience)
            .await?;
        self.wire.read_body(body_count, into, &mut patience).await?;
        self.done(ShardGot {
            record,
            range,
            proof: proof.into(),
        })
    }

    /// A page of segment records from number `from` on, and how many leaves the node knows of.
    /// Their signatures are not yet verified.
    ///
    /// # Errors
    ///
    /// [`DataError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it half-way leaves the stream not reusable.
    pub async fn records(
        &mut self,
        group: GroupId,
        from: SegmentNumber,
        count: u32,
    ) -> Result<(Bounded<RecordEntry, RECORDS_PAGE_MAX>, u32), DataError> {
        let request = DataRequest::Records { group, from, count };
        match self.exchange(&request, &[]).await? {
            DataResponse::Records {
                entries,
                segment_count,
            } => self.done((entries, segment_count)),
            other => self.unexpected("Records", &other),
        }
    }

    /// What answers one of our audit tickets: the encoding of a proof, which is not yet verified.
    ///
    /// # Errors
    ///
    /// [`DataError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it half-way leaves the stream not reusable.
    pub async fn audit(
        &mut self,
        epoch: EpochNumber,
        number: u8,
    ) -> Result<Bounded<u8, AUDIT_PROOF_BYTES_MAX>, DataError> {
        let request = DataRequest::Audit { epoch, number };
        match self.exchange(&request, &[]).await? {
            DataResponse::Audited(proof) => self.done(proof),
            other => self.unexpected("Audited", &other),
        }
    }

    /// Ends the stream in an orderly way.
    ///
    /// # Errors
    ///
    /// [`DataError`] when the stream is broken already.
    pub async fn close(mut self) -> Result<(), DataError> {
        self.wire.close().await
    }

    /// Sends a request with its body and receives the response's message. Out of step until
    /// [`Self::done`], or a refusal after which the peer goes on.
    async fn exchange(
        &mut self,
        request: &DataRequest,
        body: &[u8],
    ) -> Result<DataResponse, DataError> {
        let peer = self.peer();
        if !self.in_step {
            return Err(DataError::OutOfStep { peer });
        }
        self.in_step = false;
        let sent = self.wire.send(request, [body, &[]]).await;
        // A peer that gives up says why before it closes: worth more than "broken pipe".
        let first = self.wire.patience(0);
        let received = match (self.wire.receive::<DataResponse>(first).await, sent) {
            (Ok(Some(response @ DataResponse::Error { .. })), _) => Ok(response),
            (_, Err(error)) => Err(error),
            (Ok(Some(response)), Ok(())) => Ok(response),
            (Ok(None), Ok(())) => Err(self.wire.cut_short()),
            (Err(error), Ok(())) => Err(error),
        }?;
        if let DataResponse::Error { code, text } = received {
            self.in_step = !ends_stream(code);
            return Err(DataError::Remote {
                peer,
                code,
                text: text.as_str().to_owned(),
            });
        }
        Ok(received)
    }

    /// Both ends are in step again.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the last step of functions that return a result"
    )]
    fn done<T>(&mut self, value: T) -> Result<T, DataError> {
        self.in_step = true;
        Ok(value)
    }

    fn unexpected<T>(&self, expected: &'static str, found: &DataResponse) -> Result<T, DataError> {
        Err(DataError::Unexpected {
            peer: self.peer(),
            expected,
            found: name(found),
        })
    }
}

/// Whether the peer closes the stream after this code: the 3xx group, and codes that we can't
/// place.
pub(super) const fn ends_stream(code: cairn_core::ErrorCode) -> bool {
    code.number() >= 300
}

/// Whether `found` is `asked` widened to whole blocks, or to the shard's end in the last block.
const fn covers(found: ShardRange, asked: ShardRange) -> bool {
    let start = asked.offset.saturating_sub(asked.offset % BLOCK_BYTES);
    let Some(end_asked) = asked.offset.checked_add(asked.bytes) else {
        return false;
    };
    let Some(end_widest) = end_asked.checked_next_multiple_of(BLOCK_BYTES) else {
        return false;
    };
    match found.offset.checked_add(found.bytes) {
        Some(end) => found.offset == start && end >= end_asked && end <= end_widest,
        None => false,
    }
}

const fn name(response: &DataResponse) -> &'static str {
    match response {
        DataResponse::Done => "Done",
        DataResponse::Receipt(_) => "Receipt",
        DataResponse::Shard { .. } => "Shard",
        DataResponse::Records { .. } => "Records",
        DataResponse::Audited(_) => "Audited",
        DataResponse::Error { .. } => "Error",
    }
}
