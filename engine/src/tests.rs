//! Four validators in one process, from one seed: the engine's own deterministic runtime and a
//! simulated network between them.

mod equivocator;
mod silence;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commonware_cryptography::{Signer as _, ed25519};
use commonware_p2p::simulated::{Config, Link, Network, Oracle};
use commonware_runtime::{
    Clock as _, Handle, Runner as _, Spawner as _, Supervisor as _, deterministic,
};
use commonware_utils::probability;
use tokio::sync::mpsc;

use crate::block::BytesMax;
use crate::committee::{self, Dealing, deal, identity};
use crate::port::{Application, BoxFuture, Final, Seed, Turn, Vote};
use crate::seeds::{SEED_LAG, Seeds, seed_views};
use crate::stack::{CHANNELS, Validator, Wires, message_bytes_max, quota, run};

type World = deterministic::Context;

const LEDGER: [u8; 32] = [7; 32];
const TERM: u32 = 3;
const GENESIS: &[u8] = b"genesis";
const BYTES_MAX: BytesMax = BytesMax(1024);
const FORWARDED_BYTES_MAX: usize = 512;
const TURN_LIMIT: Duration = Duration::from_secs(1);

/// A chain of blocks that say in which view they were made: what a real application keeps
/// durably outlives the crash of its validator here.
#[derive(Debug, Default)]
struct Chain {
    finals: Mutex<BTreeMap<u64, Vec<u8>>>,
    seeds: Mutex<BTreeMap<u64, [u8; 48]>>,
    messages: Mutex<Vec<Vec<u8>>>,
    /// It makes no block while this is set.
    is_silent: AtomicBool,
    /// The last view whose block it was to make.
    asked: AtomicU64,
}

impl Chain {
    fn height(&self) -> u64 {
        let finals = self.finals.lock().unwrap();
        finals.last_key_value().map_or(0, |(height, _)| *height)
    }

    fn note(&self, seeds: &[Seed]) {
        for seed in seeds {
            let known = self.seeds.lock().unwrap().insert(seed.view, seed.bytes);
            assert!(
                known.is_none_or(|known| known == seed.bytes),
                "one seed a view"
            );
        }
    }

    /// The one block that this test's application makes of a turn.
    fn block(turn: &Turn) -> Vec<u8> {
        let mut block = turn.view.to_le_bytes().to_vec();
        block.extend(turn.parent_view.to_le_bytes());
        block.extend(turn.height.to_le_bytes());
        block
    }
}

impl Application for Chain {
    fn propose(&self, turn: Turn) -> BoxFuture<'_, Option<Vec<u8>>> {
        let views: Vec<u64> = turn.seeds.iter().map(|seed| seed.view).collect();
        let expected: Vec<u64> = seed_views(turn.parent_view, turn.view).collect();
        assert_eq!(views, expected, "a proposer has the seeds");
        self.note(&turn.seeds);
        self.asked.store(turn.view, Ordering::Relaxed);
        let is_silent = self.is_silent.load(Ordering::Relaxed);
        Box::pin(async move { (!is_silent).then(|| Self::block(&turn)) })
    }

    fn vote(&self, turn: Turn, block: Vec<u8>) -> BoxFuture<'_, Vote> {
        self.note(&turn.seeds);
        Box::pin(async move {
            if block == Self::block(&turn) {
                Vote::Yes
            } else {
                Vote::No
            }
        })
    }

    fn finalize(&self, block: Final) -> BoxFuture<'_, ()> {
        let mut finals = self.finals.lock().unwrap();
        let next = finals.last_key_value().map_or(0, |(height, _)| *height) + 1;
        assert!(
            block.height <= next,
            "no gap: {} after {next}",
            block.height
        );
        let known = finals.insert(block.height, block.block.clone());
        assert!(
            known.is_none_or(|known| known == block.block),
            "never another"
        );
        Box::pin(async {})
    }

    fn receive(&self, _: [u8; 32], message: Vec<u8>) {
        self.messages.lock().unwrap().push(message);
    }
}

