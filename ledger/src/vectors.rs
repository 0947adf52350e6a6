//! Golden vectors: `tests/vectors/ledger.json` freezes the encoding of every record of this crate,
//! the placement and the state that a fixed chain of blocks ends in.
//!
//! Set `CAIRN_WRITE_VECTORS=1` to write the file anew; a commit that changes it carries a
//! `Format-Change:` trailer.

mod registry;

use std::collections::BTreeMap;

use cairn_core::{Amount, Bounded, Digest, EpochNumber, Height, Record, Signed};
use data_encoding::HEXLOWER;

use crate::block::{Block, Verdict};
use crate::earnings::{CauseSum, Earnings, EarningsLine};
use crate::effect::{BlockEffects, Effect};
use crate::epoch::{ChallengePage, FrozenSlot};
use crate::genesis::Parameters;
use crate::movement::{Cause, Movement};
use crate::port::{LedgerError, TxOutcome, Witness};
use crate::sample::{
    OWNER, World, account, acknowledge, declare_loss, genesis, key, ledger, node, open, party,
    register, revise, revision, slot, terms,
};
use crate::score::AuditReport;
use crate::ticket::{AuditPage, AuditTicket};
use crate::tx::{Tx, TxBody, group_id, tx_id};
use crate::tx_error::TxError;
use crate::view::{BlockSummary, EarningsView, GroupProof, SlotProof, TxLookup, View, ViewRequest};
use crate::wire::{Answer, LedgerRequest, LedgerResponse};

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

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn messages(world: &World) -> Vec<(&'static str, String)> {
    let transfer = signed(OWNER, open(2, 4));
    let id = tx_id(&transfer);
    let mut groups = world.state.groups();
    let group = groups
        .find(|group| group.is_placed())
        .expect("a group")
        .clone();
    let holder = group.deals[1].node;
    let height = world.state.height();
    let response = |answer| {
        hex(&LedgerResponse {
            ledger: ledger(),
            height,
            answer,
        })
    };
    let after = Some(slot(group.id, 1));
    let refused = LedgerError::Refused(TxError::NotHolder {
        slot: slot(group.id, 1),
        expected: None,
        found: holder,
    });
    let effects = vec![
        Effect::TxDone {
            id,
            result: Err(TxError::AmountZero),
        },
        Effect::SlotMoved {
            slot: slot(group.id, 1),
            from: None,
            to: holder,
        },
        Effect::Moved(Movement {
            account: account(2),
            epoch: EpochNumber::new(5),
            cause: Cause::Received,
            amount: Amount::from_micro(9),
        }),
    ];
    let block = BlockEffects {
        height,
        time: world.state.time(),
        effects,
    };
    let frozen = FrozenSlot {
        revision: revision(group.id, 3, 9),
        slot: cairn_core::SlotIndex::new(1),
        slot_count: 8,
    };
    let page = Box::new(ChallengePage {
        epoch: EpochNumber::new(5),
        seed: Digest::of(b"a seed"),
        sample_count: 32,
        slots: Bounded::new(vec![frozen]).unwrap(),
    });
    let ticket = AuditTicket {
        number: 3,
        audited: holder,
        slot: frozen,
        seed: Digest::of(b"a sample"),
    };
    let audits = Box::new(AuditPage {
        epoch: EpochNumber::new(5),
        tickets: Bounded::new(vec![ticket]).unwrap(),
    });
    let outcome = TxOutcome { id, height };
    let entry = world.state.node(holder).cloned();
    vec![
        (
            "request submit",
            hex(&LedgerRequest::Submit(Box::new(transfer))),
        ),
        ("request account", hex(&LedgerRequest::Account(account(1)))),
        ("request node", hex(&LedgerRequest::Node(holder))),
        ("request group", hex(&LedgerRequest::Group(group.id))),
        (
            "request slots",
            hex(&LedgerRequest::Slots {
                node: holder,
                after,
            }),
        ),
        ("request status", hex(&LedgerRequest::Status)),
        (
            "request challenge",
            hex(&LedgerRequest::Challenge {
                node: holder,
                after,
            }),
        ),
        (
            "request prove",
            hex(&LedgerRequest::Prove {
                tx: Box::new(signed(
                    10,
                    TxBody::ProofSubmit {
                        epoch: EpochNumber::new(5),
                        witness: Digest::of(b"a proof"),
                        audits: AuditReport::default(),
                    },
                )),
                witness: Witness::new(b"a proof".to_vec()).expect("a short one"),
            }),
        ),
        (
            "response challenge",
            response(Answer::Challenge(Some(page))),
        ),
        ("request audits", hex(&LedgerRequest::Audits(holder))),
        ("response audits", response(Answer::Audits(Some(audits)))),
        (
            "request effects",
            hex(&LedgerRequest::Effects { from: height }),
        ),
        ("response done", response(Answer::Done(outcome))),
        (
            "response account",
            response(Answer::Account(world.state.account(account(1)))),
        ),
        ("response node", response(Answer::Node(entry))),
        (
            "response group",
            response(Answer::Group(Some(group.clone()))),
        ),
        (
            "response slots",
            response(Answer::Slots(vec![slot(group.id, 1)])),
        ),
        (
            "response status",
            response(Answer::Status(world.state.status())),
        ),
        ("response effects", response(Answer::Effects(vec![block]))),
        ("response error", response(Answer::Error(refused))),
    ]
}

