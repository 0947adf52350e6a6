//! What can be asked of a state, answered from the whole of it or from the part that came as
//! evidence: the same code on both sides, so that neither needs the other's word.

use std::borrow::Cow;
use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{
    AccountId, Bounded, Digest, EpochNumber, GroupId, NodeId, PublicKey, RevisionNumber, VolumeId,
};
use cairn_proofs::Draw;

use crate::block::Verdict;
use crate::earnings::Earnings;
use crate::epoch::{ChallengePage, Departed, FROZEN_PAGE_MAX, FrozenSlot, Standing};
use crate::group::{Deal, Group};
use crate::node::NodeEntry;
use crate::port::LedgerStatus;
use crate::registry::{
    GRANTS_PER_VOLUME_MAX, Grant, Notarisation, VOLUMES_PER_ACCOUNT_MAX, Volume,
};
use crate::state::Account;
use crate::state::entries::{Entries, List};
use crate::state::table::{BoundSlot, OwnGroup, OwnVolume};
use crate::term::Term;
use crate::ticket::{AuditView, audit_view};
use crate::tx::SlotRef;
use crate::view::{
    EarningsView, EpochView, GROUPS_PAGE_MAX, GrantView, GroupProof, GroupSummary, NODES_PAGE_MAX,
    SlotProof, VolumeView,
};
use crate::wire::SLOTS_PAGE_MAX;

/// What is asked of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Question {
    /// An account. Seen: `Account`.
    Account(AccountId),
    /// A node. Seen: `Node`.
    Node(NodeId),
    /// A group. Seen: `Group`.
    Group(GroupId),
    /// A page of the slots that a node holds or is leaving, rising. Seen: `Slots`.
    Slots {
        /// The node.
        node: NodeId,
        /// The last slot of the page before; `None` for the first page.
        after: Option<SlotRef>,
    },
    /// How the ledger stands. Seen: `Status`.
    Status,
    /// A page of what a node must prove in the epoch that runs. Seen: `Challenge`.
    Challenge {
        /// The node.
        node: NodeId,
        /// The last slot of the page before; `None` for the first page.
        after: Option<SlotRef>,
    },
    /// The epoch that runs. Seen: `Epoch`.
    Epoch,
    /// A page of the nodes, rising by id. Seen: `Nodes`.
    Nodes {
        /// The last node of the page before; `None` for the first page.
        after: Option<NodeId>,
    },
    /// A page of the groups, rising by id. Seen: `Groups`.
    Groups {
        /// Of this owner only; of every owner without.
        owner: Option<AccountId>,
        /// The last group of the page before; `None` for the first page.
        after: Option<GroupId>,
    },
    /// What a node earned and spent. Seen: `Earnings`.
    Earnings(NodeId),
    /// How a group is proven. Seen: `Proven`.
    Proven(GroupId),
    /// The volumes of an account. Seen: `Volumes`.
    Volumes(AccountId),
    /// A volume with its lease and anchors. Seen: `Volume`.
    Volume(VolumeId),
    /// The grants of a volume. Seen: `Grants`.
    Grants(VolumeId),
    /// A key's right to a volume. Seen: `Grant`.
    Grant {
        /// The volume.
        volume: VolumeId,
        /// The key.
        holder: PublicKey,
    },
    /// A digest's notarisation. Seen: `Notarisation`.
    Notarisation(Digest),
    /// The term of validators that runs. Seen: `Term`.
    Term,
    /// What a number of a node's audit tickets stands for in the epoch that runs. Seen: `Audit`.
    Audit {
        /// The node that audits.
        auditor: NodeId,
        /// Which ticket: below [`crate::AUDITS_MAX`].
        number: u8,
    },
}

/// What is seen of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The account; one with nothing when it is unknown.
    Account(Account),
    /// `None` when the node never registered.
    Node(Option<NodeEntry>),
    /// `None` when the group is unknown.
    Group(Option<Group>),
    /// Slots; fewer than [`SLOTS_PAGE_MAX`] are the last.
    Slots(Vec<SlotRef>),
    /// How the ledger stands.
    Status(Box<LedgerStatus>),
    /// `None` when there is nothing to prove (yet).
    Challenge(Option<ChallengePage>),
    /// The epoch that runs.
    Epoch(EpochView),
    /// Nodes; fewer than [`NODES_PAGE_MAX`] are the last.
    Nodes(Vec<NodeEntry>),
    /// Groups; fewer than [`GROUPS_PAGE_MAX`] are the last.
    Groups(Vec<GroupSummary>),
    /// `None` when the node never registered.
    Earnings(Option<Box<EarningsView>>),
    /// `None` when the group is unknown.
    Proven(Option<GroupProof>),
    /// All volumes of the account, rising.
    Volumes(Vec<Volume>),
    /// `None` when the volume is unknown.
    Volume(Option<VolumeView>),
    /// All grants of the volume and its revocations, rising by holder; none when it is unknown.
    Grants(Vec<Grant>),
    /// `None` when the volume is unknown.
    Grant(Option<GrantView>),
    /// `None` when the digest is not recorded, or no longer.
    Notarisation(Option<Notarisation>),
    /// `None` when a sequencer orders the ledger.
    Term(Option<Box<Term>>),
    /// `None` before the seed of the epoch is known, and when the node never registered.
    Audit(Option<AuditView>),
}

