//! What is remembered, and for how long.

use cairn_core::{AccountId, Amount, Bounded, LedgerId, SecretKey, Signed, UnixMillis, ViewNumber};
use cairn_ledger::{Attested, LedgerKey, Tx, TxBody, tx_id};

use super::*;

fn id(number: u64) -> TxId {
    TxId::new(Digest::of(&number.to_le_bytes()))
}

fn block(height: u64, effects: Vec<Effect>) -> BlockEffects {
    BlockEffects {
        height: Height::new(height),
        time: UnixMillis::new(height),
        effects,
    }
}

/// A block of one transfer.
fn transfer(height: u64) -> Block {
    let key = SecretKey::from_bytes(&[1; 32]);
    let account = AccountId::new(key.public());
    let tx = Tx {
        account,
        nonce: height,
        fee: Amount::from_micro(2),
        body: TxBody::Transfer {
            to: account,
            amount: Amount::from_micro(1),
        },
    };
    Block {
        height: Height::new(height),
        parent: Digest::default(),
        time: UnixMillis::new(height),
        view: ViewNumber::new(height),
        seeds: Bounded::empty(),
        lost: Bounded::empty(),
        txs: Bounded::new(vec![Signed::sign(tx, &key)]).unwrap(),
        verdicts: Bounded::empty(),
    }
}

fn remember(history: &mut History, block: BlockEffects) {
    let summary = BlockSummary {
        effect_count: u32::try_from(block.effects.len()).unwrap(),
        ..BlockSummary::of(&transfer(block.height.get()), 0, [].into_iter())
    };
    history.remember(block, summary);
}

fn done(number: u64) -> Effect {
    Effect::TxDone {
        id: id(number),
        result: Ok(()),
    }
}

#[test]
fn blocks_are_given_from_any_height_that_is_remembered() {
    let mut history = History::after(Height::new(4), Digest::default());
    assert_eq!(history.from(Height::new(5)), Ok(vec![]));
    assert_eq!(
        history.from(Height::new(4)),
        Err(Forgotten {
            oldest: Height::new(5)
        })
    );
    for height in 5..10 {
        remember(&mut history, block(height, vec![done(height)]));
    }
    let heights = |from| -> Vec<u64> {
        let blocks = history.from(Height::new(from)).unwrap();
        blocks.iter().map(|block| block.height.get()).collect()
    };
    assert_eq!(heights(5), [5, 6, 7, 8, 9]);
    assert_eq!(heights(9), [9]);
    assert!(heights(10).is_empty());
    assert!(heights(u64::MAX).is_empty());
    assert_eq!(history.outcome(id(7)), Some(&(Height::new(7), Ok(()))));
    assert_eq!(history.outcome(id(4)), None);
}

#[test]
fn the_oldest_is_forgotten_at_the_bound() {
    let mut history = History::after(Height::ZERO, Digest::default());
    let most = u64::try_from(BLOCKS_MAX).unwrap();
    for height in 1..=most {
        remember(&mut history, block(height, vec![done(height)]));
    }
    assert!(history.from(Height::new(1)).is_ok());
    remember(&mut history, block(most + 1, vec![]));
    assert_eq!(
        history.from(Height::new(1)),
        Err(Forgotten {
            oldest: Height::new(2)
        })
    );
    assert_eq!(history.outcome(id(1)), None);
    assert!(history.outcome(id(2)).is_some());
}

#[test]
fn bytes_are_bounded_and_an_answer_takes_what_fits() {
    let mut history = History::after(Height::ZERO, Digest::default());
    let effects = vec![done(1); 10_000];
    let bytes = borsh::object_length(&block(1, effects.clone())).unwrap();
    let fitting = EFFECTS_BYTES_MAX / bytes;
    for height in 1..300 {
        remember(&mut history, block(height, effects.clone()));
    }
    assert!(history.bytes <= BYTES_MAX);
    let memory = {
        let summary = BlockSummary::of(&transfer(1), 0, [].into_iter());
        let seal = BlockSeal::of(&summary, &effects);
        Remembered::new(block(1, effects), summary, seal, Digest::default()).memory
    };
    assert!(memory >= bytes);
    assert_eq!(history.blocks.len(), BYTES_MAX / memory);
    let oldest = history.from(Height::new(1)).unwrap_err().oldest;
    assert_eq!(history.from(oldest).unwrap().len(), fitting);
}

