//! Following the ledger: offering the node, which slots are ours, and what is to be done for each.
//!
//! Facts come from blocks and from the store; for each slot that they touch, [`look`] reads where
//! it stands and does the next thing: catch up, acknowledge, release, drop. It is the same at
//! start, after an effect and after a failure, so there is one path and it is idempotent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cairn_core::{Bounded, EpochNumber, Height, RevisionNumber};
use cairn_ledger::Verdict;
use cairn_ledger::effect::{BlockEffects, Effect};
use cairn_ledger::group::{Deal, DealState, Ending, Group};
use cairn_ledger::node::NodeStatus;
use cairn_ledger::port::{Ledger, LedgerError};
use cairn_ledger::tx::{SLOTS_PER_TX_MAX, SlotRef, TxBody, operator_consent};
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::catch_up::{CatchUpError, catch_up};
use crate::control::check_detail;
use crate::core::Core;
use crate::groups::Age;
use crate::reclaim::reclaim;
use crate::status::Holding;
use crate::store::StoreError;

/// What will fail again is tried after so many of the longest waits: an hour by default.
const LASTING_FACTOR: u32 = 60;

/// Slots looked at at once: each waits for the ledger or a sync now and then.
pub(crate) const LOOKS_AT_ONCE: usize = 4;

/// What the ledger says of us and a slot.
enum Standing {
    /// Ours.
    Held(Box<Deal>),
    /// Nobody's: it was ours, and nobody was drawn in our place yet.
    Idle(Box<Deal>),
    /// Not ours any more, but somebody may need what we have.
    Needed,
    /// Nothing to us.
    Gone,
}

/// Makes the ledger know the node and its terms, unless it drains.
async fn register<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
) -> Result<(), LedgerError> {
    let terms = core.offer.terms.clone();
    let entry = core.ledger.node(core.id).await?;
    let status = entry.as_ref().map(|entry| entry.status);
    core.is_draining
        .store(status == Some(NodeStatus::Draining), Ordering::Relaxed);
    let body = match entry.map(|entry| (entry.status, entry.terms == terms)) {
        Some((NodeStatus::Draining, _) | (NodeStatus::Active, true)) => return Ok(()),
        Some((NodeStatus::Active, false)) => TxBody::NodeUpdate { terms },
        Some((NodeStatus::Lost, _)) | None => {
            let ledger = core.ledger.id();
            let own = || {
                let consent = operator_consent(ledger, &core.key, core.id);
                (core.id.key().into(), consent)
            };
            let (operator, consent) = core.offer.operator.unwrap_or_else(own);
            TxBody::NodeRegister {
                operator,
                operator_consent: consent,
                terms,
            }
        }
    };
    core.submit(body).await.map(|_| ())
}

/// Follows the ledger until the task is aborted.
pub(crate) async fn follow<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    let mut wait = core.pacing.retry_delay;
    loop {
        match follow_from_now(&core, &mut wait).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "following the ledger fails; it goes on");
                core.ledger_problem.met(&error);
                core.runtime.sleep(wait).await;
                wait = (wait * 2).min(core.pacing.retry_delay_max);
            }
        }
    }
}

/// Reads where all stands, then follows the blocks until they are forgotten.
async fn follow_from_now<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    wait: &mut Duration,
) -> Result<(), LedgerError> {
    register(core).await?;
    let status = core.ledger.status().await?;
    core.proofs.begin(&status);
    core.audits.epoch_opened();
    let mut next = after(status.height);
    // Effects of the blocks up to here were perhaps not seen, and will not be.
    core.groups.forget_all();
    read_slots(core).await?;
    core.ledger_problem.ended();
    loop {
        let blocks = match core.ledger.effects(next).await {
            Ok(blocks) => blocks,
            Err(LedgerError::Forgotten { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        *wait = core.pacing.retry_delay;
        for block in blocks {
            take_block(core, &block);
            next = after(block.height);
            // Called lost while we were away: offer again what we have.
            if block.effects.contains(&Effect::NodeChanged(core.id)) {
                register(core).await?;
                for slot in core.work.known() {
                    core.groups.forget(slot.group);
                    core.look_at(slot);
                }
            }
        }
    }
}

fn after(height: Height) -> Height {
    height.next().unwrap_or(height)
}

/// All our slots by the ledger and all of which something is here are looked at. What we
/// acknowledged and do not have is declared lost first: silence would be a lie.
async fn read_slots<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
) -> Result<(), LedgerError> {
    let ours = core.ledger.slots_of(core.id).await?;
    let mut lost = Vec::new();
    for slot in &ours {
        let group = core.groups.get(slot.group, Age::Remembered).await?;
        let deal = group.as_ref().and_then(|group| group.deal(slot.slot));
        if deal.is_some_and(|deal| deal.node == core.id && has_lost(core, *slot, deal)) {
            lost.push(*slot);
        }
    }
    for slots in lost.chunks(SLOTS_PER_TX_MAX) {
        tracing::error!(
            count = slots.len(),
            "slots that we acknowledged are not whole any more"
        );
        declare_loss(core, slots).await?;
    }
    let here = core.store.store().slots();
    for slot in ours.into_iter().chain(here) {
        core.work.draw(slot);
        core.look_at(slot);
    }
    Ok(())
}

/// Whether we acknowledged more than is here.
fn has_lost<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    slot: SlotRef,
    deal: &Deal,
) -> bool {
    let reached = core.store.store().reached(slot);
    let whole = reached.filter(|reached| reached.whole);
    let number = whole.map_or(RevisionNumber::ZERO, |whole| whole.number());
    deal.acknowledged > number
}

async fn declare_loss<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    slots: &[SlotRef],
) -> Result<(), LedgerError> {
    let bounded = Bounded::new(slots.to_vec()).expect("at most a transaction's slots");
    core.submit(TxBody::DeclareLoss { slots: bounded }).await?;
    for slot in slots {
        core.groups.forget(slot.group);
    }
    Ok(())
}

