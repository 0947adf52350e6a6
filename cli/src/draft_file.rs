//! `draft.toml`: a ledger of validators before they have made their key. Everyone who is to be one has
//! the same file.
//!
//! It is a genesis file (`genesis_file.rs`) without `key` and signatures.

use std::path::Path;

use cairn_core::{Digest, Profile, PublicKey};
use cairn_ledger::Validators;

use crate::failure::{Failure, FailureKind};
use crate::files::{self, Access};
use crate::genesis_file::{Beginning, GenesisFile, ValidatorPlace, Written, check_balances};

/// Names the use of a draft's digest.
const DIGEST_CONTEXT: &str = "cairn 1 genesis draft";

/// A ledger before its validators have made their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DraftFile {
    beginning: Beginning,
    places: Vec<ValidatorPlace>,
    profile: Profile,
}

impl DraftFile {
    /// A new ledger's.
    ///
    /// # Errors
    ///
    /// Of kind usage when the balances are none that a ledger can begin with, or a validator is
    /// listed twice.
    pub(crate) fn new(
        mut beginning: Beginning,
        places: Vec<ValidatorPlace>,
        profile: Profile,
    ) -> Result<Self, Failure> {
        beginning.endowed.sort_by_key(|(account, _)| *account);
        check_balances(&beginning)?;
        check_once(places.iter().map(|place| place.identity))?;
        Ok(Self {
            beginning,
            places,
            profile,
        })
    }

    /// The draft that a genesis came from.
    pub(crate) fn of(file: &GenesisFile) -> Self {
        let unsigned = |place: &ValidatorPlace| ValidatorPlace {
            signature: None,
            ..place.clone()
        };
        Self {
            beginning: file.beginning(),
            places: file.places.iter().map(unsigned).collect(),
            profile: file.profile,
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is none or it is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = files::read(path)?.ok_or_else(|| {
            Failure::say(FailureKind::Usage, format!("{shown} is not there"))
                .hint("cairn genesis makes one")
        })?;
        Self::parse(&text).map_err(|failure| failure.while_doing(format!("{shown} is wrong")))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written = Written::parse(text)?;
        if written.key.is_some() {
            let text = "this is a genesis, whose key is made, and no draft";
            return Err(Failure::say(FailureKind::Usage, text));
        }
        let (beginning, places, profile) = written.draft()?;
        Self::new(beginning, places, profile)
    }

    /// Writes the file, where there is none.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is one, storage when it can't be written.
    pub(crate) fn create(&self, path: &Path) -> Result<(), Failure> {
        files::create_new(path, Access::Shared, self.to_text()?.as_bytes())
    }

    /// Names the draft: the same for files that say the same.
    ///
    /// # Errors
    ///
    /// When it has no form, which none that was read or written has.
    pub(crate) fn digest(&self) -> Result<Digest, Failure> {
        Ok(Digest::keyed(DIGEST_CONTEXT, self.to_text()?.as_bytes()))
    }

    /// The validators.
    pub(crate) fn places(&self) -> &[ValidatorPlace] {
        &self.places
    }

    /// The genesis with the key that the validators made.
    ///
    /// # Errors
    ///
    /// As [`GenesisFile::new`].
    pub(crate) fn genesis(&self, validators: Validators) -> Result<GenesisFile, Failure> {
        let (beginning, places) = (self.beginning.clone(), self.places.clone());
        GenesisFile::new(beginning, validators, places, self.profile)
    }

    fn to_text(&self) -> Result<String, Failure> {
        Written::of(&self.beginning, &self.places, self.profile).to_text()
    }
}

/// Whether nobody is listed twice.
///
/// # Errors
///
/// Of kind usage when someone is.
pub(crate) fn check_once(identities: impl IntoIterator<Item = PublicKey>) -> Result<(), Failure> {
    let mut identities: Vec<PublicKey> = identities.into_iter().collect();
    identities.sort_unstable();
    if let Some(twice) = identities.windows(2).find(|pair| pair[0] == pair[1]) {
        let text = format!("validator {} is listed twice", twice[0]);
        return Err(Failure::say(FailureKind::Usage, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_core::{AccountId, Amount, Bounded, UnixMillis};

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn draft(time: u64) -> DraftFile {
        let place = |number, peer: Option<&str>| ValidatorPlace {
            identity: key(number),
            address: "127.0.0.1:4710".parse().unwrap(),
            peer: peer.map(str::to_owned),
            signature: None,
        };
        let balance = |number| (AccountId::new(key(number)), Amount::from_micro(7_000_000));
        let beginning = Beginning {
            time: UnixMillis::new(time),
            epoch_millis: 10_000,
            endowed: vec![balance(6), balance(5)],
        };
        let places = vec![place(2, Some("/ip4/127.0.0.1/tcp/4700")), place(1, None)];
        DraftFile::new(beginning, places, Profile::Dev4).unwrap()
    }

    #[test]
    fn a_draft_reads_back_and_has_a_name_of_its_own() {
        let text = draft(1).to_text().unwrap();
        let read = DraftFile::parse(&format!("# a remark\n{text}")).unwrap();
        assert_eq!(read, draft(1));
        let digest = |draft: &DraftFile| draft.digest().unwrap();
        assert_eq!(digest(&read), digest(&draft(1)), "remarks are not in it");
        assert_ne!(digest(&read), digest(&draft(2)));
        for wrong in [
            format!("key = \"00\"\n{text}"),
            text.replace("0202", "0101").replace("02", "01"),
            format!("surprise = 1\n{text}"),
        ] {
            let failure = DraftFile::parse(&wrong).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn a_genesis_is_known_as_one_of_its_draft() {
        let validators = Validators {
            identities: Bounded::new(vec![key(1), key(2)]).unwrap(),
            key: Bounded::new(vec![1, 2, 3]).unwrap(),
        };
        let mut file = draft(1).genesis(validators).unwrap();
        assert_eq!(DraftFile::of(&file), draft(1));
        file.places[0].signature = Some([1; 64]);
        assert_eq!(DraftFile::of(&file), draft(1), "signed or not");
        file.places[0].address = "127.0.0.1:1".parse().unwrap();
        assert_ne!(DraftFile::of(&file), draft(1));
    }
}
