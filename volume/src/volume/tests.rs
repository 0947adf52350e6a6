//! Volumes on a store in memory: what is read back, what a commit makes of it, and what a crash leaves.

mod crashes;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use cairn_client::segment_store::HeadStore as _;
use cairn_core::{Digest, FencingNumber, SecretKey, VolumeId};
use cairn_runtime::{Sim, SimRuntime};

use super::{Access, CleanPolicy, UsageLog, Volume, VolumeConfig, VolumeError, World, apply};
use crate::fs::{self, Caller, FsError, Making, New, Place, Rooting};
use crate::key::{InodeNumber, Key, SegmentId};
use crate::keyring::Keyring;
use crate::memory_store::{MemoryStore, StoreFault};
use crate::run::{RunRef, SaltBytes};
use crate::tree::{Pages, Tree};

pub(super) type TestVolume = Volume<SimRuntime, MemoryStore, MemoryStore>;

const ROOTING: Rooting = Rooting {
    uid: 1_000,
    gid: 1_000,
    mode: 0o755,
    generation: 1,
};

fn access(folder: &str) -> Access {
    Access {
        volume: VolumeId::new(Digest::of(b"a volume")),
        keys: Arc::new(Keyring::new([[7; 32]])),
        writer: SecretKey::from_bytes(&[8; 32]),
        fencing: FencingNumber::new(1),
        folder: Path::new(folder).to_owned(),
    }
}

fn config() -> VolumeConfig {
    VolumeConfig {
        page_cache_bytes: 1 << 20,
        journal_bytes_max: 8 << 20,
        run_bytes_max: 16 << 10,
        ..VolumeConfig::default()
    }
}

fn world(runtime: SimRuntime, store: &MemoryStore) -> World<SimRuntime, MemoryStore, MemoryStore> {
    World {
        runtime,
        segments: store.clone(),
        heads: store.clone(),
    }
}

async fn create(runtime: SimRuntime, store: &MemoryStore) -> Result<TestVolume, VolumeError> {
    let world = world(runtime, store);
    Volume::create(world, access("/volume"), config(), ROOTING).await
}

async fn open(runtime: SimRuntime, store: &MemoryStore) -> Result<TestVolume, VolumeError> {
    Volume::open(world(runtime, store), access("/volume"), config()).await
}

async fn make(volume: &TestVolume, name: &[u8]) -> Result<InodeNumber, VolumeError> {
    let place = Place {
        directory: InodeNumber::ROOT,
        name,
    };
    let found = volume
        .edit(&[], |edit, moment| {
            let making = Making {
                new: New::File,
                mode: 0o644,
                generation: moment.entropy,
            };
            fs::make(edit, &Caller::SUPERUSER, place, making, moment.now)
        })
        .await?;
    Ok(found.inode)
}

/// Bytes that do not compress.
fn noise(bytes: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

async fn whole(volume: &TestVolume, inode: InodeNumber) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let at = u64::try_from(content.len()).unwrap();
        let more = volume.read(inode, at, 100_000).await.unwrap();
        if more.is_empty() {
            return content;
        }
        content.extend(more);
    }
}

async fn lookup(volume: &TestVolume, name: &[u8]) -> Result<InodeNumber, VolumeError> {
    let place = Place {
        directory: InodeNumber::ROOT,
        name,
    };
    let found = volume.view(|view| fs::lookup(view, place)).await?;
    Ok(found.inode)
}

