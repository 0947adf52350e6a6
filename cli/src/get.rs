//! `cairn get`: fetches what a link names into a file or folder, or to standard output.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cairn_client::index::{Entry, EntryKind, EntryPath, UploadKind};
use cairn_client::link::Link;
use cairn_client::read::TreeItem;
use cairn_core::ByteCount;
use serde::Serialize;

use crate::app::App;
use crate::args::GetArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::Progress;
use crate::part::{self, Existing, Part};
use crate::session::{NetFile, NetOpened, Session};
use crate::sink::{Sink, Target};

/// Permission bits that a download may set: not those that change who runs a program.
const MODE_BITS: u32 = 0o777;

/// What is printed.
#[derive(Debug, Serialize)]
struct Fetched {
    path: String,
    bytes: u64,
    entries: usize,
}

/// The link that was typed.
///
/// # Errors
///
/// Of kind usage when it is none.
pub(crate) fn parse_link(text: &str) -> Result<Link, Failure> {
    text.parse().or_fail(FailureKind::Usage, "this is no link")
}

/// Fetches the link.
pub(crate) async fn run(app: &App, args: &GetArgs) -> Result<(), Failure> {
    let link = parse_link(&args.link)?;
    if let Some(path) = goal(args) {
        // What can be known before anything is fetched: into a folder that exists, a file of the
        // upload's own name may be put.
        let kind = if path.as_os_str().as_bytes().ends_with(b"/") {
            UploadKind::Folder
        } else {
            UploadKind::File
        };
        if !path.is_dir() {
            part::check(path, kind, existing(args))?;
        }
    }
    let session = Session::open(app).await?;
    let done = fetch(app, args, &session, &link).await;
    session.close().await;
    done
}

/// Where to; `None` for standard output.
fn goal(args: &GetArgs) -> Option<&Path> {
    args.path.as_deref().filter(|path| path.as_os_str() != "-")
}

const fn existing(args: &GetArgs) -> Existing {
    if args.force {
        Existing::Replace
    } else {
        Existing::Keep
    }
}

async fn fetch(app: &App, args: &GetArgs, session: &Session, link: &Link) -> Result<(), Failure> {
    let opened = session.client.open(link).await?;
    match (opened.index().kind, goal(args)) {
        (UploadKind::File, None) => {
            let (file, _) = only_file(&opened)?;
            let sink = Sink::new(&app.runtime, Target::Output);
            let progress = app.output.progress("get", Some(file.bytes()));
            copy(&file, sink, &progress).await.map(drop)
        }
        (UploadKind::File, Some(path)) => get_file(app, &opened, path, existing(args)).await,
        (UploadKind::Folder, Some(path)) => get_folder(app, &opened, path).await,
        (UploadKind::Folder, None) => {
            let text = "the link is of a folder, which standard output can't hold";
            Err(Failure::say(FailureKind::Usage, text).hint("cairn get LINK PATH"))
        }
    }
}

/// The file of a link to one file, and its entry.
fn only_file(opened: &NetOpened) -> Result<(NetFile, &Entry), Failure> {
    let entry = opened.index().entries.first();
    opened
        .only_file()
        .zip(entry)
        .ok_or_else(|| Failure::say(FailureKind::NotSo, "the link has no file"))
}

/// Writes the whole file into the sink.
async fn copy(file: &NetFile, mut sink: Sink, progress: &Progress) -> Result<Target, Failure> {
    let mut stream = file.stream(0, file.bytes())?;
    while let Some(bytes) = stream.next().await? {
        sink.write(bytes).await?;
        progress.at(file.bytes().saturating_sub(stream.left()));
    }
    sink.finish().await
}

async fn get_file(
    app: &App,
    opened: &NetOpened,
    path: &Path,
    existing: Existing,
) -> Result<(), Failure> {
    let (file, entry) = only_file(opened)?;
    let goal = if path.is_dir() {
        path.join(below(&entry.path))
    } else {
        path.to_owned()
    };
    let part = Part::of(&app.runtime, &goal, UploadKind::File, existing)?;
    let sink = Sink::new(&app.runtime, Target::File(part.make_file()?));
    let progress = app.output.progress("get", Some(file.bytes()));
    let target = copy(&file, sink, &progress).await?;
    drop(progress);
    if let Target::File(made) = target {
        dress(&made, entry).or_fail(FailureKind::Storage, goal.display())?;
    }
    part.finish()?;
    report(app, &goal, file.bytes(), 1)
}

