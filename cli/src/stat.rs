//! `cairn stat`: how a link's data stands.

use std::fmt::Write;

use cairn_client::UploadKind;
use cairn_client::stat::{Contents, GroupStat, SlotHealth, SlotStat, Stat};
use cairn_core::ByteCount;
use serde::Serialize;

use crate::app::App;
use crate::args::LinkArgs;
use crate::failure::Failure;
use crate::get::parse_link;
use crate::session::Session;

/// What is printed.
#[derive(Debug, Serialize)]
struct Standing {
    /// None while the list of files can't be read.
    contents: Option<ContentsStanding>,
    nodes: usize,
    expires_at_ms: u64,
    /// Whether every slot of every group has everything.
    complete: bool,
    groups: Vec<GroupStanding>,
}

/// What the link holds.
#[derive(Debug, Serialize)]
struct ContentsStanding {
    kind: &'static str,
    bytes: u64,
    entries: usize,
    segments: usize,
}

/// One group.
#[derive(Debug, Serialize)]
struct GroupStanding {
    group: String,
    code: String,
    revision: Option<u64>,
    segments: usize,
    slots_healthy: usize,
    slots_needed: u8,
    slots: Vec<SlotStanding>,
}

/// One slot.
#[derive(Debug, Serialize)]
struct SlotStanding {
    slot: u8,
    node: Option<String>,
    state: &'static str,
    shards: Option<u32>,
    lacking: Option<u32>,
    cause: Option<String>,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: &LinkArgs) -> Result<(), Failure> {
    let link = parse_link(&args.link)?;
    let session = Session::open(app).await?;
    let stat = session.client.stat(&link).await;
    session.close().await;
    let standing = standing(&stat?);
    app.output.answer(&standing, || text(&standing))
}

fn standing(stat: &Stat) -> Standing {
    let whole = |group: &GroupStat| group.healthy_count() == group.slots.len();
    Standing {
        contents: stat.contents.as_ref().ok().map(contents_standing),
        nodes: stat.node_count,
        expires_at_ms: stat.expires_at.get(),
        complete: !stat.groups.is_empty() && stat.groups.iter().all(whole),
        groups: stat.groups.iter().map(group_standing).collect(),
    }
}

const fn contents_standing(contents: &Contents) -> ContentsStanding {
    ContentsStanding {
        kind: match contents.kind {
            UploadKind::File => "file",
            UploadKind::Folder => "folder",
        },
        bytes: contents.bytes,
        entries: contents.entry_count,
        segments: contents.segment_count,
    }
}

fn group_standing(group: &GroupStat) -> GroupStanding {
    GroupStanding {
        group: group.group.to_string(),
        code: group.code.to_string(),
        revision: group.revision.map(|revision| revision.number.get()),
        segments: group.segment_count,
        slots_healthy: group.healthy_count(),
        slots_needed: group.code.k(),
        slots: group.slots.iter().map(slot_standing).collect(),
    }
}

fn slot_standing(slot: &SlotStat) -> SlotStanding {
    let (state, status, cause) = match &slot.health {
        SlotHealth::Healthy { status } => ("healthy", Some(status), None),
        SlotHealth::Lagging { status } => ("lagging", Some(status), None),
        SlotHealth::Unreachable { cause } => ("unreachable", None, Some(cause.to_string())),
        SlotHealth::Refused { code } => ("refused", None, Some(code.to_string())),
        SlotHealth::Malformed => ("malformed", None, None),
        SlotHealth::Vacant => ("vacant", None, None),
    };
    SlotStanding {
        slot: slot.slot.get(),
        node: slot.node.map(|node| node.to_string()),
        state,
        shards: status.map(|status| status.shard_count),
        lacking: status.map(|status| status.lacking_count),
        cause,
    }
}

/// The standing for people.
fn text(standing: &Standing) -> String {
    let mut text = String::new();
    let mut add = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    add(match &standing.contents {
        Some(contents) => format!(
            "{}, {}, {} entries in {} segments on {} nodes",
            contents.kind,
            ByteCount::new(contents.bytes),
            contents.entries,
            contents.segments,
            standing.nodes
        ),
        None => "the list of files can't be read: too few slots answer".to_owned(),
    });
    for group in &standing.groups {
        let revision = group
            .revision
            .map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        add(format!("group {}", group.group));
        add(format!(
            "  {}, revision {revision}, {} segments of this; {} of {} slots healthy, {} needed",
            group.code,
            group.segments,
            group.slots_healthy,
            group.slots.len(),
            group.slots_needed
        ));
        for slot in &group.slots {
            let node = slot.node.as_deref().unwrap_or_default();
            let mut line = format!("  slot {:<3} {:<11} {node}", slot.slot, slot.state);
            if let Some(lacking) = slot.lacking.filter(|count| *count > 0) {
                write!(line, " lacks {lacking} shards").unwrap_or_default();
            }
            add(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use cairn_core::message::SlotStatus;
    use cairn_core::{Code, Digest, GroupId, RevisionNumber, SlotIndex, SlotRoot, UnixMillis};

    use super::*;

    fn status(lacking_count: u32) -> SlotStatus {
        SlotStatus {
            revision: RevisionNumber::new(1),
            slot_root: SlotRoot::default(),
            shard_count: 5,
            slot_bytes: ByteCount::ZERO,
            lacking_count,
        }
    }

    fn stat(health: Vec<SlotHealth>) -> Stat {
        let slots = (0..).map(SlotIndex::new).zip(health);
        Stat {
            contents: Ok(Contents {
                kind: UploadKind::File,
                entry_count: 1,
                bytes: 9 << 20,
                segment_count: 5,
            }),
            expires_at: UnixMillis::new(1),
            groups: vec![GroupStat {
                group: GroupId::new(Digest::of(b"group")),
                code: Code::new(1, 2).unwrap(),
                revision: None,
                segment_count: 5,
                relaxed: Vec::new(),
                slots: slots
                    .map(|(slot, health)| SlotStat {
                        slot,
                        node: None,
                        health,
                    })
                    .collect(),
            }],
            node_count: 2,
        }
    }

    #[test]
    fn an_upload_is_complete_when_every_slot_is_healthy() {
        let healthy = || SlotHealth::Healthy { status: status(0) };
        let lagging = SlotHealth::Lagging { status: status(3) };
        assert!(standing(&stat(vec![healthy(), healthy()])).complete);
        let standing = standing(&stat(vec![healthy(), lagging]));
        assert!(!standing.complete);
        let text = text(&standing);
        assert!(text.contains("1 of 2 slots healthy, 1 needed"), "{text}");
        assert!(text.contains("lacks 3 shards"), "{text}");
    }
}
