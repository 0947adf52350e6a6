//! Keeps slots durable, serves them, catches up.
//!
//! ```text
//!  peers: put, get, records --> serve --> store: packs, one sync per batch
//!  peers: revise, detail, slot -> control -> store: reach a revision
//!  peers: audit -> audit: show a block to whom the ledger drew for us
//!  ledger: blocks -> follow -> look at a slot -> catch up -> acknowledge
//! ```
//!
//! [`start`] opens the store and runs a node over any [`cairn_runtime::Runtime`],
//! [`cairn_net::Network`] and [`cairn_ledger::Ledger`]; [`NodeHandle`] is how its operator sees
//! it. Start reading at [`store`] for what is on the disk, and at `follow` for what a node does.

pub mod config;
pub mod store;

mod access;
mod acknowledge;
mod audit;
mod catch_up;
mod control;
mod core;
mod follow;
mod groups;
mod maintain;
mod memory;
mod node;
mod prove;
mod publish;
mod reclaim;
mod seen_height;
mod serve;
mod status;
#[cfg(test)]
mod tests;

pub use config::{LedgerServer, NodeConfig, Pacing};
pub use maintain::ScrubReport;
pub use node::{NodeError, NodeHandle, start};
pub use seen_height::SeenHeightError;
pub use status::{Holding, NodeStatus, SlotLag};
