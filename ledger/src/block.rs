//! Blocks: transactions in their order, with time and seeds.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    Bounded, Digest, Height, NodeId, Record, RecordKind, Signed, UnixMillis, ViewNumber,
};

use crate::tx::Tx;

/// Most transactions of a block.
pub const TXS_MAX: usize = 1024;
/// Most nodes that one block calls lost.
pub const LOST_MAX: usize = 64;
/// Most bytes of a block: so few that its effects always fit one response, see the assertion in
/// [`crate::effect`].
pub const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Most seeds of a block: that of the parent's view and of the eight after it, in which no block
/// was made.
pub const SEEDS_MAX: usize = 9;
/// Most bytes of the signature that a seed is made of.
pub const SIGNATURE_BYTES_MAX: usize = 64;
/// Most bytes of a block without nodes and transactions.
pub const BLOCK_HEADER_BYTES: usize =
    3 + 8 + 32 + 8 + 8 + 4 + SEEDS_MAX * (8 + 4 + SIGNATURE_BYTES_MAX) + 4 + 4 + 4 + TXS_MAX;
/// Domain of the seeds.
const SEED_CONTEXT: &str = "cairn 1 seed";

/// Transactions in their order. Made by whoever drives the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// One more than the parent's.
    pub height: Height,
    /// Digest of the parent's encoding; of the genesis record at height 1.
    pub parent: Digest,
    /// Not before the parent's.
    pub time: UnixMillis,
    /// The view that it was made in; above the parent's.
    pub view: ViewNumber,
    /// Seeds of views before this one, rising: from the parent's view on, as far as something that
    /// waits can be due. They draw what earlier blocks left to be drawn.
    pub seeds: Bounded<ViewSeed, SEEDS_MAX>,
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

/// What a view's seed is made of: a signature over the view's number that nobody could choose, and
/// nobody know before the view. Whoever drives the ledger checks it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ViewSeed {
    /// The view.
    pub view: ViewNumber,
    /// The signature.
    pub signature: Bounded<u8, SIGNATURE_BYTES_MAX>,
}

impl ViewSeed {
    /// The seed. A signature has structure; its digest has none.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::keyed(SEED_CONTEXT, &self.signature)
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
    /// In a view that is not after its parent's.
    #[error("block {height}: expected a view above {parent}, found {found}")]
    View {
        /// The block's height.
        height: Height,
        /// The parent's view.
        parent: ViewNumber,
        /// The block's.
        found: ViewNumber,
    },
    /// Its seeds are out of order, or not of views before its own.
    #[error("block {height}: its seeds are not of rising views before its own")]
    Seeds {
        /// The block's height.
        height: Height,
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
