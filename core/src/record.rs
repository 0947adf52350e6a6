//! The envelope of everything that is signed, stored or sent.
//!
//! ```text
//! offset 0   2            3
//!        ├ kind: u16 LE ┼ version: u8 ┼ body: borsh ┤
//! signed: the same of `T`, then 32 bytes signer, 64 bytes Ed25519 over
//!         BLAKE3-derive-key("cairn 1 signed record", envelope of `T`)
//!         or, when it is for one ledger, over
//!         BLAKE3-derive-key("cairn 1 signed record for a ledger", ledger id, envelope of `T`)
//! ```
//!
//! Decoding never panics, never allocates more than a small multiple of the input, and refuses
//! another kind, another version, trailing bytes, input over the kind's bound and a second form
//! of the same value.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::digest::Digest;
use crate::id::LedgerId;
use crate::key::{KeyError, PublicKey, SecretKey, Signature};

/// Bytes of the envelope before the body.
pub const ENVELOPE_BYTES: usize = 3;
/// Bytes that a signature adds to a record: signer and signature.
pub const SIGNATURE_BYTES: usize = 96;
/// Domain of record signatures.
const SIGNED_CONTEXT: &str = "cairn 1 signed record";
/// Domain of the signatures of records that are for one ledger.
const SIGNED_FOR_CONTEXT: &str = "cairn 1 signed record for a ledger";

/// Every kind of record, with its number on the wire. A number is never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum RecordKind {
    /// [`crate::SegmentRecord`].
    Segment = 1,
    /// [`crate::GroupRevision`].
    GroupRevision = 2,
    /// [`crate::RevisionDetail`].
    RevisionDetail = 3,
    /// [`crate::Receipt`].
    Receipt = 4,
    /// [`crate::CapabilityLink`].
    CapabilityLink = 5,
    /// [`crate::NodeRecord`].
    Node = 6,
    /// [`crate::GroupRecord`].
    Group = 7,
    /// A ledger transaction.
    Tx = 8,
    /// A ledger block.
    Block = 9,
    /// A ledger state snapshot.
    LedgerState = 10,
    /// A ledger request on the wire.
    LedgerRequest = 11,
    /// A ledger response on the wire.
    LedgerResponse = 12,
    /// [`crate::message::DataRequest`].
    DataRequest = 13,
    /// [`crate::message::DataResponse`].
    DataResponse = 14,
    /// A proof of storage.
    Proof = 15,
    /// The client's index of what was uploaded.
    FileIndex = 16,
    /// The client's upload journal entry.
    UploadJournal = 17,
    /// The client's link.
    Link = 18,
    /// The header of a shard in a node's pack.
    PackHeader = 19,
    /// A node's durable state of a slot.
    SlotState = 20,
    /// [`crate::message::ControlRequest`].
    ControlRequest = 21,
    /// [`crate::message::ControlResponse`].
    ControlResponse = 22,
    /// [`crate::Capability`].
    Capability = 23,
    /// Where a ledger begins.
    Genesis = 24,
    /// What the ledger knows of a group's proofs.
    GroupProof = 26,
    /// Transactions that a validator passes on to the others.
    ForwardedTxs = 27,
    /// What validators agree on.
    Proposal = 28,
    /// A digest that the ledger has recorded.
    Notarisation = 29,
    /// The first page of a node's pack.
    PackFile = 30,
    /// Which shards of a node's pack are dead.
    DeadList = 31,
    /// A node's cached index of one pack.
    PackIndex = 32,
    /// What makes a folder a node's shard store.
    StoreIdentity = 33,
    /// What those who order the ledger sign of a height.
    Attested = 34,
    /// What the answer to a question about the ledger follows from.
    Evidence = 35,
    /// A validator's part of what they sign together.
    AttestationNews = 36,
    /// Digests that were notarised together.
    DigestSet = 37,
    /// How far a node has seen its ledger, on its disk.
    SeenHeight = 38,
    /// [`crate::VolumeHead`].
    VolumeHead = 39,
}

impl RecordKind {
    /// The number on the wire.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a repr(u16) enum"
    )]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// Why bytes are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than the kind may have.
    #[error("{kind:?} record: expected at most {max} bytes, found {found}")]
    TooLong {
        /// What was expected.
        kind: RecordKind,
        /// The bound.
        max: usize,
        /// The input's size.
        found: usize,
    },
    /// Fewer bytes than an envelope.
    #[error("{kind:?} record: cut short")]
    Short {
        /// What was expected.
        kind: RecordKind,
    },
    /// Another kind of record.
    #[error("expected a {expected:?} record ({}), found kind {found}", expected.number())]
    Kind {
        /// What was expected.
        expected: RecordKind,
        /// The number found.
        found: u16,
    },
    /// A version this software does not know.
    #[error("{kind:?} record: expected version {expected}, found {found}")]
    Version {
        /// What was expected.
        kind: RecordKind,
        /// The version known.
        expected: u8,
        /// The version found.
        found: u8,
    },
    /// The body is not one: cut short, trailing bytes, out of range, or a second form of a value.
    #[error("{kind:?} record: malformed body")]
    Body {
        /// What was expected.
        kind: RecordKind,
    },
}

/// A type with the canonical encoding.
pub trait Record: BorshSerialize + BorshDeserialize {
    /// Its kind.
    const KIND: RecordKind;
    /// Its version, the only one that decodes.
    const VERSION: u8;
    /// Bound on its encoding, envelope included.
    const BYTES_MAX: usize;

    /// Structural rules that the types alone do not enforce, checked by [`Self::decode`].
    fn is_well_formed(&self) -> bool {
        true
    }

