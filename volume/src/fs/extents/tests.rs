//! Extents are cut, joined and moved case by case.

use super::{Move, Relocated, relocate, spans, usage_delta};
use crate::fs::tests::{World, at, run_of};
use crate::fs::{Caller, Edit, Entries, FsError, New, Span, Touch, write};
use crate::key::{InodeNumber, Key, SegmentId};
use crate::value::{Extent, JournalRef, Source, encode};

static SUPERUSER: Caller = Caller::SUPERUSER;

fn touch(inode: InodeNumber) -> Touch<'static> {
    Touch {
        caller: &SUPERUSER,
        inode,
        now: at(1),
    }
}

fn journal(offset: u64) -> Source {
    Source::Journal(JournalRef { file: 3, offset })
}

fn run(skip: u32) -> Source {
    let run = run_of(8, 1_000);
    Source::Run { run, skip }
}

/// A world with a file of these extents.
fn with_extents(extents: &[(u64, u64, Source)]) -> (World, InodeNumber) {
    let mut world = World::new();
    let file = world.make(b"f", New::File);
    for (offset, bytes, source) in extents {
        let wrote = world.change(|edit| write(edit, touch(file), *offset, *bytes, *source));
        assert_eq!(wrote, Ok(*bytes));
    }
    world.check();
    (world, file)
}

/// What its extents are.
fn extents(world: &World, file: InodeNumber) -> Vec<(u64, u64, Source)> {
    let spans = spans(&world.map, file, 0..10_000, 100).unwrap();
    let all = spans.iter().filter_map(|span| {
        let Span {
            offset,
            bytes,
            source,
        } = *span;
        Some((offset, bytes, source?))
    });
    all.collect()
}

