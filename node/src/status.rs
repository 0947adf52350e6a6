//! Figures for operators.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{Amount, EpochNumber, NodeId, RevisionNumber, SegmentNumber};
use cairn_ledger::Verdict;
use cairn_ledger::port::LedgerError;
use cairn_ledger::tx::SlotRef;

use crate::store::StoreFigures;

/// How a node stands.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its disk.
    pub store: StoreFigures,
    /// The first failed mutation of its shard store: it takes nothing more.
    pub failure: Option<String>,
    /// What keeps it from following the ledger, as last met; `None` while it follows.
    pub ledger_problem: Option<String>,
    /// Its slots.
    pub slots: Vec<SlotLag>,
    /// Whether nothing is to be caught up.
    pub idle: bool,
    /// Whether the ledger says that it drains, as last seen.
    pub draining: bool,
    /// The epoch that runs; `None` on a ledger without epochs.
    pub epoch: Option<EpochStatus>,
    /// What others say of its audits, 10 to 100, as of the epoch's begin; `None` before it was seen.
    pub score: Option<u8>,
}

/// How a node stands in the epoch that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStatus {
    /// Which, as far as the node has heard.
    pub epoch: EpochNumber,
    /// What its proof was found to be since it follows the ledger; `None` before.
    pub verdict: Option<Verdict>,
}

/// How one slot stands against the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotLag {
    /// Which.
    pub slot: SlotRef,
    /// The group's revision on the ledger, as last seen.
    pub revision: RevisionNumber,
    /// The newest revision that the slot has whole.
    pub reached: RevisionNumber,
    /// What the ledger says that we acknowledged.
    pub acknowledged: RevisionNumber,
    /// Whether it is ours.
    pub holding: Holding,
    /// What was forfeited for it and goes to whoever proves it next.
    pub forfeited: Amount,
    /// Shards kept.
    pub shard_count: u32,
    /// Shards that are lacking for the revision.
    pub lacking_count: u32,
    /// Segments whose shards match their records and do not decode to the committed root: the
    /// writer encoded them wrongly.
    pub unrebuildable: Vec<SegmentNumber>,
    /// What the last attempt to catch up met.
    pub problem: Option<String>,
}

/// Whether a slot is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Holding {
    /// It is, or was not looked at yet.
    #[default]
    Held,
    /// It was, and nobody was drawn in our place yet. It earns nothing until it is taken back.
    Idle,
}

/// What keeps the node from following the ledger.
#[derive(Debug, Default)]
pub(crate) struct LedgerProblem {
    last: Mutex<Option<String>>,
}

impl LedgerProblem {
    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.last.lock().expect("nothing panics while it is held")
    }

    /// Following met this.
    pub(crate) fn met(&self, error: &LedgerError) {
        let text = match error {
            LedgerError::Behind { expected, found } => format!(
                "whoever answers for the ledger is at height {found}, and this node has seen \
                 {expected}: it drops and acknowledges nothing until they are as far"
            ),
            LedgerError::Refused(_)
            | LedgerError::Busy { .. }
            | LedgerError::Unavailable { .. }
            | LedgerError::Forgotten { .. }
            | LedgerError::Stopped
            | LedgerError::Request
            | LedgerError::Answer
            | LedgerError::NoSnapshot { .. }
            | LedgerError::OtherLedger { .. } => error.to_string(),
        };
        *self.last() = Some(text);
    }

    /// The node follows.
    pub(crate) fn ended(&self) {
        *self.last() = None;
    }

    /// What was met since.
    pub(crate) fn get(&self) -> Option<String> {
        self.last().clone()
    }
}

/// What the ledger and the last attempts say of each slot.
#[derive(Debug, Default)]
pub(crate) struct Lags {
    by_slot: Mutex<BTreeMap<SlotRef, Seen>>,
}

/// Of one slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) holding: Holding,
    pub(crate) forfeited: Amount,
    pub(crate) revision: RevisionNumber,
    pub(crate) acknowledged: RevisionNumber,
    pub(crate) segment_count: u32,
    pub(crate) unrebuildable: Vec<SegmentNumber>,
    pub(crate) problem: Option<String>,
    /// Attempts that failed one after the other.
    pub(crate) failures: u32,
    /// When it is looked at again, on the monotonic clock.
    pub(crate) retry_at: Option<Duration>,
}

impl Lags {
    fn by_slot(&self) -> MutexGuard<'_, BTreeMap<SlotRef, Seen>> {
        self.by_slot
            .lock()
            .expect("nothing panics while it is held")
    }

    pub(crate) fn of(&self, slot: SlotRef) -> Seen {
        self.by_slot().get(&slot).cloned().unwrap_or_default()
    }

    pub(crate) fn change(&self, slot: SlotRef, change: impl FnOnce(&mut Seen)) {
        change(self.by_slot().entry(slot).or_default());
    }

    /// Whether the slot may be tried again: its last failure is long enough ago.
    pub(crate) fn may_try(&self, slot: SlotRef, now: Duration) -> bool {
        self.of(slot).retry_at.is_none_or(|at| at <= now)
    }

    /// Slots whose time to be looked at again has come.
    pub(crate) fn due(&self, now: Duration) -> Vec<SlotRef> {
        let mut by_slot = self.by_slot();
        let due = by_slot.iter_mut().filter_map(|(slot, seen)| {
            // Taken: it is set again when the slot fails again.
            seen.retry_at.take_if(|at| *at <= now).map(|_| *slot)
        });
        due.collect()
    }

    /// Slots that were ours and are nobody's.
    pub(crate) fn idle(&self) -> Vec<SlotRef> {
        let by_slot = self.by_slot();
        let idle = by_slot
            .iter()
            .filter(|(_, seen)| seen.holding == Holding::Idle);
        idle.map(|(slot, _)| *slot).collect()
    }

    pub(crate) fn forget(&self, slot: SlotRef) {
        self.by_slot().remove(&slot);
    }
}
