//! Pages: nodes of a volume's tree, as they are written.
//!
//! ```text
//! page   = version (u8) | level (u8, 0 for a leaf) | count of entries (u16 LE) | entries, rising by key
//! entry  = bytes shared with the key before (varint) | bytes that follow (varint) | those bytes | value
//! value  = length (varint) | bytes                     in a leaf
//!        = reference of the page below (38 bytes)      in a branch
//! ```
//!
//! A varint is LEB128 in its shortest form. The first key of a branch is that of its first page, or below
//! it. A page is one run of at most [`PAGE_BYTES_MAX`].

use std::cmp::Ordering;

use borsh::BorshDeserialize as _;

use crate::key::{KEY_BYTES_MAX, Key};
use crate::run::RunRef;

/// Most bytes of a page: large enough that a tree of a billion keys has four levels, small enough to be
/// written again for one change.
pub const PAGE_BYTES_MAX: usize = 32 << 10;
/// Longest value: four fit a page.
pub const VALUE_BYTES_MAX: usize = 8_000;
/// Most levels above the leaves.
pub const LEVEL_MAX: u8 = 16;
/// Bytes before the entries.
pub(crate) const HEADER_BYTES: usize = 4;
/// The version that a page begins with.
const VERSION: u8 = 1;
/// Bytes of a reference.
pub(crate) const REFERENCE_BYTES: usize = 6 + 16 + 4 + 4 + 4 + 2;

/// Why bytes are no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Of a version that is not known here.
    #[error("expected version {VERSION}, found {found}")]
    Version {
        /// The version.
        found: u8,
    },
    /// It ends too early, or goes on behind its end.
    #[error("its length does not fit what it has")]
    Length,
    /// It has no entries.
    #[error("it has no entries")]
    Empty,
    /// A level that no tree has.
    #[error("expected a level of at most {max}, found {found}")]
    Level {
        /// The highest.
        max: u8,
        /// The level.
        found: u8,
    },
    /// Its keys do not rise, or are too long.
    #[error("entry {entry} has a key that is out of order or too long")]
    Key {
        /// Which entry.
        entry: usize,
    },
    /// A value is too long, or a number is not in its shortest form.
    #[error("entry {entry} is malformed")]
    Entry {
        /// Which entry.
        entry: usize,
    },
}

/// What a page has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Keys and values.
    Leaf(Vec<(Key, Box<[u8]>)>),
    /// Keys and the pages that begin there.
    Branch(Vec<(Key, RunRef)>),
}

/// Bytes of an entry behind `before`, of which the value takes `value` bytes with its length.
pub(crate) fn entry_bytes(before: Option<&Key>, key: &Key, value: usize) -> usize {
    let shared = shared_bytes(before, key);
    let rest = key.as_bytes().len().saturating_sub(shared);
    varint_bytes(shared) + varint_bytes(rest) + rest + value
}

/// Bytes of a leaf's value with its length.
pub(crate) const fn value_bytes(value: &[u8]) -> usize {
    varint_bytes(value.len()) + value.len()
}

fn shared_bytes(before: Option<&Key>, key: &Key) -> usize {
    let Some(before) = before else {
        return 0;
    };
    let pairs = before.as_bytes().iter().zip(key.as_bytes());
    pairs.take_while(|(a, b)| a == b).count()
}

const fn varint_bytes(mut number: usize) -> usize {
    let mut bytes = 1;
    while number >= 0x80 {
        number >>= 7;
        bytes += 1;
    }
    bytes
}

/// Writes a page, entry by entry.
#[derive(Debug)]
pub(crate) struct PageWriter {
    out: Vec<u8>,
    before: Option<Key>,
}

impl PageWriter {
    pub(crate) fn new(level: u8, count: usize) -> Self {
        let mut out = Vec::with_capacity(PAGE_BYTES_MAX);
        out.push(VERSION);
        out.push(level);
        let count = u16::try_from(count).expect("an entry takes three bytes at least");
        out.extend_from_slice(&count.to_le_bytes());
        Self { out, before: None }
    }

    fn number(&mut self, mut number: usize) {
        while number >= 0x80 {
            let low = u8::try_from(number & 0x7f).expect("seven bits");
            self.out.push(low | 0x80);
            number >>= 7;
        }
        self.out.push(u8::try_from(number).expect("seven bits"));
    }

    fn key(&mut self, key: &Key) {
        let shared = shared_bytes(self.before.as_ref(), key);
        let (_, rest) = key.as_bytes().split_at(shared);
        self.number(shared);
        self.number(rest.len());
        self.out.extend_from_slice(rest);
        self.before = Some(key.clone());
    }

    pub(crate) fn value(&mut self, key: &Key, value: &[u8]) {
        self.key(key);
        self.number(value.len());
        self.out.extend_from_slice(value);
    }

