//! Bytes of packs and of the small files beside them, as in docs/protocol/shard-store.md.
//!
//! ```text
//! pack:  page 0 (pack file record, checksum) | shard | shard | ...        every part in 4 KiB pages
//! shard: header | checksum | segment record | outboard | pad | bytes | pad
//! ```
//!
//! Checksums are BLAKE3 keyed with the store's secret key, so that nobody can upload bytes that
//! read as a shard header.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::group::SEGMENTS_MAX;
use cairn_core::{
    Bounded, Digest, GroupId, Record, RecordKind, SegmentNumber, SegmentRecord, ShardRoot, Signed,
    SlotIndex, UnixMillis,
};
use cairn_ledger::tx::SlotRef;

/// Unit of alignment in packs: the page of the kernel's cache and the block of common file
/// systems, so that a hole frees whole blocks and a shard's bytes start on one.
pub const PAGE_BYTES: u32 = 4096;
/// A pack that has grown to this is sealed and a new one begun. Small enough to walk (0.2 s) and
/// to copy, large enough that 10 TB are 40,000 files.
pub const PACK_BYTES: u32 = 256 << 20;
/// Most bytes that one batch adds to a pack, and so the most that it may be over
/// [`PACK_BYTES`]; also what a recovery has to hash of the newest pack.
pub const BATCH_BYTES_MAX: u32 = 32 << 20;
/// Bytes of a checksum.
pub(super) const CHECKSUM_BYTES: usize = 32;
/// Bytes of an encoded [`ShardHeader`] and its checksum.
pub(super) const HEADER_BYTES: usize = ShardHeader::BYTES + CHECKSUM_BYTES;
/// Most bytes of an outboard: one 32-byte value per 16 KiB of the largest shard.
pub(super) const OUTBOARD_BYTES_MAX: u32 = SHARD_BYTES_MAX / (16 << 10) * 32;
/// Most records of a pack: each takes a page or more.
pub(super) const PACK_RECORDS_MAX: usize = 73_728;

const _: () = assert!(73_728 == (PACK_BYTES + BATCH_BYTES_MAX) / PAGE_BYTES);
const _: () = assert!(BATCH_BYTES_MAX > 2 * SHARD_BYTES_MAX);

/// Widens; lossless on the systems that we support.
pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).expect("u32 fits in usize on our systems")
}

/// The length of something that is bounded far below 4 GiB.
pub(super) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("bounded far below 4 GiB")
}

/// Up to the next page.
pub(super) const fn pages(bytes: u32) -> u32 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// The secret of a store under which its checksums are made.
#[derive(Clone, Copy)]
pub struct StoreKey([u8; 32]);

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKey")
    }
}

impl StoreKey {
    /// From secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The checksum of the parts, one after the other.
    pub(super) fn checksum(&self, parts: &[&[u8]]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// A record with its checksum, as small files hold it.
    pub(crate) fn seal<T: Record>(&self, record: &T) -> Vec<u8> {
        let mut bytes = record.encode();
        let checksum = self.checksum(&[&bytes]);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// Reads [`Self::seal`] back; `None` when anything is wrong.
    pub(crate) fn open<T: Record>(&self, bytes: &[u8]) -> Option<T> {
        let (record, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if self.checksum(&[record]).as_bytes() != checksum {
            return None;
        }
        T::decode(record).ok()
    }
}

/// What makes a folder a shard store. In the file `identity` and, through [`PackFile`], in every
/// pack, so that either can be lost.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct StoreIdentity {
    key: [u8; 32],
}

impl StoreIdentity {
    pub(super) const fn new(key: StoreKey) -> Self {
        Self { key: key.0 }
    }

    pub(super) const fn key(&self) -> StoreKey {
        StoreKey(self.key)
    }
}

impl Record for StoreIdentity {
    const KIND: RecordKind = RecordKind::StoreIdentity;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

/// The first page of a pack.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct PackFile {
    /// Its number, as in its name.
    pub(super) number: u32,
    /// The store.
    pub(super) store: StoreIdentity,
}

impl Record for PackFile {
    const KIND: RecordKind = RecordKind::PackFile;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 64;
}

impl PackFile {
    /// The first page: the record and its checksum, padded with zeros.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page = self.store.key().seal(self);
        page.resize(index(PAGE_BYTES), 0);
        page
    }

    /// Reads [`Self::page`]; `None` when it is wrong. It proves itself with the key that it has.
    pub(super) fn from_page(page: &[u8]) -> Option<Self> {
        const BYTES: usize = 3 + 4 + 32;
        let sealed = page.get(..BYTES + CHECKSUM_BYTES)?;
        let file = Self::decode(sealed.get(..BYTES)?).ok()?;
        file.store.key().open::<Self>(sealed)
    }
}

/// The fixed part of a shard's head. Everything that the index needs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct ShardHeader {
    /// Number of the pack that it is in.
    pub(super) pack: u32,
    /// Where in the pack the header is.
    pub(super) offset: u32,
    /// Rises with each shard put; the later of two under one number is the one that counts.
    pub(super) sequence: u64,
    /// So much of the pack was durable when this was written.
    pub(super) durable_to: u32,
    /// When it was put.
    pub(super) written_at: UnixMillis,
    /// The group.
    pub(super) group: GroupId,
    /// The slot.
    pub(super) slot: SlotIndex,
    /// The segment.
    pub(super) segment: SegmentNumber,
    /// Bytes of the shard.
    pub(super) shard_bytes: u32,
    /// Bytes of the signed segment record, which follows the checksum.
    pub(super) record_bytes: u32,
    /// Bytes of the outboard, which follows the record.
    pub(super) outboard_bytes: u32,
    /// Where the shard's bytes begin, from the header on.
    pub(super) data_offset: u32,
    /// The shard's identity.
    pub(super) shard_root: ShardRoot,
    /// Checksum of record and outboard.
    pub(super) body_checksum: Digest,
}

