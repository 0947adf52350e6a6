//! Loss of power and failing disks at every disk call: what was final stays, and nothing else
//! comes in between.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::{Amount, Height};
use cairn_ledger::{Ledger, LedgerError, TxError, submit_body};
use cairn_runtime::sim::{ClockError, DiskFault, Machine, SimRuntime};
use cairn_runtime::{DiskError, Runtime, Sim};

use super::{account, genesis, key, open_group, register, signed, sim_folder, transfer};
use crate::sequencer::{Config, OpenError, Sequencer};

/// Transfers of one run; with a state every third block.
const TRANSFERS: u64 = 10;

fn config() -> Config {
    Config {
        block_interval: Duration::from_millis(5),
        state_interval_blocks: 3,
        poll_limit: Duration::from_secs(1),
        ..Config::new(sim_folder())
    }
}

/// Opens the ledger, made when there is none.
async fn opened(runtime: &SimRuntime) -> Result<Sequencer<SimRuntime>, OpenError> {
    match Sequencer::create(runtime, sim_folder(), &genesis()).await {
        Ok(()) | Err(OpenError::AlreadyCreated { .. }) => {}
        Err(error) => return Err(error),
    }
    Sequencer::open(runtime.clone(), config()).await
}

/// Opens the ledger and transfers until [`TRANSFERS`] are final or something fails; counts those
/// that are final, and those that were submitted.
async fn work(runtime: SimRuntime, counts: Arc<Mutex<(u64, u64)>>) -> Option<LedgerError> {
    let sequencer = opened(&runtime).await.ok()?;
    loop {
        let nonce = sequencer.account(account(1)).await.ok()?.nonce;
        if nonce >= TRANSFERS {
            sequencer.close().await;
            return None;
        }
        // Two at a time share a block or follow each other.
        counts.lock().unwrap().1 = (nonce + 2).min(TRANSFERS);
        let first = sequencer.submit(signed(1, nonce, transfer(1)));
        let result = if nonce + 1 < TRANSFERS {
            let second = sequencer.submit(signed(1, nonce + 1, transfer(1)));
            let (first, second) = tokio::join!(biased; first, second);
            note(&counts, nonce, &first);
            note(&counts, nonce + 1, &second);
            first.and(second)
        } else {
            let first = first.await;
            note(&counts, nonce, &first);
            first
        };
        if let Err(error) = result {
            sequencer.close().await;
            return Some(error);
        }
    }
}

fn note<T>(counts: &Mutex<(u64, u64)>, nonce: u64, result: &Result<T, LedgerError>) {
    if result.is_ok() {
        let mut counts = counts.lock().unwrap();
        counts.0 = counts.0.max(nonce + 1);
    }
}

/// Runs [`work`] with a fault after some disk calls; whether the fault was met.
async fn faulted(machine: &Machine, after: u64, fault: DiskFault) -> (bool, u64, u64) {
    let runtime = machine.runtime();
    let counts = Arc::new(Mutex::new((0, 0)));
    let before = machine.disk_calls();
    machine.plan_disk_fault(after, fault);
    let task = runtime.spawn("work", work(runtime.clone(), Arc::clone(&counts)));
    let ended = task.join().await;
    let was_met = machine.disk_calls().saturating_sub(before) > after;
    machine.clear_disk_faults();
    if !was_met {
        assert_eq!(ended, Ok(None), "without a fault all is done");
    }
    if let Ok(Some(error)) = ended {
        assert_eq!(error, LedgerError::Stopped);
    }
    let (done, submitted) = *counts.lock().unwrap();
    (was_met, done, submitted)
}

/// What was final is there, in order, and the ledger goes on.
async fn check(runtime: &SimRuntime, done: u64, submitted: u64) {
    let sequencer = opened(runtime).await.unwrap();
    let found = sequencer.account(account(1)).await.unwrap();
    assert!(
        found.nonce >= done,
        "{done} were final, {} are there",
        found.nonce
    );
    assert!(found.nonce <= submitted);
    let nine = sequencer.account(account(9)).await.unwrap();
    assert_eq!(nine.balance, Amount::from_micro(found.nonce));
    sequencer
        .submit(signed(1, found.nonce, transfer(1)))
        .await
        .unwrap();
    let status = sequencer.status().await.unwrap();
    sequencer.close().await;
    let again = opened(runtime).await.unwrap();
    assert_eq!(again.status().await.unwrap(), status);
    again.close().await;
}

async fn recover(runtime: SimRuntime) {
    if let Ok(sequencer) = opened(&runtime).await {
        sequencer.close().await;
    }
}

