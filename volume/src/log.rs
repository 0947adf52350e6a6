//! Segments being filled: runs one after the other, and at the end what runs there are.
//!
//! ```text
//! payload = run | run | ... | summary run | trailer
//! run     = [compress] -> frames of 8,192 bytes, sealed where they lie in the payload
//! summary = of each run: what owns it, bytes of plaintext, bytes that are sealed
//! ```
//!
//! Whoever reads the volume goes by references; the summary is for whoever cleans segments and has only
//! their names. A segment is in one piece of memory that it never outgrows: [`Filling::room`] counts the
//! summary and the trailer before they are there.
//!
//! Bytes: `docs/protocol/volume-segments.md`.

use std::fmt;

use bytes::Bytes;
use cairn_client::cipher::{FRAME_PLAIN_BYTES_MAX, SegmentCipher, TAG_BYTES};
use cairn_client::segment_store::{Reserved, SegmentAt};
use zstd::bulk::Compressor;

use crate::key::{InodeNumber, KEY_BYTES_MAX, Key, SegmentId};
use crate::keyring::Keyring;
use crate::run::{COMPRESSED_BYTES_MAX, RunRef, SaltBytes, sealed_bytes, text_bytes_within};

mod summary;
#[cfg(test)]
mod tests;

pub use summary::{SummaryError, TRAILER_BYTES, decode_summary, open_trailer, trailer_range};

/// How hard runs are compressed: zstd's own default. Higher levels cost several times the rest of what is
/// done with a byte.
const COMPRESSION_LEVEL: i32 = 3;
/// Compressing pays when it saves one byte of so many: less is not worth that a part of the run can't be
/// read alone.
const SAVED_PART_MIN: usize = 16;
/// Shorter runs are not compressed: the compressed form's own header takes what might be saved.
const COMPRESS_BYTES_MIN: usize = 64;

/// Whether runs are compressed before they are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Never: the stored size says nothing of the content, and any part of a run can be read alone.
    Never,
    /// Where it saves a sixteenth or more.
    WherePaying,
}

/// What a run belongs to: where the reference to it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOwner {
    /// A page of the tree.
    Page {
        /// How far it is from the leaves, which have 0.
        level: u8,
        /// Its first key.
        first: Key,
    },
    /// Data of a file, as it was written: later changes may have left less of it, and other files may
    /// share it.
    Data {
        /// The file.
        inode: InodeNumber,
        /// Where in it the run began.
        offset: u64,
    },
    /// A head's superblock.
    Superblock,
}

/// A segment that is being filled.
pub struct Filling {
    reserved: Reserved,
    id: SegmentId,
    salt: SaltBytes,
    /// The frames so far.
    payload: Vec<u8>,
    /// What the summary says so far.
    summary: Vec<u8>,
    /// Plaintext of the runs so far.
    plain_bytes: u32,
    packer: Packer,
}

/// A segment that is full, or as full as it gets.
#[derive(Clone, Debug)]
pub struct Filled {
    /// Its name.
    pub at: SegmentAt,
    /// How references name it.
    pub id: SegmentId,
    /// What to put under that name.
    pub payload: Bytes,
    /// Bytes of plaintext of its runs, the summary aside.
    pub plain_bytes: u32,
}

impl Filling {
    /// An empty segment. `salt` is 16 random bytes that were drawn for it alone.
    ///
    /// # Panics
    ///
    /// When the payload may not even have the end of an empty segment: our own bug.
    #[must_use]
    pub fn new(reserved: Reserved, id: SegmentId, salt: SaltBytes) -> Self {
        let summary = summary::begin();
        let max = u64::from(reserved.payload_bytes_max);
        assert!(
            end_bytes(summary.len()) <= max,
            "a segment has room for its summary and its trailer"
        );
        let capacity = usize::try_from(max).expect("a payload fits the memory");
        Self {
            reserved,
            id,
            salt,
            payload: Vec::with_capacity(capacity),
            summary,
            plain_bytes: 0,
            packer: Packer::default(),
        }
    }

    /// How references name the segment.
    #[must_use]
    pub const fn id(&self) -> SegmentId {
        self.id
    }

    /// Whether it has no run.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Bytes of plaintext of its runs.
    #[must_use]
    pub const fn plain_bytes(&self) -> u32 {
        self.plain_bytes
    }

    /// The longest run that has room, whoever owns it and however badly it compresses; 0 when it is full.
    #[must_use]
    pub fn room(&self) -> u32 {
        let end = end_bytes(self.summary.len() + summary::ENTRY_BYTES_MAX);
        let taken = count(self.payload.len()).saturating_add(end);
        let free = u64::from(self.reserved.payload_bytes_max).saturating_sub(taken);
        let room = u32::try_from(text_bytes_within(free)).unwrap_or(u32::MAX);
        // Compressed runs may have more plaintext than a payload has bytes, and the sum is counted.
        room.min(u32::MAX - self.plain_bytes)
    }

