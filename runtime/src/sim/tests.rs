//! Determinism, time, tasks and incarnations.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::{ClockError, DiskFault, DiskSpeed, Sim, SimRuntime};
use crate::{Aborted, Disk, DiskFile, OpenMode, Runtime};

/// Tasks that talk over channels and streams, sleep, draw entropy, write and crash.
async fn workload(sim: Sim) -> u64 {
    let total = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    let (sender, mut inbox) = mpsc::channel::<u64>(4);
    for index in 0..6 {
        let machine = sim.machine(&format!("machine {index}"));
        machine.set_disk_speed(DiskSpeed {
            per_sync: Duration::from_millis(index),
            ..DiskSpeed::default()
        });
        let (runtime, sender) = (machine.runtime(), sender.clone());
        tasks.push(machine.runtime().spawn("works", work(runtime, sender)));
    }
    drop(sender);
    let (mut near, mut far) = tokio::io::duplex(100);
    let echo = sim.spawn("echoes", async move {
        let mut bytes = [0; 64];
        while far.read_exact(&mut bytes).await.is_ok() {
            far.write_all(&bytes).await.unwrap();
        }
    });
    let crashed = sim.machine("machine 3");
    let mut count = 0;
    while let Some(number) = inbox.recv().await {
        total.fetch_add(number % 1000, Ordering::Relaxed);
        let mut bytes = [number.to_le_bytes()[0]; 64];
        near.write_all(&bytes).await.unwrap();
        near.read_exact(&mut bytes).await.unwrap();
        count += 1;
        if count == 20 {
            crashed.crash();
            crashed.restart();
        }
    }
    drop(near);
    echo.join().await.unwrap();
    let ends: Vec<bool> = {
        let mut ends = Vec::new();
        for task in tasks {
            ends.push(task.join().await.is_ok());
        }
        ends
    };
    assert_eq!(ends, [true, true, true, false, true, true]);
    total.load(Ordering::Relaxed)
}

async fn work(runtime: SimRuntime, sender: mpsc::Sender<u64>) {
    let path = Path::new("/log");
    let file = runtime
        .disk()
        .open(path, OpenMode::ReadWriteOrCreate)
        .unwrap();
    let file = Arc::new(file);
    for round in 0..10_u64 {
        let mut draw = [0; 8];
        runtime.fill(&mut draw);
        runtime
            .sleep(Duration::from_micros(u64::from(draw[0])))
            .await;
        let file = Arc::clone(&file);
        let written = runtime.blocking(move || {
            file.write_all_at(&[&draw], round * 8)?;
            file.sync()
        });
        written.await.unwrap();
        sender.send(u64::from_le_bytes(draw)).await.unwrap();
    }
}

#[test]
fn i10_same_seed_same_run() {
    let run = |seed| {
        let sim = Sim::new(seed);
        sim.keep_events(100_000);
        let output = sim.run(workload);
        (output, sim.trace_digest(), sim.elapsed(), sim.take_events())
    };
    let first = run(7);
    assert!(first.3.len() > 500);
    assert_eq!(first, run(7));
    assert_ne!(first.1, run(8).1);
}

#[test]
fn the_seed_decides_who_runs_next() {
    let order = |seed| {
        let sim = Sim::new(seed);
        sim.run(async |sim| {
            let (sender, mut order) = mpsc::channel(10);
            let mut tasks = Vec::new();
            for index in 0..10 {
                let sender = sender.clone();
                tasks.push(sim.spawn("sends", async move {
                    sender.send(index).await.unwrap();
                }));
            }
            drop(sender);
            let mut all = Vec::new();
            while let Some(index) = order.recv().await {
                all.push(index);
            }
            all
        })
    };
    assert_ne!(order(1), order(2));
    assert_eq!(order(1), order(1));
}

