//! Groups stay paid as long as their owner can pay and looks in.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use cairn_core::{Amount, EpochNumber, GroupId};
use cairn_ledger::{Ledger, Parameters};
use cairn_runtime::RealRuntime;

use crate::owner::{OpenGroupError, OwnerConfig};
use crate::testing::{World, noise, small};
use crate::tests::{file, run_in};
use crate::upload::{UploadError, UploadOptions, UploadProgress, reader_source};

const PRICE: Amount = Amount::from_micro(1_000);

fn market(runtime: RealRuntime, escrow_percent: u32) -> World<RealRuntime> {
    let parameters = Parameters {
        epoch_millis: 60_000,
        escrow_percent,
        ..Parameters::default()
    };
    World::with_market(runtime, 8, parameters, PRICE)
}

fn config() -> OwnerConfig {
    OwnerConfig {
        price_max: PRICE,
        term_epochs: 40,
        escrow_epochs: 10,
        ..small()
    }
}

/// Uploads a file and closes, as a command does.
async fn put(world: &World<RealRuntime>, folder: &Path, config: OwnerConfig) -> GroupId {
    let owner = world.owner_with(folder, &world.client(1), config);
    let source = reader_source(file("a file"), Cursor::new(noise(100_000, 1)));
    let options = UploadOptions::default();
    let done = owner.upload(source, options, quiet).await.unwrap();
    owner.close().await.unwrap();
    done.link.groups().next().unwrap()
}

fn quiet(_: &UploadProgress) {}

async fn left(world: &World<RealRuntime>, group: GroupId) -> u64 {
    let ends = world.ledger.group_now(group).unwrap().ends;
    ends.get() - world.ledger.status().await.unwrap().epoch.get()
}

#[test]
fn a_group_that_is_written_no_more_is_kept_paid() {
    for escrow_percent in [0, 10, 100] {
        let world = |runtime| market(runtime, escrow_percent);
        run_in(world, async |world, folder| {
            let group = put(&world, folder, config()).await;
            assert_eq!(left(&world, group).await, 40);
            world.ledger.pass_epochs(15);
            let owner = world.owner_with(folder, &world.client(1), config());
            let funds = owner.keep_paid().await.unwrap();
            assert_eq!(funds[0].added.epochs, 0, "more than half is left");
            assert_eq!(left(&world, group).await, 25);

            world.ledger.pass_epochs(10);
            let before = world.ledger.group_now(group).unwrap();
            let funds = owner.keep_paid().await.unwrap();
            let after = world.ledger.group_now(group).unwrap();
            assert_eq!(funds.len(), 1);
            assert_eq!(funds[0].group, group);
            assert_eq!(funds[0].added.epochs, 25, "{escrow_percent} %");
            assert_eq!(left(&world, group).await, 40);
            let added = after.escrow.micro() - before.escrow.micro();
            assert_eq!(funds[0].added.escrow.micro(), added);
            assert_eq!(funds[0].escrow, after.escrow);

            // A command that writes nothing to it does so too.
            world.ledger.pass_epochs(30);
            let owner = world.owner_with(folder, &world.client(1), config());
            owner.close().await.unwrap();
            assert_eq!(left(&world, group).await, 40);
        });
    }
}

/// As many groups as owners write at the same time.
async fn put_groups(world: &World<RealRuntime>, folder: &Path, count: usize) -> BTreeSet<GroupId> {
    let mut groups = BTreeSet::new();
    let mut owners = Vec::new();
    for _ in 0..count {
        let owner = world.owner_with(folder, &world.client(1), config());
        let source = reader_source(file("a file"), Cursor::new(noise(100_000, 1)));
        let options = UploadOptions::default();
        let done = owner.upload(source, options, quiet).await.unwrap();
        groups.extend(done.link.groups());
        owners.push(owner);
    }
    for owner in owners {
        owner.close().await.unwrap();
    }
    assert_eq!(groups.len(), count);
    groups
}

#[test]
fn closing_asks_for_the_other_groups_at_once_and_for_the_one_just_revised_no_more() {
    run_in(
        |runtime| market(runtime, 0),
        async |world, folder| {
            let groups = put_groups(&world, folder, 4).await;
            let owner = world.owner_with(folder, &world.client(1), config());
            let source = reader_source(file("another"), Cursor::new(noise(90_000, 2)));
            let options = UploadOptions::default();
            let done = owner.upload(source, options, quiet).await.unwrap();
            let written = done.link.groups().next().unwrap();
            assert!(groups.contains(&written));
            drop(world.ledger.take_asked());
            owner.close().await.unwrap();
            let asked = world.ledger.take_asked();
            for other in groups.iter().filter(|group| **group != written) {
                let times = asked.groups.iter().filter(|group| *group == other);
                assert_eq!(times.count(), 1);
            }
            assert_eq!(asked.at_once_max, 3, "{asked:?}");
        },
    );
}

#[test]
fn closing_asks_for_no_other_group_where_nothing_is_paid() {
    let free = |runtime| World::with_market(runtime, 8, Parameters::default(), PRICE);
    run_in(free, async |world, folder| {
        let groups = put_groups(&world, folder, 3).await;
        let owner = world.owner_with(folder, &world.client(1), config());
        drop(world.ledger.take_asked());
        owner.close().await.unwrap();
        assert_eq!(world.ledger.take_asked().groups, []);
        // Who wants to know is told.
        assert_eq!(owner.keep_paid().await.unwrap().len(), groups.len());
    });
}

#[test]
fn a_term_is_prolonged_as_far_as_the_balance_goes() {
    run_in(
        |runtime| market(runtime, 100),
        async |world, folder| {
            // 4-of-8 at 64 MiB: half a GiB, 500 micro-credits an epoch.
            let group = put(&world, folder, config()).await;
            world.ledger.pass_epochs(35);
            let balance = world.balance().await;
            world
                .spend(Amount::from_micro(balance.micro() - 4 * 500 * 7))
                .await;
            let owner = world.owner_with(folder, &world.client(1), config());
            let funds = owner.keep_paid().await.unwrap();
            assert_eq!(funds[0].added.epochs, 7);
            assert_eq!(funds[0].added.escrow, Amount::from_micro(500 * 7));
            assert_eq!(left(&world, group).await, 12);
            assert_eq!(funds[0].ends, EpochNumber::new(47));
        },
    );
}

#[test]
fn who_cannot_pay_an_epoch_takes_no_node_that_asks() {
    run_in(
        |runtime| market(runtime, 0),
        async |world, folder| {
            let dear = OwnerConfig {
                price_max: Amount::from_micro(1 << 50),
                ..config()
            };
            let owner = world.owner_with(folder, &world.client(1), dear);
            let source = reader_source(file("a file"), Cursor::new(noise(1_000, 1)));
            let refused = owner.upload(source, UploadOptions::default(), quiet).await;
            let refused = refused.unwrap_err();
            assert!(
                matches!(
                    refused,
                    UploadError::Group(OpenGroupError::NoCredits { .. })
                ),
                "{refused:?}"
            );
        },
    );
}
