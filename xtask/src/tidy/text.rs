//! Rules on the text of files: size, alphabet, open tasks, paths and hosts that are not ours.
//!
//! Words that are looked for are written in two parts here, so that this file passes.

use super::tree::{FILE_BYTES_MAX, Tree, TreeFile};
use super::{Problem, Rule};

/// Words that mark an open task; only the first is used, with a number.
const TASK_WORDS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
/// The word that says there is no bound.
const NO_BOUND: &str = concat!("un", "bounded");
/// The open end of a range has that name in the standard library.
const OPEN_END: &str = concat!("Bound::Un", "bounded");
/// Folders of the machines that the project is made on.
const MACHINE_PATHS: [&str; 2] = [concat!("/", "work"), concat!("/", "root")];
/// Package registries and their mirrors: sources come from wherever the builder's tools say.
const REGISTRY_HOSTS: [&str; 6] = [
    concat!("crates", ".io"),
    concat!("rs", "proxy"),
    concat!("tuna.", "tsinghua"),
    concat!("ustc", ".edu"),
    concat!("proxy.", "golang.org"),
    concat!("pypi", ".org"),
];
/// The one source that the lock file may name.
const LOCK_SOURCE: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

/// Reports what is wrong with the text of each file.
pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in &tree.files {
        check_bytes(file, problems);
        if is_source(file) {
            check_source(file, problems);
        }
        if file.path.ends_with("Cargo.lock") {
            check_lock(file, problems);
        } else {
            check_places(file, problems);
        }
    }
}

/// Code and scripts, as against documents.
fn is_source(file: &TreeFile) -> bool {
    ["rs", "toml", "sh"]
        .iter()
        .any(|end| file.has_extension(end))
        || file.text.starts_with("#!/")
}

fn check_bytes(file: &TreeFile, problems: &mut Vec<Problem>) {
    if file.bytes > FILE_BYTES_MAX {
        let text = format!(
            "expected at most {FILE_BYTES_MAX} bytes, found {}",
            file.bytes
        );
        problems.push(Problem::new(Rule::FileBytes, &file.path, 1, text));
    }
}

fn check_source(file: &TreeFile, problems: &mut Vec<Problem>) {
    let lints = file.path.ends_with("clippy.toml");
    for (number, line) in file.lines() {
        if let Some(other) = line.chars().find(|c| !may_stand_in(line, *c)) {
            let text = format!("{other:?} is not ASCII; write it as an escape or in words");
            problems.push(Problem::new(Rule::Ascii, &file.path, number, text));
        }
        let line_of_ours = line.replace(OPEN_END, "");
        if !lints && line_of_ours.to_ascii_lowercase().contains(NO_BOUND) {
            let text = "every queue, buffer and retry has a named bound";
            problems.push(Problem::new(Rule::Bound, &file.path, number, text));
        }
        if let Some(word) = open_task(line) {
            let task = TASK_WORDS[0];
            let text = format!("{word} without an issue: write {task}(#number)");
            problems.push(Problem::new(Rule::TaskNumber, &file.path, number, text));
        }
    }
}

/// ASCII may stand anywhere; lines and arrows of a picture in a doc comment.
fn may_stand_in(line: &str, c: char) -> bool {
    let doc = ["//!", "///"]
        .iter()
        .any(|sign| line.trim_start().starts_with(sign));
    c.is_ascii() || (doc && matches!(c, '\u{2190}'..='\u{21ff}' | '\u{2500}'..='\u{259f}'))
}

/// The task word of a line that names no issue.
fn open_task(line: &str) -> Option<&'static str> {
    let word = TASK_WORDS.into_iter().find(|word| has_word(line, word))?;
    let numbered = word == TASK_WORDS[0]
        && line
            .split_once(word)
            .and_then(|(_, rest)| rest.strip_prefix("(#"))
            .and_then(|rest| rest.split_once(')'))
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    (!numbered).then_some(word)
}

/// Whether `word` stands in `line` on its own.
fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.get(word.len()..).unwrap_or_default();
        !inside(before.chars().next_back()) && !inside(after.chars().next())
    })
}

fn check_places(file: &TreeFile, problems: &mut Vec<Problem>) {
    for (number, line) in file.lines() {
        if let Some(place) = MACHINE_PATHS.into_iter().find(|path| has_path(line, path)) {
            let text = format!("{place} is a folder of one machine; say it by a variable");
            problems.push(Problem::new(Rule::MachinePath, &file.path, number, text));
        }
        if let Some(host) = REGISTRY_HOSTS.into_iter().find(|host| line.contains(host)) {
            let text = format!("{host} is a registry; the builder's tools know theirs");
            problems.push(Problem::new(Rule::RegistryHost, &file.path, number, text));
        }
    }
}

/// Whether `line` has `path` as an absolute path or the start of one.
fn has_path(line: &str, path: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || "._-/~}".contains(c);
    line.match_indices(path).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.get(path.len()..).unwrap_or_default();
        !before.chars().next_back().is_some_and(in_name)
            && !after.chars().next().is_some_and(|c| c != '/' && in_name(c))
    })
}

fn check_lock(file: &TreeFile, problems: &mut Vec<Problem>) {
    for (number, line) in file.lines() {
        if let Some(source) = line.strip_prefix("source = ")
            && source.trim_matches('"') != LOCK_SOURCE
        {
            let text = format!("expected the default registry as source, found {source}");
            problems.push(Problem::new(Rule::RegistryHost, &file.path, number, text));
        }
    }
}
