//! Why balances change: the one table from effects to movements of credits.
//!
//! Every change of a balance is told by an effect, and [`movements`] says of each effect whose balance
//! it changed, why and by how much. What a node earned ([`crate::earnings`]) is made from nothing
//! else, so that it agrees with the balance. A new cause is a variant of [`Cause`] with its
//! direction; a new effect that moves credits is one line in [`movements`].

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, Amount, EpochNumber, NodeId};

use crate::effect::Effect;
use crate::tx::TxBody;

/// Why a balance changed. Each cause is always an income or always an expense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Cause {
    /// A node was paid for an epoch that it proved.
    Pay,
    /// The fee of a transaction, done or refused.
    Fee,
    /// Another account sent it.
    Received,
    /// It was sent to another account.
    Sent,
    /// It was locked for a group.
    EscrowLocked,
    /// It came back from a group.
    EscrowReturned,
    /// A node was paid for slots that it repaired.
    Bounty,
    /// It was put down as a node's collateral.
    CollateralAdded,
    /// A node took it back out of its collateral.
    CollateralTaken,
}

/// Whether a cause adds to a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The balance grows.
    Income,
    /// The balance shrinks.
    Expense,
}

impl Cause {
    /// Every cause, rising.
    pub const ALL: [Self; 9] = [
        Self::Pay,
        Self::Fee,
        Self::Received,
        Self::Sent,
        Self::EscrowLocked,
        Self::EscrowReturned,
        Self::Bounty,
        Self::CollateralAdded,
        Self::CollateralTaken,
    ];

    /// Whether it adds to the balance.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Pay
            | Self::Received
            | Self::EscrowReturned
            | Self::Bounty
            | Self::CollateralTaken => Direction::Income,
            Self::Fee | Self::Sent | Self::EscrowLocked | Self::CollateralAdded => {
                Direction::Expense
            }
        }
    }

    /// Its name, for people and files: lower case, words joined by hyphens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Fee => "fee",
            Self::Received => "received",
            Self::Sent => "sent",
            Self::EscrowLocked => "escrow-locked",
            Self::EscrowReturned => "escrow-returned",
            Self::Bounty => "bounty",
            Self::CollateralAdded => "collateral-added",
            Self::CollateralTaken => "collateral-taken",
        }
    }

    /// Why a transaction takes more than its fee out of its account's balance; `None` when it does
    /// not.
    #[must_use]
    pub(crate) const fn of_outgoing(body: &TxBody) -> Option<Self> {
        match body {
            TxBody::Transfer { .. } => Some(Self::Sent),
            TxBody::GroupOpen { .. } | TxBody::GroupExtend { .. } => Some(Self::EscrowLocked),
            TxBody::NodeAddCollateral { .. } => Some(Self::CollateralAdded),
            TxBody::NodeRegister { .. }
            | TxBody::NodeUpdate { .. }
            | TxBody::NodeDrain
            | TxBody::GroupRevise { .. }
            | TxBody::Acknowledge { .. }
            | TxBody::DeclareLoss { .. }
            | TxBody::ProofSubmit { .. }
            | TxBody::NodeTakeCollateral { .. }
            | TxBody::NodeMaintain { .. }
            | TxBody::GroupClose { .. }
            | TxBody::Registry(_)
            | TxBody::ValidatorsChange { .. } => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change of one account's balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Movement {
    /// Whose balance.
    pub account: AccountId,
    /// The epoch in which it changed.
    pub epoch: EpochNumber,
    /// Why; says whether it grew or shrank.
    pub cause: Cause,
    /// By how much; above zero.
    pub amount: Amount,
}

/// The changes of balances that an effect tells of, at most one.
pub fn movements(effect: &Effect) -> impl Iterator<Item = Movement> {
    let of_node = |node: &NodeId, epoch: &EpochNumber, cause, amount: &Amount| Movement {
        account: AccountId::new(node.key()),
        epoch: *epoch,
        cause,
        amount: *amount,
    };
    let told = match effect {
        Effect::Moved(movement) => Some(*movement),
        Effect::Paid {
            node,
            epoch,
            amount,
            ..
        } => Some(of_node(node, epoch, Cause::Pay, amount)),
        Effect::BountyPaid {
            node,
            epoch,
            amount,
        } => Some(of_node(node, epoch, Cause::Bounty, amount)),
        Effect::TxDone { .. }
        | Effect::NodeChanged(_)
        | Effect::GroupOpened(_)
        | Effect::GroupPlaced(_)
        | Effect::GroupRefunded { .. }
        | Effect::Revised { .. }
        | Effect::SlotMoved { .. }
        | Effect::SlotWaiting(_)
        | Effect::SlotReleased { .. }
        | Effect::Acknowledged { .. }
        | Effect::LossDeclared(_)
        | Effect::EpochBegan(_)
        | Effect::EpochOpened(_)
        | Effect::Judged { .. }
        | Effect::Slashed { .. }
        | Effect::Forfeited { .. }
        | Effect::CollateralAdded { .. }
        | Effect::CollateralTaken { .. }
        | Effect::CollateralFilled { .. }
        | Effect::GroupChanged(_)
        | Effect::GroupReleased(_)
        | Effect::GroupClosed { .. }
        | Effect::VolumeChanged(_)
        | Effect::VolumeClosed(_)
        | Effect::Anchored { .. }
        | Effect::LeaseChanged { .. }
        | Effect::LeaseAsked { .. }
        | Effect::GrantChanged { .. }
        | Effect::Notarised(_)
        | Effect::TermNamed { .. }
        | Effect::TermBegan { .. } => None,
    };
    told.into_iter()
        .filter(|movement| movement.amount > Amount::ZERO)
}
