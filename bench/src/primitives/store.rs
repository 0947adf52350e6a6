//! The shard store beside a raw append to one file with the same syncs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cairn_core::message::{ShardRange, WithRecord};
use cairn_core::{
    Bounded, ByteCount, Code, Digest, GroupId, SecretKey, SegmentNumber, SegmentRecord, ShardRoot,
    Signed, SlotIndex, UnixMillis,
};
use cairn_ledger::SlotRef;
use cairn_node::store::{
    BATCH_BYTES_MAX, Check, GroupCommit, IndexCache, NoCache, OpenReport, Replace, ShardPlace,
    ShardPut, ShardStore, SledCache, StoreConfig, StoreKey,
};
use cairn_proofs::{HashedShard, hash_shard};
use cairn_runtime::{Disk, DiskFile, OpenMode, RealDisk, RealRuntime, Runtime};

use crate::cpu_time::{cpu_time_of, process_cpu_time};
use crate::report::Report;

/// Puts under way at once.
const CONCURRENCY: usize = 16;
/// Bytes of shards in one pass.
const PASS_BYTES: usize = 512 << 20;
/// Passes; the median counts.
const PASSES: usize = 5;
/// Shards put at once where a store is only filled: small ones, so a batch stays within bounds.
const FILL: u32 = 2048;

const _: () = assert!(FILL * 8192 <= BATCH_BYTES_MAX);

/// What is measured of one way to write.
#[derive(Clone, Copy)]
struct Pass {
    wall: Duration,
    cpu: Duration,
}

/// Put throughput, 16 at once, beside the raw append of the same bytes with a sync for every 16.
///
/// # Errors
///
/// If the disk refuses.
pub fn puts(folder: &Path) -> Result<Report> {
    let title = format!(
        "Put {} MiB, {CONCURRENCY} at once, and make durable: median of {PASSES} passes",
        PASS_BYTES >> 20
    );
    let columns = ["what", "shard", "MB/s wall", "CPU-s per GB"];
    let mut report = Report::new(title, &columns);
    for shard_bytes in [64 << 10, 1 << 20] {
        let raw = median(|| raw_append(folder, shard_bytes))?;
        let store = median(|| put_all(folder, shard_bytes))?;
        for (what, pass) in [("raw append, fdatasync per 16", raw), ("store", store)] {
            let bytes = u32::try_from(PASS_BYTES).map(f64::from)?;
            let speed = bytes / 1e6 / pass.wall.as_secs_f64();
            let cpu = pass.cpu.as_secs_f64() / (bytes / 1e9);
            report.push(vec![
                what.to_owned(),
                format!("{} KiB", shard_bytes >> 10),
                format!("{speed:.0}"),
                format!("{cpu:.2}"),
            ]);
        }
    }
    Ok(report)
}

fn median(mut pass: impl FnMut() -> Result<Pass>) -> Result<Pass> {
    let mut passes = (0..PASSES).map(|_| pass()).collect::<Result<Vec<_>>>()?;
    passes.sort_unstable_by_key(|pass| pass.wall);
    Ok(passes[PASSES / 2])
}

fn measure<T>(clock: &RealRuntime, run: impl FnOnce() -> Result<T>) -> Result<Pass> {
    let (wall, cpu) = (clock.monotonic(), process_cpu_time());
    run()?;
    Ok(Pass {
        wall: clock.monotonic().saturating_sub(wall),
        cpu: process_cpu_time().saturating_sub(cpu),
    })
}

/// The same bytes to one file, a sync for every 16 shards.
fn raw_append(folder: &Path, shard_bytes: usize) -> Result<Pass> {
    let folder = tempfile::tempdir_in(folder)?;
    let path = folder.path().join("raw");
    RealRuntime::run(|runtime| async move {
        let disk = RealDisk::new();
        let file = disk.open(&path, OpenMode::CreateNew)?;
        let shard = content(shard_bytes);
        measure(&runtime, || {
            let mut offset = 0;
            for batch in 0..PASS_BYTES / shard_bytes / CONCURRENCY {
                black_box(batch);
                let parts = vec![&*shard; CONCURRENCY];
                file.write_all_at(&parts, offset)?;
                file.sync()?;
                offset += u64::try_from(shard_bytes * CONCURRENCY)?;
            }
            Ok(())
        })
    })?
}

