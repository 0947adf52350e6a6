//! Keeps slots durable, serves them, catches up.

pub mod store;
