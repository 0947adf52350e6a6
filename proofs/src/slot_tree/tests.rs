//! The slot tree against a naive recursion over the list of leaves.

use borsh::{BorshDeserialize, to_vec};
use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{Digest, SegmentNumber, ShardRoot, SlotRoot};
use proptest::prelude::*;

use super::*;

/// The tree as the specification words it: no levels, no caches.
mod model {
    use cairn_core::ShardRoot;

    #[derive(Clone, Copy)]
    pub(super) struct Shard {
        pub(super) bytes: u32,
        pub(super) root: ShardRoot,
    }

    fn keyed(name: &str, content: &[u8]) -> [u8; 32] {
        let mut key = [0; 32];
        key[..name.len()].copy_from_slice(name.as_bytes());
        *blake3::Hasher::new_keyed(&key)
            .update(content)
            .finalize()
            .as_bytes()
    }

    fn top(leaves: &[Option<Shard>]) -> ([u8; 32], u64) {
        if let [leaf] = leaves {
            return match leaf {
                None => (keyed("cairn 1 slot empty leaf", b""), 0),
                Some(shard) => {
                    let mut content = shard.bytes.to_le_bytes().to_vec();
                    content.extend_from_slice(shard.root.as_bytes());
                    (keyed("cairn 1 slot leaf", &content), shard.bytes.into())
                }
            };
        }
        let mut left = 1;
        while left * 2 < leaves.len() {
            left *= 2;
        }
        let (left, right) = (top(&leaves[..left]), top(&leaves[left..]));
        let mut content = Vec::new();
        for (hash, sum) in [left, right] {
            content.extend_from_slice(&hash);
            content.extend_from_slice(&sum.to_le_bytes());
        }
        (keyed("cairn 1 slot inner", &content), left.1 + right.1)
    }

    pub(super) fn root(leaves: &[Option<Shard>]) -> [u8; 32] {
        let (hash, sum) = if leaves.is_empty() {
            ([0; 32], 0)
        } else {
            top(leaves)
        };
        let mut content = u32::try_from(leaves.len()).unwrap().to_le_bytes().to_vec();
        content.extend_from_slice(&sum.to_le_bytes());
        content.extend_from_slice(&hash);
        keyed("cairn 1 slot root", &content)
    }

    pub(super) fn locate(leaves: &[Option<Shard>], position: u64) -> Option<(usize, u32)> {
        let mut rest = position;
        for (number, leaf) in leaves.iter().enumerate() {
            let bytes = u64::from(leaf.map_or(0, |shard| shard.bytes));
            if rest < bytes {
                return Some((number, u32::try_from(rest).unwrap()));
            }
            rest -= bytes;
        }
        None
    }
}

fn root_of(number: u32) -> ShardRoot {
    ShardRoot::new(Digest::of(&number.to_le_bytes()))
}

fn shard(number: u32) -> Leaf {
    Leaf::new(1 + number % 5_000, root_of(number)).unwrap()
}

fn modelled(leaves: &[Leaf]) -> Vec<Option<model::Shard>> {
    leaves
        .iter()
        .map(|leaf| {
            leaf.shard_root().map(|root| model::Shard {
                bytes: leaf.bytes(),
                root,
            })
        })
        .collect()
}

fn model_root(leaves: &[Leaf]) -> SlotRoot {
    SlotRoot::new(Digest::new(model::root(&modelled(leaves))))
}

fn numbers(list: &[u32]) -> Vec<SegmentNumber> {
    list.iter().copied().map(SegmentNumber::new).collect()
}

fn leaves() -> impl Strategy<Value = Vec<Leaf>> {
    let leaf = prop_oneof![
        1 => Just(Leaf::EMPTY),
        4 => (1..=SHARD_BYTES_MAX, any::<u32>())
            .prop_map(|(bytes, seed)| Leaf::new(bytes, root_of(seed)).unwrap()),
    ];
    prop::collection::vec(leaf, 0..200)
}

