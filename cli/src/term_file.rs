//! `term-N.toml`: who orders a ledger in its term N, from the first change of its validators on, and
//! where they are reached.
//!
//! ```toml
//! ledger = "<64 hexadecimal digits>"
//! term = 1
//! # Public side of the key that the validators hold together: the same key, dealt anew.
//! key = "<hexadecimal>"
//!
//! [[validator]]
//! identity = "<64 hexadecimal digits>"
//! address = "203.0.113.9:4710"
//! peer = "/ip4/203.0.113.9/tcp/4700"
//!
//! # Whoever took part in the ceremony: those of before that dealt, and all of this term.
//! [[signed]]
//! validator = "<64 hexadecimal digits>"
//! signature = "<128 hexadecimal digits>"
//! ```
//!
//! What is signed is the ledger, the number, the validators' identities and the key. The term begins
//! when the ledger is told so (`cairn validator enact`).

use std::path::Path;

use cairn_consensus::ceremony::Agreement;
use cairn_core::{Bounded, Digest, LedgerId, PublicKey};
use cairn_ledger::{TermSignature, TxBody, Validators, term_digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::draft_file::check_once;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;
use crate::genesis_file::{ValidatorPlace, WrittenValidator, identity, signature, validators_of};

/// The file, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ledger: String,
    term: u32,
    key: String,
    validator: Vec<WrittenValidator>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signed: Vec<WrittenSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSignature {
    validator: String,
    signature: String,
}

/// Who orders a ledger in a term, the first aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TermFile {
    /// The ledger.
    pub(crate) ledger: LedgerId,
    /// The term's number, at least 1.
    pub(crate) number: u32,
    /// The validators and the public side of their key.
    pub(crate) validators: Validators,
    /// Where each is reached.
    pub(crate) places: Vec<ValidatorPlace>,
    /// Of those who took part in the ceremony, rising by validator; none before its end.
    pub(crate) signatures: Vec<TermSignature>,
}

impl TermFile {
    /// Reads the file of a term that all have signed.
    ///
    /// # Errors
    ///
    /// Of kind usage when there is none, it is wrong, or a signature does not hold or is missing.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = files::read(path)?.ok_or_else(|| {
            Failure::say(FailureKind::Usage, format!("{shown} is not there")).hint(
                "cairn validator agree makes it, of the draft that cairn validator change writes",
            )
        })?;
        let read = Self::parse(&text).and_then(|file| file.check_signatures().map(|()| file));
        read.map_err(|failure| failure.while_doing(format!("{shown} is wrong")))
    }

    /// The term of a text, signed or not.
    ///
    /// # Errors
    ///
    /// Of kind usage when it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let written: Written = toml::from_str(text).or_fail(FailureKind::Usage, "no term")?;
        if written.term == 0 {
            let text = "term 0 is that of the genesis, and has no file of its own";
            return Err(Failure::say(FailureKind::Usage, text));
        }
        let places = written.validator.iter().map(WrittenValidator::place);
        let places = places.collect::<Result<Vec<_>, Failure>>()?;
        let identities = places.iter().map(|place| place.identity);
        check_once(identities.clone())?;
        let validators = validators_of(identities, &written.key)?;
        let signed = written.signed.iter().map(|signed| {
            Ok(TermSignature {
                validator: identity(&signed.validator)?,
                signature: signature(&signed.signature)?,
            })
        });
        let mut signatures = signed.collect::<Result<Vec<_>, Failure>>()?;
        signatures.sort_by_key(|signature| signature.validator);
        Ok(Self {
            ledger: written
                .ledger
                .parse()
                .or_fail(FailureKind::Usage, "ledger is no ledger id")?,
            number: written.term,
            validators,
            places,
            signatures,
        })
    }

    /// What is signed.
    pub(crate) fn digest(&self) -> Digest {
        term_digest(self.ledger, self.number, &self.validators)
    }

    /// Whether each signature holds, and all validators of the term have signed. Whether enough of those
    /// before them have is for the ledger to say.
    fn check_signatures(&self) -> Result<(), Failure> {
        let digest = self.digest();
        if let Some(wrong) = self.signatures.iter().find(|it| !it.holds(digest)) {
            let text = format!("the signature of {} does not hold", wrong.validator);
            return Err(Failure::say(FailureKind::Usage, text));
        }
        let has_signed = |identity: &PublicKey| {
            let mut signers = self.signatures.iter();
            signers.any(|signature| signature.validator == *identity)
        };
        let mut identities = self.validators.identities.iter();
        match identities.find(|identity| !has_signed(identity)) {
            None => Ok(()),
            Some(missing) => {
                let text = format!("validator {missing} has not signed this term");
                Err(Failure::say(FailureKind::Usage, text))
            }
        }
    }

    /// With the signatures of all who took part, `participants` in rising order.
    pub(crate) fn signed(mut self, participants: &[PublicKey], agreement: &Agreement) -> Self {
        let signed = participants.iter().zip(&agreement.signatures);
        self.signatures = signed
            .map(|(validator, signature)| TermSignature {
                validator: *validator,
                signature: *signature,
            })
            .collect();
        self
    }

    /// What all who took part have signed; `None` before they had.
    pub(crate) fn agreement(&self) -> Option<Agreement> {
        if self.signatures.is_empty() {
            return None;
        }
        Some(Agreement {
            digest: self.digest(),
            signatures: self.signatures.iter().map(|it| it.signature).collect(),
        })
    }

    /// The transaction by which the ledger is told.
    ///
    /// # Errors
    ///
    /// Of kind usage when there are more signatures than a change has.
    pub(crate) fn change(&self) -> Result<TxBody, Failure> {
        let signatures = Bounded::new(self.signatures.clone());
        Ok(TxBody::ValidatorsChange {
            validators: self.validators.clone(),
            signatures: signatures.or_fail(FailureKind::Usage, "signatures")?,
        })
    }

    /// # Errors
    ///
    /// When it has no form, which none that was read or made has.
    pub(crate) fn to_text(&self) -> Result<String, Failure> {
        let signed = self.signatures.iter().map(|it| WrittenSignature {
            validator: it.validator.to_string(),
            signature: HEXLOWER.encode(&it.signature),
        });
        let written = Written {
            ledger: self.ledger.to_string(),
            term: self.number,
            key: HEXLOWER.encode(&self.validators.key),
            validator: self.places.iter().map(WrittenValidator::of).collect(),
            signed: signed.collect(),
        };
        toml::to_string(&written).or_fail(FailureKind::Usage, "the term has no form")
    }
}

