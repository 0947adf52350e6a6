//! The coder of one code: encode, decode, reconstruct, verify.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cairn_core::code::SHARD_BYTES_MAX;
use cairn_core::{Code, SlotIndex};

use crate::columns;
use crate::encoder::Encoder;
use crate::error::{DecodeError, EncodeError, ReconstructError, VerifyError};
use crate::kernel::Kernel;
use crate::matrix::Matrix;
use crate::payload::Payload;
use crate::plan::{self, Plan};
use crate::plan_cache::PlanCache;

/// Columns that [`Coder::verify`] compares at a time.
const VERIFY_COLUMNS: usize = 16 << 10;

/// Encodes and reconstructs the segments of one code.
///
/// Clones are cheap and share what has been prepared. Making one computes the code's matrices,
/// from microseconds at 4-of-8 to a millisecond at 64-of-128, so keep it. All methods may be called
/// from many threads at once.
#[derive(Clone)]
pub struct Coder {
    inner: Arc<Inner>,
}

struct Inner {
    code: Code,
    kernel: Kernel,
    generator: Matrix,
    encode: Plan,
    plans: PlanCache,
}

impl Coder {
    /// The coder of `code` on the fastest kernel of this processor.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self::with_kernel(code, Kernel::best())
    }

    /// The coder of `code` on a given kernel: for tests and measurements. The results are the same.
    #[must_use]
    pub fn with_kernel(code: Code, kernel: Kernel) -> Self {
        let generator = Matrix::generator(code);
        let rows = code.data_count()..code.shard_count();
        let rows: Vec<&[u8]> = rows.map(|index| generator.row(index)).collect();
        let encode = Plan::new(kernel, &rows);
        Self {
            inner: Arc::new(Inner {
                code,
                kernel,
                generator,
                encode,
                plans: PlanCache::default(),
            }),
        }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// The kernel in use.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.inner.kernel
    }

    /// Largest payload of a segment under this code: k shards of [`SHARD_BYTES_MAX`].
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        let shard_bytes_max = usize::try_from(SHARD_BYTES_MAX).unwrap_or(usize::MAX);
        self.code().data_count().saturating_mul(shard_bytes_max)
    }

    /// Bytes of each shard of a segment of `payload_bytes`: as [`Code::shard_bytes`].
    ///
    /// # Errors
    ///
    /// [`EncodeError::PayloadBytes`] unless 1 <= `payload_bytes` <= [`Self::payload_bytes_max`].
    pub fn shard_bytes(&self, payload_bytes: usize) -> Result<usize, EncodeError> {
        let expected_max = self.payload_bytes_max();
        if payload_bytes == 0 || payload_bytes > expected_max {
            return Err(EncodeError::PayloadBytes {
                expected_max,
                found: payload_bytes,
            });
        }
        Ok(payload_bytes.div_ceil(self.code().data_count()))
    }

    /// Where the shard of a data slot lies in a payload of `payload_bytes`; what a range of fewer
    /// than [`Self::shard_bytes`] bytes lacks at its end is zeros. For callers that share the
    /// payload's buffer instead of borrowing it.
    ///
    /// # Errors
    ///
    /// [`EncodeError::PayloadBytes`]; [`EncodeError::SlotRange`] unless `slot` is below k.
    pub fn data_range(
        &self,
        payload_bytes: usize,
        slot: SlotIndex,
    ) -> Result<Range<usize>, EncodeError> {
        let shard_bytes = self.shard_bytes(payload_bytes)?;
        if slot.index() >= self.code().data_count() {
            return Err(EncodeError::SlotRange {
                slot,
                code: self.code(),
            });
        }
        let start = (slot.index() * shard_bytes).min(payload_bytes);
        Ok(start..(start + shard_bytes).min(payload_bytes))
    }

    /// The shard of a data slot: a part of the payload, copied only if it has to be padded.
    ///
    /// # Errors
    ///
    /// [`EncodeError::PayloadBytes`]; [`EncodeError::SlotRange`] unless `slot` is below k.
    pub fn data_shard<'a>(
        &self,
        payload: &'a [u8],
        slot: SlotIndex,
    ) -> Result<Cow<'a, [u8]>, EncodeError> {
        // Checks the slot.
        self.data_range(payload.len(), slot)?;
        let payload = self.payload(payload)?;
        Ok(payload.padded(slot, &(0..payload.shard_bytes)))
    }

    /// Computes the parity shards of a segment: `parity[j]` is the shard of slot k + j.
    ///
    /// *Shape*: n - k buffers of [`Self::shard_bytes`] bytes each, whose content is overwritten.
    /// The payload is not copied and needs no padding: its end counts as followed by zeros.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; nothing was written then.
    pub fn encode<P: AsMut<[u8]>>(
        &self,
        payload: &[u8],
        parity: &mut [P],
    ) -> Result<(), EncodeError> {
        let shard_bytes = self.shard_bytes(payload.len())?;
        self.encode_columns(payload, 0..shard_bytes, parity)
    }

    /// Computes the byte range `columns` of every parity shard, as [`Self::encode`] does the whole.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; nothing was written then.
    pub fn encode_columns<P: AsMut<[u8]>>(
        &self,
        payload: &[u8],
        columns: Range<usize>,
        parity: &mut [P],
    ) -> Result<(), EncodeError> {
        let payload = self.payload(payload)?;
        check_columns(&columns, payload.shard_bytes)?;
        let mut outputs = outputs(parity, self.code().parity_count(), columns.len())?;
        self.encode_checked(payload, &columns, &mut outputs);
        Ok(())
    }

    /// [`Self::encode_columns`] on what has been checked.
    pub(crate) fn encode_checked(
        &self,
        payload: Payload<'_>,
        columns: &Range<usize>,
        parity: &mut [&mut [u8]],
    ) {
        let inputs = self.data_inputs(payload, columns);
        columns::apply(&self.inner.encode, &inputs, columns.len(), parity);
    }

    /// Computes some shards of a segment only, data or parity, each at its own cost: what a writer
    /// sends again after an interruption.
    ///
    /// *Shape*: `out[i]` is the shard of `wanted[i]`, of [`Self::shard_bytes`] bytes.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; nothing was written then.
    pub fn encode_slots<P: AsMut<[u8]>>(
        &self,
        payload: &[u8],
        wanted: &[SlotIndex],
        out: &mut [P],
    ) -> Result<(), EncodeError> {
        let payload = self.payload(payload)?;
        let shard_bytes = payload.shard_bytes;
        let code = self.code();
        if let Some(&slot) = wanted
            .iter()
            .find(|slot| slot.index() >= code.shard_count())
        {
            return Err(EncodeError::SlotRange { slot, code });
        }
        let all = 0..shard_bytes;
        let mut parity_slots = Vec::new();
        let mut parity = Vec::new();
        for (&slot, output) in wanted.iter().zip(outputs(out, wanted.len(), shard_bytes)?) {
            if slot.index() < code.data_count() {
                output.copy_from_slice(&payload.padded(slot, &all));
            } else {
                parity_slots.push(slot);
                parity.push(output);
            }
        }
        let sources: Vec<SlotIndex> = code.slots().take(code.data_count()).collect();
        let inputs = self.data_inputs(payload, &all);
        if !parity.is_empty() {
            let plan = self.plan(&sources, &parity_slots);
            columns::apply(&plan, &inputs, shard_bytes, &mut parity);
        }
        Ok(())
    }

    /// Encodes a segment a range of columns at a time: see [`Encoder`] for its memory.
    ///
    /// # Errors
    ///
    /// [`EncodeError::PayloadBytes`]; [`EncodeError::Width`] if `width` is 0.
    pub fn encoder<'a>(&self, payload: &'a [u8], width: usize) -> Result<Encoder<'a>, EncodeError> {
        Encoder::new(self.clone(), payload, width)
    }

    /// Computes the shards of `wanted` from any k others, or the same byte range of them.
    ///
    /// *Shape*: `present` has at least k different slots in any order, all slices of one length:
    /// whole shards, or the same range of each; of more than k, those of the lowest slots are used.
    /// `out[i]` is as long and gets the shard of `wanted[i]`, which may be any slot.
    ///
    /// The result is right only if the k shards used are: verify them first.
    ///
    /// # Errors
    ///
    /// [`ReconstructError`]; nothing was written then.
    pub fn reconstruct<P: AsMut<[u8]>>(
        &self,
        present: &[(SlotIndex, &[u8])],
        wanted: &[SlotIndex],
        out: &mut [P],
    ) -> Result<(), ReconstructError> {
        let sources = self.sorted(present, self.code().data_count())?;
        let shard_bytes = sources.first().map_or(0, |(_, bytes)| bytes.len());
        self.check_slots(wanted)?;
        if out.len() != wanted.len() {
            return Err(ReconstructError::OutputCount {
                expected: wanted.len(),
                found: out.len(),
            });
        }
        let mut outputs: Vec<&mut [u8]> = out.iter_mut().map(AsMut::as_mut).collect();
        for (&slot, output) in wanted.iter().zip(&outputs) {
            if output.len() != shard_bytes {
                return Err(ReconstructError::OutputBytes {
                    slot,
                    expected: shard_bytes,
                    found: output.len(),
                });
            }
        }
        self.apply(&sources, wanted, shard_bytes, &mut outputs);
        Ok(())
    }

    /// Computes the payload of a segment from any k of its shards.
    ///
    /// *Shape*: `present` as for [`Self::reconstruct`], whole shards; the length of `payload` is
    /// the segment record's `payload_bytes`. Data shards that are present are copied; only missing
    /// ones are computed.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; nothing was written then.
    pub fn decode(
        &self,
        present: &[(SlotIndex, &[u8])],
        payload: &mut [u8],
    ) -> Result<(), DecodeError> {
        let shard_bytes =
            self.shard_bytes(payload.len())
                .map_err(|_| DecodeError::PayloadBytes {
                    expected_max: self.payload_bytes_max(),
                    found: payload.len(),
                })?;
        if let Some((slot, bytes)) = present.iter().find(|(_, b)| b.len() != shard_bytes) {
            return Err(DecodeError::ShardBytes {
                slot: *slot,
                expected: shard_bytes,
                found: bytes.len(),
            });
        }
        let sources = self.sorted(present, self.code().data_count())?;
        let mut missing_slots = Vec::new();
        let mut missing = Vec::new();
        let mut present = sources.iter().peekable();
        // Data shards wholly of padding have no chunk.
        for (slot, chunk) in self.code().slots().zip(payload.chunks_mut(shard_bytes)) {
            if let Some((_, bytes)) = present.next_if(|(source, _)| *source == slot) {
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            } else {
                missing_slots.push(slot);
                missing.push(chunk);
            }
        }
        self.apply(&sources, &missing_slots, shard_bytes, &mut missing);
        Ok(())
    }

    /// Checks that more than k shards, or the same byte range of them, form a codeword: that the
    /// ones with the lowest slots make all others. If they do not and each matches its shard root,
    /// the writer encoded wrongly.
    ///
    /// *Memory*: up to 16 KiB for each shard above k, and the scratch.
    ///
    /// # Errors
    ///
    /// [`VerifyError::NotCodeword`] names the first shard that does not follow; at least k + 1
    /// shards are needed to say anything ([`ReconstructError::TooFewShards`]).
    pub fn verify(&self, present: &[(SlotIndex, &[u8])]) -> Result<(), VerifyError> {
        let k = self.code().data_count();
        let shards = self.sorted(present, k + 1)?;
        let shard_bytes = shards.first().map_or(0, |(_, bytes)| bytes.len());
        let (sources, others) = shards.split_at(k);
        let wanted: Vec<SlotIndex> = others.iter().map(|(slot, _)| *slot).collect();
        let mut buffers = vec![vec![0; VERIFY_COLUMNS.min(shard_bytes)]; wanted.len()];
        for start in (0..shard_bytes).step_by(VERIFY_COLUMNS) {
            let columns = start..shard_bytes.min(start + VERIFY_COLUMNS);
            let inputs: Vec<(SlotIndex, &[u8])> = sources
                .iter()
                .map(|(slot, bytes)| (*slot, &bytes[columns.clone()]))
                .collect();
            let mut outputs: Vec<&mut [u8]> = buffers
                .iter_mut()
                .map(|buffer| &mut buffer[..columns.len()])
                .collect();
            self.apply(&inputs, &wanted, columns.len(), &mut outputs);
            for ((slot, bytes), expected) in others.iter().zip(&outputs) {
                if let Some(column) = first_difference(&bytes[columns.clone()], expected) {
                    return Err(VerifyError::NotCodeword {
                        slot: *slot,
                        column: start + column,
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn payload<'a>(&self, bytes: &'a [u8]) -> Result<Payload<'a>, EncodeError> {
        let shard_bytes = self.shard_bytes(bytes.len())?;
        Ok(Payload { bytes, shard_bytes })
    }

    /// `columns` of each data shard as far as the payload reaches, k of them.
    fn data_inputs<'a>(&self, payload: Payload<'a>, columns: &Range<usize>) -> Vec<&'a [u8]> {
        let slots = self.code().slots().take(self.code().data_count());
        slots.map(|slot| payload.part(slot, columns)).collect()
    }

    fn check_slots(&self, slots: &[SlotIndex]) -> Result<(), ReconstructError> {
        let code = self.code();
        match slots.iter().find(|slot| slot.index() >= code.shard_count()) {
            Some(&slot) => Err(ReconstructError::SlotRange { slot, code }),
            None => Ok(()),
        }
    }

    /// Checks the shards given and puts them in slot order.
    fn sorted<'a>(
        &self,
        present: &[(SlotIndex, &'a [u8])],
        expected: usize,
    ) -> Result<Vec<(SlotIndex, &'a [u8])>, ReconstructError> {
        let mut sorted = present.to_vec();
        sorted.sort_unstable_by_key(|(slot, _)| *slot);
        let slots: Vec<SlotIndex> = sorted.iter().map(|(slot, _)| *slot).collect();
        self.check_slots(&slots)?;
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ReconstructError::DuplicateSlot { slot: pair[0] });
        }
        if sorted.len() < expected {
            return Err(ReconstructError::TooFewShards {
                expected,
                found: sorted.len(),
            });
        }
        let expected = present.first().map_or(0, |(_, bytes)| bytes.len());
        match present.iter().find(|(_, bytes)| bytes.len() != expected) {
            Some((slot, bytes)) => Err(ReconstructError::ShardBytes {
                slot: *slot,
                expected,
                found: bytes.len(),
            }),
            None => Ok(sorted),
        }
    }

    /// Computes the shards of `wanted` from the first k of `sorted`.
    fn apply(
        &self,
        sorted: &[(SlotIndex, &[u8])],
        wanted: &[SlotIndex],
        columns: usize,
        outputs: &mut [&mut [u8]],
    ) {
        if wanted.is_empty() {
            return;
        }
        let sources = sorted.iter().take(self.code().data_count());
        let (slots, inputs): (Vec<SlotIndex>, Vec<&[u8]>) = sources.copied().unzip();
        columns::apply(&self.plan(&slots, wanted), &inputs, columns, outputs);
    }

    /// The plan for `wanted` from `sources`, prepared now or before.
    fn plan(&self, sources: &[SlotIndex], wanted: &[SlotIndex]) -> Arc<Plan> {
        self.inner.plans.get_or_prepare(sources, wanted, || {
            let factors = plan::factors(&self.inner.generator, sources, wanted);
            let rows: Vec<&[u8]> = (0..factors.rows())
                .map(|index| factors.row(index))
                .collect();
            Plan::new(self.inner.kernel, &rows)
        })
    }
}

