//! `cairn stat`: how a link's data stands.

use std::fmt::Write;

use cairn_client::UploadKind;
use cairn_client::link::Link;
use cairn_client::read::ReadError;
use cairn_client::stat::{Contents, GroupStat, SlotHealth, SlotStat, Stat};
use cairn_core::{ByteCount, UnixMillis};
use cairn_ledger::{Cap, GroupProof, RelaxedCap};
use serde::Serialize;

use crate::app::App;
use crate::args::StatArgs;
use crate::client_failure::has_no_shard;
use crate::failure::Failure;
use crate::get::parse_link;
use crate::output::count;
use crate::session::Session;

mod proven;

/// Longest cause shown to people: what matters comes first.
const CAUSE_CHARS_MAX: usize = 120;

/// What is printed.
#[derive(Debug, Serialize)]
struct Standing {
    /// None while the list of files can't be read.
    contents: Option<ContentsStanding>,
    /// Why it can't.
    contents_cause: Option<String>,
    nodes: usize,
    expires_at_ms: u64,
    /// Whether every slot of every group has everything.
    complete: bool,
    /// Why it is not known what is proven.
    proven_cause: Option<String>,
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
    /// None while it is not known.
    proven: Option<ProvenStanding>,
    /// Caps of placement that the network was too small for.
    relaxed: Vec<RelaxedStanding>,
    slots: Vec<SlotStanding>,
}

/// What of a group is proven.
#[derive(Debug, Serialize)]
struct ProvenStanding {
    as_of_epoch: u64,
    /// Slots whose nodes proved that epoch or a later one, with all segments of this.
    slots: usize,
    /// Height and time of the block that it is known from.
    height: u64,
    time_ms: u64,
}

/// A cap of placement that had to be exceeded.
#[derive(Debug, Serialize)]
struct RelaxedStanding {
    cap: &'static str,
    max: u8,
    found: u8,
}

/// One slot.
#[derive(Debug, Serialize)]
struct SlotStanding {
    slot: u8,
    node: Option<String>,
    state: &'static str,
    /// The epoch that its node proved last, with something of the slot.
    proven_epoch: Option<u64>,
    shards: Option<u32>,
    lacking: Option<u32>,
    cause: Option<String>,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: &StatArgs) -> Result<(), Failure> {
    let link = parse_link(&args.link)?;
    let session = Session::open(app).await?;
    let shown = look(&session, &link, args).await;
    session.close().await;
    let (stat, proofs) = shown?;
    let mut standing = standing(&stat);
    proven::add(&mut standing, &stat, proofs);
    app.output.answer(&standing, || text(&standing))?;
    if let Some(path) = &args.receipt {
        app.output
            .note(&format!("The durability receipt is in {}.", path.display()));
    }
    Ok(())
}

/// How it stands, and what the ledger says of its proofs; writes the receipt if one is asked for.
async fn look(
    session: &Session,
    link: &Link,
    args: &StatArgs,
) -> Result<(Stat, Result<Vec<GroupProof>, Failure>), Failure> {
    let stat = session.client.stat(link).await?;
    if let Some(path) = &args.receipt {
        let receipt = proven::receipt(session, &stat).await?;
        receipt.write(path)?;
    }
    let proofs = proven::proofs(session, &stat).await;
    Ok((stat, proofs))
}

fn standing(stat: &Stat) -> Standing {
    let whole = |group: &GroupStat| group.healthy_count() == group.slots.len();
    Standing {
        contents: stat.contents.as_ref().ok().map(contents_standing),
        contents_cause: stat.contents.as_ref().err().map(contents_cause),
        nodes: stat.node_count,
        expires_at_ms: stat.expires_at.get(),
        complete: stat.contents.is_ok() && !stat.groups.is_empty() && stat.groups.iter().all(whole),
        proven_cause: None,
        groups: stat.groups.iter().map(group_standing).collect(),
    }
}

