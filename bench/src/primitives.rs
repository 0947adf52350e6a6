//! Each primitive alone: what the whole path is compared with.

pub mod cipher;
pub mod coding;
pub mod proofs;
pub mod store;
pub mod transport;

use std::time::Duration;

/// GB (10^9 bytes) a CPU-second.
#[must_use]
pub fn gigabytes_per_second(bytes: usize, time: Duration) -> f64 {
    let bytes = u32::try_from(bytes).map_or(f64::INFINITY, f64::from);
    bytes / 1e9 / time.as_secs_f64()
}
