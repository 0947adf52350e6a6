//! A table of the state that knows which of its entries have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Result, Write};
use std::ops::Deref;

use borsh::{BorshDeserialize, BorshSerialize};

/// Entries by key. Read as the map that it is; whatever changes an entry notes its key.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V> {
    entries: BTreeMap<K, V>,
    changed: BTreeSet<K>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<K: Eq, V: Eq> Eq for Table<K, V> {}

impl<K, V> Deref for Table<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.entries
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        BTreeMap::from_iter(entries).into()
    }
}

impl<K: Ord + Clone, V> From<BTreeMap<K, V>> for Table<K, V> {
    fn from(entries: BTreeMap<K, V>) -> Self {
        let changed = entries.keys().cloned().collect();
        Self { entries, changed }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.entries.get_mut(key)?;
        self.changed.insert(key.clone());
        Some(value)
    }

    pub(super) fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.changed.insert(key.clone());
        self.entries.entry(key).or_default()
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.changed.insert(key.clone());
        self.entries.insert(key, value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.entries.remove(key)?;
        self.changed.insert(key.clone());
        Some(value)
    }

    pub(super) fn clear(&mut self) {
        self.changed.extend(self.entries.keys().cloned());
        self.entries.clear();
    }

    /// Has the entries of another from now on. Those that are the same are not noted.
    pub(super) fn take_over(&mut self, other: Self)
    where
        V: PartialEq,
    {
        let before = std::mem::replace(&mut self.entries, other.entries);
        let keys = before.keys().chain(self.entries.keys());
        let changed = keys.filter(|key| before.get(*key) != self.entries.get(*key));
        self.changed.extend(changed.cloned());
    }

    /// The keys of entries that were entered, changed or taken out since the last call, rising.
    pub(super) fn take_changed(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut self.changed)
    }
}

// The encoding is that of the map.

impl<K: BorshSerialize + Ord, V: BorshSerialize> BorshSerialize for Table<K, V> {
    fn serialize<W: Write>(&self, writer: &mut W) -> Result<()> {
        self.entries.serialize(writer)
    }
}

impl<K: BorshDeserialize + Ord + Clone, V: BorshDeserialize> BorshDeserialize for Table<K, V> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self> {
        BTreeMap::deserialize_reader(reader).map(Self::from)
    }
}

/// The value of an entry that says all by its key.
macro_rules! marks {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        $($(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
        pub(crate) struct $name;)*
    };
}

marks! {
    /// A slot that a node holds or is leaving.
    BoundSlot;
    /// A group of an owner.
    OwnGroup;
    /// A volume of an owner.
    OwnVolume;
    /// A slot that no node could take.
    WaitingSlot;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_another_entry_is_noted_as_changed() {
        let mut table: Table<u8, u8> = [(1, 1), (2, 2), (3, 3)].into_iter().collect();
        assert_eq!(table.take_changed().len(), 3);
        let next: Table<u8, u8> = [(1, 1), (2, 9), (4, 4)].into_iter().collect();
        table.take_over(next.clone());
        assert_eq!(table, next);
        assert_eq!(table.take_changed(), BTreeSet::from([2, 3, 4]));
        table.take_over(next);
        assert_eq!(table.take_changed(), BTreeSet::new());
    }
}
