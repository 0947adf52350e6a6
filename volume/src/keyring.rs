//! The keys of a volume, and what is derived from them with BLAKE3.
//!
//! ```text
//! volume key 0 (32 bytes)
//!  ├ "cairn 1 volume head key"  -> seals where a head's superblock is
//!  └ "cairn 1 volume run key"   -> per run: salt of the segment, offset in it
//! volume key 1, 2, ...
//!  └ "cairn 1 volume run key"   -> the same for runs that are written later
//! ```
//!
//! Revoking a grant adds a volume key. What was written before stays as it is, so who reads the volume has
//! all keys from the first on; who was revoked has those up to then, and sees no page that is written
//! after.
//!
//! Secrets are wiped when dropped and never shown by `Debug`.

use std::fmt;

use blake3::Hasher;
use cairn_client::key::ContentKey;
use zeroize::{Zeroize, Zeroizing};

use crate::run::RunRef;

/// Most keys of a volume: a reference has 16 bits for their number.
const KEYS_MAX: usize = 1 << 16;
/// Domain of the key that heads are sealed with.
const HEAD_CONTEXT: &str = "cairn 1 volume head key";
/// Domain of a run's key.
const RUN_CONTEXT: &str = "cairn 1 volume run key";

/// The keys of a volume by their numbers.
#[derive(Clone)]
pub struct Keyring {
    first: Zeroizing<[u8; 32]>,
    /// Those that were added, from number 1 on.
    added: Vec<Zeroizing<[u8; 32]>>,
    /// Number of the last.
    newest: u16,
}

impl Keyring {
    /// From all of the volume's keys in the order in which they came: the first has number 0.
    ///
    /// # Panics
    ///
    /// When there is none, or more than 65,536: our own bug.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut keys = keys.into_iter().map(Zeroizing::new);
        let first = keys.next().expect("a volume has a key");
        let added: Vec<_> = keys.take(KEYS_MAX).collect();
        let newest = u16::try_from(added.len()).expect("a volume has at most 65,536 keys");
        Self {
            first,
            added,
            newest,
        }
    }

    /// Number of the key that new runs are sealed under.
    #[must_use]
    pub const fn newest(&self) -> u16 {
        self.newest
    }

    /// The key of a run, by its segment's salt, its offset and the number of a volume key; `None` when that
    /// volume key is not here. It opens this run and nothing else.
    #[must_use]
    pub fn run_key(&self, run: &RunRef) -> Option<ContentKey> {
        let key = match usize::from(run.key).checked_sub(1) {
            None => &self.first,
            Some(added) => self.added.get(added)?,
        };
        let offset = run.offset.to_le_bytes();
        Some(derive(RUN_CONTEXT, key, &[&run.salt.0, &offset]))
    }

    /// The key that heads are sealed with. It is the same however many keys were added: a reader that does
    /// not have the newest yet finds out so from the head.
    #[must_use]
    pub fn head_key(&self) -> ContentKey {
        derive(HEAD_CONTEXT, &self.first, &[])
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(secret, newest {})", self.newest)
    }
}

fn derive(context: &'static str, key: &[u8; 32], name: &[&[u8]]) -> ContentKey {
    let mut hasher = Hasher::new_derive_key(context);
    hasher.update(key);
    for part in name {
        hasher.update(part);
    }
    let mut derived = Zeroizing::new([0; 32]);
    hasher.finalize_xof().fill(derived.as_mut_slice());
    hasher.zeroize();
    ContentKey::from_bytes(&derived)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::key::SegmentId;
    use crate::run::SaltBytes;

    fn run(key: u16, salt: u8, offset: u32) -> RunRef {
        RunRef {
            segment: SegmentId {
                group: 0,
                number: 0,
            },
            salt: SaltBytes([salt; 16]),
            offset,
            bytes: 1,
            stored: 1,
            key,
        }
    }

    /// As docs/protocol/volume-segments.md says it, computed another way.
    #[test]
    fn keys_are_derived_as_documented() {
        let keys = Keyring::new([[1; 32], [2; 32]]);
        let material = [&[2_u8; 32][..], &[9; 16], &[0x78, 0x56, 0x34, 0x12]].concat();
        let expected = blake3::derive_key("cairn 1 volume run key", &material);
        let found = keys.run_key(&run(1, 9, 0x1234_5678)).unwrap();
        assert_eq!(found.as_bytes(), &expected);
        let expected = blake3::derive_key("cairn 1 volume head key", &[1; 32]);
        assert_eq!(keys.head_key().as_bytes(), &expected);
    }

    #[test]
    fn every_run_has_its_own_key() {
        let keys = Keyring::new([[1; 32], [2; 32]]);
        let mut found = BTreeSet::from([*keys.head_key().as_bytes()]);
        for number in [0, 1] {
            for salt in [0, 1] {
                for offset in [0, 1, u32::MAX] {
                    let key = keys.run_key(&run(number, salt, offset)).unwrap();
                    assert!(found.insert(*key.as_bytes()), "{number} {salt} {offset}");
                }
            }
        }
    }

    /// Revoking adds a key: what was written before is read as before, what comes after only with it.
    #[test]
    fn an_added_key_changes_nothing_before_it() {
        let old = Keyring::new([[1; 32]]);
        let new = Keyring::new([[1; 32], [2; 32]]);
        assert_eq!((old.newest(), new.newest()), (0, 1));
        assert_eq!(old.head_key().as_bytes(), new.head_key().as_bytes());
        let before = run(0, 3, 4);
        let (a, b) = (old.run_key(&before).unwrap(), new.run_key(&before).unwrap());
        assert_eq!(a.as_bytes(), b.as_bytes());
        assert!(old.run_key(&run(1, 3, 4)).is_none());
        assert!(new.run_key(&run(2, 3, 4)).is_none());
    }

    #[test]
    fn all_numbers_can_be_used() {
        let keys = Keyring::new((0..=u16::MAX).map(|number| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&number.to_le_bytes());
            key
        }));
        assert_eq!(keys.newest(), u16::MAX);
        assert!(keys.run_key(&run(u16::MAX, 0, 0)).is_some());
    }

    #[test]
    #[should_panic(expected = "at most 65,536 keys")]
    fn one_key_more_is_our_bug() {
        drop(Keyring::new(std::iter::repeat_n([0; 32], KEYS_MAX + 1)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", Keyring::new([[0x5a; 32], [0x5a; 32]]));
        assert_eq!(text, "Keyring(secret, newest 1)");
    }
}
