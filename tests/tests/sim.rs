//! The simulator: the real code of the whole network through a day of faults.

use cairn_tests::schedule::{DayConfig, DayReport, run_day, run_day_twice};
use cairn_tests::system::setting;

/// Seeds that found something, kept for ever; see `seeds.txt` for what.
const SEEDS: &str = include_str!("seeds.txt");

fn seeds() -> impl Iterator<Item = u64> {
    let lines = SEEDS
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().expect("a seed is a number"))
}

fn assert_busy(report: &DayReport) {
    let tally = report.tally;
    assert!(tally.faults > 20, "{tally:?}");
    assert!(tally.uploads > 10, "{tally:?}");
    assert!(tally.reads > 50, "{tally:?}");
    assert!(tally.proofs > 500, "{tally:?}");
}

/// Forty nodes, a day of 24 epochs: I1, I2, I3, I4, I5 and I9 hold.
#[test]
fn a_day_of_faults_among_forty_nodes() {
    let report = run_day(DayConfig::day(20_261_122));
    assert_busy(&report);
    assert!(report.tally.liars > 3, "{:?}", report.tally);
    println!("{report:?}");
}

/// I10: the same seed gives the same run, another seed another.
#[test]
fn i10_the_same_seed_gives_the_same_run() {
    let first = run_day_twice(DayConfig::hour(1));
    assert_ne!(first.trace, run_day(DayConfig::hour(2)).trace);
}

#[test]
fn seeds_that_found_something_are_quiet_now() {
    for seed in seeds() {
        let report = run_day(DayConfig::hour(seed));
        println!("{seed}: {report:?}");
    }
}

/// `CAIRN_SIM_SEED` and `CAIRN_SIM_HOURS` run a given day; without them a short one.
#[test]
fn sim_by_seed() {
    let seed = u64::try_from(setting("CAIRN_SIM_SEED", 3)).expect("a seed");
    let hours = u64::try_from(setting("CAIRN_SIM_HOURS", 1)).expect("some hours");
    let config = if hours <= 1 {
        DayConfig::hour(seed)
    } else {
        DayConfig {
            length: std::time::Duration::from_secs(hours * 3600),
            ..DayConfig::day(seed)
        }
    };
    println!("{:?}", run_day(config));
}