/// Every count up to past two powers of two: root, sum, frontier, every path and every place.
#[test]
fn small_trees_exhaustively() {
    let mut tree = SlotTree::new();
    let mut frontier = Frontier::new();
    assert_eq!(tree.root(), model_root(&[]));
    assert_eq!(tree.locate(0), None);
    for count in 1..=67 {
        let leaf = if count % 7 == 3 {
            Leaf::EMPTY
        } else {
            shard(count * 37)
        };
        let number = tree.append(leaf).unwrap();
        assert_eq!(number.get(), count - 1);
        assert_eq!(frontier.append(leaf).unwrap(), number);
        let root = model_root(tree.leaves());
        assert_eq!(tree.root(), root);
        assert_eq!(frontier.root(), root);
        assert_eq!(tree.frontier(), frontier);
        assert_eq!(tree.sum(), frontier.sum());
        let mut start = 0;
        for number in (0..count).map(SegmentNumber::new) {
            let path = tree.path(number).unwrap();
            let opening = path.open().unwrap();
            assert_eq!(opening.root, root);
            assert_eq!(opening.sum, tree.sum());
            assert_eq!(opening.starts, [start]);
            start += u64::from(tree.leaf(number).unwrap().bytes());
        }
        assert_eq!(tree.locate(start), None);
        assert_eq!(start, tree.sum());
    }
    for position in (0..tree.sum()).step_by(13) {
        let expected = model::locate(&modelled(tree.leaves()), position).unwrap();
        let found = tree.locate(position).unwrap();
        assert_eq!((as_index(found.number.get()), found.offset), expected);
        assert_eq!(tree.leaf(found.number), Some(found.leaf));
    }
}

/// Every subset of the leaves of every tree up to 9 leaves, and every view of it.
#[test]
fn every_subset_opens() {
    let whole = SlotTree::from_leaves((0..9).map(shard)).unwrap();
    for count in 1..=9_u32 {
        let view = whole.view_at(count).unwrap();
        let alone = SlotTree::from_leaves((0..count).map(shard)).unwrap();
        assert_eq!(view.root(), alone.root());
        assert_eq!(view.sum(), alone.sum());
        assert_eq!(view.frontier(), alone.frontier());
        for subset in 0..(1_u32 << count) {
            let opened: Vec<u32> = (0..count).filter(|bit| subset & (1 << bit) != 0).collect();
            let path = view.multi_path(&numbers(&opened)).unwrap();
            assert_eq!(path, alone.multi_path(&numbers(&opened)).unwrap());
            let opening = path.open().unwrap();
            assert_eq!(opening.root, alone.root());
            let starts: Vec<u64> = opened
                .iter()
                .map(|number| {
                    (0..*number)
                        .map(|below| u64::from(shard(below).bytes()))
                        .sum()
                })
                .collect();
            assert_eq!(opening.starts, starts);
        }
    }
    assert!(whole.view_at(10).is_err());
    assert_eq!(whole.view_at(0).unwrap().root(), SlotTree::new().root());
}

/// Nothing of a path can be changed, dropped, added or put in another order.
#[test]
fn changed_paths_open_to_another_root() {
    let tree = SlotTree::from_leaves((0..21).map(shard)).unwrap();
    let path = tree.multi_path(&numbers(&[2, 3, 11, 20])).unwrap();
    let root = path.open().unwrap().root;
    let refused = |changed: &MultiPath| {
        assert!(changed.open().is_err() || changed.open().unwrap().root != root);
    };
    for index in 0..path.nodes.len() {
        for bit in 0..256 {
            let mut changed = path.clone();
            let mut hash = *changed.nodes[index].hash.as_bytes();
            hash[bit / 8] ^= 1 << (bit % 8);
            changed.nodes[index].hash = Digest::new(hash);
            refused(&changed);
        }
        for bit in 0..64 {
            let mut changed = path.clone();
            changed.nodes[index].sum ^= 1 << bit;
            refused(&changed);
        }
        let mut changed = path.clone();
        changed.nodes.remove(index);
        refused(&changed);
        let mut changed = path.clone();
        changed.nodes.insert(index, path.nodes[index]);
        refused(&changed);
        let mut changed = path.clone();
        changed.nodes.swap(index, (index + 1) % path.nodes.len());
        refused(&changed);
    }
    for index in 0..path.leaves.len() {
        for number in 0..30 {
            let mut changed = path.clone();
            changed.leaves[index].0 = SegmentNumber::new(number);
            if changed != path {
                refused(&changed);
            }
        }
        let mut changed = path.clone();
        changed.leaves[index].1 = shard(77);
        refused(&changed);
        let mut changed = path.clone();
        changed.leaves[index].1 = Leaf::EMPTY;
        refused(&changed);
        let mut changed = path.clone();
        changed.leaves.remove(index);
        refused(&changed);
    }
    for count in (0..64).chain([SEGMENTS_MAX, SEGMENTS_MAX + 1, u32::MAX]) {
        let mut changed = path.clone();
        changed.count = count;
        if count != 21 {
            refused(&changed);
        }
    }
}

