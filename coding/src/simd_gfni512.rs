//! The kernel for AVX-512 with GFNI: one instruction multiplies 64 bytes by a constant.
//!
//! Its safe twin is `kernel::run_portable`; `kernel::tests` shows that they agree.

#![expect(
    unsafe_code,
    reason = "bytes as vectors, and calls after detection; twin: portable"
)]

use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_ternarylogic_epi64, _mm512_xor_si512,
};
use std::mem;

/// Proof that the processor has AVX-512F and GFNI: made by [`Self::detect`] only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gfni512(());

/// Two vectors a step, so that each factor is loaded once for two multiplications.
const VECTORS: usize = 2;
const VECTOR_BYTES: usize = 64;
/// Truth table of a ^ b ^ c.
const XOR_OF_THREE: i32 = 0x96;

impl Gfni512 {
    pub(crate) const STEP_BYTES: usize = VECTORS * VECTOR_BYTES;
    /// Eight rows of two sums, two vectors of two inputs, two factors and two products take 24 of
    /// 32 registers. Ten rows measured 2 % slower, and from eleven on the loop over rows is not
    /// unrolled any more.
    pub(crate) const ROWS_MAX: usize = 8;

    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("gfni");
        found.then_some(Self(()))
    }

    pub(crate) fn run(self, tables: &[i64], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
        // SAFETY: `self` proves that the processor has avx512f and gfni.
        unsafe { dispatch(tables, lanes, outputs) }
    }
}

/// Picks the loop for the number of rows, which has to be known to keep the sums in registers.
#[target_feature(enable = "avx512f,gfni")]
fn dispatch(tables: &[i64], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    match outputs.len() {
        1 => rows::<1>(tables, lanes, outputs),
        2 => rows::<2>(tables, lanes, outputs),
        3 => rows::<3>(tables, lanes, outputs),
        4 => rows::<4>(tables, lanes, outputs),
        5 => rows::<5>(tables, lanes, outputs),
        6 => rows::<6>(tables, lanes, outputs),
        7 => rows::<7>(tables, lanes, outputs),
        8 => rows::<8>(tables, lanes, outputs),
        count => unreachable!("a group has 1 to {} rows, found {count}", Gfni512::ROWS_MAX),
    }
}

/// Inputs go in pairs, so that one instruction adds both products to a sum: the adders share
/// their ports with the multiplier, which is then the only limit.
#[target_feature(enable = "avx512f,gfni")]
fn rows<const ROWS: usize>(tables: &[i64], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let (tables, _) = tables.as_chunks::<ROWS>();
    let (table_pairs, last_table) = tables.as_chunks::<2>();
    let (lane_pairs, last_lane) = lanes.as_chunks::<2>();
    let length = outputs.first().map_or(0, |output| output.len());
    for at in (0..length).step_by(Gfni512::STEP_BYTES) {
        let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
        for ([lane_a, lane_b], [factors_a, factors_b]) in lane_pairs.iter().zip(table_pairs) {
            let (inputs_a, inputs_b) = (inputs(lane_a, at), inputs(lane_b, at));
            for row in 0..ROWS {
                let factor_a = _mm512_set1_epi64(factors_a[row]);
                let factor_b = _mm512_set1_epi64(factors_b[row]);
                for vector in 0..VECTORS {
                    let a = _mm512_gf2p8affine_epi64_epi8::<0>(inputs_a[vector], factor_a);
                    let b = _mm512_gf2p8affine_epi64_epi8::<0>(inputs_b[vector], factor_b);
                    let sum = &mut sums[row][vector];
                    *sum = _mm512_ternarylogic_epi64::<XOR_OF_THREE>(*sum, a, b);
                }
            }
        }
        for (lane, factors) in last_lane.iter().zip(last_table) {
            let inputs = inputs(lane, at);
            for (sums, &factor) in sums.iter_mut().zip(factors) {
                let factor = _mm512_set1_epi64(factor);
                for (sum, input) in sums.iter_mut().zip(inputs) {
                    let product = _mm512_gf2p8affine_epi64_epi8::<0>(input, factor);
                    *sum = _mm512_xor_si512(*sum, product);
                }
            }
        }
        for (output, sums) in outputs.iter_mut().zip(sums) {
            let (bytes, _) = output[at..at + Gfni512::STEP_BYTES].as_chunks_mut();
            store(&mut bytes[0], sums[0]);
            store(&mut bytes[1], sums[1]);
        }
    }
}

/// The vectors of one step of `lane`.
fn inputs(lane: &[u8], at: usize) -> [__m512i; VECTORS] {
    let (bytes, _) = lane[at..at + Gfni512::STEP_BYTES].as_chunks();
    [load(&bytes[0]), load(&bytes[1])]
}

// By value: the pointer intrinsics carry run-time checks where debug assertions are on, which
// halve the speed of the loops above.
fn load(bytes: &[u8; VECTOR_BYTES]) -> __m512i {
    // SAFETY: both types are 64 plain bytes, of which every value is valid.
    unsafe { mem::transmute::<[u8; VECTOR_BYTES], __m512i>(*bytes) }
}

fn store(bytes: &mut [u8; VECTOR_BYTES], vector: __m512i) {
    // SAFETY: both types are 64 plain bytes, of which every value is valid.
    *bytes = unsafe { mem::transmute::<__m512i, [u8; VECTOR_BYTES]>(vector) };
}
