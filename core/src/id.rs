//! Typed ids and numbers. Each is its own type; none converts to another by accident.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use cid::Cid;
use multihash::Multihash;

use crate::digest::{Digest, ParseIdError};
use crate::key::PublicKey;

/// Multihash code of BLAKE3.
const MULTIHASH_BLAKE3: u64 = 0x1e;
/// Multicodec of plain bytes.
const CODEC_RAW: u64 = 0x55;

/// A newtype over a digest with hex `Display`, `FromStr` and bytes.
macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize,
            BorshDeserialize,
        )]
        pub struct $name(Digest);

        impl $name {
            /// From the digest that it is.
            #[must_use]
            pub const fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest.
            #[must_use]
            pub const fn digest(&self) -> Digest {
                self.0
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Digest::from_str(text).map(Self)
            }
        }
    };
}

digest_id!(
    /// A group: digest of the transaction that opened it.
    GroupId
);
digest_id!(
    /// A shard's identity: the BLAKE3 root of its bytes.
    ShardRoot
);
digest_id!(
    /// Root of a slot tree: commits to every shard of a slot.
    SlotRoot
);
digest_id!(
    /// Root over the n slot roots of a group, as the ledger keeps it.
    GroupRoot
);
digest_id!(
    /// A transaction: digest of its signed encoding.
    TxId
);
digest_id!(
    /// A volume: digest of the transaction that registered it.
    VolumeId
);
digest_id!(
    /// A ledger: digest of its genesis.
    LedgerId
);

impl ShardRoot {
    /// The outward form: `CIDv1`, codec raw, multihash BLAKE3.
    ///
    /// # Panics
    ///
    /// Never: 32 bytes fit the 64-byte multihash.
    #[must_use]
    pub fn to_cid(&self) -> Cid {
        let hash = Multihash::<64>::wrap(MULTIHASH_BLAKE3, self.as_bytes())
            .expect("32 bytes fit a multihash of at most 64");
        Cid::new_v1(CODEC_RAW, hash)
    }

    /// Reads back [`Self::to_cid`]; `None` for any other version, codec or hash.
    #[must_use]
    pub fn from_cid(cid: &Cid) -> Option<Self> {
        let hash = cid.hash();
        let ours = cid.version() == cid::Version::V1
            && cid.codec() == CODEC_RAW
            && hash.code() == MULTIHASH_BLAKE3;
        let bytes = <[u8; 32]>::try_from(hash.digest()).ok()?;
        ours.then(|| Self(Digest::new(bytes)))
    }
}

/// A newtype over an Ed25519 public key that names a party.
macro_rules! key_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
        )]
        pub struct $name(PublicKey);

        impl $name {
            /// From the key that it is.
            #[must_use]
            pub const fn new(key: PublicKey) -> Self {
                Self(key)
            }

            /// The key that signs for this party.
            #[must_use]
            pub const fn key(&self) -> PublicKey {
                self.0
            }

            /// The 32 bytes of the key.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl From<PublicKey> for $name {
            fn from(key: PublicKey) -> Self {
                Self(key)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digest = Digest::from_str(text)?;
                Ok(Self(PublicKey::from_bytes(*digest.as_bytes())))
            }
        }
    };
}

key_id!(
    /// A node, and any other peer: its Ed25519 key, which is its libp2p identity as well.
    NodeId
);
key_id!(
    /// An account on the ledger: the key of an owner, an operator or a client.
    AccountId
);

/// A newtype over an unsigned integer.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize,
            BorshDeserialize,
        )]
        pub struct $name($int);

        impl $name {
            /// The first.
            pub const ZERO: Self = Self(0);

            /// From its number.
            #[must_use]
            pub const fn new(number: $int) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $int {
                self.0
            }

            /// The one after; `None` past the last.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Place of a slot in its group, and of a shard in its segment: 0 to n - 1.
    SlotIndex, u8
);
number!(
    /// Number of a segment within its group, dense from 0.
    SegmentNumber, u32
);
number!(
    /// Number of a group revision; 0 is the empty group as opened.
    RevisionNumber, u64
);
number!(
    /// The ledger's unit of time.
    EpochNumber, u64
);
number!(
    /// Number of a volume's head, rising with every one that is published.
    HeadNumber, u64
);
number!(
    /// Number of a volume's writer lease, rising with every one; 0 when there was none yet.
    FencingNumber, u64
);
number!(
    /// Height of a block; 0 is the genesis.
    Height, u64
);
number!(
    /// Number of a view: the validators' attempts to make a block, from 1; 0 is the genesis'.
    ViewNumber, u64
);

impl SlotIndex {
    /// As an index into arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
