//! Laws of the journal on a simulated disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_runtime::sim::{Machine, SimDisk};
use cairn_runtime::{Runtime, Sim};

use super::*;
use crate::key::{InodeNumber, Key};
use crate::value::{Extent, Source, encode};

mod crash;
mod damage;
mod format;

/// Files of 4 KiB: every test meets several.
const BYTES_MAX: u64 = 32 << 10;

fn folder() -> PathBuf {
    PathBuf::from("/state/volume/journal")
}

fn config() -> JournalConfig {
    JournalConfig {
        bytes_max: BYTES_MAX,
    }
}

fn open(disk: &SimDisk) -> Result<(Journal<SimDisk>, Vec<Replay>), JournalError> {
    Journal::open(disk, &folder(), config(), [7; 16])
}

fn simulated(test: impl FnOnce(&Machine, &SimDisk)) {
    Sim::new(5).run(async |sim| {
        let machine = sim.machine("client");
        test(&machine, machine.runtime().disk());
    });
}

/// Bytes that are no others' data.
fn data_of(sequence: u64, bytes: usize) -> Vec<u8> {
    let start = usize::try_from(sequence).unwrap() * 31;
    let byte = |at: usize| u8::try_from((start + at * 7) % 251).unwrap();
    (0..bytes).map(byte).collect()
}

/// What an operation that writes a file changes; the other extents refer to data from before.
fn changes_of(sequence: u64, extents: &[(JournalRef, u64)]) -> Changes {
    let inode = InodeNumber::new(sequence);
    let mut changes = vec![(Key::attributes(inode), None)];
    for (index, (at, bytes)) in extents.iter().enumerate() {
        let extent = Extent {
            bytes: *bytes,
            source: Source::Journal(*at),
        };
        let key = Key::extent(inode, count(index) << 20);
        changes.push((key, Some(encode(&extent))));
    }
    changes
}

/// What was done to a journal, as one who uses it knows.
#[derive(Debug, Default)]
struct Outside {
    /// By sequence number from 1, those that were tried as well.
    changes: Vec<Changes>,
    /// Data by its place, that which was tried as well.
    data: BTreeMap<JournalRef, Vec<u8>>,
    /// The last data that was appended.
    previous: Option<(JournalRef, u64)>,
    synced: u64,
    marked: u64,
    /// A mark that was tried.
    tried_mark: u64,
}

impl Outside {
    fn last(&self) -> u64 {
        count(self.changes.len())
    }

    /// Writes a file with fresh data, and with data of the operation before.
    fn append(
        &mut self,
        journal: &mut Journal<SimDisk>,
        bytes: usize,
    ) -> Result<JournalRef, JournalError> {
        let sequence = self.last() + 1;
        let at = journal.place(bytes)?;
        let data = data_of(sequence, bytes);
        let mut extents = vec![(at, count(bytes))];
        extents.extend(self.previous);
        let changes = changes_of(sequence, &extents);
        self.changes.push(changes.clone());
        self.data.insert(at, data.clone());
        let appended = journal.append(at, &data, &changes);
        if let Err(JournalError::NoSpace(_) | JournalError::Full { .. }) = &appended {
            self.changes.pop();
        }
        assert_eq!(appended?, sequence, "numbers rise one by one");
        self.previous = Some((at, count(bytes)));
        Ok(at)
    }

    fn sync(&mut self, journal: &Journal<SimDisk>) -> Result<(), JournalError> {
        let synced = journal.syncer().sync()?;
        assert_eq!(synced, self.last());
        self.synced = synced;
        Ok(())
    }

    fn commit(
        &mut self,
        journal: &mut Journal<SimDisk>,
        sequence: u64,
    ) -> Result<(), JournalError> {
        self.tried_mark = sequence;
        journal.committed(sequence, sequence + 1_000)?;
        self.marked = sequence;
        // It synced all.
        self.synced = self.last();
        assert_eq!(journal.last_committed(), Some((sequence, sequence + 1_000)));
        if sequence == self.last() {
            self.previous = None;
        }
        Ok(())
    }

