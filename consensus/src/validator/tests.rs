//! Validators on the loopback interface, with real files and clocks.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use cairn_core::{Amount, Bounded, ByteCount, Digest, EpochNumber, Text, UnixMillis};
use cairn_ledger::tx::operator_consent;
use cairn_ledger::{
    AuditReport, Effect, NodeTerms, Parameters, TxBody, TxError, Verdict, submit_body,
    submit_proof_of,
};
use cairn_proofs::Proof;
use cairn_runtime::RealRuntime;

use super::*;

mod terms;

const SUPPLY: Amount = Amount::from_micro(1_000_000);

fn payer() -> SecretKey {
    SecretKey::from_bytes(&[100; 32])
}

fn payee() -> AccountId {
    AccountId::new(SecretKey::from_bytes(&[101; 32]).public())
}

/// `count` validators of a new ledger, their folders below `folder`.
fn configs(runtime: &RealRuntime, folder: &Path, count: u8) -> Vec<ValidatorConfig> {
    let keys: Vec<SecretKey> = (1..=count)
        .map(|number| SecretKey::from_bytes(&[number; 32]))
        .collect();
    let identities: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
    let (validators, parts) = deal(runtime, &identities).unwrap();
    let genesis = Genesis {
        time: UnixMillis::new(1_700_000_000_000),
        parameters: Parameters {
            seed_lag_views: cairn_engine::SEED_LAG,
            ..Parameters::default()
        },
        endowed: Bounded::new(vec![(AccountId::new(payer().public()), SUPPLY)]).unwrap(),
        validators: Some(validators),
    };
    let addresses = free_addresses(count.into());
    let peers: Vec<(PublicKey, SocketAddr)> =
        identities.iter().copied().zip(addresses.clone()).collect();
    let config = |(key, listen): (SecretKey, SocketAddr)| {
        let (_, part) = parts.iter().find(|(of, _)| *of == key.public()).unwrap();
        ValidatorConfig {
            folder: folder.join(key.public().to_string()),
            genesis: genesis.clone(),
            terms: BTreeMap::from([(
                0,
                TermPlace {
                    part: part.clone(),
                    listen,
                    peers: peers.clone(),
                },
            )]),
            key,
            block_interval: Duration::from_millis(20),
            idle: Duration::from_millis(500),
        }
    };
    keys.into_iter().zip(addresses).map(config).collect()
}

/// Below the ports that the system gives out by itself, and in a place of this process: nobody takes
/// one while its validator is down.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let first = 10_000 + std::process::id() % 220 * 100;
    let listeners: Vec<TcpListener> = (first..first + 100)
        .filter_map(|port| u16::try_from(port).ok())
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(count)
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect()
}

async fn open(runtime: &RealRuntime, config: &ValidatorConfig) -> Validator<RealRuntime> {
    Validator::open(runtime.clone(), config.clone())
        .await
        .unwrap()
}

/// Sends one credit, and waits until that is final.
async fn pay<L: Ledger>(ledger: &L) -> Height {
    let body = TxBody::Transfer {
        to: payee(),
        amount: Amount::from_micro(1),
    };
    submit_body(ledger, &payer(), body).await.unwrap().height
}

async fn paid<L: Ledger>(ledger: &L) -> u64 {
    ledger.account(payee()).await.unwrap().balance.micro()
}

#[test]
fn one_validator_orders_by_itself_and_recovers() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let config = configs(&runtime, folder.path(), 1).remove(0);
        let validator = open(&runtime, &config).await;
        for _ in 0..3 {
            pay(&validator).await;
        }
        assert_eq!(paid(&validator).await, 3);
        let height = validator.status_now().height;
        validator.close().await;
        let error = pay_error(&validator).await;
        assert_eq!(error, LedgerError::Stopped);
        let validator = open(&runtime, &config).await;
        assert!(validator.status_now().height >= height);
        assert_eq!(paid(&validator).await, 3);
        assert!(pay(&validator).await > height);
        validator.close().await;
    })
    .unwrap();
}

async fn pay_error<L: Ledger>(ledger: &L) -> LedgerError {
    let body = TxBody::Transfer {
        to: payee(),
        amount: Amount::from_micro(1),
    };
    submit_body(ledger, &payer(), body).await.unwrap_err()
}

#[test]
fn four_validators_order_what_any_of_them_gets() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let configs = configs(&runtime, folder.path(), 4);
        let mut validators = Vec::new();
        for config in &configs {
            validators.push(open(&runtime, config).await);
        }
        // One writer at a time: each sees what the one before did.
        let mut height = Height::ZERO;
        for validator in &validators {
            wait_for(validator, height).await;
            height = pay(validator).await;
        }
        for validator in &validators {
            wait_for(validator, height).await;
            assert_eq!(paid(validator).await, 4);
        }
        // One goes and comes back, the others go on.
        validators.remove(0).close().await;
        height = pay(&validators[0]).await;
        validators.push(open(&runtime, &configs[0]).await);
        for validator in &validators {
            wait_for(validator, height).await;
            assert_eq!(paid(validator).await, 5);
            assert_eq!(validator.group(GroupId::default()).await, Ok(None));
        }
        for validator in &validators {
            validator.close().await;
        }
    })
    .unwrap();
}

