//! Rules on documents: no heading without text below it, no mention of a file or heading that is
//! not there.
//!
//! A document is a Markdown file. Sources mention documents too, in comments:
//! `docs/protocol/proofs.md#challenge`.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::tree::{Tree, TreeFile};
use super::{Problem, Rule};

/// Where a document that a source mentions begins.
const DOCS_FOLDER: &str = "docs/";
/// What such a document's name ends with.
const DOCUMENT_END: &str = ".md";

/// Reports headings without text and mentions of nothing.
pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in tree.files.iter().filter(|file| is_document(file)) {
        check_headings(file, problems);
        for (line, target) in links(file) {
            let (place, heading) = split(&target);
            let path = if place.is_empty() {
                file.path.clone()
            } else {
                let folder = file.path.parent().unwrap_or_else(|| Path::new(""));
                resolve(&folder.join(place))
            };
            check_mention(tree, file, line, &Mention { path, heading }, problems);
        }
    }
    for (file, _) in tree.sources() {
        for (number, line) in file.lines() {
            for target in mentioned(line) {
                let (place, heading) = split(&target);
                let path = PathBuf::from(place);
                check_mention(tree, file, number, &Mention { path, heading }, problems);
            }
        }
    }
}

fn is_document(file: &TreeFile) -> bool {
    file.has_extension("md")
}

/// A file that is mentioned, and a heading in it.
struct Mention<'a> {
    path: PathBuf,
    heading: Option<&'a str>,
}

fn check_mention(
    tree: &Tree,
    file: &TreeFile,
    line: usize,
    mention: &Mention<'_>,
    problems: &mut Vec<Problem>,
) {
    let shown = mention.path.display();
    let mut report = |text: String| {
        problems.push(Problem::new(Rule::Mention, &file.path, line, text));
    };
    let Some(found) = tree.files.iter().find(|other| other.path == mention.path) else {
        // A folder is there when something is in it.
        if !tree
            .files
            .iter()
            .any(|other| other.path.starts_with(&mention.path))
        {
            report(format!("{shown} is mentioned and not there"));
        }
        return;
    };
    let Some(heading) = mention.heading else {
        return;
    };
    if is_document(found) && !anchors(found).contains(heading) {
        report(format!("{shown} has no heading #{heading}"));
    }
}

/// A heading: how deep, and its words.
fn heading(line: &str) -> Option<(usize, &str)> {
    let depth = line.bytes().take_while(|c| *c == b'#').count();
    let words = line.get(depth..)?.strip_prefix(' ')?;
    (1..=6).contains(&depth).then_some((depth, words.trim()))
}

/// The lines outside of code, numbered from 1; a line of code is there as `None`.
fn prose(file: &TreeFile) -> impl Iterator<Item = (usize, Option<&str>)> {
    let mut in_code = false;
    file.lines().map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (number, (!in_code && !is_fence).then_some(line))
    })
}

/// A heading is followed by text or by a heading below it.
fn check_headings(file: &TreeFile, problems: &mut Vec<Problem>) {
    let mut open: Option<(usize, usize)> = None;
    let mut report = |line: usize| {
        let text = "a heading without text below it";
        problems.push(Problem::new(Rule::Heading, &file.path, line, text));
    };
    for (number, line) in prose(file) {
        match line.map(|line| (line, heading(line))) {
            Some((_, Some((depth, _)))) => {
                if let Some((above, at)) = open
                    && depth <= above
                {
                    report(at);
                }
                open = Some((depth, number));
            }
            Some((line, None)) if line.trim().is_empty() => {}
            _ => open = None,
        }
    }
    if let Some((_, at)) = open {
        report(at);
    }
}

/// The names that a document's headings are linked by: words in lower case, joined by hyphens.
fn anchors(file: &TreeFile) -> BTreeSet<String> {
    prose(file)
        .filter_map(|(_, line)| heading(line?))
        .map(|(_, words)| {
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
            kept.map(|c| {
                if c == ' ' {
                    '-'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
        })
        .collect()
}

/// Targets of links to other files and headings, with their lines.
fn links(file: &TreeFile) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(file) {
        let ends = line.into_iter().flat_map(|line| line.split("](").skip(1));
        for target in ends.filter_map(|rest| rest.split_once(')')) {
            let (target, _) = target;
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// Documents that a comment mentions, with the heading.
fn mentioned(line: &str) -> Vec<String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let Some((_, comment)) = line.split_once("//") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (at, _) in comment.match_indices(DOCS_FOLDER) {
        let (before, rest) = comment.split_at(at);
        if before.chars().next_back().is_some_and(in_name) {
            continue;
        }
        let name: String = rest.chars().take_while(|c| in_name(*c)).collect();
        let Some((stem, after)) = name.split_once(DOCUMENT_END) else {
            continue;
        };
        if !after.trim_matches('.').is_empty() {
            continue;
        }
        let whole = format!("{stem}{DOCUMENT_END}");
        let heading: String = rest
            .strip_prefix(&whole)
            .and_then(|rest| rest.strip_prefix('#'))
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
            .collect();
        found.push(if heading.is_empty() {
            whole
        } else {
            format!("{whole}#{heading}")
        });
    }
    found
}

/// A target's file and heading.
fn split(target: &str) -> (&str, Option<&str>) {
    match target.split_once('#') {
        Some((place, heading)) => (place, Some(heading)),
        None => (target, None),
    }
}

/// The path without `.` and `..`.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Normal(name) => resolved.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    resolved
}
