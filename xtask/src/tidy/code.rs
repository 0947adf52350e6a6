//! Rules on parsed sources: budgets, module docs, attributes, file names.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Item};

use super::tree::{Source, Tree};
use super::{Problem, Rule};

/// Most lines of code of a file, without its tests, comments and blank lines: what one reads at a
/// sitting. STYLE.md section 1.
const CODE_LINES_MAX: usize = 500;

/// Reports what is wrong with the shape of each source.
pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in &tree.files {
        if let Some(Err((line, text))) = &file.source {
            problems.push(Problem::new(Rule::Syntax, &file.path, *line, text.as_str()));
        }
        if file.path.ends_with("mod.rs") {
            let text = "a module lives in foo.rs beside its folder foo";
            problems.push(Problem::new(Rule::ModFile, &file.path, 1, text));
        }
    }
    for (file, source) in tree.sources() {
        if !has_module_doc(&source.items.attrs) {
            let text = "expected a module doc (//!) at the top";
            problems.push(Problem::new(Rule::ModuleDoc, &file.path, 1, text));
        }
        for line in allow_attributes(source.tokens.clone()) {
            let text = "use #[expect(lint, reason = \"...\")] on the smallest item";
            problems.push(Problem::new(Rule::AllowAttribute, &file.path, line, text));
        }
        let lines = code_lines(source).len();
        if lines > CODE_LINES_MAX && !is_test(&file.path) {
            let text = format!("expected at most {CODE_LINES_MAX} lines of code, found {lines}");
            problems.push(Problem::new(Rule::FileBudget, &file.path, 1, text));
        }
    }
}

/// Whether the whole file is a test: `tests.rs`, or below a crate's `tests` or `benches` folder.
fn is_test(path: &Path) -> bool {
    let below = path
        .iter()
        .skip(1)
        .any(|part| part == "tests" || part == "benches");
    below || path.ends_with("tests.rs")
}

fn has_module_doc(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|one| matches!(one.style, AttrStyle::Inner(_)) && one.path().is_ident("doc"))
}

/// Lines of attributes that silence a lint unconditionally, also within macros.
fn allow_attributes(tokens: TokenStream) -> Vec<usize> {
    let mut lines = Vec::new();
    for token in tokens {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let mut inside = group.stream().into_iter();
        let named = matches!(inside.next(), Some(TokenTree::Ident(word)) if word == "allow");
        if named
            && group.delimiter() == Delimiter::Bracket
            && matches!(inside.next(), Some(TokenTree::Group(_)))
        {
            lines.push(group.span_open().start().line);
        }
        lines.extend(allow_attributes(group.stream()));
    }
    lines
}

/// The lines that have a token of the code, tests and docs left out.
fn code_lines(source: &Source) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    add_lines(source.tokens.clone(), &mut lines);
    for range in test_ranges(&source.items.items) {
        lines.retain(|line| !range.contains(line));
    }
    lines
}

fn add_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                if is_doc(group.stream()) {
                    continue;
                }
                add_span(group.span_open(), lines);
                add_span(group.span_close(), lines);
                add_lines(group.stream(), lines);
            }
            // The sign of an attribute is on the line of its bracket; that of a doc comment is
            // the comment.
            TokenTree::Punct(sign) if sign.as_char() == '#' || sign.as_char() == '!' => {}
            other => add_span(other.span(), lines),
        }
    }
}

fn add_span(span: Span, lines: &mut BTreeSet<usize>) {
    lines.extend(span.start().line..=span.end().line);
}

/// Whether the inside of a bracket is that of a doc comment: `doc = "..."`.
fn is_doc(inside: TokenStream) -> bool {
    let mut inside = inside.into_iter();
    let named = matches!(inside.next(), Some(TokenTree::Ident(word)) if word == "doc");
    named && matches!(inside.next(), Some(TokenTree::Punct(sign)) if sign.as_char() == '=')
}

/// Lines of the modules that exist for tests only.
fn test_ranges(items: &[Item]) -> Vec<RangeInclusive<usize>> {
    let tests = items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.attrs.iter().any(is_test_only) => Some(module),
        _ => None,
    });
    tests
        .map(|module| module.span().start().line..=module.span().end().line)
        .collect()
}

fn is_test_only(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|path| path.is_ident("test"))
}
