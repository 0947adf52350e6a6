//! The kernel for AVX2 alone: two byte shuffles look up the products of 32 bytes with a constant,
//! one for the low nibbles and one for the high ones.
//!
//! Its safe twin is `kernel::run_portable`; `kernel::tests` shows that they agree.

#![expect(
    unsafe_code,
    reason = "bytes as vectors, and calls after detection; twin: portable"
)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_xor_si256,
};
use std::mem;

/// Proof that the processor has AVX2: made by [`Self::detect`] only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// Two vectors a step, so that each table is loaded once for two look-ups.
const VECTORS: usize = 2;
const VECTOR_BYTES: usize = 32;
const NIBBLES: i8 = 0x0f;

impl Avx2 {
    pub(crate) const STEP_BYTES: usize = VECTORS * VECTOR_BYTES;
    /// Four rows of two sums, the nibbles of two inputs, two tables and the mask take 15 of 16
    /// registers.
    pub(crate) const ROWS_MAX: usize = 4;

    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub(crate) fn run(self, tables: &[[u8; 32]], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
        // SAFETY: `self` proves that the processor has avx2.
        unsafe { dispatch(tables, lanes, outputs) }
    }
}

/// Picks the loop for the number of rows, which has to be known to keep the sums in registers.
#[target_feature(enable = "avx2")]
fn dispatch(tables: &[[u8; 32]], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    match outputs.len() {
        1 => rows::<1>(tables, lanes, outputs),
        2 => rows::<2>(tables, lanes, outputs),
        3 => rows::<3>(tables, lanes, outputs),
        4 => rows::<4>(tables, lanes, outputs),
        count => unreachable!("a group has 1 to {} rows, found {count}", Avx2::ROWS_MAX),
    }
}

#[target_feature(enable = "avx2")]
fn rows<const ROWS: usize>(tables: &[[u8; 32]], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let (tables, _) = tables.as_chunks::<ROWS>();
    let mask = _mm256_set1_epi8(NIBBLES);
    let length = outputs.first().map_or(0, |output| output.len());
    for at in (0..length).step_by(Avx2::STEP_BYTES) {
        let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for (lane, tables) in lanes.iter().zip(tables) {
            let (bytes, _) = lane[at..at + Avx2::STEP_BYTES].as_chunks();
            let inputs = [split(load(&bytes[0]), mask), split(load(&bytes[1]), mask)];
            for (sums, table) in sums.iter_mut().zip(tables) {
                let (tables, _) = table.as_chunks();
                let (low_table, high_table) = (load_table(&tables[0]), load_table(&tables[1]));
                for (sum, (low, high)) in sums.iter_mut().zip(inputs) {
                    let low = _mm256_shuffle_epi8(low_table, low);
                    let high = _mm256_shuffle_epi8(high_table, high);
                    *sum = _mm256_xor_si256(*sum, _mm256_xor_si256(low, high));
                }
            }
        }
        for (output, sums) in outputs.iter_mut().zip(sums) {
            let (bytes, _) = output[at..at + Avx2::STEP_BYTES].as_chunks_mut();
            store(&mut bytes[0], sums[0]);
            store(&mut bytes[1], sums[1]);
        }
    }
}

/// Low and high nibbles of each byte.
#[target_feature(enable = "avx2")]
fn split(bytes: __m256i, mask: __m256i) -> (__m256i, __m256i) {
    let high = _mm256_srli_epi64::<4>(bytes);
    (_mm256_and_si256(bytes, mask), _mm256_and_si256(high, mask))
}

/// A table of 16 bytes in both halves of a vector.
#[target_feature(enable = "avx2")]
fn load_table(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: both types are 16 plain bytes, of which every value is valid.
    let table = unsafe { mem::transmute::<[u8; 16], __m128i>(*bytes) };
    _mm256_broadcastsi128_si256(table)
}

// By value: the pointer intrinsics carry run-time checks where debug assertions are on, which
// halve the speed of the loops above.
fn load(bytes: &[u8; VECTOR_BYTES]) -> __m256i {
    // SAFETY: both types are 32 plain bytes, of which every value is valid.
    unsafe { mem::transmute::<[u8; VECTOR_BYTES], __m256i>(*bytes) }
}

fn store(bytes: &mut [u8; VECTOR_BYTES], vector: __m256i) {
    // SAFETY: both types are 32 plain bytes, of which every value is valid.
    *bytes = unsafe { mem::transmute::<__m256i, [u8; VECTOR_BYTES]>(vector) };
}
