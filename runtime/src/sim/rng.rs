//! A small deterministic generator for the choices of the simulated world.
//!
//! Not for keys: machines draw those from [`crate::Runtime::fill`].

use std::time::Duration;

/// `SplitMix64`: every seed gives another full-period stream.
#[derive(Clone, Debug)]
pub struct SimRng {
    state: u64,
}

impl SimRng {
    /// The stream of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of a seed and a label: labels keep users of one seed apart, so that one drawing
    /// more does not move the others.
    #[must_use]
    pub fn labelled(seed: u64, label: &str) -> Self {
        let mut rng = Self::new(seed);
        for byte in label.bytes() {
            rng.state ^= u64::from(byte);
            let _mixed = rng.next_u64();
        }
        Self::new(rng.next_u64())
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, near enough uniform for faults.
    ///
    /// # Panics
    ///
    /// When `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        self.next_u64() % bound
    }

    /// An index below `count`.
    ///
    /// # Panics
    ///
    /// When `count` is 0.
    pub fn index(&mut self, count: usize) -> usize {
        let bound = u64::try_from(count).expect("usize fits in u64 on our systems");
        usize::try_from(self.below(bound)).expect("below a usize")
    }

    /// True in `per_million` of a million cases.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// A time from 0 up to and with `most`, in microseconds.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.below(micros.saturating_add(1)))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_and_differ_by_seed_and_label() {
        let draw = |mut rng: SimRng| [rng.next_u64(), rng.next_u64()];
        // From the reference implementation at seed 1234567.
        assert_eq!(
            draw(SimRng::new(1_234_567)),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
        assert_ne!(
            draw(SimRng::labelled(1, "one")),
            draw(SimRng::labelled(1, "two"))
        );
        assert_ne!(
            draw(SimRng::labelled(1, "one")),
            draw(SimRng::labelled(2, "one"))
        );
        assert_eq!(
            draw(SimRng::labelled(1, "one")),
            draw(SimRng::labelled(1, "one"))
        );
    }

    #[test]
    fn bounds_hold() {
        let mut rng = SimRng::new(1);
        for bound in 1..200 {
            assert!(rng.below(bound) < bound);
        }
        assert!(!rng.chance(0));
        assert!(rng.chance(1_000_000));
        assert_eq!(rng.up_to(Duration::ZERO), Duration::ZERO);
        let mut bytes = [0; 13];
        rng.fill(&mut bytes);
        assert_ne!(bytes, [0; 13]);
    }
}
