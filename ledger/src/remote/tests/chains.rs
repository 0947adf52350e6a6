//! Blocks that are not the ledger's, or not all that they are said to be.

use cairn_core::TxId;

use super::*;
use crate::effect::Effect;
use crate::tx::Tx;
use crate::view::BlockSummary;

type Effects = Chained<BlockEffects>;
type Blocks = Chained<BlockSummary>;

/// The height from which blocks are asked for, with three to come and more behind them.
const FROM: u64 = 8;

fn effects_told(world: &World, chained: Effects) -> Result<Vec<BlockEffects>, LedgerError> {
    let answer = Answer::Effects(Box::new(chained));
    let remote = answering(world.state.ledger_id(), [answer]);
    let told = now(remote.effects(Height::new(FROM)));
    let turned = *remote.transport.turned.lock().unwrap();
    let is_no_use = told.as_ref().map_or(true, Vec::is_empty);
    assert_eq!(
        turned,
        usize::from(is_no_use),
        "who lies or has none is turned away"
    );
    told
}

fn blocks_told(world: &World, chained: Blocks) -> Result<Vec<BlockSummary>, LedgerError> {
    let answer = Answer::Blocks(Box::new(chained));
    let remote = answering(world.state.ledger_id(), [answer]);
    let told = now(remote.blocks(Height::new(FROM)));
    let turned = *remote.transport.turned.lock().unwrap();
    assert_eq!(
        turned,
        usize::from(told.is_err()),
        "who lies is turned away"
    );
    told
}

#[test]
fn true_blocks_are_believed() {
    let world = world();
    let shown = Shown::of(&world);
    let last = shown.last();
    for end in [FROM, FROM + 2, last] {
        for at in [end, last] {
            let told = effects_told(&world, shown.effects(FROM..=end, at)).unwrap();
            let expected: Vec<_> = (FROM..=end)
                .map(|it| shown.block(it).effects.clone())
                .collect();
            assert_eq!(told, expected);
            let told = blocks_told(&world, shown.summaries(FROM..=end, at)).unwrap();
            let expected: Vec<_> = (FROM..=end)
                .map(|it| shown.block(it).summary.clone())
                .collect();
            assert_eq!(told, expected);
        }
    }
    // None yet.
    let before = || attest(shown.state(FROM - 1));
    let none = Chained::none(before());
    assert_eq!(effects_told(&world, none), Ok(Vec::new()));
    let none = Chained::none(before());
    assert_eq!(blocks_told(&world, none), Ok(Vec::new()));
}

