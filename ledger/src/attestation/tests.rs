//! Who may say what the ledger is, and of what.

use blst::min_sig::SecretKey as GroupSecret;

use super::*;

fn attested() -> Attested {
    Attested {
        ledger: LedgerId::new(Digest::of(b"a ledger")),
        height: Height::new(7),
        time: UnixMillis::new(1_007),
        root: Digest::of(b"a state"),
        chain: Digest::of(b"blocks"),
    }
}

fn secret(number: u8) -> GroupSecret {
    GroupSecret::key_gen(&[number; 32], &[]).unwrap()
}

fn key_of(secret: &GroupSecret) -> LedgerKey {
    LedgerKey::Validators(secret.sk_to_pk().to_bytes())
}

/// What validators sign together, put together by hand.
fn message(attested: &Attested) -> Vec<u8> {
    let domain = b"cairn 1 attestation ";
    let mut message = vec![u8::try_from(domain.len() + 32).unwrap()];
    message.extend_from_slice(domain);
    message.extend_from_slice(attested.ledger.as_bytes());
    // Kind 34, version 1.
    message.extend_from_slice(&[34, 0, 1]);
    message.extend_from_slice(attested.ledger.as_bytes());
    message.extend_from_slice(&attested.height.get().to_le_bytes());
    message.extend_from_slice(&attested.time.get().to_le_bytes());
    message.extend_from_slice(attested.root.as_bytes());
    message.extend_from_slice(attested.chain.as_bytes());
    message
}

fn signature(message: &[u8], secret: &GroupSecret) -> [u8; GROUP_SIGNATURE_BYTES] {
    let suite = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    secret.sign(message, suite, &[]).to_bytes()
}

fn together(attested: Attested, secret: &GroupSecret) -> Attestation {
    Attestation::Validators(attested, signature(&message(&attested), secret))
}

/// What is attested, with one thing changed.
fn others() -> Vec<Attested> {
    let attested = attested();
    vec![
        Attested {
            ledger: LedgerId::new(Digest::of(b"another")),
            ..attested
        },
        Attested {
            height: Height::new(8),
            ..attested
        },
        Attested {
            time: UnixMillis::new(1_008),
            ..attested
        },
        Attested {
            root: attested.chain,
            ..attested
        },
        Attested {
            chain: attested.root,
            ..attested
        },
    ]
}

#[test]
fn validators_attest_one_height_of_one_ledger_with_one_key() {
    let (attested, secret) = (attested(), secret(1));
    let (ledger, key) = (attested.ledger, key_of(&secret));
    let attestation = together(attested, &secret);
    assert_eq!(attestation.verify(ledger, &key), Some(&attested));
    let Attestation::Validators(_, signature) = attestation else {
        panic!("the validators'");
    };
    for other in others() {
        let lie = Attestation::Validators(other, signature);
        assert_eq!(lie.verify(ledger, &key), None);
        assert_eq!(lie.verify(other.ledger, &key), None);
        // It is true for itself.
        let honest = together(other, &secret);
        assert_eq!(honest.verify(other.ledger, &key), Some(&other));
    }
    let elsewhere = LedgerId::new(Digest::of(b"another"));
    assert_eq!(attestation.verify(elsewhere, &key), None);
    assert_eq!(attestation.verify(ledger, &key_of(&self::secret(2))), None);
}

/// Signed in the domain of one ledger, it is nothing in that of another.
#[test]
fn the_domain_is_that_of_the_ledger() {
    let (attested, secret) = (attested(), secret(1));
    let key = key_of(&secret);
    let verifies = |message: &[u8]| {
        let lie = Attestation::Validators(attested, signature(message, &secret));
        lie.verify(attested.ledger, &key).is_some()
    };
    let message = message(&attested);
    assert!(verifies(&message));
    let mut elsewhere = message.clone();
    elsewhere[21] ^= 1;
    assert!(!verifies(&elsewhere));
    assert!(!verifies(&message[1..]));
    assert!(!verifies(&attested.encode()));
    assert!(!verifies(&[]));
}

#[test]
fn what_is_no_signature_or_no_key_verifies_nothing() {
    let (attested, secret) = (attested(), secret(1));
    let (ledger, key) = (attested.ledger, key_of(&secret));
    let signature = signature(&message(&attested), &secret);
    for at in 0..GROUP_SIGNATURE_BYTES {
        let mut changed = signature;
        changed[at] ^= 1 << (at % 8);
        let lie = Attestation::Validators(attested, changed);
        assert_eq!(lie.verify(ledger, &key), None, "byte {at}");
    }
    // Nothing, and the point that adds nothing, with the key that adds nothing.
    let mut neutral = ([0; GROUP_SIGNATURE_BYTES], [0; GROUP_KEY_BYTES]);
    let nothing = Attestation::Validators(attested, neutral.0);
    assert_eq!(nothing.verify(ledger, &key), None);
    assert_eq!(
        nothing.verify(ledger, &LedgerKey::Validators(neutral.1)),
        None
    );
    (neutral.0[0], neutral.1[0]) = (0xc0, 0xc0);
    let nothing = Attestation::Validators(attested, neutral.0);
    assert_eq!(nothing.verify(ledger, &key), None);
    assert_eq!(
        nothing.verify(ledger, &LedgerKey::Validators(neutral.1)),
        None
    );
    let LedgerKey::Validators(mut bytes) = key else {
        panic!("the validators'");
    };
    bytes[50] ^= 1;
    let honest = Attestation::Validators(attested, signature);
    assert_eq!(honest.verify(ledger, &LedgerKey::Validators(bytes)), None);
}

#[test]
fn a_sequencer_attests_with_its_own_key_alone() {
    let attested = attested();
    let (ledger, sequencer) = (attested.ledger, SecretKey::from_bytes(&[1; 32]));
    let key = LedgerKey::Sequencer(sequencer.public());
    let attestation = Attestation::sign(attested, &sequencer);
    assert_eq!(attestation.verify(ledger, &key), Some(&attested));
    let elsewhere = LedgerId::new(Digest::of(b"another"));
    assert_eq!(attestation.verify(elsewhere, &key), None);
    let other = LedgerKey::Sequencer(SecretKey::from_bytes(&[2; 32]).public());
    assert_eq!(attestation.verify(ledger, &other), None);
    // Neither kind counts for the other.
    let secret = secret(1);
    assert_eq!(attestation.verify(ledger, &key_of(&secret)), None);
    assert_eq!(together(attested, &secret).verify(ledger, &key), None);
    for other in others() {
        // Signed for another ledger than the one that it names.
        let lie = Attestation::Sequencer(Signed::sign_for(other, elsewhere, &sequencer));
        assert_eq!(lie.verify(ledger, &key), None);
        assert_eq!(lie.unverified(), &other);
    }
}
