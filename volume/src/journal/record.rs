//! Records of the journal.
//!
//! ```text
//! offset 0    4          12        20           24              28       36         44
//!        ├ M ─┼ sequence ┼ durable ┼ data bytes ┼ changes bytes ┼ body's ┼ header's ┤ data | changes
//! M: 1, "VJR"; durable: the last record that was durable when this one was written
//! body's: checksum of data and changes; header's: of the record's offset in the file and the 36 bytes
//! before; both under the file's key
//!
//! changes = count (4) | change | change | ...
//! change  = bytes of the key (2) | key | 0, or 1 and bytes of the value (4) | value
//! ```
//!
//! Data is what others chose. They know no file's key, and a header is one only at its own offset, so no
//! data is taken for a header.

use super::checksum::{Checksum, FileKey, keyed};
use super::file::count;
use crate::fs::Changes;
use crate::key::{KEY_BYTES_MAX, Key, KeyKind};
use crate::value::{Extent, JournalRef, Source, decode};

/// Begins every record; its first byte is the version.
const RECORD_MAGIC: [u8; 4] = *b"\x01VJR";
/// Bytes before a record's data.
pub(super) const RECORD_HEADER_BYTES: usize = 44;
/// [`RECORD_HEADER_BYTES`] as a file offset.
pub(super) const RECORD_HEADER_BYTES_U64: u64 = 44;
/// Of the header, what its checksum is over.
const SUMMED_BYTES: usize = RECORD_HEADER_BYTES - size_of::<Checksum>();
/// Bytes of the shortest change: one that takes the empty key away.
const CHANGE_BYTES_MIN: usize = 3;

/// A key and its new value.
pub(super) type Change = (Key, Option<Box<[u8]>>);

/// What a record's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) sequence: u64,
    /// The last record that was durable when this one was written.
    pub(super) durable: u64,
    pub(super) data_bytes: u32,
    pub(super) changes_bytes: u32,
    /// Of data and changes.
    pub(super) body: Checksum,
}

/// A whole record at the beginning of some bytes.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) header: RecordHeader,
    /// Encoded changes.
    pub(super) changes: &'a [u8],
    /// What follows the record.
    pub(super) behind: &'a [u8],
}

impl RecordHeader {
    /// The header of a record at `offset` in a file.
    pub(super) fn encode(&self, key: &FileKey, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES);
        bytes.extend_from_slice(&RECORD_MAGIC);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.durable.to_le_bytes());
        bytes.extend_from_slice(&self.data_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.changes_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.body);
        let checksum = keyed(key, &[&offset.to_le_bytes(), &bytes]);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// The header at the beginning of the bytes that are at `offset` in a file; `None` when there is none.
    pub(super) fn decode(bytes: &[u8], key: &FileKey, offset: u64) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        if *magic != RECORD_MAGIC {
            return None;
        }
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (durable, rest) = rest.split_first_chunk::<8>()?;
        let (data_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (changes_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_first_chunk::<8>()?;
        let (found, _) = rest.split_first_chunk::<8>()?;
        let summed = bytes.get(..SUMMED_BYTES)?;
        let is_whole = keyed(key, &[&offset.to_le_bytes(), summed]) == *found;
        is_whole.then_some(Self {
            sequence: u64::from_le_bytes(*sequence),
            durable: u64::from_le_bytes(*durable),
            data_bytes: u32::from_le_bytes(*data_bytes),
            changes_bytes: u32::from_le_bytes(*changes_bytes),
            body: *body,
        })
    }

    /// Bytes of the record.
    pub(super) fn record_bytes(&self) -> u64 {
        let body = u64::from(self.data_bytes) + u64::from(self.changes_bytes);
        RECORD_HEADER_BYTES_U64 + body
    }
}