/// Whatever is wrong with the blocks of a chain and what links them.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn broken<T: Clone>(whole: &Chained<T>, other: &(BlockSeal, T)) -> Vec<(&'static str, Chained<T>)> {
    let change = |change: &dyn Fn(&mut Chained<T>)| {
        let mut changed = whole.clone();
        change(&mut changed);
        changed
    };
    vec![
        (
            "the first is missing",
            change(&|it| drop(it.blocks.remove(0))),
        ),
        ("a gap", change(&|it| drop(it.blocks.remove(1)))),
        ("the last is missing", change(&|it| drop(it.blocks.pop()))),
        ("none, with links", change(&|it| it.blocks.clear())),
        (
            "none, of a chain that has them",
            change(&|it| {
                it.blocks.clear();
                it.after.clear();
            }),
        ),
        ("another order", change(&|it| it.blocks.swap(0, 1))),
        (
            "twice",
            change(&|it| it.blocks.insert(1, it.blocks[0].clone())),
        ),
        ("one more", change(&|it| it.blocks.push(other.clone()))),
        (
            "another's content",
            change(&|it| it.blocks[1].1 = other.1.clone()),
        ),
        ("another block", change(&|it| it.blocks[1] = other.clone())),
        ("another's seal", change(&|it| it.blocks[1].0 = other.0)),
        (
            "another height",
            change(&|it| it.blocks[2].0.height = Height::new(FROM + 3)),
        ),
        (
            "the highest height",
            change(&|it| it.blocks[2].0.height = Height::new(u64::MAX)),
        ),
        (
            "another time",
            change(&|it| it.blocks[1].0.time = UnixMillis::new(1)),
        ),
        (
            "another digest",
            change(&|it| it.blocks[1].0.block = Digest::of(b"no")),
        ),
        (
            "another count",
            change(&|it| it.blocks[1].0.effect_count += 1),
        ),
        (
            "another count of the lost",
            change(&|it| it.blocks[1].0.lost_count += 1),
        ),
        (
            "other effects",
            change(&|it| it.blocks[1].0.effects = Digest::of(b"no")),
        ),
        (
            "other transactions",
            change(&|it| it.blocks[1].0.txs = Digest::of(b"no")),
        ),
        ("another past", change(&|it| it.before = Digest::of(b"no"))),
        (
            "another link",
            change(&|it| it.after[0] = Digest::of(b"no")),
        ),
        ("other links", change(&|it| it.after.swap(0, 1))),
        (
            "a link less",
            change(&|it| it.after.truncate(it.after.len() - 1)),
        ),
        (
            "a link more",
            change(&|it| it.after.push(Digest::of(b"no"))),
        ),
        (
            "as many links as fit a message",
            change(&|it| it.after = vec![Digest::of(b"no"); 30_000]),
        ),
    ]
}

#[test]
fn a_chain_with_anything_changed_is_refused() {
    let world = world();
    let shown = Shown::of(&world);
    let (end, last) = (FROM + 2, shown.last());
    assert!(last > end + 2);
    let (seal, other) = (shown.block(last).seal, shown.block(last));
    let answer = Err(LedgerError::Answer);
    for (name, lie) in broken(
        &shown.effects(FROM..=end, last),
        &(seal, other.effects.clone()),
    ) {
        assert_eq!(effects_told(&world, lie), answer, "effects: {name}");
    }
    let answer = Err(LedgerError::Answer);
    for (name, lie) in broken(
        &shown.summaries(FROM..=end, last),
        &(seal, other.summary.clone()),
    ) {
        assert_eq!(blocks_told(&world, lie), answer, "summaries: {name}");
    }
    // True, but not those that were asked for.
    let other = shown.effects(FROM + 1..=end, last);
    assert_eq!(effects_told(&world, other), Err(LedgerError::Answer));
    // Of another height than the one that is attested.
    let mut other = shown.effects(FROM..=end, last);
    other.attestation = attest(shown.state(last - 1));
    assert_eq!(effects_told(&world, other), Err(LedgerError::Answer));
    let mut other = shown.effects(FROM..=end, last);
    other.attestation = Attestation::sign(*attest(&world.state).unverified(), &key(7));
    assert_eq!(effects_told(&world, other), Err(LedgerError::Answer));
}

/// Of each effect of some blocks: it can't be left out, told twice, or told as another.
#[test]
fn effects_are_all_that_there_were() {
    let world = world();
    let shown = Shown::of(&world);
    let (end, last) = (FROM + 2, shown.last());
    let whole = shown.effects(FROM..=end, last);
    let mut lies = Vec::new();
    for (at, (_, block)) in whole.blocks.iter().enumerate() {
        for place in 0..block.effects.len() {
            let change = |change: &dyn Fn(&mut Vec<Effect>)| {
                let mut changed = whole.clone();
                change(&mut changed.blocks[at].1.effects);
                changed
            };
            lies.push(change(&|effects| {
                effects.remove(place);
            }));
            lies.push(change(&|effects| {
                effects.insert(place, effects[place].clone());
            }));
            lies.push(change(&|effects| {
                effects[place] = Effect::Notarised(Digest::of(b"no"));
            }));
        }
        let mut later = whole.clone();
        later.blocks[at].1.time = UnixMillis::new(1);
        lies.push(later);
        let mut later = whole.clone();
        later.blocks[at].1.height = Height::new(FROM + 7);
        lies.push(later);
    }
    assert!(lies.len() > 12);
    for lie in lies {
        assert_eq!(effects_told(&world, lie), Err(LedgerError::Answer));
    }
}

