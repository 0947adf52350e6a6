//! The ceremony by which validators make their key together, so that nobody ever has the whole.
//!
//! Every participant deals a key of its own to all (joint Feldman); the validators' key is the sum
//! of the dealings. Each participant goes through the same steps, and all must come to the end of
//! each:
//!
//! ```text
//! here      all have said that they have the same draft, and named their process by a nonce
//! dealt     each has dealt to each, or shown before all what it dealt to those who don't say so
//! made      all dealers' logs are here: from the same logs, all make the same key
//! agreed    all have signed the digest of the same genesis, each with its part on its disk
//! ```
//!
//! The same steps deal a key anew, when other validators are to hold it: then those who hold it deal
//! their parts of it, to those who hold it next, and the key stays the same (`sides`). What all sign
//! is who they are.
//!
//! Guarantees: what is agreed has the signature of every participant, and whoever signed has its
//! part, unless it has signed anew since. In one draft, no two that neither cheat nor lose their
//! disks agree on different geneses: each takes only what it signed last, and signs nothing after
//! that. One that cheats can hold its signature back while all begin anew, and so come to have all
//! signatures under two geneses; of these the others still take at most one. Another draft of the
//! same participants has a genesis of its own. A third of the dealers or fewer that cheat are named
//! and left out of the sum; the rest of them are enough for a key that no third knows. A key of
//! which a part was shown to others is not agreed on. A participant that starts anew makes all begin
//! anew; one that missed the end hears of it from any that did not, and one that lost its part is
//! told so.
//!
//! This module is the pure part, bytes in and bytes out; `real` has the sockets and the clock. It
//! assumes that the bytes come from whom they are said to and that nobody else reads them. One
//! participant can keep the others from agreeing, and is then named, alone or with the one that it
//! is at odds with; it can't make them agree on different things, nor end the ceremony before its
//! time by what others signed of another draft.

mod attempt;
mod message;
mod outcome;
#[cfg(not(test))]
mod real;
mod sides;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{Blake3, Hasher as _, Signer as _, ed25519};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use self::attempt::Attempt;
use self::message::{Id, Message, NO_MARK, State};
use self::outcome::is_signature;
pub use self::outcome::{
    AGREED, Agreement, CeremonyError, Draft, DraftError, FaultKind, Lack, Made, Previous, is_agreed,
};
#[cfg(not(test))]
pub use self::real::{CeremonyConfig, Held, Keeper, hold};
use self::sides::Sides;
use crate::committee::{self, KeyPart};

type Key = ed25519::PublicKey;

/// How long a dealer waits for all to say that they have its dealing.
pub(crate) const DEALING_LIMIT: Duration = Duration::from_secs(20);
/// How long one that has finished stays for those who have not.
const FAREWELL_LIMIT: Duration = Duration::from_secs(20);
/// How long it stays when all have: they may not have heard of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most attempts: each follows from a process that started anew.
const ATTEMPTS_MAX: usize = 64;
/// Most logs of others that are sent at a time to one who lacks them.
const LOGS_AT_ONCE: usize = 4;
/// Most faults that are remembered of one ceremony.
const FAULTS_MAX: usize = 256;

/// A message and whom it is for.
pub(crate) struct Sending {
    pub(crate) to: Audience,
    pub(crate) bytes: Bytes,
}

/// Whom a message is for.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    All,
    One(Key),
}

/// One participant's part.
pub(crate) struct Ceremony {
    signer: ed25519::PrivateKey,
    me: Key,
    draft: Id,
    sides: Sides,
    count: NonZeroU32,
    nonce: Id,
    rng: StdRng,
    /// When it gives up.
    limit: Duration,
    /// How the others stand, as they said last.
    peers: BTreeMap<Key, State>,
    /// What others say that all agreed on before, when we have no part of it: the last of each. It
    /// may be of another draft.
    gone: BTreeMap<Key, Id>,
    /// How often each of the others came or began anew.
    starts: BTreeMap<Key, u32>,
    attempt: Option<Attempt>,
    /// The names of all attempts.
    attempts: BTreeSet<Id>,
    made: Option<Made>,
    /// What our part on the disk is of.
    kept: Option<Id>,
    agreement: Option<Agreement>,
    /// When that was known.
    agreed: Duration,
    /// How long it stays after that for those who have not finished.
    farewell_limit: Duration,
    faults: BTreeSet<(Key, FaultKind)>,
    outbox: Vec<Sending>,
}

impl fmt::Debug for Ceremony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ceremony")
            .field("me", &self.me)
            .field("attempts", &self.attempts.len())
            .field("agreement", &self.agreement)
            .finish_non_exhaustive()
    }
}

