//! The head of a volume and what it leads to.
//!
//! ```text
//! head (public, signed by the writer) -> superblock (a run) -> tree (pages)
//! ```
//!
//! Publishing the head is the commit: before it the old volume is whole, after it the new one (I6).

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use cairn_client::cipher::{Salt, SegmentCipher, TAG_BYTES};
use cairn_client::key::ContentKey;
use cairn_client::segment_store::SegmentAt;
use cairn_core::{
    Bounded, DecodeError, FencingNumber, GroupId, HeadNumber, PublicKey, Record, SecretKey,
    SegmentNumber, SignatureError, Signed, VolumeHead, VolumeId,
};

use crate::key::SegmentId;
use crate::run::RunRef;
use crate::value::Time;

/// Most groups of a volume: 300 TB at 20-of-40 for each thousand.
pub const GROUPS_MAX: usize = 1 << 16;
/// Most journals that a superblock knows: machines that write a volume by turns.
pub const JOURNALS_MAX: usize = 16;
/// The version that a superblock begins with.
const SUPERBLOCK_VERSION: u8 = 1;

/// Where a volume's superblock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// Its number.
    pub number: HeadNumber,
    /// The number of the lease under which it was written.
    pub fencing: FencingNumber,
    /// The segment that has the superblock.
    pub at: SegmentAt,
    /// The superblock in it.
    pub superblock: RunRef,
}

/// Why bytes are no head of a volume that we may follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// They are no head.
    #[error("the head of volume {volume} can't be read: {cause}")]
    Malformed {
        /// The volume.
        volume: VolumeId,
        /// Why.
        cause: DecodeError,
    },
    /// It is of another volume.
    #[error("expected a head of volume {expected}, found one of {found}")]
    Volume {
        /// The volume that was asked for.
        expected: VolumeId,
        /// Whose head it is.
        found: VolumeId,
    },
    /// It is not signed by whoever may write the volume.
    #[error("the head of volume {volume} is not its writer's: {cause}")]
    Signature {
        /// The volume.
        volume: VolumeId,
        /// Why.
        cause: SignatureError,
    },
    /// It does not open under the volume's key.
    #[error("head {number} of volume {volume} does not open under the volume's key")]
    Sealed {
        /// The volume.
        volume: VolumeId,
        /// The head.
        number: HeadNumber,
    },
}

impl Head {
    /// Seals and signs it. `salt` is 16 bytes that were drawn for it alone.
    ///
    /// # Panics
    ///
    /// Never: what is sealed is small.
    #[must_use]
    pub fn seal(
        &self,
        volume: VolumeId,
        key: &ContentKey,
        salt: [u8; 16],
        writer: &SecretKey,
    ) -> Bytes {
        let mut sealed = borsh::to_vec(&(self.at, self.superblock)).expect("memory takes it");
        sealed.resize(sealed.len() + TAG_BYTES, 0);
        cipher(volume, key, salt).seal(self.number.get(), &mut sealed);
        let head = VolumeHead {
            volume,
            number: self.number,
            fencing: self.fencing,
            salt,
            sealed: Bounded::new(sealed).expect("a place in a segment takes less"),
        };
        Signed::sign(head, writer).encode().into()
    }

    /// Checks a head that somebody gave and opens it.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub fn open(
        bytes: &[u8],
        volume: VolumeId,
        key: &ContentKey,
        writer: PublicKey,
    ) -> Result<Self, HeadError> {
        let signed = Signed::<VolumeHead>::decode(bytes)
            .map_err(|cause| HeadError::Malformed { volume, cause })?;
        let head = signed
            .verify_by(writer)
            .map_err(|cause| HeadError::Signature { volume, cause })?;
        if head.volume != volume {
            return Err(HeadError::Volume {
                expected: volume,
                found: head.volume,
            });
        }
        let error = HeadError::Sealed {
            volume,
            number: head.number,
        };
        let mut sealed = head.sealed.to_vec();
        let plain = cipher(volume, key, head.salt)
            .open(head.number.get(), &mut sealed)
            .map_err(|_| error.clone())?;
        let (at, superblock) = borsh::from_slice(plain).map_err(|_| error)?;
        Ok(Self {
            number: head.number,
            fencing: head.fencing,
            at,
            superblock,
        })
    }
}

/// A head is sealed as a frame of a segment that no group has: the volume's own name is in the place of
/// the group's.
fn cipher(volume: VolumeId, key: &ContentKey, salt: [u8; 16]) -> SegmentCipher {
    let place = GroupId::new(volume.digest());
    SegmentCipher::new(key, place, SegmentNumber::new(u32::MAX), Salt::new(salt))
}

