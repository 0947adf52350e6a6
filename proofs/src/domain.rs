//! Domain separation: every kind of node is hashed under its own key, so that a digest made for
//! one purpose never stands for another.
//!
//! A key is the domain's name in ASCII, padded with zero bytes to 32, given to BLAKE3's keyed
//! mode: as in `docs/protocol/proofs.md`, section "Domains". One compression per 64 bytes, no key
//! derivation on the way.

use cairn_core::Digest;

/// Leaf of a slot tree that holds a shard.
pub(crate) const SLOT_LEAF: Domain = Domain::new("cairn 1 slot leaf");
/// Leaf of a slot tree that a revision emptied.
pub(crate) const SLOT_EMPTY: Domain = Domain::new("cairn 1 slot empty leaf");
/// Inner node of a slot tree.
pub(crate) const SLOT_INNER: Domain = Domain::new("cairn 1 slot inner");
/// Root of a slot tree.
pub(crate) const SLOT_ROOT: Domain = Domain::new("cairn 1 slot root");
/// Inner node over slot roots.
pub(crate) const GROUP_INNER: Domain = Domain::new("cairn 1 group inner");
/// Root over slot roots.
pub(crate) const GROUP_ROOT: Domain = Domain::new("cairn 1 group root");
/// Samples of a challenge.
pub(crate) const CHALLENGE: Domain = Domain::new("cairn 1 challenge");

/// A key of BLAKE3's keyed mode made from a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Domain([u8; 32]);

impl Domain {
    /// From a name of at most 32 bytes; a longer one does not compile where this is a constant.
    const fn new(name: &str) -> Self {
        let mut key = [0; 32];
        let (head, _) = key.split_at_mut(name.len());
        head.copy_from_slice(name.as_bytes());
        Self(key)
    }

    /// Digest of `bytes` in this domain.
    pub(crate) fn digest(&self, bytes: &[u8]) -> Digest {
        Digest::from(blake3::keyed_hash(&self.0, bytes))
    }

    /// Fills `out` with the extended output for `bytes`; its first 32 bytes are the digest.
    pub(crate) fn stream(&self, bytes: &[u8], out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(bytes);
        hasher.finalize_xof().fill(out);
    }
}
