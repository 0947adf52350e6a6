//! Putting one segment: n shards to n nodes in parallel, durable at w verified receipts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_core::{
    Blame, Capability, ErrorCode, GroupId, NodeId, Receipt, Retry, SegmentNumber, SegmentRecord,
    Signed, SlotIndex,
};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_net::data::DataError;
use cairn_runtime::Runtime;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::client::Shared;
use crate::group_view::{Freshness, GroupError};

/// Pause before the second attempt at a slot; doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why a shard is not on its node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutFailure {
    /// The slot has no node at present.
    #[error("the slot has no node at present")]
    NoNode,
    /// The group's slots are not known.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The connection, or the node's answer.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The node's receipt is not one for this shard.
    #[error("node {node} gives a receipt that is not for this shard or not its own")]
    Receipt {
        /// The node.
        node: NodeId,
    },
    /// The node was busy with earlier shards, or had just failed, and was passed over.
    #[error("node {node} was behind or away and was passed over")]
    PassedOver {
        /// The node.
        node: NodeId,
    },
    /// The segment is durable and its memory was needed for the next, or it can't become durable
    /// any more.
    #[error("was not waited for any longer")]
    LeftBehind,
    /// Our own side is shutting down.
    #[error("the put was aborted")]
    Aborted,
}

impl PutFailure {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Data(error) => error.retry(),
            Self::Group(error) => error.retry(),
            Self::NoNode | Self::PassedOver { .. } | Self::LeftBehind => Retry::Later,
            Self::Receipt { .. } => Retry::Elsewhere,
            Self::Aborted => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Data(error) => error.blame(),
            Self::Group(error) => error.blame(),
            Self::NoNode | Self::PassedOver { .. } | Self::LeftBehind => Blame::World,
            Self::Receipt { .. } => Blame::Peer,
            Self::Aborted => Blame::Us,
        }
    }

    /// Whether the same may succeed within seconds: a node restarts, a slot is redrawn.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Data(DataError::Remote { code, .. }) => match code {
                ErrorCode::NotMySlot
                | ErrorCode::UnknownGroup
                | ErrorCode::Busy
                | ErrorCode::ShuttingDown
                | ErrorCode::Lagging => true,
                ErrorCode::NotAuthorised
                | ErrorCode::CapabilityExpired
                | ErrorCode::BadRecord
                | ErrorCode::RootMismatch
                | ErrorCode::Conflict
                | ErrorCode::OutOfRange
                | ErrorCode::NoSuchShard
                | ErrorCode::TooLarge
                | ErrorCode::Refused
                | ErrorCode::DiskFull
                | ErrorCode::DiskFailed
                | ErrorCode::Damaged
                | ErrorCode::Malformed
                | ErrorCode::Unsupported
                | ErrorCode::Internal
                | ErrorCode::Unknown(_) => false,
            },
            Self::Data(_) | Self::NoNode | Self::Group(_) => true,
            Self::Receipt { .. } | Self::PassedOver { .. } | Self::LeftBehind | Self::Aborted => {
                false
            }
        }
    }
}

/// A slot that does not have a segment's shard, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFailure {
    /// The slot.
    pub slot: SlotIndex,
    /// Its node, when it has one.
    pub node: Option<NodeId>,
    /// Why.
    pub failure: PutFailure,
}

/// Too few slots took a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "segment {segment} of group {group}: {found} of {expected} receipts needed: {}",
    reasons(failures)
)]
pub struct NotDurable {
    /// The group.
    pub group: GroupId,
    /// The segment.
    pub segment: SegmentNumber,
    /// Receipts that make it durable.
    pub expected: usize,
    /// Receipts that came.
    pub found: usize,
    /// The slots that did not take it.
    pub failures: Vec<SlotFailure>,
}

fn reasons(failures: &[SlotFailure]) -> String {
    let each: Vec<String> = failures
        .iter()
        .map(|failed| format!("slot {}: {}", failed.slot, failed.failure))
        .collect();
    each.join("; ")
}

