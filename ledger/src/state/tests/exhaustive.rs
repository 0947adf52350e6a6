//! Every order of a small set of transactions, one in a block and all in one.

use cairn_core::{GroupId, NodeId};

use crate::group::DealState;
use crate::sample::{
    OWNER, World, acknowledge, declare_loss, node, open, register, revise, slot, terms,
};
use crate::tx::{Tx, TxBody};

/// What is put in every order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Revise,
    Acknowledge,
    Drain,
    Lose,
    DeclareLoss,
    Register,
    Open,
}

const OPS: [Op; 7] = [
    Op::Revise,
    Op::Acknowledge,
    Op::Drain,
    Op::Lose,
    Op::DeclareLoss,
    Op::Register,
    Op::Open,
];

/// Six nodes, a placed group at revision 1, the node of its slot 0.
fn begin() -> (World, GroupId, u8) {
    let places: Vec<_> = (1..=6).map(|number| (number, number, number)).collect();
    let mut world = World::with_nodes(8, &places);
    let id = world.place(2, 4);
    world.accept(OWNER, revise(id, 1, 1));
    let holder = world.holder(slot(id, 0));
    (world, id, holder)
}

/// Who sends what; `None` when it is no transaction.
fn body(op: Op, id: GroupId, holder: u8) -> Option<(u8, TxBody)> {
    match op {
        Op::Revise => Some((OWNER, revise(id, 2, 2))),
        Op::Acknowledge => Some((holder, acknowledge(slot(id, 0), 1))),
        Op::Drain => Some((holder, TxBody::NodeDrain)),
        Op::DeclareLoss => Some((holder, declare_loss(slot(id, 0)))),
        Op::Register => Some((40, register(40, 40, terms(8, (9, 9, 9))))),
        Op::Open => Some((2, open(2, 4))),
        Op::Lose => None,
    }
}

/// Calls `each` with every order of `ops`.
fn permutations(ops: &mut Vec<Op>, at: usize, each: &mut impl FnMut(&[Op])) {
    if at == ops.len() {
        each(ops);
        return;
    }
    for other in at..ops.len() {
        ops.swap(at, other);
        permutations(ops, at + 1, each);
        ops.swap(at, other);
    }
}

/// Lets all draws through; then every slot has a node, since there is room for all.
fn settle(world: &mut World, order: &[Op]) {
    for _ in 0..8 {
        world.pass();
    }
    assert!(!world.state.has_draws(), "{order:?}");
    let deals = world.state.groups().flat_map(|group| &group.deals);
    let mut count = 0;
    for deal in deals {
        assert_eq!(deal.state, DealState::Held, "{order:?}");
        count += 1;
    }
    assert!(count >= 4, "{order:?}");
}

#[test]
fn every_order_in_blocks_of_one_is_sound() {
    let (begun, id, holder) = begin();
    let mut orders = 0;
    // All orders of every five of the seven.
    let pairs = (0..OPS.len()).flat_map(|first| (0..first).map(move |second| (first, second)));
    for (first, second) in pairs {
        let is_left_out = |op: &Op| *op == OPS[first] || *op == OPS[second];
        let mut ops: Vec<Op> = OPS.into_iter().filter(|op| !is_left_out(op)).collect();
        permutations(&mut ops, 0, &mut |order| {
            let mut world = begun.clone();
            for op in order {
                match body(*op, id, holder) {
                    Some((from, body)) => {
                        let tx = world.signed(from, body);
                        // Done or refused; `World` audits the state either way.
                        let block = world.next_block(&[], vec![tx]);
                        world.apply(block);
                    }
                    None => {
                        world.lose(&[holder]);
                    }
                }
            }
            settle(&mut world, order);
            orders += 1;
        });
    }
    assert_eq!(orders, 21 * 120);
}

#[test]
fn every_order_in_one_block_is_sound() {
    let (begun, id, holder) = begin();
    let lost: [&[NodeId]; 2] = [&[], &[node(holder)]];
    let mut ops: Vec<Op> = OPS.into_iter().filter(|op| *op != Op::Lose).collect();
    permutations(&mut ops, 0, &mut |order| {
        for lost in lost {
            let mut world = begun.clone();
            // The holder sends three: their nonces follow their order.
            let mut sent = 0;
            let mut txs = Vec::new();
            for op in order {
                let (from, body) = body(*op, id, holder).unwrap();
                let tx = world.signed(from, body).into_unverified();
                let nonce = tx.nonce + if from == holder { sent } else { 0 };
                sent += u64::from(from == holder);
                txs.push(world.sign(Tx { nonce, ..tx }, from));
            }
            world.apply(world.next_block(lost, txs));
            settle(&mut world, order);
        }
    });
}

/// No order of changes within an epoch changes what any node must prove in it (I5).
#[test]
fn i5_no_order_of_changes_changes_a_challenge() {
    let mut begun = super::prover::world(6);
    let id = begun.place(2, 4);
    for number in 1..=2 {
        let revision = super::prover::written(id, number, 4);
        begun.accept(OWNER, TxBody::GroupRevise { revision });
        for index in 0..4 {
            let place = slot(id, index);
            begun.accept(begun.holder(place), acknowledge(place, 1));
        }
    }
    super::prover::pass_epoch(&mut begun);
    let holder = begun.holder(slot(id, 0));
    let body = |op: Op| match op {
        Op::Revise => {
            let revision = super::prover::written(id, 3, 4);
            Some((OWNER, TxBody::GroupRevise { revision }))
        }
        Op::Acknowledge => Some((holder, acknowledge(slot(id, 0), 2))),
        Op::Register => Some((holder, begun.registration(holder, terms(8, (9, 9, 9))))),
        _ => body(op, id, holder),
    };
    let challenges = |world: &World| {
        let nodes = world.state.nodes().map(|entry| entry.node);
        let challenges = nodes.map(|node| world.state.challenge(node));
        challenges.collect::<Vec<_>>()
    };
    let expected = challenges(&begun);
    assert!(
        expected
            .iter()
            .flatten()
            .any(|challenge| challenge.position_count() > 0)
    );
    let mut ops: Vec<Op> = OPS.into_iter().filter(|op| *op != Op::Open).collect();
    let epoch = begun.state.epoch().number;
    permutations(&mut ops, 0, &mut |order| {
        let mut world = begun.clone();
        for op in order {
            let txs = body(*op).map(|(from, body)| world.signed(from, body));
            let lost = [node(holder)];
            let lost: &[NodeId] = if txs.is_none() { &lost } else { &[] };
            world.apply(world.next_block(lost, txs.into_iter().collect()));
            assert_eq!(challenges(&world), expected, "{order:?}");
        }
        assert_eq!(world.state.epoch().number, epoch, "one epoch");
    });
}
