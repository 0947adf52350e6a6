//! What the ledger keeps of volumes: who owns them, how far their heads are anchored, who may
//! write and read; and notarisations.
//!
//! The ledger knows neither a volume's content nor its groups. A *lease* is the exclusive right to
//! anchor heads of a volume for a while, and its *fencing number* rises with every lease, so that a
//! writer that was stopped and wakes up late is refused. It ends by the time of blocks, which no
//! clock of a writer can move.

mod error;
mod head;
mod tx;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Bounded, Digest, FencingNumber, HeadNumber, Height, PublicKey, Record, RecordKind,
    Right, TxId, UnixMillis, VolumeId,
};
pub use error::RegistryError;
pub use head::HeadStanding;
pub use tx::RegistryTx;

/// Most bytes of a volume's descriptor: a few sealed ids and numbers, no more.
pub const DESCRIPTOR_BYTES_MAX: usize = 256;
/// Most volumes of one account: all of them are one answer of less than 300 KB.
pub const VOLUMES_PER_ACCOUNT_MAX: usize = 256;
/// Most anchors that a volume keeps, the newest of each of its last leases. The very newest shows
/// a rollback. Those of the leases before let a writer that comes back after others have written
/// tell how far its own heads are part of the volume; seven leases are more than change hands
/// while a machine restarts, and cost 450 bytes.
pub const ANCHORS_KEPT_MAX: usize = 8;
/// Most grants of a volume, revoked ones included until they expire: all are one answer of 85 KB.
pub const GRANTS_PER_VOLUME_MAX: usize = 1_024;
/// Longest grant: 400 days, so that those renewed once a year overlap. What is revoked is kept until it
/// would have expired, and so is bounded too.
pub const GRANT_MILLIS_MAX: u64 = 400 * 86_400_000;
/// Most by which the number of a head is above that of the newest anchor. More than are published
/// between two anchors in years, and so few that no writer uses the numbers up.
pub const HEAD_STEP_MAX: u64 = 1 << 32;

/// What the owner notes of a volume for itself, sealed: the ledger does not look at it. With the
/// owner's seed it is where the search for a volume begins.
pub type Descriptor = Bounded<u8, DESCRIPTOR_BYTES_MAX>;

/// Bytes of a writer.
const WRITER_BYTES: usize = 32 + 32;
/// Bytes of an anchor.
const ANCHOR_BYTES: usize = 8 + 8 + 32 + 8 + 8;
/// Most bytes of a volume: ids, descriptor, height, fencing number, lease, anchors.
pub const VOLUME_BYTES_MAX: usize = 32
    + 32
    + 4
    + DESCRIPTOR_BYTES_MAX
    + 8
    + 8
    + 1
    + WRITER_BYTES
    + 8
    + 1
    + WRITER_BYTES
    + 4
    + ANCHOR_BYTES * ANCHORS_KEPT_MAX;
/// Most bytes of a grant.
pub const GRANT_BYTES_MAX: usize = 32 + 32 + 2 + 8 + 8;
/// Bytes of a notarisation.
pub const NOTARISATION_BYTES: usize = 32 + 32 + 8 + 8;

/// Who writes: several machines of one account are different writers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Writer {
    /// The account, which may write the volume.
    pub account: AccountId,
    /// The key of the machine or process, with which it signs heads.
    pub key: PublicKey,
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "writer {} of account {}", self.key, self.account)
    }
}

/// The exclusive right to anchor heads. Its fencing number is the volume's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Lease {
    /// Who has it.
    pub writer: Writer,
    /// Over at and after this time of a block, unless it is renewed before another takes one.
    pub until: UnixMillis,
    /// Who asked for it last, to be handed over to.
    pub asked: Option<Writer>,
}

impl Lease {
    /// Whether it is over at the time of a block.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.until
    }
}

/// A head that the ledger bears witness to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Anchor {
    /// The lease under which it was anchored.
    pub fencing: FencingNumber,
    /// The head's number.
    pub number: HeadNumber,
    /// The head's digest.
    pub digest: Digest,
    /// Height of the block that anchored it.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
}

