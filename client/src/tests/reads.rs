//! Reads.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use cairn_core::{SecretKey, UnixMillis};
use cairn_runtime::{Disk, RealRuntime, Runtime, Sim};

use crate::client::ClientConfig;
use crate::group_view::REFRESH_AFTER;
use crate::read::{ReadError, SlotReadFailure};
use crate::testing::{Behaviour, Lie, TestClient, TestOwner, World, noise, small};
use crate::tests::uploads::download;
use crate::tests::{file, run};
use crate::upload::{UploadOptions, Uploaded, reader_source};

async fn upload<R: Runtime>(owner: &TestOwner<R>, text: &[u8]) -> Uploaded {
    let source = reader_source(file("a"), Cursor::new(text.to_vec()));
    owner
        .upload(source, UploadOptions::default(), |_: &_| {})
        .await
        .unwrap()
}

async fn range(
    client: &TestClient<RealRuntime>,
    done: &Uploaded,
    offset: u64,
    count: u64,
) -> Result<bytes::Bytes, ReadError> {
    let open = client.open(&done.link).await?.only_file().unwrap();
    open.read_range(offset, count).await
}

#[test]
fn any_range_is_what_was_written() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let text = noise(9_000_000, 2);
        let done = upload(&owner, &text).await;
        let client = world.client(9);
        let open = client.open(&done.link).await.unwrap().only_file().unwrap();
        let edges = [
            0_u64, 1, 8_191, 8_192, 1_046_524, 4_186_111, 4_186_112, 8_999_999,
        ];
        for offset in edges {
            for count in [0, 1, 8_192, 100_001, 5_000_000] {
                let end = offset + count;
                let found = open.read_range(offset, count).await;
                if end > 9_000_000 {
                    assert!(matches!(found, Err(ReadError::Range { .. })));
                    continue;
                }
                let wanted = &text[usize::try_from(offset).unwrap()..usize::try_from(end).unwrap()];
                assert!(found.unwrap() == wanted, "{offset} {count}");
            }
        }
    });
}

/// I2: no unverified byte reaches a caller; a wrong shard is an error that names the node. In a
/// simulated world, so that no node seems late and is asked twice because the machine is busy.
#[test]
fn i2_no_unverified_byte_and_the_liar_is_named() {
    Sim::new(2).run(async |sim| {
        let world = World::new(sim.machine("nodes").runtime(), 8);
        let runtime = sim.machine("owner").runtime();
        let folder = Path::new("/owner");
        runtime.disk().create_dir_all(folder).unwrap();
        let client_of = |number| {
            let config = ClientConfig::default();
            world.client_of(runtime.clone(), number, config)
        };
        let owner = world.owner_with(folder, &client_of(1), small());
        let text = noise(9_000_000, 3);
        let done = upload(&owner, &text).await;
        let lies = [Lie::FlipsBits, Lie::ServesOther, Lie::ForgesRecords];
        for (number, lie) in (20..).zip(lies) {
            let liars: Vec<_> = world.nodes.keys().copied().take(4).collect();
            for liar in &liars {
                world.node(*liar).behave(lie.behaviour());
            }
            let client = client_of(number);
            let found = download(&client, &done.link).await.unwrap();
            assert!(found == text, "{lie:?}");
            let faults = client.faults();
            assert!(!faults.is_empty(), "{lie:?}");
            assert!(faults.iter().all(|fault| liars.contains(&fault.node)));
            assert!(
                faults.iter().all(|fault| names(lie, &fault.failure)),
                "{faults:?}"
            );
            // Those that it caught are not asked again; the others it may not have met yet.
            let caught: BTreeSet<_> = faults.iter().map(|fault| fault.node).collect();
            let asked = || caught.iter().map(|liar| world.node(*liar).get_count());
            let before: usize = asked().sum();
            let again = download(&client, &done.link).await.unwrap();
            assert!(again == text);
            let after: usize = asked().sum();
            assert_eq!(after, before, "{lie:?}: requests to nodes that lied");
            for liar in &liars {
                world.node(*liar).behave(Behaviour::default());
            }
        }
    });
}

/// Nodes that are unplugged, not stopped: nothing comes, and no connection breaks. In simulated
/// time.
#[test]
fn i1_silent_nodes_are_missing_within_seconds_and_slow_ones_are_waited_for() {
    Sim::new(3).run(async |sim| {
        let world = World::new(sim.machine("nodes").runtime(), 8);
        let runtime = sim.machine("owner").runtime();
        let folder = Path::new("/owner");
        runtime.disk().create_dir_all(folder).unwrap();
        let client_of = |number| {
            let config = ClientConfig::default();
            world.client_of(runtime.clone(), number, config)
        };
        let owner = world.owner_with(folder, &client_of(1), small());
        let text = noise(9_000_000, 3);
        let done = upload(&owner, &text).await;
        let delay = |count: usize, seconds: u64| {
            for (at, node) in world.nodes.keys().enumerate() {
                let delay = Duration::from_secs(if at < count { seconds } else { 0 });
                world.node(*node).behave(Behaviour {
                    delay,
                    ..Behaviour::default()
                });
            }
        };
        for (number, silent) in (20..).zip([1, 4, 5, 7]) {
            delay(silent, 1_000_000);
            let begun = runtime.monotonic();
            let found = download(&client_of(number), &done.link).await;
            let took = runtime.monotonic().saturating_sub(begun);
            match found {
                Ok(found) => assert!(silent <= 4 && found == text),
                Err(ReadError::TooFewSlots { missing, .. }) => {
                    assert_eq!((missing.len(), silent > 4), (silent, true));
                }
                Err(error) => panic!("{silent}: {error}"),
            }
            assert!(took < Duration::from_secs(12), "{silent} silent: {took:?}");
        }
        // A connection takes three seconds and an answer three more, of five nodes or of all.
        for (number, slow) in (30..).zip([5, 8]) {
            delay(slow, 3);
            let found = download(&client_of(number), &done.link).await.unwrap();
            assert!(found == text, "{slow} slow");
        }
    });
}

