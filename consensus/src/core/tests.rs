//! What becomes of transactions when blocks are made by others, and who may wait here.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use cairn_core::{AccountId, Bounded, ByteCount, Digest, EpochNumber, SecretKey, Text};
use cairn_ledger::tx::operator_consent;
use cairn_ledger::{AuditReport, Block, Genesis, NodeTerms, Parameters, Question, TxBody, Witness};
use cairn_runtime::{RealRuntime, Task};

use super::*;
use crate::seed::SeedSource;
use crate::store;

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn account(number: u8) -> AccountId {
    AccountId::new(key(number).public())
}

fn genesis() -> Genesis {
    Genesis {
        time: UnixMillis::new(1_700_000_000_000),
        parameters: Parameters::default(),
        endowed: Bounded::new(vec![(account(1), Amount::from_micro(1_000_000))]).unwrap(),
        validators: None,
    }
}

fn signed(number: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
    let tx = Tx {
        account: account(number),
        nonce,
        fee: Amount::ZERO,
        body,
    };
    Signed::sign_for(tx, genesis().ledger_id(), &key(number))
}

fn transfer(nonce: u64) -> Signed<Tx> {
    let body = TxBody::Transfer {
        to: account(2),
        amount: Amount::from_micro(1),
    };
    signed(1, nonce, body)
}

/// One of many that nobody knows.
fn stranger(number: u64) -> SecretKey {
    let mut secret = [0xf0; 32];
    secret[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(&secret)
}

/// A ledger whose blocks are made by the test.
pub(crate) struct Bench {
    pub(crate) core: Arc<Core<RealRuntime>>,
    seeds: SeedSource,
}

impl Bench {
    fn new(runtime: &RealRuntime, folder: &Path) -> Self {
        Self::with(runtime, folder, Attester::Alone(Box::new(key(7))))
    }

    pub(crate) fn with(runtime: &RealRuntime, folder: &Path, attester: Attester) -> Self {
        let disk = runtime.disk();
        store::create(disk, folder, &genesis(), Some(&key(7))).unwrap();
        let loaded = store::open(disk, folder).unwrap();
        let seeds = SeedSource::of(&loaded).unwrap();
        let settings = Settings {
            folder: folder.to_owned(),
            state_interval_blocks: 1024,
            poll_limit: Duration::from_millis(50),
        };
        let core = Core::new(runtime.clone(), settings, loaded, attester);
        Self {
            core: Arc::new(core),
            seeds,
        }
    }

    /// Commits a block of these.
    pub(crate) fn commit(&self, txs: Vec<Signed<Tx>>) {
        let block = self.core.read(|state| Block {
            height: state.height().next().unwrap(),
            parent: state.tip(),
            time: state.time(),
            view: state.view().next().unwrap(),
            seeds: Bounded::new(vec![self.seeds.seed(state.view())]).unwrap(),
            lost: Bounded::empty(),
            verdicts: Bounded::new(judge(state, &txs, &[])).unwrap(),
            txs: Bounded::new(txs).unwrap(),
        });
        self.core.commit(&block).unwrap();
    }

    /// Submits it; gives what becomes of it.
    fn submit(&self, tx: &Signed<Tx>) -> Task<Result<TxOutcome, LedgerError>> {
        let core = Arc::clone(&self.core);
        let tx = tx.clone();
        let submitted = Submitted { tx, witness: None };
        let runtime = self.core.runtime.clone();
        runtime.spawn("submission", async move {
            core.submit(submitted, Source::Process).await
        })
    }

    /// Waits until so many transactions of the payer wait.
    async fn waiting(&self, count: usize) {
        while self.core.mempool().waiting_of(account(1)).count != count {
            self.core.runtime.sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Who leads may turn two transactions of an account round: the second is done later all the same.
#[test]
fn a_transaction_that_a_leader_put_too_early_is_done_later() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(&runtime, &folder.path().join("ledger"));
        let (first, second) = (transfer(0), transfer(1));
        let done = bench.submit(&first);
        bench.waiting(1).await;
        let also_done = bench.submit(&second);
        bench.waiting(2).await;
        bench.commit(vec![second.clone(), first.clone()]);
        assert_eq!(done.join().await.unwrap().unwrap().height, Height::new(1));
        let batch = bench.core.select(&BTreeSet::new());
        assert_eq!(batch.txs, [second], "it still waits");
        bench.commit(batch.txs);
        assert_eq!(
            also_done.join().await.unwrap().unwrap().height,
            Height::new(2)
        );
    })
    .unwrap();
}

/// One that can't be done before another that is nowhere to be seen is refused: it would be put into
/// every block in vain.
#[test]
fn a_transaction_behind_a_gap_is_refused() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(&runtime, &folder.path().join("ledger"));
        let (first, second) = (transfer(0), transfer(1));
        let refused = bench.submit(&first);
        bench.waiting(1).await;
        let behind = bench.submit(&second);
        bench.waiting(2).await;
        {
            let mut mempool = bench.core.mempool();
            mempool.settle(tx_id(&first), &Err(LedgerError::Stopped));
        }
        assert_eq!(refused.join().await.unwrap(), Err(LedgerError::Stopped));
        bench.commit(vec![second]);
        let error = behind.join().await.unwrap().unwrap_err();
        assert!(
            matches!(error, LedgerError::Refused(TxError::Nonce { .. })),
            "{error}"
        );
    })
    .unwrap();
}

