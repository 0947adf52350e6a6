//! The one way to change the state: a block.

use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, EpochNumber, GroupId, GroupRevision, NodeId, Record,
    RevisionNumber, Signed, TxId, ViewNumber,
};

use super::check::Signatures;
use super::table::OwnGroup;
use super::{Account, PendingDraw, State};
use crate::block::{Block, BlockError, Verdict};
use crate::effect::Effect;
use crate::epoch::{Frozen, REVISIONS_KEPT, Standing};
use crate::group::{DealState, Due, Ending, Group, empty_revision};
use crate::movement::Cause;
use crate::node::{NodeEntry, NodeStatus};
use crate::seal::{BlockSeal, results};
use crate::tx::{NodeTerms, SlotRevision, Tx, TxBody, group_id, tx_id};
use crate::tx_error::TxError;
use crate::view::BlockSummary;

/// Most slots that one block draws: bounds the bytes of its effects. What is left is drawn by the
/// next blocks.
pub const SLOTS_DRAWN_MAX: usize = 2048;
/// Most nodes that one block looks at in its draws, each attempt of a draw counted once: about a
/// tenth of a second. Beyond 512 nodes it lowers [`SLOTS_DRAWN_MAX`], never below one group.
pub const NODES_DRAWN_FROM_MAX: usize = 1 << 20;

/// A transaction on its turn.
struct Attempt<'a> {
    id: TxId,
    tx: &'a Signed<Tx>,
    signatures: Signatures,
    /// Of a proof: what the block says of it, or why it is refused.
    verdict: Option<Result<Verdict, TxError>>,
}

impl State {
    /// Applies the next block: draws what earlier blocks left to be drawn, takes the slots of
    /// lost nodes, does the transactions in order, then looks at groups, and begins a term of
    /// validators at its border. Equal states and blocks give equal results.
    ///
    /// # Errors
    ///
    /// [`BlockError`] when the block does not follow; nothing is changed then.
    ///
    /// # Panics
    ///
    /// When credits are no longer conserved: our own bug.
    pub fn apply(&mut self, block: &Block) -> Result<Vec<Effect>, BlockError> {
        self.apply_with(block, Signatures::Check)
    }

    /// As [`Self::apply`] without checking the transactions' signatures: for blocks whose
    /// signatures this process has checked, and that it reads back from its own store.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`].
    ///
    /// # Panics
    ///
    /// As [`Self::apply`].
    pub fn apply_checked(&mut self, block: &Block) -> Result<Vec<Effect>, BlockError> {
        self.apply_with(block, Signatures::Checked)
    }

    fn apply_with(
        &mut self,
        block: &Block,
        signatures: Signatures,
    ) -> Result<Vec<Effect>, BlockError> {
        self.check_header(block)?;
        let mut verdicts = self.verdicts_of(block).into_iter();
        if block.verdicts.len() > verdicts.len() {
            return Err(BlockError::Verdicts {
                height: block.height,
                expected: verdicts.len(),
                found: block.verdicts.len(),
            });
        }
        self.height = block.height;
        self.tip = block.record_digest();
        self.view = block.view;
        let mut effects = Vec::new();
        self.pass_time(block.time, &block.seeds, &mut effects);
        self.draw_pending(&block.seeds, &mut effects);
        self.sweep(&mut effects);
        for node in block.lost.iter() {
            self.lose_node(*node, &mut effects);
        }
        self.enter_earnings(&effects);
        for tx in block.txs.iter() {
            let id = tx_id(tx);
            let verdict = match tx.unverified().body {
                TxBody::ProofSubmit { .. } => verdicts.next(),
                _ => None,
            };
            let tx = Attempt {
                id,
                tx,
                signatures,
                verdict,
            };
            let told = effects.len();
            let result = self.attempt(tx, &mut effects);
            self.enter_earnings(effects.get(told..).unwrap_or_default());
            effects.push(Effect::TxDone { id, result });
            self.assert_conserved();
        }
        let told = effects.len();
        self.look_at_groups(&mut effects);
        self.enter_earnings(effects.get(told..).unwrap_or_default());
        self.assert_conserved();
        self.pass_border(&mut effects);
        let summary = BlockSummary::of(block, effects.len(), results(&effects));
        self.chain = BlockSeal::of(&summary, &effects).follow(self.chain);
        self.note_changes();
        Ok(effects)
    }

