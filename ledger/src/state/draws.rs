//! What waits to be drawn, and how much of it a block draws.
//!
//! Groups that were opened and slots that need another node wait in a queue each: one node that drains
//! asks for as many draws as it has slots, and who opens a group does not stand behind them. Blocks
//! take turns in which queue comes first, so that neither waits much longer than it would alone.

use std::collections::VecDeque;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::ViewNumber;
use cairn_core::code::SLOTS_MAX;

use super::apply::{NODES_DRAWN_FROM_MAX, SLOTS_DRAWN_MAX};
use super::slots::WAITING_DRAWN_MAX;
use super::{PendingDraw, State};
use crate::block::ViewSeed;
use crate::effect::Effect;

/// What is to be drawn by the seeds of later blocks. Bounded by the groups and their slots.
#[derive(Clone, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Draws {
    /// Groups that were opened, in the order asked.
    groups: VecDeque<QueuedDraw>,
    /// Slots whose nodes are gone or leaving, in the order asked.
    slots: VecDeque<QueuedDraw>,
}

/// Something to be drawn by the seed of a view that was named when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct QueuedDraw {
    due: ViewNumber,
    draw: PendingDraw,
}

/// Which of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Groups,
    Slots,
}

impl Draws {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.slots.is_empty()
    }

    /// What waits.
    pub(super) fn iter(&self) -> impl Iterator<Item = PendingDraw> + '_ {
        let queues = self.groups.iter().chain(&self.slots);
        queues.map(|queued| queued.draw)
    }

    /// Whether each queue has its own draws only, due one after the other and none after `due`.
    pub(super) fn are_in_order(&self, due: ViewNumber) -> bool {
        let is_in_order = |queue: &VecDeque<QueuedDraw>| {
            let dues = queue.iter().map(|queued| queued.due);
            dues.chain([due]).is_sorted()
        };
        let is_group = |queued: &QueuedDraw| matches!(queued.draw, PendingDraw::Group(_));
        is_in_order(&self.groups)
            && is_in_order(&self.slots)
            && self.groups.iter().all(is_group)
            && !self.slots.iter().any(is_group)
    }

    const fn queue(&mut self, which: Queue) -> &mut VecDeque<QueuedDraw> {
        match which {
            Queue::Groups => &mut self.groups,
            Queue::Slots => &mut self.slots,
        }
    }
}

impl State {
    /// Leaves something to be drawn by the seed of a view to come.
    pub(super) fn queue_draw(&mut self, draw: PendingDraw) {
        let due = self.draws_due();
        let which = match draw {
            PendingDraw::Group(_) => Queue::Groups,
            PendingDraw::Slot(_) => Queue::Slots,
        };
        self.draws.queue(which).push_back(QueuedDraw { due, draw });
    }

    /// How many slots a block draws: as many as its bounds allow, at least one group.
    fn slots_drawn_max(&self) -> usize {
        let by_work = NODES_DRAWN_FROM_MAX
            .checked_div(self.nodes.len())
            .unwrap_or(SLOTS_DRAWN_MAX);
        by_work.clamp(SLOTS_MAX, SLOTS_DRAWN_MAX)
    }

    /// Draws what earlier blocks left and is due, up to [`Self::slots_drawn_max`] slots: by the seed
    /// of the view that was named, or, when a block before had no room for it, by the next one.
    /// What the queue whose turn it is leaves of the slots is the other's. Then some of those that wait.
    pub(super) fn draw_pending(&mut self, seeds: &[ViewSeed], effects: &mut Vec<Effect>) {
        let order = if self.height.get().is_multiple_of(2) {
            [Queue::Groups, Queue::Slots]
        } else {
            [Queue::Slots, Queue::Groups]
        };
        let mut left = self.slots_drawn_max();
        for which in order {
            left = self.draw_queued(which, (left, seeds), effects);
        }
        // However many wait and however often they are tried again, nothing else stands behind them.
        let due = self.retry.due;
        let Some(seed) = seeds.iter().find(|seed| seed.view >= due) else {
            return;
        };
        for _ in 0..WAITING_DRAWN_MAX {
            let Some(slot) = self.next_waiting() else {
                break;
            };
            self.draw_slot(slot, seed.digest(), effects);
        }
    }

    /// Draws what is due of a queue, up to `left` slots; gives how many are left then.
    fn draw_queued(
        &mut self,
        which: Queue,
        (mut left, seeds): (usize, &[ViewSeed]),
        effects: &mut Vec<Effect>,
    ) -> usize {
        // What this block asks for comes behind, and is left for a later seed.
        for _ in 0..self.draws.queue(which).len() {
            let Some(&QueuedDraw { due, draw }) = self.draws.queue(which).front() else {
                break;
            };
            let Some(seed) = seeds.iter().find(|seed| seed.view >= due) else {
                break;
            };
            let seed = seed.digest();
            let slots = match draw {
                PendingDraw::Group(id) => self
                    .groups
                    .get(&id)
                    .map_or(0, |group| group.code.shard_count()),
                PendingDraw::Slot(_) => 1,
            };
            let Some(rest) = left.checked_sub(slots) else {
                break;
            };
            left = rest;
            self.draws.queue(which).pop_front();
            match draw {
                PendingDraw::Group(id) => self.draw_group(id, seed, effects),
                PendingDraw::Slot(slot) => self.draw_slot(slot, seed, effects),
            }
        }
        left
    }
}
