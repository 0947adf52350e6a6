//! A real network under test: the `cairn` binary, its processes, sockets and files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a network may take to start, and slots to catch up, on two busy cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// The `cairn` binary that was built beside the tests.
///
/// # Panics
///
/// When it is not there.
#[must_use]
pub fn cairn_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test runs from a file");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps");
    let binary = folder.join("cairn");
    assert!(
        binary.exists(),
        "{} is missing: cargo build -p cairn-cli",
        binary.display()
    );
    binary
}

/// The time by the machine's monotonic clock: processes under test do not share a simulated one.
#[must_use]
pub fn real_time() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "waiting for real processes")]
    Instant::now()
}

/// Waits for real processes.
pub fn real_sleep(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "waiting for real processes")]
    std::thread::sleep(time);
}

/// Bytes that look random, the same for the same seed.
#[must_use]
pub fn bytes_of(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A number from the environment, for long forms of a test.
///
/// # Panics
///
/// When it is no number.
#[must_use]
pub fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: expected a number, found {text:?}"))
    })
}

/// `cairn dev` with real processes, and a key of its own. Everything ends and goes with it.
#[derive(Debug)]
pub struct DevNetwork {
    folder: TempDir,
    dev: Option<Child>,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Standard output as text, when the command succeeded.
    ///
    /// # Panics
    ///
    /// When it failed.
    #[must_use]
    pub fn text(&self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

impl DevNetwork {
    /// Starts a network of `nodes` nodes and waits until all are up.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start(nodes: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut network = Self { folder, dev: None };
        let made = network.run(&["init", "--no-passphrase"]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        network.up(nodes);
        network
    }

    /// Starts `cairn dev` over what is in the folder.
    ///
    /// # Panics
    ///
    /// When it does not come up in time.
    pub fn up(&mut self, nodes: u16) {
        let log = std::fs::File::create(self.path("dev.log")).expect("the log is made");
        let errors = log.try_clone().expect("the log is shared");
        let dev = self
            .command(&["dev", "--nodes", &nodes.to_string()])
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("cairn dev starts");
        self.dev = Some(dev);
        let ready = format!("{nodes} nodes");
        self.wait("the network is up", || {
            let log = std::fs::read_to_string(self.path("dev.log")).unwrap_or_default();
            log.contains(&ready)
        });
    }

    /// Kills `cairn dev` and with it every node, as a power cut would.
    ///
    /// # Panics
    ///
    /// When it is not up.
    pub fn kill_all(&mut self) {
        let mut dev = self.dev.take().expect("the network is up");
        dev.kill().expect("it is ours");
        dev.wait().expect("it ends");
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in a node's folder.
    #[must_use]
    pub fn node_path(&self, number: u16, name: &str) -> PathBuf {
        self.path("home")
            .join("dev")
            .join(format!("node-{number}"))
            .join(name)
    }

    /// Bytes in the packs of all nodes.
    ///
    /// # Panics
    ///
    /// When a node's folder can't be read.
    #[must_use]
    pub fn store_bytes(&self) -> u64 {
        let nodes = std::fs::read_dir(self.path("home").join("dev")).expect("its folder is there");
        let packs = nodes.filter_map(|node| {
            let packs = node.expect("an entry").path().join("store/packs");
            std::fs::read_dir(packs).ok()
        });
        let files = packs.flatten().filter_map(Result::ok);
        files
            .filter_map(|file| file.metadata().ok())
            .map(|file| file.len())
            .sum()
    }

    /// A `cairn` command of this network's owner, not started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cairn_binary());
        command
            .args(args)
            .env("CAIRN_HOME", self.path("home"))
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

    /// Writes a file, puts it and returns the link.
    ///
    /// # Panics
    ///
    /// When it is not stored.
    #[must_use]
    pub fn put(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the file is written");
        self.run(&["--quiet", "put", &path.to_string_lossy()])
            .text()
    }

    /// What a link gives on standard output.
    #[must_use]
    pub fn cat(&self, link: &str) -> Ran {
        self.run(&["--quiet", "cat", link])
    }

    /// Kills nodes with SIGKILL, or starts them again.
    ///
    /// # Panics
    ///
    /// When the network refuses.
    pub fn nodes(&self, verb: &str, numbers: &[u16]) {
        let mut args = vec!["dev".to_owned(), verb.to_owned()];
        args.extend(numbers.iter().map(ToString::to_string));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = self.run(&args);
        assert_eq!(ran.code, Some(0), "{verb} {numbers:?}: {}", ran.stderr);
    }

    /// Sends a signal, such as `STOP`, to nodes' processes.
    ///
    /// # Panics
    ///
    /// When one has no process.
    pub fn signal(&self, name: &str, numbers: &[u16]) {
        let text = self.run(&["--json", "dev", "status"]).text();
        let status: serde_json::Value = serde_json::from_str(&text).expect("it prints JSON");
        let nodes = status["nodes"].as_array().expect("nodes");
        for node in nodes {
            let is_meant = numbers.iter().any(|number| node["number"] == *number);
            if is_meant {
                let process = node["pid"].to_string();
                let sent = Command::new("kill").args(["-s", name, &process]).status();
                assert!(sent.expect("kill starts").success(), "{name} {node}");
            }
        }
    }

    /// `cairn stat` as JSON.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[must_use]
    pub fn stat(&self, link: &str) -> serde_json::Value {
        let text = self.run(&["--json", "stat", link]).text();
        serde_json::from_str(&text).expect("stat prints JSON")
    }

    /// Waits until every slot of a link is caught up.
    ///
    /// # Panics
    ///
    /// When they are not in time.
    pub fn wait_complete(&self, link: &str) {
        let mut last = String::new();
        let begun = real_time();
        while begun.elapsed() < PATIENCE {
            let stat = self.run(&["--json", "stat", link]);
            last.clear();
            let _infallible = write!(last, "{stat:?}");
            let stat = serde_json::from_slice::<serde_json::Value>(&stat.stdout);
            if stat.is_ok_and(|stat| stat["complete"] == true) {
                return;
            }
            real_sleep(Duration::from_millis(300));
        }
        panic!("slots are not caught up within {PATIENCE:?}: {last}");
    }

    /// Waits until `done`.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    pub fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begun = real_time();
        while !done() {
            let log = || std::fs::read_to_string(self.path("dev.log")).unwrap_or_default();
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: not in {PATIENCE:?}\n{}",
                log()
            );
            real_sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for DevNetwork {
    fn drop(&mut self) {
        if let Some(mut dev) = self.dev.take() {
            // Its nodes end with it. A network that has gone already is what is wanted.
            let _gone = dev.kill();
            let _reaped = dev.wait();
        }
    }
}
