//! What the client library's errors are to this program: exit codes by whose fault it is.

use cairn_client::owner::{CloseError, OpenGroupError, RemoveError, ReviseError};
use cairn_client::read::{MissingSlot, ReadError};
use cairn_client::upload::UploadError;
use cairn_core::{Blame, Retry};

use crate::failure::{Failure, FailureKind};

/// Longest line about one slot: what matters comes first.
const DETAIL_CHARS_MAX: usize = 200;

/// The failure of a library's error, when it is not this machine's disk.
fn by_blame(error: impl Into<anyhow::Error>, blame: Blame, retry: Retry) -> Failure {
    let failure = Failure::new(FailureKind::of(blame), error);
    match retry {
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
        by_blame(error, blame, retry)
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
        Self::say(FailureKind::of(blame), text)
            .details(details)
            .hint("cairn stat LINK shows how the slots stand; nodes that are back bring it back")
    }
}

/// One slot that did not give its bytes, on one line.
fn missing_slot(missing: &MissingSlot) -> String {
    let node = missing
        .node
        .map(|node| node.to_string())
        .unwrap_or_default();
    let mut text = format!("slot {} on {node:.8}: {}", missing.slot, missing.failure);
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
