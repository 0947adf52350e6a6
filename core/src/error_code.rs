//! One table of error codes on the wire, grouped by whose fault it is.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// Whose fault a failure is, from the point of view of the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// Our own software or configuration.
    Us,
    /// The other end broke the protocol or served wrong bytes.
    Peer,
    /// What was asked for is not so, or not allowed.
    Caller,
    /// Disk, network or load.
    World,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// The same, after a while.
    Later,
    /// Another source may succeed now.
    Elsewhere,
}

/// The table: variant, number, blame, retry, meaning.
macro_rules! error_codes {
    ($($name:ident = $number:literal, $blame:ident, $retry:ident, $text:literal;)*) => {
        /// An error code on the wire. 1xx: the caller; 2xx: the asked node's world; 3xx: protocol;
        /// unknown numbers are kept.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $(#[doc = $text] $name,)*
            /// A number this software does not know.
            Unknown(u16),
        }

        impl ErrorCode {
            /// Every known code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(number) => number,
                }
            }

            /// The code of a number.
            #[must_use]
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::Unknown(number),
                }
            }

            /// Whose fault it is, for the one who asked.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self {
                    $(Self::$name => Blame::$blame,)*
                    Self::Unknown(_) => Blame::Peer,
                }
            }

            /// What to do about it.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)*
                    Self::Unknown(_) => Retry::Elsewhere,
                }
            }

            /// What it means.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown(_) => "an error code that this software does not know",
                }
            }
        }
    };
}

error_codes! {
    NotAuthorised = 100, Caller, Never, "no valid capability for this";
    CapabilityExpired = 101, Caller, Never, "the capability has expired";
    UnknownGroup = 102, Caller, Later, "the group is not on the ledger as this node sees it";
    NotMySlot = 103, Caller, Elsewhere, "another node holds that slot";
    BadRecord = 104, Caller, Never, "the segment record or its signature is wrong";
    RootMismatch = 105, Caller, Never, "the bytes do not have the root that the record says";
    Conflict = 106, Caller, Never, "another shard is stored under that number";
    OutOfRange = 107, Caller, Never, "the range is outside the shard";
    NoSuchShard = 108, Caller, Elsewhere, "this node does not have that shard";
    TooLarge = 109, Caller, Never, "larger than this node or the group allows";
    Refused = 110, Caller, Never, "the ledger refuses the transaction";
    DiskFull = 200, World, Elsewhere, "this node has no room left";
    DiskFailed = 201, World, Elsewhere, "this node's disk failed";
    Busy = 202, World, Later, "this node is at its limit of work";
    ShuttingDown = 203, World, Elsewhere, "this node is shutting down";
    Damaged = 204, World, Elsewhere, "this node's copy of the shard is damaged";
    Lagging = 205, World, Later, "this node has not caught up with that revision";
    Malformed = 300, Us, Never, "the message is malformed or breaks the protocol";
    Unsupported = 301, Us, Never, "this node does not know that message or version";
    Internal = 302, Peer, Elsewhere, "this node failed in a way it should not";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.number())
    }
}

impl BorshSerialize for ErrorCode {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        self.number().serialize(writer)
    }
}

impl BorshDeserialize for ErrorCode {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        u16::deserialize_reader(reader).map(Self::from_number)
    }
}
