//! What each call promises, one by one.

use cairn_core::{ByteCount, SecretKey, SegmentNumber, Signed, UnixMillis};
use cairn_runtime::{Runtime, SimRuntime};

use super::fixture::{
    assert_version, config, detail, final_at, on_machine, open, put_bytes, put_of, put_one, shard,
    slot, version,
};
use crate::store::{Kept, PutDone, Replace, ShardStore, StoreError};

type Store = ShardStore<<SimRuntime as Runtime>::Disk>;

fn with_store(test: impl FnOnce(&SimRuntime, Store)) {
    on_machine(1, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        test(&runtime, store);
    });
}

fn reopen(runtime: &SimRuntime, store: Store) -> Store {
    drop(store);
    open(runtime.disk(), config("/store")).unwrap().0
}

#[test]
fn i1_what_was_put_is_read_before_and_after_reopening() {
    with_store(|runtime, store| {
        let puts: Vec<_> = (0..20)
            .map(|segment| put_of(shard(1, segment), 0))
            .collect();
        for result in store.put(&puts) {
            assert_eq!(result.unwrap(), PutDone::Stored);
        }
        let store = reopen(runtime, store);
        for segment in 0..20 {
            assert_version(&store, shard(1, segment), 0);
        }
        assert_eq!(store.figures().unwrap().shard_count, 20);
        assert!(store.figures().unwrap().pack_count > 0);
    });
}

#[test]
fn the_same_shard_again_is_kept_and_another_replaces_it_until_revised() {
    with_store(|runtime, store| {
        put_one(&store, shard(1, 0), 0).unwrap();
        let again = store.put(&[put_of(shard(1, 0), 0)]).pop().unwrap();
        assert_eq!(again.unwrap(), PutDone::Kept);
        put_one(&store, shard(1, 0), 1).unwrap();
        let store = reopen(runtime, store);
        assert_version(&store, shard(1, 0), 1);
        store
            .expect(slot(1), &detail(slot(1), 1, &[Some(1)], &[]))
            .unwrap();
        let error = put_one(&store, shard(1, 0), 2).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        let store = reopen(runtime, store);
        let error = put_one(&store, shard(1, 0), 2).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert_version(&store, shard(1, 0), 1);
    });
}

#[test]
fn i1_catching_up_replaces_a_wrong_shard_but_never_a_reached_one() {
    with_store(|_, store| {
        put_one(&store, shard(1, 0), 0).unwrap();
        let first = detail(slot(1), 1, &[Some(1)], &[]);
        store.expect(slot(1), &first).unwrap();
        let error = store.reach(slot(1), &first).unwrap_err();
        assert!(matches!(error, StoreError::SlotRoot { .. }), "{error}");
        let mut caught_up = put_of(shard(1, 0), 1);
        caught_up.replace = Replace::Unreached;
        store.put(&[caught_up]).pop().unwrap().unwrap();
        store.reach(slot(1), &first).unwrap();
        let mut other = put_of(shard(1, 0), 2);
        other.replace = Replace::Unreached;
        let error = store.put(&[other]).pop().unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    });
}

