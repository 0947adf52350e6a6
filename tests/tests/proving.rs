//! Epochs in the whole network: honest nodes prove each of them, and who wants pay for bytes that
//! it does not keep is caught within the time that the model gives.
//!
//! In every run a watch looks at all blocks (`cairn_tests::watch`): a proof of an honest node that
//! is found invalid, an epoch that it was up in and is not found valid or not paid for in full, and
//! collateral that is taken from it end the test (I5). After the run each node's balance and
//! collateral are compared with what it must have (`cairn_tests::wages`).

use std::sync::Arc;
use std::time::Duration;

use cairn_core::{Amount, NodeId, SlotIndex};
use cairn_ledger::group::{epoch_price, price_for};
use cairn_ledger::{Ledger, NodeStatus};
use cairn_runtime::Sim;
use cairn_tests::adversary::{
    AcknowledgesAndDrops, DeletesShards, KeepsHashesOnly, LyingNode, Pretext, ProvesAnothersSlots,
    ReplaysProofs,
};
use cairn_tests::cluster::{
    COLLATERAL, COLLATERAL_EPOCHS, ClusterConfig, PRICE, REPAIR_EPOCHS, SLOT_CAPACITY, owner_keys,
};
use cairn_tests::content::Content;
use cairn_tests::roots;
use cairn_tests::scene::{SLOTS, Scene, upload};
use cairn_tests::wages::purse;
use cairn_tests::watch::{Findings, Record};

/// An epoch, as long as it is by design.
const EPOCH: Duration = Duration::from_secs(3_600);
/// Epochs within which the loss of 1 % is found with 99.9 %, by the model.
const ONE_PERCENT_EPOCHS: u32 = 22;

fn run(seed: u64, test: impl AsyncFnOnce(Sim)) {
    Sim::new(seed).run(test);
}

/// A network with a spare node and files of these sizes, in the middle of an epoch that has frozen
/// them all.
async fn holding(sim: Sim, files: &[usize]) -> Scene {
    let config = ClusterConfig::with_epochs(SLOTS + 1, EPOCH);
    let mut scene = Scene::new(sim, config, files).await;
    scene.pass(1).await;
    scene
}

/// Goes on for so many epochs. What was seen of these nodes meanwhile and before, and that all
/// others proved every epoch, were paid for each and have their whole collateral.
async fn watch(scene: &mut Scene, epochs: u64, liars: &[NodeId]) -> (Findings, Vec<Record>) {
    scene.pass(epochs).await;
    scene.wages.check(&scene.cluster, liars).await;
    let findings = scene.cluster.watch.findings();
    let nodes = scene.cluster.members.iter().map(|member| member.id);
    for node in nodes.filter(|node| !liars.contains(node)) {
        let record = findings.nodes[&node];
        assert_eq!(record.valid, findings.epochs, "I5: {node}: {record:?}");
    }
    let records = liars.iter().map(|liar| findings.nodes[liar]).collect();
    (findings, records)
}

/// What a slot of the group earns in an epoch that freezes its newest revision, in micro-credits.
async fn wage(scene: &Scene) -> u64 {
    let revision = scene.group().await.revision;
    let wage = epoch_price(revision.slot_bytes, PRICE);
    wage.expect("a small price").micro()
}

/// The liar was found invalid twice and was lost by that: it paid a tenth of what its slot had locked
/// each time, and for repairs: of what it declared lost before each of the proofs, and of what it had
/// when it was lost. The slot is another's, who has what it paid for the repair.
async fn assert_thrown_out(scene: &Scene, (slot, liar): (usize, NodeId), repair: [u64; 3]) {
    let [first, second, lost] = repair;
    let mut locked = price_for(SLOT_CAPACITY, PRICE, COLLATERAL_EPOCHS).micro();
    let mut slashed = 0;
    for declared in [first, second] {
        locked -= declared;
        slashed += locked / 10;
        locked -= locked / 10;
    }
    let forfeited = first + second + lost;
    let told = purse(&scene.cluster, liar).await.told;
    assert_eq!(told.slashed.micro(), slashed, "{told:?}");
    assert_eq!(told.forfeited.micro(), forfeited, "{told:?}");
    assert!(slashed > 0 && forfeited > 0, "nothing was at stake");
    let holder = scene.holder(slot).await;
    assert_ne!(holder, liar, "its slot is another's");
    let told = purse(&scene.cluster, holder).await.told;
    assert_eq!(told.bounties.micro(), forfeited, "{told:?}");
}

/// Every file is there for a reader who knows nothing yet.
async fn assert_readable(scene: &Scene, reader: &str) {
    for file in 0..scene.links.len() {
        let got = scene.read(&format!("{reader} {file}"), file).await;
        assert_eq!(got.right, Ok(true), "file {file}");
    }
}