/// How the use of a segment changed by the commit itself, after the tree was written: the next commit
/// enters it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum UsageChange {
    /// The segment is new, has so many bytes of plaintext and came with this head.
    Filled(SegmentId, u32, u64),
    /// So many bytes of it are in use more, or fewer.
    Changed(SegmentId, i64),
}

/// What a head leads to: all that a reader needs to find the rest.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Superblock {
    version: u8,
    /// The volume.
    pub volume: VolumeId,
    /// The head's number.
    pub number: HeadNumber,
    /// When it was made.
    pub made: Time,
    /// The tree; `None` when it is empty.
    pub tree: Option<RunRef>,
    /// The groups that segments are named by.
    pub groups: Vec<GroupId>,
    /// What is not in the tree yet.
    pub usage: Vec<UsageChange>,
    /// Up to where it has the changes of journals, of the one that it was written from first: at most
    /// [`JOURNALS_MAX`].
    pub journals: Vec<JournalMark>,
}

/// Up to where a head has the changes of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct JournalMark {
    /// Which journal: 16 random bytes of a state folder.
    pub journal: [u8; 16],
    /// The last change that the head has.
    pub sequence: u64,
}

impl Superblock {
    /// One for a head to be.
    #[must_use]
    pub const fn new(volume: VolumeId, number: HeadNumber, made: Time) -> Self {
        Self {
            version: SUPERBLOCK_VERSION,
            volume,
            number,
            made,
            tree: None,
            groups: Vec::new(),
            usage: Vec::new(),
            journals: Vec::new(),
        }
    }

    /// Its encoding.
    ///
    /// # Panics
    ///
    /// Never: memory takes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("memory takes it")
    }

    /// Reads one back; `None` when it is none, or of another volume or head.
    #[must_use]
    pub fn decode(bytes: &[u8], volume: VolumeId, number: HeadNumber) -> Option<Self> {
        let found: Self = borsh::from_slice(bytes).ok()?;
        let is_ours = found.version == SUPERBLOCK_VERSION
            && found.volume == volume
            && found.number == number
            && found.groups.len() <= GROUPS_MAX
            && found.journals.len() <= JOURNALS_MAX;
        is_ours.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::Digest;

    use super::*;
    use crate::run::SaltBytes;

    fn head() -> Head {
        let segment = SegmentId {
            group: 3,
            number: 9,
        };
        Head {
            number: HeadNumber::new(7),
            fencing: FencingNumber::new(2),
            at: SegmentAt {
                group: GroupId::new(Digest::new([4; 32])),
                number: SegmentNumber::new(9),
            },
            superblock: RunRef {
                segment,
                salt: SaltBytes([5; 16]),
                offset: 100,
                bytes: 200,
                stored: 200,
                key: 0,
            },
        }
    }

    fn volume(byte: u8) -> VolumeId {
        VolumeId::new(Digest::new([byte; 32]))
    }

    #[test]
    fn only_the_writers_head_of_the_volume_opens() {
        let writer = SecretKey::from_bytes(&[1; 32]);
        let key = ContentKey::from_bytes(&[2; 32]);
        let bytes = head().seal(volume(1), &key, [3; 16], &writer);
        let open = |bytes: &[u8], volume, key: &ContentKey, writer: &SecretKey| {
            Head::open(bytes, volume, key, writer.public())
        };
        assert_eq!(open(&bytes, volume(1), &key, &writer), Ok(head()));
        assert!(matches!(
            open(&bytes, volume(2), &key, &writer),
            Err(HeadError::Volume { .. })
        ));
        let other = ContentKey::from_bytes(&[9; 32]);
        assert!(matches!(
            open(&bytes, volume(1), &other, &writer),
            Err(HeadError::Sealed { .. })
        ));
        let stranger = SecretKey::from_bytes(&[8; 32]);
        assert!(matches!(
            open(&bytes, volume(1), &key, &stranger),
            Err(HeadError::Signature { .. })
        ));
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            assert!(open(&flipped, volume(1), &key, &writer).is_err(), "{at}");
        }
    }

    #[test]
    fn a_superblock_is_of_one_head() {
        let number = HeadNumber::new(7);
        let mut superblock = Superblock::new(volume(1), number, Time::default());
        superblock.tree = Some(head().superblock);
        superblock.groups = vec![GroupId::new(Digest::new([4; 32]))];
        let bytes = superblock.encode();
        assert_eq!(
            Superblock::decode(&bytes, volume(1), number),
            Some(superblock)
        );
        assert_eq!(Superblock::decode(&bytes, volume(2), number), None);
        let next = HeadNumber::new(8);
        assert_eq!(Superblock::decode(&bytes, volume(1), next), None);
        assert_eq!(Superblock::decode(&bytes[1..], volume(1), number), None);
    }
}
