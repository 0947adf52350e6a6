//! Whom what was forfeited goes to (I4, I5).

use cairn_core::Amount;

use super::money::{
    ESCROW, NODES, PUT_DOWN, balance, collateral, earned, holders, put_down_by, repair, world,
};
use super::prover::{pass_epoch, prove_all};
use crate::effect::Effect;
use crate::group::DealState;
use crate::node::NodeStatus;
use crate::sample::{ENDOWED, OWNER, World, acknowledge, declare_loss, node, slot};
use crate::tx::TxBody;

#[test]
fn a_node_that_repairs_its_own_slot_earns_its_bounty_though_the_owner_closes() {
    let (mut world, id) = world();
    let place = slot(id, 0);
    let holders = holders(&world, id);
    pass_epoch(&mut world);
    prove_all(&mut world, &holders);
    world.accept(holders[0], declare_loss(place));
    assert_eq!(world.deal(place).bounty.micro(), repair());
    world.accept(holders[0], acknowledge(place, 1));
    world.accept(OWNER, TxBody::GroupClose { group: id });
    pass_epoch(&mut world);
    assert_eq!(world.deal(place).state, DealState::Idle);
    prove_all(&mut world, &holders);
    assert_eq!(balance(&world, holders[0]), repair() + 2 * earned());
    assert_eq!(put_down_by(&world, holders[0]), (PUT_DOWN - repair(), 0));
    let fees = world.state.fees();
    pass_epoch(&mut world);
    assert!(world.state.group(id).is_none());
    assert_eq!(balance(&world, OWNER), ENDOWED - 8 * earned());
    assert_eq!(world.state.fees(), fees);
}

#[test]
fn a_bounty_that_nobody_earned_is_not_the_owners() {
    let (mut world, id) = world();
    let holders = holders(&world, id);
    // Rebuilt, and never proven.
    world.accept(holders[0], declare_loss(slot(id, 0)));
    world.accept(holders[0], acknowledge(slot(id, 0), 1));
    world.accept(OWNER, TxBody::GroupClose { group: id });
    pass_epoch(&mut world);
    prove_all(&mut world, &holders[1..]);
    let effects = pass_epoch_effects(&mut world);
    assert!(effects.contains(&Effect::GroupClosed {
        group: id,
        refund: Amount::from_micro(ESCROW - 3 * earned()),
    }));
    assert_eq!(balance(&world, OWNER), ENDOWED - 3 * earned());
    assert_eq!(world.state.fees().micro(), repair());
}

fn pass_epoch_effects(world: &mut World) -> Vec<Effect> {
    let before = world.state.epoch().number;
    let mut effects = Vec::new();
    while world.state.epoch().number == before {
        effects = world.pass();
    }
    effects
}

#[test]
fn a_lost_slot_that_nobody_was_drawn_for_leaves_its_bounty_to_nobody() {
    let (mut world, id) = world();
    let lost = holders(&world, id)[0];
    pass_epoch(&mut world);
    world.accept(OWNER, TxBody::GroupClose { group: id });
    while world.state.epoch_at(world.next_block(&[], vec![]).time) == world.state.epoch().number {
        world.pass();
    }
    // Lost in the block that releases the group: what it had is frozen and it proves it.
    world.lose(&[lost]);
    assert_eq!(world.state.fees().micro(), repair());
    world.pass();
    prove_all(&mut world, &[lost]);
    assert_eq!(balance(&world, lost), earned());
    pass_epoch(&mut world);
    assert!(world.state.group(id).is_none());
    assert_eq!(balance(&world, OWNER), ENDOWED - earned());
}

#[test]
fn a_leaver_that_stopped_proving_pays_for_the_repair() {
    let (mut world, id) = world();
    let place = slot(id, 2);
    let leaver = world.holder(place);
    world.accept(leaver, TxBody::NodeDrain);
    world.pass();
    let successor = world.holder(place);
    let others: Vec<u8> = NODES.filter(|number| *number != leaver).collect();
    for _ in 0..2 {
        pass_epoch(&mut world);
        prove_all(&mut world, &others);
    }
    assert_eq!(put_down_by(&world, leaver), (PUT_DOWN, collateral()));
    let effects = world.accept(successor, acknowledge(place, 1));
    assert!(effects.contains(&Effect::SlotReleased {
        slot: place,
        node: node(leaver),
    }));
    assert!(effects.contains(&Effect::Forfeited {
        node: node(leaver),
        amount: Amount::from_micro(repair()),
    }));
    assert_eq!(put_down_by(&world, leaver), (PUT_DOWN - repair(), 0));
    pass_epoch(&mut world);
    prove_all(&mut world, &others);
    assert_eq!(balance(&world, successor), repair() + earned());
}

#[test]
fn a_suspect_whose_slot_is_drawn_anew_pays_for_the_repair() {
    let (mut world, id) = world();
    let place = slot(id, 0);
    let down = world.holder(place);
    let others: Vec<u8> = NODES.filter(|number| *number != down).collect();
    let mut epochs = 0;
    // 2-of-4 is urgent with one suspect.
    while world.deal(place).node == node(down) {
        pass_epoch(&mut world);
        prove_all(&mut world, &others);
        epochs += 1;
        assert!(
            epochs <= 5,
            "with three lapses at the latest it is drawn anew"
        );
    }
    assert_eq!(
        world.state.node(node(down)).unwrap().status,
        NodeStatus::Active
    );
    assert_eq!(put_down_by(&world, down), (PUT_DOWN - repair(), 0));
    assert_eq!(world.deal(place).bounty.micro(), repair());
}
