//! Extents of a file: where its bytes are.
//!
//! Extents of a file never overlap; between them are holes. Two that follow each other in the file and where
//! their bytes are become one, so that small writes that a commit packs into one run cost one key.

use std::ops::{ControlFlow, Range};

use super::content::regular_file;
use super::entries::{Edit, Entries};
use super::{FsError, STEP_KEYS_MAX, Step};
use crate::key::{InodeNumber, Key, KeyKind, SegmentId};
use crate::value::{Extent, FILE_BYTES_MAX, JournalRef, Source, decode};

/// An extent and where in its file it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    source: Source,
}

impl Placed {
    /// As a key and a value say it; `None` when no file can have it.
    pub(super) fn from_parts(offset: u64, extent: Extent) -> Option<Self> {
        let Extent { bytes, source } = extent;
        let end = offset.checked_add(bytes)?;
        let there = match source {
            Source::Run { run, skip } => {
                u64::from(skip).checked_add(bytes)? <= u64::from(run.bytes)
            }
            Source::Journal(JournalRef { offset, .. }) => offset.checked_add(bytes).is_some(),
            Source::Zeros => true,
        };
        let valid = bytes > 0 && end <= FILE_BYTES_MAX && there;
        valid.then_some(Self {
            offset,
            bytes,
            source,
        })
    }

    /// As it was read.
    fn read(key: &[u8], value: &[u8]) -> Result<Self, FsError> {
        let key = Key::from_bytes(key);
        let placed = match (key.kind(), decode(value)) {
            (Some(KeyKind::Extent(_, offset)), Some(extent)) => Self::from_parts(offset, extent),
            _ => None,
        };
        placed.ok_or(FsError::damaged(key))
    }

    /// Behind its last byte.
    pub(super) const fn end(&self) -> u64 {
        // Both are at most `FILE_BYTES_MAX` together.
        self.offset + self.bytes
    }

    /// Whether its bytes are kept anywhere; zeros that only take room are not.
    pub(super) fn is_data(&self) -> bool {
        self.source != Source::Zeros
    }

    /// What of it lies in `range`.
    fn clipped(&self, range: Range<u64>) -> Option<Self> {
        let (start, end) = (range.start.max(self.offset), range.end.min(self.end()));
        let ahead = start.checked_sub(self.offset)?;
        let bytes = end.checked_sub(start).filter(|bytes| *bytes > 0)?;
        Some(Self {
            offset: start,
            bytes,
            source: self
                .source
                .advance(ahead)
                .expect("what it refers to was checked when it was read"),
        })
    }

    /// The two as one, when one goes on where the other ends.
    fn joined(self, other: Self) -> Option<Self> {
        let (first, second) = if self.offset <= other.offset {
            (self, other)
        } else {
            (other, self)
        };
        let follows = first.end() == second.offset
            && first.source.advance(first.bytes) == Some(second.source);
        follows.then(|| Self {
            bytes: first.bytes + second.bytes,
            ..first
        })
    }

    fn key(&self, inode: InodeNumber) -> Key {
        Key::extent(inode, self.offset)
    }

    fn put<E: Entries>(self, edit: &mut Edit<'_, E>, inode: InodeNumber) {
        let Self { bytes, source, .. } = self;
        edit.set(self.key(inode), &Extent { bytes, source });
    }
}

