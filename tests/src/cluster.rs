//! A network in a simulated world: one machine that orders the ledger, n nodes, any clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_client::{Client, ClientConfig, Owner, OwnerConfig, OwnerKeys};
use cairn_consensus::{Config, Sequencer};
use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{
    Amount, Bounded, ByteCount, Digest, ErrorCode, LedgerId, NodeId, Profile, Record, SecretKey,
    Text, UnixMillis,
};
use cairn_ledger::genesis::{Genesis, Parameters};
use cairn_ledger::tx::NodeTerms;
use cairn_ledger::{Ledger, LedgerKey, RemoteLedger, TxBody, submit_body};
use cairn_net::sim::{SimNet, SimPeer};
use cairn_net::{DhtMode, LedgerPeers, Network};
use cairn_node::store::{NoCache, StoreConfig};
use cairn_node::{NodeConfig, NodeHandle, Pacing};
use cairn_runtime::{Machine, Runtime, Sim, SimRuntime, Task};

use crate::adversary::{Face, LyingNode, Mask};
use crate::watch::{Seat, Trouble, Watch};

/// The ledger as clients of a cluster reach it: over the network.
pub type ClusterLedger = RemoteLedger<LedgerPeers<SimPeer>>;
/// A node of a cluster, behind the face that it may turn into a liar's.
pub type ClusterNode = NodeHandle<SimRuntime, Face, RemoteLedger<LedgerPeers<Face>>>;
/// A client of a cluster.
pub type ClusterClient = Client<SimRuntime, SimPeer, ClusterLedger>;
/// An owner on a cluster.
pub type ClusterOwner = Owner<SimRuntime, SimPeer, ClusterLedger>;

/// How a cluster is set up.
#[derive(Clone, Copy, Debug)]
pub struct ClusterConfig {
    /// How many nodes.
    pub nodes: usize,
    /// What each offers.
    pub capacity: ByteCount,
    /// How nodes pace their work.
    pub pacing: Pacing,
    /// How long a poll for effects waits on the ledger's side.
    pub poll_limit: Duration,
    /// The numbers that the ledger runs by.
    pub parameters: Parameters,
}

impl ClusterConfig {
    /// `nodes` nodes of 1 GiB each, on a ledger without epochs.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            capacity: ByteCount::new(1 << 30),
            pacing: Pacing::default(),
            poll_limit: Duration::from_secs(20),
            parameters: Parameters::default(),
        }
    }

    /// As [`Self::new`], with epochs of this length and collateral that each node puts down.
    ///
    /// # Panics
    ///
    /// When it is longer than any clock.
    #[must_use]
    pub fn with_epochs(nodes: usize, epoch: Duration) -> Self {
        let mut config = Self::new(nodes);
        config.parameters = Parameters {
            epoch_millis: u64::try_from(epoch.as_millis()).expect("a short time"),
            collateral_epochs: COLLATERAL_EPOCHS,
            repair_epochs: REPAIR_EPOCHS,
            ..config.parameters
        };
        config
    }
}

/// A node's machine, key and, while it is up, the node.
#[derive(Debug)]
pub struct Member {
    /// The machine.
    pub machine: Machine,
    /// The node's identity.
    pub id: NodeId,
    mask: Mask,
    key: SecretKey,
    handle: Option<ClusterNode>,
}

impl Member {
    /// The node, when it is up.
    #[must_use]
    pub const fn node(&self) -> Option<&ClusterNode> {
        self.handle.as_ref()
    }

    /// Whether it wears a liar's mask.
    #[must_use]
    pub fn lies(&self) -> bool {
        self.mask.is_on()
    }
}

/// What it takes to join the network. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// The simulated world.
    pub sim: Sim,
    /// Its network.
    pub net: SimNet,
    /// The peer that answers for the ledger.
    pub ledger_peer: NodeId,
    /// The ledger.
    pub ledger: LedgerId,
    /// By which its answers are checked.
    pub ledger_key: LedgerKey,
}

/// A network in a simulated world.
#[derive(Debug)]
pub struct Cluster {
    /// What it takes to join it.
    pub world: World,
    /// The machine that orders the ledger.
    pub ledger_machine: Machine,
    /// The nodes.
    pub members: Vec<Member>,
    /// Sees to it that no honest node is failed, on a ledger with epochs.
    pub watch: Watch,
    config: ClusterConfig,
    sequencer: Option<Sequencer<SimRuntime>>,
    server: Option<Task<()>>,
    seat: Seat,
    watching: Option<Task<()>>,
}

