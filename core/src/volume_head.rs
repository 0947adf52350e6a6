//! The head of a volume: a signed, numbered pointer to its newest tree.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::bounded::Bounded;
use crate::id::{FencingNumber, HeadNumber, VolumeId};
use crate::record::{Record, RecordKind};

/// Most bytes of a head's sealed part.
pub const HEAD_SEALED_BYTES_MAX: usize = 256;

/// A volume's head. Signed by the writer. Where the tree is, is sealed: nodes that keep heads learn
/// neither sizes nor keys.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct VolumeHead {
    /// The volume.
    pub volume: VolumeId,
    /// Its number: higher than that of every head before it.
    pub number: HeadNumber,
    /// The number of the lease under which it was written.
    pub fencing: FencingNumber,
    /// Drawn anew for every head.
    pub salt: [u8; 16],
    /// Where the tree is, for those who have the volume's key.
    pub sealed: Bounded<u8, HEAD_SEALED_BYTES_MAX>,
}

impl Record for VolumeHead {
    const KIND: RecordKind = RecordKind::VolumeHead;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512;
}
