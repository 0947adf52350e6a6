//! A file of blocks, appended one by one, each durable before the next.
//!
//! ```text
//! offset 0    4        8             40
//!        ├ CBLK ┼ length ┼ checksum    ┼ masked block ┤ and so on
//! length: u32 LE; checksum: BLAKE3-derive-key("cairn 1 block log", block)
//! masked block: block XOR BLAKE3-derive-key("cairn 1 block log mask", checksum), as long as it is
//! ```
//!
//! Whoever makes a block decides what is in it. The mask depends on all of it, so nobody can make one in
//! whose record another whole record is seen.
//!
//! Since every append is synced before the next, a crash leaves at most one record that is not
//! whole, at the end. Anything else that does not read is damage and is never passed over.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::path::{Path, PathBuf};

use cairn_core::{Digest, Record};
use cairn_ledger::Block;
use cairn_ledger::block::BLOCK_BYTES_MAX;
use cairn_runtime::{Disk, DiskError, DiskFile, OpenMode};

/// Begins every record, so that one can be found behind damage.
const MAGIC: [u8; 4] = *b"CBLK";
/// Bytes before a record's block.
const HEADER_BYTES: usize = 4 + 4 + Digest::BYTES;
/// Most bytes of a record.
const RECORD_BYTES_MAX: usize = HEADER_BYTES + BLOCK_BYTES_MAX;
/// Domain of the checksums.
const CHECKSUM_CONTEXT: &str = "cairn 1 block log";
/// Domain of the masks.
const MASK_CONTEXT: &str = "cairn 1 block log mask";

/// An open file of blocks, to append to.
#[derive(Debug)]
pub(crate) struct BlockLog<F> {
    file: F,
    end: u64,
}

/// Why a file of blocks does not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record is damaged and others follow, so it is no torn end.
    #[error("{}: damaged at byte {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
}

impl<F: DiskFile> BlockLog<F> {
    /// Makes an empty file whose name is durable.
    pub(crate) fn create<D: Disk<File = F>>(disk: &D, path: &Path) -> Result<Self, DiskError> {
        let file = disk.open(path, OpenMode::ReadWriteOrCreate)?;
        file.set_len(0)?;
        file.sync()?;
        disk.sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))?;
        Ok(Self { file, end: 0 })
    }

    /// Bytes in it.
    pub(crate) const fn bytes(&self) -> u64 {
        self.end
    }

    /// Adds a block. It is durable when this returns; after an error the file must be opened anew.
    pub(crate) fn append(&mut self, block: &Block) -> Result<(), DiskError> {
        let bytes = block.encode();
        let length = u32::try_from(bytes.len()).expect("a block is at most 256 KiB");
        let checksum = checksum(&bytes);
        let masked = mask(&checksum, bytes);
        self.file.write_all_at(
            &[&MAGIC, &length.to_le_bytes(), checksum.as_bytes(), &masked],
            self.end,
        )?;
        self.file.sync()?;
        let added = u64::from(length).saturating_add(HEADER_BYTES_U64);
        self.end = self.end.saturating_add(added);
        Ok(())
    }

    /// Cuts the file after its last whole block, durably.
    fn truncate(&mut self, end: u64) -> Result<(), DiskError> {
        self.file.set_len(end)?;
        self.file.sync()?;
        self.end = end;
        Ok(())
    }
}

/// [`HEADER_BYTES`] as a file offset.
const HEADER_BYTES_U64: u64 = 40;
const _: () = assert!(HEADER_BYTES == 40);

/// What may end a file of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A whole record: blocks were written to a later file.
    Whole,
    /// Possibly a torn record, which is cut off: this is the last file.
    MaybeTorn,
}

/// An opened file of blocks.
#[derive(Debug)]
pub(crate) struct Opened<F> {
    /// To append to.
    pub(crate) log: BlockLog<F>,
    /// Bytes of a torn record that were cut off.
    pub(crate) cut_bytes: u64,
}

