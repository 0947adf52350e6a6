//! Challenges and verdicts.
//!
//! Whether a proof answers its challenge is decided once, on the state before its block, by
//! whoever has the proof: [`State::judge`]. The block carries the verdict, and applying it needs
//! the verdict only. That state decides because everything that a challenge is made of stays as it
//! is for the whole epoch.

use std::collections::BTreeSet;

use cairn_core::{Digest, EpochNumber, NodeId, Record, TxId};
use cairn_proofs::challenge::SAMPLES_MAX;
use cairn_proofs::{AcknowledgedSlot, Challenge, Proof, verify};

use super::State;
use crate::block::{Block, Verdict};
use crate::effect::Effect;
use crate::query;
use crate::tx::{Tx, TxBody, tx_id};
use crate::tx_error::TxError;

/// Why a block's verdicts are not to be agreed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// The proof can't be judged: the transaction has no place in this block.
    #[error("transaction {id}: {cause}")]
    Unjudged {
        /// The transaction.
        id: TxId,
        /// Why.
        cause: Box<TxError>,
    },
    /// The block says another thing than the proof.
    #[error("transaction {id}: expected verdict {expected:?}, found {found:?}")]
    Other {
        /// The transaction.
        id: TxId,
        /// What the proof says.
        expected: Verdict,
        /// What the block says.
        found: Verdict,
    },
    /// The block has more verdicts than proofs.
    #[error("expected {expected} verdicts, found {found}")]
    Count {
        /// Its proofs.
        expected: usize,
        /// Its verdicts.
        found: usize,
    },
}

impl State {
    /// What a node must show in the epoch that runs. The same for the whole epoch, whatever happens
    /// to its slots. `None` before the seed is known, for an unknown node, and once its proof is
    /// judged.
    #[must_use]
    pub fn challenge(&self, node: NodeId) -> Option<Challenge> {
        let Ok(draw) = query::draw_for(self, node);
        let draw = draw?;
        let slots = self.frozen_slots(node);
        let slots: Vec<AcknowledgedSlot> = slots.into_iter().map(AcknowledgedSlot::from).collect();
        // The list is in order, and its revisions were checked when they were published.
        Challenge::draw(&draw, &slots).ok()
    }

    /// What the proof says that a `ProofSubmit` stands for, if it came in the next block: `witness`
    /// is the proof's encoding.
    ///
    /// Cost: the node's slots, and [`verify`].
    ///
    /// # Errors
    ///
    /// [`TxError`] when the transaction has no place in the next block.
    pub fn judge(&self, tx: &Tx, witness: &[u8]) -> Result<Verdict, TxError> {
        let TxBody::ProofSubmit {
            epoch,
            witness: expected,
            ..
        } = tx.body
        else {
            return Err(TxError::Malformed);
        };
        let node = NodeId::new(tx.account.key());
        self.check_proof(node, epoch)?;
        let found = Digest::of(witness);
        let other = TxError::Witness { expected, found };
        if found != expected {
            return Err(other);
        }
        let proof = Proof::decode(witness).map_err(|_| other)?;
        let challenge = self.challenge(node).ok_or(TxError::NoSeed { epoch })?;
        Ok(match verify(&challenge, &proof) {
            Ok(()) => Verdict::Valid,
            Err(_) => Verdict::Invalid,
        })
    }

