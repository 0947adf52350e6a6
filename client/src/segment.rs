//! Segments: frames packed in order, and where a plaintext byte is in them.
//!
//! ```text
//! plaintext  |      8 KiB       |      8 KiB       | rest |
//! payload    | frame 0   | tag  | frame 1   | tag  | .. | tag |    frame i starts at i * 8,208
//! shards     | data 0        | data 1        | ... | data k-1  0 | parity 0 | ... |
//! ```
//!
//! Every frame but the last is full, so a position in the plaintext tells its frame, its place in
//! the payload and its data shard by arithmetic. A full segment at 4 x 1 MiB has 511 frames and
//! 4,186,112 bytes of plaintext. All n shards lie side by side in one buffer: encryption, encoding
//! and hashing happen in place, and puts share it.

use std::io::IoSliceMut;
use std::ops::Range;

use bytes::Bytes;
use cairn_coding::{Coder, EncodeError};
use cairn_core::{
    Bounded, Code, Digest, GroupId, SecretKey, SegmentNumber, SegmentRecord, ShardRoot, Signed,
};

use crate::cipher::{
    FRAME_BYTES_MAX, FRAME_PLAIN_BYTES_MAX, OpenError, Salt, SegmentCipher, TAG_BYTES,
};
use crate::key::ContentKey;
use crate::memory::SegmentBuffer;
use crate::width::index;

/// Full plaintext of a frame.
const FRAME_PLAIN: u32 = 8 << 10;
/// Full frame.
const FRAME: u32 = FRAME_PLAIN + TAG;
/// Tag of a frame.
const TAG: u32 = 16;

/// Frames that one read from a source fills at most: 512 KiB, which makes system calls few.
const ROOMS_MAX: usize = 64;

const _: () = assert!(FRAME_PLAIN_BYTES_MAX == 8_192 && FRAME_BYTES_MAX == 8_208);
const _: () = assert!(TAG_BYTES == 16);

/// How large the segments of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    code: Code,
    frames_max: u32,
}

/// No frame fits a segment of the code with shards of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected shards of {code} that hold a frame, found {shard_bytes_max} bytes at most")]
pub struct LayoutError {
    /// The code.
    pub code: Code,
    /// Largest shard.
    pub shard_bytes_max: u32,
}

impl Layout {
    /// Segments of as many full frames as `k` shards of `shard_bytes_max` hold, cut to what fits
    /// `buffer_bytes_max` bytes of memory for all n shards.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when that is not one frame.
    pub fn new(
        code: Code,
        shard_bytes_max: u32,
        buffer_bytes_max: usize,
    ) -> Result<Self, LayoutError> {
        let shard_fit = buffer_bytes_max / code.shard_count();
        let shard_bytes = shard_fit.min(index(shard_bytes_max));
        let frames = shard_bytes.saturating_mul(code.data_count()) / FRAME_BYTES_MAX;
        let frames_max = u32::try_from(frames).unwrap_or(0);
        if frames_max == 0 {
            return Err(LayoutError {
                code,
                shard_bytes_max,
            });
        }
        Ok(Self { code, frames_max })
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Most plaintext of a segment.
    #[must_use]
    pub const fn plain_bytes_max(&self) -> u32 {
        self.frames_max * FRAME_PLAIN
    }

    /// Shard of a full segment.
    #[must_use]
    pub fn shard_bytes(&self) -> u32 {
        self.code.shard_bytes(payload_bytes(self.plain_bytes_max()))
    }

    /// Memory of a full segment: all n shards.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        index(self.shard_bytes()) * self.code.shard_count()
    }
}

/// Payload of a segment of `plain_bytes` of plaintext: a tag for each frame on top.
#[must_use]
pub fn payload_bytes(plain_bytes: u32) -> u32 {
    plain_bytes + TAG * plain_bytes.div_ceil(FRAME_PLAIN)
}

/// Plaintext of a segment of `payload_bytes`; `None` when no plaintext has that payload.
#[must_use]
pub fn plain_bytes(payload: u32) -> Option<u32> {
    let plain = payload.checked_sub(TAG.checked_mul(payload.div_ceil(FRAME))?)?;
    (plain > 0 && payload_bytes(plain) == payload).then_some(plain)
}

/// Frames of a run of plaintext, and their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSpan {
    /// First frame.
    pub first: u32,
    /// Frames.
    pub count: u32,
    /// First byte of the payload.
    pub payload_start: u32,
    /// Byte after the last of the payload.
    pub payload_end: u32,
    /// Bytes of the first frame's plaintext that come before the run.
    pub skip: u32,
}

