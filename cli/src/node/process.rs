//! A running node in this process: its place on the network, its store, its tasks.

use std::sync::Arc;

use cairn_core::{AccountId, Amount, ByteCount, NodeId};
use cairn_ledger::{NodeEntry, NodeTerms, RemoteLedger, Verdict};
use cairn_net::{DhtMode, LedgerPeers, Network, RealConfig, RealNetwork, RelayServer};
use cairn_node::store::{IndexCache, NoCache, PACK_BYTES, SledCache, StoreConfig};
use cairn_node::{
    Holding, NodeConfig, NodeError, NodeHandle, NodeStatus, Pacing, SeenHeightError, SlotLag,
};
use cairn_runtime::Runtime;
use cairn_runtime::real::RealRuntime;
use serde_json::{Value, json};

use super::init::node_key;
use super::{Folder, Request, Settings};
use crate::app::App;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::files;
use crate::network_file::NetworkFile;

/// Share of its disk that a node keeps for records, dead shards and its own files: an eighth. The
/// rest is what it offers.
const OWN_SHARE: u64 = 8;

/// The node's handle as this program uses it.
type Handle = NodeHandle<RealRuntime, RealNetwork, RemoteLedger<LedgerPeers<RealNetwork>>>;

/// A running node.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    net: RealNetwork,
    handle: Arc<Handle>,
}

/// Where a node answers.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// Multiaddresses of the control plane.
    pub(crate) control: Vec<String>,
    /// Where shard bytes are served.
    pub(crate) data: Option<String>,
}

impl NodeProcess {
    /// Starts the node of `folder` on `network`.
    ///
    /// # Errors
    ///
    /// Of kind storage when its store does not open, network when it can't listen, usage when its
    /// settings are wrong.
    pub(crate) async fn start(
        app: &App,
        folder: &Folder,
        settings: &Settings,
        network: &NetworkFile,
    ) -> Result<Self, Failure> {
        let config = node_config(app, folder, settings).await?;
        let mut net = RealConfig::new(config.key.clone(), DhtMode::Server);
        net.listen = settings.listen.value.clone();
        net.data_listen = Some(settings.data_listen.value);
        net.announce = settings.announce.value.clone();
        net.announce_data = settings.announce_data.value.clone();
        net.bootstrap = network.bootstrap.clone();
        net.relay_server = RelayServer::DEFAULT;
        net.state_dir = Some(folder.net());
        let net = RealNetwork::start(net, app.runtime.clone())
            .await
            .or_fail(FailureKind::Network, "the node can't join the network")?;
        let ledger = network.ledger(net.clone());
        match cairn_node::start(app.runtime.clone(), net.clone(), ledger, config).await {
            Ok(handle) => Ok(Self {
                net,
                handle: Arc::new(handle),
            }),
            Err(error) => {
                net.shutdown().await;
                Err(failure(error).while_doing("the node does not start"))
            }
        }
    }

    /// Which node it is.
    pub(crate) fn node(&self) -> NodeId {
        self.handle.id()
    }

    /// Where it answers.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            control: self.net.listen_addresses(),
            data: self.net.data_address().map(|address| address.to_string()),
        }
    }

    /// Does what was asked over the control socket.
    pub(crate) fn answer(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Value, Failure>> + Send + 'static {
        let handle = Arc::clone(&self.handle);
        async move {
            match request {
                Request::Status => handle.status().await.map(|status| status_json(&status)),
                Request::Scrub => handle.scrub().await.map(|report| {
                    json!({
                        "shards_read": report.shard_count,
                        "bytes_read": report.bytes.get(),
                        "shards_damaged": report.damaged_count,
                        "damaged": report.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    })
                }),
                Request::Drain => handle.drain().await.map(|()| json!({ "draining": true })),
                Request::Maintain { epochs } => {
                    let announced = handle.maintain(epochs).await;
                    announced.map(|()| json!({ "maintenance_epochs": epochs }))
                }
                Request::AddCollateral { micro_credits } => {
                    let added = handle.add_collateral(Amount::from_micro(micro_credits)).await;
                    added.map(|entry| collateral_json(entry.as_ref()))
                }
                Request::TakeCollateral { micro_credits } => {
                    let taken = handle.take_collateral(Amount::from_micro(micro_credits)).await;
                    taken.map(|entry| collateral_json(entry.as_ref()))
                }
                Request::Pay { to, micro_credits } => {
                    let to: AccountId = to.parse().or_fail(FailureKind::Usage, "no account")?;
                    let balance = handle.pay(to, Amount::from_micro(micro_credits)).await;
                    balance.map(|balance| json!({ "balance_micro_credits": balance.micro() }))
                }
            }
            .map_err(failure)
        }
    }

    /// Stops in order. Whoever still holds an answer of [`Self::answer`] must have dropped it.
    ///
    /// # Errors
    ///
    /// Of kind storage when what is under way could not be made durable.
    pub(crate) async fn shutdown(self) -> Result<(), Failure> {
        let stopped = match Arc::try_unwrap(self.handle) {
            Ok(handle) => handle.shutdown().await.map_err(failure),
            // Stopped as by a crash, which loses nothing that was acknowledged.
            Err(_) => Ok(()),
        };
        self.net.shutdown().await;
        stopped
    }

    /// Stops as by a crash.
    pub(crate) async fn kill(self) {
        drop(self.handle);
        self.net.shutdown().await;
    }
}

