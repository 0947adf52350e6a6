//! Fetching a run of a segment's payload: from the data shards, and around those that are slow,
//! absent or wrong.
//!
//! The run is cut at the borders of data shards into *parts*, each asked of its slot at once. A
//! part whose slot fails, is known to be away, or has not answered after a delay that follows the
//! node's usual time, is reconstructed from the same range of any k shards; what comes first is
//! taken. All parts lie side by side in one buffer, so what comes out needs no copying when
//! nothing went wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::ShardRange;
use cairn_core::{NodeId, SlotIndex};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_net::data::DataError;
use cairn_proofs::widen_to_blocks;
use cairn_runtime::Runtime;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::client::Shared;
use crate::group_view::{Freshness, GroupView};
use crate::read::error::{MissingSlot, ReadError, SlotReadFailure};
use crate::read::request::{Heard, SegmentKnown, Wanted, get_verified};
use crate::width::index;

/// Without hedging budget, a slow answer is waited for this long before others are asked.
const HEDGE_UNPAID: Duration = Duration::from_secs(2);
/// A slot that has said nothing for this long, while others answered, is silent: it counts as
/// missing. Well above any disk's or far link's delay, and above the time in which a node that
/// is up is looked up among silent peers; only when too few others are left does
/// it end a read, which may be tried again.
const SILENT_AFTER: Duration = Duration::from_secs(8);

/// A run of a segment's payload, verified.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Where `bytes` begin in the payload.
    pub(crate) start: u32,
    /// The run, widened to whole blocks at both ends.
    pub(crate) bytes: BytesMut,
}

/// A part of the run that lies in one data shard.
struct Part {
    wanted: Wanted,
    /// Verified or reconstructed bytes.
    bytes: Option<BytesMut>,
    /// Others are asked for this range too.
    is_bypassed: bool,
}

/// A request under way.
struct UnderWay {
    wanted: Wanted,
    node: NodeId,
    asked_at: Duration,
    /// When it counts as late.
    late_at: Duration,
    is_late: bool,
    /// What came of the answer.
    heard: Arc<Heard>,
}

impl UnderWay {
    /// Whether the node has not said anything for long.
    fn is_silent(&self, now: Duration) -> bool {
        self.heard.silence(self.asked_at, now) >= SILENT_AFTER
    }

    /// When to look at it: when it becomes late, and when no hedge could be paid for then, once
    /// it has been late for long.
    fn look_at(&self, now: Duration) -> Duration {
        if self.late_at > now {
            self.late_at
        } else {
            self.late_at.saturating_add(HEDGE_UNPAID)
        }
    }
}

type Answer = (u64, Result<BytesMut, SlotReadFailure>);

struct Fetch<'a, R: Runtime, N: Network, L: Ledger> {
    client: &'a Arc<Shared<R, N, L>>,
    segment: Arc<SegmentKnown>,
    view: Arc<GroupView>,
    parts: Vec<Part>,
    /// Verified ranges of other slots, to reconstruct from.
    others: BTreeMap<SlotIndex, Vec<(ShardRange, BytesMut)>>,
    requests: FuturesUnordered<BoxFuture<'static, Answer>>,
    under_way: BTreeMap<u64, UnderWay>,
    next_id: u64,
    failed: BTreeMap<SlotIndex, (Option<NodeId>, SlotReadFailure)>,
    has_refreshed: bool,
    /// Whether any node has answered: what is silent beside it is not our own link.
    has_answer: bool,
}

/// Fetches and verifies bytes `start..end` of a segment's payload.
pub(crate) async fn fetch<R: Runtime, N: Network, L: Ledger>(
    client: &Arc<Shared<R, N, L>>,
    segment: SegmentKnown,
    start: u32,
    end: u32,
) -> Result<Fetched, ReadError> {
    let view = client
        .view(segment.group, segment.owner, Freshness::Kept)
        .await?;
    let (parts, first, buffer_bytes) = cut(&segment, start, end);
    let mut buffer = client.memory.read_buffer(buffer_bytes);
    let mut fetch = Fetch {
        client,
        segment: Arc::new(segment),
        view,
        parts: Vec::new(),
        others: BTreeMap::new(),
        requests: FuturesUnordered::new(),
        under_way: BTreeMap::new(),
        next_id: 0,
        failed: BTreeMap::new(),
        has_refreshed: false,
        has_answer: false,
    };
    for wanted in parts {
        let rest = buffer.split_off(index(wanted.range.bytes));
        let room = std::mem::replace(&mut buffer, rest);
        fetch.begin(wanted, room);
    }
    let ran = fetch.run().await;
    fetch.leave_late();
    ran?;
    let mut whole = BytesMut::new();
    for part in fetch.parts {
        let bytes = part
            .bytes
            .expect("all parts are there when the run is over");
        if whole.is_empty() {
            whole = bytes;
        } else {
            whole.unsplit(bytes);
        }
    }
    Ok(Fetched {
        start: first,
        bytes: whole,
    })
}

