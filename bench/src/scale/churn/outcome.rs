//! What was moved, and how many slots the groups had.

use std::collections::BTreeSet;

use cairn_core::GroupId;

use super::peers::Ended;
use super::{CATCH_UP_EPOCHS, EPOCH_HOURS, K, N, Settings};
use crate::report::Report;
use crate::scale::{count, real};

/// Most nodes that share one read (`docs/protocol/catch-up.md`, step 3).
const COMPANY: u64 = 8;
/// Hours of a month.
const MONTH: f64 = 730.0;

/// What happened in the time that is measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    settings: Settings,
    /// Nodes that stopped without notice.
    pub(crate) silent: u64,
    /// Nodes that began to drain.
    pub(crate) draining: u64,
    /// Slots that a node rebuilt from k others.
    pub(crate) rebuilt: u64,
    /// Slots that a node copied from one that left.
    pub(crate) copied: u64,
    /// Slots that were read and passed on: the nodes that rebuild slots of one group at the same time
    /// share one read of k.
    pub(crate) shared: u64,
    /// How often some slots of a group were rebuilt at the same time.
    pub(crate) batches: u64,
    /// Groups that had fewer than k slots.
    pub(crate) lost: BTreeSet<GroupId>,
    /// For each number of slots, how often a group had so many at the end of an epoch.
    pub(crate) whole: [u64; N + 1],
    /// Most nodes at a time, those that drain included.
    pub(crate) nodes_most: u64,
}

impl Outcome {
    /// Nothing yet.
    pub(crate) const fn new(settings: &Settings) -> Self {
        Self {
            settings: *settings,
            silent: 0,
            draining: 0,
            rebuilt: 0,
            copied: 0,
            shared: 0,
            batches: 0,
            lost: BTreeSet::new(),
            whole: [0; N + 1],
            nodes_most: 0,
        }
    }

    pub(super) const fn note_ended(&mut self, ended: &Ended) {
        self.silent += ended.silent;
        self.draining += ended.draining;
    }

    /// Numbers of slots of each group that were rebuilt at the same time: of each company, every
    /// shard of k slots is read once, and what it gives is passed to all but the one who read it.
    pub(super) fn note_rebuilds(&mut self, counts: impl Iterator<Item = u64>) {
        for rebuilt in counts {
            let companies = rebuilt.div_ceil(COMPANY);
            self.shared += companies * count(K) + rebuilt - companies;
            self.batches += 1;
        }
    }

    pub(super) fn note_whole(&mut self, group: GroupId, whole: usize) {
        if let Some(times) = self.whole.get_mut(whole) {
            *times += 1;
        }
        if whole < K {
            self.lost.insert(group);
        }
    }

    /// Fewest slots that a group had.
    pub(crate) fn fewest(&self) -> usize {
        let found = self.whole.iter().position(|times| *times > 0);
        found.unwrap_or(N)
    }

    /// Part of the groups' time in which they had at most so many slots.
    pub(crate) fn part_at_most(&self, whole: usize) -> f64 {
        let all: u64 = self.whole.iter().sum();
        let at_most: u64 = self.whole.iter().take(whole + 1).sum();
        real(at_most) / real(all.max(1))
    }

    /// TB read in a month for each TB of user data, for so many slots.
    fn traffic(&self, slots: u64) -> f64 {
        let stored = f64::from(self.settings.group_count) * real(count(K));
        real(slots) / stored / (f64::from(self.settings.hours) / MONTH)
    }

    /// TB moved in a month for each TB of user data, as nodes do it.
    pub(crate) fn moved(&self) -> f64 {
        self.traffic(self.shared + self.copied)
    }

    /// The same if each node that rebuilds a slot read k for itself.
    pub(crate) fn moved_if_alone(&self) -> f64 {
        self.traffic(self.rebuilt * count(K) + self.copied)
    }

    /// As a row of [`table`].
    pub(super) fn row(&self) -> Vec<String> {
        let percent = |part: f64| format!("{:.3} %", 100.0 * part);
        vec![
            format!("{:.1} years", f64::from(self.settings.life) / 8_760.0),
            format!("{} %", self.settings.graceful_percent),
            format!("{} + {}", self.silent, self.draining),
            self.rebuilt.to_string(),
            format!("{:.1}", real(self.rebuilt) / real(self.batches.max(1))),
            self.copied.to_string(),
            format!("{:.2}", self.moved()),
            format!("{:.2}", self.moved_if_alone()),
            format!("{:.3}", self.traffic(self.copied)),
            self.fewest().to_string(),
            percent(self.part_at_most(34)),
            percent(self.part_at_most(27)),
            percent(self.part_at_most(K)),
            self.lost.len().to_string(),
        ]
    }
}

/// A table without rows.
pub(super) fn table(node_count: u32, group_count: u32, hours: u32) -> Report {
    let title = format!(
        "Repair: {node_count} nodes, {group_count} groups of 20-of-40, {hours} hours after one \
         mean life; {EPOCH_HOURS} hours an epoch, {} hours to catch up. Traffic in TB for a TB of user \
         data and month",
        CATCH_UP_EPOCHS * EPOCH_HOURS,
    );
    let columns = [
        "mean life",
        "in order",
        "nodes gone: silent + in order",
        "slots rebuilt",
        "of a group at once",
        "slots copied",
        "traffic",
        "traffic, if each read k",
        "of these copies",
        "fewest slots",
        "time at 34 or fewer",
        "time at 27 or fewer",
        "time at 20 or fewer",
        "groups lost",
    ];
    Report::new(title, &columns)
}
