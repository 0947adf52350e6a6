//! DHT records on disk: a log that is appended to, and rewritten when most of it is stale.
//!
//! ```text
//! entry: u32 LE length of the body, 8 bytes of the body's digest, body (borsh of `Entry`)
//! ```
//!
//! Losing the log costs lookups, never data: records are republished by their makers. It is
//! therefore synced only when it is rewritten; a torn or damaged end is cut off at the next start,
//! and an entry that no longer checks is left out.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::{Path, PathBuf};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, Digest, UnixMillis};
use cairn_runtime::{Disk, DiskError, DiskFile, OpenMode};

use crate::RECORD_BYTES_MAX;

/// Domain of an entry's digest.
const ENTRY_CONTEXT: &str = "cairn 1 dht log entry";
/// Bytes before an entry's body.
const HEADER_BYTES: usize = 12;
/// Most bytes of an entry's body.
const BODY_BYTES_MAX: usize = RECORD_BYTES_MAX + 64;
/// A log shorter than this is not rewritten however much of it is stale.
const REWRITE_BYTES_MIN: u64 = 1 << 20;

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it belongs.
    pub(crate) key: Digest,
    /// When it ends.
    pub(crate) expires_at: UnixMillis,
    /// Whether we publish it.
    pub(crate) ours: bool,
    /// The record.
    pub(crate) value: Vec<u8>,
}

/// An entry's body on disk.
type Body = (Digest, UnixMillis, bool, Bounded<u8, RECORD_BYTES_MAX>);

/// The log of one network, open for appending.
#[derive(Debug)]
pub(crate) struct RecordLog<D: Disk> {
    disk: D,
    path: PathBuf,
    file: Option<D::File>,
    /// Where the next entry goes.
    bytes: u64,
    /// Bytes after the last rewrite.
    live_bytes: u64,
}

impl<D: Disk> RecordLog<D> {
    /// Opens the log in `path`, made when it does not exist, and reads what it has. Of several
    /// entries under one key the last comes last.
    pub(crate) fn open(
        disk: D,
        path: &Path,
        bytes_max: u64,
    ) -> Result<(Self, Vec<Entry>), DiskError> {
        // Twice what is kept, at most, before a rewrite; a log beyond that is not ours.
        let bytes_max = bytes_max
            .saturating_mul(3)
            .saturating_add(REWRITE_BYTES_MIN);
        let content = match disk.read_file(path, bytes_max) {
            Ok(content) => content,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) if error.source.kind() == std::io::ErrorKind::InvalidData => Vec::new(),
            Err(error) => return Err(error),
        };
        let (entries, used) = parse(&content);
        let file = disk.open(path, OpenMode::ReadWriteOrCreate)?;
        file.set_len(used)?;
        let log = Self {
            disk,
            path: path.to_owned(),
            file: Some(file),
            bytes: used,
            live_bytes: used,
        };
        Ok((log, entries))
    }

    /// Whether most of the log is stale.
    pub(crate) const fn wants_rewrite(&self) -> bool {
        self.bytes > REWRITE_BYTES_MIN && self.bytes > self.live_bytes.saturating_mul(2)
    }

    /// Appends what changed.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), DiskError> {
        if entries.is_empty() {
            return Ok(());
        }
        let content = join(entries);
        if self.file.is_none() {
            self.file = Some(self.disk.open(&self.path, OpenMode::ReadWriteOrCreate)?);
        }
        if let Some(file) = &self.file {
            file.write_all_at(&[&content], self.bytes)?;
        }
        self.bytes = self.bytes.saturating_add(length(&content));
        Ok(())
    }

    /// Replaces the log by what is kept now.
    pub(crate) fn rewrite(&mut self, entries: &[Entry]) -> Result<(), DiskError> {
        let content = join(entries);
        self.file = None;
        self.disk.replace_file(&self.path, &content)?;
        self.bytes = length(&content);
        self.live_bytes = self.bytes;
        self.file = Some(self.disk.open(&self.path, OpenMode::ReadWrite)?);
        Ok(())
    }
}

/// The whole entries at the start of `content`, and how many bytes they take.
fn parse(content: &[u8]) -> (Vec<Entry>, u64) {
    let mut entries = Vec::new();
    let mut rest = content;
    while let Some((entry, after)) = parse_one(rest) {
        entries.push(entry);
        rest = after;
    }
    let used = content.len().saturating_sub(rest.len());
    (entries, u64::try_from(used).unwrap_or(u64::MAX))
}

fn parse_one(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (length, digest) = header.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > BODY_BYTES_MAX {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    if digest != short_digest(body) {
        return None;
    }
    let (key, expires_at, ours, value) = Body::try_from_slice(body).ok()?;
    let entry = Entry {
        key,
        expires_at,
        ours,
        value: value.into_vec(),
    };
    Some((entry, rest))
}

fn join(entries: &[Entry]) -> Vec<u8> {
    let mut content = Vec::new();
    for entry in entries {
        let value = Bounded::new(entry.value.clone()).expect("checked when it was kept");
        let body: Body = (entry.key, entry.expires_at, entry.ours, value);
        let mut bytes = Vec::new();
        body.serialize(&mut bytes)
            .expect("writing to memory does not fail");
        let length = u32::try_from(bytes.len()).expect("a record is at most 12 KiB");
        content.extend_from_slice(&length.to_le_bytes());
        content.extend_from_slice(&short_digest(&bytes));
        content.extend_from_slice(&bytes);
    }
    content
}

fn short_digest(body: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *Digest::keyed(ENTRY_CONTEXT, body).as_bytes();
    [a, b, c, d, e, f, g, h]
}

fn length(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap_or(u64::MAX)
}
