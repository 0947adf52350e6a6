//! Random transactions on the ledger and on a model of it that fits one file. The model can't
//! draw; it takes the draws from the effects and checks that they were allowed.

mod registry;

use std::collections::BTreeMap;

use cairn_core::{Amount, ByteCount, Code, GroupId};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;

use crate::effect::Effect;
use crate::genesis::Parameters;
use crate::group::{Cap, DealState};
use crate::node::NodeStatus;
use crate::sample::{
    ENDOWED, Place, World, account, acknowledge, declare_loss, node, party, register, revise, slot,
    terms,
};
use crate::tx::{TxBody, group_id, tx_id};

/// Parties that are nodes.
const NODES: std::ops::Range<u8> = 10..22;
/// Parties that are owners and operators.
const OWNERS: std::ops::RangeInclusive<u8> = 1..=4;

#[derive(Clone, Debug)]
enum Op {
    Transfer {
        from: u8,
        to: u8,
        micro: u64,
    },
    Register {
        node: u8,
        operator: u8,
        slots: u64,
        place: Place,
    },
    Update {
        node: u8,
        slots: u64,
        place: Place,
    },
    Drain {
        node: u8,
    },
    Lose {
        node: u8,
    },
    Open {
        owner: u8,
        n: u8,
        micro: u64,
    },
    Revise {
        group: usize,
        owner: Option<u8>,
        step: u64,
        segments: u32,
    },
    Acknowledge {
        group: usize,
        slot: u8,
        node: Option<u8>,
        back: u64,
    },
    DeclareLoss {
        group: usize,
        slot: u8,
        node: Option<u8>,
        leaver: Leaver,
    },
    Registry(registry::Op),
    Pass,
}

#[derive(Clone, Copy, Debug)]
enum Leaver {
    Holder,
    Leaver,
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..3_u8, 0..3_u8, 0..2_u8);
    let owner = || OWNERS;
    prop_oneof![
        2 => (owner(), 0..8_u8, prop_oneof![Just(0), 1..2000_u64, Just(ENDOWED)])
            .prop_map(|(from, to, micro)| Op::Transfer { from, to, micro }),
        6 => (NODES, prop_oneof![owner(), NODES], 0..6_u64, place())
            .prop_map(|(node, operator, slots, place)| Op::Register { node, operator, slots, place }),
        3 => (NODES, 0..8_u64, place())
            .prop_map(|(node, slots, place)| Op::Update { node, slots, place }),
        2 => NODES.prop_map(|node| Op::Drain { node }),
        1 => NODES.prop_map(|node| Op::Lose { node }),
        4 => (owner(), prop_oneof![Just(2_u8), Just(4), Just(8)], 0..500_u64)
            .prop_map(|(owner, n, micro)| Op::Open { owner, n, micro }),
        4 => (0..4_usize, proptest::option::weighted(0.1, owner()), 0..3_u64, 0..9_u32)
            .prop_map(|(group, owner, step, segments)| {
                Op::Revise { group, owner, step: if step == 0 { 2 } else { 1 }, segments }
            }),
        8 => (0..4_usize, 0..9_u8, proptest::option::weighted(0.1, NODES), 0..3_u64)
            .prop_map(|(group, slot, node, back)| {
                Op::Acknowledge { group, slot, node, back: back.saturating_sub(1) }
            }),
        2 => (0..4_usize, 0..9_u8, proptest::option::weighted(0.1, NODES), any::<bool>())
            .prop_map(|(group, slot, node, leaver)| {
                let leaver = if leaver { Leaver::Leaver } else { Leaver::Holder };
                Op::DeclareLoss { group, slot, node, leaver }
            }),
        16 => registry::op().prop_map(Op::Registry),
        2 => Just(Op::Pass),
    ]
}

#[derive(Clone, Debug)]
struct Node {
    operator: u8,
    slots: u64,
    place: Place,
    status: NodeStatus,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    holder: Option<u8>,
    is_leaving: bool,
    acknowledged: u64,
    leaver: Option<(u8, u64)>,
}

