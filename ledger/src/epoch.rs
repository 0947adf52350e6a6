//! Epochs: what is frozen when one begins, and how a node stands.
//!
//! Nothing is copied when an epoch begins. What can change within one is kept beside the epoch of
//! its last change and the value before: what is frozen follows from these.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    Amount, Bounded, ByteCount, Digest, EpochNumber, GroupId, GroupRevision, GroupRoot,
    RevisionNumber, SlotIndex, ViewNumber,
};
use cairn_proofs::AcknowledgedSlot;
use cairn_proofs::challenge::{SAMPLES_DEFAULT, SAMPLES_MAX};

use crate::block::Verdict;
use crate::tx::SlotRef;

/// How many revisions before the current one can still be acknowledged, at least: so many may
/// come while an acknowledgement is on its way.
pub const REVISIONS_KEPT: u64 = 4;
/// An owner may revise a group once in so many milliseconds, on average of an epoch. With more than
/// [`REVISIONS_KEPT`] within the quarter of a second that an acknowledgement takes, none ever counts, and
/// what is written is never paid; this bounds how long that can be kept up.
pub const REVISION_MILLIS_MIN: u64 = 1_000;
/// Revisions of a group that an epoch allows at least, however short it is.
pub const REVISIONS_PER_EPOCH_MIN: u64 = 64;
/// Most slots that one page of a node's challenge is of: it comes with their groups.
pub const FROZEN_PAGE_MAX: usize = 16;

/// The epoch that runs. Epochs without a block are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Epoch {
    /// Which.
    pub number: EpochNumber,
    /// What challenges are drawn from; `None` until it can be known.
    pub seed: Option<Digest>,
    /// The view whose seed that is, named when the epoch began.
    pub due: ViewNumber,
    /// Epochs before it in which a proof that is missing is a lapse.
    pub judged: u64,
    /// Milliseconds since the seed in which the ledger was seen to make blocks.
    pub open_millis: u64,
    /// The seed of the epoch with the number before, of whose audits nodes report in this one; `None`
    /// when there was none.
    pub before: Option<Digest>,
}

/// What was acknowledged of a slot when the epoch of the last change began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Frozen {
    /// The epoch in which the acknowledged revision last changed.
    pub epoch: EpochNumber,
    /// The acknowledged revision when that epoch began.
    pub revision: RevisionNumber,
}

impl Frozen {
    /// What `epoch`, which runs, froze of a slot that is acknowledged up to `acknowledged` now.
    #[must_use]
    pub fn at(self, epoch: EpochNumber, acknowledged: RevisionNumber) -> RevisionNumber {
        if self.epoch == epoch {
            self.revision
        } else {
            acknowledged
        }
    }
}

/// A revision that is not the current one any more, and that someone must still prove or may
/// still acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct KeptRevision {
    /// Its number.
    pub number: RevisionNumber,
    /// Leaves of each slot tree.
    pub segment_count: u32,
    /// Bytes of each slot.
    pub slot_bytes: ByteCount,
    /// Root over the slot roots.
    pub group_root: GroupRoot,
}

impl KeptRevision {
    /// Without the group's id.
    #[must_use]
    pub const fn of(revision: &GroupRevision) -> Self {
        Self {
            number: revision.number,
            segment_count: revision.segment_count,
            slot_bytes: revision.slot_bytes,
            group_root: revision.group_root,
        }
    }

    /// As a revision of its group.
    #[must_use]
    pub const fn in_group(&self, group: GroupId) -> GroupRevision {
        GroupRevision {
            group,
            number: self.number,
            segment_count: self.segment_count,
            slot_bytes: self.slot_bytes,
            group_root: self.group_root,
        }
    }
}

/// A slot of a node's challenge: what the node had acknowledged when the epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FrozenSlot {
    /// The revision.
    pub revision: GroupRevision,
    /// The slot.
    pub slot: SlotIndex,
    /// Slots of the group: n.
    pub slot_count: u8,
}

/// What was frozen of a slot for a node that has left it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Departed {
    /// The revision.
    pub(crate) revision: KeptRevision,
    /// Slots of the group: n.
    pub(crate) slot_count: u8,
    /// What the node is paid for it per GiB.
    pub(crate) price: Amount,
}

impl Departed {
    pub(crate) const fn of(frozen: &FrozenSlot, price: Amount) -> Self {
        Self {
            revision: KeptRevision::of(&frozen.revision),
            slot_count: frozen.slot_count,
            price,
        }
    }

    pub(crate) const fn frozen(&self, slot: SlotRef) -> FrozenSlot {
        FrozenSlot {
            revision: self.revision.in_group(slot.group),
            slot: slot.slot,
            slot_count: self.slot_count,
        }
    }
}

impl FrozenSlot {
    /// Its place.
    #[must_use]
    pub const fn slot_ref(&self) -> SlotRef {
        SlotRef {
            group: self.revision.group,
            slot: self.slot,
        }
    }
}

