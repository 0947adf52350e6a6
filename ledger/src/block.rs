//! Blocks: transactions in their order, with time and seed.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, Digest, Height, NodeId, Record, RecordKind, Signed, UnixMillis};

use crate::tx::Tx;

/// Most transactions of a block.
pub const TXS_MAX: usize = 1024;
/// Most nodes that one block calls lost.
pub const LOST_MAX: usize = 64;
/// Most bytes of a block: so few that its effects always fit one response, see the assertion in
/// [`crate::effect`].
pub const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Most bytes of a block without nodes and transactions.
pub const BLOCK_HEADER_BYTES: usize = 3 + 8 + 32 + 8 + 32 + 4 + 4 + 4 + TXS_MAX;

/// Transactions in their order. Made by whoever drives the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// One more than the parent's.
    pub height: Height,
    /// Digest of the parent's encoding; of the genesis record at height 1.
    pub parent: Digest,
    /// Not before the parent's.
    pub time: UnixMillis,
    /// Randomness that nobody could know when the parent was made final. It draws what earlier
    /// blocks left to be drawn, never what this block asks for.
    pub seed: Digest,
    /// Nodes that the engine calls lost: their slots are redrawn. Unknown ones are ignored.
    pub lost: Bounded<NodeId, LOST_MAX>,
    /// The transactions. Those that the state does not do pay their fee, or change nothing when
    /// their account can't be charged.
    pub txs: Bounded<Signed<Tx>, TXS_MAX>,
    /// What the proofs say that its `ProofSubmit`s stand for, in their order; the rest of a list
    /// that is too short is [`Verdict::Missing`]. The witnesses travel beside the block, and who
    /// has them checks it by [`crate::State::check_verdicts`].
    pub verdicts: Bounded<Verdict, TXS_MAX>,
}

/// What a proof says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Verdict {
    /// Nobody has shown the proof: the transaction is refused.
    Missing,
    /// It does not answer the challenge.
    Invalid,
    /// It answers the challenge.
    Valid,
}

impl Record for Block {
    const KIND: RecordKind = RecordKind::Block;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = BLOCK_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        self.txs.iter().all(Record::is_well_formed)
    }
}

/// Why a block does not follow the state. It changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not the next height.
    #[error("expected a block of height {expected}, found {found}")]
    Height {
        /// The next one.
        expected: Height,
        /// The block's.
        found: Height,
    },
    /// Another parent.
    #[error("block {height}: expected parent {expected}, found {found}")]
    Parent {
        /// The block's height.
        height: Height,
        /// Digest of the last block.
        expected: Digest,
        /// What the block names.
        found: Digest,
    },
    /// Before its parent.
    #[error("block {height}: expected a time of at least {expected}, found {found}")]
    Time {
        /// The block's height.
        height: Height,
        /// The parent's time.
        expected: UnixMillis,
        /// The block's.
        found: UnixMillis,
    },
    /// More verdicts than proofs.
    #[error("block {height}: expected at most {expected} verdicts, found {found}")]
    Verdicts {
        /// The block's height.
        height: Height,
        /// Its proofs.
        expected: usize,
        /// Its verdicts.
        found: usize,
    },
    /// The last height is reached.
    #[error("no block can follow height {height}")]
    End {
        /// The last height.
        height: Height,
    },
}

// A block takes at least the largest transaction.
const _: () = assert!(
    <Signed<Tx> as Record>::BYTES_MAX + BLOCK_HEADER_BYTES + 32 * LOST_MAX <= BLOCK_BYTES_MAX
);
