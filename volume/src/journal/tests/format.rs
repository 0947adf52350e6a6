//! What is written is read again, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::journal::record::{decode_changes, encode_changes, whole};

fn any_changes() -> impl Strategy<Value = Changes> {
    let key = prop::collection::vec(any::<u8>(), 0..=30);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..50));
    prop::collection::btree_map(key, value, 0..12).prop_map(|changes| {
        let pairs = changes.into_iter();
        pairs
            .map(|(key, value)| (Key::from_bytes(&key), value.map(Vec::into_boxed_slice)))
            .collect()
    })
}

/// A record at an offset, with what follows it.
fn record(data: &[u8], changes: &Changes, offset: u64) -> Vec<u8> {
    let encoded = encode_changes(changes);
    let header = RecordHeader {
        sequence: 7,
        durable: 5,
        data_bytes: short(data),
        changes_bytes: short(&encoded),
        body: checksum::keyed(&[3; 32], &[data, &encoded]),
    };
    let header = header.encode(&[3; 32], offset);
    assert_eq!(count(header.len()), RECORD_HEADER_BYTES_U64);
    [header, data.to_vec(), encoded].concat()
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(
        changes in any_changes(),
        data in prop::collection::vec(any::<u8>(), 0..100),
        offset in 0..u64::MAX,
        behind in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        let mut bytes = record(&data, &changes, offset);
        let length = count(bytes.len());
        bytes.extend_from_slice(&behind);
        let found = whole(&bytes, &[3; 32], offset).unwrap();
        prop_assert_eq!(found.header.record_bytes(), length);
        prop_assert_eq!((found.header.sequence, found.header.durable), (7, 5));
        prop_assert_eq!(found.behind, &behind[..]);
        prop_assert_eq!(decode_changes(found.changes), Some(changes));
    }

    #[test]
    fn a_record_that_was_changed_is_none(
        changes in any_changes(),
        data in prop::collection::vec(any::<u8>(), 0..100),
        at: prop::sample::Index,
        bit in 0..8_u32,
        length: prop::sample::Index,
    ) {
        let bytes = record(&data, &changes, 60);
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1 << bit;
        prop_assert!(whole(&flipped, &[3; 32], 60).is_none());
        prop_assert!(whole(&bytes[..length.index(bytes.len())], &[3; 32], 60).is_none());
        prop_assert!(whole(&bytes, &[4; 32], 60).is_none());
        prop_assert!(whole(&bytes, &[3; 32], 61).is_none());
    }

    #[test]
    fn any_bytes_may_be_no_changes(
        changes in any_changes(),
        at: prop::sample::Index,
        to: u8,
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut encoded = encode_changes(&changes);
        let mut longer = encoded.clone();
        longer.push(0);
        prop_assert_eq!(decode_changes(&longer), None);
        prop_assert_eq!(decode_changes(&encoded[..at.index(encoded.len())]), None);
        let index = at.index(encoded.len());
        encoded[index] = to;
        // Whatever is read is written in that way only.
        for bytes in [encoded, noise] {
            if let Some(found) = decode_changes(&bytes) {
                prop_assert_eq!(encode_changes(&found), bytes);
            }
        }
    }
}

#[test]
fn changes_rise_and_each_key_comes_once() {
    let key = |byte: u8| Key::from_bytes(&[byte]);
    let encoded = |first, second| encode_changes(&[(key(first), None), (key(second), None)]);
    assert!(decode_changes(&encoded(1, 2)).is_some());
    assert!(decode_changes(&encoded(2, 1)).is_none());
    assert!(decode_changes(&encoded(1, 1)).is_none());
}

/// The bytes of the format, where they are no checksum.
#[test]
fn the_bytes_are_as_written_down() {
    let extent = [(Key::from_bytes(b"k"), Some(vec![9, 8].into_boxed_slice()))];
    assert_eq!(
        encode_changes(&extent),
        [1, 0, 0, 0, 1, 0, b'k', 1, 2, 0, 0, 0, 9, 8]
    );
    let bytes = record(b"data", &extent.to_vec(), 60);
    assert_eq!(bytes[..4], *b"\x01VJR");
    assert_eq!(
        bytes[4..20],
        [7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(bytes[20..28], [4, 0, 0, 0, 14, 0, 0, 0]);
    assert_eq!(bytes[44..48], *b"data");
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        journal.committed(0, 258).unwrap();
        drop(journal);
        let file = disk.read_file(&path_of(&folder(), 1), 100).unwrap();
        assert_eq!(file.len(), 60);
        assert_eq!(file[..12], *b"\x01VJF\x01\0\0\0\0\0\0\0");
        assert_eq!(file[12..20], *b"\x01\0\0\0\0\0\0\0");
        let marks = disk.read_file(&folder().join("committed"), 8_192).unwrap();
        assert_eq!(marks.len(), 8_192);
        let slot = &marks[4_096..];
        assert_eq!(slot[..4], *b"\x01VJM");
        assert_eq!(slot[4..20], [7; 16]);
        assert_eq!(slot[20..28], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(slot[28..36], [0; 8]);
        assert_eq!(slot[36..44], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert!(slot[52..].iter().all(|byte| *byte == 0));
    });
}
