//! Terms of validators: for how long one set of them orders the ledger, and how it hands over to
//! the next.
//!
//! A term is numbered from 0, that of the genesis. A change is named by a transaction that enough of
//! those who go and all who come have signed; at its *border*, a height that everyone knows long before,
//! the next term begins. The key by which the ledger is attested stays the same for ever: its parts are
//! dealt anew. Whoever signs has seen to that; the ledger looks at signatures only. Rules are those of
//! docs/protocol/ledger.md#terms-of-validators.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    Blame, Digest, Height, LedgerId, PublicKey, Record, Retry, SecretKey, Signature, UnixMillis,
    ViewNumber,
};

use crate::attestation::framed;
use crate::genesis::{Genesis, VALIDATORS_KEY_BYTES_MAX, VALIDATORS_MAX, Validators};
use crate::tx::Tx;

/// Blocks from the one that names a border to the border, so that operators see it coming: some seconds
/// at the least.
pub const BORDER_LAG: u64 = 32;
/// Most signatures under a change: those of all who go and all who come.
pub const SIGNERS_MAX: usize = 2 * VALIDATORS_MAX;
/// Domain of these signatures: that of what validators sign at the end of a ceremony, so that they sign
/// once.
pub const AGREED: &[u8] = b"cairn 1 agreed genesis";
/// What the digest that they sign is of.
const TERM_CONTEXT: &str = "cairn 1 ledger term";
/// Most bytes of a set of validators.
const VALIDATORS_BYTES_MAX: usize = 4 + 32 * VALIDATORS_MAX + 4 + VALIDATORS_KEY_BYTES_MAX;
/// Most bytes of a state's term: whether there is one, number, base, what was before, what is next; and
/// all three sets.
pub(crate) const TERM_BYTES_MAX: usize = 1 + 4 + 56 + 57 + 1 + 9 + 3 * VALIDATORS_BYTES_MAX;

/// The time in which one set of validators orders the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Term {
    /// Terms before it.
    pub number: u32,
    /// Who orders the ledger.
    pub validators: Validators,
    /// What it begins behind.
    pub base: TermStart,
    /// The term before it, whose validators help each other over the border; none before the first.
    pub before: Option<PastTerm>,
    /// Who comes next, once that is named.
    pub next: Option<NextTerm>,
}

/// A term that is over.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PastTerm {
    /// Who ordered the ledger.
    pub validators: Validators,
    /// What it began behind.
    pub base: TermStart,
}

/// The last block before a term; the genesis before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TermStart {
    /// Its height.
    pub height: Height,
    /// Its view.
    pub view: ViewNumber,
    /// Its time.
    pub time: UnixMillis,
    /// Its digest.
    pub tip: Digest,
}

/// The term after the one that runs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NextTerm {
    /// Who will order the ledger.
    pub validators: Validators,
    /// The last block of the term that runs; `None` until the next epoch begins, which names it.
    pub border: Option<Height>,
}

/// A validator's signature under a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TermSignature {
    /// Who signed.
    pub validator: PublicKey,
    /// Ed25519 over [`AGREED`], its length before it, and the change's [`term_digest`].
    pub signature: [u8; 64],
}

/// What is signed under a change: which ledger, the number of the term that is to begin, and its
/// validators.
///
/// # Panics
///
/// Never: memory takes the encoding.
#[must_use]
pub fn term_digest(ledger: LedgerId, number: u32, validators: &Validators) -> Digest {
    let signed = borsh::to_vec(&(ledger, number, validators)).expect("memory takes it");
    Digest::keyed(TERM_CONTEXT, &signed)
}

impl Term {
    /// The one that begins with a genesis of this digest; `None` when a sequencer orders the ledger.
    pub(crate) fn first(genesis: &Genesis, digest: Digest) -> Option<Self> {
        Some(Self {
            number: 0,
            validators: genesis.validators.clone()?,
            base: TermStart::first(genesis.time, digest),
            before: None,
            next: None,
        })
    }
}

impl TermStart {
    /// Of the first term.
    pub(crate) const fn first(time: UnixMillis, genesis: Digest) -> Self {
        Self {
            height: Height::ZERO,
            view: ViewNumber::ZERO,
            time,
            tip: genesis,
        }
    }
}

impl TermSignature {
    /// A validator's, under a change of this digest.
    #[must_use]
    pub fn sign(digest: Digest, key: &SecretKey) -> Self {
        Self {
            validator: key.public(),
            signature: *key.sign(&message(digest)).as_bytes(),
        }
    }

    /// Whether it is its validator's under a change of this digest.
    #[must_use]
    pub fn holds(&self, digest: Digest) -> bool {
        let signature = Signature::from_bytes(self.signature);
        self.validator.verify(&message(digest), &signature).is_ok()
    }
}

fn message(digest: Digest) -> Vec<u8> {
    framed(AGREED, digest.as_bytes())
}

/// Why a change of validators is refused.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum TermError {
    /// A sequencer orders the ledger.
    #[error("the ledger has no validators to change: a sequencer orders it")]
    NoValidators,
    /// A change is named and has not happened.
    #[error("the validators of term {number} are named: no others can be before it begins")]
    Pending {
        /// The term that is to begin.
        number: u32,
    },
    /// The numbers are used up.
    #[error("no term can follow term {number}")]
    Last {
        /// The term that runs.
        number: u32,
    },
    /// The validators are none, or not rising.
    #[error("expected at least one validator, in rising order")]
    Validators,
    /// Nothing would change.
    #[error("these are the validators of the term that runs, with the same key")]
    Unchanged,
    /// The signatures are not rising by validator, or someone has two.
    #[error("expected signatures in rising order of their validators, one of each")]
    Order,
    /// Someone signed who has no part in it.
    #[error("{validator} signed, and is neither a validator nor to be one")]
    Stranger {
        /// Who.
        validator: PublicKey,
    },
    /// Too few of those who order the ledger signed.
    #[error("expected the signatures of at least {expected} validators of now, found {found}")]
    Quorum {
        /// More than two thirds of them.
        expected: u32,
        /// How many signed.
        found: u32,
    },
    /// Someone who is to order the ledger did not sign.
    #[error("{validator} is to be a validator and did not sign")]
    Unsigned {
        /// Who.
        validator: PublicKey,
    },
    /// A signature is not its validator's under this change.
    #[error("the signature of {validator} is not under this change, as the next of this ledger")]
    Signature {
        /// Who is said to have signed.
        validator: PublicKey,
    },
}

impl TermError {
    /// What to do about it.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            // A term begins.
            Self::Pending { .. } => Retry::Later,
            Self::NoValidators
            | Self::Last { .. }
            | Self::Validators
            | Self::Unchanged
            | Self::Order
            | Self::Stranger { .. }
            | Self::Quorum { .. }
            | Self::Unsigned { .. }
            | Self::Signature { .. } => Retry::Never,
        }
    }

    /// Whose fault it is, for the one who asked.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Pending { .. } => Blame::World,
            Self::NoValidators
            | Self::Last { .. }
            | Self::Validators
            | Self::Unchanged
            | Self::Order
            | Self::Stranger { .. }
            | Self::Quorum { .. }
            | Self::Unsigned { .. }
            | Self::Signature { .. } => Blame::Caller,
        }
    }
}

// The domain's length is one byte, as it is before whatever validators sign.
const _: () = assert!(AGREED.len() < 128);
// The widest change is a transaction.
const _: () =
    assert!(128 + VALIDATORS_BYTES_MAX + 4 + SIGNERS_MAX * (32 + 64) <= <Tx as Record>::BYTES_MAX);
