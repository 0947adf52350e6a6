//! Credits of a development network: its sequencer's account has all of them, puts collateral down
//! for the nodes, and gives owners something to spend.

use std::time::Duration;

use cairn_consensus::Sequencer as Order;
use cairn_core::{AccountId, Amount, NodeId, SecretKey};
use cairn_ledger::{Ledger, Parameters, TxBody, submit_body};
use cairn_runtime::real::RealRuntime;

use super::plan::millis;
use crate::failure::{Failure, FailureKind, OrFail};

/// All credits: ten thousand million.
pub(super) const SUPPLY: Amount = Amount::from_micro(10_000_000_000 * CREDIT);
/// What an owner is given.
pub(crate) const GRANT_CREDITS: u64 = 1_000_000;
/// What a node asks for a GiB in an epoch: a credit, the most that owners pay by default.
pub(super) const PRICE: Amount = Amount::from_micro(CREDIT);
/// Collateral of each node: enough for a thousand slots of the largest capacity.
const COLLATERAL: Amount = Amount::from_micro(100_000 * CREDIT);
/// Micro-credits of a credit.
const CREDIT: u64 = 1_000_000;

/// The numbers that a development network runs by: those of hours, shortened so that what takes days
/// can be watched in some epochs.
pub(super) fn parameters(epoch: Option<Duration>) -> Parameters {
    let Some(epoch) = epoch else {
        return Parameters::default();
    };
    Parameters {
        epoch_millis: millis(epoch),
        suspect_after_epochs: 2,
        lost_after_epochs: 4,
        catch_up_epochs: 30,
        collateral_epochs: 4,
        repair_epochs: 2,
        maintenance_period_epochs: 24,
        ..Parameters::default()
    }
}

/// Who has the credits.
#[derive(Debug)]
pub(super) struct Treasury {
    key: SecretKey,
}

impl Treasury {
    pub(super) const fn new(key: SecretKey) -> Self {
        Self { key }
    }

    /// Gives an account credits; a node, collateral.
    ///
    /// # Errors
    ///
    /// Of kind network when the ledger refuses.
    pub(super) async fn grant(
        &self,
        order: &Order<RealRuntime>,
        to: AccountId,
        amount: Amount,
    ) -> Result<(), Failure> {
        let node = NodeId::new(to.key());
        let found = order
            .node(node)
            .await
            .or_fail(FailureKind::Network, "the ledger does not answer")?;
        let body = match found {
            Some(_) => TxBody::NodeAddCollateral { node, amount },
            None => TxBody::Transfer { to, amount },
        };
        self.submit(order, body).await
    }

    /// Gives an account credits, unless it has some.
    ///
    /// # Errors
    ///
    /// As [`Self::grant`].
    pub(super) async fn grant_first(
        &self,
        order: &Order<RealRuntime>,
        to: AccountId,
    ) -> Result<(), Failure> {
        let account = order
            .account(to)
            .await
            .or_fail(FailureKind::Network, "the ledger does not answer")?;
        if account.balance > Amount::ZERO || account.nonce > 0 {
            return Ok(());
        }
        self.grant(order, to, credits(GRANT_CREDITS)).await
    }

    /// Fills a node's collateral up.
    ///
    /// # Errors
    ///
    /// As [`Self::grant`].
    pub(super) async fn secure(
        &self,
        order: &Order<RealRuntime>,
        node: NodeId,
    ) -> Result<(), Failure> {
        let entry = order
            .node(node)
            .await
            .or_fail(FailureKind::Network, "the ledger does not answer")?;
        let found = entry.map_or(Amount::ZERO, |entry| entry.collateral);
        match COLLATERAL.checked_sub(found) {
            Some(amount) if amount > Amount::ZERO => {
                self.submit(order, TxBody::NodeAddCollateral { node, amount })
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn submit(&self, order: &Order<RealRuntime>, body: TxBody) -> Result<(), Failure> {
        let done = submit_body(order, &self.key, body).await;
        done.map(|_| ()).or_fail(
            FailureKind::Network,
            "the ledger does not move the credits of the development network",
        )
    }
}

/// So many credits; the largest amount when that is more.
pub(super) const fn credits(credits: u64) -> Amount {
    Amount::from_micro(credits.saturating_mul(CREDIT))
}
