//! Who may open data streams: bounds per peer and in all, over TLS and libp2p together, and the
//! bounded queue to the one who accepts.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use cairn_core::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::compat::Compat;

use super::tls::DataTls;

/// Streams that wait to be accepted. Whoever accepts only starts a task for each.
const ACCEPT_QUEUE: usize = 64;

/// An authenticated data stream: direct TLS or libp2p.
pub struct RealStream {
    io: Io,
    /// Held by streams that peers opened.
    _place: Option<Place>,
}

#[derive(Debug)]
enum Io {
    /// Boxed: a TLS session is 1.2 KiB.
    Tls(Box<DataTls>),
    Libp2p(Compat<libp2p::Stream>),
}

/// Which transport carries a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Direct TLS over TCP.
    Tls,
    /// A stream of a libp2p connection.
    Libp2p,
}

impl RealStream {
    pub(super) fn tls(stream: DataTls, place: Option<Place>) -> Self {
        Self {
            io: Io::Tls(Box::new(stream)),
            _place: place,
        }
    }

    pub(super) const fn libp2p(stream: Compat<libp2p::Stream>, place: Option<Place>) -> Self {
        Self {
            io: Io::Libp2p(stream),
            _place: place,
        }
    }

    /// Which transport carries it.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        match &self.io {
            Io::Tls(_) => Carrier::Tls,
            Io::Libp2p(_) => Carrier::Libp2p,
        }
    }
}

impl fmt::Debug for RealStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealStream")
            .field("carrier", &self.carrier())
            .finish_non_exhaustive()
    }
}

/// Calls a poll function on whichever stream it is.
macro_rules! on_io {
    ($self:ident, $poll:ident($($argument:expr),*)) => {
        match &mut $self.get_mut().io {
            Io::Tls(stream) => Pin::new(stream.as_mut()).$poll($($argument),*),
            Io::Libp2p(stream) => Pin::new(stream).$poll($($argument),*),
        }
    };
}

impl AsyncRead for RealStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_io!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for RealStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_io!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_io!(self, poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tls(stream) => stream.is_write_vectored(),
            Io::Libp2p(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, poll_shutdown(context))
    }
}

/// Admits streams that peers open. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    counts: Arc<Mutex<Counts>>,
    queue: mpsc::Sender<(NodeId, RealStream)>,
}

#[derive(Debug)]
struct Counts {
    by_peer: BTreeMap<NodeId, usize>,
    all: usize,
    peer_max: usize,
    all_max: usize,
}

/// One stream's place among those of its peer; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    peer: NodeId,
    counts: Arc<Mutex<Counts>>,
}

/// A place and room in the queue for one stream.
#[derive(Debug)]
pub(super) struct Admission {
    peer: NodeId,
    place: Place,
    room: mpsc::OwnedPermit<(NodeId, RealStream)>,
}

impl Gate {
    /// A gate with these bounds, and the queue behind it.
    pub(super) fn new(
        peer_max: usize,
        all_max: usize,
    ) -> (Self, mpsc::Receiver<(NodeId, RealStream)>) {
        let (queue, accepted) = mpsc::channel(ACCEPT_QUEUE);
        let counts = Counts {
            by_peer: BTreeMap::new(),
            all: 0,
            peer_max,
            all_max,
        };
        let gate = Self {
            counts: Arc::new(Mutex::new(counts)),
            queue,
        };
        (gate, accepted)
    }

    /// A place for one more stream of `peer`; `None` when a bound is reached or nobody accepts.
    pub(super) fn admit(&self, peer: NodeId) -> Option<Admission> {
        let room = self.queue.clone().try_reserve_owned().ok()?;
        let mut counts = lock(&self.counts);
        let theirs = counts.by_peer.get(&peer).copied().unwrap_or(0);
        if theirs >= counts.peer_max || counts.all >= counts.all_max {
            return None;
        }
        counts.by_peer.insert(peer, theirs + 1);
        counts.all += 1;
        drop(counts);
        let place = Place {
            peer,
            counts: Arc::clone(&self.counts),
        };
        Some(Admission { peer, place, room })
    }
}

impl Admission {
    /// Hands the stream to the one who accepts.
    pub(super) fn enter(self, stream: impl FnOnce(Option<Place>) -> RealStream) {
        let stream = stream(Some(self.place));
        // The sender that is given back is one of many.
        let _queue = self.room.send((self.peer, stream));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        let left = counts.by_peer.get(&self.peer).map_or(0, |count| count - 1);
        if left == 0 {
            counts.by_peer.remove(&self.peer);
        } else {
            counts.by_peer.insert(self.peer, left);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    // Each change is whole: nothing between its steps panics.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cairn_core::PublicKey;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::new(PublicKey::from_bytes([number; 32]))
    }

    #[test]
    fn a_place_is_given_back() {
        let (gate, _accepted) = Gate::new(2, 3);
        let first = gate.admit(node(1)).unwrap();
        let _second = gate.admit(node(1)).unwrap();
        assert!(gate.admit(node(1)).is_none(), "bound of one peer");
        let _other = gate.admit(node(2)).unwrap();
        assert!(gate.admit(node(2)).is_none(), "bound of all");
        drop(first);
        assert!(gate.admit(node(2)).is_some());
        assert!(gate.admit(node(1)).is_some());
    }
}