    fn check_header(&self, block: &Block) -> Result<(), BlockError> {
        let height = block.height;
        let expected = self.height.next().ok_or(BlockError::End {
            height: self.height,
        })?;
        if height != expected {
            return Err(BlockError::Height {
                expected,
                found: height,
            });
        }
        if block.parent != self.tip {
            return Err(BlockError::Parent {
                height,
                expected: self.tip,
                found: block.parent,
            });
        }
        if block.time < self.time {
            return Err(BlockError::Time {
                height,
                expected: self.time,
                found: block.time,
            });
        }
        if block.view <= self.view {
            return Err(BlockError::View {
                height,
                parent: self.view,
                found: block.view,
            });
        }
        let views: Vec<ViewNumber> = block.seeds.iter().map(|seed| seed.view).collect();
        let are_before = views.last().is_none_or(|last| *last < block.view);
        if !are_before || !views.is_sorted_by(|a, b| a < b) {
            return Err(BlockError::Seeds { height });
        }
        Ok(())
    }

    /// Does a transaction, or takes what it pays when it can't be done (rule T2).
    fn attempt(&mut self, attempt: Attempt<'_>, effects: &mut Vec<Effect>) -> Result<(), TxError> {
        self.check_charge(attempt.tx, attempt.signatures)?;
        let tx = attempt.tx.unverified();
        let verdict = attempt.verdict.transpose();
        let checked = self
            .check_body(tx)
            .and_then(|()| verdict.clone().map(|_| ()));
        if checked.is_ok() {
            self.charge(tx, tx.body.outgoing(), effects);
            self.commit(attempt.id, tx, effects);
            if let Ok(Some(verdict)) = verdict {
                self.take_verdict(tx, verdict, effects);
            }
        } else if self.accounts.contains_key(&tx.account) {
            self.charge(tx, Amount::ZERO, effects);
        }
        checked
    }

    /// Does a transaction that was checked and charged.
    fn commit(&mut self, id: TxId, tx: &Tx, effects: &mut Vec<Effect>) {
        let node = NodeId::new(tx.account.key());
        match &tx.body {
            TxBody::Transfer { to, amount } => {
                self.credit(*to, *amount);
                self.tell_moved(*to, Cause::Received, *amount, effects);
            }
            TxBody::NodeRegister {
                operator, terms, ..
            } => self.register(node, *operator, terms, effects),
            TxBody::NodeUpdate { terms } => self.update(node, terms, effects),
            TxBody::NodeDrain => self.drain_node(node, effects),
            TxBody::GroupOpen { .. } => self.open(group_id(id), tx, effects),
            TxBody::GroupRevise { revision } => {
                self.keep_revision(revision.group);
                self.revise(revision);
                effects.push(Effect::Revised {
                    group: revision.group,
                    revision: revision.number,
                });
            }
            TxBody::Acknowledge { slots } => self.acknowledge(node, slots, effects),
            TxBody::DeclareLoss { slots } => {
                for slot in slots.iter() {
                    self.declare_loss(node, *slot, effects);
                }
            }
            // The verdict says what it did.
            TxBody::ProofSubmit { .. } => {}
            TxBody::NodeAddCollateral { node, amount } => self.put_down(*node, *amount, effects),
            TxBody::NodeTakeCollateral { amount } => self.take_back(node, *amount, effects),
            TxBody::NodeMaintain { epochs } => self.maintain(node, *epochs, effects),
            TxBody::GroupExtend {
                group,
                epochs,
                escrow,
            } => self.extend(*group, *epochs, *escrow, effects),
            TxBody::GroupClose { group } => self.ask_to_close(*group, effects),
            TxBody::Registry(asked) => self.commit_registry(id, tx.account, asked, effects),
            TxBody::ValidatorsChange { validators, .. } => {
                self.name_validators(validators, effects);
            }
        }
    }