    pub(crate) fn reference(&mut self, key: &Key, page: &RunRef) {
        self.key(key);
        let start = self.out.len();
        borsh::to_writer(&mut self.out, page).expect("memory takes it");
        assert_eq!(self.out.len() - start, REFERENCE_BYTES, "as long for all");
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads a page: its level, and what it has.
///
/// # Errors
///
/// [`PageError`].
pub fn decode(bytes: &[u8]) -> Result<(u8, Content), PageError> {
    let mut reader = PageReader { rest: bytes };
    let version = reader.byte()?;
    if version != VERSION {
        return Err(PageError::Version { found: version });
    }
    let level = reader.byte()?;
    if level > LEVEL_MAX {
        return Err(PageError::Level {
            max: LEVEL_MAX,
            found: level,
        });
    }
    let (count, rest) = reader
        .rest
        .split_first_chunk::<2>()
        .ok_or(PageError::Length)?;
    reader.rest = rest;
    let count = usize::from(u16::from_le_bytes(*count));
    if count == 0 {
        return Err(PageError::Empty);
    }
    if bytes.len() > PAGE_BYTES_MAX {
        return Err(PageError::Length);
    }
    let (mut values, mut pages) = (Vec::new(), Vec::new());
    let mut before = Vec::new();
    for entry in 0..count {
        let key = reader.key(&mut before, entry)?;
        if level == 0 {
            let length = reader.number(entry)?;
            if length > VALUE_BYTES_MAX {
                return Err(PageError::Entry { entry });
            }
            values.push((key, reader.take(length)?.into()));
        } else {
            let page = reader.take(REFERENCE_BYTES)?;
            let page = RunRef::try_from_slice(page).map_err(|_| PageError::Entry { entry })?;
            pages.push((key, page));
        }
    }
    if !reader.rest.is_empty() {
        return Err(PageError::Length);
    }
    let content = if level == 0 {
        Content::Leaf(values)
    } else {
        Content::Branch(pages)
    };
    Ok((level, content))
}

struct PageReader<'a> {
    rest: &'a [u8],
}

impl<'a> PageReader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PageError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(PageError::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PageError> {
        let (byte, rest) = self.rest.split_first().ok_or(PageError::Length)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A varint of at most three bytes: nothing in a page is longer than a page.
    fn number(&mut self, entry: usize) -> Result<usize, PageError> {
        let mut number = 0_usize;
        for place in 0..3_u32 {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let is_shortest = byte != 0 || place == 0;
                return is_shortest
                    .then_some(number)
                    .ok_or(PageError::Entry { entry });
            }
        }
        Err(PageError::Entry { entry })
    }

    /// A key; `before` is the one before it, and this one then.
    fn key(&mut self, before: &mut Vec<u8>, entry: usize) -> Result<Key, PageError> {
        let error = PageError::Key { entry };
        let shared = self.number(entry)?;
        let rest = self.number(entry)?;
        let rest = self.take(rest)?;
        let kept = before.get(..shared).ok_or(error)?;
        if shared + rest.len() > KEY_BYTES_MAX {
            return Err(error);
        }
        // It rises, and what is shared is all that is.
        let behind = before.get(shared).copied();
        let rises = match (rest.first(), behind) {
            (Some(next), Some(old)) => next.cmp(&old) == Ordering::Greater,
            (Some(_), None) => true,
            (None, _) => entry == 0 && before.is_empty(),
        };
        if !rises {
            return Err(error);
        }
        let key = [kept, rest].concat();
        *before = key;
        Ok(Key::from_bytes(before))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::SegmentId;
    use crate::run::SaltBytes;

    fn run(number: u32) -> RunRef {
        RunRef {
            segment: SegmentId { group: 1, number },
            salt: SaltBytes([3; 16]),
            offset: 5,
            bytes: 7,
            stored: 7,
            key: 0,
        }
    }

    fn leaf(entries: &[(Key, Box<[u8]>)]) -> Vec<u8> {
        let mut writer = PageWriter::new(0, entries.len());
        for (key, value) in entries {
            writer.value(key, value);
        }
        writer.finish()
    }

    fn keys() -> impl Strategy<Value = Vec<Key>> {
        let key = proptest::collection::vec(0_u8..4, 1..12);
        let keys = proptest::collection::btree_set(key, 1..40);
        keys.prop_map(|keys| keys.iter().map(|key| Key::from_bytes(key)).collect())
    }

    proptest! {
        #[test]
        fn pages_read_back_and_are_as_long_as_reckoned(keys in keys(), length in 0_usize..300) {
            let value = |at: usize| vec![1; (length + at) % 300].into_boxed_slice();
            let entries: Vec<_> = (0..).map(value).zip(&keys).map(|(v, k)| (k.clone(), v)).collect();
            let bytes = leaf(&entries);
            let mut reckoned = HEADER_BYTES;
            let mut before = None;
            for (key, value) in &entries {
                reckoned += entry_bytes(before, key, value_bytes(value));
                before = Some(key);
            }
            prop_assert_eq!(bytes.len(), reckoned);
            prop_assert_eq!(decode(&bytes), Ok((0, Content::Leaf(entries))));

            let pages: Vec<_> = (0..).map(run).zip(&keys).map(|(r, k)| (k.clone(), r)).collect();
            let mut writer = PageWriter::new(3, pages.len());
            for (key, page) in &pages {
                writer.reference(key, page);
            }
            let bytes = writer.finish();
            prop_assert_eq!(decode(&bytes), Ok((3, Content::Branch(pages))));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
            prop_assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        /// Whatever decodes is written the same again; nothing panics.
        #[test]
        fn damaged_pages_are_refused_or_another_page(keys in keys(), at: usize, mask in 1_u8..) {
            let entries: Vec<_> = keys.iter().map(|key| (key.clone(), vec![9; 3].into())).collect();
            let mut bytes = leaf(&entries);
            let at = at % bytes.len();
            bytes[at] ^= mask;
            if let Ok((0, Content::Leaf(found))) = decode(&bytes) {
                prop_assert_eq!(leaf(&found), bytes);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = decode(&bytes);
        }
    }
}
