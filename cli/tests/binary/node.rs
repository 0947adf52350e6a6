//! `cairn node` without a network.

use crate::cairn::{Cairn, mode};

#[test]
fn a_node_has_a_key_and_a_config_that_say_where_values_come_from() {
    let cairn = Cairn::new();
    let made = cairn
        .run(&["--json", "node", "init", "--capacity", "5GiB"])
        .done()
        .json();
    assert_eq!(made["node"].as_str().unwrap().len(), 64);
    assert_eq!(mode(&cairn.path("node/node.key")), 0o600);
    let check = [
        "--json",
        "node",
        "run",
        "--check-config",
        "--data-listen",
        "127.0.0.1:9",
    ];
    let config = cairn.run(&check).done().json();
    assert_eq!(config["capacity_bytes"]["value"], "5 GiB");
    assert_eq!(config["capacity_bytes"]["origin"], "node.toml");
    assert_eq!(config["data_listen"]["value"], "127.0.0.1:9");
    assert_eq!(
        config["data_listen"]["origin"],
        "command line or environment"
    );
    cairn.run(&["node", "init"]).failed(2, "there is a node in");
}

#[test]
fn the_environment_overrides_the_config_file() {
    let cairn = Cairn::new();
    cairn.run(&["node", "init"]).done();
    let output = cairn
        .command(&["--json", "node", "run", "--check-config"])
        .env("CAIRN_NODE_CAPACITY", "7GiB")
        .output()
        .unwrap();
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(config["capacity_bytes"]["value"], "7 GiB");
}

#[test]
fn an_unknown_key_in_the_config_is_named() {
    let cairn = Cairn::new();
    cairn.run(&["node", "init"]).done();
    std::fs::write(cairn.path("node/node.toml"), "capacity = '1GiB'\n").unwrap();
    cairn
        .run(&["node", "run", "--check-config"])
        .failed(2, "unknown field `capacity`");
}

#[test]
fn what_does_not_run_says_how_to_run_it() {
    let cairn = Cairn::new();
    cairn
        .run(&["node", "status"])
        .failed(3, "hint: cairn node run");
    cairn.run(&["dev", "status"]).failed(3, "hint: cairn dev");
    cairn
        .run(&["node", "run"])
        .failed(2, "hint: cairn node init");
    cairn.run(&["node", "init"]).done();
    cairn.run(&["node", "run"]).failed(2, "no network is known");
}

#[test]
fn the_owner_consents_to_a_node_that_it_operates() {
    let cairn = Cairn::new();
    cairn
        .run(&["node", "init", "--operate"])
        .failed(2, "no network is known");
    let id = "08".repeat(32);
    let network = format!(
        "ledger_peers = [\"{id}\"]\nledger = \"{id}\"\nledger_key = \"{id}\"\nprofile = \"dev4\"\nbootstrap = []\n"
    );
    std::fs::write(cairn.path("network.toml"), network).unwrap();
    cairn
        .run(&["node", "init", "--operate"])
        .failed(2, "there is no key file");
    let owner = cairn
        .run(&["--json", "init", "--no-passphrase"])
        .done()
        .json();
    cairn.run(&["node", "init", "--operate"]).done();
    let config = cairn
        .run(&["--json", "node", "run", "--check-config"])
        .done()
        .json();
    assert_eq!(config["operator_account"]["value"], owner["account"]);
    assert_eq!(
        config["operator_consent"]["value"].as_str().unwrap().len(),
        128
    );
}
