//! What the primitives alone cost for the same bytes: the same buffers, sizes and order as on the
//! path, one thread, nothing between them.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use cairn_client::cipher::{FRAME_BYTES_MAX, Salt, SegmentCipher};
use cairn_client::key::ContentKey;
use cairn_coding::Coder;
use cairn_core::{Digest, GroupId, Profile, SecretKey, SegmentNumber, SlotIndex};
use cairn_runtime::{Disk, DiskFile, OpenMode, RealDisk};

use super::{plain_tls, touch_memory};
use crate::cpu_time::thread_cpu_time;

/// Segments that each primitive is measured over: 256 MiB at 4-of-8, far more than the caches.
const SEGMENTS: usize = 64;
/// Segments in memory at once, as on the path.
const SEGMENTS_APART: usize = 8;
/// Shards of one write and one sync: what a node's group commit gathers.
const SHARDS_PER_SYNC: usize = 4;
/// The header, record and tree beside each shard in a pack.
const HEAD_BYTES: usize = 8 << 10;

/// CPU time of each primitive for a byte of plaintext's worth of its input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Primitives {
    /// Encrypting the plaintext.
    pub(super) encrypt: f64,
    /// Decrypting the payload.
    pub(super) decrypt: f64,
    /// Encoding the payload to n shards.
    pub(super) encode: f64,
    /// Hashing the n shards once.
    pub(super) hash_all: f64,
    /// Hashing k shards once.
    pub(super) hash_data: f64,
    /// Moving n shards over TLS, both ends.
    pub(super) move_all: f64,
    /// Moving k shards.
    pub(super) move_data: f64,
    /// Writing n shards and syncing them.
    pub(super) write_all: f64,
    /// Reading k shards from the page cache.
    pub(super) read_data: f64,
    /// Signing a record and n receipts, and verifying each twice and once: not one of the
    /// primitives of the goal, but part of the path.
    pub(super) sign: f64,
}

impl Primitives {
    /// Of an upload.
    pub(super) fn upload(&self) -> f64 {
        self.encrypt + self.encode + 2.0 * self.hash_all + self.move_all + self.write_all
    }

    /// Of a download.
    pub(super) fn download(&self) -> f64 {
        self.read_data + self.move_data + self.hash_data + self.decrypt
    }
}

/// Segments in turn.
struct Segments {
    coder: Coder,
    shard_bytes: usize,
    payload_bytes: usize,
    /// Data shards first, as in a client's buffer.
    buffers: Vec<Vec<u8>>,
}

/// Measures all, with files in `folder`.
pub(super) fn measure(profile: Profile, folder: &Path) -> Result<Primitives> {
    let code = profile.code();
    let shard_bytes_max = usize::try_from(profile.shard_bytes_max())?;
    let frames = shard_bytes_max * code.data_count() / FRAME_BYTES_MAX;
    let payload_bytes = frames * FRAME_BYTES_MAX;
    let coder = Coder::new(code);
    let shard_bytes = coder.shard_bytes(payload_bytes)?;
    let mut buffer = vec![0; shard_bytes * code.shard_count()];
    blake3::Hasher::new().finalize_xof().fill(&mut buffer);
    let mut segments = Segments {
        coder,
        shard_bytes,
        payload_bytes,
        buffers: vec![buffer; SEGMENTS_APART],
    };
    let plain = frames * (FRAME_BYTES_MAX - cairn_client::cipher::TAG_BYTES) * SEGMENTS;
    let per_byte = |time: Duration| time.as_secs_f64() / as_float(plain);
    let data = code.data_count();
    let all = code.shard_count();
    let encrypt = per_byte(segments.encrypt());
    let decrypt = per_byte(segments.decrypt()?);
    // Of a shard's byte; a byte of plaintext is that of k shards, and n/k of them are moved.
    let moved = plain_tls::cpu_per_byte()? * as_float(payload_bytes * SEGMENTS) / as_float(plain);
    Ok(Primitives {
        encrypt,
        decrypt,
        encode: per_byte(segments.encode()?),
        hash_all: per_byte(segments.hash(all)),
        hash_data: per_byte(segments.hash(data)),
        move_data: moved,
        move_all: moved * as_float(all) / as_float(data),
        write_all: per_byte(segments.write(folder)?),
        read_data: per_byte(segments.read(folder)?),
        sign: per_byte(sign(all)),
    })
}

fn as_float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// CPU time of this thread for one call.
fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begun = thread_cpu_time();
    let done = run();
    (done, thread_cpu_time().saturating_sub(begun))
}

impl Segments {
    fn cipher() -> SegmentCipher {
        let key = ContentKey::from_bytes(&[7; 32]);
        let group = GroupId::new(Digest::of(b"bench"));
        SegmentCipher::new(&key, group, SegmentNumber::ZERO, Salt::new([9; 16]))
    }

    /// Runs over every segment, each buffer in its turn.
    fn each(&mut self, mut run: impl FnMut(usize, &mut Vec<u8>)) -> Duration {
        timed(|| {
            for number in 0..SEGMENTS {
                run(number, &mut self.buffers[number % SEGMENTS_APART]);
            }
        })
        .1
    }