/// Whether the failure is what the lie should be taken for.
fn names(lie: Lie, failure: &SlotReadFailure) -> bool {
    match failure {
        SlotReadFailure::WrongBytes(_) => matches!(lie, Lie::FlipsBits | Lie::ServesOther),
        SlotReadFailure::OtherRecord => lie == Lie::ServesOther,
        SlotReadFailure::ForgedRecord(_) => lie == Lie::ForgesRecords,
        _ => false,
    }
}

#[test]
fn five_liars_of_eight_give_an_error_and_no_byte() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let done = upload(&owner, &noise(100_000, 4)).await;
        for node in world.nodes.values().take(5) {
            node.behave(Lie::FlipsBits.behaviour());
        }
        let error = download(&world.client(9), &done.link).await.unwrap_err();
        let ReadError::TooFewSlots { missing, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(missing.len(), 5);
        assert!(missing.iter().all(|slot| slot.failure.is_lie()));
    });
}

#[test]
fn a_truncated_answer_is_bypassed() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let text = noise(5_000_000, 5);
        let done = upload(&owner, &text).await;
        for node in world.nodes.values().take(4) {
            node.behave(Lie::Cuts.behaviour());
        }
        assert!(download(&world.client(9), &done.link).await.unwrap() == text);
    });
}

#[test]
fn a_slow_node_is_hedged_around() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let text = noise(30_000_000, 6);
        let done = upload(&owner, &text).await;
        let client = world.client(9);
        assert!(download(&client, &done.link).await.unwrap() == text);
        for node in world.nodes.values().take(2) {
            node.behave(Behaviour {
                delay: Duration::from_secs(8),
                ..Behaviour::default()
            });
        }
        let began = world.runtime.monotonic();
        for frame in 0..8 {
            let offset = frame * 1_000_000;
            let found = range(&client, &done, offset, 1_000).await.unwrap();
            let at = usize::try_from(offset).unwrap();
            assert_eq!(found, text[at..at + 1_000]);
        }
        let took = world.runtime.monotonic() - began;
        assert!(took < Duration::from_secs(7), "{took:?}");
    });
}

#[test]
fn a_redrawn_slot_is_noticed() {
    run(10, async |world, folder| {
        let owner = world.owner(folder);
        let text = noise(3_000_000, 7);
        let done = upload(&owner, &text).await;
        let client = world.client(9);
        assert!(download(&client, &done.link).await.unwrap() == text);
        let group = done.link.groups().next().unwrap();
        let before = world.ledger.group_now(group).unwrap();
        let lost = before.deals[0].node;
        world.kill(lost);
        world.ledger.lose(lost);
        let after = world.ledger.group_now(group).unwrap();
        assert_ne!(after.deals[0].node, lost);
        assert!(download(&client, &done.link).await.unwrap() == text);
        // Writing finds the new node as well, once it may ask the ledger again.
        world.runtime.sleep(REFRESH_AFTER).await;
        let more = upload(&owner, b"more").await;
        let report = more.slots.iter().find(|slot| slot.slot.get() == 0).unwrap();
        assert_eq!(report.left_count, 0, "{report:?}");
    });
}

#[test]
fn links_end_and_the_dht_helps_when_the_ledger_is_away() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let done = upload(&owner, b"here").await;
        let past = done
            .link
            .reissue(world.keys.identity(), UnixMillis::new(1))
            .unwrap();
        let error = world.client(9).open(&past).await.unwrap_err();
        assert!(matches!(error, ReadError::Expired { .. }), "{error}");
        assert!(
            done.link
                .reissue(&SecretKey::from_bytes(&[1; 32]), past.expires_at())
                .is_err()
        );
        world.ledger.take_down();
        assert_eq!(
            download(&world.client(10), &done.link).await.unwrap(),
            b"here"
        );
    });
}

#[test]
fn connections_are_used_again() {
    run(8, async |world, folder| {
        let owner = world.owner(folder);
        let text = noise(20 << 20, 8);
        let done = upload(&owner, &text).await;
        let client = world.client(9);
        assert!(download(&client, &done.link).await.unwrap() == text);
        let before = world.hub.traffic().streams;
        for offset in 0..20 {
            range(&client, &done, offset << 19, 65_536).await.unwrap();
        }
        assert_eq!(world.hub.traffic().streams, before);
    });
}
