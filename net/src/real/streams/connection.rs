//! One connection's data streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use cairn_core::NodeId;
use cairn_runtime::{RealRuntime, Runtime};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
};
use libp2p::{Stream, StreamProtocol};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::super::gate::{Admission, Gate, RealStream};
use super::{ACCEPTED, DATA_PROTOCOL, Open, REFUSED, WAITING_MAX};

/// Refusals under way on one connection; streams beyond are closed without a word.
const REFUSALS_MAX: usize = 16;
/// Longest wait for an opener to take the first byte: meanwhile it holds a place in the queue that
/// all peers share.
const GREETING_TIME_MAX: Duration = Duration::from_secs(5);

/// One connection's data streams: what is being opened, accepted and refused.
pub(crate) struct ConnectionStreams {
    node: NodeId,
    gate: Gate,
    runtime: RealRuntime,
    /// Not yet asked of the connection.
    waiting: VecDeque<Open>,
    /// Asked of the connection, not yet answered.
    opening: usize,
    /// First bytes under way. Bounded by [`WAITING_MAX`], the gate and [`REFUSALS_MAX`].
    greetings: FuturesUnordered<BoxFuture<'static, Greeting>>,
    refusals: usize,
}

/// A first byte is through.
enum Greeting {
    Done,
    Refused,
}

impl fmt::Debug for ConnectionStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionStreams")
            .field("node", &self.node)
            .field("waiting", &self.waiting.len())
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}

impl ConnectionStreams {
    pub(super) fn new(node: NodeId, gate: Gate, runtime: RealRuntime) -> Self {
        Self {
            node,
            gate,
            runtime,
            waiting: VecDeque::new(),
            opening: 0,
            greetings: FuturesUnordered::new(),
            refusals: 0,
        }
    }

    fn on_inbound(&mut self, stream: Stream) {
        if let Some(admission) = self.gate.admit(self.node) {
            let runtime = self.runtime.clone();
            self.greetings
                .push(accept(stream, admission, runtime).boxed());
        } else if self.refusals < REFUSALS_MAX {
            self.refusals += 1;
            self.greetings
                .push(refuse(stream, self.runtime.clone()).boxed());
        }
    }

    fn on_outbound(&mut self, stream: Stream, open: Open) {
        self.opening -= 1;
        self.greetings.push(await_greeting(stream, open).boxed());
    }

    fn on_failed_open(&mut self, open: Open, error: &StreamUpgradeError<Infallible>) {
        self.opening -= 1;
        open.fail(error.to_string());
    }
}

/// Tells the opener that its stream is queued, and queues it.
async fn accept(mut stream: Stream, admission: Admission, runtime: RealRuntime) -> Greeting {
    if greet(&mut stream, ACCEPTED, (&runtime, GREETING_TIME_MAX))
        .await
        .is_ok()
    {
        admission.enter(|place| RealStream::libp2p(stream.compat(), place));
    }
    Greeting::Done
}

/// Tells the opener that its stream is over a bound.
async fn refuse(mut stream: Stream, runtime: RealRuntime) -> Greeting {
    // The opener may be gone already; it learns the same from the stream's end.
    let _told = greet(&mut stream, REFUSED, (&runtime, GREETING_TIME_MAX)).await;
    let _closed = runtime.timeout(GREETING_TIME_MAX, stream.close()).await;
    Greeting::Refused
}

/// Sends the first byte, to an opener that may never take it.
async fn greet<S>(
    stream: &mut S,
    byte: u8,
    (runtime, limit): (&RealRuntime, Duration),
) -> io::Result<()>
where
    S: AsyncWrite + Unpin + Send,
{
    let told = async {
        stream.write_all(&[byte]).await?;
        stream.flush().await
    };
    let told = runtime.timeout(limit, told).await;
    told.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Waits for the other end's word on a stream that we opened, as long as somebody wants it.
async fn await_greeting(mut stream: Stream, mut open: Open) -> Greeting {
    let mut byte = [REFUSED];
    let read: io::Result<()> = tokio::select! {
        read = stream.read_exact(&mut byte) => read,
        () = open.answer.closed() => return Greeting::Done,
    };
    match read {
        Ok(()) if byte == [ACCEPTED] => {
            // Given up at this very moment: the stream closes with the answer.
            let _gone = open
                .answer
                .send(Ok(RealStream::libp2p(stream.compat(), None)));
        }
        Ok(()) => open.fail("the peer is at its limit of streams".to_owned()),
        Err(error) => open.fail(error.to_string()),
    }
    Greeting::Done
}

impl ConnectionHandler for ConnectionStreams {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(DATA_PROTOCOL), ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.waiting.is_empty() || self.opening > 0 || !self.greetings.is_empty()
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Open, Infallible>> {
        while let Poll::Ready(Some(greeting)) = self.greetings.poll_next_unpin(context) {
            match greeting {
                Greeting::Done => {}
                Greeting::Refused => self.refusals -= 1,
            }
        }
        match self.waiting.pop_front() {
            Some(open) => {
                self.opening += 1;
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(DATA_PROTOCOL), open);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if self.waiting.len() + self.opening >= WAITING_MAX {
            open.fail(format!("{WAITING_MAX} streams are being opened"));
        } else {
            self.waiting.push_back(open);
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Open>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: stream,
                ..
            }) => self.on_inbound(stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: open,
            }) => self.on_outbound(stream, open),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: open, error }) => {
                self.on_failed_open(open, &error);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    #[tokio::test]
    async fn an_opener_that_takes_nothing_is_given_up() {
        let runtime = RealRuntime::current();
        let limit = Duration::from_millis(20);
        let (ours, theirs) = tokio::io::duplex(1);
        let mut ours = ours.compat();
        greet(&mut ours, ACCEPTED, (&runtime, limit)).await.unwrap();
        // The pipe is full now, and nobody reads from it.
        let second = greet(&mut ours, ACCEPTED, (&runtime, limit));
        let given_up = runtime.timeout(GREETING_TIME_MAX, second).await;
        let error = given_up.expect("given up in time").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
