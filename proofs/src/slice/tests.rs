//! Slices against plain BLAKE3.

use std::convert::Infallible;

use cairn_core::message::{RANGE_PROOF_BYTES_MAX, ShardRange};
use cairn_core::{Digest, ShardRoot};
use proptest::prelude::*;

use super::*;

/// Sizes where the tree changes shape: around a block, a span, four spans, and odd ends.
const SIZES: [u32; 27] = [
    1, 2, 1_023, 1_024, 1_025, 2_047, 2_048, 2_049, 3_072, 5_000, 16_383, 16_384, 16_385, 17_408,
    17_409, 32_767, 32_768, 32_769, 49_152, 50_000, 65_535, 65_536, 65_537, 66_560, 66_561, 81_921,
    100_000,
];

fn shard(bytes: u32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(bytes).unwrap()];
    blake3::Hasher::new_derive_key("cairn test shard")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn part(shard: &[u8], range: ShardRange) -> &[u8] {
    let start = usize::try_from(range.offset).unwrap();
    &shard[start..start + usize::try_from(range.bytes).unwrap()]
}

fn range(offset: u32, bytes: u32) -> ShardRange {
    ShardRange { offset, bytes }
}

/// The proof, after checking that only the ends were read.
fn prove(shard: &[u8], outboard: &Outboard, asked: ShardRange) -> RangeProof {
    let shard_bytes = u32::try_from(shard.len()).unwrap();
    let spans = widen_to_spans(shard_bytes, asked).unwrap();
    let mut reads = Vec::new();
    let proof = prove_range(shard_bytes, asked, outboard, |read| {
        assert!(read.bytes <= SPAN_BYTES && read.offset.is_multiple_of(SPAN_BYTES));
        assert!(read.offset >= spans.offset);
        assert!(read.offset + read.bytes <= spans.offset + spans.bytes);
        assert!(reads.last() < Some(&read.offset));
        reads.push(read.offset);
        Ok::<_, Infallible>(part(shard, read))
    })
    .unwrap();
    assert!(reads.len() <= 2);
    assert!(proof.as_bytes().len() <= usize::try_from(RANGE_PROOF_BYTES_MAX).unwrap());
    proof
}

#[test]
fn roots_are_plain_blake3() {
    for size in SIZES.into_iter().chain([1 << 20, (1 << 20) + 1, 4 << 20]) {
        let shard = shard(size);
        let hashed = hash_shard(&shard).unwrap();
        assert_eq!(hashed.root.as_bytes(), blake3::hash(&shard).as_bytes());
        let expected = usize::try_from(Outboard::bytes_of(size)).unwrap();
        let kept = hashed.outboard.to_bytes();
        assert_eq!(kept.len(), expected);
        assert_eq!(
            Outboard::from_bytes(size, &kept),
            Ok(hashed.outboard.clone())
        );
        assert_eq!(
            hashed.outboard.root(),
            (size > SPAN_BYTES).then_some(hashed.root)
        );
        assert_eq!(
            Outboard::from_bytes(size, &[&kept[..], &[0]].concat()),
            Err(OutboardError::Length {
                expected,
                found: expected + 1
            })
        );
    }
    assert_eq!(hash_shard(&[]), Err(OutboardError::ShardBytes { found: 0 }));
    assert!(Outboard::from_bytes((4 << 20) + 1, &[]).is_err());
}

/// Every block of every size, and every flipped bit of its proof.
#[test]
fn every_block_of_small_shards() {
    for size in SIZES {
        let shard = shard(size);
        let HashedShard { root, outboard } = hash_shard(&shard).unwrap();
        for offset in (0..size).step_by(usize::try_from(BLOCK_BYTES).unwrap()) {
            let block = widen_to_blocks(size, range(offset, 1)).unwrap();
            let proof = prove(&shard, &outboard, block);
            let bytes = part(&shard, block);
            let verify = |proof: &[u8]| verify_range(root, size, block, bytes, proof);
            assert_eq!(verify(proof.as_bytes()), Ok(()));
            assert_eq!(siblings_count(size, block), Ok(proof.siblings().len()));
            let mut changed = proof.as_bytes().to_vec();
            for index in 0..changed.len() {
                changed[index] ^= 0x10;
                assert!(matches!(verify(&changed), Err(RangeError::Mismatch { .. })));
                changed[index] ^= 0x10;
            }
            for len in 0..changed.len() {
                let short = verify(&changed[..len]);
                assert!(matches!(short, Err(RangeError::ProofLength { .. })));
            }
            changed.extend_from_slice(&[0; 32]);
            assert!(matches!(
                verify(&changed),
                Err(RangeError::ProofLength { .. })
            ));
        }
    }
}

