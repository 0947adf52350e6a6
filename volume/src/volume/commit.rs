//! The commit: what is in the journal goes into segments, and a head says so.
//!
//! ```text
//! freeze   the tree as it is; changes from here on are noted
//! write    data runs, then changed pages, then the superblock; the frozen tree refers to them
//! publish  the head
//! adopt    the noted changes are made again on the written tree, which is the volume's from here on
//! ```
//!
//! Before the head is published nothing that is in use has changed, so a commit that fails leaves
//! all as it was: its segments are given up, and the next one writes them again.

use std::collections::BTreeMap;

use cairn_client::segment_store::{HeadStore, SegmentAt, SegmentStore};
use cairn_core::HeadNumber;
use cairn_runtime::{Disk, Runtime};

use super::output::Output;
use super::{SETTLE_INTERVAL, TRIED_NAME, UsageLog, Volume, VolumeError};
use crate::head::{Head, JOURNALS_MAX, JournalMark, Superblock, UsageChange};
use crate::key::{Key, SegmentId};
use crate::log::RunOwner;
use crate::run::RunRef;
use crate::tree::Tree;
use crate::value::JournalRef;

mod adopt;
mod data;
mod usage;

/// The tree as it was when a commit began.
struct Frozen {
    tree: Tree,
    /// The last change in it.
    sequence: u64,
    /// The head to be.
    number: HeadNumber,
    /// Extents whose bytes are perhaps in the journal.
    fresh: Vec<Key>,
    usage: UsageLog,
    /// Segments that were given up.
    discarded: Vec<SegmentId>,
    /// Where the superblock of the head before is.
    before: Option<RunRef>,
    /// Up to where it has the changes of journals.
    journals: Vec<JournalMark>,
}

/// What a commit made of the frozen tree.
struct Written {
    tree: Tree,
    sequence: u64,
    head: Head,
    usage: UsageLog,
    /// Where bytes of the journal are now.
    moved: Moved,
    /// Segments that the tree has forgotten.
    discarded: Vec<SegmentId>,
    journals: Vec<JournalMark>,
}

/// When a commit is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// When not all changes up to this are in a head.
    Upto(u64),
    /// In any case: pages moved, or use is to be entered.
    Anything,
}

/// How far a commit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody knows of its segments.
    Writing,
    /// Its head may be out.
    Publishing,
}

