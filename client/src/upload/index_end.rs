//! The end of an upload's stream: the index, which must say where it ends up itself.

use std::collections::BTreeMap;

use cairn_core::{Bounded, GroupId, Record};

use crate::index::{
    ENTRIES_MAX, Entry, EntryKind, Extent, FileIndex, INDEX_BYTES_MAX, SegmentRef, UploadKind,
    starts,
};
use crate::segment::Layout;
use crate::upload::UploadError;
use crate::upload::source::{EntryMetaKind, ReadEntry};
use crate::width::index;

/// The groups of an upload, in the order of first use.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    list: Vec<GroupId>,
    numbers: BTreeMap<GroupId, u16>,
}

impl Groups {
    /// The group's place in the list, added when it is new.
    pub(crate) fn number(&mut self, group: GroupId) -> u16 {
        if let Some(number) = self.numbers.get(&group) {
            return *number;
        }
        let number = u16::try_from(self.list.len()).expect("an upload has at most GROUPS_MAX");
        self.list.push(group);
        self.numbers.insert(group, number);
        number
    }

    pub(crate) fn list(&self) -> &[GroupId] {
        &self.list
    }
}

/// The encoded index of an upload whose content ends in the last of `segments`.
///
/// The last segment, when `is_shared`, holds the start of the index as well: its reference counts
/// what it will hold then. The size of the encoding does not depend on that number.
pub(crate) fn encode(
    kind: UploadKind,
    entries: Vec<ReadEntry>,
    groups: &Groups,
    segments: &[SegmentRef],
    shared: Option<&Layout>,
) -> Result<Vec<u8>, UploadError> {
    let mut file_index = FileIndex {
        kind,
        groups: Bounded::new(groups.list().to_vec()).expect("an upload has at most GROUPS_MAX"),
        segments: Bounded::new(segments.to_vec()).map_err(|_| UploadError::IndexTooLarge {
            found: size_of_val(segments),
        })?,
        entries: Bounded::empty(),
    };
    file_index.entries = placed(entries, segments)?;
    let size = borsh::object_length(&file_index)
        .map_err(|_| UploadError::IndexTooLarge { found: usize::MAX })?
        + cairn_core::record::ENVELOPE_BYTES;
    if size > INDEX_BYTES_MAX {
        return Err(UploadError::IndexTooLarge { found: size });
    }
    if let (Some(layout), Some(last)) = (shared, segments.last()) {
        let room = index(layout.plain_bytes_max() - last.plain_bytes);
        let added = u32::try_from(room.min(size)).expect("a segment is below 4 GiB");
        let mut segments = segments.to_vec();
        if let Some(last) = segments.last_mut() {
            last.plain_bytes += added;
        }
        file_index.segments = Bounded::new(segments).expect("as many as before");
    }
    Ok(file_index.encode())
}

/// Entries by rising path, with their extents.
fn placed(
    entries: Vec<ReadEntry>,
    segments: &[SegmentRef],
) -> Result<Bounded<Entry, ENTRIES_MAX>, UploadError> {
    let starts = starts(segments);
    let found = entries.len();
    let mut placed: Vec<Entry> = entries
        .into_iter()
        .map(|entry| Entry {
            path: entry.meta.path,
            kind: match entry.meta.kind {
                EntryMetaKind::File => EntryKind::File {
                    extents: extents(entry.position, entry.bytes, &starts),
                },
                EntryMetaKind::Directory => EntryKind::Directory,
                EntryMetaKind::Symlink(target) => EntryKind::Symlink { target },
            },
            mode: entry.meta.mode,
            modified_ms: entry.meta.modified_ms,
        })
        .collect();
    placed.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = placed.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(UploadError::PathTwice {
            path: pair[0].path.to_string(),
        });
    }
    Bounded::new(placed).map_err(|_| UploadError::TooManyEntries { found })
}

/// The one extent of a run of the stream; none for no bytes.
fn extents<const MAX: usize>(position: u64, bytes: u64, starts: &[u64]) -> Bounded<Extent, MAX> {
    if bytes == 0 {
        return Bounded::empty();
    }
    let after = starts.partition_point(|start| *start <= position);
    let segment = after.saturating_sub(1);
    let start = starts.get(segment).copied().unwrap_or(0);
    let extent = Extent {
        segment: u32::try_from(segment).expect("an upload has at most SEGMENTS_MAX"),
        offset: u32::try_from(position - start).expect("a segment is below 4 GiB"),
        bytes,
    };
    Bounded::new(vec![extent]).expect("one extent is allowed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::segment;

    #[test]
    fn extents_start_where_the_stream_says() {
        let starts = starts(&[segment(0, 100), segment(1, 50)]);
        let cases = [
            (0, 10, (0, 0)),
            (99, 2, (0, 99)),
            (100, 50, (1, 0)),
            (149, 1, (1, 49)),
        ];
        for (position, bytes, (number, offset)) in cases {
            let found = extents::<4>(position, bytes, &starts);
            assert_eq!((found[0].segment, found[0].offset), (number, offset));
        }
        assert!(extents::<4>(150, 0, &starts).is_empty());
    }
}
