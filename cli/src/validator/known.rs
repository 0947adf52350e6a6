//! The terms of a ledger that a validator's folder knows: who orders the ledger in each, where they are
//! reached, and this validator's part of the key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_consensus::KeyPart;
use cairn_consensus::validator::TermPlace;
use cairn_core::{LedgerId, NodeId, PublicKey};
use cairn_ledger::{Term, Validators};
use cairn_net::PeerAddress;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::ceremony_files::CeremonyFiles;
use super::term_files::TermFiles;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;
use crate::genesis_file::{GenesisFile, ValidatorPlace, peers_of};
use crate::node::Folder;
use crate::term_file::TermFile;

/// Where the first term is read from.
#[derive(Clone, Debug)]
pub(super) struct FirstTerm {
    /// The genesis.
    pub(super) genesis: PathBuf,
    /// Our part of its key.
    pub(super) part: PathBuf,
}

impl FirstTerm {
    /// The folder's own.
    pub(super) fn of(folder: &Folder) -> Self {
        let files = CeremonyFiles::of(folder);
        Self {
            genesis: files.genesis,
            part: files.part,
        }
    }
}

/// Where all terms are read from.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) files: TermFiles,
    pub(super) identity: PublicKey,
    pub(super) first: FirstTerm,
}

impl Sources {
    /// What is known now.
    ///
    /// # Errors
    ///
    /// As [`KnownTerms::read`].
    pub(super) fn read(&self) -> Result<KnownTerms, Failure> {
        KnownTerms::read(&self.files, self.identity, &self.first)
    }
}

/// What is known.
#[derive(Debug)]
pub(super) struct KnownTerms {
    pub(super) genesis: GenesisFile,
    identity: PublicKey,
    /// By number, 0 for that of the genesis; at least one of each. Of several, which were all signed for
    /// one term, the ledger says which begins; the first is the one that all are known to have signed.
    terms: BTreeMap<u32, Vec<KnownTerm>>,
    /// The newest term that all are known to have signed.
    newest: u32,
}

/// Who orders the ledger in a term, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownTerm {
    pub(super) validators: Validators,
    pub(super) places: Vec<ValidatorPlace>,
    /// Our part of the key, if we have one.
    pub(super) part: Option<KeyPart>,
}

/// What the term that a ledger is in is to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a part in it.
    Ours,
    /// It is named, and its part of the key is not here.
    Lacking,
    /// It has a part in a later one, or would.
    Later,
    /// Others go on without it.
    Over,
}

impl KnownTerms {
    /// Reads what the folder of a validator with this identity has.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is no genesis, or a file is wrong or of another ledger; storage when
    /// one can't be read.
    pub(super) fn read(
        files: &TermFiles,
        identity: PublicKey,
        first: &FirstTerm,
    ) -> Result<Self, Failure> {
        let genesis = GenesisFile::read(&first.genesis)?;
        let validators = genesis.genesis.validators.clone();
        let validators = validators.ok_or_else(|| {
            let text = "the genesis names no validators: a sequencer orders its ledger";
            Failure::say(FailureKind::Usage, text)
        })?;
        let begin = KnownTerm {
            validators,
            places: genesis.places.clone(),
            part: read_part(&first.part)?,
        };
        let mut known = Self {
            genesis,
            identity,
            terms: BTreeMap::from([(0, vec![begin])]),
            newest: 0,
        };
        for number in files.agreed()? {
            let path = files.term(number);
            let file = TermFile::read(&path)?;
            let is_its = file.number == number && file.ledger == known.ledger();
            if !is_its {
                let text = format!(
                    "{} is not of term {number} of ledger {}",
                    path.display(),
                    known.ledger()
                );
                return Err(Failure::say(FailureKind::Usage, text).hint("move it away"));
            }
            known.add(file, read_part(&files.part(number))?);
            known.newest = number;
        }
        for number in files.signed_terms()? {
            for signed in files.signed(number)?.into_iter().rev() {
                if signed.term.ledger == known.ledger() && signed.term.number == number {
                    known.add(signed.term, signed.part);
                }
            }
        }
        Ok(known)
    }