impl Record for ShardHeader {
    const KIND: RecordKind = RecordKind::PackHeader;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = Self::BYTES;

    fn is_well_formed(&self) -> bool {
        let head = u64::from(self.record_bytes)
            + u64::from(self.outboard_bytes)
            + u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
        self.shard_bytes > 0
            && self.shard_bytes <= SHARD_BYTES_MAX
            && u64::from(self.data_offset) >= head
            && u64::from(self.data_offset) <= head + u64::from(PAGE_BYTES)
            && self.outboard_bytes <= OUTBOARD_BYTES_MAX
            && index(self.record_bytes) <= Signed::<SegmentRecord>::BYTES_MAX
            && self.segment.get() < SEGMENTS_MAX
            && self.sequence > 0
    }
}

impl ShardHeader {
    /// Bytes of its encoding: every field has a fixed width.
    pub(super) const BYTES: usize = 3 + 4 + 4 + 8 + 4 + 8 + 32 + 1 + 5 * 4 + 32 + 32;

    /// Bytes of the whole shard in the pack, padding included.
    pub(super) const fn total_bytes(&self) -> u32 {
        pages(self.data_offset + self.shard_bytes)
    }

    /// Where the next one begins.
    pub(super) const fn end(&self) -> u32 {
        self.offset + self.total_bytes()
    }

    /// The header and its checksum.
    pub(super) fn to_bytes(&self, key: &StoreKey) -> Vec<u8> {
        let bytes = key.seal(self);
        assert_eq!(bytes.len(), HEADER_BYTES, "every field has a fixed width");
        bytes
    }

    /// The header at the start of `bytes`, if it is that of the shard at `offset` of `pack`.
    pub(super) fn from_bytes(bytes: &[u8], key: &StoreKey, pack: u32, offset: u32) -> Option<Self> {
        let sealed = bytes.get(..HEADER_BYTES)?;
        // Most pages that a scan meets are none: the kind tells without a checksum.
        if sealed.get(..2) != Some(&RecordKind::PackHeader.number().to_le_bytes()) {
            return None;
        }
        let header: Self = key.open(sealed)?;
        (header.pack == pack && header.offset == offset).then_some(header)
    }
}

/// Where a shard's bytes begin, from its header on: in the head's last page when they fit there
/// whole, on the next page otherwise.
pub(super) fn data_offset(record_bytes: u32, outboard_bytes: u32, shard_bytes: u32) -> u32 {
    let head = u32::try_from(HEADER_BYTES).expect("184") + record_bytes + outboard_bytes;
    if head + shard_bytes <= pages(head) {
        head
    } else {
        pages(head)
    }
}

/// Shards of a pack that are dead: replaced, expired, dropped, damaged or emptied. In the file
/// beside the pack, durable before their bytes are given back.
#[derive(Clone, Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct DeadList {
    /// Number of the pack.
    pub(super) pack: u32,
    /// Offsets of their headers, rising.
    pub(super) offsets: Bounded<u32, PACK_RECORDS_MAX>,
}

impl Record for DeadList {
    const KIND: RecordKind = RecordKind::DeadList;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16 + 4 * PACK_RECORDS_MAX;

    fn is_well_formed(&self) -> bool {
        self.offsets.is_sorted_by(|a, b| a < b)
    }
}

/// What the index needs of one shard in a pack.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct PackEntry {
    pub(super) offset: u32,
    pub(super) sequence: u64,
    pub(super) written_at: UnixMillis,
    pub(super) group: GroupId,
    pub(super) slot: SlotIndex,
    pub(super) segment: SegmentNumber,
    pub(super) shard_bytes: u32,
    pub(super) data_offset: u32,
    pub(super) shard_root: ShardRoot,
}

impl PackEntry {
    /// Bytes of its encoding.
    const BYTES: usize = 4 + 8 + 8 + 32 + 1 + 4 + 4 + 4 + 32;

    /// The slot.
    pub(super) const fn place(&self) -> SlotRef {
        SlotRef {
            group: self.group,
            slot: self.slot,
        }
    }

    /// Bytes in the pack.
    pub(super) const fn total_bytes(&self) -> u32 {
        pages(self.data_offset + self.shard_bytes)
    }
}

impl From<&ShardHeader> for PackEntry {
    fn from(header: &ShardHeader) -> Self {
        Self {
            offset: header.offset,
            sequence: header.sequence,
            written_at: header.written_at,
            group: header.group,
            slot: header.slot,
            segment: header.segment,
            shard_bytes: header.shard_bytes,
            data_offset: header.data_offset,
            shard_root: header.shard_root,
        }
    }
}

/// The cached index of a sealed pack.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct PackIndex {
    /// Number of the pack.
    pub(super) pack: u32,
    /// Its size when it was sealed.
    pub(super) bytes: u32,
    /// Its shards, by offset, dead ones included.
    pub(super) entries: Bounded<PackEntry, PACK_RECORDS_MAX>,
}

impl Record for PackIndex {
    const KIND: RecordKind = RecordKind::PackIndex;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16 + PackEntry::BYTES * PACK_RECORDS_MAX;
}