impl Question {
    pub(crate) fn ask<E: Entries>(self, of: &E) -> Result<Seen, E::Error> {
        Ok(match self {
            Self::Account(id) => Seen::Account(account(of, id)?),
            Self::Node(id) => Seen::Node(of.get::<NodeEntry>(&id)?.map(Cow::into_owned)),
            Self::Group(id) => Seen::Group(of.get::<Group>(&id)?.map(Cow::into_owned)),
            Self::Slots { node, after } => {
                let slots = of.list::<BoundSlot>(&List::of(node, after), SLOTS_PAGE_MAX)?;
                Seen::Slots(slots.into_iter().map(|((_, slot), _)| slot).collect())
            }
            Self::Status => Seen::Status(Box::new(of.head()?.status())),
            Self::Challenge { node, after } => Seen::Challenge(challenge_page(of, node, after)?),
            Self::Epoch => Seen::Epoch(of.head()?.epoch_view()),
            Self::Nodes { after } => {
                let nodes = of.list::<NodeEntry>(&List::above(after), NODES_PAGE_MAX)?;
                Seen::Nodes(
                    nodes
                        .into_iter()
                        .map(|(_, node)| node.into_owned())
                        .collect(),
                )
            }
            Self::Groups { owner, after } => Seen::Groups(groups_page(of, owner, after)?),
            Self::Earnings(node) => Seen::Earnings(earnings_view(of, node)?.map(Box::new)),
            Self::Proven(group) => Seen::Proven(group_proof(of, group)?),
            Self::Volumes(owner) => Seen::Volumes(volumes_of(of, owner)?),
            Self::Volume(id) => Seen::Volume(volume_view(of, id)?),
            Self::Grants(volume) => {
                let grants = of.list::<Grant>(&List::of(volume, None), GRANTS_PER_VOLUME_MAX)?;
                Seen::Grants(
                    grants
                        .into_iter()
                        .map(|(_, grant)| grant.into_owned())
                        .collect(),
                )
            }
            Self::Grant { volume, holder } => Seen::Grant(grant_view(of, volume, holder)?),
            Self::Notarisation(digest) => {
                let kept = of.get::<Notarisation>(&digest)?;
                Seen::Notarisation(kept.map(Cow::into_owned))
            }
            Self::Term => {
                let term = of.term()?.map(Cow::into_owned);
                Seen::Term(term.map(Box::new))
            }
            Self::Audit { auditor, number } => Seen::Audit(audit_view(of, auditor, number)?),
        })
    }
}

fn account<E: Entries>(of: &E, id: AccountId) -> Result<Account, E::Error> {
    let found = of.get::<Account>(&id)?;
    Ok(found.map(Cow::into_owned).unwrap_or_default())
}

/// What a node's challenge of the epoch that runs is drawn by, the slots aside.
pub(crate) fn draw_for<E: Entries>(of: &E, node: NodeId) -> Result<Option<Draw>, E::Error> {
    let head = of.head()?;
    let epoch = &head.epoch;
    let Some(entry) = of.get::<NodeEntry>(&node)? else {
        return Ok(None);
    };
    let standing = &entry.standing;
    if standing.verdict_of(epoch.number).is_some() {
        return Ok(None);
    }
    Ok(epoch.seed.map(|seed| Draw {
        seed,
        node,
        epoch: epoch.number,
        sample_count: standing.sample_count(epoch),
    }))
}

pub(crate) fn challenge_page<E: Entries>(
    of: &E,
    node: NodeId,
    after: Option<SlotRef>,
) -> Result<Option<ChallengePage>, E::Error> {
    let Some(draw) = draw_for(of, node)? else {
        return Ok(None);
    };
    let (slots, next) = frozen_page(of, node, after, FROZEN_PAGE_MAX)?;
    Ok(Some(ChallengePage {
        epoch: draw.epoch,
        seed: draw.seed,
        sample_count: draw.sample_count,
        slots: Bounded::new(slots).expect("no more were taken"),
        next,
    }))
}

/// Of which of the next `count_max` slots above `after` a node had acknowledged something when the
/// epoch began, rising, and the last of these slots unless they are all that there are. The same
/// from the epoch's first block to its last, page by page and so as a whole.
pub(crate) fn frozen_page<E: Entries>(
    of: &E,
    node: NodeId,
    after: Option<SlotRef>,
    count_max: usize,
) -> Result<(Vec<FrozenSlot>, Option<SlotRef>), E::Error> {
    let Some(epoch) = of.head()?.running() else {
        return Ok((Vec::new(), None));
    };
    let mut slots = BTreeMap::new();
    for ((_, slot), _) in of.list::<BoundSlot>(&List::of(node, after), count_max)? {
        slots.insert(slot, None);
    }
    for ((_, slot), departed) in of.list::<Departed>(&List::of(node, after), count_max)? {
        slots.insert(slot, Some(departed.frozen(slot)));
    }
    let is_last = slots.len() < count_max;
    let next = slots.keys().take(count_max).next_back().copied();
    let mut frozen_slots = Vec::new();
    for (slot, departed) in slots.into_iter().take(count_max) {
        let group = of.get::<Group>(&slot.group)?;
        let bound = group.and_then(|group| group.frozen(slot.slot, node, epoch));
        // A node that left a slot and was drawn for it again had nothing of it after that.
        frozen_slots.extend(bound.or(departed));
    }
    Ok((frozen_slots, next.filter(|_| !is_last)))
}

