//! The answering end of a data plane stream.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use bytes::BytesMut;
use cairn_core::message::{DataRequest, DataResponse, ShardRange};
use cairn_core::{DecodeError, ErrorCode, NodeId, SegmentRecord, Signed, Text};
use cairn_runtime::Runtime;
use tokio::io::{AsyncRead, AsyncWrite};

use super::conn::ends_stream;
use super::wire::{Patience, Wire};
use super::{DataError, Pace};

/// Most bytes that one [`ServerConn::read_body`] appends: enough for BLAKE3 to run at full width
/// while the next ones arrive.
const BODY_STEP_BYTES: usize = 128 << 10;

/// The answering end of a data plane stream: [`Self::next`], for a put [`Self::read_body`] until
/// it returns 0, then one of the `respond` functions, and again.
pub struct ServerConn<S, R> {
    wire: Wire<S, R>,
    /// Body bytes of the present request that have not been read.
    body_left: usize,
    /// For the body of the present request.
    patience: Patience,
    state: State,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two requests.
    Idle,
    /// A request was handed out and not answered.
    Asked,
    /// An answer is being sent; for good when its future was dropped.
    Answering,
    /// No request will follow.
    Ended,
}

impl<S, R> fmt::Debug for ServerConn<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConn")
            .field("wire", &self.wire)
            .field("body_left", &self.body_left)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<S, R> ServerConn<S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Runtime,
{
    /// Takes over a stream that `peer` opened.
    #[must_use]
    pub fn new(stream: S, peer: NodeId, runtime: R, pace: Pace) -> Self {
        let wire = Wire::new(stream, peer, runtime, pace);
        Self {
            patience: wire.patience(0),
            wire,
            body_left: 0,
            state: State::Idle,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.wire.peer()
    }

    /// The next request; `None` when the peer has ended the stream, or after an answer that ends
    /// it. A malformed request is answered with its code before the error is returned.
    ///
    /// # Errors
    ///
    /// [`DataError`]: the stream is of no further use.
    ///
    /// # Cancel safety
    ///
    /// Not safe: bytes of a request may be lost. Drop the stream with it.
    ///
    /// # Panics
    ///
    /// When the request before was not answered.
    pub async fn next(&mut self) -> Result<Option<DataRequest>, DataError> {
        match self.state {
            State::Idle => {}
            State::Ended => return Ok(None),
            State::Asked | State::Answering => panic!("each request is answered before the next"),
        }
        self.state = State::Ended;
        let request = match self.wire.receive::<DataRequest>(self.wire.idle()).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.complain(&error).await;
                return Err(error);
            }
        };
        self.body_left = match &request {
            DataRequest::Put { record, .. } => {
                usize::try_from(record.unverified().shard_bytes()).unwrap_or(usize::MAX)
            }
            DataRequest::Present(_)
            | DataRequest::Get { .. }
            | DataRequest::Records { .. }
            | DataRequest::Audit { .. } => 0,
        };
        self.patience = self.wire.patience(self.body_left);
        self.state = State::Asked;
        Ok(Some(request))
    }

    /// Body bytes of the present request that have not been read.
    #[must_use]
    pub const fn body_left(&self) -> usize {
        self.body_left
    }

    /// Appends the next bytes of a put's body to `into`, at most 128 KiB; returns how many, 0
    /// after the last. Reserve [`Self::body_left`] first to have them all in one piece of memory.
    ///
    /// # Errors
    ///
    /// [`DataError`]: the stream is of no further use.
    ///
    /// # Cancel safety
    ///
    /// Not safe: how much was read is lost. Drop the stream with it.
    pub async fn read_body(&mut self, into: &mut BytesMut) -> Result<usize, DataError> {
        let count = self.body_left.min(BODY_STEP_BYTES);
        self.wire.read_body(count, into, &mut self.patience).await?;
        self.body_left = self.body_left.saturating_sub(count);
        Ok(count)
    }

    /// Answers with a message that has no body. What is left of a put's body is read and dropped
    /// first, so that both ends stay in step.
    ///
    /// # Errors
    ///
    /// [`DataError`]: the stream is of no further use.
    ///
    /// # Cancel safety
    ///
    /// Not safe: drop the stream with it.
    ///
    /// # Panics
    ///
    /// When there is no request to answer, or the message is a shard: see [`Self::respond_shard`].
    pub async fn respond(&mut self, response: &DataResponse) -> Result<(), DataError> {
        assert!(
            !matches!(response, DataResponse::Shard { .. }),
            "a shard goes through respond_shard"
        );
        self.answer(response, [&[], &[]]).await?;
        if let DataResponse::Error { code, .. } = response
            && ends_stream(*code)
        {
            self.state = State::Ended;
        }
        Ok(())
    }

    /// Answers with an error; `text` is for the peer's logs and is cut to its bound.
    ///
    /// # Errors
    ///
    /// As [`Self::respond`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::respond`].
    ///
    /// # Panics
    ///
    /// When there is no request to answer.
    pub async fn respond_error(&mut self, code: ErrorCode, text: &str) -> Result<(), DataError> {
        let text = Text::cut(text);
        self.respond(&DataResponse::Error { code, text }).await
    }

    /// Answers a get: header, proof and bytes leave in one vectored write, without a copy.
    ///
    /// # Errors
    ///
    /// As [`Self::respond`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::respond`].
    ///
    /// # Panics
    ///
    /// When there is no request to answer, or `bytes` is 4 GiB or more.
    pub async fn respond_shard(
        &mut self,
        record: Option<Signed<SegmentRecord>>,
        offset: u32,
        proof: &[u8],
        bytes: &[u8],
    ) -> Result<(), DataError> {
        let length = |part: &[u8]| u32::try_from(part.len()).expect("a shard is at most 4 MiB");
        let response = DataResponse::Shard {
            record,
            range: ShardRange {
                offset,
                bytes: length(bytes),
            },
            proof_bytes: length(proof),
        };
        self.answer(&response, [proof, bytes]).await
    }

    async fn answer(&mut self, response: &DataResponse, body: [&[u8]; 2]) -> Result<(), DataError> {
        assert_eq!(self.state, State::Asked, "one answer for each request");
        self.state = State::Answering;
        if self.body_left > 0 {
            self.wire
                .skip_body(self.body_left, &mut self.patience)
                .await?;
            self.body_left = 0;
        }
        self.wire.send(response, body).await?;
        self.state = State::Idle;
        Ok(())
    }

    /// Tells the peer what is wrong with its message, as far as it still listens.
    async fn complain(&mut self, error: &DataError) {
        let code = match error {
            DataError::Malformed { cause, .. } => match cause {
                DecodeError::Version { .. } => ErrorCode::Unsupported,
                DecodeError::TooLong { .. }
                | DecodeError::Short { .. }
                | DecodeError::Kind { .. }
                | DecodeError::Body { .. } => ErrorCode::Malformed,
            },
            DataError::TooLong { .. } => ErrorCode::Malformed,
            DataError::Net(_)
            | DataError::Remote { .. }
            | DataError::Stalled { .. }
            | DataError::Unexpected { .. }
            | DataError::Range { .. }
            | DataError::ShardBytes { .. }
            | DataError::OutOfStep { .. } => return,
        };
        let response = DataResponse::Error {
            code,
            text: Text::cut("the request does not decode"),
        };
        // The stream is given up in any case; the first error is the one that counts.
        let _sent = self.wire.send(&response, [&[], &[]]).await;
        let _closed = self.wire.close().await;
    }
}
