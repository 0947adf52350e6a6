//! The shard store: keeps shards durable in append-only packs.
//!
//! It does: put with group commit, whole and range reads, slot trees and the durable state of
//! slots, dropping of dead bytes, scrub, recovery.
//!
//! It guarantees: a shard whose put returned survives kill -9 and power loss; after a crash at any
//! instant the store reopens with every such shard and no wrong one; nothing is begun for which
//! there is no room; what it uses agrees with the file system.
//!
//! It assumes what [`cairn_runtime::disk`] says of disks, and one process per folder (a lock).
//!
//! It fails with [`StoreError`]: damage of a shard is that shard's error; a failed write or sync
//! stops every later mutation until the store is reopened, and reads go on.
//!
//! ```text
//! folder/lock                     one process
//! folder/identity                 the key of the checksums
//! folder/packs/00000001.pack      shards, 256 MiB each, append only
//! folder/packs/00000001.dead      which of them are dead
//! folder/slots/<group>-<slot>     what a slot reached and what was emptied
//! folder/index/                   cached indexes of sealed packs; may be lost at any time
//! folder/height                   how far the ledger was seen: the node's own, not the store's
//! ```
//!
//! Bytes and rules: docs/protocol/shard-store.md. The format is a draft.

mod cache;
mod commit;
mod error;
mod format;
mod group_commit;
mod index;
mod pack;
mod prove;
mod read;
mod recover;
mod release;
mod scrub;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

pub use cache::{IndexCache, NoCache, SledCache};
use cairn_core::ByteCount;
use cairn_runtime::{Disk, DiskError};
use commit::Writer;
pub use commit::{PutDone, Replace, ShardPut};
pub use error::{Damage, ShardPlace, StoreError};
pub use format::{BATCH_BYTES_MAX, PACK_BYTES, PAGE_BYTES, StoreKey};
pub use group_commit::{GroupCommit, PENDING_PUTS_MAX};
use index::Index;
pub use index::{Kept, SlotFigures};
use pack::PackFiles;
pub use read::{Check, ShardRead, Wanted};
pub use recover::OpenReport;
pub use scrub::{SCRUB_STEP_BYTES, ScrubCursor, ScrubStep};
pub use slots::SlotReached;
pub use state::Needs;

/// Share of the capacity kept for slots' files, dead lists and the copying of live shards out of
/// mostly dead packs: a sixteenth.
const RESERVE_SHARE: u64 = 16;
/// The reserve is never more than this: it holds the files of 10,000 slots.
const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// What of the reserve only giving bytes back may use, so that a full store can always shrink: the
/// new file of the largest slot (1.7 MB) and the largest dead list (300 KB), twice. At most half of
/// the reserve.
const RELEASE_BYTES_MAX: u64 = 4 << 20;

/// Free space left to others by default: enough for logs and a login on a full disk.
pub const FLOOR_BYTES: u64 = 256 << 20;

/// How a store is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its folder, made when it does not exist.
    pub folder: PathBuf,
    /// Most bytes that it takes on the disk, everything included.
    pub capacity: ByteCount,
    /// Bytes of the file system that it leaves free for others.
    pub floor: ByteCount,
    /// A pack that has grown to this is sealed: at most [`PACK_BYTES`], less in tests.
    pub pack_bytes: u32,
}

impl StoreConfig {
    /// A store in `folder` that may take `capacity`, with packs of the usual size, and that leaves
    /// [`FLOOR_BYTES`] free.
    #[must_use]
    pub const fn new(folder: PathBuf, capacity: ByteCount) -> Self {
        Self {
            folder,
            capacity,
            floor: ByteCount::new(FLOOR_BYTES),
            pack_bytes: PACK_BYTES,
        }
    }

    /// Bytes of the capacity that shards do not get.
    #[must_use]
    pub fn reserve(&self) -> ByteCount {
        ByteCount::new((self.capacity.get() / RESERVE_SHARE).min(RESERVE_BYTES_MAX))
    }

    /// Bytes of the reserve that only giving bytes back may use.
    fn release_reserve(&self) -> u64 {
        (self.reserve().get() / 2).min(RELEASE_BYTES_MAX)
    }
}

/// Figures of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFigures {
    /// The capacity it was given.
    pub capacity: ByteCount,
    /// Bytes that it takes on the disk.
    pub used: ByteCount,
    /// Bytes kept for its own records.
    pub reserve: ByteCount,
    /// Bytes that shards may still take.
    pub free: ByteCount,
    /// Slots that it knows of.
    pub slot_count: u32,
    /// Shards that it keeps.
    pub shard_count: u64,
    /// Their bytes.
    pub shard_bytes: ByteCount,
    /// Packs.
    pub pack_count: u32,
}

