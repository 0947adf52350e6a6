//! Golden vectors: `tests/vectors/consensus.json` freezes what validators send each other, and what
//! of it is refused.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

use std::collections::BTreeMap;

use cairn_core::{
    AccountId, Amount, Bounded, Digest, EpochNumber, Height, LedgerId, NodeId, Record, SecretKey,
    Signed, UnixMillis, ViewNumber,
};
use cairn_ledger::{Attestation, Attested, AuditReport, Tx, TxBody, ViewSeed, Witness};
use data_encoding::HEXLOWER;

use super::attest::AttestationNews;
use super::forward::{ForwardedTxs, messages};
use super::proposal::Proposal;
use crate::mempool::Submitted;

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/vectors/consensus.json"
);

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn signed(number: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
    let tx = Tx {
        account: AccountId::new(key(number).public()),
        nonce,
        fee: Amount::from_micro(3),
        body,
    };
    Signed::sign(tx, &key(number))
}

fn witness(bytes: &[u8]) -> Witness {
    Witness::new(bytes.to_vec()).unwrap()
}

fn proof(number: u8, bytes: &[u8]) -> Submitted {
    let body = TxBody::ProofSubmit {
        epoch: EpochNumber::new(5),
        witness: Digest::of(bytes),
        audits: AuditReport::default(),
    };
    Submitted {
        tx: signed(number, 0, body),
        witness: Some(witness(bytes)),
    }
}

fn plain(number: u8, nonce: u64) -> Submitted {
    Submitted {
        tx: signed(number, nonce, TxBody::NodeDrain),
        witness: None,
    }
}

fn proposal() -> Proposal {
    let txs = [plain(1, 0), proof(2, b"a proof"), plain(1, 1)];
    Proposal {
        time: UnixMillis::new(1_764_000_000_000),
        view: ViewNumber::new(9),
        seeds: Bounded::new(vec![ViewSeed {
            view: ViewNumber::new(8),
            signature: Bounded::new(vec![0x5e; 48]).unwrap(),
        }])
        .unwrap(),
        lost: Bounded::new(vec![NodeId::new(key(7).public())]).unwrap(),
        txs: Bounded::new(txs.map(|it| it.tx).to_vec()).unwrap(),
        witnesses: Bounded::new(vec![witness(b"a proof")]).unwrap(),
    }
}

fn attested() -> Attested {
    Attested {
        ledger: LedgerId::new(Digest::of(b"a ledger")),
        height: Height::new(7),
        time: UnixMillis::new(1_764_000_000_000),
        root: Digest::of(b"a state"),
        chain: Digest::of(b"blocks"),
    }
}

fn attestation_part() -> AttestationNews {
    AttestationNews::Part {
        attested: attested(),
        part: Bounded::new(vec![0x5e; 49]).unwrap(),
    }
}

/// The encoding, after a look that it decodes to the same.
fn hex<T: Record + PartialEq + std::fmt::Debug>(record: &T) -> String {
    let bytes = record.encode();
    assert_eq!(T::decode(&bytes).as_ref(), Ok(record));
    HEXLOWER.encode(&bytes)
}

#[test]
fn messages_have_their_golden_encoding() {
    let forwarded = messages(vec![plain(1, 0), proof(2, b"a proof")]);
    let newest = Attestation::Validators(attested(), [0x5e; 48]);
    let newest = AttestationNews::Newest(newest);
    let made = BTreeMap::from([
        ("forwarded_txs".to_owned(), hex(&forwarded[0])),
        ("proposal".to_owned(), hex(&proposal())),
        ("attestation_part".to_owned(), hex(&attestation_part())),
        ("attestation_newest".to_owned(), hex(&newest)),
    ]);
    if std::env::var_os("CAIRN_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(PATH, text).unwrap();
    }
    let text = std::fs::read_to_string(PATH).unwrap();
    let golden: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    assert_eq!(made, golden);
    // As docs/protocol/records.md has them.
    assert_eq!(Proposal::BYTES_MAX, 2_363_392);
    assert_eq!(ForwardedTxs::BYTES_MAX, FORWARDED_BYTES_MAX);
}

/// As docs/protocol/records.md has it.
const FORWARDED_BYTES_MAX: usize = 901_136;

#[test]
fn a_proposal_has_the_witness_of_each_proof_and_no_other() {
    let witnesses = |bytes: &[&[u8]]| {
        let witnesses = bytes.iter().map(|bytes| witness(bytes)).collect();
        let witnesses = Bounded::new(witnesses).unwrap();
        Proposal {
            witnesses,
            ..proposal()
        }
    };
    assert!(Proposal::decode(&witnesses(&[b"a proof"]).encode()).is_ok());
    let wrong: [&[&[u8]]; 3] = [&[], &[b"another"], &[b"a proof", b"a proof"]];
    for bytes in wrong {
        let encoded = witnesses(bytes).encode();
        assert!(Proposal::decode(&encoded).is_err(), "{bytes:?}");
    }
}

#[test]
fn what_is_passed_on_keeps_its_order_and_fits_its_messages() {
    let large = vec![7; 400_000];
    let txs: Vec<Submitted> = (0..6)
        .flat_map(|number| [plain(number, 0), proof(number, &large)])
        .chain((0..300).map(|nonce| plain(9, nonce)))
        .collect();
    let sent: Vec<Signed<Tx>> = txs.iter().map(|it| it.tx.clone()).collect();
    let mut received = Vec::new();
    for message in messages(txs) {
        let decoded = ForwardedTxs::decode(&message.encode()).unwrap();
        for submitted in decoded.into_submitted() {
            assert_eq!(submitted.check_witness(), Ok(()));
            received.push(submitted.tx);
        }
    }
    assert_eq!(received, sent);
    assert!(messages(Vec::new()).is_empty());
}
