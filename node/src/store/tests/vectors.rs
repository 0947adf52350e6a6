//! Golden vectors: `tests/vectors/node.json` freezes what is on a node's disk.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

use std::collections::BTreeMap;

use cairn_core::{
    Bounded, Digest, Height, LedgerId, Record, RevisionNumber, SegmentNumber, UnixMillis,
};
use data_encoding::HEXLOWER;

use super::fixture::{content, detail, put_of, shard, slot};
use crate::seen_height::HeightFile;
use crate::store::StoreKey;
use crate::store::format::{
    DeadList, PackEntry, PackFile, PackIndex, ShardHeader, StoreIdentity, data_offset, length,
};
use crate::store::state::{Earlier, NumberSet, SlotState};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/node.json");

fn header(key: &StoreKey) -> ShardHeader {
    let place = shard(1, 3);
    let put = put_of(place, 0);
    let record = put.record.encode();
    let outboard = put.hashed.outboard.to_bytes();
    let shard_bytes = length(&content(place, 0));
    ShardHeader {
        pack: 2,
        offset: 8192,
        sequence: 5,
        durable_to: 4096,
        written_at: UnixMillis::new(1000),
        group: place.slot.group,
        slot: place.slot.slot,
        segment: place.segment,
        shard_bytes,
        record_bytes: length(&record),
        outboard_bytes: length(&outboard),
        data_offset: data_offset(length(&record), length(&outboard), shard_bytes),
        shard_root: put.hashed.root,
        body_checksum: key.checksum(&[&record, &outboard]),
    }
}

fn vectors() -> BTreeMap<&'static str, String> {
    let key = StoreKey::new([9; 32]);
    let header = header(&key);
    let first = detail(slot(1), 1, &[Some(0)], &[]);
    let first = first.unverified();
    let state = SlotState {
        dropped_to: 4,
        reached: Some(detail(slot(1), 2, &[Some(0), None], &[1])),
        pending: Some(detail(slot(1), 3, &[Some(0), None, Some(0)], &[])),
        emptied: NumberSet::default().with([SegmentNumber::new(1)]),
        hinted: NumberSet::default().with([SegmentNumber::new(9)]),
        released: RevisionNumber::new(1),
        earlier: Bounded::new(vec![Earlier {
            revision: first.revision,
            slot_roots: first.slot_roots.clone(),
            emptied: NumberSet::default(),
        }])
        .unwrap(),
        ..SlotState::new(slot(1))
    };
    let store = StoreIdentity::new(key);
    let dead = DeadList {
        pack: 2,
        offsets: Bounded::new(vec![4096, 16384]).unwrap(),
    };
    let index = PackIndex {
        pack: 2,
        bytes: 53_248,
        entries: Bounded::new(vec![PackEntry::from(&header)]).unwrap(),
    };
    let file = PackFile {
        number: 2,
        store: store.clone(),
    };
    let seen = HeightFile {
        ledger: LedgerId::new(Digest::new([7; 32])),
        height: Height::new(5000),
    };
    let sealed = [
        ("seen_height", key.seal(&seen)),
        ("shard_header", key.seal(&header)),
        ("slot_state", key.seal(&state)),
        ("pack_file", key.seal(&file)),
        ("dead_list", key.seal(&dead)),
        ("pack_index", key.seal(&index)),
        ("store_identity", key.seal(&store)),
    ];
    sealed
        .into_iter()
        .map(|(name, bytes)| (name, HEXLOWER.encode(&bytes)))
        .collect()
}

#[test]
fn formats_are_those_of_the_vectors() {
    let found = vectors();
    if std::env::var_os("CAIRN_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&found).unwrap() + "\n";
        std::fs::write(PATH, text).unwrap();
    }
    let text = std::fs::read_to_string(PATH).unwrap();
    let expected: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    let found: BTreeMap<String, String> = found
        .into_iter()
        .map(|(name, hex)| (name.to_owned(), hex))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn sealed_records_open_with_their_key_only() {
    let (key, other) = (StoreKey::new([9; 32]), StoreKey::new([8; 32]));
    let header = header(&key);
    let bytes = key.seal(&header);
    assert_eq!(key.open::<ShardHeader>(&bytes), Some(header.clone()));
    assert_eq!(other.open::<ShardHeader>(&bytes), None);
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert_eq!(key.open::<ShardHeader>(&wrong), None, "byte {at}");
    }
    for (pack, offset, found) in [(2, 8192, true), (3, 8192, false), (2, 4096, false)] {
        let read = ShardHeader::from_bytes(&bytes, &key, pack, offset);
        assert_eq!(read.is_some(), found);
    }
}

#[test]
fn number_sets_contain_what_was_put_in() {
    let numbers = [0, 7, 8, 200, (1 << 20) - 1].map(SegmentNumber::new);
    let set = NumberSet::default().with(numbers);
    for number in (0..300)
        .chain([1 << 19, (1 << 20) - 1])
        .map(SegmentNumber::new)
    {
        assert_eq!(set.contains(number), numbers.contains(&number), "{number}");
    }
    for (count, expected) in [
        (0, 0),
        (1, 1),
        (7, 1),
        (8, 2),
        (9, 3),
        (201, 4),
        (1 << 20, 5),
    ] {
        assert_eq!(set.count_below(count), expected, "below {count}");
    }
}