    /// Whether the verdicts of the next block are those of its proofs. Whoever votes for a block
    /// asks this first; `witness` gives the bytes of a digest. Of each node the first is judged, and
    /// the verdict of any other is missing.
    ///
    /// # Errors
    ///
    /// [`VerdictError`] names the first that is not.
    pub fn check_verdicts<'a>(
        &self,
        block: &Block,
        witness: impl Fn(Digest) -> Option<&'a [u8]>,
    ) -> Result<(), VerdictError> {
        let mut verdicts = block.verdicts.iter();
        let mut expected_count = 0_usize;
        let mut judged_of = BTreeSet::new();
        for signed in block.txs.iter() {
            let tx = signed.unverified();
            let TxBody::ProofSubmit {
                witness: digest, ..
            } = tx.body
            else {
                continue;
            };
            expected_count = expected_count.saturating_add(1);
            let id = tx_id(signed);
            let expected = if judged_of.insert(tx.account) {
                let judged = witness(digest)
                    .ok_or(TxError::Unwitnessed { witness: digest })
                    .and_then(|bytes| self.judge(tx, bytes));
                judged.map_err(|cause| VerdictError::Unjudged {
                    id,
                    cause: Box::new(cause),
                })?
            } else {
                // One of a node is judged: more would cost as much each, for a fee.
                Verdict::Missing
            };
            let found = verdicts.next().copied().unwrap_or(Verdict::Missing);
            if found != expected {
                return Err(VerdictError::Other {
                    id,
                    expected,
                    found,
                });
            }
        }
        if block.verdicts.len() > expected_count {
            return Err(VerdictError::Count {
                expected: expected_count,
                found: block.verdicts.len(),
            });
        }
        Ok(())
    }

    /// Whether a proof of the node can be judged.
    pub(super) fn check_proof(&self, node: NodeId, found: EpochNumber) -> Result<(), TxError> {
        let entry = self.nodes.get(&node).ok_or(TxError::UnknownNode { node })?;
        let expected = self.epoch.number;
        if found != expected {
            return Err(TxError::Epoch { expected, found });
        }
        if self.epoch.seed.is_none() {
            return Err(TxError::NoSeed { epoch: expected });
        }
        if entry.standing.verdict_of(expected).is_some() {
            return Err(TxError::Judged {
                node,
                epoch: expected,
            });
        }
        Ok(())
    }

    /// What the block says of each of its proofs, asked of the state before the block.
    pub(super) fn verdicts_of(&self, block: &Block) -> Vec<Result<Verdict, TxError>> {
        let mut verdicts = block.verdicts.iter();
        let mut judged = Vec::new();
        let mut judged_of = BTreeSet::new();
        for tx in block.txs.iter().map(|tx| tx.unverified()) {
            let TxBody::ProofSubmit { epoch, witness, .. } = tx.body else {
                continue;
            };
            let verdict = verdicts.next().copied().unwrap_or(Verdict::Missing);
            let node = NodeId::new(tx.account.key());
            if !judged_of.insert(node) {
                judged.push(Err(TxError::Judged { node, epoch }));
                continue;
            }
            judged.push(match (self.check_proof(node, epoch), verdict) {
                (Err(error), _) => Err(error),
                (Ok(()), Verdict::Missing) => Err(TxError::Unwitnessed { witness }),
                (Ok(()), verdict @ (Verdict::Invalid | Verdict::Valid)) => Ok(verdict),
            });
        }
        judged
    }

    /// Takes the verdict of a `ProofSubmit` over, and what it says of audits if it showed something.
    pub(super) fn take_verdict(&mut self, tx: &Tx, verdict: Verdict, effects: &mut Vec<Effect>) {
        let epoch = self.epoch;
        let node = NodeId::new(tx.account.key());
        let Some(entry) = self.nodes.get_mut(&node) else {
            return;
        };
        let had_lapsed = entry.standing.lapses(&epoch) > 0;
        let was_strict = entry.standing.sample_count(&epoch) == SAMPLES_MAX;
        entry.standing.judge(&epoch, verdict, entry.maintained);
        self.index.count_verdict(verdict);
        if had_lapsed && verdict == Verdict::Valid {
            // It is drawn again.
            self.retry_waiting();
        }
        effects.push(Effect::Judged {
            node,
            epoch: epoch.number,
            verdict,
        });
        match verdict {
            Verdict::Valid => {
                if self.pay_node(node, effects) {
                    self.take_audits(tx);
                }
            }
            Verdict::Invalid => {
                self.slash(node, effects);
                if was_strict {
                    self.lose_node(node, effects);
                }
            }
            Verdict::Missing => {}
        }
    }
}