impl From<FrozenSlot> for AcknowledgedSlot {
    fn from(slot: FrozenSlot) -> Self {
        Self {
            revision: slot.revision,
            slot: slot.slot,
            slot_count: slot.slot_count,
        }
    }
}

/// Some slots of a node's challenge, and what it is drawn from. All pages of an epoch are of the
/// same slots, whatever happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChallengePage {
    /// The epoch.
    pub epoch: EpochNumber,
    /// Its seed.
    pub seed: Digest,
    /// Samples to show.
    pub sample_count: u16,
    /// Slots, rising.
    pub slots: Bounded<FrozenSlot, FROZEN_PAGE_MAX>,
    /// The slot that the next page begins above; `None` when it is the last page. There can be more
    /// behind a page without slots: not all that a node holds was frozen.
    pub next: Option<SlotRef>,
}

/// How a node stands with its proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Standing {
    /// How many judged epochs are behind it without a lapse: those up to and with the one in which
    /// it registered or proved last. Above [`Epoch::judged`] while that one runs, and further above it
    /// during maintenance.
    pub covered: u64,
    /// Whether it must show more samples until it has: after an invalid proof or a return.
    pub is_strict: bool,
    /// Whether it must in the epoch of the last change.
    pub frozen: FrozenStanding,
    /// Its last verdict and of which epoch.
    pub verdict: Option<(EpochNumber, Verdict)>,
    /// Epochs that it proved.
    pub proven: u64,
}

/// Of how a node stood when the epoch of the last change began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct FrozenStanding {
    /// The epoch in which it last changed.
    pub epoch: EpochNumber,
    /// Whether its challenge of that epoch has more samples.
    pub is_strict: bool,
}

impl Standing {
    /// Of a node that registers; `before` when it was there before.
    #[must_use]
    pub(crate) fn register(before: Option<Self>, epoch: &Epoch) -> Self {
        let is_return = before.is_some();
        let mut standing = before.unwrap_or_default();
        standing.touch(epoch);
        standing.is_strict = is_return;
        standing.covered = epoch.judged.saturating_add(1);
        standing
    }

    /// Judged epochs one after the other without a valid proof, up to the last that is over.
    #[must_use]
    pub const fn lapses(&self, epoch: &Epoch) -> u64 {
        epoch.judged.saturating_sub(self.covered)
    }

    /// Samples of its challenge of the epoch that runs; fixed when it began.
    #[must_use]
    pub fn sample_count(&self, epoch: &Epoch) -> u16 {
        if self.must_show_more(epoch) {
            SAMPLES_MAX
        } else {
            SAMPLES_DEFAULT
        }
    }

    /// Its verdict of the epoch that runs.
    #[must_use]
    pub fn verdict_of(&self, epoch: EpochNumber) -> Option<Verdict> {
        self.verdict
            .filter(|(judged, _)| *judged == epoch)
            .map(|(_, verdict)| verdict)
    }

    /// Whether it is down for maintenance.
    #[must_use]
    pub const fn is_maintained(&self, epoch: &Epoch) -> bool {
        self.covered > epoch.judged.saturating_add(1)
    }

    /// Notes a maintenance from the epoch that runs on. A valid proof of a later one ends it.
    pub(crate) fn maintain(&mut self, epoch: &Epoch, epochs: u32) {
        self.touch(epoch);
        self.covered = epoch.judged.saturating_add(u64::from(epochs));
    }

    fn must_show_more(&self, epoch: &Epoch) -> bool {
        if self.frozen.epoch == epoch.number {
            self.frozen.is_strict
        } else {
            self.is_strict || self.lapses(epoch) > 0
        }
    }

    /// To be called before a change.
    fn touch(&mut self, epoch: &Epoch) {
        self.frozen = FrozenStanding {
            epoch: epoch.number,
            is_strict: self.must_show_more(epoch),
        };
    }

    /// Notes a verdict of the epoch that runs. A valid one ends a maintenance, unless that was
    /// announced within the epoch, when the node is still to go down; `maintained` is the epoch of the
    /// last announcement.
    pub(crate) fn judge(
        &mut self,
        epoch: &Epoch,
        verdict: Verdict,
        maintained: Option<EpochNumber>,
    ) {
        self.touch(epoch);
        self.verdict = Some((epoch.number, verdict));
        match verdict {
            Verdict::Valid => {
                // A return within the epoch was not in its challenge yet.
                self.is_strict &= !self.frozen.is_strict;
                let is_announced = maintained == Some(epoch.number);
                let kept = if is_announced { self.covered } else { 0 };
                self.covered = epoch.judged.saturating_add(1).max(kept);
                self.proven = self.proven.saturating_add(1);
            }
            Verdict::Invalid => self.is_strict = true,
            Verdict::Missing => {}
        }
    }
}
