//! The frame cipher: XChaCha20-Poly1305 over frames of up to 8 KiB of plaintext, in place.
//!
//! ```text
//! frame  = ciphertext (as long as the plaintext, 1 to 8,192 bytes) | tag (16 bytes)
//! nonce  = segment salt (16 random bytes) | frame number in the segment (u64 LE)
//! AAD    = suite (u8) | group (32 bytes) | segment number (u32 LE) | frame number (u64 LE)
//! ```
//!
//! The first 16 bytes of an `XChaCha20` nonce go through `HChaCha20` together with the key; the salt is
//! exactly those, so one subkey serves a whole segment, and the frames run at the speed of ring's
//! ChaCha20-Poly1305. Byte for byte the same as the `chacha20poly1305` crate, which is the oracle.
//!
//! A salt is drawn anew for every encryption of a segment, so that no two different plaintexts
//! ever meet the same keystream. A frame opens only at its own place: another suite, group,
//! segment or frame number fails the tag.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{GroupId, SegmentNumber};
use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::key::ContentKey;

/// Most plaintext of a frame: the unit of a decrypted read. A range that begins anywhere touches
/// one frame more than it fills, so 64 KiB cost at most 9 frames and two blocks of rounding: 1.16
/// times 64 KiB. With 16 KiB it would be 1.29, and DESIGN.md allows 1.2; with 4 KiB 1.10, at twice
/// the tags and calls of the cipher.
pub const FRAME_PLAIN_BYTES_MAX: usize = 8 << 10;
/// Bytes of a frame's authentication tag.
pub const TAG_BYTES: usize = 16;
/// Most bytes of a frame.
pub const FRAME_BYTES_MAX: usize = FRAME_PLAIN_BYTES_MAX + TAG_BYTES;
/// Bytes of the additional data that binds a frame to its place.
const AAD_BYTES: usize = 1 + 32 + 4 + 8;

/// Which cipher; a number in every format that holds ciphertext. Numbers 2 and 3 are kept for
/// AES-256-GCM and SM4-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Suite {
    /// XChaCha20-Poly1305.
    XChaCha20Poly1305 = 1,
}

impl Suite {
    /// The number in formats.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::XChaCha20Poly1305 => 1,
        }
    }
}

/// A segment's salt: 16 random bytes, drawn for every encryption. Not secret, but told to readers
/// only with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct Salt([u8; 16]);

impl Salt {
    /// From its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A frame does not open: it was changed, belongs elsewhere, or the key is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} of segment {segment} in group {group} does not open under this key")]
pub struct OpenError {
    /// The group.
    pub group: GroupId,
    /// The segment.
    pub segment: SegmentNumber,
    /// The frame's number in the segment.
    pub frame: u64,
}

/// The cipher of one segment.
pub struct SegmentCipher {
    key: LessSafeKey,
    suite: Suite,
    group: GroupId,
    segment: SegmentNumber,
}

impl SegmentCipher {
    /// The cipher of the segment with that number in that group.
    ///
    /// # Panics
    ///
    /// Never: ring takes any 32-byte key.
    #[must_use]
    pub fn new(key: &ContentKey, group: GroupId, segment: SegmentNumber, salt: Salt) -> Self {
        let mut subkey = hchacha::<R20>(key.as_bytes().into(), salt.as_bytes().into());
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, subkey.as_slice())
            .expect("the key of ChaCha20 has 32 bytes");
        subkey.as_mut_slice().zeroize();
        Self {
            key: LessSafeKey::new(unbound),
            suite: Suite::XChaCha20Poly1305,
            group,
            segment,
        }
    }

