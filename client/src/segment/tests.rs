//! Sizes, places and laws of segments.

use std::io::Read;

use cairn_core::{ByteCount, Profile};
use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::memory::Memory;

fn layout(shard_bytes_max: u32) -> Layout {
    Layout::new(Profile::Dev8.code(), shard_bytes_max, usize::MAX).unwrap()
}

fn place(number: u32, salt: u8) -> SegmentPlace {
    SegmentPlace {
        group: GroupId::new(Digest::new([1; 32])),
        number: SegmentNumber::new(number),
        salt: Salt::new([salt; 16]),
    }
}

fn filled(layout: &Layout, text: &[u8]) -> (Memory, SegmentFill) {
    let memory = Memory::new(ByteCount::new(64 << 20));
    let buffer = memory
        .buffer(layout.buffer_bytes())
        .now_or_never()
        .unwrap()
        .unwrap();
    let mut fill = SegmentFill::new(buffer, layout);
    assert_eq!(fill.extend(text), text.len());
    (memory, fill)
}

fn key() -> (ContentKey, SecretKey) {
    (
        ContentKey::from_bytes(&[3; 32]),
        SecretKey::from_bytes(&[4; 32]),
    )
}

#[test]
fn a_full_segment_at_4_mib_has_511_frames() {
    let layout = layout(1 << 20);
    assert_eq!(layout.plain_bytes_max(), 511 * 8_192);
    assert_eq!(payload_bytes(layout.plain_bytes_max()), 511 * 8_208);
    assert!(layout.buffer_bytes() <= 8 << 20);
}

#[test]
fn memory_bounds_the_layout_of_wide_codes() {
    let code = Profile::Wide.code();
    let layout = Layout::new(code, 4 << 20, 40 << 20).unwrap();
    assert!(layout.buffer_bytes() <= 40 << 20);
    assert!(layout.plain_bytes_max() > 19 << 20);
    assert!(Layout::new(code, 4 << 20, 1_000).is_err());
}

#[test]
fn sizes_convert_both_ways_at_the_edges() {
    for plain in [1, 2, 8_191, 8_192, 8_193, 16_384, 511 * 8_192, 80 << 20] {
        assert_eq!(plain_bytes(payload_bytes(plain)), Some(plain));
    }
    for impossible in [0, 1, 16, 8_209, 8_208 + 16] {
        assert_eq!(plain_bytes(impossible), None, "{impossible}");
    }
}

#[test]
fn spans_are_what_the_picture_says() {
    let plain = 3 * 8_192 + 10;
    let whole = FrameSpan::of(&(0..plain), plain);
    assert_eq!((whole.first, whole.count, whole.skip), (0, 4, 0));
    assert_eq!(whole.payload_end, payload_bytes(plain));
    let middle = FrameSpan::of(&(8_191..8_193), plain);
    assert_eq!((middle.first, middle.count, middle.skip), (0, 2, 8_191));
    assert_eq!((middle.payload_start, middle.payload_end), (0, 2 * 8_208));
    let tail = FrameSpan::of(&(plain - 1..plain), plain);
    assert_eq!((tail.first, tail.count, tail.skip), (3, 1, 9));
    assert_eq!(tail.payload_end - tail.payload_start, 26);
}

#[test]
fn a_changed_segment_is_recognised_and_opens_again() {
    let layout = layout(1 << 17);
    let (key, writer) = key();
    let text: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (_memory, mut fill) = filled(&layout, &text);
    fill.seal(&place(3, 1).cipher(&key));
    let coder = Coder::new(layout.code());
    let sealed = fill.finish(&coder, place(3, 1), &writer).unwrap();
    let record = sealed.record.verify_by(writer.public()).unwrap();

    let (_memory, mut same) = filled(&layout, &text);
    same.seal(&place(3, 1).cipher(&key));
    assert!(same.is_of(record));

    let mut changed = text.clone();
    changed[70_000] ^= 1;
    let (_memory, mut other) = filled(&layout, &changed);
    other.seal(&place(3, 1).cipher(&key));
    assert!(!other.is_of(record));
    other.open(&place(3, 1).cipher(&key)).unwrap();
    let frames = other.buffer.chunks(FRAME_BYTES_MAX);
    for (frame, text) in frames.zip(changed.chunks(FRAME_PLAIN_BYTES_MAX)) {
        assert_eq!(&frame[..text.len()], text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any k shards give back the plaintext, whatever its size.
    #[test]
    fn any_k_shards_give_the_plaintext(
        bytes in 1_usize..400_000,
        lost in proptest::sample::subsequence((0..8_usize).collect::<Vec<_>>(), 4),
        seed: u8,
    ) {
        let layout = layout(1 << 17);
        let (key, writer) = key();
        let text: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect();
        let (memory, mut fill) = filled(&layout, &text);
        fill.seal(&place(9, seed).cipher(&key));
        let coder = Coder::new(layout.code());
        let sealed = fill.finish(&coder, place(9, seed), &writer).unwrap();
        let record = sealed.record.verify_by(writer.public()).unwrap();
        prop_assert_eq!(plain_bytes(record.payload_bytes), Some(sealed.plain_bytes));
        for (shard, root) in sealed.shards.iter().zip(record.shard_roots.iter()) {
            prop_assert_eq!(Digest::of(shard), root.digest());
        }
        let present: Vec<_> = record.code.slots()
            .filter(|slot| !lost.contains(&slot.index()))
            .map(|slot| (slot, &sealed.shards[slot.index()][..]))
            .collect();
        let mut payload = vec![0; index(record.payload_bytes)];
        coder.decode(&present, &mut payload).unwrap();
        let cipher = place(9, seed).cipher(&key);
        let plain_bytes = cipher.open_run(0, &mut payload).unwrap();
        prop_assert_eq!(&payload[..plain_bytes], &text[..]);
        drop(sealed);
        prop_assert_eq!(memory.bytes_used(), 0);
    }
}

/// A read that scatters fills frames in order, as many as it is given room for.
#[test]
fn rooms_are_the_rest_of_this_frame_and_those_after_it() {
    let layout = layout(1 << 20);
    let text: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (_memory, mut fill) = filled(&layout, &text[..100]);
    let mut rest = &text[100..];
    while !rest.is_empty() {
        let mut reader = &rest[..rest.len().min(777_777)];
        let count = reader.read_vectored(&mut fill.rooms()).unwrap();
        assert!(count > 0);
        fill.advance(count);
        rest = &rest[count..];
    }
    let frames = fill.buffer.chunks(FRAME_BYTES_MAX);
    for (frame, text) in frames.zip(text.chunks(FRAME_PLAIN_BYTES_MAX)) {
        assert_eq!(&frame[..text.len()], text);
    }
    fill.limit(fill.plain_bytes() + 5);
    let rooms: usize = fill.rooms().iter().map(|room| room.len()).sum();
    assert_eq!(rooms, 5);
    fill.advance(5);
    assert!(fill.rooms().is_empty());
}