    /// Checks what opening the journal gave, and goes on from there.
    fn recovered(&mut self, journal: &Journal<SimDisk>, replays: &[Replay], what: &str) {
        let mark = journal.last_committed().map_or(0, |(sequence, _)| sequence);
        assert!(
            mark == self.marked || mark == self.tried_mark,
            "{what}: marked {mark}, {self:?}"
        );
        let mut next = mark + 1;
        for replay in replays {
            assert_eq!(replay.sequence, next, "{what}: each once, in order");
            let index = usize::try_from(replay.sequence - 1).unwrap();
            assert_eq!(self.changes.get(index), Some(&replay.changes), "{what}");
            for (at, bytes) in record::references(&replay.changes) {
                let mut found = vec![0; usize::try_from(bytes).unwrap()];
                journal.read(at, &mut found).unwrap();
                assert_eq!(self.data.get(&at), Some(&found), "{what}: {at:?}");
            }
            next += 1;
        }
        let last = next - 1;
        assert!(last >= self.synced, "{what}: ends at {last}, {self:?}");
        self.changes.truncate(usize::try_from(last).unwrap());
        assert_eq!(self.last(), last, "{what}: nothing that was not appended");
        self.marked = mark;
        self.tried_mark = mark;
        // What opening has found is durable.
        self.synced = last;
        self.previous = None;
    }
}

/// Every kind of change, several files, marks in their middle and at their end.
fn script(journal: &mut Journal<SimDisk>, outside: &mut Outside) -> Result<(), JournalError> {
    for round in 0..6_u64 {
        for bytes in [100, 250, 0, 400, 900] {
            outside.append(journal, bytes)?;
        }
        outside.sync(journal)?;
        outside.append(journal, 700)?;
        outside.append(journal, 1)?;
        match round {
            1 | 3 => outside.commit(journal, outside.last() - 2)?,
            4 => outside.commit(journal, outside.last())?,
            _ => {}
        }
    }
    Ok(())
}

/// Sizes of the journal's files by their names.
fn files(machine: &Machine) -> Vec<(String, u64)> {
    let all = machine.disk_files().into_iter();
    let ours = all.filter(|(path, _)| path.extension().is_some_and(|end| end == "journal"));
    ours.map(|(path, bytes)| {
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            bytes,
        )
    })
    .collect()
}

#[test]
fn what_was_appended_is_replayed_in_order_with_its_data() {
    simulated(|machine, disk| {
        let (mut journal, replays) = open(disk).unwrap();
        assert_eq!((replays, journal.last_committed()), (vec![], None));
        let mut outside = Outside::default();
        script(&mut journal, &mut outside).unwrap();
        outside.append(&mut journal, 2_000).unwrap();
        outside.append(&mut journal, 2_000).unwrap();
        let id = journal.id();
        assert_eq!(id, [7; 16]);
        assert!(files(machine).len() > 1, "{:?}", files(machine));
        let bytes: u64 = files(machine).iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(journal.bytes(), bytes);
        drop(journal);
        let (journal, replays) = Journal::open(disk, &folder(), config(), [8; 16]).unwrap();
        outside.recovered(&journal, &replays, "opened again");
        assert_eq!(outside.last(), 44, "nothing is lost without a crash");
        assert_eq!(journal.id(), id, "a journal keeps its name");
    });
}

