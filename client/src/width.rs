//! Widths of numbers between formats, which have 32 bits, and memory, which has at least as many.

/// A wire number as an index. Never fails: this software needs 32 bits of address at least.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("usize has at least 32 bits")
}
