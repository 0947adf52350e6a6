//! Validators as processes of their own, on ports of the loopback interface.

use std::collections::BTreeSet;
use std::process::Child;
use std::time::Duration;

use cairn_tests::system::{bytes_of, real_sleep};
use cairn_tests::validators::ValidatorNetwork;
use serde_json::Value;

/// Payments before and after each fault.
const PAYMENTS: usize = 3;
const PAID: u64 = 3;

#[test]
fn one_validator_needs_nobody_and_comes_back_after_a_kill() {
    let mut network = ValidatorNetwork::new(1, &[]);
    network.start_all(1);
    network.pay(PAYMENTS, 0);
    network.kill(&[0]);
    network.start(0);
    network.reach(PAID);
    assert_eq!(network.paid(0), PAID);
    network.pay(PAYMENTS, 0);
    assert_eq!(network.paid(0), 2 * PAID);
}

#[test]
fn any_one_of_four_may_be_killed_and_comes_back() {
    let mut network = ValidatorNetwork::new(4, &[]);
    network.start_all(1);
    let mut paid = 0;
    for number in 0..4 {
        network.kill(&[number]);
        // The client asks the one that is gone first.
        network.pay(PAYMENTS, number);
        paid += PAID;
        network.start(number);
        let height = network.height();
        network.reach(height);
        assert_eq!(network.paid(number), paid, "validator {number}");
    }
    let height = network.height();
    network.reach(height + 1);
}

#[test]
fn all_four_killed_at_once_come_back_with_nothing_lost() {
    let mut network = ValidatorNetwork::new(4, &[]);
    network.start_all(1);
    let mut paid = 0;
    for _ in 0..2 {
        network.pay(PAYMENTS, 0);
        paid += PAID;
        let height = network.height();
        network.kill(&[0, 1, 2, 3]);
        network.start_all(height);
    }
    network.pay(PAYMENTS, 1);
    let height = network.height();
    network.reach(height);
    for number in 0..4 {
        assert_eq!(network.paid(number), paid + PAID, "validator {number}");
    }
}

#[test]
fn two_and_two_halt_and_heal_without_a_fork() {
    let mut network = ValidatorNetwork::new(4, &[]);
    network.start_all(1);
    network.pay(PAYMENTS, 0);
    network.part(|number| number < 2);
    // What was under way may still become final.
    real_sleep(Duration::from_secs(3));
    let heights = |network: &mut ValidatorNetwork| -> Vec<u64> {
        let numbers = 0..4;
        numbers
            .map(|number| network.state(number).expect("it answers").height)
            .collect()
    };
    let halted = heights(&mut network);
    real_sleep(Duration::from_secs(8));
    assert_eq!(heights(&mut network), halted, "two of four decide nothing");
    network.heal();
    let highest = halted.into_iter().max().unwrap_or(0);
    network.reach(highest + 1);
    network.pay(PAYMENTS, 3);
    let height = network.height();
    network.reach(height);
    for number in 0..4 {
        assert_eq!(network.paid(number), 2 * PAID, "validator {number}");
    }
}

#[test]
fn one_that_joins_late_or_lost_its_disk_gets_every_block() {
    let mut network = ValidatorNetwork::new(5, &[]);
    for number in 0..4 {
        network.start(number);
    }
    network.reach(1);
    network.pay(3 * PAYMENTS, 0);
    network.start(4);
    let height = network.height();
    network.reach(height);
    assert_eq!(network.paid(4), 3 * PAID);
    network.kill(&[1]);
    network.wipe(1);
    network.pay(PAYMENTS, 0);
    let said = network.refused(1, &[]);
    assert!(
        said.contains("voted for") && said.contains("--rejoin"),
        "{said}"
    );
    network.start_with(1, &["--rejoin"]);
    network.wait("it runs", |network| network.status(1)["height"].is_u64());
    let height = network.height();
    network.reach(height);
    assert_eq!(network.paid(1), 4 * PAID);
}

/// Where there is one validator, its folder is the ledger.
#[test]
fn the_only_validator_never_begins_its_ledger_anew() {
    let mut network = ValidatorNetwork::new(1, &[]);
    let said = network.refused(0, &["--rejoin"]);
    assert!(said.contains("nothing of the validator"), "{said}");
    network.start_all(1);
    network.kill(&[0]);
    network.wipe(0);
    for more in [&[][..], &["--rejoin"]] {
        let said = network.refused(0, more);
        assert!(said.contains("put back a copy"), "{said}");
    }
}

