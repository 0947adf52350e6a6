//! What the peer of a data plane stream may do.
//!
//! Rules: a capability is checked once, when it is presented, against the owner that the ledger
//! has for its group; its expiry and scope on each request. A node that has a deal in the group
//! and has not caught up with its revision may read without one: it presents a capability that it
//! issued itself, which has no force of its own. A segment record counts when its signer is the
//! owner or the holder of the write capability presented, which is the peer.

use std::sync::Arc;

use cairn_core::{
    Capability, CapabilityError, CapabilityLink, ErrorCode, GroupId, NodeId, PublicKey, Right,
    Scope, UnixMillis,
};
use cairn_ledger::group::Group;
use cairn_ledger::port::Ledger;
use cairn_runtime::Runtime;

use crate::groups::{Age, Groups, is_catching_up};

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
