//! The loop over columns: cuts long shards into blocks that stay in the cache.
//!
//! A block of every input is packed into a scratch buffer, then every group of output rows goes
//! over it. Packing costs one copy of the input; without it, shards whose starts are a power of two
//! apart fall into the same few cache sets, and each group of rows would fetch every input again
//! from further away. It also is where short inputs are padded with zeros. A plan of a single group
//! reads each input byte once and needs no packing.

use std::ops::Range;

use crate::plan::Plan;

/// Most memory a call takes beyond the caller's buffers, whatever the code and the shard size:
/// the packed block of all inputs, a block of one group's outputs, and their alignment. It fits
/// the L2 cache of current processors.
pub const SCRATCH_BYTES_MAX: usize = INPUT_BYTES_MAX + SPILL_BYTES_MAX + ALIGN;

/// Packed block of all inputs. A half of it costs 15 % at 20-of-40 with shards of 1 MiB, where
/// longer runs of each input make the processor fetch ahead.
const INPUT_BYTES_MAX: usize = 240 << 10;
/// Widest block.
const BLOCK_BYTES_MAX: usize = 16 << 10;
/// Block of one group's outputs that do not fit where they belong; see [`Targets`].
const SPILL_BYTES_MAX: usize = ROWS_MAX * BLOCK_BYTES_MAX;
/// Widest group of any kernel.
const ROWS_MAX: usize = 8;
/// A cache line, which packed vectors must not straddle.
const ALIGN: usize = 64;

/// Scratch of one call, allocated on first use.
#[derive(Default)]
struct Scratch {
    packed: Vec<u8>,
    spill: Vec<u8>,
}

/// Writes `plan`'s sums over `inputs` to `outputs` for the columns `0..columns`.
///
/// An input shorter than `columns` counts as padded with zeros; of an output shorter than
/// `columns` only what fits is written.
pub(crate) fn apply(plan: &Plan, inputs: &[&[u8]], columns: usize, outputs: &mut [&mut [u8]]) {
    assert_eq!(
        inputs.len(),
        plan.input_count(),
        "one input per factor of a row"
    );
    assert_eq!(outputs.len(), plan.output_count(), "one output per row");
    let step_bytes = plan.kernel().step_bytes();
    let block_bytes = block_bytes(inputs.len(), step_bytes);
    let mut scratch = Scratch::default();
    let mut start = 0;
    while start < columns {
        let width = block_bytes.min(columns - start);
        let block = start..start + width.next_multiple_of(step_bytes);
        apply_block(plan, inputs, &block, &mut scratch, outputs);
        start += width;
    }
}

/// Width of a block: as wide as the scratch allows, in whole steps.
fn block_bytes(input_count: usize, step_bytes: usize) -> usize {
    let widest = (INPUT_BYTES_MAX / input_count - 3 * ALIGN).min(BLOCK_BYTES_MAX);
    let whole = widest - widest % step_bytes;
    assert!(
        whole > 0,
        "128 inputs leave 1,728 bytes each, at least one step"
    );
    whole
}

/// [`apply`] for one block, which is whole steps and may reach past the end of the columns.
fn apply_block(
    plan: &Plan,
    inputs: &[&[u8]],
    block: &Range<usize>,
    scratch: &mut Scratch,
    outputs: &mut [&mut [u8]],
) {
    let read_in_place = plan.groups().len() == 1 && inputs.iter().all(|i| i.len() >= block.end);
    let lanes: Vec<&[u8]> = if read_in_place {
        inputs.iter().map(|input| &input[block.clone()]).collect()
    } else {
        pack(inputs, block, &mut scratch.packed)
    };
    let mut rest = outputs;
    for group in plan.groups() {
        let (group_outputs, others) = rest.split_at_mut(group.rows());
        rest = others;
        assert!(group.rows() <= ROWS_MAX, "a group's block fits the spill");
        let mut targets = Targets::new(group_outputs, block, &mut scratch.spill);
        group.run(&lanes, &mut targets.slices);
        targets.finish(block);
    }
}

/// Copies a block of every input to `buffer` and returns the copies.
fn pack<'a>(inputs: &[&[u8]], block: &Range<usize>, buffer: &'a mut Vec<u8>) -> Vec<&'a [u8]> {
    let pitch = pitch(block.len());
    let packed_bytes = inputs.len() * pitch;
    if buffer.len() < packed_bytes + ALIGN {
        buffer.resize(packed_bytes + ALIGN, 0);
    }
    let aligned = buffer.as_ptr().align_offset(ALIGN).min(ALIGN);
    let packed = &mut buffer[aligned..aligned + packed_bytes];
    let lanes = packed.chunks_exact_mut(pitch).zip(inputs);
    lanes
        .map(|(lane, input)| {
            let lane = &mut lane[..block.len()];
            copy_padded(lane, input, block.start);
            &*lane
        })
        .collect()
}

/// From one packed input to the next: an odd number of cache lines, so that the same column of
/// all inputs spreads over all sets of the cache.
fn pitch(block_bytes: usize) -> usize {
    block_bytes.next_multiple_of(2 * ALIGN) + ALIGN
}

/// Fills `lane` with what `input` has from `start` on, and zeros after it.
fn copy_padded(lane: &mut [u8], input: &[u8], start: usize) {
    let bytes = &input[start.min(input.len())..];
    let count = bytes.len().min(lane.len());
    lane[..count].copy_from_slice(&bytes[..count]);
    lane[count..].fill(0);
}

/// Where the rows of one group are written: in the output itself where it holds the whole block,
/// else in the spill, from which the part that fits is copied.
struct Targets<'a> {
    slices: Vec<&'a mut [u8]>,
    /// For each slice that lies in the spill: its index, and the output's part of the block.
    spilled: Vec<(usize, &'a mut [u8])>,
}

impl<'a> Targets<'a> {
    fn new(outputs: &'a mut [&mut [u8]], block: &Range<usize>, spill: &'a mut Vec<u8>) -> Self {
        let mut targets = Self {
            slices: Vec::with_capacity(outputs.len()),
            spilled: Vec::new(),
        };
        let spill_bytes = outputs.len() * block.len();
        if outputs.iter().any(|output| output.len() < block.end) && spill.len() < spill_bytes {
            spill.resize(spill_bytes, 0);
        }
        let mut spills = spill.chunks_exact_mut(block.len());
        for (index, output) in outputs.iter_mut().enumerate() {
            if output.len() >= block.end {
                targets.slices.push(&mut output[block.clone()]);
            } else {
                let start = block.start.min(output.len());
                targets.spilled.push((index, &mut output[start..]));
                let spill = spills
                    .next()
                    .expect("one chunk of the spill for each output");
                targets.slices.push(spill);
            }
        }
        targets
    }

    /// Copies from the spill what belongs in the outputs.
    fn finish(self, block: &Range<usize>) {
        for (index, output) in self.spilled {
            let count = output.len().min(block.len());
            output[..count].copy_from_slice(&self.slices[index][..count]);
        }
    }
}