/// Reads a file of blocks from its beginning, hands each block to `each` in order, and cuts off a
/// torn end if there may be one.
pub(crate) fn open<D, E>(
    disk: &D,
    path: &Path,
    end: End,
    mut each: impl FnMut(Block) -> Result<(), E>,
) -> Result<Opened<D::File>, E>
where
    D: Disk,
    E: From<LogError>,
{
    let disk_error = |error| E::from(LogError::Disk(error));
    let file = disk.open(path, OpenMode::ReadWrite).map_err(disk_error)?;
    let bytes = file.len().map_err(disk_error)?;
    let mut log = BlockLog { file, end: 0 };
    while log.end < bytes {
        let left = bytes.saturating_sub(log.end);
        let Some((block, used)) = read_record(&log.file, log.end, left).map_err(disk_error)? else {
            check_torn(&log.file, path, (log.end, left), end).map_err(E::from)?;
            let whole = log.end;
            log.truncate(whole).map_err(disk_error)?;
            return Ok(Opened {
                log,
                cut_bytes: left,
            });
        };
        each(block)?;
        log.end = log.end.saturating_add(used);
    }
    Ok(Opened { log, cut_bytes: 0 })
}

/// The record at `offset` and its size; `None` when there is no whole one in the `left` bytes.
fn read_record<F: DiskFile>(
    file: &F,
    offset: u64,
    left: u64,
) -> Result<Option<(Block, u64)>, DiskError> {
    if left < HEADER_BYTES_U64 {
        return Ok(None);
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, offset)?;
    let Some(length) = claimed_length(&header) else {
        return Ok(None);
    };
    let used = HEADER_BYTES_U64.saturating_add(u64::from(length));
    let Some(length) = usize::try_from(length).ok().filter(|_| used <= left) else {
        return Ok(None);
    };
    let mut body = vec![0; length];
    file.read_exact_at(&mut body, offset.saturating_add(HEADER_BYTES_U64))?;
    // A record with the right checksum that is no block of this software is damage all the same.
    let block = unmasked(&header, body).and_then(|bytes| Block::decode(&bytes).ok());
    Ok(block.map(|block| (block, used)))
}

/// Whether what follows the last whole record can be what a crash left of one append: no longer
/// than one record, and with no whole record in it.
fn check_torn<F: DiskFile>(
    file: &F,
    path: &Path,
    (offset, left): (u64, u64),
    end: End,
) -> Result<(), LogError> {
    let damaged = || LogError::Damaged {
        path: path.to_owned(),
        offset,
    };
    let length = usize::try_from(left)
        .ok()
        .filter(|left| *left <= RECORD_BYTES_MAX && end == End::MaybeTorn)
        .ok_or_else(damaged)?;
    let mut rest = vec![0; length];
    file.read_exact_at(&mut rest, offset)?;
    // From the first byte on: a whole record there did not decode.
    let holds_record = (0..rest.len()).any(|at| {
        rest.get(at..)
            .and_then(|rest| rest.split_first_chunk::<HEADER_BYTES>())
            .is_some_and(|(header, after)| {
                claimed_length(header)
                    .and_then(|length| usize::try_from(length).ok())
                    .and_then(|length| after.get(..length))
                    .is_some_and(|body| unmasked(header, body.to_vec()).is_some())
            })
    });
    if holds_record { Err(damaged()) } else { Ok(()) }
}

/// The length that a header claims; `None` when it is no header.
fn claimed_length(header: &[u8; HEADER_BYTES]) -> Option<u32> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let fits = usize::try_from(length).is_ok_and(|length| length <= BLOCK_BYTES_MAX);
    (*magic == MAGIC && fits).then_some(length)
}

/// The block's bytes of a record's; `None` when they are not those of its checksum.
fn unmasked(header: &[u8; HEADER_BYTES], body: Vec<u8>) -> Option<Vec<u8>> {
    let found = Digest::new(*header.last_chunk()?);
    let bytes = mask(&found, body);
    (checksum(&bytes) == found).then_some(bytes)
}

/// Masks a block of this checksum, or takes the mask away.
fn mask(checksum: &Digest, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key(MASK_CONTEXT);
    hasher.update(checksum.as_bytes());
    let mut stream = vec![0; bytes.len()];
    hasher.finalize_xof().fill(&mut stream);
    for (byte, masking) in bytes.iter_mut().zip(stream) {
        *byte ^= masking;
    }
    bytes
}

fn checksum(block: &[u8]) -> Digest {
    Digest::keyed(CHECKSUM_CONTEXT, block)
}

#[cfg(test)]
mod tests;
