//! A file's content against a vector of bytes, and what a loss of power may leave.

use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{Content, Mood, PAGE_BYTES};
use crate::sim::rng::SimRng;

/// Long enough for three pages and a part of one.
const FILE_BYTES: u64 = 14_000;

#[derive(Clone, Debug)]
enum Op {
    Write {
        offset: u64,
        fill: u8,
        length: usize,
    },
    SetLen {
        bytes: u64,
    },
    Punch {
        start: u64,
        end: u64,
    },
    Sync,
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..FILE_BYTES;
    prop_oneof![
        4 => (at(), any::<u8>(), 0_usize..6000)
            .prop_map(|(offset, fill, length)| Op::Write { offset, fill, length }),
        1 => at().prop_map(|bytes| Op::SetLen { bytes }),
        1 => (at(), at()).prop_map(|(one, two)| Op::Punch { start: one.min(two), end: one.max(two) }),
        1 => Just(Op::Sync),
    ]
}

fn apply(content: &mut Content, op: &Op) {
    match op {
        Op::Write {
            offset,
            fill,
            length,
        } => content.write(&vec![*fill; *length], *offset),
        Op::SetLen { bytes } => content.set_len(*bytes),
        Op::Punch { start, end } => content.punch(*start..*end),
        Op::Sync => content.sync(),
    }
}

fn apply_to_model(model: &mut Vec<u8>, op: &Op) {
    let index = |offset: &u64| usize::try_from(*offset).unwrap();
    match op {
        Op::Write {
            offset,
            fill,
            length,
        } => {
            let end = index(offset) + length;
            if *length > 0 && model.len() < end {
                model.resize(end, 0);
            }
            if *length > 0 {
                model[index(offset)..end].fill(*fill);
            }
        }
        Op::SetLen { bytes } => model.resize(index(bytes), 0),
        Op::Punch { start, end } => {
            let end = index(end).min(model.len());
            if index(start) < end {
                model[index(start)..end].fill(0);
            }
        }
        Op::Sync => {}
    }
}

fn all_of(content: &Content) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(content.bytes()).unwrap()];
    assert!(content.read(&mut all, 0));
    all
}

proptest! {
    #[test]
    fn reads_what_a_vector_would(ops in proptest::collection::vec(op(), 0..30)) {
        let (mut content, mut model) = (Content::default(), Vec::new());
        for op in &ops {
            apply(&mut content, op);
            apply_to_model(&mut model, op);
            assert_eq!(all_of(&content), model);
        }
    }

    #[test]
    fn power_loss_leaves_the_synced_and_parts_of_the_rest(
        ops in proptest::collection::vec(op(), 0..30),
        seed in any::<u64>(),
    ) {
        for mood in [Mood::LosesAll, Mood::KeepsAll, Mood::Mixed] {
            let (mut content, mut model) = (Content::default(), Vec::new());
            let mut synced = Vec::new();
            // Since the last sync: what each byte has been, and how long the file.
            let mut ever: Vec<BTreeSet<u8>> = Vec::new();
            let mut longest = 0;
            for op in &ops {
                apply(&mut content, op);
                apply_to_model(&mut model, op);
                if matches!(op, Op::Sync) {
                    synced.clone_from(&model);
                    ever.clear();
                    longest = 0;
                }
                longest = longest.max(model.len());
                ever.resize(ever.len().max(model.len()), BTreeSet::from([0]));
                for (values, value) in ever.iter_mut().zip(&model) {
                    values.insert(*value);
                }
            }
            content.lose_power(mood, &mut SimRng::new(seed));
            let after = all_of(&content);
            match mood {
                Mood::LosesAll => assert_eq!(after, synced),
                Mood::KeepsAll => assert_eq!(after, model),
                Mood::Mixed => {
                    assert!(after.len() <= longest.max(synced.len()));
                    for (index, value) in after.iter().enumerate() {
                        let was = ever.get(index).is_some_and(|values| values.contains(value));
                        let is_synced = synced.get(index) == Some(value);
                        assert!(was || is_synced, "byte {index} is {value}, from nowhere");
                    }
                }
            }
            // What is left is durable.
            assert!(!content.is_dirty());
            content.lose_power(Mood::LosesAll, &mut SimRng::new(seed));
            assert_eq!(all_of(&content), after);
        }
    }

    #[test]
    fn a_failed_sync_loses_for_good(
        before in proptest::collection::vec(op(), 0..8),
        lost in proptest::collection::vec(op(), 0..8),
        later in proptest::collection::vec(op(), 0..8),
    ) {
        let (mut content, mut durable) = (Content::default(), Vec::new());
        let writes = |ops: &[Op]| -> Vec<Op> {
            ops.iter().filter(|op| matches!(op, Op::Write { .. })).cloned().collect()
        };
        for op in writes(&before) {
            apply(&mut content, &op);
            apply_to_model(&mut durable, &op);
        }
        content.sync();
        let mut seen = durable.clone();
        for op in writes(&lost) {
            apply(&mut content, &op);
            apply_to_model(&mut seen, &op);
        }
        content.doom();
        for op in writes(&later) {
            apply(&mut content, &op);
            apply_to_model(&mut seen, &op);
            apply_to_model(&mut durable, &op);
        }
        content.sync();
        assert_eq!(all_of(&content), seen);
        content.lose_power(Mood::Mixed, &mut SimRng::new(1));
        assert_eq!(all_of(&content), durable);
    }
}

