//! A trie's encoding, of which most is left out as a rule.
//!
//! ```text
//! trie    0 | 1 node
//! node    0 root 32
//!       | 1 key (u8 length) value (u32 LE length)
//!       | 2 bit u16 LE node node
//! ```

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_core::Digest;

use super::{Branch, Leaf, Node, Trie};

/// Longest key. It bounds how deep a trie is: a branch lies below another only by a later bit.
const KEY_BYTES_MAX: usize = 80;
/// Longest value that is read from elsewhere.
const VALUE_BYTES_MAX: u32 = 1 << 20;

const LEFT_OUT: u8 = 0;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;

impl BorshSerialize for Trie {
    fn serialize<W: Write>(&self, writer: &mut W) -> Result<()> {
        match &self.top {
            None => 0_u8.serialize(writer),
            Some(top) => {
                1_u8.serialize(writer)?;
                top.write(writer)
            }
        }
    }
}

impl BorshDeserialize for Trie {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self> {
        let top = match u8::deserialize_reader(reader)? {
            0 => None,
            1 => Some(Arc::new(Node::read(reader, None)?)),
            _ => return Err(malformed("a trie's tag")),
        };
        Ok(Self { top })
    }
}

impl Node {
    fn write<W: Write>(&self, writer: &mut W) -> Result<()> {
        match self {
            Self::LeftOut(root) => {
                LEFT_OUT.serialize(writer)?;
                root.serialize(writer)
            }
            Self::Leaf(leaf) => {
                LEAF.serialize(writer)?;
                let length = u8::try_from(leaf.key.len()).map_err(|_| malformed("a key"))?;
                length.serialize(writer)?;
                writer.write_all(&leaf.key)?;
                leaf.value.serialize(writer)
            }
            Self::Branch(branch) => {
                BRANCH.serialize(writer)?;
                branch.bit.serialize(writer)?;
                branch.left.write(writer)?;
                branch.right.write(writer)
            }
        }
    }

    /// A node below a branch of the bit `above`.
    fn read<R: Read>(reader: &mut R, above: Option<u16>) -> Result<Self> {
        match u8::deserialize_reader(reader)? {
            LEFT_OUT => Digest::deserialize_reader(reader).map(Self::LeftOut),
            LEAF => {
                let mut key = [0; KEY_BYTES_MAX];
                let length = usize::from(u8::deserialize_reader(reader)?);
                let key = key.get_mut(..length).ok_or_else(|| malformed("a key"))?;
                reader.read_exact(key)?;
                let length = u32::deserialize_reader(reader)?;
                if length > VALUE_BYTES_MAX {
                    return Err(malformed("a value"));
                }
                let mut value = Vec::new();
                let read = reader.take(u64::from(length)).read_to_end(&mut value)?;
                if u32::try_from(read) != Ok(length) {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(Self::Leaf(Leaf::new(key, value)))
            }
            BRANCH => {
                let bit = u16::deserialize_reader(reader)?;
                let is_below = above.is_none_or(|above| above < bit);
                if !is_below || usize::from(bit >> 3) >= KEY_BYTES_MAX {
                    return Err(malformed("a branch's bit"));
                }
                let left = Arc::new(Self::read(reader, Some(bit))?);
                let right = Arc::new(Self::read(reader, Some(bit))?);
                Ok(Self::Branch(Branch::new(bit, left, right)))
            }
            _ => Err(malformed("a node's tag")),
        }
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{what} is malformed"))
}
