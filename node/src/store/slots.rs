//! What slots have reached: revisions, emptied leaves, dropped slots, expiry.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cairn_core::{
    ByteCount, RevisionDetail, RevisionNumber, SegmentNumber, Signed, SlotRoot, UnixMillis,
};
use cairn_ledger::tx::SlotRef;
use cairn_proofs::SlotTree;
use cairn_runtime::Disk;

use super::error::StoreError;
use super::format::{length, pages};
use super::index::{Index, Kept, Location, Slot, SlotFigures};
use super::state::{Earlier, Needs, NumberSet, SlotState};
use super::{ShardStore, lock};

/// A revision that a slot has, or had, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReached {
    /// Its detail.
    pub detail: Signed<RevisionDetail>,
    /// Whether every shard of it is still here.
    pub whole: bool,
}

impl SlotReached {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> RevisionNumber {
        self.detail.unverified().revision.number
    }
}

/// What a slot's file is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To know more: it needs room.
    Keep,
    /// To give bytes back: that is possible in a full store too, and below the floor for as long
    /// as the old file is there beside the new one.
    Release,
}

impl<D: Disk> ShardStore<D> {
    /// Remembers durably that `detail`, which the caller has checked against the ledger and its
    /// owner's key, is the newest revision known. Shards under its numbers are not replaced by
    /// their writer any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`], [`StoreError::Full`].
    pub fn expect(
        &self,
        place: SlotRef,
        detail: &Signed<RevisionDetail>,
    ) -> Result<(), StoreError> {
        let _writer = lock(&self.writer);
        self.check_usable()?;
        let expecting = {
            let mut index = lock(&self.index);
            let slot = index.slot_mut(place);
            let count = detail.unverified().revision.segment_count;
            slot.fixed_count = slot.fixed_count.max(count);
            slot.state.expecting(detail)
        };
        let Some(state) = expecting else {
            return Ok(());
        };
        self.write_state(&state, Purpose::Keep)?;
        lock(&self.index).slot_mut(place).state = state;
        Ok(())
    }

    /// Brings the slot to a revision: every shard of it is here and the slot tree has its root.
    /// Durable on return. Which leaves are emptied is taken from the details since the reached
    /// one, and proved by the root.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lacking`], [`StoreError::SlotRoot`], [`StoreError::SlotBytes`],
    /// [`StoreError::Unsettled`]: nothing has changed. [`StoreError::Disk`], [`StoreError::Full`].
    pub fn reach(
        &self,
        place: SlotRef,
        detail: &Signed<RevisionDetail>,
    ) -> Result<SlotRoot, StoreError> {
        self.reach_with(place, detail, |state| state.emptied_by(detail.unverified()))
    }

    /// As [`Self::reach`], with `emptied` as the leaves that revisions since the reached one
    /// emptied, whatever details say.
    ///
    /// # Errors
    ///
    /// As [`Self::reach`].
    pub fn reach_emptied(
        &self,
        place: SlotRef,
        detail: &Signed<RevisionDetail>,
        emptied: &[SegmentNumber],
    ) -> Result<SlotRoot, StoreError> {
        self.reach_with(place, detail, |state| {
            state.emptied.with(emptied.iter().copied())
        })
    }

    fn reach_with(
        &self,
        place: SlotRef,
        signed: &Signed<RevisionDetail>,
        emptied: impl FnOnce(&SlotState) -> NumberSet,
    ) -> Result<SlotRoot, StoreError> {
        let detail = signed.unverified();
        // Held throughout, so that no put changes what the tree was made of.
        let _writer = lock(&self.writer);
        self.check_usable()?;
        let (tree, state) = {
            let mut index = lock(&self.index);
            let slot = index.slot_mut(place);
            let emptied = emptied(&slot.state);
            let tree = slot.tree_at(detail, &emptied)?;
            if slot.state.reached_number() > detail.revision.number {
                return Ok(tree.root());
            }
            let reaching = slot.state.reaching(signed, emptied);
            let state = reaching.ok_or_else(|| StoreError::Unsettled {
                slot: place,
                count: slot.state.earlier.len(),
            })?;
            (tree, state)
        };
        self.write_state(&state, Purpose::Keep)?;
        Ok(self.enter_reached(place, tree, state))
    }

