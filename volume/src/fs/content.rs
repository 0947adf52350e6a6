//! What is in files: written, cut, filled with zeros.

use std::ops::Range;

use super::attributes::{attributes, store};
use super::caller::Caller;
use super::entries::{Edit, Entries};
use super::extents::{Replaced, cut, layout, replace};
use super::namespace::counters;
use super::{FsError, STEP_KEYS_MAX, Step};
use crate::key::{InodeNumber, Key};
use crate::value::{Attributes, FILE_BYTES_MAX, Source, Time, Type};

/// Who changes which file, and when.
#[derive(Clone, Copy, Debug)]
pub struct Touch<'a> {
    /// Who does it.
    pub caller: &'a Caller,
    /// The file.
    pub inode: InodeNumber,
    /// The time.
    pub now: Time,
}

/// Whether a file's size follows what is written behind its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeRule {
    /// It stays: what lies behind is only room that is taken.
    Keep,
    /// It grows.
    Grow,
}

/// Bytes of a file that are no longer, or newly, kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Balance {
    removed: u64,
    added: u64,
}

impl Balance {
    pub(super) const fn of_removed(removed: u64) -> Self {
        Self { removed, added: 0 }
    }

    /// With what was replaced too.
    pub(super) const fn and(self, replaced: Replaced) -> Self {
        Self {
            removed: self.removed.saturating_add(replaced.removed),
            added: self.added.saturating_add(replaced.added),
        }
    }
}

/// Has bytes of a file come from `source`, of which they are the first. Says how many of them, at least 1 of
/// any: when there are too many extents there for one step, the rest is another call's.
///
/// # Errors
///
/// [`FsError::IsDirectory`], [`FsError::Invalid`] when it is no regular file; [`FsError::FileTooLarge`];
/// [`FsError::NoSpace`].
pub fn write<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    offset: u64,
    bytes: u64,
    source: Source,
) -> Result<u64, FsError> {
    let mut file = regular_file(edit, touch.inode)?;
    let end = end_of(offset, bytes)?;
    if bytes == 0 {
        return Ok(0);
    }
    let done = replace(edit, touch.inode, offset..end, Some(source), STEP_KEYS_MAX)?;
    file.size = file.size.max(done.end);
    settle(edit, touch, file, Balance::default().and(done))?;
    Ok(done.end - offset)
}

/// Gives a file a size. What it had behind goes, room that was taken behind its end too; what it newly has
/// is a hole. On [`Step::More`] it was only made shorter in part.
///
/// # Errors
///
/// As [`write()`].
pub fn truncate<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    size: u64,
) -> Result<Step, FsError> {
    let mut file = regular_file(edit, touch.inode)?;
    end_of(size, 0)?;
    if size > file.size {
        file.size = size;
        settle(edit, touch, file, Balance::default())?;
        return Ok(Step::Done);
    }
    let done = cut(edit, touch.inode, size)?;
    file.size = file.size.min(done.from);
    settle(edit, touch, file, Balance::of_removed(done.removed))?;
    Ok(done.step)
}

/// Makes a range of a file a hole; its size stays. Says up to where it came: below the end of the range, go
/// on from there.
///
/// # Errors
///
/// As [`write()`]; [`FsError::Invalid`] when the range is empty.
pub fn punch_hole<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    range: Range<u64>,
) -> Result<u64, FsError> {
    let file = regular_file(edit, touch.inode)?;
    let range = checked(range)?;
    let done = replace(edit, touch.inode, range, None, STEP_KEYS_MAX)?;
    settle(edit, touch, file, Balance::default().and(done))?;
    Ok(done.end)
}

/// Makes a range of a file zeros that take room. Says up to where it came, as [`punch_hole`].
///
/// # Errors
///
/// As [`punch_hole`].
pub fn zero_range<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    range: Range<u64>,
    rule: SizeRule,
) -> Result<u64, FsError> {
    let mut file = regular_file(edit, touch.inode)?;
    let range = checked(range)?;
    let done = replace(edit, touch.inode, range, Some(Source::Zeros), STEP_KEYS_MAX)?;
    rule.apply(&mut file, done.end);
    settle(edit, touch, file, Balance::default().and(done))?;
    Ok(done.end)
}

