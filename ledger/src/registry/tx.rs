//! What an account asks of the registry.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Digest, FencingNumber, HeadNumber, PublicKey, Right, UnixMillis, VolumeId};

use super::{Descriptor, Writer};

/// What a transaction asks of the registry.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RegistryTx {
    /// Registers a volume of the sending account. Its id is [`super::volume_id`] of this
    /// transaction's.
    VolumeRegister {
        /// The owner's note.
        descriptor: Descriptor,
    },
    /// The owner changes its note.
    VolumeDescribe {
        /// The volume.
        volume: VolumeId,
        /// The note.
        descriptor: Descriptor,
    },
    /// The owner ends a volume: its anchors, lease and grants are forgotten.
    VolumeClose {
        /// The volume.
        volume: VolumeId,
    },
    /// The writer makes the ledger bear witness to a head.
    VolumeAnchor {
        /// The volume.
        volume: VolumeId,
        /// The number of the writer's lease.
        fencing: FencingNumber,
        /// The head's number, above that of every one anchored before.
        number: HeadNumber,
        /// The head's digest.
        digest: Digest,
    },
    /// Takes the lease of a volume, when nobody else has it. The same writer takes it anew: what it
    /// was before a restart is fenced.
    LeaseTake {
        /// The volume.
        volume: VolumeId,
        /// The key of the machine or process that writes.
        key: PublicKey,
        /// For how long.
        millis: u64,
    },
    /// Asks the one who has the lease to hand it over. The newest to ask is noted.
    LeaseAsk {
        /// The volume.
        volume: VolumeId,
        /// The key of the machine or process that wants to write.
        key: PublicKey,
    },
    /// Prolongs a lease, also one that is over as long as nobody has taken another.
    LeaseRenew {
        /// The volume.
        volume: VolumeId,
        /// The number of the lease.
        fencing: FencingNumber,
        /// For how long from now on.
        millis: u64,
    },
    /// Gives a lease up.
    LeaseRelease {
        /// The volume.
        volume: VolumeId,
        /// The number of the lease.
        fencing: FencingNumber,
    },
    /// Gives a lease up to another writer, with nobody in between: it has a new number.
    LeaseHandOver {
        /// The volume.
        volume: VolumeId,
        /// The number of the lease.
        fencing: FencingNumber,
        /// Who has the next.
        to: Writer,
        /// For how long.
        millis: u64,
    },
    /// The owner gives a key a right, in the place of what it had.
    GrantMake {
        /// The volume.
        volume: VolumeId,
        /// The key.
        holder: PublicKey,
        /// What it may do.
        right: Right,
        /// Until when.
        expires_at: UnixMillis,
    },
    /// The owner takes a key's rights back: those of a grant, and those of capabilities that were
    /// handed to the key without the ledger.
    GrantRevoke {
        /// The volume.
        volume: VolumeId,
        /// The key.
        holder: PublicKey,
        /// When all that the key was handed has expired; the grant's expiry when that is later.
        expires_at: UnixMillis,
    },
    /// Records a digest with the block's height and time.
    Notarise {
        /// The digest.
        digest: Digest,
    },
}

impl RegistryTx {
    /// Whether it adds an entry that stays: it costs at least
    /// [`crate::Parameters::registration_fee_min`].
    #[must_use]
    pub const fn registers(&self) -> bool {
        match self {
            Self::VolumeRegister { .. } | Self::Notarise { .. } => true,
            // Grants are bounded by their volume.
            Self::VolumeDescribe { .. }
            | Self::VolumeClose { .. }
            | Self::VolumeAnchor { .. }
            | Self::LeaseTake { .. }
            | Self::LeaseAsk { .. }
            | Self::LeaseRenew { .. }
            | Self::LeaseRelease { .. }
            | Self::LeaseHandOver { .. }
            | Self::GrantMake { .. }
            | Self::GrantRevoke { .. } => false,
        }
    }
}