    /// [`Self::reach`]; when shards are lacking or other than they must be, [`Self::expect`] and
    /// then the same error.
    ///
    /// # Errors
    ///
    /// As [`Self::reach`].
    pub fn reach_or_expect(
        &self,
        place: SlotRef,
        detail: &Signed<RevisionDetail>,
    ) -> Result<SlotRoot, StoreError> {
        let reached = self.reach(place, detail);
        if let Err(
            StoreError::Lacking { .. } | StoreError::SlotRoot { .. } | StoreError::Unsettled { .. },
        ) = &reached
        {
            self.expect(place, detail)?;
        }
        reached
    }

    /// Takes a reached revision into memory: emptied shards wait for their release.
    fn enter_reached(&self, place: SlotRef, tree: SlotTree, state: SlotState) -> SlotRoot {
        let root = tree.root();
        let mut index = lock(&self.index);
        let slot = index.slot_mut(place);
        let emptied: Vec<SegmentNumber> = slot
            .entries(SegmentNumber::ZERO)
            .map(|(number, _)| number)
            .filter(|number| state.emptied.contains(*number))
            .collect();
        for number in emptied {
            if let Some(entry) = slot.remove(number) {
                slot.condemned.insert(number, entry);
            }
        }
        slot.fixed_count = slot.fixed_count.max(state.reached_count());
        slot.tree = Some(tree);
        slot.state = state;
        root
    }

    /// Gives up the earlier revisions that nobody will ask for, and drops the bytes of emptied
    /// leaves that none of the others has: an acknowledgement of a revision that emptied them is
    /// final.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`], [`StoreError::Full`].
    pub fn release_emptied(&self, place: SlotRef, needs: &Needs) -> Result<ByteCount, StoreError> {
        let _writer = lock(&self.writer);
        self.check_usable()?;
        let (state, dead) = {
            let mut index = lock(&self.index);
            let Some(slot) = index.slots.get_mut(&place) else {
                return Ok(ByteCount::ZERO);
            };
            let before = slot.state.earlier.len();
            slot.state.keep_earlier(needs);
            let is_fewer = slot.state.earlier.len() < before;
            let is_final = needs.acknowledged >= slot.state.reached_number();
            let earlier = slot.state.earlier.iter();
            let mut earlier = earlier.map(Earlier::number);
            let is_due = is_final || earlier.any(|number| number == needs.acknowledged);
            let dead = if is_due { slot.unneeded() } else { Vec::new() };
            if dead.is_empty() && !is_fewer {
                return Ok(ByteCount::ZERO);
            }
            let mut state = slot.state.clone();
            // What the file has beyond that is given up again after a restart.
            if dead.is_empty() && !self.is_worth_writing(&index, &state) {
                return Ok(ByteCount::ZERO);
            }
            if is_final {
                state.released = state.reached_number();
            }
            (state, dead)
        };
        self.write_state(&state, Purpose::Release)?;
        let dead: Vec<Location> = {
            let mut index = lock(&self.index);
            let slot = index.slot_mut(place);
            slot.state = state;
            let taken = dead
                .iter()
                .filter_map(|number| slot.condemned.remove(number));
            taken.map(|entry| entry.location).collect()
        };
        self.release(&dead)?;
        Ok(bytes_of(&dead))
    }

    /// Whether a slot's file takes more of the disk than it would if it were written again.
    fn is_worth_writing(&self, index: &Index, state: &SlotState) -> bool {
        let now = u64::from(pages(length(&self.key.seal(state))));
        let kept = index.state_bytes.get(&state.place());
        kept.is_some_and(|kept| now < *kept)
    }

