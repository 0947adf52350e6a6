//! A simulated disk: a file system in memory that breaks every promise that it did not make.
//!
//! It gives what [`crate::disk`] guarantees and no more. Every call is counted, so that a test can
//! let the n-th fail or let the power go out in it, and is guarded: a handle of an incarnation
//! that is gone can't touch it.
//!
//! Not simulated: hard and symbolic links, `..`, renames of folders, room that names take.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::executor::Executor;
use super::machine::{MachineId, Power};
use super::rng::SimRng;
use crate::{DirEntry, Disk, DiskError, EntryKind, OpenMode, Space};

mod content;
mod fault;
mod file;
mod names;

use content::{Mood, PAGE_BYTES};
pub use fault::{DiskFault, DiskFaults, DiskSpeed, MachineDown, is_machine_down};
use file::{Access, FileCell};
pub use file::{SimFile, SimLock};
use names::{Found, Names};

/// Size of a disk that no test has set.
const DISK_BYTES: u64 = 1 << 40;
/// Linux' error numbers for what happens here.
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;

/// The disk of one incarnation of a simulated machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<DiskShared>,
    incarnation: u64,
}

/// The disk of a machine, through all its incarnations.
#[derive(Debug)]
pub(super) struct DiskShared {
    machine: MachineId,
    power: Arc<Power>,
    executor: Arc<Executor>,
    /// Taken before a file's.
    state: Mutex<DiskState>,
}

#[derive(Debug)]
struct DiskState {
    names: Names,
    used_bytes: u64,
    total_bytes: u64,
    calls: u64,
    planned: BTreeMap<u64, DiskFault>,
    faults: DiskFaults,
    broken: bool,
    rng: SimRng,
    speed: DiskSpeed,
    /// Until when the work so far keeps the disk busy, in virtual time.
    busy_until: Duration,
}

/// One call, as the trace and the faults see it.
struct Call<'a> {
    operation: &'static str,
    path: &'a Path,
    kind: CallKind,
    incarnation: u64,
    /// Offset and length, where there are.
    words: [u64; 2],
    /// What is written.
    content: &'a [u8],
    /// What changing a file meets that is open only to read.
    read_only_error: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallKind {
    Read,
    Change,
    Sync,
}

impl DiskShared {
    pub(super) fn new(
        machine: MachineId,
        power: Arc<Power>,
        executor: Arc<Executor>,
        rng: SimRng,
    ) -> Self {
        Self {
            machine,
            power,
            executor,
            state: Mutex::new(DiskState {
                names: Names::default(),
                used_bytes: 0,
                total_bytes: DISK_BYTES,
                calls: 0,
                planned: BTreeMap::new(),
                faults: DiskFaults::default(),
                broken: false,
                rng,
                speed: DiskSpeed::default(),
                busy_until: Duration::ZERO,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().expect("no panic in the simulated disk")
    }

    /// The door that every call goes through: incarnation, count, trace, faults, then `work`.
    fn call<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&mut DiskState) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        self.guarded(call, work).map_err(|source| DiskError {
            operation: call.operation,
            path: call.path.to_owned(),
            source,
        })
    }

    fn guarded<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&mut DiskState) -> io::Result<T>,
    ) -> io::Result<T> {
        if !self.power.is_up(call.incarnation) {
            return Err(io::Error::other(MachineDown));
        }
        let mut state = self.state();
        let [first, second] = call.words;
        let words = [u64::from(self.machine.number()), state.calls, first, second];
        self.executor.note(call.operation, &words, call.content);
        let path = call.path.as_os_str().as_encoded_bytes();
        self.executor.note("on path", &[], path);
        state.work(self.executor.now(), call);
        match state.next_fault(call.kind) {
            None => work(&mut state),
            Some(DiskFault::Error) => Err(io::Error::from_raw_os_error(EIO)),
            Some(DiskFault::PowerLoss) => {
                if call.kind == CallKind::Change {
                    // In flight: it may be among what comes through, and its error is not seen.
                    drop(work(&mut state));
                }
                self.power.cut();
                self.executor.flag_power_cut();
                state.lose_power();
                Err(io::Error::other(MachineDown))
            }
        }
    }

    /// Ends a handle or lock; those of an incarnation that is gone are already.
    fn close(&self, incarnation: u64, work: impl FnOnce(&mut DiskState)) {
        if self.power.is_up(incarnation) {
            work(&mut self.state());
        }
    }

    /// Power is gone: what is not durable is lost, or not.
    pub(super) fn lose_power(&self) {
        self.state().lose_power();
    }

    /// The process is gone: the system closes its handles and keeps all it wrote.
    pub(super) fn lose_process(&self) {
        self.state().close_all();
    }

    /// Until when the work so far keeps it busy, in virtual time.
    pub(super) fn busy_until(&self) -> Duration {
        self.state().busy_until
    }
}