#[test]
fn i5_honest_nodes_prove_every_epoch_of_a_day() {
    run(41, async |sim| {
        let mut scene = holding(sim, &[700_000, 1, 65_537]).await;
        for epoch in 0..24 {
            let content = Content {
                seed: 100 + epoch,
                bytes: 40_000,
            };
            let link = upload(&scene.owner, content).await.expect("all are honest");
            scene.links.push((link, content));
            if epoch % 3 == 2 {
                let (link, _) = scene.links.remove(0);
                scene.owner.remove(&link).await.expect("all are honest");
            }
            watch(&mut scene, 1, &[]).await;
        }
        let (findings, _) = watch(&mut scene, 1, &[]).await;
        assert!(findings.epochs >= 24, "{findings:?}");
        assert_readable(&scene, "reader").await;
    });
}

/// Four nodes that each deleted another 1 % are each caught within 22 epochs: with 99.9 %, by the
/// model, and in this run. How the time is distributed: `tests/detection.rs`.
#[test]
fn i5_deletes_one_percent_of_its_shards() {
    run(42, async |sim| {
        let mut scene = holding(sim, &[30_000; 100]).await;
        let mut liars = Vec::new();
        for (slot, rest) in [(0, 7), (2, 23), (5, 51), (7, 98)] {
            let liar: Arc<dyn LyingNode> = Arc::new(DeletesShards { one_in: 100, rest });
            liars.extend(scene.corrupt(&[slot], &liar).await);
        }
        let before = scene.cluster.watch.findings().epochs;
        let epochs = u64::from(ONE_PERCENT_EPOCHS);
        let (_, records) = watch(&mut scene, epochs, &liars).await;
        let slot_collateral = price_for(SLOT_CAPACITY, PRICE, COLLATERAL_EPOCHS).micro();
        let mut found = Vec::new();
        for (liar, record) in liars.iter().zip(records) {
            assert!(record.invalid > 0, "{record:?}");
            let purse = purse(&scene.cluster, *liar).await;
            let slashed = purse.told.slashed.micro();
            assert!(slashed >= slot_collateral / 10, "{purse:?}");
            let taken = purse.told.taken();
            assert!(
                taken > purse.balance,
                "it earned more than it lost: {purse:?}"
            );
            let first = record.first_failed.expect("it was found invalid");
            found.push(first + 1 - before);
        }
        println!("found after {found:?} epochs");
        assert!(found.iter().all(|epochs| *epochs <= ONE_PERCENT_EPOCHS));
        for file in [7, 23, 51, 98] {
            let got = scene.read(&format!("reader {file}"), file).await;
            assert_eq!(got.right, Ok(true), "file {file}");
        }
    });
}

/// One who keeps only hashes is refused by its siblings, whatever it makes the ledger believe, and
/// is found invalid in the first epoch in which it kept nothing.
fn keeps_hashes_only(seed: u64, pretext: Pretext) {
    run(seed, async |sim| {
        let mut scene = holding(sim, &[700_000; 2]).await;
        let old_wage = wage(&scene).await;
        let liar = Arc::new(KeepsHashesOnly::new(pretext, None));
        let mask: Arc<dyn LyingNode> = liar.clone();
        let liars = scene.corrupt(&[3], &mask).await;
        let before = scene.cluster.watch.findings().epochs;
        // Something to lag behind with.
        let content = Content {
            seed: 9,
            bytes: 700_000,
        };
        let link = upload(&scene.owner, content)
            .await
            .expect("seven are honest");
        scene.links.push((link, content));
        let (findings, records) = watch(&mut scene, 3, &liars).await;
        let (refetched, refused) = liar.counts();
        assert_eq!(refetched, 0, "of {refused} a sibling served some");
        assert!(refused > 0, "it was asked for nothing");
        // The epoch in which it turned had its honest proof already.
        assert_eq!(records[0].first_failed, Some(before + 1), "{findings:?}");
        assert_eq!(records[0].invalid, 2, "{records:?}");
        let epochs = u64::from(REPAIR_EPOCHS);
        let repair = match pretext {
            // Of the revision that it acknowledged last.
            Pretext::StaysBehind => [0, 0, epochs * old_wage],
            Pretext::DeclaresLoss => {
                let declared = epochs * wage(&scene).await;
                [declared, declared, 0]
            }
        };
        assert_thrown_out(&scene, (3, liars[0]), repair).await;
        assert_readable(&scene, "reader").await;
    });
}

#[test]
fn i5_keeps_only_hashes_and_stays_behind_to_refetch() {
    keeps_hashes_only(43, Pretext::StaysBehind);
}

#[test]
fn i5_keeps_only_hashes_and_declares_loss_to_refetch() {
    keeps_hashes_only(44, Pretext::DeclaresLoss);
}

