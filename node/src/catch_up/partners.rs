//! Nodes that do the same rebuild: one reads k slots for all of them.
//!
//! Nodes that were drawn for slots of one group, and have nothing of it yet, are *partners*. Each
//! leads every so many-th segment: it reads that segment once, rebuilds the shards of all partners
//! from it and passes them on. So L slots of a group cost k + L - 1 slots of traffic and not L k,
//! and each partner has a share of the reading.
//!
//! Nobody depends on a partner. One that can't be reached, or does not want shards, for long is left
//! out, and so is one whose shards do not come; its segments are then led by the others. What does
//! not come from them either, or what one has passed over, each reads for itself.
//! Shards that are passed on are taken only where an attempt wants them, and only if they have the
//! root that the owner committed to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cairn_core::{NodeId, RevisionNumber, SegmentNumber, SlotIndex};
use cairn_ledger::group::{Deal, Group};
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;
use futures::stream::StreamExt;

use super::Attempt;
use super::lacking::Lack;
use super::pass_on::{Passing, Taker};
use crate::groups::Age;

/// Most partners besides ourselves, so that their shards of a segment fit in
/// [`crate::config::PASSING_MEMORY_KIB`]: seven of at most 4 MiB. More are divided, by slot, into several such companies.
pub(super) const OTHERS_MAX: u32 = 7;
/// When no shard has come for so long, none will. More than it takes a partner to find that the
/// former holders of its slot are gone, and to read a segment over a slow line.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same when only those lack who have held us up for too long.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);
/// While none comes, the ledger is looked at this often: others may have joined or be done.
const LOOK_GAP: Duration = Duration::from_secs(5);

/// How often segments that do not come have been given other leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Never.
    First,
    /// Once.
    Again,
}

/// A slot of the group, and the node that rebuilds it.
pub(super) type Partner = (SlotIndex, NodeId);

/// The nodes that rebuild slots of a group as we do.
#[derive(Debug)]
pub(super) struct Partners {
    ours: SlotIndex,
    state: Mutex<PartnersState>,
}

#[derive(Debug, Default)]
pub(super) struct PartnersState {
    /// With ourselves, by slot.
    all: Vec<Partner>,
    left_out: BTreeSet<Partner>,
    /// Segments that we fetch for ourselves, whoever leads them: they do not come.
    claimed: BTreeSet<SegmentNumber>,
    /// How long we have read without waiting for partners.
    pub(super) unheld: Duration,
    /// How those take shards that we rebuilt any for.
    pub(super) takers: BTreeMap<Partner, Taker>,
}

impl PartnersState {
    fn live(&self) -> impl Iterator<Item = Partner> + '_ {
        let all = self.all.iter().copied();
        all.filter(|partner| !self.left_out.contains(partner))
    }
}

/// The slots of `ours`' company, itself among them, with their nodes. Those that the ledger names:
/// drawn in place of another, with nothing acknowledged and no leaver to copy from. Not one that has
/// declared its slot lost: it may still have to prove it, and gets nothing to do so with. Nor is
/// there one when fewer than k slots can be read: then each must get its slot from who had it.
fn company(group: &Group, ours: SlotIndex) -> Vec<Partner> {
    let rebuilds = |slot: &SlotIndex| {
        group.deal(*slot).is_some_and(|deal| {
            deal.holder().is_some()
                && deal.previous.is_some()
                && deal.leaver.is_none()
                && deal.acknowledged == RevisionNumber::ZERO
                && deal.frozen.revision == RevisionNumber::ZERO
        })
    };
    let has_any = |deal: &&Deal| deal.acknowledged > RevisionNumber::ZERO;
    let can_rebuild = group.deals.iter().filter(has_any).count() >= group.code.data_count();
    let all = group.code.slots();
    let all: Vec<SlotIndex> = all.filter(|slot| can_rebuild && rebuilds(slot)).collect();
    let size = usize::try_from(OTHERS_MAX + 1).expect("8");
    let mut companies = all.chunks(size);
    let slots = companies.find(|slots| slots.contains(&ours));
    let slots = slots.unwrap_or(std::slice::from_ref(&ours));
    let node = |slot: &SlotIndex| group.deal(*slot).map(|deal| (*slot, deal.node));
    slots.iter().filter_map(node).collect()
}