#[derive(Clone, Debug)]
struct Group {
    owner: u8,
    escrow: u64,
    number: u64,
    segments: u32,
    n: u8,
    /// Empty until drawn.
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    balances: BTreeMap<u8, u64>,
    nodes: BTreeMap<u8, Node>,
    groups: BTreeMap<GroupId, Group>,
    order: Vec<GroupId>,
    registry: registry::Model,
}

impl Model {
    fn used(&self, node: u8) -> u64 {
        let slots = self.groups.values().flat_map(|group| &group.slots);
        let counts = slots.map(|slot| {
            u64::from(slot.holder == Some(node))
                + u64::from(slot.leaver.is_some_and(|l| l.0 == node))
        });
        counts.sum()
    }

    fn is_active(&self, node: u8) -> bool {
        let status = self.nodes.get(&node).map(|node| node.status);
        status == Some(NodeStatus::Active)
    }

    fn candidates(&self, group: Option<&Group>) -> Vec<u8> {
        let in_group = |node: u8| {
            group.is_some_and(|group| {
                let mut slots = group.slots.iter();
                slots.any(|s| s.holder == Some(node) || s.leaver.is_some_and(|l| l.0 == node))
            })
        };
        let mut nodes: Vec<u8> = self.nodes.keys().copied().collect();
        nodes.retain(|node| {
            self.is_active(*node) && self.used(*node) < self.nodes[node].slots && !in_group(*node)
        });
        nodes
    }

    fn group(&self, number: usize) -> Option<(GroupId, &Group)> {
        let id = *self.order.get(number)?;
        Some((id, self.groups.get(&id)?))
    }

    fn balance(&self, party: u8) -> u64 {
        self.balances.get(&party).copied().unwrap_or(0)
    }

    /// Who sends what, and whether it will be done; `None` when it can't be asked.
    #[expect(clippy::too_many_lines, reason = "one arm for each op")]
    fn plan(&self, op: &Op) -> Option<(u8, TxBody, bool)> {
        Some(match *op {
            Op::Transfer { from, to, micro } => {
                let (to, amount) = (account(to), Amount::from_micro(micro));
                let is_done = micro > 0 && self.balance(from) >= micro;
                (from, TxBody::Transfer { to, amount }, is_done)
            }
            Op::Register {
                node,
                operator,
                slots,
                place,
            } => {
                let is_gone = !self.is_active(node) && self.used(node) == 0;
                (node, register(node, operator, terms(slots, place)), is_gone)
            }
            Op::Update { node, slots, place } => {
                let is_done = self.is_active(node) && self.used(node) <= slots;
                (
                    node,
                    TxBody::NodeUpdate {
                        terms: terms(slots, place),
                    },
                    is_done,
                )
            }
            Op::Drain { node } => (node, TxBody::NodeDrain, self.is_active(node)),
            Op::Open { owner, n, micro } => {
                let body = TxBody::GroupOpen {
                    code: Code::new(n / 2, n).unwrap(),
                    slot_capacity: ByteCount::new(1 << 20),
                    price_max: Amount::from_micro(5),
                    term_epochs: 1,
                    escrow: Amount::from_micro(micro),
                };
                let room = self.candidates(None).len() >= usize::from(n);
                (owner, body, room && self.balance(owner) >= micro)
            }
            Op::Revise {
                group,
                owner,
                step,
                segments,
            } => {
                let (id, group) = self.group(group)?;
                let is_done = owner.is_none_or(|owner| owner == group.owner)
                    && !group.slots.is_empty()
                    && step == 1
                    && segments >= group.segments;
                let body = revise(id, group.number + step, segments);
                (owner.unwrap_or(group.owner), body, is_done)
            }
            Op::Acknowledge {
                group,
                slot: index,
                node,
                back,
            } => {
                let (id, group) = self.group(group)?;
                let found = group.slots.get(usize::from(index));
                let node = node
                    .or(found.and_then(|slot| slot.holder))
                    .unwrap_or(NODES.start);
                let revision = group.number.checked_sub(back)?;
                let is_done = self.nodes.contains_key(&node)
                    && found.is_some_and(|slot| {
                        slot.holder == Some(node) && revision >= slot.acknowledged
                    });
                (node, acknowledge(slot(id, index), revision), is_done)
            }
            Op::DeclareLoss {
                group,
                slot: index,
                node,
                leaver,
            } => {
                let (id, group) = self.group(group)?;
                let found = group.slots.get(usize::from(index));
                let party = found.and_then(|slot| match leaver {
                    Leaver::Holder => slot.holder,
                    Leaver::Leaver => slot.leaver.map(|leaver| leaver.0),
                });
                let node = node.or(party).unwrap_or(NODES.start);
                let is_party = |slot: &Slot| {
                    slot.holder == Some(node) || slot.leaver.is_some_and(|l| l.0 == node)
                };
                let is_done = self.nodes.contains_key(&node) && found.is_some_and(is_party);
                (node, declare_loss(slot(id, index)), is_done)
            }
            Op::Registry(ref op) => return self.registry.plan(op),
            Op::Lose { .. } | Op::Pass => return None,
        })
    }

