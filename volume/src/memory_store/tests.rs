//! The store in memory holds its users to the traits.

use futures::FutureExt;

use super::*;

/// The outcome of a call, which never waits.
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("it never waits")
}

fn store() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig {
        payload_bytes_max: 10,
        group_segments_max: 3,
    })
}

fn put(store: &MemoryStore, payload: &'static [u8]) -> SegmentAt {
    let at = now(store.reserve()).unwrap().at;
    now(store.put(at, Bytes::from_static(payload))).unwrap();
    at
}

fn volume(byte: u8) -> VolumeId {
    VolumeId::new(Digest::new([byte; 32]))
}

#[test]
fn names_are_given_once_and_group_after_group() {
    let store = store();
    let mut names = Vec::new();
    for _ in 0..7 {
        let reserved = now(store.reserve()).unwrap();
        assert_eq!(reserved.payload_bytes_max, 10);
        names.push(reserved.at);
    }
    let numbers: Vec<u32> = names.iter().map(|at| at.number.get()).collect();
    assert_eq!(numbers, [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(names[0].group, names[2].group);
    assert_ne!(names[2].group, names[3].group);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 7);
}

#[test]
fn clones_are_one_store() {
    let store = store();
    let at = put(&store, b"payload");
    assert_eq!(now(store.clone().read(at, 0..7)).unwrap(), &b"payload"[..]);
}

#[test]
fn what_was_put_is_read() {
    let store = store();
    let at = put(&store, b"0123456789");
    assert_eq!(now(store.payload_bytes(at)), Ok(10));
    assert_eq!(now(store.read(at, 2..5)).unwrap(), &b"234"[..]);
    assert_eq!(now(store.read(at, 10..10)).unwrap(), &b""[..]);
    let reversed = Range { start: 5, end: 4 };
    for range in [9..11, 11..11, reversed] {
        let error = MemoryStoreError::Range {
            at,
            start: range.start,
            end: range.end,
            payload_bytes: 10,
        };
        assert_eq!(now(store.read(at, range)), Err(error));
    }
    let counts = store.counts();
    assert_eq!((counts.put_count, counts.put_bytes), (1, 10));
    assert_eq!((counts.read_count, counts.read_bytes), (2, 3));
    assert_eq!(counts.call_count, 8);
}

#[test]
fn a_name_is_used_once_and_only_when_it_was_reserved() {
    let store = store();
    let at = put(&store, b"payload");
    let used = Err(MemoryStoreError::Used { at });
    assert_eq!(now(store.put(at, Bytes::new())), used);
    let unknown = SegmentAt {
        number: SegmentNumber::new(1),
        ..at
    };
    let error = MemoryStoreError::Unknown { at: unknown };
    assert_eq!(now(store.put(unknown, Bytes::new())), Err(error.clone()));
    assert_eq!(now(store.read(unknown, 0..0)), Err(error.clone()));
    assert_eq!(now(store.discard(vec![at, unknown])), Err(error));
    assert_eq!(store.segments(), [at], "nothing was given up");
    let at = now(store.reserve()).unwrap().at;
    let missing = Err(MemoryStoreError::Missing { at });
    assert_eq!(now(store.payload_bytes(at)), missing);
    for payload in [&b""[..], b"0123456789a"] {
        let error = MemoryStoreError::Payload {
            at,
            max: 10,
            found: payload.len(),
        };
        assert_eq!(now(store.put(at, Bytes::from_static(payload))), Err(error));
    }
}

#[test]
fn what_is_given_up_is_read_until_the_next_sync() {
    let store = store();
    let kept = put(&store, b"kept");
    let at = put(&store, b"given up");
    let never_put = now(store.reserve()).unwrap().at;
    assert_eq!(store.kept_bytes(), 12);
    now(store.discard(vec![at, never_put, at])).unwrap();
    assert_eq!(store.kept_bytes(), 4);
    assert_eq!(store.segments(), [kept]);
    assert_eq!(now(store.read(at, 0..5)).unwrap(), &b"given"[..]);
    for at in [at, never_put] {
        let used = Err(MemoryStoreError::Used { at });
        assert_eq!(now(store.put(at, Bytes::new())), used);
    }
    now(store.sync()).unwrap();
    let missing = Err(MemoryStoreError::Missing { at });
    assert_eq!(now(store.read(at, 0..5)), missing);
    assert_eq!(now(store.read(kept, 0..4)).unwrap(), &b"kept"[..]);
    now(store.discard(vec![at])).unwrap();
    let counts = store.counts();
    assert_eq!((counts.discard_count, counts.sync_count), (2, 1));
}

#[test]
fn the_number_of_a_head_rises() {
    let store = store();
    let head = Bytes::from_static;
    assert_eq!(now(store.newest(volume(1))), Ok(None));
    now(store.publish(volume(1), 3, head(b"three"))).unwrap();
    now(store.publish(volume(2), 1, head(b"of another"))).unwrap();
    for found in [2, 3] {
        let error = MemoryStoreError::Old {
            volume: volume(1),
            newest: 3,
            found,
        };
        assert_eq!(
            now(store.publish(volume(1), found, head(b"old"))),
            Err(error)
        );
    }
    assert_eq!(now(store.newest(volume(1))), Ok(Some(head(b"three"))));
    now(store.publish(volume(1), 5, head(b"five"))).unwrap();
    assert_eq!(now(store.newest(volume(1))), Ok(Some(head(b"five"))));
    assert_eq!(now(store.newest(volume(2))), Ok(Some(head(b"of another"))));
    assert_eq!(store.counts().publish_count, 3);
}

#[test]
fn calls_fail_where_it_was_planned() {
    let store = store();
    store.fail_call(store.call_count());
    let planned = |call| Err(MemoryStoreError::Planned { call });
    assert_eq!(now(store.reserve()), planned(0));
    let at = now(store.reserve()).unwrap().at;
    assert_eq!(
        at.number,
        SegmentNumber::ZERO,
        "the failed call did nothing"
    );
    store.plan_fault(2, StoreFault::Unanswered);
    store.fail_call(4);
    let payload = Bytes::from_static(b"payload");
    let error = now(store.put(at, payload.clone())).unwrap_err();
    assert_eq!(error, MemoryStoreError::Planned { call: 2 });
    assert_eq!((error.retry(), error.blame()), (Retry::Later, Blame::World));
    assert_eq!(now(store.read(at, 0..7)), Ok(payload), "it was done");
    store.clear_faults();
    now(store.sync()).unwrap();
    // A call that is not allowed says so first.
    store.plan_fault(5, StoreFault::Unanswered);
    let used = Err(MemoryStoreError::Used { at });
    assert_eq!(now(store.put(at, Bytes::new())), used);
}

#[test]
fn payloads_are_lost_and_damaged_at_will() {
    let store = store();
    let (lost, damaged) = (put(&store, b"lost"), put(&store, b"damaged"));
    assert!(store.lose(lost));
    assert!(!store.lose(lost));
    let missing = Err(MemoryStoreError::Missing { at: lost });
    assert_eq!(now(store.read(lost, 0..4)), missing);
    assert_eq!(store.kept_bytes(), 7);
    assert!(store.damage(damaged, 1));
    assert_eq!(now(store.read(damaged, 0..7)).unwrap(), &b"d\x9emaged"[..]);
    assert!(!store.damage(damaged, 7));
    assert!(!store.damage(lost, 0));
}
