//! What a block changed, for those who follow the ledger.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::code::SLOTS_MAX;
use cairn_core::{
    Amount, Digest, EpochNumber, FencingNumber, GroupId, HeadNumber, Height, NodeId, PublicKey,
    RevisionNumber, TxId, UnixMillis, VolumeId,
};

use crate::block::{BLOCK_BYTES_MAX, LOST_MAX, Verdict};
use crate::movement::Movement;
use crate::registry::Writer;
use crate::state::{GROUPS_LOOKED_MAX, SLOTS_DRAWN_MAX, SLOTS_FORFEITED_MAX, WAITING_DRAWN_MAX};
use crate::tx::SlotRef;
use crate::tx_error::TxError;
use crate::wire::EFFECTS_BYTES_MAX;

/// One change. Within a block they come in the order in which they happened: the epoch, draws, then nodes
/// called lost, then each transaction's followed by its [`Effect::TxDone`], then groups that were
/// looked at, then the term that begins behind it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Effect {
    /// A transaction was done or refused.
    TxDone {
        /// Which.
        id: TxId,
        /// Done, or why not.
        result: Result<(), TxError>,
    },
    /// A node registered, changed its offer, drains or is lost.
    NodeChanged(NodeId),
    /// A group was opened; its slots are drawn by the next block.
    GroupOpened(GroupId),
    /// A group's slots were drawn; a [`Effect::SlotMoved`] from nobody follows for each.
    GroupPlaced(GroupId),
    /// A group could not be drawn any more: it is gone and its escrow is back with its owner.
    GroupRefunded {
        /// The group.
        group: GroupId,
        /// Slots to be drawn.
        expected: u32,
        /// Nodes with room at its price.
        found: u32,
    },
    /// A group has a new revision.
    Revised {
        /// The group.
        group: GroupId,
        /// Its number.
        revision: RevisionNumber,
    },
    /// A slot was drawn.
    SlotMoved {
        /// The slot.
        slot: SlotRef,
        /// Who held it before.
        from: Option<NodeId>,
        /// Who holds it now.
        to: NodeId,
    },
    /// No node can take a slot; it is drawn again when one has room.
    SlotWaiting(SlotRef),
    /// A draining node's deal for a slot has ended, since its successor has what it had. Slots
    /// that it had nothing of are not named: they end with its draining.
    SlotReleased {
        /// The slot.
        slot: SlotRef,
        /// The node.
        node: NodeId,
    },
    /// A node holds a slot whole up to a revision.
    Acknowledged {
        /// The slot.
        slot: SlotRef,
        /// The revision.
        revision: RevisionNumber,
    },
    /// A node has lost a slot's bytes and catches up from nothing.
    LossDeclared(SlotRef),
    /// An epoch began: what had been acknowledged before this block is what is to be proven in it.
    /// Its seed is not known yet.
    EpochBegan(EpochNumber),
    /// The seed of the epoch is known: its challenges can be drawn, and answered until it ends.
    EpochOpened(EpochNumber),
    /// A node's proof of an epoch was judged.
    Judged {
        /// The node.
        node: NodeId,
        /// The epoch.
        epoch: EpochNumber,
        /// What the proof says.
        verdict: Verdict,
    },
    /// A node was paid for an epoch that it proved; not told when nothing was due.
    Paid {
        /// The node, whose account it is paid to.
        node: NodeId,
        /// The epoch.
        epoch: EpochNumber,
        /// What its slots earned; the largest amount when it is more.
        due: Amount,
        /// What it got of that: less when an escrow is dry.
        amount: Amount,
    },
    /// With its pay a node got what others paid for the repair of slots that it has proven now.
    BountyPaid {
        /// The node, whose account it is paid to.
        node: NodeId,
        /// The epoch.
        epoch: EpochNumber,
        /// How much.
        amount: Amount,
    },
    /// A node lost collateral to the groups whose slots it failed to prove.
    Slashed {
        /// The node.
        node: NodeId,
        /// The epoch of its invalid proof.
        epoch: EpochNumber,
        /// How much.
        amount: Amount,
    },
    /// A node lost collateral to those who repair slots that it lost.
    Forfeited {
        /// The node.
        node: NodeId,
        /// How much.
        amount: Amount,
    },
    /// Collateral was put down for a node, out of another's or its own balance.
    CollateralAdded {
        /// The node.
        node: NodeId,
        /// How much.
        amount: Amount,
    },
    /// A node took collateral back into its balance.
    CollateralTaken {
        /// The node.
        node: NodeId,
        /// How much.
        amount: Amount,
    },
    /// Some slots of a group have no node any more, its term or escrow changed, or it is to end.
    GroupChanged(GroupId),
    /// A group has ended: its slots are nobody's, and its bytes may be dropped.
    GroupReleased(GroupId),
    /// A group is gone.
    GroupClosed {
        /// The group.
        group: GroupId,
        /// What went back to its owner.
        refund: Amount,
    },
    /// A balance changed by a fee, a transfer or an escrow. For every change of balances see
    /// [`crate::movement::movements`].
    Moved(Movement),
    /// A volume was registered, or its owner's note changed.
    VolumeChanged(VolumeId),
    /// A volume, its lease and its grants are gone.
    VolumeClosed(VolumeId),
    /// A head was anchored.
    Anchored {
        /// The volume.
        volume: VolumeId,
        /// The lease under which it was written.
        fencing: FencingNumber,
        /// Its number.
        number: HeadNumber,
    },
    /// A lease was taken, renewed, released, handed over, or ended with its writer's right.
    LeaseChanged {
        /// The volume.
        volume: VolumeId,
        /// Its fencing number now.
        fencing: FencingNumber,
    },
    /// Another writer wants the lease: the one who has it hands it over when it can.
    LeaseAsked {
        /// The volume.
        volume: VolumeId,
        /// Who asks.
        asked_by: Writer,
    },
    /// A key's right to a volume was granted, changed or revoked.
    GrantChanged {
        /// The volume.
        volume: VolumeId,
        /// The key.
        holder: PublicKey,
    },
    /// A digest was recorded.
    Notarised(Digest),
    /// What a node that lost a slot paid fills up what the slot's node, which has proven it, locks for
    /// it.
    CollateralFilled {
        /// The node.
        node: NodeId,
        /// How much.
        amount: Amount,
    },
    /// The validators of the next term are named; it begins behind a border that is still to come.
    TermNamed {
        /// The next term.
        number: u32,
    },
    /// This block was the last of its term: other validators order those behind it.
    TermBegan {
        /// The term that begins.
        number: u32,
    },
}

