//! The journal of a volume on this machine: what was done and is in no head yet.
//!
//! ```text
//! journal/ committed          up to which record a head has all
//!          00000007.journal   header | record | record | ...
//! record                      header | file data | changes
//! ```
//!
//! **Guarantees.** What was appended before a call of [`Syncer::sync`] that succeeded is replayed when
//! the journal is opened again, in order and once, until [`Journal::committed`] covers it. Of what was
//! appended later a beginning is replayed, and nothing behind the first record that is not whole. Bytes
//! that a record above the mark refers to stay where they are.
//!
//! **Assumes** one process, held off by a lock; a driver that makes changes durable here before a head
//! shows them, so that no number is used for two changes.
//!
//! **Fails.** After a write or a sync that failed, every later change is refused with the first cause
//! until the journal is opened again, where recovery happens; reading goes on. A full disk is no such
//! failure as long as what was half written could be taken back. A record that is not whole although it
//! was durable is an error that names the place.
//!
//! Bytes and rules: `docs/protocol/volume-journal.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_runtime::{Disk, DiskError, DiskFile};

use crate::fs::Changes;
use crate::value::JournalRef;

mod checksum;
mod error;
mod file;
mod mark;
mod record;
mod recover;
mod syncer;

use checksum::file_key;
pub use error::JournalError;
use file::{FILE_HEADER_BYTES_U64, FileHeader, JournalFile, count, path_of};
use mark::Marks;
use record::{Change, RECORD_HEADER_BYTES_U64, RecordHeader};
use recover::{Recovered, recover};
use syncer::Shared;
pub use syncer::Syncer;

/// A file of this size is left for the next one. What is committed goes file by file, so more would hold
/// room longer; fewer would mean more syncs of a folder.
pub const FILE_BYTES: u64 = 64 << 20;
/// A journal is in no fewer files than this when it is full, so that a commit frees most of it.
const FILE_COUNT_MIN: u64 = 8;
/// Most bytes of a record: of what one operation may bring, and of the memory that it is replayed with.
pub const RECORD_BYTES_MAX: u64 = 32 << 20;
/// Most bytes of a journal, whatever its config says: all its files are open, some 256 then.
pub const JOURNAL_BYTES_MAX: u64 = 16 << 30;
/// Name of the lock in the journal's folder.
const LOCK_NAME: &str = "lock";

/// How a journal behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Most bytes of all its files, up to [`JOURNAL_BYTES_MAX`].
    pub bytes_max: u64,
}

