//! Whether the state would do a transaction. Decides everything and changes nothing.

mod money;
mod registry;

use std::collections::BTreeSet;

use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::{
    AccountId, Amount, ByteCount, GroupId, GroupRevision, LedgerId, NodeId, Record, SignatureError,
    Signed,
};

use super::{State, count};
use crate::epoch::{REVISION_MILLIS_MIN, REVISIONS_PER_EPOCH_MIN};
use crate::group::{Deal, DealState, Group};
use crate::node::{NodeEntry, NodeStatus};
use crate::tx::{NodeTerms, SlotRef, SlotRevision, Tx, TxBody, verify_consent};
use crate::tx_error::{TableKind, TxError};

/// Whether a signature is still to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signatures {
    /// Check it.
    Check,
    /// It was checked before the block was stored.
    Checked,
}

/// What of its account a transaction comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// All that is final: it comes next.
    Next,
    /// Others of its account that wait to be ordered.
    After {
        /// How many.
        count: u64,
        /// What they take out of the balance together, fees included.
        cost: u128,
    },
}

impl State {
    /// Whether the transaction's account can be charged for it, after others of the account that
    /// wait: its nonce, its fee, and the funds for all of them. Cheap, and true of the order too,
    /// since only an account's own transactions take from it.
    ///
    /// # Errors
    ///
    /// [`TxError`] says why not.
    pub fn check_account(&self, tx: &Tx, expected: Expected) -> Result<(), TxError> {
        let (count, cost) = match expected {
            Expected::Next => (0, 0),
            Expected::After { count, cost } => (count, cost),
        };
        let nonce = self.account(tx.account).nonce.saturating_add(count);
        check_nonce(tx, nonce)?;
        self.check_fee(tx)?;
        self.check_funds(tx, cost.saturating_add(tx.cost()))
    }

    /// Whether the transaction would be done if it came next, its signature aside, which is left to
    /// [`check_signature`].
    ///
    /// # Errors
    ///
    /// [`TxError`] says why not.
    pub fn check(&self, tx: &Tx) -> Result<(), TxError> {
        self.check_account(tx, Expected::Next)?;
        self.check_body(tx)
    }

    /// Whether the transaction's account can be charged for it: rule T1.
    pub(super) fn check_charge(
        &self,
        tx: &Signed<Tx>,
        signatures: Signatures,
    ) -> Result<(), TxError> {
        match signatures {
            Signatures::Check => check_signature(tx, self.id)?,
            Signatures::Checked => check_form(tx)?,
        }
        let tx = tx.unverified();
        check_nonce(tx, self.account(tx.account).nonce)?;
        self.check_fee(tx)?;
        self.check_funds(tx, u128::from(tx.fee.micro()))
    }

    /// Whether what is asked would be done, by the rules from T3 on.
    pub(super) fn check_body(&self, tx: &Tx) -> Result<(), TxError> {
        let node = NodeId::new(tx.account.key());
        match &tx.body {
            TxBody::Transfer { to, amount } => self.check_transfer(*to, *amount)?,
            TxBody::NodeRegister {
                operator,
                operator_consent,
                terms: _,
            } => {
                self.check_register(node)?;
                verify_consent(self.id, *operator, node, operator_consent).map_err(|_| {
                    TxError::Consent {
                        operator: *operator,
                    }
                })?;
            }
            TxBody::NodeUpdate { terms } => self.check_update(node, terms)?,
            TxBody::NodeDrain => self.check_active(node).map(|_| ())?,
            TxBody::GroupOpen { .. } => self.check_open(&tx.body)?,
            TxBody::GroupRevise { revision } => self.check_revise(tx.account, revision)?,
            TxBody::Acknowledge { slots } => self.check_acknowledge(node, slots)?,
            TxBody::DeclareLoss { slots } => self.check_loss(node, slots)?,
            TxBody::ProofSubmit { epoch, .. } => self.check_proof(node, *epoch)?,
            body @ (TxBody::NodeAddCollateral { .. }
            | TxBody::NodeTakeCollateral { .. }
            | TxBody::NodeMaintain { .. }
            | TxBody::GroupExtend { .. }
            | TxBody::GroupClose { .. }) => self.check_money(tx.account, body)?,
            TxBody::Registry(asked) => self.check_registry(tx.account, asked)?,
            TxBody::ValidatorsChange {
                validators,
                signatures,
            } => self.check_validators(validators, signatures)?,
        }
        self.check_tables(tx)?;
        self.check_funds(tx, tx.cost())
    }

