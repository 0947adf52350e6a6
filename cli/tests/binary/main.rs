//! Drives the program itself, as a person or a script would.

#![expect(clippy::unwrap_used, reason = "a failed test")]

mod cairn;
mod dev;
mod init;
mod node;
mod usage;
mod views;
