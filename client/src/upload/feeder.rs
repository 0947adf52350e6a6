//! The front of an upload, one segment after the other: memory, read, compare, number.

use std::sync::Arc;

use cairn_core::{Bounded, GroupId, SegmentNumber};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;
use tokio::sync::watch;

use crate::book::FinishedSegment;
use crate::cipher::Salt;
use crate::index::{GROUPS_MAX, SEGMENTS_MAX, SegmentRef};
use crate::key::ContentKey;
use crate::link::IndexExtent;
use crate::owner::OwnerShared;
use crate::owner::writer::{UnderWay, Writer};
use crate::segment::{Layout, SegmentFill, SegmentPlace};
use crate::upload::index_end::{self, Groups};
use crate::upload::resume::Remembered;
use crate::upload::source::{Filled, Flow, Source};
use crate::upload::{SealError, UploadError};

/// A segment that is read and numbered.
pub(super) struct ReadySegment<R: Runtime> {
    pub(super) fill: SegmentFill,
    pub(super) place: SegmentPlace,
    pub(super) under_way: UnderWay<R::Disk>,
    /// Where its plaintext starts in the stream.
    pub(super) position: u64,
    /// Bytes of the source in it; the rest is index.
    pub(super) content_bytes: u64,
}

/// Whether there is a reason to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Yes.
    GoesOn,
    /// Something went wrong: waits for memory and for the source end.
    Stopped,
}

/// Waits for the end of reading.
async fn stopped(reading: &mut watch::Receiver<Reading>) {
    let is_over = |reading: &Reading| *reading == Reading::Stopped;
    // A sender that is gone wants no more either.
    drop(reading.wait_for(is_over).await);
}

/// What came next.
pub(super) enum Fed<R: Runtime> {
    /// A segment to be put.
    Segment(Box<ReadySegment<R>>),
    /// A segment of so many bytes that an earlier attempt finished.
    Kept(u64),
    /// Nothing: all is read, or reading was stopped.
    End,
}

enum Stage<S> {
    /// The source, until it ends.
    Content(S),
    /// The index, from this byte on.
    Index { bytes: Vec<u8>, at: usize },
    /// All is read, or reading failed.
    End,
}

/// Reads a source into numbered segments, and the index after it.
pub(super) struct Feeder<R: Runtime, N: Network, L: Ledger, S> {
    owner: Arc<OwnerShared<R, N, L>>,
    key: ContentKey,
    layout: Layout,
    stage: Stage<S>,
    reading: watch::Receiver<Reading>,
    position: u64,
    /// The group that is written to.
    writer: Option<Arc<Writer<R::Disk>>>,
    segments: Vec<SegmentRef>,
    index_segments: Vec<SegmentRef>,
    index_offset: u32,
    index_bytes: u64,
    pub(super) groups: Groups,
    pub(super) remembered: Option<Remembered<R::Disk>>,
    /// Segments of an earlier attempt that are not part of this one.
    pub(super) replaced: Vec<(GroupId, SegmentNumber)>,
}

impl<R: Runtime, N: Network, L: Ledger, S: Source> Feeder<R, N, L, S> {
    pub(super) fn new(
        (owner, layout): (&Arc<OwnerShared<R, N, L>>, Layout),
        remembered: Remembered<R::Disk>,
        source: S,
        reading: watch::Receiver<Reading>,
    ) -> Self {
        Self {
            owner: Arc::clone(owner),
            key: owner.keys.content_key(remembered.upload),
            layout,
            stage: Stage::Content(source),
            reading,
            position: 0,
            writer: None,
            segments: Vec::new(),
            index_segments: Vec::new(),
            index_offset: 0,
            index_bytes: 0,
            groups: Groups::default(),
            remembered: Some(remembered),
            replaced: Vec::new(),
        }
    }

    /// Where the index is, once all is read.
    pub(super) fn index_extent(&self) -> Result<IndexExtent, UploadError> {
        let found = self.index_segments.len();
        Ok(IndexExtent {
            segments: Bounded::new(self.index_segments.clone())
                .map_err(|_| UploadError::IndexTooLarge { found })?,
            offset: self.index_offset,
            bytes: self.index_bytes,
        })
    }

