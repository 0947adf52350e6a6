//! One set of validators hands over to the next.

use std::error::Error;

use cairn_core::{LedgerTransport, TransportError};
use cairn_ledger::{RemoteLedger, TermSignature, term_digest};

use super::*;
use crate::ceremony::{Agreement, CeremonyConfig, Keeper, Lack, Previous, hold};

/// What comes of a ceremony for one who took part.
type Made = (Validators, Option<KeyPart>);

/// Keeps what comes of a ceremony in memory.
struct Memory {
    ledger: LedgerId,
    made: Arc<Mutex<Option<Made>>>,
}

impl Keeper for Memory {
    fn keep(
        &mut self,
        validators: Validators,
        part: Option<&KeyPart>,
    ) -> Result<Digest, Box<dyn Error + Send + Sync>> {
        let digest = term_digest(self.ledger, 1, &validators);
        *self.made.lock().unwrap() = Some((validators, part.cloned()));
        Ok(digest)
    }

    fn agreed(&mut self, _: &Agreement) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    fn waiting(&mut self, _: &[(PublicKey, Lack)]) {}
}

/// What the next term's validators have, by identity, and what all signed.
struct NextTerm {
    validators: Validators,
    parts: BTreeMap<PublicKey, KeyPart>,
    signatures: Vec<TermSignature>,
}

/// The four of a ledger and one more deal the key anew, to all but the first.
async fn agree(runtime: &RealRuntime, configs: &[ValidatorConfig], folder: &Path) -> NextTerm {
    let ledger = configs[0].genesis.ledger_id();
    let now = configs[0].genesis.validators.clone().unwrap();
    let next: Vec<PublicKey> = configs[1..].iter().map(|it| it.key.public()).collect();
    let addresses = free_addresses(configs.len());
    let keys = configs.iter().map(|config| config.key.public());
    let participants: Vec<_> = keys.zip(addresses.iter().copied()).collect();
    let mut held = Vec::new();
    for (config, listen) in configs.iter().zip(addresses) {
        let made = Arc::new(Mutex::new(None));
        let keeper = Memory {
            ledger,
            made: Arc::clone(&made),
        };
        let key = config.key.clone();
        let ceremony = CeremonyConfig {
            draft: Digest::of(b"the next term"),
            key: key.clone(),
            listen,
            participants: participants.clone(),
            folder: folder.join(key.public().to_string()),
            limit: Duration::from_secs(60),
            kept: None,
            agreement: None,
            previous: Some(Previous {
                validators: now.clone(),
                term: 0,
                next: next.clone(),
                part: config.terms.get(&0).map(|place| place.part.clone()),
            }),
        };
        let owned = runtime.clone();
        let holding = async move { hold(&owned, ceremony, keeper).await };
        held.push((key.public(), made, runtime.spawn("ceremony", holding)));
    }
    let mut parts = BTreeMap::new();
    let mut signers: Vec<PublicKey> = held.iter().map(|(key, _, _)| *key).collect();
    signers.sort();
    let mut agreed = None;
    for (key, made, task) in held {
        let agreement = task.join().await.unwrap().agreement.unwrap();
        let (validators, part) = made.lock().unwrap().take().unwrap();
        parts.extend(part.map(|part| (key, part)));
        agreed = Some((validators, agreement));
    }
    let (validators, agreement) = agreed.unwrap();
    assert_eq!(agreement.digest, term_digest(ledger, 1, &validators));
    assert_eq!(parts.keys().copied().collect::<Vec<_>>(), {
        let mut next = next;
        next.sort();
        next
    });
    let signatures = signers.into_iter().zip(agreement.signatures);
    NextTerm {
        validators,
        parts,
        signatures: signatures
            .map(|(validator, signature)| TermSignature {
                validator,
                signature,
            })
            .collect(),
    }
}

/// Carries requests to a validator in the same process.
#[derive(Clone, Debug)]
struct Direct(Validator<RealRuntime>);

impl LedgerTransport for Direct {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let asker = NodeId::new(SecretKey::from_bytes(&[200; 32]).public());
        Ok(self.0.answer(asker, &request).await)
    }

    fn turn_away(&self) {}
}

/// A ledger of four validators, and a fifth that the genesis does not name.
struct Five {
    folder: tempfile::TempDir,
    configs: Vec<ValidatorConfig>,
    validators: Vec<Validator<RealRuntime>>,
}