impl FrameSpan {
    /// The frames that hold `range` of a segment of `plain_bytes`.
    ///
    /// # Panics
    ///
    /// When the range is empty or reaches past the end: the caller cuts it.
    #[must_use]
    pub fn of(range: &Range<u32>, plain_bytes: u32) -> Self {
        assert!(
            range.start < range.end && range.end <= plain_bytes,
            "a run within the segment"
        );
        let first = range.start / FRAME_PLAIN;
        let last = (range.end - 1) / FRAME_PLAIN;
        Self {
            first,
            count: last - first + 1,
            payload_start: first * FRAME,
            payload_end: ((last + 1) * FRAME).min(payload_bytes(plain_bytes)),
            skip: range.start - first * FRAME_PLAIN,
        }
    }
}

/// A segment being filled with plaintext.
#[derive(Debug)]
pub struct SegmentFill {
    buffer: SegmentBuffer,
    plain_bytes: u32,
    plain_bytes_max: u32,
}

impl SegmentFill {
    /// An empty segment in `buffer`, which must hold a full one.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn new(buffer: SegmentBuffer, layout: &Layout) -> Self {
        assert!(buffer.len() >= layout.buffer_bytes(), "a full segment fits");
        Self {
            buffer,
            plain_bytes: 0,
            plain_bytes_max: layout.plain_bytes_max(),
        }
    }

    /// Plaintext in it.
    #[must_use]
    pub const fn plain_bytes(&self) -> u32 {
        self.plain_bytes
    }

    /// How much more plaintext fits.
    #[must_use]
    pub const fn room_bytes(&self) -> u32 {
        self.plain_bytes_max - self.plain_bytes
    }

    /// Allows at most `bytes` of plaintext in all.
    pub fn limit(&mut self, bytes: u32) {
        self.plain_bytes_max = self.plain_bytes_max.min(bytes).max(self.plain_bytes);
    }

    /// Takes the limit of [`Self::limit`] away.
    pub fn unlimit(&mut self, layout: &Layout) {
        self.plain_bytes_max = layout.plain_bytes_max();
    }

    /// Where the next plaintext goes: the rest of the current frame; empty when full.
    pub fn room(&mut self) -> &mut [u8] {
        let frame = self.plain_bytes / FRAME_PLAIN;
        let within = self.plain_bytes % FRAME_PLAIN;
        let count = (FRAME_PLAIN - within).min(self.room_bytes());
        let start = index(frame * FRAME + within);
        &mut self.buffer[start..start + index(count)]
    }

    /// Where the next plaintext goes, in order: the rest of the current frame and some frames
    /// after it, for one read that scatters; empty when full.
    pub fn rooms(&mut self) -> Vec<IoSliceMut<'_>> {
        let frame = self.plain_bytes / FRAME_PLAIN;
        let mut within = index(self.plain_bytes % FRAME_PLAIN);
        let mut left = index(self.room_bytes());
        let mut rooms = Vec::with_capacity(ROOMS_MAX);
        let frames = self.buffer[index(frame * FRAME)..].chunks_mut(FRAME_BYTES_MAX);
        for frame in frames.take(ROOMS_MAX) {
            let count = left.min(FRAME_PLAIN_BYTES_MAX - within);
            if count == 0 {
                break;
            }
            rooms.push(IoSliceMut::new(&mut frame[within..within + count]));
            left -= count;
            within = 0;
        }
        rooms
    }

    /// Says that `count` bytes of [`Self::room`] or [`Self::rooms`] hold plaintext now.
    ///
    /// # Panics
    ///
    /// When that is more than there was room.
    pub fn advance(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a segment's room is below 4 GiB");
        assert!(count <= self.room_bytes(), "within the room");
        self.plain_bytes += count;
    }

    /// Adds as much of `bytes` as fits, and returns how much that is.
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let room = self.room();
            let count = room.len().min(bytes.len() - done);
            if count == 0 {
                break;
            }
            room[..count].copy_from_slice(&bytes[done..done + count]);
            self.advance(count);
            done += count;
        }
        done
    }

    /// Encrypts every frame in place.
    pub fn seal(&mut self, cipher: &SegmentCipher) {
        let payload = index(payload_bytes(self.plain_bytes));
        let frames = self.buffer[..payload].chunks_mut(FRAME_BYTES_MAX);
        for (number, frame) in (0..).zip(frames) {
            cipher.seal(number, frame);
        }
    }

    /// Decrypts every frame in place: undoes [`Self::seal`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] when it was sealed by another cipher.
    pub fn open(&mut self, cipher: &SegmentCipher) -> Result<(), OpenError> {
        let payload = index(payload_bytes(self.plain_bytes));
        let frames = self.buffer[..payload].chunks_mut(FRAME_BYTES_MAX);
        for (number, frame) in (0..).zip(frames) {
            cipher.open(number, frame)?;
        }
        Ok(())
    }

    /// Whether the sealed segment is the one that `record` names: compares the k data shards,
    /// without encoding.
    #[must_use]
    pub fn is_of(&mut self, record: &SegmentRecord) -> bool {
        let payload = payload_bytes(self.plain_bytes);
        if record.payload_bytes != payload {
            return false;
        }
        let shard = index(record.shard_bytes());
        let data = shard * record.code.data_count();
        self.buffer[index(payload)..data].fill(0);
        let shards = self.buffer[..data].chunks_exact(shard);
        shards
            .zip(record.shard_roots.iter())
            .all(|(shard, root)| Digest::of(shard) == root.digest())
    }

    /// Encodes and hashes the sealed segment, and signs its record.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when the code does not take it: our own bug.
    ///
    /// # Panics
    ///
    /// Never: a code has no more shards than a record.
    pub fn finish(
        self,
        coder: &Coder,
        place: SegmentPlace,
        writer: &SecretKey,
    ) -> Result<SealedSegment, EncodeError> {
        encode(
            (
                self.buffer,
                payload_bytes(self.plain_bytes),
                self.plain_bytes,
            ),
            coder,
            place,
            writer,
        )
    }
}

