//! The height on the disk: it never goes back, and is never guessed.

use cairn_core::Digest;
use cairn_runtime::sim::{DiskFault, SimDisk};
use cairn_runtime::{Machine, Runtime, Sim};

use super::*;

const FOLDER: &str = "/store";
/// Heights that are kept one after the other.
const HEIGHTS: u64 = 3;

fn key() -> StoreKey {
    StoreKey::new([9; 32])
}

fn ledger(name: u8) -> LedgerId {
    LedgerId::new(Digest::of(&[name]))
}

fn open(machine: &Machine) -> Result<SeenHeight<SimDisk>, SeenHeightError> {
    let disk = machine.runtime().disk().clone();
    SeenHeight::open(disk, Path::new(FOLDER), key(), ledger(1))
}

fn file() -> PathBuf {
    Path::new(FOLDER).join(HEIGHT_FILE)
}

/// Runs `test` with a machine that has the folder.
fn on_machine<T>(seed: u64, test: impl FnOnce(&Machine) -> T) -> T {
    Sim::new(seed).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let disk = machine.runtime().disk().clone();
        disk.create_dir_all(Path::new(FOLDER)).unwrap();
        test(&machine)
    })
}

/// Keeps heights, whatever fails; the highest that was kept.
fn keep_all(machine: &Machine) -> Height {
    let Ok(seen) = open(machine) else {
        return Height::ZERO;
    };
    for height in (1..=HEIGHTS).map(Height::new) {
        let before = seen.kept();
        match seen.keep(height) {
            Ok(()) => assert_eq!(seen.kept(), height),
            Err(_) => assert_eq!(seen.kept(), before),
        }
    }
    seen.kept()
}

/// Disk calls of that without a fault.
fn calls() -> u64 {
    on_machine(1, |machine| {
        let before = machine.disk_calls();
        assert_eq!(keep_all(machine), Height::new(HEIGHTS));
        machine.disk_calls() - before
    })
}

#[test]
fn it_is_written_when_it_rises_and_read_again() {
    on_machine(1, |machine| {
        let seen = open(machine).unwrap();
        assert_eq!(seen.kept(), Height::ZERO);
        seen.keep(Height::ZERO).unwrap();
        assert!(machine.disk_files().is_empty(), "nothing was seen yet");
        seen.keep(Height::new(7)).unwrap();
        let calls = machine.disk_calls();
        for height in [7, 5, 0].map(Height::new) {
            seen.keep(height).unwrap();
        }
        assert_eq!(machine.disk_calls(), calls);
        assert_eq!(open(machine).unwrap().kept(), Height::new(7));
    });
}

/// Keeps heights with a fault at the `number`th disk call, then starts again twice.
fn check_fault(seed: u64, number: u64, fault: DiskFault) {
    let what = format!("{fault:?} at call {number}, seed {seed}");
    on_machine(seed, |machine| {
        machine.plan_disk_fault(number, fault);
        let kept = keep_all(machine);
        machine.clear_disk_faults();
        machine.kill();
        machine.restart();
        let found = open(machine).unwrap().kept();
        assert!(found >= kept, "{what}: kept {kept}, found {found}");
        // What a start goes on from must be durable: it is not written again.
        machine.crash();
        machine.restart();
        let again = open(machine).unwrap().kept();
        assert!(again >= found, "{what}: found {found}, then {again}");
    });
}

#[test]
fn i1_what_was_kept_outlives_a_fault_at_every_disk_call() {
    let calls = calls();
    assert!(calls > 15, "{calls} calls");
    for number in 0..calls {
        for seed in 1..=8 {
            check_fault(seed, number, DiskFault::Error);
            check_fault(seed, number, DiskFault::PowerLoss);
        }
    }
}

#[test]
fn a_failure_is_made_good_by_the_next_attempt() {
    for number in 0..6 {
        on_machine(number, |machine| {
            let seen = open(machine).unwrap();
            seen.keep(Height::new(1)).unwrap();
            machine.plan_disk_fault(number, DiskFault::Error);
            let height = Height::new(2);
            let failure = seen.keep(height).unwrap_err();
            assert!(matches!(failure, StoreError::Disk(_)), "call {number}");
            seen.keep(height).unwrap();
            machine.crash();
            machine.restart();
            assert_eq!(open(machine).unwrap().kept(), height, "call {number}");
        });
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    on_machine(1, |machine| {
        let seen = open(machine).unwrap();
        machine.set_disk_bytes(0);
        let failure = seen.keep(Height::new(1)).unwrap_err();
        assert!(matches!(failure, StoreError::Full { .. }), "{failure}");
        machine.set_disk_bytes(1 << 20);
        seen.keep(Height::new(1)).unwrap();
    });
}

#[test]
fn a_damaged_file_is_not_taken_for_none() {
    on_machine(1, |machine| {
        open(machine).unwrap().keep(Height::new(5)).unwrap();
        let disk = machine.runtime().disk().clone();
        let bytes = disk.read_file(&file(), HEIGHT_FILE_BYTES_MAX).unwrap();
        let flipped = (0..bytes.len()).map(|at| {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            wrong
        });
        let cut = (0..bytes.len()).map(|count| bytes[..count].to_vec());
        for wrong in flipped.chain(cut) {
            disk.replace_file(&file(), &wrong).unwrap();
            let error = open(machine).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, SeenHeightError::Damaged { .. }), "{text}");
            assert!(text.contains("/store/height"), "{text}");
        }
        let long = vec![0; 5000];
        disk.replace_file(&file(), &long).unwrap();
        let error = open(machine).unwrap_err();
        assert!(matches!(error, SeenHeightError::Disk(_)), "{error}");
        disk.replace_file(&file(), &bytes).unwrap();
        assert_eq!(open(machine).unwrap().kept(), Height::new(5));
    });
}

#[test]
fn that_of_another_ledger_or_store_is_refused() {
    on_machine(1, |machine| {
        open(machine).unwrap().keep(Height::new(5)).unwrap();
        let open = |key, ledger| {
            let disk = machine.runtime().disk().clone();
            SeenHeight::open(disk, Path::new(FOLDER), key, ledger).unwrap_err()
        };
        match open(key(), ledger(2)) {
            SeenHeightError::OtherLedger {
                expected, found, ..
            } => assert_eq!((expected, found), (ledger(2), ledger(1))),
            error => panic!("{error}"),
        }
        let error = open(StoreKey::new([8; 32]), ledger(1));
        assert!(matches!(error, SeenHeightError::Damaged { .. }), "{error}");
    });
}
