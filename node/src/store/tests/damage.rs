//! Damage on the disk: named errors, never wrong bytes, the rest stays.

use std::path::PathBuf;

use cairn_core::message::{ShardRange, WithRecord};
use cairn_proofs::verify_range;
use cairn_runtime::{Disk, DiskFile, OpenMode, Runtime, Sim};
use proptest::prelude::*;

use super::fixture::{
    assert_version, config, content, detail, flip, on_machine, open, put_of, put_one, shard, slot,
    version,
};
use crate::store::{Check, Damage, PAGE_BYTES, ShardStore, StoreError};

const SHARDS: u32 = 12;

fn pack(number: u32) -> PathBuf {
    PathBuf::from(format!("/store/packs/{number:08}.pack"))
}

/// Every shard is right, lacking or an error that names it; how many are right.
fn right_or_named<D: Disk>(store: &ShardStore<D>, what: &str) -> u32 {
    let mut right = 0;
    for segment in 0..SHARDS {
        let shard = shard(1, segment);
        let expected = content(shard, 0);
        let bytes = u32::try_from(expected.len()).unwrap();
        let range = ShardRange {
            offset: bytes / 2,
            bytes: bytes.div_ceil(4),
        };
        // A reader verifies a range itself.
        if let Ok(read) = store.read(shard, range, WithRecord::Yes, Check::No)
            && verify_range(read.root, bytes, read.range, &read.bytes, &read.proof).is_ok()
        {
            let start = usize::try_from(read.range.offset).unwrap();
            assert_eq!(
                read.bytes,
                expected[start..start + read.bytes.len()],
                "{what}"
            );
            assert_eq!(read.record.unwrap(), put_of(shard, 0).record, "{what}");
        }
        match store.read_shard(shard, Check::Yes) {
            Ok(read) => {
                assert_eq!(read.bytes, expected, "{what}");
                assert_eq!(read.record.unwrap(), put_of(shard, 0).record, "{what}");
                right += 1;
            }
            Err(StoreError::Damaged { shard: named, .. }) => {
                assert_eq!(named, shard, "{what}");
                let again = store.read_shard(shard, Check::Yes).unwrap_err();
                assert!(
                    matches!(again, StoreError::Absent { .. }),
                    "{what}: {again}"
                );
            }
            Err(StoreError::Absent { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
        }
    }
    right
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// One bit anywhere in any file costs at most the shard that it is in.
    #[test]
    fn i2_a_flipped_bit_anywhere_is_a_named_error(seed in 0_u64..1 << 32, reopened: bool) {
        on_machine(seed, |runtime| {
            let (store, _) = open(runtime.disk(), config("/store")).unwrap();
            for segment in 0..SHARDS {
                put_one(&store, shard(1, segment), 0).unwrap();
            }
            let first = detail(slot(1), 1, &[Some(0); 12], &[]);
            store.reach(slot(1), &first).unwrap();
            let machine = runtime.machine();
            let files = machine.disk_files();
            let files: Vec<_> = files.iter().filter(|(_, bytes)| *bytes > 0).collect();
            let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
            let mut at = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % total;
            let mut flipped = String::new();
            for (path, bytes) in files {
                if at < *bytes {
                    machine.flip_bits(path, at..at + 1, 1).unwrap();
                    flipped = format!("{} at {at}", path.display());
                    break;
                }
                at -= bytes;
            }
            let store = if reopened {
                drop(store);
                open(runtime.disk(), config("/store")).unwrap().0
            } else {
                store
            };
            let right = right_or_named(&store, &flipped);
            assert!(right >= SHARDS - 1, "{flipped}: {right} right");
            // What is lacking is put again, and the slot is whole again.
            for segment in 0..SHARDS {
                put_one(&store, shard(1, segment), 0).unwrap();
            }
            store.reach(slot(1), &first).unwrap();
            assert_eq!(right_or_named(&store, &flipped), SHARDS);
            assert!(store.reached(slot(1)).unwrap().whole);
        });
    }
}

#[test]
fn i1_a_torn_tail_at_every_length_keeps_what_is_before() {
    on_machine(3, |runtime| {
        let mut whole = config("/store");
        whole.pack_bytes = 8 << 20;
        let (store, _) = open(runtime.disk(), whole.clone()).unwrap();
        let mut ends = Vec::new();
        for segment in 0..6 {
            put_one(&store, shard(1, segment), 0).unwrap();
            let file = runtime.disk().open(&pack(1), OpenMode::Read).unwrap();
            ends.push(file.len().unwrap());
        }
        drop(store);
        let content = runtime.disk().read_file(&pack(1), 1 << 20).unwrap();
        let total = u64::try_from(content.len()).unwrap();
        for cut in (0..total).rev().step_by(1711).chain(ends.clone()) {
            let file = runtime.disk().open(&pack(1), OpenMode::ReadWrite).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(&[&content[..usize::try_from(cut).unwrap()]], 0)
                .unwrap();
            drop(file);
            let (store, _) = open(runtime.disk(), whole.clone()).unwrap();
            for (segment, end) in (0..).zip(&ends) {
                let expected = (*end <= cut).then_some(0);
                assert_eq!(version(&store, shard(1, segment)), expected, "cut at {cut}");
            }
            put_one(&store, shard(1, 5), 0).unwrap();
            assert_version(&store, shard(1, 5), 0);
            drop(store);
        }
    });
}

#[test]
fn a_shard_that_looks_like_a_header_is_not_one() {
    on_machine(4, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        // A copy of a real shard of the pack, as another writer would have to guess it.
        put_one(&store, shard(1, 3), 0).unwrap();
        let pack_bytes = runtime.disk().read_file(&pack(1), 1 << 20).unwrap();
        let page = usize::try_from(PAGE_BYTES).unwrap();
        let forged = pack_bytes[page..].to_vec();
        let mut put = put_of(shard(2, 0), 0);
        let hashed = cairn_proofs::hash_shard(&forged).unwrap();
        let mut record = put.record.unverified().clone();
        record.payload_bytes = u32::try_from(forged.len()).unwrap() * 2;
        let mut roots = record.shard_roots.to_vec();
        roots[1] = hashed.root;
        record.shard_roots = cairn_core::Bounded::new(roots).unwrap();
        let key = cairn_core::SecretKey::from_bytes(&[7; 32]);
        put.record = cairn_core::Signed::sign(record, &key);
        put.bytes = forged.into();
        put.hashed = hashed;
        store.put(&[put]).pop().unwrap().unwrap();
        drop(store);
        // The header of the carrier is lost, so that its pages are searched.
        flip(
            runtime.disk(),
            &pack(1),
            u64::try_from(pack_bytes.len()).unwrap() + 40,
        );
        let (store, report) = open(runtime.disk(), config("/store")).unwrap();
        assert!(report.strange_page_count > 0);
        assert_eq!(report.shard_count, 1);
        assert_version(&store, shard(1, 3), 0);
    });
}

#[test]
fn a_lost_identity_is_found_in_the_packs_and_a_lost_first_page_does_no_harm() {
    on_machine(5, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        put_one(&store, shard(1, 0), 0).unwrap();
        drop(store);
        flip(runtime.disk(), &PathBuf::from("/store/identity"), 10);
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        assert_version(&store, shard(1, 0), 0);
        drop(store);
        flip(runtime.disk(), &pack(1), 10);
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        assert_version(&store, shard(1, 0), 0);
        drop(store);
        flip(runtime.disk(), &PathBuf::from("/store/identity"), 10);
        let error = open(runtime.disk(), config("/store")).unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    });
}

