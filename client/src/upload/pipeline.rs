//! The pipeline of an upload: one loop that starts what can be started and takes in what is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cairn_core::{GroupId, SegmentNumber};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};

use crate::book::FinishedSegment;
use crate::group_view::Freshness;
use crate::key::{ContentKey, UploadId};
use crate::link::Link;
use crate::owner::OwnerShared;
use crate::owner::writer::{Writer, lock};
use crate::segment::Layout;
use crate::upload::feeder::{Fed, Feeder, Reading, ReadySegment};
use crate::upload::put::{PutJob, SegmentPut};
use crate::upload::source::Source;
use crate::upload::step::{Batch, Durable, Ended, Sealed, Step};
use crate::upload::{
    Progress, ReviseAt, SealError, SlotTally, UploadError, UploadOptions, UploadProgress, Uploaded,
    resume,
};

/// Segments that are encrypted, encoded and hashed at a time: enough for two processors, and the
/// network is slower than that.
const SEALING_MAX: usize = 2;
/// How long the puts that a durable segment does not need may go on.
const REST_LIMIT: Duration = Duration::from_secs(60);
/// How long they may go on once every segment is durable.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long reading waits for memory before durable segments give theirs up.
const STARVED_AFTER: Duration = Duration::from_secs(3);
/// Least number of puts that a node may have more than others before it counts as behind.
const BEHIND_MIN: usize = 4;

/// Whether the one step of its kind is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    Idle,
    UnderWay,
}

struct Pipeline<'a, R: Runtime, N: Network, L: Ledger, S, P> {
    owner: &'a Arc<OwnerShared<R, N, L>>,
    upload: UploadId,
    key: ContentKey,
    layout: Layout,
    steps: FuturesUnordered<BoxFuture<'a, Step<R, N, L, S>>>,
    /// Here while it does not read.
    feeder: Option<Box<Feeder<R, N, L, S>>>,
    /// Has it read no more.
    stop: watch::Sender<Reading>,
    has_ended: bool,
    is_watching: bool,
    ending: Activity,
    /// Read and numbered, waiting to be sealed.
    ready: VecDeque<Box<ReadySegment<R>>>,
    sealing_count: usize,
    /// Segments from sealed to in the book.
    open_count: usize,
    /// Each ends the puts beyond w of a durable segment; the oldest first.
    rests: VecDeque<oneshot::Sender<()>>,
    rest_count: usize,
    to_remember: Vec<Ended<R>>,
    remembering: Activity,
    revising: Activity,
    writers: BTreeMap<GroupId, Arc<Writer<R::Disk>>>,
    tally: SlotTally,
    progress: UploadProgress,
    report: P,
    /// The first thing that went wrong. What is under way is brought to its end all the same, so
    /// that the next attempt finds it finished.
    failure: Option<UploadError>,
}

pub(super) async fn upload<R, N, L, S, P>(
    owner: &Arc<OwnerShared<R, N, L>>,
    source: S,
    options: UploadOptions,
    report: P,
) -> Result<Uploaded, UploadError>
where
    R: Runtime,
    N: Network,
    L: Ledger,
    S: Source,
    P: Progress,
{
    let layout = owner.layout().map_err(crate::owner::OpenGroupError::from)?;
    let remembered = resume::begin(owner, options.source, layout.code()).await?;
    let upload = remembered.upload;
    let (stop, reading) = watch::channel(Reading::GoesOn);
    let feeder = Feeder::new((owner, layout), remembered, source, reading);
    let mut pipeline = Pipeline {
        owner,
        upload,
        key: owner.keys.content_key(upload),
        layout,
        steps: FuturesUnordered::new(),
        feeder: Some(Box::new(feeder)),
        stop,
        has_ended: false,
        is_watching: false,
        ending: Activity::Idle,
        ready: VecDeque::new(),
        sealing_count: 0,
        open_count: 0,
        rests: VecDeque::new(),
        rest_count: 0,
        to_remember: Vec::new(),
        remembering: Activity::Idle,
        revising: Activity::Idle,
        writers: BTreeMap::new(),
        tally: SlotTally::default(),
        progress: UploadProgress::default(),
        report,
        failure: None,
    };
    while pipeline.advance().await {}
    match pipeline.failure.take() {
        Some(failure) => Err(failure),
        None => pipeline.finish(options.revise).await,
    }
}

