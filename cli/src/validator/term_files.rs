//! What a validator's folder has of the terms behind the first, in an order that a crash can't harm.
//!
//! ```text
//! term-1.toml       who orders the ledger in term 1, signed by all who took part in the ceremony
//! term-1.part       this validator's part of the key in that term, if it has one
//! signed-1-0.toml   what it signed for term 1, and its part: whether all have signed or not
//! ```
//!
//! What is signed is on the disk before, and stays there until a later term begins: whoever has all
//! signatures can have the ledger take it, even one who never showed its own. So of one term there may
//! be several that were signed; only the ledger says which begins.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cairn_consensus::KeyPart;
use cairn_consensus::ceremony::Agreement;
use cairn_core::Digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::ceremony_files::Before;
use crate::change_file::ChangeFile;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::node::Folder;
use crate::term_file::TermFile;

/// Most that is signed for one term: far more than attempts of a ceremony.
const SIGNED_MAX: u32 = 4096;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct TermFiles {
    folder: PathBuf,
    /// The genesis, which one who comes does not have before.
    genesis: PathBuf,
    clients: PathBuf,
}

/// `signed-N-NUMBER.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    draft: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    term: String,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.part.zeroize();
    }
}

/// What was signed for a term.
#[derive(Debug)]
pub(super) struct Signed {
    /// The draft that it came of.
    draft: Digest,
    /// The term; with signatures when all have signed.
    pub(super) term: TermFile,
    /// Our part of the key; `None` when we leave.
    pub(super) part: Option<KeyPart>,
}

impl TermFiles {
    /// Those of a validator's folder.
    pub(super) fn of(folder: &Folder) -> Self {
        let path = |name: &str| folder.path().join(name);
        Self {
            folder: folder.path().to_owned(),
            genesis: path("genesis.toml"),
            clients: path("clients.toml"),
        }
    }

    /// Who orders the ledger in a term.
    pub(super) fn term(&self, number: u32) -> PathBuf {
        self.folder.join(format!("term-{number}.toml"))
    }

    /// Our part of the key in a term.
    pub(super) fn part(&self, number: u32) -> PathBuf {
        match number {
            0 => self.folder.join("key.part"),
            _ => self.folder.join(format!("term-{number}.part")),
        }
    }

    /// How clients and nodes reach the network through all validators.
    pub(super) fn clients(&self) -> &Path {
        &self.clients
    }

    /// The engine's own, while a ceremony runs.
    pub(super) fn engine(&self) -> PathBuf {
        self.folder.join("ceremony-term")
    }

