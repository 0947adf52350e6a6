//! Pack files: names, a bounded number of open handles, creation and removal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cairn_runtime::{Disk, DiskError, DiskFile, OpenMode};

use super::format::{
    DeadList, PAGE_BYTES, PackFile, ShardHeader, StoreIdentity, StoreKey, index, length,
};
use super::index::Location;
use super::lock;

/// Most packs open at once; a node with many terabytes has tens of thousands.
const OPEN_PACKS_MAX: usize = 256;
/// Suffix of a pack's name.
const PACK_SUFFIX: &str = ".pack";
/// Suffix of a dead list's name.
const DEAD_SUFFIX: &str = ".dead";
/// Suffix of the name of a pack's mark as suspect.
const SUSPECT_SUFFIX: &str = ".suspect";
/// Zeros for padding.
pub(super) static ZEROS: [u8; 4096] = [0; 4096];

/// The packs of a store.
#[derive(Debug)]
pub(super) struct PackFiles<D: Disk> {
    disk: D,
    folder: PathBuf,
    open: Mutex<OpenPacks<D::File>>,
}

#[derive(Debug)]
struct OpenPacks<F> {
    files: BTreeMap<u32, (Arc<F>, u64)>,
    /// Counts uses, to close the one not used for longest.
    uses: u64,
}

/// A file in the folder of packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PackName {
    Pack(u32),
    Dead(u32),
    Suspect(u32),
}

impl PackName {
    /// Reads a file's name; `None` for others.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let number = |stem: &str| {
            let number = stem.parse::<u32>().ok()?;
            (stem == format!("{number:08}")).then_some(number)
        };
        let (stem, kind): (&str, fn(u32) -> Self) =
            if let Some(stem) = name.strip_suffix(PACK_SUFFIX) {
                (stem, Self::Pack)
            } else if let Some(stem) = name.strip_suffix(SUSPECT_SUFFIX) {
                (stem, Self::Suspect)
            } else {
                (name.strip_suffix(DEAD_SUFFIX)?, Self::Dead)
            };
        number(stem).map(kind)
    }
}

impl<D: Disk> PackFiles<D> {
    pub(super) fn new(disk: D, folder: PathBuf) -> Self {
        let open = OpenPacks {
            files: BTreeMap::new(),
            uses: 0,
        };
        Self {
            disk,
            folder,
            open: Mutex::new(open),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn pack_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}{PACK_SUFFIX}"))
    }

