//! Measures the ledger's state machine on one thread, in CPU time, and prints Markdown:
//! `cargo run -p cairn-ledger --example ledger_bench`.

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::unwrap_used, reason = "a failed measurement")]

use std::time::Duration;

use cairn_core::{
    AccountId, Amount, Bounded, ByteCount, Code, Digest, GroupId, GroupRevision, GroupRoot, NodeId,
    Record, RevisionNumber, SecretKey, Signed, Text, UnixMillis, ViewNumber,
};
use cairn_ledger::block::{SEEDS_MAX, TXS_MAX};
use cairn_ledger::tx::{group_id, operator_consent, tx_id};
use cairn_ledger::{
    Attestation, Block, Effect, Evidence, Genesis, LedgerKey, NodeTerms, Parameters, Question,
    SlotRevision, State, StateTrie, Tx, TxBody, ViewSeed,
};
use rustix::time::{ClockId, clock_gettime};

/// Nodes of the network, each its own operator, over 100 networks, 50 providers and 20 regions.
const NODES: u64 = 400;
/// Groups in the state that is measured.
const GROUPS: usize = 100_000;

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

fn key(number: u64) -> SecretKey {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(&secret)
}

/// A ledger and its one owner.
struct Bench {
    state: State,
    owner: SecretKey,
    nonce: u64,
    /// CPU time of the last block's root, which is not part of its own.
    rooting: Duration,
}

impl Bench {
    fn new() -> Self {
        let owner = key(u64::MAX);
        let account = AccountId::new(owner.public());
        let genesis = Genesis {
            time: UnixMillis::new(0),
            parameters: Parameters::default(),
            endowed: Bounded::new(vec![(account, Amount::from_micro(1 << 50))]).unwrap(),
            validators: None,
        };
        Self {
            state: State::genesis(&genesis).unwrap(),
            owner,
            nonce: 0,
            rooting: Duration::ZERO,
        }
    }

    fn signed(&mut self, body: TxBody) -> Signed<Tx> {
        let tx = Tx {
            account: AccountId::new(self.owner.public()),
            nonce: self.nonce,
            fee: Amount::ZERO,
            body,
        };
        self.nonce += 1;
        Signed::sign_for(tx, self.state.ledger_id(), &self.owner)
    }

    fn block(&self, txs: Vec<Signed<Tx>>) -> Block {
        let height = self.state.height().next().unwrap();
        let before = self.state.view();
        Block {
            height,
            parent: self.state.tip(),
            time: UnixMillis::new(height.get()),
            view: before.next().expect("few blocks"),
            seeds: seeds(before),
            lost: Bounded::empty(),
            txs: Bounded::new(txs).unwrap(),
            verdicts: Bounded::empty(),
        }
    }

    /// Applies a block all of whose transactions are done; its CPU time.
    fn apply(&mut self, txs: Vec<Signed<Tx>>) -> Duration {
        let block = self.block(txs);
        let start = cpu_time();
        let effects = self.state.apply(&block).unwrap();
        let time = cpu_time() - start;
        self.root();
        for effect in effects {
            if let Effect::TxDone { result, .. } = effect {
                result.unwrap();
            }
        }
        time
    }

    fn root(&mut self) {
        let start = cpu_time();
        let _root = self.state.root();
        self.rooting = cpu_time() - start;
    }

    fn register(&mut self) {
        let ledger = self.state.ledger_id();
        for number in 0..NODES {
            let secret = key(number);
            let node = NodeId::new(secret.public());
            let label = |text: &str, number: u64| Text::new(format!("{text} {number}")).unwrap();
            let body = TxBody::NodeRegister {
                operator: AccountId::new(secret.public()),
                operator_consent: operator_consent(ledger, &secret, node),
                terms: NodeTerms {
                    capacity: ByteCount::new(1 << 44),
                    price: Amount::from_micro(1),
                    network: label("network", number % 100),
                    provider: label("provider", number % 50),
                    region: label("region", number % 20),
                },
            };
            let tx = Tx {
                account: AccountId::new(secret.public()),
                nonce: 0,
                fee: Amount::ZERO,
                body,
            };
            self.apply(vec![Signed::sign_for(tx, ledger, &secret)]);
        }
    }
}

