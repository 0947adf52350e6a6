//! Taking back a slot that was ours, of which nobody else has been given the rebuilding, when it is
//! whole here: after we were called lost and came back, or fell behind for too long.

use cairn_core::{Amount, Bounded, ByteCount};
use cairn_ledger::group::{Group, price_for};
use cairn_ledger::port::Ledger;
use cairn_ledger::tx::{SlotRef, SlotRevision, TxBody};
use cairn_ledger::{NodeEntry, Parameters, Verdict};
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::catch_up::CatchUpError;
use crate::core::Core;

/// What keeps us from taking an idle slot back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReclaimLack {
    /// Room that is not given out.
    #[error("it needs {expected} of free capacity, found {found}: offer more")]
    Capacity {
        expected: ByteCount,
        found: ByteCount,
    },
    /// Collateral that no slot locks.
    #[error("it needs {expected} of free collateral, found {found}: add collateral")]
    Collateral { expected: Amount, found: Amount },
    /// We ask more than the group pays.
    #[error("we ask {found} per GiB and epoch, and the group pays at most {expected}")]
    Price { expected: Amount, found: Amount },
    /// We have shown that we lack something.
    #[error("our last proof was invalid: an epoch must be proven first")]
    Proof,
}

/// What keeps a node from taking back an idle slot of a group, as far as it shows in its entry. What
/// the ledger would refuse is not asked, since that costs a fee.
fn lack(entry: &NodeEntry, group: &Group, parameters: &Parameters) -> Option<ReclaimLack> {
    let capacity = group.slot_capacity;
    let price = entry.terms.price;
    let collateral = price_for(capacity, price, parameters.collateral_epochs);
    if entry.free() < capacity {
        let found = entry.free();
        return Some(ReclaimLack::Capacity {
            expected: capacity,
            found,
        });
    }
    if entry.free_collateral() < collateral {
        let found = entry.free_collateral();
        return Some(ReclaimLack::Collateral {
            expected: collateral,
            found,
        });
    }
    if price > group.price_max {
        return Some(ReclaimLack::Price {
            expected: group.price_max,
            found: price,
        });
    }
    let has_failed = matches!(entry.standing.verdict, Some((_, Verdict::Invalid)));
    has_failed.then_some(ReclaimLack::Proof)
}

/// Takes back an idle slot that is whole here, by a transaction of its own: if the ledger refuses it,
/// no acknowledgement of another slot is refused with it.
pub(crate) async fn reclaim<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    group: &Group,
    slot: SlotRef,
) -> Result<(), CatchUpError> {
    let entry = core.ledger.node(core.id).await?;
    let parameters = core.ledger.status().await?.parameters;
    let lack = entry.and_then(|entry| lack(&entry, group, &parameters));
    if let Some(lack) = lack {
        return Err(CatchUpError::Idle { slot, lack });
    }
    let revision = group.revision.number;
    let acknowledged = SlotRevision {
        group: slot.group,
        slot: slot.slot,
        revision,
    };
    let slots = Bounded::new(vec![acknowledged]).expect("one slot");
    core.submit(TxBody::Acknowledge { slots }).await?;
    tracing::info!(%slot, %revision, "took an idle slot back");
    core.groups.forget(slot.group);
    core.look_at(slot);
    Ok(())
}
