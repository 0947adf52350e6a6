//! Opening a journal: what is whole in it, what a crash cut off, what was damaged.
//!
//! A crash may leave any part of what was not synced, so behind the first record that is not whole there
//! may be whole ones, in that file and in those after it. They go: nobody was told that they are durable.
//! But every record says up to which one the journal was durable when it was written. If one of them says
//! so of the record that is not whole, this was no crash, and nothing is cut off.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use cairn_runtime::{Disk, DiskFile};

use super::file::{FILE_HEADER_BYTES, FILE_HEADER_BYTES_U64, JournalFile, Opened, count, path_of};
use super::mark::Mark;
use super::record::{self, Found, RecordHeader};
use super::{JournalError, Replay};

type Files<F> = BTreeMap<u64, JournalFile<F>>;

/// What a journal has.
#[derive(Debug)]
pub(super) struct Recovered<F> {
    /// Its files by number, cut to what is whole and durable; none when it is new.
    pub(super) files: Files<F>,
    /// Changes above the mark.
    pub(super) replays: Vec<Replay>,
    /// The sequence number of the next record.
    pub(super) next: u64,
}

/// Recovers the files of these numbers, in rising order.
pub(super) fn recover<D: Disk>(
    disk: &D,
    folder: &Path,
    mark: &Mark,
    numbers: &[u64],
) -> Result<Recovered<D::File>, JournalError> {
    let mut files = open_files(disk, folder, mark, numbers)?;
    if files.is_empty() && mark.count == 0 {
        return Ok(Recovered {
            files,
            replays: Vec::new(),
            next: 1,
        });
    }
    let above = mark.sequence.saturating_add(1);
    let start = files.iter().rev().find(|(_, file)| file.first <= above);
    let Some((start, first)) = start.map(|(number, file)| (*number, file.first)) else {
        return Err(JournalError::Missing {
            folder: folder.to_owned(),
            sequence: above,
        });
    };
    let mut walk = Walk::new(folder, mark.sequence, first);
    let (last, end) = walk.read_all(&mut files, start)?;
    let lost_durable = walk.next <= mark.sequence
        || (end == End::Torn && was_durable(folder, &files, last, walk.next)?);
    if lost_durable {
        let file = files.get(&last).expect("it was read");
        return Err(JournalError::Damaged {
            path: path_of(folder, last),
            offset: file.end,
        });
    }
    if end == End::Torn {
        cut(disk, folder, &mut files, last)?;
    }
    keep_referred(disk, folder, &mut files, (start, walk.replays.as_slice()))?;
    make_durable(disk, folder, &files, walk.unsure.front())?;
    Ok(Recovered {
        files,
        next: walk.next,
        replays: walk.replays,
    })
}

/// Opens all files. The last one may be one that the power went out at when it was made: it goes.
fn open_files<D: Disk>(
    disk: &D,
    folder: &Path,
    mark: &Mark,
    numbers: &[u64],
) -> Result<Files<D::File>, JournalError> {
    let mut files = Files::new();
    for number in numbers {
        let path = path_of(folder, *number);
        let may_be_new = numbers.last() == Some(number) && (mark.count == 0 || !files.is_empty());
        match JournalFile::open(disk, &path, &mark.id, *number)? {
            Opened::Whole(file) => {
                files.insert(*number, file);
            }
            Opened::Stillborn if may_be_new => {
                disk.remove_file(&path)?;
                disk.sync_dir(folder)?;
            }
            Opened::Stillborn | Opened::Damaged => {
                return Err(JournalError::Damaged { path, offset: 0 });
            }
        }
    }
    Ok(files)
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With a whole record.
    Whole,
    /// With something else, or what should follow does not.
    Torn,
}

/// A record that is whole and of which nothing says that it is durable.
#[derive(Clone, Copy, Debug)]
struct Unsure {
    sequence: u64,
    /// The file that it is in.
    number: u64,
    /// Where it begins.
    offset: u64,
}

/// A way through records in their order.
#[derive(Debug)]
struct Walk<'a> {
    folder: &'a Path,
    /// Records above this one are replayed.
    mark: u64,
    /// The sequence number that the next record must have.
    next: u64,
    /// All up to here was durable, as a record or the mark says.
    durable: u64,
    replays: Vec<Replay>,
    /// Those behind it.
    unsure: VecDeque<Unsure>,
}

impl<'a> Walk<'a> {
    const fn new(folder: &'a Path, mark: u64, next: u64) -> Self {
        Self {
            folder,
            mark,
            next,
            durable: mark,
            replays: Vec::new(),
            unsure: VecDeque::new(),
        }
    }

    /// Reads from a file on, up to what does not follow; the last file with something whole, and how it
    /// ends.
    fn read_all<F: DiskFile>(
        &mut self,
        files: &mut Files<F>,
        start: u64,
    ) -> Result<(u64, End), JournalError> {
        let mut last = start;
        for (number, file) in files.range_mut(start..) {
            if file.first != self.next {
                return Ok((last, End::Torn));
            }
            last = *number;
            if self.read(last, file)? == End::Torn {
                return Ok((last, End::Torn));
            }
        }
        Ok((last, End::Whole))
    }

