//! The end of a segment: the summary says which runs there are, the trailer where the summary is.
//!
//! ```text
//! summary = version (u8) | entry | entry | ...
//! entry   = kind (u8) | bytes (u32) | stored (u32) | key (u16) | owner
//! owner   = 1 page:       level (u8) | length (u16) | first key
//!           2 data:       inode (u64) | offset (u64)
//!           3 superblock: none
//! trailer = version (u8) | key (u16) | salt (16) | frame: bytes of the summary (u32)
//! ```
//!
//! Integers are little-endian. The summary run ends where the trailer begins, so that its length says where
//! it is; each run begins where the one before ends.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use bytes::Bytes;
use cairn_client::segment_store::SegmentAt;

use super::RunOwner;
use crate::key::{InodeNumber, KEY_BYTES_MAX, Key, SegmentId};
use crate::keyring::Keyring;
use crate::run::{self, RunError, RunRef, SaltBytes, sealed_bytes};

/// Bytes of a trailer, the last of a payload.
pub const TRAILER_BYTES: u32 = 39;
/// Bytes of a trailer before its frame.
const TRAILER_HEAD_BYTES: usize = 1 + 2 + 16;
/// Bytes of text in a trailer's frame.
const TRAILER_TEXT_BYTES: u32 = 4;
/// The version that a summary and a trailer begin with.
const VERSION: u8 = 1;
/// Most bytes of an entry: a page's with the longest key.
pub(super) const ENTRY_BYTES_MAX: usize = 1 + 4 + 4 + 2 + 1 + 2 + KEY_BYTES_MAX;

/// Kinds of owners.
const PAGE: u8 = 1;
const DATA: u8 = 2;
const SUPERBLOCK: u8 = 3;

/// Why the end of a segment can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// The payload ends before it could have begun.
    #[error("{payload_bytes} bytes of a payload are too few for its summary and its trailer")]
    Short {
        /// Bytes of the payload.
        payload_bytes: u32,
    },
    /// The store gave fewer or more bytes than a trailer has.
    #[error("expected a trailer of {expected} bytes, found {found}")]
    Length {
        /// What it has.
        expected: u32,
        /// What was given.
        found: usize,
    },
    /// It is of a version that is not known here.
    #[error("expected version {expected} of a segment's end, found {found}")]
    Version {
        /// The known one.
        expected: u8,
        /// What it says.
        found: u8,
    },
    /// The trailer does not open.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An entry of the summary is none.
    #[error("entry {number} of a segment's summary is damaged")]
    Entry {
        /// Its number, from 0.
        number: usize,
    },
    /// The runs do not reach to the summary.
    #[error("a segment's runs end at byte {found}, its summary begins at {expected}")]
    Gap {
        /// Where the summary begins.
        expected: u32,
        /// Where the runs end that it has.
        found: u32,
    },
}

/// Where the trailer of a payload of so many bytes is.
///
/// # Errors
///
/// [`SummaryError::Short`].
pub fn trailer_range(payload_bytes: u32) -> Result<Range<u32>, SummaryError> {
    let start = payload_bytes.checked_sub(TRAILER_BYTES);
    let start = start.ok_or(SummaryError::Short { payload_bytes })?;
    Ok(start..payload_bytes)
}

/// Reads a trailer, which lies at [`trailer_range`]; gives what refers to the summary. That is opened as any
/// run ([`run::open`]) and read by [`decode_summary`].
///
/// # Errors
///
/// [`SummaryError`].
pub fn open_trailer(
    keys: &Keyring,
    at: SegmentAt,
    segment: SegmentId,
    payload_bytes: u32,
    trailer: Bytes,
) -> Result<RunRef, SummaryError> {
    let range = trailer_range(payload_bytes)?;
    let short = SummaryError::Short { payload_bytes };
    let wrong = SummaryError::Length {
        expected: TRAILER_BYTES,
        found: trailer.len(),
    };
    if u32::try_from(trailer.len()) != Ok(TRAILER_BYTES) {
        return Err(wrong);
    }
    let mut head = Rest(&trailer);
    let version = head.number().ok_or(wrong)?;
    check_version(version)?;
    let key = u16::from_le_bytes(head.array().ok_or(wrong)?);
    let salt = SaltBytes(head.array().ok_or(wrong)?);
    let frame = sealed_bytes(u64::from(TRAILER_TEXT_BYTES));
    let offset = u64::from(range.end).saturating_sub(frame);
    let sealed = RunRef {
        segment,
        salt,
        offset: u32::try_from(offset).map_err(|_| short)?,
        bytes: TRAILER_TEXT_BYTES,
        stored: TRAILER_TEXT_BYTES,
        key,
    };
    let text = run::open(keys, at, &sealed, trailer.slice(TRAILER_HEAD_BYTES..))?;
    let bytes = u32::from_le_bytes(Rest(&text).array().ok_or(wrong)?);
    let offset = u64::from(range.start).checked_sub(sealed_bytes(u64::from(bytes)));
    let offset = offset.and_then(|offset| u32::try_from(offset).ok());
    Ok(RunRef {
        segment,
        salt,
        offset: offset.ok_or(short)?,
        bytes,
        stored: bytes,
        key,
    })
}

