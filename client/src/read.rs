//! Reading: open a link, read ranges and whole files, verified.
//!
//! **Guarantees**: no byte is handed up that was not verified against the shard root in a record
//! that the owner signed, and then decrypted at its place (I2). A node that serves wrong bytes is
//! named in [`Client::faults`] and avoided. With any k slots of a group answering, every byte
//! comes; with fewer, [`ReadError::TooFewSlots`] says which are missing and why.
//!
//! **Costs**: a range is one round trip. 64 KiB from anywhere in a file cost one request to one
//! node, two at once across a border of shards or segments, and at most 1.2 times 64 KiB on the
//! wire: frames of 8 KiB, rounded to blocks of 1 KiB. A whole segment is k requests in parallel,
//! each byte hashed once and decrypted in place.
//!
//! ```
//! use cairn_client::{Client, Link, ReadError};
//! use cairn_core::{Blame, Retry};
//! # use cairn_ledger::Ledger;
//! # use cairn_net::Network;
//! # use cairn_runtime::Runtime;
//!
//! /// Counts the lines of a text of any length in bounded memory.
//! async fn count_lines<R: Runtime, N: Network, L: Ledger>(
//!     client: &Client<R, N, L>,
//!     link: &Link,
//! ) -> Result<usize, ReadError> {
//!     let opened = client.open(link).await?;
//!     let file = opened.file(b"notes/today.txt")?;
//!     let mut stream = file.stream(0, file.bytes())?;
//!     let mut lines = 0;
//!     while let Some(bytes) = stream.next().await? {
//!         lines += bytes.iter().filter(|byte| **byte == b'\n').count();
//!     }
//!     Ok(lines)
//! }
//!
//! /// What to tell the user: errors say whose fault it is and whether it may pass.
//! fn advice(error: &ReadError) -> String {
//!     if let ReadError::TooFewSlots { expected, missing, .. } = error {
//!         let nodes: Vec<String> = missing.iter().filter_map(|m| m.node).map(|n| n.to_string()).collect();
//!         return format!("{} of {expected} slots missing: {}", missing.len(), nodes.join(", "));
//!     }
//!     match (error.blame(), error.retry()) {
//!         (Blame::Caller, _) => format!("ask for another link: {error}"),
//!         (_, Retry::Never) => format!("give up: {error}"),
//!         (_, Retry::Later | Retry::Elsewhere) => format!("try again: {error}"),
//!     }
//! }
//! ```

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use cairn_core::{GroupId, NodeId, SegmentNumber, SlotIndex};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::client::Client;

mod error;
pub(crate) mod fetch;
mod file;
pub(crate) mod hedge;
mod open;
pub(crate) mod request;
mod stream;

pub use error::{MissingSlot, ReadError, SlotReadFailure};
pub use file::OpenFile;
pub use open::Opened;
pub use stream::{ByteStream, CopyError, READ_OUT_BYTES_MAX, TreeItem, TreeStream};

/// Most faults that are remembered; older ones are in the log.
const FAULTS_MAX: usize = 256;

/// A node that served something false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The node.
    pub node: NodeId,
    /// The group.
    pub group: GroupId,
    /// The slot that it served.
    pub slot: SlotIndex,
    /// The segment.
    pub segment: SegmentNumber,
    /// What was false.
    pub failure: SlotReadFailure,
}

/// The newest faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    newest: Mutex<VecDeque<Fault>>,
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() >= FAULTS_MAX {
            newest.pop_front();
        }
        newest.push_back(fault);
    }

    fn list(&self) -> Vec<Fault> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.iter().cloned().collect()
    }
}

impl<R: Runtime, N: Network, L: Ledger> Client<R, N, L> {
    /// Nodes that served something false, the newest last; at most 256 entries.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.faults.list()
    }
}
