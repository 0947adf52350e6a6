//! The effects of recent blocks, for those who follow the ledger, and the blocks in short, for those
//! who look at it.

use std::collections::{BTreeMap, VecDeque};

use cairn_core::{Bounded, Height, TxId};
use cairn_ledger::view::{BLOCKS_PAGE_BYTES_MAX, BLOCKS_PAGE_MAX, TxLookup};
use cairn_ledger::wire::EFFECTS_BYTES_MAX;
use cairn_ledger::{Block, BlockEffects, BlockSummary, Effect, TxError, TxSummary};

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
    summary: BlockSummary,
    /// Bytes of its encoding.
    encoded: usize,
    /// Bytes of memory that it takes, its outcomes included.
    memory: usize,
}

impl Remembered {
    fn new(block: BlockEffects, summary: BlockSummary) -> Self {
        let is_outcome = |effect: &&Effect| matches!(effect, Effect::TxDone { .. });
        let outcomes = block.effects.iter().filter(is_outcome).count();
        let effects = block.effects.len().saturating_mul(size_of::<Effect>());
        let txs = summary.txs.len().saturating_mul(size_of::<TxSummary>());
        Self {
            encoded: borsh::object_length(&block).unwrap_or(EFFECTS_BYTES_MAX),
            memory: outcomes
                .saturating_mul(OUTCOME_BYTES)
                .saturating_add(effects)
                .saturating_add(txs)
                .saturating_add(size_of::<Self>()),
            block,
            summary,
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

    /// The next block and its effects.
    ///
    /// # Panics
    ///
    /// When it is not the next block.
    pub(crate) fn push(&mut self, block: &Block, effects: Vec<Effect>) {
        let results = effects.iter().filter_map(|effect| match effect {
            Effect::TxDone { result, .. } => Some(result.clone()),
            _ => None,
        });
        let summary = BlockSummary::of(block, effects.len(), results);
        let block = BlockEffects {
            height: block.height,
            time: block.time,
            effects,
        };
        self.remember(block, summary);
    }

    fn remember(&mut self, block: BlockEffects, summary: BlockSummary) {
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
        let remembered = Remembered::new(block, summary);
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

    /// The first height that is remembered, or will be.
    fn oldest(&self) -> Height {
        self.blocks
            .front()
            .map_or(self.next, |remembered| remembered.block.height)
    }

    /// How many of the remembered blocks are below a height.
    fn count_below(&self, height: Height) -> Result<usize, Forgotten> {
        let oldest = self.oldest();
        let Some(count) = height.get().checked_sub(oldest.get()) else {
            return Err(Forgotten { oldest });
        };
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The blocks from `from` on, as many as fit one response; none when there is none yet.
    pub(crate) fn from(&self, from: Height) -> Result<Vec<BlockEffects>, Forgotten> {
        let skipped = self.count_below(from)?;
        let mut left = EFFECTS_BYTES_MAX;
        let fitting = self.blocks.iter().skip(skipped).map_while(|remembered| {
            left = left.checked_sub(remembered.encoded)?;
            Some(remembered.block.clone())
        });
        Ok(fitting.collect())
    }

    /// The same blocks in short, as many as fit one page.
    pub(crate) fn summaries(
        &self,
        from: Height,
    ) -> Result<Bounded<BlockSummary, BLOCKS_PAGE_MAX>, Forgotten> {
        let skipped = self.count_below(from)?;
        let mut left = BLOCKS_PAGE_BYTES_MAX;
        let blocks = self.blocks.iter().skip(skipped).take(BLOCKS_PAGE_MAX);
        let fitting = blocks.map_while(|remembered| {
            let summary = &remembered.summary;
            let bytes = borsh::object_length(summary).unwrap_or(BLOCKS_PAGE_BYTES_MAX);
            left = left.checked_sub(bytes)?;
            Some(summary.clone())
        });
        Ok(Bounded::new(fitting.collect()).expect("as many were taken"))
    }

    /// A transaction of a remembered block; the last one when several refused it.
    pub(crate) fn tx(&self, id: TxId) -> TxLookup {
        let find = |height: Height| {
            let remembered = self.blocks.get(self.count_below(height).ok()?)?;
            let summary = &remembered.summary;
            let tx = summary.txs.iter().rfind(|tx| tx.id == id)?.clone();
            Some((summary.height, summary.time, Box::new(tx)))
        };
        TxLookup {
            oldest: self.oldest(),
            found: self.done.get(&id).and_then(|(height, _)| find(*height)),
        }
    }
}

#[cfg(test)]
mod tests;