/// Encodes and hashes a payload that somebody else sealed, in a buffer for a full segment, and signs its
/// record.
///
/// # Errors
///
/// [`EncodeError`] when the code does not take it: our own bug.
///
/// # Panics
///
/// When the payload does not fit the buffer: the caller looks.
pub(crate) fn encode_payload(
    (mut buffer, payload): (SegmentBuffer, &[u8]),
    coder: &Coder,
    place: SegmentPlace,
    writer: &SecretKey,
) -> Result<SealedSegment, EncodeError> {
    buffer[..payload.len()].copy_from_slice(payload);
    let bytes = u32::try_from(payload.len()).expect("a segment is below 4 GiB");
    encode((buffer, bytes, bytes), coder, place, writer)
}

/// Encodes and hashes the payload at the front of a buffer, of `payload` bytes with `plain` of plaintext.
fn encode(
    (mut buffer, payload, plain): (SegmentBuffer, u32, u32),
    coder: &Coder,
    place: SegmentPlace,
    writer: &SecretKey,
) -> Result<SealedSegment, EncodeError> {
    let code = coder.code();
    let shard = index(code.shard_bytes(payload));
    let data = shard * code.data_count();
    let all = shard * code.shard_count();
    buffer[index(payload)..data].fill(0);
    let (data_part, rest) = buffer.split_at_mut(data);
    let mut parity: Vec<&mut [u8]> = rest[..all - data].chunks_exact_mut(shard).collect();
    coder.encode(data_part, &mut parity)?;
    let roots: Vec<ShardRoot> = buffer[..all]
        .chunks_exact(shard)
        .map(|shard| ShardRoot::new(Digest::of(shard)))
        .collect();
    let record = SegmentRecord {
        group: place.group,
        number: place.number,
        code,
        payload_bytes: payload,
        shard_roots: Bounded::new(roots).expect("a code has at most SLOTS_MAX shards"),
    };
    let bytes = Bytes::from_owner(buffer);
    Ok(SealedSegment {
        record: Signed::sign(record, writer),
        shards: (0..code.shard_count())
            .map(|slot| bytes.slice(slot * shard..(slot + 1) * shard))
            .collect(),
        salt: place.salt,
        plain_bytes: plain,
    })
}

/// Where a segment goes and the salt it is encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPlace {
    /// The group.
    pub group: GroupId,
    /// The number in it.
    pub number: SegmentNumber,
    /// Drawn anew for every encryption.
    pub salt: Salt,
}

impl SegmentPlace {
    /// The cipher of the segment at this place.
    #[must_use]
    pub fn cipher(&self, key: &ContentKey) -> SegmentCipher {
        SegmentCipher::new(key, self.group, self.number, self.salt)
    }
}

/// A segment ready to be put: its signed record and its n shards, which share one buffer.
#[derive(Clone, Debug)]
pub struct SealedSegment {
    /// The record, signed by the writer.
    pub record: Signed<SegmentRecord>,
    /// The shards by slot.
    pub shards: Vec<Bytes>,
    /// The salt it is encrypted with.
    pub salt: Salt,
    /// Plaintext in it.
    pub plain_bytes: u32,
}

#[cfg(test)]
mod tests;
