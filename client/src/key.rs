//! The owner's key tree: one seed, from which every key is derived with BLAKE3.
//!
//! ```text
//! seed (32 bytes, 24 words)
//!  ├ "cairn 1 owner identity"  -> Ed25519: account, revisions, segment records, capabilities
//!  └ "cairn 1 content key"     -> per upload: 32-byte frame cipher key
//!                                  └ "cairn 1 link holder" -> Ed25519: holder of a read link
//! ```
//!
//! Secrets are wiped when dropped and never shown by `Debug`.

use std::fmt;

use blake3::Hasher;
use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, SecretKey};
use zeroize::{Zeroize, Zeroizing};

/// Domain of the owner's Ed25519 key.
const IDENTITY_CONTEXT: &str = "cairn 1 owner identity";
/// Domain of an upload's frame cipher key.
const CONTENT_CONTEXT: &str = "cairn 1 content key";
/// Domain of the Ed25519 key that holds a link's capabilities.
const HOLDER_CONTEXT: &str = "cairn 1 link holder";

/// 32 derived secret bytes, wiped when dropped.
fn derive(context: &'static str, secret: &[u8], name: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hasher = Hasher::new_derive_key(context);
    hasher.update(secret);
    hasher.update(name);
    let mut key = Zeroizing::new([0; 32]);
    hasher.finalize_xof().fill(key.as_mut_slice());
    hasher.zeroize();
    key
}

/// The owner's keys: the seed and what is derived from it.
///
/// # Examples
///
/// ```
/// use cairn_client::key::OwnerKeys;
///
/// let keys = OwnerKeys::from_seed(&[7; 32]);
/// assert_eq!(keys.account(), OwnerKeys::from_seed(&[7; 32]).account());
/// assert!(!format!("{keys:?}").contains("070707"));
/// ```
#[derive(Clone)]
pub struct OwnerKeys {
    seed: Zeroizing<[u8; 32]>,
    identity: SecretKey,
}

impl OwnerKeys {
    /// The tree of a seed: 32 bytes, the entropy of 24 BIP-39 words.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self {
            seed: Zeroizing::new(*seed),
            identity: SecretKey::from_bytes(&derive(IDENTITY_CONTEXT, seed, &[])),
        }
    }

    /// The owner's account on the ledger.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId::new(self.identity.public())
    }

    /// The key that signs for the owner.
    #[must_use]
    pub const fn identity(&self) -> &SecretKey {
        &self.identity
    }

    /// The frame cipher key of an upload.
    #[must_use]
    pub fn content_key(&self, upload: UploadId) -> ContentKey {
        ContentKey(derive(
            CONTENT_CONTEXT,
            self.seed.as_slice(),
            upload.as_bytes(),
        ))
    }
}

impl fmt::Debug for OwnerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerKeys(of {})", self.account())
    }
}

/// Names an upload on the owner's machine: 16 random bytes. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct UploadId([u8; 16]);

impl UploadId {
    /// From its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({self})")
    }
}

/// The key of an upload's frames. Who has it can read the upload; it travels in links.
#[derive(Clone)]
pub struct ContentKey(Zeroizing<[u8; 32]>);

impl ContentKey {
    /// From 32 secret bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The 32 secret bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key to whose public half a link's capabilities are issued; the reader delegates from
    /// it to its own peer.
    #[must_use]
    pub fn holder(&self) -> SecretKey {
        SecretKey::from_bytes(&derive(HOLDER_CONTEXT, self.0.as_slice(), &[]))
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_derived() {
        let keys = OwnerKeys::from_seed(&[1; 32]);
        let first = keys.content_key(UploadId::new([1; 16]));
        let second = keys.content_key(UploadId::new([2; 16]));
        assert_ne!(first.as_bytes(), second.as_bytes());
        assert_ne!(first.as_bytes(), &*keys.identity().to_bytes());
        assert_ne!(&*first.holder().to_bytes(), first.as_bytes());
        let again = OwnerKeys::from_seed(&[1; 32]).content_key(UploadId::new([1; 16]));
        assert_eq!(first.as_bytes(), again.as_bytes());
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = OwnerKeys::from_seed(&[0x5a; 32]);
        let content = ContentKey::from_bytes(&[0x5a; 32]);
        for text in [format!("{keys:?}"), format!("{content:?}")] {
            assert!(!text.contains("5a5a"), "{text}");
            assert!(!text.contains("90, 90"), "{text}");
        }
    }
}
