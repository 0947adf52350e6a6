//! Plans: which sums of the given shards make the wanted ones, prepared for a kernel.

use cairn_core::SlotIndex;

use crate::kernel::{Group, Kernel};
use crate::matrix::{Matrix, add_scaled};

/// Rows of factors, cut into groups that a kernel computes in one pass over the inputs.
#[derive(Debug)]
pub(crate) struct Plan {
    kernel: Kernel,
    input_count: usize,
    output_count: usize,
    groups: Vec<Group>,
}

impl Plan {
    /// A plan with one output per row; every row has one factor per input.
    pub(crate) fn new(kernel: Kernel, rows: &[&[u8]]) -> Self {
        let input_count = rows.first().map_or(0, |row| row.len());
        assert!(input_count > 0, "a plan has an output and an input");
        // Groups of nearly equal size: 20 rows at 12 a pass go as 10 and 10, not 12 and 8.
        let group_count = rows.len().div_ceil(kernel.rows_max());
        let rows_per_group = rows.len().div_ceil(group_count);
        Self {
            kernel,
            input_count,
            output_count: rows.len(),
            groups: rows
                .chunks(rows_per_group)
                .map(|rows| Group::new(kernel, rows))
                .collect(),
        }
    }

    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(crate) fn input_count(&self) -> usize {
        self.input_count
    }

    pub(crate) fn output_count(&self) -> usize {
        self.output_count
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }
}

/// Factors that make each of `wanted` from `sources`: k different slots in rising order, so that
/// data shards come first. Row r has one factor per source.
///
/// With D the data shards among the sources, L those that are missing and P the parity shards
/// that stand in for them (as many), every source in P says
/// `shard[P] = G[P, D] shard[D] + G[P, L] shard[L]`, and so with B the inverse of `G[P, L]`
/// `shard[L] = B (shard[P] + G[P, D] shard[D])`. Only B has to be computed, whose size is the
/// number of missing data shards and not k.
pub(crate) fn factors(generator: &Matrix, sources: &[SlotIndex], wanted: &[SlotIndex]) -> Matrix {
    let k = sources.len();
    let data_count = sources.partition_point(|slot| slot.index() < k);
    let (data, parity) = sources.split_at(data_count);
    let missing: Vec<usize> = (0..k)
        .filter(|&index| {
            data.binary_search_by_key(&index, |slot| slot.index())
                .is_err()
        })
        .collect();
    assert_eq!(
        missing.len(),
        parity.len(),
        "k sources: a parity for each missing data shard"
    );
    let inverse = (!missing.is_empty()).then(|| {
        let mut square = Matrix::zeros(missing.len(), missing.len());
        for (index, slot) in parity.iter().enumerate() {
            let row = generator.row(slot.index());
            for (cell, &column) in square.row_mut(index).iter_mut().zip(&missing) {
                *cell = row[column];
            }
        }
        square
            .inverse()
            .expect("any k rows of the generator are independent, docs/protocol/coding.md#matrix")
    });
    let mut factors = Matrix::zeros(wanted.len(), k);
    for (index, slot) in wanted.iter().enumerate() {
        let target = generator.row(slot.index());
        // The row as a sum of data shards, with the missing ones replaced by their sums.
        let mut by_parity = vec![0; missing.len()];
        if let Some(inverse) = &inverse {
            for (row, &column) in missing.iter().enumerate() {
                add_scaled(&mut by_parity, target[column], inverse.row(row));
            }
        }
        let mut by_data = target.to_vec();
        for (&factor, slot) in by_parity.iter().zip(parity) {
            add_scaled(&mut by_data, factor, generator.row(slot.index()));
        }
        let row = factors.row_mut(index);
        for (cell, slot) in row.iter_mut().zip(data) {
            *cell = by_data[slot.index()];
        }
        row[data_count..].copy_from_slice(&by_parity);
    }
    factors
}