impl<R, N, L, S, P> Pipeline<'_, R, N, L, S, P>
where
    R: Runtime,
    N: Network,
    L: Ledger,
    S: Source,
    P: Progress,
{
    /// Starts what can be started and takes in one step; whether there is more.
    async fn advance(&mut self) -> bool {
        self.start();
        let is_done = self.has_ended
            && self.feeder.is_some()
            && self.ready.is_empty()
            && self.open_count == 0
            && self.rest_count == 0
            && self.revising == Activity::Idle;
        if is_done {
            return false;
        }
        let Some(step) = self.steps.next().await else {
            return false;
        };
        if let Err(error) = self.take(step).await {
            self.fail(error);
        }
        true
    }

    /// Reads no more. What is under way goes on to its end: an attempt that follows finds it
    /// finished, and no put of this one comes after it has returned.
    fn fail(&mut self, error: UploadError) {
        tracing::debug!(%error, "an upload ends early");
        // What was read in whole before the source broke is as good as what was put.
        let is_of_source = matches!(error, UploadError::Source(_));
        self.failure.get_or_insert(error);
        self.has_ended = true;
        self.stop.send_replace(Reading::Stopped);
        if !is_of_source {
            self.open_count -= self.ready.len();
            self.ready.clear();
        }
    }

    async fn take(&mut self, step: Step<R, N, L, S>) -> Result<(), UploadError> {
        match step {
            Step::Fed(feeder, fed) => {
                self.feeder = Some(feeder);
                self.take_fed(fed?);
            }
            Step::Starved => self.take_starved(),
            Step::Over => self.rests.clear(),
            Step::Sealed(sealed) => {
                self.sealing_count -= 1;
                match *sealed {
                    Ok(sealed) => self.put(sealed).await,
                    Err(error) => {
                        self.open_count -= 1;
                        return Err(error);
                    }
                }
            }
            Step::Durable(durable) => match *durable {
                Ok(durable) => self.take_durable(durable),
                Err(error) => {
                    self.open_count -= 1;
                    return Err(error);
                }
            },
            Step::Rest(group, put) => {
                self.rest_count -= 1;
                self.rests.retain(|rest| !rest.is_closed());
                let nodes = put.nodes().to_vec();
                self.tally.add(group, &nodes, &put.end());
            }
            Step::Remembered(batch, result) => self.take_remembered(batch, result)?,
            Step::Revised(revised) => {
                self.revising = Activity::Idle;
                // It is tried again after the next interval, and at the end.
                if let Err(error) = revised {
                    tracing::warn!(%error, "revising while writing failed");
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) {
        while self.sealing_count < SEALING_MAX {
            let Some(next) = self.ready.pop_front() else {
                break;
            };
            self.seal(*next);
        }
        if !self.to_remember.is_empty() && self.remembering == Activity::Idle {
            self.remember();
        }
        self.revise_in_time();
        if self.ready.is_empty()
            && !self.has_ended
            && let Some(mut feeder) = self.feeder.take()
        {
            self.steps.push(Box::pin(async move {
                let fed = feeder.next().await;
                Step::Fed(feeder, fed)
            }));
        }
        let is_durable = self.has_ended && self.open_count == 0;
        if is_durable && self.rest_count > 0 && self.ending == Activity::Idle {
            self.ending = Activity::UnderWay;
            let runtime = self.owner.client.runtime().clone();
            self.steps.push(Box::pin(async move {
                runtime.sleep(END_LIMIT).await;
                Step::Over
            }));
        }
        if self.feeder.is_none() && self.rest_count > 0 && !self.is_watching {
            self.is_watching = true;
            let runtime = self.owner.client.runtime().clone();
            self.steps.push(Box::pin(async move {
                runtime.sleep(STARVED_AFTER).await;
                Step::Starved
            }));
        }
    }

    fn take_fed(&mut self, fed: Fed<R>) {
        match fed {
            // Read after something else went wrong.
            Fed::Segment(_) if self.failure.is_some() => {}
            Fed::Segment(ready) => {
                self.progress.bytes_read += ready.content_bytes;
                let writer = &ready.under_way.writer;
                self.writers
                    .entry(writer.opened.group)
                    .or_insert_with(|| Arc::clone(writer));
                self.open_count += 1;
                self.ready.push_back(ready);
            }
            Fed::Kept(bytes) => {
                self.progress.bytes_read += bytes;
                self.progress.bytes_durable += bytes;
                self.progress.segments_durable += 1;
                self.progress.segments_kept += 1;
            }
            Fed::End => self.has_ended = true,
        }
        self.report.progress(&self.progress);
    }

    /// Reading still waits after a while: when durable segments have most of the memory, the
    /// oldest gives its part up.
    fn take_starved(&mut self) {
        self.is_watching = false;
        let memory = self.owner.client.memory();
        let is_short = memory.bytes_max() - memory.bytes_used() < self.layout.buffer_bytes();
        let held = self.rest_count * self.layout.buffer_bytes();
        if is_short && held > memory.bytes_max() / 2 {
            while let Some(oldest) = self.rests.pop_front() {
                if oldest.send(()).is_ok() {
                    break;
                }
            }
        }
    }

    fn seal(&mut self, ready: ReadySegment<R>) {
        self.sealing_count += 1;
        let coder = self.owner.client.shared.coder(self.layout.code());
        let cipher = ready.place.cipher(&self.key);
        let writer = self.owner.keys.identity().clone();
        let runtime = self.owner.client.runtime().clone();
        self.steps.push(Box::pin(async move {
            let ReadySegment {
                mut fill,
                place,
                under_way,
                position,
                content_bytes,
            } = ready;
            let sealed = runtime
                .blocking(move || {
                    fill.seal(&cipher);
                    fill.finish(&coder, place, &writer)
                })
                .await;
            let sealed = sealed.map(|segment| Sealed {
                segment,
                under_way,
                position,
                content_bytes,
            });
            Step::Sealed(Box::new(sealed.map_err(|e| SealError::from(e).into())))
        }));
    }

    async fn put(&mut self, sealed: Sealed<R>) {
        let client = &self.owner.client.shared;
        let segment = sealed.segment;
        let group = segment.record.unverified().group;
        let account = self.owner.keys.account();
        let nodes = match client.view(group, account, Freshness::Kept).await {
            Ok(view) => view.code.slots().map(|slot| view.node(slot)).collect(),
            // Each put asks again and says what is wrong.
            Err(_) => vec![None; segment.shards.len()],
        };
        let finished = FinishedSegment {
            upload: self.upload,
            position: sealed.position,
            plain_bytes: segment.plain_bytes,
            salt: segment.salt,
            record: segment.record.clone(),
        };
        let job = PutJob {
            client: Arc::clone(client),
            capability: self.owner.write_capability(group),
            record: segment.record,
            shards: segment.shards,
            patience: self.owner.config.put_patience,
            behind_by: self.behind_by(),
        };
        let mut put = SegmentPut::start(job, nodes);
        let ended = Ended {
            finished,
            under_way: sealed.under_way,
            content_bytes: sealed.content_bytes,
        };
        self.steps.push(Box::pin(async move {
            let durable = put.until_durable().await;
            let durable = durable.map(|()| Durable { put, ended });
            Step::Durable(Box::new(durable.map_err(|e| Box::new(e).into())))
        }));
    }

    /// Two fifths of the segments that memory holds: what one slow node may keep from the others.
    fn behind_by(&self) -> usize {
        let segments = self.owner.client.memory().bytes_max() / self.layout.buffer_bytes();
        (segments * 2 / 5).max(BEHIND_MIN)
    }

    /// Lets the puts beyond w go on in the background.
    fn take_durable(&mut self, durable: Durable<R, N, L>) {
        let group = durable.ended.under_way.writer.opened.group;
        self.to_remember.push(durable.ended);
        let (leave, left) = oneshot::channel();
        self.rests.push_back(leave);
        self.rest_count += 1;
        let runtime = self.owner.client.runtime().clone();
        let mut put = durable.put;
        self.steps.push(Box::pin(async move {
            tokio::select! {
                biased;
                () = put.rest() => {}
                _ = left => {}
                () = runtime.sleep(REST_LIMIT) => {}
            }
            Step::Rest(group, Box::new(put))
        }));
    }

    /// Writes what is durable into the books, all that has come up at once.
    fn remember(&mut self) {
        self.remembering = Activity::UnderWay;
        let batch = std::mem::take(&mut self.to_remember);
        let runtime = self.owner.client.runtime().clone();
        self.steps.push(Box::pin(async move {
            let mut done = Batch {
                under_way: Vec::new(),
                content_bytes: 0,
            };
            let mut by_group: BTreeMap<GroupId, Vec<FinishedSegment>> = BTreeMap::new();
            for ended in batch {
                let group = ended.under_way.writer.opened.group;
                by_group.entry(group).or_default().push(ended.finished);
                done.content_bytes += ended.content_bytes;
                done.under_way.push(ended.under_way);
            }
            for (group, segments) in by_group {
                let writer = done
                    .under_way
                    .iter()
                    .map(|under_way| &under_way.writer)
                    .find(|writer| writer.opened.group == group)
                    .cloned()
                    .expect("each of them has its writer");
                let finished = writer
                    .with_book(&runtime, move |book| book.finish(segments))
                    .await;
                if let Err(error) = finished {
                    return Step::Remembered(done, Err(error.into()));
                }
            }
            Step::Remembered(done, Ok(()))
        }));
    }

    fn take_remembered(
        &mut self,
        batch: Batch<R>,
        result: Result<(), UploadError>,
    ) -> Result<(), UploadError> {
        self.remembering = Activity::Idle;
        self.open_count -= batch.under_way.len();
        result?;
        self.progress.bytes_durable += batch.content_bytes;
        for under_way in batch.under_way {
            self.progress.segments_durable += 1;
            under_way.finished();
        }
        self.report.progress(&self.progress);
        Ok(())
    }

    /// Revises the groups written to when the last time is an interval ago.
    fn revise_in_time(&mut self) {
        let now = self.owner.client.runtime().monotonic();
        let interval = self.owner.config.revise_interval;
        let due = |writer: &Arc<Writer<R::Disk>>| {
            now.saturating_sub(*lock(&writer.revised_at)) >= interval
        };
        if self.revising == Activity::UnderWay || self.has_ended {
            return;
        }
        let writers: Vec<_> = self.writers.values().filter(|w| due(w)).cloned().collect();
        if writers.is_empty() {
            return;
        }
        self.revising = Activity::UnderWay;
        let owner = Arc::clone(self.owner);
        self.steps.push(Box::pin(async move {
            let mut first = Ok(());
            for writer in writers {
                // Set first, so that a failure is tried again only after the next interval.
                *lock(&writer.revised_at) = now;
                let done = owner.revise(&writer).await;
                first = first.and(done.map(|_| ()));
            }
            Step::Revised(first)
        }));
    }

    /// Empties what was replaced, revises, and makes the link.
    async fn finish(mut self, revise: ReviseAt) -> Result<Uploaded, UploadError> {
        let mut feeder = self.feeder.take().expect("it is back once all is read");
        let remembered = feeder.remembered.take();
        let mut replaced: BTreeMap<GroupId, Vec<SegmentNumber>> = BTreeMap::new();
        let left_over = remembered
            .iter()
            .flat_map(|remembered| remembered.kept.values())
            .map(|(group, segment)| (*group, segment.number()));
        for (group, number) in feeder.replaced.iter().copied().chain(left_over) {
            replaced.entry(group).or_default().push(number);
        }
        let runtime = self.owner.client.runtime();
        for (group, numbers) in replaced {
            let writer = self.owner.writer_of(group).await?;
            writer
                .with_book(runtime, move |book| book.empty(&numbers))
                .await?;
            self.writers.insert(group, writer);
        }
        if revise == ReviseAt::End {
            for writer in self.writers.values() {
                self.owner.revise(writer).await?;
            }
        }
        let expires_at = self
            .owner
            .client
            .shared
            .now()
            .saturating_add(self.owner.config.link_lifetime);
        let link = Link::issue(
            self.owner.keys.identity(),
            self.key.clone(),
            feeder.groups.list(),
            feeder.index_extent()?,
            expires_at,
        );
        if let Some(remembered) = remembered {
            let disk = runtime.disk().clone();
            runtime.blocking(move || remembered.forget(&disk)).await?;
        }
        self.report.progress(&self.progress);
        let relaxed = self.writers.values().flat_map(|writer| {
            let group = writer.opened.group;
            writer.relaxed.iter().map(move |cap| (group, *cap))
        });
        Ok(Uploaded {
            link,
            progress: self.progress,
            relaxed: relaxed.collect(),
            slots: self.tally.slots.into_values().collect(),
        })
    }
}