/// Why the list of files can't be read, without what each slot met: the slots are shown anyway.
fn contents_cause(error: &ReadError) -> String {
    match error {
        ReadError::TooFewSlots {
            expected,
            needed,
            missing,
            ..
        } => {
            let (gone, all) = (missing.len(), expected);
            let why = if missing.iter().all(|slot| has_no_shard(&slot.failure)) {
                "it was deleted, or its upload never ended"
            } else {
                "too few slots answer"
            };
            format!("{why}: {gone} of {all} slots do not give it, {needed} needed")
        }
        other => other.to_string(),
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
        proven: None,
        relaxed: group.relaxed.iter().map(relaxed_standing).collect(),
        slots: group.slots.iter().map(slot_standing).collect(),
    }
}

const fn relaxed_standing(relaxed: &RelaxedCap) -> RelaxedStanding {
    RelaxedStanding {
        cap: match relaxed.cap {
            Cap::Region => "region",
            Cap::Network => "network prefix",
            Cap::Provider => "hosting provider",
            Cap::Operator => "operator",
        },
        max: relaxed.max,
        found: relaxed.found,
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
        proven_epoch: None,
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
            "{}, {}, {} in {} on {}",
            contents.kind,
            ByteCount::new(contents.bytes),
            count(contents.entries, "entry", "entries"),
            count(contents.segments, "segment", "segments"),
            count(standing.nodes, "node", "nodes")
        ),
        None => format!(
            "the list of files can't be read: {}",
            standing.contents_cause.as_deref().unwrap_or_default()
        ),
    });
    let expires_at = UnixMillis::new(standing.expires_at_ms);
    add(format!("the link is good until {expires_at}"));
    if let Some(cause) = &standing.proven_cause {
        add(format!("what is proven is not known: {cause}"));
    }
    for group in &standing.groups {
        let revision = group
            .revision
            .map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        add(format!("group {}", group.group));
        add(format!(
            "  {}, revision {revision}, {} of this; {} of {} slots healthy, {} needed",
            group.code,
            count(group.segments, "segment", "segments"),
            group.slots_healthy,
            group.slots.len(),
            group.slots_needed
        ));
        if let Some(proven) = &group.proven {
            add(proven::line(proven, group.slots_needed));
        }
        for relaxed in &group.relaxed {
            add(format!(
                "  up to {} slots share one {}, where {} should: the network was too small",
                relaxed.found, relaxed.cap, relaxed.max
            ));
        }
        for slot in &group.slots {
            let node = slot.node.as_deref().unwrap_or_default();
            let mut line = format!("  slot {:<3} {:<11} {node}", slot.slot, slot.state);
            if let Some(lacking) = slot.lacking.filter(|count| *count > 0) {
                let lacks = count(lacking, "shard", "shards");
                write!(line, " lacks {lacks}").unwrap_or_default();
            }
            if let Some(cause) = &slot.cause {
                write!(line, " {cause:.CAUSE_CHARS_MAX$}").unwrap_or_default();
            }
            add(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use cairn_client::read::{MissingSlot, SlotReadFailure};
    use cairn_core::message::SlotStatus;
    use cairn_core::{
        Code, Digest, ErrorCode, GroupId, NodeId, PublicKey, RevisionNumber, SegmentNumber,
        SlotIndex, SlotRoot,
    };
    use cairn_net::data::DataError;

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
                last_segment: None,
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

    #[test]
    fn what_was_deleted_is_not_complete_and_says_so() {
        let healthy = SlotHealth::Healthy { status: status(0) };
        let missing = MissingSlot {
            slot: SlotIndex::new(0),
            node: None,
            failure: SlotReadFailure::Data(DataError::Remote {
                peer: NodeId::new(PublicKey::from_bytes([7; 32])),
                code: ErrorCode::NoSuchShard,
                text: String::new(),
            }),
        };
        let gone = ReadError::TooFewSlots {
            group: GroupId::new(Digest::of(b"group")),
            segment: SegmentNumber::new(0),
            expected: 2,
            needed: 1,
            found: 0,
            missing: vec![missing.clone(), missing],
        };
        let stat = Stat {
            contents: Err(gone),
            ..stat(vec![healthy.clone(), healthy])
        };
        let standing = standing(&stat);
        assert!(!standing.complete);
        let text = text(&standing);
        assert!(text.contains("it was deleted"), "{text}");
    }
}
