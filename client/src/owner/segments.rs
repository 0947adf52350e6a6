//! An owner's groups as a store of segments: what a volume keeps its log in.
//!
//! A segment's number is reserved in the book of a group before it is used, so no name comes twice,
//! whatever crashes; one that is reserved and not put is emptied by a revision. A payload is durable at
//! w receipts; the other puts go on behind.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_core::message::RecordEntry;
use cairn_core::{Blame, GroupId, Retry, SegmentNumber, SegmentRecord, SlotIndex};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::{Runtime, Task};

use crate::book::{BookError, FinishedSegment};
use crate::cipher::Salt;
use crate::group_view::Freshness;
use crate::key::UploadId;
use crate::memory::OverBudget;
use crate::owner::writer::{UnderWay, lock};
use crate::owner::{OpenGroupError, Owner, OwnerShared, ReviseError};
use crate::read::ReadError;
use crate::read::fetch::fetch;
use crate::read::request::SegmentKnown;
use crate::segment::{SegmentPlace, encode_payload, payload_bytes};
use crate::segment_store::{Reserved, SegmentAt, SegmentStore, StoreFailure};
use crate::upload::put::{PutJob, SegmentPut};
use crate::upload::{NotDurable, SealError};
use crate::width::index;

/// Most numbers that are reserved and not put: what one writer has under way, and some more. The oldest is
/// given up.
const RESERVED_MAX: usize = 64;
/// Most segments of which puts go on that they do not need any more. The oldest is left.
const RESTS_MAX: usize = 8;
/// How long such puts may go on.
const REST_LIMIT: Duration = Duration::from_secs(60);
/// A node that is this many puts behind others is left to catch up.
const BEHIND_BY: usize = 8;
/// What a book says of segments that belong to no upload.
const NO_UPLOAD: UploadId = UploadId::new([0; 16]);

