//! Which view's seed draws what: the one that is named when it is asked for.

use cairn_core::{Bounded, UnixMillis, ViewNumber};

use super::money::{nodes_at, parameters, written_group};
use super::prover::EPOCH;
use crate::block::ViewSeed;
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::group::Deal;
use crate::sample::{World, slot};

const NODES: std::ops::Range<u8> = 10..40;
const N: u8 = 20;
const LAG: u64 = 3;

/// Nodes that ask nothing, on a ledger whose seeds come later.
fn world() -> World {
    let parameters = Parameters {
        epoch_millis: 8 * EPOCH,
        collateral_epochs: 0,
        seed_lag_views: LAG,
        ..parameters()
    };
    nodes_at(0, parameters, NODES)
}

/// A block with nothing in it, at a time or later.
fn step(world: &mut World, time: UnixMillis) -> Vec<Effect> {
    let mut block = world.next_block(&[], Vec::new());
    block.time = block.time.max(time);
    world.apply(block)
}

fn moved_count(effects: &[Effect]) -> usize {
    let is_moved = |effect: &&Effect| matches!(effect, Effect::SlotMoved { .. });
    effects.iter().filter(is_moved).count()
}

#[test]
fn repaired_slots_are_drawn_by_the_seed_of_the_view_that_was_named() {
    let mut world = world();
    let id = written_group(&mut world, N, 1_000, 100);
    let lost: Vec<u8> = (0..4).map(|index| world.holder(slot(id, index))).collect();
    // 10-of-20 has its slots drawn anew at 17 healthy ones.
    world.lose(&lost);
    let asked = world.state.view().get();
    let waiting = world.clone();
    for _ in 0..LAG {
        assert_eq!(moved_count(&step(&mut world, UnixMillis::new(0))), 0);
        assert!(world.state.has_draws());
    }
    // This block carries the seed of the view before it.
    assert_eq!(moved_count(&step(&mut world, UnixMillis::new(0))), 4);
    assert_eq!(world.state.view().get(), asked + LAG + 1);

    let drawn_by = |seeds: &[(u64, u8)]| -> Vec<Deal> {
        let mut other = waiting.clone();
        let mut block = other.next_block(&[], Vec::new());
        block.view = ViewNumber::new(asked + 20);
        let seed = |&(lag, byte): &(u64, u8)| ViewSeed {
            view: ViewNumber::new(asked + lag),
            signature: Bounded::new(vec![byte]).unwrap(),
        };
        block.seeds = Bounded::new(seeds.iter().map(seed).collect()).unwrap();
        other.apply(block);
        other.group(id).deals.clone()
    };
    let before = waiting.group(id).deals.clone();
    assert_eq!(drawn_by(&[(1, 1), (2, 2)]), before, "none is due");
    let named = drawn_by(&[(3, 7)]);
    assert_ne!(named, before);
    assert_eq!(drawn_by(&[(1, 1), (2, 2), (3, 7), (4, 9)]), named);
    assert_eq!(drawn_by(&[(5, 7), (6, 1)]), named, "the first that is late");
    assert!((8..16).any(|byte| drawn_by(&[(3, byte)]) != named));
}

#[test]
fn an_epoch_opens_with_the_seed_of_the_view_that_was_named() {
    let mut world = world();
    // Some epochs after the blocks so far, of which there was one each millisecond from 1,000 on.
    let time = UnixMillis::new(2_000);
    let begun = step(&mut world, time);
    assert!(
        matches!(begun[..], [Effect::EpochBegan(_), ..]),
        "{begun:?}"
    );
    for _ in 0..LAG {
        step(&mut world, time);
        assert_eq!(world.state.epoch().seed, None);
    }
    let named = world.next_block(&[], Vec::new()).seeds[0].digest();
    step(&mut world, time);
    assert_eq!(world.state.epoch().seed, Some(named));
}
