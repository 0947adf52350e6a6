//! Real networks on the loopback interface: real sockets, real libp2p, real TLS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{DataRequest, DataResponse, ShardRange, WithRecord};
use cairn_core::{
    Bounded, Capability, CapabilityLink, Code, Digest, ErrorCode, GroupId, NodeId, NodeRecord,
    Receipt, Record, Right, Scope, SecretKey, SegmentNumber, SegmentRecord, ShardRoot, Signed,
    SlotIndex, UnixMillis,
};
use cairn_runtime::{RealRuntime, Runtime, Task};

use super::{Carrier, RealConfig, RealNetwork, RealStream};
use crate::{
    DataConn, DhtMode, NetError, Network, Pace, PeerAddress, RecordKey, ServerConn, ShardWanted,
};

mod dht;
mod hostile;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A loopback address of this process alone: a port that was let go stays free, since no other
/// process listens or connects from there. `number` tells the tests of one process apart.
fn own_loopback(number: u8) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    IpAddr::from([127, high, low, number])
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn id(number: u8) -> NodeId {
    NodeId::new(secret(number).public())
}

async fn start(config: RealConfig) -> RealNetwork {
    RealNetwork::start(config, RealRuntime::current())
        .await
        .unwrap()
}

/// A node that joins through `others`.
async fn node(number: u8, others: &[&RealNetwork]) -> RealNetwork {
    let mut config = RealConfig::loopback(secret(number), DhtMode::Server);
    config.bootstrap = others.iter().map(|other| address(other)).collect();
    start(config).await
}

fn address(network: &RealNetwork) -> PeerAddress {
    PeerAddress {
        node: network.local(),
        address: network.listen_addresses()[0].clone(),
    }
}

/// Answers control requests with the message turned round.
fn echo(network: &RealNetwork) -> Task<()> {
    let network = network.clone();
    RealRuntime::current().spawn("echo", async move {
        while let Some(mut request) = network.next_request().await {
            request.message.reverse();
            request.answer.send(request.message).unwrap();
        }
    })
}

/// Serves the data plane from memory: a put's body is kept and given back.
fn serve(network: &RealNetwork) -> Task<()> {
    let network = network.clone();
    RealRuntime::current().spawn("serve", async move {
        let runtime = RealRuntime::current();
        let mut tasks = Vec::new();
        while let Some((peer, stream)) = network.accept().await {
            let conn = ServerConn::new(stream, peer, runtime.clone(), Pace::SERVER);
            let local = network.local();
            tasks.push(runtime.spawn("conn", answer(conn, local)));
        }
    })
}

async fn answer<S>(mut conn: ServerConn<S, RealRuntime>, local: NodeId)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    let mut kept = BytesMut::new();
    while let Ok(Some(request)) = conn.next().await {
        let done = match request {
            DataRequest::Present(_) => conn.respond(&DataResponse::Done).await,
            DataRequest::Put { slot, record } => {
                kept.clear();
                while conn.read_body(&mut kept).await.unwrap() > 0 {}
                let record = record.unverified();
                let receipt = Receipt {
                    node: local,
                    group: record.group,
                    slot,
                    segment: record.number,
                    shard_root: record.shard_root(slot).unwrap(),
                    shard_bytes: record.shard_bytes(),
                };
                let signed = Signed::sign(receipt, &secret(1));
                conn.respond(&DataResponse::Receipt(signed)).await
            }
            DataRequest::Get { range, .. } => {
                let from = usize::try_from(range.offset).unwrap();
                let to = from + usize::try_from(range.bytes).unwrap();
                match kept.get(from..to) {
                    Some(bytes) => conn.respond_shard(None, range.offset, &[], bytes).await,
                    None => conn.respond_error(ErrorCode::OutOfRange, "no").await,
                }
            }
            DataRequest::Records { .. } | DataRequest::Audit { .. } => {
                conn.respond_error(ErrorCode::UnknownGroup, "no").await
            }
        };
        if done.is_err() {
            return;
        }
    }
}

fn capability(holder: &SecretKey) -> Capability {
    let link = CapabilityLink {
        scope: Scope::Group(GroupId::new(Digest::of(b"g"))),
        right: Right::Write,
        holder: holder.public(),
        expires_at: UnixMillis::new(u64::MAX),
    };
    Capability::issue(link, &secret(200))
}

fn segment(shard: &[u8]) -> Signed<SegmentRecord> {
    let root = ShardRoot::new(Digest::of(shard));
    let record = SegmentRecord {
        group: GroupId::new(Digest::of(b"g")),
        number: SegmentNumber::new(3),
        code: Code::new(1, 2).unwrap(),
        payload_bytes: u32::try_from(shard.len()).unwrap(),
        shard_roots: Bounded::new(vec![root, root]).unwrap(),
    };
    Signed::sign(record, &secret(200))
}

fn wanted(offset: u32, bytes: u32) -> ShardWanted {
    ShardWanted {
        group: GroupId::new(Digest::of(b"g")),
        slot: SlotIndex::new(0),
        segment: SegmentNumber::new(3),
        range: ShardRange { offset, bytes },
        record: WithRecord::No,
    }
}