    /// The canonical encoding.
    ///
    /// # Panics
    ///
    /// When the record is larger than its kind allows: our own bug, since the bounds of the
    /// fields add up to less.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&Self::KIND.number().to_le_bytes());
        out.push(Self::VERSION);
        self.serialize(&mut out)
            .expect("writing to memory does not fail");
        assert!(
            out.len() <= Self::BYTES_MAX,
            "a {:?} record is over its bound",
            Self::KIND
        );
        out
    }

    /// Reads [`Self::encode`] back, and nothing else.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says what is wrong with the bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let kind = Self::KIND;
        if bytes.len() > Self::BYTES_MAX {
            return Err(DecodeError::TooLong {
                kind,
                max: Self::BYTES_MAX,
                found: bytes.len(),
            });
        }
        let (envelope, body) = bytes
            .split_first_chunk::<ENVELOPE_BYTES>()
            .ok_or(DecodeError::Short { kind })?;
        let [low, high, version] = *envelope;
        let found = u16::from_le_bytes([low, high]);
        if found != kind.number() {
            return Err(DecodeError::Kind {
                expected: kind,
                found,
            });
        }
        if version != Self::VERSION {
            return Err(DecodeError::Version {
                kind,
                expected: Self::VERSION,
                found: version,
            });
        }
        let record = Self::try_from_slice(body).map_err(|_| DecodeError::Body { kind })?;
        if !record.is_well_formed() {
            return Err(DecodeError::Body { kind });
        }
        Ok(record)
    }

    /// Digest of the canonical encoding.
    fn record_digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// A record with one party's signature.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signed<T> {
    body: T,
    signer: PublicKey,
    signature: Signature,
}

/// Why a signed record is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Signed by another key than the one that must.
    #[error("{kind:?} record: expected the signature of {expected}, found {found}")]
    Signer {
        /// What was signed.
        kind: RecordKind,
        /// Who must sign.
        expected: PublicKey,
        /// Who did.
        found: PublicKey,
    },
    /// The signature does not hold.
    #[error("{kind:?} record signed by {signer}: {cause}")]
    Invalid {
        /// What was signed.
        kind: RecordKind,
        /// Who is said to have signed.
        signer: PublicKey,
        /// Why it does not hold.
        cause: KeyError,
    },
}

impl<T: Record> Signed<T> {
    /// Signs `body`.
    pub fn sign(body: T, key: &SecretKey) -> Self {
        let signature = key.sign(message(&body).as_bytes());
        Self {
            body,
            signer: key.public(),
            signature,
        }
    }

    /// Signs `body` for one ledger, whose id is signed and not sent: no other takes it.
    pub fn sign_for(body: T, ledger: LedgerId, key: &SecretKey) -> Self {
        let signature = key.sign(message_for(&body, ledger).as_bytes());
        Self {
            body,
            signer: key.public(),
            signature,
        }
    }

    /// Puts a signed record together again from its parts, unverified: for formats that leave out
    /// what both sides know.
    pub const fn from_parts(body: T, signer: PublicKey, signature: Signature) -> Self {
        Self {
            body,
            signer,
            signature,
        }
    }

    /// The signature.
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    /// The body, unverified: for routing and logs only.
    pub const fn unverified(&self) -> &T {
        &self.body
    }

    /// The body without its signature, unverified.
    pub fn into_unverified(self) -> T {
        self.body
    }

    /// Who is said to have signed.
    pub const fn signer(&self) -> PublicKey {
        self.signer
    }

    /// The body, when its signer's signature holds.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Invalid`].
    pub fn verify(&self) -> Result<&T, SignatureError> {
        self.verify_message(message(&self.body))
    }

    /// The body, when `expected` signed it.
    ///
    /// # Errors
    ///
    /// [`SignatureError`].
    pub fn verify_by(&self, expected: PublicKey) -> Result<&T, SignatureError> {
        self.check_signer(expected)?;
        self.verify()
    }

    /// The body, when `expected` signed it for `ledger` with [`Self::sign_for`].
    ///
    /// # Errors
    ///
    /// [`SignatureError`].
    pub fn verify_for(&self, expected: PublicKey, ledger: LedgerId) -> Result<&T, SignatureError> {
        self.check_signer(expected)?;
        self.verify_message(message_for(&self.body, ledger))
    }

    fn check_signer(&self, expected: PublicKey) -> Result<(), SignatureError> {
        if self.signer != expected {
            return Err(SignatureError::Signer {
                kind: T::KIND,
                expected,
                found: self.signer,
            });
        }
        Ok(())
    }

    fn verify_message(&self, message: Digest) -> Result<&T, SignatureError> {
        self.signer
            .verify(message.as_bytes(), &self.signature)
            .map_err(|cause| SignatureError::Invalid {
                kind: T::KIND,
                signer: self.signer,
                cause,
            })?;
        Ok(&self.body)
    }
}

/// What is signed: one digest over the whole envelope, in its own domain.
fn message<T: Record>(body: &T) -> Digest {
    Digest::keyed(SIGNED_CONTEXT, &body.encode())
}

/// What is signed for one ledger.
fn message_for<T: Record>(body: &T, ledger: LedgerId) -> Digest {
    let signed = [ledger.as_bytes().as_slice(), &body.encode()].concat();
    Digest::keyed(SIGNED_FOR_CONTEXT, &signed)
}

impl<T: Record> Record for Signed<T> {
    const KIND: RecordKind = T::KIND;
    const VERSION: u8 = T::VERSION;
    const BYTES_MAX: usize = T::BYTES_MAX + SIGNATURE_BYTES;

    fn is_well_formed(&self) -> bool {
        self.body.is_well_formed()
    }
}