    /// Does what was planned.
    #[expect(clippy::too_many_lines, reason = "one arm for each op")]
    fn act(&mut self, op: &Op, id: GroupId) {
        match *op {
            Op::Transfer { from, to, micro } => {
                *self.balances.entry(from).or_default() -= micro;
                *self.balances.entry(to).or_default() += micro;
            }
            Op::Register {
                node,
                operator,
                slots,
                place,
            } => {
                let status = NodeStatus::Active;
                self.nodes.insert(
                    node,
                    Node {
                        operator,
                        slots,
                        place,
                        status,
                    },
                );
            }
            Op::Update { node, slots, place } => {
                let node = self.nodes.get_mut(&node).unwrap();
                (node.slots, node.place) = (slots, place);
            }
            Op::Drain { node } => {
                self.nodes.get_mut(&node).unwrap().status = NodeStatus::Draining;
                for slot in self.groups.values_mut().flat_map(|group| &mut group.slots) {
                    if slot.holder == Some(node) {
                        slot.is_leaving = slot.acknowledged > 0 && slot.leaver.is_none();
                        slot.holder = slot.is_leaving.then_some(node);
                    }
                }
            }
            Op::Lose { node } => {
                let Some(entry) = self.nodes.get_mut(&node) else {
                    return;
                };
                entry.status = NodeStatus::Lost;
                for slot in self.groups.values_mut().flat_map(|group| &mut group.slots) {
                    if slot.holder == Some(node) {
                        (slot.holder, slot.is_leaving) = (None, false);
                    }
                    slot.leaver = slot.leaver.filter(|leaver| leaver.0 != node);
                }
            }
            Op::Open { owner, n, micro } => {
                *self.balances.entry(owner).or_default() -= micro;
                let group = Group {
                    owner,
                    escrow: micro,
                    number: 0,
                    segments: 0,
                    n,
                    slots: vec![],
                };
                self.groups.insert(id, group);
                self.order.push(id);
            }
            Op::Revise {
                group, segments, ..
            } => {
                let id = self.order[group];
                let group = self.groups.get_mut(&id).unwrap();
                (group.number, group.segments) = (group.number + 1, segments);
            }
            Op::Acknowledge {
                group, slot, back, ..
            } => {
                let id = self.order[group];
                let group = self.groups.get_mut(&id).unwrap();
                let slot = &mut group.slots[usize::from(slot)];
                slot.acknowledged = group.number - back;
                slot.leaver = slot.leaver.filter(|leaver| leaver.1 > slot.acknowledged);
            }
            Op::DeclareLoss { group, slot, .. } => {
                let (by, _, _) = self.plan(op).unwrap();
                let id = self.order[group];
                let slot = &mut self.groups.get_mut(&id).unwrap().slots[usize::from(slot)];
                if slot.holder == Some(by) {
                    slot.acknowledged = 0;
                    if slot.is_leaving {
                        (slot.holder, slot.is_leaving) = (None, false);
                    }
                } else {
                    slot.leaver = None;
                }
            }
            Op::Registry(ref op) => self.registry.act(op, registry::id_of(id)),
            Op::Pass => {}
        }
    }

