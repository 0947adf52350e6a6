//! A network that counts what goes through its data plane: bytes and round trips.
//!
//! Counted are the plaintext bytes of each stream, which is what the data plane's messages are;
//! TLS adds 22 bytes to every 16 KiB, and TCP its headers. A round trip is one change from reading
//! to writing on a stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_core::NodeId;
use cairn_net::{InboundRequest, NetError, Network, RecordKey};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What went through.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Traffic {
    /// Data plane bytes received.
    pub(super) received: u64,
    /// Data plane bytes sent.
    pub(super) sent: u64,
    /// Requests on data plane streams.
    pub(super) requests: u64,
    /// Data plane streams opened.
    pub(super) streams: u64,
    /// Control messages sent and answered.
    pub(super) control_requests: u64,
}

impl Traffic {
    /// What went through since `earlier`.
    pub(super) const fn since(&self, earlier: &Self) -> Self {
        Self {
            received: self.received - earlier.received,
            sent: self.sent - earlier.sent,
            requests: self.requests - earlier.requests,
            streams: self.streams - earlier.streams,
            control_requests: self.control_requests - earlier.control_requests,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
    streams: AtomicU64,
    control_requests: AtomicU64,
}

/// A network and its counts.
#[derive(Clone, Debug)]
pub(super) struct Counted<N> {
    network: N,
    counts: Arc<Counts>,
}

impl<N> Counted<N> {
    pub(super) fn new(network: N) -> Self {
        Self {
            network,
            counts: Arc::default(),
        }
    }

    /// What has gone through so far.
    pub(super) fn traffic(&self) -> Traffic {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            received: get(&self.counts.received),
            sent: get(&self.counts.sent),
            requests: get(&self.counts.requests),
            streams: get(&self.counts.streams),
            control_requests: get(&self.counts.control_requests),
        }
    }
}

impl<N: Network> Network for Counted<N> {
    type Stream = CountedStream<N::Stream>;

    fn local(&self) -> NodeId {
        self.network.local()
    }

    async fn request(
        &self,
        peer: NodeId,
        message: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, NetError> {
        self.counts.control_requests.fetch_add(1, Ordering::Relaxed);
        self.network.request(peer, message, limit).await
    }

    async fn next_request(&self) -> Option<InboundRequest> {
        self.network.next_request().await
    }

    async fn connect(&self, peer: NodeId, limit: Duration) -> Result<Self::Stream, NetError> {
        let stream = self.network.connect(peer, limit).await?;
        self.counts.streams.fetch_add(1, Ordering::Relaxed);
        Ok(CountedStream::new(stream, &self.counts))
    }

    async fn accept(&self) -> Option<(NodeId, Self::Stream)> {
        let (peer, stream) = self.network.accept().await?;
        Some((peer, CountedStream::new(stream, &self.counts)))
    }

    async fn publish(&self, key: RecordKey, value: Vec<u8>) -> Result<(), NetError> {
        self.network.publish(key, value).await
    }

    async fn find(&self, key: RecordKey) -> Result<Option<Vec<u8>>, NetError> {
        self.network.find(key).await
    }

    async fn shutdown(&self) {
        self.network.shutdown().await;
    }
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub(super) struct CountedStream<S> {
    stream: S,
    counts: Arc<Counts>,
    last: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl<S> CountedStream<S> {
    fn new(stream: S, counts: &Arc<Counts>) -> Self {
        Self {
            stream,
            counts: Arc::clone(counts),
            last: Direction::In,
        }
    }

    fn wrote(&mut self, done: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(count)) = done else { return };
        self.counts.sent.fetch_add(wide(*count), Ordering::Relaxed);
        if self.last == Direction::In && *count > 0 {
            self.last = Direction::Out;
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let done = Pin::new(&mut this.stream).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            this.last = Direction::In;
            this.counts
                .received
                .fetch_add(wide(count), Ordering::Relaxed);
        }
        done
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(&done);
        done
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.wrote(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
