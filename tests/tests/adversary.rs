//! Every adversary against the real network: caught, named, and of no cost to others.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::UploadError;
use cairn_client::read::{ReadError, SlotReadFailure};
use cairn_client::upload::PutFailure;
use cairn_core::{ErrorCode, SlotIndex};
use cairn_net::{DataError, Pace, RealLimits};
use cairn_runtime::Sim;
use cairn_tests::adversary::peers::{
    HoardsStreams, Hostile, MisusesCapabilities, NeverReads, SendsGarbage, SendsSlowly, Target,
};
use cairn_tests::adversary::{
    DropsAfterReceipt, FalseReceipts, FlipsBits, ForgesDetails, ForgesRecords, LyingNode,
    ServesOther, SlowLoris, TruncatesStreams,
};
use cairn_tests::cluster::{ClusterConfig, owner_keys};
use cairn_tests::content::Content;
use cairn_tests::roots;
use cairn_tests::scene::{Got, SLOTS, Scene, upload};
use tokio::io::AsyncReadExt;

fn run(seed: u64, test: impl AsyncFnOnce(Sim)) {
    Sim::new(seed).run(test);
}

/// Nodes and an owner with two files.
async fn scene(sim: Sim, nodes: usize) -> Scene {
    Scene::new(sim, ClusterConfig::new(nodes), &[700_000; 2]).await
}

/// What a slot's failure looks like when it is this adversary's.
type IsCaught = fn(&SlotReadFailure) -> bool;

/// With n - k liars of a kind every byte comes; with one more the error names each of them.
fn lies_are_caught_and_named(seed: u64, liar: impl LyingNode + 'static, is_caught: IsCaught) {
    run(seed, async |sim| {
        let liar: Arc<dyn LyingNode> = Arc::new(liar);
        let mut scene = scene(sim, SLOTS).await;
        let mut liars = scene.corrupt(&[0, 1, 3, 6], &liar).await;
        let Got { right, named, took } = scene.read("first reader", 0).await;
        assert_eq!(right, Ok(true), "{liar:?}: a wrong byte");
        assert!(took < Duration::from_secs(30), "{liar:?}: {took:?}");
        for node in named {
            assert!(liars.contains(&node), "{liar:?}: an honest node is named");
        }
        liars.extend(scene.corrupt(&[4], &liar).await);
        let Got { right, named, took } = scene.read("second reader", 0).await;
        let Err(ReadError::TooFewSlots { missing, .. }) = right else {
            panic!("{liar:?}: expected that too few slots are left, found {right:?}");
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
        let mut scene = scene(sim, SLOTS).await;
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
        let mut scene = scene(sim, SLOTS).await;
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
        let mut scene = scene(sim, SLOTS + 1).await;
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
            let got = scene.read("reader", file).await;
            assert_eq!(got.right, Ok(true));
        }
    });
}

/// What an honest reader gets while a node is under attack.
async fn assert_unimpressed(scene: &Scene, reader: &str) {
    let Got { right, named, took } = scene.read(reader, 1).await;
    assert_eq!(right, Ok(true));
    assert_eq!(named, []);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn i9_sends_garbage() {
    run(31, async |sim| {
        let scene = scene(sim, SLOTS).await;
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
        let scene = scene(sim, SLOTS).await;
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
        let scene = scene(sim, SLOTS).await;
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
        let scene = scene(sim, SLOTS).await;
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
        let scene = scene(sim, SLOTS).await;
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