#[test]
fn torn_writes_are_cut_in_every_way() {
    let mut kinds = BTreeSet::new();
    for seed in 0..200 {
        let mut content = Content::default();
        content.write(&[1; 2048], 0);
        content.sync();
        content.write(&[2; 2048], 1024);
        content.lose_power(Mood::Mixed, &mut SimRng::new(seed));
        let after = all_of(&content);
        let fresh = after.iter().filter(|byte| **byte == 2).count();
        kinds.insert(match fresh {
            0 if after.len() == 2048 => "lost",
            0 => "size only",
            2048 => "kept",
            _ if fresh % 512 == 0 => "sectors",
            _ => "cut",
        });
    }
    let all = ["cut", "kept", "lost", "sectors", "size only"];
    assert_eq!(kinds, BTreeSet::from(all));
}

#[test]
fn holes_take_no_room() {
    let mut content = Content::default();
    content.set_len(10 * PAGE_BYTES);
    assert_eq!(content.allocated_bytes(), 0);
    content.write(&[7; 100], 3 * PAGE_BYTES);
    assert_eq!(content.allocated_bytes(), PAGE_BYTES);
    content.write(&[7; 2], 5 * PAGE_BYTES - 1);
    assert_eq!(content.allocated_bytes(), 3 * PAGE_BYTES);
    content.punch(3 * PAGE_BYTES..4 * PAGE_BYTES);
    assert_eq!(content.allocated_bytes(), 2 * PAGE_BYTES);
    // A part of a page stays allocated.
    content.punch(4 * PAGE_BYTES..5 * PAGE_BYTES - 1);
    assert_eq!(content.allocated_bytes(), 2 * PAGE_BYTES);
    content.set_len(0);
    assert_eq!(content.allocated_bytes(), 0);
    assert_eq!(content.fits(0, 5000, PAGE_BYTES), 4096);
    assert_eq!(content.fits(0, 5000, 2 * PAGE_BYTES), 5000);
}

#[test]
fn flips_hit_what_is_durable_too() {
    let mut content = Content::default();
    content.write(&[0; 10], 0);
    content.sync();
    content.write(&[0], 9);
    assert!(content.flip(3, 1));
    assert_eq!(all_of(&content)[3], 2);
    content.lose_power(Mood::LosesAll, &mut SimRng::new(1));
    assert_eq!(all_of(&content)[3], 2);
    assert!(!content.flip(PAGE_BYTES, 1));
}

#[test]
fn much_unsynced_is_written_back() {
    let mut content = Content::default();
    for part in 0..17 {
        content.write(&vec![1; 1 << 20], part << 20);
    }
    content.lose_power(Mood::LosesAll, &mut SimRng::new(1));
    assert_eq!(content.bytes(), 17 << 20);
}
