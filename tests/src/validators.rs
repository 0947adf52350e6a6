//! Validators under test: `cairn validator run` processes on ports of the loopback interface, each
//! connected to each other one by a [`Wire`] of its own.

mod ceremony;
mod equivocator;
mod terms;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cairn_core::{AccountId, Amount, Height, LedgerId, NodeId, SecretKey};
use cairn_ledger::{Ledger, LedgerError, LedgerKey, RemoteLedger, TxBody, submit_body};
use cairn_net::{DhtMode, LedgerPeers, Network, PeerAddress, RealConfig, RealNetwork};
use cairn_runtime::RealRuntime;
use serde_json::Value;
use tempfile::TempDir;
pub use terms::Change;

use crate::system::{Ran, cairn_binary, real_sleep, real_time};
use crate::wire::Wire;

/// How long validators may take to find each other and go on, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of each validator's log that are shown when something does not come.
const LOG_LINES_SHOWN: usize = 20;
/// What the payer begins with, in micro-credits.
const SUPPLY: u64 = 1_000_000;
/// What the owner of files and nodes begins with: a million credits.
const OWNER_SUPPLY: u64 = 1_000_000_000_000;
/// What a node asks for a GiB and epoch, in micro-credits: as much as owners pay, so that small files
/// are worth something.
const PRICE: &str = "1000000";
/// Any port of the loopback interface.
const LISTEN: &str = "127.0.0.1:0";

/// Validators of one ledger. Everything ends and goes with it.
#[derive(Debug)]
pub struct ValidatorNetwork {
    folder: TempDir,
    members: Vec<Member>,
    /// By the numbers of who connects and who is connected to.
    wires: BTreeMap<(usize, usize), Wire>,
    nodes: Vec<Child>,
    ledger: LedgerId,
    key: KeyFrom,
    /// The block that a validator was seen with, by height.
    tips: BTreeMap<u64, String>,
    /// The highest height that a client was shown.
    seen: Cell<Height>,
}

/// Who made the validators' key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyFrom {
    /// `cairn genesis --deal`.
    Dealer,
    /// The validators, by `cairn validator agree`.
    Ceremony,
}

#[derive(Debug)]
struct Member {
    identity: NodeId,
    /// Where it listens for the wires.
    bind: SocketAddr,
    /// Where it is met in the ceremony of a change.
    meet: SocketAddr,
    /// Where it answers clients and nodes.
    peer: String,
    process: Option<Child>,
}

/// How a validator stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorState {
    /// Height of the last final block that it has.
    pub height: u64,
    /// Its digest.
    pub tip: String,
    /// The view that it is in.
    pub view: u64,
}

fn payer() -> SecretKey {
    SecretKey::from_bytes(&[100; 32])
}

fn payee() -> AccountId {
    AccountId::new(SecretKey::from_bytes(&[101; 32]).public())
}

/// Ports below those that the system gives out by itself: nobody takes one while its process is
/// down.
const PORTS_FIRST: u32 = 10_000;
/// Ports that a test's process looks for free ones in, apart from those of 219 others.
const PORTS_PER_PROCESS: u32 = 100;
const PROCESSES: u32 = 220;

/// Free ports of the loopback interface, all different, for processes that come and go.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let place = std::process::id() % PROCESSES;
    let first = PORTS_FIRST + place * PORTS_PER_PROCESS;
    let ports: Vec<TcpListener> = (first..first + PORTS_PER_PROCESS)
        .filter_map(|port| u16::try_from(port).ok())
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(count)
        .collect();
    assert_eq!(ports.len(), count, "free ports from {first} on");
    let addresses = ports.iter().map(TcpListener::local_addr);
    addresses
        .collect::<Result<_, _>>()
        .expect("bound ports have addresses")
}

impl ValidatorNetwork {
    /// Makes a ledger of `count` validators, whose key is dealt, with `more` arguments of `cairn
    /// genesis`; none is started.
    ///
    /// # Panics
    ///
    /// When a command fails.
    #[must_use]
    pub fn new(count: usize, more: &[&str]) -> Self {
        let mut network = Self::identified(count, KeyFrom::Dealer);
        let more = [&["--deal"], more].concat();
        let made = network.make_genesis(&more);
        let ledger = made["ledger"].as_str().expect("the ledger's id");
        network.ledger = ledger.parse().expect("the ledger's id");
        let genesis = network.path("genesis/genesis.toml");
        network.make_wires(&genesis);
        network
    }

