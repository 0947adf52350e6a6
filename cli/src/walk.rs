//! A folder of this machine as a tree to upload: sorted, parents first, nothing followed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cairn_client::index::{EntryPath, UploadKind};
use cairn_client::upload::{EntryMeta, EntryMetaKind, SourceError, Tree, TreeEntry};
use cairn_core::Bounded;

use crate::watched_file::{Oddities, WatchedFile};

/// Permission bits of a mode.
const MODE_BITS: u32 = 0o7777;

/// What is in one folder and still to come.
#[derive(Debug)]
struct Level {
    folder: PathBuf,
    /// Path below the root, empty for the root itself.
    prefix: Vec<u8>,
    names: BTreeSet<OsString>,
}

/// A walk over a folder. What is neither file, folder nor symbolic link is left out and noted.
#[derive(Debug)]
pub(crate) struct Walk {
    levels: Vec<Level>,
    oddities: Oddities,
}

impl Walk {
    /// A walk over what is in `folder`, which is not an entry itself.
    pub(crate) fn new(folder: &Path, oddities: Oddities) -> io::Result<Self> {
        let root = Level::read(folder.to_owned(), Vec::new())?;
        Ok(Self {
            levels: vec![root],
            oddities,
        })
    }

    /// The next entry; `None` for what is left out.
    fn visit(
        &mut self,
        folder: &Path,
        path: &[u8],
        name: &OsString,
    ) -> io::Result<Option<TreeEntry<WatchedFile>>> {
        let whole = folder.join(name);
        let found = fs::symlink_metadata(&whole)?;
        let kind = found.file_type();
        let (kind, reader) = if kind.is_dir() {
            self.levels.push(Level::read(whole, path.to_vec())?);
            (EntryMetaKind::Directory, None)
        } else if kind.is_symlink() {
            let target = fs::read_link(&whole)?.into_os_string().into_vec();
            let target = Bounded::new(target).map_err(io::Error::other)?;
            (EntryMetaKind::Symlink(target), None)
        } else if kind.is_file() {
            let file = WatchedFile::new(File::open(&whole)?, &whole, self.oddities.clone())?;
            (EntryMetaKind::File, Some(file))
        } else {
            self.oddities.left_out(&whole);
            return Ok(None);
        };
        let meta = meta(path, kind, &found)?;
        Ok(Some(TreeEntry { meta, reader }))
    }
}

impl Level {
    fn read(folder: PathBuf, prefix: Vec<u8>) -> io::Result<Self> {
        let names = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name()));
        Ok(Self {
            names: names.collect::<io::Result<_>>()?,
            folder,
            prefix,
        })
    }
}

/// What is said of a file before its content is read.
pub(crate) fn meta(path: &[u8], kind: EntryMetaKind, found: &Metadata) -> io::Result<EntryMeta> {
    let modified_ms = found
        .mtime()
        .saturating_mul(1000)
        .saturating_add(found.mtime_nsec() / 1_000_000);
    Ok(EntryMeta {
        path: EntryPath::new(path).map_err(io::Error::other)?,
        kind,
        mode: found.mode() & MODE_BITS,
        modified_ms,
    })
}

impl Tree for Walk {
    type Reader = WatchedFile;

    fn next(&mut self) -> Result<Option<TreeEntry<WatchedFile>>, SourceError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.pop_first() else {
                self.levels.pop();
                continue;
            };
            let mut path = level.prefix.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            let folder = level.folder.clone();
            let visited = self.visit(&folder, &path, &name);
            let found = visited.map_err(|source| SourceError {
                path: EntryPath::new(path).ok(),
                source,
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn kind(&self) -> UploadKind {
        UploadKind::Folder
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_walk_is_sorted_has_parents_first_and_follows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/inner")).unwrap();
        fs::write(root.join("b/inner/x"), "x").unwrap();
        fs::write(root.join("a"), "a").unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        let mut walk = Walk::new(root, Oddities::default()).unwrap();
        let mut found = Vec::new();
        while let Some(TreeEntry { meta, reader }) = walk.next().unwrap() {
            let is_file = meta.kind == EntryMetaKind::File;
            assert_eq!(is_file, reader.is_some());
            found.push(String::from_utf8(meta.path.as_bytes().to_vec()).unwrap());
        }
        assert_eq!(found, ["a", "b", "b/inner", "b/inner/x", "empty", "link"]);
    }

    #[test]
    fn what_is_left_out_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let oddities = Oddities::default();
        let mut walk = Walk::new(folder.path(), oddities.clone()).unwrap();
        assert!(walk.next().unwrap().is_none());
        let left_out = oddities.found().left_out;
        assert_eq!((left_out.count, left_out.first), (1, Some(socket)));
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gone"), "").unwrap();
        let mut walk = Walk::new(folder.path(), Oddities::default()).unwrap();
        fs::remove_file(folder.path().join("gone")).unwrap();
        let error = walk.next().unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
