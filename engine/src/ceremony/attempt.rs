//! One attempt of a ceremony: dealings, the dealers' logs, and the signatures under what came of
//! them. Whoever starts anew begins another one for all, under another name, so nothing said in
//! one attempt means anything in the next.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use commonware_codec::Encode as _;
use commonware_cryptography::bls12381::dkg::feldman_desmedt::{
    self, Dealer, DealerLog, DealerLogSummary, DealerMessageError, DealerPrivMsg, DealerPubMsg,
    Failure, FaultReason, FinalizeError, Info, Logs, Output, Player, PlayerAck, SignedDealerLog,
};
use commonware_cryptography::bls12381::primitives::group;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::{Blake3, Hasher as _, Signer as _, ed25519};
use commonware_parallel::Sequential;
use commonware_utils::N3f1;
use rand::rngs::StdRng;

use super::message::{Id, Mark, Message, NO_MARK};
use super::sides::Sides;
use super::{CeremonyError, DEALING_LIMIT, FaultKind, Key, key_bytes_of};

/// Domain of what participants sign for each other, before the attempt's name.
const NAMESPACE: &[u8] = b"cairn 1 ceremony ";

/// A dealer's log that was signed by it.
pub(super) struct Recorded {
    pub(super) mark: Mark,
    pub(super) log: SignedDealerLog<MinSig, Key>,
    /// What it says, unless that shows the dealer faulty.
    good: Option<DealerLog<MinSig, Key>>,
}

/// An attempt.
pub(super) struct Attempt {
    pub(super) id: Id,
    /// Whether all are in it, and since when: only then dealings are sent.
    pub(super) begun: Option<Duration>,
    signer: ed25519::PrivateKey,
    sides: Sides,
    info: Info<MinSig, Key>,
    /// Our part as a dealer, if we are one, until our log is signed.
    dealer: Option<Dealer<MinSig, ed25519::PrivateKey>>,
    /// The public side of our dealing.
    public: Option<DealerPubMsg<MinSig>>,
    /// Our dealing for each who has not said that it is good.
    untaken: BTreeMap<Key, DealerPrivMsg>,
    /// Our part as one who is dealt to, if we are one, until there is a result.
    player: Option<Player<MinSig, ed25519::PrivateKey>>,
    /// Whether there is a result.
    is_summed: bool,
    /// What we said to the dealers whose dealing is good.
    taken: BTreeMap<Key, PlayerAck<Key>>,
    pub(super) logs: BTreeMap<Key, Recorded>,
    /// What we signed.
    pub(super) signed: Option<Id>,
    /// Whose signature under what we have.
    pub(super) signatures: BTreeMap<Key, (Id, ed25519::Signature)>,
}

/// What the dealings come to: the public side of the key, and our part of it if we were dealt one.
pub(super) type Sum = (Output<MinSig, Key>, Option<group::Share>);

/// What a participant did to be named: who, and what.
pub(super) type Blamed = (Key, FaultKind);

impl Attempt {
    pub(super) fn new(
        id: Id,
        signer: ed25519::PrivateKey,
        sides: Sides,
        rng: &mut StdRng,
    ) -> Result<Self, CeremonyError> {
        let info = sides.info(&[NAMESPACE, &id].concat())?;
        let me = signer.public_key();
        let player = if sides.is_dealt_to(&me) {
            let player = Player::new(info.clone(), signer.clone());
            Some(player.map_err(|_| CeremonyError::Ours)?)
        } else {
            None
        };
        let mut attempt = Self {
            id,
            begun: None,
            signer,
            sides,
            info,
            dealer: None,
            public: None,
            untaken: BTreeMap::new(),
            player,
            is_summed: false,
            taken: BTreeMap::new(),
            logs: BTreeMap::new(),
            signed: None,
            signatures: BTreeMap::new(),
        };
        if attempt.sides.deals(&me) {
            attempt.deal(&me, rng)?;
        }
        Ok(attempt)
    }

    /// Makes our dealing.
    fn deal(&mut self, me: &Key, rng: &mut StdRng) -> Result<(), CeremonyError> {
        let dealt = self.sides.dealt()?;
        let (dealer, public, private) =
            Dealer::start::<N3f1>(rng, self.info.clone(), self.signer.clone(), dealt)
                .map_err(|_| CeremonyError::Ours)?;
        self.dealer = Some(dealer);
        self.public = Some(public.clone());
        self.untaken = private.into_iter().collect();
        // To ourselves at once, if we are dealt to.
        if let Some(private) = self.untaken.get(me).cloned()
            && let Ok(Some(receipt)) = self.take(me, public, private)
        {
            self.taken_by(me, receipt);
        }
        Ok(())
    }