/// Every range of blocks of every shard up to 20 blocks.
#[test]
fn every_range_of_small_shards() {
    for size in (1..=20).flat_map(|blocks| [blocks * BLOCK_BYTES - 1, blocks * BLOCK_BYTES]) {
        let shard = shard(size);
        let HashedShard { root, outboard } = hash_shard(&shard).unwrap();
        let blocks = size.div_ceil(BLOCK_BYTES);
        for (first, last) in (0..blocks).flat_map(|a| (a..blocks).map(move |b| (a, b))) {
            let end = ((last + 1) * BLOCK_BYTES).min(size);
            let whole = range(first * BLOCK_BYTES, end - first * BLOCK_BYTES);
            let proof = prove(&shard, &outboard, whole);
            let bytes = part(&shard, whole);
            assert_eq!(
                verify_range(root, size, whole, bytes, proof.as_bytes()),
                Ok(())
            );
            assert_eq!(proof.siblings().is_empty(), whole.bytes == size);
        }
    }
}

/// The same bytes and siblings prove nothing at another place or of another size.
#[test]
fn a_proof_holds_at_its_place_only() {
    let size = 40 * BLOCK_BYTES;
    let mut twins = shard(size);
    // Two equal blocks: only the place tells them apart.
    twins.copy_within(3 * 1_024..4 * 1_024, 4 * 1_024);
    let HashedShard { root, outboard } = hash_shard(&twins).unwrap();
    let here = range(3 * BLOCK_BYTES, BLOCK_BYTES);
    let proof = prove(&twins, &outboard, here);
    for block in 0..40 {
        let there = range(block * BLOCK_BYTES, BLOCK_BYTES);
        let found = verify_range(root, size, there, part(&twins, here), proof.as_bytes());
        assert_eq!(found.is_ok(), there == here);
    }
    // The size is bound by the last block alone: BLAKE3 has no length in its inner nodes.
    let last = range(39 * BLOCK_BYTES, BLOCK_BYTES);
    let proof = prove(&twins, &outboard, last);
    for other in (1..=64).map(|blocks| blocks * BLOCK_BYTES) {
        let found = verify_range(root, other, last, part(&twins, last), proof.as_bytes());
        assert_eq!(found.is_ok(), other == size, "{other}");
    }
    let cut = range(last.offset, BLOCK_BYTES - 1);
    let found = verify_range(root, size - 1, cut, part(&twins, cut), proof.as_bytes());
    assert!(matches!(found, Err(RangeError::Mismatch { .. })));
}

#[test]
fn sizes_that_the_design_promises() {
    let shard = shard(1 << 20);
    let HashedShard { root, outboard } = hash_shard(&shard).unwrap();
    assert_eq!(outboard.to_bytes().len(), 2_048);
    let block = range(777 * BLOCK_BYTES, BLOCK_BYTES);
    assert_eq!(
        1_024 + prove(&shard, &outboard, block).as_bytes().len(),
        1_344
    );
    let mut most = 0;
    for first in 0..=960 {
        let wide = range(first * BLOCK_BYTES, 64 << 10);
        let proof = prove(&shard, &outboard, wide);
        most = most.max(proof.as_bytes().len());
        let bytes = part(&shard, wide);
        assert_eq!(
            verify_range(root, 1 << 20, wide, bytes, proof.as_bytes()),
            Ok(())
        );
    }
    assert!(most < 1_024, "{most}");
}

