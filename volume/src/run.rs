//! Runs: bytes that are sealed together, one run after the other, into segments.
//!
//! ```text
//! payload of a segment = run | run | ... | summary run | trailer
//! run                  = frames of up to 8,192 bytes of plaintext and a 16-byte tag
//! ```
//!
//! Every run has a key of its own ([`Keyring::run_key`]), so that files can share runs and a link can give
//! some away and no others. Frames are numbered from the run's offset in the payload on, one by one: a
//! run's frames take more bytes than there are of them, so no number comes twice in a segment.
//!
//! **Fails.** A run opens only at its own place: with another segment, offset, salt or key it is an error.
//! No reference and no bytes make it panic, or take more memory than the reference says and
//! [`COMPRESSED_BYTES_MAX`] allows.
//!
//! Bytes: `docs/protocol/volume-segments.md`.

use std::ops::Range;

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Bytes, BytesMut};
use cairn_client::cipher::{FRAME_PLAIN_BYTES_MAX, OpenError, Salt, SegmentCipher, TAG_BYTES};
use cairn_client::segment_store::SegmentAt;

use crate::key::SegmentId;
use crate::keyring::Keyring;

/// Most plaintext of a run that is compressed: what a few stored bytes can make a reader allocate. Far
/// above a run of file data and above a full page; longer runs are stored as they are.
pub const COMPRESSED_BYTES_MAX: u32 = 4 << 20;
/// Plaintext of a full frame.
const FRAME_PLAIN_BYTES: u64 = 8 << 10;
/// Bytes of a frame's tag.
const FRAME_TAG_BYTES: u64 = 16;
/// Bytes of a full frame.
const FRAME_BYTES: u64 = FRAME_PLAIN_BYTES + FRAME_TAG_BYTES;
const _: () = assert!(
    FRAME_PLAIN_BYTES_MAX == 8 << 10 && TAG_BYTES == 16,
    "the frames of runs are those of the cipher"
);

/// Where a run is and what opens it. What a page, an extent or a head refers to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct RunRef {
    /// The segment.
    pub segment: SegmentId,
    /// The segment's salt.
    pub salt: SaltBytes,
    /// Where its first frame begins in the payload.
    pub offset: u32,
    /// Bytes of plaintext, at least 1.
    pub bytes: u32,
    /// Bytes that are sealed: fewer when the plaintext was compressed, which must be read as a whole
    /// then.
    pub stored: u32,
    /// Number of the volume's key that its key is derived from.
    pub key: u16,
}

/// The 16 bytes of a [`Salt`], ordered.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct SaltBytes(pub [u8; 16]);

impl From<SaltBytes> for Salt {
    fn from(bytes: SaltBytes) -> Self {
        Self::new(bytes.0)
    }
}

/// Why a run does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// No run is like that: what refers to it was damaged or forged.
    #[error("no run at byte {offset} has {bytes} bytes of plaintext in {stored}")]
    Malformed {
        /// Where it would begin.
        offset: u32,
        /// Bytes of plaintext.
        bytes: u32,
        /// Bytes that would be sealed.
        stored: u32,
    },
    /// The run does not have these bytes.
    #[error("bytes {start} to {end} were asked for of a run of {bytes}")]
    Range {
        /// The first byte.
        start: u32,
        /// The one behind the last.
        end: u32,
        /// Bytes of the run.
        bytes: u32,
    },
    /// The reader has no key of that number: the volume's keys have changed since it got them.
    #[error("the volume's key number {number} is not known here")]
    Key {
        /// The number.
        number: u16,
    },
    /// The store gave fewer or more bytes than the run's frames take.
    #[error("expected {expected} bytes of a run's frames, found {found}")]
    Length {
        /// What the frames take.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A frame does not open.
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// What was sealed does not decompress to as many bytes as the reference says.
    #[error("a run does not decompress to {bytes} bytes")]
    Compressed {
        /// Bytes of plaintext.
        bytes: u32,
    },
}

