//! Work that a node does by itself: scrub, expiry, compaction.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::{ByteCount, UnixMillis};
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::core::Core;
use crate::groups::{Age, settled_count};
use crate::store::{SCRUB_STEP_BYTES, ScrubCursor, ShardPlace, StoreError};

/// Expired shards and mostly dead packs are looked for this often.
const ROUND: Duration = Duration::from_secs(600);
/// Damaged shards that a report names; more are only counted.
const NAMED_MAX: usize = 1000;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Shards read.
    pub shard_count: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// How many are damaged.
    pub damaged_count: u64,
    /// The first of them.
    pub damaged: Vec<ShardPlace>,
}

/// Reads and verifies every shard once, at most at the rate that is set: those from `first` on, then
/// those before it.
pub(crate) async fn scrub_all<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    first: Option<ScrubCursor>,
) -> Result<ScrubReport, StoreError> {
    let mut report = ScrubReport::default();
    let mut bytes: u64 = 0;
    let mut cursor = first;
    let mut wrapped = first.is_none();
    loop {
        let step = core
            .store
            .with(move |store| store.scrub(cursor, SCRUB_STEP_BYTES))
            .await?;
        bytes = bytes.saturating_add(step.bytes);
        report.shard_count += step.shard_count;
        report.bytes = ByteCount::new(bytes);
        for shard in step.damaged {
            report.damaged_count += 1;
            if report.damaged.len() < NAMED_MAX {
                report.damaged.push(shard);
            }
            core.look_at(shard.slot);
        }
        let is_end = step.next.is_none() || (wrapped && step.next >= first && first.is_some());
        if is_end && wrapped {
            return Ok(report);
        }
        wrapped |= is_end;
        cursor = step.next;
        core.runtime
            .sleep(at_rate(step.bytes, core.pacing.scrub_bytes_per_second))
            .await;
    }
}

/// Scrubs from time to time, until the task is aborted. Begins soon and at a place drawn by lot, so
/// that a node that is often started again reads every shard in the end.
pub(crate) async fn scrub_on<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    core.runtime.sleep(core.pacing.scrub_delay).await;
    let mut lot = [0; 8];
    core.runtime.fill(&mut lot);
    let mut first = core.store.store().scrub_from(u64::from_le_bytes(lot));
    loop {
        let wait = match scrub_all(&core, first).await {
            Ok(report) => {
                tracing::info!(?report, "scrubbed");
                core.pacing.scrub_interval
            }
            Err(error) => {
                tracing::warn!(%error, "scrub fails");
                core.pacing.scrub_delay
            }
        };
        core.runtime.sleep(wait).await;
        first = None;
    }
}

/// How long `bytes` take at a rate.
fn at_rate(bytes: u64, per_second: u64) -> Duration {
    let millis = bytes.saturating_mul(1000) / per_second.max(1);
    Duration::from_millis(millis)
}

/// Does what is due, until the task is aborted.
pub(crate) async fn maintain<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    loop {
        core.runtime.sleep(ROUND).await;
        if let Err(error) = expire(&core).await {
            tracing::warn!(%error, "dropping expired shards fails");
        }
        if let Err(error) = compact(&core).await {
            tracing::warn!(%error, "compacting packs fails");
        }
    }
}

/// Drops shards that came long ago and that no revision covers which enough nodes have.
async fn expire<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
) -> Result<(), StoreError> {
    let now = core.now().get();
    let expiry = u64::try_from(core.pacing.unrevised_expiry.as_millis()).unwrap_or(u64::MAX);
    let before = UnixMillis::new(now.saturating_sub(expiry));
    for slot in core.store.store().slots() {
        let Ok(Some(group)) = core.groups.get(slot.group, Age::Fresh).await else {
            continue;
        };
        let covered = settled_count(&group);
        let dropped = core
            .for_good(move |store| store.expire(slot, covered, before))
            .await?;
        if dropped > 0 {
            tracing::info!(%slot, dropped, "dropped shards that no revision covers");
        }
    }
    Ok(())
}

/// Moves live shards out of mostly dead packs.
async fn compact<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
) -> Result<(), StoreError> {
    while let Some(bytes) = core.store.with(|store| store.compact()).await? {
        tracing::debug!(%bytes, "moved live shards out of a mostly dead pack");
        core.runtime
            .sleep(at_rate(bytes.get(), core.pacing.scrub_bytes_per_second))
            .await;
    }
    Ok(())
}
