//! The pure ledger: apply(state, block) gives state and effects.
