//! Many digests under one: a set is recorded by its root, and each member shown by itself.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Digest, Record, RecordKind};

use crate::trie::{LeftOut, Trie};

/// Digests, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DigestSet(Trie);

impl Record for DigestSet {
    const KIND: RecordKind = RecordKind::DigestSet;
    const VERSION: u8 = 1;
    // A million digests, or the way to one of them.
    const BYTES_MAX: usize = 64 << 20;

    fn is_well_formed(&self) -> bool {
        true
    }
}

impl FromIterator<Digest> for DigestSet {
    fn from_iter<I: IntoIterator<Item = Digest>>(digests: I) -> Self {
        let mut trie = Trie::default();
        for digest in digests {
            trie.insert(digest.as_bytes(), Vec::new())
                .expect("nothing was left out");
        }
        Self(trie)
    }
}

impl DigestSet {
    /// What stands for all of them.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.0.root()
    }

    /// The set with what is needed to show that one digest is in it, or is not.
    #[must_use]
    pub fn part(&self, digest: Digest) -> Self {
        let mut touched = BTreeSet::new();
        let mut touch = |key: &[u8]| {
            touched.insert(key.to_vec());
        };
        // What is left out was not needed by whoever has this set.
        self.0.get(digest.as_bytes(), &mut touch).ok();
        Self(self.0.pruned(&touched))
    }

    /// Whether a digest is in it.
    ///
    /// # Errors
    ///
    /// [`LeftOut`] when this part of the set does not tell.
    pub fn contains(&self, digest: Digest) -> Result<bool, LeftOut> {
        let found = self.0.get(digest.as_bytes(), &mut |_| ())?;
        Ok(found.is_some())
    }
}