    /// Takes a draw over, if it was allowed.
    fn follow(&mut self, effect: &Effect) -> Result<(), TestCaseError> {
        match effect {
            Effect::GroupPlaced(id) => {
                let group = self.groups.get_mut(id).unwrap();
                prop_assert!(group.slots.is_empty());
                group.slots = vec![Slot::default(); usize::from(group.n)];
            }
            Effect::SlotMoved { slot, to, .. } => {
                let to = party(*to);
                let group = &self.groups[&slot.group];
                prop_assert!(self.candidates(Some(group)).contains(&to));
                let group = self.groups.get_mut(&slot.group).unwrap();
                let slot = &mut group.slots[slot.slot.index()];
                if slot.is_leaving {
                    slot.leaver = slot.holder.map(|holder| (holder, slot.acknowledged));
                }
                let leaver = slot.leaver;
                *slot = Slot {
                    holder: Some(to),
                    leaver,
                    ..Slot::default()
                };
            }
            Effect::SlotWaiting(slot) => {
                let group = &self.groups[&slot.group];
                prop_assert_eq!(self.candidates(Some(group)), Vec::<u8>::new());
            }
            Effect::GroupRefunded { group, .. } => {
                let group = self.groups.remove(group).unwrap();
                prop_assert!(self.candidates(None).len() < usize::from(group.n));
                *self.balances.entry(group.owner).or_default() += group.escrow;
            }
            _ => {}
        }
        Ok(())
    }

    /// Caps are respected, or reported by as much as they are exceeded, in the groups drawn.
    fn check_caps(&self, world: &World, draws: &[&Effect]) -> Result<(), TestCaseError> {
        let is_drawn = |id: GroupId| {
            let is_of = |effect: &&Effect| matches!(effect, Effect::SlotMoved { slot, .. } if slot.group == id);
            draws.iter().any(is_of)
        };
        for (id, group) in self.groups.iter().filter(|(id, _)| is_drawn(**id)) {
            let staying = |slot: &&Slot| slot.holder.is_some() && !slot.is_leaving;
            let holders: Vec<&Node> = group
                .slots
                .iter()
                .filter(staying)
                .map(|slot| &self.nodes[&slot.holder.unwrap()])
                .collect();
            let most = |value: &dyn Fn(&Node) -> u8| {
                let values: Vec<u8> = holders.iter().map(|node| value(node)).collect();
                let count = |value| values.iter().filter(|other| **other == value).count();
                values.iter().map(|value| count(*value)).max().unwrap_or(0)
            };
            let n = usize::from(group.n);
            let expected = [
                (Cap::Region, n.div_ceil(8), most(&|node| node.place.2)),
                (Cap::Network, n.div_ceil(16), most(&|node| node.place.0)),
                (Cap::Provider, n.div_ceil(16), most(&|node| node.place.1)),
                (Cap::Operator, 1, most(&|node| node.operator)),
            ];
            let expected: Vec<_> = expected
                .into_iter()
                .filter(|(_, max, found)| found > max)
                .collect();
            let reported: Vec<_> = world
                .group(*id)
                .relaxed
                .iter()
                .map(|cap| (cap.cap, usize::from(cap.max), usize::from(cap.found)))
                .collect();
            prop_assert_eq!(reported, expected);
        }
        Ok(())
    }