/// Puts by 16 tasks, each waiting for its shard to be durable before the next.
fn put_all(folder: &Path, shard_bytes: usize) -> Result<Pass> {
    let folder = tempfile::tempdir_in(folder)?;
    let (store, _) = open(folder.path(), Arc::new(NoCache))?;
    let (shard, hashed) = shard(shard_bytes)?;
    let puts: Vec<ShardPut> = (0..PASS_BYTES / shard_bytes)
        .map(|number| put_of(u32::try_from(number).unwrap_or_default(), &shard, &hashed))
        .collect();
    RealRuntime::run(|runtime| async move {
        let commit = GroupCommit::new(runtime.clone(), store);
        let (wall, cpu) = (runtime.monotonic(), process_cpu_time());
        let tasks: Vec<_> = puts
            .chunks(puts.len() / CONCURRENCY)
            .map(|puts| {
                let (commit, puts) = (commit.clone(), puts.to_vec());
                runtime.spawn("puts", async move {
                    for put in puts {
                        commit.put(put).await?;
                    }
                    Ok::<(), anyhow::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.join().await??;
        }
        let pass = Pass {
            wall: runtime.monotonic().saturating_sub(wall),
            cpu: process_cpu_time().saturating_sub(cpu),
        };
        commit.shutdown().await?;
        Ok(pass)
    })?
}

/// Reads from a warm page cache.
///
/// # Errors
///
/// If the disk refuses.
pub fn reads(folder: &Path) -> Result<Report> {
    let title = "Reads of a 1 MiB shard, page cache warm: microseconds of CPU".to_owned();
    let mut report = Report::new(title, &["what", "us", "proof bytes"]);
    let folder = tempfile::tempdir_in(folder)?;
    let (store, _) = open(folder.path(), Arc::new(NoCache))?;
    let (shard, hashed) = shard(1 << 20)?;
    for result in store.put(&[put_of(0, &shard, &hashed)]) {
        result?;
    }
    let place = ShardPlace::new(slot(), SegmentNumber::ZERO);
    for (what, offset, bytes, check) in [
        ("whole, as served", 0, 1 << 20, Check::No),
        ("whole, verified", 0, 1 << 20, Check::Yes),
        (
            "64 KiB on span borders, as served",
            64 << 10,
            64 << 10,
            Check::No,
        ),
        (
            "64 KiB within spans, as served",
            65 << 10,
            64 << 10,
            Check::No,
        ),
        (
            "64 KiB within spans, verified",
            65 << 10,
            64 << 10,
            Check::Yes,
        ),
        ("1 KiB, as served", 777 << 10, 1 << 10, Check::No),
    ] {
        let range = ShardRange { offset, bytes };
        let read = || store.read(place, range, WithRecord::No, check);
        let proof = read()?.proof.len();
        let time = cpu_time_of(|| {
            black_box(read().is_ok());
        });
        report.push(vec![
            what.to_owned(),
            format!("{:.1}", time.as_secs_f64() * 1e6),
            proof.to_string(),
        ]);
    }
    Ok(report)
}

/// Opening a store of many small shards, with and without the cached index.
///
/// # Errors
///
/// If the disk refuses.
pub fn opening(folder: &Path) -> Result<Report> {
    let title = "Opening a store of shards of 100 bytes: seconds, page cache warm".to_owned();
    let columns = [
        "shards",
        "cache",
        "packs",
        "of them cached",
        "wall s",
        "CPU s",
    ];
    let mut report = Report::new(title, &columns);
    for count in [100_000, 1_000_000] {
        let folder = tempfile::tempdir_in(folder)?;
        fill(folder.path(), count)?;
        let mut row = |name: &str, cache: Arc<dyn IndexCache>| -> Result<()> {
            let (pass, opened) = open_once(folder.path(), cache)?;
            report.push(vec![
                count.to_string(),
                name.to_owned(),
                opened.pack_count.to_string(),
                opened.cached_pack_count.to_string(),
                format!("{:.2}", pass.wall.as_secs_f64()),
                format!("{:.2}", pass.cpu.as_secs_f64()),
            ]);
            Ok(())
        };
        row("none", Arc::new(NoCache))?;
        let sled =
            |folder: &Path| SledCache::open(&RealDisk::new(), folder).context("sled does not open");
        row("sled, empty", Arc::new(sled(folder.path())?))?;
        row("sled", Arc::new(sled(folder.path())?))?;
    }
    Ok(report)
}

fn open_once(folder: &Path, cache: Arc<dyn IndexCache>) -> Result<(Pass, OpenReport)> {
    RealRuntime::run(|runtime| async move {
        let mut opened = OpenReport::default();
        let pass = measure(&runtime, || {
            let (store, report) = open(folder, cache)?;
            opened = report;
            store.close()?;
            Ok(())
        })?;
        Ok((pass, opened))
    })?
}

/// Puts `count` shards of 100 bytes.
fn fill(folder: &Path, count: u32) -> Result<()> {
    let (store, _) = open(folder, Arc::new(NoCache))?;
    let (shard, hashed) = shard(100)?;
    for first in (0..count).step_by(usize::try_from(FILL)?) {
        let numbers = first..count.min(first + FILL);
        let puts: Vec<_> = numbers
            .map(|number| put_of(number, &shard, &hashed))
            .collect();
        for result in store.put(&puts) {
            result?;
        }
    }
    Ok(())
}

fn open(folder: &Path, cache: Arc<dyn IndexCache>) -> Result<(ShardStore<RealDisk>, OpenReport)> {
    let mut config = StoreConfig::new(folder.to_owned(), ByteCount::new(64 << 30));
    config.floor = ByteCount::ZERO;
    let key = StoreKey::new([7; 32]);
    Ok(ShardStore::open(RealDisk::new(), config, cache, key)?)
}

fn content(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    content
}

fn shard(bytes: usize) -> Result<(Bytes, HashedShard)> {
    let content = content(bytes);
    let hashed = hash_shard(&content)?;
    Ok((content.into(), hashed))
}

fn slot() -> SlotRef {
    SlotRef {
        group: GroupId::new(Digest::of(b"group")),
        slot: SlotIndex::new(0),
    }
}

/// The same bytes under every number, at 20-of-40.
fn put_of(number: u32, shard: &Bytes, hashed: &HashedShard) -> ShardPut {
    let code = Code::new(20, 40).expect("20 of 40 is a code");
    let other = ShardRoot::new(Digest::of(b"another shard"));
    let roots = code
        .slots()
        .map(|slot| if slot.get() == 0 { hashed.root } else { other });
    let shard_bytes = u32::try_from(shard.len()).expect("a shard is at most 4 MiB");
    let record = SegmentRecord {
        group: slot().group,
        number: SegmentNumber::new(number),
        code,
        payload_bytes: shard_bytes * 20,
        shard_roots: Bounded::new(roots.collect()).expect("40 roots"),
    };
    ShardPut {
        slot: slot().slot,
        record: Signed::sign(record, &SecretKey::from_bytes(&[1; 32])),
        bytes: shard.clone(),
        hashed: hashed.clone(),
        replace: Replace::Unrevised,
        written_at: UnixMillis::new(0),
    }
}
