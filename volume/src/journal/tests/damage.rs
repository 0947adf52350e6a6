//! What is cut off, and what is reported as damage.

use cairn_runtime::OpenMode;

use super::*;
use crate::journal::checksum::FileKey;
use crate::journal::record::whole;

fn path(number: u64) -> PathBuf {
    path_of(&folder(), number)
}

fn content(disk: &SimDisk, number: u64) -> Vec<u8> {
    disk.read_file(&path(number), 1 << 20).unwrap()
}

fn put_content(disk: &SimDisk, number: u64, content: &[u8]) {
    let file = disk.open(&path(number), OpenMode::ReadWrite).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&[content], 0).unwrap();
}

/// How opening ends: after so many replays, or with damage at an offset of a file.
fn outcome(disk: &SimDisk) -> Result<usize, (PathBuf, u64)> {
    match open(disk) {
        Ok((_, replays)) => Ok(replays.len()),
        Err(JournalError::Damaged { path, offset }) => Err((path, offset)),
        Err(error) => panic!("{error}"),
    }
}

/// A journal of one file with five records, the first two of them durable, as the others say. Gives where
/// the records begin, and the end.
fn five_records(disk: &SimDisk) -> Vec<u64> {
    let (mut journal, _) = open(disk).unwrap();
    let mut outside = Outside::default();
    let mut offsets = Vec::new();
    for number in 0..5 {
        offsets.push(journal.bytes());
        outside.append(&mut journal, 40).unwrap();
        if number == 1 {
            outside.sync(&journal).unwrap();
        }
    }
    offsets.push(journal.bytes());
    offsets
}

#[test]
fn a_torn_end_of_any_length_is_cut_off() {
    simulated(|_, disk| {
        let offsets = five_records(disk);
        let whole = content(disk, 1);
        for length in 0..=whole.len() {
            put_content(disk, 1, &whole[..length]);
            let kept = offsets[1..]
                .iter()
                .filter(|end| **end <= count(length))
                .count();
            assert_eq!(outcome(disk), Ok(kept), "cut to {length} bytes");
            let left = count(content(disk, 1).len());
            assert_eq!(left, offsets[kept], "cut to {length} bytes");
        }
        // Zeros instead of bytes, as when a crash keeps the size alone.
        for length in offsets[2]..offsets[5] {
            let length = usize::try_from(length).unwrap();
            let mut zeroed = whole.clone();
            zeroed[length..].fill(0);
            put_content(disk, 1, &zeroed);
            // The last bytes of a record may be zeros in any case.
            let is_same = |range: &[u64]| {
                let start = usize::try_from(range[0]).unwrap();
                let end = usize::try_from(range[1]).unwrap();
                zeroed[start..end] == whole[start..end]
            };
            let kept = offsets
                .windows(2)
                .take_while(|&range| is_same(range))
                .count();
            assert_eq!(outcome(disk), Ok(kept), "zeros from {length}");
        }
    });
}

#[test]
fn a_flipped_bit_is_a_crash_or_damage_by_what_was_durable() {
    simulated(|_, disk| {
        let offsets = five_records(disk);
        let whole = content(disk, 1);
        for at in 60..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            put_content(disk, 1, &flipped);
            let record = offsets[1..].iter().filter(|end| **end <= count(at)).count();
            let expected = match record {
                // Later records say that these were durable.
                0 | 1 => Err((path(1), offsets[record])),
                kept => Ok(kept),
            };
            assert_eq!(outcome(disk), expected, "byte {at}");
            if expected.is_err() {
                assert_eq!(content(disk, 1), flipped, "nothing is cut off");
            }
        }
    });
}

#[test]
fn a_damaged_header_of_a_file_is_damage() {
    simulated(|_, disk| {
        five_records(disk);
        let whole = content(disk, 1);
        for at in 0..60 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            put_content(disk, 1, &flipped);
            assert_eq!(outcome(disk), Err((path(1), 0)), "byte {at}");
        }
    });
}

/// The key that a file's header has.
fn key_of(disk: &SimDisk, number: u64) -> FileKey {
    content(disk, number)[20..52].try_into().unwrap()
}

#[test]
fn data_that_looks_like_a_record_is_none() {
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        outside.append(&mut journal, 40).unwrap();
        let start = journal.bytes();
        let at = journal.place(200).unwrap();
        drop(journal);
        let before = content(disk, 1);
        let key = key_of(disk, 1);
        let inner = at.offset + 100;
        let header = RecordHeader {
            sequence: 3,
            durable: 2,
            data_bytes: 0,
            changes_bytes: 4,
            body: checksum::keyed(&key, &[&[0; 4]]),
        };
        let forged = [
            (header.encode(&key, inner + 1), "of another place", false),
            (header.encode(&[9; 32], inner), "under another key", false),
            (header.encode(&key, inner), "with key and place", true),
        ];
        for (forged, what, is_believed) in forged {
            put_content(disk, 1, &before);
            let (mut journal, _) = open(disk).unwrap();
            assert_eq!(journal.place(200).unwrap(), at);
            let mut data = vec![1; 200];
            data[100..100 + forged.len()].copy_from_slice(&forged);
            journal
                .append(at, &data, &changes_of(2, &[(at, 200)]))
                .unwrap();
            let end = usize::try_from(journal.bytes()).unwrap();
            drop(journal);
            // Whole, it is what it is.
            assert_eq!(outcome(disk), Ok(2), "{what}");
            // Its end is torn, so that what is in it is looked through.
            put_content(disk, 1, &content(disk, 1)[..end - 1]);
            let expected = if is_believed {
                Err((path(1), start))
            } else {
                Ok(1)
            };
            assert_eq!(outcome(disk), expected, "{what}");
        }
    });
}