#[test]
fn a_write_cuts_what_it_covers() {
    type Expected<'a> = &'a [(u64, u64, Source)];
    let cases: [(u64, u64, Expected<'_>); 6] = [
        // In the middle, over the start, over the end, all, beside it on either side.
        (
            120,
            10,
            &[
                (100, 20, journal(0)),
                (120, 10, journal(500)),
                (130, 70, journal(30)),
            ],
        ),
        (90, 20, &[(90, 20, journal(500)), (110, 90, journal(10))]),
        (190, 20, &[(100, 90, journal(0)), (190, 20, journal(500))]),
        (90, 200, &[(90, 200, journal(500))]),
        (90, 10, &[(90, 10, journal(500)), (100, 100, journal(0))]),
        (200, 10, &[(100, 100, journal(0)), (200, 10, journal(500))]),
    ];
    for (offset, bytes, expected) in cases {
        let (mut world, file) = with_extents(&[(100, 100, journal(0))]);
        let source = journal(500);
        let wrote = world.change(|edit| write(edit, touch(file), offset, bytes, source));
        assert_eq!(wrote, Ok(bytes));
        assert_eq!(extents(&world, file), expected);
        world.check();
    }
}

#[test]
fn extents_that_go_on_become_one() {
    // Whichever comes first, and one that fills the gap between two.
    let (left, middle, right) = ((10, 5, run(10)), (15, 5, run(15)), (20, 5, run(20)));
    let orders = [
        [left, middle, right],
        [right, middle, left],
        [left, right, middle],
        [middle, right, left],
    ];
    for order in orders {
        let (world, file) = with_extents(&order);
        assert_eq!(extents(&world, file), [(10, 15, run(10))]);
    }
    let apart = [(10, 5, run(10)), (15, 5, run(16))];
    let (world, file) = with_extents(&apart);
    assert_eq!(extents(&world, file), apart);
    let zeros = [(0, 8, Source::Zeros), (8, 2, Source::Zeros)];
    let (world, file) = with_extents(&zeros);
    assert_eq!(extents(&world, file), [(0, 10, Source::Zeros)]);
}

/// A change of one byte does not write the extents beside it again.
#[test]
fn extents_beside_a_change_stay_unwritten() {
    let (world, file) = with_extents(&[(0, 5, journal(0)), (6, 5, journal(100))]);
    let mut edit = Edit::new(&world.map);
    write(&mut edit, touch(file), 5, 1, journal(50)).unwrap();
    let changes = edit.finish();
    let keys: Vec<&Key> = changes.iter().map(|(key, _)| key).collect();
    let (counters, attributes) = (Key::counters(), Key::attributes(file));
    assert_eq!(keys, [&counters, &attributes, &Key::extent(file, 5)]);
}

#[test]
fn only_bytes_that_still_come_from_there_move() {
    let (mut world, file) = with_extents(&[
        (0, 100, journal(0)),
        // Written anew since.
        (20, 10, journal(500)),
        (60, 5, Source::Zeros),
    ]);
    let moved = Move {
        inode: file,
        range: 0..100,
        from: journal(0),
        to: run(200),
    };
    let done = world.change(|edit| relocate(edit, &moved)).unwrap();
    let (bytes, end) = (85, 100);
    assert_eq!(done, Relocated { bytes, end });
    let expected = [
        (0, 20, run(200)),
        (20, 10, journal(500)),
        (30, 30, run(230)),
        (60, 5, Source::Zeros),
        (65, 35, run(265)),
    ];
    assert_eq!(extents(&world, file), expected);
    world.check();
    // Nothing comes from there any more.
    let done = world.change(|edit| relocate(edit, &moved)).unwrap();
    assert_eq!(done, Relocated { bytes: 0, end });
    // A part of an extent moves, too.
    let moved = Move {
        range: 40..50,
        from: run(240),
        to: journal(900),
        ..moved
    };
    let done = world.change(|edit| relocate(edit, &moved)).unwrap();
    assert_eq!(done, Relocated { bytes: 10, end: 50 });
    assert_eq!(extents(&world, file).len(), 7);
    world.check();
}

#[test]
fn a_place_too_short_for_what_moves_is_refused() {
    let (mut world, file) = with_extents(&[(0, 100, journal(0))]);
    let mut moved = Move {
        inode: file,
        range: 0..100,
        from: journal(0),
        to: run(901),
    };
    let refused = world.change(|edit| relocate(edit, &moved));
    assert!(matches!(refused, Err(FsError::Invalid { .. })));
    moved.to = run(900);
    let done = world.change(|edit| relocate(edit, &moved)).unwrap();
    assert_eq!(done.bytes, 100);
    moved.range = 5..5;
    let refused = world.change(|edit| relocate(edit, &moved));
    assert!(matches!(refused, Err(FsError::Invalid { .. })));
}

#[test]
fn spans_end_with_the_file_and_with_the_count() {
    let (world, file) = with_extents(&[(2, 3, journal(0)), (7, 1, journal(9))]);
    let read = |range, count| {
        let spans = spans(&world.map, file, range, count).unwrap();
        let all = spans.iter();
        let all = all.map(|span| (span.offset, span.bytes, span.source.is_some()));
        all.collect::<Vec<_>>()
    };
    let all = [(0, 2, false), (2, 3, true), (5, 2, false), (7, 1, true)];
    assert_eq!(read(0..u64::MAX, 10), all);
    assert_eq!(read(3..6, 10), [(3, 2, true), (5, 1, false)]);
    assert!(read(8..20, 10).is_empty());
    assert!(read(u64::MAX..u64::MAX, 10).is_empty());
    let (mut world, file) = with_extents(&[]);
    for offset in 0..10 {
        let source = journal(offset * 100);
        world
            .change(|edit| write(edit, touch(file), offset, 1, source))
            .unwrap();
    }
    let read = spans(&world.map, file, 0..10, 3).unwrap();
    let bytes: u64 = read.iter().map(|span| span.bytes).sum();
    assert_eq!(bytes, 3);
}

#[test]
fn extents_that_no_file_can_have_are_damage() {
    let (world, file) = with_extents(&[]);
    let bad = [
        (5, 0, Source::Zeros),
        (5, u64::MAX, Source::Zeros),
        (5, 1_001, run(0)),
        (5, 2, run(999)),
        (5, 10, journal(u64::MAX - 3)),
    ];
    for (offset, bytes, source) in bad {
        let sound = world.map.clone();
        let mut world = World::new();
        world.map = sound;
        let key = Key::extent(file, offset);
        let extent = Some(encode(&Extent { bytes, source }));
        world.map.apply(vec![(key.clone(), extent)]);
        let wrote = world.change(|edit| write(edit, touch(file), 3, 9, journal(0)));
        assert_eq!(wrote, Err(FsError::Damaged { key }));
    }
}

#[test]
fn usage_follows_extents() {
    let of = |segment, bytes, skip| {
        let mut run = run_of(0, 1_000);
        run.segment = SegmentId {
            group: 1,
            number: segment,
        };
        let source = Source::Run { run, skip };
        encode(&Extent { bytes, source })
    };
    let id = |number| SegmentId { group: 1, number };
    let key = Key::extent(InodeNumber::new(5), 0);
    let delta = |old: Option<&[u8]>, new: Option<&[u8]>| {
        let all: Vec<(SegmentId, i64)> = usage_delta(&key, old, new).collect();
        all
    };
    let (ten, seven, other) = (of(1, 10, 0), of(1, 7, 3), of(2, 10, 0));
    let bytes = 4;
    let source = journal(0);
    let local = encode(&Extent { bytes, source });
    assert_eq!(delta(None, Some(&ten)), [(id(1), 10)]);
    assert_eq!(delta(Some(&ten), None), [(id(1), -10)]);
    assert_eq!(delta(Some(&ten), Some(&seven)), [(id(1), -3)]);
    assert_eq!(delta(Some(&ten), Some(&other)), [(id(1), -10), (id(2), 10)]);
    assert!(delta(Some(&ten), Some(&ten)).is_empty());
    assert_eq!(delta(Some(&local), Some(&ten)), [(id(1), 10)]);
    let elsewhere = Key::counters();
    assert_eq!(usage_delta(&elsewhere, None, Some(&ten)).count(), 0);
    // The overlay and the tree give the same.
    let (world, file) = with_extents(&[(0, 10, run(0))]);
    let stored = world.map.get(&Key::extent(file, 0)).unwrap();
    let delta: Vec<_> = usage_delta(&Key::extent(file, 0), None, stored.as_deref()).collect();
    assert_eq!(delta, [(run_of(8, 1).segment, 10)]);
}
