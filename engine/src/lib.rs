//! The consensus engine: many validators agree on one sequence of blocks.
//!
//! A thin leaf around Commonware's `simplex` and `marshal`. It knows blocks as opaque bytes and
//! the [`Application`] that makes them, votes on them and takes them; no type of the engine leaves it, and it
//! rarely changes, because generating its code is the slowest step of a build
//! (docs/adr/0009-simplex-in-a-leaf.md).
//!
//! Guarantees, while fewer than a third of the validators are faulty: no two validators finalize
//! different blocks at a height; a final block is reported by every honest validator, in order and
//! without a gap, at least once; what was reported stays final through any crash. While more than
//! two thirds are up and can reach each other, blocks go on being made. Each view has a seed that
//! is a threshold signature over the view's number alone: nobody can choose it.
//!
//! Assumes a folder that only one process uses and whose files survive a crash as they were
//! synced. A disk that fails stops the engine.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

pub mod ceremony;
pub mod committee;
pub mod port;

mod adapter;
mod block;
#[cfg(not(test))]
mod real;
mod seeds;
mod stack;
#[cfg(test)]
mod tests;
pub mod threshold;

pub use committee::{Committee, CommitteeError, Dealing, KeyPart, deal, identity};
pub use port::{Application, BoxFuture, Final, Seed, Turn, Vote};
#[cfg(not(test))]
pub use real::{Config, Engine, StartError, Status};
pub use seeds::{SEED_LAG, seed_views};
pub use threshold::SignaturePart;
