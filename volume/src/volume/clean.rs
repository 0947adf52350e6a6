//! Cleaning: what is in use of segments that are mostly not is moved, so that they can be given up.
//!
//! File data goes through the journal like a change that changes nothing: the next commit writes it anew.
//! Pages are written anew by the next commit. What a snapshot holds stays where it is, and a segment of
//! which one holds anything is left alone.

use std::ops::ControlFlow;

use cairn_client::segment_store::{HeadStore, SegmentStore};
use cairn_runtime::Runtime;

use super::commit::Need;
use super::{Volume, VolumeError};
use crate::fs::{self, Entries as _, FsError, Move, View};
use crate::key::{InodeNumber, Key, KeyKind, SegmentId, kinds};
use crate::log::{RunOwner, decode_summary, open_trailer, trailer_range};
use crate::run::RunRef;
use crate::tree::Absent;
use crate::value::{Source, Usage, decode};

/// Extents of one run that are moved; a run that is in more pieces is moved by and by.
const SPANS_MAX: usize = 4_096;

/// Which segments are cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanPolicy {
    /// Those of whose bytes at most so many of a hundred are in use.
    pub live_percent_max: u8,
    /// At most so many of them, those with the least in use first.
    pub segments_max: usize,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Segments that were looked at.
    pub segments: u64,
    /// Bytes of files that were moved.
    pub data_bytes: u64,
    /// Pages that were moved.
    pub pages: u64,
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Moves what is in use of segments that are mostly not, and gives up those of which nothing is left.
    ///
    /// # Errors
    ///
    /// [`VolumeError`]; what was moved until then is moved.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn clean(&self, policy: CleanPolicy) -> Result<Cleaned, VolumeError> {
        let mut cleaned = Cleaned::default();
        for segment in self.to_clean(policy).await? {
            self.empty_segment(segment, &mut cleaned).await?;
        }
        if cleaned.segments == 0 {
            return Ok(cleaned);
        }
        // The first moves; what that leaves without use is entered, and given up, by the second.
        self.commit_for(Need::Anything).await?;
        self.commit_for(Need::Anything).await?;
        Ok(cleaned)
    }

    /// The segments with the least in use, as far as the policy goes.
    async fn to_clean(&self, policy: CleanPolicy) -> Result<Vec<SegmentId>, VolumeError> {
        let end = Key::end_of(InodeNumber::VOLUME, kinds::USAGE);
        let mut found: Vec<(u64, SegmentId)> = Vec::new();
        let mut next = Key::start_of(InodeNumber::VOLUME, kinds::USAGE);
        loop {
            let scanned = {
                let state = self.shared.read_state();
                let view = View {
                    tree: &state.tree,
                    pages: &self.shared.pages,
                };
                view.scan(&next.clone()..&end, |key, value| {
                    next = Key::from_bytes(&[key, &[0]].concat());
                    found.extend(candidate(key, value, policy));
                    ControlFlow::Continue(())
                })
            };
            match scanned {
                Ok(()) => break,
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
        found.sort_unstable();
        found.truncate(policy.segments_max);
        Ok(found.into_iter().map(|(_, segment)| segment).collect())
    }

    /// Moves what is in use of a segment.
    async fn empty_segment(
        &self,
        segment: SegmentId,
        cleaned: &mut Cleaned,
    ) -> Result<(), VolumeError> {
        let shared = &self.shared;
        let at = shared.at(segment)?;
        let store = &shared.world.segments;
        let bytes = store.payload_bytes(at).await.map_err(VolumeError::store)?;
        let damaged = |cause| VolumeError::Summary { at, cause };
        let range = trailer_range(bytes).map_err(damaged)?;
        let trailer = store.read(at, range).await.map_err(VolumeError::store)?;
        let keys = &shared.access.keys;
        let summary = open_trailer(keys, at, segment, bytes, trailer).map_err(damaged)?;
        let plain = shared.run(&summary).await?;
        let runs = decode_summary(&plain, &summary).map_err(damaged)?;
        for (owner, run) in runs {
            // A commit that is under way would go on from pages that were not touched.
            let line = match owner {
                RunOwner::Page { .. } => Some(shared.committing.lock().await),
                RunOwner::Data { .. } | RunOwner::Superblock => None,
            };
            match owner {
                RunOwner::Page { level, first } => {
                    cleaned.pages += u64::from(self.touch(level, &first, run).await?);
                }
                RunOwner::Data { inode, offset } => {
                    cleaned.data_bytes += self.move_data(inode, offset, run).await?;
                }
                // It is given up with the next head.
                RunOwner::Superblock => {}
            }
            drop(line);
        }
        cleaned.segments += 1;
        Ok(())
    }

    async fn touch(&self, level: u8, first: &Key, page: RunRef) -> Result<bool, VolumeError> {
        loop {
            let touched = {
                let mut state = self.shared.write_state();
                state.tree.touch(&self.shared.pages, (level, first), page)
            };
            match touched {
                Ok(touched) => return Ok(touched),
                Err(Absent(page)) => self.shared.fetch(page).await?,
            }
        }
    }

    /// Has the extents that refer to a run refer to the same bytes in the journal.
    async fn move_data(
        &self,
        inode: InodeNumber,
        offset: u64,
        run: RunRef,
    ) -> Result<u64, VolumeError> {
        let end = offset.saturating_add(u64::from(run.bytes));
        let spans = self.view(|view| fs::spans(view, inode, offset..end, SPANS_MAX));
        let spans = match spans.await {
            Ok(spans) => spans,
            // The file is gone, or its number another's.
            Err(VolumeError::Fs(
                FsError::NoInode { .. } | FsError::IsDirectory | FsError::Invalid { .. },
            )) => return Ok(0),
            Err(error) => return Err(error),
        };
        let of_run = |source: Source| match source {
            Source::Run { run: found, skip } if found == run => Some(skip),
            Source::Run { .. } | Source::Journal(_) | Source::Zeros => None,
        };
        let mut plain = None;
        let mut moved = 0;
        for span in spans {
            let Some((from, skip)) = span.source.and_then(|from| Some((from, of_run(from)?)))
            else {
                continue;
            };
            let plain = match &plain {
                Some(plain) => plain,
                None => plain.insert(self.shared.run(&run).await?),
            };
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let bytes = usize::try_from(span.bytes).unwrap_or(usize::MAX);
            let data = plain.get(skip..skip.saturating_add(bytes));
            let range = span.offset..span.offset.saturating_add(span.bytes);
            let relocated = self.edit(data.unwrap_or_default(), |edit, moment| {
                let to = Source::Journal(moment.data);
                let range = range.clone();
                fs::relocate(
                    edit,
                    &Move {
                        inode,
                        range,
                        from,
                        to,
                    },
                )
            });
            moved += relocated.await?.bytes;
        }
        Ok(moved)
    }
}

/// A segment that is to be cleaned, with how much of it is in use.
fn candidate(key: &[u8], value: &[u8], policy: CleanPolicy) -> Option<(u64, SegmentId)> {
    let Some(KeyKind::Usage(segment)) = Key::from_bytes(key).kind() else {
        return None;
    };
    let percent = live_percent(&decode(value)?)?;
    (percent <= u64::from(policy.live_percent_max)).then_some((percent, segment))
}

/// How much of a segment is in use, of a hundred; `None` when it is not to be cleaned: nothing is in use, a
/// snapshot needs some, or it is still being entered.
fn live_percent(usage: &Usage) -> Option<u64> {
    if usage.bytes == 0 || usage.live == 0 || usage.held > 0 {
        return None;
    }
    usage
        .live
        .saturating_mul(100)
        .checked_div(u64::from(usage.bytes))
}
