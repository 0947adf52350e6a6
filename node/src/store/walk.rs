//! Walking a pack from header to header.

use cairn_proofs::hash_shard;
use cairn_runtime::{Disk, DiskError, DiskFile};

use super::format::{HEADER_BYTES, PAGE_BYTES, ShardHeader, StoreKey, index};
use super::index::Location;
use super::pack::{Head, PackFiles};

/// Bytes read at once where shards are small, or where a header was not found at its place.
const WINDOW_BYTES: u32 = 256 << 10;
/// Shards from this size on are jumped over, reading a page each.
const JUMP_BYTES: u32 = 64 << 10;

/// What is in a pack.
#[derive(Debug)]
pub(super) struct Walk {
    /// The headers, by offset.
    pub(super) headers: Vec<ShardHeader>,
    /// Size of the file.
    pub(super) bytes: u32,
    /// Pages where a header should have been and was not.
    pub(super) strange_pages: u32,
    /// Whether the disk could read all of it.
    pub(super) is_readable: bool,
}

impl Walk {
    /// So much of the pack was durable for certain when its newest header was written.
    pub(super) fn durable_to(&self) -> u32 {
        let all = self.headers.iter().map(|header| header.durable_to);
        all.max().unwrap_or(PAGE_BYTES).max(PAGE_BYTES)
    }

    /// End of the last shard.
    pub(super) fn end(&self) -> u32 {
        self.headers.last().map_or(PAGE_BYTES, ShardHeader::end)
    }
}

/// Finds every shard of a pack. A page that should be a header and is none is skipped: damage of
/// one shard does not hide those after it.
pub(super) fn walk<D: Disk>(
    packs: &PackFiles<D>,
    key: &StoreKey,
    number: u32,
) -> Result<Walk, DiskError> {
    let file = packs.file(number)?;
    let bytes = u32::try_from(file.len()?).unwrap_or(u32::MAX);
    let mut window = Window {
        file: &*file,
        file_bytes: bytes,
        start: 0,
        bytes: Vec::new(),
        is_readable: true,
    };
    let mut walk = Walk {
        headers: Vec::new(),
        bytes,
        strange_pages: 0,
        is_readable: true,
    };
    let mut offset = PAGE_BYTES;
    let mut next_bytes = WINDOW_BYTES;
    while offset < bytes {
        let page = window.at(offset, next_bytes);
        let header = page.and_then(|page| ShardHeader::from_bytes(page, key, number, offset));
        match header.filter(|header| header.end() <= bytes) {
            Some(header) => {
                offset = header.end();
                next_bytes = if header.total_bytes() >= JUMP_BYTES {
                    PAGE_BYTES
                } else {
                    WINDOW_BYTES
                };
                walk.headers.push(header);
            }
            None => {
                walk.strange_pages += 1;
                offset += PAGE_BYTES;
                next_bytes = WINDOW_BYTES;
            }
        }
    }
    walk.is_readable = window.is_readable;
    Ok(walk)
}

/// Whether a shard is whole: head and bytes have their checksums and the root.
pub(super) fn is_whole<D: Disk>(
    packs: &PackFiles<D>,
    key: &StoreKey,
    header: &ShardHeader,
) -> Result<bool, DiskError> {
    let location = Location {
        pack: header.pack,
        offset: header.offset,
        data_offset: header.data_offset,
        shard_bytes: header.shard_bytes,
    };
    let head = packs.read_head(&location)?;
    if Head::parse(&head, key, &location).is_err() {
        return Ok(false);
    }
    let mut bytes = vec![0; index(header.shard_bytes)];
    packs.read_bytes(&location, 0, &mut bytes)?;
    Ok(hash_shard(&bytes).is_ok_and(|hashed| hashed.root == header.shard_root))
}

/// A part of a pack in memory.
struct Window<'a, F> {
    file: &'a F,
    file_bytes: u32,
    start: u32,
    bytes: Vec<u8>,
    /// No page could not be read so far.
    is_readable: bool,
}

impl<F: DiskFile> Window<'_, F> {
    /// At least a header's bytes at `offset`, reading up to `ahead` from there when they are not
    /// at hand; `None` when the file ends first, or the disk can't read them.
    fn at(&mut self, offset: u32, ahead: u32) -> Option<&[u8]> {
        let end = self.start + u32::try_from(self.bytes.len()).expect("a window is small");
        let header_bytes = u32::try_from(HEADER_BYTES).expect("a header is small");
        if offset < self.start || offset + header_bytes > end {
            let count = ahead.min(self.file_bytes - offset);
            self.start = offset;
            self.bytes.resize(index(count), 0);
            let read = self.file.read_exact_at(&mut self.bytes, u64::from(offset));
            if let Err(error) = read {
                tracing::warn!(offset, %error, "a part of a pack can't be read");
                self.bytes.clear();
                return self.page(offset);
            }
        }
        self.bytes.get(index(offset - self.start)..)
    }

    /// A bad sector near by must not hide this page.
    fn page(&mut self, offset: u32) -> Option<&[u8]> {
        let count = PAGE_BYTES.min(self.file_bytes - offset);
        self.bytes.resize(index(count), 0);
        match self.file.read_exact_at(&mut self.bytes, u64::from(offset)) {
            Ok(()) => Some(&self.bytes),
            Err(_) => {
                self.is_readable = false;
                self.bytes.clear();
                None
            }
        }
    }
}
