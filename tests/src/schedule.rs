//! A day in the life of a network: owners upload, read and remove while machines fail, within the
//! bounds that the promises allow; checkers look at the whole.
//!
//! The fault model is [`IMPAIRED_MAX`]: at no time are more nodes impaired - down, parted, wiped,
//! damaged, lying, or lagging by the ledger - than a group of the narrowest code can lose. Within it
//! every acknowledged byte must be readable (I1), nothing wrong may ever be read (I2), every slot
//! must end at its committed root (I3), credits are conserved after every block (I4), every node
//! that is up and has lost nothing proves every epoch, is paid for it and keeps its collateral (I5), and
//! nothing grows beyond its bound (I9).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_client::Link;
use cairn_core::{GroupId, Profile};
use cairn_runtime::Sim;
use cairn_runtime::sim::TraceEvent;

use crate::cluster::{Cluster, ClusterConfig};
use crate::content::Content;

mod actors;
mod check;
mod faults;

/// Nodes impaired at once at most: n - k of the narrowest code in use, 4-of-8.
pub const IMPAIRED_MAX: usize = 4;
/// Codes of the owners, one owner each: the narrowest, and one with nodes to spare for redraws.
const PROFILES: [Profile; 2] = [Profile::Dev8, Profile::Compact];
/// How many events are shown before the first in which two runs differ.
const EVENTS_SHOWN: usize = 12;
/// Files kept at most; the oldest is removed beyond.
const FILES_MAX: usize = 40;

/// What a day consists of.
#[derive(Clone, Copy, Debug)]
pub struct DayConfig {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How long the faults go on.
    pub length: Duration,
    /// Mean time between two faults.
    pub fault_gap: Duration,
    /// Mean time between two uploads of one owner.
    pub upload_gap: Duration,
    /// Mean time between two reads.
    pub read_gap: Duration,
    /// Largest file.
    pub file_bytes_max: usize,
    /// Length of an epoch.
    pub epoch: Duration,
}

impl DayConfig {
    /// Forty nodes for a day.
    #[must_use]
    pub const fn day(seed: u64) -> Self {
        Self {
            seed,
            nodes: 40,
            length: Duration::from_secs(24 * 3600),
            fault_gap: Duration::from_secs(600),
            upload_gap: Duration::from_secs(1200),
            read_gap: Duration::from_secs(240),
            file_bytes_max: 1 << 20,
            epoch: Duration::from_secs(3600),
        }
    }

    /// Everything that a day has, in an hour.
    #[must_use]
    pub const fn hour(seed: u64) -> Self {
        Self {
            length: Duration::from_secs(3600),
            fault_gap: Duration::from_secs(60),
            upload_gap: Duration::from_secs(120),
            read_gap: Duration::from_secs(30),
            epoch: Duration::from_secs(360),
            ..Self::day(seed)
        }
    }
}

/// What happened in a day, for people and for the test's own sanity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults that were injected.
    pub faults: u32,
    /// Uploads that succeeded.
    pub uploads: u32,
    /// Uploads that failed with an error of the network, as they may while nodes are impaired.
    pub uploads_failed: u32,
    /// Uploads that were cut off by a crash of the owner's machine.
    pub uploads_cut: u32,
    /// Reads that gave the right bytes.
    pub reads: u32,
    /// Files removed.
    pub removals: u32,
    /// Slots that the ledger was made to give to another node.
    pub redrawn: u32,
    /// Nodes that lied for a while.
    pub liars: u32,
    /// How often a node that was up and had lost nothing had to prove an epoch, and did.
    pub proofs: u32,
}

/// A day that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayReport {
    /// What happened.
    pub tally: Tally,
    /// Digest of everything that happened: equal for equal seeds (I10).
    pub trace: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
}

/// A file that was acknowledged.
#[derive(Clone, Debug)]
struct Stored {
    link: Link,
    content: Content,
    owner: usize,
}

/// What the actors of a day know.
#[derive(Debug, Default)]
struct Known {
    files: Vec<Stored>,
    groups: Vec<GroupId>,
    tally: Tally,
    ended: bool,
}

