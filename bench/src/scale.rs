//! The ledger at the scale of a network: what a week of it costs, and what its repair moves.
//!
//! Both drive the real [`cairn_ledger::State`] with real blocks of signed transactions. What a
//! shard holds follows from a seed; nothing is sent or stored.

pub mod churn;
mod content;
mod network;
mod tally;
#[cfg(test)]
mod tests;
pub mod week;

/// A count as a real number; exact up to 2^53.
pub(crate) fn real(count: u64) -> f64 {
    let part = |bits: u64| f64::from(u32::try_from(bits).unwrap_or(u32::MAX));
    part(count >> 32) * 4_294_967_296.0 + part(count & 0xffff_ffff)
}

/// A length as a count.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
