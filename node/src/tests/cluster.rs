//! A ledger, nodes and an owner with a client, in one simulated world.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use cairn_coding::Coder;
use cairn_consensus::{Config, Sequencer};
use cairn_core::message::{ControlRequest, ControlResponse, ShardRange, SlotStatus, WithRecord};
use cairn_core::{
    Amount, Bounded, ByteCount, Capability, CapabilityLink, Code, GroupId, GroupRevision, NodeId,
    Receipt, Record, RevisionDetail, RevisionNumber, Right, Scope, SecretKey, SegmentNumber,
    SegmentRecord, Signed, SlotIndex, Text, UnixMillis,
};
use cairn_ledger::group::Group;
use cairn_ledger::tx::{NodeTerms, TxBody, group_id};
use cairn_ledger::{Genesis, Ledger, Parameters, submit_body};
use cairn_net::data::{DataError, Pace, ShardWanted};
use cairn_net::pool::{DataPool, PoolLimits};
use cairn_net::sim::{SimNet, SimPeer};
use cairn_net::{DhtMode, Network};
use cairn_proofs::{Leaf, SlotTree, group_root, hash_shard, verify_range};
use cairn_runtime::{Machine, Sim, SimRuntime};

use crate::config::{LedgerServer, NodeConfig, Pacing};
use crate::node::{NodeHandle, start};
use crate::store::{NoCache, StoreConfig};

pub(super) type Handle = NodeHandle<SimRuntime, SimPeer, Sequencer<SimRuntime>>;

/// A node's machine, and the node while it runs.
pub(super) struct TestNode {
    pub(super) machine: Machine,
    pub(super) key: SecretKey,
    pub(super) handle: Option<Handle>,
    /// How it answers ledger requests of its peers, if it does.
    pub(super) serves: Option<Arc<dyn LedgerServer>>,
}

impl TestNode {
    pub(super) fn id(&self) -> NodeId {
        NodeId::new(self.key.public())
    }
}

/// Everything.
pub(super) struct Cluster {
    pub(super) sim: Sim,
    pub(super) net: SimNet,
    pub(super) ledger: Sequencer<SimRuntime>,
    pub(super) nodes: Vec<TestNode>,
    pub(super) owner: Owner,
}

/// An owner with a client, and what it has uploaded.
pub(super) struct Owner {
    pub(super) key: SecretKey,
    pub(super) peer: SimPeer,
    pub(super) pool: DataPool<SimPeer, SimRuntime>,
    pub(super) group: GroupId,
    pub(super) code: Code,
    /// All shards of each segment; `None` for an emptied one.
    pub(super) segments: Vec<Option<Vec<Vec<u8>>>>,
    pub(super) revision: u64,
}

pub(super) fn pacing() -> Pacing {
    Pacing {
        scrub_bytes_per_second: 1 << 30,
        scrub_delay: Duration::from_secs(300),
        retry_delay_max: Duration::from_secs(4),
        unrevised_expiry: Duration::from_secs(3600),
        ..Pacing::default()
    }
}

pub(super) fn key(label: &str, index: usize) -> SecretKey {
    SecretKey::from_bytes(blake3::hash(format!("{label} {index}").as_bytes()).as_bytes())
}

impl Cluster {
    /// `count` nodes and an owner with a group of `code`, placed.
    pub(super) async fn new(sim: Sim, count: usize, code: Code) -> Self {
        Self::with_parameters(sim, count, code, Parameters::default()).await
    }

    /// On a ledger with those parameters.
    pub(super) async fn with_parameters(
        sim: Sim,
        count: usize,
        code: Code,
        parameters: Parameters,
    ) -> Self {
        let net = SimNet::new(&sim);
        let owner_key = key("owner", 0);
        let ledger_machine = sim.machine("ledger");
        let runtime = ledger_machine.runtime();
        let genesis = Genesis {
            time: UnixMillis::new(1_767_225_600_000),
            parameters,
            endowed: Bounded::new(vec![(
                owner_key.public().into(),
                Amount::from_micro(1 << 40),
            )])
            .unwrap(),
            validators: None,
        };
        let folder = PathBuf::from("/ledger");
        Sequencer::create(&runtime, &folder, &genesis)
            .await
            .unwrap();
        let ledger = Sequencer::open(runtime, Config::new(folder)).await.unwrap();
        let client = sim.machine("client").runtime();
        let id = NodeId::new(owner_key.public());
        let peer = net.join(&client, id, DhtMode::Client);
        let mut cluster = Self {
            owner: Owner {
                pool: DataPool::new(peer.clone(), client, PoolLimits::DEFAULT),
                key: owner_key,
                peer,
                group: GroupId::default(),
                code,
                segments: Vec::new(),
                revision: 0,
            },
            sim,
            net,
            ledger,
            nodes: Vec::new(),
        };
        for index in 0..count {
            cluster.add_node(index).await;
        }
        cluster.wait_for_nodes(count).await;
        cluster.open_group().await;
        cluster
    }

