//! Why a transaction is refused.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Amount, Blame, ByteCount, Digest, EpochNumber, GroupId, NodeId, PublicKey, Retry,
    RevisionNumber,
};

use crate::node::NodeStatus;
use crate::registry::RegistryError;
use crate::term::TermError;
use crate::tx::SlotRef;

/// A table of the ledger's state with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum TableKind {
    /// Accounts.
    Accounts,
    /// Nodes.
    Nodes,
    /// Groups.
    Groups,
    /// Slots of all groups.
    Slots,
    /// Volumes.
    Volumes,
    /// Grants of all volumes, revoked ones included.
    Grants,
    /// Notarisations.
    Notarisations,
}

/// Why a transaction is not done. One whose account could not be charged for it changes nothing;
/// another takes its fee and one nonce all the same (rule T2 of docs/protocol/ledger.md).
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum TxError {
    /// Signed by another key than the account's.
    #[error("expected the signature of {expected}, found {found}")]
    Signer {
        /// The account's key.
        expected: PublicKey,
        /// Who signed.
        found: PublicKey,
    },
    /// The signature does not hold, or is for another ledger.
    #[error("the signature of {signer} does not match, or is for another ledger")]
    Signature {
        /// Who is said to have signed.
        signer: PublicKey,
    },
    /// Larger or other than the encoding allows.
    #[error("the transaction is not well-formed")]
    Malformed,
    /// Out of order, or done before.
    #[error("account {account}: expected nonce {expected}, found {found}")]
    Nonce {
        /// The account.
        account: AccountId,
        /// How many transactions came before.
        expected: u64,
        /// The transaction's.
        found: u64,
    },
    /// The fee is below the least.
    #[error("expected a fee of at least {expected}, found {found}")]
    Fee {
        /// The least.
        expected: Amount,
        /// The transaction's.
        found: Amount,
    },
    /// The account has too little.
    #[error("account {account}: expected a balance of at least {expected}, found {found}")]
    Funds {
        /// The account.
        account: AccountId,
        /// What the transaction takes, fee included; the largest amount when it is more.
        expected: Amount,
        /// The balance.
        found: Amount,
    },
    /// A transfer of nothing.
    #[error("expected an amount above zero")]
    AmountZero,
    /// The state has no room for another entry.
    #[error("the ledger is full: expected fewer than {max} {table:?}")]
    TableFull {
        /// Of what.
        table: TableKind,
        /// The bound.
        max: u64,
    },
    /// The account is not a registered node.
    #[error("{node} is not a registered node")]
    UnknownNode {
        /// The account as a node.
        node: NodeId,
    },
    /// The node is registered.
    #[error("node {node} is registered already and {status}")]
    AlreadyRegistered {
        /// The node.
        node: NodeId,
        /// How it stands.
        status: NodeStatus,
    },
    /// The operator did not sign for this node on this ledger.
    #[error("the consent is not {operator}'s for this node on this ledger")]
    Consent {
        /// The operator named.
        operator: AccountId,
    },
    /// The node is draining or lost.
    #[error("node {node}: expected {expected}, found {found}")]
    NodeStatus {
        /// The node.
        node: NodeId,
        /// What it must be.
        expected: NodeStatus,
        /// What it is.
        found: NodeStatus,
    },
    /// The new capacity is below what is given out.
    #[error("expected a capacity of at least {expected}, found {found}")]
    CapacityUsed {
        /// Slot capacity given out.
        expected: ByteCount,
        /// The capacity offered.
        found: ByteCount,
    },
    /// The slot capacity is out of range.
    #[error("expected a slot capacity of {min} to {max}, found {found}")]
    SlotCapacity {
        /// The least.
        min: ByteCount,
        /// The most.
        max: ByteCount,
        /// The group's.
        found: ByteCount,
    },
    /// The term is out of range.
    #[error("expected a term of 1 to {max} epochs, found {found}")]
    Term {
        /// The longest.
        max: u32,
        /// The group's.
        found: u32,
    },
    /// The escrow does not cover the group's term at its highest price, as the parameters ask.
    #[error("expected an escrow of at least {expected}, found {found}")]
    Escrow {
        /// The least; the largest amount when it is more.
        expected: Amount,
        /// The transaction's.
        found: Amount,
    },
    /// Too few active nodes have room at that price.
    #[error("expected {expected} nodes with room at that price, found {found}")]
    NodeCount {
        /// Slots of the group: each is on a node of its own.
        expected: u32,
        /// Nodes that could take one.
        found: u32,
    },
    /// No such group.
    #[error("no group {group}")]
    UnknownGroup {
        /// The group.
        group: GroupId,
    },
    /// The group is another's.
    #[error("expected the group's owner {expected}, found {found}")]
    NotOwner {
        /// The owner.
        expected: AccountId,
        /// Who asks.
        found: AccountId,
    },
    /// The group's slots are not drawn yet.
    #[error("the slots of group {group} are not drawn yet")]
    NotPlaced {
        /// The group.
        group: GroupId,
    },
    /// Not the next revision.
    #[error("group {group}: expected revision {expected}, found {found}")]
    RevisionNumber {
        /// The group.
        group: GroupId,
        /// One more than the current.
        expected: RevisionNumber,
        /// The transaction's.
        found: RevisionNumber,
    },
    /// More bytes than the slots may hold.
    #[error("expected at most {max} in a slot, found {found}")]
    SlotBytes {
        /// The group's slot capacity.
        max: ByteCount,
        /// The revision's.
        found: ByteCount,
    },
    /// Fewer segments than before.
    #[error("expected at least {min} segments, found {found}")]
    SegmentCount {
        /// The current revision's.
        min: u32,
        /// The new one's.
        found: u32,
    },
    /// No such slot.
    #[error("{slot}: the group has {count} slots")]
    UnknownSlot {
        /// What was named.
        slot: SlotRef,
        /// Slots of the group.
        count: u32,
    },
    /// Another node has the deal, or no node has it.
    #[error("{slot}: {found} does not hold it")]
    NotHolder {
        /// The slot.
        slot: SlotRef,
        /// Who holds it; `None` while a successor is to be drawn.
        expected: Option<NodeId>,
        /// Who asks.
        found: NodeId,
    },
    /// An acknowledgement outside what is acknowledged already and the current revision.
    #[error("{slot}: expected a revision from {min} to {max}, found {found}")]
    Revision {
        /// The slot.
        slot: SlotRef,
        /// Acknowledged already.
        min: RevisionNumber,
        /// The group's current revision.
        max: RevisionNumber,
        /// The transaction's.
        found: RevisionNumber,
    },
    /// A list of slots is empty.
    #[error("expected at least one slot")]
    NoSlots,
    /// Too little to begin an account with.
    #[error("expected at least {expected} for a new account, found {found}")]
    AccountMin {
        /// The least balance of an account.
        expected: Amount,
        /// The transfer's amount.
        found: Amount,
    },
    /// A proof of another epoch than the one that runs.
    #[error("expected a proof of epoch {expected}, found {found}")]
    Epoch {
        /// The epoch that runs.
        expected: EpochNumber,
        /// The transaction's.
        found: EpochNumber,
    },
    /// Nobody can know yet what is to be proven; never, on a ledger without epochs.
    #[error("epoch {epoch} has no seed yet")]
    NoSeed {
        /// The epoch that runs.
        epoch: EpochNumber,
    },
    /// The node's proof of the epoch is judged already.
    #[error("node {node}: its proof of epoch {epoch} is judged")]
    Judged {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: EpochNumber,
    },
    /// The proof is not beside its transaction.
    #[error("the proof of digest {witness} is not there")]
    Unwitnessed {
        /// Its digest.
        witness: Digest,
    },
    /// The bytes beside the transaction are others than it names, or no proof.
    #[error("expected a proof of digest {expected}, found bytes of digest {found}")]
    Witness {
        /// What the transaction names.
        expected: Digest,
        /// That of the bytes.
        found: Digest,
    },
    /// More collateral than is free.
    #[error(
        "node {node}: expected at most {max} of its collateral that no slot locks, found {found}"
    )]
    Collateral {
        /// The node.
        node: NodeId,
        /// What no slot locks.
        max: Amount,
        /// What was to be taken.
        found: Amount,
    },
    /// A maintenance that is too long, of nothing, or on a ledger without epochs.
    #[error("expected a maintenance of 1 to {max} epochs, found {found}")]
    Maintenance {
        /// The longest.
        max: u32,
        /// The transaction's.
        found: u32,
    },
    /// A maintenance too soon after the last.
    #[error("node {node}: expected no maintenance before epoch {next}")]
    MaintainedLately {
        /// The node.
        node: NodeId,
        /// The first epoch in which one may begin.
        next: EpochNumber,
    },
    /// A node that has lapses must prove first.
    #[error("node {node} has missed {lapses} epochs: it must prove one first")]
    Lapsed {
        /// The node.
        node: NodeId,
        /// Its lapses.
        lapses: u64,
    },
    /// The group is closed or its term is over.
    #[error("group {group} has ended or is about to")]
    GroupEnding {
        /// The group.
        group: GroupId,
    },
    /// An extension that ends before it begins.
    #[error("group {group}: its term ended with epoch {ended}; expected at least one epoch more")]
    TermOver {
        /// The group.
        group: GroupId,
        /// The last epoch of its term.
        ended: EpochNumber,
    },
    /// More revisions of a group than an epoch allows.
    #[error(
        "group {group}: expected at most {max} revisions in epoch {epoch}; send this one in the next"
    )]
    RevisedOften {
        /// The group.
        group: GroupId,
        /// The epoch that runs.
        epoch: EpochNumber,
        /// How many it allows.
        max: u64,
    },
    /// The registry of volumes and notarisations does not do it.
    #[error(transparent)]
    Registry(RegistryError),
    /// The validators do not change like this.
    #[error(transparent)]
    Validators(TermError),
}

