//! What stands for a block to those who do not have it: its effects and what became of its
//! transactions, in a hash chain over all blocks.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Digest, Height, TxId, UnixMillis};

use crate::attestation::{Attestation, Attested};
use crate::block::TXS_MAX;
use crate::effect::{BlockEffects, Effect};
use crate::trie::Trie;
use crate::tx_error::TxError;
use crate::view::{BlockSummary, TxSummary};

const EFFECTS_CONTEXT: &str = "cairn 2026-11-27 ledger block effects";
const SEAL_CONTEXT: &str = "cairn 2026-11-27 ledger block seal";
const CHAIN_CONTEXT: &str = "cairn 2026-11-27 ledger block chain";

/// A block in 132 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockSeal {
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// Its digest.
    pub block: Digest,
    /// Effects that it had.
    pub effect_count: u32,
    /// Nodes that it called lost.
    pub lost_count: u32,
    /// Digest of its effects.
    pub effects: Digest,
    /// Root of the trie of what became of its transactions, by id and place.
    pub txs: Digest,
}

impl BlockSeal {
    /// Of a block in short and its effects.
    #[must_use]
    pub fn of(summary: &BlockSummary, effects: &[Effect]) -> Self {
        Self {
            height: summary.height,
            time: summary.time,
            block: summary.digest,
            effect_count: summary.effect_count,
            lost_count: summary.lost_count,
            effects: effects_digest(effects),
            txs: txs_trie(summary).root(),
        }
    }

    /// Whether a block's effects are these.
    #[must_use]
    pub fn has_effects(&self, block: &BlockEffects) -> bool {
        (block.height, block.time) == (self.height, self.time)
            && effects_digest(&block.effects) == self.effects
    }

    /// Whether a block in short is this.
    #[must_use]
    pub fn has_summary(&self, summary: &BlockSummary) -> bool {
        let seal = Self {
            height: summary.height,
            time: summary.time,
            block: summary.digest,
            effect_count: summary.effect_count,
            lost_count: summary.lost_count,
            effects: self.effects,
            txs: txs_trie(summary).root(),
        };
        *self == seal
    }

    /// The chain with this block behind those of `chain`.
    #[must_use]
    pub fn follow(&self, chain: Digest) -> Digest {
        follow(chain, self.digest())
    }

    /// Its digest, of which the chain is made.
    ///
    /// # Panics
    ///
    /// Never: memory takes it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let bytes = borsh::to_vec(self).expect("memory takes it");
        Digest::keyed(SEAL_CONTEXT, &bytes)
    }
}

fn follow(chain: Digest, seal: Digest) -> Digest {
    Digest::keyed(
        CHAIN_CONTEXT,
        &[*chain.as_bytes(), *seal.as_bytes()].concat(),
    )
}

/// Something of each of some blocks one after the other, and what links them to a height that is
/// attested.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Chained<T> {
    /// The blocks.
    pub blocks: Vec<(BlockSeal, T)>,
    /// The chain up to the first of them.
    pub before: Digest,
    /// Digests of the seals from the last of them to the height that is attested.
    pub after: Vec<Digest>,
    /// That height.
    pub attestation: Attestation,
}

impl<T> Chained<T> {
    /// No blocks.
    #[must_use]
    pub const fn none(attestation: Attestation) -> Self {
        Self {
            blocks: Vec::new(),
            before: attestation.unverified().chain,
            after: Vec::new(),
            attestation,
        }
    }

    /// Whether the blocks are what `is_of` says and lead to what is attested.
    #[must_use]
    pub fn leads_to(&self, attested: &Attested, is_of: impl Fn(&BlockSeal, &T) -> bool) -> bool {
        let heights = self.blocks.iter().map(|(seal, _)| seal.height);
        let follow_on = heights
            .clone()
            .zip(heights.clone().skip(1))
            .all(|(height, next)| height.next() == Some(next));
        let last = heights.last().map_or(attested.height.get(), Height::get);
        let links = u64::try_from(self.after.len()).unwrap_or(u64::MAX);
        let leads = last.checked_add(links) == Some(attested.height.get());
        let seals = self.blocks.iter().map(|(seal, _)| seal.digest());
        let chain = seals
            .chain(self.after.iter().copied())
            .fold(self.before, follow);
        follow_on
            && leads
            && chain == attested.chain
            && self.blocks.iter().all(|(seal, of)| is_of(seal, of))
    }
}

/// What became of a block's transactions, in their order.
pub fn results(effects: &[Effect]) -> impl Iterator<Item = Result<(), TxError>> + '_ {
    effects.iter().filter_map(|effect| match effect {
        Effect::TxDone { result, .. } => Some(result.clone()),
        _ => None,
    })
}

impl BlockSummary {
    /// The part of its transactions' trie that has one of them.
    ///
    /// # Panics
    ///
    /// Never: the trie is whole.
    #[must_use]
    pub fn show(&self, id: TxId) -> TxsPart {
        let trie = txs_trie(self);
        let mut touched = BTreeSet::new();
        let mut touch = |key: &[u8]| touched.extend([key.to_vec()]);
        let go_on = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
        let scanned = trie.scan(id.as_bytes(), None, &mut touch, go_on);
        scanned.expect("nothing was left out");
        TxsPart(trie.pruned(&touched))
    }
}

/// The part of a block's transactions' trie that has some of them.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxsPart(pub(crate) Trie);

/// What became of a block's transactions, by id and place.
fn txs_trie(summary: &BlockSummary) -> Trie {
    let mut trie = Trie::default();
    for (place, tx) in (0_u16..).zip(summary.txs.iter()) {
        let key = [tx.id.as_bytes().as_slice(), &place.to_be_bytes()].concat();
        let value = borsh::to_vec(tx).expect("memory takes it");
        trie.insert(&key, value).expect("nothing was left out");
    }
    trie
}

const _: () = assert!(TXS_MAX <= 1 << 16);

impl TxsPart {
    /// What it says of a transaction.
    pub(crate) fn get(&self, id: TxId) -> Option<TxSummary> {
        let mut found: Option<TxSummary> = None;
        let mut visit = |_: &[u8], value: &[u8]| {
            // One that a block has twice was done the first time and is refused the second.
            if found.as_ref().is_none_or(|tx| tx.result.is_err()) {
                found = borsh::from_slice(value).ok();
            }
            ControlFlow::Continue(())
        };
        let scanned = self.0.scan(id.as_bytes(), None, &mut |_| (), &mut visit);
        scanned.ok()?;
        found.filter(|tx| tx.id == id)
    }

    /// The whole trie's root.
    pub(crate) fn root(&self) -> Digest {
        self.0.root()
    }
}

fn effects_digest(effects: &[Effect]) -> Digest {
    let effects = borsh::to_vec(effects).expect("memory takes it");
    Digest::keyed(EFFECTS_CONTEXT, &effects)
}
