//! A node that starts anew and is shown the ledger as it was, truly attested.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_consensus::{Config, Sequencer};
use cairn_core::{NodeId, RevisionDetail, RevisionNumber};
use cairn_ledger::{Ledger, RemoteLedger};
use cairn_net::sim::SimPeer;
use cairn_net::{DhtMode, LedgerPeers};
use cairn_runtime::{Disk, EntryKind, Runtime, Sim, SimRuntime};
use futures::future::BoxFuture;

use super::cluster::{Cluster, dev4, run};
use crate::{LedgerServer, NodeHandle, NodeStatus, start};

type Handle = NodeHandle<SimRuntime, SimPeer, RemoteLedger<LedgerPeers<SimPeer>>>;

/// Answers for the ledger as it is, or as it was.
#[derive(Debug)]
struct Answers {
    shown: Mutex<Sequencer<SimRuntime>>,
}

impl Answers {
    fn show(&self, ledger: &Sequencer<SimRuntime>) {
        *self.shown.lock().unwrap() = ledger.clone();
    }
}

impl LedgerServer for Answers {
    fn answer(&self, peer: NodeId, request: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        let shown = self.shown.lock().unwrap().clone();
        Box::pin(async move { shown.answer(peer, &request).await })
    }
}

/// A cluster in which the node of slot 0 is to leave, and another, that has nothing yet, is to have
/// the slot. It reaches the ledger through a third.
struct Moving {
    cluster: Cluster,
    answers: Arc<Answers>,
    server: NodeId,
    leaver: usize,
    /// Who is to have the slot.
    heir: usize,
    handle: Option<Handle>,
}

impl Moving {
    async fn new(sim: Sim, segments: &[usize]) -> (Self, Option<RevisionDetail>) {
        let mut cluster = Cluster::new(sim, 5, dev4()).await;
        let mut detail = None;
        for bytes in segments {
            cluster.upload(*bytes, &[]).await;
        }
        if !segments.is_empty() {
            detail = Some(cluster.revise(&[], &[]).await);
            cluster.wait_acknowledged().await;
        }
        let holders = cluster.holders().await;
        let mut nodes = cluster.nodes.iter();
        let heir = nodes.position(|node| !holders.contains(&node.id()));
        let shown = Mutex::new(cluster.ledger.clone());
        let mut moving = Self {
            answers: Arc::new(Answers { shown }),
            server: holders[1],
            leaver: cluster.index_of(holders[0]),
            heir: heir.unwrap(),
            handle: None,
            cluster,
        };
        let server = moving.cluster.index_of(moving.server);
        moving.cluster.nodes[server].serves = Some(moving.answers.clone());
        moving.cluster.restart(server).await;
        moving.start_heir().await;
        (moving, detail)
    }

    /// Starts the heir, or starts it again after power loss.
    async fn start_heir(&mut self) {
        self.handle = None;
        let node = &mut self.cluster.nodes[self.heir];
        node.handle = None;
        let runtime = node.machine.restart();
        let id = node.id();
        let peer = self.cluster.net.join(&runtime, id, DhtMode::Server);
        let through = LedgerPeers::new(peer.clone(), &[self.server]);
        let (ledger, key) = (self.cluster.ledger.id(), self.cluster.ledger.key());
        let ledger = RemoteLedger::new(through, ledger, key);
        let config = self.cluster.config(&self.cluster.nodes[self.heir]);
        let started = start(runtime, peer, ledger, config).await;
        self.handle = Some(started.unwrap());
    }

    /// The ledger as it is now, for ever: a copy of its folder on a machine of its own.
    async fn copy_of_ledger(&self) -> Sequencer<SimRuntime> {
        let folder = Path::new("/ledger");
        let from = self.cluster.sim.machine("ledger").runtime();
        let to = self.cluster.sim.machine("ledger of the past").runtime();
        to.disk().create_dir_all(folder).unwrap();
        for entry in from.disk().list(folder).unwrap() {
            if entry.kind == EntryKind::File && entry.name != "lock" {
                let path = folder.join(&entry.name);
                let content = from.disk().read_file(&path, 1 << 30).unwrap();
                to.disk().replace_file(&path, &content).unwrap();
            }
        }
        Sequencer::open(to, Config::new(folder)).await.unwrap()
    }

