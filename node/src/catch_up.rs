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
//! Nodes that do the same rebuild share its reading ([`partners`]).
//!
//! Memory: about 100 bytes a segment, and what [`crate::memory`] lends for shards under way.

mod error;
mod fetch;
mod lacking;
mod leaves;
mod partners;
mod pass_on;
pub(crate) mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{ByteCount, NodeId, Record, RevisionDetail, SegmentNumber, SegmentRecord, Signed};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_ledger::tx::SlotRef;
use cairn_net::Network;
use cairn_runtime::Runtime;
pub(crate) use error::CatchUpError;
use fetch::{Fetched, Ours};
use futures::stream::{FuturesUnordered, StreamExt};
use lacking::Lack;
pub(crate) use lacking::Lacks;
use leaves::Leaves;
use partners::{Partners, Turn};
use pass_on::{HeldUp, Passing};
use source::{CONTROL_LIMIT, Sources};

use crate::control::check_detail;
use crate::core::Core;
use crate::store::{Kept, StoreError};

/// What a finished attempt leaves to say.
#[derive(Debug, Default)]
pub(crate) struct CaughtUp {
    /// Shards that were fetched, rebuilt, or put by partners.
    pub(crate) shard_count: u32,
}

/// One attempt at one slot.
struct Attempt<'a, R: Runtime, N: Network, L: Ledger> {
    core: &'a Arc<Core<R, N, L>>,
    group: Arc<Group>,
    place: SlotRef,
    sources: Sources,
    partners: Partners,
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
    let partners = Partners::new(&group, place.slot);
    let attempt = Attempt {
        core,
        group,
        place,
        sources,
        partners,
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
    let emptied = leaves.emptied();
    let shard_count = attempt.fetch_lacking(leaves).await?;
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

    /// Sees to it that every shard is here that is not, or is another than it must be: fetches or
    /// rebuilds those that we lead, and waits for the others.
    async fn fetch_lacking(&self, leaves: Leaves) -> Result<u32, CatchUpError> {
        let lacking: BTreeSet<SegmentNumber> = (0..leaves.count())
            .map(SegmentNumber::new)
            .filter(|number| self.lacks(&leaves, *number))
            .collect();
        let mut missing = lacking.len();
        let lack = Arc::new(Lack::new(leaves, lacking));
        let _under_way = self.core.lacks.begin(self.place, Arc::clone(&lack));
        let mut unrebuildable: Option<CatchUpError> = None;
        let mut passing = Passing::new();
        // A turn ends when what we lead is here, and the rest is too or won't come from who leads it.
        let mut turn = Turn::First;
        while !lack.is_complete() {
            let begun = self.core.runtime.monotonic();
            for error in self.fetch_led(&lack, &mut passing).await? {
                missing = missing.saturating_sub(1);
                unrebuildable = Some(error);
            }
            let own_part = self.core.runtime.monotonic().saturating_sub(begun);
            let stands = (turn, own_part);
            turn = self.wait_for_partners(&lack, stands, &mut passing).await;
        }
        self.finish_passing(&mut passing).await;
        unrebuildable.map_or(Ok(u32::try_from(missing).unwrap_or(u32::MAX)), Err)
    }

    /// Fetches or rebuilds every shard that is lacking and ours to lead. Returns an error for each
    /// segment that the writer got wrong: the others are wanted all the same.
    async fn fetch_led<'a>(
        &'a self,
        lack: &Lack,
        passing: &mut Passing<'a>,
    ) -> Result<Vec<CatchUpError>, CatchUpError> {
        let mut unrebuildable = Vec::new();
        let mut fetching = FuturesUnordered::new();
        let mut led = lack.lacking().into_iter().peekable();
        loop {
            let mut held_up = HeldUp::default();
            while fetching.len() < self.core.pacing.shards_at_once {
                self.meet_partners().await;
                // A partner may have brought it meanwhile.
                let is_open = |number| lack.lacks(number) && self.partners.leads(number);
                while led.next_if(|number| !is_open(*number)).is_some() {}
                let Some(number) = led.peek().copied() else {
                    break;
                };
                let places = match self
                    .partners
                    .places(number, lack.leaves().shard_bytes(number))
                {
                    Ok(places) => places,
                    Err(by) => {
                        held_up = by;
                        break;
                    }
                };
                led.next();
                let fetch = self.fetch(lack.leaves(), number, places);
                fetching.push(Box::pin(async move { (number, fetch.await) }));
            }
            if fetching.is_empty() && led.peek().is_none() {
                return Ok(unrebuildable);
            }
            let step = async {
                tokio::select! {
                    biased;
                    Some(fetched) = fetching.next() => Some(fetched),
                    Some(()) = passing.next() => None,
                    else => std::future::pending().await,
                }
            };
            match self.while_held_up(&held_up, step).await.flatten() {
                None => {}
                Some((number, Ok(fetched))) => {
                    lack.done(number);
                    if fetched.ours == Ours::Unrebuildable {
                        unrebuildable.push(self.unrebuildable(number));
                    }
                    let Fetched { record, theirs, .. } = fetched;
                    let theirs = theirs.into_iter();
                    passing.extend(theirs.map(|theirs| self.pass_on(Arc::clone(&record), theirs)));
                }
                Some((_, Err(error))) => return Err(error),
            }
        }
    }

    /// The writer got our shard of a segment wrong.
    fn unrebuildable(&self, segment: SegmentNumber) -> CatchUpError {
        self.core.lags.change(self.place, |seen| {
            if !seen.unrebuildable.contains(&segment) {
                seen.unrebuildable.push(segment);
            }
        });
        CatchUpError::Unrebuildable {
            slot: self.place,
            segment,
        }
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
