//! Order and bounds.

use cairn_core::{Amount, SecretKey};
use cairn_ledger::tx::tx_id;
use cairn_ledger::{AuditReport, TxBody};

use super::*;

fn tx(number: u64, nonce: u64) -> Signed<Tx> {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&number.to_le_bytes());
    let key = SecretKey::from_bytes(&secret);
    let tx = Tx {
        account: AccountId::new(key.public()),
        nonce,
        fee: Amount::ZERO,
        body: TxBody::NodeDrain,
    };
    Signed::sign(tx, &key)
}

/// Proves an epoch.
fn proving(number: u64, nonce: u64, epoch: u64) -> Submitted {
    let mut body = tx(number, nonce).into_unverified();
    body.body = TxBody::ProofSubmit {
        epoch: EpochNumber::new(epoch),
        witness: Digest::of(b"a proof"),
        audits: AuditReport::default(),
    };
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&number.to_le_bytes());
    Submitted {
        tx: Signed::sign(body, &SecretKey::from_bytes(&secret)),
        witness: Some(Witness::new(b"a proof".to_vec()).unwrap()),
    }
}

fn push(mempool: &mut Mempool, tx: Signed<Tx>) -> Result<(), Full> {
    let (waiter, _) = oneshot::channel();
    mempool.push(tx_id(&tx), plain(tx), Source::Process, Some(waiter))
}

fn plain(tx: Signed<Tx>) -> Submitted {
    Submitted { tx, witness: None }
}

#[test]
fn batches_are_in_order_and_at_most_a_block() {
    let mut mempool = Mempool::default();
    let account = tx(1, 0).unverified().account;
    for nonce in 0..3 {
        push(&mut mempool, tx(1, nonce)).unwrap();
    }
    assert_eq!(mempool.waiting_of(account).count, 3);
    let batch = mempool.select(&BTreeSet::new());
    let nonces: Vec<u64> = batch.txs.iter().map(|tx| tx.unverified().nonce).collect();
    assert_eq!(nonces, [0, 1, 2]);
    assert_eq!(mempool.waiting_of(account).count, 3, "not final yet");
    let taken: BTreeSet<TxId> = batch.txs.iter().map(tx_id).collect();
    assert!(mempool.has_beyond(&BTreeSet::new()));
    assert!(!mempool.has_beyond(&taken));
    assert_eq!(mempool.select(&taken).txs.len(), 0);
    settle_all(&mut mempool);
    assert_eq!(mempool.waiting_of(account).count, 0);
    for number in 0..u64::try_from(TXS_MAX + 1).unwrap() {
        push(&mut mempool, tx(number, 0)).unwrap();
    }
    let first = mempool.select(&BTreeSet::new()).txs;
    assert_eq!(first.len(), TXS_MAX);
    let taken = first.iter().map(tx_id).collect();
    assert_eq!(mempool.select(&taken).txs.len(), 1);
}

#[test]
fn a_nonce_that_another_used_is_overtaken() {
    let mut mempool = Mempool::default();
    for nonce in 0..3 {
        push(&mut mempool, tx(1, nonce)).unwrap();
    }
    push(&mut mempool, tx(2, 0)).unwrap();
    let account = tx(1, 0).unverified().account;
    let next_nonce = |id| if id == account { 2 } else { 0 };
    let overtaken: Vec<TxId> = mempool
        .overtaken(next_nonce)
        .into_iter()
        .map(|it| it.0)
        .collect();
    assert_eq!(overtaken, [tx_id(&tx(1, 0)), tx_id(&tx(1, 1))]);
}

fn settle_all(mempool: &mut Mempool) {
    for tx in mempool.select(&BTreeSet::new()).txs {
        mempool.settle(tx_id(&tx), &Err(LedgerError::Stopped));
    }
}

