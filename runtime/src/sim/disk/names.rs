//! The names on one simulated disk: what is seen now, and what a loss of power leaves of it.
//!
//! Folders are durable when made. Of files, each change of a name belongs to the folders it
//! touches, and is durable once one of them is synced: a rename between two folders is one step,
//! as on file systems with a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::Mood;
use super::file::FileCell;
use crate::sim::rng::SimRng;

/// Names and what they lead to.
#[derive(Debug, Default)]
pub(super) struct Names {
    now: Tree,
    durable: Tree,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug, Default)]
struct Tree {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<FileCell>>,
}

#[derive(Debug)]
enum NameChange {
    Create {
        path: PathBuf,
        file: Arc<FileCell>,
    },
    Remove {
        path: PathBuf,
        file: Arc<FileCell>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: Arc<FileCell>,
    },
    RemoveTree {
        path: PathBuf,
        files: Vec<(PathBuf, Arc<FileCell>)>,
    },
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub(super) enum Found {
    File(Arc<FileCell>),
    Folder,
}

/// The one form of a path: from the root, without `.`.
pub(super) fn normal(path: &Path) -> io::Result<PathBuf> {
    let mut whole = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => whole.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let text = "the simulated disk knows no `..`";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
    }
    Ok(whole)
}

/// The folder of a path in normal form; the root is its own.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

impl Names {
    /// What `path` leads to.
    ///
    /// # Errors
    ///
    /// `NotFound`; `NotADirectory` when a name on the way is a file.
    pub(super) fn find(&self, path: &Path) -> io::Result<Found> {
        if let Some(file) = self.now.files.get(path) {
            return Ok(Found::File(Arc::clone(file)));
        }
        if self.now.has_folder(path) {
            return Ok(Found::Folder);
        }
        let under_file = path
            .ancestors()
            .any(|above| self.now.files.contains_key(above));
        Err(if under_file {
            io::ErrorKind::NotADirectory.into()
        } else {
            io::ErrorKind::NotFound.into()
        })
    }

    /// The file at `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::find`]; `IsADirectory` for a folder.
    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<FileCell>> {
        match self.find(path)? {
            Found::File(file) => Ok(file),
            Found::Folder => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Checks that `path` is a folder.
    ///
    /// # Errors
    ///
    /// As [`Self::find`]; `NotADirectory` for a file.
    pub(super) fn folder(&self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Found::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            Found::Folder => Ok(()),
        }
    }

    /// Puts a new file at `path`, which is free.
    ///
    /// # Errors
    ///
    /// When its folder does not exist.
    pub(super) fn create(&mut self, path: PathBuf, file: &Arc<FileCell>) -> io::Result<()> {
        self.folder(folder_of(&path))?;
        self.now.files.insert(path.clone(), Arc::clone(file));
        let file = Arc::clone(file);
        self.pending.push(NameChange::Create { path, file });
        Ok(())
    }

    /// Makes a folder and those above it, durably.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when a file is in the way.
    pub(super) fn create_folders(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| !self.now.has_folder(folder))
            .collect();
        for folder in missing.into_iter().rev() {
            if self.now.files.contains_key(folder) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.now.folders.insert(folder.to_owned());
            self.sync(folder_of(folder));
            self.durable.folders.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Renames a file; the one that it replaced, if any.
    ///
    /// # Errors
    ///
    /// As [`Self::file`] of `from`; `IsADirectory` when `to` is a folder; when the folder of `to`
    /// does not exist.
    pub(super) fn rename(
        &mut self,
        from: PathBuf,
        to: PathBuf,
    ) -> io::Result<Option<Arc<FileCell>>> {
        self.folder(folder_of(&from))?;
        self.folder(folder_of(&to))?;
        let file = self.file(&from)?;
        if from != to && from.starts_with(&to) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if self.now.has_folder(&to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from == to {
            return Ok(None);
        }
        self.now.files.remove(&from);
        let replaced = self.now.files.insert(to.clone(), Arc::clone(&file));
        self.pending.push(NameChange::Rename { from, to, file });
        Ok(replaced)
    }

    /// Removes a file's name.
    ///
    /// # Errors
    ///
    /// As [`Self::file`].
    pub(super) fn remove(&mut self, path: PathBuf) -> io::Result<Arc<FileCell>> {
        let file = self.file(&path)?;
        self.now.files.remove(&path);
        let removed = Arc::clone(&file);
        self.pending.push(NameChange::Remove { path, file });
        Ok(removed)
    }

    /// Removes a folder and all in it; the files that were.
    ///
    /// # Errors
    ///
    /// As [`Self::folder`].
    pub(super) fn remove_folders(&mut self, path: PathBuf) -> io::Result<Vec<Arc<FileCell>>> {
        self.folder(&path)?;
        let files = self.now.remove_tree(&path);
        let removed = files.iter().map(|(_, file)| Arc::clone(file)).collect();
        self.pending.push(NameChange::RemoveTree { path, files });
        Ok(removed)
    }

    /// What is directly in a folder, in order.
    pub(super) fn list(&self, path: &Path) -> Vec<(String, Found)> {
        let name = |full: &Path| {
            let name = full.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let folders = self.now.under_folders(path);
        let files = self.now.under_files(path);
        let mut entries: Vec<(String, Found)> = folders
            .filter(|full| full.parent() == Some(path))
            .map(|full| (name(full), Found::Folder))
            .chain(
                files
                    .filter(|(full, _)| full.parent() == Some(path))
                    .map(|(full, file)| (name(full), Found::File(Arc::clone(file)))),
            )
            .collect();
        entries.sort_by(|one, two| one.0.cmp(&two.0));
        entries
    }

    /// Makes the names in a folder durable, and with them what else happened to files that were
    /// renamed into or out of it: a rename is one step.
    pub(super) fn sync(&mut self, folder: &Path) {
        let renamed: Vec<Arc<FileCell>> = self
            .pending
            .iter()
            .filter(|change| change.is_in(folder))
            .filter_map(|change| match change {
                NameChange::Rename { file, .. } => Some(Arc::clone(file)),
                NameChange::Create { .. }
                | NameChange::Remove { .. }
                | NameChange::RemoveTree { .. } => None,
            })
            .collect();
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| change.is_in(folder) || change.is_about(&renamed));
        self.pending = rest;
        for change in synced {
            self.durable.apply(&change);
        }
    }

    /// Power was lost: goes back to what is durable, and as much of the rest as comes through.
    pub(super) fn lose_power(&mut self, mood: Mood, rng: &mut SimRng) {
        for change in std::mem::take(&mut self.pending) {
            match mood {
                Mood::LosesAll => {}
                Mood::KeepsAll => self.durable.apply(&change),
                Mood::Mixed => self.durable.apply_part(&change, rng),
            }
        }
        self.now = self.durable.clone();
    }

    /// All files that have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, &Arc<FileCell>)> {
        self.now.files.iter()
    }

    /// All files that have a name or may have one after a loss of power; some twice.
    pub(super) fn files_ever(&self) -> impl Iterator<Item = &Arc<FileCell>> {
        self.now.files.values().chain(self.durable.files.values())
    }
}

impl NameChange {
    /// Whether syncing `folder` makes it durable.
    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => folder_of(path) == folder,
            Self::Rename { from, to, .. } => folder_of(from) == folder || folder_of(to) == folder,
            Self::RemoveTree { path, .. } => folder_of(path) == folder,
        }
    }

