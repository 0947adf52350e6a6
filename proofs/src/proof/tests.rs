//! Proofs: what holds, and everything that does not.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use cairn_core::{Digest, EpochNumber};
use proptest::prelude::*;

use super::*;
use crate::challenge::{AcknowledgedSlot, Draw, SAMPLES_DEFAULT};
use crate::prove::{ProveErrorCause, prove};
use crate::sample::{SampleNode, SampleSlot, Shards, node, stream};

fn draw(epoch: u64, sample_count: u16) -> Draw {
    Draw {
        seed: Digest::of(b"a test's seed"),
        node: node(),
        epoch: EpochNumber::new(epoch),
        sample_count,
    }
}

fn challenge(sample: &SampleNode, epoch: u64, sample_count: u16) -> Challenge {
    Challenge::draw(&draw(epoch, sample_count), &sample.acknowledged()).unwrap()
}

/// Changes a list in place.
fn change<T: Clone, const MAX: usize>(list: &mut Bounded<T, MAX>, with: impl FnOnce(&mut Vec<T>)) {
    let mut values = list.to_vec();
    with(&mut values);
    *list = Bounded::new(values).unwrap();
}

/// The blocks that a challenge asks for, found by walking over the shards.
fn expected_blocks(sample: &SampleNode, challenge: &Challenge) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    for sampled in challenge.slots() {
        let kept = sample
            .slots
            .iter()
            .find(|kept| kept.acknowledged == sampled.slot)
            .unwrap();
        let mut last = None;
        for position in &sampled.positions {
            let mut rest = usize::try_from(*position).unwrap();
            let found = (0..kept.tree.count())
                .map(SegmentNumber::new)
                .find(|number| {
                    let bytes = kept.shard(*number).len();
                    let inside = rest < bytes;
                    rest -= if inside { 0 } else { bytes };
                    inside
                })
                .unwrap();
            let start = rest / 1_024 * 1_024;
            if last.replace((found, start)) != Some((found, start)) {
                let shard = kept.shard(found);
                blocks.push(shard[start..shard.len().min(start + 1_024)].to_vec());
            }
        }
    }
    blocks
}

fn shown_blocks(proof: &Proof) -> Vec<Vec<u8>> {
    let segments = proof.slots.iter().flat_map(|slot| slot.segments.iter());
    segments
        .flat_map(|segment| segment.blocks.iter())
        .map(|block| block.block.as_bytes().to_vec())
        .collect()
}

#[test]
fn honest_proofs_hold() {
    let sample = SampleNode::small();
    for epoch in 0..300 {
        for count in [0, 1, 2, 32, 256] {
            let challenge = challenge(&sample, epoch, count);
            let proof = prove(&challenge, &sample).unwrap();
            assert_eq!(verify(&challenge, &proof), Ok(()));
            assert_eq!(shown_blocks(&proof), expected_blocks(&sample, &challenge));
            assert_eq!(Proof::decode(&proof.encode()).unwrap(), proof);
        }
    }
}

/// One bit anywhere in the encoding, and the proof is none or does not hold.
#[test]
fn any_flipped_bit_is_refused() {
    let sample = SampleNode::small();
    let challenge = challenge(&sample, 1, 6);
    let mut bytes = prove(&challenge, &sample).unwrap().encode();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            bytes[place] ^= 1 << bit;
            let holds = Proof::decode(&bytes).is_ok_and(|proof| verify(&challenge, &proof).is_ok());
            assert!(!holds, "bit {bit} of byte {place}");
            bytes[place] ^= 1 << bit;
        }
    }
}

/// A proof answers its own challenge: not another epoch's, node's, seed's or count's.
#[test]
fn a_proof_answers_one_challenge() {
    let sample = SampleNode::small();
    let slots = sample.acknowledged();
    let own = draw(1, 8);
    let proof = prove(&Challenge::draw(&own, &slots).unwrap(), &sample).unwrap();
    let seed = Digest::of(b"another");
    let node = cairn_core::NodeId::new(cairn_core::PublicKey::from_bytes([8; 32]));
    for other in [
        draw(2, 8),
        draw(1, 9),
        draw(1, 7),
        Draw { seed, ..own },
        Draw { node, ..own },
    ] {
        let challenge = Challenge::draw(&other, &slots).unwrap();
        assert!(verify(&challenge, &proof).is_err());
    }
}