fn groups_page<E: Entries>(
    of: &E,
    owner: Option<AccountId>,
    after: Option<GroupId>,
) -> Result<Vec<GroupSummary>, E::Error> {
    let Some(owner) = owner else {
        let groups = of.list::<Group>(&List::above(after), GROUPS_PAGE_MAX)?;
        return Ok(groups.iter().map(|(_, group)| group.summary()).collect());
    };
    let mut groups = Vec::new();
    for ((_, id), _) in of.list::<OwnGroup>(&List::of(owner, after), GROUPS_PAGE_MAX)? {
        groups.extend(of.get::<Group>(&id)?.map(|group| group.summary()));
    }
    Ok(groups)
}

pub(crate) fn earnings_view<E: Entries>(
    of: &E,
    node: NodeId,
) -> Result<Option<EarningsView>, E::Error> {
    let Some(earnings) = of.get::<Earnings>(&node)? else {
        return Ok(None);
    };
    let head = of.head()?;
    Ok(Some(EarningsView {
        node,
        height: head.height,
        time: head.time,
        epoch: head.epoch.number,
        balance: account(of, AccountId::new(node.key()))?.balance,
        earnings: earnings.into_owned(),
    }))
}

pub(crate) fn group_proof<E: Entries>(of: &E, id: GroupId) -> Result<Option<GroupProof>, E::Error> {
    let Some(group) = of.get::<Group>(&id)? else {
        return Ok(None);
    };
    let head = of.head()?;
    let mut slots = Vec::new();
    for (slot, deal) in group.code.slots().zip(&group.deals) {
        let Some(node) = deal.holder() else {
            continue;
        };
        let entry = of.get::<NodeEntry>(&node)?;
        let known = entry.and_then(|entry| proven(deal, &entry.standing));
        let shown = known.and_then(|(epoch, number)| {
            Some(SlotProof {
                slot,
                node,
                epoch,
                revision: number,
                segment_count: group.revision_at(number)?.segment_count,
            })
        });
        slots.extend(shown);
    }
    Ok(Some(GroupProof {
        height: head.height,
        time: head.time,
        tip: head.tip,
        epoch: head.epoch.number,
        group: id,
        owner: group.owner,
        code: group.code,
        revision: group.revision,
        slots: Bounded::new(slots).expect("a code has at most so many slots"),
    }))
}

fn volumes_of<E: Entries>(of: &E, owner: AccountId) -> Result<Vec<Volume>, E::Error> {
    let mut volumes = Vec::new();
    for ((_, id), _) in of.list::<OwnVolume>(&List::of(owner, None), VOLUMES_PER_ACCOUNT_MAX)? {
        volumes.extend(of.get::<Volume>(&id)?.map(Cow::into_owned));
    }
    Ok(volumes)
}

fn volume_view<E: Entries>(of: &E, id: VolumeId) -> Result<Option<VolumeView>, E::Error> {
    let Some(volume) = of.get::<Volume>(&id)? else {
        return Ok(None);
    };
    let head = of.head()?;
    Ok(Some(VolumeView {
        height: head.height,
        time: head.time,
        volume: volume.into_owned(),
    }))
}

fn grant_view<E: Entries>(
    of: &E,
    id: VolumeId,
    holder: PublicKey,
) -> Result<Option<GrantView>, E::Error> {
    let Some(volume) = of.get::<Volume>(&id)? else {
        return Ok(None);
    };
    let head = of.head()?;
    Ok(Some(GrantView {
        height: head.height,
        time: head.time,
        volume: id,
        owner: volume.owner,
        holder,
        grant: of.get::<Grant>(&(id, holder))?.map(Cow::into_owned),
    }))
}

/// The epoch that a slot's holder proved last and the revision of the slot that it proved then.
/// `None` when its last proof was invalid or had nothing of the slot, when the slot has changed
/// since so that what was proven can't be told any more, and when its loss was declared.
fn proven(deal: &Deal, standing: &Standing) -> Option<(EpochNumber, RevisionNumber)> {
    let (epoch, verdict) = standing.verdict?;
    let is_known = verdict == Verdict::Valid && deal.frozen.epoch <= epoch;
    let revision = deal.frozen.at(epoch, deal.acknowledged);
    // What was declared lost since is not there any more, whatever was proven.
    let is_there = RevisionNumber::ZERO < revision && revision <= deal.acknowledged;
    (is_known && is_there).then_some((epoch, revision))
}