fn transfers(bench: &mut Bench, count: usize) -> Vec<Signed<Tx>> {
    let transfer = |number| TxBody::Transfer {
        to: AccountId::new(cairn_core::PublicKey::from_bytes(
            *Digest::of(&u64::to_le_bytes(number)).as_bytes(),
        )),
        amount: Amount::from_micro(1),
    };
    (0..u64::try_from(count).unwrap())
        .map(|number| bench.signed(transfer(number)))
        .collect()
}

fn opens(bench: &mut Bench, code: Code, count: usize) -> Vec<Signed<Tx>> {
    let open = TxBody::GroupOpen {
        code,
        slot_capacity: ByteCount::new(1 << 20),
        price_max: Amount::from_micro(1),
        term_epochs: 1,
        escrow: Amount::ZERO,
    };
    (0..count).map(|_| bench.signed(open.clone())).collect()
}

fn revisions(bench: &mut Bench, groups: &[GroupId]) -> Vec<Signed<Tx>> {
    let revise = |group: &GroupId| TxBody::GroupRevise {
        revision: GroupRevision {
            group: *group,
            number: RevisionNumber::new(1),
            segment_count: 1,
            slot_bytes: ByteCount::new(1000),
            group_root: GroupRoot::default(),
        },
    };
    groups
        .iter()
        .map(|group| bench.signed(revise(group)))
        .collect()
}

/// Groups of a code, opened and drawn in blocks of as many; CPU time of drawing.
fn place(
    bench: &mut Bench,
    code: Code,
    per_block: usize,
    blocks: usize,
) -> (Vec<GroupId>, Duration) {
    let mut ids = Vec::new();
    let mut drawing = Duration::ZERO;
    for _ in 0..blocks {
        let txs = opens(bench, code, per_block);
        ids.extend(txs.iter().map(|tx| group_id(tx_id(tx))));
        bench.apply(txs);
        while bench.state.has_draws() {
            drawing += bench.apply(Vec::new());
        }
    }
    (ids, drawing)
}

fn per_second(count: usize, time: Duration) -> u128 {
    u128::try_from(count).unwrap() * 1_000_000_000 / time.as_nanos().max(1)
}

fn resident_mebibytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096 / (1 << 20)
}

/// Blocks of nothing but transfers.
fn transfer(bench: &mut Bench) {
    let mut time = Duration::ZERO;
    for _ in 0..10 {
        let txs = transfers(bench, TXS_MAX);
        time += bench.apply(txs);
    }
    let count = 10 * TXS_MAX;
    println!(
        "| transfers, signatures checked | {}/s |",
        per_second(count, time)
    );
    let mut time = Duration::ZERO;
    for _ in 0..10 {
        let txs = transfers(bench, TXS_MAX);
        let block = bench.block(txs);
        let start = cpu_time();
        bench.state.apply_checked(&block).unwrap();
        time += cpu_time() - start;
        bench.root();
    }
    println!(
        "| transfers, signatures checked before | {}/s |",
        per_second(count, time)
    );
    println!(
        "| root behind a block of {TXS_MAX} transfers | {} us |",
        bench.rooting.as_micros()
    );
}

