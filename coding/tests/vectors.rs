//! The code against `tests/vectors/coding.json`, which the library alone has made.

use cairn_coding::{Coder, Kernel};
use cairn_core::{Code, Digest, SlotIndex};
use data_encoding::HEXLOWER;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    generators: Vec<Generator>,
    segments: Vec<Segment>,
}

#[derive(Deserialize)]
struct Generator {
    k: u8,
    n: u8,
    parity_rows: Vec<String>,
}

#[derive(Deserialize)]
struct Segment {
    k: u8,
    n: u8,
    payload_seed: String,
    payload_bytes: usize,
    shard_bytes: usize,
    shard_roots: Vec<String>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/coding.json"))
        .expect("the vectors have the shape written above")
}

fn payload(segment: &Segment) -> Vec<u8> {
    let mut payload = vec![0; segment.payload_bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(segment.payload_seed.as_bytes());
    hasher.finalize_xof().fill(&mut payload);
    payload
}

fn roots(shards: &[Vec<u8>]) -> Vec<String> {
    shards
        .iter()
        .map(|shard| Digest::of(shard).to_string())
        .collect()
}

#[test]
fn the_generators_have_the_rows_of_the_vectors() {
    let generators = vectors().generators;
    assert_eq!(generators.len(), 4);
    for Generator { k, n, parity_rows } in generators {
        let coder = Coder::new(Code::new(k, n).unwrap());
        let k = usize::from(k);
        // Column i of data shard i is 1, all else 0.
        let mut data = vec![0; k * k];
        for index in 0..k {
            data[index * k + index] = 1;
        }
        let mut parity = vec![vec![0; k]; parity_rows.len()];
        coder.encode(&data, &mut parity).unwrap();
        let found: Vec<String> = parity.iter().map(|row| HEXLOWER.encode(row)).collect();
        assert_eq!(found, parity_rows);
    }
}

#[test]
fn every_kernel_makes_the_shards_of_the_vectors() {
    let segments = vectors().segments;
    assert_eq!(segments.len(), 34);
    for segment in segments {
        let code = Code::new(segment.k, segment.n).unwrap();
        let payload = payload(&segment);
        let slots: Vec<SlotIndex> = code.slots().collect();
        for kernel in Kernel::available() {
            let coder = Coder::with_kernel(code, kernel);
            let mut shards = vec![vec![0; segment.shard_bytes]; slots.len()];
            coder.encode_slots(&payload, &slots, &mut shards).unwrap();
            assert_eq!(
                roots(&shards),
                segment.shard_roots,
                "{kernel}, {}",
                segment.payload_seed
            );

            // And back, from the last k.
            let present: Vec<(SlotIndex, &[u8])> = slots
                .iter()
                .zip(&shards)
                .skip(code.parity_count())
                .map(|(slot, shard)| (*slot, shard.as_slice()))
                .collect();
            let mut rebuilt = vec![vec![0; segment.shard_bytes]; slots.len()];
            coder.reconstruct(&present, &slots, &mut rebuilt).unwrap();
            assert_eq!(
                roots(&rebuilt),
                segment.shard_roots,
                "{kernel}, {}",
                segment.payload_seed
            );
        }
    }
}
