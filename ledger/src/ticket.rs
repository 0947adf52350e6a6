//! Audit tickets: which nodes a node audits in an epoch, and what it asks of each.
//!
//! ```text
//! stream  = BLAKE3-derive-key "cairn 1 audit" of (seed 32 | epoch u64 | auditor 32 | number u8), extended
//! audited = the nodes that proved the epoch before, rising, at (bytes 0 to 15 as u128) modulo their count
//! slot    = the first of its slots above (group = bytes 16 to 47, slot 0) that qualifies
//! sample  = a challenge of one sample with the seed = bytes 48 to 79
//! ```
//!
//! Nobody hands a ticket out: whoever has the ledger's state draws it, the auditor to know whom to ask,
//! the audited node to know whom to answer, and the ledger to know whom a vote is about. The nodes
//! among which it draws are those that proved something in the epoch before, which was over when the
//! seed could be known. As in docs/protocol/ledger.md#audits.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{AccountId, Digest, EpochNumber, GroupId, NodeId, SlotIndex};
use cairn_proofs::{AcknowledgedSlot, Challenge, Draw};

use crate::epoch::FrozenSlot;
use crate::group::Group;
use crate::node::NodeEntry;
use crate::state::entries::{Entries, List};
use crate::state::table::BoundSlot;
use crate::tx::SlotRef;

/// Audits that a node is drawn for in an epoch, at most: 16 KB of traffic.
pub const AUDITS_MAX: usize = 8;
/// Slots that are looked at for one that an audit can be about, each with its group, which is in the
/// evidence of a ticket. A node that writes to all of these is not audited in the epoch.
pub(crate) const SLOTS_LOOKED_MAX: usize = 16;
/// Domain of an audit's randomness.
const AUDIT_CONTEXT: &str = "cairn 1 audit";

/// What one node asks of another in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditTicket {
    /// Which of the auditor's: below [`AUDITS_MAX`].
    pub number: u8,
    /// The node that is asked.
    pub audited: NodeId,
    /// The slot of which it shows a block.
    pub slot: FrozenSlot,
    /// What says which block.
    pub seed: Digest,
}

impl AuditTicket {
    /// What the audited node is to show; `None` when the slot is none that a ledger has.
    #[must_use]
    pub fn challenge(&self, epoch: EpochNumber) -> Option<Challenge> {
        let draw = Draw {
            seed: self.seed,
            node: self.audited,
            epoch,
            sample_count: 1,
        };
        let slot = AcknowledgedSlot::from(self.slot);
        let challenge = Challenge::draw(&draw, &[slot]).ok()?;
        (challenge.position_count() == 1).then_some(challenge)
    }
}

/// What an auditor's number stands for in the epoch that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditView {
    /// The epoch.
    pub epoch: EpochNumber,
    /// `None` when the auditor has none of this number. It may go and come while the epoch runs, as
    /// slots change.
    pub ticket: Option<AuditTicket>,
}

/// The place of a node among those that audits are drawn among, from 0 on, in bytes that are in the
/// same order. 32 bits: a state has no room for more nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct AuditRank([u8; 4]);

impl AuditRank {
    pub(crate) const fn new(rank: u32) -> Self {
        Self(rank.to_be_bytes())
    }

    pub(crate) const fn get(self) -> u32 {
        u32::from_be_bytes(self.0)
    }
}

/// The node at a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct AuditNode(pub(crate) NodeId);

/// What tickets are drawn from, beside the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuditDraw<'a> {
    /// The epoch's seed.
    pub(crate) seed: Digest,
    /// The epoch.
    pub(crate) epoch: EpochNumber,
    /// Who audits.
    pub(crate) auditor: &'a NodeEntry,
}

/// What is drawn before the audited node is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// Which ticket.
    pub(crate) number: u8,
    /// Which of the nodes that may be drawn.
    pub(crate) rank: AuditRank,
    /// Its slots are looked at from here on.
    from: SlotRef,
    /// What says which block.
    seed: Digest,
}