#[test]
fn a_damaged_dead_list_brings_no_shard_back() {
    on_machine(6, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        for segment in 0..8 {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let before = cairn_core::UnixMillis::new(2000);
        store.expire(slot(1), 5, before).unwrap();
        drop(store);
        let lists: Vec<PathBuf> = runtime
            .machine()
            .disk_files()
            .into_iter()
            .map(|(path, _)| path)
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "dead"))
            .collect();
        assert!(!lists.is_empty());
        for list in &lists {
            flip(runtime.disk(), list, 12);
        }
        let (store, report) = open(runtime.disk(), config("/store")).unwrap();
        assert_eq!(report.damaged_dead_lists.len(), lists.len());
        for segment in 0..8 {
            let expected = (segment < 5).then_some(0);
            assert_eq!(version(&store, shard(1, segment)), expected);
        }
        drop(store);
        let (_, report) = open(runtime.disk(), config("/store")).unwrap();
        assert!(report.damaged_dead_lists.is_empty(), "it is written anew");
    });
}

#[test]
fn scrub_finds_every_damaged_shard_and_they_are_lacking() {
    on_machine(7, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        for segment in 0..SHARDS {
            put_one(&store, shard(1, segment), 0).unwrap();
            put_one(&store, shard(2, segment), 0).unwrap();
        }
        let first = detail(slot(1), 1, &[Some(0); 12], &[]);
        store.reach(slot(1), &first).unwrap();
        let machine = runtime.machine();
        let packs: Vec<(PathBuf, u64)> = machine
            .disk_files()
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|suffix| suffix == "pack"))
            .collect();
        for (path, bytes) in &packs {
            machine.flip_bits(path, 0..*bytes, 2).unwrap();
        }
        let mut cursor = None;
        let (mut damaged, mut shards) = (Vec::new(), 0);
        loop {
            let step = store.scrub(cursor, 50_000).unwrap();
            damaged.extend(step.damaged);
            shards += step.shard_count;
            cursor = step.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(shards, u64::from(2 * SHARDS));
        assert!(!damaged.is_empty() && damaged.len() <= 2 * packs.len());
        let lacking = store.lacking(slot(1), SHARDS, 100);
        let of_slot = damaged.iter().filter(|shard| shard.slot == slot(1)).count();
        assert_eq!(lacking.len(), of_slot);
        assert_eq!(store.reached(slot(1)).unwrap().whole, of_slot == 0);
    });
}