/// Adds to `found` the extents that overlap or touch `range`, rising, at most `count_max`; returns up to
/// where, at most the end of `range`, these are all.
fn collect<E: Entries>(
    entries: &E,
    inode: InodeNumber,
    range: &Range<u64>,
    count_max: usize,
    found: &mut Vec<Placed>,
) -> Result<u64, FsError> {
    if let Some(first) = last_before(entries, inode, range.start)?
        && first.end() >= range.start
    {
        found.push(first);
    }
    let keys = (
        Key::extent(inode, range.start),
        Key::extent(inode, range.end + 1),
    );
    let (mut failed, mut more) = (None, false);
    entries.scan(&keys.0..&keys.1, |key, value| {
        if found.len() >= count_max {
            more = true;
            return ControlFlow::Break(());
        }
        match Placed::read(key, value) {
            Ok(placed) => {
                found.push(placed);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match (failed, found.last()) {
        (Some(error), _) => Err(error),
        (None, Some(last)) if more => Ok(last.end().clamp(range.start, range.end)),
        (None, _) => Ok(range.end),
    }
}

/// The last extent that begins below `offset`.
fn last_before<E: Entries>(
    entries: &E,
    inode: InodeNumber,
    offset: u64,
) -> Result<Option<Placed>, FsError> {
    let Some(offset) = offset.checked_sub(1) else {
        return Ok(None);
    };
    let Some((key, value)) = entries.last_at_or_before(&Key::extent(inode, offset))? else {
        return Ok(None);
    };
    match key.kind() {
        Some(KeyKind::Extent(of, _)) if of == inode => {
            Placed::read(key.as_bytes(), &value).map(Some)
        }
        _ => Ok(None),
    }
}

/// What [`replace`] did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replaced {
    /// Up to where it came.
    pub(super) end: u64,
    /// Bytes that extents had in the range.
    pub(super) removed: u64,
    /// Bytes that they have there.
    pub(super) added: u64,
    /// Extents that were looked at.
    pub(super) extents: usize,
}

/// Has `range`, which is not empty, come from `with`, or makes it a hole. Comes as far as `count_max` extents
/// allow, at least over one.
pub(super) fn replace<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    range: Range<u64>,
    with: Option<Source>,
    count_max: usize,
) -> Result<Replaced, FsError> {
    let mut found = Vec::new();
    // One that only touches from the left does not bring it on, so two at least.
    let end = collect(edit, inode, &range, count_max.max(2), &mut found)?;
    let (start, extents) = (range.start, found.len());
    let mut new = with.map(|source| Placed {
        offset: start,
        bytes: end - start,
        source,
    });
    let mut removed = 0_u64;
    for old in found {
        let overlap = old.clipped(start..end).map_or(0, |part| part.bytes);
        if overlap == 0 && new.is_none_or(|new| new.joined(old).is_none()) {
            continue;
        }
        // In a damaged tree they may be any number.
        removed = overlap.saturating_add(removed);
        edit.remove(old.key(inode));
        let sides = [old.clipped(0..start), old.clipped(end..u64::MAX)];
        for side in sides.into_iter().flatten() {
            match new.and_then(|new| new.joined(side)) {
                Some(whole) => new = Some(whole),
                None => side.put(edit, inode),
            }
        }
    }
    let added = if with.is_some() { end - start } else { 0 };
    if let Some(new) = new {
        new.put(edit, inode);
    }
    Ok(Replaced {
        end,
        removed,
        added,
        extents,
    })
}

/// What [`cut`] did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Bytes that extents had there.
    pub(super) removed: u64,
    /// From where on nothing is left.
    pub(super) from: u64,
    /// Whether all is done.
    pub(super) step: Step,
}

/// Takes away what a file has from `size` on, from its end, as much as one step may.
pub(super) fn cut<E: Entries>(
    edit: &mut Edit<'_, E>,
    inode: InodeNumber,
    size: u64,
) -> Result<Cut, FsError> {
    let (mut removed, mut from) = (0_u64, u64::MAX);
    for _ in 0..STEP_KEYS_MAX {
        let last = last_before(edit, inode, from)?.filter(|last| last.end() > size);
        let Some(last) = last else {
            from = size;
            break;
        };
        edit.remove(last.key(inode));
        if let Some(kept) = last.clipped(0..size) {
            kept.put(edit, inode);
            removed = removed.saturating_add(last.end() - size);
            from = size;
            break;
        }
        removed = removed.saturating_add(last.bytes);
        from = last.offset;
    }
    let step = if from == size { Step::Done } else { Step::More };
    Ok(Cut {
        removed,
        from,
        step,
    })
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// Bytes, at least 1.
    pub bytes: u64,
    /// Where its bytes are; nowhere when it is a hole, of zeros.
    pub source: Option<Source>,
}

/// The pieces of a file in `range`, rising and without gaps, up to the file's end; not all of them when
/// there are more than `count_max` extents. Empty only when nothing of the file is in `range`.
///
/// # Errors
///
/// [`FsError::NoInode`], [`FsError::IsDirectory`], [`FsError::Invalid`] when it is no regular file.
pub fn spans<E: Entries>(
    entries: &E,
    inode: InodeNumber,
    range: Range<u64>,
    count_max: usize,
) -> Result<Vec<Span>, FsError> {
    let size = regular_file(entries, inode)?.size;
    layout(entries, inode, range.start..range.end.min(size), count_max)
}

/// As [`spans`], beyond the file's end too.
pub(super) fn layout<E: Entries>(
    entries: &E,
    inode: InodeNumber,
    range: Range<u64>,
    count_max: usize,
) -> Result<Vec<Span>, FsError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let end = match collect(entries, inode, &range, count_max.max(2), &mut found) {
        // What was found is good for a part of the range.
        Err(FsError::Absent(run)) => match found.last().map(Placed::end) {
            Some(end) if end > range.start => end.min(range.end),
            _ => return Err(FsError::Absent(run)),
        },
        other => other?,
    };
    let mut spans = Vec::with_capacity(found.len());
    let mut at = range.start;
    for placed in found {
        let Some(part) = placed.clipped(at..end) else {
            continue;
        };
        push_hole(&mut spans, at..part.offset);
        at = part.end();
        spans.push(Span {
            offset: part.offset,
            bytes: part.bytes,
            source: Some(part.source),
        });
    }
    push_hole(&mut spans, at..end);
    Ok(spans)
}

