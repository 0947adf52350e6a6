//! Matrices over GF(2^8): the code's generator, and inverses of its parts.
//!
//! The field and the generator are the library's (docs/protocol/coding.md#matrix); this module
//! holds the little that has to be done with them. Shapes are checked by assertion: they are ours.

use cairn_core::Code;
use reed_solomon_erasure::galois_8::{self, ReedSolomon};

/// Rows of field elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    /// A matrix of zeros.
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        assert!(rows > 0 && columns > 0, "a matrix has cells");
        Self {
            columns,
            cells: vec![0; rows * columns],
        }
    }

    /// The n x k matrix that makes shards of data shards: the identity above the parity rows.
    pub(crate) fn generator(code: Code) -> Self {
        let (k, parity_count) = (code.data_count(), code.parity_count());
        let library = ReedSolomon::new(k, parity_count)
            .expect("1 <= k < n <= 128 by Code, within the library's 256");
        // Column i of data shard i is 1 and all else 0, so that byte i of a parity shard is its
        // factor for data shard i.
        let mut generator = Self::zeros(code.shard_count(), k);
        let (data, parity) = generator.cells.split_at_mut(k * k);
        for (index, row) in data.chunks_mut(k).enumerate() {
            row[index] = 1;
        }
        let data: Vec<&[u8]> = data.chunks(k).collect();
        let mut parity: Vec<&mut [u8]> = parity.chunks_mut(k).collect();
        library
            .encode_sep(&data, &mut parity)
            .expect("k data shards and n - k parity shards, all of k bytes");
        generator
    }

    /// Row `index`.
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        &self.cells[index * self.columns..(index + 1) * self.columns]
    }

    /// Row `index`, to write.
    pub(crate) fn row_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.cells[index * self.columns..(index + 1) * self.columns]
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.cells.len() / self.columns
    }

    /// The inverse of a square matrix; `None` if it is singular.
    pub(crate) fn inverse(&self) -> Option<Self> {
        let size = self.columns;
        assert_eq!(self.rows(), size, "only a square matrix has an inverse");
        let mut work = Self::zeros(size, size * 2);
        for index in 0..size {
            let row = work.row_mut(index);
            row[..size].copy_from_slice(self.row(index));
            row[size + index] = 1;
        }
        for pivot in 0..size {
            work.reduce(pivot)?;
        }
        let mut inverse = Self::zeros(size, size);
        for index in 0..size {
            inverse
                .row_mut(index)
                .copy_from_slice(&work.row(index)[size..]);
        }
        Some(inverse)
    }

    /// Makes column `pivot` that of the identity, by row operations; `None` if no row at or below
    /// it can be the pivot.
    fn reduce(&mut self, pivot: usize) -> Option<()> {
        let chosen = (pivot..self.rows()).find(|&row| self.row(row)[pivot] != 0)?;
        let columns = self.columns;
        if chosen != pivot {
            let (above, below) = self.cells.split_at_mut(chosen * columns);
            above[pivot * columns..(pivot + 1) * columns].swap_with_slice(&mut below[..columns]);
        }
        let scale = galois_8::div(1, self.row(pivot)[pivot]);
        for cell in self.row_mut(pivot) {
            *cell = galois_8::mul(scale, *cell);
        }
        let pivot_row = self.row(pivot).to_vec();
        for index in (0..self.rows()).filter(|&index| index != pivot) {
            let row = self.row_mut(index);
            let factor = row[pivot];
            if factor != 0 {
                add_scaled(row, factor, &pivot_row);
            }
        }
        Some(())
    }
}

/// `sum += factor * row`, cell by cell.
pub(crate) fn add_scaled(sum: &mut [u8], factor: u8, row: &[u8]) {
    assert_eq!(sum.len(), row.len(), "rows of one length are added");
    galois_8::mul_slice_xor(factor, row, sum);
}

/// The images of the eight basis elements 1, 2, 4, ..., 128 under multiplication by `factor`:
/// multiplication is linear over GF(2), so they say everything about it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test))]
pub(crate) fn basis_images(factor: u8) -> [u8; 8] {
    std::array::from_fn(|bit| galois_8::mul(factor, 1 << bit))
}

#[cfg(test)]
mod tests;
