//! The engine's block: an application's bytes with the links that the engine needs.
//!
//! ```text
//! height u64 BE | digest of the parent 32 | length varint | bytes
//! ```

use bytes::{BufMut, Bytes};
use commonware_codec::{
    Buf, Encode as _, EncodeSize, Error, FixedSize as _, RangeCfg, Read, ReadExt as _, Write,
};
use commonware_consensus::types::Height;
use commonware_consensus::{Block as ConsensusBlock, BoundedBlock, Heightable};
use commonware_cryptography::{Blake3, Digestible, Hasher as _, blake3};

pub(crate) type Digest = blake3::Digest;

/// Most bytes of the length before a block's bytes.
const LENGTH_BYTES_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) height: u64,
    pub(crate) parent: Digest,
    pub(crate) bytes: Bytes,
}

/// Most application bytes of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BytesMax(pub(crate) usize);

impl Block {
    pub(crate) fn genesis(bytes: &[u8]) -> Self {
        Self {
            height: 0,
            parent: Digest::from([0; 32]),
            bytes: Bytes::copy_from_slice(bytes),
        }
    }
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.height.write(buf);
        self.parent.write(buf);
        self.bytes.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        self.height
            .encode_size()
            .saturating_add(self.parent.encode_size())
            .saturating_add(self.bytes.encode_size())
    }
}

impl Read for Block {
    type Cfg = BytesMax;

    fn read_cfg(buf: &mut impl Buf, max: &BytesMax) -> Result<Self, Error> {
        Ok(Self {
            height: u64::read(buf)?,
            parent: Digest::read(buf)?,
            bytes: Bytes::read_cfg(buf, &RangeCfg::from(..=max.0))?,
        })
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        Blake3::hash(&[&self.encode()])
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        Height::new(self.height)
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.parent
    }
}

impl BoundedBlock for Block {
    fn max_encode_size(max: &BytesMax) -> usize {
        u64::SIZE
            .saturating_add(Digest::SIZE)
            .saturating_add(LENGTH_BYTES_MAX)
            .saturating_add(max.0)
    }
}