#[test]
fn what_was_committed_is_read_on_another_machine() {
    Sim::new(1).run(async |sim| {
        let store = MemoryStore::default();
        let volume = create(sim.machine("one").runtime(), &store).await.unwrap();
        let file = make(&volume, b"file").await.unwrap();
        let text = noise(300_000, 1);
        let plain = vec![7; 50_000];
        let caller = Caller::SUPERUSER;
        volume.write(&caller, file, 0, &text).await.unwrap();
        volume
            .write(&caller, file, 1_000_000, &plain)
            .await
            .unwrap();
        let mut expected = text.clone();
        expected.resize(1_000_000, 0);
        expected.extend(&plain);
        assert!(whole(&volume, file).await == expected, "from the journal");
        let number = volume.commit().await.unwrap();
        assert!(whole(&volume, file).await == expected, "from the store");
        assert_eq!(volume.local_bytes(), 0);
        assert_eq!(volume.commit().await.unwrap(), number, "nothing to commit");
        // Overwritten in the middle, across runs.
        let other = noise(20_000, 2);
        volume.write(&caller, file, 10_000, &other).await.unwrap();
        expected[10_000..30_000].copy_from_slice(&other);
        assert!(whole(&volume, file).await == expected, "from both");
        volume.commit().await.unwrap();

        let elsewhere = open(sim.machine("two").runtime(), &store).await.unwrap();
        assert_eq!(lookup(&elsewhere, b"file").await.unwrap(), file);
        assert!(whole(&elsewhere, file).await == expected, "elsewhere");
        assert!(matches!(
            lookup(&elsewhere, b"none").await,
            Err(VolumeError::Fs(FsError::NoEntry))
        ));
        let flaws = elsewhere.view(|view| fs::check(view)).await.unwrap();
        assert!(flaws.is_empty(), "{flaws:?}");
    });
}

#[test]
fn a_volume_is_made_once_and_opened_only_when_it_was() {
    Sim::new(2).run(async |sim| {
        let store = MemoryStore::default();
        let runtime = sim.machine("one").runtime();
        let none = open(runtime.clone(), &store).await.unwrap_err();
        assert!(matches!(none, VolumeError::NoHead { .. }), "{none}");
        drop(create(runtime, &store).await.unwrap());
        let again = create(sim.machine("two").runtime(), &store).await;
        let again = again.unwrap_err();
        assert!(matches!(again, VolumeError::Exists { .. }), "{again}");
    });
}

/// What one machine has and never committed is not mixed with what another wrote since.
#[test]
fn a_journal_is_not_added_to_what_another_wrote() {
    Sim::new(3).run(async |sim| {
        let store = MemoryStore::default();
        let machine = sim.machine("one");
        let volume = create(machine.runtime(), &store).await.unwrap();
        make(&volume, b"never committed").await.unwrap();
        volume.sync_local().await.unwrap();
        machine.crash();
        let other = open(sim.machine("two").runtime(), &store).await.unwrap();
        make(&other, b"of another").await.unwrap();
        other.commit().await.unwrap();
        let error = open(machine.restart(), &store).await.unwrap_err();
        assert!(matches!(error, VolumeError::Diverged { .. }), "{error}");
    });
}

/// Changes go on while a commit is under way, and those that are made meanwhile are in the next.
#[test]
fn changes_during_a_commit_are_kept() {
    Sim::new(4).run(async |sim| {
        let store = MemoryStore::default();
        let runtime = sim.machine("one").runtime();
        let volume = create(runtime.clone(), &store).await.unwrap();
        let file = make(&volume, b"file").await.unwrap();
        let caller = Caller::SUPERUSER;
        let mut expected = noise(400_000, 3);
        volume.write(&caller, file, 0, &expected).await.unwrap();
        for turn in 0..20_u8 {
            let committing = volume.clone();
            let changing = volume.clone();
            let part = noise(9_000, turn);
            let at = usize::from(turn) * 17_000;
            let (done, ()) = futures::join!(committing.commit(), async {
                let offset = u64::try_from(at).unwrap();
                changing.write(&caller, file, offset, &part).await.unwrap();
            });
            done.unwrap();
            expected[at..at + 9_000].copy_from_slice(&part);
            assert!(whole(&volume, file).await == expected, "{turn}");
        }
        volume.commit().await.unwrap();
        let elsewhere = open(sim.machine("two").runtime(), &store).await.unwrap();
        assert!(whole(&elsewhere, file).await == expected);
    });
}

