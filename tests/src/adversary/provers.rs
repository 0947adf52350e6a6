//! Nodes that want pay for bytes that they do not keep.
//!
//! Each runs the real node behind its face: what that would show is what the liar could show if it
//! had kept everything. What it does not have it does not show.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_core::{Capability, EpochNumber, NodeId, SegmentNumber};
use cairn_proofs::Proof;

use super::nodes::{LyingNode, Sent};
use super::proving::{Proving, shown, with_blocks};

/// A block that it does not have.
fn guess(bytes: &mut [u8]) {
    bytes.fill(0);
}

/// Deletes each shard whose segment number has a given rest: one in a hundred, to save a little
/// room, and shows zeros where it is asked for one.
#[derive(Clone, Copy, Debug)]
pub struct DeletesShards {
    /// One in so many.
    pub one_in: u32,
    /// The rest of the numbers of those that go.
    pub rest: u32,
}

impl LyingNode for DeletesShards {
    fn has(&self, segment: SegmentNumber) -> bool {
        segment.get() % self.one_in != self.rest
    }

    fn lies_in_proofs(&self) -> bool {
        true
    }

    fn prove(&self, proof: Proof, proving: Proving) -> Sent<'_> {
        let shown = shown(&proving.challenge, &proof);
        let proof = with_blocks(proof, |at, bytes| {
            if !self.has(shown[at].segment) {
                guess(bytes);
            }
        });
        Box::pin(std::future::ready(Some(proof)))
    }
}

/// How one who keeps only hashes would be served by its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pretext {
    /// It acknowledges no newer revision: who lags behind is helped.
    StaysBehind,
    /// It declares each slot lost once it is asked about it, and acknowledges it again after.
    DeclaresLoss,
}

/// Keeps trees and outboards and no shard: each block that it is asked for it gets from its
/// siblings, if they serve it, and shows zeros if they don't.
#[derive(Debug)]
pub struct KeepsHashesOnly {
    pretext: Pretext,
    capability: Option<Capability>,
    refetched: AtomicU32,
    refused: AtomicU32,
}

impl KeepsHashesOnly {
    /// With a pretext, and what else it may present.
    #[must_use]
    pub const fn new(pretext: Pretext, capability: Option<Capability>) -> Self {
        Self {
            pretext,
            capability,
            refetched: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        }
    }

    /// Blocks that its siblings gave it, and that they did not.
    pub fn counts(&self) -> (u32, u32) {
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        (count(&self.refetched), count(&self.refused))
    }
}

impl LyingNode for KeepsHashesOnly {
    fn has(&self, _: SegmentNumber) -> bool {
        false
    }

    fn lies_in_proofs(&self) -> bool {
        true
    }

    fn acknowledges(&self) -> bool {
        self.pretext != Pretext::StaysBehind
    }

    fn prove(&self, proof: Proof, proving: Proving) -> Sent<'_> {
        Box::pin(async move {
            if self.pretext == Pretext::DeclaresLoss {
                proving.declare_loss().await;
            }
            let mut blocks = Vec::new();
            for wanted in shown(&proving.challenge, &proof) {
                let block = proving.refetch(&wanted, self.capability.as_ref()).await;
                let counter = match &block {
                    Some(_) => &self.refetched,
                    None => &self.refused,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                blocks.push(block);
            }
            Some(with_blocks(proof, |at, bytes| match &blocks[at] {
                Some(block) => bytes.clone_from(block),
                None => guess(bytes),
            }))
        })
    }
}

/// Keeps the first proof that it made, and sends it again in every epoch after.
#[derive(Debug, Default)]
pub struct ReplaysProofs {
    first: Mutex<Option<Proof>>,
}

impl LyingNode for ReplaysProofs {
    fn lies_in_proofs(&self) -> bool {
        true
    }

    fn prove(&self, proof: Proof, _: Proving) -> Sent<'_> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = first.get_or_insert(proof).clone();
        Box::pin(std::future::ready(Some(sent)))
    }
}

/// Two nodes of one operator, of which one keeps its slots: the other sends what the first has
/// shown in the epoch.
#[derive(Debug)]
pub struct ProvesAnothersSlots {
    /// Who keeps its slots.
    keeper: NodeId,
    proofs: Mutex<BTreeMap<EpochNumber, Proof>>,
}

/// How often who has nothing looks for the other's proof, a second apart.
const LOOKS_MAX: u32 = 1_800;

impl ProvesAnothersSlots {
    /// The mask of both; `keeper` is who keeps its slots.
    #[must_use]
    pub const fn new(keeper: NodeId) -> Self {
        Self {
            keeper,
            proofs: Mutex::new(BTreeMap::new()),
        }
    }

    fn proof_of(&self, epoch: EpochNumber) -> Option<Proof> {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.get(&epoch).cloned()
    }
}

impl LyingNode for ProvesAnothersSlots {
    fn lies_in_proofs(&self) -> bool {
        true
    }

    fn prove(&self, proof: Proof, proving: Proving) -> Sent<'_> {
        if proving.node() == self.keeper {
            let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
            proofs.insert(proving.epoch, proof.clone());
            return Box::pin(std::future::ready(Some(proof)));
        }
        Box::pin(async move {
            for _ in 0..LOOKS_MAX {
                if let Some(proof) = self.proof_of(proving.epoch) {
                    return Some(proof);
                }
                proving.sleep(Duration::from_secs(1)).await;
            }
            None
        })
    }
}

/// Acknowledges what it was given, drops it, and is silent when it is asked.
#[derive(Clone, Copy, Debug)]
pub struct AcknowledgesAndDrops;

impl LyingNode for AcknowledgesAndDrops {
    fn has(&self, _: SegmentNumber) -> bool {
        false
    }

    fn lies_in_proofs(&self) -> bool {
        true
    }

    fn prove(&self, _: Proof, _: Proving) -> Sent<'_> {
        Box::pin(std::future::ready(None))
    }
}
