//! What goes wrong with nodes is found, named and bounded in time.

use std::path::Path;
use std::time::Duration;

use cairn_core::{Blame, ErrorCode, Retry};
use cairn_net::NetError;
use cairn_net::data::DataError;
use cairn_runtime::sim::{ClockError, Machine};
use cairn_runtime::{Disk, Runtime, Sim, SimRuntime};

use crate::link::LINK_LIFETIME_DEFAULT;
use crate::read::{MissingSlot, ReadError, SlotReadFailure};
use crate::testing::{Behaviour, Lie, World, noise, small};
use crate::tests::uploads::{download, upload};
use crate::upload::Uploaded;

/// A world whose nodes have a machine of their own, and an upload of 9 MB.
async fn world(sim: &Sim, text: &[u8]) -> (World<SimRuntime>, Machine, Uploaded) {
    let nodes = sim.machine("nodes");
    let world = World::new(nodes.runtime(), 8);
    let runtime = sim.machine("owner").runtime();
    let folder = Path::new("/owner");
    runtime.disk().create_dir_all(folder).unwrap();
    let owner = world.owner_with(folder, &world.client_on(runtime, 1), small());
    let done = upload(&owner, text).await;
    owner.close().await.unwrap();
    (world, nodes, done)
}

fn silence() -> Behaviour {
    Behaviour {
        delay: Duration::from_secs(3_600),
        ..Behaviour::default()
    }
}

async fn missing(sim: &Sim, world: &World<SimRuntime>, done: &Uploaded) -> Vec<MissingSlot> {
    let client = world.client_on(sim.machine("reader").runtime(), 9);
    let error = download(&client, &done.link).await.unwrap_err();
    let ReadError::TooFewSlots { missing, .. } = error else {
        panic!("{error}");
    };
    missing
}

/// Nodes that are unplugged do not refuse connections: they say nothing.
#[test]
fn five_silent_nodes_of_eight_are_named() {
    let text = noise(9_000_000, 1);
    Sim::new(1).run(async |sim| {
        let (world, _, done) = world(&sim, &text).await;
        let silent: Vec<_> = world.nodes.keys().copied().take(5).collect();
        for id in &silent {
            world.node(*id).behave(silence());
        }
        let missing = missing(&sim, &world, &done).await;
        let mut named: Vec<_> = missing.iter().filter_map(|slot| slot.node).collect();
        named.sort_unstable();
        assert_eq!(named, silent);
    });
}

#[test]
fn four_silent_nodes_of_eight_cost_seconds_and_no_byte() {
    let text = noise(9_000_000, 2);
    Sim::new(2).run(async |sim| {
        let (world, _, done) = world(&sim, &text).await;
        for node in world.nodes.values().take(4) {
            node.behave(silence());
        }
        let client = world.client_on(sim.machine("reader").runtime(), 9);
        let begun = sim.elapsed();
        assert!(download(&client, &done.link).await.unwrap() == text);
        let took = sim.elapsed().saturating_sub(begun);
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

/// A reader whose clock is behind presents a capability that has ended.
#[test]
fn a_stale_capability_is_named_and_not_tried_again() {
    let text = noise(100_000, 3);
    Sim::new(3).run(async |sim| {
        let (world, nodes, done) = world(&sim, &text).await;
        nodes.set_clock(ClockError::Ahead(LINK_LIFETIME_DEFAULT));
        let client = world.client_on(sim.machine("reader").runtime(), 9);
        let error = download(&client, &done.link).await.unwrap_err();
        assert_eq!(
            (error.retry(), error.blame()),
            (Retry::Never, Blame::Caller)
        );
        let ReadError::TooFewSlots { missing, .. } = error else {
            panic!("{error}");
        };
        let is_stale = |slot: &MissingSlot| {
            let SlotReadFailure::Data(DataError::Remote { code, .. }) = &slot.failure else {
                return false;
            };
            *code == ErrorCode::CapabilityExpired
        };
        assert!(missing.iter().all(is_stale), "{missing:?}");
        assert!(client.faults().is_empty(), "nobody lied");
    });
}

#[test]
fn streams_cut_short_are_named() {
    let text = noise(100_000, 4);
    Sim::new(4).run(async |sim| {
        let (world, _, done) = world(&sim, &text).await;
        for node in world.nodes.values().take(5) {
            node.behave(Lie::Cuts.behaviour());
        }
        let missing = missing(&sim, &world, &done).await;
        assert_eq!(missing.len(), 5);
        for slot in missing {
            let SlotReadFailure::Data(DataError::Net(NetError::Disconnected { peer, .. })) =
                slot.failure
            else {
                panic!("{:?}", slot.failure);
            };
            assert_eq!(Some(peer), slot.node);
        }
    });
}
