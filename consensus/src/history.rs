//! The effects of recent blocks, for those who follow the ledger, and the blocks in short, for those
//! who look at it.

use std::collections::{BTreeMap, VecDeque};

use cairn_core::{Digest, Height, TxId};
use cairn_ledger::seal::results;
use cairn_ledger::view::BLOCKS_PAGE_MAX;
use cairn_ledger::wire::{EFFECTS_BYTES_MAX, LINKS_MAX, SEAL_BYTES};
use cairn_ledger::{
    Attestation, Block, BlockEffects, BlockSeal, BlockSummary, Chained, Effect, TxError,
    TxEvidence, TxSummary,
};

/// Most blocks remembered: more than three minutes at 20 blocks a second, enough for a follower
/// to come back from a reconnection.
pub(crate) const BLOCKS_MAX: usize = LINKS_MAX;
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
    /// Of all blocks before that.
    chain: Digest,
}

/// A block's effects.
#[derive(Debug)]
struct Remembered {
    block: BlockEffects,
    summary: BlockSummary,
    seal: BlockSeal,
    /// The seal's digest.
    link: Digest,
    /// The chain up to it.
    before: Digest,
    /// What it ends in as its ledger is shown at its height, if it is.
    attestation: Option<Attestation>,
    /// Bytes of its effects' encoding.
    encoded: usize,
    /// Bytes of memory that it takes, its outcomes included.
    memory: usize,
}

impl Remembered {
    fn new(block: BlockEffects, summary: BlockSummary, seal: BlockSeal, before: Digest) -> Self {
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
            link: seal.digest(),
            block,
            summary,
            seal,
            before,
            attestation: None,
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
    /// Remembers nothing up to `last`, at which `chain` is that of all blocks.
    pub(crate) fn after(last: Height, chain: Digest) -> Self {
        Self {
            blocks: VecDeque::new(),
            bytes: 0,
            done: BTreeMap::new(),
            next: last.next().unwrap_or(last),
            chain,
        }
    }

    /// The next block and its effects.
    ///
    /// # Panics
    ///
    /// When it is not the next block.
    pub(crate) fn push(&mut self, block: &Block, effects: Vec<Effect>) {
        let summary = BlockSummary::of(block, effects.len(), results(&effects));
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
        let seal = BlockSeal::of(&summary, &block.effects);
        let remembered = Remembered::new(block, summary, seal, self.chain);
        self.chain = seal.follow(self.chain);
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

    /// How a height is shown to others.
    pub(crate) fn attest(&mut self, attestation: &Attestation) {
        let index = self.count_below(attestation.unverified().height);
        let block = index.ok().and_then(|index| self.blocks.get_mut(index));
        if let Some(block) = block {
            block.attestation = Some(attestation.clone());
        }
    }

    /// The effects of the blocks from `from` on with what shows them, as many as fit one response;
    /// none when there is none yet that can be shown.
    pub(crate) fn shown_effects(
        &self,
        from: Height,
    ) -> Result<Option<Chained<BlockEffects>>, Forgotten> {
        self.shown(from, |remembered| {
            (remembered.block.clone(), remembered.encoded)
        })
    }

    /// The same blocks in short.
    pub(crate) fn shown_summaries(
        &self,
        from: Height,
    ) -> Result<Option<Chained<BlockSummary>>, Forgotten> {
        self.shown(from, |remembered| {
            let summary = &remembered.summary;
            let bytes = borsh::object_length(summary).unwrap_or(EFFECTS_BYTES_MAX);
            (summary.clone(), bytes)
        })
    }

    fn shown<T>(
        &self,
        from: Height,
        what: impl Fn(&Remembered) -> (T, usize),
    ) -> Result<Option<Chained<T>>, Forgotten> {
        let first = self.count_below(from)?;
        let Some(last_shown) = self.blocks.iter().rposition(|it| it.attestation.is_some()) else {
            return Ok(None);
        };
        let mut left = EFFECTS_BYTES_MAX;
        let fitting = self.blocks.range(first.min(self.blocks.len())..);
        let count_max = last_shown.saturating_add(1).saturating_sub(first);
        let blocks = fitting
            .take(count_max.min(BLOCKS_PAGE_MAX))
            .map_while(|it| {
                let (content, bytes) = what(it);
                left = left.checked_sub(bytes.saturating_add(SEAL_BYTES))?;
                Some((it.seal, content))
            });
        Ok(self.chained(first, blocks.collect()))
    }

    /// What links blocks, of which the first is the `first`th remembered, to a height that can be
    /// shown. `None` when they are none.
    fn chained<T>(&self, first: usize, blocks: Vec<(BlockSeal, T)>) -> Option<Chained<T>> {
        let last = first.checked_add(blocks.len())?.checked_sub(1)?;
        let before = self.blocks.get(first)?.before;
        let mut after = Vec::new();
        for (index, remembered) in self.blocks.range(last..).enumerate() {
            if index > 0 {
                after.push(remembered.link);
            }
            if let Some(attestation) = &remembered.attestation {
                return (!blocks.is_empty()).then(|| Chained {
                    blocks,
                    before,
                    after,
                    attestation: attestation.clone(),
                });
            }
        }
        None
    }

    /// What became of a transaction that a remembered block did, with what shows it.
    pub(crate) fn shown_tx(&self, id: TxId) -> Option<TxEvidence> {
        let (height, _) = self.outcome(id)?;
        let index = self.count_below(*height).ok()?;
        let remembered = self.blocks.get(index)?;
        let txs = remembered.summary.show(id);
        let chained = self.chained(index, vec![(remembered.seal, txs)])?;
        Some(TxEvidence::of(chained))
    }

    /// The first height that is remembered, or will be.
    pub(crate) fn oldest(&self) -> Height {
        self.blocks
            .front()
            .map_or(self.next, |remembered| remembered.block.height)
    }
}

#[cfg(test)]
mod tests;