/// Why the store of segments did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// There is no group to write to.
    #[error(transparent)]
    Group(#[from] OpenGroupError),
    /// This machine's disk.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The memory budget.
    #[error(transparent)]
    Memory(#[from] OverBudget),
    /// The segment does not encode: our own fault.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Too few nodes took it.
    #[error(transparent)]
    NotDurable(#[from] Box<NotDurable>),
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The groups are not revised.
    #[error(transparent)]
    Revise(#[from] ReviseError),
    /// It was not reserved by this process, or was put already.
    #[error("{at} was not reserved here")]
    NotReserved {
        /// The segment.
        at: SegmentAt,
    },
    /// Its payload is larger than it may be, or empty.
    #[error("{at}: expected a payload of 1 to {max} bytes, found {found}")]
    Payload {
        /// The segment.
        at: SegmentAt,
        /// The most.
        max: u32,
        /// What came.
        found: usize,
    },
    /// Bytes beyond its payload are asked for.
    #[error("{at} has {bytes} bytes, and {}..{} are asked for", range.start, range.end)]
    Range {
        /// The segment.
        at: SegmentAt,
        /// Bytes of its payload.
        bytes: u32,
        /// What was asked for.
        range: Range<u32>,
    },
    /// No node that answers has a record of it.
    #[error("no node that answers has {at}")]
    Unknown {
        /// The segment.
        at: SegmentAt,
    },
}

impl StoreFailure for SegmentError {
    fn retry(&self) -> Retry {
        match self {
            Self::Group(error) => error.retry(),
            Self::Book(error) => error.retry(),
            Self::Read(error) => error.retry(),
            Self::Revise(error) => error.retry(),
            Self::NotDurable(_) | Self::Unknown { .. } => Retry::Later,
            Self::Memory(_)
            | Self::Seal(_)
            | Self::NotReserved { .. }
            | Self::Payload { .. }
            | Self::Range { .. } => Retry::Never,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Group(error) => error.blame(),
            Self::Book(error) => error.blame(),
            Self::Read(error) => error.blame(),
            Self::Revise(error) => error.blame(),
            Self::NotDurable(_) | Self::Unknown { .. } => Blame::World,
            Self::Memory(_) => Blame::Caller,
            Self::Seal(_)
            | Self::NotReserved { .. }
            | Self::Payload { .. }
            | Self::Range { .. } => Blame::Us,
        }
    }
}

/// What is under way in the store.
pub(super) struct Segments<R: Runtime> {
    /// Reserved and not put, the oldest first.
    reserved: VecDeque<UnderWay<R::Disk>>,
    /// Puts that go on.
    rests: VecDeque<Task<()>>,
}

impl<R: Runtime> Default for Segments<R> {
    fn default() -> Self {
        Self {
            reserved: VecDeque::new(),
            rests: VecDeque::new(),
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> SegmentStore for Owner<R, N, L> {
    type Error = SegmentError;

    async fn reserve(&self) -> Result<Reserved, SegmentError> {
        let owner = &self.shared;
        loop {
            let writer = owner.writer_with_room().await?;
            let runtime = owner.client.runtime();
            let allocated = writer
                .allocate(runtime, writer.layout.shard_bytes())
                .await?;
            // Another took the last room: the next group.
            let Some(under_way) = allocated else {
                continue;
            };
            let at = place_of(&under_way);
            let mut segments = lock(&owner.segments);
            segments.reserved.push_back(under_way);
            if segments.reserved.len() > RESERVED_MAX {
                segments.reserved.pop_front();
            }
            return Ok(Reserved {
                at,
                payload_bytes_max: payload_bytes(writer.layout.plain_bytes_max()),
            });
        }
    }

    async fn put(&self, at: SegmentAt, payload: Bytes) -> Result<(), SegmentError> {
        let owner = &self.shared;
        let under_way = owner.take_reserved(at)?;
        let writer = Arc::clone(&under_way.writer);
        let max = payload_bytes(writer.layout.plain_bytes_max());
        if payload.is_empty() || payload.len() > index(max) {
            let found = payload.len();
            return Err(SegmentError::Payload { at, max, found });
        }
        let memory = owner.client.memory();
        let buffer = memory.buffer(writer.layout.buffer_bytes()).await?;
        let coder = owner.client.shared.coder(writer.layout.code());
        let identity = owner.keys.identity().clone();
        let place = SegmentPlace {
            group: at.group,
            number: at.number,
            salt: Salt::new([0; 16]),
        };
        let runtime = owner.client.runtime();
        let sealed = runtime
            .blocking(move || encode_payload((buffer, &payload), &coder, place, &identity))
            .await
            .map_err(SealError::from)?;
        let finished = FinishedSegment {
            upload: NO_UPLOAD,
            position: u64::from(at.number.get()),
            plain_bytes: sealed.plain_bytes,
            salt: sealed.salt,
            record: sealed.record.clone(),
        };
        let mut put = owner
            .start_put(at.group, sealed.record, sealed.shards)
            .await;
        put.until_durable().await.map_err(Box::new)?;
        let known = Arc::new(finished.record.unverified().clone());
        writer
            .with_book(runtime, move |book| book.finish(vec![finished]))
            .await?;
        under_way.finished();
        owner.client.shared.records.put(known);
        owner.let_rest(put);
        Ok(())
    }

    async fn read(&self, at: SegmentAt, range: Range<u32>) -> Result<Bytes, SegmentError> {
        let known = self.shared.known(at).await?;
        let bytes = known.payload_bytes;
        if range.start >= range.end || range.end > bytes {
            return Err(SegmentError::Range { at, bytes, range });
        }
        let client = &self.shared.client.shared;
        let fetched = fetch(client, known, range.start, range.end).await?;
        let skip = index(range.start - fetched.start);
        let count = index(range.end - range.start);
        Ok(client.memory.share(fetched.bytes).slice(skip..skip + count))
    }

    async fn payload_bytes(&self, at: SegmentAt) -> Result<u32, SegmentError> {
        Ok(self.shared.known(at).await?.payload_bytes)
    }

    async fn discard(&self, segments: Vec<SegmentAt>) -> Result<(), SegmentError> {
        let owner = &self.shared;
        let mut groups: Vec<GroupId> = segments.iter().map(|at| at.group).collect();
        groups.sort();
        groups.dedup();
        for group in groups {
            let of_group = segments.iter().filter(|at| at.group == group);
            let numbers: Vec<SegmentNumber> = of_group.map(|at| at.number).collect();
            {
                // A number that is given up before it is put is abandoned by whoever drops it.
                let mut under_way = lock(&owner.segments);
                under_way
                    .reserved
                    .retain(|it| place_of(it).group != group || !numbers.contains(&it.number));
            }
            let writer = owner.writer_of(group).await?;
            let runtime = owner.client.runtime();
            writer
                .with_book(runtime, move |book| {
                    let kept = numbers.into_iter().filter(|number| book.is_kept(*number));
                    let kept: Vec<SegmentNumber> = kept.collect();
                    book.empty(&kept)
                })
                .await?;
        }
        Ok(())
    }

    async fn sync(&self) -> Result<(), SegmentError> {
        Ok(Self::sync(self).await?)
    }
}

fn place_of<D: cairn_runtime::Disk>(under_way: &UnderWay<D>) -> SegmentAt {
    SegmentAt {
        group: under_way.writer.opened.group,
        number: under_way.number,
    }
}

impl<R: Runtime, N: Network, L: Ledger> OwnerShared<R, N, L> {
    fn take_reserved(&self, at: SegmentAt) -> Result<UnderWay<R::Disk>, SegmentError> {
        let mut segments = lock(&self.segments);
        let found = segments.reserved.iter().position(|it| place_of(it) == at);
        let found = found.and_then(|place| segments.reserved.remove(place));
        found.ok_or(SegmentError::NotReserved { at })
    }

    async fn start_put(
        &self,
        group: GroupId,
        record: cairn_core::Signed<SegmentRecord>,
        shards: Vec<Bytes>,
    ) -> SegmentPut<R, N, L> {
        let client = &self.client.shared;
        let account = self.keys.account();
        let nodes = match client.view(group, account, Freshness::Kept).await {
            Ok(view) => view.code.slots().map(|slot| view.node(slot)).collect(),
            // Each put asks again and says what is wrong.
            Err(_) => vec![None; shards.len()],
        };
        let job = PutJob {
            client: Arc::clone(client),
            capability: self.write_capability(group),
            record,
            shards,
            patience: self.config.put_patience,
            behind_by: BEHIND_BY,
        };
        SegmentPut::start(job, nodes)
    }

    /// Lets the puts go on that a durable segment does not need any more.
    fn let_rest(&self, mut put: SegmentPut<R, N, L>) {
        let runtime = self.client.runtime().clone();
        let limited = runtime.clone();
        let task = runtime.spawn("client segment rest", async move {
            // What is not done by then is left to the nodes' catching up.
            let _in_time = limited.timeout(REST_LIMIT, put.rest()).await;
        });
        let mut segments = lock(&self.segments);
        segments.rests.retain(|rest| !rest.is_finished());
        segments.rests.push_back(task);
        if segments.rests.len() > RESTS_MAX {
            segments.rests.pop_front();
        }
    }

    /// What is known of a segment: its record, from this process or from a node that has one.
    async fn known(&self, at: SegmentAt) -> Result<SegmentKnown, SegmentError> {
        let client = &self.client.shared;
        let record = match client.records.get(at.group, at.number) {
            Some(record) => record,
            None => self.find_record(at).await?,
        };
        Ok(SegmentKnown {
            group: at.group,
            number: at.number,
            code: record.code,
            payload_bytes: record.payload_bytes,
            owner: self.keys.account(),
            capability: Arc::new(self.write_capability(at.group)),
        })
    }

    /// Asks the nodes of the group, one after the other, for the segment's record.
    async fn find_record(&self, at: SegmentAt) -> Result<Arc<SegmentRecord>, SegmentError> {
        let client = &self.client.shared;
        let owner = self.keys.account();
        let view = client.view(at.group, owner, Freshness::Kept).await;
        let view = view.map_err(ReadError::from)?;
        let capability = self.write_capability(at.group);
        let limit = client.config.request_limit;
        let now = client.runtime.monotonic();
        let (near, away): (Vec<SlotIndex>, Vec<SlotIndex>) = view.code.slots().partition(|slot| {
            let node = view.node(*slot);
            node.is_some_and(|node| !client.peers.is_away(node, now))
        });
        for slot in near.into_iter().chain(away) {
            let Some(node) = view.node(slot) else {
                continue;
            };
            let asked = async {
                let mut conn = client.pool.take(node, &capability, limit).await?;
                conn.records(at.group, at.number, 1).await
            };
            let Ok(Ok((entries, _))) = client.runtime.timeout(limit, asked).await else {
                client.peers.failed(node, client.runtime.monotonic());
                continue;
            };
            let Some(RecordEntry::Kept(signed)) = entries.first() else {
                continue;
            };
            let Ok(record) = signed.verify_by(owner.key()) else {
                client.peers.lied(node, client.runtime.monotonic());
                continue;
            };
            if record.group == at.group && record.number == at.number {
                let record = Arc::new(record.clone());
                client.records.put(Arc::clone(&record));
                return Ok(record);
            }
        }
        Err(SegmentError::Unknown { at })
    }
}
