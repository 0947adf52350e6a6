//! File data of a commit: from the journal into runs.

use cairn_client::segment_store::{HeadStore, SegmentStore};
use cairn_runtime::Runtime;

use super::{Frozen, Moved};
use crate::fs::usage_delta;
use crate::key::{InodeNumber, Key, KeyKind};
use crate::log::RunOwner;
use crate::tree::Absent;
use crate::value::{Extent, JournalRef, Source, encode};
use crate::volume::output::Output;
use crate::volume::{Volume, VolumeError, journal_source};

/// An extent of a file that goes into a run.
#[derive(Clone, Debug)]
struct Fresh {
    key: Key,
    inode: InodeNumber,
    offset: u64,
    bytes: u64,
    from: JournalRef,
}

impl Fresh {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Writes the bytes of the frozen tree's extents that are in the journal, and has the extents refer
    /// to where they are now.
    pub(super) async fn write_data(
        &self,
        frozen: &mut Frozen,
        out: &mut Output<R, S, H>,
    ) -> Result<Moved, VolumeError> {
        let mut moved = Moved::new();
        let mut run: Vec<Fresh> = Vec::new();
        for key in std::mem::take(&mut frozen.fresh) {
            // What was overwritten since, or cut, is another extent's.
            let Some(extent) = self.extent(frozen, &key).await? else {
                continue;
            };
            let so_far: u64 = run.iter().map(|extent| extent.bytes).sum();
            let follows = run
                .last()
                .is_some_and(|last| last.inode == extent.inode && last.end() == extent.offset);
            let is_full = so_far.saturating_add(extent.bytes) > self.run_bytes_max();
            if !run.is_empty() && (!follows || is_full) {
                self.write_run(frozen, out, &run, &mut moved).await?;
                run.clear();
            }
            run.push(extent);
        }
        if !run.is_empty() {
            self.write_run(frozen, out, &run, &mut moved).await?;
        }
        Ok(moved)
    }

    fn run_bytes_max(&self) -> u64 {
        u64::from(self.shared.config.run_bytes_max)
    }

    /// An extent of the frozen tree whose bytes are in the journal.
    async fn extent(&self, frozen: &Frozen, key: &Key) -> Result<Option<Fresh>, VolumeError> {
        let Some(KeyKind::Extent(inode, offset)) = key.kind() else {
            return Ok(None);
        };
        loop {
            match frozen.tree.get(&self.shared.pages, key) {
                Ok(value) => {
                    let found = journal_source(key, value.as_deref());
                    return Ok(found.map(|(from, bytes)| Fresh {
                        key: key.clone(),
                        inode,
                        offset,
                        bytes,
                        from,
                    }));
                }
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }

    /// Writes the bytes of extents that follow each other as one run.
    async fn write_run(
        &self,
        frozen: &mut Frozen,
        out: &mut Output<R, S, H>,
        extents: &[Fresh],
        moved: &mut Moved,
    ) -> Result<(), VolumeError> {
        let Some(first) = extents.first() else {
            return Ok(());
        };
        let total: u64 = extents.iter().map(|extent| extent.bytes).sum();
        let mut plain = vec![0; usize::try_from(total).expect("a run is small")];
        {
            let state = self.shared.read_state();
            let mut rest = plain.as_mut_slice();
            for extent in extents {
                let bytes = usize::try_from(extent.bytes).expect("a run is small");
                let (into, behind) = rest.split_at_mut(bytes);
                state.journal.read(extent.from, into)?;
                rest = behind;
            }
        }
        out.make_room(plain.len()).await?;
        let owner = RunOwner::Data {
            inode: first.inode,
            offset: first.offset,
        };
        let run = out.append(owner, &plain).expect("room was made");
        let mut skip = 0;
        for extent in extents {
            moved.insert(extent.from, (extent.bytes, run, skip));
            self.refer(frozen, extent, Source::Run { run, skip })
                .await?;
            skip += u32::try_from(extent.bytes).expect("a run is small");
        }
        Ok(())
    }

    /// Has an extent refer to where its bytes are now. Its key stays: what is changed meanwhile, and what the
    /// journal replays, was worked out by the keys that there were.
    async fn refer(
        &self,
        frozen: &mut Frozen,
        fresh: &Fresh,
        source: Source,
    ) -> Result<(), VolumeError> {
        self.prepare(frozen, &fresh.key).await?;
        let bytes = fresh.bytes;
        let value = encode(&Extent { bytes, source });
        let set = frozen
            .tree
            .set(&self.shared.pages, &fresh.key, Some(value.clone()));
        set.expect("the path was prepared");
        for (segment, bytes) in usage_delta(&fresh.key, None, Some(&value)) {
            frozen.usage.add(segment, bytes);
        }
        Ok(())
    }

    /// Gets the pages on the way to a key.
    pub(super) async fn prepare(&self, frozen: &mut Frozen, key: &Key) -> Result<(), VolumeError> {
        loop {
            match frozen.tree.prepare(&self.shared.pages, key) {
                Ok(()) => return Ok(()),
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }
}