/// A change that no head is known to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its sequence number, from 1.
    pub sequence: u64,
    /// Keys and their new values.
    pub changes: Changes,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    disk: D,
    folder: PathBuf,
    config: JournalConfig,
    /// Keys of new files are made from it.
    entropy: [u8; 16],
    marks: Marks<D::File>,
    /// By number; one at least, and the last is written to.
    files: BTreeMap<u64, JournalFile<D::File>>,
    /// The sequence number of the next record.
    next: u64,
    shared: Arc<Shared<D::File>>,
    _lock: D::Lock,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal in `folder`, made when there is none, and gives what no head is known to have.
    /// `fresh` is 16 random bytes: the name of a new journal, and what keys of new files are made from.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn open(
        disk: &D,
        folder: &Path,
        config: JournalConfig,
        fresh: [u8; 16],
    ) -> Result<(Self, Vec<Replay>), JournalError> {
        disk.create_dir_all(folder)?;
        let lock = take_lock(disk, folder)?;
        let numbers = file::numbers(disk, folder)?;
        if numbers.is_empty() {
            mark::create(disk, folder, fresh)?;
        }
        let mut marks = Marks::open(disk, folder)?;
        // After a sync that failed, what was read may be in the system's memory only.
        if let Some((sequence, head)) = marks.last() {
            marks.put(sequence, head)?;
        }
        let Recovered {
            files,
            replays,
            next,
        } = recover(disk, folder, marks.newest(), &numbers)?;
        let mut journal = Self {
            disk: disk.clone(),
            folder: folder.to_owned(),
            config: JournalConfig {
                bytes_max: config.bytes_max.min(JOURNAL_BYTES_MAX),
            },
            entropy: fresh,
            marks,
            files,
            next,
            shared: Arc::new(Shared::new(next.saturating_sub(1))),
            _lock: lock,
        };
        if journal.files.is_empty() {
            journal.start_file(next)?;
        }
        Ok((journal, replays))
    }

    /// Which journal this is: what was drawn when it was made.
    #[must_use]
    pub const fn id(&self) -> [u8; 16] {
        self.marks.newest().id
    }

    /// The last sequence number that a head has, and the head's number, as [`Self::committed`] was told.
    #[must_use]
    pub const fn last_committed(&self) -> Option<(u64, u64)> {
        self.marks.last()
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.end).sum()
    }

    /// What makes it durable, for use beside it.
    #[must_use]
    pub fn syncer(&self) -> Syncer<D> {
        Syncer::new(Arc::clone(&self.shared))
    }

    /// Where the next append's data will lie when it has so many bytes.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`], [`JournalError::TooLong`], [`JournalError::Failed`].
    pub fn place(&self, data_bytes: usize) -> Result<JournalRef, JournalError> {
        self.shared.check()?;
        let bytes = record_bytes(data_bytes, 0)?;
        let (number, newest) = self.newest();
        let is_empty = newest.end == FILE_HEADER_BYTES_U64;
        let (file, start) = if is_empty || newest.end.saturating_add(bytes) <= self.file_bytes() {
            (number, newest.end)
        } else {
            (number.saturating_add(1), FILE_HEADER_BYTES_U64)
        };
        let at = JournalRef {
            file,
            offset: start.saturating_add(RECORD_HEADER_BYTES_U64),
        };
        self.check_room(at, bytes)?;
        Ok(at)
    }

    /// Adds a change, and data at the place that was just asked for; gives its sequence number. It is
    /// durable after the next sync.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; after [`JournalError::Full`], [`JournalError::NoSpace`],
    /// [`JournalError::TooLong`] and [`JournalError::NoData`] the journal is as before, after others it
    /// must be opened again.
    ///
    /// # Panics
    ///
    /// When `at` is not what [`Self::place`] says for so many bytes: the changes would refer to others.
    pub fn append(
        &mut self,
        at: JournalRef,
        data: &[u8],
        changes: &[Change],
    ) -> Result<u64, JournalError> {
        let place = self.place(data.len())?;
        assert_eq!(at, place, "data goes where its place was asked for");
        let encoded = record::encode_changes(changes);
        let bytes = record_bytes(data.len(), encoded.len())?;
        self.check_room(at, bytes)?;
        self.check_references(at, data, changes)?;
        if !self.files.contains_key(&at.file) {
            self.start_file(self.next)?;
        }
        let sequence = self.next;
        let file = self.files.get_mut(&at.file).expect("it was just made");
        let header = RecordHeader {
            sequence,
            durable: self.shared.durable(),
            data_bytes: short(data),
            changes_bytes: short(&encoded),
            body: checksum::keyed(&file.key, &[data, &encoded]),
        };
        let header = header.encode(&file.key, file.end);
        let written = file.file.write_all_at(&[&header, data, &encoded], file.end);
        if let Err(error) = written {
            return Err(take_back(&self.shared, file, error));
        }
        file.end += bytes;
        self.next += 1;
        self.shared.wrote(sequence, &file.file);
        for (place, _) in record::references(changes) {
            if let Some(file) = self.files.get_mut(&place.file) {
                file.referred = sequence;
            }
        }
        Ok(sequence)
    }

    /// Fills `into` with data that was appended.
    ///
    /// # Errors
    ///
    /// [`JournalError::NoData`], [`JournalError::Disk`].
    pub fn read(&self, at: JournalRef, into: &mut [u8]) -> Result<(), JournalError> {
        let bytes = count(into.len());
        let file = self.files.get(&at.file);
        let file = file.filter(|file| file.holds(at.offset, bytes));
        let file = file.ok_or(JournalError::NoData { at, bytes })?;
        file.file.read_exact_at(into, at.offset)?;
        Ok(())
    }

    /// Remembers that a head has all up to a sequence number, and removes the files that nothing above it
    /// needs. Whoever calls has no place of data up to there in use any more. A number below the last
    /// one changes nothing; one that the journal has not come to, because it lost what a head has, is
    /// not used again.
    ///
    /// All that was appended is durable here before the mark: so what is missing below a mark was
    /// damaged.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub fn committed(&mut self, sequence: u64, head: u64) -> Result<(), JournalError> {
        if sequence < self.marks.newest().sequence {
            return Ok(());
        }
        self.shared.sync()?;
        if sequence >= self.next {
            let first = sequence.saturating_add(1);
            self.start_file(first)?;
            self.next = first;
            self.shared.skip_to(sequence);
        }
        let put = self.marks.put(sequence, head);
        put.map_err(|error| self.no_space_or_failed(error))?;
        self.drop_files()?;
        // Nothing above the mark: what the newest file takes can go as well, if it is worth a new one.
        let is_all = sequence.saturating_add(1) == self.next;
        if !is_all || self.newest().1.end <= self.file_bytes() / 4 {
            return Ok(());
        }
        match self.start_file(self.next) {
            // The next commit tries it again.
            Err(JournalError::NoSpace(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.drop_files(),
        }
    }

    fn newest(&self) -> (u64, &JournalFile<D::File>) {
        let newest = self.files.last_key_value();
        let (number, file) = newest.expect("a journal has a file");
        (*number, file)
    }

    /// Size at which a file is left for the next.
    fn file_bytes(&self) -> u64 {
        FILE_BYTES.min(self.config.bytes_max / FILE_COUNT_MIN)
    }

    /// Whether a record of so many bytes fits, with the header of a file when it begins one.
    fn check_room(&self, at: JournalRef, bytes: u64) -> Result<(), JournalError> {
        let header = if self.files.contains_key(&at.file) {
            0
        } else {
            FILE_HEADER_BYTES_U64
        };
        let bytes_max = self.config.bytes_max;
        if self.bytes().saturating_add(header).saturating_add(bytes) > bytes_max {
            return Err(JournalError::Full { bytes_max });
        }
        Ok(())
    }

    /// Whether all that changes refer to is here, or comes with them.
    fn check_references(
        &self,
        at: JournalRef,
        data: &[u8],
        changes: &[Change],
    ) -> Result<(), JournalError> {
        let own_end = at.offset.saturating_add(count(data.len()));
        for (place, bytes) in record::references(changes) {
            let end = place.offset.saturating_add(bytes);
            let is_own = place.file == at.file && place.offset >= at.offset && end <= own_end;
            let file = self.files.get(&place.file);
            if !is_own && !file.is_some_and(|file| file.holds(place.offset, bytes)) {
                return Err(JournalError::NoData { at: place, bytes });
            }
        }
        Ok(())
    }

    /// Begins the next file, with a record of this sequence number.
    fn start_file(&mut self, first: u64) -> Result<(), JournalError> {
        let newest = self.files.last_key_value();
        let number = newest.map_or(1, |(number, _)| number.saturating_add(1));
        let header = FileHeader {
            number,
            first,
            key: file_key(&self.entropy, number),
        };
        let path = path_of(&self.folder, number);
        let created = JournalFile::create(&self.disk, &path, &self.id(), &header);
        let file = match created {
            Ok(file) => file,
            Err(error) if error.is_full() => {
                return Err(match self.disk.remove_file(&path) {
                    Err(second) if !second.is_not_found() => self.shared.fail(error),
                    Ok(()) | Err(_) => JournalError::NoSpace(error),
                });
            }
            Err(error) => return Err(self.shared.fail(error)),
        };
        self.files.insert(number, file);
        Ok(())
    }

    /// Removes the oldest files, as long as no record above the mark is in them or refers to them.
    fn drop_files(&mut self) -> Result<(), JournalError> {
        let above = self.marks.newest().sequence.saturating_add(1);
        while let Some(next) = self.files.values().nth(1).map(|file| file.first) {
            let oldest = self.files.first_entry().expect("there are two");
            if next > above || oldest.get().referred >= above {
                break;
            }
            let path = path_of(&self.folder, *oldest.key());
            drop(oldest.remove());
            let removed = self.disk.remove_file(&path);
            removed.map_err(|error| self.shared.fail(error))?;
        }
        Ok(())
    }

    fn no_space_or_failed(&self, error: DiskError) -> JournalError {
        if error.is_full() {
            JournalError::NoSpace(error)
        } else {
            self.shared.fail(error)
        }
    }
}