    /// A new node, running.
    pub(super) async fn add_node(&mut self, index: usize) {
        let machine = self.sim.machine(&format!("node {index}"));
        let mut node = TestNode {
            machine,
            key: key("node", index),
            handle: None,
            serves: None,
        };
        self.start(&mut node).await;
        self.nodes.push(node);
    }

    pub(super) fn config(&self, node: &TestNode) -> NodeConfig {
        let label = |text: &str| Text::new(text).unwrap();
        let name = node.machine.name().to_owned();
        NodeConfig {
            key: node.key.clone(),
            store: StoreConfig {
                folder: PathBuf::from("/store"),
                capacity: ByteCount::new(64 << 20),
                floor: ByteCount::ZERO,
                pack_bytes: 256 << 10,
            },
            cache: Arc::new(NoCache),
            terms: NodeTerms {
                capacity: ByteCount::new(64 << 20),
                price: Amount::ZERO,
                network: label(&name),
                provider: label(&name),
                region: label(&name),
            },
            operator: None,
            ledger_server: node.serves.clone(),
            pacing: pacing(),
        }
    }

    async fn start(&self, node: &mut TestNode) {
        let runtime = node.machine.runtime();
        let peer = self.net.join(&runtime, node.id(), DhtMode::Server);
        let config = self.config(node);
        let ledger = self.ledger.clone();
        node.handle = Some(start(runtime, peer, ledger, config).await.unwrap());
    }