    fn add(&mut self, file: TermFile, part: Option<KeyPart>) {
        let term = KnownTerm {
            validators: file.validators,
            places: file.places,
            part,
        };
        let known = self.terms.entry(file.number).or_default();
        if !known.contains(&term) {
            known.push(term);
        }
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> LedgerId {
        self.genesis.genesis.ledger_id()
    }

    /// This validator.
    pub(super) const fn identity(&self) -> PublicKey {
        self.identity
    }

    /// The newest term that all are known to have signed.
    pub(super) const fn newest(&self) -> u32 {
        self.newest
    }

    /// A term; of several the one that all are known to have signed.
    pub(super) fn get(&self, number: u32) -> Option<&KnownTerm> {
        self.terms.get(&number)?.first()
    }

    /// The term of these validators.
    pub(super) fn find(&self, number: u32, validators: &Validators) -> Option<&KnownTerm> {
        let mut terms = self.terms.get(&number)?.iter();
        terms.find(|term| term.validators == *validators)
    }

    /// The last term in which this validator has a part, or would.
    pub(super) fn last_place(&self) -> Option<u32> {
        let has_part = |(_, terms): &(&u32, &Vec<KnownTerm>)| {
            let mut terms = terms.iter();
            terms.any(|term| term.part.is_some())
        };
        let (number, _) = self.terms.iter().rev().find(has_part)?;
        Some(*number)
    }

    /// Where the newest term that names this validator has it.
    ///
    /// # Errors
    ///
    /// Of kind usage when none does.
    pub(super) fn own_place(&self) -> Result<&ValidatorPlace, Failure> {
        let places = self.terms.values().rev().flatten();
        let mut places = places.flat_map(|term| &term.places);
        let own = places.find(|place| place.identity == self.identity);
        own.ok_or_else(|| {
            let text = format!(
                "neither the genesis nor a later term names this validator, {}",
                self.identity
            );
            Failure::say(FailureKind::Usage, text)
        })
    }

    /// Where the others of all terms are reached as peers.
    pub(super) fn others(&self) -> Vec<PeerAddress> {
        let mut others: Vec<PeerAddress> = Vec::new();
        for term in self.terms.values().rev().flatten() {
            for peer in peers_of(&term.places) {
                if peer.node.key() != self.identity && !others.contains(&peer) {
                    others.push(peer);
                }
            }
        }
        others
    }

    /// The others of all terms whose address is known, those of the newest first.
    pub(super) fn other_nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = Vec::new();
        for peer in self.others() {
            if !nodes.contains(&peer.node) {
                nodes.push(peer.node);
            }
        }
        nodes
    }

    /// In how many ways this validator may have its parts in the terms.
    pub(super) fn way_count(&self) -> usize {
        let counts = self.terms.values().map(Vec::len);
        counts.max().unwrap_or(1)
    }

    /// A term in one of the ways.
    pub(super) fn in_way(&self, way: usize, number: u32) -> Option<&KnownTerm> {
        let terms = self.terms.get(&number)?;
        terms.get(way).or_else(|| terms.last())
    }

    /// What this validator needs in each term that it has a part in, in one of the ways; it listens
    /// where the term has it, or at `bind`.
    pub(super) fn places(&self, way: usize, bind: Option<SocketAddr>) -> BTreeMap<u32, TermPlace> {
        let place = |number: &u32| {
            let term = self.in_way(way, *number)?;
            let mut places = term.places.iter();
            let own = places.find(|place| place.identity == self.identity)?;
            let peers = term.places.iter();
            let place = TermPlace {
                part: term.part.clone()?,
                listen: bind.unwrap_or(own.address),
                peers: peers.map(|it| (it.identity, it.address)).collect(),
            };
            Some((*number, place))
        };
        self.terms.keys().filter_map(place).collect()
    }

    /// What the term that the ledger is in is to this validator.
    pub(super) fn standing(&self, term: &Term) -> Standing {
        let number = term.number;
        let is_later = self.last_place().is_some_and(|last| last > number);
        if term.validators.contains(&self.identity) {
            let known = self.find(number, &term.validators);
            return match known.and_then(|known| known.part.as_ref()) {
                Some(_) => Standing::Ours,
                None if is_later => Standing::Later,
                None => Standing::Lacking,
            };
        }
        if is_later {
            Standing::Later
        } else {
            Standing::Over
        }
    }
}

