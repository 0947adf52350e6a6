//! The one binary: `cairn`.
fn main() {}