/// What people look at.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn views(world: &World) -> Vec<(&'static str, String)> {
    let transfer = signed(OWNER, open(2, 4));
    let id = tx_id(&transfer);
    let mut groups = world.state.groups();
    let group = groups.find(|group| group.is_placed()).expect("a group").id;
    let holder = world.group(group).deals[1].node;
    let proof = GroupProof {
        slots: Bounded::new(vec![SlotProof {
            slot: cairn_core::SlotIndex::new(1),
            node: holder,
            epoch: EpochNumber::new(0),
            revision: cairn_core::RevisionNumber::new(1),
            segment_count: 2,
        }])
        .expect("one slot"),
        ..world.state.group_proof(group).expect("a group")
    };
    let block = world.blocks.last().expect("blocks");
    let results = [Ok(()), Err(TxError::AmountZero)].into_iter();
    let summary = BlockSummary::of(block, 3, results);
    let found = summary.txs.first().cloned().map(Box::new);
    let lookup = TxLookup {
        oldest: Height::new(2),
        found: found.map(|tx| (block.height, block.time, tx)),
    };
    let earnings = EarningsView {
        earnings: Earnings {
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
        },
        ..world.state.earnings_view(holder).expect("a node")
    };
    let request = |request| hex(&LedgerRequest::View(request));
    let response = |view| {
        hex(&LedgerResponse {
            ledger: ledger(),
            height: world.state.height(),
            answer: Answer::View(view),
        })
    };
    let owner = Some(account(1));
    let receipt = Signed::sign_for(proof.clone(), ledger(), &key(9));
    let nodes = Bounded::new(vec![world.state.node(holder).expect("a node").clone()]);
    let groups = Bounded::new(vec![world.group(group).summary()]);
    let blocks = Bounded::new(vec![summary]);
    let from = Height::new(4);
    vec![
        ("group proof", hex(&proof)),
        ("durability receipt", hex(&receipt)),
        ("request view epoch", request(ViewRequest::Epoch)),
        (
            "request view nodes",
            request(ViewRequest::Nodes {
                after: Some(holder),
            }),
        ),
        (
            "request view groups",
            request(ViewRequest::Groups {
                owner,
                after: Some(group),
            }),
        ),
        (
            "request view earnings",
            request(ViewRequest::Earnings(holder)),
        ),
        ("request view proven", request(ViewRequest::Proven(group))),
        ("request view receipt", request(ViewRequest::Receipt(group))),
        ("request view blocks", request(ViewRequest::Blocks { from })),
        ("request view tx", request(ViewRequest::Tx(id))),
        (
            "response view epoch",
            response(View::Epoch(world.state.epoch_view())),
        ),
        (
            "response view nodes",
            response(View::Nodes(nodes.expect("one"))),
        ),
        (
            "response view groups",
            response(View::Groups(groups.expect("one"))),
        ),
        (
            "response view earnings",
            response(View::Earnings(Some(Box::new(earnings)))),
        ),
        (
            "response view proven",
            response(View::Proven(Some(Box::new(proof)))),
        ),
        (
            "response view receipt",
            response(View::Receipt(Some(Box::new(receipt)))),
        ),
        (
            "response view blocks",
            response(View::Blocks(blocks.expect("one"))),
        ),
        ("response view tx", response(View::Tx(lookup))),
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
    all.extend(messages(&world));
    all.extend(views(&world));
    all.into_iter()
        .map(|(name, hex)| (name.to_owned(), hex))
        .chain(registry::vectors())
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
    let page: Vec<_> = (0..u32::try_from(crate::wire::SLOTS_PAGE_MAX).unwrap())
        .map(|number| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            slot(cairn_core::GroupId::new(Digest::new(id)), 1)
        })
        .collect();
    let height = Height::new(u64::MAX);
    let answer = Answer::Slots(page);
    let response = LedgerResponse {
        ledger: ledger(),
        height,
        answer,
    };
    assert!(!hex(&response).is_empty());
}

fn widest_acknowledge() -> Signed<Tx> {
    let TxBody::Acknowledge { slots } = acknowledge(slot(Default::default(), 1), u64::MAX) else {
        panic!("an acknowledgement");
    };
    let slots = Bounded::new(slots.into_vec().repeat(4096)).unwrap();
    signed(10, TxBody::Acknowledge { slots })
}
