//! Paying for groups: what a new one gets into its escrow, and what is added as long as they are wanted.

use std::collections::BTreeSet;

use cairn_core::{Amount, ByteCount, Code, EpochNumber, GroupId};
use cairn_ledger::group::term_price;
use cairn_ledger::{Group, Ledger, LedgerError, LedgerStatus, Parameters, TxBody};
use cairn_net::Network;
use cairn_runtime::Runtime;
use futures::{StreamExt, stream};

use crate::owner::{OpenGroupError, OwnerShared};

/// An owner puts at most this part of its balance into one group at once, so that another can be
/// opened too.
const BALANCE_PARTS: u64 = 4;
/// Groups that the ledger is asked for at once, so that an owner of many waits for few answers.
const GROUPS_ASKED_AT_ONCE: usize = 16;

/// What a new group is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Most that a node may ask, in micro-credits per GiB and epoch.
    pub(super) price_max: Amount,
    /// Escrow.
    pub(super) escrow: Amount,
    /// Term in epochs.
    pub(super) term_epochs: u32,
}

impl<R: Runtime, N: Network, L: Ledger> OwnerShared<R, N, L> {
    /// What a group of these slots is opened with. Who has not the credits for an epoch takes nodes
    /// that ask nothing: an escrow that is dry at the first proof would end the group.
    pub(super) fn terms(
        &self,
        status: &LedgerStatus,
        balance: Amount,
        (code, slot_capacity): (Code, ByteCount),
    ) -> Terms {
        let config = &self.config;
        let parameters = &status.parameters;
        let term_epochs = config.term_epochs.min(parameters.term_epochs_max);
        let free = free_balance(status, balance);
        let pays = parameters.epoch_millis > 0;
        let price_of = |epochs| term_price(code, slot_capacity, config.price_max, epochs);
        if pays && price_of(1).is_none_or(|epoch| part(free) < epoch) {
            return Terms {
                price_max: Amount::ZERO,
                escrow: Amount::ZERO,
                term_epochs,
            };
        }
        let least = price_of(term_epochs)
            .and_then(|price| price.prorate_ceil(u64::from(parameters.escrow_percent), 100))
            .unwrap_or(free)
            .max(parameters.escrow_min);
        let wanted = if pays {
            price_of(config.escrow_epochs.min(term_epochs)).unwrap_or(free)
        } else {
            Amount::ZERO
        };
        Terms {
            price_max: config.price_max,
            escrow: wanted.min(part(free)).max(least),
            term_epochs,
        }
    }

    /// Keeps every group paid whose book is in the folder, whether or not it is written to, as
    /// [`Self::keep_paid`] does.
    pub(super) async fn keep_all_paid(&self) -> Result<Vec<GroupFunds>, FundError> {
        let status = self.client.ledger().status().await?;
        self.keep_paid_but(&status, &BTreeSet::new()).await
    }

    /// As [`Self::keep_all_paid`] at the end of a command, without those that were looked after when
    /// they were revised. Asks for no group where none is ever paid.
    pub(super) async fn keep_others_paid(
        &self,
        looked_after: &BTreeSet<GroupId>,
    ) -> Result<(), FundError> {
        let status = self.client.ledger().status().await?;
        if status.parameters.epoch_millis == 0 {
            return Ok(());
        }
        self.keep_paid_but(&status, looked_after).await.map(|_| ())
    }

    async fn keep_paid_but(
        &self,
        status: &LedgerStatus,
        looked_after: &BTreeSet<GroupId>,
    ) -> Result<Vec<GroupFunds>, FundError> {
        let ledger = self.client.ledger();
        let kept = self.kept_groups().await?;
        let others = kept.into_iter().filter(|id| !looked_after.contains(id));
        let others: Vec<GroupId> = others.collect();
        let asked = others.into_iter().map(|id| ledger.group(id));
        let mut found = stream::iter(asked).buffered(GROUPS_ASKED_AT_ONCE);
        let mut all = Vec::new();
        while let Some(group) = found.next().await {
            if let Some(group) = group?.filter(Group::is_open) {
                all.push(self.fund(status, group).await?);
            }
        }
        Ok(all)
    }

    /// Prolongs a group's term and fills its escrow up, when either will not do for half of what a
    /// new group gets, as far as the balance allows.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; the group is as it was.
    pub(super) async fn keep_paid(&self, group: GroupId) -> Result<(), LedgerError> {
        let ledger = self.client.ledger();
        let status = ledger.status().await?;
        if status.parameters.epoch_millis == 0 {
            return Ok(());
        }
        if let Some(group) = ledger.group(group).await?.filter(Group::is_open) {
            self.fund(&status, group).await?;
        }
        Ok(())
    }

