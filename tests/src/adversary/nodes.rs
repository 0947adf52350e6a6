//! Nodes that lie about what they keep.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use cairn_core::message::{ControlResponse, RecordEntry};
use cairn_core::{
    Bounded, Digest, Receipt, SecretKey, SegmentNumber, SegmentRecord, Signed, SlotRoot,
};
use cairn_ledger::AuditReport;
use cairn_net::ShardWanted;
use cairn_proofs::Proof;

use super::Flow;
use super::proving::Proving;

/// The proof that a liar sends once it has it; none when it is silent.
pub type Sent<'a> = Pin<Box<dyn Future<Output = Option<Proof>> + Send + 'a>>;

/// What a node is about to serve for a get.
#[derive(Clone, Debug)]
pub struct Served {
    /// The segment's record, when it was asked for.
    pub record: Option<Signed<SegmentRecord>>,
    /// Siblings up to the shard root.
    pub proof: Vec<u8>,
    /// The range's bytes.
    pub bytes: BytesMut,
}

/// What a lying node does to what passes between it and its peers. What it does not change is
/// what an honest node does.
pub trait LyingNode: fmt::Debug + Send + Sync {
    /// What it looks for when asked for a shard.
    fn look_for(&self, wanted: ShardWanted) -> ShardWanted {
        wanted
    }

    /// Changes what it serves.
    fn serve(&self, served: &mut Served, key: &SecretKey) {
        let _honest = (served, key);
    }

    /// Changes a page of segment records that it serves.
    fn list(&self, entries: &mut [RecordEntry], key: &SecretKey) {
        let _honest = (entries, key);
    }

    /// Changes a receipt before it is signed.
    fn receipt(&self, receipt: &mut Receipt) {
        let _honest = receipt;
    }

    /// Changes an answer on the control plane.
    fn answer(&self, response: &mut ControlResponse, key: &SecretKey) {
        let _honest = (response, key);
    }

    /// Whether it keeps the shards for which it gives receipts.
    fn keeps_shards(&self) -> bool {
        true
    }

    /// Whether it has its shard of a segment that the node behind it keeps.
    fn has(&self, segment: SegmentNumber) -> bool {
        let _all = segment;
        true
    }

    /// Whether what it proves or does not prove may be another thing than an honest node would.
    fn lies_in_proofs(&self) -> bool {
        false
    }

    /// Whether it shows what others' audits ask for.
    fn shows_audits(&self) -> bool {
        true
    }

    /// What it says of its audits of others instead of the truth; `None` for the truth.
    fn report(&self) -> Option<AuditReport> {
        None
    }

    /// Whether it acknowledges revisions that it has reached.
    fn acknowledges(&self) -> bool {
        true
    }

    /// What it sends for the proof that an honest node sends. Asked again within an epoch when it
    /// sends none.
    fn prove(&self, proof: Proof, proving: Proving) -> Sent<'_> {
        let _honest = proving;
        Box::pin(std::future::ready(Some(proof)))
    }

    /// How its bytes flow.
    fn flow(&self) -> Flow {
        Flow::Free
    }
}

/// Flips a bit in the middle of what it serves.
#[derive(Clone, Copy, Debug)]
pub struct FlipsBits;

fn flip_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

impl LyingNode for FlipsBits {
    fn serve(&self, served: &mut Served, _: &SecretKey) {
        flip_middle(&mut served.bytes);
    }
}

/// Serves the shard of another segment, with that segment's record.
#[derive(Clone, Copy, Debug)]
pub struct ServesOther;

impl LyingNode for ServesOther {
    fn look_for(&self, wanted: ShardWanted) -> ShardWanted {
        ShardWanted {
            segment: SegmentNumber::new(wanted.segment.get() ^ 1),
            ..wanted
        }
    }
}

/// Serves other bytes, with segment records that it signed itself.
#[derive(Clone, Copy, Debug)]
pub struct ForgesRecords;

impl ForgesRecords {
    fn forge(signed: &mut Signed<SegmentRecord>, key: &SecretKey) {
        *signed = Signed::sign(signed.unverified().clone(), key);
    }
}

impl LyingNode for ForgesRecords {
    fn serve(&self, served: &mut Served, key: &SecretKey) {
        flip_middle(&mut served.bytes);
        if let Some(record) = &mut served.record {
            Self::forge(record, key);
        }
    }

    fn list(&self, entries: &mut [RecordEntry], key: &SecretKey) {
        for entry in entries {
            if let RecordEntry::Kept(record) = entry {
                Self::forge(record, key);
            }
        }
    }
}

/// Tells those who catch up of slot roots that are not the revision's.
#[derive(Clone, Copy, Debug)]
pub struct ForgesDetails;

impl LyingNode for ForgesDetails {
    fn answer(&self, response: &mut ControlResponse, key: &SecretKey) {
        if let ControlResponse::Detail(signed) = response {
            let mut detail = signed.unverified().clone();
            let mut roots = detail.slot_roots.into_vec();
            for root in &mut roots {
                *root = SlotRoot::new(Digest::of(root.as_bytes()));
            }
            detail.slot_roots = Bounded::new(roots).expect("as many as before");
            *signed = Signed::sign(detail, key);
        }
    }
}

/// Ends each stream after a few kilobytes.
#[derive(Clone, Copy, Debug)]
pub struct TruncatesStreams;

impl LyingNode for TruncatesStreams {
    fn flow(&self) -> Flow {
        Flow::CutAfter(12_000)
    }
}

/// Lets bytes leave a few at a time, to hold whoever waits for it.
#[derive(Clone, Copy, Debug)]
pub struct SlowLoris;

impl LyingNode for SlowLoris {
    fn flow(&self) -> Flow {
        Flow::Drip {
            bytes: 16,
            every: Duration::from_secs(3),
        }
    }
}

/// Gives true receipts, keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct DropsAfterReceipt;

impl LyingNode for DropsAfterReceipt {
    fn keeps_shards(&self) -> bool {
        false
    }
}

/// Gives receipts for other shards than it was given.
#[derive(Clone, Copy, Debug)]
pub struct FalseReceipts;

impl LyingNode for FalseReceipts {
    fn receipt(&self, receipt: &mut Receipt) {
        receipt.shard_bytes = receipt.shard_bytes.wrapping_add(1);
    }
}