impl RunRef {
    /// Whether its plaintext was compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.stored < self.bytes
    }

    /// Where its frames are in the payload.
    #[must_use]
    pub fn payload_range(&self) -> Range<u32> {
        self.place(0)..self.place(sealed_bytes(u64::from(self.stored)))
    }

    /// Where those frames are in the payload that are needed for a range of the plaintext: all of them when
    /// it was compressed.
    #[must_use]
    pub fn payload_range_of(&self, plain: &Range<u32>) -> Range<u32> {
        let (first, end) = self.frames_of(plain);
        self.place(first.saturating_mul(FRAME_BYTES))..self.place(sealed_bytes(end))
    }

    /// The first frame that is needed for a range of the plaintext, and where in what is sealed the text
    /// of the last one ends; never before the first.
    fn frames_of(&self, plain: &Range<u32>) -> (u64, u64) {
        let stored = u64::from(self.stored);
        if self.is_compressed() {
            return (0, stored);
        }
        let first = u64::from(plain.start).min(stored) / FRAME_PLAIN_BYTES;
        let end = u64::from(plain.end).next_multiple_of(FRAME_PLAIN_BYTES);
        (first, end.min(stored).max(first * FRAME_PLAIN_BYTES))
    }

    /// So many bytes behind its beginning.
    fn place(&self, bytes: u64) -> u32 {
        u32::try_from(u64::from(self.offset).saturating_add(bytes)).unwrap_or(u32::MAX)
    }

    /// That there can be such a run.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        let end = u64::from(self.offset).saturating_add(sealed_bytes(u64::from(self.stored)));
        let is_in_payload = self.stored > 0 && end <= u64::from(u32::MAX);
        let is_bounded = !self.is_compressed() || self.bytes <= COMPRESSED_BYTES_MAX;
        if is_in_payload && self.stored <= self.bytes && is_bounded {
            return Ok(());
        }
        Err(RunError::Malformed {
            offset: self.offset,
            bytes: self.bytes,
            stored: self.stored,
        })
    }
}

/// Opens a run. `payload` is what the segment has at [`RunRef::payload_range`]; when nobody else refers to
/// it, it is decrypted where it is.
///
/// # Errors
///
/// [`RunError`].
pub fn open(
    keys: &Keyring,
    at: SegmentAt,
    run: &RunRef,
    payload: Bytes,
) -> Result<Bytes, RunError> {
    open_part(keys, at, run, 0..run.bytes, payload)
}

/// Opens a range of a run's plaintext, at least a byte. `payload` is what the segment has at
/// [`RunRef::payload_range_of`] that range.
///
/// # Errors
///
/// [`RunError`].
pub fn open_part(
    keys: &Keyring,
    at: SegmentAt,
    run: &RunRef,
    plain: Range<u32>,
    payload: Bytes,
) -> Result<Bytes, RunError> {
    run.check()?;
    if plain.start >= plain.end || plain.end > run.bytes {
        return Err(RunError::Range {
            start: plain.start,
            end: plain.end,
            bytes: run.bytes,
        });
    }
    let (first, end) = run.frames_of(&plain);
    let base = first * FRAME_PLAIN_BYTES;
    let expected = width(sealed_bytes(end - base));
    if payload.len() != expected {
        return Err(RunError::Length {
            expected,
            found: payload.len(),
        });
    }
    let key = keys.run_key(run).ok_or(RunError::Key { number: run.key })?;
    let cipher = SegmentCipher::new(&key, at.group, at.number, run.salt.into());
    let mut text = BytesMut::from(payload);
    let opened = cipher.open_run(u64::from(run.offset) + first, &mut text)?;
    text.truncate(opened);
    let text = if run.is_compressed() {
        decompress(&text, run.bytes)?
    } else {
        text.freeze()
    };
    // As long as the run, or as the frames that the range was rounded to.
    let skip = width(u64::from(plain.start) - base);
    let bytes = width(u64::from(plain.end - plain.start));
    Ok(text.slice(skip..skip + bytes))
}

/// Decompresses to exactly so many bytes; what the stream says of its length is not believed.
fn decompress(text: &[u8], bytes: u32) -> Result<Bytes, RunError> {
    let mut plain = vec![0; width(u64::from(bytes))];
    match zstd::bulk::decompress_to_buffer(text, plain.as_mut_slice()) {
        Ok(written) if written == plain.len() => Ok(plain.into()),
        Ok(_) | Err(_) => Err(RunError::Compressed { bytes }),
    }
}

/// What the frames of so many bytes of text take.
pub(crate) const fn sealed_bytes(text: u64) -> u64 {
    let frames = text.div_ceil(FRAME_PLAIN_BYTES);
    text.saturating_add(frames.saturating_mul(FRAME_TAG_BYTES))
}

/// How much text has frames that take no more than so many bytes.
pub(crate) const fn text_bytes_within(sealed: u64) -> u64 {
    let full = sealed / FRAME_BYTES;
    let rest = (sealed % FRAME_BYTES).saturating_sub(FRAME_TAG_BYTES);
    full * FRAME_PLAIN_BYTES + rest
}

/// A length in memory.
fn width(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
