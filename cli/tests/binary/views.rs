//! What operators and owners look at, on a network of real processes that proves.

use std::path::Path;

use serde_json::{Map, Value};

use crate::cairn::{Cairn, until};
use crate::dev::{Network, check_golden, content, shape, stat, text, wait_complete};

/// A network with a file on it that all four nodes have proven.
struct Proven<'a> {
    network: Network<'a>,
    account: String,
    link: String,
}

impl<'a> Proven<'a> {
    fn start(cairn: &'a Cairn) -> Self {
        let init = ["--json", "init", "--no-passphrase"];
        let account = cairn.run(&init).done().json()["account"].clone();
        let file = cairn.path("file");
        std::fs::write(&file, content(3_000_000)).unwrap();
        let network = Network::start(cairn, &["--nodes", "4", "--epoch", "3s"]);
        let link = network.run(&["put", text(&file)]).done().out;
        let link = link.trim().to_owned();
        wait_complete(&network, &link);
        until("every slot is proven", || {
            stat(&network, &link)["groups"][0]["proven"]["slots"] == 4
        });
        Self {
            network,
            account: account.as_str().unwrap().to_owned(),
            link,
        }
    }

    /// What the program says as JSON.
    fn json(&self, args: &[&str]) -> Value {
        self.network
            .run(&[&["--json"], args].concat())
            .done()
            .json()
    }

    fn text(&self, args: &[&str]) -> String {
        self.network.run(args).done().out
    }

    /// A transaction of a kind among the recent blocks.
    fn tx(&self, kind: &str) -> (u64, String) {
        let blocks = self.json(&["ledger", "blocks", "--count", "4096"]);
        let blocks = blocks["blocks"].as_array().unwrap().clone();
        blocks
            .iter()
            .find_map(|block| {
                let mut txs = block["txs"].as_array().unwrap().iter();
                let tx = txs.find(|tx| tx["kind"] == kind)?;
                let height = block["height"].as_u64().unwrap();
                Some((height, tx["tx"].as_str().unwrap().to_owned()))
            })
            .unwrap()
    }
}