/// Where the ledger is on its machine.
const LEDGER_FOLDER: &str = "/ledger";

/// Owners who have credits: `owner`, and `owner 0` and so on.
const OWNERS_MAX: usize = 8;
/// Who puts collateral down for the nodes.
const TREASURY: &str = "treasury";
/// What each of them has, and the treasury.
const PURSE: Amount = Amount::from_micro(1_000_000_000_000);
/// What each node asks per GiB and epoch: the most that owners pay.
pub const PRICE: Amount = Amount::from_micro(1_000_000);
/// Collateral of each node where there are epochs: enough for hundreds of slots.
pub const COLLATERAL: Amount = Amount::from_micro(100_000_000);
/// Capacity of each slot of a group of an owner.
pub const SLOT_CAPACITY: ByteCount = ByteCount::new(64 << 20);
/// A node locks the price of a slot's capacity for so many epochs.
pub const COLLATERAL_EPOCHS: u32 = 4;
/// The repair of a slot costs who lost it the price of its bytes for so many epochs.
pub const REPAIR_EPOCHS: u32 = 2;

/// Where the ledger begins.
fn genesis(time: UnixMillis, parameters: Parameters) -> Genesis {
    let names = (0..OWNERS_MAX).map(|index| format!("owner {index}"));
    let owners = names.chain(["owner".to_owned()]);
    let owners = owners.map(|name| owner_keys(&name).account());
    let accounts = owners.chain([key_of(TREASURY).public().into()]);
    let mut endowed: Vec<_> = accounts.map(|account| (account, PURSE)).collect();
    endowed.sort_unstable();
    Genesis {
        time,
        parameters,
        endowed: Bounded::new(endowed).expect("few accounts"),
        validators: None,
    }
}

/// The secret key of the party `name`, the same in every world.
#[must_use]
pub fn key_of(name: &str) -> SecretKey {
    SecretKey::from_bytes(Digest::of(name.as_bytes()).as_bytes())
}

/// The keys of the owner `name`, the same in every world.
#[must_use]
pub fn owner_keys(name: &str) -> OwnerKeys {
    OwnerKeys::from_seed(Digest::of(name.as_bytes()).as_bytes())
}

impl Cluster {
    /// Starts the ledger and all nodes, and waits until the nodes are registered.
    ///
    /// # Panics
    ///
    /// When something does not start: the test has failed.
    pub async fn start(sim: Sim, config: ClusterConfig) -> Self {
        let net = SimNet::new(&sim);
        let ledger_machine = sim.machine("ledger");
        let ledger_peer = NodeId::new(key_of("ledger").public());
        let members = (0..config.nodes)
            .map(|index| {
                let name = format!("node {index}");
                let key = key_of(&name);
                Member {
                    machine: sim.machine(&name),
                    id: NodeId::new(key.public()),
                    mask: Mask::default(),
                    key,
                    handle: None,
                }
            })
            .collect();
        let now = UnixMillis::from_unix(ledger_machine.runtime().now());
        let genesis = genesis(now, config.parameters);
        let watch = Watch::new(sim.clone());
        let world = World {
            sim,
            net,
            ledger_peer,
            ledger: genesis.ledger_id(),
            // Of nobody's answers before it runs.
            ledger_key: LedgerKey::Sequencer(ledger_peer.key()),
        };
        let mut cluster = Self {
            world,
            ledger_machine,
            members,
            watch,
            config,
            sequencer: None,
            server: None,
            seat: Seat::default(),
            watching: None,
        };
        Sequencer::create(
            &cluster.ledger_machine.runtime(),
            Path::new(LEDGER_FOLDER),
            &genesis,
        )
        .await
        .expect("the ledger is created");
        cluster.start_ledger().await;
        for index in 0..config.nodes {
            cluster.start_node(index).await;
        }
        cluster.wait_for_nodes(config.nodes).await;
        if config.parameters.epoch_millis > 0 {
            cluster.put_down_collateral().await;
            cluster.begin_watch();
        }
        cluster
    }

    async fn put_down_collateral(&self) {
        for member in &self.members {
            let body = TxBody::NodeAddCollateral {
                node: member.id,
                amount: COLLATERAL,
            };
            let done = submit_body(self.sequencer(), &key_of(TREASURY), body).await;
            done.expect("the treasury has enough");
        }
    }

