//! Opening a link: its index, and where segments are.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::{Capability, GroupId, Record};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;
use futures::{StreamExt, TryStreamExt, stream};

use crate::cipher::SegmentCipher;
use crate::client::{Client, Shared};
use crate::group_view::Freshness;
use crate::index::{Entry, EntryKind, Extent, FileIndex, SegmentRef, UploadKind, starts};
use crate::link::Link;
use crate::memory::Memory;
use crate::read::error::ReadError;
use crate::read::fetch::{Fetched, fetch};
use crate::read::file::OpenFile;
use crate::read::request::SegmentKnown;
use crate::read::stream::{Runs, SegmentRun, TreeStream};
use crate::segment::{FrameSpan, SegmentPlace, payload_bytes};
use crate::width::index;

/// Runs up to this many bytes are decrypted where they are; larger ones go to a thread for blocking
/// work.
const INLINE_BYTES_MAX: u32 = 256 << 10;
/// Segments of an index or of a range that are read at a time. Two make a range across a border
/// one round trip.
pub(super) const SEGMENTS_AT_ONCE: usize = 4;

/// What reading needs of a link, shared by all that read it.
pub(crate) struct Access<R: Runtime, N: Network, L: Ledger> {
    pub(crate) client: Arc<Shared<R, N, L>>,
    pub(crate) link: Link,
    capabilities: BTreeMap<GroupId, Arc<Capability>>,
}

impl<R: Runtime, N: Network, L: Ledger> Access<R, N, L> {
    pub(crate) fn new(client: &Arc<Shared<R, N, L>>, link: &Link) -> Result<Self, ReadError> {
        let now = client.now();
        if now >= link.expires_at() {
            return Err(ReadError::Expired {
                expired_at: link.expires_at(),
                now,
            });
        }
        let peer = client.network.local().key();
        let capabilities = link
            .groups()
            .filter_map(|group| Some((group, Arc::new(link.capability_for(group, peer)?))))
            .collect();
        Ok(Self {
            client: Arc::clone(client),
            link: link.clone(),
            capabilities,
        })
    }

    /// Bytes `range` of a segment's plaintext, decrypted.
    pub(crate) async fn read(
        &self,
        group: GroupId,
        segment: SegmentRef,
        range: Range<u32>,
    ) -> Result<Bytes, ReadError> {
        let owner = self.link.owner();
        let view = self.client.view(group, owner, Freshness::Kept).await?;
        let capability = self
            .capabilities
            .get(&group)
            .cloned()
            .ok_or(crate::group_view::GroupError::Unknown { group })?;
        let known = SegmentKnown {
            group,
            number: segment.number,
            code: view.code,
            payload_bytes: payload_bytes(segment.plain_bytes),
            owner,
            capability,
        };
        if known.shard_bytes() > cairn_core::code::SHARD_BYTES_MAX {
            return Err(ReadError::Layout {
                group,
                segment: segment.number,
            });
        }
        let span = FrameSpan::of(&range, segment.plain_bytes);
        let fetched = fetch(&self.client, known, span.payload_start, span.payload_end).await?;
        let place = SegmentPlace {
            group,
            number: segment.number,
            salt: segment.salt,
        };
        let cipher = place.cipher(self.link.key());
        let bytes = range.end - range.start;
        let memory = self.client.memory.clone();
        if bytes <= INLINE_BYTES_MAX {
            return decrypt(&cipher, span, fetched, bytes, &memory);
        }
        self.client
            .runtime
            .blocking(move || decrypt(&cipher, span, fetched, bytes, &memory))
            .await
    }
}

/// Decrypts every frame of a span in place, and hands up a slice of the same memory.
fn decrypt(
    cipher: &SegmentCipher,
    span: FrameSpan,
    fetched: Fetched,
    bytes: u32,
    memory: &Memory,
) -> Result<Bytes, ReadError> {
    let mut run = fetched.bytes;
    let from = index(span.payload_start - fetched.start);
    let until = index(span.payload_end - fetched.start);
    let plain_bytes = cipher.open_run(u64::from(span.first), &mut run[from..until])?;
    run.truncate(from + plain_bytes);
    let skip = from + index(span.skip);
    Ok(memory.share(run).slice(skip..skip + index(bytes)))
}

