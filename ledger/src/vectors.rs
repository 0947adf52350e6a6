//! Golden vectors: `tests/vectors/ledger.json` freezes the encoding of every record of this crate,
//! the placement and the state that a fixed chain of blocks ends in.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

mod registry;
mod term;

use std::collections::BTreeMap;

use cairn_core::{
    Amount, Bounded, Digest, EpochNumber, GroupId, Height, Record, Signed, UnixMillis, VolumeId,
};
use data_encoding::HEXLOWER;

use crate::attestation::{Attestation, Attested};
use crate::block::{Block, Verdict};
use crate::earnings::{CauseSum, Earnings, EarningsLine};
use crate::effect::{BlockEffects, Effect};
use crate::genesis::Parameters;
use crate::movement::{Cause, Movement};
use crate::notary::DigestSet;
use crate::port::{LedgerError, Witness};
use crate::query::Question;
use crate::sample::shown::evidence;
use crate::sample::{
    OWNER, SEQUENCER, World, account, acknowledge, attest, declare_loss, genesis, key, ledger,
    node, open, party, register, revise, slot, terms,
};
use crate::score::AuditReport;
use crate::seal::{BlockSeal, Chained};
use crate::state::entries::{Entries, Entry};
use crate::ticket::{AuditNode, AuditRank};
use crate::trie::Trie;
use crate::tx::{Tx, TxBody, group_id, tx_id};
use crate::tx_error::TxError;
use crate::view::BlockSummary;
use crate::wire::{Answer, LedgerRequest, LedgerResponse, TxEvidence};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/ledger.json");

/// The encoding, after a look that it decodes to the same.
fn hex<T: Record + PartialEq + std::fmt::Debug>(record: &T) -> String {
    let bytes = record.encode();
    assert_eq!(T::decode(&bytes).as_ref(), Ok(record));
    HEXLOWER.encode(&bytes)
}

fn signed(number: u8, body: TxBody) -> Signed<Tx> {
    let tx = Tx {
        account: account(number),
        nonce: 7,
        fee: Amount::from_micro(3),
        body,
    };
    Signed::sign_for(tx, ledger(), &key(number))
}

fn txs() -> Vec<(&'static str, Signed<Tx>)> {
    let id = group_id(tx_id(&signed(OWNER, open(20, 40))));
    let to = account(2);
    let amount = Amount::from_micro(1_500_000);
    let update = TxBody::NodeUpdate {
        terms: terms(9, (4, 5, 6)),
    };
    let proof = TxBody::ProofSubmit {
        epoch: EpochNumber::new(5),
        witness: Digest::of(b"a proof"),
        audits: AuditReport {
            passed: 0b1010_0101,
            failed: 0b0001_1000,
        },
    };
    vec![
        (
            "tx transfer",
            signed(OWNER, TxBody::Transfer { to, amount }),
        ),
        (
            "tx node register",
            signed(10, register(10, 3, terms(8, (1, 2, 3)))),
        ),
        ("tx node update", signed(10, update)),
        ("tx node drain", signed(10, TxBody::NodeDrain)),
        ("tx group open", signed(OWNER, open(20, 40))),
        ("tx group revise", signed(OWNER, revise(id, 1, 9))),
        ("tx acknowledge", signed(10, acknowledge(slot(id, 39), 1))),
        ("tx declare loss", signed(10, declare_loss(slot(id, 39)))),
        ("tx proof submit", signed(10, proof)),
    ]
}

/// A fixed chain: nodes, a group, a revision, a leaver, a lost node, a refusal.
fn chain() -> World {
    let places: Vec<_> = (0..12)
        .map(|number| (number / 2, number / 3, number / 6))
        .collect();
    let mut world = World::with_nodes(4, &places);
    let id = world.place(4, 8);
    world.accept(OWNER, revise(id, 1, 2));
    let leaver = world.holder(slot(id, 0));
    world.accept(leaver, acknowledge(slot(id, 0), 1));
    world.accept(leaver, TxBody::NodeDrain);
    world.lose(&[world.holder(slot(id, 5))]);
    world.pass();
    let refused = world.signed(2, revise(id, 2, 2));
    let opened = Tx {
        nonce: refused.unverified().nonce + 1,
        ..world.signed(2, open(1, 2)).into_unverified()
    };
    let opened = world.sign(opened, 2);
    world.apply(world.next_block(&[], vec![refused, opened]));
    world
}

