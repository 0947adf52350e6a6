//! Epochs in the state: when one begins, what it froze, and what must be kept for it.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use cairn_core::{EpochNumber, GroupId, NodeId, RevisionNumber, UnixMillis};

use super::State;
use crate::block::ViewSeed;
use crate::effect::Effect;
use crate::epoch::{Departed, Epoch, FrozenSlot, KeptRevision, REVISIONS_KEPT};
use crate::tx::SlotRef;

/// The ledger is to make a block at least this many times in an epoch; a longer pause is time in
/// which nobody could prove.
pub const BLOCKS_PER_EPOCH_MIN: u64 = 8;
/// An epoch that was open for less than this part of its length is not judged: whoever proved
/// did, whoever did not has no lapse.
const OPEN_PARTS_MIN: u64 = 2;

impl State {
    /// Length of an epoch; `None` on a ledger without epochs.
    fn epoch_millis(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.parameters.epoch_millis)
    }

    /// Whether nodes prove on this ledger.
    #[must_use]
    pub fn has_epochs(&self) -> bool {
        self.epoch_millis().is_some()
    }

    /// The epoch that runs.
    #[must_use]
    pub const fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The epoch at a time; 0 before the genesis and on a ledger without epochs.
    #[must_use]
    pub fn epoch_at(&self, time: UnixMillis) -> EpochNumber {
        let age = time.get().saturating_sub(self.began.get());
        let number = self.epoch_millis().map_or(0, |length| age / length);
        EpochNumber::new(number)
    }

    /// Whether a block at `now` is worth making even without transactions: to draw, to begin an
    /// epoch, to look for lost nodes, to come to where the validators change, or to show that the
    /// ledger works.
    #[must_use]
    pub fn wants_block(&self, now: UnixMillis) -> bool {
        let pause = now.get().saturating_sub(self.time.get());
        let is_due = |length| pause >= pause_max(length);
        self.has_draws()
            || self.sweep.left > 0
            || self.has_border()
            || self.epoch_millis().is_some_and(is_due)
            || self.epoch_at(now) > self.epoch.number
    }

    /// Whether the seed of the epoch that runs is still to come.
    pub(super) fn needs_seed(&self) -> bool {
        self.has_epochs() && self.epoch.seed.is_none()
    }

    /// Moves the time on to that of a block: begins its epoch, or gives the epoch that runs its
    /// seed. What was acknowledged before the block is frozen, so this comes first in a block.
    pub(super) fn pass_time(
        &mut self,
        time: UnixMillis,
        seeds: &[ViewSeed],
        effects: &mut Vec<Effect>,
    ) {
        let pause = time.get().saturating_sub(self.time.get());
        self.time = time;
        let Some(length) = self.epoch_millis() else {
            return;
        };
        if self.epoch.seed.is_some() {
            let open = self.epoch.open_millis;
            self.epoch.open_millis = open.saturating_add(pause.min(pause_max(length)));
        }
        let number = self.epoch_at(time);
        if number > self.epoch.number {
            self.begin_epoch(number, length);
            effects.push(Effect::EpochBegan(number));
        } else if self.epoch.seed.is_none()
            && let Some(seed) = seeds.iter().find(|seed| seed.view >= self.epoch.due)
        {
            self.epoch.seed = Some(seed.digest());
            effects.push(Effect::EpochOpened(number));
        }
    }

    fn begin_epoch(&mut self, number: EpochNumber, length: NonZeroU64) {
        let open_min = length.get() / OPEN_PARTS_MIN;
        let is_judged = self.epoch.seed.is_some() && self.epoch.open_millis >= open_min;
        let is_next = self.epoch.number.get().checked_add(1) == Some(number.get());
        self.epoch = Epoch {
            number,
            before: self.epoch.seed.filter(|_| is_next),
            seed: None,
            due: self.draws_due(),
            judged: self.epoch.judged.saturating_add(u64::from(is_judged)),
            open_millis: 0,
        };
        self.departed.clear();
        self.index.verdicts = (0, 0);
        self.rank_audit_nodes();
        self.begin_sweep();
        self.begin_group_sweep();
        self.name_border();
    }

    /// Notes what the epoch froze of a slot for a node that is about to leave it.
    pub(super) fn depart(&mut self, slot: SlotRef, node: NodeId) {
        if !self.has_epochs() {
            return;
        }
        let price = self.price_of(slot, node);
        if let Some((frozen, price)) = self.frozen_slot(slot, node).zip(price) {
            let departed = Departed::of(&frozen, price);
            self.departed.insert((node, slot), departed);
        }
    }

    /// What the epoch froze of a slot for a node that holds or leaves it.
    fn frozen_slot(&self, slot: SlotRef, node: NodeId) -> Option<FrozenSlot> {
        let group = self.groups.get(&slot.group)?;
        group.frozen(slot.slot, node, self.epoch.number)
    }

    /// Keeps the current revision of a group, which is about to be another, as long as someone
    /// refers to it; drops those that nobody refers to any more.
    pub(super) fn keep_revision(&mut self, group: GroupId) {
        if !self.has_epochs() {
            return;
        }
        let epoch = self.epoch.number;
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        if group.revision.number > RevisionNumber::ZERO {
            group.kept.push(KeptRevision::of(&group.revision));
        }
        let needed: BTreeSet<RevisionNumber> = group
            .deals
            .iter()
            .flat_map(|deal| deal.revisions(epoch))
            .collect();
        // Of the revisions before the one to come.
        let recent = group.revision.number.get().saturating_sub(REVISIONS_KEPT);
        group
            .kept
            .retain(|kept| kept.number.get() > recent || needed.contains(&kept.number));
    }
}

/// Longest pause between blocks that counts in full as time in which the ledger worked.
fn pause_max(length: NonZeroU64) -> u64 {
    length.get().div_ceil(BLOCKS_PER_EPOCH_MIN)
}