    /// Whether it names or unnames one of `files`.
    fn is_about(&self, files: &[Arc<FileCell>]) -> bool {
        match self {
            Self::Create { file, .. } | Self::Remove { file, .. } | Self::Rename { file, .. } => {
                files.iter().any(|other| Arc::ptr_eq(file, other))
            }
            Self::RemoveTree { .. } => false,
        }
    }
}

impl Tree {
    fn has_folder(&self, path: &Path) -> bool {
        path == Path::new("/") || self.folders.contains(path)
    }

    fn under_folders<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.folders
            .range(path.to_owned()..)
            .take_while(move |full| full.starts_with(path))
    }

    fn under_files<'a>(
        &'a self,
        path: &'a Path,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a Arc<FileCell>)> {
        self.files
            .range(path.to_owned()..)
            .take_while(move |(full, _)| full.starts_with(path))
    }

    /// Takes a folder and all below it out; its files.
    fn remove_tree(&mut self, path: &Path) -> Vec<(PathBuf, Arc<FileCell>)> {
        let folders: Vec<PathBuf> = self.under_folders(path).cloned().collect();
        let files: Vec<(PathBuf, Arc<FileCell>)> = self
            .under_files(path)
            .map(|(full, file)| (full.clone(), Arc::clone(file)))
            .collect();
        for folder in folders {
            self.folders.remove(&folder);
        }
        for (full, _) in &files {
            self.files.remove(full);
        }
        files
    }

    fn leads_to(&self, path: &Path, file: &Arc<FileCell>) -> bool {
        self.files
            .get(path)
            .is_some_and(|found| Arc::ptr_eq(found, file))
    }

    /// Makes a change for good.
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Create { path, file } => {
                if self.has_folder(folder_of(path)) {
                    self.files.insert(path.clone(), Arc::clone(file));
                }
            }
            NameChange::Remove { path, file } => {
                if self.leads_to(path, file) {
                    self.files.remove(path);
                }
            }
            NameChange::Rename { from, to, file } => {
                if self.leads_to(from, file) {
                    self.files.remove(from);
                }
                if self.has_folder(folder_of(to)) {
                    self.files.insert(to.clone(), Arc::clone(file));
                }
            }
            NameChange::RemoveTree { path, .. } => {
                self.remove_tree(path);
            }
        }
    }

    /// Makes a change, or not, or a part of it. What builds on a change that was lost is lost.
    fn apply_part(&mut self, change: &NameChange, rng: &mut SimRng) {
        let kept = rng.below(2) == 0;
        match change {
            NameChange::Rename { from, file, .. } => {
                if kept && self.leads_to(from, file) {
                    self.apply(change);
                }
            }
            NameChange::RemoveTree { path, files } => {
                if kept {
                    self.remove_tree(path);
                    return;
                }
                for (full, file) in files {
                    if rng.below(2) == 0 && self.leads_to(full, file) {
                        self.files.remove(full);
                    }
                }
            }
            NameChange::Create { .. } | NameChange::Remove { .. } => {
                if kept {
                    self.apply(change);
                }
            }
        }
    }
}