impl DiskState {
    const fn free_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.used_bytes)
    }

    /// Counts a file that took `before` bytes and takes `after`.
    fn account(&mut self, before: u64, after: u64) {
        let used = self.used_bytes.checked_sub(before);
        self.used_bytes = used.expect("a file's bytes are counted") + after;
    }

    /// Counts the time of a call.
    fn work(&mut self, now: Duration, call: &Call<'_>) {
        let cost = self.speed.cost(call);
        self.busy_until = self.busy_until.max(now).saturating_add(cost);
    }

    /// All handles and locks are gone.
    fn close_all(&mut self) {
        for file in self.names.files_ever() {
            let mut file = file.state();
            file.handles = 0;
            file.locked = false;
            file.linked = false;
        }
        self.used_bytes = 0;
        for (_, file) in self.names.files() {
            let mut file = file.state();
            file.linked = true;
            self.used_bytes += file.used_bytes();
        }
    }

    fn lose_power(&mut self) {
        let moods = [Mood::LosesAll, Mood::KeepsAll, Mood::Mixed];
        let overall = moods[self.rng.index(moods.len())];
        let rng = &mut self.rng;
        let mood = |rng: &mut SimRng| match overall {
            Mood::Mixed => moods[rng.index(moods.len())],
            settled => settled,
        };
        for file in self.names.files_ever() {
            let mut file = file.state();
            if file.content.is_dirty() {
                let mood = mood(rng);
                file.content.lose_power(mood, rng);
            }
        }
        let mood = mood(rng);
        self.names.lose_power(mood, rng);
        self.close_all();
    }
}

impl SimDisk {
    pub(super) const fn new(shared: Arc<DiskShared>, incarnation: u64) -> Self {
        Self {
            shared,
            incarnation,
        }
    }

    fn call<T>(
        &self,
        operation: &'static str,
        path: &Path,
        kind: CallKind,
        work: impl FnOnce(&mut DiskState, PathBuf) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let call = Call {
            operation,
            path,
            kind,
            incarnation: self.incarnation,
            words: [0; 2],
            content: &[],
            read_only_error: EBADF,
        };
        self.shared
            .call(&call, |state| work(state, names::normal(path)?))
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, path: &Path, mode: OpenMode) -> Result<SimFile, DiskError> {
        let (kind, access) = match mode {
            OpenMode::Read => (CallKind::Read, Access::Read),
            OpenMode::ReadWrite => (CallKind::Read, Access::ReadWrite),
            OpenMode::ReadWriteOrCreate | OpenMode::CreateNew => {
                (CallKind::Change, Access::ReadWrite)
            }
        };
        let cell = self.call("open", path, kind, |state, full| {
            let cell = match (state.names.find(&full), mode) {
                (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(Found::Folder), _) => return Err(io::ErrorKind::IsADirectory.into()),
                (Ok(Found::File(cell)), _) => cell,
                (Err(error), OpenMode::Read | OpenMode::ReadWrite) => return Err(error),
                (Err(error), OpenMode::ReadWriteOrCreate | OpenMode::CreateNew) => {
                    make(state, full, error)?
                }
            };
            // Counted here, where the incarnation was checked; the handle's end counts it out.
            cell.state().handles += 1;
            Ok(cell)
        })?;
        let (disk, path) = (Arc::clone(&self.shared), path.to_owned());
        Ok(SimFile::new(disk, self.incarnation, cell, path, access))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.call("create folder", path, CallKind::Change, |state, full| {
            state.names.create_folders(&full)
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.call("list", path, CallKind::Read, |state, full| {
            state.names.folder(&full)?;
            let entries = state.names.list(&full).into_iter();
            let entries = entries.map(|(name, found)| match found {
                Found::File(file) => DirEntry {
                    name,
                    kind: EntryKind::File,
                    bytes: file.state().content.bytes(),
                },
                Found::Folder => DirEntry {
                    name,
                    kind: EntryKind::Directory,
                    bytes: 0,
                },
            });
            Ok(entries.collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.call("rename", from, CallKind::Change, |state, full| {
            if let Some(replaced) = state.names.rename(full, names::normal(to)?)? {
                unlink(state, &replaced);
            }
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.call("remove", path, CallKind::Change, |state, full| {
            let removed = state.names.remove(full)?;
            unlink(state, &removed);
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.call("remove folder", path, CallKind::Change, |state, full| {
            for removed in state.names.remove_folders(full)? {
                unlink(state, &removed);
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.call("sync folder", path, CallKind::Sync, |state, full| {
            state.names.folder(&full)?;
            state.names.sync(&full);
            Ok(())
        })
    }

    fn space(&self, path: &Path) -> Result<Space, DiskError> {
        let operation = "ask for the space of";
        self.call(operation, path, CallKind::Read, |state, full| {
            state.names.find(&full)?;
            Ok(Space {
                total_bytes: state.total_bytes,
                free_bytes: state.free_bytes(),
            })
        })
    }

    fn lock(&self, path: &Path) -> Result<SimLock, DiskError> {
        let cell = self.call("lock", path, CallKind::Change, |state, full| {
            let cell = match state.names.file(&full) {
                Ok(cell) => cell,
                Err(error) => make(state, full, error)?,
            };
            if std::mem::replace(&mut cell.state().locked, true) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(cell)
        })?;
        let disk = Arc::clone(&self.shared);
        Ok(SimLock::new(disk, self.incarnation, cell))
    }
}

/// Makes an empty file where there was none; `error` is what looking for it met.
fn make(state: &mut DiskState, path: PathBuf, error: io::Error) -> io::Result<Arc<FileCell>> {
    if error.kind() != io::ErrorKind::NotFound {
        return Err(error);
    }
    let cell = Arc::new(FileCell::default());
    state.names.create(path, &cell)?;
    cell.state().linked = true;
    Ok(cell)
}

/// A file has lost its name.
fn unlink(state: &mut DiskState, file: &Arc<FileCell>) {
    let mut file = file.state();
    let before = file.used_bytes();
    file.linked = false;
    state.account(before, file.used_bytes());
}

#[cfg(test)]
mod tests;
