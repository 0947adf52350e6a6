//! The pool of streams over a network in memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_core::message::{DataRequest, DataResponse};
use cairn_core::{
    CapabilityLink, Digest, ErrorCode, GroupId, PublicKey, Right, Scope, SecretKey, SegmentNumber,
    UnixMillis,
};
use cairn_runtime::{RealRuntime, Task};
use tokio::io::DuplexStream;

use super::*;
use crate::{InboundRequest, RecordKey, ServerConn};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Peers in memory: each stream is served by a task that accepts every capability but one.
#[derive(Clone, Debug)]
struct InMemory {
    opened: Arc<AtomicUsize>,
    tasks: Arc<Mutex<Vec<Task<()>>>>,
}

impl InMemory {
    fn new() -> Self {
        Self {
            opened: Arc::new(AtomicUsize::new(0)),
            tasks: Arc::new(Mutex::new(Vec::new())),
        }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Ends all streams at the peers' end.
    fn hang_up(&self) {
        self.tasks.lock().unwrap().clear();
    }
}

impl Network for InMemory {
    type Stream = DuplexStream;

    fn local(&self) -> NodeId {
        node(0)
    }

    async fn request(&self, _: NodeId, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, NetError> {
        Err(NetError::Closed)
    }

    async fn next_request(&self) -> Option<InboundRequest> {
        None
    }

    async fn connect(&self, peer: NodeId, _: Duration) -> Result<DuplexStream, NetError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let runtime = RealRuntime::current();
        let (near, far) = tokio::io::duplex(1 << 16);
        let conn = ServerConn::new(far, peer, runtime.clone(), Pace::SERVER);
        let task = runtime.spawn("peer", serve(conn));
        self.tasks.lock().unwrap().push(task);
        Ok(near)
    }

    async fn accept(&self) -> Option<(NodeId, DuplexStream)> {
        None
    }

    async fn publish(&self, _: RecordKey, _: Vec<u8>) -> Result<(), NetError> {
        Err(NetError::Closed)
    }

    async fn find(&self, _: RecordKey) -> Result<Option<Vec<u8>>, NetError> {
        Err(NetError::Closed)
    }

