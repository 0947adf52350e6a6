//! How far the ledger was seen, on the disk: what a node that starts anew must not forget.
//!
//! Whoever answers for the ledger may show a state that was the ledger's once, truly attested, to
//! somebody who has seen nothing newer. One from before a slot was drawn to us says that the slot is
//! another's, and what is here of it would be dropped. So this holds always:
//!
//! **Before a node promises to keep something of a slot (a receipt, an acknowledgement), and before
//! it gives up anything for good, the height in the file is at least the highest of which it has seen
//! something.**
//!
//! It suffices. A slot that something was promised of was ours in a state of that height or of a lower
//! one. After a start no state below that height is believed ([`Ledger::expect_at_least`]), and one of
//! it or above has the slot ours, unless it moved since. What was given up is not missed by an
//! earlier state either.
//!
//! The file is written when one of these is to be done and the ledger has been seen further, and not
//! with every block. Where that fails the thing is not done, and is tried again: unlike the shard
//! store's own files it may be written again after a failure, since each time it is written whole.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{ByteCount, Height, LedgerId, Record, RecordKind};
#[cfg(doc)]
use cairn_ledger::Ledger;
use cairn_runtime::{Disk, DiskError};

use crate::store::{PAGE_BYTES, StoreError, StoreKey};

/// Name of the file, in the folder of the shard store: it is of no use without the shards, nor
/// they without it.
const HEIGHT_FILE: &str = "height";
/// Most bytes of it that are read.
const HEIGHT_FILE_BYTES_MAX: u64 = 4096;

/// Why it is not known how far the ledger was seen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SeenHeightError {
    /// A disk call failed.
    #[error("{0}")]
    Disk(Arc<DiskError>),
    /// The file does not hold what was written. Without it an old state of the ledger could pass
    /// for the newest.
    #[error("{} is damaged, which says how far the ledger was seen", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The node kept its slots for another ledger.
    #[error("{}: expected ledger {expected}, found {found}", path.display())]
    OtherLedger {
        /// The file.
        path: PathBuf,
        /// The one that the node is started with.
        expected: LedgerId,
        /// The one that the file is of.
        found: LedgerId,
    },
}

impl From<DiskError> for SeenHeightError {
    fn from(error: DiskError) -> Self {
        Self::Disk(Arc::new(error))
    }
}

/// What the file holds, with its checksum: docs/protocol/shard-store.md.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct HeightFile {
    /// Which ledger.
    pub(crate) ledger: LedgerId,
    /// The highest height of which something was seen.
    pub(crate) height: Height,
}

impl Record for HeightFile {
    const KIND: RecordKind = RecordKind::SeenHeight;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// The height on the disk. Calls block.
#[derive(Debug)]
pub(crate) struct SeenHeight<D> {
    disk: D,
    path: PathBuf,
    key: StoreKey,
    ledger: LedgerId,
    /// Held by whoever writes the file.
    writing: Mutex<()>,
    /// What the file has, durably; 0 without one. It only rises, and only under `writing`.
    kept: AtomicU64,
}

impl<D: Disk> SeenHeight<D> {
    /// Reads the file in the folder of the shard store whose key it is and whose lock the caller
    /// has. Without one nothing was promised yet.
    ///
    /// # Errors
    ///
    /// [`SeenHeightError`].
    pub(crate) fn open(
        disk: D,
        folder: &Path,
        key: StoreKey,
        ledger: LedgerId,
    ) -> Result<Self, SeenHeightError> {
        let path = folder.join(HEIGHT_FILE);
        let kept = match disk.read_file(&path, HEIGHT_FILE_BYTES_MAX) {
            Ok(bytes) => {
                // A name that a crash of the process alone left visible becomes durable here.
                disk.sync_dir(folder)?;
                read(&bytes, &path, key, ledger)?
            }
            Err(error) if error.is_not_found() => Height::ZERO,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            disk,
            path,
            key,
            ledger,
            writing: Mutex::new(()),
            kept: AtomicU64::new(kept.get()),
        })
    }

    /// The height that the disk has.
    pub(crate) fn kept(&self) -> Height {
        Height::new(self.kept.load(Ordering::Acquire))
    }

    /// Makes durable that the ledger was seen up to `height`, unless it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Disk`]: the disk has the height that it had, or this one.
    pub(crate) fn keep(&self, height: Height) -> Result<(), StoreError> {
        let _writing = self
            .writing
            .lock()
            .expect("a panic while it is held ends the process");
        if self.kept() >= height {
            return Ok(());
        }
        let file = HeightFile {
            ledger: self.ledger,
            height,
        };
        let written = self.disk.replace_file(&self.path, &self.key.seal(&file));
        written.map_err(|error| {
            tracing::warn!(%error, "how far the ledger was seen can't be made durable");
            failed(error)
        })?;
        self.kept.store(height.get(), Ordering::Release);
        Ok(())
    }
}

/// The height that the file's bytes have.
fn read(
    bytes: &[u8],
    path: &Path,
    key: StoreKey,
    expected: LedgerId,
) -> Result<Height, SeenHeightError> {
    let path = path.to_owned();
    let Some(file) = key.open::<HeightFile>(bytes) else {
        return Err(SeenHeightError::Damaged { path });
    };
    if file.ledger != expected {
        return Err(SeenHeightError::OtherLedger {
            path,
            expected,
            found: file.ledger,
        });
    }
    Ok(file.height)
}

/// No room is not the disk's fault.
fn failed(error: DiskError) -> StoreError {
    if error.is_full() {
        return StoreError::Full {
            needed: ByteCount::new(u64::from(PAGE_BYTES)),
            available: ByteCount::ZERO,
        };
    }
    error.into()
}

#[cfg(test)]
mod tests;