fn id(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn the_ledgers_blocks_are_shown_and_what_is_not_there_is_said() {
    let cairn = Cairn::new();
    let proven = Proven::start(&cairn);
    let zeros = "00".repeat(32);
    let status = proven.json(&["ledger", "status"]);
    assert_eq!(
        (&status["nodes_active"], &status["epoch_ms"]),
        (&4.into(), &3000.into())
    );
    let seen = proven.text(&["ledger", "status"]);
    assert!(seen.contains("4 active of 4 ever registered"), "{seen}");
    assert!(
        proven
            .text(&["ledger", "epoch"])
            .contains("of 4 active nodes")
    );

    let (height, opening) = proven.tx("group-open");
    let tx = proven.json(&["ledger", "tx", &opening]);
    assert_eq!((&tx["height"], &tx["done"]), (&height.into(), &true.into()));
    assert_eq!(tx["account"], proven.account.as_str());
    let blocks = proven.text(&[
        "ledger",
        "blocks",
        "--txs",
        "--from",
        &height.to_string(),
        "--count",
        "1",
    ]);
    assert!(
        blocks.contains(&format!("tx {opening} group-open")),
        "{blocks}"
    );
    let run = |args: &[&str]| proven.network.run(args);
    run(&["ledger", "tx", &zeros]).failed(1, "remembered from height 1 on");
    run(&["ledger", "tx", "nonsense"]).failed(2, "expected 64 lower-case hex digits");
    run(&["ledger", "blocks", "--from", "0"]).failed(1, "no longer remembers block 0");
    run(&["ledger", "blocks", "--from", "99999999"]).failed(1, "there is no block 99999999 yet");
    proven.network.stop();
    cairn
        .run(&["ledger", "status"])
        .failed(3, "can't be reached");
}

#[test]
fn the_ledgers_tables_are_shown_page_by_page_and_entry_by_entry() {
    let cairn = Cairn::new();
    let proven = Proven::start(&cairn);
    let zeros = "00".repeat(32);
    let (_, opening) = proven.tx("group-open");
    let run = |args: &[&str]| proven.network.run(args);
    // A group has the id of the transaction that opened it.
    let group = proven.json(&["ledger", "group", &opening]);
    assert_eq!(group["owner"], proven.account.as_str());
    assert_eq!(group["slots"].as_array().unwrap().len(), 4);
    assert!(
        proven
            .text(&["ledger", "group", &opening])
            .contains("proven 1 in epoch")
    );
    let own = proven.json(&["ledger", "groups", "--owner", &proven.account]);
    assert_eq!(own["groups"][0]["group"], group["group"]);
    run(&["ledger", "group", &zeros]).failed(1, "the ledger has no group");
    run(&["ledger", "node", &zeros]).failed(1, "the ledger has no node");
    run(&["ledger", "account", &zeros]).failed(1, "the ledger has no account");

    let first = proven.json(&["ledger", "nodes", "--limit", "3"]);
    let next = id(&first["next"]);
    let rest = proven.json(&["ledger", "nodes", "--limit", "3", "--after", next]);
    assert_eq!(rest["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], Value::Null);
    let node = id(&rest["nodes"][0]["node"]);
    assert!(
        proven
            .text(&["ledger", "node", node])
            .contains("last verdict valid")
    );
    let account = proven.text(&["ledger", "account", node]);
    assert!(account.contains("node     yes, active"), "{account}");
    let own = proven.text(&["account"]);
    assert!(
        own.contains(&proven.account) && own.contains("in 1 group"),
        "{own}"
    );
    proven.network.stop();
}

#[test]
fn i4_a_nodes_earnings_add_up_to_the_balance_that_the_ledger_shows() {
    let cairn = Cairn::new();
    let proven = Proven::start(&cairn);
    let folder = cairn.path("dev/node-1");
    let own = ["node", "earnings", "--folder", text(&folder)];
    let csv = ["node", "earnings", "--csv", "--folder", text(&folder)];
    let adds_up = |seen: &Value| {
        let lines = seen["lines"].as_array().unwrap();
        let micro = |line: &Value| line["micro_credits"].as_i64().unwrap();
        let sum: i64 = lines.iter().map(micro).sum();
        assert_eq!(seen["balance_micro_credits"], sum, "{seen}");
    };
    let seen = proven.json(&own);
    adds_up(&seen);
    let lines = proven.text(&csv);
    let expected = "from_epoch,to_epoch,cause,micro_credits,credits\n,,opening,";
    assert!(lines.starts_with(expected), "{lines}");
    assert!(proven.text(&own).contains("credits in block"));
    let run = |args: &[&str]| proven.network.run(args);
    let both = [&["--json"], &csv[..]].concat();
    run(&both).failed(2, "expected --csv or --json");
    run(&["node", "earnings"]).failed(2, "there is no node in");
    let other = "00".repeat(32);
    run(&["node", "earnings", &other]).failed(1, "the ledger has no node");
    // A node that is down has earned what it has earned.
    run(&["dev", "kill", "1"]).done();
    let again = proven.json(&["node", "earnings", id(&seen["node"])]);
    assert_eq!(again["node"], seen["node"]);
    adds_up(&again);
    proven.network.stop();
}

#[test]
fn owners_and_operators_move_their_credits() {
    let cairn = Cairn::new();
    let proven = Proven::start(&cairn);
    let folder = cairn.path("dev/node-1");
    let folder = text(&folder);
    let status = proven.json(&["node", "status", "--folder", folder]);
    let node = id(&status["node"]);
    let run = |args: &[&str]| proven.network.run(args);
    let micro = |value: &Value| value.as_u64().unwrap();

    let before = proven.json(&["account"]);
    let paid = proven.json(&["pay", node, "50.5"]);
    assert_eq!(paid["paid_micro_credits"], 50_500_000);
    let after = micro(&paid["balance_micro_credits"]);
    assert_eq!(after + 50_500_000, micro(&before["balance_micro_credits"]));
    run(&["pay", node, "99999999999"]).failed(1, "expected a balance of at least");
    run(&["pay", node, "0.0000001"]).failed(2, "up to six decimals");

    // Collateral comes out of what the node has, and goes back to it.
    let first = proven.json(&["node", "collateral", "add", "1", "--folder", folder]);
    let more = proven.json(&["node", "collateral", "add", "20", "--folder", folder]);
    let less = proven.json(&["node", "collateral", "take", "5", "--folder", folder]);
    let collateral = |seen: &Value| micro(&seen["collateral_micro_credits"]);
    assert_eq!(collateral(&more), collateral(&first) + 20_000_000);
    assert_eq!(collateral(&less), collateral(&more) - 5_000_000);
    run(&[
        "node",
        "collateral",
        "take",
        "99999999999",
        "--folder",
        folder,
    ])
    .failed(1, "collateral");
    let earned = proven.json(&["node", "earnings", node]);
    let causes: Vec<&str> = earned["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| id(&line["cause"]))
        .collect();
    assert!(causes.contains(&"collateral-added") && causes.contains(&"collateral-taken"));
    proven.json(&["node", "pay", &proven.account, "3", "--folder", folder]);
    let richer = proven.json(&["account"]);
    assert_eq!(micro(&richer["balance_micro_credits"]), after + 3_000_000);

    assert_eq!(
        proven.json(&["node", "maintain", "3", "--folder", folder])["maintenance_epochs"],
        3
    );
    run(&["node", "maintain", "3", "--folder", folder]).failed(1, "maintenance");
    run(&["node", "maintain", "0", "--folder", folder]).failed(2, "0");

    let funds = proven.json(&["fund"]);
    let group = &funds["groups"][0];
    assert!(micro(&group["paid_until_epoch"]) > micro(&funds["epoch"]));
    assert_eq!(group["added_epochs"], 0, "it is paid for long: {funds}");
    assert!(proven.text(&["fund"]).contains("is paid until epoch"));
    proven.network.stop();
}

#[test]
fn a_durability_receipt_is_checked_without_the_network() {
    let cairn = Cairn::new();
    let proven = Proven::start(&cairn);
    let path = cairn.path("receipt.json");
    let receipt = text(&path);
    let seen = proven.text(&["stat", &proven.link]);
    assert!(seen.contains("proven as of epoch"), "{seen}");
    assert!(seen.contains("by 4 slots, 2 needed"), "{seen}");
    proven.text(&["stat", &proven.link, "--receipt", receipt]);
    proven.network.stop();

    let checked = cairn.run(&["--json", "verify", receipt]).done().json();
    assert_eq!(checked["durable"], true);
    assert_eq!(checked["key_from"], "network file");
    assert_eq!(checked["attested_by"], "sequencer");
    assert_eq!(checked["groups"][0]["slots_needed"], 2);
    let said = cairn.run(&["verify", receipt]).done().out;
    assert!(
        said.contains("the word of the one that orders it"),
        "{said}"
    );
    let key = ledger_key(&cairn);
    // On a machine that knows no network it takes the key.
    let elsewhere = Cairn::new();
    elsewhere
        .run(&["verify", receipt])
        .failed(2, "give --ledger-key KEY");
    elsewhere
        .run(&["verify", receipt, "--ledger-key", &key])
        .done();
    let other = "01".repeat(32);
    elsewhere
        .run(&["verify", receipt, "--ledger-key", &other])
        .failed(
            1,
            "its attestation is not signed by those who order the ledger",
        );
    let ledger = id(&checked["ledger"]);
    let forged = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, forged.replace(ledger, &other)).unwrap();
    elsewhere
        .run(&["verify", receipt, "--ledger-key", &key])
        .failed(
            1,
            "its attestation is not signed by those who order the ledger",
        );
    std::fs::write(&path, "nothing").unwrap();
    cairn.run(&["verify", receipt]).failed(2, "is no receipt");
}

/// The `ledger_key` of the network file.
fn ledger_key(cairn: &Cairn) -> String {
    let file = std::fs::read_to_string(cairn.path("network.toml")).unwrap();
    let key = file
        .lines()
        .find_map(|line| line.strip_prefix("ledger_key = "));
    key.expect("the ledger's key").trim_matches('"').to_owned()
}

#[test]
fn a_notarised_file_is_shown_as_it_was_without_the_network() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let network = Network::start(&cairn, &["--nodes", "4"]);
    let files: Vec<_> = ["contract", "annex"].map(|name| cairn.path(name)).into();
    for file in &files {
        std::fs::write(file, file.display().to_string()).unwrap();
    }
    let (contract, annex) = (text(&files[0]), text(&files[1]));
    let made = network
        .run(&["--json", "notarise", contract, annex])
        .done()
        .json();
    assert_eq!(made["receipts"].as_array().unwrap().len(), 2, "{made}");
    // Once more is the same digest, which the ledger has.
    network.run(&["notarise", contract, annex]).done();
    // With another file it is another, and what shows that it was there before stays.
    let first = std::fs::read(format!("{contract}.notarised.json")).unwrap();
    let more = cairn.path("more");
    std::fs::write(&more, "more").unwrap();
    network.run(&["notarise", contract, text(&more)]).done();
    let again = std::fs::read(format!("{contract}.notarised.json")).unwrap();
    assert!(first == again);
    std::fs::write(&more, "changed").unwrap();
    network
        .run(&["notarise", text(&more)])
        .failed(2, "is there already, and not of");
    network
        .run(&["notarise", text(&cairn.path("missing"))])
        .failed(2, "missing can't be read");
    network.stop();
    let receipt = format!("{contract}.notarised.json");
    let said = cairn.run(&["verify", &receipt, contract]).done().out;
    assert!(said.contains("was there as it is on"), "{said}");
    cairn
        .run(&["verify", &receipt, annex])
        .failed(1, "the receipt is not of these bytes");
    cairn
        .run(&["verify", &receipt])
        .failed(2, "cairn verify RECEIPT FILE");
    std::fs::write(&files[0], "changed").unwrap();
    cairn
        .run(&["verify", &receipt, contract])
        .failed(1, "the receipt is not of these bytes");
    let own = format!("{annex}.notarised.json");
    let key = ledger_key(&cairn);
    let elsewhere = Cairn::new();
    elsewhere
        .run(&["verify", &own, annex, "--ledger-key", &key])
        .done();
}

#[test]
fn without_epochs_nothing_is_proven_and_it_is_said() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let network = Network::start(&cairn, &["--nodes", "4"]);
    let file = cairn.path("file");
    std::fs::write(&file, content(100_000)).unwrap();
    let link = network.run(&["put", text(&file)]).done().out;
    wait_complete(&network, link.trim());
    let seen = network.run(&["stat", link.trim()]).done().out;
    assert!(seen.contains("the ledger has no epochs"), "{seen}");
    let receipt = cairn.path("receipt.json");
    network
        .run(&["stat", link.trim(), "--receipt", text(&receipt)])
        .failed(1, "the ledger has no epochs");
    assert!(!receipt.exists());
    network
        .run(&["ledger", "epoch"])
        .failed(1, "hint: a network is made with them");
    network.stop();
}

/// Scripts build on these. Set `CAIRN_WRITE_REFERENCE=1` to write the file anew.
#[test]
fn the_shapes_of_views_are_those_of_the_golden_file() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/views.golden");
    let cairn = Cairn::new();
    let proven = Proven::start(&cairn);
    let mut shapes = Map::new();
    let mut take = |name: &str, json: &Value| {
        shapes.insert(name.to_owned(), shape(json));
    };
    let (height, opening) = proven.tx("group-open");
    let height = height.to_string();
    take("account", &proven.json(&["account"]));
    take("ledger status", &proven.json(&["ledger", "status"]));
    // Its seed is known for all but the first blocks of an epoch.
    let mut epoch = Value::Null;
    until("an epoch with a seed is seen", || {
        epoch = proven.json(&["ledger", "epoch"]);
        epoch["seed"].is_string()
    });
    take("ledger epoch", &epoch);
    let blocks = ["ledger", "blocks", "--from", &height, "--count", "1"];
    take("ledger blocks", &proven.json(&blocks));
    take("ledger tx", &proven.json(&["ledger", "tx", &opening]));
    take(
        "ledger account",
        &proven.json(&["ledger", "account", &proven.account]),
    );
    take("ledger group", &proven.json(&["ledger", "group", &opening]));
    take("ledger groups", &proven.json(&["ledger", "groups"]));
    let nodes = proven.json(&["ledger", "nodes"]);
    take("ledger nodes", &nodes);
    let node = id(&nodes["nodes"][0]["node"]);
    take("ledger node", &proven.json(&["ledger", "node", node]));
    let mut earnings = proven.json(&["node", "earnings", node]);
    // Which causes there are is a matter of the network.
    earnings["totals_micro_credits"] = Value::Object(Map::new());
    take("node earnings", &earnings);
    let receipt = cairn.path("receipt.json");
    let stat = ["stat", &proven.link, "--receipt", text(&receipt)];
    take("stat with epochs", &proven.json(&stat));
    take("verify", &proven.json(&["verify", text(&receipt)]));
    let made: Value = serde_json::from_str(&std::fs::read_to_string(&receipt).unwrap()).unwrap();
    take("durability receipt", &made);
    proven.network.stop();
    check_golden(&golden, &shapes);
}
