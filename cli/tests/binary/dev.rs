//! `cairn dev` with real processes, and storing files on it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::cairn::{Cairn, Run, until};

/// Large enough for several segments at 2-of-4, and no multiple of anything.
const FILE_BYTES: usize = 9 * (1 << 20) + 4_321;

/// A running development network; its processes end with it.
pub(crate) struct Network<'a> {
    cairn: &'a Cairn,
    process: Child,
    ready: Value,
    _output: BufReader<ChildStdout>,
}

impl<'a> Network<'a> {
    /// Starts one.
    pub(crate) fn start(cairn: &'a Cairn, more: &[&str]) -> Self {
        let mut args = vec!["--json", "dev"];
        args.extend(more);
        let mut process = cairn
            .command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the network did not start");
        Self {
            cairn,
            process,
            ready: serde_json::from_str(&line).unwrap(),
            _output: output,
        }
    }

    /// Runs the program beside it.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.cairn.run(args)
    }

    /// Process ids of the nodes.
    fn pids(&self) -> Vec<u64> {
        let nodes = self.ready["nodes"].as_array().unwrap();
        nodes
            .iter()
            .map(|node| node["pid"].as_u64().unwrap())
            .collect()
    }

    /// Asks the network to stop, and waits until it has.
    pub(crate) fn stop(mut self) {
        signal(&self.process, "-TERM");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn signal(process: &Child, which: &str) {
    let id = process.id().to_string();
    let status = std::process::Command::new("kill")
        .args([which, &id])
        .status();
    assert!(status.unwrap().success());
}

/// Bytes that no code compresses or repeats by accident.
pub(crate) fn content(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// How a link's data stands.
pub(crate) fn stat(network: &Network<'_>, link: &str) -> Value {
    network.run(&["--json", "stat", link]).done().json()
}

/// Waits until every slot of a link has everything.
pub(crate) fn wait_complete(network: &Network<'_>, link: &str) {
    until("every slot has caught up", || {
        stat(network, link)["complete"] == true
    });
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn i1_a_file_survives_the_loss_of_half_its_nodes_and_no_more() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let network = Network::start(&cairn, &["--nodes", "4"]);
    assert_eq!(network.ready["profile"], "dev4");
    let (file, copy) = (cairn.path("file"), cairn.path("copy"));
    let bytes = content(FILE_BYTES);
    std::fs::write(&file, &bytes).unwrap();

    let stored = network.run(&["--json", "put", text(&file)]).done().json();
    let link = stored["link"].as_str().unwrap();
    assert_eq!(stored["bytes"], FILE_BYTES);
    wait_complete(&network, link);

    network.run(&["dev", "kill", "2", "4"]).done();
    network.run(&["get", link, text(&copy)]).done();
    assert!(
        std::fs::read(&copy).unwrap() == bytes,
        "other bytes came back"
    );
    let range = network
        .run(&["cat", link, "--range", "5MiB..5242885"])
        .done();
    assert_eq!(range.out_bytes, bytes[5_242_880..5_242_885]);

    network.run(&["dev", "kill", "1"]).done();
    let lost = cairn.path("lost");
    network
        .run(&["get", link, text(&lost)])
        .failed(3, "3 of 4 slots missing");
    assert!(!lost.exists());
    let standing = stat(&network, link);
    assert_eq!(standing["complete"], false);
    assert_eq!(standing["groups"][0]["slots_healthy"], 1);

    network.run(&["dev", "start", "1", "2", "4"]).done();
    network.run(&["get", "--force", link, text(&copy)]).done();
    assert!(
        std::fs::read(&copy).unwrap() == bytes,
        "other bytes came back"
    );
    network.stop();
}

#[test]
fn what_a_network_holds_is_there_after_it_was_stopped_and_after_it_was_killed() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let file = cairn.path("file");
    let bytes = content(FILE_BYTES);
    std::fs::write(&file, &bytes).unwrap();
    let network = Network::start(&cairn, &["--nodes", "4"]);
    let link = network.run(&["put", text(&file)]).done().out;
    let link = link.trim();
    wait_complete(&network, link);
    network.stop();

    let mut network = Network::start(&cairn, &[]);
    network.run(&["get", link, text(&cairn.path("one"))]).done();
    let pids = network.pids();
    network.process.kill().unwrap();
    network.process.wait().unwrap();
    until("the nodes stop with the network", || {
        pids.iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    drop(network);

    let network = Network::start(&cairn, &[]);
    network.run(&["get", link, text(&cairn.path("two"))]).done();
    network.stop();
    for name in ["one", "two"] {
        assert!(
            std::fs::read(cairn.path(name)).unwrap() == bytes,
            "{name} differs"
        );
    }
}

/// Deletes it. A node serves what was deleted until it has heard of that.
fn delete(network: &Network<'_>, link: &str) {
    network.run(&["rm", link]).done();
    until("all nodes have heard that it was deleted", || {
        network.run(&["get", link]).code != 0
    });
}

#[test]
fn folders_streams_and_removal_in_one_process() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let network = Network::start(&cairn, &["--nodes", "4", "--in-process"]);
    let root = cairn.path("tree");
    std::fs::create_dir_all(root.join("inner/empty")).unwrap();
    std::fs::write(root.join("a"), content(70_000)).unwrap();
    std::fs::write(root.join("inner/none"), "").unwrap();
    std::os::unix::fs::symlink("../a", root.join("inner/link")).unwrap();
    network
        .run(&["put", text(&root)])
        .failed(2, "hint: cairn put --recursive");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let long = "n".repeat(255);
    std::fs::write(root.join(&long), "long").unwrap();
    let put = network.run(&["put", "-r", text(&root)]).done();
    assert!(put.err.contains("socket: left out"), "{}", put.err);
    let link = put.out;
    let back = cairn.path("back");
    network.run(&["get", link.trim(), text(&back)]).done();
    assert_eq!(std::fs::read(back.join("a")).unwrap(), content(70_000));
    assert!(back.join("inner/empty").is_dir());
    assert_eq!(std::fs::read(back.join("inner/none")).unwrap(), b"");
    assert_eq!(
        std::fs::read_link(back.join("inner/link")).unwrap(),
        Path::new("../a")
    );
    network
        .run(&["get", link.trim(), text(&back)])
        .failed(2, "exists");
    let put = network.run(&["put", text(&root.join(&long))]).done();
    network
        .run(&["get", put.out.trim(), text(&back.join("inner"))])
        .done();
    assert_eq!(
        std::fs::read(back.join("inner").join(&long)).unwrap(),
        b"long"
    );
    network
        .run(&["get", put.out.trim(), text(&back.join("none/copy"))])
        .failed(2, "hint: mkdir -p");

    let words = b"words from a pipe\n";
    let link = cairn.run_with(&["put", "-"], words).done().out;
    let link = link.trim();
    assert_eq!(network.run(&["get", link]).done().out.as_bytes(), words);
    assert_eq!(
        network.run(&["cat", link, "--range", "6..10"]).done().out,
        "from"
    );
    network
        .run(&["cat", link, "--range", "10..100"])
        .failed(1, "18 bytes");
    delete(&network, link);
    network.run(&["get", link]).failed(1, "it was deleted");
    let standing = stat(&network, link);
    assert_eq!(standing["complete"], false);
    assert!(
        standing["contents_cause"]
            .as_str()
            .unwrap()
            .contains("deleted")
    );
    network
        .run(&["put", "nothing-here"])
        .failed(1, "nothing-here");
    network.run(&["get", "cairn:nonsense"]).failed(2, "link");
    network
        .run(&["dev", "kill", "9"])
        .failed(1, "expected a node from 1 to 4, found 9");
    cairn.run(&["dev"]).failed(2, "hint: cairn dev status");
    network.stop();
}

/// The address of this machine that others see, when it has one.
fn outward_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the system only chooses its own address.
    socket.connect("192.0.2.1:9").ok()?;
    let found = socket.local_addr().unwrap().ip();
    (!found.is_loopback()).then_some(found)
}

#[test]
fn the_network_file_has_the_addresses_that_other_machines_use() {
    let cairn = Cairn::new();
    let listen = ["--nodes", "0", "--listen", "/ip4/0.0.0.0/tcp/0"];
    let network = Network::start(&cairn, &listen);
    let mut expected = vec!["127.0.0.1".to_owned()];
    expected.extend(outward_address().map(|address| address.to_string()));
    for address in expected {
        until("the address is in the file", || {
            let written = std::fs::read_to_string(cairn.path("network.toml")).unwrap();
            written.contains(&format!("/ip4/{address}/tcp/"))
        });
    }
    network.stop();
}

/// Every file below `folder`.
fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

#[test]
fn i8_nothing_that_the_network_keeps_holds_a_name_or_a_content() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let network = Network::start(&cairn, &["--nodes", "4"]);
    let name = "a-name-that-no-node-may-see";
    let words = "words-that-no-node-may-see-";
    std::fs::write(cairn.path(name), words.repeat(50_000)).unwrap();
    let link = network.run(&["put", text(&cairn.path(name))]).done().out;
    wait_complete(&network, link.trim());
    network.stop();
    let mut files = Vec::new();
    files_below(&cairn.path("dev"), &mut files);
    let mut bytes = 0;
    for path in files {
        let kept = std::fs::read(&path).unwrap();
        bytes += kept.len();
        for secret in [name, words] {
            let holds = kept
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!holds, "{} holds {secret}", path.display());
        }
    }
    assert!(bytes > 2 * 50_000 * words.len(), "the shards are there");
}

