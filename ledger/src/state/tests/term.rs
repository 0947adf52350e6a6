//! Terms of validators: what a change needs, where its border is, and what begins there.

use std::collections::BTreeSet;

use cairn_core::{Amount, Bounded, Digest, Height, LedgerId, Record, Signed, UnixMillis};

use crate::effect::Effect;
use crate::genesis::{Parameters, VALIDATORS_KEY_BYTES_MAX, VALIDATORS_MAX, Validators};
use crate::query::{Question, Seen};
use crate::sample::shown::assert_shows;
use crate::sample::term::{change, genesis_with, signatures, validators};
use crate::sample::{OWNER, World, account, key};
use crate::state::{State, Unsound};
use crate::term::{
    BORDER_LAG, NextTerm, PastTerm, SIGNERS_MAX, Term, TermError, TermSignature, TermStart,
    term_digest,
};
use crate::tx::{Tx, TxBody};
use crate::tx_error::TxError;

/// Who orders the ledger first: three of them agree for all.
const FIRST: [u8; 4] = [70, 71, 72, 73];
/// Who comes after.
const SECOND: [u8; 3] = [72, 73, 74];
/// Enough of the first, and all of the second.
const SIGNERS: [u8; 4] = [71, 72, 73, 74];

fn world(epoch_millis: u64) -> World {
    let parameters = Parameters {
        epoch_millis,
        ..Parameters::default()
    };
    World::with_validators(parameters, validators(&FIRST, 1))
}

fn second() -> Validators {
    validators(&SECOND, 2)
}

fn term(world: &World) -> &Term {
    world.state.term().expect("validators order it")
}

fn height(world: &World) -> u64 {
    world.state.height().get()
}

fn border(world: &World) -> Option<u64> {
    let next = term(world).next.as_ref().expect("a change");
    next.border.map(Height::get)
}

/// Whether a block at the time of the last is worth making.
fn wants_block(world: &World) -> bool {
    world.state.wants_block(world.state.time())
}

/// A change that is named, on a ledger without epochs.
fn changing() -> World {
    let mut world = world(0);
    world.accept(OWNER, change(&world.state, &second(), &SIGNERS));
    world
}

/// Blocks of nothing up to a height, whatever happens.
fn pass_until(world: &mut World, until: u64) {
    while height(world) < until {
        world.pass();
    }
}

/// The same, and what the last of them told; nothing happens before.
fn pass_to(world: &mut World, until: u64) -> Vec<Effect> {
    let mut told = Vec::new();
    while height(world) < until {
        assert_eq!(told, []);
        told = world.pass();
    }
    told
}

#[test]
fn a_ledger_begins_with_the_validators_of_its_genesis() {
    let world = world(0);
    let genesis = genesis_with(*world.state.parameters(), validators(&FIRST, 1));
    let expected = Term {
        number: 0,
        validators: validators(&FIRST, 1),
        base: TermStart {
            height: Height::ZERO,
            view: world.state.view(),
            time: UnixMillis::new(1_000),
            tip: genesis.record_digest(),
        },
        before: None,
        next: None,
    };
    assert_eq!(*term(&world), expected);
    assert!(!wants_block(&world));
    assert_eq!(World::new(Parameters::default()).state.term(), None);
}

#[test]
fn without_epochs_the_border_is_so_many_blocks_behind_the_change() {
    let mut world = world(0);
    world.pass();
    let effects = world.accept(OWNER, change(&world.state, &second(), &SIGNERS));
    assert_eq!(effects, [Effect::TermNamed { number: 1 }]);
    let named = height(&world);
    let first = term(&world).clone();
    let next = NextTerm {
        validators: second(),
        border: Some(Height::new(named + BORDER_LAG)),
    };
    assert_eq!(first.next, Some(next));
    assert_eq!(
        (first.number, &first.validators),
        (0, &validators(&FIRST, 1))
    );
    assert!(wants_block(&world), "an idle ledger comes to its border");
    assert_eq!(pass_to(&mut world, named + BORDER_LAG - 1), []);
    assert_eq!(*term(&world), first);
    assert!(wants_block(&world));
    assert_eq!(world.pass(), [Effect::TermBegan { number: 1 }]);
    let expected = Term {
        number: 1,
        validators: second(),
        base: TermStart {
            height: Height::new(named + BORDER_LAG),
            view: world.state.view(),
            time: world.state.time(),
            tip: world.blocks.last().unwrap().record_digest(),
        },
        before: Some(PastTerm {
            validators: first.validators,
            base: first.base,
        }),
        next: None,
    };
    assert_eq!(*term(&world), expected);
    assert!(!wants_block(&world));
    world.pass();
    assert_eq!(*term(&world), expected);
}