impl Ceremony {
    /// A participant that begins, with fresh and secret entropy; `limit` is when it gives up.
    pub(crate) fn new(
        draft: &Draft,
        secret: &[u8; 32],
        entropy: [u8; 32],
        limit: Duration,
    ) -> Result<Self, CeremonyError> {
        let sides = Sides::of(draft)?;
        let signer = committee::signer(secret).ok_or(CeremonyError::Identity)?;
        let me = signer.public_key();
        if sides.participants.position(&me).is_none() {
            return Err(CeremonyError::Identity);
        }
        let count = u32::try_from(sides.participants.len()).ok();
        let mut rng = StdRng::from_seed(entropy);
        let mut nonce = Id::default();
        rng.fill_bytes(&mut nonce);
        Ok(Self {
            signer,
            draft: draft.digest,
            count: count.and_then(NonZeroU32::new).ok_or(CeremonyError::Ours)?,
            sides,
            nonce,
            rng,
            limit,
            peers: BTreeMap::new(),
            gone: BTreeMap::new(),
            starts: BTreeMap::new(),
            me,
            attempt: None,
            attempts: BTreeSet::new(),
            made: None,
            kept: None,
            agreement: None,
            agreed: Duration::ZERO,
            farewell_limit: FAREWELL_LIMIT,
            faults: BTreeSet::new(),
            outbox: Vec::new(),
        })
    }

    /// With our part of the key that is dealt anew, which every dealer needs and nobody else.
    ///
    /// # Errors
    ///
    /// [`CeremonyError::Part`] when we deal and it is not ours.
    pub(crate) fn holding(mut self, part: Option<&KeyPart>) -> Result<Self, CeremonyError> {
        self.sides.hold(&self.draft, &self.me, part)?;
        Ok(self)
    }

    /// With the part of an earlier process on the disk, of a genesis of this digest.
    pub(crate) fn keeping(mut self, kept: Option<Id>) -> Self {
        self.kept = kept;
        self
    }

    /// With what was agreed on before: it is here for the others, as long as it may.
    pub(crate) fn after(mut self, agreement: Agreement) -> Self {
        self.agreement = Some(agreement);
        self.farewell_limit = self.limit;
        self
    }

    /// Messages to be sent.
    pub(crate) fn outbox(&mut self) -> Vec<Sending> {
        std::mem::take(&mut self.outbox)
    }

    /// What was made, once: to be kept and then signed with [`Self::sign`].
    pub(crate) const fn made(&mut self) -> Option<Made> {
        self.made.take()
    }