/// Takes room for the holes in a range of a file. Says up to where it came, as [`punch_hole`].
///
/// # Errors
///
/// As [`punch_hole`].
pub fn allocate<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    range: Range<u64>,
    rule: SizeRule,
) -> Result<u64, FsError> {
    let mut file = regular_file(edit, touch.inode)?;
    let range = checked(range)?;
    let mut end = range.start;
    let mut balance = Balance::default();
    for span in layout(edit, touch.inode, range, STEP_KEYS_MAX)? {
        end = span.offset + span.bytes;
        if span.source.is_none() {
            let hole = span.offset..end;
            // A hole touches two extents at most.
            let filled = replace(edit, touch.inode, hole, Some(Source::Zeros), 2)?;
            balance = balance.and(filled);
        }
    }
    rule.apply(&mut file, end);
    settle(edit, touch, file, balance)?;
    Ok(end)
}

impl SizeRule {
    fn apply(self, file: &mut Attributes, end: u64) {
        match self {
            Self::Keep => {}
            Self::Grow => file.size = file.size.max(end),
        }
    }
}

/// The attributes of a regular file.
pub(super) fn regular_file<E: Entries>(
    entries: &E,
    inode: InodeNumber,
) -> Result<Attributes, FsError> {
    let attributes = attributes(entries, inode)?;
    match attributes.kind.type_of() {
        Type::File => Ok(attributes),
        Type::Directory => Err(FsError::IsDirectory),
        Type::Symlink | Type::Fifo | Type::Socket | Type::Character | Type::Block => {
            Err(FsError::Invalid {
                what: "not a regular file",
            })
        }
    }
}

/// Behind the last of so many bytes.
pub(super) fn end_of(offset: u64, bytes: u64) -> Result<u64, FsError> {
    let end = offset.checked_add(bytes);
    end.filter(|end| *end <= FILE_BYTES_MAX)
        .ok_or(FsError::FileTooLarge {
            max: FILE_BYTES_MAX,
        })
}

/// A range of a file, not empty.
fn checked(range: Range<u64>) -> Result<Range<u64>, FsError> {
    if range.is_empty() {
        return Err(FsError::Invalid {
            what: "empty range",
        });
    }
    end_of(range.end, 0)?;
    Ok(range)
}

/// Writes what follows from a change of a file's content: its attributes, and what the volume counts.
pub(super) fn settle<E: Entries>(
    edit: &mut Edit<'_, E>,
    touch: Touch<'_>,
    mut file: Attributes,
    balance: Balance,
) -> Result<(), FsError> {
    let Touch { caller, inode, now } = touch;
    let of_file = || FsError::damaged(Key::attributes(inode));
    let kept = file.allocated.checked_sub(balance.removed);
    file.allocated = kept.ok_or_else(of_file)?.saturating_add(balance.added);
    file.mode = caller.mode_after_write(&file);
    file.modified = now;
    file.changed = now;
    store(edit, inode, &file);
    count_allocated(edit, balance)
}

/// Counts bytes that are no longer, or newly, kept.
pub(super) fn count_allocated<E: Entries>(
    edit: &mut Edit<'_, E>,
    balance: Balance,
) -> Result<(), FsError> {
    if balance.removed == balance.added {
        return Ok(());
    }
    let mut counters = counters(edit)?;
    let kept = counters.allocated.checked_sub(balance.removed);
    let kept = kept.ok_or_else(|| FsError::damaged(Key::counters()))?;
    counters.allocated = kept.checked_add(balance.added).ok_or(FsError::NoSpace {
        what: "bytes of files",
    })?;
    edit.set(Key::counters(), &counters);
    Ok(())
}
