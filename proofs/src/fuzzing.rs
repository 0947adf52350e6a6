//! What the fuzz targets of `fuzz/` call, and a test that calls it without a fuzzer.
//!
//! Each function asserts laws that hold for any input; it never returns that one failed.

#![expect(
    clippy::missing_panics_doc,
    reason = "panicking is how a fuzz target reports"
)]

use std::sync::LazyLock;

use cairn_core::message::ShardRange;
use cairn_core::{Digest, EpochNumber, Record, ShardRoot};

use crate::challenge::{Challenge, Draw};
use crate::proof::{Proof, verify};
use crate::prove::prove;
use crate::sample::{SampleNode, node, stream};
use crate::slice::{HashedShard, hash_shard, prove_range, verify_range, widen_to_blocks};
use crate::slot_tree::as_index;

/// A challenge and the one proof that answers it.
static ANSWERED: LazyLock<(Challenge, Vec<u8>)> = LazyLock::new(|| {
    let sample = SampleNode::small();
    let draw = Draw {
        seed: Digest::of(b"fuzzing"),
        node: node(),
        epoch: EpochNumber::new(9),
        sample_count: 6,
    };
    let challenge =
        Challenge::draw(&draw, &sample.acknowledged()).expect("slots that a ledger would have");
    let proof = prove(&challenge, &sample).expect("everything is kept");
    (challenge, proof.encode())
});

/// A proof from anyone: it decodes or not, holds or not, and no other proof holds than the one.
///
/// Input: a byte that chooses; then the encoding itself, or edits of the valid encoding (place
/// `u16`, byte), which reach deeper than bytes from nowhere.
pub fn proof_verify(input: &[u8]) {
    let (challenge, valid) = &*ANSWERED;
    let bytes = match input.split_first() {
        Some((choice, rest)) if choice % 4 != 0 => edited(valid, rest),
        Some((_, rest)) => rest.to_vec(),
        None => Vec::new(),
    };
    let Ok(proof) = Proof::decode(&bytes) else {
        assert_ne!(&bytes, valid, "the valid proof must decode");
        return;
    };
    assert_eq!(proof.encode(), bytes, "a proof has one encoding");
    let holds = verify(challenge, &proof).is_ok();
    assert_eq!(holds, &bytes == valid, "one proof holds and no other");
}

/// Bytes and proof of a range from anyone: they hold when they are the shard's and not otherwise.
///
/// Input: shard bytes, offset, length (`u32` each, reduced to what there is), a byte that chooses
/// which of bytes and proof is edited, edits.
pub fn range_verify(input: &[u8]) {
    let Some((head, rest)) = input.split_first_chunk::<12>() else {
        return;
    };
    let number = |at: usize| {
        let bytes = head[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let raw = ShardRange {
        offset: number(4),
        bytes: number(8),
    };
    // Whatever the numbers are, refusing them is all that happens.
    let nothing = ShardRoot::default();
    assert!(verify_range(nothing, number(0), raw, rest, rest).is_err());

    let size = 1 + number(0) % 70_000;
    let shard = stream("range", size);
    let HashedShard { root, outboard } = hash_shard(&shard).expect("a size in range");
    let offset = raw.offset % size;
    let asked = ShardRange {
        offset,
        bytes: 1 + raw.bytes % (size - offset),
    };
    let range = widen_to_blocks(size, asked).expect("a range within");
    let part = |range: ShardRange| {
        let start = as_index(range.offset);
        shard.get(start..start + as_index(range.bytes)).ok_or(())
    };
    let proof = prove_range(size, range, &outboard, part).expect("the shard is at hand");
    let bytes = part(range).expect("a range within");
    let (sent, sent_proof) = match rest.split_first() {
        Some((choice, edits)) if choice % 2 == 0 => {
            (edited(bytes, edits), proof.as_bytes().to_vec())
        }
        Some((_, edits)) => (bytes.to_vec(), edited(proof.as_bytes(), edits)),
        None => (bytes.to_vec(), proof.as_bytes().to_vec()),
    };
    let same = sent == bytes && sent_proof == proof.as_bytes();
    let holds = verify_range(root, size, range, &sent, &sent_proof).is_ok();
    assert_eq!(holds, same, "the shard's own bytes hold and no others");
}

/// `valid` with edits: place `u16`, byte to exclude-or; a place past the end cuts or extends.
fn edited(valid: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    let (edits, _) = edits.as_chunks::<3>();
    for &[low, high, with] in edits {
        let place = usize::from(u16::from_le_bytes([low, high]));
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= with;
        } else if with % 2 == 0 {
            bytes.pop();
        } else {
            bytes.push(with);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of each target: enough to reach every refusal, few enough for every run.
    const INPUTS: u32 = 4_000;

    fn inputs() -> impl Iterator<Item = Vec<u8>> {
        (0..INPUTS).map(|number| stream(&format!("input {number}"), number % 61))
    }

    #[test]
    fn proofs_from_anyone() {
        let (_, valid) = &*ANSWERED;
        proof_verify(&[1]);
        proof_verify(&[&[0], &valid[..]].concat());
        inputs().for_each(|input| proof_verify(&input));
        // One edit at every place.
        for place in 0..u16::try_from(valid.len()).unwrap() {
            let [low, high] = place.to_le_bytes();
            proof_verify(&[1, low, high, 1 << (place % 8)]);
        }
    }

    #[test]
    fn ranges_from_anyone() {
        inputs().for_each(|input| range_verify(&input));
    }
}
