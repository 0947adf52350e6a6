//! The DHT over real networks.

use cairn_core::{AccountId, Code, GroupRecord, Height};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_find_each_other_through_the_dht() {
    let first = node(1, &[]).await;
    let mut nodes = vec![first.clone()];
    for number in 2..=5 {
        nodes.push(node(number, &[&first]).await);
    }
    let _serving: Vec<_> = nodes.iter().map(serve).collect();
    let mut config = RealConfig::new(secret(9), DhtMode::Client);
    config.bootstrap = vec![address(&first)];
    let client = start(config).await;
    for number in 1..=5 {
        let record = found(&client, RecordKey::Node(id(number))).await;
        let record = Signed::<NodeRecord>::decode(&record).unwrap();
        assert_eq!(record.unverified().data.len(), 1);
        let stream = client.connect(id(number), LIMIT).await.unwrap();
        assert_eq!(stream.carrier(), Carrier::Tls);
    }
    assert_eq!(client.find(RecordKey::Node(id(77))).await, Ok(None));
}

/// Those who ask while the record is being looked up must not take the slow way meanwhile: the pool
/// would keep it for as long as there is traffic.
#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_at_once_all_wait_for_the_data_address() {
    const STREAMS: usize = 8;
    let first = node(1, &[]).await;
    let second = node(2, &[&first]).await;
    let _serving: Vec<_> = [&first, &second].into_iter().map(serve).collect();
    found(&second, RecordKey::Node(id(1))).await;
    let mut config = RealConfig::new(secret(9), DhtMode::Client);
    config.bootstrap = vec![address(&first)];
    let client = start(config).await;
    let opening = (0..STREAMS).map(|_| client.connect(id(1), LIMIT));
    for stream in futures::future::join_all(opening).await {
        assert_eq!(stream.unwrap().carrier(), Carrier::Tls);
    }
}

/// Waits until the DHT has a record.
async fn found(network: &RealNetwork, key: RecordKey) -> Vec<u8> {
    let runtime = RealRuntime::current();
    let begun = runtime.monotonic();
    loop {
        if let Ok(Some(value)) = network.find(key).await {
            return value;
        }
        assert!(
            runtime.monotonic() - begun < LIMIT,
            "{key:?} is not in the DHT"
        );
        runtime.sleep(Duration::from_millis(50)).await;
    }
}

