//! Uploads: a source of any length, in bounded memory, durable at w of n nodes.
//!
//! ```text
//! read ──> encrypt ──> encode, hash ──> n puts ──> w receipts: durable ──> book ──> progress
//!  one        two at a time              all segments in memory         the other n - w go on
//! ```
//!
//! Every segment is encrypted, encoded and hashed in the buffer that it was read into and put
//! from there; buffers are on loan from the client's [`crate::memory::Memory`], which is what
//! bounds the whole. A slow node holds back nothing but the memory of segments that are durable
//! without it; when that becomes too much, it is left behind, to catch up by itself, and the
//! result says so.
//!
//! An upload with a source id can be resumed: finished segments whose plaintext is unchanged are
//! kept. To tell, a segment is encrypted again under its old salt and its data shards are compared
//! with its record, so nothing but the ids of segments is remembered, and the first time costs
//! nothing extra. A segment that changed gets a new number and a fresh salt.
//!
//! ```
//! use std::fs::File;
//! use std::path::Path;
//!
//! use cairn_client::upload::{
//!     EntryMeta, EntryMetaKind, ReviseAt, UploadOptions, UploadProgress, reader_source,
//! };
//! use cairn_client::{EntryPath, Link, Owner};
//! use cairn_core::{Digest, Retry};
//! # use cairn_ledger::Ledger;
//! # use cairn_net::Network;
//! # use cairn_runtime::Runtime;
//!
//! /// Uploads a file, and goes on where it was when something passes by in between.
//! async fn upload_file<R: Runtime, N: Network, L: Ledger>(
//!     owner: &Owner<R, N, L>,
//!     path: &Path,
//! ) -> Result<Link, Box<dyn std::error::Error>> {
//!     let options = UploadOptions {
//!         // Names the source: the next attempt, also of another process, keeps what is finished.
//!         source: Some(Digest::of(path.as_os_str().as_encoded_bytes())),
//!         revise: ReviseAt::End,
//!     };
//!     let mut attempts = 3;
//!     loop {
//!         let meta = EntryMeta {
//!             path: EntryPath::new("backup.tar")?,
//!             kind: EntryMetaKind::File,
//!             mode: 0o600,
//!             modified_ms: 0,
//!         };
//!         let source = reader_source(meta, File::open(path)?);
//!         let show = |at: &UploadProgress| tracing::info!("{at}, {} kept", at.segments_kept);
//!         match owner.upload(source, options, show).await {
//!             Ok(done) => return Ok(done.link),
//!             Err(error) if error.retry() == Retry::Later && attempts > 1 => attempts -= 1,
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//! }
//! ```

use std::collections::BTreeMap;
use std::fmt;

use cairn_core::{Blame, Digest, GroupId, NodeId, Retry, SlotIndex};
use cairn_ledger::{Ledger, RelaxedCap};
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::book::BookError;
use crate::cipher::OpenError;
use crate::index::{ENTRIES_MAX, INDEX_BYTES_MAX};
use crate::link::Link;
use crate::memory::OverBudget;
use crate::owner::{OpenGroupError, Owner, ReviseError};

mod feeder;
mod index_end;
mod pipeline;
pub(crate) mod put;
mod resume;
pub mod source;
mod step;

pub use put::{NotDurable, PutFailure, SlotFailure};
pub use source::{
    EntryMeta, EntryMetaKind, Filled, Flow, OneFile, ReadEntry, Source, SourceError, StreamSource,
    Tree, TreeEntry, TreeSource, reader_source,
};

/// How far an upload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadProgress {
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Of these, bytes in segments that are network-durable.
    pub bytes_durable: u64,
    /// Segments that are network-durable.
    pub segments_durable: u64,
    /// Of these, segments that an earlier, interrupted upload had put.
    pub segments_kept: u64,
}

/// Is told how far an upload is, a few times for each segment. Must not block.
pub trait Progress: Send {
    /// The upload is as far as this.
    fn progress(&mut self, progress: &UploadProgress);
}

impl<F: FnMut(&UploadProgress) + Send> Progress for F {
    fn progress(&mut self, progress: &UploadProgress) {
        self(progress);
    }
}

/// Whether the groups are revised before the upload returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReviseAt {
    /// Yes: the ledger has the upload then.
    #[default]
    End,
    /// No: the caller calls [`Owner::sync`] or [`Owner::close`] after several uploads. Segments
    /// that are not revised expire after 48 hours.
    Later,
}

/// What an upload is to do beside uploading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadOptions {
    /// Names the source, so that an interrupted upload of it is resumed: a digest of its absolute
    /// path, say. `None` for what can't be read again, such as a pipe.
    pub source: Option<Digest>,
    /// When the groups are revised.
    pub revise: ReviseAt,
}