#[test]
fn with_epochs_the_border_is_so_many_blocks_behind_the_begin_of_the_next() {
    let mut world = world(20);
    world.accept(OWNER, change(&world.state, &second(), &SIGNERS));
    assert_eq!(border(&world), None);
    while world.state.epoch().number.get() == 0 {
        assert_eq!(border(&world), None);
        assert!(!wants_block(&world), "the next epoch is as good");
        world.pass();
    }
    let began = height(&world);
    assert_eq!(began, 20, "a block takes a millisecond");
    assert_eq!(border(&world), Some(began + BORDER_LAG));
    // Another epoch that begins before the border does not move it.
    while height(&world) < began + BORDER_LAG - 1 {
        world.pass();
        assert_eq!(border(&world), Some(began + BORDER_LAG));
        assert!(wants_block(&world), "an idle ledger comes to its border");
    }
    assert_eq!(world.state.epoch().number.get(), 2);
    assert_eq!(world.pass(), [Effect::TermBegan { number: 1 }]);
    assert_eq!(term(&world).base.height.get(), began + BORDER_LAG);
}

#[test]
fn a_change_in_the_block_that_begins_an_epoch_waits_for_the_next() {
    let mut world = world(20);
    pass_until(&mut world, 19);
    let effects = world.accept(OWNER, change(&world.state, &second(), &SIGNERS));
    assert_eq!(height(&world), 20);
    assert!(matches!(
        effects[..],
        [Effect::EpochBegan(_), Effect::TermNamed { .. }]
    ));
    assert_eq!(border(&world), None);
    pass_until(&mut world, 39);
    assert_eq!(border(&world), None);
    world.pass();
    assert_eq!(border(&world), Some(40 + BORDER_LAG));
}

#[test]
fn one_term_follows_the_other() {
    let mut world = changing();
    pass_until(&mut world, 1 + BORDER_LAG);
    assert_eq!(term(&world).number, 1);
    // Those of before have no say any more: two of three is not enough.
    let third = validators(&[74, 75], 3);
    let body = change(&world.state, &third, &[70, 71, 73, 74, 75]);
    let stranger = TermError::Stranger {
        validator: least(&[70, 71]),
    };
    assert_eq!(refuse(&mut world, body), stranger);
    let body = change(&world.state, &third, &[73, 74, 75]);
    let quorum = TermError::Quorum {
        expected: 3,
        found: 2,
    };
    assert_eq!(refuse(&mut world, body), quorum);
    let effects = world.accept(OWNER, change(&world.state, &third, &[72, 73, 74, 75]));
    assert_eq!(effects, [Effect::TermNamed { number: 2 }]);
    let border = border(&world).unwrap();
    assert_eq!(
        pass_to(&mut world, border),
        [Effect::TermBegan { number: 2 }]
    );
    assert_eq!(term(&world).validators, third);
}

/// The same validators may have their parts dealt anew.
#[test]
fn a_new_key_is_a_change() {
    let mut world = world(0);
    world.accept(OWNER, change(&world.state, &validators(&FIRST, 9), &FIRST));
    pass_until(&mut world, 1 + BORDER_LAG);
    assert_eq!(term(&world).validators, validators(&FIRST, 9));
}

fn least(numbers: &[u8]) -> cairn_core::PublicKey {
    let keys = numbers.iter().map(|number| account(*number).key());
    keys.min().expect("a party")
}

/// Why a change is refused, which leaves the term as it is.
fn refuse(world: &mut World, body: TxBody) -> TermError {
    let before = world.state.term().cloned();
    let error = world.refuse(OWNER, body);
    assert_eq!(world.state.term().cloned(), before, "{error}");
    match error {
        TxError::Validators(error) => error,
        other => panic!("expected a refused change, found {other:?}"),
    }
}

/// Number of variants of [`TermError`].
const KINDS: u8 = 10;

