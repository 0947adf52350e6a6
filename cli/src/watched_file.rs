//! Files that are read into an upload, and what is odd about them: an entry that has no content to
//! store, a file that was written to while it was read.
//!
//! Neither fails the upload. Both are said at its end, for what is stored is then not quite what
//! is on this machine's disk.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How often one oddity was met, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddity {
    /// How often.
    pub(crate) count: u64,
    /// Where first.
    pub(crate) first: Option<PathBuf>,
}

impl Oddity {
    fn add(&mut self, path: &Path) {
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert_with(|| path.to_owned());
    }
}

/// What was odd so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Neither file, folder nor symbolic link.
    pub(crate) left_out: Oddity,
    /// Written to while being read.
    pub(crate) changed: Oddity,
}

/// Where readers note what is odd.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oddities {
    found: Arc<Mutex<Found>>,
}

impl Oddities {
    /// Notes what is neither file, folder nor symbolic link.
    pub(crate) fn left_out(&self, path: &Path) {
        self.note(|found| found.left_out.add(path));
    }

    /// What was odd so far.
    pub(crate) fn found(&self) -> Found {
        let mut copy = Found::default();
        self.note(|found| copy = found.clone());
        copy
    }

    fn note(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A file that notes at its end whether it was written to since it was opened.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    file: File,
    path: PathBuf,
    /// As it was before the first read; none when its end was met.
    before: Option<Metadata>,
    oddities: Oddities,
}

impl WatchedFile {
    /// Watches an open file.
    ///
    /// # Errors
    ///
    /// The system's, when it does not say how the file stands.
    pub(crate) fn new(file: File, path: &Path, oddities: Oddities) -> io::Result<Self> {
        // The times of a pipe or a device say nothing about what is read from it.
        let before = Some(file.metadata()?).filter(Metadata::is_file);
        Ok(Self {
            file,
            path: path.to_owned(),
            before,
            oddities,
        })
    }
}

impl Read for WatchedFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        if count == 0
            && !into.is_empty()
            && let Some(before) = self.before.take()
            && stamp(&before) != stamp(&self.file.metadata()?)
        {
            let Self { oddities, path, .. } = self;
            oddities.note(|found| found.changed.add(path));
        }
        Ok(count)
    }
}

/// What changes when a file is written to.
fn stamp(found: &Metadata) -> (u64, i64, i64) {
    (found.len(), found.mtime(), found.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_all(file: &mut WatchedFile) {
        io::copy(file, &mut io::sink()).unwrap();
    }

    #[test]
    fn a_file_that_shrinks_or_grows_while_it_is_read_is_noted_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for change in [3, 100] {
            fs::write(&path, "ten bytes.").unwrap();
            let oddities = Oddities::default();
            let file = File::open(&path).unwrap();
            let mut file = WatchedFile::new(file, &path, oddities.clone()).unwrap();
            file.read_exact(&mut [0; 2]).unwrap();
            let writer = File::options().write(true).open(&path).unwrap();
            writer.set_len(change).unwrap();
            read_all(&mut file);
            read_all(&mut file);
            let changed = oddities.found().changed;
            assert_eq!((changed.count, changed.first), (1, Some(path.clone())));
        }
    }

    #[test]
    fn a_file_that_nobody_writes_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "ten bytes.").unwrap();
        let oddities = Oddities::default();
        let file = File::open(&path).unwrap();
        let mut file = WatchedFile::new(file, &path, oddities.clone()).unwrap();
        read_all(&mut file);
        assert_eq!(oddities.found(), Found::default());
    }
}
