//! Files of the operating system (Linux: holes, locks and data-only syncs are its calls).

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

use crate::{DirEntry, Disk, DiskError, DiskFile, EntryKind, OpenMode, Space};

/// Most parts in one system call: Linux' `IOV_MAX`.
const PARTS_MAX: usize = 1024;
/// Unit of `st_blocks`, whatever the file system's own block is.
const STAT_BLOCK_BYTES: u64 = 512;

/// The operating system's files.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RealDisk;

impl RealDisk {
    /// The operating system's files.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

/// An open file of the operating system.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: Arc<Path>,
}

/// An exclusive `flock`, released when dropped or when the process ends.
#[derive(Debug)]
pub struct RealLock {
    _file: File,
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn open(&self, path: &Path, mode: OpenMode) -> Result<RealFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::ReadWriteOrCreate => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path).map_err(at("open", path))?;
        let kind = file.metadata().map_err(at("open", path))?;
        if kind.is_dir() {
            return Err(at("open", path)(io::ErrorKind::IsADirectory.into()));
        }
        Ok(RealFile {
            file,
            path: Arc::from(path),
        })
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
            .collect();
        for folder in missing.into_iter().rev() {
            match std::fs::create_dir(folder) {
                // Somebody else was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                result => result.map_err(at("create folder", folder))?,
            }
            self.sync_dir(parent(folder))?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let list = || -> io::Result<Vec<DirEntry>> {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    // Removed since its name was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    metadata => metadata?,
                };
                let kind = match metadata.file_type() {
                    kind if kind.is_file() => EntryKind::File,
                    kind if kind.is_dir() => EntryKind::Directory,
                    _ => EntryKind::Other,
                };
                let bytes = match kind {
                    EntryKind::File => metadata.len(),
                    EntryKind::Directory | EntryKind::Other => 0,
                };
                let Ok(name) = entry.file_name().into_string() else {
                    let text = "a name is not UTF-8";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                };
                entries.push(DirEntry { name, kind, bytes });
            }
            entries.sort_by(|one, two| one.name.cmp(&two.name));
            Ok(entries)
        };
        list().map_err(at("list", path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        std::fs::rename(from, to).map_err(at("rename", from))
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_file(path).map_err(at("remove", path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_dir_all(path).map_err(at("remove folder", path))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let sync = || -> io::Result<()> {
            let folder = File::open(path)?;
            if !folder.metadata()?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            folder.sync_all()
        };
        sync().map_err(at("sync folder", path))
    }

    fn space(&self, path: &Path) -> Result<Space, DiskError> {
        let stat = rustix::fs::statvfs(path)
            .map_err(io::Error::from)
            .map_err(at("ask for the space of", path))?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> Result<RealLock, DiskError> {
        let lock = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        let file = lock().map_err(at("lock", path))?;
        Ok(RealLock { _file: file })
    }
}

impl RealFile {
    fn at(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        at(operation, &self.path)
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> Result<u64, DiskError> {
        let metadata = self
            .file
            .metadata()
            .map_err(self.at("ask for the size of"))?;
        Ok(metadata.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(self.at("read"))
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> Result<(), DiskError> {
        let mut offset = offset;
        for parts in parts.chunks(PARTS_MAX) {
            let mut slices: Vec<IoSlice<'_>> =
                parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut rest = &mut slices[..];
            // Leading empty parts would read as a write of nothing.
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let count =
                    rustix::io::retry_on_intr(|| rustix::io::pwritev(&self.file, rest, offset))
                        .map_err(io::Error::from)
                        .map_err(self.at("write"))?;
                if count == 0 {
                    return Err(self.at("write")(io::ErrorKind::WriteZero.into()));
                }
                IoSlice::advance_slices(&mut rest, count);
                let count = u64::try_from(count).expect("usize fits in u64 on our systems");
                offset = offset
                    .checked_add(count)
                    .expect("the kernel refuses offsets over i64::MAX");
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        self.file.set_len(bytes).map_err(self.at("set the size of"))
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> Result<(), DiskError> {
        if bytes == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, offset, bytes))
            .map_err(io::Error::from)
            .map_err(self.at("punch a hole in"))
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        let metadata = self
            .file
            .metadata()
            .map_err(self.at("ask for the size of"))?;
        Ok(metadata.blocks().saturating_mul(STAT_BLOCK_BYTES))
    }

    /// `fdatasync`: the content, and of the metadata what reading it back needs, so the size too.
    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(self.at("sync"))
    }
}

/// Turns a system error into ours.
fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// The folder that holds `path`'s name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More parts than one system call takes.
    const PART_COUNT: usize = 2 * PARTS_MAX + 3;

    #[test]
    fn writes_any_number_of_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(PART_COUNT).collect();
        let parts: Vec<&[u8]> = bytes.chunks(1).collect();
        file.write_all_at(&parts, 10).unwrap();
        file.write_all_at(&[], 0).unwrap();
        file.write_all_at(&[&[], &[]], 0).unwrap();
        let mut read = vec![0; PART_COUNT + 10];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read[..10], [0; 10]);
        assert_eq!(read[10..], bytes);
    }

    #[test]
    fn holes_give_room_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&[&vec![7; 1 << 20]], 0).unwrap();
        file.sync().unwrap();
        let full = file.allocated_bytes().unwrap();
        assert!(full >= 1 << 20);
        file.punch_hole(1 << 16, 1 << 19).unwrap();
        file.sync().unwrap();
        assert_eq!(file.allocated_bytes().unwrap(), full - (1 << 19));
        assert_eq!(file.len().unwrap(), 1 << 20);
        let mut byte = [1];
        file.read_exact_at(&mut byte, 1 << 17).unwrap();
        assert_eq!(byte, [0]);
        let space = RealDisk.space(folder.path()).unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
    }

    #[test]
    fn errors_name_the_path_and_what_was_done() {
        let error = RealDisk.open(Path::new("/nowhere/file"), OpenMode::ReadWriteOrCreate);
        let error = error.unwrap_err();
        assert!(error.is_not_found() && !error.is_full());
        assert!(error.to_string().starts_with("open /nowhere/file: "));
    }

    #[test]
    fn full_disks_are_told() {
        let full = Path::new("/dev/full");
        let file = RealDisk.open(full, OpenMode::ReadWrite).unwrap();
        assert!(file.write_all_at(&[b"x"], 0).unwrap_err().is_full());
    }
}
