//! The durable state of a slot: a small file that is replaced in one step.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::code::SLOTS_MAX;
use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{
    Bounded, GroupId, GroupRevision, Record, RecordKind, RevisionDetail, RevisionNumber,
    SegmentNumber, Signed, SlotIndex, SlotRoot,
};
use cairn_ledger::epoch::REVISIONS_KEPT;
use cairn_ledger::tx::SlotRef;

use super::format::index;

/// Bytes of the set of emptied leaves at most: a bit for each.
const EMPTIED_BYTES_MAX: usize = 131_072;

const _: () = assert!(EMPTIED_BYTES_MAX * 8 == 1 << 20 && SEGMENTS_MAX == 1 << 20);

/// A set of segment numbers, as bits; no trailing zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct NumberSet(Bounded<u8, EMPTIED_BYTES_MAX>);

impl NumberSet {
    /// Whether `number` is in it.
    pub(super) fn contains(&self, number: SegmentNumber) -> bool {
        self.0
            .get(index(number.get() / 8))
            .is_some_and(|byte| byte & (1 << (number.get() % 8)) != 0)
    }

    /// How many numbers below `count` are in it.
    pub(super) fn count_below(&self, count: u32) -> u32 {
        let whole = index(count / 8).min(self.0.len());
        let bits: u32 = self.0[..whole].iter().map(|byte| byte.count_ones()).sum();
        let rest = self.0.get(whole).map_or(0, |byte| {
            let mask = (1_u8 << (count % 8)) - 1;
            (byte & mask).count_ones()
        });
        bits + rest
    }

    /// The numbers in it, rising.
    pub(super) fn numbers(&self) -> impl Iterator<Item = SegmentNumber> {
        let end = u32::try_from(self.0.len() * 8).expect("at most SEGMENTS_MAX");
        (0..end)
            .map(SegmentNumber::new)
            .filter(|number| self.contains(*number))
    }

    /// This set and `other`.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (mut long, short) = if self.0.len() >= other.0.len() {
            (self.0.to_vec(), &other.0)
        } else {
            (other.0.to_vec(), &self.0)
        };
        for (byte, more) in long.iter_mut().zip(short.iter()) {
            *byte |= more;
        }
        Self(Bounded::new(long).expect("no longer than the longer one"))
    }

    /// This set and `numbers`, each below [`SEGMENTS_MAX`].
    pub(super) fn with(&self, numbers: impl IntoIterator<Item = SegmentNumber>) -> Self {
        let mut bytes = self.0.to_vec();
        for number in numbers {
            let at = index(number.get() / 8);
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (number.get() % 8);
        }
        Self(Bounded::new(bytes).expect("numbers are below the bound"))
    }
}

/// Revisions before the newest reached one that may be kept: the one that was acknowledged when
/// the epoch began, the acknowledged one, and those that the ledger may still take an
/// acknowledgement of.
pub(super) const EARLIER_MAX: usize = 6;

const _: () = assert!(EARLIER_MAX == 6 && 2 + REVISIONS_KEPT == 6);

/// Bytes of one at most.
const EARLIER_BYTES_MAX: usize = GroupRevision::BYTES_MAX + 32 * SLOTS_MAX + 8 + EMPTIED_BYTES_MAX;

/// A revision before the newest reached one, for which the ledger may ask for a proof.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Earlier {
    pub(super) revision: GroupRevision,
    pub(super) slot_roots: Bounded<SlotRoot, SLOTS_MAX>,
    /// The leaves that it has empty.
    pub(super) emptied: NumberSet,
}

impl Earlier {
    /// Its number.
    pub(super) const fn number(&self) -> RevisionNumber {
        self.revision.number
    }

    /// Its leaves.
    pub(super) const fn count(&self) -> u32 {
        self.revision.segment_count
    }

    /// As any reached revision.
    pub(super) fn reached(&self) -> Reached<'_> {
        Reached {
            revision: self.revision,
            slot_roots: &self.slot_roots,
            emptied: &self.emptied,
        }
    }

    /// Whether it has that shard.
    fn has(&self, number: SegmentNumber) -> bool {
        number.get() < self.count() && !self.emptied.contains(number)
    }
}

/// A revision that the slot has reached, what of it proofs need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached<'a> {
    pub(super) revision: GroupRevision,
    pub(super) slot_roots: &'a [SlotRoot],
    pub(super) emptied: &'a NumberSet,
}

/// Which of the reached revisions the ledger may ask for a proof of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The acknowledged one, as last seen.
    pub acknowledged: RevisionNumber,
    /// The one that was acknowledged when the epoch began, unless its proof is judged.
    pub frozen: Option<RevisionNumber>,
    /// Whether it may be the oldest that is kept, too: a deal before this one may have frozen it.
    pub is_oldest_frozen: bool,
    /// An acknowledgement of an older one is not taken any more.
    pub acknowledgeable: RevisionNumber,
}

impl Needs {
    /// Of a slot whose group has `current` on the ledger.
    #[must_use]
    pub fn of(
        acknowledged: RevisionNumber,
        frozen: Option<RevisionNumber>,
        current: RevisionNumber,
    ) -> Self {
        let acknowledgeable = current.get().saturating_sub(REVISIONS_KEPT);
        Self {
            acknowledged,
            frozen,
            is_oldest_frozen: false,
            acknowledgeable: RevisionNumber::new(acknowledgeable),
        }
    }

    fn contain(&self, number: RevisionNumber) -> bool {
        let may_come = number > self.acknowledged && number >= self.acknowledgeable;
        number == self.acknowledged || Some(number) == self.frozen || may_come
    }
}

/// Which revision a detail is of.
pub(super) const fn number_of(detail: &Signed<RevisionDetail>) -> RevisionNumber {
    detail.unverified().revision.number
}

