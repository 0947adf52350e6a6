//! One word per concept: the unmistakable words of docs/GLOSSARY.md's last column in the names
//! that we define, and suffixes that say nothing.

use super::definitions::{self, Name, NameKind};
use super::tree::Tree;
use super::{Problem, Rule};

/// A word that is not said, and what is said instead. Words with another good meaning in code
/// (block, hash, token, host, provider, server, lock, log, part, version) are left to the reviewer.
const REPLACED: &[(&str, &str)] = &[
    ("beacon", "seed"),
    ("blob", "shard"),
    ("bond", "collateral"),
    ("chunk", "segment, shard, frame or extent"),
    ("customer", "owner"),
    ("daemon", "node"),
    ("decommission", "drain"),
    ("evacuate", "drain"),
    ("farmer", "node"),
    ("fragment", "shard"),
    ("fsck", "scrub"),
    ("manifest", "segment record"),
    ("miner", "node"),
    ("oplog", "journal"),
    ("payout", "settle"),
    ("penalize", "slash"),
    ("piece", "shard"),
    ("pledge", "collateral"),
    ("rebalance", "catch up"),
    ("renter", "owner"),
    ("replica", "slot or validator"),
    ("resync", "catch up"),
    ("sealer", "validator"),
    ("slab", "segment"),
    ("sliver", "shard"),
    ("stripe", "segment"),
    ("tenant", "owner"),
    ("uplink", "client"),
    ("vault", "volume"),
    ("wal", "journal"),
];

/// Last words of types that say nothing.
const EMPTY_TYPES: &[&str] = &[
    "base", "common", "context", "data", "handler", "helper", "info", "manager", "misc", "service",
    "util", "wrapper",
];

/// Last words of modules that say nothing.
const EMPTY_MODULES: &[&str] = &[
    "common", "handler", "helper", "manager", "misc", "service", "util", "wrapper",
];

/// Reports names that the glossary has another word for.
pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for (file, source) in tree.sources() {
        for name in definitions::names(&source.items) {
            if let Some(text) = complaint(&name) {
                problems.push(Problem::new(Rule::Word, &file.path, name.line, text));
            }
        }
    }
}

fn complaint(name: &Name) -> Option<String> {
    let words = words(&name.text);
    let shown = &name.text;
    if let Some((word, instead)) = words.iter().find_map(|word| replaced(word)) {
        return Some(format!(
            "{shown}: say {instead} for {word} (docs/GLOSSARY.md)"
        ));
    }
    let empty: &[&str] = match name.kind {
        NameKind::Type => EMPTY_TYPES,
        NameKind::Module => EMPTY_MODULES,
        NameKind::Other | NameKind::Metric => &[],
    };
    let last = words.last().map(|word| singular(word))?;
    empty
        .contains(&last)
        .then(|| format!("{shown}: {last} says nothing; name what it is"))
}

/// The word that `flag`, as in `--put-timeout`, should not have, and what to say instead.
pub(super) fn replaced_in_flag(flag: &str) -> Option<(&'static str, &'static str)> {
    words(flag).iter().find_map(|word| replaced(word))
}

fn replaced(word: &str) -> Option<(&'static str, &'static str)> {
    REPLACED
        .iter()
        .find(|(banned, _)| *banned == word || *banned == singular(word))
        .copied()
}

fn singular(word: &str) -> &str {
    word.strip_suffix('s').unwrap_or(word)
}

/// The words of a name in any of the usual cases, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = '_';
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            before = '_';
            continue;
        }
        let starts = before == '_' || (c.is_ascii_uppercase() && !before.is_ascii_uppercase());
        match words.last_mut() {
            Some(word) if !starts => word.push(c.to_ascii_lowercase()),
            _ => words.push(c.to_ascii_lowercase().to_string()),
        }
        before = c;
    }
    words
}