/// The ranges of data shards that hold the run, where the first begins in the payload, and their
/// bytes together.
fn cut(segment: &SegmentKnown, start: u32, end: u32) -> (Vec<Wanted>, u32, usize) {
    let shard = segment.shard_bytes();
    let mut parts = Vec::new();
    let mut first = None;
    let mut total = 0;
    for slot in segment.code.slots().take(segment.code.data_count()) {
        let from = u32::from(slot.get()).saturating_mul(shard);
        let (low, high) = (start.max(from), end.min(from.saturating_add(shard)));
        if low >= high {
            continue;
        }
        let inner = ShardRange {
            offset: low - from,
            bytes: high - low,
        };
        let range = widen_to_blocks(shard, inner).expect("a range within a shard of legal size");
        first.get_or_insert(from + range.offset);
        total += index(range.bytes);
        parts.push(Wanted { slot, range });
    }
    (parts, first.unwrap_or(start), total)
}

impl<R: Runtime, N: Network, L: Ledger> Fetch<'_, R, N, L> {
    fn now(&self) -> Duration {
        self.client.runtime.monotonic()
    }

    /// Asks a part of its slot, unless its node is known to be away.
    fn begin(&mut self, wanted: Wanted, room: BytesMut) {
        self.parts.push(Part {
            wanted,
            bytes: None,
            is_bypassed: false,
        });
        match self.view.node(wanted.slot) {
            Some(node) if !self.client.peers.is_away(node, self.now()) => {
                self.ask(wanted, node, room);
            }
            _ => {
                if let Some(part) = self.parts.last_mut() {
                    part.is_bypassed = true;
                }
            }
        }
    }

    /// Sends a request, in a task of its own so that decryption of the transport and hashing use
    /// all processors.
    fn ask(&mut self, wanted: Wanted, node: NodeId, room: BytesMut) {
        let id = self.next_id;
        self.next_id += 1;
        let delay = self.client.peers.hedge_delay(node, wanted.range.bytes);
        let asked_at = self.now();
        let heard = Arc::new(Heard::default());
        self.under_way.insert(
            id,
            UnderWay {
                wanted,
                node,
                asked_at,
                late_at: asked_at.saturating_add(delay),
                is_late: false,
                heard: Arc::clone(&heard),
            },
        );
        let client = Arc::clone(self.client);
        let segment = Arc::clone(&self.segment);
        let task = self.client.runtime.spawn("client get", async move {
            get_verified(&client, &segment, (wanted, node), room, &heard).await
        });
        self.requests.push(Box::pin(async move {
            let result = task.join().await.unwrap_or(Err(SlotReadFailure::Aborted));
            (id, result)
        }));
    }

    /// Runs until every part is there.
    async fn run(&mut self) -> Result<(), ReadError> {
        loop {
            self.reconstruct();
            if self.parts.iter().all(|part| part.bytes.is_some()) {
                return Ok(());
            }
            for at in 0..self.parts.len() {
                let part = &self.parts[at];
                if part.bytes.is_none() && part.is_bypassed {
                    self.bypass(part.wanted.range).await?;
                }
            }
            let client = Arc::clone(self.client);
            let wait = self.next_look().saturating_sub(self.now());
            let answer = tokio::select! {
                biased;
                answer = self.requests.next() => answer,
                () = client.runtime.sleep(wait) => None,
            };
            match answer {
                Some((id, result)) => self.take(id, result),
                None => self.mark_late(),
            }
        }
    }

    fn take(&mut self, id: u64, result: Result<BytesMut, SlotReadFailure>) {
        let Some(request) = self.under_way.remove(&id) else {
            return;
        };
        let Wanted { slot, range } = request.wanted;
        self.has_answer |= matches!(
            result,
            Ok(_) | Err(SlotReadFailure::Data(DataError::Remote { .. }))
        );
        let part = self
            .parts
            .iter_mut()
            .find(|part| part.wanted == request.wanted && part.bytes.is_none());
        match (result, part) {
            (Ok(bytes), Some(part)) => part.bytes = Some(bytes),
            (Ok(bytes), None) => self.others.entry(slot).or_default().push((range, bytes)),
            (Err(failure), part) => {
                if let Some(part) = part {
                    part.is_bypassed = true;
                }
                self.failed.insert(slot, (Some(request.node), failure));
            }
        }
    }

    /// When the next request is to be looked at.
    fn next_look(&self) -> Duration {
        let now = self.now();
        self.under_way
            .values()
            .filter(|request| !request.is_late)
            .map(|request| request.look_at(now))
            .chain(self.silences(now))
            .min()
            .unwrap_or(Duration::MAX)
            .min(now.saturating_add(HEDGE_UNPAID))
    }

    /// When requests become silent that are not yet.
    fn silences(&self, now: Duration) -> impl Iterator<Item = Duration> {
        let silent_at = |request: &UnderWay| request.asked_at.saturating_add(SILENT_AFTER);
        let all = self.under_way.values().map(silent_at);
        all.filter(move |at| *at > now)
    }

    /// Marks requests that are late, as far as the hedging budget allows, and the parts that
    /// wait for them.
    fn mark_late(&mut self) {
        let now = self.now();
        let needed = self.segment.code.data_count();
        for request in self.under_way.values_mut() {
            if request.is_late || request.late_at > now {
                continue;
            }
            let waited_long = now.saturating_sub(request.late_at) >= HEDGE_UNPAID;
            // A whole-segment read lacks one shard more; a range read needs k.
            let shards = if self.parts.len() >= needed {
                1
            } else {
                needed
            };
            let cost = u64::from(request.wanted.range.bytes)
                .saturating_mul(u64::try_from(shards).unwrap_or(u64::MAX));
            if !waited_long && !self.client.hedges.spend(cost) {
                // Looked at again when it has been late for long.
                continue;
            }
            request.is_late = true;
            let part = self
                .parts
                .iter_mut()
                .find(|part| part.wanted == request.wanted);
            if let Some(part) = part {
                part.is_bypassed = true;
            }
        }
    }

    /// What was late and is not needed any more was too slow: its nodes are passed over for a
    /// while, so that the next read does not wait for them again.
    fn leave_late(&self) {
        let now = self.now();
        let slow = self.under_way.values();
        for request in slow.filter(|request| request.is_late || self.is_silent(request)) {
            self.client.peers.failed(request.node, now);
        }
    }

    /// Slots that have given a range that covers this one.
    fn holding(&self, range: ShardRange) -> Vec<(SlotIndex, &[u8])> {
        let parts = self
            .parts
            .iter()
            .filter_map(|part| Some((part.wanted, part.bytes.as_ref()?)));
        let others = self.others.iter().flat_map(|(slot, parts)| {
            parts.iter().map(move |(range, bytes)| {
                let wanted = Wanted {
                    slot: *slot,
                    range: *range,
                };
                (wanted, bytes)
            })
        });
        let mut found: BTreeMap<SlotIndex, &[u8]> = BTreeMap::new();
        for (wanted, bytes) in parts.chain(others) {
            if let Some(part) = part(wanted.range, bytes, range) {
                found.insert(wanted.slot, part);
            }
        }
        found.into_iter().collect()
    }

    /// Reconstructs every part that k shards are there for.
    fn reconstruct(&mut self) {
        for at in 0..self.parts.len() {
            let wanted = self.parts[at].wanted;
            if self.parts[at].bytes.is_some() || !self.parts[at].is_bypassed {
                continue;
            }
            let have = self.holding(wanted.range);
            if have.len() < self.segment.code.data_count() {
                continue;
            }
            let coder = self.client.coder(self.segment.code);
            let mut out = BytesMut::zeroed(index(wanted.range.bytes));
            let made = coder.reconstruct(&have, &[wanted.slot], &mut [&mut out[..]]);
            made.expect("k verified ranges of equal size reconstruct any other");
            self.parts[at].bytes = Some(out);
        }
    }

    /// Whether the node of a request counts as missing while its answer may still come.
    fn is_silent(&self, request: &UnderWay) -> bool {
        self.has_answer && request.is_silent(self.now())
    }

    /// Asks as many other slots for `range` as are lacking to reconstruct it; all, once one is late
    /// while others answer, so that several that are silent are not met one after the other.
    async fn bypass(&mut self, range: ShardRange) -> Result<(), ReadError> {
        loop {
            let needed = self.segment.code.data_count();
            let have: Vec<SlotIndex> = self.holding(range).iter().map(|held| held.0).collect();
            let (mut prompt, mut late, mut silent) = (Vec::new(), Vec::new(), Vec::new());
            for request in self.under_way.values() {
                if !covers(request.wanted.range, range) {
                    continue;
                }
                let kind = if self.is_silent(request) {
                    &mut silent
                } else if request.is_late {
                    &mut late
                } else {
                    &mut prompt
                };
                kind.push(request.wanted.slot);
            }
            let lacking = needed.saturating_sub(have.len() + prompt.len());
            if lacking == 0 {
                return Ok(());
            }
            let taken = [&have, &prompt, &late, &silent];
            let candidates = self.candidates(range, |slot| {
                taken.iter().any(|slots| slots.contains(&slot))
            });
            let found = candidates.len();
            let are_late = !late.is_empty() || !silent.is_empty();
            let asked_count = if self.has_answer && are_late {
                found
            } else {
                lacking
            };
            for (slot, node) in candidates.into_iter().take(asked_count) {
                let room = BytesMut::with_capacity(index(range.bytes));
                self.ask(Wanted { slot, range }, node, room);
            }
            // Late answers may still come.
            if found >= lacking || have.len() + prompt.len() + found + late.len() >= needed {
                return Ok(());
            }
            self.give_up_or_refresh(have.len()).await?;
        }
    }

    /// Slots that may be asked for `range`: those thought to be quick first, those that are away
    /// last.
    fn candidates(
        &self,
        range: ShardRange,
        is_taken: impl Fn(SlotIndex) -> bool,
    ) -> Vec<(SlotIndex, NodeId)> {
        let now = self.now();
        let peers = &self.client.peers;
        let mut found: Vec<_> = self
            .segment
            .code
            .slots()
            .filter(|slot| !is_taken(*slot) && !self.failed.contains_key(slot))
            .filter_map(|slot| self.view.node(slot).map(|node| (slot, node)))
            .collect();
        found.sort_by_key(|(slot, node)| {
            let expected = peers.expected(*node, range.bytes);
            (peers.is_away(*node, now), expected, *slot)
        });
        found
    }

    /// Looks once whether slots have moved; without hope, says which are missing and why.
    async fn give_up_or_refresh(&mut self, found: usize) -> Result<(), ReadError> {
        let may_have_moved = self
            .failed
            .values()
            .any(|(_, failure)| failure.may_have_moved());
        if !self.has_refreshed && may_have_moved {
            self.has_refreshed = true;
            let fresh = self
                .client
                .view(self.segment.group, self.segment.owner, Freshness::Now)
                .await;
            if let Ok(fresh) = fresh {
                self.failed.retain(|slot, (node, failure)| {
                    !failure.may_have_moved() || fresh.node(*slot) == *node
                });
                let has_moved = fresh.holders != self.view.holders;
                self.view = fresh;
                if has_moved {
                    return Ok(());
                }
            }
        }
        Err(self.too_few(found))
    }

    fn too_few(&self, found: usize) -> ReadError {
        let code = self.segment.code;
        let now = self.now();
        let late: BTreeMap<SlotIndex, (NodeId, Duration)> = self
            .under_way
            .values()
            .filter(|request| request.is_late || self.is_silent(request))
            .map(|request| {
                let waited = now.saturating_sub(request.asked_at);
                (request.wanted.slot, (request.node, waited))
            })
            .collect();
        let missing = code
            .slots()
            .filter_map(|slot| {
                let (node, failure) = match (self.failed.get(&slot), late.get(&slot)) {
                    (Some((node, failure)), _) => (*node, failure.clone()),
                    (None, Some((node, limit))) => {
                        (Some(*node), SlotReadFailure::Timeout { limit: *limit })
                    }
                    (None, None) if self.view.node(slot).is_some() => return None,
                    (None, None) => (None, SlotReadFailure::NoNode),
                };
                Some(MissingSlot {
                    slot,
                    node,
                    failure,
                })
            })
            .collect();
        ReadError::TooFewSlots {
            group: self.segment.group,
            segment: self.segment.number,
            expected: code.shard_count(),
            needed: code.data_count(),
            found,
            missing,
        }
    }
}

