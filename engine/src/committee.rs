//! Who the validators are, and the key that they hold together.
//!
//! Every validator has an identity (Ed25519) and a part of one BLS12-381 key. More than two
//! thirds of the parts sign as the whole key does; a third or fewer know nothing of it. The
//! parts are made by the validators together ([`crate::ceremony`]), so that nobody ever has the
//! whole, or by a *trusted dealer* ([`deal`]) for tests and for one operator of all: it knows the
//! whole key while it runs and must forget it, since whoever keeps it can forge certificates and
//! foretell seeds for ever.

use std::fmt;
use std::num::NonZeroU32;

use commonware_codec::{Copying, DecodeExt as _, Encode as _, Read as _};
use commonware_consensus::simplex::scheme::bls12381_threshold::vrf;
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::bls12381::dkg::feldman_desmedt;
use commonware_cryptography::bls12381::primitives::group;
use commonware_cryptography::bls12381::primitives::sharing::{Mode, ModeVersion, Sharing};
use commonware_cryptography::bls12381::primitives::variant::{MinSig, Variant};
use commonware_cryptography::{Signer as _, ed25519};
use commonware_utils::N3f1;
use commonware_utils::ordered::{Quorum as _, Set};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

use crate::port::Seed;

pub(crate) type Scheme = vrf::Scheme<ed25519::PublicKey, MinSig>;
pub(crate) type Certificate = vrf::Certificate<MinSig>;

/// Most validators: every one of them talks to every other.
pub const VALIDATORS_MAX: usize = 100;
/// Bytes of the key that the validators hold together.
pub const GROUP_KEY_BYTES: usize = 96;
/// Domain of everything that validators sign, before the ledger's identity and their term.
const NAMESPACE: &[u8] = b"cairn 1 consensus ";

/// The validators of a ledger and the public side of their key.
#[derive(Clone, PartialEq, Eq)]
pub struct Committee {
    validators: Set<ed25519::PublicKey>,
    sharing: Sharing<MinSig>,
}

impl fmt::Debug for Committee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committee")
            .field("validators", &self.validators)
            .finish_non_exhaustive()
    }
}

/// A validator's part of the key. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPart(Zeroizing<Vec<u8>>);

impl fmt::Debug for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPart(..)")
    }
}

impl KeyPart {
    /// A part from its bytes, which [`crate::Engine::start`] checks.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Its bytes, to be kept secret.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn of(part: &group::Share) -> Self {
        Self(Zeroizing::new(part.encode().to_vec()))
    }

    pub(crate) fn decode(&self) -> Option<group::Share> {
        group::Share::decode(Copying(self.0.as_slice())).ok()
    }
}

/// What a dealer hands out.
#[derive(Debug)]
pub struct Dealing {
    /// For everyone.
    pub committee: Committee,
    /// For each validator alone, in the order of [`Committee::validators`].
    pub parts: Vec<KeyPart>,
}

/// Why there is no committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// None or too many.
    #[error("expected 1 to {VALIDATORS_MAX} validators, found {found}")]
    Count {
        /// How many.
        found: usize,
    },
    /// An identity twice.
    #[error("a validator is listed twice")]
    Twice,
    /// An identity is none.
    #[error("an identity is no Ed25519 key")]
    Identity,
    /// The public side of the key is malformed or made for another number of validators.
    #[error("the validators' key is malformed")]
    Key,
}

/// The identity of a secret.
#[must_use]
pub fn identity(secret: &[u8; 32]) -> Option<[u8; 32]> {
    key_bytes(&signer(secret)?.public_key())
}

/// Deals a new key to validators, from entropy that must be fresh, secret and forgotten.
///
/// # Errors
///
/// [`CommitteeError`].
pub fn deal(validators: &[[u8; 32]], entropy: &[u8; 32]) -> Result<Dealing, CommitteeError> {
    let validators = identities(validators)?;
    let rng = StdRng::from_seed(*entropy);
    let (output, parts) =
        feldman_desmedt::deal::<MinSig, _, N3f1>(rng, Mode::NonZeroCounter, validators.clone())
            .map_err(|_| CommitteeError::Key)?;
    Ok(Dealing {
        committee: Committee {
            validators,
            sharing: output.public().clone(),
        },
        parts: parts.values().iter().map(KeyPart::of).collect(),
    })
}

