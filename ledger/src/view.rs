//! What people look at: the ledger's tables page by page, its recent blocks, what nodes earn and
//! what is proven. Nothing here is needed to store or to prove; [`crate::Ledger`] has that.
//!
//! Every page is bounded, so that its answer fits a message and takes milliseconds.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::code::SLOTS_MAX;
use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;
use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, Digest, EpochNumber, GroupId, GroupRevision,
    Height, NodeId, PublicKey, Record, RecordKind, RevisionNumber, SegmentNumber, Signed,
    SlotIndex, TxId, UnixMillis, VolumeId,
};

use crate::block::{Block, TXS_MAX};
use crate::earnings::Earnings;
use crate::epoch::{Epoch, FROZEN_PAGE_MAX};
use crate::genesis::GROUP_ENTRY_BYTES_MAX;
use crate::group::Ending;
use crate::registry::{
    GRANT_BYTES_MAX, GRANTS_PER_VOLUME_MAX, Grant, RegistryTx, VOLUME_BYTES_MAX,
    VOLUMES_PER_ACCOUNT_MAX, Volume,
};
use crate::score::SCORE_BYTES_MAX;
use crate::ticket::SLOTS_LOOKED_MAX;
use crate::tx::{Tx, TxBody, tx_id};
use crate::tx_error::TxError;

/// Most nodes of one page: 400 KB.
pub const NODES_PAGE_MAX: usize = 1_024;
/// Most groups of one page: they come with their deals.
pub const GROUPS_PAGE_MAX: usize = 16;
/// Most blocks of one page.
pub const BLOCKS_PAGE_MAX: usize = 256;

/// A volume at some height.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct VolumeView {
    /// Height of the last block.
    pub height: Height,
    /// Its time, by which the lease is over or not.
    pub time: UnixMillis,
    /// The volume.
    pub volume: Volume,
}

/// A key's right to a volume at some height: what a node or client checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GrantView {
    /// Height of the last block.
    pub height: Height,
    /// Its time, by which the grant has expired or not.
    pub time: UnixMillis,
    /// The volume.
    pub volume: VolumeId,
    /// Who may do everything.
    pub owner: AccountId,
    /// The key.
    pub holder: PublicKey,
    /// Its grant or revocation; `None` when the ledger knows of neither, and capabilities of the
    /// key stand by themselves.
    pub grant: Option<Grant>,
}

/// The epoch that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EpochView {
    /// Number, seed, how long it was open, and how many before it were judged.
    pub epoch: Epoch,
    /// Length of an epoch; 0 on a ledger without epochs.
    pub epoch_millis: u64,
    /// When it began by the clock of the ledger.
    pub began: UnixMillis,
    /// Time of the last block.
    pub time: UnixMillis,
    /// Nodes that are active.
    pub active_node_count: u64,
    /// Nodes whose proof of it was valid.
    pub valid_count: u64,
    /// Nodes whose proof of it was invalid.
    pub invalid_count: u64,
}

/// A group without its deals, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupSummary {
    /// Its id.
    pub id: GroupId,
    /// Who owns it.
    pub owner: AccountId,
    /// Its erasure code.
    pub code: Code,
    /// Most bytes of each slot.
    pub slot_capacity: ByteCount,
    /// Most that a node may ask, in micro-credits per GiB and epoch.
    pub price_max: Amount,
    /// The epoch with which its term ends.
    pub ends: EpochNumber,
    /// How it ends, once it does.
    pub ending: Option<Ending>,
    /// What is left in it.
    pub escrow: Amount,
    /// What an epoch that all its nodes prove takes out of it, at the slots' present bytes.
    pub epoch_cost: Amount,
    /// Height of the block that opened it.
    pub opened: Height,
    /// Its current revision.
    pub revision: RevisionNumber,
    /// Bytes of each slot at that.
    pub slot_bytes: ByteCount,
    /// Slots that are drawn: n or none.
    pub slot_count: u8,
    /// Slots whose node has acknowledged the current revision and stays.
    pub current_count: u8,
}

impl GroupSummary {
    /// Epochs that the escrow still pays in full at the present use; `None` when nothing is used.
    #[must_use]
    pub const fn epochs_left(&self) -> Option<u64> {
        self.escrow.micro().checked_div(self.epoch_cost.micro())
    }
}

