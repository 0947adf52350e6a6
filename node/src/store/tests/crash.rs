//! Stops and faults at every disk call of a script that meets every kind of change.

use std::collections::BTreeMap;

use cairn_core::{RevisionDetail, Signed, UnixMillis};
use cairn_runtime::sim::{DiskFault, is_machine_down};
use cairn_runtime::{Disk, Machine, Runtime, Sim};

use super::fixture::{
    assert_version, config, detail, final_at, open, put_of, shard, slot, version,
};
use super::proofs::{assert_provable, needs};
use crate::store::{ShardPlace, ShardStore, StoreError};

/// What must be in the store: per shard the versions that are right, `None` for absent. More than
/// one while a change is under way.
#[derive(Debug, Default)]
struct Expected {
    shards: BTreeMap<ShardPlace, Vec<Option<u8>>>,
    /// The least revision that slot 1 has reached.
    reached: u64,
    /// Revisions of slot 1 whose proof may be asked for.
    provable: Vec<Signed<RevisionDetail>>,
}

impl Expected {
    /// The change may have happened.
    fn maybe(&mut self, shard: ShardPlace, version: Option<u8>) {
        self.shards
            .entry(shard)
            .or_insert_with(|| vec![None])
            .push(version);
    }

    /// It has.
    fn now(&mut self, shard: ShardPlace, version: Option<u8>) {
        self.shards.insert(shard, vec![version]);
    }
}

