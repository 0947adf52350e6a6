//! What is being downloaded, under a name of its own until it is whole: a failed `get` leaves
//! nothing behind that looks like the file.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cairn_client::UploadKind;
use cairn_runtime::Runtime;
use data_encoding::HEXLOWER;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::failure::{Failure, FailureKind, OrFail};

/// Bytes of the tag in a part's name.
const TAG_BYTES: usize = 8;

/// Whether something that exists may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and that is an error.
    Keep,
    /// A file is replaced.
    Replace,
}

/// Checks, before anything is fetched, that `goal` can be made.
///
/// # Errors
///
/// Of kind usage when it exists and stays, when it has no name, when its name is that of a folder
/// and the goal is a file, or when there is no folder to make it in.
pub(crate) fn check(goal: &Path, kind: UploadKind, existing: Existing) -> Result<(), Failure> {
    let shown = goal.display();
    let is_folder = goal.is_dir();
    if goal.symlink_metadata().is_ok() && (existing == Existing::Keep || is_folder) {
        let failure = Failure::say(FailureKind::Usage, format!("{shown} exists"));
        return Err(if is_folder || kind == UploadKind::Folder {
            failure.hint("give the path of something that does not exist yet")
        } else {
            failure.hint("--force replaces it")
        });
    }
    if goal.file_name().is_none() {
        return Err(Failure::say(
            FailureKind::Usage,
            format!("{shown} has no name to make a file of"),
        ));
    }
    let names_folder = goal.as_os_str().as_bytes().ends_with(b"/");
    let folder = match (kind, goal.parent()) {
        (UploadKind::File, _) if names_folder => goal,
        (_, Some(folder)) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if folder.is_dir() {
        return Ok(());
    }
    let text = format!("there is no folder {}", folder.display());
    Err(Failure::say(FailureKind::Usage, text).hint(format!("mkdir -p {}", folder.display())))
}

/// A file or folder under way. Removed when dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    goal: PathBuf,
    existing: Existing,
    is_finished: bool,
}

impl Part {
    /// A name beside `goal` for what is to become it. It is short, whatever the goal's own name,
    /// and drawn, so that what a killed process left behind is not in the way.
    ///
    /// # Errors
    ///
    /// As [`check`].
    pub(crate) fn of(
        runtime: &impl Runtime,
        goal: &Path,
        kind: UploadKind,
        existing: Existing,
    ) -> Result<Self, Failure> {
        check(goal, kind, existing)?;
        let mut tag = [0; TAG_BYTES];
        runtime.fill(&mut tag);
        let name = format!(".{}.cairn-part", HEXLOWER.encode(&tag));
        Ok(Self {
            path: goal.with_file_name(name),
            goal: goal.to_owned(),
            existing,
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
        File::create_new(&self.path).or_fail(FailureKind::Storage, self.cant_be_made())
    }

    /// Makes it as a folder.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn make_folder(&self) -> Result<(), Failure> {
        fs::create_dir(&self.path).or_fail(FailureKind::Storage, self.cant_be_made())
    }

    /// Says it by the name that was typed.
    fn cant_be_made(&self) -> String {
        format!("{} can't be made", self.goal.display())
    }

    /// It is whole: gives it its name. What came to have that name meanwhile stays unless it may
    /// be replaced.
    ///
    /// # Errors
    ///
    /// Of kind storage.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let renamed = match self.existing {
            Existing::Replace => fs::rename(&self.path, &self.goal),
            Existing::Keep => rename_new(&self.path, &self.goal),
        };
        renamed.or_fail(FailureKind::Storage, self.goal.display())?;
        self.is_finished = true;
        Ok(())
    }
}

/// Renames to a name that nothing has. Where the file system can't check that in one step, it is
/// checked before.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        renamed => renamed.map_err(io::Error::from),
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
    use cairn_runtime::real::RealRuntime;

    use super::*;

    /// A part of `goal`, as a file where `kind` is one.
    fn part(goal: &Path, kind: UploadKind, existing: Existing) -> Result<Part, Failure> {
        let goal = goal.to_owned();
        let made = RealRuntime::run(|runtime| async move {
            let part = Part::of(&runtime, &goal, kind, existing)?;
            match kind {
                UploadKind::File => part.make_file().map(drop)?,
                UploadKind::Folder => part.make_folder()?,
            }
            Ok(part)
        });
        made.unwrap()
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let goal = folder.path().join("goal");
        drop(part(&goal, UploadKind::File, Existing::Keep).unwrap());
        let tree = part(&goal, UploadKind::Folder, Existing::Keep).unwrap();
        fs::write(tree.path().join("inner"), "x").unwrap();
        drop(tree);
        assert_eq!(count(folder.path()), 0);
    }

    #[test]
    fn what_exists_is_replaced_only_when_asked_and_never_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let goal = folder.path().join("goal");
        fs::write(&goal, "old").unwrap();
        let kept = part(&goal, UploadKind::File, Existing::Keep).unwrap_err();
        assert!(kept.to_string().contains("--force"), "{kept}");
        let fresh = part(&goal, UploadKind::File, Existing::Replace).unwrap();
        fresh.finish().unwrap();
        assert_eq!(fs::read_to_string(&goal).unwrap(), "");
        part(folder.path(), UploadKind::File, Existing::Replace).unwrap_err();
    }

    #[test]
    fn what_came_to_exist_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let goal = folder.path().join("goal");
        for kind in [UploadKind::File, UploadKind::Folder] {
            let late = part(&goal, kind, Existing::Keep).unwrap();
            fs::write(&goal, "someone's").unwrap();
            assert_eq!(late.finish().unwrap_err().kind(), FailureKind::Storage);
            assert_eq!(fs::read_to_string(&goal).unwrap(), "someone's");
            fs::remove_file(&goal).unwrap();
        }
        assert_eq!(count(folder.path()), 0);
    }

    #[test]
    fn a_name_may_be_as_long_as_the_file_system_takes() {
        let folder = tempfile::tempdir().unwrap();
        let goal = folder.path().join("n".repeat(255));
        part(&goal, UploadKind::File, Existing::Keep)
            .unwrap()
            .finish()
            .unwrap();
        assert!(goal.exists());
    }

    #[test]
    fn where_nothing_can_be_made_is_usage() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            ("none/goal", UploadKind::File),
            ("none/goal", UploadKind::Folder),
            ("none/", UploadKind::File),
            ("none/..", UploadKind::Folder),
        ];
        for (goal, kind) in cases {
            let error = part(&folder.path().join(goal), kind, Existing::Keep).unwrap_err();
            assert_eq!(error.kind(), FailureKind::Usage, "{goal}");
        }
        let tree = folder.path().join("tree/");
        let made = part(&tree, UploadKind::Folder, Existing::Keep).unwrap();
        made.finish().unwrap();
        assert!(tree.is_dir());
    }
}
