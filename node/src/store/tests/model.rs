//! The store beside a map, after any operations.

use std::collections::BTreeMap;

use cairn_core::{RevisionDetail, SegmentNumber, Signed, UnixMillis};
use cairn_runtime::{Machine, Runtime, Sim, SimRuntime};
use proptest::prelude::*;

use super::fixture::{
    assert_version, config, detail, final_at, open, put_of, shard, slot, version,
};
use crate::store::{ShardPlace, ShardStore, StoreError};

/// Segment numbers that operations use.
const NUMBERS: u32 = 24;

#[derive(Clone, Debug)]
enum Operation {
    Put(Vec<(u32, u8)>),
    Revise(u32),
    Empty(u32),
    Release,
    Expire,
    Drop,
    Compact,
    Reopen,
    Crash,
}

fn operation() -> impl Strategy<Value = Operation> {
    let put = prop::collection::vec((0..NUMBERS, 0_u8..3), 1..6);
    prop_oneof![
        8 => put.prop_map(Operation::Put),
        2 => (1..NUMBERS).prop_map(Operation::Revise),
        2 => (0..NUMBERS).prop_map(Operation::Empty),
        1 => Just(Operation::Release),
        1 => Just(Operation::Expire),
        1 => Just(Operation::Drop),
        1 => Just(Operation::Compact),
        2 => Just(Operation::Reopen),
        2 => Just(Operation::Crash),
    ]
}

/// What the store must have.
#[derive(Debug, Default)]
struct Model {
    shards: BTreeMap<u32, u8>,
    /// Leaves of the reached revision.
    leaves: Vec<Option<u8>>,
    revision: u64,
}

impl Model {
    /// Whether a put of this version is taken.
    fn put(&mut self, number: u32, version: u8) -> bool {
        let index = usize::try_from(number).unwrap();
        match self.leaves.get(index) {
            Some(leaf) => *leaf == Some(version),
            None => {
                self.shards.insert(number, version);
                true
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn i1_the_store_agrees_with_a_map(
        seed in 0_u64..1000,
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        Sim::new(seed).run(async |sim: Sim| run(&sim, &operations));
    }
}

fn run(sim: &Sim, operations: &[Operation]) {
    let machine = sim.machine("node");
    let mut world = World {
        store: open(machine.runtime().disk(), config("/store")).unwrap().0,
        model: Model::default(),
        machine,
    };
    for operation in operations {
        world = world.apply(operation);
        for number in 0..NUMBERS {
            let expected = world.model.shards.get(&number).copied();
            let found = version(&world.store, shard(1, number));
            assert_eq!(found, expected, "{operation:?} {number}");
        }
        let count = u64::try_from(world.model.shards.len()).unwrap();
        assert_eq!(world.store.figures().unwrap().shard_count, count);
    }
    for (number, version) in &world.model.shards {
        assert_version(&world.store, shard(1, *number), *version);
    }
    let none = ShardPlace::new(slot(2), SegmentNumber::ZERO);
    let error = world.store.record(none).unwrap_err();
    assert!(matches!(error, StoreError::Absent { .. }), "{error}");
}

/// The store and its model.
struct World {
    machine: Machine,
    store: ShardStore<<SimRuntime as Runtime>::Disk>,
    model: Model,
}

impl World {
    fn apply(mut self, operation: &Operation) -> Self {
        match operation {
            Operation::Put(shards) => self.put(shards),
            Operation::Revise(count) => self.revise(*count),
            Operation::Empty(number) => self.empty(*number),
            Operation::Release => {
                self.store
                    .release_emptied(slot(1), &final_at(self.model.revision))
                    .unwrap();
            }
            Operation::Expire => {
                let covered = u32::try_from(self.model.leaves.len()).unwrap();
                let before = UnixMillis::new(2000);
                self.store.expire(slot(1), covered, before).unwrap();
                self.model.shards.retain(|number, _| *number < covered);
            }
            Operation::Drop => {
                self.store.drop_slot(slot(1)).unwrap();
                self.model = Model::default();
            }
            Operation::Compact => while self.store.compact().unwrap().is_some() {},
            Operation::Reopen => return self.reopen(|machine| machine.runtime()),
            Operation::Crash => return self.reopen(Machine::restart),
        }
        self
    }

    fn reopen(self, runtime: impl FnOnce(&Machine) -> SimRuntime) -> Self {
        drop(self.store);
        let runtime = runtime(&self.machine);
        let (store, _) = open(runtime.disk(), config("/store")).unwrap();
        Self { store, ..self }
    }

    fn put(&mut self, shards: &[(u32, u8)]) {
        let puts = shards
            .iter()
            .map(|(number, version)| put_of(shard(1, *number), *version));
        let results = self.store.put(&puts.collect::<Vec<_>>());
        for ((number, version), result) in shards.iter().zip(results) {
            let taken = self.model.put(*number, *version);
            assert_eq!(result.is_ok(), taken, "{number} {result:?}");
        }
    }

    fn revise(&mut self, count: u32) {
        let model = &mut self.model;
        let known = model.leaves.iter().copied();
        let more = (0..NUMBERS).skip(model.leaves.len());
        let more = more.map(|number| model.shards.get(&number).copied());
        let leaves = known.chain(more.take_while(Option::is_some));
        let leaves: Vec<Option<u8>> = leaves.take(usize::try_from(count).unwrap()).collect();
        if leaves.len() < model.leaves.len() {
            return;
        }
        model.leaves = leaves;
        model.revision += 1;
        let next = detail(slot(1), model.revision, &model.leaves, &[]);
        self.reach(&next);
    }

    /// Reaches the model's revision. As many as may be asked for are kept; when they are too many,
    /// nothing has changed, and it is reached once the one before is final.
    fn reach(&mut self, next: &Signed<RevisionDetail>) {
        match self.store.reach(slot(1), next) {
            Ok(_) => {}
            Err(StoreError::Unsettled { count: 6, .. }) if self.model.revision > 7 => {
                let before = self.model.revision - 1;
                let reached = self.store.reached(slot(1)).unwrap();
                assert_eq!(reached.number().get(), before);
                self.store
                    .release_emptied(slot(1), &final_at(before))
                    .unwrap();
                self.store.reach(slot(1), next).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn empty(&mut self, number: u32) {
        let model = &mut self.model;
        let Some(leaf) = model.leaves.get_mut(usize::try_from(number).unwrap()) else {
            return;
        };
        *leaf = None;
        model.shards.remove(&number);
        model.revision += 1;
        let next = detail(slot(1), model.revision, &model.leaves, &[number]);
        self.reach(&next);
    }
}
