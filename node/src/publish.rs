//! Keeping group records in the DHT, paced: the owner signs and publishes one, and may be away for
//! longer than the DHT keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::{GroupId, NodeId};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_net::{Network, RecordKey};
use cairn_runtime::Runtime;

use crate::core::Core;
use crate::groups::Age;

/// Slots are looked through for groups to publish this often.
const ROUND: Duration = Duration::from_secs(5);

/// First wait after an attempt that failed; doubles up to the publish interval. An owner that has
/// published nothing yet is as usual as one that has.
const RETRY: Duration = Duration::from_secs(300);
/// The wait has grown beyond any interval after so many doublings.
const DOUBLINGS_MAX: u32 = 12;

/// The last attempt to publish a group's record.
struct Attempt {
    at: Duration,
    slots: Vec<NodeId>,
    /// Attempts that failed one after the other, this one included.
    failures: u32,
}

impl Attempt {
    /// How long it is good for.
    fn good_for(&self, interval: Duration) -> Duration {
        match self.failures.checked_sub(1) {
            None => interval,
            Some(doublings) => (RETRY * (1 << doublings.min(DOUBLINGS_MAX))).min(interval),
        }
    }
}

/// Publishes the owner's record of each group that we have a slot of again, when its slots changed
/// and from time to time, until the task is aborted.
pub(crate) async fn publish<R: Runtime, N: Network, L: Ledger>(core: Arc<Core<R, N, L>>) {
    let mut attempts: BTreeMap<GroupId, Attempt> = BTreeMap::new();
    loop {
        core.runtime.sleep(ROUND).await;
        let mut groups: Vec<GroupId> = core.work.known().iter().map(|slot| slot.group).collect();
        groups.dedup();
        attempts.retain(|group, _| groups.binary_search(group).is_ok());
        for id in groups {
            let Ok(Some(group)) = core.groups.get(id, Age::Remembered).await else {
                continue;
            };
            let slots: Vec<NodeId> = group.deals.iter().map(|deal| deal.node).collect();
            let now = core.runtime.monotonic();
            let is_due = slots.contains(&core.id)
                && attempts.get(&id).is_none_or(|before| {
                    let age = now.saturating_sub(before.at);
                    before.slots != slots || age >= before.good_for(core.pacing.publish_interval)
                });
            if !is_due {
                continue;
            }
            let failures = match publish_one(&core, &group).await {
                Ok(()) => 0,
                Err(error) => {
                    tracing::debug!(group = %id, error, "publishing fails");
                    attempts
                        .get(&id)
                        .map_or(0, |before| before.failures)
                        .saturating_add(1)
                }
            };
            let attempt = Attempt {
                at: now,
                slots,
                failures,
            };
            attempts.insert(id, attempt);
            core.runtime.sleep(core.pacing.publish_gap).await;
        }
    }
}

/// Publishes again what the owner last published. A node can't sign in the owner's place: its own
/// word for where the slots are would be anybody's word.
async fn publish_one<R: Runtime, N: Network, L: Ledger>(
    core: &Core<R, N, L>,
    group: &Group,
) -> Result<(), String> {
    let key = RecordKey::Group {
        group: group.id,
        owner: group.owner,
    };
    let found = core.network.find(key).await;
    let found = found.map_err(|error| error.to_string())?;
    let value = found.ok_or("its owner has not published it")?;
    let published = core.network.publish(key, value).await;
    published.map_err(|error| error.to_string())
}
