//! What a receipt shows, and to whom. That of an upload is made with real nodes in `tests/binary`.

use cairn_core::{AccountId, Amount, Bounded, SecretKey, Signed, UnixMillis, ViewNumber};
use cairn_ledger::{
    Attestation, Block, Genesis, Parameters, RegistryTx, State, StateTrie, Tx, TxBody,
};

use super::*;

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

/// The receipt of digest 1 of three that account 1 had recorded in block 1, attested by key 7.
fn notarised() -> (Receipt, LedgerKey) {
    let account = AccountId::new(key(1).public());
    let genesis = Genesis {
        time: UnixMillis::new(1_000),
        parameters: Parameters::default(),
        endowed: Bounded::new(vec![(account, Amount::from_micro(9))]).unwrap(),
        validators: None,
    };
    let mut state = State::genesis(&genesis).unwrap();
    let set: DigestSet = (0..3).map(digest).collect();
    let body = TxBody::Registry(RegistryTx::Notarise { digest: set.root() });
    let tx = Tx {
        account,
        nonce: 0,
        fee: Amount::ZERO,
        body,
    };
    let block = Block {
        height: state.height().next().unwrap(),
        parent: state.tip(),
        time: UnixMillis::new(2_000),
        view: ViewNumber::new(1),
        seeds: Bounded::empty(),
        lost: Bounded::empty(),
        txs: Bounded::new(vec![Signed::sign_for(tx, state.ledger_id(), &key(1))]).unwrap(),
        verdicts: Bounded::empty(),
    };
    state.apply(&block).unwrap();
    let attestation = Attestation::sign(state.attested(), &key(7));
    let question = Question::Notarisation(set.root());
    let evidence = Evidence::gather(question, attestation, &StateTrie::of(&state)).unwrap();
    let receipt = Receipt {
        ledger: state.ledger_id(),
        about: About::Digest {
            digests: set.part(digest(1)),
            evidence: Box::new(evidence),
        },
    };
    (receipt, LedgerKey::Sequencer(key(7).public()))
}

fn check(receipt: &Receipt, of: Digest, by: &LedgerKey) -> Result<Notarisation, FailureKind> {
    let About::Digest { digests, evidence } = &receipt.about else {
        panic!("expected a notarisation");
    };
    let checked = check_digest(of, (digests, evidence), receipt.ledger, by);
    checked
        .map(|(kept, _)| kept)
        .map_err(|failure| failure.kind())
}

#[test]
fn a_receipt_comes_back_from_its_file_and_shows_its_own_digest_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt.json");
    let (made, by) = notarised();
    made.write(&path).unwrap();
    let read = Receipt::read(&path).unwrap();
    assert_eq!(read, made);
    let kept = check(&read, digest(1), &by).unwrap();
    assert_eq!((kept.height.get(), kept.time.get()), (1, 2_000));
    assert_eq!(kept.account, AccountId::new(key(1).public()));
    for other in [0, 2, 3] {
        assert_eq!(check(&read, digest(other), &by), Err(FailureKind::NotSo));
    }
}

#[test]
fn a_changed_byte_another_key_or_another_ledger_is_refused() {
    let (made, by) = notarised();
    let stranger = LedgerKey::Sequencer(key(8).public());
    assert_eq!(check(&made, digest(1), &stranger), Err(FailureKind::NotSo));
    let mut elsewhere = made.clone();
    elsewhere.ledger = LedgerId::new(digest(9));
    assert_eq!(check(&elsewhere, digest(1), &by), Err(FailureKind::NotSo));
    let About::Digest { digests, evidence } = &made.about else {
        panic!("expected a notarisation");
    };
    let right = check(&made, digest(1), &by).unwrap();
    let (set, shown) = (digests.encode(), evidence.encode());
    for at in 0..set.len() + shown.len() {
        let (mut set, mut shown) = (set.clone(), shown.clone());
        match at.checked_sub(set.len()) {
            None => set[at] ^= 1,
            Some(at) => shown[at] ^= 1,
        }
        let (Ok(digests), Ok(evidence)) = (DigestSet::decode(&set), Evidence::decode(&shown))
        else {
            continue;
        };
        let about = About::Digest {
            digests,
            evidence: Box::new(evidence),
        };
        let forged = Receipt {
            about,
            ledger: made.ledger,
        };
        match check(&forged, digest(1), &by) {
            Err(kind) => assert_eq!(kind, FailureKind::NotSo),
            Ok(found) => assert_eq!(found, right, "byte {at}"),
        }
    }
}

#[test]
fn what_is_no_receipt_is_usage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt.json");
    let (made, _) = notarised();
    let none = Receipt {
        about: About::Groups(Vec::new()),
        ledger: made.ledger,
    };
    none.write(&path).unwrap();
    assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
    for text in ["", "{}", "{\"format\": \"cairn durability receipt 2\"}"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(Receipt::read(&path).unwrap_err().kind(), FailureKind::Usage);
}
