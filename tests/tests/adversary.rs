//! Every adversary against the real network: caught, named, and of no cost to others.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::read::{ReadError, SlotReadFailure};
use cairn_client::upload::{EntryMeta, EntryMetaKind, PutFailure, reader_source};
use cairn_client::{EntryPath, Link, UploadError, UploadOptions, UploadProgress};
use cairn_core::{
    Capability, CapabilityLink, ErrorCode, GroupId, NodeId, Profile, Right, Scope, SlotIndex,
    UnixMillis,
};
use cairn_ledger::Ledger;
use cairn_net::{DataError, Pace, RealLimits};
use cairn_runtime::Sim;
use cairn_tests::adversary::peers::{
    HoardsStreams, Hostile, MisusesCapabilities, NeverReads, SendsGarbage, SendsSlowly, Target,
};
use cairn_tests::adversary::{
    DropsAfterReceipt, FalseReceipts, FlipsBits, ForgesDetails, ForgesRecords, LyingNode,
    ServesOther, SlowLoris, TruncatesStreams,
};
use cairn_tests::cluster::{ClusterConfig, ClusterOwner, owner_keys};
use cairn_tests::content::Content;
use cairn_tests::{Cluster, roots};
use tokio::io::AsyncReadExt;

/// Slots of the groups here: 4-of-8.
const SLOTS: usize = 8;

/// Eight nodes and an owner with two files of one segment each.
struct Scene {
    cluster: Cluster,
    owner: ClusterOwner,
    group: GroupId,
    links: Vec<(Link, Content)>,
}

impl Scene {
    async fn new(sim: Sim, nodes: usize) -> Self {
        let cluster = Cluster::start(sim, ClusterConfig::new(nodes)).await;
        let (_machine, owner) = cluster.world.owner("owner", Profile::Dev8);
        let mut links = Vec::new();
        for seed in 0..2 {
            let content = Content {
                seed,
                bytes: 700_000,
            };
            let link = upload(&owner, content).await.expect("all are honest");
            links.push((link, content));
        }
        let group = links[0].0.groups().next().expect("a group");
        let scene = Self {
            cluster,
            owner,
            group,
            links,
        };
        scene.wait_acknowledged(Duration::from_secs(600)).await;
        scene
    }

    /// Waits until every slot is at the newest revision.
    async fn wait_acknowledged(&self, limit: Duration) {
        let caught_up = async || {
            let group = self.cluster.sequencer().group(self.group).await;
            let group = group.expect("it answers").expect("the group is open");
            group
                .deals
                .iter()
                .all(|deal| deal.acknowledged == group.revision.number)
        };
        self.cluster.wait("every slot", limit, caught_up).await;
    }

    async fn holder(&self, slot: usize) -> NodeId {
        let group = self.cluster.sequencer().group(self.group).await;
        group.expect("it answers").expect("it is open").deals[slot].node
    }