/// What a node earned and spent, with the balance that it agrees with: of one state.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EarningsView {
    /// The node.
    pub node: NodeId,
    /// Height of the last block.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// The epoch that runs.
    pub epoch: EpochNumber,
    /// The balance of the node's account.
    pub balance: Amount,
    /// What it earned and spent.
    pub earnings: Earnings,
}

/// What the ledger knows of a group's proofs at some height. Signed for its ledger it is a
/// durability receipt: whoever signs says that this is what the ledger holds.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupProof {
    /// Height of the last block.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// Its digest.
    pub tip: Digest,
    /// The epoch that runs; 0 on a ledger without epochs.
    pub epoch: EpochNumber,
    /// The group.
    pub group: GroupId,
    /// Who owns it.
    pub owner: AccountId,
    /// Its erasure code.
    pub code: Code,
    /// Its current revision.
    pub revision: GroupRevision,
    /// The slots whose holder's last verdict is valid and was of a known revision of the slot; rising.
    pub slots: Bounded<SlotProof, SLOTS_MAX>,
}

/// A slot that its node has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SlotProof {
    /// The slot.
    pub slot: SlotIndex,
    /// Its node.
    pub node: NodeId,
    /// The epoch that the node proved last.
    pub epoch: EpochNumber,
    /// The revision of the slot that it proved.
    pub revision: RevisionNumber,
    /// Segments of that revision, from number 0 on.
    pub segment_count: u32,
}

impl GroupProof {
    /// The epoch as of which slots count as proven: the one before the one that runs, which is the
    /// last that is over.
    #[must_use]
    pub const fn as_of(&self) -> EpochNumber {
        EpochNumber::new(self.epoch.get().saturating_sub(1))
    }

    /// The slots proven in that epoch or since, with all segments up to `last`; with any when
    /// there is none.
    pub fn proven(&self, last: Option<SegmentNumber>) -> impl Iterator<Item = &SlotProof> {
        let as_of = self.as_of();
        self.slots.iter().filter(move |slot| {
            slot.epoch >= as_of && last.is_none_or(|last| last.get() < slot.segment_count)
        })
    }
}

impl Record for GroupProof {
    const KIND: RecordKind = RecordKind::GroupProof;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512 + SLOTS_MAX * (1 + 32 + 8 + 8 + 4);

    fn is_well_formed(&self) -> bool {
        self.slots.is_sorted_by(|a, b| a.slot < b.slot)
            && self.revision.group == self.group
            && self.slots.iter().all(|slot| {
                slot.slot.get() < self.code.n()
                    && slot.epoch <= self.epoch
                    && slot.revision <= self.revision.number
            })
    }
}

/// A final block in short.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockSummary {
    /// Its height.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// Its digest: the parent of the next.
    pub digest: Digest,
    /// Effects that it had.
    pub effect_count: u32,
    /// Nodes that it called lost.
    pub lost_count: u32,
    /// Its transactions, in their order.
    pub txs: Bounded<TxSummary, TXS_MAX>,
}

impl BlockSummary {
    /// Of a block and what became of its transactions, in their order.
    #[must_use]
    pub fn of(
        block: &Block,
        effect_count: usize,
        results: impl Iterator<Item = Result<(), TxError>>,
    ) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let txs = block.txs.iter().zip(results);
        let txs = txs.map(|(tx, result)| TxSummary::of(tx, result)).collect();
        Self {
            height: block.height,
            time: block.time,
            digest: block.record_digest(),
            effect_count: count(effect_count),
            lost_count: count(block.lost.len()),
            txs: Bounded::new(txs).unwrap_or_default(),
        }
    }
}

/// A transaction in short.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxSummary {
    /// Its id.
    pub id: TxId,
    /// Who asked.
    pub account: AccountId,
    /// Transactions of the account before it.
    pub nonce: u64,
    /// Its fee.
    pub fee: Amount,
    /// What it asked.
    pub kind: TxKind,
    /// Done, or why not.
    pub result: Result<(), TxError>,
}