/// A segment to be put.
pub(crate) struct PutJob<R: Runtime, N: Network, L: Ledger> {
    pub(crate) client: Arc<Shared<R, N, L>>,
    pub(crate) capability: Capability,
    pub(crate) record: Signed<SegmentRecord>,
    pub(crate) shards: Vec<Bytes>,
    /// How long failing slots are tried again while too few have taken the segment.
    pub(crate) patience: Duration,
    /// A node with so many puts under way more than the w-th of its group is behind: new segments
    /// go on without it as long as enough others take them. What it lacks then costs k reads to
    /// catch up with, so this is not to be small.
    pub(crate) behind_by: usize,
}

#[derive(Clone, Debug)]
enum SlotPut {
    /// Not tried, since its node is behind or away.
    PassedOver(NodeId),
    /// Under way, after so many failures.
    Running {
        failures: u32,
    },
    /// Its receipt is verified.
    Done,
    Failed(PutFailure),
}

type Attempt = (SlotIndex, Result<(), PutFailure>);

/// A segment being put.
pub(crate) struct SegmentPut<R: Runtime, N: Network, L: Ledger> {
    job: Arc<PutJob<R, N, L>>,
    slots: Vec<SlotPut>,
    nodes: Vec<Option<NodeId>>,
    running: FuturesUnordered<BoxFuture<'static, Attempt>>,
    give_up_at: Duration,
}

impl<R: Runtime, N: Network, L: Ledger> SegmentPut<R, N, L> {
    /// Starts a put to every slot whose node is neither behind nor away.
    pub(crate) fn start(job: PutJob<R, N, L>, nodes: Vec<Option<NodeId>>) -> Self {
        let now = job.client.runtime.monotonic();
        let mut put = Self {
            slots: Vec::with_capacity(job.shards.len()),
            running: FuturesUnordered::new(),
            give_up_at: now.saturating_add(job.patience),
            nodes,
            job: Arc::new(job),
        };
        let count = put.job.shards.len();
        let behind = put.behind();
        for slot in (0..).map(SlotIndex::new).take(count) {
            let node = put.nodes.get(slot.index()).copied().flatten();
            let peers = &put.job.client.peers;
            let passed_over =
                node.filter(|node| peers.is_away(*node, now) || peers.puts(*node) >= behind);
            if let Some(node) = passed_over {
                put.slots.push(SlotPut::PassedOver(node));
            } else {
                put.slots.push(SlotPut::Running { failures: 0 });
                put.attempt(slot, Duration::ZERO);
            }
        }
        put
    }

    /// Waits until w receipts are verified.
    ///
    /// # Errors
    ///
    /// [`NotDurable`] when that can't be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping it aborts the puts under way.
    pub(crate) async fn until_durable(&mut self) -> Result<(), NotDurable> {
        let expected = self.job.record.unverified().code.durable_count();
        loop {
            let done = self.count(|slot| matches!(slot, SlotPut::Done));
            if done >= expected {
                return Ok(());
            }
            let hopeful = self.count(|slot| matches!(slot, SlotPut::Running { failures: 0 }));
            self.try_passed_over(expected.saturating_sub(done + hopeful));
            let running = self.count(|slot| matches!(slot, SlotPut::Running { .. }));
            if done + running < expected {
                return Err(self.not_durable(expected, done));
            }
            let Some((slot, result)) = self.running.next().await else {
                return Err(self.not_durable(expected, done));
            };
            self.finish(slot, result, Persistence::UntilDurable);
        }
    }

    /// Waits for the puts that are still under way; failing ones are not tried again.
    pub(crate) async fn rest(&mut self) {
        while let Some((slot, result)) = self.running.next().await {
            self.finish(slot, result, Persistence::Once);
        }
    }

    /// Ends what is under way; returns the slots that lack the shard.
    pub(crate) fn end(self) -> Vec<SlotFailure> {
        self.failures()
    }

    pub(crate) fn nodes(&self) -> &[Option<NodeId>] {
        &self.nodes
    }

    /// From how many puts under way on a node is behind: when all are equally slow, none is.
    fn behind(&self) -> usize {
        let peers = &self.job.client.peers;
        let mut counts: Vec<usize> = self
            .nodes
            .iter()
            .map(|node| node.map_or(0, |node| peers.puts(node)))
            .collect();
        counts.sort_unstable();
        let durable = self.job.record.unverified().code.durable_count();
        let usual = counts.get(durable.saturating_sub(1)).copied().unwrap_or(0);
        usual.saturating_add(self.job.behind_by)
    }