    /// From the next epoch on every node must prove.
    fn begin_watch(&mut self) {
        for member in &self.members {
            self.watch.expect(member.id);
        }
        let world = &self.world;
        let runtime = world.sim.machine("watch").runtime();
        let id = NodeId::new(key_of("watch").public());
        let peer = world.net.join(&runtime, id, DhtMode::Client);
        let ledger = world.ledger_through(peer);
        let following = self.watch.clone().follow(ledger, self.seat.clone());
        self.watching = Some(runtime.spawn("watch", following));
    }

    async fn start_ledger(&mut self) {
        let runtime = self.ledger_machine.runtime();
        let mut config = Config::new(LEDGER_FOLDER);
        config.poll_limit = self.config.poll_limit;
        let sequencer = Sequencer::open(runtime.clone(), config)
            .await
            .expect("the ledger opens");
        self.world.ledger_key = sequencer.key();
        let peer = self
            .world
            .net
            .join(&runtime, self.world.ledger_peer, DhtMode::Server);
        let serving = serve_ledger(runtime.clone(), peer, sequencer.clone());
        self.server = Some(runtime.spawn("ledger server", serving));
        self.seat.take(Some(sequencer.clone()));
        self.sequencer = Some(sequencer);
    }

    /// Length of an epoch.
    #[must_use]
    pub const fn epoch(&self) -> Duration {
        Duration::from_millis(self.config.parameters.epoch_millis)
    }

    /// What each node offers.
    #[must_use]
    pub const fn capacity(&self) -> ByteCount {
        self.config.capacity
    }

    /// The sequencer, for what only it may do.
    ///
    /// # Panics
    ///
    /// When the ledger's machine is down.
    #[must_use]
    pub fn sequencer(&self) -> &Sequencer<SimRuntime> {
        self.sequencer.as_ref().expect("the ledger is up")
    }

    /// Crashes the ledger's machine and starts it again.
    pub async fn restart_ledger(&mut self) {
        self.ledger_machine.crash();
        self.server = None;
        self.sequencer = None;
        self.seat.take(None);
        self.ledger_machine.restart();
        self.start_ledger().await;
    }

    /// Starts the node on a machine that is up.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start_node(&mut self, index: usize) {
        let config = self.config;
        let member = &mut self.members[index];
        let runtime = member.machine.runtime();
        let peer = self.world.net.join(&runtime, member.id, DhtMode::Server);
        let key = member.key.clone();
        let peer = Face::new(
            peer,
            runtime.clone(),
            key,
            (self.world.ledger, self.world.ledger_key),
            member.mask.clone(),
        );
        let ledger = self.world.ledger_through(peer.clone());
        let mut store = StoreConfig::new("/node".into(), config.capacity);
        store.floor = ByteCount::new(1 << 20);
        let node_config = NodeConfig {
            key: member.key.clone(),
            store,
            cache: Arc::new(NoCache),
            terms: NodeTerms {
                capacity: config.capacity,
                price: PRICE,
                network: text(&format!("10.{index}.0.0/24")),
                provider: text(&format!("provider {}", index % 20)),
                region: text(&format!("region {}", index % 8)),
            },
            operator: None,
            ledger_server: None,
            pacing: config.pacing,
        };
        let started = cairn_node::start(runtime, peer, ledger, node_config).await;
        member.handle = Some(started.expect("the node starts"));
        self.watch.end(member.id);
    }

    /// Cuts the power of a node's machine.
    pub fn crash(&mut self, index: usize) {
        self.members[index].machine.crash();
        self.members[index].handle = None;
        self.watch.begin(self.members[index].id, Trouble::Away);
    }

    /// Kills a node's process: what it wrote stays with the operating system.
    pub fn kill(&mut self, index: usize) {
        self.members[index].machine.kill();
        self.members[index].handle = None;
        self.watch.begin(self.members[index].id, Trouble::Away);
    }

    /// Turns a node into a liar from its next start on, and starts it again: no stream of the
    /// honest node is left.
    pub async fn corrupt(&mut self, index: usize, liar: Arc<dyn LyingNode>) {
        self.kill(index);
        if liar.lies_in_proofs() {
            self.watch.convict(self.members[index].id);
        }
        self.members[index].mask.put_on(liar);
        self.restart(index).await;
    }

    /// Makes a liar honest again: it starts anew, and no stream of the liar is left.
    pub async fn reform(&mut self, index: usize) {
        self.kill(index);
        self.members[index].mask.take_off();
        self.restart(index).await;
    }

    /// Starts a crashed node again over the same disk.
    pub async fn restart(&mut self, index: usize) {
        self.members[index].machine.restart();
        self.start_node(index).await;
    }

    /// Empties the disk of a crashed node and starts it again.
    pub async fn restart_empty(&mut self, index: usize) {
        self.watch.begin(self.members[index].id, Trouble::Lost);
        self.members[index].machine.wipe();
        self.world.net.forget_records(self.members[index].id);
        self.restart(index).await;
    }

    /// The member that is `node`.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == node)
    }

    /// Waits until the ledger has `count` active nodes.
    pub async fn wait_for_nodes(&self, count: usize) {
        let wanted = u64::try_from(count).unwrap_or(u64::MAX);
        self.wait(
            "nodes are registered",
            Duration::from_secs(300),
            async || {
                let status = self.sequencer().status().await;
                status.is_ok_and(|status| status.active_node_count >= wanted)
            },
        )
        .await;
    }

    /// Waits until `done` says so, looking once a second.
    ///
    /// # Panics
    ///
    /// When it does not within `limit`.
    pub async fn wait(&self, what: &str, limit: Duration, mut done: impl AsyncFnMut() -> bool) {
        let begun = self.world.sim.elapsed();
        while !done().await {
            let waited = self.world.sim.elapsed().saturating_sub(begun);
            assert!(waited < limit, "{what}: not within {limit:?}");
            self.world.sim.sleep(Duration::from_secs(1)).await;
        }
    }
}

