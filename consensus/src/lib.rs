//! Drives the ledger: orders transactions into blocks and makes them final.
//!
//! Either validators agree on the blocks, each of them a [`Validator`], or one process, the
//! [`Sequencer`], orders everything and is trusted for it (docs/adr/0001-sequencer-before-bft.md).
//! What either is not trusted with is enforced by `ledger`: it can't forge a transaction, spend
//! another's credits or make credits. Everyone else knows it as a [`cairn_ledger::Ledger`] only.

pub mod ceremony;
pub mod sequencer;
pub mod validator;

mod admission;
mod answer;
mod block_log;
mod core;
mod handle;
mod history;
mod mempool;
mod seed;
mod store;

pub use cairn_engine::{KeyPart, SEED_LAG};
pub use sequencer::{Config, OpenError, Sequencer};
pub use validator::{Validator, ValidatorConfig, ValidatorError, ValidatorStatus, deal, key_of};

pub use crate::core::{POLLS_MAX, SUBMISSIONS_MAX};
