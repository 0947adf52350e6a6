//! A real process that is killed with SIGKILL while it puts shards on a real disk.
//!
//! The child prints a line for each shard after it is durable; the parent reads some lines, kills
//! it, opens the store and looks for every shard that it read of. In the page cache of a machine
//! that stays up nothing written is lost, so this shows that recovery takes what a killed process
//! leaves; what power loss leaves is shown in the simulator.

#![expect(clippy::unwrap_used, reason = "a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::{
    Bounded, ByteCount, Code, Digest, GroupId, SecretKey, SegmentNumber, SegmentRecord, ShardRoot,
    Signed, SlotIndex, UnixMillis,
};
use cairn_ledger::SlotRef;
use cairn_node::store::{
    Check, GroupCommit, Replace, ShardPlace, ShardPut, ShardStore, SledCache, StoreConfig, StoreKey,
};
use cairn_proofs::hash_shard;
use cairn_runtime::{RealDisk, RealRuntime};

/// Names the folder that a child is to put shards into, and from which number on.
const CHILD: &str = "CAIRN_KILL_TEST_CHILD";
/// How often a child is killed.
const ROUNDS: u32 = 12;
/// Puts under way at once in a child.
const AT_ONCE: u32 = 8;

fn open(folder: &Path) -> ShardStore<RealDisk> {
    let mut config = StoreConfig::new(folder.to_owned(), ByteCount::new(1 << 30));
    config.floor = ByteCount::ZERO;
    config.pack_bytes = 1 << 20;
    let disk = RealDisk::new();
    let cache = Arc::new(SledCache::open(&disk, folder).expect("sled opens"));
    let (store, _) = ShardStore::open(disk, config, cache, StoreKey::new([3; 32])).unwrap();
    store
}

fn place(number: u32) -> ShardPlace {
    let slot = SlotRef {
        group: GroupId::new(Digest::of(b"group")),
        slot: SlotIndex::new(0),
    };
    ShardPlace::new(slot, SegmentNumber::new(number))
}

fn content(number: u32) -> Bytes {
    let bytes = 1 + usize::try_from(number * 7919 % 50_000).unwrap();
    let mut content = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.finalize_xof().fill(&mut content);
    content.into()
}

fn put_of(number: u32) -> ShardPut {
    let bytes = content(number);
    let hashed = hash_shard(&bytes).unwrap();
    let place = place(number);
    let mut roots = vec![ShardRoot::default(); 4];
    roots[0] = hashed.root;
    let record = SegmentRecord {
        group: place.slot.group,
        number: place.segment,
        code: Code::new(2, 4).unwrap(),
        payload_bytes: u32::try_from(bytes.len()).unwrap() * 2,
        shard_roots: Bounded::new(roots).unwrap(),
    };
    ShardPut {
        slot: place.slot.slot,
        record: Signed::sign(record, &SecretKey::from_bytes(&[1; 32])),
        bytes,
        hashed,
        replace: Replace::Unrevised,
        written_at: UnixMillis::new(0),
    }
}

/// Puts shards for ever, and prints the number of each that is durable.
async fn put_for_ever(runtime: RealRuntime, folder: &Path, from: u32) {
    let commit = GroupCommit::new(runtime, open(folder));
    let tasks = (0..AT_ONCE).map(|task| {
        let commit = commit.clone();
        async move {
            for number in (from + task..).step_by(usize::try_from(AT_ONCE).unwrap()) {
                commit.put(put_of(number)).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "durable {number}").unwrap();
            }
        }
    });
    futures::future::join_all(tasks).await;
}

#[test]
#[ignore = "what the parent starts and kills"]
fn child() {
    let told = std::env::var(CHILD).expect("started by the parent");
    let (from, folder) = told.split_once(' ').unwrap();
    let from = from.parse().unwrap();
    RealRuntime::run(|runtime| put_for_ever(runtime, Path::new(folder), from)).unwrap();
}

#[test]
fn i1_kill_9_under_load_loses_nothing_that_was_reported_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut durable: Vec<u32> = Vec::new();
    for round in 0..ROUNDS {
        let from = round * 10_000;
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--ignored"])
            .env(CHILD, format!("{from} {}", folder.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let reported = lines
            .map(Result::unwrap)
            .filter_map(|line| line.strip_prefix("durable ")?.parse::<u32>().ok());
        let wanted = usize::try_from(5 + round * 23).unwrap();
        durable.extend(reported.take(wanted));
        process.kill().unwrap();
        process.wait().unwrap();
        let store = open(folder.path());
        for number in &durable {
            let read = store.read_shard(place(*number), Check::Yes).unwrap();
            assert_eq!(read.bytes, content(*number), "round {round}");
        }
    }
    assert!(durable.len() > 1000, "{} shards", durable.len());
}
