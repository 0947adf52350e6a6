//! Taking back a slot that was ours, of which nobody else has been given the rebuilding, when it is
//! whole here: after we were called lost and came back, or fell behind for too long.

use cairn_core::{Amount, Bounded, ByteCount};
use cairn_ledger::group::{Group, price_for};
use cairn_ledger::port::{Ledger, LedgerError};
use cairn_ledger::tx::{SlotRef, SlotRevision};
use cairn_ledger::{NodeEntry, NodeStatus, Parameters, TxError, Verdict};
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::acknowledge::submit_acknowledgement;
use crate::catch_up::CatchUpError;
use crate::core::Core;

/// What keeps us from taking an idle slot back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// What the ledger alone knows.
    #[error("the ledger refuses it: {0}")]
    Refused(Box<TxError>),
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
    // Who leaves, or is still to come back, takes nothing.
    let Some(entry) = entry.filter(|entry| entry.status == NodeStatus::Active) else {
        return Ok(());
    };
    if let Some(lack) = lack(&entry, group, &parameters) {
        return Err(CatchUpError::Idle { slot, lack });
    }
    let revision = group.revision.number;
    let acknowledged = SlotRevision {
        group: slot.group,
        slot: slot.slot,
        revision,
    };
    let slots = Bounded::new(vec![acknowledged]).expect("one slot");
    match submit_acknowledgement(core, slots).await {
        Ok(_) => {}
        Err(CatchUpError::Ledger(LedgerError::Refused(error))) => {
            let lack = ReclaimLack::Refused(Box::new(error));
            return Err(CatchUpError::Idle { slot, lack });
        }
        Err(error) => return Err(error),
    }
    tracing::info!(%slot, %revision, "took an idle slot back");
    core.groups.forget(slot.group);
    core.look_at(slot);
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_core::{AccountId, EpochNumber, GroupId, NodeId, Profile, SecretKey};
    use cairn_ledger::group::empty_revision;
    use cairn_ledger::{NodeTerms, Standing};

    use super::*;

    fn entry() -> NodeEntry {
        let key = SecretKey::from_bytes(&[1; 32]).public();
        NodeEntry {
            node: NodeId::new(key),
            operator: AccountId::new(key),
            terms: NodeTerms {
                capacity: ByteCount::new(3 << 30),
                price: Amount::from_micro(5),
                network: Default::default(),
                provider: Default::default(),
                region: Default::default(),
            },
            used: ByteCount::new(2 << 30),
            status: NodeStatus::Active,
            standing: Standing::default(),
            collateral: Amount::from_micro(70),
            locked: Amount::from_micro(20),
            maintained: None,
            score: Default::default(),
        }
    }

    fn group() -> Group {
        let id = GroupId::default();
        Group {
            id,
            owner: AccountId::new(SecretKey::from_bytes(&[2; 32]).public()),
            code: Profile::Dev4.code(),
            slot_capacity: ByteCount::new(1 << 30),
            price_max: Amount::from_micro(5),
            ends: Default::default(),
            ending: None,
            escrow: Amount::ZERO,
            owed: Amount::ZERO,
            opened: Default::default(),
            revision: empty_revision(id),
            begun: Default::default(),
            kept: Vec::new(),
            due: Default::default(),
            deals: Vec::new(),
            relaxed: Vec::new(),
            is_marked: false,
        }
    }

    /// Each at the limit, where nothing is lacking, and one beyond.
    #[test]
    fn what_the_ledger_would_refuse_is_known_before_it_costs_a_fee() {
        let parameters = Parameters {
            collateral_epochs: 10,
            ..Parameters::default()
        };
        let lack = |entry: &NodeEntry| lack(entry, &group(), &parameters);
        assert_eq!(lack(&entry()), None);
        let mut full = entry();
        full.used = ByteCount::new((2 << 30) + 1);
        assert!(matches!(lack(&full), Some(ReclaimLack::Capacity { .. })));
        let mut poor = entry();
        poor.locked = Amount::from_micro(21);
        let (expected, found) = (Amount::from_micro(50), Amount::from_micro(49));
        assert_eq!(
            lack(&poor),
            Some(ReclaimLack::Collateral { expected, found })
        );
        let mut dear = entry();
        dear.terms.price = Amount::from_micro(6);
        dear.collateral = Amount::from_micro(80);
        assert!(matches!(lack(&dear), Some(ReclaimLack::Price { .. })));
        let mut invalid = entry();
        invalid.standing.verdict = Some((EpochNumber::new(4), Verdict::Invalid));
        assert_eq!(lack(&invalid), Some(ReclaimLack::Proof));
    }
}