#[test]
fn a_bad_sector_is_damage_of_its_shard() {
    Sim::new(8).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        put_one(&store, shard(1, 0), 0).unwrap();
        put_one(&store, shard(1, 1), 0).unwrap();
        machine.plan_disk_fault(0, cairn_runtime::sim::DiskFault::Error);
        let error = store.read_shard(shard(1, 0), Check::No).unwrap_err();
        let StoreError::Damaged {
            shard: named,
            damage,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(named, shard(1, 0));
        assert!(matches!(damage, Damage::Unreadable(_)), "{damage}");
        assert_version(&store, shard(1, 1), 0);
        put_one(&store, shard(1, 0), 0).unwrap();
        assert_version(&store, shard(1, 0), 0);
    });
}

#[test]
fn i1_a_shard_that_can_not_be_read_for_now_is_not_destroyed() {
    Sim::new(8).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        for segment in [0, 1] {
            put_one(&store, shard(1, segment), 0).unwrap();
            machine.plan_disk_fault(0, cairn_runtime::sim::DiskFault::Error);
            let error = store.read_shard(shard(1, segment), Check::No).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
        // One has come back from others meanwhile.
        put_one(&store, shard(1, 1), 0).unwrap();
        drop(store);
        let (store, report) = open(runtime.disk(), config("/store")).unwrap();
        assert_eq!(report.shard_count, 2);
        assert_version(&store, shard(1, 0), 0);
        assert_version(&store, shard(1, 1), 0);
    });
}

#[test]
fn i1_a_pack_that_can_not_be_opened_for_now_loses_no_shard() {
    on_machine(9, |runtime| {
        let mut small = config("/store");
        // Each shard fills a pack.
        small.pack_bytes = PAGE_BYTES + 1;
        let (store, _) = open(runtime.disk(), small).unwrap();
        // More packs than are kept open, so that the first has to be opened again.
        for segment in 0..300 {
            put_one(&store, shard(1, 4 * segment), 0).unwrap();
        }
        let (disk, first, aside) = (runtime.disk(), pack(1), PathBuf::from("/store/aside"));
        disk.rename(&first, &aside).unwrap();
        disk.create_dir_all(&first).unwrap();
        let error = store.read_shard(shard(1, 0), Check::Yes).unwrap_err();
        assert!(matches!(error, StoreError::Disk(_)), "{error}");
        disk.remove_dir_all(&first).unwrap();
        disk.rename(&aside, &first).unwrap();
        assert_version(&store, shard(1, 0), 0);
    });
}