fn put<D: Disk>(
    store: &ShardStore<D>,
    expected: &mut Expected,
    shards: &[(ShardPlace, u8)],
) -> Result<(), StoreError> {
    for (shard, version) in shards {
        expected.maybe(*shard, Some(*version));
    }
    let puts: Vec<_> = shards
        .iter()
        .map(|(shard, version)| put_of(*shard, *version))
        .collect();
    let mut result = Ok(());
    for ((shard, version), done) in shards.iter().zip(store.put(&puts)) {
        match done {
            Ok(_) => expected.now(*shard, Some(*version)),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Removes shards by `change`, which may drop them.
fn remove(
    expected: &mut Expected,
    shards: impl Iterator<Item = u32> + Clone,
    name: u8,
    change: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for segment in shards.clone() {
        expected.maybe(shard(name, segment), None);
    }
    change()?;
    for segment in shards {
        expected.now(shard(name, segment), None);
    }
    Ok(())
}

/// Every kind of change, several packs, with what must be there after each.
fn script<D: Disk>(store: &ShardStore<D>, expected: &mut Expected) -> Result<(), StoreError> {
    put(
        store,
        expected,
        &[(shard(1, 0), 0), (shard(1, 1), 0), (shard(1, 2), 0)],
    )?;
    put(store, expected, &[(shard(2, 3), 0)])?;
    put(store, expected, &[(shard(1, 3), 0), (shard(1, 4), 9)])?;
    put(store, expected, &[(shard(1, 4), 0), (shard(2, 7), 0)])?;
    let first = detail(slot(1), 1, &[Some(0); 5], &[]);
    store.expect(slot(1), &first)?;
    store.reach(slot(1), &first)?;
    expected.reached = 1;
    expected.provable = vec![first.clone()];
    put(
        store,
        expected,
        &[(shard(1, 5), 0), (shard(1, 6), 0), (shard(1, 7), 0)],
    )?;
    let mut leaves = [Some(0); 8];
    leaves[1] = None;
    leaves[3] = None;
    let second = detail(slot(1), 2, &leaves, &[1, 3]);
    remove(expected, [1, 3].into_iter(), 1, || {
        store.reach(slot(1), &second).map(|_| ())
    })?;
    expected.reached = 2;
    expected.provable = vec![first.clone(), second.clone()];
    store.release_emptied(slot(1), &needs(1, None, 2))?;
    put(store, expected, &[(shard(1, 8), 0)])?;
    let mut leaves = [Some(0); 9];
    for emptied in [0, 1, 3] {
        leaves[emptied] = None;
    }
    let third = detail(slot(1), 3, &leaves, &[0]);
    remove(expected, [0].into_iter(), 1, || {
        store.reach(slot(1), &third).map(|_| ())
    })?;
    expected.reached = 3;
    // The first is asked for no more, then the second.
    expected.provable = vec![second, third.clone()];
    store.release_emptied(slot(1), &needs(2, None, 3))?;
    expected.provable = vec![third];
    store.release_emptied(slot(1), &final_at(3))?;
    put(store, expected, &[(shard(1, 9), 0), (shard(3, 0), 0)])?;
    remove(expected, 9..10, 1, || {
        store.expire(slot(1), 9, UnixMillis::new(5000)).map(|_| ())
    })?;
    remove(expected, [3, 7].into_iter(), 2, || {
        store.drop_slot(slot(2)).map(|_| ())
    })?;
    put(
        store,
        expected,
        &[(shard(1, 10), 0), (shard(1, 11), 1), (shard(2, 1), 4)],
    )?;
    while store.compact()?.is_some() {}
    put(store, expected, &[(shard(1, 11), 2)])?;
    Ok(())
}

/// That the store reopens with all that was promised, right, and still works.
fn check(machine: &Machine, expected: &Expected, what: &str) {
    let disk = machine.runtime().disk().clone();
    let (store, report) = open(&disk, config("/store")).unwrap_or_else(|error| {
        panic!("{what}: reopening: {error}");
    });
    for (shard, versions) in &expected.shards {
        let found = version(&store, *shard);
        assert!(
            versions.contains(&found),
            "{what}: {shard}: expected one of {versions:?}, found {found:?}, {report:?}"
        );
        if let Some(found) = found {
            assert_version(&store, *shard, found);
        }
    }
    assert!(report.damaged_states.is_empty(), "{what}: {report:?}");
    assert!(report.damaged_dead_lists.is_empty(), "{what}: {report:?}");
    let reached = store.reached(slot(1));
    let number = reached.as_ref().map_or(0, |reached| {
        reached.detail.unverified().revision.number.get()
    });
    assert!(number >= expected.reached, "{what}: reached {number}");
    assert!(reached.is_none_or(|reached| reached.whole), "{what}");
    for detail in &expected.provable {
        assert_provable(&store, detail);
    }
    let used = store.figures().unwrap().used.get();
    // Beside what the store counts: lock, identity, and a small file that is being replaced.
    let on_disk = machine.disk_used_bytes();
    assert!(
        used <= on_disk && on_disk <= used + (64 << 10),
        "{what}: counts {used}, the disk has {on_disk}"
    );
    let mut after = Expected::default();
    put(&store, &mut after, &[(shard(4, 0), 1), (shard(4, 3), 1)]).unwrap();
    drop(store);
    let (store, _) = open(&disk, config("/store")).unwrap();
    assert_version(&store, shard(4, 3), 1);
    for shard in expected.shards.keys() {
        let _readable = version(&store, *shard);
    }
}

/// Runs the script with a fault at its `number`th disk call; whether it was met.
fn run_with(seed: u64, number: u64, fault: DiskFault) -> bool {
    let what = format!("{fault:?} at call {number}, seed {seed}");
    Sim::new(seed).run(async |sim: Sim| {
        let machine = sim.machine("node");
        machine.plan_disk_fault(number, fault);
        let mut expected = Expected::default();
        let runtime = machine.runtime();
        let result = open(runtime.disk(), config("/store")).and_then(|(store, _)| {
            let result = script(&store, &mut expected);
            if fault == DiskFault::Error
                && let Err(error) = &result
            {
                poisoned_or_whole(&store, error, &what);
            }
            result
        });
        machine.clear_disk_faults();
        if fault == DiskFault::PowerLoss
            && let Err(StoreError::Disk(error)) = &result
        {
            assert!(is_machine_down(error), "{what}: {error}");
        }
        machine.restart();
        check(&machine, &expected, &what);
        result.is_err() || machine.disk_calls() <= number
    })
}

/// After a failed mutation, every later one gives the same cause; after a failed read, none does.
fn poisoned_or_whole<D: Disk>(store: &ShardStore<D>, error: &StoreError, what: &str) {
    let Some(first) = store.failure() else {
        return;
    };
    let later = store
        .put(&[put_of(shard(9, 0), 0)])
        .pop()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        later.to_string(),
        first.to_string(),
        "{what}: after {error}"
    );
    let later = store.drop_slot(slot(1)).unwrap_err();
    assert_eq!(
        later.to_string(),
        first.to_string(),
        "{what}: after {error}"
    );
}

/// Disk calls of the whole script.
fn script_calls() -> u64 {
    Sim::new(1).run(async |sim: Sim| {
        let machine = sim.machine("node");
        let (store, _) = open(machine.runtime().disk(), config("/store")).unwrap();
        let mut expected = Expected::default();
        script(&store, &mut expected).unwrap();
        drop(store);
        let calls = machine.disk_calls();
        check(&machine, &expected, "no fault");
        calls
    })
}

#[test]
fn i1_power_loss_at_every_disk_call_loses_nothing_acknowledged() {
    let calls = script_calls();
    assert!(calls > 100, "the script makes {calls} calls");
    for number in 0..calls {
        for seed in 1..=4 {
            run_with(seed, number, DiskFault::PowerLoss);
        }
    }
}

#[test]
fn i1_an_error_at_every_disk_call_loses_nothing_acknowledged() {
    for number in 0..script_calls() {
        run_with(1, number, DiskFault::Error);
    }
}

#[test]
fn i1_kill_at_every_batch_loses_nothing_acknowledged() {
    for seed in 1..=8 {
        Sim::new(seed).run(async |sim: Sim| {
            let machine = sim.machine("node");
            let mut expected = Expected::default();
            for round in 0..6_u32 {
                let runtime = machine.runtime();
                let (store, _) = open(runtime.disk(), config("/store")).unwrap();
                for batch in 0..=round {
                    let at = round * 10 + batch;
                    let shards = [(shard(1, at), 1), (shard(2, at + 1), 2)];
                    put(&store, &mut expected, &shards).unwrap();
                }
                drop(store);
                // The process goes, then the power: what recovery believes must be durable.
                machine.kill();
                let runtime = machine.restart();
                drop(open(runtime.disk(), config("/store")).unwrap());
                machine.crash();
                machine.restart();
            }
            check(&machine, &expected, "kill");
        });
    }
}

#[test]
fn i9_a_full_disk_at_every_size_loses_nothing_acknowledged() {
    for kilobytes in (16..700).step_by(12) {
        Sim::new(kilobytes).run(async |sim: Sim| {
            let machine = sim.machine("node");
            machine.set_disk_bytes(kilobytes << 10);
            let what = format!("{kilobytes} KiB");
            let mut expected = Expected::default();
            let runtime = machine.runtime();
            if let Ok((store, _)) = open(runtime.disk(), config("/store")) {
                if let Err(error) = script(&store, &mut expected) {
                    assert!(matches!(error, StoreError::Full { .. }), "{what}: {error}");
                    assert!(store.failure().is_none(), "{what}");
                }
                for (shard, versions) in &expected.shards {
                    assert!(
                        versions.contains(&version(&store, *shard)),
                        "{what}: {shard}"
                    );
                }
            }
            machine.restart();
            machine.set_disk_bytes(64 << 20);
            check(&machine, &expected, &what);
        });
    }
}

#[test]
fn i1_a_shard_twice_in_a_failed_batch_is_promised_to_nobody() {
    let mut failed = 0;
    for call in 0..8 {
        Sim::new(call).run(async |sim: Sim| {
            let machine = sim.machine("node");
            let (store, _) = open(machine.runtime().disk(), config("/store")).unwrap();
            machine.plan_disk_fault(call, DiskFault::Error);
            let twins = [put_of(shard(1, 0), 0), put_of(shard(1, 0), 0)];
            let done = store.put(&twins);
            assert_eq!(done[0].is_ok(), done[1].is_ok(), "fault in call {call}");
            failed += u32::from(done[0].is_err());
        });
    }
    assert!(failed >= 3, "the space, the write and the sync");
}
