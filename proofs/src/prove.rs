//! Making proofs from a node's slot trees and shards.

use cairn_core::message::ShardRange;
use cairn_core::{Bounded, GroupId, SegmentNumber, SlotIndex, SlotRoot};

use crate::challenge::{AcknowledgedSlot, Challenge, SampledSlot};
use crate::group_root::{GroupRootError, group_path, verify_group_path};
use crate::proof::{Block, BlockProof, Proof, SegmentProof, SlotProof, block_at};
use crate::slice::{
    Outboard, RangeError, RangeProveError, prove_range, verify_range, widen_to_spans,
};
use crate::slot_tree::{Leaf, SlotTree, SlotTreeError, as_index};

/// What a node keeps, as far as proving needs it.
pub trait ProofSource {
    /// Why something could not be read.
    type Error;

    /// The n slot roots of the group at the slot's revision.
    ///
    /// # Errors
    ///
    /// When the node does not have them.
    fn slot_roots(&self, slot: &AcknowledgedSlot) -> Result<Vec<SlotRoot>, Self::Error>;

    /// Gives the slot's tree to `read`. Leaves may have been appended since the revision, but
    /// none emptied.
    ///
    /// # Errors
    ///
    /// When the node does not have it.
    fn with_tree<T>(
        &self,
        slot: &AcknowledgedSlot,
        read: impl FnOnce(&SlotTree) -> T,
    ) -> Result<T, Self::Error>;

    /// The outboard of the shard of `number`, which is longer than a span. One read; once for
    /// each shard that is hit.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn outboard(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        leaf: Leaf,
    ) -> Result<Outboard, Self::Error>;

    /// Bytes of the shard of `number`: at most one span. One read; once for each block.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn read(
        &self,
        slot: &AcknowledgedSlot,
        number: SegmentNumber,
        range: ShardRange,
    ) -> Result<Vec<u8>, Self::Error>;
}

/// Why a node has no proof. It learns so before anyone else does, and may say so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot} of group {group}: {cause}")]
pub struct ProveError<E> {
    /// The group.
    pub group: GroupId,
    /// The slot.
    pub slot: SlotIndex,
    /// What went wrong.
    pub cause: ProveErrorCause<E>,
}

/// What went wrong with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveErrorCause<E> {
    /// The source could not read.
    #[error("{0}")]
    Source(E),
    /// The tree has fewer leaves than the acknowledged revision.
    #[error(transparent)]
    Tree(#[from] SlotTreeError),
    /// The tree or the slot roots are not those of the acknowledged revision.
    #[error(transparent)]
    Group(#[from] GroupRootError),
    /// The sums have no such byte: the tree is not that of the acknowledged revision.
    #[error("the slot tree has no byte {position}")]
    Position {
        /// The sample.
        position: u64,
    },
    /// The outboard is that of a shard of another size.
    #[error(
        "segment {number}: expected the outboard of a shard of {expected} bytes, found one of {found}"
    )]
    Outboard {
        /// The segment.
        number: SegmentNumber,
        /// Bytes of the leaf's shard.
        expected: u32,
        /// Bytes of the outboard's shard.
        found: u32,
    },
    /// The shard or its outboard is damaged.
    #[error("segment {number} is damaged: {cause}")]
    Damaged {
        /// The segment.
        number: SegmentNumber,
        /// What does not fit.
        cause: RangeError,
    },
}