impl<R: Runtime, N: Network, L: Ledger> Client<R, N, L> {
    /// Opens a link: reads its index.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn open(&self, link: &Link) -> Result<Opened<R, N, L>, ReadError> {
        let access = Access::new(&self.shared, link)?;
        let groups: Vec<GroupId> = link.groups().collect();
        let extent = link.index();
        let run = Extent {
            segment: 0,
            offset: extent.offset,
            bytes: extent.bytes,
        };
        let mut bytes = Vec::new();
        let runs = Runs::new(extent.segments.to_vec(), vec![run], u32::MAX);
        let reads = runs.map(|SegmentRun { segment, range }| {
            // A link is checked when it is decoded.
            let group = groups[usize::from(segment.group)];
            access.read(group, segment, range)
        });
        let mut parts = stream::iter(reads).buffered(SEGMENTS_AT_ONCE);
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        drop(parts);
        let file_index = FileIndex::decode(&bytes)?;
        Ok(Opened {
            shared: Arc::new(OpenedShared {
                access,
                starts: starts(&file_index.segments),
                index: file_index,
            }),
        })
    }
}

pub(crate) struct OpenedShared<R: Runtime, N: Network, L: Ledger> {
    pub(crate) access: Access<R, N, L>,
    pub(crate) index: FileIndex,
    /// Where each segment starts in the upload's stream, and where the last ends.
    pub(crate) starts: Vec<u64>,
}

impl<R: Runtime, N: Network, L: Ledger> OpenedShared<R, N, L> {
    /// Bytes `range` of the plaintext of one of the upload's segments.
    pub(crate) async fn read(
        &self,
        segment: SegmentRef,
        range: Range<u32>,
    ) -> Result<Bytes, ReadError> {
        let group = self
            .index
            .groups
            .get(usize::from(segment.group))
            .copied()
            .expect("an index is checked when it is decoded");
        self.access.read(group, segment, range).await
    }
}

/// An open link. Cheap to clone; holds the index in memory.
pub struct Opened<R: Runtime, N: Network, L: Ledger> {
    shared: Arc<OpenedShared<R, N, L>>,
}

impl<R: Runtime, N: Network, L: Ledger> Clone for Opened<R, N, L> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Runtime, N: Network, L: Ledger> fmt::Debug for Opened<R, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("kind", &self.shared.index.kind)
            .field("entries", &self.shared.index.entries.len())
            .field("segments", &self.shared.index.segments.len())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, N: Network, L: Ledger> Opened<R, N, L> {
    /// The upload's index: its files, and where they are.
    #[must_use]
    pub fn index(&self) -> &FileIndex {
        &self.shared.index
    }

    /// The link that was opened.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.shared.access.link
    }

    /// The file of a link to one file; `None` for a folder.
    #[must_use]
    pub fn only_file(&self) -> Option<OpenFile<R, N, L>> {
        match self.shared.index.kind {
            UploadKind::File => self
                .shared
                .index
                .entries
                .first()
                .and_then(|e| self.file_of(e)),
            UploadKind::Folder => None,
        }
    }

    /// The file at a path below the upload's root.
    ///
    /// # Errors
    ///
    /// [`ReadError::NoSuchFile`] when there is none, or it is a directory or a symlink.
    pub fn file(&self, path: &[u8]) -> Result<OpenFile<R, N, L>, ReadError> {
        let found = self.shared.index.entry(path);
        found
            .and_then(|entry| self.file_of(entry))
            .ok_or_else(|| ReadError::NoSuchFile {
                path: String::from_utf8_lossy(path).into_owned(),
            })
    }

    /// Everything that the link holds, in the order in which it is stored: each entry, followed by
    /// its bytes when it is a file. Reads ahead across files, which is the fast way to download
    /// many small ones.
    #[must_use]
    pub fn tree(&self) -> TreeStream<R, N, L> {
        TreeStream::new(&self.shared)
    }

    fn file_of(&self, entry: &Entry) -> Option<OpenFile<R, N, L>> {
        match &entry.kind {
            EntryKind::File { extents } => Some(OpenFile::new(&self.shared, entry, extents)),
            EntryKind::Directory | EntryKind::Symlink { .. } => None,
        }
    }
}
