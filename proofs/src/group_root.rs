//! The group root: a Merkle tree over the n slot roots of a group.
//!
//! ```text
//! root  = H("group root", n u8 | top)       n = 1 to 128
//! inner = H("group inner", left | right)    a leaf is a slot root itself
//! ```
//!
//! As in `docs/protocol/proofs.md`, section "Group root".
//!
//! The shape is that of the slot tree: the largest power of two below the count on the left. Slot
//! roots and inner nodes are made in different domains, so neither can stand for the other.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
mod tests;

use cairn_core::bounded::Bounded;
use cairn_core::code::SLOTS_MAX;
use cairn_core::{Digest, GroupRoot, SlotIndex, SlotRoot};

use crate::domain;

/// Longest path of a slot: levels of a tree over [`SLOTS_MAX`] roots.
pub const GROUP_PATH_MAX: usize = 7;

const _: () = assert!(1 << GROUP_PATH_MAX == SLOTS_MAX);

/// Siblings from a slot root up to the top, the lowest first.
pub type GroupPath = Bounded<Digest, GROUP_PATH_MAX>;

/// Why there is no such root, or why a path does not lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRootError {
    /// A group has 1 to [`SLOTS_MAX`] slots.
    #[error("expected 1 to {SLOTS_MAX} slots, found {found}")]
    SlotCount {
        /// Slots found.
        found: usize,
    },
    /// No such slot.
    #[error("expected a slot below {count}, found {slot}")]
    NoSlot {
        /// The slot asked for.
        slot: SlotIndex,
        /// Slots of the group.
        count: usize,
    },
    /// The path is too short or too long for that slot.
    #[error("slot {slot}: expected a path of {expected} siblings, found {found}")]
    PathLength {
        /// The slot.
        slot: SlotIndex,
        /// Siblings needed.
        expected: usize,
        /// Siblings found.
        found: usize,
    },
    /// The path leads elsewhere.
    #[error("slot {slot}: expected group root {expected}, found {found}")]
    Mismatch {
        /// The slot.
        slot: SlotIndex,
        /// The root that was to be reached.
        expected: GroupRoot,
        /// The root that the path gives.
        found: GroupRoot,
    },
}

/// Root over the slot roots of a group, by slot.
///
/// # Errors
///
/// [`GroupRootError::SlotCount`] for none or more than [`SLOTS_MAX`].
pub fn group_root(slot_roots: &[SlotRoot]) -> Result<GroupRoot, GroupRootError> {
    let count = checked_count(slot_roots.len())?;
    Ok(finish(count, &top(slot_roots)))
}

/// Siblings of `slot`, for [`verify_group_path`].
///
/// # Errors
///
/// [`GroupRootError::SlotCount`], [`GroupRootError::NoSlot`].
///
/// # Panics
///
/// Never: 128 slots make 7 levels.
pub fn group_path(slot_roots: &[SlotRoot], slot: SlotIndex) -> Result<GroupPath, GroupRootError> {
    let count = slot_roots.len();
    checked_count(count)?;
    if slot.index() >= count {
        return Err(GroupRootError::NoSlot { slot, count });
    }
    let mut siblings = Vec::with_capacity(GROUP_PATH_MAX);
    let mut rest = slot_roots;
    for turn in turns(slot.index(), count) {
        let (left, right) = rest.split_at(turn.left);
        let (below, beside) = match turn.side {
            Side::Left => (left, right),
            Side::Right => (right, left),
        };
        siblings.push(top(beside));
        rest = below;
    }
    siblings.reverse();
    Ok(GroupPath::new(siblings).expect("128 slots make 7 levels"))
}

/// That `slot_root` is the root of `slot` in a group of `count` slots under `root`.
///
/// # Errors
///
/// [`GroupRootError`] says why it is not.
pub fn verify_group_path(
    root: GroupRoot,
    count: u8,
    slot: SlotIndex,
    slot_root: SlotRoot,
    path: &[Digest],
) -> Result<(), GroupRootError> {
    let slots = usize::from(count);
    checked_count(slots)?;
    if slot.index() >= slots {
        return Err(GroupRootError::NoSlot { slot, count: slots });
    }
    let turns: Vec<Turn> = turns(slot.index(), slots).collect();
    if turns.len() != path.len() {
        return Err(GroupRootError::PathLength {
            slot,
            expected: turns.len(),
            found: path.len(),
        });
    }
    let mut node = slot_root.digest();
    for (turn, sibling) in turns.iter().rev().zip(path) {
        node = match turn.side {
            Side::Left => inner(&node, sibling),
            Side::Right => inner(sibling, &node),
        };
    }
    let found = finish(count, &node);
    if found != root {
        return Err(GroupRootError::Mismatch {
            slot,
            expected: root,
            found,
        });
    }
    Ok(())
}

/// Which child the way to a slot takes.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// One step from the top down to a slot.
#[derive(Clone, Copy)]
struct Turn {
    side: Side,
    /// Slots below the left child.
    left: usize,
}

/// The steps from the top of a tree of `count` slots down to `index`.
fn turns(index: usize, count: usize) -> impl Iterator<Item = Turn> {
    let (mut index, mut count) = (index, count);
    std::iter::from_fn(move || {
        if count < 2 {
            return None;
        }
        let left = left_slots(count);
        let side = if index < left {
            count = left;
            Side::Left
        } else {
            index = index.saturating_sub(left);
            count = count.saturating_sub(left);
            Side::Right
        };
        Some(Turn { side, left })
    })
}

/// Slots on the left of a tree of `count` > 1 slots.
fn left_slots(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

/// The node over `slot_roots`, at least one.
fn top(slot_roots: &[SlotRoot]) -> Digest {
    match slot_roots {
        [] => Digest::default(),
        [one] => one.digest(),
        many => {
            let (left, right) = many.split_at(left_slots(many.len()));
            inner(&top(left), &top(right))
        }
    }
}

fn inner(left: &Digest, right: &Digest) -> Digest {
    let mut content = [0; 2 * Digest::BYTES];
    let (first, second) = content.split_at_mut(Digest::BYTES);
    first.copy_from_slice(left.as_bytes());
    second.copy_from_slice(right.as_bytes());
    domain::GROUP_INNER.digest(&content)
}

fn finish(count: u8, top: &Digest) -> GroupRoot {
    let mut content = [count; 1 + Digest::BYTES];
    let (_, hash) = content.split_at_mut(1);
    hash.copy_from_slice(top.as_bytes());
    GroupRoot::new(domain::GROUP_ROOT.digest(&content))
}

fn checked_count(found: usize) -> Result<u8, GroupRootError> {
    u8::try_from(found)
        .ok()
        .filter(|count| *count > 0 && found <= SLOTS_MAX)
        .ok_or(GroupRootError::SlotCount { found })
}