    /// Forgets a slot that another node has now, and drops its bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`], [`StoreError::Full`].
    pub fn drop_slot(&self, place: SlotRef) -> Result<ByteCount, StoreError> {
        let writer = lock(&self.writer);
        self.check_usable()?;
        let is_here = |slot: &Slot| !slot.is_gone() || slot.state.dropped_to == 0;
        if !lock(&self.index).slots.get(&place).is_some_and(is_here) {
            return Ok(ByteCount::ZERO);
        }
        let mut state = SlotState::new(place);
        state.dropped_to = writer.sequence - 1;
        self.write_state(&state, Purpose::Release)?;
        let dead = {
            let mut index = lock(&self.index);
            index.slots.remove(&place).map_or_else(Vec::new, |slot| {
                let kept = slot.entries(SegmentNumber::ZERO);
                let kept = kept.map(|(_, entry)| entry.location);
                let condemned = slot.condemned.values().map(|entry| entry.location);
                kept.chain(condemned).collect()
            })
        };
        self.release(&dead)?;
        if lock(&self.index).has_hidden {
            // The file keeps away what can't be read now; an opening that reads all removes it.
            let slot = Slot::with_state(state);
            lock(&self.index).slots.insert(place, slot);
        } else {
            self.forget_state(place)?;
        }
        Ok(bytes_of(&dead))
    }

    /// Removes the file of a slot of which nothing is here any more: its shards are dead durably.
    pub(super) fn forget_state(&self, place: SlotRef) -> Result<(), StoreError> {
        let removed = self.disk.remove_file(&self.slot_path(place));
        removed.map_err(|error| self.fail(error))?;
        let mut index = lock(&self.index);
        index.set_state_bytes(place, 0);
        index.state_bytes.remove(&place);
        index.slots.remove(&place);
        Ok(())
    }

    /// Drops shards that came before `before` and that no revision covers: numbers from
    /// `segment_count` on, which the group has for good, that the slot has not reached. A revision
    /// that the slot only expects covers nothing: its writer may never let anybody reach it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Disk`], [`StoreError::Full`].
    pub fn expire(
        &self,
        place: SlotRef,
        segment_count: u32,
        before: UnixMillis,
    ) -> Result<u32, StoreError> {
        let _writer = lock(&self.writer);
        self.check_usable()?;
        let dead: Vec<Location> = {
            let mut index = lock(&self.index);
            let Some(slot) = index.slots.get_mut(&place) else {
                return Ok(0);
            };
            let from = SegmentNumber::new(segment_count.max(slot.state.reached_count()));
            let old: Vec<SegmentNumber> = slot
                .entries(from)
                .filter(|(_, entry)| entry.written_at < before)
                .map(|(number, _)| number)
                .collect();
            let taken = old.into_iter().filter_map(|number| slot.remove(number));
            taken.map(|entry| entry.location).collect()
        };
        self.release(&dead)?;
        Ok(u32::try_from(dead.len()).unwrap_or(u32::MAX))
    }

    /// Writes a slot's file and accounts for it. One that is too large to be written again in a
    /// full store is refused.
    fn write_state(&self, state: &SlotState, purpose: Purpose) -> Result<(), StoreError> {
        let bytes = self.key.seal(state);
        let taken = u64::from(pages(length(&bytes)));
        if purpose == Purpose::Keep {
            let reserve = self.config.release_reserve();
            let most = reserve / 2;
            if taken > most {
                return Err(StoreError::Full {
                    needed: ByteCount::new(taken),
                    available: ByteCount::new(most),
                });
            }
            // The old file is there until the new one has its name.
            self.check_room(taken, reserve)?;
        }
        let path = self.slot_path(state.place());
        let written = self.disk.replace_file(&path, &bytes);
        written.map_err(|error| self.fail_unless_full(error))?;
        lock(&self.index).set_state_bytes(state.place(), taken);
        Ok(())
    }

    pub(super) fn slots_folder(&self) -> PathBuf {
        self.config.folder.join("slots")
    }

    fn slot_path(&self, place: SlotRef) -> PathBuf {
        self.slots_folder().join(SlotState::file_name(place))
    }

    fn with_slot<T>(&self, place: SlotRef, ask: impl FnOnce(&Slot) -> T) -> Option<T> {
        let index: &Index = &lock(&self.index);
        index.slots.get(&place).map(ask)
    }

