//! What the store takes on the disk: never more than its capacity, with everything it writes.

use cairn_core::group::EMPTIED_MAX;
use cairn_core::{
    Bounded, ByteCount, Digest, GroupRevision, RevisionDetail, RevisionNumber, SecretKey,
    SegmentNumber, Signed, SlotRoot,
};
use cairn_ledger::tx::SlotRef;
use cairn_proofs::group_root;
use cairn_runtime::{Disk, Machine, Runtime, Sim};

use super::fixture::{config, detail, final_at, open, put_one, shard, slot, version};
use crate::store::{ShardStore, StoreConfig, StoreError};

/// What is on the disk and is not counted: lock and identity.
const UNCOUNTED_BYTES: u64 = 8 << 10;

fn small(capacity: u64) -> StoreConfig {
    StoreConfig {
        capacity: ByteCount::new(capacity),
        ..config("/store")
    }
}

/// A revision that a slot can't reach and that has as many emptied leaves as one detail may name.
fn heavy(place: SlotRef, number: u64) -> Signed<RevisionDetail> {
    let roots = vec![SlotRoot::new(Digest::of(b"slot")); 4];
    let count = u32::try_from(EMPTIED_MAX).unwrap();
    let emptied = (0..count).map(SegmentNumber::new).collect();
    let detail = RevisionDetail {
        revision: GroupRevision {
            group: place.group,
            number: RevisionNumber::new(number),
            segment_count: count,
            slot_bytes: ByteCount::ZERO,
            group_root: group_root(&roots).unwrap(),
        },
        slot_roots: Bounded::new(roots).unwrap(),
        emptied: Bounded::new(emptied).unwrap(),
    };
    Signed::sign(detail, &SecretKey::from_bytes(&[7; 32]))
}

/// That the disk has what the store counts, and that it is within the capacity.
fn assert_within<D: Disk>(machine: &Machine, store: &ShardStore<D>, what: &str) {
    let figures = store.figures().unwrap();
    let (used, capacity) = (figures.used.get(), figures.capacity.get());
    assert!(used <= capacity, "{what}: {used} of {capacity}");
    let on_disk = machine.disk_used_bytes();
    assert!(
        used <= on_disk && on_disk <= used + UNCOUNTED_BYTES,
        "{what}: counts {used}, the disk has {on_disk}"
    );
}

/// That it was refused for want of room, or done.
fn is_full(result: Result<(), StoreError>) -> bool {
    match result {
        Ok(()) => false,
        Err(StoreError::Full { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn i9_slots_files_never_take_more_than_the_capacity_and_can_all_be_dropped() {
    Sim::new(1).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let (store, _) = open(runtime.disk(), small(64 << 20)).unwrap();
        // A byte more than the capacity and the disk says so.
        machine.set_disk_bytes((64 << 20) + UNCOUNTED_BYTES);
        let mut refused = 0;
        for name in 0..250 {
            // Shards don't get the reserve, slots' files do.
            let _may_be_full = is_full(put_one(&store, shard(name, 0), 0));
            let place = slot(name);
            refused += u32::from(is_full(store.expect(place, &heavy(place, 1))));
            assert_within(&machine, &store, &format!("slot {name}"));
        }
        assert!((10..100).contains(&refused), "{refused} refused");
        // What shards may take is gone, but what is there can go.
        assert!(is_full(put_one(&store, shard(251, 0), 0)));
        drop(store);
        let (store, _) = open(runtime.disk(), small(64 << 20)).unwrap();
        for place in store.slots() {
            store.drop_slot(place).unwrap();
            assert_within(&machine, &store, &format!("dropped {place}"));
        }
        assert_eq!(store.figures().unwrap().slot_count, 0);
        put_one(&store, shard(1, 1), 0).unwrap();
        assert_eq!(version(&store, shard(1, 1)), Some(0));
    });
}

#[test]
fn i9_a_slots_file_leaves_the_floor_to_others() {
    Sim::new(2).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let mut config = small(64 << 20);
        config.floor = ByteCount::new(8 << 20);
        let (store, _) = open(runtime.disk(), config).unwrap();
        put_one(&store, shard(1, 0), 0).unwrap();
        machine.set_disk_bytes(machine.disk_used_bytes() + (8 << 20) + 4096);
        let place = slot(1);
        assert!(is_full(store.expect(place, &heavy(place, 1))));
        let free = runtime
            .disk()
            .space(std::path::Path::new("/store"))
            .unwrap()
            .free_bytes;
        assert!(free >= 8 << 20, "{free} bytes are free");
        assert_eq!(store.newest(place), None);
        store.drop_slot(place).unwrap();
    });
}

#[test]
fn i9_emptied_leaves_are_released_in_a_full_store() {
    Sim::new(3).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let runtime = machine.runtime();
        let (store, _) = open(runtime.disk(), small(4 << 20)).unwrap();
        machine.set_disk_bytes((4 << 20) + UNCOUNTED_BYTES);
        for segment in 0..8 {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let first = detail(slot(1), 1, &[Some(0); 8], &[]);
        store.reach(slot(1), &first).unwrap();
        let mut leaves = [Some(0); 8];
        leaves[3] = None;
        let second = detail(slot(1), 2, &leaves, &[3]);
        store.reach(slot(1), &second).unwrap();
        let mut segment = 0;
        while !is_full(put_one(&store, shard(2, segment), 0)) {
            segment += 1;
        }
        let mut name = 10;
        while !is_full(store.expect(slot(name), &detail(slot(name), 1, &[Some(0)], &[]))) {
            name += 1;
        }
        assert_within(&machine, &store, "full");
        let freed = store.release_emptied(slot(1), &final_at(2));
        assert!(freed.unwrap().get() > 0);
        assert_within(&machine, &store, "released");
    });
}
