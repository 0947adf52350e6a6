//! What is being downloaded, under a name of its own until it is whole: a failed `get` leaves
//! nothing behind that looks like the file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, FailureKind, OrFail};

/// Whether something that exists may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and that is an error.
    Keep,
    /// A file is replaced.
    Replace,
}

/// A file or folder under way. Removed when dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    goal: PathBuf,
    is_finished: bool,
}

impl Part {
    /// A name beside `goal` for what is to become it.
    ///
    /// # Errors
    ///
    /// Of kind usage when the goal exists and stays.
    pub(crate) fn of(goal: &Path, existing: Existing) -> Result<Self, Failure> {
        let is_folder = goal.is_dir();
        if goal.symlink_metadata().is_ok() && (existing == Existing::Keep || is_folder) {
            let failure = Failure::say(FailureKind::Usage, format!("{} exists", goal.display()));
            return Err(if is_folder {
                failure.hint("give the path of something that does not exist yet")
            } else {
                failure.hint("--force replaces it")
            });
        }
        let name = goal
            .file_name()
            .ok_or_else(|| Failure::say(FailureKind::Usage, "the path has no name"))?;
        let mut part_name = std::ffi::OsString::from(".");
        part_name.push(name);
        part_name.push(format!(".{}.cairn-part", std::process::id()));
        Ok(Self {
            path: goal.with_file_name(part_name),
            goal: goal.to_owned(),
            is_finished: false,
        })
    }

    /// Where it is until it is whole.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it as a file.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn make_file(&self) -> Result<File, Failure> {
        File::create_new(&self.path).or_fail(FailureKind::Storage, self.path.display())
    }

    /// Makes it as a folder.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn make_folder(&self) -> Result<(), Failure> {
        fs::create_dir(&self.path).or_fail(FailureKind::Storage, self.path.display())
    }

    /// It is whole: gives it its name.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        fs::rename(&self.path, &self.goal).or_fail(FailureKind::Storage, self.goal.display())?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let removed = match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&self.path),
            Ok(_) => fs::remove_file(&self.path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "left behind");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let goal = folder.path().join("goal");
        Part::of(&goal, Existing::Keep)
            .unwrap()
            .make_file()
            .unwrap();
        let tree = Part::of(&goal, Existing::Keep).unwrap();
        tree.make_folder().unwrap();
        fs::write(tree.path().join("inner"), "x").unwrap();
        drop(tree);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_exists_is_replaced_only_when_asked_and_never_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let goal = folder.path().join("goal");
        fs::write(&goal, "old").unwrap();
        let kept = Part::of(&goal, Existing::Keep).unwrap_err();
        assert!(kept.to_string().contains("--force"), "{kept}");
        let part = Part::of(&goal, Existing::Replace).unwrap();
        part.make_file().unwrap();
        part.finish().unwrap();
        assert_eq!(fs::read_to_string(&goal).unwrap(), "");
        Part::of(folder.path(), Existing::Replace).unwrap_err();
    }
}
