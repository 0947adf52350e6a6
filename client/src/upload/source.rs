//! What is uploaded: a stream, or a tree of files, read in order into segments.

use std::future::Future;
use std::io::{self, Read};

use cairn_core::Bounded;
use cairn_runtime::Runtime;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

use crate::index::{EntryPath, PATH_BYTES_MAX, UploadKind};
use crate::segment::SegmentFill;

/// What an asynchronous stream is asked for at a time: many of them switch threads for each read.
const STREAM_BUFFER_BYTES: usize = 256 << 10;

/// Reading the source failed.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {source}", path.as_ref().map_or_else(|| "the source".to_owned(), ToString::to_string))]
pub struct SourceError {
    /// Which file, when it is one of several.
    pub path: Option<EntryPath>,
    /// The system's error.
    pub source: io::Error,
}

/// What a source says of one entry before its content is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// Its path below the upload's root.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryMetaKind,
    /// POSIX permission bits.
    pub mode: u32,
    /// Milliseconds since 1970-01-01T00:00:00Z at which it was last changed.
    pub modified_ms: i64,
}

/// What an entry is, before its content is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryMetaKind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(Bounded<u8, PATH_BYTES_MAX>),
}

/// An entry whose content has been read: where it is in the upload's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEntry {
    /// What the source said.
    pub meta: EntryMeta,
    /// Where its content starts in the stream.
    pub position: u64,
    /// Bytes of its content, as read.
    pub bytes: u64,
}

/// Whether a source has more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The segment is full; there may be more.
    Full,
    /// The source has ended.
    Ended,
}

/// A source given back after filling a segment.
#[derive(Debug)]
pub struct Filled<S> {
    /// The source.
    pub source: S,
    /// The segment with what was read.
    pub fill: SegmentFill,
    /// Whether there is more.
    pub outcome: Result<Flow, SourceError>,
}

/// Something that can be uploaded. Bytes go from it straight into the segment's memory.
pub trait Source: Sized + Send + 'static {
    /// Reads until the segment is full or the source ends.
    fn fill<R: Runtime>(
        self,
        runtime: &R,
        fill: SegmentFill,
    ) -> impl Future<Output = Filled<Self>> + Send;

    /// What was read, once it has ended.
    fn entries(self) -> (UploadKind, Vec<ReadEntry>);
}

/// An entry of a [`Tree`].
#[derive(Debug)]
pub struct TreeEntry<B> {
    /// What it is.
    pub meta: EntryMeta,
    /// Reads its content, when it is a file.
    pub reader: Option<B>,
}

/// A tree of files that is read with blocking calls, entry by entry.
pub trait Tree: Send + 'static {
    /// Reads a file's content.
    type Reader: Read + Send + 'static;

    /// The next entry, with a reader when it is a file; `None` after the last. Parents come
    /// before their children.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; the upload ends with it.
    fn next(&mut self) -> Result<Option<TreeEntry<Self::Reader>>, SourceError>;

    /// One file or a folder.
    fn kind(&self) -> UploadKind;
}

/// A [`Source`] over a [`Tree`], read by [`Runtime::blocking`].
#[derive(Debug)]
pub struct TreeSource<T: Tree> {
    tree: T,
    open: Option<T::Reader>,
    entries: Vec<ReadEntry>,
    position: u64,
}

impl<T: Tree> TreeSource<T> {
    /// A source over `tree`.
    #[must_use]
    pub const fn new(tree: T) -> Self {
        Self {
            tree,
            open: None,
            entries: Vec::new(),
            position: 0,
        }
    }

    fn read(&mut self, fill: &mut SegmentFill) -> Result<Flow, SourceError> {
        while fill.room_bytes() > 0 {
            let Some(reader) = &mut self.open else {
                match self.tree.next()? {
                    None => return Ok(Flow::Ended),
                    Some(entry) => self.begin(entry),
                }
                continue;
            };
            match reader.read_vectored(&mut fill.rooms()) {
                Ok(0) => self.open = None,
                Ok(count) => {
                    fill.advance(count);
                    self.position += count_bytes(count);
                    if let Some(entry) = self.entries.last_mut() {
                        entry.bytes += count_bytes(count);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.entries.last().map(|entry| entry.meta.path.clone());
                    return Err(SourceError { path, source });
                }
            }
        }
        Ok(Flow::Full)
    }

    fn begin(&mut self, entry: TreeEntry<T::Reader>) {
        self.entries.push(ReadEntry {
            meta: entry.meta,
            position: self.position,
            bytes: 0,
        });
        self.open = entry.reader;
    }
}

fn count_bytes(count: usize) -> u64 {
    u64::try_from(count).expect("a read is below 2^64 bytes")
}

impl<T: Tree> Source for TreeSource<T> {
    async fn fill<R: Runtime>(mut self, runtime: &R, mut fill: SegmentFill) -> Filled<Self> {
        runtime
            .blocking(move || {
                let outcome = self.read(&mut fill);
                Filled {
                    source: self,
                    fill,
                    outcome,
                }
            })
            .await
    }

    fn entries(self) -> (UploadKind, Vec<ReadEntry>) {
        (self.tree.kind(), self.entries)
    }
}

/// A tree of one file over any blocking reader.
#[derive(Debug)]
pub struct OneFile<B> {
    file: Option<TreeEntry<B>>,
}

impl<B: Read + Send + 'static> Tree for OneFile<B> {
    type Reader = B;

    fn next(&mut self) -> Result<Option<TreeEntry<B>>, SourceError> {
        Ok(self.file.take())
    }

    fn kind(&self) -> UploadKind {
        UploadKind::File
    }
}

/// A source over one blocking reader: a file, or standard input.
pub fn reader_source<B: Read + Send + 'static>(
    meta: EntryMeta,
    reader: B,
) -> TreeSource<OneFile<B>> {
    TreeSource::new(OneFile {
        file: Some(TreeEntry {
            meta,
            reader: Some(reader),
        }),
    })
}

/// A [`Source`] over an asynchronous stream.
#[derive(Debug)]
pub struct StreamSource<A> {
    /// Gathers reads, which go into one frame each.
    stream: BufReader<A>,
    entry: ReadEntry,
}

impl<A: AsyncRead + Unpin + Send + 'static> StreamSource<A> {
    /// A file whose content is `stream`.
    #[must_use]
    pub fn new(meta: EntryMeta, stream: A) -> Self {
        let entry = ReadEntry {
            meta,
            position: 0,
            bytes: 0,
        };
        Self {
            stream: BufReader::with_capacity(STREAM_BUFFER_BYTES, stream),
            entry,
        }
    }
}

impl<A: AsyncRead + Unpin + Send + 'static> Source for StreamSource<A> {
    async fn fill<R: Runtime>(mut self, _runtime: &R, mut fill: SegmentFill) -> Filled<Self> {
        let mut outcome = Ok(Flow::Full);
        while fill.room_bytes() > 0 {
            match self.stream.read(fill.room()).await {
                Ok(0) => {
                    outcome = Ok(Flow::Ended);
                    break;
                }
                Ok(count) => {
                    fill.advance(count);
                    self.entry.bytes += count_bytes(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = Some(self.entry.meta.path.clone());
                    outcome = Err(SourceError { path, source });
                    break;
                }
            }
        }
        Filled {
            source: self,
            fill,
            outcome,
        }
    }

    fn entries(self) -> (UploadKind, Vec<ReadEntry>) {
        (UploadKind::File, vec![self.entry])
    }
}
