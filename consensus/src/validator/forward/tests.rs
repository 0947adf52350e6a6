//! What is believed of what another validator passes on.

use std::num::NonZeroUsize;
use std::time::Duration;

use cairn_core::{AccountId, Amount, LedgerId, NodeId, SecretKey};
use cairn_ledger::TxBody;
use cairn_ledger::tx::tx_id;
use cairn_runtime::RealRuntime;

use super::*;
use crate::core::Attester;
use crate::core::tests::Bench;

/// Of an account that has something.
fn payer() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

fn bench(runtime: &RealRuntime, folder: &tempfile::TempDir) -> Bench {
    let attester = Attester::Alone(Box::new(SecretKey::from_bytes(&[7; 32])));
    Bench::with(runtime, &folder.path().join("ledger"), attester)
}

fn transfer(nonce: u64) -> Tx {
    Tx {
        account: AccountId::new(payer().public()),
        nonce,
        fee: Amount::ZERO,
        body: TxBody::Transfer {
            to: AccountId::new(SecretKey::from_bytes(&[2; 32]).public()),
            amount: Amount::from_micro(1),
        },
    }
}

fn signed(nonce: u64, ledger: LedgerId) -> Signed<Tx> {
    Signed::sign_for(transfer(nonce), ledger, &payer())
}

/// A message with these.
fn passed_on(txs: Vec<Signed<Tx>>) -> Vec<u8> {
    let txs = txs.into_iter().map(|tx| Submitted { tx, witness: None });
    let messages = messages(txs.collect());
    assert_eq!(messages.len(), 1);
    messages[0].encode()
}

#[test]
fn what_no_honest_validator_passes_on_is_a_fault() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = bench(&runtime, &folder);
        let core = &bench.core;
        let source = Source::Validator {
            validator: NodeId::new(SecretKey::from_bytes(&[9; 32]).public()),
            count: NonZeroUsize::MIN,
        };
        let queue = |message: &[u8]| queue(core, source, message);
        let waits = |tx: &Signed<Tx>| core.mempool().contains(tx_id(tx));
        let first = signed(0, core.ledger);
        let forged = Signed::sign(transfer(1), &payer());
        let second = signed(1, core.ledger);
        // What comes before a fault is none.
        let message = passed_on(vec![first.clone(), forged.clone(), second.clone()]);
        assert_eq!(queue(&message), Err(Fault::Signature));
        assert_eq!((waits(&first), waits(&forged)), (true, false));
        assert!(!waits(&second));
        // It may come twice, and out of order.
        let message = passed_on(vec![first, second.clone(), signed(9, core.ledger)]);
        assert_eq!(queue(&message), Ok(()));
        assert!(waits(&second));
        assert_eq!(queue(&message), Ok(()));
        let longer = [message.as_slice(), &[0]].concat();
        for bytes in [&message[1..], &longer[..], b"no transactions".as_slice()] {
            assert_eq!(queue(bytes), Err(Fault::Malformed));
        }
    })
    .unwrap();
}

#[test]
fn who_is_at_fault_is_not_heard_for_a_while() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = bench(&runtime, &folder);
        let core = &bench.core;
        let (liar, other) = ([8; 32], [9; 32]);
        let inbox = Inbox::new([liar, other]);
        let good = passed_on(vec![signed(0, core.ledger)]);
        take_txs(core, &inbox, liar, &good);
        let now = core.runtime.monotonic();
        assert!(inbox.offer(liar, good.clone(), now));
        take_txs(core, &inbox, liar, b"no transactions");
        let now = core.runtime.monotonic();
        assert!(!inbox.offer(liar, good.clone(), now));
        assert!(inbox.offer(other, good.clone(), now));
        assert_eq!(inbox.next().await.from, other, "what waited is dropped too");
        let later = now + Duration::from_secs(3600);
        assert!(inbox.offer(liar, good, later));
    })
    .unwrap();
}

/// What nobody heard the first time is passed on again while it waits, and not when it is done.
#[test]
fn what_waits_is_passed_on_again() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let bench = bench(&runtime, &folder);
        let core = Arc::clone(&bench.core);
        let own = signed(0, core.ledger);
        let others = signed(1, core.ledger);
        let source = Source::Validator {
            validator: NodeId::new(SecretKey::from_bytes(&[9; 32]).public()),
            count: NonZeroUsize::MIN,
        };
        {
            let mut mempool = core.mempool();
            for (tx, source) in [(&own, Source::Process), (&others, source)] {
                let submitted = Submitted {
                    tx: tx.clone(),
                    witness: None,
                };
                mempool.push(tx_id(tx), submitted, source, None).unwrap();
            }
        }
        let (sent, mut received) = mpsc::channel(64);
        let (_outbox, waiting) = mpsc::channel(1);
        let worker = Arc::clone(&core);
        let send = move |message: Vec<u8>| sent.try_send(message).is_ok();
        let running = async move { run(&worker, send, waiting).await };
        let _task = runtime.spawn("forward", running);
        for _ in 0..2 {
            let message = received.recv().await.unwrap();
            let message = ForwardedTxs::decode(&message).unwrap();
            let txs: Vec<_> = message.into_submitted().map(|it| it.tx).collect();
            assert_eq!(txs.as_slice(), std::slice::from_ref(&own));
        }
        bench.commit(vec![own, others]);
        let more = runtime.timeout(AGAIN * 3, received.recv()).await;
        assert!(more.is_err(), "{more:?}");
    })
    .unwrap();
}
