//! Reading: open a link, read ranges and whole files, verified.
//!
//! **Guarantees**: no byte is handed up that was not verified against the shard root in a record
//! that the owner signed, and then decrypted at its place (I2). A node that serves wrong bytes is
//! named in [`Client::faults`] and avoided. With any k slots of a group answering, every byte
//! comes; with fewer, [`ReadError::TooFewSlots`] says which are missing and why.
//!
//! **Costs**: a cold range of one frame is one request to one node, one round trip, and 64 KiB,
//! rounded to blocks, on the wire. A whole segment is k requests in parallel, each byte hashed
//! once and decrypted in place.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use cairn_core::{GroupId, NodeId, SegmentNumber, SlotIndex};
use cairn_ledger::Ledger;
use cairn_net::Network;
use cairn_runtime::Runtime;

use crate::client::Client;

mod error;
mod fetch;
mod file;
pub(crate) mod hedge;
mod open;
mod request;
mod stream;

pub use error::{MissingSlot, ReadError, SlotReadFailure};
pub use file::OpenFile;
pub use open::Opened;
pub use stream::{ByteStream, CopyError, TreeItem, TreeStream};

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