/// The changes of one block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockEffects {
    /// Height of the block.
    pub height: Height,
    /// Its time.
    pub time: UnixMillis,
    /// Its changes, in order; none for a block that only passed time.
    pub effects: Vec<Effect>,
}

// The effects of one block fit one response. Most per byte of a block: an acknowledged slot of 41
// bytes gives `Acknowledged` (42) and `SlotReleased` (66). A drawn slot gives `SlotMoved` (99) and
// its share of `GroupPlaced` (33); a lost node gives `NodeChanged` (33) and `Forfeited` (41); a
// group that is looked at gives `GroupChanged` (33) or `GroupClosed` (41) with `Moved` (50), and each
// slot that the look takes from a node with lapses `SlotReleased` (66) and `Forfeited` (41). A proof of 190 bytes gives
// `Judged` (42), `Paid` (57), `BountyPaid` (49) and `CollateralFilled` (41), or `Slashed` (49) and what a lost node gives.
// Any transaction, of at least 145 bytes,
// gives `Moved` (50) for its fee and at most two more; a refunded group one, within its slots' share. `EpochBegan`
// (9) and `TermBegan` (5) come once.
const _: () = assert!(
    BLOCK_BYTES_MAX * (42 + 66) / 41
        + (SLOTS_DRAWN_MAX + WAITING_DRAWN_MAX) * (99 + 33)
        + 2 * LOST_MAX * (33 + 41)
        + GROUPS_LOOKED_MAX * (41 + 50)
        + (SLOTS_FORFEITED_MAX + SLOTS_MAX) * (66 + 41)
        + SLOTS_MAX * 41
        + 64
        <= EFFECTS_BYTES_MAX
);