    /// Validators that have an identity and no ledger.
    fn identified(count: usize, key: KeyFrom) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut network = Self {
            folder,
            members: Vec::new(),
            wires: BTreeMap::new(),
            nodes: Vec::new(),
            ledger: LedgerId::new(cairn_core::Digest::default()),
            key,
            tips: BTreeMap::new(),
            seen: Cell::default(),
        };
        let ports = free_ports(3 * count);
        for (number, ports) in ports.chunks_exact(3).enumerate() {
            let home = network.text(&home(number));
            let init = network.run(&["validator", "init", "--folder", &home]);
            network.members.push(Member {
                identity: init.text().parse().expect("it prints the identity"),
                bind: ports[0],
                meet: ports[2],
                peer: format!("/ip4/127.0.0.1/tcp/{}", ports[1].port()),
                process: None,
            });
        }
        network
    }

    /// Runs `cairn genesis`; gives what it prints.
    fn make_genesis(&self, more: &[&str]) -> Value {
        let payer = AccountId::new(payer().public());
        let init = self.run(&["--json", "init", "--no-passphrase"]).text();
        let init: Value = serde_json::from_str(&init).expect("it prints JSON");
        let owner = init["account"].as_str().expect("the owner's account");
        let mut args = vec!["--json".to_owned(), "genesis".to_owned()];
        args.extend(["--out".to_owned(), self.text("genesis")]);
        args.extend(["--endow".to_owned(), format!("{payer}={SUPPLY}")]);
        args.extend(["--endow".to_owned(), format!("{owner}={OWNER_SUPPLY}")]);
        for member in &self.members {
            let (identity, bind, peer) = (member.identity, member.bind, &member.peer);
            args.extend([
                "--validator".to_owned(),
                format!("{identity}@{bind},{peer}"),
            ]);
        }
        args.extend(more.iter().map(|text| (*text).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        serde_json::from_str(&self.run(&args).text()).expect("it prints JSON")
    }

    /// Gives each validator a genesis in which the others are at the ends of its wires.
    fn make_wires(&mut self, genesis: &Path) {
        let genesis = std::fs::read_to_string(genesis);
        let genesis = genesis.expect("the genesis is there");
        for from in 0..self.members.len() {
            let mut own = genesis.clone();
            for to in (0..self.members.len()).filter(|to| *to != from) {
                let target = self.members[to].bind;
                let wire = Wire::to(target);
                own = own.replace(&target.to_string(), &wire.address().to_string());
                self.wires.insert((from, to), wire);
            }
            let path = self.path(&home(from)).join("genesis.toml");
            std::fs::write(path, own).expect("the genesis is written");
        }
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A `cairn` command on this network, not started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cairn_binary());
        command
            .args(args)
            .env("CAIRN_HOME", self.path("home"))
            .env("CAIRN_NETWORK", self.path("genesis/network.toml"))
            .env("CAIRN_LOG", "warn")
            .stdin(Stdio::null());
        command
    }

    /// Runs a `cairn` command to its end.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("cairn starts").into()
    }

    /// Starts a `cairn` command whose output goes to a log.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    #[must_use]
    pub fn spawn(&self, log: &str, args: &[&str]) -> Child {
        let mut open = OpenOptions::new();
        let log: File = open
            .create(true)
            .append(true)
            .open(self.path(log))
            .expect("the log is made");
        let errors = log.try_clone().expect("the log is shared");
        self.command(args)
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("cairn starts")
    }

    /// Starts a validator.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    pub fn start(&mut self, number: usize) {
        self.start_with(number, &[]);
    }

    /// Starts a validator with some more arguments.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub fn start_with(&mut self, number: usize, more: &[&str]) {
        let member = &self.members[number];
        let bind = member.bind.to_string();
        let part = self.text(&format!("genesis/{}.part", member.identity));
        let home = self.text(&home(number));
        let genesis = format!("{home}/genesis.toml");
        let mut args = vec!["validator", "run", "--folder", &home, "--bind", &bind];
        if self.key == KeyFrom::Dealer {
            args.extend(["--genesis", &genesis, "--part", &part]);
        }
        args.extend(more);
        let child = self.spawn(&log(number), &args);
        self.members[number].process = Some(child);
    }

    /// What a validator says that does not start.
    ///
    /// # Panics
    ///
    /// When it goes on.
    pub fn refused(&mut self, number: usize, more: &[&str]) -> String {
        self.start_with(number, more);
        let mut child = self.members[number].process.take().expect("it was begun");
        let ended = child.wait().expect("it ends");
        assert!(!ended.success(), "it does not start");
        std::fs::read_to_string(self.path(&log(number))).expect("its log")
    }

    /// Starts all validators and waits until each has a block of this height.
    ///
    /// # Panics
    ///
    /// As [`Self::start`] and [`Self::reach`].
    pub fn start_all(&mut self, height: u64) {
        for number in 0..self.members.len() {
            self.start(number);
        }
        self.reach(height);
    }

    /// Kills validators as a power cut would, all before the first is waited for.
    ///
    /// # Panics
    ///
    /// When one does not run.
    pub fn kill(&mut self, numbers: &[usize]) {
        let mut killed = Vec::new();
        for number in numbers {
            let mut child = self.members[*number].process.take().expect("it runs");
            child.kill().expect("it is ours");
            killed.push(child);
        }
        for mut child in killed {
            child.wait().expect("it ends");
        }
    }

    /// Removes a validator's blocks and the engine's files, not its keys.
    ///
    /// # Panics
    ///
    /// When they are not there.
    pub fn wipe(&self, number: usize) {
        let ledger = self.path(&home(number)).join("ledger");
        std::fs::remove_dir_all(ledger).expect("it has blocks");
    }

    /// Cuts the wires between the two sides.
    pub fn part(&self, is_left: impl Fn(usize) -> bool) {
        for ((from, to), wire) in &self.wires {
            if is_left(*from) != is_left(*to) {
                wire.cut();
            }
        }
    }

    /// Mends all wires.
    pub fn heal(&self) {
        for wire in self.wires.values() {
            wire.mend();
        }
    }

    /// Makes `count` nodes of the owner, and starts them.
    ///
    /// # Panics
    ///
    /// When a command fails.
    pub fn start_nodes(&mut self, count: usize) {
        for number in 0..count {
            let folder = self.text(&format!("node-{number}"));
            let init = [
                "node",
                "init",
                "--folder",
                &folder,
                "--operate",
                "--capacity",
                "1GiB",
                "--price",
                PRICE,
                "--listen",
                "/ip4/127.0.0.1/tcp/0",
                "--data-listen",
                LISTEN,
            ];
            let made = self.run(&init);
            assert_eq!(made.code, Some(0), "{}", made.stderr);
            let run = ["node", "run", "--folder", &folder];
            let node = self.spawn(&format!("node-{number}.log"), &run);
            self.nodes.push(node);
        }
    }

    /// What `cairn node status` says of a node; nothing while it does not answer.
    #[must_use]
    pub fn node_status(&self, number: usize) -> Value {
        let folder = self.text(&format!("node-{number}"));
        let ran = self.run(&["--json", "node", "status", "--folder", &folder]);
        serde_json::from_slice(&ran.stdout).unwrap_or_default()
    }

    /// Waits until `done`.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    pub fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = real_time();
        while !done(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: not in {PATIENCE:?}\n{}",
                self.logs()
            );
            real_sleep(Duration::from_millis(100));
        }
    }

    /// How a running validator stands; `None` when it does not answer. Checks that its last block
    /// is the one that others had at that height.
    ///
    /// # Panics
    ///
    /// When two validators have different blocks at one height.
    pub fn state(&mut self, number: usize) -> Option<ValidatorState> {
        let status = self.status(number);
        let state = ValidatorState {
            height: status["height"].as_u64()?,
            tip: status["tip"].as_str()?.to_owned(),
            view: status["view"].as_u64()?,
        };
        let known = self.tips.entry(state.height);
        let known = known.or_insert_with(|| state.tip.clone());
        assert_eq!(*known, state.tip, "one block at height {}", state.height);
        Some(state)
    }

    /// How the log of each validator that was started and not stopped ends.
    fn logs(&self) -> String {
        let running = (0..self.members.len()).filter(|it| self.members[*it].process.is_some());
        let ends = running.map(|number| {
            let text = std::fs::read_to_string(self.path(&log(number))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines.len().saturating_sub(LOG_LINES_SHOWN);
            format!("== validator {number}\n{}\n", lines[end..].join("\n"))
        });
        ends.collect()
    }

    /// The highest block of the validators that run.
    pub fn height(&mut self) -> u64 {
        let numbers = 0..self.members.len();
        let heights = numbers.filter_map(|number| Some(self.state(number)?.height));
        heights.max().unwrap_or(0)
    }

    /// Waits until every running validator has a block of this height.
    ///
    /// # Panics
    ///
    /// When they do not in time.
    pub fn reach(&mut self, height: u64) {
        let begun = real_time();
        for number in 0..self.members.len() {
            while self.members[number].process.is_some() {
                let state = self.state(number);
                if state.as_ref().is_some_and(|state| state.height >= height) {
                    break;
                }
                assert!(
                    begun.elapsed() < PATIENCE,
                    "validator {number} is not at {height} in {PATIENCE:?}: {state:?}\n{}",
                    self.logs()
                );
                real_sleep(Duration::from_millis(50));
            }
        }
    }

    /// Pays one micro-credit `count` times, one after the other, to whichever validator answers,
    /// those of `first` before the others. What is paid when it returns is final.
    ///
    /// # Panics
    ///
    /// When the ledger refuses.
    pub fn pay(&self, count: usize, first: usize) {
        self.with_ledger(&self.members_from(first), async |ledger| {
            for _ in 0..count {
                let body = TxBody::Transfer {
                    to: payee(),
                    amount: Amount::from_micro(1),
                };
                let paid = submit_body(&ledger, &payer(), body).await;
                paid.expect("a payment of what is there");
            }
        });
    }

    /// How many micro-credits one validator says were paid.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[must_use]
    pub fn paid(&self, number: usize) -> u64 {
        let begun = real_time();
        loop {
            let account = self.with_ledger(&[&self.members[number]], async |ledger| {
                ledger.account(payee()).await
            });
            match account {
                Err(LedgerError::Behind { .. }) if begun.elapsed() < PATIENCE => {}
                answered => return answered.expect("it answers").balance.micro(),
            }
        }
    }

    fn members_from(&self, first: usize) -> Vec<&Member> {
        let (before, from) = self.members.split_at(first);
        from.iter().chain(before).collect()
    }

    /// By which the ledger's answers are checked.
    fn ledger_key(&self) -> LedgerKey {
        let network = std::fs::read_to_string(self.path("genesis/network.toml"));
        let network = network.expect("the network file is there");
        let mut lines = network.lines();
        let key = lines.find_map(|it| it.strip_prefix("ledger_key = "));
        let key = key.expect("the ledger's key").trim_matches('"');
        key.parse().expect("the ledger's key")
    }

    /// Does something with the ledger that some of the validators answer for.
    fn with_ledger<T>(&self, members: &[&Member], what: impl AsyncFnOnce(NetLedger) -> T) -> T {
        let peers: Vec<NodeId> = members.iter().map(|member| member.identity).collect();
        let secret = blake3::hash(format!("{peers:?}").as_bytes());
        let key = self.ledger_key();
        let secret = SecretKey::from_bytes(secret.as_bytes());
        let mut config = RealConfig::new(secret, DhtMode::Client);
        let address = |member: &&Member| PeerAddress {
            node: member.identity,
            address: member.peer.clone(),
        };
        config.bootstrap = members.iter().map(address).collect();
        RealRuntime::run(async |runtime: RealRuntime| {
            let net = RealNetwork::start(config, runtime).await;
            let net = net.expect("a client's network");
            let through = LedgerPeers::new(net.clone(), &peers);
            let ledger = RemoteLedger::new(through, self.ledger, key);
            // Another process's client, which remembers as this one's did.
            ledger.expect_at_least(self.seen.get());
            let done = what(ledger.clone()).await;
            self.seen.set(ledger.seen());
            net.shutdown().await;
            done
        })
        .expect("threads for the client")
    }
}

/// The ledger as a client knows it.
type NetLedger = RemoteLedger<LedgerPeers<RealNetwork>>;

fn home(number: usize) -> String {
    format!("validator-{number}")
}

fn log(number: usize) -> String {
    format!("validator-{number}.log")
}

impl Drop for ValidatorNetwork {
    fn drop(&mut self) {
        let validators = self.members.iter_mut().filter_map(|it| it.process.as_mut());
        for child in validators.chain(&mut self.nodes) {
            // One that has gone already is what is wanted.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