#[test]
fn what_is_final_survives_loss_of_power_at_every_disk_call() {
    for after in 0.. {
        // Three seeds: what a loss of power leaves differs.
        let met = (0..3).map(|seed| {
            Sim::new(after * 3 + seed).run(async |sim| {
                let machine = sim.machine("ledger");
                let (was_met, done, submitted) =
                    faulted(&machine, after, DiskFault::PowerLoss).await;
                let runtime = machine.restart();
                // Once more while it recovers.
                machine.plan_disk_fault(after % 17, DiskFault::PowerLoss);
                let task = runtime.spawn("recover", recover(runtime.clone()));
                // Done or cut off.
                task.join().await.unwrap_or_default();
                machine.clear_disk_faults();
                let runtime = machine.restart();
                check(&runtime, done, submitted.max(done)).await;
                was_met
            })
        });
        if !met.collect::<Vec<_>>().contains(&true) {
            assert!(after > 50, "{after} disk calls are too few for a run");
            return;
        }
    }
}

#[test]
fn a_disk_error_at_any_call_stops_it_with_nothing_lost() {
    for after in 0.. {
        let was_met = Sim::new(after).run(async |sim| {
            let machine = sim.machine("ledger");
            let (was_met, done, submitted) = faulted(&machine, after, DiskFault::Error).await;
            check(&machine.runtime(), done, submitted.max(done)).await;
            was_met
        });
        if !was_met {
            return;
        }
    }
}

