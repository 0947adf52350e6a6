//! One request to one slot: get a range of a shard and verify it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{ShardRange, WithRecord};
use cairn_core::{
    AccountId, Capability, Code, GroupId, NodeId, SegmentNumber, SegmentRecord, Signed, SlotIndex,
};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_net::data::{DataError, ShardWanted};
use cairn_proofs::verify_range;
use cairn_runtime::Runtime;

use crate::client::Shared;
use crate::read::error::SlotReadFailure;

/// What is known of a segment before any of it was read.
#[derive(Clone, Debug)]
pub(crate) struct SegmentKnown {
    pub(crate) group: GroupId,
    pub(crate) number: SegmentNumber,
    pub(crate) code: Code,
    pub(crate) payload_bytes: u32,
    /// Who signs its record.
    pub(crate) owner: AccountId,
    pub(crate) capability: Arc<Capability>,
}

impl SegmentKnown {
    pub(crate) fn shard_bytes(&self) -> u32 {
        self.code.shard_bytes(self.payload_bytes)
    }

    /// Whether a record is this segment's.
    fn is_mine(&self, record: &SegmentRecord) -> bool {
        record.group == self.group
            && record.number == self.number
            && record.code == self.code
            && record.payload_bytes == self.payload_bytes
    }

    /// The record, when the owner signed it for this segment.
    fn check(&self, signed: &Signed<SegmentRecord>) -> Result<Arc<SegmentRecord>, SlotReadFailure> {
        let record = signed
            .verify_by(self.owner.key())
            .map_err(SlotReadFailure::ForgedRecord)?;
        if !self.is_mine(record) {
            return Err(SlotReadFailure::OtherRecord);
        }
        Ok(Arc::new(record.clone()))
    }
}

/// What has come from a node since it was asked.
#[derive(Debug, Default)]
pub(crate) struct Heard(AtomicU64);

impl Heard {
    /// It took the connection, at a monotonic time.
    fn connection(&self, now: Duration) {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// Its answer has begun, and goes on at a pace that the stream sees to.
    fn answer(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    /// How long it has said nothing, of what was asked of it at a monotonic time.
    pub(crate) fn silence(&self, asked_at: Duration, now: Duration) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            millis => now.saturating_sub(asked_at.max(Duration::from_millis(millis))),
        }
    }
}

/// A range of a shard to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) slot: SlotIndex,
    pub(crate) range: ShardRange,
}

/// Gets a range from a node and verifies it. The range must be whole blocks. The bytes are put
/// into `into`, which has room for them. `heard` notes
/// what comes from the node on the way.
pub(crate) async fn get_verified<R: Runtime, N: Network, L: Ledger>(
    client: &Arc<Shared<R, N, L>>,
    segment: &SegmentKnown,
    (wanted, node): (Wanted, NodeId),
    mut into: BytesMut,
    heard: &Heard,
) -> Result<BytesMut, SlotReadFailure> {
    let limit = client.config.request_limit;
    let got = get(client, segment, (wanted, node), &mut into, heard);
    let result = match client.runtime.timeout(limit, got).await {
        Ok(result) => result,
        Err(_) => Err(SlotReadFailure::Timeout { limit }),
    };
    learn(client, segment, wanted, node, &result);
    result.map(|_| into)
}

/// Returns how long the answer took.
async fn get<R: Runtime, N: Network, L: Ledger>(
    client: &Arc<Shared<R, N, L>>,
    segment: &SegmentKnown,
    (wanted, node): (Wanted, NodeId),
    into: &mut BytesMut,
    heard: &Heard,
) -> Result<Duration, SlotReadFailure> {
    let limit = client.config.request_limit;
    let mut conn = client.pool.take(node, &segment.capability, limit).await?;
    heard.connection(client.runtime.monotonic());
    let known = client.records.get(segment.group, segment.number);
    let known = known.filter(|record| segment.is_mine(record));
    let asked = ShardWanted {
        group: segment.group,
        slot: wanted.slot,
        segment: segment.number,
        range: wanted.range,
        record: if known.is_some() {
            WithRecord::No
        } else {
            WithRecord::Yes
        },
    };
    let began = client.runtime.monotonic();
    let answer = conn.get_heard(&asked, into, || heard.answer()).await?;
    drop(conn);
    let took = client.runtime.monotonic().saturating_sub(began);
    let record = match (known, answer.record) {
        (Some(record), _) => record,
        (None, Some(signed)) => {
            let record = segment.check(&signed)?;
            client.records.put(Arc::clone(&record));
            record
        }
        (None, None) => return Err(SlotReadFailure::OtherRecord),
    };
    let root = record
        .shard_root(wanted.slot)
        .ok_or(SlotReadFailure::OtherRecord)?;
    if answer.range != wanted.range {
        return Err(SlotReadFailure::WrongBytes(
            cairn_proofs::RangeError::Length {
                expected: wanted.range.bytes,
                found: into.len(),
            },
        ));
    }
    verify_range(
        root,
        record.shard_bytes(),
        answer.range,
        into,
        &answer.proof,
    )
    .map_err(SlotReadFailure::WrongBytes)?;
    Ok(took)
}

/// Remembers how the node did.
fn learn<R: Runtime, N: Network, L: Ledger>(
    client: &Arc<Shared<R, N, L>>,
    segment: &SegmentKnown,
    wanted: Wanted,
    node: NodeId,
    result: &Result<Duration, SlotReadFailure>,
) {
    let now = client.runtime.monotonic();
    match result {
        Ok(took) => {
            client.peers.answered(node, now, wanted.range.bytes, *took);
            client.hedges.earn(u64::from(wanted.range.bytes));
        }
        Err(failure) if failure.is_lie() => {
            tracing::warn!(
                %node, group = %segment.group, slot = %wanted.slot, segment = %segment.number,
                %failure, "a node serves false bytes and is avoided"
            );
            client.peers.lied(node, now);
            client.pool.forget(node);
            client.faults.add(crate::read::Fault {
                node,
                group: segment.group,
                slot: wanted.slot,
                segment: segment.number,
                failure: failure.clone(),
            });
        }
        // The node answers, only not with this.
        Err(SlotReadFailure::Data(DataError::Remote { .. })) => {}
        Err(_) => client.peers.failed(node, now),
    }
}