/// Moving bytes between two sums keeps the total and yet changes the root.
#[test]
fn sums_cannot_be_moved() {
    let tree = SlotTree::from_leaves((0..16).map(shard)).unwrap();
    let path = tree.path(SegmentNumber::new(5)).unwrap();
    let mut changed = path.clone();
    changed.nodes[0].sum += 1;
    changed.nodes[1].sum -= 1;
    let (opening, moved) = (path.open().unwrap(), changed.open().unwrap());
    assert_eq!(opening.sum, moved.sum);
    assert_ne!(opening.root, moved.root);
}

#[test]
fn sums_that_overflow_are_refused() {
    let tree = SlotTree::from_leaves((0..4).map(shard)).unwrap();
    let mut path = tree.path(SegmentNumber::new(0)).unwrap();
    path.nodes[0].sum = u64::MAX;
    assert_eq!(path.open(), Err(PathError::Sum));
}

#[test]
fn emptying_is_the_tree_of_the_emptied_list() {
    let mut list: Vec<Leaf> = (0..45).map(shard).collect();
    let mut tree = SlotTree::from_leaves(list.clone()).unwrap();
    for number in [44, 0, 7, 31, 32, 7] {
        let old = tree.set_empty(SegmentNumber::new(number)).unwrap();
        assert_eq!(old, list[as_index(number)]);
        list[as_index(number)] = Leaf::EMPTY;
        assert_eq!(tree, SlotTree::from_leaves(list.clone()).unwrap());
        assert_eq!(tree.root(), model_root(&list));
    }
    let many = [1, 2, 3, 20, 43];
    let before = tree.clone();
    let old = tree.set_all_empty(&numbers(&many)).unwrap();
    let emptied = tree.clone();
    tree.replace_all(&old).unwrap();
    assert_eq!(tree, before);
    tree = emptied;
    many.iter().for_each(|n| list[as_index(*n)] = Leaf::EMPTY);
    assert_eq!(tree, SlotTree::from_leaves(list.clone()).unwrap());

    let before = tree.clone();
    let past = SegmentNumber::new(45);
    let error = SlotTreeError::NoSegment {
        number: past,
        count: 45,
    };
    assert_eq!(tree.set_empty(past), Err(error));
    assert_eq!(tree.set_all_empty(&numbers(&[4, 45])), Err(error));
    let error = SlotTreeError::Unsorted {
        number: SegmentNumber::new(4),
    };
    assert_eq!(tree.set_all_empty(&numbers(&[4, 4])), Err(error));
    assert_eq!(tree.multi_path(&numbers(&[9, 4])).unwrap_err(), error);
    assert_eq!(tree, before);
}

#[test]
fn a_full_tree_takes_no_more() {
    let leaf = shard(0);
    let all = std::iter::repeat_n(leaf, as_index(SEGMENTS_MAX));
    let mut tree = SlotTree::from_leaves(all).unwrap();
    assert_eq!(tree.append(leaf), Err(SlotTreeError::Full));
    assert_eq!(tree.count(), SEGMENTS_MAX);
    let mut frontier = tree.frontier();
    assert_eq!(frontier.append(leaf), Err(SlotTreeError::Full));
    assert_eq!(frontier.root(), tree.root());
    let last = SegmentNumber::new(SEGMENTS_MAX - 1);
    let path = tree.path(last).unwrap();
    assert_eq!(path.nodes.len(), LEVELS_MAX);
    assert_eq!(path.open().unwrap().root, tree.root());
}

#[test]
fn leaves_have_one_form() {
    let root = root_of(1);
    for found in [0, SHARD_BYTES_MAX + 1, u32::MAX] {
        assert_eq!(Leaf::new(found, root), Err(LeafError::ShardBytes { found }));
        assert!(Leaf::try_from_slice(&to_vec(&(found, root)).unwrap()).is_err());
    }
    for leaf in [
        Leaf::new(SHARD_BYTES_MAX, root).unwrap(),
        Leaf::new(1, root).unwrap(),
        Leaf::EMPTY,
    ] {
        let bytes = to_vec(&leaf).unwrap();
        assert_eq!(bytes.len(), 36);
        assert_eq!(Leaf::try_from_slice(&bytes).unwrap(), leaf);
    }
    assert_eq!(Leaf::EMPTY.shard_root(), None);
}

