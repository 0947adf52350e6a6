//! What is remembered, and for how long.

use cairn_core::{Digest, UnixMillis};

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

fn done(number: u64) -> Effect {
    Effect::TxDone {
        id: id(number),
        result: Ok(()),
    }
}

#[test]
fn blocks_are_given_from_any_height_that_is_remembered() {
    let mut history = History::after(Height::new(4));
    assert_eq!(history.from(Height::new(5)), Ok(vec![]));
    assert_eq!(
        history.from(Height::new(4)),
        Err(Forgotten {
            oldest: Height::new(5)
        })
    );
    for height in 5..10 {
        history.push(block(height, vec![done(height)]));
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
    let mut history = History::after(Height::ZERO);
    let most = u64::try_from(BLOCKS_MAX).unwrap();
    for height in 1..=most {
        history.push(block(height, vec![done(height)]));
    }
    assert!(history.from(Height::new(1)).is_ok());
    history.push(block(most + 1, vec![]));
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
    let mut history = History::after(Height::ZERO);
    let effects = vec![done(1); 10_000];
    let bytes = borsh::object_length(&block(1, effects.clone())).unwrap();
    let fitting = EFFECTS_BYTES_MAX / bytes;
    for height in 1..300 {
        history.push(block(height, effects.clone()));
    }
    assert!(history.bytes <= BYTES_MAX);
    let memory = Remembered::new(block(1, effects)).memory;
    assert!(memory >= bytes);
    assert_eq!(history.blocks.len(), BYTES_MAX / memory);
    let oldest = history.from(Height::new(1)).unwrap_err().oldest;
    assert_eq!(history.from(oldest).unwrap().len(), fitting);
}

#[test]
fn what_two_blocks_carry_was_done_by_the_first() {
    let mut history = History::after(Height::ZERO);
    let refused = Effect::TxDone {
        id: id(7),
        result: Err(TxError::Malformed),
    };
    history.push(block(1, vec![refused.clone()]));
    assert!(history.outcome(id(7)).unwrap().1.is_err());
    history.push(block(2, vec![done(7)]));
    history.push(block(3, vec![refused]));
    assert_eq!(history.outcome(id(7)), Some(&(Height::new(2), Ok(()))));
}