    fn check_transfer(&self, to: AccountId, amount: Amount) -> Result<(), TxError> {
        if amount == Amount::ZERO {
            return Err(TxError::AmountZero);
        }
        let expected = self.parameters.account_min;
        if amount < expected && !self.accounts.contains_key(&to) {
            return Err(TxError::AccountMin {
                expected,
                found: amount,
            });
        }
        Ok(())
    }

    fn check_fee(&self, tx: &Tx) -> Result<(), TxError> {
        let expected = self.parameters.fee_min_of(&tx.body);
        if tx.fee < expected {
            return Err(TxError::Fee {
                expected,
                found: tx.fee,
            });
        }
        Ok(())
    }

    /// Whether the balance covers `cost` and what the account must keep.
    fn check_funds(&self, tx: &Tx, cost: u128) -> Result<(), TxError> {
        let found = self.account(tx.account).balance;
        let least = u128::from(self.parameters.account_min.micro());
        let expected = u64::try_from(cost.saturating_add(least)).ok();
        if expected.is_none_or(|expected| found.micro() < expected) {
            return Err(TxError::Funds {
                account: tx.account,
                expected: Amount::from_micro(expected.unwrap_or(u64::MAX)),
                found,
            });
        }
        Ok(())
    }

    /// Room for the entries that the transaction makes.
    fn check_tables(&self, tx: &Tx) -> Result<(), TxError> {
        let is_new = |id: AccountId| !self.accounts.contains_key(&id);
        let mut fresh_accounts = u64::from(is_new(tx.account));
        let mut fresh_nodes = 0;
        let mut fresh_groups = 0;
        let mut fresh_slots = 0;
        match &tx.body {
            TxBody::Transfer { to, .. } if *to != tx.account => {
                fresh_accounts = fresh_accounts.saturating_add(u64::from(is_new(*to)));
            }
            TxBody::NodeRegister { .. } => {
                let node = NodeId::new(tx.account.key());
                fresh_nodes = u64::from(!self.nodes.contains_key(&node));
            }
            TxBody::GroupOpen { code, .. } => {
                fresh_groups = 1;
                fresh_slots = u64::from(code.n());
            }
            TxBody::Transfer { .. }
            | TxBody::NodeUpdate { .. }
            | TxBody::NodeDrain
            | TxBody::GroupRevise { .. }
            | TxBody::Acknowledge { .. }
            | TxBody::DeclareLoss { .. }
            | TxBody::ProofSubmit { .. }
            | TxBody::NodeAddCollateral { .. }
            | TxBody::NodeTakeCollateral { .. }
            | TxBody::NodeMaintain { .. }
            | TxBody::GroupExtend { .. }
            | TxBody::GroupClose { .. }
            | TxBody::Registry(_)
            | TxBody::ValidatorsChange { .. } => {}
        }
        let limits = &self.parameters;
        let tables = [
            (
                TableKind::Accounts,
                count(self.accounts.len()),
                fresh_accounts,
                limits.accounts_max,
            ),
            (
                TableKind::Nodes,
                count(self.nodes.len()),
                fresh_nodes,
                limits.nodes_max,
            ),
            (
                TableKind::Groups,
                count(self.groups.len()),
                fresh_groups,
                limits.groups_max,
            ),
            (
                TableKind::Slots,
                self.index.slot_count,
                fresh_slots,
                limits.slots_max,
            ),
        ];
        for (table, length, fresh, max) in tables {
            if fresh > 0 && length.saturating_add(fresh) > max {
                return Err(TxError::TableFull { table, max });
            }
        }
        Ok(())
    }

    fn check_register(&self, node: NodeId) -> Result<(), TxError> {
        match self.nodes.get(&node) {
            None => Ok(()),
            Some(entry) if is_gone(entry) => Ok(()),
            Some(entry) => Err(TxError::AlreadyRegistered {
                node,
                status: entry.status,
            }),
        }
    }

