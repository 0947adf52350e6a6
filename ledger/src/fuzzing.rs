//! What the fuzz targets of `fuzz/` call, and a test that calls it without a fuzzer.
//!
//! Each function asserts laws that hold for any input; it never returns that one failed.

#![expect(
    clippy::missing_panics_doc,
    reason = "panicking is how a fuzz target reports"
)]

use std::sync::LazyLock;

use borsh::BorshDeserialize;
use cairn_core::{
    Bounded, Digest, FencingNumber, HeadNumber, Record, Right, Signed, TxId, UnixMillis,
};

use crate::attestation::{Attested, LedgerKey};
use crate::block::{Block, Verdict};
use crate::evidence::Evidence;
use crate::genesis::{Genesis, Parameters};
use crate::query::Question;
use crate::registry::{RegistryTx, Writer, volume_id};
use crate::sample::shown::questions;
use crate::sample::term::{change, validators};
use crate::sample::{
    OWNER, World, account, acknowledge, declare_loss, node, open, revise, slot, terms,
};
use crate::score::AuditReport;
use crate::seal::{BlockSeal, Chained};
use crate::state::State;
use crate::tx::{Tx, TxBody, tx_id};
use crate::wire::{Answer, LedgerRequest, LedgerResponse, TxEvidence};

/// A ledger of two validators with deals held, leaving, vacant and waiting, and bodies that would be done.
static BUSY: LazyLock<(World, Vec<(u8, TxBody)>)> = LazyLock::new(|| {
    let places = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5)];
    let parameters = Parameters {
        epoch_millis: 14,
        ..Parameters::default()
    };
    let mut world = World::with_validators(parameters, validators(&[70, 71], 1));
    world.register_nodes(8, &places);
    let id = world.place(2, 4);
    let other = world.place(2, 4);
    world.accept(OWNER, revise(id, 1, 5));
    for index in [0, 1] {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    world.accept(world.holder(slot(id, 0)), TxBody::NodeDrain);
    world.pass();
    world.lose(&[world.holder(slot(id, 2))]);
    let asked = registry(&mut world);
    let successor = world.holder(slot(id, 0));
    let holder = world.holder(slot(other, 3));
    let mut bodies = vec![
        (OWNER, revise(id, 2, 6)),
        (OWNER, open(1, 2)),
        (successor, acknowledge(slot(id, 0), 1)),
        (holder, declare_loss(slot(other, 3))),
        (holder, TxBody::NodeDrain),
        (60, world.registration(60, terms(9, (6, 6, 6)))),
        (
            holder,
            TxBody::NodeUpdate {
                terms: terms(9, (7, 7, 7)),
            },
        ),
        (
            successor,
            TxBody::ProofSubmit {
                epoch: world.state.epoch().number,
                witness: Digest::of(b"a proof"),
                audits: AuditReport::default(),
            },
        ),
    ];
    bodies.extend(asked);
    let next = validators(&[71, 72], 2);
    bodies.push((OWNER, change(&world.state, &next, &[70, 71, 72])));
    (world, bodies)
});

/// Of every kind, of what is there and of what is not.
static QUESTIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let (world, _) = &*BUSY;
    let mut all = questions(&world.state, |_| 0);
    all.extend(questions(&world.state, |count| count.saturating_sub(1)));
    all
});

