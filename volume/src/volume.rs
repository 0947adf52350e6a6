//! An open volume: the tree, this machine's journal, and a store of segments.
//!
//! ```text
//! operation ─> changes ─> journal ─> tree in memory          at once, on this machine
//!                            └─> commit: runs, pages, superblock ─> segments ─> head
//! ```
//!
//! **Guarantees.** An operation is done as a whole or not at all. After [`Volume::sync_local`] what was done
//! before survives the end of this process; after [`Volume::commit`] the loss of this machine (I7). A crash
//! at any instant leaves the volume as it was behind some operation that was not earlier than the last
//! such call (I6). The journal is bounded: when it is full, changes wait for a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use cairn_client::segment_store::{HeadStore, SegmentAt, SegmentStore};
use cairn_core::{FencingNumber, GroupId, HeadNumber, SecretKey, SegmentNumber, VolumeId};
use cairn_runtime::{Disk, Runtime};

use crate::fs::{Changes, Edit, FsError, View, usage_delta};
use crate::head::{GROUPS_MAX, Head, JournalMark, UsageChange};
use crate::journal::{Journal, JournalError, Syncer};
use crate::key::{Key, KeyKind, SegmentId};
use crate::keyring::Keyring;
use crate::log::Compression;
use crate::run::{self, RunRef};
use crate::tree::{Absent, Pages, Tree};
use crate::value::{Extent, JournalRef, Source, Time, decode};

mod clean;
mod commit;
mod error;
mod open;
mod output;
mod read;
#[cfg(test)]
mod tests;

pub use clean::{CleanPolicy, Cleaned};
pub use error::VolumeError;

/// Name of the file that has the highest number of a head that was tried.
const TRIED_NAME: &str = "tried";
/// A commit has the store commit to what it has when it did so last that long ago: nodes keep for 48 hours
/// what is not committed to.
pub const SETTLE_INTERVAL: Duration = Duration::from_secs(1_800);

/// How an open volume behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeConfig {
    /// Most memory of pages that are as they are in the store.
    pub page_cache_bytes: usize,
    /// Most bytes of the journal.
    pub journal_bytes_max: u64,
    /// Most plaintext of one run of file data: what is compressed, and read, as one.
    pub run_bytes_max: u32,
    /// Whether what is sealed is compressed before.
    pub compression: Compression,
}

impl Default for VolumeConfig {
    fn default() -> Self {
        Self {
            page_cache_bytes: 64 << 20,
            journal_bytes_max: 1 << 30,
            run_bytes_max: 128 << 10,
            compression: Compression::WherePaying,
        }
    }
}

/// Who writes which volume, and with what.
#[derive(Clone, Debug)]
pub struct Access {
    /// The volume.
    pub volume: VolumeId,
    /// Its keys.
    pub keys: Arc<Keyring>,
    /// Signs heads.
    pub writer: SecretKey,
    /// The number of the lease under which it is written.
    pub fencing: FencingNumber,
    /// Where this machine keeps the volume's journal.
    pub folder: PathBuf,
}

/// The machine and the stores that a volume is on.
#[derive(Clone, Debug)]
pub struct World<R, S, H> {
    /// The machine.
    pub runtime: R,
    /// Segments.
    pub segments: S,
    /// Heads.
    pub heads: H,
}

/// An open volume. Cheap to clone; clones are one volume.
pub struct Volume<R: Runtime, S: SegmentStore, H: HeadStore> {
    shared: Arc<Shared<R, S, H>>,
}

struct Shared<R: Runtime, S: SegmentStore, H: HeadStore> {
    world: World<R, S, H>,
    access: Access,
    config: VolumeConfig,
    pages: Pages,
    state: RwLock<State<R::Disk>>,
    /// One commit at a time.
    committing: tokio::sync::Mutex<()>,
}

