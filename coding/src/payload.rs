//! A payload seen as its data shards.

use std::borrow::Cow;
use std::ops::Range;

use cairn_core::SlotIndex;

/// A segment's payload and the size of its shards: data shard i is bytes [i s, (i + 1) s), and
/// what lies past the end of the payload is zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) shard_bytes: usize,
}

impl<'a> Payload<'a> {
    /// `columns` of the shard of data slot `slot`, as far as the payload reaches.
    pub(crate) fn part(&self, slot: SlotIndex, columns: &Range<usize>) -> &'a [u8] {
        let shard_start = slot.index() * self.shard_bytes;
        let start = (shard_start + columns.start).min(self.bytes.len());
        let end = (shard_start + columns.end).min(self.bytes.len());
        &self.bytes[start..end]
    }

    /// [`Self::part`], followed by zeros if the payload does not reach; copied only then.
    pub(crate) fn padded(&self, slot: SlotIndex, columns: &Range<usize>) -> Cow<'a, [u8]> {
        let part = self.part(slot, columns);
        if part.len() == columns.len() {
            return Cow::Borrowed(part);
        }
        let mut padded = part.to_vec();
        padded.resize(columns.len(), 0);
        Cow::Owned(padded)
    }
}