async fn get_folder(app: &App, opened: &NetOpened, path: &Path) -> Result<(), Failure> {
    let part = Part::of(&app.runtime, path, UploadKind::Folder, Existing::Keep)?;
    part.make_folder()?;
    let index = opened.index();
    let progress = app.output.progress("get", Some(index.bytes()));
    let mut fetched: u64 = 0;
    let mut tree = opened.tree();
    let mut open: Option<(Sink, Entry)> = None;
    while let Some(item) = tree.next().await? {
        match item {
            TreeItem::Bytes(bytes) => {
                fetched = fetched.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
                progress.at(fetched);
                if let Some((sink, _)) = &mut open {
                    sink.write(bytes).await?;
                }
            }
            TreeItem::Entry(entry) => {
                finish_file(open.take()).await?;
                open = make(app, part.path(), entry)?;
            }
        }
    }
    finish_file(open.take()).await?;
    dress_folders(part.path(), &index.entries)?;
    drop(progress);
    part.finish()?;
    report(app, path, fetched, index.entries.len())
}

/// Makes an entry; a file is given back open. Folders come first and symbolic links last, so that
/// nothing is written through a link of the same upload.
fn make(app: &App, root: &Path, entry: Entry) -> Result<Option<(Sink, Entry)>, Failure> {
    let path = root.join(below(&entry.path));
    let made = match &entry.kind {
        EntryKind::Directory => fs::create_dir(&path).map(|()| None),
        EntryKind::File { .. } => File::create_new(&path).map(Some),
        EntryKind::Symlink { target } => {
            symlink(std::ffi::OsStr::from_bytes(target), &path).map(|()| None)
        }
    };
    let file = made.or_fail(FailureKind::Storage, entry.path.to_string())?;
    Ok(file.map(|file| (Sink::new(&app.runtime, Target::File(file)), entry)))
}

async fn finish_file(open: Option<(Sink, Entry)>) -> Result<(), Failure> {
    let Some((sink, entry)) = open else {
        return Ok(());
    };
    if let Target::File(file) = sink.finish().await? {
        dress(&file, &entry).or_fail(FailureKind::Storage, entry.path.to_string())?;
    }
    Ok(())
}

/// Gives a file its permissions and time.
fn dress(file: &File, entry: &Entry) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(entry.mode & MODE_BITS))?;
    file.set_times(FileTimes::new().set_modified(time(entry.modified_ms)))
}

/// Gives folders theirs, the innermost first: making what is in them changed their times, and one
/// that may not be written to could not have been filled.
fn dress_folders(root: &Path, entries: &[Entry]) -> Result<(), Failure> {
    let folders = entries
        .iter()
        .rev()
        .filter(|entry| entry.kind == EntryKind::Directory);
    for entry in folders {
        let path = root.join(below(&entry.path));
        File::open(&path)
            .and_then(|folder| dress(&folder, entry))
            .or_fail(FailureKind::Storage, entry.path.to_string())?;
    }
    Ok(())
}

/// A time of milliseconds since 1970, or before.
fn time(modified_ms: i64) -> SystemTime {
    let distance = Duration::from_millis(modified_ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if modified_ms < 0 {
        epoch.checked_sub(distance)
    } else {
        epoch.checked_add(distance)
    };
    time.unwrap_or(epoch)
}

/// An entry's path below its root: plain components only, as the type says.
fn below(path: &EntryPath) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

fn report(app: &App, path: &Path, bytes: u64, entries: usize) -> Result<(), Failure> {
    let fetched = Fetched {
        path: path.display().to_string(),
        bytes,
        entries,
    };
    app.output.answer(&fetched, || {
        format!("{} {}\n", fetched.path, ByteCount::new(fetched.bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_entry_on_either_side_of_1970() {
        let second = Duration::from_secs(1);
        assert_eq!(time(1_000), SystemTime::UNIX_EPOCH + second);
        assert_eq!(time(-1_000), SystemTime::UNIX_EPOCH - second);
        // Beyond what the system can say, any time will do.
        time(i64::MIN);
    }

    #[test]
    fn what_is_no_link_is_usage() {
        assert_eq!(
            parse_link("cairn:nonsense").unwrap_err().kind(),
            FailureKind::Usage
        );
    }
}
