//! Peers that flood the sequencer, and others beside them.

use std::task::Poll;
use std::time::Duration;

use cairn_core::{
    Amount, Bounded, GroupId, Height, LedgerTransport, NodeId, Record, RevisionNumber, Signed,
    SlotIndex, TransportError,
};
use cairn_ledger::tx::SLOTS_PER_TX_MAX;
use cairn_ledger::{
    Answer, Genesis, Ledger, LedgerError, LedgerRequest, LedgerResponse, Parameters, Question,
    RemoteLedger, SlotRevision, Tx, TxBody, TxError, TxOutcome,
};
use cairn_runtime::sim::SimRuntime;
use cairn_runtime::{Runtime, Sim, Task};

use super::{account, genesis, key, register, sim_folder, transfer};
use crate::admission::{ATTEMPT_REFILL, ATTEMPTS_MAX, POLLS_PER_PEER_MAX};
use crate::sequencer::{Config, Sequencer};

/// Blocks after which a transaction is final beside one flooding peer: the one that is being made,
/// four of the flood, its own.
const BLOCKS_BESIDE_A_FLOOD_MAX: u64 = 6;
/// The peer that floods.
const SPAMMER: u8 = 201;
/// Another.
const HONEST: u8 = 202;

fn peer(number: u8) -> NodeId {
    NodeId::new(key(number).public())
}

async fn opened(runtime: &SimRuntime, genesis: &Genesis) -> Sequencer<SimRuntime> {
    Sequencer::create(runtime, sim_folder(), genesis)
        .await
        .unwrap();
    let config = Config {
        poll_limit: Duration::from_secs(5),
        ..Config::new(sim_folder())
    };
    Sequencer::open(runtime.clone(), config).await.unwrap()
}

fn with_fee(micro: u64) -> Genesis {
    Genesis {
        parameters: Parameters {
            fee_min: Amount::from_micro(micro),
            ..Parameters::default()
        },
        ..genesis()
    }
}

/// Signed for the sequencer's ledger, with its least fee.
fn signed(sequencer: &Sequencer<SimRuntime>, number: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
    let tx = Tx {
        account: account(number),
        nonce,
        fee: sequencer
            .owner
            .core
            .read(|state| state.parameters().fee_min),
        body,
    };
    Signed::sign_for(tx, sequencer.id(), &key(number))
}

/// The largest transaction there is. Of an account that is no node it fails when it is ordered.
fn largest() -> TxBody {
    let slot = SlotRevision {
        group: GroupId::default(),
        slot: SlotIndex::new(0),
        revision: RevisionNumber::new(1),
    };
    TxBody::Acknowledge {
        slots: Bounded::new(vec![slot; SLOTS_PER_TX_MAX]).unwrap(),
    }
}

async fn ask(sequencer: &Sequencer<SimRuntime>, from: u8, request: LedgerRequest) -> Answer {
    let response = sequencer.answer(peer(from), &request.encode()).await;
    LedgerResponse::decode(&response).unwrap().answer
}

async fn submit(
    sequencer: &Sequencer<SimRuntime>,
    from: u8,
    tx: Signed<Tx>,
) -> Result<TxOutcome, LedgerError> {
    let transport = Asking(sequencer.clone(), from);
    let ledger = RemoteLedger::new(transport, sequencer.id(), sequencer.key());
    ledger.submit(tx).await
}

/// Carries a peer's requests.
#[derive(Clone, Debug)]
struct Asking(Sequencer<SimRuntime>, u8);

impl LedgerTransport for Asking {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Ok(self.0.answer(peer(self.1), &request).await)
    }

    fn turn_away(&self) {}
}

/// Signed by another than the account.
fn forged(sequencer: &Sequencer<SimRuntime>, number: u8, nonce: u64) -> Signed<Tx> {
    let good = signed(sequencer, number, nonce, transfer(1));
    let wrong = key(SPAMMER).sign(b"something else");
    Signed::from_parts(good.unverified().clone(), good.signer(), wrong)
}

type Outcomes = Vec<Result<TxOutcome, LedgerError>>;

