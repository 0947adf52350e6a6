//! Giving partners their shards, each at its own pace.
//!
//! A partner has a few places for shards that are rebuilt for it or on their way to it. While all of
//! them are taken, the segments that come next wait for it, but in all no longer than
//! [`HOLD_UP_MAX`] and the time that we have read without waiting: after that they are rebuilt
//! without it, and it gets those for which it has a place. So one that is slow gets what it can
//! take. And whatever L - 1 partners do, our part of an L-th takes L times as long at most, which is
//! what reading all alone takes, and a minute for each of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::{ErrorCode, SegmentNumber, SegmentRecord, Signed};
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_net::data::DataError;
use cairn_runtime::Runtime;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use super::Attempt;
use super::partners::{OTHERS_MAX, Partner, Partners};
use super::source::{CONNECT_LIMIT, own_capability};
use crate::config::PASSING_MEMORY_KIB;
use crate::memory::Lent;

/// We wait so much longer for a partner, in all, than we read: it may begin later than we do.
const HOLD_UP_MAX: Duration = Duration::from_secs(60);
/// A partner may be busy or away for so long: it may begin later than we do, and begin anew after a
/// failure or a restart.
const REFUSAL_LIMIT: Duration = Duration::from_secs(60);
/// It is asked again after this.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// Memory for passing on is waited for so long. It may be with shards of another slot's partners.
const MEMORY_WAIT: Duration = Duration::from_secs(5);
/// Most places of a partner: a stream to it for each.
const PLACES_MAX: u32 = 4;

const _: () = assert!(OTHERS_MAX * (SHARD_BYTES_MAX >> 10) <= PASSING_MEMORY_KIB);

/// Shards on their way to partners.
pub(super) type Passing<'a> = FuturesUnordered<BoxFuture<'a, ()>>;

/// A partner's shard, rebuilt, with its root.
pub(super) struct Rebuilt<'a> {
    pub(super) place: Place<'a>,
    pub(super) lent: Lent,
    pub(super) bytes: BytesMut,
}

/// How a partner takes its shards.
#[derive(Debug, Default)]
pub(super) struct Taker {
    /// Its places that are taken.
    taken: u32,
    /// Those of them whose shards are on their way to it.
    under_way: u32,
    /// How long we have waited for it in all.
    held_up: Duration,
    /// When it began to refuse, if it has taken no shard since.
    refuses_since: Option<Duration>,
    /// Whether it could not be reached when it was last tried.
    is_away: bool,
    /// Whether it has held us up for as long as it may.
    is_slow: bool,
}

impl Taker {
    pub(super) const fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// How much longer we wait for it, after that time without waiting; `None` when no more.
    fn patience(&self, unheld: Duration) -> Option<Duration> {
        let left = (HOLD_UP_MAX + unheld).saturating_sub(self.held_up);
        (!self.is_away && !left.is_zero()).then_some(left)
    }
}

/// Places of each partner. As many as its share of the memory has room for.
fn places_of_each(shard_bytes: u32) -> u32 {
    let share = (PASSING_MEMORY_KIB << 10) / OTHERS_MAX;
    (share / shard_bytes.max(1)).clamp(1, PLACES_MAX)
}

/// A place of a partner for a shard; free again when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    partners: &'a Partners,
    partner: Partner,
    is_under_way: bool,
}

impl Place<'_> {
    pub(super) const fn partner(&self) -> Partner {
        self.partner
    }

    /// The shard is rebuilt and on its way.
    fn set_off(&mut self) {
        self.is_under_way = true;
        self.partners
            .change(self.partner, |taker| taker.under_way += 1);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let was_under_way = u32::from(self.is_under_way);
        self.partners.change(self.partner, |taker| {
            taker.taken -= 1;
            taker.under_way -= was_under_way;
        });
    }
}

/// Partners who must take shards before we go on.
#[derive(Debug)]
pub(super) struct HeldUp {
    /// Those whom the wait counts against. Not one for whom we are still reading.
    by: Vec<Partner>,
    /// It is over after this, whatever they do.
    left: Duration,
}

impl Default for HeldUp {
    fn default() -> Self {
        Self {
            by: Vec::new(),
            left: HOLD_UP_MAX,
        }
    }
}

impl HeldUp {
    fn by(&mut self, partner: Partner, patience: Duration) {
        self.by.push(partner);
        self.left = self.left.min(patience);
    }
}

impl Partners {
    fn change<T>(&self, partner: Partner, change: impl FnOnce(&mut Taker) -> T) -> T {
        change(self.state().takers.entry(partner).or_default())
    }