#[cfg(test)]
mod tests {
    use cairn_core::SecretKey;

    use super::*;

    fn secret(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; 32])
    }

    /// The term 3 of validators with these keys, signed by those who have these.
    fn file(validators: &[u8], signers: &[u8]) -> TermFile {
        let place = |number: &u8| ValidatorPlace {
            identity: secret(*number).public(),
            address: "127.0.0.1:4710".parse().unwrap(),
            peer: (*number == 1).then(|| "/ip4/127.0.0.1/tcp/4700".to_owned()),
            signature: None,
        };
        let places: Vec<ValidatorPlace> = validators.iter().map(place).collect();
        let identities = places.iter().map(|place| place.identity);
        let mut file = TermFile {
            ledger: LedgerId::new(Digest::of(b"a ledger")),
            number: 3,
            validators: validators_of(identities, "010203").unwrap(),
            places,
            signatures: Vec::new(),
        };
        let digest = file.digest();
        let sign = |number: &u8| TermSignature::sign(digest, &secret(*number));
        file.signatures = signers.iter().map(sign).collect();
        file.signatures.sort_by_key(|it| it.validator);
        file
    }

    fn read(file: &TermFile) -> Result<TermFile, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("term-3.toml");
        std::fs::write(&path, file.to_text().unwrap()).unwrap();
        TermFile::read(&path)
    }

    #[test]
    fn a_written_term_reads_back() {
        let signed = file(&[2, 1, 3], &[1, 2, 3, 4]);
        assert_eq!(read(&signed).unwrap(), signed);
        let unsigned = file(&[2, 1], &[]);
        let text = unsigned.to_text().unwrap();
        assert_eq!(TermFile::parse(&text).unwrap(), unsigned);
        assert_eq!(unsigned.agreement(), None);
        for wrong in [
            format!("surprise = 1\n{text}"),
            text.replace("term = 3", "term = 0"),
            text.replace("010203", "01020"),
            text.replace("127.0.0.1:4710", "127.0.0.1"),
            text.replace(
                &secret(2).public().to_string(),
                &secret(1).public().to_string(),
            ),
        ] {
            let failure = TermFile::parse(&wrong).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage, "{wrong}");
        }
    }

    #[test]
    fn what_not_all_have_signed_or_someone_wrongly_is_refused() {
        let missing = file(&[1, 2, 3], &[1, 3]);
        let said = read(&missing).unwrap_err().to_string();
        let who = secret(2).public().to_string();
        assert!(said.contains(&who) && said.contains("not signed"), "{said}");
        let mut of_another_term = file(&[1, 2], &[1, 2]);
        of_another_term.number = 4;
        let said = read(&of_another_term).unwrap_err().to_string();
        assert!(said.contains("does not hold"), "{said}");
    }

    #[test]
    fn what_all_agreed_on_becomes_the_change_that_the_ledger_takes() {
        let expected = file(&[1, 2], &[1, 2, 3]);
        let participants: Vec<PublicKey> =
            expected.signatures.iter().map(|it| it.validator).collect();
        let agreement = expected.agreement().unwrap();
        let signed = file(&[1, 2], &[]).signed(&participants, &agreement);
        assert_eq!(signed, expected);
        let TxBody::ValidatorsChange {
            validators,
            signatures,
        } = signed.change().unwrap()
        else {
            panic!("another transaction");
        };
        assert_eq!(validators, expected.validators);
        assert_eq!(signatures.to_vec(), expected.signatures);
    }
}
