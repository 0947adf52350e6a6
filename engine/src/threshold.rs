//! Signatures of the validators together, over messages of the application.

use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_cryptography::bls12381::primitives::ops::threshold;
use commonware_cryptography::bls12381::primitives::variant::{MinSig, PartialSignature};
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;

use crate::committee::{Committee, KeyPart, public_key};

/// Bytes of a signature of all together, and of what one validator adds to it without its index.
pub const SIGNATURE_BYTES: usize = 48;

/// What one validator adds to a signature of all together. Not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePart(PartialSignature<MinSig>);

impl SignaturePart {
    /// From its encoding; `None` when it is malformed.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        PartialSignature::decode(Copying(bytes)).ok().map(Self)
    }

    /// Its encoding, of at most 64 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode().to_vec()
    }
}

impl KeyPart {
    /// What its holder adds to the signature of a message. `namespace` is the domain that the message is
    /// signed in. `None` when it is no part of a key.
    #[must_use]
    pub fn sign(&self, namespace: &[u8], message: &[u8]) -> Option<SignaturePart> {
        let share = self.decode()?;
        Some(SignaturePart(threshold::sign_message::<MinSig>(
            &share, namespace, message,
        )))
    }
}

impl Committee {
    /// How many validators sign together: more than two thirds.
    #[must_use]
    pub fn quorum(&self) -> usize {
        usize::try_from(self.sharing().required()).unwrap_or(usize::MAX)
    }

    /// Whether a part is the one that a validator adds, whatever it is of.
    #[must_use]
    pub fn is_of(&self, part: &SignaturePart, validator: &[u8; 32]) -> bool {
        use commonware_utils::ordered::Quorum as _;
        let index = |set: &Set<_>| set.index(&public_key(validator)?);
        index(self.set()) == Some(part.0.index)
    }

    /// Whether a part is of this message.
    #[must_use]
    pub fn is_part(&self, part: &SignaturePart, namespace: &[u8], message: &[u8]) -> bool {
        threshold::verify_message::<MinSig>(self.sharing(), namespace, message, &part.0).is_ok()
    }

    /// The signature of all together out of the parts of a quorum, each of another validator. It
    /// holds when all parts do. `None` when they are too few.
    #[must_use]
    pub fn put_together(&self, parts: &[SignaturePart]) -> Option<[u8; SIGNATURE_BYTES]> {
        let parts = parts.iter().map(|part| &part.0);
        let signature = threshold::recover::<MinSig, _>(self.sharing(), parts, &Sequential).ok()?;
        <[u8; SIGNATURE_BYTES]>::try_from(&signature.encode()[..]).ok()
    }
}
