//! Transactions and blocks from anyone.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cairn_ledger::fuzzing::ledger_apply(input));