/// A block of the three transactions, one of which it has twice.
fn busy_world() -> (World, [TxId; 2]) {
    let mut world = world();
    let transfer = |micro| TxBody::Transfer {
        to: account(2),
        amount: Amount::from_micro(micro),
    };
    let first = world.signed(OWNER, transfer(5));
    let next = Tx {
        nonce: first.unverified().nonce + 1,
        ..world.signed(OWNER, transfer(0)).into_unverified()
    };
    let second = world.sign(next, OWNER);
    let ids = [tx_id(&first), tx_id(&second)];
    let block = world.next_block(&[], vec![first.clone(), second, first]);
    world.apply(block);
    (world, ids)
}

/// Of a block in short nothing can be changed.
#[test]
fn a_summary_is_all_that_there_was() {
    let (world, _) = busy_world();
    let shown = Shown::of(&world);
    let last = shown.last();
    let whole = shown.summaries(last..=last, last);
    let told = |summary: &BlockSummary| {
        let mut lie = whole.clone();
        lie.blocks[0].1 = summary.clone();
        let answer = Answer::Blocks(Box::new(lie));
        let remote = answering(world.state.ledger_id(), [answer]);
        now(remote.blocks(Height::new(last)))
    };
    let summary = &whole.blocks[0].1;
    assert_eq!(told(summary), Ok(vec![summary.clone()]));
    let txs = summary.txs.to_vec();
    assert_eq!(txs.len(), 3);
    let with = |txs: Vec<TxSummary>| BlockSummary {
        txs: cairn_core::Bounded::new(txs).unwrap(),
        ..summary.clone()
    };
    let change = |at: usize, change: &dyn Fn(&mut TxSummary)| {
        let mut txs = txs.clone();
        change(&mut txs[at]);
        with(txs)
    };
    let mut lies = vec![
        with(txs[1..].to_vec()),
        with(txs[..2].to_vec()),
        with([&txs[..], &txs[..1]].concat()),
        with(vec![txs[1].clone(), txs[0].clone(), txs[2].clone()]),
        with(vec![txs[2].clone(), txs[1].clone(), txs[0].clone()]),
        with(vec![txs[2].clone(), txs[1].clone(), txs[2].clone()]),
        BlockSummary {
            time: UnixMillis::new(1),
            ..summary.clone()
        },
        BlockSummary {
            digest: Digest::of(b"no"),
            ..summary.clone()
        },
        BlockSummary {
            effect_count: 0,
            ..summary.clone()
        },
        BlockSummary {
            lost_count: 1,
            ..summary.clone()
        },
    ];
    for at in 0..3 {
        lies.push(change(at, &|tx| tx.id = TxId::new(Digest::of(b"no"))));
        lies.push(change(at, &|tx| tx.account = account(9)));
        lies.push(change(at, &|tx| tx.nonce += 1));
        lies.push(change(at, &|tx| tx.fee = Amount::from_micro(9)));
        lies.push(change(at, &|tx| tx.result = Err(TxError::Malformed)));
    }
    for lie in lies {
        assert_eq!(told(&lie), Err(LedgerError::Answer), "{lie:?}");
    }
}