/// What changes with every operation. Never locked across a wait.
struct State<D: Disk> {
    tree: Tree,
    journal: Journal<D>,
    syncer: Syncer<D>,
    /// As in the newest head.
    journals: Vec<JournalMark>,
    /// The sequence number of the last change.
    sequence: u64,
    /// Up to which the newest head has all.
    committed: u64,
    groups: Vec<GroupId>,
    head: Option<Head>,
    /// Keys of extents whose bytes are in the journal, and some that were.
    fresh: BTreeSet<Key>,
    usage: UsageLog,
    /// The highest number of a head that was tried.
    tried: u64,
    /// Segments of commits whose head may be out, and others that could not be given up yet.
    doubtful: Vec<SegmentAt>,
    /// When the store last committed to what it has.
    settled_at: Duration,
    /// Segments that were given up and are still in the tree.
    discarded: BTreeSet<SegmentId>,
    /// What was changed since the commit that is under way began.
    since: Option<Vec<Changes>>,
}

/// How the use of segments has changed and the tree does not say yet.
#[derive(Clone, Debug, Default)]
struct UsageLog {
    /// Plaintext of new segments, and the head that each came with.
    filled: BTreeMap<SegmentId, (u32, u64)>,
    changed: BTreeMap<SegmentId, i64>,
}

impl UsageLog {
    fn add(&mut self, segment: SegmentId, bytes: i64) {
        let changed = self.changed.entry(segment).or_default();
        *changed = changed.saturating_add(bytes);
        if *changed == 0 {
            self.changed.remove(&segment);
        }
    }

    fn take(&mut self, change: UsageChange) {
        match change {
            UsageChange::Filled(segment, bytes, born) => {
                self.filled.insert(segment, (bytes, born));
            }
            UsageChange::Changed(segment, bytes) => self.add(segment, bytes),
        }
    }

    fn changes(&self) -> Vec<UsageChange> {
        let filled = self.filled.iter();
        let changed = self.changed.iter();
        filled
            .map(|(segment, (bytes, born))| UsageChange::Filled(*segment, *bytes, *born))
            .chain(changed.map(|(segment, bytes)| UsageChange::Changed(*segment, *bytes)))
            .collect()
    }
}

impl<D: Disk> State<D> {
    /// Makes changes whose paths are in memory, and notes what follows from them.
    fn apply(&mut self, pages: &Pages, (changes, gone): (&Changes, &[Key])) {
        let Self {
            tree, usage, fresh, ..
        } = self;
        make(tree, pages, (changes, gone), usage, fresh).expect("the paths were prepared");
        if let Some(since) = &mut self.since {
            since.push(changes.clone());
        }
    }
}

/// Makes changes in a tree.
fn apply(
    tree: &mut Tree,
    pages: &Pages,
    changes: &Changes,
    usage: &mut UsageLog,
    fresh: &mut BTreeSet<Key>,
) -> Result<(), Absent> {
    let gone = ready(tree, pages, changes)?;
    make(tree, pages, (changes, &gone), usage, fresh)
}

/// Sees that changes can be made without another page; gives the keys that there are and that go.
fn ready(tree: &mut Tree, pages: &Pages, changes: &Changes) -> Result<Vec<Key>, Absent> {
    let mut gone = Vec::new();
    for (key, value) in changes {
        if value.is_none() {
            if tree.get(pages, key)?.is_none() {
                continue;
            }
            gone.push(key.clone());
        }
        tree.prepare(pages, key)?;
    }
    Ok(gone)
}

/// Makes changes that are ready. What comes is made before what goes: a page that empties goes from the
/// way to its neighbours, which need not be in memory.
fn make(
    tree: &mut Tree,
    pages: &Pages,
    (changes, gone): (&Changes, &[Key]),
    usage: &mut UsageLog,
    fresh: &mut BTreeSet<Key>,
) -> Result<(), Absent> {
    let coming = changes.iter().filter(|(_, value)| value.is_some());
    let coming = coming.map(|(key, value)| (key, value.clone()));
    for (key, value) in coming.chain(gone.iter().map(|key| (key, None))) {
        let old = tree.set(pages, key, value.clone())?;
        for (segment, bytes) in usage_delta(key, old.as_deref(), value.as_deref()) {
            usage.add(segment, bytes);
        }
        if journal_source(key, value.as_deref()).is_some() {
            fresh.insert(key.clone());
        }
    }
    Ok(())
}

