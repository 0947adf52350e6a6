//! Laws of the book, and what is left of it after a crash at every disk call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cairn_core::{
    AccountId, Code, Digest, GroupId, SecretKey, SegmentRecord, ShardRoot, Signed, SlotIndex,
};
use cairn_ledger::group::empty_revision;
use cairn_proofs::{Leaf, SlotTree};
use cairn_runtime::sim::DiskFault;
use cairn_runtime::{Runtime, Sim, SimRuntime};

use super::*;
use crate::cipher::Salt;

const CAPACITY: u64 = 1 << 26;

fn code() -> Code {
    Code::new(2, 4).unwrap()
}

fn group() -> GroupId {
    GroupId::new(Digest::new([5; 32]))
}

fn opened() -> Opened {
    Opened {
        group: group(),
        owner: AccountId::new(SecretKey::from_bytes(&[1; 32]).public()),
        code: code(),
        slot_capacity: ByteCount::new(CAPACITY),
        shard_bytes_max: 1 << 20,
    }
}

fn finished(number: SegmentNumber, tag: u8, upload: u8) -> FinishedSegment {
    let root = |slot: u8| {
        let mut bytes = [tag; 32];
        bytes[0] = slot;
        bytes[1..5].copy_from_slice(&number.get().to_le_bytes());
        ShardRoot::new(Digest::new(bytes))
    };
    let record = SegmentRecord {
        group: group(),
        number,
        code: code(),
        payload_bytes: 100 + u32::from(tag),
        shard_roots: Bounded::new((0..4).map(root).collect()).unwrap(),
    };
    FinishedSegment {
        upload: UploadId::new([upload; 16]),
        position: u64::from(number.get()) * 1_000,
        plain_bytes: 84,
        salt: Salt::new([tag; 16]),
        record: Signed::sign(record, &SecretKey::from_bytes(&[1; 32])),
    }
}

/// The revision that the segments and empty leaves below `count` must give, made the slow way.
fn expected_root(
    segments: &BTreeMap<SegmentNumber, FinishedSegment>,
    count: u32,
) -> (cairn_core::GroupRoot, u64) {
    let trees: Vec<SlotTree> = (0..4)
        .map(SlotIndex::new)
        .map(|slot| {
            let leaves = (0..count).map(|number| {
                let segment = segments.get(&SegmentNumber::new(number));
                segment.map_or(Leaf::EMPTY, |segment| {
                    Leaf::of(segment.record.unverified(), slot).unwrap()
                })
            });
            SlotTree::from_leaves(leaves).unwrap()
        })
        .collect();
    let roots: Vec<_> = trees.iter().map(SlotTree::root).collect();
    (group_root(&roots).unwrap(), trees[0].sum())
}

fn check(detail: &RevisionDetail, segments: &BTreeMap<SegmentNumber, FinishedSegment>) {
    let (root, bytes) = expected_root(segments, detail.revision.segment_count);
    assert_eq!(detail.revision.group_root, root);
    assert_eq!(detail.revision.slot_bytes.get(), bytes);
}

fn folder() -> PathBuf {
    PathBuf::from("/state/groups/g")
}

/// Runs with a fresh simulated machine.
fn simulated(test: impl FnOnce(SimRuntime)) {
    Sim::new(3).run(async |sim| test(sim.machine("owner").runtime()));
}

