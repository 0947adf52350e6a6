//! Validators sign together what the ledger is at each height: each tells the others its part, and
//! who has the parts of more than two thirds puts them together.
//!
//! A height whose parts get lost is not shown; the next one is, and while validators can reach each
//! other there is always a next one. Whose parts come late, because it was away, is told the newest
//! that is signed: it shows that height as soon as it has got there, and signs none below it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, Height, LedgerId, Record, RecordKind};
use cairn_engine::{Committee, Engine, KeyPart, SignaturePart};
use cairn_ledger::{Attestation, Attested, LedgerKey};
use cairn_runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use crate::core::Core;

/// Most bytes of a part.
const PART_BYTES_MAX: usize = 64;
/// Heights above and below our own whose parts are kept: others may be ahead of us, or their parts
/// late.
const WINDOW: u64 = 64;
/// Heights that wait to be signed here.
pub(super) const WAITING_MAX: usize = 64;
/// A part of the newest height that is shown is late after this time: who sent it was away.
const LATE: Duration = Duration::from_millis(300);
/// After so long without another height our part of one that is not shown is told again.
const AGAIN: Duration = Duration::from_secs(1);
/// Least time between two times that the newest is told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);

/// What a validator tells the others of attestations.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum AttestationNews {
    /// Its part of one.
    Part {
        /// What it has signed.
        attested: Attested,
        /// The signature's part.
        part: Bounded<u8, PART_BYTES_MAX>,
    },
    /// The newest that all signed together, for those who were away.
    Newest(Attestation),
}

impl Record for AttestationNews {
    const KIND: RecordKind = RecordKind::AttestationNews;
    const VERSION: u8 = 2;
    const BYTES_MAX: usize = 2 * Attested::BYTES_MAX + PART_BYTES_MAX + 32;

    fn is_well_formed(&self) -> bool {
        true
    }
}

/// The parts of heights that are not shown yet.
#[derive(Debug)]
pub(super) struct Attesting {
    committee: Committee,
    key: LedgerKey,
    namespace: Vec<u8>,
    parts: Mutex<Parts>,
    /// The newest that others have shown, where we are not yet.
    ahead: Mutex<Option<Attestation>>,
    shown: Mutex<LastShown>,
    /// Wakes who tells the others the newest.
    tell: Notify,
}

/// When the newest was shown and told here, by the monotonic clock.
#[derive(Debug, Default)]
struct LastShown {
    at: Duration,
    told_at: Option<Duration>,
}

/// Of which height a part is that comes when its height is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartAge {
    /// Of the newest that is shown.
    Newest,
    /// Of one before it.
    Older,
}

/// The heights whose parts are kept: not shown yet, and near our own.
fn wanted(ours: Height, shown: Option<Height>) -> RangeInclusive<Height> {
    let unshown = shown.map_or(0, |shown| shown.get().saturating_add(1));
    let first = unshown.max(ours.get().saturating_sub(WINDOW));
    Height::new(first)..=Height::new(ours.get().saturating_add(WINDOW))
}

/// By height and validator: no more than one of each, so that nobody takes another's room.
type Parts = BTreeMap<Height, BTreeMap<[u8; 32], (Attested, SignaturePart)>>;