impl Five {
    async fn new(runtime: &RealRuntime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut configs = configs(runtime, folder.path(), 4);
        let mut validators = Vec::new();
        for config in &configs {
            validators.push(open(runtime, config).await);
        }
        configs.push(ValidatorConfig {
            folder: folder.path().join("fifth"),
            key: SecretKey::from_bytes(&[5; 32]),
            terms: BTreeMap::new(),
            ..configs[0].clone()
        });
        Self {
            folder,
            configs,
            validators,
        }
    }

    /// All but the first are to go on with the fifth: waits until the four have come to the border.
    async fn change(&mut self, runtime: &RealRuntime) {
        let folder = self.folder.path().join("ceremony");
        let next = agree(runtime, &self.configs, &folder).await;
        let body = TxBody::ValidatorsChange {
            validators: next.validators.clone(),
            signatures: Bounded::new(next.signatures.clone()).unwrap(),
        };
        let named = submit_body(&self.validators[1], &payer(), body).await;
        named.unwrap();
        for validator in self.validators.drain(..) {
            validator.ended().await;
            assert_eq!((validator.term(), validator.next_term()), (0, Some(1)));
        }
        let listen = free_addresses(4);
        let identities = next.validators.identities.iter().copied();
        let peers: Vec<_> = identities.zip(listen).collect();
        for config in &mut self.configs[1..] {
            let identity = config.key.public();
            let place = TermPlace {
                part: next.parts[&identity].clone(),
                listen: peers.iter().find(|(key, _)| *key == identity).unwrap().1,
                peers: peers.clone(),
            };
            config.terms.insert(1, place);
        }
    }

    /// One that does not know that the others have come to the border goes on in the old term.
    async fn check_before_others_come(&self, runtime: &RealRuntime) {
        let config = &self.configs[1];
        let attested = config.folder.join("attested-0000000001");
        let content = std::fs::read(&attested).expect("the border is attested");
        std::fs::remove_file(&attested).unwrap();
        let validator = open(runtime, config).await;
        assert_eq!((validator.term(), validator.next_term()), (0, Some(1)));
        validator.close().await;
        std::fs::write(&attested, content).unwrap();
    }

    /// Whoever is not in the term that its folder is in.
    async fn check_not_in(&self, runtime: &RealRuntime, number: usize, term: u32) {
        let opened = Validator::open(runtime.clone(), self.configs[number].clone()).await;
        let is_other = |error: &ValidatorError| matches!(error, ValidatorError::NotInTerm { term: found } if *found == term);
        assert!(opened.as_ref().is_err_and(is_other), "{opened:?}");
    }
}

/// Who leaves goes, who comes goes on from the border, and the key by which the ledger is known stays.
#[test]
fn four_hand_over_to_three_of_them_and_another() {
    RealRuntime::run(async |runtime: RealRuntime| {
        let mut five = Five::new(&runtime).await;
        let key = five.validators[0].key();
        pay(&five.validators[0]).await;
        five.change(&runtime).await;
        five.check_not_in(&runtime, 0, 1).await;
        five.check_not_in(&runtime, 4, 0).await;
        five.check_before_others_come(&runtime).await;
        // Whoever is there first shows the term and its state: nobody may be needed for that who is
        // to join.
        let mut validators = vec![open(&runtime, &five.configs[1]).await];
        let config = &five.configs[4];
        let ledger = config.genesis.ledger_id();
        let remote = RemoteLedger::new(Direct(validators[0].clone()), ledger, key);
        let snapshot = remote.snapshot().await.unwrap().unwrap();
        for config in &five.configs[2..4] {
            validators.push(open(&runtime, config).await);
        }
        // Three of four are enough.
        pay(&validators[0]).await;
        install(&runtime, &config.folder, &config.genesis, snapshot)
            .await
            .unwrap();
        validators.push(open(&runtime, config).await);
        let height = pay(&validators[0]).await;
        for validator in &validators {
            wait_for(validator, height).await;
            assert_eq!(paid(validator).await, 3);
            assert_eq!((validator.term(), validator.next_term()), (1, None));
            assert_eq!(validator.key(), key, "clients need not be told");
        }
        // The newcomer orders too: another may be away.
        validators.remove(0).close().await;
        pay(&validators[2]).await;
        let engine = five.configs[2].folder.join(ENGINE_FOLDER);
        assert!(engine.join("1").exists() && !engine.join("0").exists());
        // Who starts anew goes on in the term.
        validators.remove(1).close().await;
        let again = open(&runtime, &five.configs[3]).await;
        assert_eq!(again.term(), 1);
        validators.push(again);
        pay(&validators[0]).await;
        for validator in &validators {
            validator.close().await;
        }
    })
    .unwrap();
}
