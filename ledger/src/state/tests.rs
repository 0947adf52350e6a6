//! The rules, on a ledger at work.

mod epochs;
mod exhaustive;
mod model;
mod pay;
mod prover;
mod races;
mod refusals;
mod slots;
mod storage;
mod views;
