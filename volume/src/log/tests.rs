//! Runs in segments: sealed, opened, in parts, in the wrong place, damaged; the end of a segment.

use std::ops::Range;

use cairn_client::cipher::Salt;
use cairn_client::key::ContentKey;
use cairn_core::{Digest, GroupId, SegmentNumber};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::key::NAME_BYTES_MAX;
use crate::run::{self, RunError};

mod damage;

const ID: SegmentId = SegmentId {
    group: 1,
    number: 3,
};
const SALT: SaltBytes = SaltBytes([5; 16]);
/// Room for all that a test seals.
const ROOM: u32 = 4 << 20;
/// Around nothing, a tag, the shortest run that is compressed, one frame, two and three; and a long run.
const SIZES: [usize; 14] = [
    1, 15, 16, 17, 63, 64, 8_191, 8_192, 8_193, 16_383, 16_384, 16_385, 24_576, 100_000,
];
const BOTH: [Compression; 2] = [Compression::Never, Compression::WherePaying];

fn keys() -> Keyring {
    Keyring::new([[7; 32]])
}

fn at() -> SegmentAt {
    SegmentAt {
        group: GroupId::new(Digest::new([9; 32])),
        number: SegmentNumber::new(3),
    }
}

fn filling(payload_bytes_max: u32) -> Filling {
    let reserved = Reserved {
        at: at(),
        payload_bytes_max,
    };
    Filling::new(reserved, ID, SALT)
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn data(offset: u64) -> RunOwner {
    RunOwner::Data {
        inode: InodeNumber::new(12),
        offset,
    }
}

fn read(payload: &Bytes, range: Range<u32>) -> Bytes {
    let index = |place: u32| usize::try_from(place).unwrap();
    payload.slice(index(range.start)..index(range.end))
}

/// As whoever cleans a segment finds out what is in it.
fn read_summary(keys: &Keyring, payload: &Bytes) -> Result<Vec<(RunOwner, RunRef)>, SummaryError> {
    let payload_bytes = u32::try_from(payload.len()).unwrap();
    let trailer = read(payload, trailer_range(payload_bytes)?);
    let summary = open_trailer(keys, at(), ID, payload_bytes, trailer)?;
    let sealed = read(payload, summary.payload_range());
    decode_summary(&run::open(keys, at(), &summary, sealed)?, &summary)
}

/// One segment with runs of all sizes, and what each has.
fn all_sizes(compression: Compression) -> (Bytes, Vec<(RunRef, Vec<u8>)>) {
    let keys = keys();
    let mut filling = filling(ROOM);
    let mut runs = Vec::new();
    for bytes in SIZES {
        for text in [noise(bytes), vec![7; bytes]] {
            let run = filling.append(&keys, data(0), &text, compression);
            runs.push((run, text));
        }
    }
    (filling.finish(&keys).payload, runs)
}

#[test]
fn a_run_opens_as_it_was() {
    let keys = keys();
    for compression in BOTH {
        let (payload, runs) = all_sizes(compression);
        for (run, text) in runs {
            let sealed = read(&payload, run.payload_range());
            let plain = run::open(&keys, at(), &run, sealed).unwrap();
            assert!(plain == text, "{run:?}");
        }
    }
}

/// Parts of a run that begin and end around the borders of its frames.
fn parts(bytes: u32) -> impl Iterator<Item = Range<u32>> {
    let cuts = [0, 1, 8_191, 8_192, 8_193, 16_384, bytes - 1, bytes];
    cuts.into_iter()
        .flat_map(move |start| cuts.into_iter().map(move |end| start..end))
        .filter(move |part| part.start < part.end && part.end <= bytes)
}

#[test]
fn any_part_of_a_run_opens() {
    let keys = keys();
    let index = |place: u32| usize::try_from(place).unwrap();
    for (payload, runs) in BOTH.map(all_sizes) {
        for (run, text) in runs {
            for part in parts(run.bytes) {
                let sealed = read(&payload, run.payload_range_of(&part));
                let plain = run::open_part(&keys, at(), &run, part.clone(), sealed);
                let expected = &text[index(part.start)..index(part.end)];
                assert!(plain.unwrap() == expected, "{part:?} of {run:?}");
            }
        }
    }
}

/// A part costs the frames that it is in and no more.
#[test]
fn a_part_of_a_run_is_read_alone() {
    let keys = keys();
    let mut filling = filling(ROOM);
    filling.append(&keys, data(0), &noise(10), Compression::Never);
    let run = filling.append(&keys, data(0), &noise(20_000), Compression::Never);
    assert_eq!(run.offset, 26);
    assert_eq!(run.payload_range(), 26..26 + 20_000 + 3 * 16);
    let cases = [
        (0..1, 26..26 + 8_208),
        (0..8_192, 26..26 + 8_208),
        (8_191..8_193, 26..26 + 2 * 8_208),
        (8_192..8_193, 26 + 8_208..26 + 2 * 8_208),
        (16_384..20_000, 26 + 2 * 8_208..26 + 20_048),
        (0..20_000, 26..26 + 20_048),
    ];
    for (part, expected) in cases {
        assert_eq!(run.payload_range_of(&part), expected, "{part:?}");
    }
    let run = filling.append(&keys, data(0), &[7; 20_000], Compression::WherePaying);
    assert_eq!(run.payload_range_of(&(9_000..9_001)), run.payload_range());
}

#[test]
fn only_what_pays_is_compressed() {
    let keys = keys();
    let mut filling = filling(ROOM);
    let mut stored = |text: &[u8], compression| {
        let run = filling.append(&keys, data(0), text, compression);
        assert_eq!(usize::try_from(run.bytes).unwrap(), text.len());
        run.stored
    };
    let paying = Compression::WherePaying;
    assert_eq!(stored(&[7; 50_000], Compression::Never), 50_000);
    assert!(stored(&[7; 50_000], paying) < 100);
    assert_eq!(stored(&noise(50_000), paying), 50_000);
    assert!(stored(&[7; 64], paying) < 60);
    assert_eq!(stored(&[7; 63], paying), 63);
    // The compressor goes on after a text that it gave up.
    let mut half = noise(20_000);
    half.resize(40_000, 7);
    let bytes = stored(&half, paying);
    assert!((20_000..20_200).contains(&bytes), "{bytes}");
    // 1,000 of 50,000 bytes are less than a sixteenth.
    let mut little = noise(49_000);
    little.resize(50_000, 7);
    assert_eq!(stored(&little, paying), 50_000);
    let max = usize::try_from(COMPRESSED_BYTES_MAX).unwrap();
    let mut filling = self::filling(6 << 20);
    let run = filling.append(&keys, data(0), &vec![7; max], paying);
    assert!(run.is_compressed());
    let run = filling.append(&keys, data(0), &vec![7; max + 1], paying);
    assert!(!run.is_compressed());
}

#[test]
fn a_run_opens_at_its_own_place_only() {
    let keys = Keyring::new([[7; 32], [8; 32]]);
    let mut filling = filling(ROOM);
    let text = noise(10_000);
    let run = filling.append(&keys, data(0), &text, Compression::Never);
    let twin = filling.append(&keys, data(0), &text, Compression::Never);
    let payload = filling.finish(&keys).payload;
    let sealed = read(&payload, run.payload_range());
    assert_ne!(sealed, read(&payload, twin.payload_range()));
    let open = |keys: &Keyring, at, run: &RunRef| run::open(keys, at, run, sealed.clone());
    assert!(open(&keys, at(), &run).unwrap() == text);
    assert_eq!(run.key, 1);

    let other = [[7; 32], [9; 32]];
    let refused = |found| matches!(found, Err(RunError::Sealed(_)));
    assert!(refused(open(&Keyring::new(other), at(), &run)), "volume");
    let elsewhere = SegmentAt {
        number: SegmentNumber::new(4),
        ..at()
    };
    assert!(refused(open(&keys, elsewhere, &run)), "segment");
    let elsewhere = SegmentAt {
        group: GroupId::new(Digest::new([8; 32])),
        ..at()
    };
    assert!(refused(open(&keys, elsewhere, &run)), "group");
    assert!(refused(open(&keys, at(), &twin)), "offset");
    let salt = SaltBytes([6; 16]);
    assert!(refused(open(&keys, at(), &RunRef { salt, ..run })), "salt");
    assert!(refused(open(&keys, at(), &RunRef { key: 0, ..run })), "key");
    let unknown = open(&keys, at(), &RunRef { key: 2, ..run });
    assert_eq!(unknown, Err(RunError::Key { number: 2 }));
    let revoked = open(&Keyring::new([[7; 32]]), at(), &run);
    assert_eq!(revoked, Err(RunError::Key { number: 1 }));
}

/// What was sealed before a key was added opens with those that came later.
#[test]
fn older_keys_open_what_they_sealed() {
    let old = keys();
    let new = Keyring::new([[7; 32], [8; 32]]);
    let mut filling = filling(ROOM);
    let before = filling.append(&old, data(0), b"before", Compression::Never);
    let after = filling.append(&new, data(6), b"after", Compression::Never);
    let payload = filling.finish(&new).payload;
    let open = |run: &RunRef| {
        let sealed = read(&payload, run.payload_range());
        run::open(&new, at(), run, sealed).unwrap()
    };
    assert_eq!((before.key, after.key), (0, 1));
    assert_eq!(open(&before), &b"before"[..]);
    assert_eq!(open(&after), &b"after"[..]);
    let runs = read_summary(&new, &payload).unwrap();
    assert_eq!(runs, [(data(0), before), (data(6), after)]);
}

#[test]
fn the_summary_has_all_runs() {
    let keys = keys();
    let mut filling = filling(ROOM);
    let longest = Key::xattr_part(InodeNumber::new(u64::MAX), &[255; NAME_BYTES_MAX], 255);
    assert_eq!(longest.as_bytes().len(), KEY_BYTES_MAX);
    let owners = [
        data(u64::MAX),
        RunOwner::Page {
            level: 0,
            first: longest,
        },
        RunOwner::Page {
            level: 255,
            first: Key::from_bytes(b""),
        },
        RunOwner::Superblock,
        data(0),
    ];
    let mut expected = Vec::new();
    for (turn, owner) in owners.into_iter().enumerate() {
        let text = vec![7; 1 + turn * 10_000];
        let run = filling.append(&keys, owner.clone(), &text, BOTH[turn % 2]);
        expected.push((owner, run));
    }
    assert_eq!(filling.id(), ID);
    let plain_bytes = filling.plain_bytes();
    assert_eq!(plain_bytes, 5 + 100_000);
    let filled = filling.finish(&keys);
    assert_eq!((filled.at, filled.id), (at(), ID));
    assert_eq!(filled.plain_bytes, plain_bytes);
    assert_eq!(read_summary(&keys, &filled.payload).unwrap(), expected);
}

#[test]
fn an_empty_segment_has_an_end_too() {
    let keys = keys();
    // A summary of one byte and its tag, and the trailer.
    let bytes_min = 1 + 16 + TRAILER_BYTES;
    let empty = filling(bytes_min);
    assert!(empty.is_empty());
    assert_eq!((empty.room(), empty.plain_bytes()), (0, 0));
    let payload = empty.finish(&keys).payload;
    assert_eq!(length(&payload), bytes_min);
    assert_eq!(read_summary(&keys, &payload), Ok(Vec::new()));
}

#[test]
#[should_panic(expected = "has room for its summary")]
fn a_segment_without_room_for_its_end_is_our_bug() {
    drop(filling(16 + TRAILER_BYTES));
}

#[test]
#[should_panic(expected = "a run of 3785 bytes where there is room for 3784")]
fn a_run_without_room_is_our_bug() {
    let mut filling = filling(4_096 + TRAILER_BYTES);
    let room = filling.room();
    // Less the tags of the run and of the summary, the summary's version and its longest entry.
    assert_eq!(room, 4_096 - 16 - 16 - 1 - 279);
    let text = noise(usize::try_from(room + 1).unwrap());
    filling.append(&keys(), data(0), &text, Compression::Never);
}

/// Very compressible runs: their plaintext is counted in 32 bits.
#[test]
fn plaintext_is_counted_without_overflow() {
    let keys = keys();
    let mut filling = filling(ROOM);
    filling.plain_bytes = u32::MAX - 10;
    assert_eq!(filling.room(), 10);
    filling.append(&keys, data(0), &[7; 10], Compression::WherePaying);
    assert_eq!((filling.room(), filling.plain_bytes()), (0, u32::MAX));
}

/// Byte for byte as docs/protocol/volume-segments.md says it, read by hand.
#[test]
fn the_bytes_are_as_documented() {
    let keys = keys();
    let mut filling = filling(ROOM);
    let text = noise(8_200);
    filling.append(&keys, data(0x0102), &text, Compression::Never);
    let payload = filling.finish(&keys).payload;
    let open = |start: usize, bytes: usize, frame: usize| {
        let place = u32::try_from(frame).unwrap();
        let material = [&[7_u8; 32][..], &[5; 16], &place.to_le_bytes()].concat();
        let key = ContentKey::from_bytes(&blake3::derive_key("cairn 1 volume run key", &material));
        let cipher = SegmentCipher::new(&key, at().group, at().number, Salt::new([5; 16]));
        let mut sealed = payload[start..start + bytes + 16].to_vec();
        let first = u64::from(place);
        cipher.open_run(first, &mut sealed).map(|opened| {
            sealed.truncate(opened);
            sealed
        })
    };
    // The run: frames 0 and 1, of 8,192 and 8 bytes.
    assert!(open(0, 8_200 + 16, 0).unwrap() == text);
    // The summary, behind it.
    let summary_at = 8_200 + 2 * 16;
    let mut summary = vec![1, 2];
    summary.extend([0x08, 0x20, 0, 0, 0x08, 0x20, 0, 0, 0, 0]);
    summary.extend([12, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(open(summary_at, 28, summary_at).unwrap(), summary);
    // The trailer: version, key number and salt are readable, the summary's length is sealed.
    let trailer_at = summary_at + 28 + 16;
    let head = [&[1_u8, 0, 0][..], &[5; 16]].concat();
    assert_eq!(&payload[trailer_at..trailer_at + 19], head);
    let frame = trailer_at + 19;
    assert_eq!(open(frame, 4, frame).unwrap(), [28, 0, 0, 0]);
    assert_eq!(payload.len(), frame + 4 + 16);
}

fn owner(kind: u8, key_bytes: usize) -> RunOwner {
    match kind {
        0 => RunOwner::Superblock,
        1 => data(key_bytes.try_into().unwrap()),
        _ => RunOwner::Page {
            level: 1,
            first: Key::from_bytes(&vec![3; key_bytes]),
        },
    }
}

proptest! {
    /// What has room fits, and the longest run that has room leaves none: at most a tag's bytes, which no
    /// run can have.
    #[test]
    fn room_is_exact(
        payload_bytes_max in 400..60_000_u32,
        runs in vec((0..3_u8, 1..20_000_u32, 0..=KEY_BYTES_MAX), 0..20),
    ) {
        let keys = keys();
        let mut filling = filling(payload_bytes_max);
        let mut expected = Vec::new();
        for (kind, bytes, key_bytes) in runs {
            let bytes = bytes.min(filling.room());
            if bytes == 0 {
                break;
            }
            let owner = owner(kind, key_bytes);
            let text = noise(usize::try_from(bytes).unwrap());
            let run = filling.append(&keys, owner.clone(), &text, Compression::Never);
            expected.push((owner, run));
        }
        let room = filling.room();
        if room > 0 {
            let owner = owner(2, KEY_BYTES_MAX);
            let text = noise(usize::try_from(room).unwrap());
            let run = filling.append(&keys, owner.clone(), &text, Compression::Never);
            expected.push((owner, run));
            prop_assert_eq!(filling.room(), 0);
        }
        let payload = filling.finish(&keys).payload;
        prop_assert!(length(&payload) <= payload_bytes_max);
        if room > 0 {
            prop_assert!(length(&payload) + 16 >= payload_bytes_max);
        }
        prop_assert_eq!(read_summary(&keys, &payload), Ok(expected));
    }

    /// The longest text within some bytes is just that.
    #[test]
    fn text_within_is_the_inverse_of_sealed(sealed in 0..100_000_u64) {
        let text = text_bytes_within(sealed);
        prop_assert!(text == 0 || sealed_bytes(text) <= sealed);
        prop_assert!(sealed_bytes(text + 1) > sealed);
    }
}