fn group_record(height: u64, signer: u8) -> (RecordKey, Vec<u8>) {
    let group = GroupId::new(Digest::of(b"group"));
    let record = GroupRecord {
        group,
        height: Height::new(height),
        code: Code::new(1, 2).unwrap(),
        slots: Bounded::new(vec![id(1), id(2)]).unwrap(),
    };
    let signed = Signed::sign(record, &secret(signer));
    let owner = AccountId::from(secret(signer).public());
    (RecordKey::Group { group, owner }, signed.encode())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_published_replaced_and_refused() {
    let first = node(1, &[]).await;
    let second = node(2, &[&first]).await;
    let third = node(3, &[&first]).await;
    found(&third, RecordKey::Node(id(2))).await;

    let (key, old) = group_record(4, 1);
    let (_, new) = group_record(5, 1);
    let (_, strange) = group_record(6, 2);
    assert_eq!(second.publish(key, old.clone()).await, Ok(()));
    assert_eq!(found(&third, key).await, old);
    assert_eq!(third.publish(key, new.clone()).await, Ok(()));
    assert_eq!(found(&first, key).await, new);

    let usurped = second.publish(key, strange).await;
    assert!(matches!(usurped, Err(NetError::Dht { .. })), "{usurped:?}");
    let stale = second.publish(key, old).await;
    assert!(matches!(stale, Err(NetError::Dht { .. })), "{stale:?}");
    let mut forged = group_record(9, 1).1;
    forged[40] ^= 1;
    let refused = second.publish(key, forged).await;
    assert!(matches!(refused, Err(NetError::Dht { .. })), "{refused:?}");
    let elsewhere = second.publish(RecordKey::Node(id(2)), new.clone()).await;
    assert!(
        matches!(elsewhere, Err(NetError::Dht { .. })),
        "{elsewhere:?}"
    );
    let large = second
        .publish(key, vec![0; crate::RECORD_BYTES_MAX + 1])
        .await;
    assert!(matches!(large, Err(NetError::TooLarge { .. })), "{large:?}");
    assert_eq!(found(&first, key).await, new);
}

/// What a dishonest node's libp2p would send: a record that its own checks did not see.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_from_a_peer_is_not_kept() {
    use futures::StreamExt;
    use libp2p::kad;
    use libp2p::swarm::SwarmEvent;

    let honest = node(1, &[]).await;
    let target = address(&honest);
    let mut liar = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            libp2p::tcp::Config::default(),
            libp2p::noise::Config::new,
            libp2p::yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|keypair| {
            let local = keypair.public().to_peer_id();
            let config = kad::Config::new(super::super::behaviour::DHT_PROTOCOL);
            let store = kad::store::MemoryStore::new(local);
            kad::Behaviour::with_config(local, store, config)
        })
        .unwrap()
        .build();
    let peer = super::super::identity::peer_id(id(1)).unwrap();
    let (key, mut forged) = group_record(9, 1);
    forged[40] ^= 1;
    let record = kad::Record::new(kad::RecordKey::new(key.digest().as_bytes()), forged);
    liar.behaviour_mut()
        .add_address(&peer, target.address.parse().unwrap());
    liar.behaviour_mut()
        .put_record_to(record, std::iter::once(peer), kad::Quorum::One);
    let sent = async {
        loop {
            if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { step, .. }) =
                liar.select_next_some().await
                && step.last
            {
                return;
            }
        }
    };
    RealRuntime::current().timeout(LIMIT, sent).await.unwrap();
    assert_eq!(honest.find(key).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_records_and_peers() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.state_dir = Some(folder.path().join("net"));
    let first = start(config.clone()).await;
    let second = node(2, &[&first]).await;
    let _serving = serve(&second);
    let (key, value) = group_record(4, 2);
    found(&second, RecordKey::Node(id(1))).await;
    found(&first, RecordKey::Node(id(2))).await;
    second.publish(key, value.clone()).await.unwrap();
    first.add_peer(second.record()).await.unwrap();
    first.shutdown().await;
    assert_eq!(first.find(key).await, Err(NetError::Closed));
    assert!(first.accept().await.is_none());
    assert!(first.next_request().await.is_none());
    drop(first);
    second.shutdown().await;

    let again = start(config).await;
    assert_eq!(again.find(key).await, Ok(Some(value)));
    // Known, though its node is gone.
    let refused = again.connect(id(2), LIMIT).await;
    assert!(
        matches!(refused, Err(NetError::Unreachable { .. })),
        "{refused:?}"
    );
}

/// Node 1 and the client have no address that the other could dial: a relay stands between.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_an_address_is_reached_through_a_relay() {
    let mut config = RealConfig::loopback(secret(5), DhtMode::Server);
    config.relay_server = crate::RelayServer::DEFAULT;
    // A relay hands its external addresses out with a reservation.
    let port = std::net::TcpListener::bind((own_loopback(3), 0)).unwrap();
    let at = port.local_addr().unwrap();
    let relay_address = format!("/ip4/{}/tcp/{}", at.ip(), at.port());
    drop(port);
    config.listen = vec![relay_address.clone()];
    config.announce = vec![relay_address];
    let relay = start(config).await;

    let mut config = RealConfig::new(secret(1), DhtMode::Server);
    config.bootstrap = vec![address(&relay)];
    config.relays = vec![address(&relay)];
    let hidden = start(config).await;
    let _echo = echo(&hidden);
    let _serving = serve(&hidden);

    let mut config = RealConfig::new(secret(2), DhtMode::Client);
    config.bootstrap = vec![address(&relay)];
    let client = start(config).await;
    let record = found(&client, RecordKey::Node(id(1))).await;
    let record = Signed::<NodeRecord>::decode(&record).unwrap();
    let control = &record.unverified().control;
    assert!(
        control.iter().all(|a| a.as_str().contains("p2p-circuit")),
        "{control:?}"
    );
    let answer = client.request(id(1), b"abc".to_vec(), LIMIT).await;
    assert_eq!(answer, Ok(b"cba".to_vec()));
    let mut conn = connect(&client, id(1)).await;
    put_and_get(&mut conn).await;
}