#[test]
fn four_make_their_key_together_and_order_a_ledger_with_it() {
    let mut network = ValidatorNetwork::drafted(4, &[]);
    let mut processes: Vec<Child> = (0..4).map(|it| network.agree(it, "2m")).collect();
    // One is killed when it has just begun; it begins anew, and the others with it.
    network.wait("the last has begun", |network| {
        network.path("validator-3/ceremony").exists()
    });
    let mut last = processes.pop().expect("four were started");
    last.kill().expect("it is ours");
    last.wait().expect("it ends");
    processes.push(network.agree(3, "2m"));
    for (number, mut process) in processes.into_iter().enumerate() {
        let ended = process.wait().expect("it ends");
        assert!(ended.success(), "{number}: {}", network.agree_log(number));
    }
    network.adopt();
    network.start_all(1);
    network.pay(PAYMENTS, 0);
    // Who is asked next must know of these payments, or the next has the number of the last.
    let height = network.height();
    network.reach(height);
    network.kill(&[1]);
    network.pay(PAYMENTS, 1);
    network.start(1);
    let height = network.height();
    network.reach(height);
    for number in 0..4 {
        assert_eq!(network.paid(number), 2 * PAID, "validator {number}");
        assert_eq!(network.status(number)["key"], "agreed");
    }
}

#[test]
fn who_does_not_come_to_the_ceremony_is_named_and_nothing_is_written() {
    let network = ValidatorNetwork::drafted(4, &[]);
    let processes: Vec<Child> = (0..3).map(|it| network.agree(it, "5s")).collect();
    let absent = network.identity(3).to_string();
    for (number, mut process) in processes.into_iter().enumerate() {
        let ended = process.wait().expect("it ends");
        let said = network.agree_log(number);
        assert_eq!(ended.code(), Some(3), "{said}");
        assert!(said.contains(&format!("{absent} is not here")), "{said}");
        let folder = network.path(&format!("validator-{number}"));
        let entries = std::fs::read_dir(folder).expect("its folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names: BTreeSet<_> = names.collect();
        assert_eq!(names, ["lock", "node.key"].map(Into::into).into());
    }
}

#[test]
fn an_equivocator_is_shut_out_by_all_and_the_others_go_on() {
    let mut network = ValidatorNetwork::new(4, &[]);
    for number in 0..3 {
        network.start(number);
    }
    network.reach(1);
    network.start_equivocator(3);
    let traitor = vec![network.identity(3).to_string()];
    network.wait("all have shut it out, and nobody else", |network| {
        (0..3).all(|number| network.shut_out(number) == traitor)
    });
    network.pay(PAYMENTS, 0);
    let height = network.height();
    network.reach(height + 1);
    for number in 0..3 {
        assert_eq!(network.paid(number), PAID, "validator {number}");
        assert_eq!(network.shut_out(number), traitor, "for an hour");
    }
}

#[test]
fn nodes_prove_and_clients_write_whichever_validator_is_killed() {
    let mut network = ValidatorNetwork::new(4, &["--epoch", "4s", "--profile", "dev4"]);
    network.start_all(1);
    network.start_nodes(4);
    network.wait("all nodes are registered", |network| {
        (0..4).all(|number| network.node_status(number)["epoch"].is_u64())
    });
    let put = |network: &ValidatorNetwork, name: &str| {
        let content = bytes_of(7, 100_000);
        let path = network.path(name);
        std::fs::write(&path, &content).unwrap();
        let link = network.run(&["--quiet", "put", &path.to_string_lossy()]);
        (link.text(), content)
    };
    let mut files = vec![put(&network, "first")];
    let earned = |network: &ValidatorNetwork| {
        let node = network.node_status(0)["node"].clone();
        let node = node.as_str().unwrap().to_owned();
        let earnings = network.run(&["--json", "node", "earnings", &node]);
        let earnings: Value = serde_json::from_str(&earnings.text()).unwrap();
        earnings["balance_micro_credits"].as_u64().unwrap()
    };
    for number in 0..2 {
        // Those that clients and nodes ask first.
        network.kill(&[number]);
        files.push(put(&network, "another"));
        for (link, content) in &files {
            let read = network.run(&["--quiet", "cat", link]);
            assert!(read.stdout == *content, "{}", read.stderr);
        }
        let before = epoch(&network);
        network.wait("nodes prove a later epoch", |network| {
            epoch(network) > before + 1
                && (0..4).all(|node| network.node_status(node)["proof"] == "valid")
        });
        check_receipt(&network, &files[0].0);
        network.start(number);
        let height = network.height();
        network.reach(height);
    }
    network.wait("a node is paid", |network| earned(network) > 0);
}

/// More than two thirds of the validators sign that a file is proven, and it is checked without any.
fn check_receipt(network: &ValidatorNetwork, link: &str) {
    let path = network.path("receipt.json");
    let path = path.to_string_lossy();
    network.wait("a receipt is signed", |network| {
        network.run(&["stat", link, "--receipt", &path]).code == Some(0)
    });
    let checked = network.run(&["--json", "verify", &path]);
    let checked: Value = serde_json::from_str(&checked.text()).expect("it prints JSON");
    assert_eq!(checked["durable"], true);
    assert_eq!(checked["attested_by"], "validators");
    let stranger = network.run(&["verify", &path, "--ledger-key", &"01".repeat(96)]);
    assert_eq!(stranger.code, Some(1), "{}", stranger.stderr);
}

fn epoch(network: &ValidatorNetwork) -> u64 {
    network.node_status(0)["epoch"].as_u64().unwrap_or(0)
}
