//! Opening a group: the book first, then the ledger, then the slots.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::{ByteCount, GroupId, Record, Signed};
use cairn_ledger::tx::group_id;
use cairn_ledger::{Group, Ledger, LedgerError, RelaxedCap, Tx, TxBody, TxError, tx_id};
use cairn_net::{Network, RecordKey};
use cairn_runtime::{Disk, Runtime};

use crate::book::{Book, BookError, Opened};
use crate::group_view::{GroupView, dht_record};
use crate::owner::writer::{Writer, lock};
use crate::owner::{OpenGroupError, OwnerShared};

/// Longest wait for the ledger to draw the slots of a new group: blocks come every second or so.
const PLACE_LIMIT: Duration = Duration::from_secs(60);
/// First pause between two looks at a group that is being placed; doubles up to [`POLL_MAX`].
const POLL_FIRST: Duration = Duration::from_millis(25);
/// Longest pause between two looks.
const POLL_MAX: Duration = Duration::from_secs(1);
/// Least slot capacity that is asked for when the nodes have no room for more.
const SLOT_CAPACITY_LEAST: ByteCount = ByteCount::new(64 << 20);
/// Longest wait for the DHT to take a group record.
const PUBLISH_LIMIT: Duration = Duration::from_secs(3);

impl<R: Runtime, N: Network, L: Ledger> OwnerShared<R, N, L> {
    /// Opens a new group: writes its book, submits, waits for its slots.
    pub(super) async fn open_group(&self) -> Result<Arc<Writer<R::Disk>>, OpenGroupError> {
        let parameters = self.client.ledger().status().await?.parameters;
        let mut capacity = self
            .config
            .slot_capacity
            .min(parameters.slot_capacity_max)
            .max(parameters.slot_capacity_min);
        loop {
            match self.open_group_of(capacity).await {
                Err(OpenGroupError::TooFewNodes { expected, found }) => {
                    let half = ByteCount::new(capacity.get() / 2);
                    if half < SLOT_CAPACITY_LEAST.max(parameters.slot_capacity_min) {
                        return Err(OpenGroupError::TooFewNodes { expected, found });
                    }
                    capacity = half;
                }
                other => return other,
            }
        }
    }

    async fn open_group_of(
        &self,
        slot_capacity: ByteCount,
    ) -> Result<Arc<Writer<R::Disk>>, OpenGroupError> {
        let layout = self.layout()?;
        let line = self.submitting.lock().await;
        let ledger = self.client.ledger();
        let account = self.keys.account();
        let found = ledger.account(account).await?;
        let status = ledger.status().await?;
        let slots = (layout.code(), slot_capacity);
        let terms = self.terms(&status, found.balance, slots);
        let tx = Tx {
            account,
            nonce: found.nonce,
            fee: status.parameters.fee_min,
            body: TxBody::GroupOpen {
                code: layout.code(),
                slot_capacity,
                price_max: terms.price_max,
                term_epochs: terms.term_epochs,
                escrow: terms.escrow,
            },
        };
        let signed = Signed::sign_for(tx, ledger.id(), self.keys.identity());
        let opened = Opened {
            group: group_id(tx_id(&signed)),
            owner: account,
            code: layout.code(),
            slot_capacity,
            shard_bytes_max: self.config.profile.shard_bytes_max(),
        };
        // The book comes first: a crash after the submission must not forget the group.
        let folder = self.groups_folder().join(opened.group.to_string());
        let runtime = self.client.runtime();
        let disk = runtime.disk().clone();
        let place = folder.clone();
        let book = runtime
            .blocking(move || Book::create(&disk, &place, opened))
            .await?;
        if let Err(error) = ledger.submit(signed).await {
            if matches!(error, LedgerError::Refused(_)) {
                drop(book);
                let disk = runtime.disk().clone();
                let removed = runtime.blocking(move || disk.remove_dir_all(&folder)).await;
                removed.map_err(BookError::from)?;
            }
            return Err(match error {
                LedgerError::Refused(TxError::NodeCount { expected, found })
                    if terms.price_max < self.config.price_max =>
                {
                    OpenGroupError::NoCredits {
                        account,
                        expected,
                        found,
                    }
                }
                LedgerError::Refused(TxError::NodeCount { expected, found }) => {
                    OpenGroupError::TooFewNodes { expected, found }
                }
                other => other.into(),
            });
        }
        drop(line);
        let placed = self.wait_until_placed(opened.group).await?;
        for relaxed in &placed.relaxed {
            report_relaxed(opened.group, relaxed);
        }
        let writer = Writer::new(book, layout, placed.relaxed.clone());
        *lock(&writer.revised_at) = self.client.runtime().monotonic();
        self.publish(&writer, &GroupView::of_group(&placed)).await;
        Ok(Arc::new(writer))
    }

    async fn wait_until_placed(&self, group: GroupId) -> Result<Group, OpenGroupError> {
        let runtime = self.client.runtime();
        let give_up_at = runtime.monotonic().saturating_add(PLACE_LIMIT);
        let mut pause = POLL_FIRST;
        loop {
            match self.client.ledger().group(group).await? {
                None => return Err(OpenGroupError::Refunded { group }),
                Some(found) if found.is_placed() => return Ok(found),
                Some(_) if runtime.monotonic() >= give_up_at => {
                    return Err(OpenGroupError::NotPlaced {
                        group,
                        limit: PLACE_LIMIT,
                    });
                }
                Some(_) => runtime.sleep(pause).await,
            }
            pause = pause.saturating_mul(2).min(POLL_MAX);
        }
    }

    /// Publishes where the slots are, unless that was done. A hint only: that it fails is said and
    /// has no effect.
    pub(super) async fn publish(&self, writer: &Writer<R::Disk>, view: &GroupView) {
        let Some(nodes) = view.nodes() else {
            return;
        };
        // Once, even when it fails: a DHT that does not answer must not slow every revision.
        let before = std::mem::replace(&mut *lock(&writer.published), nodes.clone());
        if before == nodes {
            return;
        }
        let Ok(status) = self.client.ledger().status().await else {
            return;
        };
        let Some(record) = dht_record(view, status.height) else {
            return;
        };
        let (group, owner) = (view.group, writer.opened.owner);
        let value = Signed::sign(record, self.keys.identity()).encode();
        let key = RecordKey::Group { group, owner };
        let publish = self.client.network().publish(key, value);
        let done = self.client.runtime().timeout(PUBLISH_LIMIT, publish).await;
        if !matches!(done, Ok(Ok(()))) {
            tracing::debug!(%group, ?done, "group record not published");
        }
    }
}

fn report_relaxed(group: GroupId, relaxed: &RelaxedCap) {
    tracing::warn!(
        %group,
        cap = ?relaxed.cap,
        max = relaxed.max,
        found = relaxed.found,
        "placement had to relax a cap: too few other nodes"
    );
}