/// Compares shapes with those of a golden file. Set `CAIRN_WRITE_REFERENCE=1` to write the file anew.
pub(crate) fn check_golden(golden: &Path, shapes: &serde_json::Map<String, Value>) {
    let made = serde_json::to_string_pretty(shapes).unwrap() + "\n";
    if std::env::var_os("CAIRN_WRITE_REFERENCE").is_some() {
        std::fs::write(golden, &made).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap_or_default();
    assert_eq!(
        kept, made,
        "run with CAIRN_WRITE_REFERENCE=1 to write it anew"
    );
}

/// What a JSON value is made of: names and types, the items of a list as the first one is.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => items.iter().take(1).map(shape).collect::<Vec<_>>().into(),
        Value::Object(object) => {
            let entries = object
                .iter()
                .map(|(key, value)| (key.clone(), shape(value)));
            entries.collect::<serde_json::Map<_, _>>().into()
        }
    }
}

#[test]
fn nodes_prove_epoch_by_epoch() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let file = cairn.path("file");
    std::fs::write(&file, content(FILE_BYTES)).unwrap();
    let network = Network::start(&cairn, &["--nodes", "4", "--epoch", "3s"]);
    let link = network.run(&["put", text(&file)]).done().out;
    wait_complete(&network, link.trim());
    let status = |number: u16| {
        let node = cairn.path(&format!("dev/node-{number}"));
        let args = ["--json", "node", "status", "--folder", text(&node)];
        network.run(&args).done().json()
    };
    let before = status(1)["epoch"].as_u64().unwrap();
    for number in 1..=4 {
        until("it has proved a later epoch", || {
            let status = status(number);
            assert_ne!(status["proof"], "invalid", "{status}");
            status["epoch"].as_u64().unwrap() > before + 1 && status["proof"] == "valid"
        });
    }
    network.stop();
    let refused = cairn.run(&["dev", "--epoch", "1h"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("has epochs of 3s"), "{refused:?}");
}

