//! The coder against the library, over every loss of small codes and random ones of large codes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

use super::*;

/// Shard sizes around vector widths, steps and blocks of the kernels.
const SHARD_SIZES: [usize; 17] = [
    1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 16_383, 16_384, 16_385,
];

fn code(k: u8, n: u8) -> Code {
    Code::new(k, n).unwrap()
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// All n shards of `payload` by the library: the oracle.
fn library_shards(code: Code, payload: &[u8]) -> Vec<Vec<u8>> {
    let shard_bytes = payload.len().div_ceil(code.data_count());
    let mut padded = payload.to_vec();
    padded.resize(shard_bytes * code.data_count(), 0);
    let mut shards: Vec<Vec<u8>> = padded.chunks(shard_bytes).map(<[u8]>::to_vec).collect();
    shards.resize(code.shard_count(), vec![0; shard_bytes]);
    let library = ReedSolomon::new(code.data_count(), code.parity_count()).unwrap();
    library.encode(&mut shards).unwrap();
    shards
}

/// The shards of `slots`, cut to `columns`.
fn present<'a>(
    shards: &'a [Vec<u8>],
    slots: &[SlotIndex],
    columns: &Range<usize>,
) -> Vec<(SlotIndex, &'a [u8])> {
    let shard = |slot: &SlotIndex| (*slot, &shards[slot.index()][columns.clone()]);
    slots.iter().map(shard).collect()
}

/// Encodes, reconstructs everything from `kept` and decodes, and compares with the library.
fn assert_round_trip(coder: &Coder, payload: &[u8], shards: &[Vec<u8>], kept: &[SlotIndex]) {
    let all: Vec<SlotIndex> = coder.code().slots().collect();
    let shard_bytes = shards[0].len();
    let given = present(shards, kept, &(0..shard_bytes));
    let mut rebuilt = vec![vec![0xee; shard_bytes]; all.len()];
    coder.reconstruct(&given, &all, &mut rebuilt).unwrap();
    assert_eq!(rebuilt, shards, "{coder:?} from {kept:?}");
    let mut decoded = vec![0xee; payload.len()];
    coder.decode(&given, &mut decoded).unwrap();
    assert_eq!(decoded, payload, "{coder:?} from {kept:?}");
}

/// Subsets of the slots of `code`, as bit masks, that are enough to decode.
fn enough(code: Code) -> impl Iterator<Item = Vec<SlotIndex>> {
    (0..1_u32 << code.n())
        .filter(move |set| set.count_ones() >= u32::from(code.k()))
        .map(move |set| {
            code.slots()
                .filter(|slot| set >> slot.index() & 1 == 1)
                .collect()
        })
}

#[test]
fn small_codes_survive_every_loss() {
    for n in 2..=7 {
        for k in 1..n {
            let coder = Coder::new(code(k, n));
            for payload_bytes in [1, 2, usize::from(k), usize::from(k) + 1, 150] {
                let payload = noise(u64::from(n), payload_bytes);
                let shards = library_shards(coder.code(), &payload);
                for kept in enough(coder.code()) {
                    assert_round_trip(&coder, &payload, &shards, &kept);
                }
            }
        }
    }
}

#[test]
fn four_of_eight_survives_every_loss_on_every_kernel() {
    for kernel in Kernel::available() {
        let coder = Coder::with_kernel(code(4, 8), kernel);
        let payload = noise(8, 1021);
        let shards = library_shards(coder.code(), &payload);
        for kept in enough(coder.code()) {
            assert_round_trip(&coder, &payload, &shards, &kept);
        }
    }
}

#[test]
fn shard_sizes_at_every_border() {
    for kernel in Kernel::available() {
        let coder = Coder::with_kernel(code(3, 8), kernel);
        for shard_bytes in SHARD_SIZES {
            for lacking in [0, 1, 2] {
                let payload = noise(9, (shard_bytes * 3 - lacking).max(1));
                let shards = library_shards(coder.code(), &payload);
                let mut parity = vec![vec![0; shards[0].len()]; 5];
                coder.encode(&payload, &mut parity).unwrap();
                assert_eq!(parity, shards[3..], "{kernel}, {shard_bytes} bytes");
                let kept: Vec<SlotIndex> = [7, 1, 5].map(SlotIndex::new).to_vec();
                assert_round_trip(&coder, &payload, &shards, &kept);
            }
        }
    }
}

