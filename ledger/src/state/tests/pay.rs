//! Pay for proven epochs (I4, I5).

use cairn_core::{Amount, Bounded, ByteCount, Code, GroupId};
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::prover::{EPOCH, judged, pass_epoch, proof, prove_all, submission, written};
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::sample::{OWNER, World, acknowledge, node, slot, terms};
use crate::tx::{NodeTerms, TxBody, group_id, tx_id};

pub(super) const NODES: std::ops::Range<u8> = 10..16;
/// So that slots of a few hundred bytes earn something.
pub(super) const PRICE: u64 = (1 << 30) / 100;

fn priced(price: u64) -> NodeTerms {
    NodeTerms {
        price: Amount::from_micro(price),
        ..terms(8, (1, 1, 1))
    }
}

/// A placed group at revision 1, acknowledged by all, of nodes at this price.
pub(super) fn paid_world(price: u64, escrow: u64) -> (World, GroupId) {
    let mut world = World::new(Parameters {
        epoch_millis: 2 * EPOCH,
        ..Parameters::default()
    });
    for number in NODES {
        world.accept(number, world.registration(number, priced(price)));
    }
    let open = TxBody::GroupOpen {
        code: Code::new(2, 4).unwrap(),
        slot_capacity: ByteCount::new(1 << 20),
        price_max: Amount::from_micro(price),
        term_epochs: 24,
        escrow: Amount::from_micro(escrow),
    };
    let tx = world.signed(OWNER, open);
    let id = group_id(tx_id(&tx));
    world.submit(tx).1.unwrap();
    world.pass();
    let revision = written(id, 1, 4);
    world.accept(OWNER, TxBody::GroupRevise { revision });
    for index in 0..4 {
        let place = slot(id, index);
        world.accept(world.holder(place), acknowledge(place, 1));
    }
    (world, id)
}

fn balance(world: &World, number: u8) -> u64 {
    let account = crate::sample::account(number);
    world.state.account(account).balance.micro()
}

pub(super) fn earned(price: u64) -> u64 {
    let bytes = written(GroupId::default(), 1, 4).slot_bytes.get();
    u64::try_from((u128::from(bytes) * u128::from(price)) >> 30).unwrap()
}

fn paid(effects: &[Effect]) -> Vec<(u8, u64, u64)> {
    let paid = |effect: &Effect| match *effect {
        Effect::Paid {
            node, due, amount, ..
        } => Some((crate::sample::party(node), due.micro(), amount.micro())),
        _ => None,
    };
    effects.iter().filter_map(paid).collect()
}

#[test]
fn a_proven_epoch_is_paid_once_at_the_price_of_the_draw_and_another_is_not() {
    let (mut world, id) = paid_world(PRICE, 1_000);
    let holder = world.holder(slot(id, 0));
    let due = earned(PRICE);
    assert!(due > 1);
    // A price that it asks later is for later draws.
    world.accept(holder, TxBody::NodeUpdate { terms: priced(1) });
    let everyone: Vec<u8> = NODES.collect();
    assert_eq!(
        paid(&prove_all(&mut world, &everyone)),
        [],
        "nothing was frozen yet"
    );
    pass_epoch(&mut world);
    assert_eq!(balance(&world, holder), 0);
    assert_eq!(
        paid(&prove_all(&mut world, &[holder])),
        [(holder, due, due)]
    );
    assert_eq!(balance(&world, holder), due);
    assert_eq!(world.group(id).escrow.micro(), 1_000 - due);
    // The others miss it, and it is not made up for.
    pass_epoch(&mut world);
    assert_eq!(world.group(id).escrow.micro(), 1_000 - due);
    let other = world.holder(slot(id, 1));
    assert_eq!(paid(&prove_all(&mut world, &[other])), [(other, due, due)]);
}

