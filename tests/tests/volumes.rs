//! A volume on the whole network: nodes keep its segments, and another machine reads it with some of them
//! gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_client::segment_store::SegmentStore;
use cairn_core::{Digest, FencingNumber, Profile, SecretKey, VolumeId};
use cairn_runtime::{Sim, SimRuntime};
use cairn_tests::cluster::{Cluster, ClusterConfig, ClusterOwner};
use cairn_tests::content::Content;
use cairn_volume::fs::{self, Caller, Making, New, Place, Rooting};
use cairn_volume::key::InodeNumber;
use cairn_volume::keyring::Keyring;
use cairn_volume::memory_store::MemoryStore;
use cairn_volume::{Access, Volume, VolumeConfig, VolumeError, World};

type NetworkVolume = Volume<SimRuntime, ClusterOwner, MemoryStore>;

const NODES: usize = 8;
const ROOTING: Rooting = Rooting {
    uid: 0,
    gid: 0,
    mode: 0o755,
    generation: 1,
};

fn access() -> Access {
    Access {
        volume: VolumeId::new(Digest::of(b"a volume")),
        keys: Arc::new(Keyring::new([[7; 32]])),
        writer: SecretKey::from_bytes(&[8; 32]),
        fencing: FencingNumber::new(1),
        folder: Path::new("/volume").to_owned(),
    }
}

fn world(
    owner: &ClusterOwner,
    heads: &MemoryStore,
) -> World<SimRuntime, ClusterOwner, MemoryStore> {
    World {
        runtime: owner.client().runtime().clone(),
        segments: owner.clone(),
        heads: heads.clone(),
    }
}

async fn make(volume: &NetworkVolume, name: &[u8], bytes: &[u8]) -> Result<(), VolumeError> {
    let place = Place {
        directory: InodeNumber::ROOT,
        name,
    };
    let made = volume.edit(&[], |edit, moment| {
        let making = Making {
            new: New::File,
            mode: 0o644,
            generation: moment.entropy,
        };
        fs::make(edit, &Caller::SUPERUSER, place, making, moment.now)
    });
    let file = made.await?.inode;
    volume.write(&Caller::SUPERUSER, file, 0, bytes).await
}

async fn content(volume: &NetworkVolume, name: &[u8]) -> Vec<u8> {
    let place = Place {
        directory: InodeNumber::ROOT,
        name,
    };
    let found = volume.view(|view| fs::lookup(view, place)).await;
    let file = found.expect("it is there").inode;
    let mut content = Vec::new();
    loop {
        let at = u64::try_from(content.len()).expect("a small file");
        let more = volume.read(file, at, 1 << 20).await.expect("it is read");
        if more.is_empty() {
            return content;
        }
        content.extend(more);
    }
}

#[test]
fn i7_a_volume_is_read_on_another_machine_with_half_of_the_nodes_gone() {
    Sim::new(91).run(async |sim| {
        let mut cluster = Cluster::start(sim, ClusterConfig::new(NODES)).await;
        cluster.wait_for_nodes(NODES).await;
        let heads = MemoryStore::default();
        let (machine, owner) = cluster.world.owner("owner", Profile::Dev8);
        let volume = Volume::create(
            world(&owner, &heads),
            access(),
            VolumeConfig::default(),
            ROOTING,
        );
        let volume = volume.await.expect("it is made");
        let large = Content {
            seed: 1,
            bytes: 9_000_000,
        };
        let large = large.make();
        make(&volume, b"large", &large)
            .await
            .expect("it is written");
        for number in 0..50_u64 {
            let small = Content {
                seed: 100 + number,
                bytes: 700,
            };
            let name = format!("small {number:02}");
            let made = make(&volume, name.as_bytes(), &small.make()).await;
            made.expect("it is written");
        }
        volume.commit().await.expect("nodes take it");
        SegmentStore::sync(&owner)
            .await
            .expect("the ledger takes it");
        machine.crash();
        // What a node lacks it gets from the others.
        cluster.world.sim.sleep(Duration::from_secs(120)).await;
        for index in 0..NODES / 2 {
            cluster.crash(index);
        }
        // The same keys and nothing else.
        let other = cluster.world.sim.machine("other");
        let reader = cluster.world.owner_on(&other, "owner", Profile::Dev8);
        let opened = Volume::open(world(&reader, &heads), access(), VolumeConfig::default()).await;
        let opened = opened.expect("any four of eight give it");
        assert!(content(&opened, b"large").await == large);
        for number in [0_u64, 17, 49] {
            let small = Content {
                seed: 100 + number,
                bytes: 700,
            };
            let name = format!("small {number:02}");
            assert!(content(&opened, name.as_bytes()).await == small.make());
        }
        let listed = opened
            .view(|view| fs::read_directory(view, InodeNumber::ROOT, b"", 100))
            .await;
        assert_eq!(listed.expect("it is listed").len(), 51);
    });
}
