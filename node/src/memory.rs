//! Memory for shards on their way: a budget in all and a share per peer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use cairn_core::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{PASSING_MEMORY_KIB, PEER_MEMORY_KIB, SHARD_MEMORY_KIB};

/// Used buffers that are kept. Touching fresh memory costs more than hashing it, so it is used
/// again and again; more than are under way at once are of no use.
const BUFFERS_MAX: usize = 32;
/// Buffers below this are not worth keeping.
const BUFFER_BYTES_MIN: usize = 32 << 10;

/// Hands out memory for shards. Whoever needs some waits in line.
#[derive(Debug)]
pub(crate) struct ShardMemory {
    all: Arc<Semaphore>,
    /// For shards that partners get. Of its own, so that two nodes that wait for each other to
    /// take a shard always have the memory to take one.
    passing: Arc<Semaphore>,
    /// Each as long as it was used.
    buffers: Mutex<Vec<BytesMut>>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
}

#[derive(Debug)]
struct Peer {
    share: Arc<Semaphore>,
    /// Streams that wait or have some; the entry goes with the last.
    users: usize,
}

/// Some memory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lent {
    _share: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// Counts a user of a peer's share.
#[derive(Debug)]
pub(crate) struct User {
    memory: Arc<ShardMemory>,
    peer: NodeId,
    share: Arc<Semaphore>,
}

impl ShardMemory {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(kib(SHARD_MEMORY_KIB))),
            passing: Arc::new(Semaphore::new(kib(PASSING_MEMORY_KIB))),
            buffers: Mutex::new(Vec::new()),
            peers: Mutex::new(BTreeMap::new()),
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.buffers
            .lock()
            .expect("nothing panics while it is held")
    }

    /// A buffer with room for `bytes`, and perhaps with old content.
    pub(crate) fn buffer(&self, bytes: u32) -> BytesMut {
        let wanted = usize::try_from(bytes).expect("u32 fits in usize on our systems");
        let mut buffers = self.buffers();
        let fits = |buffer: &BytesMut| {
            let room = buffer.capacity();
            room >= wanted && room / 4 <= wanted
        };
        let found = buffers.iter().rposition(fits);
        let found = found.map(|at| buffers.swap_remove(at));
        found.unwrap_or_else(|| BytesMut::with_capacity(wanted))
    }

    /// Takes back a buffer that nobody else has.
    pub(crate) fn give_back(&self, bytes: Bytes) {
        if bytes.len() < BUFFER_BYTES_MIN {
            return;
        }
        if let Ok(buffer) = bytes.try_into_mut() {
            let mut buffers = self.buffers();
            if buffers.len() < BUFFERS_MAX {
                buffers.push(buffer);
            }
        }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().expect("nothing panics while it is held")
    }

    /// A stream of `peer`, which then takes from the peer's share.
    pub(crate) fn user(self: &Arc<Self>, peer: NodeId) -> User {
        let mut peers = self.peers();
        let entry = peers.entry(peer).or_insert_with(|| Peer {
            share: Arc::new(Semaphore::new(kib(PEER_MEMORY_KIB))),
            users: 0,
        });
        entry.users += 1;
        let share = Arc::clone(&entry.share);
        drop(peers);
        User {
            memory: Arc::clone(self),
            peer,
            share,
        }
    }

    /// Memory for our own work.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn take(&self, bytes: u32) -> Lent {
        Lent {
            _share: None,
            _all: acquire(&self.all, bytes).await,
        }
    }

    /// Memory for a segment's shards of so many partners, for each of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn take_to_pass(&self, bytes: u32, partners: usize) -> Vec<Lent> {
        if partners == 0 {
            return Vec::new();
        }
        let each = bytes.div_ceil(1024) << 10;
        let count = u32::try_from(partners).unwrap_or(u32::MAX);
        let mut all = acquire(&self.passing, each.saturating_mul(count)).await;
        let each = kib(each >> 10);
        let lent = |_| {
            all.split(each).map(|all| Lent {
                _share: None,
                _all: all,
            })
        };
        (0..partners).filter_map(lent).collect()
    }

    /// Kibibytes that nobody has, for tests.
    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        self.all.available_permits()
    }
}

impl User {
    /// Memory for a shard of the peer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub(crate) async fn take(&self, bytes: u32) -> Lent {
        let share = acquire(&self.share, bytes).await;
        let all = acquire(&self.memory.all, bytes).await;
        Lent {
            _share: Some(share),
            _all: all,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut peers = self.memory.peers();
        if let Some(entry) = peers.get_mut(&self.peer) {
            entry.users -= 1;
            if entry.users == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

async fn acquire(from: &Arc<Semaphore>, bytes: u32) -> OwnedSemaphorePermit {
    let count = bytes.div_ceil(1024).max(1);
    let permit = Arc::clone(from).acquire_many_owned(count).await;
    permit.expect("the semaphore is never closed")
}

fn kib(count: u32) -> usize {
    usize::try_from(count).expect("u32 fits in usize on our systems")
}

const _: () = assert!(PEER_MEMORY_KIB <= SHARD_MEMORY_KIB);
const _: () = assert!(cairn_core::code::SHARD_BYTES_MAX <= PEER_MEMORY_KIB << 10);
const _: () = assert!(cairn_core::code::SHARD_BYTES_MAX <= PASSING_MEMORY_KIB << 10);