impl TxSummary {
    fn of(signed: &Signed<Tx>, result: Result<(), TxError>) -> Self {
        let tx = signed.unverified();
        Self {
            id: tx_id(signed),
            account: tx.account,
            nonce: tx.nonce,
            fee: tx.fee,
            kind: TxKind::of(&tx.body),
            result,
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxLookup {
    /// The oldest height that is remembered: an older block's transactions are not found.
    pub oldest: Height,
    /// Height and time of its block, and the transaction; `None` when no remembered block has it.
    pub found: Option<(Height, UnixMillis, Box<TxSummary>)>,
}

/// Which body a transaction has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum TxKind {
    /// [`TxBody::Transfer`].
    Transfer,
    /// [`TxBody::NodeRegister`].
    NodeRegister,
    /// [`TxBody::NodeUpdate`].
    NodeUpdate,
    /// [`TxBody::NodeDrain`].
    NodeDrain,
    /// [`TxBody::GroupOpen`].
    GroupOpen,
    /// [`TxBody::GroupRevise`].
    GroupRevise,
    /// [`TxBody::Acknowledge`].
    Acknowledge,
    /// [`TxBody::DeclareLoss`].
    DeclareLoss,
    /// [`TxBody::ProofSubmit`].
    ProofSubmit,
    /// [`TxBody::NodeAddCollateral`].
    NodeAddCollateral,
    /// [`TxBody::NodeTakeCollateral`].
    NodeTakeCollateral,
    /// [`TxBody::NodeMaintain`].
    NodeMaintain,
    /// [`TxBody::GroupExtend`].
    GroupExtend,
    /// [`TxBody::GroupClose`].
    GroupClose,
    /// [`RegistryTx::VolumeRegister`].
    VolumeRegister,
    /// [`RegistryTx::VolumeDescribe`].
    VolumeDescribe,
    /// [`RegistryTx::VolumeClose`].
    VolumeClose,
    /// [`RegistryTx::VolumeAnchor`].
    VolumeAnchor,
    /// [`RegistryTx::LeaseTake`].
    LeaseTake,
    /// [`RegistryTx::LeaseAsk`].
    LeaseAsk,
    /// [`RegistryTx::LeaseRenew`].
    LeaseRenew,
    /// [`RegistryTx::LeaseRelease`].
    LeaseRelease,
    /// [`RegistryTx::LeaseHandOver`].
    LeaseHandOver,
    /// [`RegistryTx::GrantMake`].
    GrantMake,
    /// [`RegistryTx::GrantRevoke`].
    GrantRevoke,
    /// [`RegistryTx::Notarise`].
    Notarise,
    /// [`TxBody::ValidatorsChange`].
    ValidatorsChange,
}

impl TxKind {
    /// That of a body.
    #[must_use]
    pub const fn of(body: &TxBody) -> Self {
        match body {
            TxBody::Transfer { .. } => Self::Transfer,
            TxBody::NodeRegister { .. } => Self::NodeRegister,
            TxBody::NodeUpdate { .. } => Self::NodeUpdate,
            TxBody::NodeDrain => Self::NodeDrain,
            TxBody::GroupOpen { .. } => Self::GroupOpen,
            TxBody::GroupRevise { .. } => Self::GroupRevise,
            TxBody::Acknowledge { .. } => Self::Acknowledge,
            TxBody::DeclareLoss { .. } => Self::DeclareLoss,
            TxBody::ProofSubmit { .. } => Self::ProofSubmit,
            TxBody::NodeAddCollateral { .. } => Self::NodeAddCollateral,
            TxBody::NodeTakeCollateral { .. } => Self::NodeTakeCollateral,
            TxBody::NodeMaintain { .. } => Self::NodeMaintain,
            TxBody::GroupExtend { .. } => Self::GroupExtend,
            TxBody::GroupClose { .. } => Self::GroupClose,
            TxBody::Registry(asked) => Self::of_registry(asked),
            TxBody::ValidatorsChange { .. } => Self::ValidatorsChange,
        }
    }

    const fn of_registry(asked: &RegistryTx) -> Self {
        match asked {
            RegistryTx::VolumeRegister { .. } => Self::VolumeRegister,
            RegistryTx::VolumeDescribe { .. } => Self::VolumeDescribe,
            RegistryTx::VolumeClose { .. } => Self::VolumeClose,
            RegistryTx::VolumeAnchor { .. } => Self::VolumeAnchor,
            RegistryTx::LeaseTake { .. } => Self::LeaseTake,
            RegistryTx::LeaseAsk { .. } => Self::LeaseAsk,
            RegistryTx::LeaseRenew { .. } => Self::LeaseRenew,
            RegistryTx::LeaseRelease { .. } => Self::LeaseRelease,
            RegistryTx::LeaseHandOver { .. } => Self::LeaseHandOver,
            RegistryTx::GrantMake { .. } => Self::GrantMake,
            RegistryTx::GrantRevoke { .. } => Self::GrantRevoke,
            RegistryTx::Notarise { .. } => Self::Notarise,
        }
    }

    /// Its name, for people and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::NodeRegister => "node-register",
            Self::NodeUpdate => "node-update",
            Self::NodeDrain => "node-drain",
            Self::GroupOpen => "group-open",
            Self::GroupRevise => "group-revise",
            Self::Acknowledge => "acknowledge",
            Self::DeclareLoss => "declare-loss",
            Self::ProofSubmit => "proof-submit",
            Self::NodeAddCollateral => "node-add-collateral",
            Self::NodeTakeCollateral => "node-take-collateral",
            Self::NodeMaintain => "node-maintain",
            Self::GroupExtend => "group-extend",
            Self::GroupClose => "group-close",
            Self::VolumeRegister => "volume-register",
            Self::VolumeDescribe => "volume-describe",
            Self::VolumeClose => "volume-close",
            Self::VolumeAnchor => "volume-anchor",
            Self::LeaseTake => "lease-take",
            Self::LeaseAsk => "lease-ask",
            Self::LeaseRenew => "lease-renew",
            Self::LeaseRelease => "lease-release",
            Self::LeaseHandOver => "lease-hand-over",
            Self::GrantMake => "grant-make",
            Self::GrantRevoke => "grant-revoke",
            Self::Notarise => "notarise",
            Self::ValidatorsChange => "validators-change",
        }
    }
}

