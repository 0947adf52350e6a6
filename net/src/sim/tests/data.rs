//! The data plane and its pool, unchanged, over the simulated network.

use bytes::BytesMut;
use cairn_core::message::{DataRequest, DataResponse, ShardRange, WithRecord};
use cairn_core::{
    Capability, CapabilityLink, Digest, ErrorCode, GroupId, Retry, Right, Scope, SegmentNumber,
    SlotIndex,
};

use super::*;
use crate::{DataConn, DataError, DataPool, Pace, PoolLimits, ServerConn, ShardWanted};

const SHARD_BYTES: usize = 1 << 20;

fn rights() -> Capability {
    let link = CapabilityLink {
        scope: Scope::Group(GroupId::new(Digest::of(b"group"))),
        right: Right::Read,
        holder: secret(1).public(),
        expires_at: UnixMillis::new(u64::MAX),
    };
    Capability::issue(link, &secret(9))
}

fn wanted() -> ShardWanted {
    ShardWanted {
        group: GroupId::new(Digest::of(b"group")),
        slot: SlotIndex::new(0),
        segment: SegmentNumber::new(0),
        range: ShardRange {
            offset: 0,
            bytes: u32::try_from(SHARD_BYTES).unwrap(),
        },
        record: WithRecord::No,
    }
}

/// Peer 2 serves one and the same shard to whoever presents anything.
fn serve(pair: &Pair) -> Task<()> {
    let (two, runtime) = (pair.two.clone(), pair.runtime(2));
    pair.runtime(2).spawn("serves", async move {
        let mut tasks = Vec::new();
        while let Some((peer, stream)) = two.accept().await {
            let conn = ServerConn::new(stream, peer, runtime.clone(), Pace::SERVER);
            tasks.push(runtime.spawn("serves a stream", serve_stream(conn)));
        }
    })
}

async fn serve_stream(mut conn: ServerConn<SimStream, SimRuntime>) {
    let shard = vec![7; SHARD_BYTES];
    while let Ok(Some(request)) = conn.next().await {
        let done = match request {
            DataRequest::Present(_) => conn.respond(&DataResponse::Done).await,
            DataRequest::Get { .. } => conn.respond_shard(None, 0, &[], &shard).await,
            DataRequest::Put { .. } | DataRequest::Records { .. } | DataRequest::Audit { .. } => {
                conn.respond_error(ErrorCode::Internal, "no").await
            }
        };
        if done.is_err() {
            return;
        }
    }
}

fn pool(pair: &Pair) -> DataPool<SimPeer, SimRuntime> {
    DataPool::new(pair.one.clone(), pair.runtime(1), PoolLimits::DEFAULT)
}

async fn get(pool: &DataPool<SimPeer, SimRuntime>) -> Result<BytesMut, DataError> {
    let mut bytes = BytesMut::new();
    let mut conn = pool.take(id(2), &rights(), LIMIT).await?;
    conn.get(&wanted(), &mut bytes).await?;
    Ok(bytes)
}

#[test]
fn a_shard_costs_a_round_trip_and_little_more_than_its_bytes() {
    with_pair(1, async |pair| {
        let _serves = serve(&pair);
        pair.net.set_link(Link {
            jitter: Duration::ZERO,
            ..Link::DEFAULT
        });
        let pool = pool(&pair);
        assert_eq!(get(&pool).await.unwrap(), vec![7; SHARD_BYTES]);
        assert_eq!(pair.net.sent_by(id(1)).turns, 2);
        let before = (pair.net.sent().stream_bytes, pair.sim.elapsed());
        assert_eq!(get(&pool).await.unwrap().len(), SHARD_BYTES);
        assert_eq!(pair.net.sent_by(id(1)).turns, 3);
        let bytes = pair.net.sent().stream_bytes - before.0;
        let shard_bytes = u64::try_from(SHARD_BYTES).unwrap();
        assert!((shard_bytes..shard_bytes + 256).contains(&bytes), "{bytes}");
        // There and back; the window lets the answer through in five goes.
        let took = pair.sim.elapsed() - before.1;
        assert!(took <= Duration::from_millis(20 + 4 * 10), "{took:?}");
    });
}

#[test]
fn a_peer_that_stalls_is_given_up_and_the_next_stream_is_fresh() {
    with_pair(1, async |pair| {
        let _serves = serve(&pair);
        let pool = pool(&pair);
        pair.net.set_tamper(|passing| match passing {
            Passing::Part { from, offset, .. } if *from == id(2) && *offset > 100_000 => {
                Tamper::Stall
            }
            _ => Tamper::Pass,
        });
        let before = pair.sim.elapsed();
        let error = get(&pool).await.unwrap_err();
        assert!(matches!(error, DataError::Stalled { .. }), "{error}");
        let most = Pace::CLIENT.stall + Duration::from_secs(90);
        assert!(pair.sim.elapsed() - before < most);
        pair.net.clear_tamper();
        assert_eq!(get(&pool).await.unwrap().len(), SHARD_BYTES);
    });
}

#[test]
fn a_peer_that_crashes_is_an_error_to_go_elsewhere() {
    with_pair(1, async |pair| {
        let _serves = serve(&pair);
        pair.net.set_link(Link {
            bytes_per_second: NonZeroU64::new(1 << 20),
            ..Link::DEFAULT
        });
        let pool = pool(&pair);
        let gets = pair.runtime(1).spawn("gets", {
            let pool = pool.clone();
            async move { get(&pool).await.unwrap_err().retry() }
        });
        pair.sim.sleep(Duration::from_millis(500)).await;
        assert!(!gets.is_finished());
        pair.sim.machine("machine 2").crash();
        assert_eq!(gets.join().await, Ok(Retry::Elsewhere));
        assert_eq!(get(&pool).await.unwrap_err().retry(), Retry::Elsewhere);
    });
}

#[test]
fn a_stream_outside_the_pool_works_as_well() {
    with_pair(1, async |pair| {
        let _serves = serve(&pair);
        let stream = pair.one.connect(id(2), LIMIT).await.unwrap();
        let mut conn = DataConn::new(stream, id(2), pair.runtime(1), Pace::CLIENT);
        conn.present(&rights()).await.unwrap();
        conn.close().await.unwrap();
    });
}