#[test]
fn a_payload_shorter_than_k_has_empty_data_shards() {
    let coder = Coder::new(code(20, 40));
    for payload_bytes in 1..=41 {
        let payload = noise(10, payload_bytes);
        let shards = library_shards(coder.code(), &payload);
        let last: Vec<SlotIndex> = (20..40).map(SlotIndex::new).collect();
        assert_round_trip(&coder, &payload, &shards, &last);
        for slot in coder.code().slots().take(20) {
            let shard = coder.data_shard(&payload, slot).unwrap();
            assert_eq!(shard.as_ref(), shards[slot.index()]);
            let range = coder.data_range(payload.len(), slot).unwrap();
            assert!(shard.starts_with(&payload[range]));
        }
    }
}

/// Every profile, worst loss and one loss, with shards of several blocks.
#[test]
fn profiles_match_the_library() {
    for profile in cairn_core::Profile::ALL {
        let coder = Coder::new(profile.code());
        let payload = noise(11, coder.code().data_count() * 20_001 - 1);
        let shards = library_shards(coder.code(), &payload);
        let slots: Vec<SlotIndex> = coder.code().slots().collect();
        let k = coder.code().data_count();
        let mut one_lost = slots[1..=k].to_vec();
        assert_round_trip(&coder, &payload, &shards, &one_lost);
        one_lost.reverse();
        assert_round_trip(&coder, &payload, &shards, &one_lost);
        assert_round_trip(&coder, &payload, &shards, &slots[slots.len() - k..]);
    }
}

#[test]
fn plans_are_bounded_and_do_not_mix() {
    let coder = Coder::new(code(2, 8));
    let payload = noise(12, 64);
    let shards = library_shards(coder.code(), &payload);
    for _ in 0..2 {
        for kept in enough(coder.code()).filter(|kept| kept.len() == 2) {
            for slot in coder.code().slots() {
                let given = present(&shards, &kept, &(0..32));
                let mut out = [vec![0; 32]];
                coder.reconstruct(&given, &[slot], &mut out).unwrap();
                assert_eq!(out[0], shards[slot.index()]);
            }
        }
    }
    assert_eq!(coder.inner.plans.len(), crate::PLANS_MAX);
}

#[test]
fn verify_accepts_every_codeword_and_finds_any_flipped_bit() {
    let coder = Coder::new(code(3, 7));
    let payload = noise(13, 3 * (VERIFY_COLUMNS + 100));
    let shards = library_shards(coder.code(), &payload);
    let shard_bytes = shards[0].len();
    for kept in enough(coder.code()).filter(|kept| kept.len() > 3) {
        coder
            .verify(&present(&shards, &kept, &(0..shard_bytes)))
            .unwrap();
        for flipped in &kept {
            for column in [0, VERIFY_COLUMNS - 1, VERIFY_COLUMNS, shard_bytes - 1] {
                let mut wrong = shards.clone();
                wrong[flipped.index()][column] ^= 4;
                let error = coder.verify(&present(&wrong, &kept, &(0..shard_bytes)));
                let first_checked = kept[3];
                // A wrong source shows in the first shard checked, a wrong other in itself.
                let slot = (*flipped).max(first_checked);
                assert_eq!(error, Err(VerifyError::NotCodeword { slot, column }));
            }
        }
    }
}

#[test]
fn one_wrong_payload_byte_changes_every_parity_shard() {
    let coder = Coder::new(code(4, 8));
    let mut payload = noise(14, 400);
    let mut before = vec![vec![0; 100]; 4];
    coder.encode(&payload, &mut before).unwrap();
    payload[250] ^= 1;
    let mut after = vec![vec![0; 100]; 4];
    coder.encode(&payload, &mut after).unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(first_difference(before, after), Some(50));
    }
}

#[test]
fn encode_refuses_what_it_cannot_do() {
    let coder = Coder::new(code(2, 4));
    let encode = |payload: &[u8], sizes: &[usize]| {
        let mut parity: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![7; size]).collect();
        let result = coder.encode(payload, &mut parity);
        assert!(result.is_ok() || parity.iter().flatten().all(|&byte| byte == 7));
        result
    };
    let expected_max = 8 << 20;
    assert_eq!(
        encode(&[], &[0, 0]),
        Err(EncodeError::PayloadBytes {
            expected_max,
            found: 0
        })
    );
    let above = vec![0; expected_max + 1];
    let found = above.len();
    let size = found.div_ceil(2);
    assert_eq!(
        encode(&above, &[size, size]),
        Err(EncodeError::PayloadBytes {
            expected_max,
            found
        })
    );
    assert_eq!(coder.shard_bytes(expected_max), Ok(4 << 20));
    assert_eq!(coder.shard_bytes(1), Ok(1));
    assert_eq!(
        encode(&[1, 2], &[1]),
        Err(EncodeError::OutputCount {
            expected: 2,
            found: 1
        })
    );
    assert_eq!(
        encode(&[1, 2], &[1, 2]),
        Err(EncodeError::OutputBytes {
            index: 1,
            expected: 1,
            found: 2
        })
    );
    assert_eq!(encode(&[1, 2], &[1, 1]), Ok(()));
}

