//! The tree against an ordered map, with pages that are written, evicted and fetched again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::key::SegmentId;
use crate::page::{Content, decode};
use crate::run::SaltBytes;

/// Where pages are written to.
#[derive(Debug, Default)]
struct Store {
    pages: RefCell<BTreeMap<RunRef, Vec<u8>>>,
}

impl Store {
    fn write(&self, tree: &mut Tree, pages: &Pages) -> Vec<RunRef> {
        let mut written = Vec::new();
        tree.write(pages, &mut |page| {
            let number = self.pages.borrow().len();
            let bytes = u32::try_from(page.plain.len()).unwrap();
            let at = RunRef {
                segment: SegmentId {
                    group: 0,
                    number: u32::try_from(number).unwrap(),
                },
                salt: SaltBytes([0; 16]),
                offset: 0,
                bytes,
                stored: bytes,
                key: 0,
            };
            assert!(page.plain.len() <= PAGE_BYTES_MAX);
            self.pages.borrow_mut().insert(at, page.plain.to_vec());
            written.push(at);
            Ok::<_, Infallible>(at)
        })
        .unwrap();
        written
    }

    /// Does something, fetching what is not in memory.
    fn with<T>(&self, pages: &Pages, mut ask: impl FnMut() -> Result<T, Absent>) -> T {
        for _ in 0..10_000 {
            match ask() {
                Ok(answer) => return answer,
                Err(Absent(at)) => pages.admit(at, &self.pages.borrow()[&at]).unwrap(),
            }
        }
        panic!("it never has all pages");
    }

    /// Every written page that a written tree refers to.
    fn reachable(&self, root: Option<RunRef>) -> BTreeSet<RunRef> {
        let mut found = BTreeSet::new();
        let mut left: Vec<RunRef> = root.into_iter().collect();
        while let Some(at) = left.pop() {
            found.insert(at);
            if let (_, Content::Branch(below)) = decode(&self.pages.borrow()[&at]).unwrap() {
                left.extend(below.into_iter().map(|(_, at)| at));
            }
        }
        found
    }
}

type Model = BTreeMap<Key, Box<[u8]>>;

fn all(store: &Store, tree: &Tree, pages: &Pages) -> Model {
    let end = Key::from_bytes(&[255; 16]);
    let mut found = Model::new();
    store.with(pages, || {
        // As whoever scans goes on: from the last that was visited.
        let last = found.last_key_value().map(|(key, _)| key.clone());
        let from = last.unwrap_or_else(|| Key::from_bytes(&[]));
        tree.scan(pages, &from..&end, |key, value| {
            found.insert(Key::from_bytes(key), value.into());
            ControlFlow::Continue(())
        })
    });
    found
}

#[derive(Clone, Debug)]
enum Doing {
    Set(u16, usize),
    Remove(u16),
    RemoveRun(u16, u16),
    Write,
    Forget,
    Clone,
}

fn key(number: u16) -> Key {
    // Some share long beginnings, as entries of one directory do.
    let folder = (number / 512).to_be_bytes();
    Key::from_bytes(&[&[2; 6][..], &folder, b"/name", &number.to_be_bytes()].concat())
}

