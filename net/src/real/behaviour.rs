//! The libp2p protocols that we speak, put together.

use std::num::NonZeroUsize;
use std::time::Duration;

use cairn_runtime::RealRuntime;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, autonat, connection_limits, dcutr, identify, kad,
    memory_connection_limits, noise, ping, relay, request_response, tcp, yamux,
};

use super::config::{DhtMode, RealConfig, RelayServer, StartError};
use super::control::{CONTROL_PROTOCOL, ControlCodec};
use super::records::Records;
use super::streams::Streams;
use crate::RECORD_BYTES_MAX;

/// What `identify` calls our protocols as a whole.
const IDENTIFY_PROTOCOL: &str = "/cairn/1";
/// The DHT's protocol on libp2p connections.
pub(super) const DHT_PROTOCOL: StreamProtocol = StreamProtocol::new("/cairn/kad/1");
/// Longest DHT query.
const QUERY_TIME_MAX: Duration = Duration::from_secs(30);
/// Room for keys, peers and framing beside a record in one DHT message.
const PACKET_OVERHEAD_BYTES: usize = 20 << 10;
/// Connections being made, each way.
const PENDING_CONNECTIONS_MAX: u32 = 128;
/// A connection that nobody uses is closed after this.
const IDLE_CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Streams that one connection negotiates at once.
const NEGOTIATING_STREAMS_MAX: usize = 64;
/// Streams of one connection, of all protocols: data, control and DHT take up to 32 each.
const CONNECTION_STREAMS_MAX: u32 = 128;
/// Longest control exchange; callers usually give less.
pub(super) const CONTROL_TIME_MAX: Duration = Duration::from_secs(120);

/// The libp2p protocols that we speak.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: Toggle<memory_connection_limits::Behaviour>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) dht: kad::Behaviour<Records<RealRuntime>>,
    pub(super) control: request_response::Behaviour<ControlCodec>,
    pub(super) streams: Streams,
    autonat_client: Toggle<autonat::v2::client::Behaviour>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: dcutr::Behaviour,
}

/// The parts of the behaviour that have state of ours.
pub(super) struct Parts {
    pub(super) records: Records<RealRuntime>,
    pub(super) streams: Streams,
}

/// A swarm with all protocols over TCP with Noise and Yamux, QUIC, and relays.
pub(super) fn swarm(
    config: &RealConfig,
    keypair: Keypair,
    parts: Parts,
) -> Result<Swarm<Behaviour>, StartError> {
    let transport = |cause: String| StartError::Transport { cause };
    let built = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            multiplexing,
        )
        .map_err(|e| transport(e.to_string()))?
        .with_quic_config(|mut quic| {
            quic.max_concurrent_stream_limit = CONNECTION_STREAMS_MAX;
            quic
        })
        .with_relay_client(noise::Config::new, multiplexing)
        .map_err(|e| transport(e.to_string()))?
        .with_behaviour(|keypair, relay| behaviour(config, keypair, relay, parts))
        .map_err(|e| transport(e.to_string()))?
        .with_swarm_config(|swarm| {
            swarm
                .with_idle_connection_timeout(IDLE_CONNECTION_TIME)
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX)
        })
        .build();
    Ok(built)
}

/// Yamux with our bound of streams. Each may hold 256 KiB that we have not read.
fn multiplexing() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(usize::try_from(CONNECTION_STREAMS_MAX).unwrap_or(usize::MAX));
    config
}

fn behaviour(
    config: &RealConfig,
    keypair: &Keypair,
    relay_client: relay::client::Behaviour,
    parts: Parts,
) -> Behaviour {
    let limits = &config.limits;
    let local = keypair.public().to_peer_id();
    let connections = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_CONNECTIONS_MAX))
        .with_max_pending_outgoing(Some(PENDING_CONNECTIONS_MAX))
        .with_max_established(Some(limits.connections_max))
        .with_max_established_per_peer(Some(limits.peer_connections_max));
    let memory = limits.process_memory_max.map(|max| {
        let max = usize::try_from(max.get()).unwrap_or(usize::MAX);
        memory_connection_limits::Behaviour::with_max_bytes(max)
    });
    let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), keypair.public())
        .with_agent_version(concat!("cairn/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true);
    let exchange = request_response::Config::default()
        .with_request_timeout(CONTROL_TIME_MAX)
        .with_max_concurrent_streams(limits.peer_requests_max);
    let full = request_response::ProtocolSupport::Full;
    let server = config.dht_mode == DhtMode::Server;
    Behaviour {
        limits: connection_limits::Behaviour::new(connections),
        memory: memory.into(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::default(),
        dht: dht(config.dht_mode, local, parts.records),
        control: request_response::Behaviour::with_codec(
            ControlCodec::new(),
            [(CONTROL_PROTOCOL, full)],
            exchange,
        ),
        streams: parts.streams,
        autonat_client: server.then(autonat::v2::client::Behaviour::default).into(),
        autonat_server: server.then(autonat::v2::server::Behaviour::default).into(),
        relay_client,
        relay_server: relay_server(config.relay_server)
            .map(|config| relay::Behaviour::new(local, config))
            .into(),
        dcutr: dcutr::Behaviour::new(local),
    }
}

fn dht(
    mode: DhtMode,
    local: libp2p::PeerId,
    records: Records<RealRuntime>,
) -> kad::Behaviour<Records<RealRuntime>> {
    let mut config = kad::Config::new(DHT_PROTOCOL);
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_record_ttl(Some(super::records::RECORD_TTL))
        // Republishing is ours: paced, and only of what we publish.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .set_query_timeout(QUERY_TIME_MAX)
        .set_max_packet_size(RECORD_BYTES_MAX + PACKET_OVERHEAD_BYTES)
        // So many silent peers hold no lookup up.
        .set_parallelism(NonZeroUsize::new(8).expect("8 is not 0"));
    let mut dht = kad::Behaviour::with_config(local, records, config);
    dht.set_mode(Some(match mode {
        DhtMode::Server => kad::Mode::Server,
        DhtMode::Client => kad::Mode::Client,
    }));
    dht
}

fn relay_server(config: RelayServer) -> Option<relay::Config> {
    match config {
        RelayServer::Off => None,
        RelayServer::On {
            circuit_bytes_max,
            circuit_time_max,
        } => Some(relay::Config {
            max_circuit_bytes: circuit_bytes_max,
            max_circuit_duration: circuit_time_max,
            ..relay::Config::default()
        }),
    }
}
