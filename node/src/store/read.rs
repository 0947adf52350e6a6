//! Reading shards, and what happens when one turns out to be damaged.

use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_core::message::{ShardRange, WithRecord};
use cairn_core::{Record, SegmentRecord, ShardRoot, Signed};
use cairn_proofs::{
    Outboard, hash_shard, prove_range, verify_range, widen_to_blocks, widen_to_spans,
};
use cairn_runtime::{Disk, DiskError};

use super::error::{Damage, ShardPlace, StoreError};
use super::format::index;
use super::index::{Entry, Index};
use super::pack::{Head, HeadFault};
use super::{ShardStore, lock};

/// What the system says of a sector that it can't read.
const EIO: i32 = 5;
/// How often a read begins again when the shard was moved meanwhile.
const MOVES_MAX: u32 = 4;

/// Whether the bytes are verified against the shard root before they are returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Whoever gets them verifies them: serving.
    No,
    /// Scrub, catching up, moving.
    Yes,
}

/// A range of a shard.
#[derive(Clone, Debug)]
pub struct ShardRead {
    /// The segment record, when asked for.
    pub record: Option<Signed<SegmentRecord>>,
    /// The shard's identity.
    pub root: ShardRoot,
    /// The shard's size.
    pub shard_bytes: u32,
    /// The range asked for, widened to whole 1 KiB blocks.
    pub range: ShardRange,
    /// The siblings that prove it; empty for a whole shard.
    pub proof: Vec<u8>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Which bytes of a shard are wanted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The shard.
    pub shard: ShardPlace,
    /// The range; what is read covers it in whole 1 KiB blocks.
    pub range: ShardRange,
    /// Whether the segment record is wanted too.
    pub record: WithRecord,
    /// Whether the bytes are verified.
    pub check: Check,
}

/// What was read, but for the bytes, which are in the caller's buffer.
struct Filled {
    record: Option<Signed<SegmentRecord>>,
    root: ShardRoot,
    shard_bytes: u32,
    range: ShardRange,
    proof: Vec<u8>,
    /// Where in the buffer the range is.
    within: Range<usize>,
}

/// A failed read of a place where there is a shard.
enum ReadFault {
    Damage(Damage),
    /// The disk can't be asked now; says nothing about the shard.
    Disk(DiskError),
    Range,
}

impl<D: Disk> ShardStore<D> {
    /// Reads a range of a shard with its proof.
    ///
    /// # Errors
    ///
    /// As [`Self::read_into`].
    pub fn read(
        &self,
        shard: ShardPlace,
        range: ShardRange,
        record: WithRecord,
        check: Check,
    ) -> Result<ShardRead, StoreError> {
        let wanted = Wanted {
            shard,
            range,
            record,
            check,
        };
        self.read_into(&wanted, BytesMut::new())
    }

    /// Reads a range of a shard with its proof into the memory of `buffer`, which is not zeroed
    /// where it has been used for as much before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`], [`StoreError::Emptied`], [`StoreError::OutOfRange`],
    /// [`StoreError::Damaged`]: the shard is lacking from now on; [`StoreError::Disk`]: it may be
    /// read later.
    pub fn read_into(
        &self,
        wanted: &Wanted,
        mut buffer: BytesMut,
    ) -> Result<ShardRead, StoreError> {
        let filled = self.read_with(wanted.shard, |entry| {
            let bytes = entry.location.shard_bytes;
            let range = widen_to_blocks(bytes, wanted.range).map_err(|_| ReadFault::Range)?;
            if range.bytes == bytes {
                self.read_whole(entry, wanted, &mut buffer)
            } else {
                self.read_range(entry, range, wanted, &mut buffer)
            }
        })?;
        Ok(filled.with(buffer))
    }

    /// Reads a whole shard with its record.
    ///
    /// # Errors
    ///
    /// As [`Self::read_into`], without [`StoreError::OutOfRange`].
    pub fn read_shard(&self, shard: ShardPlace, check: Check) -> Result<ShardRead, StoreError> {
        let wanted = Wanted {
            shard,
            range: ShardRange {
                offset: 0,
                bytes: 1,
            },
            record: WithRecord::Yes,
            check,
        };
        let mut buffer = BytesMut::new();
        let filled = self.read_with(shard, |entry| self.read_whole(entry, &wanted, &mut buffer))?;
        Ok(filled.with(buffer))
    }

