//! The library's field and generator against the specification, computed here a second time.

use cairn_core::Profile;

use super::*;

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, bit by bit: nothing of the library.
fn product(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |sum: u8, bit| {
        let carry = if sum & 0x80 == 0 { 0 } else { 0x1d };
        let addend = if b >> bit & 1 == 1 { a } else { 0 };
        sum << 1 ^ carry ^ addend
    })
}

fn power(base: u8, exponent: usize) -> u8 {
    (0..exponent).fold(1, |result, _| product(result, base))
}

/// The Vandermonde matrix of docs/protocol/coding.md#matrix.
fn vandermonde(rows: usize, columns: usize) -> Matrix {
    let mut matrix = Matrix::zeros(rows, columns);
    for row in 0..rows {
        for (column, cell) in matrix.row_mut(row).iter_mut().enumerate() {
            *cell = power(u8::try_from(row).unwrap(), column);
        }
    }
    matrix
}

fn multiply(left: &Matrix, right: &Matrix) -> Matrix {
    let mut result = Matrix::zeros(left.rows(), right.columns);
    for row in 0..left.rows() {
        for column in 0..right.columns {
            let terms = left.row(row).iter().enumerate();
            result.row_mut(row)[column] = terms.fold(0, |sum, (index, &cell)| {
                sum ^ product(cell, right.row(index)[column])
            });
        }
    }
    result
}

fn identity(size: usize) -> Matrix {
    let mut matrix = Matrix::zeros(size, size);
    for index in 0..size {
        matrix.row_mut(index)[index] = 1;
    }
    matrix
}

fn top(matrix: &Matrix) -> Matrix {
    let size = matrix.columns;
    Matrix {
        columns: size,
        cells: matrix.cells[..size * size].to_vec(),
    }
}

/// The generator G of the specification is the only matrix with `G V[0..k] = V`.
fn assert_is_specified(code: Code) {
    let generator = Matrix::generator(code);
    let vandermonde = vandermonde(code.shard_count(), code.data_count());
    assert_eq!(
        top(&generator),
        identity(code.data_count()),
        "{code} is systematic"
    );
    assert_eq!(
        multiply(&generator, &top(&vandermonde)),
        vandermonde,
        "{code}"
    );
}

#[test]
fn the_librarys_field_is_the_specified_one() {
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            assert_eq!(galois_8::mul(a, b), product(a, b), "{a} * {b}");
        }
    }
}

#[test]
fn generators_are_the_specified_ones() {
    for profile in Profile::ALL {
        assert_is_specified(profile.code());
    }
    for n in 2..=16 {
        for k in 1..n {
            assert_is_specified(Code::new(k, n).unwrap());
        }
    }
    for (k, n) in [(1, 128), (64, 128), (127, 128)] {
        assert_is_specified(Code::new(k, n).unwrap());
    }
}

#[test]
fn an_inverse_undoes_its_matrix() {
    for size in [1, 2, 3, 20, 64] {
        let matrix = vandermonde(size, size);
        let inverse = matrix.inverse().unwrap();
        assert_eq!(multiply(&matrix, &inverse), identity(size));
        assert_eq!(multiply(&inverse, &matrix), identity(size));
    }
}

#[test]
fn a_pivot_is_found_below_a_zero() {
    let swap = Matrix {
        columns: 2,
        cells: vec![0, 1, 1, 0],
    };
    assert_eq!(swap.inverse().unwrap(), swap);
}

#[test]
fn a_singular_matrix_has_no_inverse() {
    for cells in [vec![0, 0, 0, 0], vec![1, 2, 1, 2], vec![0, 1, 0, 3]] {
        assert_eq!(Matrix { columns: 2, cells }.inverse(), None);
    }
}

#[test]
fn basis_images_add_up_to_every_product() {
    for factor in 0..=u8::MAX {
        let images = basis_images(factor);
        for byte in 0..=u8::MAX {
            let chosen = (0..8).filter(|bit| byte >> bit & 1 == 1);
            let sum = chosen.fold(0, |sum, bit| sum ^ images[bit]);
            assert_eq!(sum, galois_8::mul(factor, byte));
        }
    }
}