/// I10: `watch` wakes its receivers in an order that it draws from the system.
#[test]
fn the_order_of_wakes_does_not_count() {
    let order = |seed| {
        let sim = Sim::new(seed);
        sim.run(async |sim| {
            let (closing, closed) = watch::channel(false);
            let (sender, mut order) = mpsc::channel(20);
            let mut tasks = Vec::new();
            for index in 0..20 {
                let (sender, mut closed) = (sender.clone(), closed.clone());
                tasks.push(sim.spawn("waits", async move {
                    closed.wait_for(|closed| *closed).await.unwrap();
                    sender.send(index).await.unwrap();
                }));
            }
            drop(sender);
            sim.sleep(Duration::from_secs(1)).await;
            closing.send(true).unwrap();
            let mut all = Vec::new();
            while let Some(index) = order.recv().await {
                all.push(index);
            }
            all
        })
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn time_is_virtual_and_exact() {
    let sim = Sim::new(1);
    sim.run(async |sim| {
        let machine = sim.machine("one");
        let runtime = machine.runtime();
        let start = runtime.now();
        runtime.sleep(Duration::from_secs(86_400)).await;
        assert_eq!(sim.elapsed(), Duration::from_secs(86_400));
        assert_eq!(runtime.now() - start, Duration::from_secs(86_400));
        machine.set_clock(ClockError::Behind(Duration::from_secs(86_401)));
        assert!(runtime.now() < start);
        assert_eq!(runtime.monotonic(), Duration::from_secs(86_400));
        machine.set_clock(ClockError::Ahead(Duration::from_secs(1)));
        assert_eq!(runtime.now() - start, Duration::from_secs(86_401));
        // No time at all is still a little.
        let before = sim.elapsed();
        runtime.sleep(Duration::ZERO).await;
        assert!(sim.elapsed() > before);
        let limit = Duration::from_secs(5);
        let never = std::future::pending::<()>();
        assert!(runtime.timeout(limit, never).await.is_err());
        assert_eq!(runtime.timeout(limit, async { 3 }).await, Ok(3));
    });
}

#[test]
fn disk_work_takes_the_time_that_is_set() {
    let sim = Sim::new(1);
    sim.run(async |sim| {
        let machine = sim.machine("one");
        machine.set_disk_speed(DiskSpeed {
            per_call: Duration::from_millis(1),
            per_sync: Duration::from_millis(10),
            per_mebibyte: Duration::from_millis(100),
        });
        let runtime = machine.runtime();
        let disk = runtime.disk().clone();
        let work = move || {
            let file = disk.open(Path::new("/a"), OpenMode::CreateNew)?;
            file.write_all_at(&[&vec![0; 1 << 19]], 0)?;
            file.sync()
        };
        runtime.blocking(work).await.unwrap();
        assert_eq!(sim.elapsed(), Duration::from_millis(1 + 51 + 11));
    });
}

#[test]
fn a_crash_ends_tasks_and_their_reach() {
    let sim = Sim::new(1);
    sim.run(async |sim| {
        let machine = sim.machine("one");
        let went_down = Arc::new(AtomicU64::new(0));
        sim.on_down({
            let went_down = Arc::clone(&went_down);
            move |_| {
                went_down.fetch_add(1, Ordering::Relaxed);
            }
        });
        let runtime = machine.runtime();
        let (sender, mut dropped) = mpsc::channel::<()>(1);
        let task = runtime.spawn("holds the sender", async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        runtime.sleep(Duration::from_millis(1)).await;
        machine.crash();
        assert_eq!(dropped.recv().await, None);
        assert!(task.is_finished());
        assert_eq!(task.join().await, Err(Aborted));
        assert_eq!(went_down.load(Ordering::Relaxed), 1);
        assert_eq!(runtime.run("too late", async { 1 }).await, None);
        assert!(runtime.disk().list(Path::new("/")).is_err());
        let fresh = machine.restart();
        assert_eq!(fresh.run("in time", async { 1 }).await, Some(1));
        assert_eq!(runtime.run("too late", async { 1 }).await, None);
        assert!(fresh.monotonic() < Duration::from_millis(1));
        let (mut old, mut new) = ([0; 16], [0; 16]);
        sim.machine("two").runtime().fill(&mut old);
        fresh.fill(&mut new);
        assert_ne!(old, new);
    });
}

#[test]
fn power_loss_in_a_disk_call_ends_the_machine_when_its_task_waits() {
    let sim = Sim::new(1);
    sim.run(async |sim| {
        let machine = sim.machine("one");
        machine.plan_disk_fault(2, DiskFault::PowerLoss);
        let runtime = machine.runtime();
        let inner = runtime.clone();
        let work = async move {
            let mut calls = 0;
            loop {
                // Fails from the third on, and the task ends at the wait.
                drop(inner.disk().list(Path::new("/")));
                calls += 1;
                assert!(calls <= 3);
                inner.sleep(Duration::from_secs(1)).await;
            }
        };
        assert_eq!(runtime.run("lists", work).await, None::<()>);
        assert_eq!(machine.disk_calls(), 3);
        assert_eq!(sim.elapsed(), Duration::from_secs(2));
    });
}

#[test]
fn a_task_may_crash_its_own_machine() {
    let sim = Sim::new(1);
    sim.run(async |sim| {
        let machine = sim.machine("one");
        let (inner, runtime) = (machine.clone(), machine.runtime());
        let result = runtime.run("crashes", async move {
            inner.crash();
            tokio::task::yield_now().await;
            unreachable!("it is gone");
        });
        assert_eq!(result.await, None::<()>);
        assert!(!machine.is_up());
    });
}

#[test]
fn dropping_or_aborting_a_task_ends_it() {
    let sim = Sim::new(1);
    sim.run(async |sim| {
        let runtime = sim.machine("one").runtime();
        let task = runtime.spawn("waits", std::future::pending::<()>());
        task.abort();
        assert_eq!(task.join().await, Err(Aborted));
        let (sender, mut dropped) = mpsc::channel::<()>(1);
        drop(runtime.spawn("holds the sender", async move {
            let _held = sender;
            std::future::pending::<()>().await;
        }));
        assert_eq!(dropped.recv().await, None);
    });
}

#[test]
#[should_panic(expected = "the simulation is stuck")]
fn waiting_for_nothing_is_found() {
    Sim::new(1).run(async |_| std::future::pending::<()>().await);
}

#[test]
#[should_panic(expected = "in a task")]
fn a_panic_in_a_task_ends_the_run() {
    Sim::new(1)
        .run(async |sim| {
            let task = sim.spawn("panics", async { panic!("in a task") });
            task.join().await
        })
        .unwrap();
}