    /// Turns the holders of these slots into liars.
    async fn corrupt(&mut self, slots: &[usize], liar: &Arc<dyn LyingNode>) -> Vec<NodeId> {
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
    fn capability(&self, holder: NodeId) -> Capability {
        let link = CapabilityLink {
            scope: Scope::Group(self.group),
            right: Right::Read,
            holder: holder.key(),
            expires_at: UnixMillis::new(u64::MAX),
        };
        Capability::issue(link, owner_keys("owner").identity())
    }
}

async fn upload(owner: &ClusterOwner, content: Content) -> Result<Link, UploadError> {
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

fn run(seed: u64, test: impl AsyncFnOnce(Sim)) {
    Sim::new(seed).run(test);
}

/// What a read of the whole file gives a reader who knows nothing yet, and whom it names.
async fn read(
    scene: &Scene,
    reader: &str,
    file: usize,
) -> (Result<bool, ReadError>, Vec<NodeId>, Duration) {
    let (_machine, client) = scene.cluster.world.client(reader);
    let begun = scene.cluster.world.sim.elapsed();
    let (link, content) = &scene.links[file];
    let got = async {
        let opened = client.open(link).await?;
        let only = opened.only_file().expect("one file was uploaded");
        let bytes = u64::try_from(content.bytes).expect("a small file");
        only.read_range(0, bytes).await
    };
    let got = got.await.map(|bytes| bytes[..] == content.make()[..]);
    let named = client.faults().iter().map(|fault| fault.node).collect();
    let took = scene.cluster.world.sim.elapsed() - begun;
    (got, named, took)
}

/// What a slot's failure looks like when it is this adversary's.
type IsCaught = fn(&SlotReadFailure) -> bool;

/// With n - k liars of a kind every byte comes; with one more the error names each of them.
fn lies_are_caught_and_named(seed: u64, liar: impl LyingNode + 'static, is_caught: IsCaught) {
    run(seed, async |sim| {
        let liar: Arc<dyn LyingNode> = Arc::new(liar);
        let mut scene = Scene::new(sim, SLOTS).await;
        let mut liars = scene.corrupt(&[0, 1, 3, 6], &liar).await;
        let (got, named, took) = read(&scene, "first reader", 0).await;
        assert_eq!(got, Ok(true), "{liar:?}: a wrong byte");
        assert!(took < Duration::from_secs(30), "{liar:?}: {took:?}");
        for node in named {
            assert!(liars.contains(&node), "{liar:?}: an honest node is named");
        }
        liars.extend(scene.corrupt(&[4], &liar).await);
        let (got, named, took) = read(&scene, "second reader", 0).await;
        let Err(ReadError::TooFewSlots { missing, .. }) = got else {
            panic!("{liar:?}: expected that too few slots are left, found {got:?}");
        };
        assert!(took < Duration::from_secs(60), "{liar:?}: {took:?}");
        assert_eq!(missing.len(), 5, "{liar:?}: {missing:?}");
        for slot in &missing {
            let node = slot.node.expect("every slot has a node");
            assert!(liars.contains(&node), "{liar:?}: an honest node is named");
            assert!(is_caught(&slot.failure), "{liar:?}: {}", slot.failure);
            let is_lie = slot.failure.is_lie();
            assert_eq!(named.contains(&node), is_lie, "{liar:?}: {named:?}");
        }
    });
}

#[test]
fn i2_flips_bits() {
    lies_are_caught_and_named(1, FlipsBits, |failure| {
        matches!(failure, SlotReadFailure::WrongBytes(_))
    });
}

#[test]
fn i2_serves_other() {
    lies_are_caught_and_named(2, ServesOther, |failure| {
        matches!(
            failure,
            SlotReadFailure::OtherRecord | SlotReadFailure::WrongBytes(_)
        )
    });
}

#[test]
fn i2_forges_records() {
    lies_are_caught_and_named(3, ForgesRecords, |failure| {
        // Once the owner's record is known, a node is not asked for it.
        matches!(
            failure,
            SlotReadFailure::ForgedRecord(_) | SlotReadFailure::WrongBytes(_)
        )
    });
}

#[test]
fn i2_truncates_streams() {
    lies_are_caught_and_named(4, TruncatesStreams, |failure| {
        matches!(failure, SlotReadFailure::Data(DataError::Net(_)))
    });
}

#[test]
fn i1_slow_loris() {
    lies_are_caught_and_named(5, SlowLoris, |failure| {
        matches!(
            failure,
            SlotReadFailure::Timeout { .. } | SlotReadFailure::Data(DataError::Stalled { .. })
        )
    });
}

#[test]
fn i1_drops_after_receipt() {
    lies_are_caught_and_named(6, DropsAfterReceipt, |failure| {
        matches!(
            failure,
            SlotReadFailure::Data(DataError::Remote {
                code: ErrorCode::NoSuchShard,
                ..
            })
        )
    });
}

/// A receipt for another shard does not count: with one liar the upload is done without it, with
/// two too few are left and both are named.
#[test]
fn i1_false_receipts() {
    run(7, async |sim| {
        let liar: Arc<dyn LyingNode> = Arc::new(FalseReceipts);
        let mut scene = Scene::new(sim, SLOTS).await;
        scene.corrupt(&[2], &liar).await;
        let more = Content {
            seed: 9,
            bytes: 700_000,
        };
        upload(&scene.owner, more).await.expect("seven are honest");
        scene.corrupt(&[5], &liar).await;
        let refused = upload(&scene.owner, more).await;
        let Err(UploadError::NotDurable(too_few)) = refused else {
            panic!("expected that too few slots take it, found {refused:?}");
        };
        let named = too_few
            .failures
            .iter()
            .filter(|failed| matches!(failed.failure, PutFailure::Receipt { .. }));
        let slots: Vec<SlotIndex> = named.map(|failed| failed.slot).collect();
        assert_eq!(slots, [SlotIndex::new(2), SlotIndex::new(5)]);
    });
}

/// I3: with three liars among the seven that are left, a node that lost its disk ends in the
/// committed slot root, by the bytes that it then has.
fn i3_catches_up_among(seed: u64, liar: impl LyingNode + 'static) {
    run(seed, async |sim| {
        let liar: Arc<dyn LyingNode> = Arc::new(liar);
        let mut scene = Scene::new(sim, SLOTS).await;
        scene.corrupt(&[1, 2, 7], &liar).await;
        let wiped = scene.holder(0).await;
        let index = scene.cluster.index_of(wiped).expect("one of ours");
        scene.cluster.crash(index);
        scene.cluster.restart_empty(index).await;
        // It no longer says that it acknowledged; what it has is what counts.
        let whole = async || {
            let node = scene.cluster.members[index].node().expect("it is up");
            let status = node.status().await.expect("its store is read");
            let mut slots = status.slots.iter();
            slots.any(|lag| lag.shard_count > 0 && lag.reached == lag.revision)
        };
        let limit = Duration::from_secs(1_800);
        scene.cluster.wait("it catches up", limit, whole).await;
        let slot = SlotIndex::new(0);
        roots::check_slot(
            &scene.cluster,
            owner_keys("owner").identity(),
            scene.group,
            slot,
        )
        .await;
    });
}

#[test]
fn i3_catches_up_among_flips_bits() {
    i3_catches_up_among(11, FlipsBits);
}

#[test]
fn i3_catches_up_among_serves_other() {
    i3_catches_up_among(12, ServesOther);
}

#[test]
fn i3_catches_up_among_forges_records() {
    i3_catches_up_among(13, ForgesRecords);
}

#[test]
fn i3_catches_up_among_forges_details() {
    i3_catches_up_among(14, ForgesDetails);
}

#[test]
fn i3_catches_up_among_truncates_streams() {
    i3_catches_up_among(15, TruncatesStreams);
}

#[test]
fn i3_catches_up_among_slow_loris() {
    i3_catches_up_among(16, SlowLoris);
}

#[test]
fn i3_catches_up_among_drops_after_receipt() {
    i3_catches_up_among(17, DropsAfterReceipt);
}

/// A slot that is redrawn while the owner's machine is down for good ends on a new node in the
/// committed root: by the bytes that it then has, without the owner.
#[test]
fn i3_a_redrawn_slot_needs_no_owner() {
    run(21, async |sim| {
        let mut scene = Scene::new(sim, SLOTS + 1).await;
        scene.cluster.world.sim.machine("owner").crash();
        let lost = scene.holder(3).await;
        let index = scene.cluster.index_of(lost).expect("one of ours");
        scene.cluster.crash(index);
        let declared = scene.cluster.sequencer().declare_lost(lost).await;
        declared.expect("the sequencer takes it");
        let is_redrawn = async || scene.holder(3).await != lost;
        let limit = Duration::from_secs(600);
        scene.cluster.wait("it is redrawn", limit, is_redrawn).await;
        scene.wait_acknowledged(limit).await;
        let slot = SlotIndex::new(3);
        roots::check_slot(
            &scene.cluster,
            owner_keys("owner").identity(),
            scene.group,
            slot,
        )
        .await;
        // And it carries its weight: with it and any three others all bytes are there.
        for slot in [0, 1, 2, 4] {
            let node = scene.holder(slot).await;
            let index = scene.cluster.index_of(node).expect("one of ours");
            scene.cluster.crash(index);
        }
        for file in 0..2 {
            let (got, _, _) = read(&scene, "reader", file).await;
            assert_eq!(got, Ok(true));
        }
    });
}

/// What an honest reader gets while a node is under attack.
async fn assert_unimpressed(scene: &Scene, reader: &str) {
    let (got, named, took) = read(scene, reader, 1).await;
    assert_eq!(got, Ok(true));
    assert_eq!(named, []);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn i9_sends_garbage() {
    run(31, async |sim| {
        let scene = Scene::new(sim, SLOTS).await;
        let mut hostile = Hostile::join(&scene.cluster.world, "hostile");
        let node = scene.holder(0).await;
        SendsGarbage { count: 200 }.attack(&mut hostile, node).await;
        assert_unimpressed(&scene, "reader").await;
        let more = Content { seed: 5, bytes: 1 };
        upload(&scene.owner, more)
            .await
            .expect("nothing has changed");
    });
}

#[test]
fn i9_hoards_streams() {
    run(32, async |sim| {
        let scene = Scene::new(sim, SLOTS).await;
        let hostile = Hostile::join(&scene.cluster.world, "hostile");
        let node = scene.holder(0).await;
        let begun = scene.cluster.world.sim.elapsed();
        let held = HoardsStreams { count: 10_000 }.attack(&hostile, node).await;
        // Streams without a request are ended after a while, and then others may be opened.
        let took = scene.cluster.world.sim.elapsed() - begun;
        let turns = 1 + took.as_secs() / Pace::SERVER.idle.as_secs();
        let at_once = RealLimits::DEFAULT.peer_streams_max;
        let most = at_once * usize::try_from(turns).expect("a few");
        assert!(held.len() <= most, "{} of at most {most}", held.len());
        assert_unimpressed(&scene, "reader").await;
    });
}

#[test]
fn i9_never_reads() {
    run(33, async |sim| {
        let scene = Scene::new(sim, SLOTS).await;
        let hostile = Hostile::join(&scene.cluster.world, "hostile");
        let target = Target {
            node: scene.holder(0).await,
            group: scene.group,
            slot: SlotIndex::new(0),
        };
        let capability = scene.capability(hostile.id);
        let attack = NeverReads { streams: 100 };
        let held = attack.attack(&hostile, target, &capability, 170_000).await;
        assert!(!held.is_empty());
        assert_unimpressed(&scene, "reader").await;
        // In the end each is given up.
        scene
            .cluster
            .world
            .sim
            .sleep(Duration::from_secs(1_200))
            .await;
        for mut stream in held {
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes).await;
            assert!(read.is_err() || bytes.len() < 3 * 170_000);
        }
    });
}

#[test]
fn i9_sends_slowly() {
    run(34, async |sim| {
        let scene = Scene::new(sim, SLOTS).await;
        let hostile = Hostile::join(&scene.cluster.world, "hostile");
        let node = scene.holder(0).await;
        let attack = SendsSlowly {
            streams: 100,
            every: Duration::from_secs(2),
        };
        let lasted = attack.attack(&hostile, node).await;
        assert!(lasted < Duration::from_secs(200), "{lasted:?}");
        assert_unimpressed(&scene, "reader").await;
    });
}

#[test]
fn misuses_capabilities() {
    run(35, async |sim| {
        let scene = Scene::new(sim, SLOTS).await;
        let hostile = Hostile::join(&scene.cluster.world, "hostile");
        let target = Target {
            node: scene.holder(0).await,
            group: scene.group,
            slot: SlotIndex::new(0),
        };
        let attack = MisusesCapabilities;
        let outcomes = attack
            .attack(&hostile, target, owner_keys("owner").identity())
            .await;
        let expected = [
            ("good", Ok(())),
            ("none", Err(ErrorCode::NotAuthorised)),
            ("another's", Err(ErrorCode::NotAuthorised)),
            ("ended", Err(ErrorCode::CapabilityExpired)),
            ("another group's", Err(ErrorCode::UnknownGroup)),
            ("signed by itself", Err(ErrorCode::NotAuthorised)),
        ];
        assert_eq!(outcomes, expected);
    });
}