/// The whole of it, with nobody's help: a node that is stopped is suspect, then lost; others are drawn
/// for its slots, rebuild them, prove them and are paid for it, while no process of the owner runs.
/// Then as many of the first nodes are killed as the code bears, and every byte is still there.
#[test]
fn i1_lost_slots_are_repaired_proven_and_paid_without_the_owner() {
    let cairn = Cairn::new();
    let file = cairn.path("file");
    std::fs::write(&file, content(FILE_BYTES)).unwrap();
    let network = Network::start(
        &cairn,
        &["--nodes", "6", "--profile", "dev4", "--epoch", "2s"],
    );
    cairn.run(&["init", "--no-passphrase"]).done();
    let link = network.run(&["put", text(&file)]).done().out;
    let link = link.trim();
    wait_complete(&network, link);
    let holders = || -> Vec<String> {
        let slots = stat(&network, link)["groups"][0]["slots"].clone();
        let node = |slot: &Value| slot["node"].as_str().unwrap_or_default().to_owned();
        slots.as_array().unwrap().iter().map(node).collect()
    };
    let first = holders();
    let members = network.run(&["--json", "dev", "status"]).done().json();
    let number_of = |node: &str| {
        let members = members["nodes"].as_array().unwrap();
        let found = members.iter().find(|member| member["node"] == node);
        found.unwrap()["number"].to_string()
    };
    let lost = first[0].clone();
    network.run(&["dev", "kill", &number_of(&lost)]).done();
    until("another node was drawn for the slot and has it", || {
        let now = holders();
        now[0] != lost && !now[0].is_empty() && stat(&network, link)["complete"] == true
    });
    let now = holders();
    assert_eq!(now[1..], first[1..], "only the lost slot has moved");
    until("the successor has proved an epoch", || {
        let node = cairn.path(&format!("dev/node-{}", number_of(&now[0])));
        let args = ["--json", "node", "status", "--folder", text(&node)];
        network.run(&args).done().json()["proof"] == "valid"
    });
    // Two of the first four are still needed with the new one: kill the others.
    for node in &first[1..3] {
        network.run(&["dev", "kill", &number_of(node)]).done();
    }
    let copy = cairn.path("copy");
    network.run(&["get", link, text(&copy)]).done();
    assert_eq!(std::fs::read(&copy).unwrap(), content(FILE_BYTES));
    network.stop();
}