/// A volume with an anchor, a lease that is asked for, a grant, a revocation and a notarisation; and what
/// would be done with it next.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn registry(world: &mut World) -> Vec<(u8, TxBody)> {
    let registration = TxBody::Registry(RegistryTx::VolumeRegister {
        descriptor: Bounded::new(b"sealed".to_vec()).expect("few bytes"),
    });
    let tx = world.signed(OWNER, registration.clone());
    let volume = volume_id(tx_id(&tx));
    world.submit(tx).1.expect("it is registered");
    let (fencing, key) = (FencingNumber::new(1), account(50).key());
    let expires_at = UnixMillis::new(9_000);
    let anchor = |number| RegistryTx::VolumeAnchor {
        volume,
        fencing,
        number: HeadNumber::new(number),
        digest: Digest::of(b"a head"),
    };
    let grant = |holder| RegistryTx::GrantMake {
        volume,
        holder: account(holder).key(),
        right: Right::Write,
        expires_at,
    };
    let revoke = |holder| RegistryTx::GrantRevoke {
        volume,
        holder: account(holder).key(),
        expires_at,
    };
    let take = |key| RegistryTx::LeaseTake {
        volume,
        key,
        millis: 5_000,
    };
    let ask = RegistryTx::LeaseAsk { volume, key };
    let notarise = |text: &[u8]| RegistryTx::Notarise {
        digest: Digest::of(text),
    };
    for asked in [
        grant(2),
        revoke(3),
        take(account(51).key()),
        anchor(1),
        ask.clone(),
        notarise(b"a file"),
    ] {
        world.accept(OWNER, TxBody::Registry(asked));
    }
    let to = Writer {
        account: account(2),
        key,
    };
    let next = [
        anchor(2),
        grant(4),
        revoke(2),
        ask,
        notarise(b"another"),
        RegistryTx::LeaseHandOver {
            volume,
            fencing,
            to,
            millis: 9,
        },
        RegistryTx::LeaseRenew {
            volume,
            fencing,
            millis: 9,
        },
        RegistryTx::LeaseRelease { volume, fencing },
        RegistryTx::VolumeClose { volume },
    ];
    let next = next
        .into_iter()
        .map(|asked| (OWNER, TxBody::Registry(asked)));
    next.chain([(OWNER, registration)]).collect()
}

/// Bytes from anyone: what decodes has one encoding.
///
/// Input: a byte that chooses the kind of record, then its encoding.
pub fn ledger_decode(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    match choice % 8 {
        0 => drop(decode::<Signed<Tx>>(bytes)),
        1 => drop(decode::<Block>(bytes)),
        2 => drop(decode::<LedgerRequest>(bytes)),
        3 => drop(decode::<LedgerResponse>(bytes).map(look_into)),
        4 => drop(decode::<Genesis>(bytes)),
        5 => drop(decode::<Signed<Attested>>(bytes)),
        6 => drop(decode::<Evidence>(bytes).map(|evidence| ask_all(&evidence))),
        _ => drop(decode::<State>(bytes)),
    }
}

fn decode<T: Record>(bytes: &[u8]) -> Option<T> {
    let record = T::decode(bytes).ok()?;
    assert_eq!(record.encode(), bytes, "a record has one encoding");
    Some(record)
}

/// Asks everything of evidence, as if what it is part of were attested: it answers, or says that it
/// can't.
fn ask_all(evidence: &Evidence) {
    let attested = Attested {
        root: evidence.root(),
        ..*evidence.attestation.unverified()
    };
    for question in &*QUESTIONS {
        drop(evidence.show(*question, &attested));
    }
}

/// Looks into what an answer says, whoever attests it.
fn look_into(response: LedgerResponse) {
    match response.answer {
        Answer::Evidence(evidence) => ask_all(&evidence),
        Answer::Effects(chained) => follow_chain(&chained, BlockSeal::has_effects),
        Answer::Blocks(chained) => follow_chain(&chained, BlockSeal::has_summary),
        Answer::Done(evidence) => look_for_txs(&evidence),
        Answer::Tx { found, .. } => drop(found.map(|evidence| look_for_txs(&evidence))),
        Answer::Snapshot(piece) => {
            let end = piece.end(piece.offset);
            assert!(end.is_none_or(|end| end > piece.offset && end <= piece.total));
        }
        Answer::Error(error) => drop(error.to_string()),
    }
}