#[test]
fn a_commit_removes_the_files_that_nothing_above_it_needs() {
    simulated(|machine, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        for _ in 0..20 {
            outside.previous = None;
            outside.append(&mut journal, 1_000).unwrap();
        }
        let before = files(machine).len();
        assert!(before >= 5);
        outside.commit(&mut journal, 10).unwrap();
        let names = files(machine);
        assert!(names.len() < before && names.len() > 1, "{names:?}");
        outside.commit(&mut journal, 20).unwrap();
        assert_eq!(files(machine).len(), 1, "{:?}", files(machine));
        assert_eq!(journal.bytes(), FILE_HEADER_BYTES_U64);
        // A mark never goes back.
        journal.committed(3, 9_999).unwrap();
        assert_eq!(journal.last_committed(), Some((20, 1_020)));
        outside.append(&mut journal, 10).unwrap();
        drop(journal);
        let (journal, replays) = open(disk).unwrap();
        assert_eq!(replays.len(), 1);
        outside.recovered(&journal, &replays, "after commits");
    });
}

#[test]
fn data_that_a_record_above_the_mark_refers_to_stays() {
    simulated(|machine, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        let first = outside.append(&mut journal, 3_000).unwrap();
        for _ in 0..4 {
            outside.append(&mut journal, 3_000).unwrap();
        }
        outside.previous = Some((first, 3_000));
        outside.append(&mut journal, 3_000).unwrap();
        outside.commit(&mut journal, 5).unwrap();
        assert_eq!(files(machine)[0].0, "00000001.journal");
        drop(journal);
        let (mut journal, replays) = open(disk).unwrap();
        assert_eq!(replays.len(), 1);
        outside.recovered(&journal, &replays, "with data below the mark");
        outside.append(&mut journal, 3_000).unwrap();
        outside.commit(&mut journal, 6).unwrap();
        assert_ne!(files(machine)[0].0, "00000001.journal");
    });
}

#[test]
fn a_full_journal_goes_on_after_a_commit() {
    simulated(|machine, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        for _ in 0..3 {
            let error = loop {
                outside.previous = None;
                if let Err(error) = outside.append(&mut journal, 1_500) {
                    break error;
                }
            };
            assert!(
                matches!(
                    error,
                    JournalError::Full {
                        bytes_max: BYTES_MAX
                    }
                ),
                "{error}"
            );
            assert!(journal.bytes() <= BYTES_MAX && journal.bytes() > BYTES_MAX - 3_000);
            let bytes: u64 = files(machine).iter().map(|(_, bytes)| bytes).sum();
            assert!(bytes <= BYTES_MAX, "{bytes}");
            outside.commit(&mut journal, outside.last()).unwrap();
        }
        // The data has room and the changes do not.
        let room = usize::try_from(BYTES_MAX - journal.bytes()).unwrap();
        let data = vec![1_u8; room - usize::try_from(RECORD_HEADER_BYTES_U64).unwrap()];
        let at = journal.place(data.len()).unwrap();
        let before = journal.bytes();
        let error = journal.append(at, &data, &changes_of(9, &[])).unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
        assert!(journal.place(data.len() + 1).is_err());
        assert_eq!(journal.bytes(), before);
        outside.append(&mut journal, 10).unwrap();
    });
}

#[test]
fn a_record_has_a_bound() {
    simulated(|_, disk| {
        let config = JournalConfig {
            bytes_max: u64::MAX,
        };
        let (mut journal, _) = Journal::open(disk, &folder(), config, [7; 16]).unwrap();
        let header = usize::try_from(RECORD_HEADER_BYTES_U64).unwrap();
        let max = usize::try_from(RECORD_BYTES_MAX).unwrap() - header;
        let error = journal.place(max + 1).unwrap_err();
        assert!(matches!(error, JournalError::TooLong { .. }), "{error}");
        // An empty list of changes takes 4 bytes.
        let data = vec![3_u8; max - 3];
        let at = journal.place(data.len()).unwrap();
        let error = journal.append(at, &data, &[]).unwrap_err();
        assert!(matches!(error, JournalError::TooLong { .. }), "{error}");
        let data = &data[1..];
        let at = journal.place(data.len()).unwrap();
        journal.append(at, data, &[]).unwrap();
        drop(journal);
        let (_, replays) = Journal::open(disk, &folder(), config, [7; 16]).unwrap();
        assert_eq!(
            replays,
            [Replay {
                sequence: 1,
                changes: vec![]
            }]
        );
    });
}