/// Two batches in one pack, more than one window of the walk; the last may be unfinished.
fn two_batches<D: Disk>(store: &ShardStore<D>) {
    for segments in [0..6, 6..SHARDS] {
        let puts: Vec<_> = segments
            .map(|segment| put_of(shard(1, segment), 0))
            .collect();
        for result in store.put(&puts) {
            result.unwrap();
        }
    }
}

/// Opens a store of two batches while `count` calls fail, from the `number`th on; whether they were
/// met. Whatever came of it, everything is there once the disk can be read.
fn open_with_errors(number: u64, count: u64) -> bool {
    let what = format!("{count} errors from call {number} on");
    Sim::new(10).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let disk = runtime.disk();
        let mut large = config("/store");
        large.pack_bytes = 8 << 20;
        let (store, _) = open(disk, large.clone()).unwrap();
        two_batches(&store);
        drop(store);
        for fault in number..number + count {
            machine.plan_disk_fault(fault, cairn_runtime::sim::DiskFault::Error);
        }
        let calls = machine.disk_calls();
        let opened = open(disk, large.clone());
        let met = machine.disk_calls() - calls > number;
        machine.clear_disk_faults();
        let mut expected = vec![Some(0); usize::try_from(SHARDS).unwrap()];
        if let Ok((store, _)) = opened {
            right_or_named(&store, &what);
            // A writer that began again replaces one, and a new shard comes.
            put_one(&store, shard(1, 8), 1).unwrap();
            put_one(&store, shard(1, SHARDS), 0).unwrap();
            expected[8] = Some(1);
            expected.push(Some(0));
        }
        for _ in 0..2 {
            let (store, _) = open(disk, large.clone()).unwrap();
            for (segment, expected) in (0..).zip(&expected) {
                let found = version(&store, shard(1, segment));
                assert_eq!(found, *expected, "{what}: segment {segment}");
            }
            let used = store.figures().unwrap().used.get();
            let on_disk = machine.disk_used_bytes();
            assert!(
                used <= on_disk && on_disk <= used + (64 << 10),
                "{what}: counts {used}, the disk has {on_disk}"
            );
        }
        met
    })
}

#[test]
fn i1_read_errors_at_any_call_of_an_opening_lose_no_shard() {
    // One bad call, a bad sector (the read of many pages, then that of the page), a bad stretch.
    for count in [1, 2, 40] {
        let met = (0..).take_while(|number| open_with_errors(*number, count));
        assert!(met.count() > 20);
    }
}

#[test]
fn i1_a_dropped_slot_stays_dropped_when_its_shards_could_not_be_read() {
    Sim::new(11).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let mut large = config("/store");
        large.pack_bytes = 8 << 20;
        let (store, _) = open(runtime.disk(), large.clone()).unwrap();
        two_batches(&store);
        drop(store);
        let calls = machine.disk_calls();
        drop(open(runtime.disk(), large.clone()).unwrap());
        let calls = machine.disk_calls() - calls;
        for fault in 0..calls {
            machine.plan_disk_fault(fault, cairn_runtime::sim::DiskFault::Error);
            let opened = open(runtime.disk(), large.clone());
            machine.clear_disk_faults();
            let Ok((store, _)) = opened else {
                continue;
            };
            store.drop_slot(slot(1)).unwrap();
            drop(store);
            let (store, _) = open(runtime.disk(), large.clone()).unwrap();
            for segment in 0..SHARDS {
                assert_eq!(version(&store, shard(1, segment)), None, "call {fault}");
            }
            two_batches(&store);
        }
    });
}
