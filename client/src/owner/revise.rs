//! Revisions: commit on the ledger to what is finished, and tell the slots.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::message::{ControlRequest, ControlResponse};
use cairn_core::{Record, RevisionDetail, RevisionNumber, Signed, SlotIndex};
use cairn_ledger::{Ledger, LedgerError, TxBody, TxError};
use cairn_net::Network;
use cairn_runtime::Runtime;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::book::BookError;
use crate::group_view::Freshness;
use crate::owner::writer::{Writer, lock};
use crate::owner::{OwnerShared, ReviseError};

/// Revisions made in one call: one for each 65,536 emptied leaves, and some for races.
const ROUNDS_MAX: usize = 32;
/// Longest wait for a slot to take a revision's detail. Slots pass details on among themselves.
const DETAIL_LIMIT: Duration = Duration::from_secs(5);

/// Whether a detail was handed to enough slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// In this call.
    Now,
    /// Not in this call: there is none to deliver, or too few took it.
    None,
}

impl<R: Runtime, N: Network, L: Ledger> OwnerShared<R, N, L> {
    /// Makes revisions until all that is finished without a gap and all emptied leaves are
    /// covered. Returns the newest revision's number.
    pub(crate) async fn revise(
        &self,
        writer: &Arc<Writer<R::Disk>>,
    ) -> Result<RevisionNumber, ReviseError> {
        let group = writer.opened.group;
        let failed = |cause: BookError| ReviseError::Book { group, cause };
        let _turn = writer.revising.lock().await;
        let runtime = self.client.runtime();
        for _ in 0..ROUNDS_MAX {
            let is_unsettled = writer
                .with_book(runtime, |book| Ok(book.is_unsettled()))
                .await
                .map_err(failed)?;
            if is_unsettled {
                self.settle(writer).await?;
            }
            let detail = writer
                .with_book(runtime, |book| book.revise())
                .await
                .map_err(failed)?;
            let Some(detail) = detail else {
                if self.deliver_last(writer).await? == Delivery::Now {
                    // Leaves may have waited for room in a detail.
                    continue;
                }
                *lock(&writer.revised_at) = runtime.monotonic();
                self.look_after(writer).await;
                return writer
                    .with_book(runtime, |book| Ok(book.current_number()))
                    .await
                    .map_err(failed);
            };
            let revision = detail.revision;
            match self.submit(TxBody::GroupRevise { revision }).await {
                Ok(_) => {
                    writer
                        .with_book(runtime, move |book| book.settle(&revision))
                        .await
                        .map_err(failed)?;
                }
                Err(LedgerError::Refused(TxError::RevisionNumber { .. })) => {
                    self.settle(writer).await?;
                }
                Err(cause) => {
                    let cause = Box::new(cause);
                    return Err(ReviseError::Ledger { group, cause });
                }
            }
            self.deliver_last(writer).await?;
        }
        Err(ReviseError::Contended { group })
    }

    /// Keeps a group paid. What fails is said and tried again with the next revision: what was
    /// written is committed to all the same.
    async fn look_after(&self, writer: &Arc<Writer<R::Disk>>) {
        let group = writer.opened.group;
        if let Err(error) = self.keep_paid(group).await {
            tracing::warn!(%group, %error, "the group's escrow or term is not renewed");
        }
    }

    /// Tells the book which revision the ledger has.
    async fn settle(&self, writer: &Arc<Writer<R::Disk>>) -> Result<(), ReviseError> {
        let group = writer.opened.group;
        let found =
            self.client
                .ledger()
                .group(group)
                .await
                .map_err(|cause| ReviseError::Ledger {
                    group,
                    cause: Box::new(cause),
                })?;
        let Some(found) = found else {
            let cause = crate::owner::OpenGroupError::Refunded { group };
            return Err(ReviseError::Group(cause));
        };
        writer
            .with_book(self.client.runtime(), move |book| {
                book.settle(&found.revision)
            })
            .await
            .map_err(|cause| ReviseError::Book { group, cause })
    }

    /// Hands the newest revision's detail to the slots, when too few have it.
    async fn deliver_last(&self, writer: &Arc<Writer<R::Disk>>) -> Result<Delivery, ReviseError> {
        let group = writer.opened.group;
        let failed = |cause: BookError| ReviseError::Book { group, cause };
        let runtime = self.client.runtime();
        let detail = writer
            .with_book(runtime, |book| Ok(book.undelivered().cloned()))
            .await
            .map_err(failed)?;
        let Some(detail) = detail else {
            return Ok(Delivery::None);
        };
        let number = detail.revision.number;
        let taken = self.deliver(writer, detail).await;
        // Slots pass details on among themselves, so a part of them is enough.
        if taken >= writer.opened.code.data_count() {
            writer
                .with_book(runtime, move |book| book.delivered(number))
                .await
                .map_err(failed)?;
            Ok(Delivery::Now)
        } else {
            tracing::warn!(%group, %number, taken, "few slots took the revision's detail");
            Ok(Delivery::None)
        }
    }

    /// How many slots took the detail.
    async fn deliver(&self, writer: &Arc<Writer<R::Disk>>, detail: RevisionDetail) -> usize {
        let client = &self.client.shared;
        let opened = &writer.opened;
        let detail = Signed::sign(detail, self.keys.identity());
        let view = client
            .view(opened.group, opened.owner, Freshness::Kept)
            .await;
        let Ok(view) = view else {
            return 0;
        };
        let requests: FuturesUnordered<_> = opened
            .code
            .slots()
            .filter_map(|slot| view.node(slot).map(|node| (slot, node)))
            .map(|(slot, node)| {
                let message = ControlRequest::Revise {
                    slot,
                    detail: detail.clone(),
                };
                let answer = client.network.request(node, message.encode(), DETAIL_LIMIT);
                async move { (slot, answer.await) }
            })
            .collect();
        let answers: Vec<_> = requests.collect().await;
        self.publish(writer, &view).await;
        answers
            .into_iter()
            .filter(|(slot, answer)| took(*slot, answer.as_deref().ok()))
            .count()
    }
}

fn took(slot: SlotIndex, answer: Option<&[u8]>) -> bool {
    let Some(answer) = answer else {
        return false;
    };
    match ControlResponse::decode(answer) {
        Ok(ControlResponse::Slot(_)) => true,
        other => {
            tracing::debug!(%slot, ?other, "the slot did not take the revision's detail");
            false
        }
    }
}
