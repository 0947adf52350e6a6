//! Ledgers that validators order, and how these change.

#![expect(clippy::missing_panics_doc, reason = "a failed test")]

use cairn_core::{Bounded, Digest, PublicKey};

use super::{World, account, genesis, key};
use crate::genesis::{Genesis, Parameters, Validators};
use crate::state::State;
use crate::term::{SIGNERS_MAX, TermSignature, term_digest};
use crate::tx::TxBody;

/// Parties as validators, with a key that is none.
pub fn validators(numbers: &[u8], key: u8) -> Validators {
    let identity = |number: &u8| account(*number).key();
    let mut identities: Vec<PublicKey> = numbers.iter().map(identity).collect();
    identities.sort_unstable();
    Validators {
        identities: Bounded::new(identities).expect("few validators"),
        key: Bounded::new(vec![key; 4]).expect("few bytes"),
    }
}

/// A genesis that endows the accounts 1 to 4, of a ledger that validators order.
pub fn genesis_with(parameters: Parameters, validators: Validators) -> Genesis {
    Genesis {
        validators: Some(validators),
        ..genesis(parameters)
    }
}

/// The signatures of parties under a change of this digest.
pub fn signatures(digest: Digest, numbers: &[u8]) -> Bounded<TermSignature, SIGNERS_MAX> {
    let sign = |number: &u8| TermSignature::sign(digest, &key(*number));
    let mut all: Vec<TermSignature> = numbers.iter().map(sign).collect();
    all.sort_unstable_by_key(|signature| signature.validator);
    Bounded::new(all).expect("few signatures")
}

/// The change to these validators as the next of a ledger, signed by parties.
pub fn change(state: &State, validators: &Validators, signers: &[u8]) -> TxBody {
    let number = state.term().map_or(0, |term| term.number);
    let next = number.checked_add(1).expect("few terms");
    let digest = term_digest(state.ledger_id(), next, validators);
    TxBody::ValidatorsChange {
        validators: validators.clone(),
        signatures: signatures(digest, signers),
    }
}

impl World {
    /// Before the first block of a ledger that validators order.
    pub fn with_validators(parameters: Parameters, validators: Validators) -> Self {
        let genesis = genesis_with(parameters, validators);
        Self {
            state: State::genesis(&genesis).expect("a genesis"),
            blocks: Vec::new(),
        }
    }
}
