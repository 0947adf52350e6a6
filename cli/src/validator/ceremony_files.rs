//! What the ceremony of a genesis leaves in a validator's folder, in an order that a crash can't harm.
//! For those of later terms see `term_files`.
//!
//! What is signed is on the disk before, as `ceremony.toml`: the genesis and our part of the key. When
//! all have signed, the signatures go into the same file, in one step; from then on the genesis is made.
//! The files that others read are written from it, as often as it takes, and then it goes.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use cairn_consensus::KeyPart;
use cairn_consensus::ceremony::{Agreement, Keeper, Lack};
use cairn_core::{Digest, PublicKey};
use cairn_ledger::Validators;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::draft_file::DraftFile;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::genesis_file::GenesisFile;
use crate::node::Folder;
use crate::output::Output;

/// Where a ceremony's files are.
#[derive(Clone, Debug)]
pub(super) struct CeremonyFiles {
    ceremony: PathBuf,
    pub(super) genesis: PathBuf,
    pub(super) part: PathBuf,
    pub(super) clients: PathBuf,
    /// The engine's own, while it runs.
    pub(super) engine: PathBuf,
}

/// What an earlier process left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing that matters.
    Nothing,
    /// The digest of a genesis or a term that it signed. All others may have, too.
    Signed(Digest),
    /// What all have signed.
    Agreed(Agreement),
}

/// `ceremony.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    part: String,
    genesis: String,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.part.zeroize();
    }
}

/// A genesis and our part of its key.
struct Kept {
    genesis: GenesisFile,
    part: Zeroizing<String>,
}

impl CeremonyFiles {
    /// Those of a validator's folder.
    pub(super) fn of(folder: &Folder) -> Self {
        let path = |name: &str| folder.path().join(name);
        Self {
            ceremony: path("ceremony.toml"),
            genesis: path("genesis.toml"),
            part: path("key.part"),
            clients: path("clients.toml"),
            engine: path("ceremony"),
        }
    }

    /// What is left of an earlier process; finishes what it was finishing.
    ///
    /// # Errors
    ///
    /// Of kind usage when the folder has a genesis of another draft, or a part of another key;
    /// storage when it can't be read or written.
    pub(super) fn before(&self, draft: &DraftFile) -> Result<Before, Failure> {
        let kept = self.kept()?;
        if let Some(kept) = kept
            .as_ref()
            .filter(|kept| kept.genesis.agreement().is_some())
        {
            self.publish(kept)?;
        }
        if self.genesis.exists() {
            return self.finished(draft);
        }
        if self.part.exists() {
            let shown = self.part.display();
            let text = format!("{shown} is there already, and no genesis of it");
            return Err(Failure::say(FailureKind::Usage, text)
                .hint("move it away, or take another --folder"));
        }
        Ok(kept
            .filter(|kept| DraftFile::of(&kept.genesis) == *draft)
            .map_or(Before::Nothing, |kept| {
                Before::Signed(kept.genesis.genesis.ledger_id().digest())
            }))
    }

    /// The genesis that is made, of this draft.
    fn finished(&self, draft: &DraftFile) -> Result<Before, Failure> {
        let file = GenesisFile::read(&self.genesis)?;
        let agreement = file.agreement();
        match agreement.filter(|_| DraftFile::of(&file) == *draft && self.part.exists()) {
            Some(agreement) => Ok(Before::Agreed(agreement)),
            None => {
                let shown = self.genesis.display();
                let text = format!("{shown} is there already, and not of this draft");
                Err(Failure::say(FailureKind::Usage, text).hint("take another --folder"))
            }
        }
    }

    fn kept(&self) -> Result<Option<Kept>, Failure> {
        let Some(text) = files::read(&self.ceremony)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        // The parser's own error quotes the text, which holds a secret.
        let wrong = || {
            let text = format!("{} is damaged", self.ceremony.display());
            Failure::say(FailureKind::Usage, text).hint("remove it; all begin anew")
        };
        let mut written: Written = toml::from_str(&text).map_err(|_| wrong())?;
        let genesis = GenesisFile::parse(&written.genesis).map_err(|_| wrong())?;
        let part = Zeroizing::new(std::mem::take(&mut written.part));
        Ok(Some(Kept { genesis, part }))
    }

    fn keep(&self, kept: &Kept) -> Result<(), Failure> {
        let written = Written {
            part: kept.part.to_string(),
            genesis: kept.genesis.to_text()?,
        };
        let text = toml::to_string(&written).map(Zeroizing::new);
        let text = text.or_fail(FailureKind::Storage, "the ceremony's file has no form")?;
        files::write(&self.ceremony, Access::Private, text.as_bytes())
    }

    /// Writes the files of what all have signed.
    fn publish(&self, kept: &Kept) -> Result<(), Failure> {
        files::write(&self.part, Access::Private, kept.part.as_bytes())?;
        kept.genesis.network()?.write(&self.clients)?;
        let genesis = kept.genesis.to_text()?;
        files::write(&self.genesis, Access::Shared, genesis.as_bytes())?;
        match fs::remove_file(&self.ceremony) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let shown = self.ceremony.display();
                Err(error).or_fail(FailureKind::Storage, format!("{shown} can't be removed"))
            }
            _ => Ok(()),
        }
    }

    /// Makes `ceremony.toml` say that all have signed, and writes the files that follow from it.
    fn agree(&self, agreement: &Agreement) -> Result<(), Failure> {
        let kept = self.kept()?;
        let is_same = |kept: &Kept| kept.genesis.genesis.ledger_id().digest() == agreement.digest;
        let kept = kept.filter(is_same);
        let Some(Kept { genesis, part }) = kept else {
            let text = format!("{} is of another genesis", self.ceremony.display());
            return Err(Failure::say(FailureKind::Storage, text));
        };
        let genesis = genesis.signed(agreement);
        let kept = Kept { genesis, part };
        self.keep(&kept)?;
        self.publish(&kept)
    }
}

