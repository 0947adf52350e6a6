//! What participants of a ceremony say to each other.
//!
//! ```text
//! kind u8 | its fields
//! ```
//!
//! Every length has a bound that follows from the number of participants; what does not decode to
//! the last byte is no message.

use std::num::NonZeroU32;

use bytes::{BufMut, Bytes};
use commonware_codec::{
    Buf, Decode as _, Encode as _, EncodeSize, Error, FixedSize as _, RangeCfg, Read, ReadExt as _,
    Write,
};
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    DealerPrivMsg, DealerPubMsg, PlayerAck, SignedDealerLog,
};
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::ed25519;

use crate::committee::VALIDATORS_MAX;

/// Digest of what is agreed on.
pub(super) type Id = [u8; 32];
/// Beginning of the digest of a dealer's log; zeros for a log that is not there.
pub(super) type Mark = [u8; 16];
/// A log that is not there.
pub(super) const NO_MARK: Mark = [0; 16];

const STATE: u8 = 1;
const DEALING: u8 = 2;
const TAKEN: u8 = 3;
const LOG: u8 = 4;
const SIGNED: u8 = 5;
const AGREED: u8 = 6;
/// Most participants: as many who hold a key as there may be, and as many others who hold it next.
pub(super) const PARTICIPANTS_MAX: usize = 2 * VALIDATORS_MAX;
/// Bytes of everything in a message but what grows with the participants, rounded up.
const FIXED_BYTES: usize = 256;
/// Bytes of a signer's place.
const PLACE_BYTES: usize = 4;

/// A message.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// How the sender stands.
    State(State),
    /// The sender's dealing for whoever gets this.
    Dealing {
        attempt: Id,
        public: DealerPubMsg<MinSig>,
        private: DealerPrivMsg,
    },
    /// The sender has a good dealing from whoever gets this.
    Taken {
        attempt: Id,
        receipt: PlayerAck<ed25519::PublicKey>,
    },
    /// A dealer's log, from anyone.
    Log {
        attempt: Id,
        log: Box<SignedDealerLog<MinSig, ed25519::PublicKey>>,
    },
    /// Signatures of participants, by their place, under one digest.
    Signed {
        attempt: Id,
        digest: Id,
        signatures: Vec<(u32, ed25519::Signature)>,
    },
    /// Signatures of all participants, in their order.
    Agreed {
        digest: Id,
        signatures: Vec<ed25519::Signature>,
    },
}

/// How a participant stands: what it has, so that others send what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Digest of its draft.
    pub(super) draft: Id,
    /// Drawn when its process started.
    pub(super) nonce: Id,
    /// The nonces of all that it goes by, its own included; `None` of those that are not here or
    /// have another draft.
    pub(super) heard: Vec<Option<Id>>,
    /// The attempt that it is in, of all that it ever was in the last.
    pub(super) attempt: Option<Id>,
    /// The dealers' logs that it has.
    pub(super) logs: Vec<Mark>,
    /// Whose signatures it has.
    pub(super) signatures: Vec<bool>,
    /// Whether it has finished.
    pub(super) is_done: bool,
}

/// Most bytes of a message. Of any number of participants: those with different drafts must be able
/// to tell each other so.
pub(super) fn message_bytes_max() -> u32 {
    let count = u32::try_from(VALIDATORS_MAX).ok().and_then(NonZeroU32::new);
    let count = count.unwrap_or(NonZeroU32::MIN);
    let log = SignedDealerLog::<MinSig, ed25519::PublicKey>::max_encode_size(count);
    let each = ed25519::Signature::SIZE.saturating_add(PLACE_BYTES);
    let listed = PARTICIPANTS_MAX.saturating_mul(each);
    let max = log.max(listed).saturating_add(FIXED_BYTES);
    u32::try_from(max).unwrap_or(u32::MAX)
}

impl Message {
    /// The message of `bytes` among `count` participants.
    pub(super) fn decode(bytes: Bytes, count: NonZeroU32) -> Result<Self, Error> {
        Self::decode_cfg(bytes, &count)
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.encode()
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::State(_) => STATE,
            Self::Dealing { .. } => DEALING,
            Self::Taken { .. } => TAKEN,
            Self::Log { .. } => LOG,
            Self::Signed { .. } => SIGNED,
            Self::Agreed { .. } => AGREED,
        }
    }
}