#[test]
fn ranges_and_lengths_are_checked_before_anything_else() {
    let root = ShardRoot::new(Digest::of(b""));
    let check = |size, asked, bytes: &[u8], proof: &[u8]| {
        verify_range(root, size, asked, bytes, proof).unwrap_err()
    };
    let block = range(0, 1_024);
    for found in [0, (4 << 20) + 1, u32::MAX] {
        assert_eq!(
            check(found, block, &[], &[]),
            RangeError::ShardBytes { found }
        );
    }
    for asked in [
        range(0, 0),
        range(0, 5_001),
        range(5_000, 1),
        range(u32::MAX, 2),
    ] {
        let expected = RangeError::Range {
            shard_bytes: 5_000,
            range: asked,
        };
        assert_eq!(check(5_000, asked, &[], &[]), expected);
        assert_eq!(widen_to_blocks(5_000, asked), Err(expected));
    }
    for asked in [
        range(1, 1_023),
        range(0, 1_023),
        range(4_096, 903),
        range(1_024, 1_025),
    ] {
        assert_eq!(
            check(5_000, asked, &[], &[]),
            RangeError::NotBlocks { range: asked }
        );
    }
    assert_eq!(
        check(5_000, block, &[0; 1_023], &[]),
        RangeError::Length {
            expected: 1_024,
            found: 1_023
        }
    );
    assert_eq!(
        check(5_000, block, &[0; 1_024], &[0; 95]),
        RangeError::ProofLength {
            expected: 96,
            found: 95
        }
    );
    assert_eq!(
        widen_to_blocks(5_000, range(1_000, 100)),
        Ok(range(0, 2_048))
    );
    assert_eq!(
        widen_to_blocks(5_000, range(4_500, 1)),
        Ok(range(4_096, 904))
    );
    assert_eq!(
        widen_to_spans(20_000, range(16_384, 1)),
        Ok(range(16_384, 3_616))
    );
}

#[test]
fn a_prover_says_what_it_lacks() {
    let shard = shard(40_000);
    let HashedShard { outboard, .. } = hash_shard(&shard).unwrap();
    let block = range(1_024, 1_024);
    let failed = prove_range(40_000, block, &outboard, |_| Err::<Vec<u8>, _>("bad disk"));
    assert_eq!(failed, Err(RangeProveError::Read("bad disk")));
    let short = prove_range(40_000, block, &outboard, |_| Ok::<_, ()>(vec![0; 100]));
    assert_eq!(
        short,
        Err(RangeProveError::Length {
            expected: SPAN_BYTES,
            found: 100
        })
    );
    let other = prove_range(50_000, block, &outboard, |_| Ok::<_, ()>(Vec::new()));
    assert_eq!(
        other,
        Err(RangeProveError::Outboard {
            expected: 50_000,
            found: 40_000
        })
    );
    let nowhere = prove_range(40_000, range(40_000, 1), &outboard, |_| {
        Ok::<_, ()>(Vec::new())
    });
    assert!(matches!(
        nowhere,
        Err(RangeProveError::Range(RangeError::Range { .. }))
    ));
}

#[test]
#[should_panic(expected = "lacking")]
fn a_shard_is_not_finished_early() {
    let hashed = ShardHasher::new(10).unwrap().finish();
    drop(hashed);
}

#[test]
#[should_panic(expected = "a piece of 11 bytes where 10 are lacking")]
fn a_shard_is_not_overfilled() {
    ShardHasher::new(10).unwrap().update(&[0; 11]);
}

proptest! {
    /// However the pieces are cut, root and outboard are the same.
    #[test]
    fn pieces_make_no_difference(
        size in 1_u32..200_000,
        cuts in prop::collection::vec(1_usize..40_000, 1..20),
    ) {
        let shard = shard(size);
        let mut hasher = ShardHasher::new(size).unwrap();
        let mut rest = &shard[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            hasher.update(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(hasher.bytes_lacking(), 0);
        let hashed = hasher.finish();
        prop_assert_eq!(hashed.root.digest(), Digest::of(&shard));
        prop_assert_eq!(hashed, hash_shard(&shard).unwrap());
    }

    /// verify after prove holds; one flipped bit of bytes or proof does not.
    #[test]
    fn ranges_prove(
        size in 1_u32..300_000,
        at in any::<(u32, u32)>(),
        flip in any::<(usize, u8)>(),
    ) {
        let shard = shard(size);
        let HashedShard { root, outboard } = hash_shard(&shard).unwrap();
        let offset = at.0 % size;
        let asked = range(offset, 1 + at.1 % (size - offset));
        let whole = widen_to_blocks(size, asked).unwrap();
        let proof = prove(&shard, &outboard, whole);
        let mut bytes = part(&shard, whole).to_vec();
        prop_assert_eq!(verify_range(root, size, whole, &bytes, proof.as_bytes()), Ok(()));
        let mut proof = proof.as_bytes().to_vec();
        let place = flip.0 % (bytes.len() + proof.len());
        let bit = 1 << (flip.1 % 8);
        match place.checked_sub(bytes.len()) {
            None => bytes[place] ^= bit,
            Some(place) => proof[place] ^= bit,
        }
        prop_assert!(verify_range(root, size, whole, &bytes, &proof).is_err());
    }
}
