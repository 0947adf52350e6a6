//! The control plane's answering end: revise, detail, slot, ledger.

use std::sync::Arc;

use cairn_core::message::{ControlRequest, ControlResponse, SlotStatus};
use cairn_core::{
    Bounded, ErrorCode, GroupId, NodeId, Record, RevisionDetail, Signed, SlotIndex, SlotRoot, Text,
};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_ledger::tx::SlotRef;
use cairn_net::Network;
use cairn_proofs::{SlotTree, group_root};
use cairn_runtime::Runtime;

use crate::access::{Refusal, find};
use crate::core::Core;
use crate::groups::Age;
use crate::serve::refusal_of;
use crate::store::StoreError;

impl<R: Runtime, N: Network, L: Ledger> Core<R, N, L> {
    /// Answers one control message.
    pub(crate) async fn answer_control(self: &Arc<Self>, peer: NodeId, message: &[u8]) -> Vec<u8> {
        let answered = match ControlRequest::decode(message) {
            Ok(request) => self.control(peer, request).await,
            Err(error) => {
                tracing::debug!(%peer, %error, "a control message does not decode");
                let text = "the request does not decode";
                Err(Refusal::new(ErrorCode::Malformed, text))
            }
        };
        let response = answered.unwrap_or_else(|refusal| ControlResponse::Error {
            code: refusal.code,
            text: Text::cut(&refusal.text),
        });
        response.encode()
    }

    async fn control(
        self: &Arc<Self>,
        peer: NodeId,
        request: ControlRequest,
    ) -> Result<ControlResponse, Refusal> {
        match request {
            ControlRequest::Revise { slot, detail } => {
                let status = self.revise(peer, slot, detail).await?;
                Ok(ControlResponse::Slot(status))
            }
            ControlRequest::Detail { group } => self.detail_of(group).await,
            ControlRequest::Slot { group, slot } => {
                let place = SlotRef { group, slot };
                self.slot_status(place).await.map(ControlResponse::Slot)
            }
            ControlRequest::Ledger(request) => {
                let Some(server) = &self.ledger_server else {
                    let text = "this node does not serve the ledger";
                    return Err(Refusal::new(ErrorCode::Unsupported, text));
                };
                let answer = server.answer(peer, request.into_vec()).await;
                let answer = Bounded::new(answer);
                answer.map(ControlResponse::Ledger).map_err(|_| {
                    Refusal::new(ErrorCode::Internal, "the ledger's answer is too long")
                })
            }
        }
    }

    /// Takes a revision's detail, from anyone: the group's owner signed it, and the slot roots
    /// prove themselves against the ledger. One that is known costs nothing more.
    async fn revise(
        self: &Arc<Self>,
        peer: NodeId,
        slot: SlotIndex,
        detail: Signed<RevisionDetail>,
    ) -> Result<SlotStatus, Refusal> {
        let revision = detail.unverified().revision;
        let place = SlotRef {
            group: revision.group,
            slot,
        };
        let mut group = find(&self.groups, place.group, Age::Remembered).await?;
        if group.revision.number < revision.number {
            group = find(&self.groups, place.group, Age::Fresh).await?;
        }
        self.holds(&group, slot)?;
        let is_known = self
            .store
            .store()
            .newest(place)
            .is_some_and(|known| known == detail);
        if is_known || revision.number < group.revision.number {
            return self.slot_status(place).await;
        }
        check_detail(&group, &detail)?;
        tracing::debug!(%peer, %place, revision = %revision.number, "a revision's detail");
        let done = self
            .store
            .with(move |store| store.reach_or_expect(place, &detail))
            .await;
        self.work.know(place);
        self.look_at(place);
        match done {
            Ok(_)
            | Err(
                StoreError::Lacking { .. }
                | StoreError::SlotRoot { .. }
                | StoreError::Unsettled { .. },
            ) => self.slot_status(place).await,
            Err(error) => Err(refusal_of(&error)),
        }
    }

    /// The newest detail that one of our slots of the group has.
    async fn detail_of(&self, id: GroupId) -> Result<ControlResponse, Refusal> {
        let group = find(&self.groups, id, Age::Remembered).await?;
        let store = self.store.store();
        let slots = group.code.slots().map(|slot| SlotRef { group: id, slot });
        let newest = slots
            .filter_map(|place| store.newest(place))
            .max_by_key(|detail| detail.unverified().revision.number);
        newest.map(ControlResponse::Detail).ok_or_else(|| {
            Refusal::new(
                ErrorCode::Lagging,
                format!("no revision of group {id} is known"),
            )
        })
    }

    /// How a slot stands.
    async fn slot_status(&self, place: SlotRef) -> Result<SlotStatus, Refusal> {
        let group = find(&self.groups, place.group, Age::Remembered).await?;
        let store = self.store.store();
        let reached = store.reached(place);
        let figures = store.slot_figures(place);
        if figures.is_none() {
            self.holds(&group, place.slot)?;
        }
        let empty: SlotRoot = SlotTree::new().root();
        let (revision, slot_root) =
            reached
                .as_ref()
                .map_or((cairn_core::RevisionNumber::ZERO, empty), |reached| {
                    let detail = reached.detail.unverified();
                    let root = detail.slot_roots.get(place.slot.index());
                    (detail.revision.number, root.copied().unwrap_or(empty))
                });
        let newest = store.newest(place);
        let count = newest.map_or(0, |detail| detail.unverified().revision.segment_count);
        let lacking_count = store.lacking_count(place, count);
        Ok(SlotStatus {
            revision,
            slot_root,
            shard_count: figures.map_or(0, |figures| figures.shard_count),
            slot_bytes: figures.map_or(cairn_core::ByteCount::ZERO, |figures| figures.shard_bytes),
            lacking_count,
        })
    }
}

/// That a detail is the one of the group's revision on the ledger, and signed by its owner.
pub(crate) fn check_detail(group: &Group, signed: &Signed<RevisionDetail>) -> Result<(), Refusal> {
    let detail = signed.unverified();
    let (expected, found) = (group.revision.number, detail.revision.number);
    if found > expected {
        let text = format!("the ledger has revision {expected}, found {found}");
        return Err(Refusal::new(ErrorCode::Lagging, text));
    }
    let roots = group_root(&detail.slot_roots);
    let same = detail.revision == group.revision
        && detail.slot_roots.len() == group.code.shard_count()
        && roots == Ok(group.revision.group_root);
    if !same {
        let text = format!("not revision {expected} of group {}", group.id);
        return Err(Refusal::new(ErrorCode::BadRecord, text));
    }
    let verified = signed.verify_by(group.owner.key());
    verified
        .map(|_| ())
        .map_err(|error| Refusal::new(ErrorCode::BadRecord, error.to_string()))
}