/// A validator that passes on all that it can gets its part of the room, and peers here the rest.
#[test]
fn one_validator_can_not_fill_the_others_room() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(&runtime, &folder.path().join("ledger"));
        let source = |number| Source::Validator {
            validator: NodeId::new(key(number).public()),
            count: NonZeroUsize::new(4).unwrap(),
        };
        let free = |number: u64, body: TxBody| {
            let key = stranger(number);
            let tx = Tx {
                account: AccountId::new(key.public()),
                nonce: 0,
                fee: Amount::ZERO,
                body,
            };
            Signed::sign_for(tx, genesis().ledger_id(), &key)
        };
        // Of nobody's, with a proof of nothing.
        let witness = Witness::new(vec![7; 100]).unwrap();
        let proof = TxBody::ProofSubmit {
            epoch: EpochNumber::new(1),
            witness: Digest::of(&witness),
            audits: AuditReport::default(),
        };
        let garbage = Submitted {
            tx: free(0, proof),
            witness: Some(witness),
        };
        bench.core.queue_forwarded(garbage, source(1)).unwrap();
        assert!(!bench.core.mempool().has_beyond(&BTreeSet::new()));
        // What a new account may do for nothing.
        let register = |number: u64| {
            let node = NodeId::new(stranger(number).public());
            TxBody::NodeRegister {
                operator: account(1),
                operator_consent: operator_consent(genesis().ledger_id(), &key(1), node),
                terms: NodeTerms {
                    capacity: ByteCount::new(1 << 30),
                    price: Amount::from_micro(1),
                    network: Text::new("203.0.113.0/24").unwrap(),
                    provider: Text::new("provider").unwrap(),
                    region: Text::new("region").unwrap(),
                },
            }
        };
        let share = crate::mempool::COUNT_MAX / 4;
        let forward = |number: u64, from: u8| {
            let tx = free(number, register(number));
            let submitted = Submitted { tx, witness: None };
            bench.core.queue_forwarded(submitted, source(from)).unwrap();
        };
        let more = u64::try_from(share + 5).unwrap();
        for number in 1..=more {
            forward(number, 1);
        }
        let mut taken = BTreeSet::new();
        loop {
            let txs = bench.core.select(&taken).txs;
            if txs.is_empty() {
                break;
            }
            taken.extend(txs.iter().map(tx_id));
        }
        let count = taken.len();
        assert_eq!(count, share, "no more than its part");
        forward(more + 1, 2);
        assert!(bench.core.mempool().has_beyond(&taken), "another has room");
    })
    .unwrap();
}

/// Who asks for heights that are far off waits for nothing, and so takes no place.
#[test]
fn a_height_far_off_is_not_waited_for() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(&runtime, &folder.path().join("ledger"));
        let ask = |height| bench.core.evidence(Question::Status, Height::new(height));
        let places: Vec<_> = (0..POLLS_MAX).map(|_| bench.core.poll().unwrap()).collect();
        let behind = ask(1_000).await.unwrap_err();
        assert!(matches!(behind, LedgerError::Behind { .. }), "{behind}");
        // One that is near is waited for, as long as there is a place.
        let busy = ask(1).await.unwrap_err();
        assert!(matches!(busy, LedgerError::Busy { .. }), "{busy}");
        // What is there needs none.
        assert!(ask(0).await.is_ok());
        drop(places);
        let behind = ask(1).await.unwrap_err();
        assert!(matches!(behind, LedgerError::Behind { .. }), "{behind}");
    })
    .unwrap();
}
