//! How much traffic may be spent on hedging.

use std::sync::{Mutex, PoisonError};

/// Hedges may be spent before anything was read: one reconstruction of a 64 KiB range at the
/// standard code, and some.
const FIRST_BYTES: u64 = 4 << 20;
/// Most that is saved up.
const SAVED_BYTES_MAX: u64 = 64 << 20;
/// One byte of hedging for so many bytes read.
const READ_PER_HEDGE: u64 = 8;

/// A bucket of bytes: filled by what is read, emptied by hedges. When it is empty, a slow answer
/// is waited for longer.
#[derive(Debug)]
pub(crate) struct HedgeBudget {
    bytes: Mutex<u64>,
}

impl Default for HedgeBudget {
    fn default() -> Self {
        Self {
            bytes: Mutex::new(FIRST_BYTES),
        }
    }
}

impl HedgeBudget {
    /// So many bytes were read.
    pub(crate) fn earn(&self, read: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes = bytes
            .saturating_add(read / READ_PER_HEDGE)
            .min(SAVED_BYTES_MAX);
    }

    /// Whether a hedge of so many bytes may be sent; it is then spent.
    pub(crate) fn spend(&self, hedge: u64) -> bool {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *bytes < hedge {
            return false;
        }
        *bytes -= hedge;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_cost_an_eighth_at_most() {
        let budget = HedgeBudget::default();
        assert!(budget.spend(FIRST_BYTES));
        assert!(!budget.spend(1));
        budget.earn(8_000);
        assert!(budget.spend(1_000));
        assert!(!budget.spend(1));
    }
}
