//! Proofs of reached revisions, whatever was emptied since.

use cairn_core::{Digest, EpochNumber, NodeId, RevisionDetail, RevisionNumber, SecretKey, Signed};
use cairn_proofs::{AcknowledgedSlot, Challenge, Draw, ProveErrorCause, prove, verify};
use cairn_runtime::{Disk, Runtime};

use super::fixture::{config, detail, final_at, on_machine, open, put_one, shard, slot};
use crate::store::{Needs, ShardStore, StoreError};

fn challenge(detail: &Signed<RevisionDetail>, seed: u8) -> Challenge {
    let revision = detail.unverified().revision;
    let draw = Draw {
        seed: Digest::of(&[seed]),
        node: NodeId::new(SecretKey::from_bytes(&[1; 32]).public()),
        epoch: EpochNumber::new(7),
        sample_count: 64,
    };
    let slot = AcknowledgedSlot {
        revision,
        slot: slot(1).slot,
        slot_count: 4,
    };
    Challenge::draw(&draw, &[slot]).unwrap()
}

/// That the revision is provable, whatever is drawn.
pub(super) fn assert_provable<D: Disk>(store: &ShardStore<D>, detail: &Signed<RevisionDetail>) {
    for seed in 0..4 {
        let challenge = challenge(detail, seed);
        let proof = prove(&challenge, store).unwrap();
        verify(&challenge, &proof).unwrap();
    }
}

fn is_unreached<D: Disk>(store: &ShardStore<D>, detail: &Signed<RevisionDetail>) -> bool {
    let failed = prove(&challenge(detail, 0), store).unwrap_err();
    matches!(
        failed.cause,
        ProveErrorCause::Source(StoreError::Unreached { .. })
    )
}

/// Needs of a slot that has acknowledged `acknowledged` and froze `frozen`.
pub(super) fn needs(acknowledged: u64, frozen: Option<u64>, current: u64) -> Needs {
    Needs::of(
        RevisionNumber::new(acknowledged),
        frozen.map(RevisionNumber::new),
        RevisionNumber::new(current),
    )
}

/// Five revisions; each adds segments and empties others.
fn revisions() -> Vec<Signed<RevisionDetail>> {
    let mut leaves = Vec::new();
    let steps: [(u32, &[u32]); 5] = [(4, &[]), (6, &[1]), (6, &[]), (9, &[0, 5]), (12, &[2, 8])];
    let mut details = Vec::new();
    for ((count, emptied), number) in steps.into_iter().zip(1..) {
        leaves.resize(usize::try_from(count).unwrap(), Some(0));
        for leaf in emptied {
            leaves[usize::try_from(*leaf).unwrap()] = None;
        }
        details.push(detail(slot(1), number, &leaves, emptied));
    }
    details
}

#[test]
fn every_revision_that_may_be_asked_for_is_provable_until_nobody_asks() {
    on_machine(31, |runtime| {
        let disk = runtime.disk();
        let (store, _) = open(disk, config("/store")).unwrap();
        for segment in 0..12 {
            put_one(&store, shard(1, segment), 0).unwrap();
        }
        let details = revisions();
        for (count, detail) in (1..).zip(&details) {
            store.reach(slot(1), detail).unwrap();
            for before in &details[..count] {
                assert_provable(&store, before);
            }
        }
        let used = store.figures().unwrap().used;
        // The same after a restart.
        store.close().unwrap();
        drop(store);
        let (store, _) = open(disk, config("/store")).unwrap();
        for before in &details {
            assert_provable(&store, before);
        }
        assert_eq!(store.figures().unwrap().used, used);
        // Frozen at 1, acknowledged 3: 2 is asked for by nobody, 4 may be acknowledged yet.
        store
            .release_emptied(slot(1), &needs(3, Some(1), 5))
            .unwrap();
        assert!(is_unreached(&store, &details[1]));
        for kept in [0, 2, 3, 4] {
            assert_provable(&store, &details[kept]);
        }
        // The proof of 1 is judged: what 2 emptied goes.
        let freed = store.release_emptied(slot(1), &needs(3, None, 5)).unwrap();
        assert!(freed.get() > 0);
        assert!(is_unreached(&store, &details[0]));
        store.close().unwrap();
        drop(store);
        let (store, _) = open(disk, config("/store")).unwrap();
        for kept in [2, 3, 4] {
            assert_provable(&store, &details[kept]);
        }
        let freed = store.release_emptied(slot(1), &final_at(5)).unwrap();
        assert!(freed.get() > 0);
        assert_provable(&store, &details[4]);
        assert!(is_unreached(&store, &details[3]));
        assert!(!store.is_waiting(slot(1)));
    });
}

#[test]
fn no_more_is_reached_than_can_be_kept_provable() {
    on_machine(32, |runtime| {
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        let mut details = Vec::new();
        for number in 1..=9_u32 {
            put_one(&store, shard(1, number - 1), 0).unwrap();
            let leaves = vec![Some(0); usize::try_from(number).unwrap()];
            details.push(detail(slot(1), u64::from(number), &leaves, &[]));
        }
        for detail in &details[..7] {
            store.reach(slot(1), detail).unwrap();
        }
        let refused = store.reach_or_expect(slot(1), &details[7]).unwrap_err();
        assert!(
            matches!(refused, StoreError::Unsettled { count: 6, .. }),
            "{refused}"
        );
        assert_eq!(store.newest(slot(1)).as_ref(), Some(&details[7]));
        for kept in &details[..7] {
            assert_provable(&store, kept);
        }
        // 2 is frozen, 3 acknowledged, and 8 is the newest: 4 to 7 may be acknowledged yet.
        store
            .release_emptied(slot(1), &needs(3, Some(2), 8))
            .unwrap();
        store.reach(slot(1), &details[7]).unwrap();
        for kept in &details[1..8] {
            assert_provable(&store, kept);
        }
        assert!(is_unreached(&store, &details[0]));
        // Of a slot that was ours before this deal, the oldest may be frozen.
        let fresh = Needs {
            is_oldest_frozen: true,
            ..needs(8, Some(0), 8)
        };
        store.release_emptied(slot(1), &fresh).unwrap();
        assert_provable(&store, &details[1]);
        assert!(is_unreached(&store, &details[6]));
        store.reach(slot(1), &details[8]).unwrap();
    });
}
