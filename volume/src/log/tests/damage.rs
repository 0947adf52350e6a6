//! What nodes damage and writers forge is refused, and never a panic.

use super::*;

/// A segment with three runs, one of them compressed, and what they have.
fn three() -> (Bytes, Vec<(RunOwner, RunRef)>, Vec<Vec<u8>>) {
    let keys = keys();
    let mut filling = filling(ROOM);
    let texts = vec![noise(9_000), vec![7; 20_000], b"superblock".to_vec()];
    let owners = [owner(1, 0), owner(2, 20), owner(0, 0)];
    let runs = owners
        .into_iter()
        .zip(&texts)
        .map(|(owner, text)| {
            let run = filling.append(&keys, owner.clone(), text, Compression::WherePaying);
            (owner, run)
        })
        .collect();
    (filling.finish(&keys).payload, runs, texts)
}

proptest! {
    /// A changed bit is found by whoever reads its frame, and disturbs no other.
    #[test]
    fn a_flipped_bit_is_found(place: usize, bit in 0..8_u32) {
        let keys = keys();
        let (payload, runs, texts) = three();
        let mut damaged = payload.to_vec();
        let place = place % damaged.len();
        damaged[place] ^= 1 << bit;
        let damaged = Bytes::from(damaged);
        for ((_, run), text) in runs.iter().zip(&texts) {
            let range = run.payload_range();
            let opened = run::open(&keys, at(), run, read(&damaged, range.clone()));
            if range.contains(&u32::try_from(place).unwrap()) {
                prop_assert!(matches!(opened, Err(RunError::Sealed(_))));
            } else {
                prop_assert!(opened.unwrap() == *text);
            }
        }
        let (_, last) = runs.last().unwrap();
        let end = usize::try_from(last.payload_range().end).unwrap();
        let summary = read_summary(&keys, &damaged);
        if place < end {
            prop_assert_eq!(summary, Ok(runs));
        } else {
            prop_assert!(summary.is_err());
        }
    }

    /// A payload that was cut has no end.
    #[test]
    fn a_cut_payload_is_found(cut: usize) {
        let (payload, ..) = three();
        let cut = cut % payload.len();
        prop_assert!(read_summary(&keys(), &payload.slice(..cut)).is_err());
    }

    /// References from elsewhere never panic, whatever the store gives for them.
    #[test]
    fn any_reference_may_be_of_no_run(
        offset: u32,
        bytes in prop_oneof![0..40_000_u32, any::<u32>()],
        stored in prop_oneof![0..40_000_u32, any::<u32>()],
        key in 0..3_u16,
        part: (u32, u32),
        given in 0..40_000_usize,
    ) {
        let run = RunRef { segment: ID, salt: SALT, offset, bytes, stored, key };
        let plain = part.0..part.1;
        for range in [run.payload_range(), run.payload_range_of(&plain)] {
            prop_assert!(range.start >= offset && range.start <= range.end);
        }
        let open_part = |plain: Range<u32>, given: usize| {
            run::open_part(&keys(), at(), &run, plain, vec![0_u8; given].into())
        };
        prop_assert!(open_part(plain, given).is_err());
        let range = run.payload_range();
        let fitting = usize::try_from(range.end - range.start).unwrap();
        if fitting < 100_000 {
            prop_assert!(open_part(0..bytes, fitting).is_err());
        }
    }

    /// Summaries that a writer forged never panic.
    #[test]
    fn any_bytes_may_be_no_summary(
        plain in vec(any::<u8>(), 0..200),
        offset in prop_oneof![Just(0_u32), any::<u32>()],
    ) {
        let (_, runs, _) = three();
        let summary = RunRef { offset, ..runs[0].1 };
        let _any = decode_summary(&plain, &summary);
        let with_version = [&[1_u8][..], &plain].concat();
        let decoded = decode_summary(&with_version, &summary);
        if offset > 0 && plain.is_empty() {
            prop_assert!(decoded.is_err());
        }
    }
}

#[test]
fn the_store_may_give_too_much_or_too_little() {
    let keys = keys();
    let (payload, runs, _) = three();
    let (_, run) = runs[0];
    let Range { start, end } = run.payload_range();
    for found in [0, end - start - 1, end - start + 1] {
        let sealed = read(&payload, start..start + found);
        let error = run::open(&keys, at(), &run, sealed).unwrap_err();
        let expected = RunError::Length {
            expected: 9_032,
            found: usize::try_from(found).unwrap(),
        };
        assert_eq!(error, expected);
    }
    let payload_bytes = length(&payload);
    let trailer = payload.slice(payload.len() - 38..);
    let error = open_trailer(&keys, at(), ID, payload_bytes, trailer).unwrap_err();
    let expected = SummaryError::Length {
        expected: TRAILER_BYTES,
        found: 38,
    };
    assert_eq!(error, expected);
    let none = trailer_range(TRAILER_BYTES - 1);
    let short = SummaryError::Short { payload_bytes: 38 };
    assert_eq!(none, Err(short));
}

