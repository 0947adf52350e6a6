//! Rules on what others build on: every kind of record has a golden vector, every flag of the
//! command line is in its reference.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprAssign, Field, Item, Lit, Token};

use super::tree::Tree;
use super::{Problem, Rule, words};

/// Where the kinds of records are.
const KINDS_FILE: &str = "core/src/record.rs";
/// The enum of kinds.
const KINDS_ENUM: &str = "RecordKind";
/// Where the vectors are.
const VECTORS_FOLDER: &str = "tests/vectors";
/// Hex digits of a kind's number.
const KIND_DIGITS: usize = 4;
/// Hex digits of the shortest encoding: kind and version.
const ENVELOPE_DIGITS: usize = 6;
/// The reference of the command line.
const FLAGS_FILE: &str = "docs/cli.md";
/// Where the flags are defined.
const FLAGS_FOLDER: &str = "cli/src";

/// Reports kinds without a vector and flags without a line in the reference.
pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    check_vectors(tree, problems);
    check_flags(tree, problems);
}

/// A vector of a kind is a string of hex digits that starts with the kind's number, in a JSON file
/// below the folder.
fn check_vectors(tree: &Tree, problems: &mut Vec<Problem>) {
    let vectors: BTreeSet<&str> = tree
        .files
        .iter()
        .filter(|file| file.path.starts_with(VECTORS_FOLDER) && file.has_extension("json"))
        .flat_map(|file| file.text.split('"'))
        .filter(|text| text.len() >= ENVELOPE_DIGITS && text.bytes().all(|c| c.is_ascii_hexdigit()))
        .filter_map(|text| text.get(..KIND_DIGITS))
        .collect();
    let kinds = tree
        .sources()
        .filter(|(file, _)| file.path.ends_with(KINDS_FILE));
    for (file, source) in kinds {
        for kind in kinds_of(&source.items.items) {
            if !vectors.contains(kind.prefix.as_str()) {
                let name = kind.name;
                let text = format!("record kind {name} has no vector in {VECTORS_FOLDER}/*.json");
                problems.push(Problem::new(Rule::Vector, &file.path, kind.line, text));
            }
        }
    }
}

/// A kind of record.
struct Kind {
    name: String,
    /// Its number as the first hex digits of an encoding.
    prefix: String,
    line: usize,
}

/// The kinds that the items define; one without a number has none to look for.
fn kinds_of(items: &[Item]) -> Vec<Kind> {
    let kinds = items.iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == KINDS_ENUM => Some(item),
        _ => None,
    });
    let variants = kinds.into_iter().flat_map(|kinds| &kinds.variants);
    variants
        .map(|variant| Kind {
            name: variant.ident.to_string(),
            prefix: variant
                .discriminant
                .as_ref()
                .map(prefix)
                .unwrap_or_default(),
            line: variant.ident.span().start().line,
        })
        .collect()
}

/// Little endian, two bytes.
fn prefix((_, number): &(Token![=], Expr)) -> String {
    let Expr::Lit(literal) = number else {
        return String::new();
    };
    let Lit::Int(number) = &literal.lit else {
        return String::new();
    };
    let [low, high] = number
        .base10_parse::<u16>()
        .unwrap_or_default()
        .to_le_bytes();
    format!("{low:02x}{high:02x}")
}

fn check_flags(tree: &Tree, problems: &mut Vec<Problem>) {
    let reference = tree.file(FLAGS_FILE).map_or("", |file| file.text.as_str());
    let sources = tree
        .sources()
        .filter(|(file, _)| file.path.starts_with(FLAGS_FOLDER));
    for (file, source) in sources {
        let mut flags = Flags { found: Vec::new() };
        flags.visit_file(&source.items);
        for (flag, line) in flags.found {
            if !mentions(reference, &flag) {
                let text = format!("--{flag} is not in {FLAGS_FILE}");
                problems.push(Problem::new(Rule::Flag, &file.path, line, text));
            }
            if let Some((word, instead)) = words::replaced_in_flag(&flag) {
                let text = format!("--{flag}: say {instead} for {word} (docs/GLOSSARY.md)");
                problems.push(Problem::new(Rule::Word, &file.path, line, text));
            }
        }
    }
}

/// Whether the reference has `--flag`, and not just as the start of a longer one.
fn mentions(reference: &str, flag: &str) -> bool {
    let whole = format!("--{flag}");
    reference.match_indices(&whole).any(|(at, _)| {
        let after = reference.get(at.saturating_add(whole.len())..);
        let next = after.and_then(|rest| rest.chars().next());
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// Fields marked as long flags for clap's derive.
struct Flags {
    found: Vec<(String, usize)>,
}

impl<'ast> Visit<'ast> for Flags {
    fn visit_field(&mut self, field: &'ast Field) {
        if let Some(ident) = &field.ident
            && let Some(flag) = field
                .attrs
                .iter()
                .find_map(|one| long(one, &ident.to_string()))
        {
            self.found.push((flag, ident.span().start().line));
        }
        visit::visit_field(self, field);
    }
}

/// The long flag that `#[arg(...)]` gives a field: its own name, or the one it says.
fn long(attribute: &Attribute, field: &str) -> Option<String> {
    if !attribute.path().is_ident("arg") {
        return None;
    }
    let list = syn::punctuated::Punctuated::<Expr, Token![,]>::parse_terminated;
    let entries = attribute.parse_args_with(list).ok()?;
    if entries.iter().any(is_hide) {
        return None;
    }
    entries.iter().find_map(|entry| match entry {
        Expr::Path(path) if path.path.is_ident("long") => Some(field.replace('_', "-")),
        Expr::Assign(assign) => named(assign),
        _ => None,
    })
}

/// `hide = true`: for other programs, and so not in the reference.
fn is_hide(entry: &Expr) -> bool {
    let Expr::Assign(assign) = entry else {
        return false;
    };
    matches!(&*assign.left, Expr::Path(path) if path.path.is_ident("hide"))
}

/// The name in `long = "name"`.
fn named(assign: &ExprAssign) -> Option<String> {
    match (&*assign.left, &*assign.right) {
        (Expr::Path(path), Expr::Lit(literal)) if path.path.is_ident("long") => {
            let Lit::Str(text) = &literal.lit else {
                return None;
            };
            Some(text.value())
        }
        _ => None,
    }
}