    /// Seals a run and gives what refers to it.
    ///
    /// # Panics
    ///
    /// When `plain` is empty or longer than [`Self::room`], or a page's first key is longer than a key may
    /// be: our own bug.
    pub fn append(
        &mut self,
        keys: &Keyring,
        owner: RunOwner,
        plain: &[u8],
        compression: Compression,
    ) -> RunRef {
        let room = self.room();
        let bytes = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        assert!(
            (1..=room).contains(&bytes),
            "a run of {bytes} bytes where there is room for {room}"
        );
        if let RunOwner::Page { first, .. } = &owner {
            let key_bytes = first.as_bytes().len();
            assert!(key_bytes <= KEY_BYTES_MAX, "a key has {key_bytes} bytes");
        }
        let packed = match compression {
            Compression::Never => None,
            Compression::WherePaying => self.packer.pack(plain),
        };
        let text = packed.unwrap_or(plain);
        let run = RunRef {
            segment: self.id,
            salt: self.salt,
            offset: length(&self.payload),
            bytes,
            stored: length(text),
            key: keys.newest(),
        };
        seal(&mut self.payload, keys, self.reserved.at, &run, text);
        summary::push(&mut self.summary, &owner, &run);
        self.plain_bytes += bytes;
        run
    }

    /// Ends the segment with its summary and its trailer.
    ///
    /// # Panics
    ///
    /// Never: room was kept for them.
    #[must_use]
    pub fn finish(mut self, keys: &Keyring) -> Filled {
        let at = self.reserved.at;
        let summary = std::mem::take(&mut self.summary);
        let summary_run = self.next_run(keys, &summary);
        seal(&mut self.payload, keys, at, &summary_run, &summary);
        let (head, text) = summary::trailer(&summary_run);
        self.payload.extend_from_slice(&head);
        let run = self.next_run(keys, &text);
        seal(&mut self.payload, keys, at, &run, &text);
        assert!(
            length(&self.payload) <= self.reserved.payload_bytes_max,
            "room was kept for the summary and the trailer"
        );
        // It may wait a while to be put, and be far from full.
        self.payload.shrink_to_fit();
        Filled {
            at,
            id: self.id,
            payload: self.payload.into(),
            plain_bytes: self.plain_bytes,
        }
    }

    /// What refers to a run of this text, as it is, that comes next.
    fn next_run(&self, keys: &Keyring, text: &[u8]) -> RunRef {
        RunRef {
            segment: self.id,
            salt: self.salt,
            offset: length(&self.payload),
            bytes: length(text),
            stored: length(text),
            key: keys.newest(),
        }
    }
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filling")
            .field("reserved", &self.reserved)
            .field("payload_bytes", &self.payload.len())
            .field("plain_bytes", &self.plain_bytes)
            .finish_non_exhaustive()
    }
}

/// Compresses; keeps its memory for the next run.
#[derive(Default)]
struct Packer {
    compressor: Option<Compressor<'static>>,
    text: Vec<u8>,
}

impl Packer {
    /// The compressed form, if that pays.
    fn pack(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let bytes_max = usize::try_from(COMPRESSED_BYTES_MAX).unwrap_or(usize::MAX);
        if !(COMPRESS_BYTES_MIN..=bytes_max).contains(&plain.len()) {
            return None;
        }
        let compressor = self.compressor.get_or_insert_with(|| {
            Compressor::new(COMPRESSION_LEVEL).expect("zstd has this level")
        });
        let pays_until = plain.len() - plain.len() / SAVED_PART_MIN;
        if self.text.len() < pays_until {
            self.text.resize(pays_until, 0);
        }
        let text = self.text.get_mut(..pays_until)?;
        // It fails when the compressed form is longer than this.
        let bytes = compressor.compress_to_buffer(plain, text).ok()?;
        self.text.get(..bytes)
    }
}

/// Seals text as the frames of a run, behind what the payload has.
fn seal(payload: &mut Vec<u8>, keys: &Keyring, at: SegmentAt, run: &RunRef, text: &[u8]) {
    let key = keys.run_key(run).expect("the newest key is there");
    let cipher = SegmentCipher::new(&key, at.group, at.number, run.salt.into());
    for (number, plain) in (u64::from(run.offset)..).zip(text.chunks(FRAME_PLAIN_BYTES_MAX)) {
        let start = payload.len();
        payload.extend_from_slice(plain);
        payload.extend_from_slice(&[0; TAG_BYTES]);
        cipher.seal(number, &mut payload[start..]);
    }
}

/// What a summary of so many bytes and the trailer take.
fn end_bytes(summary_bytes: usize) -> u64 {
    sealed_bytes(count(summary_bytes)).saturating_add(u64::from(TRAILER_BYTES))
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The length of what is in a payload.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a payload has at most 4 GiB")
}