#[test]
fn parts_beyond_a_run_are_refused() {
    let (payload, runs, _) = three();
    let (_, run) = runs[0];
    let sealed = read(&payload, run.payload_range());
    for (start, end) in [(0, 9_001), (9_000, 9_000), (5, 4), (9_001, 9_002)] {
        let error = run::open_part(&keys(), at(), &run, start..end, sealed.clone()).unwrap_err();
        let expected = RunError::Range {
            start,
            end,
            bytes: 9_000,
        };
        assert_eq!(error, expected);
    }
}

/// Whoever has the keys writes what he likes: a reader allocates what the reference says, up to a bound,
/// and gets just that or nothing.
#[test]
fn what_does_not_decompress_is_refused() {
    let keys = keys();
    let (payload, runs, _) = three();
    let open = |run: RunRef| {
        let sealed = read(&payload, run.payload_range());
        run::open(&keys, at(), &run, sealed).map(|plain| plain.len())
    };
    // What was never compressed.
    let (_, raw) = runs[0];
    let bytes = 9_001;
    let error = Err(RunError::Compressed { bytes });
    assert_eq!(open(RunRef { bytes, ..raw }), error);
    // Other lengths than that of what was compressed.
    let (_, packed) = runs[1];
    assert!(packed.is_compressed());
    assert_eq!(open(packed), Ok(20_000));
    for bytes in [19_999, 20_001, COMPRESSED_BYTES_MAX] {
        let error = Err(RunError::Compressed { bytes });
        assert_eq!(open(RunRef { bytes, ..packed }), error);
    }
    for bytes in [COMPRESSED_BYTES_MAX + 1, u32::MAX] {
        let error = open(RunRef { bytes, ..packed }).unwrap_err();
        assert!(matches!(error, RunError::Malformed { .. }), "{error}");
    }
}

#[test]
fn references_that_no_run_can_have_are_refused() {
    let (_, runs, _) = three();
    let (_, run) = runs[0];
    let malformed = [
        RunRef { bytes: 0, ..run },
        RunRef { stored: 0, ..run },
        RunRef {
            stored: run.bytes + 1,
            ..run
        },
        RunRef {
            offset: u32::MAX - 9_031,
            ..run
        },
    ];
    for run in malformed {
        let given = Bytes::from(noise(9_000));
        let error = run::open_part(&keys(), at(), &run, 0..1, given).unwrap_err();
        assert!(matches!(error, RunError::Malformed { .. }), "{error}");
    }
    let last = RunRef {
        offset: u32::MAX - 9_032,
        ..run
    };
    assert_eq!(last.check(), Ok(()));
    assert_eq!(last.payload_range().end, u32::MAX);
}

#[test]
fn what_a_summary_may_not_say_is_refused() {
    let (_, runs, _) = three();
    let (_, run) = runs[0];
    // One run of 9,000 bytes, and the summary behind it.
    let summary = RunRef {
        offset: 9_032,
        ..run
    };
    let good = {
        let mut text = summary::begin();
        summary::push(&mut text, &owner(2, 20), &run);
        text
    };
    assert_eq!(
        decode_summary(&good, &summary),
        Ok(vec![(owner(2, 20), run)])
    );
    let changed = |place: usize, value: u8| {
        let mut text = good.clone();
        text[place] = value;
        decode_summary(&text, &summary)
    };
    let version = SummaryError::Version {
        expected: 1,
        found: 2,
    };
    assert_eq!(changed(0, 2), Err(version));
    let entry = SummaryError::Entry { number: 0 };
    assert_eq!(changed(1, 0), Err(entry), "kind");
    assert_eq!(changed(1, 4), Err(entry), "kind");
    assert_eq!(changed(9, 1), Err(entry), "more stored than there is");
    assert_eq!(changed(14, 2), Err(entry), "a key beyond the longest");
    let gap = SummaryError::Gap {
        expected: 9_033,
        found: 9_032,
    };
    let shifted = RunRef {
        offset: 9_033,
        ..run
    };
    assert_eq!(decode_summary(&good, &shifted), Err(gap));
    for cut in 0..good.len() {
        assert!(decode_summary(&good[..cut], &summary).is_err(), "{cut}");
    }
    let longer = [&good[..], &[3]].concat();
    let entry = SummaryError::Entry { number: 1 };
    assert_eq!(decode_summary(&longer, &summary), Err(entry));
}