/// What a slot has reached. In the folder `slots`.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct SlotState {
    pub(super) group: GroupId,
    pub(super) slot: SlotIndex,
    /// Shards up to this sequence number are dropped.
    pub(super) dropped_to: u64,
    /// The newest revision that the slot had whole.
    pub(super) reached: Option<Signed<RevisionDetail>>,
    /// A newer one that is known.
    pub(super) pending: Option<Signed<RevisionDetail>>,
    /// Leaves that details since the reached one say are emptied; the slot root proves it or not.
    pub(super) hinted: NumberSet,
    /// Every leaf that a reached revision emptied.
    pub(super) emptied: NumberSet,
    /// The bytes of leaves that revisions up to this emptied may be dropped.
    pub(super) released: RevisionNumber,
    /// Reached before, rising.
    pub(super) earlier: Bounded<Earlier, EARLIER_MAX>,
}

impl Record for SlotState {
    const KIND: RecordKind = RecordKind::SlotState;
    const VERSION: u8 = 2;
    const BYTES_MAX: usize = 256
        + 2 * (Signed::<RevisionDetail>::BYTES_MAX + EMPTIED_BYTES_MAX)
        + EARLIER_MAX * EARLIER_BYTES_MAX;

    fn is_well_formed(&self) -> bool {
        [&self.reached, &self.pending]
            .into_iter()
            .flatten()
            .map(Signed::unverified)
            .all(|detail| detail.is_well_formed() && detail.revision.group == self.group)
            && self.earlier.iter().all(|earlier| {
                earlier.revision.is_well_formed() && earlier.revision.group == self.group
            })
    }
}

impl SlotState {
    /// Of a slot that nothing is known of.
    pub(super) const fn new(place: SlotRef) -> Self {
        Self {
            group: place.group,
            slot: place.slot,
            dropped_to: 0,
            reached: None,
            pending: None,
            hinted: NumberSet(Bounded::empty()),
            emptied: NumberSet(Bounded::empty()),
            released: RevisionNumber::ZERO,
            earlier: Bounded::empty(),
        }
    }

    /// The slot.
    pub(super) const fn place(&self) -> SlotRef {
        SlotRef {
            group: self.group,
            slot: self.slot,
        }
    }

    /// Number of the newest revision that the slot had whole.
    pub(super) fn reached_number(&self) -> RevisionNumber {
        self.reached
            .as_ref()
            .map_or(RevisionNumber::ZERO, number_of)
    }

    /// Leaves of that revision.
    pub(super) fn reached_count(&self) -> u32 {
        self.reached
            .as_ref()
            .map_or(0, |detail| detail.unverified().revision.segment_count)
    }

    /// With `detail` as the newest that is known; `None` when one as new is.
    pub(super) fn expecting(&self, detail: &Signed<RevisionDetail>) -> Option<Self> {
        let known = [&self.reached, &self.pending].into_iter().flatten();
        if known
            .map(number_of)
            .any(|number| number >= number_of(detail))
        {
            return None;
        }
        let hints = detail.unverified().emptied.iter().copied();
        Some(Self {
            pending: Some(detail.clone()),
            hinted: self.hinted.with(hints),
            ..self.clone()
        })
    }

    /// At `detail`, which has those leaves empty; `None` when too many earlier revisions are kept.
    pub(super) fn reaching(
        &self,
        detail: &Signed<RevisionDetail>,
        emptied: NumberSet,
    ) -> Option<Self> {
        let newer = |known: &&Signed<RevisionDetail>| number_of(known) > number_of(detail);
        let pending = self.pending.as_ref().filter(newer).cloned();
        let hinted = match &pending {
            Some(_) => self.hinted.clone(),
            None => NumberSet::default(),
        };
        Some(Self {
            reached: Some(detail.clone()),
            pending,
            hinted,
            emptied,
            earlier: self.earlier_before(number_of(detail))?,
            ..self.clone()
        })
    }

    /// The earlier ones, once `next` is reached; `None` when they would be too many.
    fn earlier_before(&self, next: RevisionNumber) -> Option<Bounded<Earlier, EARLIER_MAX>> {
        let details = self.reached.iter().map(Signed::unverified);
        let reached = details.map(|detail| Earlier {
            revision: detail.revision,
            slot_roots: detail.slot_roots.clone(),
            emptied: self.emptied.clone(),
        });
        let mut earlier: Vec<Earlier> = self.earlier.iter().cloned().chain(reached).collect();
        earlier.retain(|earlier| earlier.number() < next);
        Bounded::new(earlier).ok()
    }

    /// Gives earlier revisions up that nobody will ask for.
    pub(super) fn keep_earlier(&mut self, needs: &Needs) {
        let mut earlier = std::mem::take(&mut self.earlier).into_vec();
        let oldest = earlier.first().map(Earlier::number);
        let oldest = oldest.filter(|_| needs.is_oldest_frozen);
        earlier.retain(|earlier| {
            let number = earlier.number();
            needs.contain(number) || Some(number) == oldest
        });
        self.earlier = Bounded::new(earlier).expect("no more than before");
    }

    /// Whether an earlier revision has a shard that the reached one may have emptied.
    pub(super) fn is_needed(&self, number: SegmentNumber) -> bool {
        self.earlier.iter().any(|earlier| earlier.has(number))
    }

    /// Leaves that the newest revision has empty, as far as its writer says.
    pub(super) fn emptied_by(&self, detail: &RevisionDetail) -> NumberSet {
        let hints = detail.emptied.iter().copied();
        self.emptied.and(&self.hinted).with(hints)
    }

    /// Name of its file.
    pub(super) fn file_name(place: SlotRef) -> String {
        format!("{}-{}", place.group, place.slot)
    }
}
