//! How soon a node that has deleted some of its bytes is found: by the real ledger, slot trees and
//! proofs, run after run, against the binomial model.
//!
//! The model: a node that lacks the share p of its bytes passes an epoch of c samples with
//! (1 - p)^c, for samples are drawn by bytes, each for itself.
//!
//! Each run begins with the same state, in which the node keeps everything, and other seeds. In
//! each epoch it is looked that the node may be asked for all that it keeps, is paid all that it earned
//! when its proof is valid, and is slashed and not paid when it is not.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::message::ShardRange;
use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, Height, NodeId,
    Record, RevisionNumber, SecretKey, SegmentNumber, Signed, SlotIndex, SlotRoot, Text,
    UnixMillis,
};
use cairn_ledger::block::{Block, ViewSeed};
use cairn_ledger::group::epoch_price;
use cairn_ledger::tx::{NodeTerms, SlotRef, SlotRevision, group_id};
use cairn_ledger::{
    AuditReport, Effect, FrozenSlot, Genesis, Parameters, State, Tx, TxBody, Verdict,
    operator_consent, tx_id,
};
use cairn_proofs::challenge::SAMPLES_DEFAULT;
use cairn_proofs::{
    AcknowledgedSlot, Challenge, HashedShard, Leaf, Outboard, Proof, ProofSource, SlotTree,
    group_root, hash_shard, prove,
};
use cairn_runtime::sim::SimRng;

use crate::adversary::proving::{shown, with_blocks};
use crate::cluster::key_of;

/// Length of an epoch: an hour.
const EPOCH_MILLIS: u64 = 3_600_000;
/// Epochs that each group is paid for: a year. A run takes some tens of them.
const TERM_EPOCHS: u32 = 24 * 365;
/// What nodes are paid per GiB and epoch.
const PRICE: Amount = Amount::from_micro(1_000_000);
/// What a group can pay out: far more than a node earns in a run.
const ESCROW: Amount = Amount::from_micro(10_000_000);
/// Collateral of each node: more than its slots lock.
const COLLATERAL: Amount = Amount::from_micro(1_000_000);
/// The owner has so much, for all of that.
const PURSE: Amount = Amount::from_micro(1_000_000_000);
/// An invalid proof costs this part of what is locked: a tenth.
const SLASHED_PART: u64 = 10;
/// Capacity of each slot, of which a node locks a part of the price.
const SLOT_CAPACITY: ByteCount = ByteCount::new(64 << 20);
/// Groups in which the node has a slot.
const GROUPS: u64 = 3;
/// Segments of each group.
const SEGMENTS: u32 = 150;
/// Largest shard. All sizes up to this are as likely.
const SHARD_BYTES_MAX: usize = 32 << 10;

/// A shard of the node.
type ShardOf = (SlotRef, SegmentNumber);

/// What the node keeps of a slot.
#[derive(Debug)]
struct Kept {
    tree: SlotTree,
    slot_roots: Vec<SlotRoot>,
    shards: Vec<(Vec<u8>, Outboard)>,
}

/// A node's slots.
#[derive(Debug, Default)]
struct Keeper {
    slots: BTreeMap<SlotRef, Kept>,
}

/// Nothing is kept there.
#[derive(Clone, Copy, Debug)]
struct NotKept;

impl Keeper {
    fn kept(&self, slot: &AcknowledgedSlot) -> Result<&Kept, NotKept> {
        let place = SlotRef {
            group: slot.revision.group,
            slot: slot.slot,
        };
        self.slots.get(&place).ok_or(NotKept)
    }

    fn shard(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
    ) -> Result<&(Vec<u8>, Outboard), NotKept> {
        let at = usize::try_from(number.get()).map_err(|_| NotKept)?;
        self.kept(slot)?.shards.get(at).ok_or(NotKept)
    }

    /// Its shards and how long each is.
    fn shards(&self) -> Vec<(ShardOf, u64)> {
        let of_slot = |(place, kept): (&SlotRef, &Kept)| {
            let place = *place;
            let numbered = (0..)
                .map(SegmentNumber::new)
                .zip(kept.tree.leaves().to_vec());
            numbered.map(move |(number, leaf)| ((place, number), u64::from(leaf.bytes())))
        };
        self.slots.iter().flat_map(of_slot).collect()
    }
}

impl ProofSource for Keeper {
    type Error = NotKept;

