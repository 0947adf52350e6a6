//! What the client library's errors are to this program: exit codes by whose fault it is.

use std::fmt;

use cairn_client::owner::{CloseError, OpenGroupError, RemoveError, ReviseError};
use cairn_client::read::{MissingSlot, ReadError, SlotReadFailure};
use cairn_client::upload::{NotDurable, PutFailure, UploadError};
use cairn_core::{Blame, ErrorCode, NodeId, Retry, SlotIndex};
use cairn_ledger::LedgerError;
use cairn_net::data::DataError;

use crate::failure::{Failure, FailureKind};

/// For when nodes say that a right ended which was given a moment ago.
const CLOCK_HINT: &str =
    "nodes say that the right to this has expired: is the clock of this machine right? date --utc";
/// Longest line about one slot: what matters comes first.
const DETAIL_CHARS_MAX: usize = 200;

/// The failure of a library's error, when it is not this machine's disk.
fn by_blame(error: impl Into<anyhow::Error>, blame: Blame, retry: Retry) -> Failure {
    let failure = Failure::new(FailureKind::of(blame), error);
    match retry {
        Retry::Later if blame == Blame::World => {
            failure.hint("is the network running, and this machine connected? then try again later")
        }
        Retry::Later => failure.hint("try again later"),
        Retry::Never | Retry::Elsewhere => failure,
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        let is_disk = match &error {
            UploadError::Source(_) | UploadError::Book(_) => true,
            UploadError::Group(error) => is_disk_group(error),
            UploadError::Revise(error) => is_disk_revise(error),
            UploadError::NotDurable(_)
            | UploadError::Locked
            | UploadError::Memory(_)
            | UploadError::TooManyEntries { .. }
            | UploadError::IndexTooLarge { .. }
            | UploadError::PathTwice { .. }
            | UploadError::Internal(_) => false,
        };
        if is_disk {
            return Self::new(FailureKind::Storage, error);
        }
        let (blame, retry) = (error.blame(), error.retry());
        match &error {
            UploadError::NotDurable(cause) => not_durable(cause, blame),
            UploadError::Group(OpenGroupError::TooFewNodes { .. }) => by_blame(error, blame, retry)
                .hint("more nodes must join, or --profile name one that needs fewer: dev4 needs 4"),
            _ => by_blame(error, blame, retry),
        }
    }
}

impl From<CloseError> for Failure {
    fn from(error: CloseError) -> Self {
        let is_disk = match &error {
            CloseError::Revise(error) => is_disk_revise(error),
            CloseError::Book(_) => true,
        };
        if is_disk {
            return Self::new(FailureKind::Storage, error);
        }
        let (blame, retry) = (error.blame(), error.retry());
        by_blame(error, blame, retry)
    }
}

impl From<RemoveError> for Failure {
    fn from(error: RemoveError) -> Self {
        let is_disk = match &error {
            RemoveError::Book(_) => true,
            RemoveError::Group { cause, .. } => is_disk_group(cause),
            RemoveError::Revise(error) => is_disk_revise(error),
            RemoveError::NotTheOwner { .. } | RemoveError::Read(_) => false,
        };
        if is_disk {
            return Self::new(FailureKind::Storage, error);
        }
        if let RemoveError::Read(cause) = error {
            return Self::from(*cause).while_doing("what the link names can't be listed");
        }
        let (blame, retry) = (error.blame(), error.retry());
        by_blame(error, blame, retry)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (blame, retry) = (error.blame(), error.retry());
        let ReadError::TooFewSlots {
            group,
            segment,
            expected,
            needed,
            missing,
            ..
        } = &error
        else {
            return by_blame(error, blame, retry);
        };
        let text = format!(
            "segment {segment} of group {group}: {} of {expected} slots missing, {needed} needed",
            missing.len()
        );
        let details = missing.iter().map(missing_slot).collect();
        let hint = if missing.iter().any(|slot| has_expired(&slot.failure)) {
            CLOCK_HINT
        } else if missing.iter().all(|slot| has_no_shard(&slot.failure)) {
            "nodes that answer do not have it: it was deleted, or its upload never ended"
        } else {
            "cairn stat LINK shows how the slots stand; nodes that are back bring it back"
        };
        Self::say(FailureKind::of(blame), text)
            .details(details)
            .hint(hint)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let (blame, retry) = (error.blame(), error.retry());
        match &error {
            LedgerError::Forgotten { oldest, found } => {
                let text = format!("the ledger no longer remembers block {found}");
                Self::say(FailureKind::NotSo, text)
                    .hint(format!("blocks are remembered from height {oldest} on"))
            }
            _ => by_blame(error, blame, retry),
        }
    }
}

/// A segment that too few nodes took.
fn not_durable(error: &NotDurable, blame: Blame) -> Failure {
    let text = format!(
        "segment {} of group {}: {} of {} receipts needed",
        error.segment, error.group, error.found, error.expected
    );
    let details = error
        .failures
        .iter()
        .map(|failed| slot_detail(failed.slot, failed.node, &failed.failure));
    let failure = Failure::say(FailureKind::of(blame), text).details(details.collect());
    let expired = |failure: &PutFailure| matches!(failure, PutFailure::Data(error) if code(error) == Some(ErrorCode::CapabilityExpired));
    if error.failures.iter().any(|failed| expired(&failed.failure)) {
        failure.hint(CLOCK_HINT)
    } else {
        failure
    }
}

/// The code that a node answered with.
const fn code(error: &DataError) -> Option<ErrorCode> {
    match error {
        DataError::Remote { code, .. } => Some(*code),
        _ => None,
    }
}

fn has_expired(failure: &SlotReadFailure) -> bool {
    matches!(failure, SlotReadFailure::Data(error) if code(error) == Some(ErrorCode::CapabilityExpired))
}

/// Whether the node answered that it does not have the shard.
pub(crate) fn has_no_shard(failure: &SlotReadFailure) -> bool {
    matches!(failure, SlotReadFailure::Data(error) if code(error) == Some(ErrorCode::NoSuchShard))
}

fn missing_slot(missing: &MissingSlot) -> String {
    slot_detail(missing.slot, missing.node, &missing.failure)
}

/// One slot that did not do its part, on one line.
fn slot_detail(slot: SlotIndex, node: Option<NodeId>, failure: &impl fmt::Display) -> String {
    let node = node.map(|node| node.to_string()).unwrap_or_default();
    // The node's id in full is known from `cairn stat`.
    let failure = failure
        .to_string()
        .replace(&node, node.get(..8).unwrap_or_default());
    let mut text = format!("slot {slot} on {node:.8}: {failure}");
    if let Some((end, _)) = text.char_indices().nth(DETAIL_CHARS_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

const fn is_disk_group(error: &OpenGroupError) -> bool {
    matches!(error, OpenGroupError::Book(_))
}

const fn is_disk_revise(error: &ReviseError) -> bool {
    match error {
        ReviseError::Group(error) => is_disk_group(error),
        ReviseError::Book { .. } => true,
        ReviseError::Ledger { .. } | ReviseError::Contended { .. } => false,
    }
}