/// How one slot stands after an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// The group.
    pub group: GroupId,
    /// The slot.
    pub slot: SlotIndex,
    /// Its node, as of its last put.
    pub node: Option<NodeId>,
    /// Shards that it took.
    pub put_count: u64,
    /// Shards that it lacks and is left to catch up with.
    pub left_count: u64,
    /// Why it lacks the last of them.
    pub last_failure: Option<PutFailure>,
}

/// An upload that is done: every segment is network-durable.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// The link to it.
    pub link: Link,
    /// How much it was.
    pub progress: UploadProgress,
    /// Every slot that it used.
    pub slots: Vec<SlotReport>,
    /// Caps that the ledger had to relax to place the groups.
    pub relaxed: Vec<(GroupId, RelaxedCap)>,
}

/// Why an upload failed. Segments that were durable are kept for the next attempt when the source
/// has an id.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Reading the source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no group to write to.
    #[error(transparent)]
    Group(#[from] OpenGroupError),
    /// Too few nodes took a segment.
    #[error(transparent)]
    NotDurable(#[from] Box<NotDurable>),
    /// This machine's disk, where the upload is remembered.
    #[error(transparent)]
    Book(#[from] BookError),
    /// Another process uploads the same source.
    #[error("another process is uploading this source")]
    Locked,
    /// Every segment is durable and the groups are not revised.
    #[error(transparent)]
    Revise(#[from] ReviseError),
    /// A segment is larger than the memory budget.
    #[error(transparent)]
    Memory(#[from] OverBudget),
    /// More files than an upload may have.
    #[error("expected at most {ENTRIES_MAX} entries, found {found}")]
    TooManyEntries {
        /// Entries of the source.
        found: usize,
    },
    /// The list of files and segments is too large.
    #[error("expected an index of at most {INDEX_BYTES_MAX} bytes, found {found}")]
    IndexTooLarge {
        /// Its size.
        found: usize,
    },
    /// The source names the same path twice.
    #[error("the source names {path:?} twice")]
    PathTwice {
        /// The path.
        path: String,
    },
    /// Our own fault: a segment does not encode, or does not open under the key it was sealed
    /// with.
    #[error("a segment can't be prepared: {0}")]
    Internal(#[from] SealError),
}

/// A segment can't be encoded or opened again: our own fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The code does not take it.
    #[error(transparent)]
    Encode(#[from] cairn_coding::EncodeError),
    /// It does not open again.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl UploadError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Group(error) => error.retry(),
            Self::Book(error) => error.retry(),
            Self::Revise(error) => error.retry(),
            Self::Source(_) | Self::NotDurable(_) | Self::Locked => Retry::Later,
            Self::Memory(_)
            | Self::TooManyEntries { .. }
            | Self::IndexTooLarge { .. }
            | Self::PathTwice { .. }
            | Self::Internal(_) => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Group(error) => error.blame(),
            Self::Book(error) => error.blame(),
            Self::Revise(error) => error.blame(),
            Self::NotDurable(error) => {
                let peers = error
                    .failures
                    .iter()
                    .all(|failed| failed.failure.blame() == Blame::Peer);
                if peers { Blame::Peer } else { Blame::World }
            }
            Self::Source(_)
            | Self::Locked
            | Self::Memory(_)
            | Self::TooManyEntries { .. }
            | Self::IndexTooLarge { .. }
            | Self::PathTwice { .. } => Blame::Caller,
            Self::Internal(_) => Blame::Us,
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> Owner<R, N, L> {
    /// Uploads a source and returns a link to it. Groups are opened as needed.
    ///
    /// # Errors
    ///
    /// [`UploadError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the upload; what is durable by then is kept for the next attempt when the
    /// source has an id.
    pub async fn upload<S: Source, P: Progress>(
        &self,
        source: S,
        options: UploadOptions,
        progress: P,
    ) -> Result<Uploaded, UploadError> {
        Box::pin(pipeline::upload(&self.shared, source, options, progress)).await
    }
}

/// Adds up how slots did.
#[derive(Debug, Default)]
struct SlotTally {
    slots: BTreeMap<(GroupId, SlotIndex), SlotReport>,
}

impl SlotTally {
    fn add(&mut self, group: GroupId, nodes: &[Option<NodeId>], failures: &[SlotFailure]) {
        for (slot, node) in (0..).map(SlotIndex::new).zip(nodes) {
            let report = self
                .slots
                .entry((group, slot))
                .or_insert_with(|| SlotReport {
                    group,
                    slot,
                    node: None,
                    put_count: 0,
                    left_count: 0,
                    last_failure: None,
                });
            report.node = *node;
            match failures.iter().find(|failed| failed.slot == slot) {
                None => report.put_count += 1,
                Some(failed) => {
                    report.left_count += 1;
                    report.last_failure = Some(failed.failure.clone());
                }
            }
        }
    }
}

impl fmt::Display for UploadProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes read, {} durable in {} segments",
            self.bytes_read, self.bytes_durable, self.segments_durable
        )
    }
}
