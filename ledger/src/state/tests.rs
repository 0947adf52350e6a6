//! The rules, on a ledger at work.

mod epochs;
mod exhaustive;
mod model;
mod money;
mod pay;
mod prover;
mod races;
mod refusals;
mod registry;
mod repair;
mod slots;
mod storage;
mod views;