/// What of a block concerns us.
fn take_block<R: Runtime, N: Network, L: Ledger>(core: &Core<R, N, L>, block: &BlockEffects) {
    for effect in &block.effects {
        match effect {
            Effect::Revised { group, .. }
            | Effect::GroupPlaced(group)
            | Effect::GroupOpened(group)
            | Effect::GroupChanged(group)
            | Effect::GroupRefunded { group, .. } => {
                core.groups.forget(*group);
                core.look_at_group(*group);
            }
            Effect::GroupReleased(group) | Effect::GroupClosed { group, .. } => {
                core.groups.forget(*group);
                for slot in core.work.known_of(*group) {
                    core.proofs.end(slot);
                    core.look_at(slot);
                }
            }
            Effect::SlotMoved { slot, to, .. } => {
                core.groups.forget(slot.group);
                if *to == core.id {
                    core.work.draw(*slot);
                }
                core.look_at(*slot);
            }
            Effect::Acknowledged { slot, .. }
            | Effect::LossDeclared(slot)
            | Effect::SlotWaiting(slot)
            | Effect::SlotReleased { slot, .. } => {
                core.groups.forget(slot.group);
                core.look_at(*slot);
            }
            Effect::EpochBegan(epoch) => {
                core.proofs.epoch_began(*epoch);
                look_at_waiting(core);
            }
            Effect::EpochOpened(_) => {
                core.proofs.epoch_opened();
                core.audits.epoch_opened();
            }
            Effect::Judged {
                node,
                epoch,
                verdict,
            } if *node == core.id => take_verdict(core, *epoch, *verdict),
            Effect::Judged { node, epoch, .. } => core.proofs.other_judged(*node, *epoch),
            Effect::NodeChanged(_)
            | Effect::TxDone { .. }
            | Effect::Paid { .. }
            | Effect::BountyPaid { .. }
            | Effect::Slashed { .. }
            | Effect::Forfeited { .. }
            | Effect::CollateralAdded { .. }
            | Effect::CollateralTaken { .. }
            | Effect::CollateralFilled { .. }
            | Effect::Moved(_)
            | Effect::VolumeChanged(_)
            | Effect::VolumeClosed(_)
            | Effect::Anchored { .. }
            | Effect::LeaseChanged { .. }
            | Effect::LeaseAsked { .. }
            | Effect::GrantChanged { .. }
            | Effect::Notarised(_)
            | Effect::TermNamed { .. }
            | Effect::TermBegan { .. } => {}
        }
    }
}

/// Our own proof was judged.
fn take_verdict<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    epoch: EpochNumber,
    verdict: Verdict,
) {
    if verdict == Verdict::Invalid {
        tracing::error!(%epoch, "our proof was found invalid");
    }
    core.proofs.judged(epoch, verdict);
    look_at_waiting(core);
}

/// Looks at slots that have something to give up once it need not be proved any more, and at those that
/// may be taken back now.
fn look_at_waiting<R: Runtime, N: Network, L: Ledger>(core: &Core<R, N, L>) {
    let waiting = core.store.store().waiting_slots();
    let idle = core.lags.idle();
    for slot in waiting.into_iter().chain(core.proofs.leaving()).chain(idle) {
        core.look_at(slot);
    }
}

