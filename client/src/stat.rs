//! How an upload stands: its segments, and how many slots have them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse, SlotStatus};
use cairn_core::{
    Code, ErrorCode, GroupId, GroupRevision, NodeId, Record, RevisionNumber, SegmentNumber,
    SlotIndex, UnixMillis,
};
use cairn_ledger::{Ledger, RelaxedCap};
use cairn_net::{NetError, Network};
use cairn_runtime::Runtime;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::client::Client;
use crate::group_view::{Freshness, GroupView};
use crate::index::UploadKind;
use crate::link::Link;
use crate::read::ReadError;

/// Longest wait for a node to say how its slot stands.
const SLOT_LIMIT: Duration = Duration::from_secs(3);

/// How one slot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotHealth {
    /// It has the newest revision whole.
    Healthy {
        /// What its node says.
        status: SlotStatus,
    },
    /// It lacks something of the newest revision.
    Lagging {
        /// What its node says.
        status: SlotStatus,
    },
    /// Its node does not answer.
    Unreachable {
        /// Why not.
        cause: NetError,
    },
    /// Its node answers with an error.
    Refused {
        /// The node's code.
        code: ErrorCode,
    },
    /// Its node breaks the protocol.
    Malformed,
    /// It has no node at present.
    Vacant,
}

/// A slot and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStat {
    /// The slot.
    pub slot: SlotIndex,
    /// Its node.
    pub node: Option<NodeId>,
    /// How it stands.
    pub health: SlotHealth,
}

/// A group of an upload and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStat {
    /// The group.
    pub group: GroupId,
    /// Its code.
    pub code: Code,
    /// The newest revision, when the ledger could be asked.
    pub revision: Option<GroupRevision>,
    /// Segments of this upload in it; those of its index only while that can't be read.
    pub segment_count: usize,
    /// The last of these segments.
    pub last_segment: Option<SegmentNumber>,
    /// Caps that placement had to relax.
    pub relaxed: Vec<RelaxedCap>,
    /// Every slot.
    pub slots: Vec<SlotStat>,
}

impl GroupStat {
    /// Slots that have the newest revision whole.
    #[must_use]
    pub fn healthy_count(&self) -> usize {
        self.count(|health| matches!(health, SlotHealth::Healthy { .. }))
    }

    /// Slots that lack something of it.
    #[must_use]
    pub fn lagging_count(&self) -> usize {
        self.count(|health| matches!(health, SlotHealth::Lagging { .. }))
    }

    /// Slots that can't be asked.
    #[must_use]
    pub fn unreachable_count(&self) -> usize {
        self.slots.len() - self.healthy_count() - self.lagging_count()
    }

    /// Whether k slots at least are healthy.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.healthy_count() >= self.code.data_count()
    }

    fn count(&self, which: impl Fn(&SlotHealth) -> bool) -> usize {
        self.slots.iter().filter(|slot| which(&slot.health)).count()
    }
}

/// What an upload holds, as its index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// One file or a folder.
    pub kind: UploadKind,
    /// Files, directories and symlinks.
    pub entry_count: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Segments, those of the index included.
    pub segment_count: usize,
}

/// How an upload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it holds; or why that can't be read now, which is when its slots matter most.
    pub contents: Result<Contents, ReadError>,
    /// When the link ends.
    pub expires_at: UnixMillis,
    /// Its groups.
    pub groups: Vec<GroupStat>,
    /// Nodes that hold its slots.
    pub node_count: usize,
}

impl<R: Runtime, N: Network, L: Ledger> Client<R, N, L> {
    /// How the upload of a link stands: opens it, and asks every slot.
    ///
    /// # Errors
    ///
    /// [`ReadError`], but not because too few slots answer: that is in the result.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is safe.
    pub async fn stat(&self, link: &Link) -> Result<Stat, ReadError> {
        let opened = match self.open(link).await {
            Ok(opened) => Ok(opened),
            Err(error @ ReadError::TooFewSlots { .. }) => Err(error),
            Err(error) => return Err(error),
        };
        let known = match &opened {
            Ok(opened) => &opened.index().segments[..],
            Err(_) => &[],
        };
        let groups: Vec<GroupId> = link.groups().collect();
        let mut by_group: BTreeMap<GroupId, BTreeSet<u32>> = BTreeMap::new();
        for segment in known.iter().chain(link.index().segments.iter()) {
            if let Some(group) = groups.get(usize::from(segment.group)) {
                by_group
                    .entry(*group)
                    .or_default()
                    .insert(segment.number.get());
            }
        }
        let mut stats = Vec::new();
        for group in groups {
            let view = self
                .shared
                .view(group, link.owner(), Freshness::Now)
                .await?;
            stats.push(self.group_stat(&view, by_group.get(&group)).await);
        }
        let nodes: BTreeSet<NodeId> = stats
            .iter()
            .flat_map(|group| group.slots.iter().filter_map(|slot| slot.node))
            .collect();
        let contents = opened.map(|opened| Contents {
            kind: opened.index().kind,
            entry_count: opened.index().entries.len(),
            bytes: opened.index().bytes(),
            segment_count: by_group.values().map(BTreeSet::len).sum(),
        });
        Ok(Stat {
            contents,
            expires_at: link.expires_at(),
            groups: stats,
            node_count: nodes.len(),
        })
    }

    /// How each slot of a group stands, as its node says.
    async fn group_stat(
        &self,
        view: &Arc<GroupView>,
        segments: Option<&BTreeSet<u32>>,
    ) -> GroupStat {
        let newest = view
            .revision
            .map_or(RevisionNumber::ZERO, |revision| revision.number);
        let asked: FuturesUnordered<_> = view
            .code
            .slots()
            .map(|slot| {
                let node = view.node(slot);
                async move {
                    SlotStat {
                        slot,
                        node,
                        health: self.slot_health(view.group, slot, node, newest).await,
                    }
                }
            })
            .collect();
        let mut slots: Vec<SlotStat> = asked.collect().await;
        slots.sort_by_key(|slot| slot.slot);
        GroupStat {
            group: view.group,
            code: view.code,
            revision: view.revision,
            segment_count: segments.map_or(0, BTreeSet::len),
            last_segment: segments
                .and_then(BTreeSet::last)
                .copied()
                .map(SegmentNumber::new),
            relaxed: view.relaxed.clone(),
            slots,
        }
    }

    async fn slot_health(
        &self,
        group: GroupId,
        slot: SlotIndex,
        node: Option<NodeId>,
        newest: RevisionNumber,
    ) -> SlotHealth {
        let Some(node) = node else {
            return SlotHealth::Vacant;
        };
        let message = ControlRequest::Slot { group, slot }.encode();
        let answer = self.shared.network.request(node, message, SLOT_LIMIT).await;
        let bytes = match answer {
            Ok(bytes) => bytes,
            Err(cause) => return SlotHealth::Unreachable { cause },
        };
        match ControlResponse::decode(&bytes) {
            Ok(ControlResponse::Slot(status)) => {
                if status.revision >= newest && status.lacking_count == 0 {
                    SlotHealth::Healthy { status }
                } else {
                    SlotHealth::Lagging { status }
                }
            }
            Ok(ControlResponse::Error { code, .. }) => SlotHealth::Refused { code },
            Ok(ControlResponse::Detail(_) | ControlResponse::Ledger(_)) | Err(_) => {
                SlotHealth::Malformed
            }
        }
    }
}