impl fmt::Debug for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coder")
            .field("code", &self.code())
            .field("kernel", &self.kernel())
            .finish_non_exhaustive()
    }
}

fn check_columns(columns: &Range<usize>, shard_bytes: usize) -> Result<(), EncodeError> {
    if columns.start > columns.end || columns.end > shard_bytes {
        return Err(EncodeError::Columns {
            shard_bytes,
            start: columns.start,
            end: columns.end,
        });
    }
    Ok(())
}

/// The caller's buffers, checked to be `count` of `bytes` each.
fn outputs<P: AsMut<[u8]>>(
    buffers: &mut [P],
    count: usize,
    bytes: usize,
) -> Result<Vec<&mut [u8]>, EncodeError> {
    if buffers.len() != count {
        return Err(EncodeError::OutputCount {
            expected: count,
            found: buffers.len(),
        });
    }
    let outputs: Vec<&mut [u8]> = buffers.iter_mut().map(AsMut::as_mut).collect();
    match outputs.iter().position(|output| output.len() != bytes) {
        Some(index) => Err(EncodeError::OutputBytes {
            index,
            expected: bytes,
            found: outputs[index].len(),
        }),
        None => Ok(outputs),
    }
}

fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    if left == right {
        return None;
    }
    left.iter()
        .zip(right)
        .position(|(left, right)| left != right)
}

#[cfg(test)]
mod tests;
