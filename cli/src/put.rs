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
use crate::session::{NetOwner, Session};
use crate::walk::{self, Walk};

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
}

/// Stores the path.
pub(crate) async fn run(app: &App, args: &PutArgs) -> Result<(), Failure> {
    let path = &args.path;
    if path.as_os_str() == "-" {
        let name = EntryPath::new("stdin").or_fail(FailureKind::Usage, "the name of the stream")?;
        let meta = EntryMeta {
            path: name,
            kind: EntryMetaKind::File,
            mode: STREAM_MODE,
            modified_ms: now_ms(app),
        };
        let source = reader_source(meta, io::stdin());
        return put(app, args, source, None, None).await;
    }
    let shown = path.display();
    let found = fs::metadata(path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FailureKind::NotSo,
            _ => FailureKind::Storage,
        };
        Failure::new(kind, error).while_doing(format!("{shown} can't be read"))
    })?;
    let id = source_id(path)?;
    if found.is_dir() {
        if !args.recursive {
            return Err(
                Failure::say(FailureKind::Usage, format!("{shown} is a folder"))
                    .hint(format!("cairn put --recursive {shown}")),
            );
        }
        let walk = Walk::new(path).or_fail(FailureKind::Storage, shown)?;
        return put(app, args, TreeSource::new(walk), Some(id), None).await;
    }
    let file = File::open(path).or_fail(FailureKind::Storage, format!("{shown} can't be read"))?;
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or(b"file");
    let meta = walk::meta(name, EntryMetaKind::File, &found).or_fail(FailureKind::Usage, shown)?;
    // A pipe or a device can't be read again, so there is nothing to resume.
    let id = found.is_file().then_some(id);
    put(app, args, reader_source(meta, file), id, Some(found.len())).await
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

async fn put<S: Source>(
    app: &App,
    args: &PutArgs,
    source: S,
    id: Option<Digest>,
    bytes: Option<u64>,
) -> Result<(), Failure> {
    let keys = app.owner()?;
    let session = Session::open(app).await?;
    let owner = session.owner(app, keys, args.profile)?;
    let uploaded = upload(app, &owner, source, id, bytes).await;
    let closed = owner.close().await;
    session.close().await;
    let uploaded = uploaded?;
    closed.map_err(Failure::from)?;
    report(app, &uploaded)
}

async fn upload<S: Source>(
    app: &App,
    owner: &NetOwner,
    source: S,
    id: Option<Digest>,
    bytes: Option<u64>,
) -> Result<Uploaded, Failure> {
    let line = app.output.progress("put", bytes);
    let output = app.output;
    let mut said = false;
    let progress = move |progress: &UploadProgress| {
        line.at(progress.bytes_durable);
        if progress.segments_kept > 0 && !said {
            said = true;
            output.note("An interrupted put of this goes on where it stopped.");
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
            Some(_) => failure.hint("the same command again goes on where this one stopped"),
            None => failure,
        }
    })
}

fn report(app: &App, uploaded: &Uploaded) -> Result<(), Failure> {
    let progress = &uploaded.progress;
    let stored = Stored {
        link: uploaded.link.to_string(),
        bytes: progress.bytes_read,
        segments: progress.segments_durable,
        segments_kept: progress.segments_kept,
        shards_left: uploaded.slots.iter().map(|slot| slot.left_count).sum(),
    };
    app.output
        .answer(&stored, || format!("{}\n", stored.link))?;
    let kept = match stored.segments_kept {
        0 => String::new(),
        count => format!(", {count} of them before the interruption"),
    };
    let (bytes, segments) = (ByteCount::new(stored.bytes), stored.segments);
    app.output
        .note(&format!("Stored {bytes} in {segments} segments{kept}."));
    if stored.shards_left > 0 {
        let left = stored.shards_left;
        app.output.note(&format!(
            "{left} shards are durable elsewhere and left for slow nodes to catch up with."
        ));
    }
    Ok(())
}
