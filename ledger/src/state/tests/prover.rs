//! Nodes that really hold what the owner wrote: contents follow from the place, so that every
//! revision that a group ever had can be proven.

use cairn_core::message::ShardRange;
use cairn_core::{
    Bounded, ByteCount, Digest, GroupId, GroupRevision, NodeId, Record, RevisionNumber,
    SegmentNumber, Signed, SlotIndex, SlotRoot,
};
use cairn_proofs::{
    AcknowledgedSlot, Leaf, Outboard, Proof, ProofSource, SlotTree, group_root, hash_shard, prove,
};

use crate::block::{Block, Verdict};
use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::sample::{Place, World, node};
use crate::score::AuditReport;
use crate::tx::{Tx, TxBody};

/// Blocks of an epoch: [`World`] makes one every millisecond.
pub(super) const EPOCH: u64 = 20;

/// A ledger with epochs and nodes 10, 11, ...
pub(super) fn world(nodes: u8) -> World {
    let parameters = Parameters {
        epoch_millis: EPOCH,
        ..Parameters::default()
    };
    let places: Vec<Place> = (1..=nodes).map(|number| (number, number, number)).collect();
    World::with_nodes_on(parameters, 8, &places)
}

/// Passes time until the seed of the next epoch is known.
pub(super) fn pass_epoch(world: &mut World) {
    let before = world.state.epoch().number;
    while world.state.epoch().number == before || world.state.epoch().seed.is_none() {
        world.pass();
    }
}

fn shard(slot: SlotIndex, number: u32) -> Vec<u8> {
    let bytes = 700 + 500 * usize::try_from(number % 3).unwrap();
    let place = u32::try_from(slot.index()).unwrap();
    let seed = [place.to_le_bytes(), number.to_le_bytes()].concat();
    let mut shard = vec![0; bytes];
    blake3::Hasher::new()
        .update(&seed)
        .finalize_xof()
        .fill(&mut shard);
    shard
}

/// A slot at a revision: one more segment each, and those before the last three emptied.
fn tree(slot: SlotIndex, revision: RevisionNumber) -> SlotTree {
    let count = u32::try_from(revision.get()).unwrap();
    let leaves = (0..count).map(|number| {
        if number + 3 < count {
            return Leaf::EMPTY;
        }
        let shard = shard(slot, number);
        let root = hash_shard(&shard).unwrap().root;
        Leaf::new(u32::try_from(shard.len()).unwrap(), root).unwrap()
    });
    SlotTree::from_leaves(leaves).unwrap()
}

fn roots(n: u8, revision: RevisionNumber) -> Vec<SlotRoot> {
    let slots = (0..n).map(SlotIndex::new);
    slots.map(|slot| tree(slot, revision).root()).collect()
}

/// The revision that an owner publishes.
pub(super) fn written(group: GroupId, number: u64, n: u8) -> GroupRevision {
    let number = RevisionNumber::new(number);
    let tree = tree(SlotIndex::new(0), number);
    GroupRevision {
        group,
        number,
        segment_count: tree.count(),
        slot_bytes: ByteCount::new(tree.sum()),
        group_root: group_root(&roots(n, number)).unwrap(),
    }
}

/// Everything that was ever written.
struct Disk;

/// It has everything.
#[derive(Debug)]
enum Never {}

impl ProofSource for Disk {
    type Error = Never;

    fn slot_roots(&self, slot: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, Never> {
        Ok(roots(slot.slot_count, slot.revision.number))
    }

    fn with_tree<T>(
        &self,
        slot: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, Never> {
        Ok(read(&tree(slot.slot, slot.revision.number)))
    }

    fn outboard(
        &self,
        _slot: &AcknowledgedSlot,
        _number: SegmentNumber,
        _leaf: Leaf,
    ) -> Result<Outboard, Never> {
        panic!("no shard is longer than a span")
    }

    fn read(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, Never> {
        let shard = shard(slot.slot, number.get());
        let start = usize::try_from(range.offset).unwrap();
        let end = start + usize::try_from(range.bytes).unwrap();
        Ok(shard[start..end].to_vec())
    }
}

/// The party's proof of the epoch that runs; `None` when there is nothing to prove now.
pub(super) fn proof(world: &World, number: u8) -> Option<Proof> {
    let challenge = world.state.challenge(node(number))?;
    Some(prove(&challenge, &Disk).unwrap())
}

/// What commits to a proof, with no word of audits.
pub(super) fn submission(world: &World, witness: &[u8]) -> TxBody {
    reporting(world, witness, AuditReport::default())
}

/// What commits to a proof, and says how audits ended.
pub(super) fn reporting(world: &World, witness: &[u8], audits: AuditReport) -> TxBody {
    TxBody::ProofSubmit {
        epoch: world.state.epoch().number,
        witness: Digest::of(witness),
        audits,
    }
}

/// A block of transactions with the witnesses of its proofs, judged as a proposer does.
pub(super) fn judged(world: &World, txs: Vec<Signed<Tx>>, witnesses: &[Vec<u8>]) -> Block {
    let find = |digest| {
        let found = witnesses.iter().find(|bytes| Digest::of(bytes) == digest);
        found.map(Vec::as_slice)
    };
    let mut judged_of = std::collections::BTreeSet::new();
    let verdict = |tx: &Signed<Tx>| {
        let tx = tx.unverified();
        let TxBody::ProofSubmit { witness, .. } = tx.body else {
            return None;
        };
        if !judged_of.insert(tx.account) {
            return Some(Verdict::Missing);
        }
        Some(world.state.judge(tx, find(witness).unwrap()).unwrap())
    };
    let verdicts: Vec<Verdict> = txs.iter().filter_map(verdict).collect();
    let block = Block {
        verdicts: Bounded::new(verdicts).unwrap(),
        ..world.next_block(&[], txs)
    };
    assert_eq!(world.state.check_verdicts(&block, find), Ok(()));
    block
}

/// A block of these parties' proofs; its effects.
pub(super) fn prove_all(world: &mut World, parties: &[u8]) -> Vec<Effect> {
    prove_reporting(world, parties, |_| AuditReport::default())
}

/// A block of these parties' proofs, each with what the party says of audits; its effects.
pub(super) fn prove_reporting(
    world: &mut World,
    parties: &[u8],
    report: impl Fn(u8) -> AuditReport,
) -> Vec<Effect> {
    let mut txs = Vec::new();
    let mut witnesses = Vec::new();
    for &number in parties {
        let Some(proof) = proof(world, number) else {
            continue;
        };
        let witness = proof.encode();
        let body = reporting(world, &witness, report(number));
        txs.push(world.signed(number, body));
        witnesses.push(witness);
    }
    let block = judged(world, txs, &witnesses);
    world.apply(block)
}

/// The verdicts among effects.
pub(super) fn verdicts(effects: &[Effect]) -> Vec<(NodeId, Verdict)> {
    let verdict = |effect: &Effect| match effect {
        Effect::Judged { node, verdict, .. } => Some((*node, *verdict)),
        _ => None,
    };
    effects.iter().filter_map(verdict).collect()
}
