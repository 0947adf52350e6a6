//! A place for indexes of sealed packs that can be lost at any time.
//!
//! sled 0.34 does not fsync and has been seen to refuse its own files, so nothing depends on it:
//! what it returns is believed only with our checksum, and a folder that it can't open is removed
//! and made again. Its types stay in this file.

use std::fmt;
use std::path::Path;

use cairn_runtime::{Disk, OpenMode};

/// Memory that sled may use for its own cache: the indexes are read once, at the start.
const SLED_CACHE_BYTES: u64 = 8 << 20;
/// There while sled opens its folder: if it is found, the last attempt did not return.
const OPENING_FILE: &str = "index-opening";

/// Keeps the index of each sealed pack, as bytes. What goes wrong is only logged.
pub trait IndexCache: fmt::Debug + Send + Sync {
    /// The index of a pack, if it is here.
    fn load(&self, pack: u32) -> Option<Vec<u8>>;
    /// Keeps the index of a pack.
    fn store(&self, pack: u32, index: &[u8]);
    /// Forgets the index of a pack.
    fn remove(&self, pack: u32);
    /// Writes out what is kept.
    fn close(&self);
}

/// Keeps nothing: every pack is walked at every start.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl IndexCache for NoCache {
    fn load(&self, _pack: u32) -> Option<Vec<u8>> {
        None
    }

    fn store(&self, _pack: u32, _index: &[u8]) {}

    fn remove(&self, _pack: u32) {}

    fn close(&self) {}
}

/// Keeps the indexes in sled.
pub struct SledCache {
    db: sled::Db,
}

impl fmt::Debug for SledCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledCache").finish_non_exhaustive()
    }
}

impl SledCache {
    /// Opens the cache in `folder/index`; one that can't be opened is made again. `None` when
    /// that fails too: the store works without.
    pub fn open<D: Disk>(disk: &D, folder: &Path) -> Option<Self> {
        let path = folder.join("index");
        let opening = folder.join(OPENING_FILE);
        if disk.create_dir_all(folder).is_err() {
            return None;
        }
        match disk.open(&opening, OpenMode::CreateNew) {
            Ok(_) => {}
            Err(_) => remove(disk, &path),
        }
        let db = open(&path).or_else(|| {
            remove(disk, &path);
            open(&path)
        });
        if let Err(error) = disk.remove_file(&opening) {
            tracing::warn!(%error, "the index cache will be made again at the next start");
        }
        db.map(|db| Self { db })
    }
}

fn open(path: &Path) -> Option<sled::Db> {
    let config = sled::Config::default()
        .path(path)
        .cache_capacity(SLED_CACHE_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(None);
    config
        .open()
        .inspect_err(|error| tracing::warn!(%error, "the index cache can't be opened"))
        .ok()
}

fn remove<D: Disk>(disk: &D, path: &Path) {
    tracing::warn!(path = %path.display(), "removing the index cache; it is made again");
    if let Err(error) = disk.remove_dir_all(path)
        && !error.is_not_found()
    {
        tracing::warn!(%error, "the index cache can't be removed");
    }
}

impl IndexCache for SledCache {
    fn load(&self, pack: u32) -> Option<Vec<u8>> {
        let found = self.db.get(pack.to_be_bytes());
        found
            .inspect_err(|error| tracing::warn!(%error, "the index cache can't be read"))
            .ok()
            .flatten()
            .map(|value| value.to_vec())
    }

    fn store(&self, pack: u32, index: &[u8]) {
        if let Err(error) = self.db.insert(pack.to_be_bytes(), index) {
            tracing::warn!(%error, "the index cache can't be written");
        }
    }

    fn remove(&self, pack: u32) {
        if let Err(error) = self.db.remove(pack.to_be_bytes()) {
            tracing::warn!(%error, "the index cache can't be written");
        }
    }

    fn close(&self) {
        if let Err(error) = self.db.flush() {
            tracing::warn!(%error, "the index cache can't be written");
        }
    }
}
