//! Validators change while the ledger goes on: real processes, on ports of the loopback interface.

use cairn_tests::validators::{Change, ValidatorNetwork};
use serde_json::Value;

/// Payments before and after each fault.
const PAYMENTS: usize = 3;
const PAID: u64 = 3;

fn start(network: &mut ValidatorNetwork, numbers: &[usize]) {
    for number in numbers {
        network.start(*number);
    }
    network.reach(1);
}

/// A file's receipt, from the ledger as it is now.
fn notarise(network: &ValidatorNetwork, name: &str) -> (String, String) {
    let file = network.path(name);
    std::fs::write(&file, name).expect("the file is written");
    let file = file.to_string_lossy().into_owned();
    let made = network.run(&["notarise", &file]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    (format!("{file}.notarised.json"), file)
}

/// Whether a receipt holds by what clients knew from the first.
fn check((receipt, file): &(String, String), network: &ValidatorNetwork) {
    let checked = network.run(&["--json", "verify", receipt, file]);
    let checked: Value = serde_json::from_str(&checked.text()).expect("it prints JSON");
    assert_eq!(checked["attested_by"], "validators");
}

#[test]
fn one_leaves_and_one_comes_and_payments_go_on_over_the_border() {
    let mut network = ValidatorNetwork::with_spare(4, 1, &[]);
    let now = [0, 1, 2, 3];
    start(&mut network, &now);
    network.pay(PAYMENTS, 0);
    let mut paid = PAID;
    let before = notarise(&network, "before");
    let change = Change {
        by: 1,
        add: &[4],
        remove: &[0],
        absent: &[],
    };
    let term = network.agree_on(&now, change);
    // It waits for its term, whenever it is begun.
    network.start(4);
    network.wait("the one that comes waits for its term", |network| {
        network.status(4)["waits_for_term"] == 1
    });
    let enacted = network.enact(&term, &[]);
    assert!(enacted["border"].is_u64(), "{enacted}");
    // Nobody who pays sees the border.
    while network.term(1) != Some(1) {
        network.pay(1, 1);
        paid += 1;
    }
    let next = [1, 2, 3, 4];
    network.reach_term(&next, 1);
    let said = network.leaves(0);
    assert!(said.contains("without this validator"), "{said}");
    network.pay(PAYMENTS, 2);
    paid += PAID;
    let height = network.height();
    network.reach(height);
    for number in next {
        assert_eq!(network.paid(number), paid, "validator {number}");
        assert_eq!(network.status(number)["validators"], 4);
        assert_eq!(network.clients_key(number), network.first_key());
    }
    check(&before, &network);
    check(&notarise(&network, "after"), &network);
    // Nobody keeps a part of a term that is over, least of all the one that left.
    assert!((0..4).all(|number| !network.has(number, "key.part")));
    assert!(next.iter().all(|it| network.has(*it, "term-1.part")));
    // Without the one that came three would be too few.
    network.kill(&[2]);
    network.pay(PAYMENTS, 1);
    assert_eq!(network.paid(4), paid + PAID);
    // Asked again, the ledger says what is so.
    let enacted = network.enact(&term, &["--wait"]);
    assert_eq!(enacted["begun"], true);
    assert!(enacted["transaction"].is_null(), "{enacted}");
}

#[test]
fn a_validator_that_was_killed_is_replaced_without_its_help() {
    let mut network = ValidatorNetwork::with_spare(4, 1, &["--epoch", "4s"]);
    let now = [0, 1, 2, 3];
    start(&mut network, &now);
    network.pay(PAYMENTS, 0);
    let height = network.height();
    network.reach(height);
    network.kill(&[3]);
    let change = Change {
        by: 0,
        add: &[4],
        remove: &[],
        absent: &[3],
    };
    let term = network.agree_on(&now, change);
    network.start(4);
    // An epoch names the border.
    let enacted = network.enact(&term, &["--wait"]);
    assert_eq!(enacted["begun"], true, "{enacted}");
    let next = [0, 1, 2, 4];
    network.reach_term(&next, 1);
    network.pay(PAYMENTS, 0);
    let height = network.height();
    network.reach(height);
    for number in next {
        assert_eq!(network.paid(number), 2 * PAID, "validator {number}");
    }
    // When it is back, it hears that others go on without it.
    network.start(3);
    let said = network.leaves(3);
    assert!(said.contains("without this validator"), "{said}");
    // One more may be down, the one that came too.
    network.kill(&[4]);
    network.pay(PAYMENTS, 0);
    assert_eq!(network.paid(0), 3 * PAID);
}

#[test]
fn one_that_was_down_at_the_border_goes_on_in_the_new_term_by_itself() {
    let mut network = ValidatorNetwork::with_spare(4, 0, &[]);
    let now = [0, 1, 2, 3];
    start(&mut network, &now);
    network.pay(PAYMENTS, 0);
    // The same validators under other parts of the key.
    let change = Change {
        by: 2,
        add: &[],
        remove: &[],
        absent: &[],
    };
    let term = network.agree_on(&now, change);
    network.kill(&[3]);
    let enacted = network.enact(&term, &["--wait"]);
    assert_eq!(enacted["begun"], true, "{enacted}");
    network.reach_term(&[0, 1, 2], 1);
    network.pay(PAYMENTS, 0);
    let height = network.height();
    network.start(3);
    network.reach_term(&[3], 1);
    network.reach(height);
    assert_eq!(network.paid(3), 2 * PAID);
    // It votes: without it three would be too few.
    network.kill(&[0]);
    network.pay(PAYMENTS, 1);
    // And it is in the term when it begins again.
    network.kill(&[3]);
    network.start(3);
    network.reach_term(&[3], 1);
    network.pay(PAYMENTS, 1);
    let height = network.height();
    network.reach(height);
    assert_eq!(network.paid(3), 4 * PAID);
}

#[test]
fn a_change_that_can_not_be_made_is_refused_and_says_why() {
    let mut network = ValidatorNetwork::with_spare(1, 1, &[]);
    start(&mut network, &[0]);
    let folder = network.path("validator-0");
    let folder = folder.to_string_lossy().into_owned();
    let draft = network.path("draft.toml");
    let draft = draft.to_string_lossy().into_owned();
    let change = |more: &[&str]| {
        let args = ["validator", "change", "--folder", &folder, "--out", &draft];
        network.run(&[&args[..], more].concat())
    };
    let own = network.identity(0).to_string();
    let removed = change(&["--remove", &own]);
    assert_eq!(removed.code, Some(2), "{}", removed.stderr);
    assert!(
        removed.stderr.contains("found 0"),
        "no validators: {}",
        removed.stderr
    );
    let early = change(&["--term", "5"]);
    assert!(early.stderr.contains("no term before"), "{}", early.stderr);
    let missing = network.run(&["validator", "enact", &draft]);
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    assert!(
        missing.stderr.contains("is not there"),
        "{}",
        missing.stderr
    );
    assert!(!network.path("draft.toml").exists(), "nothing is written");
    let said = network.refused(1, &[]);
    assert!(said.contains("genesis.toml is not there"), "{said}");
    // One that is in no term is told so.
    let genesis = network.path("genesis/genesis.toml");
    let copy = network.path("validator-1/genesis.toml");
    std::fs::copy(genesis, copy).expect("the genesis is copied");
    let said = network.refused(1, &[]);
    assert!(said.contains("names this validator"), "{said}");
}