/// A node's durable keeper of shards. Every call blocks; see [`GroupCommit`] for waiting without
/// blocking.
pub struct ShardStore<D: Disk> {
    disk: D,
    config: StoreConfig,
    key: StoreKey,
    packs: PackFiles<D>,
    cache: Arc<dyn IndexCache>,
    /// Held by whoever changes something on the disk. Taken before `index`.
    writer: Mutex<Writer<D::File>>,
    /// Held shortly, never while the disk works.
    index: Mutex<Index>,
    /// The first failed mutation.
    failure: Mutex<Option<StoreError>>,
    _lock: D::Lock,
}

impl<D: Disk> fmt::Debug for ShardStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardStore")
            .field("folder", &self.config.folder)
            .finish_non_exhaustive()
    }
}

impl<D: Disk> ShardStore<D> {
    /// How it is set up.
    #[must_use]
    pub const fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// What the checksums of its files, and of those beside them, are made with.
    pub(crate) const fn key(&self) -> StoreKey {
        self.key
    }

    /// Figures, as the file system would give them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`] when the file system does not say how much is free.
    pub fn figures(&self) -> Result<StoreFigures, StoreError> {
        let available = self.available()?;
        let index = lock(&self.index);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(StoreFigures {
            capacity: self.config.capacity,
            used: ByteCount::new(index.used_bytes),
            reserve: self.config.reserve(),
            free: ByteCount::new(available),
            slot_count: count(index.slots.len()),
            shard_count: index
                .slots
                .values()
                .map(|slot| u64::from(slot.shard_count))
                .sum(),
            shard_bytes: ByteCount::new(index.slots.values().map(|slot| slot.shard_bytes).sum()),
            pack_count: count(index.packs.len()),
        })
    }

    /// Bytes that shards may still take: what capacity and reserve leave, and what the file
    /// system has above the floor.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`].
    pub fn available(&self) -> Result<u64, StoreError> {
        self.room(self.config.reserve().get())
    }

    /// What the capacity less `reserve`, and the file system above the floor, have left.
    fn room(&self, reserve: u64) -> Result<u64, StoreError> {
        let space = self.disk.space(&self.config.folder)?;
        let used = lock(&self.index).used_bytes;
        let own = self
            .config
            .capacity
            .get()
            .saturating_sub(reserve)
            .saturating_sub(used);
        let others = space.free_bytes.saturating_sub(self.config.floor.get());
        Ok(own.min(others))
    }

    /// That `bytes` more fit beside what there is, leaving `reserve`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Disk`].
    fn check_room(&self, bytes: u64, reserve: u64) -> Result<(), StoreError> {
        let available = self.room(reserve)?;
        if bytes <= available {
            return Ok(());
        }
        Err(StoreError::Full {
            needed: ByteCount::new(bytes),
            available: ByteCount::new(available),
        })
    }

    /// The first failed mutation, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        lock(&self.failure).clone()
    }

    /// That no mutation has failed.
    ///
    /// # Errors
    ///
    /// The first cause.
    pub fn check_usable(&self) -> Result<(), StoreError> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Remembers a failed mutation; the first one counts.
    fn fail(&self, error: DiskError) -> StoreError {
        let error = StoreError::from(error);
        tracing::error!(%error, "the shard store takes nothing more until it is reopened");
        lock(&self.failure).get_or_insert(error).clone()
    }

    /// As [`Self::fail`], but a small file that found no room has harmed nothing.
    fn fail_unless_full(&self, error: DiskError) -> StoreError {
        if error.is_full() {
            StoreError::Full {
                needed: ByteCount::new(u64::from(PAGE_BYTES)),
                available: ByteCount::ZERO,
            }
        } else {
            self.fail(error)
        }
    }

    /// Ends all mutations: makes everything durable and caches the index. Reads go on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`] when the newest pack can't be made durable.
    pub fn close(&self) -> Result<(), StoreError> {
        let writer = lock(&self.writer);
        self.check_usable()?;
        writer.sync().map_err(|error| self.fail(error))?;
        self.cache.close();
        lock(&self.failure).get_or_insert(StoreError::Closed);
        Ok(())
    }
}

/// Locks data that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("a panic under a lock ends the process before it is taken again")
}