struct Member {
    key: ed25519::PublicKey,
    chain: Arc<Chain>,
    running: Option<Running>,
    starts: u32,
}

struct Running {
    task: Handle<()>,
    outbox: mpsc::Sender<Vec<u8>>,
}

/// The validators and the network between them.
struct Team {
    world: World,
    oracle: Oracle<ed25519::PublicKey, World>,
    dealing: Dealing,
    members: Vec<Member>,
}

impl Team {
    async fn new(world: World, count: u8) -> Self {
        let secrets: Vec<[u8; 32]> = (1..=count).map(|seed| [seed; 32]).collect();
        let identities: Vec<[u8; 32]> = secrets.iter().map(|it| identity(it).unwrap()).collect();
        let dealing = deal(&identities, &[42; 32]).unwrap();
        let keys = dealing.committee.set().clone();
        let (network, oracle) = Network::new_with_peers(
            world.child("network"),
            Config {
                max_size: message_bytes_max(u32::from(count), BYTES_MAX),
                max_peers_per_set: usize::from(count).try_into().unwrap(),
                disconnect_on_block: true,
                tracked_peer_sets: 1.try_into().unwrap(),
            },
            keys.clone(),
        )
        .await;
        network.start();
        let members = keys
            .iter()
            .map(|key| Member {
                key: key.clone(),
                chain: Arc::default(),
                running: None,
                starts: 0,
            })
            .collect();
        let team = Self {
            world,
            oracle,
            dealing,
            members,
        };
        team.connect(|_, _| true).await;
        team
    }

    /// Links those for whom `linked` holds and cuts the rest.
    async fn connect(&self, linked: impl Fn(usize, usize) -> bool) {
        for (a, from) in self.members.iter().enumerate() {
            for (b, to) in self.members.iter().enumerate().filter(|(b, _)| *b != a) {
                // Fails when there is no link.
                drop(
                    self.oracle
                        .remove_link(from.key.clone(), to.key.clone())
                        .await,
                );
                if linked(a, b) {
                    let link = Link {
                        latency: Duration::from_millis(40),
                        jitter: Duration::from_millis(20),
                        success_rate: probability!(0.98),
                    };
                    let (from, to) = (from.key.clone(), to.key.clone());
                    self.oracle.add_link(from, to, link).await.unwrap();
                }
            }
        }
    }

    async fn start(&mut self, number: usize) {
        let key = self.members[number].key.clone();
        let control = self.oracle.control(key.clone());
        let mut channels = Vec::new();
        for (channel, rate) in CHANNELS {
            channels.push(control.register(channel, quota(rate)).await.unwrap());
        }
        let [votes, certificates, resolver, backfill, blocks, messages] = channels
            .try_into()
            .unwrap_or_else(|_| unreachable!("six channels"));
        let wires = Wires {
            votes,
            certificates,
            resolver,
            backfill,
            blocks,
            messages,
            peers: self.oracle.manager(),
            blocker: control,
        };
        let committee = &self.dealing.committee;
        let member = &mut self.members[number];
        let (outbox, taken) = mpsc::channel(16);
        let validator = Validator {
            scheme: committee
                .signer(&LEDGER, TERM, &key, &self.dealing.parts[number])
                .unwrap(),
            me: key,
            genesis: GENESIS.to_vec(),
            bytes_max: BYTES_MAX,
            forwarded_bytes_max: FORWARDED_BYTES_MAX,
            turn_limit: TURN_LIMIT,
            application: Arc::<Chain>::clone(&member.chain),
            seeds: Seeds::default(),
            height: Arc::new(AtomicU64::new(0)),
            partition: format!("v{number}"),
            outbox: taken,
        };
        let context = self
            .world
            .child("validator")
            .with_attribute("start", member.starts);
        let context = context.with_attribute("number", number);
        member.starts += 1;
        let task = context.spawn(move |context| run(context, wires, validator));
        member.running = Some(Running { task, outbox });
    }

    async fn start_all(&mut self) {
        for number in 0..self.members.len() {
            self.start(number).await;
        }
    }

