//! What nodes must have been paid and must have left of their collateral, reckoned beside the
//! ledger: from what each epoch froze of a group, and from which proofs were found valid.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_core::{AccountId, Amount, EpochNumber, GroupId, NodeId};
use cairn_ledger::group::epoch_price;
use cairn_ledger::{Group, Ledger, NodeEntry, Verdict};

use crate::cluster::{COLLATERAL, Cluster};
use crate::watch::Money;

/// How long the watch may take to hear the newest block.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// What nodes have earned by the epochs that were noted.
#[derive(Clone, Debug, Default)]
pub struct Wages(BTreeMap<NodeId, Amount>);

/// What a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse {
    /// Balance of its account.
    pub balance: Amount,
    /// Its collateral.
    pub collateral: Amount,
    /// What blocks told of it.
    pub told: Money,
}

impl Wages {
    /// Notes the epoch that runs, of a network with no group but this: to be called once in each
    /// epoch, when all have proven it. Who was found valid has earned the price of the bytes that
    /// the epoch froze of its slots.
    ///
    /// # Panics
    ///
    /// When the ledger does not answer: the test has failed.
    pub async fn note(&mut self, cluster: &Cluster, group: GroupId) {
        let status = cluster.sequencer().status().await.expect("it answers");
        let group = cluster.sequencer().group(group).await.expect("it answers");
        for member in &cluster.members {
            let entry = entry_of(cluster, member.id).await;
            let verdict = entry.standing.verdict_of(status.epoch);
            if let (Some(Verdict::Valid), Some(group)) = (verdict, &group) {
                let earned = earned(group, member.id, status.epoch);
                let sum = self.0.entry(member.id).or_default();
                *sum = sum.checked_add(earned).expect("a small amount");
            }
        }
    }

    /// What a node has earned.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Amount {
        self.0.get(&node).copied().unwrap_or(Amount::ZERO)
    }

    /// Every node has what it earned, to the last micro-credit, and all but `liars` their whole
    /// collateral; of theirs is left what was not taken.
    ///
    /// # Panics
    ///
    /// When one has another balance or collateral (I5).
    pub async fn check(&self, cluster: &Cluster, liars: &[NodeId]) {
        for member in &cluster.members {
            let node = member.id;
            let purse = purse(cluster, node).await;
            let bounties = purse.told.bounties;
            let expected = self.of(node).checked_add(bounties);
            assert_eq!(Some(purse.balance), expected, "I5: {node}: {purse:?}");
            let taken = purse.told.taken();
            let is_liar = liars.contains(&node);
            assert!(is_liar || taken == Amount::ZERO, "I5: {node}: {purse:?}");
            let left = COLLATERAL.checked_sub(taken);
            let left = left.and_then(|left| left.checked_add(purse.told.filled));
            assert_eq!(Some(purse.collateral), left, "I5: {node}: {purse:?}");
        }
    }
}

/// What a node has by the ledger, and what the watch has heard of it.
///
/// # Panics
///
/// When the ledger does not answer or does not know the node: the test has failed.
pub async fn purse(cluster: &Cluster, node: NodeId) -> Purse {
    let status = cluster.sequencer().status().await.expect("it answers");
    let is_heard = async || cluster.watch.findings().heard >= Some(status.height);
    cluster.wait("the watch", HEARD_WITHIN, is_heard).await;
    let account = AccountId::new(node.key());
    let account = cluster.sequencer().account(account).await;
    let told = cluster.watch.findings().money;
    Purse {
        balance: account.expect("it answers").balance,
        collateral: entry_of(cluster, node).await.collateral,
        told: told.get(&node).copied().unwrap_or_default(),
    }
}

async fn entry_of(cluster: &Cluster, node: NodeId) -> NodeEntry {
    let entry = cluster.sequencer().node(node).await;
    entry.expect("it answers").expect("it is registered")
}

/// The price of what `epoch` froze of a group for a node.
fn earned(group: &Group, node: NodeId, epoch: EpochNumber) -> Amount {
    let of_slots = group.code.slots().zip(&group.deals).map(|(slot, deal)| {
        let frozen = group.frozen(slot, node, epoch);
        let price = deal.price_of(node);
        let earned = frozen.zip(price).map(|(frozen, price)| {
            epoch_price(frozen.revision.slot_bytes, price).expect("a small amount")
        });
        earned.unwrap_or(Amount::ZERO)
    });
    of_slots.fold(Amount::ZERO, |sum, earned| {
        sum.checked_add(earned).expect("a small amount")
    })
}
