//! The client's journal: an append-only file of checksummed entries.
//!
//! ```text
//! entry = length of the body (u32 LE) | first 8 bytes of BLAKE3 of the body | body (a record)
//! ```
//!
//! **Guarantees.** [`Journal::append`] returns when its entries survive power loss, all of a batch
//! or, after a crash in between, any prefix of it. **Assumes** one writer, held off by a lock
//! above. **Fails** for good: after a failed call the journal answers every later one with
//! [`JournalError::Poisoned`] until it is opened again, where recovery happens: a batch that was
//! cut off by a crash is taken back, damage further up is an error.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use cairn_core::{Blame, DecodeError, Digest, Record, Retry};
use cairn_runtime::{Disk, DiskError, DiskFile, OpenMode};

use crate::width::index;

/// Length and checksum before each body.
const HEADER_BYTES: usize = 4 + 8;
/// Most bytes of one batch: bounds the memory of an append, and how much a crash may take back.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// How much is read at a time when a journal is opened.
const WINDOW_BYTES: usize = 1 << 20;

/// Why a journal can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error("the client's journal: {0}")]
    Disk(#[from] DiskError),
    /// An entry above the last batch does not have its checksum.
    #[error("{}: damaged at byte {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged entry starts.
        offset: u64,
    },
    /// An entry has its checksum and is none: of another version of this software.
    #[error("{}: the entry at byte {offset} can't be read: {cause}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Where the entry starts.
        offset: u64,
        /// What is wrong.
        cause: DecodeError,
    },
    /// An earlier call failed; the journal must be opened again.
    #[error("{}: not used any more after a failed write", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
}

impl JournalError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Disk(_) | Self::Poisoned { .. } => Retry::Later,
            Self::Damaged { .. } | Self::Entry { .. } => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Disk(_) | Self::Damaged { .. } | Self::Poisoned { .. } => Blame::World,
            Self::Entry { .. } => Blame::Us,
        }
    }
}

/// An append-only file of records of one type.
#[derive(Debug)]
pub struct Journal<D: Disk, T> {
    file: D::File,
    path: PathBuf,
    end: u64,
    poisoned: bool,
    entries: PhantomData<fn(T) -> T>,
}

impl<D: Disk, T: Record> Journal<D, T> {
    /// Opens the journal at `path`, made when it does not exist, takes back a batch that was cut
    /// off, and gives every entry to `visit` in order.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn open(disk: &D, path: &Path, visit: impl FnMut(T)) -> Result<Self, JournalError> {
        let file = disk.open(path, OpenMode::ReadWriteOrCreate)?;
        disk.sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            end: 0,
            poisoned: false,
            entries: PhantomData,
        };
        let found = journal.file.len()?;
        journal.end = journal.scan(found, visit)?;
        let lost = found - journal.end;
        if lost > 0 {
            if lost > u64::try_from(BATCH_BYTES_MAX).unwrap_or(u64::MAX) {
                return Err(JournalError::Damaged {
                    path: journal.path,
                    offset: journal.end,
                });
            }
            tracing::warn!(path = %path.display(), bytes = lost, "took back a batch cut off by a crash");
            journal.file.set_len(journal.end)?;
            journal.file.sync()?;
        }
        Ok(journal)
    }

    /// Gives every entry to `visit` in order, again.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn read(&self, visit: impl FnMut(T)) -> Result<(), JournalError> {
        let end = self.scan(self.end, visit)?;
        if end == self.end {
            return Ok(());
        }
        Err(JournalError::Damaged {
            path: self.path.clone(),
            offset: end,
        })
    }

    /// Adds entries; they survive power loss when it returns.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; the journal is then poisoned.
    ///
    /// # Panics
    ///
    /// When one entry alone is larger than [`BATCH_BYTES_MAX`]: no kind of entry is.
    pub fn append(&mut self, entries: &[T]) -> Result<(), JournalError> {
        let mut batch = Vec::new();
        for entry in entries {
            let body = entry.encode();
            assert!(
                body.len() + HEADER_BYTES <= BATCH_BYTES_MAX,
                "an entry fits a batch"
            );
            if batch.len() + HEADER_BYTES + body.len() > BATCH_BYTES_MAX {
                self.write(&batch)?;
                batch.clear();
            }
            let bytes = u32::try_from(body.len()).expect("a batch is below 4 GiB");
            batch.extend_from_slice(&bytes.to_le_bytes());
            batch.extend_from_slice(&Digest::of(&body).as_bytes()[..8]);
            batch.extend_from_slice(&body);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.write(&batch)
    }

    fn write(&mut self, batch: &[u8]) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned {
                path: self.path.clone(),
            });
        }
        self.poisoned = true;
        self.file.write_all_at(&[batch], self.end)?;
        self.file.sync()?;
        self.poisoned = false;
        self.end += u64::try_from(batch.len()).expect("a batch is small");
        Ok(())
    }

    /// Visits entries up to the first that is cut off or lacks its checksum; returns where the
    /// good ones end.
    fn scan(&self, bytes: u64, mut visit: impl FnMut(T)) -> Result<u64, JournalError> {
        let mut window: Vec<u8> = Vec::new();
        let mut start = 0_u64;
        loop {
            let used = self.visit_window(&window, start, &mut visit)?;
            window.drain(..used);
            start += u64::try_from(used).expect("a window is small");
            let have = u64::try_from(window.len()).expect("a window is small");
            let more = (bytes - start - have).min(u64::try_from(WINDOW_BYTES).expect("a window"));
            // A whole batch without one good entry is damage: reading on would not help.
            if more == 0 || window.len() > 2 * BATCH_BYTES_MAX {
                return Ok(start);
            }
            let count = usize::try_from(more).expect("at most a window");
            let old = window.len();
            window.resize(old + count, 0);
            self.file.read_exact_at(&mut window[old..], start + have)?;
        }
    }

    /// Visits the whole entries at the start of `window`; returns the bytes they take.
    fn visit_window(
        &self,
        window: &[u8],
        start: u64,
        visit: &mut impl FnMut(T),
    ) -> Result<usize, JournalError> {
        let mut used = 0;
        while let Some((body, whole)) = entry(&window[used..]) {
            let offset = start + u64::try_from(used).expect("a window is small");
            let record = T::decode(body).map_err(|cause| JournalError::Entry {
                path: self.path.clone(),
                offset,
                cause,
            })?;
            visit(record);
            used += whole;
        }
        Ok(used)
    }
}

/// The body of the entry at the start of `bytes` and the entry's size; `None` when it is not
/// whole or does not have its checksum.
fn entry(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<8>()?;
    let length = index(u32::from_le_bytes(*length));
    let body = rest.get(..length)?;
    let good = length > 0 && Digest::of(body).as_bytes().starts_with(checksum);
    good.then_some((body, HEADER_BYTES + length))
}