/// A volume may hold a copy of its own journal.
#[test]
fn a_copy_of_the_journal_as_data_confuses_nobody() {
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        for _ in 0..3 {
            outside.append(&mut journal, 100).unwrap();
            outside.sync(&journal).unwrap();
        }
        let copy = content(disk, 1);
        let at = journal.place(copy.len()).unwrap();
        let changes = changes_of(4, &[(at, count(copy.len()))]);
        journal.append(at, &copy, &changes).unwrap();
        let end = content(disk, at.file).len();
        drop(journal);
        assert_eq!(outcome(disk), Ok(4));
        put_content(disk, at.file, &content(disk, at.file)[..end - 1]);
        assert_eq!(outcome(disk), Ok(3));
    });
}

/// A record is one at its own place only, and under the key of its file.
#[test]
fn a_record_moved_is_none() {
    simulated(|_, disk| {
        let offsets = five_records(disk);
        let key = key_of(disk, 1);
        let bytes = content(disk, 1);
        let second = usize::try_from(offsets[1]).unwrap();
        assert!(whole(&bytes[second..], &key, offsets[1]).is_some());
        assert!(whole(&bytes[second..], &key, offsets[2]).is_none());
        assert!(whole(&bytes[second..], &[0; 32], offsets[1]).is_none());
    });
}

/// Three files with a record each, all but the last one synced.
fn three_files(disk: &SimDisk) {
    let (mut journal, _) = open(disk).unwrap();
    let mut outside = Outside::default();
    for number in 1..=3 {
        outside.previous = None;
        let at = outside.append(&mut journal, 3_500).unwrap();
        assert_eq!(at.file, number);
        if number < 3 {
            outside.sync(&journal).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_gone_is_reported() {
    simulated(|_, disk| {
        three_files(disk);
        disk.remove_file(&path(1)).unwrap();
        let error = open(disk).unwrap_err();
        assert!(
            matches!(error, JournalError::Missing { sequence: 1, .. }),
            "{error}"
        );
    });
    simulated(|_, disk| {
        three_files(disk);
        let end = count(content(disk, 1).len());
        disk.remove_file(&path(2)).unwrap();
        // The record in file 3 says that the one in file 2 was durable.
        assert_eq!(outcome(disk), Err((path(1), end)));
    });
    simulated(|_, disk| {
        three_files(disk);
        // Nothing says so of the record in file 3.
        disk.remove_file(&path(3)).unwrap();
        assert_eq!(outcome(disk), Ok(2));
    });
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        Outside::default().append(&mut journal, 10).unwrap();
        journal.committed(1, 1).unwrap();
        drop(journal);
        disk.remove_file(&path(1)).unwrap();
        let error = open(disk).unwrap_err();
        assert!(
            matches!(error, JournalError::Missing { sequence: 2, .. }),
            "{error}"
        );
    });
}

#[test]
fn a_gap_below_the_mark_is_damage() {
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        let mut ends = Vec::new();
        for _ in 0..3 {
            outside.previous = None;
            outside.append(&mut journal, 100).unwrap();
            ends.push(journal.bytes());
        }
        outside.commit(&mut journal, 2).unwrap();
        drop(journal);
        // Above the mark it may be a crash; below it is none, though no record says so.
        let whole = content(disk, 1);
        for (length, expected) in [
            (ends[2] - 1, Ok(0)),
            (ends[1], Ok(0)),
            (ends[1] - 1, Err((path(1), ends[0]))),
            (ends[0], Err((path(1), ends[0]))),
        ] {
            put_content(disk, 1, &whole[..usize::try_from(length).unwrap()]);
            assert_eq!(outcome(disk), expected, "cut to {length}");
        }
    });
}

#[test]
fn a_damaged_mark_leaves_the_one_before() {
    simulated(|_, disk| {
        let (mut journal, _) = open(disk).unwrap();
        let mut outside = Outside::default();
        for _ in 0..4 {
            outside.append(&mut journal, 10).unwrap();
        }
        outside.commit(&mut journal, 1).unwrap();
        outside.commit(&mut journal, 2).unwrap();
        drop(journal);
        // The second mark is in the first slot again.
        let marks = folder().join("committed");
        let file = disk.open(&marks, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[&[0; 40]], 10).unwrap();
        let (journal, replays) = open(disk).unwrap();
        assert_eq!(journal.last_committed(), Some((1, 1_001)));
        assert_eq!(replays.len(), 3);
        drop(journal);
        file.write_all_at(&[&[0; 40]], 10).unwrap();
        file.write_all_at(&[&[0; 40]], 4_106).unwrap();
        assert_eq!(outcome(disk), Err((marks, 0)));
    });
}

#[test]
fn a_file_of_another_journal_is_refused() {
    simulated(|_, disk| {
        five_records(disk);
        let other = PathBuf::from("/state/other");
        drop(Journal::open(disk, &other, config(), [1; 16]).unwrap());
        let from = path_of(&other, 1);
        let strange = disk.read_file(&from, 1 << 20).unwrap();
        let mut mixed = content(disk, 1);
        mixed[..strange.len()].copy_from_slice(&strange);
        put_content(disk, 1, &mixed);
        assert_eq!(outcome(disk), Err((path(1), 0)));
    });
}
