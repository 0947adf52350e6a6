//! The state as bytes, and the invariants that are named after the design's.

use cairn_core::{Amount, Digest, Record};

use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::sample::{
    ENDOWED, OWNER, World, account, acknowledge, key, ledger, node, open, register, revise, slot,
    terms,
};
use crate::state::{Expected, State, check_signature};
use crate::tx::TxBody;
use crate::tx_error::TxError;

/// A ledger with everything in it: deals held, leaving, vacant and waiting, a group not drawn.
fn busy() -> World {
    let places: Vec<_> = (1..=5).map(|number| (number, number, number)).collect();
    let mut world = World::with_nodes(8, &places);
    let id = world.place(2, 4);
    world.place(2, 4);
    world.accept(OWNER, revise(id, 1, 5));
    for index in [0, 1] {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    world.accept(world.holder(slot(id, 0)), TxBody::NodeDrain);
    world.pass();
    world.accept(world.holder(slot(id, 1)), TxBody::NodeDrain);
    world.lose(&[world.holder(slot(id, 2))]);
    world.pass();
    for number in 30..34 {
        let mut cheap = terms(4, (number, 1, 1));
        cheap.price = Amount::from_micro(9);
        world.accept(number, register(number, OWNER, cheap));
    }
    let tx = world.signed(3, open(2, 4));
    world.submit(tx).1.unwrap();
    world
}

#[test]
fn i4_conservation_holds_after_every_block() {
    let world = busy();
    let mut state = World::new(Parameters::default()).state;
    for block in &world.blocks {
        state.apply(block).unwrap();
        let balances: u64 = (0..=60)
            .map(|number| state.account(account(number)).balance.micro())
            .sum();
        let escrows: u64 = state.groups().map(|group| group.escrow.micro()).sum();
        assert_eq!(balances + escrows + state.fees().micro(), 4 * ENDOWED);
        assert_eq!(state.supply(), Amount::from_micro(4 * ENDOWED));
    }
}

#[test]
fn i10_determinism_equal_blocks_give_equal_states() {
    let world = busy();
    let mut checked = World::new(Parameters::default()).state;
    let mut stored = checked.clone();
    for block in &world.blocks {
        let effects = checked.apply(block).unwrap();
        // From bytes each time, and without the signatures.
        stored = State::decode(&stored.encode()).unwrap();
        assert_eq!(stored.apply_checked(block).unwrap(), effects);
        assert_eq!(stored, checked);
    }
    assert_eq!(checked.record_digest(), world.digest());
}

#[test]
fn a_state_has_one_encoding_and_must_be_sound() {
    let world = busy();
    let bytes = world.state.encode();
    let decoded = State::decode(&bytes).unwrap();
    assert_eq!(decoded, world.state);
    assert_eq!(decoded.encode(), bytes);
    assert!(State::decode(&bytes[..bytes.len() - 1]).is_err());
    // More supply than there is.
    let mut other = bytes.clone();
    let supply = (4 * ENDOWED).to_le_bytes();
    let at = other
        .windows(8)
        .position(|window| window == supply)
        .unwrap();
    other[at] ^= 1;
    assert!(State::decode(&other).is_err());
}

#[test]
fn checking_before_ordering_agrees_with_the_order() {
    let mut world = busy();
    let good = world.signed(
        OWNER,
        TxBody::Transfer {
            to: account(9),
            amount: Amount::from_micro(1),
        },
    );
    assert_eq!(check_signature(&good, ledger()), Ok(()));
    let tx = good.unverified();
    assert_eq!(world.state.check(tx), Ok(()));
    let nonce = |expected| TxError::Nonce {
        account: account(OWNER),
        expected,
        found: tx.nonce,
    };
    let after = |count, cost| Expected::After { count, cost };
    assert_eq!(
        world.state.check_account(tx, after(2, 0)),
        Err(nonce(tx.nonce + 2))
    );
    let mut later = tx.clone();
    later.nonce += 2;
    let balance = world.state.account(account(OWNER)).balance;
    let others = u128::from(balance.micro() - 1);
    assert_eq!(world.state.check_account(&later, after(2, others)), Ok(()));
    assert_eq!(
        world.state.check_account(&later, after(2, others + 1)),
        Err(TxError::Funds {
            account: account(OWNER),
            expected: Amount::from_micro(balance.micro() + 1),
            found: balance,
        })
    );
    let signed = cairn_core::Signed::sign_for(later, ledger(), &key(2));
    assert!(matches!(
        check_signature(&signed, ledger()),
        Err(TxError::Signer { .. })
    ));
    let (effects, result) = world.submit(good);
    assert_eq!(result, Ok(()));
    assert!(
        effects
            .iter()
            .all(|effect| !matches!(effect, Effect::TxDone { .. }))
    );
}

#[test]
fn status_and_slots_tell_what_is_there() {
    let world = busy();
    let status = world.state.status();
    assert_eq!(status.node_count, 9);
    assert_eq!(status.group_count, 3);
    assert_eq!(status.ledger, world.state.ledger_id());
    assert_eq!(status.tip, world.blocks.last().unwrap().record_digest());
    assert_ne!(status.tip, Digest::default());
    let active = world
        .state
        .nodes()
        .filter(|entry| entry.status == crate::node::NodeStatus::Active);
    assert_eq!(
        status.active_node_count,
        u64::try_from(active.count()).unwrap()
    );
    // Pages of slots are the whole list.
    let holder = (10..15)
        .find(|number| world.state.slots_of(node(*number), None).count() == 2)
        .unwrap();
    let all: Vec<_> = world.state.slots_of(node(holder), None).collect();
    let rest: Vec<_> = world.state.slots_of(node(holder), Some(all[0])).collect();
    assert_eq!(rest, all[1..]);
    assert_eq!(world.state.slots_of(node(200), None).count(), 0);
}
