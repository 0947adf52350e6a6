//! Setting a real network up from its configuration.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use cairn_core::NodeId;
use cairn_runtime::{RealRuntime, Runtime};
use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::behaviour::{self, Behaviour, Parts};
use super::book::{Book, without_peer};
use super::config::{DhtMode, PeerAddress, RealConfig, StartError};
use super::driver::{Driver, Relay};
use super::gate::Gate;
use super::keeper::Keeper;
use super::listener::Listener;
use super::records::Records;
use super::streams::Streams;
use super::tls::Tls;
use super::{COMMANDS_MAX, Ends, REQUESTS_QUEUE, RealNetwork, Shared, State, Tasks, identity};

/// Saves on their way to the keeper: one being written, one waiting.
const SAVES_MAX: usize = 1;

impl RealNetwork {
    /// Starts the network: binds its listeners, reads what it remembers, joins through the peers
    /// that it was given.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the address or the file.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe: nothing has started then.
    pub async fn start(config: RealConfig, runtime: RealRuntime) -> Result<Self, StartError> {
        let keypair = identity::keypair(&config.key);
        let data_listener = bind(config.data_listen).await?;
        let bootstrap = peers(&config.bootstrap).await?;
        let relays = peers(&config.relays).await?;
        let shared = share(&config, &runtime, data_listener.as_ref()).await?;
        for (node, _, address) in bootstrap.iter().chain(&relays) {
            shared.book.add_address(*node, address.clone());
        }
        let (gate, streams) = Gate::new(config.limits.peer_streams_max, config.limits.streams_max);
        let (records, keeper) = remember(&config, &shared).await?;
        let parts = Parts {
            records,
            streams: Streams::new(gate.clone(), shared.book.clone(), runtime.clone()),
        };
        let mut swarm = behaviour::swarm(&config, keypair, parts)?;
        listen(&mut swarm, &config, &shared).await?;

        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (requests, requested) = mpsc::channel(REQUESTS_QUEUE);
        let mut tasks = Tasks::default();
        let saves = keeper.map(|keeper| {
            let (saves, saved) = mpsc::channel(SAVES_MAX);
            tasks.keeper = Some(runtime.spawn("net keeper", keeper.run(runtime.clone(), saved)));
            saves
        });
        let mut driver = Driver::new(swarm, Arc::clone(&shared), (commanded, requests), saves);
        driver.bootstrap = bootstrap.into_iter().map(|(_, id, at)| (id, at)).collect();
        driver.relays = relays
            .into_iter()
            .map(|(_, id, at)| Relay::new(id, at))
            .collect();
        tasks.driver = Some(runtime.spawn("net driver", driver.run()));
        tasks.listener = data_listener.map(|tcp| {
            let listener = Listener {
                tcp,
                tls: shared.tls.clone(),
                gate,
                limits: config.limits,
                runtime: runtime.clone(),
            };
            runtime.spawn("net data listener", listener.run())
        });
        let (closed, _) = tokio::sync::watch::channel(false);
        Ok(Self {
            shared,
            commands,
            ends: Arc::new(Ends {
                requests: AsyncMutex::new(requested),
                streams: AsyncMutex::new(streams),
                tasks: Mutex::new(tasks),
                closed,
            }),
        })
    }
}

/// What the tasks and the handles share.
async fn share(
    config: &RealConfig,
    runtime: &RealRuntime,
    data_listener: Option<&TcpListener>,
) -> Result<Arc<Shared>, StartError> {
    let keypair = identity::keypair(&config.key);
    let tls = Tls::new(&keypair).map_err(|cause| StartError::Transport { cause })?;
    let data_address = match data_listener.map(TcpListener::local_addr) {
        Some(Ok(address)) => Some(address),
        Some(Err(error)) => return Err(unbound("the data plane", &error)),
        None => None,
    };
    Ok(Arc::new(Shared {
        local: NodeId::new(config.key.public()),
        key: config.key.clone(),
        runtime: runtime.clone(),
        limits: config.limits,
        serves_dht: config.dht_mode == DhtMode::Server,
        book: Book::default(),
        tls,
        data_address,
        announce: resolve_all(&config.announce).await?,
        announce_data: config.announce_data.clone(),
        wants_rewrite: Arc::new(AtomicBool::new(false)),
        state: Mutex::new(State::default()),
    }))
}

