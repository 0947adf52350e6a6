//! Measurements: primitives alone and the whole path.
//!
//! Every measurement is a function that returns a [`Report`](report::Report); the binary prints it.
//! Figures are recorded by hand in `bench/results/`, with the command, the machine and the date.

pub mod cpu_time;
pub mod e2e;
pub mod primitives;
pub mod report;
pub mod scale;
