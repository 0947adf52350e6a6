//! Groups as the ledger had them a moment ago.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{GroupId, NodeId};
use cairn_ledger::group::Group;
use cairn_ledger::port::{Ledger, LedgerError};
use cairn_runtime::Runtime;

/// Groups remembered: about 8 KB each at the widest code.
const GROUPS_MAX: usize = 1024;
/// A group is read again after this, if no effect of a block made it so before.
const AGE_MAX: Duration = Duration::from_secs(60);
/// A fresh view is asked of the ledger at most this often for one group.
const FRESH_GAP: Duration = Duration::from_millis(200);

/// Groups that the ledger is asked for at once.
const ASKING: usize = 16;

/// How old a view may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// As remembered.
    Remembered,
    /// From the ledger now, because what is remembered does not fit what a peer says.
    Fresh,
}

/// Remembers groups of the ledger.
#[derive(Debug)]
pub(crate) struct Groups<R, L> {
    runtime: R,
    ledger: L,
    known: Mutex<BTreeMap<GroupId, Known>>,
    /// By the first bits of a group's id.
    asking: [Asking; ASKING],
}

/// Who asks the ledger for groups.
#[derive(Debug, Default)]
struct Asking {
    /// Held by who asks: the others wait for the answer instead of asking too.
    turn: tokio::sync::Mutex<()>,
    /// How often one of these groups was forgotten. An answer that was asked for before is not
    /// remembered: it may be older than the block that made us forget, and who acts on that block
    /// would take it for the newest.
    forgotten: AtomicU64,
}

#[derive(Debug)]
struct Known {
    group: Arc<Group>,
    read_at: Duration,
}

impl<R: Runtime, L: Ledger> Groups<R, L> {
    pub(crate) fn new(runtime: R, ledger: L) -> Self {
        Self {
            runtime,
            ledger,
            known: Mutex::new(BTreeMap::new()),
            asking: std::array::from_fn(|_| Asking::default()),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<GroupId, Known>> {
        self.known.lock().expect("nothing panics while it is held")
    }

    /// The group; `None` when the ledger does not have it.
    pub(crate) async fn get(
        &self,
        id: GroupId,
        age: Age,
    ) -> Result<Option<Arc<Group>>, LedgerError> {
        let limit = match age {
            Age::Remembered => AGE_MAX,
            Age::Fresh => FRESH_GAP,
        };
        if let Some(group) = self.remembered(id, limit) {
            return Ok(Some(group));
        }
        let asking = self.asking(id);
        let _turn = asking.turn.lock().await;
        if let Some(group) = self.remembered(id, limit) {
            return Ok(Some(group));
        }
        let now = self.runtime.monotonic();
        let forgotten = asking.forgotten.load(Ordering::Relaxed);
        let Some(group) = self.ledger.group(id).await? else {
            self.forget(id);
            return Ok(None);
        };
        let group = Arc::new(group);
        let mut known = self.known();
        if asking.forgotten.load(Ordering::Relaxed) != forgotten {
            return Ok(Some(group));
        }
        let entry = Known {
            group: Arc::clone(&group),
            read_at: now,
        };
        known.insert(id, entry);
        if known.len() > GROUPS_MAX {
            let oldest = known.iter().min_by_key(|(_, known)| known.read_at);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                known.remove(&oldest);
            }
        }
        Ok(Some(group))
    }

    /// The group, if it was read less than `limit` ago.
    fn remembered(&self, id: GroupId, limit: Duration) -> Option<Arc<Group>> {
        let now = self.runtime.monotonic();
        let known = self.known();
        let found = known.get(&id)?;
        (now.saturating_sub(found.read_at) < limit).then(|| Arc::clone(&found.group))
    }

    /// An effect of a block concerns the group: it is read again when it is needed.
    pub(crate) fn forget(&self, id: GroupId) {
        let mut known = self.known();
        // While `known` is held: an answer is remembered before this or not at all.
        self.asking(id).forgotten.fetch_add(1, Ordering::Relaxed);
        known.remove(&id);
    }

    /// Blocks may have passed unseen: every group is read again when it is needed.
    pub(crate) fn forget_all(&self) {
        let mut known = self.known();
        for asking in &self.asking {
            asking.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        known.clear();
    }

    fn asking(&self, id: GroupId) -> &Asking {
        let first = id.as_bytes().first().copied().unwrap_or_default();
        &self.asking[usize::from(first) % ASKING]
    }
}

/// Whether a node has a deal in the group and has not caught up: it may read from its siblings.
pub(crate) fn is_catching_up(group: &Group, node: NodeId) -> bool {
    group
        .deals
        .iter()
        .any(|deal| deal.node == node && deal.acknowledged < group.revision.number)
}

/// How many segments, from 0 on, the group has for good: those of the newest revision that enough
/// slots to read it have acknowledged. What only the writer says, in a revision that nobody can
/// reach, is stored for nothing.
pub(crate) fn settled_count(group: &Group) -> u32 {
    let held = group.deals.iter().filter(|deal| deal.holder().is_some());
    let mut acknowledged: Vec<_> = held.map(|deal| deal.acknowledged).collect();
    acknowledged.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    let enough = acknowledged.get(group.code.data_count() - 1);
    let revision = enough.and_then(|number| group.revision_at(*number));
    revision.map_or(0, |revision| revision.segment_count)
}

/// Whether a node has acknowledged the group's revision for a slot of it.
pub(crate) fn has_acknowledged(group: &Group, node: NodeId) -> bool {
    let revision = group.revision.number;
    let mut deals = group.deals.iter();
    deals.any(|deal| deal.node == node && deal.acknowledged == revision)
}

#[cfg(test)]
mod tests;