    async fn shutdown(&self) {}
}

async fn serve(mut conn: ServerConn<DuplexStream, RealRuntime>) {
    while let Ok(Some(request)) = conn.next().await {
        let done = match request {
            DataRequest::Present(capability) if capability == rights(99) => {
                conn.respond_error(ErrorCode::NotAuthorised, "no").await
            }
            DataRequest::Present(_) => conn.respond(&DataResponse::Done).await,
            DataRequest::Put { .. }
            | DataRequest::Get { .. }
            | DataRequest::Records { .. }
            | DataRequest::Audit { .. } => conn.respond_error(ErrorCode::Internal, "no").await,
        };
        if done.is_err() {
            return;
        }
    }
}

fn node(number: u8) -> NodeId {
    NodeId::new(PublicKey::from_bytes([number; 32]))
}

fn rights(number: u8) -> Capability {
    let link = CapabilityLink {
        scope: Scope::Group(GroupId::new(Digest::of(&[number]))),
        right: Right::Read,
        holder: PublicKey::from_bytes([1; 32]),
        expires_at: UnixMillis::new(u64::MAX),
    };
    Capability::issue(link, &SecretKey::from_bytes(&[9; 32]))
}

fn pool(limits: PoolLimits) -> (InMemory, DataPool<InMemory, RealRuntime>) {
    let network = InMemory::new();
    let pool = DataPool::new(network.clone(), RealRuntime::current(), limits);
    (network, pool)
}

#[tokio::test]
async fn a_stream_is_reused_for_its_peer_and_capability_only() {
    let (network, pool) = pool(PoolLimits::DEFAULT);
    drop(pool.take(node(1), &rights(1), LIMIT).await.unwrap());
    drop(pool.take(node(1), &rights(1), LIMIT).await.unwrap());
    assert_eq!(network.opened(), 1);
    drop(pool.take(node(1), &rights(2), LIMIT).await.unwrap());
    assert_eq!(network.opened(), 2);
    drop(pool.take(node(2), &rights(1), LIMIT).await.unwrap());
    assert_eq!(network.opened(), 3);
    assert_eq!(pool.idle_count(), 3);
    pool.forget(node(1));
    assert_eq!(pool.idle_count(), 1);
}

#[tokio::test]
async fn a_stream_that_the_peer_ended_is_not_handed_out() {
    let (network, pool) = pool(PoolLimits::DEFAULT);
    drop(pool.take(node(1), &rights(1), LIMIT).await.unwrap());
    network.hang_up();
    tokio::task::yield_now().await;
    drop(pool.take(node(1), &rights(1), LIMIT).await.unwrap());
    assert_eq!(network.opened(), 2);
    assert_eq!(pool.idle_count(), 1);
}

#[tokio::test]
async fn a_stream_out_of_step_is_not_kept() {
    let (_, pool) = pool(PoolLimits::DEFAULT);
    let mut taken = pool.take(node(1), &rights(1), LIMIT).await.unwrap();
    let group = GroupId::new(Digest::of(b"g"));
    let failed = taken.records(group, SegmentNumber::ZERO, 1).await;
    assert!(failed.is_err());
    drop(taken);
    assert_eq!(pool.idle_count(), 0);
}

#[tokio::test]
async fn a_refused_capability_is_the_callers_error() {
    let (_, pool) = pool(PoolLimits::DEFAULT);
    let refused = pool.take(node(1), &rights(99), LIMIT).await;
    let not_authorised = matches!(
        refused,
        Err(DataError::Remote {
            code: ErrorCode::NotAuthorised,
            ..
        })
    );
    assert!(not_authorised);
    assert_eq!(pool.idle_count(), 0);
}

#[tokio::test]
async fn callers_wait_at_the_bounds() {
    let limits = PoolLimits {
        peer_streams_max: 2,
        streams_max: 3,
        ..PoolLimits::DEFAULT
    };
    let (network, pool) = pool(limits);
    let first = pool.take(node(1), &rights(1), LIMIT).await.unwrap();
    let _second = pool.take(node(1), &rights(1), LIMIT).await.unwrap();
    let soon = Duration::from_millis(30);
    let third = pool.take(node(1), &rights(1), soon).await;
    let timeout = NetError::Timeout {
        peer: node(1),
        limit: soon,
    };
    assert_eq!(
        third.err(),
        Some(DataError::Net(timeout)),
        "bound of a peer"
    );
    let _other = pool.take(node(2), &rights(1), LIMIT).await.unwrap();
    let another = pool.take(node(3), &rights(1), soon).await;
    assert!(another.is_err(), "bound of all");
    let capability = rights(1);
    let waiting = pool.take(node(1), &capability, LIMIT);
    let giving = async {
        tokio::task::yield_now().await;
        drop(first);
    };
    let (taken, ()) = tokio::join!(waiting, giving);
    assert!(taken.is_ok());
    assert_eq!(network.opened(), 3);
}

#[tokio::test]
async fn idle_streams_are_bounded_and_expire() {
    let limits = PoolLimits {
        idle_streams_max: 2,
        pace: Pace {
            idle: Duration::from_millis(40),
            ..Pace::CLIENT
        },
        ..PoolLimits::DEFAULT
    };
    let (network, pool) = pool(limits);
    for number in 1..=4 {
        drop(pool.take(node(number), &rights(1), LIMIT).await.unwrap());
    }
    assert_eq!(pool.idle_count(), 2);
    RealRuntime::current()
        .sleep(Duration::from_millis(60))
        .await;
    drop(pool.take(node(4), &rights(1), LIMIT).await.unwrap());
    assert_eq!(network.opened(), 5, "the idle one had expired");
    assert_eq!(pool.idle_count(), 1);
}

#[tokio::test]
async fn a_dropped_wait_gives_its_place_back() {
    let limits = PoolLimits {
        peer_streams_max: 1,
        ..PoolLimits::DEFAULT
    };
    let (_, pool) = pool(limits);
    let held = pool.take(node(1), &rights(1), LIMIT).await.unwrap();
    for _ in 0..10 {
        let soon = Duration::from_millis(1);
        assert!(pool.take(node(1), &rights(1), soon).await.is_err());
    }
    drop(held);
    drop(pool.take(node(1), &rights(1), LIMIT).await.unwrap());
    assert!(pool.shared.peers().by_id.is_empty());
}
