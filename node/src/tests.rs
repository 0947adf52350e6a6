//! Nodes, a ledger and a client in a simulated world.

mod adversary;
mod catch_up;
mod cluster;
mod details;
mod partners;
mod past;
mod proving;
mod serving;
