//! The frame cipher at several frame sizes: what a size costs in CPU time, tags and traffic.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cairn_client::cipher::{FRAME_BYTES_MAX, TAG_BYTES};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::gigabytes_per_second;
use crate::cpu_time::thread_cpu_time;
use crate::report::Report;

/// Passes of each measurement; their median counts.
const PASSES: usize = 15;
/// Plaintext of one pass: a segment at 4 x 1 MiB.
const PLAIN_BYTES: usize = 4 << 20;
/// Frame sizes, in plaintext.
const SIZES: [usize; 5] = [64 << 10, 32 << 10, 16 << 10, 8 << 10, 4 << 10];
/// The range that a user reads.
const RANGE: usize = 64 << 10;
/// What proofs are about: a range on the wire is rounded to it at both ends.
const BLOCK_BYTES: usize = 1 << 10;
/// As many bytes of additional data as a frame's place takes.
const AAD: [u8; 45] = [7; 45];

/// Median CPU time of `run` over what `prepare` makes.
fn median(
    mut prepare: impl FnMut() -> Vec<u8>,
    mut run: impl FnMut(&mut [u8]) -> Result<()>,
) -> Result<Duration> {
    let mut passes = [Duration::ZERO; PASSES];
    for pass in &mut passes {
        let mut buffer = prepare();
        let start = thread_cpu_time();
        run(&mut buffer)?;
        *pass = thread_cpu_time().saturating_sub(start);
        black_box(buffer);
    }
    passes.sort_unstable();
    Ok(passes[PASSES / 2])
}

fn nonce(frame: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&frame.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn key() -> Result<LessSafeKey> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]);
    Ok(LessSafeKey::new(
        key.map_err(|_| anyhow!("a key has 32 bytes"))?,
    ))
}

fn seal(key: &LessSafeKey, buffer: &mut [u8], frame_bytes: usize) -> Result<()> {
    for (number, frame) in (0..).zip(buffer.chunks_mut(frame_bytes)) {
        let (text, room) = frame.split_at_mut(frame.len() - TAG_BYTES);
        let tag = key.seal_in_place_separate_tag(nonce(number), Aad::from(AAD), text);
        room.copy_from_slice(tag.map_err(|_| anyhow!("a frame is small"))?.as_ref());
    }
    Ok(())
}

/// Opens frames so that their plaintext comes to lie together, as the client does.
fn open(key: &LessSafeKey, buffer: &mut [u8], frame_bytes: usize) -> Result<()> {
    let (mut start, mut plain_end) = (0, 0);
    for number in 0.. {
        if start >= buffer.len() {
            break;
        }
        let end = buffer.len().min(start + frame_bytes);
        let room = &mut buffer[plain_end..end];
        let plain = key
            .open_within(nonce(number), Aad::from(AAD), room, start - plain_end..)
            .ok()
            .context("what was sealed opens")?;
        plain_end += plain.len();
        start = end;
    }
    Ok(())
}

/// Most bytes on the wire, proof aside, of a 64 KiB range at any offset.
fn range_bytes(size: usize) -> usize {
    (RANGE / size + 1) * (size + TAG_BYTES) + 2 * (BLOCK_BYTES - 1)
}

/// CPU time of sealing and opening at each size, beside what it does to ranges.
///
/// # Errors
///
/// If what was sealed does not open.
pub fn frames() -> Result<Report> {
    let chosen = (FRAME_BYTES_MAX - TAG_BYTES) >> 10;
    let title = format!(
        "The frame cipher, one thread, 4 MiB of plaintext; the client's frames are of {chosen} KiB"
    );
    let mut report = Report::new(
        title,
        &[
            "plaintext of a frame",
            "seal GB/s",
            "open GB/s",
            "tags %",
            "64 KiB on the wire / 64 KiB",
        ],
    );
    let key = key()?;
    for size in SIZES {
        let frame_bytes = size + TAG_BYTES;
        let payload = PLAIN_BYTES / size * frame_bytes;
        let sealing = median(
            || vec![3; payload],
            |buffer| seal(&key, buffer, frame_bytes),
        )?;
        let mut sealed = vec![3; payload];
        seal(&key, &mut sealed, frame_bytes)?;
        let opening = median(|| sealed.clone(), |buffer| open(&key, buffer, frame_bytes))?;
        let share = |part: usize, whole: usize| {
            f64::from(u32::try_from(part).unwrap_or(u32::MAX))
                / f64::from(u32::try_from(whole).unwrap_or(u32::MAX))
        };
        report.push(vec![
            format!("{} KiB", size >> 10),
            format!("{:.2}", gigabytes_per_second(PLAIN_BYTES, sealing)),
            format!("{:.2}", gigabytes_per_second(PLAIN_BYTES, opening)),
            format!("{:.2}", share(TAG_BYTES, size) * 100.0),
            format!("{:.2}", share(range_bytes(size), RANGE)),
        ]);
    }
    Ok(report)
}
