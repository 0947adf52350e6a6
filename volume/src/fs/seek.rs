//! Where a file has data and where holes.

use std::ops::ControlFlow;

use super::FsError;
use super::content::regular_file;
use super::entries::Entries;
use super::extents::visit_from;
use crate::key::InodeNumber;

/// What is sought. Zeros that only take room count as a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Data.
    Data,
    /// A hole; there is one at the end of every file.
    Hole,
}

/// How far a search came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The first offset of what was sought.
    At(u64),
    /// None before this offset, which lies in the file; a page is missing there, so seek on from it.
    Beyond(u64),
}

/// The first offset that is data, or in a hole, and not before `offset`.
///
/// # Errors
///
/// [`FsError::NothingThere`] when the file ends at or before `offset`, or has no data from there on;
/// [`FsError::IsDirectory`], [`FsError::Invalid`] when it is no regular file.
pub fn seek<E: Entries>(
    entries: &E,
    inode: InodeNumber,
    offset: u64,
    what: Seek,
) -> Result<Sought, FsError> {
    let size = regular_file(entries, inode)?.size;
    if offset >= size {
        return Err(FsError::NothingThere);
    }
    let mut at = offset;
    let mut found = None;
    let scanned = visit_from(entries, inode, offset, |extent| {
        match what {
            Seek::Data if extent.is_data() => found = Some(extent.offset.max(offset)),
            Seek::Hole if extent.offset > at || !extent.is_data() => found = Some(at),
            Seek::Data | Seek::Hole => at = extent.end(),
        }
        if found.is_none() && at < size {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    match (scanned, found, what) {
        (Err(FsError::Absent(_)), None, _) if offset < at && at < size => Ok(Sought::Beyond(at)),
        (Err(error), ..) => Err(error),
        (Ok(()), Some(found), Seek::Data) if found >= size => Err(FsError::NothingThere),
        (Ok(()), Some(found), _) => Ok(Sought::At(found)),
        (Ok(()), None, Seek::Data) => Err(FsError::NothingThere),
        (Ok(()), None, Seek::Hole) => Ok(Sought::At(at.min(size))),
    }
}
