//! Lists and texts with a bound that decoding enforces before it allocates.

use std::fmt;
use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use std::ops::Deref;

use borsh::{BorshDeserialize, BorshSerialize};

/// At most `MAX` values. Encoded as a `u32` count and the values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounded<T, const MAX: usize>(Vec<T>);

/// A list is longer than its type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {max} items, found {found}")]
pub struct TooMany {
    /// The bound.
    pub max: usize,
    /// Items in the list.
    pub found: usize,
}

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// The bound.
    pub const COUNT_MAX: usize = MAX;

    /// No values.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The values, at most `MAX` of them.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when there are more.
    pub fn new(values: Vec<T>) -> Result<Self, TooMany> {
        if values.len() > MAX {
            return Err(TooMany {
                max: MAX,
                found: values.len(),
            });
        }
        Ok(Self(values))
    }

    /// The values.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T, const MAX: usize> Deref for Bounded<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: BorshSerialize, const MAX: usize> BorshSerialize for Bounded<T, MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.0.serialize(writer)
    }
}

impl<T: BorshDeserialize, const MAX: usize> BorshDeserialize for Bounded<T, MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let count = u32::deserialize_reader(reader)?;
        let count = usize::try_from(count).map_err(|_| too_long(MAX))?;
        if count > MAX {
            return Err(too_long(MAX));
        }
        // The count is a claim: memory is reserved as values arrive, never ahead of the input.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(T::deserialize_reader(reader)?);
        }
        Ok(Self(values))
    }
}

fn too_long(max: usize) -> Error {
    Error::new(ErrorKind::InvalidData, format!("list longer than {max}"))
}

/// At most `MAX` bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The text, when it is at most `MAX` bytes.
    ///
    /// # Errors
    ///
    /// [`TooMany`] when it is longer.
    pub fn new(text: impl Into<String>) -> Result<Self, TooMany> {
        let text = text.into();
        if text.len() > MAX {
            return Err(TooMany {
                max: MAX,
                found: text.len(),
            });
        }
        Ok(Self(text))
    }

    /// The text, cut at the last whole character that fits.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        let end = text
            .char_indices()
            .map(|(at, c)| at.saturating_add(c.len_utf8()))
            .take_while(|end| *end <= MAX)
            .last()
            .unwrap_or(0);
        Self(text.get(..end).unwrap_or_default().to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> BorshSerialize for Text<MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.0.serialize(writer)
    }
}

impl<const MAX: usize> BorshDeserialize for Text<MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let bytes = Bounded::<u8, MAX>::deserialize_reader(reader)?;
        String::from_utf8(bytes.into_vec())
            .map(Self)
            .map_err(|_| Error::new(ErrorKind::InvalidData, "text is not UTF-8"))
    }
}