/// What becomes of a write that failed: when the disk is full and the file could be cut again, nothing has
/// happened.
fn take_back<F: DiskFile>(
    shared: &Shared<F>,
    file: &JournalFile<F>,
    error: DiskError,
) -> JournalError {
    if error.is_full() && file.file.set_len(file.end).is_ok() {
        JournalError::NoSpace(error)
    } else {
        shared.fail(error)
    }
}

/// Bytes of a record with so many of data and of changes.
fn record_bytes(data: usize, changes: usize) -> Result<u64, JournalError> {
    let body = count(data).saturating_add(count(changes));
    let bytes = body.saturating_add(RECORD_HEADER_BYTES_U64);
    if bytes > RECORD_BYTES_MAX {
        return Err(JournalError::TooLong {
            bytes,
            max: RECORD_BYTES_MAX,
        });
    }
    Ok(bytes)
}

/// The length of a part of a record.
fn short(part: &[u8]) -> u32 {
    u32::try_from(part.len()).expect("a record is at most 32 MiB")
}

fn take_lock<D: Disk>(disk: &D, folder: &Path) -> Result<D::Lock, JournalError> {
    disk.lock(&folder.join(LOCK_NAME)).map_err(|error| {
        if error.source.kind() == std::io::ErrorKind::WouldBlock {
            JournalError::InUse {
                folder: folder.to_owned(),
            }
        } else {
            JournalError::Disk(error)
        }
    })
}

#[cfg(test)]
mod tests;
