//! Every kernel against the definition of the sum and against the portable kernel.

use proptest::prelude::*;

use super::*;
use crate::columns;
use crate::plan::Plan;

/// Column counts around every vector, step and block size of every kernel.
const COLUMN_COUNTS: [usize; 26] = [
    0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 4095,
    4097, 16_383, 16_384, 16_385, 33_000,
];

/// Bytes that differ between seeds and have no short period.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = u64::try_from(seed)
        .unwrap()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// The sum by definition, byte by byte.
fn expected(row: &[u8], inputs: &[&[u8]], column: usize) -> u8 {
    let terms = row.iter().zip(inputs);
    terms.fold(0, |sum, (&factor, input)| {
        sum ^ galois_8::mul(factor, input.get(column).copied().unwrap_or(0))
    })
}

fn run(kernel: Kernel, rows: &[Vec<u8>], inputs: &[&[u8]], columns: usize) -> Vec<Vec<u8>> {
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    let mut outputs = vec![vec![0xa5; columns]; rows.len()];
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    columns::apply(&Plan::new(kernel, &rows), inputs, columns, &mut slices);
    outputs
}

fn assert_sums(rows: &[Vec<u8>], inputs: &[&[u8]], columns: usize) {
    for kernel in Kernel::available() {
        let outputs = run(kernel, rows, inputs, columns);
        for (row, output) in rows.iter().zip(&outputs) {
            for (column, byte) in output.iter().enumerate() {
                assert_eq!(
                    *byte,
                    expected(row, inputs, column),
                    "{kernel}, column {column}"
                );
            }
        }
    }
}

#[test]
fn the_portable_kernel_is_always_there() {
    let available = Kernel::available();
    assert_eq!(available.last(), Some(&Kernel::PORTABLE));
    assert_eq!(available.first(), Some(&Kernel::best()));
    assert_eq!(Kernel::default(), Kernel::best());
}

#[test]
fn every_factor_times_every_byte() {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    for kernel in Kernel::available() {
        for factor in 0..=u8::MAX {
            let products = run(kernel, &[vec![factor]], &[&bytes], bytes.len());
            for (byte, product) in bytes.iter().zip(&products[0]) {
                assert_eq!(
                    *product,
                    galois_8::mul(factor, *byte),
                    "{kernel}: {factor} * {byte}"
                );
            }
        }
    }
}

#[test]
fn every_column_count_and_number_of_rows() {
    for columns in COLUMN_COUNTS {
        let inputs: Vec<Vec<u8>> = (0..3).map(|index| noise(index, columns)).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        // From one row to one more than the widest kernel takes in a pass.
        for count in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] {
            let rows: Vec<Vec<u8>> = (0..count).map(|row| noise(100 + row, 3)).collect();
            assert_sums(&rows, &inputs, columns);
        }
    }
}

#[test]
fn the_most_inputs_and_rows() {
    let inputs: Vec<Vec<u8>> = (0..127).map(|index| noise(index, 1500)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let rows: Vec<Vec<u8>> = (0..127).map(|row| noise(1000 + row, 127)).collect();
    assert_sums(&rows, &inputs, 1500);
}

#[test]
fn a_group_beyond_the_kernel_is_refused() {
    for kernel in Kernel::available() {
        let row: &[u8] = &[1, 2];
        let rows = vec![row; kernel.rows_max() + 1];
        assert!(std::panic::catch_unwind(|| Group::new(kernel, &rows)).is_err());
    }
}

/// Lanes and outputs that differ in length, or are no whole steps, must stop the kernel: it would
/// read or write past an end.
#[test]
fn lengths_that_do_not_match_are_refused() {
    for kernel in Kernel::available() {
        let step = kernel.step_bytes();
        let group = Group::new(kernel, &[&[7, 8], &[9, 10]]);
        let run = |lanes: [usize; 2], outputs: [usize; 2]| {
            let lanes = lanes.map(|length| vec![1; length]);
            let mut outputs = outputs.map(|length| vec![0; length]);
            let [a, b] = &mut outputs;
            group.run(&[&lanes[0], &lanes[1]], &mut [a, b]);
        };
        run([step, step], [step, step]);
        run([0, 0], [0, 0]);
        for (lanes, outputs) in [
            ([step, 2 * step], [step, step]),
            ([step, step], [2 * step, 2 * step]),
            ([2 * step, 2 * step], [step, step]),
            ([2 * step, 2 * step], [2 * step, step]),
            ([2 * step, 2 * step], [step, 2 * step]),
        ] {
            let refused = std::panic::catch_unwind(|| run(lanes, outputs));
            assert!(refused.is_err(), "{kernel}: {lanes:?} {outputs:?}");
        }
        let part = step + 1;
        let refused = std::panic::catch_unwind(|| run([part; 2], [part; 2]));
        assert_eq!(refused.is_err(), step > 1, "{kernel}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The twin test of every unsafe kernel: any shape, any alignment, inputs and outputs that
    /// end early.
    #[test]
    fn kernels_agree_with_the_portable_one(
        seed in 0..1_000_000_usize,
        input_count in 1..24_usize,
        row_count in 1..30_usize,
        columns in prop_oneof![1..600_usize, 1..40_000_usize],
        offset in 0..64_usize,
        lacking in 0..300_usize,
    ) {
        let buffers: Vec<Vec<u8>> =
            (0..input_count).map(|index| noise(seed + index, offset + columns)).collect();
        let mut inputs: Vec<&[u8]> = buffers.iter().map(|buffer| &buffer[offset..]).collect();
        let last = inputs[input_count - 1];
        inputs[input_count - 1] = &last[..columns.saturating_sub(lacking)];
        let rows: Vec<Vec<u8>> =
            (0..row_count).map(|row| noise(seed + 500 + row, input_count)).collect();
        let twin = run(Kernel::PORTABLE, &rows, &inputs, columns);
        for kernel in Kernel::available() {
            let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
            let mut outputs = vec![vec![0x5a; offset + columns]; rows.len()];
            let short = columns.saturating_sub(lacking * 2);
            let mut slices: Vec<&mut [u8]> = outputs
                .iter_mut()
                .enumerate()
                .map(|(row, output)| {
                    let end = if row == row_count / 2 { short } else { columns };
                    &mut output[offset..offset + end]
                })
                .collect();
            columns::apply(&Plan::new(kernel, &rows), &inputs, columns, &mut slices);
            for (slice, twin) in slices.iter().zip(&twin) {
                prop_assert_eq!(&slice[..], &twin[..slice.len()], "{}", kernel);
            }
            for (row, output) in outputs.iter().enumerate() {
                let end = if row == row_count / 2 { short } else { columns };
                let beside = output[..offset].iter().chain(&output[offset + end..]);
                prop_assert!(beside.clone().all(|&byte| byte == 0x5a), "{} wrote beside", kernel);
            }
        }
    }
}