    fn slot_roots(&self, slot: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, NotKept> {
        Ok(self.kept(slot)?.slot_roots.clone())
    }

    fn with_tree<T>(
        &self,
        slot: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, NotKept> {
        Ok(read(&self.kept(slot)?.tree))
    }

    fn outboard(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        _: Leaf,
    ) -> Result<Outboard, NotKept> {
        Ok(self.shard(slot, number)?.1.clone())
    }

    fn read(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, NotKept> {
        let from = usize::try_from(range.offset).map_err(|_| NotKept)?;
        let count = usize::try_from(range.bytes).map_err(|_| NotKept)?;
        let (shard, _) = self.shard(slot, number)?;
        shard
            .get(from..from + count)
            .map(<[u8]>::to_vec)
            .ok_or(NotKept)
    }
}

/// A ledger whose blocks are made by hand, with one node that is looked at.
struct Court {
    state: State,
    seeds: SimRng,
    node: SecretKey,
    owner: SecretKey,
    keeper: Keeper,
}

impl Court {
    /// The node keeps a slot of each group, all acknowledged, in the first epoch.
    fn new(seed: u64) -> Self {
        let owner = key_of("owner");
        let parameters = Parameters {
            epoch_millis: EPOCH_MILLIS,
            collateral_epochs: 4,
            repair_epochs: 2,
            ..Parameters::default()
        };
        let endowed = vec![(owner.public().into(), PURSE)];
        let genesis = Genesis {
            time: UnixMillis::new(0),
            parameters,
            endowed: Bounded::new(endowed).expect("one account"),
            validators: None,
        };
        let mut court = Self {
            state: State::genesis(&genesis).expect("it is well formed"),
            seeds: SimRng::labelled(seed, "seeds"),
            node: key_of("node 0"),
            owner,
            keeper: Keeper::default(),
        };
        court.register();
        let groups = court.open_groups();
        court.fill(&groups, seed);
        court
    }

    fn node_id(&self) -> NodeId {
        NodeId::new(self.node.public())
    }

    /// Makes a block so long after the last one. What it did.
    fn block(&mut self, millis: u64, txs: Vec<Signed<Tx>>, verdicts: Vec<Verdict>) -> Vec<Effect> {
        let mut signature = vec![0; 32];
        self.seeds.fill(&mut signature);
        let before = self.state.view();
        let seed = ViewSeed {
            view: before,
            signature: Bounded::new(signature).expect("32 bytes"),
        };
        let height = self.state.height().next();
        let block = Block {
            height: height.unwrap_or(Height::new(0)),
            parent: self.state.tip(),
            time: UnixMillis::new(self.state.time().get() + millis),
            view: before.next().expect("few blocks"),
            seeds: Bounded::new(vec![seed]).expect("one"),
            lost: Bounded::empty(),
            txs: Bounded::new(txs).expect("a few"),
            verdicts: Bounded::new(verdicts).expect("a few"),
        };
        let effects = self.state.apply(&block).expect("it follows the last one");
        for effect in &effects {
            if let Effect::TxDone { result, .. } = effect {
                assert_eq!(*result, Ok(()), "the ledger does it");
            }
        }
        effects
    }

    /// The next transactions of an account.
    fn sign(&self, key: &SecretKey, bodies: Vec<TxBody>) -> Vec<Signed<Tx>> {
        let account = key.public().into();
        let nonce = self.state.account(account).nonce;
        let txs = (nonce..).zip(bodies).map(|(nonce, body)| Tx {
            account,
            nonce,
            fee: Amount::ZERO,
            body,
        });
        let id = self.state.ledger_id();
        txs.map(|tx| Signed::sign_for(tx, id, key)).collect()
    }

    fn register(&mut self) {
        let id = self.state.ledger_id();
        let register = |index: usize| {
            let key = key_of(&format!("node {index}"));
            let name = Text::new(format!("place {index}")).expect("a short name");
            let terms = NodeTerms {
                capacity: ByteCount::new(1 << 30),
                price: PRICE,
                network: name.clone(),
                provider: name.clone(),
                region: name,
            };
            let body = TxBody::NodeRegister {
                operator: key.public().into(),
                operator_consent: operator_consent(id, &key, NodeId::new(key.public())),
                terms,
            };
            self.sign(&key, vec![body])
        };
        let nodes = 0..code().shard_count();
        let txs = nodes.clone().flat_map(register).collect();
        self.block(1, txs, Vec::new());
        let put_down = |index| TxBody::NodeAddCollateral {
            node: NodeId::new(key_of(&format!("node {index}")).public()),
            amount: COLLATERAL,
        };
        let txs = self.sign(&self.owner, nodes.map(put_down).collect());
        self.block(1, txs, Vec::new());
    }

    fn open_groups(&mut self) -> Vec<GroupId> {
        let open = TxBody::GroupOpen {
            code: code(),
            slot_capacity: SLOT_CAPACITY,
            price_max: PRICE,
            term_epochs: TERM_EPOCHS,
            escrow: ESCROW,
        };
        let bodies = (0..GROUPS).map(|_| open.clone()).collect();
        let txs = self.sign(&self.owner, bodies);
        let groups = txs.iter().map(|tx| group_id(tx_id(tx))).collect();
        self.block(1, txs, Vec::new());
        self.block(1, Vec::new(), Vec::new());
        groups
    }

    /// Publishes a revision of each group and acknowledges it.
    fn fill(&mut self, groups: &[GroupId], seed: u64) {
        let mut rng = SimRng::labelled(seed, "shards");
        let mut revisions = Vec::new();
        let mut acknowledged = Vec::new();
        for id in groups {
            let group = self.state.group(*id).expect("it is open");
            let us = self.node_id();
            let slot = group.deals.iter().position(|deal| deal.node == us);
            let slot = slot.expect("there are as many nodes as slots");
            let kept = Kept::new(&mut rng, slot);
            let revision = GroupRevision {
                group: *id,
                number: RevisionNumber::new(1),
                segment_count: kept.tree.count(),
                slot_bytes: ByteCount::new(kept.tree.sum()),
                group_root: group_root(&kept.slot_roots).expect("a group's worth of slots"),
            };
            let slot = SlotIndex::new(u8::try_from(slot).expect("few slots"));
            revisions.push(TxBody::GroupRevise { revision });
            acknowledged.push(SlotRevision {
                group: *id,
                slot,
                revision: revision.number,
            });
            self.keeper.slots.insert(SlotRef { group: *id, slot }, kept);
        }
        let txs = self.sign(&self.owner, revisions);
        self.block(1, txs, Vec::new());
        let slots = Bounded::new(acknowledged).expect("a few slots");
        let txs = self.sign(&self.node, vec![TxBody::Acknowledge { slots }]);
        self.block(1, txs, Vec::new());
    }

    /// The next epoch: the node proves it, showing zeros for what it has deleted. The verdict.
    fn epoch(&mut self, deleted: &BTreeSet<ShardOf>) -> Verdict {
        let left = EPOCH_MILLIS - self.state.time().get() % EPOCH_MILLIS;
        self.block(left, Vec::new(), Vec::new());
        self.block(1, Vec::new(), Vec::new());
        let challenge = self.state.challenge(self.node_id());
        let challenge = challenge.expect("the seed is known");
        let frozen = self.state.frozen_slots(self.node_id());
        let frozen: Vec<SlotRef> = frozen.iter().map(FrozenSlot::slot_ref).collect();
        assert!(
            frozen.iter().eq(self.keeper.slots.keys()),
            "all may be asked for: {frozen:?}"
        );
        let honest = prove(&challenge, &self.keeper).expect("it keeps everything");
        let proof = without(&challenge, honest, deleted).encode();
        let body = TxBody::ProofSubmit {
            epoch: self.state.epoch().number,
            witness: Digest::of(&proof),
            audits: AuditReport::default(),
        };
        let txs = self.sign(&self.node, vec![body]);
        let tx = txs.first().expect("one was signed").unverified();
        let verdict = self.state.judge(tx, &proof).expect("it can be judged");
        let before = self.money();
        let effects = self.block(1, txs, vec![verdict]);
        self.check_money(verdict, before, &effects);
        verdict
    }

    /// The node's balance, its collateral, and how much of that its slots lock.
    fn money(&self) -> [Amount; 3] {
        let node = self.node_id();
        let entry = self.state.node(node).expect("it is registered");
        let balance = self.state.account(AccountId::new(node.key())).balance;
        [balance, entry.collateral, entry.locked]
    }

    /// After a valid proof the node has all that it earned and its collateral, after an invalid one
    /// less collateral and nothing for it.
    fn check_money(&self, verdict: Verdict, before: [Amount; 3], effects: &[Effect]) {
        let earned = self.keeper.slots.values().map(|kept| {
            let bytes = ByteCount::new(kept.tree.sum());
            epoch_price(bytes, PRICE).expect("a small price").micro()
        });
        let earned: u64 = earned.sum();
        let [balance, collateral, locked] = before.map(Amount::micro);
        let slot_collateral = self.state.collateral(SLOT_CAPACITY, PRICE).micro();
        assert_eq!(locked, GROUPS * slot_collateral, "it was not slashed yet");
        let slashed = GROUPS * (slot_collateral / SLASHED_PART);
        let expected = match verdict {
            Verdict::Valid => [balance + earned, collateral, locked],
            _ => [balance, collateral - slashed, locked - slashed],
        };
        assert!(earned > 0 && slashed > 0, "something is at stake");
        assert_eq!(
            self.money().map(Amount::micro),
            expected,
            "{verdict:?}: {effects:?}"
        );
    }
}

/// What one shows who has not got those shards.
fn without(challenge: &Challenge, honest: Proof, deleted: &BTreeSet<ShardOf>) -> Proof {
    let shown = shown(challenge, &honest);
    with_blocks(honest, |at, bytes| {
        if deleted.contains(&(shown[at].slot, shown[at].segment)) {
            bytes.fill(0);
        }
    })
}

fn code() -> Code {
    Code::new(2, 4).expect("a code")
}

impl Kept {
    /// A slot's worth of shards; the other slots have other roots.
    fn new(rng: &mut SimRng, slot: usize) -> Self {
        let mut shards = Vec::new();
        let mut tree = SlotTree::new();
        for _ in 0..SEGMENTS {
            let mut shard = vec![0; 1 + rng.index(SHARD_BYTES_MAX)];
            rng.fill(&mut shard);
            let HashedShard { root, outboard } = hash_shard(&shard).expect("a shard's size");
            let bytes = u32::try_from(shard.len()).expect("a shard's size");
            let leaf = Leaf::new(bytes, root).expect("a shard's size");
            tree.append(leaf).expect("few segments");
            shards.push((shard, outboard));
        }
        let others = (0..code().shard_count()).map(|_| {
            let mut root = [0; 32];
            rng.fill(&mut root);
            SlotRoot::new(Digest::new(root))
        });
        let mut slot_roots: Vec<SlotRoot> = others.collect();
        slot_roots[slot] = tree.root();
        Self {
            tree,
            slot_roots,
            shards,
        }
    }
}

/// How many of many runs were not found, epoch by epoch.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Runs.
    pub runs: u32,
    /// After each epoch.
    pub points: Vec<Point>,
}

/// A point of a [`Curve`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Runs that are not found yet.
    pub undetected: u32,
    /// How many of them the model expects.
    pub expected: f64,
    /// Its standard deviation.
    pub sigma: f64,
}

/// Runs of a node that deletes shards at random until the share `deleted` of its bytes is gone:
/// each until it is found, or for so many epochs.
///
/// # Panics
///
/// When an honest proof is not found valid, or the ledger does not pay or slash as a verdict asks.
#[must_use]
pub fn measure(seed: u64, runs: u32, deleted: f64, epochs: usize) -> Curve {
    let mut court = Court::new(seed);
    let mut rng = SimRng::labelled(seed, "deleted");
    let shards = court.keeper.shards();
    let total: u64 = shards.iter().map(|(_, bytes)| bytes).sum();
    let mut curve = Curve {
        runs,
        points: vec![Point::default(); epochs],
    };
    let nothing = BTreeSet::new();
    let begin = court.state.clone();
    for _ in 0..runs {
        court.state = begin.clone();
        assert_eq!(court.epoch(&nothing), Verdict::Valid, "all is kept");
        let (gone, bytes) = choose(&mut rng, shards.clone(), ratio(total, deleted));
        let passes = (1.0 - as_float(bytes) / as_float(total)).powi(SAMPLES_DEFAULT.into());
        let mut expected = 1.0;
        for point in &mut curve.points {
            expected *= passes;
            point.expected += expected;
            point.sigma += expected * (1.0 - expected);
        }
        for point in &mut curve.points {
            if court.epoch(&gone) == Verdict::Invalid {
                break;
            }
            point.undetected += 1;
        }
    }
    for point in &mut curve.points {
        point.sigma = point.sigma.sqrt();
    }
    curve
}

/// Shards at random, until they have so many bytes; and how many they have.
fn choose(
    rng: &mut SimRng,
    mut shards: Vec<(ShardOf, u64)>,
    wanted: u64,
) -> (BTreeSet<ShardOf>, u64) {
    let mut gone = BTreeSet::new();
    let mut sum = 0;
    while sum < wanted && !shards.is_empty() {
        let (shard, bytes) = shards.swap_remove(rng.index(shards.len()));
        gone.insert(shard);
        sum += bytes;
    }
    (gone, sum)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "far below 2^53"
)]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// The share of `total`, in bytes.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of what is far below 2^53"
)]
fn ratio(total: u64, share: f64) -> u64 {
    (as_float(total) * share) as u64
}
