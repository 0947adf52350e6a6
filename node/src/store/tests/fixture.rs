//! Shards, revisions and stores for tests.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::message::{ShardRange, WithRecord};
use cairn_core::{
    Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, RevisionDetail, RevisionNumber,
    SecretKey, SegmentNumber, SegmentRecord, ShardRoot, Signed, SlotIndex, SlotRoot, UnixMillis,
};
use cairn_ledger::tx::SlotRef;
use cairn_proofs::{Leaf, SlotTree, group_root, hash_shard, verify_range};
use cairn_runtime::{Disk, DiskFile, OpenMode, Sim, SimRuntime};

use crate::store::{
    Check, Needs, NoCache, OpenReport, Replace, ShardPlace, ShardPut, ShardStore, StoreConfig,
    StoreError, StoreKey,
};

/// Packs of the tests: small, so that they are sealed, removed and compacted.
pub(super) const TEST_PACK_BYTES: u32 = 96 << 10;

pub(super) fn group(name: u8) -> GroupId {
    GroupId::new(Digest::of(&[name]))
}

pub(super) fn slot(name: u8) -> SlotRef {
    SlotRef {
        group: group(name),
        slot: SlotIndex::new(1),
    }
}

pub(super) fn shard(name: u8, segment: u32) -> ShardPlace {
    ShardPlace::new(slot(name), SegmentNumber::new(segment))
}

/// The bytes of a version of a shard: small, one span, and more spans.
pub(super) fn content(shard: ShardPlace, version: u8) -> Bytes {
    let number = shard.segment.get();
    let size = match number % 4 {
        0 => 100 + number,
        1 => 5000,
        2 => 16 << 10,
        _ => (40 << 10) + 17,
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(shard.slot.group.as_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&[version]);
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

pub(super) fn put_of(shard: ShardPlace, version: u8) -> ShardPut {
    put_bytes(shard, version, content(shard, version))
}

/// A put of given bytes.
pub(super) fn put_bytes(shard: ShardPlace, version: u8, bytes: Bytes) -> ShardPut {
    let hashed = hash_shard(&bytes).unwrap();
    let code = Code::new(2, 4).unwrap();
    let roots = code.slots().map(|slot| {
        if slot == shard.slot.slot {
            hashed.root
        } else {
            ShardRoot::new(Digest::of(&[slot.get(), version]))
        }
    });
    let record = SegmentRecord {
        group: shard.slot.group,
        number: shard.segment,
        code,
        payload_bytes: u32::try_from(bytes.len()).unwrap() * 2,
        shard_roots: Bounded::new(roots.collect()).unwrap(),
    };
    ShardPut {
        slot: shard.slot.slot,
        record: Signed::sign(record, &SecretKey::from_bytes(&[7; 32])),
        bytes,
        hashed,
        replace: Replace::Unrevised,
        written_at: UnixMillis::new(1000),
    }
}

/// The detail of a revision whose leaves are versions of shards, `None` for emptied ones.
pub(super) fn detail(
    place: SlotRef,
    number: u64,
    leaves: &[Option<u8>],
    emptied: &[u32],
) -> Signed<RevisionDetail> {
    let tree = SlotTree::from_leaves(leaves.iter().zip(0..).map(|(version, segment)| {
        let shard = ShardPlace::new(place, SegmentNumber::new(segment));
        version.map_or(Leaf::EMPTY, |version| {
            let bytes = content(shard, version);
            let root = hash_shard(&bytes).unwrap().root;
            Leaf::new(u32::try_from(bytes.len()).unwrap(), root).unwrap()
        })
    }))
    .unwrap();
    let mut roots = vec![SlotRoot::new(Digest::of(b"another slot")); 4];
    roots[place.slot.index()] = tree.root();
    let detail = RevisionDetail {
        revision: GroupRevision {
            group: place.group,
            number: RevisionNumber::new(number),
            segment_count: tree.count(),
            slot_bytes: ByteCount::new(tree.sum()),
            group_root: group_root(&roots).unwrap(),
        },
        slot_roots: Bounded::new(roots).unwrap(),
        emptied: Bounded::new(emptied.iter().copied().map(SegmentNumber::new).collect()).unwrap(),
    };
    Signed::sign(detail, &SecretKey::from_bytes(&[7; 32]))
}

pub(super) fn config(folder: &str) -> StoreConfig {
    StoreConfig {
        folder: PathBuf::from(folder),
        capacity: ByteCount::new(64 << 20),
        floor: ByteCount::ZERO,
        pack_bytes: TEST_PACK_BYTES,
    }
}

pub(super) fn open<D: Disk>(
    disk: &D,
    config: StoreConfig,
) -> Result<(ShardStore<D>, OpenReport), StoreError> {
    let key = StoreKey::new([9; 32]);
    ShardStore::open(disk.clone(), config, Arc::new(NoCache), key)
}

/// Puts one shard.
pub(super) fn put_one<D: Disk>(
    store: &ShardStore<D>,
    shard: ShardPlace,
    version: u8,
) -> Result<(), StoreError> {
    let mut results = store.put(&[put_of(shard, version)]);
    results.pop().unwrap().map(|_| ())
}

/// That every way of reading the shard gives that version.
pub(super) fn assert_version<D: Disk>(store: &ShardStore<D>, shard: ShardPlace, version: u8) {
    let expected = content(shard, version);
    let whole = store.read_shard(shard, Check::Yes).unwrap();
    assert_eq!(whole.bytes, expected, "{shard}");
    assert_eq!(whole.record.unwrap(), put_of(shard, version).record);
    let bytes = u32::try_from(expected.len()).unwrap();
    let range = ShardRange {
        offset: bytes / 3,
        bytes: bytes.div_ceil(7),
    };
    let read = store
        .read(shard, range, WithRecord::Yes, Check::No)
        .unwrap();
    let start = usize::try_from(read.range.offset).unwrap();
    assert_eq!(read.bytes, expected[start..start + read.bytes.len()]);
    verify_range(read.root, bytes, read.range, &read.bytes, &read.proof).unwrap();
    assert_eq!(store.record(shard).unwrap(), whole_record(shard, version));
}

fn whole_record(shard: ShardPlace, version: u8) -> Signed<SegmentRecord> {
    put_of(shard, version).record
}

/// Which version of the shard is there; `None` when it is absent.
///
/// # Panics
///
/// When it is none of the versions, or any other error.
pub(super) fn version<D: Disk>(store: &ShardStore<D>, shard: ShardPlace) -> Option<u8> {
    match store.read_shard(shard, Check::Yes) {
        Ok(read) => {
            let found = (0..=u8::MAX).find(|version| content(shard, *version) == read.bytes);
            Some(found.expect("a version of the shard"))
        }
        Err(StoreError::Absent { .. } | StoreError::Emptied { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Runs `test` in a world with one machine.
pub(super) fn on_machine(seed: u64, test: impl FnOnce(SimRuntime)) {
    Sim::new(seed).run(async |sim: Sim| test(sim.machine("node").runtime()));
}

/// Overwrites a byte of a file.
pub(super) fn flip<D: Disk>(disk: &D, path: &std::path::Path, offset: u64) {
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[&[byte[0] ^ 0x40]], offset).unwrap();
    file.sync().unwrap();
}

/// That revision is acknowledged, and nobody asks for another.
pub(super) fn final_at(number: u64) -> Needs {
    let number = RevisionNumber::new(number);
    Needs::of(number, None, RevisionNumber::new(u64::MAX))
}