    async fn crash(&mut self, number: usize) {
        let running = self.members[number].running.take().unwrap();
        running.task.abort();
        // Its files are closed when its tasks have ended.
        drop(running.task.await);
    }

    fn heights(&self) -> Vec<u64> {
        self.members.iter().map(|it| it.chain.height()).collect()
    }

    /// Waits until every running validator has as many final blocks.
    async fn reach(&self, height: u64) {
        let is_behind =
            |member: &Member| member.running.is_some() && member.chain.height() < height;
        while self.members.iter().any(is_behind) {
            self.world.sleep(Duration::from_millis(50)).await;
        }
    }

    /// All have the same blocks as far as they go, and true seeds.
    fn check(&self) {
        let longest = self
            .members
            .iter()
            .max_by_key(|it| it.chain.height())
            .unwrap();
        let longest = longest.chain.finals.lock().unwrap().clone();
        for member in &self.members {
            for (height, block) in member.chain.finals.lock().unwrap().iter() {
                assert_eq!(
                    Some(block),
                    longest.get(height),
                    "one block at height {height}"
                );
            }
        }
        let seeds = self.members[0].chain.seeds.lock().unwrap().clone();
        for (view, bytes) in seeds.into_iter().take(4) {
            let seed = Seed { view, bytes };
            let committee = &self.dealing.committee;
            assert!(committee.is_seed(&LEDGER, TERM, &seed));
            assert!(!committee.is_seed(&[8; 32], TERM, &seed), "of this ledger");
            assert!(!committee.is_seed(&LEDGER, TERM + 1, &seed), "of this term");
            let other = Seed {
                view: view + 1,
                ..seed
            };
            assert!(!committee.is_seed(&LEDGER, TERM, &other), "of this view");
        }
    }
}

fn simulate<F: Future>(seed: u64, count: u8, test: impl FnOnce(Team) -> F) {
    let config = deterministic::Config::new()
        .with_seed(seed)
        .with_timeout(Some(Duration::from_secs(600)));
    deterministic::Runner::new(config).start(async |world| {
        let mut team = Team::new(world, count).await;
        team.start_all().await;
        test(team).await;
    });
}

#[test]
fn one_validator_agrees_with_itself_and_goes_on_after_a_crash() {
    simulate(1, 1, async |mut team: Team| {
        team.reach(20).await;
        team.crash(0).await;
        let height = team.heights()[0];
        team.start(0).await;
        team.reach(height + 20).await;
        team.check();
    });
}

#[test]
fn four_validators_agree_while_one_after_another_crashes() {
    simulate(2, 4, async |mut team: Team| {
        for number in 0..4 {
            team.crash(number).await;
            let height = team.heights().into_iter().max().unwrap();
            team.reach(height + 5).await;
            team.start(number).await;
            team.reach(height + 10).await;
        }
        team.check();
    });
}

#[test]
fn all_four_killed_at_once_come_back() {
    simulate(3, 4, async |mut team: Team| {
        team.reach(10).await;
        for number in 0..4 {
            team.crash(number).await;
        }
        let heights = team.heights();
        team.start_all().await;
        team.reach(heights.iter().max().unwrap() + 10).await;
        team.check();
    });
}

#[test]
fn two_and_two_halt_and_heal_without_a_fork() {
    simulate(4, 4, async |team: Team| {
        team.reach(5).await;
        team.connect(|a, b| a / 2 == b / 2).await;
        // What was under way may still become final.
        team.world.sleep(Duration::from_secs(5)).await;
        let halted = team.heights();
        team.world.sleep(Duration::from_secs(20)).await;
        assert_eq!(team.heights(), halted, "two of four decide nothing");
        team.connect(|_, _| true).await;
        team.reach(halted.iter().max().unwrap() + 10).await;
        team.check();
    });
}

