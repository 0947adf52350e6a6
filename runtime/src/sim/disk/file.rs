//! A simulated file and its handles.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::content::{Content, FILE_BYTES_MAX};
use super::{Call, CallKind, DiskShared, EBADF, EFBIG, EINVAL, ENOSPC};
use crate::{DiskError, DiskFile};

/// A file, whatever its name is at the moment.
#[derive(Debug, Default)]
pub(super) struct FileCell {
    /// Taken after the disk's state.
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) content: Content,
    /// Whether a name leads to it.
    pub(super) linked: bool,
    /// Open handles of the running incarnation.
    pub(super) handles: u32,
    /// Whether a lock is held on it.
    pub(super) locked: bool,
}

impl FileCell {
    pub(super) fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().expect("no panic in the simulated disk")
    }
}

impl FileState {
    /// Bytes that count as used: those of a file without name and handle are free.
    pub(super) fn used_bytes(&self) -> u64 {
        if self.linked || self.handles > 0 {
            self.content.allocated_bytes()
        } else {
            0
        }
    }
}

/// An open file of a simulated disk. Fails for good when its machine goes down.
#[derive(Debug)]
pub struct SimFile {
    disk: Arc<DiskShared>,
    incarnation: u64,
    cell: Arc<FileCell>,
    path: PathBuf,
    access: Access,
}

/// What a handle may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    ReadWrite,
}

impl SimFile {
    /// A handle that its file already counts.
    pub(super) const fn new(
        disk: Arc<DiskShared>,
        incarnation: u64,
        cell: Arc<FileCell>,
        path: PathBuf,
        access: Access,
    ) -> Self {
        Self {
            disk,
            incarnation,
            cell,
            path,
            access,
        }
    }

    fn call(&self, operation: &'static str, kind: CallKind) -> Call<'_> {
        Call {
            operation,
            path: &self.path,
            kind,
            incarnation: self.incarnation,
            words: [0; 2],
            content: &[],
            read_only_error: EBADF,
        }
    }

    /// Changes the content and counts the bytes that it takes.
    fn change<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&mut Content, u64) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        self.disk.call(call, |state| {
            if self.access == Access::Read {
                return Err(io::Error::from_raw_os_error(call.read_only_error));
            }
            let mut file = self.cell.state();
            let before = file.used_bytes();
            let result = work(&mut file.content, state.free_bytes());
            state.account(before, file.used_bytes());
            result
        })
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> Result<u64, DiskError> {
        let call = self.call("ask for the size of", CallKind::Read);
        self.disk
            .call(&call, |_| Ok(self.cell.state().content.bytes()))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let length = length_of(buffer);
        let mut call = self.call("read", CallKind::Read);
        call.words = [offset, length];
        self.disk.call(&call, |state| {
            let mut file = self.cell.state();
            if let Some((at, bit)) = state.rot(offset, length) {
                file.content.flip(at, bit);
            }
            if file.content.read(buffer, offset) {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        })
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> Result<(), DiskError> {
        let joined;
        let content = match parts {
            [only] => only,
            _ => {
                joined = parts.concat();
                &joined[..]
            }
        };
        if content.is_empty() {
            return Ok(());
        }
        let mut call = self.call("write", CallKind::Change);
        call.words = [offset, length_of(content)];
        call.content = content;
        self.change(&call, |file, free| {
            let end = offset.checked_add(length_of(content));
            if end.is_none_or(|end| end > FILE_BYTES_MAX) {
                return Err(io::Error::from_raw_os_error(EFBIG));
            }
            let fits = file.fits(offset, content.len(), free);
            file.write(&content[..fits], offset);
            if fits < content.len() {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        let mut call = self.call("set the size of", CallKind::Change);
        call.words = [bytes, 0];
        call.read_only_error = EINVAL;
        self.change(&call, |file, _| {
            if bytes > FILE_BYTES_MAX {
                return Err(io::Error::from_raw_os_error(EFBIG));
            }
            file.set_len(bytes);
            Ok(())
        })
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> Result<(), DiskError> {
        if bytes == 0 {
            return Ok(());
        }
        let mut call = self.call("punch a hole in", CallKind::Change);
        call.words = [offset, bytes];
        self.change(&call, |file, _| {
            let end = offset.checked_add(bytes);
            let Some(end) = end.filter(|end| *end <= FILE_BYTES_MAX) else {
                return Err(io::Error::from_raw_os_error(EFBIG));
            };
            file.punch(offset..end);
            Ok(())
        })
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        let call = self.call("ask for the size of", CallKind::Read);
        self.disk
            .call(&call, |_| Ok(self.cell.state().content.allocated_bytes()))
    }

    fn sync(&self) -> Result<(), DiskError> {
        let call = self.call("sync", CallKind::Sync);
        let result = self.disk.call(&call, |_| {
            self.cell.state().content.sync();
            Ok(())
        });
        if result.is_err() && self.disk.power.is_up(self.incarnation) {
            self.cell.state().content.doom();
        }
        result
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.close(self.incarnation, |state| {
            let mut file = self.cell.state();
            let before = file.used_bytes();
            file.handles = file.handles.saturating_sub(1);
            state.account(before, file.used_bytes());
        });
    }
}

/// An exclusive lock on a simulated disk.
#[derive(Debug)]
pub struct SimLock {
    disk: Arc<DiskShared>,
    incarnation: u64,
    cell: Arc<FileCell>,
}

impl SimLock {
    /// A lock that is marked on its file.
    pub(super) const fn new(disk: Arc<DiskShared>, incarnation: u64, cell: Arc<FileCell>) -> Self {
        Self {
            disk,
            incarnation,
            cell,
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk
            .close(self.incarnation, |_| self.cell.state().locked = false);
    }
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("usize fits in u64 on our systems")
}
