//! A ledger at work as it shows itself to those who do not have it.

#![expect(clippy::missing_panics_doc, reason = "a failed test")]

use std::ops::RangeInclusive;

use cairn_core::{Digest, GroupId, NodeId, Record, TxId, VolumeId};

use super::{World, account, ask, attest, genesis, ledger_key, node};
use crate::effect::BlockEffects;
use crate::evidence::{Evidence, StateTrie};
use crate::genesis::Genesis;
use crate::query::Question;
use crate::seal::{BlockSeal, Chained, results};
use crate::state::State;
use crate::ticket::AUDITS_MAX;
use crate::tx::SlotRef;
use crate::view::BlockSummary;
use crate::wire::TxEvidence;

/// Everything that a ledger can show.
#[derive(Debug)]
pub struct Shown {
    /// The state behind each block, rising by height; first that of the genesis.
    states: Vec<State>,
    blocks: Vec<ShownBlock>,
}

/// A block to those who do not have it.
#[derive(Clone, Debug)]
pub struct ShownBlock {
    /// What stands for it.
    pub seal: BlockSeal,
    /// Its effects.
    pub effects: BlockEffects,
    /// It in short.
    pub summary: BlockSummary,
}

fn index(height: u64) -> usize {
    usize::try_from(height).expect("few blocks")
}

impl Shown {
    /// Of everything that a world did, whose validators have not changed.
    pub fn of(world: &World) -> Self {
        let genesis = Genesis {
            validators: world.state.term().map(|term| term.validators.clone()),
            ..genesis(*world.state.parameters())
        };
        let mut state = State::genesis(&genesis).expect("a genesis");
        let mut shown = Self {
            states: vec![state.clone()],
            blocks: Vec::new(),
        };
        for block in &world.blocks {
            let effects = state.apply(block).expect("the next block");
            let summary = BlockSummary::of(block, effects.len(), results(&effects));
            shown.blocks.push(ShownBlock {
                seal: BlockSeal::of(&summary, &effects),
                effects: BlockEffects {
                    height: block.height,
                    time: block.time,
                    effects,
                },
                summary,
            });
            shown.states.push(state.clone());
        }
        shown
    }

    /// The height of the last block.
    pub fn last(&self) -> u64 {
        u64::try_from(self.blocks.len()).expect("few blocks")
    }

    /// The state behind a block.
    pub fn state(&self, height: u64) -> &State {
        &self.states[index(height)]
    }

    /// A block.
    pub fn block(&self, height: u64) -> &ShownBlock {
        &self.blocks[index(height) - 1]
    }

    /// What answers a question at a height.
    pub fn evidence(&self, height: u64, question: Question) -> Evidence {
        evidence(self.state(height), question)
    }

    /// Something of the blocks at some heights, shown at the height `at`.
    pub fn chained<T>(
        &self,
        heights: RangeInclusive<u64>,
        at: u64,
        of: impl Fn(&ShownBlock) -> T,
    ) -> Chained<T> {
        let (first, last) = heights.into_inner();
        let blocks = (first..=last).map(|height| {
            let block = self.block(height);
            (block.seal, of(block))
        });
        let after = last.max(first - 1) + 1..=at;
        Chained {
            blocks: blocks.collect(),
            before: self.state(first - 1).chain(),
            after: after
                .map(|height| self.block(height).seal.digest())
                .collect(),
            attestation: attest(self.state(at)),
        }
    }

    /// The effects of some blocks.
    pub fn effects(&self, heights: RangeInclusive<u64>, at: u64) -> Chained<BlockEffects> {
        self.chained(heights, at, |block| block.effects.clone())
    }

    /// The same blocks in short.
    pub fn summaries(&self, heights: RangeInclusive<u64>, at: u64) -> Chained<BlockSummary> {
        self.chained(heights, at, |block| block.summary.clone())
    }

    /// What became of a transaction of the block at a height.
    pub fn tx(&self, id: TxId, height: u64, at: u64) -> TxEvidence {
        TxEvidence::of(self.chained(height..=height, at, |block| block.summary.show(id)))
    }
}