async fn put_and_get(conn: &mut DataConn<RealStream, RealRuntime>) {
    let shard: Vec<u8> = (0..=250_u8).cycle().take(1 << 20).collect();
    let receipt = conn
        .put(SlotIndex::new(0), &segment(&shard), &shard)
        .await
        .unwrap();
    assert_eq!(receipt.unverified().shard_bytes, 1 << 20);
    let mut bytes = BytesMut::new();
    conn.get(&wanted(0, 1 << 20), &mut bytes).await.unwrap();
    assert!(bytes == shard[..]);
    conn.get(&wanted(4096, 1024), &mut bytes).await.unwrap();
    assert!(bytes == shard[4096..5120]);
}

async fn connect(from: &RealNetwork, to: NodeId) -> DataConn<RealStream, RealRuntime> {
    let stream = from.connect(to, LIMIT).await.unwrap();
    DataConn::new(stream, to, RealRuntime::current(), Pace::CLIENT)
}

#[tokio::test(flavor = "multi_thread")]
async fn control_messages_go_both_ways() {
    let first = node(1, &[]).await;
    let second = node(2, &[&first]).await;
    let _echo = echo(&first);
    let _echo_too = echo(&second);
    let answer = second.request(id(1), b"abc".to_vec(), LIMIT).await;
    assert_eq!(answer, Ok(b"cba".to_vec()));
    let answer = first.request(id(2), b"xyz".to_vec(), LIMIT).await;
    assert_eq!(answer, Ok(b"zyx".to_vec()));
    let largest = vec![7; crate::CONTROL_BYTES_MAX];
    let answer = second.request(id(1), largest.clone(), LIMIT).await;
    assert_eq!(answer, Ok(largest.clone()));
    let larger = vec![7; crate::CONTROL_BYTES_MAX + 1];
    let refused = second.request(id(1), larger, LIMIT).await;
    assert!(matches!(refused, Err(NetError::TooLarge { .. })));
    let unknown = second.request(id(9), Vec::new(), LIMIT).await;
    assert_eq!(unknown, Err(NetError::UnknownPeer { peer: id(9) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_go_over_direct_tls() {
    let server = node(1, &[]).await;
    let _serving = serve(&server);
    let client = start(RealConfig::new(secret(2), DhtMode::Client)).await;
    client.add_peer(server.record()).await.unwrap();
    let stream = client.connect(id(1), LIMIT).await.unwrap();
    assert_eq!(stream.carrier(), Carrier::Tls);
    let mut conn = DataConn::new(stream, id(1), RealRuntime::current(), Pace::CLIENT);
    conn.present(&capability(&secret(2))).await.unwrap();
    put_and_get(&mut conn).await;
    assert_eq!(
        client.connected(),
        Vec::new(),
        "no libp2p connection was needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_go_over_libp2p_without_a_data_address() {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.data_listen = None;
    config
        .listen
        .push("/ip4/127.0.0.1/udp/0/quic-v1".to_owned());
    let server = start(config).await;
    let _serving = serve(&server);
    for address in server.listen_addresses() {
        let client = start(RealConfig::new(secret(2), DhtMode::Client)).await;
        let node = id(1);
        client
            .add_address(&PeerAddress { node, address })
            .await
            .unwrap();
        let stream = client.connect(node, LIMIT).await.unwrap();
        assert_eq!(stream.carrier(), Carrier::Libp2p);
        let mut conn = DataConn::new(stream, node, RealRuntime::current(), Pace::CLIENT);
        put_and_get(&mut conn).await;
        client.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_free_once_it_is_shut_down() {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.data_listen = Some(SocketAddr::new(own_loopback(1), 0));
    for _ in 0..50 {
        let server = start(config.clone()).await;
        let address = server.data_address().unwrap();
        server.shutdown().await;
        std::net::TcpListener::bind(address).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_address_that_is_dead_falls_back_to_libp2p() {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    let closed = std::net::TcpListener::bind((own_loopback(4), 0)).unwrap();
    config.announce_data = vec![closed.local_addr().unwrap()];
    drop(closed);
    let server = start(config).await;
    let _serving = serve(&server);
    let client = start(RealConfig::new(secret(2), DhtMode::Client)).await;
    client.add_peer(server.record()).await.unwrap();
    let stream = client.connect(id(1), LIMIT).await.unwrap();
    assert_eq!(stream.carrier(), Carrier::Libp2p);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_at_once_all_arrive() {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.data_listen = None;
    let server = start(config).await;
    let _serving = serve(&server);
    let client = start(RealConfig::new(secret(2), DhtMode::Client)).await;
    client.add_address(&address(&server)).await.unwrap();
    let opening = (0..16).map(|_| connect(&client, id(1)));
    let mut conns = futures::future::join_all(opening).await;
    let presenting = conns
        .iter_mut()
        .map(|conn| async { conn.present(&capability(&secret(2))).await });
    for presented in futures::future::join_all(presenting).await {
        assert_eq!(presented, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_at_the_address_is_refused() {
    let server = node(1, &[]).await;
    let _serving = serve(&server);
    let client = start(RealConfig::new(secret(2), DhtMode::Client)).await;
    // Node 3 claims node 1's addresses as its own.
    let record = server.record().into_unverified();
    let lie = NodeRecord {
        node: id(3),
        ..record
    };
    client
        .add_peer(Signed::sign(lie.clone(), &secret(3)))
        .await
        .unwrap();
    let refused = client.connect(id(3), LIMIT).await;
    let Err(NetError::Unreachable { cause, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(cause.contains("another answers"), "{cause}");
    let refused = client.request(id(3), vec![1], LIMIT).await;
    assert!(matches!(refused, Err(NetError::Unreachable { .. })));
    let forged = client.add_peer(Signed::sign(lie, &secret(4))).await;
    assert!(forged.is_err());
}
