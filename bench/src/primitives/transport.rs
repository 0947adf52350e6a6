//! What it costs to move bytes between two ends: plain TCP, plain TLS, the data plane.
//!
//! Both ends run in this process; the figure is the CPU time of the process, so it holds both.
//! The stacks take turns, so that other work on the machine bears on all of them alike, and the
//! medians count. Sources and sinks are in memory.

use std::time::Duration;

use anyhow::{Context, Result};
use cairn_runtime::{RealRuntime, Runtime};
use rustix::time::{ClockId, clock_gettime};

use crate::report::Report;

mod data_plane;
mod plain;

use data_plane::DataPlane;
use plain::Plain;

/// Bytes of one transfer: a shard.
const SHARD_BYTES: usize = 1 << 20;
/// Shards moved in one round.
const SHARDS: usize = 64;
/// Rounds; the first only warms up.
const ROUNDS: usize = 42;

/// What the others are compared with.
const BASE: &str = "TLS (rustls, AES-128-GCM)";

/// What is measured.
enum Stack {
    Plain(Plain),
    Put(DataPlane),
    Get(DataPlane),
}

/// CPU time and wall time of one round.
#[derive(Clone, Copy)]
struct Times {
    cpu: Duration,
    wall: Duration,
}

/// Every stack whose name contains `only`, both directions of the data plane.
///
/// # Errors
///
/// When the loopback interface refuses.
pub fn transports(only: &str) -> Result<Report> {
    let only = only.to_owned();
    // In a task: the thread that waits for the runtime is woken by another one for every event,
    // which would burden whichever end runs there.
    RealRuntime::run(async |runtime: RealRuntime| {
        let task = runtime.spawn("bench", measure(runtime.clone(), only));
        task.join().await
    })??
}

async fn measure(runtime: RealRuntime, only: String) -> Result<Report> {
    let shard = shard();
    let mut stacks = vec![
        ("TCP", Stack::Plain(Plain::tcp(&runtime).await?)),
        (
            BASE,
            Stack::Plain(Plain::tls(&runtime, plain::Suite::Aes128).await?),
        ),
        (
            "TLS (rustls, AES-256-GCM)",
            Stack::Plain(Plain::tls(&runtime, plain::Suite::Aes256).await?),
        ),
        (
            "TLS (rustls, ChaCha20)",
            Stack::Plain(Plain::tls(&runtime, plain::Suite::ChaCha20).await?),
        ),
        (
            "data plane put",
            Stack::Put(DataPlane::direct(&runtime).await?),
        ),
        (
            "data plane get",
            Stack::Get(DataPlane::direct(&runtime).await?),
        ),
        ("libp2p put", Stack::Put(DataPlane::libp2p(&runtime).await?)),
        ("libp2p get", Stack::Get(DataPlane::libp2p(&runtime).await?)),
    ];
    stacks.retain(|(name, _)| name.contains(&only));
    let mut times: Vec<Vec<Times>> = vec![Vec::new(); stacks.len()];
    for round in 0..ROUNDS {
        for ((_, stack), times) in stacks.iter_mut().zip(&mut times) {
            let cpu = process_cpu_time();
            let begun = runtime.monotonic();
            match stack {
                Stack::Plain(plain) => plain.send(&shard, SHARDS).await?,
                Stack::Put(data) => data.put(&shard, SHARDS).await?,
                Stack::Get(data) => data.get(SHARDS).await?,
            }
            let wall = runtime.monotonic().saturating_sub(begun);
            let cpu = process_cpu_time().saturating_sub(cpu);
            if round > 0 {
                times.push(Times { cpu, wall });
            }
        }
    }
    report(&stacks, times)
}

fn report(stacks: &[(&str, Stack)], times: Vec<Vec<Times>>) -> Result<Report> {
    let title = format!(
        "CPU-seconds per GB, both ends, one stream, {SHARDS} shards of 1 MiB in turn, median of {} \
         interleaved rounds (least to most)",
        ROUNDS - 1
    );
    let columns = [
        "stack",
        "CPU s/GB",
        "to TLS AES-128-GCM (or the first)",
        "GB/s wall",
    ];
    let mut report = Report::new(title, &columns);
    let gigabytes = f64::from(u32::try_from(SHARD_BYTES * SHARDS)?) / 1e9;
    let tls: Vec<Duration> = times
        .get(
            stacks
                .iter()
                .position(|(name, _)| *name == BASE)
                .unwrap_or(0),
        )
        .context("a stack is measured")?
        .iter()
        .map(|times| times.cpu)
        .collect();
    for ((name, _), times) in stacks.iter().zip(times) {
        let ratios = times.iter().zip(&tls);
        let ratios = ratios.map(|(times, tls)| times.cpu.as_secs_f64() / tls.as_secs_f64());
        let cpu = Spread::of(
            times
                .iter()
                .map(|times| times.cpu.as_secs_f64() / gigabytes),
        );
        let ratio = Spread::of(ratios);
        let speed = Spread::of(
            times
                .iter()
                .map(|times| gigabytes / times.wall.as_secs_f64()),
        );
        report.push(vec![
            (*name).to_owned(),
            cpu.to_string(),
            ratio.to_string(),
            speed.to_string(),
        ]);
    }
    Ok(report)
}

/// Median and extremes.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            least: at(0),
            median: at(values.len() / 2),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}-{:.2})", self.median, self.least, self.most)
    }
}

/// Bytes that do not compress and are not all the same.
fn shard() -> Vec<u8> {
    let mut shard = vec![0; SHARD_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut shard);
    shard
}

/// CPU time of this process since its start.
fn process_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process's CPU time counts up from 0")
}