    /// Takes a dealing: gives the receipt for its dealer, the same each time; none when it comes
    /// too late to matter.
    pub(super) fn take(
        &mut self,
        dealer: &Key,
        public: DealerPubMsg<MinSig>,
        private: DealerPrivMsg,
    ) -> Result<Option<PlayerAck<Key>>, FaultKind> {
        if let Some(receipt) = self.taken.get(dealer) {
            return Ok(Some(receipt.clone()));
        }
        let Some(player) = &mut self.player else {
            // The dealer's log told us already, or nobody deals to us.
            return Ok(None);
        };
        let receipt = player
            .dealer_message::<N3f1>(dealer.clone(), public, private)
            .map_err(|error| match error {
                DealerMessageError::MismatchedReshareCommitment => FaultKind::OtherPart,
                DealerMessageError::UnexpectedDealer
                | DealerMessageError::InvalidCommitmentDegree { .. }
                | DealerMessageError::InvalidDealerShare => FaultKind::BadDealing,
            })?;
        if let Some(receipt) = &receipt {
            self.taken.insert(dealer.clone(), receipt.clone());
        }
        Ok(receipt)
    }

    /// Takes a participant's word that our dealing is good; gives whether it counts.
    pub(super) fn taken_by(&mut self, participant: &Key, receipt: PlayerAck<Key>) -> bool {
        let Some(dealer) = &mut self.dealer else {
            return true;
        };
        let counts = dealer
            .receive_player_ack(participant.clone(), receipt)
            .is_ok();
        if counts {
            self.untaken.remove(participant);
        }
        counts
    }

    /// Our dealing for a participant that has not said that it is good, while that matters.
    pub(super) fn dealing_for(&self, participant: &Key) -> Option<Message> {
        self.begun?;
        self.dealer.as_ref()?;
        let private = self.untaken.get(participant)?.clone();
        Some(Message::Dealing {
            attempt: self.id,
            public: self.public.clone()?,
            private,
        })
    }

    /// Signs our log when all have our dealing or it is time; those who don't are then given it
    /// in the log, before all. Gives whether it did.
    pub(super) fn close(&mut self, now: Duration, rng: &mut StdRng) -> bool {
        let Some(begun) = self.begun else {
            return false;
        };
        if !self.untaken.is_empty() && now.saturating_sub(begun) < DEALING_LIMIT {
            return false;
        }
        let Some(dealer) = self.dealer.take() else {
            return false;
        };
        let log = dealer.finalize::<N3f1>();
        self.untaken.clear();
        // Ours is as good as we made it.
        self.record(&log, rng).is_ok()
    }

    /// Takes a dealer's log: what it shows of the dealer, if it is new.
    ///
    /// # Errors
    ///
    /// When the dealer signed another one before.
    pub(super) fn record(
        &mut self,
        log: &SignedDealerLog<MinSig, Key>,
        rng: &mut StdRng,
    ) -> Result<Vec<Blamed>, CeremonyError> {
        let mark = mark(&log.encode());
        let Some((dealer, said)) = log.clone().check(&self.info) else {
            // Of nobody's hand: whoever sent it may have it from another.
            return Ok(Vec::new());
        };
        if let Some(known) = self.logs.get(&dealer) {
            if known.mark == mark {
                return Ok(Vec::new());
            }
            return Err(CeremonyError::TwoFaced {
                participant: key_bytes_of(&dealer),
            });
        }
        if !self.sides.deals(&dealer) {
            return Ok(Vec::new());
        }
        let mut blamed = Vec::new();
        let fault = self.fault(&dealer, &said, rng);
        let good = match fault {
            Some(kind) => {
                blamed.push((dealer.clone(), kind));
                None
            }
            None => {
                blamed.extend(shown(&dealer, &said));
                Some(said)
            }
        };
        let recorded = Recorded {
            mark,
            log: log.clone(),
            good,
        };
        self.logs.insert(dealer, recorded);
        Ok(blamed)
    }

    /// What is wrong with a dealer's log.
    fn fault(
        &self,
        dealer: &Key,
        said: &DealerLog<MinSig, Key>,
        rng: &mut StdRng,
    ) -> Option<FaultKind> {
        let mut logs = Logs::<_, _, N3f1>::new(self.info.clone());
        logs.record(dealer.clone(), said.clone());
        // Alone it may be too few; what is told is whether it is at fault.
        let observed = feldman_desmedt::observe(rng, logs, &Sequential);
        let Err(Failure::InsufficientLogs { faults, .. }) = observed else {
            return None;
        };
        if let Some(reason) = faults.get_value(dealer) {
            return Some(match reason {
                FaultReason::InvalidReveal => FaultKind::BadDealing,
                FaultReason::MismatchedReshareCommitment => FaultKind::OtherPart,
                FaultReason::InvalidAck
                | FaultReason::InvalidCommitmentDegree { .. }
                | FaultReason::MismatchedLogPlayers
                | FaultReason::ExcessiveReveals => FaultKind::BadLog,
            });
        }
        let is_refused = matches!(said.summary(), DealerLogSummary::TooManyReveals);
        is_refused.then_some(FaultKind::Refused)
    }