#[test]
fn one_account_fills_its_share_and_no_more() {
    let mut mempool = Mempool::default();
    for nonce in 0..u64::try_from(COUNT_PER_ACCOUNT_MAX).unwrap() {
        push(&mut mempool, tx(1, nonce)).unwrap();
    }
    let full = Full {
        max: COUNT_PER_ACCOUNT_MAX,
    };
    assert_eq!(push(&mut mempool, tx(1, 9999)), Err(full));
    assert_eq!(push(&mut mempool, tx(2, 0)), Ok(()));
}

#[test]
fn one_peer_fills_its_bytes_and_no_more() {
    let mut mempool = Mempool::default();
    let peer = |number| NodeId::new(SecretKey::from_bytes(&[number; 32]).public());
    let source = Source::Peer(peer(1));
    let bytes = tx(1, 0).encode().len();
    let account = tx(1, 0).unverified().account;
    let mut used = 0;
    for number in 0.. {
        if used + bytes >= BYTES_PER_PEER_MAX {
            break;
        }
        let tx = tx(number, 0);
        let (waiter, _) = oneshot::channel();
        mempool
            .push(tx_id(&tx), plain(tx), source, Some(waiter))
            .unwrap();
        used += bytes;
    }
    let full = Err(Full {
        max: BYTES_PER_PEER_MAX,
    });
    assert_eq!(mempool.check_room(account, source, (bytes, 0)), full);
    let left = BYTES_PER_PEER_MAX - used;
    assert_eq!(mempool.check_room(account, source, (left, 0)), full);
    assert_eq!(mempool.check_room(account, source, (left - 1, 0)), Ok(()));
    let other = Source::Peer(peer(2));
    assert_eq!(mempool.check_room(account, other, (bytes, 0)), Ok(()));
    // What is in the block being made counts until it is final.
    drop(mempool.select(&BTreeSet::new()));
    assert_eq!(mempool.check_room(account, source, (bytes, 0)), full);
    while mempool.has_beyond(&BTreeSet::new()) {
        settle_all(&mut mempool);
    }
    assert_eq!(mempool.check_room(account, source, (bytes, 0)), Ok(()));
}

#[test]
fn what_an_account_sends_adds_up() {
    let mut mempool = Mempool::default();
    let account = tx(1, 0).unverified().account;
    for nonce in 0..2 {
        let mut body = tx(1, nonce).into_unverified();
        body.fee = Amount::from_micro(3);
        body.body = TxBody::Transfer {
            to: account,
            amount: Amount::from_micro(u64::MAX),
        };
        let mut secret = [0; 32];
        secret[0] = 1;
        let tx = Signed::sign(body, &SecretKey::from_bytes(&secret));
        push(&mut mempool, tx).unwrap();
    }
    let cost = 2 * (u128::from(u64::MAX) + 3);
    let both = Waiting { count: 2, cost };
    assert_eq!(mempool.waiting_of(account), both);
    settle_all(&mut mempool);
    assert_eq!(mempool.waiting_of(account), Waiting::default());
}

#[test]
fn all_together_fill_the_pool_and_no_more() {
    let mut mempool = Mempool::default();
    for number in 0..u64::try_from(COUNT_MAX).unwrap() {
        push(&mut mempool, tx(number, 0)).unwrap();
    }
    let full = Full { max: COUNT_MAX };
    assert_eq!(push(&mut mempool, tx(1 << 40, 0)), Err(full));
}

