//! Reading and writing a file's bytes.

use cairn_client::segment_store::{HeadStore, SegmentStore};
use cairn_runtime::Runtime;
use futures::{StreamExt, TryStreamExt, stream};

use super::{Volume, VolumeError};
use crate::fs::{self, Caller, FsError, Touch, View};
use crate::key::InodeNumber;
use crate::run::RunRef;
use crate::value::Source;

/// Extents of one read.
const SPANS_MAX: usize = 4_096;
/// Runs of one read that are fetched at a time.
const RUNS_AT_ONCE: usize = 4;

/// A part of a read that is in a run.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where its bytes begin in what is read.
    at: usize,
    bytes: usize,
    run: RunRef,
    /// Where they begin in the run.
    skip: u32,
}

impl<R: Runtime, S: SegmentStore, H: HeadStore> Volume<R, S, H> {
    /// Reads up to `bytes` bytes of a file from `offset` on; none at its end, and fewer than asked for also
    /// where it is in very many pieces.
    ///
    /// # Errors
    ///
    /// [`VolumeError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn read(
        &self,
        inode: InodeNumber,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, VolumeError> {
        let (mut content, parts) = loop {
            match self.lay_out(inode, offset, bytes)? {
                Ok(laid_out) => break laid_out,
                Err(page) => self.shared.fetch(page).await?,
            }
        };
        let reads = parts.into_iter().map(|part| async move {
            let plain = self.shared.run(&part.run).await?;
            Ok::<_, VolumeError>((part, plain))
        });
        let mut reads = stream::iter(reads).buffer_unordered(RUNS_AT_ONCE);
        while let Some((part, plain)) = reads.try_next().await? {
            let skip = usize::try_from(part.skip).unwrap_or(usize::MAX);
            let from = plain.get(skip..).unwrap_or_default();
            let into = content.get_mut(part.at..).unwrap_or_default();
            let from = from.get(..part.bytes).unwrap_or_default();
            if let Some(into) = into.get_mut(..from.len()) {
                into.copy_from_slice(from);
            }
        }
        Ok(content)
    }

    /// What is known of the bytes without the store, and where the others are. The journal is read under
    /// the same lock as the tree: its files go only with what refers to them.
    #[expect(
        clippy::type_complexity,
        reason = "the inner error is a page that is missing, which the caller fetches"
    )]
    fn lay_out(
        &self,
        inode: InodeNumber,
        offset: u64,
        bytes: usize,
    ) -> Result<Result<(Vec<u8>, Vec<Part>), RunRef>, VolumeError> {
        let state = self.shared.read_state();
        let view = View {
            tree: &state.tree,
            pages: &self.shared.pages,
        };
        let end = offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let spans = match fs::spans(&view, inode, offset..end, SPANS_MAX) {
            Ok(spans) => spans,
            Err(FsError::Absent(page)) => return Ok(Err(page)),
            Err(error) => return Err(VolumeError::Fs(error)),
        };
        let count: u64 = spans.iter().map(|span| span.bytes).sum();
        let mut content = vec![0; usize::try_from(count).unwrap_or(0)];
        let mut parts = Vec::new();
        for span in spans {
            let at = usize::try_from(span.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
            let length = usize::try_from(span.bytes).unwrap_or(usize::MAX);
            match span.source {
                None | Some(Source::Zeros) => {}
                Some(Source::Journal(from)) => {
                    let into = content.get_mut(at..at.saturating_add(length));
                    state.journal.read(from, into.unwrap_or_default())?;
                }
                Some(Source::Run { run, skip }) => parts.push(Part {
                    at,
                    bytes: length,
                    run,
                    skip,
                }),
            }
        }
        Ok(Ok((content, parts)))
    }

    /// Writes bytes into a file from `offset` on, in pieces that are whole each.
    ///
    /// # Errors
    ///
    /// [`VolumeError`]; the pieces before are written.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe; some pieces may be written.
    pub async fn write(
        &self,
        caller: &Caller,
        inode: InodeNumber,
        offset: u64,
        data: &[u8],
    ) -> Result<(), VolumeError> {
        let piece_max = u64::from(self.shared.config.run_bytes_max.max(1));
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            // Pieces end where runs begin, so that a file that is written in order has full ones.
            let room = piece_max - at % piece_max;
            let bytes = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (piece, _) = rest.split_at(bytes);
            let count = u64::try_from(bytes).unwrap_or(u64::MAX);
            let written = self.edit(piece, |edit, moment| {
                let touch = Touch {
                    inode,
                    caller,
                    now: moment.now,
                };
                fs::write(edit, touch, at, count, Source::Journal(moment.data))
            });
            let written = written.await?;
            at = at.saturating_add(written);
            let done = usize::try_from(written)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            rest = rest.get(done..).unwrap_or_default();
        }
        Ok(())
    }
}