#[test]
fn encode_refuses_columns_and_slots_outside() {
    let coder = Coder::new(code(2, 4));
    let mut parity = vec![vec![0; 1]; 2];
    for (start, end) in [(2, 3), (1, 0), (0, usize::MAX)] {
        let columns = Range { start, end };
        assert_eq!(
            coder.encode_columns(&[1, 2, 3, 4], columns, &mut parity),
            Err(EncodeError::Columns {
                shard_bytes: 2,
                start,
                end
            })
        );
    }
    let mut none = vec![vec![]; 2];
    assert_eq!(coder.encode_columns(&[1, 2], 1..1, &mut none), Ok(()));
    let slot = SlotIndex::new(4);
    let outside = EncodeError::SlotRange {
        slot,
        code: coder.code(),
    };
    assert_eq!(
        coder.encode_slots(&[1, 2], &[slot], &mut parity[..1]),
        Err(outside)
    );
    let slot = SlotIndex::new(2);
    let outside = EncodeError::SlotRange {
        slot,
        code: coder.code(),
    };
    assert_eq!(coder.data_shard(&[1, 2], slot), Err(outside));
    assert_eq!(coder.encoder(&[1, 2], 0).err(), Some(EncodeError::Width));
}

#[test]
fn reconstruct_refuses_what_it_cannot_do() {
    let coder = Coder::new(code(2, 4));
    let [a, b, c] = [0, 1, 2].map(SlotIndex::new);
    let outside = SlotIndex::new(4);
    let (one, two): (&[u8], &[u8]) = (&[1], &[1, 2]);
    let mut out = [vec![7]];
    let mut refuse = |present: &[(SlotIndex, &[u8])], wanted: &[SlotIndex]| {
        let error = coder.reconstruct(present, wanted, &mut out).unwrap_err();
        assert_eq!(out[0], [7]);
        error
    };
    use ReconstructError as E;
    assert_eq!(
        refuse(&[], &[c]),
        E::TooFewShards {
            expected: 2,
            found: 0
        }
    );
    assert_eq!(
        refuse(&[(a, one)], &[c]),
        E::TooFewShards {
            expected: 2,
            found: 1
        }
    );
    assert_eq!(
        refuse(&[(a, one), (a, one)], &[c]),
        E::DuplicateSlot { slot: a }
    );
    let code = coder.code();
    let slot = outside;
    assert_eq!(
        refuse(&[(a, one), (slot, one)], &[c]),
        E::SlotRange { slot, code }
    );
    assert_eq!(
        refuse(&[(a, one), (b, one)], &[slot]),
        E::SlotRange { slot, code }
    );
    assert_eq!(
        refuse(&[(b, one), (a, two)], &[c]),
        E::ShardBytes {
            slot: a,
            expected: 1,
            found: 2
        }
    );
    assert_eq!(
        refuse(&[(a, two), (b, two)], &[c]),
        E::OutputBytes {
            slot: c,
            expected: 2,
            found: 1
        }
    );
    assert_eq!(
        refuse(&[(a, one), (b, one)], &[]),
        E::OutputCount {
            expected: 0,
            found: 1
        }
    );
}

#[test]
fn decode_and_verify_refuse_what_they_cannot_do() {
    let coder = Coder::new(code(2, 4));
    let [a, b, c] = [0, 1, 2].map(SlotIndex::new);
    let (one, two): (&[u8], &[u8]) = (&[1], &[1, 2]);
    assert_eq!(
        coder.decode(&[(a, one), (b, one)], &mut []),
        Err(DecodeError::PayloadBytes {
            expected_max: 8 << 20,
            found: 0
        })
    );
    assert_eq!(
        coder.decode(&[(a, one), (b, two)], &mut [0; 2]),
        Err(DecodeError::ShardBytes {
            slot: b,
            expected: 1,
            found: 2
        })
    );
    let too_few = |expected, found| ReconstructError::TooFewShards { expected, found };
    assert_eq!(
        coder.decode(&[(c, one)], &mut [0; 2]),
        Err(DecodeError::Reconstruct(too_few(2, 1)))
    );
    assert_eq!(
        coder.verify(&[(a, one), (b, one)]),
        Err(VerifyError::Reconstruct(too_few(3, 2)))
    );
}

#[test]
fn nothing_wanted_and_no_bytes_are_no_work() {
    let coder = Coder::new(code(2, 4));
    let none: &[u8] = &[];
    let present = [(SlotIndex::new(0), none), (SlotIndex::new(3), none)];
    coder
        .reconstruct(&present, &[SlotIndex::new(1)], &mut [vec![]])
        .unwrap();
    let nothing: &mut [Vec<u8>] = &mut [];
    coder.reconstruct(&present, &[], nothing).unwrap();
    coder.encode_slots(&[1], &[], nothing).unwrap();
}