    /// Reads a file's whole records.
    fn read<F: DiskFile>(
        &mut self,
        number: u64,
        file: &mut JournalFile<F>,
    ) -> Result<End, JournalError> {
        let path = path_of(self.folder, number);
        let content = file.content(&path)?;
        file.end = FILE_HEADER_BYTES_U64;
        let mut rest = content.get(FILE_HEADER_BYTES..).unwrap_or_default();
        while !rest.is_empty() {
            let found = record::whole(rest, &file.key, file.end);
            let Some(found) = found.filter(|found| found.header.sequence == self.next) else {
                return Ok(End::Torn);
            };
            let unsure = Unsure {
                sequence: self.next,
                number,
                offset: file.end,
            };
            if self.take(unsure, &found).is_none() {
                return Err(JournalError::Damaged {
                    path,
                    offset: file.end,
                });
            }
            file.end += found.header.record_bytes();
            rest = found.behind;
        }
        Ok(End::Whole)
    }

    /// Goes over a record; `None` when it is whole and has no changes that can be read.
    fn take(&mut self, record: Unsure, found: &Found<'_>) -> Option<()> {
        let sequence = record.sequence;
        if sequence > self.mark {
            let changes = record::decode_changes(found.changes)?;
            self.replays.push(Replay { sequence, changes });
        }
        self.next = sequence.saturating_add(1);
        self.unsure.push_back(record);
        self.durable = self.durable.max(found.header.durable);
        let durable = self.durable;
        while self
            .unsure
            .front()
            .is_some_and(|record| record.sequence <= durable)
        {
            self.unsure.pop_front();
        }
        Some(())
    }
}

/// Whether a record behind the end of the `last` file that was read says that the one of this sequence
/// number was durable.
fn was_durable<F: DiskFile>(
    folder: &Path,
    files: &Files<F>,
    last: u64,
    sequence: u64,
) -> Result<bool, JournalError> {
    for (number, file) in files.range(last..) {
        let content = file.content(&path_of(folder, *number))?;
        // Later files were not read: their end is where their records begin.
        let end = usize::try_from(file.end).unwrap_or(usize::MAX);
        let says_so = (end..content.len()).any(|at| {
            let bytes = content.get(at..).unwrap_or_default();
            let header = RecordHeader::decode(bytes, &file.key, count(at));
            header.is_some_and(|header| header.durable >= sequence)
        });
        if says_so {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes away, durably, what is behind the end of the `last` file that was read.
fn cut<D: Disk>(
    disk: &D,
    folder: &Path,
    files: &mut Files<D::File>,
    last: u64,
) -> Result<(), JournalError> {
    let later = files.split_off(&last.saturating_add(1));
    for number in later.keys().rev() {
        disk.remove_file(&path_of(folder, *number))?;
    }
    // Before anything else is written: a file of those must not come back behind it.
    disk.sync_dir(folder)?;
    let file = files.get(&last).expect("it was read");
    file.file.set_len(file.end)?;
    file.file.sync()?;
    let path = path_of(folder, last);
    tracing::warn!(
        path = %path.display(),
        offset = file.end,
        files = later.len(),
        "took back changes that a crash cut off"
    );
    Ok(())
}

/// Keeps of the files before `start` those that replays refer to, and removes the others. Checks that all
/// that replays refer to is there.
fn keep_referred<D: Disk>(
    disk: &D,
    folder: &Path,
    files: &mut Files<D::File>,
    (start, replays): (u64, &[Replay]),
) -> Result<(), JournalError> {
    let referred = replays
        .iter()
        .flat_map(|replay| record::references(&replay.changes))
        .map(|(at, _)| at.file);
    let oldest = referred.min().unwrap_or(start).min(start);
    for (number, file) in files.range_mut(oldest..start) {
        // All of it is below the mark, so it was durable.
        let end = Walk::new(folder, u64::MAX, file.first).read(*number, file)?;
        if end == End::Torn {
            return Err(JournalError::Damaged {
                path: path_of(folder, *number),
                offset: file.end,
            });
        }
    }
    for replay in replays {
        for (at, bytes) in record::references(&replay.changes) {
            let file = files.get_mut(&at.file);
            let Some(file) = file.filter(|file| file.holds(at.offset, bytes)) else {
                return Err(JournalError::Damaged {
                    path: path_of(folder, at.file),
                    offset: at.offset,
                });
            };
            file.referred = replay.sequence;
        }
    }
    let needed = files.split_off(&oldest);
    for number in files.keys() {
        disk.remove_file(&path_of(folder, *number))?;
    }
    *files = needed;
    Ok(())
}

/// Makes all durable that was found, from `unsure` on. A sync that failed before may have left it in the
/// system's memory only, where no other sync finds it: so it is written again.
fn make_durable<D: Disk>(
    disk: &D,
    folder: &Path,
    files: &Files<D::File>,
    unsure: Option<&Unsure>,
) -> Result<(), JournalError> {
    for (number, file) in files {
        let from = match unsure {
            Some(first) if first.number == *number && first.offset > FILE_HEADER_BYTES_U64 => {
                Some(first.offset)
            }
            Some(first) if first.number <= *number => Some(0),
            // The header of a file without records is as unsure.
            Some(_) | None => (file.end == FILE_HEADER_BYTES_U64).then_some(0),
        };
        if let Some(from) = from {
            file.write_again(&path_of(folder, *number), from)?;
        }
        file.file.sync()?;
    }
    disk.sync_dir(folder)?;
    Ok(())
}