/// Whether `outer` has all of `inner`.
const fn covers(outer: ShardRange, inner: ShardRange) -> bool {
    outer.offset <= inner.offset
        && outer.offset.saturating_add(outer.bytes) >= inner.offset.saturating_add(inner.bytes)
}

/// The part of `bytes`, which are those of `outer`, that is `inner`.
fn part(outer: ShardRange, bytes: &[u8], inner: ShardRange) -> Option<&[u8]> {
    if !covers(outer, inner) {
        return None;
    }
    let from = index(inner.offset - outer.offset);
    bytes.get(from..from + index(inner.bytes))
}

#[cfg(test)]
mod tests {
    use cairn_core::{
        AccountId, Capability, CapabilityLink, Code, Digest, GroupId, Profile, Right, Scope,
        SecretKey, SegmentNumber, UnixMillis,
    };

    use super::*;
    use crate::cipher::FRAME_BYTES_MAX;
    use crate::segment::{FrameSpan, Layout, payload_bytes};

    fn segment(payload_bytes: u32) -> SegmentKnown {
        let owner = SecretKey::from_bytes(&[1; 32]);
        let group = GroupId::new(Digest::new([2; 32]));
        let link = CapabilityLink {
            scope: Scope::Group(group),
            right: Right::Read,
            holder: owner.public(),
            expires_at: UnixMillis::new(1),
        };
        SegmentKnown {
            group,
            number: SegmentNumber::new(0),
            code: Code::new(4, 8).unwrap(),
            payload_bytes,
            owner: AccountId::new(owner.public()),
            capability: Arc::new(Capability::issue(link, &owner)),
        }
    }

