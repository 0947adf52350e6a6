//! Requests to the ledger and its responses, as bytes.
//!
//! One request, one response. They travel inside the control messages of `core`, so each is at
//! most [`LEDGER_MESSAGE_BYTES_MAX`] bytes. A response names the ledger and the height that it is
//! of.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;
use cairn_core::{Height, LedgerId, Record, RecordKind, Signed, TxId};

use crate::block::TXS_MAX;
use crate::effect::BlockEffects;
use crate::evidence::Evidence;
use crate::port::{LedgerError, WITNESS_BYTES_MAX, Witness};
use crate::query::Question;
use crate::seal::{Chained, TxsPart};
use crate::snapshot::SnapshotPart;
use crate::tx::Tx;
use crate::view::BlockSummary;

/// Most slots of one page of a node's slots.
pub const SLOTS_PAGE_MAX: usize = 4_096;
/// Most blocks between one that is shown and the height that is attested.
pub const LINKS_MAX: usize = 4_096;
/// Most bytes of what links blocks to a height that is attested, and of the envelope.
const CHAIN_BYTES_MAX: usize = 32 * LINKS_MAX + 1_024;
/// Most bytes of the effects or summaries in one response, with the blocks' seals. One block's are
/// always less.
pub const EFFECTS_BYTES_MAX: usize = LEDGER_MESSAGE_BYTES_MAX - CHAIN_BYTES_MAX;
/// Most bytes of a block's seal.
pub const SEAL_BYTES: usize = 8 + 8 + 32 + 4 + 4 + 32 + 32;

/// What is asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LedgerRequest {
    /// Do this, and answer when it is final. Answer: `Done`.
    Submit(Box<Signed<Tx>>),
    /// Do this, a `ProofSubmit`, whose proof comes with it. Answer: `Done`.
    Prove {
        /// The transaction.
        tx: Box<Signed<Tx>>,
        /// The proof's encoding.
        witness: Witness,
    },
    /// Something of the state. Answer: `Evidence`.
    Ask {
        /// What.
        question: Question,
        /// Of this height or a later one.
        at_least: Height,
    },
    /// Effects of the blocks at and above a height; the answer waits for one. Answer: `Effects`.
    Effects {
        /// The height.
        from: Height,
    },
    /// The same blocks in short; unlike `Effects` it does not wait. Answer: `Blocks`.
    Blocks {
        /// The height.
        from: Height,
    },
    /// What became of a transaction of a remembered block. Answer: `Tx`.
    Tx(TxId),
    /// A piece of the state with which a term of validators began, that of the newest one. Answer:
    /// `Snapshot`.
    Snapshot {
        /// The term.
        term: u32,
        /// Where in the state's encoding the piece begins.
        offset: u64,
    },
}

impl Record for LedgerRequest {
    const KIND: RecordKind = RecordKind::LedgerRequest;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 128 + <Signed<Tx> as Record>::BYTES_MAX + WITNESS_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Submit(tx) | Self::Prove { tx, .. } => tx.is_well_formed(),
            Self::Ask { .. }
            | Self::Effects { .. }
            | Self::Blocks { .. }
            | Self::Tx(_)
            | Self::Snapshot { .. } => true,
        }
    }
}

/// What the ledger answers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LedgerResponse {
    /// Which ledger answers.
    pub ledger: LedgerId,
    /// The answer.
    pub answer: Answer,
}

/// An answer. All but failures show that they are the ledger's, whoever gives them.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// The transaction is final.
    Done(Box<TxEvidence>),
    /// What the question's answer follows from.
    Evidence(Box<Evidence>),
    /// Blocks in order, possibly none.
    Effects(Box<Chained<BlockEffects>>),
    /// Blocks in order, possibly none.
    Blocks(Box<Chained<BlockSummary>>),
    /// What became of a transaction.
    Tx {
        /// The oldest height that is remembered: an older block's transactions are not found.
        oldest: Height,
        /// `None` when no remembered block has it.
        found: Option<Box<TxEvidence>>,
    },
    /// Refused or failed, by the word of whoever answers.
    Error(LedgerError),
    /// A piece, which shows something together with all others.
    Snapshot(Box<SnapshotPart>),
}

/// What became of a transaction: of its one block the part of the trie that has it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxEvidence(pub(crate) Chained<TxsPart>);

impl TxEvidence {
    /// Of its block alone.
    #[must_use]
    pub const fn of(block: Chained<TxsPart>) -> Self {
        Self(block)
    }
}

impl Record for LedgerResponse {
    const KIND: RecordKind = RecordKind::LedgerResponse;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = LEDGER_MESSAGE_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        true
    }
}

const _: () = assert!(<LedgerRequest as Record>::BYTES_MAX <= LEDGER_MESSAGE_BYTES_MAX);
// The evidence of a page of slots: leaves with what a branch and what was left out beside it take.
const _: () = assert!(SLOTS_PAGE_MAX * (7 + 65 + 3 + 33) + 65_536 <= LEDGER_MESSAGE_BYTES_MAX);
// A block's transactions in short, with its seal.
const _: () = assert!(TXS_MAX * 512 + SEAL_BYTES <= EFFECTS_BYTES_MAX);