/// Submits all at once and in order, from the spammer; each is queued or refused at its first poll.
fn flood(
    runtime: &SimRuntime,
    sequencer: &Sequencer<SimRuntime>,
    txs: Vec<Signed<Tx>>,
) -> Task<Outcomes> {
    let sequencer = sequencer.clone();
    runtime.spawn("flood", async move {
        let submit = |tx| Box::pin(submit(&sequencer, SPAMMER, tx));
        let mut waiting: Vec<_> = txs.into_iter().map(submit).collect();
        let mut outcomes = Vec::new();
        std::future::poll_fn(|context| {
            waiting.retain_mut(|submit| match submit.as_mut().poll(context) {
                Poll::Ready(outcome) => {
                    outcomes.push(outcome);
                    false
                }
                Poll::Pending => true,
            });
            if waiting.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        outcomes
    })
}

#[test]
fn a_flooding_peer_delays_others_by_a_few_blocks() {
    Sim::new(1).run(async |sim| {
        let runtime = sim.machine("ledger").runtime();
        let sequencer = opened(&runtime, &genesis()).await;
        let mut longest = 0;
        for round in 0..8 {
            // The largest that pass as far as they can, and forgeries in the other's name.
            let next = sequencer.account(account(1)).await.unwrap().nonce;
            let mut txs = vec![signed(&sequencer, 1, next, transfer(1))];
            txs.extend((1..8).map(|after| signed(&sequencer, 1, next + after, largest())));
            txs.extend((0..200).map(|_| forged(&sequencer, 2, round)));
            let flooding = flood(&runtime, &sequencer, txs);
            runtime.sleep(Duration::from_millis(1)).await;
            let before = sequencer.status().await.unwrap().height;
            let tx = signed(&sequencer, 2, round, transfer(1));
            let outcome = submit(&sequencer, HONEST, tx).await.unwrap();
            longest = longest.max(outcome.height.get() - before.get());
            let outcomes = flooding.join().await.unwrap();
            let count = |is: &dyn Fn(&LedgerError) -> bool| {
                let is = |outcome: &&Result<_, _>| outcome.as_ref().is_err_and(is);
                u32::try_from(outcomes.iter().filter(is).count()).unwrap()
            };
            let checked =
                count(&|error| matches!(error, LedgerError::Refused(TxError::Signature { .. })));
            assert!(
                checked <= ATTEMPTS_MAX,
                "{checked} forgeries were looked at"
            );
            let ordered =
                count(&|error| matches!(error, LedgerError::Refused(TxError::UnknownNode { .. })));
            assert!(ordered <= 3, "{ordered} of the largest were ordered");
        }
        // The flood waited before it, and not for ever.
        assert!(longest > 1, "the flood is none");
        assert!(longest <= BLOCKS_BESIDE_A_FLOOD_MAX, "{longest} blocks");
        sequencer.close().await;
    });
}

#[test]
fn work_for_nothing_uses_up_the_peers_attempts_and_no_one_elses() {
    Sim::new(2).run(async |sim| {
        let runtime = sim.machine("ledger").runtime();
        let sequencer = opened(&runtime, &genesis()).await;
        let wrong = Err(LedgerError::Refused(TxError::Signature {
            signer: key(1).public(),
        }));
        for _ in 0..ATTEMPTS_MAX {
            let tx = forged(&sequencer, 1, 0);
            assert_eq!(submit(&sequencer, SPAMMER, tx).await, wrong);
        }
        let busy = Err(LedgerError::Busy {
            max: u64::from(ATTEMPTS_MAX),
        });
        let good = signed(&sequencer, 1, 0, transfer(1));
        let tx = forged(&sequencer, 1, 0);
        assert_eq!(submit(&sequencer, SPAMMER, tx).await, busy);
        assert_eq!(submit(&sequencer, SPAMMER, good.clone()).await, busy);
        // Reading goes on, and so does everyone else.
        let status = LedgerRequest::Ask {
            question: Question::Status,
            at_least: Height::ZERO,
        };
        let status = ask(&sequencer, SPAMMER, status).await;
        assert!(matches!(status, Answer::Evidence(_)));
        submit(&sequencer, HONEST, good).await.unwrap();
        runtime.sleep(ATTEMPT_REFILL).await;
        let tx = signed(&sequencer, 1, 1, transfer(1));
        submit(&sequencer, SPAMMER, tx).await.unwrap();
        // What is done costs no attempt.
        for nonce in 2..u64::from(2 * ATTEMPTS_MAX) {
            let tx = signed(&sequencer, 1, nonce, transfer(1));
            submit(&sequencer, HONEST, tx).await.unwrap();
        }
        sequencer.close().await;
    });
}

#[test]
fn what_fails_when_it_is_ordered_is_paid_for_once() {
    Sim::new(3).run(async |sim| {
        let runtime = sim.machine("ledger").runtime();
        let sequencer = opened(&runtime, &with_fee(3)).await;
        let refused = LedgerError::Refused(TxError::UnknownNode { node: peer(1) });
        // The next one is looked at in full: it is turned away and costs nothing.
        let failing = signed(&sequencer, 1, 0, largest());
        assert_eq!(
            submit(&sequencer, SPAMMER, failing).await,
            Err(refused.clone())
        );
        let good = signed(&sequencer, 1, 0, transfer(10));
        let failing = signed(&sequencer, 1, 1, largest());
        let both = tokio::join!(
            biased;
            submit(&sequencer, SPAMMER, good),
            submit(&sequencer, SPAMMER, failing.clone())
        );
        both.0.unwrap();
        assert_eq!(both.1, Err(refused.clone()));
        let paid = sequencer.account(account(1)).await.unwrap();
        assert_eq!(paid.nonce, 2);
        assert_eq!(paid.balance, Amount::from_micro(1_000_000 - 10 - 2 * 3));
        // Again: the same end, and not paid again.
        let again = submit(&sequencer, SPAMMER, failing).await;
        assert_eq!(again, Err(refused));
        assert_eq!(sequencer.account(account(1)).await.unwrap(), paid);
        sequencer.close().await;
    });
}

#[test]
fn the_balance_covers_all_that_waits() {
    Sim::new(4).run(async |sim| {
        let runtime = sim.machine("ledger").runtime();
        let sequencer = opened(&runtime, &with_fee(1)).await;
        // 5,000 of account 2 are enough for the first two, to the last one.
        let first = signed(&sequencer, 2, 0, transfer(2_000));
        let second = signed(&sequencer, 2, 1, transfer(2_998));
        let third = signed(&sequencer, 2, 2, TxBody::NodeDrain);
        let (first, second, third) = tokio::join!(
            biased;
            submit(&sequencer, SPAMMER, first),
            submit(&sequencer, SPAMMER, second),
            submit(&sequencer, SPAMMER, third)
        );
        first.unwrap();
        second.unwrap();
        assert_eq!(
            third,
            Err(LedgerError::Refused(TxError::Funds {
                account: account(2),
                expected: Amount::from_micro(5_001),
                found: Amount::from_micro(5_000),
            }))
        );
        sequencer.close().await;
    });
}

#[test]
fn of_an_account_that_does_not_exist_one_transaction_waits() {
    Sim::new(5).run(async |sim| {
        let runtime = sim.machine("ledger").runtime();
        let sequencer = opened(&runtime, &genesis()).await;
        let first = signed(&sequencer, 30, 0, register(30));
        let second = signed(&sequencer, 30, 1, TxBody::NodeDrain);
        let (first, waiting) = tokio::join!(
            biased;
            submit(&sequencer, SPAMMER, first),
            submit(&sequencer, SPAMMER, second.clone())
        );
        first.unwrap();
        assert_eq!(waiting, Err(LedgerError::Busy { max: 1 }));
        submit(&sequencer, SPAMMER, second).await.unwrap();
        // Beginning an account costs an attempt: as many more as are left, and no more.
        let fresh = |number| signed(&sequencer, number, 0, register(number));
        let mut begun = 1;
        for number in 31..=u8::MAX {
            match submit(&sequencer, SPAMMER, fresh(number)).await {
                Ok(_) => begun += 1,
                Err(error) => {
                    let max = u64::from(ATTEMPTS_MAX);
                    assert_eq!(error, LedgerError::Busy { max });
                    break;
                }
            }
        }
        assert!(begun >= ATTEMPTS_MAX, "{begun}");
        assert!(begun < 2 * ATTEMPTS_MAX, "{begun}, with what came back");
        sequencer.close().await;
    });
}

#[test]
fn polls_of_one_peer_leave_room_for_others() {
    Sim::new(6).run(async |sim| {
        let runtime = sim.machine("ledger").runtime();
        let sequencer = opened(&runtime, &genesis()).await;
        let from = Height::new(1);
        let polls: Vec<_> = (0..2 * POLLS_PER_PEER_MAX)
            .map(|_| {
                let sequencer = sequencer.clone();
                let poll = LedgerRequest::Effects { from };
                runtime.spawn("poll", async move { ask(&sequencer, SPAMMER, poll).await })
            })
            .collect();
        runtime.sleep(Duration::from_millis(1)).await;
        let poll = ask(&sequencer, HONEST, LedgerRequest::Effects { from }).await;
        assert!(matches!(poll, Answer::Effects(none) if none.blocks.is_empty()));
        let mut busy = 0;
        for poll in polls {
            let max = u64::try_from(POLLS_PER_PEER_MAX).unwrap();
            match poll.join().await.unwrap() {
                Answer::Effects(_) => {}
                Answer::Error(error) => {
                    assert_eq!(error, LedgerError::Busy { max });
                    busy += 1;
                }
                other => panic!("expected effects, found {other:?}"),
            }
        }
        assert_eq!(busy, POLLS_PER_PEER_MAX);
        sequencer.close().await;
    });
}
