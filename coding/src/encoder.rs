//! Encoding a segment a range of columns at a time.

use std::borrow::Cow;
use std::ops::Range;

use cairn_core::SlotIndex;

use crate::coder::Coder;
use crate::error::EncodeError;
use crate::payload::Payload;

/// Encodes one segment column range by column range, made by [`Coder::encoder`].
///
/// *Memory*: (n - k) x width bytes for the parity of one range, which each range reuses, and
/// [`crate::SCRATCH_BYTES_MAX`]; the payload is borrowed. At 20-of-40 and a width of 64 KiB that is
/// 1.4 MiB beside a payload of up to 20 MiB, instead of 20 MiB for all parity shards.
///
/// *Order*: ranges rise from 0, are `width` long but for the last, and cover every column once.
#[derive(Debug)]
pub struct Encoder<'a> {
    coder: Coder,
    payload: Payload<'a>,
    width: usize,
    next_column: usize,
    parity: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(coder: Coder, payload: &'a [u8], width: usize) -> Result<Self, EncodeError> {
        let payload = coder.payload(payload)?;
        if width == 0 {
            return Err(EncodeError::Width);
        }
        let width = width.min(payload.shard_bytes);
        let parity = vec![0; width * coder.code().parity_count()];
        Ok(Self {
            coder,
            payload,
            width,
            next_column: 0,
            parity,
        })
    }

    /// Bytes of each shard: columns in all.
    #[must_use]
    pub fn shard_bytes(&self) -> usize {
        self.payload.shard_bytes
    }

    /// Encodes the next range of columns; `None` after the last. It is not an [`Iterator`] because
    /// each range is lent from the encoder's one buffer.
    pub fn next_columns(&mut self) -> Option<EncodedColumns<'_>> {
        let end = self.payload.shard_bytes.min(self.next_column + self.width);
        let columns = self.next_column..end;
        if columns.is_empty() {
            return None;
        }
        let mut parity: Vec<&mut [u8]> = self
            .parity
            .chunks_exact_mut(self.width)
            .map(|row| &mut row[..columns.len()])
            .collect();
        self.coder
            .encode_checked(self.payload, &columns, &mut parity);
        self.next_column = end;
        Some(EncodedColumns {
            encoder: self,
            columns,
        })
    }
}

/// One range of columns of every shard of a segment.
#[derive(Debug)]
pub struct EncodedColumns<'a> {
    encoder: &'a Encoder<'a>,
    columns: Range<usize>,
}

impl EncodedColumns<'_> {
    /// Which bytes of each shard these are.
    #[must_use]
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// These bytes of the shard of `slot`; `None` past n. Copied only where a data shard has to be
    /// padded.
    #[must_use]
    pub fn shard(&self, slot: SlotIndex) -> Option<Cow<'_, [u8]>> {
        let Encoder {
            coder,
            payload,
            width,
            parity,
            ..
        } = self.encoder;
        let data_count = coder.code().data_count();
        let Some(row) = slot.index().checked_sub(data_count) else {
            return Some(payload.padded(slot, &self.columns));
        };
        let row = parity.chunks_exact(*width).nth(row)?;
        Some(Cow::Borrowed(&row[..self.columns.len()]))
    }
}

#[cfg(test)]
mod tests;
