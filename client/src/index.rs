//! The file index: what an upload holds, and where.
//!
//! An upload is one stream of plaintext: the contents of its files one after the other, cut into
//! segments. The index lists the segments in order and, for each file, where in them its bytes
//! are. It is the end of the same stream, encrypted as the rest is; a link says where.
//!
//! Paths are relative, of plain components, sorted and unique: joining one to a folder never
//! leaves that folder.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, GroupId, Record, RecordKind, SegmentNumber};

use crate::cipher::Salt;

/// Most groups of an upload: 64 TiB at 4-of-8 and 16 GiB slots.
pub const GROUPS_MAX: usize = 1 << 10;
/// Most segments of an upload: 8 TB at 4-of-8.
pub const SEGMENTS_MAX: usize = 1 << 21;
/// Most entries of an upload.
pub const ENTRIES_MAX: usize = 1 << 20;
/// Longest path: what Linux takes.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Most extents of a file. One run of segments is one extent.
pub const EXTENTS_MAX: usize = 1 << 16;
/// Most bytes of an index: it is held in memory whole while its upload is open.
pub const INDEX_BYTES_MAX: usize = 64 << 20;

/// A segment of an upload, as readers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SegmentRef {
    /// Its group: index into the list of groups of the index or link that holds this.
    pub group: u16,
    /// Its number in the group.
    pub number: SegmentNumber,
    /// The salt it is encrypted with.
    pub salt: Salt,
    /// Plaintext in it.
    pub plain_bytes: u32,
}

/// A run of a file's bytes: from an offset in a segment on through those that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Extent {
    /// Index into [`FileIndex::segments`].
    pub segment: u32,
    /// First byte in the segment's plaintext.
    pub offset: u32,
    /// Bytes, at least 1; they go on at the start of the next segments.
    pub bytes: u64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum EntryKind {
    /// A regular file; an empty one has no extents.
    File {
        /// Where its bytes are, in order.
        extents: Bounded<Extent, EXTENTS_MAX>,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it was; may be anything.
        target: Bounded<u8, PATH_BYTES_MAX>,
    },
}

/// A file, directory or symlink of an upload.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// Its path below the upload's root. An upload of a single stream has one entry of one
    /// component, its name.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// POSIX permission bits.
    pub mode: u32,
    /// Milliseconds since 1970-01-01T00:00:00Z at which it was last changed; may be negative.
    pub modified_ms: i64,
}

impl Entry {
    /// Size of a file's content; 0 for others.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.kind {
            EntryKind::File { extents } => extents
                .iter()
                .fold(0, |sum, extent| sum.saturating_add(extent.bytes)),
            EntryKind::Directory | EntryKind::Symlink { .. } => 0,
        }
    }
}

/// A relative path of plain components: not empty, no empty, `.` or `..` component, no NUL. Bytes
/// as POSIX has them, UTF-8 or not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct EntryPath(Bounded<u8, PATH_BYTES_MAX>);

/// Bytes are no [`EntryPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a relative path of at most {PATH_BYTES_MAX} bytes without `.` or `..`, found {found:?}"
)]
pub struct PathError {
    /// The bytes, as text.
    pub found: String,
}

impl EntryPath {
    /// The path.
    ///
    /// # Errors
    ///
    /// [`PathError`] when it is not relative and plain.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let path = path.into();
        let plain =
            |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
        if !path.split(|byte| *byte == b'/').all(plain) {
            return Err(PathError {
                found: String::from_utf8_lossy(&path).into_owned(),
            });
        }
        Bounded::new(path).map(Self).map_err(|error| PathError {
            found: format!("{} bytes", error.found),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default()
    }
}

impl BorshDeserialize for EntryPath {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let path = Bounded::<u8, PATH_BYTES_MAX>::deserialize_reader(reader)?;
        Self::new(path.into_vec())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Whether an upload is one file or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum UploadKind {
    /// One file; its one entry's path is its name.
    File,
    /// A folder; entries are below it.
    Folder,
}

/// What an upload holds, and where.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FileIndex {
    /// One file or a folder.
    pub kind: UploadKind,
    /// The groups that its segments are in.
    pub groups: Bounded<GroupId, GROUPS_MAX>,
    /// Its segments, in the order of the stream.
    pub segments: Bounded<SegmentRef, SEGMENTS_MAX>,
    /// Its files, directories and symlinks, by rising path.
    pub entries: Bounded<Entry, ENTRIES_MAX>,
}

impl FileIndex {
    /// The entry at `path`.
    #[must_use]
    pub fn entry(&self, path: &[u8]) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.path.as_bytes().cmp(path))
            .ok()?;
        self.entries.get(at)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(entry.bytes()))
    }
}

impl Record for FileIndex {
    const KIND: RecordKind = RecordKind::FileIndex;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = INDEX_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        let groups = self.groups.len();
        let single = match self.kind {
            UploadKind::File => match self.entries.first() {
                Some(entry) => {
                    self.entries.len() == 1 && matches!(entry.kind, EntryKind::File { .. })
                }
                None => false,
            },
            UploadKind::Folder => true,
        };
        let mut runs = self.entries.iter().flat_map(|entry| match &entry.kind {
            EntryKind::File { extents } => extents.iter(),
            EntryKind::Directory | EntryKind::Symlink { .. } => [].iter(),
        });
        let starts = starts(&self.segments);
        single
            && self
                .segments
                .iter()
                .all(|segment| usize::from(segment.group) < groups && segment.plain_bytes > 0)
            && self.entries.is_sorted_by(|a, b| a.path < b.path)
            && runs.all(|extent| is_within(extent, &self.segments, &starts))
    }
}

/// Where each segment starts in the stream, and where the last ends.
pub(crate) fn starts(segments: &[SegmentRef]) -> Vec<u64> {
    let mut position = 0_u64;
    let mut starts = vec![0];
    for segment in segments {
        position = position.saturating_add(u64::from(segment.plain_bytes));
        starts.push(position);
    }
    starts
}

/// Whether a run starts in its segment and ends in the stream.
fn is_within(extent: &Extent, segments: &[SegmentRef], starts: &[u64]) -> bool {
    let from = crate::width::index(extent.segment);
    let (Some(first), Some(start)) = (segments.get(from), starts.get(from)) else {
        return false;
    };
    let end = start
        .checked_add(u64::from(extent.offset))
        .and_then(|at| at.checked_add(extent.bytes));
    let total = starts.last().copied().unwrap_or(0);
    extent.bytes > 0 && extent.offset < first.plain_bytes && end.is_some_and(|end| end <= total)
}

#[cfg(test)]
pub(crate) mod tests;