#[test]
fn a_full_disk_stops_it_with_nothing_lost() {
    Sim::new(1).run(async |sim| {
        let machine = sim.machine("ledger");
        machine.set_disk_bytes(40 << 10);
        let runtime = machine.runtime();
        let sequencer = opened(&runtime).await.unwrap();
        let mut done = 0;
        let error = loop {
            match sequencer.submit(signed(1, done, transfer(1))).await {
                Ok(_) => done += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, LedgerError::Stopped);
        assert_eq!(
            sequencer.submit(signed(1, done, transfer(1))).await,
            Err(LedgerError::Stopped)
        );
        assert_eq!(sequencer.account(account(1)).await.unwrap().nonce, done);
        sequencer.close().await;
        machine.set_disk_bytes(1 << 20);
        check(&runtime, done, done + 1).await;
    });
}

#[test]
fn time_does_not_go_back_when_the_clock_does() {
    Sim::new(3).run(async |sim| {
        let machine = sim.machine("ledger");
        machine.set_clock(ClockError::Ahead(Duration::from_secs(3600)));
        let sequencer = opened(&machine.runtime()).await.unwrap();
        sequencer.submit(signed(1, 0, transfer(1))).await.unwrap();
        let ahead = sequencer.status().await.unwrap().time;
        machine.set_clock(ClockError::None);
        sequencer.submit(signed(1, 1, transfer(1))).await.unwrap();
        assert_eq!(sequencer.status().await.unwrap().time, ahead);
        sequencer.close().await;
    });
}

/// A ledger of ten blocks, closed; its files of blocks, oldest first.
async fn closed(machine: &Machine, state_interval_blocks: u64) -> Vec<(std::path::PathBuf, u64)> {
    let runtime = machine.runtime();
    Sequencer::create(&runtime, sim_folder(), &genesis())
        .await
        .unwrap();
    let config = Config {
        state_interval_blocks,
        ..config()
    };
    let sequencer = Sequencer::open(runtime, config).await.unwrap();
    for nonce in 0..10 {
        sequencer
            .submit(signed(1, nonce, transfer(1)))
            .await
            .unwrap();
    }
    sequencer.close().await;
    let mut files = machine.disk_files();
    files.retain(|(path, bytes)| path.to_string_lossy().contains("blocks-") && *bytes > 0);
    files
}

fn is_disk(error: &OpenError) -> Option<&DiskError> {
    match error {
        OpenError::Disk(error) => Some(error),
        _ => None,
    }
}

#[test]
fn damage_before_the_end_is_refused_and_named() {
    Sim::new(5).run(async |sim| {
        let machine = sim.machine("ledger");
        let files = closed(&machine, 1000).await;
        let [(path, bytes)] = &files[..] else {
            panic!("expected one file of blocks, found {files:?}");
        };
        // Within the third of ten equal records.
        let record = bytes / 10;
        let flipped = machine.flip_bits(path, 2 * record..3 * record, 1);
        assert_eq!(flipped.unwrap(), 1);
        let error = opened(&machine.runtime()).await.unwrap_err();
        assert!(is_disk(&error).is_none());
        let OpenError::Damaged {
            path: found,
            offset,
        } = error
        else {
            panic!("expected damage, found {error}");
        };
        assert_eq!((&found, offset), (path, 2 * record));
        // Nothing was cut off.
        assert_eq!(
            &machine
                .disk_files()
                .into_iter()
                .find(|(file, _)| file == path)
                .unwrap()
                .1,
            bytes
        );
    });
}

#[test]
fn damage_in_an_older_file_of_blocks_is_refused_when_it_is_needed() {
    Sim::new(6).run(async |sim| {
        let machine = sim.machine("ledger");
        let files = closed(&machine, 1).await;
        assert!(files.len() > 2);
        let (path, bytes) = &files[files.len() - 2];
        machine.flip_bits(path, 0..*bytes, 1).unwrap();
        // The state after it makes it needless.
        let sequencer = opened(&machine.runtime()).await.unwrap();
        assert_eq!(sequencer.account(account(1)).await.unwrap().nonce, 10);
        sequencer.close().await;
        // With both states damaged it is needed: its end is no torn end.
        for (path, bytes) in machine.disk_files() {
            if path.to_string_lossy().contains("state-") {
                machine.flip_bits(&path, 0..bytes, 1).unwrap();
            }
        }
        let error = opened(&machine.runtime()).await.unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    });
}

#[test]
fn a_damaged_state_is_passed_over() {
    Sim::new(7).run(async |sim| {
        let machine = sim.machine("ledger");
        closed(&machine, 1).await;
        let mut states = machine.disk_files();
        states.retain(|(path, _)| path.to_string_lossy().contains("state-"));
        assert_eq!(states.len(), 2);
        let (path, bytes) = &states[1];
        machine.flip_bits(path, 0..*bytes, 1).unwrap();
        let sequencer = opened(&machine.runtime()).await.unwrap();
        assert_eq!(sequencer.account(account(1)).await.unwrap().nonce, 10);
        sequencer.close().await;
    });
}

#[test]
fn damaged_genesis_or_key_is_refused() {
    for name in ["genesis", "seed.key"] {
        Sim::new(8).run(async |sim| {
            let machine = sim.machine("ledger");
            closed(&machine, 1000).await;
            let path = sim_folder().join(name);
            machine.flip_bits(&path, 0..64, 1).unwrap();
            let error = opened(&machine.runtime()).await.unwrap_err();
            match name {
                "genesis" => assert!(
                    matches!(error, OpenError::File { .. } | OpenError::Block { .. }),
                    "{error}"
                ),
                _ => assert!(matches!(error, OpenError::Key { .. }), "{error}"),
            }
        });
    }
}

#[test]
fn i10_determinism_one_seed_gives_one_run() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let tip = sim.run(async |sim| {
            let machine = sim.machine("ledger");
            let sequencer = opened(&machine.runtime()).await.unwrap();
            for number in 10..15 {
                submit_body(&sequencer, &key(number), register(number))
                    .await
                    .unwrap();
            }
            let opening = submit_body(&sequencer, &key(1), open_group()).await;
            let opening = opening.unwrap();
            let drawn = opening.height.next().unwrap();
            while sequencer.effects(drawn).await.unwrap().is_empty() {}
            let group = cairn_ledger::tx::group_id(opening.id);
            let group = sequencer.group(group).await.unwrap().unwrap();
            // One that holds a slot, so that a block draws it anew.
            let lost = group.deals[0].node;
            let height = sequencer.declare_lost(lost).await.unwrap();
            let after = height.next().unwrap();
            while sequencer.effects(after).await.unwrap().is_empty() {}
            let tip = sequencer.status().await.unwrap().tip;
            sequencer.close().await;
            tip
        });
        (tip, sim.trace_digest())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0, "another key for the seeds");
}

#[test]
fn effects_from_before_the_state_are_forgotten_after_opening() {
    Sim::new(9).run(async |sim| {
        let machine = sim.machine("ledger");
        closed(&machine, 1).await;
        let sequencer = opened(&machine.runtime()).await.unwrap();
        let found = Height::new(1);
        let error = sequencer.effects(found).await.unwrap_err();
        let height = sequencer.status().await.unwrap().height;
        assert!(
            matches!(error, LedgerError::Forgotten { oldest, .. } if oldest > found && oldest <= height.next().unwrap())
        );
        // A transaction from before is not remembered, and is not done twice.
        let again = sequencer.submit(signed(1, 0, transfer(1))).await;
        assert_eq!(
            again,
            Err(LedgerError::Refused(TxError::Nonce {
                account: account(1),
                expected: 10,
                found: 0
            }))
        );
        sequencer.close().await;
    });
}
