//! `cairn put`: stores a file, a folder or standard input, and prints its link.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cairn_client::index::EntryPath;
use cairn_client::upload::{
    EntryMeta, EntryMetaKind, ReviseAt, Source, TreeSource, UploadOptions, UploadProgress,
    Uploaded, reader_source,
};
use cairn_core::{ByteCount, Digest, UnixMillis};
use cairn_runtime::Runtime;
use serde::Serialize;

use crate::app::App;
use crate::args::PutArgs;
use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::count;
use crate::session::{NetOwner, Session};
use crate::walk::{self, Walk};
use crate::watched_file::{Found, Oddities, Oddity, WatchedFile};

/// Domain of the digest that names a source, so that an interrupted upload of it goes on.
const SOURCE_CONTEXT: &str = "cairn 1 upload source path";
/// Permission bits of what comes from standard input.
const STREAM_MODE: u32 = 0o644;

/// What is printed.
#[derive(Debug, Serialize)]
struct Stored {
    link: String,
    bytes: u64,
    segments: u64,
    /// Segments that an earlier, interrupted put had stored.
    segments_kept: u64,
    /// Shards that slow or absent nodes are left to catch up with.
    shards_left: u64,
    /// Entries of a folder that are neither file, folder nor symbolic link.
    entries_left_out: u64,
    /// Files that were written to while they were read.
    files_changed: u64,
}

/// What is stored.
struct Job<S> {
    source: S,
    /// Names the source when it can be read again.
    id: Option<Digest>,
    /// Its size, where that is known.
    bytes: Option<u64>,
    /// What the source notes while it is read.
    oddities: Oddities,
}

/// Stores the path.
pub(crate) async fn run(app: &App, args: &PutArgs) -> Result<(), Failure> {
    let path = &args.path;
    let oddities = Oddities::default();
    if path.as_os_str() == "-" {
        let name = EntryPath::new("stdin").or_fail(FailureKind::Usage, "the name of the stream")?;
        let meta = EntryMeta {
            path: name,
            kind: EntryMetaKind::File,
            mode: STREAM_MODE,
            modified_ms: now_ms(app),
        };
        let job = Job {
            source: reader_source(meta, io::stdin()),
            id: None,
            bytes: None,
            oddities,
        };
        return put(app, args, job).await;
    }
    let shown = path.display();
    let found = fs::metadata(path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FailureKind::NotSo,
            _ => FailureKind::Storage,
        };
        Failure::new(kind, error).while_doing(format!("{shown} can't be read"))
    })?;
    if found.is_dir() {
        if !args.recursive {
            return Err(
                Failure::say(FailureKind::Usage, format!("{shown} is a folder"))
                    .hint(format!("cairn put --recursive {shown}")),
            );
        }
        let walk = Walk::new(path, oddities.clone()).or_fail(FailureKind::Storage, shown)?;
        let job = Job {
            source: TreeSource::new(walk),
            id: Some(source_id(path)?),
            bytes: None,
            oddities,
        };
        return put(app, args, job).await;
    }
    let file = open(app, path, oddities.clone()).await?;
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or(b"file");
    let meta = walk::meta(name, EntryMetaKind::File, &found).or_fail(FailureKind::Usage, shown)?;
    // A pipe or a device can't be read again, so there is nothing to resume.
    let is_file = found.is_file();
    let job = Job {
        source: reader_source(meta, file),
        id: is_file.then(|| source_id(path)).transpose()?,
        bytes: is_file.then_some(found.len()),
        oddities,
    };
    put(app, args, job).await
}

/// Opens the file. A pipe opens when something writes to it, which may never be.
async fn open(app: &App, path: &Path, oddities: Oddities) -> Result<WatchedFile, Failure> {
    let place = path.to_owned();
    let opened = app
        .runtime
        .blocking(move || WatchedFile::new(File::open(&place)?, &place, oddities))
        .await;
    opened.or_fail(
        FailureKind::Storage,
        format!("{} can't be read", path.display()),
    )
}

/// The same path is the same source, whatever the current folder.
fn source_id(path: &Path) -> Result<Digest, Failure> {
    let whole = fs::canonicalize(path).or_fail(FailureKind::Storage, path.display())?;
    Ok(Digest::keyed(SOURCE_CONTEXT, whole.as_os_str().as_bytes()))
}

fn now_ms(app: &App) -> i64 {
    let now = UnixMillis::from_unix(app.runtime.now());
    i64::try_from(now.get()).unwrap_or(i64::MAX)
}

async fn put<S: Source>(app: &App, args: &PutArgs, job: Job<S>) -> Result<(), Failure> {
    let keys = app.owner()?;
    let session = Session::open(app).await?;
    let owner = session.owner(app, keys, args.profile)?;
    let oddities = job.oddities.clone();
    let uploaded = upload(app, &owner, job).await;
    let closed = owner.close().await;
    session.close().await;
    let uploaded = uploaded?;
    closed.map_err(Failure::from)?;
    report(app, &uploaded, &oddities.found())
}

async fn upload<S: Source>(app: &App, owner: &NetOwner, job: Job<S>) -> Result<Uploaded, Failure> {
    let Job {
        source, id, bytes, ..
    } = job;
    let line = app.output.progress("put", bytes);
    let output = app.output;
    let mut said = false;
    let progress = move |progress: &UploadProgress| {
        line.at(progress.bytes_durable);
        if progress.segments_kept > 0 && !said {
            said = true;
            line.note(
                output,
                "An interrupted put of this goes on where it stopped.",
            );
        }
    };
    let options = UploadOptions {
        source: id,
        revise: ReviseAt::End,
    };
    let uploaded = owner.upload(source, options, progress).await;
    uploaded.map_err(|error| {
        let failure = Failure::from(error);
        match id {
            Some(_) => {
                failure.hint_otherwise("the same command again goes on where this one stopped")
            }
            None => failure,
        }
    })
}

fn report(app: &App, uploaded: &Uploaded, odd: &Found) -> Result<(), Failure> {
    let progress = &uploaded.progress;
    let stored = Stored {
        link: uploaded.link.to_string(),
        bytes: progress.bytes_read,
        segments: progress.segments_durable,
        segments_kept: progress.segments_kept,
        shards_left: uploaded.slots.iter().map(|slot| slot.left_count).sum(),
        entries_left_out: odd.left_out.count,
        files_changed: odd.changed.count,
    };
    app.output
        .answer(&stored, || format!("{}\n", stored.link))?;
    let kept = match stored.segments_kept {
        0 => String::new(),
        count => format!(", {count} of them before the interruption"),
    };
    let bytes = ByteCount::new(stored.bytes);
    let segments = count(stored.segments, "segment", "segments");
    app.output
        .note(&format!("Stored {bytes} in {segments}{kept}."));
    if stored.shards_left > 0 {
        let left = count(stored.shards_left, "shard is", "shards are");
        app.output.note(&format!(
            "{left} left for slow or absent nodes to catch up with; the segments are durable without."
        ));
    }
    say_odd(
        app,
        &odd.left_out,
        "left out, being neither file, folder nor symbolic link",
    );
    say_odd(
        app,
        &odd.changed,
        "written to while being read, so what is stored may be a mixture",
    );
    Ok(())
}

fn say_odd(app: &App, odd: &Oddity, how: &str) {
    let Some(first) = &odd.first else {
        return;
    };
    let more = match odd.count.saturating_sub(1) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    app.output
        .note(&format!("Warning: {}{more}: {how}.", first.display()));
}
