//! Whether transactions about collateral, terms and maintenance would be done.

use cairn_core::{AccountId, Amount, ByteCount, Code, EpochNumber, GroupId, NodeId};

use crate::group::{Group, term_price};
use crate::node::NodeEntry;
use crate::state::State;
use crate::tx::TxBody;
use crate::tx_error::TxError;

impl State {
    /// Of the bodies that are about these; others are not asked here.
    pub(super) fn check_money(&self, account: AccountId, body: &TxBody) -> Result<(), TxError> {
        let sender = NodeId::new(account.key());
        match body {
            TxBody::NodeAddCollateral { node, amount } => self.check_add_collateral(*node, *amount),
            TxBody::NodeTakeCollateral { amount } => self.check_take_collateral(sender, *amount),
            TxBody::NodeMaintain { epochs } => self.check_maintain(sender, *epochs),
            TxBody::GroupExtend {
                group,
                epochs,
                escrow,
            } => self.check_extend(account, *group, *epochs, *escrow),
            TxBody::GroupClose { group } => self.check_owned(account, *group).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// What the escrow of a term must cover; the largest amount when that is more.
    pub(super) fn covering(
        &self,
        code: Code,
        slot_capacity: ByteCount,
        price_max: Amount,
        epochs: u32,
    ) -> Amount {
        let percent = u64::from(self.parameters.escrow_percent);
        if percent == 0 {
            return Amount::ZERO;
        }
        term_price(code, slot_capacity, price_max, epochs)
            .and_then(|price| price.prorate_ceil(percent, 100))
            .unwrap_or(Amount::from_micro(u64::MAX))
    }

    /// Whether the account owns the group and the group goes on.
    pub(super) fn check_owned(
        &self,
        account: AccountId,
        group: GroupId,
    ) -> Result<&Group, TxError> {
        let found = self.check_group(group)?;
        if found.owner != account {
            return Err(TxError::NotOwner {
                expected: found.owner,
                found: account,
            });
        }
        if !found.is_open() {
            return Err(TxError::GroupEnding { group });
        }
        Ok(found)
    }

    fn check_extend(
        &self,
        account: AccountId,
        id: GroupId,
        epochs: u32,
        escrow: Amount,
    ) -> Result<(), TxError> {
        let group = self.check_owned(account, id)?;
        let now = self.epoch.number;
        let ends = self.extended_end(id, epochs).unwrap_or(group.ends);
        if self.has_epochs() && ends <= now {
            return Err(TxError::TermOver {
                group: id,
                ended: group.ends,
            });
        }
        let max = self.parameters.term_epochs_max;
        let ahead = ends.get().saturating_sub(now.get());
        if ahead > u64::from(max) {
            return Err(TxError::Term {
                max,
                found: u32::try_from(ahead).unwrap_or(u32::MAX),
            });
        }
        let (capacity, price) = (group.slot_capacity, group.price_max);
        let covering = self.covering(group.code, capacity, price, epochs).micro();
        let expected = Amount::from_micro(covering.saturating_add(group.owed.micro()));
        if escrow < expected {
            return Err(TxError::Escrow {
                expected,
                found: escrow,
            });
        }
        Ok(())
    }

    fn check_add_collateral(&self, node: NodeId, amount: Amount) -> Result<(), TxError> {
        self.check_known(node)?;
        if amount == Amount::ZERO {
            return Err(TxError::AmountZero);
        }
        Ok(())
    }

    fn check_take_collateral(&self, node: NodeId, amount: Amount) -> Result<(), TxError> {
        self.check_add_collateral(node, amount)?;
        let free = self.nodes.get(&node).map(NodeEntry::free_collateral);
        let max = free.unwrap_or(Amount::ZERO);
        if amount > max {
            return Err(TxError::Collateral {
                node,
                max,
                found: amount,
            });
        }
        Ok(())
    }

    fn check_maintain(&self, node: NodeId, found: u32) -> Result<(), TxError> {
        let entry = self.nodes.get(&node).ok_or(TxError::UnknownNode { node })?;
        let limits = &self.parameters;
        let max = if self.has_epochs() {
            limits.maintenance_epochs_max
        } else {
            0
        };
        if found == 0 || found > max {
            return Err(TxError::Maintenance { max, found });
        }
        let lapses = entry.standing.lapses(&self.epoch);
        if lapses > 0 {
            return Err(TxError::Lapsed { node, lapses });
        }
        if let Some(last) = entry.maintained {
            let period = u64::from(limits.maintenance_period_epochs);
            let next = EpochNumber::new(last.get().saturating_add(period));
            if self.epoch.number < next {
                return Err(TxError::MaintainedLately { node, next });
            }
        }
        Ok(())
    }
}
