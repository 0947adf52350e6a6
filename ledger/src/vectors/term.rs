//! The vectors of terms of validators.

use borsh::BorshSerialize;
use cairn_core::Height;
use data_encoding::HEXLOWER;

use super::{hex, response, signed};
use crate::effect::{BlockEffects, Effect};
use crate::genesis::Parameters;
use crate::port::LedgerError;
use crate::query::Question;
use crate::sample::shown::evidence;
use crate::sample::term::{change, genesis_with, signatures, validators};
use crate::sample::{OWNER, World, account, attest, ledger};
use crate::snapshot::SnapshotPart;
use crate::term::{BORDER_LAG, TermError, term_digest};
use crate::tx::TxBody;
use crate::tx_error::TxError;
use crate::wire::{Answer, LedgerRequest};

fn encoded<T: BorshSerialize>(value: &T) -> String {
    HEXLOWER.encode(&borsh::to_vec(value).expect("memory takes it"))
}

/// A ledger of four validators that three others follow, with a change that is named.
fn changing() -> World {
    let parameters = Parameters::default();
    let mut world = World::with_validators(parameters, validators(&[70, 71, 72, 73], 1));
    let next = validators(&[72, 73, 74], 2);
    world.accept(OWNER, change(&world.state, &next, &[71, 72, 73, 74]));
    world
}

fn refused() -> Answer {
    let unsigned = TermError::Unsigned {
        validator: account(74).key(),
    };
    Answer::Error(LedgerError::Refused(TxError::Validators(unsigned)))
}

pub(super) fn vectors() -> Vec<(String, String)> {
    let next = validators(&[72, 73, 74], 2);
    let digest = term_digest(ledger(), 1, &next);
    let asked = TxBody::ValidatorsChange {
        validators: next,
        signatures: signatures(digest, &[71, 72, 73, 74]),
    };
    let mut world = changing();
    let named = world.state.clone();
    for _ in 0..BORDER_LAG {
        world.pass();
    }
    let begun = &world.state;
    let effects = BlockEffects {
        height: begun.height(),
        time: begun.time(),
        effects: vec![
            Effect::TermNamed { number: 1 },
            Effect::TermBegan { number: 1 },
        ],
    };
    let ask = LedgerRequest::Ask {
        question: Question::Term,
        at_least: Height::new(3),
    };
    let piece = LedgerRequest::Snapshot {
        term: 1,
        offset: 1 << 20,
    };
    let shown = SnapshotPart::cut(attest(begun), b"a state in short", 9);
    let shown = Answer::Snapshot(Box::new(shown.expect("some bytes")));
    let genesis = genesis_with(Parameters::default(), validators(&[70, 71, 72, 73], 1));
    let none = Answer::Error(LedgerError::NoSnapshot { term: 1 });
    let all = [
        ("genesis with validators", hex(&genesis)),
        ("digest of a change of validators", digest.to_string()),
        ("tx validators change", hex(&signed(OWNER, asked))),
        ("state with a change named", hex(&named)),
        ("state with a term begun", hex(begun)),
        ("root of the state with a term", begun.root().to_string()),
        ("entry term", encoded(named.term().expect("a term"))),
        ("effects of a term", encoded(&effects)),
        ("evidence of a term", hex(&evidence(&named, Question::Term))),
        ("request term", hex(&ask)),
        ("request snapshot", hex(&piece)),
        ("response snapshot", response(shown)),
        ("response error no snapshot", response(none)),
        ("response error of a change", response(refused())),
    ];
    all.into_iter()
        .map(|(name, hex)| (name.to_owned(), hex))
        .collect()
}
