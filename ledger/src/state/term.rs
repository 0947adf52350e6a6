//! Terms of validators in the state: when a change is agreed to, where its border is, and when the next
//! term begins.

use cairn_core::{Height, PublicKey};

use super::State;
use super::audit::Unsound;
use crate::effect::Effect;
use crate::genesis::Validators;
use crate::term::{
    BORDER_LAG, NextTerm, PastTerm, Term, TermError, TermSignature, TermStart, term_digest,
};

impl State {
    /// The term that runs; `None` when a sequencer orders the ledger.
    #[must_use]
    pub const fn term(&self) -> Option<&Term> {
        self.term.as_ref()
    }

    /// Whether a change of validators waits for blocks to come.
    pub(super) fn has_border(&self) -> bool {
        self.border().is_some()
    }

    fn border(&self) -> Option<Height> {
        self.term()?.next.as_ref()?.border
    }

    /// Whether the validators change to these. What is cheap is looked at first.
    pub(super) fn check_validators(
        &self,
        validators: &Validators,
        signatures: &[TermSignature],
    ) -> Result<(), TermError> {
        let term = self.term().ok_or(TermError::NoValidators)?;
        let number = term.number.checked_add(1).ok_or(TermError::Last {
            number: term.number,
        })?;
        if term.next.is_some() {
            return Err(TermError::Pending { number });
        }
        if !validators.is_well_formed() {
            return Err(TermError::Validators);
        }
        if *validators == term.validators {
            return Err(TermError::Unchanged);
        }
        check_signers(&term.validators, validators, signatures)?;
        let digest = term_digest(self.id, number, validators);
        match signatures.iter().find(|signature| !signature.holds(digest)) {
            None => Ok(()),
            Some(signature) => Err(TermError::Signature {
                validator: signature.validator,
            }),
        }
    }

    /// Names the validators of the next term, and its border where no epoch does.
    pub(super) fn name_validators(&mut self, validators: &Validators, effects: &mut Vec<Effect>) {
        let border = (!self.has_epochs()).then(|| self.border_ahead());
        let Some(term) = &mut self.term else {
            return;
        };
        term.next = Some(NextTerm {
            validators: validators.clone(),
            border,
        });
        effects.push(Effect::TermNamed {
            number: term.number.saturating_add(1),
        });
    }

    /// An epoch begins with this block: a change that has no border yet gets one.
    pub(super) fn name_border(&mut self) {
        let border = self.border_ahead();
        let next = self.term.as_mut().and_then(|term| term.next.as_mut());
        if let Some(next) = next {
            next.border = next.border.or(Some(border));
        }
    }

    fn border_ahead(&self) -> Height {
        Height::new(self.height.get().saturating_add(BORDER_LAG))
    }

    /// Behind the block at the border, the next term begins. The last thing that a block does.
    pub(super) fn pass_border(&mut self, effects: &mut Vec<Effect>) {
        if self.border() != Some(self.height) {
            return;
        }
        let base = TermStart {
            height: self.height,
            view: self.view,
            time: self.time,
            tip: self.tip,
        };
        if let Some(term) = &mut self.term
            && let Some(next) = term.next.take()
        {
            term.number = term.number.saturating_add(1);
            let validators = std::mem::replace(&mut term.validators, next.validators);
            let base = std::mem::replace(&mut term.base, base);
            term.before = Some(PastTerm { validators, base });
            effects.push(Effect::TermBegan {
                number: term.number,
            });
        }
    }

    /// The term's part of [`Self::audit`].
    pub(super) fn audit_term(&self) -> Result<(), Unsound> {
        let is_sound = |term: &Term| {
            let next = term.next.as_ref();
            term.validators.is_well_formed()
                && self.is_base_sound(term)
                && next.is_none_or(|next| self.is_next_sound(term, next))
        };
        if self.term().is_none_or(is_sound) {
            Ok(())
        } else {
            Err(Unsound::Term)
        }
    }

    fn is_base_sound(&self, term: &Term) -> bool {
        let base = &term.base;
        let Some(before) = &term.before else {
            let is_first = *base == TermStart::first(self.began, self.id.digest());
            return term.number == 0 && is_first;
        };
        let is_before_sound = term.number > 0
            && before.validators.is_well_formed()
            && before.base.height < base.height
            && before.base.view < base.view
            && before.base.time <= base.time;
        if !is_before_sound {
            return false;
        }
        // Every term before took so many blocks.
        let least = u64::from(term.number).saturating_mul(BORDER_LAG);
        base.height.get() >= least
            && base.height <= self.height
            && base.view <= self.view
            && base.time <= self.time
            && base.time >= self.began
    }

    fn is_next_sound(&self, term: &Term, next: &NextTerm) -> bool {
        // No block of the term can name one that is nearer.
        let least = term.base.height.get().saturating_add(BORDER_LAG);
        let is_border_sound = match next.border {
            Some(border) => {
                border > self.height && border <= self.border_ahead() && border.get() > least
            }
            None => self.has_epochs(),
        };
        next.validators.is_well_formed() && next.validators != term.validators && is_border_sound
    }
}

/// Whether those signed a change who must, and nobody else; not whether they did with their own keys.
fn check_signers(
    now: &Validators,
    next: &Validators,
    signatures: &[TermSignature],
) -> Result<(), TermError> {
    let signers: Vec<PublicKey> = signatures.iter().map(|by| by.validator).collect();
    if !signers.is_sorted_by(|a, b| a < b) {
        return Err(TermError::Order);
    }
    let is_stranger = |signer: &&PublicKey| !now.contains(signer) && !next.contains(signer);
    if let Some(validator) = signers.iter().find(is_stranger) {
        return Err(TermError::Stranger {
            validator: *validator,
        });
    }
    let expected = now.quorum();
    let found = signers.iter().filter(|signer| now.contains(signer)).count();
    if found < expected {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        return Err(TermError::Quorum {
            expected: count(expected),
            found: count(found),
        });
    }
    let is_missing = |validator: &&PublicKey| signers.binary_search(validator).is_err();
    match next.identities.iter().find(is_missing) {
        None => Ok(()),
        Some(validator) => Err(TermError::Unsigned {
            validator: *validator,
        }),
    }
}
