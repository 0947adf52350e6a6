//! On the operating system's files: accounting, sled, many at once.

use std::path::Path;
use std::sync::Arc;

use cairn_core::{ByteCount, UnixMillis};
use cairn_runtime::{Disk, RealDisk, RealRuntime};

use super::fixture::{assert_version, detail, final_at, put_of, put_one, shard, slot, version};
use crate::store::{
    GroupCommit, IndexCache, OpenReport, PutDone, ShardStore, SledCache, StoreConfig, StoreKey,
};

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        folder: folder.to_owned(),
        capacity: ByteCount::new(256 << 20),
        floor: ByteCount::ZERO,
        pack_bytes: 1 << 20,
    }
}

fn open(folder: &Path) -> (ShardStore<RealDisk>, OpenReport) {
    let disk = RealDisk::new();
    let cache: Arc<dyn IndexCache> = Arc::new(SledCache::open(&disk, folder).unwrap());
    ShardStore::open(disk, config(folder), cache, StoreKey::new([1; 32])).unwrap()
}

/// Bytes that the files of a store take by the file system, the index cache left out.
fn on_disk(folder: &Path) -> u64 {
    use cairn_runtime::{DiskFile, EntryKind, OpenMode};
    let disk = RealDisk::new();
    let mut bytes = 0;
    for entry in disk.list(folder).unwrap() {
        let path = folder.join(&entry.name);
        bytes += match entry.kind {
            EntryKind::Directory if entry.name == "index" => 0,
            EntryKind::Directory => on_disk(&path),
            EntryKind::File | EntryKind::Other => {
                let file = disk.open(&path, OpenMode::Read).unwrap();
                file.allocated_bytes().unwrap()
            }
        };
    }
    bytes
}

/// What the store counts is what the file system has, within 2 % and 64 KiB: it does not count
/// the lock, the identity and the file system's own records of holes.
fn assert_accounts(store: &ShardStore<RealDisk>, folder: &Path) {
    let used = store.figures().unwrap().used.get();
    let found = on_disk(folder);
    let bound = (64 << 10) + used / 50;
    assert!(
        used.abs_diff(found) <= bound,
        "counts {used}, the file system has {found}"
    );
}

#[test]
fn i9_used_bytes_agree_with_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    for batch in 0..10 {
        let puts: Vec<_> = (0..16)
            .map(|at| put_of(shard(1, batch * 16 + at), 0))
            .collect();
        for result in store.put(&puts) {
            result.unwrap();
        }
    }
    assert_accounts(&store, folder.path());
    let full = store.figures().unwrap().used;
    store
        .reach(slot(1), &detail(slot(1), 1, &[Some(0); 160], &[]))
        .unwrap();
    let leaves: Vec<_> = (0..160_u32)
        .map(|number| (number % 3 == 0).then_some(0))
        .collect();
    let emptied: Vec<u32> = (0..160).filter(|number| number % 3 != 0).collect();
    store
        .reach(slot(1), &detail(slot(1), 2, &leaves, &emptied))
        .unwrap();
    store.release_emptied(slot(1), &final_at(2)).unwrap();
    assert_accounts(&store, folder.path());
    assert!(store.figures().unwrap().used.get() < full.get() / 2);
    while store.compact().unwrap().is_some() {}
    assert_accounts(&store, folder.path());
    drop(store);
    let (store, _) = open(folder.path());
    assert_accounts(&store, folder.path());
    for number in (0..160).filter(|number| number % 3 == 0) {
        assert_version(&store, shard(1, number), 0);
    }
}

#[test]
fn a_lost_or_damaged_index_cache_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    for number in 0..160 {
        put_one(&store, shard(1, number), 0).unwrap();
    }
    store.expire(slot(1), 150, UnixMillis::new(2000)).unwrap();
    store.close().unwrap();
    drop(store);
    let all_right = |report: &OpenReport, store: &ShardStore<RealDisk>| {
        assert_eq!(report.shard_count, 150);
        assert_eq!(version(store, shard(1, 149)), Some(0));
        assert_eq!(version(store, shard(1, 150)), None);
    };
    let (store, report) = open(folder.path());
    assert!(report.cached_pack_count > 0, "{report:?}");
    all_right(&report, &store);
    drop(store);

    let disk = RealDisk::new();
    let index = folder.path().join("index");
    disk.remove_dir_all(&index).unwrap();
    let (store, report) = open(folder.path());
    assert_eq!(report.cached_pack_count, 0, "{report:?}");
    all_right(&report, &store);
    store.close().unwrap();
    drop(store);

    for entry in disk.list(&index).unwrap() {
        let path = index.join(&entry.name);
        if entry.kind == cairn_runtime::EntryKind::File {
            disk.replace_file(&path, &vec![0x5a; 4096]).unwrap();
        }
    }
    let (store, report) = open(folder.path());
    all_right(&report, &store);
}

/// Says something else than it was told, as a stale or damaged cache might.
#[derive(Debug)]
struct Liar(Vec<u8>);

impl IndexCache for Liar {
    fn load(&self, _pack: u32) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }

    fn store(&self, _pack: u32, _index: &[u8]) {}

    fn remove(&self, _pack: u32) {}

    fn close(&self) {}
}

#[test]
fn i2_a_cache_that_lies_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    for number in 0..160 {
        put_one(&store, shard(1, number), 0).unwrap();
    }
    drop(store);
    for lie in [vec![], vec![0; 50], vec![0xff; 5000]] {
        let (store, report) = ShardStore::open(
            RealDisk::new(),
            config(folder.path()),
            Arc::new(Liar(lie)),
            StoreKey::new([1; 32]),
        )
        .unwrap();
        assert_eq!((report.shard_count, report.cached_pack_count), (160, 0));
        assert_version(&store, shard(1, 159), 0);
    }
}

#[test]
fn i1_many_puts_at_once_share_syncs_and_all_are_durable() {
    let folder = tempfile::tempdir().unwrap();
    RealRuntime::run(|runtime| {
        let folder = folder.path().to_owned();
        async move {
            let (store, _) = open(&folder);
            let commit = GroupCommit::new(runtime.clone(), store);
            let puts = (0..200).map(|number| {
                let commit = commit.clone();
                async move { commit.put(put_of(shard(1, number), 0)).await }
            });
            for result in futures::future::join_all(puts).await {
                assert_eq!(result.unwrap(), PutDone::Stored);
            }
            commit.shutdown().await.unwrap();
            let late = commit.put(put_of(shard(1, 300), 0)).await;
            assert!(late.is_err());
        }
    })
    .unwrap();
    let (store, report) = open(folder.path());
    assert_eq!(report.shard_count, 200);
    assert_version(&store, shard(1, 199), 0);
}
