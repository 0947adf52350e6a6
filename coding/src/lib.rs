//! Segment payload to shards and back: any k shards give any shard.
//!
//! The code is the systematic Reed-Solomon code over GF(2^8) of the crate `reed-solomon-erasure`,
//! fixed in docs/protocol/coding.md: data shard i is bytes [i s, (i + 1) s) of the payload padded
//! with zeros, and every parity shard is a sum of data shards with constant factors. Columns are
//! independent: byte b of any shard depends on byte b of any k others only, so everything here
//! works on whole shards and on the same byte range of shards alike.
//!
//! *Does*: encode ([`Coder::encode`], [`Encoder`]), decode ([`Coder::decode`]), reconstruct
//! ([`Coder::reconstruct`]) and check that shards belong together ([`Coder::verify`]).
//!
//! *Guarantees*: the result is the library's, bit for bit, whatever the processor
//! ([`Kernel`]); no result depends on which k shards were used, as long as they form a codeword;
//! memory beyond the caller's buffers is bounded by [`SCRATCH_BYTES_MAX`] per call and
//! [`PLANS_MAX`] prepared reconstructions per [`Coder`].
//!
//! *Assumes*: shards were verified against their shard roots before they come here. A wrong byte
//! going in gives wrong bytes out; only [`Coder::verify`] with more than k shards can tell.
//!
//! *Fails* with one comparable error type per operation; no input panics.
//!
//! Stability: draft.
//!
//! ```
//! use cairn_coding::Coder;
//! use cairn_core::{Code, SlotIndex};
//!
//! let coder = Coder::new(Code::new(2, 4)?);
//! let payload = b"every byte comes back";
//! let shard_bytes = coder.shard_bytes(payload.len())?;
//!
//! let mut parity = vec![vec![0; shard_bytes]; 2];
//! coder.encode(payload, &mut parity)?;
//!
//! // Both data shards are lost.
//! let present = [
//!     (SlotIndex::new(2), parity[0].as_slice()),
//!     (SlotIndex::new(3), parity[1].as_slice()),
//! ];
//! let mut found = vec![0; payload.len()];
//! coder.decode(&present, &mut found)?;
//! assert_eq!(found, payload);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod coder;
mod columns;
mod encoder;
mod error;
mod kernel;
mod matrix;
mod payload;
mod plan;
mod plan_cache;
#[cfg(target_arch = "x86_64")]
mod simd_avx2;
#[cfg(target_arch = "x86_64")]
mod simd_gfni256;
#[cfg(target_arch = "x86_64")]
mod simd_gfni512;
#[cfg(target_arch = "aarch64")]
mod simd_neon;

pub use coder::Coder;
pub use columns::SCRATCH_BYTES_MAX;
pub use encoder::{EncodedColumns, Encoder};
pub use error::{DecodeError, EncodeError, ReconstructError, VerifyError};
pub use kernel::Kernel;
pub use plan_cache::PLANS_MAX;
