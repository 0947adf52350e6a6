//! The real ledger's state, driven by a block per transaction.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, GroupId, Height, LedgerId, NodeId, SecretKey, Signed,
    TransportError, UnixMillis, ViewNumber,
};
use cairn_ledger::block::SEEDS_MAX;
use cairn_ledger::{
    Account, AuditView, Block, BlockEffects, ChallengePage, Effect, Genesis, Group, Ledger,
    LedgerError, LedgerStatus, NodeEntry, NodeTerms, Parameters, SlotRef, State, Tx, TxBody,
    TxOutcome, ViewSeed, Witness, operator_consent, tx_id,
};

#[derive(Clone, Debug)]
pub(crate) struct MemoryLedger {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    /// Refuses all that is asked.
    is_down: bool,
    /// Loses the answer to the next submission, which is done all the same.
    loses_answer: bool,
    /// Time that has passed besides that of the blocks.
    passed_ms: u64,
    /// What nodes ask.
    price: Amount,
    asked: Asked,
}

/// Which groups were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// In order.
    pub(crate) groups: Vec<GroupId>,
    asking: usize,
    /// Most of them at once.
    pub(crate) at_once_max: usize,
}

impl MemoryLedger {
    /// On a ledger with these parameters, with nodes that ask `price` per GiB and epoch.
    pub(crate) fn new(owner: AccountId, parameters: Parameters, price: Amount) -> Self {
        let genesis = Genesis {
            time: UnixMillis::new(1),
            parameters,
            endowed: Bounded::new(vec![(owner, Amount::from_micro(1_000_000_000))]).unwrap(),
            validators: None,
        };
        let shared = Shared {
            state: State::genesis(&genesis).unwrap(),
            is_down: false,
            loses_answer: false,
            passed_ms: 0,
            price,
            asked: Asked::default(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers nothing from now on.
    pub(crate) fn take_down(&self) {
        self.lock().is_down = true;
    }

    pub(crate) fn lose_next_answer(&self) {
        self.lock().loses_answer = true;
    }

    /// Registers a node of its own operator.
    pub(crate) fn register(&self, key: &SecretKey, number: u8) {
        let account = AccountId::new(key.public());
        let node = NodeId::new(key.public());
        let label = |text: String| cairn_core::Text::new(text).unwrap();
        let body = TxBody::NodeRegister {
            operator: account,
            operator_consent: operator_consent(self.id(), key, node),
            terms: NodeTerms {
                capacity: ByteCount::new(1 << 40),
                price: self.lock().price,
                network: label(format!("10.{number}.0.0/16")),
                provider: label(format!("provider {number}")),
                region: label(format!("region {number}")),
            },
        };
        let tx = Tx {
            account,
            nonce: 0,
            fee: Amount::ZERO,
            body,
        };
        self.block(vec![Signed::sign_for(tx, self.id(), key)], vec![]);
    }

    /// Calls nodes lost: their slots are drawn anew.
    pub(crate) fn lose(&self, node: NodeId) {
        self.block(vec![], vec![node]);
        self.block(vec![], vec![]);
    }

    /// Lets so many epochs pass, in which nobody proves.
    pub(crate) fn pass_epochs(&self, count: u32) {
        for _ in 0..count {
            let length = self.lock().state.parameters().epoch_millis;
            self.lock().passed_ms += length;
            self.block(vec![], vec![]);
        }
    }

    /// Which groups were asked for since this was asked last.
    pub(crate) fn take_asked(&self) -> Asked {
        std::mem::take(&mut self.lock().asked)
    }

    pub(crate) fn group_now(&self, id: GroupId) -> Option<Group> {
        self.lock().state.group(id).cloned()
    }

    fn block(&self, txs: Vec<Signed<Tx>>, lost: Vec<NodeId>) -> Vec<Effect> {
        let mut shared = self.lock();
        let Shared {
            state, passed_ms, ..
        } = &mut *shared;
        let height = state.height().next().unwrap();
        let before = state.view();
        let block = Block {
            height,
            parent: state.tip(),
            time: UnixMillis::new(1_000 * height.get() + *passed_ms),
            view: before.next().expect("few blocks"),
            seeds: seeds(before),
            lost: Bounded::new(lost).unwrap(),
            txs: Bounded::new(txs).unwrap(),
            verdicts: Bounded::empty(),
        };
        state.apply(&block).unwrap()
    }

    fn up(&self) -> Result<MutexGuard<'_, Shared>, LedgerError> {
        let shared = self.lock();
        if shared.is_down {
            return Err(LedgerError::Unavailable {
                cause: TransportError::Unreachable,
            });
        }
        Ok(shared)
    }
}

impl Ledger for MemoryLedger {
    fn id(&self) -> LedgerId {
        self.lock().state.ledger_id()
    }

    async fn submit(&self, tx: Signed<Tx>) -> Result<TxOutcome, LedgerError> {
        drop(self.up()?);
        let id = tx_id(&tx);
        let effects = self.block(vec![tx], vec![]);
        // The next block draws what this one opened.
        self.block(vec![], vec![]);
        if std::mem::take(&mut self.lock().loses_answer) {
            return Err(LedgerError::Unavailable {
                cause: TransportError::TimedOut,
            });
        }
        for effect in effects {
            if let Effect::TxDone { id: done, result } = effect
                && done == id
            {
                return result
                    .map(|()| TxOutcome {
                        id,
                        height: self.lock().state.height(),
                    })
                    .map_err(LedgerError::Refused);
            }
        }
        Err(LedgerError::Answer)
    }

    async fn submit_proof(
        &self,
        tx: Signed<Tx>,
        _witness: Witness,
    ) -> Result<TxOutcome, LedgerError> {
        self.submit(tx).await
    }

    async fn account(&self, id: AccountId) -> Result<Account, LedgerError> {
        Ok(self.up()?.state.account(id))
    }

    async fn node(&self, id: NodeId) -> Result<Option<NodeEntry>, LedgerError> {
        Ok(self.up()?.state.node(id).cloned())
    }

    async fn group(&self, id: GroupId) -> Result<Option<Group>, LedgerError> {
        {
            let mut shared = self.up()?;
            let asked = &mut shared.asked;
            asked.groups.push(id);
            asked.asking += 1;
            asked.at_once_max = asked.at_once_max.max(asked.asking);
        }
        // Others ask meanwhile.
        tokio::task::yield_now().await;
        let mut shared = self.lock();
        shared.asked.asking = shared.asked.asking.saturating_sub(1);
        Ok(shared.state.group(id).cloned())
    }

    async fn slots_of(&self, _node: NodeId) -> Result<Vec<SlotRef>, LedgerError> {
        drop(self.up()?);
        Ok(Vec::new())
    }

    async fn challenge_page(
        &self,
        _node: NodeId,
        _after: Option<SlotRef>,
    ) -> Result<Option<ChallengePage>, LedgerError> {
        drop(self.up()?);
        Ok(None)
    }

    async fn audit_ticket(
        &self,
        _auditor: NodeId,
        _number: u8,
    ) -> Result<Option<AuditView>, LedgerError> {
        drop(self.up()?);
        Ok(None)
    }

    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        let shared = self.up()?;
        let state = &shared.state;
        Ok(LedgerStatus {
            height: state.height(),
            time: state.time(),
            ledger: state.ledger_id(),
            tip: state.tip(),
            epoch: state.epoch().number,
            node_count: 0,
            active_node_count: 0,
            group_count: 0,
            waiting_slot_count: 0,
            supply: state.supply(),
            parameters: *state.parameters(),
        })
    }

    async fn effects(&self, _from: Height) -> Result<Vec<BlockEffects>, LedgerError> {
        drop(self.up()?);
        Ok(Vec::new())
    }
}

/// What a block in the view after `view` carries.
fn seeds(view: ViewNumber) -> Bounded<ViewSeed, SEEDS_MAX> {
    let number = view.get().to_le_bytes();
    let signature = Bounded::new(number.to_vec()).expect("8 bytes");
    Bounded::new(vec![ViewSeed { view, signature }]).expect("one")
}