#[test]
fn i5_no_pay_without_a_valid_proof() {
    let (mut world, id) = paid_world(PRICE, 1_000);
    pass_epoch(&mut world);
    let liar = world.holder(slot(id, 0));
    let mut wrong = proof(&world, liar).unwrap();
    wrong.slots = Bounded::empty();
    let wrong = cairn_core::Record::encode(&wrong);
    let tx = world.signed(liar, submission(&world, &wrong));
    let block = judged(&world, vec![tx], &[wrong]);
    assert_eq!(paid(&world.apply(block)), []);
    assert_eq!(balance(&world, liar), 0);
    assert_eq!(world.group(id).escrow.micro(), 1_000);
}

#[test]
fn a_dry_escrow_pays_what_it_has_and_the_group_goes_on() {
    let due = earned(PRICE);
    let (mut world, id) = paid_world(PRICE, 2 * due - 1);
    pass_epoch(&mut world);
    let holders: Vec<u8> = (0..4).map(|index| world.holder(slot(id, index))).collect();
    let expected: Vec<_> = holders
        .iter()
        .zip([due, due - 1, 0, 0])
        .map(|(holder, amount)| (*holder, due, amount))
        .collect();
    assert_eq!(paid(&prove_all(&mut world, &holders)), expected);
    assert_eq!(world.group(id).escrow, Amount::ZERO);
    assert_eq!(world.group(id).current_count(), 4);
}

#[test]
fn a_slot_that_was_left_within_the_epoch_is_paid_at_its_price() {
    let (mut world, id) = paid_world(PRICE, 1_000);
    pass_epoch(&mut world);
    let place = slot(id, 0);
    let lost = world.holder(place);
    let due = earned(PRICE);
    world.lose(&[lost]);
    world.pass();
    assert_ne!(world.holder(place), lost);
    assert_eq!(paid(&prove_all(&mut world, &[lost])), [(lost, due, due)]);
    // And not its successor, which had nothing of it.
    let successor = world.holder(place);
    assert_eq!(paid(&prove_all(&mut world, &[successor])), []);
}

#[test]
fn the_price_of_an_epoch_is_rounded_down() {
    use crate::group::epoch_price;
    let gib = 1_u64 << 30;
    let price = |bytes, price| {
        let price = epoch_price(ByteCount::new(bytes), Amount::from_micro(price));
        price.map(Amount::micro)
    };
    assert_eq!(price(gib, 5), Some(5));
    assert_eq!(price(gib - 1, 5), Some(4));
    assert_eq!(price(2 * gib, 5), Some(10));
    assert_eq!(price(0, 5), Some(0));
    assert_eq!(price(gib, u64::MAX), Some(u64::MAX));
    assert_eq!(price(2 * gib, u64::MAX), None);
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, max_shrink_iters: 60, ..Default::default() })]

    /// Whoever proves in whichever epoch, what left the escrow is what was paid (I4), and a node
    /// has exactly what its proofs earned while the escrow lasted.
    #[test]
    fn i4_every_epoch_pays_what_it_takes(
        price in 0..20 * PRICE,
        escrow in 0..1_000_u64,
        proving in proptest::collection::vec(any::<u8>(), 1..6),
    ) {
        let (mut world, id) = paid_world(price, escrow);
        let due = earned(price);
        let mut left = escrow;
        let mut expected = [0; 256];
        for mask in proving {
            pass_epoch(&mut world);
            let parties: Vec<u8> = NODES.filter(|number| (mask >> (number - 10)) & 1 == 1).collect();
            for number in &parties {
                let holds = world.group(id).deals.iter().any(|deal| deal.node == node(*number));
                let amount = if holds { due.min(left) } else { 0 };
                left -= amount;
                expected[usize::from(*number)] += amount;
            }
            prove_all(&mut world, &parties);
            prop_assert_eq!(world.group(id).escrow.micro(), left);
            for number in NODES {
                prop_assert_eq!(balance(&world, number), expected[usize::from(number)]);
            }
        }
    }
}
