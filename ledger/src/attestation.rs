//! What those who order the ledger sign of each height: the root of the state and the chain of its
//! blocks. With it an answer of anyone can be checked.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    Digest, Height, LedgerId, PublicKey, Record, RecordKind, SecretKey, Signed, UnixMillis,
};
use data_encoding::HEXLOWER;

/// Domain of the validators' attestations, before the ledger's identity.
const NAMESPACE: &[u8] = b"cairn 1 attestation ";
/// Bytes of the key that validators hold together: a compressed point of BLS12-381's G2.
pub const GROUP_KEY_BYTES: usize = 96;
/// Bytes of their signature: a compressed point of G1.
pub const GROUP_SIGNATURE_BYTES: usize = 48;
/// The suite of their signatures.
const SUITE: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

/// What a ledger is at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Attested {
    /// The ledger.
    pub ledger: LedgerId,
    /// Height of the last block.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// Root of the state behind it.
    pub root: Digest,
    /// Of all blocks up to it: see [`crate::seal`].
    pub chain: Digest,
}

impl Record for Attested {
    const KIND: RecordKind = RecordKind::Attested;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 128;

    fn is_well_formed(&self) -> bool {
        true
    }
}

impl Attested {
    /// What validators sign together, with its domain.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        self.encode()
    }

    /// The domain of what validators sign together of a ledger.
    #[must_use]
    pub fn namespace(ledger: LedgerId) -> Vec<u8> {
        [NAMESPACE, ledger.digest().as_bytes()].concat()
    }
}

/// It with the signature of those who order the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Attestation {
    /// Of a sequencer.
    Sequencer(Signed<Attested>),
    /// Of more than two thirds of the validators.
    Validators(Attested, [u8; GROUP_SIGNATURE_BYTES]),
}

/// Whose attestations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerKey {
    /// A sequencer's.
    Sequencer(PublicKey),
    /// That which validators hold together.
    Validators([u8; GROUP_KEY_BYTES]),
}

impl Attestation {
    /// A sequencer's.
    #[must_use]
    pub fn sign(attested: Attested, key: &SecretKey) -> Self {
        Self::Sequencer(Signed::sign_for(attested, attested.ledger, key))
    }

    /// What is attested, whoever signed it.
    #[must_use]
    pub const fn unverified(&self) -> &Attested {
        match self {
            Self::Sequencer(signed) => signed.unverified(),
            Self::Validators(attested, _) => attested,
        }
    }

    /// What is attested, if it is of this ledger and `key` signed it.
    #[must_use]
    pub fn verify(&self, ledger: LedgerId, key: &LedgerKey) -> Option<&Attested> {
        let attested = match (self, key) {
            (Self::Sequencer(signed), LedgerKey::Sequencer(key)) => {
                signed.verify_for(*key, ledger).ok()?
            }
            (Self::Validators(attested, signature), LedgerKey::Validators(key)) => {
                let message = framed(&Attested::namespace(ledger), &attested.message());
                is_signed(key, &message, signature).then_some(attested)?
            }
            (Self::Sequencer(_), LedgerKey::Validators(_))
            | (Self::Validators(..), LedgerKey::Sequencer(_)) => return None,
        };
        (attested.ledger == ledger).then_some(attested)
    }
}

/// A message behind its domain, whose length comes first: below 128, so in one byte.
pub(crate) fn framed(namespace: &[u8], message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(namespace.len()).unwrap_or(u8::MAX);
    [&[length], namespace, message].concat()
}

const _: () = assert!(NAMESPACE.len() + Digest::BYTES < 128);

fn is_signed(
    key: &[u8; GROUP_KEY_BYTES],
    message: &[u8],
    signature: &[u8; GROUP_SIGNATURE_BYTES],
) -> bool {
    use blst::min_sig::{PublicKey, Signature};
    let (Ok(key), Ok(signature)) = (PublicKey::from_bytes(key), Signature::from_bytes(signature))
    else {
        return false;
    };
    let checked = signature.verify(true, message, SUITE, &[], &key, true);
    checked == blst::BLST_ERROR::BLST_SUCCESS
}

/// Shown and read as lower-case hex: 64 digits of a sequencer's key, 192 of validators'.
impl fmt::Display for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sequencer(key) => key.as_bytes(),
            Self::Validators(key) => key,
        };
        f.write_str(&HEXLOWER.encode(bytes))
    }
}

/// Why a text is no ledger's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 64 lower-case hex digits of a sequencer's key or 192 of validators', found {found} \
     characters or another alphabet"
)]
pub struct ParseKeyError {
    /// Characters in the text.
    pub found: usize,
}

impl FromStr for LedgerKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let error = ParseKeyError { found: text.len() };
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| error)?;
        if let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) {
            return Ok(Self::Sequencer(PublicKey::from_bytes(key)));
        }
        let key = <[u8; GROUP_KEY_BYTES]>::try_from(bytes.as_slice());
        key.map(Self::Validators).map_err(|_| error)
    }
}

#[cfg(test)]
mod tests;
