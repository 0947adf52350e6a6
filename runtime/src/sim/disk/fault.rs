//! What can go wrong with a simulated disk, and the switches for it.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Call, CallKind, DiskShared, DiskState, Names, PAGE_BYTES, names};
use crate::DiskError;

/// What happens in a planned disk call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It fails with an input/output error, and nothing is changed.
    Error,
    /// The power goes out in it: it may have happened in part, and the machine is down.
    PowerLoss,
}

/// How often disk calls go wrong by themselves, each in a million. Default: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Reads that fail with an input/output error.
    pub read_errors: u32,
    /// Writes and changes of names that do.
    pub write_errors: u32,
    /// Syncs that do; what they should have made durable never will be.
    pub sync_errors: u32,
    /// Reads in which a bit of what is read flips on the medium, for good.
    pub read_flips: u32,
}

/// How long disk calls keep the disk busy. [`crate::Runtime::blocking`] waits for it; calls made
/// elsewhere count towards the next one. Default: no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpeed {
    /// Every call.
    pub per_call: Duration,
    /// Every sync, besides.
    pub per_sync: Duration,
    /// Every mebibyte read or written, besides.
    pub per_mebibyte: Duration,
}

impl DiskSpeed {
    pub(super) fn cost(&self, call: &Call<'_>) -> Duration {
        let [_, bytes] = call.words;
        let nanos = self
            .per_mebibyte
            .as_nanos()
            .saturating_mul(u128::from(bytes))
            >> 20;
        let transfer = u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos);
        let base = match call.kind {
            CallKind::Read | CallKind::Change => self.per_call,
            CallKind::Sync => self.per_call.saturating_add(self.per_sync),
        };
        base.saturating_add(transfer)
    }
}

/// The cause of every disk error after a simulated machine went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated machine is down")]
pub struct MachineDown;

/// Whether a disk call failed because its simulated machine is down, which no real code may tell
/// apart from other errors: for tests.
#[must_use]
pub fn is_machine_down(error: &DiskError) -> bool {
    let cause = error.source.get_ref();
    cause.is_some_and(|cause| cause.is::<MachineDown>())
}

impl DiskState {
    /// What goes wrong in the next call, which is counted.
    pub(super) fn next_fault(&mut self, kind: CallKind) -> Option<DiskFault> {
        let number = self.calls;
        self.calls += 1;
        let rate = match kind {
            CallKind::Read => self.faults.read_errors,
            CallKind::Change => self.faults.write_errors,
            CallKind::Sync => self.faults.sync_errors,
        };
        let by_rate = self.rng.chance(rate);
        match self.planned.remove(&number) {
            Some(fault) => Some(fault),
            None if self.broken || by_rate => Some(DiskFault::Error),
            None => None,
        }
    }

    /// Which bit of a range that is read flips now: offset in the file and bit.
    pub(super) fn rot(&mut self, offset: u64, length: u64) -> Option<(u64, u32)> {
        if length == 0 || !self.rng.chance(self.faults.read_flips) {
            return None;
        }
        let at = offset.saturating_add(self.rng.below(length));
        let bit = u32::try_from(self.rng.below(8)).expect("below 8");
        Some((at, bit))
    }
}

/// The switches; they take no part in the count of calls.
impl DiskShared {
    pub(in crate::sim) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(in crate::sim) fn plan(&self, after: u64, fault: DiskFault) {
        let mut state = self.state();
        let number = state.calls.saturating_add(after);
        state.planned.insert(number, fault);
    }

    pub(in crate::sim) fn unplan(&self) {
        self.state().planned.clear();
    }

    pub(in crate::sim) fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    pub(in crate::sim) fn break_all(&self) {
        self.state().broken = true;
    }

    pub(in crate::sim) fn mend(&self) {
        self.state().broken = false;
    }

    pub(in crate::sim) fn set_speed(&self, speed: DiskSpeed) {
        self.state().speed = speed;
    }

    pub(in crate::sim) fn set_capacity(&self, bytes: u64) {
        self.state().total_bytes = bytes / PAGE_BYTES * PAGE_BYTES;
    }

    pub(in crate::sim) fn used_bytes(&self) -> u64 {
        self.state().used_bytes
    }

    pub(in crate::sim) fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let files = state.names.files();
        files
            .map(|(path, file)| (path.clone(), file.state().content.bytes()))
            .collect()
    }

    /// Everything is gone: another disk is in its place.
    pub(in crate::sim) fn wipe(&self) {
        let mut state = self.state();
        state.names = Names::default();
        state.close_all();
        state.broken = false;
        state.faults = DiskFaults::default();
        state.planned.clear();
    }

    /// Flips `count` bits of a range; how many had a medium to flip on.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub(in crate::sim) fn flip_bits(
        &self,
        path: &Path,
        range: Range<u64>,
        count: u32,
    ) -> io::Result<u32> {
        let mut state = self.state();
        let file = state.names.file(&names::normal(path)?)?;
        let mut file = file.state();
        let end = range.end.min(file.content.bytes());
        let mut flipped = 0;
        for _ in 0..count {
            if range.start >= end {
                break;
            }
            let at = range.start + state.rng.below(end - range.start);
            let bit = u32::try_from(state.rng.below(8)).expect("below 8");
            flipped += u32::from(file.content.flip(at, bit));
        }
        Ok(flipped)
    }
}