fn main() {
    let mut bench = Bench::new();
    bench.register();
    println!("| what | figure |\n|---|---|");
    transfer(&mut bench);
    let standard = Code::new(20, 40).unwrap();
    let (_, time) = place(&mut bench, standard, 50, 10);
    println!(
        "| groups of 20-of-40 drawn from {NODES} nodes | {}/s |",
        per_second(500, time)
    );

    let before = resident_mebibytes();
    let small = Code::new(4, 8).unwrap();
    let (ids, time) = place(&mut bench, small, 1000, GROUPS / 1000);
    println!(
        "| groups of 4-of-8 drawn from {NODES} nodes | {}/s |",
        per_second(GROUPS, time)
    );
    println!(
        "| memory of {GROUPS} groups of 4-of-8 | {} MiB |",
        resident_mebibytes() - before
    );
    let mut time = Duration::ZERO;
    for groups in ids.chunks(1000).take(10) {
        let txs = revisions(&mut bench, groups);
        time += bench.apply(txs);
    }
    println!(
        "| revisions, {GROUPS} groups in state | {}/s |",
        per_second(10_000, time)
    );
    println!(
        "| root behind a block of 1000 revisions | {} us |",
        bench.rooting.as_micros()
    );
    acknowledge(&mut bench);
    show(&bench, &ids);
    let start = cpu_time();
    let bytes = bench.state.encode();
    println!(
        "| state encoded | {} MiB in {} ms |",
        bytes.len() >> 20,
        (cpu_time() - start).as_millis()
    );
    let start = cpu_time();
    let state = State::decode(&bytes).unwrap();
    println!(
        "| state decoded and audited | {} ms |",
        (cpu_time() - start).as_millis()
    );
    assert_eq!(state, bench.state);
}

/// Evidence of groups and of accounts, gathered and encoded, decoded and checked, each with its
/// signature.
fn show(bench: &Bench, groups: &[GroupId]) {
    let state = &bench.state;
    let ledger = state.ledger_id();
    let attestation = Attestation::sign(state.attested(), &bench.owner);
    let key = LedgerKey::Sequencer(bench.owner.public());
    let trie = StateTrie::of(state);
    let groups: Vec<_> = groups
        .iter()
        .take(1000)
        .copied()
        .map(Question::Group)
        .collect();
    let accounts = state.accounts().take(1000);
    let accounts = accounts.map(|(id, _)| Question::Account(id)).collect();
    for (what, questions) in [("a group of 4-of-8", groups), ("an account", accounts)] {
        let start = cpu_time();
        let encoded: Vec<Vec<u8>> = questions
            .iter()
            .map(|question| Evidence::gather(*question, attestation.clone(), &trie))
            .map(|evidence| evidence.unwrap().encode())
            .collect();
        let gathering = cpu_time() - start;
        let start = cpu_time();
        for (question, bytes) in questions.iter().zip(&encoded) {
            let evidence = Evidence::decode(bytes).unwrap();
            evidence.check(*question, ledger, &key).unwrap();
        }
        let checking = cpu_time() - start;
        println!(
            "| evidence of {what}, {} bytes | gathered {}/s, checked {}/s |",
            encoded[0].len(),
            per_second(questions.len(), gathering),
            per_second(questions.len(), checking),
        );
    }
}

/// One node acknowledges as many of its slots as one transaction takes.
fn acknowledge(bench: &mut Bench) {
    let secret = key(1);
    let node = NodeId::new(secret.public());
    let slots: Vec<SlotRevision> = bench
        .state
        .slots_of(node, None)
        .take(1000)
        .map(|slot| SlotRevision {
            group: slot.group,
            slot: slot.slot,
            revision: RevisionNumber::ZERO,
        })
        .collect();
    let count = slots.len();
    let tx = Tx {
        account: AccountId::new(secret.public()),
        nonce: 1,
        fee: Amount::ZERO,
        body: TxBody::Acknowledge {
            slots: Bounded::new(slots).unwrap(),
        },
    };
    let signed = Signed::sign_for(tx, bench.state.ledger_id(), &secret);
    let time = bench.apply(vec![signed]);
    println!(
        "| slots acknowledged in one transaction | {}/s |",
        per_second(count, time)
    );
}

/// What a block in the view after `view` carries.
fn seeds(view: ViewNumber) -> Bounded<ViewSeed, SEEDS_MAX> {
    let number = view.get().to_le_bytes();
    let signature = Bounded::new(number.to_vec()).expect("8 bytes");
    Bounded::new(vec![ViewSeed { view, signature }]).expect("one")
}