    /// The next segment. Once reading is stopped it returns without waiting for others.
    pub(super) async fn next(&mut self) -> Result<Fed<R>, UploadError> {
        let stage = std::mem::replace(&mut self.stage, Stage::End);
        if matches!(stage, Stage::End) {
            return Ok(Fed::End);
        }
        let memory = self.owner.client.memory();
        let buffer = tokio::select! {
            biased;
            () = stopped(&mut self.reading) => return Ok(Fed::End),
            buffer = memory.buffer(self.layout.buffer_bytes()) => buffer?,
        };
        let fill = SegmentFill::new(buffer, &self.layout);
        match stage {
            Stage::Content(source) => self.content(source, fill).await,
            Stage::Index { bytes, at } => self.index(bytes, at, fill).await,
            Stage::End => Ok(Fed::End),
        }
    }

    async fn content(&mut self, source: S, mut fill: SegmentFill) -> Result<Fed<R>, UploadError> {
        let kept = match &mut self.remembered {
            Some(remembered) => remembered.kept.remove(&self.position),
            None => None,
        };
        if let Some((_, segment)) = &kept {
            fill.limit(segment.plain_bytes);
        }
        let Some(filled) = self.read(source, fill).await else {
            return Ok(Fed::End);
        };
        let (mut source, mut fill, mut flow) = (filled.source, filled.fill, filled.outcome?);
        fill.unlimit(&self.layout);
        if let Some(kept) = kept {
            let place = (kept.0, kept.1.number());
            match self.compare(fill, kept).await? {
                Compared::Same(place, bytes) => {
                    self.stage = Stage::Content(source);
                    return self.keep(place, bytes);
                }
                Compared::Other(other) => {
                    fill = *other;
                    self.replaced.push(place);
                }
            }
            if flow == Flow::Full && fill.room_bytes() > 0 {
                let Some(more) = self.read(source, fill).await else {
                    return Ok(Fed::End);
                };
                (source, fill, flow) = (more.source, more.fill, more.outcome?);
            }
        }
        match flow {
            Flow::Full => {
                self.stage = Stage::Content(source);
                let content_bytes = u64::from(fill.plain_bytes());
                let (place, under_way) = self.place().await?;
                let reference = self.reference(&place, fill.plain_bytes())?;
                self.segments.push(reference);
                Ok(self.segment(fill, place, under_way, content_bytes))
            }
            Flow::Ended => self.last_content(source, fill).await,
        }
    }

    /// Reads until the segment is full, the source ends or reading is stopped.
    async fn read(&mut self, source: S, fill: SegmentFill) -> Option<Filled<S>> {
        let runtime = self.owner.client.runtime();
        tokio::select! {
            biased;
            () = stopped(&mut self.reading) => None,
            filled = source.fill(runtime, fill) => Some(filled),
        }
    }

    /// Compares a segment with the one that an earlier attempt put at the same position: encrypted
    /// under its salt, it is the same or it is not.
    async fn compare(
        &mut self,
        mut fill: SegmentFill,
        kept: (GroupId, FinishedSegment),
    ) -> Result<Compared, UploadError> {
        let (group, segment) = kept;
        if fill.plain_bytes() != segment.plain_bytes {
            return Ok(Compared::Other(Box::new(fill)));
        }
        let place = SegmentPlace {
            group,
            number: segment.number(),
            salt: segment.salt,
        };
        let cipher = place.cipher(&self.key);
        let runtime = self.owner.client.runtime();
        runtime
            .blocking(move || {
                fill.seal(&cipher);
                if fill.is_of(segment.record.unverified()) {
                    return Ok(Compared::Same(place, segment.plain_bytes));
                }
                fill.open(&cipher).map_err(SealError::from)?;
                Ok(Compared::Other(Box::new(fill)))
            })
            .await
    }

    fn keep(&mut self, place: SegmentPlace, bytes: u32) -> Result<Fed<R>, UploadError> {
        let kept = self.reference(&place, bytes)?;
        self.segments.push(kept);
        self.position += u64::from(bytes);
        Ok(Fed::Kept(u64::from(bytes)))
    }

