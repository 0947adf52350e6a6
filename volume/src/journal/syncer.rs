//! What makes the journal durable, beside those who write to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_runtime::{Disk, DiskError, DiskFile};

use super::JournalError;

/// Makes a journal durable. Cheap to clone; used without holding the journal, so that changes go on while
/// the disk works, and calls at one time share its work.
#[derive(Debug)]
pub struct Syncer<D: Disk> {
    shared: Arc<Shared<D::File>>,
}

impl<D: Disk> Clone for Syncer<D> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl<D: Disk> Syncer<D> {
    pub(super) const fn new(shared: Arc<Shared<D::File>>) -> Self {
        Self { shared }
    }

    /// Makes durable what was appended so far, and gives the last sequence number that is. Blocks.
    ///
    /// # Errors
    ///
    /// [`JournalError::Failed`]: nothing can be said of what was not durable before.
    pub fn sync(&self) -> Result<u64, JournalError> {
        self.shared.sync()
    }
}

/// How far a journal is written and durable.
#[derive(Debug)]
pub(super) struct Shared<F> {
    /// Held while files are synced. Taken before `written`.
    turn: Mutex<()>,
    written: Mutex<Written<F>>,
}

#[derive(Debug)]
struct Written<F> {
    /// The last record that was written.
    sequence: u64,
    /// The last of those that are durable.
    durable: u64,
    /// Files with records that are not, in order; no more than the journal has.
    unsynced: Vec<Arc<F>>,
    /// Why nothing is changed any more.
    fault: Option<Arc<DiskError>>,
}

impl<F> Shared<F> {
    /// All up to here is durable.
    pub(super) const fn new(sequence: u64) -> Self {
        Self {
            turn: Mutex::new(()),
            written: Mutex::new(Written {
                sequence,
                durable: sequence,
                unsynced: Vec::new(),
                fault: None,
            }),
        }
    }

    fn written(&self) -> MutexGuard<'_, Written<F>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses when an earlier change failed.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        self.written().check()
    }

    /// A change failed: the journal is not used any more. Gives the first such cause.
    pub(super) fn fail(&self, error: DiskError) -> JournalError {
        let mut written = self.written();
        let first = written.fault.get_or_insert_with(|| Arc::new(error));
        JournalError::Failed(Arc::clone(first))
    }

    pub(super) fn durable(&self) -> u64 {
        self.written().durable
    }

    /// A record was written to a file.
    pub(super) fn wrote(&self, sequence: u64, file: &Arc<F>) {
        let mut written = self.written();
        written.sequence = sequence;
        let last = written.unsynced.last();
        if !last.is_some_and(|last| Arc::ptr_eq(last, file)) {
            written.unsynced.push(Arc::clone(file));
        }
    }

    /// Numbers up to here are not used.
    pub(super) fn skip_to(&self, sequence: u64) {
        self.written().sequence = sequence;
    }
}

impl<F: DiskFile> Shared<F> {
    pub(super) fn sync(&self) -> Result<u64, JournalError> {
        let wanted = self.written().sequence;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (sequence, files) = {
            let mut written = self.written();
            written.check()?;
            // Whoever had the turn before may have done it.
            if written.durable >= wanted {
                return Ok(written.durable);
            }
            (written.sequence, std::mem::take(&mut written.unsynced))
        };
        for file in &files {
            file.sync().map_err(|error| self.fail(error))?;
        }
        let mut written = self.written();
        written.durable = written.durable.max(sequence);
        Ok(written.durable)
    }
}

impl<F> Written<F> {
    fn check(&self) -> Result<(), JournalError> {
        match &self.fault {
            Some(first) => Err(JournalError::Failed(Arc::clone(first))),
            None => Ok(()),
        }
    }
}
