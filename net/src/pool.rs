//! Pooled data plane streams: bounded per peer and in all, one capability each.
//!
//! A stream carries the capability that was presented on it for its whole life, so the pool's key
//! is the peer and the capability's digest. [`DataPool::take`] hands out a [`Pooled`] guard; when
//! it is dropped, a stream that is between two requests goes back, any other is closed.
//!
//! **Bounds**: [`PoolLimits`]. Callers wait in line for a place, first come first served, within
//! the limit that they give. Streams idle for too long are closed at the next call on the pool;
//! the answering end closes them in any case.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_core::{Capability, Digest, NodeId, Record};
use cairn_runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::data::{DataConn, DataError, Pace};
use crate::{NetError, Network};

#[cfg(test)]
mod tests;

/// How many streams a pool may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Streams in use to one peer. Idle ones come on top only up to the same number.
    pub peer_streams_max: usize,
    /// Streams in use in all.
    pub streams_max: usize,
    /// Idle streams in all; the longest idle is closed first.
    pub idle_streams_max: usize,
    /// Pace of each stream; idle ones are closed after its `idle`.
    pub pace: Pace,
}

impl PoolLimits {
    /// For one client or node: 4 streams keep one peer's link busy; 160 in use are two segments
    /// at the widest code in flight; 256 idle are 6 groups at the standard code kept warm.
    pub const DEFAULT: Self = Self {
        peer_streams_max: 4,
        streams_max: 160,
        idle_streams_max: 256,
        pace: Pace::CLIENT,
    };
}

/// Pooled data plane streams. Cheap to clone.
pub struct DataPool<N: Network, R: Runtime> {
    shared: Arc<Shared<N, R>>,
}

struct Shared<N: Network, R: Runtime> {
    network: N,
    runtime: R,
    limits: PoolLimits,
    in_use: Arc<Semaphore>,
    peers: Mutex<Peers<N, R>>,
}

/// What the pool knows of its peers. Held for moments, never across a wait.
struct Peers<N: Network, R: Runtime> {
    by_id: BTreeMap<NodeId, Peer>,
    /// Idle streams, longest idle first.
    idle: VecDeque<Idle<N, R>>,
}

/// One peer that streams are wanted or in use to.
struct Peer {
    in_use: Arc<Semaphore>,
    /// Callers that wait for a stream or have one; the entry goes with the last.
    callers: usize,
}

struct Idle<N: Network, R: Runtime> {
    peer: NodeId,
    capability: Digest,
    since: Duration,
    conn: DataConn<N::Stream, R>,
}

/// A stream on loan from a [`DataPool`], with its capability presented.
pub struct Pooled<N: Network, R: Runtime> {
    /// Present until dropped.
    conn: Option<DataConn<N::Stream, R>>,
    capability: Digest,
    place: Place<N, R>,
}

/// A caller's place in the pool; gives it back when dropped.
struct Place<N: Network, R: Runtime> {
    shared: Arc<Shared<N, R>>,
    peer: NodeId,
    /// Of the peer, then of the pool; given back before the caller is counted off.
    permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl<N: Network, R: Runtime> Clone for DataPool<N, R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<N: Network, R: Runtime> fmt::Debug for DataPool<N, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPool")
            .field("limits", &self.shared.limits)
            .field("idle", &self.shared.peers().idle.len())
            .finish_non_exhaustive()
    }
}

impl<N: Network, R: Runtime> fmt::Debug for Pooled<N, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled")
            .field("conn", &self.conn)
            .finish_non_exhaustive()
    }
}

impl<N: Network, R: Runtime> DataPool<N, R> {
    /// An empty pool.
    #[must_use]
    pub fn new(network: N, runtime: R, limits: PoolLimits) -> Self {
        let in_use = Arc::new(Semaphore::new(limits.streams_max));
        let peers = Mutex::new(Peers {
            by_id: BTreeMap::new(),
            idle: VecDeque::new(),
        });
        Self {
            shared: Arc::new(Shared {
                network,
                runtime,
                limits,
                in_use,
                peers,
            }),
        }
    }