/// What nothing refers to any more is given up: rewriting a file keeps the store bounded.
#[test]
fn segments_without_use_are_given_up() {
    Sim::new(5).run(async |sim| {
        let store = MemoryStore::default();
        let volume = create(sim.machine("one").runtime(), &store).await.unwrap();
        let file = make(&volume, b"file").await.unwrap();
        let caller = Caller::SUPERUSER;
        for turn in 0..12_u8 {
            let text = noise(500_000, turn);
            volume.write(&caller, file, 0, &text).await.unwrap();
            volume.commit().await.unwrap();
        }
        let kept = store.kept_bytes();
        assert!(kept < 2_000_000, "{kept} bytes are kept of 500,000");
        assert!(whole(&volume, file).await == noise(500_000, 11));
    });
}

/// Rewriting small blocks here and there leaves segments of which little is in use; cleaning keeps what the
/// store has near what the file has.
#[test]
fn cleaning_bounds_what_random_rewrites_leave() {
    const FILE: usize = 4 << 20;
    const BLOCK: usize = 4 << 10;
    Sim::new(6).run(async |sim| {
        let store = MemoryStore::default();
        let volume = create(sim.machine("one").runtime(), &store).await.unwrap();
        let file = make(&volume, b"file").await.unwrap();
        let caller = Caller::SUPERUSER;
        let mut expected = noise(FILE, 1);
        volume.write(&caller, file, 0, &expected).await.unwrap();
        volume.commit().await.unwrap();
        let mut rng = sim.rng("blocks");
        let policy = CleanPolicy {
            live_percent_max: 80,
            segments_max: 1_000,
        };
        let mut most = 0;
        let mut moved = 0;
        for turn in 0..60_u8 {
            for _ in 0..64 {
                let at = rng.index(FILE / BLOCK) * BLOCK;
                let block = noise(BLOCK, turn);
                let offset = u64::try_from(at).unwrap();
                volume.write(&caller, file, offset, &block).await.unwrap();
                expected[at..at + BLOCK].copy_from_slice(&block);
            }
            volume.commit().await.unwrap();
            let cleaned = volume.clean(policy).await.unwrap();
            moved += cleaned.data_bytes;
            most = most.max(store.kept_bytes());
        }
        let file_bytes = u64::try_from(FILE).unwrap();
        assert!(most * 10 <= file_bytes * 13, "{most} bytes kept of {FILE}");
        assert!(moved > file_bytes, "{moved} bytes were moved");
        assert!(whole(&volume, file).await == expected);
        let elsewhere = open(sim.machine("two").runtime(), &store).await.unwrap();
        assert!(whole(&elsewhere, file).await == expected, "elsewhere");
    });
}

type Later = fn(&mut Vec<u8>) -> (u64, Vec<u8>);

/// Two writes, a commit that fails in one of the store's calls, a change of what they wrote, and a crash.
async fn change_after_a_failed_commit(sim: Sim, later: Later, (call, fault): (u64, StoreFault)) {
    let store = MemoryStore::default();
    let machine = sim.machine("one");
    let volume = create(machine.runtime(), &store).await.unwrap();
    let file = make(&volume, b"file").await.unwrap();
    let caller = Caller::SUPERUSER;
    let mut text = noise(8_192, 1);
    for half in [0, 4_096] {
        let offset = u64::try_from(half).unwrap();
        let bytes = &text[half..half + 4_096];
        volume.write(&caller, file, offset, bytes).await.unwrap();
    }
    store.plan_fault(store.call_count() + call, fault);
    let _outcome = volume.commit().await;
    store.clear_faults();
    let (offset, bytes) = later(&mut text);
    volume.write(&caller, file, offset, &bytes).await.unwrap();
    volume.sync_local().await.unwrap();
    assert!(whole(&volume, file).await == text);
    machine.crash();
    let again = open(machine.restart(), &store).await.unwrap();
    assert!(whole(&again, file).await == text, "{fault:?} {call}");
    again.commit().await.unwrap();
    assert!(whole(&again, file).await == text);
    let flaws = again.view(|view| fs::check(view)).await.unwrap();
    assert!(flaws.is_empty(), "{flaws:?}");
}

