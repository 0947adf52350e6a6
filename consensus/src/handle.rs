//! What a handle on a ledger in this process answers: from its core, whoever makes the blocks.

/// Implements `Ledger` for a handle whose `owner` has the `core`.
macro_rules! impl_ledger {
    ($handle:ident) => {
        impl<R: Runtime> Ledger for $handle<R> {
            fn id(&self) -> LedgerId {
                self.owner.core.ledger
            }

            async fn submit(&self, tx: Signed<Tx>) -> Result<TxOutcome, LedgerError> {
                let tx = Submitted { tx, witness: None };
                self.owner.core.submit(tx, Source::Process).await
            }

            async fn submit_proof(
                &self,
                tx: Signed<Tx>,
                witness: Witness,
            ) -> Result<TxOutcome, LedgerError> {
                let witness = Some(witness);
                let tx = Submitted { tx, witness };
                self.owner.core.submit(tx, Source::Process).await
            }

            async fn account(&self, id: AccountId) -> Result<Account, LedgerError> {
                Ok(self.owner.core.read(|state| state.account(id)))
            }

            async fn node(&self, id: NodeId) -> Result<Option<NodeEntry>, LedgerError> {
                Ok(self.owner.core.read(|state| state.node(id).cloned()))
            }

            async fn group(&self, id: GroupId) -> Result<Option<Group>, LedgerError> {
                Ok(self.owner.core.read(|state| state.group(id).cloned()))
            }

            async fn slots_of(&self, node: NodeId) -> Result<Vec<SlotRef>, LedgerError> {
                Ok(self
                    .owner
                    .core
                    .read(|state| state.slots_of(node, None).collect()))
            }

            async fn challenge_page(
                &self,
                node: NodeId,
                after: Option<SlotRef>,
            ) -> Result<Option<ChallengePage>, LedgerError> {
                Ok(self
                    .owner
                    .core
                    .read(|state| state.challenge_page(node, after)))
            }

            async fn audit_ticket(
                &self,
                auditor: NodeId,
                number: u8,
            ) -> Result<Option<AuditView>, LedgerError> {
                Ok(self
                    .owner
                    .core
                    .read(|state| state.audit_ticket(auditor, number)))
            }

            async fn status(&self) -> Result<LedgerStatus, LedgerError> {
                Ok(self.owner.core.read(cairn_ledger::State::status))
            }

            async fn effects(&self, from: Height) -> Result<Vec<BlockEffects>, LedgerError> {
                self.owner.core.effects(from).await
            }
        }
    };
}

pub(crate) use impl_ledger;