    fn check_active(&self, node: NodeId) -> Result<&NodeEntry, TxError> {
        let entry = self.nodes.get(&node).ok_or(TxError::UnknownNode { node })?;
        match entry.status {
            NodeStatus::Active => Ok(entry),
            found @ (NodeStatus::Draining | NodeStatus::Lost) => Err(TxError::NodeStatus {
                node,
                expected: NodeStatus::Active,
                found,
            }),
        }
    }

    fn check_update(&self, node: NodeId, terms: &NodeTerms) -> Result<(), TxError> {
        let entry = self.check_active(node)?;
        if terms.capacity < entry.used {
            return Err(TxError::CapacityUsed {
                expected: entry.used,
                found: terms.capacity,
            });
        }
        Ok(())
    }

    fn check_open(&self, body: &TxBody) -> Result<(), TxError> {
        let &TxBody::GroupOpen {
            code,
            slot_capacity,
            price_max,
            term_epochs,
            escrow,
        } = body
        else {
            return Err(TxError::Malformed);
        };
        let limits = &self.parameters;
        let (min, max) = (limits.slot_capacity_min, limits.slot_capacity_max);
        if slot_capacity < min || slot_capacity > max || slot_capacity == ByteCount::ZERO {
            return Err(TxError::SlotCapacity {
                min,
                max,
                found: slot_capacity,
            });
        }
        if term_epochs == 0 || term_epochs > limits.term_epochs_max {
            return Err(TxError::Term {
                max: limits.term_epochs_max,
                found: term_epochs,
            });
        }
        let covering = self.covering(code, slot_capacity, price_max, term_epochs);
        let expected = covering.max(limits.escrow_min);
        if escrow < expected {
            return Err(TxError::Escrow {
                expected,
                found: escrow,
            });
        }
        let expected = code.shard_count();
        let found = self
            .candidates(slot_capacity, price_max)
            .take(expected)
            .count();
        if found < expected {
            return Err(TxError::NodeCount {
                expected: u32::from(code.n()),
                found: u32::try_from(found).unwrap_or(u32::MAX),
            });
        }
        Ok(())
    }

    fn check_revise(&self, account: AccountId, revision: &GroupRevision) -> Result<(), TxError> {
        let group = self.check_owned(account, revision.group)?;
        if !group.is_placed() {
            return Err(TxError::NotPlaced { group: group.id });
        }
        let current = &group.revision;
        let next = current.number.next();
        if next != Some(revision.number) {
            return Err(TxError::RevisionNumber {
                group: group.id,
                expected: next.unwrap_or(current.number),
                found: revision.number,
            });
        }
        self.check_rate(group)?;
        let max = self.slot_bytes_max(group, revision);
        if revision.slot_bytes > max {
            return Err(TxError::SlotBytes {
                max,
                found: revision.slot_bytes,
            });
        }
        if revision.segment_count < current.segment_count {
            return Err(TxError::SegmentCount {
                min: current.segment_count,
                found: revision.segment_count,
            });
        }
        Ok(())
    }

    /// Whether the epoch that runs still lets the group be revised. Without epochs there is no end.
    fn check_rate(&self, group: &Group) -> Result<(), TxError> {
        let epoch = self.epoch.number;
        let millis = self.parameters.epoch_millis;
        let max = (millis / REVISION_MILLIS_MIN).max(REVISIONS_PER_EPOCH_MIN);
        let current = group.revision.number;
        let before = group.begun.at(epoch, current).get();
        if self.has_epochs() && current.get().saturating_sub(before) >= max {
            return Err(TxError::RevisedOften {
                group: group.id,
                epoch,
                max,
            });
        }
        Ok(())
    }

    /// Most bytes that a revision may give each slot. With epochs no more than its segments can
    /// have: what can't be proven can't be promised.
    fn slot_bytes_max(&self, group: &Group, revision: &GroupRevision) -> ByteCount {
        if !self.has_epochs() {
            return group.slot_capacity;
        }
        group.slot_capacity.min(segment_bytes_max(revision))
    }

