//! Where a commit writes: segments that are filled one after the other and put several at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_client::segment_store::{HeadStore, SegmentAt, SegmentStore};
use cairn_runtime::Runtime;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::{Shared, VolumeError};
use crate::key::SegmentId;
use crate::log::{Filling, RunOwner};
use crate::run::{RunRef, SaltBytes};

/// Segments that are put at a time: enough to keep a link busy while the next is filled.
const PUTS_AT_ONCE: usize = 4;

type Put<S> = BoxFuture<'static, Result<(), <S as SegmentStore>::Error>>;

/// The segments of one commit.
pub(super) struct Output<R: Runtime, S: SegmentStore, H: HeadStore> {
    shared: Arc<Shared<R, S, H>>,
    /// The head that they are for.
    born: u64,
    filling: Option<Filling>,
    puts: FuturesUnordered<Put<S>>,
    /// All that were reserved.
    pub(super) segments: Vec<SegmentAt>,
    /// Plaintext of those that are full, and the head that they are for.
    pub(super) filled: BTreeMap<SegmentId, (u32, u64)>,
}

/// The segment has no room for it.
#[derive(Debug)]
pub(super) struct NoRoom;

impl<R: Runtime, S: SegmentStore, H: HeadStore> Output<R, S, H> {
    pub(super) fn new(shared: &Arc<Shared<R, S, H>>, born: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            born,
            filling: None,
            puts: FuturesUnordered::new(),
            segments: Vec::new(),
            filled: BTreeMap::new(),
        }
    }

    /// Sees that a run of so many bytes has room.
    pub(super) async fn make_room(&mut self, bytes: usize) -> Result<(), VolumeError> {
        let has_room = |filling: &Filling| width(filling.room()) >= bytes;
        if self.filling.as_ref().is_some_and(has_room) {
            return Ok(());
        }
        self.roll().await?;
        let found = self.filling.as_ref().map_or(0, Filling::room);
        if width(found) < bytes {
            return Err(VolumeError::Room {
                expected: bytes,
                found,
            });
        }
        Ok(())
    }

    /// Ends the segment and begins another.
    pub(super) async fn roll(&mut self) -> Result<(), VolumeError> {
        self.end_segment().await?;
        let reserved = self.shared.world.segments.reserve().await;
        let reserved = reserved.map_err(VolumeError::store)?;
        self.segments.push(reserved.at);
        let id = self.shared.id_of(reserved.at)?;
        let mut salt = [0; 16];
        self.shared.world.runtime.fill(&mut salt);
        self.filling = Some(Filling::new(reserved, id, SaltBytes(salt)));
        Ok(())
    }

    /// Writes a run into the segment, if it has room.
    pub(super) fn append(&mut self, owner: RunOwner, plain: &[u8]) -> Result<RunRef, NoRoom> {
        let shared = &self.shared;
        let filling = self.filling.as_mut().ok_or(NoRoom)?;
        if width(filling.room()) < plain.len() {
            return Err(NoRoom);
        }
        let compression = shared.config.compression;
        Ok(filling.append(&shared.access.keys, owner, plain, compression))
    }

    /// The segment that is being filled, and bytes of plaintext in it so far.
    pub(super) fn current(&self) -> Option<(SegmentId, u32)> {
        let filling = self.filling.as_ref()?;
        Some((filling.id(), filling.plain_bytes()))
    }

    async fn end_segment(&mut self) -> Result<(), VolumeError> {
        let Some(filling) = self.filling.take() else {
            return Ok(());
        };
        let filled = filling.finish(&self.shared.access.keys);
        self.filled
            .insert(filled.id, (filled.plain_bytes, self.born));
        while self.puts.len() >= PUTS_AT_ONCE {
            self.next_put().await?;
        }
        let segments = self.shared.world.segments.clone();
        self.puts.push(Box::pin(async move {
            segments.put(filled.at, filled.payload).await
        }));
        Ok(())
    }

    async fn next_put(&mut self) -> Result<(), VolumeError> {
        match self.puts.next().await {
            Some(done) => done.map_err(VolumeError::store),
            None => Ok(()),
        }
    }

    /// Ends the last segment and waits until all are durable.
    pub(super) async fn finish(&mut self) -> Result<(), VolumeError> {
        self.end_segment().await?;
        while !self.puts.is_empty() {
            self.next_put().await?;
        }
        Ok(())
    }
}

fn width(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