/// A random code, payload and choice of at least k slots in random order.
fn segment() -> impl Strategy<Value = (Code, Vec<u8>, Vec<SlotIndex>)> {
    (1..60_u8, 1..60_u8)
        .prop_flat_map(|(k, parity)| {
            let code = Code::new(k, k + parity).unwrap();
            let slots: Vec<SlotIndex> = code.slots().collect();
            let kept = Just(slots).prop_shuffle();
            let payload = (any::<u64>(), 1..120_000_usize);
            (
                Just(code),
                payload,
                kept,
                code.data_count()..=code.shard_count(),
            )
        })
        .prop_map(|(code, (seed, payload_bytes), mut kept, count)| {
            kept.truncate(count);
            (code, noise(seed, payload_bytes), kept)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn encoding_is_the_librarys((code, payload, kept) in segment()) {
        let shards = library_shards(code, &payload);
        let coder = Coder::new(code);
        let mut parity = vec![vec![0; shards[0].len()]; code.parity_count()];
        coder.encode(&payload, &mut parity).unwrap();
        prop_assert_eq!(&parity[..], &shards[code.data_count()..]);
        let mut some = vec![vec![0; shards[0].len()]; kept.len()];
        coder.encode_slots(&payload, &kept, &mut some).unwrap();
        for (slot, shard) in kept.iter().zip(&some) {
            prop_assert_eq!(shard, &shards[slot.index()]);
        }
    }

    #[test]
    fn any_k_shards_give_any_shard_and_the_payload((code, payload, kept) in segment()) {
        let shards = library_shards(code, &payload);
        assert_round_trip(&Coder::new(code), &payload, &shards, &kept);
    }

    #[test]
    fn any_range_of_any_k_gives_that_range(
        (code, payload, kept) in segment(),
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let shards = library_shards(code, &payload);
        let shard_bytes = shards[0].len();
        let ends = BTreeSet::from([ends.0.index(shard_bytes), ends.1.index(shard_bytes)]);
        let columns = *ends.first().unwrap()..*ends.last().unwrap() + 1;
        let coder = Coder::new(code);
        let wanted: Vec<SlotIndex> = code.slots().collect();
        let mut ranges = vec![vec![0; columns.len()]; wanted.len()];
        coder.reconstruct(&present(&shards, &kept, &columns), &wanted, &mut ranges).unwrap();
        for (range, shard) in ranges.iter().zip(&shards) {
            prop_assert_eq!(&range[..], &shard[columns.clone()]);
        }
        let mut parity = vec![vec![0; columns.len()]; code.parity_count()];
        coder.encode_columns(&payload, columns.clone(), &mut parity).unwrap();
        for (range, shard) in parity.iter().zip(&shards[code.data_count()..]) {
            prop_assert_eq!(&range[..], &shard[columns.clone()]);
        }
    }

    #[test]
    fn the_library_decodes_our_shards((code, payload, kept) in segment()) {
        let coder = Coder::new(code);
        let shard_bytes = coder.shard_bytes(payload.len()).unwrap();
        let mut shards = vec![vec![0; shard_bytes]; code.shard_count()];
        let all: Vec<SlotIndex> = code.slots().collect();
        coder.encode_slots(&payload, &all, &mut shards).unwrap();
        let mut found: Vec<Option<Vec<u8>>> = vec![None; code.shard_count()];
        for slot in kept {
            found[slot.index()] = Some(shards[slot.index()].clone());
        }
        let library = ReedSolomon::new(code.data_count(), code.parity_count()).unwrap();
        library.reconstruct(&mut found).unwrap();
        let found: Vec<Vec<u8>> = found.into_iter().flatten().collect();
        prop_assert_eq!(found, shards);
    }

    #[test]
    fn verify_tells_a_codeword_from_one_flipped_bit(
        (code, payload, mut kept) in segment(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut shards = library_shards(code, &payload);
        let shard_bytes = shards[0].len();
        kept.sort_unstable();
        let coder = Coder::new(code);
        prop_assume!(kept.len() > code.data_count());
        prop_assert_eq!(coder.verify(&present(&shards, &kept, &(0..shard_bytes))), Ok(()));
        let flipped = kept[at.index(kept.len())];
        let column = at.index(shard_bytes);
        shards[flipped.index()][column] ^= 1 << bit;
        let slot = flipped.max(kept[code.data_count()]);
        prop_assert_eq!(
            coder.verify(&present(&shards, &kept, &(0..shard_bytes))),
            Err(VerifyError::NotCodeword { slot, column })
        );
    }
}
