//! Epochs by the clock: they begin and open without anybody's asking, proofs are judged, and a
//! reopened ledger has the same verdicts.

use std::time::Duration;

use cairn_core::{Bounded, Digest, EpochNumber, NodeId, Signed};
use cairn_ledger::tx::operator_consent;
use cairn_ledger::{
    AuditReport, Effect, Genesis, Ledger, LedgerError, Tx, TxBody, TxError, Verdict, Witness,
    submit_body, submit_proof_of,
};
use cairn_proofs::Proof;
use cairn_runtime::sim::SimRuntime;
use cairn_runtime::{Runtime, Sim};

use super::{account, genesis, key, register, sim_folder};
use crate::sequencer::{Config, Sequencer};

const EPOCH: Duration = Duration::from_secs(60);

fn with_epochs(runtime: &SimRuntime) -> Genesis {
    let mut genesis = genesis();
    genesis.time = cairn_core::UnixMillis::from_unix(runtime.now());
    genesis.parameters.epoch_millis = 60_000;
    genesis
}

async fn opened(runtime: &SimRuntime) -> Sequencer<SimRuntime> {
    Sequencer::open(runtime.clone(), Config::new(sim_folder()))
        .await
        .unwrap()
}

async fn register_on(ledger: &Sequencer<SimRuntime>, number: u8) {
    let node = NodeId::new(key(number).public());
    let TxBody::NodeRegister { terms, .. } = register(number) else {
        unreachable!("that is what it makes");
    };
    let body = TxBody::NodeRegister {
        operator: account(1),
        operator_consent: operator_consent(ledger.id(), &key(1), node),
        terms,
    };
    submit_body(ledger, &key(number), body).await.unwrap();
}

/// Waits until an epoch after `last` is open.
async fn next_open(ledger: &Sequencer<SimRuntime>, last: EpochNumber) -> EpochNumber {
    let mut from = ledger.status().await.unwrap().height;
    loop {
        for block in ledger.effects(from).await.unwrap() {
            from = block.height.next().unwrap();
            for effect in block.effects {
                if let Effect::EpochOpened(epoch) = effect
                    && epoch > last
                {
                    return epoch;
                }
            }
        }
    }
}

/// With no word of audits.
fn unaudited(epoch: EpochNumber) -> (EpochNumber, AuditReport) {
    (epoch, AuditReport::default())
}

fn empty() -> Proof {
    Proof {
        slots: Bounded::empty(),
    }
}

#[test]
fn epochs_open_by_the_clock_and_verdicts_stay() {
    let sim = Sim::new(7);
    sim.run(async |sim| {
        let machine = sim.machine("ledger");
        let runtime = machine.runtime();
        let genesis = with_epochs(&runtime);
        Sequencer::create(&runtime, sim_folder(), &genesis)
            .await
            .unwrap();
        let ledger = opened(&runtime).await;
        register_on(&ledger, 10).await;
        register_on(&ledger, 11).await;
        let begun = runtime.monotonic();
        let mut epoch = EpochNumber::default();
        for _ in 0..4 {
            epoch = next_open(&ledger, epoch).await;
            submit_proof_of(&ledger, &key(10), unaudited(epoch), &empty())
                .await
                .unwrap();
        }
        let took = runtime.monotonic().saturating_sub(begun);
        assert!(took < EPOCH * 5, "{took:?}");
        let again = submit_proof_of(&ledger, &key(10), unaudited(epoch), &empty()).await;
        let node = NodeId::new(key(10).public());
        let judged = TxError::Judged { node, epoch };
        assert_eq!(again, Err(LedgerError::Refused(judged)));
        ledger.close().await;
        drop(ledger);

        let ledger = opened(&runtime).await;
        let proven = ledger.node(node).await.unwrap().unwrap().standing;
        assert_eq!(proven.verdict, Some((epoch, Verdict::Valid)));
        assert_eq!(proven.proven, 4);
        let silent = NodeId::new(key(11).public());
        let silent = ledger.node(silent).await.unwrap().unwrap().standing;
        assert_eq!(silent.proven, 0);
    });
}

#[test]
fn a_proof_must_come_with_its_bytes() {
    let sim = Sim::new(8);
    sim.run(async |sim| {
        let machine = sim.machine("ledger");
        let runtime = machine.runtime();
        let genesis = with_epochs(&runtime);
        Sequencer::create(&runtime, sim_folder(), &genesis)
            .await
            .unwrap();
        let ledger = opened(&runtime).await;
        register_on(&ledger, 10).await;
        let epoch = next_open(&ledger, EpochNumber::default()).await;
        let node = account(10);
        let nonce = ledger.account(node).await.unwrap().nonce;
        let other = Digest::of(b"another proof");
        let tx = |witness| {
            let tx = Tx {
                account: node,
                nonce,
                fee: cairn_core::Amount::ZERO,
                body: TxBody::ProofSubmit {
                    epoch,
                    witness,
                    audits: AuditReport::default(),
                },
            };
            Signed::sign_for(tx, genesis.ledger_id(), &key(10))
        };
        let bytes = b"no proof".to_vec();
        let found = Digest::of(&bytes);
        let witness = Witness::new(bytes).unwrap();
        let refused = |error| Err(LedgerError::Refused(error));
        assert_eq!(
            ledger.submit(tx(other)).await,
            refused(TxError::Unwitnessed { witness: other })
        );
        let expected = other;
        assert_eq!(
            ledger.submit_proof(tx(other), witness.clone()).await,
            refused(TxError::Witness { expected, found })
        );
        // Bytes that are no proof are not judged, and nobody is punished for them.
        assert_eq!(
            ledger.submit_proof(tx(found), witness).await,
            refused(TxError::Unwitnessed { witness: found })
        );
        submit_proof_of(
            &ledger,
            &key(10),
            unaudited(epoch),
            &Proof {
                slots: Bounded::empty(),
            },
        )
        .await
        .unwrap();
    });
}
