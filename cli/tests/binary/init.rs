//! `cairn init`.

use crate::cairn::{Cairn, mode};

/// The words of 32 zero bytes, from the test vectors of BIP-39.
const ZEROS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon \
    abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
    abandon abandon abandon art\n";

#[test]
fn words_bring_the_account_back_on_another_machine() {
    let (first, second) = (Cairn::new(), Cairn::new());
    let made = first
        .run(&["--json", "init", "--no-passphrase"])
        .done()
        .json();
    let words: Vec<&str> = made["words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert_eq!(words.len(), 24);
    let input = words.join("\n") + "\n";
    let restore = ["--json", "init", "--restore", "--no-passphrase"];
    let restored = second.run_with(&restore, input.as_bytes()).done().json();
    assert_eq!(restored["account"], made["account"]);
    assert!(restored.get("words").is_none());
}

#[test]
fn the_key_file_is_the_users_alone_and_is_not_replaced() {
    let cairn = Cairn::new();
    cairn.run(&["init", "--no-passphrase"]).done();
    let path = cairn.path("key.toml");
    assert_eq!(mode(&path), 0o600);
    let before = std::fs::read(&path).unwrap();
    cairn
        .run(&["init", "--no-passphrase"])
        .failed(2, "there is a key file already");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_passphrase_comes_from_a_file_and_seals_the_seed() {
    let cairn = Cairn::new();
    std::fs::write(cairn.path("passphrase"), "correct horse\n").unwrap();
    let file = cairn.path("passphrase");
    let file = file.to_str().unwrap();
    let init = ["--passphrase-file", file, "init", "--restore"];
    cairn.run_with(&init, ZEROS.as_bytes()).done();
    let key = std::fs::read_to_string(cairn.path("key.toml")).unwrap();
    assert!(key.contains("argon2id"), "{key}");
    assert!(!key.contains(&"00".repeat(32)), "{key}");
}

#[test]
fn without_a_terminal_the_passphrase_is_asked_for_by_name() {
    Cairn::new().run(&["init"]).failed(2, "--no-passphrase");
}

#[test]
fn wrong_words_make_no_key_file() {
    let cairn = Cairn::new();
    let words = ZEROS.replace(" art", " zoo");
    cairn
        .run_with(&["init", "--restore", "--no-passphrase"], words.as_bytes())
        .failed(2, "do not fit together");
    assert!(!cairn.path("key.toml").exists());
}
