//! What a state is made of, as its trie and those who ask see it: tables of entries by key.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::Bound;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, Digest, GroupId, NodeId, PublicKey, SlotIndex, VolumeId};

use super::table::{BoundSlot, OwnGroup, OwnVolume, Table, WaitingSlot};
use super::{Account, State};
use crate::earnings::Earnings;
use crate::epoch::Departed;
use crate::group::Group;
use crate::head::Head;
use crate::node::NodeEntry;
use crate::registry::{Grant, Notarisation, Volume};
use crate::term::Term;
use crate::ticket::{AuditNode, AuditRank};
use crate::tx::SlotRef;

/// The trie's key of the [`Head`].
pub(crate) const HEAD_KEY: [u8; 1] = [0];
/// The trie's key of the [`Term`], where there is one.
pub(crate) const TERM_KEY: [u8; 1] = [13];
/// The trie's key of the digest of what is queued.
pub(crate) const REST_KEY: [u8; 1] = [255];

/// The value of a table's entries.
pub(crate) trait Entry: Clone + BorshSerialize + BorshDeserialize {
    /// The first byte of the table's keys in the trie.
    const TABLE: u8;
    /// What an entry is found by. Its encoding is as long for all of them, and in the same order.
    type Key: Ord + Clone + BorshSerialize + BorshDeserialize;

    /// Its table.
    fn table(state: &State) -> &Table<Self::Key, Self>;

    /// A key in the trie.
    fn trie_key(key: &Self::Key) -> Vec<u8> {
        let mut bytes = vec![Self::TABLE];
        key.serialize(&mut bytes).expect("memory takes it");
        bytes
    }
}

macro_rules! entries {
    ($($value:ty: $table:literal, $key:ty, $($field:ident).+;)*) => {
        $(impl Entry for $value {
            const TABLE: u8 = $table;
            type Key = $key;

            fn table(state: &State) -> &Table<$key, $value> {
                &state.$($field).+
            }
        })*
    };
}

entries! {
    Account: 1, AccountId, accounts;
    NodeEntry: 2, NodeId, nodes;
    Group: 3, GroupId, groups;
    WaitingSlot: 4, SlotRef, waiting;
    Departed: 5, (NodeId, SlotRef), departed;
    Earnings: 6, NodeId, earnings;
    BoundSlot: 7, (NodeId, SlotRef), index.slots;
    OwnGroup: 8, (AccountId, GroupId), index.groups;
    Volume: 9, VolumeId, registry.volumes;
    Grant: 10, (VolumeId, PublicKey), registry.grants;
    Notarisation: 11, Digest, registry.notarisations;
    OwnVolume: 12, (AccountId, VolumeId), index.registry.volumes;
    AuditNode: 14, AuditRank, index.audit_nodes.now;
}

/// Entries with their keys.
pub(crate) type Listed<'a, T> = Vec<(<T as Entry>::Key, Cow<'a, T>)>;

/// A state, whole or as much of it as was given.
pub(crate) trait Entries {
    /// Why it can't answer.
    type Error;

    /// What is neither in a table nor queued.
    fn head(&self) -> Result<Cow<'_, Head>, Self::Error>;

    /// The term that runs; `None` when a sequencer orders the ledger.
    fn term(&self) -> Result<Option<Cow<'_, Term>>, Self::Error>;

    /// An entry; `None` when there is none.
    fn get<T: Entry>(&self, key: &T::Key) -> Result<Option<Cow<'_, T>>, Self::Error>;

    /// The first entries of a list, rising, at most `count_max`, which is not 0.
    fn list<T: Entry>(
        &self,
        list: &List<T::Key>,
        count_max: usize,
    ) -> Result<Listed<'_, T>, Self::Error>;
}

/// Entries of one table one after the other.
#[derive(Clone, Debug)]
pub(crate) struct List<K> {
    /// What the encodings of their keys begin with.
    prefix: Vec<u8>,
    from: Bound<K>,
    to: Bound<K>,
}

impl<K> List<K> {
    /// All above a key.
    pub(crate) fn above(after: Option<K>) -> Self {
        Self {
            prefix: Vec::new(),
            from: after.map_or(Bound::Unbounded, Bound::Excluded),
            to: Bound::Unbounded,
        }
    }
}

impl<A: Copy + BorshSerialize, B: Extremes> List<(A, B)> {
    /// Those of one `A`, with the `B` above one.
    pub(crate) fn of(first: A, after: Option<B>) -> Self {
        let from = after.map_or_else(
            || Bound::Included((first, B::FIRST)),
            |after| Bound::Excluded((first, after)),
        );
        Self {
            prefix: borsh::to_vec(&first).expect("memory takes it"),
            from,
            to: Bound::Included((first, B::LAST)),
        }
    }
}

impl<K: BorshSerialize> List<K> {
    /// What the keys begin with in the trie of `T`'s.
    pub(crate) fn trie_prefix<T: Entry<Key = K>>(&self) -> Vec<u8> {
        let mut prefix = vec![T::TABLE];
        prefix.extend_from_slice(&self.prefix);
        prefix
    }

    /// The key in the trie that they are above; `None` when it is the prefix.
    pub(crate) fn trie_after<T: Entry<Key = K>>(&self) -> Option<Vec<u8>> {
        match &self.from {
            Bound::Excluded(key) => Some(T::trie_key(key)),
            Bound::Included(_) | Bound::Unbounded => None,
        }
    }

    pub(super) fn range(&self) -> (Bound<&K>, Bound<&K>) {
        (self.from.as_ref(), self.to.as_ref())
    }
}

/// What has a first and a last value.
pub(crate) trait Extremes {
    const FIRST: Self;
    const LAST: Self;
}

impl Extremes for SlotRef {
    const FIRST: Self = Self {
        group: GroupId::FIRST,
        slot: SlotIndex::new(0),
    };
    const LAST: Self = Self {
        group: GroupId::LAST,
        slot: SlotIndex::new(u8::MAX),
    };
}

impl Extremes for GroupId {
    const FIRST: Self = Self::new(Digest::new([0; 32]));
    const LAST: Self = Self::new(Digest::new([u8::MAX; 32]));
}

impl Extremes for VolumeId {
    const FIRST: Self = Self::new(Digest::new([0; 32]));
    const LAST: Self = Self::new(Digest::new([u8::MAX; 32]));
}

impl Extremes for PublicKey {
    const FIRST: Self = Self::from_bytes([0; 32]);
    const LAST: Self = Self::from_bytes([u8::MAX; 32]);
}

impl Entries for State {
    type Error = Infallible;

    fn head(&self) -> Result<Cow<'_, Head>, Infallible> {
        Ok(Cow::Owned(self.head_now()))
    }

    fn term(&self) -> Result<Option<Cow<'_, Term>>, Infallible> {
        Ok(self.term.as_ref().map(Cow::Borrowed))
    }

    fn get<T: Entry>(&self, key: &T::Key) -> Result<Option<Cow<'_, T>>, Infallible> {
        Ok(T::table(self).get(key).map(Cow::Borrowed))
    }

    fn list<T: Entry>(
        &self,
        list: &List<T::Key>,
        count_max: usize,
    ) -> Result<Listed<'_, T>, Infallible> {
        let entries = T::table(self).range(list.range()).take(count_max);
        Ok(entries
            .map(|(key, value)| (key.clone(), Cow::Borrowed(value)))
            .collect())
    }
}
