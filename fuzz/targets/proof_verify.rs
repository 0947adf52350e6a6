//! Proofs from anyone against one challenge: `cargo +nightly fuzz run proof_verify`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cairn_proofs::fuzzing::proof_verify(input));
