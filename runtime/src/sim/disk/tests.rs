//! The simulated disk against the real one, its losses of power, locks, faults and limits.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{DiskFault, DiskFaults, SimDisk, is_machine_down};
use crate::{DirEntry, Disk, DiskError, DiskFile, Machine, OpenMode, RealDisk, Runtime, Sim};

/// Folders and files that take turns in being the one or the other.
const PATHS: [&str; 6] = ["one", "two", "sub", "sub/one", "sub/deep", "sub/deep/two"];
const MODES: [OpenMode; 4] = [
    OpenMode::Read,
    OpenMode::ReadWrite,
    OpenMode::ReadWriteOrCreate,
    OpenMode::CreateNew,
];

#[derive(Clone, Debug)]
enum Op {
    Write {
        path: usize,
        mode: usize,
        offset: u64,
        length: usize,
    },
    SetLen {
        path: usize,
        mode: usize,
        bytes: u64,
    },
    Punch {
        path: usize,
        offset: u64,
        bytes: u64,
    },
    Read {
        path: usize,
        offset: u64,
        length: usize,
    },
    Sync {
        path: usize,
    },
    CreateDirAll {
        path: usize,
    },
    List {
        path: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Remove {
        path: usize,
    },
    RemoveDirAll {
        path: usize,
    },
    SyncDir {
        path: usize,
    },
    Replace {
        path: usize,
        length: usize,
    },
    ReadFile {
        path: usize,
        bytes_max: u64,
    },
    Lock {
        path: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    let mode = || 0..MODES.len();
    let offset = || prop_oneof![Just(0), 0..9000_u64];
    let length = || 0_usize..6000;
    prop_oneof![
        4 => (path(), mode(), offset(), length())
            .prop_map(|(path, mode, offset, length)| Op::Write { path, mode, offset, length }),
        1 => (path(), mode(), offset())
            .prop_map(|(path, mode, bytes)| Op::SetLen { path, mode, bytes }),
        1 => (path(), offset(), offset())
            .prop_map(|(path, offset, bytes)| Op::Punch { path, offset, bytes }),
        2 => (path(), offset(), length())
            .prop_map(|(path, offset, length)| Op::Read { path, offset, length }),
        1 => path().prop_map(|path| Op::Sync { path }),
        2 => path().prop_map(|path| Op::CreateDirAll { path }),
        1 => path().prop_map(|path| Op::List { path }),
        2 => (path(), path()).prop_map(|(from, to)| Op::Rename { from, to }),
        1 => path().prop_map(|path| Op::Remove { path }),
        1 => path().prop_map(|path| Op::RemoveDirAll { path }),
        1 => path().prop_map(|path| Op::SyncDir { path }),
        2 => (path(), length()).prop_map(|(path, length)| Op::Replace { path, length }),
        1 => (path(), offset()).prop_map(|(path, bytes_max)| Op::ReadFile { path, bytes_max }),
        1 => path().prop_map(|path| Op::Lock { path }),
    ]
}

/// What an operation shows: a number, bytes or names, or the error's kind.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Size(u64),
    Bytes(Vec<u8>),
    Names(Vec<DirEntry>),
}

fn perform<D: Disk>(disk: &D, root: &Path, op: &Op) -> Result<Seen, DiskError> {
    let at = |path: &usize| root.join(PATHS[*path]);
    match op {
        Op::Write {
            path,
            mode,
            offset,
            length,
        } => {
            let file = disk.open(&at(path), MODES[*mode])?;
            let bytes: Vec<u8> = (1..=251).cycle().take(*length).collect();
            let (head, tail) = bytes.split_at(length / 3);
            file.write_all_at(&[&[], head, &[], tail], *offset)?;
            Ok(Seen::Size(file.len()?))
        }
        Op::SetLen { path, mode, bytes } => {
            let file = disk.open(&at(path), MODES[*mode])?;
            file.set_len(*bytes)?;
            Ok(Seen::Size(file.len()?))
        }
        Op::Punch {
            path,
            offset,
            bytes,
        } => {
            let file = disk.open(&at(path), OpenMode::ReadWrite)?;
            file.punch_hole(*offset, *bytes)?;
            Ok(Seen::Size(file.len()?))
        }
        Op::Read {
            path,
            offset,
            length,
        } => {
            let file = disk.open(&at(path), OpenMode::Read)?;
            let mut bytes = vec![0; *length];
            file.read_exact_at(&mut bytes, *offset)?;
            Ok(Seen::Bytes(bytes))
        }
        Op::Sync { path } => {
            disk.open(&at(path), OpenMode::ReadWrite)?.sync()?;
            Ok(Seen::Nothing)
        }
        Op::CreateDirAll { path } => disk.create_dir_all(&at(path)).map(|()| Seen::Nothing),
        Op::List { path } => disk.list(&at(path)).map(Seen::Names),
        Op::Rename { from, to } => {
            // Folders are not renamed: the seam says files.
            let is_folder = disk.list(&at(from)).is_ok();
            if is_folder {
                return Ok(Seen::Nothing);
            }
            disk.rename(&at(from), &at(to)).map(|()| Seen::Nothing)
        }
        Op::Remove { path } => disk.remove_file(&at(path)).map(|()| Seen::Nothing),
        Op::RemoveDirAll { path } => disk.remove_dir_all(&at(path)).map(|()| Seen::Nothing),
        Op::SyncDir { path } => disk.sync_dir(&at(path)).map(|()| Seen::Nothing),
        Op::Replace { path, length } => {
            let bytes: Vec<u8> = (1..=13).cycle().take(*length).collect();
            disk.replace_file(&at(path), &bytes).map(|()| Seen::Nothing)
        }
        Op::ReadFile { path, bytes_max } => disk.read_file(&at(path), *bytes_max).map(Seen::Bytes),
        Op::Lock { path } => {
            let first = disk.lock(&at(path))?;
            let second = disk.lock(&at(path)).map(|_| ());
            assert_eq!(second.unwrap_err().source.kind(), ErrorKind::WouldBlock);
            drop(first);
            disk.lock(&at(path)).map(|_| Seen::Nothing)
        }
    }
}

proptest! {
    #[test]
    fn does_what_the_real_disk_does(ops in proptest::collection::vec(op(), 0..60)) {
        let folder = tempfile::tempdir().unwrap();
        let real = RealDisk::new();
        let machine = Sim::new(1).machine("one");
        let runtime = machine.runtime();
        let root = Path::new("/data/root");
        runtime.disk().create_dir_all(root).unwrap();
        for op in &ops {
            let one = perform(&real, folder.path(), op);
            let two = perform(runtime.disk(), root, op);
            let kind = |error: DiskError| (error.operation, error.source.kind());
            assert_eq!(one.map_err(kind), two.map_err(kind), "{op:?}");
        }
    }

    #[test]
    fn what_was_synced_survives_every_crash(
        seed in any::<u64>(),
        lengths in proptest::collection::vec(0_usize..9000, 1..5),
    ) {
        let machine = Sim::new(seed).machine("one");
        let disk = machine.runtime().disk().clone();
        disk.create_dir_all(Path::new("/data/deep")).unwrap();
        for (index, length) in lengths.iter().enumerate() {
            let bytes = vec![7; *length];
            disk.replace_file(&PathBuf::from(format!("/data/{index}")), &bytes).unwrap();
            // Neither synced: lost, kept or in part, and no matter to the others.
            let loose = PathBuf::from(format!("/data/deep/{index}"));
            let file = disk.open(&loose, OpenMode::CreateNew).unwrap();
            file.write_all_at(&[&bytes], 0).unwrap();
        }
        machine.crash();
        let disk = machine.restart().disk().clone();
        for (index, length) in lengths.iter().enumerate() {
            let path = PathBuf::from(format!("/data/{index}"));
            assert_eq!(disk.read_file(&path, 9000).unwrap(), vec![7; *length]);
        }
        for entry in disk.list(Path::new("/data/deep")).unwrap() {
            assert!(entry.bytes <= 9000);
        }
    }
}

/// A file with `bytes` bytes, synced.
fn synced_file(disk: &SimDisk, path: &str, bytes: usize) -> super::SimFile {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_all_at(&[&vec![1; bytes]], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file
}

/// The names in the root after a crash, for many seeds.
fn outcomes(work: impl Fn(&SimDisk)) -> BTreeSet<Vec<String>> {
    let outcome = |seed| {
        let machine = Sim::new(seed).machine("one");
        work(machine.runtime().disk());
        machine.crash();
        let entries = machine.restart().disk().list(Path::new("/")).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    };
    (0..60).map(outcome).collect()
}

fn set(all: &[&[&str]]) -> BTreeSet<Vec<String>> {
    let names = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    all.iter().map(names).collect()
}

#[test]
fn unsynced_names_are_lost_or_kept() {
    let create = |disk: &SimDisk, path: &str| {
        let path = Path::new(path);
        disk.open(path, OpenMode::CreateNew)
            .unwrap()
            .sync()
            .unwrap();
    };
    let created = outcomes(|disk| {
        create(disk, "/a");
        create(disk, "/b");
    });
    assert_eq!(created, set(&[&[], &["a"], &["b"], &["a", "b"]]));
    let renamed = outcomes(|disk| {
        synced_file(disk, "/a", 1);
        disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
    });
    assert_eq!(renamed, set(&[&["a"], &["b"]]));
    let removed = outcomes(|disk| {
        synced_file(disk, "/a", 1);
        disk.remove_file(Path::new("/a")).unwrap();
    });
    assert_eq!(removed, set(&[&[], &["a"]]));
    let settled = outcomes(|disk| {
        create(disk, "/a");
        disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
    });
    assert_eq!(settled, set(&[&["b"]]));
    let moved = outcomes(|disk| {
        disk.create_dir_all(Path::new("/from")).unwrap();
        create(disk, "/from/a");
        disk.rename(Path::new("/from/a"), Path::new("/b")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
    });
    assert_eq!(moved, set(&[&["b", "from"]]));
}

#[test]
fn a_kill_keeps_what_was_written() {
    let machine = Sim::new(3).machine("one");
    let disk = machine.runtime().disk().clone();
    let file = disk.open(Path::new("/a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&[b"hello"], 0).unwrap();
    let _lock = disk.lock(Path::new("/lock")).unwrap();
    machine.kill();
    assert!(is_machine_down(&file.len().unwrap_err()));
    let runtime = machine.restart();
    let _lock_again = runtime.disk().lock(Path::new("/lock")).unwrap();
    let content = runtime.disk().read_file(Path::new("/a"), 5).unwrap();
    assert_eq!(content, b"hello");
}

#[test]
fn old_handles_cannot_touch_the_next_incarnation() {
    let machine = Sim::new(3).machine("one");
    let old = machine.runtime();
    let file = synced_file(old.disk(), "/a", 10);
    let lock = old.disk().lock(Path::new("/a")).unwrap();
    machine.crash();
    let fresh = machine.restart();
    let fresh_lock = fresh.disk().lock(Path::new("/a")).unwrap();
    assert!(is_machine_down(&file.write_all_at(&[b"x"], 0).unwrap_err()));
    assert!(is_machine_down(
        &old.disk().remove_file(Path::new("/a")).unwrap_err()
    ));
    // Their end is without effect too.
    drop((file, lock));
    assert!(fresh.disk().lock(Path::new("/a")).is_err());
    drop(fresh_lock);
    assert!(fresh.disk().lock(Path::new("/a")).is_ok());
    assert_eq!(
        fresh.disk().read_file(Path::new("/a"), 10).unwrap(),
        [1; 10]
    );
}

#[test]
fn a_full_disk_takes_no_more_and_counts_right() {
    const PAGE: usize = 4096;
    let machine = Sim::new(3).machine("one");
    machine.set_disk_bytes(10 * 4096);
    let disk = machine.runtime().disk().clone();
    let free = || disk.space(Path::new("/")).unwrap().free_bytes / 4096;
    let file = synced_file(&disk, "/a", 9 * PAGE);
    assert_eq!(free(), 1);
    // One below, at and one above the limit.
    let other = synced_file(&disk, "/b", PAGE - 1);
    assert_eq!(free(), 0);
    other.write_all_at(&[b"x"], 4095).unwrap();
    let error = other.write_all_at(&[b"xy"], 4095).unwrap_err();
    assert!(error.is_full());
    assert_eq!(other.len().unwrap(), 4096);
    // Holes, cuts and removed files give room back; open ones only at their end.
    file.punch_hole(0, 2 * 4096).unwrap();
    assert_eq!(free(), 2);
    file.set_len(8 * 4096).unwrap();
    assert_eq!(free(), 3);
    disk.remove_file(Path::new("/a")).unwrap();
    assert_eq!(free(), 3);
    drop(file);
    assert_eq!(free(), 9);
    machine.crash();
    machine.restart();
    let used = machine.disk_used_bytes();
    let files = machine.disk_files();
    assert!(
        [1, 7, 8, 9, 10].contains(&(used / 4096)),
        "{used} {files:?}"
    );
}

#[test]
fn faults_come_when_planned() {
    let machine = Sim::new(3).machine("one");
    let disk = machine.runtime().disk().clone();
    let file = synced_file(&disk, "/a", 10);
    machine.plan_disk_fault(1, DiskFault::Error);
    file.len().unwrap();
    let error = file.write_all_at(&[b"x"], 0).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(5));
    assert!(!is_machine_down(&error));
    file.write_all_at(&[b"x"], 0).unwrap();
    machine.break_disk();
    assert!(file.len().is_err());
    machine.mend_disk();
    assert_eq!(file.len().unwrap(), 10);
    let sync_errors = 1_000_000;
    machine.set_disk_faults(DiskFaults {
        sync_errors,
        ..DiskFaults::default()
    });
    assert!(file.sync().is_err());
    machine.set_disk_faults(DiskFaults::default());
    // What the failed sync lost stays lost.
    file.sync().unwrap();
    machine.crash();
    let content = machine.restart().disk().read_file(Path::new("/a"), 10);
    assert_eq!(content.unwrap(), [1; 10]);
}

#[test]
fn bits_rot_by_call_and_by_rate() {
    let machine = Sim::new(3).machine("one");
    let disk = machine.runtime().disk().clone();
    let file = synced_file(&disk, "/a", 100);
    let read = || {
        let mut bytes = [0; 100];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes.iter().filter(|byte| **byte != 1).count()
    };
    assert_eq!(machine.flip_bits(Path::new("/a"), 50..51, 1).unwrap(), 1);
    assert_eq!(read(), 1);
    let read_flips = 1_000_000;
    machine.set_disk_faults(DiskFaults {
        read_flips,
        ..DiskFaults::default()
    });
    let rotten = (0..20).map(|_| read()).max().unwrap();
    assert!(rotten > 5, "{rotten}");
}

#[test]
fn a_wiped_disk_is_empty() {
    let machine = Sim::new(3).machine("one");
    let _file = synced_file(machine.runtime().disk(), "/a", 100);
    machine.wipe();
    assert!(!machine.is_up());
    let disk = machine.restart().disk().clone();
    assert_eq!(disk.list(Path::new("/")).unwrap(), []);
    assert_eq!(machine.disk_used_bytes(), 0);
}

/// Replaces a file's content twice.
fn replace_twice(disk: &SimDisk) -> Result<(), DiskError> {
    disk.create_dir_all(Path::new("/data"))?;
    disk.replace_file(Path::new("/data/file"), &[1; 5000])?;
    disk.replace_file(Path::new("/data/file"), &[2; 7000])
}

/// Loses power in every disk call of [`replace_twice`] in turn; what is left each time.
fn crash_everywhere(seed: u64) -> Vec<Option<Vec<u8>>> {
    let mut left = Vec::new();
    loop {
        let machine: Machine = Sim::new(seed).machine("one");
        let calls = u64::try_from(left.len()).unwrap();
        machine.plan_disk_fault(calls, DiskFault::PowerLoss);
        let result = replace_twice(machine.runtime().disk());
        if result.is_ok() {
            return left;
        }
        assert!(is_machine_down(&result.unwrap_err()));
        assert!(!machine.is_up());
        machine.clear_disk_faults();
        let disk = machine.restart().disk().clone();
        left.push(disk.read_file(Path::new("/data/file"), 9000).ok());
    }
}

#[test]
fn replace_file_is_atomic_under_power_loss_in_every_call() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let left = crash_everywhere(seed);
        assert_eq!(left.len(), 13);
        for content in &left {
            let allowed = [None, Some(vec![1; 5000]), Some(vec![2; 7000])];
            assert!(allowed.contains(content));
            seen.insert(content.as_ref().map(Vec::len));
        }
        // The first was reported done before the second began.
        assert!(left[7..].iter().all(Option::is_some));
    }
    assert_eq!(seen.len(), 3);
}
