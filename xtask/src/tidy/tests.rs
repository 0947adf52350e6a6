//! Every rule has an example that breaks it and one that only looks so: the trees
//! `fixtures/bad` and `fixtures/good`, and, for what can't be kept in a file here, made ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::tree::FILE_BYTES_MAX;
use super::{Problem, Rule, check};

/// Rules whose examples would break the checks on the project itself, or its size.
const MADE: [Rule; 5] = [
    Rule::Ascii,
    Rule::Bound,
    Rule::FileBytes,
    Rule::MachinePath,
    Rule::RegistryHost,
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// What is wrong with a tree of one file.
fn check_one(path: &str, content: &str) -> Vec<Problem> {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join(path);
    fs::create_dir_all(whole.parent().unwrap()).unwrap();
    fs::write(&whole, content).unwrap();
    check(root.path()).unwrap()
}

fn rules(problems: &[Problem]) -> Vec<Rule> {
    problems.iter().map(|problem| problem.rule).collect()
}

#[test]
fn a_good_tree_has_no_problem() {
    assert_eq!(check(&fixture("good")).unwrap(), []);
}

#[test]
fn a_bad_tree_has_the_expected_problems() {
    let found: Vec<String> = check(&fixture("bad"))
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = include_str!("../../fixtures/bad.txt");
    let lines: Vec<&str> = expected.lines().collect();
    assert_eq!(found, lines, "found:\n{}", found.join("\n"));
}

#[test]
fn every_rule_has_a_failing_example() {
    let bad: BTreeSet<Rule> = rules(&check(&fixture("bad")).unwrap())
        .into_iter()
        .collect();
    let missing: Vec<&str> = [
        Rule::AllowAttribute,
        Rule::CargoFile,
        Rule::CrateEdge,
        Rule::FileBudget,
        Rule::Flag,
        Rule::ForeignCrate,
        Rule::Heading,
        Rule::Mention,
        Rule::ModFile,
        Rule::ModuleDoc,
        Rule::Syntax,
        Rule::TaskNumber,
        Rule::Vector,
        Rule::Word,
    ]
    .into_iter()
    .filter(|rule| !bad.contains(rule) && !MADE.contains(rule))
    .map(Rule::name)
    .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn sources_are_ascii_and_documents_need_not_be() {
    let source = check_one("core/src/lib.rs", "//! Says \u{2264}.\n");
    assert_eq!(rules(&source), [Rule::Ascii]);
    assert_eq!(check_one("docs/picture.md", "a \u{2264} b\n"), []);
    let picture = "\u{251c} kind \u{2192} body\n";
    assert_eq!(check_one("core/src/lib.rs", &format!("//! {picture}")), []);
    let code = check_one("core/src/lib.rs", &format!("//! Doc.\n// {picture}"));
    assert_eq!(rules(&code), [Rule::Ascii]);
}

#[test]
fn the_word_for_no_bound_is_reported_outside_of_the_lints_that_ban_it() {
    let word = concat!("un", "bounded");
    let source = check_one("core/src/lib.rs", &format!("//! An {word} queue.\n"));
    assert_eq!(rules(&source), [Rule::Bound]);
    assert_eq!(check_one("clippy.toml", &format!("# {word}\n")), []);
    let range = concat!(
        "//! Ranges.\nuse std::ops::Bound;\n// Bound::Un",
        "bounded\n"
    );
    assert_eq!(check_one("core/src/lib.rs", range), []);
}

#[test]
fn a_file_may_have_the_largest_size_and_no_byte_more() {
    let most = usize::try_from(FILE_BYTES_MAX).unwrap();
    assert_eq!(check_one("docs/large.md", &"a".repeat(most)), []);
    let over = check_one("docs/large.md", &"a".repeat(most + 1));
    assert_eq!(rules(&over), [Rule::FileBytes]);
}

#[test]
fn paths_of_machines_are_reported_and_names_that_hold_them_are_not() {
    for path in [
        concat!("/", "work/main"),
        concat!("/", "root"),
        concat!("/", "root/.x"),
    ] {
        let found = check_one("docs/a.md", &format!("see `{path}` there\n"));
        assert_eq!(rules(&found), [Rule::MachinePath], "{path}");
    }
    for name in [
        "the slot/root",
        "frame/work/x",
        "/workshop",
        "/rooted",
        "${DIR}/work",
    ] {
        assert_eq!(check_one("docs/a.md", &format!("{name}\n")), [], "{name}");
    }
}

#[test]
fn registries_are_reported_and_the_lock_names_only_the_default_one() {
    let host = concat!("crates", ".io");
    let found = check_one("docs/a.md", &format!("https://{host}/x\n"));
    assert_eq!(rules(&found), [Rule::RegistryHost]);
    let default = format!("source = \"registry+https://github.com/rust-lang/{host}-index\"\n");
    assert_eq!(check_one("Cargo.lock", &default), []);
    let other = check_one("Cargo.lock", "source = \"registry+https://example.org\"\n");
    assert_eq!(rules(&other), [Rule::RegistryHost]);
}
