//! Audits in the whole network: honest nodes pass them, who refuses them loses its score and nothing
//! else, and a few who lie about others cost them nothing.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::NodeId;
use cairn_ledger::{Ledger, NodeEntry, NodeStatus, SCORE_MAX};
use cairn_runtime::Sim;
use cairn_tests::adversary::{LiesAboutAudits, LyingNode, RefusesAudits};
use cairn_tests::cluster::ClusterConfig;
use cairn_tests::content::Content;
use cairn_tests::scene::{SLOTS, Scene, upload};

/// An epoch, as long as it is by design.
const EPOCH: Duration = Duration::from_secs(3_600);

/// Eight nodes that hold a slot each of a group with some files, in the middle of an epoch that has
/// frozen them, and one without slots.
async fn holding(sim: Sim) -> Scene {
    let config = ClusterConfig::with_epochs(SLOTS + 1, EPOCH);
    let mut scene = Scene::new(sim, config, &[700_000, 1, 65_537]).await;
    scene.pass(1).await;
    scene
}

/// Goes on for so many epochs, in which every node proves what it keeps and is paid for it.
async fn pass(scene: &mut Scene, epochs: u64) {
    scene.pass(epochs).await;
    scene.wages.check(&scene.cluster, &[]).await;
    let findings = scene.cluster.watch.findings();
    for (node, record) in &findings.nodes {
        assert_eq!(record.valid, findings.epochs, "I5: {node}: {record:?}");
    }
}

async fn entry(scene: &Scene, node: NodeId) -> NodeEntry {
    let entry = scene.cluster.sequencer().node(node).await;
    entry.expect("it answers").expect("it is registered")
}

async fn score(scene: &Scene, node: NodeId) -> u8 {
    let status = scene.cluster.sequencer().status().await;
    let epoch = status.expect("it answers").epoch;
    entry(scene, node).await.score.at(epoch)
}

async fn holders(scene: &Scene) -> Vec<NodeId> {
    let group = scene.group().await;
    group.deals.iter().map(|deal| deal.node).collect()
}

#[test]
fn honest_nodes_pass_their_audits_whatever_is_written_and_removed_meanwhile() {
    Sim::new(71).run(async |sim| {
        let mut scene = holding(sim).await;
        let mut passed_count = 0;
        for epoch in 0..10 {
            let content = Content {
                seed: 100 + epoch,
                bytes: 40_000,
            };
            if epoch % 2 == 0 {
                let link = upload(&scene.owner, content).await.expect("all are honest");
                scene.links.push((link, content));
                let (link, _) = scene.links.remove(0);
                scene.owner.remove(&link).await.expect("all are honest");
            }
            pass(&mut scene, 1).await;
            for member in &scene.cluster.members {
                let votes = entry(&scene, member.id).await.score.votes();
                assert_eq!(votes.failed_count, 0, "node {}: {votes:?}", member.id);
                passed_count += votes.passed_count;
            }
        }
        assert!(passed_count > 100, "they were audited: {passed_count}");
        for holder in holders(&scene).await {
            assert_eq!(score(&scene, holder).await, SCORE_MAX);
        }
    });
}

#[test]
fn refuses_audits_and_loses_its_score_and_neither_pay_nor_status() {
    Sim::new(72).run(async |sim| {
        let mut scene = holding(sim).await;
        let liar: Arc<dyn LyingNode> = Arc::new(RefusesAudits);
        let liars = scene.corrupt(&[3], &liar).await;
        pass(&mut scene, 12).await;
        let refuser = liars[0];
        let found = score(&scene, refuser).await;
        assert!(found <= 40, "{found}");
        assert_eq!(entry(&scene, refuser).await.status, NodeStatus::Active);
        for holder in holders(&scene).await {
            if holder != refuser {
                assert_eq!(score(&scene, holder).await, SCORE_MAX, "node {holder}");
            }
        }
    });
}

#[test]
fn lies_about_audits_and_sinks_nobody() {
    Sim::new(73).run(async |sim| {
        let mut scene = holding(sim).await;
        let liar: Arc<dyn LyingNode> = Arc::new(LiesAboutAudits);
        scene.corrupt(&[0, 3, 6], &liar).await;
        let mut failed_count = 0;
        for _ in 0..12 {
            pass(&mut scene, 1).await;
            for holder in holders(&scene).await {
                let votes = entry(&scene, holder).await.score.votes();
                failed_count += votes.failed_count;
                assert_eq!(score(&scene, holder).await, SCORE_MAX, "node {holder}");
            }
        }
        assert!(failed_count > 60, "they did lie: {failed_count}");
    });
}

/// Who is away is audited too; it is back at once when it comes back.
#[test]
fn a_node_that_is_away_for_some_epochs_keeps_its_score() {
    Sim::new(74).run(async |sim| {
        let mut scene = holding(sim).await;
        let node = scene.holder(2).await;
        let index = scene.cluster.index_of(node).expect("one of ours");
        scene.cluster.crash(index);
        scene.pass(1).await;
        // It did not prove, so nobody is drawn for it, and nothing more is said of it.
        scene.pass(3).await;
        scene.cluster.restart(index).await;
        scene.pass(3).await;
        let found = score(&scene, node).await;
        assert!(found >= SCORE_MAX - 20, "{found}");
    });
}