#[test]
fn what_became_of_a_transaction_is_shown_of_it_and_its_block() {
    let (world, [done, refused]) = busy_world();
    let shown = Shown::of(&world);
    let last = shown.last();
    let lookup = |id: TxId, evidence: TxEvidence| {
        let answer = Answer::Tx {
            oldest: Height::new(3),
            found: Some(Box::new(evidence)),
        };
        let remote = answering(world.state.ledger_id(), [answer]);
        now(remote.tx(id))
    };
    let txs = &shown.block(last).summary.txs;
    for (id, expected) in [(done, &txs[0]), (refused, &txs[1])] {
        let found = lookup(id, shown.tx(id, last, last)).unwrap();
        let time = world.state.time();
        assert_eq!(found.oldest, Height::new(3));
        assert_eq!(
            found.found,
            Some((Height::new(last), time, Box::new(expected.clone())))
        );
    }
    assert_eq!(txs[0].result, Ok(()), "the first of the two");
    assert!(txs[1].result.is_err() && txs[2].result.is_err());
    let lies = [
        // Another transaction of the block, and another block.
        shown.tx(refused, last, last),
        shown.tx(done, last - 1, last),
        TxEvidence::of(shown.chained(last - 1..=last, last, |block| block.summary.show(done))),
        TxEvidence::of(shown.chained(last + 1..=last, last, |block| block.summary.show(done))),
        TxEvidence::of({
            let mut chained = shown.tx(done, last, last).0;
            chained.blocks[0].0.height = Height::new(last - 1);
            chained
        }),
        TxEvidence::of({
            let mut chained = shown.tx(done, last, last).0;
            chained.blocks[0].1 = shown.block(last - 1).summary.show(done);
            chained
        }),
        TxEvidence::of({
            let mut chained = shown.tx(done, last, last).0;
            chained.attestation = Attestation::sign(*chained.attestation.unverified(), &key(7));
            chained
        }),
    ];
    for lie in lies {
        assert_eq!(lookup(done, lie), Err(LedgerError::Answer));
    }
}

#[test]
fn a_submission_is_done_when_its_own_end_is_shown() {
    let (world, [done, refused]) = busy_world();
    let shown = Shown::of(&world);
    let last = shown.last();
    let txs = &world.blocks.last().unwrap().txs;
    let submit = |at: usize, evidence: TxEvidence| {
        let answer = Answer::Done(Box::new(evidence));
        let remote = answering(world.state.ledger_id(), [answer]);
        now(remote.submit(txs[at].clone()))
    };
    let outcome = TxOutcome {
        id: done,
        height: Height::new(last),
    };
    assert_eq!(submit(0, shown.tx(done, last, last)), Ok(outcome));
    let error = shown.block(last).summary.txs[1].result.clone().unwrap_err();
    let refusal = Err(LedgerError::Refused(error));
    assert_eq!(submit(1, shown.tx(refused, last, last)), refusal);
    let broken = Err(LedgerError::Answer);
    assert_eq!(submit(0, shown.tx(refused, last, last)), broken);
    assert_eq!(submit(1, shown.tx(done, last, last)), broken);
}

/// Who has no block at a height that it shows to be over hides one.
#[test]
fn who_hides_a_block_is_turned_away() {
    let world = world();
    let shown = Shown::of(&world);
    for height in [FROM, FROM + 1, shown.last()] {
        let attestation = attest(shown.state(height));
        let told = effects_told(&world, Chained::none(attestation.clone()));
        assert_eq!(told, Err(LedgerError::Answer));
        let told = blocks_told(&world, Chained::none(attestation));
        assert_eq!(told, Err(LedgerError::Answer));
    }
}

/// Nor is there a height to come for who was shown a later one.
#[test]
fn who_is_behind_is_not_believed_to_have_no_block() {
    let world = world();
    let shown = Shown::of(&world);
    let none = |height| Answer::Effects(Box::new(Chained::none(attest(shown.state(height)))));
    let remote = answering(world.state.ledger_id(), [none(FROM), none(FROM - 1)]);
    let next = Height::new(FROM + 1);
    assert_eq!(now(remote.effects(next)), Ok(Vec::new()));
    let behind = LedgerError::Behind {
        expected: Height::new(FROM),
        found: Height::new(FROM - 1),
    };
    assert_eq!(now(remote.effects(next)), Err(behind));
}
