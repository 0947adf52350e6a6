//! What validators agree on: a block's transactions in their order, with the witnesses of its proofs.
//!
//! The verdicts are not in it. They follow from the state before the block, which nobody may have
//! yet when the block is voted on, so each validator derives them when it is final; then the witnesses
//! are needed no more. Its place (height and parent) is the engine's to keep
//! (docs/protocol/ledger.md#validators).

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, NodeId, Record, RecordKind, Signed, UnixMillis, ViewNumber};
use cairn_ledger::block::{BLOCK_BYTES_MAX, LOST_MAX, SEEDS_MAX, TXS_MAX};
use cairn_ledger::{Block, State, Tx, TxError, ViewSeed, Witness};

use crate::core::{is_proof, judge};
use crate::mempool::{
    Batch, Submitted, TXS_BYTES_PER_BLOCK_MAX, WITNESS_BYTES_PER_BLOCK_MAX, check_witness,
};

/// Most bytes of a proposal: those of a block, and of its witnesses with their lengths.
pub(super) const PROPOSAL_BYTES_MAX: usize =
    BLOCK_BYTES_MAX + WITNESS_BYTES_PER_BLOCK_MAX + 4 * TXS_MAX;

/// A block that is not final.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Proposal {
    /// Not before the parent's.
    pub(super) time: UnixMillis,
    /// The view that it was made in.
    pub(super) view: ViewNumber,
    /// As in the block.
    pub(super) seeds: Bounded<ViewSeed, SEEDS_MAX>,
    /// As in the block.
    pub(super) lost: Bounded<NodeId, LOST_MAX>,
    /// As in the block.
    pub(super) txs: Bounded<Signed<Tx>, TXS_MAX>,
    /// The witnesses of those of them that are proofs, in the same order.
    pub(super) witnesses: Bounded<Witness, TXS_MAX>,
}

impl Record for Proposal {
    const KIND: RecordKind = RecordKind::Proposal;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = PROPOSAL_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        let bytes = self.txs.iter().map(|tx| tx.encode().len());
        let witness_bytes = self.witnesses.iter().map(|witness| witness.len());
        self.txs.iter().all(Record::is_well_formed)
            && sum(bytes) <= TXS_BYTES_PER_BLOCK_MAX
            && sum(witness_bytes) <= WITNESS_BYTES_PER_BLOCK_MAX
            && self.check_witnesses().is_ok()
    }
}

impl Proposal {
    /// One of a batch; the rest is to be filled in.
    pub(super) fn of(batch: Batch) -> Option<Self> {
        Some(Self {
            time: UnixMillis::new(0),
            view: ViewNumber::ZERO,
            seeds: Bounded::empty(),
            lost: Bounded::new(batch.lost).ok()?,
            txs: Bounded::new(batch.txs).ok()?,
            witnesses: Bounded::new(batch.witnesses).ok()?,
        })
    }

    /// Whether each proof has the witness that it names, and nothing else has one.
    fn check_witnesses(&self) -> Result<(), TxError> {
        let mut witnesses = self.witnesses.iter();
        for tx in self.txs.iter() {
            let witness = is_proof(tx).then(|| witnesses.next()).flatten();
            check_witness(tx.unverified(), witness)?;
        }
        match witnesses.next() {
            None => Ok(()),
            Some(_) => Err(TxError::Malformed),
        }
    }

    /// The block that comes of it after `state`; `None` past the last height, or when it does not
    /// follow. Where more than two thirds of the validators are honest, it does.
    pub(super) fn block(self, state: &State) -> Option<Block> {
        let views = self.seeds.iter().map(|seed| seed.view);
        let follows = self.time >= state.time()
            && self.view > state.view()
            && views.clone().is_sorted_by(|a, b| a < b)
            && views.clone().all(|view| view < self.view);
        if !follows {
            return None;
        }
        Some(Block {
            height: state.height().next()?,
            parent: state.tip(),
            time: self.time,
            view: self.view,
            lost: self.lost,
            verdicts: Bounded::new(judge(state, &self.txs, &self.witnesses)).ok()?,
            txs: self.txs,
            seeds: self.seeds,
        })
    }
}

/// Transactions with their witnesses, as they are passed on or proposed.
pub(super) fn submitted(
    txs: Vec<Signed<Tx>>,
    witnesses: Vec<Witness>,
) -> impl Iterator<Item = Submitted> {
    let mut witnesses = witnesses.into_iter();
    txs.into_iter().map(move |tx| Submitted {
        witness: is_proof(&tx).then(|| witnesses.next()).flatten(),
        tx,
    })
}

fn sum(sizes: impl Iterator<Item = usize>) -> usize {
    sizes.fold(0, usize::saturating_add)
}

// A block of it, whatever its verdicts, fits its own bound.
const _: () = assert!(TXS_BYTES_PER_BLOCK_MAX < BLOCK_BYTES_MAX);