    /// Every slot of which something is here.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotRef> {
        let index = lock(&self.index);
        let here = index.slots.values().filter(|slot| !slot.is_gone());
        here.map(Slot::place).collect()
    }

    /// Whether the slot has an earlier revision or emptied shards that wait for their release.
    #[must_use]
    pub fn is_waiting(&self, place: SlotRef) -> bool {
        self.with_slot(place, Slot::is_waiting).unwrap_or(false)
    }

    /// The slots of which that is so.
    #[must_use]
    pub fn waiting_slots(&self) -> Vec<SlotRef> {
        let index = lock(&self.index);
        let waiting = index.slots.values().filter(|slot| slot.is_waiting());
        waiting.map(Slot::place).collect()
    }

    /// Figures of a slot; `None` when nothing is here.
    #[must_use]
    pub fn slot_figures(&self, place: SlotRef) -> Option<SlotFigures> {
        self.with_slot(place, |slot| SlotFigures {
            shard_count: slot.shard_count,
            shard_bytes: ByteCount::new(slot.shard_bytes),
            charged_bytes: ByteCount::new(slot.charged_bytes),
            segment_count: slot.segment_count(),
        })
    }

    /// The newest revision that the slot had whole.
    #[must_use]
    pub fn reached(&self, place: SlotRef) -> Option<SlotReached> {
        self.with_slot(place, |slot| {
            let detail = slot.state.reached.clone()?;
            Some(SlotReached {
                detail,
                whole: slot.is_whole(),
            })
        })?
    }

    /// The newest revision known of the slot, reached or not.
    #[must_use]
    pub fn newest(&self, place: SlotRef) -> Option<Signed<RevisionDetail>> {
        self.with_slot(place, |slot| {
            let state = &slot.state;
            state.pending.clone().or_else(|| state.reached.clone())
        })?
    }

    /// Leaves below `count` that the newest detail and those before it say are empty, rising.
    #[must_use]
    pub fn hinted(&self, place: SlotRef, detail: &RevisionDetail) -> Vec<SegmentNumber> {
        let count = detail.revision.segment_count;
        let known = self.with_slot(place, |slot| slot.state.emptied_by(detail));
        let numbers = known.unwrap_or_else(|| SlotState::new(place).emptied_by(detail));
        let numbers = numbers.numbers().take_while(|number| number.get() < count);
        numbers.collect()
    }

    /// What is under each of `count` numbers from `from` on.
    #[must_use]
    pub fn kept(&self, place: SlotRef, from: SegmentNumber, count: u32) -> Vec<Kept> {
        let end = from.get().saturating_add(count);
        let numbers = (from.get()..end).map(SegmentNumber::new);
        self.with_slot(place, |slot| {
            numbers.clone().map(|number| slot.kept(number)).collect()
        })
        .unwrap_or_else(|| numbers.map(|_| Kept::Nothing).collect())
    }

    /// A copy of the slot tree at the reached revision; `None` without one.
    #[must_use]
    pub fn slot_tree(&self, place: SlotRef) -> Option<SlotTree> {
        self.with_slot(place, |slot| slot.tree.clone())?
    }

    /// How many numbers below `count` are neither here nor emptied.
    #[must_use]
    pub fn lacking_count(&self, place: SlotRef, count: u32) -> u32 {
        self.with_slot(place, |slot| {
            let gone = slot.state.emptied.count_below(count);
            count
                .saturating_sub(gone)
                .saturating_sub(slot.count_below(count))
        })
        .unwrap_or(count)
    }

    /// Numbers below `count` that are neither here nor emptied, at most `limit` of them.
    #[must_use]
    pub fn lacking(&self, place: SlotRef, count: u32, limit: usize) -> Vec<SegmentNumber> {
        let index = lock(&self.index);
        let numbers = (0..count).map(SegmentNumber::new);
        match index.slots.get(&place) {
            None => numbers.take(limit).collect(),
            Some(slot) => {
                let here: BTreeSet<SegmentNumber> = slot
                    .entries(SegmentNumber::ZERO)
                    .map(|(number, _)| number)
                    .collect();
                numbers
                    .filter(|number| {
                        !here.contains(number) && !slot.state.emptied.contains(*number)
                    })
                    .take(limit)
                    .collect()
            }
        }
    }
}

fn bytes_of(locations: &[Location]) -> ByteCount {
    let bytes = locations
        .iter()
        .map(|location| u64::from(location.total_bytes()));
    ByteCount::new(bytes.sum())
}