/// Another slot of the same group, with the same segments, cannot stand in.
#[test]
fn wrong_slots_are_refused() {
    let sample = SampleNode::new(vec![
        SampleSlot::new(1, (0, 4), &[5_000, 5_000]),
        SampleSlot::new(1, (1, 4), &[5_000, 5_000]),
    ]);
    let slots = sample.acknowledged();
    let first = Challenge::draw(&draw(1, 4), &slots[..1]).unwrap();
    let second = Challenge::draw(&draw(1, 4), &slots[1..]).unwrap();
    assert_eq!(first.slots()[0].positions, second.slots()[0].positions);
    let proof = prove(&first, &sample).unwrap();
    let Err(ProofError::Slot { cause, .. }) = verify(&second, &proof) else {
        panic!("a proof of another slot");
    };
    assert!(matches!(
        cause,
        SlotProofError::Group(GroupRootError::Mismatch { .. })
    ));

    let both = challenge(&sample, 1, 16);
    let honest = prove(&both, &sample).unwrap();
    let mut proof = honest.clone();
    change(&mut proof.slots, |slots| slots.swap(0, 1));
    assert!(verify(&both, &proof).is_err());
    let mut proof = honest.clone();
    change(&mut proof.slots, |slots| drop(slots.pop()));
    assert_eq!(
        verify(&both, &proof),
        Err(ProofError::SlotCount {
            expected: 2,
            found: 1
        })
    );
    let mut proof = honest;
    change(&mut proof.slots, |slots| slots.push(slots[0].clone()));
    assert_eq!(
        verify(&both, &proof),
        Err(ProofError::SlotCount {
            expected: 2,
            found: 3
        })
    );
}

/// A prover that lacks the segment that was hit shows its neighbour, with a path that is true.
#[test]
fn the_sums_say_which_segment() {
    let sample = SampleNode::new(vec![SampleSlot::new(1, (0, 4), &[2_048; 8])]);
    let challenge = challenge(&sample, 3, 1);
    let position = challenge.slots()[0].positions[0];
    let slot = &sample.slots[0];
    let hit = slot.tree.locate(position).unwrap().number.get();
    for number in (0..8)
        .filter(|number| *number != hit)
        .map(SegmentNumber::new)
    {
        // The honest proof of the same place in the neighbour.
        let elsewhere = SampledSlot {
            slot: slot.acknowledged,
            positions: vec![u64::from(number.get()) * 2_048 + position % 2_048],
        };
        let neighbour = Challenge::of_slots(vec![elsewhere]);
        let proof = prove(&neighbour, &sample).unwrap();
        assert_eq!(verify(&neighbour, &proof), Ok(()));
        let Err(ProofError::Slot { cause, .. }) = verify(&challenge, &proof) else {
            panic!("segment {number} stood in for {hit}");
        };
        assert!(matches!(
            cause,
            SlotProofError::NotShown { .. } | SlotProofError::NotAsked { .. }
        ));
    }
}

/// The right segment with another of its blocks.
#[test]
fn the_position_says_which_block() {
    let sample = SampleNode::new(vec![SampleSlot::new(1, (0, 4), &[8_192])]);
    let at = |block: u64| {
        Challenge::of_slots(vec![SampledSlot {
            slot: sample.slots[0].acknowledged,
            positions: vec![block * 1_024 + 5],
        }])
    };
    for (asked, shown) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
        let proof = prove(&at(shown), &sample).unwrap();
        let found = verify(&at(asked), &proof);
        assert_eq!(found.is_ok(), asked == shown);
    }
}