/// Effects of some block.
fn effects(world: &World) -> BlockEffects {
    let id = tx_id(&signed(OWNER, open(2, 4)));
    let group = placed(world);
    let holder = world.group(group).deals[1].node;
    BlockEffects {
        height: world.state.height(),
        time: world.state.time(),
        effects: vec![
            Effect::TxDone {
                id,
                result: Err(TxError::AmountZero),
            },
            Effect::SlotMoved {
                slot: slot(group, 1),
                from: None,
                to: holder,
            },
            Effect::Moved(Movement {
                account: account(2),
                epoch: EpochNumber::new(5),
                cause: Cause::Received,
                amount: Amount::from_micro(9),
            }),
        ],
    }
}

/// The group of the chain that is placed.
fn placed(world: &World) -> GroupId {
    let mut groups = world.state.groups();
    groups.find(|group| group.is_placed()).expect("a group").id
}

/// The same block alone, shown by its own ledger.
fn alone<T>(block: (BlockSeal, T)) -> Chained<T> {
    let before = Digest::of(b"blocks before");
    let after = vec![Digest::of(b"a block after")];
    let height = block.0.height.next().expect("a next one");
    let attested = Attested {
        ledger: ledger(),
        height,
        time: UnixMillis::new(2_000),
        root: Digest::of(b"a state"),
        chain: block.0.follow(before),
    };
    Chained {
        blocks: vec![block],
        before,
        after,
        attestation: Attestation::sign(attested, &key(SEQUENCER)),
    }
}

fn response(answer: Answer) -> String {
    let ledger = ledger();
    hex(&LedgerResponse { ledger, answer })
}

/// A question of every kind.
fn asked(world: &World) -> Vec<(&'static str, Question)> {
    let group = placed(world);
    let node = world.group(group).deals[1].node;
    let volume = VolumeId::new(Digest::of(b"a volume"));
    let holder = account(9).key();
    let owner = Some(account(OWNER));
    let after = Some(slot(group, 1));
    vec![
        ("account", Question::Account(account(1))),
        ("node", Question::Node(node)),
        ("group", Question::Group(group)),
        ("slots", Question::Slots { node, after }),
        ("status", Question::Status),
        ("challenge", Question::Challenge { node, after }),
        ("epoch", Question::Epoch),
        ("nodes", Question::Nodes { after: Some(node) }),
        (
            "groups",
            Question::Groups {
                owner,
                after: Some(group),
            },
        ),
        ("earnings", Question::Earnings(node)),
        ("proven", Question::Proven(group)),
        ("volumes", Question::Volumes(account(OWNER))),
        ("volume", Question::Volume(volume)),
        ("grants", Question::Grants(volume)),
        ("grant", Question::Grant { volume, holder }),
        (
            "notarisation",
            Question::Notarisation(Digest::of(b"a file")),
        ),
        (
            "audit",
            Question::Audit {
                auditor: node,
                number: 3,
            },
        ),
    ]
}

fn requests(world: &World) -> Vec<(String, String)> {
    let transfer = Box::new(signed(OWNER, open(2, 4)));
    let id = tx_id(&transfer);
    let from = world.state.height();
    let proof = txs().pop().expect("the proof").1;
    let witness = Witness::new(b"a proof".to_vec()).expect("a short one");
    let tx = Box::new(proof);
    let plain = [
        ("submit", LedgerRequest::Submit(transfer)),
        ("prove", LedgerRequest::Prove { tx, witness }),
        ("effects", LedgerRequest::Effects { from }),
        ("blocks", LedgerRequest::Blocks { from }),
        ("tx", LedgerRequest::Tx(id)),
    ];
    let asked = asked(world).into_iter().map(|(name, question)| {
        let at_least = from;
        (name, LedgerRequest::Ask { question, at_least })
    });
    let named = |(name, request): (&str, LedgerRequest)| (format!("request {name}"), hex(&request));
    plain.into_iter().chain(asked).map(named).collect()
}

