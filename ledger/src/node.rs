//! Nodes as the ledger knows them.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, Amount, ByteCount, EpochNumber, NodeId};

use crate::epoch::Standing;
use crate::score::Score;
use crate::tx::NodeTerms;

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum NodeStatus {
    /// Holds slots and is drawn for more.
    Active,
    /// Leaves: holds its slots until successors have them, is drawn for none. May register again
    /// once it holds none.
    Draining,
    /// Called lost: holds none. May register again.
    Lost,
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Lost => "lost",
        })
    }
}

/// A node as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NodeEntry {
    /// Its identity.
    pub node: NodeId,
    /// The account that answers for it.
    pub operator: AccountId,
    /// What it offers.
    pub terms: NodeTerms,
    /// Slot capacity given out, to slots it holds and to those it is leaving.
    pub used: ByteCount,
    /// How it stands.
    pub status: NodeStatus,
    /// How it stands with its proofs.
    pub standing: Standing,
    /// Collateral that was put down for it.
    pub collateral: Amount,
    /// How much of it its slots lock.
    pub locked: Amount,
    /// The epoch from which on it was last down for maintenance.
    pub maintained: Option<EpochNumber>,
    /// What others say of its audits.
    pub score: Score,
}

impl NodeEntry {
    /// Capacity not given out.
    #[must_use]
    pub fn free(&self) -> ByteCount {
        self.terms
            .capacity
            .checked_sub(self.used)
            .unwrap_or(ByteCount::ZERO)
    }

    /// Collateral that no slot locks.
    #[must_use]
    pub fn free_collateral(&self) -> Amount {
        self.collateral
            .checked_sub(self.locked)
            .unwrap_or(Amount::ZERO)
    }
}
