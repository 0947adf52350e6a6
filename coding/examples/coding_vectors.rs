//! Prints `tests/vectors/coding.json`, computed by `reed-solomon-erasure` alone: nothing of this
//! crate's own code takes part.
//!
//! `cargo run -p cairn-coding --example coding_vectors > tests/vectors/coding.json`

use std::io::{self, Write};

use data_encoding::HEXLOWER;
use reed_solomon_erasure::galois_8::ReedSolomon;
use serde::Serialize;

/// k, n and payload sizes: every profile, the extremes, and payloads that fill no shard, leave
/// data shards empty, end within a shard or fill all.
const CASES: [(usize, usize, &[usize]); 10] = [
    (1, 2, &[1, 1000]),
    (2, 4, &[1, 2, 3, 131_072]),
    (4, 8, &[1, 9, 4096, 65_551]),
    (16, 24, &[15, 16, 17, 100_000]),
    (20, 40, &[1, 19, 20, 21, 41, 20 * 4096, 1_310_719]),
    (40, 80, &[39, 40 * 129, 262_144]),
    (29, 80, &[28, 29 * 127, 300_001]),
    (127, 128, &[126, 127, 10_000]),
    (1, 128, &[7, 500]),
    (64, 128, &[65, 64 * 257]),
];
/// Codes whose parity rows are written out.
const ROWS_SHOWN: [(usize, usize); 4] = [(2, 4), (4, 8), (16, 24), (20, 40)];

#[derive(Serialize)]
struct Vectors {
    comment: &'static str,
    generators: Vec<Generator>,
    segments: Vec<Segment>,
}

/// Rows k.. of the generator matrix.
#[derive(Serialize)]
struct Generator {
    k: usize,
    n: usize,
    parity_rows: Vec<String>,
}

/// A payload and the BLAKE3 of each of its shards.
#[derive(Serialize)]
struct Segment {
    k: usize,
    n: usize,
    payload_seed: String,
    payload_bytes: usize,
    shard_bytes: usize,
    shard_roots: Vec<String>,
}

fn main() -> io::Result<()> {
    let mut segments = Vec::new();
    for (k, n, sizes) in CASES {
        for &payload_bytes in sizes {
            segments.push(segment(k, n, payload_bytes));
        }
    }
    let vectors = Vectors {
        comment: "docs/protocol/coding.md#vectors; made by coding/examples/coding_vectors.rs",
        generators: ROWS_SHOWN.map(|(k, n)| generator(k, n)).into(),
        segments,
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &vectors)?;
    writeln!(out)
}

fn generator(k: usize, n: usize) -> Generator {
    // Column i of data shard i is 1, all else 0: column i of parity shard j is factor (j, i).
    let mut data = vec![0; k * k];
    for index in 0..k {
        data[index * k + index] = 1;
    }
    let shards = encode(k, n, data);
    let parity_rows = shards[k..].iter().map(|row| HEXLOWER.encode(row));
    Generator {
        k,
        n,
        parity_rows: parity_rows.collect(),
    }
}

fn segment(k: usize, n: usize, payload_bytes: usize) -> Segment {
    let payload_seed = format!("cairn coding vector {k}-of-{n} {payload_bytes}");
    let mut payload = vec![0; payload_bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(payload_seed.as_bytes());
    hasher.finalize_xof().fill(&mut payload);
    let shards = encode(k, n, payload);
    let roots = shards.iter().map(|shard| blake3::hash(shard).to_string());
    Segment {
        k,
        n,
        payload_seed,
        payload_bytes,
        shard_bytes: shards[0].len(),
        shard_roots: roots.collect(),
    }
}

fn encode(k: usize, n: usize, mut payload: Vec<u8>) -> Vec<Vec<u8>> {
    let shard_bytes = payload.len().div_ceil(k);
    payload.resize(shard_bytes * k, 0);
    let mut shards: Vec<Vec<u8>> = payload.chunks(shard_bytes).map(<[u8]>::to_vec).collect();
    shards.resize(n, vec![0; shard_bytes]);
    let library = ReedSolomon::new(k, n - k).expect("a code the library has");
    library.encode(&mut shards).expect("n shards of one size");
    shards
}