/// A number for each variant: a new one does not compile until it has its number, and then fails
/// until it has its test.
const fn kind(error: &TermError) -> u8 {
    match error {
        TermError::NoValidators => 0,
        TermError::Pending { .. } => 1,
        TermError::Last { .. } => 2,
        TermError::Validators => 3,
        TermError::Unchanged => 4,
        TermError::Order => 5,
        TermError::Stranger { .. } => 6,
        TermError::Quorum { .. } => 7,
        TermError::Unsigned { .. } => 8,
        TermError::Signature { .. } => 9,
    }
}

/// A change of which the validators are in this order, signed by these.
fn disordered(world: &World, numbers: &[u8], signers: &[u8]) -> TxBody {
    let identities = numbers.iter().map(|number| account(*number).key());
    let validators = Validators {
        identities: Bounded::new(identities.collect()).unwrap(),
        ..second()
    };
    change(&world.state, &validators, signers)
}

/// A change with other signatures than those it should have.
fn resigned(body: &TxBody, change: impl FnOnce(&mut Vec<TermSignature>)) -> TxBody {
    let TxBody::ValidatorsChange {
        validators,
        signatures,
    } = body.clone()
    else {
        panic!("a change");
    };
    let mut signatures = signatures.into_vec();
    change(&mut signatures);
    TxBody::ValidatorsChange {
        validators,
        signatures: Bounded::new(signatures).unwrap(),
    }
}

/// Refusals of who should not be a validator, and of who did not sign or should not have.
fn signer_refusals(expect: &mut impl FnMut(TermError, TermError)) {
    let mut world = world(0);
    let body = change(&world.state, &validators(&[], 2), &FIRST);
    expect(refuse(&mut world, body), TermError::Validators);
    let mut rising = SECOND;
    rising.sort_unstable_by_key(|number| account(*number));
    let [a, b, c] = rising;
    for numbers in [[b, a, c], [a, c, b], [a, a, c]] {
        let body = disordered(&world, &numbers, &SIGNERS);
        expect(refuse(&mut world, body), TermError::Validators);
    }
    let body = change(&world.state, &validators(&FIRST, 1), &FIRST);
    expect(refuse(&mut world, body), TermError::Unchanged);
    let good = change(&world.state, &second(), &SIGNERS);
    let reversed = resigned(&good, |signatures| signatures.reverse());
    expect(refuse(&mut world, reversed), TermError::Order);
    let twice = resigned(&good, |signatures| signatures.insert(1, signatures[0]));
    expect(refuse(&mut world, twice), TermError::Order);
    let body = change(&world.state, &second(), &[70, 71, 72, 73, 74, 75]);
    let stranger = TermError::Stranger {
        validator: least(&[75]),
    };
    expect(refuse(&mut world, body), stranger);
    let body = change(&world.state, &second(), &SECOND);
    let quorum = |found| TermError::Quorum { expected: 3, found };
    expect(refuse(&mut world, body), quorum(2));
    let body = change(&world.state, &second(), &[]);
    expect(refuse(&mut world, body), quorum(0));
    let body = change(&world.state, &second(), &FIRST);
    let unsigned = TermError::Unsigned {
        validator: least(&[74]),
    };
    expect(refuse(&mut world, body), unsigned);
    // What is left is enough.
    world.accept(OWNER, good);
}

/// Refusals of signatures that are under something else.
fn signature_refusals(expect: &mut impl FnMut(TermError, TermError)) {
    let mut world = world(0);
    let (id, next) = (world.state.ledger_id(), second());
    let good = change(&world.state, &next, &SIGNERS);
    let first = TermError::Signature {
        validator: least(&SIGNERS),
    };
    let others = [
        term_digest(LedgerId::new(Digest::of(b"another")), 1, &next),
        term_digest(id, 0, &next),
        term_digest(id, 2, &next),
        term_digest(id, 1, &validators(&SECOND, 3)),
        id.digest(),
    ];
    for digest in others {
        let body = TxBody::ValidatorsChange {
            validators: next.clone(),
            signatures: signatures(digest, &SIGNERS),
        };
        expect(refuse(&mut world, body), first.clone());
    }
    // One of them is enough, wherever it is.
    for place in 0..SIGNERS.len() {
        let mut forged_by = None;
        let forged = resigned(&good, |signatures| {
            signatures[place].signature[63] ^= 1;
            forged_by = Some(signatures[place].validator);
        });
        let validator = forged_by.unwrap();
        expect(
            refuse(&mut world, forged),
            TermError::Signature { validator },
        );
    }
    let swapped = resigned(&good, |signatures| {
        signatures[0].signature = signatures[1].signature;
    });
    expect(refuse(&mut world, swapped), first);
    world.accept(OWNER, good);
}