impl Attesting {
    /// Of the validators of a ledger, whose key together is `key`.
    pub(super) fn new(committee: Committee, key: LedgerKey, ledger: LedgerId) -> Self {
        Self {
            committee,
            key,
            namespace: Attested::namespace(ledger),
            parts: Mutex::default(),
            ahead: Mutex::default(),
            shown: Mutex::default(),
            tell: Notify::new(),
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().expect("no holder panics")
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Attestation>> {
        self.ahead.lock().expect("no holder panics")
    }

    /// Signs each height as it comes and tells the others, until no more can come.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses the height that it is at.
    pub(super) async fn run<R: Runtime>(
        &self,
        core: &Core<R>,
        engine: &Engine,
        signer: (&[u8; 32], &KeyPart),
        mut heights: mpsc::Receiver<Attested>,
    ) {
        // Our newest part, with its height.
        let mut last: Option<(Height, Vec<u8>)> = None;
        loop {
            tokio::select! {
                attested = heights.recv() => {
                    let Some(attested) = attested else {
                        return;
                    };
                    if let Some(part) = self.sign(core, signer, attested) {
                        // Without room it is told again.
                        engine.forward(part.clone());
                        last = Some((attested.height, part));
                    }
                }
                () = self.tell.notified() => {
                    if let Some((attestation, _)) = core.newest() {
                        // Whom it does not reach sends another part, which is late again.
                        engine.forward(AttestationNews::Newest(attestation).encode());
                    }
                }
                () = core.runtime.sleep(AGAIN) => {
                    // Nobody may have been there when it was told.
                    let unshown = last.as_ref().filter(|(height, _)| core.shown_height() < Some(*height));
                    if let Some((_, part)) = unshown {
                        engine.forward(part.clone());
                    }
                }
            }
        }
    }

    /// Our part of what is to be attested, for the others; `None` of what is signed already.
    fn sign<R: Runtime>(
        &self,
        core: &Core<R>,
        (me, key_part): (&[u8; 32], &KeyPart),
        attested: Attested,
    ) -> Option<Vec<u8>> {
        if self.catch_up(core, attested.height) {
            return None;
        }
        // The engine has checked that it is a part.
        let part = key_part.sign(&self.namespace, &attested.message())?;
        let encoded = Bounded::new(part.encode()).ok()?;
        let news = AttestationNews::Part {
            attested,
            part: encoded,
        };
        self.take(core, *me, attested, part);
        Some(news.encode())
    }

    /// Shows what others have shown before when we have got there: whether a height is signed
    /// already.
    fn catch_up<R: Runtime>(&self, core: &Core<R>, height: Height) -> bool {
        let ahead = self.ahead().clone();
        let Some(ahead) = ahead else {
            return false;
        };
        let signed = ahead.unverified().height;
        if signed <= core.height() {
            self.show(core, &ahead);
            let mut ahead = self.ahead();
            if ahead
                .as_ref()
                .is_some_and(|it| it.unverified().height <= signed)
            {
                *ahead = None;
            }
        }
        height <= signed
    }

    fn show<R: Runtime>(&self, core: &Core<R>, attestation: &Attestation) {
        core.show(attestation);
        self.last_shown().at = core.runtime.monotonic();
    }

    fn last_shown(&self) -> MutexGuard<'_, LastShown> {
        self.shown.lock().expect("no holder panics")
    }

    /// Takes what another validator tells, however malformed.
    pub(super) fn receive<R: Runtime>(
        &self,
        core: &Core<R>,
        from: [u8; 32],
        told: AttestationNews,
    ) {
        match told {
            AttestationNews::Part { attested, part } => {
                let part = SignaturePart::decode(&part);
                let Some(part) = part.filter(|part| self.committee.is_of(part, &from)) else {
                    return;
                };
                let now = core.runtime.monotonic();
                match core.shown_height().map(|shown| shown.cmp(&attested.height)) {
                    Some(Ordering::Greater) => self.tell_late(now, PartAge::Older),
                    Some(Ordering::Equal) => self.tell_late(now, PartAge::Newest),
                    Some(Ordering::Less) | None => self.take(core, from, attested, part),
                }
            }
            AttestationNews::Newest(attestation) => self.take_newest(core, &attestation),
        }
    }

    fn take_newest<R: Runtime>(&self, core: &Core<R>, newest: &Attestation) {
        let height = newest.unverified().height;
        let known = self.ahead().as_ref().map(|it| it.unverified().height);
        let is_new = core.shown_height().max(known).is_none_or(|it| it < height);
        if !is_new || newest.verify(core.ledger, &self.key).is_none() {
            return;
        }
        {
            let mut ahead = self.ahead();
            if ahead
                .as_ref()
                .is_none_or(|it| it.unverified().height < height)
            {
                *ahead = Some(newest.clone());
            }
        }
        self.catch_up(core, height);
    }

    fn take<R: Runtime>(
        &self,
        core: &Core<R>,
        from: [u8; 32],
        attested: Attested,
        part: SignaturePart,
    ) {
        let height = attested.height;
        {
            let wanted = wanted(core.height(), core.shown_height());
            if !wanted.contains(&height) {
                return;
            }
            let mut parts = self.parts();
            let of_height = parts.entry(height).or_default();
            of_height.insert(from, (attested, part));
            *parts = parts.split_off(wanted.start());
        }
        self.put_together(core, height);
    }

    /// Has the newest told, if whoever sent a part of a height that is shown can't have it.
    fn tell_late(&self, now: Duration, age: PartAge) {
        let mut shown = self.last_shown();
        let is_late = age == PartAge::Older || now.saturating_sub(shown.at) >= LATE;
        let told_at = shown.told_at;
        let is_due = told_at.is_none_or(|told_at| now.saturating_sub(told_at) >= TELL_INTERVAL);
        if is_late && is_due {
            shown.told_at = Some(now);
            self.tell.notify_one();
        }
    }

    /// Shows a height when enough have signed what it is by our own reckoning.
    fn put_together<R: Runtime>(&self, core: &Core<R>, height: Height) {
        let Some(attested) = core.waiting_at(height) else {
            return;
        };
        let agreeing = self.agreeing(&attested);
        if agreeing.len() < self.committee.quorum() {
            return;
        }
        if let Some(attestation) = self.signed(attested, agreeing) {
            self.show(core, &attestation);
            self.parts().remove(&height);
        }
    }

    fn agreeing(&self, attested: &Attested) -> Vec<([u8; 32], SignaturePart)> {
        let parts = self.parts();
        let of_height = parts.get(&attested.height).into_iter().flatten();
        let agreeing = of_height.filter(|(_, (signed, _))| signed == attested);
        agreeing
            .map(|(from, (_, part))| (*from, part.clone()))
            .collect()
    }

    /// The signature of all together. When it does not hold, the parts that do not are thrown away.
    fn signed(
        &self,
        attested: Attested,
        parts: Vec<([u8; 32], SignaturePart)>,
    ) -> Option<Attestation> {
        let put_together = |parts: &[SignaturePart]| {
            let signature = self.committee.put_together(parts)?;
            let attestation = Attestation::Validators(attested, signature);
            let holds = attestation.verify(attested.ledger, &self.key).is_some();
            holds.then_some(attestation)
        };
        let all: Vec<SignaturePart> = parts.iter().map(|(_, part)| part.clone()).collect();
        if let Some(attestation) = put_together(&all) {
            return Some(attestation);
        }
        let message = attested.message();
        let (right, wrong): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .partition(|(_, part)| self.committee.is_part(part, &self.namespace, &message));
        for (from, _) in &wrong {
            let from = data_encoding::HEXLOWER.encode(from);
            tracing::warn!(%from, height = %attested.height, "a validator's part of an attestation is wrong");
        }
        {
            let mut parts = self.parts();
            if let Some(of_height) = parts.get_mut(&attested.height) {
                of_height.retain(|from, _| wrong.iter().all(|(other, _)| other != from));
            }
        }
        let right: Vec<SignaturePart> = right.into_iter().map(|(_, part)| part).collect();
        (right.len() >= self.committee.quorum())
            .then(|| put_together(&right))
            .flatten()
    }
}

#[cfg(test)]
mod tests;
