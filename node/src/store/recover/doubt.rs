//! What a crash or a bad disk leaves doubtful: the last batch of a pack, and what can't be read.

use std::collections::BTreeSet;

use cairn_runtime::{Disk, DiskError};

use super::super::format::PackEntry;
use super::super::index::Entry;
use super::super::walk::{Walk, is_whole};
use super::{Dead, Recovery};

/// What of the last batch of a pack does not count, by the offsets of its headers.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// A crash left it unfinished: its bytes were read and are wrong.
    pub(super) torn: BTreeSet<u32>,
    /// The disk can't read it, which says nothing about what was promised.
    pub(super) unreadable: BTreeSet<u32>,
}

impl<D: Disk> Recovery<'_, D> {
    /// A pack whose last batch is as doubtful as that of the newest one, but that nothing is cut
    /// off: the disk could not read all of it when it was the newest.
    pub(super) fn take_suspect(
        &mut self,
        number: u32,
        walk: &Walk,
        tail: &Tail,
        dead: &Dead,
    ) -> Result<(), DiskError> {
        self.report.strange_page_count += walk.strange_pages;
        let entries: Vec<PackEntry> = walk.headers.iter().map(PackEntry::from).collect();
        self.take_pack(number, &entries, tail, dead)?;
        if !walk.is_readable || !tail.unreadable.is_empty() {
            self.note_unreadable(number, walk);
        }
        Ok(())
    }

    /// Remembers that shards of a pack may be hidden. No number of theirs is given again: they
    /// would count before newer shards, and despite a drop, once they can be read.
    pub(super) fn note_unreadable(&mut self, number: u32, walk: &Walk) {
        let last = walk.headers.iter().map(|header| header.sequence).max();
        let hidden = u64::from(walk.strange_pages);
        self.sequence = self.sequence.max(last.unwrap_or(0)) + hidden;
        tracing::warn!(pack = number, "the disk can't read a part of a pack");
        self.report.unreadable_packs.push(number);
        self.index.has_hidden = true;
    }

    /// What of the shards that may not have been durable does not count.
    pub(super) fn judge_tail(&mut self, walk: &Walk, dead: &Dead) -> Tail {
        let certain = walk.durable_to();
        let mut tail = Tail::default();
        let doubtful = walk
            .headers
            .iter()
            .filter(|header| header.offset >= certain && !dead.offsets.contains(&header.offset));
        for header in doubtful {
            match is_whole(self.packs, &self.key, header) {
                Ok(true) => {}
                Ok(false) => {
                    tail.torn.insert(header.offset);
                }
                Err(error) => {
                    let (pack, offset) = (header.pack, header.offset);
                    tracing::warn!(pack, offset, %error, "a shard can't be read");
                    tail.unreadable.insert(header.offset);
                }
            }
        }
        let count = |offsets: &BTreeSet<u32>| u32::try_from(offsets.len()).unwrap_or(u32::MAX);
        self.report.torn_count += count(&tail.torn);
        self.report.unreadable_count += count(&tail.unreadable);
        tail
    }

    /// Whether the bytes of a shard are read and do not have its root.
    pub(super) fn is_wrong(&self, entry: &Entry) -> bool {
        let mut bytes = vec![0; super::super::format::index(entry.location.shard_bytes)];
        match self.packs.read_bytes(&entry.location, 0, &mut bytes) {
            Ok(()) => {
                !cairn_proofs::hash_shard(&bytes).is_ok_and(|hashed| hashed.root == entry.root)
            }
            Err(error) => {
                // The first read that needs it says so again, and leaves it where it is.
                tracing::warn!(%error, "a shard can't be verified");
                false
            }
        }
    }
}
