//! Tests of the shard store: laws, a reference model, crashes and faults at every disk call.

mod crash;
mod damage;
mod fixture;
mod model;
mod proofs;
mod real_disk;
mod room;
mod rules;
mod vectors;
