//! The part of a state that a question's answer rests on, with what shows that it is part of it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::message::LEDGER_MESSAGE_BYTES_MAX;
use cairn_core::{LedgerId, Record, RecordKind};

use crate::attestation::{Attestation, Attested, LedgerKey};
use crate::head::Head;
use crate::query::{Question, Seen};
use crate::state::State;
use crate::state::entries::{Entries, Entry, HEAD_KEY, List, Listed, TERM_KEY};
use crate::term::Term;
use crate::trie::{LeftOut, Trie};

/// The entries of a state by key, as they were at a height. A clone costs nothing.
#[derive(Clone, Debug)]
pub struct StateTrie(Trie);

impl StateTrie {
    /// Those of a state, which goes on without it.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self(state.trie().clone())
    }
}

/// What answers a question, and shows that the answer is the ledger's.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// The height that it is of.
    pub attestation: Attestation,
    /// The part of the state.
    part: Trie,
}

impl Record for Evidence {
    const KIND: RecordKind = RecordKind::Evidence;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = LEDGER_MESSAGE_BYTES_MAX - 64;

    fn is_well_formed(&self) -> bool {
        true
    }
}

/// Why evidence does not answer a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Nobody who counts attests it.
    #[error("its attestation is not signed by those who order the ledger")]
    Attestation,
    /// It is of another state than the one attested.
    #[error("it is not part of the state that is attested")]
    Root,
    /// It lacks something that the answer rests on.
    #[error("it lacks an entry that the answer rests on")]
    LeftOut,
}

impl Evidence {
    /// What answers a question out of the state that is attested.
    ///
    /// # Errors
    ///
    /// [`LeftOut`] when the trie is not whole.
    pub fn gather(
        question: Question,
        attestation: Attestation,
        trie: &StateTrie,
    ) -> Result<Self, LeftOut> {
        let part = trie.0.pruned(&touched(question, &trie.0)?);
        Ok(Self { attestation, part })
    }

    /// What it shows, and of which height.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`].
    pub fn check(
        &self,
        question: Question,
        ledger: LedgerId,
        key: &LedgerKey,
    ) -> Result<(Seen, &Attested), EvidenceError> {
        let attested = self.attestation.verify(ledger, key);
        let attested = attested.ok_or(EvidenceError::Attestation)?;
        Ok((self.show(question, attested)?, attested))
    }

    /// Root of the state that it is part of.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn root(&self) -> cairn_core::Digest {
        self.part.root()
    }

    /// What it shows of a state that is known to be attested.
    pub(crate) fn show(
        &self,
        question: Question,
        attested: &Attested,
    ) -> Result<Seen, EvidenceError> {
        if self.part.root() != attested.root {
            return Err(EvidenceError::Root);
        }
        let part = Part {
            trie: &self.part,
            touched: None,
        };
        question
            .ask(&part)
            .map_err(|LeftOut| EvidenceError::LeftOut)
    }
}

/// The keys of all that a question's answer rests on.
fn touched(question: Question, trie: &Trie) -> Result<BTreeSet<Vec<u8>>, LeftOut> {
    let touched = RefCell::new(BTreeSet::new());
    let reading = Part {
        trie,
        touched: Some(&touched),
    };
    question.ask(&reading)?;
    Ok(touched.into_inner())
}

/// A part of a state, which notes what is asked of it when it is told to.
struct Part<'a> {
    trie: &'a Trie,
    touched: Option<&'a RefCell<BTreeSet<Vec<u8>>>>,
}

impl Part<'_> {
    fn touch(&self, key: &[u8]) {
        if let Some(touched) = self.touched {
            touched.borrow_mut().insert(key.to_vec());
        }
    }

    fn value<T: BorshDeserialize>(&self, key: &[u8]) -> Result<Option<T>, LeftOut> {
        let value = self.trie.get(key, &mut |key| self.touch(key))?;
        value.map(decode).transpose()
    }
}

/// What does not decode was never in a state.
fn decode<T: BorshDeserialize>(value: &[u8]) -> Result<T, LeftOut> {
    borsh::from_slice(value).map_err(|_| LeftOut)
}