    async fn fund(&self, status: &LedgerStatus, group: Group) -> Result<GroupFunds, LedgerError> {
        let parameters = &status.parameters;
        let mut funds = GroupFunds::of(status, &group);
        if parameters.epoch_millis == 0 {
            return Ok(funds);
        }
        let config = &self.config;
        let term = config.term_epochs.min(parameters.term_epochs_max);
        let left = group.ends.get().saturating_sub(status.epoch.get());
        let cost = group.epoch_cost().micro();
        let lasting = |epochs: u32| cost.saturating_mul(u64::from(epochs));
        let is_ending = left < u64::from(term / 2);
        let is_dry = group.escrow.micro() < lasting(config.escrow_epochs / 2);
        if !is_ending && !is_dry {
            return Ok(funds);
        }
        let balance = self.client.ledger().account(self.keys.account()).await?;
        // What its nodes are owed for its grace comes first, and whole.
        let free = free_balance(status, balance.balance);
        let Some(free) = free.checked_sub(group.owed) else {
            tracing::warn!(group = %group.id, owed = %group.owed, %free, "can't pay what is owed");
            return Ok(funds);
        };
        let most = part(free);
        let wanted = lasting(config.escrow_epochs).saturating_sub(group.escrow.micro());
        let longer = u32::try_from(u64::from(term).saturating_sub(left)).unwrap_or(0);
        let longer = affordable(parameters, &group, longer, most);
        let least = covering(parameters, &group, longer).unwrap_or(Amount::ZERO);
        let escrow = Amount::from_micro(wanted).min(most).max(least);
        if longer == 0 && escrow == Amount::ZERO {
            return Ok(funds);
        }
        let escrow = escrow.checked_add(group.owed).unwrap_or(escrow);
        let body = TxBody::GroupExtend {
            group: group.id,
            epochs: longer,
            escrow,
        };
        self.submit(body).await?;
        let ledger = self.client.ledger();
        if let Some(group) = ledger.group(group.id).await? {
            funds = GroupFunds::of(&ledger.status().await?, &group);
        }
        funds.added = Added {
            epochs: longer,
            escrow,
        };
        Ok(funds)
    }
}

/// What a group is paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFunds {
    /// The group.
    pub group: GroupId,
    /// The epoch in which its term ends.
    pub ends: EpochNumber,
    /// What is in its escrow.
    pub escrow: Amount,
    /// What its nodes earn in an epoch, all of them proven, with what it has now.
    pub epoch_cost: Amount,
    /// The epoch in which its term ends, or its escrow is dry if that is sooner.
    pub paid_until: EpochNumber,
    /// What was added to it now.
    pub added: Added,
}

/// What was added to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Epochs, to its term.
    pub epochs: u32,
    /// Credits, to its escrow.
    pub escrow: Amount,
}

impl GroupFunds {
    fn of(status: &LedgerStatus, group: &Group) -> Self {
        let epoch_cost = group.epoch_cost();
        let epochs = group.escrow.micro().checked_div(epoch_cost.micro());
        let dry = epochs.map(|epochs| status.epoch.get().saturating_add(epochs));
        Self {
            group: group.id,
            ends: group.ends,
            escrow: group.escrow,
            epoch_cost,
            paid_until: dry.map_or(group.ends, |dry| group.ends.min(EpochNumber::new(dry))),
            added: Added::default(),
        }
    }
}

/// Why groups are not all paid as they should be.
#[derive(Debug, thiserror::Error)]
pub enum FundError {
    /// The owner's folder.
    #[error(transparent)]
    Folder(#[from] OpenGroupError),
    /// The ledger.
    #[error("the ledger")]
    Ledger(#[from] LedgerError),
}

/// What must be added for so many epochs more; `None` above the largest amount.
fn covering(parameters: &Parameters, group: &Group, epochs: u32) -> Option<Amount> {
    let percent = u64::from(parameters.escrow_percent);
    if percent == 0 {
        return Some(Amount::ZERO);
    }
    term_price(group.code, group.slot_capacity, group.price_max, epochs)?.prorate_ceil(percent, 100)
}

/// The most epochs, up to `wanted`, that `most` covers.
fn affordable(parameters: &Parameters, group: &Group, wanted: u32, most: Amount) -> u32 {
    let is_covered =
        |epochs: u32| covering(parameters, group, epochs).is_some_and(|least| least <= most);
    let (mut low, mut high) = (0, wanted);
    while low < high {
        let middle = high - (high - low) / 2;
        if is_covered(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// What an account may spend: not what it keeps, nor the fee of the transaction.
fn free_balance(status: &LedgerStatus, balance: Amount) -> Amount {
    let parameters = &status.parameters;
    let kept = parameters
        .account_min
        .micro()
        .saturating_add(parameters.fee_min.micro());
    Amount::from_micro(balance.micro().saturating_sub(kept))
}

fn part(amount: Amount) -> Amount {
    Amount::from_micro(amount.micro() / BALANCE_PARTS)
}