impl AuditDraw<'_> {
    /// Draws among so many nodes, those that may be drawn, none of them twice; rising by number. Who
    /// is not among them draws nobody. It may draw itself, which is no ticket: see [`may_audit`].
    pub(crate) fn among(&self, count: u64) -> Vec<Drawn> {
        let mut all: Vec<Drawn> = Vec::new();
        if !self.is_among() {
            return all;
        }
        for number in (0..=u8::MAX).take(AUDITS_MAX) {
            let next = self.draw(number, count);
            let is_new = |next: &Drawn| all.iter().all(|drawn| drawn.rank != next.rank);
            let next = next.filter(is_new);
            all.extend(next);
        }
        all
    }

    /// Whether the auditor proved something in the epoch before, as those have that may be drawn.
    fn is_among(&self) -> bool {
        let before = self.epoch.get().checked_sub(1).map(EpochNumber::new);
        before.is_some_and(|before| self.auditor.score.has_shown(before))
    }

    fn draw(&self, number: u8, count: u64) -> Option<Drawn> {
        let mut hasher = blake3::Hasher::new_derive_key(AUDIT_CONTEXT);
        hasher.update(self.seed.as_bytes());
        hasher.update(&self.epoch.get().to_le_bytes());
        hasher.update(self.auditor.node.as_bytes());
        hasher.update(&[number]);
        let mut stream = hasher.finalize_xof();
        let (mut place, mut group, mut seed) = ([0; 16], [0; 32], [0; 32]);
        stream.fill(&mut place);
        stream.fill(&mut group);
        stream.fill(&mut seed);
        let rank = u128::from_le_bytes(place).checked_rem(u128::from(count))?;
        Some(Drawn {
            number,
            rank: AuditRank::new(u32::try_from(rank).ok()?),
            from: SlotRef {
                group: GroupId::new(Digest::new(group)),
                slot: SlotIndex::new(0),
            },
            seed: Digest::new(seed),
        })
    }
}

/// Whether a node may audit another: not when one operator answers for both, so never itself.
pub(crate) fn may_audit(auditor: AccountId, audited: AccountId) -> bool {
    auditor != audited
}

/// What a number of a node's tickets stands for in the epoch that runs. `None` before the seed is
/// known, and for an unknown node.
pub(crate) fn audit_view<E: Entries>(
    of: &E,
    auditor: NodeId,
    number: u8,
) -> Result<Option<AuditView>, E::Error> {
    let head = of.head()?;
    let epoch = head.epoch.number;
    let Some(seed) = head.epoch.seed else {
        return Ok(None);
    };
    let Some(auditor) = of.get::<NodeEntry>(&auditor)? else {
        return Ok(None);
    };
    let draw = AuditDraw {
        seed,
        epoch,
        auditor: &auditor,
    };
    let mut drawn = draw.among(head.audit_node_count).into_iter();
    let ticket = match drawn.find(|drawn| drawn.number == number) {
        Some(drawn) => ticket(of, auditor.operator, &drawn)?,
        None => None,
    };
    Ok(Some(AuditView { epoch, ticket }))
}

/// The ticket that was drawn, unless there is nothing that its node must be able to show.
fn ticket<E: Entries>(
    of: &E,
    operator: AccountId,
    drawn: &Drawn,
) -> Result<Option<AuditTicket>, E::Error> {
    let Some(audited) = of.get::<AuditNode>(&drawn.rank)?.map(|node| node.0) else {
        return Ok(None);
    };
    let Some(entry) = of.get::<NodeEntry>(&audited)? else {
        return Ok(None);
    };
    let is_away = entry.standing.is_maintained(&of.head()?.epoch);
    if is_away || !may_audit(operator, entry.operator) {
        return Ok(None);
    }
    let slot = audited_slot(of, audited, drawn.from)?;
    Ok(slot.map(|slot| AuditTicket {
        number: drawn.number,
        audited,
        slot,
        seed: drawn.seed,
    }))
}

/// The first of a node's slots above `from`, after the last the first of all, of which it must have
/// the same now as when the epoch began.
fn audited_slot<E: Entries>(
    of: &E,
    node: NodeId,
    from: SlotRef,
) -> Result<Option<FrozenSlot>, E::Error> {
    let epoch = of.head()?.epoch.number;
    let mut left = SLOTS_LOOKED_MAX;
    for after in [Some(from), None] {
        if left == 0 {
            break;
        }
        let slots = of.list::<BoundSlot>(&List::of(node, after), left)?;
        left = left.saturating_sub(slots.len());
        for ((_, slot), _) in slots {
            let group = of.get::<Group>(&slot.group)?;
            let steady = group.and_then(|group| steady_slot(&group, slot.slot, node, epoch));
            if steady.is_some() {
                return Ok(steady);
            }
        }
    }
    Ok(None)
}

/// What `epoch`, which runs, froze of a slot, if its node has acknowledged nothing else since: what it
/// gave up it need not show, and it may give up what it froze once its proof is judged.
fn steady_slot(
    group: &Group,
    slot: SlotIndex,
    node: NodeId,
    epoch: EpochNumber,
) -> Option<FrozenSlot> {
    let deal = group.deal(slot)?;
    let (changed, acknowledged) = match deal.leaver {
        Some(leaver) if leaver.node == node => (leaver.frozen.epoch, leaver.acknowledged),
        _ => (deal.frozen.epoch, deal.acknowledged),
    };
    let frozen = group.frozen(slot, node, epoch)?;
    let is_steady = changed < epoch && frozen.revision.number == acknowledged;
    (is_steady && frozen.revision.slot_bytes.get() > 0).then_some(frozen)
}
