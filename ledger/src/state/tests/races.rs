//! I5 under races: whatever happens to its slots, a node that is up proves what was frozen, with
//! an answer that it made at any time of the epoch.

use std::collections::BTreeMap;

use cairn_core::{GroupId, GroupRevision, NodeId, Record, RevisionNumber, Signed};
use cairn_proofs::Challenge;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use super::prover::{EPOCH, judged, proof, submission, verdicts, world, written};
use crate::block::Verdict;
use crate::epoch::FrozenSlot;
use crate::sample::{OWNER, World, acknowledge, declare_loss, node, slot, terms};
use crate::state::State;
use crate::tx::{SlotRef, Tx, TxBody};

const NODES: u8 = 8;
const PARTIES: std::ops::Range<u8> = 10..10 + NODES;

#[derive(Clone, Debug)]
enum Op {
    Revise {
        group: usize,
    },
    Acknowledge {
        group: usize,
        slot: u8,
        back: u64,
    },
    DeclareLoss {
        group: usize,
        slot: u8,
    },
    Drain {
        node: u8,
    },
    Lose {
        node: u8,
    },
    Register {
        node: u8,
    },
    /// A node draws its challenge and makes its proof.
    Prepare {
        node: u8,
    },
    /// It sends the proof that it made before.
    Send {
        node: u8,
    },
    Pass,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..2_usize).prop_map(|group| Op::Revise { group }),
        8 => (0..2_usize, 0..4_u8, 0..7_u64)
            .prop_map(|(group, slot, back)| Op::Acknowledge { group, slot, back: back / 2 }),
        1 => (0..2_usize, 0..4_u8).prop_map(|(group, slot)| Op::DeclareLoss { group, slot }),
        1 => PARTIES.prop_map(|node| Op::Drain { node }),
        1 => PARTIES.prop_map(|node| Op::Lose { node }),
        2 => PARTIES.prop_map(|node| Op::Register { node }),
        5 => PARTIES.prop_map(|node| Op::Prepare { node }),
        3 => PARTIES.prop_map(|node| Op::Send { node }),
        1 => any::<bool>().prop_map(|_| Op::Pass),
        1 => Just(Op::Pass),
    ]
}

/// What is known beside the ledger.
struct Race {
    world: World,
    groups: Vec<GroupId>,
    revisions: BTreeMap<(GroupId, RevisionNumber), GroupRevision>,
    /// A copy of everything that was acknowledged when the epoch began.
    frozen: BTreeMap<(NodeId, SlotRef), FrozenSlot>,
    challenges: BTreeMap<u8, Challenge>,
    made: BTreeMap<u8, (TxBody, Vec<u8>)>,
}

