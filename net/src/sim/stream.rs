//! Simulated byte streams: two pipes, each with a bound on what is in flight.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{fmt, io};

use cairn_core::NodeId;
use cairn_runtime::sim::SimSleep;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Shared;
use super::link::{Passage, count};
use super::peer::{Endpoint, Place};
use super::tamper::{Passing, Tamper};

/// Most bytes in flight on a stream in one direction, written and not yet read: like a socket's
/// send and receive buffers together.
pub(super) const WINDOW_BYTES: usize = 256 << 10;
/// When what was stalled arrives.
const NEVER: Duration = Duration::MAX;
/// Most bytes that are sent as one part.
const PART_BYTES_MAX: usize = 64 << 10;

/// Both directions of a stream, as the network knows them.
pub(super) struct Ends {
    opener: NodeId,
    acceptor: NodeId,
    forth: Arc<Pipe>,
    back: Arc<Pipe>,
}

impl Ends {
    pub(super) const fn opener(&self) -> NodeId {
        self.opener
    }

    pub(super) const fn acceptor(&self) -> NodeId {
        self.acceptor
    }

    pub(super) fn pipes(&self) -> [&Pipe; 2] {
        [&self.forth, &self.back]
    }
}

/// One direction of a stream.
pub(super) struct Pipe {
    from: NodeId,
    to: NodeId,
    state: Mutex<PipeState>,
}