/// Scripts build on these. Set `CAIRN_WRITE_REFERENCE=1` to write the file anew.
#[test]
fn the_shapes_of_json_are_those_of_the_golden_file() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/json.golden");
    let cairn = Cairn::new();
    let mut shapes = serde_json::Map::new();
    let mut take = |name: &str, json: &Value| {
        shapes.insert(name.to_owned(), shape(json));
    };
    take(
        "init",
        &cairn
            .run(&["--json", "init", "--no-passphrase"])
            .done()
            .json(),
    );
    let network = Network::start(&cairn, &["--nodes", "4"]);
    take("dev", &network.ready);
    let (file, copy) = (cairn.path("file"), cairn.path("copy"));
    std::fs::write(&file, content(100_000)).unwrap();
    let put = network.run(&["--json", "put", text(&file)]).done().json();
    take("put", &put);
    let link = put["link"].as_str().unwrap();
    wait_complete(&network, link);
    take("stat", &stat(&network, link));
    take(
        "get",
        &network
            .run(&["--json", "get", link, text(&copy)])
            .done()
            .json(),
    );
    let node = cairn.path("dev/node-1");
    let node_says = |verb: &str| {
        let args = ["--json", "node", verb, "--folder", text(&node)];
        network.run(&args).done().json()
    };
    until("the node has nothing left to do", || {
        node_says("status")["idle"] == true
    });
    for verb in ["status", "scrub", "drain"] {
        take(&format!("node {verb}"), &node_says(verb));
    }
    until("the node says that it drains", || {
        node_says("status")["draining"] == true
    });
    take(
        "dev status",
        &network.run(&["--json", "dev", "status"]).done().json(),
    );
    take("rm", &network.run(&["--json", "rm", link]).done().json());
    let error = network.run(&["--json", "get", link, text(&cairn.path("gone"))]);
    take("error", &serde_json::from_str(&error.err).unwrap());
    network.stop();
    check_golden(&golden, &shapes);
}