    /// Takes a node's power, or its process only.
    pub(super) fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.machine.crash();
        node.handle = None;
    }

    /// Starts a node again on what its disk has.
    pub(super) async fn restart(&mut self, index: usize) {
        let mut node = self.nodes.remove(index);
        node.handle = None;
        node.machine.restart();
        self.start(&mut node).await;
        self.nodes.insert(index, node);
    }

    /// Starts a node again with an empty disk.
    pub(super) async fn wipe(&mut self, index: usize) {
        self.nodes[index].handle = None;
        self.nodes[index].machine.wipe();
        self.restart(index).await;
    }

    async fn wait_for_nodes(&self, count: usize) {
        let count = u64::try_from(count).unwrap();
        self.wait("nodes register", async || {
            self.ledger.status().await.unwrap().active_node_count >= count
        })
        .await;
    }

    /// Waits in virtual time until `is_so`, at most two minutes.
    pub(super) async fn wait(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        for _ in 0..1200 {
            if is_so().await {
                return;
            }
            self.sim.sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: not within two minutes");
    }

    async fn open_group(&mut self) {
        let body = TxBody::GroupOpen {
            code: self.owner.code,
            slot_capacity: ByteCount::new(4 << 20),
            price_max: Amount::ZERO,
            term_epochs: 1,
            escrow: Amount::ZERO,
        };
        let outcome = submit_body(&self.ledger, &self.owner.key, body)
            .await
            .unwrap();
        self.owner.group = group_id(outcome.id);
        self.wait("the group is placed", async || {
            self.group().await.is_placed()
        })
        .await;
    }

    pub(super) async fn group(&self) -> Group {
        self.ledger.group(self.owner.group).await.unwrap().unwrap()
    }

    /// Who holds each slot.
    pub(super) async fn holders(&self) -> Vec<NodeId> {
        self.group()
            .await
            .deals
            .iter()
            .map(|deal| deal.node)
            .collect()
    }

    /// Which of our nodes has that id.
    pub(super) fn index_of(&self, id: NodeId) -> usize {
        self.nodes.iter().position(|node| node.id() == id).unwrap()
    }

    /// Uploads a segment to all slots but those skipped.
    pub(super) async fn upload(&mut self, bytes: usize, skipped: &[u8]) {
        let payload = payload(self.owner.segments.len(), bytes);
        let shards = encode(self.owner.code, &payload);
        self.upload_shards(bytes, shards, skipped).await;
    }

    /// Uploads given shards as the next segment.
    pub(super) async fn upload_shards(
        &mut self,
        payload_bytes: usize,
        shards: Vec<Vec<u8>>,
        skipped: &[u8],
    ) {
        let number = u32::try_from(self.owner.segments.len()).unwrap();
        let record = self.owner.record(number, payload_bytes, &shards);
        let holders = self.holders().await;
        for (slot, (holder, shard)) in (0..).zip(holders.iter().zip(&shards)) {
            if !skipped.contains(&slot) {
                let receipt = self.owner.put(*holder, slot, &record, shard).await.unwrap();
                check_receipt(&receipt, *holder, slot, shard);
            }
        }
        self.owner.segments.push(Some(shards));
    }

    /// Revises the group to what was uploaded, with further leaves emptied. Sends the detail to
    /// all but the slots skipped.
    pub(super) async fn revise(&mut self, emptied: &[u32], skipped: &[u8]) -> RevisionDetail {
        let detail = self.submit_revision(emptied).await;
        let signed = Signed::sign(detail.clone(), &self.owner.key);
        for slot in self.owner.code.slots() {
            if !skipped.contains(&slot.get()) {
                let answer = self.deliver(&self.owner.peer, slot, &signed).await;
                let taken = matches!(answer, None | Some(ControlResponse::Slot(_)));
                assert!(taken, "{answer:?}");
            }
        }
        detail
    }

    /// Revises the group on the ledger to what was uploaded, and tells no slot.
    pub(super) async fn submit_revision(&mut self, emptied: &[u32]) -> RevisionDetail {
        for number in emptied {
            self.owner.segments[usize::try_from(*number).unwrap()] = None;
        }
        self.owner.revision += 1;
        let detail = self.owner.detail(emptied);
        self.submit_detail(&detail).await;
        detail
    }

    /// Revises the group on the ledger to what a detail says.
    pub(super) async fn submit_detail(&self, detail: &RevisionDetail) {
        let body = TxBody::GroupRevise {
            revision: detail.revision,
        };
        submit_body(&self.ledger, &self.owner.key, body)
            .await
            .unwrap();
    }

    /// Hands a detail to a slot's node; `None` when it does not answer.
    pub(super) async fn deliver(
        &self,
        from: &SimPeer,
        slot: SlotIndex,
        detail: &Signed<RevisionDetail>,
    ) -> Option<ControlResponse> {
        let holder = self.holders().await[slot.index()];
        let request = ControlRequest::Revise {
            slot,
            detail: detail.clone(),
        };
        let limit = Duration::from_secs(5);
        let answer = from.request(holder, request.encode(), limit).await.ok()?;
        Some(ControlResponse::decode(&answer).unwrap())
    }

    /// Waits until every slot has acknowledged the group's revision.
    pub(super) async fn wait_acknowledged(&self) {
        let n = self.owner.code.shard_count();
        self.wait("all slots acknowledge", async || {
            self.group().await.current_count() == n
        })
        .await;
    }

    /// How a slot stands, by its node.
    pub(super) async fn slot_status(&self, holder: NodeId, slot: u8) -> SlotStatus {
        let request = ControlRequest::Slot {
            group: self.owner.group,
            slot: SlotIndex::new(slot),
        };
        let limit = Duration::from_secs(5);
        let answer = self
            .owner
            .peer
            .request(holder, request.encode(), limit)
            .await;
        match ControlResponse::decode(&answer.unwrap()).unwrap() {
            ControlResponse::Slot(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// That every slot's node has the slot root of the detail and serves every shard of it.
    pub(super) async fn check_all(&self, detail: &RevisionDetail) {
        for (slot, holder) in (0..).zip(self.holders().await) {
            let status = self.slot_status(holder, slot).await;
            assert_eq!(status.revision, detail.revision.number, "slot {slot}");
            let root = detail.slot_roots[usize::from(slot)];
            assert_eq!(status.slot_root, root, "slot {slot}");
            assert_eq!(status.lacking_count, 0, "slot {slot}");
            for (number, shards) in (0..).zip(&self.owner.segments) {
                let got = self.owner.get(holder, slot, number, None).await;
                match shards {
                    Some(shards) => assert_eq!(got.unwrap(), shards[usize::from(slot)]),
                    None => assert!(got.is_err(), "an emptied shard is served"),
                }
            }
        }
    }
}

/// A segment's payload.
pub(super) fn payload(number: usize, bytes: usize) -> Vec<u8> {
    let mut payload = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u64::try_from(number).unwrap().to_le_bytes());
    hasher.finalize_xof().fill(&mut payload);
    payload
}

/// All shards of a payload.
pub(super) fn encode(code: Code, payload: &[u8]) -> Vec<Vec<u8>> {
    let coder = Coder::new(code);
    let bytes = coder.shard_bytes(payload.len()).unwrap();
    let mut parity = vec![vec![0; bytes]; code.parity_count()];
    coder.encode(payload, &mut parity).unwrap();
    let mut padded = payload.to_vec();
    padded.resize(bytes * code.data_count(), 0);
    let data = padded.chunks(bytes).map(<[u8]>::to_vec);
    data.chain(parity).collect()
}

fn check_receipt(signed: &Signed<Receipt>, holder: NodeId, slot: u8, shard: &[u8]) {
    let receipt = signed.verify_by(holder.key()).unwrap();
    assert_eq!(receipt.node, holder);
    assert_eq!(receipt.slot.get(), slot);
    assert_eq!(receipt.shard_root, hash_shard(shard).unwrap().root);
    assert_eq!(usize::try_from(receipt.shard_bytes).unwrap(), shard.len());
}

impl Owner {
    pub(super) fn capability(&self, right: Right) -> Capability {
        self.capability_for(&self.key, right, UnixMillis::new(u64::MAX))
    }

    pub(super) fn capability_for(
        &self,
        holder: &SecretKey,
        right: Right,
        expires_at: UnixMillis,
    ) -> Capability {
        let link = CapabilityLink {
            scope: Scope::Group(self.group),
            right,
            holder: holder.public(),
            expires_at,
        };
        Capability::issue(link, &self.key)
    }

    /// A signed segment record of shards.
    pub(super) fn record(
        &self,
        number: u32,
        payload_bytes: usize,
        shards: &[Vec<u8>],
    ) -> Signed<SegmentRecord> {
        let roots = shards.iter().map(|shard| hash_shard(shard).unwrap().root);
        let record = SegmentRecord {
            group: self.group,
            number: SegmentNumber::new(number),
            code: self.code,
            payload_bytes: u32::try_from(payload_bytes).unwrap(),
            shard_roots: Bounded::new(roots.collect()).unwrap(),
        };
        Signed::sign(record, &self.key)
    }

    pub(super) async fn put(
        &self,
        holder: NodeId,
        slot: u8,
        record: &Signed<SegmentRecord>,
        shard: &[u8],
    ) -> Result<Signed<Receipt>, DataError> {
        let capability = self.capability(Right::Write);
        let limit = Duration::from_secs(10);
        let mut conn = self.pool.take(holder, &capability, limit).await?;
        conn.put(SlotIndex::new(slot), record, shard).await
    }

    /// Verified bytes of a shard, the whole without a range.
    pub(super) async fn get(
        &self,
        holder: NodeId,
        slot: u8,
        number: u32,
        range: Option<ShardRange>,
    ) -> Result<Vec<u8>, DataError> {
        let shards = self.segments[usize::try_from(number).unwrap()].as_ref();
        let shard = shards.map(|shards| &shards[usize::from(slot)]);
        let bytes = shard.map_or(1, |shard| u32::try_from(shard.len()).unwrap());
        let capability = self.capability(Right::Read);
        let limit = Duration::from_secs(10);
        let mut conn = self.pool.take(holder, &capability, limit).await?;
        let wanted = ShardWanted {
            group: self.group,
            slot: SlotIndex::new(slot),
            segment: SegmentNumber::new(number),
            range: range.unwrap_or(ShardRange { offset: 0, bytes }),
            record: WithRecord::Yes,
        };
        let mut into = BytesMut::new();
        let got = conn.get(&wanted, &mut into).await?;
        let record = got.record.unwrap();
        let record = record.verify_by(self.key.public()).unwrap();
        let root = record.shard_root(SlotIndex::new(slot)).unwrap();
        verify_range(root, record.shard_bytes(), got.range, &into, &got.proof).unwrap();
        Ok(into.to_vec())
    }

    /// The detail of the revision that has what was uploaded.
    pub(super) fn detail(&self, emptied: &[u32]) -> RevisionDetail {
        let trees: Vec<SlotTree> = (0..self.code.shard_count())
            .map(|slot| {
                let leaf = |shards: &Option<Vec<Vec<u8>>>| match shards {
                    None => Leaf::EMPTY,
                    Some(shards) => {
                        let shard = &shards[slot];
                        let root = hash_shard(shard).unwrap().root;
                        Leaf::new(u32::try_from(shard.len()).unwrap(), root).unwrap()
                    }
                };
                SlotTree::from_leaves(self.segments.iter().map(leaf)).unwrap()
            })
            .collect();
        let roots: Vec<_> = trees.iter().map(SlotTree::root).collect();
        RevisionDetail {
            revision: GroupRevision {
                group: self.group,
                number: RevisionNumber::new(self.revision),
                segment_count: u32::try_from(self.segments.len()).unwrap(),
                slot_bytes: ByteCount::new(trees[0].sum()),
                group_root: group_root(&roots).unwrap(),
            },
            slot_roots: Bounded::new(roots).unwrap(),
            emptied: Bounded::new(emptied.iter().copied().map(SegmentNumber::new).collect())
                .unwrap(),
        }
    }
}

/// The pace of streams that tests open themselves.
pub(super) const PACE: Pace = Pace::CLIENT;

/// Runs a test in a world of a seed.
pub(super) fn run(seed: u64, test: impl AsyncFnOnce(Sim)) {
    Sim::new(seed).run(test);
}

/// 2-of-4.
pub(super) fn dev4() -> Code {
    Code::new(2, 4).unwrap()
}

/// 4-of-8.
pub(super) fn dev8() -> Code {
    Code::new(4, 8).unwrap()
}
