//! The kernel for AVX2 with GFNI: one instruction multiplies 32 bytes by a constant.
//!
//! Its safe twin is `kernel::run_portable`; `kernel::tests` shows that they agree.

#![expect(
    unsafe_code,
    reason = "bytes as vectors, and calls after detection; twin: portable"
)]

use std::arch::x86_64::{
    __m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_set1_epi64x, _mm256_setzero_si256,
    _mm256_xor_si256,
};
use std::mem;

/// Proof that the processor has AVX2 and GFNI: made by [`Self::detect`] only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gfni256(());

/// Two vectors a step, so that each factor is loaded once for two multiplications.
const VECTORS: usize = 2;
const VECTOR_BYTES: usize = 32;

impl Gfni256 {
    pub(crate) const STEP_BYTES: usize = VECTORS * VECTOR_BYTES;
    /// Six rows of two sums, two inputs and a factor take 15 of 16 registers.
    pub(crate) const ROWS_MAX: usize = 6;

    pub(crate) fn detect() -> Option<Self> {
        // The 256-bit form of GFNI is encoded with VEX, which AVX brings.
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni");
        found.then_some(Self(()))
    }

    pub(crate) fn run(self, tables: &[i64], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
        // SAFETY: `self` proves that the processor has avx2 and gfni.
        unsafe { dispatch(tables, lanes, outputs) }
    }
}

/// Picks the loop for the number of rows, which has to be known to keep the sums in registers.
#[target_feature(enable = "avx2,gfni")]
fn dispatch(tables: &[i64], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    match outputs.len() {
        1 => rows::<1>(tables, lanes, outputs),
        2 => rows::<2>(tables, lanes, outputs),
        3 => rows::<3>(tables, lanes, outputs),
        4 => rows::<4>(tables, lanes, outputs),
        5 => rows::<5>(tables, lanes, outputs),
        6 => rows::<6>(tables, lanes, outputs),
        count => unreachable!("a group has 1 to {} rows, found {count}", Gfni256::ROWS_MAX),
    }
}

#[target_feature(enable = "avx2,gfni")]
fn rows<const ROWS: usize>(tables: &[i64], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let (tables, _) = tables.as_chunks::<ROWS>();
    let length = outputs.first().map_or(0, |output| output.len());
    for at in (0..length).step_by(Gfni256::STEP_BYTES) {
        let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for (lane, factors) in lanes.iter().zip(tables) {
            let (bytes, _) = lane[at..at + Gfni256::STEP_BYTES].as_chunks();
            let inputs: [__m256i; VECTORS] = [load(&bytes[0]), load(&bytes[1])];
            for (sums, &factor) in sums.iter_mut().zip(factors) {
                let factor = _mm256_set1_epi64x(factor);
                for (sum, input) in sums.iter_mut().zip(inputs) {
                    let product = _mm256_gf2p8affine_epi64_epi8::<0>(input, factor);
                    *sum = _mm256_xor_si256(*sum, product);
                }
            }
        }
        for (output, sums) in outputs.iter_mut().zip(sums) {
            let (bytes, _) = output[at..at + Gfni256::STEP_BYTES].as_chunks_mut();
            store(&mut bytes[0], sums[0]);
            store(&mut bytes[1], sums[1]);
        }
    }
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
