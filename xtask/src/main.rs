//! The project's own checks and tasks.
fn main() {}
