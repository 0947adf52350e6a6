//! Stops and faults at every disk call of a script that meets every kind of change.

use cairn_runtime::sim::DiskFault;

use super::*;

/// Opens the journal, and has its user find all in it.
fn reopen(machine: &Machine, outside: &mut Outside, what: &str) -> Journal<SimDisk> {
    let runtime = machine.runtime();
    let (journal, replays) = open(runtime.disk()).unwrap_or_else(|error| {
        panic!("{what}: opening again: {error}");
    });
    outside.recovered(&journal, &replays, what);
    journal
}

/// That all that was promised is there, and the journal goes on.
fn check(machine: &Machine, outside: &mut Outside, what: &str) {
    drop(reopen(machine, outside, what));
    machine.crash();
    machine.restart();
    // What recovery found is durable.
    let mut journal = reopen(machine, outside, what);
    script(&mut journal, outside).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(journal);
    machine.crash();
    machine.restart();
    drop(reopen(machine, outside, what));
}

fn script_calls() -> u64 {
    Sim::new(1).run(async |sim| {
        let machine = sim.machine("client");
        let (mut journal, _) = open(machine.runtime().disk()).unwrap();
        script(&mut journal, &mut Outside::default()).unwrap();
        machine.disk_calls()
    })
}

fn lose_power_at(number: u64, seed: u64) {
    let what = format!("power loss at call {number}, seed {seed}");
    Sim::new(seed).run(async |sim| {
        let machine = sim.machine("client");
        machine.plan_disk_fault(number, DiskFault::PowerLoss);
        let mut outside = Outside::default();
        if let Ok((mut journal, _)) = open(machine.runtime().disk()) {
            drop(script(&mut journal, &mut outside));
        }
        machine.clear_disk_faults();
        machine.crash();
        // The power goes again while the journal is opened.
        let runtime = machine.restart();
        machine.plan_disk_fault(number % 13, DiskFault::PowerLoss);
        drop(open(runtime.disk()));
        machine.clear_disk_faults();
        machine.crash();
        machine.restart();
        check(&machine, &mut outside, &what);
    });
}

#[test]
fn power_loss_at_every_disk_call_loses_nothing_that_was_synced() {
    let calls = script_calls();
    assert!(calls > 60, "the script makes {calls} calls");
    for number in 0..calls {
        for seed in 1..=6 {
            lose_power_at(number, seed);
        }
    }
}

/// After a change that failed, every later one gives the same cause, and what was written can be read.
fn assert_failed(journal: &mut Journal<SimDisk>, outside: &Outside, first: &JournalError) {
    assert!(matches!(first, JournalError::Failed(_)), "{first}");
    let nowhere = JournalRef { file: 1, offset: 1 };
    let later = [
        journal.place(1).map(|_| ()),
        journal.append(nowhere, &[], &[]).map(|_| ()),
        journal.syncer().sync().map(|_| ()),
        journal.committed(outside.last() + 1, 1),
    ];
    for later in later {
        assert_eq!(later.unwrap_err().to_string(), first.to_string());
    }
    let mark = journal.last_committed().map_or(0, |(sequence, _)| sequence);
    let kept = outside.previous.filter(|_| mark < outside.last());
    if let Some((at, bytes)) = kept {
        let mut found = vec![0; usize::try_from(bytes).unwrap()];
        journal.read(at, &mut found).unwrap();
        assert_eq!(outside.data.get(&at), Some(&found));
    }
}

#[test]
fn an_error_at_every_disk_call_ends_the_journal_until_it_is_opened_again() {
    for number in 0..script_calls() {
        let what = format!("error at call {number}");
        Sim::new(number).run(async |sim| {
            let machine = sim.machine("client");
            machine.plan_disk_fault(number, DiskFault::Error);
            let mut outside = Outside::default();
            if let Ok((mut journal, _)) = open(machine.runtime().disk()) {
                let first = script(&mut journal, &mut outside).unwrap_err();
                assert_failed(&mut journal, &outside, &first);
            }
            machine.clear_disk_faults();
            // The process ends, then the power: what a failed sync left in memory alone is lost then,
            // unless opening makes it durable.
            machine.kill();
            machine.restart();
            check(&machine, &mut outside, &what);
        });
    }
}

#[test]
fn a_kill_at_any_time_loses_nothing() {
    for seed in 1..=6 {
        Sim::new(seed).run(async |sim| {
            let machine = sim.machine("client");
            let mut outside = Outside::default();
            for round in 0..5_usize {
                let mut journal = reopen(&machine, &mut outside, "kill");
                for step in 0..=round {
                    outside.append(&mut journal, 300 * (step + 1)).unwrap();
                }
                let last = outside.last();
                drop(journal);
                machine.kill();
                machine.restart();
                drop(reopen(&machine, &mut outside, "after a kill"));
                assert_eq!(outside.last(), last, "a process that ends loses nothing");
                machine.crash();
                machine.restart();
            }
            check(&machine, &mut outside, "kill");
        });
    }
}

/// Runs the script on a disk of this size; whether it was too small for it. Then there is more.
fn run_on_full_disk(machine: &Machine, outside: &mut Outside, kilobytes: u64) -> bool {
    machine.set_disk_bytes(kilobytes << 10);
    let runtime = machine.runtime();
    let opened = open(runtime.disk());
    let Ok((mut journal, _)) = opened else {
        machine.set_disk_bytes(1 << 20);
        return false;
    };
    let refused = script(&mut journal, outside).err();
    if let Some(error) = &refused {
        assert!(
            matches!(error, JournalError::NoSpace(_)),
            "{kilobytes} KiB: {error}"
        );
    }
    machine.set_disk_bytes(1 << 20);
    outside.append(&mut journal, 500).unwrap();
    outside.sync(&journal).unwrap();
    refused.is_some()
}

#[test]
fn a_full_disk_at_every_size_leaves_the_journal_usable() {
    let mut refused = 0;
    for kilobytes in (4..60).step_by(4) {
        Sim::new(kilobytes).run(async |sim| {
            let machine = sim.machine("client");
            let mut outside = Outside::default();
            refused += u32::from(run_on_full_disk(&machine, &mut outside, kilobytes));
            machine.crash();
            machine.restart();
            check(&machine, &mut outside, &format!("{kilobytes} KiB"));
        });
    }
    assert!(refused >= 2, "the disk was full {refused} times");
}

/// Files are removed without waiting for their folder: after a crash any of them may be back.
#[test]
fn a_removed_file_that_comes_back_is_removed_again() {
    for seed in 0..20 {
        Sim::new(seed).run(async |sim| {
            let machine = sim.machine("client");
            let mut outside = Outside::default();
            let mut journal = reopen(&machine, &mut outside, "new");
            for _ in 0..12 {
                outside.append(&mut journal, 1_500).unwrap();
            }
            outside.previous = None;
            outside.append(&mut journal, 100).unwrap();
            outside.commit(&mut journal, 12).unwrap();
            assert_eq!(files(&machine).len(), 1, "{:?}", files(&machine));
            drop(journal);
            machine.crash();
            machine.restart();
            drop(reopen(&machine, &mut outside, "with files that came back"));
            assert_eq!(files(&machine).len(), 1, "{:?}", files(&machine));
        });
    }
}