impl Race {
    fn new() -> Self {
        let mut world = world(NODES);
        let groups = vec![world.place(2, 4), world.place(2, 4)];
        Self {
            world,
            groups,
            revisions: BTreeMap::new(),
            frozen: BTreeMap::new(),
            challenges: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    fn copy(&self, state: &State) -> BTreeMap<(NodeId, SlotRef), FrozenSlot> {
        let mut copy = BTreeMap::new();
        for group in state.groups() {
            for (place, deal) in group.code.slots().zip(&group.deals) {
                let held = deal.holder().map(|node| (node, deal.acknowledged));
                let left = deal.leaver.map(|leaver| (leaver.node, leaver.acknowledged));
                let bound = held.into_iter().chain(left);
                for (node, number) in bound.filter(|(_, number)| number.get() > 0) {
                    let frozen = FrozenSlot {
                        revision: self.revisions[&(group.id, number)],
                        slot: place,
                        slot_count: group.code.n(),
                    };
                    copy.insert((node, frozen.slot_ref()), frozen);
                }
            }
        }
        copy
    }

    fn body(&mut self, op: &Op) -> Option<(u8, TxBody)> {
        let world = &self.world;
        let holder = |place| {
            let deal = world.deal(place);
            deal.holder().map(|_| world.holder(place))
        };
        match *op {
            Op::Revise { group } => {
                let id = self.groups[group];
                let number = world.group(id).revision.number.get() + 1;
                let revision = written(id, number, 4);
                self.revisions.insert((id, revision.number), revision);
                Some((OWNER, TxBody::GroupRevise { revision }))
            }
            Op::Acknowledge {
                group,
                slot: index,
                back,
            } => {
                let place = slot(self.groups[group], index);
                let number = world.group(place.group).revision.number.get();
                Some((
                    holder(place)?,
                    acknowledge(place, number.saturating_sub(back)),
                ))
            }
            Op::DeclareLoss { group, slot: index } => {
                let place = slot(self.groups[group], index);
                Some((holder(place)?, declare_loss(place)))
            }
            Op::Drain { node } => Some((node, TxBody::NodeDrain)),
            Op::Register { node } => {
                Some((node, world.registration(node, terms(8, (node, node, node)))))
            }
            Op::Lose { .. } | Op::Prepare { .. } | Op::Send { .. } | Op::Pass => None,
        }
    }

    /// A block, and what must hold after it.
    fn block(
        &mut self,
        lost: &[u8],
        txs: Vec<Signed<Tx>>,
        witnesses: &[Vec<u8>],
    ) -> Result<(), TestCaseError> {
        let before = self.world.state.clone();
        let sent = witnesses.len();
        let mut block = judged(&self.world, txs, witnesses);
        let lost = lost.iter().map(|number| node(*number)).collect();
        block.lost = cairn_core::Bounded::new(lost).unwrap();
        let effects = self.world.apply(block);
        let said = verdicts(&effects);
        prop_assert_eq!(said.len(), sent, "a proof that is sent is judged");
        prop_assert!(
            said.iter().all(|(_, verdict)| *verdict == Verdict::Valid),
            "{:?}",
            said
        );
        if self.world.state.epoch().number > before.epoch().number {
            self.frozen = self.copy(&before);
            self.challenges.clear();
            prop_assert!(self.made.is_empty(), "every proof is sent in its epoch");
        }
        self.compare()
    }

    /// What is frozen lazily is the copy, and no challenge changes.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        for number in PARTIES {
            let frozen = self.world.state.frozen_slots(node(number));
            let first = (
                node(number),
                SlotRef {
                    group: GroupId::default(),
                    ..slot(GroupId::default(), 0)
                },
            );
            let copied = self
                .frozen
                .range(first..)
                .take_while(|((by, _), _)| *by == node(number));
            let copied: Vec<FrozenSlot> = copied.map(|(_, frozen)| *frozen).collect();
            prop_assert_eq!(frozen, copied, "{}", number);
            let Some(challenge) = self.world.state.challenge(node(number)) else {
                continue;
            };
            let first = self
                .challenges
                .entry(number)
                .or_insert_with(|| challenge.clone());
            prop_assert_eq!(&*first, &challenge, "{}", number);
        }
        Ok(())
    }

    fn send(&mut self, numbers: &[u8]) -> Result<(), TestCaseError> {
        let mut txs = Vec::new();
        let mut witnesses = Vec::new();
        for number in numbers {
            if let Some((body, witness)) = self.made.remove(number) {
                txs.push(self.world.signed(*number, body));
                witnesses.push(witness);
            }
        }
        self.block(&[], txs, &witnesses)
    }

    fn prepare(&mut self, number: u8) {
        if let Some(proof) = proof(&self.world, number) {
            let witness = proof.encode();
            let body = submission(&self.world, &witness);
            self.made.entry(number).or_insert((body, witness));
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        // Before the border everyone sends.
        let next = self.world.next_block(&[], vec![]).time;
        if next.get() % EPOCH == (1_000 + EPOCH - 1) % EPOCH {
            let everyone: Vec<u8> = PARTIES.collect();
            everyone.iter().for_each(|number| self.prepare(*number));
            return self.send(&everyone);
        }
        match *op {
            Op::Prepare { node } => self.prepare(node),
            Op::Send { node } => self.send(&[node])?,
            Op::Lose { node } => self.block(&[node], vec![], &[])?,
            _ => {
                let body = self.body(op);
                let txs = body.map(|(from, body)| self.world.signed(from, body));
                self.block(&[], txs.into_iter().collect(), &[])?;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, max_shrink_iters: 300, ..Default::default() })]

    #[test]
    fn i5_no_race_fails_a_node_that_is_up(ops in proptest::collection::vec(op(), 40..160)) {
        let mut race = Race::new();
        for op in &ops {
            race.step(op)?;
        }
        let state = &race.world.state;
        for number in PARTIES {
            let standing = state.node(node(number)).unwrap().standing;
            prop_assert_eq!(standing.lapses(state.epoch()), 0, "{}", number);
        }
        let mut again = world(0).state;
        for block in &race.world.blocks {
            again.apply(block).unwrap();
        }
        prop_assert_eq!(&again, state);
        let decoded = State::decode(&state.encode());
        prop_assert_eq!(decoded.as_ref(), Ok(state));
    }
}
