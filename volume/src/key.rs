//! Keys of the volume's tree: one ordered space of byte strings for all that a file system has.
//!
//! ```text
//! inode (u64 BE) | kind (u8) | rest
//!
//! of an inode:     1 attributes   rest: none
//!                  2 entry        rest: its name, 1 to 255 bytes          directories
//!                  3 xattr        rest: its name, 1 to 255 bytes
//!                  4 extent       rest: offset in the file (u64 BE)       files
//!                  7 xattr part   rest: its name, number (u8, 1 and up)   long xattrs, but their first part
//! of the volume,   1 counters     rest: none
//! under inode 0:   2 usage        rest: group index (u16 BE), segment number (u32 BE)
//!                  3 snapshot     rest: number (u64 BE)
//!                  4 held         rest: snapshot number (u64 BE), group index (u16 BE), segment (u32 BE)
//!                  5 orphan       rest: inode (u64 BE)
//! ```
//!
//! So what belongs to one inode lies together, entries are ordered by name, extents by offset.

use std::fmt;

/// Longest key: an xattr part's, with its number behind the name.
pub const KEY_BYTES_MAX: usize = 9 + NAME_BYTES_MAX + 1;
/// Longest name of an entry or an xattr, as on Linux.
pub const NAME_BYTES_MAX: usize = 255;

/// Number of an inode: a file system object. 0 is the volume itself, 1 the root directory.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    borsh::BorshSerialize,
    borsh::BorshDeserialize,
)]
pub struct InodeNumber(u64);

impl InodeNumber {
    /// The volume itself: what belongs to no file.
    pub const VOLUME: Self = Self(0);
    /// The root directory.
    pub const ROOT: Self = Self(1);

    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for InodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A segment, by the index of its group in the volume's list.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    borsh::BorshSerialize,
    borsh::BorshDeserialize,
)]
pub struct SegmentId {
    /// Index of the group.
    pub group: u16,
    /// Number of the segment in the group.
    pub number: u32,
}

/// A key of the tree. Ordered as its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

