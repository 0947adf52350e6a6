//! Ranges of bytes as people type them.

use std::ops::Range;
use std::str::FromStr;

use cairn_core::ByteCount;

/// From a byte up to but not including another, each with an optional unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// First byte.
    pub(crate) start: u64,
    /// The byte after the last; the end of the file when `None`.
    pub(crate) end: Option<u64>,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a range such as 1MiB..2MiB, 4096.. or ..64KiB, found {found:?}")]
pub(crate) struct ParseRangeError {
    /// The text.
    found: String,
}

impl ByteRange {
    /// Everything.
    pub(crate) const ALL: Self = Self {
        start: 0,
        end: None,
    };

    /// The bytes of a file of `bytes` that are in the range; `None` when it starts or ends past
    /// the file's end.
    pub(crate) fn within(self, bytes: u64) -> Option<Range<u64>> {
        let end = self.end.unwrap_or(bytes);
        (self.start <= end && end <= bytes).then_some(self.start..end)
    }
}

impl FromStr for ByteRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let error = || ParseRangeError {
            found: text.to_owned(),
        };
        let (start, end) = text.split_once("..").ok_or_else(error)?;
        let parse = |text: &str| ByteCount::from_str(text).map(ByteCount::get);
        let range = Self {
            start: if start.is_empty() {
                0
            } else {
                parse(start).map_err(|_| error())?
            },
            end: if end.is_empty() {
                None
            } else {
                Some(parse(end).map_err(|_| error())?)
            },
        };
        match range.end {
            Some(end) if end < range.start => Err(error()),
            _ => Ok(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse_with_units_and_open_ends() {
        let cases = [
            ("1KiB..2KiB", 1024, Some(2048)),
            ("4096..", 4096, None),
            ("..64KiB", 0, Some(65536)),
            ("..", 0, None),
            ("5..5", 5, Some(5)),
        ];
        for (text, start, end) in cases {
            assert_eq!(text.parse(), Ok(ByteRange { start, end }), "{text}");
        }
        for text in ["", "5", "2..1", "a..b", "1..2..3", "-1..2"] {
            assert!(text.parse::<ByteRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_is_within_the_file_or_not_at_all() {
        let range = |text: &str| text.parse::<ByteRange>().unwrap();
        assert_eq!(range("..").within(0), Some(0..0));
        assert_eq!(range("3..5").within(5), Some(3..5));
        assert_eq!(range("3..6").within(5), None);
        assert_eq!(range("6..").within(5), None);
    }
}
