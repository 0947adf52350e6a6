//! Hostile peers: what they do to a node, and what they get out of it.

use std::time::Duration;

use cairn_core::message::{DataRequest, ShardRange, WithRecord};
use cairn_core::{
    Capability, CapabilityLink, ErrorCode, GroupId, NodeId, Record, Right, Scope, SecretKey,
    SegmentNumber, SlotIndex, UnixMillis,
};
use cairn_net::sim::{SimPeer, SimStream};
use cairn_net::{DataConn, DataError, DhtMode, Network, Pace, ShardWanted};
use cairn_runtime::sim::SimRng;
use cairn_runtime::{Runtime, SimRuntime};
use tokio::io::AsyncWriteExt;

use crate::cluster::{World, key_of};

/// How long a hostile peer waits for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A hostile peer on a machine of its own.
#[derive(Debug)]
pub struct Hostile {
    /// Its identity, which is nobody's on the ledger.
    pub id: NodeId,
    runtime: SimRuntime,
    peer: SimPeer,
    rng: SimRng,
}

/// A slot that an adversary is after.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its node.
    pub node: NodeId,
    /// The group.
    pub group: GroupId,
    /// The slot.
    pub slot: SlotIndex,
}

impl Target {
    fn whole_shard(&self) -> ShardWanted {
        ShardWanted {
            group: self.group,
            slot: self.slot,
            segment: SegmentNumber::ZERO,
            range: ShardRange {
                offset: 0,
                bytes: 1_024,
            },
            record: WithRecord::Yes,
        }
    }
}

impl Hostile {
    /// Joins the network.
    #[must_use]
    pub fn join(world: &World, name: &str) -> Self {
        let runtime = world.sim.machine(name).runtime();
        let id = NodeId::new(key_of(name).public());
        Self {
            id,
            peer: world.net.join(&runtime, id, DhtMode::Client),
            rng: world.sim.rng(name),
            runtime,
        }
    }

    fn now(&self) -> UnixMillis {
        UnixMillis::from_unix(self.runtime.now())
    }

    async fn open(&self, node: NodeId) -> Option<SimStream> {
        self.peer.connect(node, LIMIT).await.ok()
    }

    async fn dial(&self, node: NodeId) -> Option<DataConn<SimStream, SimRuntime>> {
        let stream = self.open(node).await?;
        Some(DataConn::new(
            stream,
            node,
            self.runtime.clone(),
            Pace::CLIENT,
        ))
    }
}

/// Sends what is no message: on streams, and as control requests.
#[derive(Clone, Copy, Debug)]
pub struct SendsGarbage {
    /// How many times each.
    pub count: usize,
}

impl SendsGarbage {
    /// Does it.
    pub async fn attack(self, hostile: &mut Hostile, node: NodeId) {
        for _ in 0..self.count {
            let mut garbage = vec![0; hostile.rng.index(300)];
            hostile.rng.fill(&mut garbage);
            if let Some(mut stream) = hostile.open(node).await {
                // The node may have had enough before all is written.
                let _written = stream.write_all(&garbage).await;
                let _ended = stream.shutdown().await;
            }
            let answered = hostile.peer.request(node, garbage, LIMIT).await;
            tracing::debug!(?answered, "garbage is answered");
        }
    }
}

/// Opens streams and leaves them open.
#[derive(Clone, Copy, Debug)]
pub struct HoardsStreams {
    /// How many it tries.
    pub count: usize,
}

impl HoardsStreams {
    /// Does it; the streams that it got.
    pub async fn attack(self, hostile: &Hostile, node: NodeId) -> Vec<SimStream> {
        let mut held = Vec::new();
        for _ in 0..self.count {
            held.extend(hostile.open(node).await);
        }
        held
    }
}

/// Asks for whole shards over and over, with a capability, and reads none.
#[derive(Clone, Copy, Debug)]
pub struct NeverReads {
    /// On how many streams.
    pub streams: usize,
}

