//! `cairn rm`: deletes what a link names from the network.

use cairn_core::ByteCount;
use serde::Serialize;

use crate::app::App;
use crate::args::LinkArgs;
use crate::failure::Failure;
use crate::get::parse_link;
use crate::output::count;
use crate::session::Session;

/// What is printed.
#[derive(Debug, Serialize)]
struct Deleted {
    segments: u64,
    bytes: u64,
}

/// Deletes it.
pub(crate) async fn run(app: &App, args: &LinkArgs) -> Result<(), Failure> {
    let link = parse_link(&args.link)?;
    let keys = app.owner()?;
    let session = Session::open(app).await?;
    let owner = session.owner(app, keys, None)?;
    let removed = owner.remove(&link).await;
    let closed = owner.close().await;
    session.close().await;
    let removed = removed?;
    closed?;
    let deleted = Deleted {
        segments: removed.segment_count,
        bytes: removed.bytes,
    };
    app.output.answer(&deleted, || {
        let bytes = ByteCount::new(deleted.bytes);
        let segments = count(deleted.segments, "segment", "segments");
        format!("deleted {segments}, {bytes}\n")
    })?;
    if deleted.segments == 0 {
        app.output.note("There was nothing left to delete.");
    }
    Ok(())
}