/// Showing more than was asked for, less, or in another order is refused.
#[test]
fn there_is_one_proof() {
    let sample = SampleNode::small();
    let challenge = challenge(&sample, 4, 32);
    let honest = prove(&challenge, &sample).unwrap();
    let mut tried = 0;
    for slot in 0..honest.slots.len() {
        let slot_count = honest.slots[slot].segments.len();
        for segment in 0..slot_count {
            let mut edit = |with: &dyn Fn(&mut Vec<SegmentProof>)| {
                let mut proof = honest.clone();
                change(&mut proof.slots, |slots| {
                    change(&mut slots[slot].segments, with);
                });
                assert!(proof == honest || verify(&challenge, &proof).is_err());
                tried += 1;
            };
            edit(&|segments| drop(segments.remove(segment)));
            edit(&|segments| segments.insert(segment, segments[segment].clone()));
            edit(&|segments| segments.swap(segment, 0));
            edit(&|segments| segments[segment].leaf = Leaf::EMPTY);
            edit(&|segments| change(&mut segments[segment].blocks, |blocks| drop(blocks.pop())));
            edit(&|segments| {
                change(&mut segments[segment].blocks, |blocks| {
                    blocks.push(blocks[0].clone());
                });
            });
            edit(&|segments| change(&mut segments[segment].blocks, |blocks| blocks.reverse()));
            edit(&|segments| {
                change(&mut segments[segment].blocks, |blocks| {
                    change(&mut blocks[0].siblings, |siblings| siblings.push([0; 32]));
                });
            });
        }
        let mut proof = honest.clone();
        change(&mut proof.slots, |slots| {
            change(&mut slots[slot].nodes, |nodes| {
                nodes.push(TreeNode {
                    hash: Digest::default(),
                    sum: 0,
                });
            });
        });
        assert!(verify(&challenge, &proof).is_err());
    }
    assert!(tried > 30);
}

/// The ledger's numbers are binding: another count or size of the slot refuses a true path.
#[test]
fn the_ledgers_numbers_are_binding() {
    let sample = SampleNode::small();
    let slot = sample.slots[0].acknowledged;
    let with = |change: &dyn Fn(&mut AcknowledgedSlot)| {
        let mut slot = slot;
        change(&mut slot);
        Challenge::of_slots(vec![SampledSlot {
            slot,
            positions: vec![10],
        }])
    };
    let proof = prove(&with(&|_| ()), &sample).unwrap();
    assert_eq!(verify(&with(&|_| ()), &proof), Ok(()));
    let changes: [&dyn Fn(&mut AcknowledgedSlot); 6] = [
        &|slot| slot.revision.segment_count += 1,
        &|slot| slot.revision.segment_count = u32::MAX,
        &|slot| slot.revision.slot_bytes = cairn_core::ByteCount::new(24_024),
        &|slot| slot.slot_count = 5,
        &|slot| slot.slot = SlotIndex::new(1),
        &|slot| slot.revision.group_root = cairn_core::GroupRoot::default(),
    ];
    for change in changes {
        assert!(verify(&with(change), &proof).is_err());
    }
}

/// Segments that arrived after the acknowledged revision do not disturb its proof.
#[test]
fn later_segments_do_not_disturb() {
    let mut sample = SampleNode::small();
    let challenge = challenge(&sample, 1, 32);
    let proof = prove(&challenge, &sample).unwrap();
    for slot in &mut sample.slots {
        for _ in 0..7 {
            slot.tree
                .append(Leaf::new(9, Default::default()).unwrap())
                .unwrap();
        }
    }
    assert_eq!(prove(&challenge, &sample).unwrap(), proof);
}

/// What a node cannot show it learns itself, by name.
#[test]
fn a_prover_learns_what_it_lost() {
    let whole = SampleNode::small();
    let challenge = challenge(&whole, 1, 32);
    let cause = |sample: &SampleNode| prove(&challenge, sample).unwrap_err().cause;

    let mut sample = whole.clone();
    for slot in &mut sample.slots {
        if let Shards::Own(shards) = &mut slot.shards {
            shards.iter_mut().flatten().for_each(|byte| *byte ^= 1);
        }
    }
    let ProveErrorCause::Damaged { cause: damage, .. } = cause(&sample) else {
        panic!("a damaged shard was proved");
    };
    assert!(matches!(damage, RangeError::Mismatch { .. }));

    let mut sample = whole.clone();
    sample.slots[0].tree.truncate(1);
    assert!(matches!(cause(&sample), ProveErrorCause::Tree(_)));

    let mut sample = whole.clone();
    let last = SegmentNumber::new(4);
    sample.slots[0]
        .tree
        .replace(last, Leaf::new(1_024, Default::default()).unwrap())
        .unwrap();
    assert!(matches!(
        cause(&sample),
        ProveErrorCause::Group(GroupRootError::Mismatch { .. })
    ));

    let mut sample = whole.clone();
    sample.slots.remove(0);
    let error = prove(&challenge, &sample).unwrap_err();
    assert!(matches!(error.cause, ProveErrorCause::Source(_)));
    assert_eq!(error.group, whole.slots[0].acknowledged.revision.group);
}