impl World {
    /// The ledger, as its peer shows it.
    pub fn ledger_through<N: Network>(&self, net: N) -> RemoteLedger<LedgerPeers<N>> {
        let peers = LedgerPeers::new(net, &[self.ledger_peer]);
        RemoteLedger::new(peers, self.ledger, self.ledger_key)
    }

    /// A client on its own machine.
    #[must_use]
    pub fn client(&self, name: &str) -> (Machine, ClusterClient) {
        let machine = self.sim.machine(name);
        let client = self.client_on(&machine, name);
        (machine, client)
    }

    /// A client on a machine that is up.
    #[must_use]
    pub fn client_on(&self, machine: &Machine, name: &str) -> ClusterClient {
        let runtime = machine.runtime();
        let id = NodeId::new(key_of(name).public());
        let peer = self.net.join(&runtime, id, DhtMode::Client);
        let ledger = self.ledger_through(peer.clone());
        Client::new(runtime, peer, ledger, ClientConfig::default())
    }

    /// An owner on its own machine, writing groups of `profile`.
    #[must_use]
    pub fn owner(&self, name: &str, profile: Profile) -> (Machine, ClusterOwner) {
        let machine = self.sim.machine(name);
        let owner = self.owner_on(&machine, name, profile);
        (machine, owner)
    }

    /// An owner on a machine that is up, over the state that is on its disk.
    ///
    /// # Panics
    ///
    /// When the machine's disk fails.
    #[must_use]
    pub fn owner_on(&self, machine: &Machine, name: &str, profile: Profile) -> ClusterOwner {
        use cairn_runtime::Disk;
        let client = self.client_on(machine, name);
        let folder = Path::new("/owner");
        let made = client.runtime().disk().create_dir_all(folder);
        made.expect("the owner's folder is made");
        let keys = owner_keys(name);
        let mut config = OwnerConfig::new(profile);
        config.slot_capacity = SLOT_CAPACITY;
        Owner::new(client, keys, folder, config)
    }
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    Text::new(text).expect("a short text")
}

/// Answers ledger requests of peers until the network shuts down.
async fn serve_ledger(runtime: SimRuntime, peer: SimPeer, sequencer: Sequencer<SimRuntime>) {
    let mut tasks: Vec<Task<()>> = Vec::new();
    while let Some(request) = peer.next_request().await {
        tasks.retain(|task| !task.is_finished());
        let sequencer = sequencer.clone();
        tasks.push(runtime.spawn("ledger answer", async move {
            let response = match ControlRequest::decode(&request.message) {
                Ok(ControlRequest::Ledger(bytes)) => {
                    let answer = sequencer.answer(request.peer, &bytes).await;
                    let answer = Bounded::new(answer).expect("answers are bounded");
                    ControlResponse::Ledger(answer)
                }
                Ok(_) | Err(_) => ControlResponse::Error {
                    code: ErrorCode::Unsupported,
                    text: Text::cut("only the ledger answers here"),
                },
            };
            // The peer may have gone.
            let _gone = request.answer.send(response.encode());
        }));
    }
}
