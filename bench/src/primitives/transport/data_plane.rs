//! The data plane between two real networks, over direct TLS and over libp2p streams.

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use cairn_core::message::{DataRequest, DataResponse, ShardRange, WithRecord};
use cairn_core::{
    Bounded, Code, Digest, GroupId, NodeId, Receipt, SecretKey, SegmentNumber, SegmentRecord,
    ShardRoot, Signed, SlotIndex,
};
use cairn_net::real::RealStream;
use cairn_net::{
    DataConn, DataError, DhtMode, Network, Pace, PeerAddress, RealConfig, RealNetwork, ServerConn,
    ShardWanted,
};
use cairn_runtime::{RealRuntime, Runtime, Task};

use super::SHARD_BYTES;

/// One stream between two networks. The far end keeps the last shard in memory.
pub(super) struct DataPlane {
    conn: DataConn<RealStream, RealRuntime>,
    record: Signed<SegmentRecord>,
    wanted: ShardWanted,
    into: BytesMut,
    _near: RealNetwork,
    _far: RealNetwork,
    _serving: Task<Result<(), DataError>>,
}

impl DataPlane {
    /// Over direct TLS.
    pub(super) async fn direct(runtime: &RealRuntime) -> Result<Self> {
        let config = RealConfig::loopback(secret(1), DhtMode::Server);
        Self::between(runtime, config).await
    }

    /// Over a libp2p connection: TCP, Noise, Yamux.
    pub(super) async fn libp2p(runtime: &RealRuntime) -> Result<Self> {
        let mut config = RealConfig::loopback(secret(1), DhtMode::Server);
        config.data_listen = None;
        Self::between(runtime, config).await
    }

    async fn between(runtime: &RealRuntime, config: RealConfig) -> Result<Self> {
        let far = RealNetwork::start(config, runtime.clone()).await?;
        let near = RealConfig::new(secret(2), DhtMode::Client);
        let near = RealNetwork::start(near, runtime.clone()).await?;
        let node = far.local();
        let address = far.listen_addresses();
        let address = address.into_iter().next().context("it listens")?;
        near.add_address(&PeerAddress { node, address }).await?;
        near.add_peer(far.record()).await?;
        let limit = std::time::Duration::from_secs(10);
        let (opened, accepted) = tokio::join!(near.connect(node, limit), far.accept());
        let conn = DataConn::new(opened?, node, runtime.clone(), Pace::CLIENT);
        let (peer, stream) = accepted.context("the far end runs")?;
        let serving = ServerConn::new(stream, peer, runtime.clone(), Pace::SERVER);
        Ok(Self {
            conn,
            record: record()?,
            wanted: wanted()?,
            into: BytesMut::with_capacity(SHARD_BYTES),
            _near: near,
            _far: far,
            _serving: runtime.spawn("serve", serve(serving, node)),
        })
    }

    pub(super) async fn put(&mut self, shard: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            let slot = SlotIndex::new(0);
            self.conn.put(slot, &self.record, shard).await?;
        }
        Ok(())
    }

    pub(super) async fn get(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.conn.get(&self.wanted, &mut self.into).await?;
            anyhow::ensure!(self.into.len() == SHARD_BYTES, "a whole shard");
        }
        Ok(())
    }
}

async fn serve(
    mut conn: ServerConn<RealStream, RealRuntime>,
    node: NodeId,
) -> Result<(), DataError> {
    let kept = super::shard();
    let mut body = BytesMut::with_capacity(SHARD_BYTES);
    // Signed once: signatures are another primitive.
    let receipt = Signed::sign(receipt(node), &secret(1));
    while let Some(request) = conn.next().await? {
        match request {
            DataRequest::Put { .. } => {
                body.clear();
                while conn.read_body(&mut body).await? > 0 {}
                conn.respond(&DataResponse::Receipt(receipt.clone()))
                    .await?;
            }
            DataRequest::Get { .. } => conn.respond_shard(None, 0, &[], &kept).await?,
            DataRequest::Present(_) | DataRequest::Records { .. } | DataRequest::Audit { .. } => {
                conn.respond(&DataResponse::Done).await?;
            }
        }
    }
    Ok(())
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn group() -> GroupId {
    GroupId::new(Digest::of(b"bench"))
}

fn receipt(node: NodeId) -> Receipt {
    Receipt {
        node,
        group: group(),
        slot: SlotIndex::new(0),
        segment: SegmentNumber::ZERO,
        shard_root: ShardRoot::new(Digest::of(b"bench")),
        shard_bytes: 0,
    }
}

/// The record of a segment of the standard code.
fn record() -> Result<Signed<SegmentRecord>> {
    let code = Code::new(20, 40)?;
    let payload_bytes = u32::try_from(SHARD_BYTES * code.data_count())?;
    let roots = vec![ShardRoot::new(Digest::of(b"bench")); code.shard_count()];
    let Ok(shard_roots) = Bounded::new(roots) else {
        bail!("40 roots are within the bound");
    };
    let record = SegmentRecord {
        group: group(),
        number: SegmentNumber::ZERO,
        code,
        payload_bytes,
        shard_roots,
    };
    Ok(Signed::sign(record, &secret(9)))
}

fn wanted() -> Result<ShardWanted> {
    Ok(ShardWanted {
        group: group(),
        slot: SlotIndex::new(0),
        segment: SegmentNumber::ZERO,
        range: ShardRange {
            offset: 0,
            bytes: u32::try_from(SHARD_BYTES)?,
        },
        record: WithRecord::No,
    })
}