    /// Reads the signed segment record beside a shard.
    ///
    /// # Errors
    ///
    /// As [`Self::read_shard`].
    pub fn record(&self, shard: ShardPlace) -> Result<Signed<SegmentRecord>, StoreError> {
        self.read_with(shard, |entry| self.read_head(entry).map(|head| head.0))
    }

    /// Reads by the index; a shard that was moved meanwhile is read again at its new place, one
    /// that is damaged is taken out.
    fn read_with<T>(
        &self,
        shard: ShardPlace,
        read: impl FnMut(&Entry) -> Result<T, ReadFault>,
    ) -> Result<T, StoreError> {
        self.read_found(shard, Index::find, read)
    }

    /// Reads the outboard of a shard that a reached revision has, or had.
    ///
    /// # Errors
    ///
    /// As [`Self::read_shard`], without [`StoreError::Emptied`].
    pub(super) fn proved_outboard(&self, shard: ShardPlace) -> Result<Outboard, StoreError> {
        self.read_found(shard, Index::find_proved, |entry| {
            self.read_head(entry).map(|head| head.1)
        })
    }

    /// Reads bytes of a shard that a reached revision has, or had.
    ///
    /// # Errors
    ///
    /// As [`Self::read_into`], without [`StoreError::Emptied`].
    pub(super) fn proved_bytes(
        &self,
        shard: ShardPlace,
        range: ShardRange,
    ) -> Result<Vec<u8>, StoreError> {
        self.read_found(shard, Index::find_proved, |entry| {
            let end = range.offset.checked_add(range.bytes);
            end.filter(|end| *end <= entry.location.shard_bytes)
                .ok_or(ReadFault::Range)?;
            let mut bytes = vec![0; index(range.bytes)];
            let read = self
                .packs
                .read_bytes(&entry.location, range.offset, &mut bytes);
            read.map_err(unreadable).map(|()| bytes)
        })
    }

    fn read_found<T>(
        &self,
        shard: ShardPlace,
        find: impl Fn(&Index, ShardPlace) -> Result<Entry, StoreError>,
        mut read: impl FnMut(&Entry) -> Result<T, ReadFault>,
    ) -> Result<T, StoreError> {
        for _ in 0..MOVES_MAX {
            let entry = find(&lock(&self.index), shard)?;
            let result = read(&entry);
            let is_here = find(&lock(&self.index), shard).is_ok_and(|found| found == entry);
            if !is_here {
                continue;
            }
            return result.map_err(|fault| match fault {
                ReadFault::Range => StoreError::OutOfRange { shard },
                ReadFault::Disk(error) => error.into(),
                ReadFault::Damage(damage) => self.mark_damaged(shard, &entry, damage),
            });
        }
        Err(StoreError::Absent { shard })
    }

    fn read_whole(
        &self,
        entry: &Entry,
        wanted: &Wanted,
        buffer: &mut BytesMut,
    ) -> Result<Filled, ReadFault> {
        let shard_bytes = entry.location.shard_bytes;
        buffer.resize(index(shard_bytes), 0);
        self.packs
            .read_bytes(&entry.location, 0, buffer)
            .map_err(unreadable)?;
        if wanted.check == Check::Yes {
            let hashed = hash_shard(buffer).expect("a kept shard has 1 byte to 4 MiB");
            if hashed.root != entry.root {
                let found = hashed.root;
                return Err(ReadFault::Damage(Damage::Bytes { found }));
            }
        }
        let record = match (wanted.record, wanted.check) {
            (WithRecord::No, Check::No) => None,
            (WithRecord::Yes, _) | (_, Check::Yes) => {
                let (record, outboard) = self.read_head(entry)?;
                if outboard.root().is_some_and(|root| root != entry.root) {
                    return Err(ReadFault::Damage(Damage::Body));
                }
                Some(record)
            }
        };
        Ok(Filled {
            record,
            root: entry.root,
            shard_bytes,
            range: ShardRange {
                offset: 0,
                bytes: shard_bytes,
            },
            proof: Vec::new(),
            within: 0..index(shard_bytes),
        })
    }