impl Partners {
    pub(super) fn new(group: &Group, ours: SlotIndex) -> Self {
        let state = PartnersState {
            all: company(group, ours),
            ..PartnersState::default()
        };
        Self {
            ours,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PartnersState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// Slots are drawn, and acknowledged, while we rebuild ours.
    fn meet(&self, group: &Group) {
        self.state().all = company(group, self.ours);
    }

    /// Whose turn a segment is. Who is left out changes only its own segments' leaders: nobody else
    /// need know of it at the same time.
    fn leader(&self, segment: SegmentNumber) -> Option<Partner> {
        let state = self.state();
        let number = usize::try_from(segment.get()).expect("u32 fits in usize on our systems");
        let turn = number.checked_rem(state.all.len())?;
        let first = state.all.get(turn).copied();
        if let Some(first) = first.filter(|first| !state.left_out.contains(first)) {
            return Some(first);
        }
        let turn = (number / state.all.len()).checked_rem(state.live().count())?;
        state.live().nth(turn)
    }

    /// Whether the segment is ours to read.
    pub(super) fn leads(&self, segment: SegmentNumber) -> bool {
        if self.has_claimed(segment) {
            return true;
        }
        let leader = self.leader(segment);
        leader.is_none_or(|(slot, _)| slot == self.ours)
    }

    /// Whether the segment is read for ourselves alone.
    pub(super) fn has_claimed(&self, segment: SegmentNumber) -> bool {
        self.state().claimed.contains(&segment)
    }

    /// Settles who leads segments that have not come in time. Who has brought a later one has passed
    /// these over, for which it may have a reason: they are ours now. Who has not come so far is
    /// left out, which gives its segments other leaders, once: what does not come from them either
    /// is ours.
    fn settle(&self, late: &[SegmentNumber], turn: Turn, lack: &Lack) {
        let led = |segment: &SegmentNumber| Some((*segment, self.leader(*segment)?));
        let late: Vec<(SegmentNumber, Partner)> = late.iter().filter_map(led).collect();
        for (segment, partner) in late {
            let came = lack.last_from(partner.1);
            if turn == Turn::Again || came.is_some_and(|last| last > segment) {
                self.state().claimed.insert(segment);
            } else {
                self.leave_out(partner);
            }
        }
    }

    /// How long segments are waited for when nothing comes.
    fn patience(&self, segments: &[SegmentNumber]) -> Duration {
        let leads_slowly = |segment: &SegmentNumber| {
            let leader = self.leader(*segment);
            let state = self.state();
            leader.is_none_or(|leader| state.takers.get(&leader).is_some_and(Taker::is_slow))
        };
        if segments.iter().all(leads_slowly) {
            SHORT_PATIENCE
        } else {
            PATIENCE
        }
    }

    /// The others for whom we rebuild.
    pub(super) fn others(&self) -> Vec<Partner> {
        let state = self.state();
        let others = state.live().filter(|(slot, _)| *slot != self.ours);
        others.collect()
    }

    /// It does not take its shards, or does not bring ours.
    pub(super) fn leave_out(&self, partner: Partner) {
        if partner.0 != self.ours {
            self.state().left_out.insert(partner);
        }
    }
}

/// Goes on giving partners their shards, without an end.
async fn keep_passing(passing: &mut Passing<'_>) {
    while passing.next().await.is_some() {}
    std::future::pending::<()>().await;
}

impl<R: Runtime, N: Network, L: Ledger> Attempt<'_, R, N, L> {
    /// Takes the partners as the ledger has them now.
    pub(super) async fn meet_partners(&self) {
        let group = self.core.groups.get(self.place.group, Age::Remembered);
        // When the ledger does not answer, those that we know will do.
        if let Ok(Some(group)) = group.await {
            self.partners.meet(&group);
        }
    }

    /// Waits for the segments that partners lead, until all are here or some have become ours to
    /// lead. Those that do not come are led by others from then on.
    ///
    /// Waits as long again as our own part took, and no longer, so that a partner that brings one
    /// now and then can't keep us from the others.
    pub(super) async fn wait_for_partners(
        &self,
        lack: &Lack,
        (turn, own_part): (Turn, Duration),
        passing: &mut Passing<'_>,
    ) -> Turn {
        let runtime = &self.core.runtime;
        let until = runtime.monotonic() + own_part + PATIENCE;
        let mut heard_at = runtime.monotonic();
        while !lack.is_complete() {
            let has_arrived = tokio::select! {
                biased;
                () = lack.arrival() => true,
                () = keep_passing(passing) => true,
                () = runtime.sleep(LOOK_GAP) => false,
            };
            let now = runtime.monotonic();
            if has_arrived {
                heard_at = now;
                if now < until {
                    continue;
                }
            }
            self.meet_partners().await;
            let lacking = lack.lacking();
            if lacking.iter().any(|segment| self.partners.leads(*segment)) {
                return turn;
            }
            if now < until && now.saturating_sub(heard_at) < self.partners.patience(&lacking) {
                continue;
            }
            tracing::debug!(slot = %self.place, count = lacking.len(), "shards do not come from partners");
            self.partners.settle(&lacking, turn, lack);
            return Turn::Again;
        }
        turn
    }
}
