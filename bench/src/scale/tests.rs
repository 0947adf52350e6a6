//! The short forms.

use super::churn;
use super::week::{self, simulate};

/// Five hours of 60 nodes: every proof is real and valid, and history stays within its goal for so
/// many nodes, each of which has 25 KB of the day's 10 MB.
#[test]
fn a_small_network_proves_and_its_history_is_small() {
    let settings = week::Settings {
        node_count: 60,
        terabytes: 4,
        hours: 5,
        revised: 2,
    };
    let outcome = simulate(&settings).expect("a simulation");
    assert_eq!(outcome.proven, 5 * 60);
    assert!(outcome.slot_bytes >= 4_000_000_000_000);
    assert!(outcome.tally.witness_bytes_max <= 70_000);
    let of_day = outcome.tally.bytes * 24 / 5;
    assert!(of_day <= 60 * 25_000, "{of_day} bytes of history a day");
}

/// Half a year of nodes that live for three months: the ledger has lost slots rebuilt in time, and not
/// before enough are missing; leaving in order moves less.
#[test]
fn nodes_come_and_go_and_no_group_is_lost() {
    let settings = churn::Settings {
        node_count: 60,
        group_count: 5,
        life: 2_190,
        graceful_percent: 0,
        warm_up: 400,
        hours: 4_000,
    };
    let silent = churn::simulate(&settings).expect("a simulation");
    assert!(silent.silent > 60 && silent.draining == 0);
    assert!(silent.rebuilt > 100 && silent.copied == 0);
    assert!(silent.lost.is_empty());
    assert!(silent.part_at_most(34) > 0.1, "repair waits");
    assert!(silent.part_at_most(27) < 0.1, "and comes");
    assert!(silent.moved() < silent.moved_if_alone() / 1.5);
    let graceful = churn::simulate(&churn::Settings {
        graceful_percent: 100,
        ..settings
    })
    .expect("a simulation");
    assert!(graceful.draining > 60 && graceful.silent == 0);
    assert!(graceful.copied > 200 && graceful.lost.is_empty());
    assert!(graceful.moved_if_alone() < silent.moved_if_alone() / 4.0);
}
