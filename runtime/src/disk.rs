//! The disk seam: what durable code may ask of a file system.
//!
//! Guarantees that callers may build on, and that the simulated disk enforces by breaking
//! everything else: bytes written are durable after [`DiskFile::sync`]; a created, renamed or
//! removed name of a file is durable after [`Disk::sync_dir`] of its folder, folders made by
//! [`Disk::create_dir_all`] at once; a crash may keep any subset of what was not synced, down to
//! parts of one write. A removed file stays usable through its open handles.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A failed disk call: what was done to which path, and the system's error.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct DiskError {
    /// What was attempted, as a verb: `open`, `write`, `sync`.
    pub operation: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl DiskError {
    /// Whether the disk has no room left, or the quota is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether the path does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// To read and write; made empty when it does not exist.
    ReadWriteOrCreate,
    /// To read and write; an error when it exists.
    CreateNew,
}

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// Anything else.
    Other,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the folder.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Size in bytes, for files.
    pub bytes: u64,
}

/// Room on the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size in bytes.
    pub total_bytes: u64,
    /// Bytes that this process may still use.
    pub free_bytes: u64,
}

/// A machine's file system. Calls block.
pub trait Disk: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// An exclusive lock on a path, released when dropped and by a crash.
    type Lock: fmt::Debug + Send + Sync + 'static;

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Self::File, DiskError>;

    /// Makes a folder and those above it, where they do not exist, durably: the names of folders
    /// made here need no [`Disk::sync_dir`].
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// The names in a folder, sorted.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError>;

    /// Renames a file, replacing `to` when it exists.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a folder and all in it.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Room on the file system that holds `path`.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn space(&self, path: &Path) -> Result<Space, DiskError>;

    /// Takes an exclusive lock on the file at `path`, made when it does not exist.
    ///
    /// # Errors
    ///
    /// [`DiskError`] of kind `WouldBlock` when another holds it.
    fn lock(&self, path: &Path) -> Result<Self::Lock, DiskError>;

    /// The whole content of a small file.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; also when it is larger than `bytes_max`.
    fn read_file(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DiskError> {
        let file = self.open(path, OpenMode::Read)?;
        let bytes = file.len()?;
        let error = |source| DiskError {
            operation: "read",
            path: path.to_owned(),
            source,
        };
        if bytes > bytes_max {
            let text = format!("expected at most {bytes_max} bytes, found {bytes}");
            return Err(error(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let count = usize::try_from(bytes)
            .map_err(|_| error(io::Error::from(io::ErrorKind::OutOfMemory)))?;
        let mut content = vec![0; count];
        file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// Replaces the content of a small file in one step: after a crash it is the old or the new.
    /// Writes `path` with `.new` appended, syncs, renames, syncs the folder.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; the old content stays.
    fn replace_file(&self, path: &Path, content: &[u8]) -> Result<(), DiskError> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let file = self.open(&fresh, OpenMode::ReadWriteOrCreate)?;
        file.set_len(0)?;
        file.write_all_at(&[content], 0)?;
        file.sync()?;
        drop(file);
        self.rename(&fresh, path)?;
        self.sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))
    }
}

/// An open file. Calls block; calls on one file from several threads are allowed.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Size in bytes.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; of kind `UnexpectedEof` when the file ends first.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError>;

    /// Writes the parts one after the other from `offset` on.
    ///
    /// # Errors
    ///
    /// [`DiskError`]; any part may have been written.
    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> Result<(), DiskError>;

    /// Cuts or extends the file with zeros.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn set_len(&self, bytes: u64) -> Result<(), DiskError>;

    /// Gives a range back to the file system; it reads as zeros. The size stays.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn punch_hole(&self, offset: u64, bytes: u64) -> Result<(), DiskError>;

    /// Bytes that the file takes on the disk; holes take none.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    fn allocated_bytes(&self) -> Result<u64, DiskError>;

    /// Makes the content and the size durable.
    ///
    /// # Errors
    ///
    /// [`DiskError`]. What was not durable before is then lost for good: later calls do not bring
    /// it back.
    fn sync(&self) -> Result<(), DiskError>;
}
