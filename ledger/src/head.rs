//! What a state is, apart from its tables and queues.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::{Amount, Digest, EpochNumber, Height, LedgerId, UnixMillis, ViewNumber};

use crate::epoch::Epoch;
use crate::genesis::Parameters;
use crate::port::LedgerStatus;
use crate::view::EpochView;

/// A state without its tables and queues. One entry of the trie.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Head {
    pub(crate) ledger: LedgerId,
    pub(crate) parameters: Parameters,
    pub(crate) supply: Amount,
    pub(crate) fees: Amount,
    pub(crate) height: Height,
    pub(crate) time: UnixMillis,
    pub(crate) tip: Digest,
    pub(crate) view: ViewNumber,
    pub(crate) chain: Digest,
    pub(crate) began: UnixMillis,
    pub(crate) epoch: Epoch,
    pub(crate) node_count: u64,
    pub(crate) active_node_count: u64,
    pub(crate) group_count: u64,
    pub(crate) waiting_slot_count: u64,
    /// Valid and invalid proofs of the epoch that runs.
    pub(crate) verdicts: (u64, u64),
    /// Among how many nodes the audits of the epoch that runs are drawn.
    pub(crate) audit_node_count: u64,
}

impl Head {
    pub(crate) const fn status(&self) -> LedgerStatus {
        LedgerStatus {
            height: self.height,
            time: self.time,
            ledger: self.ledger,
            tip: self.tip,
            epoch: self.epoch.number,
            node_count: self.node_count,
            active_node_count: self.active_node_count,
            group_count: self.group_count,
            waiting_slot_count: self.waiting_slot_count,
            supply: self.supply,
            parameters: self.parameters,
        }
    }

    pub(crate) const fn epoch_view(&self) -> EpochView {
        let length = self.parameters.epoch_millis;
        let age = self.epoch.number.get().saturating_mul(length);
        let (valid_count, invalid_count) = self.verdicts;
        EpochView {
            epoch: self.epoch,
            epoch_millis: length,
            began: UnixMillis::new(self.began.get().saturating_add(age)),
            time: self.time,
            active_node_count: self.active_node_count,
            valid_count,
            invalid_count,
        }
    }

    /// The epoch that runs; `None` on a ledger without epochs.
    pub(crate) fn running(&self) -> Option<EpochNumber> {
        (self.parameters.epoch_millis > 0).then_some(self.epoch.number)
    }
}