/// What those who order the ledger sign, and what shows something with that.
fn shown(world: &World) -> Vec<(&'static str, String)> {
    let attested = world.state.attested();
    let plain = |value: &Attestation| HEXLOWER.encode(&borsh::to_vec(value).expect("memory"));
    let together = Attestation::Validators(attested, [7; 48]);
    let group = placed(world);
    let evidence = evidence(&world.state, Question::Group(group));
    let effects = effects(world);
    let block = world.blocks.last().expect("blocks");
    let results = [Ok(()), Err(TxError::AmountZero)].into_iter();
    let summary = BlockSummary::of(block, effects.effects.len(), results);
    let seal = BlockSeal::of(&summary, &effects.effects);
    let id = summary.txs[1].id;
    let tx = || Box::new(TxEvidence::of(alone((seal, summary.show(id)))));
    let oldest = Height::new(2);
    let lookup = |found| Answer::Tx { oldest, found };
    let (found, none) = (lookup(Some(tx())), lookup(None));
    let holder = world.group(group).deals[1].node;
    let refused = LedgerError::Refused(TxError::NotHolder {
        slot: slot(group, 1),
        expected: None,
        found: holder,
    });
    let behind = LedgerError::Behind {
        expected: Height::new(3),
        found: Height::new(2),
    };
    let namespace = Attested::namespace(ledger());
    vec![
        ("attested", hex(&attested)),
        ("namespace of validators", HEXLOWER.encode(&namespace)),
        ("attestation of a sequencer", plain(&attest(&world.state))),
        ("attestation of validators", plain(&together)),
        ("root of state", world.state.root().to_string()),
        ("chain of state", world.state.chain().to_string()),
        ("evidence of a group", hex(&evidence)),
        (
            "group proof",
            hex(&world.state.group_proof(group).expect("a group")),
        ),
        (
            "seal of a block",
            HEXLOWER.encode(&borsh::to_vec(&seal).expect("memory")),
        ),
        ("digest of the seal", seal.digest().to_string()),
        (
            "chain behind the seal",
            seal.follow(Digest::of(b"blocks before")).to_string(),
        ),
        (
            "response evidence",
            response(Answer::Evidence(Box::new(evidence))),
        ),
        (
            "response effects",
            response(Answer::Effects(Box::new(alone((seal, effects))))),
        ),
        (
            "response blocks",
            response(Answer::Blocks(Box::new(alone((seal, summary.clone()))))),
        ),
        ("response done", response(Answer::Done(tx()))),
        ("response tx", response(found)),
        ("response tx unknown", response(none)),
        ("response error", response(Answer::Error(refused))),
        ("response error behind", response(Answer::Error(behind))),
    ]
}

fn trie(entries: &[(&[u8], &[u8])]) -> Trie {
    let mut trie = Trie::default();
    for (key, value) in entries {
        trie.insert(key, value.to_vec()).expect("it is whole");
    }
    trie
}

/// Small tries, and what is in those of states.
fn tries(world: &World) -> Vec<(&'static str, String)> {
    let plain = |bytes: Vec<u8>| HEXLOWER.encode(&bytes);
    let four: [(&[u8], &[u8]); 4] = [
        (&[1, 0x02], b"one"),
        (&[1, 0x03], b""),
        (&[1, 0x82], b"three"),
        (&[3, 0x02, 0xff], b"four"),
    ];
    let some = trie(&four).pruned(&[vec![1, 0x02], vec![1, 0x82]].into_iter().collect());
    let Ok(head) = world.state.head();
    let member = Digest::of(b"one");
    let set: DigestSet = [member, Digest::of(b"two"), Digest::of(b"three")]
        .into_iter()
        .collect();
    let earnings = Earnings {
        opening: Amount::from_micro(5),
        before_through: Some(EpochNumber::new(3)),
        before: vec![CauseSum {
            cause: Cause::Pay,
            micro: 7,
        }],
        lines: vec![EarningsLine {
            epoch: EpochNumber::new(4),
            cause: Cause::Fee,
            micro: 2,
        }],
    };
    vec![
        ("set of digests", hex(&set)),
        ("root of the set of digests", set.root().to_string()),
        ("part of the set of digests", hex(&set.part(member))),
        ("trie root of nothing", trie(&[]).root().to_string()),
        (
            "trie root of one entry",
            trie(&four[..1]).root().to_string(),
        ),
        ("trie root of four entries", trie(&four).root().to_string()),
        (
            "trie of four entries",
            plain(borsh::to_vec(&trie(&four)).unwrap()),
        ),
        (
            "trie with two of the four",
            plain(borsh::to_vec(&some).unwrap()),
        ),
        ("entry head", plain(borsh::to_vec(&head).unwrap())),
        ("entry earnings", plain(borsh::to_vec(&earnings).unwrap())),
        (
            "key of rank 258",
            plain(AuditNode::trie_key(&AuditRank::new(258))),
        ),
    ]
}