// Evidence of a page fits a message: 80 KB for the way to it, and of each entry what a branch and
// what was left out beside it take, at most 71 bytes and its key. Where entries are not one behind
// the other, each has its own way.
#[expect(clippy::arithmetic_side_effects, reason = "of constants")]
const fn page_fits(count: usize, entry_bytes: usize, ways: usize) -> bool {
    count * (entry_bytes + 71 + 66) + ways * WAY_BYTES + 80_000 <= LEDGER_MESSAGE_BYTES_MAX
}
/// Bytes of the branches above an entry among 2^40, and of what is left out beside them.
const WAY_BYTES: usize = 40 * (3 + 33);
pub(crate) const NODE_ENTRY_BYTES: usize = 386 + SCORE_BYTES_MAX;
const GROUP_ENTRY_BYTES: usize = 58_800;
const _: () = assert!(GROUP_ENTRY_BYTES_MAX <= 58_800);
const _: () = assert!(page_fits(NODES_PAGE_MAX, NODE_ENTRY_BYTES, 0));
const _: () = assert!(page_fits(
    GROUPS_PAGE_MAX,
    GROUP_ENTRY_BYTES + 66,
    GROUPS_PAGE_MAX
));
// A group with the nodes of its slots.
const _: () = assert!(page_fits(
    SLOTS_MAX,
    NODE_ENTRY_BYTES + GROUP_ENTRY_BYTES / SLOTS_MAX + 1,
    SLOTS_MAX
));
// Slots that a node holds come with their groups, and some it had left before.
const _: () = assert!(page_fits(
    FROZEN_PAGE_MAX,
    GROUP_ENTRY_BYTES + 66 + 61 + 66,
    FROZEN_PAGE_MAX
));
// Slots that are looked at for an audit come with their groups; so do the auditor, the rank, the node at
// it, and the two places where its slots begin and end. The most there is: 1,054,288 bytes.
const _: () = assert!(page_fits(
    SLOTS_LOOKED_MAX,
    GROUP_ENTRY_BYTES + 66,
    SLOTS_LOOKED_MAX + 5
));
// All volumes of an account, and all grants of a volume.
const _: () = assert!(page_fits(
    VOLUMES_PER_ACCOUNT_MAX,
    VOLUME_BYTES_MAX + 66,
    VOLUMES_PER_ACCOUNT_MAX
));
const _: () = assert!(page_fits(GRANTS_PER_VOLUME_MAX, GRANT_BYTES_MAX, 0));