    /// The source has ended: the index begins where it did, in the same segment.
    async fn last_content(
        &mut self,
        source: S,
        mut fill: SegmentFill,
    ) -> Result<Fed<R>, UploadError> {
        let content_bytes = fill.plain_bytes();
        let (place, under_way) = self.place().await?;
        let reference = self.reference(&place, content_bytes)?;
        let shared = (content_bytes > 0).then_some(&self.layout);
        if content_bytes > 0 {
            self.segments.push(reference);
        }
        let (kind, entries) = source.entries();
        let bytes = index_end::encode(kind, entries, &self.groups, &self.segments, shared)?;
        self.index_offset = content_bytes;
        self.index_bytes = u64::try_from(bytes.len()).expect("an index is small");
        let at = fill.extend(&bytes);
        self.index_segments.push(SegmentRef {
            plain_bytes: fill.plain_bytes(),
            ..reference
        });
        if at < bytes.len() {
            self.stage = Stage::Index { bytes, at };
        }
        Ok(self.segment(fill, place, under_way, u64::from(content_bytes)))
    }

    async fn index(
        &mut self,
        bytes: Vec<u8>,
        at: usize,
        mut fill: SegmentFill,
    ) -> Result<Fed<R>, UploadError> {
        let (place, under_way) = self.place().await?;
        let at = at + fill.extend(&bytes[at..]);
        let reference = self.reference(&place, fill.plain_bytes())?;
        self.index_segments.push(reference);
        if at < bytes.len() {
            self.stage = Stage::Index { bytes, at };
        }
        Ok(self.segment(fill, place, under_way, 0))
    }

    fn segment(
        &mut self,
        fill: SegmentFill,
        place: SegmentPlace,
        under_way: UnderWay<R::Disk>,
        content_bytes: u64,
    ) -> Fed<R> {
        let position = self.position;
        self.position += u64::from(fill.plain_bytes());
        Fed::Segment(Box::new(ReadySegment {
            fill,
            place,
            under_way,
            position,
            content_bytes,
        }))
    }

    fn reference(
        &mut self,
        place: &SegmentPlace,
        plain_bytes: u32,
    ) -> Result<SegmentRef, UploadError> {
        let group = self.groups.number(place.group);
        let found = self.segments.len() + 1;
        if usize::from(group) >= GROUPS_MAX || found > SEGMENTS_MAX {
            return Err(UploadError::IndexTooLarge {
                found: found.saturating_mul(size_of::<SegmentRef>()),
            });
        }
        Ok(SegmentRef {
            group,
            number: place.number,
            salt: place.salt,
            plain_bytes,
        })
    }

    /// A number for the next segment, in a group with room, and a fresh salt.
    async fn place(&mut self) -> Result<(SegmentPlace, UnderWay<R::Disk>), UploadError> {
        let runtime = self.owner.client.runtime().clone();
        loop {
            let writer = match &self.writer {
                Some(writer) => Arc::clone(writer),
                None => self.owner.writer_with_room().await?,
            };
            let shard_bytes = self.layout.shard_bytes();
            let Some(under_way) = writer.allocate(&runtime, shard_bytes).await? else {
                self.writer = None;
                continue;
            };
            let group = writer.opened.group;
            self.writer = Some(writer);
            self.joins(group).await?;
            let mut salt = [0; 16];
            runtime.fill(&mut salt);
            let place = SegmentPlace {
                group,
                number: under_way.number,
                salt: Salt::new(salt),
            };
            return Ok((place, under_way));
        }
    }

    async fn joins(&mut self, group: GroupId) -> Result<(), UploadError> {
        let Some(mut remembered) = self.remembered.take_if(|kept| !kept.has_joined(group)) else {
            return Ok(());
        };
        let runtime = self.owner.client.runtime();
        let (remembered, joined) = runtime
            .blocking(move || {
                let joined = remembered.joins(group);
                (remembered, joined)
            })
            .await;
        self.remembered = Some(remembered);
        joined
    }
}

/// What a comparison with an earlier attempt gave.
enum Compared {
    /// The same segment, of so many bytes.
    Same(SegmentPlace, u32),
    /// Another; the plaintext is as it was read.
    Other(Box<SegmentFill>),
}