    /// What all have agreed on.
    pub(crate) const fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_ref()
    }

    /// Who did what, as far as it is known here.
    pub(crate) fn faults(&self) -> Vec<([u8; 32], FaultKind)> {
        let faults = self.faults.iter();
        faults
            .map(|(key, kind)| (key_bytes_of(key), *kind))
            .collect()
    }

    /// Whether there is nothing left to do, not even for others.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        if self.agreement.is_none() {
            return false;
        }
        let passed = now.saturating_sub(self.agreed);
        let all_done = self.others().all(|key| {
            let state = self.peers.get(key);
            state.is_some_and(|state| state.is_done && state.draft == self.draft)
        });
        now >= self.limit || passed >= self.farewell_limit || (all_done && passed >= FAREWELL)
    }

    fn others(&self) -> impl Iterator<Item = &Key> {
        self.sides
            .participants
            .iter()
            .filter(|key| **key != self.me)
    }

    /// Does what is due, and tells the others how it stands.
    ///
    /// # Errors
    ///
    /// When there can be no agreement any more.
    pub(crate) fn tick(&mut self, now: Duration) -> Result<(), CeremonyError> {
        self.advance(now)?;
        if self.agreement.is_none() {
            self.check_hope(now)?;
        }
        self.tell();
        Ok(())
    }

    /// Takes a message of a participant, however malformed.
    ///
    /// # Errors
    ///
    /// When there can be no agreement any more.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        from: &Key,
        bytes: Bytes,
    ) -> Result<(), CeremonyError> {
        if *from == self.me || self.sides.participants.position(from).is_none() {
            return Ok(());
        }
        let Ok(message) = Message::decode(bytes, self.count) else {
            self.blame(from.clone(), FaultKind::Malformed);
            return Ok(());
        };
        match message {
            Message::State(state) => self.take_state(from, state),
            Message::Agreed { digest, signatures } => {
                self.take_agreement(now, from, digest, &signatures);
            }
            Message::Dealing {
                attempt,
                public,
                private,
            } => {
                if let Some(ours) = self.current(attempt) {
                    match ours.take(from, public, private) {
                        Ok(Some(receipt)) => {
                            self.send(from, &Message::Taken { attempt, receipt });
                        }
                        Ok(None) => {}
                        Err(kind) => self.blame(from.clone(), kind),
                    }
                }
            }
            Message::Taken { attempt, receipt } => {
                if let Some(ours) = self.current(attempt) {
                    // One that does not fit is as good as none.
                    ours.taken_by(from, receipt);
                }
            }
            Message::Log { attempt, log } => {
                if let Some(ours) = self.attempt.as_mut().filter(|it| it.id == attempt) {
                    let blamed = ours.record(&log, &mut self.rng)?;
                    for (key, kind) in blamed {
                        self.blame(key, kind);
                    }
                }
            }
            Message::Signed {
                attempt,
                digest,
                signatures,
            } => {
                if let Some(ours) = self.current(attempt) {
                    ours.take_signatures(digest, &signatures, is_signature);
                }
            }
        }
        self.advance(now)
    }

    /// Signs what was made, which is durable here now.
    pub(crate) fn sign(&mut self, now: Duration, digest: Id) -> Result<(), CeremonyError> {
        self.kept = Some(digest);
        if let Some(attempt) = &mut self.attempt {
            let signature = self.signer.sign(AGREED, &digest);
            attempt.signed = Some(digest);
            attempt
                .signatures
                .insert(self.me.clone(), (digest, signature));
            let nobody = vec![false; self.sides.participants.len()];
            if let Some(message) = attempt.signatures_for(&nobody) {
                self.send_all(&message);
            }
        }
        self.advance(now)
    }

    fn current(&mut self, attempt: Id) -> Option<&mut Attempt> {
        self.attempt.as_mut().filter(|it| it.id == attempt)
    }

    fn blame(&mut self, key: Key, kind: FaultKind) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.insert((key, kind));
        }
    }

    fn send(&mut self, to: &Key, message: &Message) {
        self.outbox.push(Sending {
            to: Audience::One(to.clone()),
            bytes: message.bytes(),
        });
    }

    fn send_all(&mut self, message: &Message) {
        self.outbox.push(Sending {
            to: Audience::All,
            bytes: message.bytes(),
        });
    }

    /// Tells the others how we stand.
    fn tell(&mut self) {
        let state = self.state();
        self.send_all(&Message::State(state));
    }

    fn state(&self) -> State {
        let attempt = self.attempt.as_ref();
        let nothing = || vec![NO_MARK; self.sides.participants.len()];
        let has = |key: &Key| attempt.is_some_and(|attempt| attempt.signatures.contains_key(key));
        State {
            draft: self.draft,
            nonce: self.nonce,
            heard: self.heard(),
            attempt: attempt.map(|attempt| attempt.id),
            logs: attempt.map_or_else(nothing, Attempt::marks),
            signatures: self.sides.participants.iter().map(has).collect(),
            is_done: self.agreement.is_some(),
        }
    }

    /// Takes how another stands and sends it what it lacks.
    fn take_state(&mut self, from: &Key, state: State) {
        let known = self.peers.get(from).map(|state| state.nonce);
        if known != Some(state.nonce) {
            let starts = self.starts.entry(from.clone()).or_default();
            *starts = starts.saturating_add(1);
            // What its last process said may hold no more.
            self.gone.remove(from);
        }
        // To one of another draft it would mean nothing.
        let is_for_it = state.draft == self.draft && !state.is_done;
        if let Some(agreement) = self.agreement.as_ref().filter(|_| is_for_it) {
            let signature =
                |bytes: &[u8; 64]| ed25519::Signature::decode(Copying(bytes.as_slice())).ok();
            let signatures = agreement.signatures.iter().filter_map(signature);
            let message = Message::Agreed {
                digest: agreement.digest,
                signatures: signatures.collect(),
            };
            self.send(from, &message);
        }
        let attempt = self.attempt.as_ref();
        let shared = attempt.filter(|attempt| state.attempt == Some(attempt.id));
        if let Some(attempt) = shared {
            let mut messages: Vec<Message> = attempt.dealing_for(from).into_iter().collect();
            let lacking = self
                .sides
                .participants
                .iter()
                .zip(&state.logs)
                .filter_map(|(key, mark)| {
                    let ours = attempt.logs.get(key)?;
                    (ours.mark != *mark).then_some(ours)
                })
                .take(LOGS_AT_ONCE);
            messages.extend(lacking.map(|ours| Message::Log {
                attempt: attempt.id,
                log: Box::new(ours.log.clone()),
            }));
            messages.extend(attempt.signatures_for(&state.signatures));
            for message in &messages {
                self.send(from, message);
            }
        }
        self.peers.insert(from.clone(), state);
    }

    /// Takes the word of all that they have agreed, from one that may have it of another draft:
    /// when it is not on what we signed last, it ends nothing here.
    fn take_agreement(
        &mut self,
        now: Duration,
        from: &Key,
        digest: Id,
        signatures: &[ed25519::Signature],
    ) {
        if self.agreement.is_some() || self.gone.get(from) == Some(&digest) {
            return;
        }
        let signed = self.sides.participants.iter().zip(signatures);
        let holds = signatures.len() == self.sides.participants.len()
            && signed
                .into_iter()
                .all(|(key, signature)| is_signature(key, &digest, signature));
        if !holds {
            return;
        }
        if self.kept == Some(digest) {
            self.agree(now, digest, signatures);
        } else {
            self.gone.insert(from.clone(), digest);
        }
    }

    fn agree(&mut self, now: Duration, digest: Id, signatures: &[ed25519::Signature]) {
        let bytes = |signature: &ed25519::Signature| {
            let mut bytes = [0; 64];
            for (to, from) in bytes.iter_mut().zip(signature.as_ref()) {
                *to = *from;
            }
            bytes
        };
        self.agreement = Some(Agreement {
            digest,
            signatures: signatures.iter().map(bytes).collect(),
        });
        self.agreed = now;
        self.attempt = None;
        self.made = None;
        self.tell();
    }

    /// Goes as far as what is known here lets it.
    fn advance(&mut self, now: Duration) -> Result<(), CeremonyError> {
        if self.agreement.is_some() {
            return Ok(());
        }
        self.join()?;
        let all_joined = self.attempt.as_ref().is_some_and(|attempt| {
            let joined = |key: &Key| self.peers.get(key).and_then(|state| state.attempt);
            self.others().all(|key| joined(key) == Some(attempt.id))
        });
        let mut messages = Vec::new();
        let others: Vec<Key> = self.others().cloned().collect();
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        if all_joined && attempt.begun.is_none() {
            attempt.begun = Some(now);
            let dealing = |key: Key| Some((Audience::One(key.clone()), attempt.dealing_for(&key)?));
            messages.extend(others.into_iter().filter_map(dealing));
        }
        if attempt.close(now, &mut self.rng)
            && let Some(ours) = attempt.logs.get(&self.me)
        {
            let log = Message::Log {
                attempt: attempt.id,
                log: Box::new(ours.log.clone()),
            };
            messages.push((Audience::All, log));
        }
        let result = attempt.result(&mut self.rng).transpose()?;
        let agreed = attempt.agreed();
        for (to, message) in messages {
            let bytes = message.bytes();
            self.outbox.push(Sending { to, bytes });
        }
        if let Some(sum) = result {
            self.made = Some(self.sides.made(&self.draft, &self.me, &sum)?);
        }
        if let Some((digest, signatures)) = agreed {
            self.agree(now, digest, &signatures);
        }
        Ok(())
    }

    /// Joins the attempt of all that are here: another one as soon as one of them began anew.
    fn join(&mut self) -> Result<(), CeremonyError> {
        let Some(mut id) = self.name() else {
            return Ok(());
        };
        if self
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.id == id)
        {
            return Ok(());
        }
        if self.attempts.contains(&id) {
            // One that takes an old nonce again must not have us deal twice under one name.
            self.rng.fill_bytes(&mut self.nonce);
            id = self.name().unwrap_or(id);
        }
        self.attempts.insert(id);
        if self.attempts.len() > ATTEMPTS_MAX {
            let restless = self.starts.iter().max_by_key(|(_, starts)| **starts);
            let (participant, _) = restless.ok_or(CeremonyError::Ours)?;
            return Err(CeremonyError::Restless {
                participant: key_bytes_of(participant),
            });
        }
        self.made = None;
        self.attempt = Some(Attempt::new(
            id,
            self.signer.clone(),
            self.sides.clone(),
            &mut self.rng,
        )?);
        self.tell();
        Ok(())
    }

    /// The name of the attempt of all; `None` while one of them is not here.
    fn name(&self) -> Option<Id> {
        let nonces: Option<Vec<Id>> = self.heard().into_iter().collect();
        let names = [vec![self.draft], nonces?].concat();
        let names: Vec<&[u8]> = names.iter().map(<[u8; 32]>::as_slice).collect();
        Some(id_of(&names))
    }

    /// The nonces of all, as they said them last.
    fn heard(&self) -> Vec<Option<Id>> {
        let participants = self.sides.participants.iter();
        participants.map(|key| self.nonce_of(key)).collect()
    }

    /// The nonce of one, as it said it last; `None` when it is not here or has another draft.
    fn nonce_of(&self, key: &Key) -> Option<Id> {
        if *key == self.me {
            return Some(self.nonce);
        }
        let state = self.peers.get(key)?;
        (state.draft == self.draft).then_some(state.nonce)
    }
}

fn id_of(names: &[&[u8]]) -> Id {
    let mut id = Id::default();
    let digest = Blake3::hash(names);
    for (to, from) in id.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    id
}

fn key_bytes_of(key: &Key) -> [u8; 32] {
    committee::key_bytes(key).unwrap_or_default()
}
