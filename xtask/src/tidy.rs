//! What no linter knows: crate edges, glossary words, file budgets and the like.
//!
//! [`check`] reads every tracked file below a root and reports each broken rule with its path and
//! line. It guarantees the same report for the same tree, in the order of paths and lines. It
//! assumes that sources parse; one that does not is itself reported.

use std::fmt;
use std::path::{Path, PathBuf};

mod code;
mod crates;
mod definitions;
mod docs;
mod interface;
mod text;
mod tree;
mod words;

#[cfg(test)]
mod tests;

use tree::Tree;

/// The rules, each with the name that a report ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// An attribute that silences a lint without being checked itself.
    AllowAttribute,
    /// A source that is not ASCII.
    Ascii,
    /// A word that says there is no bound.
    Bound,
    /// A crate that does not follow the workspace's lints and versions.
    CargoFile,
    /// An import between our crates that the design does not have.
    CrateEdge,
    /// A source with too many lines of code.
    FileBudget,
    /// A file that is too large.
    FileBytes,
    /// A flag of the command line that its reference does not name.
    Flag,
    /// A library used outside the one crate that hides it.
    ForeignCrate,
    /// A heading without text below it.
    Heading,
    /// The path of someone's machine.
    MachinePath,
    /// A document or heading that is mentioned and not there.
    Mention,
    /// A module in a file named `mod.rs`.
    ModFile,
    /// A source without a module doc.
    ModuleDoc,
    /// The host of a package registry.
    RegistryHost,
    /// A source that does not parse.
    Syntax,
    /// An open task without the number of its issue.
    TaskNumber,
    /// A kind of record without a golden vector.
    Vector,
    /// A word that the glossary replaces by another.
    Word,
}

impl Rule {
    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AllowAttribute => "allow-attribute",
            Self::Ascii => "ascii",
            Self::Bound => "bound",
            Self::CargoFile => "cargo-file",
            Self::CrateEdge => "crate-edge",
            Self::FileBudget => "file-budget",
            Self::FileBytes => "file-bytes",
            Self::Flag => "flag",
            Self::ForeignCrate => "foreign-crate",
            Self::Heading => "heading",
            Self::MachinePath => "machine-path",
            Self::Mention => "mention",
            Self::ModFile => "mod-file",
            Self::ModuleDoc => "module-doc",
            Self::RegistryHost => "registry-host",
            Self::Syntax => "syntax",
            Self::TaskNumber => "task-number",
            Self::Vector => "vector",
            Self::Word => "word",
        }
    }
}

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// The file, relative to the root.
    pub(crate) path: PathBuf,
    /// The line, from 1.
    pub(crate) line: usize,
    /// Which rule.
    pub(crate) rule: Rule,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

impl Problem {
    /// A problem of `rule` at `line` of `path`.
    pub(crate) fn new(rule: Rule, path: &Path, line: usize, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let rule = self.rule.name();
        write!(f, "{path}:{}: error: {} [{rule}]", self.line, self.text)
    }
}

/// Every problem of the tree below `root`, sorted.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let tree = Tree::read(root)?;
    let mut problems = Vec::new();
    text::check(&tree, &mut problems);
    crates::check(&tree, &mut problems);
    code::check(&tree, &mut problems);
    words::check(&tree, &mut problems);
    interface::check(&tree, &mut problems);
    docs::check(&tree, &mut problems);
    problems.sort();
    problems.dedup();
    Ok(problems)
}
