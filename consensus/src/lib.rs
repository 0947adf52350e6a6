//! Drives the ledger: orders transactions into blocks and makes them final.
//!
//! For now one process, the [`Sequencer`], orders everything and is trusted for it
//! (docs/adr/0001-sequencer-before-bft.md). What it is not trusted with is enforced by `ledger`:
//! it can't forge a transaction, spend another's credits or make credits. Everyone else knows it
//! as a [`cairn_ledger::Ledger`] only, so that an engine of many validators can take its place.

pub mod sequencer;

mod admission;
mod block_log;
mod history;
mod mempool;
mod seed;
mod store;

pub use sequencer::{Config, OpenError, Sequencer};
