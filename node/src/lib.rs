//! Keeps slots durable, serves them, catches up.