    fn check_acknowledge(&self, node: NodeId, slots: &[SlotRevision]) -> Result<(), TxError> {
        self.check_known(node)?;
        if slots.is_empty() {
            return Err(TxError::NoSlots);
        }
        let mut reclaimed = BTreeSet::new();
        for entry in slots {
            let slot = entry.slot_ref();
            let (group, deal) = self.check_deal(slot)?;
            if deal.holder() != Some(node) {
                if deal.state != DealState::Idle || deal.node != node {
                    return Err(TxError::NotHolder {
                        slot,
                        expected: deal.holder(),
                        found: node,
                    });
                }
                reclaimed.insert(slot);
            }
            let (min, max) = (deal.acknowledged, group.revision.number);
            if entry.revision < min || entry.revision > max {
                return Err(TxError::Revision {
                    slot,
                    min,
                    max,
                    found: entry.revision,
                });
            }
        }
        self.check_reclaims(node, &reclaimed)
    }

    fn check_loss(&self, node: NodeId, slots: &[SlotRef]) -> Result<(), TxError> {
        self.check_known(node)?;
        if slots.is_empty() {
            return Err(TxError::NoSlots);
        }
        for &slot in slots {
            let (_, deal) = self.check_deal(slot)?;
            let is_leaver = deal.leaver.is_some_and(|leaver| leaver.node == node);
            if deal.holder() != Some(node) && !is_leaver {
                return Err(TxError::NotHolder {
                    slot,
                    expected: deal.holder(),
                    found: node,
                });
            }
        }
        Ok(())
    }

    fn check_known(&self, node: NodeId) -> Result<(), TxError> {
        if self.nodes.contains_key(&node) {
            return Ok(());
        }
        Err(TxError::UnknownNode { node })
    }

    fn check_group(&self, group: GroupId) -> Result<&Group, TxError> {
        self.groups
            .get(&group)
            .ok_or(TxError::UnknownGroup { group })
    }

    pub(super) fn check_deal(&self, slot: SlotRef) -> Result<(&Group, &Deal), TxError> {
        let group = self.check_group(slot.group)?;
        if slot.slot.index() >= group.code.shard_count() {
            return Err(TxError::UnknownSlot {
                slot,
                count: u32::from(group.code.n()),
            });
        }
        let deal = group
            .deal(slot.slot)
            .ok_or(TxError::NotPlaced { group: group.id })?;
        Ok((group, deal))
    }
}

/// Whether a transaction is well-formed and signed by its account for this ledger.
///
/// # Errors
///
/// [`TxError::Malformed`], [`TxError::Signer`] or [`TxError::Signature`].
pub fn check_signature(tx: &Signed<Tx>, ledger: LedgerId) -> Result<(), TxError> {
    check_form(tx)?;
    match tx.verify_for(tx.unverified().account.key(), ledger) {
        Ok(_) => Ok(()),
        Err(SignatureError::Signer {
            expected, found, ..
        }) => Err(TxError::Signer { expected, found }),
        Err(SignatureError::Invalid { signer, .. }) => Err(TxError::Signature { signer }),
    }
}

fn check_form(tx: &Signed<Tx>) -> Result<(), TxError> {
    if tx.is_well_formed() {
        Ok(())
    } else {
        Err(TxError::Malformed)
    }
}

fn check_nonce(tx: &Tx, expected: u64) -> Result<(), TxError> {
    // The last nonce is never used, so that the next one always exists.
    if tx.nonce != expected || expected == u64::MAX {
        return Err(TxError::Nonce {
            account: tx.account,
            expected,
            found: tx.nonce,
        });
    }
    Ok(())
}

/// Most bytes that the segments of a revision can have in each slot.
pub(super) fn segment_bytes_max(revision: &GroupRevision) -> ByteCount {
    let count = u64::from(revision.segment_count);
    ByteCount::new(count.saturating_mul(u64::from(SHARD_BYTES_MAX)))
}

/// Whether the node holds nothing and may register again.
fn is_gone(entry: &NodeEntry) -> bool {
    entry.status != NodeStatus::Active && entry.used == ByteCount::ZERO
}
