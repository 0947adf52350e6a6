//! The group root against trees written out by hand.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::*;

fn roots(count: u8) -> Vec<SlotRoot> {
    (0..count)
        .map(|slot| SlotRoot::new(Digest::of(&[slot])))
        .collect()
}

fn keyed(name: &str, content: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    *blake3::Hasher::new_keyed(&key)
        .update(content)
        .finalize()
        .as_bytes()
}

/// Five slots written out by hand.
#[test]
fn shape_of_five() {
    let r: Vec<[u8; 32]> = roots(5).iter().map(|root| *root.as_bytes()).collect();
    let pair = |a: [u8; 32], b: [u8; 32]| keyed("cairn 1 group inner", &[a, b].concat());
    let top = pair(pair(pair(r[0], r[1]), pair(r[2], r[3])), r[4]);
    let expected = keyed("cairn 1 group root", &[&[5][..], &top].concat());
    assert_eq!(group_root(&roots(5)).unwrap().as_bytes(), &expected);
}

/// Every slot of every count: its path leads to the root, and to it alone.
#[test]
fn every_slot_of_every_count() {
    for count in 1..=128_u8 {
        let list = roots(count);
        let root = group_root(&list).unwrap();
        for slot in (0..count).map(SlotIndex::new) {
            let path = group_path(&list, slot).unwrap();
            let own = list[slot.index()];
            assert_eq!(verify_group_path(root, count, slot, own, &path), Ok(()));
            let wrong = SlotRoot::new(Digest::of(b"wrong"));
            assert!(verify_group_path(root, count, slot, wrong, &path).is_err());
            let beside = SlotIndex::new(slot.get() ^ 1);
            assert!(verify_group_path(root, count, beside, own, &path).is_err());
            if count < 128 {
                assert!(verify_group_path(root, count + 1, slot, own, &path).is_err());
            }
        }
    }
}

#[test]
fn any_changed_sibling_is_refused() {
    let list = roots(40);
    let root = group_root(&list).unwrap();
    let slot = SlotIndex::new(17);
    let path = group_path(&list, slot).unwrap().into_vec();
    assert_eq!(path.len(), 6);
    for index in 0..path.len() {
        for bit in 0..256 {
            let mut changed = path.clone();
            let mut hash = *changed[index].as_bytes();
            hash[bit / 8] ^= 1 << (bit % 8);
            changed[index] = Digest::new(hash);
            let found = verify_group_path(root, 40, slot, list[17], &changed);
            assert!(matches!(found, Err(GroupRootError::Mismatch { .. })));
        }
        let mut changed = path.clone();
        changed.remove(index);
        let found = verify_group_path(root, 40, slot, list[17], &changed);
        assert!(matches!(found, Err(GroupRootError::PathLength { .. })));
    }
}

#[test]
fn counts_out_of_range_are_refused() {
    assert_eq!(group_root(&[]), Err(GroupRootError::SlotCount { found: 0 }));
    let found = roots(129);
    assert_eq!(
        group_root(&found),
        Err(GroupRootError::SlotCount { found: 129 })
    );
    let slot = SlotIndex::new(4);
    assert_eq!(
        group_path(&roots(4), slot),
        Err(GroupRootError::NoSlot { slot, count: 4 })
    );
    let root = group_root(&roots(4)).unwrap();
    let found = verify_group_path(root, 0, slot, SlotRoot::default(), &[]);
    assert_eq!(found, Err(GroupRootError::SlotCount { found: 0 }));
}
