//! Copies inside a volume without moving bytes.
//!
//! Two ranges of one file may come from the same run. Two files may not: all that refers to a run is in the
//! file that it was written for, so that whoever moves a run finds it, and whoever is given one file needs
//! nothing of another. Bytes of the journal have one extent that refers to them, so that a commit moves them
//! once. What can't be shared is to be read and written.

use std::ops::Range;

use super::content::{Balance, Touch, end_of, regular_file, settle};
use super::entries::{Edit, Entries};
use super::extents::{layout, replace};
use super::{FsError, STEP_KEYS_MAX};
use crate::key::InodeNumber;
use crate::value::Source;

/// What to copy, into the file that is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRange {
    /// The file to copy from.
    pub from: InodeNumber,
    /// The first byte in it.
    pub from_offset: u64,
    /// Where it goes.
    pub to_offset: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What came of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// So many bytes are copied, at least 1. What is left is another call's.
    Shared(u64),
    /// The first so many bytes are in the journal, or in a run of another file: read them and write them.
    ToWrite(u64),
    /// There is nothing to copy: the file that is copied from ends there, or no bytes were asked for.
    Nothing,
}

/// Copies bytes from a file into the same one or another, as far as nothing must be moved for it.
///
/// # Errors
///
/// As [`write`](super::write) for either file; [`FsError::Invalid`] when the ranges overlap in one file.
pub fn copy_range<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    copy: CopyRange,
) -> Result<Copied, FsError> {
    let from_size = regular_file(edit, copy.from)?.size;
    let mut file = regular_file(edit, touch.inode)?;
    let target = copy.to_offset..end_of(copy.to_offset, copy.bytes)?;
    let end = copy.from_offset.saturating_add(copy.bytes);
    let range = copy.from_offset..end.min(from_size);
    let same = copy.from == touch.inode;
    if same && overlap(&(copy.from_offset..end), &target) {
        return Err(FsError::Invalid {
            what: "ranges of a copy overlap",
        });
    }
    let mut end = copy.to_offset;
    let mut balance = Balance::default();
    let mut left = STEP_KEYS_MAX;
    for span in layout(edit, copy.from, range, STEP_KEYS_MAX)? {
        let shared = match span.source {
            Some(Source::Run { .. }) => same,
            Some(Source::Journal(_)) => false,
            Some(Source::Zeros) | None => true,
        };
        if !shared {
            if end == copy.to_offset {
                return Ok(Copied::ToWrite(span.bytes));
            }
            break;
        }
        let upto = end + span.bytes;
        let done = replace(edit, touch.inode, end..upto, span.source, left)?;
        balance = balance.and(done);
        end = done.end;
        left = left.saturating_sub(done.extents.max(1));
        if end < upto || left == 0 {
            break;
        }
    }
    if end == copy.to_offset {
        return Ok(Copied::Nothing);
    }
    file.size = file.size.max(end);
    settle(edit, touch, file, balance)?;
    Ok(Copied::Shared(end - copy.to_offset))
}

const fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
