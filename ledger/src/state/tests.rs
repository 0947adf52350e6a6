//! The rules, on a ledger at work.

mod audits;
mod bounties;
mod epochs;
mod exhaustive;
mod model;
mod money;
mod pages;
mod pay;
mod prover;
mod races;
mod reclaim;
mod refusals;
mod registry;
mod repair;
mod seeds;
mod slots;
mod stale;
mod storage;
mod sweep;
mod term;
mod views;