    /// A place at every partner that a segment is rebuilt for; an error while we wait for one that
    /// has none. Those that we do not wait for are left out of this segment.
    pub(super) fn places(
        &self,
        segment: SegmentNumber,
        shard_bytes: u32,
    ) -> Result<Vec<Place<'_>>, HeldUp> {
        if self.has_claimed(segment) {
            return Ok(Vec::new());
        }
        let most = places_of_each(shard_bytes);
        let others = self.others();
        let mut state = self.state();
        let unheld = state.unheld;
        let mut held_up = HeldUp::default();
        let mut is_held_up = false;
        let mut free = Vec::new();
        for partner in others {
            let taker = state.takers.entry(partner).or_default();
            if taker.taken < most {
                free.push(partner);
            } else if let Some(patience) = taker.patience(unheld) {
                is_held_up = true;
                if taker.under_way >= most {
                    held_up.by(partner, patience);
                }
            }
        }
        if is_held_up {
            return Err(held_up);
        }
        let place = |partner| {
            state.takers.entry(partner).or_default().taken += 1;
            Place {
                partners: self,
                partner,
                is_under_way: false,
            }
        };
        Ok(free.into_iter().map(place).collect())
    }

    /// Those to whom shards are on their way, and whom we wait for.
    fn still_taking(&self) -> HeldUp {
        let mut held_up = HeldUp::default();
        let state = self.state();
        let under_way = state.takers.iter().filter(|(_, taker)| taker.under_way > 0);
        for (partner, taker) in under_way {
            if let Some(patience) = taker.patience(state.unheld) {
                held_up.by(*partner, patience);
            }
        }
        held_up
    }

    /// Counts a wait against those who held us up, or as one that nobody caused.
    fn count(&self, held_up: &HeldUp, waited: Duration) {
        let mut state = self.state();
        if held_up.by.is_empty() {
            state.unheld += waited;
        }
        let most = HOLD_UP_MAX + state.unheld;
        for partner in &held_up.by {
            let taker = state.takers.entry(*partner).or_default();
            taker.held_up += waited;
            taker.is_slow |= taker.held_up >= most;
        }
    }

    fn took(&self, partner: Partner) {
        self.change(partner, |taker| {
            taker.refuses_since = None;
            taker.is_away = false;
        });
    }

    /// A partner has refused a shard, or could not be reached; whether it may do so for longer.
    fn may_refuse(&self, partner: Partner, error: &DataError, now: Duration) -> bool {
        let is_away = matches!(error, DataError::Net(_));
        let is_busy = matches!(
            error,
            DataError::Remote {
                code: ErrorCode::Busy,
                ..
            }
        );
        let refuses_since = self.change(partner, |taker| {
            taker.is_away = is_away;
            *taker.refuses_since.get_or_insert(now)
        });
        let may = is_away || is_busy;
        may && self.others().contains(&partner)
            && now.saturating_sub(refuses_since) <= REFUSAL_LIMIT
    }
}

impl<R: Runtime, N: Network, L: Ledger> Attempt<'_, R, N, L> {
    /// Memory for the shards of a segment that have a place. When there is none for long, it is
    /// rebuilt for us alone.
    pub(super) async fn room_to_pass<'a>(
        &self,
        shard_bytes: u32,
        places: Vec<Place<'a>>,
    ) -> Vec<(Place<'a>, Lent)> {
        let lent = self.core.memory.take_to_pass(shard_bytes, places.len());
        let lent = self.core.runtime.timeout(MEMORY_WAIT, lent).await;
        places.into_iter().zip(lent.unwrap_or_default()).collect()
    }

    /// Waits for what is to be done, while partners hold us up as long as they may. `None` when that
    /// is over first.
    pub(super) async fn while_held_up<T: Send>(
        &self,
        held_up: &HeldUp,
        until: impl Future<Output = T> + Send,
    ) -> Option<T> {
        let runtime = &self.core.runtime;
        let begun = runtime.monotonic();
        let done = runtime.timeout(held_up.left, until).await.ok();
        self.partners
            .count(held_up, runtime.monotonic().saturating_sub(begun));
        done
    }

    /// Lets shards that are on their way arrive. Who may hold us up no more does without them.
    pub(super) async fn finish_passing(&self, passing: &mut Passing<'_>) {
        loop {
            let held_up = self.partners.still_taking();
            if held_up.by.is_empty() {
                return;
            }
            let _taken_or_over = self.while_held_up(&held_up, passing.next()).await;
        }
    }

    /// Gives a partner its shard of a segment. It is on its way at once.
    pub(super) fn pass_on<'a>(
        &'a self,
        record: Arc<Signed<SegmentRecord>>,
        mut rebuilt: Rebuilt<'a>,
    ) -> BoxFuture<'a, ()> {
        rebuilt.place.set_off();
        Box::pin(async move {
            let Rebuilt { place, lent, bytes } = rebuilt;
            let partner = place.partner();
            if let Err(error) = self.pass_to(partner, &record, &bytes).await {
                let segment: SegmentNumber = record.unverified().number;
                tracing::debug!(slot = %self.place, partner = %partner.0, %segment, %error, "it takes no shards");
                self.partners.leave_out(partner);
            }
            self.core.memory.give_back(bytes.freeze());
            drop(lent);
        })
    }

    /// Gives one partner its shard; waits until it is there and has begun.
    async fn pass_to(
        &self,
        partner: Partner,
        record: &Signed<SegmentRecord>,
        bytes: &[u8],
    ) -> Result<(), DataError> {
        let runtime = &self.core.runtime;
        loop {
            let error = match self.put_at(partner, record, bytes).await {
                Ok(()) => {
                    self.partners.took(partner);
                    return Ok(());
                }
                Err(error) => error,
            };
            let now = runtime.monotonic();
            if !self.partners.may_refuse(partner, &error, now) {
                return Err(error);
            }
            runtime.sleep(REFUSAL_PAUSE).await;
        }
    }

    async fn put_at(
        &self,
        (slot, node): Partner,
        record: &Signed<SegmentRecord>,
        bytes: &[u8],
    ) -> Result<(), DataError> {
        let capability = own_capability(&self.core.key, &self.group);
        let taken = self.core.pool.take(node, &capability, CONNECT_LIMIT);
        // Whether it is durable there is the partner's concern: its receipt is of no use to us.
        let _receipt = taken.await?.put(slot, record, bytes).await?;
        Ok(())
    }
}