/// What a key is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind<'a> {
    /// An inode's attributes.
    Attributes(InodeNumber),
    /// An entry of a directory.
    Entry(InodeNumber, &'a [u8]),
    /// An extended attribute, or the first part of it.
    Xattr(InodeNumber, &'a [u8]),
    /// A later part of a long extended attribute, by its number.
    XattrPart(InodeNumber, &'a [u8], u8),
    /// An extent of a file that begins at this offset.
    Extent(InodeNumber, u64),
    /// The volume's counters.
    Counters,
    /// How much of a segment is in use.
    Usage(SegmentId),
    /// A snapshot.
    Snapshot(u64),
    /// How much of a segment only a snapshot and those before it need.
    Held(u64, SegmentId),
    /// An inode without a name that is still open.
    Orphan(InodeNumber),
}

impl Key {
    fn of(inode: InodeNumber, kind: u8, rest: &[&[u8]]) -> Self {
        let bytes = rest.iter().map(|part| part.len()).sum::<usize>();
        let mut key = Vec::with_capacity(9 + bytes);
        key.extend_from_slice(&inode.0.to_be_bytes());
        key.push(kind);
        for part in rest {
            key.extend_from_slice(part);
        }
        Self(key.into_boxed_slice())
    }

    /// As it was read from a page.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// An inode's attributes.
    #[must_use]
    pub fn attributes(inode: InodeNumber) -> Self {
        Self::of(inode, 1, &[])
    }

    /// An entry of a directory.
    #[must_use]
    pub fn entry(directory: InodeNumber, name: &[u8]) -> Self {
        Self::of(directory, 2, &[name])
    }

    /// An extended attribute, or the first part of it.
    #[must_use]
    pub fn xattr(inode: InodeNumber, name: &[u8]) -> Self {
        Self::of(inode, 3, &[name])
    }

    /// A later part of a long extended attribute; `number` counts from 1.
    #[must_use]
    pub fn xattr_part(inode: InodeNumber, name: &[u8], number: u8) -> Self {
        Self::of(inode, 7, &[name, &[number]])
    }

    /// An extent that begins at `offset`.
    #[must_use]
    pub fn extent(file: InodeNumber, offset: u64) -> Self {
        Self::of(file, 4, &[&offset.to_be_bytes()])
    }

    /// The volume's counters.
    #[must_use]
    pub fn counters() -> Self {
        Self::of(InodeNumber::VOLUME, 1, &[])
    }

    /// How much of a segment is in use.
    #[must_use]
    pub fn usage(segment: SegmentId) -> Self {
        let (group, number) = (segment.group.to_be_bytes(), segment.number.to_be_bytes());
        Self::of(InodeNumber::VOLUME, kinds::USAGE, &[&group, &number])
    }

    /// A snapshot.
    #[must_use]
    pub fn snapshot(number: u64) -> Self {
        Self::of(
            InodeNumber::VOLUME,
            kinds::SNAPSHOT,
            &[&number.to_be_bytes()],
        )
    }

    /// What of a segment only a snapshot and those before it need.
    #[must_use]
    pub fn held(snapshot: u64, segment: SegmentId) -> Self {
        let (group, number) = (segment.group.to_be_bytes(), segment.number.to_be_bytes());
        let snapshot = snapshot.to_be_bytes();
        Self::of(
            InodeNumber::VOLUME,
            kinds::HELD,
            &[&snapshot, &group, &number],
        )
    }

    /// An inode without a name.
    #[must_use]
    pub fn orphan(inode: InodeNumber) -> Self {
        Self::of(
            InodeNumber::VOLUME,
            kinds::ORPHAN,
            &[&inode.0.to_be_bytes()],
        )
    }

    /// The first key that may be of this inode and kind; with it and [`Self::end_of`] a range is given.
    #[must_use]
    pub fn start_of(inode: InodeNumber, kind: u8) -> Self {
        Self::of(inode, kind, &[])
    }

    /// Above all keys of this inode and kind, and at or below all behind them.
    #[must_use]
    pub fn end_of(inode: InodeNumber, kind: u8) -> Self {
        Self::of(inode, kind.saturating_add(1), &[])
    }

    /// The last of all keys of up to [`KEY_BYTES_MAX`] bytes that are below this one.
    #[must_use]
    pub fn before(&self) -> Self {
        let mut key = self.0.to_vec();
        if let Some(last) = key.pop()
            && let Some(lower) = last.checked_sub(1)
        {
            key.push(lower);
            key.resize(KEY_BYTES_MAX.max(key.len()), u8::MAX);
        }
        Self(key.into_boxed_slice())
    }

    /// What it is of; `None` when it is no key of a tree.
    #[must_use]
    pub fn kind(&self) -> Option<KeyKind<'_>> {
        let (inode, rest) = self.0.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let inode = InodeNumber(u64::from_be_bytes(*inode));
        if inode == InodeNumber::VOLUME {
            return of_volume(*kind, rest);
        }
        Some(match kind {
            1 if rest.is_empty() => KeyKind::Attributes(inode),
            2 if is_name(rest) => KeyKind::Entry(inode, rest),
            3 if is_name(rest) => KeyKind::Xattr(inode, rest),
            4 => KeyKind::Extent(inode, u64::from_be_bytes(rest.try_into().ok()?)),
            7 => {
                let (number, name) = rest.split_last()?;
                if *number == 0 || !is_name(name) {
                    return None;
                }
                KeyKind::XattrPart(inode, name, *number)
            }
            _ => return None,
        })
    }
}

/// Kind bytes of an inode's keys, for ranges.
pub mod kinds {
    /// Entries of a directory.
    pub const ENTRY: u8 = 2;
    /// Extended attributes.
    pub const XATTR: u8 = 3;
    /// Extents of a file.
    pub const EXTENT: u8 = 4;
    /// Later parts of long extended attributes.
    pub const XATTR_PART: u8 = 7;
    /// Under inode 0: usage of segments.
    pub const USAGE: u8 = 2;
    /// Under inode 0: snapshots.
    pub const SNAPSHOT: u8 = 3;
    /// Under inode 0: what snapshots hold.
    pub const HELD: u8 = 4;
    /// Under inode 0: orphans.
    pub const ORPHAN: u8 = 5;
}

const fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX
}

