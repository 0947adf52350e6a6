//! Proposals that may become final: what is in them is not to be put into one above them.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::{Digest, TxId, UnixMillis};
use cairn_ledger::tx::tx_id;

use super::proposal::Proposal;

/// Most proposals remembered: far more than are open while blocks become final.
const COUNT_MAX: usize = 256;

/// Proposals from the last final one on that were made, voted on or built on here. One that is
/// missing costs a transaction that is put into two blocks and refused in the second.
#[derive(Debug, Default)]
pub(super) struct OpenBlocks {
    by_digest: BTreeMap<Digest, OpenBlock>,
    /// The same by height, to forget them.
    heights: BTreeSet<(u64, Digest)>,
}

#[derive(Debug)]
struct OpenBlock {
    parent: Digest,
    time: UnixMillis,
    txs: Vec<TxId>,
}

/// Where a proposal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) height: u64,
    /// Digest of its own bytes.
    pub(super) digest: Digest,
    /// Digest of the parent's bytes.
    pub(super) parent: Digest,
}

impl OpenBlocks {
    /// Remembers a proposal.
    pub(super) fn note(&mut self, place: Place, proposal: &Proposal) {
        let open = OpenBlock {
            parent: place.parent,
            time: proposal.time,
            txs: proposal.txs.iter().map(tx_id).collect(),
        };
        self.by_digest.insert(place.digest, open);
        self.heights.insert((place.height, place.digest));
        while self.heights.len() > COUNT_MAX {
            self.forget_first();
        }
    }

    /// The time of a proposal that is remembered.
    pub(super) fn time(&self, digest: Digest) -> Option<UnixMillis> {
        self.by_digest.get(&digest).map(|open| open.time)
    }

    /// The transactions of a proposal and of the open ones below it.
    pub(super) fn above(&self, tip: Digest) -> BTreeSet<TxId> {
        let mut txs = BTreeSet::new();
        let mut next = self.by_digest.get(&tip);
        while let Some(block) = next {
            txs.extend(block.txs.iter().copied());
            next = self.by_digest.get(&block.parent);
        }
        txs
    }

    /// Forgets what is below the last final height: nothing is built on it any more.
    pub(super) fn forget_below(&mut self, height: u64) {
        while self
            .heights
            .first()
            .is_some_and(|(first, _)| *first < height)
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, digest)) = self.heights.pop_first() {
            self.by_digest.remove(&digest);
        }
    }
}
