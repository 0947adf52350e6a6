//! A small world for tests: machines on a network in memory, nodes that keep shards in memory,
//! and a ledger that makes a block per transaction.
//!
//! Everything above [`Network`], [`Ledger`] and [`Runtime`] is the real code; what stands in here
//! is replaced by the real node in `cairn-tests`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::{AccountId, Amount, ByteCount, NodeId, Profile, SecretKey};
use cairn_ledger::{Ledger, Parameters, TxBody, submit_body};
use cairn_runtime::Runtime;

use crate::client::{Client, ClientConfig};
use crate::key::OwnerKeys;
use crate::owner::{Owner, OwnerConfig};

mod ledger;
mod network;
mod node;

pub(crate) use ledger::MemoryLedger;
pub(crate) use network::{Counted, Hub, MemoryNetwork, Traffic};
pub(crate) use node::{Behaviour, Lie, TestNode};

/// A network of nodes and one owner's machine.
pub(crate) struct World<R: Runtime> {
    pub(crate) runtime: R,
    pub(crate) hub: Hub,
    pub(crate) ledger: MemoryLedger,
    pub(crate) nodes: BTreeMap<NodeId, Arc<TestNode<R>>>,
    pub(crate) keys: OwnerKeys,
}

impl<R: Runtime> World<R> {
    /// `count` nodes, and an owner with credits.
    pub(crate) fn new(runtime: R, count: u8) -> Self {
        Self::with_market(runtime, count, Parameters::default(), Amount::ZERO)
    }

    /// On a ledger with these parameters, with nodes that ask `price` per GiB and epoch.
    pub(crate) fn with_market(
        runtime: R,
        count: u8,
        parameters: Parameters,
        price: Amount,
    ) -> Self {
        let keys = OwnerKeys::from_seed(&[42; 32]);
        let hub = Hub::default();
        let ledger = MemoryLedger::new(keys.account(), parameters, price);
        let mut nodes = BTreeMap::new();
        for number in 0..count {
            let key = SecretKey::from_bytes(&[100 + number; 32]);
            ledger.register(&key, number);
            let node = TestNode::start(&runtime, &hub, &ledger, key);
            nodes.insert(node.id(), node);
        }
        Self {
            runtime,
            hub,
            ledger,
            nodes,
            keys,
        }
    }

    /// A client with the identity of `number`.
    pub(crate) fn client(&self, number: u8) -> TestClient<R> {
        self.client_with(number, ClientConfig::default())
    }

    pub(crate) fn client_with(&self, number: u8, config: ClientConfig) -> TestClient<R> {
        self.client_of(self.runtime.clone(), number, config)
    }

    /// A client on another machine than the nodes'.
    pub(crate) fn client_on(&self, runtime: R, number: u8) -> TestClient<R> {
        self.client_of(runtime, number, ClientConfig::default())
    }

    pub(crate) fn client_of(&self, runtime: R, number: u8, config: ClientConfig) -> TestClient<R> {
        let key = SecretKey::from_bytes(&[number; 32]);
        let network = self.hub.join(NodeId::new(key.public()));
        Client::new(runtime, network, self.ledger.clone(), config)
    }

    /// The owner on a client of its own, with its state in `folder`.
    pub(crate) fn owner(&self, folder: &std::path::Path) -> TestOwner<R> {
        self.owner_with(folder, &self.client(1), small())
    }

    pub(crate) fn owner_with(
        &self,
        folder: &std::path::Path,
        client: &TestClient<R>,
        config: OwnerConfig,
    ) -> TestOwner<R> {
        Owner::new(client.clone(), self.keys.clone(), folder, config)
    }

    /// What the owner has.
    pub(crate) async fn balance(&self) -> Amount {
        let account = self.ledger.account(self.keys.account()).await;
        account.unwrap().balance
    }

    /// Gives somebody else some of it.
    pub(crate) async fn spend(&self, amount: Amount) {
        let to = AccountId::new(SecretKey::from_bytes(&[99; 32]).public());
        let body = TxBody::Transfer { to, amount };
        let done = submit_body(&self.ledger, self.keys.identity(), body).await;
        done.unwrap();
    }

    /// Makes a node unreachable and cuts its streams, as a `kill -9` would.
    pub(crate) fn kill(&self, id: NodeId) {
        self.hub.take_down(id);
        self.node(id).cut_streams();
    }

    pub(crate) fn node(&self, id: NodeId) -> &TestNode<R> {
        &self.nodes[&id]
    }
}

pub(crate) type TestClient<R> = Client<R, MemoryNetwork, MemoryLedger>;
pub(crate) type TestOwner<R> = Owner<R, MemoryNetwork, MemoryLedger>;

/// Groups for tests at 4-of-8.
pub(crate) fn small() -> OwnerConfig {
    OwnerConfig {
        slot_capacity: ByteCount::new(64 << 20),
        price_max: Amount::from_micro(10),
        put_patience: Duration::from_secs(2),
        ..OwnerConfig::new(Profile::Dev8)
    }
}

/// Bytes that look like nothing, the same for the same seed.
pub(crate) fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}