    fn read_range(
        &self,
        entry: &Entry,
        range: ShardRange,
        wanted: &Wanted,
        buffer: &mut BytesMut,
    ) -> Result<Filled, ReadFault> {
        let shard_bytes = entry.location.shard_bytes;
        let spans = widen_to_spans(shard_bytes, range).map_err(|_| ReadFault::Range)?;
        buffer.resize(index(spans.bytes), 0);
        self.packs
            .read_bytes(&entry.location, spans.offset, buffer)
            .map_err(unreadable)?;
        let (signed, outboard) = self.read_head(entry)?;
        let within = |asked: ShardRange| {
            let start = index(asked.offset - spans.offset);
            start..start + index(asked.bytes)
        };
        let proof = prove_range(shard_bytes, range, &outboard, |asked| {
            buffer.get(within(asked)).ok_or(())
        })
        .map_err(|_| ReadFault::Damage(Damage::Body))?;
        let within = within(range);
        if wanted.check == Check::Yes {
            let bytes = buffer.get(within.clone()).unwrap_or_default();
            verify_range(entry.root, shard_bytes, range, bytes, proof.as_bytes())
                .map_err(|_| ReadFault::Damage(Damage::Range))?;
        }
        Ok(Filled {
            record: (wanted.record == WithRecord::Yes).then_some(signed),
            root: entry.root,
            shard_bytes,
            range,
            proof: proof.as_bytes().to_vec(),
            within,
        })
    }

    /// Record and outboard, with every checksum.
    fn read_head(&self, entry: &Entry) -> Result<(Signed<SegmentRecord>, Outboard), ReadFault> {
        let bytes = self.packs.read_head(&entry.location).map_err(unreadable)?;
        let head = Head::parse(&bytes, &self.key, &entry.location).map_err(|fault| {
            ReadFault::Damage(match fault {
                HeadFault::Header => Damage::Header,
                HeadFault::Body => Damage::Body,
            })
        })?;
        let header = &head.header;
        let same = header.shard_root == entry.root && header.sequence == entry.sequence;
        let record = Signed::<SegmentRecord>::decode(head.record).ok();
        let outboard = Outboard::from_bytes(header.shard_bytes, head.outboard).ok();
        match (same, record, outboard) {
            (true, Some(record), Some(outboard)) => Ok((record, outboard)),
            _ => Err(ReadFault::Damage(Damage::Body)),
        }
    }

    /// Takes a damaged shard out of the index: it is lacking now, and is caught up from others.
    /// Its bytes go too, unless the disk can't read them: it may after the next start.
    fn mark_damaged(&self, shard: ShardPlace, entry: &Entry, damage: Damage) -> StoreError {
        tracing::warn!(%shard, %damage, "a kept shard is damaged and counts as lacking");
        let _writer = lock(&self.writer);
        let taken = {
            let mut state = lock(&self.index);
            if state.is_current(shard, entry) {
                state.slot_mut(shard.slot).remove(shard.segment)
            } else {
                None
            }
        };
        let is_wrong = !matches!(damage, Damage::Unreadable(_));
        lock(&self.index).has_hidden |= !is_wrong;
        if let (Some(entry), true, Ok(())) = (taken, is_wrong, self.check_usable())
            && let Err(error) = self.release(&[entry.location])
        {
            tracing::warn!(%shard, %error, "a damaged shard could not be dropped");
        }
        StoreError::Damaged { shard, damage }
    }
}

/// A failed read is damage only when the bytes are gone: a bad sector, a file that is missing or
/// too short. Others, such as having no file handle or memory left, pass, and must cost no shard.
fn unreadable(error: DiskError) -> ReadFault {
    let gone = error.source.raw_os_error() == Some(EIO)
        || matches!(
            error.source.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::NotFound
        );
    if gone {
        ReadFault::Damage(Damage::Unreadable(Arc::new(error)))
    } else {
        ReadFault::Disk(error)
    }
}

impl Filled {
    /// With the bytes.
    fn with(self, buffer: BytesMut) -> ShardRead {
        ShardRead {
            record: self.record,
            root: self.root,
            shard_bytes: self.shard_bytes,
            range: self.range,
            proof: self.proof,
            bytes: buffer.freeze().slice(self.within),
        }
    }
}