#[test]
fn every_refusal_of_a_change_is_reached() {
    let mut seen = BTreeSet::new();
    let mut expect = |found: TermError, expected: TermError| {
        assert_eq!(found, expected);
        seen.insert(kind(&found));
    };
    let mut plain = World::new(Parameters::default());
    let body = change(&plain.state, &second(), &SECOND);
    expect(refuse(&mut plain, body), TermError::NoValidators);
    signer_refusals(&mut expect);
    signature_refusals(&mut expect);
    let mut named = changing();
    for next in [second(), validators(&FIRST, 5)] {
        let body = change(&named.state, &next, &[70, 71, 72, 73, 74]);
        expect(refuse(&mut named, body), TermError::Pending { number: 1 });
    }
    // No ledger comes so far.
    let mut last = world(0).state;
    let number = u32::MAX;
    let body = change(&last, &second(), &SIGNERS);
    last.term.as_mut().unwrap().number = number;
    let tx = Tx {
        account: account(OWNER),
        nonce: 0,
        fee: Amount::ZERO,
        body,
    };
    match last.check(&tx) {
        Err(TxError::Validators(found)) => expect(found, TermError::Last { number }),
        other => panic!("expected a refused change, found {other:?}"),
    }
    let missed: Vec<u8> = (0..KINDS).filter(|kind| !seen.contains(kind)).collect();
    assert!(missed.is_empty(), "not reached: {missed:?}");
}

/// Whatever part of those who may sign does, enough of the first and all of the second are needed.
#[test]
fn who_must_sign_a_change_and_nobody_else() {
    let world = world(0);
    let parties: [u8; 6] = [70, 71, 72, 73, 74, 75];
    let mut done = 0;
    for chosen in 0..64_u32 {
        let signers: Vec<u8> = parties
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| (chosen >> bit) & 1 == 1)
            .map(|(_, number)| number)
            .collect();
        let signed = |numbers: &[u8]| {
            let signed = numbers.iter().filter(|number| signers.contains(number));
            signed.count()
        };
        let expected = signed(&FIRST) >= 3 && signed(&SECOND) == 3 && signed(&[75]) == 0;
        let body = change(&world.state, &second(), &signers);
        let tx = world.signed(OWNER, body).into_unverified();
        let found = world.state.check(&tx);
        assert_eq!(found.is_ok(), expected, "{signers:?}: {found:?}");
        done += usize::from(expected);
    }
    // 70 and 71, one of them, or the other.
    assert_eq!(done, 3);
}

#[test]
fn more_than_two_thirds_are_a_quorum() {
    let quorum = |count: u8| {
        let numbers: Vec<u8> = (0..count).collect();
        validators(&numbers, 1).quorum()
    };
    let expected = [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (6, 5),
        (7, 5),
        (100, 67),
    ];
    for (count, least) in expected {
        assert_eq!(quorum(count), least, "of {count}");
    }
}

/// The second of two changes in one block is too late, and pays for it.
#[test]
fn of_two_changes_in_a_block_the_first_counts() {
    let parameters = Parameters {
        fee_min: Amount::from_micro(7),
        ..Parameters::default()
    };
    let mut world = World::with_validators(parameters, validators(&FIRST, 1));
    let body = change(&world.state, &second(), &SIGNERS);
    let txs: Vec<Signed<Tx>> = [OWNER, 2]
        .map(|number| world.signed(number, body.clone()))
        .to_vec();
    let effects = world.apply(world.next_block(&[], txs));
    let results: Vec<_> = crate::seal::results(&effects).collect();
    let pending = TxError::Validators(TermError::Pending { number: 1 });
    assert_eq!(results, [Ok(()), Err(pending)]);
    assert_eq!(world.state.fees(), Amount::from_micro(14));
}

/// What a state says of its term is part of its root, and shown to whoever asks.
#[test]
fn the_term_is_shown_to_who_has_no_state() {
    let mut world = changing();
    assert_shows(&world.state, Question::Term);
    let seen = world.state.ask(Question::Term);
    assert_eq!(seen, Seen::Term(Some(Box::new(term(&world).clone()))));
    let mut other = world.state.clone();
    other.term.as_mut().unwrap().number = 7;
    other.note_changes();
    assert_ne!(other.root(), world.state.root());
    pass_until(&mut world, 1 + BORDER_LAG);
    assert_shows(&world.state, Question::Term);
    let plain = World::new(Parameters::default()).state;
    assert_shows(&plain, Question::Term);
    assert_eq!(plain.ask(Question::Term), Seen::Term(None));
}

