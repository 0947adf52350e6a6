//! The files to check: what git tracks or would track, read once, sources parsed once.
//!
//! Where there is no git folder (the fixtures), it is every file below the root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use proc_macro2::TokenStream;

/// Trees that break the rules on purpose.
const FIXTURES: &str = "xtask/fixtures";
/// Folders that are not ours.
const SKIPPED: [&str; 3] = [".git", "target", ".cairn"];
/// Largest file that is read, and that may be tracked: a clone stays small and a review readable.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The files of a tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Every file, sorted by path.
    pub(crate) files: Vec<TreeFile>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct TreeFile {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its text; empty when it is no UTF-8 or too large.
    pub(crate) text: String,
    /// The parsed source of a `.rs` file; the error with its line otherwise.
    pub(crate) source: Option<Result<Source, (usize, String)>>,
}

/// A parsed Rust source.
pub(crate) struct Source {
    /// Its items.
    pub(crate) items: syn::File,
    /// Its tokens.
    pub(crate) tokens: TokenStream,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut paths = if root.join(".git").exists() {
            tracked(root)?
        } else {
            let mut found = Vec::new();
            walk(root, root, &mut found)?;
            found
        };
        paths.retain(|path| !path.starts_with(FIXTURES));
        paths.sort();
        let files = paths
            .into_iter()
            .filter_map(|path| TreeFile::read(root, path).transpose())
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { files })
    }

    /// The file at `path`, when there is one.
    pub(crate) fn file(&self, path: &str) -> Option<&TreeFile> {
        self.files.iter().find(|file| file.path == Path::new(path))
    }

    /// The parsed sources, with their files.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&TreeFile, &Source)> {
        self.files
            .iter()
            .filter_map(|file| Some((file, file.source.as_ref()?.as_ref().ok()?)))
    }
}

impl TreeFile {
    /// Reads one file; `None` when it is tracked but gone, or no regular file.
    fn read(root: &Path, path: PathBuf) -> anyhow::Result<Option<Self>> {
        let whole = root.join(&path);
        let bytes = match fs::symlink_metadata(&whole) {
            Ok(found) if found.is_file() => found.len(),
            _ => return Ok(None),
        };
        let content = if bytes > FILE_BYTES_MAX {
            Vec::new()
        } else {
            fs::read(&whole).with_context(|| format!("{} can't be read", whole.display()))?
        };
        let text = String::from_utf8(content).unwrap_or_default();
        let source = (path.extension().is_some_and(|end| end == "rs")).then(|| parse(&text));
        Ok(Some(Self {
            path,
            bytes,
            text,
            source,
        }))
    }

    /// Whether it has this extension.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|end| end == extension)
    }

    /// Its lines, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// The first line that starts with `word`, or 1.
    pub(crate) fn line_starting(&self, word: &str) -> usize {
        self.lines()
            .find(|(_, line)| line.trim_start().starts_with(word))
            .map_or(1, |(number, _)| number)
    }
}

fn parse(text: &str) -> Result<Source, (usize, String)> {
    let tokens: TokenStream = text
        .parse()
        .map_err(|error: proc_macro2::LexError| (error.span().start().line, error.to_string()))?;
    let items =
        syn::parse_file(text).map_err(|error| (error.span().start().line, error.to_string()))?;
    Ok(Source { items, tokens })
}

/// What git tracks, and what it would with the next `git add`.
fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let output = Command::new("git")
        .args(list)
        .current_dir(root)
        .output()
        .context("git did not start")?;
    ensure!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).context("a tracked path is not UTF-8")?;
    let mut paths: Vec<PathBuf> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect();
    paths.dedup();
    Ok(paths)
}

/// Every file below `folder`.
fn walk(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let skipped = SKIPPED.iter().any(|name| path.ends_with(name));
        if path.is_dir() && !skipped {
            walk(root, &path, found)?;
        } else if path.is_file() {
            found.push(path.strip_prefix(root)?.to_owned());
        }
    }
    Ok(())
}