    fn encrypt(&mut self) -> Duration {
        let payload = self.payload_bytes;
        let cipher = Self::cipher();
        self.each(|_, buffer| {
            let frames = buffer[..payload].chunks_mut(FRAME_BYTES_MAX);
            for (number, frame) in (0..).zip(frames) {
                cipher.seal(number, frame);
            }
        })
    }

    fn decrypt(&mut self) -> Result<Duration> {
        let payload = self.payload_bytes;
        let cipher = Self::cipher();
        let mut spent = Duration::ZERO;
        let mut failed = false;
        for number in 0..SEGMENTS {
            let buffer = &mut self.buffers[number % SEGMENTS_APART];
            let frames = || (0..).zip(0..payload / FRAME_BYTES_MAX);
            let at = |frame: usize| frame * FRAME_BYTES_MAX..(frame + 1) * FRAME_BYTES_MAX;
            for (number, frame) in frames() {
                cipher.seal(number, &mut buffer[at(frame)]);
            }
            let ((), time) = timed(|| {
                for (number, frame) in frames() {
                    failed |= cipher.open(number, &mut buffer[at(frame)]).is_err();
                }
            });
            spent += time;
        }
        anyhow::ensure!(!failed, "what was sealed opens");
        Ok(spent)
    }

    fn encode(&mut self) -> Result<Duration> {
        let (coder, shard) = (self.coder.clone(), self.shard_bytes);
        let data = shard * coder.code().data_count();
        let mut failed = false;
        let time = self.each(|_, buffer| {
            let (payload, rest) = buffer.split_at_mut(data);
            let mut parity: Vec<&mut [u8]> = rest.chunks_exact_mut(shard).collect();
            failed |= coder.encode(payload, &mut parity).is_err();
        });
        anyhow::ensure!(!failed, "a segment encodes");
        Ok(time)
    }

    fn hash(&mut self, count: usize) -> Duration {
        let shard = self.shard_bytes;
        self.each(|_, buffer| {
            for shard in buffer.chunks_exact(shard).take(count) {
                std::hint::black_box(blake3::hash(shard));
            }
        })
    }

    /// One file per slot; appended to, synced once for several shards.
    fn write(&mut self, folder: &Path) -> Result<Duration> {
        let disk = RealDisk::new();
        let shard = self.shard_bytes;
        let head = vec![0; HEAD_BYTES];
        let slots = self.coder.code().shard_count();
        let written = (HEAD_BYTES + shard) * SEGMENTS * slots;
        touch_memory(folder, u64::try_from(written)?)?;
        let mut spent = Duration::ZERO;
        for slot in 0..slots {
            let path = folder.join(format!("primitive-{slot}"));
            let file = disk.open(&path, OpenMode::ReadWriteOrCreate)?;
            let mut at = 0;
            for batch in 0..SEGMENTS / SHARDS_PER_SYNC {
                let first = batch * SHARDS_PER_SYNC;
                let shards = (first..first + SHARDS_PER_SYNC).flat_map(|number| {
                    let buffer = &self.buffers[number % SEGMENTS_APART];
                    [&head[..], &buffer[slot * shard..(slot + 1) * shard]]
                });
                let parts: Vec<&[u8]> = shards.collect();
                let bytes: usize = parts.iter().map(|part| part.len()).sum();
                let (done, time) =
                    timed(|| file.write_all_at(&parts, at).and_then(|()| file.sync()));
                done?;
                at += u64::try_from(bytes)?;
                spent += time;
            }
        }
        Ok(spent)
    }

    /// Reads the data shards that [`Self::write`] left, and removes the files.
    fn read(&mut self, folder: &Path) -> Result<Duration> {
        let disk = RealDisk::new();
        let shard = self.shard_bytes;
        let stride = u64::try_from(HEAD_BYTES + shard)?;
        let mut spent = Duration::ZERO;
        for slot in 0..self.coder.code().shard_count() {
            let path = folder.join(format!("primitive-{slot}"));
            let file = disk.open(&path, OpenMode::Read)?;
            if slot < self.coder.code().data_count() {
                let mut at = u64::try_from(HEAD_BYTES)?;
                for number in 0..SEGMENTS {
                    let buffer = &mut self.buffers[number % SEGMENTS_APART];
                    let room = &mut buffer[slot * shard..(slot + 1) * shard];
                    let (done, time) = timed(|| file.read_exact_at(room, at));
                    done?;
                    at += stride;
                    spent += time;
                }
            }
            disk.remove_file(&path)?;
        }
        Ok(spent)
    }
}

/// Signatures of so many segments: the client signs the record and verifies n receipts; n nodes
/// verify the record and sign a receipt.
fn sign(shard_count: usize) -> Duration {
    let key = SecretKey::from_bytes(&[3; 32]);
    let message = [5; 400];
    let (signature, sign) = timed(|| key.sign(&message));
    let _warm = (signature, sign);
    let (_, time) = timed(|| {
        for slot in 0..SEGMENTS {
            let number = SlotIndex::new(u8::try_from(slot).unwrap_or(0));
            let mut own = message;
            own[0] = number.get();
            let signature = key.sign(&own);
            for _ in 0..shard_count {
                let verified = key.public().verify(&own, &signature);
                std::hint::black_box(verified.is_ok());
                let receipt = key.sign(&own);
                let verified = key.public().verify(&own, &receipt);
                std::hint::black_box(verified.is_ok());
            }
        }
    });
    time
}
