//! Nodes and an owner with files: where most tests of adversaries begin.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::upload::{EntryMeta, EntryMetaKind, reader_source};
use cairn_client::{EntryPath, Link, ReadError, UploadError, UploadOptions, UploadProgress};
use cairn_core::{Capability, CapabilityLink, GroupId, NodeId, Profile, Right, Scope, UnixMillis};
use cairn_ledger::{Group, Ledger};
use cairn_runtime::Sim;

use crate::adversary::LyingNode;
use crate::cluster::{Cluster, ClusterConfig, ClusterOwner, owner_keys};
use crate::content::Content;
use crate::wages::Wages;

/// Slots of the group of a scene: 4-of-8.
pub const SLOTS: usize = 8;

/// Nodes and an owner with files of one segment each.
#[derive(Debug)]
pub struct Scene {
    /// The network.
    pub cluster: Cluster,
    /// The owner.
    pub owner: ClusterOwner,
    /// Its group.
    pub group: GroupId,
    /// Its files.
    pub links: Vec<(Link, Content)>,
    /// What each node has earned, where there are epochs: see [`Self::pass`].
    pub wages: Wages,
}

/// What a reader who knows nothing yet was given.
#[derive(Debug)]
pub struct Got {
    /// Whether the bytes were right, or why there are none.
    pub right: Result<bool, ReadError>,
    /// Whom it names.
    pub named: Vec<NodeId>,
    /// How long it took.
    pub took: Duration,
}

impl Scene {
    /// Starts the network and uploads files of these sizes; every slot has acknowledged them.
    ///
    /// # Panics
    ///
    /// When that fails: the test has failed.
    pub async fn new(sim: Sim, config: ClusterConfig, files: &[usize]) -> Self {
        let cluster = Cluster::start(sim, config).await;
        let (_machine, owner) = cluster.world.owner("owner", Profile::Dev8);
        let mut links = Vec::new();
        for (seed, bytes) in (0..).zip(files) {
            let content = Content {
                seed,
                bytes: *bytes,
            };
            let link = upload(&owner, content).await.expect("all are honest");
            links.push((link, content));
        }
        let (first, _) = links.first().expect("a scene has a file");
        let group = first.groups().next().expect("a group");
        let scene = Self {
            cluster,
            owner,
            group,
            links,
            wages: Wages::default(),
        };
        scene.wait_acknowledged(Duration::from_secs(600)).await;
        scene
    }

    /// Waits until every slot is at the newest revision.
    ///
    /// # Panics
    ///
    /// When one is not within `limit`.
    pub async fn wait_acknowledged(&self, limit: Duration) {
        let caught_up = async || {
            let group = self.group().await;
            group
                .deals
                .iter()
                .all(|deal| deal.acknowledged == group.revision.number)
        };
        self.cluster.wait("every slot", limit, caught_up).await;
    }

    /// Waits until the middle of the epoch that is so many after this one, and notes what nodes
    /// earn in each.
    ///
    /// # Panics
    ///
    /// When the epochs do not come: the test has failed.
    pub async fn pass(&mut self, epochs: u64) {
        let length = self.cluster.epoch();
        for _ in 0..epochs {
            let running = async || {
                let status = self.cluster.sequencer().status().await;
                status.expect("it answers").epoch
            };
            let before = running().await;
            let is_over = async || running().await > before;
            self.cluster.wait("an epoch", length * 2, is_over).await;
            self.cluster.world.sim.sleep(length / 2).await;
            self.wages.note(&self.cluster, self.group).await;
        }
    }

    /// The group as the ledger has it.
    ///
    /// # Panics
    ///
    /// When it does not have it.
    pub async fn group(&self) -> Group {
        let group = self.cluster.sequencer().group(self.group).await;
        group.expect("it answers").expect("the group is open")
    }

    /// Who holds a slot.
    ///
    /// # Panics
    ///
    /// When the group has no such slot.
    pub async fn holder(&self, slot: usize) -> NodeId {
        self.group().await.deals[slot].node
    }

    /// Turns the holders of these slots into liars.
    ///
    /// # Panics
    ///
    /// When the group has no such slot.
    pub async fn corrupt(&mut self, slots: &[usize], liar: &Arc<dyn LyingNode>) -> Vec<NodeId> {
        let mut liars = Vec::new();
        for slot in slots {
            let node = self.holder(*slot).await;
            let index = self.cluster.index_of(node).expect("one of ours");
            self.cluster.corrupt(index, Arc::clone(liar)).await;
            liars.push(node);
        }
        liars
    }

    /// A capability of the owner's for another peer.
    #[must_use]
    pub fn capability(&self, holder: NodeId) -> Capability {
        let link = CapabilityLink {
            scope: Scope::Group(self.group),
            right: Right::Read,
            holder: holder.key(),
            expires_at: UnixMillis::new(u64::MAX),
        };
        Capability::issue(link, owner_keys("owner").identity())
    }

    /// Reads a whole file as a reader of that name.
    ///
    /// # Panics
    ///
    /// When there is no such file.
    pub async fn read(&self, reader: &str, file: usize) -> Got {
        let (_machine, client) = self.cluster.world.client(reader);
        let begun = self.cluster.world.sim.elapsed();
        let (link, content) = &self.links[file];
        let got = async {
            let opened = client.open(link).await?;
            let only = opened.only_file().expect("one file was uploaded");
            let bytes = u64::try_from(content.bytes).expect("a small file");
            only.read_range(0, bytes).await
        };
        let right = got.await.map(|bytes| bytes[..] == content.make()[..]);
        let named = client.faults().iter().map(|fault| fault.node).collect();
        let took = self.cluster.world.sim.elapsed() - begun;
        Got { right, named, took }
    }
}

/// Uploads a file.
///
/// # Errors
///
/// The owner's.
///
/// # Panics
///
/// Does not: its name is short.
pub async fn upload(owner: &ClusterOwner, content: Content) -> Result<Link, UploadError> {
    let meta = EntryMeta {
        path: EntryPath::new("file").expect("a short name"),
        kind: EntryMetaKind::File,
        mode: 0o644,
        modified_ms: 0,
    };
    let source = reader_source(meta, std::io::Cursor::new(content.make()));
    let progress = |_: &UploadProgress| {};
    let done = owner.upload(source, UploadOptions::default(), progress);
    done.await.map(|uploaded| uploaded.link)
}
