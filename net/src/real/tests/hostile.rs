//! Peers that break the rules, over real networks.

use std::net::SocketAddr;

use cairn_core::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::{DataError, DataPool, PoolLimits, RealLimits};

/// A server with these limits, and its data address.
async fn limited(limits: RealLimits) -> (RealNetwork, SocketAddr) {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.limits = limits;
    let server = start(config).await;
    let address = server.data_address().unwrap();
    (server, address)
}

async fn client_of(server: &RealNetwork, number: u8) -> RealNetwork {
    let client = start(RealConfig::new(secret(number), DhtMode::Client)).await;
    client.add_peer(server.record()).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_tls_port_bothers_nobody() {
    let (server, address) = limited(RealLimits::DEFAULT).await;
    let _serving = serve(&server);
    let mut garbage = Vec::new();
    for number in 0..20_u8 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        // The server may have closed on us already.
        let _sent = tcp.write_all(&vec![number; 9_000]).await;
        garbage.push(tcp);
    }
    let client = client_of(&server, 2).await;
    put_and_get(&mut connect(&client, id(1)).await).await;
    for mut tcp in garbage {
        let mut rest = Vec::new();
        // Closed, in order or with a reset.
        let _ended = tcp.read_to_end(&mut rest).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_end() {
    let limits = RealLimits {
        handshakes_max: 4,
        handshake_time_max: Duration::from_millis(300),
        ..RealLimits::DEFAULT
    };
    let (server, address) = limited(limits).await;
    let _serving = serve(&server);
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for mut tcp in silent {
        let mut byte = [0; 1];
        let read = RealRuntime::current()
            .timeout(LIMIT, tcp.read(&mut byte))
            .await;
        // The end of the stream or a reset: not a wait without end.
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    }
    let client = client_of(&server, 2).await;
    put_and_get(&mut connect(&client, id(1)).await).await;
}

/// Whether a fresh stream is answered.
async fn is_served(client: &RealNetwork) -> bool {
    let Ok(stream) = client.connect(id(1), LIMIT).await else {
        return false;
    };
    let mut conn = DataConn::new(stream, id(1), RealRuntime::current(), Pace::CLIENT);
    conn.present(&capability(&secret(2))).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_peer_is_refused_and_another_served() {
    for data in [true, false] {
        let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
        config.limits.peer_streams_max = 3;
        if !data {
            config.data_listen = None;
        }
        let server = start(config).await;
        let _serving = serve(&server);
        let greedy = client_of(&server, 2).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut conn = connect(&greedy, id(1)).await;
            conn.present(&capability(&secret(2))).await.unwrap();
            held.push(conn);
        }
        for _ in 0..50 {
            match greedy.connect(id(1), LIMIT).await {
                Ok(stream) => {
                    assert!(data, "over libp2p the opener learns it");
                    let runtime = RealRuntime::current();
                    let mut conn = DataConn::new(stream, id(1), runtime, Pace::CLIENT);
                    let refused = conn.present(&capability(&secret(2))).await;
                    let busy = matches!(
                        refused,
                        Err(DataError::Remote {
                            code: ErrorCode::Busy,
                            ..
                        })
                    );
                    assert!(busy, "{refused:?}");
                }
                Err(NetError::Unreachable { cause, .. }) => {
                    assert!(cause.contains("limit of streams"), "{cause}");
                }
                Err(other) => panic!("{other}"),
            }
        }
        let modest = client_of(&server, 3).await;
        put_and_get(&mut connect(&modest, id(1)).await).await;
        held.pop();
        // The server gives the place back when it sees the end.
        let runtime = RealRuntime::current();
        let again = async {
            while !is_served(&greedy).await {
                runtime.sleep(Duration::from_millis(20)).await;
            }
        };
        runtime.timeout(LIMIT, again).await.unwrap();
    }
}

/// Streams that one peer opens in the tests of a flood.
const FLOOD: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn i9_ten_thousand_streams_of_one_peer_cost_no_other() {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.data_listen = None;
    let server = start(config).await;
    let _serving = serve(&server);
    let greedy = client_of(&server, 2).await;
    let modest = client_of(&server, 3).await;
    let (mut held, mut refused) = (Vec::new(), 0);
    while held.len() + refused < FLOOD {
        let opening = (0..50).map(|_| greedy.connect(id(1), LIMIT));
        for opened in futures::future::join_all(opening).await {
            match opened {
                Ok(stream) => held.push(stream),
                Err(_) => refused += 1,
            }
        }
        if refused % 1_000 < 50 {
            put_and_get(&mut connect(&modest, id(1)).await).await;
        }
    }
    let most = RealLimits::DEFAULT.peer_streams_max;
    assert!(held.len() <= most, "{} streams are open", held.len());
    put_and_get(&mut connect(&modest, id(1)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_ten_thousand_silent_connections_cost_no_other() {
    let limits = RealLimits {
        handshake_time_max: Duration::from_secs(1),
        ..RealLimits::DEFAULT
    };
    let (server, address) = limited(limits).await;
    let _serving = serve(&server);
    let modest = client_of(&server, 2).await;
    let mut held = std::collections::VecDeque::new();
    for number in 0..FLOOD {
        held.push_back(TcpStream::connect(address).await.unwrap());
        if held.len() > 500 {
            held.pop_front();
        }
        if number % 1_000 == 999 {
            // From the same address it may have to come over libp2p.
            put_and_get(&mut connect(&modest, id(1)).await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_dropped() {
    let (server, _) = limited(RealLimits::DEFAULT).await;
    let client = client_of(&server, 2).await;
    let runtime = RealRuntime::current();
    let mut deaf = client.connect(id(1), LIMIT).await.unwrap();
    let (peer, stream) = server.accept().await.unwrap();
    assert_eq!(peer, id(2));
    let pace = Pace {
        stall: Duration::from_millis(200),
        bytes_per_second_min: 64 << 20,
        ..Pace::SERVER
    };
    let mut conn = ServerConn::new(stream, peer, runtime.clone(), pace);
    let ask = DataRequest::Records {
        group: GroupId::new(Digest::of(b"g")),
        from: SegmentNumber::new(0),
        count: 1,
    };
    let message = ask.encode();
    let length = u32::try_from(message.len()).unwrap().to_le_bytes();
    let serving = async {
        let body = vec![1; 4 << 20];
        loop {
            conn.next().await?;
            conn.respond_shard(None, 0, &[], &body).await?;
        }
    };
    let asking = async {
        for _ in 0..64 {
            deaf.write_all(&length).await.unwrap();
            deaf.write_all(&message).await.unwrap();
            deaf.flush().await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let dropped: Result<(), DataError> = tokio::select! {
        done = runtime.timeout(LIMIT, serving) => done.unwrap(),
        () = asking => unreachable!("it waits for ever"),
    };
    assert!(
        matches!(dropped, Err(DataError::Stalled { .. })),
        "{dropped:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_stream_is_named() {
    let (server, _) = limited(RealLimits::DEFAULT).await;
    let client = client_of(&server, 2).await;
    let mut stream = client.connect(id(1), LIMIT).await.unwrap();
    let (peer, accepted) = server.accept().await.unwrap();
    let mut conn = ServerConn::new(accepted, peer, RealRuntime::current(), Pace::SERVER);
    stream
        .write_all(&[5, 0, 0, 0, 9, 9, 9, 9, 9])
        .await
        .unwrap();
    stream.flush().await.unwrap();
    let refused = conn.next().await;
    assert!(
        matches!(refused, Err(DataError::Malformed { .. })),
        "{refused:?}"
    );
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let code = ErrorCode::Malformed.number().to_le_bytes();
    assert!(answer.windows(2).any(|pair| pair == code));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_reuses_streams_and_survives_a_restart_of_the_peer() {
    let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
    config.data_listen = Some(SocketAddr::new(own_loopback(2), 0));
    let server = start(config.clone()).await;
    config.data_listen = server.data_address();
    let serving = serve(&server);
    let client = client_of(&server, 2).await;
    let runtime = RealRuntime::current();
    let pool = DataPool::new(client.clone(), runtime, PoolLimits::DEFAULT);
    let rights = capability(&secret(2));
    for _ in 0..3 {
        let mut conn = pool.take(id(1), &rights, LIMIT).await.unwrap();
        put_and_get(&mut conn).await;
    }
    assert_eq!(pool.idle_count(), 1);
    server.shutdown().await;
    drop(serving);
    drop(server);

    let server = start(config).await;
    let _serving = serve(&server);
    let mut conn = pool.take(id(1), &rights, LIMIT).await.unwrap();
    put_and_get(&mut conn).await;
}
