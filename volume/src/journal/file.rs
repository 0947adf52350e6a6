//! Files of the journal: their names and their headers.
//!
//! ```text
//! offset 0    4     12      20    52         60
//!        ├ M ─┼ n ──┼ first ┼ key ┼ checksum ┤ records
//! M: 1, "VJF"; n: the file's number; first: the sequence number of its first record
//! checksum: in the domain "cairn 1 volume journal file", over the journal's id and the 52 bytes before
//! ```
//!
//! A header and its file's name are durable before the first record is written, so one that does not read
//! was damaged, or the power went out when the file was made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_runtime::{Disk, DiskError, DiskFile, EntryKind, OpenMode};

use super::checksum::{Checksum, FileKey, in_domain};
use super::{FILE_BYTES, JournalError, RECORD_BYTES_MAX};

/// Begins every file; its first byte is the version.
const FILE_MAGIC: [u8; 4] = *b"\x01VJF";
/// Domain of the headers' checksums.
const HEADER_CONTEXT: &str = "cairn 1 volume journal file";
/// Bytes before the first record.
pub(super) const FILE_HEADER_BYTES: usize = 60;
/// [`FILE_HEADER_BYTES`] as a file offset.
pub(super) const FILE_HEADER_BYTES_U64: u64 = 60;
/// Of the header, what its checksum is over.
const SUMMED_BYTES: usize = FILE_HEADER_BYTES - size_of::<Checksum>();
/// Most bytes of a file: one record may reach over its end.
const FILE_BYTES_MAX: u64 = FILE_BYTES + RECORD_BYTES_MAX;
/// How the names of files end.
const SUFFIX: &str = ".journal";

/// What a file's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The file's number, from 1.
    pub(super) number: u64,
    /// The sequence number that its first record has.
    pub(super) first: u64,
    /// The key of its records' checksums.
    pub(super) key: FileKey,
}

impl FileHeader {
    fn encode(&self, id: &[u8; 16]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
        bytes.extend_from_slice(&FILE_MAGIC);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.key);
        let checksum = in_domain(HEADER_CONTEXT, &[id, &bytes]);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn decode(bytes: &[u8; FILE_HEADER_BYTES], id: &[u8; 16]) -> Option<Self> {
        let (summed, found) = bytes.split_first_chunk::<SUMMED_BYTES>()?;
        let (magic, rest) = summed.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (first, key) = rest.split_first_chunk::<8>()?;
        let is_whole = *magic == FILE_MAGIC && in_domain(HEADER_CONTEXT, &[id, summed]) == *found;
        let header = Self {
            number: u64::from_le_bytes(*number),
            first: u64::from_le_bytes(*first),
            key: key.try_into().ok()?,
        };
        is_whole.then_some(header)
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct JournalFile<F> {
    pub(super) file: Arc<F>,
    pub(super) key: FileKey,
    /// The sequence number that its first record has.
    pub(super) first: u64,
    /// Where the next record begins.
    pub(super) end: u64,
    /// The last record above the mark that refers to bytes in it, 0 when none does.
    pub(super) referred: u64,
}

/// What opening a file found.
#[derive(Debug)]
pub(super) enum Opened<F> {
    /// A file; its end is not known yet.
    Whole(JournalFile<F>),
    /// No whole header, and nothing behind it: the power may have gone out when it was made.
    Stillborn,
    /// No whole header, and something behind it.
    Damaged,
}

impl<F: DiskFile> JournalFile<F> {
    /// Makes a file durably.
    pub(super) fn create<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        id: &[u8; 16],
        header: &FileHeader,
    ) -> Result<Self, DiskError> {
        let file = disk.open(path, OpenMode::CreateNew)?;
        file.write_all_at(&[&header.encode(id)], 0)?;
        file.sync()?;
        disk.sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))?;
        Ok(Self::new(file, header))
    }

    /// Opens the file of a number.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        id: &[u8; 16],
        number: u64,
    ) -> Result<Opened<F>, DiskError> {
        let file = disk.open(path, OpenMode::ReadWrite)?;
        let bytes = file.len()?;
        if bytes < FILE_HEADER_BYTES_U64 {
            return Ok(Opened::Stillborn);
        }
        let mut header = [0; FILE_HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        Ok(match FileHeader::decode(&header, id) {
            Some(header) if header.number == number => Opened::Whole(Self::new(file, &header)),
            None if bytes == FILE_HEADER_BYTES_U64 => Opened::Stillborn,
            Some(_) | None => Opened::Damaged,
        })
    }

    fn new(file: F, header: &FileHeader) -> Self {
        Self {
            file: Arc::new(file),
            key: header.key,
            first: header.first,
            end: FILE_HEADER_BYTES_U64,
            referred: 0,
        }
    }

    /// All its bytes.
    pub(super) fn content(&self, path: &Path) -> Result<Vec<u8>, JournalError> {
        let bytes = self.file.len()?;
        let fitting = Some(bytes).filter(|bytes| *bytes <= FILE_BYTES_MAX);
        let length = fitting.and_then(|bytes| usize::try_from(bytes).ok());
        let length = length.ok_or_else(|| JournalError::Damaged {
            path: path.to_owned(),
            offset: FILE_BYTES_MAX,
        })?;
        let mut content = vec![0; length];
        self.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// Writes what is read from an offset on again, so that a sync makes it durable whatever became of
    /// one before.
    pub(super) fn write_again(&self, path: &Path, from: u64) -> Result<(), JournalError> {
        let content = self.content(path)?;
        let from_index = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = content.get(from_index..).unwrap_or_default();
        self.file.write_all_at(&[rest], from)?;
        Ok(())
    }
}

impl<F> JournalFile<F> {
    /// Whether so many bytes of records are at an offset.
    pub(super) fn holds(&self, offset: u64, bytes: u64) -> bool {
        let end = offset.checked_add(bytes);
        offset >= FILE_HEADER_BYTES_U64 && end.is_some_and(|end| end <= self.end)
    }
}

/// Where the file of a number is.
pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}{SUFFIX}"))
}

/// The numbers of the files in a folder, rising.
pub(super) fn numbers<D: Disk>(disk: &D, folder: &Path) -> Result<Vec<u64>, DiskError> {
    let entries = disk.list(folder)?.into_iter();
    let mut numbers: Vec<u64> = entries
        .filter(|entry| entry.kind == EntryKind::File)
        .filter_map(|entry| {
            let number = entry.name.strip_suffix(SUFFIX)?.parse::<u64>().ok()?;
            (path_of(folder, number) == folder.join(&entry.name)).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A length in memory as one in a file.
///
/// # Panics
///
/// Never on machines that we build for.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).expect("usize fits in u64 on our systems")
}
