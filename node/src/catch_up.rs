//! Catching up: bringing a slot to the group's revision, from whatever sources there are.
//!
//! Repair of a redrawn slot, catching up after an outage and migration from a draining node are
//! this one operation. It knows what it must end in before it fetches a byte:
//!
//! ```text
//! ledger: group root -> detail: n slot roots -> records: n leaves a segment -> shards
//! ```
//!
//! The detail must have the ledger's group root and its owner's signature. What it says of emptied
//! leaves is a hint: the slot roots prove it, or the leaves are taken as siblings have them. The segment records must give every one of the n
//! slot roots, so that each root in each record is the writer's, whoever sent it. Each shard must
//! have the root of its record. The finished slot must have its slot root (I3), or it is not
//! acknowledged. A peer that sends anything else is named in the log and asked no more.
//!
//! Memory: 72 bytes a segment, and what [`crate::memory`] lends for shards under way.

mod error;
mod fetch;
mod leaves;
pub(crate) mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{ByteCount, NodeId, Record, RevisionDetail, SegmentNumber, SegmentRecord, Signed};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_ledger::tx::SlotRef;
use cairn_net::Network;
use cairn_runtime::Runtime;
pub(crate) use error::CatchUpError;
use futures::stream::{FuturesUnordered, StreamExt};
use leaves::Leaves;
use source::{CONTROL_LIMIT, Sources};

use crate::control::check_detail;
use crate::core::Core;
use crate::store::{Kept, StoreError};

/// What a finished attempt leaves to say.
#[derive(Debug, Default)]
pub(crate) struct CaughtUp {
    /// Shards that were fetched or rebuilt.
    pub(crate) shard_count: u32,
}

/// One attempt at one slot.
struct Attempt<'a, R: Runtime, N: Network, L: Ledger> {
    core: &'a Arc<Core<R, N, L>>,
    group: Arc<Group>,
    place: SlotRef,
    sources: Sources,
    /// Records of the shards that are being fetched.
    records: tokio::sync::Mutex<BTreeMap<SegmentNumber, Signed<SegmentRecord>>>,
}

/// Brings the slot to the group's revision on the ledger.
///
/// # Errors
///
/// [`CatchUpError`]; what was fetched stays, and the next attempt goes on from there.
pub(crate) async fn catch_up<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    group: Arc<Group>,
    place: SlotRef,
) -> Result<CaughtUp, CatchUpError> {
    let sources = Sources::new(&group, place.slot, core.id);
    let attempt = Attempt {
        core,
        group,
        place,
        sources,
        records: tokio::sync::Mutex::default(),
    };
    let detail = attempt.detail().await?;
    let known = detail.clone();
    let reached = core
        .store
        .with(move |store| store.reach_or_expect(place, &known))
        .await;
    match reached {
        Ok(_) => return Ok(CaughtUp::default()),
        Err(StoreError::Lacking { .. } | StoreError::SlotRoot { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let asked = detail.clone();
    let hinted = core
        .store
        .with(move |store| store.hinted(place, asked.unverified()))
        .await;
    let leaves = attempt.leaves(detail.unverified(), hinted).await?;
    attempt.check_bytes(detail.unverified(), &leaves)?;
    let shard_count = attempt.fetch_lacking(&leaves).await?;
    let emptied = leaves.emptied();
    core.store
        .with(move |store| store.reach_emptied(place, &detail, &emptied))
        .await?;
    Ok(CaughtUp { shard_count })
}

impl<R: Runtime, N: Network, L: Ledger> Attempt<'_, R, N, L> {
    /// The detail of the revision on the ledger: ours, or the first that a sibling has.
    async fn detail(&self) -> Result<Signed<RevisionDetail>, CatchUpError> {
        let ours = self.core.store.store().newest(self.place);
        if let Some(ours) = ours
            && check_detail(&self.group, &ours).is_ok()
        {
            return Ok(ours);
        }
        for peer in self.sources.all() {
            let request = ControlRequest::Detail {
                group: self.group.id,
            };
            let message = request.encode();
            let answer = self
                .core
                .network
                .request(peer, message, CONTROL_LIMIT)
                .await;
            let Ok(answer) = answer.inspect_err(|error| self.note(peer, error)) else {
                continue;
            };
            match ControlResponse::decode(&answer) {
                Ok(ControlResponse::Detail(detail)) => match check_detail(&self.group, &detail) {
                    Ok(()) => return Ok(detail),
                    // It may only be behind.
                    Err(refusal) => tracing::debug!(%peer, text = refusal.text, "another detail"),
                },
                Ok(_) => {}
                Err(error) => self.accuse(peer, &error.to_string()),
            }
        }
        Err(CatchUpError::NoDetail {
            slot: self.place,
            revision: self.group.revision.number,
        })
    }

    /// That the slot has the bytes that the revision says, and no more than it may have: nothing is
    /// fetched for a revision that will not be acknowledged.
    fn check_bytes(&self, detail: &RevisionDetail, leaves: &Leaves) -> Result<(), CatchUpError> {
        let (expected, found) = (ByteCount::new(leaves.bytes()), detail.revision.slot_bytes);
        let fits = ByteCount::new(leaves.charged()) <= self.group.slot_capacity;
        if expected == found && fits {
            return Ok(());
        }
        let slot = self.place;
        let error = StoreError::SlotBytes {
            slot,
            expected: expected.min(self.group.slot_capacity),
            found,
        };
        Err(error.into())
    }

    /// Fetches or rebuilds every shard that is not here or is another than it must be.
    async fn fetch_lacking(&self, leaves: &Leaves) -> Result<u32, CatchUpError> {
        let mut done = 0_u32;
        let mut failed: Option<CatchUpError> = None;
        let mut unrebuildable: Option<CatchUpError> = None;
        let mut fetching = FuturesUnordered::new();
        let mut lacking = (0..leaves.count())
            .map(SegmentNumber::new)
            .filter(|number| self.lacks(leaves, *number));
        loop {
            while failed.is_none() && fetching.len() < self.core.pacing.shards_at_once {
                let Some(number) = lacking.next() else {
                    break;
                };
                fetching.push(Box::pin(self.fetch(leaves, number)));
            }
            match fetching.next().await {
                None => break,
                Some(Ok(())) => done = done.saturating_add(1),
                // The writer's fault, in this segment only: the others are wanted all the same.
                Some(Err(error @ CatchUpError::Unrebuildable { .. })) => {
                    unrebuildable = Some(error);
                }
                Some(Err(error)) => failed = Some(error),
            }
        }
        failed.or(unrebuildable).map_or(Ok(done), Err)
    }

    /// Whether the shard that the revision has is not here.
    fn lacks(&self, leaves: &Leaves, number: SegmentNumber) -> bool {
        let Some(root) = leaves.root(number) else {
            return false;
        };
        let kept = self.core.store.store().kept(self.place, number, 1);
        !matches!(kept.as_slice(), [Kept::Shard { root: kept, .. }] if *kept == root)
    }

    /// A source failed in a way that honest ones do.
    fn note(&self, peer: NodeId, error: &dyn std::error::Error) {
        tracing::debug!(slot = %self.place, %peer, %error, "a source fails");
        self.sources.rest(peer);
    }

    /// A source sent what no honest one sends: it is asked no more in this attempt.
    fn accuse(&self, peer: NodeId, what: &str) {
        tracing::warn!(slot = %self.place, %peer, what, "a source is wrong and is left out");
        self.sources.leave_out(peer, what);
        self.core.pool.forget(peer);
        self.core.lags.change(self.place, |seen| {
            seen.problem = Some(format!("peer {peer}: {what}"));
        });
    }
}
