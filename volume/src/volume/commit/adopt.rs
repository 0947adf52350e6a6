//! The end of a commit: the written tree becomes the volume's, with what was done meanwhile.

use std::collections::BTreeSet;

use cairn_client::segment_store::{HeadStore, SegmentStore};
use cairn_runtime::Runtime;

use super::{Frozen, Moved, Written};
use crate::fs::Changes;
use crate::key::{Key, SegmentId};
use crate::run::RunRef;
use crate::tree::{Absent, Tree};
use crate::value::{Extent, Source, decode, encode};
use crate::volume::{State, UsageLog, Volume, VolumeError, apply, journal_source};

/// Has the volume go on as before when a commit ends without a head.
pub(super) struct Thaw<'a, R: Runtime, S: SegmentStore, H: HeadStore> {
    volume: &'a Volume<R, S, H>,
    usage: UsageLog,
    fresh: Vec<Key>,
    is_over: bool,
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Drop for Thaw<'_, R, S, H> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.volume.shared.write_state();
        state.since = None;
        state.fresh.extend(std::mem::take(&mut self.fresh));
        let since = std::mem::replace(&mut state.usage, std::mem::take(&mut self.usage));
        for change in since.changes() {
            state.usage.take(change);
        }
    }
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    pub(super) fn thaw_when_dropped(&self, frozen: &Frozen) -> Thaw<'_, R, S, H> {
        Thaw {
            volume: self,
            usage: frozen.usage.clone(),
            fresh: frozen.fresh.clone(),
            is_over: false,
        }
    }

    /// Goes on from the head that was published.
    ///
    /// # Panics
    ///
    /// Never: a commit is under way.
    pub(super) async fn adopt(
        &self,
        mut written: Written,
        mut thaw: Thaw<'_, R, S, H>,
    ) -> Result<(), VolumeError> {
        let mut fresh = BTreeSet::new();
        let mut done = 0;
        loop {
            let next: Vec<Changes> = {
                let state = self.shared.read_state();
                let since = state.since.as_ref().expect("a commit is under way");
                since.get(done..).unwrap_or_default().to_vec()
            };
            for changes in next {
                let moved = translated(&changes, &written.moved);
                self.remake(&mut written, &moved, &mut fresh).await?;
                done += 1;
            }
            let absent = {
                let mut state = self.shared.write_state();
                let absent = self.finish(&mut state, (&mut written, &mut fresh), done);
                thaw.is_over = state.since.is_none();
                absent?
            };
            match absent {
                None => return Ok(()),
                Some(page) => self.shared.fetch(page).await?,
            }
        }
    }

    async fn remake(
        &self,
        written: &mut Written,
        changes: &Changes,
        fresh: &mut BTreeSet<Key>,
    ) -> Result<(), VolumeError> {
        loop {
            let Written { tree, usage, .. } = written;
            match apply(tree, &self.shared.pages, changes, usage, fresh) {
                Ok(()) => return Ok(()),
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }

    /// Takes the written tree, unless a page is missing for what was done since the last look.
    fn finish(
        &self,
        state: &mut State<R::Disk>,
        (written, fresh): (&mut Written, &mut BTreeSet<Key>),
        done: usize,
    ) -> Result<Option<RunRef>, VolumeError> {
        let since = state.since.as_ref().expect("a commit is under way");
        // Few: what came before was made again outside of the lock.
        let rest: Vec<Changes> = since.get(done..).unwrap_or_default().to_vec();
        for changes in &rest {
            let moved = translated(changes, &written.moved);
            let Written { tree, usage, .. } = written;
            if let Err(Absent(page)) = apply(tree, &self.shared.pages, &moved, usage, fresh) {
                return Ok(Some(page));
            }
        }
        state.tree = std::mem::replace(&mut written.tree, Tree::empty());
        state.usage = std::mem::take(&mut written.usage);
        state.fresh = std::mem::take(fresh);
        state.committed = written.sequence;
        state.journals = std::mem::take(&mut written.journals);
        state.head = Some(written.head);
        state.since = None;
        let is_forgotten = |segment: &SegmentId| written.discarded.contains(segment);
        state.discarded.retain(|segment| !is_forgotten(segment));
        // The head says it too; without the mark the journal is only longer than it must be.
        let number = written.head.number.get();
        state.journal.committed(written.sequence, number)?;
        Ok(None)
    }
}

/// Changes with extents that refer to where bytes of the journal are now.
fn translated(changes: &Changes, moved: &Moved) -> Changes {
    let value = |key: &Key, value: &Option<Box<[u8]>>| {
        let bytes = value.as_deref()?;
        let Some((at, count)) = journal_source(key, Some(bytes)) else {
            return Some(bytes.into());
        };
        let extent: Extent = decode(bytes)?;
        let found = moved
            .range(..=at)
            .next_back()
            .and_then(|(from, (bytes, run, skip))| {
                let inner = at.offset.checked_sub(from.offset)?;
                let fits = from.file == at.file && inner.saturating_add(count) <= *bytes;
                let skip = skip.checked_add(u32::try_from(inner).ok()?)?;
                fits.then_some(Source::Run { run: *run, skip })
            });
        Some(match found {
            Some(source) => encode(&Extent { source, ..extent }),
            None => bytes.into(),
        })
    };
    changes
        .iter()
        .map(|(key, change)| (key.clone(), value(key, change)))
        .collect()
}
