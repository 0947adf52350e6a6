//! What a volume asks of the network: segments under names that are used once.
//!
//! A volume seals its own bytes; here they are opaque payloads. [`crate::Owner`]'s groups keep them on the
//! network; `cairn_volume`'s memory store keeps them for tests.

use std::fmt;
use std::future::Future;
use std::ops::Range;

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use cairn_core::{Blame, GroupId, Retry, SegmentNumber, VolumeId};

/// A segment's name, the same for ever.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct SegmentAt {
    /// The group.
    pub group: GroupId,
    /// Its number in the group.
    pub number: SegmentNumber,
}

impl fmt::Display for SegmentAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} of group {}", self.number, self.group)
    }
}

/// A name for a segment to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The name.
    pub at: SegmentAt,
    /// Most bytes of its payload.
    pub payload_bytes_max: u32,
}

/// Why a store did not do what was asked.
pub trait StoreFailure: std::error::Error + Send + Sync + 'static {
    /// What to do about it.
    fn retry(&self) -> Retry;

    /// Whose fault it is.
    fn blame(&self) -> Blame;
}

/// Keeps segments. Cheap to clone; clones are one store.
pub trait SegmentStore: Clone + fmt::Debug + Send + Sync + 'static {
    /// Why it fails.
    type Error: StoreFailure;

    /// A name that was never given before and never will be again, whatever crashes.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; a name may be lost.
    fn reserve(&self) -> impl Future<Output = Result<Reserved, Self::Error>> + Send;

    /// Keeps a payload, of a byte at least, under a reserved name; returns when it is durable.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; whether the payload is kept is open then, and its name is used up.
    fn put(
        &self,
        at: SegmentAt,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Bytes of a payload, as they were put: all that the range says, or an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    fn read(
        &self,
        at: SegmentAt,
        range: Range<u32>,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// How long a payload is.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    fn payload_bytes(&self, at: SegmentAt)
    -> impl Future<Output = Result<u32, Self::Error>> + Send;

    /// Gives segments up: they may be read until the next [`Self::sync`] and no longer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; some may not be given up.
    fn discard(
        &self,
        segments: Vec<SegmentAt>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Commits to all that was put and discarded: it outlives what a node keeps without that.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; whether it was done is open then.
    fn sync(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Keeps the newest head of each volume, as an opaque record.
pub trait HeadStore: Clone + fmt::Debug + Send + Sync + 'static {
    /// Why it fails.
    type Error: StoreFailure;

    /// Publishes a head; returns when a quorum has it. The number rises with each head of a volume.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; whether it is published is open then.
    fn publish(
        &self,
        volume: VolumeId,
        number: u64,
        head: Bytes,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The newest head of a quorum; `None` when there is none yet.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    fn newest(
        &self,
        volume: VolumeId,
    ) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}