/// The sizes that the design promises: 32 samples in at most 70 KB and 64 reads, 256 under the
/// bound.
#[test]
fn sizes_and_reads_that_the_design_promises() {
    let shard = stream("a whole shard", 1 << 20);
    let one_slot = vec![SampleSlot::same(1, (3, 40), shard.clone(), 1_000_000)];
    let many_slots = (0..40)
        .map(|group| SampleSlot::same(group, (group, 40), shard.clone(), 16_384))
        .collect();
    for sample in [one_slot, many_slots].map(SampleNode::new) {
        for epoch in 0..4 {
            sample.reads.set(0);
            let challenge = challenge(&sample, epoch, SAMPLES_DEFAULT);
            let proof = prove(&challenge, &sample).unwrap();
            assert_eq!(verify(&challenge, &proof), Ok(()));
            let bytes = proof.encode().len();
            assert!(bytes <= 70_000, "{bytes}");
            assert!(sample.reads.get() <= 64);
        }
        let challenge = challenge(&sample, 9, SAMPLES_MAX);
        let proof = prove(&challenge, &sample).unwrap();
        assert_eq!(verify(&challenge, &proof), Ok(()));
        assert!(proof.encode().len() <= Proof::BYTES_MAX);
    }
}

#[test]
fn blocks_have_one_to_1024_bytes() {
    assert_eq!(Block::new(vec![]), None);
    assert_eq!(Block::new(vec![0; 1_025]), None);
    for bytes in [1, 1_024] {
        let block = Block::new(vec![9; bytes]).unwrap();
        let encoded = borsh::to_vec(&block).unwrap();
        assert_eq!(encoded.len(), 2 + bytes);
        assert_eq!(Block::try_from_slice(&encoded).unwrap(), block);
    }
    assert!(Block::try_from_slice(&[0, 0]).is_err());
    assert!(Block::try_from_slice(&[1, 4]).is_err());
    assert!(Block::try_from_slice(&vec![4; 2 + 1_028]).is_err());
}

/// Slots with up to 6 shards each, some emptied, some without a byte.
fn nodes() -> impl Strategy<Value = SampleNode> {
    let size = prop_oneof![
        1 => Just(0_u32),
        2 => 1_u32..3_000,
        2 => 15_000_u32..18_000,
        1 => 60_000_u32..70_000,
    ];
    let sizes = prop::collection::vec(size, 0..6);
    let slot = (sizes, 0_u8..5, 5_u8..9);
    prop::collection::vec(slot, 0..5).prop_map(|slots| {
        let slots = slots
            .iter()
            .zip(0_u8..)
            .map(|((sizes, slot, slot_count), group)| {
                SampleSlot::new(group, (*slot, *slot_count), sizes)
            });
        SampleNode::new(slots.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// verify after prove holds; with one flipped bit it does not.
    #[test]
    fn proofs_hold_until_a_bit_flips(
        sample in nodes(),
        epoch in any::<u64>(),
        count in 0_u16..=64,
        flips in prop::collection::vec(any::<(u32, u8)>(), 16),
    ) {
        let challenge = challenge(&sample, epoch, count);
        let proof = prove(&challenge, &sample).unwrap();
        prop_assert_eq!(verify(&challenge, &proof), Ok(()));
        prop_assert_eq!(shown_blocks(&proof), expected_blocks(&sample, &challenge));
        let mut bytes = proof.encode();
        for (place, bit) in flips {
            let place = usize::try_from(place).unwrap() % bytes.len();
            bytes[place] ^= 1 << (bit % 8);
            let changed = Proof::decode(&bytes);
            prop_assert!(!changed.is_ok_and(|changed| verify(&challenge, &changed).is_ok()));
            bytes[place] ^= 1 << (bit % 8);
        }
    }
}