#[test]
fn numbers_go_up_and_revisions_cover_what_is_finished_without_a_gap() {
    simulated(|runtime| {
        let disk = runtime.disk();
        let mut book = Book::create(disk, &folder(), opened()).unwrap();
        assert_eq!(book.revise().unwrap(), None);
        let numbers: Vec<_> = (0..5)
            .map(|_| book.allocate(60).unwrap().unwrap())
            .collect();
        assert_eq!(
            numbers.iter().map(|n| n.get()).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        let mut segments = BTreeMap::new();
        for at in [3, 0, 1] {
            let segment = finished(numbers[at], 7, 1);
            segments.insert(numbers[at], segment.clone());
            book.finish(vec![segment]).unwrap();
        }
        let first = book.revise().unwrap().unwrap();
        assert_eq!(first.revision.segment_count, 2, "number 2 is not finished");
        check(&first, &segments);
        book.settle(&first.revision).unwrap();

        book.abandon(&[numbers[2]]).unwrap();
        let second = book.revise().unwrap().unwrap();
        assert_eq!(second.revision.segment_count, 4);
        assert_eq!(second.emptied.to_vec(), [numbers[2]]);
        check(&second, &segments);
        book.settle(&second.revision).unwrap();
        assert_eq!(book.revise().unwrap(), None);

        // A leaf far left is emptied: the edges are built anew.
        book.empty(&[numbers[0]]).unwrap();
        segments.remove(&numbers[0]);
        let third = book.revise().unwrap().unwrap();
        check(&third, &segments);
        assert_eq!(third.emptied.to_vec(), [numbers[0], numbers[2]]);
        book.settle(&third.revision).unwrap();
        assert_eq!(book.segments_of(UploadId::new([1; 16])).unwrap().len(), 2);
    });
}

#[test]
fn capacity_is_given_back_when_leaves_are_emptied() {
    simulated(|runtime| {
        let mut small = opened();
        small.slot_capacity = ByteCount::new(2 * 8_192 + 10);
        let mut book = Book::create(runtime.disk(), &folder(), small).unwrap();
        let first = book.allocate(60).unwrap().unwrap();
        let second = book.allocate(60).unwrap().unwrap();
        assert_eq!(book.allocate(60).unwrap(), None);
        book.abandon(&[second]).unwrap();
        let third = book.allocate(60).unwrap().unwrap();
        assert_eq!(third.get(), 2, "a number is never given twice");
        book.finish(vec![finished(first, 1, 1)]).unwrap();
        assert_eq!(book.allocate(60).unwrap(), None);
        book.empty(&[first]).unwrap();
        assert!(book.allocate(60).unwrap().is_some());
    });
}

#[test]
fn a_tiny_shard_takes_what_it_costs_a_node() {
    simulated(|runtime| {
        let mut small = opened();
        small.slot_capacity = ByteCount::new(1 << 20);
        let mut book = Book::create(runtime.disk(), &folder(), small).unwrap();
        let fit = (0..).map_while(|_| book.allocate(1).unwrap()).count();
        assert_eq!(fit, (1 << 20) / 8_192);
        drop(book);
        let book = Book::open(runtime.disk(), &folder()).unwrap();
        assert!(
            book.has_room(1 << 20),
            "what was not finished is given back"
        );
    });
}

#[test]
fn one_process_writes_a_group() {
    simulated(|runtime| {
        let disk = runtime.disk();
        let book = Book::create(disk, &folder(), opened()).unwrap();
        assert!(matches!(
            Book::open(disk, &folder()),
            Err(BookError::Locked)
        ));
        drop(book);
        Book::open(disk, &folder()).unwrap();
    });
}

#[test]
fn a_foreign_revision_is_noticed() {
    simulated(|runtime| {
        let mut book = Book::create(runtime.disk(), &folder(), opened()).unwrap();
        book.settle(&empty_revision(group())).unwrap();
        let mut foreign = empty_revision(group());
        foreign.number = RevisionNumber::new(1);
        assert!(matches!(
            book.settle(&foreign),
            Err(BookError::Foreign { .. })
        ));
    });
}

#[test]
fn a_clean_close_leaves_nothing_to_empty() {
    simulated(|runtime| {
        let disk = runtime.disk();
        let mut book = Book::create(disk, &folder(), opened()).unwrap();
        let number = book.allocate(60).unwrap().unwrap();
        book.finish(vec![finished(number, 1, 1)]).unwrap();
        let detail = book.revise().unwrap().unwrap();
        book.settle(&detail.revision).unwrap();
        book.close().unwrap();
        drop(book);
        let mut book = Book::open(disk, &folder()).unwrap();
        assert!(!book.is_dirty());
        assert_eq!(book.allocate(60).unwrap().unwrap().get(), 1);
    });
}

/// A leaf whose emptying no slot was told of would keep every slot behind for ever.
#[test]
fn a_detail_names_what_the_last_one_did_not_get_to_the_slots() {
    simulated(|runtime| {
        let disk = runtime.disk();
        let mut book = Book::create(disk, &folder(), opened()).unwrap();
        let empty_next = |book: &mut Book<_>| {
            let number = book.allocate(60).unwrap().unwrap();
            book.abandon(&[number]).unwrap();
            let detail = book.revise().unwrap().unwrap();
            book.settle(&detail.revision).unwrap();
            (number, detail)
        };
        let (first, _) = empty_next(&mut book);
        let (second, _) = empty_next(&mut book);
        drop(book);
        let mut book = Book::open(disk, &folder()).unwrap();
        let (third, detail) = empty_next(&mut book);
        assert_eq!(detail.emptied.to_vec()[..2], [first, second]);
        assert_eq!(detail.emptied.last(), Some(&third));
        check(&detail, &BTreeMap::new());
        book.delivered(detail.revision.number).unwrap();
        let (fourth, detail) = empty_next(&mut book);
        assert_eq!(detail.emptied.to_vec(), [fourth]);
    });
}

#[test]
fn more_emptied_leaves_than_a_revision_takes_need_two() {
    simulated(|runtime| {
        let mut large = opened();
        large.slot_capacity = ByteCount::new(1 << 40);
        let mut book = Book::create(runtime.disk(), &folder(), large).unwrap();
        let count = u32::try_from(EMPTIED_MAX).unwrap() + 10;
        let numbers: Vec<_> = (0..count)
            .map(|_| book.allocate(60).unwrap().unwrap())
            .collect();
        book.abandon(&numbers).unwrap();
        let first = book.revise().unwrap().unwrap();
        assert_eq!(first.emptied.len(), EMPTIED_MAX);
        book.settle(&first.revision).unwrap();
        assert_eq!(book.revise().unwrap(), None, "the next detail has no room");
        book.delivered(first.revision.number).unwrap();
        let second = book.revise().unwrap().unwrap();
        assert_eq!(second.emptied.len(), 10);
        check(&first, &BTreeMap::new());
        check(&second, &BTreeMap::new());
        assert_eq!(second.revision.segment_count, count);
        book.settle(&second.revision).unwrap();
        assert_eq!(book.revise().unwrap(), None);
    });
}

/// What the world outside knows while the script runs.
#[derive(Default)]
struct Outside {
    /// Numbers that were handed out: shards of theirs may be on nodes.
    used: BTreeSet<u32>,
    /// Segments that were reported as finished.
    finished: BTreeMap<SegmentNumber, FinishedSegment>,
    /// Removed, as reported.
    emptied: BTreeSet<SegmentNumber>,
    /// The ledger's revision.
    ledger: Option<GroupRevision>,
}

/// Uploads, revises, removes, revises and closes; every step may be the last.
fn script(disk: &impl Disk, outside: &mut Outside) -> Result<(), BookError> {
    let mut book = Book::create(disk, &folder(), opened())?;
    let mut numbers = Vec::new();
    for _ in 0..4 {
        let number = book.allocate(60)?.unwrap();
        outside.used.insert(number.get());
        numbers.push(number);
    }
    for at in [1, 0, 2] {
        let segment = finished(numbers[at], 9, 1);
        book.finish(vec![segment.clone()])?;
        outside.finished.insert(numbers[at], segment);
    }
    let detail = book.revise()?.unwrap();
    outside.ledger = Some(detail.revision);
    book.settle(&detail.revision)?;
    book.delivered(detail.revision.number)?;
    book.empty(&[numbers[0]])?;
    outside.emptied.insert(numbers[0]);
    book.abandon(&[numbers[3]])?;
    let detail = book.revise()?.unwrap();
    outside.ledger = Some(detail.revision);
    book.settle(&detail.revision)?;
    book.close()?;
    Ok(())
}

/// What must hold after the book is opened again, whenever the crash was.
fn check_recovered(disk: &impl Disk, outside: &Outside) {
    let mut book = match Book::open(disk, &folder()) {
        Ok(book) => book,
        Err(BookError::NoOpening | BookError::Disk(_)) => {
            assert!(
                outside.used.is_empty(),
                "nothing was used before the book was there"
            );
            return;
        }
        Err(error) => panic!("{error}"),
    };
    for number in outside.finished.keys() {
        let kept = book.is_kept(*number);
        if outside.emptied.contains(number) {
            assert!(!kept, "{number} was emptied");
        }
    }
    let ledger = outside.ledger.unwrap_or_else(|| empty_revision(group()));
    book.settle(&ledger).unwrap();
    let found = book.segments_of(UploadId::new([1; 16])).unwrap();
    let found: BTreeMap<_, _> = found.into_iter().map(|s| (s.number(), s)).collect();
    for (number, segment) in &outside.finished {
        if !outside.emptied.contains(number) && book.is_kept(*number) {
            assert_eq!(found.get(number), Some(segment));
        }
    }
    let fresh = book.allocate(60).unwrap().unwrap();
    assert!(
        !outside.used.contains(&fresh.get()),
        "a number is never used twice"
    );
    let segment = finished(fresh, 11, 2);
    book.finish(vec![segment.clone()]).unwrap();
    let detail = book.revise().unwrap().unwrap();
    assert_eq!(detail.revision.number, ledger.number.next().unwrap());
    assert_eq!(
        detail.revision.segment_count,
        fresh.get() + 1,
        "no gap is left"
    );
    let mut all = found;
    all.insert(fresh, segment);
    check(&detail, &all);
    book.settle(&detail.revision).unwrap();
}

/// Power fails in the n-th disk call, for every n; also while recovering from that.
#[test]
fn a_crash_at_any_disk_call_loses_nothing() {
    let mut calls = 0;
    loop {
        let mut is_over = false;
        Sim::new(calls).run(async |sim| {
            let machine = sim.machine("owner");
            machine.plan_disk_fault(calls, DiskFault::PowerLoss);
            let mut outside = Outside::default();
            is_over = script(machine.runtime().disk(), &mut outside).is_ok();
            machine.clear_disk_faults();
            machine.crash();
            // A second crash while the book is opened again.
            let runtime = machine.restart();
            machine.plan_disk_fault(calls % 7, DiskFault::PowerLoss);
            drop(Book::open(runtime.disk(), &folder()));
            machine.clear_disk_faults();
            machine.crash();
            let runtime = machine.restart();
            check_recovered(runtime.disk(), &outside);
        });
        if is_over {
            break;
        }
        calls += 1;
        assert!(calls < 1_000, "the script ends");
    }
    assert!(calls > 15, "the script makes disk calls: {calls}");
}

/// A failed call poisons the book; opening it again recovers.
#[test]
fn a_failed_call_ends_the_book_until_it_is_opened_again() {
    Sim::new(1).run(async |sim| {
        let machine = sim.machine("owner");
        let runtime = machine.runtime();
        let mut book = Book::create(runtime.disk(), &folder(), opened()).unwrap();
        let number = book.allocate(60).unwrap().unwrap();
        machine.plan_disk_fault(0, DiskFault::Error);
        assert!(book.finish(vec![finished(number, 1, 1)]).is_err());
        let again = book.finish(vec![finished(number, 1, 1)]).unwrap_err();
        assert!(again.to_string().contains("not used any more"), "{again}");
        drop(book);
        let mut book = Book::open(runtime.disk(), &folder()).unwrap();
        assert!(!book.is_kept(number));
        let next = book.allocate(60).unwrap().unwrap();
        assert!(next > number);
    });
}

#[test]
fn damage_further_up_is_an_error() {
    simulated_machine(|machine| {
        let runtime = machine.runtime();
        let mut book = Book::create(runtime.disk(), &folder(), opened()).unwrap();
        let mut large = Vec::new();
        for _ in 0..3 {
            let numbers: Vec<_> = (0..2_000)
                .map(|_| book.allocate(1).unwrap().unwrap())
                .collect();
            large.extend(numbers);
        }
        for part in large.chunks(2_000) {
            let segments = part.iter().map(|n| finished(*n, 1, 1)).collect();
            book.finish(segments).unwrap();
        }
        drop(book);
        let path: &Path = &folder().join("journal");
        machine.flip_bits(path, 2_000..2_001, 1).unwrap();
        let error = Book::open(runtime.disk(), &folder()).unwrap_err();
        assert!(error.to_string().contains("damaged at byte"), "{error}");
    });
}

fn simulated_machine(test: impl FnOnce(cairn_runtime::sim::Machine)) {
    Sim::new(3).run(async |sim| test(sim.machine("owner")));
}