#[test]
fn calls_of_sync_share_the_work() {
    simulated(|machine, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        let (one, two) = (journal.syncer(), journal.syncer());
        outside.append(&mut journal, 10).unwrap();
        outside.append(&mut journal, 10).unwrap();
        let calls = machine.disk_calls();
        assert_eq!(one.sync().unwrap(), 2);
        assert_eq!(machine.disk_calls(), calls + 1);
        assert_eq!(two.clone().sync().unwrap(), 2);
        assert_eq!(machine.disk_calls(), calls + 1, "nothing is left to do");
        outside.append(&mut journal, 10).unwrap();
        assert_eq!(two.sync().unwrap(), 3);
        assert_eq!(machine.disk_calls(), calls + 3);
    });
}

#[test]
fn what_is_not_there_is_neither_read_nor_referred_to() {
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        let at = outside.append(&mut journal, 100).unwrap();
        let after = journal.bytes();
        let places = [
            (JournalRef { file: 2, ..at }, 1_u64),
            (JournalRef { offset: 0, ..at }, 1),
            (
                JournalRef {
                    offset: after - 1,
                    ..at
                },
                2,
            ),
            (
                JournalRef {
                    offset: u64::MAX,
                    ..at
                },
                2,
            ),
        ];
        for (wrong, bytes) in places {
            let mut into = vec![0; usize::try_from(bytes).unwrap()];
            let error = journal.read(wrong, &mut into).unwrap_err();
            assert!(matches!(error, JournalError::NoData { .. }), "{error}");
            let next = journal.place(0).unwrap();
            let error = journal.append(next, &[], &changes_of(2, &[(wrong, bytes)]));
            let error = error.unwrap_err();
            assert!(matches!(error, JournalError::NoData { .. }), "{error}");
        }
        // Nothing was written, and data that comes with a record may be referred to in part.
        assert_eq!(journal.bytes(), after);
        let next = journal.place(50).unwrap();
        let part = JournalRef {
            offset: next.offset + 10,
            ..next
        };
        journal
            .append(next, &[1; 50], &changes_of(2, &[(part, 40)]))
            .unwrap();
        let next = journal.place(50).unwrap();
        let error = journal.append(next, &[1; 50], &changes_of(3, &[(next, 51)]));
        assert!(matches!(error.unwrap_err(), JournalError::NoData { .. }));
    });
}

#[test]
#[should_panic(expected = "data goes where its place was asked for")]
fn data_goes_nowhere_else() {
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut at = journal.place(5).unwrap();
        at.offset += 1;
        drop(journal.append(at, &[0; 5], &[]));
    });
}

/// A head may have what this machine's journal lost, when an older copy of its disk was put back.
#[test]
fn numbers_that_a_head_has_are_not_used_again() {
    simulated(|machine, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        for _ in 0..3 {
            outside.append(&mut journal, 100).unwrap();
        }
        outside.sync(&journal).unwrap();
        journal.committed(10, 5).unwrap();
        let at = journal.place(2).unwrap();
        assert_eq!(
            journal.append(at, &[1, 2], &changes_of(1, &[])).unwrap(),
            11
        );
        assert_eq!(journal.syncer().sync().unwrap(), 11);
        assert_eq!(files(machine).len(), 1);
        drop(journal);
        machine.crash();
        let runtime = machine.restart();
        let (journal, replays) = open(runtime.disk()).unwrap();
        assert_eq!(journal.last_committed(), Some((10, 5)));
        let sequences: Vec<u64> = replays.iter().map(|replay| replay.sequence).collect();
        assert_eq!(sequences, [11]);
    });
}

#[test]
fn one_process_has_the_journal() {
    simulated(|_, disk| {
        let (journal, _) = open(disk).unwrap();
        let second = open(disk).unwrap_err();
        assert!(matches!(second, JournalError::InUse { .. }), "{second}");
        drop(journal);
        open(disk).unwrap();
    });
}