    fn count(&self, which: impl Fn(&SlotPut) -> bool) -> usize {
        self.slots.iter().filter(|slot| which(slot)).count()
    }

    /// Starts up to `count` slots that were passed over.
    fn try_passed_over(&mut self, count: usize) {
        let passed_over: Vec<SlotIndex> = (0..)
            .map(SlotIndex::new)
            .zip(&self.slots)
            .filter(|(_, slot)| matches!(slot, SlotPut::PassedOver(_)))
            .map(|(slot, _)| slot)
            .take(count)
            .collect();
        for slot in passed_over {
            self.slots[slot.index()] = SlotPut::Running { failures: 0 };
            self.attempt(slot, Duration::ZERO);
        }
    }

    fn finish(&mut self, slot: SlotIndex, result: Result<(), PutFailure>, how: Persistence) {
        let SlotPut::Running { failures } = self.slots[slot.index()] else {
            return;
        };
        let Err(failure) = result else {
            self.slots[slot.index()] = SlotPut::Done;
            return;
        };
        tracing::debug!(%slot, %failure, "put failed");
        let pause = PAUSE_FIRST
            .saturating_mul(1 << failures.min(8))
            .min(PAUSE_MAX);
        let now = self.job.client.runtime.monotonic();
        let again = how == Persistence::UntilDurable
            && failure.may_pass()
            && now.saturating_add(pause) < self.give_up_at;
        if again {
            self.slots[slot.index()] = SlotPut::Running {
                failures: failures + 1,
            };
            self.attempt(slot, pause);
        } else {
            self.slots[slot.index()] = SlotPut::Failed(failure);
        }
    }

    /// Starts an attempt in a task of its own, so that transport encryption uses all processors.
    fn attempt(&mut self, slot: SlotIndex, pause: Duration) {
        let job = Arc::clone(&self.job);
        let runtime = job.client.runtime.clone();
        let fresh = if pause.is_zero() {
            Freshness::Kept
        } else {
            Freshness::Now
        };
        self.running.push(Box::pin(async move {
            runtime.sleep(pause).await;
            let task = runtime.spawn("client put", async move { job.put(slot, fresh).await });
            let result = task.join().await.unwrap_or(Err(PutFailure::Aborted));
            (slot, result)
        }));
    }

    fn not_durable(&self, expected: usize, found: usize) -> NotDurable {
        let record = self.job.record.unverified();
        NotDurable {
            group: record.group,
            segment: record.number,
            expected,
            found,
            failures: self.failures(),
        }
    }

    fn failures(&self) -> Vec<SlotFailure> {
        let mut failures = Vec::new();
        for (slot, state) in (0..).map(SlotIndex::new).zip(&self.slots) {
            let failure = match state {
                SlotPut::Done => continue,
                SlotPut::PassedOver(node) => PutFailure::PassedOver { node: *node },
                SlotPut::Running { .. } => PutFailure::LeftBehind,
                SlotPut::Failed(failure) => failure.clone(),
            };
            failures.push(SlotFailure {
                slot,
                node: self.nodes.get(slot.index()).copied().flatten(),
                failure,
            });
        }
        failures
    }
}

/// Whether a failing slot is tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    UntilDurable,
    Once,
}

impl<R: Runtime, N: Network, L: Ledger> PutJob<R, N, L> {
    async fn put(&self, slot: SlotIndex, freshness: Freshness) -> Result<(), PutFailure> {
        let (tried, result) = self.put_as_seen(slot, freshness).await;
        let may_have_moved = match &result {
            Err(PutFailure::NoNode | PutFailure::Data(DataError::Net(_))) => true,
            Err(PutFailure::Data(DataError::Remote { code, .. })) => *code == ErrorCode::NotMySlot,
            Ok(()) | Err(_) => false,
        };
        if !may_have_moved || freshness == Freshness::Now {
            return result;
        }
        let record = self.record.unverified();
        let owner = self.record.signer().into();
        let fresh = self
            .client
            .view(record.group, owner, Freshness::Now)
            .await?;
        if fresh.node(slot) == tried {
            return result;
        }
        self.put_as_seen(slot, Freshness::Kept).await.1
    }