/// What the actors of a day share.
#[derive(Clone, Debug, Default)]
struct Board(Arc<Mutex<Known>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

/// Runs a day. Panics with what was violated and the line that reproduces it.
///
/// # Panics
///
/// When an invariant is violated.
#[must_use]
pub fn run_day(config: DayConfig) -> DayReport {
    run_in(&Sim::new(config.seed), config)
}

/// Runs a day twice: every event of one is an event of the other (I10).
///
/// # Panics
///
/// When an invariant is violated, or the runs differ: with the first event in which they do.
#[must_use]
pub fn run_day_twice(config: DayConfig) -> DayReport {
    let [(report, first), (again, second)] = [(), ()].map(|()| {
        let sim = Sim::new(config.seed);
        sim.keep_events(usize::MAX);
        (run_in(&sim, config), sim.take_events())
    });
    let _line = Reproduce(config);
    assert_same(&first, &second);
    assert_eq!(report, again, "I10: equal events, unequal reports");
    report
}

/// Compares the events of two runs.
fn assert_same(first: &[TraceEvent], second: &[TraceEvent]) {
    let longer = first.len().max(second.len());
    let Some(at) = (0..longer).find(|at| first.get(*at) != second.get(*at)) else {
        return;
    };
    let show = |event: Option<&TraceEvent>| {
        event.map_or_else(|| "the end".to_owned(), ToString::to_string)
    };
    let before: Vec<String> = first[at.saturating_sub(EVENTS_SHOWN)..at]
        .iter()
        .map(ToString::to_string)
        .collect();
    panic!(
        "I10: the runs differ from event {at} on\n  {}\nthen, once: {}\nand again:  {}",
        before.join("\n  "),
        show(first.get(at)),
        show(second.get(at)),
    );
}

fn run_in(sim: &Sim, config: DayConfig) -> DayReport {
    let _line = Reproduce(config);
    sim.run(async |sim| {
        let with_epochs = ClusterConfig::with_epochs(config.nodes, config.epoch);
        let mut cluster = Cluster::start(sim.clone(), with_epochs).await;
        let board = Board::default();
        let supply = check::supply(&cluster).await;
        let owners = actors::start(&cluster, &board, config);
        faults::inject(&mut cluster, &board, &owners, config).await;
        board.lock().ended = true;
        faults::mend_all(&mut cluster, &owners).await;
        actors::finish(owners).await;
        check::quiet(&cluster, &board).await;
        check::roots(&cluster, &board).await;
        check::bounds(&cluster);
        check::money(&cluster).await;
        check::survivors(&mut cluster, &board, config.seed).await;
        assert_eq!(
            check::supply(&cluster).await,
            supply,
            "I4: the supply changed"
        );
        let mut tally = board.lock().tally;
        tally.proofs = cluster.watch.findings().honest_proofs;
        DayReport {
            tally,
            trace: sim.trace_digest(),
            elapsed: sim.elapsed(),
        }
    })
}

/// Prints, when the test fails, the one line that runs the same day again.
struct Reproduce(DayConfig);

impl Drop for Reproduce {
    #[expect(clippy::print_stderr, reason = "a failing test's output")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(config) = self;
            let (seed, hours) = (config.seed, config.length.as_secs() / 3600);
            eprintln!(
                "reproduce: CAIRN_SIM_SEED={seed} CAIRN_SIM_HOURS={hours} \
                 cargo nextest run -p cairn-tests sim_by_seed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(words: &[u64]) -> Vec<TraceEvent> {
        let sim = Sim::new(1);
        sim.keep_events(usize::MAX);
        words
            .iter()
            .for_each(|word| sim.note("event", &[*word], b"bytes"));
        sim.take_events()
    }

    #[test]
    #[should_panic(
        expected = "event 2 on\n  0ns event 1 \"bytes\"\n  0ns event 2 \"bytes\"\n\
                               then, once: 0ns event 3 \"bytes\"\nand again:  the end"
    )]
    fn the_first_event_that_differs_is_shown() {
        assert_same(&events(&[1, 2, 3]), &events(&[1, 2]));
    }

    #[test]
    fn equal_runs_are_equal() {
        assert_same(&events(&[1, 2, 3]), &events(&[1, 2, 3]));
    }
}
