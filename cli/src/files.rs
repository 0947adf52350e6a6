//! Small files of the user's own: keys, settings, addresses. Written whole, in one step, and
//! readable by the user alone where they are secret.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cairn_runtime::DiskError;

use crate::failure::{Failure, FailureKind, OrFail};

/// Largest small file that is read: far above any that we write.
const BYTES_MAX: u64 = 1 << 20;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The user alone.
    Private,
    /// Whoever the user's umask allows.
    Shared,
}

impl Access {
    const fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Shared => 0o644,
        }
    }
}

/// Replaces a file by `content` in one step: after a crash it is the old or the new.
///
/// # Errors
///
/// Of kind storage.
pub(crate) fn write(path: &Path, access: Access, content: &[u8]) -> Result<(), Failure> {
    let fresh = beside(path, ".new");
    let done = write_synced(&fresh, access, content).and_then(|()| fs::rename(&fresh, path));
    done.and_then(|()| sync_folder(path)).or_fail(
        FailureKind::Storage,
        format!("{} can't be written", path.display()),
    )
}

/// Makes a file that does not exist yet, in one step; `false` when it exists.
///
/// # Errors
///
/// Of kind storage.
pub(crate) fn create(path: &Path, access: Access, content: &[u8]) -> Result<bool, Failure> {
    let fresh = beside(path, ".new");
    let done = write_synced(&fresh, access, content).and_then(|()| {
        let linked = fs::hard_link(&fresh, path);
        fs::remove_file(&fresh)?;
        match linked {
            Ok(()) => sync_folder(path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    });
    done.or_fail(
        FailureKind::Storage,
        format!("{} can't be written", path.display()),
    )
}

/// Makes a file that must not exist yet, in one step.
///
/// # Errors
///
/// Of kind usage when it exists, storage when it can't be written.
pub(crate) fn create_new(path: &Path, access: Access, content: &[u8]) -> Result<(), Failure> {
    if create(path, access, content)? {
        return Ok(());
    }
    let text = format!("{} is there already", path.display());
    Err(Failure::say(FailureKind::Usage, text))
}

fn write_synced(path: &Path, access: Access, content: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(access.mode())
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    File::open(named(parent))?.sync_all()
}

/// The folder of a bare name is the current one.
fn named(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The text of a file; `None` when there is none.
///
/// # Errors
///
/// Of kind storage when it can't be read, usage when it is too large or no text.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Failure> {
    read_up_to(path, BYTES_MAX)
}

/// The text of a file of at most `bytes_max`; `None` when there is none.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_up_to(path: &Path, bytes_max: u64) -> Result<Option<String>, Failure> {
    let shown = path.display();
    let bytes = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).or_fail(FailureKind::Storage, format!("{shown}")),
    };
    if bytes > bytes_max {
        let text = format!("{shown}: expected at most {bytes_max} bytes, found {bytes}");
        return Err(Failure::say(FailureKind::Usage, text));
    }
    let content = fs::read(path).or_fail(FailureKind::Storage, format!("{shown} can't be read"))?;
    String::from_utf8(content)
        .map(Some)
        .or_fail(FailureKind::Usage, format!("{shown} is not a text file"))
}

/// Why a folder's lock can't be had: another process has it, as `taken` says, or the disk's fault.
pub(crate) fn lock_failure(error: DiskError, taken: String) -> Failure {
    if error.source.kind() == ErrorKind::WouldBlock {
        return Failure::say(FailureKind::Usage, taken);
    }
    Failure::new(FailureKind::Storage, error)
        .hint("the folder must be one that this user may write to")
}

/// Makes a folder that the user alone may enter, and those above it.
///
/// # Errors
///
/// Of kind storage.
pub(crate) fn make_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .or_fail(
            FailureKind::Storage,
            format!("{} can't be made", path.display()),
        )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_the_users_alone_and_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, Access::Private, b"one").unwrap();
        write(&path, Access::Private, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), "two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(create(&path, Access::Private, b"one").unwrap());
        assert!(!create(&path, Access::Private, b"two").unwrap());
        assert_eq!(read(&path).unwrap().unwrap(), "one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bare_name_is_in_the_current_folder() {
        for path in ["bare", "./bare", "/bare", "/"] {
            sync_folder(Path::new(path)).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_none_and_a_large_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("none")).unwrap(), None);
        let large = folder.path().join("large");
        let file = File::create(&large).unwrap();
        file.set_len(BYTES_MAX + 1).unwrap();
        assert_eq!(read(&large).unwrap_err().kind(), FailureKind::Usage);
        file.set_len(BYTES_MAX).unwrap();
        assert!(read(&large).unwrap().is_some());
    }
}
