//! Messages and bodies on one stream: lengths, bounds and the peer's pace.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use cairn_core::{NodeId, Record};
use cairn_runtime::Runtime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{DataError, Pace};
use crate::NetError;

/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 4;
/// Most bytes of one read, and of memory reserved ahead of what has arrived in a message: four
/// TLS records. More gains nothing, and streams that clear the space they are lent would waste it.
const READ_BYTES_MAX: usize = 64 << 10;
/// Memory for messages that a stream keeps between requests. Larger is given back, so that ten
/// thousand idle streams stay small.
const SCRATCH_BYTES_KEPT: usize = 8 << 10;

/// What is left of the time that a peer may keep us waiting for one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// All of it, for the error.
    limit: Duration,
    /// What is left.
    left: Duration,
}

impl Patience {
    /// All of it is left.
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, left: limit }
    }
}

/// One end of a data plane stream.
pub(super) struct Wire<S, R> {
    stream: S,
    peer: NodeId,
    runtime: R,
    pace: Pace,
    scratch: BytesMut,
}

impl<S, R> fmt::Debug for Wire<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<S, R> Wire<S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Runtime,
{
    pub(super) fn new(stream: S, peer: NodeId, runtime: R, pace: Pace) -> Self {
        Self {
            stream,
            peer,
            runtime,
            pace,
            scratch: BytesMut::new(),
        }
    }

    pub(super) const fn peer(&self) -> NodeId {
        self.peer
    }

    /// Patience for `bytes` at the pace.
    pub(super) fn patience(&self, bytes: usize) -> Patience {
        Patience::new(self.pace.limit(bytes))
    }

    /// Patience between two requests.
    pub(super) const fn idle(&self) -> Patience {
        Patience::new(self.pace.idle)
    }