/// Looks at slots, one after the other, until the task is aborted.
pub(crate) async fn tend<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    loop {
        let slot = core.work.looks.take().await;
        match look(&core, slot).await {
            Ok(Looked::Behind) => {
                if core.lags.may_try(slot, core.runtime.monotonic()) {
                    core.work.catch_ups.add(slot);
                }
            }
            Ok(Looked::Done) => core.lags.change(slot, |seen| {
                seen.failures = 0;
                seen.retry_at = None;
                seen.problem = None;
                seen.unrebuildable.clear();
            }),
            Ok(Looked::Dropped) => core.lags.forget(slot),
            Err(error) => put_off(&core, slot, &error),
        }
        core.work.looks.done(slot);
    }
}

/// Catches slots up, one after the other, until the task is aborted.
pub(crate) async fn catch_slots_up<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    loop {
        let slot = core.work.catch_ups.take().await;
        match Box::pin(bring_up(&core, slot)).await {
            Ok(()) => {}
            Err(error) => put_off(&core, slot, &error),
        }
        // After a failure too: its writer may have brought what was lacking meanwhile.
        core.look_at(slot);
        core.work.catch_ups.done(slot);
    }
}

/// A failed slot is looked at again, later each time.
fn put_off<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    slot: SlotRef,
    error: &CatchUpError,
) {
    let pacing = &core.pacing;
    let now = core.runtime.monotonic();
    core.lags.change(slot, |seen| {
        let factor = 1_u32 << seen.failures.min(16);
        let wait = if error.is_lasting() {
            pacing.retry_delay_max.saturating_mul(LASTING_FACTOR)
        } else {
            pacing
                .retry_delay
                .saturating_mul(factor)
                .min(pacing.retry_delay_max)
        };
        seen.failures = seen.failures.saturating_add(1);
        seen.retry_at = Some(now.saturating_add(wait));
        seen.problem = Some(error.to_string());
        tracing::warn!(%slot, %error, blame = ?error.blame(), ?wait, "a slot has not caught up");
    });
}

/// Adds slots whose time has come, until the task is aborted.
pub(crate) async fn wake<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    loop {
        core.runtime.sleep(core.pacing.retry_delay).await;
        let now = core.runtime.monotonic();
        for slot in core.lags.due(now) {
            core.groups.forget(slot.group);
            core.look_at(slot);
        }
    }
}

/// What a look at a slot found.
enum Looked {
    /// Nothing is left to do, or it is on its way.
    Done,
    /// It must catch up.
    Behind,
    /// It is not ours, and gone.
    Dropped,
}

/// Does the next thing for a slot, if it is short.
async fn look<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    slot: SlotRef,
) -> Result<Looked, CatchUpError> {
    let group = core.groups.get(slot.group, Age::Remembered).await?;
    let Some(group) = group else {
        // Without having seen its end we do not take its word at once: a ledger that was set back
        // may not know the group yet.
        if !core.proofs.may_go_unknown(slot) {
            return Ok(Looked::Done);
        }
        drop_slot(core, slot).await?;
        return Ok(Looked::Dropped);
    };
    release(core, &group, slot).await?;
    let (deal, holding) = match standing(core, &group, slot) {
        Standing::Held(deal) => (deal, Holding::Held),
        Standing::Idle(deal) => (deal, Holding::Idle),
        Standing::Needed => return Ok(Looked::Done),
        Standing::Gone if !core.proofs.may_go(slot) => return Ok(Looked::Done),
        Standing::Gone => {
            drop_slot(core, slot).await?;
            return Ok(Looked::Dropped);
        }
    };
    if holding == Holding::Held {
        core.proofs.stay(slot);
    }
    let revision = group.revision.number;
    core.lags.change(slot, |seen| {
        seen.holding = holding;
        seen.forfeited = deal.bounty;
        if seen.revision != revision {
            // What failed for another revision says nothing of this one.
            seen.failures = 0;
            seen.retry_at = None;
        }
        seen.revision = revision;
        seen.acknowledged = deal.acknowledged;
        seen.segment_count = group.revision.segment_count;
    });
    let is_kept = || {
        let figures = core.store.store().slot_figures(slot);
        figures.is_some_and(|figures| figures.shard_count > 0)
    };
    // What is not here any more is for whoever is drawn.
    if revision == RevisionNumber::ZERO || (holding == Holding::Idle && !is_kept()) {
        return Ok(Looked::Done);
    }
    let reached = core.store.store().reached(slot);
    let is_there = reached.is_some_and(|reached| {
        reached.whole && reached.detail.unverified().revision == group.revision
    });
    if !is_there && !reach(core, &group, slot).await? {
        return Ok(Looked::Behind);
    }
    if holding == Holding::Idle {
        reclaim(core, &group, slot).await?;
    } else if deal.acknowledged < revision {
        core.acknowledgements.add(slot, revision);
    }
    Ok(Looked::Done)
}