fn push_hole(spans: &mut Vec<Span>, range: Range<u64>) {
    if !range.is_empty() {
        spans.push(Span {
            offset: range.start,
            bytes: range.end - range.start,
            source: None,
        });
    }
}

/// Visits extents that end behind `offset`, rising, until `visit` breaks.
pub(super) fn visit_from<E: Entries, F>(
    entries: &E,
    inode: InodeNumber,
    offset: u64,
    mut visit: F,
) -> Result<(), FsError>
where
    F: FnMut(Placed) -> ControlFlow<()>,
{
    let from = offset.min(FILE_BYTES_MAX) + 1;
    if let Some(first) = last_before(entries, inode, from)?
        && first.end() > offset
        && visit(first).is_break()
    {
        return Ok(());
    }
    let keys = (Key::extent(inode, from), Key::extent(inode, u64::MAX));
    let mut failed = None;
    entries.scan(&keys.0..&keys.1, |key, value| {
        match Placed::read(key, value) {
            Ok(placed) => visit(placed),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Bytes of a file that are kept in another place now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The file.
    pub inode: InodeNumber,
    /// Which of its bytes, at most [`FILE_BYTES_MAX`] behind the start of the file.
    pub range: Range<u64>,
    /// Where the first of them was.
    pub from: Source,
    /// Where it is.
    pub to: Source,
}

/// What [`relocate`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocated {
    /// Bytes that come from the new place.
    pub bytes: u64,
    /// Up to where it came: below the end of the range, go on from there.
    pub end: u64,
}

/// Has the bytes of a file that still come from one place come from another, which has the same bytes.
/// Bytes that were written anew since, or that the file no longer has, stay as they are.
///
/// # Errors
///
/// [`FsError::Invalid`] when the new place cannot have so many bytes.
pub fn relocate<E: Entries>(edit: &mut Edit<'_, E>, moved: &Move) -> Result<Relocated, FsError> {
    let Move {
        inode,
        ref range,
        from,
        to,
    } = *moved;
    if range.is_empty() || range.end > FILE_BYTES_MAX {
        return Err(FsError::Invalid {
            what: "range of bytes that moved",
        });
    }
    let mut found = Vec::new();
    let end = collect(edit, inode, range, STEP_KEYS_MAX, &mut found)?;
    let mut bytes = 0;
    for old in found {
        let Some(part) = old.clipped(range.start..end) else {
            continue;
        };
        let ahead = part.offset - range.start;
        if from.advance(ahead) != Some(part.source) {
            continue;
        }
        let place = to.advance(ahead).and_then(|source| {
            let bytes = part.bytes;
            Placed::from_parts(part.offset, Extent { bytes, source })
        });
        let place = place.ok_or(FsError::Invalid {
            what: "new place of bytes that moved",
        })?;
        // It overlaps one extent and touches two at most.
        replace(edit, inode, part.offset..part.end(), Some(place.source), 3)?;
        bytes += part.bytes;
    }
    Ok(Relocated { bytes, end })
}

/// How the bytes that extents refer to in segments change with the value of `key`. Bytes are of plaintext,
/// as an extent has them, whether the run is compressed or not; when two extents share bytes of a run, they
/// count twice.
pub fn usage_delta(
    key: &Key,
    old: Option<&[u8]>,
    new: Option<&[u8]>,
) -> impl Iterator<Item = (SegmentId, i64)> + use<> {
    let of_file = matches!(key.kind(), Some(KeyKind::Extent(..)));
    let used = |value: Option<&[u8]>| {
        let value = value.filter(|_| of_file)?;
        let Extent { bytes, source } = decode(value)?;
        match source {
            Source::Run { run, .. } => Some((run.segment, i64::try_from(bytes).ok()?)),
            Source::Journal(_) | Source::Zeros => None,
        }
    };
    let deltas = match (used(old), used(new)) {
        (Some((from, less)), Some((to, more))) if from == to => [Some((to, more - less)), None],
        (old, new) => [old.map(|(from, less)| (from, -less)), new],
    };
    let changed = deltas.into_iter().flatten();
    changed.filter(|(_, delta)| *delta != 0)
}

#[cfg(test)]
mod tests;