    fn compare(&self, world: &World) -> Result<(), TestCaseError> {
        self.registry.compare(world)?;
        for party in 0..30 {
            let found = world.state.account(account(party)).balance;
            prop_assert_eq!(found, Amount::from_micro(self.balance(party)));
        }
        for (number, entry) in &self.nodes {
            let found = world.state.node(node(*number)).unwrap();
            prop_assert_eq!(found.status, entry.status);
            prop_assert_eq!(found.used.get(), self.used(*number) << 20);
        }
        prop_assert_eq!(world.state.groups().count(), self.groups.len());
        for (id, group) in &self.groups {
            let found = world.group(*id);
            prop_assert_eq!(found.revision.number.get(), group.number);
            prop_assert_eq!(found.deals.len(), group.slots.len());
            for (deal, slot) in found.deals.iter().zip(&group.slots) {
                let is_held = deal.state != DealState::Vacant;
                prop_assert_eq!(is_held.then(|| party(deal.node)), slot.holder);
                prop_assert_eq!(deal.state == DealState::Leaving, slot.is_leaving);
                if is_held {
                    prop_assert_eq!(deal.acknowledged.get(), slot.acknowledged);
                }
                let leaver = deal.leaver.map(|l| (party(l.node), l.acknowledged.get()));
                prop_assert_eq!(leaver, slot.leaver);
            }
        }
        Ok(())
    }
}

/// One block of one op, on both.
fn step(world: &mut World, model: &mut Model, op: &Op) -> Result<(), TestCaseError> {
    model.registry.now = world.next_block(&[], vec![]).time.get();
    let planned = model.plan(op);
    let (block, id) = match (&planned, op) {
        (Some((from, body, _)), _) => {
            let tx = world.signed(*from, body.clone());
            let id = group_id(tx_id(&tx));
            (world.next_block(&[], vec![tx]), id)
        }
        (None, Op::Lose { node: lost }) => {
            (world.next_block(&[node(*lost)], vec![]), GroupId::default())
        }
        (None, _) => (world.next_block(&[], vec![]), GroupId::default()),
    };
    let effects = world.apply(block);
    let is_draw = |effect: &&Effect| {
        matches!(
            effect,
            Effect::GroupPlaced(_)
                | Effect::SlotMoved { .. }
                | Effect::SlotWaiting(_)
                | Effect::GroupRefunded { .. }
        )
    };
    let draws: Vec<&Effect> = effects.iter().take_while(is_draw).collect();
    prop_assert_eq!(
        draws.len(),
        effects.iter().filter(is_draw).count(),
        "draws come first"
    );
    for effect in &draws {
        model.follow(effect)?;
    }
    if !draws.is_empty() {
        model.check_caps(world, &draws)?;
    }
    // Draws of the same block come before, and may change what is done.
    let planned = if draws.is_empty() {
        planned
    } else {
        model.plan(op)
    };
    let result = effects.iter().find_map(|effect| match effect {
        Effect::TxDone { result, .. } => Some(result.is_ok()),
        _ => None,
    });
    let is_done = result.unwrap_or(matches!(op, Op::Lose { .. }));
    if let Some((_, _, expected)) = planned {
        prop_assert_eq!(is_done, expected, "{:?}: {:?}", op, effects.last());
    }
    if is_done {
        model.act(op, id);
    }
    model.compare(world)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 96, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn i4_conservation_and_all_else_agrees_with_the_model(
        ops in proptest::collection::vec(op(), 1..180),
    ) {
        let mut world = World::new(Parameters::default());
        let mut model = Model::default();
        model.balances.extend(OWNERS.map(|owner| (owner, ENDOWED)));
        for op in &ops {
            // Draws are let through first, so that one op meets one known state.
            while world.state.has_draws() {
                step(&mut world, &mut model, &Op::Pass)?;
            }
            step(&mut world, &mut model, op)?;
        }
        // Equal blocks give equal states (I10).
        let mut again = World::new(Parameters::default());
        for block in &world.blocks {
            again.state.apply(block).unwrap();
        }
        prop_assert_eq!(again.digest(), world.digest());
    }

    /// Long runs of nothing but the registry, so that leases and grants end at every moment.
    #[test]
    fn the_registry_agrees_with_the_model(
        ops in proptest::collection::vec(prop_oneof![
            12 => registry::op().prop_map(Op::Registry),
            1 => Just(Op::Pass),
        ], 100..400),
    ) {
        let mut world = World::new(Parameters::default());
        let mut model = Model::default();
        model.balances.extend(OWNERS.map(|owner| (owner, ENDOWED)));
        for op in &ops {
            step(&mut world, &mut model, op)?;
        }
    }
}
