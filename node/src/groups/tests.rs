//! A view of a group is never older than the last block that touched it.

use cairn_core::{
    AccountId, Amount, ByteCount, GroupRevision, GroupRoot, Height, LedgerId, Profile,
    RevisionNumber, SecretKey, Signed,
};
use cairn_ledger::tx::Tx;
use cairn_ledger::{
    Account, AuditView, BlockEffects, ChallengePage, LedgerStatus, NodeEntry, SlotRef, TxOutcome,
    Witness,
};
use cairn_runtime::{Sim, SimRuntime};

use super::*;

/// A ledger of one group, whose answers are a second on their way.
#[derive(Clone, Debug)]
struct SlowLedger {
    runtime: SimRuntime,
    revision: Arc<AtomicU64>,
}

impl Ledger for SlowLedger {
    fn id(&self) -> LedgerId {
        LedgerId::default()
    }

    async fn submit(&self, _: Signed<Tx>) -> Result<TxOutcome, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn submit_proof(
        &self,
        tx: Signed<Tx>,
        _witness: Witness,
    ) -> Result<TxOutcome, LedgerError> {
        self.submit(tx).await
    }

    async fn account(&self, _: AccountId) -> Result<Account, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn node(&self, _: NodeId) -> Result<Option<NodeEntry>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn group(&self, id: GroupId) -> Result<Option<Group>, LedgerError> {
        let number = self.revision.load(Ordering::Relaxed);
        self.runtime.sleep(Duration::from_secs(1)).await;
        let owner = SecretKey::from_bytes(&[1; 32]).public();
        Ok(Some(Group {
            id,
            owner: owner.into(),
            code: Profile::Dev4.code(),
            slot_capacity: ByteCount::ZERO,
            price_max: Amount::ZERO,
            ends: Default::default(),
            ending: None,
            escrow: Amount::ZERO,
            owed: Amount::ZERO,
            opened: Height::default(),
            revision: GroupRevision {
                group: id,
                number: RevisionNumber::new(number),
                segment_count: 0,
                slot_bytes: ByteCount::ZERO,
                group_root: GroupRoot::default(),
            },
            kept: Vec::new(),
            deals: Vec::new(),
            begun: Default::default(),
            due: Default::default(),
            relaxed: Vec::new(),
            is_marked: false,
        }))
    }

    async fn slots_of(&self, _: NodeId) -> Result<Vec<SlotRef>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn challenge_page(
        &self,
        _: NodeId,
        _: Option<SlotRef>,
    ) -> Result<Option<ChallengePage>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn audit_ticket(&self, _: NodeId, _: u8) -> Result<Option<AuditView>, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn status(&self) -> Result<LedgerStatus, LedgerError> {
        Err(LedgerError::Stopped)
    }

    async fn effects(&self, _: Height) -> Result<Vec<BlockEffects>, LedgerError> {
        Err(LedgerError::Stopped)
    }
}

/// Who acts on a block and then sees the group as it was before never looks again.
#[test]
fn an_answer_from_before_a_block_is_not_remembered_after_it() {
    check(|groups, id| groups.forget(id));
}

/// The same for one who begins to follow again: simulated days with seed 313.
#[test]
fn an_answer_from_before_blocks_that_were_not_seen_is_not_remembered() {
    check(|groups, _| groups.forget_all());
}

fn check(forget: impl FnOnce(&Groups<SimRuntime, SlowLedger>, GroupId)) {
    Sim::new(1).run(async |sim| {
        let runtime = sim.machine("node").runtime();
        let ledger = SlowLedger {
            runtime: runtime.clone(),
            revision: Arc::default(),
        };
        let groups = Arc::new(Groups::new(runtime.clone(), ledger.clone()));
        let id = GroupId::default();
        let asking = runtime.spawn("asks", {
            let groups = Arc::clone(&groups);
            async move { groups.get(id, Age::Remembered).await }
        });
        sim.sleep(Duration::from_millis(500)).await;
        ledger.revision.store(1, Ordering::Relaxed);
        forget(&groups, id);
        let group = groups.get(id, Age::Remembered).await.unwrap().unwrap();
        assert_eq!(group.revision.number.get(), 1);
        let before = asking.join().await.unwrap().unwrap().unwrap();
        assert_eq!(before.revision.number.get(), 0);
        // And the newest is remembered.
        let begun = sim.elapsed();
        groups.get(id, Age::Remembered).await.unwrap().unwrap();
        assert_eq!(sim.elapsed(), begun);
    });
}