impl NeverReads {
    /// Does it; the streams that it holds.
    ///
    /// # Panics
    ///
    /// Does not: its messages are short.
    pub async fn attack(
        self,
        hostile: &Hostile,
        target: Target,
        capability: &Capability,
        shard_bytes: u32,
    ) -> Vec<SimStream> {
        let mut held = Vec::new();
        for _ in 0..self.streams {
            let Some(mut stream) = hostile.open(target.node).await else {
                continue;
            };
            let present = DataRequest::Present(capability.clone());
            let get = DataRequest::Get {
                group: target.group,
                slot: target.slot,
                segment: SegmentNumber::ZERO,
                range: ShardRange {
                    offset: 0,
                    bytes: shard_bytes,
                },
                record: WithRecord::No,
            };
            for request in [present, get.clone(), get.clone(), get] {
                let message = request.encode();
                let length = u32::try_from(message.len()).expect("a short message");
                let sent = [&length.to_le_bytes()[..], &message].concat();
                // The node may have closed its end.
                let _written = stream.write_all(&sent).await;
            }
            held.push(stream);
        }
        held
    }
}

/// Sends a request a byte at a time, to hold a place for ever.
#[derive(Clone, Copy, Debug)]
pub struct SendsSlowly {
    /// On how many streams.
    pub streams: usize,
    /// Pause after each byte.
    pub every: Duration,
}

impl SendsSlowly {
    /// Does it until the node has closed every stream; how long the longest lasted.
    pub async fn attack(self, hostile: &Hostile, node: NodeId) -> Duration {
        let mut streams = Vec::new();
        for _ in 0..self.streams {
            streams.extend(hostile.open(node).await);
        }
        let begun = hostile.runtime.monotonic();
        let mut byte = 0;
        while !streams.is_empty() {
            let mut open = Vec::new();
            for mut stream in streams {
                // A length of 1,024, then zeros.
                let next = if byte == 1 { 4 } else { 0 };
                if stream.write_all(&[next]).await.is_ok() {
                    open.push(stream);
                }
            }
            streams = open;
            byte += 1;
            hostile.runtime.sleep(self.every).await;
        }
        hostile.runtime.monotonic().saturating_sub(begun)
    }
}

/// Presents capabilities that are not good for what it asks: another's, ended ones, too narrow
/// ones, for another group, signed by itself.
#[derive(Clone, Copy, Debug)]
pub struct MisusesCapabilities;

impl MisusesCapabilities {
    /// Does it: what each gave. `owner` is the group owner's key, which signs the stale ones.
    ///
    /// # Panics
    ///
    /// When the node is down, or does not answer with a code.
    pub async fn attack(
        self,
        hostile: &Hostile,
        target: Target,
        owner: &SecretKey,
    ) -> Vec<(&'static str, Result<(), ErrorCode>)> {
        let now = hostile.now();
        let (soon, past) = (
            UnixMillis::new(now.get() + 3_600_000),
            UnixMillis::new(now.get() - 1),
        );
        let own = key_of("nobody in particular");
        let link = CapabilityLink {
            scope: Scope::Group(target.group),
            right: Right::Read,
            holder: hostile.id.key(),
            expires_at: soon,
        };
        let others = CapabilityLink {
            holder: own.public(),
            ..link
        };
        let ended = CapabilityLink {
            expires_at: past,
            ..link
        };
        let elsewhere = CapabilityLink {
            scope: Scope::Group(GroupId::default()),
            ..link
        };
        let cases = [
            ("good", Some(Capability::issue(link, owner))),
            ("none", None),
            ("another's", Some(Capability::issue(others, owner))),
            ("ended", Some(Capability::issue(ended, owner))),
            ("another group's", Some(Capability::issue(elsewhere, owner))),
            ("signed by itself", Some(Capability::issue(link, &own))),
        ];
        let mut outcomes = Vec::new();
        for (name, capability) in cases {
            let got = self.get(hostile, target, capability.as_ref()).await;
            outcomes.push((name, got));
        }
        outcomes
    }

    async fn get(
        self,
        hostile: &Hostile,
        target: Target,
        capability: Option<&Capability>,
    ) -> Result<(), ErrorCode> {
        let mut conn = hostile.dial(target.node).await.expect("the node is up");
        let code = |error: DataError| match error {
            DataError::Remote { code, .. } => code,
            other => panic!("expected the node's refusal, found {other}"),
        };
        if let Some(capability) = capability {
            conn.present(capability).await.map_err(code)?;
        }
        let mut bytes = bytes::BytesMut::new();
        let got = conn.get(&target.whole_shard(), &mut bytes).await;
        got.map(|_| ()).map_err(code)
    }
}