impl Write for Message {
    fn write(&self, buf: &mut impl BufMut) {
        self.kind().write(buf);
        match self {
            Self::State(state) => state.write(buf),
            Self::Dealing {
                attempt,
                public,
                private,
            } => {
                attempt.write(buf);
                public.write(buf);
                private.write(buf);
            }
            Self::Taken { attempt, receipt } => {
                attempt.write(buf);
                receipt.write(buf);
            }
            Self::Log { attempt, log } => {
                attempt.write(buf);
                log.write(buf);
            }
            Self::Signed {
                attempt,
                digest,
                signatures,
            } => {
                attempt.write(buf);
                digest.write(buf);
                signatures.write(buf);
            }
            Self::Agreed { digest, signatures } => {
                digest.write(buf);
                signatures.write(buf);
            }
        }
    }
}

impl EncodeSize for Message {
    fn encode_size(&self) -> usize {
        let fields = match self {
            Self::State(state) => vec![state.encode_size()],
            Self::Dealing {
                attempt,
                public,
                private,
            } => vec![
                attempt.encode_size(),
                public.encode_size(),
                private.encode_size(),
            ],
            Self::Taken { attempt, receipt } => {
                vec![attempt.encode_size(), receipt.encode_size()]
            }
            Self::Log { attempt, log } => vec![attempt.encode_size(), log.encode_size()],
            Self::Signed {
                attempt,
                digest,
                signatures,
            } => vec![
                attempt.encode_size(),
                digest.encode_size(),
                signatures.encode_size(),
            ],
            Self::Agreed { digest, signatures } => {
                vec![digest.encode_size(), signatures.encode_size()]
            }
        };
        fields.into_iter().fold(u8::SIZE, usize::saturating_add)
    }
}

impl Read for Message {
    type Cfg = NonZeroU32;

    fn read_cfg(buf: &mut impl Buf, count: &NonZeroU32) -> Result<Self, Error> {
        let all = usize::try_from(count.get()).map_err(|_| Error::InvalidUsize)?;
        match u8::read(buf)? {
            STATE => State::read(buf).map(Self::State),
            DEALING => Ok(Self::Dealing {
                attempt: Id::read(buf)?,
                public: DealerPubMsg::read_cfg(buf, count)?,
                private: DealerPrivMsg::read(buf)?,
            }),
            TAKEN => Ok(Self::Taken {
                attempt: Id::read(buf)?,
                receipt: PlayerAck::read(buf)?,
            }),
            LOG => Ok(Self::Log {
                attempt: Id::read(buf)?,
                log: Box::new(SignedDealerLog::read_cfg(buf, count)?),
            }),
            SIGNED => Ok(Self::Signed {
                attempt: Id::read(buf)?,
                digest: Id::read(buf)?,
                signatures: Vec::read_cfg(buf, &(RangeCfg::from(0..=all), ((), ())))?,
            }),
            AGREED => Ok(Self::Agreed {
                digest: Id::read(buf)?,
                signatures: Vec::read_cfg(buf, &(RangeCfg::exact(all), ()))?,
            }),
            other => Err(Error::InvalidEnum(other)),
        }
    }
}

impl Write for State {
    fn write(&self, buf: &mut impl BufMut) {
        self.draft.write(buf);
        self.nonce.write(buf);
        self.heard.write(buf);
        self.attempt.write(buf);
        self.logs.write(buf);
        self.signatures.write(buf);
        self.is_done.write(buf);
    }
}

impl EncodeSize for State {
    fn encode_size(&self) -> usize {
        [
            self.draft.encode_size(),
            self.nonce.encode_size(),
            self.heard.encode_size(),
            self.attempt.encode_size(),
            self.logs.encode_size(),
            self.signatures.encode_size(),
            self.is_done.encode_size(),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl Read for State {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, Error> {
        // One with another draft may have others in it.
        let each = RangeCfg::from(0..=PARTICIPANTS_MAX);
        Ok(Self {
            draft: Id::read(buf)?,
            nonce: Id::read(buf)?,
            heard: Vec::read_cfg(buf, &(each, ()))?,
            attempt: Option::read(buf)?,
            logs: Vec::read_cfg(buf, &(each, ()))?,
            signatures: Vec::read_cfg(buf, &(each, ()))?,
            is_done: bool::read(buf)?,
        })
    }
}
