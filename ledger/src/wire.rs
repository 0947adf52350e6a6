//! Requests to the ledger and its responses, as bytes.
//!
//! One request, one response. They travel inside the control messages of `core`, so each is at
//! most [`LEDGER_MESSAGE_BYTES_MAX`] bytes. A response names the ledger and the height that it is
//! of.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;
use cairn_core::{AccountId, GroupId, Height, LedgerId, NodeId, Record, RecordKind, Signed};

use crate::effect::BlockEffects;
use crate::epoch::{ChallengePage, FROZEN_PAGE_MAX};
use crate::group::Group;
use crate::node::NodeEntry;
use crate::port::{LedgerError, LedgerStatus, TxOutcome, WITNESS_BYTES_MAX, Witness};
use crate::state::Account;
use crate::ticket::AuditPage;
use crate::tx::{SlotRef, Tx};
use crate::view::{View, ViewRequest};

/// Most slots of one page of a node's slots: 540 KB.
pub const SLOTS_PAGE_MAX: usize = 16_384;
/// Most bytes of the effects in one response; leaves room for the envelope. One block's are
/// always less.
pub const EFFECTS_BYTES_MAX: usize = LEDGER_MESSAGE_BYTES_MAX - 1024;

/// What is asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LedgerRequest {
    /// Do this, and answer when it is final. Answer: `Done`.
    Submit(Box<Signed<Tx>>),
    /// Answer: `Account`.
    Account(AccountId),
    /// Answer: `Node`.
    Node(NodeId),
    /// Answer: `Group`.
    Group(GroupId),
    /// A page of the slots that a node holds or is leaving. Answer: `Slots`.
    Slots {
        /// The node.
        node: NodeId,
        /// The last slot of the page before; `None` for the first page.
        after: Option<SlotRef>,
    },
    /// Answer: `Status`.
    Status,
    /// Blocks at and above a height; the answer waits for one. Answer: `Effects`.
    Effects {
        /// The height.
        from: Height,
    },
    /// A page of what a node must prove in the epoch that runs. Answer: `Challenge`.
    Challenge {
        /// The node.
        node: NodeId,
        /// The last slot of the page before; `None` for the first page.
        after: Option<SlotRef>,
    },
    /// Do this, a `ProofSubmit`, whose proof comes with it. Answer: `Done`.
    Prove {
        /// The transaction.
        tx: Box<Signed<Tx>>,
        /// The proof's encoding.
        witness: Witness,
    },
    /// What people look at. Answer: `View`.
    View(ViewRequest),
    /// What a node asks of others in the epoch that runs. Answer: `Audits`.
    Audits(NodeId),
}

impl Record for LedgerRequest {
    const KIND: RecordKind = RecordKind::LedgerRequest;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64 + <Signed<Tx> as Record>::BYTES_MAX + WITNESS_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Submit(tx) | Self::Prove { tx, .. } => tx.is_well_formed(),
            Self::Account(_)
            | Self::Node(_)
            | Self::Group(_)
            | Self::Slots { .. }
            | Self::Status
            | Self::Effects { .. }
            | Self::Challenge { .. }
            | Self::View(_)
            | Self::Audits(_) => true,
        }
    }
}

/// What the ledger answers, and the ledger and height of the state that the answer is of.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LedgerResponse {
    /// Which ledger answers.
    pub ledger: LedgerId,
    /// Height of the last final block when it was answered.
    pub height: Height,
    /// The answer.
    pub answer: Answer,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// The transaction is final.
    Done(TxOutcome),
    /// The account.
    Account(Account),
    /// The node.
    Node(Option<NodeEntry>),
    /// The group.
    Group(Option<Group>),
    /// A page of slots, rising; at most [`SLOTS_PAGE_MAX`]. Fewer mean that it is the last.
    Slots(Vec<SlotRef>),
    /// How the ledger stands.
    Status(LedgerStatus),
    /// Blocks in order, possibly none.
    Effects(Vec<BlockEffects>),
    /// Refused or failed.
    Error(LedgerError),
    /// The page; none when there is nothing to prove (yet).
    Challenge(Option<Box<ChallengePage>>),
    /// What is seen.
    View(View),
    /// The tickets; none when there are none (yet).
    Audits(Option<Box<AuditPage>>),
}

impl Record for LedgerResponse {
    const KIND: RecordKind = RecordKind::LedgerResponse;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = LEDGER_MESSAGE_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        match &self.answer {
            Answer::Group(Some(group)) => group.is_well_formed(),
            Answer::Slots(slots) => {
                slots.len() <= SLOTS_PAGE_MAX && slots.is_sorted_by(|a, b| a < b)
            }
            Answer::Effects(blocks) => {
                blocks.is_sorted_by(|a, b| a.height.next() == Some(b.height))
            }
            Answer::Done(_)
            | Answer::Account(_)
            | Answer::Node(_)
            | Answer::Group(None)
            | Answer::Status(_)
            | Answer::Error(_)
            | Answer::Challenge(None)
            | Answer::Audits(None) => true,
            Answer::Challenge(Some(page)) => {
                page.slots.is_sorted_by(|a, b| a.slot_ref() < b.slot_ref())
            }
            Answer::View(view) => view.is_well_formed(),
            Answer::Audits(Some(page)) => page.tickets.is_sorted_by(|a, b| a.number < b.number),
        }
    }
}

const _: () = assert!(<LedgerRequest as Record>::BYTES_MAX <= LEDGER_MESSAGE_BYTES_MAX);
const _: () = assert!(SLOTS_PAGE_MAX * 33 + 128 <= LEDGER_MESSAGE_BYTES_MAX);
const _: () = assert!(FROZEN_PAGE_MAX * 86 + 256 <= LEDGER_MESSAGE_BYTES_MAX);
