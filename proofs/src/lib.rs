//! Slot tree, group root, BLAKE3 slices, challenges, proofs and their verification.
//!
//! What a node promised is one root per slot ([`SlotTree`]), all n of a group under one
//! [`group_root()`]. What it is asked is drawn from a seed ([`Challenge`]) by bytes over everything
//! it acknowledged; what it answers is a [`Proof`]: the blocks that were hit, their siblings
//! in the shard's own BLAKE3 tree ([`mod@slice`]), and the way from the shard root up to the group
//! root on the ledger. Proving and verifying are pure functions of their arguments: no clock,
//! disk or socket, and nothing that a peer sends can make them panic or use more memory than
//! the bounds named here. The formats are in `docs/protocol/proofs.md`.
//!
//! Words: a *block* is 1 KiB of a shard, the leaf of its BLAKE3 tree; a *span* is 16 blocks, the
//! unit of the [`Outboard`] that a node keeps beside a shard.

pub mod challenge;
mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod group_root;
pub mod proof;
pub mod prove;
#[cfg(any(test, fuzzing))]
mod sample;
pub mod slice;
pub mod slot_tree;

pub use challenge::{AcknowledgedSlot, Challenge, ChallengeError, Draw, SampledSlot};
pub use group_root::{GroupPath, GroupRootError, group_path, group_root, verify_group_path};
pub use proof::{Proof, ProofError, SlotProofError, verify};
pub use prove::{ProofSource, ProveError, ProveErrorCause, prove};
pub use slice::{
    BLOCK_BYTES, HashedShard, Outboard, OutboardError, RangeError, RangeProof, RangeProveError,
    SPAN_BYTES, ShardHasher, hash_shard, prove_range, verify_range, widen_to_blocks,
    widen_to_spans,
};
pub use slot_tree::{
    Frontier, Leaf, LeafError, Located, MultiPath, Opening, PathError, SlotTree, SlotTreeError,
    SlotView, TreeNode,
};
