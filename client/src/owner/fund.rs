//! Paying for groups: what a new one gets into its escrow, and what is added while it is written to.

use cairn_core::{Amount, ByteCount, Code, GroupId};
use cairn_ledger::group::term_price;
use cairn_ledger::{Group, Ledger, LedgerError, LedgerStatus, TxBody};
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::owner::OwnerShared;

/// An owner puts at most this part of its balance into one group at once, so that another can be
/// opened too.
const BALANCE_PARTS: u64 = 4;

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
    /// What a group of these slots is opened with. Who has no credits takes nodes that ask nothing:
    /// an escrow that is dry at the first proof would end the group.
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
        if pays && free == Amount::ZERO {
            return Terms {
                price_max: Amount::ZERO,
                escrow: Amount::ZERO,
                term_epochs,
            };
        }
        let price_of = |epochs| term_price(code, slot_capacity, config.price_max, epochs);
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
        let Some(group) = ledger.group(group).await?.filter(Group::is_open) else {
            return Ok(());
        };
        let term = self
            .config
            .term_epochs
            .min(status.parameters.term_epochs_max);
        let left = group.ends.get().saturating_sub(status.epoch.get());
        let cost = group.epoch_cost().micro();
        let lasting = |epochs: u32| cost.saturating_mul(u64::from(epochs));
        let is_ending = left < u64::from(term / 2);
        let is_dry = group.escrow.micro() < lasting(self.config.escrow_epochs / 2);
        if !is_ending && !is_dry {
            return Ok(());
        }
        let balance = ledger.account(self.keys.account()).await?.balance;
        let wanted = lasting(self.config.escrow_epochs).saturating_sub(group.escrow.micro());
        let most = part(free_balance(&status, balance)).micro();
        let epochs = u32::try_from(u64::from(term).saturating_sub(left)).unwrap_or(0);
        let escrow = Amount::from_micro(wanted.min(most));
        if epochs == 0 && escrow == Amount::ZERO {
            return Ok(());
        }
        let body = TxBody::GroupExtend {
            group: group.id,
            epochs,
            escrow,
        };
        self.submit(body).await.map(|_| ())
    }
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