/// Reads a summary, to which `summary` refers: the runs of its segment in order.
///
/// # Errors
///
/// [`SummaryError`].
pub fn decode_summary(
    plain: &[u8],
    summary: &RunRef,
) -> Result<Vec<(RunOwner, RunRef)>, SummaryError> {
    let mut rest = Rest(plain);
    let damaged = SummaryError::Entry { number: 0 };
    check_version(rest.number().ok_or(damaged)?)?;
    let mut runs = Vec::new();
    let mut offset = 0;
    while !rest.0.is_empty() {
        let damaged = SummaryError::Entry { number: runs.len() };
        let (owner, run) = entry(&mut rest, summary, offset).ok_or(damaged)?;
        offset = run.payload_range().end;
        runs.push((owner, run));
    }
    if offset != summary.offset {
        return Err(SummaryError::Gap {
            expected: summary.offset,
            found: offset,
        });
    }
    Ok(runs)
}

const fn check_version(found: u8) -> Result<(), SummaryError> {
    if found == VERSION {
        return Ok(());
    }
    Err(SummaryError::Version {
        expected: VERSION,
        found,
    })
}

/// One entry, of the run at `offset`; `None` when it is none.
fn entry(rest: &mut Rest<'_>, summary: &RunRef, offset: u32) -> Option<(RunOwner, RunRef)> {
    let kind = rest.number()?;
    let run = RunRef {
        offset,
        bytes: u32::from_le_bytes(rest.array()?),
        stored: u32::from_le_bytes(rest.array()?),
        key: u16::from_le_bytes(rest.array()?),
        ..*summary
    };
    run.check().ok()?;
    let owner = match kind {
        PAGE => {
            let level = rest.number()?;
            let length = usize::from(u16::from_le_bytes(rest.array()?));
            if length > KEY_BYTES_MAX {
                return None;
            }
            let first = Key::from_bytes(rest.bytes(length)?);
            RunOwner::Page { level, first }
        }
        DATA => RunOwner::Data {
            inode: InodeNumber::new(u64::from_le_bytes(rest.array()?)),
            offset: u64::from_le_bytes(rest.array()?),
        },
        SUPERBLOCK => RunOwner::Superblock,
        _ => return None,
    };
    Some((owner, run))
}

/// An empty summary.
pub(super) fn begin() -> Vec<u8> {
    vec![VERSION]
}

/// Adds a run to a summary; at most [`ENTRY_BYTES_MAX`] bytes.
///
/// # Panics
///
/// When a page's first key is longer than a key may be: our own bug.
pub(super) fn push(summary: &mut Vec<u8>, owner: &RunOwner, run: &RunRef) {
    summary.push(match owner {
        RunOwner::Page { .. } => PAGE,
        RunOwner::Data { .. } => DATA,
        RunOwner::Superblock => SUPERBLOCK,
    });
    summary.extend_from_slice(&run.bytes.to_le_bytes());
    summary.extend_from_slice(&run.stored.to_le_bytes());
    summary.extend_from_slice(&run.key.to_le_bytes());
    match owner {
        RunOwner::Page { level, first } => {
            let first = first.as_bytes();
            let length = u16::try_from(first.len()).expect("a key is shorter");
            summary.push(*level);
            summary.extend_from_slice(&length.to_le_bytes());
            summary.extend_from_slice(first);
        }
        RunOwner::Data { inode, offset } => {
            summary.extend_from_slice(&inode.get().to_le_bytes());
            summary.extend_from_slice(&offset.to_le_bytes());
        }
        RunOwner::Superblock => {}
    }
}

/// The trailer behind a summary: what is before its frame, and the frame's text.
pub(super) fn trailer(summary: &RunRef) -> (Vec<u8>, [u8; 4]) {
    let mut head = vec![VERSION];
    head.extend_from_slice(&summary.key.to_le_bytes());
    head.extend_from_slice(&summary.salt.0);
    (head, summary.bytes.to_le_bytes())
}

/// What of some bytes is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn number(&mut self) -> Option<u8> {
        let [number] = self.array::<1>()?;
        Some(number)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
}