fn doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        12 => (0..3_000_u16, 0..2_000_usize).prop_map(|(key, bytes)| Doing::Set(key, bytes)),
        2 => (0..3_000_u16, 7_000..8_000_usize).prop_map(|(key, bytes)| Doing::Set(key, bytes)),
        4 => (0..3_000_u16).prop_map(Doing::Remove),
        1 => (0..3_000_u16, 1..1_500_u16).prop_map(|(from, count)| Doing::RemoveRun(from, count)),
        1 => Just(Doing::Write),
        1 => Just(Doing::Forget),
        1 => Just(Doing::Clone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_tree_is_an_ordered_map(doings in proptest::collection::vec(doing(), 1..400)) {
        let store = Store::default();
        let mut pages = Pages::new(0);
        let mut tree = Tree::empty();
        let mut model = Model::new();
        let mut referred = BTreeSet::new();
        let mut clones: Vec<(Tree, Model)> = Vec::new();
        for (turn, doing) in doings.iter().enumerate() {
            match *doing {
                Doing::Set(number, bytes) => {
                    let value: Box<[u8]> = vec![u8::try_from(turn % 251).unwrap(); bytes].into();
                    let key = key(number);
                    let old = store.with(&pages, || tree.set(&pages, &key, Some(value.clone())));
                    prop_assert_eq!(old, model.insert(key, value));
                }
                Doing::Remove(number) => {
                    let key = key(number);
                    let old = store.with(&pages, || tree.set(&pages, &key, None));
                    prop_assert_eq!(old, model.remove(&key));
                }
                Doing::RemoveRun(from, count) => {
                    for number in from..from.saturating_add(count) {
                        let key = key(number);
                        let old = store.with(&pages, || tree.set(&pages, &key, None));
                        prop_assert_eq!(old, model.remove(&key));
                    }
                }
                Doing::Write => {
                    let written = store.write(&mut tree, &pages);
                    prop_assert!(!tree.is_dirty());
                    prop_assert_eq!(tree.dirty_bytes(), 0);
                    referred.extend(written);
                    for released in tree.take_released() {
                        prop_assert!(referred.remove(&released), "it was referred to");
                    }
                    prop_assert_eq!(&store.reachable(tree.root()), &referred);
                }
                Doing::Forget => pages = Pages::new(0),
                Doing::Clone if clones.len() < 3 => clones.push((tree.clone(), model.clone())),
                Doing::Clone => {}
            }
            let asked = key(u16::try_from(turn * 37 % 3_000).unwrap());
            let found = store.with(&pages, || tree.get(&pages, &asked));
            prop_assert_eq!(found.as_ref(), model.get(&asked));
            let before = store.with(&pages, || tree.last_at_or_before(&pages, &asked));
            let expected = model.range(..=&asked).next_back();
            prop_assert_eq!(before.as_ref().map(|(k, v)| (k, v)), expected);
        }
        prop_assert!(all(&store, &tree, &pages) == model);
        for (tree, model) in &clones {
            prop_assert!(all(&store, tree, &pages) == *model, "a clone is as it was");
        }
        store.write(&mut tree, &pages);
        let again = tree.root().map_or_else(Tree::empty, Tree::at);
        prop_assert!(all(&store, &again, &Pages::new(0)) == model);
    }
}

#[test]
fn keys_that_come_in_order_fill_their_pages() {
    let store = Store::default();
    let pages = Pages::new(1 << 24);
    let mut tree = Tree::empty();
    for number in 0..20_000_u16 {
        let value = vec![7; 60].into();
        tree.set(&pages, &key(number), Some(value)).unwrap();
    }
    let written = store.write(&mut tree, &pages);
    let bytes: usize = store.pages.borrow().values().map(Vec::len).sum();
    let fill = bytes * 100 / (written.len() * PAGE_BYTES_MAX);
    assert!(fill >= 85, "{fill} % of {} pages", written.len());
    // A page that is still there is moved when it is asked for, another is not.
    let (first, _) = all(&store, &tree, &pages).into_iter().nth(9_000).unwrap();
    let page = store.reachable(tree.root());
    let of_leaf = |at: &&RunRef| match decode(&store.pages.borrow()[*at]).unwrap() {
        (0, Content::Leaf(entries)) => entries.iter().any(|(key, _)| *key == first),
        _ => false,
    };
    let leaf = *page.iter().find(of_leaf).unwrap();
    assert!(store.with(&pages, || tree.touch(&pages, (0, &first), leaf)));
    let moved = store.write(&mut tree, &pages);
    assert!(moved.len() >= 2, "the page and those above it");
    assert!(tree.take_released().contains(&leaf));
    assert!(!store.with(&pages, || tree.touch(&pages, (0, &first), leaf)));
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_asked_for() {
    let store = Store::default();
    let big = Pages::new(1 << 26);
    let mut tree = Tree::empty();
    for number in 0..60_000_u16 {
        let value = vec![7; 500].into();
        tree.set(&big, &key(number), Some(value)).unwrap();
    }
    store.write(&mut tree, &big);
    let small = Pages::new(0);
    let found = all(&store, &tree, &small);
    assert_eq!(found.len(), 60_000);
    assert!(small.bytes() < 24 << 20, "{}", small.bytes());
}
