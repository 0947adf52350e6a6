//! Validators sign together what the ledger is at each height: each tells the others its part, and
//! who has the parts of more than two thirds puts them together.
//!
//! A height whose parts get lost is not shown; the next one is, and while validators can reach each
//! other there is always a next one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Bounded, Height, LedgerId, Record, RecordKind};
use cairn_engine::{Committee, Engine, KeyPart, SignaturePart};
use cairn_ledger::{Attestation, Attested, LedgerKey};
use cairn_runtime::Runtime;
use tokio::sync::mpsc;

use crate::core::Core;

/// Most bytes of a part.
const PART_BYTES_MAX: usize = 64;
/// Heights above our own whose parts are kept: others may be ahead of us.
const AHEAD_MAX: u64 = 64;
/// Heights that wait to be signed here.
pub(super) const WAITING_MAX: usize = 64;

/// A validator's part of an attestation, as it is told to the others.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct AttestationPart {
    pub(super) attested: Attested,
    pub(super) part: Bounded<u8, PART_BYTES_MAX>,
}

impl Record for AttestationPart {
    const KIND: RecordKind = RecordKind::AttestationPart;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = Attested::BYTES_MAX + PART_BYTES_MAX + 16;

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
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().expect("no holder panics")
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
        (me, key_part): (&[u8; 32], &KeyPart),
        mut heights: mpsc::Receiver<Attested>,
    ) {
        while let Some(attested) = heights.recv().await {
            let Some(part) = key_part.sign(&self.namespace, &attested.message()) else {
                // The engine has checked that it is a part.
                return;
            };
            if let Ok(encoded) = Bounded::new(part.encode()) {
                let part = AttestationPart {
                    attested,
                    part: encoded,
                };
                // Without room the next height is told.
                engine.forward(part.encode());
            }
            self.take(core, *me, attested, part);
        }
    }

    /// Takes what another validator tells, however malformed.
    pub(super) fn receive<R: Runtime>(
        &self,
        core: &Core<R>,
        from: [u8; 32],
        told: AttestationPart,
    ) {
        let AttestationPart { attested, part } = told;
        let Some(part) = SignaturePart::decode(&part) else {
            return;
        };
        if self.committee.is_of(&part, &from) {
            self.take(core, from, attested, part);
        }
    }

    fn take<R: Runtime>(
        &self,
        core: &Core<R>,
        from: [u8; 32],
        attested: Attested,
        part: SignaturePart,
    ) {
        let (height, ours) = (attested.height, core.height().get());
        let shown = core.shown_height();
        let is_wanted = shown.is_none_or(|shown| shown < height)
            && height.get() <= ours.saturating_add(AHEAD_MAX);
        if !is_wanted {
            return;
        }
        {
            let mut parts = self.parts();
            parts
                .entry(height)
                .or_default()
                .insert(from, (attested, part));
            let needed = shown.map_or(Height::ZERO, |shown| shown);
            *parts = parts.split_off(&needed);
        }
        self.put_together(core, height);
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
            core.show(&attestation);
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
