//! What callers see, on the real runtime.

use std::path::Path;
use std::time::Duration;

use cairn_core::{
    Amount, Bounded, ByteCount, GroupId, GroupRevision, GroupRoot, Height, LedgerTransport, NodeId,
    Record, RevisionNumber, Signed, SlotIndex, TransportError, TxId,
};
use cairn_ledger::tx::{group_id, tx_id};
use cairn_ledger::{
    Answer, Effect, EvidenceError, Ledger, LedgerError, LedgerKey, LedgerRequest, LedgerResponse,
    Question, RemoteLedger, SlotRef, SlotRevision, Tx, TxBody, TxError, TxKind, submit_body,
};
use cairn_runtime::real::RealRuntime;

use super::{account, genesis, key, open_group, register, signed, transfer};
use crate::sequencer::{Config, OpenError, Sequencer};

fn config(folder: &Path) -> Config {
    Config {
        block_interval: Duration::ZERO,
        poll_limit: Duration::from_millis(50),
        ..Config::new(folder)
    }
}

async fn opened(folder: &Path) -> Sequencer<RealRuntime> {
    let runtime = RealRuntime::current();
    Sequencer::create(&runtime, folder, &genesis())
        .await
        .unwrap();
    Sequencer::open(runtime, config(folder)).await.unwrap()
}

/// The peer that asks.
fn asker() -> NodeId {
    NodeId::new(key(200).public())
}

/// Carries requests to a sequencer in the same process.
#[derive(Clone, Debug)]
struct Direct(Sequencer<RealRuntime>);

impl LedgerTransport for Direct {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Ok(self.0.answer(asker(), &request).await)
    }

    fn turn_away(&self) {}
}

/// The ledger over a transport.
fn remote(sequencer: &Sequencer<RealRuntime>) -> RemoteLedger<Direct> {
    let key = sequencer.key();
    RemoteLedger::new(Direct(sequencer.clone()), genesis().ledger_id(), key)
}

/// Registers four nodes, opens a group and gives its id once it is placed.
async fn placed<L: Ledger>(ledger: &L) -> GroupId {
    for number in 10..14 {
        submit_body(ledger, &key(number), register(number))
            .await
            .unwrap();
    }
    let outcome = submit_body(ledger, &key(1), open_group()).await.unwrap();
    let group = group_id(outcome.id);
    let mut from = outcome.height;
    loop {
        for block in ledger.effects(from).await.unwrap() {
            from = block.height.next().unwrap();
            if block.effects.contains(&Effect::GroupPlaced(group)) {
                return group;
            }
        }
    }
}

#[tokio::test]
async fn a_group_is_opened_placed_revised_and_acknowledged_over_a_transport() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let ledger = remote(&sequencer);
    let id = placed(&ledger).await;
    let group = ledger.group(id).await.unwrap().unwrap();
    assert_eq!(group.deals.len(), 4);
    assert_eq!(group.relaxed.len(), 4, "one machine relaxes every cap");
    let revision = GroupRevision {
        group: id,
        number: RevisionNumber::new(1),
        segment_count: 1,
        slot_bytes: ByteCount::new(1000),
        group_root: GroupRoot::default(),
    };
    submit_body(&ledger, &key(1), TxBody::GroupRevise { revision })
        .await
        .unwrap();
    let holder = group.deal(SlotIndex::new(2)).unwrap().node;
    let number = (10..14)
        .find(|number| NodeId::new(key(*number).public()) == holder)
        .unwrap();
    let slot = SlotRef {
        group: id,
        slot: SlotIndex::new(2),
    };
    assert_eq!(ledger.slots_of(holder).await.unwrap(), [slot]);
    let slots = vec![SlotRevision {
        group: id,
        slot: SlotIndex::new(2),
        revision: RevisionNumber::new(1),
    }];
    let slots = Bounded::new(slots).unwrap();
    submit_body(&ledger, &key(number), TxBody::Acknowledge { slots })
        .await
        .unwrap();
    let group = ledger.group(id).await.unwrap().unwrap();
    assert_eq!(group.current_count(), 1);
    assert_eq!(ledger.status().await.unwrap().active_node_count, 4);
    sequencer.close().await;
}