/// What a commit makes of the tree must fit what is changed meanwhile, and what the journal replays.
#[test]
fn changes_fit_what_a_commit_made_of_the_extents_that_they_cut() {
    let laters: [Later; 3] = [
        |text| {
            text[..2].copy_from_slice(b"ab");
            (0, b"ab".to_vec())
        },
        |text| {
            text[4_096] = b'c';
            (4_096, b"c".to_vec())
        },
        |text| {
            text[4_000..4_200].fill(7);
            (4_000, vec![7; 200])
        },
    ];
    for (number, later) in (0_u64..).zip(laters) {
        for fault in [StoreFault::Undone, StoreFault::Unanswered] {
            for call in 0..4 {
                Sim::new(number).run(async |sim| {
                    change_after_a_failed_commit(sim, later, (call, fault)).await;
                });
            }
        }
    }
}

/// A page that empties is no way to its neighbour any more, which need not be in memory.
#[test]
fn a_name_that_changes_needs_no_other_page() {
    let pages = Pages::new(1 << 24);
    let mut tree = Tree::empty();
    let key = |number: u32| Key::entry(InodeNumber::ROOT, format!("{number:06}").as_bytes());
    let mut number = 0;
    let mut written = BTreeMap::new();
    let mut write = |tree: &mut Tree, pages: &Pages| {
        let mut last = None;
        tree.write(pages, &mut |page| {
            let at = RunRef {
                segment: SegmentId {
                    group: 0,
                    number: u32::try_from(written.len()).unwrap(),
                },
                salt: SaltBytes([0; 16]),
                offset: 0,
                bytes: 1,
                stored: 1,
                key: 0,
            };
            written.insert(at, (page.level, page.first.clone(), page.plain.to_vec()));
            last = Some(page.level);
            Ok::<_, std::convert::Infallible>(at)
        })
        .unwrap();
        (last, written.clone())
    };
    // Until the last page has one entry.
    let kept = loop {
        number += 1;
        let value = Some(vec![1; 400].into());
        tree.set(&pages, &key(number), value).unwrap();
        let (level, written) = write(&mut tree, &pages);
        if level == Some(1) {
            break written;
        }
    };
    let fresh = Pages::new(0);
    for (at, (level, first, plain)) in &kept {
        if *level == 1 || *first == key(number) {
            fresh.admit(*at, plain).unwrap();
        }
    }
    let changes = vec![
        (key(number), None),
        (key(number + 1), Some(vec![2; 400].into())),
    ];
    let mut usage = UsageLog::default();
    apply(
        &mut tree,
        &fresh,
        &changes,
        &mut usage,
        &mut BTreeSet::new(),
    )
    .unwrap();
    assert_eq!(
        tree.get(&fresh, &key(number + 1))
            .unwrap()
            .map(|value| value.len()),
        Some(400)
    );
}

/// A store that shows an old head is not followed; a journal that another went on from is.
#[test]
fn a_head_that_is_older_than_what_this_machine_saw_is_refused() {
    Sim::new(7).run(async |sim| {
        let store = MemoryStore::default();
        let machine = sim.machine("one");
        let volume = create(machine.runtime(), &store).await.unwrap();
        let old = store.newest(access("/").volume).await.unwrap().unwrap();
        make(&volume, b"one").await.unwrap();
        volume.commit().await.unwrap();
        machine.crash();
        // Another goes on, then this machine, and loses nothing that it synced.
        let other = open(sim.machine("two").runtime(), &store).await.unwrap();
        make(&other, b"two").await.unwrap();
        other.commit().await.unwrap();
        let volume = open(machine.restart(), &store).await.unwrap();
        make(&volume, b"three").await.unwrap();
        volume.sync_local().await.unwrap();
        machine.crash();
        let volume = open(machine.restart(), &store).await.unwrap();
        for name in [&b"one"[..], b"two", b"three"] {
            lookup(&volume, name).await.unwrap();
        }
        let number = volume.commit().await.unwrap();
        machine.crash();
        let stale = MemoryStore::default();
        let id = access("/").volume;
        stale.publish(id, 1, old).await.unwrap();
        let world = World {
            runtime: machine.restart(),
            segments: store.clone(),
            heads: stale,
        };
        let error = Volume::open(world, access("/volume"), config()).await;
        let error = error.unwrap_err();
        let VolumeError::Behind { expected, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(expected, number);
    });
}
