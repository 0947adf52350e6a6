//! Transactions: what an account asks the ledger to do.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, Digest, EpochNumber, GroupId, GroupRevision,
    KeyError, LedgerId, NodeId, Record, RecordKind, RevisionNumber, SecretKey, Signature, Signed,
    SlotIndex, Text, TxId,
};

use crate::genesis::Validators;
use crate::registry::RegistryTx;
use crate::score::AuditReport;
use crate::term::{SIGNERS_MAX, TermSignature};

/// Most slots of one `Acknowledge` or `DeclareLoss`: a node with more sends several. One such
/// transaction fits a block ([`crate::block::BLOCK_BYTES_MAX`]).
pub const SLOTS_PER_TX_MAX: usize = 4096;
/// Longest network prefix, provider or region; an IPv6 prefix is 43 characters.
pub const LABEL_BYTES_MAX: usize = 64;
/// Domain of an operator's consent to a node.
const CONSENT_CONTEXT: &str = "cairn 1 operator consent";
/// Bytes of a revision of one slot: group, slot, number.
const SLOT_REVISION_BYTES: usize = 32 + 1 + 8;

/// A network prefix, provider or region, compared byte for byte.
pub type Label = Text<LABEL_BYTES_MAX>;

/// What an account asks the ledger to do. Sent as [`Signed`], signed by the account's key for one
/// ledger ([`Signed::sign_for`]); its id is [`tx_id`]. As in docs/protocol/ledger.md#transactions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tx {
    /// Who asks and pays. A node's account is its key.
    pub account: AccountId,
    /// How many transactions of the account came before.
    pub nonce: u64,
    /// Paid when it is done; at least the ledger's `fee_min`.
    pub fee: Amount,
    /// What is asked.
    pub body: TxBody,
}

/// What a transaction asks.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum TxBody {
    /// Moves credits to another account.
    Transfer {
        /// The receiver, which need not exist yet.
        to: AccountId,
        /// How much; more than zero.
        amount: Amount,
    },
    /// The sending account is a node and offers its capacity.
    NodeRegister {
        /// The account that answers for the node.
        operator: AccountId,
        /// The operator's signature over the ledger's and the node's id, made by
        /// [`operator_consent`]; the node's own when it is its own operator.
        operator_consent: Signature,
        /// What it offers.
        terms: NodeTerms,
    },
    /// The sending node changes its offer. Deals keep the terms they were drawn under.
    NodeUpdate {
        /// What it offers from now on.
        terms: NodeTerms,
    },
    /// The sending node leaves: the ledger draws successors for its slots, which copy from it.
    NodeDrain,
    /// Opens a group. Its id is [`group_id`] of this transaction's; its slots are drawn by the
    /// next block's seed.
    GroupOpen {
        /// Its erasure code: k and n.
        code: Code,
        /// Most bytes of each slot.
        slot_capacity: ByteCount,
        /// Most that a node may ask, in micro-credits per GiB and epoch.
        price_max: Amount,
        /// How many epochs the group is to last, if its escrow does.
        term_epochs: u32,
        /// Locked for the group.
        escrow: Amount,
    },
    /// The owner commits to a group's next revision.
    GroupRevise {
        /// The revision; its number is one more than the current one.
        revision: GroupRevision,
    },
    /// The sending node holds these slots whole up to these revisions.
    Acknowledge {
        /// Which, up to where.
        slots: Bounded<SlotRevision, SLOTS_PER_TX_MAX>,
    },
    /// The sending node no longer has these slots: their acknowledged revision goes back to 0.
    /// It keeps the deals and may catch up; a node that can't drains instead.
    DeclareLoss {
        /// Which.
        slots: Bounded<SlotRef, SLOTS_PER_TX_MAX>,
    },
    /// The sending node has everything that it must prove in the epoch that runs. The proof travels
    /// beside the block; once it is judged, only the verdict is needed.
    ProofSubmit {
        /// The epoch.
        epoch: EpochNumber,
        /// BLAKE3 of the proof's encoding, [`cairn_proofs::Proof`].
        witness: Digest,
        /// How the node's audits of the epoch before ended.
        audits: AuditReport,
    },
    /// Puts credits down as a node's collateral.
    NodeAddCollateral {
        /// The node.
        node: NodeId,
        /// How much; more than zero.
        amount: Amount,
    },
    /// The sending node takes collateral back that no slot locks.
    NodeTakeCollateral {
        /// How much; more than zero.
        amount: Amount,
    },
    /// The sending node announces that it is down for some epochs from this one on: they are no
    /// lapses.
    NodeMaintain {
        /// How many, this one included.
        epochs: u32,
    },
    /// The owner prolongs a group's term, adds to its escrow, or both.
    GroupExtend {
        /// The group.
        group: GroupId,
        /// Epochs more.
        epochs: u32,
        /// Credits more.
        escrow: Amount,
    },
    /// The owner ends a group: nodes drop its slots, and what is left of its escrow comes back.
    GroupClose {
        /// The group.
        group: GroupId,
    },
    /// Of volumes, their heads, leases and grants, and notarisations.
    Registry(RegistryTx),
    /// Names the validators of the next term. Whoever sends it: the signatures count.
    ValidatorsChange {
        /// Who orders the ledger then, and the public side of their key.
        validators: Validators,
        /// Of enough of those who order it now, and of all of those, rising by validator.
        signatures: Bounded<TermSignature, SIGNERS_MAX>,
    },
}

