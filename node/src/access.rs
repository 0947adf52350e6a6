//! What the peer of a data plane stream may do.
//!
//! Rules: a capability is checked once, when it is presented, against the owner that the ledger
//! has for its group; its expiry and scope on each request. A node that has a deal in the group
//! and has not caught up with its revision may read without one: it presents a capability that it
//! issued itself, which has no force of its own. It gets no shard that it must have of itself: one
//! of the revision that it acknowledged, or that it is still to prove in this epoch. A segment
//! record counts when its signer is the owner or the holder of the write capability presented,
//! which is the peer.

use std::sync::Arc;

use cairn_core::{
    Capability, CapabilityError, CapabilityLink, ErrorCode, GroupId, NodeId, PublicKey, Right,
    Scope, UnixMillis,
};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::core::Core;
use crate::groups::{Age, Groups, is_catching_up};
use crate::store::ShardPlace;

/// A refusal, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// What was presented on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granted {
    Nothing,
    Link(CapabilityLink),
    Sibling(GroupId),
}

/// What the peer of a stream may do.
#[derive(Debug)]
pub(crate) struct Access {
    peer: NodeId,
    granted: Granted,
}

impl Access {
    pub(crate) const fn new(peer: NodeId) -> Self {
        Self {
            peer,
            granted: Granted::Nothing,
        }
    }

    /// Checks a capability; on success it takes the place of the one before.
    pub(crate) async fn present<R: Runtime, L: Ledger>(
        &mut self,
        groups: &Groups<R, L>,
        runtime: &R,
        capability: &Capability,
    ) -> Result<(), Refusal> {
        let refuse = |error: CapabilityError| Refusal::new(code_of(&error), error.to_string());
        let Scope::Group(id) = capability.scope().map_err(refuse)?;
        let now = UnixMillis::from_unix(runtime.now());
        let mut group = find(groups, id, Age::Remembered).await?;
        if let Ok(link) = capability.verify(group.owner, self.peer.key(), now) {
            self.granted = Granted::Link(link);
            return Ok(());
        }
        if !is_catching_up(&group, self.peer) {
            group = find(groups, id, Age::Fresh).await?;
        }
        if is_catching_up(&group, self.peer) {
            self.granted = Granted::Sibling(id);
            return Ok(());
        }
        let verified = capability.verify(group.owner, self.peer.key(), now);
        verified.map(|_| ()).map_err(refuse)
    }

    /// The group, when the peer has `right` on it.
    pub(crate) async fn allow<R: Runtime, L: Ledger>(
        &self,
        groups: &Groups<R, L>,
        runtime: &R,
        (id, right): (GroupId, Right),
    ) -> Result<Arc<Group>, Refusal> {
        match self.granted {
            Granted::Link(link) => {
                let now = UnixMillis::from_unix(runtime.now());
                link.allows(Scope::Group(id), right, now)
                    .map_err(|error| Refusal::new(code_of(&error), error.to_string()))?;
                find(groups, id, Age::Remembered).await
            }
            Granted::Sibling(of) if of == id && right == Right::Read => {
                let group = find(groups, id, Age::Remembered).await?;
                if is_catching_up(&group, self.peer) {
                    return Ok(group);
                }
                Err(Refusal::new(
                    ErrorCode::NotAuthorised,
                    "the node has caught up",
                ))
            }
            Granted::Sibling(_) | Granted::Nothing => Err(Refusal::new(
                ErrorCode::NotAuthorised,
                "present a capability for the group first",
            )),
        }
    }

    /// The group, when the peer may read the shard. A node that catches up may not where the shard
    /// is one that it must have of itself: it could answer challenges from its siblings.
    pub(crate) async fn allow_shard<R: Runtime, N: Network, L: Ledger>(
        &self,
        core: &Core<R, N, L>,
        shard: ShardPlace,
    ) -> Result<Arc<Group>, Refusal> {
        let id = shard.slot.group;
        let group = self
            .allow(&core.groups, &core.runtime, (id, Right::Read))
            .await?;
        let must_have = |group: &Group| {
            self.granted == Granted::Sibling(id)
                && shard.segment.get() < core.proofs.owed_segments(group, self.peer)
        };
        if !must_have(&group) {
            return Ok(group);
        }
        let group = find(&core.groups, id, Age::Fresh).await?;
        if must_have(&group) {
            let text = "the node acknowledged the shard, or is to prove it";
            return Err(Refusal::new(ErrorCode::NotAuthorised, text));
        }
        Ok(group)
    }

    /// Whether the peer does what its deal in the group lets it do, and nothing else.
    pub(crate) fn is_sibling_of(&self, group: GroupId) -> bool {
        self.granted == Granted::Sibling(group)
    }

    /// Whether a segment record with that signer may be put.
    pub(crate) fn may_sign(&self, group: &Group, signer: PublicKey) -> bool {
        let holder = match self.granted {
            Granted::Link(link) => link.right == Right::Write && link.holder == signer,
            Granted::Nothing | Granted::Sibling(_) => false,
        };
        holder || signer == group.owner.key()
    }
}

/// A group that the ledger has, with its slots drawn.
pub(crate) async fn find<R: Runtime, L: Ledger>(
    groups: &Groups<R, L>,
    id: GroupId,
    age: Age,
) -> Result<Arc<Group>, Refusal> {
    let unknown = || Refusal::new(ErrorCode::UnknownGroup, format!("group {id}"));
    let view = |age| async move {
        let group = groups.get(id, age).await;
        group.map_err(|error| {
            tracing::debug!(group = %id, %error, "the ledger does not answer");
            Refusal::new(ErrorCode::Busy, "the ledger does not answer")
        })
    };
    let group = view(age).await?.ok_or_else(unknown)?;
    if group.is_placed() || age == Age::Fresh {
        return Ok(group);
    }
    view(Age::Fresh).await?.ok_or_else(unknown)
}

const fn code_of(error: &CapabilityError) -> ErrorCode {
    match error {
        CapabilityError::Expired { .. } => ErrorCode::CapabilityExpired,
        CapabilityError::Length { .. }
        | CapabilityError::Signature { .. }
        | CapabilityError::Wider { .. }
        | CapabilityError::Scope { .. }
        | CapabilityError::Right { .. }
        | CapabilityError::Holder { .. } => ErrorCode::NotAuthorised,
    }
}