impl Entries for Part<'_> {
    type Error = LeftOut;

    fn head(&self) -> Result<Cow<'_, Head>, LeftOut> {
        self.value(&HEAD_KEY)?.map(Cow::Owned).ok_or(LeftOut)
    }

    fn term(&self) -> Result<Option<Cow<'_, Term>>, LeftOut> {
        Ok(self.value(&TERM_KEY)?.map(Cow::Owned))
    }

    fn get<T: Entry>(&self, key: &T::Key) -> Result<Option<Cow<'_, T>>, LeftOut> {
        Ok(self.value(&T::trie_key(key))?.map(Cow::Owned))
    }

    fn list<T: Entry>(
        &self,
        list: &List<T::Key>,
        count_max: usize,
    ) -> Result<Listed<'_, T>, LeftOut> {
        let mut entries = Vec::new();
        let prefix = list.trie_prefix::<T>();
        let after = list.trie_after::<T>();
        self.trie.scan(
            &prefix,
            after.as_deref(),
            &mut |key| self.touch(key),
            &mut |key, value| {
                entries.push((key, value));
                if entries.len() < count_max {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        )?;
        let decoded = entries.into_iter().map(|(key, value)| {
            let key = decode(key.get(1..).unwrap_or_default())?;
            Ok((key, Cow::Owned(decode(value)?)))
        });
        decoded.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::Parameters;
    use crate::sample::shown::questions;
    use crate::sample::{OWNER, World, acknowledge, attest, node, revise, slot};
    use crate::ticket::{AUDITS_MAX, AuditNode, AuditRank};

    const NODES: [u8; 6] = [10, 11, 12, 13, 14, 15];

    /// All nodes hold a slot each, and have proven it in the epoch before.
    fn world() -> World {
        let parameters = Parameters {
            epoch_millis: 20,
            ..Parameters::default()
        };
        let places: Vec<_> = (1..=6).map(|number| (number, number, number)).collect();
        let mut world = World::with_nodes_on(parameters, 8, &places);
        let id = world.place(3, 6);
        world.accept(OWNER, revise(id, 1, 5));
        for place in (0..6).map(|index| slot(id, index)) {
            world.accept(world.holder(place), acknowledge(place, 1));
        }
        world.pass_to_epoch(2);
        world.prove(&NODES);
        world.pass_to_epoch(3);
        world
    }

    fn audits() -> impl Iterator<Item = Question> {
        let of = |number: u8| {
            let numbers = (0..=u8::MAX).take(AUDITS_MAX);
            let auditor = node(number);
            numbers.map(move |number| Question::Audit { auditor, number })
        };
        NODES.into_iter().flat_map(of)
    }

    #[test]
    fn of_all_that_an_answer_rests_on_nothing_can_be_left_out() {
        let state = world().state;
        let (trie, attested) = (StateTrie::of(&state).0, state.attested());
        let mut all = questions(&state, |_| 0);
        all.extend(questions(&state, |count| count - 1));
        let mut ranks = 0;
        for question in all.into_iter().chain(audits()) {
            let whole = touched(question, &trie).unwrap();
            let show = |keys: &BTreeSet<Vec<u8>>| {
                let (attestation, part) = (attest(&state), trie.pruned(keys));
                Evidence { attestation, part }.show(question, &attested)
            };
            assert_eq!(show(&whole), Ok(state.ask(question)));
            for key in &whole {
                let mut less = whole.clone();
                less.remove(key);
                let shown = show(&less);
                assert_eq!(shown, Err(EvidenceError::LeftOut), "{question:?}: {key:?}");
                ranks += usize::from(key.starts_with(&[AuditNode::TABLE]));
            }
        }
        assert!(ranks > 10, "most tickets rest on a rank: {ranks}");
    }

    /// Who is at a rank is as the ledger has it, or nothing is shown.
    #[test]
    fn another_node_at_a_rank_is_refused() {
        let state = world().state;
        let (trie, attested) = (StateTrie::of(&state).0, state.attested());
        let rank_of = |question: Question| {
            let touched = touched(question, &trie).unwrap();
            let mut ranks = (0..6).map(|rank| AuditNode::trie_key(&AuditRank::new(rank)));
            ranks.find(|rank| touched.contains(rank))
        };
        let mut refused_count = 0;
        for (question, rank) in audits().filter_map(|asked| Some((asked, rank_of(asked)?))) {
            for other in NODES.map(node) {
                let mut lie = trie.clone();
                lie.insert(&rank, borsh::to_vec(&AuditNode(other)).unwrap())
                    .unwrap();
                let evidence = Evidence::gather(question, attest(&state), &StateTrie(lie)).unwrap();
                match evidence.show(question, &attested) {
                    Ok(seen) => assert_eq!(seen, state.ask(question)),
                    Err(error) => {
                        assert_eq!(error, EvidenceError::Root);
                        refused_count += 1;
                    }
                }
            }
        }
        assert!(refused_count > 50, "{refused_count}");
    }
}