fn follow_chain<T>(chained: &Chained<T>, is_of: impl Fn(&BlockSeal, &T) -> bool) {
    for (seal, of) in &chained.blocks {
        is_of(seal, of);
    }
    let attested = chained.attestation.unverified();
    let key = LedgerKey::Validators([0; 96]);
    let is_signed = chained.attestation.verify(attested.ledger, &key).is_some();
    assert!(!is_signed, "nobody has that key");
    let _leads = chained.leads_to(attested, is_of);
}

fn look_for_txs(evidence: &TxEvidence) {
    follow_chain(&evidence.0, |seal, txs| {
        let _found = txs.get(TxId::default());
        seal.txs == txs.root()
    });
}

/// A block of anyone's transactions on a ledger at work: the state stays sound.
///
/// Input: a byte that chooses, a byte that names who signs, then what the choice says: a body's
/// encoding, edits of a valid body, edits of a valid block, or edits of the state.
pub fn ledger_apply(input: &[u8]) {
    let Some((&[choice, who], rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let (world, bodies) = &*BUSY;
    let chosen = bodies.get(usize::from(who).checked_rem(bodies.len()).unwrap_or(0));
    let (from, valid) = chosen.expect("one of the bodies");
    match choice % 4 {
        0 => {
            if let Ok(body) = TxBody::deserialize_reader(&mut &*rest) {
                follow(world, who, body);
            }
        }
        1 => {
            let bytes = edited(&borsh::to_vec(valid).expect("memory"), rest);
            if let Ok(body) = TxBody::try_from_slice(&bytes) {
                follow(world, *from, body);
            }
        }
        2 => {
            let tx = world.signed(*from, valid.clone());
            let block = world.next_block(&[node(who)], vec![tx]);
            if let Ok(block) = Block::decode(&edited(&block.encode(), rest)) {
                let mut world = world.clone();
                // It follows or not.
                drop(world.state.apply(&block));
                world.state.audit().expect("a sound state");
            }
        }
        _ => {
            if let Ok(state) = State::decode(&edited(&world.state.encode(), rest)) {
                state.audit().expect("what decodes is sound");
                let mut world = World {
                    state,
                    blocks: Vec::new(),
                };
                // `World` makes times from heights.
                let next = world.state.height().get().saturating_add(1_000);
                if next < 1 << 40 && world.state.time() <= UnixMillis::new(next) {
                    follow(&world, *from, valid.clone());
                    world.lose(&[who]);
                }
            }
        }
    }
}

/// A block of the transaction, then blocks that draw what it asked for.
fn follow(world: &World, from: u8, body: TxBody) {
    let mut world = world.clone();
    let tx = Tx {
        body,
        ..world.signed(from, TxBody::NodeDrain).into_unverified()
    };
    let is_proof = matches!(tx.body, TxBody::ProofSubmit { .. });
    let verdicts = [Verdict::Invalid].into_iter().filter(|_| is_proof);
    let verdicts = Bounded::new(verdicts.collect()).expect("one");
    let tx = world.sign(tx, from);
    let block = world.next_block(&[], vec![tx]);
    world.apply(Block { verdicts, ..block });
    for _ in 0..3 {
        world.pass();
    }
}

/// `valid` with edits: place `u16`, byte to exclude-or; a place past the end cuts or extends.
fn edited(valid: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    let (edits, _) = edits.as_chunks::<3>();
    for &[low, high, with] in edits {
        let place = usize::from(u16::from_le_bytes([low, high]));
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= with;
        } else if with.is_multiple_of(2) {
            bytes.pop();
        } else {
            bytes.push(with);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use cairn_core::Height;

    use super::*;
    use crate::attestation::Attestation;
    use crate::sample::shown::{Shown, evidence};
    use crate::sample::{attest, genesis};
    use crate::snapshot::SnapshotPart;

    /// Inputs of each target: enough to reach every refusal, few enough for every run.
    const INPUTS: u32 = 3_000;

    fn inputs() -> impl Iterator<Item = Vec<u8>> {
        (0..INPUTS).map(|number| {
            let mut bytes = vec![0; usize::try_from(number % 97).unwrap()];
            let mut hasher = blake3::Hasher::new();
            hasher.update(&number.to_le_bytes());
            hasher.finalize_xof().fill(&mut bytes);
            // Small places, and tags of enums, are hit more often.
            if number % 3 == 0 {
                bytes.iter_mut().for_each(|byte| *byte %= 9);
            }
            bytes
        })
    }

    #[test]
    fn records_from_anyone() {
        inputs().for_each(|input| ledger_decode(&input));
        let (world, bodies) = &*BUSY;
        let tx = world.signed(OWNER, bodies[0].1.clone());
        let block = world.next_block(&[node(9)], vec![tx.clone()]);
        let group = world.state.groups().next().expect("a group").id;
        let question = Question::Groups {
            owner: Some(account(OWNER)),
            after: None,
        };
        let ask = LedgerRequest::Ask {
            question,
            at_least: Height::new(3),
        };
        let evidence = evidence(&world.state, Question::Proven(group));
        let piece = SnapshotPart::cut(attest(&world.state), b"a state", 2);
        let Attestation::Sequencer(attested) = attest(&world.state) else {
            panic!("a sequencer's");
        };
        let shown = Shown::of(world);
        let last = shown.last();
        let id = shown.block(last).summary.txs[0].id;
        let answers = [
            Answer::Evidence(Box::new(evidence.clone())),
            Answer::Effects(Box::new(shown.effects(last - 2..=last - 1, last))),
            Answer::Blocks(Box::new(shown.summaries(last - 2..=last - 1, last))),
            Answer::Done(Box::new(shown.tx(id, last, last))),
            Answer::Tx {
                oldest: Height::new(1),
                found: Some(Box::new(shown.tx(id, last, last))),
            },
            Answer::Snapshot(Box::new(piece.expect("some bytes"))),
        ];
        let ledger = world.state.ledger_id();
        let response = |answer| (3, LedgerResponse { ledger, answer }.encode());
        let valid = [
            (0, tx.encode()),
            (1, block.encode()),
            (2, ask.encode()),
            (2, LedgerRequest::Snapshot { term: 1, offset: 7 }.encode()),
            (4, genesis(Parameters::default()).encode()),
            (5, attested.encode()),
            (6, evidence.encode()),
            (7, world.state.encode()),
        ];
        let valid = valid.into_iter().chain(answers.map(response));
        for (choice, bytes) in valid {
            ledger_decode(&[&[choice], &bytes[..]].concat());
            // Every cut, and one edit at every place.
            for at in (0..bytes.len()).take(2_000) {
                ledger_decode(&[&[choice], &bytes[..at]].concat());
                let mut other = bytes.clone();
                other[at] ^= 1 << (at % 8);
                ledger_decode(&[&[choice], &other[..]].concat());
            }
        }
    }

    #[test]
    fn transactions_from_anyone() {
        inputs().for_each(|input| ledger_apply(&input));
        let (_, bodies) = &*BUSY;
        for (number, (_, body)) in (0..).zip(bodies) {
            let bytes = borsh::to_vec(body).unwrap();
            for place in 0..u16::try_from(bytes.len()).unwrap() {
                let [low, high] = place.to_le_bytes();
                ledger_apply(&[1, number, low, high, 1 << (place % 8)]);
                ledger_apply(&[2, number, low, high, 1 << (place % 8)]);
            }
        }
    }

    #[test]
    fn states_from_a_damaged_disk() {
        let (world, _) = &*BUSY;
        let size = u16::try_from(world.state.encode().len()).unwrap();
        for place in 0..size {
            let [low, high] = place.to_le_bytes();
            ledger_apply(&[3, low, low, high, 1 << (place % 8)]);
        }
    }
}
