//! What comes of a ceremony: what all have signed, or why not, and who is named for what.

use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{Verifier as _, ed25519};

use crate::committee::{self, Committee, KeyPart};

type Key = ed25519::PublicKey;

/// Domain of the signature under what all agree on: a genesis, or who orders the ledger next.
pub const AGREED: &[u8] = b"cairn 1 agreed genesis";

/// Who takes part, and in what.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Digest of all that the participants must have alike.
    pub digest: [u8; 32],
    /// The participants by identity.
    pub participants: Vec<[u8; 32]>,
    /// The key that is dealt anew; `None` when a new one is made, of which each participant has a
    /// part.
    pub previous: Option<Previous>,
}

/// A key that is dealt anew: it stays the same, and others hold it.
#[derive(Clone, Debug)]
pub struct Previous {
    /// Who holds it. Those of them that take part deal; they are at least a quorum.
    pub committee: Committee,
    /// Their term. That of the next is one more.
    pub term: u32,
    /// Who holds it next, by identity. All of them take part, and nobody else but the dealers does.
    pub next: Vec<[u8; 32]>,
}

/// What a ceremony made, before all have agreed on it.
#[derive(Debug)]
pub struct Made {
    /// The validators and the public side of their key.
    pub committee: Committee,
    /// Our part of it; `None` when we only hand our part of a key over.
    pub part: Option<KeyPart>,
}

/// What all have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The digest that they signed: that of the genesis, or of who orders the ledger next.
    pub digest: [u8; 32],
    /// The signatures of all participants, in the rising order of their identities.
    pub signatures: Vec<[u8; 64]>,
}

/// Whether a signature is that of a validator that took part in making a ledger's key and keeps
/// its part of it.
#[must_use]
pub fn is_agreed(identity: &[u8; 32], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let signature = ed25519::Signature::decode(Copying(signature.as_slice()));
    committee::public_key(identity)
        .zip(signature.ok())
        .is_some_and(|(key, signature)| is_signature(&key, digest, &signature))
}

pub(super) fn is_signature(key: &Key, digest: &[u8; 32], signature: &ed25519::Signature) -> bool {
    key.verify(AGREED, digest, signature)
}

/// What a participant did that is worth a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum FaultKind {
    /// It dealt what does not fit what it promised.
    #[error("dealt a bad part")]
    BadDealing,
    /// Its log does not hold.
    #[error("signed a log that does not hold; its dealing is left out")]
    BadLog,
    /// It dealt another key than its part of the one that is dealt anew.
    #[error("dealt another key than its part of the present one; its dealing is left out")]
    OtherPart,
    /// Too many did not say that its dealing is good.
    #[error("did not deal to enough participants; its dealing is left out")]
    Refused,
    /// It showed what it dealt to one who did not say that it is good: one of the two cheats, or
    /// the network between them.
    #[error("did not hear from {} that its dealing is good", hex(.to))]
    Shown {
        /// To whom it had dealt.
        to: [u8; 32],
    },
    /// It sent bytes that are no message.
    #[error("sent bytes that are no message")]
    Malformed,
}

/// What a participant has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Lack {
    /// It was not heard of.
    #[error("is not here")]
    Absent,
    /// It has another draft.
    #[error("has another draft")]
    OtherDraft,
    /// It has not joined the attempt of the others.
    #[error("has not heard from all of us")]
    Apart,
    /// It is in another attempt, since it heard another nonce of a participant than we did. Right
    /// after that one began anew, this is as it should be.
    #[error(
        "has heard of another start of {} than this validator: one of the two lies, or the network \
         between them fails",
        hex(.of)
    )]
    HeardOther {
        /// Of whom.
        of: [u8; 32],
    },
    /// It says that all have agreed on what we have no part of.
    #[error("says that all have agreed before, on what this validator has no part of")]
    Done,
    /// Its log is not here.
    #[error("has not finished dealing")]
    Log,
    /// Its signature is not here.
    #[error("has not signed")]
    Signature,
    /// It signed another genesis.
    #[error("signed another genesis")]
    OtherGenesis,
}

impl Lack {
    /// The number of the step that it has not done.
    pub(super) const fn step(self) -> u8 {
        match self {
            Self::Absent | Self::OtherDraft => 0,
            Self::Apart | Self::HeardOther { .. } | Self::Done => 1,
            Self::Log => 2,
            Self::Signature | Self::OtherGenesis => 3,
        }
    }
}

/// What is wrong with a draft by which a key is to be dealt anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// A participant has no part in it.
    #[error("{} takes part, and holds the key neither now nor next", hex(.participant))]
    Stranger {
        /// Who.
        participant: [u8; 32],
    },
    /// One that is to hold the key next does not take part.
    #[error("{} is to hold the key next, and does not take part", hex(.participant))]
    Absent {
        /// Who.
        participant: [u8; 32],
    },
    /// Too few of those who hold the key take part.
    #[error("{found} of those who hold the key take part, and at least {required} must")]
    TooFewDealers {
        /// How many do.
        found: usize,
        /// How many must.
        required: usize,
    },
}

/// Why there is no agreement.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The secret is none of a participant.
    #[error("this identity is not one of the draft's")]
    Identity,
    /// The participants are none.
    #[error(transparent)]
    Participants(#[from] committee::CommitteeError),
    /// The key can't be dealt anew as the draft has it.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// A dealer needs its part of the key that is dealt anew.
    #[error("this validator's part of the present key is not here or not its own")]
    Part,
    /// Not all came to the end in time.
    #[error("not all came to the end in time")]
    Time {
        /// Who did not, and how far they came.
        missing: Vec<([u8; 32], Lack)>,
    },
    /// A participant signed two logs in one attempt, which no honest one does.
    #[error("{} told different participants different things", hex(.participant))]
    TwoFaced {
        /// Who.
        participant: [u8; 32],
    },
    /// A participant starts anew again and again.
    #[error("{} began anew too often", hex(.participant))]
    Restless {
        /// The last that did.
        participant: [u8; 32],
    },
    /// Too many dealers cheated.
    #[error("{bad} dealings are bad, and at most {bad_max} may be")]
    TooFewGood {
        /// Dealings left out.
        bad: usize,
        /// Most that may be.
        bad_max: u32,
    },
    /// Parts of the key came to be known to others.
    #[error("the parts of {} participants were shown to others", .participants.len())]
    Revealed {
        /// Whose.
        participants: Vec<[u8; 32]>,
    },
    /// All have agreed before, and our part is gone; unless who says so has it of another draft.
    #[error("all have agreed on {}, and this validator has no part of its key", hex(.digest))]
    PartGone {
        /// On what: the digest that all have signed.
        digest: [u8; 32],
        /// Who says that it is of this draft.
        said_by: Vec<[u8; 32]>,
    },
    /// What was made does not fit itself.
    #[error("what the ceremony made does not hold")]
    Ours,
    /// It can't listen.
    #[error("can't listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// The network between the participants ended.
    #[error("the participants' network stopped")]
    Network,
    /// The thread could not be made.
    #[error("can't start the ceremony's thread: {0}")]
    Thread(std::io::Error),
    /// What was made can't be kept.
    #[error("what the ceremony made can't be kept: {0}")]
    Keep(Box<dyn std::error::Error + Send + Sync>),
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