#[test]
fn frontiers_that_cannot_be_are_refused() {
    let mut frontier = Frontier::new();
    (0..5).for_each(|number| {
        frontier.append(shard(number)).unwrap();
    });
    let bytes = to_vec(&frontier).unwrap();
    assert_eq!(bytes.len(), 4 + 2 * 40);
    assert_eq!(Frontier::try_from_slice(&bytes).unwrap(), frontier);
    for len in 0..bytes.len() {
        assert!(Frontier::try_from_slice(&bytes[..len]).is_err());
    }
    let mut changed = bytes.clone();
    changed[4 + 39] = 1; // the top byte of a sum
    assert!(Frontier::try_from_slice(&changed).is_err());
    let mut changed = bytes;
    changed[3] = 0xff;
    assert!(Frontier::try_from_slice(&changed).is_err());
}

/// A change of a leaf: which, and whether it is emptied.
fn changes() -> impl Strategy<Value = Vec<(u32, bool)>> {
    prop::collection::vec(any::<(u32, bool)>(), 0..20)
}

proptest! {
    /// The root is a function of the list, however the tree came to it.
    #[test]
    fn root_is_the_models(list in leaves(), changes in changes()) {
        let mut list = list;
        let mut tree = SlotTree::from_leaves(list.clone()).unwrap();
        let mut frontier = Frontier::new();
        for leaf in &list {
            frontier.append(*leaf).unwrap();
        }
        prop_assert_eq!(frontier.root(), model_root(&list));
        prop_assert_eq!(tree.root(), model_root(&list));
        for (number, empty) in changes {
            if list.is_empty() {
                break;
            }
            let index = as_index(number) % list.len();
            let leaf = if empty { Leaf::EMPTY } else { shard(number) };
            list[index] = leaf;
            tree.replace(SegmentNumber::new(as_count(index)), leaf).unwrap();
        }
        prop_assert_eq!(tree.root(), model_root(&list));
        let sum: u64 = list.iter().map(|leaf| u64::from(leaf.bytes())).sum();
        prop_assert_eq!(tree.sum(), sum);
        let half = list.len() / 2;
        let prefix = tree.view_at(as_count(half)).unwrap().root();
        prop_assert_eq!(prefix, model_root(&list[..half]));
        tree.truncate(as_count(half));
        prop_assert_eq!(tree.root(), prefix);
        prop_assert_eq!(tree.leaves(), &list[..half]);
        tree.append_all(list[half..].to_vec()).unwrap();
        prop_assert_eq!(tree, SlotTree::from_leaves(list).unwrap());
    }

    /// The sums find the shard that a walk over the list finds.
    #[test]
    fn locate_is_the_models(list in leaves(), at in any::<u64>()) {
        let tree = SlotTree::from_leaves(list.clone()).unwrap();
        let position = at % (tree.sum() + 1);
        let expected = model::locate(&modelled(&list), position);
        let found = tree.locate(position);
        let found = found.map(|found| (as_index(found.number.get()), found.offset));
        prop_assert_eq!(found, expected);
    }

    /// Any leaves open together to the root, each at its place.
    #[test]
    fn multi_paths_open(list in leaves(), picks in prop::collection::vec(any::<u32>(), 0..40)) {
        let tree = SlotTree::from_leaves(list.clone()).unwrap();
        let mut picked: Vec<u32> = picks
            .iter()
            .filter_map(|pick| pick.checked_rem(tree.count()))
            .collect();
        picked.sort_unstable();
        picked.dedup();
        let path = tree.multi_path(&numbers(&picked)).unwrap();
        let opening = path.open().unwrap();
        prop_assert_eq!(opening.root, tree.root());
        prop_assert_eq!(opening.sum, tree.sum());
        for ((number, leaf), start) in path.leaves.iter().zip(opening.starts) {
            prop_assert_eq!(list[as_index(number.get())], *leaf);
            if !leaf.is_empty() {
                let found = tree.locate(start).unwrap();
                prop_assert_eq!((found.number, found.offset), (*number, 0));
            }
        }
    }
}