/// The settings in the node's own types.
async fn node_config(
    app: &App,
    folder: &Folder,
    settings: &Settings,
) -> Result<NodeConfig, Failure> {
    files::make_folder(&folder.store())?;
    let capacity = settings.capacity_bytes.value;
    Ok(NodeConfig {
        key: node_key(app, folder)?,
        store: StoreConfig {
            folder: folder.store(),
            capacity,
            floor: settings.free_bytes_min.value,
            pack_bytes: PACK_BYTES,
        },
        cache: cache(app, folder).await,
        terms: terms(settings)?,
        operator: settings.operator()?,
        ledger_server: None,
        pacing: Pacing {
            scrub_bytes_per_second: settings.scrub_bytes_per_second.value.get(),
            ..Pacing::default()
        },
    })
}

/// What can be rebuilt is kept where it can be; the store works without.
async fn cache(app: &App, folder: &Folder) -> Arc<dyn IndexCache> {
    let (disk, path) = (app.runtime.disk().clone(), folder.store());
    let opened = app
        .runtime
        .blocking(move || SledCache::open(&disk, &path))
        .await;
    match opened {
        Some(cache) => Arc::new(cache),
        None => Arc::new(NoCache),
    }
}

/// What the node offers on the ledger.
fn terms(settings: &Settings) -> Result<NodeTerms, Failure> {
    let label = |key: &str, text: &str| {
        let wrong = format!("{key} is too long");
        cairn_core::Text::new(text).or_fail(FailureKind::Usage, wrong)
    };
    let capacity = settings.capacity_bytes.value.get();
    let price = settings.price_micro_credits_per_gib_epoch.value;
    Ok(NodeTerms {
        capacity: ByteCount::new(capacity.saturating_sub(capacity / OWN_SHARE)),
        price: Amount::from_micro(price),
        network: label("network_prefix", &settings.network_prefix.value)?,
        provider: label("hosting_provider", &settings.hosting_provider.value)?,
        region: label("region", &settings.region.value)?,
    })
}

fn collateral_json(entry: Option<&NodeEntry>) -> Value {
    entry.map_or(Value::Null, |entry| {
        json!({
            "collateral_micro_credits": entry.collateral.micro(),
            "locked_micro_credits": entry.locked.micro(),
        })
    })
}

fn failure(error: NodeError) -> Failure {
    match error {
        NodeError::Ledger(error) => error.into(),
        NodeError::Store(_) => Failure::new(FailureKind::Storage, error),
        NodeError::SeenHeight(error) => seen_height_failure(error),
        NodeError::Identity { .. } => Failure::new(FailureKind::Usage, error),
    }
}

/// It is not known how far the node has seen the ledger. Only its operator can tell whether those who
/// answer for the ledger now are as far.
fn seen_height_failure(error: SeenHeightError) -> Failure {
    let (kind, hint) = match &error {
        SeenHeightError::Disk(_) => {
            let text = "the folder must be one that this user may read and write";
            (FailureKind::Storage, text.to_owned())
        }
        SeenHeightError::Damaged { path } => {
            let shown = path.display();
            let text = format!("when the network's validators are surely up to date: rm {shown}");
            (FailureKind::Storage, text)
        }
        SeenHeightError::OtherLedger { .. } => {
            let text = "give the node the network file of that ledger, or another folder";
            (FailureKind::Usage, text.to_owned())
        }
    };
    Failure::new(kind, error).hint(hint)
}

fn status_json(status: &NodeStatus) -> Value {
    let lacking: u64 = status
        .slots
        .iter()
        .map(|slot| u64::from(slot.lacking_count))
        .sum();
    let idle: Vec<Value> = status.slots.iter().filter_map(idle_json).collect();
    let problems: Vec<String> = status.slots.iter().filter_map(problem).collect();
    let store = &status.store;
    json!({
        "node": status.node.to_string(),
        "idle": status.idle,
        "draining": status.draining,
        "epoch": status.epoch.map(|epoch| epoch.epoch.get()),
        "proof": status.epoch.and_then(|epoch| epoch.verdict).map(verdict),
        "score": status.score,
        "slots": status.slots.len(),
        "slots_idle": idle,
        "shards": store.shard_count,
        "shards_lacking": lacking,
        "shard_bytes": store.shard_bytes.get(),
        "used_bytes": store.used.get(),
        "free_bytes": store.free.get(),
        "capacity_bytes": store.capacity.get(),
        "packs": store.pack_count,
        "failure": status.failure,
        "ledger_problem": status.ledger_problem,
        "problems": problems,
    })
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
        Verdict::Missing => "missing",
    }
}

/// A slot that is not the node's any more, why and what that costs.
fn idle_json(slot: &SlotLag) -> Option<Value> {
    (slot.holding == Holding::Idle).then(|| {
        let why = if slot.acknowledged < slot.revision {
            "the node was called lost or had less than the group's revision for too long"
        } else {
            "the node was called lost"
        };
        json!({
            "slot": slot.slot.to_string(),
            "why": why,
            "costs": "it earns nothing until the node has it whole and takes it back, or another is drawn for it",
            "forfeited_micro_credits": slot.forfeited.micro(),
            "shards_lacking": slot.lacking_count,
        })
    })
}

fn problem(slot: &SlotLag) -> Option<String> {
    let problem = slot.problem.as_ref()?;
    Some(format!("{}: {problem}", slot.slot))
}