    fn revise(&mut self, revision: &GroupRevision) {
        let epoch = self.epoch.number;
        let Some(group) = self.groups.get_mut(&revision.group) else {
            return;
        };
        if group.revision.number == RevisionNumber::ZERO {
            for deal in &mut group.deals {
                deal.behind_since = epoch;
            }
            group.due.since = epoch;
        }
        group.begun = Frozen {
            epoch,
            revision: group.begun.at(epoch, group.revision.number),
        };
        group.revision = *revision;
    }

    fn maintain(&mut self, node: NodeId, epochs: u32, effects: &mut Vec<Effect>) {
        let epoch = self.epoch;
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.standing.maintain(&epoch, epochs);
            entry.maintained = Some(epoch.number);
        }
        effects.push(Effect::NodeChanged(node));
    }

    fn extend(&mut self, id: GroupId, epochs: u32, escrow: Amount, effects: &mut Vec<Effect>) {
        let ends = self.extended_end(id, epochs);
        if let Some(group) = self.groups.get_mut(&id) {
            group.ends = ends.unwrap_or(group.ends);
            let owed = std::mem::take(&mut group.owed);
            let added = escrow.checked_sub(owed).expect("the escrow was checked");
            group.escrow = group
                .escrow
                .checked_add(added)
                .expect("escrows are part of the supply");
            self.enter_escrow(added);
            self.fees = self
                .fees
                .checked_add(owed)
                .expect("fees are part of the supply");
        }
        effects.push(Effect::GroupChanged(id));
    }

    fn ask_to_close(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let epoch = self.epoch.number;
        if let Some(group) = self.groups.get_mut(&id) {
            group.ending = Some(Ending::Asked(epoch));
        }
        self.mark(id);
        effects.push(Effect::GroupChanged(id));
    }

    /// Counts the transaction and takes its fee and `outgoing` out of the balance.
    fn charge(&mut self, tx: &Tx, outgoing: Amount, effects: &mut Vec<Effect>) {
        let taken = tx.fee.checked_add(outgoing).expect("the sum was checked");
        let account = self.accounts.or_default(tx.account);
        account.balance = account
            .balance
            .checked_sub(taken)
            .expect("the funds were checked");
        account.nonce = account.nonce.checked_add(1).expect("the nonce was checked");
        self.index.balances = self
            .index
            .balances
            .checked_sub(u128::from(taken.micro()))
            .expect("the sum of balances holds each of them");
        self.fees = self
            .fees
            .checked_add(tx.fee)
            .expect("fees are part of the supply");
        self.tell_moved(tx.account, Cause::Fee, tx.fee, effects);
        if let Some(cause) = Cause::of_outgoing(&tx.body) {
            self.tell_moved(tx.account, cause, outgoing, effects);
        }
    }

    pub(super) fn credit(&mut self, to: AccountId, amount: Amount) {
        let account: &mut Account = self.accounts.or_default(to);
        account.balance = account
            .balance
            .checked_add(amount)
            .expect("balances are part of the supply");
        self.index.balances = self
            .index
            .balances
            .checked_add(u128::from(amount.micro()))
            .expect("a sum of 2^64 amounts fits");
    }

    fn register(
        &mut self,
        node: NodeId,
        operator: AccountId,
        terms: &NodeTerms,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.nodes.get(&node);
        let before = known.map(|entry| entry.standing);
        let collateral = known.map_or(Amount::ZERO, |entry| entry.collateral);
        let maintained = known.and_then(|entry| entry.maintained);
        let score = known.map(|entry| entry.score.clone()).unwrap_or_default();
        let entry = NodeEntry {
            node,
            operator,
            terms: terms.clone(),
            used: ByteCount::ZERO,
            status: NodeStatus::Active,
            standing: Standing::register(before, &self.epoch),
            collateral,
            locked: Amount::ZERO,
            maintained,
            score,
        };
        // One that was there is draining or lost and holds nothing.
        self.nodes.insert(node, entry);
        self.index.active_count = self.index.active_count.saturating_add(1);
        self.retry_waiting();
        effects.push(Effect::NodeChanged(node));
    }

    fn update(&mut self, node: NodeId, terms: &NodeTerms, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.terms = terms.clone();
        }
        self.retry_waiting();
        effects.push(Effect::NodeChanged(node));
    }

    fn open(&mut self, id: GroupId, tx: &Tx, effects: &mut Vec<Effect>) {
        let TxBody::GroupOpen {
            code,
            slot_capacity,
            price_max,
            term_epochs,
            escrow,
        } = tx.body
        else {
            return;
        };
        let group = Group {
            id,
            owner: tx.account,
            code,
            slot_capacity,
            price_max,
            ends: self.term_end(term_epochs),
            ending: None,
            escrow,
            owed: Amount::ZERO,
            opened: self.height,
            revision: empty_revision(id),
            begun: Frozen {
                epoch: self.epoch.number,
                revision: RevisionNumber::ZERO,
            },
            kept: Vec::new(),
            due: Due {
                since: self.epoch.number,
                ..Due::default()
            },
            deals: Vec::new(),
            relaxed: Vec::new(),
            is_marked: false,
        };
        self.groups.insert(id, group);
        self.index.groups.insert((tx.account, id), OwnGroup);
        self.index.slot_count = self
            .index
            .slot_count
            .checked_add(u64::from(code.n()))
            .expect("the table's bound was checked");
        self.enter_escrow(escrow);
        self.queue_draw(PendingDraw::Group(id));
        effects.push(Effect::GroupOpened(id));
    }

    /// The last epoch of a term that begins in the one that runs.
    fn term_end(&self, epochs: u32) -> EpochNumber {
        let number = self.epoch.number.get();
        EpochNumber::new(number.saturating_add(u64::from(epochs)))
    }

    /// The last epoch of a group's term once it is extended; `None` for an unknown group.
    pub(super) fn extended_end(&self, id: GroupId, epochs: u32) -> Option<EpochNumber> {
        let ends = self.groups.get(&id)?.ends.max(self.epoch.number);
        Some(EpochNumber::new(
            ends.get().saturating_add(u64::from(epochs)),
        ))
    }

    fn acknowledge(
        &mut self,
        node: NodeId,
        slots: &Bounded<SlotRevision, { crate::tx::SLOTS_PER_TX_MAX }>,
        effects: &mut Vec<Effect>,
    ) {
        let epoch = self.epoch.number;
        for entry in slots.iter() {
            let slot = entry.slot_ref();
            if self.is_forgotten(entry) {
                continue;
            }
            self.reclaim(slot, node, effects);
            let Some(deal) = self.deal_mut(slot) else {
                continue;
            };
            // A list may name a slot twice; the highest counts.
            if entry.revision > deal.acknowledged {
                deal.acknowledge(entry.revision, epoch);
                effects.push(Effect::Acknowledged {
                    slot,
                    revision: entry.revision,
                });
            }
            let ended = deal
                .leaver
                .filter(|leaver| deal.acknowledged >= leaver.acknowledged);
            if let Some(leaver) = ended {
                if self.has_lapsed(leaver.node) {
                    // A look takes what it forfeits.
                    self.mark(slot.group);
                } else {
                    self.end_leaver(slot, effects);
                }
            }
        }
    }

    /// Whether an acknowledged revision is none of the newest any more. With epochs such an entry
    /// counts for nothing: nodes rely on it to know what they may have to prove.
    fn is_forgotten(&self, entry: &SlotRevision) -> bool {
        let group = self.groups.get(&entry.group);
        let is_recent = |group: &Group| {
            let oldest = group.revision.number.get().saturating_sub(REVISIONS_KEPT);
            entry.revision.get() >= oldest && group.revision_at(entry.revision).is_some()
        };
        self.has_epochs() && !group.is_some_and(is_recent)
    }

    /// Slots of a node that drains: those it holds go to successors, and it keeps those that it
    /// has something of until they have it.
    fn drain_node(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        self.set_status(node, NodeStatus::Draining);
        effects.push(Effect::NodeChanged(node));
        for slot in self.slots_of(node, None).collect::<Vec<_>>() {
            let Some(deal) = self.deal_mut(slot).filter(|deal| deal.node == node) else {
                continue;
            };
            let has_something = deal.acknowledged.get() > 0 && deal.leaver.is_none();
            if has_something {
                deal.state = DealState::Leaving;
            } else {
                self.unbind(slot, node);
                self.set_state(slot, DealState::Vacant);
            }
            self.queue_draw(PendingDraw::Slot(slot));
        }
    }
}