/// Where in the journal the bytes of an extent are, and how many.
fn journal_source(key: &Key, value: Option<&[u8]>) -> Option<(JournalRef, u64)> {
    let Some(KeyKind::Extent(..)) = key.kind() else {
        return None;
    };
    match decode::<Extent>(value?)? {
        Extent {
            bytes,
            source: Source::Journal(at),
        } => Some((at, bytes)),
        _ => None,
    }
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Clone for Volume<R, S, H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> fmt::Debug for Volume<R, S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("volume", &self.shared.access.volume)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Shared<R, S, H> {
    fn read_state(&self) -> RwLockReadGuard<'_, State<R::Disk>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State<R::Disk>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that a reference names.
    fn at(&self, segment: SegmentId) -> Result<SegmentAt, VolumeError> {
        let state = self.read_state();
        let group = state.groups.get(usize::from(segment.group)).copied();
        let group = group.ok_or(VolumeError::Group {
            volume: self.access.volume,
            index: segment.group,
        })?;
        Ok(SegmentAt {
            group,
            number: SegmentNumber::new(segment.number),
        })
    }

    /// How references name a segment.
    fn id_of(&self, at: SegmentAt) -> Result<SegmentId, VolumeError> {
        let mut state = self.write_state();
        let known = state.groups.iter().rposition(|group| *group == at.group);
        let place = known.unwrap_or(state.groups.len());
        let full = VolumeError::GroupCount {
            volume: self.access.volume,
            max: GROUPS_MAX,
        };
        let group = u16::try_from(place).map_err(|_| full)?;
        if known.is_none() {
            state.groups.push(at.group);
        }
        Ok(SegmentId {
            group,
            number: at.number.get(),
        })
    }

    /// The plaintext of a run.
    async fn run(&self, run: &RunRef) -> Result<Bytes, VolumeError> {
        let at = self.at(run.segment)?;
        let payload = self.world.segments.read(at, run.payload_range()).await;
        let payload = payload.map_err(VolumeError::store)?;
        run::open(&self.access.keys, at, run, payload)
            .map_err(|cause| VolumeError::Run { at, cause })
    }

    /// Gets a page into memory.
    async fn fetch(&self, page: RunRef) -> Result<(), VolumeError> {
        let plain = self.run(&page).await?;
        let admitted = self.pages.admit(page, &plain);
        let at = self.at(page.segment)?;
        admitted.map_err(|cause| VolumeError::Page { at, cause })
    }

    /// Has the store commit to what it has.
    async fn settle(&self) -> Result<(), VolumeError> {
        let settled = self.world.segments.sync().await;
        settled.map_err(VolumeError::store)?;
        self.write_state().settled_at = self.world.runtime.monotonic();
        Ok(())
    }

    /// The time by this machine's clock.
    fn now(&self) -> Time {
        let since = self.world.runtime.now();
        Time {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }

    fn entropy(&self) -> u64 {
        let mut bytes = [0; 8];
        self.world.runtime.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// What an operation may use besides the tree.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Time,
    /// Entropy, for generations.
    pub entropy: u64,
    /// Where the data that comes with the operation is going to be.
    pub data: JournalRef,
}

/// How one try of an operation ended.
enum Tried<T> {
    Done(T),
    /// A page is not in memory.
    Absent(RunRef),
    /// The journal has no room.
    Full,
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Asks the tree.
    ///
    /// # Errors
    ///
    /// [`VolumeError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn view<T>(
        &self,
        ask: impl Fn(&View<'_>) -> Result<T, FsError>,
    ) -> Result<T, VolumeError> {
        loop {
            let answer = {
                let state = self.shared.read_state();
                ask(&View {
                    tree: &state.tree,
                    pages: &self.shared.pages,
                })
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(FsError::Absent(page)) => self.shared.fetch(page).await?,
                Err(error) => return Err(VolumeError::Fs(error)),
            }
        }
    }

    /// Changes the tree by an operation, which may be tried several times, with data that goes into the
    /// journal. The change is not durable yet.
    ///
    /// # Errors
    ///
    /// [`VolumeError`]; nothing has changed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the operation is done or not.
    pub async fn edit<T>(
        &self,
        data: &[u8],
        operation: impl Fn(&mut Edit<'_, View<'_>>, Moment) -> Result<T, FsError>,
    ) -> Result<T, VolumeError> {
        let max = self.shared.config.run_bytes_max;
        let found = data.len();
        if u32::try_from(found).is_ok_and(|bytes| bytes <= max) {
            return self.edit_small(data, operation).await;
        }
        Err(VolumeError::Data { max, found })
    }

    async fn edit_small<T>(
        &self,
        data: &[u8],
        operation: impl Fn(&mut Edit<'_, View<'_>>, Moment) -> Result<T, FsError>,
    ) -> Result<T, VolumeError> {
        loop {
            match self.try_edit(data, &operation)? {
                Tried::Done(answer) => return Ok(answer),
                Tried::Absent(page) => self.shared.fetch(page).await?,
                Tried::Full => {
                    self.commit().await?;
                }
            }
        }
    }

    fn try_edit<T>(
        &self,
        data: &[u8],
        operation: &impl Fn(&mut Edit<'_, View<'_>>, Moment) -> Result<T, FsError>,
    ) -> Result<Tried<T>, VolumeError> {
        let shared = &self.shared;
        let (now, entropy) = (shared.now(), shared.entropy());
        let mut guard = shared.write_state();
        let state = &mut *guard;
        let place = state.journal.place(data.len());
        let at = match place {
            Ok(at) => at,
            Err(JournalError::Full { .. }) if state.committed < state.sequence => {
                return Ok(Tried::Full);
            }
            Err(error) => return Err(error.into()),
        };
        let view = View {
            tree: &state.tree,
            pages: &shared.pages,
        };
        let mut edit = Edit::new(&view);
        let moment = Moment {
            now,
            entropy,
            data: at,
        };
        let answer = match operation(&mut edit, moment) {
            Ok(answer) => answer,
            Err(FsError::Absent(page)) => return Ok(Tried::Absent(page)),
            Err(error) => return Err(VolumeError::Fs(error)),
        };
        let changes = edit.finish();
        if changes.is_empty() {
            return Ok(Tried::Done(answer));
        }
        let gone = match ready(&mut state.tree, &shared.pages, &changes) {
            Ok(gone) => gone,
            Err(Absent(page)) => return Ok(Tried::Absent(page)),
        };
        state.sequence = match state.journal.append(at, data, &changes) {
            Ok(sequence) => sequence,
            Err(JournalError::Full { .. }) if state.committed < state.sequence => {
                return Ok(Tried::Full);
            }
            Err(error) => return Err(error.into()),
        };
        state.apply(&shared.pages, (&changes, &gone));
        Ok(Tried::Done(answer))
    }

    /// Makes all that was done so far durable on this machine.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Journal`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn sync_local(&self) -> Result<(), VolumeError> {
        let syncer = self.shared.read_state().syncer.clone();
        let runtime = &self.shared.world.runtime;
        runtime.blocking(move || syncer.sync()).await?;
        Ok(())
    }

    /// Bytes in the journal that the newest head does not have: what the loss of this machine would
    /// lose.
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        let state = self.shared.read_state();
        if state.committed == state.sequence {
            0
        } else {
            state.journal.bytes()
        }
    }

    /// Makes all that was done so far durable in the store, and has the store commit to it: it outlives what
    /// nodes keep without that. A commit does it too, once in [`SETTLE_INTERVAL`]; whoever ends a volume's use
    /// does it by this.
    ///
    /// # Errors
    ///
    /// [`VolumeError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; whether it was done is open then.
    pub async fn settle(&self) -> Result<(), VolumeError> {
        self.commit().await?;
        self.shared.settle().await
    }

    /// The newest head's number.
    #[must_use]
    pub fn head_number(&self) -> HeadNumber {
        let state = self.shared.read_state();
        state.head.map_or(HeadNumber::ZERO, |head| head.number)
    }
}