#[test]
fn blocks_and_transactions_are_found_while_they_are_remembered() {
    let mut history = History::after(Height::new(2), Digest::default());
    let blocks: Vec<Block> = (3..600).map(transfer).collect();
    let id_of = |block: &Block| tx_id(&block.txs[0]);
    for block in &blocks {
        let refused = TxError::AmountZero;
        let id = id_of(block);
        let result = Err(refused);
        history.push(block, vec![Effect::TxDone { id, result }]);
    }
    // Nothing is shown before something is attested, and nothing beyond that.
    assert_eq!(history.shown_summaries(Height::new(5)), Ok(None));
    assert_eq!(history.shown_tx(id_of(&blocks[7])), None);
    let (attestation, key) = attested(&history, Height::new(580));
    history.attest(&attestation);
    let page = history.shown_summaries(Height::new(5)).unwrap().unwrap();
    assert_eq!(page.blocks.len(), BLOCKS_PAGE_MAX);
    let (seal, summary) = &page.blocks[0];
    let digest = cairn_core::Record::record_digest(&blocks[2]);
    assert_eq!((seal.block, summary.digest), (digest, digest));
    assert_eq!(summary.effect_count, 1);
    let attested = page.attestation.verify(ledger(), &key).unwrap();
    assert!(page.leads_to(attested, BlockSeal::has_summary));
    let last = history.shown_effects(Height::new(579)).unwrap().unwrap();
    assert_eq!(last.blocks.len(), 2);
    assert!(last.leads_to(attested, BlockSeal::has_effects));
    for beyond in [581, 599, 600, 700] {
        assert_eq!(history.shown_summaries(Height::new(beyond)), Ok(None));
    }
    let oldest = Height::new(3);
    let older = history.shown_summaries(Height::new(2));
    assert_eq!(older, Err(Forgotten { oldest }));
    assert_eq!(history.oldest(), oldest);
    assert!(history.shown_tx(id_of(&blocks[7])).is_some());
    assert_eq!(history.shown_tx(id(1)), None);
}

/// A blocks' page costs no more links than there are blocks between its last and the next that is
/// attested.
#[test]
fn links_are_no_longer_than_to_the_next_that_is_attested() {
    let mut history = History::after(Height::ZERO, Digest::default());
    for height in 1..=30 {
        history.push(&transfer(height), Vec::new());
    }
    let (attestation, _) = attested(&history, Height::new(30));
    history.attest(&attestation);
    let mut one = history.shown(Height::new(4), |_| ((), EFFECTS_BYTES_MAX / 2));
    assert_eq!(one.unwrap().unwrap().after.len(), 26);
    let (attestation, _) = attested(&history, Height::new(6));
    history.attest(&attestation);
    one = history.shown(Height::new(4), |_| ((), EFFECTS_BYTES_MAX / 2));
    assert_eq!(one.unwrap().unwrap().after.len(), 2);
}

fn ledger() -> LedgerId {
    LedgerId::default()
}

/// The attestation of a remembered height, and its key.
fn attested(history: &History, height: Height) -> (Attestation, LedgerKey) {
    let index = history.count_below(height).unwrap();
    let remembered = &history.blocks[index];
    let attested = Attested {
        ledger: ledger(),
        height,
        time: remembered.block.time,
        root: Digest::default(),
        chain: remembered.seal.follow(remembered.before),
    };
    let key = SecretKey::from_bytes(&[7; 32]);
    let attestation = Attestation::sign(attested, &key);
    (attestation, LedgerKey::Sequencer(key.public()))
}

#[test]
fn a_page_of_full_blocks_fits_an_answer() {
    let mut history = History::after(Height::ZERO, Digest::default());
    for height in 1..40 {
        let tx = transfer(height).txs[0].clone();
        let full = Block {
            txs: Bounded::new(vec![tx.clone(); cairn_ledger::block::TXS_MAX]).unwrap(),
            ..transfer(height)
        };
        let done = Effect::TxDone {
            id: tx_id(&tx),
            result: Ok(()),
        };
        history.push(&full, vec![done; cairn_ledger::block::TXS_MAX]);
    }
    let (attestation, _) = attested(&history, Height::new(39));
    history.attest(&attestation);
    let page = history.shown_summaries(Height::new(1)).unwrap().unwrap();
    assert!(
        (1..39).contains(&page.blocks.len()),
        "{}",
        page.blocks.len()
    );
    assert!(
        page.blocks
            .iter()
            .all(|(_, block)| block.txs.len() == cairn_ledger::block::TXS_MAX)
    );
    let bytes = borsh::object_length(&page.blocks).unwrap();
    assert!(bytes <= EFFECTS_BYTES_MAX + 4, "{bytes}");
}