/// Listens where the configuration says, and waits until the system has bound every address.
async fn listen(
    swarm: &mut Swarm<Behaviour>,
    config: &RealConfig,
    shared: &Shared,
) -> Result<(), StartError> {
    for address in shared.announce.clone() {
        swarm.add_external_address(address);
    }
    let mut unbound_yet = HashMap::new();
    for address in resolve_all(&config.listen).await? {
        let text = address.to_string();
        let id = swarm.listen_on(address).map_err(|e| unbound(&text, &e))?;
        unbound_yet.insert(id, text);
    }
    while !unbound_yet.is_empty() {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                unbound_yet.remove(&listener_id);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(error),
                ..
            } => {
                let address = unbound_yet.remove(&listener_id).unwrap_or_default();
                return Err(unbound(&address, &error));
            }
            _ => {}
        }
    }
    let bound = swarm.listeners().cloned().collect();
    shared.set_addresses(bound, swarm.external_addresses().cloned().collect());
    Ok(())
}

/// The store of records, with what the state folder has, and who writes it.
async fn remember(
    config: &RealConfig,
    shared: &Arc<Shared>,
) -> Result<(Records<RealRuntime>, Option<Keeper>), StartError> {
    let bytes_max = config.limits.record_bytes_max.get();
    let local = identity::keypair(&config.key).public().to_peer_id();
    let mut records = Records::new(
        shared.runtime.clone(),
        local,
        config.limits.records_max,
        usize::try_from(bytes_max).unwrap_or(usize::MAX),
    );
    let Some(folder) = config.state_dir.clone() else {
        return Ok((records, None));
    };
    let disk = shared.runtime.disk().clone();
    let book = shared.book.clone();
    let wants_rewrite = Arc::clone(&shared.wants_rewrite);
    let open = move || {
        let (keeper, entries) = Keeper::open(&disk, &folder, bytes_max, &book, wants_rewrite)?;
        records.restore(entries);
        Ok::<_, StartError>((records, Some(keeper)))
    };
    shared.runtime.blocking(open).await
}

async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => Err(unbound(&address.to_string(), &error)),
    }
}

fn unbound(address: &str, cause: &dyn std::fmt::Display) -> StartError {
    StartError::Listen {
        address: address.to_owned(),
        cause: cause.to_string(),
    }
}

/// Configured peers in libp2p's form.
async fn peers(configured: &[PeerAddress]) -> Result<Vec<(NodeId, PeerId, Multiaddr)>, StartError> {
    let mut peers = Vec::new();
    for peer in configured {
        let id = identity::peer_id(peer.node).ok_or_else(|| StartError::Address {
            address: peer.address.clone(),
            cause: format!("{} is not a node", peer.node),
        })?;
        let address = resolve(&peer.address).await?;
        peers.push((peer.node, id, without_peer(address)));
    }
    Ok(peers)
}

async fn resolve_all(texts: &[String]) -> Result<Vec<Multiaddr>, StartError> {
    let mut addresses = Vec::new();
    for text in texts {
        addresses.push(resolve(text).await?);
    }
    Ok(addresses)
}

/// Parses a multiaddress, and looks up the host name that it may begin with.
pub(super) async fn resolve(text: &str) -> Result<Multiaddr, StartError> {
    let wrong = |cause: String| StartError::Address {
        address: text.to_owned(),
        cause,
    };
    let address: Multiaddr = text
        .parse()
        .map_err(|e: libp2p::multiaddr::Error| wrong(e.to_string()))?;
    let mut parts = address.iter();
    let Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) = parts.next()
    else {
        return Ok(address);
    };
    let mut found = tokio::net::lookup_host((name.as_ref(), 0))
        .await
        .map_err(|e| wrong(e.to_string()))?;
    let Some(host) = found.next() else {
        return Err(wrong("the name has no address".to_owned()));
    };
    let mut resolved = Multiaddr::from(host.ip());
    for part in parts {
        resolved.push(part);
    }
    Ok(resolved)
}

/// The IP address of a multiaddress that leads here directly.
pub(super) fn direct_ip(address: &Multiaddr) -> Option<IpAddr> {
    let relayed = address
        .iter()
        .any(|part| matches!(part, Protocol::P2pCircuit));
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    (!relayed).then_some(ip)
}