/// Answers `challenge` from what `source` keeps: one read for each shard and one for each block
/// that was hit, so at most 64 for 32 samples.
///
/// The proof is verified as it is made: what is returned holds, whatever the disk gave back.
///
/// # Errors
///
/// [`ProveError`] names the slot, and the segment where a shard is damaged.
pub fn prove<S: ProofSource>(
    challenge: &Challenge,
    source: &S,
) -> Result<Proof, ProveError<S::Error>> {
    let slots = challenge
        .slots()
        .iter()
        .map(|sampled| {
            prove_slot(sampled, source).map_err(|cause| ProveError {
                group: sampled.slot.revision.group,
                slot: sampled.slot.slot,
                cause,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Proof {
        slots: bounded(slots),
    })
}

/// What the slot tree says about the samples.
struct Hits {
    /// Segments that were hit, rising, with the blocks in them, rising.
    segments: Vec<Hit>,
    nodes: Vec<crate::slot_tree::TreeNode>,
    slot_root: SlotRoot,
}

/// A shard that was hit.
struct Hit {
    number: SegmentNumber,
    leaf: Leaf,
    blocks: Vec<ShardRange>,
}

fn prove_slot<S: ProofSource>(
    sampled: &SampledSlot,
    source: &S,
) -> Result<SlotProof, ProveErrorCause<S::Error>> {
    let slot = &sampled.slot;
    let hits = source
        .with_tree(slot, |tree| hits(tree, sampled))
        .map_err(ProveErrorCause::Source)??;
    let slot_roots = source.slot_roots(slot).map_err(ProveErrorCause::Source)?;
    let group_path = group_path(&slot_roots, slot.slot)?;
    verify_group_path(
        slot.revision.group_root,
        slot.slot_count,
        slot.slot,
        hits.slot_root,
        &group_path,
    )?;
    let segments = hits
        .segments
        .into_iter()
        .map(|hit| prove_segment(slot, &hit, source))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(SlotProof {
        group_path,
        nodes: bounded(hits.nodes),
        segments: bounded(segments),
    })
}

/// Finds the samples by the sums.
fn hits<E>(tree: &SlotTree, sampled: &SampledSlot) -> Result<Hits, ProveErrorCause<E>> {
    let view = tree.view_at(sampled.slot.revision.segment_count)?;
    let mut segments: Vec<Hit> = Vec::new();
    for &position in &sampled.positions {
        let nowhere = ProveErrorCause::Position { position };
        let Some(found) = view.locate(position) else {
            return Err(nowhere);
        };
        let block = block_at(found.leaf, found.offset).map_err(|_| nowhere)?;
        match segments.last_mut() {
            Some(hit) if hit.number == found.number => {
                if hit.blocks.last() != Some(&block) {
                    hit.blocks.push(block);
                }
            }
            Some(_) | None => segments.push(Hit {
                number: found.number,
                leaf: found.leaf,
                blocks: vec![block],
            }),
        }
    }
    let numbers: Vec<SegmentNumber> = segments.iter().map(|hit| hit.number).collect();
    Ok(Hits {
        nodes: view.multi_path(&numbers)?.nodes,
        slot_root: view.root(),
        segments,
    })
}

fn prove_segment<S: ProofSource>(
    slot: &AcknowledgedSlot,
    hit: &Hit,
    source: &S,
) -> Result<SegmentProof, ProveErrorCause<S::Error>> {
    // A shard of one span has nothing in its outboard.
    let outboard = match Outboard::from_bytes(hit.leaf.bytes(), &[]) {
        Ok(outboard) => outboard,
        Err(_) => source
            .outboard(slot, hit.number, hit.leaf)
            .map_err(ProveErrorCause::Source)?,
    };
    let blocks = hit
        .blocks
        .iter()
        .map(|block| {
            let span = widen_to_spans(hit.leaf.bytes(), *block).map_err(|cause| {
                ProveErrorCause::Damaged {
                    number: hit.number,
                    cause,
                }
            })?;
            let bytes = source
                .read(slot, hit.number, span)
                .map_err(ProveErrorCause::Source)?;
            prove_block(hit, *block, (span, &bytes), &outboard)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(SegmentProof {
        number: hit.number,
        leaf: hit.leaf,
        blocks: bounded(blocks),
    })
}

/// The proof of `block` from the span around it.
fn prove_block<E>(
    hit: &Hit,
    block: ShardRange,
    (span, bytes): (ShardRange, &[u8]),
    outboard: &Outboard,
) -> Result<BlockProof, ProveErrorCause<E>> {
    let number = hit.number;
    let damaged = |cause| ProveErrorCause::Damaged { number, cause };
    let short = RangeError::Length {
        expected: span.bytes,
        found: bytes.len(),
    };
    let proof =
        prove_range(hit.leaf.bytes(), block, outboard, |_| Ok::<_, E>(bytes)).map_err(|error| {
            match error {
                RangeProveError::Range(cause) => damaged(cause),
                RangeProveError::Outboard { expected, found } => ProveErrorCause::Outboard {
                    number,
                    expected,
                    found,
                },
                RangeProveError::Length { .. } => damaged(short),
                RangeProveError::Read(error) => ProveErrorCause::Source(error),
            }
        })?;
    let start = as_index(block.offset - span.offset);
    let content = bytes
        .get(start..start + as_index(block.bytes))
        .ok_or_else(|| damaged(short))?;
    let root = hit.leaf.shard_root().unwrap_or_default();
    verify_range(root, hit.leaf.bytes(), block, content, proof.as_bytes()).map_err(damaged)?;
    Ok(BlockProof {
        block: Block::new(content.to_vec()).expect("a block has 1 to 1,024 bytes"),
        siblings: bounded(proof.siblings().to_vec()),
    })
}

/// A list that is as long as the samples allow at most.
///
/// # Panics
///
/// Never: challenges have at most 256 samples, and each list follows from that.
fn bounded<T, const MAX: usize>(values: Vec<T>) -> Bounded<T, MAX> {
    Bounded::new(values).expect("a challenge has at most 256 samples")
}