/// A part of a key; `None` when there is no such file.
fn read_part(path: &Path) -> Result<Option<KeyPart>, Failure> {
    let shown = path.display();
    let Some(text) = files::read(path)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let bytes = HEXLOWER
        .decode(text.trim().as_bytes())
        .map(Zeroizing::new)
        .or_fail(FailureKind::Usage, format!("{shown} is not hexadecimal"))?;
    Ok(Some(KeyPart::from_bytes(&bytes)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cairn_core::{Digest, Height, UnixMillis, ViewNumber};
    use cairn_ledger::TermStart;

    use super::*;
    use crate::change_file::ChangeFile;
    use crate::change_file::tests::{change, genesis, identity_of};
    use crate::genesis_file::validators_of;

    /// The folder of one that has a part in the terms that it signed something for.
    struct Kept {
        folder: tempfile::TempDir,
        files: TermFiles,
    }

    impl Kept {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = TermFiles::of(&Folder::at(folder.path()));
            let path = folder.path().join("genesis.toml");
            genesis(&[1, 2, 3, 4]).create(&path).unwrap();
            Self { folder, files }
        }

        fn sign(&self, draft: &ChangeFile, key: &str) -> Validators {
            let validators = validators(draft, key);
            let term = draft.term(validators.clone());
            let part = KeyPart::from_bytes(key.as_bytes());
            self.files.keep(draft, term, Some(&part)).unwrap();
            validators
        }

        fn read(&self, number: u8) -> KnownTerms {
            let path = |name: &str| self.folder.path().join(name);
            let first = FirstTerm {
                genesis: path("genesis.toml"),
                part: path("key.part"),
            };
            KnownTerms::read(&self.files, identity_of(number), &first).unwrap()
        }
    }

    fn validators(draft: &ChangeFile, key: &str) -> Validators {
        validators_of(draft.places().iter().map(|it| it.identity), key).unwrap()
    }

    fn term(number: u32, validators: Validators) -> Term {
        Term {
            number,
            validators,
            base: TermStart {
                height: Height::ZERO,
                view: ViewNumber::ZERO,
                time: UnixMillis::new(0),
                tip: Digest::default(),
            },
            before: None,
            next: None,
        }
    }

    #[test]
    fn one_that_comes_has_no_part_in_the_first_term_and_waits_for_the_next() {
        let kept = Kept::new();
        let draft = change(&[1, 2, 3, 4], &[2, 3, 4, 5], &[1, 2, 3, 4, 5]).unwrap();
        let next = kept.sign(&draft, "01");
        let known = kept.read(5);
        assert_eq!(known.last_place(), Some(1));
        assert_eq!(known.newest(), 0, "it is not known that all have signed");
        assert_eq!(known.own_place().unwrap().identity, identity_of(5));
        let places = known.places(0, None);
        assert_eq!(places.keys().copied().collect::<Vec<_>>(), [1]);
        let now = genesis(&[1, 2, 3, 4]).genesis.validators.unwrap();
        assert_eq!(known.standing(&term(0, now)), Standing::Later);
        assert_eq!(known.standing(&term(1, next.clone())), Standing::Ours);
        let other = validators(&draft, "02");
        assert_eq!(known.standing(&term(1, other)), Standing::Lacking);
        assert_eq!(known.standing(&term(2, next)), Standing::Lacking);
        let others: Vec<NodeId> = [2, 3, 4, 1].map(identity_of).map(NodeId::new).into();
        assert_eq!(known.other_nodes(), others, "of the newest term first");
        assert!(kept.read(6).own_place().is_err(), "nobody names it");
    }

    #[test]
    fn one_that_leaves_is_done_when_the_next_term_has_begun() {
        let kept = Kept::new();
        fs::write(kept.folder.path().join("key.part"), "07\n").unwrap();
        let known = kept.read(1);
        let now = known.get(0).unwrap().validators.clone();
        assert_eq!(known.last_place(), Some(0));
        assert_eq!(known.standing(&term(0, now)), Standing::Ours);
        let next = genesis(&[2, 3, 4, 5]).genesis.validators.unwrap();
        assert_eq!(known.standing(&term(1, next)), Standing::Over);
    }

    #[test]
    fn of_several_that_were_signed_for_one_term_each_is_a_way() {
        let kept = Kept::new();
        let first = change(&[1, 2, 3, 4], &[2, 3, 4, 5], &[1, 2, 3, 4, 5]).unwrap();
        let second = change(&[1, 2, 3, 4], &[2, 3, 4, 6], &[1, 2, 3, 4, 6]).unwrap();
        let signed = [kept.sign(&first, "01"), kept.sign(&second, "02")];
        // Twice in one ceremony, for it began anew: the same file tells it once.
        kept.sign(&second, "02");
        let known = kept.read(2);
        assert_eq!(known.way_count(), 2);
        // The newest first.
        for (way, validators) in [(0, &signed[1]), (1, &signed[0])] {
            assert_eq!(known.in_way(way, 1).unwrap().validators, *validators);
            let places = known.places(way, None);
            let found = known.find(1, validators).unwrap();
            assert_eq!(Some(&places[&1].part), found.part.as_ref());
        }
        assert!(known.in_way(1, 0).is_some(), "of the genesis there is one");
    }

    #[test]
    fn a_part_that_is_none_and_a_term_of_another_ledger_are_usage() {
        let kept = Kept::new();
        let path = |name: &str| kept.folder.path().join(name);
        fs::write(path("key.part"), "0").unwrap();
        let first = FirstTerm {
            genesis: path("genesis.toml"),
            part: path("key.part"),
        };
        let read = || KnownTerms::read(&kept.files, identity_of(1), &first);
        assert_eq!(read().unwrap_err().kind(), FailureKind::Usage);
        fs::remove_file(path("key.part")).unwrap();
        assert!(read().is_ok());
        fs::write(path("term-1.toml"), "term = 1").unwrap();
        assert_eq!(read().unwrap_err().kind(), FailureKind::Usage);
    }
}
