//! The trie of a state: kept up to date block by block from what has changed.

use std::collections::BTreeMap;

use cairn_core::Digest;

use super::entries::{Entry, HEAD_KEY, REST_KEY, TERM_KEY};
use super::table::Table;
use super::{State, count};
use crate::attestation::Attested;
use crate::head::Head;
use crate::trie::Trie;

/// What the digest of the rest of a state is of.
const REST_CONTEXT: &str = "cairn 2026-11-27 ledger state rest";

impl State {
    /// The digest that stands for the whole state.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.trie.root()
    }

    /// Of all blocks' effects and transactions: see [`crate::seal`].
    #[must_use]
    pub const fn chain(&self) -> Digest {
        self.chain
    }

    /// What those who order the ledger attest of it.
    #[must_use]
    pub fn attested(&self) -> Attested {
        Attested {
            ledger: self.id,
            height: self.height,
            time: self.time,
            root: self.root(),
            chain: self.chain,
        }
    }

    pub(crate) const fn trie(&self) -> &Trie {
        &self.trie
    }

    /// Enters what has changed since the last call.
    pub(super) fn note_changes(&mut self) {
        let trie = &mut self.trie;
        note(trie, &mut self.accounts);
        note(trie, &mut self.nodes);
        note(trie, &mut self.groups);
        note(trie, &mut self.waiting);
        note(trie, &mut self.departed);
        note(trie, &mut self.earnings);
        note(trie, &mut self.index.slots);
        note(trie, &mut self.index.groups);
        note(trie, &mut self.registry.volumes);
        note(trie, &mut self.registry.grants);
        note(trie, &mut self.registry.notarisations);
        note(trie, &mut self.index.registry.volumes);
        note(trie, &mut self.index.audit_nodes.now);
        self.note_term();
        let (head, rest) = (self.head_now(), self.rest());
        enter(&mut self.trie, &HEAD_KEY, &head);
        enter(&mut self.trie, &REST_KEY, &rest);
    }

    /// Enters the term if it is another than before, which it rarely is.
    fn note_term(&mut self) {
        let Some(term) = &self.term else {
            return;
        };
        let value = borsh::to_vec(term).expect("memory takes it");
        let known = self.trie.get(&TERM_KEY, &mut |_| ()).expect(WHOLE);
        if known != Some(value.as_slice()) {
            self.trie.insert(&TERM_KEY, value).expect(WHOLE);
        }
    }

    /// The trie made anew.
    pub(super) fn computed_trie(&self) -> Trie {
        let mut trie = Trie::default();
        enter_all(&mut trie, &self.accounts);
        enter_all(&mut trie, &self.nodes);
        enter_all(&mut trie, &self.groups);
        enter_all(&mut trie, &self.waiting);
        enter_all(&mut trie, &self.departed);
        enter_all(&mut trie, &self.earnings);
        enter_all(&mut trie, &self.index.slots);
        enter_all(&mut trie, &self.index.groups);
        enter_all(&mut trie, &self.registry.volumes);
        enter_all(&mut trie, &self.registry.grants);
        enter_all(&mut trie, &self.registry.notarisations);
        enter_all(&mut trie, &self.index.registry.volumes);
        enter_all(&mut trie, &self.index.audit_nodes.now);
        if let Some(term) = &self.term {
            enter(&mut trie, &TERM_KEY, term);
        }
        enter(&mut trie, &HEAD_KEY, &self.head_now());
        enter(&mut trie, &REST_KEY, &self.rest());
        trie
    }

    /// What is neither in a table nor queued.
    pub(super) fn head_now(&self) -> Head {
        Head {
            ledger: self.id,
            parameters: self.parameters,
            supply: self.supply,
            fees: self.fees,
            height: self.height,
            time: self.time,
            tip: self.tip,
            view: self.view,
            chain: self.chain,
            began: self.began,
            epoch: self.epoch,
            node_count: count(self.nodes.len()),
            active_node_count: self.index.active_count,
            group_count: count(self.groups.len()),
            waiting_slot_count: count(self.waiting.len()),
            verdicts: self.index.verdicts,
            audit_node_count: count(self.index.audit_nodes.now.len()),
        }
    }

    /// Digest of what is queued, and of how far nodes and groups were looked at.
    fn rest(&self) -> Digest {
        let rest = (&self.draws, &self.retry, &self.sweep, &self.group_sweep);
        let rest = borsh::to_vec(&rest).expect("memory takes it");
        Digest::keyed(REST_CONTEXT, &rest)
    }
}

fn note<T: Entry>(trie: &mut Trie, table: &mut Table<T::Key, T>) {
    for key in table.take_changed() {
        match table.get(&key) {
            Some(value) => enter(trie, &T::trie_key(&key), value),
            None => trie.remove(&T::trie_key(&key)).expect(WHOLE),
        }
    }
}

fn enter_all<T: Entry>(trie: &mut Trie, table: &BTreeMap<T::Key, T>) {
    for (key, value) in table {
        enter(trie, &T::trie_key(key), value);
    }
}

fn enter<T: borsh::BorshSerialize>(trie: &mut Trie, key: &[u8], value: &T) {
    let value = borsh::to_vec(value).expect("memory takes it");
    trie.insert(key, value).expect(WHOLE);
}

const WHOLE: &str = "nothing is left out of a state's own trie";