/// Waits until a validator has a block.
async fn wait_for(validator: &Validator<RealRuntime>, height: Height) {
    let mut progress = validator.owner.core.progress.subscribe();
    progress
        .wait_for(|progress| progress.height >= height)
        .await
        .unwrap();
}

#[test]
fn a_folder_is_of_one_ledger() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let config = configs(&runtime, folder.path(), 1).remove(0);
        open(&runtime, &config).await.close().await;
        let mut other = configs(&runtime, folder.path(), 1).remove(0);
        other.folder = config.folder.clone();
        let error = Validator::open(runtime.clone(), other).await.unwrap_err();
        assert!(
            matches!(error, ValidatorError::Open(OpenError::OtherLedger { .. })),
            "{error}"
        );
        let mut stranger = config.clone();
        stranger.key = SecretKey::from_bytes(&[9; 32]);
        let error = Validator::open(runtime.clone(), stranger)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ValidatorError::NotInTerm { term: 0 }),
            "{error}"
        );
    })
    .unwrap();
}

/// Four validators of a ledger with short epochs.
fn with_epochs(runtime: &RealRuntime, folder: &Path) -> Vec<ValidatorConfig> {
    let mut configs = configs(runtime, folder, 4);
    let time = UnixMillis::from_unix(runtime.now());
    for config in &mut configs {
        config.genesis.time = time;
        config.genesis.parameters.epoch_millis = 5_000;
    }
    configs
}

async fn register<L: Ledger>(ledger: &L, key: &SecretKey) -> NodeId {
    let node = NodeId::new(key.public());
    let body = TxBody::NodeRegister {
        operator: AccountId::new(payer().public()),
        operator_consent: operator_consent(ledger.id(), &payer(), node),
        terms: NodeTerms {
            capacity: ByteCount::new(1 << 30),
            price: Amount::from_micro(1),
            network: Text::new("203.0.113.0/24").unwrap(),
            provider: Text::new("provider").unwrap(),
            region: Text::new("region").unwrap(),
        },
    };
    submit_body(ledger, key, body).await.unwrap();
    node
}

/// Waits until an epoch is open that has most of its time left.
async fn next_open<L: Ledger>(ledger: &L) -> EpochNumber {
    // There may be no block yet, and the next one is what matters.
    let mut from = ledger.status().await.unwrap().height.next().unwrap();
    loop {
        for block in ledger.effects(from).await.unwrap() {
            from = block.height.next().unwrap();
            for effect in block.effects {
                if let Effect::EpochOpened(epoch) = effect {
                    return epoch;
                }
            }
        }
    }
}

#[test]
fn all_derive_the_same_verdicts_from_the_witnesses() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let folder = tempfile::tempdir().unwrap();
        let configs = with_epochs(&runtime, folder.path());
        let mut validators = Vec::new();
        for config in &configs {
            validators.push(open(&runtime, config).await);
        }
        let (good, bad) = (
            SecretKey::from_bytes(&[50; 32]),
            SecretKey::from_bytes(&[51; 32]),
        );
        let node = register(&validators[0], &good).await;
        let other = register(&validators[0], &bad).await;
        let epoch = next_open(&validators[1]).await;
        // Nothing is frozen for either yet, so the empty proof is the one that answers.
        let empty = Proof {
            slots: Bounded::empty(),
        };
        let proven = submit_proof_of(
            &validators[1],
            &good,
            (epoch, AuditReport::default()),
            &empty,
        )
        .await;
        let height = proven.unwrap().height;
        let bytes = Witness::new(b"no proof".to_vec()).unwrap();
        let witness = Digest::of(&bytes);
        let account = AccountId::new(bad.public());
        let tx = Tx {
            account,
            nonce: validators[2].account(account).await.unwrap().nonce,
            fee: Amount::ZERO,
            body: TxBody::ProofSubmit {
                epoch,
                witness,
                audits: AuditReport::default(),
            },
        };
        let tx = Signed::sign_for(tx, validators[2].id(), &bad);
        let refused = validators[2].submit_proof(tx, bytes).await;
        assert!(
            matches!(
                refused,
                Err(LedgerError::Refused(
                    TxError::Unwitnessed { .. } | TxError::Epoch { .. }
                ))
            ),
            "{refused:?}"
        );
        let height = pay(&validators[3]).await.max(height);
        validators.remove(0).close().await;
        validators.push(open(&runtime, &configs[0]).await);
        let mut blocks = BTreeMap::new();
        for validator in &validators {
            wait_for(validator, height).await;
            let standing = |entry: Option<NodeEntry>| entry.unwrap().standing.verdict;
            let judged = standing(validator.node(node).await.unwrap());
            assert_eq!(judged, Some((epoch, Verdict::Valid)));
            assert_eq!(standing(validator.node(other).await.unwrap()), None);
            let status = validator.status().await.unwrap();
            // The digest of a block covers its verdicts and all before it.
            let tip = blocks.entry(status.height).or_insert(status.tip);
            assert_eq!(*tip, status.tip);
        }
        for validator in &validators {
            validator.close().await;
        }
    })
    .unwrap();
}
