//! Making a volume and opening it again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, RwLock};

use cairn_client::segment_store::{HeadStore, SegmentStore};
use cairn_core::{HeadNumber, VolumeId};
use cairn_runtime::{Disk, Runtime};

use super::{
    Access, Shared, State, TRIED_NAME, UsageLog, Volume, VolumeConfig, VolumeError, World, apply,
};
use crate::fs::{self, Entries as _, Rooting};
use crate::head::{Head, JournalMark, Superblock};
use crate::journal::{Journal, JournalConfig, Replay};
use crate::key::Key;
use crate::run;
use crate::tree::{Absent, Pages, Tree};

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Makes a volume that has no head yet, with an empty root directory, and publishes its
    /// first head.
    ///
    /// # Errors
    ///
    /// [`VolumeError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; the volume has a head or not.
    pub async fn create(
        world: World<R, S, H>,
        access: Access,
        config: VolumeConfig,
        root: Rooting,
    ) -> Result<Self, VolumeError> {
        if let Some(head) = newest(&world, &access).await? {
            return Err(VolumeError::Exists {
                volume: access.volume,
                number: head.number,
            });
        }
        let volume = Self::begin(world, access, config, None).await?;
        // A first attempt may have come as far as the journal.
        let is_empty = volume
            .view(|view| Ok(view.get(&Key::counters())?.is_none()))
            .await?;
        if is_empty {
            volume
                .edit(&[], |edit, moment| fs::format(edit, root, moment.now))
                .await?;
        }
        volume.commit().await?;
        Ok(volume)
    }

    /// Opens a volume at its newest head and adds what this machine's journal has beyond it.
    ///
    /// # Errors
    ///
    /// [`VolumeError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn open(
        world: World<R, S, H>,
        access: Access,
        config: VolumeConfig,
    ) -> Result<Self, VolumeError> {
        let head = newest(&world, &access).await?;
        let head = head.ok_or(VolumeError::NoHead {
            volume: access.volume,
        })?;
        Self::begin(world, access, config, Some(head)).await
    }

    async fn begin(
        world: World<R, S, H>,
        access: Access,
        config: VolumeConfig,
        head: Option<Head>,
    ) -> Result<Self, VolumeError> {
        let superblock = match head {
            Some(head) => Some(superblock_of(&world, &access, &head).await?),
            None => None,
        };
        let disk = world.runtime.disk().clone();
        let folder = access.folder.join("journal");
        let note = access.folder.join(TRIED_NAME);
        let limits = JournalConfig {
            bytes_max: config.journal_bytes_max,
        };
        let mut fresh_id = [0; 16];
        world.runtime.fill(&mut fresh_id);
        let opened = world
            .runtime
            .blocking(move || {
                let opened = Journal::open(&disk, &folder, limits, fresh_id)?;
                Ok::<_, VolumeError>((opened, read_tried(&disk, &note)?))
            })
            .await?;
        let ((mut journal, replays), tried) = opened;
        let number = head.map_or(HeadNumber::ZERO, |head| head.number);
        let journals = superblock
            .as_ref()
            .map_or_else(Vec::new, |superblock| superblock.journals.clone());
        let there = (access.volume, number);
        let (committed, left) = left_of(&mut journal, replays, &journals, there)?;
        let mut usage = UsageLog::default();
        let mut groups = Vec::new();
        let mut tree = Tree::empty();
        if let Some(superblock) = superblock {
            tree = superblock.tree.map_or_else(Tree::empty, Tree::at);
            groups = superblock.groups;
            for change in superblock.usage {
                usage.take(change);
            }
        }
        let state = State {
            tree,
            syncer: journal.syncer(),
            journal,
            journals,
            sequence: left.last().map_or(committed, |replay| replay.sequence),
            committed,
            groups,
            head,
            fresh: BTreeSet::new(),
            usage,
            tried: number.get().max(tried),
            doubtful: Vec::new(),
            settled_at: world.runtime.monotonic(),
            discarded: BTreeSet::new(),
            since: None,
        };
        let volume = Self {
            shared: Arc::new(Shared {
                world,
                access,
                config,
                pages: Pages::new(config.page_cache_bytes),
                state: RwLock::new(state),
                committing: tokio::sync::Mutex::new(()),
            }),
        };
        for replay in &left {
            volume.replay(replay).await?;
        }
        Ok(volume)
    }

    /// Makes a change of the journal again.
    async fn replay(&self, replay: &Replay) -> Result<(), VolumeError> {
        loop {
            let made = {
                let mut state = self.shared.write_state();
                let State {
                    tree, usage, fresh, ..
                } = &mut *state;
                apply(tree, &self.shared.pages, &replay.changes, usage, fresh)
            };
            match made {
                Ok(()) => return Ok(()),
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }
}

/// The highest number of a head that was tried from this machine; 0 when none was.
fn read_tried<D: Disk>(disk: &D, note: &Path) -> Result<u64, VolumeError> {
    match disk.read_file(note, 8) {
        Ok(bytes) => {
            let number = bytes.try_into().map(u64::from_le_bytes);
            number.map_err(|_| VolumeError::Note {
                path: note.to_owned(),
            })
        }
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Up to which of a journal's changes the newest head has all, and those behind that.
fn left_of<D: Disk>(
    journal: &mut Journal<D>,
    replays: Vec<Replay>,
    journals: &[JournalMark],
    (volume, number): (VolumeId, HeadNumber),
) -> Result<(u64, Vec<Replay>), VolumeError> {
    let marked = journal.last_committed();
    let id = journal.id();
    // The journal may not have heard of the head that was published from it.
    let shown = journals.iter().find(|mark| mark.journal == id);
    let shown = shown.map_or(0, |mark| mark.sequence);
    let committed = shown.max(marked.map_or(0, |(sequence, _)| sequence));
    let left: Vec<Replay> = replays
        .into_iter()
        .filter(|replay| replay.sequence > committed)
        .collect();
    let is_ours = journals.first().is_some_and(|mark| mark.journal == id);
    let expected = marked.map_or(0, |(_, head)| head);
    if number.get() < expected {
        return Err(VolumeError::Behind {
            volume,
            expected: HeadNumber::new(expected),
            found: number,
        });
    }
    if !left.is_empty() && !is_ours && number.get() != expected {
        return Err(VolumeError::Diverged {
            volume,
            expected: HeadNumber::new(expected),
            found: number,
        });
    }
    // What comes from here on goes on from this head.
    let goes_on = left.is_empty() || is_ours;
    if number > HeadNumber::ZERO && goes_on && marked != Some((committed, number.get())) {
        journal.committed(committed, number.get())?;
    }
    Ok((committed, left))
}

/// The newest head that the store shows, checked.
async fn newest<R: Runtime, S: SegmentStore, H: HeadStore>(
    world: &World<R, S, H>,
    access: &Access,
) -> Result<Option<Head>, VolumeError> {
    let found = world.heads.newest(access.volume).await;
    let Some(bytes) = found.map_err(VolumeError::store)? else {
        return Ok(None);
    };
    let key = access.keys.head_key();
    let writer = access.writer.public();
    Ok(Some(Head::open(&bytes, access.volume, &key, writer)?))
}

async fn superblock_of<R: Runtime, S: SegmentStore, H: HeadStore>(
    world: &World<R, S, H>,
    access: &Access,
    head: &Head,
) -> Result<Superblock, VolumeError> {
    let run = head.superblock;
    let payload = world.segments.read(head.at, run.payload_range()).await;
    let payload = payload.map_err(VolumeError::store)?;
    let plain = run::open(&access.keys, head.at, &run, payload)
        .map_err(|cause| VolumeError::Run { at: head.at, cause })?;
    Superblock::decode(&plain, access.volume, head.number).ok_or(VolumeError::Superblock {
        volume: access.volume,
        number: head.number,
        at: head.at,
    })
}