    /// Whether an idle stream is still of use: nothing has arrived on it, not even its end.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0_u8; 1];
        futures::FutureExt::now_or_never(self.stream.read(&mut byte)).is_none()
    }

    /// Sends a message and the parts of its body, and flushes.
    pub(super) async fn send<T: Record + Sync>(
        &mut self,
        message: &T,
        body: [&[u8]; 2],
    ) -> Result<(), DataError> {
        let message = message.encode();
        let length = u32::try_from(message.len())
            .expect("a record's bound is far below 4 GiB")
            .to_le_bytes();
        let [first, second] = body;
        let parts: [&[u8]; 4] = [&length, &message, first, second];
        let bytes = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let mut slices = parts.map(IoSlice::new);
        let mut rest: &mut [IoSlice<'_>] = &mut slices;
        let mut left = bytes;
        let mut patience = self.patience(bytes);
        while left > 0 {
            let write = self.stream.write_vectored(rest);
            let count = wait(&self.runtime, self.peer, &mut patience, write).await?;
            if count == 0 {
                return Err(disconnected(self.peer, &io::ErrorKind::WriteZero.into()));
            }
            IoSlice::advance_slices(&mut rest, count);
            left = left.saturating_sub(count);
        }
        wait(&self.runtime, self.peer, &mut patience, self.stream.flush()).await
    }

    /// Receives a message; `None` when the stream ends before its first byte, which must come
    /// within `first`.
    pub(super) async fn receive<T: Record>(
        &mut self,
        mut first: Patience,
    ) -> Result<Option<T>, DataError> {
        let max = T::BYTES_MAX;
        self.scratch.clear();
        self.scratch.reserve(LENGTH_BYTES);
        let mut room = (&mut self.scratch).limit(LENGTH_BYTES);
        let read = until_end(self.stream.read_buf(&mut room));
        if wait(&self.runtime, self.peer, &mut first, read).await? == 0 {
            return Ok(None);
        }
        let mut patience = self.patience(max);
        self.fill(LENGTH_BYTES, &mut patience).await?;
        let length = match self.scratch.first_chunk::<LENGTH_BYTES>() {
            Some(length) => u32::from_le_bytes(*length),
            None => return Err(self.cut_short()),
        };
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        if count > max {
            return Err(DataError::TooLong {
                peer: self.peer,
                max,
                found: length,
            });
        }
        self.scratch.clear();
        self.fill(count, &mut patience).await?;
        let message = T::decode(&self.scratch).map_err(|cause| DataError::Malformed {
            peer: self.peer,
            cause,
        })?;
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = BytesMut::new();
        }
        Ok(Some(message))
    }

    /// Reads until `scratch` has `count` bytes.
    async fn fill(&mut self, count: usize, patience: &mut Patience) -> Result<(), DataError> {
        while self.scratch.len() < count {
            let left = count.saturating_sub(self.scratch.len());
            if self.read_some(left, patience).await? == 0 {
                return Err(self.cut_short());
            }
        }
        Ok(())
    }

    /// One read of at most `max` bytes to the end of `scratch`.
    async fn read_some(&mut self, max: usize, patience: &mut Patience) -> Result<usize, DataError> {
        let max = max.min(READ_BYTES_MAX);
        self.scratch.reserve(max);
        let mut room = (&mut self.scratch).limit(max);
        let read = self.stream.read_buf(&mut room);
        wait(&self.runtime, self.peer, patience, read).await
    }

    /// Appends exactly `count` bytes of a body to `into`, which has room for them or grows once.
    pub(super) async fn read_body(
        &mut self,
        count: usize,
        into: &mut BytesMut,
        patience: &mut Patience,
    ) -> Result<(), DataError> {
        into.reserve(count);
        let mut left = count;
        while left > 0 {
            let mut room = (&mut *into).limit(left.min(READ_BYTES_MAX));
            let read = self.stream.read_buf(&mut room);
            let count = wait(&self.runtime, self.peer, patience, read).await?;
            if count == 0 {
                return Err(self.cut_short());
            }
            left = left.saturating_sub(count);
        }
        Ok(())
    }

    /// Reads `count` bytes of a body and drops them.
    pub(super) async fn skip_body(
        &mut self,
        count: usize,
        patience: &mut Patience,
    ) -> Result<(), DataError> {
        let mut left = count;
        while left > 0 {
            self.scratch.clear();
            let count = self.read_some(left, patience).await?;
            if count == 0 {
                return Err(self.cut_short());
            }
            left = left.saturating_sub(count);
        }
        self.scratch = BytesMut::new();
        Ok(())
    }

    /// The stream ended inside a message or body.
    pub(super) fn cut_short(&self) -> DataError {
        disconnected(self.peer, &io::ErrorKind::UnexpectedEof.into())
    }

    /// Ends our sending side.
    pub(super) async fn close(&mut self) -> Result<(), DataError> {
        let mut patience = self.patience(0);
        let shutdown = self.stream.shutdown();
        wait(&self.runtime, self.peer, &mut patience, shutdown).await
    }
}

/// Between two messages a peer that vanished is one that has ended the stream: TLS calls it an
/// error when the farewell is missing, TCP when it came too soon.
async fn until_end<F>(read: F) -> io::Result<usize>
where
    F: Future<Output = io::Result<usize>> + Send,
{
    match read.await {
        Err(error) if is_end(error.kind()) => Ok(0),
        other => other,
    }
}

const fn is_end(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// The stream broke.
fn disconnected(peer: NodeId, cause: &io::Error) -> DataError {
    DataError::Net(NetError::Disconnected {
        peer,
        cause: cause.to_string(),
    })
}

/// Waits for the peer, and takes the time from its patience.
async fn wait<R, F, T>(
    runtime: &R,
    peer: NodeId,
    patience: &mut Patience,
    action: F,
) -> Result<T, DataError>
where
    R: Runtime,
    F: Future<Output = io::Result<T>> + Send,
    T: Send,
{
    let begun = runtime.monotonic();
    let done = runtime.timeout(patience.left, action).await;
    let waited = runtime.monotonic().saturating_sub(begun);
    patience.left = patience.left.saturating_sub(waited);
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cause)) => Err(disconnected(peer, &cause)),
        Err(_) => Err(DataError::Stalled {
            peer,
            limit: patience.limit,
        }),
    }
}
