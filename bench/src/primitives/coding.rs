//! The erasure code: encode, decode with the worst loss, and rebuild one shard, beside BLAKE3 and
//! the library in the same run.

use std::time::Duration;

use anyhow::Result;
use cairn_coding::{Coder, Kernel};
use cairn_core::{Code, SlotIndex};
use reed_solomon_erasure::galois_8::ReedSolomon;

use super::gigabytes_per_second;
use crate::cpu_time::cpu_time_of;
use crate::report::Report;

/// k and n of the codes measured: the profiles.
const CODES: [(u8, u8); 5] = [(4, 8), (16, 24), (20, 40), (29, 80), (40, 80)];
const SHARD_SIZES: [usize; 2] = [64 << 10, 1 << 20];

/// One segment and what is derived from it.
struct Segment {
    code: Code,
    payload: Vec<u8>,
    shards: Vec<Vec<u8>>,
}

/// CPU time for one segment.
struct Times {
    encode: Duration,
    decode_worst: Duration,
    rebuild_one: Duration,
}

/// Every code and shard size on the fastest kernel, with the library and BLAKE3.
///
/// # Errors
///
/// If the coder refuses a measurement's own input.
pub fn codes() -> Result<Report> {
    let title = format!(
        "GB of payload per CPU-second, one thread, kernel {}; in brackets the library's \
         (reed-solomon-erasure 6, portable) and the factor over it",
        Kernel::best()
    );
    let mut report = Report::new(
        title,
        &[
            "code",
            "shard",
            "encode",
            "worst decode",
            "one lost",
            "BLAKE3",
            "encode / BLAKE3",
        ],
    );
    for shard_bytes in SHARD_SIZES {
        for (k, n) in CODES {
            let segment = Segment::new(Code::new(k, n)?, shard_bytes)?;
            report.push(segment.row(shard_bytes)?);
        }
    }
    Ok(report)
}

/// 20-of-40 on every kernel of this machine.
///
/// # Errors
///
/// If the coder refuses a measurement's own input.
pub fn kernels() -> Result<Report> {
    let mut report = Report::new(
        "20-of-40 by kernel, GB of payload per CPU-second",
        &["kernel", "shard", "encode", "worst decode", "one lost"],
    );
    for shard_bytes in SHARD_SIZES {
        let segment = Segment::new(Code::new(20, 40)?, shard_bytes)?;
        for kernel in Kernel::available() {
            let times = segment.times(&Coder::with_kernel(segment.code, kernel))?;
            let speed = |time| format!("{:.2}", segment.speed(time));
            report.push(vec![
                kernel.to_string(),
                format!("{} KiB", shard_bytes >> 10),
                speed(times.encode),
                speed(times.decode_worst),
                speed(times.rebuild_one),
            ]);
        }
    }
    Ok(report)
}

impl Segment {
    fn new(code: Code, shard_bytes: usize) -> Result<Self> {
        let mut payload = vec![0; shard_bytes * code.data_count()];
        blake3::Hasher::new().finalize_xof().fill(&mut payload);
        let mut shards = vec![vec![0; shard_bytes]; code.shard_count()];
        let slots: Vec<SlotIndex> = code.slots().collect();
        Coder::new(code).encode_slots(&payload, &slots, &mut shards)?;
        Ok(Self {
            code,
            payload,
            shards,
        })
    }

    fn speed(&self, time: Duration) -> f64 {
        gigabytes_per_second(self.payload.len(), time)
    }

    fn row(&self, shard_bytes: usize) -> Result<Vec<String>> {
        let blake3 = self.speed(cpu_time_of(|| {
            std::hint::black_box(blake3::hash(&self.payload));
        }));
        let ours = self.times(&Coder::new(self.code))?;
        let library = self.library_times()?;
        let cell = |ours, library| {
            let (ours, library) = (self.speed(ours), self.speed(library));
            format!("{ours:.2} ({library:.2}, {:.0}x)", ours / library)
        };
        let encode = self.speed(ours.encode);
        Ok(vec![
            self.code.to_string(),
            format!("{} KiB", shard_bytes >> 10),
            cell(ours.encode, library.encode),
            cell(ours.decode_worst, library.decode_worst),
            cell(ours.rebuild_one, library.rebuild_one),
            format!("{blake3:.2}"),
            format!("{:.2}", encode / blake3),
        ])
    }

    /// The shards of all slots but the first `lost`.
    fn present(&self, lost: usize) -> Vec<(SlotIndex, &[u8])> {
        let shards = self.code.slots().zip(self.shards.iter().map(Vec::as_slice));
        shards.skip(lost).collect()
    }

    /// Most data shards that may be lost.
    fn worst(&self) -> usize {
        self.code.parity_count().min(self.code.data_count())
    }

    fn times(&self, coder: &Coder) -> Result<Times> {
        let mut parity = self.shards[self.code.data_count()..].to_vec();
        let mut payload = self.payload.clone();
        let mut one = [self.shards[0].clone()];
        let (worst, one_lost) = (self.present(self.worst()), self.present(1));
        let wanted = [SlotIndex::new(0)];
        let mut failed = false;
        let encode = cpu_time_of(|| failed |= coder.encode(&self.payload, &mut parity).is_err());
        let decode_worst = cpu_time_of(|| failed |= coder.decode(&worst, &mut payload).is_err());
        let rebuild_one = cpu_time_of(|| {
            failed |= coder.reconstruct(&one_lost, &wanted, &mut one).is_err();
        });
        anyhow::ensure!(!failed, "the coder refused a measurement");
        anyhow::ensure!(payload == self.payload, "decoding gave another payload");
        Ok(Times {
            encode,
            decode_worst,
            rebuild_one,
        })
    }

    fn library_times(&self) -> Result<Times> {
        let library = ReedSolomon::new(self.code.data_count(), self.code.parity_count())?;
        let (data, parity) = self.shards.split_at(self.code.data_count());
        let mut parity = parity.to_vec();
        let mut failed = false;
        let encode = cpu_time_of(|| failed |= library.encode_sep(data, &mut parity).is_err());
        let mut reconstruct = |lost: usize| {
            let mut shards: Vec<(Vec<u8>, bool)> = self
                .shards
                .iter()
                .enumerate()
                .map(|(index, shard)| (shard.clone(), index >= lost))
                .collect();
            cpu_time_of(|| {
                for (index, (_, present)) in shards.iter_mut().enumerate() {
                    *present = index >= lost;
                }
                failed |= library.reconstruct_data(&mut shards).is_err();
            })
        };
        let (decode_worst, rebuild_one) = (reconstruct(self.worst()), reconstruct(1));
        anyhow::ensure!(!failed, "the library refused a measurement");
        Ok(Times {
            encode,
            decode_worst,
            rebuild_one,
        })
    }
}
