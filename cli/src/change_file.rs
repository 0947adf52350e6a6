//! The draft of a change of validators: who orders a ledger in its next term, and where those who take
//! part in the ceremony meet. All of them have the same file.
//!
//! ```toml
//! # The term that is to begin.
//! term = 1
//! # The ledger's genesis file, for those who come.
//! genesis = "..."
//! # The validators of the term before, and the public side of their key.
//! now = ["<64 hexadecimal digits>", ...]
//! now_key = "<hexadecimal>"
//!
//! # The next validators, as in a genesis file.
//! [[validator]]
//! identity = "<64 hexadecimal digits>"
//! address = "203.0.113.9:4710"
//! peer = "/ip4/203.0.113.9/tcp/4700"
//!
//! # Who deals or is dealt to, and where: a validator that runs has its own port.
//! [[participant]]
//! identity = "<64 hexadecimal digits>"
//! address = "203.0.113.9:4711"
//! ```

use std::net::SocketAddr;
use std::path::Path;

use cairn_core::{Digest, PublicKey};
use cairn_ledger::genesis::VALIDATORS_MAX;
use cairn_ledger::{Genesis, Validators};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::draft_file::check_once;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files::{self, Access};
use crate::genesis_file::{GenesisFile, ValidatorPlace, WrittenValidator, identity, validators_of};
use crate::term_file::TermFile;

/// Names the use of a draft's digest.
const DIGEST_CONTEXT: &str = "cairn 1 term draft";

/// The file, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    term: u32,
    genesis: String,
    now: Vec<String>,
    now_key: String,
    validator: Vec<WrittenValidator>,
    participant: Vec<WrittenParticipant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenParticipant {
    identity: String,
    address: SocketAddr,
}

/// Which term is to begin, and after which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Succession {
    /// The ledger's genesis.
    pub(crate) genesis: GenesisFile,
    /// The number of the term that is to begin, at least 1.
    pub(crate) number: u32,
    /// The validators of the term before.
    pub(crate) now: Validators,
}

/// A change of validators before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChangeFile {
    succession: Succession,
    places: Vec<ValidatorPlace>,
    /// Rising by identity.
    participants: Vec<(PublicKey, SocketAddr)>,
}

impl ChangeFile {
    /// A change to the validators of `places`, of which the participants make the parts of the key.
    ///
    /// # Errors
    ///
    /// Of kind usage when it is none that can be made.
    pub(crate) fn new(
        succession: Succession,
        places: Vec<ValidatorPlace>,
        mut participants: Vec<(PublicKey, SocketAddr)>,
    ) -> Result<Self, Failure> {
        participants.sort_by_key(|(identity, _)| *identity);
        let file = Self {
            succession,
            places,
            participants,
        };
        file.check().map(|()| file)
    }

