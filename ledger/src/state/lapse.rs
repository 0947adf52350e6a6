//! Nodes that have not proven anything for long are lost. When an epoch begins all nodes are looked
//! at for that, some in each block.

use std::ops::Bound;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::NodeId;

use super::{State, count};
use crate::block::LOST_MAX;
use crate::effect::Effect;
use crate::node::NodeStatus;

/// Most nodes that one block looks at: less than a millisecond.
const NODES_SWEPT_MAX: usize = 1 << 10;

/// How far the nodes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Sweep {
    /// The node that was looked at last.
    pub(super) after: Option<NodeId>,
    /// How many are still to be looked at.
    pub(super) left: u64,
}

impl State {
    /// Lapses from which on a node is lost; `None` when none are.
    fn lost_after(&self) -> Option<u64> {
        let after = u64::from(self.parameters.lost_after_epochs);
        (after > 0).then_some(after)
    }

    /// All nodes are to be looked at, since the epoch began.
    pub(super) fn begin_sweep(&mut self) {
        if self.lost_after().is_some() {
            self.sweep.left = count(self.nodes.len());
        }
    }

    /// Looks at the next nodes, at most `NODES_SWEPT_MAX`, and calls at most [`LOST_MAX`] lost.
    pub(super) fn sweep(&mut self, effects: &mut Vec<Effect>) {
        let Some(lost_after) = self.lost_after() else {
            return;
        };
        let mut lost_count = 0;
        for node in self.next_nodes() {
            self.sweep.after = Some(node);
            self.sweep.left = self.sweep.left.saturating_sub(1);
            let is_lost = self.nodes.get(&node).is_some_and(|entry| {
                entry.status != NodeStatus::Lost && entry.standing.lapses(&self.epoch) >= lost_after
            });
            if is_lost {
                self.lose_node(node, effects);
                lost_count = usize::saturating_add(lost_count, 1);
            }
            if lost_count == LOST_MAX {
                break;
            }
        }
    }

    /// The nodes to look at in this block: those after the last, then from the first on.
    fn next_nodes(&self) -> Vec<NodeId> {
        let left = usize::try_from(self.sweep.left).unwrap_or(usize::MAX);
        let after = self.sweep.after.map_or(Bound::Unbounded, Bound::Excluded);
        let wrapped = self.sweep.after.map(|after| self.nodes.range(..=after));
        self.nodes
            .range((after, Bound::Unbounded))
            .chain(wrapped.into_iter().flatten())
            .map(|(node, _)| *node)
            .take(left.min(NODES_SWEPT_MAX))
            .collect()
    }
}