#[test]
fn a_late_joiner_gets_every_block() {
    let config = deterministic::Config::new().with_seed(5);
    deterministic::Runner::new(config).start(async |world| {
        let mut team = Team::new(world, 4).await;
        for number in 0..3 {
            team.start(number).await;
        }
        team.reach(60).await;
        team.start(3).await;
        team.reach(80).await;
        let height = team.heights()[3];
        let count = team.members[3].chain.finals.lock().unwrap().len();
        assert_eq!(u64::try_from(count).unwrap(), height);
        team.check();
    });
}

#[test]
fn a_message_reaches_the_other_validators() {
    simulate(6, 4, async |team: Team| {
        let outbox = &team.members[0].running.as_ref().unwrap().outbox;
        outbox.send(b"a transaction".to_vec()).await.unwrap();
        let reached = |member: &Member| !member.chain.messages.lock().unwrap().is_empty();
        while !team.members[1..].iter().any(reached) {
            team.world.sleep(Duration::from_millis(50)).await;
        }
        assert!(!reached(&team.members[0]), "not oneself");
    });
}

/// The bound, and one above.
#[test]
fn a_message_that_is_too_large_is_dropped() {
    simulate(9, 4, async |team: Team| {
        let outbox = &team.members[0].running.as_ref().unwrap().outbox;
        for _ in 0..8 {
            for bytes in [FORWARDED_BYTES_MAX + 1, FORWARDED_BYTES_MAX] {
                outbox.send(vec![7; bytes]).await.unwrap();
            }
        }
        let is_without = |member: &Member| member.chain.messages.lock().unwrap().is_empty();
        while team.members[1..].iter().any(is_without) {
            team.world.sleep(Duration::from_millis(50)).await;
        }
        // What is under way arrives too.
        team.world.sleep(Duration::from_secs(1)).await;
        for member in &team.members[1..] {
            let messages = member.chain.messages.lock().unwrap();
            let sizes: Vec<usize> = messages.iter().map(Vec::len).collect();
            assert!(
                sizes.iter().all(|size| *size == FORWARDED_BYTES_MAX),
                "{sizes:?}"
            );
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let config = deterministic::Config::new().with_seed(7);
        deterministic::Runner::new(config).start(async |world: World| {
            let auditor = world.child("audit");
            let mut team = Team::new(world, 4).await;
            team.start_all().await;
            team.reach(20).await;
            auditor.auditor().state()
        })
    };
    assert_eq!(run(), run());
}

#[test]
fn a_block_carries_the_seeds_from_its_parents_view_on() {
    assert_eq!(seed_views(0, 1).count(), 0, "the genesis has no view");
    assert_eq!(seed_views(1, 2), 1..=1);
    assert_eq!(seed_views(5, 9), 5..=8, "views that failed have seeds too");
    assert_eq!(seed_views(5, 1000), 5..=5 + SEED_LAG);
}

#[test]
fn a_key_part_is_one_validators_own() {
    let secrets = [[1; 32], [2; 32], [3; 32], [4; 32]];
    let dealing = deal(&secrets.map(|it| identity(&it).unwrap()), &[9; 32]).unwrap();
    let committee =
        committee::Committee::new(&dealing.committee.validators(), &dealing.committee.key())
            .unwrap();
    assert_eq!(committee, dealing.committee);
    assert_eq!(committee.group_key().len(), committee::GROUP_KEY_BYTES);
    for (number, key) in committee.set().iter().enumerate() {
        for (other, part) in dealing.parts.iter().enumerate() {
            let signer = committee.signer(&LEDGER, TERM, key, part);
            assert_eq!(signer.is_ok(), number == other);
        }
    }
    let stranger = ed25519::PrivateKey::from_seed(0).public_key();
    let found = committee.signer(&LEDGER, TERM, &stranger, &dealing.parts[0]);
    assert_eq!(found.err(), Some(committee::NotOurs::Identity));
}

#[test]
fn what_is_signed_in_a_term_is_bound_to_it() {
    let namespace = committee::namespace(&LEDGER, 0x0102_0304);
    let expected = [b"cairn 1 consensus ".as_slice(), &LEDGER, &[1, 2, 3, 4]].concat();
    assert_eq!(namespace, expected);
}