/// The record at the beginning of the bytes that are at `offset` in a file; `None` when there is no whole
/// one.
pub(super) fn whole<'a>(bytes: &'a [u8], key: &FileKey, offset: u64) -> Option<Found<'a>> {
    let header = RecordHeader::decode(bytes, key, offset)?;
    let (_, body) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
    let (data, rest) = body.split_at_checked(usize::try_from(header.data_bytes).ok()?)?;
    let changes_bytes = usize::try_from(header.changes_bytes).ok()?;
    let (changes, behind) = rest.split_at_checked(changes_bytes)?;
    let is_whole = keyed(key, &[data, changes]) == header.body;
    is_whole.then_some(Found {
        header,
        changes,
        behind,
    })
}

/// Encodes changes.
///
/// # Panics
///
/// Never: a key and a value fit a page, and memory does not hold 2^32 changes of one operation.
pub(super) fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let value_bytes = |value: &Option<Box<[u8]>>| value.as_ref().map_or(0, |value| value.len() + 4);
    let bytes: usize = changes
        .iter()
        .map(|(key, value)| CHANGE_BYTES_MIN + key.as_bytes().len() + value_bytes(value))
        .sum();
    let mut encoded = Vec::with_capacity(4 + bytes);
    let changes_count = u32::try_from(changes.len()).expect("an operation changes few keys");
    encoded.extend_from_slice(&changes_count.to_le_bytes());
    for (key, value) in changes {
        let key = key.as_bytes();
        let key_bytes = u16::try_from(key.len()).expect("a key is short");
        encoded.extend_from_slice(&key_bytes.to_le_bytes());
        encoded.extend_from_slice(key);
        encoded.push(u8::from(value.is_some()));
        if let Some(value) = value {
            let value_bytes = u32::try_from(value.len()).expect("a value fits a page");
            encoded.extend_from_slice(&value_bytes.to_le_bytes());
            encoded.extend_from_slice(value);
        }
    }
    encoded
}

/// Decodes changes; `None` when they are none, or not by rising keys.
pub(super) fn decode_changes(bytes: &[u8]) -> Option<Changes> {
    let (changes_count, mut rest) = bytes.split_first_chunk::<4>()?;
    let changes_count = u32::from_le_bytes(*changes_count);
    let fitting = rest.len() / CHANGE_BYTES_MIN;
    if u64::from(changes_count) > count(fitting) {
        return None;
    }
    let mut changes = Vec::with_capacity(usize::try_from(changes_count).ok()?);
    for _ in 0..changes_count {
        let (change, behind) = decode_change(rest)?;
        let last: Option<&Change> = changes.last();
        if last.is_some_and(|(last, _)| *last >= change.0) {
            return None;
        }
        changes.push(change);
        rest = behind;
    }
    rest.is_empty().then_some(changes)
}

fn decode_change(bytes: &[u8]) -> Option<(Change, &[u8])> {
    let (key_bytes, rest) = bytes.split_first_chunk::<2>()?;
    let key_bytes = usize::from(u16::from_le_bytes(*key_bytes));
    let (key, rest) = rest.split_at_checked(key_bytes)?;
    let (tag, rest) = rest.split_first()?;
    if key_bytes > KEY_BYTES_MAX {
        return None;
    }
    let key = Key::from_bytes(key);
    match tag {
        0 => Some(((key, None), rest)),
        1 => {
            let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
            let value_bytes = usize::try_from(u32::from_le_bytes(*value_bytes)).ok()?;
            let (value, rest) = rest.split_at_checked(value_bytes)?;
            Some(((key, Some(value.into())), rest))
        }
        _ => None,
    }
}

/// Places in the journal that extents among the changes refer to, and how many bytes of each.
pub(super) fn references(changes: &[Change]) -> impl Iterator<Item = (JournalRef, u64)> {
    changes.iter().filter_map(|(key, value)| {
        let Some(KeyKind::Extent(..)) = key.kind() else {
            return None;
        };
        let extent: Extent = decode(value.as_deref()?)?;
        match extent.source {
            Source::Journal(at) => Some((at, extent.bytes)),
            Source::Run { .. } | Source::Zeros => None,
        }
    })
}
