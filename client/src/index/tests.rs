//! Laws and edges of the file index.

use cairn_core::Digest;
use proptest::prelude::*;

use super::*;

pub(crate) fn segment(number: u32, plain_bytes: u32) -> SegmentRef {
    SegmentRef {
        group: 0,
        number: SegmentNumber::new(number),
        salt: Salt::new([9; 16]),
        plain_bytes,
    }
}

fn file(path: &str, extents: Vec<Extent>) -> Entry {
    Entry {
        path: EntryPath::new(path).unwrap(),
        kind: EntryKind::File {
            extents: Bounded::new(extents).unwrap(),
        },
        mode: 0o644,
        modified_ms: -1,
    }
}

pub(crate) fn sample() -> FileIndex {
    let extent = |segment, offset, bytes| Extent {
        segment,
        offset,
        bytes,
    };
    let folder = Entry {
        path: EntryPath::new("a").unwrap(),
        kind: EntryKind::Directory,
        mode: 0o755,
        modified_ms: 1_700_000_000_000,
    };
    let symlink = Entry {
        path: EntryPath::new("z").unwrap(),
        kind: EntryKind::Symlink {
            target: Bounded::new(b"../outside".to_vec()).unwrap(),
        },
        mode: 0o777,
        modified_ms: 0,
    };
    FileIndex {
        kind: UploadKind::Folder,
        groups: Bounded::new(vec![GroupId::new(Digest::new([7; 32]))]).unwrap(),
        segments: Bounded::new(vec![segment(0, 100), segment(1, 50)]).unwrap(),
        entries: Bounded::new(vec![
            folder,
            file("a/one", vec![extent(0, 0, 60)]),
            file("a/two", vec![extent(0, 60, 90)]),
            file("empty", vec![]),
            symlink,
        ])
        .unwrap(),
    }
}

#[test]
fn an_index_survives_its_encoding() {
    let index = sample();
    assert_eq!(FileIndex::decode(&index.encode()).unwrap(), index);
    assert_eq!(index.entry(b"a/two").unwrap().bytes(), 90);
    assert_eq!(index.entry(b"a/three"), None);
    assert_eq!(index.bytes(), 150);
}

#[test]
fn an_extent_past_the_end_is_refused() {
    let cases = [
        (0, 60, 91),
        (0, 100, 1),
        (2, 0, 1),
        (1, 0, 51),
        (0, 0, 0),
        (0, 0, u64::MAX),
    ];
    for (segment, offset, bytes) in cases {
        let mut index = sample();
        let extent = Extent {
            segment,
            offset,
            bytes,
        };
        index.entries = Bounded::new(vec![file("x", vec![extent])]).unwrap();
        assert!(FileIndex::decode(&index.encode()).is_err(), "{extent:?}");
    }
}

#[test]
fn unsorted_repeated_and_foreign_things_are_refused() {
    let mut repeated = sample();
    repeated.entries = Bounded::new(vec![file("x", vec![]), file("x", vec![])]).unwrap();
    let mut unsorted = sample();
    unsorted.entries = Bounded::new(vec![file("y", vec![]), file("x", vec![])]).unwrap();
    let mut foreign = sample();
    foreign.groups = Bounded::empty();
    let mut single = sample();
    single.kind = UploadKind::File;
    for index in [repeated, unsorted, foreign, single] {
        assert!(FileIndex::decode(&index.encode()).is_err(), "{index:?}");
    }
}

#[test]
fn paths_never_leave_their_folder() {
    for bad in [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b",
    ] {
        assert!(EntryPath::new(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "a/b", "...", ".a", "a/..b", "\u{fc}"] {
        assert!(EntryPath::new(good).is_ok(), "{good:?}");
    }
    assert!(EntryPath::new(vec![b'a'; PATH_BYTES_MAX + 1]).is_err());
    assert_eq!(EntryPath::new("a/b").unwrap().name(), b"b");
}

proptest! {
    /// Whatever bytes come, decoding ends without a panic and accepts only its own encoding.
    #[test]
    fn decoding_is_strict(cut in 0_usize..400, flip in 0_usize..400, bit in 0_u8..8) {
        let good = sample().encode();
        let cut = cut.min(good.len());
        if cut < good.len() {
            prop_assert!(FileIndex::decode(&good[..cut]).is_err());
        }
        let mut bad = good.clone();
        let at = flip % bad.len();
        bad[at] ^= 1 << bit;
        if let Ok(index) = FileIndex::decode(&bad) {
            prop_assert_eq!(index.encode(), bad);
        }
    }
}