/// A registered volume.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Volume {
    /// Its id, see [`volume_id`].
    pub id: VolumeId,
    /// Who registered it and may always write it.
    pub owner: AccountId,
    /// The owner's note.
    pub descriptor: Descriptor,
    /// Height of the block that registered it.
    pub registered: Height,
    /// Number of the lease, or of the last one; 0 when there was none.
    pub fencing: FencingNumber,
    /// The lease; `None` when it was released or its writer lost the right to it.
    pub lease: Option<Lease>,
    /// The newest anchor of each of the last leases that anchored one, the newest last.
    pub anchors: Bounded<Anchor, ANCHORS_KEPT_MAX>,
}

impl Volume {
    /// Structural rules: fencing numbers and head numbers of anchors rise strictly, up to the
    /// volume's fencing number; a lease has a number.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let rise = |a: &Anchor, b: &Anchor| a.fencing < b.fencing && a.number < b.number;
        let newest = self
            .anchor()
            .map_or(FencingNumber::ZERO, |anchor| anchor.fencing);
        self.anchors.is_sorted_by(rise)
            && newest <= self.fencing
            && self
                .anchors
                .first()
                .is_none_or(|anchor| anchor.fencing > FencingNumber::ZERO)
            && (self.lease.is_none() || self.fencing > FencingNumber::ZERO)
    }

    /// The newest anchor.
    #[must_use]
    pub fn anchor(&self) -> Option<&Anchor> {
        self.anchors.last()
    }

    /// The lease, if it is not over at the time of a block.
    #[must_use]
    pub fn live_lease(&self, now: UnixMillis) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| !lease.is_over(now))
    }

    /// Keeps an anchor that was checked, in the place of the one before of the same lease.
    pub(crate) fn keep(&mut self, anchor: Anchor) {
        let mut anchors = std::mem::take(&mut self.anchors).into_vec();
        anchors.retain(|before| before.fencing != anchor.fencing);
        if anchors.len() >= ANCHORS_KEPT_MAX {
            anchors.remove(0);
        }
        anchors.push(anchor);
        self.anchors = Bounded::new(anchors).expect("one was removed when there were as many");
    }
}

/// What the ledger says of a key's right to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Access {
    /// The key may do this.
    Granted(Right),
    /// No capability that was handed to the key is good any more.
    Revoked,
}

/// A grant, or the revocation that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Grant {
    /// The volume.
    pub volume: VolumeId,
    /// Whose right it is: an account's, a link's or a peer's key.
    pub holder: PublicKey,
    /// What it may do.
    pub access: Access,
    /// Void at and after this time of a block.
    pub expires_at: UnixMillis,
    /// Height of the block that made or revoked it.
    pub since: Height,
}

impl Grant {
    /// Whether it is void at the time of a block.
    #[must_use]
    pub fn has_expired(&self, now: UnixMillis) -> bool {
        now >= self.expires_at
    }

    /// What it allows at the time of a block.
    #[must_use]
    pub fn right(&self, now: UnixMillis) -> Option<Right> {
        match self.access {
            Access::Granted(right) if !self.has_expired(now) => Some(right),
            Access::Granted(_) | Access::Revoked => None,
        }
    }

    /// Whether it revokes at the time of a block.
    #[must_use]
    pub fn is_revoked(&self, now: UnixMillis) -> bool {
        self.access == Access::Revoked && !self.has_expired(now)
    }
}

/// A digest that the ledger has recorded. Signed for its ledger it is a receipt that is checked without a
/// network; whoever signs, whenever, signs the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Notarisation {
    /// What was recorded: the digest of a file, or the root over many.
    pub digest: Digest,
    /// Who asked for it.
    pub account: AccountId,
    /// Height of the block that recorded it.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
}

impl Record for Notarisation {
    const KIND: RecordKind = RecordKind::Notarisation;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 128;
}

/// The id of the volume that a transaction registers.
#[must_use]
pub const fn volume_id(registered_by: TxId) -> VolumeId {
    VolumeId::new(registered_by.digest())
}