/// Gives up what the ledger can't ask a proof of any more, of a slot that we hold or leave.
async fn release<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    group: &Group,
    slot: SlotRef,
) -> Result<(), StoreError> {
    if !core.store.store().is_waiting(slot) {
        return Ok(());
    }
    let Some(deal) = group.deal(slot.slot) else {
        return Ok(());
    };
    let leaver = deal.leaver.filter(|leaver| leaver.node == core.id);
    let (frozen, acknowledged) = match leaver {
        Some(leaver) => (leaver.frozen, leaver.acknowledged),
        None if deal.node == core.id => (deal.frozen, deal.acknowledged),
        None => return Ok(()),
    };
    let needs = core
        .proofs
        .needs(frozen, acknowledged, group.revision.number);
    if let Some(needs) = needs {
        core.for_good(move |store| store.release_emptied(slot, &needs))
            .await?;
    }
    Ok(())
}

/// Reaches the group's revision, if its detail and all its shards are here.
async fn reach<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    group: &Group,
    slot: SlotRef,
) -> Result<bool, StoreError> {
    let detail = core.store.store().newest(slot);
    let Some(detail) = detail.filter(|detail| check_detail(group, detail).is_ok()) else {
        return Ok(false);
    };
    let reached = core
        .store
        .with(move |store| store.reach(slot, &detail))
        .await;
    match reached {
        Ok(_) => Ok(true),
        Err(StoreError::Lacking { .. } | StoreError::SlotRoot { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Catches a slot up. What we acknowledged and can't have again at once is declared lost: siblings
/// serve nothing that was acknowledged or is to be proven, so that nobody answers challenges from
/// them. The shards that are here stay, and the slot is acknowledged anew when the others are back:
/// at the earliest once our proof of this epoch is judged, or the epoch over.
async fn bring_up<R: Runtime, N: Network, L: Ledger>(
    core: &Arc<Core<R, N, L>>,
    slot: SlotRef,
) -> Result<(), CatchUpError> {
    let Some(group) = core.groups.get(slot.group, Age::Remembered).await? else {
        return Ok(());
    };
    let deal = match standing(core, &group, slot) {
        Standing::Held(deal) => Some(deal),
        // There is nothing to declare of it.
        Standing::Idle(_) => None,
        Standing::Needed | Standing::Gone => return Ok(()),
    };
    let revision = group.revision.number;
    let caught_up = Box::pin(catch_up(core, group, slot)).await;
    if caught_up.is_err() && deal.is_some_and(|deal| has_lost(core, slot, &deal)) {
        declare_loss(core, &[slot]).await?;
    }
    let caught_up = caught_up?;
    if caught_up.shard_count > 0 {
        tracing::info!(%slot, %revision, shards = caught_up.shard_count, "caught up");
    }
    Ok(())
}

/// What the ledger says of us and a slot.
fn standing<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    group: &Group,
    slot: SlotRef,
) -> Standing {
    let Some(deal) = group.deal(slot.slot) else {
        return Standing::Needed;
    };
    let us = core.id;
    let leaving = deal.leaver.is_some_and(|leaver| leaver.node == us);
    let needed = deal.previous == Some(us) && deal.acknowledged < group.revision.number;
    let ours = deal.holder() == Some(us);
    // Nobody has taken the slot yet: who does will want it.
    let is_released = matches!(group.ending, Some(Ending::Released(_)));
    let vacant = deal.node == us && deal.holder().is_none() && !is_released;
    let is_idle = vacant && deal.state == DealState::Idle && group.is_open();
    if ours {
        Standing::Held(Box::new(*deal))
    } else if is_idle {
        Standing::Idle(Box::new(*deal))
    } else if vacant || leaving || needed {
        Standing::Needed
    } else {
        Standing::Gone
    }
}

/// Drops what is here of a slot that is another's.
async fn drop_slot<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    slot: SlotRef,
) -> Result<(), StoreError> {
    let bytes = core.for_good(move |store| store.drop_slot(slot)).await?;
    tracing::info!(%slot, %bytes, "dropped a slot that is not ours");
    core.work.forget(slot);
    Ok(())
}
