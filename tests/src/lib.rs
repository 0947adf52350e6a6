//! The whole network under test: simulator, adversaries, checkers.
//!
//! [`Cluster`] is the one way to get a network in a test: machines of a simulated world that run
//! the real ledger, nodes and clients. Tests with real processes and sockets are in `tests/`.

pub mod adversary;
pub mod cluster;
pub mod content;
pub mod detection;
pub mod roots;
pub mod scene;
pub mod schedule;
pub mod system;
pub mod validators;
pub mod wages;
pub mod watch;
pub mod wire;

pub use cluster::{Cluster, ClusterClient, ClusterConfig};