#[tokio::test]
async fn what_is_final_survives_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let id = placed(&sequencer).await;
    let group = sequencer.group(id).await.unwrap();
    let status = sequencer.status().await.unwrap();
    sequencer.close().await;
    assert_eq!(
        sequencer.submit(signed(1, 1, transfer(5))).await,
        Err(LedgerError::Stopped)
    );
    let runtime = RealRuntime::current();
    let again = Sequencer::open(runtime, config(folder.path()))
        .await
        .unwrap();
    assert_eq!(again.status().await.unwrap(), status);
    assert_eq!(again.group(id).await.unwrap(), group);
    again.close().await;
}

#[tokio::test]
async fn the_same_transaction_again_gives_the_same_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let tx = signed(1, 0, transfer(5));
    let first = sequencer.submit(tx.clone()).await.unwrap();
    assert_eq!(sequencer.submit(tx.clone()).await.unwrap(), first);
    let other = signed(1, 0, transfer(6));
    assert_eq!(
        sequencer.submit(other).await,
        Err(LedgerError::Refused(TxError::Nonce {
            account: account(1),
            expected: 1,
            found: 0
        }))
    );
    let both = tokio::join!(
        sequencer.submit(signed(1, 1, transfer(7))),
        sequencer.submit(signed(1, 1, transfer(7)))
    );
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    let nine = sequencer.account(account(9)).await.unwrap();
    assert_eq!(nine.balance, Amount::from_micro(12));
    sequencer.close().await;
}

#[tokio::test]
async fn a_lost_node_has_its_slots_redrawn() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let id = placed(&sequencer).await;
    let unknown = NodeId::new(key(77).public());
    assert_eq!(
        sequencer.declare_lost(unknown).await,
        Err(LedgerError::Refused(TxError::UnknownNode { node: unknown }))
    );
    submit_body(&sequencer, &key(20), register(20))
        .await
        .unwrap();
    let node = NodeId::new(key(12).public());
    let height = sequencer.declare_lost(node).await.unwrap();
    let next = height.next().unwrap();
    let mut moved = Vec::new();
    while moved.is_empty() {
        moved = sequencer.effects(next).await.unwrap();
    }
    let to = NodeId::new(key(20).public());
    assert!(moved[0].effects.iter().any(
        |effect| matches!(effect, Effect::SlotMoved { from, to: found, .. }
            if *from == Some(node) && *found == to)
    ));
    let group = sequencer.group(id).await.unwrap().unwrap();
    assert!(group.deals.iter().any(|deal| deal.node == to));
    sequencer.close().await;
}

