//! I6 and I7: the machine of a volume loses power in any disk call, or the store fails in any of its own.

use std::sync::{Arc, Mutex};

use cairn_runtime::Sim;
use cairn_runtime::sim::DiskFault;

use super::model::{Doing, Dump, act, doings, dump};
use super::{TestVolume, create, open};
use crate::fs;
use crate::memory_store::MemoryStore;
use crate::volume::VolumeError;

/// Operations of a run.
const COUNT: usize = 250;

/// How far a run came.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// Operations that were begun.
    begun: usize,
    /// Operations before the last sync or commit that was done: they survive the end of the process.
    durable: usize,
    /// Operations before the last commit that was done: they survive the loss of the machine.
    committed: usize,
}

/// Seeds of a test; `CAIRN_VOLUME_SEEDS` for its long form.
fn seed_count() -> u64 {
    let wanted = std::env::var("CAIRN_VOLUME_SEEDS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(6)
}

fn plan(seed: u64) -> Vec<Doing> {
    let mut rng = cairn_runtime::sim::SimRng::new(seed);
    doings(&mut rng, COUNT)
}

/// The volume behind each operation when nothing goes wrong, and how many disk calls there were.
fn without_faults(seed: u64) -> (Vec<Dump>, u64) {
    let mut states = Vec::new();
    let mut calls = 0;
    Sim::new(seed).run(async |sim| {
        let store = MemoryStore::default();
        let machine = sim.machine("one");
        let volume = create(machine.runtime(), &store).await.unwrap();
        states.push(dump(&volume).await);
        for (turn, doing) in plan(seed).iter().enumerate() {
            act(&volume, doing, turn).await.unwrap();
            states.push(dump(&volume).await);
        }
        calls = machine.disk_calls();
    });
    (states, calls)
}

async fn run(volume: &TestVolume, seed: u64, reached: &Mutex<Reached>) -> Result<(), VolumeError> {
    for (turn, doing) in plan(seed).iter().enumerate() {
        reached.lock().unwrap().begun = turn + 1;
        act(volume, doing, turn).await?;
        let mut reached = reached.lock().unwrap();
        if matches!(doing, Doing::Sync) {
            reached.durable = turn + 1;
        }
        // By a commit, or by a cleaning that had something to do.
        if volume.local_bytes() == 0 {
            reached.durable = turn + 1;
            reached.committed = turn + 1;
        }
    }
    Ok(())
}

/// Which of the states a volume is in, of those that it may be in.
async fn is_in(volume: &TestVolume, states: &[Dump], may_be: std::ops::RangeInclusive<usize>) {
    let found = dump(volume).await;
    let possible = may_be.clone().any(|at| states[at] == found);
    let any = states.iter().position(|state| *state == found);
    assert!(possible, "in state {any:?}, expected one of {may_be:?}");
    let flaws = volume.view(|view| fs::check(view)).await.unwrap();
    assert!(flaws.is_empty(), "{flaws:?}");
}

/// Runs with power loss in one disk call; whether it came to its end without.
fn with_power_loss(seed: u64, call: u64, states: &[Dump]) -> bool {
    let mut is_over = false;
    Sim::new(seed).run(async |sim| {
        let store = MemoryStore::default();
        let machine = sim.machine("one");
        let runtime = machine.runtime();
        drop(create(runtime.clone(), &store).await.unwrap());
        machine.plan_disk_fault(call, DiskFault::PowerLoss);
        let reached = Arc::new(Mutex::new(Reached::default()));
        let ear = Arc::clone(&reached);
        let at = store.clone();
        let of = runtime.clone();
        let task = runtime.run("volume", async move {
            let volume = open(of, &at).await?;
            run(&volume, seed, &ear).await
        });
        is_over = matches!(task.await, Some(Ok(())));
        machine.clear_disk_faults();
        machine.crash();
        let at = *reached.lock().unwrap();
        let volume = open(machine.restart(), &store).await.unwrap();
        is_in(&volume, states, at.durable..=at.begun).await;
        let number = volume.commit().await.unwrap();
        assert_eq!(volume.head_number(), number);
        let before = dump(&volume).await;
        let elsewhere = open(sim.machine("two").runtime(), &store).await.unwrap();
        assert!(dump(&elsewhere).await == before, "committed as it was");
    });
    is_over
}

#[test]
fn i6_i7_power_may_fail_in_any_disk_call() {
    for seed in 0..seed_count() {
        let (states, calls) = without_faults(seed);
        assert!(calls > 30, "{calls}");
        // Every call of the first, some of the others.
        let step = if seed < 2 { 1 } else { 3 };
        let mut call = 0;
        while !with_power_loss(seed, call, &states) {
            call += step;
            assert!(call < 10_000, "it comes to its end");
        }
        let kinds = states.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(
            call > 60 && kinds > COUNT / 8,
            "{call} calls, {kinds} changes"
        );
    }
}

/// The machine is lost: what was committed is on another.
#[test]
fn i7_what_was_committed_survives_the_machine() {
    for seed in 100..100 + seed_count() {
        let (states, _) = without_faults(seed);
        Sim::new(seed).run(async |sim| {
            let store = MemoryStore::default();
            let machine = sim.machine("one");
            let volume = create(machine.runtime(), &store).await.unwrap();
            let reached = Mutex::new(Reached::default());
            run(&volume, seed, &reached).await.unwrap();
            machine.crash();
            let at = *reached.lock().unwrap();
            let elsewhere = open(sim.machine("two").runtime(), &store).await.unwrap();
            is_in(&elsewhere, &states, at.committed..=at.committed).await;
        });
    }
}

/// The store fails in any of its calls: the volume goes on, and nothing is lost.
#[test]
fn the_store_may_fail_in_any_call() {
    let seed = 20;
    let (states, _) = without_faults(seed);
    let mut call = 0;
    loop {
        let mut calls = 0;
        Sim::new(seed).run(async |sim| {
            let store = MemoryStore::default();
            let volume = create(sim.machine("one").runtime(), &store).await.unwrap();
            let before = store.call_count();
            store.fail_call(before + call);
            for (turn, doing) in plan(seed).iter().enumerate() {
                let mut done = act(&volume, doing, turn).await;
                if let Err(VolumeError::Store(_)) = done {
                    // Once more, as whoever waits for it would.
                    done = act(&volume, doing, turn).await;
                }
                done.unwrap();
            }
            calls = store.call_count() - before;
            store.clear_faults();
            is_in(&volume, &states, COUNT..=COUNT).await;
            volume.commit().await.unwrap();
            let elsewhere = open(sim.machine("two").runtime(), &store).await.unwrap();
            is_in(&elsewhere, &states, COUNT..=COUNT).await;
        });
        call += 1;
        if call > calls {
            break;
        }
    }
    assert!(call > 20, "{call}");
}
