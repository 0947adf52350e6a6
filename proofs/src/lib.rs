//! Slot tree, group root, BLAKE3 slices, challenges, proofs and their verification.
