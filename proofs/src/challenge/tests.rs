//! Challenges against the specification's words.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use cairn_core::{ByteCount, GroupRoot, PublicKey, RevisionNumber};
use proptest::prelude::*;

use super::*;

fn draw(epoch: u64, sample_count: u16) -> Draw {
    Draw {
        seed: Digest::of(b"seed"),
        node: NodeId::new(PublicKey::from_bytes([3; 32])),
        epoch: EpochNumber::new(epoch),
        sample_count,
    }
}

fn slot(group: u8, slot: u8, bytes: u64) -> AcknowledgedSlot {
    AcknowledgedSlot {
        revision: GroupRevision {
            group: GroupId::new(Digest::new([group; 32])),
            number: RevisionNumber::new(1),
            segment_count: SEGMENTS_MAX,
            slot_bytes: ByteCount::new(bytes),
            group_root: GroupRoot::default(),
        },
        slot: SlotIndex::new(slot),
        slot_count: 40,
    }
}

/// The samples as the specification words them, in the order drawn, not sorted.
fn model(draw: &Draw, bytes: u64) -> Vec<u64> {
    let mut key = [0; 32];
    key[..17].copy_from_slice(b"cairn 1 challenge");
    let mut reader = blake3::Hasher::new_keyed(&key)
        .update(draw.seed.as_bytes())
        .update(draw.node.as_bytes())
        .update(&draw.epoch.get().to_le_bytes())
        .finalize_xof();
    (0..draw.sample_count)
        .map(|_| {
            let mut number = [0; 16];
            reader.fill(&mut number);
            u64::try_from(u128::from_le_bytes(number) % u128::from(bytes)).unwrap()
        })
        .collect()
}

fn flat(challenge: &Challenge, slots: &[AcknowledgedSlot]) -> Vec<u64> {
    let mut all = Vec::new();
    for sampled in challenge.slots() {
        let before: u64 = slots
            .iter()
            .take_while(|slot| **slot != sampled.slot)
            .map(|slot| slot.revision.slot_bytes.get())
            .sum();
        all.extend(sampled.positions.iter().map(|position| before + position));
    }
    all
}

#[test]
fn no_bytes_no_samples() {
    assert!(
        Challenge::draw(&draw(1, 32), &[])
            .unwrap()
            .slots()
            .is_empty()
    );
    let empty = [slot(1, 0, 0), slot(1, 1, 0)];
    assert!(
        Challenge::draw(&draw(1, 32), &empty)
            .unwrap()
            .slots()
            .is_empty()
    );
    let one = [slot(1, 0, 0), slot(1, 1, 1), slot(2, 0, 0)];
    let challenge = Challenge::draw(&draw(1, 32), &one).unwrap();
    assert_eq!(challenge.position_count(), 1);
    assert_eq!(challenge.slots()[0].slot, one[1]);
    assert!(
        Challenge::draw(&draw(1, 0), &one)
            .unwrap()
            .slots()
            .is_empty()
    );
}

/// Seed, node and epoch each give other samples; the count only says how many.
#[test]
fn samples_depend_on_all_that_is_bound() {
    let slots = [slot(1, 0, 1 << 40)];
    let base = draw(5, 32);
    let of = |draw: Draw| flat(&Challenge::draw(&draw, &slots).unwrap(), &slots);
    let seed = Digest::of(b"another");
    let node = NodeId::new(PublicKey::from_bytes([4; 32]));
    assert_ne!(of(base), of(Draw { seed, ..base }));
    assert_ne!(of(base), of(Draw { node, ..base }));
    assert_ne!(of(base), of(draw(6, 32)));
    let more = of(draw(5, 256));
    assert!(of(base).iter().all(|sample| more.contains(sample)));
    assert_eq!(more.len(), 256);
}

/// A slot is hit by its share of the bytes: 3 of 16 here.
#[test]
fn slots_are_hit_by_their_bytes() {
    let slots = [
        slot(1, 0, 10 << 20),
        slot(1, 7, 3 << 20),
        slot(2, 0, 3 << 20),
    ];
    let mut hits = 0;
    for epoch in 0..200 {
        let challenge = Challenge::draw(&draw(epoch, 256), &slots).unwrap();
        let sampled = challenge
            .slots()
            .iter()
            .find(|sampled| sampled.slot == slots[1]);
        hits += sampled.map_or(0, |sampled| sampled.positions.len());
    }
    // 51,200 draws, 9,600 expected, deviation 88: five of them either way.
    assert!((9_160..=10_040).contains(&hits), "{hits}");
}

#[test]
fn lists_that_no_ledger_has_are_refused() {
    let refused = |slots: &[AcknowledgedSlot]| Challenge::draw(&draw(1, 32), slots).unwrap_err();
    for pair in [
        [slot(2, 0, 9), slot(1, 0, 9)],
        [slot(1, 1, 9), slot(1, 0, 9)],
        [slot(1, 0, 9); 2],
    ] {
        let AcknowledgedSlot { revision, slot, .. } = pair[1];
        let error = ChallengeError::Order {
            group: revision.group,
            slot,
        };
        assert_eq!(refused(&pair), error);
    }
    let mut wrong = slot(1, 39, 9);
    wrong.slot_count = 39;
    assert!(matches!(refused(&[wrong]), ChallengeError::Slot { .. }));
    wrong.slot_count = 129;
    assert!(matches!(refused(&[wrong]), ChallengeError::Slot { .. }));
    let mut wrong = slot(1, 0, 9);
    wrong.revision.segment_count = 0;
    assert!(matches!(refused(&[wrong]), ChallengeError::Slot { .. }));
    wrong.revision.segment_count = SEGMENTS_MAX + 1;
    assert!(matches!(refused(&[wrong]), ChallengeError::Slot { .. }));
    let most = u64::from(SEGMENTS_MAX) * u64::from(SHARD_BYTES_MAX);
    assert!(matches!(
        refused(&[slot(1, 0, most + 1)]),
        ChallengeError::Slot { .. }
    ));
    assert!(Challenge::draw(&draw(1, 32), &[slot(1, 0, most)]).is_ok());
    let found = SAMPLES_MAX + 1;
    let error = Challenge::draw(&draw(1, found), &[]).unwrap_err();
    assert_eq!(error, ChallengeError::Samples { found });
}

proptest! {
    /// The challenge is the model's samples, sorted, each once, cut up among the slots.
    #[test]
    fn samples_are_the_models(
        sizes in prop::collection::vec(prop_oneof![Just(0), 1_u64..50, 1_u64..1 << 42], 1..30),
        epoch in any::<u64>(),
        count in 0_u16..=256,
    ) {
        let slots: Vec<_> = sizes
            .iter()
            .zip(0_u8..)
            .map(|(bytes, at)| slot(at / 4, at % 4, *bytes))
            .collect();
        let total: u64 = sizes.iter().sum();
        prop_assume!(total > 0);
        let draw = draw(epoch, count);
        let challenge = Challenge::draw(&draw, &slots).unwrap();
        let mut expected = model(&draw, total);
        expected.sort_unstable();
        expected.dedup();
        prop_assert_eq!(flat(&challenge, &slots), expected);
        for sampled in challenge.slots() {
            prop_assert!(sampled.positions.is_sorted_by(|a, b| a < b));
            let last = sampled.positions.last().unwrap();
            prop_assert!(*last < sampled.slot.revision.slot_bytes.get());
        }
    }
}