#[tokio::test]
async fn everyone_who_waits_is_told_and_few_may() {
    let mut mempool = Mempool::default();
    let tx = tx(1, 0);
    let id = tx_id(&tx);
    let (waiter, first) = oneshot::channel();
    mempool
        .push(id, plain(tx), Source::Process, Some(waiter))
        .unwrap();
    let (waiter, second) = oneshot::channel();
    mempool.wait_for(id, waiter).unwrap();
    drop(mempool.select(&BTreeSet::new()));
    let (waiter, late) = oneshot::channel();
    mempool.wait_for(id, waiter).unwrap();
    for _ in 3..WAITERS_MAX {
        let (waiter, _) = oneshot::channel();
        mempool.wait_for(id, waiter).unwrap();
    }
    let (waiter, _) = oneshot::channel();
    let full = Full { max: WAITERS_MAX };
    assert_eq!(mempool.wait_for(id, waiter), Err(full));
    let outcome = Ok(TxOutcome {
        id,
        height: Height::new(1),
    });
    mempool.settle(id, &outcome);
    for waiter in [first, second, late] {
        assert_eq!(waiter.await.unwrap(), outcome);
    }
    let (waiter, lost) = oneshot::channel();
    let node = NodeId::new(SecretKey::from_bytes(&[1; 32]).public());
    mempool.push_lost(node, waiter).unwrap();
    mempool.fail_all(&LedgerError::Stopped);
    assert_eq!(lost.await.unwrap(), Err(LedgerError::Stopped));
}

fn proof(number: u64, bytes: usize) -> Submitted {
    let witness = Witness::new(vec![7; bytes]).unwrap();
    let mut submitted = plain(tx(number, 0));
    submitted.witness = Some(witness);
    submitted
}

#[test]
fn proofs_are_bounded_by_block_and_peer() {
    const BYTES: usize = 600_000;
    let mut mempool = Mempool::default();
    let peer = |number| Source::Peer(NodeId::new(SecretKey::from_bytes(&[number; 32]).public()));
    let push = |mempool: &mut Mempool, number: u64, source| {
        let submitted = proof(number, BYTES);
        let (waiter, _) = oneshot::channel();
        mempool.push(tx_id(&submitted.tx), submitted, source, Some(waiter))
    };
    let of_peer = WITNESS_BYTES_PER_PEER_MAX / BYTES;
    for number in 0..u64::try_from(of_peer).unwrap() {
        push(&mut mempool, number, peer(1)).unwrap();
    }
    let full = Full {
        max: WITNESS_BYTES_PER_PEER_MAX,
    };
    assert_eq!(push(&mut mempool, 90, peer(1)), Err(full));
    for number in 100..200 {
        if push(&mut mempool, number, Source::Process).is_err() {
            break;
        }
    }
    assert!(mempool.load.witnesses < WITNESS_BYTES_WAITING_MAX);
    let batch = mempool.select(&BTreeSet::new());
    assert_eq!(batch.txs.len(), WITNESS_BYTES_PER_BLOCK_MAX / BYTES);
    assert_eq!(batch.witnesses.len(), batch.txs.len());
    settle_all(&mut mempool);
    assert_eq!(push(&mut mempool, 91, peer(1)), Ok(()), "room again");
    mempool.fail_all(&LedgerError::Stopped);
    assert_eq!(mempool.load.witnesses, 0);
    assert!(mempool.per_source.is_empty());
}

/// The bound, one below and one above; room is there again once the first is final.
#[test]
fn one_proof_of_an_account_and_epoch_waits_and_no_more() {
    let mut mempool = Mempool::default();
    let mut push = |submitted: Submitted| {
        let id = tx_id(&submitted.tx);
        let pushed = mempool.push(id, submitted, Source::Process, None);
        pushed.map(|()| id)
    };
    let first = push(proving(1, 0, 7)).unwrap();
    let full = Full {
        max: PROOFS_PER_ACCOUNT_AND_EPOCH_MAX,
    };
    assert_eq!(push(proving(1, 1, 7)), Err(full));
    push(proving(1, 1, 8)).unwrap();
    push(proving(2, 0, 7)).unwrap();
    let batch = mempool.select(&BTreeSet::new());
    assert_eq!(batch.witnesses.len(), 3);
    assert_eq!(
        mempool.check_alone(proving(1, 2, 7).tx.unverified()),
        Err(full)
    );
    mempool.settle(first, &Err(LedgerError::Stopped));
    assert_eq!(
        mempool.check_alone(proving(1, 2, 7).tx.unverified()),
        Ok(())
    );
    mempool.fail_all(&LedgerError::Stopped);
    assert!(mempool.proving.is_empty());
}