    /// Encrypts a frame in place. `buffer` is the plaintext and 16 bytes of room after it for the
    /// tag.
    ///
    /// # Panics
    ///
    /// When `buffer` is not 17 to [`FRAME_BYTES_MAX`] bytes: our own bug.
    pub fn seal(&self, frame: u64, buffer: &mut [u8]) {
        assert!(
            (TAG_BYTES + 1..=FRAME_BYTES_MAX).contains(&buffer.len()),
            "a frame holds 1 to 8,192 bytes and its tag"
        );
        let (text, room) = buffer.split_at_mut(buffer.len() - TAG_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(frame), self.aad(frame), text)
            .expect("a frame is far below the cipher's limit");
        room.copy_from_slice(tag.as_ref());
    }

    /// Verifies and decrypts a frame in place and returns its plaintext.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; what `buffer` then holds is not plaintext.
    pub fn open<'a>(&self, frame: u64, buffer: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        self.open_at(frame, buffer, 0)
    }

    /// Verifies and decrypts a run of frames in place, the first with number `first`; all but the
    /// last are full. Their plaintext comes to lie at the front of `run` without a gap; returns
    /// its length.
    ///
    /// # Errors
    ///
    /// [`OpenError`] of the first frame that does not open; what `run` holds is to be dropped then.
    pub fn open_run(&self, first: u64, run: &mut [u8]) -> Result<usize, OpenError> {
        let (mut frame, mut start, mut plain_end) = (first, 0, 0);
        while start < run.len() {
            let end = run.len().min(start + FRAME_BYTES_MAX);
            let room = &mut run[plain_end..end];
            plain_end += self.open_at(frame, room, start - plain_end)?.len();
            start = end;
            frame += 1;
        }
        Ok(plain_end)
    }

    /// Verifies and decrypts the frame that lies in `buffer` from `start` on; its plaintext comes
    /// to lie at the front.
    fn open_at<'a>(
        &self,
        frame: u64,
        buffer: &'a mut [u8],
        start: usize,
    ) -> Result<&'a mut [u8], OpenError> {
        let error = OpenError {
            group: self.group,
            segment: self.segment,
            frame,
        };
        let frame_bytes = buffer.len().saturating_sub(start);
        if !(TAG_BYTES + 1..=FRAME_BYTES_MAX).contains(&frame_bytes) {
            return Err(error);
        }
        self.key
            .open_within(nonce(frame), self.aad(frame), buffer, start..)
            .map_err(|_| error)
    }

    fn aad(&self, frame: u64) -> Aad<[u8; AAD_BYTES]> {
        let mut aad = [0; AAD_BYTES];
        aad[0] = self.suite.number();
        aad[1..33].copy_from_slice(self.group.as_bytes());
        aad[33..37].copy_from_slice(&self.segment.get().to_le_bytes());
        aad[37..].copy_from_slice(&frame.to_le_bytes());
        Aad::from(aad)
    }
}

impl std::fmt::Debug for SegmentCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentCipher")
            .field("group", &self.group)
            .field("segment", &self.segment)
            .finish_non_exhaustive()
    }
}