    /// What comes of the logs of all, once they are here.
    pub(super) fn result(&mut self, rng: &mut StdRng) -> Option<Result<Sum, CeremonyError>> {
        if self.is_summed || self.logs.len() < self.sides.dealers.len() {
            return None;
        }
        self.is_summed = true;
        let mut logs = Logs::<_, _, N3f1>::new(self.info.clone());
        for (dealer, recorded) in &self.logs {
            if let Some(good) = &recorded.good {
                logs.record(dealer.clone(), good.clone());
            }
        }
        let made = match self.player.take() {
            Some(player) => player
                .finalize::<N3f1>(rng, logs, &Sequential)
                .map(|(output, share)| (output, Some(share))),
            None => feldman_desmedt::observe(rng, logs, &Sequential)
                .map(|output| (output, None))
                .map_err(FinalizeError::Failure),
        };
        let (output, share) = match made {
            Ok(made) => made,
            Err(FinalizeError::Failure(_)) => {
                return Some(Err(CeremonyError::TooFewGood {
                    bad: self.logs.values().filter(|it| it.good.is_none()).count(),
                    bad_max: self.sides.bad_max(),
                }));
            }
            Err(FinalizeError::Error(_)) => return Some(Err(CeremonyError::Ours)),
        };
        if !output.revealed().is_empty() {
            let participants = output.revealed().iter().map(key_bytes_of).collect();
            return Some(Err(CeremonyError::Revealed { participants }));
        }
        Some(Ok((output, share)))
    }

    /// The logs that we have, as others are told.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let mark = |key: &Key| self.logs.get(key).map_or(NO_MARK, |it| it.mark);
        self.sides.participants.iter().map(mark).collect()
    }

    /// Takes signatures by their signers' places.
    pub(super) fn take_signatures(
        &mut self,
        digest: Id,
        signatures: &[(u32, ed25519::Signature)],
        is_signature: impl Fn(&Key, &Id, &ed25519::Signature) -> bool,
    ) {
        for (place, signature) in signatures {
            let signer = usize::try_from(*place).ok();
            let signer = signer.and_then(|place| self.sides.participants.get(place));
            let Some(signer) = signer.cloned() else {
                continue;
            };
            if !self.signatures.contains_key(&signer) && is_signature(&signer, &digest, signature) {
                self.signatures.insert(signer, (digest, signature.clone()));
            }
        }
    }

    /// What we have of signatures under what we signed that `has` tells missing.
    pub(super) fn signatures_for(&self, has: &[bool]) -> Option<Message> {
        let digest = self.signed?;
        let signatures: Vec<(u32, ed25519::Signature)> = (0..)
            .zip(self.sides.participants.iter().zip(has))
            .filter(|(_, (_, has))| !**has)
            .filter_map(|(place, (key, _))| {
                let (signed, signature) = self.signatures.get(key)?;
                (*signed == digest).then(|| (place, signature.clone()))
            })
            .collect();
        (!signatures.is_empty()).then_some(Message::Signed {
            attempt: self.id,
            digest,
            signatures,
        })
    }

    /// The signatures of all under what we signed, once they are here.
    pub(super) fn agreed(&self) -> Option<(Id, Vec<ed25519::Signature>)> {
        let digest = self.signed?;
        let signature = |key: &Key| {
            let (signed, signature) = self.signatures.get(key)?;
            (*signed == digest).then(|| signature.clone())
        };
        let all: Option<Vec<_>> = self.sides.participants.iter().map(signature).collect();
        Some((digest, all?))
    }
}

/// Whom a good log shows at odds with its dealer.
fn shown(dealer: &Key, said: &DealerLog<MinSig, Key>) -> Vec<Blamed> {
    let DealerLogSummary::Ok { reveals, .. } = said.summary() else {
        return Vec::new();
    };
    let revealed = reveals.iter().map(key_bytes_of);
    revealed
        .map(|to| (dealer.clone(), FaultKind::Shown { to }))
        .collect()
}

fn mark(log: &Bytes) -> Mark {
    let digest = Blake3::hash(&[log.as_ref()]);
    let mut mark = NO_MARK;
    for (to, from) in mark.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    mark
}
