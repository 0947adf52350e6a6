//! The choice of a kernel: which instructions multiply a run of bytes by constants.
//!
//! Every kernel computes the same sums; they differ in speed only. The unsafe ones live in
//! `simd_*.rs`, each with a test against the portable one (`kernel::tests`). A kernel other than
//! the portable one exists only as the result of its own detection, so holding it proves that the
//! processor has its instructions.

use std::fmt;

use reed_solomon_erasure::galois_8;

#[cfg(target_arch = "x86_64")]
use crate::simd_avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd_gfni256::Gfni256;
#[cfg(target_arch = "x86_64")]
use crate::simd_gfni512::Gfni512;
#[cfg(target_arch = "aarch64")]
use crate::simd_neon::Neon;

/// Instructions that the code is computed with. The result is the same with each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Gfni512(Gfni512),
    #[cfg(target_arch = "x86_64")]
    Gfni256(Gfni256),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Portable,
}

impl Kernel {
    /// The library's own loops: works everywhere, and is what the others are compared with.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// Every kernel this processor can run, fastest first; the portable one is always last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let detected = [
            #[cfg(target_arch = "x86_64")]
            Gfni512::detect().map(Kind::Gfni512),
            #[cfg(target_arch = "x86_64")]
            Gfni256::detect().map(Kind::Gfni256),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Kind::Avx2),
            #[cfg(target_arch = "aarch64")]
            Neon::detect().map(Kind::Neon),
            Some(Kind::Portable),
        ];
        detected.into_iter().flatten().map(Self).collect()
    }

    /// The fastest kernel of this processor.
    #[must_use]
    pub fn best() -> Self {
        Self::available().first().copied().unwrap_or(Self::PORTABLE)
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni512(_) => "avx512-gfni",
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni256(_) => "avx2-gfni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
            Kind::Portable => "portable",
        }
    }

    /// Bytes of each input that one step of the kernel reads.
    pub(crate) const fn step_bytes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni512(_) => Gfni512::STEP_BYTES,
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni256(_) => Gfni256::STEP_BYTES,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => Avx2::STEP_BYTES,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => Neon::STEP_BYTES,
            Kind::Portable => PORTABLE_STEP_BYTES,
        }
    }

    /// Most rows that one pass over the inputs computes: as many as there are registers for.
    pub(crate) const fn rows_max(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni512(_) => Gfni512::ROWS_MAX,
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni256(_) => Gfni256::ROWS_MAX,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => Avx2::ROWS_MAX,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => Neon::ROWS_MAX,
            Kind::Portable => PORTABLE_ROWS_MAX,
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::best()
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The library takes any length.
const PORTABLE_STEP_BYTES: usize = 1;
/// The portable kernel keeps nothing in registers between rows; eight share a packed block.
const PORTABLE_ROWS_MAX: usize = 8;

/// Up to [`Kernel::rows_max`] rows of factors in the form the kernel wants them: for each input
/// in turn, the factors of all rows.
pub(crate) struct Group {
    rows: usize,
    step_bytes: usize,
    tables: Tables,
}

enum Tables {
    #[cfg(target_arch = "x86_64")]
    Gfni512(Gfni512, Vec<i64>),
    #[cfg(target_arch = "x86_64")]
    Gfni256(Gfni256, Vec<i64>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2, Vec<[u8; 32]>),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon, Vec<[u8; 32]>),
    Portable(Vec<u8>),
}

impl Group {
    /// Prepares `rows`, which all have one factor per input.
    pub(crate) fn new(kernel: Kernel, rows: &[&[u8]]) -> Self {
        assert!(
            (1..=kernel.rows_max()).contains(&rows.len()),
            "rows fit one pass"
        );
        let input_count = rows[0].len();
        assert!(
            rows.iter().all(|row| row.len() == input_count),
            "rows of one length"
        );
        let factors = (0..input_count).flat_map(|input| rows.iter().map(move |row| row[input]));
        let tables = match kernel.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni512(kernel) => Tables::Gfni512(kernel, factors.map(affine_matrix).collect()),
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni256(kernel) => Tables::Gfni256(kernel, factors.map(affine_matrix).collect()),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(kernel) => Tables::Avx2(kernel, factors.map(nibble_products).collect()),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(kernel) => Tables::Neon(kernel, factors.map(nibble_products).collect()),
            Kind::Portable => Tables::Portable(factors.collect()),
        };
        Self {
            rows: rows.len(),
            step_bytes: kernel.step_bytes(),
            tables,
        }
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Writes each row's sum over `lanes`, one per input, to its output. All lanes and outputs
    /// are of one length, which is whole steps.
    pub(crate) fn run(&self, lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(outputs.len(), self.rows, "one output per row");
        let length = outputs.first().map_or(0, |output| output.len());
        let fits = |bytes: &[u8]| bytes.len() == length;
        assert!(lanes.iter().all(|lane| fits(lane)), "lanes of one length");
        assert!(
            outputs.iter().all(|output| fits(output)),
            "outputs as long as lanes"
        );
        assert_eq!(length % self.step_bytes, 0, "a length of whole steps");
        match &self.tables {
            #[cfg(target_arch = "x86_64")]
            Tables::Gfni512(kernel, tables) => kernel.run(tables, lanes, outputs),
            #[cfg(target_arch = "x86_64")]
            Tables::Gfni256(kernel, tables) => kernel.run(tables, lanes, outputs),
            #[cfg(target_arch = "x86_64")]
            Tables::Avx2(kernel, tables) => kernel.run(tables, lanes, outputs),
            #[cfg(target_arch = "aarch64")]
            Tables::Neon(kernel, tables) => kernel.run(tables, lanes, outputs),
            Tables::Portable(factors) => run_portable(factors, lanes, outputs),
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// The safe twin of every kernel in `simd_*.rs`.
fn run_portable(factors: &[u8], lanes: &[&[u8]], outputs: &mut [&mut [u8]]) {
    let rows = outputs.len();
    for (row, output) in outputs.iter_mut().enumerate() {
        output.fill(0);
        for (lane, factors) in lanes.iter().zip(factors.chunks_exact(rows)) {
            galois_8::mul_slice_xor(factors[row], lane, output);
        }
    }
}

/// Multiplication by `factor` as the 8 x 8 bit matrix that GF2P8AFFINEQB takes. The instruction
/// does not know our field's polynomial, unlike GF2P8MULB, which is bound to another one (0x11B).
/// Bit i of the result is the parity of the source byte and byte 7 - i of the matrix.
#[cfg(target_arch = "x86_64")]
fn affine_matrix(factor: u8) -> i64 {
    let images = crate::matrix::basis_images(factor);
    let mut matrix = [0; 8];
    for (bit, row) in matrix.iter_mut().rev().enumerate() {
        for (source, image) in images.iter().enumerate() {
            *row |= ((image >> bit) & 1) << source;
        }
    }
    i64::from_le_bytes(matrix)
}

/// Products of `factor` with the 16 low nibbles, then with the 16 high ones, as byte shuffles
/// look them up.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn nibble_products(factor: u8) -> [u8; 32] {
    let images = crate::matrix::basis_images(factor);
    std::array::from_fn(|index| {
        let (nibble, images) = (index % 16, &images[index / 16 * 4..][..4]);
        let chosen = images
            .iter()
            .enumerate()
            .filter(|(bit, _)| (nibble >> bit) & 1 == 1);
        chosen.fold(0, |sum, (_, image)| sum ^ image)
    })
}

#[cfg(test)]
mod tests;