    /// Puts to the node that holds the slot by a view of that freshness.
    async fn put_as_seen(
        &self,
        slot: SlotIndex,
        freshness: Freshness,
    ) -> (Option<NodeId>, Result<(), PutFailure>) {
        let client = &self.client;
        let record = self.record.unverified();
        let owner = self.record.signer().into();
        let view = match client.view(record.group, owner, freshness).await {
            Ok(view) => view,
            Err(error) => return (None, Err(error.into())),
        };
        let Some(node) = view.node(slot) else {
            return (None, Err(PutFailure::NoNode));
        };
        let guard = client.peers.put(node, client.runtime.monotonic());
        let result = self.put_to(node, slot).await;
        drop(guard);
        let now = client.runtime.monotonic();
        match &result {
            Ok(()) => client.peers.served(node, now),
            Err(PutFailure::Data(DataError::Remote { .. })) => {}
            Err(PutFailure::Receipt { .. }) => client.peers.lied(node, now),
            Err(_) => client.peers.failed(node, now),
        }
        (Some(node), result)
    }

    async fn put_to(&self, node: NodeId, slot: SlotIndex) -> Result<(), PutFailure> {
        let client = &self.client;
        let limit = client.config.request_limit;
        let mut conn = client.pool.take(node, &self.capability, limit).await?;
        let shard = self
            .shards
            .get(slot.index())
            .expect("a sealed segment has a shard for each slot");
        let receipt = conn.put(slot, &self.record, shard).await?;
        drop(conn);
        if is_for(&receipt, node, slot, self.record.unverified()) {
            Ok(())
        } else {
            Err(PutFailure::Receipt { node })
        }
    }
}

/// Whether the receipt is `node`'s, for exactly this shard.
fn is_for(
    receipt: &Signed<Receipt>,
    node: NodeId,
    slot: SlotIndex,
    record: &SegmentRecord,
) -> bool {
    let Ok(found) = receipt.verify_by(node.key()) else {
        return false;
    };
    let expected = Receipt {
        node,
        group: record.group,
        slot,
        segment: record.number,
        shard_root: record.shard_root(slot).unwrap_or_default(),
        shard_bytes: record.shard_bytes(),
    };
    *found == expected
}

#[cfg(test)]
mod tests {
    use cairn_core::{Bounded, Code, Digest, SecretKey, ShardRoot};

    use super::*;

    fn record() -> SegmentRecord {
        let roots = (0..4)
            .map(|n| ShardRoot::new(Digest::new([n; 32])))
            .collect();
        SegmentRecord {
            group: GroupId::new(Digest::new([9; 32])),
            number: SegmentNumber::new(3),
            code: Code::new(2, 4).unwrap(),
            payload_bytes: 100,
            shard_roots: Bounded::new(roots).unwrap(),
        }
    }

    /// Every field of a receipt counts, and so does who signs.
    #[test]
    fn a_forged_receipt_is_refused() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let node = NodeId::new(key.public());
        let slot = SlotIndex::new(1);
        let good = Receipt {
            node,
            group: record().group,
            slot,
            segment: record().number,
            shard_root: ShardRoot::new(Digest::new([1; 32])),
            shard_bytes: 50,
        };
        assert!(is_for(&Signed::sign(good, &key), node, slot, &record()));
        let other = SecretKey::from_bytes(&[2; 32]);
        assert!(!is_for(&Signed::sign(good, &other), node, slot, &record()));
        let wrong = [
            Receipt {
                node: NodeId::new(other.public()),
                ..good
            },
            Receipt {
                group: GroupId::new(Digest::new([8; 32])),
                ..good
            },
            Receipt {
                slot: SlotIndex::new(2),
                ..good
            },
            Receipt {
                segment: SegmentNumber::new(4),
                ..good
            },
            Receipt {
                shard_root: ShardRoot::new(Digest::new([2; 32])),
                ..good
            },
            Receipt {
                shard_bytes: 51,
                ..good
            },
        ];
        for receipt in wrong {
            assert!(!is_for(&Signed::sign(receipt, &key), node, slot, &record()));
        }
    }
}
