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
use cairn_core::{AccountId, Bounded, Digest, EpochNumber, GroupId, NodeId, SlotIndex};
use cairn_proofs::{AcknowledgedSlot, Challenge, Draw};

use crate::epoch::FrozenSlot;
use crate::tx::SlotRef;

/// Audits that a node is drawn for in an epoch, at most: 16 KB of traffic.
pub const AUDITS_MAX: usize = 8;
/// Domain of an audit's randomness.
const AUDIT_CONTEXT: &str = "cairn 1 audit";

/// What one node asks of another in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
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

/// The tickets of an auditor in the epoch that runs. Some may go and others come while it runs, as
/// slots change.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct AuditPage {
    /// The epoch.
    pub epoch: EpochNumber,
    /// Rising by number.
    pub tickets: Bounded<AuditTicket, AUDITS_MAX>,
}

/// What tickets are drawn from, beside the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuditDraw {
    /// The epoch's seed.
    pub(crate) seed: Digest,
    /// The epoch.
    pub(crate) epoch: EpochNumber,
    /// Who audits.
    pub(crate) auditor: NodeId,
}

/// What is drawn before the audited node's slots are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// Which ticket.
    pub(crate) number: u8,
    /// The node.
    pub(crate) audited: NodeId,
    /// Its slots are looked at from here on.
    pub(crate) from: SlotRef,
    /// What says which block.
    pub(crate) seed: Digest,
}

impl AuditDraw {
    /// Draws among `nodes`, those that may be drawn, rising. Itself it is not drawn, nor another twice;
    /// who is not among them draws nobody.
    pub(crate) fn among(&self, nodes: &[NodeId]) -> Vec<Drawn> {
        if nodes.binary_search(&self.auditor).is_err() {
            return Vec::new();
        }
        let mut drawn: Vec<Drawn> = Vec::new();
        for number in (0..=u8::MAX).take(AUDITS_MAX) {
            let Some(next) = self.draw(number, nodes) else {
                continue;
            };
            let is_known = drawn.iter().any(|drawn| drawn.audited == next.audited);
            if next.audited != self.auditor && !is_known {
                drawn.push(next);
            }
        }
        drawn
    }

    fn draw(&self, number: u8, nodes: &[NodeId]) -> Option<Drawn> {
        let mut hasher = blake3::Hasher::new_derive_key(AUDIT_CONTEXT);
        hasher.update(self.seed.as_bytes());
        hasher.update(&self.epoch.get().to_le_bytes());
        hasher.update(self.auditor.as_bytes());
        hasher.update(&[number]);
        let mut stream = hasher.finalize_xof();
        let (mut place, mut group, mut seed) = ([0; 16], [0; 32], [0; 32]);
        stream.fill(&mut place);
        stream.fill(&mut group);
        stream.fill(&mut seed);
        let count = u128::try_from(nodes.len()).ok()?;
        let place = u128::from_le_bytes(place).checked_rem(count)?;
        Some(Drawn {
            number,
            audited: *nodes.get(usize::try_from(place).ok()?)?,
            from: SlotRef {
                group: GroupId::new(Digest::new(group)),
                slot: SlotIndex::new(0),
            },
            seed: Digest::new(seed),
        })
    }
}

/// Whether a node may audit another: not when one operator answers for both.
pub(crate) fn may_audit(auditor: AccountId, audited: AccountId) -> bool {
    auditor != audited
}
