//! The kernel for NEON on aarch64: two table look-ups give the products of 16 bytes with a
//! constant, one for the low nibbles and one for the high ones.
//!
//! Its safe twin is `kernel::run_portable`; `kernel::tests` shows that they agree.

#![expect(
    unsafe_code,
    reason = "bytes as vectors, and calls after detection; twin: portable"
)]

use std::arch::aarch64::{uint8x16_t, vandq_u8, vdupq_n_u8, veorq_u8, vqtbl1q_u8, vshrq_n_u8};
use std::arch::is_aarch64_feature_detected;
use std::mem;

/// Proof that the processor has NEON: made by [`Self::detect`] only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neon(());

/// Four vectors a step, so that each table is loaded once for four look-ups.
const VECTORS: usize = 4;
const VECTOR_BYTES: usize = 16;
const NIBBLES: u8 = 0x0f;

impl Neon {
    pub(crate) const STEP_BYTES: usize = VECTORS * VECTOR_BYTES;
    /// Four rows of four sums, the nibbles of four inputs, two tables and the mask take 27 of 32
    /// registers.
    pub(crate) const ROWS_MAX: usize = 4;

    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    pub(crate) fn run(self, tables: &[[u8; 32]], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
        // SAFETY: `self` proves that the processor has neon.
        unsafe { dispatch(tables, lanes, outputs) }
    }
}

/// Picks the loop for the number of rows, which has to be known to keep the sums in registers.
#[target_feature(enable = "neon")]
fn dispatch(tables: &[[u8; 32]], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    match outputs.len() {
        1 => rows::<1>(tables, lanes, outputs),
        2 => rows::<2>(tables, lanes, outputs),
        3 => rows::<3>(tables, lanes, outputs),
        4 => rows::<4>(tables, lanes, outputs),
        count => unreachable!("a group has 1 to {} rows, found {count}", Neon::ROWS_MAX),
    }
}

#[target_feature(enable = "neon")]
fn rows<const ROWS: usize>(tables: &[[u8; 32]], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let (tables, _) = tables.as_chunks::<ROWS>();
    let mask = vdupq_n_u8(NIBBLES);
    let length = outputs.first().map_or(0, |output| output.len());
    for at in (0..length).step_by(Neon::STEP_BYTES) {
        let mut sums = [[vdupq_n_u8(0); VECTORS]; ROWS];
        for (lane, tables) in lanes.iter().zip(tables) {
            let (bytes, _) = lane[at..at + Neon::STEP_BYTES].as_chunks();
            let inputs = [
                split(load(&bytes[0]), mask),
                split(load(&bytes[1]), mask),
                split(load(&bytes[2]), mask),
                split(load(&bytes[3]), mask),
            ];
            for (sums, table) in sums.iter_mut().zip(tables) {
                let (tables, _) = table.as_chunks();
                let (low_table, high_table) = (load(&tables[0]), load(&tables[1]));
                for (sum, (low, high)) in sums.iter_mut().zip(inputs) {
                    let low = vqtbl1q_u8(low_table, low);
                    let high = vqtbl1q_u8(high_table, high);
                    *sum = veorq_u8(*sum, veorq_u8(low, high));
                }
            }
        }
        for (output, sums) in outputs.iter_mut().zip(sums) {
            let (bytes, _) = output[at..at + Neon::STEP_BYTES].as_chunks_mut();
            for (bytes, sum) in bytes.iter_mut().zip(sums) {
                store(bytes, sum);
            }
        }
    }
}

/// Low and high nibbles of each byte.
#[target_feature(enable = "neon")]
fn split(bytes: uint8x16_t, mask: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
    (vandq_u8(bytes, mask), vshrq_n_u8::<4>(bytes))
}

// By value: the pointer intrinsics carry run-time checks where debug assertions are on, which
// halve the speed of the loops above.
fn load(bytes: &[u8; VECTOR_BYTES]) -> uint8x16_t {
    // SAFETY: both types are 16 plain bytes, of which every value is valid.
    unsafe { mem::transmute::<[u8; VECTOR_BYTES], uint8x16_t>(*bytes) }
}

fn store(bytes: &mut [u8; VECTOR_BYTES], vector: uint8x16_t) {
    // SAFETY: both types are 16 plain bytes, of which every value is valid.
    *bytes = unsafe { mem::transmute::<uint8x16_t, [u8; VECTOR_BYTES]>(vector) };
}