#[test]
fn i3_a_revision_is_reached_with_its_root_or_not_at_all() {
    with_store(|runtime, store| {
        for segment in [0, 1, 3] {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let all = detail(slot(1), 1, &[Some(0); 4], &[]);
        match store.reach(slot(1), &all).unwrap_err() {
            StoreError::Lacking { first, count, .. } => assert_eq!((first.get(), count), (2, 1)),
            error => panic!("{error}"),
        }
        assert_eq!(store.reached(slot(1)), None);
        put_one(&store, shard(1, 2), 0).unwrap();
        let root = store.reach(slot(1), &all).unwrap();
        assert_eq!(root, all.unverified().slot_roots[1]);
        let store = reopen(runtime, store);
        let reached = store.reached(slot(1)).unwrap();
        assert_eq!((reached.detail, reached.whole), (all, true));
        assert_eq!(store.slot_tree(slot(1)).unwrap().root(), root);
    });
}

#[test]
fn emptied_leaves_go_when_their_revision_is_acknowledged() {
    with_store(|runtime, store| {
        for segment in 0..8 {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        store
            .reach(slot(1), &detail(slot(1), 1, &[Some(0); 8], &[]))
            .unwrap();
        let full = store.figures().unwrap().used;
        let mut leaves = [Some(0); 8];
        leaves[3] = None;
        leaves[7] = None;
        let second = detail(slot(1), 2, &leaves, &[3, 7]);
        store.reach(slot(1), &second).unwrap();
        let store = reopen(runtime, store);
        let used = store.figures().unwrap().used;
        assert!(used >= full, "nothing goes before it may");
        assert_eq!(store.kept(slot(1), shard(1, 3).segment, 1), [Kept::Emptied]);
        let early = store.release_emptied(slot(1), &final_at(1)).unwrap();
        assert_eq!(early.get(), 0);
        let freed = store.release_emptied(slot(1), &final_at(2)).unwrap();
        assert!(freed.get() > 80 << 10);
        assert!(store.figures().unwrap().used.get() + (64 << 10) < used.get());
        let error = put_one(&store, shard(1, 3), 0).unwrap_err();
        assert!(matches!(error, StoreError::Emptied { .. }), "{error}");
        let store = reopen(runtime, store);
        assert_eq!(version(&store, shard(1, 3)), None);
        assert_eq!(version(&store, shard(1, 4)), Some(0));
        assert!(store.reached(slot(1)).unwrap().whole);
    });
}

#[test]
fn unrevised_shards_expire_and_stay_away() {
    with_store(|runtime, store| {
        for segment in 0..8 {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let before = UnixMillis::new(1000);
        assert_eq!(store.expire(slot(1), 4, before).unwrap(), 0);
        assert_eq!(store.expire(slot(1), 4, UnixMillis::new(1001)).unwrap(), 4);
        let store = reopen(runtime, store);
        let kept: Vec<_> = (0..8)
            .map(|segment| version(&store, shard(1, segment)))
            .collect();
        let (some, none) = (Some(0), None);
        assert_eq!(kept, [some, some, some, some, none, none, none, none]);
        put_one(&store, shard(1, 5), 3).unwrap();
        let store = reopen(runtime, store);
        assert_version(&store, shard(1, 5), 3);
    });
}

#[test]
fn a_dropped_slot_is_gone_and_may_come_again() {
    with_store(|runtime, store| {
        for segment in 0..12 {
            put_one(&store, shard(1, segment), 0).unwrap();
            put_one(&store, shard(2, segment), 0).unwrap();
        }
        store
            .reach(slot(1), &detail(slot(1), 1, &[Some(0); 12], &[]))
            .unwrap();
        store.drop_slot(slot(1)).unwrap();
        assert_eq!(store.slots(), [slot(2)]);
        let store = reopen(runtime, store);
        assert_eq!(store.slots(), [slot(2)]);
        put_one(&store, shard(1, 0), 5).unwrap();
        let store = reopen(runtime, store);
        assert_version(&store, shard(1, 0), 5);
        assert_eq!(version(&store, shard(1, 1)), None);
        for segment in 0..12 {
            assert_version(&store, shard(2, segment), 0);
        }
    });
}

#[test]
fn mostly_dead_packs_are_copied_and_removed() {
    with_store(|runtime, store| {
        for segment in 0..60 {
            put_one(&store, shard(1, segment), 0).unwrap();
            put_one(&store, shard(2, segment), 0).unwrap();
        }
        let packs = store.figures().unwrap().pack_count;
        // What is left of slot 2 is small shards, whose heads take as much as they do.
        let keep = |segment: u32| segment.is_multiple_of(4);
        store.drop_slot(slot(1)).unwrap();
        let leaves: Vec<Option<u8>> = (0..60).map(|_| Some(0)).collect();
        store
            .reach(slot(2), &detail(slot(2), 1, &leaves, &[]))
            .unwrap();
        let emptied: Vec<u32> = (0..60).filter(|segment| !keep(*segment)).collect();
        let leaves: Vec<Option<u8>> = (0..60).map(|segment| keep(segment).then_some(0)).collect();
        store
            .reach(slot(2), &detail(slot(2), 2, &leaves, &emptied))
            .unwrap();
        store.release_emptied(slot(2), &final_at(2)).unwrap();
        let mut rounds = 0;
        while store.compact().unwrap().is_some() {
            rounds += 1;
            assert!(rounds < 100, "compaction ends");
        }
        assert!(store.figures().unwrap().pack_count < packs / 2);
        let store = reopen(runtime, store);
        for segment in (0..60).filter(|segment| keep(*segment)) {
            assert_version(&store, shard(2, segment), 0);
        }
        assert!(store.reached(slot(2)).unwrap().whole);
    });
}

#[test]
fn i9_a_store_takes_no_more_than_its_capacity() {
    on_machine(2, |runtime| {
        let mut small = config("/store");
        small.capacity = ByteCount::new(1 << 20);
        let (store, _) = open(runtime.disk(), small.clone()).unwrap();
        let mut stored = 0;
        let mut refused = 0;
        for segment in 0..80 {
            match put_one(&store, shard(1, segment), 0) {
                Ok(()) => stored += 1,
                Err(StoreError::Full { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            stored > 30 && refused > 10,
            "{stored} stored, {refused} refused"
        );
        let figures = store.figures().unwrap();
        assert!(figures.used.get() <= (1 << 20) - figures.reserve.get());
        // Room for its own records is left: the slot can go, and then there is room again.
        store.drop_slot(slot(1)).unwrap();
        put_one(&store, shard(1, 200), 0).unwrap();
    });
}

#[test]
fn i9_a_shard_takes_at_most_two_and_a_half_times_what_it_is_charged() {
    on_machine(2, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        let mut segment = 0;
        for bytes in [1_usize, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 100_000] {
            let before = store.figures().unwrap().used.get();
            let charged = store.slot_figures(slot(1));
            let charged = charged.map_or(0, |figures| figures.charged_bytes.get());
            for _ in 0..8 {
                let put = put_bytes(shard(1, segment), 0, vec![7; bytes].into());
                store.put(&[put]).pop().unwrap().unwrap();
                segment += 1;
            }
            let used = store.figures().unwrap().used.get() - before;
            let figures = store.slot_figures(slot(1)).unwrap();
            let charged = figures.charged_bytes.get() - charged;
            // A pack's own page aside.
            assert!(
                used <= charged * 5 / 2 + 8_192,
                "{bytes}: {used} for {charged}"
            );
        }
    });
}

#[test]
fn a_second_process_is_refused() {
    with_store(|runtime, store| {
        let error = open(runtime.disk(), config("/store")).unwrap_err();
        match error {
            StoreError::Disk(error) => {
                assert_eq!(error.source.kind(), std::io::ErrorKind::WouldBlock);
            }
            error => panic!("{error}"),
        }
        drop(store);
    });
}

#[test]
fn a_closed_store_reads_and_takes_nothing() {
    with_store(|_, store| {
        put_one(&store, shard(1, 0), 0).unwrap();
        store.close().unwrap();
        assert_version(&store, shard(1, 0), 0);
        let error = put_one(&store, shard(1, 1), 0).unwrap_err();
        assert!(matches!(error, StoreError::Closed), "{error}");
    });
}

#[test]
fn i9_a_full_store_can_still_make_room() {
    on_machine(3, |runtime| {
        let mut small = config("/store");
        small.capacity = ByteCount::new(2 << 20);
        let (store, _) = open(runtime.disk(), small).unwrap();
        // Tiny shards, every second of a slot that goes: holes give nothing back within heads.
        let mut count = 0;
        while put_one(&store, shard(1 + u8::from(count % 2 == 0), count * 4), 0).is_ok() {
            count += 1;
        }
        store.drop_slot(slot(1)).unwrap();
        while store.compact().unwrap().is_some() {}
        for number in 0..count / 4 {
            put_one(&store, shard(3, number * 4), 0).unwrap();
        }
        for number in (0..count).step_by(2) {
            assert_version(&store, shard(2, number * 4), 0);
        }
    });
}

#[test]
fn i3_leaves_emptied_by_a_revision_that_was_never_whole_are_remembered() {
    with_store(|runtime, store| {
        for segment in [0, 1, 2] {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let first = detail(slot(1), 1, &[Some(0); 3], &[]);
        store.reach(slot(1), &first).unwrap();
        let second = detail(slot(1), 2, &[Some(0), None, Some(0), Some(0)], &[1]);
        let error = store.reach_or_expect(slot(1), &second).unwrap_err();
        assert!(matches!(error, StoreError::Lacking { .. }), "{error}");
        let store = reopen(runtime, store);
        let third = detail(slot(1), 3, &[Some(0), None, Some(0), None], &[3]);
        let hinted = store.hinted(slot(1), third.unverified());
        assert_eq!(hinted, [1, 3].map(SegmentNumber::new));
        store.reach(slot(1), &third).unwrap();
        assert_eq!(store.kept(slot(1), shard(1, 1).segment, 1), [Kept::Emptied]);
    });
}

#[test]
fn i3_a_false_hint_is_overruled_and_forgotten() {
    with_store(|runtime, store| {
        for segment in [0, 1] {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let first = detail(slot(1), 1, &[Some(0); 2], &[1]);
        let error = store.reach_or_expect(slot(1), &first).unwrap_err();
        assert!(matches!(error, StoreError::SlotRoot { .. }), "{error}");
        store.reach_emptied(slot(1), &first, &[]).unwrap();
        let store = reopen(runtime, store);
        let reached = store.reached(slot(1)).unwrap();
        assert_eq!((reached.detail, reached.whole), (first, true));
        assert_version(&store, shard(1, 1), 0);
    });
}

#[test]
fn a_revision_that_says_other_bytes_is_not_reached() {
    with_store(|_, store| {
        put_one(&store, shard(1, 0), 0).unwrap();
        let mut less = detail(slot(1), 1, &[Some(0)], &[]).into_unverified();
        less.revision.slot_bytes = ByteCount::new(less.revision.slot_bytes.get() - 1);
        let less = Signed::sign(less, &SecretKey::from_bytes(&[7; 32]));
        let error = store.reach(slot(1), &less).unwrap_err();
        assert!(matches!(error, StoreError::SlotBytes { .. }), "{error}");
        assert_eq!(store.reached(slot(1)), None);
    });
}