fn vectors() -> BTreeMap<String, String> {
    let world = chain();
    let mut all: Vec<(&str, String)> = txs()
        .into_iter()
        .map(|(name, tx)| (name, hex(&tx)))
        .collect();
    let opened = signed(OWNER, open(20, 40));
    let placed = world.blocks.last().expect("blocks");
    let proof = txs().pop().expect("the proof").1;
    let judged = Block {
        verdicts: Bounded::new(vec![Verdict::Valid]).unwrap(),
        ..world.next_block(&[], vec![proof])
    };
    let group = world.state.groups().find(|group| group.deals.len() == 8);
    let parties: Vec<String> = group
        .expect("the placed group")
        .deals
        .iter()
        .map(|deal| party(deal.node).to_string())
        .collect();
    all.extend([
        ("tx id of tx group open", tx_id(&opened).to_string()),
        ("genesis", hex(&genesis(Parameters::default()))),
        ("block", hex(placed)),
        ("block with a verdict", hex(&judged)),
        ("state", hex(&world.state)),
        ("digest of state", world.digest().to_string()),
        (
            "parties of the slots of the group in state",
            parties.join(" "),
        ),
    ]);
    all.extend(shown(&world));
    all.extend(tries(&world));
    all.into_iter()
        .map(|(name, hex)| (name.to_owned(), hex))
        .chain(requests(&world))
        .chain(registry::vectors())
        .chain(term::vectors())
        .collect()
}

#[test]
fn records_encode_as_the_golden_vectors_say() {
    let made = vectors();
    if std::env::var_os("CAIRN_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(PATH, text).unwrap();
    }
    let text = std::fs::read_to_string(PATH).unwrap();
    let golden: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    for (name, hex) in &made {
        assert_eq!(golden.get(name), Some(hex), "vector {name:?} changed");
    }
    assert_eq!(golden.len(), made.len(), "a vector has no record any more");
}

/// The bytes of docs/protocol/ledger.md, put together by hand.
#[test]
fn a_transaction_is_the_bytes_that_the_specification_says() {
    let to = account(2);
    let amount = Amount::from_micro(1_500_000);
    let tx = signed(OWNER, TxBody::Transfer { to, amount });
    let mut body = vec![8, 0, 1];
    body.extend_from_slice(account(OWNER).as_bytes());
    body.extend_from_slice(&7_u64.to_le_bytes());
    body.extend_from_slice(&3_u64.to_le_bytes());
    body.push(0);
    body.extend_from_slice(to.as_bytes());
    body.extend_from_slice(&1_500_000_u64.to_le_bytes());
    let signed = [ledger().as_bytes().as_slice(), &body].concat();
    let message = blake3::derive_key("cairn 1 signed record for a ledger", &signed);
    let signature = key(OWNER).sign(&message);
    body.extend_from_slice(account(OWNER).as_bytes());
    body.extend_from_slice(signature.as_bytes());
    assert_eq!(tx.encode(), body);
    assert_eq!(tx_id(&tx).digest(), Digest::of(&body));
    let TxBody::NodeRegister {
        operator_consent, ..
    } = register(10, 3, terms(1, (1, 1, 1)))
    else {
        panic!("a registration");
    };
    let consent = [ledger().as_bytes().as_slice(), node(10).as_bytes()].concat();
    let message = blake3::derive_key("cairn 1 operator consent", &consent);
    assert_eq!(operator_consent, key(3).sign(&message));
}

/// The largest of everything stays under its bound: none of these panics.
#[test]
fn the_widest_records_stay_under_every_bound() {
    let entries = vec![slot(group_id(tx_id(&signed(1, open(2, 4)))), 127); 4096];
    let slots = Bounded::new(entries).unwrap();
    let widest = signed(10, TxBody::DeclareLoss { slots });
    assert!(widest.encode().len() < <Signed<Tx> as Record>::BYTES_MAX);
    let revisions = widest_acknowledge();
    assert!(revisions.encode().len() <= <Signed<Tx> as Record>::BYTES_MAX);
    let request = LedgerRequest::Submit(Box::new(revisions));
    assert!(request.encode().len() <= LedgerRequest::BYTES_MAX);
}

fn widest_acknowledge() -> Signed<Tx> {
    let TxBody::Acknowledge { slots } = acknowledge(slot(Default::default(), 1), u64::MAX) else {
        panic!("an acknowledgement");
    };
    let slots = Bounded::new(slots.into_vec().repeat(4096)).unwrap();
    signed(10, TxBody::Acknowledge { slots })
}
