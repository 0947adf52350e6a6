//! Where a group's slots are: from the ledger, or from the DHT when the ledger can't be reached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_core::{
    AccountId, Blame, Code, GroupId, GroupRecord, GroupRevision, Height, NodeId, Record, Retry,
    Signed, SlotIndex,
};
use cairn_ledger::{Group, Ledger, LedgerError, RelaxedCap};
use cairn_net::{Network, RecordKey};

/// How long a view is used without asking again. A redrawn slot shows earlier: its old node
/// answers that the slot is not its own, which has the view refreshed.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// Least time between two refreshes of a group.
pub(crate) const REFRESH_AFTER: Duration = Duration::from_millis(500);
/// Most groups whose views are kept: about 3 KB each.
const VIEWS_MAX: usize = 1_024;

/// Where a group's slots are, as read at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: GroupId,
    /// Its owner, when the ledger said so.
    pub owner: Option<AccountId>,
    /// Its code.
    pub code: Code,
    /// For each slot, who may have it: its holder first, then one that leaves and those before.
    /// Empty while a slot has no holder.
    pub holders: Vec<Vec<NodeId>>,
    /// The newest revision, when the ledger said so.
    pub revision: Option<GroupRevision>,
    /// Caps that placement had to relax.
    pub relaxed: Vec<RelaxedCap>,
    /// Slots that the ledger says have the newest revision whole, when the ledger said so.
    pub current_count: Option<usize>,
}

impl GroupView {
    /// The node of a slot; `None` past n and while it has none.
    #[must_use]
    pub fn node(&self, slot: SlotIndex) -> Option<NodeId> {
        self.holders.get(slot.index())?.first().copied()
    }

    /// The node of every slot; `None` while one has none.
    pub(crate) fn nodes(&self) -> Option<Vec<NodeId>> {
        self.code.slots().map(|slot| self.node(slot)).collect()
    }

    /// Who may have a slot.
    #[must_use]
    pub fn holders(&self, slot: SlotIndex) -> &[NodeId] {
        self.holders.get(slot.index()).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn of_group(group: &Group) -> Self {
        let holders = group
            .deals
            .iter()
            .map(|deal| {
                let leaver = deal.leaver.map(|leaver| leaver.node);
                deal.holder().into_iter().chain(leaver).collect()
            })
            .collect();
        Self {
            group: group.id,
            owner: Some(group.owner),
            code: group.code,
            holders,
            revision: Some(group.revision),
            relaxed: group.relaxed.clone(),
            current_count: Some(group.current_count()),
        }
    }
}

/// Why a group's slots are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The ledger can't be asked, and the DHT does not help.
    #[error("group {group}: {cause}")]
    Ledger {
        /// The group.
        group: GroupId,
        /// Why the ledger does not answer.
        cause: Box<LedgerError>,
    },
    /// The ledger knows no such group.
    #[error("no group {group} on the ledger")]
    Unknown {
        /// The group.
        group: GroupId,
    },
    /// Its slots are not drawn yet.
    #[error("the slots of group {group} are not drawn yet")]
    NotPlaced {
        /// The group.
        group: GroupId,
    },
    /// The ledger names another owner than the link.
    #[error("group {group}: expected owner {expected}, found {found}")]
    Owner {
        /// The group.
        group: GroupId,
        /// The link's owner.
        expected: AccountId,
        /// The ledger's.
        found: AccountId,
    },
}

impl GroupError {
    /// What to do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Ledger { cause, .. } => cause.retry(),
            Self::NotPlaced { .. } => Retry::Later,
            Self::Unknown { .. } | Self::Owner { .. } => Retry::Never,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Ledger { cause, .. } => cause.blame(),
            Self::NotPlaced { .. } => Blame::World,
            Self::Unknown { .. } | Self::Owner { .. } => Blame::Caller,
        }
    }
}

#[derive(Clone, Debug)]
struct Kept {
    view: Arc<GroupView>,
    read_at: Duration,
}

/// Views of groups, kept for a while.
#[derive(Debug, Default)]
pub(crate) struct GroupViews {
    kept: Mutex<BTreeMap<GroupId, Kept>>,
}

/// How old a view may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// One read within [`FRESH_FOR`].
    Kept,
    /// Read now, unless it was just read.
    Now,
}

impl GroupViews {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Kept>> {
        // Each change is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view of a group at monotonic time `now`. `owner` is who it should belong to.
    pub(crate) async fn get<L: Ledger, N: Network>(
        &self,
        world: (&L, &N, Duration),
        group: GroupId,
        owner: AccountId,
        freshness: Freshness,
    ) -> Result<Arc<GroupView>, GroupError> {
        let (ledger, network, now) = world;
        let kept = self.lock().get(&group).cloned();
        let age_max = match freshness {
            Freshness::Kept => FRESH_FOR,
            Freshness::Now => REFRESH_AFTER,
        };
        if let Some(kept) = &kept
            && now.saturating_sub(kept.read_at) < age_max
        {
            return Ok(Arc::clone(&kept.view));
        }
        let view = match ledger.group(group).await {
            Ok(Some(found)) => of_ledger(&found, owner)?,
            Ok(None) => return Err(GroupError::Unknown { group }),
            Err(cause) => match (kept, of_dht(network, group, owner).await) {
                (Some(kept), _) => return Ok(kept.view),
                (None, Some(view)) => view,
                (None, None) => {
                    return Err(GroupError::Ledger {
                        group,
                        cause: Box::new(cause),
                    });
                }
            },
        };
        let view = Arc::new(view);
        let mut all = self.lock();
        if all.len() >= VIEWS_MAX {
            let oldest = all.iter().min_by_key(|(_, kept)| kept.read_at);
            if let Some(oldest) = oldest.map(|(group, _)| *group) {
                all.remove(&oldest);
            }
        }
        let kept = Kept {
            view: Arc::clone(&view),
            read_at: now,
        };
        all.insert(group, kept);
        Ok(view)
    }
}

fn of_ledger(found: &Group, owner: AccountId) -> Result<GroupView, GroupError> {
    let group = found.id;
    if found.owner != owner {
        return Err(GroupError::Owner {
            group,
            expected: owner,
            found: found.owner,
        });
    }
    if !found.is_placed() {
        return Err(GroupError::NotPlaced { group });
    }
    Ok(GroupView::of_group(found))
}

/// What the owner last published in the DHT: perhaps old, but nobody else's. Slots that have moved
/// since cost time only: what nodes answer is verified.
async fn of_dht<N: Network>(network: &N, group: GroupId, owner: AccountId) -> Option<GroupView> {
    let key = RecordKey::Group { group, owner };
    let bytes = network.find(key).await.ok()??;
    let signed = Signed::<GroupRecord>::decode(&bytes).ok()?;
    let record = signed.verify_by(owner.key()).ok()?;
    if record.group != group {
        return None;
    }
    Some(GroupView {
        group,
        owner: None,
        code: record.code,
        holders: record.slots.iter().map(|node| vec![*node]).collect(),
        revision: None,
        relaxed: Vec::new(),
        current_count: None,
    })
}

/// The DHT record of a group at a height; `None` while a slot has no holder.
pub(crate) fn dht_record(view: &GroupView, height: Height) -> Option<GroupRecord> {
    Some(GroupRecord {
        group: view.group,
        height,
        code: view.code,
        slots: cairn_core::Bounded::new(view.nodes()?).ok()?,
    })
}