    /// Held by the process that takes part in a ceremony, beside the one that runs the validator.
    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join("ceremony.lock")
    }

    /// The terms that all have signed, rising.
    ///
    /// # Errors
    ///
    /// Of kind storage when the folder can't be read.
    pub(super) fn agreed(&self) -> Result<Vec<u32>, Failure> {
        self.numbers("term-", ".toml")
    }

    /// The terms for which something was signed, rising.
    ///
    /// # Errors
    ///
    /// As [`Self::agreed`].
    pub(super) fn signed_terms(&self) -> Result<Vec<u32>, Failure> {
        let mut terms: Vec<u32> = self.signed_names()?.into_iter().map(|it| it.0).collect();
        terms.dedup();
        Ok(terms)
    }

    /// What was signed for a term, the newest last.
    ///
    /// # Errors
    ///
    /// Of kind storage when it can't be read, usage when it is damaged.
    pub(super) fn signed(&self, number: u32) -> Result<Vec<Signed>, Failure> {
        let names = self.signed_names()?.into_iter();
        let of_term = names.filter(|(term, _)| *term == number);
        of_term
            .map(|(_, at)| self.read_signed((number, at)))
            .collect()
    }

    /// What is left of an earlier process; finishes what it was finishing.
    ///
    /// # Errors
    ///
    /// Of kind storage when it can't be read or written, usage when a file is damaged.
    pub(super) fn before(&self, draft: &ChangeFile) -> Result<Before, Failure> {
        if let Some(agreement) = self.finished(draft)? {
            return Ok(Before::Agreed(agreement));
        }
        let name = draft.digest()?;
        let mut signed = self.signed(draft.number())?;
        signed.retain(|signed| signed.draft == name);
        let mut newest = signed.iter().rev();
        let agreed = newest.find_map(|signed| Some((signed, signed.term.agreement()?)));
        if let Some((signed, agreement)) = agreed {
            self.publish(draft, signed)?;
            return Ok(Before::Agreed(agreement));
        }
        Ok(signed.last().map_or(Before::Nothing, |signed| {
            Before::Signed(signed.term.digest())
        }))
    }

    /// Keeps what is to be signed, and gives what is signed of it.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(super) fn keep(
        &self,
        draft: &ChangeFile,
        term: TermFile,
        part: Option<&KeyPart>,
    ) -> Result<Digest, Failure> {
        let digest = term.digest();
        let number = term.number;
        let names = self.signed_names()?;
        let of_term = names.iter().filter(|(term, _)| *term == number);
        let at = of_term.map(|(_, at)| at.saturating_add(1)).max();
        let signed = Signed {
            draft: draft.digest()?,
            term,
            part: part.cloned(),
        };
        self.write_signed((number, at.unwrap_or(0)), &signed)?;
        Ok(digest)
    }

    /// All have signed what was kept of this digest.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(super) fn agree(&self, draft: &ChangeFile, agreement: &Agreement) -> Result<(), Failure> {
        let number = draft.number();
        for (_, at) in self.signed_names()?.into_iter().rev() {
            let Ok(mut signed) = self.read_signed((number, at)) else {
                continue;
            };
            if signed.term.digest() == agreement.digest {
                signed.term = signed.term.signed(&draft.identities(), agreement);
                self.write_signed((number, at), &signed)?;
                return self.publish(draft, &signed);
            }
        }
        let text = format!("{} has nothing of what all signed", self.folder.display());
        Err(Failure::say(FailureKind::Storage, text))
    }

    /// Forgets our parts of the key in terms before this one, which has begun: whoever gets hold of
    /// enough of them could still sign in the ledger's name. Gives how many there were.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(super) fn forget_before(&self, number: u32) -> Result<usize, Failure> {
        let mut over = Vec::new();
        for term in self.numbers("term-", ".part")?.into_iter().chain([0]) {
            if term < number {
                over.push(self.part(term));
            }
        }
        let signed = self.signed_names()?.into_iter();
        let signed = signed.filter(|(term, _)| *term < number);
        over.extend(signed.map(|it| self.signed_path(it)));
        let mut count: usize = 0;
        for path in over {
            if remove(&path)? {
                count = count.saturating_add(1);
            }
        }
        Ok(count)
    }

    /// What all have signed, if its file is here and of this draft.
    fn finished(&self, draft: &ChangeFile) -> Result<Option<Agreement>, Failure> {
        let path = self.term(draft.number());
        if !path.exists() {
            return Ok(None);
        }
        let file = TermFile::read(&path)?;
        let signers: Vec<_> = file.signatures.iter().map(|it| it.validator).collect();
        let is_of_draft = file.places == draft.places()
            && file.ledger == draft.genesis().genesis.ledger_id()
            && signers == draft.identities();
        Ok(file.agreement().filter(|_| is_of_draft))
    }

    /// Writes the files of what all have signed; that by which others know that it is done comes last.
    fn publish(&self, draft: &ChangeFile, signed: &Signed) -> Result<(), Failure> {
        let number = signed.term.number;
        let part = self.part(number);
        match &signed.part {
            Some(ours) => {
                let text = Zeroizing::new(HEXLOWER.encode(ours.bytes()));
                files::write(&part, Access::Private, text.as_bytes())?;
            }
            None => {
                // Of what was agreed on before.
                remove(&part)?;
            }
        }
        let genesis = draft.genesis();
        if !self.genesis.exists() {
            genesis.create(&self.genesis)?;
        }
        if !self.clients.exists() {
            genesis
                .network_of(&signed.term.places)?
                .write(&self.clients)?;
        }
        let text = signed.term.to_text()?;
        files::write(&self.term(number), Access::Shared, text.as_bytes())
    }

    fn signed_path(&self, (number, at): (u32, u32)) -> PathBuf {
        self.folder.join(format!("signed-{number}-{at}.toml"))
    }

    fn read_signed(&self, name: (u32, u32)) -> Result<Signed, Failure> {
        let path = self.signed_path(name);
        // The parser's own error quotes the text, which holds a secret.
        let wrong = || {
            let text = format!("{} is damaged", path.display());
            Failure::say(FailureKind::Usage, text).hint("put back a copy of it")
        };
        let text = files::read(&path)?.map(Zeroizing::new).ok_or_else(wrong)?;
        let written: Written = toml::from_str(&text).map_err(|_| wrong())?;
        let part = written.part.as_ref().map(|part| {
            let bytes = HEXLOWER.decode(part.as_bytes()).map(Zeroizing::new);
            bytes.map(|bytes| KeyPart::from_bytes(&bytes))
        });
        Ok(Signed {
            draft: written.draft.parse().map_err(|_| wrong())?,
            term: TermFile::parse(&written.term).map_err(|_| wrong())?,
            part: part.transpose().map_err(|_| wrong())?,
        })
    }

    fn write_signed(&self, name: (u32, u32), signed: &Signed) -> Result<(), Failure> {
        if name.1 >= SIGNED_MAX {
            let text = format!("{SIGNED_MAX} changes were signed for term {}", name.0);
            return Err(Failure::say(FailureKind::Usage, text)
                .hint("cairn validator enact has one of them come into force"));
        }
        let part = signed.part.as_ref();
        let written = Written {
            draft: signed.draft.to_string(),
            part: part.map(|part| HEXLOWER.encode(part.bytes())),
            term: signed.term.to_text()?,
        };
        let text = toml::to_string(&written).map(Zeroizing::new);
        let text = text.or_fail(FailureKind::Storage, "what is signed has no form")?;
        files::write(&self.signed_path(name), Access::Private, text.as_bytes())
    }

    /// Term and number of what was signed, rising.
    fn signed_names(&self) -> Result<Vec<(u32, u32)>, Failure> {
        let numbers = |name: &str| {
            let name = name.strip_prefix("signed-")?.strip_suffix(".toml")?;
            let (term, at) = name.split_once('-')?;
            Some((term.parse().ok()?, at.parse().ok()?))
        };
        let names = self.names()?;
        let mut found: Vec<(u32, u32)> = names.iter().filter_map(|it| numbers(it)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The numbers between the two in the names of files, rising.
    fn numbers(&self, before: &str, after: &str) -> Result<Vec<u32>, Failure> {
        let number = |name: &String| {
            let number = name.strip_prefix(before)?.strip_suffix(after)?;
            number.parse().ok()
        };
        let mut found: Vec<u32> = self.names()?.iter().filter_map(number).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let unreadable = format!("{} can't be read", self.folder.display());
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.or_fail(FailureKind::Storage, &unreadable)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.or_fail(FailureKind::Storage, &unreadable)?;
            // What is no text is none of ours.
            names.extend(entry.file_name().into_string().ok());
        }
        Ok(names)
    }
}