    /// The leaver goes, and the ledger draws the heir in its place.
    async fn move_slot(&self) {
        let leaver = self.cluster.nodes[self.leaver].handle.as_ref();
        leaver.unwrap().drain().await.unwrap();
        let heir = self.cluster.nodes[self.heir].id();
        self.cluster
            .wait("the slot is drawn anew", async || {
                self.cluster.holders().await[0] == heir
            })
            .await;
    }

    /// How the heir stands, by itself.
    async fn status(&self) -> NodeStatus {
        self.handle.as_ref().unwrap().status().await.unwrap()
    }

    /// Starts the heir again while the past is shown: it keeps everything and says what is the
    /// matter. Then shows the ledger as it is, which the heir follows.
    async fn check_past(&mut self, past: &Sequencer<SimRuntime>) {
        let before = self.status().await.store.shard_count;
        assert!(before > 0, "there is something to drop");
        self.answers.show(past);
        self.start_heir().await;
        self.cluster
            .wait("the ledger is said to be behind", async || {
                let problem = self.status().await.ledger_problem;
                problem.is_some_and(|problem| problem.contains("this node has seen"))
            })
            .await;
        self.cluster.sim.sleep(Duration::from_secs(60)).await;
        assert_eq!(self.status().await.store.shard_count, before);
        self.answers.show(&self.cluster.ledger);
        self.cluster
            .wait("the heir follows again", async || {
                let status = self.status().await;
                status.ledger_problem.is_none() && status.slots.len() == 1
            })
            .await;
    }
}

#[test]
fn i1_an_acknowledged_slot_outlives_a_state_from_before_it_was_drawn() {
    run(31, async |sim| {
        let (mut moving, detail) = Moving::new(sim, &[50_000, 9000]).await;
        let past = moving.copy_of_ledger().await;
        moving.move_slot().await;
        moving.cluster.wait_acknowledged().await;
        moving.check_past(&past).await;
        moving.cluster.wait_acknowledged().await;
        moving.cluster.check_all(&detail.unwrap()).await;
        assert_eq!(moving.status().await.store.shard_count, 2);
        moving.handle.take().unwrap().shutdown().await.unwrap();
    });
}

/// Nothing is acknowledged yet, and the owner has receipts.
#[test]
fn i1_shards_with_receipts_outlive_a_state_from_before_the_slot_was_drawn() {
    run(32, async |sim| {
        let (mut moving, _) = Moving::new(sim, &[]).await;
        let past = moving.copy_of_ledger().await;
        moving.move_slot().await;
        moving.cluster.upload(50_000, &[]).await;
        moving.check_past(&past).await;
        // A group that was just read is not read again at once, and a client would ask once more.
        moving.cluster.sim.sleep(Duration::from_secs(5)).await;
        let detail = moving.cluster.revise(&[], &[]).await;
        moving.cluster.wait_acknowledged().await;
        moving.cluster.check_all(&detail).await;
    });
}

/// What the disk can't remember is not promised, and is when it can.
#[test]
fn i1_nothing_is_promised_that_the_disk_does_not_know() {
    run(33, async |sim| {
        let (mut moving, detail) = Moving::new(sim, &[50_000]).await;
        let runtime = moving.cluster.nodes[moving.heir].machine.runtime();
        // In the way of the file that is written beside.
        let in_the_way = Path::new("/store/height.new");
        runtime.disk().create_dir_all(in_the_way).unwrap();
        moving.move_slot().await;
        let number = detail.as_ref().unwrap().revision.number;
        moving
            .cluster
            .wait("the heir has the slot whole", async || {
                let slots = moving.status().await.slots;
                slots.first().is_some_and(|lag| lag.reached == number)
            })
            .await;
        moving.cluster.sim.sleep(Duration::from_secs(30)).await;
        let acknowledged = moving.cluster.group().await.deals[0].acknowledged;
        assert_eq!(acknowledged, RevisionNumber::ZERO);
        runtime.disk().remove_dir_all(in_the_way).unwrap();
        moving.cluster.wait_acknowledged().await;
        let files = moving.cluster.nodes[moving.heir].machine.disk_files();
        let height = Path::new("/store/height");
        assert!(files.iter().any(|(path, _)| path == height));
        moving.cluster.check_all(&detail.unwrap()).await;
        moving.handle.take().unwrap().shutdown().await.unwrap();
    });
}
