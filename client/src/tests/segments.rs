//! An owner's groups as a store of segments.

use std::path::Path;

use bytes::Bytes;
use cairn_runtime::{Disk, Runtime, Sim};

use crate::owner::SegmentError;
use crate::segment_store::{SegmentAt, SegmentStore};
use crate::testing::{World, noise, small};

#[test]
fn segments_are_put_read_anywhere_and_given_up() {
    Sim::new(1).run(async |sim| {
        let world = World::new(sim.machine("nodes").runtime(), 8);
        let runtime = sim.machine("owner").runtime();
        let folder = Path::new("/owner");
        runtime.disk().create_dir_all(folder).unwrap();
        let owner = world.owner_with(folder, &world.client_on(runtime, 1), small());
        let mut kept: Vec<(SegmentAt, Vec<u8>)> = Vec::new();
        for (seed, bytes) in (0..).zip([1, 17, 8_208, 100_000, 4_194_288]) {
            let reserved = owner.reserve().await.unwrap();
            assert!(kept.iter().all(|(at, _)| *at != reserved.at));
            assert_eq!(reserved.payload_bytes_max, 4_194_288);
            let payload = noise(bytes, seed);
            owner
                .put(reserved.at, Bytes::from(payload.clone()))
                .await
                .unwrap();
            kept.push((reserved.at, payload));
        }
        SegmentStore::sync(&owner).await.unwrap();
        // Somebody who has seen nothing of it asks the nodes.
        let other = sim.machine("reader").runtime();
        other.disk().create_dir_all(folder).unwrap();
        let reader = world.owner_with(folder, &world.client_on(other, 2), small());
        for store in [&owner, &reader] {
            for (at, payload) in &kept {
                let bytes = u32::try_from(payload.len()).unwrap();
                assert_eq!(store.payload_bytes(*at).await.unwrap(), bytes);
                for range in [0..bytes, bytes / 3..bytes, bytes - 1..bytes, 0..1] {
                    let found = store.read(*at, range.clone()).await.unwrap();
                    let start = usize::try_from(range.start).unwrap();
                    let end = usize::try_from(range.end).unwrap();
                    assert!(found == payload[start..end], "{at} {range:?}");
                }
                let beyond = store.read(*at, 0..bytes + 1).await.unwrap_err();
                assert!(matches!(beyond, SegmentError::Range { .. }), "{beyond}");
            }
        }
        let (first, _) = kept[0];
        owner.discard(vec![first]).await.unwrap();
        // Once more does nothing.
        owner.discard(vec![first]).await.unwrap();
        SegmentStore::sync(&owner).await.unwrap();
        let group = world.ledger.group_now(first.group).unwrap();
        assert_eq!(group.revision.segment_count, 5);
        owner.close().await.unwrap();
    });
}

#[test]
fn a_name_is_good_for_one_payload() {
    Sim::new(2).run(async |sim| {
        let world = World::new(sim.machine("nodes").runtime(), 8);
        let machine = sim.machine("owner");
        let runtime = machine.runtime();
        let folder = Path::new("/owner");
        runtime.disk().create_dir_all(folder).unwrap();
        let owner = world.owner_with(folder, &world.client_on(runtime, 1), small());
        let first = owner.reserve().await.unwrap();
        let over = vec![0; usize::try_from(first.payload_bytes_max).unwrap() + 1];
        for wrong in [Vec::new(), over] {
            let reserved = owner.reserve().await.unwrap();
            let error = owner.put(reserved.at, wrong.into()).await.unwrap_err();
            assert!(matches!(error, SegmentError::Payload { .. }), "{error}");
        }
        owner
            .put(first.at, Bytes::from_static(b"one"))
            .await
            .unwrap();
        let again = owner.put(first.at, Bytes::from_static(b"two")).await;
        let again = again.unwrap_err();
        assert!(matches!(again, SegmentError::NotReserved { .. }), "{again}");
        // What was reserved before a crash is never given again.
        let reserved = owner.reserve().await.unwrap();
        machine.crash();
        let runtime = machine.restart();
        let owner = world.owner_with(folder, &world.client_on(runtime, 3), small());
        for _ in 0..5 {
            let next = owner.reserve().await.unwrap();
            assert!(next.at != reserved.at && next.at != first.at);
        }
        let found = owner.read(first.at, 0..3).await.unwrap();
        assert_eq!(&found[..], b"one");
    });
}