    /// Whether a file is a draft of a change, and not of a genesis.
    ///
    /// # Errors
    ///
    /// Of kind usage when it is not there or no TOML.
    pub(crate) fn is_at(path: &Path) -> Result<bool, Failure> {
        let shown = path.display();
        let text = files::read(path)?.ok_or_else(|| {
            Failure::say(FailureKind::Usage, format!("{shown} is not there"))
                .hint("cairn genesis makes the draft of a ledger, cairn validator change that of a change")
        })?;
        let table: toml::Table =
            toml::from_str(&text).or_fail(FailureKind::Usage, format!("{shown} is wrong"))?;
        Ok(table.contains_key("term"))
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
                .hint("cairn validator change makes one")
        })?;
        Self::parse(&text).map_err(|failure| failure.while_doing(format!("{shown} is wrong")))
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written = toml::from_str(text).or_fail(FailureKind::Usage, "no draft")?;
        let now = written.now.iter().map(|text| identity(text));
        let now = now.collect::<Result<Vec<_>, Failure>>()?;
        let places = written.validator.iter().map(WrittenValidator::place);
        let participants = written
            .participant
            .iter()
            .map(|it| Ok((identity(&it.identity)?, it.address)));
        let succession = Succession {
            genesis: GenesisFile::parse(&written.genesis)
                .map_err(|failure| failure.while_doing("its genesis is wrong"))?,
            number: written.term,
            now: validators_of(now, &written.now_key)?,
        };
        Self::new(
            succession,
            places.collect::<Result<_, Failure>>()?,
            participants.collect::<Result<_, Failure>>()?,
        )
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

    /// Whether the validators of now hold the key by which the genesis has the ledger known. Who comes
    /// sees by it that the draft is of this ledger, whoever wrote it.
    ///
    /// # Errors
    ///
    /// Of kind usage when they don't.
    pub(crate) fn check_key(&self) -> Result<(), Failure> {
        let Succession { genesis, now, .. } = &self.succession;
        let of_now = Genesis {
            validators: Some(now.clone()),
            ..genesis.genesis.clone()
        };
        let key = cairn_consensus::key_of(&of_now);
        let key = key.or_fail(FailureKind::Usage, "the validators of now")?;
        if key == genesis.ledger_key()? {
            return Ok(());
        }
        let text = "the validators of now do not hold the key of the genesis";
        Err(Failure::say(FailureKind::Usage, text))
    }

    /// The ledger's genesis.
    pub(crate) const fn genesis(&self) -> &GenesisFile {
        &self.succession.genesis
    }

    /// The number of the term that is to begin.
    pub(crate) const fn number(&self) -> u32 {
        self.succession.number
    }

    /// The validators of the term before.
    pub(crate) const fn now(&self) -> &Validators {
        &self.succession.now
    }

    /// The next validators.
    pub(crate) fn places(&self) -> &[ValidatorPlace] {
        &self.places
    }

    /// Who takes part and where each is met, rising by identity.
    pub(crate) fn participants(&self) -> &[(PublicKey, SocketAddr)] {
        &self.participants
    }

    /// The identities of those who take part, rising.
    pub(crate) fn identities(&self) -> Vec<PublicKey> {
        let identities = self.participants.iter();
        identities.map(|(identity, _)| *identity).collect()
    }

    /// Whether one is among the next.
    pub(crate) fn is_next(&self, identity: &PublicKey) -> bool {
        self.places.iter().any(|place| place.identity == *identity)
    }

    /// Of the next, those who are not among the validators of now.
    pub(crate) fn joins(&self) -> Vec<PublicKey> {
        let identities = self.places.iter().map(|place| place.identity);
        identities.filter(|it| !self.now().contains(it)).collect()
    }

    /// Of the validators of now, those who are not among the next.
    pub(crate) fn leaves(&self) -> Vec<PublicKey> {
        let identities = self.now().identities.iter().copied();
        identities.filter(|it| !self.is_next(it)).collect()
    }

    /// The term with the key that was dealt anew, which nobody has signed yet.
    pub(crate) fn term(&self, validators: Validators) -> TermFile {
        TermFile {
            ledger: self.genesis().genesis.ledger_id(),
            number: self.number(),
            validators,
            places: self.places.clone(),
            signatures: Vec::new(),
        }
    }

    /// Whether all who must take part do, and nobody else.
    fn check(&self) -> Result<(), Failure> {
        let usage = |text: String| Err(Failure::say(FailureKind::Usage, text));
        if self.number() == 0 {
            return usage("term 0 is that of the genesis: expected 1 or more".to_owned());
        }
        check_once(self.places.iter().map(|place| place.identity))?;
        check_once(self.identities())?;
        check_once(self.now().identities.iter().copied())?;
        let count = self.places.len();
        if count == 0 || count > VALIDATORS_MAX {
            let text = format!("expected 1 to {VALIDATORS_MAX} validators, found {count}");
            return usage(text);
        }
        let identities = self.identities();
        let takes_part = |identity: &PublicKey| identities.binary_search(identity).is_ok();
        let mut next = self.places.iter().map(|place| place.identity);
        if let Some(absent) = next.find(|identity| !takes_part(identity)) {
            return usage(format!(
                "{absent} is to be a validator and does not take part: it would have no part of the key"
            ));
        }
        let is_stranger = |it: &&PublicKey| !self.now().contains(it) && !self.is_next(it);
        if let Some(stranger) = identities.iter().find(is_stranger) {
            return usage(format!(
                "{stranger} takes part, and is no validator, neither now nor next"
            ));
        }
        let expected = self.now().quorum();
        let dealers = identities.iter().filter(|it| self.now().contains(it));
        let found = dealers.count();
        if found < expected {
            return usage(format!(
                "expected at least {expected} of the validators of now to take part, found {found}"
            ));
        }
        if self.joins().len() == count {
            let text = "expected one of the validators of now to stay at least: who comes gets the \
                        ledger from those who stay";
            return usage(text.to_owned());
        }
        Ok(())
    }

    fn to_text(&self) -> Result<String, Failure> {
        let Succession {
            genesis,
            number,
            now,
        } = &self.succession;
        let participant = |(identity, address): &(PublicKey, SocketAddr)| WrittenParticipant {
            identity: identity.to_string(),
            address: *address,
        };
        let written = Written {
            term: *number,
            genesis: genesis.to_text()?,
            now: now.identities.iter().map(PublicKey::to_string).collect(),
            now_key: HEXLOWER.encode(&now.key),
            validator: self.places.iter().map(WrittenValidator::of).collect(),
            participant: self.participants.iter().map(participant).collect(),
        };
        toml::to_string(&written).or_fail(FailureKind::Usage, "the draft has no form")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use cairn_core::{AccountId, Amount, Profile, SecretKey, UnixMillis};

    use super::*;
    use crate::genesis_file::Beginning;

    pub(crate) fn identity_of(number: u8) -> PublicKey {
        SecretKey::from_bytes(&[number; 32]).public()
    }

    pub(crate) fn place(number: u8) -> ValidatorPlace {
        ValidatorPlace {
            identity: identity_of(number),
            address: SocketAddr::from(([127, 0, 0, number], 4710)),
            peer: Some(format!("/ip4/127.0.0.{number}/tcp/4700")),
            signature: None,
        }
    }

    pub(crate) fn genesis(validators: &[u8]) -> GenesisFile {
        let beginning = Beginning {
            time: UnixMillis::new(1),
            epoch_millis: 0,
            endowed: vec![(AccountId::new(identity_of(9)), Amount::from_micro(7))],
        };
        let places: Vec<ValidatorPlace> = validators.iter().map(|it| place(*it)).collect();
        let identities = validators.iter().map(|it| identity_of(*it));
        let validators = validators_of(identities, "010203").unwrap();
        GenesisFile::new(beginning, validators, places, Profile::Dev4).unwrap()
    }

    /// The first change of a ledger, from these validators to those, by these participants.
    pub(crate) fn change(
        now: &[u8],
        next: &[u8],
        participants: &[u8],
    ) -> Result<ChangeFile, Failure> {
        let genesis = genesis(now);
        let now = genesis.genesis.validators.clone().unwrap();
        let succession = Succession {
            genesis,
            number: 1,
            now,
        };
        let meeting = |it: &u8| {
            let address = SocketAddr::from(([127, 0, 0, *it], 4711));
            (identity_of(*it), address)
        };
        ChangeFile::new(
            succession,
            next.iter().map(|it| place(*it)).collect(),
            participants.iter().map(meeting).collect(),
        )
    }

    #[test]
    fn a_draft_reads_back_and_has_a_name_of_its_own() {
        let draft = change(&[1, 2, 3, 4], &[2, 3, 4, 5], &[5, 4, 3, 2, 1]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("next.toml");
        draft.create(&path).unwrap();
        assert!(draft.create(&path).is_err(), "there is one");
        assert!(ChangeFile::is_at(&path).unwrap());
        let read = ChangeFile::read(&path).unwrap();
        assert_eq!(read, draft);
        assert_eq!(read.digest().unwrap(), draft.digest().unwrap());
        assert_eq!(read.joins(), [identity_of(5)]);
        assert_eq!(read.leaves(), [identity_of(1)]);
        let other = change(&[1, 2, 3, 4], &[2, 3, 4, 5], &[5, 4, 3, 2]).unwrap();
        assert_ne!(other.digest().unwrap(), draft.digest().unwrap());
        let text = draft.to_text().unwrap();
        for wrong in [
            format!("surprise = 1\n{text}"),
            text.replace("term = 1", "term = 0"),
            text.replacen("127.0.0.2:4710", "127.0.0.2", 1),
            text.replace("010203", "01020"),
            String::new(),
        ] {
            let failure = ChangeFile::parse(&wrong).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{wrong}");
        }
        let failure = draft.check_key().unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage, "its key is none");
    }

    #[test]
    fn a_draft_of_a_genesis_is_told_from_one_of_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("draft.toml");
        assert!(ChangeFile::is_at(&path).is_err(), "it is not there");
        std::fs::write(&path, genesis(&[1]).to_text().unwrap()).unwrap();
        assert!(!ChangeFile::is_at(&path).unwrap());
    }

    #[test]
    fn what_can_not_be_made_says_why() {
        type Case<'a> = (&'a [u8], &'a [u8], &'a str);
        let now = [1, 2, 3, 4];
        let cases: [Case<'_>; 8] = [
            // Next, participants.
            (&[], &[1, 2, 3, 4], "expected 1 to 100 validators, found 0"),
            (&[1, 2, 2], &[1, 2, 3, 4], "listed twice"),
            (&[1, 2, 3], &[1, 2, 3, 3], "listed twice"),
            (&[1, 2, 5], &[1, 2, 3], "does not take part"),
            (&[1, 2, 3], &[1, 2, 3, 6], "neither now nor next"),
            (&[1, 2, 5], &[1, 2, 5], "expected at least 3"),
            (&[5, 6, 7, 8], &[1, 2, 3, 5, 6, 7, 8], "to stay at least"),
            (&[1, 2, 4], &[1, 2, 3], "does not take part"),
        ];
        for (next, participants, expected) in cases {
            let said = change(&now, next, participants).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
        // The one who is gone is replaced without its help, and the same may go on under other parts.
        change(&now, &[1, 2, 3, 5], &[1, 2, 3, 5]).unwrap();
        change(&now, &now, &now).unwrap();
        change(&[1], &now, &now).unwrap();
        change(&now, &[1], &now).unwrap();
    }
}
