//! The effects of recent blocks, for those who follow the ledger.

use std::collections::{BTreeMap, VecDeque};

use cairn_core::{Height, TxId};
use cairn_ledger::wire::EFFECTS_BYTES_MAX;
use cairn_ledger::{BlockEffects, Effect, TxError};

/// Most blocks remembered: more than three minutes at 20 blocks a second, enough for a follower
/// to come back from a reconnection.
pub(crate) const BLOCKS_MAX: usize = 4096;
/// Most bytes of effects remembered.
pub(crate) const BYTES_MAX: usize = 64 << 20;

/// What became of a transaction.
pub(crate) type Outcome = (Height, Result<(), TxError>);

/// Recent blocks' effects, by height without a gap, and the transactions in them.
#[derive(Debug)]
pub(crate) struct History {
    blocks: VecDeque<(BlockEffects, usize)>,
    bytes: usize,
    done: BTreeMap<TxId, Outcome>,
    next: Height,
}

/// The height asked for is older than what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// The first height that is remembered, or will be.
    pub(crate) oldest: Height,
}

impl History {
    /// Remembers nothing up to `last`.
    pub(crate) fn after(last: Height) -> Self {
        Self {
            blocks: VecDeque::new(),
            bytes: 0,
            done: BTreeMap::new(),
            next: last.next().unwrap_or(last),
        }
    }

    /// The next block's effects.
    ///
    /// # Panics
    ///
    /// When it is not the next block.
    pub(crate) fn push(&mut self, block: BlockEffects) {
        assert_eq!(block.height, self.next, "blocks come in order");
        self.next = block.height.next().unwrap_or(block.height);
        for effect in &block.effects {
            if let Effect::TxDone { id, result } = effect {
                self.done.insert(*id, (block.height, result.clone()));
            }
        }
        let bytes = borsh::object_length(&block).unwrap_or(EFFECTS_BYTES_MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.blocks.push_back((block, bytes));
        while self.blocks.len() > BLOCKS_MAX || self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((block, bytes)) = self.blocks.pop_front() else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(bytes);
        for effect in &block.effects {
            if let Effect::TxDone { id, .. } = effect {
                // A transaction refused here and done later is remembered for the later block.
                if self
                    .done
                    .get(id)
                    .is_some_and(|(height, _)| *height == block.height)
                {
                    self.done.remove(id);
                }
            }
        }
    }

    /// What became of a transaction that a remembered block did.
    pub(crate) fn outcome(&self, id: TxId) -> Option<&Outcome> {
        self.done.get(&id)
    }

    /// The blocks from `from` on, as many as fit one response; none when there is none yet.
    pub(crate) fn from(&self, from: Height) -> Result<Vec<BlockEffects>, Forgotten> {
        let oldest = self
            .blocks
            .front()
            .map_or(self.next, |(block, _)| block.height);
        let Some(skipped) = from.get().checked_sub(oldest.get()) else {
            return Err(Forgotten { oldest });
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let mut left = EFFECTS_BYTES_MAX;
        let fitting = self
            .blocks
            .iter()
            .skip(skipped)
            .map_while(|(block, bytes)| {
                left = left.checked_sub(*bytes)?;
                Some(block.clone())
            });
        Ok(fitting.collect())
    }
}

#[cfg(test)]
mod tests;
