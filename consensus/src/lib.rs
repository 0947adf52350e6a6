//! Drives the ledger: orders transactions into blocks.
