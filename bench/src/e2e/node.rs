//! A node's process.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cairn_core::{Amount, ByteCount, Text};
use cairn_ledger::NodeTerms;
use cairn_net::{DhtMode, Network, PeerAddress, RealConfig, RealNetwork};
use cairn_node::store::{IndexCache, NoCache, SledCache, StoreConfig};
use cairn_node::{NodeConfig, Pacing};
use cairn_runtime::{RealRuntime, Runtime};

use super::member::{Order, Role, Setup, obey};
use super::sequencer::{address_of, fresh_key, ledger_at};

/// Runs it until its orders end.
pub(super) async fn run(runtime: &RealRuntime, setup: &Setup) -> Result<()> {
    let Role::Node {
        number,
        capacity_bytes,
        sequencer,
    } = &setup.role
    else {
        bail!("expected a node, found {:?}", setup.role);
    };
    let key = fresh_key(runtime);
    let node = sequencer.node.parse()?;
    let mut config = RealConfig::loopback(key.clone(), DhtMode::Server);
    config.bootstrap = vec![PeerAddress {
        node,
        address: sequencer.address.clone(),
    }];
    let net = RealNetwork::start(config, runtime.clone()).await?;
    let address = address_of(&net)?;
    let ledger = ledger_at(net.clone(), sequencer)?;
    let capacity = ByteCount::new(*capacity_bytes);
    let folder = setup.folder.join("store");
    let opening = (runtime.disk().clone(), folder.clone());
    let cache = runtime
        .blocking(move || SledCache::open(&opening.0, &opening.1))
        .await;
    let cache: Arc<dyn IndexCache> = match cache {
        Some(cache) => Arc::new(cache),
        None => Arc::new(NoCache),
    };
    let label = |text: String| Text::new(text).ok().context("a short label");
    let config = NodeConfig {
        key,
        store: StoreConfig::new(folder, capacity),
        cache,
        terms: NodeTerms {
            capacity,
            price: Amount::ZERO,
            network: label(format!("10.{number}.0.0/16"))?,
            provider: label(format!("provider {number}"))?,
            region: label(format!("region {number}"))?,
        },
        operator: None,
        ledger_server: None,
        pacing: Pacing::default(),
    };
    let handle = cairn_node::start(runtime.clone(), net.clone(), ledger, config).await?;
    obey(runtime, Some(address), |order: Order| async move {
        bail!("a node does not {order:?}")
    })
    .await?;
    handle.shutdown().await?;
    net.shutdown().await;
    Ok(())
}