/// What a node offers.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NodeTerms {
    /// Bytes of slots that it takes in all.
    pub capacity: ByteCount,
    /// Micro-credits per GiB and epoch.
    pub price: Amount,
    /// Its network prefix, such as `203.0.113.0/24`.
    pub network: Label,
    /// Its hosting provider.
    pub provider: Label,
    /// Its region.
    pub region: Label,
}

/// One slot of one group.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct SlotRef {
    /// The group.
    pub group: GroupId,
    /// The slot in it.
    pub slot: SlotIndex,
}

/// One slot of one group, up to a revision.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct SlotRevision {
    /// The group.
    pub group: GroupId,
    /// The slot in it.
    pub slot: SlotIndex,
    /// The revision.
    pub revision: RevisionNumber,
}

impl SlotRevision {
    /// The slot.
    #[must_use]
    pub const fn slot_ref(&self) -> SlotRef {
        SlotRef {
            group: self.group,
            slot: self.slot,
        }
    }
}

impl std::fmt::Display for SlotRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "slot {} of group {}", self.slot, self.group)
    }
}

impl Record for Tx {
    const KIND: RecordKind = RecordKind::Tx;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512 + SLOT_REVISION_BYTES * SLOTS_PER_TX_MAX;

    fn is_well_formed(&self) -> bool {
        match &self.body {
            TxBody::GroupRevise { revision } => revision.is_well_formed(),
            TxBody::ProofSubmit { audits, .. } => audits.is_well_formed(),
            TxBody::Transfer { .. }
            | TxBody::NodeRegister { .. }
            | TxBody::NodeUpdate { .. }
            | TxBody::NodeDrain
            | TxBody::GroupOpen { .. }
            | TxBody::Acknowledge { .. }
            | TxBody::DeclareLoss { .. }
            | TxBody::NodeAddCollateral { .. }
            | TxBody::NodeTakeCollateral { .. }
            | TxBody::NodeMaintain { .. }
            | TxBody::GroupExtend { .. }
            | TxBody::GroupClose { .. }
            | TxBody::Registry(_)
            | TxBody::ValidatorsChange { .. } => true,
        }
    }
}

impl Tx {
    /// What it takes out of the balance when it is done: the fee and what the body sends or locks.
    #[must_use]
    pub fn cost(&self) -> u128 {
        let fee = u128::from(self.fee.micro());
        fee.saturating_add(u128::from(self.body.outgoing().micro()))
    }
}

impl TxBody {
    /// What leaves the balance besides the fee.
    #[must_use]
    pub const fn outgoing(&self) -> Amount {
        match self {
            Self::Transfer { amount, .. } | Self::NodeAddCollateral { amount, .. } => *amount,
            Self::GroupOpen { escrow, .. } | Self::GroupExtend { escrow, .. } => *escrow,
            Self::NodeRegister { .. }
            | Self::NodeUpdate { .. }
            | Self::NodeDrain
            | Self::GroupRevise { .. }
            | Self::Acknowledge { .. }
            | Self::DeclareLoss { .. }
            | Self::ProofSubmit { .. }
            | Self::NodeTakeCollateral { .. }
            | Self::NodeMaintain { .. }
            | Self::GroupClose { .. }
            | Self::Registry(_)
            | Self::ValidatorsChange { .. } => Amount::ZERO,
        }
    }
}

/// The id of a transaction: digest of its signed encoding.
#[must_use]
pub fn tx_id(tx: &Signed<Tx>) -> TxId {
    TxId::new(tx.record_digest())
}

/// The id of the group that a transaction opens.
#[must_use]
pub const fn group_id(opened_by: TxId) -> GroupId {
    GroupId::new(opened_by.digest())
}

/// An operator's consent to answer for `node` on one ledger, for [`TxBody::NodeRegister`].
#[must_use]
pub fn operator_consent(ledger: LedgerId, operator: &SecretKey, node: NodeId) -> Signature {
    operator.sign(consent_message(ledger, node).as_bytes())
}

/// Checks [`operator_consent`].
///
/// # Errors
///
/// [`KeyError`] when `operator` did not sign for `node` on this ledger.
pub fn verify_consent(
    ledger: LedgerId,
    operator: AccountId,
    node: NodeId,
    consent: &Signature,
) -> Result<(), KeyError> {
    let message = consent_message(ledger, node);
    operator.key().verify(message.as_bytes(), consent)
}

fn consent_message(ledger: LedgerId, node: NodeId) -> Digest {
    let signed = [ledger.as_bytes().as_slice(), node.as_bytes()].concat();
    Digest::keyed(CONSENT_CONTEXT, &signed)
}