    /// A stream to `peer` on which `capability` has been presented: an idle one, or a fresh one.
    /// Waits for a place, the connection and the peer's answer, at most `limit` in all.
    ///
    /// # Errors
    ///
    /// [`DataError`]; [`NetError::Timeout`] in it when `limit` is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn take(
        &self,
        peer: NodeId,
        capability: &Capability,
        limit: Duration,
    ) -> Result<Pooled<N, R>, DataError> {
        let opening = self.open(peer, capability, limit);
        match self.shared.runtime.timeout(limit, opening).await {
            Ok(done) => done,
            Err(_) => Err(DataError::Net(NetError::Timeout { peer, limit })),
        }
    }

    /// Closes all idle streams to `peer`, for instance after it served wrong bytes.
    pub fn forget(&self, peer: NodeId) {
        let dropped: VecDeque<_> = {
            let mut peers = self.shared.peers();
            let (theirs, others) = peers.idle.drain(..).partition(|idle| idle.peer == peer);
            peers.idle = others;
            theirs
        };
        drop(dropped);
    }

    /// Idle streams, for status and tests.
    #[must_use]
    pub fn idle_count(&self) -> usize {
        self.shared.peers().idle.len()
    }

    async fn open(
        &self,
        peer: NodeId,
        capability: &Capability,
        limit: Duration,
    ) -> Result<Pooled<N, R>, DataError> {
        let digest = capability.record_digest();
        let place = self.shared.place(peer).await?;
        if let Some(conn) = self.shared.take_idle(peer, digest) {
            return Ok(Pooled {
                conn: Some(conn),
                capability: digest,
                place,
            });
        }
        let stream = self.shared.network.connect(peer, limit).await?;
        let runtime = self.shared.runtime.clone();
        let mut conn = DataConn::new(stream, peer, runtime, self.shared.limits.pace);
        conn.present(capability).await?;
        Ok(Pooled {
            conn: Some(conn),
            capability: digest,
            place,
        })
    }
}

impl<N: Network, R: Runtime> Shared<N, R> {
    fn peers(&self) -> MutexGuard<'_, Peers<N, R>> {
        // Nothing panics while it is held, and each change is whole.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for one more stream to `peer`.
    async fn place(self: &Arc<Self>, peer: NodeId) -> Result<Place<N, R>, DataError> {
        let of_peer = {
            let mut peers = self.peers();
            let entry = peers.by_id.entry(peer).or_insert_with(|| Peer {
                in_use: Arc::new(Semaphore::new(self.limits.peer_streams_max)),
                callers: 0,
            });
            entry.callers += 1;
            Arc::clone(&entry.in_use)
        };
        let mut place = Place {
            shared: Arc::clone(self),
            peer,
            permits: None,
        };
        let closed = |_| DataError::Net(NetError::Closed);
        let of_peer = of_peer.acquire_owned().await.map_err(closed)?;
        let of_all = Arc::clone(&self.in_use)
            .acquire_owned()
            .await
            .map_err(closed)?;
        place.permits = Some((of_peer, of_all));
        Ok(place)
    }

    /// The most recently used idle stream that fits and is still alive.
    fn take_idle(&self, peer: NodeId, capability: Digest) -> Option<DataConn<N::Stream, R>> {
        let mut dropped = self.expired();
        let mut found = None;
        {
            let mut peers = self.peers();
            while let Some(at) = peers
                .idle
                .iter()
                .rposition(|idle| idle.peer == peer && idle.capability == capability)
            {
                let Some(mut idle) = peers.idle.remove(at) else {
                    break;
                };
                if idle.conn.is_alive() {
                    found = Some(idle.conn);
                    break;
                }
                dropped.push(idle);
            }
        }
        drop(dropped);
        found
    }

    /// Takes out what has been idle for too long, to be dropped without the lock.
    fn expired(&self) -> Vec<Idle<N, R>> {
        let now = self.runtime.monotonic();
        let idle_max = self.limits.pace.idle;
        let mut peers = self.peers();
        let fresh_from = peers
            .idle
            .partition_point(|idle| now.saturating_sub(idle.since) >= idle_max);
        peers.idle.drain(..fresh_from).collect()
    }

    /// Keeps a stream for the next caller, within the bounds.
    fn keep(&self, idle: Idle<N, R>) {
        let mut dropped = self.expired();
        {
            let peer = idle.peer;
            let mut peers = self.peers();
            peers.idle.push_back(idle);
            let theirs = peers.idle.iter().filter(|idle| idle.peer == peer).count();
            if theirs > self.limits.peer_streams_max {
                let oldest = peers.idle.iter().position(|idle| idle.peer == peer);
                dropped.extend(oldest.and_then(|at| peers.idle.remove(at)));
            }
            if peers.idle.len() > self.limits.idle_streams_max {
                dropped.extend(peers.idle.pop_front());
            }
        }
        drop(dropped);
    }
}

impl<N: Network, R: Runtime> Drop for Place<N, R> {
    fn drop(&mut self) {
        self.permits = None;
        let mut peers = self.shared.peers();
        if let Some(entry) = peers.by_id.get_mut(&self.peer) {
            entry.callers -= 1;
            if entry.callers == 0 {
                peers.by_id.remove(&self.peer);
            }
        }
    }
}

impl<N: Network, R: Runtime> Drop for Pooled<N, R> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take()
            && conn.is_reusable()
        {
            let shared = &self.place.shared;
            shared.keep(Idle {
                peer: self.place.peer,
                capability: self.capability,
                since: shared.runtime.monotonic(),
                conn,
            });
        }
    }
}

impl<N: Network, R: Runtime> Deref for Pooled<N, R> {
    type Target = DataConn<N::Stream, R>;

    fn deref(&self) -> &Self::Target {
        self.conn.as_ref().expect("present until dropped")
    }
}

impl<N: Network, R: Runtime> DerefMut for Pooled<N, R> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.conn.as_mut().expect("present until dropped")
    }
}
