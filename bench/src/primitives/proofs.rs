//! Slot trees, shard hashing, ranges and proofs: sizes and CPU time.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, ensure};
use cairn_core::message::ShardRange;
use cairn_core::{
    ByteCount, Digest, EpochNumber, GroupId, GroupRevision, NodeId, PublicKey, Record,
    RevisionNumber, SegmentNumber, ShardRoot, SlotIndex, SlotRoot,
};
use cairn_proofs::{
    AcknowledgedSlot, Challenge, Draw, Frontier, HashedShard, Leaf, Outboard, Proof, ProofSource,
    SPAN_BYTES, ShardHasher, SlotTree, group_root, hash_shard, prove, prove_range, verify,
    verify_range,
};

use super::gigabytes_per_second;
use crate::cpu_time::thread_cpu_time;
use crate::report::Report;

/// Passes of each measurement; their median counts.
const PASSES: usize = 15;
/// How long each pass runs at least.
const PASS: Duration = Duration::from_millis(20);
/// Bytes of the shard that is hashed and proved.
const SHARD_BYTES: u32 = 1 << 20;
/// Leaves of the large slot tree.
const LEAVES: u32 = 1_000_000;
/// Slots and their leaves in each node that is challenged: a million segments in one slot, then
/// full slots of 16 GiB, the last of them with 10^7 shards.
const NODES: [(u16, u32); 3] = [(1, LEAVES), (40, 16_384), (640, 16_384)];

/// Median CPU time of one run of `run`.
fn median_of<T>(mut run: impl FnMut() -> T) -> Duration {
    let start = thread_cpu_time();
    black_box(run());
    let once = thread_cpu_time().saturating_sub(start);
    let ratio = PASS.as_nanos() / once.as_nanos().max(1);
    let runs = u32::try_from(ratio).unwrap_or(u32::MAX).max(1);
    let mut passes = [Duration::ZERO; PASSES];
    for pass in &mut passes {
        let start = thread_cpu_time();
        for _ in 0..runs {
            black_box(run());
        }
        *pass = thread_cpu_time().saturating_sub(start) / runs;
    }
    passes.sort_unstable();
    passes[PASSES / 2]
}

fn micros(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e6)
}

fn leaves(count: u32) -> impl Iterator<Item = Leaf> {
    (0..count).filter_map(|number| {
        let mut root = [0; 32];
        root[..4].copy_from_slice(&number.to_le_bytes());
        Leaf::new(SHARD_BYTES, ShardRoot::new(Digest::new(root))).ok()
    })
}

/// Operations of slot trees with 10^6 leaves.
///
/// # Errors
///
/// If a tree refuses a measurement's own input.
pub fn slot_trees() -> Result<Report> {
    let title = format!("Slot tree of {LEAVES} leaves: microseconds of CPU for each");
    let mut report = Report::new(title, &["operation", "us"]);
    let mut row = |name: &str, time| report.push(vec![name.to_owned(), micros(time)]);
    let list: Vec<Leaf> = leaves(LEAVES).collect();
    row(
        "append, on the way to that many",
        median_of(|| SlotTree::from_leaves(list.iter().copied())) / LEAVES,
    );
    let few = 65_536;
    row(
        "append and root, each time",
        median_of(|| {
            let mut tree = SlotTree::new();
            for leaf in list.iter().take(few) {
                black_box((tree.append(*leaf).is_ok(), tree.root()));
            }
        }) / u32::try_from(few)?,
    );
    row(
        "frontier: append and root, each time",
        median_of(|| {
            let mut frontier = Frontier::new();
            for leaf in list.iter().take(few) {
                black_box((frontier.append(*leaf).is_ok(), frontier.root()));
            }
        }) / u32::try_from(few)?,
    );
    let mut tree = SlotTree::from_leaves(list)?;
    let middle = SegmentNumber::new(LEAVES / 3);
    let position = tree.sum() / 3;
    row("root", median_of(|| tree.root()));
    row("locate a byte", median_of(|| tree.locate(position)));
    row("open one leaf", median_of(|| tree.path(middle)));
    let path = tree.path(middle)?;
    row("verify one leaf", median_of(|| path.open()));
    row("empty one leaf", median_of(|| tree.set_empty(middle)));
    Ok(report)
}