/// What the rule is about: with the right to read, which only the owner gives, the same node gets
/// what it needs and passes. It is able; its siblings' refusal is what catches it.
#[test]
fn keeps_only_hashes_and_passes_with_the_owners_capability() {
    run(45, async |sim| {
        let mut scene = holding(sim, &[700_000; 2]).await;
        let capability = scene.capability(scene.holder(3).await);
        let liar = Arc::new(KeepsHashesOnly::new(Pretext::StaysBehind, Some(capability)));
        let mask: Arc<dyn LyingNode> = liar.clone();
        let liars = scene.corrupt(&[3], &mask).await;
        let (findings, records) = watch(&mut scene, 3, &liars).await;
        let (refetched, refused) = liar.counts();
        assert_eq!(refused, 0);
        assert!(refetched > 0);
        assert_eq!(records[0].valid, findings.epochs);
    });
}

#[test]
fn i5_replays_an_old_proof() {
    run(46, async |sim| {
        let mut scene = holding(sim, &[700_000; 2]).await;
        let liar: Arc<dyn LyingNode> = Arc::new(ReplaysProofs::default());
        let liars = scene.corrupt(&[1], &liar).await;
        let before = scene.cluster.watch.findings().epochs;
        let (findings, records) = watch(&mut scene, 5, &liars).await;
        // The first one is not old yet.
        assert_eq!(records[0].first_failed, Some(before + 2), "{findings:?}");
        assert_eq!(records[0].invalid, findings.epochs - before - 2);
        let repair = u64::from(REPAIR_EPOCHS) * wage(&scene).await;
        assert_thrown_out(&scene, (1, liars[0]), [0, 0, repair]).await;
        assert_readable(&scene, "reader").await;
    });
}

#[test]
fn i5_proves_anothers_slots() {
    run(47, async |sim| {
        let mut scene = holding(sim, &[700_000; 2]).await;
        let keeper = scene.holder(1).await;
        let liar: Arc<dyn LyingNode> = Arc::new(ProvesAnothersSlots::new(keeper));
        let liars = scene.corrupt(&[1, 6], &liar).await;
        let before = scene.cluster.watch.findings().epochs;
        let (findings, records) = watch(&mut scene, 4, &liars).await;
        assert_eq!(records[0].valid, findings.epochs, "it keeps its slots");
        assert_eq!(records[1].first_failed, Some(before + 1), "{findings:?}");
        assert_eq!(records[1].invalid, findings.epochs - before - 1);
        let repair = u64::from(REPAIR_EPOCHS) * wage(&scene).await;
        assert_thrown_out(&scene, (6, liars[1]), [0, 0, repair]).await;
        let kept = purse(&scene.cluster, liars[0]).await;
        assert_eq!(kept.collateral, COLLATERAL, "it keeps its slots");
        assert_readable(&scene, "reader").await;
    });
}

/// One who is silent has a lapse in the first epoch and is not paid for it; after 72 of them, three
/// days, it is lost and pays for the repair, and its slot is another's, who has rebuilt it.
#[test]
fn i5_acknowledges_and_drops() {
    run(48, async |sim| {
        let mut scene = holding(sim, &[700_000; 2]).await;
        let liar: Arc<dyn LyingNode> = Arc::new(AcknowledgesAndDrops);
        let liars = scene.corrupt(&[4], &liar).await;
        let before = scene.cluster.watch.findings().epochs;
        let paid = purse(&scene.cluster, liars[0]).await.balance;
        let (_, records) = watch(&mut scene, 2, &liars).await;
        assert_eq!(records[0].first_failed, Some(before + 1));
        let entry = scene.cluster.sequencer().node(liars[0]).await;
        let entry = entry.expect("it answers").expect("it is registered");
        assert_eq!(entry.status, NodeStatus::Active, "a lapse is no loss");
        watch(&mut scene, 72, &liars).await;
        let holder = scene.holder(4).await;
        assert_ne!(holder, liars[0], "its slot is another's");
        let purse_of = async |node| purse(&scene.cluster, node).await;
        let lost = purse_of(liars[0]).await;
        assert_eq!(lost.balance, paid, "not paid since: {lost:?}");
        assert_eq!(lost.told.slashed, Amount::ZERO, "silence is no lie");
        let repair = Amount::from_micro(u64::from(REPAIR_EPOCHS) * wage(&scene).await);
        assert_eq!(lost.told.forfeited, repair, "{lost:?}");
        assert_eq!(purse_of(holder).await.told.bounties, repair);
        scene.wait_acknowledged(Duration::from_secs(60)).await;
        let owner = owner_keys("owner");
        let slot = SlotIndex::new(4);
        roots::check_slot(&scene.cluster, owner.identity(), scene.group, slot).await;
        assert_readable(&scene, "reader").await;
    });
}