#[tokio::test]
async fn effects_wait_for_a_block_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    assert_eq!(sequencer.effects(Height::new(1)).await.unwrap(), []);
    let (blocks, outcome) = tokio::join!(
        sequencer.effects(Height::new(1)),
        sequencer.submit(signed(1, 0, transfer(5)))
    );
    let blocks = blocks.unwrap();
    assert_eq!(blocks.len(), 1);
    let id = outcome.unwrap().id;
    let done = Effect::TxDone { id, result: Ok(()) };
    assert_eq!(blocks[0].effects.last(), Some(&done));
    assert_eq!(
        sequencer.effects(Height::ZERO).await,
        Err(LedgerError::Forgotten {
            oldest: Height::new(1),
            found: Height::ZERO
        })
    );
    sequencer.close().await;
    assert_eq!(
        sequencer.effects(Height::new(2)).await,
        Err(LedgerError::Stopped)
    );
    assert_eq!(sequencer.effects(Height::new(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn garbage_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let mut forged = signed(1, 0, transfer(5)).encode();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let forged = Signed::<Tx>::decode(&forged).unwrap();
    for (request, error) in [
        (Vec::new(), LedgerError::Request),
        (vec![11, 0, 1, 99], LedgerError::Request),
        (
            LedgerRequest::Submit(Box::new(forged)).encode(),
            LedgerError::Refused(TxError::Signature {
                signer: key(1).public(),
            }),
        ),
    ] {
        let response = LedgerResponse::decode(&sequencer.answer(asker(), &request).await).unwrap();
        let answer = Answer::Error(error);
        let expected = LedgerResponse {
            ledger: genesis().ledger_id(),
            answer,
        };
        assert_eq!(response, expected);
    }
    sequencer.close().await;
}

#[tokio::test]
async fn a_folder_is_used_by_one_and_created_once() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = RealRuntime::current();
    let missing = Sequencer::open(runtime.clone(), config(folder.path())).await;
    assert!(matches!(missing, Err(OpenError::NotCreated { .. })));
    let sequencer = opened(folder.path()).await;
    let second = Sequencer::open(runtime.clone(), config(folder.path())).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    sequencer.close().await;
    let again = Sequencer::create(&runtime, folder.path(), &genesis()).await;
    assert!(matches!(again, Err(OpenError::AlreadyCreated { .. })));
    assert!(
        Sequencer::is_created(&runtime, folder.path())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn many_at_once_share_blocks_and_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let submits = (0..200).map(|nonce| {
        let tx = signed(1, nonce, transfer(1));
        let id = tx_id(&tx);
        let sequencer = sequencer.clone();
        async move { (id, sequencer.submit(tx).await) }
    });
    // In order: each is queued at its first poll.
    let mut outcomes = Vec::new();
    let mut waiting: Vec<_> = submits.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|submit| match submit.as_mut().poll(context) {
            std::task::Poll::Ready(outcome) => {
                outcomes.push(outcome);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    for (id, outcome) in outcomes {
        assert_eq!(outcome.unwrap().id, id);
    }
    let status = sequencer.status().await.unwrap();
    assert!(status.height.get() < 100, "{} blocks", status.height);
    sequencer.close().await;
}

#[tokio::test]
async fn what_people_look_at_is_answered_over_a_transport_and_shown_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = opened(folder.path()).await;
    let ledger = remote(&sequencer);
    let id = placed(&ledger).await;
    let last = ledger.status().await.unwrap().height;
    let blocks = ledger.blocks(Height::new(1)).await.unwrap();
    assert_eq!(blocks.last().unwrap().height, last);
    let opening = TxId::new(id.digest());
    let lookup = ledger.tx(opening).await.unwrap();
    let (height, _, tx) = lookup.found.unwrap();
    assert_eq!((tx.id, tx.kind), (opening, TxKind::GroupOpen));
    let block = blocks.iter().find(|block| block.height == height);
    assert!(block.unwrap().txs.contains(&*tx));
    let forgotten = LedgerError::Forgotten {
        oldest: Height::new(1),
        found: Height::ZERO,
    };
    assert_eq!(ledger.blocks(Height::ZERO).await, Err(forgotten));
    assert_eq!(ledger.blocks(last.next().unwrap()).await.unwrap().len(), 0);

    let groups = ledger.groups_page(Some(account(1)), None).await.unwrap();
    assert_eq!(groups[0].id, id);
    assert_eq!(ledger.groups_page(None, Some(id)).await.unwrap().len(), 0);
    let nodes = ledger.nodes_page(None).await.unwrap();
    assert_eq!(nodes.len(), 4);
    let view = ledger.earnings(nodes[0].node).await.unwrap().unwrap();
    assert_eq!(view.height, last);
    assert_eq!(ledger.earnings(asker()).await, Ok(None));
    assert_eq!(ledger.epoch_view().await.unwrap().active_node_count, 4);

    // What was shown is shown to others, who have the ledger's key alone.
    let question = Question::Proven(id);
    let (evidence, seen) = ledger.evidence(question).await.unwrap();
    let (shown, attested) = evidence
        .check(question, genesis().ledger_id(), &sequencer.key())
        .unwrap();
    assert_eq!((&shown, attested.height), (&seen, last));
    let stranger = LedgerKey::Sequencer(key(7).public());
    let refused = evidence.check(question, genesis().ledger_id(), &stranger);
    assert_eq!(refused, Err(EvidenceError::Attestation));
    sequencer.close().await;
}