/// The last 12 bytes of what `XChaCha20` makes of its nonce: four zeros and the frame number.
fn nonce(frame: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&frame.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use cairn_core::Digest;
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
    use proptest::prelude::*;

    use super::*;

    fn group(byte: u8) -> GroupId {
        GroupId::new(Digest::new([byte; 32]))
    }

    proptest! {
        /// The fast cipher is the named one, byte for byte.
        #[test]
        fn equals_the_oracle(
            key: [u8; 32],
            salt: [u8; 16],
            segment: u32,
            frame: u64,
            text in proptest::collection::vec(any::<u8>(), 1..2_000),
        ) {
            let cipher = SegmentCipher::new(
                &ContentKey::from_bytes(&key), group(9), SegmentNumber::new(segment), Salt::new(salt),
            );
            let mut buffer = text.clone();
            buffer.extend_from_slice(&[0; TAG_BYTES]);
            cipher.seal(frame, &mut buffer);

            let mut nonce = [0; 24];
            nonce[..16].copy_from_slice(&salt);
            nonce[16..].copy_from_slice(&frame.to_le_bytes());
            let mut aad = vec![1];
            aad.extend_from_slice(&[9; 32]);
            aad.extend_from_slice(&segment.to_le_bytes());
            aad.extend_from_slice(&frame.to_le_bytes());
            let oracle = XChaCha20Poly1305::new(&Key::from(key));
            let sealed = oracle
                .encrypt(&XNonce::from(nonce), Payload { msg: &text, aad: &aad })
                .unwrap();
            prop_assert_eq!(&buffer, &sealed);
            prop_assert_eq!(cipher.open(frame, &mut buffer).unwrap(), &text[..]);
        }
    }

    /// Opened as a run, frames give the same plaintext as one by one, without gaps.
    #[test]
    fn a_run_opens_to_its_front() {
        let key = ContentKey::from_bytes(&[1; 32]);
        let cipher = SegmentCipher::new(&key, group(1), SegmentNumber::new(5), Salt::new([2; 16]));
        for bytes in [1, 100, 8_192, 8_193, 3 * 8_192, 700_000] {
            let text: Vec<u8> = (0..bytes)
                .map(|at| u8::try_from(at % 253).unwrap())
                .collect();
            let mut run = Vec::new();
            for (frame, part) in (7..).zip(text.chunks(FRAME_PLAIN_BYTES_MAX)) {
                let mut sealed = part.to_vec();
                sealed.extend_from_slice(&[0; TAG_BYTES]);
                cipher.seal(frame, &mut sealed);
                run.extend_from_slice(&sealed);
            }
            let sealed = run.clone();
            assert_eq!(cipher.open_run(7, &mut run), Ok(text.len()));
            assert!(run[..text.len()] == text, "{bytes}");
            let last = sealed.len() - 1;
            let mut flipped = sealed.clone();
            flipped[last] ^= 1;
            let frame = u64::try_from((bytes - 1) / FRAME_PLAIN_BYTES_MAX).unwrap() + 7;
            assert_eq!(cipher.open_run(7, &mut flipped).unwrap_err().frame, frame);
            assert!(cipher.open_run(8, &mut sealed.clone()).is_err());
            assert!(cipher.open_run(7, &mut sealed.clone()[..last]).is_err());
        }
        assert_eq!(cipher.open_run(7, &mut []), Ok(0));
    }

    #[test]
    fn a_frame_opens_only_at_its_place() {
        let key = ContentKey::from_bytes(&[1; 32]);
        let number = SegmentNumber::new(5);
        let salt = Salt::new([2; 16]);
        let mut sealed = vec![3; FRAME_BYTES_MAX];
        SegmentCipher::new(&key, group(1), number, salt).seal(7, &mut sealed);
        let other_key = ContentKey::from_bytes(&[4; 32]);
        let wrong = [
            (SegmentCipher::new(&key, group(2), number, salt), 7),
            (
                SegmentCipher::new(&key, group(1), SegmentNumber::new(6), salt),
                7,
            ),
            (
                SegmentCipher::new(&key, group(1), number, Salt::new([3; 16])),
                7,
            ),
            (SegmentCipher::new(&other_key, group(1), number, salt), 7),
            (SegmentCipher::new(&key, group(1), number, salt), 8),
        ];
        for (cipher, frame) in wrong {
            let error = cipher.open(frame, &mut sealed.clone()).unwrap_err();
            assert_eq!(error.frame, frame);
        }
        let cipher = SegmentCipher::new(&key, group(1), number, salt);
        for at in [0, 1_000, FRAME_BYTES_MAX - 1] {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(cipher.open(7, &mut flipped).is_err());
        }
        for length in [0, TAG_BYTES, FRAME_BYTES_MAX - 1] {
            assert!(cipher.open(7, &mut sealed.clone()[..length]).is_err());
        }
        assert!(cipher.open(7, &mut sealed).is_ok());
    }
}
