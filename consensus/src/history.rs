//! The effects of recent blocks, for those who follow the ledger.

use std::collections::{BTreeMap, VecDeque};

use cairn_core::{Height, TxId};
use cairn_ledger::wire::EFFECTS_BYTES_MAX;
use cairn_ledger::{BlockEffects, Effect, TxError};

/// Most blocks remembered: more than three minutes at 20 blocks a second, enough for a follower
/// to come back from a reconnection.
pub(crate) const BLOCKS_MAX: usize = 4096;
/// Most bytes of memory that is remembered: in full blocks of the smallest transactions still ten
/// seconds.
pub(crate) const BYTES_MAX: usize = 128 << 20;
/// Memory of a transaction's outcome in the table, with what a table takes beside its entries.
const OUTCOME_BYTES: usize = 2 * (size_of::<TxId>() + size_of::<Outcome>());

/// What became of a transaction.
pub(crate) type Outcome = (Height, Result<(), TxError>);

/// Recent blocks' effects, by height without a gap, and the transactions in them.
#[derive(Debug)]
pub(crate) struct History {
    blocks: VecDeque<Remembered>,
    /// Memory of all of them.
    bytes: usize,
    done: BTreeMap<TxId, Outcome>,
    next: Height,
}

/// A block's effects.
#[derive(Debug)]
struct Remembered {
    block: BlockEffects,
    /// Bytes of its encoding.
    encoded: usize,
    /// Bytes of memory that it takes, its outcomes included.
    memory: usize,
}

impl Remembered {
    fn new(block: BlockEffects) -> Self {
        let is_outcome = |effect: &&Effect| matches!(effect, Effect::TxDone { .. });
        let outcomes = block.effects.iter().filter(is_outcome).count();
        let effects = block.effects.len().saturating_mul(size_of::<Effect>());
        Self {
            encoded: borsh::object_length(&block).unwrap_or(EFFECTS_BYTES_MAX),
            memory: outcomes
                .saturating_mul(OUTCOME_BYTES)
                .saturating_add(effects)
                .saturating_add(size_of::<Self>()),
            block,
        }
    }
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
                // One that two blocks carry was done by the first and is refused by the second.
                let is_done = matches!(self.done.get(id), Some((_, Ok(()))));
                if !is_done {
                    self.done.insert(*id, (block.height, result.clone()));
                }
            }
        }
        let remembered = Remembered::new(block);
        self.bytes = self.bytes.saturating_add(remembered.memory);
        self.blocks.push_back(remembered);
        while self.blocks.len() > BLOCKS_MAX || self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(Remembered { block, memory, .. }) = self.blocks.pop_front() else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(memory);
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
            .map_or(self.next, |remembered| remembered.block.height);
        let Some(skipped) = from.get().checked_sub(oldest.get()) else {
            return Err(Forgotten { oldest });
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let mut left = EFFECTS_BYTES_MAX;
        let fitting = self.blocks.iter().skip(skipped).map_while(|remembered| {
            left = left.checked_sub(remembered.encoded)?;
            Some(remembered.block.clone())
        });
        Ok(fitting.collect())
    }
}

#[cfg(test)]
mod tests;
