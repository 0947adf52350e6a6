//! The trie agrees with a table; what is left of it after pruning answers what it was cut for, and
//! nothing that is not so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{LeftOut, Trie};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;
type Listed = Vec<(Vec<u8>, Vec<u8>)>;

/// Keys of two tables, close together so that they meet: no key begins another.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let of_table = |tag: u8, length: usize| {
        vec(
            prop_oneof![Just(0_u8), Just(1), Just(0x80), Just(0xff)],
            length,
        )
        .prop_map(move |mut key| {
            key.insert(0, tag);
            key
        })
    };
    prop_oneof![of_table(1, 2), of_table(3, 3)]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..5)
}

fn trie(table: &Table) -> Trie {
    let mut trie = Trie::default();
    for (key, value) in table {
        trie.insert(key, value.clone()).expect("it is whole");
    }
    trie
}

fn scan(
    trie: &Trie,
    prefix: &[u8],
    after: Option<&[u8]>,
    count_max: usize,
    touch: &mut dyn FnMut(&[u8]),
) -> Result<Listed, LeftOut> {
    let mut found = Vec::new();
    trie.scan(prefix, after, touch, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() < count_max {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(found)
}

fn expected_scan(table: &Table, prefix: &[u8], after: Option<&[u8]>, count_max: usize) -> Listed {
    let is_in =
        |key: &Vec<u8>| key.starts_with(prefix) && after.is_none_or(|after| &key[..] > after);
    let entries = table.iter().filter(|(key, _)| is_in(key));
    let entries = entries.map(|(key, value)| (key.clone(), value.clone()));
    entries.take(count_max).collect()
}

proptest! {
    /// The root follows from the entries, not from how they came about.
    #[test]
    fn the_root_is_that_of_the_entries(
        changes in vec((key(), proptest::option::of(value())), 0..60),
    ) {
        let (mut table, mut changed) = (Table::new(), Trie::default());
        for (key, value) in changes {
            let before = changed.clone();
            let root = before.root();
            match value {
                Some(value) => {
                    changed.insert(&key, value.clone()).expect("whole");
                    table.insert(key, value);
                }
                None => {
                    changed.remove(&key).expect("whole");
                    table.remove(&key);
                }
            }
            prop_assert_eq!(before.root(), root);
            prop_assert_eq!(changed.root(), trie(&table).root());
        }
    }

    /// Other entries have another root.
    #[test]
    fn another_entry_is_another_root(
        table in proptest::collection::btree_map(key(), value(), 0..20),
        (key, value) in (key(), value()),
    ) {
        let mut other = table.clone();
        other.insert(key, value);
        prop_assert_eq!(other == table, trie(&other).root() == trie(&table).root());
    }

    #[test]
    fn a_scan_gives_what_a_table_gives(
        table in proptest::collection::btree_map(key(), value(), 0..40),
        (after, length) in (key(), 0..4_usize),
        (has_after, count_max) in (any::<bool>(), 1..10_usize),
    ) {
        let prefix = &after[..length];
        let after = has_after.then_some(&after[..]);
        let found = scan(&trie(&table), prefix, after, count_max, &mut |_| ());
        prop_assert_eq!(found.expect("whole"), expected_scan(&table, prefix, after, count_max));
    }

    /// What is cut for some questions has the same root, answers them alike, and answers others
    /// truly or not at all.
    #[test]
    fn what_is_left_answers_truly(
        table in proptest::collection::btree_map(key(), value(), 0..40),
        wanted in vec(key(), 0..4),
        (after, length, count_max) in (key(), 0..4_usize, 1..10_usize),
        others in vec(key(), 0..10),
    ) {
        let whole = trie(&table);
        let mut touched = BTreeSet::new();
        let mut touch = |key: &[u8]| { touched.insert(key.to_vec()); };
        for key in &wanted {
            whole.get(key, &mut touch).expect("whole");
        }
        let prefix = &after[..length];
        for after in [None, Some(&after[..])] {
            scan(&whole, prefix, after, count_max, &mut touch).expect("whole");
        }
        let pruned = whole.pruned(&touched);
        let encoded = borsh::to_vec(&pruned).expect("to memory");
        let pruned: Trie = borsh::from_slice(&encoded).expect("it was encoded");
        prop_assert_eq!(pruned.root(), whole.root());
        for key in &wanted {
            let found = pruned.get(key, &mut |_| ());
            prop_assert_eq!(found.expect("asked for"), table.get(key).map(Vec::as_slice));
        }
        for after in [None, Some(&after[..])] {
            let found = scan(&pruned, prefix, after, count_max, &mut |_| ());
            prop_assert_eq!(found.expect("asked for"), expected_scan(&table, prefix, after, count_max));
        }
        for key in &others {
            if let Ok(found) = pruned.get(key, &mut |_| ()) {
                prop_assert_eq!(found, table.get(key).map(Vec::as_slice));
            }
            if let Ok(found) = scan(&pruned, &key[..1], Some(key), count_max, &mut |_| ()) {
                prop_assert_eq!(found, expected_scan(&table, &key[..1], Some(key), count_max));
            }
        }
    }

    /// Whatever is changed in an encoding does not decode or has another root, or is the same.
    #[test]
    fn a_changed_encoding_is_another(
        table in proptest::collection::btree_map(key(), value(), 1..10),
        (at, change) in (any::<prop::sample::Index>(), 1..=u8::MAX),
    ) {
        let whole = trie(&table);
        let mut encoded = borsh::to_vec(&whole).expect("to memory");
        let at = at.index(encoded.len());
        encoded[at] ^= change;
        if let Ok(changed) = borsh::from_slice::<Trie>(&encoded) {
            prop_assert_ne!(changed.root(), whole.root());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), key in key()) {
        if let Ok(mut trie) = borsh::from_slice::<Trie>(&bytes) {
            trie.root();
            trie.get(&key, &mut |_| ()).ok();
            scan(&trie, &key[..1], Some(&key), 9, &mut |_| ()).ok();
            trie.insert(&key, Vec::new()).ok();
            trie.remove(&key).ok();
        }
    }
}

/// A branch can't lie below itself, so no encoding makes the reader go deep.
#[test]
fn a_deep_encoding_is_refused() {
    let mut bytes = vec![1_u8];
    bytes.extend([2, 5, 0].repeat(100_000));
    assert!(borsh::from_slice::<Trie>(&bytes).is_err());
}
