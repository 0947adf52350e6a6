//! The mark: up to which record a head has all.
//!
//! ```text
//! offset 0           4,096        8,192
//!        ├ slot ─ 0s ┼ slot ─ 0s ─┤
//! slot = M (4) | id of the journal (16) | count (8) | sequence (8) | head (8) | checksum (8)
//! M: 1, "VJM"; checksum: in the domain "cairn 1 volume journal mark", over the 44 bytes before
//! ```
//!
//! The slots are written in turn, in place: a full disk is no obstacle, and a write that is cut off leaves
//! the mark before it.

use std::path::Path;

use cairn_runtime::{Disk, DiskError, DiskFile, OpenMode};

use super::JournalError;
use super::checksum::{Checksum, in_domain};

/// Name of the file.
const MARK_NAME: &str = "committed";
/// Begins every slot; its first byte is the version.
const MARK_MAGIC: [u8; 4] = *b"\x01VJM";
/// Domain of the checksums.
const MARK_CONTEXT: &str = "cairn 1 volume journal mark";
/// From one slot to the next: no write of one touches the other.
const SLOT_BYTES: usize = 4096;
/// [`SLOT_BYTES`] as a file offset.
const SLOT_BYTES_U64: u64 = 4096;
/// Bytes of a mark in its slot.
const MARK_BYTES: usize = SUMMED_BYTES + size_of::<Checksum>();
/// Of these, what the checksum is over.
const SUMMED_BYTES: usize = 44;

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which journal it is.
    pub(super) id: [u8; 16],
    /// How many marks there were before.
    pub(super) count: u64,
    /// A head has all up to this record.
    pub(super) sequence: u64,
    /// The head's number.
    pub(super) head: u64,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MARK_BYTES);
        bytes.extend_from_slice(&MARK_MAGIC);
        bytes.extend_from_slice(&self.id);
        for number in [self.count, self.sequence, self.head] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = in_domain(MARK_CONTEXT, &[&bytes]);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let (summed, rest) = slot.split_first_chunk::<SUMMED_BYTES>()?;
        let (found, _) = rest.split_first_chunk::<8>()?;
        let (magic, rest) = summed.split_first_chunk::<4>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (count, rest) = rest.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (head, _) = rest.split_first_chunk::<8>()?;
        let is_whole = *magic == MARK_MAGIC && in_domain(MARK_CONTEXT, &[summed]) == *found;
        is_whole.then_some(Self {
            id: *id,
            count: u64::from_le_bytes(*count),
            sequence: u64::from_le_bytes(*sequence),
            head: u64::from_le_bytes(*head),
        })
    }
}

/// The file of marks.
#[derive(Debug)]
pub(super) struct Marks<F> {
    file: F,
    newest: Mark,
}

/// Makes the file for a journal of this name, unless it is there.
pub(super) fn create<D: Disk>(disk: &D, folder: &Path, id: [u8; 16]) -> Result<(), DiskError> {
    let path = folder.join(MARK_NAME);
    match disk.open(&path, OpenMode::Read) {
        Ok(_) => return Ok(()),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    let first = Mark {
        id,
        count: 0,
        sequence: 0,
        head: 0,
    };
    let mut content = first.encode();
    content.resize(2 * SLOT_BYTES, 0);
    disk.replace_file(&path, &content)
}

impl<F: DiskFile> Marks<F> {
    /// Opens the file and finds the newest mark.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(MARK_NAME);
        let content = disk.read_file(&path, 2 * SLOT_BYTES_U64)?;
        let marks = content.chunks(SLOT_BYTES).filter_map(Mark::decode);
        let Some(newest) = marks.max_by_key(|mark| mark.count) else {
            return Err(JournalError::Damaged { path, offset: 0 });
        };
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        Ok(Self { file, newest })
    }

    /// Sets the mark, durably. After an error it is this one or the one before.
    pub(super) fn put(&mut self, sequence: u64, head: u64) -> Result<(), DiskError> {
        let mark = Mark {
            count: self.newest.count.saturating_add(1),
            sequence,
            head,
            ..self.newest
        };
        let offset = (mark.count % 2).saturating_mul(SLOT_BYTES_U64);
        self.file.write_all_at(&[&mark.encode()], offset)?;
        self.file.sync()?;
        self.newest = mark;
        Ok(())
    }
}

impl<F> Marks<F> {
    /// The newest mark; of a new journal one that marks nothing.
    pub(super) const fn newest(&self) -> &Mark {
        &self.newest
    }

    /// Its sequence number and head; `None` when none was set yet.
    pub(super) const fn last(&self) -> Option<(u64, u64)> {
        if self.newest.count == 0 {
            return None;
        }
        Some((self.newest.sequence, self.newest.head))
    }
}