/// What answers a question out of a state.
pub fn evidence(state: &State, question: Question) -> Evidence {
    Evidence::gather(question, attest(state), &StateTrie::of(state)).expect("it is whole")
}

/// A question of every kind, of what is there and of what is not, as `pick` chooses among so many.
pub fn questions(state: &State, mut pick: impl FnMut(usize) -> usize) -> Vec<Question> {
    let accounts = state.accounts().map(|(id, _)| id);
    let owners: Vec<_> = accounts.chain([account(250)]).collect();
    let ids = state.nodes().map(|entry| entry.node);
    let nodes: Vec<NodeId> = ids.chain([node(250)]).collect();
    let ids = state.groups().map(|group| group.id);
    let none = GroupId::new(Digest::of(b"none"));
    let groups: Vec<GroupId> = ids.chain([none]).collect();
    let volumes: Vec<VolumeId> = owners
        .iter()
        .flat_map(|owner| ask!(state, Volumes(*owner)))
        .map(|volume| volume.id)
        .chain([VolumeId::default()])
        .collect();
    // Those of the tests are of short texts.
    let texts: Vec<Vec<u8>> = (0..9_u8)
        .map(|text| vec![text])
        .chain([b"a file".to_vec()])
        .collect();
    let digest = Digest::of(&texts[pick(texts.len())]);
    let mut one = |count: usize| pick(count);
    let (owner, node) = (owners[one(owners.len())], nodes[one(nodes.len())]);
    let (group, volume) = (groups[one(groups.len())], volumes[one(volumes.len())]);
    let held: Vec<SlotRef> = state.slots_of(node, None).collect();
    let after_slot = held.get(one(held.len() * 2 + 1)).copied();
    let after_node = nodes.get(one(nodes.len() * 2)).copied();
    let after_group = groups.get(one(groups.len() * 2)).copied();
    let grants = ask!(state, Grants(volume));
    let grant = grants.get(one(grants.len() + 1));
    let of_owner = owners.get(one(owners.len() * 2)).copied();
    let ticket = u8::try_from(one(AUDITS_MAX + 1)).expect("few tickets");
    vec![
        Question::Account(owner),
        Question::Node(node),
        Question::Group(group),
        Question::Slots {
            node,
            after: after_slot,
        },
        Question::Status,
        Question::Challenge {
            node,
            after: after_slot,
        },
        Question::Epoch,
        Question::Nodes { after: after_node },
        Question::Groups {
            owner: of_owner,
            after: after_group,
        },
        Question::Earnings(node),
        Question::Proven(group),
        Question::Volumes(owner),
        Question::Volume(volume),
        Question::Grants(volume),
        Question::Grant {
            volume,
            holder: grant.map_or_else(|| node.key(), |grant| grant.holder),
        },
        Question::Notarisation(digest),
        Question::Term,
        Question::Audit {
            auditor: node,
            number: ticket,
        },
    ]
}

/// Someone without the state, who gets the evidence as bytes, sees what someone with the state sees.
/// Asked are two questions, which follow from the state.
pub fn assert_shown(state: &State) {
    let root = state.root();
    let mut bytes = root.as_bytes().iter().cycle();
    let mut pick = move |count: usize| {
        let low = [
            *bytes.next().expect("endless"),
            *bytes.next().expect("endless"),
        ];
        usize::from(u16::from_le_bytes(low)) % count
    };
    let kinds = (pick(18), pick(18));
    let asked = questions(state, pick);
    for question in [asked[kinds.0], asked[kinds.1]] {
        assert_shows(state, question);
    }
}

/// As [`assert_shown`], of one question.
pub fn assert_shows(state: &State, question: Question) {
    let encoded = evidence(state, question).encode();
    let evidence = Evidence::decode(&encoded).expect("it was encoded");
    let checked = evidence.check(question, state.ledger_id(), &ledger_key());
    let (seen, of) = checked.expect("it was gathered for this");
    assert_eq!(seen, state.ask(question), "{question:?}");
    assert_eq!(*of, state.attested());
}