/// A state that is read back goes on to its border like one that was never written.
#[test]
fn a_state_has_its_term_after_a_restart() {
    let mut world = changing();
    world.pass();
    let mut read = State::decode(&world.state.encode()).unwrap();
    assert_eq!(read, world.state);
    assert_eq!(read.root(), world.state.root());
    while term(&world).number == 0 {
        let block = world.next_block(&[], Vec::new());
        read.apply(&block).unwrap();
        world.apply(block);
    }
    assert_eq!(read, world.state);
    assert_eq!(read.root(), world.state.root());
    let again = State::decode(&world.state.encode()).unwrap();
    assert_eq!(again.term(), world.state.term());
}

#[test]
fn a_state_whose_term_cant_have_come_about_is_refused() {
    let expect = |state: &State, change: &dyn Fn(&mut Term)| {
        let mut state = state.clone();
        change(state.term.as_mut().unwrap());
        // The trie is made anew, so that only the term is wrong.
        let state: State = borsh::from_slice(&borsh::to_vec(&state).unwrap()).unwrap();
        assert_eq!(state.audit(), Err(Unsound::Term));
        assert!(State::decode(&state.encode()).is_err());
    };
    let first = changing().state;
    let next = |term: &mut Term, border: Option<u64>| {
        term.next.as_mut().unwrap().border = border.map(Height::new);
    };
    expect(&first, &|term| term.number = 1);
    expect(&first, &|term| term.base.height = Height::new(1));
    expect(&first, &|term| term.base.time = UnixMillis::new(1_001));
    expect(&first, &|term| term.base.tip = Digest::of(b"another"));
    expect(&first, &|term| {
        term.validators.identities = Bounded::empty();
    });
    expect(&first, &|term| next(term, None));
    expect(&first, &|term| next(term, Some(1)));
    // One block nearer, and one farther, than any block can name.
    expect(&first, &|term| next(term, Some(BORDER_LAG)));
    expect(&first, &|term| next(term, Some(BORDER_LAG + 2)));
    expect(&first, &|term| {
        term.next.as_mut().unwrap().validators.identities = Bounded::empty();
    });
    expect(&first, &|term| {
        term.next.as_mut().unwrap().validators = term.validators.clone();
    });
    let mut world = changing();
    pass_until(&mut world, 1 + BORDER_LAG);
    let begun = world.state;
    expect(&begun, &|term| term.number = 0);
    expect(&begun, &|term| term.number = 2);
    expect(&begun, &|term| {
        term.base.height = Height::new(BORDER_LAG + 2);
    });
    expect(&begun, &|term| {
        term.base.height = Height::new(BORDER_LAG - 1);
    });
    expect(&begun, &|term| {
        term.base.view = term.base.view.next().unwrap();
    });
    expect(&begun, &|term| term.base.time = UnixMillis::new(u64::MAX));
    expect(&begun, &|term| term.base.time = UnixMillis::new(999));
    expect(&begun, &|term| term.before = None);
    expect(&begun, &|term| {
        term.before.as_mut().unwrap().base = term.base;
    });
    expect(&begun, &|term| {
        let before = term.before.as_mut().unwrap();
        before.validators.identities = Bounded::empty();
    });
    let before = begun.term().unwrap().before.clone();
    expect(&first, &|term| term.before = before.clone());
}

/// A hundred go and a hundred others come: all sign, with the widest key.
#[test]
fn the_widest_change_is_a_transaction() {
    let count = u8::try_from(VALIDATORS_MAX).unwrap();
    let numbers: Vec<u8> = (0..count).collect();
    let widest = Validators {
        key: Bounded::new(vec![7; VALIDATORS_KEY_BYTES_MAX]).unwrap(),
        ..validators(&numbers, 1)
    };
    let signature = TermSignature::sign(Digest::of(b"a change"), &key(1));
    let body = TxBody::ValidatorsChange {
        validators: widest,
        signatures: Bounded::new(vec![signature; SIGNERS_MAX]).unwrap(),
    };
    let tx = world(0).signed(OWNER, body);
    let encoded = tx.encode();
    assert!(encoded.len() > 28_000, "{}", encoded.len());
    assert_eq!(Signed::<Tx>::decode(&encoded), Ok(tx));
}