/// Hashing a shard with its outboard, and ranges of it, beside plain BLAKE3.
///
/// # Errors
///
/// If a range is refused.
pub fn ranges() -> Result<Report> {
    let title = "A shard of 1 MiB: GB per CPU-second, and bytes of proof".to_owned();
    let mut report = Report::new(title, &["what", "GB/s", "us", "proof bytes"]);
    let mut shard = vec![0; usize::try_from(SHARD_BYTES)?];
    blake3::Hasher::new().finalize_xof().fill(&mut shard);
    let HashedShard { root, outboard } = hash_shard(&shard)?;
    let mut row = |name: String, bytes: usize, time, proof: &str| {
        let speed = format!("{:.2}", gigabytes_per_second(bytes, time));
        report.push(vec![name, speed, micros(time), proof.to_owned()]);
    };
    let plain = median_of(|| blake3::hash(&shard));
    row("plain BLAKE3".to_owned(), shard.len(), plain, "");
    for piece in [1 << 20, 64 << 10, 16 << 10, 10_000, 4 << 10] {
        let time = median_of(|| {
            ShardHasher::new(SHARD_BYTES).map(|mut hasher| {
                shard.chunks(piece).for_each(|piece| hasher.update(piece));
                hasher.finish()
            })
        });
        let name = format!("root and outboard, pieces of {piece} B");
        row(name, shard.len(), time, "");
    }
    for (offset, bytes) in [(777, 1), (5, 64), (64, 64), (1, 1_023), (0, 1_024)] {
        let range = ShardRange {
            offset: offset << 10,
            bytes: bytes << 10,
        };
        let start = usize::try_from(range.offset)?;
        let content = &shard[start..start + usize::try_from(range.bytes)?];
        let read = |range: ShardRange| {
            let start = usize::try_from(range.offset).unwrap_or_default();
            let end = start + usize::try_from(range.bytes).unwrap_or_default();
            Ok::<_, Infallible>(&shard[start..end])
        };
        let proof = prove_range(SHARD_BYTES, range, &outboard, read)?;
        let proof_bytes = proof.as_bytes().len().to_string();
        let time = median_of(|| prove_range(SHARD_BYTES, range, &outboard, read));
        let name = format!("prove {bytes} KiB at {offset} KiB");
        row(name, content.len(), time, &proof_bytes);
        let found = || verify_range(root, SHARD_BYTES, range, content, proof.as_bytes());
        found()?;
        let time = median_of(found);
        let name = format!("verify {bytes} KiB at {offset} KiB");
        row(name, content.len(), time, &proof_bytes);
        let time = median_of(|| blake3::hash(content));
        row(
            format!("plain BLAKE3 of {bytes} KiB"),
            content.len(),
            time,
            "",
        );
    }
    Ok(report)
}

/// Ids that rise with `number`.
fn group_id(number: u16) -> GroupId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    GroupId::new(Digest::new(id))
}

/// A node whose slots all have the same shards, so that any size fits in memory.
struct Uniform {
    tree: SlotTree,
    slot_roots: Vec<SlotRoot>,
    shard: Vec<u8>,
    outboard: Outboard,
}

impl Uniform {
    fn new(leaves: u32) -> Result<Self> {
        let mut shard = vec![0; usize::try_from(SHARD_BYTES)?];
        blake3::Hasher::new().finalize_xof().fill(&mut shard);
        let hashed = hash_shard(&shard)?;
        let leaf = Leaf::new(SHARD_BYTES, hashed.root)?;
        let tree = SlotTree::from_leaves(std::iter::repeat_n(leaf, usize::try_from(leaves)?))?;
        Ok(Self {
            slot_roots: vec![tree.root(); 40],
            tree,
            shard,
            outboard: hashed.outboard,
        })
    }

    /// One slot in each of `count` groups.
    fn slots(&self, count: u16) -> Result<Vec<AcknowledgedSlot>> {
        let group_root = group_root(&self.slot_roots)?;
        let slots = (0..count)
            .zip((0..40).cycle())
            .map(|(group, slot)| AcknowledgedSlot {
                revision: GroupRevision {
                    group: group_id(group),
                    number: RevisionNumber::new(1),
                    segment_count: self.tree.count(),
                    slot_bytes: ByteCount::new(self.tree.sum()),
                    group_root,
                },
                slot: SlotIndex::new(slot),
                slot_count: 40,
            });
        Ok(slots.collect())
    }
}

impl ProofSource for Uniform {
    type Error = Infallible;

    fn slot_roots(&self, _: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, Infallible> {
        Ok(self.slot_roots.clone())
    }

    fn with_tree<T>(
        &self,
        _: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, Infallible> {
        Ok(read(&self.tree))
    }

    fn outboard(
        &self,
        _: &AcknowledgedSlot,
        _: SegmentNumber,
        _: Leaf,
    ) -> Result<Outboard, Infallible> {
        Ok(self.outboard.clone())
    }

    fn read(
        &self,
        _: &AcknowledgedSlot,
        _: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, Infallible> {
        assert!(range.bytes <= SPAN_BYTES, "one span at most");
        let start = usize::try_from(range.offset).unwrap_or_default();
        let end = start + usize::try_from(range.bytes).unwrap_or_default();
        Ok(self.shard[start..end].to_vec())
    }
}

/// Proofs of nodes of two shapes and several sample counts.
///
/// # Errors
///
/// If an honest proof does not hold.
pub fn proofs() -> Result<Report> {
    let title = "Proofs over shards of 1 MiB; CPU without the reads of the disk".to_owned();
    let columns = [
        "node",
        "samples",
        "proof bytes",
        "prove us",
        "draw us",
        "decode us",
        "verify us",
    ];
    let mut report = Report::new(title, &columns);
    for (count, leaves) in NODES {
        let node = Uniform::new(leaves)?;
        let slots = node.slots(count)?;
        for sample_count in [32, 256] {
            let draw = Draw {
                seed: Digest::of(b"bench"),
                node: NodeId::new(PublicKey::from_bytes([1; 32])),
                epoch: EpochNumber::new(1),
                sample_count,
            };
            let challenge = Challenge::draw(&draw, &slots)?;
            let proof = prove(&challenge, &node)?;
            let encoded = proof.encode();
            ensure!(verify(&challenge, &proof).is_ok(), "an honest proof holds");
            report.push(vec![
                format!("{count} x {leaves} segments"),
                sample_count.to_string(),
                encoded.len().to_string(),
                micros(median_of(|| prove(&challenge, &node))),
                micros(median_of(|| Challenge::draw(&draw, &slots))),
                micros(median_of(|| Proof::decode(&encoded))),
                micros(median_of(|| verify(&challenge, &proof))),
            ]);
        }
    }
    Ok(report)
}
