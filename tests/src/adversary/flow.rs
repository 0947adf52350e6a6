//! A stream whose writing side drips, or ends too soon.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_runtime::Sim;
use cairn_runtime::sim::SimSleep;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How bytes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// As they come.
    Free,
    /// So many at a time, with a pause after each time.
    Drip {
        /// Bytes at a time.
        bytes: usize,
        /// The pause.
        every: Duration,
    },
    /// No more than so many on one stream.
    CutAfter(usize),
}

/// A stream with a [`Flow`].
#[derive(Debug)]
pub(super) struct Flowing<S> {
    stream: S,
    sim: Sim,
    flow: Flow,
    pause: Option<SimSleep>,
}

impl<S> Flowing<S> {
    pub(super) const fn new(stream: S, sim: Sim, flow: Flow) -> Self {
        Self {
            stream,
            sim,
            flow,
            pause: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flowing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flowing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(Pin::new(pause).poll(context));
            self.pause = None;
        }
        let most = match self.flow {
            Flow::Free => bytes.len(),
            Flow::Drip { bytes, .. } => bytes,
            Flow::CutAfter(0) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Flow::CutAfter(left) => left,
        };
        let part = &bytes[..bytes.len().min(most)];
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, part))?;
        match self.flow {
            Flow::Free => {}
            Flow::Drip { every, .. } => self.pause = Some(self.sim.sleep(every)),
            Flow::CutAfter(left) => self.flow = Flow::CutAfter(left - written),
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