#[derive(Default)]
struct PipeState {
    parts: VecDeque<Part>,
    in_flight: usize,
    sent: u64,
    last_arrival: Duration,
    end: End,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Part {
    arrives_at: Duration,
    bytes: Vec<u8>,
    read: usize,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// It is open.
    #[default]
    Open,
    /// The writer said that this was all, which arrives then.
    Finished { arrives_at: Duration },
    /// The writer is gone without a word.
    Abandoned { arrives_at: Duration },
    /// The connection is lost.
    Reset,
}

impl Pipe {
    fn new(from: NodeId, to: NodeId) -> Self {
        Self {
            from,
            to,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().expect("no panic in a simulated stream")
    }

    /// Changes it and wakes both ends.
    fn change(&self, work: impl FnOnce(&mut PipeState)) {
        let mut state = self.state();
        work(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The connection is lost, with what is in flight.
    pub(super) fn reset(&self) {
        self.change(|state| {
            state.end = End::Reset;
            state.parts.clear();
            state.in_flight = 0;
        });
    }

    /// The network has changed.
    pub(super) fn look_again(&self) {
        self.change(|_| {});
    }
}

/// One end of a simulated byte stream.
pub struct SimStream {
    network: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    number: u64,
    inward: Arc<Pipe>,
    outward: Arc<Pipe>,
    timer: Option<SimSleep>,
    /// Whether what is written next begins a new turn.
    turned: bool,
    /// At the accepting end: the place that it takes among the peer's streams.
    _place: Option<Place>,
}

impl SimStream {
    /// Both ends of a new stream: the opener's and the acceptor's.
    pub(super) fn pair(
        network: &Arc<Shared>,
        opener: &Arc<Endpoint>,
        acceptor: &Arc<Endpoint>,
        place: Place,
    ) -> (Self, Self) {
        let forth = Arc::new(Pipe::new(opener.node(), acceptor.node()));
        let back = Arc::new(Pipe::new(acceptor.node(), opener.node()));
        let mut state = network.state();
        let number = state.streams_made;
        state.streams_made += 1;
        let ends = Ends {
            opener: opener.node(),
            acceptor: acceptor.node(),
            forth: Arc::clone(&forth),
            back: Arc::clone(&back),
        };
        state.streams.insert(number, Arc::new(ends));
        drop(state);
        let end = |endpoint: &Arc<Endpoint>, inward: &Arc<Pipe>, outward: &Arc<Pipe>| Self {
            network: Arc::clone(network),
            endpoint: Arc::clone(endpoint),
            number,
            inward: Arc::clone(inward),
            outward: Arc::clone(outward),
            timer: None,
            turned: true,
            _place: None,
        };
        let near = end(opener, &back, &forth);
        let mut far = end(acceptor, &forth, &back);
        far._place = Some(place);
        (near, far)
    }

    /// The stream's number in the network, from 0.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    fn check_up(&self) -> io::Result<()> {
        if self.endpoint.is_open() {
            Ok(())
        } else {
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    /// Sends a part that there is room for.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (from, to) = (self.outward.from, self.outward.to);
        let now = self.network.sim.elapsed();
        let (passage, tamper) = {
            let mut state = self.network.state();
            if std::mem::take(&mut self.turned) {
                state.traffic_of(from, to).turns += 1;
            }
            let passage = state.send_part(from, to, bytes.len(), now);
            (passage, state.tamper.clone())
        };
        let mut changed = bytes.to_vec();
        let offset = self.outward.state().sent;
        self.network
            .sim
            .note("stream part", &[self.number, offset], bytes);
        let tampered = tamper.map_or(Tamper::Pass, |hook| {
            hook(&mut Passing::Part {
                from,
                to,
                stream: self.number,
                offset,
                bytes: &mut changed,
            })
        });
        let arrives_at = match (passage, tampered) {
            (Passage::Breaks, _) | (_, Tamper::Reset) => {
                self.inward.reset();
                self.outward.reset();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            (Passage::Arrives(_), Tamper::Stall) => NEVER,
            (Passage::Arrives(arrives_at), Tamper::Pass | Tamper::Cut) => arrives_at,
        };
        self.outward.change(|state| {
            state.sent += count(bytes.len());
            state.in_flight += changed.len();
            state.last_arrival = state.last_arrival.max(arrives_at);
            if tampered == Tamper::Cut {
                let arrives_at = state.last_arrival;
                state.end = End::Finished { arrives_at };
            }
            state.parts.push_back(Part {
                arrives_at: state.last_arrival,
                bytes: changed,
                read: 0,
            });
        });
        Ok(())
    }

    /// When what is sent now arrives, nothing lost: for the end of a stream.
    fn end_arrival(&self) -> Duration {
        let now = self.network.sim.elapsed();
        let mut state = self.network.state();
        match state.send_part(self.outward.from, self.outward.to, 0, now) {
            Passage::Arrives(arrives_at) => arrives_at,
            Passage::Breaks => now,
        }
    }

    /// Waits for a point in time, and for whatever changes the pipe before.
    fn wait_until(&mut self, deadline: Duration, context: &mut Context<'_>) -> Poll<()> {
        if self.network.sim.elapsed() >= deadline {
            self.timer = None;
            return Poll::Ready(());
        }
        let kept = self.timer.take();
        let kept = kept.filter(|timer| timer.deadline() >= deadline);
        let mut timer = kept.unwrap_or_else(|| self.network.sim.sleep_until(deadline));
        let polled = Pin::new(&mut timer).poll(context);
        self.timer = Some(timer);
        polled
    }
}

/// What a reader finds.
enum Readable {
    /// Bytes were read.
    Some,
    /// Nothing before this time.
    At(Duration),
    /// Nothing until something changes.
    Later,
    /// The end.
    End,
    /// It ended as it should not.
    Broken(io::ErrorKind),
}

impl Readable {
    fn at(arrives_at: Duration) -> Self {
        if arrives_at == NEVER {
            Self::Later
        } else {
            Self::At(arrives_at)
        }
    }
}

impl PipeState {
    /// Reads what has arrived.
    fn read(&mut self, now: Duration, buffer: &mut ReadBuf<'_>) -> Readable {
        if self.end == End::Reset {
            return Readable::Broken(io::ErrorKind::ConnectionReset);
        }
        let mut found = Readable::Later;
        while let Some(part) = self.parts.front_mut() {
            if part.arrives_at > now {
                return match found {
                    Readable::Some => found,
                    _ => Readable::at(part.arrives_at),
                };
            }
            let rest = &part.bytes[part.read..];
            let taken = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..taken]);
            part.read += taken;
            self.in_flight -= taken;
            if taken > 0 {
                found = Readable::Some;
            }
            if part.read < part.bytes.len() {
                return found;
            }
            self.parts.pop_front();
        }
        match (found, self.end) {
            (Readable::Some, _) => Readable::Some,
            (_, End::Finished { arrives_at } | End::Abandoned { arrives_at })
                if arrives_at > now =>
            {
                Readable::at(arrives_at)
            }
            (_, End::Finished { .. }) => Readable::End,
            (_, End::Abandoned { .. }) => Readable::Broken(io::ErrorKind::UnexpectedEof),
            (_, End::Open | End::Reset) => Readable::Later,
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_up()?;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let is_open = {
            let state = self.network.state();
            state.is_open(self.inward.from, self.inward.to)
        };
        let now = self.network.sim.elapsed();
        let mut state = self.inward.state();
        let readable = if is_open || state.end == End::Reset {
            state.read(now, buffer)
        } else {
            Readable::Later
        };
        let writer = match readable {
            Readable::Some => state.writer.take(),
            _ => None,
        };
        if matches!(readable, Readable::At(_) | Readable::Later) {
            state.reader = Some(context.waker().clone());
        }
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        match readable {
            Readable::Some => {
                self.turned = true;
                Poll::Ready(Ok(()))
            }
            Readable::At(deadline) => match self.wait_until(deadline, context) {
                Poll::Ready(()) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            },
            Readable::Later => Poll::Pending,
            Readable::End => Poll::Ready(Ok(())),
            Readable::Broken(kind) => Poll::Ready(Err(kind.into())),
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_up()?;
        let mut state = self.outward.state();
        match state.end {
            End::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            End::Finished { .. } | End::Abandoned { .. } => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            End::Open if state.reader_gone => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            End::Open => {}
        }
        let room = WINDOW_BYTES.saturating_sub(state.in_flight);
        let taken = bytes.len().min(room).min(PART_BYTES_MAX);
        if taken == 0 && !bytes.is_empty() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        if taken > 0 {
            self.send(&bytes[..taken])?;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.check_up())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_up()?;
        let arrives_at = self.end_arrival();
        self.outward.change(|state| {
            if state.end == End::Open {
                let arrives_at = arrives_at.max(state.last_arrival);
                state.end = End::Finished { arrives_at };
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let arrives_at = self.end_arrival();
        self.outward.change(|state| {
            if state.end == End::Open {
                let arrives_at = arrives_at.max(state.last_arrival);
                state.end = End::Abandoned { arrives_at };
            }
        });
        self.inward.change(|state| {
            state.reader_gone = true;
            state.parts.clear();
            state.in_flight = 0;
        });
        let other_gone = self.outward.state().reader_gone;
        if other_gone {
            let ends = self.network.state().streams.remove(&self.number);
            drop(ends);
        }
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SimStream {} from {} to {}",
            self.number, self.outward.from, self.outward.to
        )
    }
}