/// Keeps what a ceremony makes in a validator's folder.
#[derive(Debug)]
pub(super) struct FolderKeeper {
    pub(super) files: CeremonyFiles,
    pub(super) draft: DraftFile,
    pub(super) output: Output,
    /// Who was said to be waited for, and for what.
    pub(super) said: BTreeSet<(PublicKey, Lack)>,
}

impl Keeper for FolderKeeper {
    fn keep(
        &mut self,
        validators: Validators,
        part: Option<&KeyPart>,
    ) -> Result<Digest, Box<dyn Error + Send + Sync>> {
        let part = part.ok_or("every validator of a genesis has a part of its key")?;
        let genesis = self.draft.genesis(validators).map_err(cause)?;
        let ledger = genesis.genesis.ledger_id();
        let part = Zeroizing::new(HEXLOWER.encode(part.bytes()));
        self.files.keep(&Kept { genesis, part }).map_err(cause)?;
        Ok(ledger.digest())
    }

    fn agreed(&mut self, agreement: &Agreement) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.files.agree(agreement).map_err(cause)
    }

    fn waiting(&mut self, missing: &[(PublicKey, Lack)]) {
        say_waiting(self.output, &mut self.said, missing);
    }
}

/// Says who is waited for. Of many who come one by one, each is told once for each step.
pub(super) fn say_waiting(
    output: Output,
    said: &mut BTreeSet<(PublicKey, Lack)>,
    missing: &[(PublicKey, Lack)],
) {
    for (validator, lack) in missing {
        if said.insert((*validator, *lack)) {
            output.note(&format!("Waiting: {validator} {lack}."));
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn cause(failure: Failure) -> Box<dyn Error + Send + Sync> {
    failure.cause().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cairn_core::{AccountId, Amount, Bounded, Profile, SecretKey, UnixMillis};

    use super::*;
    use crate::genesis_file::{Beginning, ValidatorPlace};
    use crate::output::{Format, Loudness};

    fn identity() -> PublicKey {
        SecretKey::from_bytes(&[1; 32]).public()
    }

    fn draft(time: u64) -> DraftFile {
        let beginning = Beginning {
            time: UnixMillis::new(time),
            epoch_millis: 0,
            endowed: vec![(AccountId::new(identity()), Amount::from_micro(7_000_000))],
        };
        let place = ValidatorPlace {
            identity: identity(),
            address: "127.0.0.1:4710".parse().unwrap(),
            peer: None,
            signature: None,
        };
        DraftFile::new(beginning, vec![place], Profile::Dev4).unwrap()
    }

    fn keeper(folder: &tempfile::TempDir, time: u64) -> FolderKeeper {
        FolderKeeper {
            files: CeremonyFiles::of(&Folder::at(folder.path())),
            draft: draft(time),
            output: Output::new(Format::Text, Loudness::Quiet),
            said: BTreeSet::new(),
        }
    }

    fn validators() -> Validators {
        Validators {
            identities: Bounded::new(vec![identity()]).unwrap(),
            key: Bounded::new(vec![1, 2, 3]).unwrap(),
        }
    }

    fn part() -> KeyPart {
        KeyPart::from_bytes(&[7; 33])
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_signed_is_known_to_the_next_process_and_to_no_other_draft() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(&folder, 1);
        let files = keeper.files.clone();
        assert_eq!(files.before(&draft(1)).unwrap(), Before::Nothing);
        let ledger = keeper.keep(validators(), Some(&part())).unwrap();
        assert_eq!(names(&folder), ["ceremony.toml"]);
        let mode = fs::metadata(&files.ceremony).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(files.before(&draft(1)).unwrap(), Before::Signed(ledger));
        assert_eq!(files.before(&draft(2)).unwrap(), Before::Nothing);
    }

    #[test]
    fn signatures_that_do_not_hold_write_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = keeper(&folder, 1);
        let ledger = keeper.keep(validators(), Some(&part())).unwrap();
        let agreement = Agreement {
            digest: Digest::default(),
            signatures: vec![[1; 64]],
        };
        assert!(keeper.agreed(&agreement).is_err(), "of another ledger");
        assert_eq!(names(&folder), ["ceremony.toml"]);
        assert_eq!(
            keeper.files.before(&draft(1)).unwrap(),
            Before::Signed(ledger)
        );
    }

    #[test]
    fn a_key_and_a_genesis_that_are_there_are_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let files = keeper(&folder, 1).files;
        fs::write(&files.part, "secret").unwrap();
        let failure = files.before(&draft(1)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage);
        let genesis = draft(1).genesis(validators()).unwrap();
        genesis.create(&files.genesis).unwrap();
        // A dealt one: nobody has signed it.
        let failure = files.before(&draft(1)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage);
        assert_eq!(fs::read_to_string(&files.part).unwrap(), "secret");
    }
}