/// Removes a file; `false` when there was none.
fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).or_fail(
            FailureKind::Storage,
            format!("{} can't be removed", path.display()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cairn_core::{PublicKey, SecretKey};
    use cairn_ledger::{TermSignature, Validators};

    use super::*;
    use crate::change_file::tests::change;
    use crate::genesis_file::validators_of;

    fn files(folder: &tempfile::TempDir) -> TermFiles {
        TermFiles::of(&Folder::at(folder.path()))
    }

    fn draft(participants: &[u8]) -> ChangeFile {
        change(&[1, 2, 3, 4], &[2, 3, 4, 5], participants).unwrap()
    }

    fn validators(draft: &ChangeFile, key: &str) -> Validators {
        validators_of(draft.places().iter().map(|it| it.identity), key).unwrap()
    }

    fn part(number: u8) -> KeyPart {
        KeyPart::from_bytes(&[number; 33])
    }

    /// What these sign together of a term.
    fn agreement(term: &TermFile, signers: &[u8]) -> Agreement {
        let digest = term.digest();
        let sign = |it: &u8| {
            let key = SecretKey::from_bytes(&[*it; 32]);
            TermSignature::sign(digest, &key)
        };
        let mut signatures: Vec<TermSignature> = signers.iter().map(sign).collect();
        signatures.sort_by_key(|it| it.validator);
        Agreement {
            digest,
            signatures: signatures.iter().map(|it| it.signature).collect(),
        }
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let mut names = files(folder).names().unwrap();
        names.sort();
        names
    }

    #[test]
    fn what_was_signed_is_known_to_the_next_process_and_to_no_other_draft() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        let (ours, other) = (draft(&[1, 2, 3, 4, 5]), draft(&[2, 3, 4, 5]));
        assert_eq!(files.before(&ours).unwrap(), Before::Nothing);
        let term = ours.term(validators(&ours, "01"));
        let digest = files.keep(&ours, term.clone(), Some(&part(7))).unwrap();
        assert_eq!(digest, term.digest());
        assert_eq!(names(&folder), ["signed-1-0.toml"]);
        let kept = fs::metadata(folder.path().join("signed-1-0.toml")).unwrap();
        assert_eq!(kept.permissions().mode() & 0o777, 0o600);
        assert_eq!(files.before(&ours).unwrap(), Before::Signed(digest));
        assert_eq!(files.before(&other).unwrap(), Before::Nothing);
    }

    /// One who took part may have all signatures and show nobody its own: the others begin anew, and it
    /// has the ledger take the first.
    #[test]
    fn a_part_of_what_was_signed_is_kept_until_a_later_term_begins() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        let drafts = [draft(&[1, 2, 3, 4, 5]), draft(&[2, 3, 4, 5])];
        for (number, draft) in (1..).zip(&drafts) {
            for key in ["01", "02"] {
                let term = draft.term(validators(draft, key));
                files.keep(draft, term, Some(&part(number))).unwrap();
            }
        }
        let parts: Vec<Option<KeyPart>> = files
            .signed(1)
            .unwrap()
            .into_iter()
            .map(|signed| signed.part)
            .collect();
        assert_eq!(parts, [1, 1, 2, 2].map(|number| Some(part(number))));
        assert_eq!(files.signed_terms().unwrap(), [1]);
        fs::write(folder.path().join("key.part"), "secret").unwrap();
        assert_eq!(files.forget_before(1).unwrap(), 1, "that of the genesis");
        assert_eq!(files.signed(1).unwrap().len(), 4);
        assert_eq!(files.forget_before(2).unwrap(), 4);
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn what_all_signed_is_there_for_all_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        let signers = [1, 2, 3, 4, 5];
        let draft = draft(&signers);
        let term = draft.term(validators(&draft, "01"));
        files.keep(&draft, term.clone(), Some(&part(7))).unwrap();
        let other = draft.term(validators(&draft, "02"));
        let refused = files.agree(&draft, &agreement(&other, &signers));
        assert!(refused.is_err(), "that was never kept");
        let agreement = agreement(&term, &signers);
        // Nobody reaches the validators by a key that is none; the rest is as it would be.
        fs::write(files.clients(), "clients").unwrap();
        files.agree(&draft, &agreement).unwrap();
        let expected = [
            "clients.toml",
            "genesis.toml",
            "signed-1-0.toml",
            "term-1.part",
            "term-1.toml",
        ];
        assert_eq!(names(&folder), expected);
        let read = TermFile::read(&files.term(1)).unwrap();
        let identities: Vec<PublicKey> = read.signatures.iter().map(|it| it.validator).collect();
        assert_eq!(identities, draft.identities());
        assert_eq!(files.agreed().unwrap(), [1]);
        let before = Before::Agreed(agreement);
        assert_eq!(files.before(&draft).unwrap(), before);
        // A crash came between.
        fs::remove_file(files.term(1)).unwrap();
        fs::remove_file(files.part(1)).unwrap();
        assert_eq!(files.before(&draft).unwrap(), before);
        assert_eq!(names(&folder), expected);
        // It has begun, and what was signed before is gone.
        fs::remove_file(folder.path().join("signed-1-0.toml")).unwrap();
        assert_eq!(files.before(&draft).unwrap(), before);
    }

    #[test]
    fn who_leaves_signs_and_has_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        let signers = [1, 2, 3, 4, 5];
        let draft = draft(&signers);
        let term = draft.term(validators(&draft, "01"));
        fs::write(files.clients(), "clients").unwrap();
        fs::write(files.part(1), "of what was agreed on before").unwrap();
        files.keep(&draft, term.clone(), None).unwrap();
        files.agree(&draft, &agreement(&term, &signers)).unwrap();
        assert!(files.term(1).exists() && !files.part(1).exists());
    }
}
