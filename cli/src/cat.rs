//! `cairn cat`: writes a file, or a range of it, to standard output.

use cairn_core::ByteCount;

use crate::app::App;
use crate::args::CatArgs;
use crate::failure::{Failure, FailureKind};
use crate::get::parse_link;
use crate::range::ByteRange;
use crate::session::Session;
use crate::sink::{Sink, Target};

/// Writes the range.
pub(crate) async fn run(app: &App, args: &CatArgs) -> Result<(), Failure> {
    let link = parse_link(&args.link)?;
    let session = Session::open(app).await?;
    let done = write(app, args, &session, &link).await;
    session.close().await;
    done
}

async fn write(
    app: &App,
    args: &CatArgs,
    session: &Session,
    link: &cairn_client::link::Link,
) -> Result<(), Failure> {
    let opened = session.client.open(link).await?;
    let file = opened.only_file().ok_or_else(|| {
        Failure::say(FailureKind::Usage, "the link is of a folder").hint("cairn get LINK PATH")
    })?;
    let bytes = file.bytes();
    let range = args
        .range
        .unwrap_or(ByteRange::ALL)
        .within(bytes)
        .ok_or_else(|| {
            let text = format!(
                "expected a range within {bytes} bytes ({})",
                ByteCount::new(bytes)
            );
            Failure::say(FailureKind::NotSo, text)
        })?;
    let mut stream = file.stream(range.start, range.end.saturating_sub(range.start))?;
    let mut sink = Sink::new(&app.runtime, Target::Output);
    while let Some(bytes) = stream.next().await? {
        sink.write(bytes).await?;
    }
    sink.finish().await.map(drop)
}