/// Where bytes of the journal are now: by their place, how many, which run and from which of its bytes on.
type Moved = BTreeMap<JournalRef, (u64, RunRef, u32)>;

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Makes all that was done so far durable in the store, and gives the number of the head that has it.
    /// Calls at one time share a commit.
    ///
    /// # Errors
    ///
    /// [`VolumeError`]; what was done stays in the journal then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; whether a head was published is open then.
    pub async fn commit(&self) -> Result<HeadNumber, VolumeError> {
        let wanted = self.shared.read_state().sequence;
        self.commit_for(Need::Upto(wanted)).await
    }

    pub(super) async fn commit_for(&self, need: Need) -> Result<HeadNumber, VolumeError> {
        let volume = self.clone();
        let task = self
            .shared
            .world
            .runtime
            .spawn("volume commit", async move {
                let _line = volume.shared.committing.lock().await;
                volume.commit_in_line(need).await
            });
        let done = task.join().await;
        done.map_err(|_| VolumeError::Aborted)?
    }

    async fn commit_in_line(&self, need: Need) -> Result<HeadNumber, VolumeError> {
        {
            let state = self.shared.read_state();
            let is_there = match need {
                Need::Upto(wanted) => state.committed >= wanted,
                Need::Anything => false,
            };
            if let Some(head) = state.head.filter(|_| is_there) {
                return Ok(head.number);
            }
        }
        let frozen = self.freeze();
        let thaw = self.thaw_when_dropped(&frozen);
        let number = frozen.number;
        let mut out = Output::new(&self.shared, number.get());
        let mut stage = Stage::Writing;
        let mut dead = Vec::new();
        match self
            .write_out(frozen, &mut out, (&mut dead, &mut stage))
            .await
        {
            Ok(written) => {
                let adopted = self.adopt(written, thaw).await;
                if adopted.is_err() && self.head_number() < number {
                    // The head is out, and this process could not go on from it.
                    let segments = std::mem::take(&mut out.segments);
                    self.shared.write_state().doubtful.extend(segments);
                }
                adopted?;
            }
            Err(error) => {
                drop(thaw);
                let segments = std::mem::take(&mut out.segments);
                drop(out);
                self.abandon(segments, stage).await;
                return Err(error);
            }
        }
        self.give_up(dead).await;
        self.settle_in_time().await;
        Ok(number)
    }

    /// Leaves the segments of a commit that failed. Those that a head may refer to stay until the next
    /// one is out.
    async fn abandon(&self, segments: Vec<SegmentAt>, stage: Stage) {
        if stage == Stage::Publishing {
            self.shared.write_state().doubtful.extend(segments);
            return;
        }
        // What can't be given up now is never referred to: the store has it expire.
        if let Err(error) = self.shared.world.segments.discard(segments).await {
            tracing::debug!(%error, "segments of a commit that failed are left");
        }
    }

    fn freeze(&self) -> Frozen {
        let mut state = self.shared.write_state();
        state.since = Some(Vec::new());
        let before = state.head.map(|head| head.superblock);
        // A number that was tried may be out.
        state.tried = state.tried.saturating_add(1);
        let own = JournalMark {
            journal: state.journal.id(),
            sequence: state.sequence,
        };
        let others = state.journals.iter().copied();
        let others = others.filter(|mark| mark.journal != own.journal);
        let journals = std::iter::once(own)
            .chain(others)
            .take(JOURNALS_MAX)
            .collect();
        Frozen {
            tree: state.tree.clone(),
            sequence: state.sequence,
            number: HeadNumber::new(state.tried),
            fresh: std::mem::take(&mut state.fresh).into_iter().collect(),
            usage: std::mem::take(&mut state.usage),
            discarded: state.discarded.iter().copied().collect(),
            before,
            journals,
        }
    }

    /// Writes all but the head, and publishes it.
    async fn write_out(
        &self,
        mut frozen: Frozen,
        out: &mut Output<R, S, H>,
        (dead, stage): (&mut Vec<SegmentId>, &mut Stage),
    ) -> Result<Written, VolumeError> {
        let shared = &self.shared;
        let moved = self.write_data(&mut frozen, out).await?;
        let discarded = frozen.discarded.clone();
        *dead = self.enter_usage(&mut frozen).await?;
        let mut usage = self.write_pages(&mut frozen, out).await?;
        if let Some(before) = frozen.before {
            usage.add(before.segment, -i64::from(before.bytes));
        }
        let mut superblock = Superblock::new(shared.access.volume, frozen.number, shared.now());
        superblock.tree = frozen.tree.root();
        superblock.journals.clone_from(&frozen.journals);
        let run = self.write_superblock(&mut superblock, usage, out).await?;
        out.finish().await?;
        let head = Head {
            number: frozen.number,
            fencing: shared.access.fencing,
            at: shared.at(run.segment)?,
            superblock: run,
        };
        // What a head has must be in the journal for good: else its numbers would be given out again
        // after a crash, to changes that no head has.
        self.sync_local().await?;
        self.note_tried(frozen.number).await?;
        *stage = Stage::Publishing;
        self.publish(&head).await?;
        let mut usage = UsageLog::default();
        for change in superblock.usage {
            usage.take(change);
        }
        Ok(Written {
            tree: frozen.tree,
            sequence: frozen.sequence,
            head,
            usage,
            moved,
            discarded,
            journals: frozen.journals,
        })
    }

    /// Writes the changed pages; gives what that changes in the use of segments.
    async fn write_pages(
        &self,
        frozen: &mut Frozen,
        out: &mut Output<R, S, H>,
    ) -> Result<UsageLog, VolumeError> {
        let mut usage = UsageLog::default();
        loop {
            let written = frozen.tree.write(&self.shared.pages, &mut |page| {
                let owner = RunOwner::Page {
                    level: page.level,
                    first: page.first.clone(),
                };
                let run = out.append(owner, page.plain)?;
                usage.add(run.segment, i64::from(run.bytes));
                Ok(run)
            });
            match written {
                Ok(()) => break,
                // What was written stays written.
                Err(super::output::NoRoom) => out.roll().await?,
            }
        }
        for released in frozen.tree.take_released() {
            usage.add(released.segment, -i64::from(released.bytes));
        }
        Ok(usage)
    }

    /// Writes the superblock, which says of its own segment how much it has, its own bytes included.
    async fn write_superblock(
        &self,
        superblock: &mut Superblock,
        mut usage: UsageLog,
        out: &mut Output<R, S, H>,
    ) -> Result<RunRef, VolumeError> {
        {
            let state = self.shared.read_state();
            superblock.groups.clone_from(&state.groups);
        }
        superblock.usage = usage.changes();
        // Room for what each segment of this commit adds, and for another segment and group.
        let segments = out.filled.len().saturating_add(3);
        let more = segments.saturating_mul(size_of::<UsageChange>() + size_of::<SegmentAt>());
        let room = superblock.encode().len().saturating_add(more);
        out.make_room(room).await?;
        superblock
            .groups
            .clone_from(&self.shared.read_state().groups);
        let (segment, before) = out.current().expect("there is room in a segment");
        usage.filled.extend(&out.filled);
        usage
            .filled
            .insert(segment, (u32::MAX, superblock.number.get()));
        superblock.usage = usage.changes();
        superblock.usage.push(UsageChange::Changed(segment, 0));
        let own = u32::try_from(superblock.encode().len()).expect("it fits a segment");
        for change in &mut superblock.usage {
            match change {
                UsageChange::Filled(of, bytes, _) if *of == segment => {
                    *bytes = before.saturating_add(own);
                }
                UsageChange::Filled(..) | UsageChange::Changed(..) => {}
            }
        }
        if let Some(UsageChange::Changed(_, bytes)) = superblock.usage.last_mut() {
            *bytes = i64::from(own);
        }
        let run = out.append(RunOwner::Superblock, &superblock.encode());
        Ok(run.expect("there is room in the segment"))
    }

    /// Makes it durable that a number is used, whatever comes of it.
    async fn note_tried(&self, number: HeadNumber) -> Result<(), VolumeError> {
        let runtime = &self.shared.world.runtime;
        let disk = runtime.disk().clone();
        let note = self.shared.access.folder.join(TRIED_NAME);
        let noted = runtime.blocking(move || disk.replace_file(&note, &number.get().to_le_bytes()));
        Ok(noted.await?)
    }

    async fn publish(&self, head: &Head) -> Result<(), VolumeError> {
        let shared = &self.shared;
        let mut salt = [0; 16];
        shared.world.runtime.fill(&mut salt);
        let key = shared.access.keys.head_key();
        let sealed = head.seal(shared.access.volume, &key, salt, &shared.access.writer);
        let heads = &shared.world.heads;
        let published = heads.publish(shared.access.volume, head.number.get(), sealed);
        published.await.map_err(VolumeError::store)
    }

    /// Gives up segments that nothing refers to. The tree forgets them with the next commit.
    async fn give_up(&self, dead: Vec<SegmentId>) {
        let doubtful = std::mem::take(&mut self.shared.write_state().doubtful);
        let named: Result<Vec<SegmentAt>, VolumeError> = dead
            .iter()
            .map(|segment| self.shared.at(*segment))
            .collect();
        let segments = match named {
            Ok(named) => [named, doubtful].concat(),
            Err(error) => {
                tracing::warn!(%error, "segments that are not used any more are left");
                return;
            }
        };
        if segments.is_empty() {
            return;
        }
        match self.shared.world.segments.discard(segments.clone()).await {
            Ok(()) => self.shared.write_state().discarded.extend(dead),
            Err(error) => {
                tracing::warn!(%error, "segments that are not used any more are given up later");
                self.shared.write_state().doubtful.extend(segments);
            }
        }
    }

    /// Has the store commit to what it has, now and then.
    async fn settle_in_time(&self) {
        let now = self.shared.world.runtime.monotonic();
        let since = now.saturating_sub(self.shared.read_state().settled_at);
        if since >= SETTLE_INTERVAL
            && let Err(error) = self.shared.settle().await
        {
            tracing::warn!(%error, "the store has not committed to the volume's segments yet");
        }
    }
}
