//! Bytes and proofs of ranges from anyone: `cargo +nightly fuzz run range_verify`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cairn_proofs::fuzzing::range_verify(input));
