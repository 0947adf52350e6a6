//! The rules, on a ledger at work.

mod exhaustive;
mod model;
mod refusals;
mod slots;
mod storage;
