//! A lying node in the act of proving: what it is asked to show, and where it might get it from.

use std::collections::BTreeSet;
use std::fmt;

use bytes::BytesMut;
use cairn_coding::Coder;
use cairn_core::message::{ShardRange, WithRecord};
use cairn_core::{
    Bounded, Capability, CapabilityLink, EpochNumber, GroupId, NodeId, Right, Scope, SecretKey,
    SegmentNumber, SlotIndex, UnixMillis,
};
use cairn_ledger::tx::{SlotRef, TxBody};
use cairn_ledger::{Group, Ledger, RemoteLedger, submit_body};
use cairn_net::sim::SimPeer;
use cairn_net::{DataConn, LedgerPeers, Network, Pace, ShardWanted};
use cairn_proofs::proof::{Block, BlockProof, SegmentProof, SlotProof};
use cairn_proofs::slot_tree::open_path;
use cairn_proofs::{Challenge, Proof, SampledSlot, widen_to_blocks};
use cairn_runtime::SimRuntime;

/// How long it waits for a sibling.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// What a lying node is asked to show, and its own ways to the network.
#[derive(Clone)]
pub struct Proving {
    /// The epoch.
    pub epoch: EpochNumber,
    /// What it must show.
    pub challenge: Challenge,
    /// Its key.
    pub key: SecretKey,
    pub(super) peer: SimPeer,
    pub(super) runtime: SimRuntime,
    pub(super) ledger: RemoteLedger<LedgerPeers<SimPeer>>,
}

impl fmt::Debug for Proving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proving")
            .field("node", &self.node())
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// A block that a proof shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The slot.
    pub slot: SlotRef,
    /// The segment.
    pub segment: SegmentNumber,
    /// Where in the shard.
    pub range: ShardRange,
}

/// The blocks that an honest proof shows, in its order.
///
/// # Panics
///
/// When the proof does not answer the challenge.
#[must_use]
pub fn shown(challenge: &Challenge, proof: &Proof) -> Vec<Shown> {
    let slots = challenge.slots().iter().zip(proof.slots.iter());
    slots
        .flat_map(|(sampled, slot)| shown_of(sampled, slot))
        .collect()
}

fn shown_of(sampled: &SampledSlot, proof: &SlotProof) -> Vec<Shown> {
    let revision = sampled.slot.revision;
    let segments = proof.segments.iter();
    let leaves: Vec<_> = segments
        .map(|segment| (segment.number, segment.leaf))
        .collect();
    let opening = open_path(revision.segment_count, &leaves, &proof.nodes);
    let starts = opening.expect("an honest proof's path opens").starts;
    let place = SlotRef {
        group: revision.group,
        slot: sampled.slot.slot,
    };
    let mut shown = Vec::new();
    for (segment, start) in proof.segments.iter().zip(starts) {
        let bytes = segment.leaf.bytes();
        let within = sampled.positions.iter().filter_map(|position| {
            let offset = u32::try_from(position.checked_sub(start)?).ok()?;
            widen_to_blocks(bytes, ShardRange { offset, bytes: 1 }).ok()
        });
        let offsets: BTreeSet<(u32, u32)> =
            within.map(|range| (range.offset, range.bytes)).collect();
        assert_eq!(offsets.len(), segment.blocks.len(), "each block once");
        shown.extend(offsets.into_iter().map(|(offset, bytes)| Shown {
            slot: place,
            segment: segment.number,
            range: ShardRange { offset, bytes },
        }));
    }
    shown
}