    fn dead_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}{DEAD_SUFFIX}"))
    }

    fn suspect_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}{SUSPECT_SUFFIX}"))
    }

    /// The packs and what is beside them, by name.
    pub(super) fn list(&self) -> Result<Vec<PackName>, DiskError> {
        let mut names: Vec<PackName> = self
            .disk
            .list(&self.folder)?
            .iter()
            .filter_map(|entry| PackName::parse(&entry.name))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The open file of a pack.
    pub(super) fn file(&self, number: u32) -> Result<Arc<D::File>, DiskError> {
        {
            let mut open = lock(&self.open);
            open.uses += 1;
            let uses = open.uses;
            if let Some((file, used)) = open.files.get_mut(&number) {
                *used = uses;
                return Ok(Arc::clone(file));
            }
        }
        let file = self
            .disk
            .open(&self.pack_path(number), OpenMode::ReadWrite)?;
        Ok(self.keep_open(number, file))
    }

    fn keep_open(&self, number: u32, file: D::File) -> Arc<D::File> {
        let file = Arc::new(file);
        let mut open = lock(&self.open);
        open.uses += 1;
        let uses = open.uses;
        if open.files.len() >= OPEN_PACKS_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                open.files.remove(&oldest);
            }
        }
        open.files.insert(number, (Arc::clone(&file), uses));
        file
    }

    /// Makes an empty pack, durably: only then may shards go there.
    pub(super) fn create(&self, number: u32, key: StoreKey) -> Result<Arc<D::File>, DiskError> {
        let page = PackFile {
            number,
            store: StoreIdentity::new(key),
        };
        let file = self
            .disk
            .open(&self.pack_path(number), OpenMode::CreateNew)?;
        file.write_all_at(&[&page.page()], 0)?;
        file.sync()?;
        self.disk.sync_dir(&self.folder)?;
        Ok(self.keep_open(number, file))
    }

    /// Removes a pack without live shards, then what is beside it.
    pub(super) fn remove(&self, number: u32) -> Result<(), DiskError> {
        lock(&self.open).files.remove(&number);
        self.disk.remove_file(&self.pack_path(number))?;
        self.disk.sync_dir(&self.folder)?;
        self.remove_beside(number)
    }

    /// Removes the dead list and the mark of a pack that is gone, if it had them.
    pub(super) fn remove_beside(&self, number: u32) -> Result<(), DiskError> {
        for path in [self.dead_path(number), self.suspect_path(number)] {
            match self.disk.remove_file(&path) {
                Err(error) if !error.is_not_found() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Marks a pack as suspect, durably: its last batch is not known to have been durable, though
    /// another pack follows it.
    pub(super) fn mark_suspect(&self, number: u32) -> Result<(), DiskError> {
        self.disk.replace_file(&self.suspect_path(number), &[])
    }

    /// The first page of a pack; `None` when it is wrong.
    pub(super) fn first_page(&self, number: u32) -> Result<Option<PackFile>, DiskError> {
        let file = self.file(number)?;
        if file.len()? < u64::from(PAGE_BYTES) {
            return Ok(None);
        }
        let mut page = vec![0; index(PAGE_BYTES)];
        file.read_exact_at(&mut page, 0)?;
        Ok(PackFile::from_page(&page).filter(|file| file.number == number))
    }

    /// The dead list of a pack.
    pub(super) fn dead(&self, number: u32, key: &StoreKey) -> Result<DeadFile, DiskError> {
        let max = u64::from(u32::MAX);
        let bytes = match self.disk.read_file(&self.dead_path(number), max) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(DeadFile::None),
            Err(error) => return Err(error),
        };
        let list = key
            .open::<DeadList>(&bytes)
            .filter(|list| list.pack == number);
        Ok(list.map_or(DeadFile::Damaged, DeadFile::Read))
    }

    /// Replaces the dead list of a pack, durably. Returns its size.
    pub(super) fn write_dead(&self, list: &DeadList, key: &StoreKey) -> Result<u32, DiskError> {
        let bytes = key.seal(list);
        self.disk.replace_file(&self.dead_path(list.pack), &bytes)?;
        Ok(length(&bytes))
    }

    /// The head of a shard: header, record, outboard and what pads them.
    pub(super) fn read_head(&self, location: &Location) -> Result<Vec<u8>, DiskError> {
        let mut head = vec![0; index(location.data_offset)];
        let file = self.file(location.pack)?;
        file.read_exact_at(&mut head, u64::from(location.offset))?;
        Ok(head)
    }

    /// Bytes of a shard from `offset` on.
    pub(super) fn read_bytes(
        &self,
        location: &Location,
        offset: u32,
        buffer: &mut [u8],
    ) -> Result<(), DiskError> {
        let start = location.offset + location.data_offset + offset;
        self.file(location.pack)?
            .read_exact_at(buffer, u64::from(start))
    }
}

/// What was found in the place of a dead list.
#[derive(Debug)]
pub(super) enum DeadFile {
    None,
    Damaged,
    Read(DeadList),
}

/// A shard's head, taken apart.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) header: ShardHeader,
    pub(super) record: &'a [u8],
    pub(super) outboard: &'a [u8],
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadFault {
    Header,
    Body,
}

impl<'a> Head<'a> {
    /// Takes apart the head at `location`, with every checksum.
    pub(super) fn parse(
        bytes: &'a [u8],
        key: &StoreKey,
        location: &Location,
    ) -> Result<Self, HeadFault> {
        let header = ShardHeader::from_bytes(bytes, key, location.pack, location.offset)
            .filter(|header| header.data_offset == location.data_offset)
            .ok_or(HeadFault::Header)?;
        let body = bytes
            .get(super::format::HEADER_BYTES..)
            .ok_or(HeadFault::Header)?;
        let (record, rest) = body
            .split_at_checked(index(header.record_bytes))
            .ok_or(HeadFault::Body)?;
        let outboard = rest
            .get(..index(header.outboard_bytes))
            .ok_or(HeadFault::Body)?;
        if key.checksum(&[record, outboard]) != header.body_checksum {
            return Err(HeadFault::Body);
        }
        Ok(Self {
            header,
            record,
            outboard,
        })
    }
}