impl Committee {
    /// A committee of validators, given by identity, and the public side of their key as
    /// [`Self::key`] gave it.
    ///
    /// # Errors
    ///
    /// [`CommitteeError`].
    pub fn new(validators: &[[u8; 32]], key: &[u8]) -> Result<Self, CommitteeError> {
        let validators = identities(validators)?;
        let count = u32::try_from(validators.len())
            .ok()
            .and_then(NonZeroU32::new)
            .ok_or(CommitteeError::Key)?;
        let mut buffer = Copying(key);
        let sharing = Sharing::<MinSig>::read_cfg(&mut buffer, &(count, ModeVersion::v0()))
            .map_err(|_| CommitteeError::Key)?;
        let fits = sharing.total() == count
            && sharing.required() == validators.quorum::<N3f1>()
            // Nothing after it.
            && sharing.encode()[..] == *key;
        if !fits {
            return Err(CommitteeError::Key);
        }
        Ok(Self {
            validators,
            sharing,
        })
    }

    pub(crate) const fn of(validators: Set<ed25519::PublicKey>, sharing: Sharing<MinSig>) -> Self {
        Self {
            validators,
            sharing,
        }
    }

    /// The validators' identities, rising.
    #[must_use]
    pub fn validators(&self) -> Vec<[u8; 32]> {
        self.validators.iter().filter_map(key_bytes).collect()
    }

    /// The public side of their key, from which everyone's part follows.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        self.sharing.encode().to_vec()
    }

    /// The public key of all of them together, against which certificates and seeds are checked.
    #[must_use]
    pub fn group_key(&self) -> Vec<u8> {
        self.sharing.public().encode().to_vec()
    }

    /// Whether a seed is that of its view on a ledger, in a term.
    #[must_use]
    pub fn is_seed(&self, ledger: &[u8; 32], term: u32, seed: &Seed) -> bool {
        type Signature = <MinSig as Variant>::Signature;
        let Ok(signature) = Signature::decode(Copying(seed.bytes.as_slice())) else {
            return false;
        };
        let namespace = namespace(ledger, term);
        let scheme = Scheme::certificate_verifier(&namespace, *self.sharing.public());
        let round = Round::new(Epoch::zero(), View::new(seed.view));
        vrf::Seed::<MinSig>::new(round, signature).verify(&scheme)
    }

    pub(crate) const fn sharing(&self) -> &Sharing<MinSig> {
        &self.sharing
    }

    pub(crate) const fn set(&self) -> &Set<ed25519::PublicKey> {
        &self.validators
    }

    /// The scheme by which a validator votes with its part of the key, in a term.
    pub(crate) fn signer(
        &self,
        ledger: &[u8; 32],
        term: u32,
        me: &ed25519::PublicKey,
        part: &KeyPart,
    ) -> Result<Scheme, NotOurs> {
        let index = self.validators.index(me).ok_or(NotOurs::Identity)?;
        let part = part.decode().ok_or(NotOurs::Part)?;
        if part.index != index {
            return Err(NotOurs::Part);
        }
        Scheme::signer(
            &namespace(ledger, term),
            self.validators.clone(),
            self.sharing.clone(),
            part,
        )
        .ok_or(NotOurs::Part)
    }
}

/// Why someone can't vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOurs {
    /// It is no validator.
    Identity,
    /// The part of the key is not its own.
    Part,
}

/// Domain of all that the validators of a term sign, and of their connections: what is said in one
/// term means nothing in another.
pub(crate) fn namespace(ledger: &[u8; 32], term: u32) -> Vec<u8> {
    [NAMESPACE, ledger, &term.to_be_bytes()].concat()
}

pub(crate) fn signer(secret: &[u8; 32]) -> Option<ed25519::PrivateKey> {
    ed25519::PrivateKey::decode(Copying(secret.as_slice())).ok()
}

pub(crate) fn key_bytes(key: &ed25519::PublicKey) -> Option<[u8; 32]> {
    <[u8; 32]>::try_from(key.as_ref()).ok()
}

pub(crate) fn public_key(bytes: &[u8; 32]) -> Option<ed25519::PublicKey> {
    ed25519::PublicKey::decode(Copying(bytes.as_slice())).ok()
}

pub(crate) fn identities(
    validators: &[[u8; 32]],
) -> Result<Set<ed25519::PublicKey>, CommitteeError> {
    let found = validators.len();
    if found == 0 || found > VALIDATORS_MAX {
        return Err(CommitteeError::Count { found });
    }
    keys(validators)
}

/// Identities of any number.
pub(crate) fn keys(identities: &[[u8; 32]]) -> Result<Set<ed25519::PublicKey>, CommitteeError> {
    let keys: Vec<_> = identities
        .iter()
        .map(|bytes| public_key(bytes).ok_or(CommitteeError::Identity))
        .collect::<Result<_, _>>()?;
    Set::try_from(keys).map_err(|_| CommitteeError::Twice)
}