/// The proof with other bytes in its blocks: `change` gets the place of each in the proof's order,
/// and its bytes.
///
/// # Panics
///
/// When `change` makes a block empty or longer than a block can be.
#[must_use]
pub fn with_blocks(proof: Proof, mut change: impl FnMut(usize, &mut Vec<u8>)) -> Proof {
    let mut at = 0;
    let mut block = |BlockProof { block, siblings }: BlockProof| {
        let mut bytes = block.as_bytes().to_vec();
        change(at, &mut bytes);
        at += 1;
        let block = Block::new(bytes).expect("1 to 1,024 bytes");
        BlockProof { block, siblings }
    };
    let mut segment = |segment: SegmentProof| SegmentProof {
        blocks: each(segment.blocks, &mut block),
        ..segment
    };
    let slot = |slot: SlotProof| SlotProof {
        segments: each(slot.segments, &mut segment),
        ..slot
    };
    Proof {
        slots: each(proof.slots, slot),
    }
}

fn each<T, const MAX: usize>(
    values: Bounded<T, MAX>,
    change: impl FnMut(T) -> T,
) -> Bounded<T, MAX> {
    let changed = values.into_vec().into_iter().map(change).collect();
    Bounded::new(changed).expect("as many as before")
}

impl Proving {
    /// Who proves.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::new(self.key.public())
    }

    /// The network's time.
    pub async fn sleep(&self, how_long: std::time::Duration) {
        self.runtime.machine().sim().sleep(how_long).await;
    }

    /// Declares the slots that it is asked about lost, so that its siblings help it.
    ///
    /// # Panics
    ///
    /// Does not: a challenge has fewer slots than a transaction.
    pub async fn declare_loss(&self) {
        let slots = self.challenge.slots().iter().map(|sampled| SlotRef {
            group: sampled.slot.revision.group,
            slot: sampled.slot.slot,
        });
        let slots = Bounded::new(slots.collect()).expect("a transaction's worth of slots");
        let body = TxBody::DeclareLoss { slots };
        // One that is declared lost already is as well.
        let _done = submit_body(&self.ledger, &self.key, body).await;
    }

    /// The bytes of a block from the same range of any k siblings; `None` when fewer serve it.
    pub async fn refetch(
        &self,
        wanted: &Shown,
        capability: Option<&Capability>,
    ) -> Option<Vec<u8>> {
        let group = self.ledger.group(wanted.slot.group).await.ok()??;
        let own = self.own_capability(group.id);
        let capability = capability.unwrap_or(&own);
        let mut ranges: Vec<(SlotIndex, BytesMut)> = Vec::new();
        for slot in group.code.slots().filter(|slot| *slot != wanted.slot.slot) {
            if ranges.len() == group.code.data_count() {
                break;
            }
            if let Some(bytes) = self.ask(&group, slot, wanted, capability).await {
                ranges.push((slot, bytes));
            }
        }
        let length = ranges.first()?.1.len();
        let present: Vec<(SlotIndex, &[u8])> = ranges
            .iter()
            .map(|(slot, bytes)| (*slot, &bytes[..]))
            .collect();
        let mut out = [vec![0; length]];
        let coder = Coder::new(group.code);
        let done = coder.reconstruct(&present, &[wanted.slot.slot], &mut out);
        let [bytes] = out;
        done.ok().map(|()| bytes)
    }

    async fn ask(
        &self,
        group: &Group,
        slot: SlotIndex,
        wanted: &Shown,
        capability: &Capability,
    ) -> Option<BytesMut> {
        let node = group.deal(slot)?.node;
        let stream = self.peer.connect(node, LIMIT).await.ok()?;
        let mut conn = DataConn::new(stream, node, self.runtime.clone(), Pace::CLIENT);
        conn.present(capability).await.ok()?;
        let wanted = ShardWanted {
            group: group.id,
            slot,
            segment: wanted.segment,
            range: wanted.range,
            record: WithRecord::No,
        };
        let mut bytes = BytesMut::new();
        let got = conn.get(&wanted, &mut bytes).await;
        got.ok().map(|_| bytes)
    }

    /// What a node that catches up presents: it has no force of its own.
    fn own_capability(&self, group: GroupId) -> Capability {
        let link = CapabilityLink {
            scope: Scope::Group(group),
            right: Right::Read,
            holder: self.key.public(),
            expires_at: UnixMillis::new(u64::MAX),
        };
        Capability::issue(link, &self.key)
    }
}
