//! Why the registry does not do what is asked.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Blame, Digest, FencingNumber, HeadNumber, Height, Retry, UnixMillis, VolumeId,
};

use super::Writer;

/// Why a [`super::RegistryTx`] is refused.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum RegistryError {
    /// No such volume.
    #[error("no volume {volume}")]
    UnknownVolume {
        /// The volume.
        volume: VolumeId,
    },
    /// The volume is another's.
    #[error("volume {volume}: expected its owner {expected}, found {found}")]
    NotOwner {
        /// The volume.
        volume: VolumeId,
        /// The owner.
        expected: AccountId,
        /// Who asks.
        found: AccountId,
    },
    /// The account has as many volumes as it may.
    #[error("account {account} has {max} volumes: close one first")]
    VolumeCount {
        /// The account.
        account: AccountId,
        /// The bound.
        max: u32,
    },
    /// The account neither owns the volume nor has a grant to write it.
    #[error("volume {volume}: account {account} may not write it")]
    NoRight {
        /// The volume.
        volume: VolumeId,
        /// The account that was to have the lease.
        account: AccountId,
    },
    /// A lease of no time, or of too much.
    #[error("expected a lease of 1 to {max} ms, found {found}")]
    LeaseMillis {
        /// The longest.
        max: u64,
        /// What was asked for.
        found: u64,
    },
    /// The lease is taken.
    #[error("volume {volume}: {holder} has lease {fencing} until {until}; ask for it")]
    LeaseHeld {
        /// The volume.
        volume: VolumeId,
        /// Who has it.
        holder: Writer,
        /// Its number.
        fencing: FencingNumber,
        /// When it is over unless it is renewed.
        until: UnixMillis,
    },
    /// Of another lease than the volume's newest: who asks is fenced.
    #[error("volume {volume}: expected fencing number {expected}, found {found}")]
    Fenced {
        /// The volume.
        volume: VolumeId,
        /// The current number.
        expected: FencingNumber,
        /// The transaction's.
        found: FencingNumber,
    },
    /// Nobody has the lease.
    #[error("volume {volume}: lease {fencing} was the last; take one")]
    NoLease {
        /// The volume.
        volume: VolumeId,
        /// The number of the last; 0 when there was none.
        fencing: FencingNumber,
    },
    /// The lease ended by time.
    #[error("volume {volume}: lease {fencing} was over at {until}; renew or take it")]
    LeaseOver {
        /// The volume.
        volume: VolumeId,
        /// The lease.
        fencing: FencingNumber,
        /// When it ended.
        until: UnixMillis,
    },
    /// Another account has the lease.
    #[error("volume {volume}: expected account {expected}, which has the lease, found {found}")]
    NotWriter {
        /// The volume.
        volume: VolumeId,
        /// Who has it.
        expected: AccountId,
        /// Who asks.
        found: AccountId,
    },
    /// The number of a head is not above the newest anchor's, or too far above.
    #[error("volume {volume}: expected a head from {min} to {max}, found {found}")]
    HeadNumber {
        /// The volume.
        volume: VolumeId,
        /// One more than the newest anchor's.
        min: HeadNumber,
        /// The highest.
        max: HeadNumber,
        /// The transaction's.
        found: HeadNumber,
    },
    /// A grant that is void already, or of too long a time.
    #[error("expected an expiry after {after}, at most {max}, found {found}")]
    Expiry {
        /// The time of the block.
        after: UnixMillis,
        /// The latest.
        max: UnixMillis,
        /// The transaction's.
        found: UnixMillis,
    },
    /// The volume has as many grants as it may.
    #[error("volume {volume} has {max} grants and revocations that have not expired")]
    GrantCount {
        /// The volume.
        volume: VolumeId,
        /// The bound.
        max: u32,
    },
    /// The digest is recorded already.
    #[error("digest {digest} was notarised at height {height}")]
    Notarised {
        /// The digest.
        digest: Digest,
        /// Height of the block that recorded it.
        height: Height,
    },
}

impl RegistryError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            // Owners may register and grant, leases and grants end.
            Self::UnknownVolume { .. }
            | Self::NoRight { .. }
            | Self::LeaseHeld { .. }
            | Self::GrantCount { .. } => Retry::Later,
            Self::NotOwner { .. }
            | Self::VolumeCount { .. }
            | Self::LeaseMillis { .. }
            | Self::Fenced { .. }
            | Self::NoLease { .. }
            | Self::LeaseOver { .. }
            | Self::NotWriter { .. }
            | Self::HeadNumber { .. }
            | Self::Expiry { .. }
            | Self::Notarised { .. } => Retry::Never,
        }
    }

    /// Whose fault it is, for the one who asked.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::LeaseHeld { .. } => Blame::World,
            Self::UnknownVolume { .. }
            | Self::NotOwner { .. }
            | Self::VolumeCount { .. }
            | Self::NoRight { .. }
            | Self::LeaseMillis { .. }
            | Self::Fenced { .. }
            | Self::NoLease { .. }
            | Self::LeaseOver { .. }
            | Self::NotWriter { .. }
            | Self::HeadNumber { .. }
            | Self::Expiry { .. }
            | Self::GrantCount { .. }
            | Self::Notarised { .. } => Blame::Caller,
        }
    }
}