    /// Parts lie side by side, whatever the run: what fetch relies on to join them.
    #[test]
    fn parts_cover_the_run_without_a_gap() {
        let payload = 511 * 8_208;
        let known = segment(payload);
        let shard = known.shard_bytes();
        let edges = [
            0,
            1,
            1_023,
            1_024,
            8_208,
            shard - 1,
            shard,
            shard + 1,
            payload - 1,
            payload,
        ];
        for start in edges {
            for end in edges.into_iter().filter(|end| *end > start) {
                let (parts, first, total) = cut(&known, start, end);
                let mut at = first;
                for part in &parts {
                    let from = u32::from(part.slot.get()) * shard + part.range.offset;
                    assert_eq!(from, at, "{start}..{end}");
                    at += part.range.bytes;
                }
                assert!(first <= start && start - first < 1_024);
                assert!(at >= end && at - end < 1_024);
                assert_eq!(total, index(at - first));
            }
        }
    }

    /// DESIGN.md section 10, at every offset in a full segment, for narrow and wide codes: a range
    /// of 64 KiB is at most two requests for at most 1.2 times as many bytes.
    #[test]
    fn no_offset_of_64_kib_costs_more_than_a_fifth_on_top() {
        for (profile, step) in [
            (Profile::Dev4, 1),
            (Profile::Dev8, 1),
            (Profile::Standard, 7),
        ] {
            let layout = Layout::new(profile.code(), 1 << 20, usize::MAX).unwrap();
            let plain = layout.plain_bytes_max();
            let known = SegmentKnown {
                code: profile.code(),
                ..segment(payload_bytes(plain))
            };
            let mut most = 0;
            for offset in (0..=plain - 65_536).step_by(step) {
                let span = FrameSpan::of(&(offset..offset + 65_536), plain);
                let (parts, _, total) = cut(&known, span.payload_start, span.payload_end);
                assert!(parts.len() <= 2, "{profile:?} {offset}");
                most = most.max(total);
            }
            assert!(most <= 65_536 * 12 / 10, "{profile:?}: {most}");
            assert!(most > 9 * FRAME_BYTES_MAX, "{profile:?}: {most}");
        }
    }

    /// A late request that no hedge can be paid for is waited for, not looked at all the time.
    #[test]
    fn a_late_request_is_looked_at_twice() {
        let owner = SecretKey::from_bytes(&[1; 32]);
        let late_at = Duration::from_secs(7);
        let request = UnderWay {
            wanted: Wanted {
                slot: SlotIndex::new(0),
                range: ShardRange {
                    offset: 0,
                    bytes: 1,
                },
            },
            node: NodeId::new(owner.public()),
            asked_at: Duration::ZERO,
            late_at,
            is_late: false,
            heard: Arc::default(),
        };
        assert_eq!(request.look_at(Duration::ZERO), late_at);
        let long = late_at + HEDGE_UNPAID;
        for late in [late_at, late_at + HEDGE_UNPAID / 2] {
            assert_eq!(request.look_at(late), long);
        }
    }

    #[test]
    fn tiny_segments_ask_only_shards_that_hold_payload() {
        let known = segment(17);
        let (parts, first, total) = cut(&known, 0, 17);
        assert_eq!((parts.len(), first, total), (4, 0, 20));
        let known = segment(5);
        assert_eq!(cut(&known, 0, 5).0.len(), 3);
    }
}