impl From<RegistryError> for TxError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl From<TermError> for TxError {
    fn from(error: TermError) -> Self {
        Self::Validators(error)
    }
}

impl TxError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Registry(error) => error.retry(),
            Self::Validators(error) => error.retry(),
            // The world may change: nodes join, funds and groups arrive, slots are drawn.
            Self::Funds { .. }
            | Self::TableFull { .. }
            | Self::NodeCount { .. }
            | Self::UnknownGroup { .. }
            | Self::NotPlaced { .. }
            | Self::NoSeed { .. }
            | Self::Collateral { .. }
            | Self::MaintainedLately { .. }
            | Self::Lapsed { .. }
            | Self::RevisedOften { .. }
            | Self::Unwitnessed { .. } => Retry::Later,
            Self::Signer { .. }
            | Self::Signature { .. }
            | Self::Malformed
            | Self::Nonce { .. }
            | Self::Fee { .. }
            | Self::AmountZero
            | Self::UnknownNode { .. }
            | Self::AlreadyRegistered { .. }
            | Self::Consent { .. }
            | Self::NodeStatus { .. }
            | Self::CapacityUsed { .. }
            | Self::SlotCapacity { .. }
            | Self::Term { .. }
            | Self::Escrow { .. }
            | Self::NotOwner { .. }
            | Self::RevisionNumber { .. }
            | Self::SlotBytes { .. }
            | Self::SegmentCount { .. }
            | Self::UnknownSlot { .. }
            | Self::NotHolder { .. }
            | Self::Revision { .. }
            | Self::NoSlots
            | Self::AccountMin { .. }
            | Self::Epoch { .. }
            | Self::Judged { .. }
            | Self::Maintenance { .. }
            | Self::GroupEnding { .. }
            | Self::TermOver { .. }
            | Self::Witness { .. } => Retry::Never,
        }
    }

    /// Whose fault it is, for the one who asked.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Registry(error) => error.blame(),
            Self::Validators(error) => error.blame(),
            Self::TableFull { .. }
            | Self::NodeCount { .. }
            | Self::NoSeed { .. }
            | Self::Unwitnessed { .. } => Blame::World,
            Self::Signer { .. }
            | Self::Signature { .. }
            | Self::Malformed
            | Self::Nonce { .. }
            | Self::Fee { .. }
            | Self::Funds { .. }
            | Self::AmountZero
            | Self::UnknownNode { .. }
            | Self::AlreadyRegistered { .. }
            | Self::Consent { .. }
            | Self::NodeStatus { .. }
            | Self::CapacityUsed { .. }
            | Self::SlotCapacity { .. }
            | Self::Term { .. }
            | Self::Escrow { .. }
            | Self::UnknownGroup { .. }
            | Self::NotOwner { .. }
            | Self::NotPlaced { .. }
            | Self::RevisionNumber { .. }
            | Self::SlotBytes { .. }
            | Self::SegmentCount { .. }
            | Self::UnknownSlot { .. }
            | Self::NotHolder { .. }
            | Self::Revision { .. }
            | Self::NoSlots
            | Self::AccountMin { .. }
            | Self::Epoch { .. }
            | Self::Judged { .. }
            | Self::Collateral { .. }
            | Self::Maintenance { .. }
            | Self::MaintainedLately { .. }
            | Self::Lapsed { .. }
            | Self::GroupEnding { .. }
            | Self::TermOver { .. }
            | Self::RevisedOften { .. }
            | Self::Witness { .. } => Blame::Caller,
        }
    }
}
