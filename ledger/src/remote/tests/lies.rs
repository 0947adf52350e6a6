//! Evidence of something else than what was asked for.

use super::*;
use crate::attestation::GROUP_KEY_BYTES;

/// What an end that gives this evidence is taken to show.
fn told(state: &State, question: Question, evidence: Evidence) -> Result<Seen, LedgerError> {
    let remote = answering(state.ledger_id(), [Answer::Evidence(Box::new(evidence))]);
    let told = now(remote.ask(question));
    let turned = *remote.transport.turned.lock().unwrap();
    assert_eq!(
        turned,
        usize::from(told.is_err()),
        "who lies is turned away"
    );
    told
}

/// Evidence of another question has what is needed, or lacks it; it never shows anything else.
#[test]
fn evidence_of_another_question_shows_the_truth_or_nothing() {
    let world = world();
    let state = &world.state;
    let all = every_question(state);
    let mut refused_count = 0;
    for question in &all {
        for other in &all {
            match told(state, *question, evidence(state, *other)) {
                Ok(seen) => assert_eq!(seen, state.ask(*question)),
                Err(error) => {
                    assert_eq!(error, LedgerError::Answer);
                    assert_ne!(question, other);
                    refused_count += 1;
                }
            }
        }
    }
    // The same entry answers some questions, and some see nothing.
    assert!(refused_count > all.len() * all.len() / 2, "{refused_count}");
    // What shows an account shows no other entry.
    let account = evidence(state, Question::Account(account(OWNER)));
    for question in all.iter().skip(1).take(17) {
        let is_there = told(state, *question, account.clone()).is_ok();
        assert!(!is_there, "{question:?}");
    }
}

#[test]
fn evidence_of_another_state_is_refused() {
    let world = world();
    let shown = Shown::of(&world);
    let (state, before) = (&world.state, shown.state(shown.last() - 1));
    for question in every_question(state) {
        let mut lying = evidence(before, question);
        lying.attestation = attest(state);
        assert_eq!(told(state, question, lying), Err(LedgerError::Answer));
        let mut lying = evidence(state, question);
        lying.attestation = attest(before);
        assert_eq!(told(state, question, lying), Err(LedgerError::Answer));
    }
}

#[test]
fn only_those_who_order_the_ledger_attest_it() {
    let world = world();
    let state = &world.state;
    let attested = state.attested();
    let question = Question::Status;
    let elsewhere = Attested {
        ledger: ledger(),
        ..attested
    };
    assert_ne!(ledger(), state.ledger_id());
    let Attestation::Sequencer(honest) = attest(state) else {
        panic!("a sequencer's");
    };
    let mut altered = borsh::to_vec(&honest).unwrap();
    altered[40] ^= 1;
    let altered = borsh::from_slice(&altered).unwrap();
    let sequencer = key(crate::sample::SEQUENCER);
    let lies = [
        Attestation::sign(attested, &key(7)),
        // A true one, of another ledger.
        Attestation::sign(elsewhere, &sequencer),
        // Of this ledger, signed for another.
        Attestation::Sequencer(Signed::sign_for(attested, ledger(), &sequencer)),
        Attestation::Sequencer(Signed::sign_for(elsewhere, state.ledger_id(), &sequencer)),
        Attestation::Sequencer(Signed::sign(attested, &sequencer)),
        Attestation::Sequencer(altered),
        Attestation::Validators(attested, [0; 48]),
        Attestation::Validators(attested, [0xc0; 48]),
    ];
    for attestation in lies {
        let mut lying = evidence(state, question);
        lying.attestation = attestation;
        assert_eq!(told(state, question, lying), Err(LedgerError::Answer));
    }
    // A sequencer's word where validators count.
    let transport = Scripted::default();
    let reply = encoded(state.ledger_id(), evidence_of(state, question));
    transport.answers.lock().unwrap().push(Ok(reply));
    for garbage in [[0; GROUP_KEY_BYTES], [0xc0; GROUP_KEY_BYTES]] {
        let key = LedgerKey::Validators(garbage);
        let remote = RemoteLedger::new(transport.clone(), state.ledger_id(), key);
        let mut lying = evidence(state, question);
        lying.attestation = Attestation::Validators(attested, [0xc0; 48]);
        let lying = encoded(state.ledger_id(), Answer::Evidence(Box::new(lying)));
        transport.answers.lock().unwrap().push(Ok(lying));
        assert_eq!(now(remote.status()), Err(LedgerError::Answer));
        assert_eq!(remote.seen(), Height::ZERO);
    }
}

/// Whatever is changed in what is sent, it is refused or shows the same.
#[test]
fn a_changed_encoding_of_evidence_shows_nothing_else() {
    let world = world();
    let state = &world.state;
    let (id, key) = (state.ledger_id(), ledger_key());
    let mut count = 0;
    for question in questions(state, |_| 0) {
        let expected = state.ask(question);
        let bytes = evidence(state, question).encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let Ok(evidence) = Evidence::decode(&changed) else {
                continue;
            };
            count += 1;
            if let Ok((seen, _)) = evidence.check(question, id, &key) {
                assert_eq!(seen, expected, "{question:?} with byte {at} changed");
            }
        }
    }
    assert!(count > 1_000, "some decode: {count}");
}

#[test]
fn an_answer_of_another_kind_breaks_the_protocol() {
    let world = world();
    let state = &world.state;
    let shown = Shown::of(&world);
    let last = shown.last();
    let kinds = || {
        let id = shown.block(last).summary.txs[0].id;
        let tx = || Box::new(shown.tx(id, last, last));
        [
            Answer::Done(tx()),
            evidence_of(state, Question::Status),
            Answer::Effects(Box::new(shown.effects(last..=last, last))),
            Answer::Blocks(Box::new(shown.summaries(last..=last, last))),
            Answer::Tx {
                oldest: Height::new(1),
                found: Some(tx()),
            },
        ]
    };
    let tx = || world.blocks.last().unwrap().txs[0].clone();
    let id = tx_id(&tx());
    let height = Height::new(last);
    for (kind, answer) in kinds().into_iter().enumerate() {
        let remote = answering(state.ledger_id(), std::iter::repeat_n(answer, 5));
        let ends = [
            now(remote.submit(tx())).map(drop),
            now(remote.status()).map(drop),
            now(remote.effects(height)).map(drop),
            now(remote.blocks(height)).map(drop),
            now(remote.tx(id)).map(drop),
        ];
        for (asked, end) in ends.into_iter().enumerate() {
            let expected = if asked == kind {
                Ok(())
            } else {
                Err(LedgerError::Answer)
            };
            assert_eq!(end, expected, "answer {kind} to request {asked}");
        }
    }
}
