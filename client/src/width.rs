//! Widths of numbers between formats, which have 32 bits, and memory, which has at least as many.

/// A wire number as an index. Never fails: this software needs 32 bits of address at least.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("usize has at least 32 bits")
}

/// A size in memory as a 64-bit count. Never fails: no machine has wider memory.
pub(crate) fn wide(size: usize) -> u64 {
    u64::try_from(size).expect("usize has at most 64 bits")
}
