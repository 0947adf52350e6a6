//! Publishing group records to the DHT, paced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::{Bounded, GroupId, GroupRecord, NodeId, Record, Signed};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_net::{Network, RecordKey};
use cairn_runtime::Runtime;

use crate::core::Core;
use crate::groups::Age;

/// Slots are looked through for groups to publish this often.
const ROUND: Duration = Duration::from_secs(5);

/// What was published of a group.
struct Published {
    at: Duration,
    slots: Vec<NodeId>,
}

/// Publishes the record of each group that we have a slot of, when its slots changed and from
/// time to time, until the task is aborted.
pub(crate) async fn publish<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    let mut published: BTreeMap<GroupId, Published> = BTreeMap::new();
    loop {
        core.runtime.sleep(ROUND).await;
        let mut groups: Vec<GroupId> = core.work.known().iter().map(|slot| slot.group).collect();
        groups.dedup();
        published.retain(|group, _| groups.binary_search(group).is_ok());
        for id in groups {
            let Ok(Some(group)) = core.groups.get(id, Age::Remembered).await else {
                continue;
            };
            let slots: Vec<NodeId> = group.deals.iter().map(|deal| deal.node).collect();
            let now = core.runtime.monotonic();
            let is_due = slots.contains(&core.id)
                && published.get(&id).is_none_or(|before| {
                    let age = now.saturating_sub(before.at);
                    before.slots != slots || age >= core.pacing.publish_interval
                });
            if !is_due {
                continue;
            }
            match publish_one(&core, &group, slots.clone()).await {
                Ok(()) => {
                    published.insert(id, Published { at: now, slots });
                }
                Err(error) => tracing::debug!(group = %id, error, "publishing fails"),
            }
            core.runtime.sleep(core.pacing.publish_gap).await;
        }
    }
}

async fn publish_one<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    group: &Group,
    slots: Vec<NodeId>,
) -> Result<(), String> {
    let status = core.ledger.status().await;
    let height = status.map_err(|error| error.to_string())?.height;
    let record = GroupRecord {
        group: group.id,
        height,
        code: group.code,
        slots: Bounded::new(slots).map_err(|error| error.to_string())?,
    };
    let value = Signed::sign(record, &core.key).encode();
    let published = core
        .network
        .publish(RecordKey::Group(group.id), value)
        .await;
    published.map_err(|error| error.to_string())
}
