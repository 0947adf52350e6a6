//! The task that writes what the network remembers: DHT records and known peers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_runtime::{Disk, DiskError, RealDisk, RealRuntime, Runtime};
use tokio::sync::mpsc;

use super::book::{BOOK_BYTES_MAX, Book};
use super::records::log::{Entry, RecordLog};

/// Name of the records' file in the state folder.
const RECORDS_FILE: &str = "dht-records";
/// Name of the peers' file in the state folder.
const PEERS_FILE: &str = "peers";

/// What changed.
#[derive(Debug)]
pub(super) struct Save {
    /// Whether `records` is everything, for a fresh file.
    pub(super) rewrite: bool,
    /// Records that changed, or all.
    pub(super) records: Vec<Entry>,
    /// The book, when it changed.
    pub(super) book: Option<Vec<u8>>,
}

impl Save {
    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.book.is_none() && !self.rewrite
    }
}

/// The files of one network.
#[derive(Debug)]
pub(super) struct Keeper {
    disk: RealDisk,
    log: RecordLog<RealDisk>,
    peers: PathBuf,
    wants_rewrite: Arc<AtomicBool>,
}

impl Keeper {
    /// Opens the files in `folder`; fills the book, returns the records.
    pub(super) fn open(
        disk: &RealDisk,
        folder: &std::path::Path,
        record_bytes_max: u64,
        book: &Book,
        wants_rewrite: Arc<AtomicBool>,
    ) -> Result<(Self, Vec<Entry>), DiskError> {
        disk.create_dir_all(folder)?;
        let peers = folder.join(PEERS_FILE);
        match disk.read_file(&peers, BOOK_BYTES_MAX) {
            Ok(content) => book.restore(&content),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let records = folder.join(RECORDS_FILE);
        let (log, entries) = RecordLog::open(disk.clone(), &records, record_bytes_max)?;
        let keeper = Self {
            disk: disk.clone(),
            log,
            peers,
            wants_rewrite,
        };
        Ok((keeper, entries))
    }

    /// Writes what comes, until nobody sends any more. A failure is told and costs what it was
    /// about: lookups after the next start, no data.
    pub(super) async fn run(mut self, runtime: RealRuntime, mut saves: mpsc::Receiver<Save>) {
        while let Some(save) = saves.recv().await {
            let work = move || {
                let done = self.save(&save);
                (self, done)
            };
            let (keeper, done) = runtime.blocking(work).await;
            self = keeper;
            if let Err(error) = done {
                tracing::warn!(%error, "known peers and records are not saved");
            }
        }
    }

    fn save(&mut self, save: &Save) -> Result<(), DiskError> {
        if save.rewrite {
            self.log.rewrite(&save.records)?;
        } else {
            self.log.append(&save.records)?;
        }
        let wants = self.log.wants_rewrite();
        self.wants_rewrite.store(wants, Ordering::Relaxed);
        match &save.book {
            Some(book) => self.disk.replace_file(&self.peers, book),
            None => Ok(()),
        }
    }
}