fn of_volume(kind: u8, rest: &[u8]) -> Option<KeyKind<'static>> {
    Some(match kind {
        1 if rest.is_empty() => KeyKind::Counters,
        kinds::USAGE => KeyKind::Usage(segment(rest)?),
        kinds::SNAPSHOT => KeyKind::Snapshot(u64::from_be_bytes(rest.try_into().ok()?)),
        kinds::HELD => {
            let (snapshot, rest) = rest.split_first_chunk::<8>()?;
            KeyKind::Held(u64::from_be_bytes(*snapshot), segment(rest)?)
        }
        kinds::ORPHAN => KeyKind::Orphan(InodeNumber(u64::from_be_bytes(rest.try_into().ok()?))),
        _ => return None,
    })
}

fn segment(bytes: &[u8]) -> Option<SegmentId> {
    let (group, number) = bytes.split_first_chunk::<2>()?;
    Some(SegmentId {
        group: u16::from_be_bytes(*group),
        number: u32::from_be_bytes(number.try_into().ok()?),
    })
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => kind.fmt(f),
            None => write!(f, "Key({:02x?})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment_id() -> impl Strategy<Value = SegmentId> {
        (any::<u16>(), any::<u32>()).prop_map(|(group, number)| SegmentId { group, number })
    }

    proptest! {
        /// What a key is of can be told from it, and its order is that of what it is of.
        #[test]
        fn keys_say_what_they_are_of(
            inode in 1..u64::MAX,
            name in proptest::collection::vec(any::<u8>(), 1..=NAME_BYTES_MAX),
            offset: u64,
            number in 1..=u8::MAX,
            segment in segment_id(),
        ) {
            let inode = InodeNumber::new(inode);
            let all = [
                (Key::attributes(inode), KeyKind::Attributes(inode)),
                (Key::entry(inode, &name), KeyKind::Entry(inode, &name)),
                (Key::xattr(inode, &name), KeyKind::Xattr(inode, &name)),
                (Key::extent(inode, offset), KeyKind::Extent(inode, offset)),
                (Key::counters(), KeyKind::Counters),
                (Key::usage(segment), KeyKind::Usage(segment)),
                (Key::snapshot(offset), KeyKind::Snapshot(offset)),
                (Key::held(offset, segment), KeyKind::Held(offset, segment)),
                (Key::orphan(inode), KeyKind::Orphan(inode)),
                (Key::xattr_part(inode, &name, number), KeyKind::XattrPart(inode, &name, number)),
            ];
            for (key, kind) in &all {
                prop_assert_eq!(key.kind(), Some(kind.clone()));
                prop_assert!(key.as_bytes().len() <= KEY_BYTES_MAX);
                prop_assert_eq!(Key::from_bytes(key.as_bytes()), key.clone());
            }
            let entries = Key::start_of(inode, kinds::ENTRY)..Key::end_of(inode, kinds::ENTRY);
            prop_assert!(entries.contains(&all[1].0));
            prop_assert!(!entries.contains(&all[0].0) && !entries.contains(&all[2].0));
        }

        /// Nothing lies between a key and the one before it.
        #[test]
        fn before_is_the_last_key_below(
            a in proptest::collection::vec(0..3_u8, 1..6),
            b in proptest::collection::vec(0..3_u8, 0..6),
        ) {
            let (a, b) = (Key::from_bytes(&a), Key::from_bytes(&b));
            prop_assert!(a.before() < a);
            prop_assert!(a.before().as_bytes().len() <= KEY_BYTES_MAX);
            prop_assert_eq!(b < a, b <= a.before());
        }

        /// Bytes from elsewhere never panic.
        #[test]
        fn any_bytes_may_be_no_key(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let key = Key::from_bytes(&bytes);
            let _shown = format!("{key:?} {:?}", key.kind());
        }
    }
}
